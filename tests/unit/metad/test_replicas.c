// SPDX-License-Identifier: Apache-2.0
/* What block servers lack, in which order commits become complete there, and who may leave. */
#include "replicas.h"
#include "world.h"

#include <errno.h>
#include <string.h>

#include "blockid.h"
#include "schema.sql.h"

static struct m_backlog_ans backlog(struct world *w, int who, int of)
{
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[of]};
    struct m_backlog_ans a;
    assert_int_equal(meta_backlog(w->m, &w->server_who[who], &q, &a, &w->ar, w->why), 0);
    return a;
}

static struct m_list_ans list(struct world *w, int s, struct bytes cursor)
{
    struct m_list_req q = {.ns = w->alice.ns, .server = w->server[s], .cursor = cursor};
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->server_who[s], &q, &a, &w->ar, w->why), 0);
    return a;
}

static void what_is_at_one_server_the_other_lacks(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    struct m_backlog_ans a = backlog(w, CLOUD, CLOUD);
    assert_int_equal(a.blocks_n, 1);
    assert_true(block_id_equal(&a.blocks[0].block, &b));
    assert_int_equal(a.blocks[0].len, 100);
    assert_int_equal(a.blocks[0].servers_n, 1);
    assert_int_equal(a.blocks[0].servers[0], w->server[HQ]);
    assert_int_equal(backlog(w, HQ, CLOUD).blocks_n, 1); /* the holder sees it, too */
    assert_int_equal(backlog(w, HQ, HQ).blocks_n, 0);
    assert_int_equal(world_replica(w, HQ, CLOUD)->lacking, 1);
    assert_int_equal(world_replica(w, CLOUD, HQ)->lacking, 0);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 0), 1);
    assert_int_equal(backlog(w, CLOUD, CLOUD).blocks_n, 0);
    assert_int_equal(world_replica(w, HQ, CLOUD)->lacking, 0);
    /* now it counts as presence: a commit may name cloud for it */
    struct m_diff_req q = {.ns = w->alice.ns, .target = w->server[CLOUD]};
    struct m_block_ref ref = {.block = b, .len = 100};
    struct m_diff_ans d;
    q.ids = &ref;
    q.ids_n = 1;
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &d, &w->ar, w->why), 0);
    assert_int_equal(d.missing_n + d.elsewhere_n, 0);
}

static void the_capabilities_are_for_the_asking_server(void **state)
{
    struct world *w = *state;
    struct m_capability c;
    const struct m_replica *r = world_replica(w, HQ, CLOUD);
    assert_int_equal(world_replica(w, HQ, HQ)->capability.n, 0);
    assert_int_equal(capability_open(&c, r->capability, &w->key[CLOUD], &w->ar), 0);
    assert_int_equal(c.server, w->server[CLOUD]);
    assert_int_equal(c.peer, w->server[HQ]);
    assert_int_equal(c.ns, w->alice.ns);
    assert_int_equal(c.device, 0);
    assert_int_equal(c.rights, RIGHT_READ | RIGHT_WRITE);
    assert_null(world_replicas(w, ATTIC)); /* not assigned: nothing of it */
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[CLOUD]};
    struct m_backlog_ans b;
    assert_int_equal(meta_backlog(w->m, &w->server_who[ATTIC], &q, &b, &w->ar, w->why), -EACCES);
    struct m_replicas_req all = {0};
    struct m_replicas_ans a;
    assert_int_equal(meta_replicas(w->m, &w->alice.who, &all, w->now, &a, &w->ar, w->why), -EACCES);
}

static void a_report_proves_nothing_more_than_it_may(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a"), foreign = world_block(w);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &foreign, 100, 0),
                     0);                                                  /* nobody refers to it */
    assert_int_equal(world_stored(w, CLOUD, w->bob.ns, &b, 100, 0), 0);   /* not bob's */
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 99, 0), 0);  /* another length */
    assert_int_equal(world_stored(w, ATTIC, w->alice.ns, &b, 100, 0), 0); /* not assigned */
    assert_int_equal(backlog(w, CLOUD, CLOUD).blocks_n, 1);
    struct m_stored one = {.ns = w->alice.ns, .block = b, .len = 100};
    struct m_stored_req q = {
        .incarnation = bytes_of(w->incarnation[HQ], 16), .blocks = &one, .blocks_n = 1};
    struct m_stored_ans a;
    assert_int_equal(meta_stored(w->m, &w->server_who[CLOUD], &q, w->now, &a, &w->ar, w->why),
                     -EAGAIN);
    assert_int_equal(meta_stored(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), -EACCES);
    assert_int_equal(backlog(w, CLOUD, CLOUD).blocks_n, 1);
}

static void completion_out_of_order_loses_no_entry(void **state)
{
    struct world *w = *state;
    static const uint64_t order[] = {2, 4, 1, 3}, hq[] = {1, 2, 3, 4};
    struct block_id b[4];
    uint64_t got[4];
    size_t n = 0;
    for (int k = 0; k < 4; k++)
        b[k] = world_make_block(w, (char[]){(char)('a' + k), 0});
    struct m_list_ans a = list(w, CLOUD, bytes_of(NULL, 0));
    assert_int_equal(a.records_n, 0);
    assert_false(a.more);
    for (int k = 0; k < 4; k++) { /* the cursor moves on after each */
        world_stored(w, CLOUD, w->alice.ns, &b[order[k] - 1], 100, 0);
        a = list(w, CLOUD, a.cursor);
        assert_int_equal(a.records_n, 1);
        got[n++] = a.records[0].sjid;
    }
    assert_memory_equal(got, order, sizeof order);
    world_stored(w, CLOUD, w->alice.ns, &b[0], 100, 0); /* again: no new number */
    assert_int_equal(list(w, CLOUD, a.cursor).records_n, 0);
    a = (struct m_list_ans){0};
    n = 0;
    do { /* from the beginning: the same */
        a = list(w, CLOUD, a.cursor);
        for (size_t k = 0; k < a.records_n; k++)
            got[n++] = a.records[k].sjid;
    } while (a.more);
    assert_int_equal(n, 4);
    assert_memory_equal(got, order, sizeof order);
    a = list(w, HQ, bytes_of(NULL, 0));
    assert_int_equal(a.records_n, 4);
    for (int k = 0; k < 4; k++)
        assert_int_equal(a.records[k].sjid, hq[k]);
    /* a cursor of one order is none of another */
    struct m_list_req q = {.ns = w->alice.ns, .server = w->server[CLOUD], .cursor = a.cursor};
    assert_int_equal(meta_list(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), -EBADMSG);
    q = (struct m_list_req){.ns = w->alice.ns, .server = w->server[ATTIC]};
    assert_int_equal(meta_list(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), -EINVAL);
}

static void commits_without_blocks_are_complete_everywhere(void **state)
{
    struct world *w = *state;
    world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    world_command(w, &w->alice.who, 0, "namespace create docs");
    world_command(w, &w->alice.who, 0,
                  "namespace mount docs /d/docs"); /* the server's own commit */
    assert_int_equal(list(w, CLOUD, bytes_of(NULL, 0)).records_n, 2);
    assert_int_equal(list(w, HQ, bytes_of(NULL, 0)).records_n, 2);
}

/* One commit is complete only with all its blocks, also when one came before by another commit. */
static void all_blocks_of_a_commit_count(void **state)
{
    struct world *w = *state;
    struct block_id first = world_make_block(w, "a"), second = world_block(w);
    struct plan p;
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    struct m_node_change *n = plan_create(&p, node, NODE_REG);
    plan_range(&p, n, 0, 100, &first, 0);
    plan_range(&p, n, 100, 50, &second, 0);
    plan_block(w, &p, w->alice.ns, &second, 50, HQ);
    plan_entry(&p, w->alice.root, "b", 0, 0, node);
    struct m_commit_ans c = world_commit(w, &w->alice, &p);
    expect_committed(c);
    plan_free(&p);
    world_stored(w, CLOUD, w->alice.ns, &second, 50, 0);
    assert_int_equal(list(w, CLOUD, bytes_of(NULL, 0)).records_n, 0);
    world_stored(w, CLOUD, w->alice.ns, &first, 100, 0); /* completes both */
    struct m_list_ans a = list(w, CLOUD, bytes_of(NULL, 0));
    assert_int_equal(a.records_n, 2);
    assert_int_equal(a.records[0].sjid + a.records[1].sjid, 3);
}

static void a_new_server_lacks_all_the_newest_first(void **state)
{
    struct world *w = *state;
    struct block_id b[3];
    for (int k = 0; k < 3; k++)
        b[k] = world_make_block(w, (char[]){(char)('a' + k), 0});
    world_command(w, &world_admin, 0, "admin assign alice attic");
    assert_int_equal(world_replica(w, ATTIC, ATTIC)->lacking, 3);
    struct m_backlog_ans a = backlog(w, ATTIC, ATTIC);
    assert_int_equal(a.blocks_n, 3);
    for (int k = 0; k < 3; k++)
        assert_true(block_id_equal(&a.blocks[k].block, &b[2 - k]));
    assert_int_equal(list(w, ATTIC, bytes_of(NULL, 0)).records_n, 0);
    for (int k = 0; k < 3; k++) /* these commits were before its time: they get no number */
        world_stored(w, ATTIC, w->alice.ns, &b[k], 100, 0);
    assert_int_equal(list(w, ATTIC, bytes_of(NULL, 0)).records_n, 0);
    struct block_id later = world_make_block(w, "later");
    world_stored(w, ATTIC, w->alice.ns, &later, 100, 0);
    assert_int_equal(list(w, ATTIC, bytes_of(NULL, 0)).records_n, 1);
}

static uint64_t runs(struct world *w, int s)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT count(*) FROM complete WHERE ns = ? AND server = ?",
                                        -1, &st, NULL),
                     SQLITE_OK);
    sqlite3_bind_int64(st, 1, (sqlite3_int64)w->alice.ns);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)w->server[s]);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    uint64_t n = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* Commits with and without blocks in turn, the blocks of which come late: a run for each. They are
 * told in few answers, and do not stay for ever. */
static void runs_of_one_commit_each(void **state)
{
    struct world *w = *state;
    enum { N = 40 };
    struct block_id b[N];
    struct m_list_ans a;
    uint64_t got = 0, seen[2 * N + 1] = {0};
    for (int k = 0; k < N; k++) {
        b[k] = world_make_block(w, (char[]){'f', (char)('0' + k), 0});
        world_make(w, &w->alice, w->alice.root, (char[]){'d', (char)('0' + k), 0}, NODE_DIR, 0);
    }
    for (int k = 0; k < N; k++)
        assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b[k], 100, 0), 1);
    assert_true(runs(w, CLOUD) >= 2 * N);
    a = list(w, CLOUD, bytes_of(NULL, 0));
    assert_int_equal(a.records_n, 2 * N);
    assert_false(a.more);
    for (int k = 0; k < N; k++) {
        assert_int_equal(a.records[k].sjid, 2 * k + 2); /* a directory waits for nothing */
        assert_int_equal(a.records[N + k].sjid, 2 * k + 1);
    }
    /* as small pages: each once, and none too large */
    struct m_list_req q = {.ns = w->alice.ns, .server = w->server[CLOUD], .limit_bytes = 1000};
    int pages = 0;
    for (a.more = true; a.more; pages++) {
        assert_int_equal(meta_list(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), 0);
        assert_true(a.records_n > 0);
        for (size_t k = 0; k < a.records_n; k++, got++)
            assert_int_equal(seen[a.records[k].sjid]++, 0);
        q.cursor = a.cursor;
    }
    assert_int_equal(got, 2 * N);
    assert_in_range(pages, 5, N);
    struct bytes cursor = arena_bytes(&w->ar, a.cursor.p, a.cursor.n);
    /* below the floor they go, but for the newest, which the next number follows from */
    bool more = true;
    w->now += 1000000;
    struct block_id late = world_make_block(w, "late"); /* is still lacking when it is forgotten */
    w->now += 1000000;
    while (more)
        assert_int_equal(meta_prune(w->m, w->now, 1000, &more), 0);
    assert_int_equal(runs(w, CLOUD), 2);
    assert_int_equal(list(w, CLOUD, cursor).records_n, 0);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &late, 100, 0), 1);
    assert_int_equal(runs(w, CLOUD), 2); /* nobody is to be told of that one */
    world_make(w, &w->alice, w->alice.root, "next", NODE_DIR, 0);
    a = list(w, CLOUD, cursor);
    assert_int_equal(a.records_n, 1);
    assert_int_equal(a.records[0].sjid, 2 * N + 2);
    assert_int_equal(list(w, CLOUD, bytes_of(NULL, 0)).records_n, 1);
}

/* A page is no end: what nobody can give hides nothing, and is left out on request. */
static void a_backlog_goes_on_behind_a_page(void **state)
{
    struct world *w = *state;
    struct block_id b[5];
    for (int k = 0; k < 5; k++)
        b[k] = world_make_block(w, (char[]){(char)('a' + k), 0});
    world_stored(w, CLOUD, w->alice.ns, &b[0], 100, 0);
    world_command(w, &world_admin, 0, "admin assign alice attic"); /* it lacks all five */
    uint64_t cloud = w->server[CLOUD], bob = 4711;
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[ATTIC], .limit = 2};
    struct m_backlog_ans a;
    int got = 5;
    do {
        assert_int_equal(meta_backlog(w->m, &w->server_who[ATTIC], &q, &a, &w->ar, w->why), 0);
        for (size_t k = 0; k < a.blocks_n; k++)
            assert_true(block_id_equal(&a.blocks[k].block, &b[--got]));
        assert_int_equal(a.more, a.next.n > 0);
        q.after = a.next;
    } while (a.more);
    assert_int_equal(got, 0);
    /* what cloud has is the oldest */
    q = (struct m_backlog_req){
        .ns = w->alice.ns, .server = w->server[ATTIC], .holders = &cloud, .holders_n = 1};
    assert_int_equal(meta_backlog(w->m, &w->server_who[ATTIC], &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.blocks_n, 1);
    assert_true(block_id_equal(&a.blocks[0].block, &b[0]));
    assert_int_equal(a.blocks[0].servers_n, 2); /* all holders are told */
    assert_false(a.more);
    q.holders = &bob; /* of nobody who is no server of it */
    assert_int_equal(meta_backlog(w->m, &w->server_who[ATTIC], &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.blocks_n, 0);
    q.after = bytes_str("somewhere");
    assert_int_equal(meta_backlog(w->m, &w->server_who[ATTIC], &q, &a, &w->ar, w->why), -EBADMSG);
}

/* More than one call looks at, all of them nowhere; the one that can be had lies behind them. */
static void what_is_nowhere_hides_nothing(void **state)
{
    struct world *w = *state;
    enum { NOWHERE = 20000 };
    uint64_t hq = w->server[HQ];
    struct block_id b = world_make_block(w, "a");
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < NOWHERE; k++) {
        struct block_id id = world_block(w);
        assert_int_equal(w->m->st->ops->block_put(w->m->st, w->alice.ns, &id, 10, 2), 0);
        assert_int_equal(
            w->m->st->ops->lack_put(w->m->st, w->alice.ns, w->server[CLOUD], &id, 2 + k % 3), 0);
        if (k % 100 == 0) /* waited for by several commits: told once */
            assert_int_equal(
                w->m->st->ops->lack_put(w->m->st, w->alice.ns, w->server[CLOUD], &id, 2), 0);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    struct m_backlog_req q = {
        .ns = w->alice.ns, .server = w->server[CLOUD], .holders = &hq, .holders_n = 1};
    struct m_backlog_ans a;
    size_t calls = 0, got = 0;
    do {
        assert_int_equal(meta_backlog(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), 0);
        got += a.blocks_n;
        q.after = a.next;
        calls++;
        assert_true(a.blocks_n == 0 || block_id_equal(&a.blocks[0].block, &b));
    } while (a.more);
    assert_int_equal(got, 1);
    assert_int_equal(calls, 3); /* each looks at a bounded number */
    q = (struct m_backlog_req){.ns = w->alice.ns, .server = w->server[CLOUD], .limit = 1000};
    for (got = calls = 0; calls == 0 || a.more; calls++) {
        assert_int_equal(meta_backlog(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), 0);
        assert_true(a.blocks_n <= 1000);
        got += a.blocks_n;
        q.after = a.next;
    }
    assert_in_range(got, NOWHERE + 1, NOWHERE + 1 + NOWHERE / 100);
}

static void filling_goes_in_slices(void **state)
{
    struct world *w = *state;
    struct m_backlog_ans a;
    bool more = true;
    for (int k = 0; k < 6; k++)
        world_make_block(w, (char[]){(char)('a' + k), 0});
    assert_int_equal(meta_change_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->assign(w->m->st, w->alice.ns, w->server[ATTIC], 9), 0);
    assert_int_equal(w->m->st->ops->fill_begin(w->m->st, w->alice.ns, w->server[ATTIC]), 0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    for (size_t k = 1; more; k++) {
        assert_int_equal(meta_change_begin(w->m), 0);
        assert_int_equal(
            w->m->st->ops->fill_step(w->m->st, w->alice.ns, w->server[ATTIC], 2, &more), 0);
        assert_int_equal(meta_change_end(w->m, 0), 0);
        a = backlog(w, ATTIC, ATTIC);
        assert_true(a.blocks_n <= 3 * k);
        assert_true(a.blocks_n > 2 * (k - 1));
    }
    assert_int_equal(a.blocks_n, 6);
    assert_false(world_replica(w, ATTIC, ATTIC)->filling);
}

static void what_is_lost_is_lacking_again(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a"), c = world_make_block(w, "b");
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    world_stored(w, CLOUD, w->alice.ns, &c, 100, 0);
    struct m_lost lost[] = {{.ns = w->alice.ns, .block = b}, {.ns = w->bob.ns, .block = b}};
    world_beat(w, CLOUD, lost, 2);
    assert_int_equal(backlog(w, CLOUD, CLOUD).blocks_n, 1);
    struct bytes cursor = list(w, CLOUD, bytes_of(NULL, 0)).cursor;
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    assert_int_equal(backlog(w, CLOUD, CLOUD).blocks_n, 0);
    assert_int_equal(list(w, CLOUD, cursor).records_n, 0); /* it keeps its number */
    w->incarnation[CLOUD][0]++;                            /* an empty disk */
    world_beat(w, CLOUD, NULL, 0);
    assert_int_equal(world_replica(w, CLOUD, CLOUD)->lacking, 2);
    assert_int_equal(backlog(w, CLOUD, CLOUD).blocks_n, 2);
    world_beat(w, CLOUD, NULL, 0);
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    assert_int_equal(world_replica(w, CLOUD, CLOUD)->lacking, 1); /* not counted anew */
}

static void copies_are_a_minimum(void **state)
{
    struct world *w = *state;
    struct plan p;
    assert_string_equal(world_command(w, &world_admin, 0, "admin copies alice"), "1\n");
    world_command(w, &world_admin, 1, "admin copies alice 3"); /* it has two servers */
    world_command(w, &world_admin, 2, "admin copies alice many");
    world_command(w, &world_admin, 0, "admin copies alice 2");
    plan_new(w, &w->alice, &p);
    plan_node(&p, w->alice.root, FACET_TIMES)->mtime = 1;
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.rows[0].reason, REFUSED_ASSIGNMENT);
    p.targets[1] = w->server[CLOUD]; /* the same number, to more of them */
    p.q.targets_n = 2;
    a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
}

/* What the client does not hold must have as many copies as it asks for, wherever they are. */
static void blocks_not_held_count_by_copies(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    struct plan p;
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    plan_range(&p, plan_create(&p, node, NODE_REG), 0, 100, &b, 0);
    plan_entry(&p, w->alice.root, "clone", 0, 0, node);
    plan_id(&p, &b, 100);
    p.not_held[0] = b;
    p.q.not_held_n = 1;
    p.targets[1] = w->server[CLOUD];
    p.q.targets_n = 2;
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_MISSING);
    assert_int_equal(a.elsewhere_n, 1);
    assert_int_equal(a.elsewhere[0].server, w->server[CLOUD]);
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
}

/* ---- the version before --------------------------------------------------------------------- */
static void a_database_of_version_1_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {{1, sql_schema}};
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 1, false, w->why), 0);
    assert_int_equal(
        sqlite3_exec(db,
                     "INSERT INTO server VALUES (1, 'hq', 'u', x'', x'', 1, zeroblob(16), 3, 0, 0, "
                     "0, 0), (2, 'cloud', 'v', x'', x'', 1, zeroblob(16), 1, 0, 0, 0, 0);"
                     "INSERT INTO namespace (id, name, root, head) VALUES (1, 'n', 5, 7);"
                     "INSERT INTO assignment VALUES (1, 1, 0), (1, 2, 1);"
                     "INSERT INTO block VALUES (1, zeroblob(33), 10), (1, x'01' || zeroblob(32), "
                     "20), (1, x'02' || zeroblob(32), 30);"
                     "INSERT INTO presence VALUES (1, zeroblob(33), 1, 3), "
                     "(1, x'01' || zeroblob(32), 1, 2);"
                     "INSERT INTO extent VALUES (1, 9, 0, 4, 10, zeroblob(33), 0);"
                     "INSERT INTO extent_past VALUES (1, 9, 4, 0, 2, 10, zeroblob(33), 0), "
                     "(1, 9, 6, 50, 5, 10, x'01' || zeroblob(32), 0);",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    struct meta_options o = {.path = path};
    struct meta *m;
    assert_int_equal(meta_open(&m, &o, w->why), 0);
    struct lack_row *v;
    size_t n;
    bool more;
    assert_int_equal(meta_change_begin(m), 0);
    for (uint64_t s = 1; s <= 2; s++)
        assert_int_equal(m->st->ops->fill_step(m->st, 1, s, 100, &more), 0);
    assert_false(more);
    assert_int_equal(m->st->ops->lack_list(m->st, 1, 2, NULL, 10, &v, &n, &w->ar), 0);
    assert_int_equal(n, 3);
    assert_int_equal(v[0].sjid, 5);
    assert_int_equal(v[0].len, 20);
    assert_int_equal(v[1].sjid, 2);
    assert_int_equal(v[2].sjid, 0); /* nothing refers to it */
    assert_int_equal(m->st->ops->lack_list(m->st, 1, 1, NULL, 10, &v, &n, &w->ar), 0);
    assert_int_equal(n, 2); /* presence of an older generation does not count */
    assert_int_equal(m->st->ops->complete_add(m->st, 1, 1, 7), 0); /* has a number already */
    struct run_row run;
    assert_int_equal(m->st->ops->complete_next(m->st, 1, 1, 0, &run), -ENOENT);
    assert_int_equal(m->st->ops->complete_add(m->st, 1, 1, 8), 0);
    assert_int_equal(m->st->ops->complete_next(m->st, 1, 1, 0, &run), 0);
    assert_int_equal(run.sjid, 8);
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
        TEST(what_is_at_one_server_the_other_lacks),
        TEST(the_capabilities_are_for_the_asking_server),
        TEST(a_report_proves_nothing_more_than_it_may),
        TEST(completion_out_of_order_loses_no_entry),
        TEST(commits_without_blocks_are_complete_everywhere),
        TEST(all_blocks_of_a_commit_count),
        TEST(a_new_server_lacks_all_the_newest_first),
        TEST(runs_of_one_commit_each),
        TEST(a_backlog_goes_on_behind_a_page),
        TEST(what_is_nowhere_hides_nothing),
        TEST(filling_goes_in_slices),
        TEST(what_is_lost_is_lacking_again),
        TEST(copies_are_a_minimum),
        TEST(blocks_not_held_count_by_copies),
        TEST(a_database_of_version_1_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
