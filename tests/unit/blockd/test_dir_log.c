// SPDX-License-Identifier: Apache-2.0
/* An index with another one's log beside it is not opened; with its own it always is, whenever the
 * two were left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "dir_db.h"
#include "durable.h"
#include "tempdir.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 1000000u /* nine fill a log */
#define FILE_BYTES_MAX (256u << 20)
static const uint8_t name[INCARNATION_LEN] = {1};

static struct dir_db *open_db(const char *dir)
{
    struct dir_db *d = NULL;
    char err[512] = "";
    if (dir_db_open(&d, dir, name, err))
        fail_msg("%s", err);
    return d;
}

static void put(struct dir_db *d, unsigned seed)
{
    struct dir_record v = {.stored_len = SIZE, .logical_len = SIZE};
    uint8_t *p = block_make(SIZE, seed, &v.id);
    v.data = (struct bytes){p, SIZE};
    dir_db_put(d, 1, &v, 1);
    assert_int_equal(v.err, 0);
    free(p);
}

static uint64_t blocks_in(const char *dir)
{
    struct dir_db *d = open_db(dir);
    uint64_t blocks, bytes;
    dir_db_totals(d, &blocks, &bytes);
    dir_db_close(d);
    return blocks;
}

/* Copies a file, or removes it where there is none. */
static void copy(const char *from, const char *to, const char *file)
{
    struct buf b cleanup_buf = {0};
    if (durable_read(from, file, FILE_BYTES_MAX, &b))
        assert_int_equal(durable_remove(to, file), 0);
    else
        assert_int_equal(durable_write(to, file, b.p, b.n, 0600), 0);
}

static void expect_refused(const char *dir)
{
    struct dir_db *d = NULL;
    char err[512] = "";
    assert_int_equal(dir_db_open(&d, dir, name, err), -EUCLEAN);
    assert_non_null(strstr(err, "index.db-wal is not the log of this index.db"));
    assert_null(d);
}

/* Puts until the log has begun anew some times. */
static void fill(struct dir_db *d, unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put(d, from + i);
}

static void test_another_log(void **state)
{
    (void)state;
    char *dir = tempdir_make(), *old = tempdir_make(), *other = tempdir_make();
    struct dir_db *d = open_db(dir);
    put(d, 1);
    dir_db_close(d);
    copy(dir, old, "index.db");
    d = open_db(dir);
    fill(d, 100, 30); /* three logs' worth */
    dir_db_close(d);
    copy(dir, other, "index.db");
    copy(dir, other, "index.db-wal");
    copy(old, dir, "index.db"); /* the older copy beside the newer log */
    expect_refused(dir);
    expect_refused(dir); /* and nothing is changed by asking */
    assert_int_equal(durable_remove(dir, "index.db-wal"), 0);
    assert_int_equal(durable_remove(dir, "index.db-shm"), 0);
    assert_int_equal(blocks_in(dir), 1);
    assert_int_equal(blocks_in(other), 31);
    /* an unrelated one's */
    char *third = tempdir_make();
    d = open_db(third);
    put(d, 1);
    dir_db_close(d);
    copy(third, dir, "index.db-wal");
    assert_int_equal(durable_remove(dir, "index.db-shm"), 0);
    expect_refused(dir);
    assert_int_equal(blocks_in(third), 1);
    tempdir_remove(third);
    tempdir_remove(other);
    tempdir_remove(old);
    tempdir_remove(dir);
}

/* As a kill leaves them: at every moment, from the first commit of the first log on. */
static void test_its_own_log(void **state)
{
    (void)state;
    char *dir = tempdir_make(), *at = tempdir_make();
    unsigned n = 0;
    for (int start = 0; start < 3; start++) {
        struct dir_db *d = open_db(dir);
        for (unsigned i = 0; i < 11; i++) { /* more than a log's worth */
            if (i % 3 == 0 || i == 1) {
                copy(dir, at, "index.db");
                copy(dir, at, "index.db-wal");
                copy(dir, at, "index.anew");
                assert_int_equal(durable_remove(at, "index.db-shm"), 0);
                assert_int_equal(blocks_in(at), n);
            }
            put(d, n++);
        }
        dir_db_close(d);
        if (start == 1) { /* the log is taken away with all in its place, as some backups do */
            assert_int_equal(durable_remove(dir, "index.db-wal"), 0);
            assert_int_equal(durable_remove(dir, "index.db-shm"), 0);
        }
    }
    assert_int_equal(blocks_in(dir), n);
    tempdir_remove(at);
    tempdir_remove(dir);
}

/* Killed at any moment, logs that have just begun anew among them: opened again with all that was
 * acknowledged. */
static void test_killed(void **state)
{
    (void)state;
    static const unsigned puts[] = {1, 8, 2, 9, 10, 17};
    char *dir = tempdir_make();
    unsigned done = 0;
    for (size_t round = 0; round < sizeof puts / sizeof *puts; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            struct dir_db *d = open_db(dir);
            for (unsigned i = done;; i++) {
                put(d, i);
                if (write(fds[1], "x", 1) != 1)
                    _exit(1);
            }
        }
        close(fds[1]);
        char c;
        for (unsigned i = 0; i < puts[round]; i++)
            assert_int_equal(read(fds[0], &c, 1), 1);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        unsigned acknowledged = puts[round];
        while (read(fds[0], &c, 1) == 1)
            acknowledged++;
        close(fds[0]);
        uint64_t blocks = blocks_in(dir);
        assert_true(blocks == done + acknowledged || blocks == done + acknowledged + 1);
        done = (unsigned)blocks;
    }
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_log),
        cmocka_unit_test(test_its_own_log),
        cmocka_unit_test(test_killed),
    };
    return cmocka_run_group_tests_name("the log of the index", tests, NULL, NULL);
}
