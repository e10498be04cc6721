// SPDX-License-Identifier: Apache-2.0
/* The parts of admin fsck. [internal to tools/metad] */
#ifndef STEADFS_METAD_FSCK_H
#define STEADFS_METAD_FSCK_H

#include "command.h"

enum fsck_phase {
    FSCK_ORDER,  /* block servers are to look */
    FSCK_CHECKS, /* … and are waited for */
    FSCK_NOTE,   /* --repair: what is lacking without being noted is noted */
    FSCK_BRING,  /* --repair: … and brought */
    FSCK_FILES,  /* which files that concerns */
    FSCK_SUMS,
    FSCK_PHASES
};

/* Where a question goes on, and what those before it found: all there is of an fsck. */
struct fsck {
    unsigned long long phase, order;
    unsigned long long since_ms, lacking, lacked; /* FSCK_BRING: fell to it then; at first */
    unsigned long long ns, node, off; /* the first namespace to look at; a piece of it */
    unsigned long long extents;
    unsigned long long files, bytes, last_file;              /* at no block server */
    unsigned long long short_files, short_bytes, last_short; /* not at all that should have them */
    unsigned long long wrong, unreadable, silent, noted;
};

/* The block servers that are meant: the namespace's, or all. */
int fsck_servers(struct cmd *c, struct server_row **v, size_t *n, bool *found);
/* The namespace to look at, from f->ns on; id 0: there is none. */
int fsck_next_ns(struct cmd *c, const struct fsck *f, struct ns_row *ns, bool *found);

/* FSCK_ORDER … FSCK_BRING, a step each; moves on to the next phase. */
int fsck_order(struct cmd *c, struct fsck *f);
int fsck_checks(struct cmd *c, struct fsck *f);
int fsck_bring(struct cmd *c, struct fsck *f);
/* The next pieces of the namespace: notes what is lacking, or prints which files lack what. */
int fsck_pieces(struct cmd *c, const struct ns_row *ns, struct fsck *f, bool note);

#endif
