// SPDX-License-Identifier: Apache-2.0
/* Barriers: what fsync waits for.
 *
 *   check -> upload -> ready -> sent -> done
 *     ^    (its closure's blocks)   |
 *     +---- held <------------------+  a conflict, a refusal of others, a commit under way
 *
 * A barrier covers what was pending of its node when it was asked for: it is done when a commit
 * planned with its node is committed, whatever was written since. After a conflict it goes on, with
 * the copy that the local content became, until that is committed. Held barriers look again
 * whenever a commit is settled or the journal moves.
 */
#include <errno.h>
#include <stdlib.h>

#include "sync_internal.h"

#define HELD_MS 200 /* a held barrier looks again even if nothing was heard */

void trace_node(struct sync *s, uint64_t ns, uint64_t node, const struct m_block_ref *refs,
                size_t n)
{
    if (!trace_on(s->fs->log))
        return;
    struct block_id *ids = malloc(n * sizeof *ids + 1);
    if (!ids)
        abort();
    for (size_t i = 0; i < n; i++)
        ids[i] = refs[i].block;
    struct trace t = trace_begin(s->fs->log, "A1");
    trace_u64(&t, "node", node);
    trace_end(&t);
    t = trace_begin(s->fs->log, "A2");
    trace_u64(&t, "node", node);
    trace_ids(&t, "ids", ids, n);
    trace_end(&t);
    t = trace_begin(s->fs->log, "A3");
    trace_u64(&t, "node", node);
    trace_u64(&t, "ns", ns);
    trace_end(&t);
    free(ids);
}

static void barrier_drop(struct sync *s, struct waiter *w)
{
    struct barrier *b = (struct barrier *)(void *)w;
    (void)s;
    if (b->ns)
        TAILQ_REMOVE(&b->ns->barriers, b, ns_link);
    upload_set_free(&b->set);
}

static struct barrier *barrier_begin(struct sync *s, uint64_t node, bool local, sync_done done,
                                     void *arg, int *err)
{
    struct core_barrier cb;
    struct core_attr a;
    struct core_need need;
    *err = core_barrier(s->fs->core, node, &cb);
    if (*err)
        return NULL;
    if (cb.parked || (!cb.dirty && !cb.request && (local || !cb.unsure))) {
        *err = local ? 0 : cb.parked;
        if (!local || !cb.parked)
            return NULL;
    }
    int r = core_getattr(s->fs->core, node, &a, &need);
    if (r || s->waiters_n >= SYNC_WAITERS_MAX) {
        *err = r < 0 ? r : -EAGAIN;
        return NULL;
    }
    struct barrier *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->node = node;
    b->op = op_new(s);
    b->w.done = done;
    b->w.arg = arg;
    b->w.drop = barrier_drop;
    b->w.flush = true;
    sync_wake(s);
    if (local) { /* flushed at once */
        waiter_add(s, &b->w, 0, 0);
        return b;
    }
    b->ns = sync_ns_need(s, a.ns);
    b->state = BARRIER_CHECK;
    TAILQ_INSERT_TAIL(&b->ns->barriers, b, ns_link);
    waiter_add(s, &b->w, s->fs->opt.fsync_timeout_ms, -ETIMEDOUT);
    return b;
}

uint64_t sync_barrier(struct sync *s, uint64_t node, bool local, sync_done done, void *arg,
                      int *err)
{
    const struct barrier *b = barrier_begin(s, node, local, done, arg, err);
    return b ? b->w.id : 0;
}

/* ---- all of a namespace ----
 * Many may want that at once, of many files. What they wait for of a file is a barrier of it that
 * they share until it is part of a commit: so there are never more than a few of each file.
 */
struct all_wait {
    struct waiter w;
    struct all_parts *parts;
};
struct all_parts {         /* outlives the waiter: its barriers go on */
    struct all_wait *wait; /* NULL: it has ended */
    uint64_t ns;
    size_t left;
    bool full; /* there were as many as are taken at a time: then there may be more */
};
struct all_part { /* a shared barrier */
    struct sync *s;
    struct all_parts **v;
    size_t n, cap;
};

static void all_drop(struct sync *s, struct waiter *w)
{
    (void)s;
    ((struct all_wait *)(void *)w)->parts->wait = NULL;
}

static void parts_fill(struct sync *s, struct all_parts *p);

static void part_done(void *arg, int err)
{
    struct all_part *part = arg;
    struct sync *s = part->s;
    struct fs *fs = s->fs;
    (void)err; /* an fsync of it gives the same */
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < part->n; i++) {
        struct all_parts *p = part->v[i];
        if (--p->left == 0 && p->wait && p->full)
            parts_fill(s, p);
        if (p->left > 0)
            continue;
        if (p->wait)
            waiter_end(s, &p->wait->w, 0);
        free(p);
        sync_wake(s);
    }
    pthread_mutex_unlock(&fs->lock);
    free(part->v);
    free(part);
}

static int by_node(const void *a, const void *b)
{
    const struct barrier *const *x = a, *const *y = b;
    return ((*x)->node > (*y)->node) - ((*x)->node < (*y)->node);
}

/* Those of the namespace that one who comes now may share, by node; malloc'd. */
static struct barrier **shared_ones(struct sync *s, uint64_t ns, size_t *n)
{
    struct sync_ns *at = sync_ns_find(s, ns);
    struct barrier *b, **v = malloc((s->waiters_n + 1) * sizeof(struct barrier *));
    *n = 0;
    if (!v)
        abort();
    if (at)
        TAILQ_FOREACH(b, &at->barriers, ns_link)
    if (b->shared && b->state != BARRIER_SENT && b->w.expiry == EXPIRY_NONE)
        v[(*n)++] = b;
    qsort(v, *n, sizeof *v, by_node);
    return v;
}

/* One part of what p waits for: the shared barrier, which now has the time that p has, or (NULL) a
 * new one. */
static void part_add(struct sync *s, struct all_parts *p, struct barrier *b, uint64_t node)
{
    int err;
    struct all_part *part = b ? b->shared : calloc(1, sizeof *part);
    if (!part)
        abort();
    if (b) {
        b->w.deadline = s->clock() + s->fs->opt.fsync_timeout_ms;
    } else {
        part->s = s;
        b = barrier_begin(s, node, false, part_done, part, &err);
        if (!b) {
            free(part);
            return;
        }
        b->shared = part;
    }
    if (part->n == part->cap) {
        part->cap = part->cap ? 2 * part->cap : 4;
        part->v = realloc(part->v, part->cap * sizeof(struct all_parts *));
        if (!part->v)
            abort();
    }
    part->v[part->n++] = p;
    p->left++;
}

/* All that is pending now, BARRIER_ALL_MAX at a time. */
static void parts_fill(struct sync *s, struct all_parts *p)
{
    uint64_t *nodes = malloc(BARRIER_ALL_MAX * sizeof *nodes);
    size_t n = 0, shared_n = 0;
    if (!nodes)
        abort();
    if (core_pending_nodes(s->fs->core, p->ns, nodes, BARRIER_ALL_MAX, &n))
        n = 0;
    p->full = n == BARRIER_ALL_MAX;
    struct barrier **shared = shared_ones(s, p->ns, &shared_n);
    for (size_t i = 0; i < n; i++) { /* none ends before the lock is given back */
        struct barrier key = {.node = nodes[i]}, *at = &key;
        struct barrier **b = bsearch(&at, shared, shared_n, sizeof(struct barrier *), by_node);
        part_add(s, p, b ? *b : NULL, nodes[i]);
    }
    free(shared);
    free(nodes);
}

uint64_t sync_barrier_all(struct sync *s, uint64_t ns, sync_done done, void *arg)
{
    struct all_parts *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->ns = ns;
    parts_fill(s, p);
    if (p->left == 0) {
        free(p);
        return 0;
    }
    struct all_wait *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->parts = p;
    w->w.done = done;
    w->w.arg = arg;
    w->w.drop = all_drop;
    p->wait = w;
    return waiter_add(s, &w->w, s->fs->opt.fsync_timeout_ms, -ETIMEDOUT);
}

static void barrier_log(struct sync *s, const struct barrier *b, const char *text)
{
    char op[LOG_OP_MAX];
    struct ops ops = {.v = {b->op}, .n = 1};
    if (!log_shows(s->fs->log, LOG_L_DEBUG))
        return;
    struct log_where where = {
        .ns = b->ns->id, .node = b->node, .request = b->request, .op = ops_text(s, &ops, op)};
    log_about(s->fs->log, LOG_L_DEBUG, &where, "%s", text);
}

static void barrier_hold(struct sync *s, struct barrier *b)
{
    b->state = BARRIER_HELD;
    b->again_at = s->clock() + HELD_MS;
    sync_at(s, b->again_at);
}

/* What of its closure must be uploaded; again after every commit or conflict that touched it.
 * False: it has ended. */
static bool barrier_check(struct sync *s, struct barrier *b)
{
    struct core_barrier cb;
    int err = core_barrier(s->fs->core, b->node, &cb);
    if (err || cb.parked || (!cb.dirty && !cb.request && !cb.unsure)) {
        waiter_end(s, &b->w, err == -ESTALE ? 0 : err ? err : cb.parked);
        return false;
    }
    struct lane *l = &b->ns->lane;
    if (!cb.dirty) {
        if (cb.request && l->phase != LANE_IDLE && l->plan.request == cb.request) {
            b->state = BARRIER_SENT;
            b->request = cb.request;
        } else {
            barrier_hold(s, b);
        }
        return true;
    }
    int64_t since = b->set.since; /* what refused it meanwhile has refused it */
    upload_set_free(&b->set);
    b->set.since = since;
    err = core_closure_blocks(s->fs->core, b->node, &b->set.ids, &b->set.n);
    if (err == -EAGAIN) {
        barrier_hold(s, b);
    } else if (err) {
        waiter_end(s, &b->w, err);
        return false;
    } else {
        b->set.op = b->op;
        barrier_log(s, b, "fsync waits for a commit");
        if (!b->traced)
            trace_node(s, b->ns->id, b->node, b->set.ids, b->set.n);
        b->traced = true;
        b->state = BARRIER_UPLOAD;
    }
    return true;
}

static void barrier_upload(struct sync *s, struct barrier *b)
{
    if (s->online && ns_lacks(s, b->ns)) { /* nothing that is waited for would change that */
        ns_error(s, b->ns,
                 "%zu block servers are assigned, copies=%u was asked for when mounting: ask the "
                 "administrator for `steadfs admin assign %s PREMISES`, or mount with fewer; what "
                 "was changed is kept here",
                 ns_candidates(b->ns), s->fs->opt.copies, b->ns->name);
        waiter_end(s, &b->w, -EACCES);
        return;
    }
    if (upload_ready(s, b->ns, &b->set, UPLOAD_BARRIER)) {
        b->state = BARRIER_READY;
        return;
    }
    if (upload_over(s, b->ns, &b->set)) {
        waiter_end(s, &b->w, -EDQUOT);
        return;
    }
    const struct upload *lost = upload_lost(s, b->ns, &b->set);
    if (lost) {
        char hex[BLOCK_HEX_LEN + 1];
        block_id_hex(&lost->id, hex);
        ns_error(s, b->ns, "block %.12s… of node %llu is neither here nor at any server", hex,
                 (unsigned long long)b->node);
        waiter_end(s, &b->w, -EIO);
    }
}

void barrier_step(struct sync *s)
{
    int64_t now = s->clock();
    for (size_t i = 0; i < s->nss_n; i++) {
        struct sync_ns *ns = s->nss[i];
        struct barrier *b, *next;
        for (b = TAILQ_FIRST(&ns->barriers); b; b = next) {
            next = TAILQ_NEXT(b, ns_link);
            if (s->online && !ns->listed) {
                waiter_end(s, &b->w, -EACCES);
                continue;
            }
            if (b->state == BARRIER_HELD && b->again_at <= now)
                b->state = BARRIER_CHECK;
            else if (b->state == BARRIER_HELD)
                sync_at(s, b->again_at);
            if (b->state == BARRIER_CHECK && !barrier_check(s, b))
                continue;
            if (b->state == BARRIER_UPLOAD && s->had_session)
                barrier_upload(s, b);
        }
    }
}

void barriers_recheck(struct sync_ns *ns)
{
    struct barrier *b;
    TAILQ_FOREACH(b, &ns->barriers, ns_link)
    if (b->state == BARRIER_HELD)
        b->state = BARRIER_CHECK;
}

void barriers_settle(struct sync *s, struct sync_ns *ns, uint64_t request, bool covered)
{
    struct barrier *b, *next;
    for (b = TAILQ_FIRST(&ns->barriers); b; b = next) {
        next = TAILQ_NEXT(b, ns_link);
        if (b->state != BARRIER_SENT || b->request != request)
            continue;
        if (covered)
            waiter_end(s, &b->w, 0);
        else
            b->state = BARRIER_CHECK;
    }
}

void barriers_follow(struct sync_ns *ns, uint64_t node, uint64_t other)
{
    struct barrier *b;
    TAILQ_FOREACH(b, &ns->barriers, ns_link)
    if (b->node == node) {
        b->node = other;
        if (b->state != BARRIER_SENT)
            b->state = BARRIER_CHECK;
    }
}

static size_t node_add(uint64_t *nodes, size_t n, uint64_t node)
{
    size_t k = 0;
    while (k < n && nodes[k] != node)
        k++;
    if (k == n && n < BARRIERS_PER_PLAN)
        nodes[n++] = node;
    return n;
}

size_t barriers_ready(struct sync_ns *ns, uint64_t *nodes)
{
    size_t n = 0;
    struct barrier *b;
    TAILQ_FOREACH(b, &ns->barriers, ns_link)
    if (b->state == BARRIER_READY)
        n = node_add(nodes, n, b->node);
    return n;
}

size_t barriers_soon(struct sync *s, struct sync_ns *ns, uint64_t *nodes)
{
    size_t n = 0;
    struct barrier *b;
    TAILQ_FOREACH(b, &ns->barriers, ns_link)
    if (b->state == BARRIER_UPLOAD && upload_soon(s, ns, &b->set))
        n = node_add(nodes, n, b->node);
    return n;
}

void barriers_planned(struct sync *s, struct sync_ns *ns, const uint64_t *nodes, size_t n,
                      enum barrier_state from, uint64_t request)
{
    struct barrier *b;
    TAILQ_FOREACH(b, &ns->barriers, ns_link)
    {
        bool in = false;
        for (size_t k = 0; k < n && b->state == from && !in; k++)
            in = nodes[k] == b->node;
        if (!in)
            continue;
        if (request) {
            b->state = BARRIER_SENT;
            b->request = request;
            ops_add(&ns->lane.ops, b->op);
            barrier_log(s, b, "is part of a commit");
        } else {
            barrier_hold(s, b);
        }
    }
}

void barriers_failed(struct sync *s, struct sync_ns *ns, uint64_t node, int err)
{
    struct barrier *b, *next;
    for (b = TAILQ_FIRST(&ns->barriers); b; b = next) {
        next = TAILQ_NEXT(b, ns_link);
        if (b->node == node && b->state == BARRIER_READY)
            waiter_end(s, &b->w, err);
    }
}
