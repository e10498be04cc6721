// SPDX-License-Identifier: Apache-2.0
/* Proofs that a block is at a block server, and what makes them void: in every order. */
#include "world.h"

#include "2.sql.h"
#include "3.sql.h"
#include "4.sql.h"
#include "schema.sql.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A receipt from before the loss comes after the loss is known: it proves nothing. */
static void a_receipt_does_not_outlive_a_loss(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    world_lose(w, HQ, &b, 6);
    struct m_commit_ans a = world_commit_with(w, &b, "a", HQ, 5);
    assert_int_equal(a.status, COMMIT_MISSING);
    assert_int_equal(a.missing_n, 1);
    assert_int_equal(world_holders(w, &b), 0);
    a = world_commit_with(w, &b, "a", HQ, 6); /* put again since */
    expect_committed(a);
    assert_int_equal(world_holders(w, &b), 1);
    world_reopen(w);
    world_lose(w, HQ, &b, 9);
    a = world_commit_with(w, &b, "b", HQ, 8);
    assert_int_equal(a.status, COMMIT_MISSING);
    a = world_commit_with(w, &b, "b", HQ, 9);
    expect_committed(a);
}

/* The other way round: the report of a loss comes after the commit that is of a put since. */
static void a_loss_does_not_take_what_was_put_since(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    expect_committed(
        world_commit_with(w, &b, "b", HQ, 7)); /* present by then, but of a later put */
    world_lose(w, HQ, &b, 6);
    assert_int_equal(world_holders(w, &b), 1);
    world_lose(w, HQ, &b, 8);
    assert_int_equal(world_holders(w, &b), 0);
    world_lose(w, HQ, &b, 6); /* repeated, late: the later one stays */
    assert_int_equal(world_commit_with(w, &b, "c", HQ, 7).status, COMMIT_MISSING);
}

/* A loss concerns one server and one namespace. */
static void a_loss_is_of_one_server(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), other = world_block(w);
    world_lose(w, CLOUD, &b, 6);
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    world_lose(w, HQ, &other, 6);
    assert_int_equal(world_holders(w, &b), 1);
}

static void nor_does_a_report(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(world_commit_with(w, &b, "a", HQ, 1));
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 4), 1);
    world_lose(w, CLOUD, &b, 5);
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 4), 0);
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 5), 1);
    assert_int_equal(world_holders(w, &b), 2);
}

/* A block server of before tells no generation. */
static void an_older_block_server_is_understood(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(world_commit_with(w, &b, "a", HQ, 0));
    assert_int_equal(world_holders(w, &b), 1);
    world_lose(w, HQ, &b, 0);
    assert_int_equal(world_holders(w, &b), 0);
    expect_committed(world_commit_with(w, &b, "b", HQ, 0));
    assert_int_equal(world_holders(w, &b), 1);
}

static void a_database_of_version_4_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {{1, sql_schema}, {2, sql_2}, {3, sql_3}, {4, sql_4}};
    char path[128];
    sqlite3 *db;
    struct meta *m;
    struct holder_row h[CANDIDATES_MAX];
    struct block_id b = {{0}};
    size_t n;
    uint64_t least;
    enum gone_state due;
    bool left;
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 4, false, w->why), 0);
    assert_int_equal(
        sqlite3_exec(db, "INSERT INTO presence VALUES (1, zeroblob(33), 1, 3)", NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(meta_open(&m, &(struct meta_options){.path = path}, w->why), 0);
    assert_int_equal(meta_change_begin(m), 0);
    assert_int_equal(m->st->ops->holders(m->st, 1, &b, h, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(h[0].generation, 3);
    assert_int_equal(m->st->ops->gone_get(m->st, 1, &b, 1, &least, &due), 0);
    assert_int_equal(least, 0);
    assert_int_equal(m->st->ops->presence_drop(m->st, 1, &b, 1, 1, &left), 0);
    assert_false(left); /* of before generations: the oldest there is */
    assert_int_equal(meta_change_end(m, 0), 0);
    meta_close(m);
    for (size_t k = 0; k < 3; k++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", path, k == 0 ? "" : k == 1 ? "-wal" : "-shm");
        remove(name);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_receipt_does_not_outlive_a_loss),
        TEST(a_loss_does_not_take_what_was_put_since),
        TEST(a_loss_is_of_one_server),
        TEST(nor_does_a_report),
        TEST(an_older_block_server_is_understood),
        TEST(a_database_of_version_4_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
