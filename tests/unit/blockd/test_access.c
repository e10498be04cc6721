// SPDX-License-Identifier: Apache-2.0
/* Capabilities and the feed, with clocks that the test turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "access.h"

#include <stdlib.h>
#include <string.h>

#define HOUR 3600000ll
#define WALL 1000000000ll /* this machine's calendar */
#define META 5000000000ll /* the metadata server's, quite different */
#define SERVER 3
#define NS 10
#define DEVICE 77

struct fixture {
    struct access x;
    struct m_capability c;
};

static struct fixture make(void)
{
    struct fixture f = {
        .x = {.server = SERVER, .key = {.id = 4, .key = {1, 2, 3}}, .feed = feed_new()},
        .c = {.server = SERVER,
              .ns = NS,
              .device = DEVICE,
              .account = 1,
              .rights = 3,
              .expiry_ms = META + 900000},
    };
    return f;
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
    capability_seal(&f->c, &f->x.key, &b);
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
    feed_free(f.x.feed);
}

static void test_forged(void **state)
{
    (void)state;
    struct fixture f = make();
    answered(&f, NULL, 0);
    struct buf b = {0};
    char why[128];
    capability_seal(&f.c, &f.x.key, &b);
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
    feed_free(f.x.feed);
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
    feed_free(f.x.feed);
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
    feed_free(f.x.feed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scope),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_revoked),
    };
    return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
