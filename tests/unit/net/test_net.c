// SPDX-License-Identifier: Apache-2.0
/* httpd and rpc against each other, over real TLS sockets on loopback.
 *
 * Each test starts a server of its own on a free port. Where a client must misbehave, it is written
 * by hand on a plain socket: the server then runs without TLS, which loopback may.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "httpd.h"
#include "httpd_private.h"
#include "rpc.h"
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ECHO_MAX (4u << 20)
#define HOLDS_MAX 512

/* ---- a server ------------------------------------------------------------------------------ */

struct server {
    struct httpd *h;
    pthread_t thread;
    char *ca, *ca_key, *cert, *key;
    char url[64];
    pthread_mutex_t lock;
    struct httpd_req *held[HOLDS_MAX]; /* by hold and wait */
    atomic_size_t held_n;
    atomic_int slow_running, slow_done;
    atomic_bool drained, go_on;
    bool stopped;
    char bearer[64], op[LOG_OP_MAX];
};

static void echo(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    pthread_mutex_lock(&s->lock);
    snprintf(s->bearer, sizeof s->bearer, "%s", httpd_bearer(q));
    snprintf(s->op, sizeof s->op, "%s", httpd_op(q));
    pthread_mutex_unlock(&s->lock);
    struct bytes in = httpd_body(q);
    struct buf b = {0};
    buf_append(&b, in.p, in.n);
    httpd_reply(q, 200, &b);
}

/* Keeps the request until release_held. */
static void hold(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    pthread_mutex_lock(&s->lock);
    s->held[s->held_n++] = q;
    pthread_mutex_unlock(&s->lock);
}

static void slow(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    atomic_fetch_add(&s->slow_running, 1);
    usleep(150 * 1000);
    struct bytes in = httpd_body(q);
    struct buf b = {0};
    buf_append(&b, in.p, in.n); /* the body must still be there when the client is not */
    atomic_fetch_add(&s->slow_done, 1);
    httpd_reply(q, 200, &b);
}

/* Occupies its worker until go_on. */
static void stall(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    while (!s->go_on)
        usleep(1000);
    echo(ctx, q);
}

static void lookup(void *ctx, struct httpd_req *q)
{
    (void)ctx;
    struct m_lookup_req m;
    if (!httpd_decode(q, &m_lookup_req_desc, &m))
        return;
    struct m_lookup_ans a = {.entry_set = true,
                             .entry = {.parent = m.parent, .name = m.name, .node = 7}};
    httpd_reply_msg(q, &m_lookup_ans_desc, &a);
}

static void refuse(void *ctx, struct httpd_req *q)
{
    (void)ctx;
    struct bytes in = httpd_body(q);
    char text[16] = "";
    memcpy(text, in.p, in.n < 15 ? in.n : 15);
    httpd_reply_error(q, (enum error_code)atoi(text), "because %s", text);
}

static void ca_page(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    struct buf b = {0};
    buf_append(&b, s->ca, strlen(s->ca));
    httpd_reply(q, 200, &b);
}

static void program_metrics(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "test_own_line 42\n");
}

static void release_held(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->held_n; i++) {
        struct buf b = {0};
        buf_append(&b, "held", 4);
        httpd_reply(s->held[i], 200, &b);
    }
    s->held_n = 0;
    pthread_mutex_unlock(&s->lock);
}

static void drain_begins(void *ctx)
{
    struct server *s = ctx;
    s->drained = true;
}

static void *run(void *arg)
{
    struct server *s = arg;
    httpd_run(s->h);
    return NULL;
}

static struct server *server_new(bool tls, const struct httpd_options *extra)
{
    struct server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    pthread_mutex_init(&s->lock, NULL);
    char *csr = NULL;
    assert_int_equal(tls_ca_new(&s->ca, &s->ca_key), 0);
    assert_int_equal(tls_csr_new("127.0.0.1", &s->key, &csr), 0);
    assert_int_equal(tls_issue(s->ca, s->ca_key, csr, "127.0.0.1", &s->cert), 0);
    free(csr);
    struct buf chain = {0};
    buf_printf(&chain, "%s%s", s->cert, s->ca);
    buf_append(&chain, "", 1);
    struct httpd_options o = extra ? *extra : (struct httpd_options){0};
    if (tls) {
        o.cert_pem = (char *)chain.p;
        o.key_pem = s->key;
    }
    o.ctx = s;
    o.name = "test";
    o.metrics = program_metrics;
    o.drain = drain_begins;
    char err[512] = "";
    int r = httpd_new(&s->h, &o, err);
    if (r)
        fail_msg("%s", err);
    buf_free(&chain);
    httpd_route(s->h, "echo", HTTPD_ON_LOOP, ECHO_MAX, echo);
    httpd_route(s->h, "work", HTTPD_ON_WORKER, 8u << 20, echo);
    httpd_route(s->h, "hold", HTTPD_ON_LOOP, 1024, hold);
    httpd_route(s->h, "wait", HTTPD_ON_LOOP, 1024, hold);
    httpd_route(s->h, "slow", HTTPD_ON_WORKER, ECHO_MAX, slow);
    httpd_route(s->h, "stall", HTTPD_ON_WORKER, 1024, stall);
    httpd_route(s->h, "lookup", HTTPD_ON_LOOP, 4096, lookup);
    httpd_route(s->h, "refuse", HTTPD_ON_LOOP, 64, refuse);
    httpd_route(s->h, "ca", HTTPD_ON_LOOP, 0, ca_page);
    snprintf(s->url, sizeof s->url, "%s://127.0.0.1:%u", tls ? "https" : "http", httpd_port(s->h));
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
    return s;
}

/* Returns once the loop has ended. */
static void server_stop(struct server *s, unsigned drain_ms)
{
    if (!s->stopped) {
        httpd_stop(s->h, drain_ms);
        pthread_join(s->thread, NULL);
    }
    s->stopped = true;
}

static void server_free(struct server *s, unsigned drain_ms)
{
    server_stop(s, drain_ms);
    httpd_free(s->h);
    free(s->ca);
    free(s->ca_key);
    free(s->cert);
    free(s->key);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- clients ------------------------------------------------------------------------------- */

static struct rpc *client_new(const char *ca, const char *pin)
{
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = ca, .pin_sha256 = pin}), 0);
    return r;
}

/* One call whose end can be awaited. */
struct answer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    struct rpc_result r; /* its body is moved here */
};

static void answer_init(struct answer *a)
{
    memset(a, 0, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->cond, NULL);
}

static void answered(void *arg, struct rpc_result *r)
{
    struct answer *a = arg;
    pthread_mutex_lock(&a->lock);
    assert_false(a->done);
    a->r = *r;
    r->body = (struct buf){0};
    a->done = true;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

static int answer_await(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return a->r.err;
}

static void answer_free(struct answer *a)
{
    buf_free(&a->r.body);
    pthread_cond_destroy(&a->cond);
    pthread_mutex_destroy(&a->lock);
}

static uint64_t begin(struct rpc *r, const char *url, const char *method, struct bytes body,
                      unsigned timeout_ms, struct answer *a)
{
    answer_init(a);
    return rpc_start(r, &(struct rpc_call){.url = url,
                                           .method = method,
                                           .body = body,
                                           .timeout_ms = timeout_ms,
                                           .done = answered,
                                           .arg = a});
}

static int call(struct rpc *r, const char *url, const char *method, struct bytes body,
                struct answer *a)
{
    begin(r, url, method, body, 0, a);
    return answer_await(a);
}

static int dial(const struct server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(httpd_port(s->h))};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    size_t n = strlen(text);
    assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), n);
}

/* Everything until the server closes. */
static size_t hear(int fd, char *out, size_t max)
{
    size_t n = 0;
    for (ssize_t got; n < max - 1 && (got = recv(fd, out + n, max - 1 - n, 0)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    return n;
}

/* The answer to a plain request, by hand. */
static size_t ask(const struct server *s, const char *request, char *out, size_t max)
{
    int fd = dial(s);
    say(fd, request);
    size_t n = hear(fd, out, max);
    close(fd);
    return n;
}

/* -1: the server did not take the connection. */
static double try_metric(const struct server *s, const char *name)
{
    char page[8192];
    if (!ask(s, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page))
        return -1;
    char key[80];
    snprintf(key, sizeof key, "\n%s ", name);
    const char *at = strstr(page, key);
    if (!at)
        fail_msg("no %s in:\n%s", name, page);
    return atof(at + strlen(key));
}

static double metric(const struct server *s, const char *name)
{
    double v = try_metric(s, name);
    assert_true(v >= 0);
    return v;
}

/* Until the value is reached; fails after 20 s. */
static void await_metric(const struct server *s, const char *name, double value)
{
    for (int i = 0; i < 2000; i++) {
        if (try_metric(s, name) == value)
            return;
        usleep(10000);
    }
    fail_msg("%s stays at %g", name, try_metric(s, name));
}

static void await_held(struct server *s, size_t n)
{
    for (int i = 0; i < 2000 && s->held_n != n; i++)
        usleep(10000);
    assert_int_equal(s->held_n, n);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_echo(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    static const size_t sizes[] = {0, 1, 15000, 61439, 61440, 61441, 1 << 20, ECHO_MAX};
    uint8_t *data = malloc(ECHO_MAX);
    for (size_t i = 0; i < ECHO_MAX; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int worker = 0; worker < 2; worker++) {
            struct answer a;
            assert_int_equal(
                call(r, s->url, worker ? "work" : "echo", bytes_of(data, sizes[i]), &a), 0);
            assert_int_equal(a.r.status, 200);
            assert_string_equal(a.r.message, "");
            assert_int_equal(a.r.body.n, sizes[i]);
            if (sizes[i])
                assert_memory_equal(a.r.body.p, data, sizes[i]);
            answer_free(&a);
        }
    }
    /* head and several pieces are sent in order, also past the size that is copied */
    struct bytes pieces[3] = {bytes_of(data, 100000), bytes_of(data, 0), bytes_of(data + 5, 7)};
    struct answer a;
    answer_init(&a);
    rpc_start(r, &(struct rpc_call){.url = s->url,
                                    .method = "echo",
                                    .head = bytes_of("head", 4),
                                    .bodies = pieces,
                                    .bodies_n = 3,
                                    .done = answered,
                                    .arg = &a});
    assert_int_equal(answer_await(&a), 0);
    assert_int_equal(a.r.body.n, 100011);
    assert_memory_equal(a.r.body.p, "head", 4);
    assert_memory_equal(a.r.body.p + 4, data, 100000);
    assert_memory_equal(a.r.body.p + 100004, data + 5, 7);
    answer_free(&a);
    free(data);
    rpc_free(r);
    server_free(s, 1000);
}

static void test_messages_and_credential(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    struct arena a = {0};
    struct m_lookup_req q = {.ns = 1, .parent = 2, .name = bytes_of("hello", 5), .at = 4};
    struct m_lookup_ans ans;
    char message[512];
    assert_int_equal(rpc_wait(r, s->url, "lookup", &m_lookup_req_desc, &q, &m_lookup_ans_desc, &ans,
                              &a, 0, message),
                     0);
    assert_true(ans.entry_set);
    assert_int_equal(ans.entry.node, 7);
    assert_true(bytes_equal(ans.entry.name, q.name));
    /* another message than the route takes */
    struct m_diff_req other = {.ns = 1};
    assert_int_equal(rpc_wait(r, s->url, "lookup", &m_diff_req_desc, &other, &m_lookup_ans_desc,
                              &ans, &a, 0, message),
                     -EBADMSG);
    assert_non_null(strstr(message, "malformed message"));
    /* an answer that is no m_lookup_ans */
    assert_int_equal(rpc_wait(r, s->url, "ca", &m_lookup_ans_desc, &(struct m_lookup_ans){0},
                              &m_lookup_ans_desc, &ans, &a, 0, message),
                     -EMSGSIZE); /* the empty map has a byte, the route takes none */
    struct answer w;
    rpc_set_credential(r, "d.1.secret");
    assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &w), 0);
    answer_free(&w);
    assert_string_equal(s->bearer, "d.1.secret");
    answer_init(&w);
    rpc_start(r, &(struct rpc_call){.url = s->url,
                                    .method = "echo",
                                    .anonymous = true,
                                    .body = bytes_of("x", 1),
                                    .done = answered,
                                    .arg = &w});
    assert_int_equal(answer_await(&w), 0);
    answer_free(&w);
    assert_string_equal(s->bearer, "");
    assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &w), 0);
    answer_free(&w);
    assert_string_equal(s->bearer, "d.1.secret");
    rpc_set_credential(r, NULL);
    assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &w), 0);
    answer_free(&w);
    assert_string_equal(s->bearer, "");
    arena_free(&a);
    rpc_free(r);
    server_free(s, 1000);
}

/* A client's name for what it does reaches the server; one that could be taken for another key of a
 * line, or is too long, does not. */
static void test_operations(void **state)
{
    (void)state;
    char longer[LOG_OP_MAX + 1];
    memset(longer, '1', LOG_OP_MAX);
    longer[LOG_OP_MAX] = 0;
    const char *const given[] = {"1-a,1-b", "1-a ns=2", longer, longer + 1, NULL}, *const want[] = {
                                                                                       "1-a,1-b",
                                                                                       "", "",
                                                                                       longer + 1,
                                                                                       ""};
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct answer w;
        answer_init(&w);
        rpc_start(r, &(struct rpc_call){.url = s->url,
                                        .method = "echo",
                                        .op = given[i],
                                        .body = bytes_of("x", 1),
                                        .done = answered,
                                        .arg = &w});
        assert_int_equal(answer_await(&w), 0);
        answer_free(&w);
        assert_string_equal(s->op, want[i]);
    }
    rpc_free(r);
    server_free(s, 1000);
}

static void test_statuses(void **state)
{
    (void)state;
    static const struct {
        const char *status;
        int err;
    } cases[] = {
        {"400", -EBADMSG},  {"401", -EACCES}, {"403", -EPERM}, {"404", -ENOENT}, {"410", -ESTALE},
        {"413", -EMSGSIZE}, {"426", -EPROTO}, {"500", -EIO},   {"503", -EAGAIN}, {"507", -ENOSPC},
    };
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer a;
        assert_int_equal(call(r, s->url, "refuse", bytes_of(cases[i].status, 3), &a), cases[i].err);
        assert_int_equal(a.r.status, atoi(cases[i].status));
        assert_non_null(strstr(a.r.message, "because "));
        assert_non_null(strstr(a.r.message, s->url));
        assert_int_equal(a.r.body.n, 0);
        answer_free(&a);
    }
    struct answer a;
    assert_int_equal(call(r, s->url, "nosuch", bytes_of("", 0), &a), -ENOENT);
    answer_free(&a);
    rpc_free(r);
    server_free(s, 1000);
}

static void test_limits(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    uint8_t *data = calloc(1, 40u << 20);
    struct answer a;
    /* over the route's limit, below the largest: our own words */
    assert_int_equal(call(r, s->url, "echo", bytes_of(data, ECHO_MAX + 1), &a), -EMSGSIZE);
    assert_non_null(strstr(a.r.message, "at most 4194304"));
    answer_free(&a);
    /* over all of them: thrown away while it is read */
    assert_int_equal(call(r, s->url, "echo", bytes_of(data, 40u << 20), &a), -EMSGSIZE);
    assert_non_null(strstr(a.r.message, "larger than it accepts"));
    answer_free(&a);
    /* the server is well afterwards */
    assert_int_equal(call(r, s->url, "echo", bytes_of("y", 1), &a), 0);
    answer_free(&a);
    /* a longer answer than the caller takes */
    answer_init(&a);
    rpc_start(r, &(struct rpc_call){.url = s->url,
                                    .method = "echo",
                                    .body = bytes_of(data, 5000),
                                    .answer_max = 4999,
                                    .done = answered,
                                    .arg = &a});
    assert_int_equal(answer_await(&a), -EMSGSIZE);
    assert_non_null(strstr(a.r.message, "4999"));
    answer_free(&a);
    free(data);
    rpc_free(r);
    server_free(s, 1000);
}

static void test_heads(void **state)
{
    (void)state;
    struct server *s = server_new(false, NULL);
    char out[8192];
    ask(s,
        "POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 2\r\nContent-Length: 1\r\nConnection: "
        "close\r\n\r\nx",
        out, sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 426", 12), 0);
    const char *body = strstr(out, "\r\n\r\n");
    assert_non_null(strstr(body, "speaks version 1"));
    assert_non_null(strstr(body, "version 2"));
    ask(s, "POST /v1/echo HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", out,
        sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 426", 12), 0);
    ask(s, "GET /v1/echo HTTP/1.1\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 405", 12), 0);
    ask(s, "GET /v1/ca HTTP/1.1\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
    assert_non_null(strstr(out, "BEGIN CERTIFICATE"));
    ask(s, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
    assert_string_equal(strstr(out, "\r\n\r\n") + 4, "ok\n");
    ask(s, "POST /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 405", 12), 0);
    ask(s, "BREW /v1/echo HTTP/1.1\r\nConnection: close\r\n\r\n", out, sizeof out);
    assert_int_not_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
    ask(s, "not http at all\r\n\r\n", out, sizeof out);
    assert_null(strstr(out, " 200 "));
    /* a head over 8 KiB */
    static char big[20000];
    int n =
        sprintf(big, "POST /v1/echo HTTP/1.1\r\nConnection: close\r\nSteadfs-Version: 1\r\nX: ");
    memset(big + n, 'a', 12000);
    strcpy(big + n + 12000, "\r\n\r\n");
    ask(s, big, out, sizeof out);
    assert_int_equal(strncmp(out, "HTTP/1.1 400", 12), 0);
    assert_true(metric(s, "test_own_line") == 42);
    server_free(s, 1000);
}

static void say_bytes(int fd, size_t n)
{
    static const char filling[65536];
    while (n) {
        ssize_t put = send(fd, filling, n < sizeof filling ? n : sizeof filling, MSG_NOSIGNAL);
        if (put < 0)
            return; /* the server has dropped us */
        n -= (size_t)put;
    }
}

/* A chunked body is not measured by its head, so none is taken: a short one is refused, a long one
 * ends the connection, however the header is cut into pieces and spelt. */
static void test_chunked_refused(void **state)
{
    (void)state;
    static const char *const heads[][3] = {
        {"POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {"POST /v1/work HTTP/1.1\nSteadfs-Version: 1\ntransfer-ENCODING: chunked\n\n"},
        {"POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nTran", "sfer-Enco",
         "ding: chunked\r\n\r\n"},
        {"POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 2\r\n\r\nokPOST "
         "/v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
    };
    struct server *s = server_new(false, NULL);
    char out[4096];
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        for (int lengthy = 0; lengthy < 2; lengthy++) {
            int fd = dial(s);
            for (size_t k = 0; k < 3 && heads[i][k]; k++) {
                say(fd, heads[i][k]);
                usleep(20000);
            }
            if (lengthy) {
                for (int k = 0; k < 64; k++) {
                    send(fd, "10000\r\n", 7, MSG_NOSIGNAL);
                    say_bytes(fd, 65536);
                    send(fd, "\r\n", 2, MSG_NOSIGNAL);
                }
            } else {
                say(fd, "2\r\nab\r\n0\r\n\r\n");
                shutdown(fd, SHUT_WR);
            }
            size_t n = hear(fd, out, sizeof out);
            const char *answer = i == 3 && n ? strstr(out, "okHTTP/1.1") : out;
            if (!lengthy && (!answer || !strstr(answer, " 400 Bad")))
                fail_msg("case %zu: %s", i, out);
            if (lengthy && answer && i != 3)
                assert_int_equal(n, 0);
            close(fd);
        }
    }
    for (int i = 0; i < 500 && metric(s, "test_connections") != 1; i++)
        usleep(10000);
    assert_true(metric(s, "test_connections") == 1);
    server_free(s, 1000);
}

/* Over the bound, the largest incomplete request goes, not whoever sends next. */
static void test_memory_bound(void **state)
{
    (void)state;
    struct server *s = server_new(false, &(struct httpd_options){.memory_max = 1u << 20});
    char out[256], head[128];
    snprintf(head, sizeof head,
             "POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 1\r\nConnection: close\r\n"
             "Content-Length: %u\r\n\r\n",
             400000u);
    int large = dial(s), small = dial(s), medium = dial(s);
    say(large, "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 4000000\r\n\r\n");
    say_bytes(large, 700000);
    say(medium, head);
    say_bytes(medium, 300000);
    usleep(200000);
    say(small, head);
    say_bytes(small, 200000);
    /* it brought the sum over the bound; the other one is gone */
    assert_int_equal(recv(large, out, sizeof out, 0) <= 0, 1);
    say_bytes(medium, 100000);
    assert_true(hear(medium, out, sizeof out) > 12);
    assert_int_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
    say_bytes(small, 200000);
    assert_true(hear(small, out, sizeof out) > 12);
    assert_int_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
    close(large);
    close(small);
    close(medium);
    server_free(s, 1000);
}

/* /metrics is for this machine; who that is. */
static void test_same_machine(void **state)
{
    (void)state;
    static const struct {
        const char *here, *there;
        bool same;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", true},
        {"0.0.0.0", "127.9.9.9", true},
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.8", false},
        {"192.0.2.7", "128.0.0.1", false},
        {"::1", "::1", true},
        {"::ffff:192.0.2.7", "::ffff:127.0.0.1", true},
        {"::ffff:192.0.2.7", "::ffff:192.0.2.7", true},
        {"::ffff:192.0.2.7", "::ffff:192.0.2.8", false},
        {"2001:db8::1", "2001:db8::1", true},
        {"2001:db8::1", "2001:db8::2", false},
        {"2001:db8::1", "192.0.2.7", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text[2] = {cases[i].here, cases[i].there};
        struct sockaddr_storage a[2] = {0};
        for (int k = 0; k < 2; k++) {
            bool six = strchr(text[k], ':');
            a[k].ss_family = six ? AF_INET6 : AF_INET;
            void *to = six ? (void *)&((struct sockaddr_in6 *)&a[k])->sin6_addr
                           : (void *)&((struct sockaddr_in *)&a[k])->sin_addr;
            assert_int_equal(inet_pton(a[k].ss_family, text[k], to), 1);
        }
        if (httpd_same_machine((struct sockaddr *)&a[0], (struct sockaddr *)&a[1]) != cases[i].same)
            fail_msg("%s to %s", text[1], text[0]);
    }
}

/* What looks like loopback and is not, and what hides the host behind a user's name. */
static void test_urls_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "http://localhost:x@192.0.2.1:1",
        "http://127.0.0.1:1@192.0.2.1",
        "http://127.0.0.1@192.0.2.1:1",
        "http://127.evil.example:1",
        "http://127.0.0.1.evil.example:1",
        "http://localhost.evil.example:1",
        "http://[::1]@192.0.2.1:1",
        "http://[::2]:1",
        "http://[::ffff:192.0.2.1]:1",
        "http://128.0.0.1:1",
        "https://user@127.0.0.1:1",
        "https://user:word@127.0.0.1:1",
        "https://127.0.0.1:1/?a=b",
        "https://127.0.0.1:1/#a",
        "ftp://127.0.0.1:1",
        "file:///etc/passwd",
        "https://",
    };
    static const char *const loopback[] = {
        "http://127.0.0.1:%u",
        "http://127.0.1:%u",
        "http://localhost:%u",
        "http://LOCALHOST:%u/",
    };
    struct server *s = server_new(false, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    struct answer a;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (call(r, refused[i], "echo", bytes_of("x", 1), &a) != -EINVAL)
            fail_msg("%s: %d %s", refused[i], a.r.err, a.r.message);
        answer_free(&a);
    }
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++) {
        char url[64];
        snprintf(url, sizeof url, loopback[i], httpd_port(s->h));
        if (call(r, url, "echo", bytes_of("x", 1), &a) != 0)
            fail_msg("%s: %d %s", url, a.r.err, a.r.message);
        answer_free(&a);
    }
    rpc_free(r);
    server_free(s, 1000);
}

/* A plain server of another kind on a port of its own. */
static void test_not_steadfs(void **state)
{
    (void)state;
    struct server *plain = server_new(false, NULL);
    struct rpc *r = client_new(plain->ca, NULL);
    struct answer a;
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%u", httpd_port(plain->h));
    assert_int_equal(call(r, url, "echo", bytes_of("x", 1), &a), -ECONNRESET);
    answer_free(&a);
    assert_int_equal(call(r, "http://192.0.2.1:1", "echo", bytes_of("x", 1), &a), -EINVAL);
    assert_non_null(strstr(a.r.message, "https://"));
    answer_free(&a);
    assert_int_equal(call(r, "nonsense", "echo", bytes_of("x", 1), &a), -EINVAL);
    answer_free(&a);
    rpc_free(r);
    server_free(plain, 1000);
}

static void test_trust(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL), *other = server_new(true, NULL);
    char pin[65], wrong[65], leaf[65];
    assert_int_equal(tls_fingerprint(s->ca, pin), 0);
    assert_int_equal(tls_fingerprint(other->ca, wrong), 0);
    assert_int_equal(tls_fingerprint(s->cert, leaf), 0);
    struct answer a;
    struct {
        const char *ca, *pin;
        int err;
    } cases[] = {
        {s->ca, NULL, 0},
        {other->ca, NULL, -EKEYREJECTED},
        {NULL, NULL, -EKEYREJECTED},
        {NULL, pin, 0},
        {NULL, wrong, -EKEYREJECTED},
        {NULL, leaf, -EKEYREJECTED}, /* the fingerprint must be a CA's */
        {s->ca, pin, 0},
        {other->ca, wrong, -EKEYREJECTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rpc *r = client_new(cases[i].ca, cases[i].pin);
        int err = call(r, s->url, "echo", bytes_of("x", 1), &a);
        if (err != cases[i].err)
            fail_msg("case %zu: %d, %s", i, err, a.r.message);
        if (err)
            assert_non_null(strstr(a.r.message, "not trusted"));
        answer_free(&a);
        rpc_free(r);
    }
    /* the right CA, but a certificate for another name */
    struct rpc *r = client_new(s->ca, NULL);
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.2:%u", httpd_port(s->h));
    int err = call(r, url, "echo", bytes_of("x", 1), &a);
    assert_true(err == -ECONNREFUSED || err == -EKEYREJECTED); /* it listens on 127.0.0.1 only */
    answer_free(&a);
    rpc_free(r);
    struct rpc *none = NULL;
    assert_int_equal(rpc_new(&none, &(struct rpc_options){.ca_pem = "no certificate"}), -EINVAL);
    assert_int_equal(rpc_new(&none, &(struct rpc_options){.pin_sha256 = "12zz"}), -EINVAL);
    server_free(other, 1000);
    server_free(s, 1000);
}

static void test_name_mismatch(void **state)
{
    (void)state;
    struct server *s = server_new(true, &(struct httpd_options){.address = "0.0.0.0"});
    struct rpc *r = client_new(s->ca, NULL);
    struct answer a;
    char url[64], pin[65];
    snprintf(url, sizeof url, "https://127.0.0.2:%u", httpd_port(s->h));
    assert_int_equal(call(r, url, "echo", bytes_of("x", 1), &a), -EKEYREJECTED);
    answer_free(&a);
    rpc_free(r);
    assert_int_equal(tls_fingerprint(s->ca, pin), 0);
    r = client_new(NULL, pin);
    assert_int_equal(call(r, url, "echo", bytes_of("x", 1), &a), -EKEYREJECTED);
    answer_free(&a);
    snprintf(url, sizeof url, "https://localhost:%u/", httpd_port(s->h)); /* a slash does no harm */
    assert_int_equal(call(r, url, "echo", bytes_of("x", 1), &a), 0);
    answer_free(&a);
    rpc_free(r);
    server_free(s, 1000);
}

static void test_old_tls_refused(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_max_proto_version(ctx, version);
        SSL *ssl = SSL_new(ctx);
        int fd = dial(s);
        SSL_set_fd(ssl, fd);
        assert_int_equal(SSL_connect(ssl) == 1, version == TLS1_3_VERSION);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        close(fd);
    }
    server_free(s, 1000);
}

static void test_timeouts(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = s->ca,
                                                       .connect_timeout_ms = 200,
                                                       .max_per_host = 1}),
                     0);
    struct answer a, b;
    begin(r, s->url, "hold", bytes_of("x", 1), 300, &a);
    begin(r, s->url, "echo", bytes_of("x", 1), 100, &b); /* behind the first one, in the queue */
    assert_int_equal(answer_await(&b), -ETIMEDOUT);
    assert_int_equal(answer_await(&a), -ETIMEDOUT);
    assert_true(a.r.seconds > 0.25);
    assert_non_null(strstr(a.r.message, "no answer in time"));
    answer_free(&a);
    answer_free(&b);
    /* listens, but nobody accepts: TCP connects, TLS does not */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof in;
    assert_int_equal(bind(fd, (struct sockaddr *)&in, n), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%u", ntohs(in.sin_port));
    begin(r, url, "echo", bytes_of("x", 1), 5000, &a);
    assert_int_equal(answer_await(&a), -EHOSTUNREACH);
    assert_true(a.r.seconds < 4); /* not the call's 5 s */
    answer_free(&a);
    /* and the same port with nobody listening */
    close(fd);
    assert_int_equal(call(r, url, "echo", bytes_of("x", 1), &a), -ECONNREFUSED);
    assert_non_null(strstr(a.r.message, "connection refused; is steadfs-metad running?"));
    answer_free(&a);
    assert_int_equal(call(r, url, "put", bytes_of("x", 1), &a), -ECONNREFUSED);
    assert_non_null(strstr(a.r.message, "block server "));
    assert_non_null(strstr(a.r.message, "steadfs-blockd"));
    answer_free(&a);
    release_held(s);
    rpc_free(r);
    server_free(s, 1000);
}

static void test_cancel(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = s->ca, .max_per_host = 1}), 0);
    struct answer running, queued, left;
    uint64_t id = begin(r, s->url, "hold", bytes_of("x", 1), 0, &running);
    await_held(s, 1);
    uint64_t id2 = begin(r, s->url, "echo", bytes_of("x", 1), 0, &queued);
    rpc_cancel(r, id2);
    assert_int_equal(answer_await(&queued), -ECANCELED);
    rpc_cancel(r, id);
    assert_int_equal(answer_await(&running), -ECANCELED);
    rpc_cancel(r, id); /* of a call that is over: nothing happens */
    answer_free(&running);
    answer_free(&queued);
    begin(r, s->url, "hold", bytes_of("x", 1), 0, &left);
    await_held(s, 2);
    begin(r, s->url, "hold", bytes_of("x", 1), 0, &queued);
    rpc_free(r); /* both end */
    assert_int_equal(answer_await(&left), -ECANCELED);
    assert_int_equal(answer_await(&queued), -ECANCELED);
    answer_free(&left);
    answer_free(&queued);
    release_held(s); /* answers to nobody */
    server_free(s, 1000);
}

static void test_waits_leave_room(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = s->ca, .max_per_host = 2}), 0);
    struct answer waits[6], a;
    for (size_t i = 0; i < 6; i++)
        begin(r, s->url, "wait", bytes_of("x", 1), 60000, &waits[i]);
    await_held(s, 6);
    assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &a), 0);
    answer_free(&a);
    release_held(s);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(answer_await(&waits[i]), 0);
        assert_memory_equal(waits[i].r.body.p, "held", 4);
        answer_free(&waits[i]);
    }
    rpc_free(r);
    server_free(s, 1000);
}

static void test_server_vanishes(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    char *ca = strdup(s->ca), url[64];
    snprintf(url, sizeof url, "%s", s->url);
    struct rpc *r = client_new(ca, NULL);
    struct answer a;
    begin(r, s->url, "hold", bytes_of("x", 1), 0, &a);
    await_held(s, 1);
    server_free(s, 50); /* the drain runs out: the connection breaks */
    assert_int_equal(answer_await(&a), -ECONNRESET);
    assert_non_null(strstr(a.r.message, "connection broke"));
    answer_free(&a);
    assert_int_equal(call(r, url, "echo", bytes_of("x", 1), &a), -ECONNREFUSED);
    answer_free(&a);
    rpc_free(r);
    free(ca);
}

static void test_clients_vanish(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct server *s = server_new(false, NULL);
        /* at every stage of a request */
        static const char *const pieces[] = {
            "",
            "POST /v1/wor",
            "POST /v1/work HTTP/1.1\r\nSteadfs-Ver",
            "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 100000\r\n\r\nabc",
            "POST /v1/hold HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST /v1/slow HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 1\r\n\r\nx",
        };
        for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
            int fd = dial(s);
            say(fd, pieces[i]);
            usleep(20000);
            if (tls) { /* with a reset instead of an orderly end */
                struct linger l = {.l_onoff = 1};
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
            }
            close(fd);
        }
        await_held(s, 1);
        await_metric(s, "test_connections", 1); /* the asking one: also that of the held request */
        release_held(s);
        for (int i = 0; i < 2000 && s->slow_done != 1; i++)
            usleep(10000);
        assert_int_equal(s->slow_done, 1);
        await_metric(s, "test_connections", 1);
        server_free(s, 2000);
    }
}

/* Clients over TLS that cancel while workers have their requests. */
static void test_vanish_under_workers(void **state)
{
    (void)state;
    struct server *s = server_new(true, &(struct httpd_options){.workers = 3});
    uint8_t *data = calloc(1, 300000);
    for (int round = 0; round < 4; round++) {
        struct rpc *r = NULL;
        assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = s->ca, .max_per_host = 16}),
                         0);
        struct answer a[16];
        for (size_t i = 0; i < 16; i++)
            begin(r, s->url, "slow", bytes_of(data, 300000), 0, &a[i]);
        while (s->slow_running < 3 * (round + 1))
            usleep(1000);
        rpc_free(r);
        for (size_t i = 0; i < 16; i++) {
            answer_await(&a[i]);
            answer_free(&a[i]);
        }
    }
    struct rpc *r = client_new(s->ca, NULL);
    struct answer a;
    assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &a), 0);
    answer_free(&a);
    rpc_free(r);
    free(data);
    server_free(s, 5000);
}

static void test_idle_closed(void **state)
{
    (void)state;
    struct server *s = server_new(false, &(struct httpd_options){.idle_seconds = 1});
    int idle = dial(s), half = dial(s), waiting = dial(s);
    say(half, "POST /v1/echo HTTP/1.1\r\nSteadf");
    say(waiting,
        "POST /v1/slow HTTP/1.1\r\nSteadfs-Version: 1\r\nConnection: close\r\nContent-Length: "
        "1\r\n\r\nx");
    char out[1024];
    assert_int_equal(hear(idle, out, sizeof out), 0);
    assert_int_equal(hear(half, out, sizeof out), 0);
    assert_true(hear(waiting, out, sizeof out) > 0);
    close(idle);
    close(half);
    close(waiting);
    server_free(s, 1000);
}

static void test_connection_bound(void **state)
{
    (void)state;
    struct server *s = server_new(false, &(struct httpd_options){.max_connections = 4});
    int fds[4];
    for (int i = 0; i < 4; i++)
        fds[i] = dial(s);
    char out[256];
    assert_int_equal(ask(s, "", out, sizeof out), 0); /* the fifth is closed at once */
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    await_metric(s, "test_connections", 1);
    server_free(s, 1000);
}

/* A client that keeps sending while its request is being handled is not read without bound. */
static void test_pipelining_bound(void **state)
{
    (void)state;
    struct server *s = server_new(false, NULL);
    int fd = dial(s);
    say(fd, "POST /v1/hold HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 1\r\n\r\nx");
    await_held(s, 1);
    char *junk = malloc(1 << 20);
    memset(junk, 'j', 1 << 20);
    size_t sent = 0;
    struct timeval tv = {.tv_usec = 300000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    for (ssize_t n; sent < (64u << 20) && (n = send(fd, junk, 1 << 20, MSG_NOSIGNAL)) > 0;)
        sent += (size_t)n;
    assert_true(sent < (64u << 20));
    assert_true(metric(s, "test_bytes_in_total") < 8 << 20);
    release_held(s);
    close(fd);
    free(junk);
    /* two requests sent at once are both answered */
    fd = dial(s);
    say(fd, "POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 3\r\n\r\nabc"
            "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nConnection: close\r\nContent-Length: "
            "3\r\n\r\ndef");
    char out[2048];
    hear(fd, out, sizeof out);
    assert_non_null(strstr(out, "abcHTTP/1.1 200"));
    assert_non_null(strstr(out, "def"));
    close(fd);
    server_free(s, 1000);
}

static void test_drain(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    struct answer under_way, late;
    begin(r, s->url, "slow", bytes_of("abc", 3), 0, &under_way);
    struct answer held;
    begin(r, s->url, "hold", bytes_of("x", 1), 0, &held);
    await_held(s, 1);
    while (!s->slow_running)
        usleep(1000);
    httpd_stop(s->h, 10000);
    assert_true(httpd_draining(s->h));
    assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &late), -EAGAIN);
    assert_non_null(strstr(late.r.message, "shutting down"));
    answer_free(&late);
    assert_int_equal(answer_await(&under_way), 0);
    answer_free(&under_way);
    assert_true(s->drained);
    release_held(s);
    server_stop(s, 0); /* soon: all is answered */
    assert_int_equal(answer_await(&held), 0);
    answer_free(&held);
    server_free(s, 0);
    rpc_free(r);
}

static void test_many(void **state)
{
    (void)state;
    enum { CALLS = 2000, CLIENTS = 200 };
    struct server *s = server_new(true, NULL);
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = s->ca, .max_per_host = CLIENTS}),
                     0);
    struct answer *a = calloc(CALLS, sizeof *a);
    uint32_t *n = calloc(CALLS, sizeof *n);
    for (uint32_t i = 0; i < CALLS; i++) {
        n[i] = i;
        begin(r, s->url, i % 2 ? "echo" : "work", bytes_of(&n[i], sizeof n[i]), 60000, &a[i]);
    }
    for (uint32_t i = 0; i < CALLS; i++) {
        if (answer_await(&a[i]))
            fail_msg("%u: %s", i, a[i].r.message);
        assert_int_equal(a[i].r.body.n, sizeof n[i]);
        assert_memory_equal(a[i].r.body.p, &n[i], sizeof n[i]);
        answer_free(&a[i]);
    }
    /* and 200 at once that are all held */
    for (uint32_t i = 0; i < CLIENTS; i++)
        begin(r, s->url, "hold", bytes_of("x", 1), 60000, &a[i]);
    await_held(s, CLIENTS);
    release_held(s);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(answer_await(&a[i]), 0);
        answer_free(&a[i]);
    }
    free(a);
    free(n);
    rpc_free(r);
    server_free(s, 1000);
}

/* One request at the only worker, as many in the queue as it takes; the others are to come again.
 */
static void test_overload(void **state)
{
    (void)state;
    enum { CALLS = 1100, TAKEN = 1025 };
    struct server *s = server_new(false, &(struct httpd_options){.workers = 1});
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.max_per_host = CALLS}), 0);
    struct answer *a = calloc(CALLS, sizeof *a);
    for (int i = 0; i < CALLS; i++)
        begin(r, s->url, "stall", bytes_of("x", 1), 100000, &a[i]);
    await_metric(s, "test_overloaded_total", CALLS - TAKEN);
    s->go_on = true;
    size_t refused = 0;
    for (int i = 0; i < CALLS; i++) {
        int err = answer_await(&a[i]);
        assert_true(err == 0 || err == -EAGAIN);
        refused += err == -EAGAIN;
        answer_free(&a[i]);
    }
    assert_int_equal(refused, CALLS - TAKEN);
    free(a);
    rpc_free(r);
    server_free(s, 1000);
}

/* Stopping does not wait for what is queued behind a busy worker. */
static void test_stop_with_queue(void **state)
{
    (void)state;
    struct server *s = server_new(false, &(struct httpd_options){.workers = 1});
    struct rpc *r = NULL;
    enum { CALLS = 50 };
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.max_per_host = CALLS}), 0);
    struct answer a[CALLS];
    for (int i = 0; i < CALLS; i++)
        begin(r, s->url, "slow", bytes_of("x", 1), 60000, &a[i]);
    while (!s->slow_running)
        usleep(1000);
    server_stop(s, 1);
    server_free(s, 0);
    size_t broken = 0; /* freed: a worker with 50 of them would have needed 7.5 s */
    for (int i = 0; i < CALLS; i++) {
        broken += answer_await(&a[i]) != 0;
        answer_free(&a[i]);
    }
    assert_true(broken > 0);
    rpc_free(r);
}

static void test_bytes_counted(void **state)
{
    (void)state;
    struct server *s = server_new(false, NULL);
    struct rpc *r = client_new(NULL, NULL);
    double in = metric(s, "test_bytes_in_total"), out = metric(s, "test_bytes_out_total");
    assert_true(in == 0 && out == 0); /* reading the page is not counted */
    uint8_t *data = calloc(1, 1 << 20);
    uint64_t sent = 0, got = 0;
    static const size_t sizes[] = {0, 10, 50000, 1 << 20};
    for (int i = 0; i < 12; i++) {
        struct answer a;
        assert_int_equal(call(r, s->url, i % 2 ? "echo" : "work", bytes_of(data, sizes[i % 4]), &a),
                         0);
        sent += a.r.bytes_out;
        got += a.r.bytes_in;
        answer_free(&a);
    }
    assert_int_equal((long)metric(s, "test_bytes_in_total"), sent);
    assert_int_equal((long)metric(s, "test_bytes_out_total"), got);
    assert_true(metric(s, "test_requests_total{method=\"echo\"}") == 6);
    assert_true(metric(s, "test_requests_total{method=\"other\"}") == 0);
    /* by hand: exactly what went over the socket */
    const char *q = "POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 1\r\nConnection: "
                    "close\r\nContent-Length: 3\r\n\r\nabc";
    char page[1024];
    size_t n = ask(s, q, page, sizeof page);
    assert_true(metric(s, "test_bytes_in_total") == (double)(sent + strlen(q)));
    assert_true(metric(s, "test_bytes_out_total") == (double)(got + n));
    free(data);
    rpc_free(r);
    server_free(s, 1000);
}

/* The same numbers with TLS: what the client's HTTP layer saw. */
static void test_bytes_counted_tls(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct rpc *r = client_new(s->ca, NULL);
    uint64_t sent = 0;
    uint8_t *data = calloc(1, 1 << 20);
    for (int i = 0; i < 6; i++) {
        struct answer a;
        assert_int_equal(call(r, s->url, "echo", bytes_of(data, i % 2 ? 100 : 1 << 20), &a), 0);
        sent += a.r.bytes_out;
        answer_free(&a);
    }
    free(data);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = dial(s);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    const char *q = "GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_int_equal(SSL_write(ssl, q, (int)strlen(q)), strlen(q));
    char page[8192];
    size_t n = 0;
    for (int got;
         n < sizeof page - 1 && (got = SSL_read(ssl, page + n, (int)(sizeof page - 1 - n))) > 0;)
        n += (size_t)got;
    page[n] = '\0';
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    const char *at = strstr(page, "\ntest_bytes_in_total ");
    assert_non_null(at);
    assert_int_equal(atol(at + strlen("\ntest_bytes_in_total ")), sent);
    rpc_free(r);
    server_free(s, 1000);
}

static void test_binding(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    struct httpd *h = NULL;
    char err[512];
    struct httpd_options o = {.port = httpd_port(s->h)};
    assert_int_equal(httpd_new(&h, &o, err), -EADDRINUSE);
    assert_non_null(strstr(err, "in use"));
    o = (struct httpd_options){.address = "0.0.0.0"};
    assert_int_equal(httpd_new(&h, &o, err), -EPERM);
    assert_non_null(strstr(err, "without TLS"));
    o = (struct httpd_options){.address = "no such address"};
    assert_int_equal(httpd_new(&h, &o, err), -EADDRNOTAVAIL);
    o = (struct httpd_options){.cert_pem = s->cert, .key_pem = s->ca_key};
    assert_int_equal(httpd_new(&h, &o, err), -EINVAL);
    server_free(s, 1000);
}

static void add_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

struct ticker {
    struct httpd *h;
    atomic_int n;
    struct httpd_timer *never;
};

static void tick(void *arg)
{
    struct ticker *t = arg;
    if (t->n++ < 3)
        httpd_timer(t->h, 5, tick, t);
    else
        httpd_timer_cancel(t->never);
}

static void start_ticking(void *arg)
{
    struct ticker *t = arg;
    t->never = httpd_timer(t->h, 20000, add_one, &t->n);
    httpd_timer(t->h, 1, tick, t);
}

static void test_posts_and_timers(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    atomic_int n = 0;
    for (int i = 0; i < 1000; i++)
        httpd_post(s->h, add_one, &n);
    for (int i = 0; i < 2000 && n != 1000; i++)
        usleep(10000);
    assert_int_equal(n, 1000);
    struct ticker t = {.h = s->h};
    httpd_post(s->h, start_ticking, &t);
    for (int i = 0; i < 1000 && t.n < 4; i++)
        usleep(10000);
    usleep(50000);
    assert_int_equal(t.n, 4); /* the canceled one did not fire */
    server_free(s, 1000);
}

static void test_certificates(void **state)
{
    (void)state;
    char *ca, *ca_key, *key, *csr, *cert = NULL;
    assert_int_equal(tls_ca_new(&ca, &ca_key), 0);
    assert_int_equal(tls_csr_new("a.example", &key, &csr), 0);
    assert_int_equal(tls_issue(ca, ca_key, "no request", "a.example", &cert), -EBADMSG);
    /* a name may not smuggle another one in */
    assert_int_equal(tls_issue(ca, ca_key, csr, "a.example,DNS:b.example", &cert), -EBADMSG);
    assert_int_equal(tls_issue(ca, ca_key, csr, "", &cert), -EBADMSG);
    assert_null(cert);
    assert_int_equal(tls_issue(ca, ca_key, csr, "2001:db8::1", &cert), 0);
    free(cert);
    assert_int_equal(tls_issue(ca, ca_key, csr, "a.example", &cert), 0);
    char f[65];
    assert_int_equal(tls_fingerprint(cert, f), 0);
    assert_int_equal(strlen(f), 64);
    assert_int_equal(tls_fingerprint("x", f), -EBADMSG);
    free(ca);
    free(ca_key);
    free(key);
    free(csr);
    free(cert);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_messages_and_credential),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_chunked_refused),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_same_machine),
        cmocka_unit_test(test_urls_refused),
        cmocka_unit_test(test_not_steadfs),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_name_mismatch),
        cmocka_unit_test(test_old_tls_refused),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_waits_leave_room),
        cmocka_unit_test(test_server_vanishes),
        cmocka_unit_test(test_clients_vanish),
        cmocka_unit_test(test_vanish_under_workers),
        cmocka_unit_test(test_idle_closed),
        cmocka_unit_test(test_connection_bound),
        cmocka_unit_test(test_pipelining_bound),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_bytes_counted),
        cmocka_unit_test(test_bytes_counted_tls),
        cmocka_unit_test(test_binding),
        cmocka_unit_test(test_posts_and_timers),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_stop_with_queue),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
