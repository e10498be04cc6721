// SPDX-License-Identifier: Apache-2.0
/* One commit being checked and applied. [internal to tools/metad]
 *
 * commit.c       the order of things: membership, request number, parts, phases, the kept answer
 * commit_load.c  decodes nothing, trusts nothing: the rows' form, and the working set they need
 * commit_blocks.c  presence and receipts; also the question before a commit (diff)
 * commit_check.c bases, then the result
 * commit_apply.c writes it and the journal's record
 *
 * Each phase returns 0 or -errno (store broken) and adds rows to `rows` for what it refuses; the
 * next phase runs only while there are none. Until apply nothing has been written, and apply undoes
 * what it wrote when it refuses.
 */
#ifndef STEADFS_METAD_COMMIT_H
#define STEADFS_METAD_COMMIT_H

#include "meta_private.h"

#define ROWS_MAX 4096                   /* m_commit_ans.rows */
#define STAGE_PARTS_MAX 64              /* parts of a staged commit */
#define STAGE_BYTES_MAX (64u << 20)     /* staged by one device in one namespace at a time */
#define RECORD_BYTES_MAX (24u << 20)    /* a journal record must fit in an answer to list */
#define RECEIPT_SKEW_MS (2 * 60 * 1000) /* a receipt from further in the future is refused */

enum node_state {
    NODE_ABSENT, /* never existed */
    NODE_OPEN,
    NODE_CLOSED, /* existed once; an added name re-opens it */
};

/* A node that the commit mentions. */
struct wnode {
    uint64_t node;
    enum node_state state;
    uint64_t ended;        /* CLOSED: the SJID that closed it */
    struct m_inode before; /* OPEN: now; CLOSED: at its end */
    struct m_inode after;
    const struct m_node_change *change;
    uint64_t added, removed;                   /* names of it */
    uint64_t children_added, children_removed; /* names in it */
    uint64_t subdirs_added, subdirs_removed;
    uint64_t new_parent;                  /* of a directory that gets a name; 0: none */
    bool created, gone, revived, touched; /* touched: something of the inode row changes */
    bool copy;                            /* gets the name of a conflicted copy */
};
struct wentry {
    const struct m_entry_change *c;
    struct wnode *parent, *from, *to; /* from, to: NULL where none */
    bool effective;                   /* names another node afterwards */
};
struct wxattr {
    const struct m_xattr_change *c;
    struct wnode *node;
    bool had; /* present before */
};

/* A block that a commit or a question names. Sets of servers are bits over `servers`. */
struct need {
    struct block_id id;
    uint64_t claimed; /* length the client says, 0: none */
    uint64_t len;     /* known length, 0: unknown */
    uint64_t present; /* servers recorded to hold it */
    uint64_t unheard; /* … of which so many were not heard of since the start (restored.h) */
    uint64_t fresh;   /* servers whose receipt was presented just now */
    uint64_t *proof;  /* the receipts' generations, one a server; where fresh is not 0 */
    bool named, not_held;
    bool known; /* the namespace refers or referred to it */
    bool used;  /* in an extent of the commit */
};
struct blocks {
    struct need *v;
    size_t n, cap;
    uint32_t *slots; /* open addressing; index + 1 */
    size_t slots_n;
    uint64_t seed;
};

struct commit {
    struct meta *m;
    struct arena *ar;
    const struct m_commit_req *q; /* NULL: the server itself */
    uint64_t device, request, target_ns;
    int64_t now_ms;
    struct ns_row ns;
    struct m_changes changes;
    uint64_t sjid; /* it will get */
    uint64_t mark; /* … and the journal up to there */

    struct wnode *nodes;
    size_t nodes_n, nodes_cap;
    uint32_t *slots;
    size_t slots_n;
    struct wentry *entries; /* as changes.entries */
    struct wxattr *xattrs;  /* as changes.xattrs */

    struct server_row *servers; /* assigned, by priority */
    size_t servers_n;
    struct good_keys *keys; /* of each of them, loaded when first wanted; NULL: of none yet */
    uint64_t targets;       /* bits over servers */
    struct blocks blocks;
    struct m_missing *missing, *elsewhere;
    size_t missing_n, elsewhere_n;

    struct m_row_ref *rows;
    size_t rows_n;
    const char *reason;
    uint64_t highest_node; /* counter of a node created here */
    bool record_over;      /* the journal's record is over its bound: nothing of it may stay */
};

void commit_free(struct commit *c);
/* Refuses a row; the first reason text given stays. */
void commit_refuse(struct commit *c, enum row_kind kind, uint64_t node, struct bytes name,
                   enum refusal reason, const char *text);
/* Whether it is made as a conflicted copy. Its name says so, and anybody may give it one; so what
 * such names keep above the quota is bounded. */
static inline bool commit_is_copy(const struct wnode *w)
{
    return w->created && w->copy;
}
/* Whether `used` is more than a namespace may have; with conflicted copies that is twice the quota.
 */
static inline bool commit_over(uint64_t used, uint64_t quota, bool copies)
{
    return quota && used > quota && (!copies || used - quota > quota);
}
void commit_refuse_all(struct commit *c, enum refusal reason, const char *text);
/* Refuses the whole, in one row that names no node. */
void commit_too_large(struct commit *c);

int commit_load(struct commit *c);
/* Of a node id, for hash tables; a client cannot foresee it. */
uint64_t commit_hash(const struct commit *c, uint64_t node);
struct wnode *commit_find(const struct commit *c, uint64_t node);
int commit_check_blocks(struct commit *c);
int commit_check_bases(struct commit *c);
int commit_check_result(struct commit *c);
int commit_apply(struct commit *c);
/* Receipts of a staged part: what they prove is recorded at once. */
int commit_stage_receipts(struct commit *c);

void blocks_init(struct blocks *b, uint64_t seed);
void blocks_free(struct blocks *b);
struct need *blocks_add(struct blocks *b, const struct block_id *id);
struct need *blocks_find(const struct blocks *b, const struct block_id *id);
/* Fills len and present of all. */
int blocks_load(struct store *st, uint64_t ns, const struct server_row *servers, size_t servers_n,
                struct blocks *b);

#endif
