// SPDX-License-Identifier: Apache-2.0
/* What programs change of a node itself: owner, mode, times, xattrs. */
#include "core_int.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))

/* ---- attributes ------------------------------------------------------------------------------ */
int core_setattr(struct core *c, const struct core_who *who, uint64_t node, unsigned mask,
                 const struct core_attr *a, struct core_need *need)
{
    struct nrow n;
    uint32_t facets = FACET_TIMES;
    (void)need;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err && (mask & ~CORE_SET_ATIME))
        err = ns_writable(c, n.ns);
    if (err)
        return core_leave(c, err == -ENOENT ? -ESTALE : err);
    if (mask & CORE_SET_ATIME)
        n.atime = a->atime;
    if (!(mask & ~CORE_SET_ATIME)) /* local only */
        return core_leave(c, node_put(c, &n));
    if (mask & CORE_SET_MODE)
        n.mode = a->mode & 07777;
    if (mask & CORE_SET_UID)
        n.uid = a->uid;
    if (mask & CORE_SET_GID)
        n.gid = a->gid;
    if (mask & (CORE_SET_MODE | CORE_SET_UID | CORE_SET_GID))
        facets |= FACET_ATTR;
    if (mask & CORE_SET_MTIME)
        n.mtime = a->mtime;
    n.ctime = ctime_of(&n, mask & CORE_SET_CTIME ? a->ctime : who->now);
    return core_leave(c, node_touch(c, &n, facets, who->now));
}

static int need_xattrs(struct core *c, uint64_t node, struct nrow *n, struct core_need *need)
{
    int err = node_get(c, node, n);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    if (n->xattrs_known)
        return 0;
    *need = (struct core_need){.kind = NEED_NODE, .ns = n->ns, .node = node};
    return CORE_NEED;
}

int core_getxattr(struct core *c, uint64_t node, struct bytes name, struct buf *value,
                  struct core_need *need)
{
    struct nrow n;
    int err = need_xattrs(c, node, &n, need);
    if (err)
        return err;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT value FROM xattr WHERE node = ?1 AND name = ?2"
                                      " AND value IS NOT NULL");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_blob64(s, 2, name.p, name.n, SQLITE_STATIC);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENODATA;
    buf_append(value, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
    sqlite3_reset(s);
    return 0;
}

int core_listxattr(struct core *c, uint64_t node, struct buf *names, struct core_need *need)
{
    struct nrow n;
    int err = need_xattrs(c, node, &n, need);
    if (err)
        return err;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT name FROM xattr WHERE node = ?1 AND value IS NOT NULL"
                                      " ORDER BY name");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1) {
        buf_append(names, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
        buf_append(names, "", 1);
    }
    return rc;
}

/* The row with value (NULL: removed); a removed one that the server never had goes away. */
static int xattr_put(struct core *c, uint64_t node, struct bytes name, struct bytes value)
{
    sqlite3_stmt *s;
    if (!value.p) {
        s = tree_stmt(
            c->t, "DELETE FROM xattr WHERE node = ?1 AND name = ?2 AND rev = 0 AND request = 0");
        sqlite3_bind_int64(s, 1, (int64_t)node);
        sqlite3_bind_blob64(s, 2, name.p, name.n, SQLITE_STATIC);
        int err = tree_step(c->t, s);
        if (err || sqlite3_changes(tree_db(c->t)))
            return err;
    }
    s = tree_stmt(c->t, "INSERT INTO xattr(node, name, value, rev, pend, request)"
                        " VALUES(?1, ?2, ?3, 0, 1, 0)"
                        " ON CONFLICT(node, name) DO UPDATE SET value = ?3, pend = 1, old = 0");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_blob64(s, 2, name.p, name.n, SQLITE_STATIC);
    if (value.p && value.n == 0)
        sqlite3_bind_zeroblob(s, 3, 0);
    else if (value.p)
        sqlite3_bind_blob64(s, 3, value.p, value.n, SQLITE_STATIC);
    return tree_step(c->t, s);
}

/* Whether the node may have one more: the server would refuse it. */
static int xattr_room(struct core *c, uint64_t node)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT count(*) FROM xattr WHERE node = ?1 AND value IS NOT NULL");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    bool room = U(0) < XATTRS_MAX;
    sqlite3_reset(s);
    return room ? 0 : -ENOSPC;
}

int core_setxattr(struct core *c, const struct core_who *who, uint64_t node, struct bytes name,
                  struct bytes value, unsigned flags, struct core_need *need)
{
    struct nrow n;
    struct buf old = {0};
    if (name.n == 0 || name.n > XATTR_NAME_MAX)
        return -ERANGE;
    if (value.n > XATTR_VALUE_MAX)
        return -E2BIG;
    int err = core_begin(c);
    if (err)
        return err;
    err = need_xattrs(c, node, &n, need);
    if (!err)
        err = ns_writable(c, n.ns);
    if (!err) {
        int have = core_getxattr(c, node, name, &old, need);
        buf_free(&old);
        if (have && have != -ENODATA)
            err = have;
        else if (have == 0 && value.p && (flags & XATTR_CREATE))
            err = -EEXIST;
        else if (have == -ENODATA && (!value.p || (flags & XATTR_REPLACE)))
            err = -ENODATA;
        else if (have == -ENODATA)
            err = xattr_room(c, node);
    }
    if (!err)
        err = xattr_put(c, node, name, value);
    if (!err) {
        n.ctime = ctime_of(&n, who->now);
        err = node_touch(c, &n, FACET_TIMES, who->now);
    }
    return core_leave(c, err);
}
