// SPDX-License-Identifier: Apache-2.0
/* What the driver loads: names and directories that are asked for, and whole comparisons. (world.h)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frame.h"
#include "world.h"

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

/* A list that ends before what was heard of when it was asked for tells that the server was
 * restored; not one that was asked for before something else was heard. */
static void a_journal_that_ends_before_what_was_heard(void **state)
{
    const struct m_list_ans short_list = {.cursor = bytes_str("1"), .head = 1};
    struct m_watch w = {.ns = NS, .sjid = 50};
    const struct m_wait_ans news = {.changed = &w, .changed_n = 1};
    (void)state;
    start();
    core_head = 3; /* a commit was answered with that, and its record is waited for */
    answer(call_wait("wait"), &m_wait_ans_desc, &news);
    struct fake_call *list = call_wait("list");
    w.sjid = 51;
    struct fake_call *wait = call_wait("wait");
    answer(wait, &m_wait_ans_desc, &news);
    WAIT_FOR(call_open("wait") && call_open("wait") != wait);
    answer(list, &m_list_ans_desc, &short_list);
    list = call_wait("list"); /* asked once more */
    assert_int_equal(journal_ends, 0);
    answer(list, &m_list_ans_desc, &short_list);
    list = call_wait("list");
    assert_int_equal(journal_ends, 1);
    assert_int_equal(core_head, 1);
    answer(list, &m_list_ans_desc, &short_list);
    WAIT_FOR(status_says("last_error", NULL));
    assert_int_equal(journal_ends, 1);
    struct arena cleanup_arena a = {0};
    struct m_wait_req q;
    wait = call_wait("wait"); /* for what is newer than that, not than what is lost */
    pthread_mutex_lock(&net_lock);
    assert_int_equal(
        msg_decode(&m_wait_req_desc, &q, wait->body.p, wait->body.n, MSG_LENIENT, &a, NULL), 0);
    pthread_mutex_unlock(&net_lock);
    assert_int_equal(q.watch[0].sjid, 1);
}

/* What was said to be another journal, because the server could not know yet, is the same one: the
 * core is told, though no less was heard. */
static void a_journal_that_was_doubted_goes_on(void **state)
{
    struct m_watch w = {.ns = NS, .sjid = 50};
    const struct m_wait_ans news = {.changed = &w, .changed_n = 1};
    const struct m_list_ans same = {.cursor = bytes_str("2"), .head = 2};
    (void)state;
    start();
    cursor = 2;
    core_other = true;
    answer(call_wait("wait"), &m_wait_ans_desc, &news);
    answer(call_wait("list"), &m_list_ans_desc, &same);
    struct fake_call *list = call_wait("list");
    assert_int_equal(journal_ends, 1);
    assert_false(core_other);
    answer(list, &m_list_ans_desc, &same);
    WAIT_FOR(status_says("last_error", NULL));
    assert_int_equal(journal_ends, 1);
}

/* A record that is not the one that had its number here: the journal is asked for again, and
 * nothing of the answer is applied. */
static void a_record_of_another_journal_is_asked_for_again(void **state)
{
    struct m_watch w = {.ns = NS, .sjid = 50};
    const struct m_wait_ans news = {.changed = &w, .changed_n = 1};
    struct m_record rec[] = {{.sjid = 1, .device = 4, .mark = MARK_STRANGE},
                             {.sjid = 2, .device = 4}};
    const struct m_list_ans strange = {
        .records = rec, .records_n = 2, .cursor = bytes_str("2"), .head = 2};
    (void)state;
    start();
    cursor = 1;
    answer(call_wait("wait"), &m_wait_ans_desc, &news);
    struct fake_call *list = call_wait("list");
    answer(list, &m_list_ans_desc, &strange);
    WAIT_FOR(call_open("list") && call_open("list") != list);
    assert_int_equal(cursor, 1);
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

static void page_answered(void)
{
    struct m_readdir_ans page = {0};
    answer(call_wait("readdir"), &m_readdir_ans_desc, &page);
    settle();
}

/* Nothing but one page after the other, and nothing while programs ask. */
static void what_nobody_asks_for_is_loaded_when_it_is_quiet(void **state)
{
    (void)state;
    start();
    unknown_pages = 2;
    time_passes(4000);
    assert_int_equal(calls_of("readdir"), 0);
    ask_name("a");
    time_passes(4000);
    assert_int_equal(calls_of("readdir"), 0);
    time_passes(2000);
    assert_int_equal(calls_of("readdir"), 1);
    page_answered();
    time_passes(1000);
    assert_int_equal(calls_of("readdir"), 2);
    page_answered();
    assert_int_equal(unknown_pages, 0);
    time_passes(1000);
    time_passes(1000); /* once more from the beginning, for what the last one has shown */
    unknown_pages = 1;
    time_passes(60000); /* it is at the end: whatever shows more says so */
    assert_int_equal(calls_of("readdir"), 2);
    ask_name("b");
    time_passes(6000);
    assert_int_equal(calls_of("readdir"), 3);
    page_answered();
}

/* Where answers take long there are fewer questions: it may be because of them. */
static void filling_asks_a_busy_server_less(void **state)
{
    (void)state;
    start();
    unknown_pages = 2;
    time_passes(0);
    time_passes(6000);
    call_wait("readdir");
    time_passes(3000);
    page_answered();
    time_passes(25000);
    assert_int_equal(calls_of("readdir"), 1);
    time_passes(6000);
    page_answered();
    assert_int_equal(calls_of("readdir"), 2);
}

/* A page that the cursor has overtaken is let go, and asked for a while later. */
static void filling_gives_way(void **state)
{
    (void)state;
    start();
    unknown_pages = 1;
    time_passes(0);
    time_passes(6000);
    pthread_mutex_lock(&fs.lock);
    cursor = 9;
    pthread_mutex_unlock(&fs.lock);
    page_answered();
    assert_int_equal(need_refusals, 1);
    assert_int_equal(calls_of("readdir"), 1);
    time_passes(2000);
    page_answered();
    assert_int_equal(unknown_pages, 0);
}

/* A page that nobody asked for, and that does not come, keeps no news from those who wait for them.
 */
static void records_do_not_wait_for_filling(void **state)
{
    (void)state;
    start();
    unknown_pages = 1;
    time_passes(0);
    time_passes(6000);
    assert_int_equal(calls_of("readdir"), 1);
    struct m_watch w = {.ns = NS, .sjid = 1};
    struct m_wait_ans wa = {.changed = &w, .changed_n = 1};
    answer(call_wait("wait"), &m_wait_ans_desc, &wa);
    struct m_record rec = {.sjid = 1, .device = 4};
    struct m_list_ans l = {.records = &rec, .records_n = 1, .cursor = bytes_str("1"), .head = 1};
    answer(call_wait("list"), &m_list_ans_desc, &l);
    settle();
    assert_int_equal(cursor, 1);
    page_answered();
    assert_int_equal(need_refusals, 1);
}

/* Nor is the disk filled with what nobody asked for. */
static void filling_leaves_room_on_the_disk(void **state)
{
    (void)state;
    start();
    unknown_pages = 2;
    disk_free = 200;
    time_passes(0);
    time_passes(70000);
    time_passes(70000);
    assert_int_equal(calls_of("readdir"), 0);
    disk_free = 201;
    time_passes(70000);
    assert_int_equal(calls_of("readdir"), 1);
    page_answered();
    char tree[200]; /* which has become larger than what is free */
    snprintf(tree, sizeof tree, "%s/tree.db", fs.opt.state);
    int fd = open(tree, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 201), 0);
    close(fd);
    time_passes(70000);
    assert_int_equal(calls_of("readdir"), 1);
    unlink(tree);
    time_passes(70000);
    assert_int_equal(calls_of("readdir"), 2);
    page_answered();
}

static void nothing_is_filled_where_nobody_wants_it(void **state)
{
    (void)state;
    fs.opt.no_fill = true;
    start();
    unknown_pages = 1;
    time_passes(0);
    time_passes(60000);
    assert_int_equal(calls_of("readdir"), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(equal_loads_share_a_call_and_a_moved_cursor_repeats_it),
        T(fsync_follows_a_directory_merged_by_a_load),
        T(who_asks_for_many_names_gets_the_list),
        T(what_is_loaded_ahead_gives_way),
        T(records_wait_for_loads_and_loads_for_records),
        T(a_journal_that_ends_before_what_was_heard),
        T(a_journal_that_was_doubted_goes_on),
        T(a_record_of_another_journal_is_asked_for_again),
        T(a_gap_in_the_journal_is_compared_away),
        T(what_nobody_asks_for_is_loaded_when_it_is_quiet),
        T(filling_gives_way),
        T(filling_asks_a_busy_server_less),
        T(records_do_not_wait_for_filling),
        T(filling_leaves_room_on_the_disk),
        T(nothing_is_filled_where_nobody_wants_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
