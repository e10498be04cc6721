// SPDX-License-Identifier: Apache-2.0
/* SQLite for the index of a directory storage: calls with errno results, and the schema. [internal
 * to dir_db.c] */
#ifndef DIR_SQL_H
#define DIR_SQL_H

#include "storage.h"

#include <sqlite3.h>

/* -ENOSPC where the disk, a quota or a file size limit is full; else -EIO. */
int dir_sql_errno(sqlite3 *db, int rc);
void dir_sql_bind_id(sqlite3_stmt *st, int at, const struct block_id *id); /* not copied */
void dir_sql_bind_u64(sqlite3_stmt *st, int at, uint64_t v);
/* Steps once and resets: for statements that give no rows. */
int dir_sql_run(sqlite3 *db, sqlite3_stmt *st);
int dir_sql_exec(sqlite3 *db, const char *sql);
/* The first column of the first row; *out stays as it was without one. */
int dir_sql_int(sqlite3 *db, const char *sql, int *out);
int dir_sql_prepare(sqlite3 *db, const char *const *sql, sqlite3_stmt **st, int n);
/* Brings the schema up to date; a new database gets the incarnation. -EPROTO: it is a newer one. */
int dir_sql_bring_up(sqlite3 *db, const uint8_t fresh[INCARNATION_LEN]);
#endif
