// SPDX-License-Identifier: Apache-2.0
/* What a device of a pair does, by the name it has in fs/CONFLICTS.md. */
#ifndef CORE_PAIR_OPS_H
#define CORE_PAIR_OPS_H

#include "pair.h"

/* First numbers of the blocks that a device writes. */
#define PAIR_TAGS_HERE 20
#define PAIR_TAGS_THERE 30
#define PAIR_TAGS_EACH 10

/* Where. All names are those of the base tree. */
struct place {
    const char *dir, *name;   /* the node, or the directory in which something new is made */
    const char *away, *other; /* another directory, and a node in it */
    const char *empty;        /* an empty directory in dir */
    const char *taken;        /* the one name that both want; NULL: each its own */
    const char *beside;       /* of the same kind as name, in dir */
    const char *odd;          /* of the other kind, in away */
};

/* 0, or the errno that the program gets. as: whose names and blocks it uses. */
int pair_do(struct pair *p, struct device *d, enum who as, const struct place *at, const char *op);
#endif
