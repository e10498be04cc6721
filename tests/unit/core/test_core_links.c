// SPDX-License-Identifier: Apache-2.0
/* What concerns one name of a file costs the same whatever the number of its names; what concerns
 * all of them grows with it and no faster. Counted in steps of SQLite's machine, and not in time.
 */
#include "world.h"

#include <sqlite3.h>
#include <string.h>

#include "core_int.h"

#define FEW 3
#define SOME 1000
#define MORE 10000
#define MANY 30000

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

/* What the tree's statements have done since the last call: they stay prepared. */
static uint64_t steps(const struct world *w)
{
    uint64_t n = 0;
    for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(tree_db(w->tree), s)) != NULL;)
        n += (uint64_t)sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 1);
    return n;
}

static void link_one(struct world *w, uint64_t node, const char *name)
{
    struct core_attr a;
    assert_int_equal(core_link(w->core, &w->who, node, ROOT, name_of(name), &a, &w->need), 0);
}

static void names_each(struct world *w, uint64_t node, char c, unsigned n,
                       void (*fn)(struct world *w, uint64_t node, const char *name))
{
    char name[16];
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned i = 1; i < n; i++) {
        snprintf(name, sizeof name, "%c%u", c, i);
        fn(w, node, name);
    }
    assert_int_equal(core_end(w->core, true), 0);
}

/* A file with n names that the server knows, the first one "c0". */
static uint64_t file_of(struct world *w, char c, unsigned n)
{
    char first[] = {c, '0', 0};
    uint64_t f = make(w, ROOT, first, NODE_REG);
    names_each(w, f, c, n, link_one);
    commit_all(w);
    assert_int_equal(attr(w, f).nlink, n);
    return f;
}

static void unlink_one(struct world *w, uint64_t node, const char *name)
{
    (void)node;
    assert_int_equal(remove_name(w, ROOT, name, false), 0);
}

/* Each thing that a file of n names meets, and what it took. */
enum step {
    LINK,
    BARRIER,
    COMMIT,
    UNLINK,
    COMMIT_UNLINK,
    FSYNC,
    THEIRS_LINK,
    THEIRS_UNLINK,
    PATH,
    STEPS
};
static const char *const step_names[STEPS] = {
    "link",  "barrier",        "commit of a link", "unlink", "commit of an unlink",
    "fsync", "another's link", "another's unlink", "path"};

static void theirs_names(struct world *w, uint64_t f, const char *name, bool add)
{
    rec_begin(w);
    struct m_inode *n = rec_known(w, f);
    n->nlink = add ? n->nlink + 1 : n->nlink - 1;
    rec_entry(w, ROOT, name, add ? f : 0, NODE_REG);
    apply(w);
}

static void take_steps(struct world *w, char c, unsigned n, uint64_t took[STEPS])
{
    char more[] = {c, 'm', 0}, one[] = {c, '1', 0}, *path;
    uint64_t f = file_of(w, c, n);
    struct core_barrier b;
#define TOOK(k) (took[k] = steps(w))
    steps(w);
    link_one(w, f, more);
    TOOK(LINK);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    TOOK(BARRIER);
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 1);
    answer_committed(w);
    TOOK(COMMIT);
    unlink_one(w, f, one);
    TOOK(UNLINK);
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 1);
    answer_committed(w);
    TOOK(COMMIT_UNLINK);
    write_block(w, f, 0, 10, 7);
    planned(w, f);
    answer_committed(w);
    TOOK(FSYNC);
    theirs_names(w, f, "theirs", true);
    TOOK(THEIRS_LINK);
    theirs_names(w, f, "theirs", false);
    TOOK(THEIRS_UNLINK);
    assert_int_equal(core_path(w->core, f, &path), 0);
    TOOK(PATH);
    free(path);
    assert_int_equal(attr(w, f).nlink, n);
}

static void test_one_name_costs_the_same(void **state)
{
    struct world *w = *state;
    uint64_t few[STEPS], many[STEPS];
    take_steps(w, 'a', FEW, few);
    take_steps(w, 'b', MANY, many);
    for (size_t k = 0; k < STEPS; k++)
        if (many[k] > few[k] + few[k] / 4)
            fail_msg("%s: %llu steps, %llu of a file with %u names", step_names[k],
                     (unsigned long long)few[k], (unsigned long long)many[k], MANY);
}

/* All names made, told, and removed: what one of them takes. */
enum all { ALL_LINK, ALL_BARRIER, ALL_COMMIT, ALL_UNLINK, ALL_COMMIT_UNLINK, ALLS };
static const char *const all_names[ALLS] = {"links", "barrier", "commit", "unlinks",
                                            "commit of unlinks"};

static void of_each(struct world *w, char c, unsigned n, uint64_t took[ALLS])
{
    char first[] = {c, '0', 0};
    struct core_barrier b;
    steps(w);
    uint64_t f = make(w, ROOT, first, NODE_REG);
    names_each(w, f, c, n, link_one);
    took[ALL_LINK] = steps(w) / n;
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    took[ALL_BARRIER] = steps(w) / n;
    planned(w, f);
    answer_committed(w);
    took[ALL_COMMIT] = steps(w) / n;
    names_each(w, f, c, n, unlink_one);
    unlink_one(w, f, first);
    took[ALL_UNLINK] = steps(w) / n;
    commit_all(w);
    took[ALL_COMMIT_UNLINK] = steps(w) / n;
    assert_no_node(w, f);
}

static void test_all_names_cost_their_number(void **state)
{
    struct world *w = *state;
    uint64_t some[ALLS], many[ALLS];
    of_each(w, 'a', SOME, some);
    of_each(w, 'b', MORE, many);
    for (size_t k = 0; k < ALLS; k++)
        if (many[k] > some[k] + some[k] / 4 + 1)
            fail_msg("%s: %llu steps for each of %u names, %llu for each of %u", all_names[k],
                     (unsigned long long)some[k], SOME, (unsigned long long)many[k], MORE);
}

/* Names of one file go together. Where one of them cannot, as its directory was refused, looking
 * for something to send in the background does not take up all of them again for each. */
static uint64_t stuck(struct world *w, char c, unsigned n)
{
    char dir[] = {c, 'd', 0};
    struct core_attr a;
    uint64_t f = file_of(w, c, FEW), d = make(w, ROOT, dir, NODE_DIR);
    assert_int_equal(core_begin(w->core), 0);
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "%cs%u", c, i);
        link_one(w, f, name);
    }
    assert_int_equal(core_end(w->core, true), 0);
    assert_int_equal(core_link(w->core, &w->who, f, d, name_of("x"), &a, &w->need), 0);
    assert_int_equal(sqlite3_exec(tree_db(w->tree),
                                  "UPDATE node SET parked = -122 WHERE type = 2 AND pend != 0"
                                  " AND id != 1",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(plan(w, 0), 0); /* the rest */
    if (w->plan.rows)
        answer_committed(w);
    steps(w);
    assert_int_equal(plan(w, 0), 0);
    assert_int_equal(w->plan.rows, 0);
    return steps(w) / n;
}

static void test_names_that_cannot_go_are_tried_once(void **state)
{
    struct world *w = *state;
    uint64_t some = stuck(w, 'a', 100);
    world_free(w);
    *state = w = world_new(true);
    assert_in_range(stuck(w, 'b', SOME), 0, some + some / 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_one_name_costs_the_same),
        T(test_all_names_cost_their_number),
        T(test_names_that_cannot_go_are_tried_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
