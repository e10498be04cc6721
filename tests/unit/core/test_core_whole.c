// SPDX-License-Identifier: Apache-2.0
/* What others see of a commit is whole: a name with its content, and all of a file's new content;
 * what does not fit waits, and not for ever. Bounds are set low. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static void bounded(struct world *w, struct core_bounds b)
{
    w->bounds = b;
    world_restart(w, END_CLEAN);
    world_session(w, w->head, ROLE_EDITOR);
}

static size_t extents_of(const struct m_node_change *n)
{
    size_t x = 0;
    for (size_t r = 0; r < n->ranges_n; r++)
        x += n->ranges[r].extents_n;
    return x;
}

/* n extents with gaps between them, in one range. */
static void scattered(struct world *w, uint64_t node, unsigned n, unsigned tag)
{
    assert_int_equal(core_truncate(w->core, &w->who, node, 100ull * n, &w->need), 0);
    for (unsigned i = 0; i < n; i++)
        write_block(w, node, 100ull * i, 10, tag + i);
}

/* Sends the rest in the background; in each commit node is whole or not in it. */
static unsigned commits_of(struct world *w, uint64_t node, size_t extents)
{
    unsigned in = 0;
    for (int k = 0; k < 20 && plan(w, 0) == 0 && w->plan.rows; k++) {
        const struct m_node_change *n = sent_node(w, node);
        if (n && (n->facets & FACET_CONTENT)) {
            assert_int_equal(extents_of(n), extents);
            in++;
        }
        answer_committed(w);
    }
    assert_clean(w);
    return in;
}

static uint64_t doc_saved(struct world *w)
{
    uint64_t tmp = make(w, ROOT, "doc.tmp", NODE_REG);
    write_block(w, tmp, 0, 100, 2);
    assert_int_equal(rename_to(w, ROOT, "doc.tmp", ROOT, "doc", 0), 0);
    return tmp;
}

static void test_a_name_never_comes_before_its_content(void **state)
{
    struct world *w = *state;
    bounded(w, (struct core_bounds){.extents = 8});
    uint64_t doc = make(w, ROOT, "doc", NODE_REG);
    write_block(w, doc, 0, 100, 1);
    commit_all(w);
    uint64_t big = make(w, ROOT, "big", NODE_REG); /* alone it is more than a commit takes */
    scattered(w, big, 20, 100);
    uint64_t tmp = doc_saved(w);
    assert_int_equal(plan(w, 0), 0);
    assert_null(sent_node(w, tmp));
    assert_false(sent_entry(w, ROOT, "doc", doc, tmp));
    answer_committed(w);
    assert_int_equal(commits_of(w, tmp, 1), 1);
    assert_int_equal(node_at(w, ROOT, "doc"), tmp);
}

static void test_two_fsyncs_share_what_fits(void **state)
{
    struct world *w = *state;
    bounded(w, (struct core_bounds){.extents = 8});
    uint64_t big = make(w, ROOT, "big", NODE_REG), small = make(w, ROOT, "small", NODE_REG);
    scattered(w, big, 5, 100);
    scattered(w, small, 3, 200);
    uint64_t both[] = {big, small};
    assert_int_equal(core_plan(w->core, NS, both, 2, INT64_MAX, &w->plan, &w->need), 0);
    assert_int_equal(msg_decode(&m_changes_desc, &w->changes, w->plan.changes.p, w->plan.changes.n,
                                MSG_STRICT, &w->plan_arena, NULL),
                     0);
    assert_true(w->plan.partial); /* the second one is planned again */
    assert_int_equal(extents_of(sent_node(w, big)), 5);
    assert_null(sent_node(w, small));
    answer_committed(w);
    planned(w, small);
    assert_false(w->plan.partial);
    assert_int_equal(extents_of(sent_node(w, small)), 3);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_files_of_a_directory_go_whole(void **state)
{
    struct world *w = *state;
    uint64_t f[5];
    unsigned sent = 0, commits = 0;
    bounded(w, (struct core_bounds){.extents = 8});
    for (unsigned i = 0; i < 5; i++) {
        char name[] = {'f', (char)('0' + i), 0};
        f[i] = make(w, ROOT, name, NODE_REG);
        scattered(w, f[i], 3, 10 * i + 1);
    }
    for (struct core_barrier b; core_barrier(w->core, ROOT, &b) == 0 && b.dirty; commits++) {
        planned(w, ROOT);
        for (unsigned i = 0; i < 5; i++) {
            const struct m_node_change *n = sent_node(w, f[i]);
            if (n)
                assert_int_equal(extents_of(n), 3);
            sent += n != NULL;
        }
        answer_committed(w);
    }
    assert_int_equal(sent, 5);
    assert_int_equal(commits, 3); /* two at a time */
    assert_clean(w);
}

/* Of two that go together and are too much together, the larger one is split. */
static void test_the_smaller_of_two_is_whole(void **state)
{
    struct world *w = *state;
    uint64_t replaced;
    bounded(w, (struct core_bounds){.extents = 8});
    uint64_t a = make(w, ROOT, "a", NODE_REG), b = make(w, ROOT, "b", NODE_REG);
    commit_all(w);
    scattered(w, a, 2, 10);
    scattered(w, b, 5, 30);
    assert_int_equal(core_rename(w->core, &w->who, ROOT, name_of("a"), ROOT, name_of("b"), 2,
                                 &replaced, &w->need),
                     0); /* exchanged */
    planned(w, ROOT);
    assert_true(w->plan.partial);
    assert_int_equal(extents_of(sent_node(w, a)), 2);
    assert_in_range(extents_of(sent_node(w, b)), 1, 4);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_what_does_not_fit_comes_next(void **state)
{
    struct world *w = *state;
    char name[16];
    uint64_t old = make(w, ROOT, "old", NODE_REG);
    bounded(w, (struct core_bounds){.extents = 8});
    commit_all(w);
    scattered(w, old, 3, 1);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned k = 0; k < 3; k++) { /* names come before contents: they never end */
            snprintf(name, sizeof name, "n%u.%u", round, k);
            write_block(w, make(w, ROOT, name, NODE_REG), 0, 10, 100 + 10 * round + k);
        }
        planned(w, 0);
        bool in = sent_node(w, old) != NULL;
        if (in)
            assert_int_equal(extents_of(sent_node(w, old)), 3);
        answer_committed(w);
        if (in)
            return;
    }
    fail_msg("newer files kept an older one waiting");
}

static void test_a_background_commit_is_small_in_bytes(void **state)
{
    struct world *w = *state;
    char name[16];
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned i = 0; i < 80; i++) {
        snprintf(name, sizeof name, "n%u", i);
        uint64_t f = make(w, ROOT, name, NODE_REG);
        for (unsigned k = 0; k < 200; k++)
            write_block(w, f, 200ull * k, 100, 1000 * i + k + 1);
    }
    assert_int_equal(core_end(w->core, true), 0);
    unsigned commits = 0;
    for (; plan(w, 0) == 0 && w->plan.rows; commits++) {
        assert_in_range(w->plan.changes.n + w->plan.ids_n * (BLOCK_ID_LEN + 100), 1, 1u << 20);
        answer_committed(w);
    }
    assert_in_range(commits, 2, 8);
    assert_clean(w);
}

/* ---- removed directories --------------------------------------------------------------------- */
static void filled(struct world *w, uint64_t dir, unsigned n)
{
    char name[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "f%u", i);
        make(w, dir, name, NODE_REG);
    }
}

static void emptied(struct world *w, uint64_t dir, unsigned n)
{
    char name[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "f%u", i);
        assert_int_equal(remove_name(w, dir, name, false), 0);
    }
}

/* d with 35 files, d/s with 12, and d/s/e; removed, as rm -rf does. */
static uint64_t tree_removed(struct world *w)
{
    uint64_t d = make(w, ROOT, "d", NODE_DIR), s = make(w, d, "s", NODE_DIR);
    filled(w, d, 35);
    filled(w, s, 12);
    make(w, s, "e", NODE_DIR);
    commit_all(w);
    emptied(w, s, 12);
    assert_int_equal(remove_name(w, s, "e", true), 0);
    assert_int_equal(remove_name(w, d, "s", true), 0);
    emptied(w, d, 35);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    return d;
}

/* fsync of node until it is clean: commits of at most `max` names. Returns how many. */
static unsigned commits_until_clean(struct world *w, uint64_t node, size_t max)
{
    unsigned n = 0;
    for (struct core_barrier b; core_barrier(w->core, node, &b) == 0 && b.dirty; n++) {
        planned(w, node);
        assert_in_range(w->changes.entries_n, 0, max);
        assert_in_range(w->plan.rows, 1, 2 * max);
        answer_committed(w);
        assert_in_range(n, 0, 100);
    }
    return n;
}

static void test_a_removed_tree_goes_in_several_commits(void **state)
{
    struct world *w = *state;
    bounded(w, (struct core_bounds){.names = 10});
    uint64_t d = tree_removed(w);
    planned(w, ROOT);
    assert_true(w->plan.partial);
    assert_false(sent_entry(w, ROOT, "d", d, 0)); /* it goes when it is empty */
    answer_committed(w);
    assert_in_range(commits_until_clean(w, ROOT, 10), 4, 6); /* … and they are filled */
    commit_all(w);
    assert_clean(w);
}

static void test_a_name_taken_from_a_removed_tree_waits_for_it(void **state)
{
    struct world *w = *state;
    struct core_barrier b;
    bounded(w, (struct core_bounds){.names = 10});
    tree_removed(w);
    uint64_t again = make(w, ROOT, "d", NODE_DIR), f = make(w, again, "f", NODE_REG);
    write_block(w, f, 0, 10, 1);
    commits_until_clean(w, f, 10);
    assert_int_equal(core_barrier(w->core, again, &b), 0);
    assert_false(b.dirty); /* the directory came with its file */
    commit_all(w);
    assert_clean(w);
}

/* Its own name is the oldest change of all. */
static void test_a_removed_tree_goes_in_the_background(void **state)
{
    struct world *w = *state;
    unsigned n = 0;
    bounded(w, (struct core_bounds){.rows = 6});
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    filled(w, d, 35);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "d", ROOT, "away", 0), 0);
    emptied(w, d, 35);
    assert_int_equal(remove_name(w, ROOT, "away", true), 0);
    for (; plan(w, 0) == 0 && w->plan.rows; n++) {
        assert_in_range(w->plan.rows, 1, 7);
        answer_committed(w);
    }
    assert_in_range(n, 6, 9);
    assert_clean(w);
}

/* Two directories are removed, and what was in each has the other's name: neither can be emptied
 * before the other's name goes, so they go together, whatever the bound. */
static void test_what_cannot_be_taken_apart_goes_whole(void **state)
{
    struct world *w = *state;
    bounded(w, (struct core_bounds){.names = 1, .rows = 1});
    uint64_t a = make(w, ROOT, "a", NODE_DIR), b = make(w, ROOT, "b", NODE_DIR);
    uint64_t f = make(w, a, "f", NODE_REG), g = make(w, b, "g", NODE_REG);
    filled(w, a, 3);
    commit_all(w);
    emptied(w, a, 3);
    assert_int_equal(rename_to(w, a, "f", ROOT, "f", 0), 0);
    assert_int_equal(rename_to(w, b, "g", ROOT, "g", 0), 0);
    assert_int_equal(remove_name(w, ROOT, "a", true), 0);
    assert_int_equal(remove_name(w, ROOT, "b", true), 0);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "b", 0), 0);
    assert_int_equal(rename_to(w, ROOT, "g", ROOT, "a", 0), 0);
    commit_all(w);
    assert_clean(w);
    assert_int_equal(node_at(w, ROOT, "a"), g);
    assert_int_equal(node_at(w, ROOT, "b"), f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_name_never_comes_before_its_content),
        T(test_two_fsyncs_share_what_fits),
        T(test_files_of_a_directory_go_whole),
        T(test_the_smaller_of_two_is_whole),
        T(test_what_does_not_fit_comes_next),
        T(test_a_background_commit_is_small_in_bytes),
        T(test_a_removed_tree_goes_in_several_commits),
        T(test_a_name_taken_from_a_removed_tree_waits_for_it),
        T(test_a_removed_tree_goes_in_the_background),
        T(test_what_cannot_be_taken_apart_goes_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
