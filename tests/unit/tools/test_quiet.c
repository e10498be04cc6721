// SPDX-License-Identifier: Apache-2.0
/* Lines that are alike: once a minute, and their number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quiet.h"

static void alike_is_written_once_a_minute(void **state)
{
    (void)state;
    struct quiet q;
    uint64_t n;
    quiet_init(&q);
    assert_true(quiet_allows(&q, "diff: not a member", "10.0.0.1:4711", 1000, &n));
    assert_int_equal(n, 0);
    for (unsigned k = 0; k < 1000; k++)
        assert_false(quiet_allows(&q, "diff: not a member", "10.0.0.1:4712", 1001 + k, &n));
    assert_true(quiet_allows(&q, "diff: not a member", "10.0.0.1:1", 1000 + QUIET_MS, &n));
    assert_int_equal(n, 1000);
    assert_false(quiet_allows(&q, "diff: not a member", "10.0.0.1:1", 1001 + QUIET_MS, &n));
}

static void others_are_not_held_back(void **state)
{
    (void)state;
    struct quiet q;
    uint64_t n;
    quiet_init(&q);
    assert_true(quiet_allows(&q, "diff: not a member", "10.0.0.1:1", 0, &n));
    assert_true(quiet_allows(&q, "diff: not a member", "10.0.0.2:1", 0, &n));
    assert_true(quiet_allows(&q, "diff: disk full", "10.0.0.1:1", 0, &n));
    assert_true(quiet_allows(&q, "", "", 0, &n));
    assert_false(quiet_allows(&q, "", "", 0, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alike_is_written_once_a_minute),
        cmocka_unit_test(others_are_not_held_back),
    };
    return cmocka_run_group_tests_name("quiet", tests, NULL, NULL);
}
