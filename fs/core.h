// SPDX-License-Identifier: Apache-2.0
/* The sync core: what the local tree becomes, what is sent, applied, rebased and invalidated.
 *
 * Pure: no threads, clocks, sockets, files or randomness of its own. It reads and changes the tree
 * (tree.h, SQLite) and is told the time. One owner calls it under one lock; every public function
 * is one transaction of the tree (or joins the one that core_begin opened), durable against a crash
 * of the process when it returns.
 *
 * Functions return 0, a negative errno that a program may see, or CORE_NEED: the tree does not know
 * enough yet, and *need (where the function takes one) says what to load. The caller then asks the
 * metadata server with the message from core_need_request, hands the answer to core_need_answer,
 * and calls again. What is known locally is always exactly the namespace as of its cursor, plus
 * what is pending; therefore every load is asked for as of the cursor and refused when the cursor
 * has moved.
 */
#ifndef STEADFS_CORE_H
#define STEADFS_CORE_H

#include "extent.h"
#include "messages.h"
#include "ranges.h"

struct core;
struct tree;

#define CORE_NEED 1

enum core_need_kind {
    NEED_NONE,
    NEED_NAME,    /* one name of a directory */
    NEED_PAGE,    /* the next page of a directory */
    NEED_NODE,    /* a node's attributes and xattrs */
    NEED_EXTENTS, /* a page of a file's extents from off on */
};
struct core_need {
    enum core_need_kind kind;
    uint64_t ns, node; /* NAME, PAGE: the directory */
    uint64_t off;      /* EXTENTS */
    uint64_t rows;     /* PAGE: at most, 0: as the server likes */
    uint64_t at;       /* SJID it is asked as of; set by core_need_request */
    uint64_t
        src; /* EXTENTS: node id asked for (differs for a copy made from another node's past) */
    uint8_t name[NAME_LEN_MAX]; /* NAME; PAGE: names behind this one */
    size_t name_len;
};

/* A node as programs see it. */
struct core_attr {
    uint64_t node, ns;
    enum node_type type; /* never NODE_MOUNT: the root of what is mounted there stands for it */
    uint32_t mode, uid, gid, nlink;
    uint64_t rdev, size, stored; /* stored: sum of extents' lengths as known */
    int64_t mtime, ctime, atime; /* ns; atime is local only */
    uint64_t target_len;
    bool pristine; /* a namespace's root of which nobody has changed owner or mode yet */
    bool mounted;  /* reached through a mount node: it can be neither renamed nor removed */
};

/* What a change means to the kernel and to open handles. In order. */
enum effect_kind {
    EFFECT_ENTRY = 1, /* entry (node=parent, name) now names another node or nothing */
    EFFECT_ATTR,      /* attributes of node changed */
    EFFECT_DATA,      /* content of node changed in [off, off+len); attributes too */
    EFFECT_XATTR,     /* xattrs of node changed */
    EFFECT_FORK,      /* the local content of node moved to the new node `other`: handles that wrote
                         follow */
    EFFECT_ALIAS,     /* node is `other` now: a directory was merged into it, or a file is the same;
                         all handles follow */
    EFFECT_MOVED,     /* what was made in directory node, which is forgotten, is in `other` now */
    EFFECT_GONE,      /* node has no name any more, by a remote change */
    EFFECT_DONE,      /* request `other` of namespace ns ended: status, sjid */
    EFFECT_PARKED,    /* node is parked: err says why */
    EFFECT_SESSION,   /* assignments or mounts changed: ask for a session again */
};
struct core_effect {
    enum effect_kind kind;
    uint64_t ns, node, other, off, len, sjid;
    int err;
    enum commit_status status;
    uint8_t name[NAME_LEN_MAX];
    size_t name_len;
};
struct core_effects { /* zero-initialise; owns v */
    struct core_effect *v;
    size_t n, cap;
};
void core_effects_free(struct core_effects *e);

struct core_hooks {
    void *ctx;
    /* Before a remote change replaces extents in [off, off+len) of node, or its size: handles that
     * are open keep seeing the old state (they copy what they need with core_extents). */
    void (*content_changes)(void *ctx, uint64_t node, uint64_t off, uint64_t len);
    /* Whether the node's content may be committed in the background now (no unfinished stretch). */
    bool (*may_commit)(void *ctx, uint64_t node);
    /* Whether a kernel handle or an open file still uses the node: an unlinked one is kept then. */
    bool (*in_use)(void *ctx, uint64_t node);
    /* Whether all that programs wrote into the file is in the tree. May be NULL: yes. */
    bool (*in_tree)(void *ctx, uint64_t node);
    /* Whether this name was made just now by somebody who waits to hear whether another device was
     * first: then it is taken back, and no copy is made. May be NULL. */
    bool (*claimed)(void *ctx, uint64_t parent, struct bytes name);
};

struct core_options {
    uint32_t device;         /* number, from the session */
    const char *device_name; /* in names of conflicted copies; copied */
    struct core_hooks hooks;
    bool clean_start; /* the last owner closed properly; otherwise nothing is sent before the
                         journal was read up to the head known at the session */
    struct core_bounds {
        uint32_t rows, names, extents; /* of one commit; 0: the usual ones (core_closure.c) */
        uint32_t depth;                /* of directories; 0: DEPTH_MAX */
    } bounds;                          /* tests set them low */
};

/* Takes the tree over. 0 or -errno. */
int core_new(struct core **out, struct tree *t, const struct core_options *o);
/* Whether power was lost (this is another boot, and the last owner did not close the tree) since
 * content that is pending now was written: it may refer to blocks that never reached the disk. That
 * is kept until none is pending at a start. Outside transactions; 0 or -errno. */
int core_power_lost(struct core *c, bool other_boot, bool *lost);
/* Marks a clean end and closes the tree. */
void core_free(struct core *c);
/* Joins several calls in one transaction; nests. core_end(c, false) rolls all of them back. */
int core_begin(struct core *c);
int core_end(struct core *c, bool keep);

/* ---- session ------------------------------------------------------------------------------ */
/* Remembers namespaces, roots, roles and candidates. A namespace no longer listed is parked. What
 * was refused for a role, a membership, an assignment or a quota is let go when the session says
 * that it may be written again. */
int core_session(struct core *c, const struct m_session_ans *s, struct core_effects *fx);
/* Whether what the session lists under this id is another namespace than the one that is known
 * here: ids are given again by a server that was put back to an older copy. A namespace keeps its
 * name and its root. What is known stays as it is, as if the session did not list it. */
bool core_ns_other(struct core *c, const struct m_namespace *m);
/* Root node and namespace of the mount's top directory; -ENOENT before the first session. */
int core_root(struct core *c, uint64_t *ns, uint64_t *node);

struct core_ns {
    uint64_t id, root, cursor; /* cursor: SJID up to which the journal is applied */
    uint64_t head;             /* newest SJID heard of */
    enum role role;
    uint64_t fixed_cuts, copies_min;
    char name[256];
    bool member;   /* listed in the last session */
    bool other;    /* core_journal_other, and not compared yet */
    uint64_t mark; /* of the journal up to cursor; 0: not known */
    /* filled by core_ns_status; held: of pending_nodes, those that wait for what is parked */
    uint64_t pending_nodes, pending_bytes, conflicts, parked, held;
    int64_t since; /* ns: oldest change not committed; 0: none, or not known */
};
/* The k-th known namespace (any order); -ENOENT behind the last. */
int core_ns_at(struct core *c, size_t k, struct core_ns *out);
int core_ns_get(struct core *c, uint64_t ns, struct core_ns *out);
/* With what is pending, at a cost that follows what is pending: pending_nodes, parked
 * and held. */
int core_ns_pending(struct core *c, uint64_t ns, struct core_ns *out);
/* Whether more is pending than what is parked, and waits for that; at a cost that follows those. */
int core_ns_rests(struct core *c, uint64_t ns, bool *rests);
/* With all counts. */
int core_ns_status(struct core *c, uint64_t ns, struct core_ns *out);

/* ---- loading ------------------------------------------------------------------------------- */
/* Fills need->at and encodes the request; *method is "lookup", "readdir", "node" or "extents". */
int core_need_request(struct core *c, struct core_need *need, const char **method,
                      struct buf *body);
/* Takes the answer's body in. 0; -EAGAIN: the cursor has moved, ask again; -EBADMSG; -ESTALE. A
 * name that was taken here before it was known there may now turn out to be a conflict: hence
 * effects. */
int core_need_answer(struct core *c, const struct core_need *need, struct bytes body, int64_t now,
                     struct core_effects *fx);

/* A directory of the namespace of which names are missing here, the first with an id of `from` or
 * more: CORE_NEED, and its next page; 0: there is none. */
int core_unknown_dir(struct core *c, uint64_t ns, uint64_t from, struct core_need *need);

/* The server keeps no history that reaches back to need->at: what is read from the past of a node
 * is read from what it is now; the journal's beginning is not behind the cursor, or a comparison
 * comes. */
int core_past_forgotten(struct core *c, const struct core_need *need);

/* ---- what programs do ---------------------------------------------------------------------- */
struct core_who {
    uint32_t uid, gid; /* owner of what is created */
    int64_t now;       /* ns */
};
int core_getattr(struct core *c, uint64_t node, struct core_attr *out, struct core_need *need);
int core_lookup(struct core *c, uint64_t parent, struct bytes name, struct core_attr *out,
                struct core_need *need);
int core_parent(struct core *c, uint64_t node,
                uint64_t *parent); /* of a directory; of a root: itself */
/* Creates a node of any type but NODE_MOUNT. -EEXIST, -ENOTDIR, -ENOENT, -EROFS, -ENAMETOOLONG …
 * parent 0 with an empty name: a node without a name (O_TMPFILE) in namespace of *out->ns. */
int core_create(struct core *c, const struct core_who *who, uint64_t parent, struct bytes name,
                enum node_type type, uint32_t mode, uint64_t rdev, struct bytes target,
                struct core_attr *out, struct core_need *need);
int core_link(struct core *c, const struct core_who *who, uint64_t node, uint64_t parent,
              struct bytes name, struct core_attr *out, struct core_need *need);
/* dir: rmdir, otherwise unlink. -EBUSY for what another namespace is mounted on. */
int core_unlink(struct core *c, const struct core_who *who, uint64_t parent, struct bytes name,
                bool dir, uint64_t *node, struct core_need *need);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT (linux/fs.h) or 0. */
int core_rename(struct core *c, const struct core_who *who, uint64_t from, struct bytes from_name,
                uint64_t to, struct bytes to_name, unsigned flags, uint64_t *replaced,
                struct core_need *need);
#define CORE_SET_MODE 1u
#define CORE_SET_UID 2u
#define CORE_SET_GID 4u
#define CORE_SET_ATIME 8u
#define CORE_SET_MTIME 16u
#define CORE_SET_CTIME 32u
/* Changes the attributes named in mask to those in a (ctime to who->now). */
int core_setattr(struct core *c, const struct core_who *who, uint64_t node, unsigned mask,
                 const struct core_attr *a, struct core_need *need);
int core_truncate(struct core *c, const struct core_who *who, uint64_t node, uint64_t size,
                  struct core_need *need);
/* target: cap bytes at most are written, *len is the whole length. */
int core_readlink(struct core *c, uint64_t node, char *target, size_t cap, size_t *len,
                  struct core_need *need);
int core_getxattr(struct core *c, uint64_t node, struct bytes name, struct buf *value,
                  struct core_need *need); /* -ENODATA */
int core_listxattr(struct core *c, uint64_t node, struct buf *names, struct core_need *need);
/* flags: XATTR_CREATE, XATTR_REPLACE. value.p NULL: removes. -ENODATA, -EEXIST, -ERANGE, -E2BIG;
 * -ENOSPC: it has XATTRS_MAX. */
int core_setxattr(struct core *c, const struct core_who *who, uint64_t node, struct bytes name,
                  struct bytes value, unsigned flags, struct core_need *need);

/* Reads a directory from a cookie on (0: start). Cookies are stable: an entry keeps its cookie
 * while it exists, and a new one gets a larger cookie than any before it, so that nothing that
 * stays is missed or seen twice. `.` and `..` are the caller's. fn returns false to stop;
 * it calls nothing of the core. */
struct core_dirent {
    uint64_t cookie; /* of this entry; pass it to go on behind it */
    uint64_t node;
    enum node_type type;
    struct bytes name;
};
int core_readdir(struct core *c, uint64_t dir, uint64_t cookie,
                 bool (*fn)(void *arg, const struct core_dirent *e), void *arg,
                 struct core_need *need);
/* The highest cookie that a name has; what is made later has a higher one. */
int core_last_cookie(struct core *c, uint64_t *cookie);
/* The next page of its names that is not known, as a need. 0: all are. -ENOTDIR, -ESTALE */
int core_dir_rest(struct core *c, uint64_t dir, struct core_need *need);

/* Content. Extents of [off, off+len) as they are locally (cut at the edges), appended to out. */
int core_extents(struct core *c, uint64_t node, uint64_t off, uint64_t len, struct extent_list *out,
                 struct core_need *need);
/* *stored: what `stored` of the node will be when these ranges are written. 0, -ESTALE */
int core_stored(struct core *c, uint64_t node, const struct ranges *dirty, uint64_t *stored);
/* *next: the first offset at or behind off that is data. -ENXIO: only a hole follows. Costs the
 * same however long the hole is. */
int core_next_extent(struct core *c, uint64_t node, uint64_t off, uint64_t *next,
                     struct core_need *need);
/* The parts of [off, off+len) known now become `with`; size grows to at least off+len if grow.
 * Never needs anything loaded. */
int core_write(struct core *c, const struct core_who *who, uint64_t node, uint64_t off,
               uint64_t len, const struct extent_list *with, bool grow);
/* The same bytes in other blocks: times stay. To other devices it is a change like any other: it
 * would conflict with theirs and bring back what they removed. So it is made only of what is about
 * to be committed anyway, and otherwise left out. */
int core_recut(struct core *c, uint64_t node, uint64_t off, uint64_t len,
               const struct extent_list *with);
bool core_recuts(struct core *c, uint64_t node);
/* Clones extents; both ranges in one namespace: -EXDEV, or (linked) the block servers have the
 * blocks for the other one, too. */
int core_clone(struct core *c, const struct core_who *who, uint64_t src, uint64_t src_off,
               uint64_t dst, uint64_t dst_off, uint64_t len, bool linked, struct core_need *need);
/* A new node with the content that `extents` and size give, as a conflicted copy beside node's name
 * (a write through a handle that still saw an older version). */
int core_fork(struct core *c, const struct core_who *who, uint64_t node,
              const struct extent_list *extents, uint64_t size, struct core_attr *out,
              struct core_effects *fx);
/* The last handle on an unlinked node is gone. */
int core_purge(struct core *c, uint64_t node);
/* Whether any extent refers to the block, and whether one of them is pending. */
int core_block_used(struct core *c, const struct block_id *id, bool *referenced, bool *pending);

/* Gives all blocks of content that is to be sent, a part of them at a time; some more than once. fn
 * returns 0 to go on. */
#define PENDING_BLOCKS_STEP 1024
int core_pending_blocks(struct core *c, uint64_t ns,
                        int (*fn)(void *arg, const struct block_id *v, size_t n), void *arg);

/* Nodes of which something is pending or under way, max at most: files, and directories whose names
 * are. What is parked is left out. */
int core_pending_nodes(struct core *c, uint64_t ns, uint64_t *out, size_t max, size_t *n);

/* ---- what is sent --------------------------------------------------------------------------- */
/* What must become durable for fsync of node, besides blocks: nothing (0), a commit that is under
 * way (`request` set), or a commit still to be planned. While another journal is compared with
 * (core_journal_other) it is not known what is durable: a server that was put back has lost what it
 * acknowledged, and it is sent again afterwards. */
struct core_barrier {
    bool dirty;       /* there is something to plan */
    uint64_t request; /* unanswered commit that covers part of it, 0: none */
    bool unsure;      /* to be asked again when the comparison has ended */
    int parked;       /* -errno when the node, or a new directory above it, is parked, else 0 */
};
int core_barrier(struct core *c, uint64_t node, struct core_barrier *out);

/* Blocks of the pending content of node (and of what its closure takes along) that a target must
 * hold. *out is malloc'd. */
int core_closure_blocks(struct core *c, uint64_t node, struct m_block_ref **out, size_t *n);

struct core_plan {
    uint64_t ns, request, cursor, lowest_open;
    uint64_t mark;           /* of the journal up to cursor; 0: not known */
    bool again;              /* it makes nodes of other devices, which the server has lost */
    struct buf changes;      /* encoded m_changes */
    struct m_block_ref *ids; /* blocks of the new extents, without doubles; malloc'd */
    size_t ids_n, rows;
    bool partial; /* it was too much for one commit: plan again once this one is settled */
};
void core_plan_free(struct core_plan *p);
/* Makes one commit: the closures of nodes[0..n) (fsync), or, with n = 0, pending work of the
 * namespace in the order it came, at most BACKGROUND_ROWS_MAX rows, of nodes unchanged since
 * `quiet` (ns) and allowed by may_commit. The state sent is stored under a new request number
 * before this returns. What a commit under way already holds is left out. 0 with plan->rows > 0; 0
 * with rows = 0: nothing to send now; CORE_NEED: a copy's extents are to be loaded first; -EAGAIN:
 * the namespace waits for its journal (after a conflict or an unclean start). */
int core_plan(struct core *c, uint64_t ns, const uint64_t *nodes, size_t n, int64_t quiet,
              struct core_plan *plan, struct core_need *need);
/* Commits sent and not settled, to be sent again (same number, same changes): the k-th of namespace
 * ns, -ENOENT behind the last. */
int core_resend(struct core *c, uint64_t ns, size_t k, struct core_plan *plan);
/* Whether what is pending of the file's content stands upon content that the server has. */
bool core_has_base(struct core *c, uint64_t node);
/* Where pending content of it is in this block, which is nowhere any more, it is again as the
 * server has it. -ENOENT: it has nothing there, or nothing pending is in the block; -EBUSY: it is
 * sent. */
int core_block_lost(struct core *c, uint64_t node, const struct block_id *id);
/* Content of a new file is in a block that is nowhere any more: names that it took from files of
 * the server are theirs again, and it has a conflicted copy's. -ENOENT: it took none. */
int core_name_lost(struct core *c, uint64_t node, int64_t now, struct core_effects *fx);
/* An answer to a commit. MISSING changes nothing (the caller uploads and sends the same plan
 * again). */
int core_commit_answer(struct core *c, uint64_t ns, uint64_t request, const struct m_commit_ans *a,
                       struct core_effects *fx);
/* The next record of the journal; must be cursor + 1 (-EINVAL otherwise; at or below: ignored, 0).
 * -EBADMSG: it is none; -ESTALE: it is another than the one that had the number here, of another
 * journal: to be asked for again. Nothing was changed then.
 */
int core_apply(struct core *c, uint64_t ns, const struct m_record *r, int64_t now,
               struct core_effects *fx);
/* ---- a journal that does not reach back -------------------------------------------------------
 */
/* The server's journal begins behind the cursor. All that is known is looked at again as of `at`,
 * an SJID that the server named; the differences from the base that is known here are applied like
 * one record, so that pending changes meet them by the usual rules. Meanwhile programs go on, what
 * they want durable is sent, and nothing is loaded. Kept in memory only: after a restart it begins
 * again. */
struct core_resync;
#define RESYNC_QUESTIONS_MAX 8 /* unanswered at a time */
/* After core_requests_answer, if any were open. mark: of the journal up to `at`, 0 if not known.
 * common: after core_journal_other, with `at` from core_parted_at. -EINVAL: `at` is not ahead of
 * the cursor, or behind what is common. */
int core_resync_new(struct core_resync **out, struct core *c, uint64_t ns, uint64_t at,
                    uint64_t mark, uint64_t common);
void core_resync_free(struct core_resync *r);
/* The next question, as of `at`, and where its answer belongs (less than RESYNC_QUESTIONS_MAX).
 * -EAGAIN: answers are waited for; -ENOENT: nothing is left to ask. */
int core_resync_request(struct core_resync *r, unsigned *slot, const char **method,
                        struct buf *body);
/* Its answer. -EBADMSG */
int core_resync_answer(struct core_resync *r, unsigned slot, struct bytes body);
/* There is none: it is to be asked again. */
void core_resync_again(struct core_resync *r, unsigned slot);
/* What changed, as a record: for who must flush what is dirty before it is applied. */
const struct m_record *core_resync_record(const struct core_resync *r);
/* Applies it; the cursor is `at` then. */
int core_resync_apply(struct core_resync *r, int64_t now, struct core_effects *fx);
/* What is known of the journal, the newest first, max at most; *out is malloc'd. A mark behind the
 * cursor stands for what was settled up to there by core_requests_answer. */
int core_marks(struct core *c, uint64_t ns, size_t max, struct m_mark **out, size_t *n);
/* The server's journal is another one than that which this tree follows: it was restored from a
 * copy. Nothing is planned before a comparison (core_resync_new) is applied: what the server does
 * not know of what is known here becomes pending again (core_lost.c). head: of the server's
 * journal. */
int core_journal_other(struct core *c, uint64_t ns, uint64_t head);
/* It is the same one up to the cursor, and ends at `head`, before what was heard of it
 * (core_ns.head) when it was asked: it was restored from a copy, and nothing of what is known here
 * is lost but answers to commits behind that. Those are pending again, and nothing waits for lost
 * numbers any more. Nothing may have been heard of the journal between question and answer. Also
 * where core_journal_other was told, because the server could not know yet, and `head` is no less:
 * nothing is compared then. */
int core_journal_ends(struct core *c, uint64_t ns, uint64_t head, struct core_effects *fx);
/* *at: as of which SJID. common, the newest that both journals are known to have in common, if they
 * part right behind it and the server can still read it (not below its floor); otherwise head. */
int core_parted_at(struct core *c, uint64_t ns, uint64_t common, uint64_t head, uint64_t floor,
                   uint64_t *at);
struct core_lost {
    uint64_t pending; /* nodes of which something is to be sent again */
    uint64_t copies;  /* files of which only a part was known here: a copy has it */
    uint64_t missing; /* files of which the content was not known here at all */
    uint64_t bare;    /* nodes made again without the xattrs that they had: not known here */
};
/* What came of it, once applied. */
struct core_lost core_resync_lost(const struct core_resync *r);
/* The same of the last one of which something is missing, for LOST_TOLD_NS since; -ENOENT. */
#define LOST_TOLD_NS (30ll * 24 * 3600 * 1000000000)
int core_lost_told(struct core *c, uint64_t ns, int64_t now, struct core_lost *out);
/* Open request numbers of the namespace begin here; -ENOENT: none is open. */
int core_requests_from(struct core *c, uint64_t ns, uint64_t *from);
/* How they ended, asked when `at` was known, and the mark of the journal up to there (0: it is
 * not): what was committed up to `at` is settled, what was refused or conflicted is pending again;
 * one of which nothing is said can only be committed behind `at`. */
int core_requests_answer(struct core *c, uint64_t ns, const struct m_requests_ans *a, uint64_t at,
                         uint64_t mark, struct core_effects *fx);

/* The k-th parked node of a namespace; -ENOENT behind the last. path is relative to the
 * namespace's root, malloc'd. */
int core_parked_at(struct core *c, uint64_t ns, size_t k, uint64_t *node, int *err, char **path);
/* How many changes wait for what is parked: below a directory, or for its old name. */
int core_parked_holds(struct core *c, uint64_t node, uint64_t *n);
/* All that is kept here because of a refusal: what is parked, what waits for it, and what was let
 * go and is not committed yet; malloc'd. */
int core_refused(struct core *c, uint64_t ns, uint64_t **nodes, size_t *n);
/* A node's first name, from the namespace's root; of a root, or without a name: "". Malloc'd. */
int core_path(struct core *c, uint64_t node, char **path);
/* A conflicted copy: what has such a name, whoever made it. Renamed, it is none any more. */
struct core_conflict {
    uint64_t entry;        /* pass it to go on behind it */
    char *path, *original; /* relative to the namespace's root; malloc'd */
    char device[65], date[11];
    struct core_attr attr, original_attr;
    bool original_exists; /* as far as is known here */
};
void core_conflict_free(struct core_conflict *f);
/* The first one known of a namespace behind an entry (0: the first of all); -ENOENT. */
int core_conflict_next(struct core *c, uint64_t ns, uint64_t after, struct core_conflict *out);
/* Where a namespace is seen from the mount's top: "" its root, or a path; malloc'd. -ENOENT:
 * nowhere that is known. */
int core_ns_path(struct core *c, uint64_t ns, char **path);
/* Lets parked nodes be sent again. */
int core_unpark(struct core *c, uint64_t ns);
#endif
