// SPDX-License-Identifier: Apache-2.0
/* Sorted lists of extents.
 *
 * A list is an array; places are found by bisection. A splice rebuilds only what touches its range:
 * the parts of old extents before and behind it and what comes in are appended one by one to a
 * small list (appending joins what continues the same block, so lists stay as short as they can
 * be), which then replaces that run of the array. Extents that only touch the range's edges are
 * rebuilt with it, so that they too are joined with what comes in.
 */
#include "extent.h"

#include "blockid.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t end_of(const struct m_extent *e)
{
    return e->off + e->len;
}

static void reserve(struct extent_list *l, size_t n)
{
    if (n <= l->cap)
        return;
    size_t cap = l->cap ? l->cap : 8;
    while (cap < n)
        cap *= 2;
    struct m_extent *v = reallocarray(l->v, cap, sizeof(*v));
    if (!v)
        abort();
    l->v = v;
    l->cap = cap;
}

void extent_list_free(struct extent_list *l)
{
    free(l->v);
    *l = (struct extent_list){0};
}

/* Whether b goes on in the block and in the file where a ends. */
static bool continues(const struct m_extent *a, const struct m_extent *b)
{
    return end_of(a) == b->off && a->block_off + a->len == b->block_off &&
           block_id_equal(&a->block, &b->block);
}

void extent_list_append(struct extent_list *l, const struct m_extent *e)
{
    assert(e->len > 0 && e->off <= FILE_SIZE_MAX && e->len <= FILE_SIZE_MAX - e->off);
    assert(e->block_off <= BLOCK_MAX && e->len <= BLOCK_MAX - e->block_off);
    struct m_extent *last = l->n ? &l->v[l->n - 1] : NULL;
    assert(!last || end_of(last) <= e->off);
    if (last && continues(last, e)) {
        last->len += e->len;
        return;
    }
    struct m_extent copy = *e; /* e may lie in l */
    reserve(l, l->n + 1);
    l->v[l->n++] = copy;
}

/* Appends the part of e inside [from, to), if any. */
static void append_part(struct extent_list *l, const struct m_extent *e, uint64_t from, uint64_t to)
{
    struct m_extent part = *e;
    if (part.off < from) {
        if (end_of(e) <= from)
            return;
        part.block_off += from - e->off;
        part.len -= from - e->off;
        part.off = from;
    }
    if (part.off >= to)
        return;
    if (part.len > to - part.off)
        part.len = to - part.off;
    extent_list_append(l, &part);
}

/* Index of the first extent that ends at or behind off. */
static size_t first_ending(const struct extent_list *l, uint64_t off)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (end_of(&l->v[mid]) < off)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void extent_list_splice(struct extent_list *l, uint64_t off, uint64_t len,
                        const struct extent_list *with)
{
    assert(l != with);
    assert(off <= FILE_SIZE_MAX && len <= FILE_SIZE_MAX - off);
    uint64_t end = off + len;
    struct extent_list run cleanup_extents = {0};
    size_t first = first_ending(l, off), last = first;
    for (; last < l->n && l->v[last].off < off; last++)
        append_part(&run, &l->v[last], 0, off);
    if (last > first && end_of(&l->v[last - 1]) > end)
        last--; /* reaches over the whole range: its other part comes behind */
    for (size_t i = 0; with && i < with->n; i++) {
        assert(with->v[i].off >= off && end_of(&with->v[i]) <= end);
        extent_list_append(&run, &with->v[i]);
    }
    for (; last < l->n && l->v[last].off <= end; last++)
        append_part(&run, &l->v[last], end, FILE_SIZE_MAX);

    size_t tail = l->n - last, n = first + run.n + tail;
    reserve(l, n);
    if (tail)
        memmove(l->v + first + run.n, l->v + last, tail * sizeof(*l->v));
    if (run.n)
        memcpy(l->v + first, run.v, run.n * sizeof(*l->v));
    l->n = n;
}

void extent_list_slice(const struct extent_list *l, uint64_t off, uint64_t len,
                       struct extent_list *out)
{
    assert(l != out);
    uint64_t end = len > FILE_SIZE_MAX || off > FILE_SIZE_MAX - len ? FILE_SIZE_MAX : off + len;
    for (size_t i = first_ending(l, off); i < l->n && l->v[i].off < end; i++)
        append_part(out, &l->v[i], off, end);
}

/* The extent at *i joined with those that continue it; moves *i behind them. */
static struct m_extent next_joined(const struct extent_list *l, size_t *i)
{
    struct m_extent e = l->v[(*i)++];
    while (*i < l->n && continues(&e, &l->v[*i]))
        e.len += l->v[(*i)++].len;
    return e;
}

bool extent_list_equal(const struct extent_list *a, const struct extent_list *b)
{
    size_t i = 0, j = 0;
    while (i < a->n && j < b->n) {
        struct m_extent x = next_joined(a, &i), y = next_joined(b, &j);
        if (x.off != y.off || x.len != y.len || x.block_off != y.block_off ||
            !block_id_equal(&x.block, &y.block))
            return false;
    }
    return i == a->n && j == b->n;
}

uint64_t extent_list_stored(const struct extent_list *l)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < l->n; i++)
        sum += l->v[i].len;
    return sum;
}

int extent_check(const struct m_extent *v, size_t n, uint64_t off, uint64_t len)
{
    if (off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - off)
        return -EINVAL;
    uint64_t at = off, end = off + len;
    for (size_t i = 0; i < n; i++) {
        const struct m_extent *e = &v[i];
        if (e->len == 0 || e->off < at || e->off > end || e->len > end - e->off)
            return -EINVAL;
        if (e->block_off > BLOCK_MAX || e->len > BLOCK_MAX - e->block_off)
            return -EINVAL;
        at = e->off + e->len;
    }
    return 0;
}
