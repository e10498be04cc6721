// SPDX-License-Identifier: Apache-2.0
/* A log that is not its database's is noticed before SQLite applies it; one that is, is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "walfile.h"
#include "walkeeper.h"
#include "walpair.h"

#define PAGES 50
#define WAIT_S 30

struct files {
    char dir[40], db[64], wal[80], shm[80], note[80], copy[80];
    char why[512];
};

static int setup(void **state)
{
    struct files *f = test_calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/test_walpair_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->db, sizeof f->db, "%s/x.db", f->dir);
    snprintf(f->wal, sizeof f->wal, "%s-wal", f->db);
    snprintf(f->shm, sizeof f->shm, "%s-shm", f->db);
    snprintf(f->note, sizeof f->note, "%s-file", f->db);
    snprintf(f->copy, sizeof f->copy, "%s/copy", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct files *f = *state;
    unlink(f->db);
    unlink(f->wal);
    unlink(f->shm);
    unlink(f->note);
    unlink(f->copy);
    assert_int_equal(rmdir(f->dir), 0);
    test_free(f);
    return 0;
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static void rows(sqlite3 *db, int n)
{
    for (int i = 0; i < n; i++)
        run(db, "INSERT INTO t(b) VALUES(randomblob(3000))");
}

/* Until the keeper has copied the log, if it does. */
static bool rests(const struct files *f)
{
    char head[8] = "";
    int fd = open(f->note, O_RDONLY);
    bool read_it = fd >= 0 && read(fd, head, sizeof head - 1) > 0;
    close(fd);
    return read_it && strcmp(head, "changes") != 0;
}

/* As a server does: n rows, then it is killed, or (whole) ends. */
static void serve(const struct files *f, int n, bool whole)
{
    pid_t pid = fork();
    if (pid) {
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        return;
    }
    sqlite3 *db;
    walpair_changes(f->db);
    if (sqlite3_open_v2(f->db, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
        _exit(2);
    run(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
            "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)");
    walfile_reserve(db, f->db, 1 << 20);
    struct walkeeper *k = walkeeper_new(db, f->db, PAGES);
    rows(db, n);
    if (whole) {
        walkeeper_free(k);
        sqlite3_close(db);
        _exit(walpair_end(f->db) ? 3 : 0);
    }
    for (time_t end = time(NULL) + WAIT_S; !rests(f); usleep(1000))
        if (time(NULL) > end)
            _exit(4);
    _exit(0); /* nothing is closed */
}

static void copy_file(const char *from, const char *to)
{
    char buf[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buf, sizeof buf)) > 0;)
        assert_int_equal(write(out, buf, (size_t)n), n);
    close(in);
    close(out);
}

static int check(struct files *f)
{
    return walpair_check(f->db, f->why);
}

static bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

static void set_time(const char *path, time_t t)
{
    const struct timespec v[2] = {{.tv_sec = t}, {.tv_sec = t}};
    assert_int_equal(utimensat(AT_FDCWD, path, v, 0), 0);
}

/* After a clean end nothing is there that a copy could meet. */
static void test_a_clean_end_leaves_no_log(void **state)
{
    struct files *f = *state;
    serve(f, 100, true);
    assert_true(there(f->db));
    assert_false(there(f->wal) || there(f->shm) || there(f->note));
    serve(f, 3, true);
    assert_int_equal(check(f), 0);
}

static void replace_by_copy(const struct files *f, const char *path)
{
    copy_file(path, f->copy);
    assert_int_equal(rename(f->copy, path), 0);
}

/* Database, log and note were copied after a crash, and what is copied back gets, by chance, the
 * number that the log had. */
static void test_a_number_that_is_used_again(void **state)
{
    struct files *f = *state;
    char note[256] = "", boot[64], *rest = note;
    struct stat wal;
    uintmax_t number;
    int n = 0;
    serve(f, 4 * PAGES, false);
    assert_int_equal(check(f), 0);
    replace_by_copy(f, f->db);
    replace_by_copy(f, f->wal);
    assert_int_equal(stat(f->wal, &wal), 0);
    FILE *file = fopen(f->note, "r+");
    assert_non_null(file);
    assert_non_null(fgets(note, sizeof note, file));
    assert_int_equal(sscanf(note, "%63s %ju%n", boot, &number, &n), 2);
    assert_true(number != wal.st_ino);
    rest += n;
    rewind(file);
    fprintf(file, "%s %ju%s", boot, (uintmax_t)wal.st_ino, rest);
    assert_int_equal(ftruncate(fileno(file), ftell(file)), 0);
    fclose(file);
    assert_int_equal(check(f), 0);
}

static void test_a_crash_leaves_its_own_log(void **state)
{
    struct files *f = *state;
    for (int i = 0; i < 4; i++) { /* with and without a copy of the log made meanwhile */
        serve(f, i % 2 ? 400 : 3, false);
        assert_true(there(f->wal));
        assert_int_equal(check(f), 0);
    }
    walpair_changes(f->db); /* it ended while the log was copied */
    set_time(f->db, 1000000000);
    assert_int_equal(check(f), 0);
}

static void test_an_older_copy_does_not_meet_the_log(void **state)
{
    struct files *f = *state;
    struct stat st;
    serve(f, 3, true);
    copy_file(f->db, f->copy);
    serve(f, 300, false);
    assert_int_equal(check(f), 0);
    copy_file(f->copy, f->db); /* cp */
    assert_int_equal(check(f), -EUCLEAN);
    assert_non_null(strstr(f->why, "remove the files -wal"));
    assert_int_equal(stat(f->copy, &st), 0);
    set_time(f->db, st.st_mtime - 100); /* cp -p */
    assert_int_equal(check(f), -EUCLEAN);
    assert_int_equal(rename(f->copy, f->db), 0); /* mv */
    assert_int_equal(check(f), -EUCLEAN);
    unlink(f->db);
    assert_int_equal(check(f), -ENOENT);
    unlink(f->wal);
    assert_int_equal(check(f), 0);
}

/* All of it was copied, and its times were not. */
static void test_a_whole_copy_is_good(void **state)
{
    struct files *f = *state;
    serve(f, 300, false);
    copy_file(f->db, f->copy);
    assert_int_equal(rename(f->copy, f->db), 0);
    assert_int_equal(check(f), -EUCLEAN);
    copy_file(f->wal, f->copy);
    assert_int_equal(rename(f->copy, f->wal), 0);
    assert_int_equal(check(f), 0);
}

/* The note is of another boot, or there is none. */
static void test_after_another_boot(void **state)
{
    struct files *f = *state;
    serve(f, 300, false);
    for (int i = 0; i < 2; i++) {
        unlink(f->note);
        if (i) {
            copy_file("/proc/sys/kernel/random/uuid", f->note);
        }
        set_time(f->wal, time(NULL));
        assert_int_equal(check(f), 0);
        set_time(f->wal, 1000000000);
        assert_int_equal(check(f), -EUCLEAN);
        set_time(f->db, 1000000100);
        assert_int_equal(check(f), 0);
        set_time(f->db, time(NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_clean_end_leaves_no_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_number_that_is_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_crash_leaves_its_own_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_older_copy_does_not_meet_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_whole_copy_is_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_another_boot, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
