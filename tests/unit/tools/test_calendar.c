// SPDX-License-Identifier: Apache-2.0
/* A time of day that leaps ahead is not believed at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "calendar.h"

#define DAY_MS (24ll * 3600 * 1000)
#define NOW (20000 * DAY_MS)

static void corrections_are_believed(void **state)
{
    (void)state;
    struct calendar c = {0};
    assert_true(calendar_believes(&c, NOW, 0));
    assert_true(calendar_believes(&c, NOW + 60000, 60000));
    assert_true(calendar_believes(&c, NOW + 120000 + CALENDAR_LEAP_MS - 1, 120000));
    assert_true(calendar_believes(&c, NOW - 10 * DAY_MS, 180000)); /* nothing is too old by that */
}

static void a_leap_is_waited_for(void **state)
{
    (void)state;
    struct calendar c = {0};
    assert_true(calendar_believes(&c, NOW, 5000));
    assert_false(calendar_believes(&c, NOW + 3650 * DAY_MS, 5001));
    assert_false(calendar_believes(&c, NOW + 3650 * DAY_MS + DAY_MS / 2, 5001 + DAY_MS / 2));
    assert_true(calendar_believes(&c, NOW + DAY_MS, 5000 + DAY_MS)); /* it was a mistake */
    assert_false(calendar_believes(&c, NOW + 3650 * DAY_MS, 6000 + DAY_MS));
    assert_false(calendar_believes(&c, NOW + 3651 * DAY_MS, 5999 + DAY_MS + CALENDAR_DOUBT_MS));
    assert_true(calendar_believes(&c, NOW + 3651 * DAY_MS, 6000 + DAY_MS + CALENDAR_DOUBT_MS));
    assert_true(calendar_believes(&c, NOW + 3651 * DAY_MS + 1, 6001 + DAY_MS + CALENDAR_DOUBT_MS));
}

static void who_was_off_for_long_waits(void **state)
{
    (void)state;
    struct calendar c;
    calendar_begin(&c, 0, NOW, 5); /* a new one */
    assert_true(calendar_believes(&c, NOW, 5));
    calendar_begin(&c, NOW - CALENDAR_AWAY_MS, NOW, 5);
    assert_true(calendar_believes(&c, NOW, 5));
    calendar_begin(&c, NOW + DAY_MS, NOW, 5); /* it was wrong before */
    assert_true(calendar_believes(&c, NOW, 5));
    calendar_begin(&c, NOW - 31 * DAY_MS, NOW, 5); /* a month off, or a clock without a battery */
    assert_false(calendar_believes(&c, NOW, 5));
    assert_true(calendar_believes(&c, NOW - 31 * DAY_MS + 60000, 60005)); /* set right */
    calendar_begin(&c, NOW - 31 * DAY_MS, NOW, 5);
    assert_false(calendar_believes(&c, NOW, 5));
    assert_true(calendar_believes(&c, NOW + CALENDAR_DOUBT_MS, 5 + CALENDAR_DOUBT_MS));
}

static void a_machine_that_slept_is_believed(void **state)
{
    (void)state;
    struct calendar c = {0};
    assert_true(calendar_believes(&c, NOW, 0));
    assert_true(calendar_believes(&c, NOW + 30 * DAY_MS, 30 * DAY_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corrections_are_believed),
        cmocka_unit_test(a_leap_is_waited_for),
        cmocka_unit_test(who_was_off_for_long_waits),
        cmocka_unit_test(a_machine_that_slept_is_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
