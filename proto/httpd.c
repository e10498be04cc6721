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
 * evhttp 2.1 has no hook between "accepted" and "whole request read". A connection's bufferevent is
 * made by on_accept, before evhttp's own connection object exists; adopt() finds that object behind
 * the bufferevent's callback argument before the loop looks at sockets again. Connections are found
 * again by their descriptor.
 *
 * Bytes are counted where they pass: evbuffer callbacks on the plaintext side of each connection.
 * Those of /healthz and /metrics are taken back out once the request is known.
 *
 * Memory. A body over the largest route limit is read and thrown away by evhttp, which answers 413;
 * its sum over all connections is bounded by HTTPD_MEMORY_MAX: who brings it above loses the
 * connection.
 */
#include "httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTPD_HEAD_MAX 8192              /* request line and headers, bytes */
#define HTTPD_QUEUE_MAX 1024             /* requests waiting for a worker; above: 503 */
#define HTTPD_MEMORY_MAX (1024ull << 20) /* bytes of request bodies held at once */
#define HTTPD_PIPELINE_MAX 65536 /* bytes sent by a client that still waits for its answer */
#define HTTPD_IDLE_SECONDS 120   /* of silence, while idle or within a request */
#define HTTPD_ROUTES_MAX 32
#define HTTPD_CHUNK (256 << 10)  /* bytes moved per socket and turn of the loop */
#define HTTPD_COALESCE_MAX 16384 /* head and body up to this go out as one TLS record */
#define HTTPD_DRAIN_TICK_MS 10
#define WORKERS_DEFAULT 4
#define CONNECTIONS_DEFAULT 20000
#define SPARE_FDS 256 /* descriptors left for everything but connections */

struct route {
    char method[32];
    enum httpd_where where;
    size_t body_max;
    httpd_handler fn;
    uint64_t requests;
};

/* One accepted connection; loop thread only. */
struct conn {
    struct httpd *h;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL until adopted */
    struct httpd_req *req;           /* being handled, not yet answered */
    int fd;
    uint64_t in_since; /* bytes received since the last complete request */
    bool in_time;      /* a request was under way when draining began: it may end */
    bool shed;         /* over a memory bound: see shed_cb */
    LIST_ENTRY(conn) link;
};

struct httpd_req {
    struct httpd *h;
    struct conn *conn; /* NULL once the client has vanished; loop thread only */
    struct evhttp_request *ev;
    const struct route *route;
    struct bytes body;
    size_t body_held; /* its share of httpd.held */
    struct arena arena;
    char peer[80];
    unsigned status; /* the reply, from here on */
    struct buf reply;
    STAILQ_ENTRY(httpd_req) queued; /* work, then replies */
    LIST_ENTRY(httpd_req) all;
};

struct post {
    void (*fn)(void *arg);
    void *arg;
    STAILQ_ENTRY(post) link;
};

struct httpd_timer {
    struct event ev;
    void (*fn)(void *arg);
    void *arg;
    LIST_ENTRY(httpd_timer) link;
};
LIST_HEAD(timer_list, httpd_timer);

struct httpd {
    struct httpd_options o;
    char name[64];
    uint16_t port;
    struct event_base *base;
    struct evhttp *evhttp;
    SSL_CTX *ssl;
    pthread_t loop; /* valid while running */
    atomic_bool running, draining;
    atomic_uint drain_ms;
    int wake_fd;
    struct event *wake, *shed, *adopt, *drain_tick, *drain_end;

    /* loop thread */
    struct route routes[HTTPD_ROUTES_MAX];
    size_t routes_n;
    size_t body_max;
    LIST_HEAD(, conn) conns, fresh;
    LIST_HEAD(, httpd_req) reqs;
    struct timer_list timers;
    struct conn **by_fd;
    size_t by_fd_n;
    size_t conns_n;
    uint64_t held, bytes_in, bytes_out, other_requests, refused_full;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work_there;
    STAILQ_HEAD(, httpd_req) work, replies;
    STAILQ_HEAD(, post) posts;
    size_t work_n;
    bool woken, quit;
    pthread_t *workers;
    unsigned workers_n;
};

/* ---- connections ------------------------------------------------------------------------------
 */

static void set_loop_flag(struct conn *c)
{
    c->shed = true;
    event_active(c->h->shed, EV_TIMEOUT, 0);
}

static void count_in(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    struct conn *c = arg;
    struct httpd *h = c->h;
    h->bytes_in += info->n_added;
    c->in_since += info->n_added;
    h->held += info->n_added;
    h->held -= info->n_deleted;
    if (info->n_added &&
        (h->held > HTTPD_MEMORY_MAX || (c->req && evbuffer_get_length(b) > HTTPD_PIPELINE_MAX)))
        set_loop_flag(c);
}

static void count_out(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    (void)b;
    struct conn *c = arg;
    c->h->bytes_out += info->n_added;
}

static void conn_forget(struct conn *c)
{
    struct httpd *h = c->h;
    struct evbuffer *in = bufferevent_get_input(c->bev);
    h->held -= evbuffer_get_length(in);
    evbuffer_remove_cb(in, count_in, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), count_out, c);
    if (c->fd >= 0 && (size_t)c->fd < h->by_fd_n && h->by_fd[c->fd] == c)
        h->by_fd[c->fd] = NULL;
    if (c->req)
        c->req->conn = NULL;
    LIST_REMOVE(c, link);
    h->conns_n--;
    free(c);
}

static void on_close(struct evhttp_connection *evcon, void *arg)
{
    (void)evcon;
    conn_forget(arg);
}

/* evhttp asks for the bufferevent of a connection that it has just accepted. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
    struct httpd *h = arg;
    struct bufferevent *bev;
    if (h->ssl) {
        SSL *ssl = SSL_new(h->ssl);
        if (!ssl)
            return NULL;
        bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                             BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
        if (!bev) {
            SSL_free(ssl);
            return NULL;
        }
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    } else {
        bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
        if (!bev)
            return NULL;
    }
    bufferevent_set_max_single_read(bev, HTTPD_CHUNK);
    bufferevent_set_max_single_write(bev, HTTPD_CHUNK);
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    *c = (struct conn){.h = h, .bev = bev, .fd = -1};
    bufferevent_incref(bev); /* until adopted: evhttp may fail to set it up and free it */
    evbuffer_add_cb(bufferevent_get_input(bev), count_in, c);
    evbuffer_add_cb(bufferevent_get_output(bev), count_out, c);
    LIST_INSERT_HEAD(&h->fresh, c, link);
    h->conns_n++;
    event_active(h->adopt, EV_TIMEOUT, 0);
    return bev;
}

static void index_fd(struct httpd *h, struct conn *c)
{
    size_t need = (size_t)c->fd + 1;
    if (need > h->by_fd_n) {
        size_t n = need * 2;
        struct conn **v = realloc(h->by_fd, n * sizeof(struct conn *));
        if (!v)
            abort();
        memset(v + h->by_fd_n, 0, (n - h->by_fd_n) * sizeof(struct conn *));
        h->by_fd = v;
        h->by_fd_n = n;
    }
    h->by_fd[c->fd] = c;
}

/* Runs after the accepts of this turn of the loop and before any of their sockets is looked at. */
static void adopt_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c;
    while ((c = LIST_FIRST(&h->fresh))) {
        struct bufferevent *bev = c->bev;
        void *evcon = NULL;
        bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
        c->fd = bufferevent_getfd(bev);
        if (!evcon || c->fd < 0) {
            conn_forget(c);
            bufferevent_decref(bev);
            continue;
        }
        LIST_REMOVE(c, link);
        LIST_INSERT_HEAD(&h->conns, c, link);
        c->evcon = evcon;
        index_fd(h, c);
        evhttp_connection_set_closecb(c->evcon, on_close, c);
        int on = 1;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        bufferevent_decref(bev);
        if (h->conns_n > h->o.max_connections)
            evhttp_connection_free(c->evcon);
    }
}

/* Connections that brought the process over a bound: dropped, or no longer read while a handler
 * holds their request (evhttp would free it under the handler's hands). */
static void shed_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c, *next;
    for (c = LIST_FIRST(&h->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        if (!c->shed)
            continue;
        c->shed = false;
        if (c->req) {
            bufferevent_disable(c->bev, EV_READ);
            continue;
        }
        log_printf(h->o.log, LOG_L_WARN, "connection dropped: %llu bytes of requests in memory",
                   (unsigned long long)h->held);
        evhttp_connection_free(c->evcon);
    }
}

/* ---- replies ----------------------------------------------------------------------------------
 */

static const char *reason_of(unsigned status)
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
    case ERR_UNAVAILABLE:
        return "Service Unavailable";
    case ERR_FULL:
        return "Insufficient Storage";
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
    evhttp_send_reply(ev, (int)status, reason_of(status), NULL);
    if (!c || !h->ssl)
        return;
    /* each piece of the output would be a TLS record and a system call of its own */
    struct evbuffer *wire = bufferevent_get_output(c->bev);
    size_t n = evbuffer_get_length(wire);
    if (n <= HTTPD_COALESCE_MAX)
        evbuffer_pullup(wire, -1);
}

static void req_free(struct httpd_req *q)
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
    struct evbuffer *in = evhttp_request_get_input_buffer(q->ev);
    evbuffer_drain(in, evbuffer_get_length(in));
    if (c)
        c->req = NULL;
    send_answer(h, c, q->ev, q->status, &q->reply);
    req_free(q);
}

static void wake_locked(struct httpd *h)
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
    wake_locked(h);
    pthread_mutex_unlock(&h->lock);
}

void httpd_reply_msg(struct httpd_req *q, const struct msg_desc *d, const void *msg)
{
    struct buf b = {0};
    msg_encode(d, msg, &b);
    httpd_reply(q, 200, &b);
}

static void error_body(enum error_code code, const char *text, struct buf *out)
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
    error_body(code, text, &b);
    httpd_reply(q, code, &b);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

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
    q->route->fn(q->h->o.ctx, q);
}

static void *worker_main(void *arg)
{
    struct httpd *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (!h->quit && STAILQ_EMPTY(&h->work))
            pthread_cond_wait(&h->work_there, &h->lock);
        if (h->quit)
            break; /* what is still queued was given up when the loop stopped */
        struct httpd_req *q = STAILQ_FIRST(&h->work);
        STAILQ_REMOVE_HEAD(&h->work, queued);
        h->work_n--;
        pthread_mutex_unlock(&h->lock);
        run_handler(q);
        pthread_mutex_lock(&h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* Keeps noticing the client's end while a handler has the request. */
static void watch_peer(struct conn *c)
{
    bufferevent_data_cb write_cb = NULL;
    bufferevent_event_cb event_cb = NULL;
    void *arg = NULL;
    bufferevent_getcb(c->bev, NULL, &write_cb, &event_cb, &arg);
    bufferevent_setcb(c->bev, NULL, write_cb, event_cb, arg);
    bufferevent_enable(c->bev, EV_READ);
}

static void start_handler(struct httpd *h, struct httpd_req *q)
{
    if (q->route->where == HTTPD_ON_LOOP) {
        /* the handler may answer, which puts evhttp's callbacks back and ends q */
        watch_peer(q->conn);
        run_handler(q);
        return;
    }
    pthread_mutex_lock(&h->lock);
    bool full = h->work_n >= HTTPD_QUEUE_MAX;
    if (!full) {
        STAILQ_INSERT_TAIL(&h->work, q, queued);
        h->work_n++;
        pthread_cond_signal(&h->work_there);
    }
    pthread_mutex_unlock(&h->lock);
    if (full) {
        h->refused_full++;
        httpd_reply_error(q, ERR_UNAVAILABLE, "the server is overloaded; try again");
        return;
    }
    watch_peer(q->conn);
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
    buf_printf(b, "# TYPE %s_connections gauge\n%s_connections %zu\n", n, n, h->conns_n);
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

static struct route *find_route(struct httpd *h, const char *path)
{
    if (strncmp(path, "/v1/", 4) != 0)
        return NULL;
    for (size_t i = 0; i < h->routes_n; i++)
        if (!strcmp(h->routes[i].method, path + 4))
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
    if (n > r->body_max) {
        snprintf(why, 256, "message of %zu bytes; %s takes at most %zu", n, r->method, r->body_max);
        return ERR_TOO_LARGE;
    }
    return 0;
}

static void on_request(struct evhttp_request *ev, void *arg)
{
    struct httpd *h = arg;
    struct evhttp_connection *evcon = evhttp_request_get_connection(ev);
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(evcon));
    struct conn *c = fd >= 0 && (size_t)fd < h->by_fd_n ? h->by_fd[fd] : NULL;
    if (!c)
        abort(); /* adopted before its first byte was read */
    size_t ahead = evbuffer_get_length(bufferevent_get_input(c->bev));
    uint64_t request_bytes = c->in_since - ahead;
    c->in_since = ahead;

    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(ev));
    if (!path)
        path = "";
    if (serve_page(h, c, ev, path, request_bytes))
        return;
    struct route *r = find_route(h, path);
    *(r ? &r->requests : &h->other_requests) += 1;
    char why[256];
    unsigned refused = refusal(h, c, ev, r, why);
    if (refused) {
        struct buf b = {0};
        error_body(refused, why, &b);
        send_answer(h, c, ev, refused, &b);
        return;
    }
    struct httpd_req *q = calloc(1, sizeof *q);
    if (!q)
        abort();
    char *host = NULL;
    ev_uint16_t port = 0;
    evhttp_connection_get_peer(evcon, &host, &port);
    *q = (struct httpd_req){.h = h, .conn = c, .ev = ev, .route = r};
    snprintf(q->peer, sizeof q->peer, "%.60s:%u", host ? host : "?", port);
    q->body_held = evbuffer_get_length(evhttp_request_get_input_buffer(ev));
    h->held += q->body_held;
    c->req = q;
    LIST_INSERT_HEAD(&h->reqs, q, all);
    start_handler(h, q);
}

/* ---- the loop ---------------------------------------------------------------------------------
 */

static bool idle(const struct conn *c)
{
    return !c->req && !c->in_since && !evbuffer_get_length(bufferevent_get_output(c->bev));
}

/* While draining: closes what has become idle; ends the loop once nothing is left to be answered.
 */
static void drain_tick_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c, *next;
    bool busy = !LIST_EMPTY(&h->reqs);
    for (c = LIST_FIRST(&h->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        if (idle(c))
            evhttp_connection_free(c->evcon);
        else
            busy = true;
    }
    if (!busy)
        event_base_loopbreak(h->base);
}

static void drain_end_cb(evutil_socket_t fd, short what, void *arg)
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
    c->in_time = !idle(c);
    if (h->o.drain)
        h->o.drain(h->o.ctx);
    struct timeval end = millis(atomic_load(&h->drain_ms)), tick = millis(HTTPD_DRAIN_TICK_MS);
    event_add(h->drain_end, &end);
    event_add(h->drain_tick, &tick);
}

static void wake_cb(evutil_socket_t fd, short what, void *arg)
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
    pthread_mutex_lock(&h->lock);
    h->woken = false;
    STAILQ_CONCAT(&replies, &h->replies);
    STAILQ_CONCAT(&posts, &h->posts);
    pthread_mutex_unlock(&h->lock);
    struct httpd_req *q;
    while ((q = STAILQ_FIRST(&replies))) {
        STAILQ_REMOVE_HEAD(&replies, queued);
        finish(q);
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
    wake_locked(h);
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

/* ---- setting up -------------------------------------------------------------------------------
 */

static SSL_CTX *make_ssl(const char *cert_pem, const char *key_pem)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    BIO *certs = BIO_new_mem_buf(cert_pem, -1);
    BIO *keys = BIO_new_mem_buf(key_pem, -1);
    X509 *cert = certs ? PEM_read_bio_X509(certs, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = keys ? PEM_read_bio_PrivateKey(keys, NULL, NULL, NULL) : NULL;
    bool ok = ctx && cert && key && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
              SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    for (X509 *more; ok && (more = PEM_read_bio_X509(certs, NULL, NULL, NULL));)
        ok = SSL_CTX_add_extra_chain_cert(ctx, more) == 1;
    ERR_clear_error();
    if (ok)
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    X509_free(cert);
    EVP_PKEY_free(key);
    BIO_free(certs);
    BIO_free(keys);
    if (!ok) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static bool loopback(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    return sa->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

/* The listening socket. -errno with a line in err. */
static int listen_on(struct httpd *h, char *err)
{
    const char *address = h->o.address;
    char port[8];
    snprintf(port, sizeof port, "%u", h->o.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai = NULL;
    int g = getaddrinfo(address, port, &hints, &ai);
    if (g) {
        snprintf(err, 512, "cannot listen on %s: %s", address, gai_strerror(g));
        return -EADDRNOTAVAIL;
    }
    int r = 0, on = 1;
    int fd = -1;
    if (!h->ssl && !loopback(ai->ai_addr)) {
        snprintf(err, 512, "refusing to serve %s without TLS: only loopback may go without",
                 address);
        r = -EPERM;
    } else if ((fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0 ||
               setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
               setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
               bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        r = -errno;
        snprintf(err, 512, "cannot listen on %s port %s: %s", address, port,
                 r == -EADDRINUSE ? "the port is in use; is it already running?" : strerror(-r));
    }
    freeaddrinfo(ai);
    struct sockaddr_storage ss;
    socklen_t n = sizeof ss;
    if (!r && getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
        r = -errno;
    if (r) {
        if (fd >= 0)
            close(fd);
        return r;
    }
    h->port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                             : ((struct sockaddr_in *)&ss)->sin_port);
    return fd;
}

/* Raises the limit of descriptors as far as it goes, and lowers max_connections to what fits. */
static void fit_descriptors(struct httpd *h)
{
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
        return;
    rlim_t want = (rlim_t)h->o.max_connections + SPARE_FDS;
    if (rl.rlim_cur < want) {
        rl.rlim_cur = rl.rlim_max == RLIM_INFINITY || rl.rlim_max > want ? want : rl.rlim_max;
        setrlimit(RLIMIT_NOFILE, &rl);
        getrlimit(RLIMIT_NOFILE, &rl);
    }
    if (rl.rlim_cur < want) {
        h->o.max_connections =
            rl.rlim_cur > 2 * SPARE_FDS ? (unsigned)(rl.rlim_cur - SPARE_FDS) : SPARE_FDS;
        log_printf(h->o.log, LOG_L_WARN, "at most %u connections: the limit of open files is %llu",
                   h->o.max_connections, (unsigned long long)rl.rlim_cur);
    }
}

static int start_workers(struct httpd *h)
{
    h->workers = calloc(h->o.workers, sizeof(pthread_t));
    if (!h->workers)
        abort();
    /* signals belong to the program's own thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int r = 0;
    while (!r && h->workers_n < h->o.workers) {
        r = pthread_create(&h->workers[h->workers_n], NULL, worker_main, h);
        if (!r)
            h->workers_n++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static int start_http(struct httpd *h, char *err)
{
    h->evhttp = evhttp_new(h->base);
    if (!h->evhttp)
        abort();
    evhttp_set_max_headers_size(h->evhttp, HTTPD_HEAD_MAX);
    evhttp_set_max_body_size(h->evhttp, 0);
    evhttp_set_timeout(h->evhttp, h->o.idle_seconds ? (int)h->o.idle_seconds : HTTPD_IDLE_SECONDS);
    evhttp_set_default_content_type(h->evhttp, "application/octet-stream");
    evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                              EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE);
    evhttp_set_flags(h->evhttp, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_bevcb(h->evhttp, on_accept, h);
    evhttp_set_gencb(h->evhttp, on_request, h);
    int fd = listen_on(h, err);
    if (fd < 0)
        return fd;
    if (evhttp_accept_socket(h->evhttp, fd) < 0) {
        close(fd);
        snprintf(err, 512, "cannot accept connections");
        return -EIO;
    }
    return 0;
}

int httpd_new(struct httpd **out, const struct httpd_options *o, char *err)
{
    *out = NULL;
    struct httpd *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->o = *o;
    snprintf(h->name, sizeof h->name, "%s", o->name ? o->name : "steadfs");
    h->o.address = o->address ? o->address : "127.0.0.1";
    h->o.workers = o->workers ? o->workers : WORKERS_DEFAULT;
    h->o.max_connections = o->max_connections ? o->max_connections : CONNECTIONS_DEFAULT;
    STAILQ_INIT(&h->work);
    STAILQ_INIT(&h->replies);
    STAILQ_INIT(&h->posts);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work_there, NULL);
    h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct event_config *ec = event_config_new();
    if (h->wake_fd < 0 || !ec)
        abort();
    event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK);
    h->base = event_base_new_with_config(ec);
    event_config_free(ec);
    h->wake = event_new(h->base, h->wake_fd, EV_READ | EV_PERSIST, wake_cb, h);
    h->adopt = event_new(h->base, -1, 0, adopt_cb, h);
    h->shed = event_new(h->base, -1, 0, shed_cb, h);
    h->drain_tick = event_new(h->base, -1, EV_PERSIST, drain_tick_cb, h);
    h->drain_end = event_new(h->base, -1, 0, drain_end_cb, h);
    if (!h->base || !h->wake || !h->adopt || !h->shed || !h->drain_tick || !h->drain_end ||
        event_add(h->wake, NULL) < 0)
        abort();
    int r = 0;
    if (o->cert_pem && !(h->ssl = make_ssl(o->cert_pem, o->key_pem ? o->key_pem : ""))) {
        snprintf(err, 512, "the server's certificate or key cannot be used");
        r = -EINVAL;
    }
    if (!r) {
        fit_descriptors(h);
        r = start_http(h, err);
    }
    if (!r && (r = start_workers(h)))
        snprintf(err, 512, "cannot start worker threads: %s", strerror(-r));
    if (r) {
        httpd_free(h);
        return r;
    }
    *out = h;
    return 0;
}

void httpd_route(struct httpd *h, const char *method, enum httpd_where where, size_t body_max,
                 httpd_handler fn)
{
    if (h->routes_n == HTTPD_ROUTES_MAX)
        abort();
    struct route *r = &h->routes[h->routes_n++];
    *r = (struct route){.where = where, .body_max = body_max, .fn = fn};
    snprintf(r->method, sizeof r->method, "%s", method);
    if (body_max > h->body_max)
        h->body_max = body_max;
    evhttp_set_max_body_size(h->evhttp, (ev_ssize_t)h->body_max);
}

uint16_t httpd_port(const struct httpd *h)
{
    return h->port;
}

void httpd_free(struct httpd *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->quit = true;
    pthread_cond_broadcast(&h->work_there);
    pthread_mutex_unlock(&h->lock);
    for (unsigned i = 0; i < h->workers_n; i++)
        pthread_join(h->workers[i], NULL);
    free(h->workers);
    struct httpd_req *q;
    while ((q = LIST_FIRST(&h->reqs))) {
        /* evhttp frees its half where the connection is still there, and else when it is answered
         */
        LIST_REMOVE(q, all);
        if (!q->conn)
            evhttp_request_free(q->ev);
        else
            q->conn->req = NULL;
        req_free(q);
    }
    struct post *p;
    while ((p = STAILQ_FIRST(&h->posts))) {
        STAILQ_REMOVE_HEAD(&h->posts, link);
        free(p);
    }
    while (!LIST_EMPTY(&h->timers))
        httpd_timer_cancel(LIST_FIRST(&h->timers));
    if (h->evhttp) {
        adopt_cb(-1, 0, h);
        evhttp_free(h->evhttp);
    }
    event_free(h->wake);
    event_free(h->adopt);
    event_free(h->shed);
    event_free(h->drain_tick);
    event_free(h->drain_end);
    event_base_free(h->base);
    SSL_CTX_free(h->ssl);
    close(h->wake_fd);
    pthread_cond_destroy(&h->work_there);
    pthread_mutex_destroy(&h->lock);
    free(h->by_fd);
    free(h);
}
