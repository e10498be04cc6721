// SPDX-License-Identifier: Apache-2.0
/* Closures: exactly which rows one commit takes along. */
#include "world.h"

#include <errno.h>
#include <linux/fs.h>

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

static void test_nothing_to_send(void **state)
{
    struct world *w = *state;
    assert_int_equal(plan(w, 0), 0);
    assert_int_equal(w->plan.rows, 0);
    assert_int_equal(plan(w, ROOT), 0);
    assert_int_equal(w->plan.rows, 0);
}

static void test_fsync_of_a_known_file_takes_its_facets_only(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    make(w, ROOT, "other", NODE_REG);
    write_block(w, f, 0, 8, 1);
    set_mode(w, f, 0600);
    assert_int_equal(set_xattr(w, f, "user.a", "1", 0), 0);
    planned(w, f);
    assert_int_equal(rows(w), 2);
    const struct m_node_change *n = sent_node(w, f);
    assert_int_equal(n->facets, FACET_CONTENT | FACET_ATTR);
    assert_int_equal(n->base_content, 1);
    assert_int_equal(n->base_attr, 1);
    assert_int_equal(n->ranges_n, 1);
    assert_int_equal(w->changes.xattrs_n, 1);
    assert_int_equal(w->plan.ids_n, 1);
}

static void test_fsync_of_a_new_file_in_new_directories(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), e = make(w, d, "e", NODE_DIR),
             f = make(w, e, "f", NODE_REG);
    make(w, e, "sibling", NODE_REG);
    make(w, ROOT, "other", NODE_DIR);
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, name_of("second"), &a, &w->need), 0);
    planned(w, f);
    assert_int_equal(w->changes.nodes_n, 3);
    assert_true(sent_node(w, d) && sent_node(w, e) && sent_node(w, f));
    assert_int_equal(sent_node(w, f)->facets, FACET_CREATE | FACET_CONTENT);
    assert_int_equal(w->changes.entries_n, 4); /* all its names */
    assert_true(sent_entry(w, ROOT, "d", 0, d));
    assert_true(sent_entry(w, d, "e", 0, e));
    assert_true(sent_entry(w, e, "f", 0, f));
    assert_true(sent_entry(w, ROOT, "second", 0, f));
}

static int count(void *steps)
{
    ++*(size_t *)steps;
    return 0;
}

/* What the database does for a plan that takes a new file with so many names. */
static size_t work_of(struct world *w, const char *first, unsigned names)
{
    size_t steps = 0;
    char name[32];
    struct core_attr a;
    uint64_t f = make(w, ROOT, first, NODE_REG);
    for (unsigned i = 1; i < names; i++) {
        snprintf(name, sizeof name, "%s-%u", first, i);
        assert_int_equal(core_link(w->core, &w->who, f, ROOT, name_of(name), &a, &w->need), 0);
    }
    sqlite3_progress_handler(tree_db(w->tree), 100, count, &steps);
    planned(w, f);
    sqlite3_progress_handler(tree_db(w->tree), 0, NULL, NULL);
    assert_int_equal(w->changes.entries_n, names);
    answer_committed(w);
    return steps;
}

static void test_many_names_cost_their_number(void **state)
{
    struct world *w = *state;
    size_t few = work_of(w, "few", 100), many = work_of(w, "many", 800);
    assert_in_range(many, 4 * few, 16 * few); /* eight times as much, and not its square */
}

static void test_fsync_of_a_new_file_leaves_moves_above_alone(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "d", ROOT, "moved", 0), 0);
    uint64_t f = make(w, d, "f", NODE_REG);
    planned(w, f);
    assert_int_equal(rows(w), 2);
    assert_true(sent_entry(w, d, "f", 0, f));
}

static void test_fsync_of_a_directory(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), old = make(w, d, "old", NODE_REG),
             sub = make(w, d, "sub", NODE_DIR);
    commit_all(w);
    uint64_t f = make(w, d, "f", NODE_REG), g = make(w, sub, "g", NODE_REG);
    write_block(w, f, 0, 8, 1);
    write_block(w, old, 0, 8, 2);
    assert_int_equal(set_xattr(w, f, "user.a", "1", 0), 0);
    assert_int_equal(remove_name(w, d, "old", false), 0);
    set_mode(w, d, 0700);
    planned(w, d);
    assert_int_equal(sent_node(w, d)->facets, FACET_ATTR | FACET_TIMES);
    assert_true(sent_entry(w, d, "f", 0, f));
    assert_int_equal(sent_node(w, f)->facets, FACET_CREATE | FACET_CONTENT);
    assert_int_equal(sent_node(w, f)->ranges_n, 1); /* its content as flushed */
    assert_int_equal(w->changes.xattrs_n, 1);
    assert_true(sent_entry(w, d, "old", old, 0));
    assert_null(sent_node(w, g)); /* not of subdirectories */
    assert_int_equal(w->changes.entries_n, 2);
}

static void test_rename_over(void **state)
{
    struct world *w = *state;
    uint64_t old = make(w, ROOT, "file", NODE_REG);
    commit_all(w);
    uint64_t tmp = make(w, ROOT, "file.tmp", NODE_REG);
    write_block(w, tmp, 0, 8, 1);
    assert_int_equal(rename_to(w, ROOT, "file.tmp", ROOT, "file", 0), 0);
    planned(w, tmp);
    assert_int_equal(rows(w), 2); /* the new node and the name; file.tmp was never known */
    assert_true(sent_entry(w, ROOT, "file", old, tmp));
    assert_int_equal(w->changes.entries[0].base_content,
                     1); /* the replaced file's last name, known so */
    assert_int_equal(sent_node(w, tmp)->ranges_n, 1);
}

static void test_rename_of_a_known_file_over_another_takes_its_content(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_REG), b = make(w, ROOT, "b", NODE_REG);
    commit_all(w);
    write_block(w, a, 0, 8, 1);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", 0), 0);
    planned(w, ROOT);
    assert_true(sent_entry(w, ROOT, "a", a, 0));
    assert_true(sent_entry(w, ROOT, "b", b, a));
    assert_true(sent_node(w, a)->facets & FACET_CONTENT);
}

static void test_rename_that_only_frees_a_name_takes_no_content(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_REG);
    commit_all(w);
    write_block(w, a, 0, 8, 1);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", 0), 0);
    uint64_t fresh = make(w, ROOT, "a", NODE_REG);
    planned(w, fresh);
    assert_true(sent_entry(w, ROOT, "a", a, fresh));
    assert_true(sent_entry(w, ROOT, "b", 0, a)); /* it is never without a name */
    assert_true(!sent_node(w, a) || !(sent_node(w, a)->facets & FACET_CONTENT));
}

static void test_rename_chain(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_REG), b = make(w, ROOT, "b", NODE_REG);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "b", ROOT, "c", 0), 0);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", 0), 0);
    planned(w, ROOT);
    assert_int_equal(w->changes.entries_n, 3);
    assert_true(sent_entry(w, ROOT, "a", a, 0));
    assert_true(sent_entry(w, ROOT, "b", b, a));
    assert_true(sent_entry(w, ROOT, "c", 0, b));
}

static void test_background_keeps_a_chain_together(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), a = make(w, ROOT, "a", NODE_REG),
             b = make(w, d, "b", NODE_REG);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "x", 0), 0);
    assert_int_equal(rename_to(w, d, "b", ROOT, "a", 0), 0);
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "a", a, b));
    assert_true(sent_entry(w, ROOT, "x", 0, a));
    assert_true(sent_entry(w, d, "b", b, 0));
}

static void test_exchange(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), a = make(w, ROOT, "a", NODE_REG),
             b = make(w, d, "b", NODE_REG);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "a", d, "b", RENAME_EXCHANGE), 0);
    planned(w, d); /* fsync of one of the directories takes both */
    assert_int_equal(w->changes.entries_n, 2);
    assert_true(sent_entry(w, ROOT, "a", a, b));
    assert_true(sent_entry(w, d, "b", b, a));
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    assert_int_equal(node_at(w, ROOT, "a"), b);
}

static void test_removed_directory_takes_the_removals_in_it(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), e = make(w, d, "e", NODE_DIR),
             f = make(w, e, "f", NODE_REG);
    uint64_t kept = make(w, d, "kept", NODE_REG);
    commit_all(w);
    assert_int_equal(remove_name(w, e, "f", false), 0);
    assert_int_equal(rename_to(w, d, "kept", ROOT, "kept", 0), 0);
    assert_int_equal(remove_name(w, d, "e", true), 0);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    planned(w, ROOT);
    assert_int_equal(w->changes.entries_n, 5);
    assert_true(sent_entry(w, ROOT, "d", d, 0));
    assert_true(sent_entry(w, d, "e", e, 0));
    assert_true(sent_entry(w, e, "f", f, 0));
    assert_true(sent_entry(w, d, "kept", kept, 0));
    assert_true(sent_entry(w, ROOT, "kept", 0, kept));
}

static void test_moved_directory_takes_moves_above_its_new_place(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_DIR), b = make(w, a, "b", NODE_DIR),
             x = make(w, ROOT, "x", NODE_DIR);
    commit_all(w);
    assert_int_equal(rename_to(w, a, "b", ROOT, "b", 0), 0); /* b out of a, then a into b */
    assert_int_equal(rename_to(w, ROOT, "a", b, "a", 0), 0);
    assert_int_equal(rename_to(w, ROOT, "x", b, "x", 0), 0); /* has nothing to do with it */
    planned(w, b);
    assert_true(sent_entry(w, b, "a", 0, a));
    assert_true(sent_entry(w, ROOT, "a", a, 0));
    assert_true(sent_entry(w, ROOT, "b", 0, b)); /* else a cycle at the server */
    assert_true(sent_entry(w, a, "b", b, 0));
    assert_true(sent_entry(w, b, "x", 0, x)); /* of this directory, and so taken */
}

static void test_what_is_in_a_new_directory_comes_after_it(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    assert_int_equal(rename_to(w, ROOT, "f", d, "f", 0), 0);
    planned(w, 0);
    assert_true(sent_node(w, d)->facets & FACET_CREATE);
    assert_true(sent_entry(w, ROOT, "d", 0, d));
    assert_true(sent_entry(w, d, "f", 0, f));
    assert_true(sent_entry(w, ROOT, "f", f, 0));
}

static void test_background_waits_for_unfinished_content(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), d = make(w, ROOT, "d", NODE_DIR);
    write_block(w, f, 0, 8, 1);
    w->unfinished = true;
    planned(w, 0);
    assert_null(sent_node(w, f));
    assert_true(sent_node(w, d));
    answer_committed(w);
    planned(w, f); /* fsync does not wait */
    assert_true(sent_node(w, f));
}

static void test_background_leaves_what_is_not_quiet(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    assert_int_equal(core_plan(w->core, NS, NULL, 0, w->who.now - 1, &w->plan, &w->need), 0);
    assert_int_equal(w->plan.rows, 0);
    assert_int_equal(core_plan(w->core, NS, NULL, 0, w->who.now, &w->plan, &w->need), 0);
    assert_true(w->plan.rows > 0);
    core_plan_free(&w->plan);
    (void)f;
}

static void test_background_is_bounded(void **state)
{
    struct world *w = *state;
    char name[16];
    assert_int_equal(core_begin(w->core), 0);
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "f%d", i);
        make(w, ROOT, name, NODE_REG);
    }
    assert_int_equal(core_end(w->core, true), 0);
    planned(w, 0);
    assert_in_range(rows(w), BACKGROUND_ROWS_MAX - 2, BACKGROUND_ROWS_MAX + 3);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

/* More is stuck in a refused directory than one look takes in. */
static void test_what_is_stuck_does_not_hide_the_rest(void **state)
{
    struct world *w = *state;
    w->bounds.rows = 1;
    world_restart(w, END_CLEAN);
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    planned(w, d);
    for (int k = 0; k < 20; k++)
        make(w, d, (char[]){(char)('a' + k), 0}, NODE_REG);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE, d, NULL, REFUSED_QUOTA), 0);
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    for (int k = 0; k < 20 && !sent_entry(w, ROOT, "f", 0, f); k++) {
        assert_int_equal(plan(w, 0), 0);
        if (w->plan.rows && !sent_entry(w, ROOT, "f", 0, f))
            answer_committed(w); /* the root's times */
    }
    assert_true(sent_entry(w, ROOT, "f", 0, f));
    answer_committed(w);
    assert_int_equal(core_unpark(w->core, NS), 0);
    for (int k = 0; k < 200 && plan(w, 0) == 0; k++)
        if (w->plan.rows)
            answer_committed(w);
    assert_clean(w);
}

static void test_fsync_goes_with_others(void **state)
{
    struct world *w = *state;
    uint64_t v[] = {make(w, ROOT, "a", NODE_REG), make(w, ROOT, "b", NODE_REG)};
    assert_int_equal(core_plan(w->core, NS, v, 2, 0, &w->plan, &w->need), 0);
    assert_int_equal(w->plan.rows, 4);
}

static void test_attributes_of_a_new_node_are_in_its_creation(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    set_mode(w, f, 0400);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->facets, FACET_CREATE | FACET_CONTENT);
    assert_int_equal(sent_node(w, f)->mode, 0400);
    answer_committed(w);
    set_mode(w, f, 0404);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->base_attr, 1);
}

static void test_symbolic_link(void **state)
{
    struct world *w = *state;
    uint64_t l = make(w, ROOT, "l", NODE_SYMLINK);
    planned(w, l);
    assert_int_equal(sent_node(w, l)->facets, FACET_CREATE);
    assert_true(bytes_equal(sent_node(w, l)->target, bytes_str("target")));
}

static void test_xattr_alone(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    assert_int_equal(set_xattr(w, f, "user.a", "1", 0), 0);
    planned(w, f);
    assert_int_equal(w->changes.xattrs_n, 1);
    assert_int_equal(w->changes.xattrs[0].base_rev, 0);
    answer_committed(w);
    assert_int_equal(set_xattr(w, f, "user.a", NULL, 0), 0);
    planned(w, f);
    assert_true(w->changes.xattrs[0].removed);
    assert_int_equal(w->changes.xattrs[0].base_rev, w->head);
    answer_committed(w);
    assert_clean(w);
    assert_int_equal(set_xattr(w, f, "user.a", "2", 0), 0);
    planned(w, f);
    assert_int_equal(w->changes.xattrs[0].base_rev, 0);
}

static void test_barrier(void **state)
{
    struct world *w = *state;
    struct core_barrier b;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), f = make(w, d, "f", NODE_REG);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_true(b.dirty && !b.request && !b.parked);
    planned(w, f);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_true(!b.dirty && b.request == w->plan.request);
    write_block(w, f, 0, 8, 1);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_true(b.dirty && b.request == w->plan.request);
    answer_committed(w);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_true(b.dirty && !b.request);
    planned(w, f);
    answer_committed(w);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_true(!b.dirty && !b.request);
    assert_int_equal(core_barrier(w->core, THEIRS(9), &b), -ESTALE);
}

/* A plan that takes nothing along leaves nothing behind: no row belongs to a commit that is not. */
static void test_nothing_to_send_marks_nothing(void **state)
{
    struct world *w = *state;
    make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    assert_int_equal(plan(w, ROOT), 0);
    assert_int_equal(rows(w), 0);
    sqlite3_stmt *s = tree_stmt(w->tree, "SELECT count(*) FROM node WHERE request != 0");
    assert_int_equal(tree_step(w->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    sqlite3_reset(s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static bool is_pending(struct world *w, uint64_t node, size_t *n)
{
    uint64_t v[8];
    bool found = false;
    assert_int_equal(core_pending_nodes(w->core, NS, v, 8, n), 0);
    for (size_t i = 0; i < *n; i++)
        found = found || v[i] == node;
    return found;
}

/* What a barrier for everything is about: content and attributes, names by their directories, sent
 * or not. */
static void test_pending_nodes(void **state)
{
    struct world *w = *state;
    size_t n;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), f = make(w, d, "f", NODE_REG);
    make(w, d, "gone", NODE_REG);
    commit_all(w);
    assert_false(is_pending(w, f, &n));
    assert_int_equal(n, 0);
    write_block(w, f, 0, 8, 1);
    assert_true(is_pending(w, f, &n));
    assert_int_equal(n, 1);
    assert_int_equal(remove_name(w, d, "gone", false), 0);
    assert_true(is_pending(w, d, &n));
    assert_int_equal(n, 2);
    planned(w, d); /* the directory's is under way now */
    assert_true(is_pending(w, d, &n) && is_pending(w, f, &n));
    answer_committed(w);
    assert_false(is_pending(w, d, &n));
    assert_true(is_pending(w, f, &n));
    commit_all(w);
    assert_false(is_pending(w, f, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_nothing_to_send),
        T(test_fsync_of_a_known_file_takes_its_facets_only),
        T(test_fsync_of_a_new_file_in_new_directories),
        T(test_many_names_cost_their_number),
        T(test_fsync_of_a_new_file_leaves_moves_above_alone),
        T(test_fsync_of_a_directory),
        T(test_rename_over),
        T(test_rename_of_a_known_file_over_another_takes_its_content),
        T(test_rename_that_only_frees_a_name_takes_no_content),
        T(test_rename_chain),
        T(test_background_keeps_a_chain_together),
        T(test_exchange),
        T(test_removed_directory_takes_the_removals_in_it),
        T(test_moved_directory_takes_moves_above_its_new_place),
        T(test_what_is_in_a_new_directory_comes_after_it),
        T(test_background_waits_for_unfinished_content),
        T(test_background_leaves_what_is_not_quiet),
        T(test_background_is_bounded),
        T(test_what_is_stuck_does_not_hide_the_rest),
        T(test_fsync_goes_with_others),
        T(test_attributes_of_a_new_node_are_in_its_creation),
        T(test_symbolic_link),
        T(test_xattr_alone),
        T(test_barrier),
        T(test_pending_nodes),
        T(test_nothing_to_send_marks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
