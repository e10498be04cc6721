// SPDX-License-Identifier: Apache-2.0
/* What the driver has under way and in its queues is bounded: each bound, and what happens at it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "world.h"

static const struct m_diff_ans all_present;

static struct block_id block(unsigned k)
{
    char text[32];
    snprintf(text, sizeof text, "block %u", k);
    return store_add(text, true);
}

static struct block_id far_block(unsigned k)
{
    char text[32];
    snprintf(text, sizeof text, "far %u", k);
    return store_add(text, false);
}

static void upload(unsigned k)
{
    struct m_block_ref ref = {.block = block(k), .len = 8};
    pthread_mutex_lock(&fs.lock);
    sync_upload(fs.sync, NS, &ref, 1);
    pthread_mutex_unlock(&fs.lock);
}

static void fetch(const struct block_id *ids, size_t n, struct result *r)
{
    pthread_mutex_lock(&fs.lock);
    sync_fetch(fs.sync, NS, ids, n, result_done, r);
    pthread_mutex_unlock(&fs.lock);
}

static size_t ids_of_get(const struct fake_call *c)
{
    struct arena cleanup_arena a = {0};
    struct m_get_req q;
    assert_int_equal(msg_decode(&m_get_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL),
                     0);
    return q.blocks_n;
}

static void questions_gather_and_one_place_is_for_barriers(void **state)
{
    (void)state;
    struct arena cleanup_arena a = {0};
    static struct result r[2]; /* the end of the driver ends it, too */
    struct m_diff_req q;
    start();
    for (unsigned k = 0; k + 1 < DIFFS_INFLIGHT_MAX; k++) {
        upload(k);
        WAIT_FOR(calls_of("diff") == k + 1);
    }
    upload(100);
    upload(101);
    settle();
    assert_int_equal(calls_of("diff"), DIFFS_INFLIGHT_MAX - 1);
    node_add(100, "one");
    barrier(100, &r[0]);
    WAIT_FOR(calls_of("diff") == DIFFS_INFLIGHT_MAX);
    node_add(101, "two");
    barrier(101, &r[1]);
    settle();
    assert_int_equal(calls_of("diff"), DIFFS_INFLIGHT_MAX);
    answer(call_open("diff"), &m_diff_ans_desc, &all_present); /* the barrier's is next … */
    WAIT_FOR(calls_of("diff") == DIFFS_INFLIGHT_MAX + 1);
    size_t n = 0;
    while (n != 2) { /* … and those that gathered share one */
        struct fake_call *c = call_wait("diff");
        assert_int_equal(
            msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL), 0);
        n = q.ids_n;
        answer(c, &m_diff_ans_desc, &all_present);
    }
    assert_int_equal(calls_of("diff"), DIFFS_INFLIGHT_MAX + 2);
}

static void puts_in_flight(void **state)
{
    (void)state;
    start();
    for (unsigned k = 0; k <= PUTS_INFLIGHT_MAX; k++) {
        upload(k);
        answer_diff_missing(call_wait("diff"), 11);
        if (k < PUTS_INFLIGHT_MAX)
            WAIT_FOR(calls_of("put") == k + 1);
    }
    settle();
    assert_int_equal(calls_of("put"), PUTS_INFLIGHT_MAX);
    answer_put(call_open("put"), "x");
    WAIT_FOR(calls_of("put") == PUTS_INFLIGHT_MAX + 1);
}

/* Answers a put, but not yet one to be passed on, unless it may; how many blocks that were, which
 * are looked at. */
static size_t put_answered(struct fake_call *c, bool pass_on)
{
    struct arena cleanup_arena a = {0};
    struct m_put_head h;
    struct bytes head, raw;
    assert_int_equal(frame_split(bytes_of(c->body.p, c->body.n), &head, &raw), 0);
    assert_int_equal(msg_decode(&m_put_head_desc, &h, head.p, head.n, MSG_STRICT, &a, NULL), 0);
    if (!strcmp(c->url, "http://cloud")) {
        answer_error(c, -EHOSTUNREACH);
        return 0;
    }
    if (h.relay && !pass_on)
        return 0;
    if (h.relay) {
        assert_true(h.items_n == 1 || raw.n <= 1u << 20);
        assert_true(c->timeout_ms >= 2 * (20000 + raw.n / 64)); /* over two links of 64 KiB/s */
    }
    answer_put(c, h.relay ? "cloud" : "hq");
    return h.relay ? h.items_n : 0;
}

/* What another server is to pass on goes in small portions, which a slow link can bring in time. */
static void blocks_passed_on_at_a_time(void **state)
{
    (void)state;
    static struct result r[4];
    static const uint32_t sizes[] = {400000, 400000, 400000, 1500000};
    static const char *const names[] = {"a", "b", "c", "d"};
    size_t passed_on = 0, committed = 0, asked = 0;
    bool queued = false;
    fs.opt.copies = 2;
    start();
    for (unsigned k = 0; k < 4; k++) {
        node_long(100 + k, names[k], sizes[k]);
        barrier(100 + k, &r[k]);
    }
    UNTIL (CALLED(r[0]) && CALLED(r[1]) && CALLED(r[2]) && CALLED(r[3])) {
        struct fake_call *c;
        if ((c = call_open("diff"))) {
            struct arena cleanup_arena a = {0};
            struct m_diff_req q;
            assert_int_equal(
                msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL), 0);
            asked += q.target == 12 ? q.ids_n : 0;
            answer_diff_missing(c, q.target);
        }
        struct fake_call *puts[CALLS_MAX];
        size_t n = 0;
        pthread_mutex_lock(&net_lock);
        for (size_t i = 0; i < calls_n; i++)
            if (calls[i].open && !strcmp(calls[i].method, "put"))
                puts[n++] = &calls[i];
        pthread_mutex_unlock(&net_lock);
        for (size_t i = 0; i < n; i++)
            passed_on += put_answered(puts[i], queued);
        if (asked == 4 && !queued) { /* all but the first of them wait for their turn together */
            settle();
            queued = true;
        }
        if ((c = call_open("commit")))
            answer_committed(c, ++committed);
    }
    for (unsigned k = 0; k < 4; k++)
        assert_int_equal(r[k].err, 0);
    assert_int_equal(passed_on, 4);
}

static void puts_under_way(int64_t bytes, bool to_this_one)
{
    pthread_mutex_lock(&fs.lock);
    fs.sync->put_bytes += (uint64_t)bytes;
    for (size_t i = 0; to_this_one && i < fs.sync->servers_n; i++)
        fs.sync->servers[i]->put_bytes += (uint64_t)bytes;
    sync_wake(fs.sync);
    pthread_mutex_unlock(&fs.lock);
}

/* The background waits when puts hold much memory, or those to one server half of what there is; a
 * barrier does not, nor what goes to another server. */
static void memory_of_puts(void **state)
{
    (void)state;
    static struct result r;
    start();
    puts_under_way(PUT_INFLIGHT_BYTES, false);
    upload(1);
    answer_diff_missing(call_wait("diff"), 11);
    settle();
    assert_int_equal(calls_of("put"), 0);
    node_add(100, "hello");
    barrier(100, &r);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put(call_wait("put"), "x");
    answer_committed(call_wait("commit"), 1);
    WAIT_FOR(CALLED(r));
    assert_int_equal(calls_of("put"), 1);
    puts_under_way(-(int64_t)PUT_INFLIGHT_BYTES, false);
    answer_put(call_wait("put"), "x");
    puts_under_way(PUT_INFLIGHT_BYTES / 2, true);
    upload(2);
    answer_diff_missing(call_wait("diff"), 11);
    settle();
    assert_int_equal(calls_of("put"), 2);
    puts_under_way(-(int64_t)PUT_INFLIGHT_BYTES / 2, true);
    answer_put(call_wait("put"), "x");
    puts_under_way(PUT_INFLIGHT_BYTES - 1, false); /* to others */
    upload(3);
    answer_diff_missing(call_wait("diff"), 11);
    answer_put(call_wait("put"), "x");
    puts_under_way(1 - (int64_t)PUT_INFLIGHT_BYTES, false);
}

static void blocks_uploaded_ahead(void **state)
{
    (void)state;
    struct m_block_ref *v = calloc(UPLOADS_AHEAD_MAX, sizeof *v);
    start();
    for (uint32_t k = 0; k < UPLOADS_AHEAD_MAX; k++) {
        memcpy(v[k].block.b + 1, &k, sizeof k);
        v[k].len = 1;
    }
    pthread_mutex_lock(&fs.lock);
    sync_upload(fs.sync, NS, v, UPLOADS_AHEAD_MAX);
    size_t full = fs.sync->uploads_n;
    struct m_block_ref more = {.block = block(1), .len = 8};
    sync_upload(fs.sync, NS, &more, 1);
    size_t n = fs.sync->uploads_n;
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(full, UPLOADS_AHEAD_MAX);
    assert_int_equal(n, UPLOADS_AHEAD_MAX); /* it goes with its commit */
    free(v);
}

static void gets_in_flight_and_their_size(void **state)
{
    (void)state;
    static struct result r, more;
    struct block_id ids[GETS_INFLIGHT_MAX * GET_BATCH_BLOCKS + 1];
    size_t n = sizeof ids / sizeof *ids;
    start();
    for (unsigned k = 0; k < n; k++)
        ids[k] = far_block(k);
    fetch(ids, n, &r);
    WAIT_FOR(calls_of("get") == GETS_INFLIGHT_MAX);
    struct block_id one = far_block(9999);
    fetch(&one, 1, &more);
    settle();
    assert_int_equal(calls_of("get"), GETS_INFLIGHT_MAX);
    struct fake_call *first = call_open("get");
    assert_int_equal(ids_of_get(first), GET_BATCH_BLOCKS);
    answer_error(first, -ECANCELED); /* a place is free: asked again */
    WAIT_FOR(calls_of("get") == GETS_INFLIGHT_MAX + 1);
}

static void blocks_wanted(void **state)
{
    (void)state;
    static struct result r, more;
    struct block_id *v = calloc(FETCHES_MAX, sizeof *v), one = far_block(1);
    start();
    for (uint32_t k = 0; k < FETCHES_MAX; k++)
        memcpy(v[k].b + 1, &k, sizeof k);
    fetch(v, FETCHES_MAX, &r);
    fetch(&one, 1, &more);
    WAIT_FOR(CALLED(more));
    assert_int_equal(more.err, -EIO);
    assert_false(CALLED(r));
    free(v);
}

static void blocks_read_ahead(void **state)
{
    (void)state;
    struct block_id ids[2 * PREFETCH_MAX];
    start();
    for (unsigned k = 0; k < 2 * PREFETCH_MAX; k++)
        ids[k] = far_block(k);
    pthread_mutex_lock(&fs.lock);
    sync_prefetch(fs.sync, NS, ids, 2 * PREFETCH_MAX);
    size_t n = fs.sync->fetches_n;
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(n, PREFETCH_MAX);
}

static void loads_in_flight(void **state)
{
    (void)state;
    static struct result r;
    struct m_lookup_ans none = {0};
    start();
    for (unsigned k = 0; k < LOADS_INFLIGHT_MAX + 2; k++) {
        struct core_need need = {.kind = NEED_NODE, .ns = NS, .node = 100 + k};
        pthread_mutex_lock(&fs.lock);
        sync_load(fs.sync, &need, result_done, &r);
        pthread_mutex_unlock(&fs.lock);
    }
    WAIT_FOR(calls_of("lookup") == LOADS_INFLIGHT_MAX);
    node_add(100, "hello");
    static struct result b;
    barrier(100, &b);
    call_wait("diff"); /* a turn later */
    assert_int_equal(calls_of("lookup"), LOADS_INFLIGHT_MAX);
    answer(call_open("lookup"), &m_lookup_ans_desc, &none);
    WAIT_FOR(calls_of("lookup") == LOADS_INFLIGHT_MAX + 1);
}

static void those_who_wait(void **state)
{
    (void)state;
    static struct result r;
    static struct result load, get;
    struct core_need need = {.kind = NEED_NODE, .ns = NS, .node = 1};
    struct block_id id = far_block(1);
    int err = 0;
    start();
    node_add(100, "hello");
    pthread_mutex_lock(&fs.lock);
    size_t n = 0;
    while (n <= SYNC_WAITERS_MAX && sync_barrier(fs.sync, 100, false, result_done, &r, &err))
        n++;
    sync_load(fs.sync, &need, result_done, &load);
    sync_fetch(fs.sync, NS, &id, 1, result_done, &get);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(n, SYNC_WAITERS_MAX);
    assert_int_equal(err, -EAGAIN);
    WAIT_FOR(CALLED(load) && CALLED(get));
    assert_int_equal(load.err, -EIO);
    assert_int_equal(get.err, -EIO);
    assert_int_equal(calls_of("lookup") + calls_of("get"), 0);
}

/* Those who wait for everything share barriers: each takes one place, not one of each file. Who
 * comes when they are part of a commit waits for what was written since. */
static void barriers_for_everything_are_shared(void **state)
{
    (void)state;
    static struct result r[100], late;
    struct m_diff_ans none = {0};
    start();
    node_add(100, "hello");
    node_add(200, "world");
    pthread_mutex_lock(&fs.lock);
    size_t before = fs.sync->waiters_n;
    for (size_t i = 0; i < 100; i++)
        assert_true(sync_barrier_all(fs.sync, NS, result_done, &r[i]) != 0);
    assert_int_equal(fs.sync->waiters_n - before, 100 + 2);
    pthread_mutex_unlock(&fs.lock);
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    struct fake_call *c = call_wait("commit");
    node_add(300, "more");
    pthread_mutex_lock(&fs.lock);
    assert_true(sync_barrier_all(fs.sync, NS, result_done, &late) != 0);
    assert_int_equal(fs.sync->waiters_n - before, 100 + 2 + 1 + 3);
    pthread_mutex_unlock(&fs.lock);
    answer_committed(c, 1);
    for (size_t i = 0; i < 100; i++)
        WAIT_FOR(CALLED(r[i]));
    assert_false(CALLED(late));
    answer(call_wait("diff"), &m_diff_ans_desc, &none);
    answer_committed(call_wait("commit"), 2);
    WAIT_FOR(CALLED(late));
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(fs.sync->waiters_n, before);
    pthread_mutex_unlock(&fs.lock);
}

static size_t nodes_of(const struct fake_call *c)
{
    struct arena cleanup_arena a = {0};
    struct m_changes m;
    struct m_commit_req q;
    assert_int_equal(msg_decode(&m_commit_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL),
                     0);
    assert_int_equal(
        msg_decode(&m_changes_desc, &m, q.changes.p, q.changes.n, MSG_STRICT, &a, NULL), 0);
    return m.nodes_n;
}

static size_t ready_count(void)
{
    size_t ready = 0;
    struct barrier *b;
    pthread_mutex_lock(&fs.lock);
    TAILQ_FOREACH(b, &fs.sync->nss[0]->barriers, ns_link)
    ready += b->state == BARRIER_READY;
    pthread_mutex_unlock(&fs.lock);
    return ready;
}

static void barriers_of_one_commit(void **state)
{
    (void)state;
    static struct result r[BARRIERS_PER_PLAN + 11];
    size_t n = sizeof r / sizeof *r;
    memset(r, 0, sizeof r);
    start();
    for (unsigned k = 0; k < n; k++) {
        char text[16];
        snprintf(text, sizeof text, "node %u", k);
        node_add(100 + k, text);
    }
    barrier(100, &r[0]);
    answer(call_wait("diff"), &m_diff_ans_desc, &all_present);
    struct fake_call *c = call_wait("commit");
    for (size_t k = 1; k < n; k++) /* those that gather meanwhile */
        barrier(100 + k, &r[k]);
    UNTIL (ready_count() + 1 >= n) {
        struct fake_call *d = call_open("diff");
        if (d)
            answer(d, &m_diff_ans_desc, &all_present);
    }
    answer_committed(c, 1);
    c = call_wait("commit");
    assert_int_equal(nodes_of(c), BARRIERS_PER_PLAN);
    answer_committed(c, 2);
    c = call_wait("commit");
    assert_int_equal(nodes_of(c), n - 1 - BARRIERS_PER_PLAN);
    answer_committed(c, 3);
    for (size_t k = 0; k < n; k++)
        WAIT_FOR(CALLED(r[k]));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(questions_gather_and_one_place_is_for_barriers),
        T(puts_in_flight),
        T(blocks_passed_on_at_a_time),
        T(memory_of_puts),
        T(blocks_uploaded_ahead),
        T(gets_in_flight_and_their_size),
        T(blocks_wanted),
        T(blocks_read_ahead),
        T(loads_in_flight),
        T(those_who_wait),
        T(barriers_of_one_commit),
        T(barriers_for_everything_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
