// SPDX-License-Identifier: Apache-2.0
/* Scrubbing finds each kind of damage and nothing else, keeps its pace and its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "feed.h"
#include "scrub.h"
#include "tempdir.h"
#include "units.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 60 };
#define DEADLINE_MS 30000

struct env {
    char *dir;
    struct storage *s;
    struct block_id ids[N];
    pthread_mutex_t lock;
    struct block_id lost[N];
    size_t lost_n, errors;
};

static size_t length_of(unsigned i)
{
    return i % 3 ? 5000 + i : 300000;
}

static int set_up(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    char err[512];
    assert_non_null(e);
    pthread_mutex_init(&e->lock, NULL);
    e->dir = tempdir_make();
    if (storage_dir_open(&e->s, e->dir, err))
        fail_msg("%s", err);
    for (unsigned i = 0; i < N; i++) {
        uint8_t *p = block_make(length_of(i), i, &e->ids[i]);
        assert_int_equal(put_one(e->s, 1 + i % 2, &e->ids[i], p, length_of(i)), 0);
        free(p);
    }
    *state = e;
    return 0;
}

static int tear_down(void **state)
{
    struct env *e = *state;
    e->s->ops->close(e->s);
    tempdir_remove(e->dir);
    pthread_mutex_destroy(&e->lock);
    free(e);
    return 0;
}

static void note_lost(void *arg, const struct block_id *id, int err)
{
    struct env *e = arg;
    pthread_mutex_lock(&e->lock);
    if (err)
        e->errors++;
    else if (e->lost_n < N)
        e->lost[e->lost_n++] = *id;
    pthread_mutex_unlock(&e->lock);
}

static struct scrub *start(struct env *e, uint64_t rate, unsigned interval_s)
{
    struct scrub *s;
    struct scrub_options o = {.dir = e->dir,
                              .storage = e->s,
                              .rate = rate,
                              .interval_s = interval_s,
                              .lost = note_lost,
                              .arg = e};
    assert_int_equal(scrub_start(&s, &o), 0);
    return s;
}

static uint64_t metric(struct scrub *s, const char *name)
{
    struct buf b = {0};
    char line[128];
    scrub_print(s, &b);
    buf_append(&b, "", 1);
    snprintf(line, sizeof line, "\nsteadfs_blockd_scrub_%s ", name);
    const char *p = strstr((char *)b.p, line);
    assert_non_null(p);
    uint64_t v = strtoull(p + strlen(line), NULL, 10);
    buf_free(&b);
    return v;
}

static void wait_for(struct scrub *s, const char *name, uint64_t value)
{
    int64_t end = mono_ms() + DEADLINE_MS;
    while (metric(s, name) < value) {
        assert_true(mono_ms() < end);
        usleep(2000);
    }
}

/* One statement on the index, while the storage is open. */
static void edit(const char *dir, const char *sql, const struct block_id *id, char *out,
                 size_t out_n)
{
    char path[4096];
    sqlite3 *db;
    sqlite3_stmt *st;
    snprintf(path, sizeof path, "%s/index.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_blob(st, 1, id->b, BLOCK_ID_LEN, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    if (out) {
        assert_int_equal(rc, SQLITE_ROW);
        snprintf(out, out_n, "%s/blocks/%s", dir, (const char *)sqlite3_column_text(st, 0));
    } else {
        assert_int_equal(rc, SQLITE_DONE);
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
}

static void file_of(struct env *e, unsigned i, char path[4096])
{
    edit(e->dir, "SELECT file FROM block WHERE id = ?1", &e->ids[i], path, 4096);
}

static void flip_in_file(struct env *e, unsigned i)
{
    char path[4096];
    uint8_t byte;
    file_of(e, i, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 200000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 200000), 1);
    close(fd);
}

static void flip_in_row(struct env *e, unsigned i)
{
    edit(e->dir,
         "UPDATE small SET bytes = CAST(substr(bytes, 1, 4000) || x'00' || substr(bytes, 4002) AS "
         "BLOB)"
         " WHERE n = (SELECT n FROM block WHERE id = ?1)",
         &e->ids[i], NULL, 0);
}

static bool was_lost(const struct env *e, const struct block_id *id)
{
    for (size_t i = 0; i < e->lost_n; i++)
        if (block_id_equal(&e->lost[i], id))
            return true;
    return false;
}

static void test_finds_damage(void **state)
{
    struct env *e = *state;
    char path[4096];
    struct storage_lost lost[N];
    size_t lost_n;
    flip_in_file(e, 3);
    flip_in_row(e, 4);
    file_of(e, 6, path);
    assert_int_equal(truncate(path, 299999), 0);
    file_of(e, 9, path);
    assert_int_equal(unlink(path), 0);
    struct scrub *s = start(e, 1 << 30, 3600);
    wait_for(s, "passes_total", 1);
    assert_int_equal(metric(s, "blocks_total"), N);
    assert_int_equal(metric(s, "damaged_total"), 4);
    assert_int_equal(metric(s, "progress_percent"), 100);
    scrub_stop(s);
    assert_int_equal(e->lost_n, 4);
    assert_int_equal(e->errors, 0);
    for (unsigned i = 0; i < N; i++) {
        bool bad = i == 3 || i == 4 || i == 6 || i == 9;
        assert_int_equal(was_lost(e, &e->ids[i]), bad);
        uint8_t *p = block_make(length_of(i), i, &e->ids[i]);
        if (bad)
            expect_absent(e->s, 1 + i % 2, &e->ids[i]);
        else
            expect_block(e->s, 1 + i % 2, &e->ids[i], p, length_of(i));
        free(p);
    }
    /* the metadata server is to be told */
    assert_int_equal(e->s->ops->lost(e->s, lost, N, &lost_n), 0);
    assert_int_equal(lost_n, 4);
}

/* Stopped in the middle it goes on there, and every block is looked at once. */
static void test_goes_on(void **state)
{
    struct env *e = *state;
    struct scrub *s = start(e, 20 << 20, 3600);
    wait_for(s, "blocks_total", 10);
    scrub_stop(s);
    s = start(e, 20 << 20, 3600);
    int64_t began = (int64_t)metric(s, "last_pass_begin_seconds");
    assert_true(began > 0);
    wait_for(s, "passes_total", 1);
    uint64_t rest = metric(s, "blocks_total");
    assert_true(rest >= 1 && rest <= N - 10);
    assert_int_equal(metric(s, "last_pass_begin_seconds"), began);
    scrub_stop(s);
    /* a whole pass was made: the next one is not due, also after a restart, but can be asked for */
    s = start(e, 1 << 30, 3600);
    usleep(100000);
    assert_int_equal(metric(s, "blocks_total"), 0);
    flip_in_file(e, 0);
    scrub_now(s);
    wait_for(s, "passes_total", 1);
    assert_int_equal(metric(s, "damaged_total"), 1);
    scrub_stop(s);
    /* it is due */
    s = start(e, 1 << 30, 0);
    wait_for(s, "passes_total", 3);
    scrub_stop(s);
}

/* What cannot be read is looked at again between two passes, and what is found then is told. */
static void test_looks_again(void **state)
{
    struct env *e = *state;
    char there[4096], away[4096], path[4096];
    struct scrub *s;
    struct scrub_options o = {.dir = e->dir,
                              .storage = e->s,
                              .rate = 1 << 30,
                              .interval_s = 3600,
                              .again_ms = 10,
                              .lost = note_lost,
                              .arg = e};
    snprintf(there, sizeof there, "%s/blocks/00000001", e->dir);
    snprintf(away, sizeof away, "%s/away", e->dir);
    file_of(e, 3, path);
    assert_int_equal(rename(there, away), 0);
    assert_int_equal(scrub_start(&s, &o), 0);
    wait_for(s, "passes_total", 1);
    wait_for(s, "unreadable_total", 3 * N / 3);
    assert_int_equal(metric(s, "damaged_total"), 0);
    assert_int_equal(rename(away, there), 0);
    assert_int_equal(truncate(path, 299999), 0); /* seen only by looking again */
    scrub_doubt(s, &e->ids[3]);
    wait_for(s, "damaged_total", 1);
    assert_int_equal(metric(s, "passes_total"), 1);
    scrub_stop(s);
    assert_true(was_lost(e, &e->ids[3]));
    assert_int_equal(e->lost_n, 1);
}

static void test_pace(void **state)
{
    struct env *e = *state;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < N; i++)
        bytes += length_of(i);
    int64_t began = mono_ms();
    struct scrub *s = start(e, 8 << 20, 3600);
    wait_for(s, "passes_total", 1);
    assert_true(mono_ms() - began >= (int64_t)(bytes * 1000 / (8 << 20)));
    assert_int_equal(metric(s, "bytes_total"), bytes);
    scrub_stop(s);
    /* slow does not mean hard to stop */
    e->lost_n = 0;
    s = start(e, 1, 0);
    wait_for(s, "blocks_total", 1);
    began = mono_ms();
    scrub_stop(s);
    assert_true(mono_ms() - began < 5000);
    assert_int_equal(scrub_start(&s, &(struct scrub_options){.rate = 0}), 0);
    assert_null(s); /* and these do nothing */
    scrub_now(s);
    scrub_stop(s);
}

static void test_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool right;
        uint64_t value;
    } bytes[] = {{"0", true, 0},
                 {"500", true, 500},
                 {"20M", true, 20 << 20},
                 {"1T", true, 1ULL << 40},
                 {"8192T", true, 1ULL << 53},
                 {"8193T", false, 0},
                 {"", false, 0},
                 {"M", false, 0},
                 {"-1", false, 0},
                 {"1MB", false, 0},
                 {"1x", false, 0},
                 {"99999999999999999999", false, 0}},
      seconds[] = {{"0", true, 0},       {"90", true, 90}, {"2m", true, 120},    {"1h", true, 3600},
                   {"7d", true, 604800}, {"1w", false, 0}, {"99999d", false, 0}, {" 1", false, 0}};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        uint64_t v;
        assert_int_equal(parse_bytes(bytes[i].text, &v), bytes[i].right);
        assert_true(!bytes[i].right || v == bytes[i].value);
    }
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        unsigned v;
        assert_int_equal(parse_seconds(seconds[i].text, &v), seconds[i].right);
        assert_true(!seconds[i].right || v == seconds[i].value);
    }
}

/* So much is wrong that something else must be: it waits, and goes on when it is told to. */
static void test_stops_in_time(void **state)
{
    struct env *e = *state;
    struct storage_usage u;
    for (unsigned i = 0; i < 40; i += 3)
        flip_in_file(e, i);
    struct scrub *s = start(e, 1 << 30, 3600);
    int64_t end = mono_ms() + DEADLINE_MS;
    while (!trust_broken(&e->s->trust)) {
        assert_true(mono_ms() < end);
        usleep(2000);
    }
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, N - (TRUST_WRONG - 1));
    wait_for(s, "unreadable_total", 1);
    assert_int_equal(metric(s, "passes_total"), 0);
    assert_int_equal(metric(s, "damaged_total"), TRUST_WRONG - 1);
    scrub_now(s);
    wait_for(s, "passes_total", 1);
    scrub_stop(s);
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, N - 13); /* the one that was doubted waits for its time */
    while (trust_wrong(&e->s->trust, mono_ms()))
        continue;
    scrub_stop(start(e, 1 << 30, 3600)); /* also while it waits */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_finds_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_looks_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stops_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pace, set_up, tear_down),
        cmocka_unit_test(test_units),
    };
    return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
