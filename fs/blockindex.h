// SPDX-License-Identifier: Apache-2.0
/* Where each block is: a hash table from block id to (file, row), 32 bytes an entry.
 *
 * Keeps 128 bits of the id, which are enough to tell blocks apart (the ids are SHA-256). Kind 0
 * only. Not thread-safe.
 */
#ifndef STEADFS_BLOCKINDEX_H
#define STEADFS_BLOCKINDEX_H

#include "blockid.h"

struct block_at {
    uint8_t key[16];
    uint32_t file; /* number of the file; 0: free slot */
    uint32_t row, len;
    uint32_t unsynced; /* 0 or 1 */
};
struct block_index { /* zero-initialise */
    struct block_at *v;
    size_t cap, n; /* cap: power of two */
};

struct block_at *block_index_find(const struct block_index *x,
                                  const struct block_id *id); /* or NULL */
/* The id must not be there. Pointers from find are invalid afterwards. */
void block_index_add(struct block_index *x, const struct block_id *id, uint32_t file, uint32_t row,
                     uint32_t len, bool unsynced);
void block_index_remove(struct block_index *x, struct block_at *e);
/* Removes all entries of a file. */
void block_index_remove_file(struct block_index *x, uint32_t file);
void block_index_free(struct block_index *x);
#endif
