// SPDX-License-Identifier: Apache-2.0
/* Storages that were set back, copied, swapped: in every order of messages. */
#include "world.h"

#include "2.sql.h"
#include "3.sql.h"
#include "4.sql.h"
#include "5.sql.h"
#include "6.sql.h"
#include "7.sql.h"
#include "8.sql.h"
#include "9.sql.h"
#include "schema.sql.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A process on a storage of the server at hq. */
struct process {
    uint8_t incarnation[16];
    uint64_t run, found;
};

static struct process process(uint8_t incarnation, uint64_t run, uint64_t found)
{
    struct process p = {.run = run, .found = found};
    memset(p.incarnation, incarnation, sizeof p.incarnation);
    return p;
}

enum { GOOD, RENEW, SUPERSEDED };

static int try_beat(struct world *w, const struct process *p, struct m_beat_ans *a)
{
    struct m_beat_req q = {.incarnation = bytes_of(p->incarnation, 16),
                           .url = bytes_str("https://localhost:1"),
                           .run = p->run,
                           .found = p->found};
    return meta_beat(w->m, &w->server_who[HQ], &q, w->now, a, &w->ar, w->why);
}

static int beat(struct world *w, const struct process *p)
{
    struct m_beat_ans a;
    assert_int_equal(try_beat(w, p, &a), 0);
    assert_true(a.now_ms > 0);
    assert_false(a.renew && a.superseded);
    return a.superseded ? SUPERSEDED : a.renew ? RENEW : GOOD;
}

static struct m_commit_ans commit_with(struct world *w, const struct process *p,
                                       const struct block_id *b, const char *name,
                                       uint64_t generation)
{
    struct plan plan;
    plan_new(w, &w->alice, &plan);
    uint64_t node = world_node_id(&w->alice);
    struct m_receipt r = world_receipt(w, w->alice.ns, b, 100, HQ);
    plan_range(&plan, plan_create(&plan, node, NODE_REG), 0, 100, b, 0);
    plan_entry(&plan, w->alice.root, name, 0, 0, node);
    plan_id(&plan, b, 100);
    if (p) {
        r.generation = generation;
        r.incarnation = bytes_of(p->incarnation, 16);
        r.run = p->run;
        plan_receipt(w, &plan, &r, &w->key[HQ]);
    }
    struct m_commit_ans a = world_commit(w, &w->alice, &plan);
    plan_free(&plan);
    return a;
}

static int stored(struct world *w, const struct process *p, const struct block_id *b,
                  uint64_t generation)
{
    struct m_stored one = {.ns = w->alice.ns, .block = *b, .len = 100, .generation = generation};
    struct m_stored_req q = {
        .incarnation = bytes_of(p->incarnation, 16), .run = p->run, .blocks = &one, .blocks_n = 1};
    struct m_stored_ans a;
    int r = meta_stored(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why);
    return r ? r : (int)a.recorded;
}

static size_t holders(struct world *w, const struct block_id *b)
{
    struct m_locate_req q = {.ns = w->alice.ns, .ids = (struct block_id *)(uintptr_t)b, .ids_n = 1};
    struct m_locate_ans a;
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    return a.locations[0].servers_n;
}

/* A process from its first start on, with a block that was committed; its generation is 15. */
static struct process with_block(struct world *w, struct block_id *b)
{
    struct process p = process('A' + HQ, 101, 10);
    *b = world_block(w);
    assert_int_equal(beat(w, &p), GOOD);
    expect_committed(commit_with(w, &p, b, "first", 15));
    assert_int_equal(holders(w, b), 1);
    return p;
}

static void a_restart_keeps_everything(void **state)
{
    struct world *w = *state;
    struct block_id b, other = world_block(w);
    struct process before = with_block(w, &b), after = process('A' + HQ, 102, 17);
    assert_int_equal(beat(w, &before), GOOD);
    assert_int_equal(beat(w, &after), GOOD);
    assert_int_equal(beat(w, &after), GOOD);
    world_reopen(w);
    assert_int_equal(beat(w, &after), GOOD);
    assert_int_equal(holders(w, &b), 1);
    expect_committed(commit_with(w, NULL, &b, "again", 0));
    /* a receipt that was given before the restart, and one that was given since */
    expect_committed(commit_with(w, &before, &other, "second", 17));
    struct block_id third = world_block(w);
    expect_committed(commit_with(w, &after, &third, "third", 18));
    /* it has heard of nothing between the two: the last proof is the most there is to find */
    struct process later = process('A' + HQ, 103, 18);
    assert_int_equal(beat(w, &later), GOOD);
    assert_int_equal(holders(w, &third), 1);
}

/* A disk from a backup, or a snapshot that was taken while the server ran. */
static void what_was_put_since_a_backup_is_void(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process before = with_block(w, &b), back = process('A' + HQ, 102, 14);
    assert_int_equal(beat(w, &back), RENEW);
    assert_int_equal(holders(w, &b), 0);
    assert_int_equal(commit_with(w, NULL, &b, "again", 0).status, COMMIT_MISSING);
    /* nothing counts before it has another incarnation: neither old nor new */
    assert_int_equal(commit_with(w, &before, &b, "again", 15).status, COMMIT_MISSING);
    assert_int_equal(commit_with(w, &back, &b, "again", 20).status, COMMIT_MISSING);
    assert_int_equal(stored(w, &back, &b, 20), -EAGAIN);
    world_reopen(w);
    assert_int_equal(beat(w, &back), RENEW); /* it was not heard, or it crashed */
    struct process again = process('A' + HQ, 103, 16);
    assert_int_equal(beat(w, &again), RENEW);
    struct process renewed = process('x', 103, 16);
    assert_int_equal(beat(w, &renewed), GOOD);
    assert_int_equal(beat(w, &renewed), GOOD);
    assert_int_equal(stored(w, &renewed, &b, 9), 1); /* what the backup had is told anew */
    assert_int_equal(holders(w, &b), 1);
    assert_int_equal(commit_with(w, &before, &b, "again", 15).status, COMMIT_COMMITTED);
    struct block_id other = world_block(w);
    assert_int_equal(commit_with(w, &before, &other, "other", 15).status, COMMIT_MISSING);
    expect_committed(commit_with(w, &renewed, &other, "other", 17));
}

/* The same storage, opened at a moment that was before the last proof came, in one commit. */
static void one_generation_less_is_enough(void **state)
{
    struct world *w = *state;
    struct block_id b;
    with_block(w, &b);
    struct process whole = process('A' + HQ, 102, 15), less = process('A' + HQ, 103, 14);
    assert_int_equal(beat(w, &whole), GOOD);
    assert_int_equal(beat(w, &less), RENEW);
}

/* Two processes on copies of one storage: the one that was started later counts, and what the other
 * one stores since does not. */
static void of_two_processes_the_later_one_counts(void **state)
{
    struct world *w = *state;
    struct block_id b, other = world_block(w);
    struct process first = with_block(w, &b), copy = process('A' + HQ, 102, 18);
    assert_int_equal(beat(w, &copy), GOOD);
    assert_int_equal(beat(w, &first), SUPERSEDED);
    assert_int_equal(beat(w, &copy), GOOD);
    assert_int_equal(holders(w, &b), 1); /* both have it */
    assert_int_equal(commit_with(w, &first, &other, "other", 19).status, COMMIT_MISSING);
    assert_int_equal(stored(w, &first, &b, 19), -EAGAIN);
    struct m_collect_req collect = {
        .incarnation = bytes_of(first.incarnation, 16), .run = first.run, .generation = 30};
    struct m_collect_ans gone;
    assert_int_equal(
        meta_collect(w->m, &w->server_who[HQ], &collect, w->now, &gone, &w->ar, w->why), -EAGAIN);
    struct m_inventory_req all = {
        .incarnation = bytes_of(first.incarnation, 16), .run = first.run, .generation = 30};
    struct m_inventory_ans compared;
    memset(&all.upto, 0xff, sizeof all.upto);
    assert_int_equal(
        meta_inventory(w->m, &w->server_who[HQ], &all, w->now, &compared, &w->ar, w->why), -EAGAIN);
    expect_committed(commit_with(w, &first, &other, "other", 18)); /* the copy found it */
    world_reopen(w);
    assert_int_equal(beat(w, &first), SUPERSEDED);
}

/* A copy of long ago is started beside the server: nothing that is not there is believed to be. */
static void an_old_copy_beside_the_server_is_found_out(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process first = with_block(w, &b), copy = process('A' + HQ, 102, 12);
    assert_int_equal(beat(w, &copy), RENEW);
    assert_int_equal(beat(w, &first), SUPERSEDED);
    struct process renewed = process('x', 102, 12);
    assert_int_equal(beat(w, &renewed), GOOD);
    assert_int_equal(beat(w, &first), SUPERSEDED);
    assert_int_equal(holders(w, &b), 0);
    /* the wrong one is stopped, the right one started again */
    struct process right = process('A' + HQ, 103, 16);
    assert_int_equal(beat(w, &right), RENEW);
    right = process('y', 103, 16);
    assert_int_equal(beat(w, &right), GOOD);
    assert_int_equal(stored(w, &right, &b, 15), 1);
    assert_int_equal(beat(w, &renewed), SUPERSEDED);
}

/* A disk is swapped for another one and comes back: its receipts of before a loss are void for
 * good. */
static void a_storage_that_was_given_up_never_counts_again(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process one = with_block(w, &b), two = process('2', 102, 0);
    struct m_lost lost = {.ns = w->alice.ns, .block = b, .generation = 16};
    struct m_beat_req q = {.incarnation = bytes_of(one.incarnation, 16),
                           .url = bytes_str("https://localhost:1"),
                           .run = one.run,
                           .found = one.found,
                           .lost = &lost,
                           .lost_n = 1};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(commit_with(w, &one, &b, "again", 15).status, COMMIT_MISSING);
    assert_int_equal(beat(w, &two), GOOD);
    struct process back = process('A' + HQ, 103, 20);
    assert_int_equal(beat(w, &back), RENEW);
    assert_int_equal(commit_with(w, &one, &b, "again", 15).status, COMMIT_MISSING);
    assert_int_equal(commit_with(w, &back, &b, "again", 15).status, COMMIT_MISSING);
    assert_int_equal(commit_with(w, &two, &b, "again", 30).status, COMMIT_MISSING);
    back = process('3', 103, 20);
    assert_int_equal(beat(w, &back), GOOD);
    assert_int_equal(commit_with(w, &one, &b, "again", 15).status, COMMIT_MISSING);
    expect_committed(commit_with(w, &back, &b, "again", 21));
}

/* Beats that come late, or twice. */
static void a_late_beat_changes_nothing(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process first = with_block(w, &b), second = process('A' + HQ, 102, 17);
    assert_int_equal(beat(w, &second), GOOD);
    assert_int_equal(beat(w, &first), SUPERSEDED); /* it was under way when its sender died */
    struct process renewed = process('x', 102, 17);
    assert_int_equal(beat(w, &renewed), GOOD);
    assert_int_equal(stored(w, &renewed, &b, 15), 1);
    assert_int_equal(beat(w, &second), RENEW); /* of the same process, before it renewed */
    assert_int_equal(holders(w, &b), 1);
    assert_int_equal(beat(w, &renewed), GOOD);
    assert_int_equal(holders(w, &b), 1);
}

/* So many starts that the first ones are forgotten: what they found tells. */
static void an_opening_of_long_ago_is_told_by_what_it_found(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process first = with_block(w, &b);
    for (uint64_t k = 1; k <= 70; k++) {
        struct process next = process('A' + HQ, 200 + k, 20 + k);
        assert_int_equal(beat(w, &next), GOOD);
    }
    struct process known = process('A' + HQ, 260, 80);
    assert_int_equal(beat(w, &known), SUPERSEDED);
    assert_int_equal(beat(w, &first), RENEW); /* at worst all is compared anew */
}

/* A block server of before tells no openings; one that did is not believed without them. */
static void older_block_servers(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    struct process old = process('A' + HQ, 0, 0);
    struct m_beat_ans a;
    assert_int_equal(beat(w, &old), GOOD);
    expect_committed(commit_with(w, &old, &b, "a", 5));
    assert_int_equal(stored(w, &old, &b, 6), 1);
    struct process updated = process('A' + HQ, 102, 6);
    assert_int_equal(beat(w, &updated), GOOD);
    struct block_id other = world_block(w);
    expect_committed(commit_with(w, &old, &other, "b", 6)); /* given before the update */
    assert_int_equal(try_beat(w, &old, &a), -EAGAIN);
    struct process swapped = process('2', 103, 0);
    assert_int_equal(beat(w, &swapped), GOOD);
    assert_int_equal(try_beat(w, &old, &a), -EAGAIN);
    struct process wide = process('2', UINT64_MAX, 0);
    assert_int_equal(try_beat(w, &wide, &a), -EBADMSG);
}

/* What presence of before says is the least that a storage must be found with. */
static void a_database_of_version_9_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {{1, sql_schema}, {2, sql_2}, {3, sql_3},
                                             {4, sql_4},      {5, sql_5}, {6, sql_6},
                                             {7, sql_7},      {8, sql_8}, {9, sql_9}};
    char path[128];
    sqlite3 *db;
    struct meta *m;
    uint64_t heard;
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 9, false, w->why), 0);
    assert_int_equal(
        sqlite3_exec(db,
                     "INSERT INTO server (id, premises, url, secret_hash, mac_key, key_id, "
                     "incarnation, generation) VALUES (1, 'hq', 'u', 'h', 'k', 1, zeroblob(16), 3);"
                     "INSERT INTO presence VALUES (1, zeroblob(33), 1, 3, 7),"
                     "(2, zeroblob(33), 1, 3, 9), (3, zeroblob(33), 1, 2, 11)",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(meta_open(&m, &(struct meta_options){.path = path}, w->why), 0);
    assert_int_equal(meta_change_begin(m), 0);
    assert_int_equal(m->st->ops->heard_most(m->st, 1, &heard), 0);
    assert_int_equal(heard, 9); /* what counted no more before does not count */
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
        TEST(a_restart_keeps_everything),
        TEST(what_was_put_since_a_backup_is_void),
        TEST(one_generation_less_is_enough),
        TEST(of_two_processes_the_later_one_counts),
        TEST(an_old_copy_beside_the_server_is_found_out),
        TEST(a_storage_that_was_given_up_never_counts_again),
        TEST(a_late_beat_changes_nothing),
        TEST(an_opening_of_long_ago_is_told_by_what_it_found),
        TEST(older_block_servers),
        TEST(a_database_of_version_9_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
