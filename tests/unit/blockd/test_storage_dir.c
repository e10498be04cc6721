// SPDX-License-Identifier: Apache-2.0
/* The directory storage: conformance, and what is its own: files, locks, a full disk, listing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "dir_db.h"
#include "durable.h"
#include "tempdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void *make(void)
{
    return tempdir_make();
}

static void discard(void *place)
{
    tempdir_remove(place);
}

static struct storage *open_dir(void *place)
{
    struct storage *s = NULL;
    char err[512];
    if (storage_dir_open(&s, place, err))
        fail_msg("%s", err);
    return s;
}

static char *path_in(const char *dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

/* Runs one statement on the index; its first column as text, malloc'd, or NULL. */
static char *query(const char *dir, const char *sql, const struct block_id *id)
{
    char *path = path_in(dir, "index.db"), *out = NULL;
    sqlite3 *db;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    if (id)
        sqlite3_bind_blob(st, 1, id->b, BLOCK_ID_LEN, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    assert_true(rc == SQLITE_ROW || rc == SQLITE_DONE);
    if (rc == SQLITE_ROW && sqlite3_column_text(st, 0))
        out = strdup((const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    sqlite3_close(db);
    free(path);
    return out;
}

static char *file_of(const char *dir, const struct block_id *id)
{
    char *name = query(dir, "SELECT file FROM block WHERE id = ?1", id), *path = NULL;
    if (name && asprintf(&path, "%s/blocks/%s", dir, name) < 0)
        abort();
    free(name);
    return path;
}

static void damage(void *place, const struct block_id *id)
{
    char *file = file_of(place, id);
    if (!file) {
        free(query(place,
                   "UPDATE small SET bytes = CAST(x'ff' || substr(bytes, 2) AS BLOB)"
                   " WHERE n = (SELECT n FROM block WHERE id = ?1)",
                   id));
        return;
    }
    int fd = open(file, O_RDWR);
    assert_true(fd >= 0);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, 1000), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 1000), 1);
    close(fd);
    free(file);
}

static void lose(void *place)
{
    char *copy = strdup(place);
    tempdir_remove(copy);
    assert_int_equal(mkdir(place, 0700), 0);
}

static const struct storage_fixture fixture = {
    .name = "storage in a directory",
    .make = make,
    .open = open_dir,
    .damage = damage,
    .lose = lose,
    .discard = discard,
};

static size_t files_in(const char *dir, const char *name)
{
    char *path = path_in(dir, name);
    DIR *d = opendir(path);
    size_t n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    free(path);
    return n - 2;
}

static void give_name(const char *dir, const char *file, const char *other)
{
    char *from = path_in(dir, file), *to = path_in(dir, other);
    assert_int_equal(link(from, to), 0);
    free(from);
    free(to);
}

static void touch(const char *dir, const char *name)
{
    char *path = path_in(dir, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    free(path);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    char *dir = tempdir_make(), err[512];
    struct storage *s = open_dir(dir), *second = NULL;
    assert_int_equal(storage_dir_open(&second, dir, err), -EBUSY);
    assert_non_null(strstr(err, "in use"));
    assert_null(second);
    s->ops->close(s);
    s = open_dir(dir);
    s->ops->close(s);
    tempdir_remove(dir);
}

static void test_leftovers(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct block_id id;
    uint8_t *p = block_make(300000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    assert_int_equal(put_one(s, 2, &id, p, 300000), 0);
    assert_int_equal(files_in(dir, "blocks/00000001"), 1);
    assert_int_equal(files_in(dir, "tmp"), 0);
    s->ops->close(s);
    touch(dir, "tmp/half-written");
    /* a crash before the record, and one behind it */
    touch(dir, "tmp/no-row");
    give_name(dir, "tmp/no-row", "blocks/00000001/no-row");
    char *row = query(dir, "SELECT file FROM block", NULL), *there, *again;
    if (asprintf(&there, "blocks/%s", row) < 0 ||
        asprintf(&again, "tmp/%s", strchr(row, '/') + 1) < 0)
        abort();
    give_name(dir, there, again);
    /* another file of the same name is nobody's leftover */
    touch(dir, "tmp/other");
    touch(dir, "blocks/00000001/other");
    s = open_dir(dir);
    assert_int_equal(files_in(dir, "tmp"), 0);
    assert_int_equal(files_in(dir, "blocks/00000001"), 2);
    expect_block(s, 1, &id, p, 300000);
    s->ops->close(s);
    free(row);
    free(there);
    free(again);
    /* the bytes are gone, the row is there */
    char *file = file_of(dir, &id);
    assert_int_equal(truncate(file, 299999), 0);
    free(file);
    s = open_dir(dir);
    struct buf b = {0};
    uint64_t logical;
    assert_int_equal(s->ops->get(s, 1, &id, &b, &logical), -EUCLEAN);
    assert_int_equal(b.n, 0);
    assert_int_equal(s->ops->set_aside(s, &id), 0);
    assert_int_equal(files_in(dir, "corrupt"), 1);
    expect_absent(s, 1, &id);
    s->ops->close(s);
    free(p);
    tempdir_remove(dir);
}

/* A limit of file sizes stands for a full disk: both kinds of block meet it. */
static void test_full(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct rlimit before, low;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    struct storage_put v[3] = {
        {.logical_len = 2 << 20}, {.logical_len = 500000}, {.logical_len = 50}};
    for (unsigned i = 0; i < 3; i++)
        v[i].stored = (struct bytes){block_make(v[i].logical_len, i, &v[i].id), v[i].logical_len};
    s->ops->put(s, 1, v, 3);
    assert_int_equal(v[0].err, -ENOSPC);
    assert_int_equal(v[1].err, 0);
    assert_int_equal(v[2].err, 0);
    expect_absent(s, 1, &v[0].id);
    expect_block(s, 1, &v[1].id, v[1].stored.p, v[1].stored.n);
    assert_int_equal(files_in(dir, "tmp"), 0);
    assert_int_equal(files_in(dir, "blocks/00000001"), 1);
    /* the database's log fills up too */
    size_t stored = 0, refused = 0;
    struct block_id first_refused;
    for (unsigned i = 0; i < 40; i++) {
        struct block_id id;
        uint8_t *p = block_make(60000, 100 + i, &id);
        int r = put_one(s, 1, &id, p, 60000);
        assert_true(r == 0 || r == -ENOSPC);
        if (r && !refused++)
            first_refused = id;
        if (r)
            expect_absent(s, 1, &id);
        else
            expect_block(s, 1, &id, p, 60000);
        stored += !r;
        free(p);
    }
    assert_true(stored > 0 && refused > 0);
    struct storage_usage u;
    s->ops->usage(s, &u);
    assert_int_equal(u.blocks, 2 + stored);
    /* with room again all is well */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    expect_absent(s, 1, &first_refused);
    s->ops->put(s, 1, v, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(v[i].err, 0);
        expect_block(s, 1, &v[i].id, v[i].stored.p, v[i].stored.n);
        free((void *)(uintptr_t)v[i].stored.p);
    }
    s->ops->close(s);
    tempdir_remove(dir);
}

/* Bytes that cannot be read now are not damaged: nothing is taken away. */
static void test_unreadable(void **state)
{
    (void)state;
    char *dir = tempdir_make(), *away = path_in(dir, "away"), *numbered;
    struct storage *s = open_dir(dir);
    struct block_id id;
    uint8_t *p = block_make(300000, 1, &id);
    struct buf b = {0};
    uint64_t logical;
    struct rlimit before, low;
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    expect_block(s, 1, &id, p, 300000); /* leaves an open connection to the index */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int got = s->ops->get(s, 1, &id, &b, &logical);
    int aside = s->ops->set_aside(s, &id);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(got, -EIO);
    assert_int_equal(aside, -EIO);
    assert_int_equal(b.n, 0);
    expect_block(s, 1, &id, p, 300000);
    /* the whole directory is away: a disk that is not mounted */
    numbered = path_in(dir, "blocks/00000001");
    assert_int_equal(rename(numbered, away), 0);
    assert_int_equal(s->ops->get(s, 1, &id, &b, &logical), -EIO);
    assert_int_equal(s->ops->set_aside(s, &id), -EIO);
    assert_int_equal(s->ops->probe(s, &id), -EIO);
    assert_int_equal(rename(away, numbered), 0);
    expect_block(s, 1, &id, p, 300000);
    assert_int_equal(files_in(dir, "corrupt"), 0);
    /* the file alone is gone: that is a loss */
    char *file = file_of(dir, &id);
    assert_int_equal(truncate(file, 299999), 0);
    assert_int_equal(s->ops->probe(s, &id), -EUCLEAN);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(s->ops->probe(s, &id), -EUCLEAN);
    assert_int_equal(s->ops->get(s, 1, &id, &b, &logical), -EUCLEAN);
    assert_int_equal(s->ops->set_aside(s, &id), 0);
    expect_absent(s, 1, &id);
    s->ops->close(s);
    free(file);
    free(numbered);
    free(away);
    free(p);
    tempdir_remove(dir);
}

/* Reads of files of blocks that are still to fail: the disk. */
static int failing_reads;
static bool of_block(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    return strstr(path, "/blocks/") != NULL;
}

/* So many have a wrong byte: memory, a controller. */
static int wrong_reads;

ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n)
{
    if (failing_reads > 0 && of_block(fd)) {
        failing_reads--;
        errno = EIO;
        return -1;
    }
    ssize_t got = __real_read(fd, p, n);
    if (got > 0 && wrong_reads > 0 && of_block(fd)) {
        wrong_reads--;
        *(uint8_t *)p ^= 1;
    }
    return got;
}

#define FOR_EVER (INT64_C(1) << 40)

/* Reads fail for a while: whatever the number of them, nothing is taken away, and who brings the
 * block makes it readable, for all namespaces. */
static void test_failing_reads(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct block_id id;
    struct buf b = {0};
    struct storage_lost lost;
    size_t n;
    uint64_t logical;
    uint8_t *p = block_make(300000, 1, &id);
    storage_dir_patience(s, FOR_EVER);
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    assert_int_equal(put_one(s, 2, &id, p, 300000), 0);
    failing_reads = 20;
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(s->ops->get(s, 1, &id, &b, &logical), -EIO);
        assert_int_equal(b.n, 0);
        assert_int_equal(s->ops->set_aside(s, &id), -EIO);
    }
    assert_int_equal(failing_reads, 0);
    assert_int_equal(s->ops->set_aside(s, &id), -EALREADY);
    expect_block(s, 1, &id, p, 300000);
    failing_reads = 1;
    char *file = file_of(dir, &id), *other;
    struct storage_put v = {.id = id, .stored = {p, 300000}, .logical_len = 300000};
    s->ops->put(s, 1, &v, 1);
    assert_int_equal(v.err, 0);
    assert_int_equal(failing_reads, 0);
    other = file_of(dir, &id);
    assert_string_not_equal(file, other);
    expect_block(s, 1, &id, p, 300000);
    expect_block(s, 2, &id, p, 300000);
    assert_int_equal(s->ops->lost(s, &lost, 1, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(files_in(dir, "blocks/00000001"), 1);
    assert_int_equal(files_in(dir, "corrupt"), 1); /* for people to look at */
    s->ops->close(s);
    /* a crash between the row and the old file: the next start removes it */
    touch(dir, "blocks/00000001/old");
    free(query(dir, "INSERT INTO doomed VALUES ('00000001/old')", NULL));
    s = open_dir(dir);
    assert_int_equal(files_in(dir, "blocks/00000001"), 1);
    char *left = query(dir, "SELECT file FROM doomed", NULL);
    assert_null(left);
    s->ops->close(s);
    free(file);
    free(other);
    free(p);
    tempdir_remove(dir);
}

/* Bytes that were wrong once, and not when they were read again, are no reason to take anything
 * away; those that stay wrong are, but not from one block after the other. */
static void test_wrong_reads(void **state)
{
    (void)state;
    enum { N = TRUST_LAST };
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct block_id ids[N];
    uint8_t *p[N];
    uint64_t back = 0;
    int aside = 0;
    atomic_bool stop = false;
    for (unsigned i = 0; i < N; i++) {
        p[i] = block_make(300000, i + 1, &ids[i]);
        assert_int_equal(put_one(s, 1, &ids[i], p[i], 300000), 0);
    }
    for (unsigned i = 0; i < N; i++) {
        wrong_reads = 1;
        assert_int_equal(s->ops->set_aside(s, &ids[i]), -EALREADY);
        assert_int_equal(wrong_reads, 0);
    }
    assert_int_equal(trust_rereads(&s->trust), N);
    assert_false(trust_broken(&s->trust));
    wrong_reads = 1000000;
    for (unsigned i = 0; i < N; i++) {
        int r = s->ops->set_aside(s, &ids[i]);
        assert_true(r == 0 || r == -EIO);
        aside += !r;
    }
    assert_int_equal(aside, TRUST_WRONG - 1);
    assert_true(trust_untold(&s->trust) && trust_broken(&s->trust) && !trust_untold(&s->trust));
    /* who brings one makes it right: for it, the file is another one */
    struct storage_put v = {.id = ids[N - 1], .stored = {p[N - 1], 300000}, .logical_len = 300000};
    s->ops->put(s, 1, &v, 1);
    assert_int_equal(v.err, 0);
    wrong_reads = 0;
    expect_block(s, 1, &ids[N - 1], p[N - 1], 300000);
    /* the memory is another one: all that was set aside is right */
    assert_int_equal(s->ops->set_aside(s, &ids[N - 2]), -EALREADY);
    assert_int_equal(s->ops->take_back(s, &stop, &back), 0);
    assert_int_equal(back, TRUST_WRONG - 1);
    assert_int_equal(s->ops->claim(s, 1, ids, N), 0);
    for (unsigned i = 0; i < N; i++) {
        expect_block(s, 1, &ids[i], p[i], 300000);
        free(p[i]);
    }
    s->ops->close(s);
    tempdir_remove(dir);
}

/* With the log of the index that has been there, which would be taken for its. */
static void swap_index(const char *dir, const char *from, const char *to)
{
    char *log = path_in(dir, "index.db-wal"), *shared = path_in(dir, "index.db-shm");
    unlink(log);
    unlink(shared);
    assert_int_equal(rename(from, to), 0);
    free(log);
    free(shared);
}

/* An index that is gone, or an older copy, is no reason to remove what it does not name. */
static void test_index_lost(void **state)
{
    (void)state;
    char *dir = tempdir_make(), *index = path_in(dir, "index.db"), *copy = path_in(dir, "copy.db");
    struct storage *s = open_dir(dir);
    struct block_id ids[4];
    uint8_t *p[4];
    for (unsigned i = 0; i < 4; i++) {
        p[i] = block_make(300000, i + 1, &ids[i]);
        if (i == 2) { /* the copy knows two of four */
            s->ops->close(s);
            assert_int_equal(rename(index, copy), 0);
            struct buf bytes = {0};
            assert_int_equal(durable_read(dir, "copy.db", 64u << 20, &bytes), 0);
            assert_int_equal(durable_write(dir, "index.db", bytes.p, bytes.n, 0600), 0);
            buf_free(&bytes);
            s = open_dir(dir);
            assert_string_equal(s->notice, "");
        }
        assert_int_equal(put_one(s, 1, &ids[i], p[i], 300000), 0);
    }
    assert_int_equal(files_in(dir, "tmp"), 0);
    s->ops->close(s);
    char *whole = path_in(dir, "whole.db");
    swap_index(dir, index, whole);
    for (int round = 0; round < 2; round++) {
        if (round)
            swap_index(dir, copy, index);
        s = open_dir(dir);
        assert_int_equal(files_in(dir, "blocks/00000001"), 4);
        assert_int_equal(files_in(dir, "corrupt"), 0);
        assert_non_null(strstr(s->notice, round ? "2 or more files" : "4 or more files"));
        assert_non_null(strstr(s->notice, round ? "an older copy" : "which is new"));
        assert_non_null(strstr(s->notice, "--reindex"));
        for (unsigned i = 0; i < 2; i++) {
            if (round)
                expect_block(s, 1, &ids[i], p[i], 300000);
            else
                expect_absent(s, 1, &ids[i]);
        }
        s->ops->close(s);
    }
    /* the right one is found again, and all of it works */
    swap_index(dir, whole, index);
    s = open_dir(dir);
    assert_string_equal(s->notice, "");
    for (unsigned i = 0; i < 4; i++)
        expect_block(s, 1, &ids[i], p[i], 300000);
    s->ops->close(s);
    /* one that is no database is not touched, and the remedy is told */
    swap_index(dir, index, copy);
    assert_int_equal(durable_write(dir, "index.db", "no database at all", 18, 0600), 0);
    char err[512];
    assert_int_equal(storage_dir_open(&s, dir, err), -EIO);
    assert_non_null(strstr(err, "put back a whole copy"));
    assert_non_null(strstr(err, "--reindex"));
    assert_int_equal(files_in(dir, "blocks/00000001"), 4);
    for (unsigned i = 0; i < 4; i++)
        free(p[i]);
    free(index);
    free(copy);
    free(whole);
    tempdir_remove(dir);
}

/* Collected blocks leave no files, also where a crash came between the index and the file. */
static void test_collected_files(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct storage_collected sums = {0};
    struct block_id id;
    uint64_t generation;
    uint8_t *p = block_make(300000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    char *name = query(dir, "SELECT file FROM block WHERE id = ?1", &id), *sql;
    assert_int_equal(s->ops->raise(s, &generation), 0);
    assert_int_equal(s->ops->collect(s, 1, &id, 1, generation, &sums), 0);
    assert_int_equal(sums.bytes, 300000);
    assert_int_equal(files_in(dir, "blocks/00000001"), 0);
    assert_null(query(dir, "SELECT file FROM doomed", NULL));
    s->ops->close(s);
    char *sub = path_in("blocks", name);
    touch(dir, sub);
    assert_true(asprintf(&sql, "INSERT INTO doomed VALUES ('%s')", name) > 0);
    free(query(dir, sql, NULL));
    s = open_dir(dir);
    assert_int_equal(files_in(dir, "blocks/00000001"), 0);
    assert_null(query(dir, "SELECT file FROM doomed", NULL));
    s->ops->close(s);
    free(sql);
    free(sub);
    free(name);
    free(p);
    tempdir_remove(dir);
}

/* A file that the disk goes on failing to read is lost. */
static void test_bad_sector(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct block_id id;
    struct buf b = {0};
    uint64_t logical;
    uint8_t *p = block_make(300000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    storage_dir_patience(s, FOR_EVER);
    failing_reads = 1000;
    assert_int_equal(s->ops->set_aside(s, &id), -EIO);
    storage_dir_patience(s, 0);
    assert_int_equal(s->ops->get(s, 1, &id, &b, &logical), -EUCLEAN);
    assert_int_equal(b.n, 0);
    assert_int_equal(s->ops->set_aside(s, &id), 0);
    failing_reads = 0;
    expect_absent(s, 1, &id);
    assert_int_equal(files_in(dir, "corrupt"), 1);
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    expect_block(s, 1, &id, p, 300000);
    s->ops->close(s);
    free(p);
    tempdir_remove(dir);
}

/* Where the disk reads nothing at all, not everything is taken for lost. */
static void test_bad_disk(void **state)
{
    (void)state;
    enum { N = 80 };
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct block_id ids[N];
    struct storage_usage u;
    int aside = 0, unreadable = 0;
    for (unsigned i = 0; i < N; i++) {
        uint8_t *p = block_make(300000, i, &ids[i]);
        assert_int_equal(put_one(s, 1, &ids[i], p, 300000), 0);
        free(p);
    }
    storage_dir_patience(s, 0);
    failing_reads = 100000;
    for (unsigned i = 0; i < N; i++) {
        int r = s->ops->set_aside(s, &ids[i]);
        aside += !r;
        unreadable += r == -EIO;
    }
    failing_reads = 0;
    assert_int_equal(aside + unreadable, N);
    assert_true(aside > 0 && aside <= 32);
    s->ops->usage(s, &u);
    assert_int_equal(u.blocks, N - aside);
    uint8_t *p = block_make(300000, N - 1, &ids[N - 1]);
    expect_block(s, 1, &ids[N - 1], p, 300000);
    free(p);
    s->ops->close(s);
    tempdir_remove(dir);
}

/* Only what was found bad is removed: meanwhile the block may have been stored anew. */
static void test_remove_what_was_read(void **state)
{
    (void)state;
    char *dir = tempdir_make(), err[512];
    static const uint8_t name[INCARNATION_LEN] = {1};
    struct dir_db *d;
    struct dir_place place;
    struct dir_record v[2] = {{.stored_len = 100, .logical_len = 100},
                              {.stored_len = 300, .logical_len = 300, .file = "00000001/new"}};
    uint8_t *p = block_make(100, 1, &v[0].id);
    bool found;
    free(block_make(300, 2, &v[1].id));
    v[0].data = (struct bytes){p, 100};
    assert_int_equal(dir_db_open(&d, dir, name, err), 0);
    dir_db_put(d, 1, v, 2);
    assert_int_equal(v[0].err, 0);
    assert_int_equal(v[1].err, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dir_db_remove(d, &v[i].id, "00000001/old", (struct bytes){0}), -EALREADY);
        assert_int_equal(dir_db_remove(d, &v[i].id, NULL, (struct bytes){p, 99}), -EALREADY);
        assert_int_equal(dir_db_find(d, 1, &v[i].id, 1, &place, &found), 0);
        assert_true(found);
    }
    assert_int_equal(dir_db_remove(d, &v[0].id, NULL, v[0].data), 0);
    assert_int_equal(dir_db_remove(d, &v[1].id, v[1].file, (struct bytes){0}), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dir_db_find(d, 1, &v[i].id, 1, &place, &found), 0);
        assert_false(found);
    }
    dir_db_close(d);
    free(p);
    tempdir_remove(dir);
}

/* The index of an older version is brought up to date and keeps its blocks. */
static void older(int version)
{
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct block_id id;
    struct storage_lost lost;
    size_t n;
    uint8_t *p = block_make(100, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 100), 0);
    s->ops->close(s);
    static const struct {
        int version;
        const char *sql;
    } since[] = {{3, "DROP TABLE unclaimed"},
                 {2, "DROP TABLE doomed"},
                 {2, "ALTER TABLE store DROP COLUMN generation"},
                 {2, "ALTER TABLE held DROP COLUMN generation"},
                 {2, "ALTER TABLE lost DROP COLUMN generation"},
                 {1, "DROP TABLE lost"}};
    char number[64];
    for (size_t i = 0; i < sizeof since / sizeof *since; i++)
        if (since[i].version >= version)
            free(query(dir, since[i].sql, NULL));
    snprintf(number, sizeof number, "PRAGMA user_version = %d", version);
    free(query(dir, number, NULL));
    s = open_dir(dir);
    expect_block(s, 1, &id, p, 100);
    struct storage_put again = {.id = id, .stored = {p, 100}, .logical_len = 100};
    s->ops->put(s, 1, &again, 1);
    assert_true(again.generation > 0);
    s->ops->close(s);
    damage(dir, &id);
    s = open_dir(dir);
    assert_int_equal(s->ops->set_aside(s, &id), 0);
    assert_int_equal(s->ops->lost(s, &lost, 1, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(s->ops->claim(s, 1, &id, 1), 0); /* knows of none */
    expect_absent(s, 1, &id);
    s->ops->close(s);
    free(p);
    tempdir_remove(dir);
}

static void test_older(void **state)
{
    (void)state;
    for (int version = 1; version < 4; version++)
        older(version);
}

/* What the process has done: milliseconds of CPU, and waits (for a sync, among others). */
static void effort(int64_t *cpu_ms, int64_t *waits)
{
    struct rusage u;
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    *cpu_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    *waits = u.ru_nvcsw;
}

/* The log is to be written into the database, which cannot grow: the writer waits for the next put
 * and does not try again and again. */
static void test_full_at_rest(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    struct rlimit before, low;
    struct block_id id;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = 10 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    int r = 0;
    for (unsigned i = 0; i < 500 && !r; i++) {
        uint8_t *p = block_make(200000, i, &id);
        r = put_one(s, 1, &id, p, 200000);
        free(p);
    }
    assert_int_equal(r, -ENOSPC);
    usleep(100000);
    int64_t cpu[2], waits[2];
    effort(&cpu[0], &waits[0]);
    usleep(400000);
    effort(&cpu[1], &waits[1]);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(cpu[1] - cpu[0] < 100 && waits[1] - waits[0] < 20);
    uint8_t *p = block_make(200000, 1000, &id);
    assert_int_equal(put_one(s, 1, &id, p, 200000), 0);
    expect_block(s, 1, &id, p, 200000);
    free(p);
    s->ops->close(s);
    tempdir_remove(dir);
}

static void test_incarnation_file(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    uint8_t first[INCARNATION_LEN], second[INCARNATION_LEN];
    struct storage *s = open_dir(dir);
    s->ops->incarnation(s, first);
    s->ops->close(s);
    struct buf file = {0};
    assert_int_equal(durable_read(dir, "incarnation", 16, &file), 0);
    assert_int_equal(file.n, 16);
    assert_memory_equal(file.p, first, 16);
    buf_free(&file);
    char *path = path_in(dir, "incarnation");
    assert_int_equal(unlink(path), 0);
    s = open_dir(dir);
    s->ops->incarnation(s, second);
    assert_memory_not_equal(first, second, 16);
    s->ops->close(s);
    /* another storage's file */
    assert_int_equal(durable_write(dir, "incarnation", first, 16, 0600), 0);
    s = open_dir(dir);
    s->ops->incarnation(s, first);
    assert_memory_not_equal(first, second, 16);
    s->ops->close(s);
    free(path);
    tempdir_remove(dir);
}

struct listing {
    struct block_id last;
    size_t n;
    uint64_t bytes;
};

static void note(void *arg, const struct block_id *id, uint64_t len)
{
    struct listing *l = arg;
    assert_true(!l->n || block_id_compare(&l->last, id) < 0);
    l->last = *id;
    l->n++;
    l->bytes += len;
}

static void test_list(void **state)
{
    (void)state;
    char *dir = tempdir_make(), err[512];
    struct storage *s = open_dir(dir);
    for (unsigned i = 0; i < 20; i++) {
        struct block_id id;
        size_t n = i % 4 ? 100 : 300000;
        uint8_t *p = block_make(n, i, &id);
        assert_int_equal(put_one(s, 1, &id, p, n), 0);
        assert_int_equal(put_one(s, 2, &id, p, n), 0);
        free(p);
    }
    for (int running = 1; running >= 0; running--) {
        struct listing l = {0};
        if (!running)
            s->ops->close(s);
        assert_int_equal(storage_dir_list(dir, note, &l, err), 0);
        assert_int_equal(l.n, 20);
        assert_int_equal(l.bytes, 5 * 300000 + 15 * 100);
    }
    char *none = path_in(dir, "tmp");
    struct listing l = {0};
    assert_int_equal(storage_dir_list(none, note, &l, err), -EIO);
    assert_non_null(strstr(err, "cannot read"));
    free(none);
    tempdir_remove(dir);
}

static void test_newer_refused(void **state)
{
    (void)state;
    char *dir = tempdir_make(), err[512];
    struct storage *s = open_dir(dir);
    s->ops->close(s);
    free(query(dir, "PRAGMA user_version = 99", NULL));
    assert_int_equal(storage_dir_open(&s, dir, err), -EPROTO);
    assert_non_null(strstr(err, "newer"));
    tempdir_remove(dir);
}

/* Beyond a directory's worth of files the next one is begun; names stay good over it. */
static void test_many_files(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct storage *s = open_dir(dir);
    s->ops->close(s);
    for (unsigned i = 0; i < 4096; i++) {
        char name[64];
        snprintf(name, sizeof name, "blocks/00000001/%u", i);
        if (!i)
            free(path_in(dir, ""));
        char *sub = path_in(dir, "blocks/00000001");
        mkdir(sub, 0700);
        free(sub);
        touch(dir, name);
    }
    s = open_dir(dir); /* files, even if nobody knows them: the directory is full */
    struct block_id id;
    uint8_t *p = block_make(300000, 1, &id);
    assert_int_equal(put_one(s, 1, &id, p, 300000), 0);
    assert_int_equal(files_in(dir, "blocks/00000002"), 1);
    expect_block(s, 1, &id, p, 300000);
    s->ops->close(s);
    s = open_dir(dir);
    expect_block(s, 1, &id, p, 300000);
    s->ops->close(s);
    free(p);
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_time),    cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_index_lost),       cmocka_unit_test(test_full),
        cmocka_unit_test(test_incarnation_file), cmocka_unit_test(test_list),
        cmocka_unit_test(test_newer_refused),    cmocka_unit_test(test_many_files),
        cmocka_unit_test(test_unreadable),       cmocka_unit_test(test_remove_what_was_read),
        cmocka_unit_test(test_failing_reads),    cmocka_unit_test(test_collected_files),
        cmocka_unit_test(test_bad_sector),       cmocka_unit_test(test_wrong_reads),
        cmocka_unit_test(test_bad_disk),         cmocka_unit_test(test_older),
        cmocka_unit_test(test_full_at_rest),
    };
    int failed = conformance_run(&fixture);
    return failed + cmocka_run_group_tests_name("directory", tests, NULL, NULL);
}
