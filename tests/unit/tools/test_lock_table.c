// SPDX-License-Identifier: Apache-2.0
/* The metadata server's table of locks: who gets what, in which order, and what a lease, a late
 * request, a new run or a new server changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "locks.h"
#include "lockset.h"

#define NS 1
#define NODE 77
#define RUN 5

static int64_t now;
static struct locks *table;
static unsigned news[8]; /* by device: whether it has to ask */
static struct arena arena;
static uint64_t seq;

static int64_t clock_of_test(void)
{
    return now;
}

static void on_news(void *ctx, uint64_t device, bool any)
{
    (void)ctx;
    news[device] = any;
}

static void begin(void)
{
    struct locks_options o = {
        .now_ms = clock_of_test, .lease_ms = 1000, .epoch = (uint64_t)now + 1, .news = on_news};
    table = locks_new(&o);
}

static int set_up(void **state)
{
    (void)state;
    now = 100;
    memset(news, 0, sizeof news);
    begin();
    now += 1000; /* nobody had anything before */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    locks_free(table);
    arena_free(&arena);
    return 0;
}

static struct m_lock_range range(bool exclusive, uint64_t off, uint64_t end)
{
    return (struct m_lock_range){.exclusive = exclusive, .off = off, .end = end};
}
static struct m_lock_range patient(bool exclusive, uint64_t off, uint64_t end)
{
    struct m_lock_range r = range(exclusive, off, end);
    r.patient = true;
    return r;
}

/* One request: holds `hold` and wants `want` (NULL: neither). */
static struct m_lock_ans ask(uint64_t device, const struct m_lock_range *hold,
                             const struct m_lock_range *want)
{
    struct m_lock_range h = {0}, w = {0};
    struct m_lock_req q = {.ns = NS, .node = NODE, .run = RUN, .seq = ++seq};
    struct m_lock_ans a = {0};
    if (hold) {
        h = *hold;
        q.hold = &h;
        q.hold_n = 1;
    }
    if (want) {
        w = *want;
        q.want = &w;
        q.want_n = 1;
    }
    assert_int_equal(locks_request(table, device, &q, &a, &arena), 0);
    return a;
}

static bool gets(uint64_t device, const struct m_lock_range *hold, struct m_lock_range want)
{
    struct m_lock_ans a = ask(device, hold, &want);
    return !a.overtaken && !a.lost && !a.again_ms && a.busy_n == 0;
}

static void devices_exclude_each_other(void **state)
{
    (void)state;
    struct m_lock_range mine = range(true, 0, 10);
    assert_true(gets(1, NULL, mine));
    struct m_lock_range want = range(false, 9, 20);
    struct m_lock_ans a = ask(2, NULL, &want);
    assert_int_equal(a.busy_n, 1);
    assert_true(a.busy[0].other_set && a.busy[0].other.end == 10 && a.busy[0].other.exclusive);
    assert_true(gets(2, NULL, range(true, 10, 20)));
    assert_true(gets(1, &mine, range(true, 5, 9))); /* itself it is not in the way of */
    struct m_lock_range test = range(true, 12, 13);
    test.test = true;
    a = ask(1, &mine, &test);
    assert_int_equal(a.busy_n, 1);
    test.off = 20;
    test.end = 30;
    a = ask(1, &mine, &test);
    assert_int_equal(a.busy_n, 0);
    assert_true(gets(3, NULL, range(true, 25, 26))); /* a test takes nothing */
}

static void what_is_not_named_is_released(void **state)
{
    (void)state;
    struct m_lock_range mine = range(true, 0, 10), less = range(false, 0, 5);
    assert_true(gets(1, NULL, mine));
    ask(1, &less, NULL);
    assert_false(gets(2, NULL, range(true, 4, 5)));
    assert_true(gets(2, NULL, range(false, 4, 5)));
    ask(2, NULL, NULL);
    assert_true(gets(2, NULL, range(true, 5, 10)));
    ask(1, NULL, NULL);
    struct m_lock_range theirs = range(true, 5, 10);
    assert_true(gets(2, &theirs, range(true, 0, 10)));
}

static void waiting_is_in_turn(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10), want = patient(true, 0, 10);
    assert_true(gets(1, NULL, all));
    assert_int_equal(ask(2, NULL, &want).busy_n, 1);
    assert_int_equal(ask(3, NULL, &want).busy_n, 1);
    assert_int_equal(ask(2, NULL, &want).busy_n, 1); /* asking again keeps the place */
    assert_false(news[2] || news[3]);
    ask(1, NULL, NULL);
    assert_true(news[2] && !news[3]);
    assert_false(gets(1, NULL, all)); /* it is kept for who was told */
    assert_int_equal(ask(2, NULL, &want).busy_n, 0);
    assert_false(news[2]);
    ask(2, NULL, NULL);
    assert_true(news[3]);
    ask(3, NULL, NULL); /* not wanted any more */
    assert_false(news[3]);
    assert_true(gets(1, NULL, all));
}

/* Who gives back and wants again in one request comes behind those who waited. */
static void who_releases_comes_last(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10), want = patient(true, 0, 10);
    assert_true(gets(1, NULL, all));
    assert_int_equal(ask(2, NULL, &want).busy_n, 1);
    assert_int_equal(ask(1, NULL, &want).busy_n, 1);
    assert_true(news[2] && !news[1]);
    assert_int_equal(ask(3, NULL, &want).busy_n, 1);
    assert_int_equal(ask(2, NULL, &want).busy_n, 0);
    assert_int_equal(ask(2, NULL, NULL).busy_n, 0);
    assert_true(news[1] && !news[3]); /* asking again is no leaving of the queue */
    assert_int_equal(ask(1, NULL, &want).busy_n, 0);
}

static void who_leaves_has_no_locks(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10), want = patient(true, 0, 10);
    assert_true(gets(1, NULL, all));
    assert_int_equal(ask(2, NULL, &want).busy_n, 1);
    locks_leave(table, 1, NS + 1); /* of another namespace */
    locks_leave(table, 7, NS);
    assert_false(news[2]);
    locks_leave(table, 1, NS);
    assert_true(news[2]);
    assert_true(ask(1, &all, NULL).lost);
}

static void a_device_has_so_many_ranges(void **state)
{
    (void)state;
    struct m_lock_range r[LOCK_RANGES_MAX];
    for (uint64_t i = 0; i < LOCK_RANGES_MAX; i++)
        r[i] = range(true, 2 * i, 2 * i + 1);
    struct m_lock_req q = {.ns = NS, .run = RUN, .want = r, .want_n = LOCK_RANGES_MAX};
    for (; q.node < LOCK_DEVICE_RANGES_MAX / LOCK_RANGES_MAX; q.node++) {
        struct m_lock_ans a = {0};
        q.seq = ++seq;
        assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
        assert_int_equal(a.busy_n, 0);
    }
    struct m_lock_ans a = {0};
    q.seq = ++seq;
    q.want_n = 1;
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), -ENOSPC);
    q.node = 0; /* less always fits, and makes room */
    q.seq = ++seq;
    q.hold = r;
    q.hold_n = LOCK_RANGES_MAX - 1;
    q.want_n = 0;
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
    assert_false(a.lost);
    q.node = 100000;
    q.seq = ++seq;
    q.hold_n = 0;
    q.want_n = 1;
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
    q.seq = ++seq;
    q.want_n = 2;
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), -ENOSPC);
}

static void so_many_devices_lock_a_file(void **state)
{
    (void)state;
    struct m_lock_range r = range(false, 0, 1);
    struct m_lock_req q = {.ns = NS, .node = NODE, .run = RUN, .seq = 1, .want = &r, .want_n = 1};
    struct m_lock_ans a = {0};
    uint64_t device = 100;
    for (; device < 100 + LOCK_DEVICES_MAX; device++)
        assert_int_equal(locks_request(table, device, &q, &a, &arena), 0);
    assert_int_equal(locks_request(table, device, &q, &a, &arena), -ENOSPC);
    locks_leave(table, 100, NS);
    assert_int_equal(locks_request(table, device, &q, &a, &arena), 0);
}

static void a_lease_ends(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10), want = patient(true, 0, 10);
    assert_true(gets(1, NULL, all));
    now += 600;
    assert_int_equal(ask(2, NULL, &want).busy_n, 1);
    assert_int_equal(locks_expire(table), 400);
    now += 399;
    locks_expire(table);
    assert_false(news[2]);
    now += 1;
    locks_expire(table);
    assert_true(news[2]);
    assert_int_equal(ask(2, NULL, &want).busy_n, 0);
    struct m_lock_ans a = ask(1, &all, NULL); /* it hears of it, and has nothing */
    assert_true(a.lost);
    assert_false(gets(1, NULL, all));
    ask(2, NULL, NULL);
    a = ask(1, &all, NULL); /* though it is free again: others have been there */
    assert_true(a.lost);
    assert_true(gets(1, NULL, all));
}

static void signs_of_life_renew_it(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10);
    assert_true(gets(1, NULL, all));
    for (unsigned i = 0; i < 5; i++) {
        now += 900;
        struct m_lock_req q = {.run = RUN, .seq = ++seq};
        struct m_lock_ans a = {0};
        assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
        assert_int_equal(a.lease_ms, 1000);
        assert_false(gets(2, NULL, all));
    }
}

static void late_requests_do_nothing(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10);
    struct m_lock_req late = {
        .ns = NS, .node = NODE, .run = RUN, .seq = ++seq, .want = &all, .want_n = 1};
    struct m_lock_ans a = {0};
    ask(1, NULL, NULL); /* given up before it arrived */
    assert_int_equal(locks_request(table, 1, &late, &a, &arena), 0);
    assert_true(a.overtaken);
    assert_true(gets(2, NULL, all));
    ask(2, NULL, NULL);
    assert_true(gets(1, NULL, all));
    a = (struct m_lock_ans){0};
    late.want_n = 0;
    assert_int_equal(locks_request(table, 1, &late, &a, &arena), 0);
    assert_true(a.overtaken);
    assert_false(gets(2, NULL, all));
}

static void a_new_run_has_nothing_of_the_old(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10), want = patient(true, 0, 10);
    assert_true(gets(1, NULL, all));
    assert_int_equal(ask(2, NULL, &want).busy_n, 1);
    struct m_lock_req q = {.run = RUN + 1, .seq = 1};
    struct m_lock_ans a = {0};
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
    assert_true(news[2]);
    assert_true(ask(1, NULL, &all).overtaken); /* what the old one still sends */
}

static void a_new_server_asks_first(void **state)
{
    (void)state;
    struct m_lock_range all = range(true, 0, 10), other = range(true, 5, 6);
    assert_true(gets(1, NULL, all));
    locks_free(table);
    begin();
    struct m_lock_ans a = ask(2, NULL, &other);
    assert_int_equal(a.again_ms, 1000); /* nothing is given */
    now += 500;
    a = ask(1, &all, NULL); /* who had it says so */
    assert_false(a.lost || a.again_ms);
    a = ask(2, &other, NULL); /* not both */
    assert_true(a.lost);
    now += 500;
    assert_false(gets(2, NULL, other));
    a = ask(3, &other, NULL); /* and not later */
    assert_true(a.lost);
    ask(1, NULL, NULL);
    assert_true(gets(2, NULL, other));
}

static void bounds_and_nonsense(void **state)
{
    (void)state;
    struct m_lock_range r = range(true, 5, 5);
    struct m_lock_req q = {.ns = NS, .node = NODE, .run = RUN, .seq = 1, .want = &r, .want_n = 1};
    struct m_lock_ans a = {0};
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), -EINVAL);
    r = range(true, 0, 1);
    for (uint64_t i = 0; i < LOCK_FILES_MAX; i++) {
        a = (struct m_lock_ans){0};
        q.node = i + 1;
        q.seq = i + 2;
        assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
    }
    q.node++;
    q.seq++;
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), -ENOSPC);
    struct m_lock_range want[2] = {range(true, 50, 51), range(true, 60, 61)}, held[LOCK_RANGES_MAX];
    for (uint64_t i = 0; i < LOCK_RANGES_MAX; i++)
        held[i] = range(true, 2 * i, 2 * i + 1);
    q = (struct m_lock_req){
        .ns = NS, .node = 1, .run = RUN, .seq = 1, .want = held, .want_n = LOCK_RANGES_MAX};
    a = (struct m_lock_ans){0};
    assert_int_equal(locks_request(table, 2, &q, &a, &arena), 0);
    assert_int_equal(a.busy_n, 1); /* the first is another's; the rest fits */
    want[0].off = 2000;
    want[0].end = 2001;
    want[1].off = 3000;
    want[1].end = 3001;
    q = (struct m_lock_req){.ns = NS,
                            .node = 1,
                            .run = RUN,
                            .seq = 2,
                            .hold = held + 1,
                            .hold_n = LOCK_RANGES_MAX - 1,
                            .want = want,
                            .want_n = 2};
    a = (struct m_lock_ans){0};
    assert_int_equal(locks_request(table, 2, &q, &a, &arena), 0);
    assert_int_equal(a.busy_n, 1);
    assert_int_equal(a.busy[0].want, 1);
    assert_false(a.busy[0].other_set); /* nobody: there are too many */
}

/* A request of a device that holds [n, n + 1) of node 100 + n, and waits for the same of node 100 +
 * m while it keeps that. */
static struct m_lock_ans waits_with(uint64_t device, uint64_t n, uint64_t m)
{
    struct m_lock_range w = patient(true, m, m + 1);
    struct m_lock_stay stay = {
        .ns = NS, .node = 100 + n, .range_set = true, .range = range(true, n, n + 1)};
    struct m_lock_req q = {.ns = NS, .node = 100 + m, .run = RUN, .seq = ++seq};
    struct m_lock_ans a = {0};
    q.want = &w;
    q.stays = &stay;
    q.want_n = q.stays_n = 1;
    assert_int_equal(locks_request(table, device, &q, &a, &arena), 0);
    assert_int_equal(a.busy_n, 1);
    return a;
}

static void holds(uint64_t device, uint64_t n)
{
    struct m_lock_range w = range(true, n, n + 1);
    struct m_lock_req q = {
        .ns = NS, .node = 100 + n, .run = RUN, .seq = ++seq, .want = &w, .want_n = 1};
    struct m_lock_ans a = {0};
    assert_int_equal(locks_request(table, device, &q, &a, &arena), 0);
    assert_true(a.busy_n == 0 && a.circles);
}

static void gives_up(uint64_t device, uint64_t n)
{
    struct m_lock_req q = {.ns = NS, .node = 100 + n, .run = RUN, .seq = ++seq};
    struct m_lock_ans a = {0};
    assert_int_equal(locks_request(table, device, &q, &a, &arena), 0);
}

static void circles_are_noticed(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 4; n++)
        holds(n, n);
    /* 1 waits for 2, 2 for 3, 4 for 3: no circle; then 3 for 1: one, and 3 does not wait */
    assert_false(waits_with(1, 1, 2).busy[0].circle);
    assert_false(waits_with(2, 2, 3).busy[0].circle);
    assert_false(waits_with(4, 4, 3).busy[0].circle);
    assert_true(waits_with(3, 3, 1).busy[0].circle);
    /* … nor once 1 has gone, whatever it said before */
    gives_up(1, 2);
    assert_false(waits_with(3, 3, 1).busy[0].circle);
    gives_up(3, 1);
    /* what is kept is what is really held */
    assert_false(waits_with(1, 1, 2).busy[0].circle);
    gives_up(2, 2); /* it was given to 1, who was told */
    assert_true(news[1]);
    assert_false(waits_with(3, 3, 1).busy[0].circle);
}

static void stays_of_nothing_are_refused(void **state)
{
    (void)state;
    struct m_lock_range w = patient(true, 0, 1);
    struct m_lock_stay stay = {
        .ns = NS, .node = NODE, .range_set = true, .range = range(true, 0, 1)};
    struct m_lock_req q = {
        .ns = NS, .node = NODE, .run = RUN, .seq = ++seq, .stays = &stay, .stays_n = 1};
    struct m_lock_ans a = {0};
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), -EINVAL); /* want 0 of none */
    q.want = &w;
    q.want_n = 1;
    stay.range = range(true, 3, 3);
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), -EINVAL);
    stay.range.end = 4;
    assert_int_equal(locks_request(table, 1, &q, &a, &arena), 0);
}

/* Another program of the same device holds it: that one may go on, and release it. */
static void who_holds_without_waiting_is_in_no_circle(void **state)
{
    (void)state;
    holds(1, 1);
    holds(1, 5);
    holds(2, 2);
    assert_false(waits_with(1, 5, 2).busy[0].circle); /* its owner keeps 5 only */
    assert_false(waits_with(2, 2, 1).busy[0].circle);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(devices_exclude_each_other),
        T(what_is_not_named_is_released),
        T(waiting_is_in_turn),
        T(who_releases_comes_last),
        T(who_leaves_has_no_locks),
        T(a_device_has_so_many_ranges),
        T(so_many_devices_lock_a_file),
        T(a_lease_ends),
        T(signs_of_life_renew_it),
        T(late_requests_do_nothing),
        T(a_new_run_has_nothing_of_the_old),
        T(a_new_server_asks_first),
        T(bounds_and_nonsense),
        T(circles_are_noticed),
        T(stays_of_nothing_are_refused),
        T(who_holds_without_waiting_is_in_no_circle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
