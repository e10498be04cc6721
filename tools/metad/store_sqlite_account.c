// SPDX-License-Identifier: Apache-2.0
/* Accounts, devices, tokens and block servers, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct bytes hash_bytes(const uint8_t hash[STORE_HASH_LEN])
{
    return bytes_of(hash, STORE_HASH_LEN);
}

static uint64_t last_id(struct store *s)
{
    return (uint64_t)sqlite3_last_insert_rowid(((struct sq *)s)->db);
}

int sq_setting_next(struct store *s, const char *key, uint64_t *value)
{
    sqlite3_stmt *st = sq_bind(s,
                               "INSERT INTO setting (key, value) VALUES (?, 1) "
                               "ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value",
                               "t", bytes_str(key));
    int r = sq_one(s, st);
    if (!r)
        *value = sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_setting_raise(struct store *s, const char *key, uint64_t *value)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE "
                "SET value = max(value, excluded.value) RETURNING value",
                "ti", bytes_str(key), *value);
    int r = sq_one(s, st);
    if (!r)
        *value = sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_setting_get(struct store *s, const char *key, uint64_t *value)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT value FROM setting WHERE key = ?", "t", bytes_str(key));
    int r = sq_one(s, st);
    *value = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r == -ENOENT ? 0 : r;
}

int sq_setting_set(struct store *s, const char *key, uint64_t value)
{
    return sq_exec(s, "INSERT OR REPLACE INTO setting (key, value) VALUES (?, ?)", "ti",
                   bytes_str(key), value);
}

int sq_numbers_note(struct store *s)
{
    return sq_exec(s,
                   "INSERT INTO setting (key, value) "
                   "SELECT 'last_namespace', coalesce(max(id), 0) FROM namespace WHERE true "
                   "UNION ALL SELECT 'last_server', coalesce(max(id), 0) FROM server WHERE true "
                   "ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
                   "");
}

int sq_admin_add(struct store *s, const uint8_t hash[STORE_HASH_LEN], uint64_t *id)
{
    int r = sq_exec(s, "INSERT INTO admin (secret_hash) VALUES (?)", "b", hash_bytes(hash));
    *id = last_id(s);
    return r;
}

int sq_admin_get(struct store *s, uint64_t id, uint8_t hash[STORE_HASH_LEN])
{
    sqlite3_stmt *st = sq_bind(s, "SELECT secret_hash FROM admin WHERE id = ?", "i", id);
    int r = sq_one(s, st);
    if (!r)
        sq_fixed(st, 0, hash, STORE_HASH_LEN);
    sq_done(st);
    return r;
}

int sq_admin_count(struct store *s, uint64_t *n)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT count(*) FROM admin", "");
    int r = sq_one(s, st);
    if (!r)
        *n = sq_u64(st, 0);
    sq_done(st);
    return r;
}

/* ---- accounts ------------------------------------------------------------------------------- */
#define ACCOUNT_COLS "id, name, root_ns, version"

static void read_account(sqlite3_stmt *st, struct account_row *a, struct arena *ar)
{
    *a = (struct account_row){.id = sq_u64(st, 0),
                              .name = sq_bytes(st, 1, ar),
                              .root_ns = sq_u64(st, 2),
                              .version = sq_u64(st, 3)};
}

int sq_account_add(struct store *s, struct account_row *a)
{
    int r = sq_exec(s, "INSERT INTO account (name, root_ns, version) VALUES (?, ?, ?)", "tii",
                    a->name, a->root_ns, a->version);
    a->id = last_id(s);
    return r;
}

int sq_account_get(struct store *s, uint64_t id, struct account_row *a, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " ACCOUNT_COLS " FROM account WHERE id = ?", "i", id);
    int r = sq_one(s, st);
    if (!r)
        read_account(st, a, ar);
    sq_done(st);
    return r;
}

int sq_account_find(struct store *s, struct bytes name, struct account_row *a, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " ACCOUNT_COLS " FROM account WHERE name = ?", "t", name);
    int r = sq_one(s, st);
    if (!r)
        read_account(st, a, ar);
    sq_done(st);
    return r;
}

int sq_account_list(struct store *s, struct account_row **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " ACCOUNT_COLS " FROM account ORDER BY name", "");
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        read_account(st, &(*v)[(*n)++], ar);
    }
    sq_done(st);
    return r;
}

int sq_account_touch(struct store *s, uint64_t id)
{
    return sq_exec(s, "UPDATE account SET version = version + 1 WHERE id = ?", "i", id);
}

/* ---- devices -------------------------------------------------------------------------------- */
#define DEVICE_COLS                                                                                \
    "id, account, name, secret_hash, incarnation, created_ms, revoked_ms, starts, run"

static void read_device(sqlite3_stmt *st, struct device_row *d, struct arena *ar)
{
    memset(d, 0, sizeof *d);
    d->id = sq_u64(st, 0);
    d->account = sq_u64(st, 1);
    d->name = sq_bytes(st, 2, ar);
    sq_fixed(st, 3, d->secret_hash, STORE_HASH_LEN);
    d->incarnation = sq_bytes(st, 4, ar);
    d->created_ms = sq_u64(st, 5);
    d->revoked_ms = sq_u64(st, 6);
    d->starts = sq_u64(st, 7);
    d->run = sq_u64(st, 8);
}

int sq_device_add(struct store *s, const struct device_row *d)
{
    return sq_exec(s,
                   "INSERT INTO device (id, account, name, secret_hash, created_ms) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "iitbi", d->id, d->account, d->name, hash_bytes(d->secret_hash), d->created_ms);
}

int sq_device_get(struct store *s, uint64_t id, struct device_row *d, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " DEVICE_COLS " FROM device WHERE id = ?", "i", id);
    int r = sq_one(s, st);
    if (!r)
        read_device(st, d, ar);
    sq_done(st);
    return r;
}

int sq_device_list(struct store *s, uint64_t account, struct device_row **v, size_t *n,
                   struct arena *ar)
{
    sqlite3_stmt *st =
        account ? sq_bind(s, "SELECT " DEVICE_COLS " FROM device WHERE account = ? ORDER BY id",
                          "i", account)
                : sq_bind(s, "SELECT " DEVICE_COLS " FROM device ORDER BY id", "");
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        read_device(st, &(*v)[(*n)++], ar);
    }
    sq_done(st);
    return r;
}

int sq_device_set_incarnation(struct store *s, uint64_t id, struct bytes incarnation)
{
    return sq_exec(s, "UPDATE device SET incarnation = ? WHERE id = ?", "bi", incarnation, id);
}

int sq_device_set_start(struct store *s, uint64_t id, uint64_t starts, uint64_t run)
{
    return sq_exec(s, "UPDATE device SET starts = ?, run = ? WHERE id = ?", "iii", starts, run, id);
}

int sq_device_revoke(struct store *s, uint64_t id, uint64_t now_ms)
{
    return sq_exec(s, "UPDATE device SET revoked_ms = ? WHERE id = ?", "ii", now_ms, id);
}

int sq_device_revoked(struct store *s, uint64_t since_ms, size_t max, uint64_t **ids, size_t *n,
                      struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT id FROM device WHERE revoked_ms > 0 AND revoked_ms >= ? "
                               "ORDER BY revoked_ms DESC LIMIT ?",
                               "ii", since_ms, (uint64_t)max);
    int r;
    *ids = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*ids, *n, ar);
        (*ids)[(*n)++] = sq_u64(st, 0);
    }
    sq_done(st);
    return r;
}

/* ---- tokens --------------------------------------------------------------------------------- */
int sq_token_add(struct store *s, const struct token_row *t)
{
    return sq_exec(s,
                   "INSERT INTO token (hash, kind, account, premises, expires_ms) "
                   "VALUES (?, ?, ?, ?, ?)",
                   "biiti", hash_bytes(t->hash), t->kind, t->account, t->premises, t->expires_ms);
}

int sq_token_take(struct store *s, const uint8_t hash[STORE_HASH_LEN], struct token_row *t,
                  struct arena *ar)
{
    sqlite3_stmt *st =
        sq_bind(s, "DELETE FROM token WHERE hash = ? RETURNING kind, account, premises, expires_ms",
                "b", hash_bytes(hash));
    int r = sq_one(s, st);
    if (!r) {
        memcpy(t->hash, hash, STORE_HASH_LEN);
        t->kind = sq_u64(st, 0);
        t->account = sq_u64(st, 1);
        t->premises = sq_bytes(st, 2, ar);
        t->expires_ms = sq_u64(st, 3);
    }
    sq_done(st);
    return r;
}

int sq_token_expire(struct store *s, uint64_t now_ms)
{
    return sq_exec(s, "DELETE FROM token WHERE expires_ms < ?", "i", now_ms);
}

/* ---- block servers -------------------------------------------------------------------------- */
#define SERVER_COLS                                                                                \
    "id, premises, url, secret_hash, mac_key, key_id, incarnation, generation, blocks, "           \
    "used_bytes, free_bytes, beat_ms, evacuating, run, found, pin, pin_next, shown, rekey_ms, "    \
    "rekey_overlap_ms, tick, unheard, adopt"
#define SERVER_COLS_N 23

static void read_server(sqlite3_stmt *st, struct server_row *r, struct arena *ar)
{
    memset(r, 0, sizeof *r);
    r->id = sq_u64(st, 0);
    r->premises = sq_bytes(st, 1, ar);
    r->url = sq_bytes(st, 2, ar);
    sq_fixed(st, 3, r->secret_hash, sizeof r->secret_hash);
    sq_fixed(st, 4, r->mac_key, sizeof r->mac_key);
    r->key_id = sq_u64(st, 5);
    sq_fixed(st, 6, r->incarnation, sizeof r->incarnation);
    r->generation = sq_u64(st, 7);
    r->blocks = sq_u64(st, 8);
    r->used_bytes = sq_u64(st, 9);
    r->free_bytes = sq_u64(st, 10);
    r->beat_ms = sq_u64(st, 11);
    r->evacuating = sq_u64(st, 12) != 0;
    r->run = sq_u64(st, 13);
    r->found = sq_u64(st, 14);
    r->pin = sq_bytes(st, 15, ar);
    r->pin_next = sq_bytes(st, 16, ar);
    r->shown = sq_bytes(st, 17, ar);
    r->rekey_ms = sq_u64(st, 18);
    r->rekey_overlap_ms = sq_u64(st, 19);
    r->tick = sq_u64(st, 20);
    r->unheard = sq_u64(st, 21) != 0;
    r->adopt = sq_u64(st, 22) != 0;
}

int sq_server_add(struct store *s, struct server_row *r)
{
    int ret =
        sq_exec(s,
                "INSERT INTO server (id, premises, url, secret_hash, mac_key, key_id, "
                "incarnation, generation, beat_ms, pin) VALUES (1 + max("
                "coalesce((SELECT max(id) FROM server), 0), "
                "coalesce((SELECT value FROM setting WHERE key = 'last_server'), 0)), "
                "?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "ttbbibiib", r->premises, r->url, hash_bytes(r->secret_hash),
                bytes_of(r->mac_key, sizeof r->mac_key), r->key_id,
                bytes_of(r->incarnation, sizeof r->incarnation), r->generation, r->beat_ms, r->pin);
    r->id = last_id(s);
    return ret;
}

int sq_server_get(struct store *s, uint64_t id, struct server_row *r, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s, "SELECT " SERVER_COLS " FROM server WHERE id = ?", "i", id);
    int ret = sq_one(s, st);
    if (!ret)
        read_server(st, r, ar);
    sq_done(st);
    return ret;
}

static int server_rows(struct store *s, sqlite3_stmt *st, struct server_row **v, size_t *n,
                       struct arena *ar)
{
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        struct server_row *row = &(*v)[(*n)++];
        read_server(st, row, ar);
        row->priority = sq_u64(st, SERVER_COLS_N);
        row->leaving = sq_u64(st, SERVER_COLS_N + 1) != 0;
    }
    sq_done(st);
    return r;
}

int sq_server_list(struct store *s, struct server_row **v, size_t *n, struct arena *ar)
{
    return server_rows(s, sq_bind(s, "SELECT " SERVER_COLS ", 0, 0 FROM server ORDER BY id", ""), v,
                       n, ar);
}

static int by_rank(const void *a, const void *b)
{
    const struct server_row *x = a, *y = b;
    if (x->leaving != y->leaving)
        return x->leaving ? 1 : -1;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int sq_assigned(struct store *s, uint64_t ns, struct server_row **v, size_t *n, struct arena *ar)
{
    int r = server_rows(s,
                        sq_bind(s,
                                "SELECT " SERVER_COLS ", priority, leaving FROM placed "
                                "JOIN server ON id = server WHERE ns = ? LIMIT ?",
                                "ii", ns, (uint64_t)CANDIDATES_MAX),
                        v, n, ar);
    if (*n > 1) /* here: a sorter of SQLite's for rows so wide costs as much as reading them */
        qsort(*v, *n, sizeof **v, by_rank);
    return r;
}

int sq_assigned_to(struct store *s, uint64_t ns, uint64_t server, bool *is)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT 1 FROM placed WHERE ns = ? AND server = ?", "ii", ns, server);
    int r = sq_step(s, st);
    sq_done(st);
    *is = r > 0;
    return r < 0 ? r : 0;
}

/* Presence that is recorded for it may stay: it counts for assigned servers only, and the number is
 * never given out again. */
int sq_server_remove(struct store *s, uint64_t id)
{
    int r = sq_exec(s,
                    "INSERT INTO setting (key, value) VALUES ('last_server', ?) "
                    "ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
                    "i", id);
    if (!r)
        r = sq_exec(s, "DELETE FROM server_key WHERE server = ?", "i", id);
    if (!r)
        r = sq_heard_drop(s, id);
    if (!r)
        r = sq_exec(s, "DELETE FROM given_up WHERE server = ?", "i", id);
    if (!r)
        r = sq_exec(s, "DELETE FROM ended WHERE server = ?", "i", id);
    return r ? r : sq_exec(s, "DELETE FROM server WHERE id = ?", "i", id);
}

int sq_servers_unheard(struct store *s)
{
    return sq_exec(s, "UPDATE server SET unheard = 1", "");
}

int sq_server_set(struct store *s, const struct server_row *r)
{
    return sq_exec(s,
                   "UPDATE server SET url = ?, incarnation = ?, generation = ?, blocks = ?, "
                   "used_bytes = ?, free_bytes = ?, beat_ms = ?, evacuating = ?, run = ?, "
                   "found = ?, pin = ?, pin_next = ?, shown = ?, rekey_ms = ?, "
                   "rekey_overlap_ms = ?, tick = ?, unheard = ?, adopt = ? WHERE id = ?",
                   "tbiiiiiiiibbbiiiiii", r->url, bytes_of(r->incarnation, sizeof r->incarnation),
                   r->generation, r->blocks, r->used_bytes, r->free_bytes, r->beat_ms,
                   (uint64_t)r->evacuating, r->run, r->found, r->pin, r->pin_next, r->shown,
                   r->rekey_ms, r->rekey_overlap_ms, r->tick, (uint64_t)r->unheard,
                   (uint64_t)r->adopt, r->id);
}
