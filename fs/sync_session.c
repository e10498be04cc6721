// SPDX-License-Identifier: Apache-2.0
/* Sessions: who serves what (A4), whether the metadata server can be reached, and how block servers
 * fare.
 *
 * While the metadata server does not answer, the session request is the only thing sent to it, with
 * back-off; when it succeeds everything else goes on. A block server that failed is left alone
 * until an empty `have`, sent after its back-off, is answered: so that no write waits for a server
 * known to be broken while another candidate works.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync_internal.h"
#include "token.h"
#include "tree.h"

#define SESSION_TIMEOUT_MS 10000
#define SESSION_DEFAULT_MS 300000
#define SESSION_REFUSED_MS 30000 /* between attempts when the credential is refused */
#define SESSION_PAUSE_MS 1000    /* at least, between renewals that others ask for */
#define PROBE_TIMEOUT_MS 3000
#define REFUSED_AGAIN_MS 2000 /* at least, before what a server refused is tried there again */
#define STALL_MS 2000         /* a server with calls under way that is not heard of is probed */

static uint32_t random_u32(void)
{
    uint32_t r;
    random_bytes(&r, sizeof r);
    return r;
}

static bool means_offline(int err)
{
    switch (err) {
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ETIMEDOUT:
    case -ECONNRESET:
    case -EAGAIN:
    case -EPROTO:
    case -EKEYREJECTED:
    case -EACCES:
        return true;
    default:
        return false;
    }
}

int meta_result(struct sync *s, struct sync_call *c)
{
    int err = c->res.err;
    if (s->stopping || err == -ECANCELED)
        return -ECANCELED;
    if (!err || !means_offline(err))
        return err;
    if (s->online)
        log_printf(s->fs->log, LOG_L_WARN, "%s", c->res.message);
    s->online = false;
    s->session_wanted = true;
    s->session_err = err;
    snprintf(s->session_error, sizeof s->session_error, "%s", c->res.message);
    return err;
}

/* ---- the table ---- */
static void text_copy(char *to, size_t cap, struct bytes b)
{
    size_t n = b.n < cap - 1 ? b.n : cap - 1;
    memcpy(to, b.p ? b.p : (const uint8_t *)"", n);
    to[n] = 0;
}

static void server_learn(struct sync *s, const struct m_server *m)
{
    struct sync_server *v = sync_server_find(s, m->id);
    if (!v) {
        v = calloc(1, sizeof *v);
        s->servers = realloc(s->servers, (s->servers_n + 1) * sizeof *s->servers);
        if (!v || !s->servers)
            abort();
        v->id = m->id;
        LIST_INIT(&v->calls);
        s->servers[s->servers_n++] = v;
    }
    char url[sizeof v->url];
    text_copy(url, sizeof url, m->url);
    struct rpc_pins pins = rpc_pins_of(m);
    /* it moved, or has another key: what failed there counts no longer */
    if (strcmp(url, v->url) != 0 || memcmp(&pins, &v->pins, sizeof pins) != 0)
        backoff_ok(&v->backoff);
    memcpy(v->url, url, sizeof url);
    v->pins = pins;
    text_copy(v->premises, sizeof v->premises, m->premises);
    v->listed = true;
}

static void route_learn(struct sync *s, struct sync_ns *ns, const struct m_candidate *m)
{
    struct sync_server *v = sync_server_find(s, m->server);
    struct route *r = route_find(ns, m->server);
    if (!v)
        return;
    if (!r) {
        if (ns->routes_n == sizeof ns->routes / sizeof *ns->routes)
            return;
        r = calloc(1, sizeof *r);
        if (!r)
            abort();
        r->ns = ns;
        r->server = v;
        for (size_t i = 0; i < UPLOAD_CLASSES; i++) {
            TAILQ_INIT(&r->ask[i]);
            TAILQ_INIT(&r->put[i]);
        }
        TAILQ_INIT(&r->seek);
        ns->routes[ns->routes_n++] = r;
    }
    r->listed = true;
    r->priority = m->priority;
    r->leaving = m->leaving;
    bool same = m->capability.n == r->cap_n && !memcmp(r->cap, m->capability.p, r->cap_n);
    for (size_t i = 0; i < ROUTE_USES && !same; i++)
        if (r->refused[i].fails == 1) /* the first refusal may have been of an old one */
            route_ok(r, (enum route_use)i);
    r->cap_n = m->capability.n <= sizeof r->cap ? m->capability.n : 0;
    if (r->cap_n)
        memcpy(r->cap, m->capability.p, r->cap_n);
}

/* A namespace that stays on its premises is not brought elsewhere, whoever says so. */
static bool onsite_allows(struct sync *s, const struct m_namespace *m, uint64_t server)
{
    const struct sync_server *v = sync_server_find(s, server);
    for (size_t i = 0; v && i < m->onsite_n; i++)
        if (bytes_equal(m->onsite[i].name, bytes_str(v->premises)))
            return true;
    return m->onsite_n == 0;
}

/* The server was put back to an older copy, and has given the number of a namespace to another one
 * since: nothing of the one may get into the other. */
static bool ns_is_other(struct sync *s, const struct m_namespace *m)
{
    struct core_ns known;
    if (!core_ns_other(s->fs->core, m) || core_ns_get(s->fs->core, m->id, &known) != 0)
        return false;
    ns_error(
        s, sync_ns_need(s, m->id),
        "the metadata server was put back, and %.*s has its number now: what %s held is kept "
        "here and not sent (`steadfs parked export DIR` copies what was not committed); log in "
        "as a new device to work in %.*s",
        (int)m->name.n, (const char *)m->name.p, known.name, (int)m->name.n,
        (const char *)m->name.p);
    return true;
}

static void ns_learn(struct sync *s, const struct m_namespace *m)
{
    if (ns_is_other(s, m))
        return;
    struct sync_ns *ns = sync_ns_need(s, m->id);
    if (!ns->watched && s->waiting) /* the long poll that is out does not know it */
        rpc_cancel(s->rpc, s->wait_call);
    text_copy(ns->name, sizeof ns->name, m->name);
    ns->listed = true;
    ns->role = m->role;
    ns->copies_min = m->copies_min;
    for (size_t i = 0; i < m->candidates_n; i++) {
        if (onsite_allows(s, m, m->candidates[i].server))
            route_learn(s, ns, &m->candidates[i]);
        else
            log_printf(s->fs->log, LOG_L_ERROR,
                       "namespace %s is to stay on its premises: block server %llu is not used",
                       ns->name, (unsigned long long)m->candidates[i].server);
    }
    ns->session_head = m->head;
    ns->session_floor = m->floor;
    ns->targets_at = 0;
    journal_session(s, ns, m->head, m->mark);
    if (trace_on(s->fs->log)) {
        char list[512];
        size_t n = 0;
        for (size_t i = 0; i < m->candidates_n && n < sizeof list - 24; i++)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%llu", i ? "," : "",
                                  (unsigned long long)m->candidates[i].server);
        list[n] = 0;
        struct trace t = trace_begin(s->fs->log, "A4");
        trace_str(&t, "account", s->fs->account);
        trace_u64(&t, "device", s->identity.device);
        trace_u64(&t, "ns", m->id);
        trace_str(&t, "candidates", list);
        trace_end(&t);
    }
}

static int table_learn(struct sync *s, const struct m_session_ans *a)
{
    struct core_effects fx = {0};
    int err = core_session(s->fs->core, a, &fx);
    if (err) {
        core_effects_free(&fx);
        return err;
    }
    sync_effects(s, &fx);
    text_copy(s->fs->account, sizeof s->fs->account, a->account);
    for (size_t i = 0; i < s->servers_n; i++)
        s->servers[i]->listed = false;
    for (size_t i = 0; i < s->nss_n; i++) {
        s->nss[i]->listed = false;
        for (size_t k = 0; k < s->nss[i]->routes_n; k++)
            s->nss[i]->routes[k]->listed = false;
    }
    for (size_t i = 0; i < a->servers_n; i++)
        server_learn(s, &a->servers[i]);
    for (size_t i = 0; i < a->namespaces_n; i++)
        ns_learn(s, &a->namespaces[i]);
    lock_members(s);
    sync_kick(s); /* what was refused may be pending again */
    return 0;
}

/* ---- the call ---- */
static void session_failed(struct sync *s, int err, const char *message)
{
    int64_t now = s->clock();
    backoff_failed(&s->meta_backoff, now, random_u32());
    if (err == -EACCES || err == -EPERM || err == -EUCLEAN)
        s->session_at = now + SESSION_REFUSED_MS;
    else
        s->session_at = 0;
    s->session_err = err;
    if (strcmp(s->session_error, message) != 0)
        log_printf(s->fs->log, LOG_L_WARN, "%s", message);
    snprintf(s->session_error, sizeof s->session_error, "%s", message);
    s->online = false;
    s->session_wanted = true;
}

static int session_take(struct sync *s, const struct sync_call *c, char *message)
{
    struct arena cleanup_arena a = {0};
    struct m_session_ans m;
    int err = call_decode(s, c, &m_session_ans_desc, &m, &a);
    if (err) {
        snprintf(message, 512, "%s does not speak this protocol", s->fs->opt.url);
        return -EPROTO;
    }
    if (m.cloned) {
        snprintf(message, 512,
                 "%.200s is a copy of another mount's state, or an older one of it: unmount, run "
                 "`steadfs login --renew INVITATION --state DIR` for it and mount again; what is "
                 "unsent in it is kept",
                 s->fs->opt.state);
        return -EUCLEAN;
    }
    err = table_learn(s, &m);
    if (err) {
        if (err == -EBADMSG)
            snprintf(message, 512, "%s tells of a namespace that is none", s->fs->opt.url);
        else
            snprintf(message, 512, "%s: %s", s->fs->opt.state, strerror(-err));
        return err;
    }
    int64_t every = m.renew_ms ? (int64_t)m.renew_ms / 2 : SESSION_DEFAULT_MS;
    s->session_at = s->clock() + every;
    return 0;
}

static void session_done(struct sync *s, struct sync_call *c)
{
    char message[512];
    pthread_mutex_lock(&s->fs->lock);
    s->session_inflight = false;
    int err = c->res.err;
    if (s->stopping || err == -ECANCELED) {
        pthread_mutex_unlock(&s->fs->lock);
        return;
    }
    snprintf(message, sizeof message, "%s", c->res.message);
    if (err == -EACCES)
        snprintf(message, sizeof message,
                 "%.120s refuses this device, it was revoked, perhaps: ask for a new invitation, "
                 "unmount, then `steadfs login INVITATION --renew --state %.200s`",
                 s->fs->opt.url, s->fs->opt.state);
    if (!err)
        err = session_take(s, c, message);
    if (err) {
        session_failed(s, err, message);
    } else {
        if (!s->online && s->had_session)
            log_printf(s->fs->log, LOG_L_INFO, "metadata server: connected again");
        s->session_err = 0;
        s->session_error[0] = 0;
        s->online = s->had_session = true;
        s->sessions_learnt = s->sessions_asked;
        backoff_ok(&s->meta_backoff);
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static void session_start(struct sync *s)
{
    int64_t requests = 0, nodes = 0, starts = 0;
    int err = tree_get(s->fs->tree, "request_limit", &requests); /* absent in a new state: 0 */
    if (!err || err == -ENOENT)
        err = tree_get(s->fs->tree, "node_limit", &nodes);
    if (!err || err == -ENOENT)
        err = tree_get(s->fs->tree, "starts", &starts);
    if (err && err != -ENOENT) { /* a number too low would look like a copied state directory */
        char message[512];
        snprintf(message, sizeof message, "%.400s: %s", s->fs->opt.state, strerror(-err));
        session_failed(s, err, message);
        sync_at(s, s->clock() + SESSION_PAUSE_MS);
        return;
    }
    struct m_session_req q = {.incarnation = bytes_of(s->identity.incarnation, INCARNATION_LEN),
                              .requests_used = (uint64_t)requests,
                              .nodes_used = (uint64_t)nodes,
                              .starts = (uint64_t)starts,
                              .run = s->run};
    s->session_inflight = true;
    s->session_wanted = false;
    s->sessions_asked++;
    call_meta(call_new(s, session_done, NULL), "session", &m_session_req_desc, &q,
              SESSION_TIMEOUT_MS);
}

static void probes_step(struct sync *s);

void session_step(struct sync *s)
{
    probes_step(s);
    if (s->session_inflight)
        return;
    int64_t now = s->clock(), due;
    if (!s->online) {
        bool refused = s->session_at > now && s->meta_backoff.fails;
        due = refused                 ? s->session_at
              : s->meta_backoff.fails ? backoff_due(&s->meta_backoff, sync_awaited(s))
                                      : now;
    } else {
        due = s->session_at;
        int64_t soon = s->session_asked_at + SESSION_PAUSE_MS;
        if (s->session_wanted && soon < due)
            due = soon;
    }
    if (due > now) {
        sync_at(s, due);
        return;
    }
    s->session_asked_at = now;
    session_start(s);
}

int sync_wait_session(struct sync *s, unsigned timeout_ms, char *err)
{
    int64_t deadline = s->clock() + timeout_ms;
    struct timespec t = {.tv_sec = (time_t)(deadline / 1000),
                         .tv_nsec = (long)(deadline % 1000) * 1000000};
    int r = 0;
    pthread_mutex_lock(&s->fs->lock);
    while (!s->had_session && !r) {
        if (s->session_err == -EACCES || s->session_err == -EPERM || s->session_err == -EPROTO ||
            s->session_err == -EUCLEAN || s->session_err == -EKEYREJECTED)
            r = s->session_err;
        else if (s->abandoned)
            r = -ECANCELED;
        else if (pthread_cond_timedwait(&s->changed, &s->fs->lock, &t) == ETIMEDOUT)
            r = s->session_err ? s->session_err : -ETIMEDOUT;
    }
    if (r)
        snprintf(err, 512, "%s%s",
                 s->session_error[0] ? s->session_error : "no answer from the metadata server ",
                 s->session_error[0] ? "" : s->fs->opt.url);
    pthread_mutex_unlock(&s->fs->lock);
    return r;
}

/* ---- block servers ---- */
void server_failed(struct sync *s, struct sync_server *v, const struct rpc_result *r)
{
    if (r->err == -ECANCELED)
        return;
    if (r->err == -EACCES || r->err == -EPERM || r->err == -EKEYREVOKED)
        s->session_wanted = true; /* the capability, or what is known of keys, may be too old */
    if (r->err == -EKEYREVOKED)
        snprintf(v->error, sizeof v->error,
                 "what answers at %.200s is not block server %llu: its key is not the one that it "
                 "joined with, and nothing is sent to it; start the right one there, or, if that "
                 "has a new key, run `steadfs admin server rekey %llu`",
                 v->url, (unsigned long long)v->id, (unsigned long long)v->id);
    else
        snprintf(v->error, sizeof v->error, "%s", r->message);
    if (!v->backoff.fails)
        log_printf(s->fs->log, LOG_L_WARN, "%s: %s", v->premises, v->error);
    backoff_failed(&v->backoff, s->clock(), random_u32());
}

void route_failed(struct sync *s, struct route *r, enum route_use use, const struct rpc_result *res)
{
    struct backoff *b = &r->refused[use];
    if (res->err != -EACCES && res->err != -EPERM && res->err != -EDQUOT) {
        server_failed(s, r->server, res);
        return;
    }
    if (res->err == -EDQUOT)
        r->over_at = s->clock();
    else
        s->session_wanted = true; /* the capability may be too old, or the role another one */
    snprintf(r->error, sizeof r->error, "%.255s", res->message);
    if (!b->fails)
        log_about(s->fs->log, LOG_L_WARN, &(struct log_where){.ns = r->ns->id}, "%s: %s",
                  r->server->premises, res->message);
    backoff_failed(b, s->clock(), random_u32());
    if (b->until < b->failed_at + REFUSED_AGAIN_MS)
        b->until = b->failed_at + REFUSED_AGAIN_MS;
    r->ns->targets_at = 0;
}

void route_ok(struct route *r, enum route_use use)
{
    backoff_ok(&r->refused[use]);
    r->error[0] = 0;
    if (use == ROUTE_WRITE)
        r->over_at = 0;
}

bool route_refused(struct sync *s, const struct route *r, enum route_use use)
{
    const struct backoff *b = &r->refused[use];
    bool yes = b->fails && b->until > s->clock();
    if (yes)
        sync_at(s, b->until);
    return yes;
}

void server_ok(struct sync *s, struct sync_server *v, double seconds, size_t bytes, size_t blocks)
{
    (void)s;
    backoff_ok(&v->backoff);
    v->error[0] = 0;
    pace_took(&v->pace, bytes, blocks, seconds * 1000);
    if (bytes <= PUT_INLINE_BYTES)
        v->rtt_ms = target_rtt(v->rtt_ms, seconds * 1000);
}

static void probe_done(struct sync *s, struct sync_call *c)
{
    struct sync_server *v = c->server;
    pthread_mutex_lock(&s->fs->lock);
    v->probing = false;
    call_server_end(c);
    if (s->stopping) { /* nothing is asked of it any more, and nobody is left to cancel calls */
        pthread_mutex_unlock(&s->fs->lock);
        return;
    }
    bool refused = c->res.err == -EACCES || c->res.err == -EPERM; /* the namespace's affair */
    if (c->res.err && c->res.err != -ECANCELED && !refused) {
        server_failed(s, v, &c->res);
        LIST_FOREACH(c, &v->calls, server_link)
        if (c->expendable)
            rpc_cancel(s->rpc, c->id);
    } else if (!c->res.err || refused) {
        s->session_wanted |= refused;
        if (v->backoff.fails)
            log_printf(s->fs->log, LOG_L_INFO, "block server %s: answers again", v->premises);
        server_ok(s, v, c->res.seconds, 0, 0);
        for (size_t i = 0; i < s->nss_n; i++)
            s->nss[i]->targets_at = 0;
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static void probe_start(struct sync *s, struct sync_server *v)
{
    struct route *r = NULL;
    for (size_t i = 0; i < s->nss_n && !r; i++) {
        r = route_find(s->nss[i], v->id);
        if (r && (!r->listed || !r->cap_n)) /* what was good there once is refused */
            r = NULL;
    }
    if (!r)
        return;
    struct m_get_req q = {.ns = r->ns->id, .capability = bytes_of(r->cap, r->cap_n)};
    struct buf cleanup_buf b = {0};
    msg_encode(&m_get_req_desc, &q, &b);
    v->probing = true;
    call_server(call_new(s, probe_done, NULL), v, "have", bytes_of(b.p, b.n), NULL, 0,
                PROBE_TIMEOUT_MS);
}

/* When it is to be probed: after a failure, or because it has calls and has not been heard of. A
 * transfer over a slow link may take long, but an empty question is answered meanwhile. */
static int64_t probe_due(const struct sync *s, const struct sync_server *v)
{
    if (v->backoff.fails)
        return backoff_due(&v->backoff, sync_awaited(s));
    return LIST_EMPTY(&v->calls) ? INT64_MAX : v->heard + STALL_MS;
}

static void probes_step(struct sync *s)
{
    int64_t now = s->clock();
    for (size_t i = 0; i < s->servers_n; i++) {
        struct sync_server *v = s->servers[i];
        if (!v->listed || v->probing)
            continue;
        int64_t due = probe_due(s, v);
        if (due <= now)
            probe_start(s, v);
        else
            sync_at(s, due);
    }
}
