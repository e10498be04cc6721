// SPDX-License-Identifier: Apache-2.0
/* locks=global: what this device holds locked of files, against other devices.
 *
 * For each file there is what the metadata server has given (held) and what is wanted besides. Each
 * request states both, and only the newest one's answer counts: so nothing depends on which of them
 * arrived. While an answer is awaited the next request waits, since it would void that answer. What
 * somebody else holds is asked for again when the long poll says that it was given.
 *
 * What is held is held under a lease: it ends lease_ms after the sending of the last request that
 * was answered, by a clock that runs while the machine sleeps, so never later than at the server.
 * Then everything is lost: the vfs is told, and the server hears that nothing is held. A server
 * with a new epoch is told at once what is held, and the lease goes on when it knows all of it.
 *
 * A file of which nothing is wanted, and whose holder the server knows, is *quiet*: it stands at
 * the end of the list, and what is done for all that have work ends there; thousands may be held.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "sync_internal.h"
#include "token.h"
#include "vfs.h"

#define LOCK_TIMEOUT_MS 5000 /* of one request */
#define LEASE_MAX_MS 86400000
#define LOCK_AGAIN_MS 500 /* after a failure that is not of the network */

struct want {
    struct waiter w;
    TAILQ_ENTRY(want) link;
    struct file_locks *f;
    struct m_lock_range range;
    struct m_lock_range *other; /* what is in its way; the caller's, or NULL */
    bool asked;                 /* in the newest request, at this index */
    size_t index;
};
TAILQ_HEAD(wants, want);

struct telling { /* somebody waits until the server knows what is held */
    struct waiter w;
    TAILQ_ENTRY(telling) link;
    struct file_locks *f;
    uint64_t request; /* count of the first that tells */
};
TAILQ_HEAD(tellings, telling);

struct file_locks {
    TAILQ_ENTRY(file_locks) link;
    LIST_ENTRY(file_locks) same; /* of its bucket */
    bool quiet;
    uint64_t ns, node;
    struct lockset held;
    struct wants wants;
    struct tellings tellings;
    bool changed;            /* a request is to be sent */
    bool inflight;           /* the newest one is not answered yet */
    uint64_t seq;            /* of the newest one */
    uint64_t sent, answered; /* counts */
    uint64_t epoch;          /* of the server that was told what is held; 0: none was */
    unsigned calls;          /* under way */
    int64_t not_before;
};

/* One request, or a sign of life (f NULL). */
struct lock_call {
    struct file_locks *f;
    uint64_t seq;
    int64_t sent; /* sleeping_clock */
};

/* Monotonic, ms; goes on while the machine sleeps. */
static int64_t sleeping_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct files_locked *bucket(struct sync *s, uint64_t node)
{
    return &s->locked[(node * 0x9e3779b97f4a7c15ull >> 32) % LOCK_BUCKETS];
}

static struct file_locks *find(struct sync *s, uint64_t node)
{
    struct file_locks *f;
    LIST_FOREACH(f, bucket(s, node), same)
    if (f->node == node)
        break;
    return f;
}

static struct file_locks *need(struct sync *s, uint64_t ns, uint64_t node)
{
    struct file_locks *f = find(s, node);
    if (f)
        return f;
    f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->ns = ns;
    f->node = node;
    TAILQ_INIT(&f->wants);
    TAILQ_INIT(&f->tellings);
    TAILQ_INSERT_HEAD(&s->locks, f, link);
    LIST_INSERT_HEAD(bucket(s, node), f, same);
    return f;
}

static void drop(struct sync *s, struct file_locks *f)
{
    TAILQ_REMOVE(&s->locks, f, link);
    LIST_REMOVE(f, same);
    lockset_free(&f->held);
    free(f);
    pthread_cond_broadcast(&s->changed);
}

static void ask(struct sync *s, struct file_locks *f)
{
    if (f->quiet) {
        f->quiet = false;
        TAILQ_REMOVE(&s->locks, f, link);
        TAILQ_INSERT_HEAD(&s->locks, f, link);
    }
    f->changed = true;
    sync_wake(s);
}

static void rest(struct sync *s, struct file_locks *f)
{
    f->quiet = true;
    TAILQ_REMOVE(&s->locks, f, link);
    TAILQ_INSERT_TAIL(&s->locks, f, link);
}

/* ---- for the vfs ------------------------------------------------------------------------------
 */

bool sync_lock_lease(const struct sync *s)
{
    return sleeping_clock() < s->lease_end;
}

bool sync_lock_covers(struct sync *s, uint64_t node, const struct m_lock_range *r)
{
    const struct file_locks *f = find(s, node);
    return f && sync_lock_lease(s) && lockset_covers(&f->held, r);
}

static void want_drop(struct sync *s, struct waiter *w)
{
    struct want *x = (struct want *)(void *)w;
    TAILQ_REMOVE(&x->f->wants, x, link);
    if (x->asked) /* the server may be keeping it, or a place for it */
        ask(s, x->f);
}

uint64_t sync_lock_want(struct sync *s, uint64_t ns, uint64_t node, const struct m_lock_range *r,
                        struct m_lock_range *other, sync_done done, void *arg)
{
    if (s->waiters_n >= SYNC_WAITERS_MAX)
        return 0;
    struct want *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    x->f = need(s, ns, node);
    x->range = *r;
    x->other = other;
    x->w.done = done;
    x->w.arg = arg;
    x->w.drop = want_drop;
    TAILQ_INSERT_TAIL(&x->f->wants, x, link);
    ask(s, x->f);
    return waiter_add(s, &x->w, s->fs->opt.timeout_ms, -ENOLCK);
}

void sync_lock_hold(struct sync *s, uint64_t node, struct lockset *needed)
{
    struct file_locks *f = find(s, node);
    if (f && !lockset_contains(needed, &f->held)) {
        lockset_free(&f->held);
        f->held = *needed;
        *needed = (struct lockset){0};
        ask(s, f);
    }
}

static void telling_drop(struct sync *s, struct waiter *w)
{
    struct telling *x = (struct telling *)(void *)w;
    (void)s;
    TAILQ_REMOVE(&x->f->tellings, x, link);
}

uint64_t sync_lock_told(struct sync *s, uint64_t node, sync_done done, void *arg)
{
    struct file_locks *f = find(s, node);
    if (!f || !s->online || (!f->changed && !f->inflight))
        return 0;
    struct telling *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    x->f = f;
    x->request = f->sent + f->changed;
    x->w.done = done;
    x->w.arg = arg;
    x->w.drop = telling_drop;
    TAILQ_INSERT_TAIL(&f->tellings, x, link);
    return waiter_add(s, &x->w, s->fs->opt.timeout_ms, 0);
}

/* ---- the lease --------------------------------------------------------------------------------
 */

static bool anything(const struct sync *s, bool held_only)
{
    const struct file_locks *f;
    TAILQ_FOREACH(f, &s->locks, link)
    if (f->held.n || (!held_only && !TAILQ_EMPTY(&f->wants)))
        return true;
    return false;
}

static void lose(struct sync *s, struct file_locks *f)
{
    if (!f->held.n)
        return;
    lockset_free(&f->held);
    ask(s, f);
    struct log_where where = {.ns = f->ns, .node = f->node};
    log_about(s->fs->log, LOG_L_WARN, &where,
              "a lock is lost: the metadata server was not reached in time, or refuses it");
    vfs_locks_lost(s->fs->vfs, f->node);
}

static void lose_all(struct sync *s)
{
    struct file_locks *f, *next;
    for (f = TAILQ_FIRST(&s->locks); f; f = next) {
        next = TAILQ_NEXT(f, link);
        lose(s, f);
    }
}

void lock_members(struct sync *s)
{
    struct file_locks *f, *next;
    for (f = TAILQ_FIRST(&s->locks); f; f = next) {
        const struct sync_ns *ns = sync_ns_find(s, f->ns);
        next = TAILQ_NEXT(f, link);
        if (ns && !ns->listed) /* others are not to wait for the lease */
            lose(s, f);
    }
}

/* Whether the server of this epoch was told of all that is held. The newest one was told of what is
 * quiet. */
static bool all_told(const struct sync *s, uint64_t epoch)
{
    const struct file_locks *f;
    TAILQ_FOREACH(f, &s->locks, link)
    {
        if (f->quiet && epoch == s->lock_epoch)
            break;
        if (f->held.n && f->epoch != epoch)
            return false;
    }
    return true;
}

/* What every answer tells; of: the file whose newest request it answers, or NULL. */
static void lease_learn(struct sync *s, struct file_locks *of, const struct m_lock_ans *a,
                        int64_t sent)
{
    struct file_locks *f, *next;
    struct want *x;
    int64_t end = sent + (int64_t)a->lease_ms, now = s->clock();
    if (s->lease_end && !sync_lock_lease(s)) /* before it begins anew */
        lose_all(s);
    if (!a->lease_ms || a->lease_ms > LEASE_MAX_MS)
        return;
    if (of && !a->overtaken)
        of->epoch = a->epoch;
    /* A server that has just begun keeps free only what it was told of. */
    if (end > s->lease_end && all_told(s, a->epoch))
        s->lease_end = end;
    s->lease_ms = (unsigned)a->lease_ms;
    bool other = (s->lock_epoch && s->lock_epoch != a->epoch) || s->lock_circles != a->circles;
    s->lock_circles = a->circles;
    s->lock_epoch = a->epoch;
    for (f = TAILQ_FIRST(&s->locks); f && (other || !f->quiet); f = next) {
        next = TAILQ_NEXT(f, link);
        if (other && (f->held.n || !TAILQ_EMPTY(&f->wants)))
            ask(s, f);
        TAILQ_FOREACH(x, &f->wants, link)
        if (x->range.patient) /* it is waited for as long as the server is there */
            x->w.deadline = now + s->lease_ms + s->fs->opt.timeout_ms;
    }
}

/* ---- requests ---------------------------------------------------------------------------------
 */

/* What the newest answer says of the wanted ones; end: wake with this. */
static void wants_answered(struct sync *s, struct file_locks *f, const struct m_lock_ans *a)
{
    struct want *x, *next;
    for (x = TAILQ_FIRST(&f->wants); x; x = next) {
        next = TAILQ_NEXT(x, link);
        if (!x->asked)
            continue;
        const struct m_lock_busy *busy = NULL;
        for (size_t i = 0; i < a->busy_n && !busy; i++)
            if (a->busy[i].want == x->index)
                busy = &a->busy[i];
        if (busy && busy->circle) {
            x->asked = false;
            waiter_end(s, &x->w, -EDEADLK);
            continue;
        }
        if (busy && busy->other_set && x->range.patient)
            continue;
        if (busy && busy->other_set && x->other)
            *x->other = busy->other;
        int err = !busy ? 0 : busy->other_set ? -EAGAIN : -ENOLCK;
        if (!err && !x->range.test)
            err = lockset_add(&f->held, &x->range);
        x->asked = false;
        waiter_end(s, &x->w, err);
    }
}

static void wants_end(struct sync *s, struct file_locks *f, int err)
{
    struct want *x;
    while ((x = TAILQ_FIRST(&f->wants))) {
        x->asked = false;
        waiter_end(s, &x->w, err);
    }
}

static void tellings_end(struct sync *s, struct file_locks *f, bool all)
{
    struct telling *x, *next;
    for (x = TAILQ_FIRST(&f->tellings); x; x = next) {
        next = TAILQ_NEXT(x, link);
        if (all || x->request <= f->answered)
            waiter_end(s, &x->w, 0);
    }
}

/* The newest request of the file was answered. */
static void answered(struct sync *s, struct file_locks *f, const struct m_lock_ans *a)
{
    f->inflight = false;
    if (a->overtaken) {
        f->not_before = s->clock() + LOCK_AGAIN_MS;
        ask(s, f);
        return;
    }
    f->answered = f->sent;
    tellings_end(s, f, false);
    if (a->lost)
        lose(s, f);
    if (a->lost || a->again_ms) {
        f->not_before = s->clock() + (int64_t)a->again_ms;
        if (!TAILQ_EMPTY(&f->wants))
            ask(s, f);
        return;
    }
    wants_answered(s, f, a);
}

/* No answer. What is wanted goes on being wanted, until its time is over. */
static void not_answered(struct sync *s, struct file_locks *f, int err)
{
    f->inflight = false;
    s->lock_circles = s->lock_circles && err != -EBADMSG; /* an older server */
    tellings_end(s, f, true);
    if (err == -EPERM || err == -ENOENT || err == -EBADMSG || err == -EMSGSIZE || err == -ENOSPC) {
        lose(s, f); /* no member any more, or too many */
        wants_end(s, f, -ENOLCK);
        f->changed = false;
        return;
    }
    f->not_before = s->clock() + LOCK_AGAIN_MS;
    f->changed = true;
}

static void lock_done(struct sync *s, struct sync_call *c)
{
    struct lock_call *l = c->arg;
    struct file_locks *f = l->f;
    struct arena cleanup_arena ar = {0};
    struct m_lock_ans a = {0};
    int bad = c->res.err ? 0 : call_decode(s, c, &m_lock_ans_desc, &a, &ar);
    pthread_mutex_lock(&s->fs->lock);
    int err = meta_result(s, c);
    err = err ? err : bad;
    if (!err)
        lease_learn(s, f && l->seq == f->seq ? f : NULL, &a, l->sent);
    if (f) {
        f->calls--;
        if (l->seq == f->seq && err)
            not_answered(s, f, err);
        else if (l->seq == f->seq)
            answered(s, f, &a);
    } else {
        s->lease_asked = false;
        s->lease_again = s->clock() + (err ? LOCK_AGAIN_MS : 0);
    }
    pthread_mutex_unlock(&s->fs->lock);
    free(l);
    sync_wake(s);
}

static void send(struct sync *s, struct file_locks *f, struct m_lock_req *q)
{
    struct lock_call *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    q->run = s->lock_run;
    q->seq = ++s->lock_seq;
    *l = (struct lock_call){.f = f, .seq = q->seq, .sent = sleeping_clock()};
    s->lease_sent = s->clock();
    call_meta(call_new(s, lock_done, l), "lock", &m_lock_req_desc, q, LOCK_TIMEOUT_MS);
}

/* What the owner of a wanted lock keeps until it is given, for the server to notice circles. */
static void stays_add(struct sync *s, const struct want *x, struct m_lock_req *q)
{
    if (!s->lock_circles || !x->range.patient || x->range.whole)
        return;
    size_t n =
        vfs_lock_stays(s->fs->vfs, x->w.arg, q->stays + q->stays_n, LOCK_RANGES_MAX - q->stays_n);
    for (size_t i = 0; i < n; i++)
        q->stays[q->stays_n++].want = x->index;
}

static void file_send(struct sync *s, struct file_locks *f)
{
    struct arena cleanup_arena ar = {0};
    struct want *x;
    struct m_lock_req q = {.ns = f->ns, .node = f->node, .hold = f->held.v, .hold_n = f->held.n};
    q.want = arena_alloc(&ar, LOCK_RANGES_MAX * sizeof *q.want);
    q.stays = arena_alloc(&ar, LOCK_RANGES_MAX * sizeof *q.stays);
    TAILQ_FOREACH(x, &f->wants, link)
    {
        x->asked = q.want_n < LOCK_RANGES_MAX; /* the rest when some of these have their answer */
        x->index = q.want_n;
        if (!x->asked)
            continue;
        q.want[q.want_n++] = x->range;
        stays_add(s, x, &q);
    }
    f->changed = false;
    f->inflight = true;
    f->sent++;
    f->calls++;
    send(s, f, &q);
    f->seq = s->lock_seq;
}

static void file_step(struct sync *s, struct file_locks *f, int64_t now)
{
    s->lock_looks++;
    if (f->changed && !f->inflight && s->online) {
        if (f->not_before > now)
            sync_at(s, f->not_before);
        else
            file_send(s, f);
    }
    if (!s->online)
        tellings_end(s, f, true);
    if (f->changed || f->calls || !TAILQ_EMPTY(&f->wants) || !TAILQ_EMPTY(&f->tellings))
        return;
    if (!f->held.n)
        drop(s, f);
    else if (f->epoch == s->lock_epoch)
        rest(s, f);
}

void lock_step(struct sync *s)
{
    struct file_locks *f, *next;
    int64_t now = s->clock();
    if (anything(s, true)) {
        int64_t left = s->lease_end - sleeping_clock();
        if (left <= 0)
            lose_all(s);
        else
            sync_at(s, now + left);
    }
    for (f = TAILQ_FIRST(&s->locks); f && !f->quiet; f = next) {
        next = TAILQ_NEXT(f, link);
        file_step(s, f, now);
    }
    if (!s->lease_ms || !s->online || s->lease_asked || !anything(s, false))
        return;
    int64_t due = s->lease_sent + s->lease_ms / 3;
    due = due > s->lease_again ? due : s->lease_again;
    if (due > now) {
        sync_at(s, due);
        return;
    }
    s->lease_asked = true;
    struct m_lock_req alive = {0};
    send(s, NULL, &alive);
}

void sync_lock_again(struct sync *s)
{
    if (s->lock_circles)
        lock_news(s);
}

void lock_news(struct sync *s)
{
    struct file_locks *f;
    for (f = TAILQ_FIRST(&s->locks); f && !f->quiet; f = TAILQ_NEXT(f, link))
        if (!TAILQ_EMPTY(&f->wants))
            ask(s, f);
}

/* ---- life -------------------------------------------------------------------------------------
 */

void lock_init(struct sync *s)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    TAILQ_INIT(&s->locks);
    s->locked = calloc(LOCK_BUCKETS, sizeof *s->locked);
    if (!s->locked)
        abort();
    s->lock_run = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void sync_locks_end(struct sync *s, unsigned timeout_ms)
{
    struct file_locks *f, *next;
    int64_t deadline = s->clock() + timeout_ms;
    pthread_mutex_lock(&s->fs->lock);
    for (f = TAILQ_FIRST(&s->locks); f; f = next) {
        next = TAILQ_NEXT(f, link);
        if (f->held.n) {
            lockset_free(&f->held);
            ask(s, f);
        }
    }
    while (!TAILQ_EMPTY(&s->locks) && s->online && !s->abandoned && s->clock() < deadline) {
        struct timespec t = {.tv_sec = (time_t)(deadline / 1000),
                             .tv_nsec = (long)(deadline % 1000) * 1000000};
        pthread_cond_timedwait(&s->changed, &s->fs->lock, &t);
    }
    pthread_mutex_unlock(&s->fs->lock);
}

void lock_free(struct sync *s)
{
    struct file_locks *f;
    while ((f = TAILQ_FIRST(&s->locks)))
        drop(s, f);
    free(s->locked);
}
