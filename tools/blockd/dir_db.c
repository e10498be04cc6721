// SPDX-License-Identifier: Apache-2.0
/* The index in SQLite.
 *
 * WAL with synchronous=FULL: a commit is one sync, and readers go on meanwhile. The price, small
 * blocks written twice, is paid later: the keeper checkpoints when nothing waits, or whoever wrote
 * when the log has grown past a bound.
 *
 * Group commit: whoever comes while nobody writes takes all jobs that wait, applies them in one
 * transaction, and answers them together; the others wait. A thread that only writes would cost
 * each put two changes of threads. Where a transaction fails (a full disk), each row is tried again
 * in one of its own, so that only those fail which cannot be stored.
 */
#include "dir_db.h"

#include "dir_sql.h"
#include "durable.h"
#include "walfile.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define READERS_KEPT 8
#define BUSY_MS 10000
#define CHECKPOINT_BYTES (8 << 20)       /* of the log: when idle */
#define CHECKPOINT_BYTES_MAX (128 << 20) /* whatever waits */
#define LOG_RESERVE (12 << 20)           /* bytes: somewhat over CHECKPOINT_BYTES */

enum {
    FIND,
    INSERT,
    INSERT_SMALL,
    HOLD,
    TOTALS,
    DROP_HELD,
    DROP_SMALL,
    DROP_BLOCK,
    FIND_BAD,
    LOSE,
    REGAIN,
    FORGET_LOST,
    INCARNATION,
    WRITES
};
static const char *const write_sql[WRITES] = {
    [FIND] = "SELECT n, stored_len FROM block WHERE id = ?1",
    [INSERT] = "INSERT INTO block (id, stored_len, logical_len, file) VALUES (?1, ?2, ?3, ?4)",
    [INSERT_SMALL] = "INSERT INTO small (n, bytes) VALUES (?1, ?2)",
    [HOLD] = "INSERT OR IGNORE INTO held (ns, n) VALUES (?1, ?2)",
    [TOTALS] = "UPDATE store SET blocks = blocks + ?1, bytes = bytes + ?2",
    [DROP_HELD] = "DELETE FROM held WHERE n = ?1",
    [DROP_SMALL] = "DELETE FROM small WHERE n = ?1",
    [DROP_BLOCK] = "DELETE FROM block WHERE n = ?1",
    [FIND_BAD] = ("SELECT block.n, stored_len FROM block LEFT JOIN small ON small.n = block.n "
                  "WHERE id = ?1 AND file IS ?2 AND bytes IS ?3"),
    [LOSE] = ("INSERT OR REPLACE INTO lost (ns, id) "
              "SELECT ns, id FROM held JOIN block USING (n) WHERE n = ?1"),
    [REGAIN] = "DELETE FROM lost WHERE ns = ?1 AND id = ?2",
    [FORGET_LOST] = "DELETE FROM lost WHERE serial <= ?1",
    [INCARNATION] = "UPDATE store SET incarnation = ?1",
};

enum { READ_ANY, READ_NS, READ_BYTES, READ_FILE, READ_STORE, READ_LOST, READ_AFTER, READS };
static const char *const read_sql[READS] = {
    [READ_ANY] = "SELECT stored_len, logical_len, file FROM block WHERE id = ?1",
    [READ_NS] = ("SELECT stored_len, logical_len, file FROM block JOIN held USING (n) "
                 "WHERE id = ?1 AND ns = ?2"),
    [READ_BYTES] = "SELECT bytes FROM small JOIN block USING (n) WHERE id = ?1",
    [READ_FILE] = "SELECT 1 FROM block WHERE file = ?1",
    [READ_STORE] = "SELECT blocks, bytes, incarnation FROM store",
    [READ_LOST] = "SELECT serial, ns, id FROM lost ORDER BY serial LIMIT ?1",
    [READ_AFTER] = "SELECT id, stored_len FROM block WHERE id > ?1 ORDER BY id LIMIT ?2",
};

struct reader {
    sqlite3 *db;
    sqlite3_stmt *st[READS];
    struct reader *next;
};

/* A change. Lives on the asker's stack. */
struct job {
    enum { JOB_PUT, JOB_REMOVE, JOB_FORGET_LOST, JOB_INCARNATION } kind;
    uint64_t ns;
    struct dir_record *v; /* JOB_PUT */
    size_t n;
    const struct block_id *id; /* JOB_REMOVE, with what was found bad: */
    const char *file;
    struct bytes bad;
    uint64_t serial;            /* JOB_FORGET_LOST */
    const uint8_t *incarnation; /* JOB_INCARNATION */
    int err;
    bool done;
    STAILQ_ENTRY(job) link;
};
STAILQ_HEAD(jobs, job);

struct dir_db {
    char *path;
    sqlite3 *db; /* of whoever set busy, with what follows */
    sqlite3_stmt *st[WRITES];
    int page_size;
    int64_t log_bytes;  /* in the WAL, after the last commit */
    bool stuck;         /* the last checkpoint failed: the next commit makes way for another */
    struct reader *own; /* his, too */
    pthread_t keeper;
    bool started;

    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t there, done; /* there: for the keeper */
    bool busy;                  /* somebody uses the writing connection */
    struct jobs jobs;
    bool quit;
    struct reader *readers;
    size_t readers_n;
    uint64_t blocks, bytes;
};

/* ---- readers ------------------------------------------------------------------------------- */

static void reader_free(struct reader *r)
{
    for (int i = 0; i < READS; i++)
        sqlite3_finalize(r->st[i]);
    sqlite3_close(r->db);
    free(r);
}

static struct reader *reader_open(const char *path, int flags)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    if (sqlite3_open_v2(path, &r->db, flags | SQLITE_OPEN_NOMUTEX, NULL) ||
        sqlite3_busy_timeout(r->db, BUSY_MS) || dir_sql_exec(r->db, "PRAGMA query_only = 1") ||
        dir_sql_prepare(r->db, read_sql, r->st, READS)) {
        reader_free(r);
        return NULL;
    }
    return r;
}

static struct reader *reader_take(struct dir_db *d)
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

static void reader_give(struct dir_db *d, struct reader *r)
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

/* ---- writing ------------------------------------------------------------------------------- */

/* The row number and stored length that a bound statement finds; 0: none, -errno. */
static int64_t found_row(struct dir_db *d, sqlite3_stmt *st, int64_t *len)
{
    int rc = sqlite3_step(st);
    int64_t n = rc == SQLITE_ROW    ? sqlite3_column_int64(st, 0)
                : rc == SQLITE_DONE ? 0
                                    : dir_sql_errno(d->db, rc);
    *len = n > 0 ? sqlite3_column_int64(st, 1) : 0;
    sqlite3_reset(st);
    return n;
}

static int64_t row_of(struct dir_db *d, const struct block_id *id, int64_t *len)
{
    dir_sql_bind_id(d->st[FIND], 1, id);
    return found_row(d, d->st[FIND], len);
}

static int add_totals(struct dir_db *d, int64_t blocks, int64_t bytes)
{
    sqlite3_bind_int64(d->st[TOTALS], 1, blocks);
    sqlite3_bind_int64(d->st[TOTALS], 2, bytes);
    return dir_sql_run(d->db, d->st[TOTALS]);
}

static int insert_block(struct dir_db *d, const struct dir_record *p, int64_t *n)
{
    sqlite3_stmt *st = d->st[INSERT];
    dir_sql_bind_id(st, 1, &p->id);
    dir_sql_bind_u64(st, 2, p->stored_len);
    dir_sql_bind_u64(st, 3, p->logical_len);
    if (p->file)
        sqlite3_bind_text(st, 4, p->file, -1, SQLITE_STATIC);
    int r = dir_sql_run(d->db, st);
    *n = sqlite3_last_insert_rowid(d->db);
    if (!r && !p->file) {
        st = d->st[INSERT_SMALL];
        sqlite3_bind_int64(st, 1, *n);
        sqlite3_bind_blob64(st, 2, p->data.p ? p->data.p : (const void *)"", p->data.n,
                            SQLITE_STATIC);
        r = dir_sql_run(d->db, st);
    }
    return r ? r : add_totals(d, 1, (int64_t)p->stored_len);
}

/* One row of a put, inside a transaction. -EAGAIN is the row's own outcome. */
static int put_row(struct dir_db *d, uint64_t ns, struct dir_record *p)
{
    int64_t len, n = row_of(d, &p->id, &len);
    p->taken = false;
    p->err = 0;
    if (n < 0)
        return (int)n;
    if (n == 0) {
        if (p->known) {
            p->err = -EAGAIN;
            return 0;
        }
        int failed = insert_block(d, p, &n);
        if (failed)
            return failed;
        p->taken = true;
    }
    dir_sql_bind_u64(d->st[HOLD], 1, ns);
    sqlite3_bind_int64(d->st[HOLD], 2, n);
    int r = dir_sql_run(d->db, d->st[HOLD]);
    if (r)
        return r;
    dir_sql_bind_u64(d->st[REGAIN], 1, ns);
    dir_sql_bind_id(d->st[REGAIN], 2, &p->id);
    return dir_sql_run(d->db, d->st[REGAIN]);
}

/* Row number of a job's block if it is still what was found bad; 0: none, -errno. */
static int64_t bad_row(struct dir_db *d, const struct job *j, int64_t *len)
{
    sqlite3_stmt *st = d->st[FIND_BAD];
    dir_sql_bind_id(st, 1, j->id);
    if (j->file)
        sqlite3_bind_text(st, 2, j->file, -1, SQLITE_STATIC);
    else
        sqlite3_bind_blob64(st, 3, j->bad.p ? j->bad.p : (const void *)"", j->bad.n, SQLITE_STATIC);
    int64_t n = found_row(d, st, len);
    sqlite3_clear_bindings(st);
    return n;
}

/* -EALREADY is the job's own outcome. */
static int remove_row(struct dir_db *d, struct job *j)
{
    int64_t len, n = bad_row(d, j, &len);
    j->err = n ? 0 : -EALREADY;
    if (n <= 0)
        return (int)n;
    sqlite3_bind_int64(d->st[LOSE], 1, n);
    int lost = dir_sql_run(d->db, d->st[LOSE]);
    if (lost)
        return lost;
    for (int i = DROP_HELD; i <= DROP_BLOCK; i++) {
        sqlite3_bind_int64(d->st[i], 1, n);
        int r = dir_sql_run(d->db, d->st[i]);
        if (r)
            return r;
    }
    return add_totals(d, -1, -len);
}

static int apply(struct dir_db *d, struct job *j)
{
    int r = 0;
    switch (j->kind) {
    case JOB_PUT:
        for (size_t i = 0; !r && i < j->n; i++)
            r = put_row(d, j->ns, &j->v[i]);
        return r;
    case JOB_REMOVE:
        return remove_row(d, j);
    case JOB_FORGET_LOST:
        dir_sql_bind_u64(d->st[FORGET_LOST], 1, j->serial);
        return dir_sql_run(d->db, d->st[FORGET_LOST]);
    case JOB_INCARNATION:
        sqlite3_bind_blob(d->st[INCARNATION], 1, j->incarnation, INCARNATION_LEN, SQLITE_STATIC);
        return dir_sql_run(d->db, d->st[INCARNATION]);
    }
    abort();
}

static int end_transaction(struct dir_db *d, int r)
{
    if (!r)
        r = dir_sql_exec(d->db, "COMMIT");
    if (r && !sqlite3_get_autocommit(d->db))
        dir_sql_exec(d->db, "ROLLBACK");
    return r;
}

/* A part of a job in a transaction of its own. */
static int apply_alone(struct dir_db *d, struct job *j)
{
    int r = dir_sql_exec(d->db, "BEGIN IMMEDIATE");
    if (!r)
        r = apply(d, j);
    return end_transaction(d, r);
}

static void apply_each(struct dir_db *d, struct job *j)
{
    if (j->kind != JOB_PUT) {
        int r = apply_alone(d, j);
        if (r)
            j->err = r;
        return;
    }
    for (size_t i = 0; i < j->n; i++) {
        struct job one = {.kind = JOB_PUT, .ns = j->ns, .v = &j->v[i], .n = 1};
        int r = apply_alone(d, &one);
        if (r) {
            j->v[i].err = r;
            j->v[i].taken = false;
        }
    }
}

static void read_totals(struct dir_db *d, struct reader *r)
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

static void apply_all(struct dir_db *d, struct jobs *jobs)
{
    struct job *j;
    int r = dir_sql_exec(d->db, "BEGIN IMMEDIATE");
    STAILQ_FOREACH(j, jobs, link)
    if (!r)
        r = apply(d, j);
    if (end_transaction(d, r))
        STAILQ_FOREACH(j, jobs, link)
    apply_each(d, j);
}

static int note_log_bytes(void *arg, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    struct dir_db *d = arg;
    d->log_bytes = (int64_t)pages * d->page_size;
    d->stuck = false;
    return SQLITE_OK;
}

static void checkpoint(struct dir_db *d)
{
    d->stuck = sqlite3_wal_checkpoint_v2(d->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (!d->stuck)
        d->log_bytes = 0;
}

/* [lock, given up meanwhile] Does all jobs that wait. */
static void run_jobs(struct dir_db *d)
{
    struct jobs jobs = STAILQ_HEAD_INITIALIZER(jobs);
    STAILQ_CONCAT(&jobs, &d->jobs);
    d->busy = true;
    pthread_mutex_unlock(&d->lock);
    apply_all(d, &jobs);
    if (d->own)
        read_totals(d, d->own);
    if (d->log_bytes >= CHECKPOINT_BYTES_MAX && !d->stuck)
        checkpoint(d);
    pthread_mutex_lock(&d->lock);
    d->busy = false;
    struct job *j;
    while ((j = STAILQ_FIRST(&jobs))) {
        STAILQ_REMOVE_HEAD(&jobs, link);
        j->done = true; /* its owner may go as soon as the lock is given up */
    }
    pthread_cond_broadcast(&d->done);
    if (!d->stuck && d->log_bytes >= CHECKPOINT_BYTES)
        pthread_cond_signal(&d->there);
}

/* Checkpoints when nobody wants to write. */
static void *keeper_main(void *arg)
{
    struct dir_db *d = arg;
    walfile_reserve(d->db, d->path, LOG_RESERVE); /* without it commits are slower, no more */
    pthread_mutex_lock(&d->lock);
    d->busy = false;
    pthread_cond_broadcast(&d->done);
    while (!d->quit) {
        if (d->busy || !STAILQ_EMPTY(&d->jobs) || d->stuck || d->log_bytes < CHECKPOINT_BYTES) {
            pthread_cond_wait(&d->there, &d->lock);
            continue;
        }
        d->busy = true;
        pthread_mutex_unlock(&d->lock);
        checkpoint(d);
        pthread_mutex_lock(&d->lock);
        d->busy = false;
        pthread_cond_broadcast(&d->done);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void submit(struct dir_db *d, struct job *j)
{
    pthread_mutex_lock(&d->lock);
    STAILQ_INSERT_TAIL(&d->jobs, j, link);
    while (!j->done)
        if (d->busy)
            pthread_cond_wait(&d->done, &d->lock);
        else
            run_jobs(d);
    pthread_mutex_unlock(&d->lock);
}

void dir_db_put(struct dir_db *d, uint64_t ns, struct dir_record *v, size_t n)
{
    struct job j = {.kind = JOB_PUT, .ns = ns, .v = v, .n = n};
    submit(d, &j);
}

int dir_db_remove(struct dir_db *d, const struct block_id *id, const char *file, struct bytes bad)
{
    struct job j = {.kind = JOB_REMOVE, .id = id, .file = file, .bad = bad};
    submit(d, &j);
    return j.err;
}

int dir_db_forget_lost(struct dir_db *d, uint64_t serial)
{
    struct job j = {.kind = JOB_FORGET_LOST, .serial = serial};
    submit(d, &j);
    return j.err;
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
    }
    sqlite3_reset(st);
    reader_give(d, r);
    return rc == SQLITE_DONE ? 0 : -EIO;
}

int dir_db_set_incarnation(struct dir_db *d, const uint8_t incarnation[INCARNATION_LEN])
{
    struct job j = {.kind = JOB_INCARNATION, .incarnation = incarnation};
    submit(d, &j);
    return j.err;
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

/* ---- opening ------------------------------------------------------------------------------- */

/* A small block goes into the log, and so to the disk, with a leaf of every index: small pages,
 * then. A store that was made with others keeps them. */
static int open_writer(struct dir_db *d, const char *dir, const uint8_t *fresh, char *err)
{
    int rc = sqlite3_open_v2(
        d->path, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    int r = rc ? dir_sql_errno(d->db, rc) : 0;
    sqlite3_busy_timeout(d->db, BUSY_MS);
    if (!r)
        r = dir_sql_exec(d->db, "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;"
                                "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                                "PRAGMA secure_delete = OFF; PRAGMA cache_size = -16384");
    if (!r)
        r = dir_sql_bring_up(d->db, fresh);
    if (!r)
        r = dir_sql_int(d->db, "PRAGMA page_size", &d->page_size);
    if (r == -EPROTO) {
        snprintf(err, 512, "%s was written by a newer steadfs-blockd; update this one", d->path);
        return r;
    }
    if (!r)
        r = durable_sync_dir(dir);
    if (!r)
        r = dir_sql_prepare(d->db, write_sql, d->st, WRITES);
    if (r)
        snprintf(err, 512, "cannot use %s: %s", d->path, sqlite3_errmsg(d->db));
    sqlite3_wal_hook(d->db, note_log_bytes, d);
    return r;
}

int dir_db_open(struct dir_db **out, const char *dir, const uint8_t fresh[INCARNATION_LEN],
                char *err)
{
    *out = NULL;
    struct dir_db *d = calloc(1, sizeof *d);
    if (!d || asprintf(&d->path, "%s/index.db", dir) < 0)
        abort();
    STAILQ_INIT(&d->jobs);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->there, NULL);
    pthread_cond_init(&d->done, NULL);
    int r = open_writer(d, dir, fresh, err);
    struct reader *first = r ? NULL : reader_take(d);
    if (first) {
        read_totals(d, first);
        reader_give(d, first);
        d->own = reader_open(d->path, SQLITE_OPEN_READWRITE);
        d->busy = true; /* until the keeper has made the log long */
        r = -pthread_create(&d->keeper, NULL, keeper_main, d);
        d->started = !r;
    } else if (!r) {
        snprintf(err, 512, "cannot read %s", d->path);
        r = -EIO;
    }
    if (r) {
        dir_db_close(d);
        return r;
    }
    *out = d;
    return 0;
}

void dir_db_close(struct dir_db *d)
{
    if (!d)
        return;
    if (d->started) {
        pthread_mutex_lock(&d->lock);
        d->quit = true;
        pthread_cond_signal(&d->there);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->keeper, NULL);
    }
    if (d->own)
        reader_free(d->own);
    struct reader *r;
    while ((r = d->readers)) {
        d->readers = r->next;
        reader_free(r);
    }
    for (int i = 0; i < WRITES; i++)
        sqlite3_finalize(d->st[i]);
    sqlite3_close(d->db);
    pthread_cond_destroy(&d->there);
    pthread_cond_destroy(&d->done);
    pthread_mutex_destroy(&d->lock);
    free(d->path);
    free(d);
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
