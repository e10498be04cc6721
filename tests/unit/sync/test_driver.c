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

/* A server that was put back has lost it, perhaps: after the comparison it is pending again, or is
 * not. */
static void what_is_compared_is_not_durable(void **state)
{
    (void)state;
    struct result lost = {0}, kept = {0};
    struct m_diff_ans none = {0};
    int err = -1;
    start();
    node_add(100, "hello");
    node_add(101, "there");
    for (unsigned i = 0; i < 2; i++) {
        nodes[i].dirty = false;
        nodes[i].unsure = true;
    }
    barrier(100, &lost);
    barrier(101, &kept);
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(sync_barrier(fs.sync, 100, true, result_done, &lost, &err), 0);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(err, 0); /* here it is */
    settle();
    time_passes(1000);
    assert_false(CALLED(lost) || CALLED(kept));
    pthread_mutex_lock(&fs.lock);
    nodes[0].unsure = nodes[1].unsure = false;
    nodes[0].dirty = true;
    pthread_mutex_unlock(&fs.lock);
    time_passes(1000);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *commit = call_wait("commit");
    WAIT_FOR(CALLED(kept));
    assert_int_equal(kept.err, 0);
    assert_false(CALLED(lost));
    answer_committed(commit, 1);
    WAIT_FOR(CALLED(lost));
    assert_int_equal(lost.err, 0);
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

/* What a restored server lacks is told for long, whatever is committed since. */
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

/* What was committed and is pending again is kept like what never was. */
static void what_is_to_be_sent_again_is_not_evicted(void **state)
{
    (void)state;
    struct result r = {0};
    start();
    node_add(100, "hello");
    barrier(100, &r);
    answer(call_wait("diff"), &m_diff_ans_desc, &(struct m_diff_ans){0});
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    WAIT_FOR(store[0].synced);
    struct m_watch w = {.ns = NS, .sjid = 50};
    answer(call_wait("wait"), &m_wait_ans_desc,
           &(struct m_wait_ans){.changed = &w, .changed_n = 1});
    const struct m_list_ans parted = {.other = true, .resync = 50};
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("list"), &m_list_ans_desc, &parted);
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("readdir"), &m_readdir_ans_desc, &(struct m_readdir_ans){0});
    call_wait("list"); /* on from there */
    assert_false(store[0].synced);
}

/* Where a restored server's journal and ours part is forgotten meanwhile: what is known is compared
 * with what the server has now. Nothing is given up, and the server not asked without a pause. */
static void what_they_parted_from_is_forgotten(void **state)
{
    (void)state;
    start();
    struct m_watch w = {.ns = NS, .sjid = 50};
    answer(call_wait("wait"), &m_wait_ans_desc,
           &(struct m_wait_ans){.changed = &w, .changed_n = 1});
    const struct m_list_ans parted = {.other = true, .common = 2, .resync = 50};
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("list"), &m_list_ans_desc, &parted);
    answer_error(call_wait("readdir"), -ESTALE);
    answer_error(call_wait("readdir"), -ESTALE);
    int64_t before = now_ms();
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("list"), &m_list_ans_desc, &parted);
    assert_true(now_ms() - before >= 50);
    for (unsigned i = 0; i < 2; i++)
        answer(call_wait("readdir"), &m_readdir_ans_desc, &(struct m_readdir_ans){0});
    const struct m_list_ans rest = {.cursor = bytes_str("50"), .head = 50};
    answer(call_wait("list"), &m_list_ans_desc, &rest);
    assert_int_equal(comparisons, 1);
    assert_int_equal(cursor, 50);
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
    struct fake_call *diff = call_later("diff");
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
    struct fake_call *diff = call_later("diff");
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
        T(what_is_compared_is_not_durable),
        T(a_present_block_is_not_put),
        T(missing_is_put_and_sent_under_the_same_number),
        T(a_lost_answer_is_asked_for_under_the_same_number),
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
        T(what_a_restored_server_lacks_goes_on_being_told),
        T(what_is_to_be_sent_again_is_not_evicted),
        T(what_they_parted_from_is_forgotten),
        T(status_says_what_is_waited_for),
        T(background_uploads_before_it_takes_the_lane),
        T(background_leaves_out_what_a_barrier_committed),
        T(the_end_ends_every_waiter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
