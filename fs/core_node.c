// SPDX-License-Identifier: Apache-2.0
/* Rows of nodes, and those that were read last.
 *
 * An operation looks at the same two or three nodes again and again: what the kernel names, its
 * directory, what it answers. So the rows read last are kept here, as they are in the tree. SQLite
 * tells of every row that any statement changes (its update hook; those that REPLACE removes, and a
 * DELETE of all, are not told: there are none of this table), and of transactions that are rolled
 * back: what is kept is then forgotten. Of namespaces the one looked at last is kept in the same
 * way, as far as its row alone says it.
 *
 * Knowing what the row is, node_put leaves alone what does not change: an UPDATE that names a
 * column of an index, or of its condition, takes the row out of the index and puts it back, which
 * is a page more in the log for each.
 */
#include "core_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_KEPT 512 /* a power of two */

struct rows {
    struct nrow node[ROWS_KEPT]; /* by id; id 0: none */
    bool inserted;               /* the last change of this table */
    struct ns_rights ns;         /* id 0: none */
};

static struct nrow *slot(struct rows *r, uint64_t id)
{
    return &r->node[id * 0x9e3779b97f4a7c15u >> 32 & (ROWS_KEPT - 1)];
}

/* [SQLite] */
static void changed(void *arg, int op, const char *db, const char *table, sqlite3_int64 id)
{
    struct rows *r = arg;
    (void)db;
    if (strcmp(table, "node") == 0) {
        struct nrow *n = slot(r, (uint64_t)id);
        r->inserted = op == SQLITE_INSERT;
        if (n->id == (uint64_t)id)
            n->id = 0;
    } else if (strcmp(table, "ns") == 0) {
        r->ns.id = 0;
    }
}

/* [SQLite] */
static void rolled_back(void *arg)
{
    struct rows *r = arg;
    for (size_t i = 0; i < ROWS_KEPT; i++)
        r->node[i].id = 0;
    r->ns.id = 0;
}

int rows_new(struct core *c)
{
    c->rows = calloc(1, sizeof *c->rows);
    if (!c->rows)
        return -ENOMEM;
    sqlite3_update_hook(tree_db(c->t), changed, c->rows);
    sqlite3_rollback_hook(tree_db(c->t), rolled_back, c->rows);
    return 0;
}

void rows_free(struct core *c)
{
    sqlite3_update_hook(tree_db(c->t), NULL, NULL);
    sqlite3_rollback_hook(tree_db(c->t), NULL, NULL);
    free(c->rows);
    c->rows = NULL;
}

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))
#define I(i) sqlite3_column_int64(s, (i))
#define W(i) ((uint32_t)sqlite3_column_int64(s, (i)))

static int node_read(struct core *c, uint64_t id, struct nrow *n)
{
    sqlite3_stmt *s = tree_stmt(
        c->t,
        "SELECT ns, type, mode, uid, gid, rdev, size, mtime, ctime, atime, nlink, stored, "
        "target_ns,"
        " content_rev, attr_rev, complete, xattrs_known, src, src_at, pend, sent, request, since,"
        " changed, parked, tries, old, gone, links, again FROM node WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *n = (struct nrow){.id = id,
                       .ns = U(0),
                       .type = W(1),
                       .mode = W(2),
                       .uid = W(3),
                       .gid = W(4),
                       .rdev = U(5),
                       .size = U(6),
                       .mtime = I(7),
                       .ctime = I(8),
                       .atime = I(9),
                       .nlink = W(10),
                       .stored = U(11),
                       .target_ns = U(12),
                       .content_rev = U(13),
                       .attr_rev = U(14),
                       .complete = I(15) != 0,
                       .xattrs_known = I(16) != 0,
                       .src = U(17),
                       .src_at = U(18),
                       .pend = W(19),
                       .sent = W(20),
                       .request = U(21),
                       .since = I(22),
                       .changed = I(23),
                       .parked = (int)I(24),
                       .tries = W(25),
                       .old = W(26),
                       .gone = (uint8_t)W(27),
                       .links = W(28),
                       .again = I(29) != 0};
    sqlite3_reset(s);
    return 0;
}

int node_get(struct core *c, uint64_t id, struct nrow *n)
{
    struct nrow *kept = c->rows ? slot(c->rows, id) : NULL;
    if (kept && kept->id == id && id) {
        *n = *kept;
        return 0;
    }
    int err = node_read(c, id, n);
    if (!err && kept)
        *kept = *n;
    return err;
}

/* No column of an index changes, nor of the condition of one. */
static bool indexed_as(const struct nrow *a, const struct nrow *b)
{
    return a->pend == b->pend && a->request == b->request && a->since == b->since &&
           a->parked == b->parked && a->complete == b->complete && a->gone == b->gone;
}

/* What is left; nlink counts only where it is 0. */
static int node_update(struct core *c, const struct nrow *n)
{
    sqlite3_stmt *s = tree_stmt(
        c->t, "UPDATE node SET mode = ?2, uid = ?3, gid = ?4, size = ?5, mtime = ?6, ctime = ?7,"
              " atime = ?8, nlink = ?9, stored = ?10, content_rev = ?11, attr_rev = ?12,"
              " xattrs_known = ?13, src = ?14, src_at = ?15, sent = ?16, changed = ?17,"
              " tries = ?18, old = ?19, links = ?20, again = ?21 WHERE id = ?1");
    const uint64_t v[] = {n->id,
                          n->mode,
                          n->uid,
                          n->gid,
                          n->size,
                          (uint64_t)n->mtime,
                          (uint64_t)n->ctime,
                          (uint64_t)n->atime,
                          n->nlink,
                          n->stored,
                          n->content_rev,
                          n->attr_rev,
                          n->xattrs_known,
                          n->src,
                          n->src_at,
                          n->sent,
                          (uint64_t)n->changed,
                          n->tries,
                          n->old,
                          n->links,
                          n->again};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        sqlite3_bind_int64(s, (int)i + 1, (int64_t)v[i]);
    return tree_step(c->t, s);
}

static int node_write(struct core *c, const struct nrow *n)
{
    sqlite3_stmt *s = tree_stmt(
        c->t,
        "INSERT INTO node(id, ns, type, mode, uid, gid, rdev, size, mtime, ctime, atime, nlink, "
        "stored,"
        " target_ns, content_rev, attr_rev, complete, xattrs_known, src, src_at, pend, sent, "
        "request,"
        " since, changed, parked, tries, old, gone, links, again) VALUES(?1, ?2, ?3, ?4, ?5, ?6, "
        "?7, "
        "?8, ?9,"
        " ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27,"
        " ?28, ?29, ?30, ?31)"
        " ON CONFLICT(id) DO UPDATE SET mode = ?4, uid = ?5, gid = ?6, size = ?8, mtime = ?9, "
        "ctime = ?10,"
        " atime = ?11, nlink = ?12, stored = ?13, content_rev = ?15, attr_rev = ?16, complete = "
        "?17,"
        " xattrs_known = ?18, src = ?19, src_at = ?20, pend = ?21, sent = ?22, request = ?23, "
        "since = ?24,"
        " changed = ?25, parked = ?26, tries = ?27, old = ?28, gone = ?29, links = ?30,"
        " again = ?31");
    const uint64_t v[] = {n->id,
                          n->ns,
                          n->type,
                          n->mode,
                          n->uid,
                          n->gid,
                          n->rdev,
                          n->size,
                          (uint64_t)n->mtime,
                          (uint64_t)n->ctime,
                          (uint64_t)n->atime,
                          n->nlink,
                          n->stored,
                          n->target_ns,
                          n->content_rev,
                          n->attr_rev,
                          n->complete,
                          n->xattrs_known,
                          n->src,
                          n->src_at,
                          n->pend,
                          n->sent,
                          n->request,
                          (uint64_t)n->since,
                          (uint64_t)n->changed,
                          (uint64_t)n->parked,
                          n->tries,
                          n->old,
                          n->gone,
                          n->links,
                          n->again};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        sqlite3_bind_int64(s, (int)i + 1, (int64_t)v[i]);
    return tree_step(c->t, s);
}

int node_put(struct core *c, const struct nrow *n)
{
    struct nrow *kept = c->rows ? slot(c->rows, n->id) : NULL;
    struct nrow now = *n, was = {0};
    if (kept && kept->id == n->id)
        was = *kept;
    int err = was.id && indexed_as(&was, n) ? node_update(c, n) : node_write(c, n);
    if (err || !kept || (!was.id && !c->rows->inserted))
        return err; /* whatever was put on a row that is not known is read when it is needed */
    if (was.id) {   /* these stay as they are */
        now.ns = was.ns;
        now.type = was.type;
        now.rdev = was.rdev;
        now.target_ns = was.target_ns;
    }
    *kept = now;
    return 0;
}

int nlink_add(struct core *c, uint64_t node, int delta)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    int64_t links = (int64_t)n.nlink + delta;
    n.nlink = links > 0 ? (uint32_t)links : 0;
    if (links <= 0)
        n.parked = 0;
    return node_put(c, &n);
}

static int rows_delete(struct core *c, uint64_t node, const char *sql)
{
    sqlite3_stmt *s = tree_stmt(c->t, sql);
    sqlite3_bind_int64(s, 1, (int64_t)node);
    return tree_step(c->t, s);
}

int node_delete(struct core *c, uint64_t id)
{
    struct nrow n;
    int err = node_get(c, id, &n);
    bool known = err == 0, file = !known || n.type == NODE_REG;
    bool dir = !known || is_dir(n.type);
    if (err == -ENOENT)
        err = 0;
    if (!err)
        err = rows_delete(c, id, "DELETE FROM node WHERE id = ?1");
    if (!err && file)
        err = rows_delete(c, id, "DELETE FROM extent WHERE node = ?1");
    if (!err && file)
        err = rows_delete(c, id, "DELETE FROM span WHERE node = ?1");
    if (!err)
        err = rows_delete(c, id, "DELETE FROM xattr WHERE node = ?1");
    if (!err && dir)
        err = rows_delete(c, id,
                          "DELETE FROM entry WHERE parent = ?1 AND node = 0 AND pend = 0"
                          " AND request = 0");
    return err;
}

int ns_rights(struct core *c, uint64_t id, struct ns_rights *out)
{
    struct ns_rights *kept = c->rows ? &c->rows->ns : NULL;
    if (kept && kept->id == id && id) {
        *out = *kept;
        return 0;
    }
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT root, role, member FROM ns WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *out = (struct ns_rights){
        .id = id, .root = U(0), .role = (enum role)I(1), .member = sqlite3_column_int(s, 2) != 0};
    sqlite3_reset(s);
    if (kept)
        *kept = *out;
    return 0;
}
