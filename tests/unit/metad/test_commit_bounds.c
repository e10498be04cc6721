// SPDX-License-Identifier: Apache-2.0
/* Commits as large as a device may send them: whatever it asks for, the server answers, and what it
 * has accepted can be listed. */
#include "world.h"

#include <string.h>

/* All that the journal holds can be read by others. */
static void journal_reads(struct world *w, uint64_t records)
{
    cleanup_arena struct arena ar = {0};
    cleanup_buf struct buf out = {0};
    struct m_list_req q = {.ns = w->alice.ns};
    struct m_list_ans a, there;
    for (q.from = 0; q.from < records; q.from += a.records_n) {
        assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
        assert_true(a.records_n > 0);
        assert_true(msg_within(&m_list_ans_desc, &a));
        buf_free(&out);
        msg_encode(&m_list_ans_desc, &a, &out);
        assert_int_equal(msg_decode(&m_list_ans_desc, &there, out.p, out.n, MSG_LENIENT, &ar, NULL),
                         0);
    }
    assert_int_equal(world_head(w, &w->alice), records);
}

/* n holes of one byte each, and a shrink behind them. */
static struct m_commit_ans many_holes(struct world *w, uint64_t node, uint64_t base, size_t n)
{
    struct plan p;
    plan_new(w, &w->alice, &p);
    struct m_node_change *c = plan_node(&p, node, FACET_CONTENT);
    c->base_content = base;
    c->size = 2 * CHANGES_ROWS_MAX;
    c->ranges = arena_alloc(&p.ar, n * sizeof *c->ranges);
    c->ranges_n = n;
    for (size_t k = 0; k < n; k++)
        c->ranges[k] = (struct m_range){.off = 2 * k, .len = 1};
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    plan_free(&p);
    return a;
}

static void ranges_and_a_shrink(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_node_id(&w->alice);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_create(&p, f, NODE_REG);
    n->facets |= FACET_CONTENT;
    n->size = 1u << 30;
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
    struct m_commit_ans a = many_holes(w, f, 1, CHANGES_ROWS_MAX);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    journal_reads(w, 1);
    expect_committed(many_holes(w, f, 1, CHANGES_ROWS_MAX - 1));
    journal_reads(w, 2);
}

static void extents_of_ranges_joined(void **state)
{
    enum { EACH = 150000 };
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    uint64_t f = world_node_id(&w->alice);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_create(&p, f, NODE_REG);
    n->facets |= FACET_CONTENT;
    n->size = 2 * EACH;
    n->ranges = arena_alloc(&p.ar, 2 * sizeof *n->ranges);
    n->ranges_n = 2;
    for (size_t k = 0; k < 2; k++) {
        struct m_range *g = &n->ranges[k];
        *g = (struct m_range){.off = k * EACH, .len = EACH, .extents_n = EACH};
        g->extents = arena_alloc(&p.ar, EACH * sizeof *g->extents);
        for (size_t j = 0; j < EACH; j++)
            g->extents[j] = (struct m_extent){
                .off = g->off + j, .len = 1, .block = b, .block_off = 2 * EACH - g->off - j};
    }
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    plan_block(w, &p, w->alice.ns, &b, BLOCK_MAX, HQ);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    journal_reads(w, 0);
    plan_free(&p);
}

/* A target is in the record twice: with its node and with its name. */
static void links_with_long_targets(void **state)
{
    enum { LINKS = 5000 };
    struct world *w = *state;
    static char target[TARGET_LEN_MAX], names[LINKS][8];
    struct plan p;
    memset(target, 't', sizeof target);
    plan_new(w, &w->alice, &p);
    p.ch.nodes = arena_alloc(&p.ar, LINKS * sizeof *p.ch.nodes);
    p.ch.entries = arena_alloc(&p.ar, LINKS * sizeof *p.ch.entries);
    for (size_t k = 0; k < LINKS; k++) {
        uint64_t node = world_node_id(&w->alice);
        snprintf(names[k], sizeof names[k], "%zu", k);
        p.ch.nodes[k] = (struct m_node_change){.node = node,
                                               .facets = FACET_CREATE,
                                               .type = NODE_SYMLINK,
                                               .mode = 0777,
                                               .target = bytes_of(target, sizeof target)};
        p.ch.entries[k] = (struct m_entry_change){
            .parent = w->alice.root, .name = bytes_str(names[k]), .node = node};
    }
    p.ch.nodes_n = p.ch.entries_n = LINKS;
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    a = world_commit(w, &w->alice, &p); /* for good */
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    journal_reads(w, 0);
    uint64_t used;
    world_used(w, &w->alice, &used);
    assert_int_equal(world_lookup(w, &w->alice, w->alice.root, "0", 0).node, 0);
    p.q.request = ++w->alice.request;
    p.ch.nodes_n = p.ch.entries_n = LINKS / 2;
    expect_committed(world_commit(w, &w->alice, &p));
    journal_reads(w, 1);
    uint64_t more;
    world_used(w, &w->alice, &more);
    assert_int_equal(more - used, LINKS / 2);
    plan_free(&p);
}

/* Every row at its most: two nodes and their directory change with each name. */
static void names_of_many_nodes(void **state)
{
    struct world *w = *state;
    enum { ROWS = CHANGES_ROWS_MAX / 2 };
    struct plan p;
    static char names[ROWS][8];
    plan_new(w, &w->alice, &p);
    p.ch.nodes = arena_alloc(&p.ar, ROWS * sizeof *p.ch.nodes);
    p.ch.entries = arena_alloc(&p.ar, (ROWS + 1) * sizeof *p.ch.entries);
    for (size_t k = 0; k < ROWS; k++) {
        uint64_t node = world_node_id(&w->alice);
        snprintf(names[k], sizeof names[k], "%zu", k);
        p.ch.nodes[k] =
            (struct m_node_change){.node = node, .facets = FACET_CREATE, .type = NODE_FIFO};
        p.ch.entries[k] = (struct m_entry_change){
            .parent = w->alice.root, .name = bytes_str(names[k]), .node = node};
    }
    p.ch.nodes_n = ROWS;
    p.ch.entries_n = ROWS + 1;
    p.ch.entries[ROWS] = p.ch.entries[0];
    p.ch.entries[ROWS].name = bytes_str("one more");
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    p.q.request = ++w->alice.request;
    p.ch.entries_n = ROWS;
    a = world_commit(w, &w->alice, &p);
    if (a.status == COMMIT_REFUSED)
        expect_row(&a, COMMIT_REFUSED, ROW_NODE, 0, REFUSED_TOO_LARGE);
    journal_reads(w, a.status == COMMIT_COMMITTED);
    plan_free(&p);
}

/* A chain of n new directories, the first in parent; the plan's next entries. */
static void chain(struct world *w, struct plan *p, uint64_t parent, size_t n, bool from_below)
{
    p->ch.nodes = arena_alloc(&p->ar, n * sizeof *p->ch.nodes);
    p->ch.entries = arena_alloc(&p->ar, n * sizeof *p->ch.entries);
    p->ch.nodes_n = p->ch.entries_n = n;
    for (size_t k = 0; k < n; k++) {
        uint64_t node = world_node_id(&w->alice);
        p->ch.nodes[k] =
            (struct m_node_change){.node = node, .facets = FACET_CREATE, .type = NODE_DIR};
        p->ch.entries[from_below ? n - 1 - k : k] =
            (struct m_entry_change){.parent = parent, .name = bytes_str("d"), .node = node};
        parent = node;
    }
}

static void directories_have_a_depth(void **state)
{
    struct world *w = *state;
    for (int from_below = 0; from_below < 2; from_below++) {
        struct plan p;
        char name[8];
        snprintf(name, sizeof name, "t%d", from_below);
        uint64_t top = world_make(w, &w->alice, w->alice.root, name, NODE_DIR, 0); /* depth 1 */
        plan_new(w, &w->alice, &p);
        chain(w, &p, top, DEPTH_MAX, from_below);
        struct m_commit_ans a = world_commit(w, &w->alice, &p);
        expect_row(&a, COMMIT_REFUSED, ROW_ENTRY, p.ch.nodes[DEPTH_MAX - 2].node, REFUSED_INVALID);
        plan_free(&p);
        plan_new(w, &w->alice, &p);
        chain(w, &p, top, DEPTH_MAX - 1, from_below);
        expect_committed(world_commit(w, &w->alice, &p));
        uint64_t deepest = p.ch.nodes[DEPTH_MAX - 2].node;
        plan_free(&p);
        /* one more, beside a file that may be there and a directory elsewhere */
        world_make(w, &w->alice, deepest, "f", NODE_REG, 0);
        plan_new(w, &w->alice, &p);
        uint64_t fine = world_node_id(&w->alice), deep = world_node_id(&w->alice);
        plan_create(&p, fine, NODE_DIR);
        plan_create(&p, deep, NODE_DIR);
        plan_entry(&p, w->alice.root, "fine", 0, 0, fine);
        plan_entry(&p, deepest, "deep", 0, 0, deep);
        a = world_commit(w, &w->alice, &p);
        expect_row(&a, COMMIT_REFUSED, ROW_ENTRY, deepest, REFUSED_INVALID);
        plan_free(&p);
        /* the highest into the lowest */
        struct m_entry e = world_lookup(w, &w->alice, w->alice.root, name, 0);
        plan_new(w, &w->alice, &p);
        plan_entry(&p, w->alice.root, name, top, e.rev, 0);
        plan_entry(&p, deepest, "x", 0, 0, top);
        a = world_commit(w, &w->alice, &p);
        expect_row(&a, COMMIT_CONFLICT, ROW_ENTRY, deepest, REFUSED_CYCLE);
        plan_free(&p);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ranges_and_a_shrink), TEST(extents_of_ranges_joined), TEST(links_with_long_targets),
        TEST(names_of_many_nodes), TEST(directories_have_a_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
