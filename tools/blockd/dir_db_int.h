// SPDX-License-Identifier: Apache-2.0
/* What the files of the index share. [internal]
 *
 * dir_db.c         opening; the group commit
 * dir_db_change.c  what a change does, inside a transaction
 * dir_db_read.c    connections that read, and what they are asked
 */
#ifndef DIR_DB_INT_H
#define DIR_DB_INT_H

#include "dir_db.h"
#include "dir_log.h"
#include "dir_sql.h"

#include <pthread.h>
#include <sys/queue.h>

#define DIR_DB_BUSY_MS 10000

enum {
    FIND,
    INSERT,
    INSERT_SMALL,
    HOLD,
    HOLD_AGAIN,
    TOTALS,
    DROP_HELD,
    DROP_SMALL,
    DROP_UNCLAIMED,
    DROP_BLOCK,
    FIND_BAD,
    LOSE,
    REGAIN,
    FORGET_LOST,
    INCARNATION,
    GENERATION,
    RAISE,
    REPLACE_FILE,
    DOOM,
    FORGET_DOOMED,
    LET_GO,
    IS_HELD,
    FILE_OF,
    RAISE_TO,
    STEP,
    UNCLAIMED,
    IS_UNCLAIMED,
    NEXT_UNCLAIMED,
    WRITES
};
extern const char *const dir_db_write_sql[WRITES];

enum {
    READ_ANY,
    READ_NS,
    READ_BYTES,
    READ_FILE,
    READ_STORE,
    READ_LOST,
    READ_AFTER,
    READ_DOOMED,
    READ_OTHER,
    READ_HELD,
    READ_UNCLAIMED,
    ANY_UNCLAIMED,
    READS
};

struct reader {
    sqlite3 *db;
    sqlite3_stmt *st[READS];
    struct reader *next;
};

/* A change. Lives on the asker's stack. */
struct job {
    enum {
        JOB_PUT,
        JOB_REMOVE,
        JOB_FORGET_LOST,
        JOB_INCARNATION,
        JOB_RAISE,
        JOB_FORGET_DOOMED,
        JOB_COLLECT,
        JOB_MOVE,
        JOB_TAKE_IN,
        JOB_CLAIM,
        JOB_DROP_UNCLAIMED
    } kind;
    uint64_t ns;
    struct dir_record *v; /* JOB_PUT, JOB_TAKE_IN */
    size_t n;
    /* JOB_REMOVE, with what was found bad; JOB_COLLECT, JOB_CLAIM: n; JOB_MOVE */
    const struct block_id *id;
    const char *file, *to;
    struct bytes bad;
    uint64_t serial;               /* JOB_FORGET_LOST */
    const uint8_t *incarnation;    /* JOB_INCARNATION */
    uint64_t generation;           /* out: JOB_RAISE; JOB_COLLECT */
    char (*doomed)[DIR_FILE_NAME]; /* out: JOB_COLLECT, JOB_DROP_UNCLAIMED: n */
    int64_t place, next; /* JOB_DROP_UNCLAIMED: rows after this one; out: the last, 0: none left */
    struct storage_collected collected;
    const char *const *files; /* JOB_FORGET_DOOMED; n */
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
    struct dir_log log;
    int fd; /* of the database, for dir_db_uncache: closing one gives up SQLite's locks on it */
    uint64_t found;       /* the generation, when it was opened */
    int64_t log_bytes;    /* in the WAL, after the last commit */
    bool stuck;           /* the last checkpoint failed: the next commit makes way for another */
    struct reader *own;   /* his, too */
    struct reader *aside; /* the keeper's */
    pthread_t keeper;
    bool started;

    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t there, done; /* there: for the keeper */
    bool busy;                  /* somebody uses the writing connection */
    bool due, turn;             /* the log is to be copied; the keeper is next to write */
    struct jobs jobs;
    bool quit;
    struct reader *readers;
    size_t readers_n;
    uint64_t blocks, bytes;
    bool unclaimed; /* there may be such blocks */
};

/* ---- dir_db_read.c ---- */
/* NULL: it cannot be opened. flags: SQLite's. */
struct reader *reader_open(const char *path, int flags);
void reader_free(struct reader *r);
/* From the pool. */
struct reader *reader_take(struct dir_db *d);
void reader_give(struct dir_db *d, struct reader *r);
void reader_totals(struct dir_db *d, struct reader *r);
/* Whether one of these may be claimed; n 0: any block at all. Also true where that cannot be told.
 */
bool reader_any_unclaimed(struct dir_db *d, const struct block_id *ids, size_t n);

/* ---- dir_db_change.c ---- */
/* Does the job, inside a transaction. 0, with the outcomes of its parts, or -errno: none of it. */
int job_apply(struct dir_db *d, struct job *j);
/* The generation. */
int generation_get(struct dir_db *d, uint64_t *out);
/* Raises it and tells it. */
int generation_raise(struct dir_db *d, uint64_t *out);
#endif
