// SPDX-License-Identifier: Apache-2.0
/* Inodes, xattrs and extents as intervals of SJIDs, on SQLite.
 *
 * A read as of an SJID looks at the open row first; when that is younger, at the closed row with
 * the smallest end above the SJID, which covers it or nothing does. Replacing a row copies the open
 * one to the past (unless this very commit opened it) and puts the new one in its place.
 */
#include "store_sqlite.h"

#include <errno.h>
#include <string.h>

/* ---- inodes --------------------------------------------------------------------------------- */
#define INODE_COLS                                                                                 \
    "type, mode, uid, gid, rdev, size, mtime, ctime, nlink, content_rev, attr_rev, target, "       \
    "target_ns, stored, xattrs"

static void read_inode(sqlite3_stmt *st, uint64_t node, struct m_inode *i, struct arena *ar)
{
    memset(i, 0, sizeof *i);
    i->node = node;
    i->type = sq_u64(st, 0);
    i->mode = sq_u64(st, 1);
    i->uid = sq_u64(st, 2);
    i->gid = sq_u64(st, 3);
    i->rdev = sq_u64(st, 4);
    i->size = sq_u64(st, 5);
    i->mtime = sqlite3_column_int64(st, 6);
    i->ctime = sqlite3_column_int64(st, 7);
    i->nlink = sq_u64(st, 8);
    i->content_rev = sq_u64(st, 9);
    i->attr_rev = sq_u64(st, 10);
    if (i->type == NODE_SYMLINK)
        i->target = sq_bytes(st, 11, ar);
    i->target_ns = sq_u64(st, 12);
    i->stored = sq_u64(st, 13);
    i->xattrs = sq_u64(st, 14);
}

int sq_inode_get(struct store *s, uint64_t ns, uint64_t node, uint64_t at, struct m_inode *i,
                 struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT " INODE_COLS " FROM inode "
                               "WHERE ns = ? AND node = ? AND from_sjid <= ?",
                               "iii", ns, node, at);
    int r = sq_one(s, st);
    if (!r)
        read_inode(st, node, i, ar);
    sq_done(st);
    if (r != -ENOENT || at == STORE_NOW)
        return r;
    st = sq_bind(s,
                 "SELECT " INODE_COLS ", from_sjid FROM inode_past "
                 "WHERE ns = ? AND node = ? AND to_sjid > ? ORDER BY to_sjid LIMIT 1",
                 "iii", ns, node, at);
    r = sq_one(s, st);
    if (!r && sq_u64(st, 15) > at)
        r = -ENOENT;
    if (!r)
        read_inode(st, node, i, ar);
    sq_done(st);
    return r;
}

int sq_inode_last(struct store *s, uint64_t ns, uint64_t node, struct m_inode *i, uint64_t *ended,
                  struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT " INODE_COLS ", to_sjid FROM inode_past "
                               "WHERE ns = ? AND node = ? ORDER BY to_sjid DESC LIMIT 1",
                               "ii", ns, node);
    int r = sq_one(s, st);
    if (!r) {
        read_inode(st, node, i, ar);
        *ended = sq_u64(st, 15);
    }
    sq_done(st);
    return r;
}

static int inode_keep(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node)
{
    return sq_exec(s,
                   "INSERT INTO inode_past (ns, node, from_sjid, to_sjid, " INODE_COLS ") "
                   "SELECT ns, node, from_sjid, ?3, " INODE_COLS " FROM inode "
                   "WHERE ns = ?1 AND node = ?2 AND from_sjid < ?3",
                   "iii", ns, node, sjid);
}

int sq_inode_put(struct store *s, uint64_t ns, uint64_t sjid, const struct m_inode *i)
{
    int r = inode_keep(s, ns, sjid, i->node);
    if (r)
        return r;
    return sq_exec(s,
                   "INSERT OR REPLACE INTO inode (ns, node, from_sjid, " INODE_COLS ") "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   "iiiiiiiiiiiiiibiii", ns, i->node, sjid, i->type, i->mode, i->uid, i->gid,
                   i->rdev, i->size, i->mtime, i->ctime, i->nlink, i->content_rev, i->attr_rev,
                   i->target, i->target_ns, i->stored, i->xattrs);
}

int sq_inode_close(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node)
{
    int r = inode_keep(s, ns, sjid, node);
    if (r)
        return r;
    return sq_exec(s, "DELETE FROM inode WHERE ns = ? AND node = ?", "ii", ns, node);
}

/* ---- extended attributes -------------------------------------------------------------------- */
int sq_xattr_get(struct store *s, uint64_t ns, uint64_t node, struct bytes name, uint64_t at,
                 struct m_xattr *x, struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT value, from_sjid FROM xattr "
                "WHERE ns = ?1 AND node = ?2 AND name = ?3 AND from_sjid <= ?4 UNION ALL "
                "SELECT value, from_sjid FROM xattr_past "
                "WHERE ns = ?1 AND node = ?2 AND to_sjid > ?4 AND name = ?3 AND from_sjid <= ?4",
                "iibi", ns, node, name, at);
    int r = sq_one(s, st);
    if (!r)
        *x = (struct m_xattr){
            .node = node, .name = name, .value = sq_bytes(st, 0, ar), .rev = sq_u64(st, 1)};
    sq_done(st);
    return r;
}

int sq_xattr_list(struct store *s, uint64_t ns, uint64_t node, uint64_t at, struct m_xattr **v,
                  size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT name, value, from_sjid FROM xattr "
                               "WHERE ns = ?1 AND node = ?2 AND from_sjid <= ?3 UNION ALL "
                               "SELECT name, value, from_sjid FROM xattr_past "
                               "WHERE ns = ?1 AND node = ?2 AND to_sjid > ?3 AND from_sjid <= ?3 "
                               "ORDER BY 1",
                               "iii", ns, node, at);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = (struct m_xattr){.node = node,
                                        .name = sq_bytes(st, 0, ar),
                                        .value = sq_bytes(st, 1, ar),
                                        .rev = sq_u64(st, 2)};
    }
    sq_done(st);
    return r;
}

static int xattr_keep(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, struct bytes name)
{
    return sq_exec(s,
                   "INSERT INTO xattr_past (ns, node, to_sjid, name, from_sjid, value) "
                   "SELECT ns, node, ?4, name, from_sjid, value FROM xattr "
                   "WHERE ns = ?1 AND node = ?2 AND name = ?3 AND from_sjid < ?4",
                   "iibi", ns, node, name, sjid);
}

int sq_xattr_put(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, struct bytes name,
                 struct bytes value)
{
    int r = xattr_keep(s, ns, sjid, node, name);
    if (r)
        return r;
    return sq_exec(s,
                   "INSERT OR REPLACE INTO xattr (ns, node, name, from_sjid, value) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "iibib", ns, node, name, sjid, value);
}

int sq_xattr_close(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, struct bytes name)
{
    int r = xattr_keep(s, ns, sjid, node, name);
    if (r)
        return r;
    return sq_exec(s, "DELETE FROM xattr WHERE ns = ? AND node = ? AND name = ?", "iib", ns, node,
                   name);
}

int sq_xattr_close_all(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node)
{
    int r = sq_exec(s,
                    "INSERT INTO xattr_past (ns, node, to_sjid, name, from_sjid, value) "
                    "SELECT ns, node, ?3, name, from_sjid, value FROM xattr "
                    "WHERE ns = ?1 AND node = ?2 AND from_sjid < ?3",
                    "iii", ns, node, sjid);
    if (r)
        return r;
    return sq_exec(s, "DELETE FROM xattr WHERE ns = ? AND node = ?", "ii", ns, node);
}

int sq_xattr_reopen(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t ended)
{
    return sq_exec(s,
                   "INSERT INTO xattr (ns, node, name, from_sjid, value) "
                   "SELECT ns, node, name, ?, value FROM xattr_past "
                   "WHERE ns = ? AND node = ? AND to_sjid = ?",
                   "iiii", sjid, ns, node, ended);
}

/* ---- extents -------------------------------------------------------------------------------- */
static int read_extents(struct store *s, sqlite3_stmt *st, struct extent_row **v, size_t *n,
                        struct arena *ar)
{
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct extent_row *row = &(*v)[(*n)++];
        row->e.off = sq_u64(st, 0);
        row->e.len = sq_u64(st, 1);
        sq_fixed(st, 2, row->e.block.b, BLOCK_ID_LEN);
        row->e.block_off = sq_u64(st, 3);
        row->from = sq_u64(st, 4);
    }
    sq_done(st);
    return r;
}

static struct extent_row *merge(const struct extent_row *a, size_t an, const struct extent_row *b,
                                size_t bn, size_t limit, size_t *n, struct arena *ar)
{
    size_t i = 0, j = 0, k = 0;
    struct extent_row *v = arena_alloc(ar, (an + bn) * sizeof *v);
    while (k < limit && (i < an || j < bn)) {
        bool first = j == bn || (i < an && a[i].e.off < b[j].e.off);
        v[k++] = first ? a[i++] : b[j++];
    }
    *n = k;
    return v;
}

int sq_extent_list(struct store *s, uint64_t ns, uint64_t node, uint64_t at, uint64_t off,
                   uint64_t len, size_t limit, struct extent_row **v, size_t *n, struct arena *ar)
{
    uint64_t end = len > (uint64_t)FILE_SIZE_MAX - off ? (uint64_t)FILE_SIZE_MAX : off + len;
    uint64_t max = limit;
    sqlite3_stmt *st = sq_bind(
        s,
        "SELECT off, len, block, block_off, from_sjid FROM extent "
        "WHERE ns = ?1 AND node = ?2 AND off < ?4 AND off + len > ?3 AND from_sjid <= ?5 AND "
        "off >= coalesce((SELECT off FROM extent WHERE ns = ?1 AND node = ?2 AND off <= ?3 "
        "ORDER BY off DESC LIMIT 1), 0) ORDER BY off LIMIT ?6",
        "iiiiii", ns, node, off, end, at, max);
    int r = read_extents(s, st, v, n, ar);
    if (r || at == STORE_NOW)
        return r;
    struct extent_row *past;
    size_t past_n;
    st =
        sq_bind(s,
                "SELECT off, len, block, block_off, from_sjid FROM extent_past "
                "WHERE ns = ?1 AND node = ?2 AND to_sjid > ?5 AND from_sjid <= ?5 AND off < ?4 AND "
                "off + len > ?3 ORDER BY off LIMIT ?6",
                "iiiiii", ns, node, off, end, at, max);
    r = read_extents(s, st, &past, &past_n, ar);
    if (!r && past_n)
        *v = merge(*v, *n, past, past_n, limit, n, ar);
    return r;
}

int sq_extent_open(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node,
                   const struct m_extent *e)
{
    struct bytes block = bytes_of(e->block.b, BLOCK_ID_LEN);
    int r = sq_exec(s,
                    "INSERT INTO extent (ns, node, off, from_sjid, len, block, block_off) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    "iiiiibi", ns, node, e->off, sjid, e->len, block, e->block_off);
    return r ? r : sq_ref(s, ns, block, 1);
}

/* Rows that the same commit opened leave no trace, and refer to their blocks no more. */
static int unref_own(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t off,
                     uint64_t end)
{
    return sq_ref_each(
        s, ns,
        sq_bind(s,
                "SELECT block FROM extent WHERE ns = ? AND node = ? AND off >= ? AND "
                "off < ? AND from_sjid >= ?",
                "iiiii", ns, node, off, end, sjid),
        -1);
}

int sq_extent_close(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t off)
{
    int r = sq_exec(s,
                    "INSERT INTO extent_past (ns, node, to_sjid, off, from_sjid, len, block, "
                    "block_off) SELECT ns, node, ?4, off, from_sjid, len, block, block_off FROM "
                    "extent WHERE ns = ?1 AND node = ?2 AND off = ?3 AND from_sjid < ?4",
                    "iiii", ns, node, off, sjid);
    if (!r && !sqlite3_changes(((struct sq *)s)->db))
        r = unref_own(s, ns, sjid, node, off, off + 1);
    if (r)
        return r;
    return sq_exec(s, "DELETE FROM extent WHERE ns = ? AND node = ? AND off = ?", "iii", ns, node,
                   off);
}

int sq_extent_close_all(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node)
{
    int r = sq_exec(s,
                    "INSERT INTO extent_past (ns, node, to_sjid, off, from_sjid, len, block, "
                    "block_off) SELECT ns, node, ?3, off, from_sjid, len, block, block_off FROM "
                    "extent WHERE ns = ?1 AND node = ?2 AND from_sjid < ?3",
                    "iii", ns, node, sjid);
    if (!r)
        r = unref_own(s, ns, sjid, node, 0, (uint64_t)FILE_SIZE_MAX);
    if (r)
        return r;
    return sq_exec(s, "DELETE FROM extent WHERE ns = ? AND node = ?", "ii", ns, node);
}

int sq_extent_reopen(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t ended)
{
    int r = sq_exec(s,
                    "INSERT INTO extent (ns, node, off, from_sjid, len, block, block_off) "
                    "SELECT ns, node, off, ?, len, block, block_off FROM extent_past "
                    "WHERE ns = ? AND node = ? AND to_sjid = ?",
                    "iiii", sjid, ns, node, ended);
    return r ? r
             : sq_ref_each(
                   s, ns,
                   sq_bind(s, "SELECT block FROM extent WHERE ns = ? AND node = ?", "ii", ns, node),
                   1);
}
