// SPDX-License-Identifier: Apache-2.0
/* The log is copied without its writer's help, and begins anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "walkeeper.h"

#define PAGES 200
#define WAIT_S 30

struct files {
    char dir[32], db[64], wal[64];
};

static int setup(void **state)
{
    struct files *f = test_calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/test_walkeeper_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->db, sizeof f->db, "%s/x.db", f->dir);
    snprintf(f->wal, sizeof f->wal, "%s/x.db-wal", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct files *f = *state;
    unlink(f->db);
    rmdir(f->dir);
    test_free(f);
    return 0;
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static sqlite3 *open_db(const struct files *f)
{
    sqlite3 *db;
    assert_int_equal(
        sqlite3_open_v2(f->db, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL),
        SQLITE_OK);
    run(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    return db;
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void one_commit(sqlite3 *db)
{
    run(db, "INSERT INTO t(b) VALUES(randomblob(3000))");
}

static void test_copied_aside(void **state)
{
    struct files *f = *state;
    sqlite3 *db = open_db(f);
    struct walkeeper *k = walkeeper_new(db, f->db, PAGES);
    assert_non_null(k);
    off_t before = size_of(f->db);
    while (size_of(f->wal) < (PAGES + 8) * (4096 + 24))
        one_commit(db);
    for (time_t end = time(NULL) + WAIT_S; size_of(f->db) == before; usleep(1000))
        if (time(NULL) > end)
            fail_msg("nobody copies the log");
    /* once the keeper is through, a commit finishes what it left, and the next begins anew */
    off_t log;
    do {
        log = size_of(f->wal);
        usleep(100000);
        for (int i = 0; i < 8; i++)
            one_commit(db);
    } while (size_of(f->wal) != log);
    assert_true(log <
                3 * PAGES * (4096 + 24)); /* the writer alone would begin at four times that */
    walkeeper_free(k);
    sqlite3_close(db);
}

/* Where the keeper cannot follow, the writer does it himself. */
static void test_bounded(void **state)
{
    struct files *f = *state;
    char moved[80];
    sqlite3 *db = open_db(f);
    snprintf(moved, sizeof moved, "%s/nowhere/x.db", f->dir); /* the keeper finds nothing there */
    struct walkeeper *k = walkeeper_new(db, moved, PAGES);
    assert_non_null(k);
    for (int i = 0; i < 6 * PAGES; i++)
        one_commit(db);
    assert_true(size_of(f->wal) < 5 * PAGES * (4096 + 24));
    walkeeper_free(k);
    sqlite3_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copied_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
