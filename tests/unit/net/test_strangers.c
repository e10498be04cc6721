// SPDX-License-Identifier: Apache-2.0
/* Who has not shown who they are cannot take the place of those who have. */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGE (1u << 20)

static atomic_int asked;
static atomic_bool body_seen;

static unsigned vouch(void *ctx, const struct httpd_early *e, uint64_t *who, char *why)
{
    (void)ctx;
    atomic_fetch_add(&asked, 1);
    if (e->body.n >= 4 && !memcmp(e->body.p, "body", 4))
        atomic_store(&body_seen, true);
    if (!strcmp(e->bearer, "good") && (!strcmp(e->method, "echo") || !strcmp(e->method, "work")))
        return 0;
    *who = !strcmp(e->bearer, "greedy") ? 7 : !strcmp(e->bearer, "modest") ? 8 : 0;
    if (*who)
        return 0;
    snprintf(why, HTTPD_WHY_MAX, "nobody knows you");
    return ERR_UNAUTHENTICATED;
}

static struct server *guarded(bool tls, struct httpd_options o)
{
    o.vouch = vouch;
    return server_new(tls, &o);
}

static struct rpc *client_as(const struct server *s, const char *credential)
{
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = s->ca, .credential = credential}),
                     0);
    return r;
}

static void fill(int fd, size_t n)
{
    static const char filling[65536];
    while (n) {
        ssize_t put = send(fd, filling, n < sizeof filling ? n : sizeof filling, MSG_NOSIGNAL);
        if (put < 0)
            return;
        n -= (size_t)put;
    }
}

/* Half a request, of `n` bytes' body. */
static int half_as(const struct server *s, size_t n, const char *credential, size_t whole)
{
    int fd = dial(s);
    char head[256];
    snprintf(head, sizeof head,
             "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorization: Bearer "
             "%s\r\nContent-Length: %zu\r\n\r\n",
             credential, whole);
    say(fd, head);
    fill(fd, n);
    return fd;
}

static int half(const struct server *s, size_t n)
{
    int fd = dial(s);
    say(fd, "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nContent-Length: 1100000\r\n\r\n");
    fill(fd, n);
    return fd;
}

static bool is_closed(int fd)
{
    char c;
    struct timeval tv = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    ssize_t n = recv(fd, &c, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static bool is_open(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    return n < 0 && errno == EAGAIN;
}

/* A large request is taken from whom the program vouches for, and others hear why it is not, on the
 * loop and through a worker. */
static void test_vouched(void **state)
{
    (void)state;
    uint8_t *data = calloc(1, LARGE);
    for (int way = 0; way < 4; way++) {
        struct server *s =
            guarded(way & 1, (struct httpd_options){.vouch_where =
                                                        way & 2 ? HTTPD_ON_WORKER : HTTPD_ON_LOOP});
        struct rpc *good = client_as(s, "good"), *bad = client_as(s, "bad");
        struct answer a;
        int before = atomic_load(&asked);
        assert_int_equal(call(good, s->url, "work", bytes_of(data, LARGE), &a), 0);
        assert_int_equal(a.r.body.n, LARGE);
        answer_free(&a);
        assert_int_equal(atomic_load(&asked), before + 1);
        assert_int_equal(call(bad, s->url, "work", bytes_of(data, LARGE), &a), -EACCES);
        assert_non_null(strstr(a.r.message, "nobody knows you"));
        answer_free(&a);
        assert_int_equal(call(bad, s->url, "nothing", bytes_of(data, LARGE), &a), -ENOENT);
        answer_free(&a);
        /* a small one is for its handler to judge */
        before = atomic_load(&asked);
        assert_int_equal(call(bad, s->url, "work", bytes_of(data, HTTPD_STRANGER_BODY - 4096), &a),
                         0);
        answer_free(&a);
        assert_int_equal(atomic_load(&asked), before);
        if (!(way & 1)) /* asked for without TLS */
            assert_true(metric(s, "test_strangers_turned_away_total") == 2);
        /* who has been vouched for once is asked about again */
        assert_int_equal(call(good, s->url, "echo", bytes_of(data, LARGE), &a), 0);
        answer_free(&a);
        assert_int_equal(atomic_load(&asked), before + 1);
        rpc_free(good);
        rpc_free(bad);
        server_free(s, 1000);
    }
    free(data);
}

/* The answer comes while the body is still on its way, which is not kept. */
static void test_answered_early(void **state)
{
    (void)state;
    struct server *s = guarded(false, (struct httpd_options){0});
    char out[2048];
    int fd = dial(s);
    say(fd, "POST /v1/wo");
    usleep(10000);
    say(fd, "rk HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorizati");
    usleep(10000);
    say(fd, "on:   Bearer worse\r\nContent-Length: 8000000\r\n\r\nbo");
    atomic_store(&body_seen, false);
    say(fd, "dy");
    fill(fd, 100000);
    ssize_t n = recv(fd, out, sizeof out - 1, 0);
    assert_true(n > 12);
    out[n] = 0;
    assert_non_null(strstr(out, "HTTP/1.1 401"));
    assert_non_null(strstr(out, "Connection: close"));
    assert_true(body_seen);
    fill(fd, 4000000);
    assert_true(metric(s, "test_requests_memory_bytes") < 300000);
    close(fd);
    await_metric(s, "test_connections", 1);
    /* a head without end */
    fd = dial(s);
    say(fd, "POST /v1/work HTTP/1.1\r\nX: ");
    fill(fd, 300000);
    shutdown(fd, SHUT_WR);
    hear(fd, out, sizeof out);
    assert_null(strstr(out, "200"));
    close(fd);
    server_free(s, 1000);
}

/* Strangers together hold no more than their share, and so never stand in the way of others. */
static void test_hog(void **state)
{
    (void)state;
    enum { HOGS = 128, MEMORY = 4u << 20, SHARE = MEMORY / HTTPD_STRANGERS_SHARE };
    struct server *s = guarded(false, (struct httpd_options){.memory_max = MEMORY});
    int fds[HOGS];
    for (int i = 0; i < HOGS; i++)
        fds[i] = half(s, i % 2 ? 60000 : 10000);
    uint8_t *data = calloc(1, 3u << 20);
    struct rpc *good = client_as(s, "good");
    struct answer a;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(call(good, s->url, "echo", bytes_of(data, 3u << 20), &a), 0);
        answer_free(&a);
    }
    assert_true(metric(s, "test_strangers_memory_bytes") <= SHARE);
    assert_true(metric(s, "test_requests_memory_bytes") <= SHARE + 4096);
    assert_true(metric(s, "test_strangers_dropped_total") > 0);
    for (int i = 0; i < HOGS; i++)
        close(fds[i]);
    free(data);
    rpc_free(good);
    server_free(s, 1000);
}

static int dial_from(const struct server *s, const char *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    inet_pton(AF_INET, address, &from.sin_addr);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(httpd_port(s->h));
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void served_as(int fd, const char *who)
{
    char out[1024];
    struct timeval tv = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    snprintf(out, sizeof out,
             "POST /v1/echo HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorization: Bearer "
             "%s\r\nContent-Length: 1\r\n\r\nx",
             who);
    say(fd, out);
    ssize_t n = recv(fd, out, sizeof out - 1, 0);
    assert_true(n > 12);
    assert_int_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
}

static void served(int fd)
{
    served_as(fd, "good");
}

/* With all connections taken by strangers, a newcomer gets the place of the oldest; who has proven
 * to be known keeps theirs, and when all have, there is no room. */
static void test_newcomers(void **state)
{
    (void)state;
    enum { MOST = 8 };
    struct server *s = guarded(false, (struct httpd_options){.max_connections = MOST});
    int fds[MOST], news[MOST];
    for (int i = 0; i < MOST; i++)
        fds[i] = dial(s);
    for (int i = 0; i < MOST; i++) {
        news[i] = dial(s);
        served(news[i]);
    }
    for (int i = 0; i < MOST; i++)
        assert_true(is_closed(fds[i]));
    int late = dial(s);
    assert_true(is_closed(late));
    for (int i = 0; i < MOST; i++)
        served(news[i]);
    for (int i = 0; i < MOST; i++) {
        close(fds[i]);
        close(news[i]);
    }
    close(late);
    server_free(s, 1000);
}

/* One who is known and keeps all connections makes room for the others, down to his share. */
static void test_many_of_one(void **state)
{
    (void)state;
    enum { MOST = 16, SHARE = MOST / HTTPD_PARTY_SHARE };
    struct server *s = guarded(false, (struct httpd_options){.max_connections = MOST});
    int fds[MOST], news[MOST];
    for (int i = 0; i < MOST; i++) {
        fds[i] = dial(s);
        served_as(fds[i], "greedy");
    }
    for (int i = 0; i < MOST - SHARE; i++) {
        news[i] = dial(s);
        served_as(news[i], i < SHARE ? "modest" : "good");
        assert_true(is_closed(fds[i]));
    }
    for (int i = MOST - SHARE; i < MOST; i++)
        served_as(fds[i], "greedy");
    int late = dial(s);
    assert_true(is_closed(late)); /* nobody has more than his share that is told from others */
    for (int i = 0; i < MOST - SHARE; i++)
        served_as(news[i], i < SHARE ? "modest" : "good");
    for (int i = 0; i < MOST; i++)
        close(fds[i]);
    for (int i = 0; i < MOST - SHARE; i++)
        close(news[i]);
    close(late);
    server_free(s, 1000);
}

/* An address whose strangers take more than their share loses its own. */
static void test_addresses(void **state)
{
    (void)state;
    enum { MOST = 16, MANY = 12, LEFT = MOST / 2 };
    struct server *s = guarded(false, (struct httpd_options){.max_connections = MOST});
    int quiet = dial_from(s, "127.0.0.9"), fds[MANY];
    for (int i = 0; i < MANY; i++) {
        fds[i] = dial(s);
        say(fds[i], "POST ");
    }
    assert_true(is_closed(fds[0]));
    /* seven others, and this question */
    assert_true(metric(s, "test_connections") <= LEFT + 2);
    served(quiet);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    close(quiet);
    server_free(s, 1000);
}

/* A byte now and then keeps nobody's place: not a stranger's, and not within a request. */
static void test_time(void **state)
{
    (void)state;
    struct server *s = guarded(false, (struct httpd_options){.stranger_seconds = 1});
    int mute = dial(s), drip = dial(s), slow = dial(s), proven = dial(s);
    served(proven);
    say(slow, "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorization: Bearer "
              "good\r\nContent-Length: 8000000\r\n\r\n");
    fill(slow, 100000);
    say(drip, "POST /v1/");
    assert_true(is_closed(mute));
    assert_true(is_closed(drip));
    /* fast so far: 100,000 bytes are good for 97 s */
    assert_true(is_open(slow));
    assert_true(is_open(proven));
    served(proven);
    say(proven, "POST /v1/echo HTTP/1.1\r\nX: ");
    assert_true(is_closed(proven));
    assert_true(metric(s, "test_strangers_dropped_total") == 2);
    assert_true(metric(s, "test_connections_dropped_total") == 3);
    close(mute);
    close(drip);
    close(slow);
    close(proven);
    server_free(s, 1000);
}

/* What makes room first when known clients hold too much: who has been at it for a while, and
 * brings less than 64 KiB a second. */
static void test_slow(void **state)
{
    (void)state;
    struct conn c = {.began_ms = 1000, .in_since = 1u << 20};
    assert_false(httpd_is_slow(&c, 1000));
    assert_false(httpd_is_slow(&c, 1000 + 16000));
    assert_true(httpd_is_slow(&c, 1000 + 16001));
    c.in_since = 1;
    assert_false(httpd_is_slow(&c, 1000 + 10000)); /* its beginning is no measure */
    assert_true(httpd_is_slow(&c, 1000 + 10001));
}

/* One who is known and opens many connections makes room himself, not who has one larger request.
 */
static void test_greedy(void **state)
{
    (void)state;
    enum { MANY = 64, MEMORY = 8u << 20, LARGE_ONE = 900000, REST = 100000 };
    struct server *s = guarded(false, (struct httpd_options){.memory_max = MEMORY});
    int fds[2 * MANY];
    for (int i = 0; i < MANY; i++)
        fds[i] = half_as(s, 300000, "greedy", 400000);
    int modest = half_as(s, LARGE_ONE - REST, "modest", LARGE_ONE);
    for (int i = MANY; i < 2 * MANY; i++)
        fds[i] = half_as(s, 300000, "greedy", 400000);
    for (int i = 0; i < 2000 && metric(s, "test_greedy_total") == 0; i++)
        usleep(10000); /* until the server has read so much */
    assert_true(metric(s, "test_greedy_total") > 0);
    assert_true(metric(s, "test_requests_memory_bytes") <= MEMORY);
    char out[1024];
    struct timeval tv = {.tv_sec = 20};
    setsockopt(modest, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    fill(modest, REST);
    ssize_t n = recv(modest, out, sizeof out - 1, 0);
    assert_true(n > 12);
    assert_int_equal(strncmp(out, "HTTP/1.1 200", 12), 0);
    close(modest);
    for (int i = 0; i < 2 * MANY; i++)
        close(fds[i]);
    server_free(s, 1000);
}

/* Likewise with requests that are complete and wait: he is told to come again, others are not. */
static void test_greedy_waiting(void **state)
{
    (void)state;
    enum { MANY = 12, MEMORY = 8u << 20, EACH = 900000 };
    struct server *s = guarded(false, (struct httpd_options){.memory_max = MEMORY});
    struct rpc *greedy = client_as(s, "greedy"), *modest = client_as(s, "modest");
    uint8_t *data = calloc(1, EACH);
    struct answer a[MANY], other;
    int refused = 0;
    for (int i = 0; i < MANY; i++) {
        begin(greedy, s->url, "keep", bytes_of(data, EACH), 20000, &a[i]);
        await_held(s, i < 4 ? (size_t)i + 1 : 4);
    }
    await_metric(s, "test_greedy_total", MANY - 4);
    begin(modest, s->url, "keep", bytes_of(data, EACH), 20000, &other);
    await_held(s, 5);
    release_held(s);
    for (int i = 0; i < MANY; i++) {
        int r = answer_await(&a[i]);
        assert_int_equal(r, i < 4 ? 0 : -EAGAIN);
        refused += r != 0;
        answer_free(&a[i]);
    }
    assert_int_equal(refused, MANY - 4);
    assert_int_equal(answer_await(&other), 0);
    answer_free(&other);
    assert_int_equal(call(greedy, s->url, "work", bytes_of(data, EACH), &other), 0);
    answer_free(&other);
    rpc_free(greedy);
    rpc_free(modest);
    server_free(s, 1000);
    free(data);
}

/* What came of a chunked body counts until the connection ends: turning its sender away once is
 * all that can be done. */
static void test_greedy_chunked(void **state)
{
    (void)state;
    enum { MANY = 5, MEMORY = 8u << 20, EACH = 900000 };
    struct server *s = guarded(false, (struct httpd_options){.memory_max = MEMORY});
    struct rpc *greedy = client_as(s, "greedy"), *modest = client_as(s, "modest");
    uint8_t *data = calloc(1, EACH);
    struct answer a[MANY];
    int fd = half_as(s, 100000, "greedy", 100000); /* it is his from now on */
    char out[200000];
    struct timeval tv = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    for (size_t got = 0; got < 100000;) {
        ssize_t n = recv(fd, out, sizeof out, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    for (int i = 0; i < MANY; i++) {
        begin(i < 4 ? greedy : modest, s->url, "keep", bytes_of(data, EACH), 20000, &a[i]);
        await_held(s, (size_t)i + 1);
    }
    say(fd, "POST /v1/work HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorization: Bearer greedy\r\n"
            "Transfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n");
    assert_true(recv(fd, out, sizeof out, 0) > 12);
    assert_int_equal(strncmp(out, "HTTP/1.1 503", 12), 0);
    assert_true(metric(s, "test_greedy_total") == 1); /* the server goes on */
    release_held(s);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(answer_await(&a[i]), 0);
        answer_free(&a[i]);
    }
    close(fd);
    rpc_free(greedy);
    rpc_free(modest);
    server_free(s, 1000);
    free(data);
}

static void stall_as(int fd, const char *who)
{
    char text[256];
    snprintf(text, sizeof text,
             "POST /v1/stall HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorization: Bearer %s\r\n"
             "Content-Length: 1\r\n\r\nx",
             who);
    say(fd, text);
}

static void expect_status(int fd, const char *status)
{
    char out[1024];
    struct timeval tv = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_true(recv(fd, out, sizeof out, 0) > 12);
    assert_int_equal(strncmp(out + 9, status, 3), 0);
}

/* One who is known cannot fill the queue of work: the half of it is for those who have less than
 * their share there, and for nobody who is not known. */
static void test_greedy_queue(void **state)
{
    (void)state;
    enum { MANY = HTTPD_QUEUE_MAX + 40, TAKEN = 1 + HTTPD_QUEUE_MAX / 2 };
    struct server *s = guarded(false, (struct httpd_options){.workers = 1});
    static int fds[MANY];
    int modest[HTTPD_QUEUE_MAX / HTTPD_PARTY_SHARE + 1];
    enum { MODEST = sizeof modest / sizeof *modest };
    for (int i = 0; i < MANY + MODEST; i++) {
        int *fd = i < MANY ? &fds[i] : &modest[i - MANY];
        *fd = dial(s);
        served_as(*fd, i < MANY ? "greedy" : "modest");
    }
    int stranger = dial(s);
    for (int i = 0; i < MANY; i++)
        stall_as(fds[i], "greedy");
    await_metric(s, "test_greedy_total", MANY - TAKEN);
    for (int i = 0; i < MODEST; i++)
        stall_as(modest[i], "modest");
    await_metric(s, "test_greedy_total", MANY - TAKEN + 1); /* he has his share, too */
    stall_as(stranger, "modest");
    expect_status(stranger, "503");
    s->go_on = true;
    int served = 0;
    for (int i = 0; i < MODEST; i++) {
        char out[1024];
        assert_true(recv(modest[i], out, sizeof out, 0) > 12);
        served += !strncmp(out + 9, "200", 3);
        close(modest[i]);
    }
    assert_int_equal(served, MODEST - 1);
    for (int i = 0; i < MANY; i++) {
        char out[1024];
        assert_true(recv(fds[i], out, sizeof out, 0) > 12);
    }
    stall_as(fds[0], "greedy"); /* when what he had there is done, he is as welcome as anybody */
    expect_status(fds[0], "200");
    assert_true(metric(s, "test_overloaded_total") == 0);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    close(stranger);
    server_free(s, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vouched),
        cmocka_unit_test(test_answered_early),
        cmocka_unit_test(test_hog),
        cmocka_unit_test(test_newcomers),
        cmocka_unit_test(test_many_of_one),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_greedy_waiting),
        cmocka_unit_test(test_greedy_chunked),
        cmocka_unit_test(test_greedy_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
