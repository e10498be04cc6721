// SPDX-License-Identifier: Apache-2.0
/* Dropping closed rows and old records, on SQLite. */
#include "store_sqlite.h"

int sq_journal_older(struct store *s, uint64_t ns, uint64_t after, uint64_t before_ms, size_t max,
                     uint64_t *upto)
{
    sqlite3_stmt *st = sq_bind(
        s, "SELECT sjid, time_ms FROM journal WHERE ns = ? AND sjid > ? ORDER BY sjid LIMIT ?",
        "iii", ns, after, (uint64_t)max);
    int r;
    while ((r = sq_step(s, st)) > 0 && sq_u64(st, 1) < before_ms)
        *upto = sq_u64(st, 0);
    sq_done(st);
    return r < 0 ? r : 0;
}

int sq_journal_forget(struct store *s, uint64_t ns, uint64_t sjid)
{
    return sq_exec(s, "DELETE FROM journal WHERE ns = ? AND sjid = ?", "ii", ns, sjid);
}

int sq_inode_forget(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid)
{
    return sq_exec(s, "DELETE FROM inode_past WHERE ns = ? AND node = ? AND to_sjid = ?", "iii", ns,
                   node, sjid);
}

int sq_entry_forget(struct store *s, uint64_t ns, uint64_t parent, struct bytes name, uint64_t sjid)
{
    return sq_exec(
        s, "DELETE FROM entry_past WHERE ns = ? AND parent = ? AND name = ? AND to_sjid = ?",
        "iibi", ns, parent, name, sjid);
}

static void spend(struct store *s, size_t *left)
{
    size_t n = (size_t)sqlite3_changes(((struct sq *)s)->db);
    *left -= n < *left ? n : *left;
}

static int forget_extents(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid, size_t *left)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "DELETE FROM extent_past WHERE ns = ?1 AND node = ?2 AND to_sjid = ?3 AND off IN "
                "(SELECT off FROM extent_past WHERE ns = ?1 AND node = ?2 AND to_sjid = ?3 "
                "ORDER BY off LIMIT ?4) RETURNING block",
                "iiii", ns, node, sjid, (uint64_t)*left);
    int r, failed = 0;
    size_t n = 0;
    /* all rows are deleted before the first one is returned */
    for (; (r = sq_step(s, st)) > 0 && !failed; n++)
        failed = sq_ref(
            s, ns, bytes_of(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0)), -1);
    sq_done(st);
    *left -= n < *left ? n : *left;
    return failed ? failed : r;
}

int sq_node_rows_forget(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid, size_t *left)
{
    int r = sq_exec(s, "DELETE FROM xattr_past WHERE ns = ? AND node = ? AND to_sjid = ?", "iii",
                    ns, node, sjid);
    if (r)
        return r;
    spend(s, left);
    if (!*left)
        return 0;
    return forget_extents(s, ns, node, sjid, left);
}
