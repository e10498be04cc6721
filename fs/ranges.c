// SPDX-License-Identifier: Apache-2.0
/* A sorted array with binary search: sets are small (what one file has dirty), and are walked more
 * often than changed. */
#include "ranges.h"

#include <stdlib.h>
#include <string.h>

/* Index of the first range that ends at or behind off. */
static size_t first_behind(const struct ranges *r, uint64_t off)
{
    size_t lo = 0, hi = r->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->v[mid].end < off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Replaces v[at, at+remove) by the n ranges given. */
static void replace(struct ranges *r, size_t at, size_t remove, const struct range *with, size_t n)
{
    if (r->n - remove + n > r->cap) {
        r->cap = r->cap == 0 ? 4 : r->cap * 2;
        r->v = realloc(r->v, r->cap * sizeof(*r->v));
        if (r->v == NULL)
            abort();
    }
    memmove(r->v + at + n, r->v + at + remove, (r->n - at - remove) * sizeof(*r->v));
    if (n > 0)
        memcpy(r->v + at, with, n * sizeof(*with));
    r->n = r->n - remove + n;
}

void ranges_add(struct ranges *r, uint64_t off, uint64_t end)
{
    if (off >= end)
        return;
    size_t at = first_behind(r, off), last = at;
    struct range new = {off, end};
    while (last < r->n && r->v[last].off <= end) {
        new.off = r->v[last].off < new.off ? r->v[last].off : new.off;
        new.end = r->v[last].end > new.end ? r->v[last].end : new.end;
        last++;
    }
    replace(r, at, last - at, &new, 1);
}

void ranges_remove(struct ranges *r, uint64_t off, uint64_t end)
{
    if (off >= end)
        return;
    size_t at = first_behind(r, off + 1), last = at, n = 0;
    struct range keep[2];
    while (last < r->n && r->v[last].off < end) {
        if (r->v[last].off < off)
            keep[n++] = (struct range){r->v[last].off, off};
        if (r->v[last].end > end)
            keep[n++] = (struct range){end, r->v[last].end};
        last++;
    }
    if (last > at)
        replace(r, at, last - at, keep, n);
}

bool ranges_cover(const struct ranges *r, uint64_t off, uint64_t end)
{
    size_t at = first_behind(r, off + 1);
    return off >= end || (at < r->n && r->v[at].off <= off && r->v[at].end >= end);
}

void ranges_free(struct ranges *r)
{
    free(r->v);
    *r = (struct ranges){0};
}
