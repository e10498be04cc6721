// SPDX-License-Identifier: Apache-2.0
/* Chunking: against a plain model, over random splits, within bounds, local after an insertion. */
#include "cdc.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define DATA_LEN ((size_t)96 << 20)
#define CUTS_MAX 1024

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint8_t *random_data(size_t n, uint64_t seed)
{
    uint8_t *p = malloc(n);
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t v = next(&seed);
        memcpy(p + i, &v, 8);
    }
    return p;
}

struct cuts {
    size_t at[CUTS_MAX];
    size_t n;
};

/* Scans all of p in pieces of at most max_piece bytes. */
static void cut_all(struct cuts *out, const uint8_t *p, size_t n, size_t max_piece, size_t fixed)
{
    struct cdc c = {0};
    uint64_t rng = max_piece;
    out->n = 0;
    for (size_t at = 0; at < n;) {
        size_t piece = max_piece >= n ? n - at : (size_t)(next(&rng) % max_piece) + 1;
        if (piece > n - at)
            piece = n - at;
        for (size_t used = 0; used < piece;) {
            size_t cut = cdc_scan(&c, p + at + used, piece - used, fixed);
            if (cut == 0)
                break;
            assert_true(cut <= piece - used);
            used += cut;
            assert_true(out->n < CUTS_MAX);
            out->at[out->n++] = at + used;
        }
        at += piece;
    }
}

static void make_gear(uint64_t gear[256])
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t state = UINT64_C(0x9e3779b97f4a7c15) * i;
        gear[i] = next(&state);
    }
}

/* The definition, byte by byte: a cut behind byte i where the hash of the 64 bytes up to it has its
 * bits zero. The gear is made anew here. */
static void cut_plainly(struct cuts *out, const uint8_t *p, size_t n)
{
    uint64_t gear[256];
    make_gear(gear);
    size_t start = 0;
    uint64_t h = 0;
    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = i + 1 - start;
        h = (h << 1) + gear[p[i]];
        uint64_t early = UINT64_C(0x7ffffe0000000000), late = UINT64_C(0x7fffe00000000000);
        bool hit = (h & (len <= CDC_NORMAL ? early : late)) == 0;
        if (len < CDC_MIN || (!hit && len < CDC_MAX))
            continue;
        out->at[out->n++] = i + 1;
        start = i + 1;
    }
}

static void assert_same_cuts(const struct cuts *a, const struct cuts *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->at, b->at, a->n * sizeof(a->at[0]));
}

static void cuts_are_as_defined(void **state)
{
    struct cuts model, whole;
    cut_plainly(&model, *state, DATA_LEN);
    cut_all(&whole, *state, DATA_LEN, DATA_LEN, 0);
    assert_same_cuts(&model, &whole);
}

/* A place where content cuts is a cut as soon as the block is long enough, not a byte before: the
 * hash there does not depend on where the block began. */
static void shortest_block(void **state)
{
    const uint8_t *p = *state;
    uint64_t gear[256], h = 0;
    unsigned places = 0;
    make_gear(gear);
    for (size_t i = 0; i < DATA_LEN; i++) {
        h = (h << 1) + gear[p[i]];
        if ((h & UINT64_C(0x7ffffe0000000000)) != 0 || i < CDC_MIN)
            continue;
        struct cdc c = {0}, shorter = {0};
        assert_int_equal(cdc_scan(&c, p + i + 1 - CDC_MIN, CDC_MIN, 0), CDC_MIN);
        assert_int_equal(cdc_scan(&shorter, p + i + 2 - CDC_MIN, CDC_MIN - 1, 0), 0);
        places++;
    }
    assert_true(places > 5);
}

static void arrival_does_not_matter(void **state)
{
    struct cuts whole, pieces;
    cut_all(&whole, *state, DATA_LEN, DATA_LEN, 0);
    static const size_t sizes[] = {3, 7, 4096, 131072, (1u << 20) + 1, 9u << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        cut_all(&pieces, *state, DATA_LEN, sizes[i], 0);
        assert_same_cuts(&whole, &pieces);
    }
}

static void lengths_are_in_bounds(void **state)
{
    struct cuts c;
    cut_all(&c, *state, DATA_LEN, DATA_LEN, 0);
    size_t from = 0;
    for (size_t i = 0; i < c.n; i++) {
        assert_in_range(c.at[i] - from, CDC_MIN, CDC_MAX);
        from = c.at[i];
    }
    assert_in_range(c.n, from >> 21, from >> 20); /* 1 to 2 MiB on average */
}

/* Bytes that all are the same never cut, whatever they are: blocks of the largest size. */
static void runs_give_largest_blocks(void **state)
{
    (void)state;
    uint8_t *p = malloc(9u << 20);
    for (int value = 0; value < 256; value++) {
        struct cdc c = {0};
        memset(p, value, 9u << 20);
        assert_int_equal(cdc_scan(&c, p, 9u << 20, 0), CDC_MAX);
        assert_int_equal(c.scanned + c.hash, 0);
    }
    struct cdc c = {0};
    assert_int_equal(cdc_scan(&c, p, CDC_MAX - 1, 0), 0);
    assert_int_equal(cdc_scan(&c, p, 1, 0), 1);
    assert_int_equal(cdc_scan(&c, p, 0, 0), 0);
    free(p);
}

static size_t common_tail(const struct cuts *a, const struct cuts *b, size_t shift)
{
    size_t n = 0;
    while (n < a->n && n < b->n && a->at[a->n - 1 - n] + shift == b->at[b->n - 1 - n])
        n++;
    return n;
}

/* An insertion changes the blocks around it and no others. */
static void insertion_is_local(void **state)
{
    const uint8_t *data = *state;
    const size_t n = 32u << 20;
    uint8_t *longer = malloc(n + 64);
    struct cuts before, after;
    cut_all(&before, data, n, n, 0);
    uint64_t rng = 9;
    for (unsigned round = 0; round < 20; round++) {
        size_t at = (size_t)(next(&rng) % (n / 2)), extra = (size_t)(next(&rng) % 64) + 1;
        memcpy(longer, data, at);
        memset(longer + at, 0x5a, extra);
        memcpy(longer + at + extra, data + at, n - at);
        cut_all(&after, longer, n + extra, n + extra, 0);
        size_t head = 0;
        while (head < before.n && before.at[head] <= at) {
            assert_int_equal(before.at[head], after.at[head]);
            head++;
        }
        size_t tail = common_tail(&before, &after, extra);
        assert_true(before.n - head - tail <= 6);
    }
    free(longer);
}

static void fixed_cuts(void **state)
{
    struct cuts c, pieces;
    cut_all(&c, *state, DATA_LEN, DATA_LEN, CDC_MAX);
    assert_int_equal(c.n, DATA_LEN / CDC_MAX);
    for (size_t i = 0; i < c.n; i++)
        assert_int_equal(c.at[i], (i + 1) * CDC_MAX);
    cut_all(&c, *state, 1u << 20, 1u << 20, 4096);
    cut_all(&pieces, *state, 1u << 20, 10000, 4096);
    assert_int_equal(c.n, 256);
    assert_same_cuts(&c, &pieces);
}

/* After a change inside a block the places that it decides are looked at, and give what scanning
 * all of it gives: mostly nothing, and a cut where the bytes before one were put. */
static void changes_decide_what_is_near(void **state)
{
    const uint8_t *data = *state;
    struct cuts all;
    cut_all(&all, data, 32u << 20, 32u << 20, 0);
    uint8_t *p = malloc(CDC_MAX);
    uint64_t rng = 5;
    unsigned cuts = 0;
    for (unsigned round = 0; round < 200; round++) {
        size_t k = 1 + (size_t)(next(&rng) % (all.n - 1)), start = all.at[k - 1];
        size_t n = (size_t)(next(&rng) % (all.at[k] - start)), to, from;
        size_t len = (size_t)(next(&rng) % 200);
        memcpy(p, data + start, n);
        len = len < n ? len : n;
        from = n > len ? (size_t)(next(&rng) % (n - len)) : 0;
        if (round % 2 && n > CDC_NORMAL + len)
            from = CDC_NORMAL + (size_t)(next(&rng) % (n - len - CDC_NORMAL));
        to = from + len;
        for (size_t i = from; i < to; i++)
            p[i] = (uint8_t)next(&rng);
        if (round % 2 && len >= 64) /* a place that is a cut wherever the block begins */
            memcpy(p + from, data + all.at[k] - 64, 64);
        if (round % 4 == 1 && len >= 64) { /* … because of one of its bytes, long before */
            from += 13;
            to = from + 1;
        }
        struct cdc again = {.hash = 99, .scanned = 7}, whole = {0};
        size_t cut = cdc_scan(&whole, p, n, 0);
        assert_int_equal(cdc_rescan(&again, p, n, from, to, 0), cut);
        assert_int_equal(again.scanned, whole.scanned);
        assert_int_equal(again.hash, whole.hash);
        cuts += cut != 0;
    }
    assert_true(cuts > 10);
    struct cdc c;
    assert_int_equal(cdc_rescan(&c, p, 5000, 10, 20, 8192), 0);
    assert_int_equal(c.scanned, 5000);
    assert_int_equal(cdc_rescan(&c, p, 5000, 10, 20, 4096), 4096);
    free(p);
}

static int set_up(void **state)
{
    *state = random_data(DATA_LEN, 1);
    return 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_are_as_defined),
        cmocka_unit_test(shortest_block),
        cmocka_unit_test(arrival_does_not_matter),
        cmocka_unit_test(lengths_are_in_bounds),
        cmocka_unit_test(runs_give_largest_blocks),
        cmocka_unit_test(insertion_is_local),
        cmocka_unit_test(fixed_cuts),
        cmocka_unit_test(changes_decide_what_is_near),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
