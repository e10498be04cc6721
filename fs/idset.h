// SPDX-License-Identifier: Apache-2.0
/* A set of numbers, in the order in which they came. [internal to the core] */
#ifndef STEADFS_IDSET_H
#define STEADFS_IDSET_H

#include "core_int.h"

struct idset { /* zero-initialise; owns its memory */
    struct ids ids;
    uint32_t *slot; /* index + 1, 0: free */
    size_t slots;
};

/* Its index; *added says whether it is new. */
size_t idset_add(struct idset *s, uint64_t id, bool *added);
bool idset_has(const struct idset *s, uint64_t id);
/* Leaves the first n. */
void idset_cut(struct idset *s, size_t n);
void idset_free(struct idset *s);
#endif
