// SPDX-License-Identifier: Apache-2.0
/* A damaged SQLite file, copied so that SQLite opens it: what can still be read is then read row by
 * row. The damaged file itself is not touched. */
#ifndef STEADFS_DBRESCUE_H
#define STEADFS_DBRESCUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies `from` (which may be missing) and the committed content of its write-ahead log to `to`, in
 * rollback mode. sound: a good file of the same schema and page size; where the list of tables in
 * `from` cannot be read, its is taken. *torn: something of the log was left out because it is
 * damaged. 0 or -errno. */
int db_rescue(const char *from, const char *to, const char *sound, bool *torn);

/* The page size of the file at path, as its log or its header tells. 0: neither can be read. */
unsigned db_page_size(const char *path);

/* A write-ahead log as SQLite would take it. */
struct wal_state {
    bool header_sound;
    uint8_t salts[8]; /* as they are in its header */
    uint64_t frames;  /* committed, up to the first damaged one */
};
/* 0 or -errno (-ENOENT; -ENODATA: it holds nothing). Reads all of it. */
int wal_look(const char *path, struct wal_state *out);
#endif
