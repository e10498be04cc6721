// SPDX-License-Identifier: Apache-2.0
/* A client: tree, core, and a driver that does what the real one does, in small. It presents
 * itself, lists the journal and applies it record by record, loads what the core needs, and sends
 * commits (lane.c). A call that is lost ends with an error; its request may be executed much later,
 * also after the client was killed and started again.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE_DB "tree.db"
#define NOTHING_ENOUGH 12 /* plans in a row that had nothing to send: each looks at a page */

int64_t client_now(const struct client *c)
{
    return c->s->now + c->skew;
}

struct view *client_view(struct client *c, uint64_t ns)
{
    for (size_t i = 0; i < c->views_n; i++)
        if (c->views[i].ns == ns)
            return &c->views[i];
    return NULL;
}

bool client_reaches(const struct client *c, unsigned to)
{
    return !(c->cut >> to & 1) && !(to && c->s->blockd[to - 1].down);
}

/* ---- what the core asks ------------------------------------------------------------------------
 */
static struct open_file *file_of(struct client *c, uint64_t node, struct open_file *after)
{
    for (struct open_file *f = after ? after + 1 : c->files; f < c->files + HANDLES_MAX; f++)
        if (f->used && f->node == node)
            return f;
    return NULL;
}

/* An open file goes on seeing what it saw; what of that is not known here cannot be shown to it. */
static void hook_content_changes(void *ctx, uint64_t node, uint64_t off, uint64_t len)
{
    struct client *c = ctx;
    (void)off;
    (void)len;
    for (struct open_file *f = file_of(c, node, NULL); f; f = file_of(c, node, f)) {
        struct core_need need;
        struct core_attr a;
        if (f->stale)
            continue;
        extent_list_free(&f->old);
        if (core_getattr(c->core, node, &a, &need) ||
            core_extents(c->core, node, 0, FILE_SIZE_MAX, &f->old, &need)) {
            extent_list_free(&f->old);
            f->used = false;
            continue;
        }
        f->old_size = a.size;
        f->stale = true;
    }
}

static bool hook_may_commit(void *ctx, uint64_t node)
{
    for (struct open_file *f = file_of(ctx, node, NULL); f; f = file_of(ctx, node, f))
        if (f->unfinished)
            return false;
    return true;
}

static bool hook_in_use(void *ctx, uint64_t node)
{
    return file_of(ctx, node, NULL) != NULL;
}

/* ---- life
 * ------------------------------------------------------------------------------------------ */
/* What was told to nobody may be gone. */
static void power_lost(struct client *c)
{
    struct rng r = rng_of(c->s->seed, 12, c->s->step * CLIENTS_MAX + c->index);
    c->other_boot = true;
    ledger_power_lost(&c->s->ledger, c->index, c->s->p.lossy ? &r : NULL);
    observer_parted(&c->s->observer, c->index, 0);
    if (c->s->server.restored) { /* that it had heard of it may be gone, too */
        c->strange = UINT32_MAX;
        c->heard = c->next_call;
    }
}

/* Starting failed: because the disk does, again, or because of a fault. */
static int start_failed(struct client *c, int err, const char *why)
{
    if (simvfs_crashed(c->disk)) {
        bool power = c->s->step % 2;
        sim_log(c->s, "c%u fails while starting", c->index);
        simvfs_restart(c->disk, power);
        if (power)
            power_lost(c);
    } else {
        sim_fail(c->s, "client %u does not start: %s: %s", c->index, strerror(-err), why);
    }
    return err;
}

void client_template(struct simvfs *disk)
{
    char why[512];
    struct tree *t;
    simvfs_small_pages(disk, TREE_DB);
    if (tree_open(&t, TREE_DB, simvfs_name(disk), why))
        abort();
    tree_close(t);
}

int client_start(struct client *c)
{
    char why[512] = "", name[32];
    int err = tree_open(&c->tree, TREE_DB, simvfs_name(c->disk), why);
    if (err)
        return start_failed(c, err, why);
    snprintf(name, sizeof name, "dev%u", c->device);
    struct core_options o = {.device = (uint32_t)c->s->server.inst->device[c->device].id,
                             .device_name = name,
                             .clean_start = true,
                             .bounds = c->s->p.bounds,
                             .hooks = {.ctx = c,
                                       .content_changes = hook_content_changes,
                                       .may_commit = hook_may_commit,
                                       .in_use = hook_in_use}};
    err = core_new(&c->core, c->tree, &o);
    if (err) {
        tree_close(c->tree);
        c->tree = NULL;
        return start_failed(c, err, "core_new");
    }
    c->epoch++;
    c->at.verified = c->at.idle = -1;
    err = core_power_lost(c->core, c->other_boot, &c->power_lost);
    if (err) {
        core_free(c->core);
        c->core = NULL;
        c->tree = NULL;
        return start_failed(c, err, "core_power_lost");
    }
    c->other_boot = false;
    err = core_root(c->core, &c->ns, &c->root);
    if (err == -ENOENT) /* not before the first session */
        c->ns = c->root = 0;
    observer_restarted(c);
    return err == -ENOENT ? 0 : err;
}

static void records_clear(struct view *v)
{
    arena_free(&v->records.arena);
    buf_free(&v->records.body);
    v->records.ans = (struct m_list_ans){0};
    v->records.next = 0;
}

static void forget(struct client *c)
{
    memset(c->calls, 0, sizeof c->calls);
    c->needs_n = 0;
    c->session = c->session_wanted = false;
    for (size_t i = 0; i < c->views_n; i++) {
        struct view *v = &c->views[i];
        records_clear(v);
        lane_reset(v);
        resync_reset(v);
        for (unsigned k = 0; k < SERVERS_MAX; k++)
            buf_free(&v->candidate[k].capability);
        *v = (struct view){0};
    }
    c->views_n = 0;
    free(c->receipts);
    c->receipts = NULL;
    c->receipts_n = c->receipts_cap = 0;
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        extent_list_free(&c->files[i].old);
        c->files[i] = (struct open_file){0};
    }
    for (size_t i = 0; i < BARRIERS_MAX; i++) {
        marks_free(&c->fsyncs[i].marks);
        c->fsyncs[i] = (struct fsync_wait){0};
    }
    c->op = (struct op){0};
    c->at.verified = c->at.idle = -1;
}

void client_stop(struct client *c, enum stop how)
{
    static const char *const names[] = {"stops", "is killed", "loses power"};
    sim_log(c->s, "c%u %s", c->index, names[how]);
    if (how != STOP_CLEAN) {
        simvfs_crash(c->disk);
        c->s->count.crashes++;
    }
    core_free(c->core);
    c->core = NULL;
    c->tree = NULL;
    if (how == STOP_CLEAN && simvfs_crashed(c->disk)) /* not so cleanly */
        how = STOP_KILL;
    if (how != STOP_CLEAN)
        simvfs_restart(c->disk, how == STOP_POWER);
    if (how == STOP_POWER)
        power_lost(c);
    forget(c);
}

bool client_ok(struct client *c, int err, const char *what)
{
    if (simvfs_crashed(c->disk)) {
        /* which of the two it was is the disk's first secret */
        client_stop(c, c->s->step % 2 ? STOP_POWER : STOP_KILL);
        return false;
    }
    if (err < 0)
        sim_fail(c->s, "client %u: %s: %s", c->index, what, strerror(-err));
    return err >= 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */
struct call *client_send(struct client *c, enum call_kind kind, unsigned to, uint64_t ns,
                         const char *method, struct buf *body)
{
    for (size_t i = 0; i < CALLS_MAX; i++) {
        struct call *k = &c->calls[i];
        if (k->kind != CALL_FREE)
            continue;
        struct packet p = {.to = (uint8_t)to,
                           .client = c->index,
                           .epoch = c->epoch,
                           .call = ++c->next_call,
                           .method = method,
                           .body = *body};
        *body = (struct buf){0};
        if (!net_send(c->s, &p))
            return NULL;
        *k = (struct call){.kind = kind, .to = (uint8_t)to, .id = p.call, .ns = ns};
        sim_log(c->s, "c%u calls %s of part %u (%llu)", c->index, method, to,
                (unsigned long long)p.call);
        return k;
    }
    buf_free(body);
    return NULL;
}

struct call *client_call(struct client *c, enum call_kind kind, unsigned to, uint64_t ns,
                         const char *method, const struct msg_desc *d, const void *msg)
{
    struct buf body = {0};
    msg_encode(d, msg, &body);
    return client_send(c, kind, to, ns, method, &body);
}

bool client_calling(const struct client *c, enum call_kind kind, uint64_t ns)
{
    for (size_t i = 0; i < CALLS_MAX; i++)
        if (c->calls[i].kind == kind && c->calls[i].ns == ns)
            return true;
    return false;
}

/* ---- session --------------------------------------------------------------------------------- */
static void session_start(struct client *c)
{
    uint8_t incarnation[16];
    int64_t requests = 0, nodes = 0;
    incarnation_of('d', c->device, 0, incarnation);
    (void)tree_get(c->tree, "request_limit", &requests); /* absent in a new tree */
    (void)tree_get(c->tree, "node_limit", &nodes);
    struct m_session_req q = {.incarnation = bytes_of(incarnation, 16),
                              .requests_used = (uint64_t)requests,
                              .nodes_used = (uint64_t)nodes};
    client_call(c, CALL_SESSION, 0, 0, "session", &m_session_req_desc, &q);
}

/* The namespaces that the tree knows, and what the session says of them. */
static void take_views(struct client *c, const struct m_session_ans *a)
{
    struct core_ns n;
    for (size_t k = 0; k < NAMESPACES && core_ns_at(c->core, k, &n) == 0; k++) {
        struct view *v = client_view(c, n.id);
        if (!v)
            v = &c->views[c->views_n++];
        v->ns = n.id;
        v->root = n.root;
        v->member = n.member;
        v->list_wanted = true; /* its mark may be another one */
        v->news++;
        for (unsigned i = 0; i < SERVERS_MAX; i++)
            v->candidate[i].assigned = false;
    }
    for (size_t k = 0; k < a->namespaces_n; k++) {
        struct view *v = client_view(c, a->namespaces[k].id);
        for (size_t j = 0; v && j < a->namespaces[k].candidates_n; j++) {
            const struct m_candidate *d = &a->namespaces[k].candidates[j];
            for (unsigned i = 0; i < SERVERS_MAX; i++) {
                if (c->s->server.inst->server[i].id != d->server)
                    continue;
                v->candidate[i].assigned = true;
                v->candidate[i].leaving = d->leaving;
                v->candidate[i].capability.n = 0;
                buf_append(&v->candidate[i].capability, d->capability.p, d->capability.n);
            }
        }
    }
}

static void session_answer(struct client *c, struct bytes body, struct rng *r)
{
    cleanup_arena struct arena ar = {0};
    struct core_effects fx = {0};
    struct m_session_ans a;
    if (msg_decode(&m_session_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL))
        sim_fail(c->s, "client %u: the session's answer cannot be read", c->index);
    else if (a.cloned)
        sim_fail(c->s, "client %u is taken for a copy", c->index);
    else if (client_ok(c, core_session(c->core, &a, &fx), "core_session") &&
             client_ok(c, core_root(c->core, &c->ns, &c->root), "core_root")) {
        c->session = true;
        c->session_wanted = false;
        take_views(c, &a);
        client_effects(c, &fx);
        for (size_t i = 0; c->core && i < c->views_n; i++) /* somebody asks for it now and then */
            if (!c->s->healed && rng_percent(r, 30))
                client_ok(c, core_unpark(c->core, c->views[i].ns), "core_unpark");
    }
    core_effects_free(&fx);
}

/* ---- journal --------------------------------------------------------------------------------- */
static void list_start(struct client *c, struct view *v, struct rng *r)
{
    struct core_ns n;
    if (!client_ok(c, core_ns_get(c->core, v->ns, &n), "core_ns_get"))
        return;
    struct m_list_req q = {.ns = v->ns, .from = n.cursor, .limit_bytes = 1 + rng_below(r, 3000)};
    bool news = n.cursor != c->s->server.seen[server_ns(c->s, v->ns)];
    if (!news && !v->list_wanted && !rng_percent(r, 10)) /* the server would let it wait */
        return;
    struct m_mark *marks = NULL;
    struct call *k;
    if (client_ok(c, core_marks(c->core, v->ns, v->marks ? MARKS_MAX : 2, &marks, &q.marks_n),
                  "core_marks"))
        q.marks = marks;
    if (c->core && (k = client_call(c, CALL_LIST, 0, v->ns, "list", &m_list_req_desc, &q))) {
        v->list_wanted = false;
        k->head = n.head;
        k->news = v->news;
    }
    free(marks);
}

/* The journal ends before what was heard of it: the server was put back. */
static void journal_ends(struct client *c, struct view *v, uint64_t head)
{
    struct core_effects fx = {0};
    int err = core_journal_ends(c->core, v->ns, head, &fx);
    sim_log(c->s, "c%u: %s ends with %llu: %d", c->index, ns_names[server_ns(c->s, v->ns)],
            (unsigned long long)head, err);
    if (client_ok(c, err, "core_journal_ends"))
        client_effects(c, &fx);
    core_effects_free(&fx);
}

static void list_answer(struct client *c, struct view *v, const struct call *k, int status,
                        struct bytes body)
{
    const struct m_list_ans *a = &v->records.ans;
    if (status == ERR_FORBIDDEN)
        c->session_wanted = true;
    if (status) {
        v->list_wanted = true;
        return;
    }
    records_clear(v);
    buf_append(&v->records.body, body.p, body.n);
    if (msg_decode(&m_list_ans_desc, &v->records.ans, v->records.body.p, v->records.body.n,
                   MSG_LENIENT, &v->records.arena, NULL)) {
        sim_fail(c->s, "client %u: the list cannot be read", c->index);
    } else if (!a->resync && !a->other) {
        struct core_ns n = {0};
        if (!client_ok(c, core_ns_get(c->core, v->ns, &n), "core_ns_get") ||
            (a->head >= k->head && !n.other))
            return;
        v->list_wanted = true;
        if (k->news == v->news)
            journal_ends(c, v, a->head);
    }
}

/* Whether the client's tree knows that it has sent this. */
static bool remembers(struct client *c, const struct m_record *r)
{
    sqlite3_stmt *s = tree_stmt(c->tree, "SELECT 1 FROM sent WHERE request = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)r->request);
    bool yes = tree_step(c->tree, s) == 1;
    sqlite3_reset(s);
    return yes;
}

static void apply_one(struct client *c, struct view *v)
{
    struct core_effects fx = {0};
    struct core_ns n;
    const struct m_record *r = &v->records.ans.records[v->records.next];
    int err = core_ns_get(c->core, v->ns, &n);
    if (!err && r->sjid > n.cursor + 1)
        sim_fail(c->s, "client %u: record %llu does not follow cursor %llu", c->index,
                 (unsigned long long)r->sjid, (unsigned long long)n.cursor);
    bool forgotten = r->device == c->s->server.inst->device[c->device].id && !remembers(c, r);
    if (!err)
        err = core_apply(c->core, v->ns, r, client_now(c), &fx);
    if (err == -ESTALE) { /* another journal's: it is asked for again */
        records_clear(v);
        v->list_wanted = true;
        return;
    }
    sim_log(c->s, "c%u applies %llu of %s: %d", c->index, (unsigned long long)r->sjid,
            ns_names[server_ns(c->s, v->ns)], err);
    if (client_ok(c, err, "core_apply")) {
        c->s->count.records++;
        v->lane.nothing = 0;
        client_effects(c, &fx);
        if (forgotten)
            observer_forgotten(c, r);
        if (c->core && r->sjid == c->s->server.seen[server_ns(c->s, v->ns)])
            observer_applied(c, r);
        if (c->s->count.records % 4 == 0) /* before anything mends what it broke */
            verify_tree(c);
        if (++v->records.next == v->records.ans.records_n)
            records_clear(v);
    }
    core_effects_free(&fx);
}

/* ---- loads
 * ---------------------------------------------------------------------------------------------------
 */
static bool need_equal(const struct core_need *a, const struct core_need *b)
{
    return a->kind == b->kind && a->ns == b->ns && a->node == b->node && a->off == b->off &&
           a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

bool client_needs(const struct client *c, const struct core_need *need)
{
    for (size_t i = 0; i < c->needs_n; i++)
        if (need_equal(&c->needs[i], need))
            return true;
    for (size_t i = 0; i < CALLS_MAX; i++)
        if (c->calls[i].kind == CALL_LOAD && need_equal(&c->calls[i].need, need))
            return true;
    return false;
}

void client_need(struct client *c, const struct core_need *need)
{
    if (!client_needs(c, need) && c->needs_n < sizeof c->needs / sizeof *c->needs)
        c->needs[c->needs_n++] = *need;
}

static void load_start(struct client *c)
{
    struct core_need need = c->needs[--c->needs_n];
    const struct view *v = client_view(c, need.ns);
    if (v && (v->resync.on || v->records.ans.resync ||
              v->records.ans.other)) /* whoever needs it asks again */
        return;
    struct buf body = {0};
    const char *method;
    int err = core_need_request(c->core, &need, &method, &body);
    if (err == -ENOENT || !client_ok(c, err, "core_need_request")) { /* the node went away */
        buf_free(&body);
        return;
    }
    struct call *k = client_send(c, CALL_LOAD, 0, need.ns, method, &body);
    if (k)
        k->need = need;
    c->s->count.loads++;
}

static void load_answer(struct client *c, const struct core_need *need, int status,
                        struct bytes body)
{
    if (status == ERR_FORBIDDEN)
        c->session_wanted = true;
    if (status == ERR_RESYNC)
        client_ok(c, core_past_forgotten(c->core, need), "core_past_forgotten");
    if (status)
        return;
    struct core_effects fx = {0};
    int err = core_need_answer(c->core, need, body, client_now(c), &fx);
    sim_log(c->s, "c%u loads %llx: %d", c->index, (unsigned long long)need->node, err);
    if (err == -EAGAIN || err == -ESTALE || err == -ENOENT)
        err = 0; /* asked again when it is still needed */
    if (client_ok(c, err, "core_need_answer"))
        client_effects(c, &fx);
    core_effects_free(&fx);
}

/* ---- effects
 * --------------------------------------------------------------------------------------------------
 */
static void effect_fork(struct client *c, uint64_t node, uint64_t copy)
{
    bool left = false;
    c->s->count.copies++;
    for (struct open_file *f = file_of(c, node, NULL); f; f = file_of(c, node, f))
        if (f->wrote) { /* goes on in its own version */
            f->node = copy;
            f->stale = false;
            extent_list_free(&f->old);
            left = true;
        }
    for (size_t i = 0; i < BARRIERS_MAX; i++)
        if (c->fsyncs[i].used && c->fsyncs[i].node == node)
            c->fsyncs[i].node = copy;
    if (left)
        client_ok(c, core_purge(c->core, node), "core_purge");
}

/* The node is another one: a directory that was merged, or a file that is the same. */
static void effect_alias(struct client *c, uint64_t node, uint64_t other)
{
    for (struct open_file *f = file_of(c, node, NULL); f; f = file_of(c, node, NULL))
        f->node = other;
    for (size_t i = 0; i < BARRIERS_MAX; i++)
        if (c->fsyncs[i].used && c->fsyncs[i].node == node)
            c->fsyncs[i].node = other;
}

void client_effects(struct client *c, struct core_effects *fx)
{
    for (size_t i = 0; i < fx->n && c->core && !c->s->failed; i++) {
        const struct core_effect *e = &fx->v[i];
        switch (e->kind) {
        case EFFECT_FORK:
            sim_log(c->s, "c%u forks %llx to %llx", c->index, (unsigned long long)e->node,
                    (unsigned long long)e->other);
            effect_fork(c, e->node, e->other);
            observer_parted(&c->s->observer, c->index, e->node);
            observer_changed(c, e->other);
            break;
        case EFFECT_ALIAS:
        case EFFECT_MOVED:
            sim_log(c->s, "c%u merges %llx into %llx", c->index, (unsigned long long)e->node,
                    (unsigned long long)e->other);
            effect_alias(c, e->node, e->other);
            break;
        case EFFECT_PARKED:
            c->s->count.parked++;
            sim_log(c->s, "c%u parks %llx: %d", c->index, (unsigned long long)e->node, e->err);
            if ((!c->s->p.refuse && !c->gave_up) || (e->err == -EIO && !c->gave_up) ||
                e->err == -E2BIG || e->err == -EINVAL)
                sim_fail(c->s, "client %u: node %llx is parked: %s", c->index,
                         (unsigned long long)e->node, strerror(-e->err));
            break;
        case EFFECT_SESSION:
            c->session_wanted = true;
            break;
        case EFFECT_DONE:
            sim_log(c->s, "c%u request %llu ends: status %d at %llu", c->index,
                    (unsigned long long)e->other, (int)e->status, (unsigned long long)e->sjid);
            lane_ended(client_view(c, e->ns), e->other);
            break;
        default:
            break;
        }
    }
}

/* ---- turns ----------------------------------------------------------------------------------- */
static void view_turn(struct client *c, struct view *v, struct rng *r)
{
    bool gap = v->records.ans.resync || v->records.ans.other || v->records.ans.doubt;
    if (gap && !client_calling(c, CALL_LOAD, v->ns)) {
        resync_start(c, v, &v->records.ans);
        records_clear(v);
    }
    if (v->resync.on && v->member) {
        resync_turn(c, v);
        return;
    }
    if (client_reaches(c, 0) && v->member && !client_calling(c, CALL_LIST, v->ns) && !gap &&
        v->records.next == v->records.ans.records_n)
        list_start(c, v, r);
    for (unsigned k = 0; c->core && v->records.next < v->records.ans.records_n && k < 3; k++)
        apply_one(c, v);
}

void client_turn(struct client *c, struct rng *r)
{
    if (!c->core)
        return;
    if (c->s->p.lossy && rng_percent(r, 1)) /* what reaches the disk by itself */
        ledger_durable(&c->s->ledger, c->index);
    bool renew = c->session_wanted || !c->session || rng_percent(r, 1);
    if (renew && client_reaches(c, 0) && !client_calling(c, CALL_SESSION, 0))
        session_start(c);
    if (!c->session)
        return;
    for (size_t i = 0; c->core && i < c->views_n && !c->s->failed; i++)
        view_turn(c, &c->views[i], r);
    while (c->core && c->needs_n && client_reaches(c, 0))
        load_start(c);
    if (c->core && !c->s->failed)
        fsync_turn(c);
    for (size_t i = 0; c->core && i < c->views_n && !c->s->failed; i++)
        lane_turn(c, &c->views[i], r);
}

/* An answer from before the server was put back: the client believes in it, whatever it had heard
 * since. */
static void commit_heard(struct client *c, const struct call *k)
{
    if (!c->s->server.restored || k->id > c->heard)
        return;
    c->strange |= 1u << server_ns(c->s, k->ns);
    c->heard = c->next_call;
}

void client_answer(struct client *c, struct call *k, int status, struct bytes body, struct rng *r)
{
    struct call done = *k;
    struct view *v = client_view(c, done.ns);
    k->kind = CALL_FREE;
    if (done.kind == CALL_COMMIT)
        commit_heard(c, &done);
    switch (done.kind) {
    case CALL_SESSION:
        if (status == 0)
            session_answer(c, body, r);
        break;
    case CALL_LIST:
        if (v)
            list_answer(c, v, &done, status, body);
        if (v && c->core && !status && done.id > c->heard && !v->records.ans.other &&
            !v->records.ans.doubt && (done.news == v->news || v->records.ans.head >= done.head))
            c->strange &= ~(1u << server_ns(c->s, v->ns));
        break;
    case CALL_REQUESTS:
    case CALL_RESYNC:
        if (v)
            resync_answer(c, v, &done, status, body);
        break;
    case CALL_LOAD:
        load_answer(c, &done.need, status, body);
        break;
    default:
        lane_answer(c, &done, status, body);
    }
}

/* ---- the end --------------------------------------------------------------------------------- */
static bool view_quiet(struct client *c, const struct view *v, bool parked)
{
    struct core_ns n;
    if (parked && !v->member)
        return true;
    if (v->lane.phase != LANE_IDLE || v->records.ans.records_n || v->resync.on)
        return false;
    if (v->member && c->strange >> server_ns(c->s, v->ns) & 1) /* it finds out with the next list */
        return false;
    if (core_ns_get(c->core, v->ns, &n) || n.cursor != server_head(c->s, v->ns) ||
        core_ns_pending(c->core, v->ns, &n))
        return false;
    return n.pending_nodes == 0 ||
           (parked && v->lane.nothing >= NOTHING_ENOUGH && (n.parked || n.role < ROLE_EDITOR));
}

bool client_quiet(struct client *c, bool parked)
{
    if (c->revoked)
        return true;
    if (!c->core || !c->session || c->session_wanted)
        return false;
    for (size_t i = 0; i < BARRIERS_MAX; i++)
        if (c->fsyncs[i].used)
            return false;
    for (size_t i = 0; i < c->views_n; i++)
        if (!view_quiet(c, &c->views[i], parked || c->gave_up))
            return false;
    return true;
}

static void say_rows(struct client *c, struct buf *out)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(
            tree_db(c->tree),
            "SELECT printf('; node %x pend %d sent %d request %d nlink %d parked %d', id, pend,"
            " sent, request, nlink, parked) FROM node WHERE pend != 0 OR request != 0"
            " UNION ALL SELECT printf('; entry %x/%s = %x, base %x at %d, request %d sent %x',"
            " parent, name, node, base_node, base_rev, request, sent_node) FROM entry"
            " WHERE pend != 0 OR request != 0"
            " UNION ALL SELECT printf('; sent %d at %d', request, sjid) FROM sent"
            " UNION ALL SELECT printf('; ns %d hold %d role %d member %d', id, hold, role, member)"
            " FROM ns",
            -1, &s, NULL) == SQLITE_OK)
        while (sqlite3_step(s) == SQLITE_ROW)
            buf_printf(out, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
}

void client_say(struct client *c, struct buf *out)
{
    buf_printf(out, "client %u:", c->index);
    if (!c->core) {
        buf_printf(out, " down");
        return;
    }
    buf_printf(out, " session %d", c->session);
    for (size_t i = 0; i < c->views_n; i++) {
        const struct view *v = &c->views[i];
        struct core_ns n = {0};
        core_ns_status(c->core, v->ns, &n);
        buf_printf(out,
                   ", %s: cursor %llu of %llu, %llu nodes and %llu bytes pending, %llu parked,"
                   " lane %d lacks %zu",
                   ns_names[server_ns(c->s, v->ns)], (unsigned long long)n.cursor,
                   (unsigned long long)server_head(c->s, v->ns),
                   (unsigned long long)n.pending_nodes, (unsigned long long)n.pending_bytes,
                   (unsigned long long)n.parked, (int)v->lane.phase, v->lane.lack_n);
    }
    for (size_t i = 0; i < BARRIERS_MAX; i++)
        if (c->fsyncs[i].used)
            buf_printf(out, " fsync %llx", (unsigned long long)c->fsyncs[i].node);
    say_rows(c, out);
}
