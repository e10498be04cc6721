// SPDX-License-Identifier: Apache-2.0
/* Every method is a row of one table. A row that changes something goes to the writer from the loop
 * thread, undecoded: the writer decodes it, so that a commit crosses threads twice and not three
 * times. A row that only reads runs on a worker, with a reader of the pool; but the question about
 * a few blocks, which an fsync waits for, is answered on the loop, where a reader is at hand and
 * was quick lately: it takes less than the two changes of threads. Calls that are answered later
 * stand in handlers_held.c. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "invite.h"
#include "joinhost.h"
#include "service.h"
#include "steps.h"
#include "tls.h"
#include "writer.h"

#define SMALL_BODY (256u << 10)
#define DIFF_ON_LOOP 512 /* bytes: about a dozen block ids */
/* After a command all waiters ask again. A script of commands must not make them do nothing else:
 * so many of them a millisecond, on average. */
#define RELEASED_PER_MS 10
#define EXIT_STILL_PENDING 6

int64_t service_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- who may call, and what an error means -------------------------------------------------- */

static bool admits(enum call_for whom, const struct meta_caller *who)
{
    switch (whom) {
    case CALL_FOR_ANYONE:
        return true;
    case CALL_FOR_DEVICE:
        return who->device != 0;
    case CALL_FOR_MEMBER:
        return who->device != 0 || who->server != 0;
    case CALL_FOR_SERVER:
        return who->server != 0;
    case CALL_FOR_PEOPLE:
        return who->device != 0 || who->admin;
    }
    return false;
}

void service_note(struct service *s, enum log_level level, const struct log_where *where,
                  const char *who, const char *fmt, ...)
{
    char line[1024];
    uint64_t left_out;
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (!quiet_allows(&s->quiet, line, who, monotonic_us() / 1000, &left_out))
        return;
    if (left_out)
        log_about(s->log, level, where, "%s: %s (and %llu times since the last such line)", who,
                  line, (unsigned long long)left_out);
    else
        log_about(s->log, level, where, "%s: %s", who, line);
}

static const char identity_unknown[] =
    "the metadata server does not know this identity, or it was revoked; ask the administrator for "
    "a new invitation";

/* A number for whoever calls, no two's; for httpd. */
static uint64_t sender(const struct meta_caller *who)
{
    return who->server   ? who->server | 1ull << 63
           : who->device ? who->device
                         : who->account | 1ull << 62;
}

unsigned service_vouch(void *ctx, const struct httpd_early *e, uint64_t *who_is, char *why)
{
    struct service *s = ctx;
    struct meta *m;
    struct meta_caller who;
    char text[512] = "";
    int err = readers_get(s->readers, &m, text);
    if (!err) {
        err = e->bearer[0] ? meta_authenticate(m, e->bearer, &who) : -EACCES;
        readers_put(s->readers, m);
    }
    if (!err) {
        *who_is = sender(&who);
        return 0;
    }
    bool unknown = err == -EACCES;
    if (unknown)
        s->counters.unauthenticated++;
    snprintf(why, HTTPD_WHY_MAX, "%s",
             unknown ? identity_unknown
                     : "the metadata server cannot read its database; try again");
    return unknown ? ERR_UNAUTHENTICATED : ERR_UNAVAILABLE;
}

bool service_admit(struct service *s, struct meta *m, const struct call *c, struct httpd_req *q,
                   struct meta_caller *who)
{
    *who = (struct meta_caller){.local = httpd_peer_local(q)};
    if (c->whom == CALL_FOR_ANYONE) {
        bool may = throttle_allows(&s->throttle, httpd_peer(q), service_now_ms());
        if (!may)
            httpd_reply_error(q, ERR_UNAVAILABLE,
                              "too many failed attempts from this address; try again in a minute");
        return may;
    }
    const char *credential = httpd_bearer(q);
    int err = credential[0] ? meta_authenticate(m, credential, who) : -EACCES;
    who->op = httpd_op(q);
    who->local = httpd_peer_local(q);
    if (!err)
        httpd_prove(q, sender(who));
    if (!err && admits(c->whom, who))
        return true;
    if (err && err != -EACCES) {
        service_fail(s, c, q, err, "");
        return false;
    }
    s->counters.unauthenticated++;
    service_note(s, LOG_L_WARN, &(struct log_where){.op = httpd_op(q)}, httpd_peer(q),
                 "%s refused: %s", c->method,
                 err ? "its credential is unknown or revoked" : "not for this kind of identity");
    if (err)
        httpd_reply_error(q, ERR_UNAUTHENTICATED, "%s", identity_unknown);
    else
        httpd_reply_error(q, ERR_FORBIDDEN, "%s is not for this kind of identity", c->method);
    return false;
}

static enum error_code code_of(const struct call *c, int err)
{
    switch (err) {
    case -EBADMSG:
    case -EINVAL:
    case -EPROTO:
        return ERR_BAD_MESSAGE;
    case -EACCES:
    case -EPERM:
        return c->whom == CALL_FOR_ANYONE ? ERR_UNAUTHENTICATED : ERR_FORBIDDEN;
    case -ENOENT:
        return ERR_NOT_FOUND;
    case -EEXIST:
        return ERR_CONFLICT;
    case -ESTALE:
        return ERR_RESYNC;
    case -EMSGSIZE:
    case -E2BIG:
        return ERR_TOO_LARGE;
    case -EAGAIN:
    case -EBUSY:
        return ERR_UNAVAILABLE;
    case -ENOSPC:
    case -EDQUOT:
        return ERR_FULL;
    default:
        return ERR_INTERNAL;
    }
}

static const char *text_of(enum error_code code, const char *why)
{
    if (code == ERR_FULL)
        return "the metadata server's disk is full; nothing was changed; free space there";
    if (why[0])
        return why;
    return code == ERR_INTERNAL ? "the metadata server failed; its log says why" : "refused";
}

void service_fail(struct service *s, const struct call *c, struct httpd_req *q, int err,
                  const char *why)
{
    enum error_code code = code_of(c, err);
    if (c->whom == CALL_FOR_ANYONE && code == ERR_UNAUTHENTICATED)
        throttle_failed(&s->throttle, httpd_peer(q), service_now_ms());
    struct log_where where = {.op = httpd_op(q)};
    service_note(s, code >= ERR_INTERNAL ? LOG_L_ERROR : LOG_L_WARN, &where, httpd_peer(q),
                 "%s: %s (%s)", c->method, why[0] ? why : text_of(code, ""), strerror(-err));
    httpd_reply_error(q, code, "%s", text_of(code, why));
}

/* ---- one adapter per method: void pointers to the types that the table promises -------------- */

#define READS(name)                                                                                \
    static int run_##name(struct service *s, struct meta *m, const struct meta_caller *who,        \
                          const void *req, int64_t now_ms, void *ans, struct arena *ar, char *why) \
    {                                                                                              \
        (void)s, (void)now_ms;                                                                     \
        return meta_##name(m, who, req, ans, ar, why);                                             \
    }
#define CHANGES(name)                                                                              \
    static int run_##name(struct service *s, struct meta *m, const struct meta_caller *who,        \
                          const void *req, int64_t now_ms, void *ans, struct arena *ar, char *why) \
    {                                                                                              \
        (void)s;                                                                                   \
        return meta_##name(m, who, req, now_ms, ans, ar, why);                                     \
    }
READS(diff)
READS(requests)
READS(list)
READS(lookup)
READS(readdir)
READS(node)
READS(extents)
READS(locate)
READS(backlog)
READS(recorded)
CHANGES(where) /* none: but it tells until when something is there */
CHANGES(session)
CHANGES(commit)
CHANGES(replicas)
CHANGES(stored)
CHANGES(collect)
CHANGES(inventory)

static int run_login(struct service *s, struct meta *m, const struct meta_caller *who,
                     const void *req, int64_t now_ms, void *ans, struct arena *ar, char *why)
{
    (void)s, (void)who;
    return meta_login(m, req, now_ms, ans, ar, why);
}

/* A certificate for the request's key and the host of the URL. */
static int issue(struct service *s, struct meta_caller *who, struct bytes csr, struct bytes url,
                 struct arena *ar, char *why)
{
    char *pem = NULL, *host = join_host(url, ar);
    uint8_t pin[TLS_PIN_LEN];
    if (!host) {
        snprintf(why, 512, "the URL of a block server is https://HOST:PORT");
        return -EINVAL;
    }
    if (!who->local && join_host_is_own(host, s->names)) {
        snprintf(why, 512,
                 "%.250s is a name of the metadata server itself; a block server elsewhere "
                 "needs one of its own",
                 host);
        return -EINVAL;
    }
    int err = tls_issue(s->ca_pem, s->ca_key_pem, arena_str(ar, csr), host, &pem);
    if (!err)
        err = tls_pin(pem, pin);
    if (err) {
        snprintf(why, 512, "the certificate request is not usable");
    } else {
        who->certificate = arena_bytes(ar, pem, strlen(pem));
        who->pin = arena_bytes(ar, pin, sizeof pin);
    }
    free(pem);
    return err;
}

/* The certificate comes first: a request that is none must not use up the token. */
static int run_join(struct service *s, struct meta *m, const struct meta_caller *who,
                    const void *req, int64_t now_ms, void *ans, struct arena *ar, char *why)
{
    const struct m_join_req *q = req;
    struct m_join_ans *a = ans;
    struct meta_caller caller = *who;
    int err = q->csr.n && s->ca_pem ? issue(s, &caller, q->csr, q->url, ar, why) : 0;
    if (!err)
        err = meta_join(m, &caller, q, now_ms, a, ar, why);
    if (err)
        return err;
    if (s->ca_pem)
        a->ca = bytes_str(s->ca_pem);
    return 0;
}

/* A request that is not usable ends the order for another key, and no more than that. */
static int run_beat(struct service *s, struct meta *m, const struct meta_caller *who,
                    const void *req, int64_t now_ms, void *ans, struct arena *ar, char *why)
{
    const struct m_beat_req *q = req;
    struct meta_caller caller = *who;
    if (q->csr.n && s->ca_pem && issue(s, &caller, q->csr, q->url, ar, why))
        log_printf(s->log, LOG_L_WARN, "block server %llu gets no certificate for another key: %s",
                   (unsigned long long)who->server, why);
    return meta_beat(m, &caller, q, now_ms, ans, ar, why);
}

static int run_command(struct service *s, struct meta *m, const struct meta_caller *who,
                       const void *req, int64_t now_ms, void *ans, struct arena *ar, char *why)
{
    struct m_command_ans *a = ans;
    int err = meta_command(m, who, req, now_ms, a, ar);
    if (err)
        snprintf(why, 512, "the store failed at this command; nothing was changed");
    struct bytes account;
    if (!err && a->exit_status == 0 && invite_asked(req, &account))
        invite_compose(a, account, s->public_host, httpd_port(s->httpd), s->ca_fingerprint, ar);
    return err;
}

/* ---- what is counted, traced and logged -------------------------------------------------------
 */

static void asked_commit(struct service *s, const struct meta_caller *who, const void *req)
{
    step_commit_asked(s->log, who, req);
}

static void done_commit(struct service *s, const struct meta_caller *who, const void *req,
                        const void *ans)
{
    const struct m_commit_req *q = req;
    const struct m_commit_ans *a = ans;
    struct log_where where = {
        .ns = q->ns, .request = q->request, .device = who->device, .op = who->op};
    char device[32];
    step_commit_answered(s->log, who, q, a);
    switch (a->status) {
    case COMMIT_COMMITTED:
        s->counters.commits += a->sjid != 0; /* not for a part of a staged one */
        log_about(s->log, LOG_L_DEBUG, &where, "committed as %llu", (unsigned long long)a->sjid);
        break;
    case COMMIT_MISSING:
        s->counters.missing++;
        log_about(s->log, LOG_L_DEBUG, &where, "commit: %zu blocks are missing, %zu elsewhere",
                  a->missing_n, a->elsewhere_n);
        break;
    case COMMIT_CONFLICT:
        s->counters.conflicts++;
        log_about(s->log, LOG_L_DEBUG, &where, "commit in conflict: %.*s", (int)a->reason.n,
                  (const char *)a->reason.p);
        break;
    default:
        s->counters.refused++;
        snprintf(device, sizeof device, "device %llu", (unsigned long long)who->device);
        service_note(s, LOG_L_WARN, &where, device, "commit refused: %.*s", (int)a->reason.n,
                     (const char *)a->reason.p);
    }
}

static void asked_diff(struct service *s, const struct meta_caller *who, const void *req)
{
    s->counters.diffs++;
    step_diff_asked(s->log, who, req);
}

static void done_diff(struct service *s, const struct meta_caller *who, const void *req,
                      const void *ans)
{
    const struct m_diff_req *q = req;
    const struct m_diff_ans *a = ans;
    struct log_where where = {.ns = q->ns, .device = who->device, .op = who->op};
    step_diff_answered(s->log, who, q, a);
    log_about(s->log, LOG_L_DEBUG, &where, "asked about %zu blocks: %zu missing, %zu elsewhere",
              q->ids_n, a->missing_n, a->elsewhere_n);
}

static void done_list(struct service *s, const struct meta_caller *who, const void *req,
                      const void *ans)
{
    const struct m_list_ans *a = ans;
    s->counters.lists++;
    if (a->other)
        atomic_store(&s->other_told, true); /* the writer sees to it */
    step_list_answered(s->log, who, req, ans);
}

static void done_collect(struct service *s, const struct meta_caller *who, const void *req,
                         const void *ans)
{
    (void)who;
    const struct m_collect_req *q = req;
    const struct m_collect_ans *a = ans;
    s->counters.gc_ordered += a->blocks_n;
    s->counters.gc_removed += q->done_n;
}

static void done_inventory(struct service *s, const struct meta_caller *who, const void *req,
                           const void *ans)
{
    const struct m_inventory_ans *a = ans;
    (void)req;
    s->counters.inventory_announced += a->announced;
    s->counters.inventory_lost += a->lost;
    s->counters.inventory_unneeded += a->unneeded;
    if (a->announced || a->lost || a->unneeded)
        log_printf(s->log, LOG_L_WARN,
                   "block server %llu, compared with what is recorded: %llu blocks there were not "
                   "recorded, %llu recorded ones are not there, nothing refers to %llu",
                   (unsigned long long)who->server, (unsigned long long)a->announced,
                   (unsigned long long)a->lost, (unsigned long long)a->unneeded);
}

static void done_session(struct service *s, const struct meta_caller *who, const void *req,
                         const void *ans)
{
    (void)req;
    s->counters.sessions++;
    step_session(s->log, who, ans);
}

/* A command may have changed any account's memberships and any namespace's head: all waiters ask
 * again, once, soon. */
static void release_now(void *arg)
{
    struct service *s = arg;
    s->release_due = false;
    s->released_ms = service_now_ms();
    waiters_release(s->waiters);
}

void service_release_soon(void *arg)
{
    struct service *s = arg;
    int64_t since = service_now_ms() - s->released_ms;
    int64_t pause = (int64_t)(waiters_held(s->waiters) / RELEASED_PER_MS);
    if (s->release_due)
        return;
    if (since < 0 || since >= pause) {
        release_now(s);
        return;
    }
    s->release_due = true;
    httpd_timer(s->httpd, (unsigned)(pause - since), release_now, s);
}

static void done_command(struct service *s, const struct meta_caller *who, const void *req,
                         const void *ans)
{
    const struct m_command_ans *a = ans;
    size_t line = 0;
    while (line < a->text.n && line < 200 && a->text.p[line] != '\n')
        line++;
    if (a->exit_status && a->exit_status != EXIT_STILL_PENDING)
        log_printf(s->log, LOG_L_WARN, "command of %s %llu ended with status %llu: %.*s",
                   who->admin ? "administrator" : "device", (unsigned long long)who->device,
                   (unsigned long long)a->exit_status, (int)line, (const char *)a->text.p);
    if (!meta_command_looks(req) && !a->unchanged)
        s->release_wanted = true;
}

static void done_login(struct service *s, const struct meta_caller *who, const void *req,
                       const void *ans)
{
    (void)who;
    const struct m_login_req *q = req;
    const struct m_login_ans *a = ans;
    log_printf(s->log, LOG_L_INFO, "account %.*s has the new device %llu (%.*s)", (int)q->account.n,
               (const char *)q->account.p, (unsigned long long)a->device, (int)q->device_name.n,
               (const char *)q->device_name.p);
}

static void done_join(struct service *s, const struct meta_caller *who, const void *req,
                      const void *ans)
{
    (void)who;
    const struct m_join_req *q = req;
    const struct m_join_ans *a = ans;
    log_printf(s->log, LOG_L_INFO, "block server %llu (%.*s) joined at %.*s",
               (unsigned long long)a->server, (int)a->premises.n, (const char *)a->premises.p,
               (int)q->url.n, (const char *)q->url.p);
    s->release_wanted = true;
}

/* ---- the table ----------------------------------------------------------------------------------
 */

#define CALL(name, for_whom, ...)                                                                  \
    static const struct call call_##name = {.method = #name,                                       \
                                            .req_desc = &m_##name##_req_desc,                      \
                                            .ans_desc = &m_##name##_ans_desc,                      \
                                            .whom = for_whom,                                      \
                                            .run = run_##name,                                     \
                                            __VA_ARGS__};
CALL(diff, CALL_FOR_DEVICE, .body_max = MSG_BODY_MAX, .received = asked_diff, .answered = done_diff)
CALL(requests, CALL_FOR_DEVICE, .body_max = SMALL_BODY)
CALL(list, CALL_FOR_MEMBER, .body_max = SMALL_BODY, .answered = done_list)
CALL(lookup, CALL_FOR_DEVICE, .body_max = SMALL_BODY)
CALL(readdir, CALL_FOR_DEVICE, .body_max = SMALL_BODY)
CALL(node, CALL_FOR_DEVICE, .body_max = SMALL_BODY)
CALL(extents, CALL_FOR_DEVICE, .body_max = SMALL_BODY)
CALL(locate, CALL_FOR_MEMBER, .body_max = MSG_BODY_MAX)
CALL(where, CALL_FOR_PEOPLE, .body_max = SMALL_BODY)
CALL(commit, CALL_FOR_DEVICE, .changes = true, .urgent = true, .body_max = 2 * MSG_BODY_MAX,
     .received = asked_commit, .answered = done_commit)
CALL(session, CALL_FOR_DEVICE, .changes = true, .body_max = SMALL_BODY, .answered = done_session)
CALL(beat, CALL_FOR_SERVER, .changes = true, .body_max = SMALL_BODY)
CALL(backlog, CALL_FOR_SERVER, .body_max = SMALL_BODY)
CALL(recorded, CALL_FOR_SERVER, .body_max = SMALL_BODY)
CALL(replicas, CALL_FOR_SERVER, .changes = true, .body_max = SMALL_BODY)
CALL(stored, CALL_FOR_SERVER, .changes = true, .body_max = 1u << 20)
CALL(collect, CALL_FOR_SERVER, .changes = true, .body_max = SMALL_BODY, .answered = done_collect)
CALL(inventory, CALL_FOR_SERVER, .changes = true, .body_max = 1u << 20, .answered = done_inventory)
CALL(login, CALL_FOR_ANYONE, .changes = true, .body_max = SMALL_BODY, .answered = done_login)
CALL(join, CALL_FOR_ANYONE, .changes = true, .body_max = SMALL_BODY, .answered = done_join)
CALL(command, CALL_FOR_PEOPLE, .changes = true, .body_max = 2u << 20, .answered = done_command)

/* With a reader of the pool, which goes back. */
static void serve_with(struct service *s, struct meta *m, const struct call *c, struct httpd_req *q)
{
    char why[512] = "";
    struct meta_caller who;
    int err = 0;
    struct arena *ar = httpd_arena(q);
    void *req = arena_alloc(ar, c->req_desc->size), *ans = arena_alloc(ar, c->ans_desc->size);
    bool admitted = service_admit(s, m, c, q, &who) && httpd_decode(q, c->req_desc, req);
    if (admitted) {
        if (c->received)
            c->received(s, &who, req);
        err = c->run(s, m, &who, req, service_now_ms(), ans, ar, why);
    }
    readers_put(s->readers, m);
    if (!admitted)
        return;
    if (err) {
        service_fail(s, c, q, err, why);
        return;
    }
    if (c->answered)
        c->answered(s, &who, req, ans);
    httpd_reply_msg(q, c->ans_desc, ans);
}

static void serve_read(struct service *s, const struct call *c, struct httpd_req *q)
{
    char why[512] = "";
    struct meta *m;
    int err = readers_get(s->readers, &m, why);
    if (err)
        service_fail(s, c, q, err, why);
    else
        serve_with(s, m, c, q);
}

#define ON_WORKER(name)                                                                            \
    static void on_##name(void *ctx, struct httpd_req *q)                                          \
    {                                                                                              \
        serve_read(ctx, &call_##name, q);                                                          \
    }
#define ON_WRITER(name)                                                                            \
    static void on_##name(void *ctx, struct httpd_req *q)                                          \
    {                                                                                              \
        struct service *s = ctx;                                                                   \
        writer_submit(s->writer, &call_##name, q);                                                 \
    }
ON_WORKER(requests)
ON_WORKER(list)
ON_WORKER(lookup)
ON_WORKER(readdir)
ON_WORKER(node)
ON_WORKER(extents)
ON_WORKER(locate)
ON_WORKER(where)
ON_WORKER(backlog)
ON_WORKER(recorded)
ON_WRITER(commit)
ON_WRITER(session)
ON_WRITER(beat)
ON_WRITER(replicas)
ON_WRITER(stored)
ON_WRITER(collect)
ON_WRITER(inventory)
ON_WRITER(login)
ON_WRITER(join)
ON_WRITER(command)

static void answer_diff(void *ctx, struct httpd_req *q)
{
    serve_read(ctx, &call_diff, q);
}

static void on_diff(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    int64_t began = monotonic_us();
    struct meta *m = httpd_body(q).n <= DIFF_ON_LOOP ? readers_get_quick(s->readers, began) : NULL;
    if (!m) {
        httpd_to_worker(q, answer_diff);
        return;
    }
    serve_with(s, m, &call_diff, q);
    readers_was_quick(s->readers, began, monotonic_us());
}

/* ---- the rest
 * ---------------------------------------------------------------------------------------- */

/* The CA certificate is public; whoever asks compares its fingerprint with the invitation's. */
static void on_ca(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    if (!s->ca_pem) {
        httpd_reply_error(q, ERR_NOT_FOUND, "this metadata server runs without TLS");
        return;
    }
    struct buf body = {0};
    buf_append(&body, s->ca_pem, strlen(s->ca_pem));
    httpd_reply(q, 200, &body);
}

void service_routes(struct service *s)
{
    struct httpd *h = s->httpd;
#define ROUTE(name)                                                                                \
    httpd_route(h, #name, call_##name.changes ? HTTPD_ON_LOOP : HTTPD_ON_WORKER,                   \
                call_##name.body_max, on_##name)
    httpd_route(h, "diff", HTTPD_ON_LOOP, call_diff.body_max, on_diff);
    ROUTE(requests);
    ROUTE(list);
    ROUTE(lookup);
    ROUTE(readdir);
    ROUTE(node);
    ROUTE(extents);
    ROUTE(locate);
    ROUTE(where);
    ROUTE(backlog);
    ROUTE(recorded);
    ROUTE(commit);
    ROUTE(session);
    ROUTE(beat);
    ROUTE(replicas);
    ROUTE(stored);
    ROUTE(collect);
    ROUTE(inventory);
    ROUTE(login);
    ROUTE(join);
    ROUTE(command);
    httpd_route(h, "wait", HTTPD_ON_WORKER, SMALL_BODY, service_on_wait);
    httpd_route(h, "lock", HTTPD_ON_WORKER, SMALL_BODY, service_on_lock);
    httpd_route(h, "ca", HTTPD_ON_LOOP, 0, on_ca); /* 0: GET, too */
}

void service_metrics(void *ctx, struct buf *out)
{
    struct service *s = ctx;
    counters_print(&s->counters, out);
    waiters_print(s->waiters, out);
    locks_print(s->locks, out);
}
