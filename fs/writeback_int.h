// SPDX-License-Identifier: Apache-2.0
/* What writeback.c (segments) and wbjob.c (jobs) share. */
#ifndef STEADFS_WRITEBACK_INT_H
#define STEADFS_WRITEBACK_INT_H

#include "cdc.h"
#include "writeback.h"

#define WB_POOL 8               /* spare buffers of BLOCK_MAX kept */
#define WB_JOB_BYTES (8u << 20) /* one job, and what one thread takes at a time */
#define WB_JOB_PIECES 1024
#define WB_BUCKETS 1024
#define WB_LOOK_NS 1000000000ll /* how often a thread looks for aged dirty data */

/* Bytes shared by a segment and jobs; written to only while refs is 1. */
struct wb_buf {
    struct wb_buf *next; /* in the pool */
    unsigned refs;
    size_t cap;
    uint8_t p[];
};

struct seg {
    uint64_t off;
    size_t len;         /* 0: where a stretch goes on behind its last cut */
    struct wb_buf *buf; /* NULL: len is 0, or the bytes are in the tree only (nothing dirty) */
    bool fresh;
    bool rescan; /* bytes that were scanned for a cut have changed: these, by place in it */
    size_t changed_from, changed_to;
    bool whole;    /* the tree has exactly these bytes as one block */
    bool promised; /* see wb_promise: of some of its bytes */
    struct cdc cdc;
    struct ranges dirty; /* not in the tree and not in a job; file offsets */
};

struct piece {
    struct wb_buf *buf;
    size_t at; /* in buf */
    struct wb_extent e;
};
enum job_state {
    JOB_HELD, /* made by wb_flush_now, which is about to do it: in no queue */
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_STORED,
    JOB_FAILED
};
struct job {
    struct job *next;       /* of its node, in order */
    struct job *queue_next; /* of the queue or of a thread's batch */
    struct wb_node *node;
    enum job_state state;
    bool final, taken; /* taken: wb_flush_now did it meanwhile; its thread frees it */
    bool replaces;     /* what was promised: on disk before it is in the tree */
    int err;
    uint64_t seq;
    int64_t mtime;
    size_t bytes, n;
    struct piece v[];
};

struct wb_node {
    struct wb_node *hash_next, *older, *newer; /* older, newer: in the order of first dirt */
    uint64_t id;
    unsigned writers;
    size_t fixed;
    struct seg **v; /* by offset */
    size_t n, cap;
    struct seg
        *last; /* written last; stays in memory when flushed in place, as a rewrite may go on */
    struct job *jobs, **jobs_end;
    uint64_t end;                          /* of what was written and is not in the tree */
    int64_t mtime;                         /* of the last write */
    int64_t dirty_since, unfinished_since; /* 0: not */
};

struct wb {
    struct wb_owner owner;
    uint64_t max, bytes, seq;
    uint64_t rescanned; /* bytes looked at again for a cut; for tests */
    struct wb_node *buckets[WB_BUCKETS];
    struct wb_node *oldest, *newest;
    struct job *queue, **queue_end;
    unsigned running;
    struct wb_buf *pool;
    size_t pool_n;
    pthread_cond_t wake;
    pthread_t *threads;
    unsigned threads_n, asleep; /* asleep: threads that wait without a time-out */
    bool unsettled;             /* jobs ended without a thread: one must call `settled` */
    bool hold;                  /* wb_submit leaves its jobs to wb_flush_now */
    int64_t aged;               /* when flush_aged ran last */
    bool stop;
};

struct wb_node *wb_find(struct wb *w, uint64_t node);
void wb_release(struct wb *w, struct wb_node *n); /* frees it when nothing is left in it */
int64_t wb_now(struct wb *w);

struct wb_buf *wb_buf_new(struct wb *w, size_t cap);
void wb_buf_unref(struct wb *w, struct wb_buf *b);
/* Makes the segment's buffer its own and at least cap large. */
void wb_seg_own(struct wb *w, struct seg *s, size_t cap);
/* Reads the bytes of a segment that kept none back; drops the segment's claim to them if that
 * fails. */
bool wb_seg_load(struct wb *w, struct wb_node *n, struct seg *s);
void wb_seg_remove(struct wb *w, struct wb_node *n, size_t i);
/* Cuts what changed bytes have made uncertain afresh. */
void wb_seg_rescan(struct wb *w, struct wb_node *n, struct seg *s);

/* A job of the bytes [0, len) of the segment's buffer, which it takes over. */
void wb_job_cut(struct wb *w, struct wb_node *n, struct seg *s, size_t len);
/* Jobs of all that is dirty; finish: ends the stretches too. */
void wb_submit(struct wb *w, struct wb_node *n, bool finish);
void wb_retry(struct wb *w, struct wb_node *n);
void wb_jobs_drop(struct wb *w, struct wb_node *n); /* nobody wants their bytes any more */
void wb_job_free(struct wb *w, struct job *j);
void *wb_thread(void *arg);
#endif
