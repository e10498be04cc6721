// SPDX-License-Identifier: Apache-2.0
/* What was put and never committed is bounded, by account and namespace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "uncommitted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static const struct uncommitted_party ann = {1, 10}, bob = {2, 10}, ann_too = {1, 11};

static struct uncommitted_block block(unsigned number, uint64_t len)
{
    struct uncommitted_block b = {.len = len};
    memcpy(b.id.b + 1, &number, sizeof number);
    return b;
}

static int put(struct uncommitted *u, struct uncommitted_party who, unsigned number, uint64_t len,
               uint64_t free_bytes)
{
    char why[256];
    struct uncommitted_block b = block(number, len);
    bool stored = true;
    int r = uncommitted_admit(u, who, &b, 1, free_bytes, why);
    if (!r)
        uncommitted_put(u, who, &b, &stored, 1, number);
    else
        assert_non_null(strstr(why, "never committed"));
    return r;
}

static bool prints(struct uncommitted *u, const char *line)
{
    struct buf b = {0};
    uncommitted_print(u, &b);
    buf_append(&b, "", 1);
    bool is = strstr((char *)b.p, line);
    buf_free(&b);
    return is;
}

/* Up to the quota, at least UNCOMMITTED_LEAST; each account and namespace has its own. */
static void test_quota(void **state)
{
    (void)state;
    struct uncommitted *u = uncommitted_new();
    assert_int_equal(put(u, ann, 0, MIB, 0), 0);
    uncommitted_quota(u, 10, 1000);
    for (unsigned i = 1; i < UNCOMMITTED_LEAST / MIB; i++)
        assert_int_equal(put(u, ann, i, MIB, 0), 0);
    assert_int_equal(put(u, ann, 1000, 1, 0), -EDQUOT);
    assert_true(prints(u, "\nsteadfs_blockd_uncommitted_bytes 67108864\n"));
    assert_true(prints(u, "\nsteadfs_blockd_uncommitted_refused_total 1\n"));
    assert_int_equal(put(u, bob, 1000, 1, 0), 0);
    assert_int_equal(put(u, ann_too, 1000, 1, 0), 0);
    struct uncommitted_block b = block(3, MIB);
    uncommitted_settle(u, 10, &b.id);
    uncommitted_settle(u, 10, &b.id); /* once */
    assert_int_equal(put(u, ann, 1000, MIB + 1, 0), -EDQUOT);
    assert_int_equal(put(u, ann, 1001, MIB, 0), 0);
    assert_int_equal(put(u, ann, 1002, 1, 0), -EDQUOT);
    uncommitted_quota(u, 10, 100 * MIB); /* a larger one counts at once */
    for (unsigned i = 0; i < 36; i++)
        assert_int_equal(put(u, ann, 2000 + i, MIB, 0), 0);
    assert_int_equal(put(u, ann, 3000, MIB, 0), -EDQUOT);
    uncommitted_free(u);
}

/* Where there is no quota: seven eighths of what would be free. Small ones count as a page. */
static void test_without_quota(void **state)
{
    (void)state;
    struct uncommitted *u = uncommitted_new();
    uint64_t free_bytes = GIB, sum = 0;
    unsigned n = 0;
    uncommitted_quota(u, 10, 0);
    while (!put(u, ann, n, 4 * MIB, free_bytes)) {
        n++;
        free_bytes -= 4 * MIB;
        sum += 4 * MIB;
    }
    assert_int_equal(sum, GIB / 8 * 7);
    /* others may, too */
    assert_int_equal(put(u, bob, 10000, 4 * MIB, free_bytes), 0);
    assert_int_equal(put(u, ann_too, 1, 4 * MIB, 0), 0); /* not known */
    uncommitted_forget(u);
    assert_int_equal(uncommitted_blocks(u), 0);
    assert_int_equal(put(u, ann, 1, 1, GIB), 0);
    assert_true(prints(u, "\nsteadfs_blockd_uncommitted_bytes 4096\n"));
    uncommitted_free(u);
}

/* What is being put counts; what failed, or was known already, does not. */
static void test_under_way(void **state)
{
    (void)state;
    struct uncommitted *u = uncommitted_new();
    struct uncommitted_block v[2] = {block(1, 40 * MIB), block(2, 20 * MIB)};
    bool stored[2] = {true, false};
    char why[256];
    uncommitted_quota(u, 10, 1);
    assert_int_equal(uncommitted_admit(u, ann, v, 2, 0, why), 0);
    uncommitted_quota(u, 10, 1);
    assert_int_equal(put(u, ann, 3, 8 * MIB, 0), -EDQUOT);
    uncommitted_put(u, ann, v, stored, 2, 0);
    assert_int_equal(uncommitted_blocks(u), 1);
    assert_int_equal(put(u, ann, 3, 8 * MIB, 0), 0);
    assert_int_equal(put(u, ann, 3, 8 * MIB, 0), 0); /* at the same time as another one's */
    assert_int_equal(uncommitted_blocks(u), 2);
    uncommitted_free(u);
}

/* Nobody takes all rows, however small his blocks are. */
static void test_rows(void **state)
{
    (void)state;
    enum { BATCH = 4096, MOST = UNCOMMITTED_ROWS / UNCOMMITTED_SHARE };
    struct uncommitted *u = uncommitted_new();
    struct uncommitted_block *v = calloc(BATCH, sizeof *v);
    bool *stored = malloc(BATCH);
    char why[256];
    unsigned n = 0;
    memset(stored, 1, BATCH);
    for (int r = 0; !r; n += r ? 0 : BATCH) {
        for (unsigned i = 0; i < BATCH; i++)
            v[i] = block(n + i, 1);
        r = uncommitted_admit(u, ann, v, BATCH, 0, why);
        if (!r)
            uncommitted_put(u, ann, v, stored, BATCH, 0);
    }
    assert_int_equal(n, MOST);
    assert_int_equal(put(u, bob, 1, 1, 0), 0);
    uncommitted_free(u);
    free(stored);
    free(v);
}

/* Each is asked about once in a pass, and what is new in the next page. */
static void test_passes(void **state)
{
    (void)state;
    struct uncommitted *u = uncommitted_new();
    struct uncommitted_row rows[4];
    struct uncommitted_block under_way = block(100, 1);
    char why[256];
    assert_int_equal(uncommitted_next(u, rows, 4), 0);
    assert_false(uncommitted_pressing(u));
    assert_int_equal(uncommitted_admit(u, ann, &under_way, 1, 0, why), 0);
    assert_int_equal(uncommitted_next(u, rows, 4), 0);
    assert_true(uncommitted_pressing(u)); /* whose quota is not known, and nobody was asked */
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(put(u, ann, i, 1, 0), 0);
    for (int pass = 0; pass < 3; pass++) {
        assert_int_equal(uncommitted_next(u, rows, 4), 4);
        assert_false(uncommitted_pressing(u));
        assert_int_equal(uncommitted_next(u, rows, 4), 2 + (pass > 1));
        if (pass == 1)
            assert_int_equal(put(u, bob, 9, 1, 0), 0);
        if (pass == 1)
            assert_int_equal(uncommitted_next(u, rows, 4), 1);
        assert_int_equal(uncommitted_next(u, rows, 4), 0);
    }
    uncommitted_quota(u, 10, 0);
    assert_int_equal(put(u, (struct uncommitted_party){3, 10}, 20, 1, 0), 0);
    assert_false(uncommitted_pressing(u));
    uncommitted_free(u);
}

/* Of who was refused what is old is named, page by page; of others nothing. */
static void test_given_up(void **state)
{
    (void)state;
    struct uncommitted *u = uncommitted_new();
    struct uncommitted_row rows[32];
    assert_int_equal(put(u, ann, 0, MIB, 0), 0);
    assert_int_equal(put(u, bob, 100, MIB, 0), 0);
    uncommitted_quota(u, 10, 1);
    for (unsigned i = 1; i < UNCOMMITTED_LEAST / MIB; i++) /* put at the time i */
        assert_int_equal(put(u, ann, i, MIB, 0), 0);
    assert_int_equal(uncommitted_given_up(u, 1000, rows, 32), 0); /* nobody was refused */
    assert_int_equal(put(u, ann, 200, MIB, 0), -EDQUOT);
    size_t n = uncommitted_given_up(u, 39, rows, 32);
    assert_int_equal(n, 32);
    for (size_t i = 0; i < n; i++) {
        unsigned number;
        memcpy(&number, rows[i].id.b + 1, sizeof number);
        assert_true(rows[i].ns == 10 && number < 40);
        uncommitted_settle(u, 10, &rows[i].id);
    }
    assert_int_equal(uncommitted_given_up(u, 39, rows, 32), 8);
    assert_int_equal(uncommitted_given_up(u, 39, rows, 32), 0); /* until he is refused again */
    assert_int_equal(put(u, ann, 200, MIB, 0), 0);
    uncommitted_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota),     cmocka_unit_test(test_without_quota),
        cmocka_unit_test(test_under_way), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_passes),    cmocka_unit_test(test_given_up),
    };
    return cmocka_run_group_tests_name("uncommitted", tests, NULL, NULL);
}
