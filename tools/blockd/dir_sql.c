// SPDX-License-Identifier: Apache-2.0
/* The schema is brought up to date in one transaction, whatever the version that was found: a new
 * database and an old one end with the same tables. */
#include "dir_sql.h"

#include "durable.h"

#include <errno.h>
#include <stdio.h>

#include "blocks.sql.h"
#include "generation.sql.h"
#include "lost.sql.h"
#include "unclaimed.sql.h"

#define SCHEMA_VERSION 4 /* 1 lacked the table lost, 2 generations, 3 the table unclaimed */

/* SQLite says "full" for ENOSPC only; quota and file size limit are among its I/O errors, and just
 * the file at fault, the log or the database, remembers the number. */
static bool out_of_room(sqlite3 *db)
{
    int of_db = 0, of_log = 0;
    sqlite3_file *log = NULL;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO, &of_db);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, (void *)&log);
    if (log && log->pMethods)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &of_log);
    return write_error(of_db) == -ENOSPC || write_error(of_log) == -ENOSPC;
}

int dir_sql_errno(sqlite3 *db, int rc)
{
    if ((rc & 0xff) == SQLITE_FULL || ((rc & 0xff) == SQLITE_IOERR && out_of_room(db)))
        return -ENOSPC;
    return -EIO;
}

void dir_sql_bind_id(sqlite3_stmt *st, int at, const struct block_id *id)
{
    sqlite3_bind_blob(st, at, id->b, BLOCK_ID_LEN, SQLITE_STATIC);
}

void dir_sql_bind_u64(sqlite3_stmt *st, int at, uint64_t v)
{
    sqlite3_bind_int64(st, at, (sqlite3_int64)v);
}

int dir_sql_run(sqlite3 *db, sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    int r = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : dir_sql_errno(db, rc);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return r;
}

int dir_sql_exec(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : dir_sql_errno(db, rc);
}

int dir_sql_int(sqlite3 *db, const char *sql, int *out)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (!rc && sqlite3_step(st) == SQLITE_ROW)
        *out = sqlite3_column_int(st, 0);
    rc = sqlite3_finalize(st);
    return rc ? dir_sql_errno(db, rc) : 0;
}

int dir_sql_prepare(sqlite3 *db, const char *const *sql, sqlite3_stmt **st, int n)
{
    for (int i = 0; i < n; i++)
        if (sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &st[i], NULL))
            return -EIO;
    return 0;
}

static int schema_version(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    int v = -1;
    if (!sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL) &&
        sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return v;
}

static int create(sqlite3 *db, const uint8_t fresh[INCARNATION_LEN])
{
    sqlite3_stmt *st = NULL;
    int r = dir_sql_exec(db, sql_blocks);
    if (!r && sqlite3_prepare_v2(db, "INSERT INTO store VALUES (1, 0, 0, ?1)", -1, &st, NULL))
        r = -EIO;
    if (!r) {
        sqlite3_bind_blob(st, 1, fresh, INCARNATION_LEN, SQLITE_STATIC);
        r = dir_sql_run(db, st);
    }
    sqlite3_finalize(st);
    return r;
}

/* What a database of that version (0: a new one) lacks, all of it or nothing. */
static int migrate(sqlite3 *db, int from, const uint8_t fresh[INCARNATION_LEN])
{
    char version[64];
    int r = dir_sql_exec(db, "BEGIN IMMEDIATE");
    if (!r && from < 1)
        r = create(db, fresh);
    if (!r && from < 2)
        r = dir_sql_exec(db, sql_lost);
    if (!r && from < 3)
        r = dir_sql_exec(db, sql_generation);
    if (!r && from < 4)
        r = dir_sql_exec(db, sql_unclaimed);
    snprintf(version, sizeof version, "PRAGMA user_version = %d", SCHEMA_VERSION);
    if (!r)
        r = dir_sql_exec(db, version);
    return r ? r : dir_sql_exec(db, "COMMIT");
}

int dir_sql_bring_up(sqlite3 *db, const uint8_t fresh[INCARNATION_LEN])
{
    int version = schema_version(db);
    if (version < 0)
        return -EIO;
    if (version > SCHEMA_VERSION)
        return -EPROTO;
    return version < SCHEMA_VERSION ? migrate(db, version, fresh) : 0;
}
