// SPDX-License-Identifier: Apache-2.0
/* httpd with clients that do not take their answers, with many at once, and with a bound on its
 * bytes a second. The clients of the first are plain sockets with small buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "httpd.h"
#include "rpc.h"
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_LEN (8u << 20)
#define MEMORY_MAX (32u << 20)
#define DEADLINE_MS 60000

struct server {
    struct httpd *h;
    pthread_t thread;
    atomic_uint made; /* answers */
    char *ca, *ca_key, *cert, *key;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void large(void *ctx, struct httpd_req *q)
{
    struct server *s = ctx;
    struct buf b = {.p = malloc(ANSWER_LEN), .n = ANSWER_LEN, .cap = ANSWER_LEN};
    assert_non_null(b.p);
    memset(b.p, 'x', ANSWER_LEN);
    atomic_fetch_add(&s->made, 1);
    if (!strcmp(httpd_bearer(q), "greedy"))
        httpd_prove(q, 7);
    httpd_reply(q, 200, &b);
}

static void *run(void *arg)
{
    httpd_run(arg);
    return NULL;
}

static void start(struct server *s, bool tls, uint64_t rate)
{
    char err[512];
    *s = (struct server){0};
    struct httpd_options o = {
        .ctx = s, .name = "test", .memory_max = MEMORY_MAX, .rate = rate, .max_connections = 2000};
    if (tls) {
        char *csr = NULL;
        assert_int_equal(tls_ca_new(&s->ca, &s->ca_key), 0);
        assert_int_equal(tls_csr_new("127.0.0.1", &s->key, &csr), 0);
        assert_int_equal(tls_issue(s->ca, s->ca_key, csr, "127.0.0.1", &s->cert), 0);
        free(csr);
        o.cert_pem = s->cert;
        o.key_pem = s->key;
    }
    if (httpd_new(&s->h, &o, err))
        fail_msg("%s", err);
    httpd_route(s->h, "large", HTTPD_ON_WORKER, 4096, large);
    assert_int_equal(pthread_create(&s->thread, NULL, run, s->h), 0);
}

static void stop(struct server *s)
{
    httpd_stop(s->h, 1000);
    pthread_join(s->thread, NULL);
    httpd_free(s->h);
    free(s->ca);
    free(s->ca_key);
    free(s->cert);
    free(s->key);
}

static int client(const struct server *s, int receive_buffer)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(httpd_port(s->h)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void ask_as(int fd, const char *line, const char *bearer)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "%s HTTP/1.1\r\nHost: x\r\nSteadfs-Version: 1\r\nAuthorization: Bearer "
                     "%s\r\nContent-Length: 0\r\n\r\n",
                     line, bearer);
    assert_int_equal(write(fd, text, (size_t)n), n);
}

static void ask(int fd, const char *line)
{
    ask_as(fd, line, "");
}

/* Reads a large answer, n bytes of which were read; false: the connection was closed before its
 * end. */
static bool take_rest(int fd, size_t n)
{
    static char piece[1 << 20];
    while (n < ANSWER_LEN) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        ssize_t got = read(fd, piece, sizeof piece);
        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    return true;
}

static bool take(int fd)
{
    return take_rest(fd, 0);
}

static uint64_t metric(const struct server *s, const char *name)
{
    static char page[65536];
    char line[128];
    size_t n = 0;
    ssize_t got;
    int fd = client(s, 0);
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_int_equal(write(fd, request, sizeof request - 1), sizeof request - 1);
    while ((got = read(fd, page + n, sizeof page - 1 - n)) > 0)
        n += (size_t)got;
    close(fd);
    page[n] = '\0';
    snprintf(line, sizeof line, "\ntest_%s ", name);
    const char *p = strstr(page, line);
    assert_non_null(p);
    return strtoull(p + strlen(line), NULL, 10);
}

/* Who does not read costs a bounded amount of memory, and others only a while. */
static void test_answers_not_taken(void **state)
{
    (void)state;
    enum { N = 12 };
    struct server s;
    int fds[N];
    uint64_t most = 0;
    start(&s, false, 0);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&s, 4096);
        ask(fds[i], "POST /v1/large");
    }
    int64_t end = now_ms() + DEADLINE_MS;
    while (metric(&s, "connections_dropped_total") == 0) {
        uint64_t bytes = metric(&s, "answers_memory_bytes");
        most = bytes > most ? bytes : most;
        assert_true(now_ms() < end);
        usleep(20000);
    }
    assert_true(most > MEMORY_MAX);                   /* the bound was met … */
    assert_true(most <= MEMORY_MAX + 5 * ANSWER_LEN); /* … and those that were being made then */
    assert_true(atomic_load(&s.made) < N);
    int honest = client(&s, 0);
    ask(honest, "POST /v1/large");
    assert_true(take(honest));
    assert_true(metric(&s, "connections_dropped_total") < N);
    close(honest);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    stop(&s);
}

/* One who is known, and takes none of his answers, does not hold back those of others. */
static void test_answers_of_one(void **state)
{
    (void)state;
    enum { N = 12 };
    struct server s;
    int fds[N];
    start(&s, false, 0);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&s, 4096);
        ask_as(fds[i], "POST /v1/large", "greedy");
    }
    int64_t end = now_ms() + DEADLINE_MS;
    while (atomic_load(&s.made) < N || metric(&s, "greedy_total") == 0)
        assert_true(now_ms() < end);
    int honest = client(&s, 0);
    ask(honest, "POST /v1/large");
    assert_true(take(honest));
    assert_true(metric(&s, "answers_memory_bytes") <= MEMORY_MAX / 2);
    assert_int_equal(metric(&s, "connections_dropped_total"), 0);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    while (metric(&s, "answers_memory_bytes") > 0)
        assert_true(now_ms() < end);
    int again = client(&s, 0); /* when his are gone, he is as welcome as anybody */
    ask_as(again, "POST /v1/large", "greedy");
    assert_true(take(again));
    close(again);
    close(honest);
    stop(&s);
}

/* Reads a little of what is there; how much. */
static size_t sip(int fd)
{
    char piece[65536];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    ssize_t n = read(fd, piece, sizeof piece);
    assert_true(n > 0);
    return (size_t)n;
}

/* Of a crowd, who takes nothing goes; who is slow stays, during it and after it. */
static void test_slow_ones_stay(void **state)
{
    (void)state;
    enum { N = 12 };
    struct server s;
    int fds[N];
    size_t had[N] = {0};
    unsigned n = 0;
    start(&s, false, 0);
    do {
        assert_true(n < N);
        fds[n] = client(&s, 4096);
        ask(fds[n], "POST /v1/large");
        int64_t end = now_ms() + DEADLINE_MS;
        for (n++; atomic_load(&s.made) < n; usleep(1000))
            assert_true(now_ms() < end);
        for (unsigned i = 1; i < n; i++) /* the first one takes nothing at all */
            had[i] += sip(fds[i]);
    } while (metric(&s, "answers_memory_bytes") <= MEMORY_MAX);
    for (unsigned i = 1; i < n; i++)
        had[i] += sip(fds[i]);
    assert_true(metric(&s, "answers_memory_bytes") > MEMORY_MAX);
    int64_t end = now_ms() + DEADLINE_MS;
    while (metric(&s, "connections_dropped_total") == 0) {
        assert_true(now_ms() < end);
        usleep(20000);
    }
    uint64_t bytes = metric(&s, "answers_memory_bytes");
    assert_true(bytes <= MEMORY_MAX && bytes > MEMORY_MAX / 2);
    usleep(500000); /* several times the pause between two drops */
    for (unsigned i = 1; i < n; i++)
        assert_true(take_rest(fds[i], had[i]));
    assert_int_equal(metric(&s, "connections_dropped_total"), 1);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    stop(&s);
}

/* Who reads, however many at once, loses nothing. */
static void test_answers_taken(void **state)
{
    (void)state;
    enum { N = 12 };
    struct server s;
    int fds[N];
    start(&s, false, 0);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&s, 0);
        ask(fds[i], "POST /v1/large");
    }
    for (int i = 0; i < N; i++) {
        assert_true(take(fds[i]));
        close(fds[i]);
    }
    assert_int_equal(metric(&s, "connections_dropped_total"), 0);
    assert_int_equal(metric(&s, "answers_memory_bytes"), 0);
    stop(&s);
}

static void answered(void *arg, struct rpc_result *r)
{
    assert_int_equal(r->err, 0);
    assert_int_equal(r->body.n, ANSWER_LEN);
    atomic_fetch_add((atomic_uint *)arg, 1);
}

/* All connections together get no more bytes a second than that, over TLS. */
static void test_rate(void **state)
{
    (void)state;
    enum { N = 3, RATE = 12 << 20 };
    struct server s;
    struct rpc *rpc;
    char url[64];
    atomic_uint done = 0;
    start(&s, true, RATE);
    snprintf(url, sizeof url, "https://127.0.0.1:%u", httpd_port(s.h));
    assert_int_equal(rpc_new(&rpc, &(struct rpc_options){.ca_pem = s.ca}), 0);
    int64_t began = now_ms();
    for (int i = 0; i < N; i++)
        rpc_start(rpc, &(struct rpc_call){.url = url,
                                          .method = "large",
                                          .answer_max = ANSWER_LEN,
                                          .done = answered,
                                          .arg = &done});
    while (atomic_load(&done) < N) {
        assert_true(now_ms() - began < DEADLINE_MS);
        usleep(5000);
    }
    /* 24 MiB at 12 MiB a second; what the buckets hold at first comes at once */
    assert_true(now_ms() - began > 1500);
    rpc_free(rpc);
    stop(&s);
}

/* A thousand connections, one answer each; all are noticed to be gone. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 1000 };
    struct server s;
    static int fds[N];
    start(&s, false, 0);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&s, 0);
        ask(fds[i], "POST /v1/none");
    }
    for (int i = 0; i < N; i++) {
        char answer[16];
        struct pollfd p = {.fd = fds[i], .events = POLLIN};
        assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
        assert_int_equal(read(fds[i], answer, 12), 12);
        assert_memory_equal(answer, "HTTP/1.1 404", 12);
    }
    assert_int_equal(metric(&s, "connections"), N + 1);
    for (int i = 0; i < N; i++)
        close(fds[i]);
    int64_t end = now_ms() + DEADLINE_MS;
    while (metric(&s, "connections") > 1) {
        assert_true(now_ms() < end);
        usleep(5000);
    }
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_not_taken),
        cmocka_unit_test(test_answers_of_one),
        cmocka_unit_test(test_slow_ones_stay),
        cmocka_unit_test(test_answers_taken),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests_name("net under load", tests, NULL, NULL);
}
