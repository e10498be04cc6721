// SPDX-License-Identifier: Apache-2.0
/* One record of the journal on its way into the tree: core_apply.c, and what it says of a file's
 * content, core_apply_content.c. [internal to the core] */
#ifndef STEADFS_CORE_APPLY_H
#define STEADFS_CORE_APPLY_H

#include "core_int.h"
#include "idset.h"

struct apply {
    struct core *c;
    uint64_t ns;
    const struct m_record *r;
    int64_t now;
    struct core_effects *fx;
    bool supersedes;    /* our own, forgotten by the tree */
    bool resync;        /* made by core_resync.c */
    bool untold;        /* it does not say all that is not known here of the content */
    struct idset made;  /* nodes that were new here, which the record tells to be there */
    struct ids loaded;  /* nodes that came with a name */
    struct ids lost;    /* nodes that lost a name: purged at the end unless they got another */
    struct ids lost_at; /* … which: index in the record's entries */
};

/* What the record says of the content of a node that came with it: all of a new file's. Only kept
 * where it may meet the same content. */
int keep_content(struct apply *w, const struct m_inode *m);

/* Whether the record says all of the file's content, as that of the commit that makes it does. Any
 * other says what it changed. */
bool content_told(const struct apply *w, const struct m_inode *m);
/* Takes the record's content for a node that is known: what is pending there is the same, or newer
 * than it (`supersedes`), or goes into a conflicted copy. Writes `n`. */
int apply_content(struct apply *w, struct nrow *n, const struct m_inode *m);

#endif
