// SPDX-License-Identifier: Apache-2.0
/* The index in SQLite.
 *
 * WAL with synchronous=FULL: a commit is one sync, and readers go on meanwhile. The price, small
 * blocks written twice, is paid later: the keeper copies the log through a connection of its own,
 * beside whoever writes, and takes the writing one only for what came meanwhile. (Nobody else
 * copies it: SQLite before 3.51.3 may take a log that a commit begins anew during a copy for one
 * that is copied, https://www.sqlite.org/wal.html#walresetbug.)
 *
 * Group commit: whoever comes while nobody writes takes all jobs that wait, applies them in one
 * transaction, and answers them together; the others wait. A thread that only writes would cost
 * each put two changes of threads. Where a transaction fails (a full disk), each row is tried again
 * in one of its own, so that only those fail which cannot be stored.
 */
#include "dir_db_int.h"

#include "durable.h"
#include "walfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECKPOINT_BYTES (8 << 20)       /* of the log: by the keeper */
#define CHECKPOINT_BYTES_MAX (128 << 20) /* whatever waits */
#define LOG_RESERVE (12 << 20)           /* bytes: somewhat over CHECKPOINT_BYTES */

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
        r = job_apply(d, j);
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

static void apply_all(struct dir_db *d, struct jobs *jobs)
{
    struct job *j;
    int r = dir_sql_exec(d->db, "BEGIN IMMEDIATE");
    STAILQ_FOREACH(j, jobs, link)
    if (!r)
        r = job_apply(d, j);
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
    dir_log_committed(&d->log, d->db);

    if (d->own)
        reader_totals(d, d->own);
    if (!d->aside && d->log_bytes >= CHECKPOINT_BYTES_MAX && !d->stuck)
        checkpoint(d);
    pthread_mutex_lock(&d->lock);
    d->busy = false;
    struct job *j;
    while ((j = STAILQ_FIRST(&jobs))) {
        STAILQ_REMOVE_HEAD(&jobs, link);
        j->done = true; /* its owner may go as soon as the lock is given up */
    }
    pthread_cond_broadcast(&d->done);
    d->due = !d->stuck && d->log_bytes >= CHECKPOINT_BYTES;
    if (d->due)
        pthread_cond_signal(&d->there);
}

static void *keeper_main(void *arg)
{
    struct dir_db *d = arg;
    walfile_reserve(d->db, d->path, LOG_RESERVE); /* without it commits are slower, no more */
    pthread_mutex_lock(&d->lock);
    d->busy = false;
    pthread_cond_broadcast(&d->done);
    while (!d->quit) {
        if (!d->due) {
            pthread_cond_wait(&d->there, &d->lock);
            continue;
        }
        pthread_mutex_unlock(&d->lock);
        if (d->aside) /* what it cannot do is left for the next step */
            sqlite3_wal_checkpoint_v2(d->aside->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        pthread_mutex_lock(&d->lock);
        d->turn = true;
        while (d->busy)
            pthread_cond_wait(&d->done, &d->lock);
        d->busy = true;
        d->turn = false;
        pthread_mutex_unlock(&d->lock);
        checkpoint(d);
        pthread_mutex_lock(&d->lock);
        d->busy = d->due = false;
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
        if (d->busy || d->turn)
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

int dir_db_collect(struct dir_db *d, uint64_t ns, const struct block_id *ids, size_t n,
                   uint64_t generation, char (*files)[DIR_FILE_NAME],
                   struct storage_collected *sums)
{
    struct job j = {.kind = JOB_COLLECT,
                    .ns = ns,
                    .id = ids,
                    .n = n,
                    .generation = generation,
                    .doomed = files};
    memset(files, 0, n * sizeof *files);
    submit(d, &j);
    if (j.err) /* none of it happened */
        return j.err;
    sums->taken += j.collected.taken;
    sums->blocks += j.collected.blocks;
    sums->bytes += j.collected.bytes;
    return 0;
}

int dir_db_take_in(struct dir_db *d, struct dir_record *v, size_t n)
{
    struct job j = {.kind = JOB_TAKE_IN, .v = v, .n = n};
    pthread_mutex_lock(&d->lock);
    d->unclaimed = true;
    pthread_mutex_unlock(&d->lock);
    submit(d, &j);
    return j.err;
}

int dir_db_drop_unclaimed(struct dir_db *d, int64_t *place, size_t n, char (*files)[DIR_FILE_NAME],
                          struct storage_collected *sums)
{
    struct job j = {.kind = JOB_DROP_UNCLAIMED, .n = n, .doomed = files, .place = *place};
    memset(files, 0, n * sizeof *files);
    submit(d, &j);
    if (j.err)
        return j.err;
    *place = j.next;
    sums->blocks += j.collected.blocks;
    sums->bytes += j.collected.bytes;
    return 0;
}

int dir_db_claim(struct dir_db *d, uint64_t ns, const struct block_id *ids, size_t n)
{
    pthread_mutex_lock(&d->lock);
    bool any = d->unclaimed;
    pthread_mutex_unlock(&d->lock);
    struct job j = {.kind = JOB_CLAIM, .ns = ns, .id = ids, .n = n};
    if (any && (any = reader_any_unclaimed(d, ids, n)))
        submit(d, &j);
    return j.err;
}

int dir_db_move(struct dir_db *d, const struct block_id *id, const char *was, const char *file)
{
    struct job j = {.kind = JOB_MOVE, .id = id, .file = was, .to = file};
    submit(d, &j);
    return j.err;
}

int dir_db_forget_doomed(struct dir_db *d, const char *const *files, size_t n)
{
    struct job j = {.kind = JOB_FORGET_DOOMED, .files = files, .n = n};
    submit(d, &j);
    return j.err;
}

int dir_db_raise(struct dir_db *d, uint64_t *generation)
{
    struct job j = {.kind = JOB_RAISE};
    submit(d, &j);
    *generation = j.generation;
    return j.err;
}

uint64_t dir_db_found(const struct dir_db *d)
{
    return d->found;
}

int dir_db_set_incarnation(struct dir_db *d, const uint8_t incarnation[INCARNATION_LEN])
{
    struct job j = {.kind = JOB_INCARNATION, .incarnation = incarnation};
    submit(d, &j);
    return j.err;
}

/* ---- opening ------------------------------------------------------------------------------- */

static void say_unusable(struct dir_db *d, char *err)
{
    int rc = sqlite3_errcode(d->db) & 0xff;
    bool damaged = rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB;
    snprintf(
        err, 512, "cannot use %.200s: %.60s%s", d->path, sqlite3_errmsg(d->db),
        damaged ? "; put back a whole copy of it (with its -wal), or move it and its -wal away and "
                  "have it made again from the files in blocks/ with --reindex"
                : "");
}

/* A small block goes into the log, and so to the disk, with a leaf of every index: small pages,
 * then. A store that was made with others keeps them. */
static int open_writer(struct dir_db *d, const char *dir, const uint8_t *fresh, char *err)
{
    int create = fresh ? SQLITE_OPEN_CREATE : 0, wrong = dir_log_check(&d->log, dir, err);
    if (wrong)
        return wrong;
    int rc = sqlite3_open_v2(d->path, &d->db, SQLITE_OPEN_READWRITE | create | SQLITE_OPEN_NOMUTEX,
                             NULL);
    int r = rc ? dir_sql_errno(d->db, rc) : 0;
    sqlite3_busy_timeout(d->db, DIR_DB_BUSY_MS);
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
        r = dir_sql_prepare(d->db, dir_db_write_sql, d->st, WRITES);
    uint64_t generation;
    if (!r)
        r = generation_get(d, &d->found);
    if (!r && fresh)
        r = generation_raise(d, &generation);
    if (r)
        say_unusable(d, err);
    else
        dir_log_opened(&d->log, d->db);
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
    d->fd = d->log.fd = -1;
    STAILQ_INIT(&d->jobs);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->there, NULL);
    pthread_cond_init(&d->done, NULL);
    int r = open_writer(d, dir, fresh, err);
    if (!r && (d->fd = open(d->path, O_RDONLY | O_CLOEXEC)) < 0) {
        r = -errno;
        snprintf(err, 512, "cannot open %s: %s", d->path, strerror(errno));
    }
    struct reader *first = r ? NULL : reader_take(d);
    if (first) {
        reader_totals(d, first);
        reader_give(d, first);
        d->unclaimed = reader_any_unclaimed(d, NULL, 0);
        d->own = reader_open(d->path, SQLITE_OPEN_READWRITE);
        d->aside = reader_open(d->path, SQLITE_OPEN_READWRITE);
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
    if (d->aside)
        reader_free(d->aside);
    struct reader *r;
    while ((r = d->readers)) {
        d->readers = r->next;
        reader_free(r);
    }
    for (int i = 0; i < WRITES; i++)
        sqlite3_finalize(d->st[i]);
    sqlite3_close(d->db);
    if (d->fd >= 0)
        close(d->fd);
    dir_log_close(&d->log);
    pthread_cond_destroy(&d->there);
    pthread_cond_destroy(&d->done);
    pthread_mutex_destroy(&d->lock);
    free(d->path);
    free(d);
}
