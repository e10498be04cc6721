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
    uint64_t blocks, announced, lost, unneeded, unknown;
};

struct inventory_options {
    struct storage *storage;
    struct rpc *rpc;
    const char *meta;
    uint64_t
        before; /* the generation that a pass began with, the grace time ago or longer; 0: none */
    bool look;  /* nothing is to be changed by it */
    const atomic_bool *stop;
    /* After each page; may be NULL. */
    void (*page_done)(void *arg, const struct inventory_sums *sums);
    void *arg;
};

/* One pass. *generation: what it began with. Ends early when stop becomes true: -ECANCELED. Else 0
 * or -errno with a line in message (512 bytes). */
int inventory_pass(const struct inventory_options *o, uint64_t *generation,
                   struct inventory_sums *sums, char *message);
#endif
