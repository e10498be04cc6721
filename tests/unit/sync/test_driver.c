// SPDX-License-Identifier: Apache-2.0
/* The driver against scripted servers and a core of few words (world.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

static void a_barrier_asks_puts_commits(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    struct fake_call *put = call_wait("put");
    assert_string_equal(put->url, "http://hq");
    assert_int_equal(answer_put(put, "receipt"), 1);
    struct fake_call *commit = call_wait("commit");
    struct m_commit_req q = commit_of(commit, &a);
    assert_int_equal(q.targets_n, 1);
    assert_int_equal(q.targets[0], 11);
    assert_int_equal(q.ids_n, 1);
    assert_int_equal(q.receipts_n, 1);
    assert_true(bytes_equal(q.receipts[0].receipt, bytes_str("receipt")));
    assert_false(CALLED(r)); /* not before the server said so */
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    WAIT_FOR(store[0].synced);
    assert_int_equal(calls_of("diff"), 1);
    assert_int_equal(calls_of("put"), 1);
    assert_int_equal(calls_of("commit"), 1);
    int err = 1; /* again: nothing is pending */
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(sync_barrier(fs.sync, 100, false, result_done, &r, &err), 0);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(err, 0);
}

static void a_present_block_is_not_put(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(calls_of("put"), 0);
}

static void missing_is_put_and_sent_under_the_same_number(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *commit = call_wait("commit");
    uint64_t number = commit_of(commit, &a).request;
    struct m_missing lacking = {.server = 11, .block = nodes[0].id};
    struct m_commit_ans m = {.status = COMMIT_MISSING, .missing = &lacking, .missing_n = 1};
    answer(commit, &m_commit_ans_desc, &m);
    answer_put(call_wait("put"), "later");
    commit = call_wait("commit");
    assert_int_equal(commit_of(commit, &a).request, number);
    assert_int_equal(commit_of(commit, &a).receipts_n, 1);
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

static void a_lost_answer_is_asked_for_under_the_same_number(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *commit = call_wait("commit");
    uint64_t number = commit_of(commit, &a).request;
    answer_error(commit, -ECONNRESET);
    struct fake_call *session = call_wait("session"); /* first: is it there again? */
    assert_null(call_open("commit"));
    answer_session(session);
    commit = call_wait("commit");
    assert_int_equal(commit_of(commit, &a).request, number);
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

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

static void speeds(double bytes_ms)
{
    pthread_mutex_lock(&fs.lock);
    for (size_t i = 0; i < fs.sync->servers_n; i++)
        fs.sync->servers[i]->pace.bytes_ms = bytes_ms;
    pthread_mutex_unlock(&fs.lock);
}

/* Of one rank: where less is to be brought. Little is not asked about. */
static void what_candidates_lack_decides_between_equals(void **state)
{
    (void)state;
    struct result r[2] = {0};
    equal_ranks = true;
    start();
    speeds(100);
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

static void many_barriers_share_commits(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r[4] = {0};
    start();
    static const char *const text[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++)
        node_add(100 + i, text[i]);
    barrier(100, &r[0]);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put(call_wait("put"), "x");
    struct fake_call *first = call_wait("commit");
    for (size_t i = 1; i < 4; i++)
        barrier(100 + i, &r[i]);
    size_t put = 0;
    UNTIL (put == 3) { /* their blocks do not wait for the commit under way */
        struct fake_call *c = call_open("diff");
        if (c)
            answer_diff_missing(c, 11);
        c = call_open("put");
        if (c)
            put += answer_put(c, "x");
    }
    settle();
    assert_int_equal(calls_of("commit"), 1); /* one at a time */
    answer_committed(first, 1);
    struct fake_call *second = call_wait("commit");
    assert_int_equal(commit_of(second, &a).ids_n, 3);
    answer_committed(second, 2);
    for (size_t i = 0; i < 4; i++) {
        WAIT_FOR(CALLED(r[i]));
        assert_int_equal(r[i].err, 0);
    }
}

static void a_conflict_goes_on_until_the_copy_is_committed(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct m_commit_ans m = {.status = COMMIT_CONFLICT, .head = 1};
    struct fake_call *commit = call_wait("commit");
    pthread_mutex_lock(&fs.lock);
    nodes[0].conflict = true;
    pthread_mutex_unlock(&fs.lock);
    answer(commit, &m_commit_ans_desc, &m);
    struct fake_call *list = call_wait("list");
    pthread_mutex_lock(&fs.lock); /* what the core does with the record: the node moves to a copy */
    nodes[0].node = 101;
    nodes[0].sent = 0;
    nodes[0].dirty = true;
    nodes[nodes_n++].node = 100;
    nodes[1].dirty = false;
    nodes[1].sent = 0;
    pthread_mutex_unlock(&fs.lock);
    struct m_record rec = {.sjid = 1, .device = 9};
    struct m_list_ans l = {.records = &rec, .records_n = 1, .cursor = bytes_str("1"), .head = 1};
    answer(list, &m_list_ans_desc, &l);
    UNTIL (call_open("commit")) {
        struct fake_call *c = call_open("diff");
        if (c)
            answer(c, &m_diff_ans_desc, &none);
    }
    assert_false(CALLED(r));
    answer_committed(call_wait("commit"), 2);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

static void the_journal_settles_a_commit_whose_answer_is_lost(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *commit = call_wait("commit");
    uint64_t number = commit_of(commit, &a).request;
    struct m_watch w = {.ns = NS, .sjid = 1};
    struct m_wait_ans wa = {.changed = &w, .changed_n = 1};
    answer(call_wait("wait"), &m_wait_ans_desc, &wa);
    struct m_record rec = {.sjid = 1, .device = 3, .request = number};
    struct m_list_ans l = {.records = &rec, .records_n = 1, .cursor = bytes_str("1"), .head = 1};
    answer(call_wait("list"), &m_list_ans_desc, &l);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    answer_error(commit, -ETIMEDOUT); /* and what comes later changes nothing */
    answer_session(call_wait("session"));
    assert_int_equal(r.calls, 1);
}

static void fresh(struct result *r)
{
    pthread_mutex_lock(&fs.lock);
    uint64_t id = sync_fresh(fs.sync, NS, result_done, r);
    pthread_mutex_unlock(&fs.lock);
    assert_true(id != 0);
}

/* What is committed before the question is applied before the answer, though the long poll never
 * tells of it; a question that is out already may be too old. */
static void the_newest_is_asked_for_and_applied(void **state)
{
    (void)state;
    struct result first = {0}, second = {0};
    start();
    call_wait("wait");
    fresh(&first);
    struct fake_call *list = call_wait("list");
    fresh(&second);
    struct m_record rec = {.sjid = 1, .device = 8};
    struct m_list_ans part = {
        .records = &rec, .records_n = 1, .cursor = bytes_str("1"), .more = true, .head = 2};
    answer(list, &m_list_ans_desc, &part);
    list = call_wait("list"); /* the rest of the first */
    assert_false(CALLED(first));
    rec.sjid = 2;
    part.more = false;
    answer(list, &m_list_ans_desc, &part);
    WAIT_FOR(CALLED(first) && CALLED(second)); /* the second list was sent after both */
    assert_int_equal(cursor, 2);
    assert_int_equal(first.err, 0);
    assert_int_equal(second.err, 0);
    assert_int_equal(calls_of("list"), 2);

    struct result third = {0}, fourth = {0};
    fresh(&third);
    list = call_wait("list");
    fresh(&fourth);
    struct m_list_ans none = {.cursor = bytes_str("2"), .head = 2};
    answer(list, &m_list_ans_desc, &none);
    WAIT_FOR(CALLED(third));
    list = call_wait("list");
    assert_false(CALLED(fourth));
    answer(list, &m_list_ans_desc, &none);
    WAIT_FOR(CALLED(fourth));
}

static bool trouble(void)
{
    pthread_mutex_lock(&fs.lock);
    bool some = fs.sync->nss[0]->error[0] != 0;
    pthread_mutex_unlock(&fs.lock);
    return some;
}

/* What the status says of the journal ends when that is read again, also where nothing is written.
 */
static void trouble_with_the_journal_ends_with_it(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_list_ans none = {.cursor = bytes_str("0")};
    start();
    fresh(&r);
    answer_error(call_wait("list"), -EIO);
    struct fake_call *again = call_wait("list");
    assert_true(trouble());
    answer(again, &m_list_ans_desc, &none);
    WAIT_FOR(!trouble());
}

static void what_cannot_be_looked_at_is_not_sent(void **state)
{
    (void)state;
    uint64_t before, files, bytes;
    start();
    pthread_mutex_lock(&fs.lock);
    sync_pending(fs.sync, 0, &before, &bytes);
    tree_unreadable = true;
    sync_pending(fs.sync, 0, &files, &bytes);
    tree_unreadable = false;
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(before, 0);
    assert_true(files > 0);
}

static void the_newest_is_not_waited_for_forever(void **state)
{
    (void)state;
    struct result r = {0}, away = {0};
    start();
    fs.opt.timeout_ms = 100;
    fresh(&r);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -EIO);
    answer_error(call_wait("list"), -ECONNREFUSED);
    fresh(&away);
    WAIT_FOR(CALLED(away));
    assert_int_equal(away.err, -EIO);
}

static void a_barrier_for_everything_waits_for_each(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    pthread_mutex_lock(&fs.lock);
    assert_true(sync_barrier_all(fs.sync, NS, result_done, &r) == 0); /* nothing is pending */
    pthread_mutex_unlock(&fs.lock);
    node_add(100, "hello");
    node_add(200, "world");
    pthread_mutex_lock(&fs.lock);
    assert_true(sync_barrier_all(fs.sync, NS, result_done, &r) != 0);
    pthread_mutex_unlock(&fs.lock);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_false(nodes[0].dirty || nodes[1].dirty || nodes[0].sent || nodes[1].sent);
}

/* More than are taken at a time: the rest is waited for, too. */
static void a_barrier_for_everything_leaves_nothing_out(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    node_add(200, "world");
    pthread_mutex_lock(&fs.lock);
    nodes_crowded = true;
    assert_true(sync_barrier_all(fs.sync, NS, result_done, &r) != 0);
    pthread_mutex_unlock(&fs.lock);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    answer_committed(call_wait("commit"), 1);
    answer(call_wait("diff"), &m_diff_ans_desc, &none); /* of the second one */
    assert_false(CALLED(r));
    answer_committed(call_wait("commit"), 2);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_false(nodes[0].dirty || nodes[1].dirty || nodes[0].sent || nodes[1].sent);
}

static void a_cancelled_barrier_ends_once(void **state)
{
    (void)state;
    struct result r = {0};
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    uint64_t id = barrier(100, &r);
    sync_cancel(fs.sync, id);
    sync_cancel(fs.sync, id);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -EINTR);
    struct fake_call *c = call_open("diff");
    if (c)
        answer(c, &m_diff_ans_desc, &none);
    settle();
    assert_int_equal(r.calls, 1);
}

static bool node_sent(uint64_t node)
{
    pthread_mutex_lock(&fs.lock);
    bool sent = nodes[node_find(node)].sent != 0;
    pthread_mutex_unlock(&fs.lock);
    return sent;
}

/* While the last small put is under way: nothing is sent before it is answered. */
static void a_commit_is_planned_during_its_last_put(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    struct fake_call *put = call_wait("put");
    WAIT_FOR(node_sent(100));
    assert_null(call_open("commit"));
    answer_put(put, "receipt");
    struct fake_call *commit = call_wait("commit");
    struct m_commit_req q = commit_of(commit, &a);
    assert_int_equal(q.request, 1);
    assert_int_equal(q.receipts_n, 1);
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_int_equal(calls_of("commit"), 1);
}

/* A put that is not answered holds up nobody else, though its commit was planned already. */
static void an_early_plan_is_taken_back(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0}, other = {0};
    static const struct m_diff_ans none;
    start();
    node_add(100, "hello");
    node_add(200, "world");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    struct fake_call *put = call_wait("put");
    WAIT_FOR(node_sent(100));
    barrier(200, &other);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *commit = call_wait("commit");
    assert_false(node_sent(100));
    struct m_commit_req q = commit_of(commit, &a);
    struct m_changes m;
    assert_int_equal(
        msg_decode(&m_changes_desc, &m, q.changes.p, q.changes.n, MSG_STRICT, &a, NULL), 0);
    assert_int_equal(m.nodes_n, 1);
    assert_int_equal(m.nodes[0].node, 200);
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(other));
    assert_int_equal(other.err, 0);
    assert_false(CALLED(r));
    answer_put(put, "receipt");
    answer_committed(call_wait("commit"), 2);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

/* By a worker, and the lock is held only for what came meanwhile. */
static void a_long_log_is_copied_aside(void **state)
{
    (void)state;
    start();
    log_hold(true);
    __atomic_store_n(&log_long, true, __ATOMIC_SEQ_CST);
    sync_wake(fs.sync);
    WAIT_FOR(__atomic_load_n(&checkpoints, __ATOMIC_SEQ_CST) == 1);
    pthread_mutex_lock(&fs.lock); /* meanwhile */
    pthread_mutex_unlock(&fs.lock);
    log_hold(false);
    WAIT_FOR(__atomic_load_n(&checkpoint_ends, __ATOMIC_SEQ_CST) == 1);
    assert_int_equal(checkpoints, 1);
}

static void a_barrier_in_vain_flushes_and_times_out(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    fs.opt.fsync_timeout_ms = 100;
    barrier(100, &r);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, -ETIMEDOUT);
    assert_true(flushes > 0); /* before it said so */
    struct result again = {0};
    barrier(100, &again); /* still queued: the next one waits too */
    WAIT_FOR(CALLED(again));
    assert_int_equal(again.err, -ETIMEDOUT);
}

/* Neither servers nor the time-out of a commit count; nothing pending needs no flush. */
static void a_local_barrier_waits_for_the_disk_alone(void **state)
{
    (void)state;
    struct result r = {0};
    int err = -1;
    start();
    fs.opt.fsync_timeout_ms = 60000;
    node_add(100, "hello");
    size_t before = flushes;
    pthread_mutex_lock(&fs.lock);
    assert_true(sync_barrier(fs.sync, 100, true, result_done, &r, &err) != 0);
    pthread_mutex_unlock(&fs.lock);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_true(flushes > before);
}

static void equal_loads_share_a_call_and_a_moved_cursor_repeats_it(void **state)
{
    (void)state;
    struct result r[2] = {0};
    struct core_need need = {.kind = NEED_NAME, .ns = NS, .node = 1, .name = "x", .name_len = 1};
    start();
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r[0]);
    sync_load(fs.sync, &need, result_done, &r[1]);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *c = call_wait("lookup");
    settle();
    assert_int_equal(calls_of("lookup"), 1);
    pthread_mutex_lock(&fs.lock);
    cursor = 7;
    pthread_mutex_unlock(&fs.lock);
    struct m_lookup_ans m = {0};
    answer(c, &m_lookup_ans_desc, &m);
    answer(call_wait("lookup"), &m_lookup_ans_desc, &m);
    for (int i = 0; i < 2; i++) {
        WAIT_FOR(CALLED(r[i]));
        assert_int_equal(r[i].err, 0);
    }
    assert_int_equal(need_refusals, 1);
    assert_int_equal(need_answers, 1);
}

static void ask_name(const char *name);
/* A directory whose fsync waits is merged into theirs, as the answer to a load tells. */
static void fsync_follows_a_directory_merged_by_a_load(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    struct fake_call *diff = call_wait("diff");
    ask_name("m");
    answer_diff_missing(diff, 11);
    answer_put(call_wait("put"), "x");
    struct fake_call *c = call_wait("commit");
    assert_false(CALLED(r));
    answer_committed(c, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_false(nodes[0].dirty);
}

static void ask_name(const char *name)
{
    struct result r = {0};
    struct m_lookup_ans m = {0};
    struct core_need need = {.kind = NEED_NAME, .ns = NS, .node = 1, .name_len = 1};
    need.name[0] = (uint8_t)*name;
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r);
    pthread_mutex_unlock(&fs.lock);
    answer(call_wait("lookup"), &m_lookup_ans_desc, &m);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

/* A page of the directory with each name from the third on, until all of it is known. */
static void who_asks_for_many_names_gets_the_list(void **state)
{
    (void)state;
    struct m_readdir_ans page = {0};
    start();
    rest_pages = 2;
    ask_name("a");
    ask_name("b");
    assert_int_equal(calls_of("readdir"), 0);
    ask_name("c");
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    WAIT_FOR(need_answers == 4);
    ask_name("d");
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    WAIT_FOR(need_answers == 6);
    ask_name("e");
    assert_int_equal(calls_of("readdir"), 2);
    assert_int_equal(rest_pages, 0);
}

/* It is nobody's errand: when the cursor moves meanwhile it is dropped, and commits do not wait. */
static void what_is_loaded_ahead_gives_way(void **state)
{
    (void)state;
    struct m_readdir_ans page = {0};
    start();
    rest_pages = 2;
    ask_name("a");
    ask_name("b");
    ask_name("c");
    struct fake_call *c = call_wait("readdir");
    pthread_mutex_lock(&fs.lock);
    cursor = 9;
    pthread_mutex_unlock(&fs.lock);
    answer(c, &m_readdir_ans_desc, &page);
    WAIT_FOR(need_refusals == 1);
    ask_name("d");
    assert_int_equal(rest_pages, 2);
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    WAIT_FOR(need_answers == 5);
    assert_int_equal(rest_pages, 1);
}

static void records_wait_for_loads_and_loads_for_records(void **state)
{
    (void)state;
    struct result r[2] = {0};
    struct core_need need = {.kind = NEED_NAME, .ns = NS, .node = 1, .name = "x", .name_len = 1};
    start();
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r[0]);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *load = call_wait("lookup");
    struct m_watch w = {.ns = NS, .sjid = 1};
    struct m_wait_ans wa = {.changed = &w, .changed_n = 1};
    answer(call_wait("wait"), &m_wait_ans_desc, &wa);
    struct m_record rec = {.sjid = 1, .device = 4};
    struct m_list_ans l = {.records = &rec, .records_n = 1, .cursor = bytes_str("1"), .head = 1};
    answer(call_wait("list"), &m_list_ans_desc, &l);
    settle();
    assert_int_equal(cursor, 0); /* held */
    need.name[0] = 'y';
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r[1]);
    pthread_mutex_unlock(&fs.lock);
    settle();
    assert_int_equal(calls_of("lookup"), 1); /* held, too */
    struct m_lookup_ans m = {0};
    answer(load, &m_lookup_ans_desc, &m);
    WAIT_FOR(CALLED(r[0]));
    answer(call_wait("lookup"), &m_lookup_ans_desc, &m);
    WAIT_FOR(CALLED(r[1]));
    assert_int_equal(cursor, 1);
    assert_int_equal(need_refusals, 0);
}

static void status_says_what_is_waited_for(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    assert_true(status_says("waits_for", NULL));
    node_add(100, "hello");
    barrier(100, &r);
    struct fake_call *c = call_wait("diff");
    assert_true(status_says("waits_for", "1 blocks on their way"));
    answer(c, &m_diff_ans_desc, &(struct m_diff_ans){0});
    c = call_wait("commit");
    assert_true(status_says("waits_for", "the answer to commit"));
    answer_error(c, -ECONNRESET);
    c = call_wait("session");
    assert_true(status_says("waits_for", "the metadata server, which is not reached"));
    answer_session(c);
    answer_error(call_wait("commit"), -EIO); /* it answers, but not to this */
    WAIT_FOR(status_says("waits_for", "a pause before commit"));
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    WAIT_FOR(status_says("waits_for", NULL));
}

/* What a restored server lacks is told until the mount ends, whatever is committed since. */
static void what_a_restored_server_lacks_goes_on_being_told(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    files_missing = 3;
    struct m_watch w = {.ns = NS, .sjid = 50};
    answer(call_wait("wait"), &m_wait_ans_desc,
           &(struct m_wait_ans){.changed = &w, .changed_n = 1});
    const struct m_list_ans parted = {.other = true, .common = 2, .resync = 50};
    answer(call_wait("list"), &m_list_ans_desc, &parted);
    answer(call_wait("list"), &m_list_ans_desc, &parted); /* where? with all marks */
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("readdir"), &m_readdir_ans_desc, &(struct m_readdir_ans){0});
    const struct m_list_ans rest = {.cursor = bytes_str("2"), .head = 2};
    answer(call_wait("list"), &m_list_ans_desc, &rest);
    files_missing = 0;
    assert_true(status_says("restored", "the metadata server was restored"));
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &(struct m_diff_ans){0});
    answer_committed(call_wait("commit"), 3);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_true(status_says("restored", "the metadata server was restored"));
    assert_true(status_says("last_error", NULL));
}

static void a_gap_in_the_journal_is_compared_away(void **state)
{
    (void)state;
    start();
    open_requests = 1;
    struct core_need need = {.kind = NEED_NAME, .ns = NS, .node = 1, .name = "x", .name_len = 1};
    struct m_watch w = {.ns = NS, .sjid = 50};
    struct m_wait_ans wa = {.changed = &w, .changed_n = 1};
    struct result r = {0};
    answer(call_wait("wait"), &m_wait_ans_desc, &wa);
    const struct m_list_ans gap = {.resync = 50, .cursor = bytes_str("50"), .head = 50};
    answer(call_wait("list"), &m_list_ans_desc, &gap);
    struct m_request_state q = {.request = 7, .status = COMMIT_COMMITTED, .sjid = 3};
    const struct m_requests_ans a = {.requests = &q, .requests_n = 1};
    struct fake_call *c = call_wait("requests"); /* first how what is under way ended */
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r);
    pthread_mutex_unlock(&fs.lock);
    answer(c, &m_requests_ans_desc, &a);
    WAIT_FOR(calls_of("readdir") == 2);       /* several at a time */
    answer_error(call_wait("readdir"), -EIO); /* the same question again */
    const struct m_readdir_ans page = {0};
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    c = call_wait("readdir");
    assert_int_equal(calls_of("lookup"), 0); /* loads wait */
    answer_error(c, -ESTALE);                /* even that is forgotten: from the beginning */
    answer_error(call_wait("lookup"), -ESTALE);
    const struct m_list_ans later = {.resync = 60, .cursor = bytes_str("60"), .head = 60};
    answer(call_wait("list"), &m_list_ans_desc, &later);
    WAIT_FOR(pasts_forgotten == 1); /* the core was told, should it be of a file's past */
    answers_not_taken = 1; /* a page that the disk here did not compare: from the beginning */
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page); /* of before: it says nothing now */
    call_wait("readdir");
    struct result synced = {0}; /* meanwhile an fsync does not wait for the comparison */
    node_add(100, "hello");
    assert_true(status_says("waits_for", "a comparison of all that is known here"));
    barrier(100, &synced);
    answer(call_wait("diff"), &m_diff_ans_desc, &(struct m_diff_ans){0});
    answer_committed(call_wait("commit"), 61);
    WAIT_FOR(CALLED(synced));
    assert_int_equal(synced.err, 0);
    assert_int_equal(comparisons, 0);
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    const struct m_list_ans rest = {.cursor = bytes_str("60"), .head = 60};
    answer(call_wait("list"), &m_list_ans_desc, &rest); /* on from there */
    assert_int_equal(comparisons, 1);
    assert_int_equal(cursor, 60);
    struct m_lookup_ans m = {0};
    answer(call_wait("lookup"), &m_lookup_ans_desc, &m);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
}

static void background_uploads_before_it_takes_the_lane(void **state)
{
    (void)state;
    start();
    node_add(100, "quiet");
    background_ok = true;
    pthread_mutex_lock(&fs.lock);
    sync_kick(fs.sync);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *diff = call_wait("diff");
    settle();
    assert_int_equal(calls_of("commit"), 0);
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(nodes[0].sent, 0); /* the plan was taken back */
    pthread_mutex_unlock(&fs.lock);
    answer_diff_missing(diff, 11);
    answer_put(call_wait("put"), "x");
    answer_committed(call_wait("commit"), 1);
    char text[512];
    assert_int_equal(sync_drain(fs.sync, WAIT_MS, NULL, NULL, text), 0);
}

/* What an fsync committed out of the batch is not asked about again. */
static void background_leaves_out_what_a_barrier_committed(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    struct result r = {0};
    start();
    node_add(100, "quiet");
    node_add(200, "hasty");
    background_ok = true;
    pthread_mutex_lock(&fs.lock);
    sync_kick(fs.sync);
    pthread_mutex_unlock(&fs.lock);
    struct fake_call *diff = call_wait("diff");
    barrier(200, &r);
    answer_diff_missing(diff, 11);
    WAIT_FOR(calls_of("put") == 2);
    struct fake_call *hasty = call_wait("put"); /* the barrier's goes first */
    hasty->open = false;
    struct fake_call *quiet = call_wait("put");
    hasty->open = true;
    assert_int_equal(answer_put(hasty, "x"), 1);
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
    assert_int_equal(answer_put(quiet, "x"), 1);
    struct fake_call *commit = call_wait("commit");
    struct m_commit_req q = commit_of(commit, &a);
    assert_int_equal(q.ids_n, 1);
    assert_true(block_id_equal(&q.ids[0].block, &nodes[0].id));
    answer_committed(commit, 2);
    assert_int_equal(sync_drain(fs.sync, WAIT_MS, NULL, NULL, NULL), 0);
    assert_int_equal(calls_of("diff"), 1);
}

static void the_end_ends_every_waiter(void **state)
{
    struct result r[3] = {0};
    struct core_need need = {.kind = NEED_NODE, .ns = NS, .node = 1};
    start();
    node_add(100, "hello");
    barrier(100, &r[0]);
    struct block_id id = store_add("far", false);
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r[1]);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &r[2]);
    pthread_mutex_unlock(&fs.lock);
    settle();
    sync_free(fs.sync);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r[i].calls, 1);
        assert_int_equal(r[i].err, -ESHUTDOWN);
    }
    fs.sync = NULL;
    (void)state;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_barrier_asks_puts_commits),
        T(a_present_block_is_not_put),
        T(missing_is_put_and_sent_under_the_same_number),
        T(a_lost_answer_is_asked_for_under_the_same_number),
        T(a_probe_goes_by_a_namespace_that_is_there),
        T(a_failed_target_is_replaced_and_the_question_asked_anew),
        T(a_namespace_that_stays_is_not_brought_elsewhere),
        T(blocks_are_passed_on_to_who_cannot_be_reached),
        T(a_better_candidate_is_gone_back_to),
        T(what_candidates_lack_decides_between_equals),
        T(a_choice_is_made_without_the_counts_too),
        T(many_barriers_share_commits),
        T(a_conflict_goes_on_until_the_copy_is_committed),
        T(the_journal_settles_a_commit_whose_answer_is_lost),
        T(the_newest_is_asked_for_and_applied),
        T(the_newest_is_not_waited_for_forever),
        T(trouble_with_the_journal_ends_with_it),
        T(what_cannot_be_looked_at_is_not_sent),
        T(a_barrier_for_everything_waits_for_each),
        T(a_barrier_for_everything_leaves_nothing_out),
        T(a_cancelled_barrier_ends_once),
        T(a_commit_is_planned_during_its_last_put),
        T(an_early_plan_is_taken_back),
        T(a_long_log_is_copied_aside),
        T(a_barrier_in_vain_flushes_and_times_out),
        T(a_local_barrier_waits_for_the_disk_alone),
        T(equal_loads_share_a_call_and_a_moved_cursor_repeats_it),
        T(fsync_follows_a_directory_merged_by_a_load),
        T(who_asks_for_many_names_gets_the_list),
        T(what_is_loaded_ahead_gives_way),
        T(records_wait_for_loads_and_loads_for_records),
        T(a_gap_in_the_journal_is_compared_away),
        T(what_a_restored_server_lacks_goes_on_being_told),
        T(status_says_what_is_waited_for),
        T(background_uploads_before_it_takes_the_lane),
        T(background_leaves_out_what_a_barrier_committed),
        T(the_end_ends_every_waiter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
