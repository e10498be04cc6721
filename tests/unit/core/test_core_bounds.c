// SPDX-License-Identifier: Apache-2.0
/* What one commit holds at most, and that nothing refused or large holds the rest back. */
#include "world.h"

#include <errno.h>
#include <linux/fs.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core_int.h"
#include "tree.h"

#define DEPTH 9       /* greatest, in a test of it */
#define PUNCHES 60500 /* more than one commit takes */
#define COPIES 10000  /* of one name and date */
#define REFUSED 4100  /* more than one background batch looks at */

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

static void test_many_ranges_go_in_several_commits(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    assert_int_equal(core_truncate(w->core, &w->who, f, 4 * PUNCHES, &w->need), 0);
    commit_all(w);
    assert_int_equal(core_begin(w->core), 0);
    for (uint64_t i = 0; i < PUNCHES; i++)
        assert_int_equal(core_write(w->core, &w->who, f, 4 * i, 2, NULL, false), 0);
    assert_int_equal(core_end(w->core, true), 0);
    planned(w, f);
    assert_true(w->plan.partial);
    size_t first = sent_node(w, f)->ranges_n;
    assert_in_range(first, 1, 60000);
    answer_committed(w);
    planned(w, f);
    assert_false(w->plan.partial);
    assert_int_equal(first + sent_node(w, f)->ranges_n, PUNCHES);
    answer_committed(w);
    assert_clean(w);
}

static void test_refused_names_do_not_starve_a_removal(void **state)
{
    struct world *w = *state;
    char name[16];
    uint64_t old = make(w, ROOT, "old", NODE_REG);
    commit_all(w);
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned i = 0; i < REFUSED; i++) {
        snprintf(name, sizeof name, "n%u", i);
        make(w, ROOT, name, NODE_FIFO);
    }
    assert_int_equal(core_end(w->core, true), 0);
    assert_int_equal(sqlite3_exec(tree_db(w->tree), "UPDATE node SET parked = -122 WHERE type = 4",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(remove_name(w, ROOT, "old", false), 0);
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "old", old, 0));
}

/* Each namespace's place in what cannot go is its own. */
static void test_namespaces_do_not_starve_each_other(void **state)
{
    enum { OTHERS = 64 };
    struct world *w = *state;
    struct m_namespace all[1 + OTHERS] = {
        {.id = NS, .name = bytes_str("home"), .root = ROOT, .role = ROLE_EDITOR}};
    struct m_session_ans a = {.device = 1,
                              .account = bytes_str("alice"),
                              .namespaces = all,
                              .namespaces_n = 1 + OTHERS,
                              .root_ns = NS};
    char name[16];
    for (uint64_t i = 1; i <= OTHERS; i++)
        all[i] = (struct m_namespace){
            .id = NS + i, .name = bytes_str("team"), .root = ROOT + i, .role = ROLE_EDITOR};
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    uint64_t old = make(w, ROOT, "old", NODE_REG);
    commit_all(w);
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned i = 0; i < REFUSED; i++) {
        snprintf(name, sizeof name, "n%u", i);
        make(w, d, name, NODE_FIFO);
    }
    assert_int_equal(core_end(w->core, true), 0);
    char *sql = sqlite3_mprintf("UPDATE node SET parked = -122 WHERE id = %lld", (long long)d);
    assert_int_equal(sqlite3_exec(tree_db(w->tree), sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(sql);
    w->who.now += 1000;
    assert_int_equal(remove_name(w, ROOT, "old", false), 0);
    bool found = false;
    for (unsigned round = 0; round < 4 && !found; round++) {
        assert_int_equal(plan(w, 0), 0);
        found = sent_entry(w, ROOT, "old", old, 0);
        for (uint64_t i = 1; i <= OTHERS; i++) { /* they are looked at in between */
            struct core_plan p = {0};
            (void)core_plan(w->core, NS + i, NULL, 0, INT64_MAX, &p, &w->need);
            core_plan_free(&p);
        }
    }
    assert_true(found);
}

static void test_large_xattrs_bound_a_background_commit(void **state)
{
    struct world *w = *state;
    char name[16];
    char *value = calloc(1, 60001);
    assert_non_null(value);
    memset(value, 'x', 60000);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(set_xattr(w, make(w, ROOT, name, NODE_REG), "user.large", value, 0), 0);
    }
    planned(w, 0);
    assert_in_range(w->plan.changes.n, 1, 2u << 20);
    answer_committed(w);
    planned(w, ROOT); /* an fsync of the directory takes more, but not without end */
    assert_in_range(w->plan.changes.n, 1, 9u << 20);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    free(value);
}

static long most_memory(void)
{
    struct rusage r;
    assert_int_equal(getrusage(RUSAGE_SELF, &r), 0);
    return r.ru_maxrss; /* KiB */
}

/* As where a directory's default access list is inherited. */
static void test_memory_of_a_commit_follows_its_xattrs(void **state)
{
    enum { FILES = 4000 };
    struct world *w = *state;
    char name[16];
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    commit_all(w);
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(set_xattr(w, make(w, d, name, NODE_REG), "user.a", "v", 0), 0);
    }
    assert_int_equal(core_end(w->core, true), 0);
    long before = most_memory();
    planned(w, d);
    assert_in_range(rows(w), 2 * FILES, 4 * FILES);
    assert_in_range(most_memory() - before, 0, 64 << 10);
}

/* Rows that all statements so far have read without an index. */
static int rows_scanned(struct world *w)
{
    int n = 0;
    sqlite3_stmt *st = NULL;
    while ((st = sqlite3_next_stmt(tree_db(w->tree), st)))
        n += sqlite3_stmt_status(st, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0);
    return n;
}

/* What one save and its commit scan, and what is looked at after it. */
static int scanned_by_a_save(struct world *w, const char *name)
{
    struct core_ns n;
    int before = rows_scanned(w);
    uint64_t f = make(w, ROOT, name, NODE_REG);
    planned(w, f);
    assert_int_equal(core_ns_pending(w->core, NS, &n), 0);
    answer_committed(w);
    assert_int_equal(core_ns_pending(w->core, NS, &n), 0);
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    return rows_scanned(w) - before;
}

static void test_a_save_costs_the_same_in_a_large_tree(void **state)
{
    struct world *w = *state;
    char name[16];
    commit_all(w);
    scanned_by_a_save(w, "first");
    int small = scanned_by_a_save(w, "second");
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "n%u", i);
        make(w, ROOT, name, NODE_REG);
    }
    commit_all(w);
    assert_int_equal(scanned_by_a_save(w, "third"), small);
}

/* Steps of SQLite's machine in all statements of connections opened since it was asked for: what a
 * start costs, whoever runs it. */
static uint64_t steps;

static int count_steps(unsigned type, void *ctx, void *stmt, void *ns)
{
    (void)type;
    (void)ctx;
    (void)ns;
    steps += (uint64_t)sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_VM_STEP, 1);
    return 0;
}

static int count_steps_of(sqlite3 *db, char **msg, const struct sqlite3_api_routines *api)
{
    (void)msg;
    (void)api;
    return sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, count_steps, NULL);
}

static uint64_t steps_of_a_start(struct world *w, enum world_end how)
{
    if (how != END_CLEAN)
        world_session(w, w->head, ROLE_EDITOR); /* or the start before was unclean, too */
    steps = 0;
    world_restart(w, how);
    return steps;
}

/* Of the same changes that are pending or under way, after everything else that is known. */
static void test_a_start_costs_what_is_pending(void **state)
{
    struct world *w = *state;
    char name[16];
    uint64_t cost[2][2];
    assert_int_equal(sqlite3_auto_extension((void (*)(void))count_steps_of), SQLITE_OK);
    world_restart(w, END_CLEAN); /* the end that a start follows counts too */
    make(w, ROOT, "sent", NODE_REG);
    assert_int_equal(set_xattr(w, node_at(w, ROOT, "sent"), "user.x", "y", 0), 0);
    write_block(w, node_at(w, ROOT, "sent"), 0, 10, 1);
    for (int large = 0; large < 2; large++) {
        for (unsigned i = 0; large && i < 500; i++) {
            snprintf(name, sizeof name, "n%u", i);
            uint64_t f = make(w, ROOT, name, NODE_REG);
            write_block(w, f, 0, 10, 2 + i);
            assert_int_equal(set_xattr(w, f, "user.x", "y", 0), 0);
        }
        commit_all(w);
        write_block(w, node_at(w, ROOT, "sent"), 0, 10, 10000);
        planned(w, node_at(w, ROOT, "sent"));
        uint64_t f = make(w, ROOT, large ? "large" : "small", NODE_REG);
        write_block(w, f, 0, 10, 10001);
        assert_int_equal(set_xattr(w, f, "user.x", "y", 0), 0);
        cost[large][0] = steps_of_a_start(w, END_CLEAN);
        cost[large][1] = steps_of_a_start(w, END_KILL);
        world_session(w, w->head, ROLE_EDITOR);
        struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = ++w->head, .head = w->head};
        assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
    }
    sqlite3_reset_auto_extension();
    assert_true(cost[0][0] > 0 && cost[0][1] > cost[0][0]);
    assert_int_equal(cost[1][0], cost[0][0]);
    assert_int_equal(cost[1][1], cost[0][1]);
}

/* What every fsync of a directory, and the driver when it has nothing to plan, ask; rests: whether
 * more is left than what is parked. */
static uint64_t steps_of_a_look(struct world *w, uint64_t dir, bool rests)
{
    struct core_barrier b;
    bool any;
    steps = 0;
    assert_int_equal(core_barrier(w->core, dir, &b), 0);
    assert_true(b.dirty);
    assert_int_equal(core_ns_rests(w->core, NS, &any), 0);
    assert_int_equal(any, rests);
    return steps;
}

static void test_a_look_at_what_is_pending_costs_the_same(void **state)
{
    struct world *w = *state;
    char name[16];
    uint64_t cost[2], parked[2];
    assert_int_equal(sqlite3_auto_extension((void (*)(void))count_steps_of), SQLITE_OK);
    world_restart(w, END_CLEAN);
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    commit_all(w);
    for (int large = 0; large < 2; large++) {
        for (unsigned i = 0; i < (large ? 2000 : 20); i++) {
            snprintf(name, sizeof name, "%d.%u", large, i);
            make(w, d, name, NODE_REG);
        }
        cost[large] = steps_of_a_look(w, d, true);
    }
    /* when nothing but a refused one is left, that is known from it alone */
    commit_all(w);
    uint64_t f = make(w, d, "refused", NODE_REG);
    planned(w, f);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE, f, NULL, REFUSED_QUOTA), 0);
    commit_all(w);
    parked[0] = steps_of_a_look(w, d, false);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "2.%u", i);
        make(w, d, name, NODE_REG);
    }
    parked[1] = steps_of_a_look(w, d, true);
    sqlite3_reset_auto_extension();
    assert_true(cost[0] > 0 && parked[0] > 0);
    assert_in_range(cost[1], 1, cost[0] + 10);
    assert_in_range(parked[1], 1, parked[0] + 100);
}

/* One commit is durable and waits for the journal only; another is unanswered. */
static void test_fsync_waits_for_the_unanswered_one(void **state)
{
    struct world *w = *state;
    struct core_barrier b;
    make(w, ROOT, "hi", NODE_REG);
    uint64_t gone = make(w, ROOT, "gone", NODE_REG);
    (void)gone;
    commit_all(w);
    make(w, ROOT, "new", NODE_REG);
    planned(w, node_at(w, ROOT, "new"));
    struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = w->head + 5, .head = w->head + 5};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
    assert_int_equal(remove_name(w, ROOT, "hi", false), 0);
    planned(w, ROOT);
    uint64_t open = w->plan.request;
    assert_int_equal(core_barrier(w->core, ROOT, &b), 0);
    assert_int_equal(b.request, open);
}

static void copy_put(struct world *w, unsigned number)
{
    sqlite3_stmt *s;
    char name[128];
    int n = number > 1
                ? snprintf(name, sizeof name, "f (conflicted copy, mine, 2023-11-14 %u)", number)
                : snprintf(name, sizeof name, "f (conflicted copy, mine, 2023-11-14)");
    assert_int_equal(sqlite3_prepare_v2(tree_db(w->tree),
                                        "INSERT INTO entry(ns, parent, name, node, type, base_node,"
                                        " base_type, base_rev, pend, old, request, sent_node,"
                                        " sent_base, since) VALUES(7, 1, ?1, ?2, 1, ?2, 1, 1, 0, 0,"
                                        " 0, 0, 0, 0)",
                                        -1, &s, NULL),
                     SQLITE_OK);
    sqlite3_bind_blob(s, 1, name, n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (int64_t)THEIRS(1000 + number));
    assert_int_equal(sqlite3_step(s), SQLITE_DONE);
    sqlite3_finalize(s);
}

static void test_copies_of_one_name_and_date_have_no_end(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned k = 1; k <= COPIES; k++)
        copy_put(w, k);
    assert_int_equal(core_end(w->core, true), 0);
    for (int round = 0; round < 2; round++) {
        write_block(w, f, 0, 10, 1 + (unsigned)round);
        theirs_write(w, f, 20, 0, 20, 10 + (unsigned)round); /* a record that is refused stays */
        const struct core_effect *fork = effect(w, EFFECT_FORK);
        assert_non_null(fork);
        uint64_t copy = fork->other;
        cleanup_ids struct ids names = {0};
        assert_int_equal(entry_ids(w->core, BY_NODE, copy, &names), 0);
        assert_int_equal(names.n, 1);
        commit_all(w);
    }
}

static void test_one_transaction_makes_more_nodes_than_a_range(void **state)
{
    struct world *w = *state;
    commit_all(w);
    assert_int_equal(core_begin(w->core), 0);
    w->core->node_next = w->core->node_limit - 1;
    uint64_t last = make(w, ROOT, "last", NODE_REG), next = make(w, ROOT, "next", NODE_REG);
    assert_int_equal(core_end(w->core, true), 0);
    assert_true(next == last + 1);
    planned(w, next); /* it is sent: never may another one have its number */
    world_restart(w, END_POWER);
    world_session(w, w->head, ROLE_EDITOR);
    assert_true(make(w, ROOT, "other", NODE_REG) > next);
}

/* … and one that is rolled back after that leaves no number that is not reserved. */
static void test_a_range_begun_in_vain_is_not_used(void **state)
{
    struct world *w = *state;
    commit_all(w);
    assert_int_equal(core_begin(w->core), 0);
    w->core->node_next = w->core->node_limit;
    make(w, ROOT, "vain", NODE_REG);
    assert_int_equal(core_end(w->core, false), 0);
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    world_restart(w, END_POWER);
    world_session(w, w->head, ROLE_EDITOR);
    assert_true(make(w, ROOT, "other", NODE_REG) > f);
}

static void session_of(struct world *w, uint64_t epoch)
{
    struct m_namespace n = {.id = NS, .name = bytes_str("home"), .root = ROOT, .head = w->head};
    struct m_session_ans a = {.device = 1,
                              .account = bytes_str("alice"),
                              .namespaces = &n,
                              .namespaces_n = 1,
                              .root_ns = NS,
                              .epoch = epoch};
    n.role = ROLE_EDITOR;
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
}

/* The server and this device were put back to one backup: ids given since then are others' now. */
static void test_ids_go_on_far_above_when_the_server_was_put_back(void **state)
{
    struct world *w = *state;
    char name[16];
    uint64_t last = make(w, ROOT, "f", NODE_REG);
    for (uint64_t epoch = 5; epoch < 8; epoch++) {
        for (int again = 0; again < 2; again++) { /* the next session tells it again */
            session_of(w, epoch);
            snprintf(name, sizeof name, "%u.%d", (unsigned)epoch, again);
            uint64_t f = make(w, ROOT, name, NODE_REG);
            assert_true(again ? f == last + 1 : f >= last + NODE_EPOCH);
            last = f;
        }
        session_of(w, 0); /* nothing is told */
    }
    world_restart(w, END_POWER);
    session_of(w, 7);
    uint64_t f = make(w, ROOT, "after", NODE_REG);
    assert_true(f > last && f < last + NODE_EPOCH);
}

/* What the server would refuse is told to who does it. */
static void test_directories_at_their_greatest_depth(void **state)
{
    struct world *w = *state;
    uint64_t deep = ROOT, above = ROOT, node;
    w->bounds.depth = DEPTH;
    world_restart(w, END_CLEAN);
    for (unsigned i = 0; i < DEPTH; i++) {
        above = deep;
        deep = make(w, above, "d", NODE_DIR);
    }
    assert_int_equal(try_make(w, deep, "d", NODE_DIR, &node), -ENAMETOOLONG);
    make(w, deep, "f", NODE_REG);
    make(w, ROOT, "e", NODE_DIR);
    make(w, ROOT, "g", NODE_REG);
    assert_int_equal(rename_to(w, ROOT, "e", deep, "e", 0), -ENAMETOOLONG);
    assert_int_equal(rename_to(w, deep, "f", ROOT, "e", RENAME_EXCHANGE), -ENAMETOOLONG);
    assert_int_equal(rename_to(w, ROOT, "e", deep, "f", RENAME_EXCHANGE), -ENAMETOOLONG);
    assert_int_equal(rename_to(w, ROOT, "e", above, "e", 0), 0);
    assert_int_equal(rename_to(w, above, "e", above, "h", 0), 0);
    assert_int_equal(rename_to(w, ROOT, "g", deep, "g", 0), 0);
    assert_names(w, deep, "f g");
    assert_names(w, above, "d h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_ranges_go_in_several_commits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_names_do_not_starve_a_removal, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_namespaces_do_not_starve_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_xattrs_bound_a_background_commit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_memory_of_a_commit_follows_its_xattrs, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_save_costs_the_same_in_a_large_tree, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_start_costs_what_is_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_look_at_what_is_pending_costs_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_fsync_waits_for_the_unanswered_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copies_of_one_name_and_date_have_no_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_one_transaction_makes_more_nodes_than_a_range, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_range_begun_in_vain_is_not_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directories_at_their_greatest_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_go_on_far_above_when_the_server_was_put_back,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
