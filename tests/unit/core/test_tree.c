// SPDX-License-Identifier: Apache-2.0
/* The database: what refuses to open, what survives which end, transactions that nest. */
#include "world.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schema.sql.h"

struct disk {
    struct simvfs *vfs;
    struct tree *tree;
};

static struct tree *reopen(struct disk *d)
{
    char why[512] = "";
    tree_close(d->tree);
    d->tree = NULL;
    assert_int_equal(tree_open(&d->tree, "tree.db", simvfs_name(d->vfs), why), 0);
    return d->tree;
}

static int setup(void **state)
{
    struct disk *d = test_calloc(1, sizeof *d);
    d->vfs = simvfs_new("unit");
    simvfs_reset(d->vfs, 1);
    reopen(d);
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct disk *d = *state;
    tree_close(d->tree);
    simvfs_free(d->vfs);
    test_free(d);
    return 0;
}

static void test_values(void **state)
{
    struct disk *d = *state;
    int64_t v;
    uint8_t blob[4] = {1, 2, 3, 4}, got[4];
    assert_int_equal(tree_get(d->tree, "x", &v), -ENOENT);
    assert_int_equal(tree_set(d->tree, "x", -5), 0);
    assert_int_equal(tree_set_blob(d->tree, "b", blob, 4), 0);
    reopen(d);
    assert_int_equal(tree_get(d->tree, "x", &v), 0);
    assert_int_equal(v, -5);
    assert_int_equal(tree_get_blob(d->tree, "b", got, 4), 0);
    assert_memory_equal(got, blob, 4);
    assert_int_equal(tree_get_blob(d->tree, "b", got, 3), -EUCLEAN);
    assert_int_equal(tree_get_blob(d->tree, "none", got, 3), -ENOENT);
}

static void test_transactions_nest(void **state)
{
    struct disk *d = *state;
    int64_t v;
    assert_int_equal(tree_begin(d->tree), 0);
    assert_int_equal(tree_set(d->tree, "a", 1), 0);
    assert_int_equal(tree_begin(d->tree), 0);
    assert_int_equal(tree_set(d->tree, "b", 1), 0);
    assert_int_equal(tree_end(d->tree, false), 0); /* one failed: all of it did not happen */
    assert_int_equal(tree_end(d->tree, true), -EIO);
    assert_int_equal(tree_get(d->tree, "a", &v), -ENOENT);
    assert_int_equal(tree_begin(d->tree), 0);
    assert_int_equal(tree_set(d->tree, "a", 1), 0);
    assert_int_equal(tree_end(d->tree, true), 0);
    assert_int_equal(tree_get(d->tree, "a", &v), 0);
}

/* Rows that are kept in memory are those of a version: it goes on with every change, and when one
 * is undone. */
static void test_version(void **state)
{
    struct disk *d = *state;
    int64_t v;
    uint64_t was = tree_version(d->tree);
    assert_int_not_equal(was, 0);
    assert_int_equal(tree_begin(d->tree), 0);
    assert_int_equal(tree_get(d->tree, "a", &v), -ENOENT);
    assert_int_equal(tree_end(d->tree, true), 0);
    assert_int_equal(tree_version(d->tree), was);
    assert_int_equal(tree_begin(d->tree), 0);
    assert_int_equal(tree_set(d->tree, "a", 1), 0);
    uint64_t changed = tree_version(d->tree);
    assert_true(changed > was);
    assert_int_equal(tree_end(d->tree, false), 0);
    assert_true(tree_version(d->tree) > changed);
    changed = tree_version(d->tree);
    assert_int_equal(tree_set(d->tree, "a", 1), 0);
    assert_true(tree_version(d->tree) > changed);
}

static void test_reserved_survives_power_loss(void **state)
{
    struct disk *d = *state;
    int64_t v;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        assert_int_equal(tree_set(d->tree, "plain", (int64_t)seed), 0);
        assert_int_equal(tree_reserve(d->tree, "limit", (int64_t)seed), 0);
        assert_int_equal(tree_set(d->tree, "later", (int64_t)seed), 0);
        simvfs_crash(d->vfs);
        tree_close(d->tree);
        d->tree = NULL;
        simvfs_restart(d->vfs, true);
        reopen(d);
        assert_int_equal(tree_get(d->tree, "limit", &v), 0);
        assert_int_equal(v, seed);
        assert_int_equal(tree_get(d->tree, "plain", &v), 0); /* what came before it, too */
        assert_int_equal(v, seed);
    }
}

static void test_flush_survives_power_loss(void **state)
{
    struct disk *d = *state;
    int64_t v;
    assert_int_equal(tree_set(d->tree, "x", 7), 0);
    assert_int_equal(tree_flush(d->tree), 0);
    simvfs_crash(d->vfs);
    tree_close(d->tree);
    d->tree = NULL;
    simvfs_restart(d->vfs, true);
    reopen(d);
    assert_int_equal(tree_get(d->tree, "x", &v), 0);
}

/* A tree of the first version, as it was written then. */
static void test_migrates(void **state)
{
    struct disk *d = *state;
    static const char *const old[] = {
        "INSERT INTO node VALUES(5, 1, 1, 420, 0, 0, 0, 3, 1, 1, 1, 1, 3, NULL, 0, 7, 7, 0, NULL, "
        "1, 0, 0, 0, 0,"
        " 0, 0, 0, 0, 0, 1, 2, 0)",
        "INSERT INTO entry VALUES(9, 1, 1, CAST('a (conflicted copy, x, 2020-01-01)' AS BLOB), 5, "
        "1, 5, 1, 7, 0, 0,"
        " 0, 0, 0, 0)",
        "INSERT INTO entry VALUES(10, 1, 1, x'62', 5, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1)",
        "INSERT INTO ns(id, name, root, role, cursor, head) VALUES(3, x'61', 4, 2, 7, 7)",
        "INSERT INTO sent VALUES(77, 3, x'00', 0, 7)",
        "INSERT INTO meta VALUES('request_limit', 4097)",
        ("INSERT INTO node VALUES(6, 1, 1, 420, 0, 0, 0, 0, 1, 1, 1, 0, 0, NULL, 0, 0, 0, 0, NULL, "
         "1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0, 0)"),
        "PRAGMA user_version = 1",
    };
    sqlite3 *db;
    tree_close(d->tree);
    d->tree = NULL;
    simvfs_reset(d->vfs, 1);
    assert_int_equal(sqlite3_open_v2("tree.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                     simvfs_name(d->vfs)),
                     SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql_schema, NULL, NULL, NULL), SQLITE_OK);
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        assert_int_equal(sqlite3_exec(db, old[i], NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    reopen(d);
    sqlite3_stmt *s =
        tree_stmt(d->tree, "SELECT count(*) FROM entry WHERE ns = 1 AND node != 0 AND"
                           " instr(name, x'2028636f6e666c696374656420636f70792c20') > 0");
    assert_int_equal(tree_step(d->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 1);
    sqlite3_reset(s);
    s = tree_stmt(d->tree,
                  "SELECT size, stored, content_rev, tries, gone, links FROM node WHERE id = 5");
    assert_int_equal(tree_step(d->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 3);
    assert_int_equal(sqlite3_column_int(s, 2), 7);
    assert_int_equal(sqlite3_column_int(s, 3), 2);
    assert_int_equal(sqlite3_column_type(s, 5), SQLITE_INTEGER);
    assert_int_equal(sqlite3_column_int(s, 5), 0);
    sqlite3_reset(s);
    s = tree_stmt(d->tree, "SELECT request, cursor, since FROM sent");
    assert_int_equal(tree_step(d->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 77);
    assert_int_equal(sqlite3_column_int(s, 1), 7);
    assert_int_equal(sqlite3_column_type(s, 2), SQLITE_INTEGER);
    assert_int_equal(sqlite3_column_int(s, 2), 0);
    sqlite3_reset(s);
    s = tree_stmt(d->tree, "SELECT id FROM entry INDEXED BY entry_pending_node WHERE node = 5"
                           " AND node != 0 AND (pend != 0 OR request != 0)");
    assert_int_equal(tree_step(d->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 10);
    assert_int_equal(tree_step(d->tree, s), 0);
    s = tree_stmt(d->tree, "SELECT planned, lost_from, lost_to,"
                           " (SELECT group_concat(again) FROM (SELECT again FROM node ORDER BY id))"
                           " FROM ns WHERE id = 3");
    assert_int_equal(tree_step(d->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    assert_int_equal(sqlite3_column_int(s, 1), 0);
    assert_int_equal(sqlite3_column_int(s, 2), 4097); /* whatever was planned may be forgotten */
    assert_string_equal((const char *)sqlite3_column_text(s, 3), "0,1");
    sqlite3_reset(s);
    s = tree_stmt(d->tree, "SELECT (SELECT other FROM ns WHERE id = 3), count(*) FROM mark");
    assert_int_equal(tree_step(d->tree, s), 1);
    assert_int_equal(sqlite3_column_type(s, 0), SQLITE_INTEGER);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    assert_int_equal(sqlite3_column_int(s, 1), 0);
    sqlite3_reset(s);
}

static void test_newer_version(void **state)
{
    struct disk *d = *state;
    struct tree *t;
    char why[512] = "";
    assert_int_equal(sqlite3_exec(tree_db(d->tree), "PRAGMA user_version = 999", NULL, NULL, NULL),
                     SQLITE_OK);
    tree_close(d->tree);
    d->tree = NULL;
    assert_int_equal(tree_open(&t, "tree.db", simvfs_name(d->vfs), why), -EPROTO);
    assert_non_null(strstr(why, "newer"));
}

static struct tree *open_file(char *path)
{
    struct tree *t;
    char why[512];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tree_open(&t, path, NULL, why), 0);
    return t;
}

static void remove_file(const char *path)
{
    static const char *const of[] = {"", "-wal", ".note"};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", path, of[i]);
        unlink(name);
    }
}

/* A file of its own, and another process that wants it. */
static void test_in_use(void **state)
{
    char path[] = "/tmp/test_tree_XXXXXX";
    int status;
    (void)state;
    struct tree *t = open_file(path);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* a program of its own: SQLite would take its parent's lock for its own */
        execl("/proc/self/exe", "test_tree", path, (char *)NULL);
        _exit(2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    tree_close(t);
    char why[512];
    assert_int_equal(tree_open(&t, path, NULL, why), 0);
    tree_close(t);
    remove_file(path);
}

struct copier {
    struct tree *t;
    int err;
};

static void *copy_log(void *arg)
{
    struct copier *c = arg;
    c->err = tree_checkpoint(c->t);
    return NULL;
}

/* By another thread while this one goes on committing; then the log begins anew. */
static void test_log_is_copied_beside_commits(void **state)
{
    char path[] = "/tmp/test_tree_XXXXXX", wal[64], key[16];
    struct stat st;
    (void)state;
    struct tree *t = open_file(path);
    int64_t v, n = 0;
    while (!tree_log_long(t)) {
        snprintf(key, sizeof key, "%d", (int)(n % 1000));
        assert_int_equal(tree_set(t, key, n++), 0);
    }
    assert_true(tree_checkpoint_begin(t));
    struct copier c = {.t = t};
    pthread_t copier;
    assert_int_equal(pthread_create(&copier, NULL, copy_log, &c), 0);
    for (int i = 0; i < 500; i++)
        assert_int_equal(tree_set(t, "beside", i), 0);
    pthread_join(copier, NULL);
    assert_int_equal(c.err, 0);
    assert_int_equal(tree_checkpoint_end(t), 0);
    assert_false(tree_log_long(t));
    snprintf(wal, sizeof wal, "%s-wal", path);
    assert_int_equal(stat(wal, &st), 0);
    off_t before = st.st_size;
    for (int i = 0; i < 500; i++)
        assert_int_equal(tree_set(t, "after", i), 0);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_size, before); /* from its beginning again */
    assert_false(tree_log_long(t));
    assert_int_equal(tree_get(t, "beside", &v), 0);
    assert_int_equal(v, 499);
    tree_close(t);
    char why[512];
    assert_int_equal(tree_open(&t, path, NULL, why), 0);
    assert_int_equal(tree_get(t, "after", &v), 0);
    assert_int_equal(v, 499);
    tree_close(t);
    remove_file(path);
}

static void test_damaged(void **state)
{
    char path[] = "/tmp/test_tree_XXXXXX", why[512] = "", junk[8192];
    struct tree *t;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    memset(junk, 'x', sizeof junk);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    close(fd);
    assert_int_equal(tree_open(&t, path, NULL, why), -EUCLEAN);
    assert_non_null(strstr(why, path));
    unlink(path);
}

static void test_full_disk(void **state)
{
    struct disk *d = *state;
    int64_t v;
    char *big = test_calloc(1, 1 << 20);
    assert_int_equal(sqlite3_exec(tree_db(d->tree), "PRAGMA max_page_count = 60", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(tree_begin(d->tree), 0);
    assert_int_equal(tree_set(d->tree, "before", 1), 0);
    assert_int_equal(tree_set_blob(d->tree, "big", big, 1 << 20), -ENOSPC);
    assert_true(tree_end(d->tree, true) != 0); /* nothing of it is kept */
    assert_int_equal(tree_get(d->tree, "before", &v), -ENOENT);
    assert_int_equal(tree_set(d->tree, "after", 1), 0);
    test_free(big);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* With an argument: 0 if the tree there is in use by somebody else. */
static int try_open(const char *path)
{
    struct tree *t = NULL;
    char why[512] = "";
    int r = tree_open(&t, path, NULL, why);
    if (!r)
        tree_close(t);
    return r == -EBUSY && strstr(why, "in use") ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return try_open(argv[1]);
    const struct CMUnitTest tests[] = {
        T(test_values),
        T(test_transactions_nest),
        T(test_version),
        T(test_reserved_survives_power_loss),
        T(test_flush_survives_power_loss),
        T(test_migrates),
        T(test_newer_version),
        T(test_in_use),
        T(test_log_is_copied_beside_commits),
        T(test_damaged),
        T(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
