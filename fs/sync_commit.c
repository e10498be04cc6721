// SPDX-License-Identifier: Apache-2.0
/* Commits: one lane per namespace, in which at most one commit is unanswered.
 *
 * A lane goes idle -> upload -> sent -> idle. A plan is stored in the tree under its number when it
 * is made, so it stays in the lane, and is sent again with the same number, until it has a final
 * answer: through lost answers, failed targets (`missing` brings it back to upload) and restarts
 * (core_resend). Its outcome always arrives as EFFECT_DONE, whether from the answer or, if that was
 * lost, from the journal.
 *
 * Barriers upload the blocks of their closure without the lane, then all that are ready are planned
 * together. While the last small puts of barriers are under way and nobody else is ready, their
 * commit is planned already: that costs as much as such a put. It is taken back when the puts take
 * longer than expected, so that it holds up nobody who needs none.
 *
 * Background work goes through the lane only when no barrier is ready, and only with all its blocks
 * at the targets: the batch is planned inside a transaction that is rolled back while any block is
 * missing, so that a barrier never waits for a background upload. (After a few rounds, when
 * programs change the batch as fast as it is uploaded, it is taken as it is.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parked.h"
#include "sync_internal.h"
#include "token.h"
#include "vfs.h"

#define COMMIT_TIMEOUT_MS 30000
#define MISSING_ROUNDS_MAX 8    /* answers `missing` in a row, then a pause */
#define ASSIGNMENT_ROUNDS_MAX 3 /* refusals of the targets in a row, each after a new session */
#define AHEAD_ROUNDS_MAX 3
#define LOST_ROUNDS_MAX 3   /* questions after which a block that is nowhere is given up */
#define TROUBLE_MS 1000     /* after a local failure (disk full …) */
#define EARLY_MS 50         /* a plan waits that long for puts, … */
#define EARLY_AGAIN_MS 5000 /* … and after it waited in vain, none does for so long */

static uint32_t jitter(void)
{
    uint32_t r;
    random_bytes(&r, sizeof r);
    return r;
}

/* ---- traces ---- */
/* The nodes of a background batch. */
static void trace_plan(struct sync *s, const struct core_plan *p)
{
    struct arena cleanup_arena a = {0};
    struct m_changes m;
    if (!trace_on(s->fs->log) ||
        msg_decode(&m_changes_desc, &m, p->changes.p, p->changes.n, MSG_LENIENT, &a, NULL))
        return;
    for (size_t i = 0; i < m.nodes_n; i++) {
        const struct m_node_change *n = &m.nodes[i];
        struct m_block_ref *refs = NULL;
        size_t refs_n = 0;
        for (size_t r = 0; r < n->ranges_n; r++)
            refs_n += n->ranges[r].extents_n;
        refs = arena_alloc(&a, (refs_n + 1) * sizeof *refs);
        refs_n = 0;
        for (size_t r = 0; r < n->ranges_n; r++)
            for (size_t x = 0; x < n->ranges[r].extents_n; x++)
                refs[refs_n++].block = n->ranges[r].extents[x].block;
        trace_node(s, p->ns, n->node, refs, refs_n);
    }
}

static void trace_commit(struct sync *s, const struct sync_ns *ns, uint64_t request, uint64_t sjid)
{
    if (!trace_on(s->fs->log))
        return;
    struct trace t = trace_begin(s->fs->log, "commit");
    trace_u64(&t, "ns", ns->id);
    trace_u64(&t, "request", request);
    trace_u64(&t, "sjid", sjid);
    trace_end(&t);
}

void journal_moved(struct sync *s, struct sync_ns *ns)
{
    barriers_recheck(ns);
    if (ns->lane.held) {
        ns->lane.held = false;
        ns->lane.due = 0;
    }
    sync_wake(s);
}

/* ---- outcomes ---- */
static void lane_clear(struct lane *l)
{
    core_plan_free(&l->plan);
    upload_set_free(&l->set);
    l->phase = LANE_IDLE;
    l->rounds = l->lost = 0;
    l->session = 0;
    l->background = l->early = false;
    l->ops = (struct ops){0};
    backoff_ok(&l->backoff);
}

static const char *outcome_word(enum commit_status status)
{
    switch (status) {
    case COMMIT_COMMITTED:
        return "committed as";
    case COMMIT_CONFLICT:
        return "in conflict";
    default:
        return "refused";
    }
}

static void settled(struct sync *s, struct sync_ns *ns, const struct core_effect *e)
{
    struct lane *l = &ns->lane;
    bool partial = false;
    if (l->phase != LANE_IDLE && l->plan.request == e->other) {
        partial = l->plan.partial;
        ops_log(s, ns->id, e->other, &l->ops, "commit: %s %llu", outcome_word(e->status),
                (unsigned long long)e->sjid);
        if (e->status == COMMIT_COMMITTED) {
            trace_commit(s, ns, e->other, e->sjid);
            upload_committed(s, ns, &l->set);
            ns->error[0] = 0;
        }
        lane_clear(l);
        l->wanted = true;
        l->due = 0;
    }
    barriers_settle(s, ns, e->other, e->status == COMMIT_COMMITTED && !partial);
    barriers_recheck(ns);
    if (e->sjid)
        journal_head(s, ns, e->sjid);
    pthread_cond_broadcast(&s->changed);
    sync_wake(s);
}

static void parked_error(struct sync *s, struct sync_ns *ns, int err)
{
    if (err == -EACCES && ns->listed && !ns_has_candidates(ns))
        ns_error(s, ns,
                 "%zu block servers are assigned, %llu are needed: ask the administrator for "
                 "`steadfs admin assign %s PREMISES`; what was changed is kept here: see `steadfs "
                 "parked`",
                 ns_candidates(ns), (unsigned long long)(ns->copies_min ? ns->copies_min : 1),
                 ns->name);
    else
        ns_error(s, ns, "a change was refused, and is kept here (see `steadfs parked`): %s: %s",
                 parked_reason(err), parked_remedy(err));
}

void commit_effects(struct sync *s, const struct core_effects *fx)
{
    for (size_t i = 0; i < fx->n; i++) {
        const struct core_effect *e = &fx->v[i];
        struct sync_ns *ns = sync_ns_need(s, e->ns);
        switch (e->kind) {
        case EFFECT_DONE:
            settled(s, ns, e);
            break;
        case EFFECT_FORK:
        case EFFECT_ALIAS:
        case EFFECT_MOVED:
            barriers_follow(ns, e->node, e->other);
            ns->lane.wanted = true; /* the copy is to be committed */
            break;
        case EFFECT_PARKED:
            log_about(s->fs->log, LOG_L_WARN, &(struct log_where){.ns = e->ns, .node = e->node},
                      "refused, and kept here: %s", parked_reason(e->err));
            barriers_recheck(ns);
            parked_error(s, ns, e->err);
            break;
        case EFFECT_SESSION:
            s->session_wanted = true;
            break;
        default:
            break;
        }
    }
}

/* ---- sending ---- */
static void lane_pause(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    backoff_failed(&l->backoff, s->clock(), jitter());
    l->phase = LANE_PAUSE;
    l->retry_at = backoff_due(&l->backoff, sync_awaited(s));
    sync_at(s, l->retry_at);
}

/* What the last session told is not so any more: sent again once a new one is learnt. */
static void lane_renew(struct sync *s, struct sync_ns *ns)
{
    s->session_wanted = true;
    ns->lane.session = s->sessions_asked + 1;
    ns->lane.set.pos = 0;
    lane_pause(s, ns);
}

/* Whether all that lacks is elsewhere and not here: replication is to bring it. */
static bool others_bring_it(struct sync *s, const struct m_commit_ans *a)
{
    bool all = !a->missing_n && a->elsewhere_n;
    for (size_t i = 0; i < a->elsewhere_n && all; i++)
        all = !blocks_has(s->fs->blocks, &a->elsewhere[i].block, NULL);
    return all;
}

static void answer_missing(struct sync *s, struct sync_ns *ns, const struct m_commit_ans *a)
{
    struct lane *l = &ns->lane;
    for (size_t i = 0; i < a->missing_n; i++)
        upload_missing(s, ns, a->missing[i].server, &a->missing[i].block, false);
    for (size_t i = 0; i < a->elsewhere_n; i++)
        upload_missing(s, ns, a->elsewhere[i].server, &a->elsewhere[i].block, true);
    l->set.pos = 0;
    l->phase = LANE_UPLOAD;
    if (ns_refused(ns)) { /* it may be taken after all, and nothing was uploaded for it */
        lane_renew(s, ns);
        return;
    }
    if (others_bring_it(s, a)) {
        ns_error(s, ns,
                 "%zu blocks have too few copies yet, and are not here: replication has to "
                 "bring them",
                 a->elsewhere_n);
        lane_pause(s, ns);
        return;
    }
    if (++l->rounds > MISSING_ROUNDS_MAX) {
        ns_error(s, ns, "the metadata server goes on missing %zu blocks that were uploaded",
                 a->missing_n + a->elsewhere_n);
        l->rounds = 0;
        lane_pause(s, ns);
    }
}

static void answer_final(struct sync *s, struct sync_ns *ns, const struct m_commit_ans *a)
{
    struct lane *l = &ns->lane;
    struct core_effects fx = {0};
    int err = a->status == COMMIT_COMMITTED ? 0 : vfs_before_answer(s->fs->vfs, a);
    if (!err)
        err = core_commit_answer(s->fs->core, ns->id, l->plan.request, a, &fx);
    if (err) { /* the server keeps its answer under the number: asked again */
        core_effects_free(&fx);
        ns_error(s, ns, "recording a commit in %s: %s", s->fs->opt.state, strerror(-err));
        lane_pause(s, ns);
        return;
    }
    if (a->status == COMMIT_REFUSED && a->reason.n)
        ns_error(s, ns, "refused: %.*s", (int)a->reason.n, (const char *)a->reason.p);
    sync_effects(s, &fx);
    journal_head(s, ns, a->head);
}

/* The assignment or the number of copies changed meanwhile: the same commit goes to other targets.
 */
static bool answer_targets(struct sync *s, struct sync_ns *ns, const struct m_commit_ans *a)
{
    struct lane *l = &ns->lane;
    if (a->status != COMMIT_REFUSED || !a->rows_n || a->rows[0].reason != REFUSED_ASSIGNMENT)
        return false;
    bool told = l->session && ns_refused(ns); /* a new session knows of no block server either */
    if (told || ++l->rounds > ASSIGNMENT_ROUNDS_MAX)
        return false;
    lane_renew(s, ns);
    return true;
}

static void lane_send(struct sync *s, struct sync_ns *ns);

static void commit_done(struct sync *s, struct sync_call *c)
{
    struct sync_ns *ns = c->arg;
    struct arena cleanup_arena a = {0};
    struct m_commit_ans m = {0};
    int bad = c->res.err ? 0 : call_decode(s, c, &m_commit_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    struct lane *l = &ns->lane;
    int err = meta_result(s, c);
    if (l->phase != LANE_SENT || l->plan.request != c->tag) {
        /* the journal told its outcome first */
    } else if (err || bad) {
        if (s->online && err != -ECANCELED)
            ns_error(s, ns, "commit: %s", bad ? strerror(-bad) : c->res.message);
        if (err == -ESTALE) /* not the journal that it was planned on */
            ns->list_wanted = true;
        lane_pause(s, ns);
    } else if (l->sent_bytes < l->plan.changes.n) {
        l->part++;
        lane_send(s, ns);
    } else if (m.status == COMMIT_MISSING) {
        answer_missing(s, ns, &m);
    } else if (!answer_targets(s, ns, &m)) {
        answer_final(s, ns, &m);
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

/* A commit that names no block needs no target that works, only ones that are assigned. */
static size_t any_targets(struct sync *s, struct sync_ns *ns, uint64_t *out)
{
    size_t n = 0, want = targets_wanted(s, ns);
    for (size_t i = 0; i < ns->targets_n && n < want; i++) {
        const struct route *r = route_find(ns, ns->targets[i]);
        if (r && r->listed && !r->leaving)
            out[n++] = ns->targets[i];
    }
    for (size_t i = 0; i < ns->routes_n && n < want; i++) {
        bool there = !ns->routes[i]->listed || ns->routes[i]->leaving;
        for (size_t k = 0; k < n; k++)
            there |= out[k] == ns->routes[i]->server->id;
        if (!there)
            out[n++] = ns->routes[i]->server->id;
    }
    return n;
}

/* Sends the plan, or its next part when it is too large for one message. */
static void lane_send(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    struct arena cleanup_arena a = {0};
    uint64_t targets[TARGETS_MAX];
    size_t left = l->plan.changes.n - l->sent_bytes;
    size_t n = left > CHANGES_PART_BYTES ? CHANGES_PART_BYTES : left;
    struct m_commit_req q = {.ns = ns->id,
                             .request = l->plan.request,
                             .lowest_open = l->plan.lowest_open,
                             .cursor = l->plan.cursor,
                             .mark = l->plan.mark,
                             .again = l->plan.again,
                             .targets = targets,
                             .changes = bytes_of(l->plan.changes.p + l->sent_bytes, n),
                             .part = l->part,
                             .more = n < left};
    q.targets_n = any_targets(s, ns, targets);
    if (!q.targets_n) /* a message names one: it is refused, and so parked */
        targets[q.targets_n++] = ns->routes_n ? ns->routes[0]->server->id : 0;
    if (!q.more) {
        q.ids = l->set.ids;
        q.ids_n = l->set.n;
        upload_fill(s, ns, &l->set, &q, &a);
    }
    l->sent_bytes += n;
    l->phase = LANE_SENT;
    struct sync_call *c = call_new(s, commit_done, ns);
    c->tag = q.request;
    c->ops = l->ops;
    ops_log(s, ns->id, q.request, &l->ops, "commit of %zu rows, %zu blocks%s", l->plan.rows,
            q.ids_n, q.more ? ", in parts" : "");
    call_meta(c, "commit", &m_commit_req_desc, &q, COMMIT_TIMEOUT_MS);
}

static bool refers(const struct m_node_change *n, const struct block_id *id)
{
    for (size_t r = 0; r < n->ranges_n; r++)
        for (size_t x = 0; x < n->ranges[r].extents_n; x++)
            if (block_id_equal(&n->ranges[r].extents[x].block, id))
                return true;
    return false;
}

/* After a loss of power: of what was never synced, such a block was. The file is again as the
 * server has it there, as it would be on a local disk; a name that a new file took, with what was
 * in it, is the old one's again. */
static void lane_give_back(struct sync *s, struct sync_ns *ns, const struct m_changes *m,
                           const struct block_id *lost)
{
    for (size_t i = 0; i < m->nodes_n; i++) {
        uint64_t node = m->nodes[i].node;
        struct log_where where = {.ns = ns->id, .node = node};
        struct core_effects fx = {0};
        if (!refers(&m->nodes[i], lost))
            continue;
        if (core_block_lost(s->fs->core, node, lost) == 0)
            log_about(s->fs->log, LOG_L_WARN, &where,
                      "power was lost before what was written here was synced: where that is gone, "
                      "the file is as it was before");
        else if (core_name_lost(s->fs->core, node, fs_now(), &fx) == 0)
            log_about(s->fs->log, LOG_L_WARN, &where,
                      "power was lost before what was written here was synced: the file that it "
                      "took the name of has it again; what is left is in a conflicted copy");
        sync_effects(s, &fx);
    }
    ns->lane.lost = 0;
}

/* The files that refer to a block that is nowhere are set aside as if the server had refused them,
 * so that the rest goes on; but for those that only lost what was not synced. The server answered
 * `missing`, so the commit has not happened; and if a late copy of it ever does, the journal tells.
 */
static void lane_give_up(struct sync *s, struct sync_ns *ns, const struct block_id *lost)
{
    struct lane *l = &ns->lane;
    struct arena cleanup_arena ar = {0};
    struct m_changes m = {0};
    struct m_commit_ans a = {.status = COMMIT_CONFLICT};
    const struct buf *b = &l->plan.changes;
    if (msg_decode(&m_changes_desc, &m, b->p, b->n, MSG_STRICT, &ar, NULL) == 0)
        a.rows = arena_alloc(&ar, (m.nodes_n + 1) * sizeof *a.rows);
    bool back = s->fs->power_lost;
    for (size_t i = 0; i < m.nodes_n; i++)
        if (refers(&m.nodes[i], lost) && !(back && core_has_base(s->fs->core, m.nodes[i].node)))
            a.rows[a.rows_n++] = (struct m_row_ref){
                .kind = ROW_NODE_CONTENT, .node = m.nodes[i].node, .reason = REFUSED_INVALID};
    if (a.rows_n || !back)
        a.status = COMMIT_REFUSED;
    answer_final(s, ns, &a);
    if (back)
        lane_give_back(s, ns, &m, lost);
}

/* No block server takes as much without a commit: so much is above the quota. As the metadata
 * server says it of a commit that it got: the largest files wait, the others go on. */
static void lane_over(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    struct arena cleanup_arena ar = {0};
    struct m_changes m = {0};
    struct m_commit_ans a = {.status = COMMIT_REFUSED};
    const struct buf *b = &l->plan.changes;
    if (msg_decode(&m_changes_desc, &m, b->p, b->n, MSG_STRICT, &ar, NULL) == 0)
        a.rows = arena_alloc(&ar, (m.nodes_n + 1) * sizeof *a.rows);
    for (size_t i = 0; i < m.nodes_n; i++)
        if (m.nodes[i].ranges_n)
            a.rows[a.rows_n++] = (struct m_row_ref){
                .kind = ROW_NODE_CONTENT, .node = m.nodes[i].node, .reason = REFUSED_QUOTA};
    answer_final(s, ns, &a);
}

static void lane_lost(struct sync *s, struct sync_ns *ns, const struct upload *u)
{
    struct lane *l = &ns->lane;
    char hex[BLOCK_HEX_LEN + 1];
    struct block_id id = u->id;
    if (u->since != l->lost_at || !l->lost)
        l->lost++;
    l->lost_at = u->since;
    if (l->lost >= LOST_ROUNDS_MAX)
        lane_give_up(s, ns, &id);
    else
        sync_at(s, s->clock() + TROUBLE_MS);
    block_id_hex(&id, hex);
    ns_error(s, ns, "block %.12s… is neither here nor at any server: its file cannot be committed",
             hex);
}

/* It was never sent: to the core that is a conflict about nothing, and all is planned again. */
static void lane_take_back(struct sync *s, struct sync_ns *ns)
{
    static const struct m_commit_ans nothing = {.status = COMMIT_CONFLICT};
    ns->lane.early_not_before = s->clock() + EARLY_AGAIN_MS;
    answer_final(s, ns, &nothing);
}

static void lane_upload(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    bool awaited = !l->background || !TAILQ_EMPTY(&ns->barriers);
    bool ready = upload_ready(s, ns, &l->set, awaited ? UPLOAD_BARRIER : UPLOAD_BACKGROUND);
    if (l->early && !ready && s->clock() - l->early_at >= EARLY_MS) {
        lane_take_back(s, ns);
        return;
    }
    if (!ready && upload_over(s, ns, &l->set)) {
        lane_over(s, ns);
        return;
    }
    if (!ready) {
        const struct upload *lost = upload_lost(s, ns, &l->set);
        if (lost)
            lane_lost(s, ns, lost);
        if (l->early)
            sync_at(s, l->early_at + EARLY_MS);
        return;
    }
    if (!s->online)
        return;
    l->early = false;
    l->sent_bytes = 0;
    l->part = 0;
    lane_send(s, ns);
}

/* ---- planning ---- */
static void lane_take(struct lane *l, struct core_plan *p, bool background)
{
    l->plan = *p;
    l->set = (struct upload_set){.ids = p->ids, .n = p->ids_n};
    if (background) {
        ops_add(&l->ops, l->op);
        l->op = 0;
    }
    l->set.op = l->ops.n ? l->ops.v[0] : 0;
    l->plan.ids = NULL; /* the set's now */
    l->plan.ids_n = 0;
    l->background = background;
    l->phase = LANE_UPLOAD;
}

static void lane_loaded(void *arg, int err)
{
    struct sync_ns *ns = arg;
    struct sync *s = ns->sync;
    pthread_mutex_lock(&s->fs->lock);
    ns->lane.load = 0;
    if (err) {
        ns->lane.not_before = s->clock() + TROUBLE_MS;
        if (s->online && err != -ESHUTDOWN)
            ns_error(s, ns, "loading what a commit needs: %s", strerror(-err));
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static void plan_failed(struct sync *s, struct sync_ns *ns, int err)
{
    ns_error(s, ns, "%s: %s%s", s->fs->opt.state, strerror(-err),
             err == -ENOSPC    ? ": free some space there"
             : err == -EUCLEAN ? ": it is damaged; unmount and mount again, and what is pending is "
                                 "read out of it"
                               : "");
    ns->lane.not_before = s->clock() + TROUBLE_MS;
    sync_at(s, ns->lane.not_before);
}

/* Commits from before the start, under their old numbers. True while there are some. */
static bool lane_resend(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    struct core_plan p;
    if (!l->resend)
        return false;
    int err = core_resend(s->fs->core, ns->id, 0, &p);
    if (!err) {
        lane_take(l, &p, false);
        return true;
    }
    if (err == -ENOENT) {
        l->resend = false;
        return false;
    }
    if (err == -EAGAIN)
        l->held = true;
    else
        plan_failed(s, ns, err);
    return true;
}

static bool is_local_trouble(int err)
{
    return err == -ENOSPC || err == -ENOMEM || err == -EUCLEAN;
}

/* One commit for all ready barriers; when they cannot go together, for the first alone. */
static bool lane_barriers(struct sync *s, struct sync_ns *ns)
{
    uint64_t nodes[BARRIERS_PER_PLAN];
    size_t n = barriers_ready(ns, nodes);
    struct core_plan p;
    struct core_need need;
    if (!n)
        return false;
    int err = core_plan(s->fs->core, ns->id, nodes, n, 0, &p, &need);
    bool apart = err < 0 || (err == CORE_NEED && ns->resync);
    if (apart && n > 1 && !is_local_trouble(err)) {
        n = 1;
        err = core_plan(s->fs->core, ns->id, nodes, n, 0, &p, &need);
    }
    if (err == CORE_NEED && ns->resync) { /* nothing is loaded meanwhile: others need nothing */
        barriers_planned(s, ns, nodes, n, BARRIER_READY, 0);
    } else if (err == CORE_NEED) {
        ns->lane.load = sync_load(s, &need, lane_loaded, ns);
    } else if (err == -EAGAIN) {
        barriers_planned(s, ns, nodes, n, BARRIER_READY, 0);
        journal_head(s, ns, 0);
    } else if (is_local_trouble(err)) {
        plan_failed(s, ns, err);
    } else if (err) {
        barriers_failed(s, ns, nodes[0], err);
    } else if (!p.rows) {
        core_plan_free(&p);
        barriers_planned(s, ns, nodes, n, BARRIER_READY, 0);
        barriers_recheck(ns);
    } else {
        barriers_planned(s, ns, nodes, n, BARRIER_READY, p.request);
        lane_take(&ns->lane, &p, false);
    }
    sync_wake(s);
    return true;
}

/* A commit for barriers that are ready when their last puts are answered. What cannot be planned
 * now is left for when they are. */
static bool lane_early(struct sync *s, struct sync_ns *ns)
{
    uint64_t nodes[BARRIERS_PER_PLAN];
    struct lane *l = &ns->lane;
    struct core_plan p;
    struct core_need need;
    if (l->early_not_before > s->clock())
        return false;
    size_t n = barriers_soon(s, ns, nodes);
    if (!n)
        return false;
    if (core_plan(s->fs->core, ns->id, nodes, n, 0, &p, &need) || !p.rows) {
        core_plan_free(&p);
        l->early_not_before = s->clock() + TROUBLE_MS;
        return false;
    }
    barriers_planned(s, ns, nodes, n, BARRIER_UPLOAD, p.request);
    lane_take(l, &p, false);
    l->early = true;
    l->early_at = s->clock();
    return true;
}

/* Nothing to send now: is anything left that will be? */
static void background_rest(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    l->quiet = 0;
    upload_set_free(&l->ahead);
    if (core_ns_rests(s->fs->core, ns->id, &l->wanted))
        l->wanted = false;
    l->due = s->clock() + QUIET_MS;
    if (l->wanted)
        sync_at(s, l->due);
    pthread_cond_broadcast(&s->changed);
}

/* What was planned goes, or (blocks are missing) is taken back while they are uploaded. */
static void background_decide(struct sync *s, struct sync_ns *ns, struct core_plan *p)
{
    struct lane *l = &ns->lane;
    if (!l->op)
        l->op = op_new(s);
    struct upload_set set = {.ids = p->ids, .n = p->ids_n, .op = l->op};
    if (!upload_ready(s, ns, &set, UPLOAD_BACKGROUND) &&
        (l->ahead_rounds < AHEAD_ROUNDS_MAX || ns->targets_n == 0) &&
        !upload_over(s, ns, &l->ahead)) {
        core_end(s->fs->core, false);
        if (l->ahead_rounds++ == 0)
            trace_plan(s, p);
        upload_set_free(&l->ahead);
        l->ahead = set;
        l->ahead.ahead = true;
        p->ids = NULL;
        core_plan_free(p);
        if (upload_lost(s, ns, &l->ahead)) /* nothing that is under way brings it along */
            sync_wake(s);
        return;
    }
    int err = core_end(s->fs->core, true);
    if (err) {
        core_plan_free(p);
        plan_failed(s, ns, err);
        return;
    }
    if (!l->ahead_rounds)
        trace_plan(s, p);
    l->quiet = 0;
    upload_set_free(&l->ahead);
    lane_take(l, p, true);
    sync_wake(s);
}

static void lane_background(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    int64_t now = s->clock();
    if (!l->wanted)
        return;
    if (l->due > now && !s->draining) {
        sync_at(s, l->due);
        return;
    }
    if (!l->quiet) {
        bool all = s->draining || now - l->last_restless >= RESTLESS_MS;
        l->quiet = all ? INT64_MAX : fs_now() - QUIET_MS * 1000000ll;
        l->last_restless = all ? now : l->last_restless;
        l->ahead_rounds = 0;
    }
    if (l->ahead.n && !upload_ready(s, ns, &l->ahead, UPLOAD_BACKGROUND) &&
        !upload_lost(s, ns, &l->ahead) && !upload_over(s, ns, &l->ahead))
        return;
    struct core_plan p;
    struct core_need need;
    int err = core_begin(s->fs->core);
    if (err) {
        plan_failed(s, ns, err);
        return;
    }
    err = core_plan(s->fs->core, ns->id, NULL, 0, l->quiet, &p, &need);
    if (!err && p.rows) {
        background_decide(s, ns, &p);
        return;
    }
    core_end(s->fs->core, false);
    if (err == CORE_NEED) {
        l->load = sync_load(s, &need, lane_loaded, ns);
    } else if (err == -EAGAIN) {
        l->held = true;
        l->due = now + TROUBLE_MS;
        journal_head(s, ns, 0);
    } else if (err) {
        plan_failed(s, ns, err);
    } else {
        core_plan_free(&p);
        background_rest(s, ns);
    }
}

static void lane_idle(struct sync *s, struct sync_ns *ns)
{
    struct lane *l = &ns->lane;
    int64_t now = s->clock();
    if (!s->online || !ns->listed || ns->lost || ns->load_urgent || l->load ||
        !(ns->resync ? resync_lets_send(ns) : ns->caught_up))
        return;
    if (l->not_before > now) {
        sync_at(s, l->not_before);
        return;
    }
    if (!lane_resend(s, ns) && !lane_barriers(s, ns) && !ns->resync && !lane_early(s, ns))
        lane_background(s, ns);
}

void lane_step(struct sync *s)
{
    int64_t now = s->clock();
    for (size_t i = 0; i < s->nss_n; i++) {
        struct sync_ns *ns = s->nss[i];
        struct lane *l = &ns->lane;
        if (l->phase == LANE_IDLE)
            lane_idle(s, ns);
        if (l->phase == LANE_PAUSE && l->session > s->sessions_learnt)
            continue;
        if (l->phase == LANE_PAUSE && s->online && l->retry_at <= now)
            l->phase = LANE_UPLOAD;
        else if (l->phase == LANE_PAUSE && s->online)
            sync_at(s, l->retry_at);
        if (l->phase == LANE_UPLOAD)
            lane_upload(s, ns);
    }
}

void lane_free(struct sync_ns *ns)
{
    lane_clear(&ns->lane);
    upload_set_free(&ns->lane.ahead);
}
