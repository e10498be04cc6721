// SPDX-License-Identifier: Apache-2.0
/* What programs do to the tree: names and directories.
 *
 * An entry row holds the local value (node) beside the server's (base_node). entry_assign changes
 * the local one and derives the rest: link counts, and whether the row is pending at all: a name
 * that is made and removed again before anybody was told leaves nothing behind.
 */
#include "core_int.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))

/* ---- primitives ------------------------------------------------------------------------------ */
void attr_of(const struct nrow *n, struct core_attr *a)
{
    *a = (struct core_attr){.node = n->id,
                            .ns = n->ns,
                            .type = (enum node_type)n->type,
                            .mode = n->mode,
                            .uid = n->uid,
                            .gid = n->gid,
                            .nlink = n->nlink,
                            .rdev = n->rdev,
                            .size = n->size,
                            .stored = n->stored,
                            .mtime = n->mtime,
                            .ctime = n->ctime,
                            .atime = n->atime};
    a->pristine = is_dir(n->type) && n->attr_rev == 0 &&
                  ((n->pend | n->sent) & (FACET_CREATE | FACET_ATTR)) == 0;
    if (n->type == NODE_SYMLINK)
        a->target_len = n->size;
}

int node_touch(struct core *c, struct nrow *n, uint32_t facets, int64_t now)
{
    n->pend |= facets;
    n->old &= ~facets;
    n->changed = now;
    if (n->parked == -EDQUOT || n->parked == -EIO || n->parked == -E2BIG || n->parked == -EINVAL)
        n->parked = 0; /* the change may be what was asked for */
    if (!n->since)
        n->since = now;
    return node_put(c, n);
}

/* A name in the directory changed; subdirs: how many more it has of them. */
static int touch_dir(struct core *c, uint64_t dir, int subdirs, int64_t now)
{
    struct nrow p;
    int err = node_get(c, dir, &p);
    if (err)
        return err;
    p.mtime = now;
    p.ctime = ctime_of(&p, now);
    p.nlink = subdirs >= 0 || p.nlink > 0 ? p.nlink + (uint32_t)subdirs : 0;
    int parked = p.parked;
    err = node_touch(c, &p, FACET_TIMES, now);
    if (err || parked != -EINVAL)
        return err;
    p.parked = parked; /* a name in it is not what was refused of it */
    return node_put(c, &p);
}

int node_names(struct core *c, uint64_t id, size_t most, size_t *n)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT count(*) FROM (SELECT 1 FROM entry WHERE node = ?1 AND node != 0"
                        " LIMIT ?2)");
    sqlite3_bind_int64(s, 2, (int64_t)most);
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *n = (size_t)U(0);
    sqlite3_reset(s);
    return 0;
}

/* A directory's link count is 2 and its subdirectories, not all of which need be known; name_lost
 * makes it 0 with the last name. */
static int child_gained(struct core *c, uint64_t parent, uint64_t node, uint32_t type)
{
    if (!is_dir(type))
        return nlink_add(c, node, 1);
    int err = nlink_add(c, parent, 1);
    if (err)
        return err;
    sqlite3_stmt *s = tree_stmt(
        c->t, "UPDATE node SET nlink = iif(links != 0, max(2, links + (" DIR_LINKS_PENDING ")),"
              " nlink + 2), links = 0 WHERE id = ?1 AND (nlink < 2 OR links != 0)");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    return tree_step(c->t, s);
}

static int child_lost(struct core *c, uint64_t parent, uint64_t node, uint32_t type)
{
    return is_dir(type) ? nlink_add(c, parent, -1) : nlink_add(c, node, -1);
}

int entry_settle(struct core *c, struct erow *e)
{
    uint64_t told = e->request ? e->sent_node : e->base_node;
    e->pend = e->node != told;
    if (!e->pend)
        e->since = 0;
    if (!e->pend && !e->request)
        e->old = false;
    if (!e->pend && !e->request && e->node == 0) {
        struct nrow p;
        int err = node_get(c, e->parent, &p);
        if (err && err != -ENOENT)
            return err;
        bool known = true;
        err = err ? 0 : name_known(c, &p, erow_name(e), &known);
        if (err)
            return err;
        /* what is known of the directory says it already; or nobody was asked yet */
        if (known || !e->base_rev)
            return e->id ? entry_delete(c, e->id) : 0;
    }
    return entry_put(c, e);
}

/* The entry's local value alone: whoever calls it sees to the link counts. */
static int entry_turn(struct core *c, struct erow *e, uint64_t node, uint32_t type, int64_t now)
{
    if (e->node != node) {
        e->node = node;
        e->old = false;
        e->type = node ? type : NODE_NONE;
        if (!e->since)
            e->since = now;
    }
    return entry_settle(c, e);
}

int entry_assign(struct core *c, struct erow *e, uint64_t node, uint32_t type, int64_t now)
{
    uint64_t old = e->node;
    uint32_t old_type = e->type;
    int err = entry_turn(c, e, node, type, now);
    if (old == node)
        return err;
    if (!err && old)
        err = child_lost(c, e->parent, old, old_type);
    if (!err && node)
        err = child_gained(c, e->parent, node, type);
    return err;
}

int name_known(struct core *c, const struct nrow *dir, struct bytes name, bool *known)
{
    *known = dir->complete;
    if (*known)
        return 0;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT loaded_upto >= ?2 FROM node WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)dir->id);
    sqlite3_bind_blob64(s, 2, name.p, name.n, SQLITE_STATIC);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *known = rc == 1 && sqlite3_column_int(s, 0) != 0; /* NULL: nothing loaded */
    sqlite3_reset(s);
    return 0;
}

int entry_find(struct core *c, const struct nrow *dir, struct bytes name, struct erow *e,
               struct core_need *need)
{
    bool known;
    int err = entry_get(c, dir->id, name, e);
    if (err == 0)
        return e->node ? 0 : -ENOENT;
    if (err != -ENOENT)
        return err;
    *e = (struct erow){.ns = dir->ns, .parent = dir->id, .name_len = name.n};
    memcpy(e->name, name.p, name.n);
    err = name_known(c, dir, name, &known);
    if (err || known)
        return err ? err : -ENOENT;
    *need =
        (struct core_need){.kind = NEED_NAME, .ns = dir->ns, .node = dir->id, .name_len = name.n};
    memcpy(need->name, name.p, name.n);
    return CORE_NEED;
}

int node_parent(struct core *c, const struct nrow *n, uint64_t *parent)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT parent FROM entry WHERE node = ?1 AND node != 0 LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *parent = U(0);
    sqlite3_reset(s);
    return 0;
}

/* Whether a name leads to the node: here, at the server, or where a commit under way is taken. */
static int referred(struct core *c, uint64_t id, bool *yes)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT EXISTS(SELECT 1 FROM entry WHERE node = ?1 AND node != 0)"
                        " OR EXISTS(SELECT 1 FROM entry WHERE base_node = ?1 AND base_node != 0"
                        " AND base_node != node)"
                        " OR EXISTS(SELECT 1 FROM entry WHERE sent_node = ?1 AND request != 0)");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *yes = sqlite3_column_int(s, 0) != 0;
    sqlite3_reset(s);
    return 0;
}

int node_purge(struct core *c, uint64_t id)
{
    bool named;
    struct nrow n;
    struct ns_rights ns;
    int err = node_get(c, id, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    err = ns_rights(c, n.ns, &ns);
    if (!err && ns.root == id)
        return 0;
    if (!err)
        err = referred(c, id, &named);
    if (err || named || n.sent || (c->hooks.in_use && c->hooks.in_use(c->hooks.ctx, id)))
        return err;
    return node_delete(c, id);
}

int core_purge(struct core *c, uint64_t node)
{
    int err = core_begin(c);
    return err ? err : core_leave(c, node_purge(c, node));
}

/* ---- checks shared by the operations --------------------------------------------------------- */
static int check_name(struct bytes name)
{
    if (name.n == 0)
        return -ENOENT;
    if (name.n > NAME_LEN_MAX)
        return -ENAMETOOLONG;
    return memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n) ? -EINVAL : 0;
}

/* A directory in which names may change. */
static int writable_dir(struct core *c, uint64_t id, struct nrow *dir)
{
    size_t names;
    struct ns_rights ns;
    int err = node_get(c, id, dir);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    if (dir->type != NODE_DIR)
        return -ENOTDIR;
    err = ns_writable(c, dir->ns);
    if (!err)
        err = ns_rights(c, dir->ns, &ns);
    if (!err && ns.root != id) {
        err = node_names(c, id, 1, &names);
        if (!err && !names)
            err = -ENOENT; /* removed, but still somebody's current directory */
    }
    return err;
}

int dir_whole(struct core *c, const struct nrow *dir, struct core_need *need)
{
    if (dir->complete)
        return 0;
    *need = (struct core_need){.kind = NEED_PAGE, .ns = dir->ns, .node = dir->id};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT loaded_upto FROM node WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)dir->id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    need->name_len = (size_t)sqlite3_column_bytes(s, 0);
    if (need->name_len)
        memcpy(need->name, sqlite3_column_blob(s, 0), need->name_len);
    sqlite3_reset(s);
    return CORE_NEED;
}

int core_dir_rest(struct core *c, uint64_t dir, struct core_need *need)
{
    struct nrow d;
    int err = node_get(c, dir, &d);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    return is_dir(d.type) ? dir_whole(c, &d, need) : -ENOTDIR;
}

static int empty_dir(struct core *c, uint64_t id, struct core_need *need)
{
    struct nrow d;
    int err = node_get(c, id, &d);
    if (!err)
        err = dir_whole(c, &d, need);
    if (err)
        return err;
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT 1 FROM entry WHERE parent = ?1 AND node != 0 LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    if (s)
        sqlite3_reset(s);
    return rc < 0 ? rc : rc == 1 ? -ENOTEMPTY : 0;
}

/* -ENAMETOOLONG: a directory in this one would be deeper than the server takes, which would refuse
 * it later. What lies in one that is moved is not looked at: there may be a million. */
static int room_below(struct core *c, uint64_t dir)
{
    sqlite3_stmt *s = tree_stmt(
        c->t, "WITH RECURSIVE up(node, n) AS (VALUES(?1, 0) UNION ALL SELECT e.parent, n + 1"
              " FROM up JOIN entry e ON e.node = up.node AND e.node != 0 WHERE n < ?2)"
              " SELECT max(n) FROM up");
    sqlite3_bind_int64(s, 1, (int64_t)dir);
    sqlite3_bind_int64(s, 2, c->bounds.depth);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    bool room = U(0) < c->bounds.depth;
    sqlite3_reset(s);
    return room ? 0 : -ENAMETOOLONG;
}

/* ---- changing names -------------------------------------------------------------------------- */
static int new_node(struct core *c, const struct core_who *who, uint64_t ns, enum node_type type,
                    uint32_t mode, uint64_t rdev, struct bytes target, uint32_t nlink,
                    struct nrow *n)
{
    *n = (struct nrow){.ns = ns,
                       .type = type,
                       .mode = mode & 07777,
                       .uid = who->uid,
                       .gid = who->gid,
                       .rdev = rdev,
                       .size = type == NODE_SYMLINK ? target.n : 0,
                       .mtime = who->now,
                       .ctime = who->now,
                       .atime = who->now,
                       .nlink = nlink,
                       .complete = true,
                       .xattrs_known = true};
    int err = node_new_id(c, &n->id);
    if (!err)
        err = node_touch(c, n, FACET_CREATE | (type == NODE_REG ? FACET_CONTENT : 0), who->now);
    if (!err && type == NODE_REG)
        err = span_mark(c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX);
    if (!err && type == NODE_SYMLINK) {
        sqlite3_stmt *s = tree_stmt(c->t, "UPDATE node SET target = ?2 WHERE id = ?1");
        sqlite3_bind_int64(s, 1, (int64_t)n->id);
        sqlite3_bind_blob64(s, 2, target.p, target.n, SQLITE_STATIC);
        err = tree_step(c->t, s);
    }
    return err;
}

int core_create(struct core *c, const struct core_who *who, uint64_t parent, struct bytes name,
                enum node_type type, uint32_t mode, uint64_t rdev, struct bytes target,
                struct core_attr *out, struct core_need *need)
{
    struct nrow dir, n;
    struct erow e;
    if (type == NODE_SYMLINK && (target.n == 0 || target.n > TARGET_LEN_MAX))
        return target.n ? -ENAMETOOLONG : -ENOENT;
    int err = core_begin(c);
    if (err)
        return err;
    if (parent) {
        err = check_name(name);
        if (!err)
            err = writable_dir(c, parent, &dir);
        if (!err) {
            err = entry_find(c, &dir, name, &e, need);
            err = err == 0 ? -EEXIST : err == -ENOENT ? 0 : err;
        }
        if (!err && type == NODE_DIR)
            err = room_below(c, parent);
    } else {
        dir = (struct nrow){.ns = out->ns};
        err = ns_writable(c, out->ns);
    }
    uint32_t nlink = !parent ? 0 : type == NODE_DIR ? 2 : 1;
    if (!err)
        err = new_node(c, who, dir.ns, type, mode, rdev, target, nlink, &n);
    if (!err && parent)
        err = entry_turn(c, &e, n.id, type, who->now);
    if (!err && parent)
        err = touch_dir(c, parent, type == NODE_DIR ? 1 : 0, who->now);
    if (!err)
        attr_of(&n, out);
    return core_leave(c, err);
}

int core_link(struct core *c, const struct core_who *who, uint64_t node, uint64_t parent,
              struct bytes name, struct core_attr *out, struct core_need *need)
{
    struct nrow dir, n;
    struct erow e;
    int err = core_begin(c);
    if (err)
        return err;
    err = check_name(name);
    if (!err)
        err = writable_dir(c, parent, &dir);
    if (!err)
        err = node_get(c, node, &n);
    if (!err && is_dir(n.type))
        err = -EPERM;
    if (!err && n.ns != dir.ns)
        err = -EXDEV;
    if (!err && n.nlink >= 65000)
        err = -EMLINK;
    if (!err && n.nlink == 0 && !(n.pend & FACET_CREATE))
        err = -ENOENT; /* removed; only one that never had a name may get its first */
    if (!err) {
        err = entry_find(c, &dir, name, &e, need);
        err = err == 0 ? -EEXIST : err == -ENOENT ? 0 : err;
    }
    if (!err)
        err = entry_assign(c, &e, node, n.type, who->now);
    if (!err)
        err = touch_dir(c, parent, 0, who->now);
    if (!err)
        err = node_get(c, node, &n);
    if (!err) {
        n.ctime = ctime_of(&n, who->now);
        err = node_touch(c, &n, FACET_TIMES, who->now);
        attr_of(&n, out);
    }
    return core_leave(c, err);
}

/* A name is gone from node: its ctime, and the row when nothing needs it any more. */
static int name_lost(struct core *c, const struct core_who *who, uint64_t node)
{
    struct nrow n;
    size_t names;
    int err = node_get(c, node, &n);
    if (!err && is_dir(n.type))
        err = node_names(c, node, 1, &names);
    if (err)
        return err;
    if (is_dir(n.type) && !names)
        n.nlink = 0;
    else if (n.nlink == 0) { /* most often nothing is left to be told */
        err = node_purge(c, node);
        if (!err)
            err = node_get(c, node, &n);
        if (err)
            return err == -ENOENT ? 0 : err;
    }
    n.ctime = ctime_of(&n, who->now);
    err = node_touch(c, &n, FACET_TIMES, who->now);
    return err || n.nlink || !is_dir(n.type) ? err : node_purge(c, node);
}

static int removable(struct core *c, const struct erow *e, bool dir, struct core_need *need)
{
    if (e->type == NODE_MOUNT)
        return -EBUSY;
    if (dir)
        return e->type == NODE_DIR ? empty_dir(c, e->node, need) : -ENOTDIR;
    return e->type == NODE_DIR ? -EISDIR : 0;
}

int core_unlink(struct core *c, const struct core_who *who, uint64_t parent, struct bytes name,
                bool dir, uint64_t *node, struct core_need *need)
{
    struct nrow p;
    struct erow e;
    int err = core_begin(c);
    if (err)
        return err;
    err = check_name(name);
    if (!err)
        err = writable_dir(c, parent, &p);
    if (!err)
        err = entry_find(c, &p, name, &e, need);
    if (!err)
        err = removable(c, &e, dir, need);
    if (!err) {
        *node = e.node;
        err = entry_assign(c, &e, 0, NODE_NONE, who->now);
    }
    if (!err)
        err = name_lost(c, who, *node);
    if (!err)
        err = touch_dir(c, parent, 0, who->now);
    return core_leave(c, err);
}

/* Whether dir is node or lies below it. -ENAMETOOLONG: no directory may be moved so deep */
static int below(struct core *c, uint64_t dir, uint64_t node, bool *yes)
{
    *yes = false;
    for (unsigned depth = 0; depth <= DEPTH_MAX; depth++) {
        struct nrow n;
        if (dir == node) {
            *yes = true;
            return 0;
        }
        int err = node_get(c, dir, &n);
        if (!err)
            err = node_parent(c, &n, &dir);
        if (err)
            return err == -ENOENT ? 0 : err;
    }
    return -ENAMETOOLONG;
}

struct rename_args {
    struct nrow from_dir, to_dir;
    struct erow from, to;
    bool exists; /* the target */
};

static int rename_find(struct core *c, struct rename_args *r, uint64_t from, struct bytes from_name,
                       uint64_t to, struct bytes to_name, struct core_need *need)
{
    int err = check_name(from_name);
    if (!err)
        err = check_name(to_name);
    if (!err)
        err = writable_dir(c, from, &r->from_dir);
    if (!err)
        err = writable_dir(c, to, &r->to_dir);
    if (!err)
        err = entry_find(c, &r->from_dir, from_name, &r->from, need);
    if (!err && r->from_dir.ns != r->to_dir.ns)
        err = -EXDEV;
    if (!err && r->from.type == NODE_MOUNT)
        err = -EBUSY;
    if (err)
        return err;
    err = entry_find(c, &r->to_dir, to_name, &r->to, need);
    r->exists = err == 0;
    if (err == -ENOENT)
        err = 0;
    if (!err && r->exists && r->to.type == NODE_MOUNT)
        err = -EBUSY;
    return err;
}

static int rename_check(struct core *c, const struct rename_args *r, unsigned flags,
                        struct core_need *need)
{
    bool loop = false;
    int err = 0;
    if (r->exists && (flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!r->exists && (flags & RENAME_EXCHANGE))
        return -ENOENT;
    if (r->from.type == NODE_DIR && r->from.parent != r->to.parent)
        err = below(c, r->to.parent, r->from.node, &loop);
    if (!err && loop)
        return -EINVAL;
    if (!err && r->exists && r->to.type == NODE_DIR && r->from.parent != r->to.parent)
        err = below(c, r->from.parent, r->to.node, &loop);
    if (!err && loop)
        return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    bool moves = r->from.parent != r->to.parent, exchange = flags & RENAME_EXCHANGE;
    if (!err && moves && r->from.type == NODE_DIR)
        err = room_below(c, r->to.parent);
    if (!err && moves && exchange && r->to.type == NODE_DIR)
        err = room_below(c, r->from.parent);
    if (err || !r->exists || (flags & RENAME_EXCHANGE))
        return err;
    if (r->from.type == NODE_DIR)
        return r->to.type == NODE_DIR ? empty_dir(c, r->to.node, need) : -ENOTDIR;
    return r->to.type == NODE_DIR ? -EISDIR : 0;
}

/* Under another name a file may be taken that was refused; where it has more than one, they stay.
 */
static bool let_go(struct nrow *n)
{
    bool was = n->parked != 0 && !is_dir(n->type) && n->nlink <= 1;
    if (was)
        n->parked = 0;
    return was;
}

/* The other one gets the old name. */
static int rename_back(struct core *c, const struct core_who *who, const struct erow *from,
                       uint64_t other, uint32_t other_type)
{
    struct erow again;
    int err = entry_get(c, from->parent, erow_name(from), &again);
    if (err == -ENOENT) {
        again = *from;
        again.id = 0;
        err = 0;
    }
    if (!err)
        err = entry_turn(c, &again, other, other_type, who->now);
    struct nrow n;
    if (!err)
        err = node_get(c, other, &n);
    return !err && let_go(&n) ? node_put(c, &n) : err;
}

/* Link counts: of a node that moves its own stays; a directory is counted where it is. */
static int rename_do(struct core *c, const struct core_who *who, struct rename_args *r,
                     unsigned flags)
{
    uint64_t moved = r->from.node, other = r->exists ? r->to.node : 0;
    bool dir = is_dir(r->from.type), other_dir = is_dir(r->to.type) && other;
    uint32_t type = r->from.type, other_type = r->to.type;
    bool exchange = flags & RENAME_EXCHANGE, apart = r->from.parent != r->to.parent;
    int gained = (dir ? 1 : 0) - (other_dir ? 1 : 0), back = exchange && other_dir ? 1 : 0;
    struct nrow n;
    int err = entry_turn(c, &r->from, 0, NODE_NONE, who->now);
    if (!err)
        err = entry_turn(c, &r->to, moved, type, who->now);
    if (!err && exchange)
        err = rename_back(c, who, &r->from, other, other_type);
    if (!err && !exchange && other && !other_dir)
        err = nlink_add(c, other, -1);
    int lost = back - (dir ? 1 : 0);
    if (!err)
        err = touch_dir(c, r->from.parent, apart ? lost : lost + gained, who->now);
    if (!err && apart)
        err = touch_dir(c, r->to.parent, gained, who->now);
    if (!err)
        err = node_get(c, moved, &n);
    if (!err) {
        let_go(&n);
        n.ctime = ctime_of(&n, who->now);
        err = node_touch(c, &n, FACET_TIMES, who->now);
    }
    return !err && other && !exchange ? name_lost(c, who, other) : err;
}

int core_rename(struct core *c, const struct core_who *who, uint64_t from, struct bytes from_name,
                uint64_t to, struct bytes to_name, unsigned flags, uint64_t *replaced,
                struct core_need *need)
{
    struct rename_args r = {0};
    *replaced = 0;
    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) ||
        ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT))))
        return -EINVAL;
    int err = core_begin(c);
    if (err)
        return err;
    err = rename_find(c, &r, from, from_name, to, to_name, need);
    if (!err)
        err = rename_check(c, &r, flags, need);
    if (err || (r.exists && r.from.node == r.to.node)) /* two names of one file: nothing happens */
        return core_leave(c, err);
    if (r.exists && !(flags & RENAME_EXCHANGE))
        *replaced = r.to.node;
    err = rename_do(c, who, &r, flags);
    if (!err && (flags & RENAME_WHITEOUT)) { /* what an overlayfs takes for a removed name */
        struct core_attr none;
        err = core_create(c, who, from, from_name, NODE_CHR, 0, 0, (struct bytes){0}, &none, need);
    }
    return core_leave(c, err);
}
