// SPDX-License-Identifier: Apache-2.0
/* What lies in a directory storage without being in its index is taken in for whoever may claim it;
 * what is not what it is named after is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "durable.h"
#include "takein.h"
#include "tempdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEN 300000u
enum { N = 5 };

/* A storage of N blocks for namespace 1 (the last for 2, too), closed; what is done to it. */
struct env {
    char *dir;
    struct block_id ids[N];
    uint8_t *p[N];
    char *files[N]; /* paths */
};

static char *path_in(const char *dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

static struct storage *open_dir(const char *dir)
{
    struct storage *s = NULL;
    char err[512];
    if (storage_dir_open(&s, dir, err))
        fail_msg("%s", err);
    return s;
}

/* The first file of a directory whose name begins so; malloc'd path, or NULL. */
static char *file_in(const char *dir, const char *sub, const char *begin)
{
    char *path = path_in(dir, sub), *found = NULL;
    DIR *d = opendir(path);
    for (struct dirent *e; d && !found && (e = readdir(d));)
        if (e->d_name[0] != '.' && !strncmp(e->d_name, begin, strlen(begin)))
            found = path_in(path, e->d_name);
    if (d)
        closedir(d);
    free(path);
    return found;
}

static size_t files_in(const char *dir, const char *sub)
{
    char *path = path_in(dir, sub);
    DIR *d = opendir(path);
    size_t n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    free(path);
    return n;
}

static void remove_index(const char *dir)
{
    static const char *const names[] = {"index.db", "index.db-wal", "index.db-shm"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(durable_remove(dir, names[i]), 0);
}

static int set_up(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    char hex[BLOCK_HEX_LEN + 1];
    assert_non_null(e);
    e->dir = tempdir_make();
    struct storage *s = open_dir(e->dir);
    for (unsigned i = 0; i < N; i++) {
        e->p[i] = block_make(LEN, i + 1, &e->ids[i]);
        assert_int_equal(put_one(s, 1, &e->ids[i], e->p[i], LEN), 0);
        block_id_hex(&e->ids[i], hex);
        assert_non_null(e->files[i] = file_in(e->dir, "blocks/00000001", hex));
    }
    assert_int_equal(put_one(s, 2, &e->ids[N - 1], e->p[N - 1], LEN), 0);
    s->ops->close(s);
    *state = e;
    return 0;
}

static int tear_down(void **state)
{
    struct env *e = *state;
    for (unsigned i = 0; i < N; i++) {
        free(e->p[i]);
        free(e->files[i]);
    }
    tempdir_remove(e->dir);
    free(e);
    return 0;
}

static void flip(const char *path)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 1000), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 1000), 1);
    close(fd);
}

static void reindex(struct env *e, struct takein_sums *sums)
{
    char err[512];
    if (takein_all(e->dir, NULL, NULL, sums, err))
        fail_msg("%s", err);
}

static void count_dir(void *arg, unsigned number, unsigned dirs)
{
    (void)number;
    *(unsigned *)arg += dirs;
}

static void test_an_index_made_again(void **state)
{
    struct env *e = *state;
    struct takein_sums sums;
    uint8_t was[INCARNATION_LEN], is[INCARNATION_LEN];
    char err[512];
    unsigned seen = 0;
    struct storage *s = open_dir(e->dir);
    s->ops->incarnation(s, was);
    assert_int_equal(takein_all(e->dir, NULL, NULL, &sums, err), -EBUSY);
    s->ops->close(s);
    remove_index(e->dir);
    flip(e->files[0]);
    char *strange = path_in(e->dir, "blocks/00000001/notes.txt");
    int fd = open(strange, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(takein_all(e->dir, count_dir, &seen, &sums, err), 0);
    assert_int_equal(seen, 1);
    assert_int_equal(sums.blocks, N - 1);
    assert_int_equal(sums.bytes, (N - 1) * (uint64_t)LEN);
    assert_int_equal(sums.wrong, 1);
    assert_int_equal(sums.strange, 1);
    assert_int_equal(sums.doubles, 0);
    assert_int_equal(files_in(e->dir, "corrupt"), 1);
    assert_int_equal(access(strange, F_OK), 0);
    free(strange);

    s = open_dir(e->dir);
    s->ops->incarnation(s, is);
    assert_memory_not_equal(was, is, sizeof was);
    struct storage_usage u;
    s->ops->usage(s, &u);
    assert_int_equal(u.blocks, N - 1);
    /* nobody has them; whoever claims some gets those, and no other */
    for (unsigned i = 0; i < N; i++)
        expect_absent(s, 1, &e->ids[i]);
    struct storage_held h[N];
    size_t n;
    assert_int_equal(s->ops->held(s, NULL, h, N, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(s->ops->claim(s, 1, e->ids, 2), 0);
    assert_int_equal(s->ops->claim(s, 2, &e->ids[N - 1], 1), 0);
    expect_absent(s, 1, &e->ids[0]);
    expect_block(s, 1, &e->ids[1], e->p[1], LEN);
    expect_block(s, 2, &e->ids[N - 1], e->p[N - 1], LEN);
    expect_absent(s, 2, &e->ids[1]);
    expect_absent(s, 1, &e->ids[N - 1]);
    assert_int_equal(s->ops->claim(s, 1, &e->ids[N - 1], 1), 0); /* a second one as well */
    expect_block(s, 1, &e->ids[N - 1], e->p[N - 1], LEN);
    assert_int_equal(s->ops->held(s, NULL, h, N, &n), 0);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        assert_true(h[i].generation > s->found);
    s->ops->close(s);
    s = open_dir(e->dir); /* over a start, too */
    assert_int_equal(s->ops->claim(s, 1, &e->ids[2], 1), 0);
    expect_block(s, 1, &e->ids[2], e->p[2], LEN);
    s->ops->close(s);
}

/* What was put for somebody is nobody else's, whoever asks. */
static void test_only_what_was_taken_in_is_claimed(void **state)
{
    struct env *e = *state;
    struct storage *s = open_dir(e->dir);
    assert_int_equal(s->ops->claim(s, 3, e->ids, N), 0);
    for (unsigned i = 0; i < N; i++)
        expect_absent(s, 3, &e->ids[i]);
    s->ops->close(s);
    char *away = path_in(e->dir, "away"); /* nor beside some that were taken in */
    assert_int_equal(rename(e->files[0], away), 0);
    s = open_dir(e->dir);
    assert_int_equal(s->ops->set_aside(s, &e->ids[0]), 0);
    s->ops->close(s);
    assert_int_equal(rename(away, e->files[0]), 0);
    struct takein_sums sums;
    reindex(e, &sums);
    assert_int_equal(sums.blocks, 1);
    s = open_dir(e->dir);
    assert_int_equal(s->ops->claim(s, 3, e->ids, N), 0);
    expect_block(s, 3, &e->ids[0], e->p[0], LEN);
    for (unsigned i = 1; i < N; i++) {
        expect_absent(s, 3, &e->ids[i]);
        expect_block(s, 1, &e->ids[i], e->p[i], LEN);
    }
    s->ops->close(s);
    free(away);
}

/* It is killed in the middle: what was taken in stays, and the next run does the rest. Files that
 * others have brought again meanwhile are doubles. */
static void test_again_and_again(void **state)
{
    struct env *e = *state;
    struct takein_sums sums;
    remove_index(e->dir);
    char *away[2] = {path_in(e->dir, "away0"), path_in(e->dir, "away1")};
    for (int i = 0; i < 2; i++)
        assert_int_equal(rename(e->files[i], away[i]), 0);
    reindex(e, &sums);
    assert_int_equal(sums.blocks, N - 2);
    struct storage *s = open_dir(e->dir);
    assert_int_equal(put_one(s, 1, &e->ids[0], e->p[0], LEN), 0);
    assert_int_equal(put_one(s, 1, &e->ids[2], e->p[2], LEN), 0); /* is compared, and held */
    s->ops->close(s);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rename(away[i], e->files[i]), 0);
        free(away[i]);
    }
    reindex(e, &sums);
    assert_int_equal(sums.blocks, 1);
    assert_int_equal(sums.doubles, 1);
    assert_int_equal(files_in(e->dir, "blocks/00000001"), N);
    assert_int_equal(files_in(e->dir, "corrupt"), 0);
    reindex(e, &sums);
    assert_int_equal(sums.blocks + sums.doubles + sums.wrong + sums.strange, 0);
    s = open_dir(e->dir);
    assert_string_equal(s->notice, "");
    expect_block(s, 1, &e->ids[0], e->p[0], LEN);
    expect_block(s, 1, &e->ids[2], e->p[2], LEN);
    assert_int_equal(s->ops->claim(s, 1, e->ids, N), 0);
    for (unsigned i = 0; i < N; i++)
        expect_block(s, 1, &e->ids[i], e->p[i], LEN);
    s->ops->close(s);
}

/* A file that the index was about to have removed is not taken for a block of it. */
static void test_doomed_files(void **state)
{
    struct env *e = *state;
    struct takein_sums sums;
    char *path = path_in(e->dir, "index.db"), *sql;
    sqlite3 *db;
    struct storage *s = open_dir(e->dir);
    uint64_t generation;
    struct storage_collected c = {0};
    char *copy = path_in(e->dir, "copy");
    assert_int_equal(link(e->files[0], copy), 0);
    assert_int_equal(s->ops->raise(s, &generation), 0);
    assert_int_equal(s->ops->collect(s, 1, &e->ids[0], 1, generation, &c), 0);
    s->ops->close(s);
    assert_int_equal(rename(copy, e->files[0]), 0);
    assert_true(
        asprintf(&sql, "INSERT INTO doomed VALUES ('%s')", strstr(e->files[0], "00000001/")) > 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    reindex(e, &sums);
    assert_int_equal(sums.blocks, 0);
    assert_int_equal(files_in(e->dir, "blocks/00000001"), N - 1);
    free(path);
    free(sql);
    free(copy);
}

/* What was set aside and is right comes back; what is wrong stays aside, and what is here already
 * is not touched. */
static void test_back_from_corrupt(void **state)
{
    struct env *e = *state;
    struct takein_sums sums;
    struct block_id small;
    char hex[BLOCK_HEX_LEN + 1], err[512], *to[3];
    uint8_t *p = block_make(5000, 77, &small);
    struct storage *s = open_dir(e->dir);
    assert_int_equal(put_one(s, 1, &small, p, 5000), 0);
    for (unsigned i = 0; i < 3; i++) { /* as a controller would that reads wrong for a while */
        block_id_hex(&e->ids[i], hex);
        flip(e->files[i]);
        assert_int_equal(s->ops->set_aside(s, &e->ids[i]), 0);
        assert_non_null(to[i] = file_in(e->dir, "corrupt", hex));
        if (i != 1)
            flip(to[i]);
    }
    assert_int_equal(put_one(s, 1, &e->ids[2], e->p[2], LEN), 0);
    s->ops->close(s);
    block_id_hex(&small, hex);
    char *aside = path_in(e->dir, "corrupt/"), *name = path_in(aside, hex);
    assert_int_equal(durable_write(aside, hex, p, 5000, 0600), 0);
    reindex(e, &sums);
    assert_int_equal(sums.blocks, 1); /* the small one is here */
    assert_int_equal(files_in(e->dir, "corrupt"), 3);
    assert_int_equal(access(to[0], F_OK), -1);
    remove_index(e->dir); /* with it goes the small one */
    reindex(e, &sums);
    assert_int_equal(sums.blocks, N - 1 + 1);
    assert_int_equal(files_in(e->dir, "corrupt"), 2);
    assert_int_equal(access(name, F_OK), -1);
    assert_int_equal(files_in(e->dir, "tmp"), 0);
    s = open_dir(e->dir);
    assert_int_equal(s->ops->claim(s, 1, e->ids, N), 0);
    assert_int_equal(s->ops->claim(s, 1, &small, 1), 0);
    expect_block(s, 1, &e->ids[0], e->p[0], LEN);
    expect_block(s, 1, &small, p, 5000);
    expect_absent(s, 1, &e->ids[1]);
    s->ops->close(s);
    assert_int_equal(takein_all("/dev/null", NULL, NULL, &sums, err), -ENOTDIR);
    for (unsigned i = 0; i < 3; i++)
        free(to[i]);
    free(aside);
    free(name);
    free(p);
}

static void note_compared(struct env *e, const uint8_t name[INCARNATION_LEN], unsigned generation)
{
    struct buf b cleanup_buf = {0};
    for (size_t i = 0; i < INCARNATION_LEN; i++)
        buf_printf(&b, "%02x", name[i]);
    buf_printf(&b, " %u 1 2\n", generation);
    assert_int_equal(durable_write(e->dir, "compared", b.p, b.n, 0600), 0);
}

/* What nobody claims goes when that is asked for, and not before all was compared. */
static void test_drop(void **state)
{
    struct env *e = *state;
    struct takein_sums sums;
    struct storage_collected c;
    uint8_t name[INCARNATION_LEN];
    char err[512];
    uint64_t generation;
    remove_index(e->dir);
    reindex(e, &sums);
    struct storage *s = open_dir(e->dir);
    assert_int_equal(s->ops->claim(s, 1, e->ids, 2), 0);
    s->ops->incarnation(s, name);
    s->ops->close(s);
    assert_int_equal(takein_drop(e->dir, &c, err), -EAGAIN);
    note_compared(e, name, 0);
    assert_int_equal(takein_drop(e->dir, &c, err), -EAGAIN);
    name[0] ^= 1;
    note_compared(e, name, 7);
    assert_int_equal(takein_drop(e->dir, &c, err), -EAGAIN);
    name[0] ^= 1;
    note_compared(e, name, 7);
    s = open_dir(e->dir);
    assert_int_equal(s->ops->raise(s, &generation), 0);
    s->ops->close(s);
    assert_int_equal(takein_drop(e->dir, &c, err), 0);
    assert_int_equal(c.blocks, N - 2);
    assert_int_equal(c.bytes, (N - 2) * (uint64_t)LEN);
    assert_int_equal(files_in(e->dir, "blocks/00000001"), 2);
    s = open_dir(e->dir);
    assert_int_equal(s->found, generation); /* an older copy would still be told from it */
    for (unsigned i = 0; i < N; i++)
        if (i < 2)
            expect_block(s, 1, &e->ids[i], e->p[i], LEN);
        else
            expect_absent(s, 1, &e->ids[i]);
    struct storage_usage u;
    s->ops->usage(s, &u);
    assert_int_equal(u.blocks, 2);
    s->ops->close(s);
    remove_index(e->dir);
    assert_int_equal(takein_drop(e->dir, &c, err), -EIO); /* and makes no index */
    char *index = path_in(e->dir, "index.db");
    assert_int_equal(access(index, F_OK), -1);
    free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_index_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_what_was_taken_in_is_claimed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_and_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_doomed_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_back_from_corrupt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drop, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("taking in", tests, NULL, NULL);
}
