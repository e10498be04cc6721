// SPDX-License-Identifier: Apache-2.0
/* What block servers lack, and the order in which commits became complete there, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

static struct bytes block_bytes(const struct block_id *b)
{
    return bytes_of(b->b, BLOCK_ID_LEN);
}

/* ---- lacks ---------------------------------------------------------------------------------- */
int sq_lack_put(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                uint64_t sjid)
{
    return sq_exec(s, "INSERT OR IGNORE INTO lack (ns, server, block, sjid) VALUES (?, ?, ?, ?)",
                   "iibi", ns, server, block_bytes(b), sjid);
}

int sq_lack_lost(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b)
{
    int r = sq_leave_anew(s, ns);
    if (r)
        return r;
    return sq_exec(s,
                   "INSERT OR IGNORE INTO lack (ns, server, block, sjid) "
                   "SELECT ns, ?2, block, born FROM block WHERE ns = ?1 AND block = ?3 AND EXISTS "
                   "(SELECT 1 FROM placed WHERE ns = ?1 AND server = ?2 AND leaving = 0)",
                   "iib", ns, server, block_bytes(b));
}

int sq_lack_take(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                 uint64_t **sjids, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s, "DELETE FROM lack WHERE ns = ? AND server = ? AND block = ? RETURNING sjid",
                "iib", ns, server, block_bytes(b));
    int r;
    *sjids = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*sjids, *n, ar);
        (*sjids)[(*n)++] = sq_u64(st, 0);
    }
    sq_done(st);
    return r;
}

int sq_lack_of(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid, bool *any)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT 1 FROM lack WHERE ns = ? AND server = ? AND sjid = ? LIMIT 1", "iii", ns,
                server, sjid);
    int r = sq_one(s, st);
    sq_done(st);
    *any = r == 0;
    return r == -ENOENT ? 0 : r;
}

int sq_lack_list(struct store *s, uint64_t ns, uint64_t server, const struct lack_row *after,
                 size_t limit, struct lack_row **v, size_t *n, struct arena *ar)
{
    static const struct lack_row first = {.sjid = INT64_MAX};
    if (!after)
        after = &first;
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT lack.block, len, sjid FROM lack LEFT JOIN block ON block.ns = lack.ns AND "
                "block.block = lack.block WHERE lack.ns = ?1 AND server = ?2 AND " LACKS(?1, ?2)
                " AND (sjid, lack.block) < (?3, ?4) ORDER BY sjid DESC, lack.block DESC LIMIT ?5",
                "iiibi", ns, server, after->sjid, block_bytes(&after->block), (uint64_t)limit);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct lack_row *row = &(*v)[(*n)++];
        sq_fixed(st, 0, row->block.b, BLOCK_ID_LEN);
        row->len = sq_u64(st, 1);
        row->sjid = sq_u64(st, 2);
    }
    sq_done(st);
    return r;
}

int sq_lack_sum(struct store *s, uint64_t ns, uint64_t server, struct lack_sum *sum)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT (SELECT sjid FROM lack WHERE ns = ?1 AND server = ?2 AND " LACKS(
                    ?1, ?2) " ORDER BY sjid LIMIT 1), "
                            "EXISTS (SELECT 1 FROM fill WHERE ns = ?1 AND server = ?2)",
                "ii", ns, server);
    int r = sq_one(s, st);
    *sum = (struct lack_sum){0};
    bool any = false;
    if (!r) {
        any = sqlite3_column_type(st, 0) != SQLITE_NULL; /* what no commit refers to is of SJID 0 */
        sum->oldest = sq_u64(st, 0);
        sum->filling = sq_u64(st, 1) != 0;
    }
    sq_done(st);
    if (r || (!any && !sum->filling))
        return r;
    struct held_row all, there;
    r = sq_held(s, ns, 0, &all);
    if (!r)
        r = sq_held(s, ns, server, &there);
    if (!r) {
        sum->blocks = all.blocks - there.blocks;
        sum->bytes = all.bytes - there.bytes;
    }
    return r;
}

int sq_held(struct store *s, uint64_t ns, uint64_t server, struct held_row *h)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT blocks, bytes FROM held WHERE ns = ?1 AND server = ?2 AND generation = "
                "coalesce((SELECT generation FROM server WHERE id = ?2), 0)",
                "ii", ns, server);
    int r = sq_one(s, st);
    *h = (struct held_row){0};
    if (!r)
        *h = (struct held_row){.blocks = sq_u64(st, 0), .bytes = sq_u64(st, 1)};
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

/* ---- what is not to be read any more --------------------------------------------------------- */
int sq_lack_drop(struct store *s, uint64_t ns, uint64_t server)
{
    int r = sq_exec(s, "DELETE FROM fill WHERE ns = ? AND server = ?", "ii", ns, server);
    return r ? r
             : sq_exec(s, "INSERT OR IGNORE INTO unlack (ns, server) VALUES (?, ?)", "ii", ns,
                       server);
}

int sq_lack_anew(struct store *s, uint64_t ns, uint64_t server)
{
    int r = sq_exec(s, "DELETE FROM unlack WHERE ns = ? AND server = ?", "ii", ns, server);
    return r ? r : sq_exec(s, "DELETE FROM complete WHERE ns = ? AND server = ?", "ii", ns, server);
}

/* At most *left rows of one server, which becomes less. */
static int unlack_rows(struct store *s, uint64_t ns, uint64_t server, size_t *left)
{
    sqlite3 *db = ((struct sq *)s)->db;
    int r = sq_exec(s,
                    "DELETE FROM lack WHERE ns = ?1 AND server = ?2 AND (block, sjid) IN "
                    "(SELECT block, sjid FROM lack WHERE ns = ?1 AND server = ?2 LIMIT ?3)",
                    "iii", ns, server, (uint64_t)*left);
    size_t n = r ? 0 : (size_t)sqlite3_changes(db);
    *left -= n < *left ? n : *left;
    if (r || !*left)
        return r;
    r = sq_exec(s,
                "DELETE FROM complete WHERE ns = ?1 AND server = ?2 AND seq IN "
                "(SELECT seq FROM complete WHERE ns = ?1 AND server = ?2 LIMIT ?3)",
                "iii", ns, server, (uint64_t)*left);
    n = r ? 0 : (size_t)sqlite3_changes(db);
    *left -= n < *left ? n : *left;
    if (r || !*left)
        return r;
    return sq_exec(s, "DELETE FROM unlack WHERE ns = ? AND server = ?", "ii", ns, server);
}

int sq_unlack_step(struct store *s, size_t *left)
{
    int r = 0;
    while (!r && *left) {
        sqlite3_stmt *st = sq_bind(s, "SELECT ns, server FROM unlack LIMIT 1", "");
        uint64_t ns = 0, server = 0;
        r = sq_one(s, st);
        if (!r) {
            ns = sq_u64(st, 0);
            server = sq_u64(st, 1);
        }
        sq_done(st);
        if (r)
            return r == -ENOENT ? 0 : r;
        r = unlack_rows(s, ns, server, left);
    }
    return r;
}

/* ---- filling -------------------------------------------------------------------------------- */
int sq_fill_begin(struct store *s, uint64_t ns, uint64_t server)
{
    int r = sq_leave_anew(s, ns);
    if (!r) /* where it leaves: the rows of before count again */
        r = sq_exec(s, "DELETE FROM unlack WHERE ns = ? AND server = ?", "ii", ns, server);
    return r ? r
             : sq_exec(s,
                       "INSERT OR REPLACE INTO fill (ns, server, below) "
                       "SELECT id, ?2, head + 1 FROM namespace WHERE id = ?1",
                       "ii", ns, server);
}

/* From where on a slice of at most about `blocks` reaches down; 0: it is the last. */
static int slice_end(struct store *s, uint64_t ns, uint64_t below, size_t blocks, uint64_t *low)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT born FROM block WHERE ns = ? AND born < ? "
                               "ORDER BY born DESC LIMIT 1 OFFSET ?",
                               "iii", ns, below, (uint64_t)blocks);
    int r = sq_one(s, st);
    *low = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_fill_step(struct store *s, uint64_t ns, uint64_t server, size_t blocks, bool *more)
{
    uint64_t below = 0, low = 0;
    sqlite3_stmt *st =
        sq_bind(s, "SELECT below FROM fill WHERE ns = ? AND server = ?", "ii", ns, server);
    int r = sq_one(s, st);
    if (!r)
        below = sq_u64(st, 0);
    sq_done(st);
    *more = false;
    if (r)
        return r == -ENOENT ? 0 : r;
    r = slice_end(s, ns, below, blocks, &low);
    if (!r)
        r = sq_exec(s,
                    "INSERT OR IGNORE INTO lack (ns, server, block, sjid) "
                    "SELECT b.ns, ?2, b.block, b.born FROM block AS b "
                    "WHERE b.ns = ?1 AND b.born >= ?3 AND b.born < ?4 AND NOT EXISTS "
                    "(SELECT 1 FROM presence AS p JOIN server ON id = p.server WHERE p.ns = ?1 "
                    "AND p.block = b.block AND p.generation = server.generation AND (p.server = ?2 "
                    "OR EXISTS (SELECT 1 FROM placed AS l WHERE l.ns = ?1 AND l.server = ?2 AND "
                    "l.leaving != 0)))",
                    "iiii", ns, server, low, below);
    *more = low > 0;
    if (!r && low)
        r = sq_exec(s, "UPDATE fill SET below = ?3 WHERE ns = ?1 AND server = ?2", "iii", ns,
                    server, low);
    else if (!r)
        r = sq_exec(s, "DELETE FROM fill WHERE ns = ? AND server = ?", "ii", ns, server);
    return r;
}

/* ---- the order of completion ---------------------------------------------------------------- */
int sq_complete_begin(struct store *s, uint64_t ns, uint64_t server)
{
    return sq_exec(s,
                   "INSERT INTO complete (ns, server, seq, sjid, n) "
                   "SELECT id, ?2, 0, 0, head + 1 FROM namespace WHERE id = ?1",
                   "ii", ns, server);
}

/* The last run that begins at or before the SJID. */
static int has_number(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid, bool *has)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT sjid + n FROM complete WHERE ns = ? AND server = ? AND "
                               "sjid <= ? ORDER BY sjid DESC LIMIT 1",
                               "iii", ns, server, sjid);
    int r = sq_one(s, st);
    *has = !r && sq_u64(st, 0) > sjid;
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_complete_add(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid)
{
    uint64_t seq = 0, end = 0, n = 0;
    bool has;
    int r = has_number(s, ns, server, sjid, &has);
    if (r || has)
        return r;
    sqlite3_stmt *st =
        sq_bind(s, "SELECT 1 FROM namespace WHERE id = ? AND floor >= ?", "ii", ns, sjid);
    r = sq_one(s, st);
    sq_done(st);
    if (r != -ENOENT) /* its record is gone: there is nothing to tell of it */
        return r;
    st = sq_bind(s,
                 "SELECT seq, sjid + n, n FROM complete WHERE ns = ? AND server = ? "
                 "ORDER BY seq DESC LIMIT 1",
                 "ii", ns, server);
    r = sq_one(s, st);
    if (!r) {
        seq = sq_u64(st, 0);
        end = sq_u64(st, 1);
        n = sq_u64(st, 2);
    }
    sq_done(st);
    if (r)
        return r == -ENOENT ? 0 : r; /* not assigned */
    if (end == sjid && seq)
        return sq_exec(s, "UPDATE complete SET n = n + 1 WHERE ns = ? AND server = ? AND seq = ?",
                       "iii", ns, server, seq);
    return sq_exec(s, "INSERT INTO complete (ns, server, seq, sjid, n) VALUES (?, ?, ?, ?, 1)",
                   "iiii", ns, server, seq + n, sjid);
}

int sq_complete_next(struct store *s, uint64_t ns, uint64_t server, uint64_t after,
                     struct run_row *run)
{
    /* the run that the next number is in, else the one that begins next */
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT seq, sjid, n FROM complete WHERE ns = ?1 AND server = ?2 "
                               "AND seq > 0 AND seq <= ?3 + 1 ORDER BY seq DESC LIMIT 1",
                               "iii", ns, server, after);
    int r = sq_one(s, st);
    if (r == -ENOENT || (!r && sq_u64(st, 0) + sq_u64(st, 2) - 1 <= after)) {
        sq_done(st);
        st = sq_bind(s,
                     "SELECT seq, sjid, n FROM complete WHERE ns = ?1 AND server = ?2 AND "
                     "seq > max(?3, 0) ORDER BY seq LIMIT 1",
                     "iii", ns, server, after);
        r = sq_one(s, st);
    }
    if (!r) {
        uint64_t seq = sq_u64(st, 0), skip = after >= seq ? after + 1 - seq : 0;
        *run = (struct run_row){
            .seq = seq + skip, .sjid = sq_u64(st, 1) + skip, .n = sq_u64(st, 2) - skip};
    }
    sq_done(st);
    return r;
}

int sq_complete_last(struct store *s, uint64_t ns, uint64_t server, uint64_t *seq)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT seq + n - 1 FROM complete WHERE ns = ? AND server = ? "
                               "ORDER BY seq DESC LIMIT 1",
                               "ii", ns, server);
    int r = sq_one(s, st);
    *seq = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_complete_forget(struct store *s, uint64_t ns, uint64_t upto, size_t *left)
{
    /* the newest run of each server stays: the next number follows from it */
    int r = sq_exec(s,
                    "DELETE FROM complete WHERE (ns, server, seq) IN "
                    "(SELECT c.ns, c.server, c.seq FROM assignment AS a JOIN complete AS c "
                    "ON c.ns = a.ns AND c.server = a.server WHERE a.ns = ?1 AND c.sjid <= ?2 AND "
                    "c.sjid + c.n - 1 <= ?2 AND c.seq > 0 AND EXISTS (SELECT 1 FROM complete AS d "
                    "WHERE d.ns = c.ns AND d.server = c.server AND d.seq > c.seq) LIMIT ?3)",
                    "iii", ns, upto, (uint64_t)*left);
    size_t n = r ? 0 : (size_t)sqlite3_changes(((struct sq *)s)->db);
    *left -= n < *left ? n : *left;
    return r;
}

/* ---- who serves what ------------------------------------------------------------------------- */
int sq_ns_of_server(struct store *s, uint64_t server, uint64_t after, size_t limit, uint64_t **v,
                    size_t *n, struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT ns FROM placed WHERE server = ? AND ns > ? ORDER BY ns LIMIT ?", "iii",
                server, after, (uint64_t)limit);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = sq_u64(st, 0);
    }
    sq_done(st);
    return r;
}
