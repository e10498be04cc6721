// SPDX-License-Identifier: Apache-2.0
/* One other block server.
 *
 * Push (F4 to F7): tasks that are due are offered, a batch of one namespace at a time; what is
 * accepted is put, what the other has counts as done, what somebody else is bringing is offered
 * again later. A task goes when the other has answered that the block is durable there; a crash
 * before that offers it again, and nothing is accepted.
 *
 * Pull (F8): blocks that this server lacks and the other has are fetched and stored, and their
 * arrival is reported. A server that can only be reached, or can only reach others, is served by
 * one of the two.
 *
 * A server that does not answer is left alone for a while that grows, and each failure is logged
 * once.
 */
#include "replicate_int.h"

#include "blockid.h"
#include "feed.h"
#include "frame.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void peer_poke(struct peer *p)
{
    p->poked = true;
    pthread_cond_signal(&p->cond);
}

static void peer_failed(struct peer *p, const char *message)
{
    pthread_mutex_lock(&p->r->lock);
    uint32_t random;
    random_bytes(&random, sizeof random);
    int64_t pause = p->fails < 5 ? 1000ll << p->fails : PEER_BACKOFF_MAX_MS;
    if (pause > PEER_BACKOFF_MAX_MS)
        pause = PEER_BACKOFF_MAX_MS;
    p->retry_at = mono_ms() + pause / 2 + (int64_t)(random % (uint32_t)(pause / 2 + 1));
    bool news = !p->fails++ || strcmp(p->error, message) != 0;
    char premises[sizeof p->premises];
    memcpy(premises, p->premises, sizeof premises);
    snprintf(p->error, sizeof p->error, "%s", message);
    pthread_mutex_unlock(&p->r->lock);
    if (news)
        log_printf(p->r->o.log, LOG_L_WARN, "replication with %s: %s", premises, message);
}

static void peer_worked(struct peer *p)
{
    pthread_mutex_lock(&p->r->lock);
    bool news = p->fails > 0;
    p->fails = 0;
    p->retry_at = 0;
    if (news || p->silent)
        backlog_peer_back(p);
    p->silent = false;
    char premises[sizeof p->premises];
    memcpy(premises, p->premises, sizeof premises);
    pthread_mutex_unlock(&p->r->lock);
    if (news)
        log_printf(p->r->o.log, LOG_L_INFO, "replication with %s: it answers", premises);
}

/* It could not be asked for blocks. What it does not take says nothing about what it gives. */
static void peer_gave_nothing(struct peer *p)
{
    pthread_mutex_lock(&p->r->lock);
    p->silent = true;
    wants_drop_holder(p->r->wants, p->id);
    pthread_mutex_unlock(&p->r->lock);
}

static bool peer_silent(struct peer *p)
{
    pthread_mutex_lock(&p->r->lock);
    bool silent = p->silent;
    pthread_mutex_unlock(&p->r->lock);
    return silent;
}

/* How long a call that moves so many bytes may take in all. */
static unsigned peer_deadline_ms(size_t bytes)
{
    return PEER_TIMEOUT_MS + (unsigned)(bytes / PEER_SLOWEST);
}

int64_t replicate_claim_ms(uint64_t bytes)
{
    return (int64_t)peer_deadline_ms(bytes < MOVE_BYTES ? bytes : MOVE_BYTES) + CLAIM_SPARE_MS;
}

/* A fresh capability, or what keys are good now, may help. */
static void table_stale(struct replicate *r)
{
    pthread_mutex_lock(&r->lock);
    r->refresh_at = 0;
    follow_poke(r);
    pthread_mutex_unlock(&r->lock);
}

/* A call to the peer; 0 or what failed, which is noted. */
static int ask(struct peer *p, const char *method, struct bytes head, const struct bytes *raw,
               size_t raw_n, size_t bytes, struct rpc_result *res)
{
    char url[sizeof p->url];
    pthread_mutex_lock(&p->r->lock);
    struct rpc_pins pins = p->pins;
    memcpy(url, p->url, sizeof url);
    pthread_mutex_unlock(&p->r->lock);
    int err = call_raw(p->r, p->r->peers_rpc, &p->call,
                       &(struct rpc_call){.url = url,
                                          .method = method,
                                          .head = head,
                                          .bodies = raw,
                                          .bodies_n = raw_n,
                                          .anonymous = true,
                                          .pins = &pins,
                                          .timeout_ms = peer_deadline_ms(bytes)},
                       res);
    if (err == -EACCES || err == -EPERM || err == -EKEYREVOKED)
        table_stale(p->r);
    if (err && err != -ECANCELED)
        peer_failed(p, res->message);
    else if (!err)
        peer_worked(p);
    if (err && err != -ECANCELED && !strcmp(method, "get"))
        peer_gave_nothing(p);
    return err;
}

/* The capability for the namespace at the peer; empty: none. Lives in the arena. */
static struct bytes capability_of(struct peer *p, uint64_t ns, bool write, struct arena *a)
{
    struct bytes cap = {0};
    pthread_mutex_lock(&p->r->lock);
    const struct member *m = table_member(p->r, ns, p->id);
    if (m && !(write && m->leaving))
        cap = arena_bytes(a, m->cap, m->cap_n);
    pthread_mutex_unlock(&p->r->lock);
    return cap;
}

/* ---- push: put ----------------------------------------------------------------------------- */

/* A batch being put together; blocks are read one behind the other. */
struct batch {
    struct peer *p;
    uint64_t ns;
    struct buf data;
    struct task tasks[OFFER_BLOCKS];
    struct m_put_item items[OFFER_BLOCKS];
    size_t n;
};

/* Tasks whose block the peer did not take wait for a while. */
static void settle(struct batch *b, const struct m_put_ans *m)
{
    struct task done[OFFER_BLOCKS], later[OFFER_BLOCKS];
    size_t done_n = 0, later_n = 0;
    for (size_t i = 0; i < b->n; i++) {
        bool stored = false;
        for (size_t k = 0; k < m->results_n && !stored; k++)
            stored =
                m->results[k].receipt.n && block_id_equal(&m->results[k].block, &b->tasks[i].block);
        if (stored) {
            done[done_n++] = b->tasks[i];
            atomic_fetch_add(&b->p->sent, b->items[i].stored_len);
        } else {
            later[later_n++] = b->tasks[i];
        }
    }
    tasks_done(b->p->r->tasks, done, done_n);
    tasks_later(b->p->r->tasks, later, later_n, mono_ms() + REFUSED_LATER_MS);
}

static int batch_send(struct batch *b)
{
    struct arena a cleanup_arena = {0};
    struct buf head cleanup_buf = {0};
    struct rpc_result res = {0};
    struct m_put_ans ans = {0};
    if (!b->n || !rate_take(b->p->r, b->data.n))
        return b->n ? -ECANCELED : 0;
    struct bytes cap = capability_of(b->p, b->ns, true, &a); /* what was offered with may be old */
    if (!cap.n)
        return -EACCES;
    struct m_put_head h = {.ns = b->ns, .capability = cap, .items = b->items, .items_n = b->n};
    struct bytes raw = bytes_of(b->data.p, b->data.n);
    frame_head(&m_put_head_desc, &h, &head);
    int err = ask(b->p, "put", bytes_of(head.p, head.n), &raw, 1, raw.n, &res);
    if (!err && msg_decode(&m_put_ans_desc, &ans, res.body.p, res.body.n, MSG_LENIENT, &a, NULL)) {
        err = -EBADMSG;
        peer_failed(b->p, "its answer to put is unreadable");
    }
    if (!err)
        settle(b, &ans);
    buf_free(&res.body);
    b->n = 0;
    b->data.n = 0;
    return err;
}

/* It was to be given from here. (Where it was collected since, nothing is recorded of it.) */
static void not_here(struct replicate *r, uint64_t ns, const struct block_id *id)
{
    if (r->o.told.missing)
        r->o.told.missing(r->o.told.arg, ns, id);
}

/* Reads the task's block behind the others; what is not here, or is damaged, cannot be given. */
static int batch_add(struct batch *b, const struct task *t)
{
    struct replicate *r = b->p->r;
    size_t start = b->data.n;
    uint64_t logical = 0;
    int err = checked_get(r->o.storage, &r->o.told, b->ns, &t->block, &b->data, &logical);
    if (err == -ENOENT)
        not_here(r, b->ns, &t->block);
    if (err) {
        return err == -EIO ? tasks_later(r->tasks, t, 1, mono_ms() + REFUSED_LATER_MS)
                           : tasks_done(r->tasks, t, 1);
    }
    b->tasks[b->n] = *t;
    b->items[b->n++] = (struct m_put_item){
        .block = t->block, .stored_len = b->data.n - start, .logical_len = logical};
    return b->data.n >= MOVE_BYTES || b->n == OFFER_BLOCKS ? batch_send(b) : 0;
}

/* ---- push: offer --------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    return block_id_compare(a, b);
}

static bool id_in(const struct block_id *v, size_t n, const struct block_id *id)
{
    return n && bsearch(id, v, n, sizeof *v, by_id);
}

static int offer(struct peer *p, uint64_t ns, struct bytes cap, const struct m_block_ref *v,
                 size_t n, struct m_offer_ans *ans, struct arena *a)
{
    struct buf b cleanup_buf = {0};
    struct rpc_result res = {0};
    struct m_offer_req q = {
        .ns = ns, .capability = cap, .blocks = (struct m_block_ref *)v, .blocks_n = n};
    msg_encode(&m_offer_req_desc, &q, &b);
    atomic_fetch_add(&p->r->offered, n);
    int err = ask(p, "offer", bytes_of(b.p, b.n), NULL, 0, 0, &res);
    struct bytes copy = arena_bytes(a, res.body.p, res.body.n);
    buf_free(&res.body);
    if (!err && msg_decode(&m_offer_ans_desc, ans, copy.p, copy.n, MSG_LENIENT, a, NULL)) {
        peer_failed(p, "its answer to offer is unreadable");
        err = -EBADMSG;
    }
    if (err)
        return err;
    if (ans->accepted_n)
        qsort(ans->accepted, ans->accepted_n, sizeof *ans->accepted, by_id);
    if (ans->later_n)
        qsort(ans->later, ans->later_n, sizeof *ans->later, by_id);
    atomic_fetch_add(&p->r->accepted, ans->accepted_n);
    return 0;
}

/* Offers the tasks (all of one namespace) and puts what is accepted. */
static int push(struct peer *p, const struct task *v, size_t n, struct bytes cap)
{
    struct arena a cleanup_arena = {0};
    struct replicate *r = p->r;
    struct m_offer_ans ans = {0};
    struct block_id ids[OFFER_BLOCKS];
    struct storage_info info[OFFER_BLOCKS];
    struct m_block_ref refs[OFFER_BLOCKS];
    struct task there[OFFER_BLOCKS], other[OFFER_BLOCKS];
    size_t refs_n = 0, other_n = 0;
    for (size_t i = 0; i < n; i++)
        ids[i] = v[i].block;
    int err = r->o.storage->ops->have(r->o.storage, v[0].ns, ids, n, info);
    for (size_t i = 0; i < n && !err; i++) {
        if (!info[i].there) {
            not_here(r, v[i].ns, &v[i].block);
            other[other_n++] = v[i];
            continue;
        }
        there[refs_n] = v[i];
        refs[refs_n++] = (struct m_block_ref){.block = v[i].block, .len = info[i].logical_len};
    }
    if (!err)
        err = tasks_done(r->tasks, other, other_n); /* who has it will bring it */
    if (err || !refs_n)
        return err;
    err = offer(p, v[0].ns, cap, refs, refs_n, &ans, &a);
    if (err)
        return err;
    struct batch *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->p = p;
    b->ns = v[0].ns;
    other_n = 0;
    size_t later_n = 0;
    struct task later[OFFER_BLOCKS];
    for (size_t i = 0; i < refs_n && !err; i++) {
        if (id_in(ans.accepted, ans.accepted_n, &there[i].block))
            err = batch_add(b, &there[i]);
        else if (id_in(ans.later, ans.later_n, &there[i].block))
            later[later_n++] = there[i];
        else
            other[other_n++] = there[i];
    }
    if (!err)
        err = batch_send(b);
    tasks_done(r->tasks, other, other_n);
    tasks_later(r->tasks, later, later_n, mono_ms() + LATER_MS);
    if (later_n == OFFER_BLOCKS) /* no room there: all the others would come back, too */
        p->offer_at = mono_ms() + LATER_MS;
    buf_free(&b->data);
    free(b);
    return err;
}

/* True: something was done, there may be more. */
static bool push_once(struct peer *p, int64_t *next_ms)
{
    struct arena a cleanup_arena = {0};
    struct task v[OFFER_BLOCKS];
    size_t n;
    if (p->offer_at > mono_ms()) {
        *next_ms = p->offer_at;
        return false;
    }
    if (tasks_due(p->r->tasks, p->id, mono_ms(), OFFER_BLOCKS, v, &n, next_ms))
        return false;
    if (!n) {
        pthread_mutex_lock(&p->r->lock);
        if (!p->idle)
            follow_poke(p->r);
        p->idle = true;
        pthread_mutex_unlock(&p->r->lock);
        return false;
    }
    if (!rate_take(p->r, 0)) /* nothing is offered that cannot be brought now */
        return false;
    struct bytes cap = capability_of(p, v[0].ns, true, &a);
    if (!cap.n) /* it is no member any more */
        return tasks_done(p->r->tasks, v, n) == 0;
    return push(p, v, n, cap) == 0;
}

/* ---- for clients ----------------------------------------------------------------------------- */
int replicate_relay(struct replicate *r, uint64_t ns, uint64_t server, struct bytes head,
                    struct bytes raw, struct rpc_result *res)
{
    char url[sizeof((struct peer *)NULL)->url] = "";
    struct rpc_pins pins = {0};
    uint64_t slot;
    if (r) {
        pthread_mutex_lock(&r->lock);
        bool member = table_member(r, ns, server) != NULL;
        for (size_t i = 0; i < r->peers_n && member; i++)
            if (r->peers[i]->id == server) {
                memcpy(url, r->peers[i]->url, sizeof url);
                pins = r->peers[i]->pins;
            }
        pthread_mutex_unlock(&r->lock);
    }
    if (!*url) {
        snprintf(res->message, sizeof res->message, "it is no server of the namespace");
        return res->err = -ENOENT;
    }
    int err = call_raw(r, r->peers_rpc, &slot,
                       &(struct rpc_call){.url = url,
                                          .method = "put",
                                          .head = head,
                                          .body = raw,
                                          .anonymous = true,
                                          .pins = &pins,
                                          .timeout_ms = peer_deadline_ms(raw.n)},
                       res);
    if (err == -EKEYREVOKED)
        table_stale(r);
    return err;
}

/* ---- pull ---------------------------------------------------------------------------------- */

static bool wants_any(struct peer *p)
{
    pthread_mutex_lock(&p->r->lock);
    bool any = wants_of(p->r->wants, p->id) > 0;
    pthread_mutex_unlock(&p->r->lock);
    return any;
}

static bool claim(void *arg, const struct block_id *id)
{
    return inbound_claim(arg, id, INBOUND_SELF, mono_ms(), replicate_claim_ms(MOVE_BYTES));
}

/* Blocks of one namespace that the peer has; nobody else brings them from now on. */
static size_t pull_take(struct peer *p, struct want **v)
{
    struct replicate *r = p->r;
    pthread_mutex_lock(&r->lock);
    size_t n = wants_take(r->wants, p->id, claim, r->inbound, v, PULL_BLOCKS);
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* The wants are no longer busy; those that arrived, or that nobody is left for, go. */
static void pull_give(struct peer *p, struct want *const *v, const enum want_end *end, size_t n)
{
    struct replicate *r = p->r;
    for (size_t i = 0; i < n; i++)
        inbound_release(r->inbound, &v[i]->id);
    pthread_mutex_lock(&r->lock);
    wants_give(r->wants, p->id, v, end, n);
    follow_poke(r); /* there is room for more */
    pthread_mutex_unlock(&r->lock);
}

/* The bytes are the block's, and as long as is said, since the length is reported, too. */
static bool item_right(const struct m_get_item *m, const uint8_t *bytes)
{
    if (m->block.b[0] == BLOCK_KIND_SHA256 && m->logical_len != m->stored_len)
        return false;
    return m->stored_len && m->logical_len && m->logical_len <= BLOCK_MAX &&
           block_id_matches(&m->block, bytes, m->stored_len);
}

/* Stores what the answer brings of the wanted blocks. */
static void take_blocks(struct peer *p, uint64_t ns, struct bytes body, struct want *const *v,
                        enum want_end *end, size_t n)
{
    struct arena a cleanup_arena = {0};
    struct replicate *r = p->r;
    struct storage_put puts[PULL_BLOCKS];
    size_t at = 0, of[PULL_BLOCKS], puts_n = 0;
    bool seen[PULL_BLOCKS] = {0};
    struct bytes head, raw;
    struct m_get_head h;
    if (frame_split(body, &head, &raw) ||
        msg_decode(&m_get_head_desc, &h, head.p, head.n, MSG_LENIENT, &a, NULL))
        return;
    for (size_t i = 0; i < h.items_n && h.items[i].stored_len <= raw.n - at; i++) {
        const struct m_get_item *m = &h.items[i];
        const uint8_t *bytes = raw.p + at;
        size_t k = 0;
        at += m->stored_len;
        while (k < n && !block_id_equal(&v[k]->id, &m->block))
            k++;
        if (k == n || seen[k])
            continue;
        if (m->error == ERR_UNAVAILABLE)
            end[k] = WANT_AGAIN;
        if (m->error || !item_right(m, bytes))
            continue;
        seen[k] = true;
        of[puts_n] = k;
        puts[puts_n++] = (struct storage_put){.id = m->block,
                                              .stored = bytes_of(bytes, m->stored_len),
                                              .logical_len = m->logical_len};
    }
    if (puts_n)
        r->o.storage->ops->put(r->o.storage, ns, puts, puts_n);
    for (size_t i = 0; i < puts_n; i++) {
        if (puts[i].damaged && r->o.told.lost)
            r->o.told.lost(r->o.told.arg, &puts[i].id, 0);
        if (puts[i].err == -ENOSPC) {
            replicate_no_room(r);
            end[of[i]] = WANT_AGAIN; /* the peer has it */
        }
        if (puts[i].err)
            continue;
        end[of[i]] = WANT_ARRIVED;
        atomic_fetch_add(&p->received, puts[i].stored.n);
        replicate_arrived(r, ns, &puts[i].id, puts[i].logical_len);
    }
}

/* Those that came meanwhile, by a client's put, are reported; the others are to be asked for. */
static size_t pull_still(struct peer *p, uint64_t ns, struct want *const *v, size_t n,
                         enum want_end *end, struct block_id *ids)
{
    struct replicate *r = p->r;
    struct storage_info info[PULL_BLOCKS];
    size_t left = 0;
    for (size_t i = 0; i < n; i++)
        ids[i] = v[i]->id;
    if (r->o.storage->ops->have(r->o.storage, ns, ids, n, info))
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (!info[i].there) {
            ids[left++] = v[i]->id;
            continue;
        }
        end[i] = WANT_ARRIVED;
        replicate_arrived(r, ns, &v[i]->id, info[i].logical_len);
    }
    return left;
}

static bool pull_once(struct peer *p)
{
    struct arena a cleanup_arena = {0};
    struct buf b cleanup_buf = {0};
    struct rpc_result res = {0};
    struct want *v[PULL_BLOCKS];
    struct block_id ids[PULL_BLOCKS];
    enum want_end end[PULL_BLOCKS] = {0};
    /* the wait may take hours: nothing is claimed, and no capability kept, meanwhile */
    bool go = wants_any(p) && replicate_has_room(p->r) && rate_take(p->r, 0);
    size_t n = go ? pull_take(p, v) : 0;
    if (!n)
        return false;
    uint64_t ns = v[0]->ns;
    struct m_get_req q = {.ns = ns, .capability = capability_of(p, ns, false, &a), .blocks = ids};
    q.blocks_n = pull_still(p, ns, v, n, end, ids);
    msg_encode(&m_get_req_desc, &q, &b);
    int err = q.capability.n ? 0 : -ECANCELED;
    if (!err && q.blocks_n)
        err = ask(p, "get", bytes_of(b.p, b.n), NULL, 0, PUT_BATCH_BYTES, &res);
    if (!err && q.blocks_n) {
        take_blocks(p, ns, bytes_of(res.body.p, res.body.n), v, end, n);
        rate_take(p->r, res.body.n);
    }
    buf_free(&res.body);
    pull_give(p, v, end, n);
    return !err;
}

/* Whether a peer that failed answers again, where nothing else asks it: nothing is wanted of one
 * that does not. */
static void probe(struct peer *p)
{
    struct arena a cleanup_arena = {0};
    struct buf b cleanup_buf = {0};
    struct rpc_result res = {0};
    struct m_get_req q = {0};
    pthread_mutex_lock(&p->r->lock);
    for (size_t i = 0; i < p->r->groups_n && !q.capability.n; i++) {
        const struct member *m = table_member(p->r, p->r->groups[i].ns, p->id);
        if (!m)
            continue;
        q.ns = p->r->groups[i].ns;
        q.capability = arena_bytes(&a, m->cap, m->cap_n);
    }
    pthread_mutex_unlock(&p->r->lock);
    if (!q.capability.n)
        return;
    msg_encode(&m_get_req_desc, &q, &b);
    ask(p, "get", bytes_of(b.p, b.n), NULL, 0, 0, &res);
    buf_free(&res.body);
}

/* ---- the thread ---------------------------------------------------------------------------- */

int64_t peer_rests_until(int64_t retry_at, int64_t next, int64_t now)
{
    int64_t until = retry_at > now ? retry_at : next;
    if (until <= now) /* what is due failed here, not there */
        return now + RETRY_MS;
    return until - now > PEER_REST_MAX_MS ? now + PEER_REST_MAX_MS : until;
}

void *peer_main(void *arg)
{
    struct peer *p = arg;
    struct replicate *r = p->r;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        int64_t next = INT64_MAX;
        if (p->wanted && p->retry_at <= mono_ms()) {
            bool silent = p->silent;
            p->poked = false;
            pthread_mutex_unlock(&r->lock);
            bool more = push_once(p, &next);
            more |= pull_once(p);
            if (silent && peer_silent(p))
                probe(p);
            pthread_mutex_lock(&r->lock);
            if (more || p->poked)
                continue;
        }
        wait_until(r, &p->cond, peer_rests_until(p->wanted ? p->retry_at : 0, next, mono_ms()));
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}
