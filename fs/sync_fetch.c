// SPDX-License-Identifier: Apache-2.0
/* Fetches: bringing blocks here, each once however many wait for it.
 *
 * A block is first asked of the candidate that targets would be chosen from first; if that one does
 * not have it, the metadata server says who is recorded to hold it (`locate`). Several gets are
 * under way at a time, so a batch is kept small while places are free. What arrives is hashed and
 * stored by a worker. A server that is recorded to hold one and said that it does not is asked once
 * more, told so: it reports what it lacks, and gets it from the others. A block that is not what
 * its id names is thrown away, reported and asked of another server. When all have been tried the
 * round begins again after a pause, until those who wait have given up.
 *
 * Races. A get that somebody waits for and that is late, by what its server has taken so far
 * (sync_pace.h), is asked of the next server as well; whichever answer brings a block first counts,
 * verified like any, and a get all of whose blocks have come is cancelled. The server that lost is
 * not asked first for some seconds. What is asked for twice is bounded by a share of what was
 * fetched (race=PERCENT): a slow link is not made slower by being used twice.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "sync_internal.h"

#define FETCH_BUCKETS 4096
#define FETCH_ROUND_MS 500 /* between rounds over all servers */
#define GET_TIMEOUT_MS 60000
#define LOCATE_TIMEOUT_MS 15000
#define TRIED_MAX 16
#define TRIAL_GET_BLOCKS 4

struct fetch_wait {
    struct waiter w;
    size_t left; /* blocks still missing */
    size_t n;
    struct fetch_block **v; /* those it waits for; NULL: it has arrived */
};

struct fetch_block {
    TAILQ_ENTRY(fetch_block) link; /* in fetch_queue while QUEUED */
    struct fetch_block *chain;
    struct sync_ns *ns;
    struct block_id id;
    enum { FETCH_QUEUED, FETCH_BUSY } state;
    unsigned gets; /* that ask for it: one, or two in a race */
    struct fetch_wait **waits;
    size_t waits_n, waits_cap;
    int64_t not_before;
    uint64_t tried[TRIED_MAX]; /* servers that did not deliver in this round */
    bool lacks[TRIED_MAX];     /* … as they said that they do not have it */
    size_t tried_n;
    uint64_t holders[TRIED_MAX]; /* as located */
    size_t holders_n;
    bool located, locating;
    int64_t since;
};

/* ---- the table ---- */
static size_t bucket_of(const struct sync_ns *ns, const struct block_id *id)
{
    uint64_t h;
    memcpy(&h, id->b + 1, sizeof h);
    return (size_t)((h ^ ns->id) % FETCH_BUCKETS);
}

static struct fetch_block *block_find(struct sync *s, const struct sync_ns *ns,
                                      const struct block_id *id)
{
    if (!s->fetch_buckets)
        return NULL;
    struct fetch_block *b = s->fetch_buckets[bucket_of(ns, id)];
    while (b && (b->ns != ns || !block_id_equal(&b->id, id)))
        b = b->chain;
    return b;
}

static struct fetch_block *block_add(struct sync *s, struct sync_ns *ns, const struct block_id *id)
{
    if (!s->fetch_buckets)
        s->fetch_buckets = calloc(FETCH_BUCKETS, sizeof *s->fetch_buckets);
    struct fetch_block *b = calloc(1, sizeof *b);
    if (!b || !s->fetch_buckets)
        abort();
    size_t at = bucket_of(ns, id);
    b->ns = ns;
    b->id = *id;
    b->since = s->clock();
    b->chain = s->fetch_buckets[at];
    s->fetch_buckets[at] = b;
    TAILQ_INSERT_TAIL(&s->fetch_queue, b, link);
    s->fetches_n++;
    return b;
}

static void gets_forget(struct sync *s, const struct fetch_block *b);

/* Not while locating. */
static void block_remove(struct sync *s, struct fetch_block *b)
{
    gets_forget(s, b);
    struct fetch_block **at = &s->fetch_buckets[bucket_of(b->ns, &b->id)];
    while (*at != b)
        at = &(*at)->chain;
    *at = b->chain;
    if (b->state == FETCH_QUEUED)
        TAILQ_REMOVE(&s->fetch_queue, b, link);
    s->fetches_n--;
    free(b->waits);
    free(b);
}

static void block_requeue(struct sync *s, struct fetch_block *b)
{
    b->state = FETCH_QUEUED;
    TAILQ_INSERT_TAIL(&s->fetch_queue, b, link);
}

static void block_wait(struct fetch_block *b, struct fetch_wait *w)
{
    if (b->waits_n == b->waits_cap) {
        b->waits_cap = b->waits_cap ? 2 * b->waits_cap : 2;
        b->waits = realloc(b->waits, b->waits_cap * sizeof(struct fetch_wait *));
        if (!b->waits)
            abort();
    }
    b->waits[b->waits_n++] = w;
}

/* It is here. */
static void block_arrived(struct sync *s, struct fetch_block *b)
{
    b->ns->error[0] = 0;
    while (b->waits_n) {
        struct fetch_wait *w = b->waits[--b->waits_n];
        for (size_t i = 0; i < w->n; i++)
            if (w->v[i] == b) {
                w->v[i] = NULL;
                w->left--;
            }
        if (!w->left)
            waiter_end(s, &w->w, 0);
    }
    block_remove(s, b);
}

static void block_tried(struct fetch_block *b, uint64_t server, bool lacks)
{
    if (b->tried_n == TRIED_MAX)
        return;
    b->lacks[b->tried_n] = lacks;
    b->tried[b->tried_n++] = server;
}

static bool in_list(const uint64_t *v, size_t n, uint64_t x)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] == x)
            return true;
    return false;
}

/* ---- asked for ---- */
static void fetch_wait_drop(struct sync *s, struct waiter *waiter)
{
    struct fetch_wait *w = (struct fetch_wait *)(void *)waiter;
    for (size_t i = 0; i < w->n; i++) {
        struct fetch_block *b = w->v[i];
        for (size_t k = 0; b && k < b->waits_n; k++)
            if (b->waits[k] == w)
                b->waits[k--] = b->waits[--b->waits_n];
        if (b && !b->waits_n && b->state == FETCH_QUEUED && !b->locating) {
            for (size_t k = i; k < w->n; k++) /* the same block may be named twice */
                if (w->v[k] == b)
                    w->v[k] = NULL;
            block_remove(s, b);
        }
    }
    free(w->v);
}

uint64_t sync_fetch(struct sync *s, uint64_t ns_id, const struct block_id *ids, size_t n,
                    sync_done done, void *arg)
{
    struct sync_ns *ns = sync_ns_need(s, ns_id);
    if (s->waiters_n >= SYNC_WAITERS_MAX || s->fetches_n >= FETCHES_MAX)
        return waiter_refuse(s, done, arg, -EIO);
    struct fetch_wait *w = calloc(1, sizeof *w);
    if (!w || !(w->v = calloc(n + 1, sizeof(struct fetch_block *))))
        abort();
    for (size_t i = 0; i < n; i++) {
        struct fetch_block *b = block_find(s, ns, &ids[i]);
        if (!b && blocks_has(s->fs->blocks, &ids[i], NULL))
            continue;
        if (!b)
            b = block_add(s, ns, &ids[i]);
        block_wait(b, w);
        w->v[w->n++] = b;
    }
    w->left = w->n;
    w->w.done = done;
    w->w.arg = arg;
    w->w.drop = fetch_wait_drop;
    uint64_t id = waiter_add(s, &w->w, s->fs->opt.timeout_ms, -EIO);
    if (!w->n)
        waiter_end(s, &w->w, 0);
    sync_wake(s);
    return id;
}

void sync_prefetch(struct sync *s, uint64_t ns_id, const struct block_id *ids, size_t n)
{
    struct sync_ns *ns = sync_ns_need(s, ns_id);
    for (size_t i = 0; i < n && s->fetches_n < PREFETCH_MAX; i++)
        if (!block_find(s, ns, &ids[i]) && !blocks_has(s->fs->blocks, &ids[i], NULL))
            block_add(s, ns, &ids[i]);
    sync_wake(s);
}

/* ---- get ---- */
struct get {
    struct sync_job job;
    LIST_ENTRY(get) link;
    struct route *route;
    uint64_t call;
    int64_t started;
    bool answered;
    bool raced;   /* another one asks for the same, or will not */
    bool second;  /* it is that other one */
    bool located; /* its server is recorded to have all of them */
    bool failed;  /* there was no answer */
    double paid;  /* what a second one was thought to bring */
    size_t n;
    struct fetch_block *v[GET_BATCH_BLOCKS]; /* NULL: it came by another get */
    struct block_id ids[GET_BATCH_BLOCKS];
    enum get_outcome { GET_ABSENT, GET_LATER, GET_BAD, GET_STORED } outcome[GET_BATCH_BLOCKS];
    struct buf body;
};

static size_t get_index(const struct get *g, const struct block_id *id)
{
    size_t i = 0;
    while (i < g->n && !block_id_equal(&g->ids[i], id))
        i++;
    return i;
}

/* Takes the answer apart, keeps what is right. Worker thread, or the driver when it is small. */
static void get_take(struct sync *s, struct sync_job *j)
{
    struct get *g = (struct get *)(void *)j;
    struct arena cleanup_arena a = {0};
    struct m_get_head h;
    struct bytes head, raw;
    struct blocks_item items[GET_BATCH_BLOCKS];
    size_t n = 0, at = 0;
    if (frame_split(bytes_of(g->body.p, g->body.n), &head, &raw) ||
        msg_decode(&m_get_head_desc, &h, head.p, head.n, MSG_LENIENT, &a, NULL))
        return;
    for (size_t i = 0; i < h.items_n; i++) {
        const struct m_get_item *m = &h.items[i];
        size_t k = get_index(g, &m->block);
        if (m->stored_len > raw.n - at)
            break;
        const uint8_t *p = raw.p + at;
        at += m->stored_len;
        if (k == g->n)
            continue;
        if (m->error) {
            g->outcome[k] = m->error == ERR_UNAVAILABLE ? GET_LATER : GET_ABSENT;
        } else if (g->outcome[k] != GET_STORED && !block_id_matches(&m->block, p, m->stored_len)) {
            g->outcome[k] = GET_BAD;
        } else if (g->outcome[k] != GET_STORED) {
            g->outcome[k] = GET_STORED;
            items[n++] =
                (struct blocks_item){.id = m->block, .p = p, .len = (uint32_t)m->stored_len};
        }
    }
    if (n)
        blocks_put_cached(s->fs->blocks, items, n);
}

/* The block is here, or no longer wanted: what still asks for it alone is ended. */
static void gets_forget(struct sync *s, const struct fetch_block *b)
{
    struct get *g;
    LIST_FOREACH(g, &s->gets, link)
    {
        bool had = false, left = false;
        for (size_t i = 0; i < g->n; i++) {
            had |= g->v[i] == b;
            if (g->v[i] == b)
                g->v[i] = NULL;
            left |= g->v[i] != NULL;
        }
        if (had && !left && !g->answered) {
            struct sync_server *v = g->route->server;
            int64_t took = s->clock() - g->started;
            if (!g->second || took >= pace_late_ms(&v->pace, g->n)) /* else it had no time */
                v->slow_until = s->clock() + SLOW_MS;
            pace_gave_up(&v->pace, (double)took);
            if (v->slow_until > s->clock())
                flow_gave_up(&v->down, s->clock(), pace_bytes(&v->pace, g->n), (double)took);
            rpc_cancel(s->rpc, g->call);
        }
    }
}

static void get_settle(struct sync *s, struct get *g)
{
    LIST_REMOVE(g, link);
    for (size_t i = 0; i < g->n; i++) {
        struct fetch_block *b = g->v[i];
        if (!b)
            continue;
        b->gets--;
        if (g->outcome[i] == GET_STORED || blocks_has(s->fs->blocks, &b->id, NULL)) {
            if (blocks_has(s->fs->blocks, &b->id, NULL)) {
                s->races_won += g->second;
                block_arrived(s, b);
                continue;
            }
            b->not_before = s->clock() + FETCH_ROUND_MS; /* no room on this disk? */
            ns_error(s, b->ns, "a fetched block cannot be stored under %s", s->fs->opt.state);
        } else if (g->outcome[i] == GET_BAD) {
            char hex[BLOCK_HEX_LEN + 1];
            block_id_hex(&b->id, hex);
            log_printf(s->fs->log, LOG_L_ERROR, "block server %s: block %s is damaged there",
                       g->route->server->premises, hex);
            block_tried(b, g->route->server->id, false);
        } else if (g->outcome[i] == GET_ABSENT) {
            block_tried(b, g->route->server->id, !g->failed);
        }
        if (b->gets) /* the other one of a race is still under way */
            continue;
        block_requeue(s, b);
        if (!b->waits_n && b->tried_n && !b->locating) /* nobody waits for it: readahead */
            block_remove(s, b);
    }
    buf_free(&g->body);
    free(g);
}

static void get_taken(struct sync *s, struct sync_event *e)
{
    pthread_mutex_lock(&s->fs->lock);
    get_settle(s, (struct get *)(void *)e);
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

/* How many bytes it may bring. */
static double get_most(const struct get *g)
{
    return (double)g->n * BLOCK_MAX;
}

static void get_done(struct sync *s, struct sync_call *c)
{
    struct get *g = c->arg;
    bool small = c->res.body.n <= PUT_INLINE_BYTES;
    g->body = c->res.body;
    c->res.body = (struct buf){0};
    if (!c->res.err && small)
        get_take(s, &g->job);
    pthread_mutex_lock(&s->fs->lock);
    *(g->second ? &s->races_inflight : &s->gets_inflight) -= 1;
    g->answered = true;
    call_server_end(c);
    flow_end(&c->server->down, s->clock(), get_most(g), c->res.err ? 0 : (double)g->body.n,
             c->server->pace.latency_ms);
    if (c->res.err) {
        route_failed(s, g->route, ROUTE_READ, &c->res);
        g->failed = true;
        for (size_t i = 0; i < g->n; i++)
            g->outcome[i] = GET_ABSENT;
    } else {
        server_ok(s, g->route->server, c->res.seconds, g->body.n, g->n);
        route_ok(g->route, ROUTE_READ);
        pace_earn(&s->races, (double)g->body.n, s->fs->opt.race_percent);
        if (g->second)
            pace_settle(&s->races, (double)g->body.n - g->paid);
    }
    if (c->res.err || small || s->stopping) {
        get_settle(s, g);
    } else {
        g->job.run = get_take;
        g->job.ev.fn = get_taken;
        sync_job_start(s, &g->job);
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static void get_send(struct sync *s, struct get *g)
{
    struct route *r = g->route;
    struct m_get_req q = {.ns = r->ns->id,
                          .capability = bytes_of(r->cap, r->cap_n),
                          .blocks = g->ids,
                          .blocks_n = g->n,
                          .located = g->located};
    struct buf cleanup_buf b = {0};
    msg_encode(&m_get_req_desc, &q, &b);
    *(g->second ? &s->races_inflight : &s->gets_inflight) += 1;
    g->started = s->clock();
    flow_begin(&r->server->down, g->started, get_most(g));
    LIST_INSERT_HEAD(&s->gets, g, link);
    for (size_t i = 0; i < g->n; i++)
        g->v[i]->gets++;
    struct sync_call *c = call_new(s, get_done, g);
    c->expendable = true;
    call_server(c, r->server, "get", bytes_of(b.p, b.n), NULL, 0, GET_TIMEOUT_MS);
    g->call = c->id;
}

/* ---- locate ---- */
struct locating {
    struct sync_ns *ns;
    size_t n;
    struct fetch_block *v[GET_BATCH_BLOCKS];
};

/* Servers that are recorded to have what they said they lack are asked once more: told that they
 * should have it, they report that they do not. */
static void ask_again(struct fetch_block *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->tried_n; i++) {
        if (b->lacks[i] && in_list(b->holders, b->holders_n, b->tried[i]))
            continue;
        b->lacks[n] = b->lacks[i];
        b->tried[n++] = b->tried[i];
    }
    b->tried_n = n;
}

static void located(struct fetch_block *b, const struct m_locate_ans *m)
{
    b->located = true;
    b->holders_n = 0;
    for (size_t i = 0; i < m->locations_n; i++)
        if (block_id_equal(&m->locations[i].block, &b->id))
            for (size_t k = 0; k < m->locations[i].servers_n && b->holders_n < TRIED_MAX; k++)
                b->holders[b->holders_n++] = m->locations[i].servers[k];
    ask_again(b);
}

static void locate_done(struct sync *s, struct sync_call *c)
{
    struct locating *l = c->arg;
    struct arena cleanup_arena a = {0};
    struct m_locate_ans m = {0};
    int bad = c->res.err ? 0 : call_decode(s, c, &m_locate_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    s->locates_inflight--;
    int err = meta_result(s, c);
    for (size_t i = 0; i < l->n; i++) {
        l->v[i]->locating = false;
        if (!err && !bad)
            located(l->v[i], &m);
        else
            l->v[i]->not_before = s->clock() + FETCH_ROUND_MS;
        if (!l->v[i]->waits_n)
            block_remove(s, l->v[i]);
    }
    pthread_mutex_unlock(&s->fs->lock);
    free(l);
    sync_wake(s);
}

/* The queued blocks of the namespace that nobody known has. */
static void locate_start(struct sync *s, struct sync_ns *ns, struct fetch_block *first)
{
    struct locating *l = calloc(1, sizeof *l);
    struct block_id ids[GET_BATCH_BLOCKS];
    if (!l)
        abort();
    l->ns = ns;
    for (struct fetch_block *b = first; b && l->n < GET_BATCH_BLOCKS; b = TAILQ_NEXT(b, link)) {
        if (b->ns != ns || b->located || b->locating || !b->tried_n)
            continue;
        b->locating = true;
        ids[l->n] = b->id;
        l->v[l->n++] = b;
    }
    struct m_locate_req q = {.ns = ns->id, .ids = ids, .ids_n = l->n};
    s->locates_inflight++;
    call_meta(call_new(s, locate_done, l), "locate", &m_locate_req_desc, &q, LOCATE_TIMEOUT_MS);
}

/* ---- choosing ---- */
/* The best server to ask that has not been tried in this round, `not` apart. Those that lost a race
 * lately come last. */
static struct route *server_choose(struct sync *s, const struct fetch_block *b,
                                   const struct sync_server * not )
{
    struct target_candidate v[64], slow[64];
    size_t n = 0;
    uint64_t best;
    int64_t now = s->clock();
    for (size_t i = 0; i < b->ns->routes_n; i++) {
        const struct route *r = b->ns->routes[i];
        uint64_t id = r->server->id;
        bool known = !b->located || in_list(b->holders, b->holders_n, id);
        if (!r->listed || !r->cap_n || in_list(b->tried, b->tried_n, id) || !known ||
            r->server == not )
            continue;
        v[n] = choice_read(s, r);
        slow[n] = v[n];
        v[n++].usable &= r->server->slow_until <= now;
    }
    choice_leave(v, n);
    if (target_choose(v, n, &best, 1) || target_choose(slow, n, &best, 1))
        return route_find(b->ns, best);
    return NULL;
}

/* All servers were tried: say so, and begin again after a pause. */
static void round_over(struct sync *s, struct fetch_block *b)
{
    char hex[BLOCK_HEX_LEN + 1];
    block_id_hex(&b->id, hex);
    if (b->located && !b->holders_n)
        ns_error(
            s, b->ns,
            "block %.12s… is recorded at no block server: what needs it cannot be read until a "
            "device that has it still sends it again (copy the file there under another name), "
            "or its server comes back; `steadfs admin fsck` names the files",
            hex);
    else if (b->located && s->clock() - b->since > 1000)
        ns_error(s, b->ns, "no block server delivers block %.12s… (%zu are recorded to hold it)",
                 hex, b->holders_n);
    b->tried_n = 0;
    b->located = false;
    b->not_before = s->clock() + FETCH_ROUND_MS;
}

/* Another one that is asked instead for what nobody waits for yet, to see how quick it is. */
static struct route *trial_choose(struct sync *s, const struct fetch_block *b,
                                  const struct route *best)
{
    for (size_t i = 0; i < b->ns->routes_n && !b->waits_n && !b->tried_n; i++)
        if (choice_read_trial(s, b->ns->routes[i], best))
            return b->ns->routes[i];
    return NULL;
}

static void get_gather(struct sync *s, struct get *g, struct fetch_block *first, size_t max,
                       bool trial)
{
    struct fetch_block *b, *next;
    int64_t now = s->clock();
    for (b = first; b && g->n < max; b = next) {
        next = TAILQ_NEXT(b, link);
        if (b->ns != g->route->ns || b->not_before > now || b->locating ||
            b->located != first->located ||
            (trial ? b->waits_n || b->tried_n
                   : b != first && server_choose(s, b, NULL) != g->route))
            continue;
        TAILQ_REMOVE(&s->fetch_queue, b, link);
        b->state = FETCH_BUSY;
        g->ids[g->n] = b->id;
        g->v[g->n++] = b;
    }
}

static void block_step(struct sync *s, struct fetch_block *b)
{
    if (b->tried_n && !b->located) {
        if (s->online && !s->locates_inflight)
            locate_start(s, b->ns, b);
        return;
    }
    struct route *r = server_choose(s, b, NULL);
    if (!r) {
        round_over(s, b);
        sync_at(s, b->not_before);
        return;
    }
    struct get *g = calloc(1, sizeof *g);
    if (!g)
        abort();
    g->route = r;
    g->located = b->located;
    /* small batches while places are free: several servers' disks and connections work at once */
    size_t places = GETS_INFLIGHT_MAX - s->gets_inflight;
    size_t max = (s->fetches_n + places - 1) / places;
    struct route *trial = trial_choose(s, b, r);
    if (trial) {
        g->route = trial;
        max = TRIAL_GET_BLOCKS;
    }
    get_gather(s, g, b, max > GET_BATCH_BLOCKS ? GET_BATCH_BLOCKS : max, trial != NULL);
    get_send(s, g);
}

/* ---- races ---- */
/* Asks another server for what the get still has to bring and somebody waits for. False: perhaps
 * later, as nobody waits yet, or it would be too much. */
static bool race_start(struct sync *s, struct get *g)
{
    bool awaited = false;
    struct get *h = calloc(1, sizeof *h);
    if (!h)
        abort();
    for (size_t i = 0; i < g->n; i++) {
        struct fetch_block *b = g->v[i];
        if (!b || !b->waits_n)
            continue;
        awaited = true;
        struct route *r = server_choose(s, b, g->route->server);
        if (!r || (h->route && r != h->route))
            continue;
        h->route = r;
        h->located = b->located && (!h->n || h->located);
        h->ids[h->n] = b->id;
        h->v[h->n++] = b;
    }
    h->paid = pace_bytes(&g->route->server->pace, h->n);
    bool start = h->n && pace_spend(&s->races, h->paid);
    if (start) {
        h->second = h->raced = true;
        s->races_n++;
        get_send(s, h);
        return true;
    }
    bool nobody = awaited && !h->n; /* no other server has it */
    free(h);
    return nobody;
}

static void races_step(struct sync *s)
{
    struct get *g;
    int64_t now = s->clock();
    if (!s->fs->opt.race_percent)
        return;
    LIST_FOREACH(g, &s->gets, link)
    {
        if (g->raced || g->answered)
            continue;
        int64_t late = g->started + pace_late_ms(&g->route->server->pace, g->n);
        if (late <= now && s->races_inflight < RACES_MAX)
            g->raced = race_start(s, g);
        if (!g->raced)
            sync_at(s, late > now ? late : now + PACE_LATE_MIN_MS);
    }
}

void fetch_step(struct sync *s)
{
    int64_t now = s->clock();
    size_t looked = 0;
    struct fetch_block *b = TAILQ_FIRST(&s->fetch_queue);
    while (b && s->gets_inflight < GETS_INFLIGHT_MAX && looked++ < FETCHES_MAX) {
        struct fetch_block *next = TAILQ_NEXT(b, link);
        if (b->not_before > now) {
            sync_at(s, b->not_before);
        } else if (!b->locating && b->ns->routes_n) {
            block_step(s, b);
            /* others may have left the queue with it */
            next = b->state == FETCH_QUEUED ? TAILQ_NEXT(b, link) : TAILQ_FIRST(&s->fetch_queue);
        }
        b = next;
    }
    races_step(s);
}

void fetch_free(struct sync *s)
{
    for (size_t i = 0; s->fetch_buckets && i < FETCH_BUCKETS; i++) {
        struct fetch_block *b;
        while ((b = s->fetch_buckets[i])) {
            s->fetch_buckets[i] = b->chain;
            free(b->waits);
            free(b);
        }
    }
    free(s->fetch_buckets);
}
