// SPDX-License-Identifier: Apache-2.0
/* Block servers: sets of blocks that are durable when a put is answered. What a block is, the
 * ledger knows; its bytes are not moved. Capabilities and receipts are real, and judged as the real
 * block server does: it hears of revoked devices and of its metadata server only while it reaches
 * it.
 */
#include "sim.h"

#include <errno.h>
#include <string.h>

#define OFFLINE_MS (24ll * 3600 * 1000) /* how long an expired capability counts without metad */

static bool admits(struct sim *s, unsigned k, struct bytes token, uint64_t ns, uint64_t right)
{
    cleanup_arena struct arena ar = {0};
    const struct blockd *b = &s->blockd[k];
    struct m_capability c;
    if (capability_open(&c, token, &s->server.inst->key[k], &ar) ||
        c.server != s->server.inst->server[k].id || c.ns != ns || !(c.rights & right))
        return false;
    for (unsigned d = 0; d < DEVICES; d++)
        if (s->server.inst->device[d].id == c.device && (b->revoked >> d & 1))
            return false;
    int64_t now = s->now / 1000000 + b->skew_ms;
    return now <= (int64_t)c.expiry_ms + (b->cut ? OFFLINE_MS : 0);
}

static struct bytes receipt(struct sim *s, unsigned k, uint64_t ns, const struct written *w,
                            struct arena *ar)
{
    cleanup_buf struct buf token = {0};
    uint8_t incarnation[16];
    incarnation_of('b', k, s->blockd[k].generation, incarnation);
    struct m_receipt r = {.server = s->server.inst->server[k].id,
                          .ns = ns,
                          .block = w->id,
                          .len = w->len,
                          .incarnation = bytes_of(incarnation, sizeof incarnation),
                          .time_ms = (uint64_t)(s->now / 1000000 + s->blockd[k].skew_ms),
                          .key_id = s->server.inst->key[k].id,
                          .generation = w->proof[k],
                          .run = s->blockd[k].run};
    receipt_seal(&r, &s->server.inst->key[k], &token);
    return arena_bytes(ar, token.p, token.n);
}

/* It is durable there from now on. */
static void hold(struct sim *s, unsigned k, struct written *w)
{
    w->held[k] = true;
    w->lost[k] = false;
    w->proof[k] = s->blockd[k].raised;
}

static int put(struct sim *s, unsigned k, struct bytes body, struct buf *answer)
{
    cleanup_arena struct arena ar = {0};
    struct m_put_head h;
    struct m_put_ans a = {0};
    if (msg_decode(&m_put_head_desc, &h, body.p, body.n, MSG_STRICT, &ar, NULL))
        return ERR_BAD_MESSAGE;
    if (!admits(s, k, h.capability, h.ns, RIGHT_WRITE))
        return ERR_FORBIDDEN;
    a.results = arena_alloc(&ar, (h.items_n + 1) * sizeof *a.results);
    for (size_t i = 0; i < h.items_n; i++) {
        uint32_t n;
        if (!ledger_find(&s->ledger, &h.items[i].block, &n))
            return ERR_BAD_MESSAGE;
        struct written *w = &s->ledger.w[n];
        hold(s, k, w);
        a.results[a.results_n++] =
            (struct m_put_result){.block = w->id, .receipt = receipt(s, k, h.ns, w, &ar)};
    }
    msg_encode(&m_put_ans_desc, &a, answer);
    return 0;
}

static int get(struct sim *s, unsigned k, struct bytes body, struct buf *answer)
{
    cleanup_arena struct arena ar = {0};
    struct m_get_req q;
    struct m_get_head a = {0};
    if (msg_decode(&m_get_req_desc, &q, body.p, body.n, MSG_STRICT, &ar, NULL))
        return ERR_BAD_MESSAGE;
    if (!admits(s, k, q.capability, q.ns, RIGHT_READ))
        return ERR_FORBIDDEN;
    a.items = arena_alloc(&ar, (q.blocks_n + 1) * sizeof *a.items);
    for (size_t i = 0; i < q.blocks_n; i++) {
        uint32_t n;
        bool have = ledger_find(&s->ledger, &q.blocks[i], &n) && s->ledger.w[n].held[k];
        a.items[a.items_n++] =
            (struct m_get_item){.block = q.blocks[i], .error = have ? 0 : ERR_NOT_FOUND};
    }
    msg_encode(&m_get_head_desc, &a, answer);
    return 0;
}

int blockd_call(struct sim *s, unsigned k, const char *method, struct bytes body,
                struct buf *answer)
{
    return strcmp(method, "put") ? get(s, k, body, answer) : put(s, k, body, answer);
}

/* ---- replication -------------------------------------------------------------------------------
 */
/* Brings a block from whoever has it and runs; false: nobody does. */
static bool bring(struct sim *s, unsigned k, const struct block_id *id)
{
    uint32_t n;
    if (!ledger_find(&s->ledger, id, &n))
        return false;
    struct written *w = &s->ledger.w[n];
    for (unsigned j = 0; j < SERVERS_MAX && !w->held[k]; j++)
        if (w->held[j] && !s->blockd[j].down)
            hold(s, k, w);
    return w->held[k];
}

/* Asks what there is to do: namespaces that it lacks much of are looked through, and what others
 * have of one that it leaves is let go. */
void blockd_replicas(struct sim *s, unsigned k)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_replicas_req q = {0};
    struct m_replicas_ans a;
    int err = meta_replicas(s->server.meta, &s->server.inst->server[k].who, &q, s->now / 1000000,
                            &a, &ar, why);
    if (simvfs_crashed(s->server.disk))
        server_crash(s);
    else if (err)
        sim_fail(s, "replicas of block server %u: %s", k, why);
    else
        server_follow(s);
}

/* A page of what it lacks, from a place in it on (moved on; n 0: that was the last), brought as far
 * as anybody has it. */
static void bring_page(struct sim *s, unsigned k, uint64_t ns, struct bytes *place,
                       struct report *r, struct arena *ar)
{
    char why[512] = "";
    struct m_backlog_ans a;
    uint64_t id = s->server.inst->server[k].id;
    struct m_backlog_req q = {.ns = ns, .server = id, .after = *place, .limit = REPORT_BLOCKS};
    int err = meta_backlog(s->server.meta, &s->server.inst->server[k].who, &q, &a, ar, why);
    *place = bytes_of(NULL, 0);
    if (simvfs_crashed(s->server.disk)) {
        server_crash(s);
        return;
    }
    if (err && err != -EACCES) /* not assigned */
        sim_fail(s, "backlog of block server %u: %s", k, why);
    if (err)
        return;
    for (size_t i = 0; i < a.blocks_n && r->n < REPORT_BLOCKS; i++) {
        uint32_t w = 0;
        if (bring(s, k, &a.blocks[i].block) && ledger_find(&s->ledger, &a.blocks[i].block, &w))
            r->v[r->n++] = (struct m_stored){.ns = ns,
                                             .block = a.blocks[i].block,
                                             .len = a.blocks[i].len,
                                             .generation = s->ledger.w[w].proof[k]};
    }
    if (a.more)
        *place = a.next;
}

void blockd_replicate(struct sim *s, unsigned k, uint64_t ns, enum tell tell)
{
    cleanup_arena struct arena ar = {0};
    struct report r = {
        .server = k, .generation = s->blockd[k].generation, .run = s->blockd[k].run, .at = s->now};
    struct bytes place = bytes_of(NULL, 0);
    do /* what is nowhere is passed over */
        bring_page(s, k, ns, &place, &r, &ar);
    while (!r.n && place.n && !s->failed);
    s->count.brought += r.n;
    if (r.n && tell != TELL_NEVER && !s->failed)
        garbage_report(s, &r, tell == TELL_LATE);
}

void blockd_open(struct sim *s, unsigned k)
{
    struct blockd *b = &s->blockd[k];
    garbage_forget(b);
    b->found = b->raised++;
    b->tick = b->kept;
    if (s->p.ticks)
        b->run++;
}

void blockd_lose(struct sim *s, unsigned k)
{
    s->blockd[k].generation++;
    s->blockd[k].raised = 0;
    blockd_open(s, k);
    s->count.lost++;
    sim_log(s, "block server %u loses its storage", k);
    for (uint32_t i = 0; i < s->ledger.n; i++) {
        s->ledger.w[i].lost[k] |= s->ledger.w[i].held[k];
        s->ledger.w[i].held[k] = false;
    }
}

bool blockd_nowhere(const struct written *w)
{
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        if (w->held[k])
            return false;
    return true;
}

unsigned blockd_had(const struct written *w)
{
    unsigned had = 0;
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        had |= (w->held[k] || w->lost[k] ? 1u : 0u) << k;
    return had;
}
