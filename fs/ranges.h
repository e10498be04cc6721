// SPDX-License-Identifier: Apache-2.0
/* Sets of byte ranges: sorted, disjoint, not touching. */
#ifndef STEADFS_RANGES_H
#define STEADFS_RANGES_H

#include "steadfs/types.h"

struct range {
    uint64_t off, end; /* off < end */
};
struct ranges { /* zero-initialise; owns v */
    struct range *v;
    size_t n, cap;
};

void ranges_add(struct ranges *r, uint64_t off, uint64_t end);
void ranges_remove(struct ranges *r, uint64_t off, uint64_t end);
bool ranges_cover(const struct ranges *r, uint64_t off, uint64_t end);
void ranges_free(struct ranges *r); /* leaves an empty one */
#define cleanup_ranges __attribute__((cleanup(ranges_free)))
#endif
