// SPDX-License-Identifier: Apache-2.0
/* Sorted lists of extents in memory: what a range of a file consists of.
 *
 * Invariant of a list: sorted by offset, no overlap, every len > 0, off + len <= FILE_SIZE_MAX,
 * block_off + len <= BLOCK_MAX. What no extent covers is a hole.
 */
#ifndef STEADFS_EXTENT_H
#define STEADFS_EXTENT_H

#include "messages.h"

/* Zero-initialise to make an empty one. Owns v. */
struct extent_list {
    struct m_extent *v;
    size_t n, cap;
};

void extent_list_free(struct extent_list *l);
#define cleanup_extents __attribute__((cleanup(extent_list_free)))
/* Adds behind all others; joins it with the last one when it continues the same block. */
void extent_list_append(struct extent_list *l, const struct m_extent *e);
/* [off, off+len) becomes what `with` says (extents inside that range; holes elsewhere); extents
 * across the edges are cut. `with` may be NULL: a hole. */
void extent_list_splice(struct extent_list *l, uint64_t off, uint64_t len,
                        const struct extent_list *with);
/* Appends to out the parts of l inside [off, off+len), cut at its edges, at their own offsets. */
void extent_list_slice(const struct extent_list *l, uint64_t off, uint64_t len,
                       struct extent_list *out);
/* Same bytes by construction: equal after joining. */
bool extent_list_equal(const struct extent_list *a, const struct extent_list *b);
/* Sum of len. */
uint64_t extent_list_stored(const struct extent_list *l);
/* 0, or -EINVAL where the invariant is broken or an extent leaves [off, off+len). For input from a
 * peer. */
int extent_check(const struct m_extent *v, size_t n, uint64_t off, uint64_t len);
#endif
