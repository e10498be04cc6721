// SPDX-License-Identifier: Apache-2.0
/* Copies between namespaces: the block servers are asked to have blocks of one namespace for
 * another one, too, before anything refers to them there.
 *
 * The receipts are kept as those of puts are, so that the commit that follows sends no bytes. What
 * is lost with a restart before that commit is asked for again with `have`: a link is durable.
 */
#include <errno.h>
#include <stdlib.h>

#include "sync_internal.h"

#define LINK_TIMEOUT_MS 20000

struct link_wait {
    struct waiter w;
    struct link_calls *calls;
};
struct link_calls { /* outlives the waiter */
    struct link_wait *wait;
    size_t left;
    bool failed;
};
struct link_call {
    struct link_calls *all;
    struct route *route;
    struct m_block_ref *refs;
    size_t n;
};

static void link_drop(struct sync *s, struct waiter *w)
{
    (void)s;
    ((struct link_wait *)(void *)w)->calls->wait = NULL;
}

static void link_done(struct sync *s, struct sync_call *c)
{
    struct link_call *l = c->arg;
    struct link_calls *all = l->all;
    struct arena cleanup_arena a = {0};
    struct m_put_ans m = {0};
    int bad = c->res.err ? c->res.err : call_decode(s, c, &m_put_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    call_server_end(c);
    if (c->res.err == -EACCES || c->res.err == -EPERM) /* one of both capabilities is too old */
        s->session_wanted = true;
    else if (c->res.err)
        server_failed(s, l->route->server, &c->res);
    all->failed |= bad || m.results_n != l->n;
    for (size_t i = 0; !all->failed && i < m.results_n; i++) {
        if (m.results[i].receipt.n)
            upload_linked(s, l->route, &l->refs[i], m.results[i].receipt);
        else
            all->failed = true;
    }
    if (--all->left == 0) {
        if (all->wait)
            waiter_end(s, &all->wait->w, all->failed ? -EXDEV : 0);
        free(all);
    }
    pthread_mutex_unlock(&s->fs->lock);
    free(l->refs);
    free(l);
    sync_wake(s);
}

/* The source's way to the server of r, if there is one. */
static struct route *source_of(struct sync_ns *from, const struct route *r)
{
    struct route *src = route_find(from, r->server->id);
    return src && src->listed && src->cap_n && r->cap_n && !r->server->backoff.fails ? src : NULL;
}

static void link_start(struct sync *s, struct link_calls *all, struct route *r,
                       const struct route *src, const struct m_block_ref *v, size_t n)
{
    struct link_call *l = calloc(1, sizeof *l);
    struct block_id *ids = calloc(n, sizeof *ids);
    if (!l || !ids || !(l->refs = calloc(n, sizeof *l->refs)))
        abort();
    l->all = all;
    l->route = r;
    l->n = n;
    for (size_t i = 0; i < n; i++) {
        l->refs[i] = v[i];
        ids[i] = v[i].block;
    }
    struct m_link_req q = {.ns = r->ns->id,
                           .capability = bytes_of(r->cap, r->cap_n),
                           .from = src->ns->id,
                           .from_capability = bytes_of(src->cap, src->cap_n),
                           .blocks = ids,
                           .blocks_n = n};
    struct buf cleanup_buf b = {0};
    msg_encode(&m_link_req_desc, &q, &b);
    all->left++;
    call_server(call_new(s, link_done, l), r->server, "link", bytes_of(b.p, b.n), NULL, 0,
                LINK_TIMEOUT_MS);
    free(ids);
}

uint64_t sync_link(struct sync *s, uint64_t from_ns, uint64_t to_ns, const struct m_block_ref *v,
                   size_t n, sync_done done, void *arg)
{
    struct sync_ns *from = sync_ns_find(s, from_ns), *to = sync_ns_find(s, to_ns);
    if (!from || !to || s->waiters_n >= SYNC_WAITERS_MAX || !targets_update(s, to))
        return 0;
    for (size_t i = 0; i < to->targets_n; i++)
        if (!source_of(from, route_find(to, to->targets[i])))
            return 0;
    struct link_calls *all = calloc(1, sizeof *all);
    struct link_wait *w = calloc(1, sizeof *w);
    if (!all || !w)
        abort();
    for (size_t i = 0; i < to->targets_n; i++) {
        struct route *r = route_find(to, to->targets[i]);
        for (size_t k = 0; k < n; k += PUT_BATCH_BLOCKS)
            link_start(s, all, r, source_of(from, r), v + k,
                       n - k < PUT_BATCH_BLOCKS ? n - k : PUT_BATCH_BLOCKS);
    }
    w->calls = all;
    all->wait = w;
    w->w.done = done;
    w->w.arg = arg;
    w->w.drop = link_drop;
    return waiter_add(s, &w->w, s->fs->opt.timeout_ms, -EXDEV);
}

bool sync_linked(struct sync *s, uint64_t to_ns, const struct m_block_ref *v, size_t n)
{
    struct sync_ns *to = sync_ns_find(s, to_ns);
    bool all = to && targets_update(s, to);
    for (size_t i = 0; all && i < n; i++)
        for (size_t k = 0; all && k < to->targets_n; k++) {
            const struct upload *u = upload_find(s, route_find(to, to->targets[k]), &v[i].block);
            all = u && (u->state == UPLOAD_RECEIPT || u->state == UPLOAD_PRESENT);
        }
    return all;
}

/* ---- what came from another namespace -----------------------------------------------------------
 *
 * A server that was asked to have a block for a namespace, too, can fail before the commit that
 * names the block. Then it is fetched through the namespace that it came from. Which one that was
 * is not kept: there are few, and who does not have it says so at once.
 */
struct borrow {
    struct sync *s;
    uint64_t ns, server; /* of the upload: it may be gone by then */
    struct block_id id;
    size_t next; /* of s->nss */
};

static struct upload *borrower(const struct borrow *b)
{
    struct sync_ns *ns = sync_ns_find(b->s, b->ns);
    struct route *r = ns ? route_find(ns, b->server) : NULL;
    struct upload *u = r ? upload_find(b->s, r, &b->id) : NULL;
    return u && u->state == UPLOAD_SOUGHT ? u : NULL;
}

static void borrow_done(void *arg, int err);

/* Asks the next namespace, or ends. */
static void borrow_go_on(struct borrow *b, struct upload *u)
{
    struct sync *s = b->s;
    while (b->next < s->nss_n) {
        const struct sync_ns *from = s->nss[b->next++];
        if (from->id == b->ns || !from->listed)
            continue;
        sync_fetch(s, from->id, &b->id, 1, borrow_done, b);
        return;
    }
    upload_sought(s, u, (struct bytes){0}, false);
    free(b);
}

/* [not locked] */
static void borrow_done(void *arg, int err)
{
    struct borrow *b = arg;
    struct sync *s = b->s;
    pthread_mutex_lock(&s->fs->lock);
    struct upload *u = borrower(b);
    if (u && err) {
        borrow_go_on(b, u);
    } else {
        if (u)
            upload_sought(s, u, (struct bytes){0}, false);
        free(b);
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

void link_borrow(struct sync *s, struct upload *u)
{
    struct borrow *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    *b = (struct borrow){
        .s = s, .ns = u->route->ns->id, .server = u->route->server->id, .id = u->id};
    borrow_go_on(b, u);
}

/* ---- what is there without our knowing ---------------------------------------------------------
 */
struct seek {
    struct route *route;
    struct upload **v;
    size_t n;
};

static void seek_done(struct sync *s, struct sync_call *c)
{
    struct seek *k = c->arg;
    struct arena cleanup_arena a = {0};
    struct m_put_ans m = {0};
    int bad = c->res.err ? c->res.err : call_decode(s, c, &m_put_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    k->route->seeking = false;
    call_server_end(c);
    if (c->res.err)
        route_failed(s, k->route, ROUTE_WRITE, &c->res);
    for (size_t i = 0; i < k->n; i++) {
        k->v[i]->refs--;
        bool there = !bad && i < m.results_n && m.results[i].receipt.n &&
                     block_id_equal(&m.results[i].block, &k->v[i]->id);
        upload_sought(s, k->v[i], there ? m.results[i].receipt : (struct bytes){0}, true);
    }
    pthread_mutex_unlock(&s->fs->lock);
    free(k->v);
    free(k);
    sync_wake(s);
}

void seek_step(struct sync *s, struct route *r)
{
    struct upload *u;
    if (TAILQ_EMPTY(&r->seek) || r->seeking || !r->cap_n || r->server->backoff.fails ||
        route_refused(s, r, ROUTE_WRITE))
        return;
    struct seek *k = calloc(1, sizeof *k);
    struct block_id *ids = calloc(PUT_BATCH_BLOCKS, sizeof *ids);
    if (!k || !ids || !(k->v = calloc(PUT_BATCH_BLOCKS, sizeof(struct upload *))))
        abort();
    k->route = r;
    while (k->n < PUT_BATCH_BLOCKS && (u = TAILQ_FIRST(&r->seek))) {
        TAILQ_REMOVE(&r->seek, u, link);
        u->state = UPLOAD_SOUGHT;
        u->refs++;
        ids[k->n] = u->id;
        k->v[k->n++] = u;
    }
    struct m_get_req q = {
        .ns = r->ns->id, .capability = bytes_of(r->cap, r->cap_n), .blocks = ids, .blocks_n = k->n};
    struct buf cleanup_buf b = {0};
    msg_encode(&m_get_req_desc, &q, &b);
    r->seeking = true;
    call_server(call_new(s, seek_done, k), r->server, "have", bytes_of(b.p, b.n), NULL, 0,
                LINK_TIMEOUT_MS);
    free(ids);
}
