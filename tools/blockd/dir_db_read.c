// SPDX-License-Identifier: Apache-2.0
/* Readers of the index: connections of their own, which never wait for the writer. */
#include "dir_db_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READERS_KEPT 8

static const char *const read_sql[READS] = {
    [READ_ANY] = "SELECT stored_len, logical_len, file, 0 FROM block WHERE id = ?1",
    [READ_NS] = ("SELECT stored_len, logical_len, file, generation FROM block JOIN held USING (n) "
                 "WHERE id = ?1 AND ns = ?2"),
    [READ_BYTES] = "SELECT bytes FROM small JOIN block USING (n) WHERE id = ?1",
    [READ_FILE] = "SELECT 1 FROM block WHERE file = ?1",
    [READ_STORE] = "SELECT blocks, bytes, incarnation FROM store",
    [READ_LOST] = "SELECT serial, ns, id, generation FROM lost ORDER BY serial LIMIT ?1",
    [READ_AFTER] = "SELECT id, stored_len FROM block WHERE id > ?1 ORDER BY id LIMIT ?2",
    [READ_OTHER] = ("SELECT ns FROM held JOIN block USING (n) WHERE id = ?1 AND ns <> ?2 "
                    "ORDER BY ns LIMIT 1"),
    [READ_HELD] = ("SELECT id, ns, logical_len, generation FROM block JOIN held USING (n) "
                   "WHERE id > ?1 ORDER BY id, ns LIMIT ?2"),
    [READ_UNCLAIMED] = "SELECT 1 FROM unclaimed JOIN block USING (n) WHERE id = ?1",
    [ANY_UNCLAIMED] = "SELECT 1 FROM unclaimed LIMIT 1",
    [READ_DOOMED] = "SELECT file FROM doomed WHERE file > ?1 ORDER BY file LIMIT 1",
};

void reader_free(struct reader *r)
{
    for (int i = 0; i < READS; i++)
        sqlite3_finalize(r->st[i]);
    sqlite3_close(r->db);
    free(r);
}

struct reader *reader_open(const char *path, int flags)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    if (sqlite3_open_v2(path, &r->db, flags | SQLITE_OPEN_NOMUTEX, NULL) ||
        sqlite3_busy_timeout(r->db, DIR_DB_BUSY_MS) ||
        dir_sql_exec(r->db, "PRAGMA query_only = 1") ||
        dir_sql_prepare(r->db, read_sql, r->st, READS)) {
        reader_free(r);
        return NULL;
    }
    return r;
}

struct reader *reader_take(struct dir_db *d)
{
    pthread_mutex_lock(&d->lock);
    struct reader *r = d->readers;
    if (r) {
        d->readers = r->next;
        d->readers_n--;
    }
    pthread_mutex_unlock(&d->lock);
    return r ? r : reader_open(d->path, SQLITE_OPEN_READWRITE);
}

void reader_give(struct dir_db *d, struct reader *r)
{
    pthread_mutex_lock(&d->lock);
    bool keep = d->readers_n < READERS_KEPT;
    if (keep) {
        r->next = d->readers;
        d->readers = r;
        d->readers_n++;
    }
    pthread_mutex_unlock(&d->lock);
    if (!keep)
        reader_free(r);
}

/* 0; -ENOENT; -EIO */
static int look_up(struct reader *r, uint64_t ns, const struct block_id *id, struct dir_place *out)
{
    sqlite3_stmt *st = r->st[ns ? READ_NS : READ_ANY];
    dir_sql_bind_id(st, 1, id);
    if (ns)
        dir_sql_bind_u64(st, 2, ns);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        const char *file = (const char *)sqlite3_column_text(st, 2);
        out->stored_len = (uint64_t)sqlite3_column_int64(st, 0);
        out->logical_len = (uint64_t)sqlite3_column_int64(st, 1);
        out->generation = (uint64_t)sqlite3_column_int64(st, 3);
        snprintf(out->file, sizeof out->file, "%s", file ? file : "");
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : -EIO;
}

int dir_db_find(struct dir_db *d, uint64_t ns, const struct block_id *ids, size_t n,
                struct dir_place *out, bool *found)
{
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    int err = dir_sql_exec(r->db, "BEGIN");
    for (size_t i = 0; !err && i < n; i++) {
        err = look_up(r, ns, &ids[i], &out[i]);
        found[i] = !err;
        if (err == -ENOENT)
            err = 0;
    }
    dir_sql_exec(r->db, "COMMIT");
    reader_give(d, r);
    return err;
}

int dir_db_get(struct dir_db *d, uint64_t ns, const struct block_id *id, struct dir_place *place,
               struct buf *out)
{
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    int err = dir_sql_exec(r->db, "BEGIN");
    if (!err)
        err = look_up(r, ns, id, place);
    if (!err && !place->file[0]) {
        sqlite3_stmt *st = r->st[READ_BYTES];
        dir_sql_bind_id(st, 1, id);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            buf_append(out, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
        err = rc == SQLITE_ROW ? 0 : -EIO;
        sqlite3_reset(st);
    }
    dir_sql_exec(r->db, "COMMIT");
    reader_give(d, r);
    return err;
}

/* Idle connections go, with their pages; the kernel's go where nobody has written them anew. */
void dir_db_uncache(struct dir_db *d)
{
    pthread_mutex_lock(&d->lock);
    struct reader *r, *idle = d->readers;
    d->readers = NULL;
    d->readers_n = 0;
    pthread_mutex_unlock(&d->lock);
    while ((r = idle)) {
        idle = r->next;
        reader_free(r);
    }
    posix_fadvise(d->fd, 0, 0, POSIX_FADV_DONTNEED);
}

int dir_db_other(struct dir_db *d, uint64_t ns, const struct block_id *id, uint64_t *other)
{
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    sqlite3_stmt *st = r->st[READ_OTHER];
    dir_sql_bind_id(st, 1, id);
    dir_sql_bind_u64(st, 2, ns);
    int rc = sqlite3_step(st);
    *other = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    reader_give(d, r);
    return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : -EIO;
}

int dir_db_after(struct dir_db *d, const struct block_id *id, struct storage_entry *v, size_t max,
                 size_t *n)
{
    *n = 0;
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    sqlite3_stmt *st = r->st[READ_AFTER];
    sqlite3_bind_blob(st, 1, id ? id->b : (const void *)"", id ? BLOCK_ID_LEN : 0, SQLITE_STATIC);
    dir_sql_bind_u64(st, 2, max);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct storage_entry *e = &v[(*n)++];
        memcpy(e->id.b, sqlite3_column_blob(st, 0), BLOCK_ID_LEN);
        e->stored_len = (uint64_t)sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    reader_give(d, r);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

int dir_db_held(struct dir_db *d, const struct block_id *id, struct storage_held *v, size_t max,
                size_t *n)
{
    *n = 0;
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    sqlite3_stmt *st = r->st[READ_HELD];
    sqlite3_bind_blob(st, 1, id ? id->b : (const void *)"", id ? BLOCK_ID_LEN : 0, SQLITE_STATIC);
    dir_sql_bind_u64(st, 2, max);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct storage_held *h = &v[(*n)++];
        memcpy(h->id.b, sqlite3_column_blob(st, 0), BLOCK_ID_LEN);
        h->ns = (uint64_t)sqlite3_column_int64(st, 1);
        h->logical_len = (uint64_t)sqlite3_column_int64(st, 2);
        h->generation = (uint64_t)sqlite3_column_int64(st, 3);
    }
    sqlite3_reset(st);
    reader_give(d, r);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

bool reader_any_unclaimed(struct dir_db *d, const struct block_id *ids, size_t n)
{
    struct reader *r = reader_take(d);
    if (!r)
        return true;
    sqlite3_stmt *st = r->st[n ? READ_UNCLAIMED : ANY_UNCLAIMED];
    int rc = SQLITE_DONE;
    for (size_t i = 0; i < (n ? n : 1) && rc == SQLITE_DONE; i++) {
        if (n)
            dir_sql_bind_id(st, 1, &ids[i]);
        rc = sqlite3_step(st);
        sqlite3_reset(st);
    }
    sqlite3_clear_bindings(st);
    reader_give(d, r);
    return rc != SQLITE_DONE;
}

bool dir_db_knows_file(struct dir_db *d, const char *file)
{
    struct reader *r = reader_take(d);
    if (!r)
        return true; /* nothing is thrown away on a doubt */
    sqlite3_bind_text(r->st[READ_FILE], 1, file, -1, SQLITE_STATIC);
    int rc = sqlite3_step(r->st[READ_FILE]);
    sqlite3_reset(r->st[READ_FILE]);
    reader_give(d, r);
    return rc != SQLITE_DONE;
}

int dir_db_doomed(struct dir_db *d, bool (*fn)(void *arg, const char *file), void *arg)
{
    char file[DIR_FILE_NAME] = "";
    for (;;) {
        struct reader *r = reader_take(d);
        if (!r)
            return -EIO;
        sqlite3_stmt *st = r->st[READ_DOOMED];
        sqlite3_bind_text(st, 1, file, -1, SQLITE_TRANSIENT);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            snprintf(file, sizeof file, "%s", (const char *)sqlite3_column_text(st, 0));
        sqlite3_reset(st);
        reader_give(d, r);
        if (rc != SQLITE_ROW)
            return rc == SQLITE_DONE ? 0 : -EIO;
        const char *one = file;
        int err = fn(arg, file) ? dir_db_forget_doomed(d, &one, 1) : 0;
        if (err)
            return err;
    }
}

int dir_db_lost(struct dir_db *d, struct storage_lost *v, size_t max, size_t *n)
{
    *n = 0;
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    sqlite3_stmt *st = r->st[READ_LOST];
    dir_sql_bind_u64(st, 1, max);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct storage_lost *l = &v[(*n)++];
        l->serial = (uint64_t)sqlite3_column_int64(st, 0);
        l->ns = (uint64_t)sqlite3_column_int64(st, 1);
        memcpy(l->id.b, sqlite3_column_blob(st, 2), BLOCK_ID_LEN);
        l->generation = (uint64_t)sqlite3_column_int64(st, 3);
    }
    sqlite3_reset(st);
    reader_give(d, r);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

int dir_db_incarnation(struct dir_db *d, uint8_t out[INCARNATION_LEN])
{
    struct reader *r = reader_take(d);
    if (!r)
        return -EIO;
    sqlite3_stmt *st = r->st[READ_STORE];
    int err = -EIO;
    if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_bytes(st, 2) == INCARNATION_LEN) {
        memcpy(out, sqlite3_column_blob(st, 2), INCARNATION_LEN);
        err = 0;
    }
    sqlite3_reset(st);
    reader_give(d, r);
    return err;
}

void dir_db_totals(struct dir_db *d, uint64_t *blocks, uint64_t *bytes)
{
    pthread_mutex_lock(&d->lock);
    *blocks = d->blocks;
    *bytes = d->bytes;
    pthread_mutex_unlock(&d->lock);
}

void reader_totals(struct dir_db *d, struct reader *r)
{
    sqlite3_stmt *st = r->st[READ_STORE];
    if (sqlite3_step(st) == SQLITE_ROW) {
        uint64_t blocks = (uint64_t)sqlite3_column_int64(st, 0);
        uint64_t bytes = (uint64_t)sqlite3_column_int64(st, 1);
        pthread_mutex_lock(&d->lock);
        d->blocks = blocks;
        d->bytes = bytes;
        pthread_mutex_unlock(&d->lock);
    }
    sqlite3_reset(st);
}

int dir_db_list(const char *dir,
                void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len), void *arg,
                char *err)
{
    char *path;
    if (asprintf(&path, "%s/index.db", dir) < 0)
        abort();
    /* read-only fails where the log of a killed server is still to be looked through */
    struct reader *r = reader_open(path, SQLITE_OPEN_READONLY);
    if (!r)
        r = reader_open(path, SQLITE_OPEN_READWRITE);
    sqlite3_stmt *st = NULL;
    int rc = SQLITE_ERROR;
    if (r &&
        !sqlite3_prepare_v2(r->db, "SELECT id, stored_len FROM block ORDER BY id", -1, &st, NULL)) {
        while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
            struct block_id id;
            memcpy(id.b, sqlite3_column_blob(st, 0), BLOCK_ID_LEN);
            fn(arg, &id, (uint64_t)sqlite3_column_int64(st, 1));
        }
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE)
        snprintf(err, 512, "cannot read %s: is it the data directory of a block server?", path);
    if (r)
        reader_free(r);
    free(path);
    return rc == SQLITE_DONE ? 0 : -EIO;
}
