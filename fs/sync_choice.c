// SPDX-License-Identifier: Apache-2.0
/* Which candidates are the targets of a namespace (A5, D3).
 *
 * The order is in sync_target.c. Between candidates of one rank it is decided by what bringing the
 * blocks to each would take: its round trip, and the bytes that it lacks (D2) by the speed that was
 * measured of it. Where too few candidates can be reached for the copies wanted, one that can is
 * asked to pass blocks on to the others: their receipts are as good. The metadata server is asked
 * for these only where it matters: when targets have to be chosen anew for a set of some size, and
 * there are at least two to choose from. What is in use stays in use until it fails or a better
 * rank comes back.
 */
#include <errno.h>
#include <string.h>

#include "sync_internal.h"

#define TARGETS_AGAIN_MS 60000 /* a better candidate that came back is noticed so often */
#define CHOICE_MIN_BYTES (1u << 20)
#define CHOICE_IDS_MAX 8192  /* of a set: its beginning speaks for the rest */
#define CHOICE_GOOD_MS 10000 /* an answer counts for so long */
#define CHOICE_TIMEOUT_MS 5000

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

/* What the set would take there, as far as it is known. */
static double cost_of(const struct route *r, int64_t now)
{
    bool good = r->ns->choice_at && now - r->ns->choice_at < CHOICE_GOOD_MS;
    double moving = good && r->server->pace.bytes_ms > 0
                        ? (double)r->missing_bytes / r->server->pace.bytes_ms
                        : 0;
    return r->server->rtt_ms + moving;
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
    size_t want = targets_wanted(s, ns), n = 0;
    int64_t now = s->clock();
    if (ns->targets_at && now - ns->targets_at < TARGETS_AGAIN_MS && targets_work(s, ns, want))
        return true;
    struct target_candidate v[64];
    uint64_t chosen[TARGETS_MAX];
    for (size_t i = 0; i < ns->routes_n; i++) {
        const struct route *r = ns->routes[i];
        if (!r->listed || r->leaving)
            continue;
        bool current = false;
        for (size_t k = 0; k < ns->targets_n; k++)
            current |= ns->targets[k] == r->server->id;
        v[n++] = (struct target_candidate){
            .server = r->server->id,
            .priority = r->priority,
            .cost_ms = cost_of(r, now),
            .preferred = s->fs->opt.prefer && strcmp(s->fs->opt.prefer, r->server->premises) == 0,
            .usable = usable(s, r),
            .current = current};
    }
    size_t found = add_relayed(s, ns, chosen, target_choose(v, n, chosen, want), want);
    if (found != ns->targets_n || memcmp(chosen, ns->targets, found * sizeof *chosen) != 0) {
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
            if (r)
                r->missing_bytes = m.counts[i].missing_bytes;
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
    if (!s->online || targets_work(s, ns, targets_wanted(s, ns)) ||
        (ns->choice_at && s->clock() - ns->choice_at < CHOICE_GOOD_MS))
        return false;
    while (q.ids_n < set->n && q.ids_n < CHOICE_IDS_MAX)
        bytes += set->ids[q.ids_n++].len;
    if (bytes < CHOICE_MIN_BYTES || !is_open(s, ns))
        return false;
    for (size_t i = 0; i < ns->routes_n; i++)
        ns->routes[i]->missing_bytes = bytes;
    ns->choosing = true;
    call_meta(call_new(s, choice_done, ns), "diff", &m_diff_req_desc, &q, CHOICE_TIMEOUT_MS);
    return true;
}
