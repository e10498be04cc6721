// SPDX-License-Identifier: Apache-2.0
/* Request numbers, bases, results, quota, roles, revival: each rule of a commit has a test here. */
#include "world.h"

#include <errno.h>
#include <string.h>

static struct m_commit_ans send_and_free(struct world *w, struct plan *p)
{
    struct m_commit_ans a = world_commit(w, &w->alice, p);
    plan_free(p);
    return a;
}

static void expect_refused(struct world *w, struct plan *p, enum commit_status status,
                           enum refusal reason)
{
    uint64_t head = world_head(w, &w->alice), nodes, nodes_after;
    uint64_t used = world_used(w, &w->alice, &nodes);
    struct m_commit_ans a = send_and_free(w, p);
    assert_int_equal(a.status, status);
    assert_true(a.rows_n >= 1);
    assert_int_equal(a.rows[0].reason, reason);
    assert_int_equal(a.head, head);
    assert_int_equal(world_head(w, &w->alice), head);
    assert_int_equal(world_used(w, &w->alice, &nodes_after), used);
    assert_int_equal(nodes, nodes_after);
}

/* A plan that creates NAME in the root; the rest of it is the caller's. */
static uint64_t creation(struct world *w, struct plan *p, const char *name, enum node_type type)
{
    plan_new(w, &w->alice, p);
    uint64_t node = world_node_id(&w->alice);
    plan_create(p, node, type);
    plan_entry(p, w->alice.root, name, 0, 0, node);
    return node;
}

/* ---- request numbers --------------------------------------------------------------------------
 */
static void a_retry_gets_the_same_answer(void **state)
{
    struct world *w = *state;
    struct plan p;
    creation(w, &p, "once", NODE_REG);
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
    creation(w, &p, "x", NODE_REG);
    struct m_commit_ans a = world_commit(w, &w->alice, &p), b;
    expect_row(&a, COMMIT_CONFLICT, ROW_ENTRY, w->alice.root, REFUSED_BASE);
    assert_int_equal(a.rows[0].name.n, 1);
    /* the name is freed; the same number keeps its answer all the same */
    struct plan r;
    plan_new(w, &w->alice, &r);
    plan_entry(&r, w->alice.root, "x", node, 1, 0)->base_content = 1;
    expect_committed(send_and_free(w, &r));
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
    creation(w, &p, "x", NODE_REG);
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
    expect_committed(send_and_free(w, &p));
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
    creation(w, &p, "a", NODE_REG);
    assert_int_equal(send_and_free(w, &p).status, COMMIT_CONFLICT);
    world_make(w, &w->bob, w->bob.root, "b", NODE_REG, 10);
    world_make(w, &w->alice, w->alice.root, "c", NODE_REG, 10);
    assert_int_equal(meta_end(w->m), 0);
    world_reopen(w);
    assert_int_equal(world_head(w, &w->alice), 2);
    assert_int_equal(world_head(w, &w->bob), 1);
}

/* ---- staged parts -------------------------------------------------------------------------------
 */
static void parts_are_applied_by_the_last(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct m_commit_ans a;
    cleanup_buf struct buf out = {0};
    struct block_id b = world_block(w);
    uint64_t node = creation(w, &p, "big", NODE_REG);
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
    creation(w, &p, "big", NODE_REG);
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

/* ---- bases
 * ------------------------------------------------------------------------------------------ */
static void facets_have_their_own_revisions(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100); /* 1 */
    plan_new(w, &w->alice, &p);                                               /* 2: attributes */
    struct m_node_change *n = plan_node(&p, f, FACET_ATTR);
    n->base_attr = 1;
    n->mode = 0600;
    n->ctime = 5; /* older than the node's: the larger stays */
    expect_committed(send_and_free(w, &p));
    struct m_inode i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.mode, 0600);
    assert_int_equal(i.attr_rev, 2);
    assert_int_equal(i.content_rev, 1);
    assert_int_equal(i.ctime, 12);
    assert_int_equal(i.mtime, 11);

    plan_new(w, &w->alice, &p); /* 3: content, based on 1: no conflict with 2 */
    n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->mtime = 50;
    n->ctime = 60;
    n->size = 100;
    plan_range(&p, n, 10, 5, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 5, HQ);
    expect_committed(send_and_free(w, &p));
    i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.content_rev, 3);
    assert_int_equal(i.attr_rev, 2);
    assert_int_equal(i.mtime, 50);
    assert_int_equal(i.ctime, 60);
    assert_int_equal(i.stored, 100);

    plan_new(w, &w->alice, &p); /* 4: xattr */
    plan_xattr(&p, f, "user.a", 0, "one");
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p); /* 5: another xattr, and times, which have no base */
    plan_xattr(&p, f, "user.b", 0, "two");
    plan_node(&p, f, FACET_TIMES)->mtime = 70;
    expect_committed(send_and_free(w, &p));
    i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.mtime, 70);
    assert_int_equal(i.content_rev, 3);
    assert_int_equal(i.xattrs, 2);

    /* every base that does not match is listed, and nothing is applied */
    plan_new(w, &w->alice, &p);
    n = plan_node(&p, f, FACET_ATTR | FACET_CONTENT);
    n->base_attr = 1;
    n->base_content = 1;
    n->size = 100;
    plan_xattr(&p, f, "user.a", 3, "x");
    plan_xattr(&p, f, "user.b", 5, "fine");
    plan_xattr(&p, f, "user.c", 2, "was never there");
    plan_entry(&p, w->alice.root, "f", f, 9, 0);
    struct m_commit_ans a = send_and_free(w, &p);
    assert_int_equal(a.status, COMMIT_CONFLICT);
    assert_int_equal(a.rows_n, 5);
    static const enum row_kind kinds[] = {ROW_NODE_ATTR, ROW_NODE_CONTENT, ROW_ENTRY, ROW_XATTR,
                                          ROW_XATTR};
    for (size_t k = 0; k < 5; k++) {
        assert_int_equal(a.rows[k].kind, kinds[k]);
        assert_int_equal(a.rows[k].reason, REFUSED_BASE);
    }
    assert_int_equal(a.head, 5);
}

static void xattrs_come_and_go(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 0, "one");
    plan_xattr(&p, f, "user.never", 0, NULL); /* removing what is not there changes nothing */
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 0, "again"); /* was absent: it was not */
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 2, NULL);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).xattrs, 0);
    assert_int_equal(world_inode(w, &w->alice, f, 2).xattrs, 1);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 0, "");
    expect_committed(send_and_free(w, &p));
    struct m_node_req q = {.ns = w->alice.ns, .node = f, .at = 4};
    struct m_node_ans a;
    assert_int_equal(meta_node(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.xattrs_n, 1);
    assert_int_equal(a.xattrs[0].rev, 4);
    assert_int_equal(a.xattrs[0].value.n, 0);
}

static void a_node_has_so_many_xattrs(void **state)
{
    struct world *w = *state;
    struct plan p;
    char names[XATTRS_MAX + 1][16];
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    for (size_t k = 0; k < XATTRS_MAX; k += 64) {
        plan_new(w, &w->alice, &p);
        for (size_t j = k; j < k + 64; j++) {
            snprintf(names[j], sizeof names[j], "user.%zu", j);
            plan_xattr(&p, f, names[j], 0, "v");
        }
        expect_committed(send_and_free(w, &p));
    }
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.more", 0, "v");
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
}

static void edits_win_over_deletes(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 10);
    plan_new(w, &w->alice, &p); /* 2: the edit */
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->size = 10;
    plan_range(&p, n, 0, 4, NULL, 0);
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p); /* the delete did not know it */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    /* one of two names may be taken without knowing the content */
    plan_new(w, &w->alice, &p); /* 3 */
    plan_entry(&p, w->alice.root, "g", 0, 0, f);
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p); /* 4 */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p); /* replaced by rename: the last name again */
    uint64_t h = world_node_id(&w->alice);
    plan_create(&p, h, NODE_REG);
    plan_entry(&p, w->alice.root, "g", f, 3, h)->base_content = 1;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p); /* a rename takes no name away in the end */
    plan_entry(&p, w->alice.root, "g", f, 3, 0);
    plan_entry(&p, w->alice.root, "i", 0, 0, f);
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "i", f, 5, 0)->base_content = 2;
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).node, 0);
    uint64_t nodes;
    assert_int_equal(world_used(w, &w->alice, &nodes), 0);
    assert_int_equal(nodes, 0);
}

/* What the commit says of the node besides is not done: it comes back as it was. */
static void a_deleted_node_is_told_as_it_was(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100); /* 1 */
    struct m_inode was = world_inode(w, &w->alice, f, 0);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT | FACET_ATTR);
    n->base_content = n->base_attr = 1;
    n->size = 10;
    n->mtime = n->ctime = was.ctime + 5;
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(send_and_free(w, &p)); /* 2 */
    struct m_list_req q = {.ns = w->alice.ns, .from = 1};
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    const struct m_inode *i = a.records[0].inodes;
    while (i->node != f)
        i++;
    assert_true(i->gone);
    assert_int_equal(i->size, 100);
    assert_int_equal(i->content_rev, 1);
    assert_int_equal(i->attr_rev, 1);
    assert_int_equal(i->ctime, was.ctime);

    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    n = plan_node(&p, f, FACET_CONTENT); /* on what the record said */
    n->base_content = i->content_rev;
    n->size = 100;
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).attr_rev, 1);
}

static void a_deleted_node_is_opened_again(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0); /* 1 */
    uint64_t f = world_make(w, &w->alice, d, "f", NODE_REG, 100);           /* 2 */
    plan_new(w, &w->alice, &p);                                             /* 3 */
    plan_xattr(&p, f, "user.a", 0, "kept");
    plan_xattr(&p, f, "user.b", 0, "changed");
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p); /* 4: rm -r */
    plan_entry(&p, d, "f", f, 2, 0)->base_content = 2;
    plan_entry(&p, w->alice.root, "d", d, 1, 0);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_used(w, &w->alice, NULL), 0);

    plan_new(w, &w->alice, &p); /* an edit alone is a conflict: the node has no name */
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 2;
    n->size = 100;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p); /* with its name, but another base */
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->size = 100;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p); /* its directory is gone too */
    plan_entry(&p, d, "f", 0, 0, f);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
    plan_new(w, &w->alice, &p); /* times of what is gone are ignored */
    plan_node(&p, f, FACET_TIMES)->mtime = 1;
    expect_committed(send_and_free(w, &p)); /* 5 */

    plan_new(w, &w->alice, &p); /* 6: both come back, the file edited */
    plan_entry(&p, w->alice.root, "d", 0, 0, d);
    plan_entry(&p, d, "f", 0, 0, f);
    n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 2;
    n->size = 100;
    n->mtime = 99;
    plan_range(&p, n, 40, 10, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 10, HQ);
    plan_xattr(&p, f, "user.b", 3, "new");
    expect_committed(send_and_free(w, &p));
    struct m_inode i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.nlink, 1);
    assert_int_equal(i.stored, 100);
    assert_int_equal(i.mtime, 99);
    assert_int_equal(i.content_rev, 6);
    assert_int_equal(i.attr_rev, 2);
    assert_int_equal(i.xattrs, 2);
    assert_int_equal(world_extents(w, &w->alice, f, 0).extents_n, 3);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 2);
    uint64_t nodes;
    assert_int_equal(world_used(w, &w->alice, &nodes), 100);
    assert_int_equal(nodes, 2);
    assert_int_equal(world_inode(w, &w->alice, f, 4).node, 0); /* it was gone then */
    assert_int_equal(world_extents(w, &w->alice, f, 4).extents_n, 0);
    assert_int_equal(world_extents(w, &w->alice, f, 3).extents_n, 1);

    struct m_list_req q = {.ns = w->alice.ns, .from = 5}; /* the record tells the new revisions */
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    assert_int_equal(a.records[0].xattrs_n, 2);
    assert_int_equal(a.records[0].xattrs[0].rev, 6);
    assert_int_equal(a.records[0].contents_n, 1);
    assert_int_equal(a.records[0].contents[0].ranges[0].off, 40);

    plan_new(w, &w->alice, &p); /* 7: deleted and 8: opened once more */
    plan_entry(&p, d, "f", f, 6, 0)->base_content = 6;
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_extents(w, &w->alice, f, 0).extents_n, 3);
    assert_int_equal(world_inode(w, &w->alice, f, 0).content_rev, 6);
}

/* ---- results
 * ------------------------------------------------------------------------------------------ */
static void ids_are_new_and_ones_own(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_create(&p, f, NODE_REG);
    plan_entry(&p, w->alice.root, "g", 0, 0, f);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_EXISTS);
    plan_new(w, &w->alice, &p); /* not after its end either */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(send_and_free(w, &p));
    plan_new(w, &w->alice, &p);
    plan_create(&p, f, NODE_REG);
    plan_entry(&p, w->alice.root, "g", 0, 0, f);
    struct m_commit_ans a = send_and_free(w, &p);
    expect_row(&a, COMMIT_CONFLICT, ROW_NODE, f, REFUSED_EXISTS);
    uint64_t foreign[] = {NODE_ID(w->bob.who.device, 77), NODE_ID(0, 77),
                          NODE_ID(w->alice.who.device, 0), (uint64_t)INT64_MAX + 1};
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
        plan_new(w, &w->alice, &p);
        plan_create(&p, foreign[k], NODE_REG);
        plan_entry(&p, w->alice.root, "g", 0, 0, foreign[k]);
        expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    }
}

static void every_created_node_gets_a_name(void **state)
{
    struct world *w = *state;
    struct plan p;
    plan_new(w, &w->alice, &p);
    plan_create(&p, world_node_id(&w->alice), NODE_REG);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p); /* and a name a node */
    plan_entry(&p, w->alice.root, "ghost", 0, 0, world_node_id(&w->alice));
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
}

static void parents_are_directories(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t parents[] = {f, NODE_ID(w->alice.who.device, 999), w->bob.root};
    for (size_t k = 0; k < 3; k++) {
        creation(w, &p, "x", NODE_REG);
        p.entries[0].parent = parents[k];
        expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
    }
    creation(w, &p, "x", NODE_REG); /* removed in the same commit */
    p.entries[0].parent = d;
    plan_entry(&p, w->alice.root, "d", d, 2, 0);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
}

static void removed_directories_are_empty(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, d, "f", NODE_REG, 0);
    world_make(w, &w->alice, d, "g", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "d", d, 1, 0);
    plan_entry(&p, d, "f", f, 2, 0)->base_content = 2;
    struct m_commit_ans a = send_and_free(w, &p);
    expect_row(&a, COMMIT_CONFLICT, ROW_ENTRY, w->alice.root, REFUSED_NOT_EMPTY);
    assert_memory_equal(a.rows[0].name.p, "d", 1);
    plan_new(w, &w->alice, &p); /* replaced by another directory: the same */
    uint64_t e = world_node_id(&w->alice);
    plan_create(&p, e, NODE_DIR);
    plan_entry(&p, w->alice.root, "d", d, 1, e);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_NOT_EMPTY);
    plan_new(w, &w->alice, &p); /* moved out and removed at once */
    plan_entry(&p, w->alice.root, "d", d, 1, 0);
    plan_entry(&p, d, "f", f, 2, 0)->base_content = 2;
    plan_entry(&p, d, "g", NODE_ID(w->alice.who.device, 3), 3, 0);
    plan_entry(&p, w->alice.root, "g", 0, 0, NODE_ID(w->alice.who.device, 3));
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 2);
}

static void no_directory_below_itself(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t a = world_make(w, &w->alice, w->alice.root, "a", NODE_DIR, 0); /* 1 */
    uint64_t b = world_make(w, &w->alice, a, "b", NODE_DIR, 0);             /* 2 */
    uint64_t c = world_make(w, &w->alice, b, "c", NODE_DIR, 0);             /* 3 */
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "a", a, 1, 0);
    plan_entry(&p, c, "a", 0, 0, a);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "a", a, 1, 0);
    plan_entry(&p, a, "a", 0, 0, a);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p); /* two new ones, each in the other */
    uint64_t x = world_node_id(&w->alice), y = world_node_id(&w->alice);
    plan_create(&p, x, NODE_DIR);
    plan_create(&p, y, NODE_DIR);
    plan_entry(&p, x, "y", 0, 0, y);
    plan_entry(&p, y, "x", 0, 0, x);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p); /* two names */
    plan_entry(&p, w->alice.root, "b", 0, 0, b);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p); /* turning the chain round is no cycle */
    plan_entry(&p, w->alice.root, "a", a, 1, 0);
    plan_entry(&p, a, "b", b, 2, 0);
    plan_entry(&p, w->alice.root, "b", 0, 0, b);
    plan_entry(&p, c, "a", 0, 0, a);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, a, 0).nlink, 2);
    assert_int_equal(world_inode(w, &w->alice, c, 0).nlink, 3);
    plan_new(w, &w->alice, &p); /* below a new directory that lies below itself */
    x = world_node_id(&w->alice);
    plan_create(&p, x, NODE_DIR);
    plan_entry(&p, w->alice.root, "b", b, 4, 0);
    plan_entry(&p, x, "b", 0, 0, b);
    plan_entry(&p, c, "x", 0, 0, x);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
}

static void the_root_stays_the_root(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, d, "up", 0, 0, w->alice.root);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, w->alice.root, FACET_ATTR | FACET_TIMES);
    n->mode = 0700;
    n->mtime = 5;
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).mode, 0700);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 1).mode, 0755);
}

static void links_are_counted(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, d, "f", NODE_REG, 0);
    world_make(w, &w->alice, d, "s", NODE_DIR, 0);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 3);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 3);
    plan_new(w, &w->alice, &p); /* 4 */
    plan_entry(&p, d, "g", 0, 0, f);
    plan_entry(&p, w->alice.root, "h", 0, 0, f);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).nlink, 3);
    assert_int_equal(world_lookup(w, &w->alice, d, "f", 0).inode.nlink, 3);
    plan_new(w, &w->alice, &p); /* 5: s moves to the root, g goes */
    plan_entry(&p, d, "s", NODE_ID(w->alice.who.device, 3), 3, 0);
    plan_entry(&p, w->alice.root, "s", 0, 0, NODE_ID(w->alice.who.device, 3));
    plan_entry(&p, d, "g", f, 4, 0);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).nlink, 2);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 2);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 4);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 4).nlink, 3);
    plan_new(w, &w->alice, &p); /* exchange of two names */
    plan_entry(&p, w->alice.root, "h", f, 4, d);
    plan_entry(&p, w->alice.root, "d", d, 1, f);
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 4);
    assert_int_equal(world_lookup(w, &w->alice, w->alice.root, "d", 0).node, f);
    assert_int_equal(world_lookup(w, &w->alice, w->alice.root, "d", 5).node, d);
}

/* Who knows only one of the two names learns the directory's count from the record alone. */
static void a_count_that_stays_is_told(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct m_list_ans a;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "d", d, 1, f);
    plan_entry(&p, w->alice.root, "f", f, 2, d);
    expect_committed(send_and_free(w, &p));
    struct m_list_req q = {.ns = w->alice.ns, .from = 2};
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    unsigned told = 0;
    for (size_t k = 0; k < a.records[0].inodes_n; k++) {
        const struct m_inode *i = &a.records[0].inodes[k];
        told += i->node == w->alice.root && i->nlink == 3;
        told += i->node == f && i->nlink == 1;
    }
    assert_int_equal(told, 2);
}

/* ---- form
 * --------------------------------------------------------------------------------------------- */
static void rows_are_well_formed(void **state)
{
    struct world *w = *state;
    struct plan p;
    static const char *const names[] = {".", "..", "a/b", "/"};
    for (size_t k = 0; k < 4; k++) {
        creation(w, &p, names[k], NODE_REG);
        expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    }
    creation(w, &p, "x", NODE_REG);
    p.entries[0].name = bytes_of("a\0b", 3);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
#define BREAK(how)                                                                                 \
    do {                                                                                           \
        creation(w, &p, "x", NODE_REG);                                                            \
        struct m_node_change *n = &p.nodes[0];                                                     \
        how;                                                                                       \
        expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);                                    \
    } while (0)
    struct block_id b = world_block(w);
    BREAK(n->type = NODE_MOUNT);
    BREAK(n->type = NODE_BLK + 5);
    BREAK(n->mode = 010000);
    BREAK(n->uid = 1ull << 32);
    BREAK(n->rdev = 5);
    BREAK(n->target = bytes_str("t"));
    BREAK(n->type = NODE_SYMLINK);
    BREAK(n->facets |= 64);
    BREAK(n->size = 5); /* without content */
    BREAK(n->type = NODE_DIR; plan_range(&p, n, 0, 10, &b, 0));
    BREAK(plan_range(&p, n, 0, 10, &b, 0); n->size = 9);
    BREAK(plan_range(&p, n, 0, 10, &b, BLOCK_MAX - 9));
    BREAK(plan_range(&p, n, 10, 10, &b, 0); plan_range(&p, n, 5, 6, &b, 0));
    BREAK(plan_range(&p, n, 0, 10, &b, 0); n->ranges[0].len = 9);
    BREAK(plan_range(&p, n, (uint64_t)INT64_MAX - 5, 10, NULL, 0));
    BREAK(plan_entry(&p, w->alice.root, "x", 0, 0, n->node)); /* one name twice */
    BREAK(plan_node(&p, n->node, FACET_TIMES));               /* one node twice */
    BREAK(plan_xattr(&p, n->node, "user.a", 0, "1"); plan_xattr(&p, n->node, "user.a", 0, "2"));
    BREAK(plan_xattr(&p, n->node, "", 0, "1"));
#undef BREAK
    plan_new(w, &w->alice, &p); /* nothing at all */
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    creation(w, &p, "fine", NODE_CHR);
    p.nodes[0].rdev = 5;
    expect_committed(send_and_free(w, &p));
    creation(w, &p, "link", NODE_SYMLINK);
    expect_committed(send_and_free(w, &p));
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, "link", 0);
    assert_int_equal(e.inode.target.n, strlen("where/it/points"));
}

/* ---- quota, roles, members
 * ---------------------------------------------------------------------------- */
static void bytes_have_a_quota(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    world_command(w, &world_admin, 0, "admin quota alice --bytes 150");
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100);
    uint64_t g = creation(w, &p, "g", NODE_REG);
    plan_range(&p, &p.nodes[0], 0, 51, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 51, HQ);
    uint64_t head = world_head(w, &w->alice);
    struct m_commit_ans a = send_and_free(w, &p);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE_CONTENT, g, REFUSED_QUOTA);
    assert_int_equal(world_head(w, &w->alice), head);
    assert_int_equal(world_inode(w, &w->alice, g, 0).node, 0);
    creation(w, &p, "g", NODE_REG);
    plan_range(&p, &p.nodes[0], 0, 50, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 51, HQ);
    expect_committed(send_and_free(w, &p));
    /* what shrinks is let through even above it */
    world_command(w, &world_admin, 0, "admin quota alice --bytes 20");
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->size = 60;
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_used(w, &w->alice, NULL), 110);
}

static void nodes_have_a_quota(void **state)
{
    struct world *w = *state;
    struct plan p;
    world_command(w, &world_admin, 0, "admin quota alice --nodes 1");
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    creation(w, &p, "g", NODE_REG);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_QUOTA);
    uint64_t g = creation(w, &p, "g", NODE_REG); /* one for another */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(send_and_free(w, &p));
    assert_int_equal(world_inode(w, &w->alice, g, 0).node, g);
}

/* What a conflict keeps is let in above the quota; names alone do not lift it. */
static void copies_may_exceed_it_once(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    struct m_commit_ans a = {0};
    char name[64];
    world_command(w, &world_admin, 0, "admin quota alice --bytes 100 --nodes 4");
    world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100);
    unsigned made = 0;
    for (uint64_t i = 1; i < 10; i++, made++) {
        snprintf(name, sizeof name, "f (conflicted copy, a, 2026-01-0%u)", (unsigned)i);
        uint64_t g = creation(w, &p, name, NODE_REG);
        plan_range(&p, &p.nodes[0], 0, 30, &b, 0);
        plan_block(w, &p, w->alice.ns, &b, 51, HQ);
        a = send_and_free(w, &p);
        if (a.status != COMMIT_COMMITTED) {
            expect_row(&a, COMMIT_REFUSED, ROW_NODE_CONTENT, g, REFUSED_QUOTA);
            break;
        }
    }
    assert_int_equal(made, 3);
    assert_int_equal(world_used(w, &w->alice, NULL), 190);
    made = 4;
    do { /* without bytes: the nodes are counted */
        snprintf(name, sizeof name, "f (conflicted copy, b, 2026-01-0%u)", ++made);
        creation(w, &p, name, NODE_REG);
        a = send_and_free(w, &p);
    } while (a.status == COMMIT_COMMITTED && made < 20);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_QUOTA);
    uint64_t nodes;
    world_used(w, &w->alice, &nodes);
    assert_int_equal(nodes, 8);
}

static void roles_are_kept_to(void **state)
{
    struct world *w = *state;
    struct plan p, q;
    struct user bob = w->bob;
    world_command(w, &w->alice.who, 0, "namespace create team");
    struct ns_row row;
    assert_int_equal(meta_read_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->ns_find(w->m->st, bytes_str("team"), &row, &w->ar), 0);
    assert_int_equal(meta_read_end(w->m, 0), 0);
    bob.ns = row.id;
    bob.root = row.root;
    bob.request = 0;
    plan_new(w, &bob, &p);
    uint64_t node = world_node_id(&bob);
    plan_create(&p, node, NODE_REG);
    plan_entry(&p, row.root, "f", 0, 0, node);
    struct m_commit_ans a = world_commit(w, &bob, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_MEMBER);
    assert_int_equal(a.rows_n, 2);
    assert_int_equal(a.head, 0);

    world_command(w, &w->alice.who, 0, "share team bob viewer");
    a = world_commit(w, &bob, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_ROLE);
    assert_int_equal(world_lookup(w, &bob, row.root, "f", 0).node, 0);
    plan_free(&p);

    world_command(w, &w->alice.who, 0, "share team bob editor");
    plan_new(w, &bob, &q);
    plan_create(&q, node, NODE_REG);
    plan_entry(&q, row.root, "f", 0, 0, node);
    expect_committed(world_commit(w, &bob, &q));
    /* what was committed stays committed for its sender, whatever he may do by now */
    world_command(w, &w->alice.who, 0, "share team bob viewer");
    expect_committed(world_commit(w, &bob, &q));
    world_command(w, &w->alice.who, 0, "share team bob none");
    a = world_commit(w, &bob, &q);
    assert_int_equal(a.rows[0].reason, REFUSED_MEMBER);
    struct m_lookup_req l = {.ns = row.id, .parent = row.root, .name = bytes_str("f"), .at = 1};
    struct m_lookup_ans la;
    assert_int_equal(meta_lookup(w->m, &bob.who, &l, &la, &w->ar, w->why), -EACCES);
    plan_free(&q);
    l.ns = 4711; /* no such namespace: the same answer */
    assert_int_equal(meta_lookup(w->m, &bob.who, &l, &la, &w->ar, w->why), -EACCES);
}

static void mount_nodes_are_left_alone(void **state)
{
    struct world *w = *state;
    struct plan p;
    world_command(w, &w->alice.who, 0, "namespace create team");
    world_command(w, &w->alice.who, 0, "namespace mount team /team");
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, "team", 0);
    assert_int_equal(e.inode.type, NODE_MOUNT);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "team", e.node, e.rev, 0);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "team", e.node, e.rev, 0);
    plan_entry(&p, w->alice.root, "mine", 0, 0, e.node);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, e.node, FACET_ATTR);
    n->base_attr = e.inode.attr_rev;
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, e.node, "user.a", 0, "v");
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    creation(w, &p, "x", NODE_REG);
    p.entries[0].parent = e.node;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
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
        TEST(facets_have_their_own_revisions),
        TEST(xattrs_come_and_go),
        TEST(a_node_has_so_many_xattrs),
        TEST(edits_win_over_deletes),
        TEST(a_deleted_node_is_told_as_it_was),
        TEST(a_deleted_node_is_opened_again),
        TEST(ids_are_new_and_ones_own),
        TEST(every_created_node_gets_a_name),
        TEST(parents_are_directories),
        TEST(removed_directories_are_empty),
        TEST(no_directory_below_itself),
        TEST(the_root_stays_the_root),
        TEST(links_are_counted),
        TEST(a_count_that_stays_is_told),
        TEST(rows_are_well_formed),
        TEST(bytes_have_a_quota),
        TEST(nodes_have_a_quota),
        TEST(copies_may_exceed_it_once),
        TEST(roles_are_kept_to),
        TEST(mount_nodes_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
