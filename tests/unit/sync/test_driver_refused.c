// SPDX-License-Identifier: Apache-2.0
/* What the driver cannot send, or must not: linked and lost blocks, refusals by servers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

static bool is_parked(size_t i)
{
    pthread_mutex_lock(&fs.lock);
    bool yes = nodes[i].parked;
    pthread_mutex_unlock(&fs.lock);
    return yes;
}

/* A block that is nowhere sets its own file aside, and the others are committed. */
/* The answer to `link` or `have`: the block is there, or it is not. */
static void answer_stored(struct fake_call *c, const struct block_id *id, bool there)
{
    struct m_put_result r = {0};
    if (id)
        r.block = *id;
    if (there)
        r.receipt = bytes_str("stored");
    struct m_put_ans m = {.results = &r, .results_n = id != NULL};
    answer(c, &m_put_ans_desc, &m);
}

static uint64_t link_to(const struct block_id *id, struct result *r)
{
    struct m_block_ref ref = {.block = *id, .len = 3};
    pthread_mutex_lock(&fs.lock);
    uint64_t n = sync_link(fs.sync, NS, NS, &ref, 1, result_done, r);
    pthread_mutex_unlock(&fs.lock);
    return n;
}

static bool is_linked(const struct block_id *id)
{
    struct m_block_ref ref = {.block = *id, .len = 3};
    pthread_mutex_lock(&fs.lock);
    bool linked = sync_linked(fs.sync, NS, &ref, 1);
    pthread_mutex_unlock(&fs.lock);
    return linked;
}

/* What the target has been told to have for the namespace is committed with no question and no
 * byte. */
static void a_linked_block_is_not_put(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result first = {0}, second = {0}, fsync = {0};
    start();
    node_add(100, "hello");
    pthread_mutex_lock(&fs.lock);
    nodes[0].id = store_add("far", false);
    struct block_id id = nodes[0].id;
    pthread_mutex_unlock(&fs.lock);
    assert_true(link_to(&id, &first) != 0);
    answer_stored(call_wait("link"), &id, false);
    WAIT_FOR(CALLED(first));
    assert_int_equal(first.err, -EXDEV);
    assert_false(is_linked(&id));
    assert_true(link_to(&id, &second) != 0);
    answer_stored(call_wait("link"), &id, true);
    WAIT_FOR(CALLED(second));
    assert_int_equal(second.err, 0);
    assert_true(is_linked(&id));
    barrier(100, &fsync);
    struct fake_call *c = call_wait("commit");
    struct m_commit_req q = commit_of(c, &a);
    assert_int_equal(q.receipts_n, 1);
    assert_int_equal(q.not_held_n, 0);
    answer_committed(c, 1);
    WAIT_FOR(CALLED(fsync));
    assert_int_equal(fsync.err, 0);
    assert_int_equal(calls_of("diff") + calls_of("put"), 0);
}

/* The receipt of a link was lost with a restart; the link was not. */
static void what_is_not_here_is_sought_at_its_target(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result fsync = {0};
    start();
    node_add(100, "hello");
    pthread_mutex_lock(&fs.lock);
    nodes[0].id = store_add("far", false);
    struct block_id id = nodes[0].id;
    pthread_mutex_unlock(&fs.lock);
    barrier(100, &fsync);
    answer_diff_missing(call_wait("diff"), 11);
    answer_stored(call_wait("have"), &id, true);
    struct fake_call *c = call_wait("commit");
    assert_int_equal(commit_of(c, &a).receipts_n, 1);
    answer_committed(c, 1);
    WAIT_FOR(CALLED(fsync));
    assert_int_equal(fsync.err, 0);
}

/* The server that was asked to have it for this namespace, too, is gone, with all that it had:
 * where it came from it still is. */
static void what_was_linked_is_fetched_where_it_came_from(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result fsync = {0};
    session_second = true; /* from there */
    start();
    node_add(100, "hello");
    pthread_mutex_lock(&fs.lock);
    nodes[0].id = store_add("hallo", false);
    struct block_id id = nodes[0].id;
    pthread_mutex_unlock(&fs.lock);
    barrier(100, &fsync);
    answer_diff_missing(call_wait("diff"), 12);
    answer_stored(call_wait("have"), &id, false);
    answer_get(call_wait("get"), &id, "hallo");
    assert_int_equal(answer_put(call_wait("put"), "x"), 1);
    struct fake_call *c = call_wait("commit");
    assert_int_equal(commit_of(c, &a).receipts_n, 1);
    answer_committed(c, 1);
    WAIT_FOR(CALLED(fsync));
    assert_int_equal(fsync.err, 0);
}

static void a_lost_block_holds_nothing_else_back(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    start();
    node_add(100, "kept");
    node_add(101, "gone");
    nodes[1].id = store_add("evicted", false);
    background_ok = true;
    pthread_mutex_lock(&fs.lock);
    sync_kick(fs.sync);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *c;
    UNTIL_LATER(is_parked(1))
    {
        if ((c = call_open("diff")))
            answer_diff_missing(c, 11);
        if ((c = call_open("have")))
            answer_stored(c, NULL, false);
        if ((c = call_open("put")))
            assert_int_equal(answer_put(c, "x"), 1);
        if (call_open("commit")) /* not before that, which may have come since it was looked at */
            assert_true(is_parked(1));
    }
    assert_false(is_parked(0));
    c = call_wait("commit");
    struct m_commit_req q = commit_of(c, &a);
    assert_int_equal(q.ids_n, 1);
    assert_true(block_id_equal(&q.ids[0].block, &nodes[0].id));
    answer_committed(c, 1);
}

static void answer_refused(struct fake_call *c, enum refusal reason)
{
    struct m_row_ref row = {.kind = ROW_NODE, .node = 100, .reason = reason};
    struct m_commit_ans m = {.status = COMMIT_REFUSED, .rows = &row, .rows_n = 1};
    answer(c, &m_commit_ans_desc, &m);
}

/* Dirty data that cannot be put on disk before a refusal is recorded: it is asked for again. */
static void a_refusal_waits_for_dirty_data(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put(call_wait("put"), "x");
    answers_not_taken_in = 1;
    answer_refused(call_wait("commit"), REFUSED_QUOTA);
    answer_refused(call_wait("commit"), REFUSED_QUOTA);
    WAIT_FOR(CALLED(r));
    assert_int_not_equal(r.err, 0);
    assert_int_equal(answers_not_taken_in, 0);
    assert_int_equal(calls_of("commit"), 2);
}

/* The account's assignments or roles changed. */
static void answer_account_changed(void)
{
    static uint64_t version;
    for (int k = 0; k < 2; k++) { /* the first one is what is known */
        struct m_wait_ans m = {.account_version = ++version};
        answer(call_wait("wait"), &m_wait_ans_desc, &m);
    }
}

/* What was written before the role was lowered cannot be uploaded any more; the commit goes all the
 * same, so that its refusal parks it. */
static void what_may_only_be_read_is_sent_to_be_refused(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0}, again = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    struct fake_call *put = call_wait("put");
    session_role = ROLE_VIEWER;
    answer_error(put, -EPERM);
    answer_session(call_later("session"));
    struct fake_call *c = call_wait("commit");
    struct m_commit_req q = commit_of(c, &a);
    assert_int_equal(q.ids_n, 1);
    assert_int_equal(q.receipts_n, 0);
    answer_refused(c, REFUSED_ROLE);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -EROFS);
    assert_int_equal(calls_of("put"), 1);
    answer_account_changed();
    session_role = ROLE_EDITOR;
    answer_session(call_later("session"));
    pthread_mutex_lock(&fs.lock);
    nodes[0].parked = false;
    pthread_mutex_unlock(&fs.lock);
    barrier(100, &again);
    UNTIL_LATER((c = call_open("commit")) != NULL)
    { /* now the content goes, too, wherever that is */
        struct fake_call *d = call_open("diff");
        if (d)
            answer_diff_missing(d, 0);
        if ((d = call_open("put")))
            answer_put(d, "x");
    }
    assert_int_equal(commit_of(c, &a).receipts_n, 1);
    answer_committed(c, 1);
    WAIT_FOR(CALLED(again));
    assert_int_equal(again.err, 0);
}

/* All is sent but what was refused, and what waits for that: it is said, and not waited for. */
static void a_drain_says_what_was_refused(void **state)
{
    (void)state;
    char text[512] = "";
    start();
    for (uint64_t k = 0; k < 3; k++) {
        char name[] = {'a', (char)k, 0};
        node_add(100 + k, name);
    }
    pthread_mutex_lock(&fs.lock);
    nodes[0].parked = true;
    nodes[1].held = nodes[2].held = true;
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(sync_drain(fs.sync, WAIT_MS, NULL, NULL, text), -EREMOTEIO);
    assert_non_null(strstr(text, "1 changes were refused, and 2 wait for them"));
    pthread_mutex_lock(&fs.lock);
    nodes[2].held = false; /* still to be sent */
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(sync_drain(fs.sync, 1, NULL, NULL, text), -ETIMEDOUT);
}

/* The right to write that a block server does not accept, though the role allows it. */
static void a_refused_put_is_tried_again_after_a_pause(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_put_ans here = {0};
    session_candidates = 1;
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_error(call_wait("put"), -EPERM);
    int64_t refused = driver_ms();
    UNTIL_LATER(calls_of("put") == 2)
    {
        struct fake_call *c = call_open("session");
        if (c)
            answer_session(c);
        if ((c = call_open("have"))) /* the server answers otherwise */
            answer(c, &m_put_ans_desc, &here);
        if ((c = call_open("diff")))
            answer_diff_missing(c, 11);
    }
    assert_true(driver_ms() - refused >= 2000);
    answer_put(call_wait("put"), "x");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

/* What one namespace may not do there says nothing of the server: it is not left alone for that. */
static void a_refused_put_leaves_the_server_for_everything_else(void **state)
{
    (void)state;
    struct result r = {0}, read = {0};
    struct block_id id = store_add("elsewhere", false);
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_error(call_wait("put"), -EPERM);
    answer_diff_missing(call_wait("diff"), 12); /* the next candidate, for this namespace's puts */
    struct fake_call *put = call_wait("put");
    assert_string_equal(put->url, "http://cloud");
    pthread_mutex_lock(&fs.lock);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &read);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *get = call_wait("get");
    assert_string_equal(get->url, "http://hq");
    answer_get(get, &id, "elsewhere");
    WAIT_FOR(CALLED(read));
    assert_int_equal(read.err, 0);
    answer_put(put, "x");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_int_equal(calls_of("have"), 0); /* nor is it probed */
}

/* No block server takes more that is not committed: that is the quota's affair. The other one is
 * asked first; then the fsync fails, and the file is set aside as if its commit had been refused.
 */
static void a_put_above_the_quota_is_refused_by_it(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_error(call_wait("put"), -EDQUOT);
    answer_diff_missing(call_wait("diff"), 12);
    struct fake_call *c = call_wait("put");
    assert_string_equal(c->url, "http://cloud");
    assert_false(CALLED(r));
    answer_error(c, -EDQUOT);
    UNTIL (CALLED(r)) { /* it may have been looked at anew, and be asked once more */
        if ((c = call_open("diff")))
            answer_diff_missing(c, 0);
        if ((c = call_open("put")))
            answer_error(c, -EDQUOT);
    }
    /* by itself, or because the file was set aside: this core says EROFS of all that was */
    assert_true(r.err == -EDQUOT || (r.err == -EROFS && is_parked(0)));
    assert_int_equal(calls_of("session"), 1); /* no capability mends that */
    background_ok = true;
    pthread_mutex_lock(&fs.lock);
    sync_kick(fs.sync);
    pthread_mutex_unlock(&fs.lock);
    UNTIL (is_parked(0)) {
        if ((c = call_open("diff")))
            answer_diff_missing(c, 0);
        if ((c = call_open("put")))
            answer_error(c, -EDQUOT);
    }
    assert_int_equal(calls_of("commit"), 0);
}

static void without_a_block_server_it_is_sent_to_be_refused(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    session_candidates = 0;
    start();
    node_add(100, "hello");
    barrier(100, &r);
    struct fake_call *c = call_wait("commit");
    assert_int_equal(commit_of(c, &a).targets_n, 1);
    answer_refused(c, REFUSED_ASSIGNMENT);
    c = call_later("session"); /* is there one meanwhile? */
    assert_null(call_open("commit"));
    answer_session(c);
    answer_refused(call_later("commit"), REFUSED_ASSIGNMENT);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -EROFS);
    assert_int_equal(calls_of("diff"), 0);
    assert_int_equal(calls_of("commit"), 2);
}

/* Fewer than it wants copies are no better than none. */
static void with_too_few_block_servers_it_is_sent_to_be_refused(void **state)
{
    (void)state;
    struct result r = {0}, again = {0};
    session_candidates = 1;
    session_copies = 2;
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_refused(call_later("commit"), REFUSED_ASSIGNMENT);
    answer_session(call_later("session"));
    answer_refused(call_later("commit"), REFUSED_ASSIGNMENT);
    WAIT_FOR(CALLED(r));             /* not when its time is over */
    assert_int_equal(r.err, -EROFS); /* what the core says here of all that is parked */
    assert_int_equal(calls_of("diff") + calls_of("put"), 0);
    assert_true(status_says("last_error", "1 block servers are assigned, 2 are needed"));
    answer_account_changed();
    session_candidates = 2;
    answer_session(call_later("session"));
    pthread_mutex_lock(&fs.lock);
    nodes[0].parked = false;
    pthread_mutex_unlock(&fs.lock);
    barrier(100, &again);
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("diff"), &m_diff_ans_desc, &(struct m_diff_ans){0});
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(again));
    assert_int_equal(again.err, 0);
}

/* So are fewer than the mount wants, of which the server knows nothing. */
static void with_fewer_block_servers_than_copies_it_fails_at_once(void **state)
{
    (void)state;
    struct result r = {0}, again = {0};
    session_candidates = 1;
    fs.opt.copies = 2;
    start();
    node_add(100, "hello");
    barrier(100, &r);
    WAIT_FOR(CALLED(r)); /* not when its time is over */
    assert_int_equal(r.err, -EACCES);
    assert_int_equal(calls_of("put") + calls_of("commit"), 0);
    assert_true(status_says("last_error", "1 block servers are assigned, copies=2 was asked for"));
    assert_true(status_says("waits_for", "1 more block servers to be assigned"));
    answer_account_changed();
    session_candidates = 2;
    answer_session(call_later("session"));
    WAIT_FOR(!status_says("waits_for", "1 more block servers"));
    barrier(100, &again);
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("diff"), &m_diff_ans_desc, &(struct m_diff_ans){0});
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(again));
    assert_int_equal(again.err, 0);
}

static void a_refused_target_waits_for_the_session_that_names_others(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct m_diff_ans none = {0};
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *c = call_wait("commit");
    uint64_t request = commit_of(c, &a).request;
    session_copies = 2;
    answer_refused(c, REFUSED_ASSIGNMENT);
    answer_session(call_later("session"));
    answer(call_wait("diff"), &m_diff_ans_desc, &none); /* of the second one */
    c = call_wait("commit");
    assert_int_equal(commit_of(c, &a).request, request);
    assert_int_equal(commit_of(c, &a).targets_n, 2);
    assert_int_equal(calls_of("commit"), 2); /* refused once */
    answer_committed(c, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

/* Whoever waited in vain is told what for. */
static void what_is_left_says_why(void **state)
{
    (void)state;
    char text[512] = "";
    start();
    node_add(100, "hello");
    background_ok = true;
    pthread_mutex_lock(&fs.lock);
    sync_kick(fs.sync);
    pthread_mutex_unlock(&fs.lock);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put(call_wait("put"), "x");
    struct fake_call *commit = call_wait("commit");
    assert_int_equal(sync_drain(fs.sync, 0, NULL, NULL, text), -ETIMEDOUT);
    assert_non_null(
        strstr(text, "not everything is sent yet: that waits for the answer to commit"));
    assert_int_equal(sync_settle(fs.sync, 0, 0, text), -ETIMEDOUT);
    assert_non_null(strstr(text, "not sent yet: that waits for the answer to commit"));
    answer_committed(commit, 1);
    assert_int_equal(sync_drain(fs.sync, WAIT_MS, NULL, NULL, text), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_linked_block_is_not_put),
        T(what_is_not_here_is_sought_at_its_target),
        T(what_was_linked_is_fetched_where_it_came_from),
        T(a_lost_block_holds_nothing_else_back),
        T(a_refusal_waits_for_dirty_data),
        T(what_may_only_be_read_is_sent_to_be_refused),
        T(a_drain_says_what_was_refused),
        T(what_is_left_says_why),
        T(a_refused_put_is_tried_again_after_a_pause),
        T(a_refused_put_leaves_the_server_for_everything_else),
        T(a_put_above_the_quota_is_refused_by_it),
        T(without_a_block_server_it_is_sent_to_be_refused),
        T(with_too_few_block_servers_it_is_sent_to_be_refused),
        T(with_fewer_block_servers_than_copies_it_fails_at_once),
        T(a_refused_target_waits_for_the_session_that_names_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
