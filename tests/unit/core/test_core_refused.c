// SPDX-License-Identifier: Apache-2.0
/* What a refusal takes along, and what not. */
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

static struct core_ns pending(struct world *w)
{
    struct core_ns n;
    assert_int_equal(core_ns_pending(w->core, NS, &n), 0);
    return n;
}

/* ---- refusals -------------------------------------------------------------------------------- */
static void test_a_known_directory_that_is_refused_holds_nothing(void **state)
{
    struct world *w = *state;
    struct core_barrier b;
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    make(w, d, "old", NODE_REG);
    commit_all(w);
    assert_int_equal(set_xattr(w, d, "user.no", "x", 0), 0);
    planned(w, d);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_XATTR, d, "user.no", REFUSED_INVALID), 0);
    assert_int_equal(effect(w, EFFECT_PARKED)->err, -EINVAL);
    uint64_t f = make(w, d, "f", NODE_REG);
    assert_int_equal(remove_name(w, d, "old", false), 0);
    assert_int_equal(pending(w).parked, 1); /* a name in it is not what was refused */
    planned(w, f);
    assert_true(sent_entry(w, d, "f", 0, f));
    answer_committed(w);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_int_equal(b.parked, 0);
    commit_all(w);
    struct core_ns n = pending(w);
    assert_int_equal(n.parked, 1);
    assert_int_equal(n.pending_nodes, n.parked + n.held); /* nothing is waited for */
    assert_int_equal(core_barrier(w->core, d, &b), 0);
    assert_int_equal(b.parked, -EIO); /* what programs are told */
    assert_int_equal(plan(w, d), -EIO);
    assert_int_equal(set_xattr(w, d, "user.no", NULL, 0), 0); /* as was asked for */
    assert_int_equal(pending(w).parked, 0);
    commit_all(w);
    assert_clean(w);
}

static void test_a_refused_move_is_one_change(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), e = make(w, ROOT, "e", NODE_DIR);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "d", e, "deep", 0), 0);
    planned(w, ROOT);
    assert_true(sent_entry(w, e, "deep", 0, d));
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, e, "deep", REFUSED_INVALID), 0);
    uint64_t f = make(w, d, "f", NODE_REG);
    commit_all(w);
    struct core_ns n = pending(w);
    assert_int_equal(n.parked, 1);
    assert_int_equal(n.pending_nodes, n.parked + n.held);
    struct core_barrier b;
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_false(b.dirty);
}

/* All that is not on its way is told as refused, or as waiting for that. */
static void assert_nothing_is_waited_for(struct world *w, uint64_t held)
{
    commit_all(w);
    struct core_ns n = pending(w);
    assert_int_equal(n.parked, 1);
    assert_int_equal(n.held, held);
    assert_int_equal(n.pending_nodes, n.parked + n.held);
}

static void test_what_waits_for_the_old_name_of_a_refused_move(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), e = make(w, ROOT, "e", NODE_DIR),
             s = make(w, ROOT, "s", NODE_DIR), x = make(w, ROOT, "x", NODE_REG), *refused, n;
    rename_to(w, ROOT, "d", s, "d", 0);
    make(w, ROOT, "clean", NODE_REG);
    commit_all(w);
    assert_int_equal(rename_to(w, s, "d", e, "deep", 0), 0);
    planned(w, s);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, e, "deep", REFUSED_INVALID), 0);
    assert_nothing_is_waited_for(w, 0);
    assert_int_equal(rename_to(w, ROOT, "x", s, "d", 0), 0); /* its old name, and its new one */
    assert_nothing_is_waited_for(w, 2);
    uint64_t k = make(w, ROOT, "x", NODE_DIR), f = make(w, k, "f", NODE_REG); /* what x left */
    assert_nothing_is_waited_for(w, 4 - 1); /* the name that it left is that of k */
    assert_int_equal(plan(w, f), -EIO);
    assert_int_equal(core_link(w->core, &w->who, x, ROOT, name_of("link"), &a, &w->need), 0);
    assert_nothing_is_waited_for(w, 4);
    assert_int_equal(core_parked_holds(w->core, d, &n), 0);
    assert_int_equal(n, 4);
    assert_int_equal(core_refused(w->core, NS, &refused, &n), 0);
    assert_int_equal(n, 4); /* d, x, k, f */
    free(refused);
    uint64_t other = make(w, ROOT, "other", NODE_REG);
    planned(w, other); /* does not wait */
    assert_true(sent_entry(w, ROOT, "other", 0, other));
    answer_committed(w);
    assert_nothing_is_waited_for(w, 4);
    assert_int_equal(core_unpark(w->core, NS), 0);
    commit_all(w);
    assert_clean(w);
    assert_int_equal(node_at(w, e, "deep"), d);
}

static void test_a_removed_directory_waits_for_what_was_moved_out_of_it(void **state)
{
    struct world *w = *state;
    uint64_t s = make(w, ROOT, "s", NODE_DIR), d = make(w, s, "d", NODE_DIR),
             e = make(w, ROOT, "e", NODE_DIR);
    commit_all(w);
    assert_int_equal(rename_to(w, s, "d", e, "deep", 0), 0);
    planned(w, s);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, e, "deep", REFUSED_INVALID), 0);
    assert_int_equal(remove_name(w, ROOT, "s", true), 0);
    assert_nothing_is_waited_for(w, 1);
    make(w, ROOT, "s", NODE_REG);
    assert_nothing_is_waited_for(w, 1); /* in its place */
    assert_int_equal(core_unpark(w->core, NS), 0);
    commit_all(w);
    assert_clean(w);
    assert_int_equal(node_at(w, e, "deep"), d);
}

static void test_conflicts_beside_a_refusal_are_left_to_the_rebase(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    assert_int_equal(set_xattr(w, f, "user.no", "x", 0), 0);
    planned(w, 0);
    struct m_row_ref rows[] = {
        {.kind = ROW_ENTRY, .node = ROOT, .name = bytes_str("d"), .reason = REFUSED_NOT_EMPTY},
        {.kind = ROW_XATTR, .node = f, .name = bytes_str("user.no"), .reason = REFUSED_INVALID}};
    struct m_commit_ans a = {
        .status = COMMIT_REFUSED, .head = w->head + 1, .rows = rows, .rows_n = 2};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
    assert_int_equal(pending(w).parked, 0);
    assert_int_equal(plan(w, 0),
                     -EAGAIN); /* what made it a conflict comes first, and may say why */
    theirs_make(w, d, "theirs", THEIRS(1), NODE_REG);
    planned(w, 0);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_XATTR, f, "user.no", REFUSED_INVALID), 0);
    assert_int_equal(effect(w, EFFECT_PARKED)->node, f);
    commit_all(w);
    assert_int_equal(node_at(w, ROOT, "d"), d); /* the rule for it: the directory lives on */
    struct core_ns n = pending(w);
    assert_int_equal(n.parked, 1);
    assert_int_equal(n.pending_nodes, 1);
}

static void test_one_xattr_too_many_is_refused_at_once(void **state)
{
    struct world *w = *state;
    char name[16];
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    for (unsigned i = 0; i < XATTRS_MAX; i++) {
        snprintf(name, sizeof name, "user.%u", i);
        assert_int_equal(set_xattr(w, f, name, "x", 0), 0);
    }
    commit_all(w);
    assert_int_equal(set_xattr(w, f, "user.more", "x", 0), -ENOSPC);
    assert_int_equal(set_xattr(w, f, "user.7", "y", 0), 0);
    assert_int_equal(set_xattr(w, f, "user.9", NULL, 0), 0);
    assert_int_equal(set_xattr(w, f, "user.1more", "x", 0), 0); /* before 9 in any order of names */
    planned(w, f);
    assert_int_equal(w->changes.xattrs_n, 3);
    assert_true(w->changes.xattrs[0].removed); /* the server counts as it goes */
    answer_committed(w);
    assert_clean(w);
}

/* A server that was put back gives numbers again: nothing of a private namespace goes into another
 * one that has its number now. */
static void test_another_namespace_under_a_number_is_not_taken_for_it(void **state)
{
    struct world *w = *state;
    struct m_namespace n = {.id = NS, .name = bytes_str("team"), .root = ROOT, .role = ROLE_EDITOR};
    struct m_session_ans a = {.device = 1,
                              .account = bytes_str("alice"),
                              .namespaces = &n,
                              .namespaces_n = 1,
                              .root_ns = NS};
    struct core_ns known;
    make(w, ROOT, "secret", NODE_REG);
    for (int k = 0; k < 2; k++) {
        assert_true(core_ns_other(w->core, &n));
        assert_int_equal(core_session(w->core, &a, &w->fx), 0);
        assert_int_equal(core_ns_get(w->core, NS, &known), 0);
        assert_false(known.member);
        assert_string_equal(known.name, "home");
        assert_int_equal(known.root, ROOT);
        assert_int_equal(plan(w, 0), 0);
        assert_int_equal(w->changes.entries_n, 0);
        n.name = bytes_str("home"); /* the name may be made again, too */
        n.root = ROOT + 1;
    }
    n.root = ROOT;
    assert_false(core_ns_other(w->core, &n));
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_known_directory_that_is_refused_holds_nothing),
        T(test_a_refused_move_is_one_change),
        T(test_what_waits_for_the_old_name_of_a_refused_move),
        T(test_a_removed_directory_waits_for_what_was_moved_out_of_it),
        T(test_conflicts_beside_a_refusal_are_left_to_the_rebase),
        T(test_one_xattr_too_many_is_refused_at_once),
        T(test_another_namespace_under_a_number_is_not_taken_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
