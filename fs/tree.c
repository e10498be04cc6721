// SPDX-License-Identifier: Apache-2.0
/* One connection, NOMUTEX (the caller has a lock), WAL with synchronous=NORMAL: a commit writes the
 * log into the page cache, which survives the process; power loss may take the newest transactions,
 * never consistency. What must not go back (reserved numbers) is committed with synchronous=FULL.
 * An exclusive lock keeps other processes out and spares the shared-memory index: the VFS
 * "unix-excl" (under walwrite.h), which lets a second connection of this process, the keeper, copy
 * the log into the database beside the writer; with a caller's VFS, locking_mode=EXCLUSIVE. The two
 * never copy at the same time, nor one just before the other: SQLite before 3.51.3 may take a log
 * that a commit begins anew during a copy for one that is copied
 * (https://www.sqlite.org/wal.html#walresetbug). Statements are cached by the address of their
 * literal text in a small hash table.
 */
#include "tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema.sql.h"
#include "schema_2.sql.h"
#include "schema_3.sql.h"
#include "schema_4.sql.h"
#include "schema_5.sql.h"
#include "schema_6.sql.h"
#include "schema_7.sql.h"
#include "schema_8.sql.h"
#include "treelog.h"
#include "walwrite.h"

#define TREE_VERSION 8
#define CHECKPOINT_FRAMES 4000      /* of the log: then it is due */
#define CHECKPOINT_FRAMES_MAX 16000 /* … and then done by whoever commits */
#define STMT_SLOTS 512              /* power of two, more than twice the statements there are */

struct tree {
    sqlite3 *db;
    unsigned depth;
    char *path;          /* NULL: there is no keeper */
    sqlite3 *keeper;     /* opened when it is needed */
    int frames;          /* in the log, as of the last commit; 0 once it was copied */
    bool copying;        /* the keeper is at it */
    struct treelog *log; /* or NULL */
    char *marker;        /* PATH.damaged, or NULL: damage is not noted (a VFS of a test's own) */
    bool damaged;
    uint64_t undone; /* transactions that were rolled back */
    bool failed;     /* something inside the transaction failed: it can only be rolled back */
    struct {
        const char *sql;
        sqlite3_stmt *stmt;
    } cache[STMT_SLOTS];
};

static int errno_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    default:
        return -EIO;
    }
}

/* Damage that shows while the tree is in use is remembered for the next open: what is read first
 * then may be sound. */
void tree_note_damage(struct tree *t)
{
    if (t->damaged)
        return;
    t->damaged = true;
    int fd = t->marker ? open(t->marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int result(struct tree *t, int rc)
{
    int err = errno_of(rc);
    if (err == -EUCLEAN)
        tree_note_damage(t);
    return err;
}

bool tree_damaged(const struct tree *t)
{
    return t->damaged;
}

static int run(struct tree *t, const char *sql)
{
    return result(t, sqlite3_exec(t->db, sql, NULL, NULL, NULL));
}

static int user_version(struct tree *t, int *version)
{
    sqlite3_stmt *s;
    int rc = sqlite3_prepare_v2(t->db, "PRAGMA user_version", -1, &s, NULL);
    if (rc != SQLITE_OK)
        return errno_of(rc);
    rc = sqlite3_step(s);
    *version = rc == SQLITE_ROW ? sqlite3_column_int(s, 0) : 0;
    sqlite3_finalize(s);
    return rc == SQLITE_ROW ? 0 : errno_of(rc);
}

static int migrate(struct tree *t, int version)
{
    char set[64];
    int err = run(t, "BEGIN IMMEDIATE");
    static const char *const steps[TREE_VERSION] = {sql_schema,   sql_schema_2, sql_schema_3,
                                                    sql_schema_4, sql_schema_5, sql_schema_6,
                                                    sql_schema_7, sql_schema_8};
    for (int v = version; !err && v < TREE_VERSION; v++)
        err = run(t, steps[v]);
    snprintf(set, sizeof set, "PRAGMA user_version = %d", TREE_VERSION);
    if (!err)
        err = run(t, set);
    if (!err)
        return run(t, "COMMIT");
    run(t, "ROLLBACK");
    return err;
}

/* What belongs to nodes of which something is pending, and to those that are under way. The nodes
 * come first, by the indexes that list them: left to itself SQLite reads the other table whole. */
#define LOOK_AT(columns, joined)                                                                   \
    "SELECT " columns " FROM node n INDEXED BY node_pending CROSS JOIN " joined                    \
    " WHERE n.pend != 0;"                                                                          \
    "SELECT " columns " FROM node n INDEXED BY node_request CROSS JOIN " joined                    \
    " WHERE n.request != 0"

#define CHANGED_EXTENTS                                                                            \
    "span s ON s.node = n.id AND s.kind IN (0, 1) CROSS JOIN extent x ON x.node = n.id"            \
    " AND x.off < s.end AND x.off >="                                                              \
    " coalesce((SELECT max(off) FROM extent WHERE node = n.id AND off <= s.off), 0)"

/* Reads all that is pending, as it will be sent: damage in it shows now and not in the middle of
 * work. Costs what is pending, not what is known. */
static int look(struct tree *t)
{
    static const char *const sql[] = {
        "SELECT max(length(value)) FROM meta",
        "SELECT max(cursor) FROM ns",
        "SELECT max(parked) FROM node INDEXED BY node_parked WHERE parked != 0",
        "SELECT max(length(changes)) FROM sent",
        LOOK_AT("max(s.end)", "span s ON s.node = n.id AND s.kind IN (0, 1)"),
        LOOK_AT("max(length(x.block))", CHANGED_EXTENTS),
        LOOK_AT("max(length(x.value))", "xattr x ON x.node = n.id"),
        LOOK_AT("max(length(e.name))", "entry e ON e.node = n.id AND e.node != 0"),
        "SELECT max(length(name)) FROM entry INDEXED BY entry_pending WHERE pend != 0",
        "SELECT max(length(name)) FROM entry INDEXED BY entry_request WHERE request != 0",
    };
    int err = 0;
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++)
        err = run(t, sql[i]);
    return err;
}

/* After each commit, instead of SQLite's own automatic checkpoint. */
static int committed(void *arg, sqlite3 *db, const char *name, int frames)
{
    struct tree *t = arg;
    if (t->log)
        treelog_commit(t->log, frames);
    t->frames = frames;
    if (t->copying || frames < (t->path ? CHECKPOINT_FRAMES_MAX : CHECKPOINT_FRAMES))
        return SQLITE_OK;
    /* what it cannot do now it does after the next commit */
    if (sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) == SQLITE_OK)
        t->frames = 0;
    return SQLITE_OK;
}

bool tree_log_long(const struct tree *t)
{
    return t->path && t->frames >= CHECKPOINT_FRAMES;
}

/* A connection knows of the log once it has read. */
static int keeper_open(struct tree *t)
{
    int rc = sqlite3_open_v2(t->path, &t->keeper, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                             "unix-excl");
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(t->keeper, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        sqlite3_close(t->keeper);
        t->keeper = NULL;
    }
    return rc;
}

bool tree_checkpoint_begin(struct tree *t)
{
    t->copying = tree_log_long(t);
    return t->copying;
}

int tree_checkpoint(struct tree *t)
{
    int rc = t->keeper ? SQLITE_OK : keeper_open(t);
    if (rc == SQLITE_OK)
        rc = sqlite3_wal_checkpoint_v2(t->keeper, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return errno_of(rc);
}

int tree_checkpoint_end(struct tree *t)
{
    int err = tree_checkpoint(t);
    if (!err)
        t->frames = 0;
    t->copying = false;
    return err;
}

static int open_db(struct tree *t, const char *path, const char *vfs, char *why)
{
    int version = 0;
    int rc = sqlite3_open_v2(path, &t->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                             t->path ? walwrite_vfs() : vfs);
    if (rc != SQLITE_OK) {
        snprintf(why, 512, "cannot open the local tree %s: %s", path, sqlite3_errmsg(t->db));
        return errno_of(rc);
    }
    /* EXTRA while the mode changes: that commits by unlinking a rollback journal, which must not
     * come back after power loss and undo what the WAL made durable meanwhile */
    int err = t->path ? 0 : run(t, "PRAGMA locking_mode=EXCLUSIVE");
    if (!err)
        err = run(
            t, "PRAGMA page_size=" TREE_PAGE "; PRAGMA synchronous=EXTRA; PRAGMA journal_mode=WAL;"
               "PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-65536;"
               "PRAGMA secure_delete=OFF;"
               "PRAGMA cell_size_check=ON");
    sqlite3_wal_hook(t->db, committed, t);
    if (!err)
        err = user_version(t, &version);
    if (!err && version > TREE_VERSION) {
        snprintf(why, 512,
                 "%s was written by a newer steadfs (schema %d, this one knows %d): update", path,
                 version, TREE_VERSION);
        return -EPROTO;
    }
    if (!err && version < TREE_VERSION)
        err = migrate(t, version);
    if (!err && version == TREE_VERSION)
        err = look(t);
    if (!err)
        err = run(t, "BEGIN IMMEDIATE; COMMIT"); /* takes the exclusive lock now, not later */
    if (err == -EBUSY)
        snprintf(why, 512, "%s is in use by another process", path);
    else if (err)
        snprintf(why, 512, "the local tree %s cannot be used (%s)", path, sqlite3_errmsg(t->db));
    return err;
}

int tree_open(struct tree **out, const char *path, const char *vfs, char *why)
{
    struct tree *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    if (!vfs && (asprintf(&t->marker, "%s.damaged", path) < 0 || !(t->path = strdup(path)))) {
        free(t);
        return -ENOMEM;
    }
    int err = 0;
    if (t->marker && access(t->marker, F_OK) == 0) {
        snprintf(why, 512, "the local tree %s was found damaged while it was in use", path);
        err = -EUCLEAN;
    }
    if (!err && !vfs && (err = treelog_check(path)))
        snprintf(why, 512, "the log of the local tree %s is damaged", path);
    if (!err && !vfs)
        t->log = treelog_new(path);
    if (!err)
        err = open_db(t, path, vfs, why);
    if (err) {
        tree_close(t);
        return err;
    }
    *out = t;
    return 0;
}

void tree_close(struct tree *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < STMT_SLOTS; i++)
        sqlite3_finalize(t->cache[i].stmt);
    sqlite3_close(t->keeper);
    sqlite3_close(t->db);
    treelog_free(t->log);
    free(t->path);
    free(t->marker);
    free(t);
}

sqlite3 *tree_db(struct tree *t)
{
    return t->db;
}

uint64_t tree_version(const struct tree *t)
{
    return 1 + t->undone + (uint64_t)sqlite3_total_changes64(t->db);
}

sqlite3_stmt *tree_stmt(struct tree *t, const char *sql)
{
    size_t i = ((uintptr_t)sql >> 3) * 0x9e3779b97f4a7c15u >> 32 & (STMT_SLOTS - 1);
    while (t->cache[i].sql && t->cache[i].sql != sql)
        i = (i + 1) & (STMT_SLOTS - 1);
    if (!t->cache[i].sql) {
        int rc =
            sqlite3_prepare_v3(t->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &t->cache[i].stmt, NULL);
        if (rc != SQLITE_OK) {
            fprintf(stderr, "steadfs: %s: %s\n", sqlite3_errmsg(t->db), sql);
            return NULL; /* tree_step says -EIO */
        }
        t->cache[i].sql = sql;
    }
    sqlite3_stmt *s = t->cache[i].stmt;
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return s;
}

int tree_step(struct tree *t, sqlite3_stmt *s)
{
    int rc = s ? sqlite3_step(s) : SQLITE_ERROR;
    if (rc == SQLITE_ROW)
        return 1;
    if (s)
        sqlite3_reset(s);
    if (rc == SQLITE_DONE)
        return 0;
    if (t->depth)
        t->failed = true;
    return result(t, rc);
}

static int step_now(struct tree *t, const char *sql)
{
    return tree_step(t, tree_stmt(t, sql));
}

int tree_begin(struct tree *t)
{
    if (t->depth == 0) {
        int err = step_now(t, "BEGIN IMMEDIATE");
        if (err)
            return err;
        t->failed = false;
    }
    t->depth++;
    return 0;
}

int tree_end(struct tree *t, bool keep)
{
    assert(t->depth > 0);
    if (!keep)
        t->failed = true;
    if (--t->depth > 0)
        return 0;
    int err = 0;
    if (!t->failed) {
        err = step_now(t, "COMMIT");
        if (!err)
            return 0;
    }
    step_now(t, "ROLLBACK");
    t->undone++;
    return err ? err : keep ? -EIO : 0;
}

int tree_get(struct tree *t, const char *key, int64_t *value)
{
    sqlite3_stmt *s = tree_stmt(t, "SELECT value FROM meta WHERE key = ?1");
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    int rc = tree_step(t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *value = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return 0;
}

int tree_set(struct tree *t, const char *key, int64_t value)
{
    sqlite3_stmt *s = tree_stmt(t, "INSERT INTO meta(key, value) VALUES(?1, ?2)"
                                   " ON CONFLICT(key) DO UPDATE SET value = ?2");
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, value);
    return tree_step(t, s);
}

int tree_reserve(struct tree *t, const char *key, int64_t value)
{
    if (t->depth) { /* inside a transaction: it is made durable as a whole when that ends */
        int err = tree_set(t, key, value);
        return err;
    }
    int err = run(t, "PRAGMA synchronous=FULL");
    if (!err)
        err = tree_set(t, key, value);
    run(t, "PRAGMA synchronous=NORMAL");
    return err;
}

int tree_get_blob(struct tree *t, const char *key, void *p, size_t n)
{
    sqlite3_stmt *s = tree_stmt(t, "SELECT value FROM meta WHERE key = ?1");
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    int rc = tree_step(t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    bool fits = (size_t)sqlite3_column_bytes(s, 0) == n;
    if (fits && n)
        memcpy(p, sqlite3_column_blob(s, 0), n);
    sqlite3_reset(s);
    return fits ? 0 : -EUCLEAN;
}

int tree_set_blob(struct tree *t, const char *key, const void *p, size_t n)
{
    sqlite3_stmt *s = tree_stmt(t, "INSERT INTO meta(key, value) VALUES(?1, ?2)"
                                   " ON CONFLICT(key) DO UPDATE SET value = ?2");
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 2, p, n, SQLITE_STATIC);
    return tree_step(t, s);
}

int tree_flush(struct tree *t)
{
    int64_t flushes = 0;
    int err = tree_get(t, "flushes", &flushes);
    return err && err != -ENOENT ? err : tree_reserve(t, "flushes", flushes + 1);
}
