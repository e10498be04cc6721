// SPDX-License-Identifier: Apache-2.0
/* Three kinds of object. A `file` is what anybody holds or waits for of one node; a `claim` is what
 * one device does there, and sits in its file's list (in the order in which they began to wait:
 * that is the queue) and in its device's; a `device` has the lease.
 *
 * A request states all that the device holds of the file and wants: the claim becomes that. So an
 * answer that is lost, or a request that comes twice or late, leaves nothing wrong behind; late
 * ones are told by their numbers. When something is released, what is waited for is given in the
 * order of the queue, and the device is told to ask again: until it has asked, the claim keeps the
 * lock for it.
 */
#include "locks.h"

#include <errno.h>
#include <stdlib.h>

#include "lockset.h"

#define BUCKETS 4096 /* power of two */

struct stay { /* not released before `want` is given */
    struct m_lock_range want, range;
    uint64_t ns, node; /* of range */
};

struct claim {
    struct claim *file_next, **file_prev, *device_next, **device_prev;
    struct device *device;
    struct file *file;
    uint64_t seq;         /* of the newest request */
    struct lockset held;  /* what was given and not yet asked for included */
    struct lockset wants; /* patient ones that were not given; neighbours are not joined */
    struct stay *stays;   /* as the device said in its newest request */
    size_t stays_n;
    bool news;       /* something was given since the device asked */
    size_t ranges_n; /* counted in device.ranges_n */
};
struct file {
    struct file *next; /* in the bucket */
    uint64_t ns, node;
    struct claim *claims, **claims_end;
    size_t claims_n;
};
struct device {
    struct device *next; /* in the bucket */
    uint64_t id, run;
    uint64_t left; /* the highest seq of a claim that is gone, or of its last lease */
    int64_t lease_end;
    struct claim *claims;
    size_t claims_n, news_n, stays_n;
    size_t ranges_n; /* of its claims, as they were when last settled */
};
struct locks {
    struct locks_options o;
    int64_t begun;
    struct file *files[BUCKETS];
    struct device *devices[BUCKETS];
    size_t files_n, devices_n;
    int64_t next_end; /* no lease ends before */
    uint64_t ended;   /* leases */
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct locks *locks_new(const struct locks_options *o)
{
    struct locks *t = must(calloc(1, sizeof *t));
    t->o = *o;
    if (!t->o.lease_ms)
        t->o.lease_ms = LOCK_LEASE_MS;
    t->begun = o->now_ms();
    return t;
}

static size_t slot(uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 40) & (BUCKETS - 1);
}

/* ---- objects ----------------------------------------------------------------------------------
 */

static struct file *file_find(struct locks *t, uint64_t ns, uint64_t node)
{
    struct file *f = t->files[slot(node)];
    while (f && (f->ns != ns || f->node != node))
        f = f->next;
    return f;
}

static struct file *file_need(struct locks *t, uint64_t ns, uint64_t node)
{
    struct file *f = file_find(t, ns, node);
    if (f)
        return f;
    f = must(calloc(1, sizeof *f));
    f->ns = ns;
    f->node = node;
    f->claims_end = &f->claims;
    f->next = t->files[slot(node)];
    t->files[slot(node)] = f;
    t->files_n++;
    return f;
}

static void file_drop(struct locks *t, struct file *f)
{
    struct file **at = &t->files[slot(f->node)];
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    t->files_n--;
    free(f);
}

static struct device *device_find(struct locks *t, uint64_t id)
{
    struct device *d = t->devices[slot(id)];
    while (d && d->id != id)
        d = d->next;
    return d;
}

static struct device *device_need(struct locks *t, uint64_t id)
{
    struct device *d = device_find(t, id);
    if (d)
        return d;
    d = must(calloc(1, sizeof *d));
    d->id = id;
    d->next = t->devices[slot(id)];
    t->devices[slot(id)] = d;
    t->devices_n++;
    return d;
}

static void news_set(struct locks *t, struct claim *c, bool news)
{
    struct device *d = c->device;
    if (c->news == news)
        return;
    c->news = news;
    d->news_n += news ? 1 : (size_t)-1;
    if (news || d->news_n == 0)
        t->o.news(t->o.ctx, d->id, news);
}

/* At the end of the file's queue. */
static void enqueue(struct claim *c)
{
    c->file_prev = c->file->claims_end;
    c->file_next = NULL;
    *c->file_prev = c;
    c->file->claims_end = &c->file_next;
}

static void dequeue(struct claim *c)
{
    *c->file_prev = c->file_next;
    if (c->file_next)
        c->file_next->file_prev = c->file_prev;
    else
        c->file->claims_end = c->file_prev;
}

static struct claim *claim_find(struct file *f, const struct device *d)
{
    struct claim *c = f ? f->claims : NULL;
    while (c && c->device != d)
        c = c->file_next;
    return c;
}

static struct claim *claim_new(struct file *f, struct device *d)
{
    struct claim *c = must(calloc(1, sizeof *c));
    c->file = f;
    c->device = d;
    c->device_next = d->claims;
    c->device_prev = &d->claims;
    if (d->claims)
        d->claims->device_prev = &c->device_next;
    d->claims = c;
    d->claims_n++;
    f->claims_n++;
    enqueue(c);
    return c;
}

/* Gives back memory that a set does not need any more. */
static void fit(struct lockset *s)
{
    if (s->n == 0) {
        lockset_free(s);
    } else if (s->cap > 2 * s->n + 4) {
        s->v = must(realloc(s->v, s->n * sizeof *s->v));
        s->cap = s->n;
    }
}

static void count(struct claim *c, size_t n)
{
    c->device->ranges_n += n - c->ranges_n;
    c->ranges_n = n;
}

static void stays_set(struct claim *c, struct stay *v, size_t n)
{
    free(c->stays);
    c->device->stays_n += n - c->stays_n;
    c->stays = v;
    c->stays_n = n;
}

static void claim_drop(struct locks *t, struct claim *c)
{
    struct device *d = c->device;
    news_set(t, c, false);
    count(c, 0);
    stays_set(c, NULL, 0);
    if (c->seq > d->left)
        d->left = c->seq;
    lockset_free(&c->held);
    lockset_free(&c->wants);
    dequeue(c);
    *c->device_prev = c->device_next;
    if (c->device_next)
        c->device_next->device_prev = c->device_prev;
    d->claims_n--;
    c->file->claims_n--;
    free(c);
}

/* ---- giving -----------------------------------------------------------------------------------
 */

static const struct m_lock_range *in_the_way(const struct claim *of, const struct m_lock_range *r)
{
    const struct m_lock_range *found = NULL;
    for (const struct claim *c = of->file->claims; c && !found; c = c->file_next)
        if (c != of)
            found = lockset_conflict(&c->held, r);
    return found;
}

/* Gives what can be given to those before `end` in the queue (NULL: to all). */
static void serve(struct locks *t, struct file *f, const struct claim *end)
{
    for (struct claim *c = f->claims; c && c != end; c = c->file_next)
        for (size_t i = 0; i < c->wants.n;) {
            if (in_the_way(c, &c->wants.v[i]) || lockset_add(&c->held, &c->wants.v[i])) {
                i++;
                continue;
            }
            c->wants.v[i] = c->wants.v[--c->wants.n];
            news_set(t, c, true);
        }
}

/* Something of the file was released. Frees the file when nothing is left of it. */
static void released(struct locks *t, struct file *f)
{
    serve(t, f, NULL);
    if (!f->claims)
        file_drop(t, f);
}

static void claims_end(struct locks *t, struct device *d)
{
    while (d->claims) {
        struct file *f = d->claims->file;
        claim_drop(t, d->claims);
        released(t, f);
    }
}

void locks_leave(struct locks *t, uint64_t device, uint64_t ns)
{
    struct device *d = device_find(t, device);
    struct claim *next;
    for (struct claim *c = d ? d->claims : NULL; c; c = next) {
        struct file *f = c->file;
        next = c->device_next;
        if (f->ns == ns) {
            claim_drop(t, c);
            released(t, f);
        }
    }
}

static void lease_end(struct locks *t, struct device *d)
{
    t->ended += d->claims != NULL;
    claims_end(t, d);
}

/* The claim becomes what the request says it holds. False: that is more than it holds (or, from a
 * device that says what it had of an earlier server, more than others leave). */
static bool hold(struct claim *c, const struct m_lock_req *q, bool begins)
{
    struct lockset now = {0};
    for (size_t i = 0; i < q->hold_n; i++) {
        bool had = lockset_covers(&c->held, &q->hold[i]);
        if ((!had && (!begins || in_the_way(c, &q->hold[i]))) || lockset_add(&now, &q->hold[i])) {
            lockset_free(&now);
            return false;
        }
    }
    lockset_free(&c->held);
    c->held = now;
    return true;
}

/* ---- circles ----------------------------------------------------------------------------------
 * Who waits for a lock keeps what he has meanwhile, and the device says what that is: so a wait
 * leads to those waits whose owners keep what is in its way. Owners that wait for nobody can not be
 * part of a circle, and those that wait on one machine are counted with the one they wait for.
 */
static bool same_range(const struct m_lock_range *a, const struct m_lock_range *b)
{
    return a->whole == b->whole && a->exclusive == b->exclusive && a->off == b->off &&
           a->end == b->end;
}

static bool waits(const struct claim *c, const struct m_lock_range *r)
{
    size_t i = 0;
    while (i < c->wants.n && !same_range(&c->wants.v[i], r))
        i++;
    return i < c->wants.n;
}

struct search {
    const struct claim *of; /* the wait that a circle has to come back to */
    const struct m_lock_range *want;
    unsigned steps;
};

/* Whether this stay is in the way of what is wanted of the file, and still held. */
static bool stays_in_the_way(const struct claim *holder, const struct stay *s,
                             const struct m_lock_range *want)
{
    struct m_lock_range r = s->range;
    struct lockset one = {.v = &r, .n = 1, .cap = 1};
    return s->ns == holder->file->ns && s->node == holder->file->node &&
           lockset_conflict(&one, want) && lockset_covers(&holder->held, &r);
}

static bool leads_back(struct search *s, const struct claim *c, const struct m_lock_range *want,
                       unsigned depth)
{
    for (const struct claim *o = c->file->claims; o && depth < LOCK_CIRCLE_MAX; o = o->file_next) {
        if (o == c || !o->device->stays_n || !lockset_conflict(&o->held, want))
            continue;
        for (const struct claim *k = o->device->claims; k; k = k->device_next)
            for (size_t i = 0; i < k->stays_n; i++) {
                const struct stay *y = &k->stays[i];
                if (++s->steps > LOCK_CIRCLE_STEPS)
                    return false;
                if (!stays_in_the_way(o, y, want))
                    continue;
                if (k == s->of && same_range(&y->want, s->want))
                    return true;
                if (waits(k, &y->want) && leads_back(s, k, &y->want, depth + 1))
                    return true;
            }
    }
    return false;
}

static void stays_learn(struct claim *c, const struct m_lock_req *q)
{
    struct stay *v = q->stays_n ? must(calloc(q->stays_n, sizeof *v)) : NULL;
    for (size_t i = 0; i < q->stays_n; i++) {
        const struct m_lock_stay *s = &q->stays[i];
        v[i] = (struct stay){q->want[s->want], s->range, s->ns, s->node};
    }
    stays_set(c, v, q->stays_n);
}

/* What would be waited for without end is not. */
static void circles(struct claim *c, const struct m_lock_req *q, struct m_lock_ans *a)
{
    for (size_t i = 0; i < a->busy_n && q->stays_n; i++) {
        struct m_lock_busy *b = &a->busy[i];
        struct search s = {.of = c, .want = &q->want[b->want]};
        if (!waits(c, s.want) || !leads_back(&s, c, s.want, 0))
            continue;
        b->circle = true;
        for (size_t k = 0; k < c->wants.n; k++)
            if (same_range(&c->wants.v[k], s.want))
                c->wants.v[k--] = c->wants.v[--c->wants.n];
    }
}

static void wait_for(struct claim *c, const struct m_lock_range *r)
{
    struct lockset *w = &c->wants;
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 4;
        w->v = must(realloc(w->v, w->cap * sizeof *w->v));
    }
    w->v[w->n++] = *r;
}

/* What is wanted is given, waited for, or neither. Those before it in the queue come first: who
 * gives something back cannot have it again before those who waited for it. in_turn: it has waited,
 * or now asks for what it was given. */
static void want(struct locks *t, struct claim *c, const struct m_lock_req *q, bool in_turn,
                 struct m_lock_ans *a, struct arena *ar)
{
    bool waited = c->wants.n > 0;
    c->wants.n = 0;
    serve(t, c->file, in_turn ? c : NULL);
    a->busy = arena_alloc(ar, (q->want_n + 1) * sizeof *a->busy);
    for (size_t i = 0; i < q->want_n; i++) {
        const struct m_lock_range *r = &q->want[i], *other = in_the_way(c, r);
        if (!other && (r->test || lockset_add(&c->held, r) == 0))
            continue;
        struct m_lock_busy *b = &a->busy[a->busy_n++];
        *b = (struct m_lock_busy){.want = i, .other_set = other != NULL};
        if (other)
            b->other = *other;
        if (other && r->patient && !r->test)
            wait_for(c, r);
    }
    stays_learn(c, q);
    circles(c, q, a);
    if (!waited && c->wants.n > 0) { /* it keeps its place while it waits */
        dequeue(c);
        enqueue(c);
    }
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static bool valid(const struct m_lock_req *q)
{
    for (size_t i = 0; i < q->hold_n; i++)
        if (!lockset_valid(&q->hold[i]))
            return false;
    for (size_t i = 0; i < q->want_n; i++)
        if (!lockset_valid(&q->want[i]))
            return false;
    for (size_t i = 0; i < q->stays_n; i++)
        if (q->stays[i].want >= q->want_n || !lockset_valid(&q->stays[i].range))
            return false;
    return true;
}

/* A claim that neither holds nor waits is none. */
static void settle(struct locks *t, struct claim *c)
{
    struct file *f = c->file;
    fit(&c->held);
    fit(&c->wants);
    if (c->wants.n == 0)
        stays_set(c, NULL, 0);
    count(c, c->held.n + c->wants.n + c->stays_n);
    if (c->held.n == 0 && c->wants.n == 0)
        claim_drop(t, c);
    released(t, f);
}

static int request(struct locks *t, struct device *d, const struct m_lock_req *q,
                   struct m_lock_ans *a, struct arena *ar)
{
    struct file *f = file_find(t, q->ns, q->node);
    struct claim *c = claim_find(f, d);
    bool begins = a->again_ms > 0;
    if (q->seq <= (c ? c->seq : d->left)) {
        a->overtaken = true;
        return 0;
    }
    if (!c && (d->claims_n >= LOCK_FILES_MAX || (f && f->claims_n >= LOCK_DEVICES_MAX)))
        return -ENOSPC;
    size_t had = c ? c->ranges_n : 0, asks = q->hold_n + q->want_n + q->stays_n;
    if (asks > had && d->ranges_n - had + asks > LOCK_DEVICE_RANGES_MAX)
        return -ENOSPC;
    if (!c)
        c = claim_new(file_need(t, q->ns, q->node), d);
    c->seq = q->seq;
    bool in_turn = c->news || c->wants.n > 0;
    news_set(t, c, false);
    a->lost = !hold(c, q, begins);
    if (a->lost)
        c->held.n = c->wants.n = 0; /* who lost a part must not go on with the rest */
    else if (!begins || q->want_n == 0)
        want(t, c, q, in_turn, a, ar);
    settle(t, c);
    return 0;
}

int locks_request(struct locks *t, uint64_t device, const struct m_lock_req *q,
                  struct m_lock_ans *a, struct arena *ar)
{
    int64_t now = t->o.now_ms();
    if (!valid(q))
        return -EINVAL;
    locks_expire(t);
    struct device *d = device_need(t, device);
    if (q->run > d->run) {
        claims_end(t, d);
        d->run = q->run;
        d->left = 0;
    } else if (q->run < d->run) {
        a->overtaken = true;
        return 0;
    }
    d->lease_end = now + t->o.lease_ms;
    if (d->lease_end < t->next_end || t->devices_n == 1)
        t->next_end = d->lease_end;
    a->lease_ms = t->o.lease_ms;
    a->epoch = t->o.epoch;
    a->circles = true;
    int64_t begun = t->begun + t->o.lease_ms;
    a->again_ms = begun > now ? (uint64_t)(begun - now) : 0;
    int err = q->ns ? request(t, d, q, a, ar) : 0;
    if (q->want_n == 0)
        a->again_ms = 0;
    return err;
}

unsigned locks_expire(struct locks *t)
{
    int64_t now = t->o.now_ms(), next = INT64_MAX;
    if (t->devices_n && now < t->next_end)
        return (unsigned)(t->next_end - now);
    for (size_t i = 0; t->devices_n && i < BUCKETS; i++)
        for (struct device **at = &t->devices[i], *d; (d = *at) != NULL;) {
            if (d->lease_end > now) {
                next = d->lease_end < next ? d->lease_end : next;
                at = &d->next;
                continue;
            }
            lease_end(t, d);
            *at = d->next;
            t->devices_n--;
            free(d);
        }
    t->next_end = next;
    return next == INT64_MAX ? 0 : (unsigned)(next - now);
}

void locks_free(struct locks *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (t->files[i]) {
            struct file *f = t->files[i];
            while (f->claims) {
                struct claim *c = f->claims;
                dequeue(c);
                free(c->stays);
                lockset_free(&c->held);
                lockset_free(&c->wants);
                free(c);
            }
            t->files[i] = f->next;
            free(f);
        }
        while (t->devices[i]) {
            struct device *d = t->devices[i];
            t->devices[i] = d->next;
            free(d);
        }
    }
    free(t);
}

void locks_print(const struct locks *t, struct buf *out)
{
    size_t waiting = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct file *f = t->files[i]; f; f = f->next)
            for (const struct claim *c = f->claims; c; c = c->file_next)
                waiting += c->wants.n > 0;
    buf_printf(out,
               "# TYPE steadfs_metad_locked_files gauge\nsteadfs_metad_locked_files %zu\n"
               "# TYPE steadfs_metad_lock_waits gauge\nsteadfs_metad_lock_waits %zu\n"
               "# TYPE steadfs_metad_lock_leases_ended counter\nsteadfs_metad_lock_leases_ended "
               "%llu\n",
               t->files_n, waiting, (unsigned long long)t->ended);
}
