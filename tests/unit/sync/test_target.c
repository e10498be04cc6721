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

/* Only of the same rank, by far, and by what was measured. */
static void one_in_use_is_left_for_a_much_quicker_one(void **state)
{
    (void)state;
    struct target_candidate a = {.server = 1, .cost_ms = 900, .measured = true, .usable = true},
                            b = {.server = 2, .cost_ms = 301, .measured = true, .usable = true};
    assert_false(target_leave(&a, &b));
    b.cost_ms = 299;
    assert_true(target_leave(&a, &b));
    assert_false(target_leave(&a, &a));
    b.usable = false;
    assert_false(target_leave(&a, &b));
    b.usable = true;
    b.measured = false;
    assert_false(target_leave(&a, &b));
    b.measured = true;
    b.priority = 1;
    assert_false(target_leave(&a, &b));
    a.priority = 1;
    a.preferred = true;
    assert_false(target_leave(&a, &b));
    b.preferred = true;
    assert_true(target_leave(&a, &b));
    a.cost_ms = 40; /* a hundred times as long, of nearly nothing */
    b.cost_ms = 0.4;
    assert_false(target_leave(&a, &b));
}

/* Two that take turns at being slow: it stays longer and longer. */
static void leaving_again_and_again_takes_longer(void **state)
{
    (void)state;
    struct target_stay s = {0};
    int64_t now = 1000;
    unsigned times = 0;
    for (; now < 1000 + 3600 * 1000; now += 100)
        if (target_may_leave(&s, now)) {
            target_left(&s, now);
            times++;
        }
    assert_in_range(times, 5, 15); /* in an hour */
    assert_true(s.pause == TARGET_STAY_MAX_MS);
    now += TARGET_CALM * s.pause;
    assert_true(target_may_leave(&s, now));
    target_left(&s, now);
    assert_int_equal(s.pause, TARGET_STAY_MS);
}

static void a_flow_is_measured_over_all_calls(void **state)
{
    (void)state;
    struct flow f = {0};
    double mib = 1048576;
    assert_true(flow_speed(&f, 5) == 0);
    assert_int_equal(flow_falls(&f, 1), INT64_MAX);
    for (int k = 0; k < 4; k++)
        flow_begin(&f, 1000, mib); /* four at a time */
    for (int k = 0; k < 4; k++)
        flow_end(&f, 1100 + k * 100, mib, mib, 0);
    assert_true(f.bytes_ms > 0.9 * mib / 100 && f.bytes_ms < 1.1 * mib / 100 && f.at == 1400);
    double was = f.bytes_ms;
    assert_true(flow_speed(&f, 100000) == was); /* nothing is under way: it says nothing */
    flow_begin(&f, 5000, 1000);                 /* a small one tells of the latency only */
    flow_end(&f, 9000, 1000, 1000, 0);
    assert_true(f.bytes_ms == was);
    flow_begin(&f, 10000, mib);
    assert_true(flow_speed(&f, 10001) == was);
    int64_t at = flow_falls(&f, was / 4);
    assert_true(at > 10390 && at < 10410);
    assert_true(flow_speed(&f, at) <= was / 4);
    assert_true(flow_speed(&f, at - 50) > was / 4);
    flow_settle(&f, at);
    flow_end(&f, at, mib, 0, 0); /* given up */
    assert_true(f.bytes_ms <= was / 4 && f.bytes_ms > 0);
    was = f.bytes_ms;
    flow_gave_up(&f, at, mib, 1); /* it might have been quick */
    assert_true(f.bytes_ms == was);
    flow_gave_up(&f, at, mib, 1e6);
    assert_true(f.bytes_ms < was);
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
        cmocka_unit_test(one_in_use_is_left_for_a_much_quicker_one),
        cmocka_unit_test(leaving_again_and_again_takes_longer),
        cmocka_unit_test(a_flow_is_measured_over_all_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
