// SPDX-License-Identifier: Apache-2.0
/* Which block server the driver chooses, and what it does when that one fails. (world.h) */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

static void a_failed_target_is_replaced_and_the_question_asked_anew(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_error(call_wait("put"), -ECONNREFUSED);
    answer_diff_missing(call_wait("diff"), 12);
    struct fake_call *put = call_wait("put");
    assert_string_equal(put->url, "http://cloud");
    answer_put(put, "cloud");
    struct fake_call *commit = call_wait("commit");
    assert_int_equal(commit_of(commit, &a).targets[0], 12);
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    struct m_put_ans probe = {0}; /* the first one is tried with an empty have */
    answer(call_wait("have"), &m_put_ans_desc, &probe);
}

static size_t calls_to(const char *url)
{
    size_t n = 0;
    pthread_mutex_lock(&net_lock);
    for (size_t i = 0; i < calls_n; i++)
        n += strcmp(calls[i].url, url) == 0;
    pthread_mutex_unlock(&net_lock);
    return n;
}

static size_t namespaces(void)
{
    pthread_mutex_lock(&fs.lock);
    size_t n = fs.sync->nss_n;
    pthread_mutex_unlock(&fs.lock);
    return n;
}

/* A server that one namespace has left is asked by way of another, whose capability is good. */
static void a_probe_goes_by_a_namespace_that_is_there(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct m_get_req q;
    start();
    session_second = true;
    pthread_mutex_lock(&fs.lock);
    fs.sync->session_wanted = true;
    pthread_mutex_unlock(&fs.lock);
    sync_wake(fs.sync);
    answer_session(call_wait("session"));
    WAIT_FOR(namespaces() == 2); /* it is learned */
    pthread_mutex_lock(&fs.lock);
    backoff_failed(&sync_server_find(fs.sync, 11)->backoff, fs.sync->clock(), 0);
    pthread_mutex_unlock(&fs.lock);
    sync_wake(fs.sync);
    struct fake_call *have = call_wait("have");
    assert_string_equal(have->url, "http://hq");
    assert_int_equal(
        msg_decode(&m_get_req_desc, &q, have->body.p, have->body.n, MSG_LENIENT, &a, NULL), 0);
    assert_int_equal(q.ns, 2);
}

/* What stays on its premises is neither brought nor fetched elsewhere, even if a candidate there
 * were named. */
static void a_namespace_that_stays_is_not_brought_elsewhere(void **state)
{
    (void)state;
    struct result r[2] = {0};
    onsite = true;
    fs.opt.fsync_timeout_ms = 600;
    fs.opt.timeout_ms = 600;
    race_percent(10);
    start();
    node_add(100, "hello");
    struct block_id id = store_add("there", false);
    barrier(100, &r[0]);
    pthread_mutex_lock(&fs.lock);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &r[1]);
    pthread_mutex_unlock(&fs.lock);
    answer_diff_missing(call_wait("diff"), 11);
    UNTIL (CALLED(r[0]) && CALLED(r[1])) {
        struct m_locate_ans none = {0};
        static const char *const methods[] = {"put", "get", "have"};
        struct fake_call *c;
        for (size_t k = 0; k < 3; k++)
            if ((c = call_open(methods[k])))
                answer_error(c, -ECONNREFUSED);
        if ((c = call_open("locate")))
            answer(c, &m_locate_ans_desc, &none);
    }
    assert_int_equal(r[0].err, -ETIMEDOUT);
    assert_int_equal(r[1].err, -EIO);
    assert_int_equal(calls_to("http://cloud"), 0);
    assert_true(calls_to("http://hq") >= 2);
}

/* Two copies are wanted and one server cannot be reached: the other passes the blocks on to it, and
 * the receipt is that server's own. What was not passed on is not claimed. */
static void blocks_are_passed_on_to_who_cannot_be_reached(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    struct m_put_head h;
    struct bytes head, raw;
    fs.opt.copies = 2;
    start();
    node_add(100, "hello");
    barrier(100, &r);
    for (int k = 0; k < 2; k++) { /* a question for each */
        struct fake_call *c = call_wait("diff");
        struct m_diff_req q;
        assert_int_equal(
            msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL), 0);
        answer_diff_missing(c, q.target);
    }
    answer_put(call_wait_at("put", "http://hq"), "hq");
    answer_error(call_wait_at("put", "http://cloud"), -EHOSTUNREACH);
    struct fake_call *c = call_wait_at("put", "http://hq");
    assert_int_equal(frame_split(bytes_of(c->body.p, c->body.n), &head, &raw), 0);
    assert_int_equal(msg_decode(&m_put_head_desc, &h, head.p, head.n, MSG_STRICT, &a, NULL), 0);
    assert_int_equal(h.relay, 12);
    assert_int_equal(h.relay_capability.n, 3);
    answer_put(c, "cloud");
    c = call_wait("commit");
    struct m_commit_req q = commit_of(c, &a);
    assert_int_equal(q.targets_n, 2);
    assert_int_equal(q.receipts_n, 2);
    answer_committed(c, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

static int64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Who is to pass them on does so for others at the moment: that says nothing of the target, which
 * is asked for through it again and again, after a moment each time. */
static void who_passes_on_for_others_is_asked_again(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    int64_t told = 0;
    fs.opt.copies = 2;
    start();
    node_add(100, "hello");
    barrier(100, &r);
    for (int k = 0; k < 2; k++) {
        struct fake_call *c = call_wait("diff");
        struct m_diff_req q;
        assert_int_equal(
            msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL), 0);
        answer_diff_missing(c, q.target);
    }
    answer_put(call_wait_at("put", "http://hq"), "hq");
    answer_error(call_wait_at("put", "http://cloud"), -EHOSTUNREACH);
    for (int k = 0; k < 5; k++) {
        struct fake_call *c = call_wait_at("put", "http://hq");
        int64_t pause = told ? monotonic_ms() - told : 100;
        assert_true(pause >= 100 && pause < 5000); /* as after a failure */
        told = monotonic_ms();
        answer_error(c, -EBUSY);
    }
    answer_put(call_wait_at("put", "http://hq"), "cloud");
    struct fake_call *c = call_wait("commit");
    struct m_commit_req q = commit_of(c, &a);
    assert_int_equal(q.targets_n, 2);
    answer_committed(c, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

/* Back where it is better as soon as it answers, and asked there anew. */
static void a_better_candidate_is_gone_back_to(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r[2] = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r[0]);
    answer_diff_missing(call_wait("diff"), 11);
    answer_error(call_wait("put"), -ECONNREFUSED);
    answer_diff_missing(call_wait("diff"), 12);
    answer_put(call_wait("put"), "cloud");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r[0]));
    struct m_put_ans probe = {0};
    answer(call_wait("have"), &m_put_ans_desc, &probe);
    node_add(101, "again");
    barrier(101, &r[1]);
    answer_diff_missing(call_wait("diff"), 11);
    struct fake_call *put = call_wait("put");
    assert_string_equal(put->url, "http://hq");
    answer_put(put, "hq");
    struct fake_call *commit = call_wait("commit");
    assert_int_equal(commit_of(commit, &a).targets[0], 11);
    answer_committed(commit, 2);
    WAIT_FOR(CALLED(r[1]));
    assert_int_equal(r[1].err, 0);
}

static void speed(uint64_t server, double bytes_ms)
{
    pthread_mutex_lock(&fs.lock);
    struct sync_server *v = sync_server_find(fs.sync, server);
    v->up.bytes_ms = v->down.bytes_ms = bytes_ms;
    v->up.at = v->down.at = fs.sync->clock();
    pthread_mutex_unlock(&fs.lock);
}

/* Of one rank: where less is to be brought. Little is not asked about. */
static void what_candidates_lack_decides_between_equals(void **state)
{
    (void)state;
    struct result r[2] = {0};
    equal_ranks = true;
    start();
    speed(11, 100);
    speed(12, 100);
    node_add(100, "large");
    nodes[0].len = 2u << 20;
    barrier(100, &r[0]);
    struct fake_call *c = call_wait("diff");
    struct arena cleanup_arena a = {0};
    struct m_diff_req q;
    assert_int_equal(msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL),
                     0);
    assert_int_equal(q.target, 0);
    assert_int_equal(q.ids_n, 1);
    struct m_candidate_count v[] = {{.server = 11, .missing = 1, .missing_bytes = 2u << 20},
                                    {.server = 12}};
    struct m_diff_ans m = {.counts = v, .counts_n = 2};
    answer(c, &m_diff_ans_desc, &m);
    answer_diff_missing(call_wait("diff"), 12);
    answer_put(call_wait("put"), "cloud");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r[0]));
    assert_int_equal(r[0].err, 0);
    node_add(101, "small"); /* the target works: nothing is asked again */
    barrier(101, &r[1]);
    answer_diff_missing(call_wait("diff"), 12);
    answer_put(call_wait("put"), "cloud");
    answer_committed(call_wait("commit"), 2);
    WAIT_FOR(CALLED(r[1]));
}

static uint64_t asked_of(const struct fake_call *c)
{
    struct arena cleanup_arena a = {0};
    struct m_diff_req q;
    assert_int_equal(msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL),
                     0);
    return q.target;
}

static void lacked(struct fake_call *c, uint64_t at_11, uint64_t at_12)
{
    struct m_candidate_count v[] = {{.server = 11, .missing = at_11 > 0, .missing_bytes = at_11},
                                    {.server = 12, .missing = at_12 > 0, .missing_bytes = at_12}};
    struct m_diff_ans m = {.counts = v, .counts_n = 2};
    answer(c, &m_diff_ans_desc, &m);
}

/* An upload stands still at the one in use: when it cannot be a third as quick any more as the
 * other one of its rank has shown to be, all goes there, and what was under way is given up. */
static void left_in_the_middle_for_a_quicker_one(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    equal_ranks = true;
    start();
    speed(11, 20000); /* as it was */
    speed(12, 10000);
    node_long(100, "large", 2u << 20);
    barrier(100, &r);
    struct fake_call *c = call_wait("diff");
    assert_int_equal(asked_of(c), 0); /* what each lacks */
    lacked(c, 2u << 20, 2u << 20);
    answer_diff_missing(call_wait("diff"), 11);
    struct fake_call *slow = call_wait_at("put", "http://hq");
    time_passes(400); /* 2 MiB at 10,000 bytes a ms are 210 ms: three times that is not over */
    assert_int_equal(calls_to("http://cloud"), 0);
    time_passes(11000); /* the counts are old as well */
    c = call_wait("diff");
    assert_int_equal(asked_of(c), 0);
    lacked(c, 2u << 20, 2u << 20);
    answer_diff_missing(call_wait("diff"), 12);
    answer_put(call_wait_at("put", "http://cloud"), "cloud");
    struct fake_call *commit = call_wait("commit");
    assert_int_equal(commit_of(commit, &a).targets[0], 12);
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_false(slow->open); /* it was cancelled */
    assert_int_equal(fs.sync->left_n, 1);
}

/* The one in use lacks nothing more of it: it is not left, however slow it is. */
static void what_is_nearly_done_is_finished(void **state)
{
    (void)state;
    struct result r = {0};
    equal_ranks = true;
    start();
    speed(11, 20000);
    speed(12, 10000);
    node_long(100, "large", 2u << 20);
    barrier(100, &r);
    lacked(call_wait("diff"), 2u << 20, 2u << 20);
    answer_diff_missing(call_wait("diff"), 11);
    call_wait_at("put", "http://hq");
    time_passes(11000);
    lacked(call_wait("diff"), 0, 2u << 20);
    settle();
    assert_int_equal(calls_to("http://cloud"), 0);
    assert_int_equal(fs.sync->left_n, 0);
    answer_put(call_wait_at("put", "http://hq"), "hq");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
}

/* A better rank is not left for pace. */
static void rank_goes_before_pace(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    speed(11, 20000);
    speed(12, 10000);
    node_long(100, "large", 2u << 20);
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    call_wait_at("put", "http://hq");
    time_passes(15000);
    assert_int_equal(calls_to("http://cloud"), 0);
    answer_put(call_wait_at("put", "http://hq"), "hq");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
}

/* One of the same rank that was never measured is given what is uploaded, too; not more than a
 * share of all, and not again at once. Nothing waits for it. */
static void who_was_never_measured_is_tried(void **state)
{
    (void)state;
    static struct result r[3];
    equal_ranks = true;
    start();
    for (unsigned k = 0; k < 3; k++) {
        node_long(100 + k, k ? k == 1 ? "second" : "third" : "first", 2u << 20);
        barrier(100 + k, &r[k]);
        if (!k)
            lacked(call_wait("diff"), 2u << 20, 2u << 20);
        if (!k) { /* in either order */
            struct fake_call *c = call_wait("diff");
            uint64_t first = asked_of(c);
            answer_diff_missing(c, 0);
            answer_diff_missing(call_wait("diff"), 23 - first);
            call_wait_at("put", "http://cloud");
        } else {
            answer_diff_missing(call_wait("diff"), 11);
        }
        answer_put(call_wait_at("put", "http://hq"), "hq");
        answer_committed(call_wait("commit"), k + 1);
        WAIT_FOR(CALLED(r[k]));
        assert_int_equal(r[k].err, 0);
    }
    assert_int_equal(fs.sync->trials_n, 1);
    assert_int_equal(calls_to("http://cloud"), 1);
    answer_put(call_wait_at("put", "http://cloud"), "cloud");
    settle();
    pthread_mutex_lock(&fs.lock);
    double shown = sync_server_find(fs.sync, 12)->up.bytes_ms;
    pthread_mutex_unlock(&fs.lock);
    assert_true(shown > 0);
}

/* What is under way at one that was never measured says how quick it is at most, which is much when
 * it has just begun: no reason to leave the one in use for it. */
static void a_trial_that_began_shows_nothing(void **state)
{
    (void)state;
    struct result r = {0};
    equal_ranks = true;
    start();
    node_long(100, "first", 2u << 20);
    barrier(100, &r);
    lacked(call_wait("diff"), 2u << 20, 2u << 20);
    struct fake_call *one = call_wait("diff");
    bool trial = asked_of(one) == 12;
    if (trial) { /* in either order: the one in use is answered first */
        WAIT_FOR(calls_of("diff") == 3);
        pthread_mutex_lock(&net_lock);
        one->open = false;
        pthread_mutex_unlock(&net_lock);
    }
    struct fake_call *other = call_wait("diff");
    pthread_mutex_lock(&net_lock);
    one->open = true;
    pthread_mutex_unlock(&net_lock);
    answer_diff_missing(trial ? other : one, 11);
    call_wait_at("put", "http://hq");
    time_passes(2000);
    answer_diff_missing(call_wait("diff"), 12);
    call_wait_at("put", "http://cloud");
    time_passes(1);
    settle();
    assert_int_equal(fs.sync->left_n, 0);
    answer_put(call_wait_at("put", "http://hq"), "hq");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    answer_put(call_wait_at("put", "http://cloud"), "cloud");
}

/* An answer that does not come holds nothing up. */
static void a_choice_is_made_without_the_counts_too(void **state)
{
    (void)state;
    struct result r = {0};
    equal_ranks = true;
    start();
    node_add(100, "large");
    nodes[0].len = 2u << 20;
    barrier(100, &r);
    answer_error(call_wait("diff"), -EIO);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put(call_wait("put"), "hq");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_failed_target_is_replaced_and_the_question_asked_anew),
        T(a_probe_goes_by_a_namespace_that_is_there),
        T(a_namespace_that_stays_is_not_brought_elsewhere),
        T(who_passes_on_for_others_is_asked_again),
        T(blocks_are_passed_on_to_who_cannot_be_reached),
        T(a_better_candidate_is_gone_back_to),
        T(what_candidates_lack_decides_between_equals),
        T(a_choice_is_made_without_the_counts_too),
        T(left_in_the_middle_for_a_quicker_one),
        T(what_is_nearly_done_is_finished),
        T(rank_goes_before_pace),
        T(who_was_never_measured_is_tried),
        T(a_trial_that_began_shows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
