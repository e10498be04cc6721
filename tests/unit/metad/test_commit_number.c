// SPDX-License-Identifier: Apache-2.0
/* Request numbers and staged parts of a commit. */
#include "world.h"

#include <errno.h>
#include <string.h>

/* ---- request numbers ---- */
static void a_retry_gets_the_same_answer(void **state)
{
    struct world *w = *state;
    struct plan p;
    world_creation(w, &p, "once", NODE_REG);
    struct m_commit_ans a = world_commit(w, &w->alice, &p), b;
    expect_committed(a);
    world_make(w, &w->alice, w->alice.root, "between", NODE_REG, 0);
    b = world_commit(w, &w->alice, &p);
    expect_committed(b);
    assert_int_equal(b.sjid, a.sjid);
    assert_int_equal(b.head, 2);
    world_reopen(w); /* and after a restart */
    b = world_commit(w, &w->alice, &p);
    assert_int_equal(b.sjid, a.sjid);
    assert_int_equal(world_head(w, &w->alice), 2);
    plan_free(&p);
}

static void a_conflict_is_final(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t node = world_make(w, &w->alice, w->alice.root, "x", NODE_REG, 0);
    world_creation(w, &p, "x", NODE_REG);
    struct m_commit_ans a = world_commit(w, &w->alice, &p), b;
    expect_row(&a, COMMIT_CONFLICT, ROW_ENTRY, w->alice.root, REFUSED_BASE);
    assert_int_equal(a.rows[0].name.n, 1);
    /* the name is freed; the same number keeps its answer all the same */
    struct plan r;
    plan_new(w, &w->alice, &r);
    plan_entry(&r, w->alice.root, "x", node, 1, 0)->base_content = 1;
    expect_committed(world_send(w, &r));
    b = world_commit(w, &w->alice, &p);
    assert_int_equal(b.status, COMMIT_CONFLICT);
    assert_int_equal(b.rows_n, 1);
    assert_int_equal(b.head, 2);
    plan_free(&p);
}

static void a_number_is_for_one_set_of_changes(void **state)
{
    struct world *w = *state;
    struct plan p;
    world_creation(w, &p, "x", NODE_REG);
    expect_committed(world_commit(w, &w->alice, &p));
    p.nodes[0].mode = 0600;
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_REQUEST);
    p.nodes[0].mode = 0644; /* the first ones' answer is still there */
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
}

static void acknowledged_numbers_never_run_again(void **state)
{
    struct world *w = *state;
    struct plan old, p;
    struct m_requests_ans r;
    struct m_requests_req q = {.ns = w->alice.ns};
    uint64_t file = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &old);
    plan_node(&old, file, FACET_TIMES)->mtime = 100; /* has no base that could protect it */
    expect_committed(world_commit(w, &w->alice, &old));
    assert_int_equal(meta_requests(w->m, &w->alice.who, &q, &r, &w->ar, w->why), 0);
    assert_int_equal(r.requests_n, 2);
    assert_int_equal(r.requests[1].request, 2);
    assert_int_equal(r.requests[1].status, COMMIT_COMMITTED);
    assert_int_equal(r.requests[1].sjid, 2);
    q.from = 2;
    assert_int_equal(meta_requests(w->m, &w->alice.who, &q, &r, &w->ar, w->why), 0);
    assert_int_equal(r.requests_n, 1);

    plan_new(w, &w->alice, &p);
    plan_node(&p, file, FACET_TIMES)->mtime = 200;
    p.q.lowest_open = p.q.request;
    expect_committed(world_send(w, &p));
    struct m_commit_ans a = world_commit(w, &w->alice, &old); /* a late duplicate */
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_REQUEST);
    assert_int_equal(world_inode(w, &w->alice, file, 0).mtime, 200);
    plan_free(&old);
    q.from = 0;
    assert_int_equal(meta_requests(w->m, &w->alice.who, &q, &r, &w->ar, w->why), 0);
    assert_int_equal(r.requests_n, 1);
    assert_int_equal(r.requests[0].request, 3);
}

static void undecodable_changes_are_no_commit(void **state)
{
    struct world *w = *state;
    struct m_commit_ans a;
    uint64_t target = w->server[HQ];
    struct m_commit_req q = {.ns = w->alice.ns,
                             .request = 1,
                             .targets = &target,
                             .targets_n = 1,
                             .changes = bytes_str("\x81\x63nonsense")};
    w->why[0] = 0;
    assert_true(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why) < 0);
    assert_true(strlen(w->why) > 0);
    /* an unknown key (9) in otherwise good changes */
    q.changes = bytes_of("\x81\x09\x01", 3);
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), -EPROTO);
    world_make(w, &w->alice, w->alice.root, "number 1 is still free", NODE_REG, 0);
}

static void many_commits_share_a_transaction(void **state)
{
    struct world *w = *state;
    struct plan p;
    assert_int_equal(meta_begin(w->m), 0);
    world_make(w, &w->alice, w->alice.root, "a", NODE_REG, 10);
    world_creation(w, &p, "a", NODE_REG);
    assert_int_equal(world_send(w, &p).status, COMMIT_CONFLICT);
    world_make(w, &w->bob, w->bob.root, "b", NODE_REG, 10);
    world_make(w, &w->alice, w->alice.root, "c", NODE_REG, 10);
    assert_int_equal(meta_end(w->m), 0);
    world_reopen(w);
    assert_int_equal(world_head(w, &w->alice), 2);
    assert_int_equal(world_head(w, &w->bob), 1);
}

/* ---- staged parts ---- */
static void parts_are_applied_by_the_last(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct m_commit_ans a;
    cleanup_buf struct buf out = {0};
    struct block_id b = world_block(w);
    uint64_t node = world_creation(w, &p, "big", NODE_REG);
    plan_range(&p, &p.nodes[0], 0, 80, &b, 0);
    msg_encode(&m_changes_desc, &p.ch, &out);
    struct m_receipt r = world_receipt(w, w->alice.ns, &b, 80, HQ);
    struct m_commit_req q = p.q;
    struct bytes third[3] = {bytes_of(out.p, 10), bytes_of(out.p + 10, 15),
                             bytes_of(out.p + 25, out.n - 25)};
    /* the last part alone is nothing */
    q.part = 2;
    q.changes = third[2];
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), -EBADMSG);
    for (uint64_t k = 0; k < 2; k++) {
        q.part = k;
        q.more = true;
        q.changes = third[k];
        assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
        expect_committed(a);
        assert_int_equal(a.sjid, 0);
    }
    world_reopen(w); /* parts are as durable as anything */
    q.part = 2;
    q.more = false;
    q.changes = third[2];
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.status, COMMIT_MISSING);
    assert_int_equal(a.missing_n, 1);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    q.receipts_n = 1;
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_committed(a);
    assert_int_equal(a.sjid, 1);
    assert_int_equal(world_inode(w, &w->alice, node, 0).size, 80);
    /* the whole again, from the first part: the number has its answer */
    q.part = 0;
    q.more = true;
    q.changes = third[0];
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.sjid, 1);
    plan_free(&p);
}

static void a_receipt_may_come_with_a_part(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct m_commit_ans a;
    cleanup_buf struct buf out = {0};
    struct block_id b = world_block(w);
    world_creation(w, &p, "big", NODE_REG);
    plan_range(&p, &p.nodes[0], 0, 80, &b, 0);
    msg_encode(&m_changes_desc, &p.ch, &out);
    plan_block(w, &p, w->alice.ns, &b, 80, HQ);
    struct m_commit_req q = p.q;
    q.more = true;
    q.changes = bytes_of(out.p, 20);
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    q.more = false;
    q.part = 1;
    q.ids_n = q.receipts_n = 0;
    q.changes = bytes_of(out.p + 20, out.n - 20);
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_committed(a);
    plan_free(&p);
}

static void parts_have_bounds(void **state)
{
    struct world *w = *state;
    struct m_commit_ans a;
    uint64_t target = w->server[HQ];
    struct m_commit_req q = {.ns = w->alice.ns,
                             .request = 1,
                             .targets = &target,
                             .targets_n = 1,
                             .part = STAGE_PARTS_MAX,
                             .more = true,
                             .changes = bytes_str("x")};
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    uint8_t *big = arena_alloc(&w->ar, STAGE_BYTES_MAX / 2 + 1);
    memset(big, 0, STAGE_BYTES_MAX / 2 + 1);
    q.request = 2;
    q.part = 0;
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_committed(a);
    q.changes = bytes_of(big, STAGE_BYTES_MAX / 2 + 1);
    q.part = 1;
    for (int k = 0; k < 3; k++) { /* sent again, it takes its own place */
        assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
        expect_committed(a);
    }
    q.part = 2;
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    /* for good: a part of it is not taken any more, and nothing of it is kept */
    q.part = 0;
    q.changes = bytes_str("x");
    assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    /* each within the bounds, together over what is ever decoded */
    for (q.request = 3, q.part = 0; q.part < 3; q.part++) {
        q.more = q.part < 2;
        q.changes = bytes_of(big, MSG_BODY_MAX / 3 + 1);
        assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
        if (q.more)
            expect_committed(a);
    }
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    struct m_requests_req rq = {.ns = w->alice.ns, .from = 1};
    struct m_requests_ans ra;
    assert_int_equal(meta_requests(w->m, &w->alice.who, &rq, &ra, &w->ar, w->why), 0);
    assert_int_equal(ra.requests_n, 3);
    assert_int_equal(world_head(w, &w->alice), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_retry_gets_the_same_answer),
        TEST(a_conflict_is_final),
        TEST(a_number_is_for_one_set_of_changes),
        TEST(acknowledged_numbers_never_run_again),
        TEST(undecodable_changes_are_no_commit),
        TEST(many_commits_share_a_transaction),
        TEST(parts_are_applied_by_the_last),
        TEST(a_receipt_may_come_with_a_part),
        TEST(parts_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
