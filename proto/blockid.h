// SPDX-License-Identifier: Apache-2.0
/* Block ids: kind byte and SHA-256 of the stored bytes. */
#ifndef STEADFS_BLOCKID_H
#define STEADFS_BLOCKID_H

#include "steadfs/types.h"

#define BLOCK_HEX_LEN 64 /* of the 32 bytes, as tools print them */

/* Id of kind 0 of these bytes. */
void block_id_of(struct block_id *id, const void *p, size_t n);
/* Whether the bytes are those that the id names; false for an unknown kind. */
bool block_id_matches(const struct block_id *id, const void *p, size_t n);
bool block_id_equal(const struct block_id *a, const struct block_id *b);
int block_id_compare(const struct block_id *a, const struct block_id *b);
/* 64 lower-case hex digits of the 32 bytes and a NUL. */
void block_id_hex(const struct block_id *id, char out[BLOCK_HEX_LEN + 1]);
/* 0, or -EINVAL. Kind 0. */
int block_id_parse(struct block_id *id, const char *hex);
#endif
