// SPDX-License-Identifier: Apache-2.0
/* What became of a pair of changes, in the words of fs/CONFLICTS.md. */
#ifndef CORE_PAIR_OUTCOME_H
#define CORE_PAIR_OUTCOME_H

#include "pair_ops.h"

struct outcome {
    struct dump base, x, y, last; /* at first; here's change alone; there's alone; at the end */
    struct dump xy;               /* there's change, and then here's, on one device */
    bool serial;                  /* … if that can be done */
};

/* both, theirs, ours, merged, copy, kept, placed, or ? */
const char *outcome_name(struct outcome *o);
/* A block that somebody wrote is there unless somebody who knew it did away with it. NULL, or what
 * is lost (in a static buffer). */
const char *outcome_lost(const struct outcome *o);
/* A device's tree is the server's, and its link counts are right. NULL, or what is wrong. */
const char *outcome_wrong(const struct dump *t, const struct dump *server);
#endif
