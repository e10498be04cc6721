// SPDX-License-Identifier: Apache-2.0
/* Opening the SQLite store, its migrations and its transactions.
 *
 * One connection per store object: WAL, synchronous=FULL, so that a COMMIT has returned only when
 * the WAL is on disk, and readers never wait for the writer. The schema's version is the highest
 * row of the table `migration`; what the list below has beyond it is applied at opening, step by
 * step, each in one transaction together with its row. A version that the list does not know means
 * that a newer program wrote the database: it is refused, nothing is touched.
 *
 * SQLite may roll a transaction back by itself (disk full, I/O error). Statements after that would
 * run in autocommit and survive; `broken` makes all of them fail until the transaction is ended.
 */
#include "store_sqlite.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "10.sql.h"
#include "11.sql.h"
#include "12.sql.h"
#include "13.sql.h"
#include "14.sql.h"
#include "15.sql.h"
#include "2.sql.h"
#include "3.sql.h"
#include "4.sql.h"
#include "5.sql.h"
#include "6.sql.h"
#include "7.sql.h"
#include "8.sql.h"
#include "9.sql.h"
#include "schema.sql.h"
#include "walfile.h"
#include "walkeeper.h"

#define BUSY_MS 10000   /* waits for another process that migrates or checkpoints */
#define CACHE_KIB 65536 /* page cache of the writer; readers take a quarter */
#define WAL_PAGES 4096  /* between checkpoints: pages changed often are written back once */
#define WHY_LEN 512

static const struct migration migrations[] = {
    {1, sql_schema}, {2, sql_2},   {3, sql_3},   {4, sql_4},   {5, sql_5},
    {6, sql_6},      {7, sql_7},   {8, sql_8},   {9, sql_9},   {10, sql_10},
    {11, sql_11},    {12, sql_12}, {13, sql_13}, {14, sql_14}, {15, sql_15},
};

static int sq_errno(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EAGAIN;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_CONSTRAINT:
        return -EEXIST;
    case SQLITE_CANTOPEN:
        return -ENOENT;
    default:
        return -EIO;
    }
}

/* ---- statements ----------------------------------------------------------------------------- */
static sqlite3_stmt *prepared(struct sq *s, const char *sql)
{
    size_t k = ((uintptr_t)sql >> 3) % SQ_STMT_SLOTS;
    for (size_t tries = 0; tries < SQ_STMT_SLOTS; tries++, k = (k + 1) % SQ_STMT_SLOTS) {
        if (s->slots[k].sql == sql)
            return s->slots[k].stmt;
        if (s->slots[k].sql)
            continue;
        sqlite3_stmt *st = NULL;
        if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK)
            return NULL;
        s->slots[k] = (struct sq_slot){sql, st};
        return st;
    }
    abort(); /* more literals than slots: SQ_STMT_SLOTS is to be raised */
}

sqlite3_stmt *sq_bind(struct store *s, const char *sql, const char *types, ...)
{
    sqlite3_stmt *st = prepared((struct sq *)s, sql);
    if (!st)
        return NULL;
    va_list args;
    va_start(args, types);
    for (int k = 1; types[k - 1]; k++) {
        if (types[k - 1] == 'i') {
            sqlite3_bind_int64(st, k, va_arg(args, int64_t));
            continue;
        }
        struct bytes b = va_arg(args, struct bytes);
        const void *p = b.p ? (const void *)b.p : ""; /* a null pointer would bind NULL */
        if (types[k - 1] == 'b')
            sqlite3_bind_blob64(st, k, p, b.n, SQLITE_STATIC);
        else
            sqlite3_bind_text64(st, k, p, b.n, SQLITE_STATIC, SQLITE_UTF8);
    }
    va_end(args);
    return st;
}

int sq_step(struct store *s, sqlite3_stmt *st)
{
    struct sq *sq = (struct sq *)s;
    if (!st || sq->broken)
        return -EIO;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc != SQLITE_DONE && sq->writing && sqlite3_get_autocommit(sq->db))
        sq->broken = true;
    return sq_errno(rc);
}

void sq_done(sqlite3_stmt *st)
{
    if (st)
        sqlite3_reset(st);
}

int sq_exec_bound(struct store *s, sqlite3_stmt *st)
{
    int r;
    do
        r = sq_step(s, st);
    while (r > 0);
    sq_done(st);
    return r;
}

int sq_one(struct store *s, sqlite3_stmt *st)
{
    int r = sq_step(s, st);
    return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

uint64_t sq_u64(sqlite3_stmt *st, int col)
{
    return (uint64_t)sqlite3_column_int64(st, col);
}

struct bytes sq_bytes(sqlite3_stmt *st, int col, struct arena *ar)
{
    const void *p = sqlite3_column_blob(st, col);
    return arena_bytes(ar, p ? p : "", (size_t)sqlite3_column_bytes(st, col));
}

void sq_fixed(sqlite3_stmt *st, int col, void *out, size_t n)
{
    memset(out, 0, n);
    const void *p = sqlite3_column_blob(st, col);
    if (p && (size_t)sqlite3_column_bytes(st, col) == n)
        memcpy(out, p, n);
}

void *sq_grow_bytes(void *v, size_t n, size_t size, struct arena *ar)
{
    if (v && (n & (n - 1)) != 0)
        return v; /* arrays grow at powers of two */
    if (v && n == 0)
        return v;
    void *w = arena_alloc(ar, (n ? 2 * n : 1) * size);
    if (n)
        memcpy(w, v, n * size);
    return w;
}

/* ---- transactions --------------------------------------------------------------------------- */
static int sq_begin(struct store *base, bool write)
{
    struct sq *s = (struct sq *)base;
    assert(!s->broken);
    int r = write ? sq_exec(base, "BEGIN IMMEDIATE", "") : sq_exec(base, "BEGIN", "");
    s->writing = r == 0 && write;
    return r;
}

static int sq_end(struct store *base, bool keep)
{
    struct sq *s = (struct sq *)base;
    bool broken = s->broken;
    int r = broken ? -EIO : 0;
    s->broken = s->writing = false;
    if (!broken && keep)
        r = sq_exec(base, "COMMIT", "");
    if (!sqlite3_get_autocommit(s->db))
        sq_exec(base, "ROLLBACK", "");
    return r;
}

static int sq_save(struct store *base)
{
    return sq_exec(base, "SAVEPOINT part", "");
}

static int sq_release(struct store *base, bool keep)
{
    int r = keep ? 0 : sq_exec(base, "ROLLBACK TO part", "");
    int r2 = sq_exec(base, "RELEASE part", "");
    return r ? r : r2;
}

/* ---- opening -------------------------------------------------------------------------------- */
static int pragma(sqlite3 *db, const char *sql, char *why)
{
    char *msg = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &msg);
    if (rc != SQLITE_OK)
        snprintf(why, WHY_LEN, "database: %s (%s)", msg ? msg : sqlite3_errstr(rc), sql);
    sqlite3_free(msg);
    return sq_errno(rc);
}

static int schema_version(sqlite3 *db, int *version, char *why)
{
    sqlite3_stmt *st = NULL;
    *version = 0;
    int rc = sqlite3_prepare_v2(
        db, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migration'", -1,
        &st, NULL);
    if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW && sqlite3_column_int(st, 0)) {
        sqlite3_finalize(st);
        rc = sqlite3_prepare_v2(db, "SELECT max(version) FROM migration", -1, &st, NULL);
        if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
            *version = sqlite3_column_int(st, 0);
    }
    rc = sqlite3_errcode(db);
    sqlite3_finalize(st);
    int r = sq_errno(rc);
    if (r)
        snprintf(why, WHY_LEN, "database: %s", sqlite3_errstr(rc));
    return r;
}

static int apply(sqlite3 *db, const struct migration *m, char *why)
{
    char row[128];
    snprintf(row, sizeof row,
             "INSERT INTO migration (version, applied) VALUES (%d, datetime('now'))", m->version);
    int r = pragma(db, "BEGIN IMMEDIATE", why);
    if (r)
        return r;
    int have;
    r = schema_version(db, &have, why); /* again: another process may have been quicker */
    if (!r && have < m->version) {
        r = pragma(db,
                   "CREATE TABLE IF NOT EXISTS migration "
                   "(version INTEGER PRIMARY KEY, applied TEXT NOT NULL)",
                   why);
        if (!r)
            r = pragma(db, m->sql, why);
        if (!r)
            r = pragma(db, row, why);
    }
    char ignored[WHY_LEN];
    if (!r)
        r = pragma(db, "COMMIT", why);
    if (r && !sqlite3_get_autocommit(db))
        pragma(db, "ROLLBACK", ignored);
    return r;
}

int sq_migrate(sqlite3 *db, const struct migration *list, size_t n, bool check_only, char *why)
{
    int have, newest = n ? list[n - 1].version : 0;
    int r = schema_version(db, &have, why);
    if (r)
        return r;
    if (have > newest || (check_only && have < newest)) {
        snprintf(
            why, WHY_LEN,
            have > newest
                ? "database: its version is %d, this program knows up to %d: install a newer one"
                : "database: its version is %d, not %d: start the metadata server first",
            have, newest);
        return -EPROTO;
    }
    for (size_t k = 0; k < n && !r; k++) {
        if (list[k].version > have)
            r = apply(db, &list[k], why);
    }
    return r;
}

static void sq_close(struct store *base)
{
    struct sq *s = (struct sq *)base;
    for (size_t k = 0; k < SQ_STMT_SLOTS; k++)
        sqlite3_finalize(s->slots[k].stmt);
    walkeeper_free(s->keeper);
    sqlite3_close(s->db);
    free(s);
}

static int sq_configure(struct sq *s, bool reader, char *why)
{
    char cache[64], checkpoint[64];
    snprintf(checkpoint, sizeof checkpoint, "PRAGMA wal_autocheckpoint = %d", WAL_PAGES);
    snprintf(cache, sizeof cache, "PRAGMA cache_size = -%d", reader ? CACHE_KIB / 4 : CACHE_KIB);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    int r = pragma(s->db, cache, why);
    if (!r && !reader)
        r = pragma(s->db, "PRAGMA journal_mode = WAL", why);
    if (!r)
        r = pragma(s->db, "PRAGMA synchronous = FULL", why);
    if (!r)
        r = pragma(s->db, "PRAGMA temp_store = MEMORY", why);
    if (!r && !reader)
        r = pragma(s->db, checkpoint, why);
    if (!r)
        r = sq_migrate(s->db, migrations, sizeof migrations / sizeof *migrations, reader, why);
    return r;
}

int store_sqlite_open(struct store **out, const char *path, const char *vfs, bool reader,
                      int64_t log_reserve, char *why)
{
    struct sq *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->base.ops = &sq_ops;
    int flags = SQLITE_OPEN_NOMUTEX |
                (reader ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    int rc = sqlite3_open_v2(path, &s->db, flags, vfs);
    int r = sq_errno(rc);
    if (r)
        snprintf(why, WHY_LEN, "cannot open database %s: %s", path, sqlite3_errstr(rc));
    else
        r = sq_configure(s, reader, why);
    if (!r && !reader && log_reserve) { /* without them commits are slower, no more */
        walfile_reserve(s->db, path, log_reserve);
        s->keeper = walkeeper_new(s->db, path, WAL_PAGES);
    }
    if (r) {
        sq_close(&s->base);
        return r;
    }
    *out = &s->base;
    return 0;
}

const struct store_ops sq_ops = {
    .close = sq_close,
    .begin = sq_begin,
    .end = sq_end,
    .save = sq_save,
    .release = sq_release,
    .setting_next = sq_setting_next,
    .setting_raise = sq_setting_raise,
    .setting_get = sq_setting_get,
    .setting_set = sq_setting_set,
    .numbers_note = sq_numbers_note,
    .admin_add = sq_admin_add,
    .admin_get = sq_admin_get,
    .admin_count = sq_admin_count,
    .account_add = sq_account_add,
    .account_get = sq_account_get,
    .account_find = sq_account_find,
    .account_list = sq_account_list,
    .account_touch = sq_account_touch,
    .device_add = sq_device_add,
    .device_get = sq_device_get,
    .device_list = sq_device_list,
    .device_set_incarnation = sq_device_set_incarnation,
    .device_set_start = sq_device_set_start,
    .device_revoke = sq_device_revoke,
    .device_revoked = sq_device_revoked,
    .token_add = sq_token_add,
    .token_take = sq_token_take,
    .token_expire = sq_token_expire,
    .server_add = sq_server_add,
    .server_get = sq_server_get,
    .server_list = sq_server_list,
    .server_remove = sq_server_remove,
    .servers_unheard = sq_servers_unheard,
    .server_set = sq_server_set,
    .ns_add = sq_ns_add,
    .ns_get = sq_ns_get,
    .ns_find = sq_ns_find,
    .ns_list = sq_ns_list,
    .ns_set = sq_ns_set,
    .member_role = sq_member_role,
    .member_set = sq_member_set,
    .member_list = sq_member_list,
    .assigned = sq_assigned,
    .assigned_to = sq_assigned_to,
    .assign = sq_assign,
    .unassign = sq_unassign,
    .leave = sq_leave,
    .anew = sq_anew,
    .anew_get = sq_anew_get,
    .leave_blocked = sq_leave_blocked,
    .ns_of_server = sq_ns_of_server,
    .onsite_list = sq_onsite_list,
    .key_put = sq_key_put,
    .key_list = sq_key_list,
    .key_drop = sq_key_drop,
    .key_use = sq_key_use,
    .revocation_put = sq_revocation_put,
    .revocation_collapse = sq_revocation_collapse,
    .revocation_list = sq_revocation_list,
    .onsite_set = sq_onsite_set,
    .mount_add = sq_mount_add,
    .mount_find = sq_mount_find,
    .mount_remove = sq_mount_remove,
    .inode_get = sq_inode_get,
    .inode_last = sq_inode_last,
    .inode_put = sq_inode_put,
    .inode_close = sq_inode_close,
    .entry_get = sq_entry_get,
    .entry_put = sq_entry_put,
    .entry_of = sq_entry_of,
    .entry_names = sq_entry_names,
    .entry_count = sq_entry_count,
    .entry_page = sq_entry_page,
    .xattr_get = sq_xattr_get,
    .xattr_list = sq_xattr_list,
    .xattr_put = sq_xattr_put,
    .xattr_close = sq_xattr_close,
    .xattr_close_all = sq_xattr_close_all,
    .xattr_reopen = sq_xattr_reopen,
    .extent_list = sq_extent_list,
    .extent_open = sq_extent_open,
    .extent_close = sq_extent_close,
    .extent_close_all = sq_extent_close_all,
    .extent_reopen = sq_extent_reopen,
    .block_get = sq_block_get,
    .block_put = sq_block_put,
    .holders = sq_holders,
    .presence_put = sq_presence_put,
    .presence_drop = sq_presence_drop,
    .presence_list = sq_presence_list,
    .gone_get = sq_gone_get,
    .gone_put = sq_gone_put,
    .unused_note = sq_unused_note,
    .unused_list = sq_unused_list,
    .unused_sum = sq_unused_sum,
    .block_drop = sq_block_drop,
    .gone_due = sq_gone_due,
    .gone_order = sq_gone_order,
    .gone_done = sq_gone_done,
    .gone_list = sq_gone_list,
    .gone_count = sq_gone_count,
    .gone_forget = sq_gone_forget,
    .gone_renewed = sq_gone_renewed,
    .heard_raise = sq_heard_raise,
    .heard_most = sq_heard_most,
    .heard_drop = sq_heard_drop,
    .give_up = sq_give_up,
    .given_up = sq_given_up,
    .run_end = sq_run_end,
    .run_ended = sq_run_ended,
    .lack_put = sq_lack_put,
    .lack_lost = sq_lack_lost,
    .lack_take = sq_lack_take,
    .lack_of = sq_lack_of,
    .lack_list = sq_lack_list,
    .lack_sum = sq_lack_sum,
    .audit_order = sq_audit_order,
    .audit_report = sq_audit_report,
    .audit_get = sq_audit_get,
    .audit_end = sq_audit_end,
    .audit_renewed = sq_audit_renewed,
    .finding_put = sq_finding_put,
    .extent_page = sq_extent_page,
    .block_at = sq_block_at,
    .lack_noted = sq_lack_noted,
    .lack_curable = sq_lack_curable,
    .lack_drop = sq_lack_drop,
    .lack_anew = sq_lack_anew,
    .unlack_step = sq_unlack_step,
    .held = sq_held,
    .parted_put = sq_parted_put,
    .parted_drop = sq_parted_drop,
    .parted_list = sq_parted_list,
    .parted_set = sq_parted_set,
    .presence_page = sq_presence_page,
    .fill_begin = sq_fill_begin,
    .fill_step = sq_fill_step,
    .complete_begin = sq_complete_begin,
    .complete_add = sq_complete_add,
    .complete_last = sq_complete_last,
    .complete_forget = sq_complete_forget,
    .complete_next = sq_complete_next,
    .journal_add = sq_journal_add,
    .journal_list = sq_journal_list,
    .journal_older = sq_journal_older,
    .journal_forget = sq_journal_forget,
    .mark_put = sq_mark_put,
    .mark_get = sq_mark_get,
    .mark_thin = sq_mark_thin,
    .inode_forget = sq_inode_forget,
    .entry_forget = sq_entry_forget,
    .node_rows_forget = sq_node_rows_forget,
    .request_get = sq_request_get,
    .request_put = sq_request_put,
    .request_list = sq_request_list,
    .request_forget = sq_request_forget,
    .peer_get = sq_peer_get,
    .peer_put = sq_peer_put,
    .stage_put = sq_stage_put,
    .stage_join = sq_stage_join,
    .stage_bytes = sq_stage_bytes,
    .stage_drop = sq_stage_drop,
};
