// SPDX-License-Identifier: Apache-2.0
/* The table of namespaces: asked for in pages, then taken over at once. What a namespace has on its
 * way stays with it. */
#include "replicate_int.h"

#include "feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group *table_find(struct replicate *r, uint64_t ns)
{
    size_t low = 0, high = r->groups_n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (r->groups[mid].ns < ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low < r->groups_n && r->groups[low].ns == ns ? &r->groups[low] : NULL;
}

struct member *table_member(struct replicate *r, uint64_t ns, uint64_t server)
{
    struct group *g = table_find(r, ns);
    for (size_t i = 0; g && i < g->members_n; i++)
        if (g->members[i].server == server)
            return &g->members[i];
    return NULL;
}

static bool shares(const struct group *g, size_t n, uint64_t server)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < g[i].members_n; k++)
            if (g[i].members[k].server == server)
                return true;
    return false;
}

/* ---- building ------------------------------------------------------------------------------ */

static void group_build(struct replicate *r, struct group *g, const struct m_replica_ns *n)
{
    *g = (struct group){.ns = n->ns, .head = n->head};
    g->members = calloc(n->replicas_n + 1, sizeof *g->members);
    if (!g->members)
        abort();
    for (size_t i = 0; i < n->replicas_n; i++) {
        const struct m_replica *p = &n->replicas[i];
        if (p->server == r->o.identity->server) {
            g->lacks = p->lacking;
            g->lacking = p->lacking || p->filling;
            continue;
        }
        struct member *m = &g->members[g->members_n++];
        *m = (struct member){.server = p->server,
                             .lacks = p->lacking,
                             .lacking = p->lacking || p->filling,
                             .leaving = p->leaving,
                             .cap_n = p->capability.n};
        memcpy(m->cap, p->capability.p, m->cap_n);
    }
}

/* What was under way in the namespace's earlier row. New ones, and what others did meanwhile, are
 * looked at at once. */
static void group_inherit(struct replicate *r, struct group *g)
{
    const struct group *old = table_find(r, g->ns);
    g->list_due = !old || old->list_due || old->head != g->head;
    g->look_at = old ? old->look_at : 0;
    g->not_before = old ? old->not_before : 0;
    if (g->lacking && !g->look_at)
        g->look_at = mono_ms();
    if (!old)
        return;
    g->own = old->own;
    g->turn = old->turn;
    for (size_t k = 0; k < g->members_n; k++) {
        struct member *m = &g->members[k];
        const struct member *before = table_member(r, g->ns, m->server);
        if (!before)
            continue;
        m->pull = before->pull;
        m->push = before->push;
        if (m->lacking && !before->lacking)
            walk_reset(&m->push);
    }
    if (g->lacking && !old->lacking)
        group_lacks(g);
}

static struct peer *peer_find(const struct replicate *r, uint64_t id)
{
    for (size_t i = 0; i < r->peers_n; i++)
        if (r->peers[i]->id == id)
            return r->peers[i];
    return NULL;
}

static struct peer *peer_need(struct replicate *r, uint64_t id)
{
    struct peer *p = peer_find(r, id);
    if (p || r->peers_n == PEERS_MAX)
        return p;
    if (!(p = calloc(1, sizeof *p)))
        abort();
    p->r = r;
    p->id = id;
    p->idle = true;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&p->thread, NULL, peer_main, p)) {
        pthread_cond_destroy(&p->cond);
        free(p);
        return NULL; /* tried again at the next refresh */
    }
    r->peers[r->peers_n++] = p;
    return p;
}

/* [locked] */
static void update_peers(struct replicate *r, const struct m_replicas_ans *a)
{
    for (size_t i = 0; i < r->peers_n; i++)
        r->peers[i]->wanted = false;
    for (size_t i = 0; i < a->servers_n; i++) {
        const struct m_server *s = &a->servers[i];
        if (s->id == r->o.identity->server || !shares(r->groups, r->groups_n, s->id))
            continue;
        struct peer *p = peer_need(r, s->id);
        if (!p)
            continue;
        char url[sizeof p->url];
        snprintf(url, sizeof url, "%.*s", (int)s->url.n, (const char *)s->url.p);
        struct rpc_pins pins = rpc_pins_of(s);
        /* it moved, or has another key: what failed there says nothing */
        if (strcmp(url, p->url) != 0 || memcmp(&pins, &p->pins, sizeof pins) != 0) {
            memcpy(p->url, url, sizeof url);
            p->pins = pins;
            p->fails = 0;
            p->retry_at = 0;
            p->silent = false;
            backlog_peer_back(p);
        }
        snprintf(p->premises, sizeof p->premises, "%.*s", (int)s->premises.n,
                 (const char *)s->premises.p);
        p->wanted = true;
        peer_poke(p);
    }
    for (size_t i = 0; i < r->groups_n; i++)
        for (size_t k = 0; k < r->groups[i].members_n; k++)
            r->groups[i].members[k].peer = peer_find(r, r->groups[i].members[k].server);
}

static void groups_free(struct group *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i].members);
    free(v);
}

/* Pairs of namespace and server that have tasks. */
struct pairs {
    struct pair {
        uint64_t ns, server;
    } * v;
    size_t n;
};

static void add_pair(void *arg, uint64_t ns, uint64_t server, uint64_t n)
{
    struct pairs *p = arg;
    (void)n;
    if ((p->n & (p->n - 1)) == 0 && !(p->v = realloc(p->v, (2 * p->n + 1) * sizeof *p->v)))
        abort();
    p->v[p->n++] = (struct pair){ns, server};
}

/* Tasks of who takes part no more go, and the cursors of namespaces that nobody shares: should they
 * be shared again, all of them is looked up anyway. Not locked: only the follower changes the
 * table. */
static void forget_gone(struct replicate *r)
{
    struct pairs p = {0};
    if (tasks_count(r->tasks, add_pair, &p) == 0)
        for (size_t i = 0; i < p.n; i++)
            if (!table_member(r, p.v[i].ns, p.v[i].server))
                tasks_forget(r->tasks, p.v[i].ns, p.v[i].server);
    free(p.v);
    for (size_t i = 0; i < r->groups_n; i++) {
        struct buf cursor cleanup_buf = {0};
        if (!r->groups[i].members_n && !tasks_cursor(r->tasks, r->groups[i].ns, &cursor))
            tasks_forget(r->tasks, r->groups[i].ns, 0);
    }
}

static void take_over(struct replicate *r, struct group *v, size_t n,
                      const struct m_replicas_ans *a)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < n; i++)
        group_inherit(r, &v[i]);
    struct group *old = r->groups;
    size_t old_n = r->groups_n;
    bool other = n != old_n;
    for (size_t i = 0; i < n && !other; i++)
        other = v[i].ns != old[i].ns;
    r->groups = v;
    r->groups_n = n;
    if (other && r->wait_call)
        rpc_cancel(r->meta, r->wait_call); /* it watches the wrong ones */
    update_peers(r, a);
    r->refresh_at = mono_ms() + (r->o.refresh_ms ? r->o.refresh_ms : REFRESH_MS);
    pthread_mutex_unlock(&r->lock);
    forget_gone(r);
    groups_free(old, old_n);
}

int table_refresh(struct replicate *r)
{
    struct group *v = NULL;
    size_t n = 0;
    struct m_replicas_req q = {0};
    for (;;) {
        struct arena a cleanup_arena = {0};
        struct m_replicas_ans ans;
        char message[512];
        int err = call_meta(r, &r->follow_call, "replicas", &m_replicas_req_desc, &q,
                            &m_replicas_ans_desc, &ans, &a, message);
        if (err) {
            groups_free(v, n);
            if (err != -ECANCELED && !r->meta_failed)
                log_printf(r->o.log, LOG_L_WARN, "replication: %s", message);
            r->meta_failed = true;
            return err;
        }
        v = realloc(v, (n + ans.namespaces_n + 1) * sizeof *v);
        if (!v)
            abort();
        for (size_t i = 0; i < ans.namespaces_n; i++)
            group_build(r, &v[n++], &ans.namespaces[i]);
        r->meta_failed = false;
        if (ans.more && ans.namespaces_n) {
            q.after = v[n - 1].ns;
            continue;
        }
        take_over(r, v, n, &ans);
        return 0;
    }
}
