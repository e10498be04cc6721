// SPDX-License-Identifier: Apache-2.0
/* Comparing all that is stored with what the metadata server has recorded of it: page by page, in a
 * pass now and then. metad/inventory.c has what follows from a difference. */
#ifndef INVENTORY_H
#define INVENTORY_H

#include "identity.h"
#include "rpc.h"
#include "storage.h"

#include <stdatomic.h>

struct inventory_sums {
    uint64_t blocks, announced, lost, unneeded;
};

/* One pass. before: the generation that the last one began with, the grace time ago or longer; 0:
 * there was none. *generation: that of this one. Ends early when stop becomes true: -ECANCELED.
 * Else 0 or -errno with a line in message (512 bytes). */
int inventory_pass(struct storage *s, struct rpc *rpc, const char *meta, uint64_t before,
                   uint64_t *generation, const atomic_bool *stop, struct inventory_sums *sums,
                   char *message);
#endif
