// SPDX-License-Identifier: Apache-2.0
/* Extent lists against an array that holds, for every byte of a small file, where its content lies.
 */
#include "extent.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

#define FILE_LEN 200
#define BLOCKS 3

/* 0: hole; else 1 + block * 1000 + offset in the block */
struct model {
    int at[FILE_LEN];
};

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct m_extent extent(uint64_t off, uint64_t len, unsigned block, uint64_t block_off)
{
    struct m_extent e = {.off = off, .len = len, .block_off = block_off};
    e.block.b[32] = (uint8_t)block;
    return e;
}

static void model_set(struct model *m, const struct m_extent *e)
{
    for (uint64_t i = 0; i < e->len; i++)
        m->at[e->off + i] = 1 + e->block.b[32] * 1000 + (int)(e->block_off + i);
}

static struct model model_of(const struct extent_list *l)
{
    struct model m = {{0}};
    for (size_t i = 0; i < l->n; i++)
        model_set(&m, &l->v[i]);
    return m;
}

/* The invariant, and that nothing is left to join. */
static void assert_normal(const struct extent_list *l)
{
    assert_int_equal(extent_check(l->v, l->n, 0, FILE_LEN), 0);
    for (size_t i = 1; i < l->n; i++) {
        const struct m_extent *a = &l->v[i - 1], *b = &l->v[i];
        assert_false(a->off + a->len == b->off && a->block_off + a->len == b->block_off &&
                     a->block.b[32] == b->block.b[32]);
    }
}

/* Random extents and holes in [from, to). Offsets in the blocks often equal those in the file, so
 * that neighbours often continue each other. */
static void random_list(struct extent_list *l, uint64_t from, uint64_t to, uint64_t *rng)
{
    for (uint64_t at = from; at < to;) {
        uint64_t len = next(rng) % 12 + 1;
        if (len > to - at)
            len = to - at;
        if (next(rng) % 3) {
            struct m_extent e = extent(at, len, (unsigned)(next(rng) % BLOCKS),
                                       next(rng) % 4 ? at : next(rng) % 99);
            extent_list_append(l, &e);
        }
        at += len;
    }
}

static void splices_and_slices_follow_the_model(void **state)
{
    (void)state;
    uint64_t rng = 1;
    struct extent_list l cleanup_extents = {0};
    struct model m = {{0}};
    for (unsigned round = 0; round < 50000; round++) {
        uint64_t off = next(&rng) % FILE_LEN, len = next(&rng) % (FILE_LEN - off + 1);
        if (round % 4)
            len %= 20;
        struct extent_list with cleanup_extents = {0};
        bool hole = next(&rng) % 5 == 0;
        if (!hole)
            random_list(&with, off, off + len, &rng);
        extent_list_splice(&l, off, len, hole ? NULL : &with);
        memset(m.at + off, 0, len * sizeof(m.at[0]));
        for (size_t i = 0; i < with.n; i++)
            model_set(&m, &with.v[i]);
        struct model now = model_of(&l);
        assert_memory_equal(&now, &m, sizeof(m));
        assert_normal(&l);

        struct extent_list slice cleanup_extents = {0};
        off = next(&rng) % FILE_LEN, len = next(&rng) % (FILE_LEN - off + 1);
        extent_list_slice(&l, off, len, &slice);
        assert_int_equal(extent_check(slice.v, slice.n, off, len), 0);
        struct model part = m, sliced = model_of(&slice);
        memset(part.at, 0, off * sizeof(m.at[0]));
        memset(part.at + off + len, 0, (FILE_LEN - off - len) * sizeof(m.at[0]));
        assert_memory_equal(&sliced, &part, sizeof(part));
        uint64_t stored = 0;
        for (size_t i = 0; i < FILE_LEN; i++)
            stored += part.at[i] != 0;
        assert_int_equal(extent_list_stored(&slice), stored);
    }
}

/* Cutting out a piece and putting it back gives the list there was. */
static void putting_back_restores(void **state)
{
    (void)state;
    uint64_t rng = 2;
    for (unsigned round = 0; round < 5000; round++) {
        struct extent_list l cleanup_extents = {0}, before cleanup_extents = {0};
        struct extent_list piece cleanup_extents = {0};
        random_list(&l, 0, FILE_LEN, &rng);
        extent_list_slice(&l, 0, FILE_LEN, &before);
        uint64_t off = next(&rng) % FILE_LEN, len = next(&rng) % (FILE_LEN - off + 1);
        extent_list_slice(&l, off, len, &piece);
        extent_list_splice(&l, off, len, NULL);
        assert_true(extent_list_equal(&l, &before) == (piece.n == 0));
        extent_list_splice(&l, off, len, &piece);
        assert_true(extent_list_equal(&l, &before));
        assert_int_equal(l.n, before.n);
    }
}

static void equality_looks_through_joins(void **state)
{
    (void)state;
    struct m_extent parts[] = {extent(0, 5, 1, 0), extent(5, 5, 1, 5), extent(10, 2, 1, 11)};
    struct m_extent joined[] = {extent(0, 10, 1, 0), extent(10, 2, 1, 11)};
    struct extent_list a = {.v = parts, .n = 3}, b = {.v = joined, .n = 2};
    assert_true(extent_list_equal(&a, &b));
    joined[1].block_off = 10;
    assert_false(extent_list_equal(&a, &b));
    joined[1] = extent(10, 2, 2, 11);
    assert_false(extent_list_equal(&a, &b));
    joined[1] = extent(11, 2, 1, 11);
    assert_false(extent_list_equal(&a, &b));
    b.n = 1;
    assert_false(extent_list_equal(&a, &b));
}

static void appending_joins(void **state)
{
    (void)state;
    struct extent_list l cleanup_extents = {0};
    struct m_extent e[] = {extent(0, 5, 1, 0), extent(5, 5, 1, 5), extent(10, 1, 2, 10),
                           extent(12, 1, 2, 12)};
    for (size_t i = 0; i < 4; i++)
        extent_list_append(&l, &e[i]);
    assert_int_equal(l.n, 3);
    assert_int_equal(l.v[0].len, 10);
}

static void at_the_end_of_the_largest_file(void **state)
{
    (void)state;
    const uint64_t max = FILE_SIZE_MAX;
    struct extent_list l cleanup_extents = {0}, out cleanup_extents = {0};
    struct m_extent e = extent(max - 10, 10, 1, BLOCK_MAX - 10);
    extent_list_append(&l, &e);
    extent_list_splice(&l, max - 5, 3, NULL);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.v[1].off, max - 2);
    assert_int_equal(l.v[1].block_off, BLOCK_MAX - 2);
    extent_list_slice(&l, max - 7, UINT64_MAX,
                      &out); /* a length beyond the largest file: to its end */
    assert_int_equal(out.n, 2);
    assert_int_equal(extent_list_stored(&out), 4);
    extent_list_splice(&l, 0, max, NULL);
    assert_int_equal(l.n, 0);
}

static void what_a_peer_sends_is_checked(void **state)
{
    (void)state;
    const uint64_t max = FILE_SIZE_MAX;
    struct m_extent good[] = {extent(10, 5, 1, 0), extent(15, 5, 1, 99), extent(30, 1, 1, 0)};
    assert_int_equal(extent_check(good, 3, 10, 21), 0);
    assert_int_equal(extent_check(good, 3, 11, 21), -EINVAL);
    assert_int_equal(extent_check(good, 3, 10, 20), -EINVAL);
    assert_int_equal(extent_check(NULL, 0, 10, 20), 0);
    assert_int_equal(extent_check(NULL, 0, max, 1), -EINVAL);
    assert_int_equal(extent_check(NULL, 0, UINT64_MAX, 2), -EINVAL);
    const struct m_extent bad[] = {
        extent(10, 0, 1, 0),              /* nothing */
        extent(10, UINT64_MAX, 1, 0),     /* off + len wraps */
        extent(10, BLOCK_MAX + 1u, 1, 0), /* longer than a block */
        extent(10, 2, 1, BLOCK_MAX - 1u), /* behind the block's end */
        extent(10, 2, 1, UINT64_MAX),     /* block_off + len wraps */
        extent(UINT64_MAX, 1, 1, 0),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(extent_check(&bad[i], 1, 0, max), -EINVAL);
    const struct m_extent overlap[] = {extent(10, 5, 1, 0), extent(14, 5, 1, 0)};
    const struct m_extent unsorted[] = {extent(20, 5, 1, 0), extent(10, 5, 1, 0)};
    assert_int_equal(extent_check(overlap, 2, 0, max), -EINVAL);
    assert_int_equal(extent_check(unsorted, 2, 0, max), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splices_and_slices_follow_the_model),
        cmocka_unit_test(putting_back_restores),
        cmocka_unit_test(equality_looks_through_joins),
        cmocka_unit_test(appending_joins),
        cmocka_unit_test(at_the_end_of_the_largest_file),
        cmocka_unit_test(what_a_peer_sends_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
