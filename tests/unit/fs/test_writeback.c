// SPDX-License-Identifier: Apache-2.0
/* Dirty data: what is read is what was written, whatever was flushed meanwhile; and blocks are a
 * function of a stretch's bytes, not of when it was flushed. A list in memory plays the tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "writeback_int.h"

#define NODE 7
#define FILE_MAX (24u << 20)
#define PATIENCE_S 60

struct block {
    struct block_id id;
    uint8_t *p;
    uint32_t len;
};

struct fake {
    pthread_mutex_t lock, blocks_lock;
    struct wb *wb;
    struct block *blocks;
    size_t blocks_n, puts;
    struct extent_list tree;
    uint64_t size;
    int64_t now;
    int fail_put, fail_apply;
    size_t recuts, changes;
    size_t durable; /* puts */
    unsigned threads;
    unsigned settled; /* how often it was called */
    pthread_cond_t news;
    bool committed;
};

static const struct block *find(struct fake *f, const struct block_id *id)
{
    for (size_t i = 0; i < f->blocks_n; i++)
        if (block_id_equal(&f->blocks[i].id, id))
            return &f->blocks[i];
    return NULL;
}

static int put(void *ctx, const struct blocks_item *v, size_t n, bool durable)
{
    struct fake *f = ctx;
    pthread_mutex_lock(&f->blocks_lock);
    f->durable += durable;
    int rc = f->fail_put;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        f->puts++;
        assert_true(block_id_matches(&v[i].id, v[i].p, v[i].len));
        if (find(f, &v[i].id) != NULL)
            continue;
        f->blocks = realloc(f->blocks, (f->blocks_n + 1) * sizeof(*f->blocks));
        assert_non_null(f->blocks);
        struct block b = {.id = v[i].id, .p = malloc(v[i].len), .len = v[i].len};
        assert_non_null(b.p);
        memcpy(b.p, v[i].p, v[i].len);
        f->blocks[f->blocks_n++] = b;
    }
    pthread_mutex_unlock(&f->blocks_lock);
    return rc;
}

static int apply(void *ctx, uint64_t node, int64_t mtime, const struct wb_extent *e, size_t n,
                 bool final)
{
    struct fake *f = ctx;
    (void)mtime;
    (void) final;
    assert_int_equal(node, NODE);
    if (f->fail_apply != 0)
        return f->fail_apply;
    for (size_t i = 0; i < n; i++) {
        struct m_extent one = {.off = e[i].off, .len = e[i].len, .block = e[i].id};
        struct extent_list with = {.v = &one, .n = 1, .cap = 1};
        extent_list_splice(&f->tree, one.off, one.len, &with);
        f->size = f->size > one.off + one.len ? f->size : one.off + one.len;
        *(e[i].recut ? &f->recuts : &f->changes) += 1;
    }
    return 0;
}

static int load(void *ctx, uint64_t node, uint64_t off, void *p, size_t len)
{
    struct fake *f = ctx;
    (void)node;
    memset(p, 0, len);
    cleanup_extents struct extent_list l = {0};
    extent_list_slice(&f->tree, off, len, &l);
    pthread_mutex_lock(&f->blocks_lock);
    for (size_t i = 0; i < l.n; i++) {
        const struct block *b = find(f, &l.v[i].block);
        assert_non_null(b);
        memcpy((uint8_t *)p + (l.v[i].off - off), b->p + l.v[i].block_off, l.v[i].len);
    }
    pthread_mutex_unlock(&f->blocks_lock);
    return 0;
}

static bool may_recut(void *ctx, uint64_t node)
{
    (void)node;
    return !((struct fake *)ctx)->committed;
}

static void settled(void *ctx)
{
    struct fake *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->settled++;
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
}

/* Until `settled` has been called once more than `before`; the lock is given back meanwhile. */
static void wait_settled(struct fake *f, unsigned before)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    while (f->settled == before)
        if (pthread_cond_timedwait(&f->news, &f->lock, &until) != 0)
            fail_msg("nobody is told that a job has ended");
}

static int64_t now(void *ctx)
{
    return ((struct fake *)ctx)->now;
}

static void begin(struct fake *f, unsigned threads, uint64_t max)
{
    *f = (struct fake){.now = 1000000000000, .threads = threads};
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->blocks_lock, NULL);
    pthread_cond_init(&f->news, NULL);
    struct wb_options o = {.owner = {f, &f->lock, put, apply, load, may_recut, settled, now},
                           .max = max,
                           .threads = threads};
    assert_int_equal(wb_new(&f->wb, &o), 0);
    pthread_mutex_lock(&f->lock);
    wb_open(f->wb, NODE);
}

static void wait_flush(struct fake *f)
{
    uint64_t ticket = 0;
    int rc;
    while ((rc = wb_flush(f->wb, NODE, &ticket)) == WB_WAIT)
        wait_settled(f, f->settled);
    assert_int_equal(rc, 0);
}

static void end(struct fake *f)
{
    pthread_mutex_unlock(&f->lock);
    wb_free(f->wb);
    for (size_t i = 0; i < f->blocks_n; i++)
        free(f->blocks[i].p);
    free(f->blocks);
    extent_list_free(&f->tree);
}

static void write_at(struct fake *f, uint64_t off, const void *p, size_t len)
{
    int rc;
    while ((rc = wb_write(f->wb, NODE, f->size, 0, off, p, len)) == WB_WAIT) {
        if (f->threads == 0)
            assert_int_equal(wb_flush_now(f->wb, NODE, false), 0);
        else
            wait_settled(f, f->settled);
    }
    assert_int_equal(rc, 0);
}

/* The file as a reader sees it. */
static uint64_t view(struct fake *f, uint8_t *p)
{
    uint64_t size = f->size;
    int64_t mtime = 0;
    wb_attr(f->wb, NODE, &size, &mtime);
    load(f, NODE, 0, p, size);
    wb_copy(f->wb, NODE, 0, p, size);
    return size;
}

static void noise(uint8_t *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = (uint8_t)(seed >> 56);
    }
}

static void random_against_array(void **state)
{
    (void)state;
    uint8_t *want = calloc(1, FILE_MAX), *got = malloc(FILE_MAX), *data = malloc(2 << 20);
    assert_true(want != NULL && got != NULL && data != NULL);
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct fake f;
        uint64_t size = 0;
        memset(want, 0, FILE_MAX);
        srand(seed);
        begin(&f, seed % 3, seed % 2 != 0 ? 16 << 20 : 256 << 20);
        for (int k = 0; k < 150; k++) {
            size_t len = (size_t)rand() % (rand() % 2 != 0 ? 5000 : 1500000) + 1;
            uint64_t off = rand() % 3 == 0 ? size : (uint64_t)rand() % (16u << 20);
            off = off + len > FILE_MAX ? 0 : off;
            switch (rand() % 10) {
            case 0:
                wait_flush(&f);
                break;
            case 1:
                assert_int_equal(wb_flush_now(f.wb, NODE, rand() % 4 == 0), 0);
                break;
            case 2:
                wait_flush(&f);
                f.size = size = (uint64_t)rand() % (size + 1);
                extent_list_splice(&f.tree, size, FILE_MAX, NULL);
                wb_truncate(f.wb, NODE, size);
                memset(want + size, 0, FILE_MAX - size);
                break;
            case 3:
                wb_close(f.wb, NODE);
                wb_open(f.wb, NODE);
                break;
            default:
                noise(data, len, (uint64_t)k);
                write_at(&f, off, data, len);
                memcpy(want + off, data, len);
                size = size > off + len ? size : off + len;
            }
            assert_int_equal(view(&f, got), size);
            assert_memory_equal(got, want, size);
        }
        wait_flush(&f);
        assert_int_equal(wb_dirty_bytes(f.wb), 0);
        assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
        assert_int_equal(f.size, size);
        load(&f, NODE, 0, got, size);
        assert_memory_equal(got, want, size);
        wb_close(f.wb, NODE);
        assert_int_equal(wb_bytes(f.wb), 0);
        end(&f);
    }
    free(want);
    free(got);
    free(data);
}

/* Extents of the bytes written in pieces of `step`, flushed after every `flush`-th. */
static void write_all(const uint8_t *p, size_t n, size_t step, size_t flush, uint64_t max,
                      struct extent_list *out)
{
    struct fake f;
    begin(&f, 1, max);
    for (size_t at = 0, k = 1; at < n; at += step, k++) {
        write_at(&f, at, p + at, n - at < step ? n - at : step);
        if (flush != 0 && k % flush == 0)
            wait_flush(&f);
    }
    wb_close(f.wb, NODE);
    while (!wb_idle(f.wb, NODE))
        wait_settled(&f, f.settled);
    assert_int_equal(f.size, n);
    for (size_t i = 0; i < f.tree.n; i++)
        extent_list_append(out, &f.tree.v[i]);
    end(&f);
}

static void cuts_ignore_timing(void **state)
{
    (void)state;
    size_t n = (9 << 20) + 12345;
    uint8_t *p = malloc(n);
    assert_non_null(p);
    noise(p, n, 5);
    cleanup_extents struct extent_list want = {0};
    write_all(p, n, 1 << 20, 0, 256 << 20, &want);
    assert_true(want.n >= 3);
    const struct {
        size_t step, flush;
        uint64_t max;
    } ways[] = {{n, 0, 256 << 20},
                {4096, 100, 256 << 20},
                {1000, 1777, 256 << 20},
                {100000, 1, 256 << 20},
                {65536, 3, 9 << 20}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        cleanup_extents struct extent_list got = {0};
        write_all(p, n, ways[i].step, ways[i].flush, ways[i].max, &got);
        assert_true(extent_list_equal(&want, &got));
    }
    free(p);
}

/* A header that is written anew each time the file has grown: the same cuts, and the stretch is not
 * scanned anew each time. */
static void cuts_where_the_beginning_changes(void **state)
{
    (void)state;
    enum { STEP = 4096, HEADER = 512 };
    size_t n = 6 << 20;
    uint8_t *p = malloc(n);
    assert_non_null(p);
    noise(p, n, 11);
    cleanup_extents struct extent_list want = {0};
    write_all(p, n, n, 0, 256 << 20, &want);
    assert_true(want.n >= 3);
    size_t at = 0, cut = (size_t)want.v[0].len; /* of the first block */
    struct fake f;
    begin(&f, 1, 256 << 20);
    for (; at + STEP < cut; at += STEP) {
        uint8_t header[HEADER];
        noise(header, HEADER, at);
        write_at(&f, at, p + at, STEP);
        write_at(&f, 0, header, HEADER);
    }
    write_at(&f, 0, p, HEADER);
    write_at(&f, at, p + at, n - at);
    assert_in_range(f.wb->rescanned, 1, 2 * cut);
    wb_close(f.wb, NODE);
    while (!wb_idle(f.wb, NODE))
        wait_settled(&f, f.settled);
    assert_true(extent_list_equal(&f.tree, &want));
    end(&f);
    free(p);
}

static void rewrite_in_place(void **state)
{
    (void)state;
    struct fake f;
    uint8_t page[4096];
    uint8_t *p = malloc(3 << 20);
    assert_non_null(p);
    noise(p, 3 << 20, 1);
    begin(&f, 0, 64 << 20);
    write_at(&f, 0, p, 3 << 20);
    assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
    size_t blocks = f.blocks_n;
    noise(page, sizeof(page), 2);
    write_at(&f, 1000000, page, sizeof(page));
    assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
    assert_int_equal(f.blocks_n, blocks + 1); /* one block of just these bytes */
    assert_int_equal(f.blocks[blocks].len, sizeof(page));
    /* a slow rewrite that grows over the limit is cut like a fast one */
    f.recuts = 0;
    for (size_t at = 0; at < 600000; at += 100000) {
        write_at(&f, 2000000 + at, p + at, 100000);
        assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
    }
    assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
    assert_true(f.recuts > 0);
    cleanup_extents struct extent_list l = {0};
    extent_list_slice(&f.tree, 2000000, 600000, &l);
    assert_true(l.n <= 2);
    free(p);
    end(&f);
}

/* What fsync returned 0 for lies in blocks that a later cut replaces in the tree, which may be on
 * disk before that cut: so the cut is there first. Others are not waited for. */
static void what_replaces_promised_bytes_is_durable(void **state)
{
    (void)state;
    struct fake f;
    uint8_t *p = malloc(3 << 20);
    assert_non_null(p);
    noise(p, 3 << 20, 1);
    begin(&f, 1, 64 << 20);
    write_at(&f, 0, p, 60000);
    wait_flush(&f); /* its age, or close through another descriptor: nothing is promised */
    write_at(&f, 60000, p + 60000, 30000);
    wb_close(f.wb, NODE);
    wait_flush(&f);
    assert_int_equal(f.durable, 0);
    wb_open(f.wb, NODE);
    write_at(&f, 90000, p + 90000, 60000);
    wait_flush(&f);
    wb_promise(f.wb, NODE); /* fsync */
    wb_close(f.wb, NODE);   /* one block holds all of it already */
    wait_flush(&f);
    assert_int_equal(f.durable, 0);
    wb_open(f.wb, NODE);
    write_at(&f, 150000, p + 150000, 60000);
    wait_flush(&f);
    wb_promise(f.wb, NODE);
    write_at(&f, 210000, p + 210000, 30000);
    wb_close(f.wb, NODE);
    wait_flush(&f);
    assert_int_equal(f.durable, 1);
    wb_open(f.wb, NODE); /* the cut of a long stretch likewise, without a close */
    write_at(&f, 240000, p + 240000, 1000);
    wait_flush(&f);
    wb_promise(f.wb, NODE);
    for (size_t at = 241000; at < 2 << 20; at += 100000)
        write_at(&f, at, p + at, 100000);
    wait_flush(&f);
    assert_int_equal(f.durable, 2);
    wb_close(f.wb, NODE);
    wait_flush(&f);
    assert_int_equal(f.durable, 2);
    free(p);
    end(&f);
}

static void small_file_is_hashed_once(void **state)
{
    (void)state;
    struct fake f;
    begin(&f, 0, 64 << 20);
    write_at(&f, 0, "hello", 5);
    assert_int_equal(wb_flush_now(f.wb, NODE, false), 0); /* flush of close */
    assert_false(wb_may_commit(f.wb, NODE));              /* more may follow */
    wb_close(f.wb, NODE);
    assert_int_equal(f.puts, 1);
    assert_true(wb_may_commit(f.wb, NODE));
    end(&f);
}

/* What others have as it is would be an edit to them if it were cut anew. */
static void what_is_committed_keeps_its_blocks(void **state)
{
    (void)state;
    for (int committed = 0; committed < 2; committed++) {
        struct fake f;
        begin(&f, 0, 64 << 20);
        write_at(&f, 0, "hello", 5);
        assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
        write_at(&f, 5, "world", 5);
        assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
        f.committed = committed;
        wb_close(f.wb, NODE);
        assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
        assert_int_equal(f.recuts, !committed);
        assert_int_equal(f.puts, committed ? 2 : 3);
        assert_int_equal(f.tree.n, committed ? 2 : 1);
        assert_int_equal(wb_bytes(f.wb), 0);
        end(&f);
    }
}

static void failure_keeps_the_data(void **state)
{
    (void)state;
    struct fake f;
    uint8_t got[8];
    begin(&f, 0, 64 << 20);
    f.fail_put = -ENOSPC;
    write_at(&f, 0, "precious", 8);
    assert_int_equal(wb_flush_now(f.wb, NODE, false), -ENOSPC);
    assert_int_equal(wb_flush_now(f.wb, NODE, false), -ENOSPC); /* and says so again */
    assert_int_equal(view(&f, got), 8);
    assert_memory_equal(got, "precious", 8);
    f.fail_put = 0;
    f.fail_apply = -EIO;
    assert_int_equal(wb_flush_now(f.wb, NODE, false), -EIO);
    assert_true(wb_dirty(f.wb, NODE));
    f.fail_apply = 0;
    assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
    assert_false(wb_dirty(f.wb, NODE));
    assert_int_equal(f.size, 8);
    end(&f);
}

/* Writers wait when all files together have so much in memory, whatever they write to, and go on
 * when some of it is stored. */
static void writers_wait_for_memory(void **state)
{
    (void)state;
    enum { MAX = 1 << 20, PIECE = 64 << 10, OTHER = NODE + 1 };
    static uint8_t piece[PIECE];
    struct fake f;
    uint64_t off = 0;
    begin(&f, 0, MAX);
    wb_open(f.wb, OTHER);
    noise(piece, PIECE, 1);
    while (off < 4 * MAX && wb_write(f.wb, NODE, f.size, 0, off, piece, PIECE) == 0)
        off += PIECE;
    assert_true(off > 0 && off <= MAX);
    assert_int_equal(wb_write(f.wb, OTHER, 0, 0, 0, piece, PIECE), WB_WAIT);
    assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
    assert_int_equal(wb_write(f.wb, OTHER, 0, 0, 0, piece, PIECE), 0);
    end(&f);
}

/* What is on its way into the tree is not read back from there, where the bytes before it still
 * are: a stretch that goes on would write them over what it holds. */
static void memory_is_not_taken_from_what_is_under_way(void **state)
{
    (void)state;
    enum { MAX = 4 << 20, PIECE = 64 << 10, LEN = 1 << 20, OTHER = NODE + 1 };
    static uint8_t old[2 * LEN], want[2 * LEN], got[2 * LEN];
    struct fake f;
    begin(&f, 0, MAX);
    noise(old, sizeof(old), 1);
    noise(want, sizeof(want), 2);
    write_at(&f, 0, old, sizeof(old));
    assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
    write_at(&f, 0, want, LEN); /* long enough to be cut as new */
    f.fail_put = -ENOSPC;
    assert_int_equal(wb_flush_now(f.wb, NODE, false), -ENOSPC);
    wb_open(f.wb, OTHER);
    uint64_t off = 0;
    while (wb_write(f.wb, OTHER, 0, 0, off, old, PIECE) == 0)
        off += PIECE;
    assert_true(off > 0 && off < MAX);
    wb_forget(f.wb, OTHER);
    wb_close(f.wb, OTHER);
    f.fail_put = 0;
    write_at(&f, LEN, want + LEN, 100);
    memcpy(want + LEN + 100, old + LEN + 100, LEN - 100);
    assert_int_equal(wb_flush_now(f.wb, NODE, true), 0);
    assert_int_equal(f.size, sizeof(want));
    load(&f, NODE, 0, got, sizeof(got));
    assert_memory_equal(got, want, sizeof(want));
    end(&f);
}

static void jobs_done_by_others_are_told(void **state)
{
    (void)state;
    struct fake f;
    uint8_t *p = calloc(1, WB_INLINE + 1);
    assert_non_null(p);
    begin(&f, 1, 64 << 20);
    for (int forget = 0; forget < 2; forget++) {
        uint64_t ticket = 0;
        unsigned before = f.settled;
        write_at(&f, forget == 0 ? 0 : 4 << 20, p, WB_INLINE + 1);
        assert_int_equal(wb_flush(f.wb, NODE, &ticket), WB_WAIT);
        if (forget != 0) /* both before a thread gets the lock */
            wb_forget(f.wb, NODE);
        else
            assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
        wait_settled(&f, before);
        assert_int_equal(wb_flush(f.wb, NODE, &ticket), 0);
    }
    free(p);
    end(&f);
}

static void age_retries_what_failed(void **state)
{
    (void)state;
    struct fake f;
    begin(&f, 1, 64 << 20);
    f.fail_put = -ENOSPC;
    write_at(&f, 0, "precious", 8);
    assert_int_equal(wb_flush_now(f.wb, NODE, false), -ENOSPC);
    f.fail_put = 0;
    f.now += WB_AGE_NS;
    wait_settled(&f, f.settled);
    assert_false(wb_dirty(f.wb, NODE));
    end(&f);
}

static void quiet_or_long_unfinished(void **state)
{
    (void)state;
    struct fake f;
    begin(&f, 0, 64 << 20);
    write_at(&f, 0, "line\n", 5);
    assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
    assert_false(wb_may_commit(f.wb, NODE));
    f.now += WB_QUIET_NS;
    assert_true(wb_may_commit(f.wb, NODE));
    for (int i = 0; i < 59; i++) { /* a log that is written every second */
        f.now += 1000000000;
        write_at(&f, 5 + (uint64_t)i, "x", 1);
    }
    assert_int_equal(wb_flush_now(f.wb, NODE, false), 0);
    assert_true(wb_may_commit(f.wb, NODE));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_against_array),
        cmocka_unit_test(cuts_ignore_timing),
        cmocka_unit_test(cuts_where_the_beginning_changes),
        cmocka_unit_test(rewrite_in_place),
        cmocka_unit_test(what_replaces_promised_bytes_is_durable),
        cmocka_unit_test(small_file_is_hashed_once),
        cmocka_unit_test(what_is_committed_keeps_its_blocks),
        cmocka_unit_test(failure_keeps_the_data),
        cmocka_unit_test(writers_wait_for_memory),
        cmocka_unit_test(memory_is_not_taken_from_what_is_under_way),
        cmocka_unit_test(jobs_done_by_others_are_told),
        cmocka_unit_test(age_retries_what_failed),
        cmocka_unit_test(quiet_or_long_unfinished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
