// SPDX-License-Identifier: Apache-2.0
/* Removals that meet edits, and what is put in the place of what was removed. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COPY " (conflicted copy, mine, 2023-11-14)"

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

/* ---- edit and delete ----------------------------------------------------------------------------
 */
static void test_edit_here_delete_there(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    write_block(w, f, 0, 10, 5);
    theirs_remove(w, ROOT, "f", f);
    assert_int_equal(node_at(w, ROOT, "f"), f); /* the same node, at its old name */
    assert_int_equal(attr(w, f).nlink, 1);
    planned(w, f);
    assert_true(sent_entry(w, ROOT, "f", 0, f));
    assert_true(sent_node(w, f)->facets & FACET_CONTENT);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

/* A removal that carries the file's newest content, too: a file that has no name has none of it,
 * and comes back as it was before. */
static void test_edit_here_edit_and_delete_there(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    theirs_write(w, f, 20, 0, 20, 2);
    write_block(w, f, 15, 5, 5);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, f, NODE_REG, 0);
    n->size = 3;
    n->gone = true;
    rec_entry(w, ROOT, "f", 0, NODE_NONE);
    apply(w);
    assert_names(w, ROOT, "f");
    assert_int_equal(node_at(w, ROOT, "f"), f);
    assert_content(w, f, "0+15=2@0 15+5=5@0");
    planned(w, f);
    assert_true(sent_entry(w, ROOT, "f", 0, f));
    assert_int_equal(sent_node(w, f)->base_content, 2);
    assert_int_equal(sent_node(w, f)->size, 20);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_edit_here_replace_there(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    write_block(w, f, 0, 10, 5);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, f, NODE_REG, 0);
    n->content_rev = n->attr_rev = 1;
    n->gone = true;
    rec_inode(w, THEIRS(2), NODE_REG, 1);
    rec_entry(w, ROOT, "f", THEIRS(2), NODE_REG);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(2));
    assert_int_equal(node_at(w, ROOT, "f" COPY), f);
    assert_content(w, f, "0+10=5@0");
}

static void test_no_edit_here_delete_there(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    set_mode(w, THEIRS(1), 0400); /* attributes revive nothing */
    w->open_node = THEIRS(1);
    theirs_remove(w, ROOT, "f", THEIRS(1));
    assert_names(w, ROOT, "");
    assert_int_equal(plan(w, 0), 0);
    assert_null(sent_node(w, THEIRS(1)));
}

static void test_delete_here_edit_there(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    theirs_write(w, f, 10, 0, 10, 2);
    assert_int_equal(node_at(w, ROOT, "f"), f);
    assert_content(w, f, "0+10=2@0");
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 0); /* nothing is removed any more */
}

static void test_delete_here_rename_there(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    rec_begin(w);
    rec_entry(w, ROOT, "f", 0, NODE_NONE);
    rec_entry(w, ROOT, "g", THEIRS(1), NODE_REG);
    apply(w);
    assert_names(w, ROOT, "g");
}

static void test_delete_here_replace_there(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, THEIRS(1), NODE_REG, 0);
    n->gone = true;
    n->content_rev = n->attr_rev = 1;
    rec_inode(w, THEIRS(2), NODE_REG, 1);
    rec_entry(w, ROOT, "f", THEIRS(2), NODE_REG);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(2));
}

static void test_rmdir_here_create_in_it_there(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "d", THEIRS(1), NODE_DIR);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(1)};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    theirs_make(w, THEIRS(1), "f", THEIRS(2), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "d"), THEIRS(1));
    assert_int_equal(node_at(w, THEIRS(1), "f"), THEIRS(2));
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 0);
}

static void test_create_here_rmdir_there(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "d", THEIRS(1), NODE_DIR);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(1)};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    uint64_t f = make(w, THEIRS(1), "f", NODE_REG);
    theirs_remove(w, ROOT, "d", THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "d"), THEIRS(1));
    planned(w, f);
    assert_true(sent_entry(w, ROOT, "d", 0, THEIRS(1))); /* the directory comes back with it */
    assert_true(sent_entry(w, THEIRS(1), "f", 0, f));
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_edit_under_a_name_that_was_not_the_last(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    rec_begin(w);
    rec_inode(w, f, NODE_REG, 2);
    rec_content(w, 0, 0, FILE_SIZE_MAX, 0);
    rec_entry(w, ROOT, "f", f, NODE_REG);
    rec_entry(w, ROOT, "g", f, NODE_REG);
    apply(w);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    write_block(w, f, 0, 10, 5);
    planned(w, ROOT);
    assert_true(sent_entry(w, ROOT, "f", f, 0));
    assert_int_equal(w->changes.entries[0].base_content, 0); /* not meant as the last */
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "f", REFUSED_BASE), 0);
    rec_begin(w); /* they removed the other one */
    rec_inode(w, f, NODE_REG, 1)->content_rev = 1;
    rec_entry(w, ROOT, "g", 0, NODE_NONE);
    apply(w);
    assert_names(w, ROOT, "g"); /* the edit keeps it */
    assert_content(w, f, "0+10=5@0");
}

/* Both names of a file are removed here, unknowing of an edit there, which brings both back: of one
 * alone another device may remove it, as of a file that has one more. */
static void test_an_edit_brings_back_all_names(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_REG);
    rec_begin(w);
    rec_known(w, THEIRS(1))->nlink = 2;
    rec_entry(w, ROOT, "b", THEIRS(1), NODE_REG);
    apply(w);
    assert_int_equal(remove_name(w, ROOT, "a", false), 0);
    assert_int_equal(remove_name(w, ROOT, "b", false), 0);
    theirs_write(w, THEIRS(1), 8, 0, 8, 7);
    assert_int_equal(node_at(w, ROOT, "a"), THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "b"), THEIRS(1));
    rec_begin(w);
    rec_known(w, THEIRS(1))->nlink = 1;
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    apply(w);
    commit_all(w);
    assert_int_equal(node_at(w, ROOT, "b"), THEIRS(1));
    assert_content(w, THEIRS(1), "0+8=7@0");
    assert_clean(w);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_edit_here_delete_there),        T(test_edit_here_edit_and_delete_there),
        T(test_edit_here_replace_there),       T(test_no_edit_here_delete_there),
        T(test_delete_here_edit_there),        T(test_delete_here_rename_there),
        T(test_delete_here_replace_there),     T(test_rmdir_here_create_in_it_there),
        T(test_create_here_rmdir_there),       T(test_edit_under_a_name_that_was_not_the_last),
        T(test_an_edit_brings_back_all_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
