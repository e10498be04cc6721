// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a server ------------------------------------------------------------------------------ */

static void echo(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    pthread_mutex_lock(&s->lock);
    snprintf(s->bearer, sizeof s->bearer, "%s", httpd_bearer(q));
    snprintf(s->op, sizeof s->op, "%s", httpd_op(q));
    if (!strcmp(s->bearer, "good"))
        httpd_prove(q, 0);
    if (!strcmp(s->bearer, "greedy") || !strcmp(s->bearer, "modest"))
        httpd_prove(q, s->bearer[0] == 'g' ? 7 : 8);
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

void release_held(struct server *s)
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

struct server *server_new(bool tls, const struct httpd_options *extra)
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
    httpd_route(s->h, "keep", HTTPD_ON_LOOP, 1u << 20, hold);
    httpd_route(s->h, "slow", HTTPD_ON_WORKER, ECHO_MAX, slow);
    httpd_route(s->h, "stall", HTTPD_ON_WORKER, 1024, stall);
    httpd_route(s->h, "lookup", HTTPD_ON_LOOP, 4096, lookup);
    httpd_route(s->h, "refuse", HTTPD_ON_LOOP, 64, refuse);
    httpd_route(s->h, "ca", HTTPD_ON_LOOP, 0, ca_page);
    snprintf(s->url, sizeof s->url, "%s://127.0.0.1:%u", tls ? "https" : "http", httpd_port(s->h));
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
    return s;
}

void server_stop(struct server *s, unsigned drain_ms)
{
    if (!s->stopped) {
        httpd_stop(s->h, drain_ms);
        pthread_join(s->thread, NULL);
    }
    s->stopped = true;
}

void server_free(struct server *s, unsigned drain_ms)
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

struct rpc *client_new(const char *ca, const char *pin)
{
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = ca, .pin_sha256 = pin}), 0);
    return r;
}

void answer_init(struct answer *a)
{
    memset(a, 0, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->cond, NULL);
}

void answered(void *arg, struct rpc_result *r)
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

int answer_await(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return a->r.err;
}

void answer_free(struct answer *a)
{
    buf_free(&a->r.body);
    pthread_cond_destroy(&a->cond);
    pthread_mutex_destroy(&a->lock);
}

uint64_t begin(struct rpc *r, const char *url, const char *method, struct bytes body,
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

int call(struct rpc *r, const char *url, const char *method, struct bytes body, struct answer *a)
{
    begin(r, url, method, body, 0, a);
    return answer_await(a);
}

int dial(const struct server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(httpd_port(s->h))};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

void say(int fd, const char *text)
{
    size_t n = strlen(text);
    assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), n);
}

size_t hear(int fd, char *out, size_t max)
{
    size_t n = 0;
    for (ssize_t got; n < max - 1 && (got = recv(fd, out + n, max - 1 - n, 0)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    return n;
}

size_t ask(const struct server *s, const char *request, char *out, size_t max)
{
    int fd = dial(s);
    say(fd, request);
    size_t n = hear(fd, out, max);
    close(fd);
    return n;
}

double try_metric(const struct server *s, const char *name)
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

double metric(const struct server *s, const char *name)
{
    double v = try_metric(s, name);
    assert_true(v >= 0);
    return v;
}

void await_metric(const struct server *s, const char *name, double value)
{
    for (int i = 0; i < 2000; i++) {
        if (try_metric(s, name) == value)
            return;
        usleep(10000);
    }
    fail_msg("%s stays at %g", name, try_metric(s, name));
}

void await_held(struct server *s, size_t n)
{
    for (int i = 0; i < 2000 && s->held_n != n; i++)
        usleep(10000);
    assert_int_equal(s->held_n, n);
}
