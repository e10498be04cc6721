// SPDX-License-Identifier: Apache-2.0
/* locks=global: what the driver asks for, what it believes to hold, and when that ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

/* ---- locks=global ---- */
static struct m_lock_req lock_of(struct fake_call *c, struct arena *a)
{
    struct m_lock_req q;
    assert_int_equal(msg_decode(&m_lock_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, a, NULL),
                     0);
    return q;
}

static uint64_t lock_want(uint64_t off, uint64_t end, bool patient, struct result *r)
{
    struct m_lock_range range = {.exclusive = true, .off = off, .end = end, .patient = patient};
    pthread_mutex_lock(&fs.lock);
    uint64_t id = sync_lock_want(fs.sync, NS, 100, &range, NULL, result_done, r);
    pthread_mutex_unlock(&fs.lock);
    return id;
}

static bool lock_held(uint64_t off, uint64_t end)
{
    struct m_lock_range range = {.exclusive = true, .off = off, .end = end};
    pthread_mutex_lock(&fs.lock);
    bool held = sync_lock_covers(fs.sync, 100, &range);
    pthread_mutex_unlock(&fs.lock);
    return held;
}

static void answer_lock(struct fake_call *c, const struct m_lock_busy *busy, size_t busy_n)
{
    struct m_lock_busy copy[4];
    memcpy(copy, busy ? busy : copy, busy_n * sizeof *busy);
    struct m_lock_ans a = {.busy = copy, .busy_n = busy_n, .lease_ms = 60000, .epoch = 9};
    answer(c, &m_lock_ans_desc, &a);
}

static void a_request_states_what_is_held_and_wanted(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result first = {0}, second = {0}, third = {0};
    start();
    lock_want(0, 10, false, &first);
    struct fake_call *c = call_wait("lock");
    struct m_lock_req q = lock_of(c, &a);
    assert_int_equal(q.hold_n, 0);
    assert_int_equal(q.want_n, 1);
    uint64_t seq = q.seq, run = q.run;
    lock_want(20, 30, false, &second); /* while that is under way */
    lock_want(40, 50, true, &third);
    answer_lock(c, NULL, 0);
    WAIT_FOR(CALLED(first));
    assert_int_equal(first.err, 0);
    assert_true(lock_held(0, 10));
    c = call_wait("lock");
    q = lock_of(c, &a);
    assert_true(q.seq > seq && q.run == run);
    assert_int_equal(q.hold_n, 1);
    assert_int_equal(q.want_n, 2);
    struct m_lock_range other = {.exclusive = true, .off = 25, .end = 45};
    struct m_lock_busy busy[] = {{.want = 0, .other_set = true, .other = other},
                                 {.want = 1, .other_set = true, .other = other}};
    answer_lock(c, busy, 2);
    WAIT_FOR(CALLED(second));
    assert_int_equal(second.err, -EAGAIN);
    assert_false(CALLED(third)); /* it is patient */
    struct m_wait_ans news = {.locks = true};
    answer(call_wait("wait"), &m_wait_ans_desc, &news);
    c = call_wait("lock");
    assert_int_equal(lock_of(c, &a).want_n, 1);
    answer_lock(c, NULL, 0);
    WAIT_FOR(CALLED(third));
    assert_true(lock_held(0, 10) && lock_held(40, 50) && !lock_held(20, 21));
}

static void what_is_given_to_nobody_is_given_back(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0}, told = {0};
    start();
    uint64_t id = lock_want(0, 10, true, &r);
    struct fake_call *c = call_wait("lock");
    sync_cancel(fs.sync, id);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -EINTR);
    answer_lock(c, NULL, 0); /* too late */
    c = call_wait("lock");
    struct m_lock_req q = lock_of(c, &a);
    assert_int_equal(q.hold_n + q.want_n, 0);
    assert_false(lock_held(0, 10));
    pthread_mutex_lock(&fs.lock);
    assert_true(sync_lock_told(fs.sync, 100, result_done, &told) != 0);
    pthread_mutex_unlock(&fs.lock);
    assert_false(CALLED(told));
    answer_lock(c, NULL, 0);
    WAIT_FOR(CALLED(told));
}

static void a_lease_is_not_outlived(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    locks_lost = 0;
    lock_want(0, 10, false, &r);
    struct m_lock_ans a = {.lease_ms = 300, .epoch = 9};
    answer(call_wait("lock"), &m_lock_ans_desc, &a);
    WAIT_FOR(CALLED(r));
    struct arena cleanup_arena ar = {0};
    struct fake_call *alive = call_wait("lock"); /* a sign of life, and no answer to it */
    assert_int_equal(lock_of(alive, &ar).ns, 0);
    WAIT_FOR(locks_lost == 1);
    assert_false(lock_held(0, 10));
}

static void a_new_server_is_told_what_is_held(void **state)
{
    (void)state;
    struct arena cleanup_arena ar = {0};
    struct result r = {0}, more = {0};
    start();
    lock_want(0, 10, false, &r);
    struct m_lock_ans a = {.lease_ms = 300, .epoch = 9};
    answer(call_wait("lock"), &m_lock_ans_desc, &a);
    WAIT_FOR(CALLED(r));
    a.epoch = 10;
    a.lease_ms = 60000;
    answer(call_wait("lock"), &m_lock_ans_desc, &a);
    struct fake_call *c = call_wait("lock");
    assert_int_equal(lock_of(c, &ar).hold_n, 1);
    answer(c, &m_lock_ans_desc, &a);
    a.again_ms = 50; /* it gives nothing yet */
    lock_want(20, 30, false, &more);
    answer(call_wait("lock"), &m_lock_ans_desc, &a);
    a.again_ms = 0;
    c = call_wait("lock");
    assert_false(CALLED(more));
    answer(c, &m_lock_ans_desc, &a);
    WAIT_FOR(CALLED(more));
    assert_int_equal(more.err, 0);
    assert_true(lock_held(0, 10) && lock_held(20, 30));
}

static void what_is_only_held_costs_nothing(void **state)
{
    (void)state;
    enum { HELD = 200 };
    struct m_lock_range range = {.exclusive = true, .end = 10};
    uint64_t looks = 0;
    start();
    for (uint64_t node = 1000; node < 1000 + HELD; node++) {
        struct result r = {0};
        pthread_mutex_lock(&fs.lock);
        looks = fs.sync->lock_looks;
        sync_lock_want(fs.sync, NS, node, &range, NULL, result_done, &r);
        pthread_mutex_unlock(&fs.lock);
        answer_lock(call_wait("lock"), NULL, 0);
        WAIT_FOR(CALLED(r));
        assert_int_equal(r.err, 0);
    }
    pthread_mutex_lock(&fs.lock);
    looks = fs.sync->lock_looks - looks; /* of the last one */
    for (uint64_t node = 1000; node < 1000 + HELD; node++)
        assert_true(sync_lock_covers(fs.sync, node, &range));
    pthread_mutex_unlock(&fs.lock);
    assert_in_range(looks, 1, HELD / 4);
}

/* A server that has just begun keeps nothing free that it was not told of, so that it knows of one
 * file is no lease for another. */
static void a_lease_of_a_new_server_begins_when_it_knows_all(void **state)
{
    (void)state;
    struct arena cleanup_arena ar = {0};
    struct m_lock_range range = {.exclusive = true, .end = 10};
    struct m_lock_ans a = {.lease_ms = 1000, .epoch = 9};
    start();
    locks_lost = 0;
    for (uint64_t node = 100; node < 102; node++) {
        struct result r = {0};
        pthread_mutex_lock(&fs.lock);
        sync_lock_want(fs.sync, NS, node, &range, NULL, result_done, &r);
        pthread_mutex_unlock(&fs.lock);
        answer(call_wait("lock"), &m_lock_ans_desc, &a);
        WAIT_FOR(CALLED(r));
    }
    a.epoch = 10;
    a.lease_ms = 60000;
    answer(call_wait("lock"), &m_lock_ans_desc, &a); /* a sign of life */
    struct fake_call *c = call_wait("lock");
    assert_int_equal(lock_of(c, &ar).hold_n, 1);
    answer(c, &m_lock_ans_desc, &a); /* the other one is not answered */
    WAIT_FOR(locks_lost == 2);
}

/* An answer that comes after the end of the lease begins another one: what was held is lost. */
static void a_lease_that_ended_is_not_revived(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_lock_ans a = {.lease_ms = 300, .epoch = 9};
    start();
    locks_lost = 0;
    lock_want(0, 10, false, &r);
    answer(call_wait("lock"), &m_lock_ans_desc, &a);
    WAIT_FOR(CALLED(r));
    struct fake_call *alive = call_wait("lock");
    a.lease_ms = 60000;
    pthread_mutex_lock(&fs.lock); /* the driver has the answer in hand, and waits for this */
    answer(alive, &m_lock_ans_desc, &a);
    while (sync_lock_lease(fs.sync))
        usleep(1000);
    pthread_mutex_unlock(&fs.lock);
    WAIT_FOR(locks_lost == 1);
    assert_false(lock_held(0, 10));
}

/* Others are not to wait until the lease ends, which goes on. */
static void who_is_no_member_any_more_has_no_locks(void **state)
{
    (void)state;
    struct arena cleanup_arena ar = {0};
    struct result r = {0};
    start();
    locks_lost = 0;
    lock_want(0, 10, false, &r);
    answer_lock(call_wait("lock"), NULL, 0);
    WAIT_FOR(CALLED(r));
    struct m_wait_ans account = {.account_version = 1};
    answer(call_wait("wait"), &m_wait_ans_desc, &account);
    account.account_version = 2;
    answer(call_wait("wait"), &m_wait_ans_desc, &account);
    struct m_session_ans none = {
        .device = 3, .account = {(const uint8_t *)"alice", 5}, .root_ns = NS, .renew_ms = 600000};
    answer(call_later("session"), &m_session_ans_desc, &none);
    struct m_lock_req q = lock_of(call_later("lock"), &ar);
    assert_int_equal(q.node, 100);
    assert_int_equal(q.hold_n, 0);
    assert_int_equal(locks_lost, 1);
    assert_false(lock_held(0, 10));
}

static void without_a_server_there_is_no_lock(void **state)
{
    (void)state;
    struct result now = {0}, later = {0};
    start();
    fs.opt.timeout_ms = 200;
    lock_want(0, 10, false, &now);
    lock_want(0, 10, true, &later);
    WAIT_FOR(CALLED(now) && CALLED(later));
    assert_int_equal(now.err, -ENOLCK);
    assert_int_equal(later.err, -ENOLCK);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_request_states_what_is_held_and_wanted),
        T(what_is_given_to_nobody_is_given_back),
        T(a_lease_is_not_outlived),
        T(a_new_server_is_told_what_is_held),
        T(what_is_only_held_costs_nothing),
        T(a_lease_of_a_new_server_begins_when_it_knows_all),
        T(a_lease_that_ended_is_not_revived),
        T(who_is_no_member_any_more_has_no_locks),
        T(without_a_server_there_is_no_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
