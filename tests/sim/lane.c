// SPDX-License-Identifier: Apache-2.0
/* The commits of one client in one namespace: at most one is unanswered.
 *
 *   idle -> ready             a plan, or one from before a restart, to be sent again
 *   ready -> asked            the question first, now and then
 *   ready -> sent             the commit
 *   asked, sent -> lacks      what targets lack is uploaded (upload.c), then ready again
 *   asked, sent -> ready      the answer is lost: the same number again
 *   sent -> idle              a final answer
 *
 * fsync goes before background work. It is done when nothing of its node is pending or under way.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 200 /* times that one number is sent in good weather */

void lane_reset(struct view *v)
{
    core_plan_free(&v->lane.plan);
    v->lane = (struct lane){0};
}

void lane_ended(struct view *v, uint64_t request)
{
    if (v && v->lane.phase != LANE_IDLE && v->lane.plan.request == request)
        lane_reset(v);
}

/* ---- steps ----------------------------------------------------------------------------------- */
static void send_commit(struct client *c, struct view *v)
{
    cleanup_arena struct arena ar = {0};
    const struct lane *l = &v->lane;
    const struct core_plan *p = &l->plan;
    uint64_t targets[SERVERS_MAX];
    struct block_id not_held[64];
    struct m_commit_req q = {.ns = p->ns,
                             .request = p->request,
                             .lowest_open = p->lowest_open,
                             .cursor = p->cursor,
                             .mark = p->mark,
                             .again = p->again,
                             .targets = targets,
                             .ids = p->ids,
                             .ids_n = p->ids_n,
                             .not_held = not_held,
                             .not_held_n = l->not_held_n,
                             .changes = bytes_of(p->changes.p, p->changes.n)};
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        if (l->targets >> k & 1)
            targets[q.targets_n++] = c->s->server.inst->server[k].id;
    for (size_t i = 0; i < l->not_held_n; i++)
        not_held[i] = c->s->ledger.w[l->not_held[i]].id;
    upload_receipts(c, v, &q, &ar);
    struct call *k = client_call(c, CALL_COMMIT, 0, v->ns, "commit", &m_commit_req_desc, &q);
    if (!k)
        return;
    k->request = p->request;
    v->lane.phase = LANE_SENT;
}

static void send_question(struct client *c, struct view *v)
{
    const struct core_plan *p = &v->lane.plan;
    unsigned k = (unsigned)__builtin_ctz(v->lane.targets);
    struct m_diff_req q = {
        .ns = p->ns, .target = c->s->server.inst->server[k].id, .ids = p->ids, .ids_n = p->ids_n};
    struct call *call = client_call(c, CALL_DIFF, 0, v->ns, "diff", &m_diff_req_desc, &q);
    if (!call)
        return;
    call->request = p->request;
    v->lane.phase = LANE_ASKED;
}

/* ---- planning
 * -------------------------------------------------------------------------------------- */
/* Names of a node move together: none of them that is to change is left for another commit. */
static void check_whole(struct client *c, uint64_t request)
{
    sqlite3_stmt *s = tree_stmt(
        c->tree,
        "SELECT p.name, p.parent FROM entry q JOIN entry p ON p.pend != 0 AND p.request = 0"
        " AND p.id != q.id AND ((q.node != 0 AND q.node IN (p.node, p.base_node))"
        " OR (q.base_node != 0 AND q.base_node IN (p.node, p.base_node)))"
        " WHERE q.request = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    if (tree_step(c->tree, s) == 1)
        sim_fail(c->s, "client %u: request %llu leaves half of a move behind: %llx/%s", c->index,
                 (unsigned long long)request, (unsigned long long)sqlite3_column_int64(s, 1),
                 (const char *)sqlite3_column_text(s, 0));
    if (s)
        sqlite3_reset(s);
}

static bool is_refusal(int err)
{
    return err == -EDQUOT || err == -EROFS || err == -EACCES || err == -EIO;
}

static bool planned(struct client *c, struct view *v, int err, struct core_need *need,
                    const char *what)
{
    struct core_plan *p = &v->lane.plan;
    if (err == CORE_NEED)
        client_need(c, need);
    if (is_refusal(err) && !simvfs_crashed(c->disk)) /* parked */
        return false;
    if (err == CORE_NEED || err == -EAGAIN || err == -ENOENT)
        return false;
    if (!client_ok(c, err, what) || p->rows == 0)
        return false;
    if (*what != 'r')
        check_whole(c, p->request);
    sim_log(c->s, "c%u %s: request %llu, %zu rows, %zu blocks", c->index, what,
            (unsigned long long)p->request, p->rows, p->ids_n);
    if (c->s->opt.verbose) {
        cleanup_arena struct arena ar = {0};
        struct m_changes m;
        msg_decode(&m_changes_desc, &m, p->changes.p, p->changes.n, MSG_STRICT, &ar, NULL);
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
        for (size_t i = 0; i < m.xattrs_n; i++)
            sim_log(c->s, "    xattr %llx %.*s at %llu%s", (unsigned long long)m.xattrs[i].node,
                    (int)m.xattrs[i].name.n, (const char *)m.xattrs[i].name.p,
                    (unsigned long long)m.xattrs[i].base_rev, m.xattrs[i].removed ? " gone" : "");
    }
    if (p->request > c->planned)
        c->planned = p->request;
    v->lane.phase = LANE_READY;
    v->lane.rounds = 0;
    return true;
}

static void fsync_end(struct client *c, uint64_t node)
{
    for (size_t i = 0; i < BARRIERS_MAX; i++) {
        if (!c->fsyncs[i].used || c->fsyncs[i].node != node)
            continue;
        marks_free(&c->fsyncs[i].marks);
        c->fsyncs[i].used = false;
    }
}

/* fsyncs that are to be planned, together or one alone. */
static bool plan_fsyncs(struct client *c, struct view *v, struct rng *r)
{
    uint64_t nodes[BARRIERS_MAX];
    size_t n = 0;
    struct core_need need = {0};
    for (size_t i = 0; i < BARRIERS_MAX; i++) {
        struct core_barrier b;
        if (c->fsyncs[i].used && c->fsyncs[i].ns == v->ns &&
            core_barrier(c->core, c->fsyncs[i].node, &b) == 0 && b.dirty && !b.request)
            nodes[n++] = c->fsyncs[i].node;
    }
    if (n > 1 && rng_percent(r, 30)) {
        nodes[0] = nodes[rng_below(r, (unsigned)n)];
        n = 1;
    }
    if (!n)
        return false;
    int err = core_plan(c->core, v->ns, nodes, n, 0, &v->lane.plan, &need);
    if (is_refusal(err) && n > 1)
        err = core_plan(c->core, v->ns, nodes, 1, 0, &v->lane.plan, &need);
    if (is_refusal(err)) /* something that it takes along is parked: that is fsync's error */
        fsync_end(c, nodes[0]);
    return planned(c, v, err, &need, "fsync");
}

/* Nothing is pending in the whole tree, nor under way: there is nothing to plan. */
static bool is_idle(struct client *c)
{
    int64_t now = sqlite3_total_changes64(tree_db(c->tree));
    if (c->at.idle == now)
        return true;
    sqlite3_stmt *s = tree_stmt(c->tree, "SELECT EXISTS(SELECT 1 FROM node WHERE pend != 0)"
                                         " OR EXISTS(SELECT 1 FROM entry WHERE pend != 0)"
                                         " OR EXISTS(SELECT 1 FROM xattr WHERE pend != 0)"
                                         " OR EXISTS(SELECT 1 FROM sent)");
    bool idle = tree_step(c->tree, s) == 1 && !sqlite3_column_int(s, 0);
    if (s)
        sqlite3_reset(s);
    if (idle)
        c->at.idle = now;
    return idle;
}

static void plan(struct client *c, struct view *v, struct rng *r)
{
    struct lane *l = &v->lane;
    struct core_need need = {0};
    bool healed = c->s->healed;
    if (is_idle(c)) {
        l->nothing += healed;
        return;
    }
    if (planned(c, v, core_resend(c->core, v->ns, 0, &l->plan), &need, "resend") || !c->core)
        return;
    if (plan_fsyncs(c, v, r) || !c->core)
        return;
    if (!healed && !rng_percent(r, 40)) /* background work is in no hurry */
        return;
    int64_t quiet = healed ? INT64_MAX : client_now(c) - rng_below(r, 3) * 1000000000ll;
    int err = core_plan(c->core, v->ns, NULL, 0, quiet, &l->plan, &need);
    l->nothing = healed && !err && l->plan.rows == 0 ? l->nothing + 1 : 0;
    planned(c, v, err, &need, "plan");
}

void lane_turn(struct client *c, struct view *v, struct rng *r)
{
    struct lane *l = &v->lane;
    if (!v->member)
        return;
    if (l->phase == LANE_IDLE)
        plan(c, v, r);
    if (!c->core || !client_reaches(c, 0))
        return;
    if (l->phase == LANE_READY) {
        upload_targets(c, v, r);
        if (c->s->healed && !c->revoked && l->rounds++ > ROUNDS_MAX)
            sim_fail(c->s, "client %u: request %llu is sent again and again", c->index,
                     (unsigned long long)l->plan.request);
        else if (!l->targets)
            c->session_wanted = true;
        else if (l->plan.ids_n && rng_percent(r, 30))
            send_question(c, v);
        else
            send_commit(c, v);
    } else if (l->phase == LANE_LACKS) {
        upload_turn(c, v, r);
    }
}

/* ---- answers
 * ----------------------------------------------------------------------------------------- */
static void log_final(struct client *c, uint64_t request, const struct m_commit_ans *a)
{
    sim_log(c->s, "c%u answer to %llu: status %llu sjid %llu head %llu", c->index,
            (unsigned long long)request, (unsigned long long)a->status, (unsigned long long)a->sjid,
            (unsigned long long)a->head);
    for (size_t i = 0; i < a->rows_n; i++)
        sim_log(c->s, "  row kind %llu node %llx name %.*s reason %llu: %.*s",
                (unsigned long long)a->rows[i].kind, (unsigned long long)a->rows[i].node,
                (int)a->rows[i].name.n, (const char *)a->rows[i].name.p,
                (unsigned long long)a->rows[i].reason, (int)a->reason.n, (const char *)a->reason.p);
}

static bool refusal_expected(const struct client *c, const struct m_commit_ans *a)
{
    size_t k = 0; /* behind the conflicts that are told beside it */
    while (k + 1 < a->rows_n && a->rows[k].reason < REFUSED_QUOTA)
        k++;
    switch (a->rows_n ? a->rows[k].reason : REFUSED_NONE) {
    case REFUSED_QUOTA:
        return c->s->p.refuse & REFUSE_QUOTA;
    case REFUSED_ROLE:
    case REFUSED_MEMBER:
        return c->s->p.refuse & REFUSE_ROLE;
    case REFUSED_ASSIGNMENT:
        return c->s->p.refuse & REFUSE_ASSIGNMENT;
    case REFUSED_INVALID: /* what it would have revived is forgotten */
    case REFUSED_PARENT:
        return c->s->p.prune;
    default:
        return a->rows_n && a->rows[k].reason == REFUSED_REQUEST;
    }
}

void lane_final(struct client *c, struct view *v, const struct m_commit_ans *a)
{
    struct core_effects fx = {0};
    uint64_t request = v->lane.plan.request;
    log_final(c, request, a);
    if (a->status == COMMIT_CONFLICT)
        c->s->count.conflicts++;
    else if (a->status == COMMIT_COMMITTED)
        c->s->count.commits++;
    else
        c->s->count.refused++;
    if (a->status == COMMIT_REFUSED && a->rows_n && a->rows[0].reason == REFUSED_ASSIGNMENT)
        c->session_wanted = true; /* the table is old */
    v->news++;
    int err = core_commit_answer(c->core, v->ns, request, a, &fx);
    if (client_ok(c, err, "core_commit_answer")) {
        lane_reset(v);
        client_effects(c, &fx);
    }
    core_effects_free(&fx);
}

static void commit_answer(struct client *c, struct view *v, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_commit_ans a;
    if (msg_decode(&m_commit_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a commit cannot be read", c->index);
        return;
    }
    if (a.status == COMMIT_REFUSED && !refusal_expected(c, &a)) {
        log_final(c, v->lane.plan.request, &a);
        sim_fail(c->s, "client %u: request %llu is refused: %.*s", c->index,
                 (unsigned long long)v->lane.plan.request, (int)a.reason.n,
                 (const char *)a.reason.p);
        return;
    }
    if (a.status != COMMIT_MISSING) {
        lane_final(c, v, &a);
        return;
    }
    c->s->count.missing++;
    v->lane.lack_n = 0;
    for (size_t i = 0; i < a.missing_n; i++)
        upload_lacks(c, v, a.missing[i].server, &a.missing[i].block, false);
    for (size_t i = 0; i < a.elsewhere_n; i++)
        upload_lacks(c, v, a.elsewhere[i].server, &a.elsewhere[i].block, true);
    v->lane.phase = v->lane.lack_n ? LANE_LACKS : LANE_READY;
}

static void diff_answer(struct client *c, struct view *v, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct m_diff_ans a;
    if (msg_decode(&m_diff_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the answer to a question cannot be read", c->index);
        return;
    }
    uint64_t server = c->s->server.inst->server[__builtin_ctz(v->lane.targets)].id;
    v->lane.lack_n = 0;
    for (size_t i = 0; i < a.missing_n; i++)
        upload_lacks(c, v, server, &a.missing[i], false);
    for (size_t i = 0; i < a.elsewhere_n; i++)
        upload_lacks(c, v, server, &a.elsewhere[i], true);
    v->lane.phase = v->lane.lack_n ? LANE_LACKS : LANE_READY;
}

void lane_answer(struct client *c, struct call *k, int status, struct bytes body)
{
    struct view *v = client_view(c, k->ns);
    if (!v)
        return;
    if (k->kind == CALL_PUT || k->kind == CALL_GET) {
        if (v->lane.phase == LANE_LACKS)
            upload_answer(c, v, k, status, body);
        return;
    }
    if (v->lane.phase != (k->kind == CALL_COMMIT ? LANE_SENT : LANE_ASKED) ||
        k->request != v->lane.plan.request) /* which has ended meanwhile */
        return;
    if (status == ERR_FORBIDDEN)
        c->session_wanted = true;
    if (status == ERR_RESYNC) /* not the journal that it was planned on */
        v->list_wanted = true;
    if (status)
        v->lane.phase = LANE_READY;
    else if (k->kind == CALL_COMMIT)
        commit_answer(c, v, body);
    else
        diff_answer(c, v, body);
}

/* ---- fsync
 * --------------------------------------------------------------------------------------------- */
/* The node is known to the server, and so are a directory's names that are still as they were. */
static void fsync_names(struct client *c, const struct fsync_wait *f)
{
    struct core_attr a;
    struct core_need need;
    struct view *v = client_view(c, f->ns);
    int err = core_getattr(c->core, f->node, &a, &need);
    if (!err && a.nlink && v && f->node != v->root &&
        !server_told(c->s, 0, bytes_of(NULL, 0), f->node))
        sim_fail(c->s, "client %u: fsync of %llx returned 0, but no record brought the node",
                 c->index, (unsigned long long)f->node);
    for (size_t i = 0; i < f->children; i++) {
        struct bytes name = bytes_of(f->child[i].name, f->child[i].name_len);
        err = core_lookup(c->core, f->node, name, &a, &need);
        if (err || a.mounted || a.node != f->child[i].node ||
            server_told(c->s, f->node, name, a.node))
            continue;
        sim_fail(c->s, "client %u: fsync of directory %llx returned 0, but no record brought %.*s",
                 c->index, (unsigned long long)f->node, (int)name.n, (const char *)name.p);
    }
}

/* A block of the client's own is at as many servers as it wants copies. */
static bool at_servers(const struct client *c, const struct written *w)
{
    unsigned want = c->s->p.refuse & REFUSE_ASSIGNMENT ? 1 : c->copies;
    return w->client != c->index || !w->referred ||
           (unsigned)__builtin_popcount(blockd_had(w)) >= want;
}

static void fsync_done(struct client *c, struct fsync_wait *f)
{
    struct ledger *l = &c->s->ledger;
    c->s->count.fsyncs++;
    struct core_ns n;
    bool compares = core_ns_get(c->core, f->ns, &n) == 0 && n.other;
    if (!compares &&
        c->strange >> server_ns(c->s, f->ns) & 1) { /* what is lost it believes to be committed */
        marks_free(&f->marks);
        f->used = false;
        return;
    }
    sim_log(c->s, "c%u fsync of %llx is done", c->index, (unsigned long long)f->node);
    verify_reach(c->s, f->ns);
    for (size_t i = 0; i < f->marks.n && !c->s->failed; i++) {
        const struct mark *m = &f->marks.v[i];
        const struct written *w = &l->w[m->write];
        if (w->times) /* it may count for another file by now */
            continue;
        if ((m->mask & w->live & ~w->reachable) && !ledger_weak(l, w->node))
            sim_fail(c->s, "client %u: fsync of %llx returned 0, but write %u is not at the server",
                     c->index, (unsigned long long)f->node, m->write);
        else if ((m->mask & w->live & w->committed & w->reachable) && !at_servers(c, w))
            sim_fail(c->s, "client %u: fsync of %llx returned 0, but write %u has too few copies",
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
        const struct view *v = client_view(c, f->ns);
        int err = core_barrier(c->core, f->node, &b);
        bool refused = !err && (b.parked || !v || !v->member);
        if (err == -ESTALE || refused) { /* removed, and nothing refers to it; refused */
            marks_free(&f->marks);
            f->used = false;
            continue;
        }
        if (!client_ok(c, err, "core_barrier"))
            return;
        if (!b.dirty && !b.request && !b.unsure)
            fsync_done(c, f);
    }
}
