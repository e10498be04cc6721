// SPDX-License-Identifier: Apache-2.0
/* Three kinds of object. A `topic` is a namespace: its newest number, and the list of watches on
 * it. A `holder` is a device: the list of its held requests, oldest first. A `waiter` is a held
 * request: it sits in its device's list and in the list of all, and each of its watches sits in its
 * topic's list. All lists are doubly linked through the objects, so that answering a waiter costs
 * the number of its watches, however many others are held.
 *
 * Waiters and watches live in the request's arena and disappear with the answer; topics
 * and holders stay, a few dozen bytes for each namespace and device that ever waited. */
#include "waiters.h"

#include <stdlib.h>

#include "idmap.h"

#define TOPICS_PRINTED_MAX 1000

struct watch {
    struct watch *prev, *next; /* in topic.watches; NULL-terminated */
    struct waiter *waiter;
    struct topic *topic;
    uint64_t sjid; /* answer above this */
};

struct topic {
    uint64_t ns, head;
    struct watch *watches;
};

struct waiter {
    struct waiter *prev, *next; /* in holder.first, oldest first */
    struct waiter *all_prev, *all_next;
    struct waiters *all;
    struct holder *holder;
    struct httpd_req *q;
    struct httpd_timer *timer;
    struct watch *watches;
    size_t watches_n;
};

struct holder {
    uint64_t device;
    struct waiter *first, *last;
    unsigned n;
    bool locks; /* it has to ask for its locks again */
    bool told;  /* … and an answer has said so since the last was given */
};

struct waiters {
    struct httpd *httpd;
    struct idmap topics, holders;
    struct waiter *all;
    size_t held;
    unsigned jitter_seed;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct waiters *waiters_new(struct httpd *h)
{
    struct waiters *w = must(calloc(1, sizeof *w));
    w->httpd = h;
    w->jitter_seed = 1;
    return w;
}

static void free_value(void *arg, uint64_t key, void *value)
{
    (void)arg, (void)key;
    free(value);
}

void waiters_free(struct waiters *w)
{
    if (!w)
        return;
    idmap_each(&w->topics, free_value, NULL);
    idmap_each(&w->holders, free_value, NULL);
    idmap_free(&w->topics);
    idmap_free(&w->holders);
    free(w);
}

static struct topic *topic_of(struct waiters *w, uint64_t ns)
{
    struct topic *t = idmap_get(&w->topics, ns);
    if (t)
        return t;
    t = must(calloc(1, sizeof *t));
    t->ns = ns;
    idmap_put(&w->topics, ns, t);
    return t;
}

static struct holder *holder_of(struct waiters *w, uint64_t device)
{
    struct holder *h = idmap_get(&w->holders, device);
    if (h)
        return h;
    h = must(calloc(1, sizeof *h));
    h->device = device;
    idmap_put(&w->holders, device, h);
    return h;
}

static void unlink_watch(struct watch *v)
{
    if (v->prev)
        v->prev->next = v->next;
    else
        v->topic->watches = v->next;
    if (v->next)
        v->next->prev = v->prev;
}

static void unlink_waiter(struct waiter *x)
{
    struct holder *h = x->holder;
    if (x->prev)
        x->prev->next = x->next;
    else
        h->first = x->next;
    if (x->next)
        x->next->prev = x->prev;
    else
        h->last = x->prev;
    if (x->all_prev)
        x->all_prev->all_next = x->all_next;
    else
        x->all->all = x->all_next;
    if (x->all_next)
        x->all_next->all_prev = x->all_prev;
    x->all->held--;
    h->n--;
}

/* Takes the waiter out of all lists and answers with those of its namespaces that are ahead. */
static void answer(struct waiter *x)
{
    struct m_wait_ans a = {0};
    a.changed = arena_alloc(httpd_arena(x->q), x->watches_n * sizeof *a.changed);
    for (size_t i = 0; i < x->watches_n; i++) {
        struct watch *v = &x->watches[i];
        unlink_watch(v);
        if (v->topic->head > v->sjid)
            a.changed[a.changed_n++] = (struct m_watch){.ns = v->topic->ns, .sjid = v->topic->head};
    }
    a.locks = x->holder->locks;
    x->holder->told = a.locks;
    unlink_waiter(x);
    if (x->timer)
        httpd_timer_cancel(x->timer);
    httpd_reply_msg(x->q, &m_wait_ans_desc, &a);
}

static void expired(void *arg)
{
    struct waiter *x = arg;
    x->timer = NULL;
    answer(x);
}

static unsigned hold_ms(struct waiters *w, const struct holder *h, uint64_t asked_ms)
{
    if (h->locks && (!asked_ms || asked_ms > WAIT_LOCKS_AGAIN_MS))
        return WAIT_LOCKS_AGAIN_MS;
    if (asked_ms && asked_ms < WAIT_MAX_MS)
        return (unsigned)asked_ms;
    return WAIT_MAX_MS - WAIT_JITTER_MS / 2 + (unsigned)rand_r(&w->jitter_seed) % WAIT_JITTER_MS;
}

void waiters_hold(struct waiters *w, struct httpd_req *q, const struct m_wait_req *req,
                  uint64_t device)
{
    struct arena *ar = httpd_arena(q);
    struct waiter *x = arena_alloc(ar, sizeof *x);
    *x = (struct waiter){.all = w, .q = q, .holder = holder_of(w, device)};
    struct holder *h = x->holder;
    x->prev = h->last;
    *(h->last ? &h->last->next : &h->first) = x;
    h->last = x;
    h->n++;
    x->all_next = w->all;
    if (w->all)
        w->all->all_prev = x;
    w->all = x;
    w->held++;

    bool ahead = httpd_draining(w->httpd) || (h->locks && !h->told);
    x->watches = arena_alloc(ar, req->watch_n * sizeof *x->watches);
    x->watches_n = req->watch_n;
    for (size_t i = 0; i < req->watch_n; i++) {
        struct watch *v = &x->watches[i];
        struct topic *t = topic_of(w, req->watch[i].ns);
        *v =
            (struct watch){.waiter = x, .topic = t, .sjid = req->watch[i].sjid, .next = t->watches};
        if (t->watches)
            t->watches->prev = v;
        t->watches = v;
        ahead |= t->head > v->sjid;
    }
    if (ahead) {
        answer(x);
        return;
    }
    x->timer = httpd_timer(w->httpd, hold_ms(w, h, req->timeout_ms), expired, x);
    if (h->n > WAIT_PER_DEVICE_MAX)
        answer(h->first);
}

/* What the waiter's device did itself is no news to it. A watch of the topic that was behind
 * before, too, stays behind. */
static void pass_over(struct waiter *x, const struct topic *t, uint64_t first)
{
    for (size_t i = 0; i < x->watches_n; i++)
        if (x->watches[i].topic == t && x->watches[i].sjid + 1 >= first &&
            x->watches[i].sjid < t->head)
            x->watches[i].sjid = t->head;
}

void waiters_publish(struct waiters *w, uint64_t ns, uint64_t first, uint64_t head, uint64_t device)
{
    struct topic *t = topic_of(w, ns);
    if (head <= t->head)
        return;
    t->head = head;
    /* A watch may be above head (its asker was ahead of an older publication); the others go. */
    struct watch *next;
    for (struct watch *v = t->watches; v; v = next) {
        next = v->next;
        /* One waiter may watch a namespace twice: do not step onto a watch that goes with it. */
        while (next && next->waiter == v->waiter)
            next = next->next;
        if (device && v->waiter->holder->device == device && v->sjid + 1 >= first)
            pass_over(v->waiter, t, first);
        if (v->sjid < head)
            answer(v->waiter);
    }
}

void waiters_lock_news(struct waiters *w, uint64_t device, bool any)
{
    struct holder *h = holder_of(w, device);
    h->locks = any;
    h->told = false;
    while (any && h->first)
        answer(h->first);
}

void waiters_release(struct waiters *w)
{
    while (w->all)
        answer(w->all);
}

size_t waiters_held(const struct waiters *w)
{
    return w->held;
}

struct printing {
    struct buf *out;
    size_t n;
};

static void print_topic(void *arg, uint64_t ns, void *value)
{
    struct printing *p = arg;
    const struct topic *t = value;
    if (t->head && p->n++ < TOPICS_PRINTED_MAX)
        buf_printf(p->out, "steadfs_metad_journal_head{ns=\"%llu\"} %llu\n", (unsigned long long)ns,
                   (unsigned long long)t->head);
}

void waiters_print(const struct waiters *w, struct buf *out)
{
    buf_printf(out,
               "# TYPE steadfs_metad_waiters gauge\nsteadfs_metad_waiters %zu\n"
               "# TYPE steadfs_metad_journal_head gauge\n",
               w->held);
    struct printing p = {.out = out};
    idmap_each(&w->topics, print_topic, &p);
}
