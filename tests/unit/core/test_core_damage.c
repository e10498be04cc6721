// SPDX-License-Identifier: Apache-2.0
/* Values in the tree that make no sense, though SQLite reads them: what they belong to stops, or is
 * sent anew, and the rest goes on. */
#include "world.h"

#include <errno.h>
#include <sqlite3.h>
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

static void sql(struct world *w, const char *text)
{
    assert_int_equal(sqlite3_exec(tree_db(w->tree), text, NULL, NULL, NULL), SQLITE_OK);
}

/* f is sent, and what was sent is damaged. Returns the request. */
static uint64_t sent_damaged(struct world *w, uint64_t *f)
{
    *f = make(w, ROOT, "f", NODE_REG);
    write_block(w, *f, 0, 10, 1);
    planned(w, *f);
    sql(w, "UPDATE sent SET changes = x'ff' || substr(changes, 2)");
    return w->plan.request;
}

static void its_record(struct world *w, uint64_t f, uint64_t request)
{
    rec_begin(w);
    rec_own(w, request);
    rec_known(w, f);
    rec_content(w, 10, 0, 10, 1);
    rec_entry(w, ROOT, "f", f, NODE_REG);
    apply(w);
}

static void test_it_is_planned_anew_after_a_start(void **state)
{
    struct world *w = *state;
    uint64_t f, request = sent_damaged(w, &f);
    struct core_plan p = {0};
    world_restart(w, END_KILL);
    world_session(w, w->head, ROLE_EDITOR);
    assert_int_equal(core_resend(w->core, NS, 0, &p), -ENOENT);
    assert_true(tree_damaged(w->tree)); /* the next start looks at everything */
    planned(w, f);
    assert_true(w->plan.request > request);
    assert_true(sent_entry(w, ROOT, "f", 0, f));
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    assert_content(w, f, "0+10=1@0");
}

static void test_others_are_sent_again(void **state)
{
    struct world *w = *state;
    struct core_plan p = {0};
    uint64_t f, g = make(w, ROOT, "g", NODE_REG);
    sent_damaged(w, &f);
    planned(w, g);
    uint64_t other = w->plan.request;
    world_restart(w, END_KILL);
    world_session(w, w->head, ROLE_EDITOR);
    assert_int_equal(core_resend(w->core, NS, 0, &p), 0);
    assert_int_equal(p.request, other);
    core_plan_free(&p);
}

static void test_its_record_settles_it(void **state)
{
    struct world *w = *state;
    uint64_t f, request = sent_damaged(w, &f);
    its_record(w, f, request);
    const struct core_effect *e = effect(w, EFFECT_DONE); /* somebody waits for it */
    assert_non_null(e);
    assert_int_equal(e->other, request);
    assert_int_equal(e->status, COMMIT_COMMITTED);
    commit_all(w);
    assert_clean(w);
    assert_null(effect(w, EFFECT_FORK));
    assert_content(w, f, "0+10=1@0");
}

static void test_its_answer_settles_it(void **state)
{
    struct world *w = *state;
    uint64_t f, request = sent_damaged(w, &f);
    struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = w->head + 1, .head = w->head + 1};
    assert_int_equal(core_commit_answer(w->core, NS, request, &a, &w->fx), 0);
    assert_non_null(effect(w, EFFECT_DONE));
    assert_int_equal(plan(w, 0), -EAGAIN); /* what it did is in the journal */
    its_record(w, f, request);
    commit_all(w);
    assert_clean(w);
    assert_content(w, f, "0+10=1@0");
}

/* … and what others did to the name meanwhile is met. */
static void test_a_refused_one_meets_what_others_did(void **state)
{
    struct world *w = *state;
    uint64_t f;
    sent_damaged(w, &f);
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "f", REFUSED_BASE), 0);
    commit_all(w);
    assert_clean(w);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(1));
    assert_int_equal(attr(w, f).nlink, 1); /* beside it */
}

static void test_a_damaged_extent_stops_its_file(void **state)
{
    struct world *w = *state;
    struct core_barrier b;
    uint64_t f = make(w, ROOT, "f", NODE_REG), g = make(w, ROOT, "g", NODE_REG);
    commit_all(w);
    write_block(w, f, 0, 10, 1);
    write_block(w, g, 0, 10, 2);
    sql(w, "UPDATE extent SET block = substr(block, 1, 20) WHERE node IN"
           " (SELECT node FROM entry WHERE name = CAST('f' AS BLOB))");
    assert_int_equal(plan(w, f), -EIO);
    planned(w, 0);
    assert_non_null(sent_node(w, g));
    assert_null(sent_node(w, f));
    answer_committed(w);
    assert_true(tree_damaged(w->tree));
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_int_equal(b.parked, -EIO); /* and named in the status */
    assert_int_equal(plan(w, 0), 0);
    assert_int_equal(w->plan.rows, 0);
    assert_int_equal(core_truncate(w->core, &w->who, f, 0, &w->need), -EUCLEAN);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    commit_all(w);
    assert_clean(w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_it_is_planned_anew_after_a_start),
        T(test_others_are_sent_again),
        T(test_its_record_settles_it),
        T(test_its_answer_settles_it),
        T(test_a_refused_one_meets_what_others_did),
        T(test_a_damaged_extent_stops_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
