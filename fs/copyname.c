// SPDX-License-Identifier: Apache-2.0
#include "copyname.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EXT_MAX 64  /* longer: not an extension anybody would miss */
#define DATE_LEN 10 /* YYYY-MM-DD */

/* Bytes before the extension with its dot. */
static size_t stem_of(struct bytes name)
{
    const uint8_t *dot = memrchr(name.p, '.', name.n);
    size_t stem = dot && dot != name.p ? (size_t)(dot - name.p) : name.n;
    return stem;
}

size_t copyname_make(struct bytes original, const char *device, int64_t now, unsigned number,
                     uint8_t out[NAME_LEN_MAX])
{
    char mark[160], date[16], counter[16] = "";
    time_t t = (time_t)(now / 1000000000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(date, sizeof date, "%Y-%m-%d", &tm);
    size_t stem = stem_of(original), ext = original.n - stem, keep = stem;
    if (ext > EXT_MAX)
        ext = 0;
    if (number > 1)
        snprintf(counter, sizeof counter, " %u", number);
    size_t m = (size_t)snprintf(mark, sizeof mark, COPY_MARK "%.*s, %s%s)", COPY_DEVICE_MAX, device,
                                date, counter);
    if (keep + m + ext > NAME_LEN_MAX)
        keep = NAME_LEN_MAX - m - ext;
    while (keep < stem && keep > 0 && (original.p[keep] & 0xc0) == 0x80)
        keep--; /* not in the middle of a UTF-8 character */
    memcpy(out, original.p, keep);
    memcpy(out + keep, mark, m);
    memcpy(out + keep + m, original.p + original.n - ext, ext);
    return keep + m + ext;
}

static bool digits(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isdigit(p[i]))
            return false;
    return n > 0;
}

static bool is_date(const uint8_t *p)
{
    return digits(p, 4) && p[4] == '-' && digits(p + 5, 2) && p[7] == '-' && digits(p + 8, 2);
}

/* What stands between the mark and its bracket: DEVICE, DATE[ N]. */
static bool parse_inside(struct bytes in, struct copy_name *out)
{
    const uint8_t *space = memrchr(in.p, ' ', in.n);
    size_t n = in.n;
    if (space && digits(space + 1, (size_t)(in.p + in.n - space - 1)))
        n = (size_t)(space - in.p);
    if (n < DATE_LEN + 3 || n - DATE_LEN - 2 > COPY_DEVICE_MAX)
        return false;
    const uint8_t *date = in.p + n - DATE_LEN;
    if (!is_date(date) || memcmp(date - 2, ", ", 2) != 0)
        return false;
    snprintf(out->date, sizeof out->date, "%.*s", DATE_LEN, (const char *)date);
    snprintf(out->device, sizeof out->device, "%.*s", (int)(n - DATE_LEN - 2), (const char *)in.p);
    return true;
}

bool copyname_parse(struct bytes name, struct copy_name *out)
{
    static const size_t mark = sizeof COPY_MARK - 1;
    for (size_t at = name.n; at-- > 0;) {
        if (name.n - at <= mark || memcmp(name.p + at, COPY_MARK, mark) != 0)
            continue;
        /* the device's name may hold brackets: the last one that makes sense ends it */
        for (size_t end = name.n; end-- > at + mark;) {
            struct bytes in = bytes_of(name.p + at + mark, end - at - mark);
            if (name.p[end] != ')' || (end + 1 < name.n && name.p[end + 1] != '.') ||
                !parse_inside(in, out))
                continue;
            memcpy(out->original, name.p, at);
            memcpy(out->original + at, name.p + end + 1, name.n - end - 1);
            out->original_len = at + name.n - end - 1;
            return out->original_len > 0;
        }
        return false;
    }
    return false;
}
