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
                "block.block = lack.block WHERE lack.ns = ? AND server = ? AND "
                "(sjid, lack.block) < (?, ?) ORDER BY sjid DESC, lack.block DESC LIMIT ?",
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

int sq_lack_sum(struct store *s, uint64_t ns, uint64_t server, size_t max, struct lack_sum *sum)
{
    /* a block may be lacking for several commits: it is counted for each up to the bound */
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT count(*), coalesce(sum(len), 0), coalesce(min(sjid), 0) FROM "
                "(SELECT len, sjid FROM lack LEFT JOIN block ON block.ns = lack.ns AND "
                "block.block = lack.block WHERE lack.ns = ?1 AND server = ?2 "
                "ORDER BY sjid LIMIT ?3)",
                "iii", ns, server, (uint64_t)max);
    int r = sq_one(s, st);
    if (!r)
        *sum = (struct lack_sum){
            .blocks = sq_u64(st, 0), .bytes = sq_u64(st, 1), .oldest = sq_u64(st, 2)};
    sq_done(st);
    if (r)
        return r;
    st = sq_bind(s, "SELECT 1 FROM fill WHERE ns = ? AND server = ?", "ii", ns, server);
    r = sq_one(s, st);
    sq_done(st);
    sum->filling = r == 0;
    return r == -ENOENT ? 0 : r;
}

int sq_lack_count(struct store *s, uint64_t ns, uint64_t server, uint64_t *n)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT count(*) FROM (SELECT DISTINCT block FROM lack "
                               "WHERE ns = ? AND server = ?)",
                               "ii", ns, server);
    int r = sq_one(s, st);
    *n = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_lack_drop(struct store *s, uint64_t ns, uint64_t server)
{
    int r = sq_exec(s, "DELETE FROM lack WHERE ns = ? AND server = ?", "ii", ns, server);
    if (!r)
        r = sq_exec(s, "DELETE FROM fill WHERE ns = ? AND server = ?", "ii", ns, server);
    return r ? r : sq_exec(s, "DELETE FROM complete WHERE ns = ? AND server = ?", "ii", ns, server);
}

/* ---- filling -------------------------------------------------------------------------------- */
int sq_fill_begin(struct store *s, uint64_t ns, uint64_t server)
{
    return sq_exec(s,
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
                    "AND p.block = b.block AND p.server = ?2 "
                    "AND p.generation = server.generation)",
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

/* ---- leaving -------------------------------------------------------------------------------- */
int sq_leave(struct store *s, uint64_t ns, uint64_t server, bool leaving)
{
    return sq_exec(s, "UPDATE assignment SET leaving = ?3 WHERE ns = ?1 AND server = ?2", "iii", ns,
                   server, (uint64_t)leaving);
}

/* A block with too few copies is lacking at all of `stay` but fewer than ?3 servers, and so at one
 * at least of any ?3 of them: only what those lack that are the least behind is looked at, however
 * much the others do. Who is further behind than the bound counts as equal. */
#define LEAST_BEHIND                                                                               \
    "server IN (SELECT server FROM stay ORDER BY (SELECT count(*) FROM (SELECT 1 FROM lack AS b "  \
    "WHERE b.ns = ?1 AND b.server = stay.server LIMIT 10000)) LIMIT ?3) AND EXISTS "

int sq_leave_blocked(struct store *s, uint64_t ns, uint64_t server, uint64_t copies,
                     uint64_t heard_ms, bool *blocked)
{
    /* Only blocks that somebody lacks can have too few copies; while another server is being
     * filled, what it lacks is not all known. With fewer servers than copies nothing goes. */
    sqlite3_stmt *st =
        sq_bind(s,
                "WITH stay AS (SELECT server FROM placed JOIN server ON id = placed.server "
                "WHERE ns = ?1 AND leaving = 0 AND " HEARD_SINCE(?4) ") "
                "SELECT 1 WHERE EXISTS (SELECT 1 FROM fill WHERE ns = ?1 AND server IN stay) "
                "OR ((SELECT count(*) FROM stay) < ?3 AND EXISTS "
                "(SELECT 1 FROM block WHERE ns = ?1)) "
                "OR EXISTS (SELECT 1 FROM lack WHERE ns = ?1 AND " LEAST_BEHIND
                "(SELECT 1 FROM presence AS p JOIN server ON id = p.server WHERE p.ns = ?1 AND "
                "p.block = lack.block AND p.server = ?2 AND p.generation = server.generation) "
                "AND (SELECT count(DISTINCT l.server) FROM lack AS l WHERE l.ns = ?1 AND "
                "l.server IN stay AND l.block = lack.block) > "
                "(SELECT count(*) FROM stay) - ?3)",
                "iiii", ns, server, copies, heard_ms);
    int r = sq_one(s, st);
    sq_done(st);
    *blocked = r == 0;
    return r == -ENOENT ? 0 : r;
}

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
