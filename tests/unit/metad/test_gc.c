// SPDX-License-Identifier: Apache-2.0
/* Blocks that nothing refers to: when they are declared absent, who is told to remove them, and
 * every order in which a commit can refer to them again. */
#include "gc.h"
#include "world.h"

#include "2.sql.h"
#include "3.sql.h"
#include "4.sql.h"
#include "5.sql.h"
#include "schema.sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_MS 1000000 /* of history */

static void later(struct world *w, uint64_t ms)
{
    w->now += (int64_t)ms;
}

static uint64_t query(struct world *w, const char *sql)
{
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(((struct sq *)w->m->st)->db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    uint64_t n = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

/* Every block's count is the truth, and so is what is said to be where. */
static void expect_exact(struct world *w)
{
    assert_int_equal(
        query(w, "SELECT count(*) FROM (SELECT ns, server, generation, blocks, bytes FROM held "
                 "WHERE blocks <> 0 OR bytes <> 0 EXCEPT SELECT * FROM "
                 "(SELECT ns, 0, 0, count(*), sum(len) FROM block GROUP BY ns UNION ALL "
                 "SELECT p.ns, p.server, p.generation, count(*), sum(b.len) FROM presence AS p "
                 "JOIN block AS b ON b.ns = p.ns AND b.block = p.block "
                 "GROUP BY p.ns, p.server, p.generation))"),
        0);
    assert_int_equal(query(w, "SELECT count(*) FROM held WHERE blocks > 0"),
                     query(w, "SELECT (SELECT count(DISTINCT ns) FROM block) + (SELECT count(*) "
                              "FROM (SELECT DISTINCT ns, server, generation FROM presence))"));
    assert_int_equal(
        query(w, "SELECT count(*) FROM block AS b WHERE refs <> "
                 "(SELECT count(*) FROM extent AS e WHERE e.ns = b.ns AND e.block = b.block) + "
                 "(SELECT count(*) FROM extent_past AS e WHERE e.ns = b.ns AND e.block = b.block)"),
        0);
}

static void prune(struct world *w)
{
    for (bool more = true; more;)
        assert_int_equal(meta_prune(w->m, w->now, KEEP_MS, &more), 0);
    expect_exact(w);
}

static uint64_t gc(struct world *w)
{
    struct meta_gc_sums sums = {0};
    for (bool more = true; more;) {
        more = false;
        assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0);
    }
    expect_exact(w);
    return sums.blocks;
}

/* ---- short cuts ------------------------------------------------------------------------------ */
static struct m_commit_ans commit_with(struct world *w, const struct block_id *b, const char *name,
                                       int s, uint64_t generation)
{
    struct m_commit_ans a = world_commit_with(w, b, name, s, generation);
    expect_exact(w);
    return a;
}

static void remove_name(struct world *w, const char *name)
{
    struct plan p;
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, name, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, name, e.node, e.rev, 0)->base_content = e.inode.content_rev;
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
    expect_exact(w);
}

static struct m_collect_ans collect(struct world *w, int s, uint64_t generation,
                                    struct m_lost *done, size_t done_n)
{
    struct m_collect_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                              .generation = generation,
                              .done = done,
                              .done_n = done_n};
    struct m_collect_ans a;
    assert_int_equal(meta_collect(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    assert_false(a.more);
    return a;
}

static bool is_missing(struct world *w, const struct block_id *b, int s)
{
    struct m_block_ref ref = {.block = *b, .len = 100};
    struct m_diff_req q = {.ns = w->alice.ns, .target = w->server[s], .ids = &ref, .ids_n = 1};
    struct m_diff_ans a;
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    return a.missing_n == 1;
}

/* A block that was in a file at hq (generation 5), which is long removed; its history, too. */
static struct block_id unused_block(struct world *w, bool at_cloud)
{
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "was", HQ, 5));
    if (at_cloud)
        assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 5), 1);
    remove_name(w, "was");
    later(w, 2 * KEEP_MS);
    prune(w);
    assert_int_equal(gc(w), 0);
    return b;
}

/* … and now declared absent, too. */
static struct block_id absent_block(struct world *w, bool at_cloud)
{
    struct block_id b = unused_block(w, at_cloud);
    later(w, GC_GRACE_MS + 1);
    assert_int_equal(gc(w), 1);
    assert_int_equal(world_holders(w, &b), 0);
    assert_true(is_missing(w, &b, HQ));
    return b;
}

/* ---- when ------------------------------------------------------------------------------------ */
static void what_is_referred_to_stays(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "a", HQ, 5));
    expect_committed(commit_with(w, &b, "b", HQ, WORLD_NO_RECEIPT));
    later(w, 10 * GC_GRACE_MS);
    prune(w);
    assert_int_equal(gc(w), 0);
    remove_name(w, "a");
    later(w, 10 * GC_GRACE_MS);
    prune(w);
    assert_int_equal(gc(w), 0);
    assert_int_equal(world_holders(w, &b), 1);
    remove_name(w, "b"); /* history has it */
    later(w, KEEP_MS / 2);
    prune(w);
    assert_int_equal(gc(w), 0);
    assert_false(is_missing(w, &b, HQ));
    later(w, KEEP_MS);
    prune(w);
    assert_int_equal(gc(w), 0); /* the grace begins */
    later(w, GC_GRACE_MS - 1);
    assert_int_equal(gc(w), 0);
    assert_false(is_missing(w, &b, HQ));
    later(w, 2);
    assert_int_equal(gc(w), 1);
    assert_true(is_missing(w, &b, HQ));
    assert_int_equal(world_beat(w, HQ, NULL, 0).collect, 1);
    assert_int_equal(world_beat(w, CLOUD, NULL, 0).collect, 0);
    struct m_collect_ans a = collect(w, HQ, 9, NULL, 0);
    assert_int_equal(a.blocks_n, 1);
    assert_int_equal(a.blocks[0].ns, w->alice.ns);
    assert_memory_equal(&a.blocks[0].block, &b, sizeof b);
    assert_int_equal(a.blocks[0].generation, 9);
    assert_int_equal(collect(w, HQ, 10, a.blocks, 1).blocks_n, 0);
    assert_int_equal(world_beat(w, HQ, NULL, 0).collect, 0);
    assert_int_equal(collect(w, CLOUD, 10, NULL, 0).blocks_n, 0);
}

/* Referred to again within the grace time: it begins anew the next time. */
static void a_reference_ends_the_grace(void **state)
{
    struct world *w = *state;
    struct block_id b = unused_block(w, false);
    later(w, GC_GRACE_MS - 10);
    expect_committed(commit_with(w, &b, "again", HQ, WORLD_NO_RECEIPT)); /* it is present */
    later(w, 100);
    assert_int_equal(gc(w), 0);
    remove_name(w, "again");
    later(w, 2 * KEEP_MS);
    prune(w);
    assert_int_equal(gc(w), 0);
    later(w, GC_GRACE_MS - 10);
    assert_int_equal(gc(w), 0);
    assert_int_equal(world_holders(w, &b), 1);
    later(w, 100);
    assert_int_equal(gc(w), 1);
}

/* A calendar that was years ahead for a while, and is set right, leaves nothing that is unused
 * until those years have passed. */
static void a_calendar_set_back_begins_the_grace_anew(void **state)
{
    struct world *w = *state;
    int64_t wrong = 3650ll * 24 * 3600 * 1000;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "was", HQ, 5));
    remove_name(w, "was");
    later(w, 2 * KEEP_MS);
    prune(w);
    w->now += wrong;
    assert_int_equal(gc(w), 0); /* noted in a time to come */
    w->now -= wrong;
    assert_int_equal(gc(w), 0);
    later(w, GC_GRACE_MS - 1);
    assert_int_equal(gc(w), 0);
    assert_int_equal(world_holders(w, &b), 1);
    later(w, 2);
    assert_int_equal(gc(w), 1);
}

/* Parts of a commit that never came: their blocks are garbage, but not before the grace is over. */
static void an_abandoned_commit_leaves_garbage(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    struct plan p;
    struct m_commit_ans a;
    plan_new(w, &w->alice, &p);
    plan_block(w, &p, w->alice.ns, &b, 100, HQ);
    p.q.more = true;
    p.q.changes = bytes_str("part");
    assert_int_equal(meta_commit(w->m, &w->alice.who, &p.q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.status, COMMIT_COMMITTED);
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(gc(w), 0);
    later(w, GC_GRACE_MS - 1);
    /* sent again: its grace begins anew */
    p.q.receipts_n = 0;
    struct m_receipt r = world_receipt(w, w->alice.ns, &b, 100, HQ);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    assert_int_equal(meta_commit(w->m, &w->alice.who, &p.q, w->now, &a, &w->ar, w->why), 0);
    later(w, 2);
    assert_int_equal(gc(w), 0);
    later(w, GC_GRACE_MS + 1);
    assert_int_equal(gc(w), 1);
    plan_free(&p);
}

/* ---- races ----------------------------------------------------------------------------------- */
/* A diff said present; then the block was declared absent; then the commit comes without receipt.
 */
static void present_just_before_is_missing(void **state)
{
    struct world *w = *state;
    struct block_id b = unused_block(w, false);
    assert_false(is_missing(w, &b, HQ));
    later(w, GC_GRACE_MS + 1);
    assert_int_equal(gc(w), 1);
    struct m_commit_ans a = commit_with(w, &b, "again", HQ, WORLD_NO_RECEIPT);
    assert_int_equal(a.status, COMMIT_MISSING);
    assert_int_equal(a.missing_n, 1);
    assert_int_equal(world_lookup(w, &w->alice, w->alice.root, "again", 0).node, 0);
}

/* Declared absent, nobody was told to remove it: a receipt of a put before counts, and nobody will.
 */
static void a_receipt_before_the_order_ends_it(void **state)
{
    struct world *w = *state;
    struct block_id b = absent_block(w, false);
    expect_committed(commit_with(w, &b, "again", HQ, 5));
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(world_beat(w, HQ, NULL, 0).collect, 0);
    assert_int_equal(collect(w, HQ, 9, NULL, 0).blocks_n, 0);
}

/* The server was told: what was put before proves nothing, whether it has removed it yet or not. */
static void a_receipt_after_the_order_must_be_newer(void **state)
{
    struct world *w = *state;
    struct block_id b = absent_block(w, false);
    struct m_collect_ans a = collect(w, HQ, 9, NULL, 0);
    assert_int_equal(a.blocks_n, 1);
    assert_int_equal(commit_with(w, &b, "again", HQ, 8).status, COMMIT_MISSING);
    expect_committed(commit_with(w, &b, "again", HQ, 9)); /* put since the server raised it */
    assert_int_equal(world_holders(w, &b), 1);
    /* a crash before it told: it asks again, and must not be told to remove what was put since */
    assert_int_equal(collect(w, HQ, 12, NULL, 0).blocks_n, 0);
    assert_int_equal(collect(w, HQ, 13, a.blocks, 1).blocks_n, 0); /* late */
    assert_int_equal(world_holders(w, &b), 1);
    expect_committed(commit_with(w, &b, "more", HQ, WORLD_NO_RECEIPT));
}

/* Asked again after a crash, the order is given again, of the new generation. */
static void an_order_is_repeated(void **state)
{
    struct world *w = *state;
    struct block_id b = absent_block(w, false);
    struct m_collect_ans first = collect(w, HQ, 9, NULL, 0);
    world_reopen(w);
    struct m_collect_ans second = collect(w, HQ, 11, NULL, 0);
    assert_int_equal(second.blocks_n, 1);
    assert_int_equal(second.blocks[0].generation, 11);
    assert_int_equal(commit_with(w, &b, "again", HQ, 10).status, COMMIT_MISSING);
    /* what was done under the first order says nothing of the second */
    assert_int_equal(collect(w, HQ, 12, first.blocks, 1).blocks_n, 1);
    struct m_collect_ans third = collect(w, HQ, 13, NULL, 0);
    assert_int_equal(collect(w, HQ, 14, third.blocks, 1).blocks_n, 0);
    /* it is removed; proofs of before are still void */
    assert_int_equal(commit_with(w, &b, "again", HQ, 12).status, COMMIT_MISSING);
    expect_committed(commit_with(w, &b, "again", HQ, 13));
}

/* The other server has it as well, and the block comes back through the first before it is told. */
static void who_was_not_told_keeps_it(void **state)
{
    struct world *w = *state;
    struct block_id b = absent_block(w, true);
    assert_int_equal(world_beat(w, HQ, NULL, 0).collect + world_beat(w, CLOUD, NULL, 0).collect, 2);
    expect_committed(commit_with(w, &b, "again", HQ, 6));
    assert_int_equal(collect(w, CLOUD, 9, NULL, 0).blocks_n, 0);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 5),
                     1); /* it finds the block in its backlog, and at home */
    assert_int_equal(world_holders(w, &b), 2);
}

/* … or after: it must remove what it has, and get it again. */
static void who_was_told_gets_it_again(void **state)
{
    struct world *w = *state;
    struct block_id b = absent_block(w, true);
    assert_int_equal(collect(w, CLOUD, 9, NULL, 0).blocks_n, 1);
    expect_committed(commit_with(w, &b, "again", HQ, 6));
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 5),
                     0); /* replication under way all the while */
    assert_int_equal(world_holders(w, &b), 1);
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[CLOUD]};
    struct m_backlog_ans lacking;
    assert_int_equal(meta_backlog(w->m, &w->server_who[CLOUD], &q, &lacking, &w->ar, w->why), 0);
    assert_int_equal(lacking.blocks_n, 1);
    struct m_collect_ans a = collect(w, CLOUD, 10, NULL, 0); /* it crashed before it did */
    assert_int_equal(a.blocks_n, 1);
    assert_int_equal(collect(w, CLOUD, 11, a.blocks, 1).blocks_n, 0);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 11), 1);
    assert_int_equal(world_holders(w, &b), 2);
}

/* A version of the past that can be read can be restored at any time. */
static void history_that_is_kept_is_whole(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "was", HQ, 5));
    remove_name(w, "was");
    later(w, KEEP_MS - 10);
    prune(w);
    gc(w);
    later(w, 2 * GC_GRACE_MS);
    gc(w); /* nothing was pruned meanwhile */
    assert_int_equal(world_holders(w, &b), 1);
    expect_committed(commit_with(w, &b, "restored", HQ, WORLD_NO_RECEIPT));
    prune(w);
    assert_int_equal(gc(w), 0);
    assert_int_equal(world_holders(w, &b), 1);
}

/* ---- the rest -------------------------------------------------------------------------------- */
/* Whoever lacked it lacks it no more, and the commits that waited for it are complete. */
static void nobody_lacks_garbage(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(commit_with(w, &b, "was", HQ, 5)); /* cloud lacks it */
    remove_name(w, "was");
    struct m_list_req q = {.ns = w->alice.ns, .server = w->server[CLOUD]};
    struct m_list_ans l;
    assert_int_equal(meta_list(w->m, &w->server_who[CLOUD], &q, &l, &w->ar, w->why), 0);
    assert_int_equal(l.records_n, 1); /* the removal alone */
    assert_int_equal(query(w, "SELECT count(*) FROM lack"), 1);
    later(w, 2 * KEEP_MS);
    prune(w);
    gc(w);
    later(w, GC_GRACE_MS + 1);
    assert_int_equal(gc(w), 1);
    assert_int_equal(query(w, "SELECT count(*) FROM lack"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM block"), 0);
    assert_int_equal(query(w, "SELECT count(*) FROM presence"), 0);
}

static void only_the_storage_that_was_told_counts(void **state)
{
    struct world *w = *state;
    absent_block(w, false);
    struct m_collect_req q = {.incarnation = bytes_of(w->incarnation[CLOUD], 16), .generation = 9};
    struct m_collect_ans a;
    assert_int_not_equal(meta_collect(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    q.incarnation = bytes_of(w->incarnation[HQ], 16);
    assert_int_not_equal(meta_collect(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    q.generation = 0;
    assert_int_not_equal(meta_collect(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    /* a disk that was replaced has nothing to remove */
    memset(w->incarnation[HQ], 0x77, 16);
    assert_int_equal(world_beat(w, HQ, NULL, 0).collect, 0);
    assert_int_equal(collect(w, HQ, 9, NULL, 0).blocks_n, 0);
}

/* What was ordered long ago is forgotten; what is to be done is not. */
static void rows_are_forgotten(void **state)
{
    struct world *w = *state;
    absent_block(w, true);
    struct m_collect_ans a = collect(w, HQ, 9, NULL, 0);
    collect(w, HQ, 10, a.blocks, 1);
    collect(w, CLOUD, 9, NULL, 0);
    assert_int_equal(query(w, "SELECT count(*) FROM gone"), 2);
    later(w, GC_GRACE_MS);
    gc(w);
    assert_int_equal(query(w, "SELECT count(*) FROM gone"), 2);
    later(w, 2 * 3600 * 1000);
    gc(w);
    assert_int_equal(query(w, "SELECT count(*) FROM gone"), 1);
    assert_int_equal(collect(w, CLOUD, 11, NULL, 0).blocks_n, 1);
}

static void steps_are_bounded(void **state)
{
    struct world *w = *state;
    enum { BLOCKS = 2 * GC_STEP + 10 };
    sqlite3 *db = ((struct sq *)w->m->st)->db;
    char sql[256];
    snprintf(
        sql, sizeof sql,
        "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < %u) "
        "INSERT INTO block (ns, block, len) SELECT %llu, CAST(printf('%%033d', k) AS BLOB), 10 "
        "FROM n",
        BLOCKS, (unsigned long long)w->alice.ns);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    struct meta_gc_sums sums = {0};
    bool more = false;
    assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0);
    assert_true(more);
    assert_int_equal(query(w, "SELECT count(*) FROM block WHERE unused_ms > 0"), GC_STEP);
    gc(w);
    later(w, GC_GRACE_MS + 1);
    for (uint64_t left = BLOCKS; left; left = query(w, "SELECT count(*) FROM block")) {
        assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0);
        assert_true(left - query(w, "SELECT count(*) FROM block") <= GC_STEP);
    }
    assert_int_equal(sums.blocks, BLOCKS);
    assert_int_equal(sums.bytes, 10 * BLOCKS);
}

static int thousand(void *arg)
{
    ++*(unsigned *)arg;
    return 0;
}

/* Where nothing is garbage, finding that out does not cost what the namespace has. */
static void a_look_costs_the_garbage(void **state)
{
    struct world *w = *state;
    enum { BLOCKS = 30000 };
    sqlite3 *db = ((struct sq *)w->m->st)->db;
    struct meta_gc_sums sums = {0};
    unsigned thousands = 0;
    bool more = false;
    char sql[256];
    snprintf(
        sql, sizeof sql,
        "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < %u) "
        "INSERT INTO block (ns, block, len, refs) SELECT %llu, CAST(printf('%%033d', k) AS BLOB), "
        "10, 1 FROM n",
        BLOCKS, (unsigned long long)w->alice.ns);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0); /* statements are prepared */
    sqlite3_progress_handler(db, 1000, thousand, &thousands);
    assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    assert_true(thousands < 5); /* by the blocks it would be a hundred and more */
}

/* Any changes at all: files written over, cut, cloned, linked, removed and brought back. */
static void random_changes(struct world *w, unsigned *seed)
{
    char name[8];
    struct plan p;
    snprintf(name, sizeof name, "f%d", rand_r(seed) % 6);
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, name, 0);
    plan_new(w, &w->alice, &p);
    int what = rand_r(seed) % 8;
    if (!e.node || what == 0) {
        uint64_t node = world_node_id(&w->alice);
        struct m_node_change *n = plan_create(&p, node, NODE_REG);
        struct block_id b = world_block(w);
        plan_range(&p, n, 0, 100, &b, 0);
        plan_range(&p, n, 200, 50, &b, 10); /* twice the same */
        plan_block(w, &p, w->alice.ns, &b, 100, HQ);
        struct m_entry_change *c =
            plan_entry(&p, w->alice.root, name, e.node, e.node ? e.rev : 0, node);
        c->base_content = e.inode.content_rev;
    } else if (what == 1) {
        plan_entry(&p, w->alice.root, name, e.node, e.rev, 0)->base_content = e.inode.content_rev;
    } else {
        struct m_node_change *n = plan_node(&p, e.node, FACET_CONTENT);
        uint64_t off = (uint64_t)(rand_r(seed) % 30) * 10;
        struct m_range old = world_extents(w, &w->alice, e.node, 0);
        struct block_id b = what == 2 && old.extents_n ? old.extents[0].block : world_block(w);
        n->size = what == 3 ? off : e.inode.size > off + 20 ? e.inode.size : off + 20;
        n->base_content = e.inode.content_rev;
        if (what != 3)
            plan_range(&p, n, off, 20, what == 4 ? NULL : &b, 0);
        if (what == 6)
            plan_range(&p, n, off + 30, 5, &b, 1);
        if (n->size < off + 40)
            n->size = what == 3 ? n->size : off + 40;
        plan_block(w, &p, w->alice.ns, &b, 100, HQ);
    }
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
}

/* A removed node is opened again by an edit that comes late. */
static void revive(struct world *w)
{
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "late", NODE_REG, 100);
    struct m_inode was = world_inode(w, &w->alice, f, 0);
    remove_name(w, "late");
    struct block_id b = world_block(w);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = was.content_rev;
    n->size = 100;
    plan_range(&p, n, 40, 10, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 10, HQ);
    plan_entry(&p, w->alice.root, "late", 0, 0, f);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
    expect_exact(w);
    remove_name(w, "late");
}

static void counts_are_exact(void **state)
{
    struct world *w = *state;
    unsigned seed = 11;
    assert_int_equal(
        sqlite3_exec(((struct sq *)w->m->st)->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL),
        SQLITE_OK);
    for (unsigned i = 0; i < 600; i++) {
        random_changes(w, &seed);
        later(w, KEEP_MS / 20);
        if (i % 10 == 9)
            expect_exact(w);
        if (i % 50 == 49) {
            revive(w);
            prune(w);
            later(w, GC_GRACE_MS / 3);
            gc(w);
        }
    }
    assert_true(query(w, "SELECT count(*) FROM gone") > 50);
    /* every block of every extent has its row, and is present */
    assert_int_equal(query(w, "SELECT count(*) FROM (SELECT ns, block FROM extent UNION ALL SELECT "
                              "ns, block FROM extent_past) AS e WHERE NOT EXISTS (SELECT 1 FROM "
                              "block AS b WHERE b.ns = e.ns AND b.block = e.block) OR NOT EXISTS "
                              "(SELECT 1 FROM presence AS b WHERE b.ns = e.ns AND b.block = "
                              "e.block)"),
                     0);
}

static void people_are_told(void **state)
{
    struct world *w = *state;
    struct block_id b = unused_block(w, true);
    char *text = world_command(w, &world_admin, 0, "admin gc --from 999.0.0.0");
    assert_non_null(strstr(text, "nothing that is stored is without a file"));
    assert_string_equal(world_command(w, &world_admin, 0, "admin gc --from 999.0.0.1"), "");
    assert_string_equal(world_command(w, &world_admin, 0, "admin gc --json --from 999.0.0.0"), "");
    text = world_command(w, &world_admin, 0, "admin gc --dry-run alice");
    assert_non_null(strstr(text, "nothing refers to 1 blocks (100 bytes), 0 (0 bytes) of them"));
    later(w, GC_GRACE_MS + 1);
    text = world_command(w, &world_admin, 0, "admin gc --dry-run alice");
    assert_non_null(strstr(text, "1 blocks (100 bytes), 1 (100 bytes) of them for the grace"));
    assert_int_equal(world_holders(w, &b), 2); /* that changed nothing */
    text = world_command(w, &world_admin, 0, "admin gc alice");
    assert_non_null(strstr(text, "1 blocks (100 bytes) declared absent"));
    assert_non_null(strstr(text, "(hq) has yet to remove 1 blocks"));
    assert_non_null(strstr(text, "(cloud) has yet to remove 1 blocks"));
    assert_int_equal(world_holders(w, &b), 0);
    assert_int_equal(meta_absent(w->m).blocks, 1); /* /metrics has it, too */
    assert_int_equal(meta_absent(w->m).bytes, 100);
    text = world_command(w, &world_admin, 0, "admin gc --json alice");
    assert_non_null(strstr(text, "\"unused_blocks\": 0"));
    assert_non_null(strstr(text, "\"to_remove\": 1}"));
    world_command(w, &world_admin, 1, "admin gc nobody");
    world_command(w, &world_admin, 2, "admin gc --from x");
    world_command(w, &w->alice.who, 5, "admin gc");
}

static void a_database_of_version_5_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {
        {1, sql_schema}, {2, sql_2}, {3, sql_3}, {4, sql_4}, {5, sql_5}};
    char path[128];
    sqlite3 *db;
    struct meta *m, *mine = w->m;
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 5, false, w->why), 0);
    assert_int_equal(
        sqlite3_exec(db,
                     "INSERT INTO namespace (id, name, root, head) VALUES (1, 'n', 5, 7);"
                     "INSERT INTO block VALUES (1, zeroblob(33), 10, 1), (1, x'01' || "
                     "zeroblob(32), 20, 1), (1, x'02' || zeroblob(32), 30, 1);"
                     "INSERT INTO gone VALUES (1, zeroblob(33), 1, 4, 5);"
                     "INSERT INTO extent VALUES (1, 9, 0, 4, 10, zeroblob(33), 0), "
                     "(1, 9, 10, 4, 10, zeroblob(33), 0);"
                     "INSERT INTO extent_past VALUES (1, 9, 4, 0, 2, 10, zeroblob(33), 0), "
                     "(1, 9, 6, 50, 5, 10, x'01' || zeroblob(32), 0);",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(meta_open(&m, &(struct meta_options){.path = path}, w->why), 0);
    w->m = m;
    expect_exact(w);
    assert_int_equal(query(w, "SELECT refs FROM block WHERE len = 10"), 3);
    assert_int_equal(query(w, "SELECT count(*) FROM gone WHERE due = 0"), 1);
    assert_int_equal(gc(w), 0); /* its grace begins now */
    later(w, GC_GRACE_MS + 1);
    assert_int_equal(gc(w), 1);
    w->m = mine;
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
        TEST(what_is_referred_to_stays),
        TEST(a_reference_ends_the_grace),
        TEST(a_calendar_set_back_begins_the_grace_anew),
        TEST(an_abandoned_commit_leaves_garbage),
        TEST(present_just_before_is_missing),
        TEST(a_receipt_before_the_order_ends_it),
        TEST(a_receipt_after_the_order_must_be_newer),
        TEST(an_order_is_repeated),
        TEST(who_was_not_told_keeps_it),
        TEST(who_was_told_gets_it_again),
        TEST(history_that_is_kept_is_whole),
        TEST(nobody_lacks_garbage),
        TEST(only_the_storage_that_was_told_counts),
        TEST(rows_are_forgotten),
        TEST(steps_are_bounded),
        TEST(a_look_costs_the_garbage),
        TEST(counts_are_exact),
        TEST(people_are_told),
        TEST(a_database_of_version_5_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
