// SPDX-License-Identifier: Apache-2.0
/* The storage in a bucket against a store in memory: conformance, and a store that carries out a
 * DELETE after it was given up: it never takes away what was put again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "bucket.h"
#include "conformance.h"
#include "s3_keys.h"
#include "storage_s3.h"
#include "tempdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 60

static struct bucket bucket;
static unsigned places;

/* A storage's directory, and its part of the bucket. */
struct place {
    char *dir;
    char prefix[32];
};

static void *make(void)
{
    struct place *at = calloc(1, sizeof *at);
    assert_non_null(at);
    at->dir = tempdir_make();
    snprintf(at->prefix, sizeof at->prefix, "t%u/", places++);
    return at;
}

static struct storage *open_with(const struct place *at, unsigned patience_ms)
{
    struct s3_place p = bucket_place(&bucket, at->prefix);
    struct storage *s = NULL;
    char err[512];
    if (storage_s3_open(&s, at->dir, &p, patience_ms, NULL, err))
        fail_msg("%s", err);
    return s;
}

static struct storage *open_patient(void *place)
{
    return open_with(place, 0);
}

static struct storage *open_late(const struct place *at)
{
    return open_with(at, PATIENCE_MS);
}

static void flip(void *arg, const char *key, const uint8_t *p, size_t n)
{
    (void)arg;
    if (!n)
        return;
    uint8_t *changed = malloc(n);
    assert_non_null(changed);
    memcpy(changed, p, n);
    changed[n / 2] ^= 4;
    bucket_put(&bucket, key, changed, n);
    free(changed);
}

static void block_prefix(const struct place *at, const struct block_id *id, char out[S3_KEY_MAX])
{
    char name[DIR_FILE_NAME];
    s3_name_make(name, &(struct s3_name){.id = *id});
    snprintf(out, S3_KEY_MAX, "%s" S3_KEY_BLOCKS "%s", at->prefix, name);
}

static void damage(void *place, const struct block_id *id)
{
    char prefix[S3_KEY_MAX];
    block_prefix(place, id, prefix);
    assert_true(bucket_each(&bucket, prefix, flip, NULL) > 0);
}

static void remove_one(void *arg, const char *key, const uint8_t *p, size_t n)
{
    (void)arg;
    (void)p;
    (void)n;
    bucket_delete(&bucket, key);
}

static void lose(void *place)
{
    const struct place *at = place;
    bucket_each(&bucket, at->prefix, remove_one, NULL);
}

static void discard(void *place)
{
    struct place *at = place;
    lose(at);
    tempdir_remove(at->dir);
    free(at);
}

static const struct storage_fixture fixture = {
    .name = "storage in a bucket in memory",
    .make = make,
    .open = open_patient,
    .damage = damage,
    .lose = lose,
    .discard = discard,
};

static size_t count(const struct place *at, const char *what)
{
    char prefix[S3_KEY_MAX];
    snprintf(prefix, sizeof prefix, "%s%s", at->prefix, what);
    return bucket_each(&bucket, prefix, NULL, NULL);
}

static void remove_index(const struct place *at)
{
    char *path;
    assert_true(asprintf(&path, "%s/s3", at->dir) > 0);
    tempdir_remove(path);
}

static void let_go(struct storage *s, uint64_t ns, const struct block_id *id)
{
    struct storage_collected sums = {0};
    uint64_t generation;
    assert_int_equal(s->ops->raise(s, &generation), 0);
    assert_int_equal(s->ops->collect(s, ns, id, 1, generation, &sums), 0);
    assert_int_equal(sums.taken, 1);
    expect_absent(s, ns, id);
}

/* What was collected, or set aside, is put again before its DELETE is carried out. */
static void late_after(void (*lose_it)(const struct place *at, struct storage *s,
                                       const struct block_id *id))
{
    struct place *at = make();
    struct block_id id;
    struct storage *s = open_late(at);
    uint8_t *p = block_make(1000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0);
    bucket_late(&bucket, true);
    lose_it(at, s, &id);
    assert_int_equal(count(at, S3_KEY_DOOMED), 1);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0);
    bucket_late(&bucket, false);
    assert_true(bucket_carry_out(&bucket) > 0);
    expect_block(s, 1, &id, p, 1000);
    assert_int_equal(count(at, S3_KEY_BLOCKS), 1);
    s->ops->close(s);
    s = open_late(at); /* deletes again what a note is left for */
    expect_block(s, 1, &id, p, 1000);
    assert_int_equal(count(at, S3_KEY_DOOMED), 0);
    s->ops->close(s);
    remove_index(at);
    s = open_late(at);
    expect_block(s, 1, &id, p, 1000);
    s->ops->close(s);
    free(p);
    discard(at);
}

static void by_collecting(const struct place *at, struct storage *s, const struct block_id *id)
{
    (void)at;
    let_go(s, 1, id);
}

static void by_damage(const struct place *at, struct storage *s, const struct block_id *id)
{
    char prefix[S3_KEY_MAX];
    block_prefix(at, id, prefix);
    bucket_each(&bucket, prefix, flip, NULL);
    assert_int_equal(s->ops->set_aside(s, id), 0);
}

static void test_collected(void **state)
{
    (void)state;
    late_after(by_collecting);
}

static void test_set_aside(void **state)
{
    (void)state;
    late_after(by_damage);
}

/* The DELETE is carried out after the index was lost and made again. */
static void test_index_is_made_meanwhile(void **state)
{
    (void)state;
    struct place *at = make();
    struct block_id id;
    struct storage *s = open_late(at);
    uint8_t *p = block_make(1000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0);
    bucket_late(&bucket, true);
    let_go(s, 1, &id);
    s->ops->close(s);
    remove_index(at);
    bucket_late(&bucket, false);
    s = open_late(at);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0); /* whether the listing told of it or not */
    assert_true(bucket_carry_out(&bucket) > 0);
    expect_block(s, 1, &id, p, 1000);
    s->ops->close(s);
    free(p);
    discard(at);
}

/* Of two namespaces the one goes whose object has the bytes; it comes back; the other goes. */
static void test_shared(void **state)
{
    (void)state;
    struct place *at = make();
    struct block_id id;
    struct storage *s = open_late(at);
    uint8_t *p = block_make(1000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0);
    assert_int_equal(put_one(s, 2, &id, p, 1000), 0);
    bucket_late(&bucket, true);
    for (uint64_t ns = 1; ns <= 2; ns++) {
        let_go(s, ns, &id);
        expect_block(s, 3 - ns, &id, p, 1000);
        assert_int_equal(put_one(s, ns, &id, p, 1000), 0);
    }
    bucket_late(&bucket, false);
    assert_true(bucket_carry_out(&bucket) > 0);
    for (int again = 0; again < 2; again++) {
        expect_block(s, 1, &id, p, 1000);
        expect_block(s, 2, &id, p, 1000);
        s->ops->close(s);
        if (again)
            remove_index(at);
        s = open_late(at);
        assert_int_equal(count(at, S3_KEY_DOOMED), 0);
    }
    expect_block(s, 1, &id, p, 1000);
    expect_block(s, 2, &id, p, 1000);
    let_go(s, 1, &id);
    let_go(s, 2, &id);
    assert_int_equal(count(at, S3_KEY_BLOCKS), 0);
    assert_int_equal(count(at, S3_KEY_DOOMED), 0);
    s->ops->close(s);
    free(p);
    discard(at);
}

struct note {
    struct buf text;
    size_t skip;
};

static void name_it(void *arg, const char *key, const uint8_t *p, size_t n)
{
    struct note *note = arg;
    (void)p;
    (void)n;
    buf_printf(&note->text, "%s\n", key + note->skip);
}

/* A note that came late, or that a crash left before the index let go, names what is still used:
 * that stays, with the index and without it. */
static void test_note_of_what_is_used(void **state)
{
    (void)state;
    struct place *at = make();
    struct block_id id;
    struct note note = {.skip = strlen(at->prefix) + strlen(S3_KEY_BLOCKS)};
    char prefix[S3_KEY_MAX];
    struct storage *s = open_late(at);
    uint8_t *p = block_make(1000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0);
    assert_int_equal(put_one(s, 2, &id, p, 1000), 0);
    block_prefix(at, &id, prefix);
    for (int without = 0; without < 2; without++) {
        s->ops->close(s);
        note.text.n = 0;
        buf_printf(&note.text, "nonsense\n");
        assert_int_equal(bucket_each(&bucket, prefix, name_it, &note), 2);
        snprintf(prefix, sizeof prefix, "%s" S3_KEY_DOOMED "0000000000000001", at->prefix);
        bucket_put(&bucket, prefix, note.text.p, note.text.n);
        block_prefix(at, &id, prefix);
        if (without)
            remove_index(at);
        s = open_late(at);
        expect_block(s, 1, &id, p, 1000);
        expect_block(s, 2, &id, p, 1000);
        assert_int_equal(count(at, S3_KEY_DOOMED), 0);
    }
    s->ops->close(s);
    remove_index(at); /* both namespaces have an object of their own still */
    s = open_late(at);
    expect_block(s, 1, &id, p, 1000);
    expect_block(s, 2, &id, p, 1000);
    s->ops->close(s);
    buf_free(&note.text);
    free(p);
    discard(at);
}

/* Objects of before, whose names say nothing of the put, are used, and go like others. */
static void test_older_names(void **state)
{
    (void)state;
    struct place *at = make();
    struct block_id id;
    char name[DIR_FILE_NAME], key[S3_KEY_MAX];
    uint8_t *p = block_make(1000, 1, &id);
    for (uint64_t ns = 1; ns <= 2; ns++) {
        s3_name_make(name, &(struct s3_name){.id = id, .ns = ns, .logical_len = 1000});
        snprintf(key, sizeof key, "%s" S3_KEY_BLOCKS "%s", at->prefix, name);
        bucket_put(&bucket, key, p, ns == 1 ? 1000 : 0);
    }
    struct storage *s = open_late(at);
    expect_block(s, 1, &id, p, 1000);
    expect_block(s, 2, &id, p, 1000);
    bucket_late(&bucket, true);
    let_go(s, 1, &id);
    expect_block(s, 2, &id, p, 1000);
    assert_int_equal(put_one(s, 1, &id, p, 1000), 0);
    bucket_late(&bucket, false);
    assert_true(bucket_carry_out(&bucket) > 0);
    expect_block(s, 1, &id, p, 1000);
    expect_block(s, 2, &id, p, 1000);
    s->ops->close(s);
    free(p);
    discard(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collected),
        cmocka_unit_test(test_set_aside),
        cmocka_unit_test(test_index_is_made_meanwhile),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_note_of_what_is_used),
        cmocka_unit_test(test_older_names),
    };
    bucket_start(&bucket);
    int failed = conformance_run(&fixture);
    failed += cmocka_run_group_tests_name("late bucket", tests, NULL, NULL);
    bucket_end(&bucket);
    return failed;
}
