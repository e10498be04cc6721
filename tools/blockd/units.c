// SPDX-License-Identifier: Apache-2.0
#include "units.h"

#include <stdlib.h>
#include <string.h>

/* Digits, and what follows them. */
static bool number(const char *text, uint64_t max, uint64_t *out, const char **rest)
{
    *out = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        *out = *out * 10 + (uint64_t)(*p - '0');
        if (*out > max)
            return false;
    }
    *rest = p;
    return p != text && (!*p || !p[1]);
}

bool parse_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *rest;
    if (!number(text, UINT64_C(1) << 53, out, &rest))
        return false;
    const char *unit = *rest ? strchr(units, *rest) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if ((*rest && !unit) || *out > (UINT64_C(1) << 53) >> shift)
        return false;
    *out <<= shift;
    return true;
}

bool parse_seconds(const char *text, unsigned *out)
{
    uint64_t v;
    const char *rest;
    if (!number(text, UINT32_MAX, &v, &rest))
        return false;
    v *= *rest == 'm' ? 60 : *rest == 'h' ? 3600 : *rest == 'd' ? 86400 : 1;
    *out = (unsigned)v;
    return (!*rest || strchr("smhd", *rest)) && v <= INT32_MAX;
}
