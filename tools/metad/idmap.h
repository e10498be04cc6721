// SPDX-License-Identifier: Apache-2.0
/* A hash table from a non-zero 64-bit number to a pointer; grows as needed; nothing is ever
 * removed.
 *
 * Not thread-safe. The table owns nothing but itself. Aborts when memory is exhausted, as buf does.
 */
#ifndef STEADFS_IDMAP_H
#define STEADFS_IDMAP_H

#include "steadfs/types.h"

/* Zero-initialise to make an empty one. */
struct idmap {
    struct idmap_slot *slots; /* cap of them, a power of two */
    size_t cap, n;
};

void *idmap_get(const struct idmap *m, uint64_t key);       /* NULL: absent */
void idmap_put(struct idmap *m, uint64_t key, void *value); /* value not NULL; replaces */
/* Calls fn for each, in no order; fn must not change the table. */
void idmap_each(const struct idmap *m, void (*fn)(void *arg, uint64_t key, void *value), void *arg);
void idmap_free(struct idmap *m);
#endif
