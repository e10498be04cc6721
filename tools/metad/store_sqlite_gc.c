// SPDX-License-Identifier: Apache-2.0
/* References to blocks, and what block servers are to remove, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

static struct bytes block_bytes(const struct block_id *b)
{
    return bytes_of(b->b, BLOCK_ID_LEN);
}

/* ---- references ----------------------------------------------------------------------------- */
int sq_ref(struct store *s, uint64_t ns, struct bytes block, int64_t n)
{
    return sq_exec(s,
                   "UPDATE block SET refs = refs + ?3, unused_ms = 0 WHERE ns = ?1 AND block = ?2",
                   "ibi", ns, block, n);
}

int sq_ref_each(struct store *s, uint64_t ns, sqlite3_stmt *st, int64_t n)
{
    int r, failed = 0;
    while ((r = sq_step(s, st)) > 0 && !failed)
        failed = sq_ref(
            s, ns, bytes_of(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0)), n);
    sq_done(st);
    return failed ? failed : r;
}

/* Two looks into the index: with an OR between them SQLite reads all blocks of the namespace. */
int sq_unused_note(struct store *s, uint64_t ns, int64_t now_ms, size_t max, size_t *n)
{
    int r = sq_exec(s,
                    "UPDATE block SET unused_ms = ?2 WHERE ns = ?1 AND block IN (SELECT block FROM "
                    "(SELECT block FROM block INDEXED BY block_unused WHERE ns = ?1 AND refs = 0 "
                    "AND unused_ms = 0 UNION ALL "
                    "SELECT block FROM block INDEXED BY block_unused WHERE ns = ?1 AND refs = 0 "
                    "AND unused_ms > ?2) LIMIT ?3)",
                    "iii", ns, now_ms, (uint64_t)max);
    *n = r ? 0 : (size_t)sqlite3_changes(((struct sq *)s)->db);
    return r;
}

int sq_unused_list(struct store *s, uint64_t ns, uint64_t before_ms, size_t max,
                   struct unused_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT block, len FROM block WHERE ns = ? AND refs = 0 AND "
                               "unused_ms > 0 AND unused_ms < ? ORDER BY unused_ms LIMIT ?",
                               "iii", ns, before_ms, (uint64_t)max);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct unused_row *row = &(*v)[(*n)++];
        sq_fixed(st, 0, row->block.b, BLOCK_ID_LEN);
        row->len = sq_u64(st, 1);
    }
    sq_done(st);
    return r;
}

int sq_unused_sum(struct store *s, uint64_t ns, uint64_t before_ms, size_t max,
                  struct unused_sum *sum)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT count(*), coalesce(sum(len), 0), coalesce(sum(due), 0), "
                "coalesce(sum(due * len), 0) FROM (SELECT len, "
                "unused_ms > 0 AND unused_ms < ?2 AS due FROM block WHERE ns = ?1 AND refs = 0 "
                "ORDER BY unused_ms LIMIT ?3)",
                "iii", ns, before_ms, (uint64_t)max);
    int r = sq_one(s, st);
    if (!r)
        *sum = (struct unused_sum){.blocks = sq_u64(st, 0),
                                   .bytes = sq_u64(st, 1),
                                   .due_blocks = sq_u64(st, 2),
                                   .due_bytes = sq_u64(st, 3)};
    sq_done(st);
    return r;
}

int sq_block_drop(struct store *s, uint64_t ns, const struct block_id *b)
{
    int r = sq_exec(s, "DELETE FROM presence WHERE ns = ? AND block = ?", "ib", ns, block_bytes(b));
    return r ? r
             : sq_exec(s, "DELETE FROM block WHERE ns = ? AND block = ? AND refs = 0", "ib", ns,
                       block_bytes(b));
}

/* ---- what is to be removed ------------------------------------------------------------------ */
int sq_gone_due(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                int64_t now_ms)
{
    return sq_exec(s,
                   "INSERT INTO gone (ns, block, server, generation, at_ms, due) "
                   "VALUES (?, ?, ?, 0, ?, 1) ON CONFLICT (ns, block, server) DO UPDATE SET "
                   "at_ms = excluded.at_ms, due = max(due, 1)",
                   "ibii", ns, block_bytes(b), server, now_ms);
}

int sq_gone_order(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                  uint64_t generation, enum gone_state due, int64_t now_ms)
{
    return sq_exec(s,
                   "UPDATE gone SET generation = max(generation, ?4), due = ?5, at_ms = ?6 "
                   "WHERE ns = ?1 AND block = ?2 AND server = ?3",
                   "ibiiii", ns, block_bytes(b), server, generation, (uint64_t)due, now_ms);
}

int sq_gone_done(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                 uint64_t generation, int64_t now_ms, bool *was)
{
    int r = sq_exec(s,
                    "UPDATE gone SET due = 0, at_ms = ? "
                    "WHERE ns = ? AND block = ? AND server = ? AND generation = ? AND due = 2",
                    "iibii", now_ms, ns, block_bytes(b), server, generation);
    *was = !r && sqlite3_changes(((struct sq *)s)->db) > 0;
    return r;
}

int sq_gone_list(struct store *s, uint64_t server, size_t max, struct gone_row **v, size_t *n,
                 struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT ns, block, generation, due FROM gone "
                               "WHERE server = ? AND due > 0 ORDER BY ns, block LIMIT ?",
                               "ii", server, (uint64_t)max);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct gone_row *row = &(*v)[(*n)++];
        row->ns = sq_u64(st, 0);
        sq_fixed(st, 1, row->block.b, BLOCK_ID_LEN);
        row->generation = sq_u64(st, 2);
        row->due = (enum gone_state)sq_u64(st, 3);
    }
    sq_done(st);
    return r;
}

int sq_gone_count(struct store *s, uint64_t server, uint64_t ns, size_t max, uint64_t *n)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT count(*) FROM (SELECT 1 FROM gone WHERE server = ?1 AND "
                               "due > 0 AND (?2 = 0 OR ns = ?2) LIMIT ?3)",
                               "iii", server, ns, (uint64_t)max);
    int r = sq_one(s, st);
    *n = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_gone_forget(struct store *s, uint64_t before_ms, size_t max)
{
    return sq_exec(s,
                   "DELETE FROM gone WHERE due = 0 AND (ns, block, server) IN "
                   "(SELECT ns, block, server FROM gone WHERE due = 0 AND at_ms < ? LIMIT ?)",
                   "ii", before_ms, (uint64_t)max);
}

int sq_gone_renewed(struct store *s, uint64_t server)
{
    return sq_exec(s, "DELETE FROM gone WHERE server = ?", "i", server);
}
