// SPDX-License-Identifier: Apache-2.0
/* In which order a directory storage makes things durable, and what of it many share. The program's
 * own calls are noted here; those of SQLite are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "dir_db_int.h"
#include "tempdir.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* d: the data of a file; n: its name; s: a directory; r: a name is removed. */
static char noted[256];
static size_t noted_n;

static void note(char what)
{
    if (noted_n < sizeof noted - 1)
        noted[noted_n++] = what;
}

static void forget(void)
{
    memset(noted, 0, sizeof noted);
    noted_n = 0;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    note('d');
    return __real_fdatasync(fd);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    struct stat st;
    note(!fstat(fd, &st) && S_ISDIR(st.st_mode) ? 's' : '?');
    return __real_fsync(fd);
}

int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    note('n');
    return __real_linkat(from_fd, from, to_fd, to, flags);
}

int __real_unlinkat(int dir_fd, const char *name, int flags);
int __wrap_unlinkat(int dir_fd, const char *name, int flags);
int __wrap_unlinkat(int dir_fd, const char *name, int flags)
{
    note('r');
    return __real_unlinkat(dir_fd, name, flags);
}

enum { BATCH = 8 };

static void put_batch(struct storage *s, size_t len, unsigned seed)
{
    struct storage_put v[BATCH] = {{.logical_len = 0}};
    uint8_t *p[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        p[i] = block_make(len, seed + i, &v[i].id);
        v[i].stored = (struct bytes){p[i], len};
        v[i].logical_len = len;
    }
    forget();
    s->ops->put(s, 1, v, BATCH);
    for (unsigned i = 0; i < BATCH; i++) {
        assert_int_equal(v[i].err, 0);
        free(p[i]);
    }
}

/* The data of all files of a batch, then their names, then the directory, once for all; and when
 * the index has them, their other names go. A directory is itself durable before. Small blocks cost
 * none of it. */
static void test_order(void **state)
{
    (void)state;
    char *dir = tempdir_make(), err[512];
    struct storage *s;
    assert_int_equal(storage_dir_open(&s, dir, err), 0);
    put_batch(s, 300000, 1);
    assert_string_equal(noted, "dddddddd"
                               "s" /* blocks/, which has a new directory */
                               "nnnnnnnn"
                               "s"
                               "rrrrrrrr");
    put_batch(s, 300000, 100);
    assert_string_equal(noted, "dddddddd"
                               "nnnnnnnn"
                               "s"
                               "rrrrrrrr");
    put_batch(s, 5000, 200);
    assert_string_equal(noted, "");
    s->ops->close(s);
    tempdir_remove(dir);
}

static int count_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    (void)pages;
    ++*(int *)arg;
    return SQLITE_OK;
}

/* One put of a small block, by a thread of its own. */
struct putter {
    pthread_t thread;
    struct dir_db *d;
    struct dir_record v;
    uint8_t *p;
};

static void *put_small(void *arg)
{
    struct putter *w = arg;
    dir_db_put(w->d, 1, &w->v, 1);
    return NULL;
}

/* What comes while somebody writes is durable with one commit. */
static void test_shared_commit(void **state)
{
    (void)state;
    static const uint8_t name[INCARNATION_LEN] = {1};
    char *dir = tempdir_make(), err[512];
    struct dir_db *d;
    struct putter w[BATCH];
    int commits = 0;
    assert_int_equal(dir_db_open(&d, dir, name, err), 0);
    pthread_mutex_lock(&d->lock);
    while (d->busy)
        pthread_cond_wait(&d->done, &d->lock);
    d->busy = true; /* somebody writes */
    sqlite3_wal_hook(d->db, count_commit, &commits);
    pthread_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < BATCH; i++) {
        w[i] = (struct putter){.d = d, .v = {.stored_len = 1000, .logical_len = 1000}};
        w[i].p = block_make(1000, i, &w[i].v.id);
        w[i].v.data = (struct bytes){w[i].p, 1000};
        assert_int_equal(pthread_create(&w[i].thread, NULL, put_small, &w[i]), 0);
    }
    for (size_t waiting = 0; waiting < BATCH; usleep(1000)) {
        struct job *j;
        waiting = 0;
        pthread_mutex_lock(&d->lock);
        STAILQ_FOREACH(j, &d->jobs, link)
        waiting++;
        pthread_mutex_unlock(&d->lock);
    }
    assert_int_equal(commits, 0);
    pthread_mutex_lock(&d->lock);
    d->busy = false; /* … and is done */
    pthread_cond_broadcast(&d->done);
    pthread_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < BATCH; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].v.err, 0);
        free(w[i].p);
    }
    assert_int_equal(commits, 1);
    uint64_t blocks, bytes;
    dir_db_totals(d, &blocks, &bytes);
    assert_int_equal(blocks, BATCH);
    dir_db_close(d);
    tempdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_shared_commit),
    };
    return cmocka_run_group_tests_name("what is durable when", tests, NULL, NULL);
}
