// SPDX-License-Identifier: Apache-2.0
/* Which candidates are the targets of a namespace (A5, D3).
 *
 * The order is in sync_target.c. Between candidates of one rank it is decided by what bringing the
 * blocks to each would take: its round trip, and the bytes that it lacks (D2) by the speed that was
 * measured of it. Where too few candidates can be reached for the copies wanted, one that can is
 * asked to pass blocks on to the others: their receipts are as good. The metadata server is asked
 * for these only where it matters: when targets have to be chosen anew for a set of some size, and
 * there are at least two to choose from. What is in use stays in use until it fails, a better rank
 * comes back, or one of the same rank is quicker by far (target_leave): then the counts are asked
 * for as well, less what was put there already, so a nearly finished upload is finished.
 *
 * How quick one is that is not in use is learnt by trials: a little of what is uploaded goes to it,
 * too, which is where replication would bring it anyway; of what is read ahead a few blocks are
 * asked of it. Both are rare, and what is put so is a small share of all.
 */
#include <errno.h>
#include <string.h>

#include "sync_internal.h"

#define TARGETS_AGAIN_MS 60000 /* a better candidate that came back is noticed so often */
#define CHOICE_MIN_BYTES (1u << 20)
#define CHOICE_IDS_MAX 8192  /* of a set: its beginning speaks for the rest */
#define CHOICE_GOOD_MS 10000 /* an answer counts for so long */
#define CHOICE_TIMEOUT_MS 5000
#define SPEED_GOOD_MS 60000        /* what was measured counts for so long against what is in use */
#define SPEED_GUESS (10.0 * 1024)  /* bytes per ms, of one that was never measured */
#define NEXT_BYTES (1.0 * 1048576) /* what probably follows, where nothing is known of it */
#define TRIAL_BYTES (1u << 20)
#define TRIAL_AGAIN_MS 5000
#define TRIAL_READ_AGAIN_MS 30000 /* what is asked of a slow one is late */

size_t targets_wanted(const struct sync *s, const struct sync_ns *ns)
{
    size_t n = s->fs->opt.copies;
    if (ns->copies_min > n)
        n = ns->copies_min;
    return n < 1 ? 1 : n > TARGETS_MAX ? TARGETS_MAX : n;
}

static bool usable(struct sync *s, const struct route *r)
{
    return r->listed && !r->leaving && r->cap_n && r->server->backoff.fails == 0 &&
           !route_refused(s, r, ROUTE_WRITE);
}

/* Whether there are as many targets as wanted, and all of them work. */
static bool targets_work(struct sync *s, const struct sync_ns *ns, size_t want)
{
    if (ns->targets_n != want)
        return false;
    for (size_t i = 0; i < ns->targets_n; i++) {
        const struct route *r = NULL;
        for (size_t k = 0; k < ns->routes_n && !r; k++)
            if (ns->routes[k]->server->id == ns->targets[i])
                r = ns->routes[k];
        if (!r || !r->listed || r->leaving)
            return false;
        if (r->via && (!r->server->backoff.fails || r->via->server->backoff.fails))
            return false; /* one that is reached again needs no other to pass blocks on */
        if (!r->via && (r->server->backoff.fails || route_refused(s, r, ROUTE_WRITE)))
            return false;
    }
    return true;
}

static bool is_target(const struct sync_ns *ns, uint64_t server)
{
    for (size_t i = 0; i < ns->targets_n; i++)
        if (ns->targets[i] == server)
            return true;
    return false;
}

static struct target_candidate candidate(struct sync *s, const struct route *r,
                                         const struct flow *f, double bytes)
{
    int64_t now = s->clock();
    double speed = flow_speed(f, now);
    const char *prefer = s->fs->opt.prefer;
    bool current = is_target(r->ns, r->server->id), lately = now - f->at < SPEED_GOOD_MS;
    /* what is under way says how quick it is at most: reason to leave it, none to go there */
    bool shown = current ? speed > 0 && (f->calls || lately) : f->bytes_ms > 0 && lately;
    return (struct target_candidate){
        .server = r->server->id,
        .priority = r->priority,
        .cost_ms = r->server->rtt_ms + bytes / (speed > 0 ? speed : SPEED_GUESS),
        .measured = shown,
        .preferred = prefer && strcmp(prefer, r->server->premises) == 0,
        .current = current};
}

/* Bytes that are to be put there, as far as it is known. */
static double to_put(const struct route *r, int64_t now)
{
    bool good = r->ns->choice_at && now - r->ns->choice_at < CHOICE_GOOD_MS;
    return good ? (double)r->missing_bytes : NEXT_BYTES;
}

/* As a target. */
static struct target_candidate choice_put(struct sync *s, const struct route *r)
{
    struct target_candidate c = candidate(s, r, &r->server->up, to_put(r, s->clock()));
    c.usable = usable(s, r);
    return c;
}

struct target_candidate choice_read(struct sync *s, const struct route *r)
{
    struct target_candidate c = candidate(s, r, &r->server->down, NEXT_BYTES);
    c.usable = r->server->backoff.fails == 0 && !route_refused(s, r, ROUTE_READ);
    return c;
}

/* All that can be chosen among; how many. */
static size_t candidates(struct sync *s, const struct sync_ns *ns, struct target_candidate v[64])
{
    size_t n = 0;
    for (size_t i = 0; i < ns->routes_n; i++)
        if (ns->routes[i]->listed && !ns->routes[i]->leaving)
            v[n++] = choice_put(s, ns->routes[i]);
    return n;
}

void choice_leave(struct target_candidate *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n && v[i].current; k++)
            if (!v[k].current && target_leave(&v[i], &v[k]))
                v[i].current = false;
}

/* Whether a target is to be left for its pace. */
static bool too_slow(struct sync *s, const struct sync_ns *ns)
{
    struct target_candidate v[64];
    if (ns->routes_n <= ns->targets_n || !target_may_leave(&ns->stay, s->clock()))
        return false;
    size_t n = candidates(s, ns, v);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n && v[i].current; k++)
            if (!v[k].current && target_leave(&v[i], &v[k]))
                return true;
    return false;
}

/* Says which targets are left for their pace. */
static void leave(struct sync *s, struct sync_ns *ns, const uint64_t *chosen, size_t n)
{
    int64_t now = s->clock();
    bool left = false;
    for (size_t i = 0; i < ns->targets_n; i++) {
        const struct route *r = route_find(ns, ns->targets[i]), *to = NULL;
        bool stays = false;
        for (size_t k = 0; k < n; k++) {
            stays |= chosen[k] == ns->targets[i];
            if (!is_target(ns, chosen[k]))
                to = route_find(ns, chosen[k]);
        }
        if (stays || !to)
            continue;
        struct flow *f = &r->server->up;
        flow_settle(f, now);
        log_about(s->fs->log, LOG_L_INFO, &(struct log_where){.ns = ns->id},
                  "%s: at %.0f KiB/s it is left for %s, which has shown %.0f", r->server->premises,
                  f->bytes_ms, to->server->premises, flow_speed(&to->server->up, now));
        left = true;
    }
    if (!left)
        return;
    target_left(&ns->stay, now);
    s->left_n++;
}

/* Targets that cannot be reached from here, but perhaps by the first of those that can: it passes
 * blocks on. Added to the chosen ones up to `want`; how many there are then. */
static size_t add_relayed(struct sync *s, struct sync_ns *ns, uint64_t *chosen, size_t n,
                          size_t want)
{
    int64_t now = s->clock();
    for (size_t i = 0; i < ns->routes_n; i++)
        ns->routes[i]->via = NULL;
    struct route *via = n ? route_find(ns, chosen[0]) : NULL;
    for (size_t i = 0; i < ns->routes_n && via && n < want; i++) {
        struct route *r = ns->routes[i];
        if (!r->listed || r->leaving || !r->cap_n || !r->server->backoff.fails)
            continue;
        if (r->relay_after > now) {
            sync_at(s, r->relay_after);
            continue;
        }
        r->via = via;
        chosen[n++] = r->server->id;
    }
    return n;
}

bool targets_update(struct sync *s, struct sync_ns *ns)
{
    size_t want = targets_wanted(s, ns);
    int64_t now = s->clock();
    bool slow = too_slow(s, ns);
    if (ns->targets_at && now - ns->targets_at < TARGETS_AGAIN_MS && targets_work(s, ns, want) &&
        !slow)
        return true;
    struct target_candidate v[64];
    uint64_t chosen[TARGETS_MAX];
    size_t n = candidates(s, ns, v);
    if (slow)
        choice_leave(v, n);
    size_t found = add_relayed(s, ns, chosen, target_choose(v, n, chosen, want), want);
    if (found != ns->targets_n || memcmp(chosen, ns->targets, found * sizeof *chosen) != 0) {
        if (slow)
            leave(s, ns, chosen, found);
        memcpy(ns->targets, chosen, found * sizeof *chosen);
        ns->targets_n = found;
        ns->targets_gen++;
        upload_retarget(s, ns);
    }
    ns->targets_at = now;
    if (found == want)
        return true;
    const char *trouble = "";
    for (size_t i = 0; i < ns->routes_n; i++) {
        const struct route *r = ns->routes[i];
        if (r->listed && (r->server->error[0] || r->error[0]))
            trouble = r->server->error[0] ? r->server->error : r->error;
    }
    if (n < want)
        ns_error(s, ns,
                 "%zu block servers are assigned, %zu are needed: ask the administrator for "
                 "`steadfs admin assign %s PREMISES`",
                 n, want, ns->name);
    else
        ns_error(s, ns, "%zu of %zu block servers that are needed answer%s%s", found, want,
                 *trouble ? ": " : "", trouble);
    return false;
}

/* ---- what each lacks ---- */
/* Whether two usable candidates are of one rank, so that there is something to decide. */
static bool is_open(struct sync *s, const struct sync_ns *ns)
{
    const char *prefer = s->fs->opt.prefer;
    for (size_t i = 0; i < ns->routes_n; i++)
        for (size_t k = 0; k < i; k++) {
            const struct route *a = ns->routes[i], *b = ns->routes[k];
            if (!usable(s, a) || !usable(s, b) || a->priority != b->priority)
                continue;
            if (!prefer ||
                !strcmp(a->server->premises, prefer) == !strcmp(b->server->premises, prefer))
                return true;
        }
    return false;
}

static void choice_done(struct sync *s, struct sync_call *c)
{
    struct sync_ns *ns = c->arg;
    struct arena cleanup_arena a = {0};
    struct m_diff_ans m = {0};
    int bad = c->res.err ? 0 : call_decode(s, c, &m_diff_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    ns->choosing = false;
    ns->choice_at = s->clock(); /* also in vain: then it is chosen without */
    if (!meta_result(s, c) && !bad)
        for (size_t i = 0; i < m.counts_n; i++) {
            struct route *r = route_find(ns, m.counts[i].server);
            if (r) /* what it has a receipt for here it does not lack any more */
                r->missing_bytes = m.counts[i].missing_bytes > r->put_ahead
                                       ? m.counts[i].missing_bytes - r->put_ahead
                                       : 0;
        }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

bool choice_pending(struct sync *s, struct sync_ns *ns, const struct upload_set *set)
{
    struct m_diff_req q = {.ns = ns->id, .ids = set->ids};
    uint64_t bytes = 0;
    if (ns->choosing)
        return true;
    if (!s->online || (targets_work(s, ns, targets_wanted(s, ns)) && !too_slow(s, ns)) ||
        (ns->choice_at && s->clock() - ns->choice_at < CHOICE_GOOD_MS))
        return false;
    while (q.ids_n < set->n && q.ids_n < CHOICE_IDS_MAX)
        bytes += set->ids[q.ids_n++].len;
    if (bytes < CHOICE_MIN_BYTES || !is_open(s, ns))
        return false;
    for (size_t i = 0; i < ns->routes_n; i++) {
        struct route *r = ns->routes[i];
        r->put_ahead = 0;
        for (size_t k = 0; k < q.ids_n; k++) {
            const struct upload *u = upload_find(s, r, &set->ids[k].block);
            r->put_ahead += u && u->state == UPLOAD_RECEIPT ? set->ids[k].len : 0;
        }
        r->missing_bytes = bytes - r->put_ahead;
    }
    ns->choosing = true;
    call_meta(call_new(s, choice_done, ns), "diff", &m_diff_req_desc, &q, CHOICE_TIMEOUT_MS);
    return true;
}

/* ---- pace ---- */
/* Whether it would be used instead of a target, but is none. */
static bool rivals(struct sync *s, const struct route *r)
{
    if (!usable(s, r) || is_target(r->ns, r->server->id) || !r->ns->targets_n)
        return false;
    struct target_candidate c = choice_put(s, r);
    for (size_t i = 0; i < r->ns->targets_n; i++) {
        const struct route *t = route_find(r->ns, r->ns->targets[i]);
        struct target_candidate other = choice_put(s, t);
        if (target_same_rank(&c, &other))
            return true;
    }
    return false;
}

void choice_trial(struct sync *s, struct sync_ns *ns, const struct upload_set *set)
{
    int64_t now = s->clock();
    for (size_t i = 0; i < ns->routes_n && ns->routes_n > ns->targets_n; i++) {
        struct route *r = ns->routes[i];
        struct sync_server *v = r->server;
        if ((v->trial_at && now - v->trial_at < TRIAL_AGAIN_MS) ||
            (v->up.at && now - v->up.at < TRIAL_AGAIN_MS) || v->up.calls || !rivals(s, r))
            continue;
        size_t n = set->pos;
        uint64_t bytes = 0;
        while (n < set->n && bytes < TRIAL_BYTES)
            bytes += set->ids[n++].len;
        if ((double)bytes < FLOW_SAMPLE_BYTES || !pace_spend(&s->trials, (double)bytes))
            continue;
        v->trial_at = now;
        s->trials_n++;
        for (size_t k = set->pos; k < n; k++)
            upload_trial(s, r, &set->ids[k]);
    }
}

void choice_step(struct sync *s, struct sync_ns *ns)
{
    int64_t now = s->clock();
    struct target_candidate v[64];
    if (ns->routes_n <= ns->targets_n)
        return;
    size_t n = candidates(s, ns, v);
    for (size_t i = 0; i < n; i++) {
        const struct route *r = route_find(ns, v[i].server);
        for (size_t k = 0; k < n && v[i].current && r->server->up.calls; k++) {
            double over = target_leave_cost(&v[k]) - r->server->rtt_ms;
            if (v[k].current || !v[k].usable || !v[k].measured || over <= 0 ||
                !target_same_rank(&v[i], &v[k]))
                continue;
            int64_t at = flow_falls(&r->server->up, to_put(r, now) / over);
            if (!target_may_leave(&ns->stay, at))
                at = ns->stay.left_at + ns->stay.pause;
            if (at > now)
                sync_at(s, at);
        }
    }
}

bool choice_read_trial(struct sync *s, const struct route *r, const struct route *instead)
{
    int64_t now = s->clock();
    struct sync_server *v = r->server;
    struct target_candidate c = choice_read(s, r), other = choice_read(s, instead);
    if (r == instead || !r->listed || !r->cap_n || !c.usable || !target_same_rank(&c, &other) ||
        v->down.calls || v->slow_until > now ||
        (v->trial_read && now - v->trial_read < TRIAL_READ_AGAIN_MS) ||
        (v->down.at && now - v->down.at < TRIAL_READ_AGAIN_MS))
        return false;
    v->trial_read = now;
    return true;
}
