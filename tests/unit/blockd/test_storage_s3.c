// SPDX-License-Identifier: Apache-2.0
/* The storage in a bucket: conformance, and what is its own: the index that is made again, what a
 * crash leaves, errors. Needs a store: STEADFS_S3 is the directory of a running tools/s3engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "durable.h"
#include "s3.h"
#include "s3_index.h"
#include "s3_keys.h"
#include "storage_s3.h"
#include "tempdir.h"
#include "token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A storage's directory, and its part of the bucket. */
struct place {
    char *dir;
    char prefix[32];
};

static char *endpoint, *credentials;

static char *duplicate(const char *s)
{
    char *c = strdup(s);
    assert_non_null(c);
    return c;
}

static void s3_place_of_test(struct s3_place *p, const struct place *at)
{
    *p = (struct s3_place){.endpoint = duplicate(endpoint),
                           .bucket = duplicate("steadfs"),
                           .region = duplicate("us-east-1"),
                           .prefix = duplicate(at->prefix)};
    assert_true(s3_credentials_parse(p, credentials));
}

static void *make(void)
{
    struct place *at = calloc(1, sizeof *at);
    uint64_t unique;
    assert_non_null(at);
    random_bytes(&unique, sizeof unique);
    at->dir = tempdir_make();
    snprintf(at->prefix, sizeof at->prefix, "t%016llx/", (unsigned long long)unique);
    return at;
}

static struct storage *open_s3(void *place)
{
    struct place *at = place;
    struct s3_place p;
    struct storage *s = NULL;
    char err[512];
    s3_place_of_test(&p, at);
    if (storage_s3_open(&s, at->dir, &p, 0, NULL, err))
        fail_msg("%s", err);
    return s;
}

/* The store, past the storage. */
struct direct {
    struct s3_place place;
    struct s3 *s3;
};

static void direct_open(struct direct *d, const struct place *at)
{
    s3_place_of_test(&d->place, at);
    assert_int_equal(s3_new(&d->s3, &d->place, 0, NULL), 0);
}

static void direct_close(struct direct *d)
{
    s3_free(d->s3);
    s3_place_free(&d->place);
}

static int run(struct direct *d, enum s3_verb verb, const char *key, struct bytes body)
{
    struct s3_call c = {.verb = verb, .key = key, .body = body, .answer_max = BLOCK_MAX};
    s3_run(d->s3, &c, 1);
    buf_free(&c.answer);
    return c.err;
}

/* Calls fn for every object whose key begins with this. */
static size_t each(struct direct *d, const char *prefix,
                   void (*fn)(void *arg, struct direct *d, const char *key, uint64_t size),
                   void *arg)
{
    char *from = NULL;
    size_t n = 0;
    do {
        struct arena a = {0};
        struct s3_page page;
        struct s3_call c = {.verb = S3_LIST, .key = prefix, .from = from};
        s3_run(d->s3, &c, 1);
        assert_int_equal(c.err, 0);
        assert_int_equal(s3_page_parse(&page, bytes_of(c.answer.p, c.answer.n), S3_LIST_MAX, &a),
                         0);
        for (size_t i = 0; fn && i < page.n; i++)
            fn(arg, d, page.objects[i].key + strlen(d->place.prefix), page.objects[i].size);
        n += page.n;
        free(from);
        from = page.next ? duplicate(page.next) : NULL;
        buf_free(&c.answer);
        arena_free(&a);
    } while (from);
    return n;
}

static void flip(void *arg, struct direct *d, const char *key, uint64_t size)
{
    (void)arg;
    if (!size)
        return;
    struct s3_call c = {.verb = S3_GET, .key = key, .answer_max = BLOCK_MAX};
    s3_run(d->s3, &c, 1);
    assert_int_equal(c.err, 0);
    c.answer.p[c.answer.n / 2] ^= 4;
    assert_int_equal(run(d, S3_PUT, key, bytes_of(c.answer.p, c.answer.n)), 0);
    buf_free(&c.answer);
}

static void block_prefix(char out[S3_KEY_MAX], const struct block_id *id)
{
    char name[DIR_FILE_NAME];
    s3_name_make(name, &(struct s3_name){.id = *id});
    snprintf(out, S3_KEY_MAX, S3_KEY_BLOCKS "%s", name);
}

static void damage(void *place, const struct block_id *id)
{
    struct direct d;
    char prefix[S3_KEY_MAX];
    direct_open(&d, place);
    block_prefix(prefix, id);
    assert_true(each(&d, prefix, flip, NULL) > 0);
    direct_close(&d);
}

static void delete_one(void *arg, struct direct *d, const char *key, uint64_t size)
{
    (void)arg;
    (void)size;
    assert_int_equal(run(d, S3_DELETE, key, (struct bytes){0}), 0);
}

static void lose(void *place)
{
    struct direct d;
    direct_open(&d, place);
    each(&d, "", delete_one, NULL);
    direct_close(&d);
}

static void discard(void *place)
{
    struct place *at = place;
    tempdir_remove(at->dir);
    free(at);
}

static const struct storage_fixture fixture = {
    .name = "storage in a bucket",
    .make = make,
    .open = open_s3,
    .damage = damage,
    .lose = lose,
    .discard = discard,
};

static void remove_index(const struct place *at)
{
    char *path;
    assert_true(asprintf(&path, "%s/s3", at->dir) > 0);
    tempdir_remove(path);
}

static size_t objects(const struct place *at, const char *prefix)
{
    struct direct d;
    direct_open(&d, at);
    size_t n = each(&d, prefix, NULL, NULL);
    direct_close(&d);
    return n;
}

/* Without its index a storage makes one from the bucket; what each namespace has is in it. Over
 * more than one page. */
static void test_index_is_made_again(void **state)
{
    (void)state;
    enum { N = 1100, BATCH = 100 };
    struct place *at = make();
    struct storage *s = open_s3(at);
    struct block_id *ids = calloc(N, sizeof *ids);
    uint8_t first[INCARNATION_LEN], second[INCARNATION_LEN];
    for (unsigned i = 0; i < N; i += BATCH) {
        struct storage_put v[BATCH];
        for (unsigned k = 0; k < BATCH; k++) {
            v[k] = (struct storage_put){.logical_len = 100};
            v[k].stored = (struct bytes){block_make(100, i + k, &v[k].id), 100};
            ids[i + k] = v[k].id;
        }
        s->ops->put(s, i / BATCH % 2 ? 3 : 9, v, BATCH);
        if (!i) /* markers before and after what holds the bytes */
            for (uint64_t ns = 1; ns < 12; ns += 10)
                s->ops->put(s, ns, v, BATCH);
        for (unsigned k = 0; k < BATCH; k++) {
            assert_int_equal(v[k].err, 0);
            free((void *)(uintptr_t)v[k].stored.p);
        }
    }
    s->ops->incarnation(s, first);
    s->ops->close(s);
    assert_int_equal(objects(at, S3_KEY_BLOCKS), N + 2 * BATCH);
    remove_index(at);
    s = open_s3(at);
    s->ops->incarnation(s, second);
    assert_memory_equal(first, second, sizeof first);
    struct storage_usage u;
    s->ops->usage(s, &u);
    assert_int_equal(u.blocks, N);
    assert_int_equal(u.bytes, N * 100);
    for (uint64_t ns = 1; ns < 12; ns++) {
        struct storage_info *info = calloc(N, sizeof *info);
        assert_int_equal(s->ops->have(s, ns, ids, N, info), 0);
        for (unsigned i = 0; i < N; i++)
            assert_int_equal(info[i].there,
                             ns == (i / BATCH % 2 ? 3 : 9) || (i < BATCH && ns % 10 == 1));
        free(info);
    }
    uint8_t *p = block_make(100, 0, &ids[0]);
    expect_block(s, 11, &ids[0], p, 100);
    free(p);
    s->ops->close(s);
    free(ids);
    lose(at);
    discard(at);
}

static void copy_index(const struct place *at, const char *from, const char *to)
{
    char *command;
    assert_true(asprintf(&command, "rm -rf '%s/%s' && cp -a '%s/%s' '%s/%s'", at->dir, to, at->dir,
                         from, at->dir, to) > 0);
    assert_int_equal(system(command), 0);
    free(command);
}

/* An index from a backup would give receipts for what has been set aside since. */
static void test_older_index(void **state)
{
    (void)state;
    struct place *at = make();
    struct block_id kept, gone, later;
    uint8_t first[INCARNATION_LEN], second[INCARNATION_LEN];
    struct storage *s = open_s3(at);
    uint8_t *p = block_make(1000, 1, &kept), *q = block_make(1000, 2, &gone),
            *l = block_make(1000, 3, &later);
    assert_int_equal(put_one(s, 1, &kept, p, 1000), 0);
    assert_int_equal(put_one(s, 1, &gone, q, 1000), 0);
    s->ops->incarnation(s, first);
    s->ops->close(s);
    copy_index(at, "s3", "backup");
    damage(at, &gone);
    s = open_s3(at);
    s->ops->incarnation(s, second);
    assert_memory_equal(first, second, sizeof first);
    assert_int_equal(s->ops->set_aside(s, &gone), 0);
    assert_int_equal(put_one(s, 1, &later, l, 1000), 0);
    s->ops->close(s);
    copy_index(at, "backup", "s3");
    s = open_s3(at);
    s->ops->incarnation(s, second);
    assert_memory_not_equal(first, second, sizeof first);
    expect_block(s, 1, &kept, p, 1000);
    expect_block(s, 1, &later, l, 1000);
    expect_absent(s, 1, &gone);
    s->ops->close(s);
    s = open_s3(at); /* and that is that */
    s->ops->incarnation(s, first);
    assert_memory_equal(first, second, sizeof first);
    s->ops->close(s);
    free(p);
    free(q);
    free(l);
    lose(at);
    discard(at);
}

/* A crash after the object and before the index leaves an object that nothing names: what is put
 * has one of its own, and with the block both go. */
static void test_object_without_entry(void **state)
{
    (void)state;
    struct place *at = make();
    struct direct d;
    struct storage *s = open_s3(at);
    direct_open(&d, at);
    for (int right = 0; right < 2; right++) {
        struct block_id id;
        char name[DIR_FILE_NAME], key[S3_KEY_MAX];
        struct storage_collected sums = {0};
        uint64_t generation;
        uint8_t *p = block_make(5000, 10 + (unsigned)right, &id);
        s3_name_make(name, &(struct s3_name){.id = id, .ns = 4, .logical_len = 5000, .unique = 1});
        snprintf(key, sizeof key, S3_KEY_BLOCKS "%s", name);
        p[7] ^= !right;
        assert_int_equal(run(&d, S3_PUT, key, bytes_of(p, 5000)), 0);
        p[7] ^= !right;
        expect_absent(s, 4, &id);
        assert_int_equal(put_one(s, 4, &id, p, 5000), 0);
        expect_block(s, 4, &id, p, 5000);
        assert_int_equal(s->ops->raise(s, &generation), 0);
        assert_int_equal(s->ops->collect(s, 4, &id, 1, generation, &sums), 0);
        assert_int_equal(each(&d, S3_KEY_BLOCKS, NULL, NULL), 0);
        free(p);
    }
    direct_close(&d);
    s->ops->close(s);
    lose(at);
    discard(at);
}

/* Set aside is not deleted: the bytes are in corrupt/; an object that is gone is a loss too. */
static void test_aside(void **state)
{
    (void)state;
    struct place *at = make();
    struct storage *s = open_s3(at);
    struct block_id id[2];
    struct direct d;
    char prefix[S3_KEY_MAX];
    struct buf b = {0};
    uint64_t logical;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *p = block_make(3000, 20 + i, &id[i]);
        assert_int_equal(put_one(s, 1, &id[i], p, 3000), 0);
        assert_int_equal(put_one(s, 2, &id[i], p, 3000), 0);
        free(p);
    }
    damage(at, &id[0]);
    direct_open(&d, at);
    block_prefix(prefix, &id[1]);
    assert_int_equal(each(&d, prefix, delete_one, NULL), 2);
    assert_int_equal(s->ops->get(s, 1, &id[1], &b, &logical), -EUCLEAN);
    assert_int_equal(b.n, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(s->ops->set_aside(s, &id[i]), 0);
        expect_absent(s, 1, &id[i]);
    }
    assert_int_equal(each(&d, "corrupt/", NULL, NULL), 1);
    assert_int_equal(each(&d, S3_KEY_BLOCKS, NULL, NULL), 0);
    direct_close(&d);
    s->ops->close(s);
    lose(at);
    discard(at);
}

static void expect_refused(const struct place *at, struct s3_place *p, int want, const char *text)
{
    struct storage *s = NULL;
    char err[512] = "";
    assert_int_equal(storage_s3_open(&s, at->dir, p, 300, NULL, err), want);
    assert_null(s);
    if (!strstr(err, text))
        fail_msg("'%s' is not in '%s'", text, err);
}

static void test_errors(void **state)
{
    (void)state;
    struct place *at = make();
    struct s3_place p;
    s3_place_of_test(&p, at);
    p.secret_key[0] ^= 1;
    expect_refused(at, &p, -EACCES, "SignatureDoesNotMatch");
    s3_place_of_test(&p, at);
    p.access_key[0] ^= 1;
    expect_refused(at, &p, -EACCES, "InvalidAccessKeyId");
    s3_place_of_test(&p, at);
    free(p.bucket);
    p.bucket = duplicate("no-such-bucket");
    expect_refused(at, &p, -ENODEV, "has no bucket no-such-bucket");
    s3_place_of_test(&p, at);
    free(p.endpoint);
    p.endpoint = duplicate("http://127.0.0.1:1");
    expect_refused(at, &p, -EHOSTUNREACH, "http://127.0.0.1:1 does not answer");
    /* the store checks what it gets */
    struct direct d;
    direct_open(&d, at);
    static const uint8_t wrong[32] = {1};
    struct s3_call c = {.verb = S3_PUT, .key = "x", .body = bytes_of("hello", 5), .hash = wrong};
    s3_run(d.s3, &c, 1);
    assert_int_equal(c.err, -EIO);
    buf_free(&c.answer);
    assert_int_equal(run(&d, S3_GET, "x", (struct bytes){0}), -ENOENT);
    direct_close(&d);
    discard(at);
}

struct doubted {
    struct block_id v[8];
    size_t n;
};

static void note_doubt(void *arg, const struct block_id *id)
{
    struct doubted *d = arg;
    assert_true(d->n < 8);
    d->v[d->n++] = *id;
}

static void remove_bytes(void *arg, struct direct *d, const char *key, uint64_t size)
{
    (void)arg;
    if (size)
        assert_int_equal(run(d, S3_DELETE, key, (struct bytes){0}), 0);
}

static void shorten(void *arg, struct direct *d, const char *key, uint64_t size)
{
    (void)arg;
    if (size)
        assert_int_equal(run(d, S3_PUT, key, bytes_of("abc", 3)), 0);
}

/* A listing tells which blocks are gone or have another length, whatever the size of its pages;
 * what was put for several namespaces spans some. Nothing else is looked at. */
static void test_survey(void **state)
{
    (void)state;
    enum { N = 12, GONE = 3, SHORT = 7 };
    struct place *at = make();
    struct storage *s = open_s3(at);
    struct block_id ids[N], upto, end;
    struct direct d;
    char prefix[S3_KEY_MAX], err[512], *dir;
    memset(&end, 0xff, sizeof end);
    for (unsigned i = 0; i < N; i++) {
        uint8_t *p = block_make(1000 + i, i, &ids[i]);
        for (uint64_t ns = 1; ns <= 1 + i % 4; ns++)
            assert_int_equal(put_one(s, ns, &ids[i], p, 1000 + i), 0);
        free(p);
    }
    direct_open(&d, at);
    block_prefix(prefix, &ids[GONE]);
    each(&d, prefix, remove_bytes, NULL);
    block_prefix(prefix, &ids[SHORT]);
    each(&d, prefix, shorten, NULL);
    /* as the storage asks */
    struct doubted found = {0};
    uint64_t looked = 0;
    assert_int_equal(s->ops->survey(s, &(struct block_id){{0}}, &upto, &looked, note_doubt, &found),
                     0);
    assert_true(block_id_equal(&upto, &end));
    assert_int_equal(looked, N);
    assert_int_equal(found.n, 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(s->ops->set_aside(s, &found.v[i]), 0);
    found.n = 0;
    assert_int_equal(s->ops->survey(s, &(struct block_id){{0}}, &upto, &looked, note_doubt, &found),
                     0);
    assert_int_equal(found.n, 0);
    assert_int_equal(looked, 2 * N - 2);
    block_prefix(prefix, &ids[0]);
    each(&d, prefix, remove_bytes, NULL);
    s->ops->close(s);
    /* in small pages */
    struct dir_db *db;
    assert_true(asprintf(&dir, "%s/s3", at->dir) > 0);
    assert_int_equal(dir_db_open(&db, dir, NULL, err), 0);
    for (unsigned max = 1; max < 9; max += 3) {
        struct block_id place = {{0}};
        size_t calls = 0;
        found.n = looked = 0;
        for (; !block_id_equal(&place, &end); calls++, place = upto)
            assert_int_equal(
                s3_index_survey(db, d.s3, max, &place, &upto, &looked, note_doubt, &found), 0);
        assert_true(calls > 2);
        assert_int_equal(looked, N - 2);
        /* of a block with more objects than a page the bytes may be on none: it is looked at */
        assert_true(max > 4 ? found.n == 1 : found.n >= 1);
        bool it = false;
        for (size_t i = 0; i < found.n; i++)
            it |= block_id_equal(&found.v[i], &ids[0]);
        assert_true(it);
    }
    dir_db_close(db);
    free(dir);
    direct_close(&d);
    discard(at);
}

static char *read_line(const char *dir, const char *name)
{
    struct buf b = {0};
    if (durable_read(dir, name, 4096, &b)) {
        fprintf(stderr, "no %s/%s: start tools/s3engine up %s\n", dir, name, dir);
        exit(1);
    }
    return (char *)b.p;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_is_made_again),
        cmocka_unit_test(test_older_index),
        cmocka_unit_test(test_object_without_entry),
        cmocka_unit_test(test_aside),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_survey),
    };
    const char *dir = getenv("STEADFS_S3");
    if (!dir) {
        fputs("STEADFS_S3 is not set: the directory of a running tools/s3engine\n", stderr);
        return 1;
    }
    endpoint = read_line(dir, "endpoint");
    endpoint[strcspn(endpoint, "\n")] = '\0';
    credentials = read_line(dir, "credentials");
    int failed = conformance_run(&fixture);
    failed += cmocka_run_group_tests_name("bucket", tests, NULL, NULL);
    free(endpoint);
    free(credentials);
    return failed;
}
