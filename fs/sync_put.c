// SPDX-License-Identifier: Apache-2.0
/* Puts (A8): batches of blocks that a target lacks, several under way at a time.
 *
 * Small batches are read from the outbox on the driver thread at once; large ones are read by a
 * worker, so that a long upload does not delay a barrier's decisions. A batch holds blocks of one
 * class only, and each class has its own places, so that a barrier's block never waits behind
 * background traffic.
 *
 * An eager put takes fresh small blocks to the target while the question about them is under way.
 * If the question says that the target has them, a little traffic was wasted; if not, a round trip
 * was saved.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "sync_internal.h"
#include "token.h"

#define RELAY_AGAIN_MS 5000      /* after another server did not pass a batch on */
#define RELAY_BUSY_MS 100        /* … because it does so for others: this long, and … */
#define RELAY_BUSY_RANDOM_MS 300 /* … up to this at random, so that all have a turn */
#define PUT_BARRIER_BYTES PUT_BATCH_BYTES
#define PUT_BACKGROUND_BYTES (8u << 20)
#define PUT_RELAYED_BYTES (1u << 20) /* or one block: the link between the servers may be slow */
#define PUT_EAGER_BYTES (64u << 10)
#define PUT_TIMEOUT_MS 20000
#define PUT_SLOWEST 64 /* bytes per ms that a put may take long for: 64 KiB/s */

struct batch {
    struct sync_job job;
    struct route *route, *via; /* via: who is to pass it on, or NULL */
    enum upload_class class;
    bool eager;
    bool flows; /* it tells of the speed */
    size_t n, bytes;
    struct batch_block {
        struct upload *u;
        bool unreadable;
    } * v;
    /* what is sent: those that could be read */
    struct m_put_item *items;
    struct bytes *raw;
    size_t items_n;
    uint8_t *data;
};

static void batch_free(struct sync *s, struct batch *b)
{
    s->put_bytes -= b->bytes;
    b->route->server->put_bytes -= b->bytes;
    free(b->data);
    free(b->raw);
    free(b->items);
    free(b->v);
    free(b);
}

static void batch_read(struct sync *s, struct sync_job *j)
{
    struct batch *b = (struct batch *)(void *)j;
    size_t at = 0;
    b->data = malloc(b->bytes + 1);
    if (!b->data)
        abort();
    for (size_t i = 0; i < b->n; i++) {
        const struct upload *u = b->v[i].u;
        int err = blocks_read(s->fs->blocks, &u->id, 0, b->data + at, u->len);
        if (err) {
            b->v[i].unreadable = true;
            continue;
        }
        b->items[b->items_n] =
            (struct m_put_item){.block = u->id, .stored_len = u->len, .logical_len = u->len};
        b->raw[b->items_n++] = bytes_of(b->data + at, u->len);
        at += u->len;
    }
}

static void put_trace(struct sync *s, const char *step, const struct batch *b)
{
    if (!trace_on(s->fs->log))
        return;
    struct block_id ids[PUT_BATCH_BLOCKS];
    for (size_t i = 0; i < b->items_n; i++)
        ids[i] = b->items[i].block;
    struct trace t = trace_begin(s->fs->log, step);
    trace_u64(&t, "ns", b->route->ns->id);
    trace_u64(&t, "target", b->route->server->id);
    trace_ids(&t, "ids", ids, b->items_n);
    if (b->eager)
        trace_u64(&t, "eager", 1);
    trace_end(&t);
}

/* Back to the queue, first in the same order, or to the answer that its question will bring. */
static void batch_requeue(struct sync *s, struct batch *b)
{
    for (size_t i = b->n; i-- > 0;) {
        struct upload *u = b->v[i].u;
        u->eager = false;
        u->refs--;
        if (u->state == UPLOAD_PUTTING)
            upload_requeue(s, u);
    }
}

/* The server says that these are not the bytes that the id names. It looks at all bytes anyway;
 * here they are looked at only now. False: they are. */
static bool batch_damaged(struct sync *s, const struct batch *b, struct upload *u)
{
    for (size_t i = 0; i < b->items_n; i++) {
        if (!block_id_equal(&b->items[i].block, &u->id) ||
            block_id_matches(&u->id, b->raw[i].p, b->raw[i].n))
            continue;
        blocks_damaged(s->fs->blocks, &u->id, b->raw[i].p, (uint32_t)b->raw[i].n);
        upload_unreadable(s, u);
        return true;
    }
    return false;
}

static void batch_answer(struct sync *s, struct batch *b, const struct m_put_ans *m)
{
    struct route *r = b->route;
    for (size_t i = 0; i < b->n; i++)
        b->v[i].u->eager = false;
    for (size_t i = 0; i < m->results_n; i++) {
        const struct m_put_result *p = &m->results[i];
        struct upload *u = upload_find(s, r, &p->block);
        if (!u)
            continue;
        if (p->receipt.n) {
            if (u->state == UPLOAD_PUTTING || u->state == UPLOAD_ASKED)
                upload_receipt(s, u, p->receipt);
            continue;
        }
        if (p->error == ERR_BAD_MESSAGE && batch_damaged(s, b, u))
            continue;
        struct rpc_result full = {.err = p->error == ERR_FULL ? -ENOSPC : -EIO};
        snprintf(full.message, sizeof full.message,
                 p->error == ERR_FULL
                     ? "%s is full: free space there or assign another block server"
                     : "%s refuses a block",
                 r->server->url);
        server_failed(s, r->server, &full);
        ns_error(s, r->ns, "%s", full.message);
    }
    batch_requeue(s, b); /* what no result named or what was refused */
}

/* It was not passed on. */
static void relay_failed(struct sync *s, struct batch *b, const struct rpc_result *r)
{
    if (r->err == -EBUSY) {
        uint32_t random;
        random_bytes(&random, sizeof random);
        b->route->relay_busy = s->clock() + RELAY_BUSY_MS + random % RELAY_BUSY_RANDOM_MS;
        return;
    }
    if (!r->status) /* nor was who should have done it reached */
        server_failed(s, b->via->server, r);
    if (r->err == -EACCES || r->err == -EPERM)
        s->session_wanted = true;
    b->route->relay_after = s->clock() + RELAY_AGAIN_MS;
    b->route->ns->targets_at = 0;
    if (r->err != -ECANCELED)
        log_printf(s->fs->log, LOG_L_INFO, "%s: %s", b->route->server->premises, r->message);
}

static void put_done(struct sync *s, struct sync_call *c)
{
    struct batch *b = c->arg;
    struct route *r = b->route;
    struct arena cleanup_arena a = {0};
    struct m_put_ans m = {0};
    if (!c->res.err && call_decode(s, c, &m_put_ans_desc, &m, &a))
        c->res.err = -EBADMSG;
    pthread_mutex_lock(&s->fs->lock);
    r->puts[b->class]--;
    call_server_end(c);
    if (b->flows)
        flow_end(&c->server->up, s->clock(), (double)b->bytes, c->res.err ? 0 : (double)b->bytes,
                 c->server->pace.latency_ms);
    if (!c->res.err) {
        put_trace(s, "put", b);
        ops_log(s, r->ns->id, 0, &c->ops, "%s has %zu blocks", r->server->premises, b->items_n);
        server_ok(s, c->server, c->res.seconds, b->bytes, 0);
        pace_earn(&s->trials, (double)b->bytes, TRIAL_PERCENT);
        route_ok(r, ROUTE_WRITE);
        batch_answer(s, b, &m);
    } else if (b->via && c->res.err != -EDQUOT) {
        relay_failed(s, b, &c->res);
        batch_requeue(s, b);
    } else {
        if (c->res.err == -ENOSPC && !c->res.message[0])
            snprintf(c->res.message, sizeof c->res.message, "%s is full", r->server->url);
        route_failed(s, r, ROUTE_WRITE, &c->res);
        if (c->res.err != -ECANCELED)
            ns_error(s, r->ns, "%s: %s", r->server->premises, c->res.message);
        batch_requeue(s, b);
    }
    batch_free(s, b);
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

void put_abandon(struct sync *s, const struct route *r)
{
    struct sync_call *c;
    LIST_FOREACH(c, &r->server->calls, server_link)
    {
        const struct batch *b = c->arg;
        if (c->fn == put_done && b->route == r && b->flows)
            rpc_cancel(s->rpc, c->id);
    }
}

/* [locked] Sends what was read. */
static void batch_send(struct sync *s, struct batch *b)
{
    struct route *r = b->route;
    for (size_t i = 0; i < b->n; i++)
        if (b->v[i].unreadable)
            upload_unreadable(s, b->v[i].u);
    /* it was gathered for a server that has become unreachable since: in smaller batches */
    bool too_large = r->via && b->items_n > 1 && b->bytes > PUT_RELAYED_BYTES;
    if (!b->items_n || too_large || s->stopping) {
        r->puts[b->class]--;
        batch_requeue(s, b);
        batch_free(s, b);
        return;
    }
    struct m_put_head h = {.ns = r->ns->id,
                           .capability = bytes_of(r->cap, r->cap_n),
                           .items = b->items,
                           .items_n = b->items_n};
    b->via = r->via;
    if (b->via) {
        h.relay = r->server->id;
        h.relay_capability = h.capability;
        h.capability = bytes_of(b->via->cap, b->via->cap_n);
    }
    struct buf cleanup_buf head = {0};
    frame_head(&m_put_head_desc, &h, &head);
    put_trace(s, "A8", b);
    struct sync_call *c = call_new(s, put_done, b);
    for (size_t i = 0; i < b->n; i++)
        ops_add(&c->ops, b->v[i].u->op);
    ops_log(s, h.ns, 0, &c->ops, "put of %zu blocks to %s", b->items_n, r->server->premises);
    c->expendable = b->bytes <= PUT_INLINE_BYTES;
    b->flows = !b->via && b->bytes > PUT_INLINE_BYTES;
    if (b->flows)
        flow_begin(&r->server->up, s->clock(), (double)b->bytes);
    if (b->class == UPLOAD_BARRIER) { /* once it is on its way, its commit can be planned */
        r->put_turn = s->turns;
        sync_at(s, s->clock());
    }
    unsigned timeout_ms = PUT_TIMEOUT_MS + (unsigned)(b->bytes / PUT_SLOWEST);
    call_server(c, b->via ? b->via->server : r->server, "put", bytes_of(head.p, head.n), b->raw,
                b->items_n, b->via ? 2 * timeout_ms : timeout_ms); /* it goes over two links */
}

static void batch_was_read(struct sync *s, struct sync_event *e)
{
    struct batch *b = (struct batch *)(void *)e;
    pthread_mutex_lock(&s->fs->lock);
    batch_send(s, b);
    pthread_mutex_unlock(&s->fs->lock);
}

static void batch_start(struct sync *s, struct batch *b)
{
    b->route->puts[b->class]++;
    s->put_bytes += b->bytes;
    b->route->server->put_bytes += b->bytes;
    if (b->bytes <= PUT_INLINE_BYTES) {
        batch_read(s, &b->job);
        batch_send(s, b);
        return;
    }
    b->job.run = batch_read;
    b->job.ev.fn = batch_was_read;
    sync_job_start(s, &b->job);
}

static struct batch *batch_new(struct route *r, enum upload_class class, size_t n)
{
    struct batch *b = calloc(1, sizeof *b);
    if (!b || !(b->v = calloc(n, sizeof *b->v)) || !(b->items = calloc(n, sizeof *b->items)) ||
        !(b->raw = calloc(n, sizeof *b->raw)))
        abort();
    b->route = r;
    b->class = class;
    return b;
}

/* The first blocks of the queue, as many as fit. */
static struct batch *batch_of_queue(struct route *r, enum upload_class class)
{
    size_t max = class == UPLOAD_BARRIER ? PUT_BARRIER_BYTES : PUT_BACKGROUND_BYTES, n = 0,
           bytes = 0;
    if (r->via)
        max = PUT_RELAYED_BYTES;
    struct upload *u;
    TAILQ_FOREACH(u, &r->put[class], link)
    {
        if (n == PUT_BATCH_BLOCKS || (n && bytes + u->len > max))
            break;
        bytes += u->len;
        n++;
    }
    struct batch *b = batch_new(r, class, n);
    b->bytes = bytes;
    while (b->n < n) {
        u = TAILQ_FIRST(&r->put[class]);
        TAILQ_REMOVE(&r->put[class], u, link);
        u->state = UPLOAD_PUTTING;
        u->refs++;
        b->v[b->n++].u = u;
    }
    return b;
}

/* The background may have as much under way to one server as it leaves free for the others: so any
 * number of servers that stand still leave a share to the next one. */
static bool put_room(const struct sync *s, const struct route *r)
{
    return s->put_bytes + r->server->put_bytes < PUT_INFLIGHT_BYTES;
}

void put_step(struct sync *s, struct route *r)
{
    if ((r->server->backoff.fails && !r->via) || !r->cap_n)
        return;
    if (route_refused(s, r, ROUTE_WRITE))
        return;
    if (r->via && r->relay_busy > s->clock()) {
        sync_at(s, r->relay_busy);
        return;
    }
    unsigned max = r->via ? 1 : PUTS_INFLIGHT_MAX; /* passing on keeps the other server waiting */
    for (enum upload_class c = 0; c < UPLOAD_CLASSES; c++)
        while (!TAILQ_EMPTY(&r->put[c]) && r->puts[c] < max &&
               (put_room(s, r) || c == UPLOAD_BARRIER))
            batch_start(s, batch_of_queue(r, c));
}

void put_eager(struct sync *s, struct route *r, struct upload *const *v, size_t n)
{
    if (r->server->backoff.fails || !r->cap_n || route_refused(s, r, ROUTE_WRITE) ||
        r->puts[UPLOAD_BARRIER] >= PUTS_INFLIGHT_MAX)
        return;
    if (n > PUT_BATCH_BLOCKS)
        n = PUT_BATCH_BLOCKS;
    struct batch *b = batch_new(r, UPLOAD_BARRIER, n);
    b->eager = true;
    for (size_t i = 0; i < n; i++) {
        if (b->bytes + v[i]->len > PUT_EAGER_BYTES || !blocks_has(s->fs->blocks, &v[i]->id, NULL))
            continue;
        v[i]->eager = true;
        v[i]->refs++;
        b->bytes += v[i]->len;
        b->v[b->n++].u = v[i];
    }
    if (!b->n) {
        batch_free(s, b);
        return;
    }
    batch_start(s, b);
}
