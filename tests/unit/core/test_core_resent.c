// SPDX-License-Identifier: Apache-2.0
/* What was under way when the mount ended: restarts, kills, and a loss of power that took the
 * tree's memory of a commit. */
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

static uint64_t committed(struct world *w, const char *name, enum node_type type)
{
    uint64_t node = make(w, ROOT, name, type);
    commit_all(w);
    return node;
}

static void test_resend_after_restart(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    planned(w, f);
    uint64_t request = w->plan.request;
    size_t bytes = w->plan.changes.n;
    world_restart(w, END_CLEAN);
    core_plan_free(&w->plan);
    assert_int_equal(core_resend(w->core, NS, 0, &w->plan), 0);
    assert_int_equal(w->plan.request, request);
    assert_int_equal(w->plan.changes.n, bytes);
    assert_int_equal(w->plan.ids_n, 1);
    assert_int_equal(w->plan.lowest_open, request);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    struct core_plan none;
    assert_int_equal(core_resend(w->core, NS, 0, &none), -ENOENT);
}

static void test_a_kill_loses_nothing(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    world_restart(w, END_KILL);
    assert_int_equal(node_at(w, ROOT, "f"), f);
    assert_content(w, f, "0+8=1@0");
    uint64_t g = make(w, ROOT, "g", NODE_REG);
    assert_true(g > f);
}

/* What a damaged tree kept of a commit: its rows, but not what was sent. */
static void test_what_was_sent_is_lost(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    assert_int_equal(set_xattr(w, f, "user.k", "v", 0), 0);
    write_block(w, f, 0, 8, 1);
    planned(w, 0);
    write_block(w, f, 8, 8, 2);
    assert_int_equal(sqlite3_exec(tree_db(w->tree), "DELETE FROM sent", NULL, NULL, NULL),
                     SQLITE_OK);
    world_restart(w, END_KILL);
    world_session(w, 0, ROLE_OWNER);
    planned(w, 0);
    assert_int_equal(w->changes.nodes_n, 2); /* with the directory's times */
    assert_int_equal(w->changes.entries_n, 1);
    assert_int_equal(w->changes.xattrs_n, 1);
    answer_committed(w);
    assert_clean(w);
    assert_content(w, f, "0+8=1@0 8+8=2@0");
}

static void test_unclean_start_holds_back(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, 0);
    uint64_t request = w->plan.request;
    world_restart(w, END_KILL);
    make(w, ROOT, "g", NODE_REG);
    assert_int_equal(plan(w, 0), -EAGAIN); /* before a session */
    struct core_plan p;
    assert_int_equal(core_resend(w->core, NS, 0, &p), -EAGAIN);
    world_session(w, 1, ROLE_EDITOR);
    assert_int_equal(plan(w, 0), -EAGAIN); /* before the journal is read */
    rec_begin(w);
    rec_own(w, request);
    apply(w);
    planned(w, 0);
    assert_true(w->plan.request > request);
    assert_null(sent_node(w, f));
    assert_int_equal(w->changes.entries_n, 1);
}

static void test_numbers_are_not_used_twice(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, 0);
    uint64_t request = w->plan.request;
    world_restart(w, END_POWER); /* the newest transactions may be gone */
    world_session(w, 0, ROLE_EDITOR);
    struct core_attr a;
    if (core_getattr(w->core, ROOT, &a, &w->need) == CORE_NEED) {
        struct m_inode n = {.node = ROOT, .type = NODE_DIR, .mode = 0755, .nlink = 2};
        assert_int_equal(load_node(w, &n, NULL, 0), 0);
    }
    uint64_t g;
    if (try_make(w, ROOT, "new", NODE_REG, &g) == CORE_NEED) {
        assert_int_equal(load_name(w, 0, NODE_NONE), 0);
        assert_int_equal(try_make(w, ROOT, "new", NODE_REG, &g), 0);
    }
    assert_true(g > f);
    planned(w, g);
    assert_true(w->plan.request > request);
}

/* Power loss took the commit out of the tree; the journal brings it back. */
static void test_a_forgotten_commit_wins_over_what_is_older(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    set_mode(w, f, 0600);
    write_block(w, f, 0, 8, 1);
    world_restart(w, END_KILL); /* as if this were all that power loss left */
    world_session(w, 1, ROLE_EDITOR);
    rec_begin(w);
    rec_own(w, 4000);
    struct m_inode *n = rec_inode(w, f, NODE_REG, 1);
    n->mode = 0640;
    rec_content(w, 8, 0, FILE_SIZE_MAX, 0);
    w->extents[0] = extent(0, 8, 2, 0);
    w->ranges[0].extents = w->extents;
    w->ranges[0].extents_n = 1;
    rec_entry(w, ROOT, "f", f, NODE_REG);
    apply(w);
    assert_content(w, f, "0+8=2@0");
    assert_int_equal(attr(w, f).mode, 0640);
    assert_names(w, ROOT, "f");
    commit_all(w);
    assert_clean(w);
}

/* A file had more pending than a commit takes: what the forgotten one did not carry is still to be
 * sent. */
static void test_a_forgotten_commit_of_a_part_leaves_the_rest(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    write_block(w, f, 0, 8, 1);
    write_block(w, f, 16, 8, 2);
    world_restart(w, END_KILL); /* as if this were all that power loss left */
    world_session(w, w->head + 1, ROLE_EDITOR);
    rec_begin(w);
    rec_own(w, 4000);
    rec_inode(w, f, NODE_REG, 1);
    rec_content(w, 24, 0, 8, 0);
    w->inodes[0].stored = 8;
    w->extents[0] = extent(0, 8, 3, 0);
    w->ranges[0].extents = w->extents;
    w->ranges[0].extents_n = 1;
    apply(w);
    assert_content(w, f, "0+8=3@0 16+8=2@0");
    assert_int_equal(attr(w, f).stored, 16);
    planned(w, f);
    const struct m_node_change *n = sent_node(w, f);
    assert_int_equal(n->ranges_n, 1);
    assert_int_equal(n->ranges[0].off, 8); /* with the hole before it */
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

/* The file was longer before, and that was never sent: nothing of it is behind its end. */
static void test_a_forgotten_commit_of_what_was_cut_off(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    commit_all(w);
    write_block(w, f, 8, 16, 2);
    world_restart(w, END_KILL); /* as if this were all that power loss left */
    world_session(w, w->head + 1, ROLE_EDITOR);
    rec_begin(w);
    rec_own(w, 4000);
    rec_inode(w, f, NODE_REG, 1);
    rec_content(w, 16, 8, 8, 0);
    w->extents[0] = extent(8, 8, 2, 0);
    w->ranges[0].extents = w->extents;
    w->ranges[0].extents_n = 1;
    apply(w);
    assert_content(w, f, "0+8=1@0 8+8=2@0");
    sqlite3_stmt *s = tree_stmt(w->tree, "SELECT count(*) FROM extent WHERE off + len > 16");
    assert_int_equal(tree_step(w->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    sqlite3_reset(s);
    commit_all(w);
    assert_clean(w);
}

/* Of a new file the record tells all that it is: where it may be a part, what was to follow is
 * another version. */
static void test_a_forgotten_commit_of_a_part_of_a_new_file(void **state)
{
    struct world *w = *state;
    w->bounds.extents = 2;
    world_restart(w, END_CLEAN);
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    write_block(w, f, 8, 8, 2);
    world_restart(w, END_KILL); /* as if this were all that power loss left */
    world_session(w, w->head + 1, ROLE_EDITOR);
    rec_begin(w);
    rec_own(w, 4000);
    rec_inode(w, f, NODE_REG, 1);
    rec_content(w, 16, 0, FILE_SIZE_MAX, 0);
    w->extents[0] = extent(0, 8, 1, 0);
    w->ranges[0].extents = w->extents;
    w->ranges[0].extents_n = 1;
    rec_entry(w, ROOT, "f", f, NODE_REG);
    apply(w);
    assert_content(w, f, "0+8=1@0");
    assert_non_null(effect(w, EFFECT_FORK));
    assert_content(w, effect(w, EFFECT_FORK)->other, "0+8=1@0 8+8=2@0");
    commit_all(w);
    assert_clean(w);
}

/* A move onto another name, of which a forgotten commit says that nothing has it: what was moved
 * back before that commit is where it was, and no removal of it is sent. */
static void test_a_forgotten_commit_wins_over_half_a_move(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    theirs_make(w, ROOT, "g", THEIRS(2), NODE_REG);
    theirs_make(w, ROOT, "d", THEIRS(3), NODE_DIR);
    theirs_make(w, ROOT, "e", THEIRS(4), NODE_DIR);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(4)};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "g", 0), 0);
    assert_int_equal(rename_to(w, ROOT, "d", ROOT, "e", 0), 0);
    uint64_t h = make(w, ROOT, "d", NODE_REG);
    world_restart(w, END_KILL); /* both were moved back, and the commit sent, before power loss */
    world_session(w, w->head + 1, ROLE_EDITOR);
    rec_begin(w);
    rec_own(w, 4000);
    for (unsigned k = 2; k <= 4; k += 2) {
        struct m_inode *n = rec_inode(w, THEIRS(k), k == 2 ? NODE_REG : NODE_DIR, 0);
        n->content_rev = n->attr_rev = 1;
        n->gone = true;
    }
    rec_entry(w, ROOT, "g", 0, NODE_NONE);
    rec_entry(w, ROOT, "e", 0, NODE_NONE);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "d"), THEIRS(3));
    assert_names(w, ROOT, "d d (conflicted copy, mine, 2023-11-14) f");
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 1); /* what has the place of the directory stays, too */
    assert_true(sent_entry(w, ROOT, "d (conflicted copy, mine, 2023-11-14)", 0, h));
}

static void test_a_forgotten_commit_does_not_win_over_what_is_newer(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    world_restart(w, END_KILL);
    write_block(w, f, 0, 8, 3);
    set_mode(w, f, 0400);
    world_session(w, 1, ROLE_EDITOR);
    rec_begin(w);
    rec_own(w, 4000);
    rec_inode(w, f, NODE_REG, 1);
    rec_content(w, 8, 0, FILE_SIZE_MAX, 0);
    w->extents[0] = extent(0, 8, 2, 0);
    w->ranges[0].extents = w->extents;
    w->ranges[0].extents_n = 1;
    rec_entry(w, ROOT, "f", f, NODE_REG);
    apply(w);
    assert_int_equal(attr(w, f).mode, 0400);
    assert_content(w, f, "0+8=2@0");
    assert_non_null(effect(w, EFFECT_FORK));
    assert_content(w, effect(w, EFFECT_FORK)->other, "0+8=3@0");
}

static void test_a_directory_that_a_forgotten_commit_took_away_is_gone(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    planned(w, d);
    world_restart(w, END_KILL); /* forgotten: a conflict, the directories merged, the name moved */
    world_session(w, 2, ROLE_EDITOR);
    theirs_make(w, ROOT, "d", THEIRS(1), NODE_DIR);
    rec_begin(w);
    rec_own(w, 4000);
    rec_entry(w, ROOT, "d", 0, NODE_NONE);
    rec_entry(w, ROOT, "e", THEIRS(1), NODE_DIR);
    rec_known(w, ROOT);
    apply(w);
    assert_names(w, ROOT, "e");
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE, d, NULL, REFUSED_REQUEST), 0);
    commit_all(w);
    assert_clean(w);
    struct core_attr a;
    assert_int_equal(core_getattr(w->core, d, &a, &w->need), -ESTALE);
}

/* Times that are on their way to a directory when its removal is settled come to nothing there:
 * they go again with its new name. */
static void test_times_sent_to_what_is_gone_go_again(void **state)
{
    struct world *w = *state;
    uint64_t d = committed(w, "d", NODE_DIR);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    planned(w, 0);
    uint64_t removal = w->plan.request;
    theirs_make(w, d, "x", THEIRS(1), NODE_DIR);
    theirs_remove(w, d, "x", THEIRS(1));
    struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = w->head + 2, .head = w->head + 2};
    assert_int_equal(core_commit_answer(w->core, NS, removal, &a, &w->fx), 0);
    struct core_attr t = {.mtime = 77};
    assert_int_equal(core_setattr(w->core, &w->who, d, CORE_SET_MTIME, &t, &w->need), 0);
    planned(w, d);
    uint64_t times = w->plan.request;
    theirs_make(w, ROOT, "e", THEIRS(2), NODE_DIR);
    rec_begin(w);
    rec_own(w, removal);
    apply(w);
    rec_begin(w);
    rec_own(w, times);
    apply(w);
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "d", 0, d));
    assert_non_null(sent_node(w, d));
    assert_int_equal(sent_node(w, d)->mtime, 77);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

/* A file that lost one of two names is not gone: nothing but what changed is sent of it. */
static void test_a_file_that_kept_a_name_is_not_gone(void **state)
{
    struct world *w = *state;
    struct core_attr a, t = {.mtime = 5};
    uint64_t f = committed(w, "f", NODE_REG);
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, name_of("g"), &a, &w->need), 0);
    commit_all(w);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    commit_all(w);
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, name_of("h"), &a, &w->need), 0);
    assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_MTIME, &t, &w->need), 0);
    planned(w, f);
    assert_int_equal(rows(w), 1);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_resend_after_restart),
        T(test_a_kill_loses_nothing),
        T(test_what_was_sent_is_lost),
        T(test_unclean_start_holds_back),
        T(test_numbers_are_not_used_twice),
        T(test_a_forgotten_commit_wins_over_what_is_older),
        T(test_a_forgotten_commit_of_a_part_leaves_the_rest),
        T(test_a_forgotten_commit_of_what_was_cut_off),
        T(test_a_forgotten_commit_of_a_part_of_a_new_file),
        T(test_a_forgotten_commit_wins_over_half_a_move),
        T(test_a_forgotten_commit_does_not_win_over_what_is_newer),
        T(test_a_directory_that_a_forgotten_commit_took_away_is_gone),
        T(test_times_sent_to_what_is_gone_go_again),
        T(test_a_file_that_kept_a_name_is_not_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
