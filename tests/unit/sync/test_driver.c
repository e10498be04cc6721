// SPDX-License-Identifier: Apache-2.0
/* The driver against scripted servers and a core of few words (world.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

/* The driver runs already, and looks at it. */
static void race_percent(unsigned n)
{
    pthread_mutex_lock(&fs.lock);
    fs.opt.race_percent = n;
    pthread_mutex_unlock(&fs.lock);
}

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

static struct fake_call *call_wait_at(const char *method, const char *url)
{
    struct fake_call *found = NULL;
    int64_t end = now_ms() + WAIT_MS;
    while (!found && now_ms() < end) {
        pthread_mutex_lock(&net_lock);
        for (size_t i = 0; i < calls_n && !found; i++)
            if (calls[i].open && !strcmp(calls[i].method, method) && !strcmp(calls[i].url, url))
                found = &calls[i];
        pthread_mutex_unlock(&net_lock);
        usleep(500);
    }
    if (!found)
        fail_msg("no %s at %s", method, url);
    return found;
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
    pthread_mutex_lock(&fs.lock);
    while (fs.sync->nss_n < 2) { /* until it is learned */
        pthread_mutex_unlock(&fs.lock);
        usleep(500);
        pthread_mutex_lock(&fs.lock);
    }
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
    while (!CALLED(r[0]) || !CALLED(r[1])) {
        struct m_locate_ans none = {0};
        static const char *const methods[] = {"put", "get", "have"};
        struct fake_call *c;
        for (size_t k = 0; k < 3; k++)
            if ((c = call_open(methods[k])))
                answer_error(c, -ECONNREFUSED);
        if ((c = call_open("locate")))
            answer(c, &m_locate_ans_desc, &none);
        usleep(500);
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
    for (size_t put = 0; put < 3;) { /* their blocks do not wait for the commit under way */
        struct fake_call *c = call_open("diff");
        if (c)
            answer_diff_missing(c, 11);
        c = call_open("put");
        if (c)
            put += answer_put(c, "x");
        usleep(500);
    }
    usleep(20000);
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
    while (!call_open("commit")) {
        struct fake_call *c = call_open("diff");
        if (c)
            answer(c, &m_diff_ans_desc, &none);
        usleep(500);
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
    answer(call_wait("session"), &m_session_ans_desc, &none);
    struct m_lock_req q = lock_of(call_wait("lock"), &ar);
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
    usleep(20000);
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
    __atomic_store_n(&log_held, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&log_long, true, __ATOMIC_SEQ_CST);
    sync_wake(fs.sync);
    WAIT_FOR(__atomic_load_n(&checkpoints, __ATOMIC_SEQ_CST) == 1);
    pthread_mutex_lock(&fs.lock); /* meanwhile */
    pthread_mutex_unlock(&fs.lock);
    __atomic_store_n(&log_held, false, __ATOMIC_SEQ_CST);
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
    usleep(20000);
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
    usleep(20000);
    assert_int_equal(cursor, 0); /* held */
    need.name[0] = 'y';
    pthread_mutex_lock(&fs.lock);
    sync_load(fs.sync, &need, result_done, &r[1]);
    pthread_mutex_unlock(&fs.lock);
    usleep(20000);
    assert_int_equal(calls_of("lookup"), 1); /* held, too */
    struct m_lookup_ans m = {0};
    answer(load, &m_lookup_ans_desc, &m);
    WAIT_FOR(CALLED(r[0]));
    answer(call_wait("lookup"), &m_lookup_ans_desc, &m);
    WAIT_FOR(CALLED(r[1]));
    assert_int_equal(cursor, 1);
    assert_int_equal(need_refusals, 0);
}

static void answer_get(struct fake_call *c, const struct block_id *id, const char *text)
{
    struct rpc_result r = {.status = 200};
    struct m_get_item item = {.block = *id,
                              .stored_len = text ? strlen(text) : 0,
                              .logical_len = text ? strlen(text) : 0,
                              .error = text ? 0 : ERR_NOT_FOUND};
    struct m_get_head h = {.items = &item, .items_n = 1};
    frame_head(&m_get_head_desc, &h, &r.body);
    if (text)
        buf_append(&r.body, text, strlen(text));
    call_end(c, &r);
}

/* What the status says of the namespace's key; NULL: null. */
static bool status_says(const char *key, const char *text)
{
    struct buf status = {0};
    char want[128];
    sync_status(fs.sync, &status);
    buf_append(&status, "", 1);
    snprintf(want, sizeof want, text ? "\"%s\": \"%s" : "\"%s\": null", key, text);
    bool said = strstr((const char *)status.p, want) != NULL;
    buf_free(&status);
    return said;
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
    struct fake_call *second = call_wait_at("get", "http://cloud");
    assert_true(first->open);
    answer_get(second, &id, "late");
    WAIT_FOR(CALLED(r[0]));
    assert_int_equal(r[0].err, 0);
    WAIT_FOR(!__atomic_load_n(&first->open, __ATOMIC_SEQ_CST));
    fetch(&next, &r[1]);
    answer_get(call_wait_at("get", "http://cloud"), &next, "next");
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
    answer_get(call_wait_at("get", "http://cloud"), &id, "wrong");
    answer_get(first, &id, "right");
    WAIT_FOR(CALLED(r[0]));
    assert_int_equal(r[0].err, 0);
    fetch(&other, &r[1]);
    first = call_wait_at("get", "http://hq");
    struct fake_call *second = call_wait_at("get", "http://cloud");
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
    struct fake_call *second = call_wait_at("get", "http://cloud");
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
    answer_get(call_wait_at("get", "http://cloud"), &next, "next");
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
    WAIT_FOR(call_open("have") != NULL); /* long after it was late: it is being probed */
    assert_int_equal(calls_of("get"), 1);
    pthread_mutex_lock(&fs.lock);
    fs.sync->races.saved = PACE_SAVED_FIRST;
    pthread_mutex_unlock(&fs.lock);
    answer_get(call_wait_at("get", "http://cloud"), &id, "late");
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
    while (!CALLED(r)) {
        struct m_locate_ans none = {0};
        struct fake_call *c = call_open("get");
        if (c)
            answer_get(c, &id, NULL);
        c = call_open("locate");
        if (c)
            answer(c, &m_locate_ans_desc, &none);
        usleep(500);
    }
    assert_int_equal(r.err, -EIO);
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
    usleep(20000);
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
    while (!is_parked(1)) {
        if ((c = call_open("diff")))
            answer_diff_missing(c, 11);
        if ((c = call_open("have")))
            answer_stored(c, NULL, false);
        if ((c = call_open("put")))
            assert_int_equal(answer_put(c, "x"), 1);
        if (call_open("commit")) /* not before that, which may have come since it was looked at */
            assert_true(is_parked(1));
        usleep(500);
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
    answer_session(call_wait("session"));
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
    answer_session(call_wait("session"));
    pthread_mutex_lock(&fs.lock);
    nodes[0].parked = false;
    pthread_mutex_unlock(&fs.lock);
    barrier(100, &again);
    while (!(c = call_open("commit"))) { /* now the content goes, too, wherever that is */
        struct fake_call *d = call_open("diff");
        if (d)
            answer_diff_missing(d, 0);
        if ((d = call_open("put")))
            answer_put(d, "x");
        usleep(500);
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
    int64_t refused = now_ms();
    while (calls_of("put") < 2) {
        struct fake_call *c = call_open("session");
        if (c)
            answer_session(c);
        if ((c = call_open("have"))) /* the server answers otherwise */
            answer(c, &m_put_ans_desc, &here);
        if ((c = call_open("diff")))
            answer_diff_missing(c, 11);
        assert_true(now_ms() < refused + WAIT_MS);
        usleep(500);
    }
    assert_true(now_ms() - refused >= 2000);
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
    c = call_wait("session"); /* is there one meanwhile? */
    assert_null(call_open("commit"));
    answer_session(c);
    answer_refused(call_wait("commit"), REFUSED_ASSIGNMENT);
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
    answer_refused(call_wait("commit"), REFUSED_ASSIGNMENT);
    answer_session(call_wait("session"));
    answer_refused(call_wait("commit"), REFUSED_ASSIGNMENT);
    WAIT_FOR(CALLED(r));             /* not when its time is over */
    assert_int_equal(r.err, -EROFS); /* what the core says here of all that is parked */
    assert_int_equal(calls_of("diff") + calls_of("put"), 0);
    assert_true(status_says("last_error", "1 block servers are assigned, 2 are needed"));
    answer_account_changed();
    session_candidates = 2;
    answer_session(call_wait("session"));
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
    answer_session(call_wait("session"));
    answer(call_wait("diff"), &m_diff_ans_desc, &none); /* of the second one */
    c = call_wait("commit");
    assert_int_equal(commit_of(c, &a).request, request);
    assert_int_equal(commit_of(c, &a).targets_n, 2);
    assert_int_equal(calls_of("commit"), 2); /* refused once */
    answer_committed(c, 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(r.err, 0);
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
    usleep(20000);
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
        T(a_request_states_what_is_held_and_wanted),
        T(what_is_given_to_nobody_is_given_back),
        T(a_lease_is_not_outlived),
        T(a_new_server_is_told_what_is_held),
        T(what_is_only_held_costs_nothing),
        T(a_lease_of_a_new_server_begins_when_it_knows_all),
        T(a_lease_that_ended_is_not_revived),
        T(who_is_no_member_any_more_has_no_locks),
        T(without_a_server_there_is_no_lock),
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
        T(background_uploads_before_it_takes_the_lane),
        T(background_leaves_out_what_a_barrier_committed),
        T(a_linked_block_is_not_put),
        T(what_is_not_here_is_sought_at_its_target),
        T(what_was_linked_is_fetched_where_it_came_from),
        T(a_lost_block_holds_nothing_else_back),
        T(a_refusal_waits_for_dirty_data),
        T(what_may_only_be_read_is_sent_to_be_refused),
        T(a_drain_says_what_was_refused),
        T(a_refused_put_is_tried_again_after_a_pause),
        T(a_refused_put_leaves_the_server_for_everything_else),
        T(without_a_block_server_it_is_sent_to_be_refused),
        T(with_too_few_block_servers_it_is_sent_to_be_refused),
        T(a_refused_target_waits_for_the_session_that_names_others),
        T(the_end_ends_every_waiter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
