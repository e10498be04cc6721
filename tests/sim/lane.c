// SPDX-License-Identifier: Apache-2.0
/* The commits of one client: at most one is unanswered.
 *
 *   idle -> ready                            a plan (or one from before a restart, to be sent
 * again) ready -> asked -> put -> ready           the question first, now and then ready -> sent ->
 * (missing) put -> ready  two steps: the answer says what to upload
 *                 -> (lost) ready            the same number again
 *                 -> idle                    a final answer
 *
 * fsync goes before background work. It is done when nothing of its node is pending or under way.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void lane_reset(struct client *c)
{
    core_plan_free(&c->lane.plan);
    c->lane = (struct lane){0};
}

/* ---- receipts ----------------------------------------------------------------------------------
 */
static struct receipt *receipt_find(struct client *c, const struct block_id *id)
{
    for (size_t i = 0; i < c->receipts_n; i++)
        if (block_id_equal(&c->receipts[i].id, id))
            return &c->receipts[i];
    return NULL;
}

static void receipt_add(struct client *c, const struct m_put_result *r)
{
    struct receipt *t = receipt_find(c, &r->block);
    if (!t) {
        if (c->receipts_n == c->receipts_cap) {
            c->receipts_cap = c->receipts_cap ? 2 * c->receipts_cap : 16;
            c->receipts = realloc(c->receipts, c->receipts_cap * sizeof *c->receipts);
            if (!c->receipts)
                abort();
        }
        t = &c->receipts[c->receipts_n++];
        t->id = r->block;
    }
    t->n = r->receipt.n;
    memcpy(t->bytes, r->receipt.p, r->receipt.n);
}

/* ---- steps
 * --------------------------------------------------------------------------------------- */
static void send_commit(struct client *c)
{
    cleanup_arena struct arena ar = {0};
    const struct core_plan *p = &c->lane.plan;
    uint64_t target = c->s->server.id;
    struct m_receipt_bytes *v = arena_alloc(&ar, (p->ids_n + 1) * sizeof *v);
    struct m_commit_req q = {.ns = p->ns,
                             .request = p->request,
                             .lowest_open = p->lowest_open,
                             .cursor = p->cursor,
                             .targets = &target,
                             .targets_n = 1,
                             .ids = p->ids,
                             .ids_n = p->ids_n,
                             .receipts = v,
                             .changes = bytes_of(p->changes.p, p->changes.n)};
    for (size_t i = 0; i < p->ids_n; i++) {
        struct receipt *t = receipt_find(c, &p->ids[i].block);
        if (t)
            v[q.receipts_n++].receipt = bytes_of(t->bytes, t->n);
    }
    if (client_call(c, CALL_COMMIT, "commit", &m_commit_req_desc, &q))
        c->lane.phase = LANE_SENT;
}

static void send_question(struct client *c)
{
    const struct core_plan *p = &c->lane.plan;
    struct m_diff_req q = {
        .ns = p->ns, .target = c->s->server.id, .ids = p->ids, .ids_n = p->ids_n};
    if (client_call(c, CALL_DIFF, "diff", &m_diff_req_desc, &q))
        c->lane.phase = LANE_ASKED;
}

static void send_put(struct client *c)
{
    struct m_put_item v[256];
    struct m_put_head h = {.ns = c->ns, .capability = bytes_str("any"), .items = v};
    for (size_t i = 0; i < c->lane.missing_n; i++) {
        uint32_t w;
        if (!ledger_find(&c->s->ledger, &c->lane.missing[i], &w)) {
            sim_fail(c->s, "client %u: a block that nobody wrote is missing", c->index);
            return;
        }
        v[h.items_n++] = (struct m_put_item){.block = c->lane.missing[i],
                                             .stored_len = c->s->ledger.w[w].len,
                                             .logical_len = c->s->ledger.w[w].len};
    }
    client_call(c, CALL_PUT, "put", &m_put_head_desc, &h);
}

static void want_put(struct client *c, const struct block_id *id)
{
    if (c->lane.missing_n < 256)
        c->lane.missing[c->lane.missing_n++] = *id;
}

/* ---- planning
 * -------------------------------------------------------------------------------------- */
static bool planned(struct client *c, int err, struct core_need *need, const char *what)
{
    if (err == CORE_NEED)
        client_need(c, need);
    if (err == CORE_NEED || err == -EAGAIN || err == -ENOENT)
        return false;
    if (!client_ok(c, err, what) || c->lane.plan.rows == 0)
        return false;
    sim_log(c->s, "c%u %s: request %llu, %zu rows, %zu blocks", c->index, what,
            (unsigned long long)c->lane.plan.request, c->lane.plan.rows, c->lane.plan.ids_n);
    if (c->s->opt.verbose) {
        cleanup_arena struct arena ar = {0};
        struct m_changes m;
        msg_decode(&m_changes_desc, &m, c->lane.plan.changes.p, c->lane.plan.changes.n, MSG_STRICT,
                   &ar, NULL);
        for (size_t i = 0; i < m.nodes_n; i++)
            sim_log(c->s,
                    "    node %llx facets %llu base content %llu attr %llu size %llu ranges %zu",
                    (unsigned long long)m.nodes[i].node, (unsigned long long)m.nodes[i].facets,
                    (unsigned long long)m.nodes[i].base_content,
                    (unsigned long long)m.nodes[i].base_attr, (unsigned long long)m.nodes[i].size,
                    m.nodes[i].ranges_n);
        for (size_t i = 0; i < m.entries_n; i++)
            sim_log(c->s, "    entry %llx/%.*s: %llx at %llu -> %llx (content %llu)",
                    (unsigned long long)m.entries[i].parent, (int)m.entries[i].name.n,
                    (const char *)m.entries[i].name.p, (unsigned long long)m.entries[i].base_node,
                    (unsigned long long)m.entries[i].base_rev,
                    (unsigned long long)m.entries[i].node,
                    (unsigned long long)m.entries[i].base_content);
    }
    c->lane.phase = LANE_READY;
    c->lane.rounds = 0;
    return true;
}

static void plan(struct client *c, struct rng *r)
{
    uint64_t nodes[BARRIERS_MAX];
    size_t n = 0;
    struct core_need need = {0};
    if (planned(c, core_resend(c->core, c->ns, 0, &c->lane.plan), &need, "resend") || !c->core)
        return;
    for (size_t i = 0; i < BARRIERS_MAX; i++) {
        struct core_barrier b;
        if (c->fsyncs[i].used && core_barrier(c->core, c->fsyncs[i].node, &b) == 0 && b.dirty &&
            !b.request)
            nodes[n++] = c->fsyncs[i].node;
    }
    if (n > 1 && rng_percent(r, 30)) {
        nodes[0] = nodes[rng_below(r, (unsigned)n)];
        n = 1;
    }
    if (n &&
        (planned(c, core_plan(c->core, c->ns, nodes, n, 0, &c->lane.plan, &need), &need, "fsync") ||
         !c->core))
        return;
    if (!c->s->healed && !rng_percent(r, 40)) /* background work is in no hurry */
        return;
    int64_t quiet =
        c->s->healed ? c->s->now + 1000000000 : c->s->now - rng_below(r, 3) * 1000000000ll;
    planned(c, core_plan(c->core, c->ns, NULL, 0, quiet, &c->lane.plan, &need), &need, "plan");
}

void lane_turn(struct client *c, struct rng *r)
{
    struct lane *l = &c->lane;
    if (l->phase == LANE_IDLE)
        plan(c, r);
    if (!c->core || c->offline)
        return;
    if (l->phase == LANE_READY) {
        if (l->rounds++ > 200)
            sim_fail(c->s, "client %u: request %llu is sent again and again", c->index,
                     (unsigned long long)l->plan.request);
        else if (l->plan.ids_n && rng_percent(r, 30))
            send_question(c);
        else
            send_commit(c);
    } else if (l->phase == LANE_PUT && !client_calling(c, CALL_PUT)) {
        send_put(c);
    }
}

/* ---- answers
 * ----------------------------------------------------------------------------------------- */
static void commit_final(struct client *c, const struct m_commit_ans *a)
{
    struct core_effects fx = {0};
    uint64_t request = c->lane.plan.request;
    sim_log(c->s, "c%u answer to %llu: status %llu sjid %llu head %llu", c->index,
            (unsigned long long)request, (unsigned long long)a->status, (unsigned long long)a->sjid,
            (unsigned long long)a->head);
    for (size_t i = 0; i < a->rows_n; i++)
        sim_log(c->s, "  row kind %llu node %llx name %.*s reason %llu: %.*s",
                (unsigned long long)a->rows[i].kind, (unsigned long long)a->rows[i].node,
                (int)a->rows[i].name.n, (const char *)a->rows[i].name.p,
                (unsigned long long)a->rows[i].reason, (int)a->reason.n, (const char *)a->reason.p);
    if (a->status == COMMIT_REFUSED && a->rows_n && a->rows[0].reason != REFUSED_REQUEST) {
        sim_fail(c->s, "client %u: request %llu is refused: %.*s", c->index,
                 (unsigned long long)request, (int)a->reason.n, (const char *)a->reason.p);
        return;
    }
    if (a->status == COMMIT_CONFLICT)
        c->s->count.conflicts++;
    else
        c->s->count.commits++;
    int err = core_commit_answer(c->core, c->ns, request, a, &fx);
    if (client_ok(c, err, "core_commit_answer")) {
        client_effects(c, &fx);
        lane_reset(c);
    }
    core_effects_free(&fx);
}

static void commit_answer(struct client *c, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_commit_ans a;
    if (msg_decode(&m_commit_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a commit cannot be read", c->index);
        return;
    }
    if (a.status != COMMIT_MISSING) {
        commit_final(c, &a);
        return;
    }
    c->s->count.missing++;
    c->lane.missing_n = 0;
    for (size_t i = 0; i < a.missing_n; i++)
        want_put(c, &a.missing[i].block);
    c->lane.phase = c->lane.missing_n ? LANE_PUT : LANE_READY;
}

static void diff_answer(struct client *c, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_diff_ans a;
    if (msg_decode(&m_diff_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a question cannot be read", c->index);
        return;
    }
    c->lane.missing_n = 0;
    for (size_t i = 0; i < a.missing_n; i++)
        if (!receipt_find(c, &a.missing[i]))
            want_put(c, &a.missing[i]);
    c->lane.phase = c->lane.missing_n ? LANE_PUT : LANE_READY;
}

static void put_answer(struct client *c, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_put_ans a;
    if (msg_decode(&m_put_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a put cannot be read", c->index);
        return;
    }
    for (size_t i = 0; i < a.results_n; i++)
        receipt_add(c, &a.results[i]);
    c->lane.missing_n = 0;
    c->lane.phase = LANE_READY;
}

void lane_answer(struct client *c, struct call *k, int status, struct bytes body)
{
    if (status) {
        if (c->lane.phase == LANE_SENT || c->lane.phase == LANE_ASKED)
            c->lane.phase = LANE_READY;
        return;
    }
    if (k->kind == CALL_COMMIT)
        commit_answer(c, body);
    else if (k->kind == CALL_DIFF)
        diff_answer(c, body);
    else if (k->kind == CALL_PUT)
        put_answer(c, body);
}

/* ---- fsync
 * --------------------------------------------------------------------------------------------- */
/* The node is known to the server, and so are a directory's names that are still as they were. */
static void fsync_names(struct client *c, const struct fsync_wait *f)
{
    struct core_attr a;
    struct core_need need;
    int err = core_getattr(c->core, f->node, &a, &need);
    if (!err && a.nlink && f->node != c->root && !server_told(c->s, 0, bytes_of(NULL, 0), f->node))
        sim_fail(c->s, "client %u: fsync of %llx returned 0, but no record brought the node",
                 c->index, (unsigned long long)f->node);
    for (size_t i = 0; i < f->children; i++) {
        struct bytes name = bytes_of(f->child[i].name, f->child[i].name_len);
        err = core_lookup(c->core, f->node, name, &a, &need);
        if (err || a.node != f->child[i].node || server_told(c->s, f->node, name, a.node))
            continue;
        sim_fail(c->s, "client %u: fsync of directory %llx returned 0, but no record brought %.*s",
                 c->index, (unsigned long long)f->node, (int)name.n, (const char *)name.p);
    }
}

static void fsync_done(struct client *c, struct fsync_wait *f)
{
    struct ledger *l = &c->s->ledger;
    c->s->count.fsyncs++;
    sim_log(c->s, "c%u fsync of %llx is done", c->index, (unsigned long long)f->node);
    verify_reach(c->s);
    for (size_t i = 0; i < f->marks.n && !c->s->failed; i++) {
        const struct mark *m = &f->marks.v[i];
        if ((m->mask & l->w[m->write].live & ~l->w[m->write].reachable) &&
            !ledger_weak(l, l->w[m->write].node))
            sim_fail(c->s, "client %u: fsync of %llx returned 0, but write %u is not at the server",
                     c->index, (unsigned long long)f->node, m->write);
    }
    fsync_names(c, f);
    marks_free(&f->marks);
    f->used = false;
}

void fsync_turn(struct client *c)
{
    for (size_t i = 0; i < BARRIERS_MAX; i++) {
        struct fsync_wait *f = &c->fsyncs[i];
        struct core_barrier b;
        if (!f->used || c->s->failed)
            continue;
        int err = core_barrier(c->core, f->node, &b);
        if (err == -ESTALE) { /* removed, and nothing refers to it */
            marks_free(&f->marks);
            f->used = false;
            continue;
        }
        if (!client_ok(c, err, "core_barrier"))
            return;
        if (!b.dirty && !b.request)
            fsync_done(c, f);
    }
}
