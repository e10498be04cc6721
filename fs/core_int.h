// SPDX-License-Identifier: Apache-2.0
/* What the files of the core share: rows in memory, and the few primitives that change them.
 * Reading order: this, core.c (rows), core_local.c, core_content.c, core_load.c, core_closure.c,
 * core_plan.c, core_apply.c, core_apply_content.c, core_settle.c, core_rebase.c, core_unsend.c,
 * core_resync.c, core_rescue.c, core_lost.c, core_parted.c, core_device.c, core_status.c. */
#ifndef STEADFS_CORE_INT_H
#define STEADFS_CORE_INT_H

#include <errno.h>
#include <stdlib.h>

#include "core.h"
#include "tree.h"

enum span_kind { SPAN_DIRTY = 0, SPAN_SENT = 1, SPAN_KNOWN = 2 };

#define REQUEST_RANGE 4096       /* request numbers reserved at a time */
#define NODE_RANGE 65536         /* node counters reserved at a time */
#define NODE_EPOCH (1ull << 32)  /* node counters left out when the server was put back … */
#define NODE_UNSURE (1ull << 26) /* … and at a start at which it cannot know yet */
#define MARKS_DENSE 4096         /* newest SJIDs of which every mark is kept … */
#define MARKS_STEP 64            /* … then of each so many'th … */
#define MARKS_REACH (MARKS_STEP * (uint64_t)MARKS_DENSE) /* … for so long */
#define SINCE_UNKNOWN 1 /* of a name that is pending again, and was from before anything else */
#define CONFLICT_TRIES_MAX 8 /* commits of a node refused for a base before it is parked */

struct core {
    bool clean; /* the last owner closed the tree properly */
    struct tree *t;
    struct core_hooks hooks;
    char device_name[65];
    uint32_t device;
    unsigned depth;
    uint64_t request_next, request_limit; /* limit: reserved durably, exclusive */
    uint64_t node_next, node_limit;
    bool node_limit_due; /* moved inside a transaction: not durable yet */
    bool met;            /* there was a session */
    struct core_bounds bounds;
    struct rows *rows; /* kept (core_node.c); NULL while it begins */
    struct scan {      /* where looking for background work goes on (core_closure.c) */
        uint64_t ns, entries, nodes;
        uint64_t late_entry, late_node; /* did not fit any more: comes first */
    } * scan;                           /* one for each namespace that was looked at */
    size_t scan_n;
    struct kept *kept; /* rows that were read (core.c) */
};

enum gone { GONE = 1, GONE_UNSEEN = 2 /* and may have changed its content before, untold */ };

struct nrow {
    uint64_t id, ns, rdev, size, stored, target_ns, content_rev, attr_rev, src, src_at, request;
    int64_t mtime, ctime, atime, since, changed;
    uint32_t type, mode, uid, gid, nlink, links, pend, sent, old, tries;
    int parked;   /* -errno: refused; errno: let go since, not committed yet */
    uint8_t gone; /* GONE or GONE_UNSEEN: the server has removed it */
    bool complete, xattrs_known, again;
};

/* What was read of a namespace is not read again as long as nothing in the tree changes: a driver
 * asks for them at every turn. By number, the newest of each slot. Nodes: core_node.c. */
#define KEPT_NS 8 /* a power of two */
struct kept {
    struct {
        uint64_t version; /* tree_version; 0: nothing */
        struct core_ns row;
    } ns[KEPT_NS];
};

struct erow {
    uint64_t id, ns, parent, node, base_node, base_rev, request, sent_node, sent_base;
    int64_t since;
    uint32_t type, base_type;
    bool pend, old;
    uint8_t name[NAME_LEN_MAX];
    size_t name_len;
};

struct span {
    uint64_t off, end;
};
struct spans { /* zero-initialise; owns v */
    struct span *v;
    size_t n, cap;
};
struct ids { /* a growing array of numbers; zero-initialise; owns v */
    uint64_t *v;
    size_t n, cap;
};
static inline void ids_free(struct ids *l)
{
    free(l->v);
}
static inline void spans_free(struct spans *l)
{
    free(l->v);
}
#define cleanup_ids __attribute__((cleanup(ids_free)))
#define cleanup_spans __attribute__((cleanup(spans_free)))
void ids_add(struct ids *l, uint64_t id);
void spans_add(struct spans *l, uint64_t off, uint64_t end);

/* The ctime of a change made now: the server keeps the latest it was told, so one that a clock set
 * back would make older stays as it is. */
static inline int64_t ctime_of(const struct nrow *n, int64_t now)
{
    return now > n->ctime ? now : n->ctime;
}

/* -errno of the refusal that keeps the node from being sent, as fsync tells it; 0. Programs take
 * EINVAL of fsync for a file that cannot be synced, and go on: EIO. */
static inline int parked_for(const struct nrow *n)
{
    return n->parked >= 0 ? 0 : n->parked == -EINVAL ? -EIO : n->parked;
}

static inline struct bytes erow_name(const struct erow *e)
{
    return bytes_of(e->name, e->name_len);
}

/* Fills what o leaves open (core_closure.c). */
void bounds_set(struct core *c, const struct core_bounds *o);
/* Leaves a public function: the transaction is kept iff r is 0 or CORE_NEED. */
int core_leave(struct core *c, int r);

/* ---- nodes (core_node.c). Getters: 0, -ENOENT, or -errno of the database. --------------------
 */
int rows_new(struct core *c); /* 0, -ENOMEM */
void rows_free(struct core *c);
int node_get(struct core *c, uint64_t id, struct nrow *n);
int node_put(struct core *c, const struct nrow *n);
int node_delete(struct core *c, uint64_t id); /* with its extents, spans, xattrs */
/* nlink by delta, 0 at least; who has no name left is not parked. One that is not here: 0. */
int nlink_add(struct core *c, uint64_t node, int delta);
/* What the row of a namespace says of who may change it. */
struct ns_rights {
    uint64_t id, root;
    enum role role;
    bool member;
};
int ns_rights(struct core *c, uint64_t id, struct ns_rights *out);

/* ---- entries (core.c) ------------------------------------------------------------------------ */
int node_new_id(struct core *c, uint64_t *id);
int entry_get(struct core *c, uint64_t parent, struct bytes name, struct erow *e);
int entry_by_id(struct core *c, uint64_t id, struct erow *e);
int entry_put(struct core *c, struct erow *e); /* id 0: inserts and sets it */
int entry_delete(struct core *c, uint64_t id);
/* Entry ids by column: which of "node", "pending of node", "base", "sent", "pending in parent",
 * "all in parent". A file can have tens of thousands of names: who needs one, or knows that only
 * pending ones matter, does not ask for all. */
enum entry_by {
    BY_NODE,
    BY_PENDING_NODE,
    BY_BASE,
    BY_SENT,
    BY_PENDING_PARENT,
    BY_PARENT,
    BY_REQUEST
};
int entry_ids(struct core *c, enum entry_by by, uint64_t key, struct ids *out);
/* The first of them: 0, -ENOENT: there is none. */
int entry_first(struct core *c, enum entry_by by, uint64_t key, uint64_t *id);
bool is_dir(uint32_t type);
/* The newest request whose answer may be of a journal that is lost. */
#define KEY_DOUBTED "doubted"
/* A number of the tree's `meta`. */
uint64_t meta_or(struct core *c, const char *key, uint64_t otherwise);

/* ---- namespaces (core_ns.c) -------------------------------------------------------------------
 */
int ns_get(struct core *c, uint64_t id, struct core_ns *out);
/* mark: of the journal up to there; 0: not known. back: to where both journals part. */
int ns_set_cursor(struct core *c, uint64_t id, uint64_t cursor, uint64_t mark);
int ns_set_back(struct core *c, uint64_t id, uint64_t cursor);
/* Commits of our own are settled up to there, behind the cursor, until a comparison is applied. */
int ns_set_ahead(struct core *c, uint64_t id, uint64_t sjid, uint64_t mark);
/* Whether any are. */
int ns_ahead(struct core *c, uint64_t id, bool *yes);
/* It is the journal that is followed, and nothing is waited for, or was heard of, behind there. */
int ns_set_end(struct core *c, uint64_t id, uint64_t head);
/* Of the journal up to sjid; 0: not known. */
int ns_mark(struct core *c, uint64_t id, uint64_t sjid, uint64_t *mark);
int ns_set_head(struct core *c, uint64_t id, uint64_t head); /* never lowers it */
int ns_set_hold(struct core *c, uint64_t id, uint64_t hold);
int ns_hold(struct core *c, uint64_t id, uint64_t *hold);
/* A commit is planned: the journal is read, sending begins again. */
int ns_set_planned(struct core *c, uint64_t id, uint64_t request);
/* Of all: the tree may have forgotten what was planned and sent last. */
int ns_set_unclean(struct core *c);
/* Whether a commit of our own that is not in `sent` is one that the tree has forgotten, not one
 * that was given up. */
int ns_forgotten(struct core *c, uint64_t id, uint64_t request, bool *yes);
/* The node can be changed: a member with the editor's role. 0, -EROFS, -EACCES */
int ns_writable(struct core *c, uint64_t ns);

/* ---- another number (core_device.c) -----------------------------------------------------------
 */
/* The state was another device's until now: all that is not committed is as if it had been made by
 * this one. *clean becomes false then. */
int device_adopt(struct core *c, bool *clean);

/* ---- names (core_local.c) -------------------------------------------------------------------- */
/* 0 and *e; -ENOENT: known to be absent; CORE_NEED. */
int entry_find(struct core *c, const struct nrow *dir, struct bytes name, struct erow *e,
               struct core_need *need);
/* Whether the name lies in the known part of a directory. */
int name_known(struct core *c, const struct nrow *dir, struct bytes name, bool *known);
/* The entry's local value becomes node (0: nothing); nlinks, pend and since follow. */
int entry_assign(struct core *c, struct erow *e, uint64_t node, uint32_t type, int64_t now);
/* Recomputes pend; deletes the row if it says nothing that a complete directory does not say. */
int entry_settle(struct core *c, struct erow *e);
int node_touch(struct core *c, struct nrow *n, uint32_t facets,
               int64_t now);                 /* marks pending; puts */
int node_purge(struct core *c, uint64_t id); /* if nothing refers to it */
/* How many names it has, counted up to `most`: a file can have tens of thousands. */
int node_names(struct core *c, uint64_t id, size_t most, size_t *n);
/* Whether all names of a directory are known: 0, or CORE_NEED and the next page. */
int dir_whole(struct core *c, const struct nrow *dir, struct core_need *need);
int node_parent(struct core *c, const struct nrow *n,
                uint64_t *parent); /* first name's directory */
void attr_of(const struct nrow *n, struct core_attr *a);

/* ---- content (core_content.c) --------------------------------------------------------- */
int span_list(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end,
              struct spans *out); /* cut to [off, end) */
int span_mark(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end);
int span_clear(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end);
int extents_get(struct core *c, uint64_t node, uint64_t off, uint64_t end, struct extent_list *out);
/* Rows only: [off, end) becomes with. */
int extents_put(struct core *c, uint64_t node, uint64_t off, uint64_t end,
                const struct extent_list *with);
/* Tells open files that these ranges are about to be replaced. */
void content_announce(struct core *c, uint64_t node, const struct spans *l);
/* Sets n->stored to the sum of the extents if all of the file is known; otherwise it stays a guess.
 */
int stored_count(struct core *c, struct nrow *n);
/* Adds the parts of [off, end) not in kind k to out. */
int span_gaps(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end,
              struct spans *out);

/* ---- loading (core_load.c) ------------------------------------------------------------------- */
int node_load(struct core *c, uint64_t ns, const struct m_inode *m); /* unless it is here already */

/* ---- settling (core_settle.c) ---------------------------------------------------------------- */
/* What request carried is the server's state at sjid now. 0, -ENOENT: the tree does not know it. */
int settle_request(struct core *c, uint64_t request, uint64_t sjid, struct core_effects *fx);
/* The journal has `request` of this device (0: another's) at sjid. A commit of ours that was
 * answered with this number was in a journal that the server has lost since: it is pending again.
 */
int settle_elsewhere(struct core *c, uint64_t ns, uint64_t sjid, uint64_t request,
                     struct core_effects *fx);
/* Parks all that is pending of a namespace. */
int park_namespace(struct core *c, uint64_t ns, int err_no, struct core_effects *fx);
/* Whether it is sent and not known to be committed. */
bool request_open(struct core *c, uint64_t request);
/* Whether the server has removed the node, by the record sjid. */
void node_gone_at(struct nrow *n, bool gone, uint64_t sjid);
void effect_done(struct core_effects *fx, uint64_t ns, uint64_t request, enum commit_status status,
                 uint64_t sjid);
/* What was sent under a number: 0, -ENOENT. The bytes live in the arena. Where they are damaged the
 * request is forgotten, as power loss would have it: -ENOENT. */
int sent_changes(struct core *c, uint64_t request, struct m_changes *m, struct arena *a,
                 struct core_effects *fx);

/* ---- journal (core_apply.c) ------------------------------------------------------------------ */
/* A checked record. resync: it was made from what is known here and what the server has (see
 * core_resync.c): contents are not told, only that they changed. */
int apply_record(struct core *c, uint64_t ns, const struct m_record *r, int64_t now, bool resync,
                 struct core_effects *fx);

/* ---- what a server may say (core_valid.c) ------------------------------------------------------
 */
bool ns_valid(const struct m_namespace *n);
bool inode_valid(const struct m_inode *n);
bool entry_valid(const struct m_entry *e);
bool xattr_valid(const struct m_xattr *x); /* its name; that of a node's own list has no node */
bool record_valid(const struct m_record *r);

/* ---- what nothing is left of at the server (core_rescue.c) ------------------------------------
 */
struct idset;
/* The nodes have no base any more: what was written in them, or made in them, goes on elsewhere. */
int rescue_nodes(struct core *c, uint64_t ns, const struct idset *gone, int64_t now,
                 struct core_effects *fx);
/* The same of nodes that a commit would have revived; then they are purged. */
int rescue_refused(struct core *c, uint64_t ns, const struct idset *gone, struct core_effects *fx);

/* ---- what a restored server has lost (core_lost.c) ---------------------------------------------
 */
/* r: the server's rows as of `at`, where both journals part, wherever they are others than the base
 * here. They become the base; what is here stays, and is pending where it differs. */
int lost_take(struct core *c, uint64_t ns, const struct m_record *r, int64_t now,
              struct core_lost *sum, struct core_effects *fx);
/* What is missing is told for a while, also after a restart (core_lost_told). */
int lost_tell(struct core *c, uint64_t ns, const struct core_lost *l, int64_t now);
/* As lost_take, where r is the server's newest state, and both journals part somewhere behind
 * `common` (core_parted.c). equal: files of which all that is known here is what the server has. */
int parted_take(struct core *c, uint64_t ns, const struct m_record *r, uint64_t common,
                const struct idset *equal, int64_t now, struct core_lost *sum,
                struct core_effects *fx);

/* ---- effects -------------------------------------------------------------------------- */
struct core_effect *effect_add(struct core_effects *fx, enum effect_kind k, uint64_t ns,
                               uint64_t node);
void effect_entry(struct core_effects *fx, uint64_t ns, uint64_t parent, struct bytes name,
                  uint64_t child);

/* ---- rebase (core_rebase.c, core_unsend.c)
 * ------------------------------------------------------------------ */
/* The local content of n (pending) moves to a new node, named as a conflicted copy beside it. */
int rebase_fork(struct core *c, struct nrow *n, int64_t now, uint64_t *copy,
                struct core_effects *fx);
/* Gives node a conflicted copy's name beside `name` in parent; pending. */
int rebase_aside(struct core *c, uint64_t ns, uint64_t parent, struct bytes name, uint64_t node,
                 uint32_t type, int64_t now, struct core_effects *fx);
/* A free name for a conflicted copy of name in parent. */
int rebase_name(struct core *c, uint64_t parent, struct bytes name, int64_t now, uint8_t *out,
                size_t *len);
/* An entry whose base changed under a pending local value. */
int rebase_entry(struct core *c, struct erow *e, int64_t now, struct core_effects *fx);
/* A directory has one name: pending ones are given up for the one that the server knows. */
int rebase_one_name(struct core *c, uint64_t dir, int64_t now, struct core_effects *fx);
/* A directory or file that was removed here is needed after all: back at its old name (a file at
 * all of them), and those above. */
int rebase_restore(struct core *c, uint64_t node, struct core_effects *fx);
/* Whether the directory holds pending names, at any depth. */
int rebase_has_pending(struct core *c, uint64_t dir, bool *yes);
/* Puts a directory that was moved here back to where the server has it; 0 if it was not. */
int rebase_undo_move(struct core *c, uint64_t dir, struct core_effects *fx);
/* Undoes pending moves of directories that now close a cycle through dir. */
int rebase_cycles(struct core *c, uint64_t dir, struct core_effects *fx);
/* Everything that request carried is pending again, and meets what the server changed meanwhile. */
int rebase_unsend(struct core *c, uint64_t request, struct core_effects *fx);
/* What a damaged tree says is under way without having kept what was sent is pending again: nothing
 * else would ever end its wait. */
int rebase_unsend_lost(struct core *c);
/* The same of one request, of which it is not known what it said; if it was committed after all,
 * the journal tells, and what was pending then is older. */
int rebase_forget(struct core *c, uint64_t request, struct core_effects *fx);
/* Of a directory ?1. */
#define DIR_LINKS_PENDING                                                                          \
    "SELECT coalesce(sum((node != 0 AND type IN (2, 8)) - (base_node != 0"                         \
    " AND base_type IN (2, 8))), 0) FROM entry WHERE parent = ?1 AND (pend != 0 OR request != 0)"
/* Pending names of a node's difference from the server's link count. */
int nlink_pending(struct core *c, const struct nrow *n, int *delta);
#endif
