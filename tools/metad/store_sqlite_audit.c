// SPDX-License-Identifier: Apache-2.0
/* Ordered checks and what they found, and where the pieces of files are, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

static struct bytes block_bytes(const struct block_id *b)
{
    return bytes_of(b->b, BLOCK_ID_LEN);
}

/* ---- orders --------------------------------------------------------------------------------- */
int sq_audit_order(struct store *s, uint64_t server, uint64_t number, bool read, bool mend,
                   int64_t now_ms)
{
    int r = sq_exec(s, "DELETE FROM finding WHERE server = ?", "i", server);
    return r ? r
             : sq_exec(s,
                       "INSERT OR REPLACE INTO audit (server, number, read, mend, at_ms) "
                       "VALUES (?, ?, ?, ?, ?)",
                       "iiiii", server, number, (uint64_t)read, (uint64_t)mend, now_ms);
}

int sq_audit_report(struct store *s, uint64_t server, const struct m_check *c, int64_t now_ms)
{
    return sq_exec(
        s,
        "UPDATE audit SET at_ms = CASE WHEN looked + compared < ?5 + ?6 OR ?3 "
        "THEN ?13 ELSE at_ms END, told = 1, done = ?3, blocks = ?4, looked = ?5, compared = ?6, "
        "damaged = ?7, unreadable = ?8, not_there = ?9, unrecorded = ?10, "
        "unneeded = ?11, unknown = ?12 WHERE server = ?1 AND number = ?2 AND done = 0",
        "iiiiiiiiiiiii", server, c->order, (uint64_t)c->done, c->blocks, c->looked, c->compared,
        c->damaged, c->unreadable, c->not_there, c->unrecorded, c->unneeded, c->unknown, now_ms);
}

int sq_audit_get(struct store *s, uint64_t server, struct audit_row *a)
{
    sqlite3_stmt *st = sq_bind(
        s,
        "SELECT number, read, mend, at_ms, done, blocks, looked, compared, damaged, "
        "unreadable, not_there, unrecorded, unneeded, unknown, told FROM audit WHERE server = ?",
        "i", server);
    int r = sq_one(s, st);
    *a = (struct audit_row){0};
    if (!r) {
        a->read = sq_u64(st, 1) != 0;
        a->mend = sq_u64(st, 2) != 0;
        a->at_ms = sq_u64(st, 3);
        a->told = sq_u64(st, 14) != 0;
        a->c = (struct m_check){.order = sq_u64(st, 0),
                                .done = sq_u64(st, 4) != 0,
                                .blocks = sq_u64(st, 5),
                                .looked = sq_u64(st, 6),
                                .compared = sq_u64(st, 7),
                                .damaged = sq_u64(st, 8),
                                .unreadable = sq_u64(st, 9),
                                .not_there = sq_u64(st, 10),
                                .unrecorded = sq_u64(st, 11),
                                .unneeded = sq_u64(st, 12),
                                .unknown = sq_u64(st, 13)};
    }
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_audit_end(struct store *s, uint64_t number)
{
    return sq_exec(s,
                   "DELETE FROM finding WHERE server IN "
                   "(SELECT server FROM audit WHERE number = ?)",
                   "i", number);
}

int sq_audit_renewed(struct store *s, uint64_t server)
{
    return sq_exec(s, "DELETE FROM finding WHERE server = ?", "i", server);
}

int sq_finding_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                   bool there, uint64_t generation)
{
    return sq_exec(s,
                   "INSERT OR REPLACE INTO finding (ns, block, server, there, generation) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "ibiii", ns, block_bytes(b), server, (uint64_t)there, generation);
}

/* ---- where things are ------------------------------------------------------------------------ */
int sq_extent_page(struct store *s, uint64_t ns, uint64_t node, uint64_t off, size_t limit,
                   struct piece_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT node, off, len, block FROM extent WHERE ns = ? AND "
                               "(node, off) > (?, ?) ORDER BY node, off LIMIT ?",
                               "iiii", ns, node, off, (uint64_t)limit);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct piece_row *p = &(*v)[(*n)++];
        *p = (struct piece_row){.node = sq_u64(st, 0), .off = sq_u64(st, 1), .len = sq_u64(st, 2)};
        sq_fixed(st, 3, p->block.b, BLOCK_ID_LEN);
    }
    sq_done(st);
    return r;
}

int sq_block_at(struct store *s, uint64_t ns, const struct block_id *b,
                struct found_row v[2 * CANDIDATES_MAX], size_t *n)
{
    sqlite3_stmt *st = sq_bind(
        s,
        "SELECT p.server, 1 FROM presence AS p JOIN server ON id = p.server "
        "AND server.generation = p.generation WHERE p.ns = ?1 AND p.block = ?2 AND NOT EXISTS "
        "(SELECT 1 FROM finding AS f WHERE f.ns = ?1 AND f.block = ?2 AND f.server = p.server "
        "AND f.there = 0 AND f.generation > p.proof) UNION ALL "
        "SELECT server, 0 FROM finding WHERE ns = ?1 AND block = ?2 AND there = 1",
        "ib", ns, block_bytes(b));
    int r;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        if (*n < 2 * CANDIDATES_MAX)
            v[(*n)++] = (struct found_row){.server = sq_u64(st, 0), .recorded = sq_u64(st, 1) != 0};
    }
    sq_done(st);
    return r;
}

int sq_lack_noted(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                  bool *yes)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT 1 WHERE EXISTS (SELECT 1 FROM fill WHERE ns = ?1 AND server = ?2) OR "
                "EXISTS (SELECT 1 FROM lack WHERE ns = ?1 AND server = ?2 AND block = ?3)",
                "iib", ns, server, block_bytes(b));
    int r = sq_one(s, st);
    sq_done(st);
    *yes = r == 0;
    return r == -ENOENT ? 0 : r;
}

int sq_lack_curable(struct store *s, uint64_t ns, uint64_t server, uint64_t heard_ms, size_t max,
                    bool *yes)
{
    uint64_t looked = 0, curable = 0;
    sqlite3_stmt *st = sq_bind(
        s,
        "SELECT count(*), coalesce(sum(EXISTS (SELECT 1 FROM presence AS p JOIN placed AS a "
        "ON a.ns = ?1 AND a.server = p.server JOIN server AS h ON h.id = p.server "
        "AND h.generation = p.generation AND " HEARD_SINCE(?3) " "
        "WHERE p.ns = ?1 AND p.block = l.block AND p.server <> ?2)), 0) "
        "FROM (SELECT block FROM lack WHERE ns = ?1 AND server = ?2 AND " LACKS(?1, ?2) " LIMIT ?4) AS l",
        "iiii", ns, server, heard_ms, (uint64_t)max);
    int r = sq_one(s, st);
    if (!r) {
        looked = sq_u64(st, 0);
        curable = sq_u64(st, 1);
    }
    sq_done(st);
    *yes = curable > 0 || looked == max;
    return r;
}
