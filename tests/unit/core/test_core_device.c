// SPDX-License-Identifier: Apache-2.0
/* A state directory goes on under another device number: all that was not committed is kept, and
 * goes with ids of the new one. */
#include "world.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#include "tree.h"

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

#define KNOWN THEIRS(1)
#define OTHER 7 /* the new number */

/* Work of many kinds that is not sent yet, and two files that are sent and not answered. */
static void work(struct world *w)
{
    theirs_make(w, ROOT, "known", KNOWN, NODE_REG);
    theirs_make(w, ROOT, "moved", THEIRS(2), NODE_REG);
    uint64_t mine = make(w, ROOT, "mine", NODE_REG);
    commit_all(w);
    uint64_t d = make(w, ROOT, "d", NODE_DIR), f = make(w, d, "f", NODE_REG);
    uint64_t s = make(w, ROOT, "sent", NODE_REG);
    struct core_attr a;
    write_block(w, f, 0, 8, 1);
    assert_int_equal(set_xattr(w, f, "user.x", "y", 0), 0);
    assert_int_equal(core_link(w->core, &w->who, f, d, bytes_str("g"), &a, &w->need), 0);
    assert_int_equal(rename_to(w, ROOT, "moved", d, "here", 0), 0);
    write_block(w, KNOWN, 0, 4, 2);
    write_block(w, mine, 0, 4, 3);
    write_block(w, s, 0, 8, 4);
    planned(w, s);
}

static void judge(struct world *w)
{
    uint64_t d = node_at(w, ROOT, "d"), f = node_at(w, d, "f"), s = node_at(w, ROOT, "sent");
    struct core_attr a;
    assert_int_equal(NODE_DEVICE(d), OTHER);
    assert_int_equal(NODE_DEVICE(f), OTHER);
    assert_int_equal(NODE_DEVICE(s), OTHER);
    assert_int_equal(node_at(w, d, "g"), f);
    assert_int_equal(node_at(w, d, "here"), THEIRS(2));
    assert_int_equal(node_at(w, ROOT, "known"), KNOWN);
    assert_int_equal(NODE_DEVICE(node_at(w, ROOT, "mine")), 1); /* the server knows it by that */
    assert_content(w, f, "0+8=1@0");
    assert_content(w, s, "0+8=4@0");
    assert_xattr(w, f, "user.x", "y");
    a = attr(w, f);
    assert_int_equal(a.nlink, 2);
    assert_int_equal(plan(w, 0), -EAGAIN); /* the journal is read first */
    world_session(w, w->head, ROLE_EDITOR);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->facets & FACET_CREATE, FACET_CREATE);
    assert_true(sent_entry(w, d, "f", 0, f));
    answer_committed(w);
    planned(w, KNOWN);
    assert_int_equal(sent_node(w, KNOWN)->facets & FACET_CONTENT, FACET_CONTENT);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    uint64_t new = make(w, ROOT, "new", NODE_REG); /* and no id is given twice */
    assert_int_equal(NODE_DEVICE(new), OTHER);
    assert_true(new != d &&new != f &&new != s);
}

static void test_unsent_work_goes_on_under_another_number(void **state)
{
    struct world *w = *state;
    work(w);
    w->device = OTHER;
    world_restart(w, END_CLEAN);
    judge(w);
}

static void test_also_after_a_loss_of_power(void **state)
{
    struct world *w = *state;
    work(w);
    assert_int_equal(tree_flush(w->tree), 0);
    w->device = OTHER;
    world_restart(w, END_POWER);
    world_restart(w, END_KILL); /* and once more, before anything was sent */
    judge(w);
}

/* A tree of a version that did not note whose it is. */
static void test_a_tree_that_does_not_say_whose_it_is(void **state)
{
    struct world *w = *state;
    work(w);
    assert_int_equal(
        sqlite3_exec(tree_db(w->tree), "DELETE FROM meta WHERE key = 'device'", NULL, NULL, NULL),
        SQLITE_OK);
    w->device = OTHER;
    world_restart(w, END_CLEAN);
    judge(w);
}

/* What was sent was committed under the old number after all: it comes in the journal as another
 * device's, and what is here stands beside it as a conflicted copy. */
static void test_what_was_committed_after_all_meets_the_journal(void **state)
{
    struct world *w = *state;
    uint64_t s = make(w, ROOT, "sent", NODE_REG);
    write_block(w, s, 0, 8, 4);
    planned(w, s);
    w->device = OTHER;
    world_restart(w, END_CLEAN);
    world_session(w, 1, ROLE_EDITOR);
    uint64_t now = node_at(w, ROOT, "sent");
    assert_true(now != s);
    rec_begin(w);
    w->rec.device = 1;
    rec_inode(w, s, NODE_REG, 1);
    rec_content(w, 8, 0, 8, 4);
    rec_entry(w, ROOT, "sent", s, NODE_REG);
    rec_known(w, ROOT);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "sent"), s);
    assert_names(w, ROOT, "sent sent (conflicted copy, mine, 2023-11-14)");
    assert_int_equal(node_at(w, ROOT, "sent (conflicted copy, mine, 2023-11-14)"), now);
    assert_content(w, now, "0+8=4@0");
    commit_all(w);
    assert_clean(w);
}

static void test_the_same_number_changes_nothing(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    world_restart(w, END_CLEAN);
    assert_int_equal(node_at(w, ROOT, "f"), f);
    struct core_plan p;
    assert_int_equal(core_resend(w->core, NS, 0, &p), 0); /* under its number */
    core_plan_free(&p);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_unsent_work_goes_on_under_another_number),
        T(test_also_after_a_loss_of_power),
        T(test_a_tree_that_does_not_say_whose_it_is),
        T(test_what_was_committed_after_all_meets_the_journal),
        T(test_the_same_number_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
