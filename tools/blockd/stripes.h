// SPDX-License-Identifier: Apache-2.0
/* Locks by block id, many ids at once: a batch waits until none of its ids' stripes is taken, then
 * takes all of them. So batches of different blocks go on side by side, and none waits while it
 * holds any. */
#ifndef STRIPES_H
#define STRIPES_H

#include "steadfs/types.h"

#define STRIPES 4096

struct stripes;
struct stripe_set {
    uint64_t bits[STRIPES / 64];
};

struct stripes *stripes_new(void);
void stripes_free(struct stripes *s);
void stripe_set_add(struct stripe_set *set, const struct block_id *id);
void stripes_take(struct stripes *s, const struct stripe_set *set);
void stripes_give(struct stripes *s, const struct stripe_set *set);
#endif
