// SPDX-License-Identifier: Apache-2.0
/* What every storage must do, as tests against storage.h. A test program for one kind of storage
 * fills in the fixture and calls conformance_run. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "storage.h"

struct storage_fixture {
    const char *name;
    /* A new empty place; every test gets its own. Freed by discard. */
    void *(*make)(void);
    struct storage *(*open)(void *place);
    /* Changes a stored byte of the block behind the storage's back. */
    void (*damage)(void *place, const struct block_id *id);
    /* Loses the whole content. */
    void (*lose)(void *place);
    void (*discard)(void *place);
};

/* The number of failed tests. */
int conformance_run(const struct storage_fixture *f);

/* For tests of storages: n bytes made from a seed, and their id. The caller frees. */
uint8_t *block_make(size_t n, unsigned seed, struct block_id *id);
/* Puts one block; its outcome. */
int put_one(struct storage *s, uint64_t ns, const struct block_id *id, const uint8_t *p, size_t n);
/* Asserts that the block is there for ns with these bytes. */
void expect_block(struct storage *s, uint64_t ns, const struct block_id *id, const uint8_t *p,
                  size_t n);
/* Asserts that get and have agree that it is not there. */
void expect_absent(struct storage *s, uint64_t ns, const struct block_id *id);
#endif
