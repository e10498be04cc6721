// SPDX-License-Identifier: Apache-2.0
/* Two lines, each with lists under the one mutex and a thread.
 *
 * An answer that makes the kernel know an inode, and an invalidation of that inode, are written by
 * different threads, and the program that asked may run late: then the kernel says that it does not
 * know the inode, and believes the older attributes of the answer when it gets to it. So such an
 * invalidation is passed on again, at growing intervals. (nodeids are never used again: it cannot
 * hit another file.) Names need no such care: lookups and readdir hold the kernel's lock of the
 * directory until their answer is in its caches, and an invalidation waits for that lock.
 *
 * That lock is held by requests that change the directory or fsync it, too, for as long as they
 * wait for the network. Their invalidations are set aside before the kernel is entered. A request
 * can begin between the look and the call: then its line waits for it, and nothing else does.
 */
#include "notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

static const unsigned retry_ms[] = {10, 30, 100, 300, 1000, 3000};
#define TRIES (sizeof(retry_ms) / sizeof(retry_ms[0]))
#define RECHECK_TRY 3 /* index of the interval after which a recheck is due */

struct item {
    TAILQ_ENTRY(item) link;
    uint64_t nodeid;
    int64_t off;
    int64_t due;    /* while in a list of retries: CLOCK_MONOTONIC, ns */
    unsigned tries; /* after which the kernel did not know the inode */
    uint64_t mark;  /* not 0: no invalidation, but a mark */
    size_t len;
    char name[];
};

TAILQ_HEAD(items, item);

struct line {
    struct notify *notify;
    bool entry; /* names; otherwise inodes */
    struct items queue, aside;
    struct items retry[TRIES]; /* by interval, so that each is in the order of due */
    size_t n, aside_n;         /* n: in queue and retry */
    uint64_t passed;           /* the newest mark */
    const struct item *at;     /* being passed on */
    pthread_cond_t wake;
    pthread_t thread;
};

struct notify {
    struct notify_sink sink;
    pthread_mutex_t lock;
    uint64_t unblocked; /* counts notify_unblocked */
    uint64_t marks;
    bool stop;
    unsigned started; /* threads */
    struct line lines[2];
};

static int64_t monotonic(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Takes what is to be passed on next. NULL: nothing; *due is when to look again (0: when woken). */
static struct item *take(struct line *l, int64_t *due)
{
    struct items *from = &l->queue;
    *due = 0;
    if (TAILQ_EMPTY(from)) {
        from = NULL;
        for (size_t i = 0; i < TRIES; i++) {
            const struct item *first = TAILQ_FIRST(&l->retry[i]);
            if (first != NULL && (*due == 0 || first->due < *due)) {
                *due = first->due;
                from = &l->retry[i];
            }
        }
        if (from == NULL || *due > monotonic())
            return NULL;
    }
    struct item *i = TAILQ_FIRST(from);
    TAILQ_REMOVE(from, i, link);
    l->n--;
    return i;
}

/* [not locked] 0: done with; -EBUSY: it would wait; -ENOENT: not known yet. */
static int pass_on(const struct line *l, const struct item *i)
{
    const struct notify_sink *s = &l->notify->sink;
    if (i->mark != 0) {
        s->passed(s->ctx);
        return 0;
    }
    if ((l->entry || i->off >= 0) && s->blocked(s->ctx, l->entry, i->nodeid))
        return -EBUSY;
    if (!l->entry)
        return s->inode(s->ctx, i->nodeid, i->off);
    s->entry(s->ctx, i->nodeid, i->name, i->len);
    return 0;
}

/* Passed on after the interval of this index. */
static void put_off(struct line *l, struct item *i, unsigned interval)
{
    i->due = monotonic() + retry_ms[interval] * 1000000ll;
    TAILQ_INSERT_TAIL(&l->retry[interval], i, link);
    l->n++;
}

static void keep_for_later(struct line *l, struct item *i, int why, bool unblocked)
{
    if (why == -EBUSY && unblocked) {
        TAILQ_INSERT_HEAD(&l->queue, i, link);
        l->n++;
    } else if (why == -EBUSY) {
        TAILQ_INSERT_TAIL(&l->aside, i, link);
        l->aside_n++;
    } else if (why == -ENOENT && i->tries < TRIES) {
        put_off(l, i, i->tries++);
    } else if (why == -EAGAIN) {
        put_off(l, i, RECHECK_TRY);
    } else {
        free(i);
    }
}

static void *deliver(void *arg)
{
    struct line *l = arg;
    struct notify *n = l->notify;
    pthread_mutex_lock(&n->lock);
    while (!n->stop) {
        int64_t due;
        struct item *i = take(l, &due);
        if (i == NULL && due != 0) {
            struct timespec t = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
            pthread_cond_timedwait(&l->wake, &n->lock, &t);
            continue;
        }
        if (i == NULL) {
            pthread_cond_wait(&l->wake, &n->lock);
            continue;
        }
        if (i->mark != 0 && !TAILQ_EMPTY(&l->aside)) { /* what came before it is there */
            TAILQ_INSERT_TAIL(&l->aside, i, link);
            l->aside_n++;
            continue;
        }
        uint64_t turn = n->unblocked;
        if (i->mark != 0)
            l->passed = i->mark;
        l->at = i;
        pthread_mutex_unlock(&n->lock);
        int rc = pass_on(l, i);
        pthread_mutex_lock(&n->lock);
        l->at = NULL;
        keep_for_later(l, i, rc, turn != n->unblocked);
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

static void line_init(struct notify *n, struct line *l, bool entry)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
    l->notify = n;
    l->entry = entry;
    TAILQ_INIT(&l->queue);
    TAILQ_INIT(&l->aside);
    for (size_t i = 0; i < TRIES; i++)
        TAILQ_INIT(&l->retry[i]);
}

int notify_new(struct notify **out, const struct notify_sink *sink)
{
    struct notify *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return -ENOMEM;
    n->sink = *sink;
    pthread_mutex_init(&n->lock, NULL);
    line_init(n, &n->lines[0], true);
    line_init(n, &n->lines[1], false);
    for (; n->started < 2; n->started++) {
        struct line *l = &n->lines[n->started];
        int rc = pthread_create(&l->thread, NULL, deliver, l);
        if (rc != 0) {
            notify_free(n);
            return -rc;
        }
    }
    *out = n;
    return 0;
}

static void items_free(struct items *items)
{
    struct item *i;
    while ((i = TAILQ_FIRST(items)) != NULL) {
        TAILQ_REMOVE(items, i, link);
        free(i);
    }
}

void notify_free(struct notify *n)
{
    if (n == NULL)
        return;
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    for (size_t i = 0; i < 2; i++)
        pthread_cond_broadcast(&n->lines[i].wake);
    pthread_mutex_unlock(&n->lock);
    for (unsigned i = 0; i < n->started; i++)
        pthread_join(n->lines[i].thread, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct line *l = &n->lines[i];
        items_free(&l->queue);
        items_free(&l->aside);
        for (size_t k = 0; k < TRIES; k++)
            items_free(&l->retry[k]);
        pthread_cond_destroy(&l->wake);
    }
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/* Not a mark: of the same nodeid, offset and name. */
static bool is_of(const struct item *i, uint64_t nodeid, int64_t off, struct bytes name)
{
    return i != NULL && i->mark == 0 && i->nodeid == nodeid && i->off == off && i->len == name.n &&
           memcmp(i->name, name.p != NULL ? name.p : (const void *)"", name.n) == 0;
}

static void add(struct notify *n, struct line *l, uint64_t nodeid, int64_t off, struct bytes name)
{
    pthread_mutex_lock(&n->lock);
    if (is_of(TAILQ_LAST(&l->queue, items), nodeid, off, name)) {
        pthread_mutex_unlock(&n->lock);
        return;
    }
    struct item *i = malloc(sizeof(*i) + name.n + 1);
    if (i == NULL)
        abort();
    *i = (struct item){.nodeid = nodeid, .off = off, .len = name.n};
    if (name.n > 0)
        memcpy(i->name, name.p, name.n);
    i->name[name.n] = '\0';
    TAILQ_INSERT_TAIL(&l->queue, i, link);
    l->n++;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&n->lock);
}

void notify_entry(struct notify *n, uint64_t parent, struct bytes name)
{
    add(n, &n->lines[0], parent, 0, name);
}

bool notify_entry_waits(struct notify *n, uint64_t parent, struct bytes name)
{
    const struct line *l = &n->lines[0];
    const struct item *i;
    pthread_mutex_lock(&n->lock);
    bool waits = is_of(l->at, parent, 0, name);
    for (i = TAILQ_FIRST(&l->queue); i != NULL && !waits; i = TAILQ_NEXT(i, link))
        waits = is_of(i, parent, 0, name);
    for (i = TAILQ_FIRST(&l->aside); i != NULL && !waits; i = TAILQ_NEXT(i, link))
        waits = is_of(i, parent, 0, name);
    pthread_mutex_unlock(&n->lock);
    return waits;
}

void notify_inode(struct notify *n, uint64_t nodeid, int64_t off)
{
    add(n, &n->lines[1], nodeid, off, (struct bytes){0});
}

void notify_recheck(struct notify *n, uint64_t nodeid)
{
    struct line *l = &n->lines[1];
    struct item *i = calloc(1, sizeof(*i) + 1);
    if (i == NULL)
        abort();
    i->nodeid = nodeid;
    i->off = NOTIFY_RECHECK;
    pthread_mutex_lock(&n->lock);
    put_off(l, i, RECHECK_TRY);
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&n->lock);
}

uint64_t notify_mark(struct notify *n)
{
    pthread_mutex_lock(&n->lock);
    uint64_t mark = ++n->marks;
    for (size_t k = 0; k < 2; k++) {
        struct item *i = calloc(1, sizeof(*i) + 1);
        if (i == NULL)
            abort();
        i->mark = mark;
        TAILQ_INSERT_TAIL(&n->lines[k].queue, i, link);
        n->lines[k].n++;
        pthread_cond_signal(&n->lines[k].wake);
    }
    pthread_mutex_unlock(&n->lock);
    return mark;
}

uint64_t notify_passed(struct notify *n)
{
    pthread_mutex_lock(&n->lock);
    uint64_t a = n->lines[0].passed, b = n->lines[1].passed;
    pthread_mutex_unlock(&n->lock);
    return a < b ? a : b;
}

uint64_t notify_inodes_passed(struct notify *n)
{
    pthread_mutex_lock(&n->lock);
    uint64_t passed = n->lines[1].passed;
    pthread_mutex_unlock(&n->lock);
    return passed;
}

void notify_unblocked(struct notify *n)
{
    pthread_mutex_lock(&n->lock);
    n->unblocked++;
    for (size_t i = 0; i < 2; i++) {
        struct line *l = &n->lines[i];
        if (TAILQ_EMPTY(&l->aside))
            continue;
        TAILQ_CONCAT(&l->queue, &l->aside, link);
        l->n += l->aside_n;
        l->aside_n = 0;
        pthread_cond_signal(&l->wake);
    }
    pthread_mutex_unlock(&n->lock);
}

bool notify_has_room(struct notify *n)
{
    pthread_mutex_lock(&n->lock);
    const struct line *l = n->lines;
    size_t aside_max = n->sink.aside_max ? n->sink.aside_max : NOTIFY_ASIDE_MAX;
    bool room = l[0].n + l[1].n < NOTIFY_MAX && l[0].aside_n + l[1].aside_n < aside_max;
    pthread_mutex_unlock(&n->lock);
    return room;
}
