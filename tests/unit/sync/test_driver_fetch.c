// SPDX-License-Identifier: Apache-2.0
/* Blocks that are fetched: who is asked, who is asked besides, and what comes of bad answers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

static void fetch(const struct block_id *id, struct result *r)
{
    pthread_mutex_lock(&fs.lock);
    sync_fetch(fs.sync, NS, id, 1, result_done, r);
    pthread_mutex_unlock(&fs.lock);
}

static void a_damaged_block_is_fetched_elsewhere(void **state)
{
    (void)state;
    struct result r[2] = {0};
    start();
    struct block_id id = store_add("right", false);
    pthread_mutex_lock(&fs.lock);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &r[0]);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &r[1]);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *c = call_wait("get");
    assert_string_equal(c->url, "http://hq");
    answer_get(c, &id, "wrong");
    uint64_t both[] = {11, 12};
    struct m_location at = {.block = id, .servers = both, .servers_n = 2};
    struct m_locate_ans m = {.locations = &at, .locations_n = 1};
    answer(call_wait("locate"), &m_locate_ans_desc, &m);
    c = call_wait("get");
    assert_string_equal(c->url, "http://cloud");
    assert_false(CALLED(r[0]));
    answer_get(c, &id, "right");
    for (int i = 0; i < 2; i++) {
        WAIT_FOR(CALLED(r[i]));
        assert_int_equal(r[i].err, 0);
    }
    assert_int_equal(calls_of("get"), 2);
}

static bool is_located(const struct fake_call *c)
{
    struct arena a = {0};
    struct m_get_req q;
    assert_int_equal(msg_decode(&m_get_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL),
                     0);
    arena_free(&a);
    return q.located;
}

/* A server that lacks what it is recorded to have is asked once more, told so, and is to report it;
 * then the others. One that has failed is not, nor one that is not recorded. */
static void who_lacks_what_is_recorded_there_is_told_so(void **state)
{
    (void)state;
    struct result r[2] = {0};
    start();
    struct block_id id = store_add("right", false), other = store_add("other", false);
    uint64_t both[] = {11, 12};
    struct m_location at = {.block = id, .servers = both, .servers_n = 2};
    struct m_locate_ans m = {.locations = &at, .locations_n = 1};
    fetch(&id, &r[0]);
    struct fake_call *c = call_wait_at("get", "http://hq");
    assert_false(is_located(c));
    answer_get(c, &id, NULL);
    answer(call_wait("locate"), &m_locate_ans_desc, &m);
    c = call_wait_at("get", "http://hq");
    assert_true(is_located(c));
    answer_get(c, &id, NULL);
    c = call_wait_at("get", "http://cloud");
    assert_true(is_located(c));
    answer_get(c, &id, "right");
    WAIT_FOR(CALLED(r[0]));
    assert_int_equal(r[0].err, 0);
    assert_int_equal(calls_of("get"), 3);
    assert_int_equal(calls_of("locate"), 1);
    /* not recorded there: it may well lack it */
    at = (struct m_location){.block = other, .servers = &both[1], .servers_n = 1};
    fetch(&other, &r[1]);
    answer_get(call_wait_at("get", "http://hq"), &other, NULL);
    answer(call_wait("locate"), &m_locate_ans_desc, &m);
    answer_get(call_wait_at("get", "http://cloud"), &other, "other");
    WAIT_FOR(CALLED(r[1]));
    assert_int_equal(r[1].err, 0);
    assert_int_equal(calls_of("get"), 5);
}

/* The outbox gives other bytes than it was given: the server notices, and fsync says so. */
static void a_block_damaged_here_is_not_committed(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    pthread_mutex_lock(&store_lock);
    store[0].data[0] ^= 1;
    pthread_mutex_unlock(&store_lock);
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put_wrong(call_wait("put"), &store[0].id);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -EIO);
    assert_int_equal(damaged, 1);
    assert_int_equal(calls_of("commit"), 0);
}

/* A server that says so of good bytes is at fault itself. */
static void a_server_that_refuses_good_bytes_is_left(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put_wrong(call_wait("put"), &store[0].id);
    answer_diff_missing(call_wait("diff"), 12);
    struct fake_call *put = call_wait("put");
    assert_string_equal(put->url, "http://cloud");
    answer_put(put, "receipt");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_int_equal(damaged, 0);
}

/* ---- races ---- */

/* The first is late: the second is asked, too; its answer counts, and the first is let off. Then
 * the second is asked first for a while. */
static void what_is_late_is_asked_of_a_second_server(void **state)
{
    (void)state;
    struct result r[2] = {0};
    race_percent(10);
    start();
    struct block_id id = store_add("late", false), next = store_add("next", false);
    fetch(&id, &r[0]);
    struct fake_call *first = call_wait_at("get", "http://hq");
    struct fake_call *second = call_later_at("get", "http://cloud");
    assert_true(first->open);
    answer_get(second, &id, "late");
    WAIT_FOR(CALLED(r[0]));
    assert_int_equal(r[0].err, 0);
    WAIT_FOR(!__atomic_load_n(&first->open, __ATOMIC_SEQ_CST));
    fetch(&next, &r[1]);
    answer_get(call_later_at("get", "http://cloud"), &next, "next");
    WAIT_FOR(CALLED(r[1]));
    assert_int_equal(r[1].err, 0);
    assert_int_equal(calls_of("get"), 3);
    assert_int_equal(calls_of("locate"), 0);
}

/* Neither a wrong nor an absent answer of one ends the race of the other. */
static void a_race_is_won_by_what_is_right(void **state)
{
    (void)state;
    struct result r[2] = {0};
    race_percent(10);
    start();
    struct block_id id = store_add("right", false), other = store_add("other", false);
    fetch(&id, &r[0]);
    struct fake_call *first = call_wait_at("get", "http://hq");
    answer_get(call_later_at("get", "http://cloud"), &id, "wrong");
    answer_get(first, &id, "right");
    WAIT_FOR(CALLED(r[0]));
    assert_int_equal(r[0].err, 0);
    fetch(&other, &r[1]);
    first = call_wait_at("get", "http://hq");
    struct fake_call *second = call_later_at("get", "http://cloud");
    answer_error(first, -ECONNRESET);
    answer_get(second, &other, "other");
    WAIT_FOR(CALLED(r[1]));
    assert_int_equal(r[1].err, 0);
}

static struct sync_server *server(uint64_t id)
{
    return sync_server_find(fs.sync, id);
}

/* Who was asked second and had no time is not slow for that; what it cost is what came. */
static void who_is_asked_second_is_not_slow_for_that(void **state)
{
    (void)state;
    struct result r[2] = {0};
    race_percent(10);
    start();
    struct block_id id = store_add("late", false), next = store_add("next", false);
    fetch(&id, &r[0]);
    struct fake_call *first = call_wait_at("get", "http://hq");
    struct fake_call *second = call_later_at("get", "http://cloud");
    answer_get(first, &id, "late");
    WAIT_FOR(CALLED(r[0]));
    WAIT_FOR(!__atomic_load_n(&second->open, __ATOMIC_SEQ_CST));
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(server(12)->slow_until, 0);
    assert_int_equal(server(11)->slow_until, 0);
    fs.sync->races.saved = PACE_SAVED_FIRST;
    pthread_mutex_unlock(&fs.lock);
    fetch(&next, &r[1]);
    call_wait_at("get", "http://hq");
    answer_get(call_later_at("get", "http://cloud"), &next, "next");
    WAIT_FOR(CALLED(r[1]));
    pthread_mutex_lock(&fs.lock);
    assert_true(fs.sync->races.saved > PACE_SAVED_FIRST - 1000); /* a hundred bytes came */
    assert_true(fs.sync->races.saved < PACE_SAVED_FIRST);
    assert_true(server(11)->slow_until > 0);
    pthread_mutex_unlock(&fs.lock);
}

/* Where all are slow, the best of them is asked, by the same rules. */
static void the_best_of_the_slow_is_asked(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    struct block_id id = store_add("slow", false);
    pthread_mutex_lock(&fs.lock);
    fs.opt.prefer = "cloud";
    server(11)->slow_until = server(12)->slow_until = INT64_MAX;
    pthread_mutex_unlock(&fs.lock);
    fetch(&id, &r);
    answer_get(call_wait_at("get", "http://cloud"), &id, "slow");
    WAIT_FOR(CALLED(r));
    fs.opt.prefer = NULL;
}

/* What would be fetched in vain is bounded, and nothing is with race=0. */
static void races_are_bounded(void **state)
{
    (void)state;
    struct result r[2] = {0};
    race_percent(10);
    start();
    pthread_mutex_lock(&fs.lock);
    fs.sync->races.saved = 0; /* nothing left to spend */
    pthread_mutex_unlock(&fs.lock);
    struct block_id id = store_add("late", false);
    fetch(&id, &r[0]);
    struct fake_call *first = call_wait_at("get", "http://hq");
    call_later("have"); /* long after it was late: it is being probed */
    assert_int_equal(calls_of("get"), 1);
    pthread_mutex_lock(&fs.lock);
    fs.sync->races.saved = PACE_SAVED_FIRST;
    pthread_mutex_unlock(&fs.lock);
    answer_get(call_later_at("get", "http://cloud"), &id, "late");
    WAIT_FOR(CALLED(r[0]));
    WAIT_FOR(!__atomic_load_n(&first->open, __ATOMIC_SEQ_CST));
}

static void a_block_that_nobody_has_is_eio(void **state)
{
    (void)state;
    struct result r = {0};
    fs.opt.timeout_ms = 300;
    start();
    struct block_id id = store_add("gone", false);
    pthread_mutex_lock(&fs.lock);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &r);
    pthread_mutex_unlock(&fs.lock);
    UNTIL (CALLED(r)) {
        struct m_locate_ans none = {0};
        struct fake_call *c = call_open("get");
        if (c)
            answer_get(c, &id, NULL);
        c = call_open("locate");
        if (c)
            answer(c, &m_locate_ans_desc, &none);
    }
    assert_int_equal(r.err, -EIO);
    char hex[BLOCK_HEX_LEN + 1], says[64];
    block_id_hex(&id, hex);
    snprintf(says, sizeof says, "block %.12s… is recorded at no block server", hex);
    assert_true(status_says("last_error", says));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_damaged_block_is_fetched_elsewhere),
        T(who_lacks_what_is_recorded_there_is_told_so),
        T(a_block_damaged_here_is_not_committed),
        T(a_server_that_refuses_good_bytes_is_left),
        T(what_is_late_is_asked_of_a_second_server),
        T(a_race_is_won_by_what_is_right),
        T(who_is_asked_second_is_not_slow_for_that),
        T(the_best_of_the_slow_is_asked),
        T(races_are_bounded),
        T(a_block_that_nobody_has_is_eio),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
