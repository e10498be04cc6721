// SPDX-License-Identifier: Apache-2.0
/* Capabilities and the feed, with clocks that the test turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOUR 3600000ll
#define WALL 1000000000ll /* this machine's calendar */
#define META 5000000000ll /* the metadata server's, quite different */
#define SERVER 3
#define NS 10
#define DEVICE 77

struct fixture {
    struct access x;
    struct token_key key;
    struct m_capability c;
};

static struct fixture make(void)
{
    struct fixture f = {
        .x = {.server = SERVER, .feed = feed_new(), .grace_ms = ACCESS_GRACE_MS},
        .key = {.id = 4, .key = {1, 2, 3}},
        .c = {.server = SERVER,
              .ns = NS,
              .device = DEVICE,
              .account = 1,
              .rights = 3,
              .expiry_ms = META + 900000},
    };
    assert_int_equal(keyring_open(&f.x.keys, NULL, &f.key), 0);
    return f;
}

static void end(struct fixture *f)
{
    feed_free(f->x.feed);
    keyring_free(f->x.keys);
}

/* The metadata server answered a beat: its clock reads META in the middle of the round trip. */
static void answered(struct fixture *f, uint64_t *revoked, size_t n)
{
    struct m_beat_ans a = {.now_ms = META, .revoked_devices = revoked, .revoked_devices_n = n};
    feed_answered(f->x.feed, &a, 1000, 1200);
}

static unsigned check(struct fixture *f, uint64_t ns, uint64_t right, int64_t mono)
{
    struct buf b = {0};
    char why[128] = "";
    capability_seal(&f->c, &f->key, &b);
    unsigned code = access_check(&f->x, bytes_of(b.p, b.n), ns, right, mono, WALL, why);
    assert_true(code ? why[0] != '\0' : true);
    buf_free(&b);
    return code;
}

static void test_scope(void **state)
{
    (void)state;
    struct fixture f = make();
    answered(&f, NULL, 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    assert_int_equal(check(&f, NS, RIGHT_WRITE, 1100), 0);
    assert_int_equal(check(&f, NS, 0, 1100), 0);
    assert_int_equal(check(&f, NS + 1, RIGHT_READ, 1100), ERR_FORBIDDEN);
    assert_int_equal(check(&f, 0, RIGHT_READ, 1100), ERR_FORBIDDEN);
    f.c.rights = RIGHT_READ;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    assert_int_equal(check(&f, NS, RIGHT_WRITE, 1100), ERR_FORBIDDEN);
    assert_int_equal(check(&f, NS, 0, 1100), 0);
    f.c.rights = 4;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_FORBIDDEN);
    f.c.rights = 3;
    f.c.server = SERVER + 1;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_FORBIDDEN);
    end(&f);
}

/* Who sends is told apart from others, whatever the namespace. */
static void test_senders(void **state)
{
    (void)state;
    struct fixture f = make();
    uint64_t who[4];
    for (unsigned i = 0; i < 4; i++) {
        struct buf b = {0};
        f.c.device = i < 2 ? 7 : i == 2 ? 8 : 0;
        f.c.peer = i == 3 ? 7 : 0;
        f.c.ns = NS + i;
        capability_seal(&f.c, &f.key, &b);
        who[i] = access_sender(&f.x, bytes_of(b.p, b.n));
        assert_true(who[i]);
        b.p[b.n - 1] ^= 1;
        assert_int_equal(access_sender(&f.x, bytes_of(b.p, b.n)), 0);
        buf_free(&b);
    }
    assert_true(who[0] == who[1] && who[1] != who[2] && who[2] != who[3] && who[3] != who[0]);
    end(&f);
}

static void test_forged(void **state)
{
    (void)state;
    struct fixture f = make();
    answered(&f, NULL, 0);
    struct buf b = {0};
    char why[128];
    capability_seal(&f.c, &f.key, &b);
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] ^= 1;
        assert_int_not_equal(
            access_check(&f.x, bytes_of(b.p, b.n), NS, RIGHT_READ, 1100, WALL, why), 0);
        b.p[i] ^= 1;
    }
    assert_int_equal(access_check(&f.x, bytes_of(b.p, b.n), NS, RIGHT_READ, 1100, WALL, why), 0);
    assert_int_equal(access_check(&f.x, bytes_of(b.p, b.n - 1), NS, RIGHT_READ, 1100, WALL, why),
                     ERR_UNAUTHENTICATED);
    assert_int_equal(access_check(&f.x, bytes_of(b.p, 0), NS, RIGHT_READ, 1100, WALL, why),
                     ERR_UNAUTHENTICATED);
    buf_free(&b);
    struct token_key other = {.id = 5, .key = {1, 2, 3}};
    capability_seal(&f.c, &other, &b);
    assert_int_equal(access_check(&f.x, bytes_of(b.p, b.n), NS, RIGHT_READ, 1100, WALL, why),
                     ERR_UNAUTHENTICATED);
    assert_non_null(strstr(why, "another key"));
    buf_free(&b);
    end(&f);
}

static void test_expiry(void **state)
{
    (void)state;
    struct fixture f = make();
    /* before the first answer: this machine's clock, and the grace of being alone */
    f.c.expiry_ms = WALL - 1;
    assert_int_equal(check(&f, NS, RIGHT_READ, 0), 0);
    f.c.expiry_ms = WALL - 24 * HOUR - 1;
    assert_int_equal(check(&f, NS, RIGHT_READ, 0), ERR_UNAUTHENTICATED);
    /* after it: the metadata server's clock, no grace */
    f.c.expiry_ms = META + 900000;
    answered(&f, NULL, 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900000), 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900001), ERR_UNAUTHENTICATED);
    /* away: a day longer */
    feed_reached(f.x.feed, false);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900001), 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900000 + 24 * HOUR), 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900001 + 24 * HOUR), ERR_UNAUTHENTICATED);
    /* reached again, though it refused us */
    feed_reached(f.x.feed, true);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900001), ERR_UNAUTHENTICATED);
    f.c.expiry_ms = UINT64_MAX;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    end(&f);
}

/* Another process has opened the storage since: it can be read, but nothing is promised any more.
 */
static void test_superseded(void **state)
{
    (void)state;
    struct fixture f = make();
    answered(&f, NULL, 0);
    assert_int_equal(check(&f, NS, RIGHT_WRITE, 1100), 0);
    assert_int_equal(check(&f, NS, 0, 1100), 0);
    feed_set_superseded(f.x.feed);
    assert_int_equal(check(&f, NS, RIGHT_WRITE, 1100), ERR_UNAVAILABLE);
    assert_int_equal(check(&f, NS, 0, 1100), ERR_UNAVAILABLE); /* have */
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    assert_int_equal(check(&f, NS + 1, RIGHT_WRITE, 1100), ERR_FORBIDDEN); /* strangers first */
    answered(&f, NULL, 0);
    assert_int_equal(check(&f, NS, RIGHT_WRITE, 1100), ERR_UNAVAILABLE); /* for good */
    end(&f);
}

static void test_revoked(void **state)
{
    (void)state;
    struct fixture f = make();
    uint64_t revoked[] = {500, DEVICE, 2};
    answered(&f, revoked, 3);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_FORBIDDEN);
    feed_reached(f.x.feed, false); /* also while alone */
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_FORBIDDEN);
    f.c.device = DEVICE + 1;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    size_t n;
    uint64_t *copy = feed_copy_revoked(f.x.feed, &n);
    assert_int_equal(n, 3);
    assert_int_equal(copy[0], 2);
    assert_int_equal(copy[2], 500);
    free(copy);
    struct m_beat_ans same = {.now_ms = META, .revoked_devices = revoked, .revoked_devices_n = 3};
    assert_false(feed_answered(f.x.feed, &same, 0, 0));
    same.revoked_devices_n = 1;
    assert_true(feed_answered(f.x.feed, &same, 0, 0));
    assert_false(feed_is_revoked(f.x.feed, DEVICE));
    end(&f);
}

/* What has the mark of what was told before is not told again, and stays; another one replaces it.
 */
static void test_revoked_not_told_again(void **state)
{
    (void)state;
    struct fixture f = make();
    uint8_t one[FEED_MARK_MAX] = {1}, other[FEED_MARK_MAX] = {2}, mark[FEED_MARK_MAX];
    uint64_t revoked[] = {500, DEVICE};
    struct m_beat_ans a = {.now_ms = META,
                           .revoked_devices = revoked,
                           .revoked_devices_n = 2,
                           .revoked_mark = bytes_of(one, sizeof one)};
    struct m_beat_ans same = {.now_ms = META, .revoked_mark = bytes_of(one, sizeof one)};
    struct m_beat_ans none = {.now_ms = META, .revoked_mark = bytes_of(other, sizeof other)};
    assert_int_equal(feed_mark(f.x.feed, mark), 0);
    assert_true(feed_answered(f.x.feed, &a, 1000, 1200));
    assert_int_equal(feed_mark(f.x.feed, mark), sizeof mark);
    assert_memory_equal(mark, one, sizeof one);
    assert_false(feed_answered(f.x.feed, &same, 1000, 1200));
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_FORBIDDEN);
    assert_true(feed_answered(f.x.feed, &none, 1000, 1200));
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    answered(&f, revoked, 2); /* by a metadata server of before: it is always told */
    assert_int_equal(feed_mark(f.x.feed, mark), 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_FORBIDDEN);
    end(&f);
}

static void test_no_grace(void **state)
{
    (void)state;
    struct fixture f = make();
    f.x.grace_ms = 0;
    answered(&f, NULL, 0);
    feed_reached(f.x.feed, false);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900000), 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100 + 900001), ERR_UNAUTHENTICATED);
    end(&f);
}

/* Who cannot know what was revoked gives no grace until he is told again. */
static void test_no_grace_without_revocations(void **state)
{
    (void)state;
    struct fixture f = make();
    struct m_beat_ans a = {.now_ms = META};
    feed_answered(f.x.feed, &a, 1000, 1200);
    f.c.expiry_ms = META - 1000;
    feed_reached(f.x.feed, false);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    feed_distrust(f.x.feed);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    f.c.expiry_ms = META + 1000;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    feed_answered(f.x.feed, &a, 1000, 1200);
    feed_reached(f.x.feed, false);
    f.c.expiry_ms = META - 1000;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    end(&f);
}

/* What ends later than a revocation was given after it. */
static void test_taken_back(void **state)
{
    (void)state;
    struct fixture f = make();
    const uint64_t until = META + 900000;
    struct m_revoked v[] = {{.ns = NS + 1, .until_ms = until},
                            {.ns = NS, .account = 2, .until_ms = until},
                            {.peer = 5, .until_ms = until}};
    struct m_beat_ans a = {.now_ms = META, .revoked = v, .revoked_n = 3};
    assert_true(feed_answered(f.x.feed, &a, 1000, 1200));
    assert_false(feed_answered(f.x.feed, &a, 1000, 1200));
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0); /* account 1, no peer */
    f.c.account = 2;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    feed_reached(f.x.feed, false); /* alone, too */
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    f.c.expiry_ms = until + 1;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    f.c.expiry_ms = until;
    f.c.account = f.c.device = 0;
    f.c.peer = 4;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    f.c.peer = 5;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    f.c.peer = 4;
    f.c.ns = NS + 1; /* everybody's */
    assert_int_equal(check(&f, NS + 1, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    size_t n;
    struct m_revoked *copy = feed_copy_taken_back(f.x.feed, &n);
    assert_int_equal(n, 3);
    feed_set_taken_back(f.x.feed, NULL, 0);
    assert_int_equal(check(&f, NS + 1, RIGHT_READ, 1100), 0);
    free(copy);
    end(&f);
}

/* Of two rows of one scope (of this block server alone, and of all) the later end counts. */
static void test_taken_back_twice(void **state)
{
    (void)state;
    struct fixture f = make();
    const uint64_t until = META + 900000;
    f.c.account = 2;
    f.c.expiry_ms = until;
    for (int k = 0; k < 2; k++) {
        struct m_revoked v[] = {{.ns = NS, .account = 2, .until_ms = until - (k ? 0 : 500)},
                                {.ns = NS, .account = 2, .until_ms = until - (k ? 500 : 0)}};
        feed_set_taken_back(f.x.feed, v, 2);
        assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    }
    f.c.expiry_ms = until + 1;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    end(&f);
}

/* Two keys are good for a while; then the old one is not. */
static void test_keys_change(void **state)
{
    (void)state;
    struct fixture f = make();
    struct token_key old = f.key, fresh = {.id = 5, .key = {7, 7}};
    answered(&f, NULL, 0);
    struct m_key v[] = {{.id = 5, .key = bytes_of(fresh.key, TOKEN_KEY_LEN)},
                        {.id = 4, .key = bytes_of(old.key, TOKEN_KEY_LEN)}};
    assert_int_equal(keyring_set(f.x.keys, v, 2), 0);
    assert_int_equal(keyring_newest(f.x.keys).id, 5);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    f.key = fresh;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    assert_int_equal(keyring_set(f.x.keys, v, 1), 0);
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), 0);
    f.key = old;
    assert_int_equal(check(&f, NS, RIGHT_READ, 1100), ERR_UNAUTHENTICATED);
    v[0].key.n--;
    assert_int_equal(keyring_set(f.x.keys, v, 1), -EBADMSG);
    assert_int_equal(keyring_set(f.x.keys, v, 0), -EBADMSG);
    end(&f);
}

static void test_keys_are_kept(void **state)
{
    (void)state;
    char dir[] = "/tmp/steadfs-keys.XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    struct token_key first = {.id = 1, .key = {1}}, other = {.id = 9, .key = {9}};
    struct m_key v[] = {{.id = 2, .key = bytes_of(other.key, TOKEN_KEY_LEN)},
                        {.id = 1, .key = bytes_of(first.key, TOKEN_KEY_LEN)}};
    struct keyring *k;
    uint64_t ids[KEYRING_MAX];
    assert_int_equal(keyring_open(&k, dir, &first), 0);
    assert_int_equal(keyring_ids(k, ids), 1);
    assert_int_equal(keyring_set(k, v, 2), 0);
    keyring_free(k);
    assert_int_equal(keyring_open(&k, dir, &first), 0);
    assert_int_equal(keyring_ids(k, ids), 2);
    assert_int_equal(keyring_newest(k).id, 2);
    assert_memory_equal(keyring_newest(k).key, other.key, TOKEN_KEY_LEN);
    keyring_free(k);
    snprintf(path, sizeof path, "%s/identity.keys", dir);
    FILE *file = fopen(path, "w"); /* what is damaged is not taken for the first start */
    assert_non_null(file);
    fputs("2 0909\n", file);
    fclose(file);
    assert_int_equal(keyring_open(&k, dir, &first), -EBADMSG);
    remove(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scope),
        cmocka_unit_test(test_senders),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_revoked),
        cmocka_unit_test(test_revoked_not_told_again),
        cmocka_unit_test(test_no_grace_without_revocations),
        cmocka_unit_test(test_no_grace),
        cmocka_unit_test(test_taken_back),
        cmocka_unit_test(test_taken_back_twice),
        cmocka_unit_test(test_superseded),
        cmocka_unit_test(test_keys_change),
        cmocka_unit_test(test_keys_are_kept),
    };
    return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
