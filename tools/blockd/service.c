// SPDX-License-Identifier: Apache-2.0
/* put, get, have, link and offer. All run on workers: they hash, and wait for the disk.
 *
 * put: the whole frame is checked first (capability, counts, lengths that add up), then each block
 * against its id, also one that is stored already: who puts must have the bytes, and only then may
 * the namespace read them. What is right goes to the storage in one batch, which answers when it is
 * durable; only then is a receipt signed.
 *
 * What an account puts and nobody commits is bounded (uncommitted.h): a put that goes beyond that
 * is refused before anything is stored.
 *
 * get: each block is checked against its id before it leaves. A wrong one is set aside and is then
 * not found; the client fetches it from elsewhere. The metadata server is told, so that those who
 * have the bytes are asked for them again.
 *
 * One that is not here, although the metadata server sent the client (or another block server) here
 * for it, is told, too: it is answered like any other, and what follows is between the two servers
 * (missing.h).
 *
 * link: who may read a block for one namespace and write to another has it there, too, without
 * sending it; it is no way to learn of a block, as reading it is.
 *
 * offer: another block server asks which of its blocks are wanted. What is here counts as arrived
 * and is reported like what it puts; what nobody else is bringing is accepted.
 */
#include "service.h"

#include "blockid.h"
#include "checked.h"
#include "frame.h"
#include "rpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "steadfs_blockd"
#define PUT_HEAD_MAX (256u << 10)
#define PUT_BODY_MAX (PUT_BATCH_BYTES + PUT_HEAD_MAX)
#define GET_BODY_MAX (IDS_MAX * 40u + 4096u)

/* The sender of a larger request is known by its capability, which comes first in all of them. */
unsigned service_vouch(void *ctx, const struct httpd_early *e, uint64_t *who, char *why)
{
    struct service *s = ctx;
    struct arena a cleanup_arena = {0};
    struct m_get_req q;
    size_t skip = !strcmp(e->method, "put") ? FRAME_LEN_BYTES : 0;
    uint64_t right = !strcmp(e->method, "get")    ? RIGHT_READ
                     : !strcmp(e->method, "have") ? 0
                                                  : RIGHT_WRITE;
    /* namespace and capability have the same keys in all of them */
    if (e->body.n < skip ||
        msg_decode_front(&m_get_req_desc, &q, e->body.p + skip, e->body.n - skip, 2, &a)) {
        snprintf(why, HTTPD_WHY_MAX, "malformed %s: no namespace and capability at its beginning",
                 e->method);
        return ERR_BAD_MESSAGE;
    }
    unsigned code = access_check(&s->access, q.capability, q.ns, right, mono_ms(), wall_ms(), why);
    if (code)
        atomic_fetch_add(&s->refused, 1);
    else
        *who = access_sender(&s->access, q.capability);
    return code;
}

/* Answers itself and returns false where the capability does not allow it. */
static bool allowed(struct service *s, struct httpd_req *q, struct bytes capability, uint64_t ns,
                    uint64_t right)
{
    char why[128];
    unsigned code = access_check(&s->access, capability, ns, right, mono_ms(), wall_ms(), why);
    if (!code) {
        httpd_prove(q, access_sender(&s->access, capability));
        return true;
    }
    atomic_fetch_add(&s->refused, 1);
    struct log_where where = {.ns = ns, .op = httpd_op(q)};
    log_about(s->log, LOG_L_INFO, &where, "%s refused: %s", httpd_peer(q), why);
    httpd_reply_error(q, (enum error_code)code, "%s", why);
    return false;
}

/* The name of what receipts speak of, which is asked for before the storage is looked at: what is
 * found is of that incarnation or a later one. */
static struct bytes name_first(struct service *s, struct arena *a)
{
    uint8_t incarnation[INCARNATION_LEN];
    s->storage->ops->incarnation(s->storage, incarnation);
    return arena_bytes(a, incarnation, sizeof incarnation);
}

static struct bytes receipt_for(struct service *s, struct arena *a, struct bytes incarnation,
                                uint64_t ns, const struct block_id *id, uint64_t logical_len,
                                uint64_t generation)
{
    struct buf b cleanup_buf = {0};
    struct m_receipt r = {
        .server = s->access.server,
        .ns = ns,
        .block = *id,
        .len = logical_len,
        .incarnation = incarnation,
        .run = s->storage->run,
        .time_ms = (uint64_t)feed_now_ms(s->access.feed, mono_ms(), wall_ms()),
        .generation = generation,
    };
    struct token_key key = keyring_newest(s->access.keys);
    receipt_seal(&r, &key, &b);
    return arena_bytes(a, b.p, b.n);
}

void service_lost(void *arg, const struct block_id *id, int err)
{
    struct service *s = arg;
    char hex[BLOCK_HEX_LEN + 1];
    block_id_hex(id, hex);
    atomic_fetch_add(err ? &s->unreadable : &s->corrupt, 1);
    if (err)
        log_printf(s->log, LOG_L_ERROR, "block %s cannot be read: %s", hex, strerror(-err));
    else
        log_printf(s->log, LOG_L_ERROR, "block %s is damaged; set aside in corrupt/", hex);
    if (trust_untold(&s->storage->trust)) {
        log_printf(
            s->log, LOG_L_ERROR,
            "%u of the last %u blocks that were looked at are wrong: that may be the memory, "
            "a controller or the disk. Nothing more is set aside, and scrubbing waits, until "
            "SIGUSR1 or a restart; what was set aside and is right comes back with steadfs "
            "admin fsck --repair",
            TRUST_WRONG, TRUST_LAST);
        beat_now(s->beat);
    }
    if (err)
        return;
    beat_now(s->beat);
    replicate_look(s->replicate);
}

void service_doubt(void *arg, const struct block_id *id)
{
    struct service *s = arg;
    scrub_doubt(s->scrub, id);
}

static unsigned code_of(int err)
{
    return err == 0 ? 0 : err == -ENOSPC ? ERR_FULL : ERR_INTERNAL;
}

void service_missing(void *arg, uint64_t ns, const struct block_id *id)
{
    struct service *s = arg;
    collect_missing(s->collect, ns, id);
}

/* ---- put ----------------------------------------------------------------------------------- */

/* The items' lengths add up to the raw bytes, and each is a block's. */
static bool lengths_fit(const struct m_put_head *h, struct bytes raw)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < h->items_n; i++) {
        const struct m_put_item *it = &h->items[i];
        if (!it->stored_len || it->stored_len > BLOCK_MAX || !it->logical_len ||
            it->logical_len > BLOCK_MAX)
            return false;
        sum += it->stored_len;
    }
    return sum == raw.n && sum <= PUT_BATCH_BYTES;
}

/* A block of kind 0 is stored as it is. */
static bool item_right(const struct m_put_item *it, const uint8_t *p)
{
    if (it->block.b[0] == BLOCK_KIND_SHA256 && it->stored_len != it->logical_len)
        return false;
    return block_id_matches(&it->block, p, it->stored_len);
}

static void trace_put(struct service *s, const struct m_put_head *h, const struct m_put_ans *ans)
{
    if (!trace_on(s->log))
        return;
    struct block_id *ids = calloc(ans->results_n + 1, sizeof *ids);
    if (!ids)
        abort();
    size_t n = 0;
    for (size_t i = 0; i < ans->results_n; i++)
        if (!ans->results[i].error)
            ids[n++] = ans->results[i].block;
    struct trace t = trace_begin(s->log, "put");
    trace_u64(&t, "ns", h->ns);
    trace_u64(&t, "target", s->access.server);
    trace_ids(&t, "ids", ids, n);
    trace_end(&t);
    free(ids);
}

/* A put of an account: its blocks that count until a commit comes for them. */
struct fresh {
    struct uncommitted_party who;
    struct uncommitted_block *v;
    bool *stored;
    size_t *item, n;
};

/* Leaves those of f that are not here for the namespace. */
static int only_absent(struct service *s, struct arena *a, struct fresh *f)
{
    struct block_id *ids = arena_alloc(a, f->n * sizeof *ids);
    struct storage_info *info = arena_alloc(a, f->n * sizeof *info);
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        ids[i] = f->v[i].id;
    int r = s->storage->ops->have(s->storage, f->who.ns, ids, f->n, info);
    for (size_t i = 0; i < f->n && !r; i++) {
        if (info[i].there)
            continue;
        f->item[n] = f->item[i];
        f->v[n++] = f->v[i];
    }
    f->n = r ? f->n : n;
    return r;
}

/* Answers itself and returns false where the account has put too much that it did not commit. Which
 * blocks are here already the storage finds out as it puts them; only where all of them would be
 * too much is it looked at before. */
static bool admitted(struct service *s, struct httpd_req *q, const struct m_put_head *h,
                     struct fresh *f)
{
    struct arena *a = httpd_arena(q);
    struct storage_usage u;
    char why[256];
    *f = (struct fresh){.who = {access_account(&s->access, h->capability), h->ns}};
    if (!s->uncommitted || !f->who.account || !h->items_n)
        return true;
    f->v = arena_alloc(a, h->items_n * sizeof *f->v);
    f->item = arena_alloc(a, h->items_n * sizeof *f->item);
    f->stored = arena_alloc(a, h->items_n * sizeof *f->stored);
    for (; f->n < h->items_n; f->n++) {
        const struct m_put_item *it = &h->items[f->n];
        f->item[f->n] = f->n;
        f->v[f->n] = (struct uncommitted_block){it->block, it->stored_len};
    }
    s->storage->ops->usage(s->storage, &u);
    int r = uncommitted_admit(s->uncommitted, f->who, f->v, f->n, u.free_bytes, NULL);
    if (r && only_absent(s, a, f)) {
        httpd_reply_error(q, ERR_INTERNAL, "the storage cannot be read");
        return false;
    }
    if (r)
        r = uncommitted_admit(s->uncommitted, f->who, f->v, f->n, u.free_bytes, why);
    if (uncommitted_pressing(s->uncommitted))
        confirm_soon(s->confirm);
    if (!r)
        return true;
    struct log_where where = {.ns = h->ns, .op = httpd_op(q)};
    log_about(s->log, LOG_L_WARN, &where, "a put of account %llu is refused: %s",
              (unsigned long long)f->who.account, why);
    httpd_reply_error(q, ERR_QUOTA, "%s", why);
    return false;
}

/* is_new: of each item, as the storage says. */
static void note_fresh(struct service *s, struct fresh *f, const bool *is_new)
{
    if (!f->n)
        return;
    for (size_t i = 0; i < f->n; i++)
        f->stored[i] = is_new[f->item[i]];
    uncommitted_put(s->uncommitted, f->who, f->v, f->stored, f->n, mono_ms());
    confirm_look(s->confirm);
}

/* Stores the items that are what they say, and fills the results of all. is_new[i]: the namespace
 * has item i now, and did not before. */
static void put_items(struct service *s, struct arena *a, const struct m_put_head *h,
                      struct bytes raw, struct m_put_ans *ans, bool *is_new)
{
    struct storage_put *v = arena_alloc(a, (h->items_n + 1) * sizeof *v);
    size_t *item = arena_alloc(a, (h->items_n + 1) * sizeof *item);
    size_t n = 0;
    const uint8_t *p = raw.p;
    struct bytes name = name_first(s, a);
    for (size_t i = 0; i < h->items_n; p += h->items[i++].stored_len) {
        const struct m_put_item *it = &h->items[i];
        ans->results[i] = (struct m_put_result){.block = it->block, .error = ERR_BAD_MESSAGE};
        is_new[i] = false;
        if (!item_right(it, p))
            continue;
        item[n] = i;
        v[n++] = (struct storage_put){
            .id = it->block, .stored = bytes_of(p, it->stored_len), .logical_len = it->logical_len};
    }
    if (n)
        s->storage->ops->put(s->storage, h->ns, v, n);
    for (size_t k = 0; k < n; k++)
        if (v[k].damaged)
            service_lost(s, &v[k].id, 0);
    for (size_t k = 0; k < n; k++) {
        struct m_put_result *r = &ans->results[item[k]];
        r->error = code_of(v[k].err);
        if (!v[k].err) {
            is_new[item[k]] = v[k].fresh;
            r->receipt =
                receipt_for(s, a, name, h->ns, &v[k].id, v[k].logical_len, v[k].generation);
            continue;
        }
        atomic_fetch_add(&s->put_failed, 1);
        log_printf(s->log, LOG_L_ERROR, "block not stored: %s", strerror(-v[k].err));
    }
}

/* A put of another block server: nobody but this one tells the metadata server of it. */
static void note_arrived(struct service *s, uint64_t peer, const struct m_put_head *h,
                         const struct m_put_ans *ans)
{
    struct inbound *in = replicate_inbound(s->replicate);
    if (in)
        inbound_renew(in, peer, mono_ms(), replicate_claim_ms(UINT64_MAX));
    for (size_t i = 0; i < ans->results_n; i++) {
        if (in)
            inbound_release(in, &h->items[i].block);
        if (ans->results[i].error == ERR_FULL)
            replicate_no_room(s->replicate);
        if (!ans->results[i].error)
            replicate_arrived(s->replicate, h->ns, &h->items[i].block, h->items[i].logical_len);
    }
}

/* The blocks are for another block server, which the client cannot reach; its answer is the answer.
 * Nothing is stored here by it. */
static void relay(struct service *s, struct httpd_req *q, const struct m_put_head *h,
                  struct bytes raw)
{
    struct buf head cleanup_buf = {0};
    struct rpc_result res = {.err = -EBUSY};
    struct m_put_head on = {
        .ns = h->ns, .capability = h->relay_capability, .items = h->items, .items_n = h->items_n};
    snprintf(res.message, sizeof res.message, "too many blocks are being passed on");
    frame_head(&m_put_head_desc, &on, &head);
    if (atomic_fetch_add(&s->relays, 1) < SERVICE_RELAYS_MAX)
        replicate_relay(s->replicate, h->ns, h->relay, bytes_of(head.p, head.n), raw, &res);
    atomic_fetch_sub(&s->relays, 1);
    if (!res.err)
        httpd_reply(q, 200, &res.body);
    else
        httpd_reply_error(q,
                          res.err == -EACCES   ? ERR_UNAUTHENTICATED
                          : res.err == -EPERM  ? ERR_FORBIDDEN
                          : res.err == -EBUSY  ? ERR_BUSY
                          : res.err == -EDQUOT ? ERR_QUOTA
                                               : ERR_UNAVAILABLE,
                          "not passed on to block server %llu: %s", (unsigned long long)h->relay,
                          res.message);
    buf_free(&res.body);
}

static void handle_put(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    struct arena *a = httpd_arena(q);
    struct bytes head, raw;
    struct m_put_head h;
    const char *why = NULL;
    if (frame_split(httpd_body(q), &head, &raw) || head.n > PUT_HEAD_MAX ||
        msg_decode(&m_put_head_desc, &h, head.p, head.n, MSG_STRICT, a, &why)) {
        httpd_reply_error(q, ERR_BAD_MESSAGE, "malformed put: %s", why ? why : "bad frame");
        return;
    }
    if (!allowed(s, q, h.capability, h.ns, RIGHT_WRITE))
        return;
    if (!lengths_fit(&h, raw)) {
        httpd_reply_error(q, ERR_BAD_MESSAGE, "malformed put: lengths do not fit the bytes sent");
        return;
    }
    atomic_fetch_add(&s->put_bytes, raw.n);
    if (h.relay) {
        if (access_peer(&s->access, h.capability))
            httpd_reply_error(q, ERR_FORBIDDEN, "only clients have blocks passed on");
        else
            relay(s, q, &h, raw);
        return;
    }
    struct m_put_ans ans = {
        .results = arena_alloc(a, (h.items_n + 1) * sizeof *ans.results),
        .results_n = h.items_n,
    };
    struct fresh fresh;
    if (!admitted(s, q, &h, &fresh))
        return;
    bool *is_new = arena_alloc(a, (h.items_n + 1) * sizeof *is_new);
    put_items(s, a, &h, raw, &ans, is_new);
    note_fresh(s, &fresh, is_new);
    uint64_t peer = access_peer(&s->access, h.capability);
    if (peer)
        note_arrived(s, peer, &h, &ans);
    trace_put(s, &h, &ans);
    size_t stored = 0;
    for (size_t i = 0; i < ans.results_n; i++)
        stored += !ans.results[i].error;
    struct log_where where = {.ns = h.ns, .op = httpd_op(q)};
    log_about(s->log, stored < h.items_n ? LOG_L_WARN : LOG_L_DEBUG, &where,
              "put: %zu of %zu blocks are stored", stored, h.items_n);
    httpd_reply_msg(q, &m_put_ans_desc, &ans);
}

/* ---- get ----------------------------------------------------------------------------------- */

/* One block of a get: appended to raw, or an error in it. */
static void get_item(struct service *s, uint64_t ns, const struct block_id *id, struct buf *raw,
                     struct m_get_item *it)
{
    const struct checked_told told = {.lost = service_lost, .doubt = service_doubt, .arg = s};
    size_t start = raw->n;
    *it = (struct m_get_item){.block = *id};
    int r = checked_get(s->storage, &told, ns, id, raw, &it->logical_len);
    if (r) {
        it->logical_len = 0;
        it->error = r == -ENOENT || r == -EUCLEAN ? ERR_NOT_FOUND : ERR_INTERNAL;
        return;
    }
    it->stored_len = raw->n - start;
}

static void handle_get(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    struct arena *a = httpd_arena(q);
    struct m_get_req g;
    if (!httpd_decode(q, &m_get_req_desc, &g) || !allowed(s, q, g.capability, g.ns, RIGHT_READ))
        return;
    struct storage_info *info = arena_alloc(a, (g.blocks_n + 1) * sizeof *info);
    if (s->storage->ops->have(s->storage, g.ns, g.blocks, g.blocks_n, info)) {
        httpd_reply_error(q, ERR_INTERNAL, "the storage cannot be read");
        return;
    }
    struct m_get_head head = {
        .items = arena_alloc(a, (g.blocks_n + 1) * sizeof *head.items),
        .items_n = g.blocks_n,
    };
    struct buf raw cleanup_buf = {0}, out = {0};
    /* another block server asks only for what it was told is here */
    bool full = false, located = g.located || access_peer(&s->access, g.capability);
    for (size_t i = 0; i < g.blocks_n; i++) {
        full |= info[i].there && raw.n + info[i].stored_len > PUT_BATCH_BYTES;
        if (!info[i].there && located)
            collect_missing(s->collect, g.ns, &g.blocks[i]);
        if (!info[i].there)
            head.items[i] = (struct m_get_item){.block = g.blocks[i], .error = ERR_NOT_FOUND};
        else if (full)
            head.items[i] = (struct m_get_item){.block = g.blocks[i], .error = ERR_UNAVAILABLE};
        else
            get_item(s, g.ns, &g.blocks[i], &raw, &head.items[i]);
    }
    atomic_fetch_add(&s->get_bytes, raw.n);
    frame_head(&m_get_head_desc, &head, &out);
    buf_append(&out, raw.p, raw.n);
    httpd_reply(q, 200, &out);
}

/* ---- have ---------------------------------------------------------------------------------- */

static void handle_have(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    struct arena *a = httpd_arena(q);
    struct m_get_req g;
    if (!httpd_decode(q, &m_get_req_desc, &g) || !allowed(s, q, g.capability, g.ns, 0))
        return;
    struct bytes name = name_first(s, a);
    struct storage_info *info = arena_alloc(a, (g.blocks_n + 1) * sizeof *info);
    if (s->storage->ops->have(s->storage, g.ns, g.blocks, g.blocks_n, info)) {
        httpd_reply_error(q, ERR_INTERNAL, "the storage cannot be read");
        return;
    }
    struct m_put_ans ans = {
        .results = arena_alloc(a, (g.blocks_n + 1) * sizeof *ans.results),
        .results_n = g.blocks_n,
    };
    for (size_t i = 0; i < g.blocks_n; i++) {
        ans.results[i].block = g.blocks[i];
        if (info[i].there)
            ans.results[i].receipt = receipt_for(s, a, name, g.ns, &g.blocks[i],
                                                 info[i].logical_len, info[i].generation);
    }
    httpd_reply_msg(q, &m_put_ans_desc, &ans);
}

/* ---- link ---------------------------------------------------------------------------------- */

/* The long way: for a storage that knows no other. */
static int link_copy(struct service *s, const struct m_link_req *l, struct storage_info *info)
{
    int r = s->storage->ops->have(s->storage, l->from, l->blocks, l->blocks_n, info);
    for (size_t i = 0; !r && i < l->blocks_n; i++) {
        struct buf bytes cleanup_buf = {0};
        const struct block_id *id = &l->blocks[i];
        if (!info[i].there)
            continue;
        info[i].there = false;
        if (s->storage->ops->get(s->storage, l->from, id, &bytes, &info[i].logical_len) ||
            !block_id_matches(id, bytes.p, bytes.n))
            continue; /* as if it were not there: who reads it finds out why */
        struct storage_put v = {
            .id = *id, .stored = {bytes.p, bytes.n}, .logical_len = info[i].logical_len};
        s->storage->ops->put(s->storage, l->ns, &v, 1);
        r = v.err;
        info[i].there = !r;
        info[i].generation = v.generation;
    }
    return r;
}

static void handle_link(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    struct arena *a = httpd_arena(q);
    struct m_link_req l;
    if (!httpd_decode(q, &m_link_req_desc, &l) || !allowed(s, q, l.capability, l.ns, RIGHT_WRITE) ||
        !allowed(s, q, l.from_capability, l.from, RIGHT_READ))
        return;
    struct bytes name = name_first(s, a);
    struct storage_info *info = arena_alloc(a, (l.blocks_n + 1) * sizeof *info);
    int r = s->storage->ops->link
                ? s->storage->ops->link(s->storage, l.ns, l.from, l.blocks, l.blocks_n, info)
                : link_copy(s, &l, info);
    if (r) {
        httpd_reply_error(q, (enum error_code)code_of(r), "the storage cannot be written");
        return;
    }
    struct m_put_ans ans = {
        .results = arena_alloc(a, (l.blocks_n + 1) * sizeof *ans.results),
        .results_n = l.blocks_n,
    };
    for (size_t i = 0; i < l.blocks_n; i++) {
        ans.results[i].block = l.blocks[i];
        if (info[i].there)
            ans.results[i].receipt = receipt_for(s, a, name, l.ns, &l.blocks[i],
                                                 info[i].logical_len, info[i].generation);
    }
    httpd_reply_msg(q, &m_put_ans_desc, &ans);
}

/* ---- offer --------------------------------------------------------------------------------- */

static void handle_offer(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    struct arena *a = httpd_arena(q);
    struct inbound *in = replicate_inbound(s->replicate);
    struct m_offer_req o;
    if (!httpd_decode(q, &m_offer_req_desc, &o) || !allowed(s, q, o.capability, o.ns, RIGHT_WRITE))
        return;
    uint64_t peer = access_peer(&s->access, o.capability), bytes = 0;
    if (!in || !peer) {
        httpd_reply_error(q, ERR_FORBIDDEN, "only a block server of the namespace offers blocks");
        return;
    }
    struct block_id *ids = arena_alloc(a, (o.blocks_n + 1) * sizeof *ids);
    struct storage_info *info = arena_alloc(a, (o.blocks_n + 1) * sizeof *info);
    for (size_t i = 0; i < o.blocks_n; i++)
        ids[i] = o.blocks[i].block;
    if (s->storage->ops->have(s->storage, o.ns, ids, o.blocks_n, info)) {
        httpd_reply_error(q, ERR_INTERNAL, "the storage cannot be read");
        return;
    }
    bool room = replicate_has_room(s->replicate);
    for (size_t i = 0; i < o.blocks_n; i++)
        bytes += info[i].there || o.blocks[i].len > BLOCK_MAX ? 0 : o.blocks[i].len;
    int64_t claim_ms = replicate_claim_ms(bytes);
    inbound_leave(in, peer);
    struct m_offer_ans ans = {.accepted = arena_alloc(a, (o.blocks_n + 1) * sizeof *ans.accepted),
                              .later = arena_alloc(a, (o.blocks_n + 1) * sizeof *ans.later)};
    for (size_t i = 0; i < o.blocks_n; i++) {
        if (info[i].there)
            replicate_arrived(s->replicate, o.ns, &ids[i], info[i].logical_len);
        else if (room && inbound_claim(in, &ids[i], peer, mono_ms(), claim_ms))
            ans.accepted[ans.accepted_n++] = ids[i];
        else
            ans.later[ans.later_n++] = ids[i];
    }
    httpd_reply_msg(q, &m_offer_ans_desc, &ans);
}

/* ---- the whole ----------------------------------------------------------------------------- */

void service_routes(struct httpd *h)
{
    httpd_route(h, "put", HTTPD_ON_WORKER, PUT_BODY_MAX, handle_put);
    httpd_route(h, "get", HTTPD_ON_WORKER, GET_BODY_MAX, handle_get);
    httpd_route(h, "have", HTTPD_ON_WORKER, GET_BODY_MAX, handle_have);
    httpd_route(h, "link", HTTPD_ON_WORKER, PUT_HEAD_MAX, handle_link);
    httpd_route(h, "offer", HTTPD_ON_WORKER, PUT_HEAD_MAX, handle_offer);
}

void service_metrics(void *ctx, struct buf *out)
{
    struct service *s = ctx;
    struct storage_usage u;
    s->storage->ops->usage(s->storage, &u);
    const struct {
        const char *name, *type;
        uint64_t value;
    } lines[] = {
        {"blocks", "gauge", u.blocks},
        {"bytes", "gauge", u.bytes},
        {"free_bytes", "gauge", u.free_bytes},
        {"put_bytes_total", "counter", atomic_load(&s->put_bytes)},
        {"get_bytes_total", "counter", atomic_load(&s->get_bytes)},
        {"corrupt_total", "counter", atomic_load(&s->corrupt)},
        {"refused_total", "counter", atomic_load(&s->refused)},
        {"put_failed_total", "counter", atomic_load(&s->put_failed)},
        {"unreadable_total", "counter", atomic_load(&s->unreadable)},
        {"reread_total", "counter", trust_rereads(&s->storage->trust)},
        {"distrusted", "gauge", trust_broken(&s->storage->trust)},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        buf_printf(out, "# TYPE " NAME "_%s %s\n" NAME "_%s %llu\n", lines[i].name, lines[i].type,
                   lines[i].name, (unsigned long long)lines[i].value);
    uncommitted_print(s->uncommitted, out);
    scrub_print(s->scrub, out);
    collect_print(s->collect, out);
    replicate_print(s->replicate, out);
}
