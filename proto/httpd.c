// SPDX-License-Identifier: Apache-2.0
/* HTTPS over evhttp: one loop thread owns every connection; workers own a request while they work.
 *
 * Threads. libevent's objects are touched on the loop thread alone, so the base needs no locks.
 * What other threads want (a reply to send, a function to run, the stop) goes into a list under one
 * mutex, and an eventfd wakes the loop, once for however many were added before it looked. Replies
 * that arrive together are sent in one go.
 *
 * A request's life. evhttp reads head and body, then calls on_request. The route decides where the
 * handler runs. While it runs, reading stays on so that a vanished client is noticed: evhttp then
 * detaches the request from the connection and frees only the latter. The request lives until it is
 * answered, and an answer to nobody frees it. evhttp aborts the process when its read callback is
 * called for a connection whose request is being handled, so that callback is taken off meanwhile
 * (evhttp puts its own back when it starts to write).
 *
 * Bytes of /healthz and /metrics are counted with all others (httpd_conn.c) and taken back out once
 * the request is known.
 *
 * A body over the largest route limit is read and thrown away by evhttp, which answers 413; one
 * over its route's limit is refused here.
 */
#include "httpd_private.h"

#include <errno.h>
#include <event2/keyvalq_struct.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HTTPD_COALESCE_MAX 16384 /* head and body up to this go out as one TLS record */
#define HTTPD_DRAIN_TICK_MS 10

/* ---- replies ------------------------------------------------------------------------------- */

const char *httpd_reason(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case ERR_BAD_MESSAGE:
        return "Bad Request";
    case ERR_UNAUTHENTICATED:
        return "Unauthorized";
    case ERR_FORBIDDEN:
        return "Forbidden";
    case ERR_NOT_FOUND:
        return "Not Found";
    case ERR_CONFLICT:
        return "Conflict";
    case ERR_RESYNC:
        return "Gone";
    case ERR_TOO_LARGE:
        return "Content Too Large";
    case ERR_VERSION:
        return "Upgrade Required";
    case ERR_BUSY:
        return "Too Many Requests";
    case ERR_UNAVAILABLE:
        return "Service Unavailable";
    case ERR_FULL:
        return "Insufficient Storage";
    case ERR_QUOTA:
        return "Quota Exceeded";
    case 405:
        return "Method Not Allowed";
    default:
        return "Error";
    }
}

static void free_reply(const void *data, size_t n, void *arg)
{
    (void)data;
    (void)n;
    free(arg);
}

/* Hands head and body to evhttp. */
static void send_answer(struct httpd *h, struct conn *c, struct evhttp_request *ev, unsigned status,
                        struct buf *body)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(ev);
    if (body->n <= HTTPD_COALESCE_MAX) {
        evbuffer_add(out, body->p, body->n);
        buf_free(body);
    } else {
        evbuffer_add_reference(out, body->p, body->n, free_reply, body->p);
        *body = (struct buf){0};
    }
    if (atomic_load(&h->draining))
        evhttp_add_header(evhttp_request_get_output_headers(ev), "Connection", "close");
    evhttp_send_reply(ev, (int)status, httpd_reason(status), NULL);
    if (!c || !h->ssl)
        return;
    /* each piece of the output would be a TLS record and a system call of its own */
    struct evbuffer *wire = bufferevent_get_output(c->bev);
    size_t n = evbuffer_get_length(wire);
    if (n <= HTTPD_COALESCE_MAX)
        evbuffer_pullup(wire, -1);
}

void httpd_req_free(struct httpd_req *q)
{
    arena_free(&q->arena);
    buf_free(&q->reply);
    free(q);
}

/* Loop thread: sends q's reply, or drops it when nobody is there any more. */
static void finish(struct httpd_req *q)
{
    struct httpd *h = q->h;
    struct conn *c = q->conn;
    LIST_REMOVE(q, all);
    h->held -= q->body_held;
    httpd_party_answered(q);
    struct evbuffer *in = evhttp_request_get_input_buffer(q->ev);
    evbuffer_drain(in, evbuffer_get_length(in));
    if (c) {
        c->req = NULL;
        c->began_ms = httpd_now_ms(); /* of what has come behind it */
        if (q->proven)
            httpd_stranger_known(c, c->vouched, true);
        if (q->who)
            httpd_party_set(c, q->who);
        if (httpd_party_sated(c, q->reply.n)) {
            h->greedy++;
            q->status = ERR_UNAVAILABLE;
            buf_free(&q->reply);
            httpd_error_body(ERR_UNAVAILABLE, HTTPD_GREEDY, &q->reply);
        }
    }
    send_answer(h, c, q->ev, q->status, &q->reply);
    httpd_req_free(q);
}

void httpd_wake_locked(struct httpd *h)
{
    if (h->woken)
        return;
    h->woken = true;
    uint64_t one = 1;
    if (write(h->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        abort();
}

void httpd_reply(struct httpd_req *q, unsigned status, struct buf *body)
{
    struct httpd *h = q->h;
    q->status = status;
    q->reply = *body;
    *body = (struct buf){0};
    if (atomic_load(&h->running) && pthread_equal(pthread_self(), h->loop)) {
        finish(q);
        return;
    }
    pthread_mutex_lock(&h->lock);
    STAILQ_INSERT_TAIL(&h->replies, q, queued);
    h->queued += q->reply.n;
    httpd_wake_locked(h);
    pthread_mutex_unlock(&h->lock);
}

void httpd_reply_msg(struct httpd_req *q, const struct msg_desc *d, const void *msg)
{
    struct buf b = {0};
    if (!msg_within(d, msg)) {
        log_printf(q->h->o.log, LOG_L_ERROR, "%s: the answer is over a limit of %s",
                   q->route->method, d->name);
        httpd_reply_error(q, ERR_INTERNAL, "the answer is over a limit of the protocol");
        return;
    }
    msg_encode(d, msg, &b);
    httpd_reply(q, 200, &b);
}

void httpd_error_body(enum error_code code, const char *text, struct buf *out)
{
    struct m_error e = {.code = code, .message = bytes_str(text)};
    msg_encode(&m_error_desc, &e, out);
}

void httpd_reply_error(struct httpd_req *q, enum error_code code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct buf b = {0};
    httpd_error_body(code, text, &b);
    httpd_reply(q, code, &b);
}

/* ---- requests ------------------------------------------------------------------------------ */

struct bytes httpd_body(const struct httpd_req *q)
{
    return q->body;
}

const char *httpd_bearer(const struct httpd_req *q)
{
    const char *v = evhttp_find_header(evhttp_request_get_input_headers(q->ev), "Authorization");
    return v && !strncasecmp(v, "Bearer ", 7) ? v + 7 : "";
}

const char *httpd_peer(const struct httpd_req *q)
{
    return q->peer;
}

const char *httpd_op(const struct httpd_req *q)
{
    return q->op;
}

void httpd_prove(struct httpd_req *q, uint64_t who)
{
    q->proven = true;
    q->who = who;
}

bool httpd_peer_local(const struct httpd_req *q)
{
    return q->local;
}

struct arena *httpd_arena(struct httpd_req *q)
{
    return &q->arena;
}

bool httpd_decode(struct httpd_req *q, const struct msg_desc *d, void *msg)
{
    const char *why = NULL;
    int r = msg_decode(d, msg, q->body.p, q->body.n, MSG_STRICT, &q->arena, &why);
    if (!r)
        return true;
    if (r == -EPROTO)
        httpd_reply_error(q, ERR_BAD_MESSAGE,
                          "this server is older than the program that asks it (%s): upgrade the "
                          "metadata server first, then the block servers, then the mounts",
                          why ? why : d->name);
    else
        httpd_reply_error(q, r == -EMSGSIZE ? ERR_TOO_LARGE : ERR_BAD_MESSAGE, "%s: %s",
                          r == -EMSGSIZE ? "message over a limit" : "malformed message",
                          why ? why : d->name);
    return false;
}

/* The body in one piece; bodies arrive in many. Runs where the handler runs. */
static void run_handler(struct httpd_req *q)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(q->ev);
    q->body = (struct bytes){evbuffer_pullup(in, -1), evbuffer_get_length(in)};
    q->fn(q->h->o.ctx, q);
}

/* [lock] */
static bool too_much_unsent(const struct httpd *h)
{
    return h->queued + h->unsent_seen > h->o.memory_max;
}

/* [lock, given up meanwhile] */
static void vouch_one(struct httpd *h)
{
    struct vouching *v = STAILQ_FIRST(&h->to_vouch);
    STAILQ_REMOVE_HEAD(&h->to_vouch, link);
    h->to_vouch_n--;
    pthread_mutex_unlock(&h->lock);
    struct httpd_early e = {.method = v->route->method, .bearer = v->bearer};
    v->code = h->o.vouch(h->o.ctx, &e, &v->who, v->why);
    pthread_mutex_lock(&h->lock);
    STAILQ_INSERT_TAIL(&h->vouched, v, link);
    httpd_wake_locked(h);
}

void *httpd_worker_main(void *arg)
{
    struct httpd *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (!h->quit && STAILQ_EMPTY(&h->to_vouch) &&
               (STAILQ_EMPTY(&h->work) || h->crowded || too_much_unsent(h)))
            pthread_cond_wait(&h->work_there, &h->lock);
        if (h->quit)
            break; /* what is still queued was given up when the loop stopped */
        if (!STAILQ_EMPTY(&h->to_vouch)) {
            vouch_one(h);
            continue;
        }
        struct httpd_req *q = STAILQ_FIRST(&h->work);
        STAILQ_REMOVE_HEAD(&h->work, queued);
        httpd_party_dequeue(q);
        pthread_mutex_unlock(&h->lock);
        run_handler(q);
        pthread_mutex_lock(&h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

void httpd_to_worker(struct httpd_req *q, httpd_handler fn)
{
    struct httpd *h = q->h;
    q->fn = fn;
    pthread_mutex_lock(&h->lock);
    bool full = h->work_n >= HTTPD_QUEUE_MAX, taken = !full && httpd_party_queue(q);
    if (taken) {
        STAILQ_INSERT_TAIL(&h->work, q, queued);
        pthread_cond_signal(&h->work_there);
    }
    pthread_mutex_unlock(&h->lock);
    if (!full && !taken) {
        h->greedy++;
        httpd_reply_error(q, ERR_UNAVAILABLE, HTTPD_GREEDY);
    }
    if (full) {
        h->refused_full++;
        httpd_reply_error(q, ERR_UNAVAILABLE, "the server is overloaded; try again");
    }
}

static void start_handler(struct httpd_req *q)
{
    /* first: the handler may answer, which puts evhttp's callbacks back and ends q */
    httpd_watch_peer(q->conn);
    if (q->route->where == HTTPD_ON_LOOP)
        run_handler(q);
    else
        httpd_to_worker(q, q->fn);
}

static void metrics_text(struct httpd *h, struct buf *b)
{
    const char *n = h->name;
    buf_printf(b, "# TYPE %s_requests_total counter\n", n);
    for (size_t i = 0; i < h->routes_n; i++)
        buf_printf(b, "%s_requests_total{method=\"%s\"} %llu\n", n, h->routes[i].method,
                   (unsigned long long)h->routes[i].requests);
    buf_printf(b, "%s_requests_total{method=\"other\"} %llu\n", n,
               (unsigned long long)h->other_requests);
    buf_printf(b, "# TYPE %s_bytes_in_total counter\n%s_bytes_in_total %llu\n", n, n,
               (unsigned long long)h->bytes_in);
    buf_printf(b, "# TYPE %s_bytes_out_total counter\n%s_bytes_out_total %llu\n", n, n,
               (unsigned long long)h->bytes_out);
    buf_printf(b, "# TYPE %s_overloaded_total counter\n%s_overloaded_total %llu\n", n, n,
               (unsigned long long)h->refused_full);
    const struct {
        const char *name, *type;
        uint64_t value;
    } lines[] = {
        {"connections", "gauge", h->conns_n},
        {"connections_most", "gauge", h->conns_most},
        {"connections_max", "gauge", h->o.max_connections},
        {"connections_dropped_total", "counter", h->dropped},
        {"strangers", "gauge", h->unproven_n},
        {"strangers_dropped_total", "counter", h->strangers_dropped},
        {"strangers_turned_away_total", "counter", h->turned_away},
        {"strangers_memory_bytes", "gauge", h->held_strange},
        {"greedy_total", "counter", h->greedy},
        {"requests_memory_bytes", "gauge", h->held},
        {"answers_memory_bytes", "gauge", h->unsent},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        buf_printf(b, "# TYPE %s_%s %s\n%s_%s %llu\n", n, lines[i].name, lines[i].type, n,
                   lines[i].name, (unsigned long long)lines[i].value);
    if (h->o.metrics)
        h->o.metrics(h->o.ctx, b);
}

/* /healthz and /metrics: answered here and left out of the byte counts, which the reader of these
 * pages would otherwise change by reading. True when path is one of them. */
static bool serve_page(struct httpd *h, struct conn *c, struct evhttp_request *ev, const char *path,
                       uint64_t request_bytes)
{
    bool health = !strcmp(path, "/healthz");
    if (!health && strcmp(path, "/metrics") != 0)
        return false;
    h->bytes_in -= request_bytes;
    struct buf b = {0};
    unsigned status = 200;
    if (evhttp_request_get_command(ev) != EVHTTP_REQ_GET) {
        status = 405;
        buf_printf(&b, "GET only\n");
    } else if (health) {
        status = atomic_load(&h->draining) ? 503 : 200;
        buf_printf(&b, status == 200 ? "ok\n" : "draining\n");
    } else if (!c->local) {
        status = ERR_FORBIDDEN;
        buf_printf(&b, "only for clients on the server's own machine\n");
    } else {
        metrics_text(h, &b);
    }
    evhttp_add_header(evhttp_request_get_output_headers(ev), "Content-Type",
                      "text/plain; version=0.0.4");
    uint64_t before = h->bytes_out;
    send_answer(h, c, ev, status, &b);
    h->bytes_out = before;
    return true;
}

struct route *httpd_route_of(struct httpd *h, const char *path, size_t n)
{
    if (n < 4 || strncmp(path, "/v1/", 4) != 0)
        return NULL;
    for (size_t i = 0; i < h->routes_n; i++)
        if (strlen(h->routes[i].method) == n - 4 && !memcmp(h->routes[i].method, path + 4, n - 4))
            return &h->routes[i];
    return NULL;
}

/* Why the request is not handled; 0: it is. Text for people in why. */
static unsigned refusal(struct httpd *h, const struct conn *c, struct evhttp_request *ev,
                        const struct route *r, char why[256])
{
    enum evhttp_cmd_type command = evhttp_request_get_command(ev);
    bool plain_get = r && r->body_max == 0 && command == EVHTTP_REQ_GET;
    size_t n = evbuffer_get_length(evhttp_request_get_input_buffer(ev));
    const char *version =
        evhttp_find_header(evhttp_request_get_input_headers(ev), "Steadfs-Version");
    if (atomic_load(&h->draining) && !c->in_time) {
        snprintf(why, 256, "the server is shutting down; try again");
        return ERR_UNAVAILABLE;
    }
    if (!r) {
        snprintf(why, 256, "no such method here; is this the right server?");
        return ERR_NOT_FOUND;
    }
    if (command != EVHTTP_REQ_POST && !plain_get) {
        snprintf(why, 256, "use POST");
        return 405;
    }
    if (!plain_get && (!version || strcmp(version, "1") != 0)) {
        _Static_assert(STEADFS_WIRE_VERSION == 1, "compared as text here");
        snprintf(why, 256,
                 "protocol version mismatch: this server speaks version %d, the client %s%.32s; "
                 "update the older one",
                 STEADFS_WIRE_VERSION, version ? "version " : "names none", version ? version : "");
        return ERR_VERSION;
    }
    if (evhttp_find_header(evhttp_request_get_input_headers(ev), "Transfer-Encoding")) {
        snprintf(why, 256, "no Transfer-Encoding is taken; send Content-Length");
        return ERR_BAD_MESSAGE;
    }
    if (n > r->body_max) {
        snprintf(why, 256, "message of %zu bytes; %s takes at most %zu", n, r->method, r->body_max);
        return ERR_TOO_LARGE;
    }
    if (httpd_party_greedy(c, n)) {
        h->greedy++;
        snprintf(why, 256, HTTPD_GREEDY);
        return ERR_UNAVAILABLE;
    }
    return 0;
}

/* Digits of numbers, with what separates them: nothing that could be taken for another key. */
static void take_op(struct httpd_req *q)
{
    const char *v = evhttp_find_header(evhttp_request_get_input_headers(q->ev), "Steadfs-Op");
    size_t n = v ? strspn(v, "0123456789abcdef-,") : 0;
    if (n && !v[n] && n < sizeof q->op)
        memcpy(q->op, v, n + 1);
}

void httpd_on_request(struct evhttp_request *ev, void *arg)
{
    struct httpd *h = arg;
    struct evhttp_connection *evcon = evhttp_request_get_connection(ev);
    struct conn *c = httpd_conn_of(h, evcon);
    size_t ahead = evbuffer_get_length(bufferevent_get_input(c->bev));
    uint64_t request_bytes = c->in_since - ahead;
    httpd_conn_received(c, ahead);

    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(ev));
    if (!path)
        path = "";
    if (serve_page(h, c, ev, path, request_bytes))
        return;
    struct route *r = httpd_route_of(h, path, strlen(path));
    *(r ? &r->requests : &h->other_requests) += 1;
    char why[256];
    unsigned refused = refusal(h, c, ev, r, why);
    if (refused) {
        struct buf b = {0};
        httpd_error_body(refused, why, &b);
        send_answer(h, c, ev, refused, &b);
        return;
    }
    struct httpd_req *q = calloc(1, sizeof *q);
    if (!q)
        abort();
    char *host = NULL;
    ev_uint16_t port = 0;
    evhttp_connection_get_peer(evcon, &host, &port);
    *q =
        (struct httpd_req){.h = h, .conn = c, .ev = ev, .route = r, .fn = r->fn, .local = c->local};
    snprintf(q->peer, sizeof q->peer, "%.60s:%u", host ? host : "?", port);
    take_op(q);
    q->body_held = evbuffer_get_length(evhttp_request_get_input_buffer(ev));
    h->held += q->body_held;
    httpd_party_request(q);
    c->req = q;
    LIST_INSERT_HEAD(&h->reqs, q, all);
    start_handler(q);
}

/* ---- the loop ------------------------------------------------------------------------------ */

#define DRAIN_NEW_MS 2000

/* While draining: closes what has become idle; ends the loop once nothing is left to be answered. A
 * new connection, whose request is on its way, is told that the server ends: it is closed without a
 * word only with the last of the others, or when nothing comes. */
void httpd_drain_tick_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c, *next;
    int64_t now = httpd_now_ms();
    bool busy = !LIST_EMPTY(&h->reqs);
    for (c = LIST_FIRST(&h->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        if (!httpd_conn_idle(c))
            busy = true;
        else if (c->finished || now - c->began_ms >= DRAIN_NEW_MS)
            evhttp_connection_free(c->evcon);
    }
    if (!busy)
        event_base_loopbreak(h->base);
}

void httpd_drain_end_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    log_printf(h->o.log, LOG_L_WARN, "stopping with requests still under way: the time is up");
    event_base_loopbreak(h->base);
}

static struct timeval millis(unsigned ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

static void begin_drain(struct httpd *h)
{
    struct conn *c;
    LIST_FOREACH(c, &h->conns, link)
    c->in_time = !httpd_conn_idle(c);
    if (h->o.drain)
        h->o.drain(h->o.ctx);
    struct timeval end = millis(atomic_load(&h->drain_ms)), tick = millis(HTTPD_DRAIN_TICK_MS);
    event_add(h->drain_end, &end);
    event_add(h->drain_tick, &tick);
}

void httpd_wake_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct httpd *h = arg;
    uint64_t n;
    if (read(fd, &n, sizeof n) < 0 && errno != EAGAIN)
        abort();
    if (atomic_load(&h->draining) && !event_pending(h->drain_tick, EV_TIMEOUT, NULL))
        begin_drain(h);
    STAILQ_HEAD(, httpd_req) replies = STAILQ_HEAD_INITIALIZER(replies);
    STAILQ_HEAD(, post) posts = STAILQ_HEAD_INITIALIZER(posts);
    struct vouchings vouched = STAILQ_HEAD_INITIALIZER(vouched);
    pthread_mutex_lock(&h->lock);
    h->woken = false;
    STAILQ_CONCAT(&replies, &h->replies);
    STAILQ_CONCAT(&posts, &h->posts);
    STAILQ_CONCAT(&vouched, &h->vouched);
    pthread_mutex_unlock(&h->lock);
    struct httpd_req *q;
    uint64_t looked_at = 0;
    while ((q = STAILQ_FIRST(&replies))) {
        STAILQ_REMOVE_HEAD(&replies, queued);
        looked_at += q->reply.n;
        finish(q);
    }
    if (looked_at) {
        pthread_mutex_lock(&h->lock);
        bool held_back = too_much_unsent(h);
        h->queued -= looked_at;
        h->unsent_seen = h->unsent;
        if (held_back) /* otherwise the workers wait for nothing but work */
            pthread_cond_broadcast(&h->work_there);
        pthread_mutex_unlock(&h->lock);
    }
    struct vouching *v;
    while ((v = STAILQ_FIRST(&vouched))) {
        STAILQ_REMOVE_HEAD(&vouched, link);
        httpd_stranger_vouched(h, v);
    }
    struct post *p;
    while ((p = STAILQ_FIRST(&posts))) {
        STAILQ_REMOVE_HEAD(&posts, link);
        p->fn(p->arg);
        free(p);
    }
}

void httpd_post(struct httpd *h, void (*fn)(void *arg), void *arg)
{
    struct post *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    p->fn = fn;
    p->arg = arg;
    pthread_mutex_lock(&h->lock);
    STAILQ_INSERT_TAIL(&h->posts, p, link);
    httpd_wake_locked(h);
    pthread_mutex_unlock(&h->lock);
}

void httpd_stop(struct httpd *h, unsigned drain_ms)
{
    if (atomic_exchange(&h->draining, true))
        return;
    atomic_store(&h->drain_ms, drain_ms);
    uint64_t one = 1;
    ssize_t r = write(h->wake_fd, &one, sizeof one);
    (void)r; /* a counter that is full wakes the loop just as well */
}

bool httpd_draining(const struct httpd *h)
{
    return atomic_load(&h->draining);
}

static void timer_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd_timer *t = arg;
    void (*fn)(void *) = t->fn;
    void *fn_arg = t->arg;
    LIST_REMOVE(t, link);
    free(t);
    fn(fn_arg);
}

struct httpd_timer *httpd_timer(struct httpd *h, unsigned ms, void (*fn)(void *arg), void *arg)
{
    struct httpd_timer *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->fn = fn;
    t->arg = arg;
    struct timeval tv = millis(ms);
    evtimer_assign(&t->ev, h->base, timer_cb, t);
    evtimer_add(&t->ev, &tv);
    LIST_INSERT_HEAD(&h->timers, t, link);
    return t;
}

void httpd_timer_cancel(struct httpd_timer *t)
{
    evtimer_del(&t->ev);
    LIST_REMOVE(t, link);
    free(t);
}

void httpd_run(struct httpd *h)
{
    /* OpenSSL writes with write(2): a vanished client would raise SIGPIPE in this thread */
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
    h->loop = pthread_self();
    atomic_store(&h->running, true);
    event_base_loop(h->base, EVLOOP_NO_EXIT_ON_EMPTY);
    atomic_store(&h->running, false);
}
