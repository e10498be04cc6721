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

/* A commit of a file of one block; a receipt of that generation. */
static struct m_commit_ans commit_with(struct world *w, const struct block_id *b, const char *name,
                                       uint64_t generation)
{
    struct plan p;
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    struct m_receipt r = world_receipt(w, w->alice.ns, b, 100, HQ);
    r.generation = generation;
    plan_range(&p, plan_create(&p, node, NODE_REG), 0, 100, b, 0);
    plan_entry(&p, w->alice.root, name, 0, 0, node);
    plan_id(&p, b, 100);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    plan_free(&p);
    return a;
}

static void lose(struct world *w, int s, const struct block_id *b, uint64_t generation)
{
    struct m_lost lost = {.ns = w->alice.ns, .block = *b, .generation = generation};
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                           .url = bytes_str("https://localhost:1"),
                           .lost = &lost,
                           .lost_n = 1};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
}

static uint64_t stored(struct world *w, int s, const struct block_id *b, uint64_t generation)
{
    struct m_stored one = {.ns = w->alice.ns, .block = *b, .len = 100, .generation = generation};
    struct m_stored_req q = {
        .incarnation = bytes_of(w->incarnation[s], 16), .blocks = &one, .blocks_n = 1};
    struct m_stored_ans a;
    assert_int_equal(meta_stored(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a.recorded;
}

static size_t holders(struct world *w, const struct block_id *b)
{
    struct m_locate_req q = {.ns = w->alice.ns, .ids = (struct block_id *)(uintptr_t)b, .ids_n = 1};
    struct m_locate_ans a;
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    return a.locations[0].servers_n;
}

/* A receipt from before the loss comes after the loss is known: it proves nothing. */
static void a_receipt_does_not_outlive_a_loss(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    lose(w, HQ, &b, 6);
    struct m_commit_ans a = commit_with(w, &b, "a", 5);
    assert_int_equal(a.status, COMMIT_MISSING);
    assert_int_equal(a.missing_n, 1);
    assert_int_equal(holders(w, &b), 0);
    a = commit_with(w, &b, "a", 6); /* put again since */
    expect_committed(a);
    assert_int_equal(holders(w, &b), 1);
    world_reopen(w);
    lose(w, HQ, &b, 9);
    a = commit_with(w, &b, "b", 8);
    assert_int_equal(a.status, COMMIT_MISSING);
    a = commit_with(w, &b, "b", 9);
    expect_committed(a);
}

/* The other way round: the report of a loss comes after the commit that is of a put since. */
static void a_loss_does_not_take_what_was_put_since(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "a", 5));
    expect_committed(commit_with(w, &b, "b", 7)); /* present by then, but of a later put */
    lose(w, HQ, &b, 6);
    assert_int_equal(holders(w, &b), 1);
    lose(w, HQ, &b, 8);
    assert_int_equal(holders(w, &b), 0);
    lose(w, HQ, &b, 6); /* repeated, late: the later one stays */
    assert_int_equal(commit_with(w, &b, "c", 7).status, COMMIT_MISSING);
}

/* A loss concerns one server and one namespace. */
static void a_loss_is_of_one_server(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), other = world_block(w);
    lose(w, CLOUD, &b, 6);
    expect_committed(commit_with(w, &b, "a", 5));
    lose(w, HQ, &other, 6);
    assert_int_equal(holders(w, &b), 1);
}

static void nor_does_a_report(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "a", 1));
    assert_int_equal(stored(w, CLOUD, &b, 4), 1);
    lose(w, CLOUD, &b, 5);
    assert_int_equal(holders(w, &b), 1);
    assert_int_equal(stored(w, CLOUD, &b, 4), 0);
    assert_int_equal(holders(w, &b), 1);
    assert_int_equal(stored(w, CLOUD, &b, 5), 1);
    assert_int_equal(holders(w, &b), 2);
}

/* A block server of before tells no generation. */
static void an_older_block_server_is_understood(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "a", 0));
    assert_int_equal(holders(w, &b), 1);
    lose(w, HQ, &b, 0);
    assert_int_equal(holders(w, &b), 0);
    expect_committed(commit_with(w, &b, "b", 0));
    assert_int_equal(holders(w, &b), 1);
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
