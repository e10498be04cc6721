// SPDX-License-Identifier: Apache-2.0
/* The choice among candidates, and back-off with an injected clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync_pace.h"
#include "sync_target.h"

static void chooses_by_premises_priority_use_and_round_trip(void **state)
{
    (void)state;
    uint64_t out[8];
    struct target_candidate v[] = {
        {.server = 1, .priority = 1, .cost_ms = 1, .usable = true},
        {.server = 2, .priority = 0, .cost_ms = 9, .usable = true},
        {.server = 3, .priority = 0, .cost_ms = 5, .usable = true},
        {.server = 4, .priority = 2, .cost_ms = 50, .usable = true, .preferred = true},
        {.server = 5, .priority = 0, .cost_ms = 1, .usable = false},
    };
    assert_int_equal(target_choose(v, 5, out, 8), 4);
    assert_int_equal(out[0], 4); /* preferred premises before priority */
    assert_int_equal(out[1], 3); /* then the shorter round trip */
    assert_int_equal(out[2], 2);
    assert_int_equal(out[3], 1);
    v[1].current = true; /* one in use is not left for a shorter round trip, */
    assert_int_equal(target_choose(v, 5, out, 2), 2);
    assert_int_equal(out[1], 2);
    v[1].priority = 1; /* but for a better priority */
    assert_int_equal(target_choose(v, 5, out, 2), 2);
    assert_int_equal(out[1], 3);
    assert_int_equal(target_choose(v, 0, out, 2), 0);
}

static void equal_candidates_are_all_found(void **state)
{
    (void)state;
    uint64_t out[3];
    struct target_candidate v[] = {{.server = 7, .usable = true},
                                   {.server = 5, .usable = true},
                                   {.server = 6, .usable = true}};
    assert_int_equal(target_choose(v, 3, out, 3), 3);
    assert_int_equal(out[0], 5);
    assert_int_equal(out[1], 6);
    assert_int_equal(out[2], 7);
}

static void backs_off_within_bounds(void **state)
{
    (void)state;
    struct backoff b = {0};
    int64_t now = 1000;
    for (unsigned k = 0; k < 40; k++) {
        backoff_failed(&b, now, 0xffffffffu * (k & 1));
        int64_t pause = b.until - now,
                full = k < 8 ? (int64_t)BACKOFF_FIRST_MS << k : BACKOFF_MAX_MS;
        if (full > BACKOFF_MAX_MS)
            full = BACKOFF_MAX_MS;
        assert_true(pause >= full / 2 && pause <= full);
        assert_true(backoff_due(&b, true) <= now + BACKOFF_AWAITED_MS);
        assert_int_equal(backoff_due(&b, false), b.until);
        now = b.until;
    }
    backoff_ok(&b);
    assert_int_equal(b.fails, 0);
    assert_int_equal(backoff_due(&b, false), 0);
}

static void averages_round_trips(void **state)
{
    (void)state;
    double a = target_rtt(0, 10);
    assert_true(a == 10);
    a = target_rtt(a, 20);
    assert_true(a > 10 && a < 15);
}

static void an_answer_is_late_by_what_was_measured(void **state)
{
    (void)state;
    struct pace p = {0};
    assert_int_equal(pace_late_ms(&p, 1), PACE_UNKNOWN_MS);
    for (int k = 0; k < 50; k++)
        pace_took(&p, 4096, 1, 100);
    int64_t steady = pace_late_ms(&p, 1);
    assert_true(steady >= 100 && steady < 150); /* it always takes 100 */
    for (int k = 0; k < 50; k++)
        pace_took(&p, 4096, 1, k % 2 ? 50 : 150);
    int64_t uneven = pace_late_ms(&p, 1);
    assert_true(uneven > 2 * steady && uneven < 500); /* as long on average, but it varies */
    p = (struct pace){0};
    for (int k = 0; k < 50; k++)
        pace_took(&p, 4096, 1, 0.5);
    assert_int_equal(pace_late_ms(&p, 1), PACE_LATE_MIN_MS);
    for (int k = 0; k < 50; k++)
        pace_took(&p, 4u << 20, 4, 400.5); /* 10 MiB/s, 1 MiB a block */
    int64_t one = pace_late_ms(&p, 1), four = pace_late_ms(&p, 4);
    assert_true(one >= 200 && one < 250); /* twice of what a block takes */
    assert_true(four >= 790 && four < 900);
    assert_int_equal(pace_late_ms(&p, 32), PACE_LATE_MAX_MS);
    assert_true(pace_expect(&p, 10485760) > 900 && pace_expect(&p, 10485760) < 1100);
    double before = p.latency_ms;
    pace_gave_up(&p, before / 2); /* says nothing: it might have been quick */
    assert_true(p.latency_ms == before);
    pace_gave_up(&p, 1000);
    assert_true(p.latency_ms > before);
}

static void asking_twice_is_paid_for(void **state)
{
    (void)state;
    struct pace_budget b = {0};
    assert_false(pace_spend(&b, 1));
    pace_earn(&b, 1000, 10);
    assert_true(pace_spend(&b, 60));
    assert_false(pace_spend(&b, 60));
    assert_true(pace_spend(&b, 40));
    pace_earn(&b, 1e12, 10);
    assert_true(b.saved == PACE_SAVED_MAX);
    b.saved = 0;
    pace_earn(&b, 1e12, 0);
    assert_false(pace_spend(&b, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_by_premises_priority_use_and_round_trip),
        cmocka_unit_test(equal_candidates_are_all_found),
        cmocka_unit_test(backs_off_within_bounds),
        cmocka_unit_test(averages_round_trips),
        cmocka_unit_test(an_answer_is_late_by_what_was_measured),
        cmocka_unit_test(asking_twice_is_paid_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
