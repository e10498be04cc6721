// SPDX-License-Identifier: Apache-2.0
/* One connection behind a lock: tasks come and go by hundreds in one transaction each. */
#include "tasks.h"

#include "dir_sql.h"
#include "durable.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tally.sql.h"
#include "tasks.sql.h"

#define TASKS_VERSION 2
#define FILE_NAME "replication.db"

enum {
    CURSOR,
    SET_CURSOR,
    ADD,
    FIRST,
    DUE,
    NEXT,
    DONE,
    LATER,
    FORGET,
    FORGET_NS,
    FORGET_CURSOR,
    COUNT,
    STATEMENTS
};
static const char *const sql[STATEMENTS] = {
    [CURSOR] = "SELECT at FROM cursor WHERE ns = ?1",
    [SET_CURSOR] = "INSERT OR REPLACE INTO cursor (ns, at) VALUES (?1, ?2)",
    [ADD] = "INSERT OR IGNORE INTO task (ns, server, block) VALUES (?1, ?2, ?3)",
    [FIRST] = ("SELECT ns FROM task WHERE server = ?1 AND not_before <= ?2 "
               "ORDER BY not_before, id LIMIT 1"),
    [DUE] = ("SELECT id, block FROM task WHERE server = ?1 AND not_before <= ?2 AND ns = ?3 "
             "ORDER BY not_before, id LIMIT ?4"),
    [NEXT] = "SELECT min(not_before) FROM task WHERE server = ?1",
    [DONE] = "DELETE FROM task WHERE id = ?1",
    [LATER] = "UPDATE task SET not_before = ?2 WHERE id = ?1",
    [FORGET] = "DELETE FROM task WHERE ns = ?1 AND server = ?2",
    [FORGET_NS] = "DELETE FROM task WHERE ns = ?1",
    [FORGET_CURSOR] = "DELETE FROM cursor WHERE ns = ?1",
    [COUNT] = "SELECT ns, server, n FROM tally",
};

struct tasks {
    pthread_mutex_t lock; /* guards all of it */
    sqlite3 *db;
    sqlite3_stmt *st[STATEMENTS];
};

/* ---- opening ------------------------------------------------------------------------------- */

static int version_of(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    int v = -1;
    if (!sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL) &&
        sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return v;
}

static int bring_up(sqlite3 *db)
{
    int v = version_of(db);
    if (v < 0 || v > TASKS_VERSION)
        return v < 0 ? -EIO : -EPROTO;
    char set[64];
    snprintf(set, sizeof set, "PRAGMA user_version = %d", TASKS_VERSION);
    int r = v < TASKS_VERSION ? dir_sql_exec(db, "BEGIN IMMEDIATE") : 0;
    if (v < 1 && !r)
        r = dir_sql_exec(db, sql_tasks);
    if (v < 2 && !r)
        r = dir_sql_exec(db, sql_tally);
    if (v < TASKS_VERSION && !r)
        r = dir_sql_exec(db, set);
    if (v < TASKS_VERSION && !r)
        r = dir_sql_exec(db, "COMMIT");
    return r ? r : dir_sql_exec(db, "UPDATE task SET not_before = 0 WHERE not_before > 0");
}

static void close_db(struct tasks *t)
{
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(t->st[i]);
    sqlite3_close(t->db);
    memset(t->st, 0, sizeof t->st);
    t->db = NULL;
}

static int open_db(struct tasks *t, const char *path)
{
    int rc = sqlite3_open_v2(
        path, &t->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    int r = rc ? dir_sql_errno(t->db, rc) : 0;
    if (!r)
        r = dir_sql_exec(t->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    if (!r)
        r = bring_up(t->db);
    if (!r)
        r = dir_sql_prepare(t->db, sql, t->st, STATEMENTS);
    return r;
}

static bool is_damaged(const struct tasks *t)
{
    int rc = t->db ? sqlite3_errcode(t->db) & 0xff : 0;
    return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB;
}

static void move_aside(const char *path)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *from, *to;
        if (asprintf(&from, "%s%s", path, ends[i]) < 0 ||
            asprintf(&to, "%s.damaged%s", path, ends[i]) < 0)
            abort();
        rename(from, to);
        free(from);
        free(to);
    }
}

int tasks_open(struct tasks **out, const char *dir, char *err)
{
    *out = NULL;
    char *path;
    struct tasks *t = calloc(1, sizeof *t);
    if (!t || asprintf(&path, "%s/" FILE_NAME, dir) < 0)
        abort();
    pthread_mutex_init(&t->lock, NULL);
    int r = open_db(t, path);
    if (r && is_damaged(t)) {
        close_db(t);
        move_aside(path);
        r = open_db(t, path);
    }
    if (!r)
        r = durable_sync_dir(dir);
    if (r)
        snprintf(err, 512,
                 r == -EPROTO ? "%s was written by a newer steadfs-blockd; update this one"
                              : "cannot use %s: %s",
                 path, strerror(-r));
    free(path);
    if (r) {
        tasks_close(t);
        return r;
    }
    *out = t;
    return 0;
}

void tasks_close(struct tasks *t)
{
    if (!t)
        return;
    close_db(t);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- changing ------------------------------------------------------------------------------ */

/* Under the lock. */
static int begin(struct tasks *t)
{
    return dir_sql_exec(t->db, "BEGIN IMMEDIATE");
}

static int end(struct tasks *t, int r)
{
    if (!r)
        r = dir_sql_exec(t->db, "COMMIT");
    if (r && !sqlite3_get_autocommit(t->db))
        dir_sql_exec(t->db, "ROLLBACK");
    return r;
}

int tasks_add(struct tasks *t, uint64_t ns, struct bytes cursor, const struct task *v, size_t n,
              size_t *added)
{
    size_t new = 0;
    pthread_mutex_lock(&t->lock);
    int r = begin(t);
    for (size_t i = 0; i < n && !r; i++) {
        dir_sql_bind_u64(t->st[ADD], 1, ns);
        dir_sql_bind_u64(t->st[ADD], 2, v[i].server);
        dir_sql_bind_id(t->st[ADD], 3, &v[i].block);
        r = dir_sql_run(t->db, t->st[ADD]);
        new += (size_t)sqlite3_changes(t->db);
    }
    if (!r && cursor.n) {
        dir_sql_bind_u64(t->st[SET_CURSOR], 1, ns);
        sqlite3_bind_blob64(t->st[SET_CURSOR], 2, cursor.p, cursor.n, SQLITE_STATIC);
        r = dir_sql_run(t->db, t->st[SET_CURSOR]);
    }
    r = end(t, r);
    pthread_mutex_unlock(&t->lock);
    if (added)
        *added = r ? 0 : new;
    return r;
}

static int change_each(struct tasks *t, int statement, const struct task *v, size_t n, int64_t when)
{
    if (!n)
        return 0;
    pthread_mutex_lock(&t->lock);
    int r = begin(t);
    for (size_t i = 0; i < n && !r; i++) {
        dir_sql_bind_u64(t->st[statement], 1, v[i].id);
        if (statement == LATER)
            sqlite3_bind_int64(t->st[statement], 2, when);
        r = dir_sql_run(t->db, t->st[statement]);
    }
    r = end(t, r);
    pthread_mutex_unlock(&t->lock);
    return r;
}

int tasks_done(struct tasks *t, const struct task *v, size_t n)
{
    return change_each(t, DONE, v, n, 0);
}

int tasks_later(struct tasks *t, const struct task *v, size_t n, int64_t not_before_ms)
{
    return change_each(t, LATER, v, n, not_before_ms);
}

int tasks_forget(struct tasks *t, uint64_t ns, uint64_t server)
{
    pthread_mutex_lock(&t->lock);
    int r = begin(t);
    for (int k = server ? FORGET : FORGET_NS; k <= (server ? FORGET : FORGET_CURSOR) && !r; k++) {
        dir_sql_bind_u64(t->st[k], 1, ns);
        if (server)
            dir_sql_bind_u64(t->st[k], 2, server);
        r = dir_sql_run(t->db, t->st[k]);
    }
    r = end(t, r);
    pthread_mutex_unlock(&t->lock);
    return r;
}

/* ---- looking ------------------------------------------------------------------------------- */

int tasks_cursor(struct tasks *t, uint64_t ns, struct buf *out)
{
    pthread_mutex_lock(&t->lock);
    sqlite3_stmt *st = t->st[CURSOR];
    dir_sql_bind_u64(st, 1, ns);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        buf_append(out, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    sqlite3_reset(st);
    pthread_mutex_unlock(&t->lock);
    return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : -EIO;
}

/* One number of one row; -ENOENT: no row, or NULL in it. */
static int one_number(sqlite3_stmt *st, int64_t *out)
{
    int rc = sqlite3_step(st);
    bool is = rc == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL;
    if (is)
        *out = sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    return is ? 0 : rc == SQLITE_ROW || rc == SQLITE_DONE ? -ENOENT : -EIO;
}

static int read_due(struct tasks *t, uint64_t server, uint64_t ns, int64_t now_ms, size_t max,
                    struct task *v, size_t *n)
{
    sqlite3_stmt *st = t->st[DUE];
    int rc;
    dir_sql_bind_u64(st, 1, server);
    sqlite3_bind_int64(st, 2, now_ms);
    dir_sql_bind_u64(st, 3, ns);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)max);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct task *k = &v[*n];
        *k = (struct task){.id = (uint64_t)sqlite3_column_int64(st, 0), .ns = ns, .server = server};
        if (sqlite3_column_bytes(st, 1) == BLOCK_ID_LEN) {
            memcpy(k->block.b, sqlite3_column_blob(st, 1), BLOCK_ID_LEN);
            ++*n;
        }
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

int tasks_due(struct tasks *t, uint64_t server, int64_t now_ms, size_t max, struct task *v,
              size_t *n, int64_t *next_ms)
{
    int64_t ns;
    *n = 0;
    *next_ms = INT64_MAX;
    pthread_mutex_lock(&t->lock);
    dir_sql_bind_u64(t->st[FIRST], 1, server);
    sqlite3_bind_int64(t->st[FIRST], 2, now_ms);
    int r = one_number(t->st[FIRST], &ns);
    if (!r) {
        r = read_due(t, server, (uint64_t)ns, now_ms, max, v, n);
    } else if (r == -ENOENT) {
        dir_sql_bind_u64(t->st[NEXT], 1, server);
        r = one_number(t->st[NEXT], next_ms);
        r = r == -ENOENT ? 0 : r;
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

int tasks_count(struct tasks *t, void (*fn)(void *arg, uint64_t ns, uint64_t server, uint64_t n),
                void *arg)
{
    pthread_mutex_lock(&t->lock);
    sqlite3_stmt *st = t->st[COUNT];
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        fn(arg, (uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1),
           (uint64_t)sqlite3_column_int64(st, 2));
    sqlite3_reset(st);
    pthread_mutex_unlock(&t->lock);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

sqlite3 *tasks_sqlite(struct tasks *t)
{
    return t->db;
}
