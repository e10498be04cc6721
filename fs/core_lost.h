// SPDX-License-Identifier: Apache-2.0
/* What core_lost.c and core_parted.c share. */
#ifndef STEADFS_CORE_LOST_H
#define STEADFS_CORE_LOST_H

#include "core_int.h"

struct lost {
    struct core *c;
    uint64_t ns;
    const struct m_record *r; /* the server's rows */
    int64_t now;
    struct core_lost *sum;
    struct core_effects *fx;
};

/* How much of a file's content is known here. */
int lost_knowledge(struct core *c, const struct nrow *n, bool *whole, bool *some);
/* The server's node becomes the base; one that it lacks is made again. 0 where it is not here. */
int lost_inode(struct lost *w, const struct m_inode *m);
/* Its links: once more where names have changed since. */
int lost_links(struct lost *w, const struct m_inode *m);
/* Of a file that the server has as before: n is put by the caller, with its revision. */
int lost_content(struct lost *w, struct nrow *n, const struct m_inode *m);
int lost_xattr(struct lost *w, const struct m_xattr *x);
/* In the end: forgets what was removed here, and is not there either. */
int lost_nameless(struct lost *w, uint64_t node);
#endif
