// SPDX-License-Identifier: Apache-2.0
/* Connections that outlive their process.
 *
 * A third of a run went into opening databases, reading their schemas and compiling the same
 * statements again, for every run and after every crash. Here SQLite's functions are wrapped by the
 * linker: a connection to a simulated disk is kept when its owner closes it, with its compiled
 * statements, and the next one who opens that database gets it.
 *
 * Nothing that the dead process knew of the database is left in it: the disk that comes back has an
 * empty shared index of the log (simvfs.c), so that the connection reads log and pages anew, by
 * the same code as one that has just been opened; open files are looked up again by name. What
 * stays is the schema, which is checked by its cookie at the first use of every statement.
 *
 * A close without a crash moves the log into the database and removes it, write by write as SQLite
 * does. The open of a disk without a database that keeps a log, the first start of a client from
 * nothing, is a real one, and so is the close that follows it.
 */
#include "warm.h"

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simvfs.h"

#define CONNECTIONS_MAX 8
#define STATEMENTS_MAX 1024 /* of a connection; a power of two */
#define PARTS_MAX 12        /* statements of one text */

struct text {
    const char *sql; /* a literal, or NULL: free */
    sqlite3_stmt *part[PARTS_MAX];
    bool used;
    bool set; /* it is a setting, and was made */
};
struct connection {
    sqlite3 *db; /* NULL: free */
    struct simvfs *disk;
    char path[32];
    bool used;
    struct text texts[STATEMENTS_MAX];
    size_t n;
};
static struct connection connections[CONNECTIONS_MAX];

/* Whose statement it is: by hash of its address. */
static struct {
    sqlite3_stmt *stmt;
    struct text *text;
} owners[4 * CONNECTIONS_MAX * STATEMENTS_MAX];
#define OWNERS (sizeof owners / sizeof *owners)

int __real_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs);
int __real_sqlite3_close(sqlite3 *db);
int __real_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int n, sqlite3_stmt **s,
                              const char **tail);
int __real_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **s,
                              const char **tail);
int __real_sqlite3_finalize(sqlite3_stmt *s);
int __real_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **),
                        void *arg, char **why);
int __wrap_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs);
int __wrap_sqlite3_close(sqlite3 *db);
int __wrap_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int n, sqlite3_stmt **s,
                              const char **tail);
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **s,
                              const char **tail);
int __wrap_sqlite3_finalize(sqlite3_stmt *s);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **),
                        void *arg, char **why);

/* ---- whose a statement is -------------------------------------------------------------------- */
static size_t owner_slot(const sqlite3_stmt *s)
{
    size_t i = ((uintptr_t)s >> 4) * 0x9e3779b97f4a7c15u >> 40 & (OWNERS - 1);
    while (owners[i].stmt && owners[i].stmt != s)
        i = (i + 1) & (OWNERS - 1);
    return i;
}

static void owner_add(sqlite3_stmt *s, struct text *t)
{
    size_t i = owner_slot(s);
    owners[i].stmt = s;
    owners[i].text = t;
}

/* Whose it is, NULL: nobody's. */
static struct text *owner_take(sqlite3_stmt *s, bool remove)
{
    size_t i = owner_slot(s);
    struct text *t = owners[i].stmt ? owners[i].text : NULL;
    if (!t || !remove)
        return t;
    owners[i].stmt = NULL;
    for (size_t k = (i + 1) & (OWNERS - 1); owners[k].stmt; k = (k + 1) & (OWNERS - 1)) {
        sqlite3_stmt *moved = owners[k].stmt; /* what a gap would hide */
        struct text *with = owners[k].text;
        owners[k].stmt = NULL;
        owner_add(moved, with);
    }
    return t;
}

/* ---- connections ----------------------------------------------------------------------------- */
static struct connection *connection_of(const sqlite3 *db)
{
    for (struct connection *k = connections; k < connections + CONNECTIONS_MAX; k++)
        if (k->db == db)
            return k;
    return NULL;
}

static struct connection *kept(const struct simvfs *disk, const char *path)
{
    for (struct connection *k = connections; k < connections + CONNECTIONS_MAX; k++)
        if (k->db && !k->used && k->disk == disk && !strcmp(k->path, path))
            return k;
    return NULL;
}

/* Makes a new connection one that can be kept: it must know the log by the shared index, not by one
 * of its own, before it is told to lock others out. */
static void take_in(sqlite3 *db, struct simvfs *disk, const char *path)
{
    struct connection *k = connection_of(NULL);
    if (!k || strlen(path) >= sizeof k->path ||
        __real_sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL) !=
            SQLITE_OK)
        return;
    k->db = db;
    k->disk = disk;
    k->used = true;
    snprintf(k->path, sizeof k->path, "%s", path);
}

int __wrap_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs)
{
    struct simvfs *disk = simvfs_find(vfs);
    bool keep = disk && !simvfs_crashed(disk) && simvfs_has_wal(disk, path);
    struct connection *k = keep ? kept(disk, path) : NULL;
    if (k) {
        k->used = true;
        *db = k->db;
        return SQLITE_OK;
    }
    int rc = __real_sqlite3_open_v2(path, db, flags, vfs);
    if (rc == SQLITE_OK && keep)
        take_in(*db, disk, path);
    return rc;
}

static int close_really(struct connection *k)
{
    for (size_t i = 0; i < STATEMENTS_MAX; i++)
        for (int p = 0; p < PARTS_MAX && k->texts[i].part[p]; p++) {
            owner_take(k->texts[i].part[p], true);
            __real_sqlite3_finalize(k->texts[i].part[p]);
        }
    sqlite3 *db = k->db;
    memset(k, 0, sizeof *k);
    return __real_sqlite3_close(db);
}

/* What a close does to a disk that works. false: there is no log to speak of. */
static bool log_moves(struct connection *k)
{
    if (!sqlite3_get_autocommit(k->db) ||
        (sqlite3_wal_checkpoint_v2(k->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) !=
             SQLITE_OK &&
         !simvfs_crashed(k->disk)))
        return false;
    if (!simvfs_crashed(k->disk))
        simvfs_remove_log(k->disk, k->path);
    return true;
}

int __wrap_sqlite3_close(sqlite3 *db)
{
    struct connection *k = db ? connection_of(db) : NULL;
    if (!k)
        return __real_sqlite3_close(db);
    if (!simvfs_crashed(k->disk) && !log_moves(k))
        return close_really(k);
    if (!sqlite3_get_autocommit(db))
        __real_sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_wal_hook(db, NULL, NULL);
    k->used = false;
    return SQLITE_OK;
}

void warm_free(struct simvfs *disk)
{
    for (struct connection *k = connections; k < connections + CONNECTIONS_MAX; k++)
        if (k->db && k->disk == disk && !k->used) {
            simvfs_crash(disk);
            close_really(k);
        }
}

/* ---- statements ------------------------------------------------------------------------------ */
/* Where the text is kept, or would be; NULL: no room. */
static struct text *text_of(struct connection *k, const char *sql)
{
    size_t i = ((uintptr_t)sql >> 3) * 0x9e3779b97f4a7c15u >> 40 & (STATEMENTS_MAX - 1);
    while (k->texts[i].sql && k->texts[i].sql != sql)
        i = (i + 1) & (STATEMENTS_MAX - 1);
    return k->texts[i].sql || k->n < STATEMENTS_MAX / 2 ? &k->texts[i] : NULL;
}

/* A literal stays what it is; anything else may be another text at the same address next time. */
static bool is_literal(const char *sql)
{
    extern const char __executable_start, edata;
    return sql >= &__executable_start && sql < &edata;
}

static struct text *text_get(sqlite3 *db, const char *sql)
{
    struct connection *k = connection_of(db);
    struct text *t = k && is_literal(sql) ? text_of(k, sql) : NULL;
    if (!t || t->used)
        return NULL;
    if (!t->sql) {
        t->sql = sql;
        k->n++;
    }
    return t;
}

int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **s,
                              const char **tail)
{
    struct text *t = n < 0 && !tail ? text_get(db, sql) : NULL;
    if (!t)
        return __real_sqlite3_prepare_v3(db, sql, n, flags, s, tail);
    if (!t->part[0]) {
        int rc =
            __real_sqlite3_prepare_v3(db, sql, n, SQLITE_PREPARE_PERSISTENT, &t->part[0], NULL);
        if (rc != SQLITE_OK)
            return rc;
        owner_add(t->part[0], t);
    }
    t->used = true;
    *s = t->part[0];
    return SQLITE_OK;
}

int __wrap_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int n, sqlite3_stmt **s,
                              const char **tail)
{
    return __wrap_sqlite3_prepare_v3(db, sql, n, 0, s, tail);
}

int __wrap_sqlite3_finalize(sqlite3_stmt *s)
{
    struct text *t = s ? owner_take(s, false) : NULL;
    if (!t)
        return __real_sqlite3_finalize(s);
    t->used = false;
    int rc = sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return rc;
}

static int compile(sqlite3 *db, struct text *t, const char *sql)
{
    int rc = SQLITE_OK;
    for (int p = 0; rc == SQLITE_OK && *sql && p < PARTS_MAX; p++) {
        rc = __real_sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &t->part[p], &sql);
        if (rc == SQLITE_OK && t->part[p])
            owner_add(t->part[p], t);
    }
    return *sql && rc == SQLITE_OK ? SQLITE_TOOBIG : rc;
}

/* A setting that the connection was given before its owner died still holds; set again, it would
 * expire every statement. */
static bool is_set(sqlite3 *db, const char *sql)
{
    struct text *t = strncmp(sql, "PRAGMA synchronous", 18) ? text_get(db, sql) : NULL;
    if (t && t->set)
        return true;
    if (t)
        t->set = true;
    return false;
}

/* What only reads, or begins and ends a transaction, is compiled once. */
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **),
                        void *arg, char **why)
{
    if (!fn && !strncmp(sql, "PRAGMA", 6) && is_set(db, sql))
        return SQLITE_OK;
    bool plain = !fn && (!strncmp(sql, "SELECT", 6) || !strncmp(sql, "BEGIN", 5));
    struct text *t = plain ? text_get(db, sql) : NULL;
    int rc = t && !t->part[0] ? compile(db, t, sql) : SQLITE_OK;
    if (!t || rc != SQLITE_OK)
        return __real_sqlite3_exec(db, sql, fn, arg, why);
    for (int p = 0; rc == SQLITE_OK && p < PARTS_MAX && t->part[p]; p++) {
        while (sqlite3_step(t->part[p]) == SQLITE_ROW)
            ;
        rc = sqlite3_reset(t->part[p]);
    }
    return rc;
}
