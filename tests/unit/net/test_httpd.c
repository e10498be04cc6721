// SPDX-License-Identifier: Apache-2.0
/* What a server does with what is too much, too slow, too early or cut off: bounds, draining,
 * counts. */
#include "world.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

static unsigned nobody_known(void *ctx, const struct httpd_early *e, uint64_t *who, char *why)
{
    (void)ctx;
    (void)e;
    *who = 0;
    snprintf(why, HTTPD_WHY_MAX, "nobody is known");
    return ERR_UNAUTHENTICATED;
}

static void test_connection_bound(void **state)
{
    (void)state;
    struct server *s =
        server_new(false, &(struct httpd_options){.max_connections = 4, .vouch = nobody_known});
    int fds[4];
    for (int i = 0; i < 4; i++)
        fds[i] = dial(s);
    char out[2048];
    int fifth = dial(s); /* the oldest of whom nothing is known makes room */
    assert_int_equal(hear(fds[0], out, sizeof out), 0);
    say(fifth, "POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 1\r\nConnection: close\r\n"
               "Content-Length: 3\r\n\r\nabc");
    hear(fifth, out, sizeof out);
    assert_non_null(strstr(out, "abc"));
    close(fifth);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_chunked_refused),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_clients_vanish),
        cmocka_unit_test(test_vanish_under_workers),
        cmocka_unit_test(test_idle_closed),
        cmocka_unit_test(test_connection_bound),
        cmocka_unit_test(test_pipelining_bound),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_overload),
        cmocka_unit_test(test_stop_with_queue),
        cmocka_unit_test(test_bytes_counted),
        cmocka_unit_test(test_bytes_counted_tls),
        cmocka_unit_test(test_binding),
        cmocka_unit_test(test_posts_and_timers),
    };
    return cmocka_run_group_tests_name("httpd", tests, NULL, NULL);
}
