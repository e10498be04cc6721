// SPDX-License-Identifier: Apache-2.0
/* Namespaces with their members, assignments and mounts, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

#define NS_COLS                                                                                    \
    "id, name, root, head, floor, quota_bytes, quota_nodes, used_bytes, used_nodes, copies_min, "  \
    "fixed_cuts"

static void read_ns(sqlite3_stmt *st, struct ns_row *r, struct arena *ar)
{
    *r = (struct ns_row){.id = sq_u64(st, 0),
                         .name = sq_bytes(st, 1, ar),
                         .root = sq_u64(st, 2),
                         .head = sq_u64(st, 3),
                         .floor = sq_u64(st, 4),
                         .quota_bytes = sq_u64(st, 5),
                         .quota_nodes = sq_u64(st, 6),
                         .used_bytes = sq_u64(st, 7),
                         .used_nodes = sq_u64(st, 8),
                         .copies_min = sq_u64(st, 9),
                         .fixed_cuts = sq_u64(st, 10)};
}

int sq_ns_add(struct store *s, struct ns_row *r)
{
    int ret =
        sq_exec(s,
                "INSERT INTO namespace (id, name, root) VALUES (1 + max("
                "coalesce((SELECT max(id) FROM namespace), 0), "
                "coalesce((SELECT value FROM setting WHERE key = 'last_namespace'), 0)), ?, ?)",
                "ti", r->name, r->root);
    r->id = (uint64_t)sqlite3_last_insert_rowid(((struct sq *)s)->db);
    return ret;
}

int sq_ns_get(struct store *s, uint64_t ns, struct ns_row *r, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " NS_COLS " FROM namespace WHERE id = ?", "i", ns);
    int ret = sq_one(s, st);
    if (!ret)
        read_ns(st, r, ar);
    sq_done(st);
    return ret;
}

int sq_ns_find(struct store *s, struct bytes name, struct ns_row *r, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " NS_COLS " FROM namespace WHERE name = ?", "t", name);
    int ret = sq_one(s, st);
    if (!ret)
        read_ns(st, r, ar);
    sq_done(st);
    return ret;
}

int sq_ns_list(struct store *s, uint64_t account, struct ns_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st =
        account ? sq_bind(s,
                          "SELECT " NS_COLS ", role FROM member JOIN namespace ON id = ns "
                          "WHERE account = ? ORDER BY id",
                          "i", account)
                : sq_bind(s, "SELECT " NS_COLS ", 0 FROM namespace ORDER BY id", "");
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct ns_row *row = &(*v)[(*n)++];
        read_ns(st, row, ar);
        row->role = sq_u64(st, 11);
    }
    sq_done(st);
    return r;
}

int sq_ns_set(struct store *s, const struct ns_row *r)
{
    return sq_exec(s,
                   "UPDATE namespace SET head = ?, floor = ?, quota_bytes = ?, quota_nodes = ?, "
                   "used_bytes = ?, used_nodes = ?, copies_min = ?, fixed_cuts = ? WHERE id = ?",
                   "iiiiiiiii", r->head, r->floor, r->quota_bytes, r->quota_nodes, r->used_bytes,
                   r->used_nodes, r->copies_min, r->fixed_cuts, r->id);
}

/* ---- members -------------------------------------------------------------------------------- */
int sq_member_role(struct store *s, uint64_t ns, uint64_t account, uint64_t *role)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT role FROM member WHERE ns = ? AND account = ?", "ii", ns, account);
    int r = sq_one(s, st);
    *role = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_member_set(struct store *s, uint64_t ns, uint64_t account, uint64_t role)
{
    if (!role)
        return sq_exec(s, "DELETE FROM member WHERE ns = ? AND account = ?", "ii", ns, account);
    return sq_exec(s, "INSERT OR REPLACE INTO member (ns, account, role) VALUES (?, ?, ?)", "iii",
                   ns, account, role);
}

int sq_member_list(struct store *s, uint64_t ns, struct member_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT account, role FROM member WHERE ns = ? ORDER BY account", "i", ns);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] =
            (struct member_row){.ns = ns, .account = sq_u64(st, 0), .role = sq_u64(st, 1)};
    }
    sq_done(st);
    return r;
}

/* ---- assignments and mounts ----------------------------------------------------------------- */
int sq_assign(struct store *s, uint64_t ns, uint64_t server, uint64_t priority)
{
    return sq_exec(s,
                   "INSERT INTO assignment (ns, server, priority) VALUES (?, ?, ?) "
                   "ON CONFLICT (ns, server) DO UPDATE SET priority = excluded.priority",
                   "iii", ns, server, priority);
}

int sq_unassign(struct store *s, uint64_t ns, uint64_t server)
{
    return sq_exec(s, "DELETE FROM assignment WHERE ns = ? AND server = ?", "ii", ns, server);
}

int sq_onsite_list(struct store *s, uint64_t ns, struct bytes **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT premises FROM onsite WHERE ns = ? ORDER BY premises", "i", ns);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = sq_bytes(st, 0, ar);
    }
    sq_done(st);
    return r;
}

int sq_onsite_set(struct store *s, uint64_t ns, const struct bytes *v, size_t n)
{
    int r = sq_exec(s, "DELETE FROM onsite WHERE ns = ?", "i", ns);
    for (size_t k = 0; k < n && !r; k++)
        r = sq_exec(s, "INSERT OR IGNORE INTO onsite (ns, premises) VALUES (?, ?)", "it", ns, v[k]);
    return r;
}

int sq_mount_add(struct store *s, const struct mount_row *m)
{
    return sq_exec(s, "INSERT INTO mount (ns, node, target) VALUES (?, ?, ?)", "iii", m->ns,
                   m->node, m->target);
}

int sq_mount_find(struct store *s, uint64_t ns, uint64_t target, struct mount_row *m)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT node FROM mount WHERE ns = ? AND target = ?", "ii", ns, target);
    int r = sq_one(s, st);
    if (!r)
        *m = (struct mount_row){.ns = ns, .node = sq_u64(st, 0), .target = target};
    sq_done(st);
    return r;
}

int sq_mount_remove(struct store *s, uint64_t ns, uint64_t node)
{
    return sq_exec(s, "DELETE FROM mount WHERE ns = ? AND node = ?", "ii", ns, node);
}
