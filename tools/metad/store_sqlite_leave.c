// SPDX-License-Identifier: Apache-2.0
/* Whether a server may leave a namespace, and what it still has when it has left, on SQLite.
 *
 * A block with too few copies elsewhere is lacking at all but fewer than `copies` of the servers
 * that stay, and so at one at least of any `copies` of them: those that lack the least are chosen,
 * and what they lack is gone through in order, some rows a call. What was passed stays passed as
 * long as the same servers stay and nothing is lost there (sq_leave_anew); where a block was found
 * that keeps the server, the next call begins with it. */
#include "store_sqlite.h"

#include <errno.h>
#include <string.h>

#define LOOKED_MAX 10000u /* rows, in one call */

int sq_leave(struct store *s, uint64_t ns, uint64_t server, bool leaving)
{
    int r = sq_leave_anew(s, ns);
    return r ? r
             : sq_exec(s, "UPDATE assignment SET leaving = ?3 WHERE ns = ?1 AND server = ?2", "iii",
                       ns, server, (uint64_t)leaving);
}

int sq_leave_anew(struct store *s, uint64_t ns)
{
    return sq_exec(s, "DELETE FROM leave_look WHERE ns = ?", "i", ns);
}

/* ---- a storage that began anew --------------------------------------------------------------- */
int sq_anew(struct store *s, uint64_t ns, uint64_t server, bool yes)
{
    return sq_exec(s,
                   yes ? "INSERT OR IGNORE INTO anew (ns, server) VALUES (?, ?)"
                       : "DELETE FROM anew WHERE ns = ? AND server = ?",
                   "ii", ns, server);
}

int sq_anew_get(struct store *s, uint64_t ns, uint64_t server, bool *yes)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT 1 FROM anew WHERE ns = ? AND server = ?", "ii", ns, server);
    int r = sq_one(s, st);
    sq_done(st);
    *yes = r == 0;
    return r == -ENOENT ? 0 : r;
}

/* Whether it may have what nobody who stays has: what it lacks, as far as is known, without what
 * one of the others has by now. Those go LOOKED_MAX rows a call. */
static int may_have(struct store *s, uint64_t ns, uint64_t server, bool *yes)
{
    int r = sq_anew_get(s, ns, server, yes);
    if (r || !*yes)
        return r;
    r = sq_exec(s,
                "DELETE FROM lack WHERE ns = ?1 AND server = ?2 AND (block, sjid) IN "
                "(SELECT block, sjid FROM lack WHERE ns = ?1 AND server = ?2 LIMIT ?3) AND EXISTS "
                "(SELECT 1 FROM presence AS p JOIN server AS s ON s.id = p.server AND "
                "s.generation = p.generation JOIN placed AS a ON a.ns = p.ns AND "
                "a.server = p.server AND a.leaving = 0 WHERE p.ns = ?1 AND p.block = lack.block)",
                "iii", ns, server, (uint64_t)LOOKED_MAX);
    if (r)
        return r;
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT 1 WHERE EXISTS (SELECT 1 FROM fill WHERE ns = ?1 AND server = ?2) OR "
                "EXISTS (SELECT 1 FROM lack WHERE ns = ?1 AND server = ?2)",
                "ii", ns, server);
    r = sq_one(s, st);
    sq_done(st);
    *yes = r == 0;
    return r == -ENOENT ? sq_anew(s, ns, server, false) : r;
}

/* ---- looking -------------------------------------------------------------------------------- */
struct look {
    uint64_t ns, server, copies, heard_ms;
    struct {
        uint64_t copies, n;
        uint64_t id[CANDIDATES_MAX]; /* who lacks least comes first */
    } stay;
    size_t stay_size; /* bytes of it in use */
    uint64_t place;   /* in stay.id */
    struct block_id block;
};

/* Who stays, and was heard of; *filling: what one of them lacks is not all known. */
static int who_stays(struct store *s, struct look *l, bool *filling)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT a.server, EXISTS (SELECT 1 FROM fill AS f WHERE f.ns = a.ns AND "
                "f.server = a.server) FROM placed AS a JOIN server ON id = a.server "
                "LEFT JOIN held AS h ON h.ns = a.ns AND h.server = a.server AND "
                "h.generation = server.generation WHERE a.ns = ?1 AND leaving = 0 AND " HEARD_SINCE(
                    ?2) " ORDER BY coalesce(h.blocks, 0) DESC, a.server",
                "ii", l->ns, l->heard_ms);
    int r;
    *filling = false;
    while ((r = sq_step(s, st)) > 0 && l->stay.n < CANDIDATES_MAX) {
        l->stay.id[l->stay.n++] = sq_u64(st, 0);
        *filling |= sq_u64(st, 1) != 0;
    }
    sq_done(st);
    l->stay.copies = l->copies;
    l->stay_size = sizeof l->stay - sizeof l->stay.id + l->stay.n * sizeof l->stay.id[0];
    return r < 0 ? r : 0;
}

static bool same_servers(const struct look *l, struct bytes was)
{
    uint64_t id;
    if (was.n != l->stay_size || memcmp(was.p, &l->stay, sizeof l->stay - sizeof l->stay.id) != 0)
        return false;
    for (size_t k = 0; k < l->stay.n; k++) {
        bool found = false;
        for (size_t i = 0; i < l->stay.n; i++) {
            memcpy(&id, was.p + was.n - (i + 1) * sizeof id, sizeof id);
            found |= id == l->stay.id[k];
        }
        if (!found)
            return false;
    }
    return true;
}

/* Where it goes on, if that was of the same servers: in their order of then. */
static int take_up(struct store *s, struct look *l)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT stay, place, block FROM leave_look WHERE ns = ? AND server = ?", "ii",
                l->ns, l->server);
    int r = sq_one(s, st);
    if (!r) {
        struct bytes was =
            bytes_of(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
        if (same_servers(l, was)) {
            memcpy(&l->stay, was.p, was.n);
            l->place = sq_u64(st, 1);
            sq_fixed(st, 2, l->block.b, BLOCK_ID_LEN);
        }
    }
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

static int lay_down(struct store *s, const struct look *l)
{
    return sq_exec(s,
                   "INSERT OR REPLACE INTO leave_look (ns, server, stay, place, block) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "iibib", l->ns, l->server, bytes_of(&l->stay, l->stay_size), l->place,
                   bytes_of(l->block.b, BLOCK_ID_LEN));
}

/* Goes through what one of the servers lacks; *kept: this one is needed there, l->block is what
 * comes before; *left becomes less, 0: there may be more. */
static int look_on(struct store *s, struct look *l, size_t *left, bool *kept)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT w.block, EXISTS (SELECT 1 FROM presence AS p JOIN server ON id = p.server "
                "WHERE p.ns = ?1 AND p.block = w.block AND p.server = ?2 AND "
                "p.generation = server.generation) AND "
                "(SELECT count(*) FROM placed AS a JOIN server ON id = a.server WHERE a.ns = ?1 "
                "AND a.leaving = 0 AND " HEARD_SINCE(?6) " AND EXISTS (SELECT 1 FROM lack AS l "
                "WHERE l.ns = ?1 AND l.server = a.server AND l.block = w.block)) > ?7 "
                "FROM (SELECT DISTINCT block FROM lack WHERE ns = ?1 AND server = ?3 AND block > ?4 "
                "ORDER BY block LIMIT ?5) AS w",
                "iiibiii", l->ns, l->server, l->stay.id[l->place],
                bytes_of(l->block.b, BLOCK_ID_LEN), (uint64_t)*left, l->heard_ms,
                l->stay.n - l->copies);
    int r = 0;
    while (*left && !*kept && (r = sq_step(s, st)) > 0) {
        *kept = sq_u64(st, 1) != 0;
        if (!*kept)
            sq_fixed(st, 0, l->block.b, BLOCK_ID_LEN);
        --*left;
    }
    sq_done(st);
    return r < 0 ? r : 0;
}

int sq_leave_blocked(struct store *s, uint64_t ns, uint64_t server, uint64_t copies,
                     uint64_t heard_ms, bool *blocked)
{
    struct look l = {.ns = ns, .server = server, .copies = copies, .heard_ms = heard_ms};
    struct held_row all, there;
    size_t left = LOOKED_MAX;
    bool filling, kept = false;
    int r = who_stays(s, &l, &filling);
    if (!r)
        r = sq_held(s, ns, 0, &all);
    if (!r)
        r = sq_held(s, ns, server, &there);
    /* With fewer servers than copies nothing goes; while another one is being filled, what it lacks
     * is not all known. */
    *blocked = filling || (l.stay.n < copies && all.blocks > 0);
    if (!r && !*blocked && heard_ms)
        r = may_have(s, ns, server, blocked);
    if (r || *blocked || !there.blocks || !l.stay.n)
        return r;
    r = take_up(s, &l);
    while (!r && !kept && left && l.place < copies) {
        r = look_on(s, &l, &left, &kept);
        if (r || kept || !left)
            break;
        l.place++;
        memset(&l.block, 0, sizeof l.block);
    }
    *blocked = kept || l.place < copies;
    if (r)
        return r;
    return *blocked
               ? lay_down(s, &l)
               : sq_exec(s, "DELETE FROM leave_look WHERE ns = ? AND server = ?", "ii", ns, server);
}

/* ---- what is left behind --------------------------------------------------------------------- */
int sq_parted_put(struct store *s, uint64_t ns, uint64_t server, int64_t now_ms)
{
    return sq_exec(s, "INSERT OR REPLACE INTO parted (ns, server, since_ms) VALUES (?, ?, ?)",
                   "iii", ns, server, now_ms);
}

int sq_parted_drop(struct store *s, uint64_t ns, uint64_t server)
{
    int r = sq_exec(s, "DELETE FROM parted WHERE ns = ? AND server = ?", "ii", ns, server);
    return r ? r
             : sq_exec(s, "DELETE FROM held WHERE ns = ? AND server = ? AND blocks = 0", "ii", ns,
                       server);
}

int sq_parted_list(struct store *s, uint64_t ns, struct parted_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(
        s, "SELECT ns, server, since_ms, kept, after FROM parted WHERE ?1 = 0 OR ns = ?1", "i", ns);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct parted_row *p = &(*v)[(*n)++];
        *p = (struct parted_row){.ns = sq_u64(st, 0),
                                 .server = sq_u64(st, 1),
                                 .since_ms = sq_u64(st, 2),
                                 .kept = sq_u64(st, 3)};
        sq_fixed(st, 4, p->after.b, BLOCK_ID_LEN);
    }
    sq_done(st);
    return r;
}

int sq_parted_set(struct store *s, const struct parted_row *p)
{
    return sq_exec(s,
                   "UPDATE parted SET since_ms = ?3, kept = ?4, after = ?5 "
                   "WHERE ns = ?1 AND server = ?2",
                   "iiiib", p->ns, p->server, p->since_ms, p->kept,
                   bytes_of(p->after.b, BLOCK_ID_LEN));
}

int sq_presence_page(struct store *s, uint64_t ns, const struct block_id *after, size_t max,
                     struct presence_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT block, server FROM presence WHERE ns = ? AND block > ? "
                               "ORDER BY block, server LIMIT ?",
                               "ibi", ns, bytes_of(after->b, BLOCK_ID_LEN), (uint64_t)max);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct presence_row *p = &(*v)[(*n)++];
        sq_fixed(st, 0, p->block.b, BLOCK_ID_LEN);
        p->server = sq_u64(st, 1);
    }
    sq_done(st);
    return r;
}
