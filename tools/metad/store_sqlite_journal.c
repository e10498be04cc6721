// SPDX-License-Identifier: Apache-2.0
/* Blocks, presence, the journal, and what is kept per device and request, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

static struct bytes block_bytes(const struct block_id *b)
{
    return bytes_of(b->b, BLOCK_ID_LEN);
}

int sq_block_get(struct store *s, uint64_t ns, const struct block_id *b, uint64_t *len)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT len FROM block WHERE ns = ? AND block = ?", "ib", ns, block_bytes(b));
    int r = sq_one(s, st);
    if (!r)
        *len = sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_block_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t len,
                 uint64_t born)
{
    return sq_exec(s,
                   "INSERT INTO block (ns, block, len, born) VALUES (?, ?, ?, ?) "
                   "ON CONFLICT (ns, block) DO UPDATE SET unused_ms = 0 WHERE unused_ms > 0",
                   "ibii", ns, block_bytes(b), len, born);
}

int sq_holders(struct store *s, uint64_t ns, const struct block_id *b,
               struct holder_row v[CANDIDATES_MAX], size_t *n)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT server, generation FROM presence WHERE ns = ? AND block = ? LIMIT ?",
                "ibi", ns, block_bytes(b), (uint64_t)CANDIDATES_MAX);
    int r;
    *n = 0;
    while ((r = sq_step(s, st)) > 0)
        v[(*n)++] = (struct holder_row){.server = sq_u64(st, 0), .generation = sq_u64(st, 1)};
    sq_done(st);
    return r;
}

/* ---- journal -------------------------------------------------------------------------------- */
int sq_journal_add(struct store *s, uint64_t ns, const struct m_record *r, struct bytes encoded)
{
    return sq_exec(s,
                   "INSERT INTO journal (ns, sjid, device, request, time_ms, record) "
                   "VALUES (?, ?, ?, ?, ?, ?)",
                   "iiiiib", ns, r->sjid, r->device, r->request, r->time_ms, encoded);
}

int sq_journal_list(struct store *s, uint64_t ns, uint64_t after, uint64_t limit_bytes, size_t max,
                    struct bytes **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT record FROM journal WHERE ns = ? AND sjid > ? ORDER BY sjid LIMIT ?",
                "iii", ns, after, (uint64_t)max);
    uint64_t bytes = 0;
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        bytes += (uint64_t)sqlite3_column_bytes(st, 0);
        if (*n && bytes > limit_bytes)
            break;
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = sq_bytes(st, 0, ar);
    }
    sq_done(st);
    return r < 0 ? r : 0;
}

int sq_mark_put(struct store *s, uint64_t ns, uint64_t sjid, uint64_t mark)
{
    return sq_exec(s, "INSERT INTO mark (ns, sjid, mark) VALUES (?, ?, ?)", "iii", ns, sjid, mark);
}

int sq_mark_get(struct store *s, uint64_t ns, uint64_t sjid, uint64_t *mark)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT mark FROM mark WHERE ns = ? AND sjid = ?", "ii", ns, sjid);
    int r = sq_one(s, st);
    *mark = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_mark_thin(struct store *s, uint64_t ns, uint64_t from, uint64_t below, uint64_t step)
{
    return sq_exec(s, "DELETE FROM mark WHERE ns = ? AND sjid >= ? AND sjid < ? AND sjid % ? != 0",
                   "iiii", ns, from, below, step);
}

/* ---- requests and peers --------------------------------------------------------------------- */
int sq_request_get(struct store *s, uint64_t ns, uint64_t device, uint64_t request,
                   struct request_row *r, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT hash, status, sjid, answer FROM request "
                               "WHERE ns = ? AND device = ? AND request = ?",
                               "iii", ns, device, request);
    int ret = sq_one(s, st);
    if (!ret) {
        r->request = request;
        sq_fixed(st, 0, r->hash, sizeof r->hash);
        r->status = sq_u64(st, 1);
        r->sjid = sq_u64(st, 2);
        r->answer = sq_bytes(st, 3, ar);
    }
    sq_done(st);
    return ret;
}

int sq_request_put(struct store *s, uint64_t ns, uint64_t device, const struct request_row *r)
{
    return sq_exec(
        s,
        "INSERT OR REPLACE INTO request (ns, device, request, hash, status, sjid, answer) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        "iiibiib", ns, device, r->request, bytes_of(r->hash, sizeof r->hash), r->status, r->sjid,
        r->answer);
}

int sq_request_list(struct store *s, uint64_t ns, uint64_t device, uint64_t from, size_t max,
                    struct request_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT request, status, sjid FROM request WHERE ns = ? AND "
                               "device = ? AND request >= ? ORDER BY request LIMIT ?",
                               "iiii", ns, device, from, (uint64_t)max);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = (struct request_row){
            .request = sq_u64(st, 0), .status = sq_u64(st, 1), .sjid = sq_u64(st, 2)};
    }
    sq_done(st);
    return r;
}

int sq_request_forget(struct store *s, uint64_t ns, uint64_t device, uint64_t below)
{
    int r = sq_exec(s, "DELETE FROM request WHERE ns = ? AND device = ? AND request < ?", "iii", ns,
                    device, below);
    if (r)
        return r;
    return sq_exec(s, "DELETE FROM stage WHERE ns = ? AND device = ? AND request < ?", "iii", ns,
                   device, below);
}

int sq_peer_get(struct store *s, uint64_t ns, uint64_t device, struct peer_row *p)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT lowest_open, highest_request, highest_node FROM peer "
                               "WHERE ns = ? AND device = ?",
                               "ii", ns, device);
    int r = sq_one(s, st);
    if (!r)
        *p = (struct peer_row){.lowest_open = sq_u64(st, 0),
                               .highest_request = sq_u64(st, 1),
                               .highest_node = sq_u64(st, 2)};
    sq_done(st);
    return r;
}

int sq_peer_put(struct store *s, uint64_t ns, uint64_t device, const struct peer_row *p)
{
    return sq_exec(s,
                   "INSERT OR REPLACE INTO peer (ns, device, lowest_open, highest_request, "
                   "highest_node) VALUES (?, ?, ?, ?, ?)",
                   "iiiii", ns, device, p->lowest_open, p->highest_request, p->highest_node);
}

/* ---- staged parts --------------------------------------------------------------------------- */
int sq_stage_put(struct store *s, uint64_t ns, uint64_t device, uint64_t request, uint64_t part,
                 struct bytes changes)
{
    return sq_exec(s,
                   "INSERT OR REPLACE INTO stage (ns, device, request, part, changes) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "iiiib", ns, device, request, part, changes);
}

int sq_stage_join(struct store *s, uint64_t ns, uint64_t device, uint64_t request, uint64_t parts,
                  struct buf *out)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT part, changes FROM stage WHERE ns = ? AND device = ? AND "
                               "request = ? AND part < ? ORDER BY part",
                               "iiii", ns, device, request, parts);
    uint64_t next = 0;
    int r;
    while ((r = sq_step(s, st)) > 0 && sq_u64(st, 0) == next) {
        buf_append(out, sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1));
        next++;
    }
    sq_done(st);
    return r < 0 ? r : next == parts ? 0 : -ENOENT;
}

int sq_stage_bytes(struct store *s, uint64_t ns, uint64_t device, uint64_t *bytes)
{
    sqlite3_stmt *st = sq_bind(
        s, "SELECT coalesce(sum(length(changes)), 0) FROM stage WHERE ns = ? AND device = ?", "ii",
        ns, device);
    int r = sq_one(s, st);
    if (!r)
        *bytes = sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_stage_drop(struct store *s, uint64_t ns, uint64_t device, uint64_t request)
{
    return sq_exec(s, "DELETE FROM stage WHERE ns = ? AND device = ? AND request = ?", "iii", ns,
                   device, request);
}
