// SPDX-License-Identifier: Apache-2.0
/* The highest number that was told outlives the process, and is nobody else's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "durable.h"
#include "tempdir.h"
#include "tick.h"

#include <stdio.h>
#include <string.h>

static uint64_t kept(const char *dir, const char *credential)
{
    struct tick *t = tick_new(dir, credential, NULL);
    uint64_t v = tick_get(t);
    tick_free(t);
    return v;
}

static void what_was_told_is_kept(void **state)
{
    char *dir = tempdir_make();
    (void)state;
    assert_int_equal(kept(dir, "s.1.secret"), 1); /* none was told */
    struct tick *t = tick_new(dir, "s.1.secret", NULL);
    tick_heard(t, 0);
    assert_int_equal(tick_get(t), 1);
    tick_heard(t, 7);
    tick_heard(t, 5); /* an answer that came late */
    assert_int_equal(tick_get(t), 7);
    tick_heard(t, UINT64_MAX);
    assert_int_equal(tick_get(t), 7);
    assert_int_equal(kept(dir, "s.1.secret"), 1); /* in memory only, so far */
    assert_int_equal(tick_keep(t), 0);
    assert_int_equal(kept(dir, "s.1.secret"), 7); /* a crash from now on */
    tick_heard(t, 9);
    tick_free(t);
    assert_int_equal(kept(dir, "s.1.secret"), 9);
    assert_int_equal(kept(dir, "s.1.other"), 1); /* it joined anew: other numbers */
    tempdir_remove(dir);
}

static void a_file_that_is_none_says_nothing(void **state)
{
    static const char *const texts[] = {"", "x", "0123456789abcdef", "0123456789abcdef -3\n"};
    char *dir = tempdir_make();
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(durable_write(dir, "tick", texts[i], strlen(texts[i]), 0600), 0);
        assert_int_equal(kept(dir, "s.1.secret"), 1);
    }
    tempdir_remove(dir);
}

/* Then nothing is removed, and no loss forgotten. */
static void what_cannot_be_kept_is_an_error(void **state)
{
    char *dir = tempdir_make(), gone[256];
    (void)state;
    snprintf(gone, sizeof gone, "%s/gone", dir);
    struct tick *t = tick_new(gone, "s.1.secret", NULL);
    tick_heard(t, 3);
    assert_true(tick_keep(t) < 0);
    assert_int_equal(tick_get(t), 3);
    tick_free(t);
    t = tick_new(NULL, "s.1.secret", NULL);
    tick_heard(t, 3);
    assert_int_equal(tick_keep(t), 0);
    tick_free(t);
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_is_kept),
        cmocka_unit_test(a_file_that_is_none_says_nothing),
        cmocka_unit_test(what_cannot_be_kept_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
