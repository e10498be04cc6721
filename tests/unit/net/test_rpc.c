// SPDX-License-Identifier: Apache-2.0
/* httpd and rpc against each other, over real TLS sockets on loopback. */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
    /* a key that a later version of the message has */
    static const uint8_t newer[] = {0x85, 1, 1, 2, 2, 3, 0xc4, 1, 'n', 4, 4, 99, 1};
    struct answer later;
    assert_int_equal(call(r, s->url, "lookup", bytes_of(newer, sizeof newer), &later), -EBADMSG);
    assert_non_null(strstr(later.r.message, "upgrade the metadata server first"));
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

/* What OpenSSL takes for the time of day. */
static _Atomic time_t time_is_off;
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec + time_is_off;
    return now.tv_sec + time_is_off;
}

/* A clock that is off by weeks, as after a flat battery, locks nobody out; one that is off by more
 * is what the client hears of. */
static void test_wrong_clock(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL);
    const time_t day = 24 * 3600;
    const struct {
        time_t off;
        const char *says; /* NULL: the call works */
    } v[] = {
        {0, NULL},          {-20 * day, NULL},           {-40 * day, "not good yet"},
        {3000 * day, NULL}, {4000 * day, "has expired"},
    };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        struct rpc *r = client_new(s->ca, NULL);
        struct answer a;
        time_is_off = v[i].off;
        assert_int_equal(call(r, s->url, "echo", bytes_of("x", 1), &a),
                         v[i].says ? -EKEYREJECTED : 0);
        time_is_off = 0;
        if (v[i].says && (!strstr(a.r.message, v[i].says) || !strstr(a.r.message, "clock")))
            fail_msg("%s", a.r.message);
        answer_free(&a);
        rpc_free(r);
    }
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

/* An echo by a server that must show one of the keys; `op` is what it notes when it is asked. */
static int echo_pinned(struct rpc *r, const char *url, const struct rpc_pins *pins, const char *op)
{
    struct answer a;
    answer_init(&a);
    rpc_start(r, &(struct rpc_call){.url = url,
                                    .method = "echo",
                                    .body = bytes_of("x", 1),
                                    .pins = pins,
                                    .op = op,
                                    .done = answered,
                                    .arg = &a});
    int err = answer_await(&a);
    assert_true(err != -EKEYREVOKED || strstr(a.r.message, "its key is not the one"));
    answer_free(&a);
    return err;
}

static struct rpc_pins pins_of(const char *one, const char *other)
{
    struct rpc_pins p = {.n = other ? 2 : 1};
    assert_int_equal(tls_pin(one, p.sha256[0]), 0);
    assert_true(!other || !tls_pin(other, p.sha256[1]));
    return p;
}

/* The same authority, the same host, another key: not a byte of the call goes there, whether a
 * connection is new or kept from another call, and whether a session is resumed. */
static void test_pins(void **state)
{
    (void)state;
    struct server *s = server_new(true, NULL), *plain = server_new(false, NULL);
    char *key, *csr, *cert = NULL;
    assert_int_equal(tls_csr_new("127.0.0.1", &key, &csr), 0);
    assert_int_equal(tls_issue(s->ca, s->ca_key, csr, "127.0.0.1", &cert), 0);
    assert_true(tls_is_key_of(key, cert));
    assert_false(tls_is_key_of(key, s->cert));
    assert_false(tls_is_key_of("", cert));
    struct rpc_pins first = pins_of(s->cert, NULL), second = pins_of(cert, NULL);
    struct rpc_pins both = pins_of(cert, s->cert), none = {0};
    assert_memory_not_equal(&first, &second, sizeof first);
    struct rpc *r = client_new(s->ca, NULL);
    const struct {
        const struct rpc_pins *pins;
        int err, shown_first;
    } steps[] = {
        {NULL, 0, true},    {&first, 0, true}, {&second, -EKEYREVOKED, true},
        {&first, 0, true},  {&both, 0, true},  {&second, -EKEYREVOKED, true},
        {&none, 0, true},   {&both, 0, false}, {&second, 0, false},
        {&first, 0, false}, /* the connection of before is still there, and is the one it was */
    };
    bool shown_first = true;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char op[32];
        snprintf(op, sizeof op, "1-%zx", i + 1);
        if (shown_first && !steps[i].shown_first)
            assert_int_equal(httpd_show(s->h, cert, key), 0);
        shown_first = steps[i].shown_first;
        int err = echo_pinned(r, s->url, steps[i].pins, op);
        if (err != steps[i].err)
            fail_msg("step %zu: %d", i, err);
        pthread_mutex_lock(&s->lock);
        assert_true(err ? strcmp(s->op, op) != 0 : !strcmp(s->op, op));
        pthread_mutex_unlock(&s->lock);
    }
    rpc_free(r);
    r = client_new(s->ca, NULL); /* without connections of before */
    assert_int_equal(echo_pinned(r, s->url, &first, "2-1"), -EKEYREVOKED);
    assert_int_equal(echo_pinned(r, s->url, &second, "2-2"), 0);
    assert_int_equal(httpd_show(s->h, cert, s->key), -EINVAL);
    assert_int_equal(httpd_show(plain->h, cert, key), -EINVAL);
    assert_int_equal(echo_pinned(r, plain->url, &none, "2-3"), 0);
    assert_int_equal(echo_pinned(r, plain->url, &first, "2-4"), -EINVAL); /* no TLS, no key */
    assert_string_equal(plain->op, "2-3");
    rpc_free(r);
    free(key);
    free(csr);
    free(cert);
    server_free(plain, 1000);
    server_free(s, 1000);
}

/* What the metadata server tells of keys; one that is none is one that nobody has. */
static void test_pins_told(void **state)
{
    (void)state;
    uint8_t sha[RPC_PINS_MAX][TLS_PIN_LEN];
    struct m_pin told[RPC_PINS_MAX];
    for (size_t i = 0; i < RPC_PINS_MAX; i++) {
        memset(sha[i], 'a' + (int)i, TLS_PIN_LEN);
        told[i].sha256 = bytes_of(sha[i], i == 1 ? 5 : TLS_PIN_LEN);
    }
    struct m_server m = {.pins = told, .pins_n = RPC_PINS_MAX};
    struct rpc_pins p = rpc_pins_of(&m);
    assert_int_equal(p.n, RPC_PINS_MAX);
    assert_memory_equal(p.sha256[0], sha[0], TLS_PIN_LEN);
    assert_true(p.sha256[1][4] == 'b' && p.sha256[1][5] == 0);
    p = rpc_pins_of(&(struct m_server){0});
    assert_int_equal(p.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_pins_told),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_messages_and_credential),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_same_machine),
        cmocka_unit_test(test_urls_refused),
        cmocka_unit_test(test_not_steadfs),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_name_mismatch),
        cmocka_unit_test(test_wrong_clock),
        cmocka_unit_test(test_old_tls_refused),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_waits_leave_room),
        cmocka_unit_test(test_server_vanishes),
        cmocka_unit_test(test_certificates),
    };
    return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
