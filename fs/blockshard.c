// SPDX-License-Identifier: Apache-2.0
/* Layout and settings follow measurements of SQLite as a store of large values:
 *
 * - A rollback journal, not WAL: pages appended to the file, and free pages used again, are not
 *   journalled, so that every byte is written once. PERSIST keeps the journal's file and its
 *   length, which saves small transactions two calls.
 * - synchronous=OFF: what must hold is that a crash of the process loses nothing, for which the
 * page cache is enough. The owner calls shard_sync for more, and checks files that were not synced
 * after a crash of the machine, block by block. A file that was synced and is written on is
 * switched to NORMAL (shard_careful), because half a transaction on disk could make what was
 * durable unreadable.
 * - 64 KiB pages for large blocks, 16 KiB for small ones: a small value in a large page wastes the
 * page.
 * - auto_vacuum=INCREMENTAL, never run: only for its pointer map, with which SQLite finds the pages
 * of a value in sequence, so that reading 128 KiB out of 4 MiB does not walk the whole chain.
 * - secure_delete=OFF (some distributions turn it on): deleting would overwrite every byte.
 * - No cache spill: a transaction's pages stay in memory until it commits.
 */
#include "blockshard.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks.sql.h"

#define BLOCKS_VERSION 1   /* of a file's tables; as blocks.sql says */
#define VERSIONS_MAX 10000 /* a larger one is damage */

struct shard {
    char *path;
    bool large, careful;
    sqlite3 *db;
    sqlite3_stmt *put_block, *put_data, *mark, *del_block, *del_data, *begin, *commit, *rollback;
    sqlite3_blob *blob; /* reopened row by row */
};

struct shard *shard_new(const char *path, bool large)
{
    struct shard *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->path = strdup(path)) == NULL)
        abort();
    s->large = large;
    return s;
}

void shard_hibernate(struct shard *s)
{
    if (s->db == NULL)
        return;
    sqlite3_blob_close(s->blob);
    s->blob = NULL;
    sqlite3_stmt **all[] = {&s->put_block, &s->put_data, &s->mark,   &s->del_block,
                            &s->del_data,  &s->begin,    &s->commit, &s->rollback};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        sqlite3_finalize(*all[i]);
        *all[i] = NULL;
    }
    sqlite3_close(s->db);
    s->db = NULL;
}

void shard_free(struct shard *s)
{
    if (s == NULL)
        return;
    shard_hibernate(s);
    free(s->path);
    free(s);
}

bool shard_awake(const struct shard *s)
{
    return s->db != NULL;
}

const char *shard_path(const struct shard *s)
{
    return s->path;
}

static int sql_errno(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_MISMATCH:
        return -EPROTONOSUPPORT;
    default:
        return -EIO;
    }
}

static int number(sqlite3 *db, const char *sql, int *out)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(st);
    *out = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* Makes the tables of a new file. One that has them and no version was written before versions were
 * counted, and is as version 1; nothing is written into it for that: it may be all that there is on
 * a disk that is full, or known to be durable. SQLITE_MISMATCH: another version. */
static int tables(sqlite3 *db)
{
    int version = 0, made = 0;
    int rc = number(db, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK && version == 0)
        rc = number(db, "SELECT count(*) FROM sqlite_schema", &made);
    if (rc != SQLITE_OK || made >= 2 || version == BLOCKS_VERSION)
        return rc;
    if (version < 0 || version > VERSIONS_MAX)
        return SQLITE_CORRUPT;
    return version != 0 ? SQLITE_MISMATCH : sqlite3_exec(db, sql_blocks, NULL, NULL, NULL);
}

static int wake(struct shard *s)
{
    if (s->db != NULL)
        return 0;
    int rc = sqlite3_open_v2(
        s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    char settings[320];
    snprintf(settings, sizeof(settings),
             "PRAGMA page_size=%d; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA locking_mode=EXCLUSIVE;"
             "PRAGMA journal_mode=PERSIST; PRAGMA synchronous=%s; PRAGMA secure_delete=OFF;"
             "PRAGMA cache_size=-%d; PRAGMA cache_spill=OFF; PRAGMA temp_store=MEMORY;",
             s->large ? 65536 : 16384, s->careful ? "NORMAL" : "OFF", s->large ? 17000 : 4000);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, settings, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = tables(s->db);
    const struct {
        sqlite3_stmt **to;
        const char *sql;
    } prepare[] = {
        {&s->put_block, "INSERT INTO block(id, len, unsynced) VALUES (?1, ?2, ?3)"},
        {&s->put_data, "INSERT INTO data(n, bytes) VALUES (?1, ?2)"},
        {&s->mark, "UPDATE block SET unsynced=?2 WHERE n=?1"},
        {&s->del_block, "DELETE FROM block WHERE n=?1"},
        {&s->del_data, "DELETE FROM data WHERE n=?1"},
        {&s->begin, "BEGIN IMMEDIATE"},
        {&s->commit, "COMMIT"},
        {&s->rollback, "ROLLBACK"},
    };
    for (size_t i = 0; rc == SQLITE_OK && i < sizeof(prepare) / sizeof(prepare[0]); i++)
        rc = sqlite3_prepare_v3(s->db, prepare[i].sql, -1, SQLITE_PREPARE_PERSISTENT, prepare[i].to,
                                NULL);
    if (rc != SQLITE_OK)
        shard_hibernate(s);
    return sql_errno(rc);
}

static int run(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return sql_errno(rc);
}

/* Ends the transaction: commits if rc is 0, rolls back otherwise. */
static int finish(struct shard *s, int rc)
{
    if (rc == 0)
        rc = run(s->commit);
    if (rc != 0 && sqlite3_get_autocommit(s->db) == 0)
        run(s->rollback);
    return rc;
}

/* An open blob is a read transaction, which no writing one should meet. */
static void close_blob(struct shard *s)
{
    sqlite3_blob_close(s->blob);
    s->blob = NULL;
}

int shard_put(struct shard *s, const struct blocks_item *v, size_t n, bool unsynced, uint32_t *row)
{
    int rc = wake(s);
    if (rc != 0)
        return rc;
    close_blob(s);
    if ((rc = run(s->begin)) != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        sqlite3_bind_blob(s->put_block, 1, v[i].id.b, BLOCK_ID_LEN, SQLITE_STATIC);
        sqlite3_bind_int64(s->put_block, 2, v[i].len);
        sqlite3_bind_int(s->put_block, 3, unsynced);
        rc = run(s->put_block);
        if (rc != 0)
            break;
        row[i] = (uint32_t)sqlite3_last_insert_rowid(s->db);
        sqlite3_bind_int64(s->put_data, 1, row[i]);
        sqlite3_bind_blob64(s->put_data, 2, v[i].p, v[i].len, SQLITE_STATIC);
        rc = run(s->put_data);
        sqlite3_clear_bindings(s->put_data);
    }
    return finish(s, rc);
}

int shard_read(struct shard *s, uint32_t row, uint32_t off, void *p, uint32_t len)
{
    int rc = wake(s);
    if (rc != 0)
        return rc;
    rc = s->blob != NULL ? sqlite3_blob_reopen(s->blob, row)
                         : sqlite3_blob_open(s->db, "main", "data", "bytes", row, 0, &s->blob);
    if (rc == SQLITE_OK)
        rc = sqlite3_blob_read(s->blob, p, (int)len, (int)off);
    if (rc != SQLITE_OK) {
        close_blob(s);
        return rc == SQLITE_ERROR ? -ENOENT : sql_errno(rc);
    }
    return 0;
}

int shard_mark(struct shard *s, const uint32_t *row, size_t n, bool unsynced)
{
    int rc = wake(s);
    if (rc != 0)
        return rc;
    close_blob(s);
    if ((rc = run(s->begin)) != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        sqlite3_bind_int64(s->mark, 1, row[i]);
        sqlite3_bind_int(s->mark, 2, unsynced);
        rc = run(s->mark);
    }
    return finish(s, rc);
}

int shard_delete(struct shard *s, uint32_t row)
{
    int rc = wake(s);
    if (rc != 0)
        return rc;
    close_blob(s);
    if ((rc = run(s->begin)) != 0)
        return rc;
    sqlite3_bind_int64(s->del_block, 1, row);
    sqlite3_bind_int64(s->del_data, 1, row);
    rc = run(s->del_block);
    if (rc == 0)
        rc = run(s->del_data);
    return finish(s, rc);
}

int shard_unsynced(struct shard *s, const struct block_id *after, struct block_id *v, size_t max)
{
    int rc = wake(s);
    if (rc != 0)
        return rc;
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(s->db,
                           "SELECT id FROM block WHERE unsynced=1 AND id>?1 ORDER BY id LIMIT ?2",
                           -1, &st, NULL) != SQLITE_OK)
        return -EIO;
    sqlite3_bind_blob(st, 1, after != NULL ? (const void *)after->b : "",
                      after != NULL ? BLOCK_ID_LEN : 0, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, (int64_t)max);
    int n = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        if (sqlite3_column_bytes(st, 0) == BLOCK_ID_LEN)
            memcpy(v[n++].b, sqlite3_column_blob(st, 0), BLOCK_ID_LEN);
    sqlite3_finalize(st);
    return rc == SQLITE_DONE ? n : -EIO;
}

/* Whether the row's bytes can be read and are those that the id names. buf: BLOCK_MAX bytes. */
static bool row_matches(struct shard *s, uint32_t row, const struct block_id *id, uint32_t len,
                        uint8_t *buf)
{
    return len <= BLOCK_MAX && shard_read(s, row, 0, buf, len) == 0 &&
           block_id_matches(id, buf, len);
}

int shard_scan(struct shard *s, bool verify, shard_seen fn, void *arg, size_t *bad_unsynced,
               size_t *bad_cached)
{
    int rc = wake(s);
    if (rc != 0)
        return rc;
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(s->db, "SELECT n, id, len, unsynced FROM block ORDER BY n", -1, &st,
                           NULL) != SQLITE_OK)
        return -EIO;
    uint8_t *buf = verify ? malloc(BLOCK_MAX) : NULL;
    uint32_t *bad = NULL;
    size_t bad_n = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        uint32_t row = (uint32_t)sqlite3_column_int64(st, 0),
                 len = (uint32_t)sqlite3_column_int64(st, 2);
        bool unsynced = sqlite3_column_int(st, 3) != 0;
        struct block_id id;
        bool good = sqlite3_column_bytes(st, 1) == BLOCK_ID_LEN;
        if (good)
            memcpy(id.b, sqlite3_column_blob(st, 1), BLOCK_ID_LEN);
        if (good && verify)
            good = buf != NULL && row_matches(s, row, &id, len, buf);
        if (good) {
            fn(arg, row, &id, len, unsynced);
            continue;
        }
        ++*(unsynced ? bad_unsynced : bad_cached);
        uint32_t *more = realloc(bad, (bad_n + 1) * sizeof(*bad));
        if (more == NULL)
            abort();
        bad = more;
        bad[bad_n++] = row;
    }
    sqlite3_finalize(st);
    for (size_t i = 0; i < bad_n; i++)
        shard_delete(s, bad[i]);
    free(bad);
    free(buf);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

/* One value of a damaged file. With its description it must match it; without one, a value that can
 * be read is worth keeping under the id that its bytes give. */
static bool salvage_row(sqlite3_stmt *value, sqlite3_stmt *description, int64_t n, bool all,
                        struct shard *to)
{
    struct blocks_item it = {0};
    bool good = false;
    sqlite3_bind_int64(value, 1, n);
    if (sqlite3_step(value) == SQLITE_ROW) {
        it.p = sqlite3_column_blob(value, 0);
        it.len = (uint32_t)sqlite3_column_bytes(value, 0);
        good = it.p != NULL && it.len <= BLOCK_MAX;
    }
    if (good) {
        block_id_of(&it.id, it.p, it.len);
        sqlite3_bind_int64(description, 1, n);
        if (sqlite3_step(description) == SQLITE_ROW)
            good = (all || sqlite3_column_int(description, 1) != 0) &&
                   sqlite3_column_bytes(description, 0) == BLOCK_ID_LEN &&
                   memcmp(sqlite3_column_blob(description, 0), it.id.b, BLOCK_ID_LEN) == 0;
        sqlite3_reset(description);
    }
    uint32_t row;
    good = good && shard_put(to, &it, 1, true, &row) == 0;
    sqlite3_reset(value);
    return good;
}

/* Reads values by number, one after the other, so that damage in one place costs only what lies
 * there. */
int shard_salvage(struct shard *s, struct shard *to, bool all, size_t *saved, size_t *lost)
{
    *saved = *lost = 0;
    int rc = wake(s);
    if (rc != 0)
        return rc;
    int64_t rows = 0, described = 0;
    sqlite3_stmt *st = NULL, *description = NULL;
    if (sqlite3_prepare_v2(s->db,
                           "SELECT max(n) FROM data UNION ALL"
                           " SELECT count(*) FROM block WHERE ?1 OR unsynced",
                           -1, &st, NULL) == SQLITE_OK) {
        sqlite3_bind_int(st, 1, all);
        if (sqlite3_step(st) == SQLITE_ROW)
            rows = sqlite3_column_int64(st, 0);
        if (sqlite3_step(st) == SQLITE_ROW)
            described = sqlite3_column_int64(st, 0);
        sqlite3_finalize(st);
    }
    if (rows <= 0 || rows > SHARD_MAX / 16)
        rows = SHARD_MAX / 4096; /* the end of the table cannot be read: as many as are likely */
    if (sqlite3_prepare_v2(s->db, "SELECT bytes FROM data WHERE n=?1", -1, &st, NULL) != SQLITE_OK)
        return -EIO;
    if (sqlite3_prepare_v2(s->db, "SELECT id, unsynced FROM block WHERE n=?1", -1, &description,
                           NULL) == SQLITE_OK)
        for (int64_t n = 1; n <= rows; n++)
            *saved += salvage_row(st, description, n, all, to) ? 1 : 0;
    sqlite3_finalize(st);
    sqlite3_finalize(description);
    if (described > (int64_t)*saved)
        *lost = (size_t)described - *saved;
    return 0;
}

int shard_verify(struct shard *s)
{
    shard_hibernate(s);
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int rc = -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what is read now is on the disk */
    close(fd);
    if (rc == 0)
        rc = wake(s);
    if (rc != 0)
        return rc;
    uint8_t *buf = malloc(BLOCK_MAX);
    sqlite3_stmt *st = NULL;
    if (buf == NULL ||
        sqlite3_prepare_v2(s->db, "SELECT n, id, len FROM block", -1, &st, NULL) != SQLITE_OK)
        rc = buf == NULL ? -ENOMEM : -EIO;
    int step = SQLITE_DONE;
    while (rc == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
        struct block_id id;
        bool good = sqlite3_column_bytes(st, 1) == BLOCK_ID_LEN;
        if (good)
            memcpy(id.b, sqlite3_column_blob(st, 1), BLOCK_ID_LEN);
        good = good && row_matches(s, (uint32_t)sqlite3_column_int64(st, 0), &id,
                                   (uint32_t)sqlite3_column_int64(st, 2), buf);
        rc = good ? 0 : -EIO;
    }
    sqlite3_finalize(st);
    free(buf);
    return rc != 0 ? rc : step == SQLITE_DONE ? 0 : -EIO;
}

int shard_careful(struct shard *s)
{
    int rc = wake(s);
    s->careful = true;
    if (rc == 0)
        rc = sql_errno(sqlite3_exec(s->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL));
    return rc;
}

int shard_sync(struct shard *s)
{
    int fd = open(s->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int rc = fdatasync(fd) == 0 ? 0 : -errno;
    /* Closing any descriptor of the file drops the process's POSIX locks on it, SQLite's included;
     * one process owns the state directory, so that nobody can take them meanwhile. */
    close(fd);
    return rc;
}
