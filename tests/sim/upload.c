// SPDX-License-Identifier: Apache-2.0
/* What the targets of a commit lack, and how they get it.
 *
 * A block that this client has is put to the target. One that it does not have (it was cloned, or
 * is in the base of a conflicted copy) is fetched from whoever has it; if nobody whom it reaches
 * has, the commit says `not_held` of a block that is elsewhere, and one that is nowhere at all ends
 * the commit: the files that refer to it are set aside as if they had been refused, and the rest
 * goes on.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int server_index(const struct client *c, uint64_t id)
{
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        if (c->s->server.inst->server[k].id == id)
            return (int)k;
    return -1;
}

static unsigned assigned(const struct view *v)
{
    unsigned mask = 0;
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        mask |= (v->candidate[k].assigned ? 1u : 0u) << k;
    return mask;
}

/* The same as long as they work and are assigned. */
void upload_targets(struct client *c, struct view *v, struct rng *r)
{
    unsigned may = assigned(v), want = c->copies;
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        may &= ~((v->candidate[k].leaving ? 1u : 0u) << k);
    v->lane.targets &= (uint8_t)may;
    if (v->lane.targets && rng_percent(r, 5)) /* chosen anew, for a better one */
        v->lane.targets = 0;
    if (want > (unsigned)__builtin_popcount(may))
        want = (unsigned)__builtin_popcount(may);
    while ((unsigned)__builtin_popcount(v->lane.targets) < want)
        v->lane.targets |= (uint8_t)(may & 1u << rng_below(r, SERVERS_MAX));
}

/* ---- receipts -------------------------------------------------------------------------------- */
static struct receipt *receipt_find(struct client *c, const struct block_id *id, unsigned server)
{
    for (size_t i = 0; i < c->receipts_n; i++)
        if (c->receipts[i].server == server && block_id_equal(&c->receipts[i].id, id))
            return &c->receipts[i];
    return NULL;
}

static void receipt_add(struct client *c, const struct m_put_result *r, unsigned server)
{
    struct receipt *t = receipt_find(c, &r->block, server);
    if (!t) {
        if (c->receipts_n == c->receipts_cap) {
            c->receipts_cap = c->receipts_cap ? 2 * c->receipts_cap : 16;
            c->receipts = realloc(c->receipts, c->receipts_cap * sizeof *c->receipts);
            if (!c->receipts)
                abort();
        }
        t = &c->receipts[c->receipts_n++];
        t->id = r->block;
        t->server = (uint8_t)server;
    }
    t->n = r->receipt.n;
    memcpy(t->bytes, r->receipt.p, r->receipt.n);
}

void upload_receipts(struct client *c, struct view *v, struct m_commit_req *q, struct arena *ar)
{
    const struct core_plan *p = &v->lane.plan;
    q->receipts = arena_alloc(ar, (SERVERS_MAX * p->ids_n + 1) * sizeof *q->receipts);
    for (size_t i = 0; i < p->ids_n; i++)
        for (unsigned k = 0; k < SERVERS_MAX; k++) {
            struct receipt *t = receipt_find(c, &p->ids[i].block, k);
            if (t)
                q->receipts[q->receipts_n++].receipt = bytes_of(t->bytes, t->n);
        }
}

/* ---- what is lacking ------------------------------------------------------------------------- */
void upload_lacks(struct client *c, struct view *v, uint64_t server, const struct block_id *id,
                  bool elsewhere)
{
    struct lane *l = &v->lane;
    uint32_t w;
    int k = server_index(c, server);
    if (k < 0 || !ledger_find(&c->s->ledger, id, &w))
        sim_fail(c->s, "client %u: a block that nobody wrote is missing", c->index);
    else if (l->lack_n < sizeof l->lack / sizeof *l->lack)
        l->lack[l->lack_n++] =
            (struct lack){.write = w, .server = (uint8_t)k, .elsewhere = elsewhere};
}

static bool cached(const struct client *c, uint32_t write)
{
    return c->s->ledger.w[write].cached >> c->index & 1;
}

static void lack_remove(struct lane *l, size_t i)
{
    l->lack[i] = l->lack[--l->lack_n];
    if (!l->lack_n)
        l->phase = LANE_READY;
}

static struct bytes capability(const struct view *v, unsigned k)
{
    const struct buf *b = &v->candidate[k].capability;
    return b->n ? bytes_of(b->p, b->n) : bytes_str("none");
}

static void send_put(struct client *c, struct view *v, unsigned server)
{
    struct m_put_item item[256];
    struct m_put_head h = {.ns = v->ns, .capability = capability(v, server), .items = item};
    for (size_t i = 0; i < v->lane.lack_n; i++) {
        const struct lack *k = &v->lane.lack[i];
        const struct written *w = &c->s->ledger.w[k->write];
        if (k->server == server && cached(c, k->write))
            item[h.items_n++] =
                (struct m_put_item){.block = w->id, .stored_len = w->len, .logical_len = w->len};
    }
    client_call(c, CALL_PUT, server + 1, v->ns, "put", &m_put_head_desc, &h);
}

static bool refers(const struct m_node_change *n, const struct block_id *id)
{
    for (size_t g = 0; g < n->ranges_n; g++)
        for (size_t e = 0; e < n->ranges[g].extents_n; e++)
            if (block_id_equal(&n->ranges[g].extents[e].block, id))
                return true;
    return false;
}

/* After a loss of power: the file is again as the server has it there; a name that a new file took
 * is the old one's again. */
static void give_back(struct client *c, uint64_t node, uint32_t write)
{
    struct core_effects fx = {0};
    const char *what = "where it was";
    int err = core_block_lost(c->core, node, &c->s->ledger.w[write].id);
    if (err && !simvfs_crashed(c->disk)) {
        what = "its name";
        err = core_name_lost(c->core, node, client_now(c), &fx);
    }
    if (err != -ENOENT && err != -EBUSY && client_ok(c, err, "giving back")) {
        sim_log(c->s, "c%u gives back %s of %llx", c->index, what, (unsigned long long)node);
        c->s->count.given_back++;
        ledger_nowhere(&c->s->ledger, write);
        observer_parted(&c->s->observer, c->index, node);
        observer_changed(c, node);
        client_effects(c, &fx);
    }
    core_effects_free(&fx);
}

/* Nothing is removed before everybody has said what the lost journal refers to. */
static bool was_kept(const struct sim *s, uint32_t write)
{
    const struct written *w = &s->ledger.w[write];
    return w->held_before && s->p.ticks && blockd_nowhere(w) &&
           !(s->p.refuse & (REFUSE_STORAGE | REFUSE_ASSIGNMENT));
}

/* The files of the plan that refer to a block that is nowhere are refused, as it were; but for
 * those of which a loss of power took what was not synced. */
static void give_up(struct client *c, struct view *v, uint32_t write)
{
    cleanup_arena struct arena ar = {0};
    struct m_changes m;
    const struct block_id *id = &c->s->ledger.w[write].id;
    const struct core_plan *p = &v->lane.plan;
    bool back = c->power_lost;
    if (msg_decode(&m_changes_desc, &m, p->changes.p, p->changes.n, MSG_STRICT, &ar, NULL)) {
        sim_fail(c->s, "client %u: its own changes cannot be read", c->index);
        return;
    }
    struct m_row_ref *rows = arena_alloc(&ar, (m.nodes_n + 1) * sizeof *rows);
    struct m_commit_ans a = {.status = COMMIT_CONFLICT, .rows = rows};
    for (size_t i = 0; i < m.nodes_n; i++)
        if (refers(&m.nodes[i], id) && !(back && core_has_base(c->core, m.nodes[i].node)))
            rows[a.rows_n++] = (struct m_row_ref){
                .kind = ROW_NODE_CONTENT, .node = m.nodes[i].node, .reason = REFUSED_INVALID};
    if (a.rows_n || !back)
        a.status = COMMIT_REFUSED;
    if (!c->s->p.gc && !c->s->p.lossy && !(c->s->p.refuse & (REFUSE_STORAGE | REFUSE_ASSIGNMENT)))
        sim_fail(c->s, "client %u: write %u is nowhere", c->index, write);
    if (was_kept(c->s, write))
        sim_fail(c->s, "client %u: write %u was there when the server knew that it was put back",
                 c->index, write);
    sim_log(c->s, "c%u gives up request %llu: write %u is nowhere", c->index,
            (unsigned long long)p->request, write);
    c->gave_up |= a.rows_n != 0;
    lane_final(c, v, &a);
    for (size_t i = 0; back && c->core && i < m.nodes_n; i++)
        if (refers(&m.nodes[i], id))
            give_back(c, m.nodes[i].node, write);
}

/* A block that is not here. */
static void fetch(struct client *c, struct view *v, size_t i, struct rng *r)
{
    struct lack *k = &v->lane.lack[i];
    struct lane *l = &v->lane;
    unsigned may = assigned(v) & ~(unsigned)k->tried;
    if (!may && k->elsewhere && l->not_held_n < sizeof l->not_held / sizeof *l->not_held) {
        l->not_held[l->not_held_n++] = k->write;
        lack_remove(l, i);
        return;
    }
    if (!may) {
        give_up(c, v, k->write);
        return;
    }
    unsigned from = rng_below(r, SERVERS_MAX);
    if (!(may >> from & 1) || !client_reaches(c, from + 1))
        return;
    struct block_id id = c->s->ledger.w[k->write].id;
    struct m_get_req q = {
        .ns = v->ns, .capability = capability(v, from), .blocks = &id, .blocks_n = 1};
    client_call(c, CALL_GET, from + 1, v->ns, "get", &m_get_req_desc, &q);
}

void upload_turn(struct client *c, struct view *v, struct rng *r)
{
    struct lane *l = &v->lane;
    if (client_calling(c, CALL_PUT, v->ns) || client_calling(c, CALL_GET, v->ns))
        return;
    size_t i = rng_below(r, (unsigned)l->lack_n);
    unsigned server = l->lack[i].server;
    if (!cached(c, l->lack[i].write)) {
        fetch(c, v, i, r);
    } else if (client_reaches(c, server + 1)) {
        send_put(c, v, server);
    } else { /* another target, and what that lacks is asked anew */
        l->targets = 0;
        l->lack_n = 0;
        l->phase = LANE_READY;
    }
}

/* ---- answers --------------------------------------------------------------------------------- */
static void put_answer(struct client *c, struct view *v, unsigned server, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_put_ans a;
    if (msg_decode(&m_put_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a put cannot be read", c->index);
        return;
    }
    for (size_t i = 0; i < a.results_n; i++) {
        uint32_t w = UINT32_MAX;
        receipt_add(c, &a.results[i], server);
        ledger_find(&c->s->ledger, &a.results[i].block, &w);
        for (size_t k = v->lane.lack_n; k-- > 0;)
            if (v->lane.lack[k].write == w && v->lane.lack[k].server == server)
                lack_remove(&v->lane, k);
    }
}

static void get_answer(struct client *c, struct view *v, unsigned server, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_get_head a;
    if (msg_decode(&m_get_head_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a get cannot be read", c->index);
        return;
    }
    for (size_t i = 0; i < a.items_n; i++) {
        uint32_t w;
        if (!ledger_find(&c->s->ledger, &a.items[i].block, &w))
            continue;
        if (!a.items[i].error)
            c->s->ledger.w[w].cached |= (uint8_t)(1u << c->index);
        for (size_t k = 0; a.items[i].error && k < v->lane.lack_n; k++)
            if (v->lane.lack[k].write == w)
                v->lane.lack[k].tried |= (uint8_t)(1u << server);
    }
}

void upload_answer(struct client *c, struct view *v, const struct call *k, int status,
                   struct bytes body)
{
    if (status == ERR_FORBIDDEN)
        c->session_wanted = true;
    if (status && k->kind == CALL_PUT) {
        v->lane.targets = 0;
        v->lane.lack_n = 0;
        v->lane.phase = LANE_READY;
    } else if (!status && k->kind == CALL_PUT) {
        put_answer(c, v, k->to - 1u, body);
    } else if (!status) {
        get_answer(c, v, k->to - 1u, body);
    }
}
