// SPDX-License-Identifier: Apache-2.0
/* Keys of block servers, and capabilities that are good no longer, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

int sq_key_put(struct store *s, uint64_t server, const struct key_row *k)
{
    return sq_exec(s,
                   "INSERT OR REPLACE INTO server_key (server, key_id, key, until_ms, at_once) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "iibii", server, k->id, bytes_of(k->key, sizeof k->key), k->until_ms,
                   (uint64_t)k->at_once);
}

int sq_key_list(struct store *s, uint64_t server, struct key_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT key_id, key, until_ms, at_once FROM server_key "
                               "WHERE server = ? ORDER BY key_id",
                               "i", server);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct key_row *k = &(*v)[(*n)++];
        *k = (struct key_row){
            .id = sq_u64(st, 0), .until_ms = sq_u64(st, 2), .at_once = sq_u64(st, 3) != 0};
        sq_fixed(st, 1, k->key, sizeof k->key);
    }
    sq_done(st);
    return r;
}

int sq_key_drop(struct store *s, uint64_t server, uint64_t id)
{
    return sq_exec(s, "DELETE FROM server_key WHERE server = ? AND key_id = ?", "ii", server, id);
}

int sq_key_use(struct store *s, uint64_t server, const struct key_row *k)
{
    return sq_exec(s, "UPDATE server SET mac_key = ?, key_id = ? WHERE id = ?", "bii",
                   bytes_of(k->key, sizeof k->key), k->id, server);
}

#define OF_NAMESPACE_MAX 256 /* rows; then one for all of it */

/* Instead of all rows of the namespaces from first to last, one row for each, which refuses all
 * that they do, and more. Who has access gets a fresh capability. */
static int collapse(struct store *s, uint64_t first, uint64_t last)
{
    int r = sq_exec(s,
                    "INSERT INTO revocation (ns, account, peer, server, until_ms, made_ms) "
                    "SELECT ns, 0, 0, 0, max(until_ms), max(made_ms) FROM revocation "
                    "WHERE ns BETWEEN ? AND ? GROUP BY ns ON CONFLICT DO UPDATE SET "
                    "until_ms = excluded.until_ms, made_ms = excluded.made_ms",
                    "ii", first, last);
    return r ? r
             : sq_exec(s,
                       "DELETE FROM revocation WHERE ns BETWEEN ? AND ? AND "
                       "(account, peer, server) != (0, 0, 0)",
                       "ii", first, last);
}

static int count_of(struct store *s, uint64_t ns, uint64_t *n)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT count(*) FROM revocation WHERE ns = ?", "i", ns);
    int r = sq_one(s, st);
    *n = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_revocation_put(struct store *s, const struct revocation_row *r, uint64_t now_ms,
                      uint64_t before_ms)
{
    int err = sq_exec(s, "DELETE FROM revocation WHERE made_ms < ?", "i", before_ms);
    if (err)
        return err;
    err = sq_exec(s,
                  "INSERT INTO revocation (ns, account, peer, server, until_ms, made_ms) "
                  "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                  "until_ms = max(until_ms, excluded.until_ms), "
                  "made_ms = max(made_ms, excluded.made_ms)",
                  "iiiiii", r->ns, r->account, r->peer, r->server, r->until_ms, now_ms);
    uint64_t n = 0;
    if (!err && r->ns)
        err = count_of(s, r->ns, &n);
    return err || n <= OF_NAMESPACE_MAX ? err : collapse(s, r->ns, r->ns);
}

int sq_revocation_collapse(struct store *s)
{
    return collapse(s, 1, INT64_MAX);
}

int sq_revocation_list(struct store *s, uint64_t server, size_t max, struct revocation_row **v,
                       size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT ns, account, peer, server, until_ms FROM revocation "
                               "WHERE server IN (0, ?) ORDER BY made_ms DESC LIMIT ?",
                               "ii", server, (uint64_t)max);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = (struct revocation_row){.ns = sq_u64(st, 0),
                                               .account = sq_u64(st, 1),
                                               .peer = sq_u64(st, 2),
                                               .server = sq_u64(st, 3),
                                               .until_ms = sq_u64(st, 4)};
    }
    sq_done(st);
    return r;
}
