// SPDX-License-Identifier: Apache-2.0
/* What is read of a damaged file and its log, with pages of today's size and of the first
 * version's. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "dbrescue.h"

#define ROWS 50

struct files {
    char dir[32], db[64], wal[64], sound[64], out[64];
};

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static sqlite3 *make(const char *path, unsigned page)
{
    sqlite3 *db;
    char sql[64];
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    snprintf(sql, sizeof sql, "PRAGMA page_size = %u; PRAGMA journal_mode = WAL", page);
    run(db, sql);
    run(db, "PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
            "CREATE INDEX t_b ON t(b)");
    return db;
}

static void copy(const char *from, const char *to)
{
    char buf[4096];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    assert_non_null(in);
    assert_non_null(out);
    for (size_t n; (n = fread(buf, 1, sizeof buf, in)) > 0;)
        assert_int_equal(fwrite(buf, 1, n, out), n);
    fclose(in);
    fclose(out);
}

static void overwrite(const char *path, off_t off, size_t n)
{
    char junk[8192];
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && n <= sizeof junk);
    memset(junk, 'x', sizeof junk);
    assert_int_equal(pwrite(fd, junk, n, off), n);
    close(fd);
}

static int setup(void **state)
{
    struct files *f = test_calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/test_dbrescue_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->db, sizeof f->db, "%s/x.db", f->dir);
    snprintf(f->wal, sizeof f->wal, "%s/x.db-wal", f->dir);
    snprintf(f->sound, sizeof f->sound, "%s/sound.db", f->dir);
    snprintf(f->out, sizeof f->out, "%s/out.db", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct files *f = *state;
    unlink(f->db);
    unlink(f->wal);
    unlink(f->sound);
    unlink(f->out);
    rmdir(f->dir);
    test_free(f);
    return 0;
}

/* As a crash leaves them: ROWS rows, each a transaction, in the log alone or (copied) in the file
 * alone. */
static void crashed(const struct files *f, unsigned page, bool copied)
{
    char live[64], wal[80];
    snprintf(live, sizeof live, "%s/live.db", f->dir);
    snprintf(wal, sizeof wal, "%s-wal", live);
    sqlite3_close(make(f->sound, page));
    sqlite3 *db = make(live, page);
    for (int i = 0; i < ROWS; i++)
        run(db, "INSERT INTO t(b) VALUES(hex(randomblob(100)))");
    if (copied)
        run(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    copy(live, f->db);
    copy(wal, f->wal);
    sqlite3_close(db);
    unlink(live);
}

static int rows_of(const struct files *f, bool *torn)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    assert_int_equal(db_rescue(f->db, f->out, f->sound, torn), 0);
    assert_int_equal(sqlite3_open(f->out, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM t NOT INDEXED", -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int n = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static void sound_log(struct files *f, unsigned page)
{
    bool torn;
    crashed(f, page, false);
    assert_int_equal(db_page_size(f->db), page);
    assert_int_equal(rows_of(f, &torn), ROWS);
    assert_false(torn);
}

static void damaged_log_header(struct files *f, unsigned page)
{
    bool torn;
    crashed(f, page, false);
    overwrite(f->wal, 0, 32);
    assert_int_equal(db_page_size(f->db), page);
    assert_int_equal(rows_of(f, &torn), ROWS);
    assert_true(torn);
}

static void damaged_first_page(struct files *f, unsigned page)
{
    bool torn;
    crashed(f, page, true);
    assert_int_equal(db_page_size(f->db), page);
    overwrite(f->db, 16, page - 16);
    assert_int_equal(rows_of(f, &torn), ROWS);
    assert_true(torn);
}

#define BOTH(f)                                                                                    \
    static void f##_2048(void **state)                                                             \
    {                                                                                              \
        f(*state, 2048);                                                                           \
    }                                                                                              \
    static void f##_4096(void **state)                                                             \
    {                                                                                              \
        f(*state, 4096);                                                                           \
    }
BOTH(sound_log)
BOTH(damaged_log_header)
BOTH(damaged_first_page)

static void nothing_to_read(void **state)
{
    struct files *f = *state;
    assert_int_equal(db_page_size(f->db), 0);
    FILE *o = fopen(f->db, "w");
    assert_non_null(o);
    fputs("no database", o);
    fclose(o);
    assert_int_equal(db_page_size(f->db), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(sound_log_2048),          T(sound_log_4096),          T(damaged_log_header_2048),
        T(damaged_log_header_4096), T(damaged_first_page_2048), T(damaged_first_page_4096),
        T(nothing_to_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
