// SPDX-License-Identifier: Apache-2.0
/* A transaction's part of the log is written at once, and fails as SQLite's own writing would. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tree.h"
#include "walwrite.h"

#define ROWS 200

struct place {
    char dir[64], path[80], log[96];
    sqlite3 *db;
};

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static void open_here(struct place *p)
{
    assert_int_equal(sqlite3_open_v2(p->path, &p->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                     walwrite_vfs()),
                     SQLITE_OK);
    assert_int_equal(run(p->db, "PRAGMA page_size=2048; PRAGMA journal_mode=WAL;"
                                "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0"),
                     SQLITE_OK);
}

static int setup(void **state)
{
    struct place *p = test_calloc(1, sizeof *p);
    snprintf(p->dir, sizeof p->dir, "/tmp/walwrite.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->path, sizeof p->path, "%s/t.db", p->dir);
    snprintf(p->log, sizeof p->log, "%s-wal", p->path);
    assert_string_equal(walwrite_vfs(), "steadfs-log");
    open_here(p);
    assert_int_equal(run(p->db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, fill BLOB);"
                                "WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM c"
                                " WHERE i < 200) INSERT INTO t SELECT i, 0, zeroblob(1500) FROM c"),
                     SQLITE_OK);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    sqlite3_close(p->db);
    unlink(p->log);
    unlink(p->path);
    rmdir(p->dir);
    test_free(p);
    return 0;
}

static int number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return n;
}

static void copy(const char *from, const char *to)
{
    char bytes[4096];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_non_null(in);
    assert_non_null(out);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* The sum of n as a process would find it that starts after this one was killed. */
static int sum_after_kill(const struct place *p)
{
    char db[96], log[112], shm[112];
    sqlite3 *other;
    snprintf(db, sizeof db, "%s.copy", p->path);
    snprintf(log, sizeof log, "%s-wal", db);
    snprintf(shm, sizeof shm, "%s-shm", db);
    copy(p->path, db);
    copy(p->log, log);
    assert_int_equal(sqlite3_open(db, &other), SQLITE_OK);
    int sum = number(other, "SELECT sum(n) FROM t");
    assert_int_equal(number(other, "SELECT count(*) FROM pragma_integrity_check"
                                   " WHERE integrity_check = 'ok'"),
                     1);
    sqlite3_close(other);
    unlink(db);
    unlink(log);
    unlink(shm);
    return sum;
}

static long writes(void)
{
    long n = -1;
    char line[64];
    FILE *f = fopen("/proc/self/io", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "syscw: %ld", &n) == 1)
            break;
    fclose(f);
    return n;
}

static void test_a_transaction_is_one_write(void **state)
{
    struct place *p = *state;
    long before = writes();
    assert_int_equal(run(p->db, "UPDATE t SET n = 1 WHERE id <= 10"), SQLITE_OK);
    assert_true(writes() - before == 1);
    assert_int_equal(sum_after_kill(p), 10);
    before = writes();
    assert_int_equal(run(p->db, "UPDATE t SET n = 1"), SQLITE_OK); /* more than fits */
    assert_true(writes() - before > 1 && writes() - before < ROWS / 4);
    assert_int_equal(sum_after_kill(p), ROWS);
}

static void test_a_synced_commit_is_there(void **state)
{
    struct place *p = *state;
    assert_int_equal(run(p->db, "PRAGMA synchronous=FULL; UPDATE t SET n = 2 WHERE id < 4"),
                     SQLITE_OK);
    assert_int_equal(sum_after_kill(p), 6);
}

/* Pages leave the cache before the commit, are read again, written once more, and their checksums
 * mended. */
static void test_a_transaction_larger_than_the_cache(void **state)
{
    struct place *p = *state;
    assert_int_equal(run(p->db, "PRAGMA cache_size=5; PRAGMA cache_spill=5; BEGIN;"), SQLITE_OK);
    for (int i = 1; i <= 3; i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "UPDATE t SET n = %d", i);
        assert_int_equal(run(p->db, sql), SQLITE_OK);
        assert_int_equal(number(p->db, "SELECT sum(n) FROM t"), i * ROWS);
    }
    assert_int_equal(sum_after_kill(p), 0);
    assert_int_equal(run(p->db, "COMMIT"), SQLITE_OK);
    assert_int_equal(sum_after_kill(p), 3 * ROWS);
    assert_int_equal(run(p->db, "BEGIN; UPDATE t SET n = 9; ROLLBACK"), SQLITE_OK);
    assert_int_equal(sum_after_kill(p), 3 * ROWS);
    assert_int_equal(run(p->db, "UPDATE t SET n = 4 WHERE id = 1"), SQLITE_OK);
    assert_int_equal(sum_after_kill(p), 3 * ROWS + 1);
    assert_int_equal(run(p->db, "PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET n = 1"), SQLITE_OK);
    assert_int_equal(sum_after_kill(p), ROWS);
}

/* A commit that cannot be written is none, and the next one is. */
static void test_what_cannot_be_written_did_not_happen(void **state)
{
    struct place *p = *state;
    struct rlimit was, least;
    struct stat st;
    assert_int_equal(stat(p->log, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    least = (struct rlimit){.rlim_cur = (rlim_t)st.st_size + 3000, .rlim_max = was.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &least), 0);
    int rc = run(p->db, "UPDATE t SET n = 5 WHERE id <= 10");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_not_equal(rc, SQLITE_OK);
    assert_int_equal(number(p->db, "SELECT sum(n) FROM t"), 0);
    assert_int_equal(sum_after_kill(p), 0);
    assert_int_equal(run(p->db, "UPDATE t SET n = 6 WHERE id <= 10"), SQLITE_OK);
    assert_int_equal(number(p->db, "SELECT sum(n) FROM t"), 60);
    assert_int_equal(sum_after_kill(p), 60);
    sqlite3_close(p->db);
    open_here(p);
    assert_int_equal(number(p->db, "SELECT sum(n) FROM t"), 60);
}

/* The tree's log is written so. */
static void test_a_tree_writes_a_commit_at_once(void **state)
{
    struct place *p = *state;
    struct tree *t;
    char path[96], why[512], name[128];
    snprintf(path, sizeof path, "%s/tree.db", p->dir);
    assert_int_equal(tree_open(&t, path, NULL, why), 0);
    assert_int_equal(tree_set(t, "a", 1), 0);
    long before = writes();
    assert_int_equal(tree_begin(t), 0);
    assert_int_equal(sqlite3_exec(tree_db(t),
                                  "INSERT INTO ns(id, name, root, role, cursor, head)"
                                  " VALUES(7, x'61', 1, 2, 0, 0)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(tree_set(t, "a", 2), 0);
    assert_int_equal(tree_end(t, true), 0);
    assert_true(writes() - before <= 2); /* the note of how long the log is is the other one */
    tree_close(t);
    static const char *const ends[] = {"", "-wal", ".note"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_transaction_is_one_write),          T(test_a_synced_commit_is_there),
        T(test_a_transaction_larger_than_the_cache), T(test_what_cannot_be_written_did_not_happen),
        T(test_a_tree_writes_a_commit_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
