// SPDX-License-Identifier: Apache-2.0
/* Content-defined chunking with a normalised gear hash.
 *
 * hash = (hash << 1) + gear[byte]: after 63 bytes nothing of an older byte is left in the bits
 * looked at, so whether a cut may lie at a place depends on the 63 bytes before it and on nothing
 * else; after an insertion the same places are found again. A cut lies where CUT_BITS bits of the
 * hash are zero: 22 of them up to CDC_NORMAL, 18 behind it ("normalisation", which gathers the
 * lengths around the average; FastCDC level 2). On random bytes that gives blocks of 1.2 MiB on
 * average.
 *
 * The first CDC_MIN bytes of a block cannot hold a cut; they are skipped but for the last
 * CDC_WINDOW, which fill the hash. The loop takes two bytes a step: the chain of dependent
 * operations is then one shift and one addition for both. The hash after the first of the two is
 * had shifted left by one, which is why its top bit is not looked at.
 *
 * The table is splitmix64 of 0…255 (Steele, Lea, Flood, OOPSLA 2014), written as a formula: the
 * cuts decide what is found again after years, so nobody should have to trust 256 typed numbers.
 */
#include "cdc.h"

#include <assert.h>

#define CDC_WINDOW 64

#define CUT_BITS(n) (((UINT64_C(1) << (n)) - 1) << (63 - (n))) /* the n bits below the top one */
#define CUT_BITS_EARLY CUT_BITS(22)
#define CUT_BITS_LATE CUT_BITS(18)

#define MIX0(i) (((i) + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15))
#define MIX1(i) ((MIX0(i) ^ (MIX0(i) >> 30)) * UINT64_C(0xbf58476d1ce4e5b9))
#define MIX2(i) ((MIX1(i) ^ (MIX1(i) >> 27)) * UINT64_C(0x94d049bb133111eb))
#define GEAR1(i) (MIX2(i) ^ (MIX2(i) >> 31))
#define GEAR4(i) GEAR1(i), GEAR1((i) + 1), GEAR1((i) + 2), GEAR1((i) + 3)
#define GEAR16(i) GEAR4(i), GEAR4((i) + 4), GEAR4((i) + 8), GEAR4((i) + 12)
#define GEAR64(i) GEAR16(i), GEAR16((i) + 16), GEAR16((i) + 32), GEAR16((i) + 48)
static const uint64_t gear[256] = {GEAR64(0), GEAR64(64), GEAR64(128), GEAR64(192)};

/* Rolls the hash over n bytes. Returns how many of them lie before the first cut, or 0. */
static size_t roll(uint64_t *hash, const uint8_t *p, size_t n, uint64_t cut_bits)
{
    uint64_t h = *hash;
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
        uint64_t first = gear[p[i]] << 1;
        uint64_t both = first + gear[p[i + 1]];
        if (((((h << 2) + first) >> 1) & cut_bits) == 0)
            return i + 1;
        h = (h << 2) + both;
        if ((h & cut_bits) == 0)
            return i + 2;
    }
    if (i < n) {
        h = (h << 1) + gear[p[i]];
        if ((h & cut_bits) == 0)
            return n;
    }
    *hash = h;
    return 0;
}

/* Bytes from the block's place `from` up to its place `to`, but at most n. */
static size_t span(size_t from, size_t to, size_t n)
{
    size_t len = to > from ? to - from : 0;
    return len < n ? len : n;
}

/* Scans what lies before the place `until` with one mask. Returns where the cut lies in p, or 0;
 * *used counts the bytes of p gone through. */
static size_t scan_until(struct cdc *c, const uint8_t *p, size_t n, size_t *used, size_t until,
                         uint64_t cut_bits)
{
    size_t len = span(c->scanned, until, n - *used);
    if (len == 0)
        return 0;
    size_t cut = roll(&c->hash, p + *used, len, cut_bits);
    c->scanned += len;
    *used += len;
    return cut ? *used - len + cut : 0;
}

static size_t scan_content(struct cdc *c, const uint8_t *p, size_t n)
{
    size_t used = span(c->scanned, CDC_MIN - CDC_WINDOW, n);
    c->scanned += used;
    size_t warm = span(c->scanned, CDC_MIN - 1, n - used);
    for (size_t i = 0; i < warm; i++)
        c->hash = (c->hash << 1) + gear[p[used + i]];
    c->scanned += warm;
    used += warm;

    size_t cut = scan_until(c, p, n, &used, CDC_NORMAL, CUT_BITS_EARLY);
    if (cut == 0)
        cut = scan_until(c, p, n, &used, CDC_MAX, CUT_BITS_LATE);
    if (cut == 0 && c->scanned == CDC_MAX)
        cut = used;
    return cut;
}

static size_t scan_fixed(struct cdc *c, size_t n, size_t fixed)
{
    size_t used = span(c->scanned, fixed, n);
    c->scanned += used;
    return c->scanned == fixed ? used : 0;
}

size_t cdc_scan(struct cdc *c, const uint8_t *p, size_t n, size_t fixed)
{
    assert(fixed <= CDC_MAX);
    if (n == 0)
        return 0;
    size_t cut = fixed ? scan_fixed(c, n, fixed) : scan_content(c, p, n);
    if (cut)
        *c = (struct cdc){0};
    return cut;
}

/* *c as after scanning the first n bytes of a block, none of which ends it. */
static void state_after(struct cdc *c, const uint8_t *p, size_t n)
{
    size_t at = n > CDC_MIN ? n - CDC_WINDOW : CDC_MIN - CDC_WINDOW;
    *c = (struct cdc){.scanned = n};
    for (; at < n; at++)
        c->hash = (c->hash << 1) + gear[p[at]];
}

size_t cdc_rescan(struct cdc *c, const uint8_t *p, size_t n, size_t from, size_t to, size_t fixed)
{
    assert(n < CDC_MAX && from <= to && to <= n);
    size_t end = n - to < CDC_WINDOW ? n : to + CDC_WINDOW, cut = 0;
    if (fixed) {
        cut = n >= fixed ? fixed : 0;
    } else if (from < to) {
        state_after(c, p, from);
        cut = scan_content(c, p + from, end - from);
        cut += cut ? from : 0;
    }
    if (cut || fixed)
        *c = (struct cdc){.scanned = cut ? 0 : n};
    else
        state_after(c, p, n);
    return cut;
}
