// SPDX-License-Identifier: Apache-2.0
/* Content: extents and what is known of them, holes, truncation, clones, and what a change costs.
 */
#include "world.h"

#include <errno.h>
#include <stdlib.h>

static int setup(void **state)
{
    *state = world_new(true);
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void test_write_in_the_middle(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 100, 1);
    write_block(w, f, 40, 10, 2);
    assert_content(w, f, "0+40=1@0 40+10=2@0 50+50=1@50");
    assert_int_equal(attr(w, f).size, 100);
    assert_int_equal(attr(w, f).stored, 100);
    write_block(w, f, 40, 10, 0); /* a hole */
    assert_content(w, f, "0+40=1@0 50+50=1@50");
    assert_int_equal(attr(w, f).stored, 90);
}

static void test_write_behind_the_end(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 100, 10, 1);
    assert_content(w, f, "100+10=1@0");
    assert_int_equal(attr(w, f).size, 110);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->ranges_n, 1);
    assert_int_equal(sent_node(w, f)->ranges[0].off, 0); /* the hole before it is told too */
    assert_int_equal(sent_node(w, f)->ranges[0].len, 110);
}

static void test_truncate(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), d = make(w, ROOT, "d", NODE_DIR);
    write_block(w, f, 0, 100, 1);
    assert_int_equal(core_truncate(w->core, &w->who, f, 30, &w->need), 0);
    assert_int_equal(core_truncate(w->core, &w->who, f, 60, &w->need), 0);
    assert_content(w, f, "0+30=1@0");
    assert_int_equal(attr(w, f).size, 60);
    assert_int_equal(attr(w, f).stored, 30);
    assert_int_equal(core_truncate(w->core, &w->who, f, (uint64_t)FILE_SIZE_MAX + 1, &w->need),
                     -EFBIG);
    assert_int_equal(core_truncate(w->core, &w->who, d, 0, &w->need), -EISDIR);
}

static void test_clone(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_REG), b = make(w, ROOT, "b", NODE_REG);
    write_block(w, a, 0, 100, 1);
    write_block(w, b, 0, 100, 2);
    assert_int_equal(core_clone(w->core, &w->who, a, 50, b, 10, 20, false, &w->need), 0);
    assert_content(w, b, "0+10=2@0 10+20=1@50 30+70=2@30");
    assert_int_equal(core_clone(w->core, &w->who, a, 90, b, 95, 100, false, &w->need),
                     0); /* to a's end */
    assert_content(w, b, "0+10=2@0 10+20=1@50 30+65=2@30 95+10=1@90");
    assert_int_equal(attr(w, b).size, 105);
}

/* Only what is about to be committed anyway is cut anew: to others it would be an edit. */
static void test_a_cut_is_no_change(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    struct m_extent one = {.off = 0, .len = 100, .block = block(3)};
    struct extent_list with = {.v = &one, .n = 1, .cap = 1};
    struct core_barrier b;
    write_block(w, f, 0, 50, 1);
    write_block(w, f, 50, 50, 2);
    struct core_attr was = attr(w, f);
    assert_true(core_recuts(w->core, f));
    assert_int_equal(core_recut(w->core, f, 0, 100, &with), 0);
    assert_content(w, f, "0+100=3@0");
    assert_int_equal(attr(w, f).mtime, was.mtime);
    assert_int_equal(attr(w, f).ctime, was.ctime);
    planned(w, f);
    assert_false(core_recuts(w->core, f)); /* under way */
    answer_committed(w);
    one.block = block(4);
    assert_false(core_recuts(w->core, f));
    assert_int_equal(core_recut(w->core, f, 0, 100, &with), 0);
    assert_content(w, f, "0+100=3@0");
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_false(b.dirty);
    assert_int_equal(core_recut(w->core, f + 1000, 0, 100, &with), 0); /* not known any more */
}

static void test_blocks_in_use(void **state)
{
    struct world *w = *state;
    bool referenced, pending;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    struct block_id one = block(1), two = block(2);
    write_block(w, f, 0, 100, 1);
    assert_int_equal(core_block_used(w->core, &one, &referenced, &pending), 0);
    assert_true(referenced && pending);
    planned(w, f);
    assert_int_equal(core_block_used(w->core, &one, &referenced, &pending), 0);
    assert_true(referenced && pending); /* sent is pending */
    answer_committed(w);
    assert_int_equal(core_block_used(w->core, &one, &referenced, &pending), 0);
    assert_true(referenced && !pending);
    assert_int_equal(core_block_used(w->core, &two, &referenced, &pending), 0);
    assert_false(referenced || pending);
}

static void test_blocks_of_a_closure(void **state)
{
    struct world *w = *state;
    struct m_block_ref *ids;
    size_t n;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 100, 1);
    write_block(w, f, 100, 50, 2);
    write_block(w, f, 20, 10, 2);
    assert_int_equal(core_closure_blocks(w->core, f, &ids, &n), 0);
    assert_int_equal(n, 2);
    struct block_id two = block(2);
    assert_true(block_id_equal(&ids[1].block, &two));
    assert_int_equal(ids[1].len, 50); /* the longest that is known of it */
    free(ids);
}

/* A file of which only [0, 100) was asked for. */
static uint64_t half_known(struct world *w)
{
    theirs_make(w, ROOT, "far", THEIRS(5), NODE_REG);
    world_restart(w, END_CLEAN);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, THEIRS(6), NODE_REG, 1);
    n->size = n->stored = 1000;
    rec_entry(w, ROOT, "half", THEIRS(6), NODE_REG);
    apply(w);
    w->need = (struct core_need){.kind = NEED_EXTENTS, .ns = NS, .node = THEIRS(6), .off = 0};
    struct m_extent e = extent(0, 100, 1, 0);
    assert_int_equal(load_extents(w, &e, 1, 100), 0);
    return THEIRS(6);
}

static void test_unknown_ranges_are_asked_for(void **state)
{
    struct world *w = *state;
    struct extent_list l cleanup_extents = {0};
    uint64_t f = half_known(w);
    assert_int_equal(core_extents(w->core, f, 0, 100, &l, &w->need), 0);
    assert_int_equal(core_extents(w->core, f, 50, 100, &l, &w->need), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_EXTENTS);
    assert_int_equal(w->need.off, 100);
    uint64_t next = 0;
    assert_int_equal(core_next_extent(w->core, f, 50, &next, &w->need), 0);
    assert_int_equal(next, 50);
    assert_int_equal(core_next_extent(w->core, f, 200, &next, &w->need), CORE_NEED);
    assert_int_equal(w->need.off, 200);
    w->need.off = 100;
    struct m_extent e = extent(100, 900, 2, 0);
    assert_int_equal(load_extents(w, &e, 1, FILE_SIZE_MAX), 0);
    assert_content(w, f, "0+100=1@0 100+900=2@0");
}

static void test_a_load_does_not_undo_a_write(void **state)
{
    struct world *w = *state;
    uint64_t f = half_known(w);
    write_block(w, f, 200, 50, 7); /* asks nobody */
    struct extent_list l cleanup_extents = {0};
    assert_int_equal(core_extents(w->core, f, 0, 1000, &l, &w->need), CORE_NEED);
    struct m_extent e = extent(100, 900, 2, 0);
    assert_int_equal(load_extents(w, &e, 1, FILE_SIZE_MAX), 0);
    assert_content(w, f, "0+100=1@0 100+100=2@0 200+50=7@0 250+750=2@150");
    assert_int_equal(attr(w, f).stored, 1000);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->ranges_n, 1); /* what was written, not what was loaded */
    assert_int_equal(sent_node(w, f)->ranges[0].off, 200);
    assert_int_equal(sent_node(w, f)->ranges[0].len, 50);
}

/* What is stored of a file of which most is not known: exactly, where it has no holes. */
static void test_blind_changes_count_what_they_replace(void **state)
{
    struct world *w = *state;
    uint64_t f = half_known(w);
    write_block(w, f, 200, 50, 7); /* over what is not known */
    assert_int_equal(attr(w, f).stored, 1000);
    write_block(w, f, 90, 20, 8); /* a half of it is */
    assert_int_equal(attr(w, f).stored, 1000);
    write_block(w, f, 980, 40, 9); /* over the end */
    assert_int_equal(attr(w, f).stored, 1020);
    assert_int_equal(core_truncate(w->core, &w->who, f, 400, &w->need), 0);
    assert_int_equal(attr(w, f).stored, 400);
    assert_int_equal(core_write(w->core, &w->who, f, 300, 100, NULL, true), 0); /* a hole */
    assert_int_equal(attr(w, f).stored, 300);
    write_block(w, f, 120, 28, 10); /* now it is a guess: a quarter of it may be holes */
    assert_int_equal(attr(w, f).stored, 307);
    assert_int_equal(core_truncate(w->core, &w->who, f, 150, &w->need), 0);
    assert_in_range(attr(w, f).stored, 0, 150); /* never more than there can be */
}

static void test_bad_extents_are_refused(void **state)
{
    struct world *w = *state;
    uint64_t f = half_known(w);
    w->need = (struct core_need){.kind = NEED_EXTENTS, .ns = NS, .node = f, .off = 100};
    struct m_extent overlap[] = {extent(100, 50, 2, 0), extent(120, 50, 3, 0)};
    assert_int_equal(load_extents(w, overlap, 2, FILE_SIZE_MAX), -EBADMSG);
    struct m_extent before = extent(50, 100, 2, 0);
    assert_int_equal(load_extents(w, &before, 1, FILE_SIZE_MAX), -EBADMSG);
}

static void test_a_change_costs_what_it_touches(void **state)
{
    enum { N = 100000 };
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    struct extent_list with cleanup_extents = {0};
    for (unsigned i = 0; i < N; i++) {
        struct m_extent e = extent((uint64_t)i * 100, 100, i % 60000 + 1, 0);
        extent_list_append(&with, &e);
    }
    assert_int_equal(core_write(w->core, &w->who, f, 0, (uint64_t)N * 100, &with, true), 0);
    commit_all(w);
    assert_clean(w);
    int before = sqlite3_total_changes(tree_db(w->tree));
    write_block(w, f, 5000050, 4096, 65000);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->ranges_n, 1);
    assert_int_equal(sent_node(w, f)->ranges[0].len, 4096);
    answer_committed(w);
    int touched = sqlite3_total_changes(tree_db(w->tree)) - before;
    assert_in_range(touched, 1, 100); /* 42 extents lie in the range */
}

static void test_a_long_file_goes_in_several_commits(void **state)
{
    enum { N = 130000 };
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    struct extent_list with cleanup_extents = {0};
    for (unsigned i = 0; i < N; i++) { /* a hole between them: ranges of their own are not needed */
        struct m_extent e = extent((uint64_t)i * 100, 100, i % 65000 + 1, 0);
        extent_list_append(&with, &e);
    }
    for (unsigned i = 0; i < 13; i++) {
        struct extent_list part cleanup_extents = {0};
        extent_list_slice(&with, (uint64_t)i * 1000100, 1000000, &part);
        assert_int_equal(
            core_write(w->core, &w->who, f, (uint64_t)i * 1000100, 1000000, &part, true), 0);
        write_block(w, f, (uint64_t)i * 1000100 + 1000000, 100, 0);
    }
    for (int k = 0; k < 8; k++) {
        assert_int_equal(plan(w, f), 0);
        if (!w->plan.rows)
            break;
        assert_in_range(w->plan.ids_n, 0, IDS_MAX);
        answer_committed(w);
    }
    struct core_barrier b;
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_false(b.dirty);
}

/* A hole costs nothing, however long; what is not known may be data. */
static void test_next_extent(void **state)
{
    struct world *w = *state;
    const uint64_t far = 1ull << 50, size = (uint64_t)FILE_SIZE_MAX;
    uint64_t f = make(w, ROOT, "f", NODE_REG), next = 0;
    assert_int_equal(core_truncate(w->core, &w->who, f, size, &w->need), 0);
    assert_int_equal(core_next_extent(w->core, f, 0, &next, &w->need), -ENXIO);
    write_block(w, f, far, 100, 1);
    assert_int_equal(core_next_extent(w->core, f, 0, &next, &w->need), 0);
    assert_true(next == far);
    assert_int_equal(core_next_extent(w->core, f, far + 99, &next, &w->need), 0);
    assert_true(next == far + 99);
    assert_int_equal(core_next_extent(w->core, f, far + 100, &next, &w->need), -ENXIO);
    assert_int_equal(core_next_extent(w->core, f, size, &next, &w->need), -ENXIO);
}

/* Power was lost before a block was on disk: what had been committed there is seen again; a file
 * that never was at the server has nothing to go back to. */
static void test_what_was_never_synced_goes_back(void **state)
{
    struct world *w = *state;
    struct block_id lost = extent(0, 1, 2, 0).block, other = extent(0, 1, 9, 0).block;
    struct extent_list l cleanup_extents = {0};
    uint64_t f = make(w, ROOT, "f", NODE_REG), g;
    write_block(w, f, 0, 100, 1);
    commit_all(w);
    write_block(w, f, 40, 10, 2);
    write_block(w, f, 60, 10, 3);
    assert_true(core_has_base(w->core, f));
    planned(w, f);
    assert_int_equal(core_block_lost(w->core, f, &lost), -EBUSY);
    assert_int_equal(answer(w, COMMIT_CONFLICT, 0, 0, NULL, 0), 0);
    assert_int_equal(core_block_lost(w->core, f, &other), -ENOENT);
    assert_int_equal(core_block_lost(w->core, f, &lost), 0);
    assert_int_equal(core_extents(w->core, f, 0, 100, &l, &w->need), CORE_NEED);
    assert_int_equal(w->need.off, 40);
    struct m_extent e = extent(40, 60, 1, 40); /* as the server tells it */
    assert_int_equal(load_extents(w, &e, 1, FILE_SIZE_MAX), 0);
    assert_content(w, f, "0+60=1@0 60+10=3@0 70+30=1@70");
    planned(w, f);
    assert_int_equal(sent_node(w, f)->ranges_n, 1); /* the other one is still sent */
    assert_int_equal(sent_node(w, f)->ranges[0].off, 60);
    g = make(w, ROOT, "g", NODE_REG);
    write_block(w, g, 0, 10, 2);
    assert_false(core_has_base(w->core, g));
    assert_int_equal(core_block_lost(w->core, g, &lost), -ENOENT);
    assert_content(w, g, "0+10=2@0");
}

/* As an editor saves, without a sync: what was there before is there again. */
static void test_a_name_goes_back_to_what_had_it(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), g;
    write_block(w, f, 0, 100, 1);
    commit_all(w);
    g = make(w, ROOT, "g", NODE_REG);
    write_block(w, g, 0, 50, 2);
    assert_int_equal(core_name_lost(w->core, g, w->who.now, &w->fx), -ENOENT); /* all its own */
    assert_int_equal(rename_to(w, ROOT, "g", ROOT, "f", 0), 0);
    assert_int_equal(core_name_lost(w->core, f, w->who.now, &w->fx), -ENOENT);
    planned(w, g);
    assert_int_equal(core_name_lost(w->core, g, w->who.now, &w->fx), -ENOENT); /* it is sent */
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, g, NULL, REFUSED_INVALID), 0);
    assert_int_equal(core_name_lost(w->core, g, w->who.now, &w->fx), 0);
    assert_int_equal(node_at(w, ROOT, "f"), f);
    assert_int_equal(attr(w, f).nlink, 1);
    assert_content(w, f, "0+100=1@0");
    assert_int_equal(attr(w, g).nlink, 1);
    assert_content(w, g, "0+50=2@0");
    planned(w, 0);
    assert_null(sent_node(w, g)); /* what is kept aside is parked */
    for (size_t i = 0; i < w->changes.nodes_n; i++)
        assert_int_equal(w->changes.nodes[i].facets, FACET_TIMES);
    assert_int_equal(w->changes.entries_n, 0);
}

/* Every start until what was pending then is committed has to do with it. */
static void test_a_loss_of_power_is_remembered(void **state)
{
    struct world *w = *state;
    bool lost;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 100, 1);
    commit_all(w);
    write_block(w, f, 40, 10, 2);
    world_restart(w, END_KILL);
    assert_int_equal(core_power_lost(w->core, false, &lost), 0);
    assert_false(lost); /* only the process ended */
    world_restart(w, END_KILL);
    assert_int_equal(core_power_lost(w->core, true, &lost), 0);
    assert_true(lost);
    world_restart(w, END_CLEAN);
    assert_int_equal(core_power_lost(w->core, false, &lost), 0);
    assert_true(lost);
    world_session(w, w->head, ROLE_EDITOR);
    commit_all(w);
    world_restart(w, END_CLEAN);
    assert_int_equal(core_power_lost(w->core, false, &lost), 0);
    assert_false(lost);
    write_block(w, f, 50, 10, 3);
    world_restart(w, END_CLEAN);
    assert_int_equal(core_power_lost(w->core, true, &lost), 0);
    assert_false(lost); /* it was shut down as it should be */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_write_in_the_middle),
        T(test_write_behind_the_end),
        T(test_truncate),
        T(test_clone),
        T(test_a_cut_is_no_change),
        T(test_blocks_in_use),
        T(test_blocks_of_a_closure),
        T(test_unknown_ranges_are_asked_for),
        T(test_a_load_does_not_undo_a_write),
        T(test_blind_changes_count_what_they_replace),
        T(test_bad_extents_are_refused),
        T(test_a_change_costs_what_it_touches),
        T(test_a_long_file_goes_in_several_commits),
        T(test_next_extent),
        T(test_what_was_never_synced_goes_back),
        T(test_a_name_goes_back_to_what_had_it),
        T(test_a_loss_of_power_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
