// SPDX-License-Identifier: Apache-2.0
/* The client of an object store against a server that answers from a script: what is sent, what is
 * tried again, what each answer means. That a real store accepts it: test_storage_s3.c. And the
 * texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "durable.h"
#include "s3.h"
#include "s3_keys.h"
#include "storage_open.h"
#include "tempdir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWERS_MAX 64

/* Serves one connection a request, each with the next answer; an empty one closes without. */
struct server {
    int fd;
    pthread_t thread;
    const char *answers[ANSWERS_MAX];
    size_t answers_n, served;
    char last[8192]; /* the last request: head and body */
};

static void serve_one(struct server *s, int fd)
{
    size_t n = 0, want = SIZE_MAX;
    while (n < want && n + 1 < sizeof s->last) {
        ssize_t got = read(fd, s->last + n, sizeof s->last - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        s->last[n] = '\0';
        char *end = strstr(s->last, "\r\n\r\n");
        char *len = end ? strcasestr(s->last, "\r\ncontent-length: ") : NULL;
        if (end)
            want = (size_t)(end + 4 - s->last) + (len ? strtoul(len + 18, NULL, 10) : 0);
    }
    const char *answer = s->answers[s->served];
    if (write(fd, answer, strlen(answer)) < 0)
        abort();
}

static void *serve(void *arg)
{
    struct server *s = arg;
    for (; s->served < s->answers_n; s->served++) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            abort();
        serve_one(s, fd);
        close(fd);
    }
    return NULL;
}

static void server_start(struct server *s, struct s3_place *p)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    *p = (struct s3_place){.bucket = "bucket",
                           .region = "somewhere",
                           .prefix = "pre/",
                           .access_key = "AK",
                           .secret_key = "SK"};
    if (asprintf(&p->endpoint, "http://127.0.0.1:%u", ntohs(a.sin_port)) < 0)
        abort();
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s, struct s3_place *p)
{
    pthread_join(s->thread, NULL);
    close(s->fd);
    free(p->endpoint);
}

#define ANSWER(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body
#define FAULT(status, code)                                                                        \
    ANSWER(status,                                                                                 \
           "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>x</Message></Error>")

/* Makes one call against the answers, all of which must be used up; its outcome. */
static int call_with(struct s3_call *c, const char *const *answers, size_t n, struct server *s)
{
    struct s3_place p;
    struct s3 *s3;
    *s = (struct server){.answers_n = n};
    memcpy(s->answers, answers, n * sizeof *answers);
    server_start(s, &p);
    assert_int_equal(s3_new(&s3, &p, 10000, NULL), 0);
    s3_run(s3, c, 1);
    s3_free(s3);
    server_end(s, &p);
    return c->err;
}

static void expect_in(const struct server *s, const char *text)
{
    if (!strcasestr(s->last, text))
        fail_msg("'%s' is not in:\n%s", text, s->last);
}

static void test_requests(void **state)
{
    (void)state;
    struct server s;
    static const char *const ok[] = {ANSWER("200 OK", "content")};
    static const char empty[] =
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    struct s3_call put = {
        .verb = S3_PUT, .key = "some/key", .body = bytes_of("hello", 5), .if_absent = true};
    assert_int_equal(call_with(&put, ok, 1, &s), 0);
    expect_in(&s, "PUT /bucket/pre/some/key HTTP/1.1\r\n");
    expect_in(&s, "\r\nif-none-match: *\r\n");
    expect_in(&s, "x-amz-content-sha256: "
                  "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    expect_in(&s, "Credential=AK/");
    expect_in(&s, "/somewhere/s3/aws4_request");
    expect_in(&s, "\r\n\r\nhello");
    assert_null(strcasestr(s.last, "SK"));
    buf_free(&put.answer);
    struct s3_call get = {.verb = S3_GET, .key = "k", .answer_max = 7};
    assert_int_equal(call_with(&get, ok, 1, &s), 0);
    assert_int_equal(get.answer.n, 7);
    assert_memory_equal(get.answer.p, "content", 7);
    expect_in(&s, empty);
    buf_free(&get.answer);
    get = (struct s3_call){.verb = S3_GET, .key = "k", .answer_max = 6};
    assert_int_equal(call_with(&get, ok, 1, &s), -EFBIG);
    buf_free(&get.answer);
    struct s3_call list = {.verb = S3_LIST, .key = "a/b", .from = "to+ken="};
    assert_int_equal(call_with(&list, ok, 1, &s), 0);
    expect_in(&s, "GET /bucket?continuation-token=to%2Bken%3D&list-type=2&max-keys=1000"
                  "&prefix=pre%2Fa%2Fb HTTP/1.1\r\n");
    buf_free(&list.answer);
    struct s3_call copy = {.verb = S3_COPY, .key = "to", .from = "from"};
    assert_int_equal(call_with(&copy, ok, 1, &s), 0);
    expect_in(&s, "\r\nx-amz-copy-source: /bucket/pre/from\r\n");
    buf_free(&copy.answer);
}

static void test_outcomes(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        int err;
    } cases[] = {
        {ANSWER("204 No Content", ""), 0},
        {FAULT("404 Not Found", "NoSuchKey"), -ENOENT},
        {FAULT("404 Not Found", "NoSuchBucket"), -ENODEV},
        {FAULT("412 Precondition Failed", "PreconditionFailed"), -EEXIST},
        {FAULT("403 Forbidden", "SignatureDoesNotMatch"), -EACCES},
        {FAULT("403 Forbidden", "QuotaExceeded"), -ENOSPC},
        {FAULT("507 Insufficient Storage", "x"), -ENOSPC},
        {FAULT("400 Bad Request", "XAmzContentSHA256Mismatch"), -EIO},
        {ANSWER("301 Moved", ""), -EIO},
        {FAULT("200 OK", "InternalError"), -EIO}, /* a copy that failed while it was answered */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server s;
        struct s3_call c = {.verb = S3_COPY, .key = "k", .from = "f"};
        assert_int_equal(call_with(&c, &cases[i].answer, 1, &s), cases[i].err);
        buf_free(&c.answer);
    }
}

/* What may pass is tried again, from the beginning of the body, and a piece of an answer forgotten.
 */
static void test_again(void **state)
{
    (void)state;
    struct server s;
    static const char *const answers[] = {
        FAULT("503 Slow Down", "SlowDown"), "",
        FAULT("500 Oh", "InternalError"),   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npiece",
        FAULT("429 Too Many", "x"),         FAULT("409 Conflict", "OperationAborted"),
        ANSWER("200 OK", "whole"),
    };
    struct s3_call get = {.verb = S3_GET, .key = "k", .answer_max = 1000};
    assert_int_equal(call_with(&get, answers, 7, &s), 0);
    assert_int_equal(get.answer.n, 5);
    assert_memory_equal(get.answer.p, "whole", 5);
    buf_free(&get.answer);
    static const char *const two[] = {FAULT("503 Slow Down", "SlowDown"), ANSWER("200 OK", "")};
    struct s3_call put = {.verb = S3_PUT, .key = "k", .body = bytes_of("hello", 5)};
    assert_int_equal(call_with(&put, two, 2, &s), 0);
    expect_in(&s, "\r\n\r\nhello");
    buf_free(&put.answer);
}

/* No longer than the patience. */
static void test_patience(void **state)
{
    (void)state;
    struct s3_place p = {.endpoint = "http://127.0.0.1:1",
                         .bucket = "bucket",
                         .region = "r",
                         .prefix = "",
                         .access_key = "AK",
                         .secret_key = "SK"};
    struct s3 *s3;
    struct s3_call v[40] = {{0}};
    uint64_t requests, retries, failures;
    char why[512];
    assert_int_equal(s3_new(&s3, &p, 400, NULL), 0);
    for (size_t i = 0; i < 40; i++)
        v[i] = (struct s3_call){.verb = S3_GET, .key = "k"};
    s3_run(s3, v, 40);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(v[i].err, -EHOSTUNREACH);
    s3_last_error(s3, why);
    assert_non_null(strstr(why, "does not answer"));
    s3_counters(s3, &requests, &retries, &failures);
    assert_true(retries >= 40);
    assert_int_equal(requests, 40 + retries);
    assert_int_equal(failures, requests);
    s3_free(s3);
}

#define PAGE(inside)                                                                               \
    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://x/\">" inside "</ListBucketResult>"
#define OBJECT(key, size) "<Contents><Key>" key "</Key><Size>" size "</Size></Contents>"

static int parse(struct s3_page *page, const char *text, struct arena *a)
{
    return s3_page_parse(page, bytes_str(text), 2, a);
}

static void test_pages(void **state)
{
    (void)state;
    struct arena a = {0};
    struct s3_page page;
    assert_int_equal(
        parse(&page,
              PAGE("<Name>b</Name><Prefix/><IsTruncated>true</IsTruncated>" OBJECT(
                  "a&amp;b", "12") "<NextContinuationToken>t=</NextContinuationToken>" OBJECT("c",
                                                                                              "0")),
              &a),
        0);
    assert_int_equal(page.n, 2);
    assert_string_equal(page.objects[0].key, "a&b");
    assert_int_equal(page.objects[0].size, 12);
    assert_string_equal(page.objects[1].key, "c");
    assert_string_equal(page.next, "t=");
    assert_int_equal(parse(&page, PAGE("<IsTruncated>false</IsTruncated>"), &a), 0);
    assert_int_equal(page.n, 0);
    assert_null(page.next);
    static const char *const bad[] = {
        "",
        "<html>login</html>",
        "<ListBucketResult>",
        PAGE("<IsTruncated>true</IsTruncated>"),
        PAGE(OBJECT("a", "-1")),
        PAGE(OBJECT("a", "")),
        PAGE(OBJECT("a", "1234567890123456789")),
        PAGE(OBJECT("a&x;", "1")),
        PAGE(OBJECT("a<b/>", "1")),
        PAGE("<Contents><Size>1</Size></Contents>"),
        PAGE(OBJECT("a", "1") OBJECT("b", "1") OBJECT("c", "1")),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse(&page, bad[i], &a), -EBADMSG);
    arena_free(&a);
}

static void names_of(uint64_t unique, size_t len)
{
    struct s3_name n = {.ns = UINT64_MAX, .logical_len = BLOCK_MAX, .unique = unique}, got;
    char name[DIR_FILE_NAME];
    for (size_t i = 0; i < BLOCK_ID_LEN; i++)
        n.id.b[i] = (uint8_t)(i * 7);
    s3_name_make(name, &n);
    assert_int_equal(strlen(name), len);
    assert_true(s3_name_parse(&got, name));
    assert_memory_equal(&got.id, &n.id, sizeof n.id);
    assert_int_equal(got.ns, n.ns);
    assert_int_equal(got.logical_len, n.logical_len);
    assert_int_equal(got.unique, unique);
    for (size_t i = 0; i < len; i++) { /* every character counts */
        char bad[DIR_FILE_NAME];
        memcpy(bad, name, sizeof bad);
        bad[i] = 'G';
        assert_false(s3_name_parse(&got, bad));
    }
    n.logical_len = BLOCK_MAX + 1;
    s3_name_make(name, &n);
    assert_false(s3_name_parse(&got, name));
    n = (struct s3_name){.id = n.id};
    s3_name_make(name, &n);
    assert_int_equal(strlen(name), 67);
    assert_false(s3_name_parse(&got, name));
}

static void test_names(void **state)
{
    (void)state;
    struct s3_name n = {.id = {{0, 1, 2}}, .ns = 3, .logical_len = 4}, got;
    char name[DIR_FILE_NAME], read[DIR_FILE_NAME];
    names_of(0, S3_NAME_OLD);
    names_of(UINT64_MAX, S3_NAME_LEN);
    struct s3_name first = s3_name_fresh(&n), second = s3_name_fresh(&n);
    assert_true(first.unique && second.unique && first.unique != second.unique);
    assert_int_equal(first.ns, 3);
    assert_int_equal(first.logical_len, 4);
    s3_name_make(name, &(struct s3_name){.id = n.id, .ns = 3, .logical_len = 4, .unique = 1});
    name[S3_NAME_LEN - 1] = '0';
    assert_false(s3_name_parse(&got, name));
    /* many, a line each */
    struct buf text cleanup_buf = {0};
    size_t at = 0;
    s3_name_make(name, &first);
    buf_printf(&text, "\n%s0\n%s\n%.80s\n%s", name, name, name, name);
    for (int i = 0; i < 2; i++) {
        assert_true(s3_names_next(bytes_of(text.p, text.n), &at, &got, read));
        assert_string_equal(read, name);
        assert_int_equal(got.unique, first.unique);
    }
    assert_false(s3_names_next(bytes_of(text.p, text.n), &at, &got, read));
}

static void test_places(void **state)
{
    (void)state;
    static const struct {
        const char *url, *bucket, *prefix; /* bucket NULL: refused */
    } cases[] = {
        {"s3://bucket", "bucket", ""},
        {"s3://bucket/", "bucket", ""},
        {"s3://my.bucket-1/a/b", "my.bucket-1", "a/b/"},
        {"s3://bucket/a//", "bucket", "a/"},
        {"s3://bu", NULL, NULL},
        {"s3:///a", NULL, NULL},
        {"s3://buc ket", NULL, NULL},
        {"s3://bucket/a?b", NULL, NULL},
        {"http://bucket", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct s3_place p = {0};
        assert_int_equal(s3_place_parse(&p, cases[i].url), cases[i].bucket != NULL);
        if (cases[i].bucket) {
            assert_string_equal(p.bucket, cases[i].bucket);
            assert_string_equal(p.prefix, cases[i].prefix);
        }
        s3_place_free(&p);
    }
    struct s3_place p = {0};
    assert_true(s3_credentials_parse(&p, "# keys\naccess_key=A\r\nsecret_key=S=1\n"));
    assert_string_equal(p.access_key, "A");
    assert_string_equal(p.secret_key, "S=1");
    s3_place_free(&p);
    assert_false(s3_credentials_parse(&p, "access_key=A\nsecret_key=\n"));
    s3_place_free(&p);
}

static void write_file(const char *dir, const char *name, const char *text, mode_t mode)
{
    assert_int_equal(durable_write(dir, name, text, strlen(text), mode), 0);
}

static void expect_not_opened(const struct storage_options *o, const char *text)
{
    struct storage *s = NULL;
    char err[512] = "";
    assert_true(storage_open(&s, o, err) < 0);
    assert_null(s);
    if (!strstr(err, text))
        fail_msg("'%s' is not in '%s'", text, err);
}

/* What the options and an earlier start say must go together. */
static void test_choice(void **state)
{
    (void)state;
    char *dir = tempdir_make(), *used = tempdir_make(), *chosen = tempdir_make(), keys[4096];
    struct storage_options o = {.dir = dir, .url = "s3://bucket", .endpoint = "http://127.0.0.1:1"};
    struct storage *s;
    char err[512];
    unsetenv("AWS_ACCESS_KEY_ID");
    expect_not_opened(&o, "--s3-credentials");
    snprintf(keys, sizeof keys, "%s/keys", dir);
    o.credentials = keys;
    expect_not_opened(&o, "No such file");
    write_file(dir, "keys", "access_key=A\nsecret_key=S\n", 0644);
    expect_not_opened(&o, "open to others");
    write_file(dir, "keys", "access_key=A\n", 0600);
    expect_not_opened(&o, "needs lines");
    o.endpoint = "127.0.0.1";
    expect_not_opened(&o, "--s3-endpoint");
    o.url = "s3://b";
    expect_not_opened(&o, "--storage");
    /* in the directory once, there for ever */
    assert_int_equal(storage_open(&s, &(struct storage_options){.dir = used}, err), 0);
    s->ops->close(s);
    o = (struct storage_options){
        .dir = used, .url = "s3://bucket", .endpoint = "http://127.0.0.1:1"};
    expect_not_opened(&o, "in the directory itself");
    /* and the other way round */
    write_file(chosen, "storage", "url=s3://bucket/a\nendpoint=http://127.0.0.1:1\n", 0600);
    expect_not_opened(&(struct storage_options){.dir = chosen}, "--s3-credentials");
    expect_not_opened(&(struct storage_options){.dir = chosen, .url = "dir"}, "in s3://bucket/a");
    expect_not_opened(&(struct storage_options){.dir = chosen, .url = "s3://bucket/b"},
                      "in s3://bucket/a");
    write_file(chosen, "storage", "nonsense", 0600);
    expect_not_opened(&(struct storage_options){.dir = chosen}, "cannot read");
    tempdir_remove(dir);
    tempdir_remove(used);
    tempdir_remove(chosen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_again),    cmocka_unit_test(test_patience),
        cmocka_unit_test(test_pages),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_places),   cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests_name("object store client", tests, NULL, NULL);
}
