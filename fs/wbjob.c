// SPDX-License-Identifier: Apache-2.0
/* Jobs: the way of dirty bytes through hash and outbox into the tree.
 *
 * A thread takes queued jobs of up to WB_JOB_BYTES, hashes and stores their bytes without the lock
 * (one transaction of the block store for all of them), takes the lock, and applies of each node
 * those jobs at the head of its list that are stored. Two threads let one hash while the other
 * stores; the order in the tree is that of the list all the same.
 *
 * wb_flush_now is for callers that hold the lock and cannot wait: it does what is not yet done
 * itself. A job that a thread is working on at that moment is done twice, and the thread throws its
 * result away. Whoever waits for a job is told by a thread in any case (`unsettled`), as the caller
 * holds the lock. What it submits itself it does not offer to the threads: they would wake up, find
 * nothing, and be in the way of an fsync meanwhile.
 *
 * A job that failed stays at the head of its node's list and keeps its bytes; a later flush tries
 * again, or its age does.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "writeback_int.h"

static struct job *job_new(struct wb_node *n, size_t pieces, bool final)
{
    struct job *j = calloc(1, sizeof(*j) + pieces * sizeof(j->v[0]));
    if (j == NULL)
        abort();
    j->node = n;
    j->final = final;
    j->mtime = n->mtime;
    return j;
}

void wb_job_free(struct wb *w, struct job *j)
{
    for (size_t i = 0; i < j->n; i++)
        wb_buf_unref(w, j->v[i].buf);
    free(j);
}

static void enqueue(struct wb *w, struct job *j)
{
    j->state = JOB_QUEUED;
    j->err = 0;
    j->queue_next = NULL;
    *w->queue_end = j;
    w->queue_end = &j->queue_next;
    if (w->threads_n > 0)
        pthread_cond_signal(&w->wake);
}

static void dequeue(struct wb *w, struct job *j)
{
    struct job **at = &w->queue;
    while (*at != j)
        at = &(*at)->queue_next;
    *at = j->queue_next;
    if (w->queue_end == &j->queue_next)
        w->queue_end = at;
}

/* Takes a job from the threads. They will find nothing to do, so one is told that somebody may wait
 * for the job's end: `settled` cannot be called here, with the lock held. */
static void take_over(struct wb *w, struct job *j)
{
    dequeue(w, j);
    w->unsettled = true;
    if (w->threads_n > 0)
        pthread_cond_signal(&w->wake);
}

void wb_jobs_drop(struct wb *w, struct wb_node *n)
{
    struct job *next;
    for (struct job *j = n->jobs; j != NULL; j = next) {
        next = j->next;
        if (j->state == JOB_QUEUED)
            take_over(w, j);
        if (j->state == JOB_RUNNING)
            j->taken = true;
        else
            wb_job_free(w, j);
    }
    n->jobs = NULL;
    n->jobs_end = &n->jobs;
    n->end = 0;
}

/* What a job that failed put is put again when it is tried again. */
bool wb_putting(struct wb *w)
{
    bool putting = w->running > 0;
    for (struct wb_node *n = w->oldest; n != NULL && !putting; n = n->newer)
        for (struct job *j = n->jobs; j != NULL && !putting; j = j->next)
            putting = j->state == JOB_STORED;
    return putting;
}

static void submit(struct wb *w, struct job *j)
{
    struct wb_node *n = j->node;
    j->seq = ++w->seq;
    *n->jobs_end = j;
    n->jobs_end = &j->next;
    if (w->hold)
        j->state = JOB_HELD;
    else
        enqueue(w, j);
}

static void add_piece(struct job *j, struct seg *s, size_t at, size_t len, bool recut)
{
    s->buf->refs++;
    j->v[j->n++] = (struct piece){
        .buf = s->buf,
        .at = at,
        .e = {.off = s->off + at, .len = (uint32_t)len, .recut = recut},
    };
    j->bytes += len;
}

/* Whether any of [off, end) is dirty. */
static bool any_dirty(const struct seg *s, uint64_t off, uint64_t end)
{
    for (size_t i = 0; i < s->dirty.n; i++)
        if (s->dirty.v[i].off < end && s->dirty.v[i].end > off)
            return true;
    return false;
}

/* Whether some of its first len bytes are promised, and are not dirty again. */
static bool holds_promised(const struct seg *s, size_t len)
{
    uint64_t at = s->off;
    for (size_t i = 0; i < s->dirty.n && s->dirty.v[i].off <= at; i++)
        at = s->dirty.v[i].end > at ? s->dirty.v[i].end : at;
    return s->promised && at < s->off + len;
}

/* Whether bytes that are in the tree keep the blocks they have. While jobs are under way that may
 * change: the owner looks again when it applies them. */
static bool stays(struct wb *w, const struct wb_node *n)
{
    return n->jobs == NULL && !w->owner.may_recut(w->owner.ctx, n->id);
}

void wb_job_cut(struct wb *w, struct wb_node *n, struct seg *s, size_t len)
{
    bool recut = !any_dirty(s, s->off, s->off + len);
    if (recut && stays(w, n))
        return;
    struct job *j = job_new(n, 1, true);
    j->replaces = holds_promised(s, len);
    add_piece(j, s, 0, len, recut);
    submit(w, j);
}

/* Adds the segment's dirty ranges to *j, submitting it and beginning another when it is full. */
static void collect(struct wb *w, struct wb_node *n, struct seg *s, struct job **j, size_t *left)
{
    for (size_t i = 0; i < s->dirty.n; i++) {
        size_t len = (size_t)(s->dirty.v[i].end - s->dirty.v[i].off);
        if (*j != NULL && ((*j)->n == WB_JOB_PIECES || (*j)->bytes + len > WB_JOB_BYTES)) {
            submit(w, *j);
            *j = NULL;
        }
        if (*j == NULL)
            *j = job_new(n, *left < WB_JOB_PIECES ? *left : WB_JOB_PIECES, false);
        add_piece(*j, s, (size_t)(s->dirty.v[i].off - s->off), len, false);
        s->whole = len == s->len;
        --*left;
    }
    s->dirty.n = 0;
}

void wb_submit(struct wb *w, struct wb_node *n, bool finish)
{
    struct job *j = NULL;
    size_t pieces = 0; /* at most so many are still to come */
    for (size_t i = 0; i < n->n; i++)
        pieces += n->v[i]->dirty.n;
    for (size_t i = n->n; i-- > 0;) {
        struct seg *s = n->v[i];
        /* who holds the lock does not wait for the disk only for a better cut */
        if (finish && s->fresh && !(w->hold && holds_promised(s, s->len))) {
            wb_seg_rescan(w, n, s);
            bool done = s->whole || (s->dirty.n == 0 && stays(w, n));
            if (s->len > 0 && !done && wb_seg_load(w, n, s) && s->len > 0) {
                wb_job_cut(w, n, s, s->len);
                ranges_free(&s->dirty);
            }
        } else if (s->dirty.n != 0) {
            collect(w, n, s, &j, &pieces);
        }
        if (finish || (!s->fresh && s != n->last))
            wb_seg_remove(w, n, i);
    }
    if (j != NULL)
        submit(w, j);
    n->dirty_since = 0;
    if (finish)
        n->unfinished_since = 0;
}

void wb_retry(struct wb *w, struct wb_node *n)
{
    for (struct job *j = n->jobs; j != NULL; j = j->next)
        if (j->state == JOB_FAILED)
            enqueue(w, j);
}

/* Hashes and stores the bytes of the jobs linked by queue_next. *ids: of all their pieces,
 * malloc'd. The jobs themselves are not touched, as the lock may not be held. */
static int store(struct wb *w, const struct job *first, struct blocks_item **items)
{
    size_t n = 0;
    for (const struct job *j = first; j != NULL; j = j->queue_next)
        n += j->n;
    struct blocks_item *v = *items = calloc(n, sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    n = 0;
    bool replaces = false;
    for (const struct job *j = first; j != NULL; j = j->queue_next) {
        replaces = replaces || j->replaces;
        for (size_t i = 0; i < j->n; i++) {
            struct blocks_item *it = &v[n++];
            it->p = j->v[i].buf->p + j->v[i].at;
            it->len = j->v[i].e.len;
            block_id_of(&it->id, it->p, it->len);
        }
    }
    return w->owner.put(w->owner.ctx, v, n, replaces);
}

/* [lock] Notes what store made of one job; items: those of its pieces. */
static void stored(struct wb *w, struct job *j, const struct blocks_item *items, int rc)
{
    for (size_t i = 0; rc == 0 && i < j->n; i++)
        j->v[i].e.id = items[i].id;
    j->err = rc;
    j->state = rc == 0 ? JOB_STORED : JOB_FAILED;
    if (rc != 0)
        j->node->dirty_since = wb_now(w); /* its age brings it up again */
}

/* Brings what is stored at the head of the node's list into the tree. */
static int apply_head(struct wb *w, struct wb_node *n)
{
    int rc = 0;
    while (rc == 0 && n->jobs != NULL && n->jobs->state == JOB_STORED) {
        struct job *j = n->jobs;
        struct wb_extent *v = calloc(j->n, sizeof(*v));
        if (v == NULL)
            abort();
        for (size_t i = 0; i < j->n; i++)
            v[i] = j->v[i].e;
        rc = w->owner.apply(w->owner.ctx, n->id, j->mtime, v, j->n, j->final);
        free(v);
        if (rc != 0) {
            j->state = JOB_FAILED;
            j->err = rc;
            n->dirty_since = wb_now(w);
            break;
        }
        n->jobs = j->next;
        if (n->jobs == NULL)
            n->jobs_end = &n->jobs;
        wb_job_free(w, j);
    }
    if (n->jobs == NULL && !wb_dirty(w, n->id))
        n->end = 0;
    return rc;
}

int wb_flush(struct wb *w, uint64_t node, uint64_t *ticket)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return 0;
    if (*ticket == 0) {
        size_t pending = 0;
        for (size_t i = 0; i < n->n; i++)
            for (size_t k = 0; k < n->v[i]->dirty.n; k++)
                pending += (size_t)(n->v[i]->dirty.v[k].end - n->v[i]->dirty.v[k].off);
        if (w->threads_n == 0 || (n->jobs == NULL && pending <= WB_INLINE))
            return wb_flush_now(w, node, false);
        wb_retry(w, n);
        wb_submit(w, n, false);
        *ticket = w->seq;
        return n->jobs != NULL ? WB_WAIT : 0;
    }
    if (n->jobs == NULL || n->jobs->seq > *ticket)
        return 0;
    return n->jobs->state == JOB_FAILED ? n->jobs->err : WB_WAIT;
}

int wb_flush_these(struct wb *w, bool (*of)(void *ctx, uint64_t node), void *ctx, uint64_t *ticket)
{
    struct wb_node *newer;
    bool begins = *ticket == 0;
    for (struct wb_node *n = w->oldest; begins && n != NULL; n = newer) {
        newer = n->newer;
        if (!wb_dirty(w, n->id) || !of(ctx, n->id))
            continue;
        if (w->threads_n == 0) {
            wb_flush_now(w, n->id, false);
            continue;
        }
        wb_retry(w, n);
        wb_submit(w, n, false);
    }
    *ticket = begins ? w->seq : *ticket;
    for (const struct wb_node *n = w->oldest; n != NULL; n = n->newer) {
        const struct job *j = n->jobs;
        if (j != NULL && j->seq <= *ticket && j->state != JOB_FAILED && of(ctx, n->id))
            return WB_WAIT;
    }
    return 0;
}

/* Stores one job of a node on this thread. */
static int do_now(struct wb *w, struct wb_node *n, struct job **at)
{
    struct job *j = *at;
    if (j->state == JOB_RUNNING) {
        struct job *copy = job_new(n, j->n, j->final);
        struct job *next = j->next;
        memcpy(copy, j, sizeof(*j) + j->n * sizeof(j->v[0]));
        for (size_t i = 0; i < copy->n; i++)
            copy->v[i].buf->refs++;
        copy->next = next;
        copy->taken = false;
        j->taken = true;
        if (n->jobs_end == &j->next)
            n->jobs_end = &copy->next;
        *at = j = copy;
    } else if (j->state == JOB_QUEUED) {
        take_over(w, j);
    }
    j->queue_next = NULL;
    struct blocks_item *items;
    int rc = store(w, j, &items);
    stored(w, j, items, rc);
    free(items);
    return j->err;
}

int wb_flush_now(struct wb *w, uint64_t node, bool finish)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return 0;
    w->hold = true;
    wb_submit(w, n, finish);
    w->hold = false;
    int rc = 0;
    for (struct job **at = &n->jobs; *at != NULL; at = &(*at)->next) {
        if (rc == 0 && (*at)->state != JOB_STORED)
            rc = do_now(w, n, at);
        if ((*at)->state == JOB_HELD) /* behind one that failed */
            enqueue(w, *at);
    }
    int applied = apply_head(w, n);
    wb_release(w, n);
    return rc != 0 ? rc : applied;
}

int wb_flush_all(struct wb *w)
{
    int rc = 0;
    struct wb_node *newer;
    for (struct wb_node *n = w->oldest; n != NULL; n = newer) {
        newer = n->newer;
        wb_promise(w, n->id);
        int one = wb_dirty(w, n->id) ? wb_flush_now(w, n->id, false) : 0;
        rc = rc != 0 ? rc : one;
    }
    return rc;
}

/* Submits what has been dirty for too long; looks at most once in WB_LOOK_NS. */
static void flush_aged(struct wb *w)
{
    int64_t now = wb_now(w);
    if (now - w->aged < WB_LOOK_NS && now >= w->aged)
        return;
    w->aged = now;
    for (struct wb_node *n = w->oldest; n != NULL; n = n->newer) {
        if (n->dirty_since == 0 || now - n->dirty_since < WB_AGE_NS)
            continue;
        wb_retry(w, n);
        wb_submit(w, n, false);
    }
}

/* Takes the queue's first jobs. */
static struct job *take_batch(struct wb *w)
{
    struct job *first = NULL, **end = &first;
    size_t bytes = 0;
    while (w->queue != NULL && (first == NULL || bytes + w->queue->bytes <= WB_JOB_BYTES)) {
        struct job *j = w->queue;
        dequeue(w, j);
        j->state = JOB_RUNNING;
        j->queue_next = NULL;
        bytes += j->bytes;
        *end = j;
        end = &j->queue_next;
    }
    return first;
}

/* [lock] Ends a batch: applies it and gives its memory back. */
static void end_batch(struct wb *w, struct job *first, const struct blocks_item *items, int rc)
{
    struct job *next;
    for (struct job *j = first; j != NULL; j = next) {
        next = j->queue_next;
        size_t n_items = j->n;
        if (j->taken) {
            wb_job_free(w, j);
            items += n_items;
            continue;
        }
        stored(w, j, items, rc);
        items += n_items;
        struct wb_node *n = j->node;
        apply_head(w, n);
        wb_release(w, n);
    }
}

/* [lock] Gives the lock back meanwhile. */
static void tell_settled(struct wb *w)
{
    w->unsettled = false;
    pthread_mutex_unlock(w->owner.lock);
    w->owner.settled(w->owner.ctx);
    pthread_mutex_lock(w->owner.lock);
}

void *wb_thread(void *arg)
{
    struct wb *w = arg;
    pthread_mutex_t *lock = w->owner.lock;
    pthread_mutex_lock(lock);
    while (!w->stop) {
        flush_aged(w);
        struct job *batch = take_batch(w);
        if (batch == NULL && w->unsettled) {
            tell_settled(w);
            continue;
        }
        if (batch == NULL) {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            t.tv_sec++;
            if (w->oldest == NULL) {
                w->asleep++;
                pthread_cond_wait(&w->wake, lock);
                w->asleep--;
            } else {
                pthread_cond_timedwait(&w->wake, lock, &t);
            }
            continue;
        }
        w->running++;
        pthread_mutex_unlock(lock);
        struct blocks_item *items;
        int rc = store(w, batch, &items);
        pthread_mutex_lock(lock);
        w->running--;
        end_batch(w, batch, items, rc);
        free(items);
        tell_settled(w);
    }
    pthread_mutex_unlock(lock);
    return NULL;
}
