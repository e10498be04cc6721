// SPDX-License-Identifier: Apache-2.0
/* What is missed here: each once for a while, and no more than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "missing.h"

#include <string.h>

static struct block_id id_of(unsigned n)
{
    struct block_id id = {{0}};
    memcpy(id.b + 1, &n, sizeof n);
    return id;
}

static void each_is_told_once_for_a_while(void **state)
{
    (void)state;
    struct missing m = {0};
    struct m_lost v[MISSING_MAX];
    struct block_id a = id_of(1), b = id_of(2);
    assert_true(missing_add(&m, 1, &a, 100));
    assert_false(missing_add(&m, 1, &a, 100));
    assert_true(missing_add(&m, 2, &a, 100)); /* another namespace's */
    assert_true(missing_add(&m, 1, &b, 100));
    assert_int_equal(missing_take(&m, 200, v), 3);
    assert_true(v[1].ns == 2 && block_id_equal(&v[1].block, &a));
    assert_int_equal(m.waiting, 0);
    assert_int_equal(missing_take(&m, 200, v), 0);
    assert_false(missing_add(&m, 1, &a, 200 + MISSING_AGAIN_MS - 1));
    assert_true(missing_add(&m, 1, &a, 200 + MISSING_AGAIN_MS));
    assert_int_equal(m.n, 3); /* in its own row */
    assert_int_equal(m.waiting, 1);
}

static void what_has_no_room_is_dropped(void **state)
{
    (void)state;
    struct missing m = {0};
    struct m_lost v[MISSING_MAX];
    struct block_id id, more = id_of(MISSING_MAX);
    for (unsigned i = 0; i < MISSING_MAX; i++) {
        id = id_of(i);
        assert_true(missing_add(&m, 1, &id, 1));
    }
    assert_false(missing_add(&m, 1, &more, 1 + 2 * MISSING_AGAIN_MS)); /* those that wait stay */
    assert_int_equal(missing_take(&m, 5, v), MISSING_MAX);
    assert_false(missing_add(&m, 1, &more, 5));
    assert_true(
        missing_add(&m, 1, &more, 5 + MISSING_AGAIN_MS)); /* in place of one that was told */
    assert_int_equal(m.n, MISSING_MAX);
    assert_int_equal(missing_take(&m, 6 + MISSING_AGAIN_MS, v), 1);
    assert_true(block_id_equal(&v[0].block, &more));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_told_once_for_a_while),
        cmocka_unit_test(what_has_no_room_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
