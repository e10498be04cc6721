// SPDX-License-Identifier: Apache-2.0
/* Presence, and what block servers no longer have, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

#define LOOKED_MAX 16384u /* rows of presence, for one page of one namespace */

static struct bytes block_bytes(const struct block_id *b)
{
    return bytes_of(b->b, BLOCK_ID_LEN);
}

/* ---- presence ------------------------------------------------------------------------------- */
int sq_presence_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                    uint64_t generation, uint64_t proof)
{
    /* one that leaves has something more that may keep it */
    int r = sq_exec(s, "DELETE FROM leave_look WHERE ns = ? AND server = ?", "ii", ns, server);
    if (r)
        return r;
    return sq_exec(s,
                   "INSERT INTO presence (ns, block, server, generation, proof) "
                   "VALUES (?, ?, ?, ?, ?) ON CONFLICT (ns, block, server) DO UPDATE SET "
                   "proof = CASE WHEN generation = excluded.generation "
                   "THEN max(proof, excluded.proof) ELSE excluded.proof END, "
                   "generation = excluded.generation",
                   "ibiii", ns, block_bytes(b), server, generation, proof);
}

int sq_presence_drop(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                     uint64_t before, bool *left)
{
    int r =
        sq_exec(s, "DELETE FROM presence WHERE ns = ? AND block = ? AND server = ? AND proof < ?",
                "ibii", ns, block_bytes(b), server, before);
    sqlite3_stmt *st =
        r ? NULL
          : sq_bind(s, "SELECT 1 FROM presence WHERE ns = ? AND block = ? AND server = ?", "ibi",
                    ns, block_bytes(b), server);
    if (!r)
        r = sq_one(s, st);
    sq_done(st);
    *left = r == 0;
    return r == -ENOENT ? 0 : r;
}

/* *upto becomes no more than the block of the row that LOOKED_MAX rows come before. */
static int cut_range(struct store *s, uint64_t ns, const struct block_id *after,
                     struct block_id *upto)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT block FROM presence WHERE ns = ? AND block > ? AND "
                "block <= ? ORDER BY block LIMIT 1 OFFSET ?",
                "ibbi", ns, block_bytes(after), block_bytes(upto), (uint64_t)LOOKED_MAX);
    int r = sq_one(s, st);
    if (!r)
        sq_fixed(st, 0, upto->b, BLOCK_ID_LEN);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_presence_list(struct store *s, uint64_t ns, uint64_t server, uint64_t generation,
                     uint64_t before, const struct block_id *after, struct block_id *upto,
                     size_t max, struct block_id **v, size_t *n, struct arena *ar)
{
    *v = NULL;
    *n = 0;
    int r = cut_range(s, ns, after, upto);
    if (r)
        return r;
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT block FROM presence WHERE ns = ? AND block > ? AND "
                               "block <= ? AND server = ? AND generation = ? AND proof < ? "
                               "ORDER BY block LIMIT ?",
                               "ibbiiii", ns, block_bytes(after), block_bytes(upto), server,
                               generation, before, (uint64_t)max);
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        sq_fixed(st, 0, (*v)[(*n)++].b, BLOCK_ID_LEN);
    }
    sq_done(st);
    return r;
}

/* ---- gone ----------------------------------------------------------------------------------- */
int sq_gone_get(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                uint64_t *generation, enum gone_state *due)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT generation, due FROM gone WHERE ns = ? AND block = ? AND server = ?",
                "ibi", ns, block_bytes(b), server);
    int r = sq_one(s, st);
    *generation = r ? 0 : sq_u64(st, 0);
    *due = r ? GONE : (enum gone_state)sq_u64(st, 1);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_gone_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                uint64_t generation, int64_t now_ms)
{
    return sq_exec(s,
                   "INSERT INTO gone (ns, block, server, generation, at_ms) VALUES (?, ?, ?, ?, ?) "
                   "ON CONFLICT (ns, block, server) DO UPDATE SET at_ms = excluded.at_ms, "
                   "generation = max(generation, excluded.generation)",
                   "ibiii", ns, block_bytes(b), server, generation, now_ms);
}
