// SPDX-License-Identifier: Apache-2.0
/* The SQLite store: migrations, and what happens when the disk is full in the middle of a batch. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static int reopen(struct world *w, bool reader)
{
    struct meta_options o = {.path = w->path, .reader = reader};
    w->why[0] = 0;
    return meta_open(&w->m, &o, w->why);
}

static void a_newer_database_is_refused(void **state)
{
    struct world *w = *state;
    meta_close(w->m);
    run_sql(w->path, "INSERT INTO migration (version, applied) VALUES (1000, 'in the future')");
    assert_int_equal(reopen(w, false), -EPROTO);
    assert_non_null(strstr(w->why, "1000"));
    assert_int_equal(reopen(w, true), -EPROTO);
    run_sql(w->path, "DELETE FROM migration WHERE version = 1000");
    assert_int_equal(reopen(w, false), 0);
}

static void what_is_no_database_is_refused(void **state)
{
    struct world *w = *state;
    char path[128];
    struct meta *m;
    struct meta_options o = {.path = path};
    snprintf(path, sizeof path, "%s/letter", w->dir);
    FILE *f = fopen(path, "w");
    for (int k = 0; k < 500; k++)
        fputs("Dear Sir or Madam, ", f);
    fclose(f);
    assert_int_equal(meta_open(&m, &o, w->why), -EUCLEAN);
    assert_true(strlen(w->why) > 0);
    unlink(path);
    snprintf(path, sizeof path, "%s/no/such/folder", w->dir);
    assert_true(meta_open(&m, &o, w->why) < 0);
    snprintf(path, sizeof path, "%s/empty", w->dir); /* a reader makes nothing */
    o.reader = true;
    assert_true(meta_open(&m, &o, w->why) < 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* Takes away what migrations 12 and 14 add. */
#define VERSION_11                                                                                 \
    " ALTER TABLE server DROP COLUMN pin; ALTER TABLE server DROP COLUMN pin_next;"                \
    " ALTER TABLE server DROP COLUMN shown; ALTER TABLE server DROP COLUMN rekey_ms;"              \
    " ALTER TABLE server DROP COLUMN rekey_overlap_ms;"                                            \
    " ALTER TABLE server DROP COLUMN tick; ALTER TABLE server DROP COLUMN unheard;"                \
    " ALTER TABLE server DROP COLUMN adopt;"

/* The plan of a question names the index, also in a database that had none. */
static void namespaces_of_a_server_are_found_by_an_index(void **state)
{
    struct world *w = *state;
    sqlite3 *db;
    sqlite3_stmt *st;
    bool found = false;
    meta_close(w->m);
    run_sql(w->path,
            "DROP INDEX assignment_of_server; ALTER TABLE device DROP COLUMN starts;"
            " ALTER TABLE device DROP COLUMN run; DROP TABLE audit; DROP TABLE finding;"
            " ALTER TABLE server DROP COLUMN run; ALTER TABLE server DROP COLUMN found;"
            " DROP TABLE heard; DROP TABLE given_up; DROP TABLE ended; DROP TABLE mark;" VERSION_12
                VERSION_11 " DELETE FROM migration WHERE version > 6");
    assert_int_equal(reopen(w, false), 0);
    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "EXPLAIN QUERY PLAN SELECT ns FROM placed WHERE server = 1 "
                                        "AND ns > 0 ORDER BY ns LIMIT 1",
                                        -1, &st, NULL),
                     SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW)
        found |= strstr((const char *)sqlite3_column_text(st, 3), "assignment_of_server") != NULL;
    sqlite3_finalize(st);
    sqlite3_close(db);
    assert_true(found);
}

/* What is where is counted once, when the database is brought up. */
static void a_database_of_version_12_is_brought_up(void **state)
{
    struct world *w = *state;
    struct m_where_req q = {.ns = w->alice.ns};
    struct m_where_ans a;
    struct block_id b = world_make_block(w, "a");
    world_make_block(w, "b");
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 7);
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    meta_close(w->m);
    run_sql(w->path, VERSION_12
            " ALTER TABLE server DROP COLUMN tick; ALTER TABLE server DROP COLUMN unheard;"
            " ALTER TABLE server DROP COLUMN adopt;"
            "DELETE FROM migration WHERE version > 12");
    assert_int_equal(reopen(w, false), 0);
    assert_int_equal(meta_where(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_true(a.ns_blocks == 2 && a.ns_bytes == 200 && a.ns_file_bytes == 200);
    assert_int_equal(a.disks_n, 2);
    assert_true(a.disks[0].blocks == 2 && a.disks[0].bytes == 200 && !a.disks[0].left);
    assert_true(a.disks[1].blocks == 1 && a.disks[1].bytes == 100 && a.disks[1].left);
    assert_int_equal(a.disks[1].server, w->server[CLOUD]);
    world_make_block(w, "c");
    assert_int_equal(meta_where(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_true(a.ns_blocks == 3 && a.disks[0].blocks == 3);
}

/* Whoever is being filled may have begun anew. */
static void a_database_of_version_14_is_brought_up(void **state)
{
    struct world *w = *state;
    bool hq, cloud;
    world_make_block(w, "a");
    memcpy(w->incarnation[HQ], "another storage!", 16);
    world_beat(w, HQ, NULL, 0);
    meta_close(w->m);
    run_sql(w->path, "DROP TABLE anew; DELETE FROM migration WHERE version > 14");
    assert_int_equal(reopen(w, false), 0);
    struct store *st = w->m->st;
    assert_int_equal(st->ops->anew_get(st, w->alice.ns, w->server[HQ], &hq), 0);
    assert_int_equal(st->ops->anew_get(st, w->alice.ns, w->server[CLOUD], &cloud), 0);
    assert_true(hq && !cloud);
}

/* Of the commits from before no marks are known; of later ones they are. */
static void a_database_of_version_10_is_brought_up(void **state)
{
    struct world *w = *state;
    struct m_list_ans a;
    world_make(w, &w->alice, w->alice.root, "before", NODE_REG, 0);
    meta_close(w->m);
    run_sql(w->path,
            "DROP TABLE mark;" VERSION_12 VERSION_11 " DELETE FROM migration WHERE version > 10");
    assert_int_equal(reopen(w, false), 0);
    world_make(w, &w->alice, w->alice.root, "after", NODE_REG, 0);
    struct m_list_req q = {.ns = w->alice.ns};
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 2);
    assert_true(a.records[0].mark == 0 && a.records[1].mark != 0);
    struct m_mark mark = {.sjid = 2, .mark = a.records[1].mark};
    q = (struct m_list_req){.ns = w->alice.ns, .from = 2, .marks = &mark, .marks_n = 1};
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_true(!a.other && !a.resync);
    mark.mark++;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_true(a.other && a.resync == 2 && !a.common && a.mark == mark.mark - 1);
}

/* ---- migrations, with a history of their own ---- */
static const struct migration history[] = {
    {1, "CREATE TABLE fruit (name TEXT PRIMARY KEY); INSERT INTO fruit VALUES ('apple');"},
    {2, "ALTER TABLE fruit ADD COLUMN colour TEXT; UPDATE fruit SET colour = 'red';"},
    {3, "CREATE TABLE tree (name TEXT); INSERT INTO nowhere VALUES (1);"}, /* breaks half-way */
    {4, "DROP TABLE fruit;"},
};

static int count(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        return -1;
    int n = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int(st, 0) : -1;
    sqlite3_finalize(st);
    return n;
}

static void the_version_before_is_migrated(void **state)
{
    struct world *w = *state;
    sqlite3 *db;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, history, 1, true, w->why), -EPROTO); /* readers never migrate */
    assert_int_equal(sq_migrate(db, history, 1, false, w->why), 0);
    assert_int_equal(count(db, "SELECT max(version) FROM migration"), 1);
    sqlite3_exec(db, "INSERT INTO fruit VALUES ('pear')", NULL, NULL, NULL); /* work goes on */
    assert_int_equal(sq_migrate(db, history, 2, true, w->why), -EPROTO);
    assert_int_equal(sq_migrate(db, history, 2, false, w->why), 0);
    assert_int_equal(count(db, "SELECT count(*) FROM fruit WHERE colour = 'red'"), 2);
    assert_int_equal(count(db, "SELECT count(*) FROM migration"), 2);
    assert_int_equal(sq_migrate(db, history, 2, false, w->why), 0); /* nothing is left to do */
    assert_int_equal(sq_migrate(db, history, 2, true, w->why), 0);
    assert_int_equal(sq_migrate(db, history, 1, false, w->why), -EPROTO); /* the older program */
    /* one that breaks leaves nothing of itself, and those behind it are not tried */
    assert_true(sq_migrate(db, history, 4, false, w->why) < 0);
    assert_int_equal(count(db, "SELECT max(version) FROM migration"), 2);
    assert_int_equal(count(db, "SELECT count(*) FROM tree"), -1);
    assert_int_equal(count(db, "SELECT count(*) FROM fruit"), 2);
    sqlite3_close(db);
}

/* ---- a full disk ---- */
static void limit_pages(struct world *w, int more)
{
    char sql[64];
    sqlite3 *db = ((struct sq *)w->m->st)->db;
    int pages = count(db, "PRAGMA page_count");
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %d", more < 0 ? 1073741823 : pages + more);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void a_full_disk_keeps_or_loses_whole_commits(void **state)
{
    struct world *w = *state;
    static char value[XATTR_VALUE_MAX];
    struct m_commit_ans a;
    struct plan p;
    int r = 0;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0), made = 0;
    memset(value, 'v', sizeof value - 1);
    limit_pages(w, 60);
    assert_int_equal(meta_begin(w->m), 0);
    while (!r) { /* until one does not fit */
        char name[16];
        plan_new(w, &w->alice, &p);
        snprintf(name, sizeof name, "user.%llu", (unsigned long long)made);
        plan_xattr(&p, f, name, 0, value);
        r = world_try(w, &w->alice, &p, &a);
        plan_free(&p);
        made += r == 0;
        assert_true(made < 100);
    }
    assert_int_equal(r, -ENOSPC);
    assert_non_null(strstr(w->why, "free space"));
    r = meta_end(w->m);
    limit_pages(w, -1);
    /* either the batch was kept with what was answered, or nothing of it */
    assert_int_equal(world_head(w, &w->alice), r ? 1 : 1 + made);
    assert_int_equal(world_inode(w, &w->alice, f, 0).xattrs, r ? 0 : made);
    world_make(w, &w->alice, w->alice.root, "after", NODE_REG, 0);
}

static int interrupt(void *arg)
{
    (void)arg;
    return 1;
}

/* SQLite gives up the whole transaction by itself: nothing after that may slip through alone. */
static void a_lost_transaction_takes_nothing_on(void **state)
{
    struct world *w = *state;
    sqlite3 *db = ((struct sq *)w->m->st)->db;
    struct m_commit_ans a;
    struct plan p;
    assert_int_equal(meta_begin(w->m), 0);
    world_make(w, &w->alice, w->alice.root, "before", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_node(&p, w->alice.root, FACET_TIMES)->mtime = 1;
    sqlite3_progress_handler(db, 300, interrupt, NULL); /* somewhere among its statements */
    for (int k = 0; k < 50 && !sqlite3_get_autocommit(db); k++) {
        world_try(w, &w->alice, &p, &a);
        p.q.request = ++w->alice.request;
    }
    assert_true(sqlite3_get_autocommit(db));
    sqlite3_progress_handler(db, 0, NULL, NULL);
    assert_int_equal(world_try(w, &w->alice, &p, &a), -EIO);
    assert_int_equal(meta_end(w->m), -EIO);
    plan_free(&p);
    assert_int_equal(world_head(w, &w->alice), 0);
    world_make(w, &w->alice, w->alice.root, "after", NODE_REG, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_newer_database_is_refused),
        TEST(what_is_no_database_is_refused),
        TEST(a_database_of_version_10_is_brought_up),
        TEST(a_database_of_version_12_is_brought_up),
        TEST(a_database_of_version_14_is_brought_up),
        TEST(the_version_before_is_migrated),
        TEST(a_full_disk_keeps_or_loses_whole_commits),
        TEST(a_lost_transaction_takes_nothing_on),
        TEST(namespaces_of_a_server_are_found_by_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
