// SPDX-License-Identifier: Apache-2.0
/* What one commit takes along, before it is written down (core_closure.c). [internal to the core]
 */
#ifndef STEADFS_CORE_CLOSURE_H
#define STEADFS_CORE_CLOSURE_H

#include "core_int.h"
#include "idset.h"

#define FACETS_ALL (FACET_CREATE | FACET_ATTR | FACET_CONTENT | FACET_TIMES)

struct want {
    uint32_t facets;
    uint32_t pieces; /* ranges and extents that its content adds to the message, at most */
};

struct closure { /* zero-initialise; owns its memory */
    struct core *c;
    bool background; /* only what may_commit allows and is older than quiet */
    int64_t quiet;
    struct idset nodes, entries;
    struct idset named; /* nodes all of whose pending names are in entries */
    struct idset stuck; /* nodes that a name could not come along with: nor can another one */
    struct want *wants; /* of nodes */
    size_t wants_cap, entries_done, bytes, pieces;
    struct undo { /* what wants of nodes that were there already said before */
        size_t at;
        struct want was;
    } * undo;
    size_t undo_n, undo_cap;
    uint64_t emptied; /* the first removed directory in this component that had names; 0: none */
    bool whole;       /* emptied directories are not taken apart */
    bool partial;     /* not all of what was asked for fits */
    bool late;        /* what comes next in the background does not: this */
    uint64_t late_entry, late_node;
    uint64_t damaged; /* a file with an extent that makes no sense; 0: none */
};

void closure_free(struct closure *w);
/* fsync of one node. 0: what there is of it that fits; -EAGAIN: a commit under way holds part of
 * it; -errno of a refusal. */
int closure_of(struct closure *w, uint64_t node);
/* What is pending of a namespace, oldest first, for one background commit. */
int closure_gather(struct closure *w, uint64_t ns);
#endif
