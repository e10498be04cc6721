// SPDX-License-Identifier: Apache-2.0
/* The driver's threads, turns and waiters.
 *
 * One driver thread makes all decisions, so that what happens between two remote calls needs no
 * locks of its own. It does the network's I/O as well (rpc_turn) and sleeps there: an fsync is
 * three calls one after the other, and with an I/O thread of its own each would cost two more
 * changes of threads, which on a machine with idle cores cost more than the calls. Answers of
 * calls, finished jobs, cancels and wake-ups fill the inbox, from any thread without fs.lock. A
 * turn handles the events, then runs every part's step function once under fs.lock; a step starts
 * what it can and says with sync_at when it wants to be run again at the latest. Reading, hashing
 * and storing of large blocks runs on two worker threads.
 *
 * A waiter is finished exactly once: waiter_end takes it out of the list and queues its done
 * function, which runs after the turn without the lock. A cancel only leaves the waiter's id in the
 * inbox, because it may come with or without fs.lock held.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync_internal.h"
#include "token.h"
#include "tree.h"
#include "vfs.h"

#define CHECKPOINT_AGAIN_MS 100

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- operations ---- */
uint64_t op_new(struct sync *s)
{
    uint64_t now =
        (uint64_t)fs_now() / 1000; /* us: more than are begun, so that a restart is ahead */
    s->next_op = now > s->next_op ? now : s->next_op + 1;
    return s->next_op;
}

void ops_add(struct ops *o, uint64_t op)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->v[i] == op)
            return;
    if (op && o->n < OPS_MAX)
        o->v[o->n++] = op;
}

const char *ops_text(const struct sync *s, const struct ops *o, char text[LOG_OP_MAX])
{
    size_t n = 0;
    text[0] = 0;
    for (size_t i = 0; i < o->n; i++)
        n += (size_t)snprintf(text + n, LOG_OP_MAX - n, "%s%x-%llx", i ? "," : "",
                              s->identity.device, (unsigned long long)o->v[i]);
    return text;
}

void ops_log(struct sync *s, uint64_t ns, uint64_t request, const struct ops *o, const char *fmt,
             ...)
{
    char text[512], op[LOG_OP_MAX];
    va_list ap;
    if (!log_shows(s->fs->log, LOG_L_DEBUG))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct log_where where = {.ns = ns, .request = request, .op = ops_text(s, o, op)};
    log_about(s->fs->log, LOG_L_DEBUG, &where, "%s", text);
}

/* ---- inbox ---- */
static void wake_locked(struct sync *s)
{
    if (!s->awake && s->asleep)
        rpc_wake(s->rpc);
    s->awake = true;
}

void sync_wake(struct sync *s)
{
    pthread_mutex_lock(&s->inbox_lock);
    wake_locked(s);
    pthread_mutex_unlock(&s->inbox_lock);
}

void sync_post(struct sync *s, struct sync_event *e)
{
    pthread_mutex_lock(&s->inbox_lock);
    TAILQ_INSERT_TAIL(&s->inbox, e, link);
    wake_locked(s);
    pthread_mutex_unlock(&s->inbox_lock);
}

void sync_job_start(struct sync *s, struct sync_job *j)
{
    pthread_mutex_lock(&s->inbox_lock);
    TAILQ_INSERT_TAIL(&s->jobs, j, job_link);
    pthread_cond_signal(&s->job_cond);
    pthread_mutex_unlock(&s->inbox_lock);
}

static void *worker_main(void *arg)
{
    struct sync *s = arg;
    pthread_mutex_lock(&s->inbox_lock);
    for (;;) {
        struct sync_job *j = TAILQ_FIRST(&s->jobs);
        if (j) {
            TAILQ_REMOVE(&s->jobs, j, job_link);
            pthread_mutex_unlock(&s->inbox_lock);
            j->run(s, j);
            pthread_mutex_lock(&s->inbox_lock);
            TAILQ_INSERT_TAIL(&s->inbox, &j->ev, link);
            wake_locked(s);
        } else if (s->inbox_stop) {
            break;
        } else {
            pthread_cond_wait(&s->job_cond, &s->inbox_lock);
        }
    }
    pthread_mutex_unlock(&s->inbox_lock);
    return NULL;
}

/* Lets the network work, sleeping there until something is in the inbox or `until` has come; false
 * at the end. */
static bool inbox_wait(struct sync *s, int64_t until, struct sync_events *events,
                       uint64_t **cancels, size_t *cancels_n)
{
    pthread_mutex_lock(&s->inbox_lock);
    int64_t left = s->awake || s->inbox_stop ? 0 : until - s->clock();
    s->asleep = true;
    pthread_mutex_unlock(&s->inbox_lock);
    rpc_turn(s->rpc, left > 0 ? (unsigned)left : 0);
    pthread_mutex_lock(&s->inbox_lock);
    s->asleep = s->awake = false;
    TAILQ_CONCAT(events, &s->inbox, link);
    *cancels = s->cancels;
    *cancels_n = s->cancels_n;
    s->cancels = NULL;
    s->cancels_n = s->cancels_cap = 0;
    bool go_on = !s->inbox_stop;
    pthread_mutex_unlock(&s->inbox_lock);
    return go_on;
}

/* ---- waiters ---- */
void sync_at(struct sync *s, int64_t at)
{
    if (at < s->wake_at)
        s->wake_at = at;
}

uint64_t waiter_add(struct sync *s, struct waiter *w, unsigned timeout_ms, int timeout_err)
{
    w->id = ++s->next_id;
    w->deadline = s->clock() + timeout_ms;
    w->timeout_err = timeout_err;
    TAILQ_INSERT_TAIL(&s->waiters, w, link);
    s->waiters_n++;
    return w->id;
}

void waiter_end(struct sync *s, struct waiter *w, int err)
{
    struct finished *f = malloc(sizeof *f);
    if (!f)
        abort();
    *f = (struct finished){.done = w->done, .arg = w->arg, .err = err};
    STAILQ_INSERT_TAIL(&s->finished, f, link);
    TAILQ_REMOVE(&s->waiters, w, link);
    s->waiters_n--;
    w->drop(s, w);
    free(w);
}

uint64_t waiter_refuse(struct sync *s, sync_done done, void *arg, int err)
{
    struct finished *f = malloc(sizeof *f);
    if (!f)
        abort();
    *f = (struct finished){.done = done, .arg = arg, .err = err};
    STAILQ_INSERT_TAIL(&s->finished, f, link);
    sync_wake(s);
    return ++s->next_id;
}

bool sync_awaited(const struct sync *s)
{
    return s->waiters_n > 0 || s->draining || !s->had_session;
}

bool sync_online(const struct sync *s)
{
    return s->online;
}

void sync_cancel(struct sync *s, uint64_t id)
{
    pthread_mutex_lock(&s->inbox_lock);
    if (s->cancels_n == s->cancels_cap) {
        s->cancels_cap = s->cancels_cap ? 2 * s->cancels_cap : 16;
        s->cancels = realloc(s->cancels, s->cancels_cap * sizeof *s->cancels);
        if (!s->cancels)
            abort();
    }
    s->cancels[s->cancels_n++] = id;
    wake_locked(s);
    pthread_mutex_unlock(&s->inbox_lock);
}

static void cancels_apply(struct sync *s, const uint64_t *v, size_t n)
{
    struct waiter *w;
    for (size_t i = 0; i < n; i++) {
        TAILQ_FOREACH(w, &s->waiters, link)
        if (w->id == v[i])
            break;
        if (w)
            waiter_end(s, w, -EINTR);
    }
}

static void flush_run(struct sync *s, struct sync_job *j)
{
    (void)j;
    int err = blocks_flush(s->fs->blocks);
    pthread_mutex_lock(&s->fs->lock);
    if (!err)
        err = tree_flush(s->fs->tree);
    pthread_mutex_unlock(&s->fs->lock);
    s->flush_err = err;
    if (err)
        log_printf(s->fs->log, LOG_L_ERROR, "flushing %s to disk: %s", s->fs->opt.state,
                   strerror(-err));
}

static void flush_done(struct sync *s, struct sync_event *e)
{
    free(e);
    pthread_mutex_lock(&s->fs->lock);
    s->flushing = false;
    struct waiter *w, *next;
    for (w = TAILQ_FIRST(&s->waiters); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (w->expiry == EXPIRY_FLUSHING)
            waiter_end(s, w, w->timeout_err ? w->timeout_err : s->flush_err);
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

/* ---- the tree's log ---- */
static void checkpoint_run(struct sync *s, struct sync_job *j)
{
    (void)j;
    pthread_mutex_lock(&s->fs->lock);
    bool due = tree_checkpoint_begin(s->fs->tree);
    pthread_mutex_unlock(&s->fs->lock);
    if (!due)
        return;
    tree_checkpoint(s->fs->tree); /* what it did not do is left to the next step */
    pthread_mutex_lock(&s->fs->lock);
    int err = tree_checkpoint_end(s->fs->tree);
    pthread_mutex_unlock(&s->fs->lock);
    if (err)
        log_printf(s->fs->log, LOG_L_WARN, "copying the log of %s/tree.db: %s", s->fs->opt.state,
                   strerror(-err));
}

static void checkpoint_done(struct sync *s, struct sync_event *e)
{
    free(e);
    pthread_mutex_lock(&s->fs->lock);
    s->checkpointing = false;
    s->checkpoint_after = s->clock() + CHECKPOINT_AGAIN_MS;
    pthread_mutex_unlock(&s->fs->lock);
}

/* Some tens of milliseconds that whoever commits would have to wait for otherwise. */
static void checkpoint_step(struct sync *s, int64_t now)
{
    if (s->checkpointing || s->checkpoint_after > now || !tree_log_long(s->fs->tree))
        return;
    struct sync_job *j = calloc(1, sizeof *j);
    if (!j)
        abort();
    s->checkpointing = true;
    j->run = checkpoint_run;
    j->ev.fn = checkpoint_done;
    sync_job_start(s, j);
}

/* Barriers that the servers did not grant in time (and, with fsync=local, all) are made safe
 * against power loss. */
static void flush_start(struct sync *s)
{
    struct sync_job *j = calloc(1, sizeof *j);
    struct waiter *w;
    if (!j)
        abort();
    TAILQ_FOREACH(w, &s->waiters, link)
    if (w->expiry == EXPIRY_PASSED)
        w->expiry = EXPIRY_FLUSHING;
    s->flushing = true;
    j->run = flush_run;
    j->ev.fn = flush_done;
    sync_job_start(s, j);
}

static void waiters_expire(struct sync *s, int64_t now)
{
    struct waiter *w, *next;
    bool flush = false;
    for (w = TAILQ_FIRST(&s->waiters); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (w->deadline > now) {
            sync_at(s, w->deadline);
        } else if (!w->flush) {
            waiter_end(s, w, w->timeout_err);
        } else if (w->expiry != EXPIRY_FLUSHING) {
            w->expiry = EXPIRY_PASSED;
            flush = true;
        }
    }
    if (flush && !s->flushing)
        flush_start(s);
}

static void finishes_run(struct finishes *list)
{
    struct finished *f;
    while ((f = STAILQ_FIRST(list))) {
        STAILQ_REMOVE_HEAD(list, link);
        f->done(f->arg, f->err);
        free(f);
    }
}

/* ---- turns ---- */
static void sweep_step(struct sync *s);

static void turn(struct sync *s, const uint64_t *cancels, size_t cancels_n)
{
    struct finishes list = STAILQ_HEAD_INITIALIZER(list);
    pthread_mutex_lock(&s->fs->lock);
    int64_t now = s->clock();
    s->turns++;
    s->wake_at = now + 60000;
    cancels_apply(s, cancels, cancels_n);
    waiters_expire(s, now);
    session_step(s);
    fresh_step(s);
    journal_step(s);
    load_step(s);
    barrier_step(s);
    lane_step(s);
    lock_step(s);
    upload_step(s);
    fetch_step(s);
    sweep_step(s);
    checkpoint_step(s, now);
    STAILQ_CONCAT(&list, &s->finished);
    pthread_mutex_unlock(&s->fs->lock);
    finishes_run(&list);
}

static void *driver_main(void *arg)
{
    struct sync *s = arg;
    int64_t until = 0;
    for (;;) {
        struct sync_events events = TAILQ_HEAD_INITIALIZER(events);
        struct sync_event *e;
        uint64_t *cancels;
        size_t n;
        bool go_on = inbox_wait(s, until, &events, &cancels, &n);
        while ((e = TAILQ_FIRST(&events))) {
            TAILQ_REMOVE(&events, e, link);
            e->fn(s, e);
        }
        if (go_on)
            turn(s, cancels, n);
        free(cancels);
        if (!go_on)
            return NULL;
        until = s->wake_at;
    }
}

/* ---- between turns ---- */
void sync_effects(struct sync *s, struct core_effects *fx)
{
    if (fx->n) {
        vfs_effects(s->fs->vfs, fx);
        commit_effects(s, fx);
    }
    core_effects_free(fx);
}

void sync_kick(struct sync *s)
{
    bool news = false;
    int64_t now = s->clock();
    for (size_t i = 0; i < s->nss_n; i++) {
        struct lane *l = &s->nss[i]->lane;
        if (l->wanted)
            continue;
        l->wanted = news = true;
        l->due = now + QUIET_MS;
        l->last_restless = now;
    }
    if (news)
        sync_wake(s);
}

/* ---- outbox blocks that nothing needs any more ---- */
/* A crash between an acknowledged commit and its bookkeeping leaves blocks in the outbox that are
 * synced; a re-cut, an overwrite or an unlink leaves some that nothing refers to. */
#define PLAN_LOOKED_AT 4096 /* a commit under way of more blocks keeps all */

/* Whether a commit under way may name the block, though what it sent was overwritten here since. */
static bool in_commit(struct sync *s, const struct block_id *id)
{
    for (size_t i = 0; i < s->nss_n; i++) {
        const struct lane *l = &s->nss[i]->lane;
        if (l->resend || l->set.n > PLAN_LOOKED_AT)
            return true;
        for (size_t k = 0; k < l->set.n; k++)
            if (block_id_equal(&l->set.ids[k].block, id))
                return true;
    }
    return false;
}

/* Looks at the next blocks of the outbox; true: there are more. */
static bool sweep(struct sync *s)
{
    struct block_id v[SWEEP_BLOCKS];
    size_t n =
        blocks_unsynced(s->fs->blocks, s->sweep_started ? &s->sweep_after : NULL, v, SWEEP_BLOCKS);
    for (size_t i = 0; i < n; i++) {
        bool referenced, pending;
        if (core_block_used(s->fs->core, &v[i], &referenced, &pending))
            continue;
        if (pending || vfs_keeps_block(s->fs->vfs, &v[i]))
            continue; /* or put again a moment ago, for a change that is not in the tree yet */
        if (referenced)
            blocks_synced(s->fs->blocks, &v[i], 1);
        else if (!in_commit(s, &v[i]))
            blocks_drop(s->fs->blocks, &v[i]);
    }
    if (n)
        s->sweep_after = v[n - 1];
    s->sweep_started = n == SWEEP_BLOCKS;
    return s->sweep_started;
}

static void sweep_step(struct sync *s)
{
    int64_t now = s->clock();
    if (s->sweep_at <= now) {
        upload_sweep(s);
        s->sweep_at = now + (sweep(s) ? SWEEP_PAUSE_MS : SWEEP_MS);
    }
    sync_at(s, s->sweep_at);
}

/* ---- life ---- */
static int locks_init(struct sync *s)
{
    pthread_condattr_t ca;
    pthread_condattr_init(&ca);
    pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
    int err = pthread_cond_init(&s->changed, &ca);
    if (!err)
        err = pthread_cond_init(&s->job_cond, NULL);
    if (!err)
        err = pthread_mutex_init(&s->inbox_lock, NULL);
    pthread_condattr_destroy(&ca);
    return -err;
}

static int threads_start(struct sync *s)
{
    int err = pthread_create(&s->driver, NULL, driver_main, s);
    if (err)
        return -err;
    s->started = true;
    while (!err && s->workers_n < SYNC_WORKERS) {
        err = pthread_create(&s->workers[s->workers_n], NULL, worker_main, s);
        if (!err)
            s->workers_n++;
    }
    return s->workers_n ? 0 : -err;
}

/* Namespaces known from before: so that pending work shows before the first session. */
static void known_load(struct sync *s)
{
    struct core_ns n;
    for (size_t k = 0; core_ns_at(s->fs->core, k, &n) == 0; k++) {
        struct sync_ns *ns = sync_ns_need(s, n.id);
        memcpy(ns->name, n.name, sizeof ns->name);
        ns->head = n.head;
    }
}

int sync_new(struct sync **out, struct fs *fs, char *err)
{
    struct sync *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->fs = fs;
    s->clock = clock_ms;
    random_bytes(&s->run, sizeof s->run);
    s->run &= INT64_MAX;
    TAILQ_INIT(&s->inbox);
    TAILQ_INIT(&s->jobs);
    TAILQ_INIT(&s->waiters);
    TAILQ_INIT(&s->loads);
    TAILQ_INIT(&s->fetch_queue);
    LIST_INIT(&s->gets);
    s->races.saved = s->trials.saved = PACE_SAVED_FIRST;
    STAILQ_INIT(&s->finished);
    lock_init(s);
    s->sweep_at = s->clock() + SWEEP_FIRST_MS;
    int r = locks_init(s);
    if (!r)
        r = identity_load(&s->identity, fs->opt.state, fs->opt.url ? fs->opt.url : "the server",
                          err);
    if (r) {
        free(s);
        return r;
    }
    if (!fs->opt.url)
        fs->opt.url = strdup(s->identity.url);
    struct rpc_options o = {.ca_pem = s->identity.ca_pem,
                            .credential = s->identity.credential,
                            .connect_timeout_ms = fs->opt.connect_timeout_ms,
                            .max_per_host = 12,
                            .driven = true,
                            .log = fs->log};
    r = rpc_new(&s->rpc, &o);
    if (!r) {
        pthread_mutex_lock(&fs->lock);
        known_load(s);
        s->session_wanted = true;
        fs->sync = s;
        pthread_mutex_unlock(&fs->lock);
        r = threads_start(s);
    }
    if (r) {
        snprintf(err, 512, "cannot start: %s", strerror(-r));
        sync_free(s);
        return r;
    }
    *out = s;
    return 0;
}

static void inbox_end(struct sync *s)
{
    struct sync_event *e;
    while ((e = TAILQ_FIRST(&s->inbox))) {
        TAILQ_REMOVE(&s->inbox, e, link);
        e->fn(s, e);
    }
}

static void ns_free(struct sync_ns *ns)
{
    lane_free(ns);
    journal_free(ns);
    resync_free(ns);
    for (size_t i = 0; i < ns->routes_n; i++)
        free(ns->routes[i]);
    free(ns);
}

void sync_free(struct sync *s)
{
    if (!s)
        return;
    struct finishes list = STAILQ_HEAD_INITIALIZER(list);
    pthread_mutex_lock(&s->fs->lock);
    s->stopping = s->abandoned = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->fs->lock);
    pthread_mutex_lock(&s->inbox_lock);
    s->inbox_stop = true;
    if (s->asleep)
        rpc_wake(s->rpc);
    pthread_cond_broadcast(&s->job_cond);
    pthread_mutex_unlock(&s->inbox_lock);
    if (s->started)
        pthread_join(s->driver, NULL);
    for (unsigned i = 0; i < s->workers_n; i++)
        pthread_join(s->workers[i], NULL);
    if (s->rpc)
        rpc_free(s->rpc);
    inbox_end(s);
    pthread_mutex_lock(&s->fs->lock);
    while (!TAILQ_EMPTY(&s->waiters))
        waiter_end(s, TAILQ_FIRST(&s->waiters), -ESHUTDOWN);
    STAILQ_CONCAT(&list, &s->finished);
    s->fs->sync = NULL;
    pthread_mutex_unlock(&s->fs->lock);
    finishes_run(&list);
    load_free(s);
    lock_free(s);
    fetch_free(s);
    upload_free(s);
    for (size_t i = 0; i < s->nss_n; i++)
        ns_free(s->nss[i]);
    for (size_t i = 0; i < s->servers_n; i++)
        free(s->servers[i]);
    free(s->nss);
    free(s->servers);
    free(s->cancels);
    identity_free(&s->identity);
    pthread_cond_destroy(&s->changed);
    pthread_cond_destroy(&s->job_cond);
    pthread_mutex_destroy(&s->inbox_lock);
    free(s);
}
