// SPDX-License-Identifier: Apache-2.0
/* Uploads: which blocks a target lacks (A6, A7), and what is known of each block at each target.
 *
 * An upload is one block on its way to one server for one namespace:
 *
 *   ask -> asked -> present                      the target has it
 *                -> put -> putting -> receipt    it lacked it (A8); the receipt goes into the
 * commit
 *                -> not held                     it lacks it, but another assigned server has it
 * and we do not
 *                -> seek -> sought -> receipt   neither have we, but it is there all the same:
 * linked
 *                                  -> put       another namespace had it, as of what was linked
 *                                               with a server that failed
 *                                  -> lost      nobody has it
 *
 * Where every commit would be refused (ns_refused) nothing is asked and put: all counts as ready.
 *
 * Questions gather while DIFFS_INFLIGHT_MAX are under way, so that many small fsyncs share calls.
 * Those of barriers go before those of the background. An upload is forgotten when the commit that
 * names its block is acknowledged, or when it only queues for a server that is no target any more.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync_internal.h"
#include "vfs.h"

#define DIFF_TIMEOUT_MS 20000
#define LOST_AGAIN_MS 1000
#define SWEEP_BUCKETS 512
#define SWEEP_AGE_MS 120000 /* younger ones may yet be committed */
#define DIFF_IDS_MAX 4096   /* per question */
#define SOON_BYTES (128u << 10)
#define SOON_RTT_MS 20

/* ---- the table ---- */
static size_t bucket_of(const struct sync *s, const struct route *r, const struct block_id *id)
{
    uint64_t h;
    memcpy(&h, id->b + 1, sizeof h); /* a hash already */
    h ^= (uintptr_t)r >> 4;
    return (size_t)(h % s->buckets_n);
}

static void table_grow(struct sync *s)
{
    size_t n = s->buckets_n ? 2 * s->buckets_n : 1024, old_n = s->buckets_n;
    struct upload **old = s->buckets;
    s->buckets = calloc(n, sizeof *s->buckets);
    if (!s->buckets)
        abort();
    s->buckets_n = n;
    for (size_t i = 0; i < old_n; i++) {
        struct upload *u;
        while ((u = old[i])) {
            old[i] = u->chain;
            size_t b = bucket_of(s, u->route, &u->id);
            u->chain = s->buckets[b];
            s->buckets[b] = u;
        }
    }
    free(old);
}

struct upload *upload_find(struct sync *s, struct route *r, const struct block_id *id)
{
    if (!s->buckets_n)
        return NULL;
    struct upload *u = s->buckets[bucket_of(s, r, id)];
    while (u && (u->route != r || !block_id_equal(&u->id, id)))
        u = u->chain;
    return u;
}

static struct upload *upload_add(struct sync *s, struct route *r, const struct m_block_ref *ref,
                                 enum upload_class class, uint64_t op)
{
    if (s->uploads_n >= s->buckets_n)
        table_grow(s);
    struct upload *u = calloc(1, sizeof *u);
    if (!u)
        abort();
    u->route = r;
    u->id = ref->block;
    u->len = (uint32_t)ref->len;
    blocks_has(s->fs->blocks, &u->id, &u->len); /* extents may refer to a part of it only */
    u->class = (uint8_t) class;
    u->op = op;
    u->state = UPLOAD_ASK;
    size_t b = bucket_of(s, r, &u->id);
    u->chain = s->buckets[b];
    s->buckets[b] = u;
    s->uploads_n++;
    TAILQ_INSERT_TAIL(&r->ask[class], u, link);
    return u;
}

static void queue_leave(struct upload *u)
{
    if (u->state == UPLOAD_ASK)
        TAILQ_REMOVE(&u->route->ask[u->class], u, link);
    else if (u->state == UPLOAD_SEEK)
        TAILQ_REMOVE(&u->route->seek, u, link);
    else if (u->state == UPLOAD_PUT)
        TAILQ_REMOVE(&u->route->put[u->class], u, link);
}

/* Unless a call refers to it. */
static void upload_remove(struct sync *s, struct upload *u)
{
    if (u->refs)
        return;
    queue_leave(u);
    struct upload **at = &s->buckets[bucket_of(s, u->route, &u->id)];
    while (*at != u)
        at = &(*at)->chain;
    *at = u->chain;
    s->uploads_n--;
    free(u->receipt);
    free(u);
}

static void upload_ask_again(struct upload *u)
{
    queue_leave(u);
    u->state = UPLOAD_ASK;
    TAILQ_INSERT_TAIL(&u->route->ask[u->class], u, link);
}

void upload_enqueue_put(struct upload *u, bool first)
{
    queue_leave(u);
    u->state = UPLOAD_PUT;
    free(u->receipt);
    u->receipt = NULL;
    u->receipt_n = 0;
    if (first)
        TAILQ_INSERT_HEAD(&u->route->put[u->class], u, link);
    else
        TAILQ_INSERT_TAIL(&u->route->put[u->class], u, link);
}

void upload_receipt(struct sync *s, struct upload *u, struct bytes receipt)
{
    queue_leave(u);
    free(u->receipt);
    u->receipt = malloc(receipt.n);
    if (!u->receipt)
        abort();
    memcpy(u->receipt, receipt.p, receipt.n);
    u->receipt_n = receipt.n;
    u->state = UPLOAD_RECEIPT;
    u->since = s->clock();
}

static void upload_raise(struct upload *u, enum upload_class class)
{
    if (class >= u->class)
        return;
    if (u->state == UPLOAD_ASK) {
        TAILQ_REMOVE(&u->route->ask[u->class], u, link);
        TAILQ_INSERT_TAIL(&u->route->ask[class], u, link);
    } else if (u->state == UPLOAD_PUT) {
        TAILQ_REMOVE(&u->route->put[u->class], u, link);
        TAILQ_INSERT_TAIL(&u->route->put[class], u, link);
    }
    u->class = (uint8_t) class;
}

/* ---- readiness ---- */
enum block_state { BLOCK_READY, BLOCK_WAITS, BLOCK_NEW };

/* NEW: nothing was on its way to one of the targets, and now is. */
static enum block_state block_ready(struct sync *s, struct sync_ns *ns,
                                    const struct m_block_ref *ref, enum upload_class class,
                                    uint64_t op)
{
    bool all = true, added = false;
    for (size_t i = 0; i < ns->targets_n; i++) {
        struct route *r = route_find(ns, ns->targets[i]);
        assert(r);
        struct upload *u = upload_find(s, r, &ref->block);
        if (!u) {
            upload_add(s, r, ref, class, op);
            added = true;
            continue;
        }
        upload_raise(u, class);
        if (u->state == UPLOAD_LOST) { /* written again meanwhile? */
            if (s->clock() - u->since > LOST_AGAIN_MS)
                upload_ask_again(u);
            all = false;
        } else if (u->state < UPLOAD_PRESENT) {
            all = false;
        } else if (s->clock() - u->since > RECEIPT_AGE_MS) {
            upload_ask_again(u);
            all = false;
        }
    }
    return added ? BLOCK_NEW : all && ns->targets_n > 0 ? BLOCK_READY : BLOCK_WAITS;
}

static bool block_known(struct sync *s, struct sync_ns *ns, const struct m_block_ref *ref)
{
    bool known = false;
    for (size_t i = 0; i < ns->targets_n && !known; i++)
        known = upload_find(s, route_find(ns, ns->targets[i]), &ref->block) != NULL;
    return known;
}

bool upload_ready(struct sync *s, struct sync_ns *ns, struct upload_set *set,
                  enum upload_class class)
{
    if (!set->since)
        set->since = s->clock();
    if (!set->n || ns_refused(ns))
        return true;
    if (choice_pending(s, ns, set) || !targets_update(s, ns))
        return false;
    choice_trial(s, ns, set);
    if (set->gen != ns->targets_gen) { /* other targets: everything is asked anew */
        set->gen = ns->targets_gen;
        set->pos = 0;
        for (size_t i = 0; i < set->n; i++)
            block_ready(s, ns, &set->ids[i], class, set->op);
    }
    enum block_state at = BLOCK_READY;
    for (size_t i = set->pos; i < set->n && at != BLOCK_WAITS; i++) {
        if (set->ahead && !block_known(s, ns, &set->ids[i]))
            at = BLOCK_READY; /* committed meanwhile, by somebody's fsync */
        else
            at = block_ready(s, ns, &set->ids[i], class, set->op);
        if (at == BLOCK_READY && set->pos == i)
            set->pos++;
    }
    return set->pos == set->n;
}

bool upload_over(const struct sync *s, const struct sync_ns *ns, const struct upload_set *set)
{
    size_t fit = 0, over = 0;
    for (size_t i = 0; i < ns->routes_n; i++) {
        const struct route *r = ns->routes[i];
        bool full = r->over_at && set->since && r->over_at >= set->since;
        if (!r->listed || r->leaving)
            continue;
        over += full;
        fit += !full;
    }
    return over && fit < targets_wanted(s, ns);
}

static bool block_soon(struct sync *s, struct sync_ns *ns, const struct m_block_ref *ref,
                       uint64_t *bytes)
{
    for (size_t i = 0; i < ns->targets_n; i++) {
        struct route *r = route_find(ns, ns->targets[i]);
        struct upload *u = upload_find(s, r, &ref->block);
        if (!u || u->state < UPLOAD_PUTTING || u->state > UPLOAD_RECEIPT)
            return false;
        if (u->state != UPLOAD_PUTTING)
            continue;
        *bytes += u->len;
        if (*bytes > SOON_BYTES || r->put_turn == s->turns || r->server->rtt_ms > SOON_RTT_MS)
            return false;
    }
    return true;
}

bool upload_soon(struct sync *s, struct sync_ns *ns, const struct upload_set *set)
{
    uint64_t bytes = 0;
    if (!ns->targets_n || set->gen != ns->targets_gen)
        return false;
    for (size_t i = set->pos; i < set->n; i++)
        if (!block_soon(s, ns, &set->ids[i], &bytes))
            return false;
    return true;
}

void upload_fill(struct sync *s, struct sync_ns *ns, const struct upload_set *set,
                 struct m_commit_req *q, struct arena *a)
{
    q->receipts = arena_alloc(a, (set->n * ns->targets_n + 1) * sizeof *q->receipts);
    q->not_held = arena_alloc(a, (set->n + 1) * sizeof *q->not_held);
    for (size_t i = 0; i < set->n; i++) {
        bool not_held = false;
        for (size_t k = 0; k < ns->targets_n; k++) {
            struct upload *u = upload_find(s, route_find(ns, ns->targets[k]), &set->ids[i].block);
            if (!u)
                continue;
            if (u->state == UPLOAD_RECEIPT && q->receipts_n < IDS_MAX)
                q->receipts[q->receipts_n++].receipt = arena_bytes(a, u->receipt, u->receipt_n);
            not_held |= u->state == UPLOAD_NOT_HELD;
        }
        if (not_held)
            q->not_held[q->not_held_n++] = set->ids[i].block;
    }
}

static bool route_is_target(const struct route *r)
{
    for (size_t i = 0; i < r->ns->targets_n; i++)
        if (r->ns->targets[i] == r->server->id)
            return true;
    return false;
}

/* Whether it is to be put there. */
static bool upload_wanted(struct sync *s, const struct upload *u)
{
    return route_is_target(u->route) || (u->trial && blocks_has(s->fs->blocks, &u->id, NULL));
}

void upload_requeue(struct sync *s, struct upload *u)
{
    if (route_is_target(u->route)) {
        upload_enqueue_put(u, true);
    } else {
        queue_leave(u);
        upload_remove(s, u);
    }
}

bool upload_trial(struct sync *s, struct route *r, const struct m_block_ref *ref)
{
    if (upload_find(s, r, &ref->block) || !blocks_has(s->fs->blocks, &ref->block, NULL))
        return false;
    upload_add(s, r, ref, UPLOAD_BACKGROUND, 0)->trial = true;
    return true;
}

/* The target lacks the block: is it ours to upload? */
static void upload_lacking(struct sync *s, struct upload *u, bool elsewhere)
{
    if (u->eager) { /* its put is under way and will say */
        u->state = UPLOAD_PUTTING;
    } else if (!upload_wanted(s, u)) {
        upload_remove(s, u);
    } else if (blocks_has(s->fs->blocks, &u->id, NULL)) {
        upload_enqueue_put(u, false);
    } else {
        queue_leave(u);
        u->state = elsewhere ? UPLOAD_NOT_HELD : UPLOAD_SEEK;
        u->since = s->clock();
        if (!elsewhere)
            TAILQ_INSERT_TAIL(&u->route->seek, u, link);
    }
}

void upload_linked(struct sync *s, struct route *r, const struct m_block_ref *ref,
                   struct bytes receipt)
{
    struct upload *u = upload_find(s, r, &ref->block);
    upload_receipt(s, u ? u : upload_add(s, r, ref, UPLOAD_BACKGROUND, 0), receipt);
}

void upload_sought(struct sync *s, struct upload *u, struct bytes receipt, bool elsewhere)
{
    if (u->state != UPLOAD_SOUGHT)
        return;
    if (receipt.n) {
        upload_receipt(s, u, receipt);
    } else if (blocks_has(s->fs->blocks, &u->id, NULL)) {
        upload_enqueue_put(u, false); /* written again meanwhile, or borrowed */
    } else if (elsewhere) {
        link_borrow(s, u);
    } else {
        u->state = UPLOAD_LOST;
        u->since = s->clock();
    }
}

void upload_unreadable(struct sync *s, struct upload *u)
{
    u->eager = false;
    if (u->state == UPLOAD_PUTTING) {
        u->state = UPLOAD_LOST;
        u->since = s->clock();
    }
}

void upload_missing(struct sync *s, struct sync_ns *ns, uint64_t server, const struct block_id *id,
                    bool elsewhere)
{
    struct route *r = route_find(ns, server);
    struct upload *u = r ? upload_find(s, r, id) : NULL;
    if (u && (u->state >= UPLOAD_PRESENT))
        upload_lacking(s, u, elsewhere);
}

const struct upload *upload_lost(struct sync *s, struct sync_ns *ns, const struct upload_set *set)
{
    for (size_t i = set->pos; i < set->n; i++)
        for (size_t k = 0; k < ns->targets_n; k++) {
            struct upload *u = upload_find(s, route_find(ns, ns->targets[k]), &set->ids[i].block);
            if (u && u->state == UPLOAD_LOST)
                return u;
        }
    return NULL;
}

void upload_committed(struct sync *s, struct sync_ns *ns, const struct upload_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct block_id *id = &set->ids[i].block;
        for (size_t k = 0; k < ns->routes_n; k++) {
            struct upload *u = upload_find(s, ns->routes[k], id);
            if (u)
                upload_remove(s, u);
        }
        bool referenced, pending; /* another file or namespace may still wait for its own commit */
        if (core_block_used(s->fs->core, id, &referenced, &pending) == 0 && !pending &&
            !vfs_keeps_block(s->fs->vfs, id)) /* else the sweep sees to it */
            blocks_synced(s->fs->blocks, id, 1);
    }
}

static void queue_clear(struct sync *s, struct uploads *q)
{
    struct upload *u;
    while ((u = TAILQ_FIRST(q))) {
        if (u->refs) { /* an eager put is under way: its answer says what follows */
            queue_leave(u);
            u->state = UPLOAD_PUTTING;
        }
        upload_remove(s, u);
    }
}

static void route_clear(struct sync *s, struct route *r)
{
    for (size_t c = 0; c < UPLOAD_CLASSES; c++) {
        queue_clear(s, &r->ask[c]);
        queue_clear(s, &r->put[c]);
    }
    queue_clear(s, &r->seek);
}

void upload_retarget(struct sync *s, struct sync_ns *ns)
{
    for (size_t i = 0; i < ns->routes_n; i++) {
        bool target = false;
        for (size_t k = 0; k < ns->targets_n; k++)
            target |= ns->targets[k] == ns->routes[i]->server->id;
        if (target)
            continue;
        route_clear(s, ns->routes[i]);
        put_abandon(s, ns->routes[i]);
    }
}

/* At how many block servers of the namespace it is; *first: u is the first route's of those. */
static size_t block_copies(struct sync *s, const struct sync_ns *ns, const struct upload *u,
                           bool *first)
{
    size_t n = 0;
    const struct upload *seen = NULL;
    for (size_t i = 0; i < ns->routes_n; i++) {
        const struct upload *v = upload_find(s, ns->routes[i], &u->id);
        seen = seen ? seen : v;
        n += v && (v->state == UPLOAD_PRESENT || v->state == UPLOAD_RECEIPT);
    }
    *first = seen == u;
    return n;
}

void upload_copies(struct sync *s, const struct sync_ns *ns, size_t want, size_t *least,
                   uint64_t *blocks)
{
    *least = want;
    *blocks = 0;
    for (size_t i = 0; i < s->buckets_n; i++)
        for (const struct upload *u = s->buckets[i]; u; u = u->chain) {
            bool first, referenced, pending;
            if (u->route->ns != ns)
                continue;
            size_t n = block_copies(s, ns, u, &first);
            if (!first || n >= want ||
                core_block_used(s->fs->core, &u->id, &referenced, &pending) || !pending)
                continue;
            ++*blocks;
            *least = n < *least ? n : *least;
        }
}

void upload_sweep(struct sync *s)
{
    int64_t now = s->clock();
    for (size_t i = 0; i < SWEEP_BUCKETS && s->buckets_n; i++) {
        s->upload_swept = (s->upload_swept + 1) % s->buckets_n;
        struct upload *u = s->buckets[s->upload_swept], *next;
        for (; u; u = next) {
            bool referenced, pending;
            next = u->chain;
            if (u->state < UPLOAD_PRESENT || now - u->since < SWEEP_AGE_MS)
                continue;
            if (core_block_used(s->fs->core, &u->id, &referenced, &pending) == 0 && !pending)
                upload_remove(s, u);
        }
    }
}

void upload_set_free(struct upload_set *set)
{
    free(set->ids);
    *set = (struct upload_set){0};
}

void upload_free(struct sync *s)
{
    for (size_t i = 0; i < s->buckets_n; i++) {
        struct upload *u;
        while ((u = s->buckets[i])) {
            s->buckets[i] = u->chain;
            free(u->receipt);
            free(u);
        }
    }
    free(s->buckets);
}

void sync_upload(struct sync *s, uint64_t ns_id, const struct m_block_ref *ids, size_t n)
{
    struct sync_ns *ns = sync_ns_need(s, ns_id);
    struct upload_set set = {.ids = malloc(n * sizeof *ids + 1), .n = n};
    if (s->uploads_n < UPLOADS_AHEAD_MAX && set.ids) {
        memcpy(set.ids, ids, n * sizeof *ids);
        if (ns->routes_n)
            upload_ready(s, ns, &set, UPLOAD_BACKGROUND);
        sync_wake(s);
    }
    upload_set_free(&set);
}

/* ---- questions ---- */
struct question {
    struct route *route;
    struct upload **v;
    size_t n;
};

static void question_trace(struct sync *s, const char *step, const struct route *r, const char *key,
                           const struct block_id *ids, size_t n, bool eager)
{
    if (!trace_on(s->fs->log))
        return;
    struct trace t = trace_begin(s->fs->log, step);
    trace_u64(&t, "ns", r->ns->id);
    trace_u64(&t, "target", r->server->id);
    if (ids || n == 0)
        trace_ids(&t, key, ids, n);
    if (eager)
        trace_u64(&t, "eager", 1);
    trace_end(&t);
}

static int id_compare(const void *a, const void *b)
{
    return block_id_compare(a, b);
}

static bool id_in(const struct block_id *v, size_t n, const struct block_id *id)
{
    return n && bsearch(id, v, n, sizeof *v, id_compare);
}

static void question_answer(struct sync *s, struct question *q, struct m_diff_ans *m)
{
    if (m->missing_n)
        qsort(m->missing, m->missing_n, sizeof *m->missing, id_compare);
    if (m->elsewhere_n)
        qsort(m->elsewhere, m->elsewhere_n, sizeof *m->elsewhere, id_compare);
    for (size_t i = 0; i < q->n; i++) {
        struct upload *u = q->v[i];
        if (u->state != UPLOAD_ASKED) /* an eager put was quicker */
            continue;
        if (id_in(m->missing, m->missing_n, &u->id)) {
            upload_lacking(s, u, false);
        } else if (id_in(m->elsewhere, m->elsewhere_n, &u->id)) {
            upload_lacking(s, u, true);
        } else {
            u->state = UPLOAD_PRESENT;
            u->since = s->clock();
        }
    }
}

static void question_done(struct sync *s, struct sync_call *c)
{
    struct question *q = c->arg;
    struct arena cleanup_arena a = {0};
    struct m_diff_ans m = {0};
    int bad = c->res.err ? 0 : call_decode(s, c, &m_diff_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    q->route->diffs--;
    for (size_t i = 0; i < q->n; i++)
        q->v[i]->refs--;
    int err = meta_result(s, c);
    if (!err && !bad) {
        question_trace(s, "A7", q->route, "missing", m.missing, m.missing_n, false);
        question_answer(s, q, &m);
    } else {
        if (err != -ECANCELED && s->online) {
            ns_error(s, q->route->ns, "asking what is missing: %s",
                     bad ? strerror(-bad) : c->res.message);
            q->route->ask_after = s->clock() + 1000;
        }
        for (size_t i = 0; i < q->n; i++)
            if (q->v[i]->state == UPLOAD_ASKED) {
                q->v[i]->state = UPLOAD_ASK;
                TAILQ_INSERT_HEAD(&q->route->ask[q->v[i]->class], q->v[i], link);
            }
    }
    pthread_mutex_unlock(&s->fs->lock);
    free(q->v);
    free(q);
    sync_wake(s);
}

static void question_start(struct sync *s, struct route *r, enum upload_class class)
{
    struct question *q = calloc(1, sizeof *q);
    struct m_block_ref *refs = malloc(DIFF_IDS_MAX * sizeof *refs);
    struct block_id *ids = malloc(DIFF_IDS_MAX * sizeof *ids);
    struct upload *u;
    struct ops ops = {0};
    if (!q || !refs || !ids || !(q->v = malloc(DIFF_IDS_MAX * sizeof(struct upload *))))
        abort();
    q->route = r;
    while (q->n < DIFF_IDS_MAX && (u = TAILQ_FIRST(&r->ask[class]))) {
        TAILQ_REMOVE(&r->ask[class], u, link);
        u->state = UPLOAD_ASKED;
        u->refs++;
        ids[q->n] = u->id;
        refs[q->n] = (struct m_block_ref){.block = u->id, .len = u->len};
        ops_add(&ops, u->op);
        q->v[q->n++] = u;
    }
    question_trace(s, "A5", r, NULL, NULL, q->n, false);
    question_trace(s, "A6", r, "ids", ids, q->n, false);
    struct m_diff_req m = {.ns = r->ns->id, .target = r->server->id, .ids = refs, .ids_n = q->n};
    r->diffs++;
    if (s->fs->opt.eager_put)
        put_eager(s, r, q->v, q->n);
    struct sync_call *c = call_new(s, question_done, q);
    c->ops = ops;
    ops_log(s, m.ns, 0, &ops, "asking what block server %llu lacks of %zu blocks",
            (unsigned long long)m.target, q->n);
    call_meta(c, "diff", &m_diff_req_desc, &m, DIFF_TIMEOUT_MS);
    free(refs);
    free(ids);
}

static void route_step(struct sync *s, struct route *r)
{
    int64_t now = s->clock();
    if (r->ask_after > now) {
        sync_at(s, r->ask_after);
    } else if (s->online) {
        for (enum upload_class c = 0; c < UPLOAD_CLASSES; c++)
            /* the last place is kept for barriers */
            while (!TAILQ_EMPTY(&r->ask[c]) &&
                   r->diffs + (c == UPLOAD_BACKGROUND) < DIFFS_INFLIGHT_MAX)
                question_start(s, r, c);
    }
    seek_step(s, r);
    put_step(s, r);
}

void upload_step(struct sync *s)
{
    for (size_t i = 0; i < s->nss_n; i++) {
        for (size_t k = 0; k < s->nss[i]->routes_n && !ns_refused(s->nss[i]); k++)
            if (s->nss[i]->routes[k]->listed)
                route_step(s, s->nss[i]->routes[k]);
        choice_step(s, s->nss[i]);
    }
}
