// SPDX-License-Identifier: Apache-2.0
/* Reading a block for somebody else: its bytes are checked against its id, and damage that is found
 * is set aside and told, whoever reads. */
#ifndef CHECKED_H
#define CHECKED_H

#include "storage.h"

/* Who is told. Any thread; functions may be NULL. */
struct checked_told {
    void (*lost)(void *arg, const struct block_id *id, int err); /* set aside unless err */
    void (*doubt)(void *arg, const struct block_id *id);         /* it cannot be read now */
    /* By replication: it is recorded to be here for the namespace, and is not. */
    void (*missing)(void *arg, uint64_t ns, const struct block_id *id);
    void *arg;
};

/* Appends the block's bytes, which are those of its id. Nothing is appended on failure: -ENOENT, it
 * is not there for the namespace; -EUCLEAN, its bytes were wrong and are set aside, or lost; -EIO,
 * it cannot be read now. */
int checked_get(struct storage *s, const struct checked_told *told, uint64_t ns,
                const struct block_id *id, struct buf *out, uint64_t *logical_len);
#endif
