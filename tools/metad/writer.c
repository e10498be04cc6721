// SPDX-License-Identifier: Apache-2.0
/* Two queues, urgent and other; each turn takes a batch from both, so that neither starves: commits
 * up to a number and a size, then a few others. The batch goes through four stages: decode and
 * authenticate (whoever fails is answered at once), run all inside one transaction, make it
 * durable, answer all and publish the new journal heads to those who wait for them.
 *
 * A change that fails alone (a malformed commit) is undone alone by meta, in a savepoint of its
 * own. When the transaction fails (disk full), all of its changes are answered with the failure and
 * nothing has changed: clients repeat them under the same request numbers. The next batch tries
 * again, so that the server recovers by itself once there is space.
 *
 * Between batches the thread forgets some of the past (prune.c), and which blocks it referred to
 * (gc.c), a step at a time.
 */
#include "writer.h"

#include "calendar.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOTE_MS 3600000      /* between two notes of the time of day */
#define PRUNE_SOON_MS 200    /* between two steps of forgetting the past … */
#define PRUNE_LATER_MS 60000 /* … and when there was nothing more to do */
#define REPORTS_MS 20000     /* block servers report after a start, or are not waited for */
#define PRUNE_SHORT_MS 1000  /* the latter where less than an hour is kept, or of grace */

struct job {
    struct job *next;
    const struct call *call;
    struct httpd_req *q;
    struct meta_caller who;
    void *req, *ans;
    int err;
    char why[512];
};

struct queue {
    struct job *first, **last;
};

struct writer {
    struct service *s;
    struct meta *meta; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* the rest */
    pthread_cond_t more;
    struct queue urgent, other;
    size_t n, bytes;
    bool stop;
    int64_t prune_ms;         /* the thread's: when the past is looked at next (monotonic) */
    struct calendar calendar; /* the thread's */
    int64_t started_ms;       /* monotonic */
    bool reported;            /* all block servers have, since then, or are not waited for */
    bool doubted;             /* … it was not believed the last time */
    int64_t noted_ms;         /* … and kept in the database last; 0: not since the start */
};

/* A namespace's new head, on its way to the loop. */
struct news {
    struct service *s;
    size_t n;
    struct {
        uint64_t ns, first, head; /* numbers [first, head] */
        uint64_t device;          /* of all these commits; 0: of several */
    } heads[];
};

static void queue_init(struct queue *u)
{
    u->first = NULL;
    u->last = &u->first;
}

static void queue_push(struct queue *u, struct job *j)
{
    j->next = NULL;
    *u->last = j;
    u->last = &j->next;
}

static struct job *queue_pop(struct queue *u)
{
    struct job *j = u->first;
    if (j && !(u->first = j->next))
        u->last = &u->first;
    return j;
}

void writer_submit(struct writer *w, const struct call *c, struct httpd_req *q)
{
    size_t bytes = httpd_body(q).n;
    pthread_mutex_lock(&w->lock);
    bool full = w->n >= WRITER_QUEUE_MAX || w->bytes + bytes > WRITER_QUEUE_BYTES_MAX;
    if (!full) {
        struct job *j = arena_alloc(httpd_arena(q), sizeof *j);
        j->call = c;
        j->q = q;
        queue_push(c->urgent ? &w->urgent : &w->other, j);
        w->n++;
        w->bytes += bytes;
        w->s->counters.queue_depth = w->n;
        pthread_cond_signal(&w->more);
    }
    pthread_mutex_unlock(&w->lock);
    if (full) {
        w->s->counters.queue_refused++;
        httpd_reply_error(q, ERR_UNAVAILABLE, "the metadata server is overloaded; try again");
    }
}

static size_t take(struct writer *w, struct queue *u, size_t max, size_t max_bytes,
                   struct job **batch)
{
    size_t n = 0, bytes = 0;
    while (n < max && bytes < max_bytes && u->first) {
        struct job *j = queue_pop(u);
        bytes += httpd_body(j->q).n;
        batch[n++] = j;
    }
    w->n -= n;
    w->bytes -= bytes;
    return n;
}

static uint64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool prune_due(const struct writer *w)
{
    return (int64_t)(monotonic_us() / 1000) >= w->prune_ms;
}

/* Waits for work, or until the past is to be looked at. 0: that, or the writer is to end and has
 * nothing left. */
static size_t next_batch(struct writer *w, struct job **batch)
{
    struct timespec until = {.tv_sec = w->prune_ms / 1000, .tv_nsec = w->prune_ms % 1000 * 1000000};
    pthread_mutex_lock(&w->lock);
    while (w->n == 0 && !w->stop && !prune_due(w))
        pthread_cond_timedwait(&w->more, &w->lock, &until);
    size_t n = take(w, &w->urgent, WRITER_BATCH_URGENT, WRITER_BATCH_BYTES, batch);
    n += take(w, &w->other, WRITER_BATCH_OTHER, WRITER_BATCH_BYTES, batch + n);
    w->s->counters.queue_depth = w->n;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static bool prepare(struct writer *w, struct job *j)
{
    struct arena *ar = httpd_arena(j->q);
    j->req = arena_alloc(ar, j->call->req_desc->size);
    j->ans = arena_alloc(ar, j->call->ans_desc->size);
    if (!service_admit(w->s, w->meta, j->call, j->q, &j->who) ||
        !httpd_decode(j->q, j->call->req_desc, j->req))
        return false;
    if (j->call->received)
        j->call->received(w->s, &j->who, j->req);
    return true;
}

static void tell_loop(void *arg)
{
    struct news *news = arg;
    for (size_t i = 0; i < news->n; i++)
        waiters_publish(news->s->waiters, news->heads[i].ns, news->heads[i].first,
                        news->heads[i].head, news->heads[i].device);
    free(news);
}

/* The new heads of a batch, or NULL. */
static struct news *collect(struct writer *w, struct job *const *batch, size_t n)
{
    struct news *news = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct job *j = batch[i];
        if (j->err || j->call->req_desc != &m_commit_req_desc)
            continue;
        const struct m_commit_ans *a = j->ans;
        if (a->status != COMMIT_COMMITTED || !a->sjid)
            continue;
        if (!news) {
            news = calloc(1, sizeof *news + n * sizeof news->heads[0]);
            if (!news)
                abort();
            news->s = w->s;
        }
        uint64_t ns = ((const struct m_commit_req *)j->req)->ns;
        size_t at = 0;
        while (at < news->n && news->heads[at].ns != ns)
            at++;
        if (at == news->n) {
            news->n++;
            news->heads[at].ns = ns;
            news->heads[at].first = news->heads[at].head = a->sjid;
            news->heads[at].device = j->who.device;
        }
        if (a->sjid > news->heads[at].head)
            news->heads[at].head = a->sjid;
        if (a->sjid < news->heads[at].first)
            news->heads[at].first = a->sjid;
        if (j->who.device != news->heads[at].device)
            news->heads[at].device = 0;
    }
    return news;
}

static void finish(struct writer *w, struct job *j)
{
    if (j->err) {
        service_fail(w->s, j->call, j->q, j->err, j->why);
        return;
    }
    if (j->call->answered)
        j->call->answered(w->s, &j->who, j->req, j->ans);
    httpd_reply_msg(j->q, j->call->ans_desc, j->ans);
}

static void count_absent(struct writer *w)
{
    struct meta_gc_sums sums = meta_absent(w->meta);
    w->s->counters.gc_absent = sums.blocks;
    w->s->counters.gc_absent_bytes = sums.bytes;
}

/* One transaction for all of the batch; afterwards each job's err says how it ended. A full or
 * failing disk ends the batch: the database may have given up the transaction by itself. */
static void run_batch(struct writer *w, struct job *const *batch, size_t n)
{
    uint64_t from = monotonic_us();
    int64_t now_ms = service_now_ms();
    int err = meta_begin(w->meta);
    size_t ran = 0;
    for (bool sound = !err; ran < n && sound; ran++) {
        struct job *j = batch[ran];
        j->err =
            j->call->run(w->s, w->meta, &j->who, j->req, now_ms, j->ans, httpd_arena(j->q), j->why);
        sound = j->err != -ENOSPC && j->err != -EIO;
    }
    if (!err)
        err = meta_end(w->meta);
    for (size_t i = 0; i < n; i++)
        if (!batch[i]->err && (err || i >= ran)) {
            batch[i]->err = err ? err : batch[ran - 1]->err;
            batch[i]->why[0] = 0;
        }
    counters_tx(&w->s->counters, n, monotonic_us() - from, err != 0);
}

static void run_all(struct writer *w, struct job **batch, size_t n)
{
    size_t ready = 0;
    for (size_t i = 0; i < n; i++)
        if (prepare(w, batch[i]))
            batch[ready++] = batch[i];
    if (!ready)
        return;
    run_batch(w, batch, ready);
    count_absent(w);                              /* by `admin gc` */
    struct news *news = collect(w, batch, ready); /* before finish frees the jobs */
    for (size_t i = 0; i < ready; i++)
        finish(w, batch[i]);
    if (news)
        httpd_post(w->s->httpd, tell_loop, news);
    if (meta_touched(w->meta) || w->s->release_wanted) /* a server moved, was let go … */
        httpd_post(w->s->httpd, service_release_soon, w->s);
    w->s->release_wanted = false;
}

static int count_restored(struct writer *w, struct meta_restored *v)
{
    int r = meta_restored(w->meta, v);
    if (!r) {
        w->s->counters.restored_ms = v->epoch;
        w->s->counters.keep_until_ms = v->keep_until_ms;
    }
    return r;
}

/* One step: what only the forgotten past referred to is declared absent. */
static void collect_garbage(struct writer *w, bool *more)
{
    struct meta_gc_sums sums = {0};
    bool again = false;
    int err = meta_gc(w->meta, service_now_ms(), &sums, &again);
    if (err)
        log_printf(w->s->log, LOG_L_ERROR, "blocks that nothing refers to cannot be collected: %s",
                   strerror(-err));
    count_absent(w);
    *more |= again && !err;
}

/* Nothing is forgotten by a calendar that has leapt ahead. */
static bool calendar_good(struct writer *w)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    int64_t counted = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000, now = service_now_ms();
    uint64_t last = 0;
    if (!w->noted_ms) {
        if (meta_time_noted(w->meta, &last))
            return false;
        calendar_begin(&w->calendar, (int64_t)last, now, counted);
        w->noted_ms = 1;
    }
    bool good = calendar_believes(&w->calendar, now, counted);
    if (good && (now < w->noted_ms || now - w->noted_ms >= NOTE_MS)) {
        last = (uint64_t)now;
        if (!meta_time_noted(w->meta, &last))
            w->noted_ms = now;
    }
    if (!good && !w->doubted)
        log_printf(
            w->s->log, LOG_L_ERROR,
            "this machine's time of day has leapt ahead: if that is wrong, set it back within "
            "a week; until then no history is dropped and no garbage collected");
    else if (good && w->doubted)
        log_printf(w->s->log, LOG_L_WARN, "the time of day is believed again");
    w->doubted = !good;
    return good;
}

/* A database that was put back says wrongly what is past and unused; block servers tell. */
static bool awaits_reports(struct writer *w)
{
    bool any = false;
    if (w->reported)
        return false;
    w->reported = (int64_t)(monotonic_us() / 1000) > w->started_ms + REPORTS_MS ||
                  (!meta_unheard(w->meta, &any) && !any);
    return !w->reported;
}

/* One step of forgetting, when it is time for one. */
static void prune(struct writer *w)
{
    struct meta_restored restored;
    bool more = false;
    uint64_t keep = w->s->history_min_ms;
    if (!prune_due(w))
        return;
    if (awaits_reports(w)) {
        w->prune_ms = (int64_t)(monotonic_us() / 1000) + PRUNE_SHORT_MS;
        return;
    }
    if (!calendar_good(w)) {
        w->prune_ms = (int64_t)(monotonic_us() / 1000) + PRUNE_LATER_MS;
        return;
    }
    int err = meta_prune(w->meta, service_now_ms(), keep, &more);
    if (err)
        log_printf(w->s->log, LOG_L_ERROR, "the past cannot be forgotten: %s", strerror(-err));
    if (!err)
        collect_garbage(w, &more);
    count_restored(w, &restored);
    bool often = keep < 3600 * 1000 || w->s->gc_grace_ms < 3600 * 1000;
    int64_t pause = more && !err ? PRUNE_SOON_MS : often ? PRUNE_SHORT_MS : PRUNE_LATER_MS;
    w->prune_ms = (int64_t)(monotonic_us() / 1000) + pause;
}

/* A mount knows another journal than this database has. */
static void note_other(struct writer *w)
{
    if (!atomic_exchange(&w->s->other_told, false))
        return;
    int err = meta_other_journal(w->meta, service_now_ms());
    if (err)
        log_printf(w->s->log, LOG_L_ERROR,
                   "it cannot be noted that this database is an older copy: %s", strerror(-err));
}

static void tell_restored(struct writer *w)
{
    struct meta_restored v;
    if (!meta_noticed(w->meta) || count_restored(w, &v))
        return;
    char until[32];
    time_t t = (time_t)(v.keep_until_ms / 1000);
    struct tm tm;
    strftime(until, sizeof until, "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
    log_printf(
        w->s->log, LOG_L_WARN,
        "this database is older than what others were told: it was put back to a copy. Block "
        "servers compare what they have with it, and nothing is removed before %s, or steadfs "
        "admin gc --restored",
        until);
    if (meta_touched(w->meta))
        httpd_post(w->s->httpd, service_release_soon, w->s);
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    struct job *batch[WRITER_BATCH_URGENT + WRITER_BATCH_OTHER];
    for (;;) {
        size_t n = next_batch(w, batch);
        if (n)
            run_all(w, batch, n);
        pthread_mutex_lock(&w->lock);
        bool end = w->stop && w->n == 0;
        pthread_mutex_unlock(&w->lock);
        if (end)
            return NULL;
        note_other(w);
        tell_restored(w);
        prune(w);
    }
}

int writer_new(struct writer **out, struct service *s, struct meta *m)
{
    struct writer *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->s = s;
    w->meta = m;
    w->started_ms = (int64_t)(monotonic_us() / 1000);
    queue_init(&w->urgent);
    queue_init(&w->other);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->more, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int err = pthread_create(&w->thread, NULL, writer_main, w);
    if (err) {
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->more);
        free(w);
        return -err;
    }
    *out = w;
    return 0;
}

void writer_free(struct writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    meta_close(w->meta);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->more);
    free(w);
}
