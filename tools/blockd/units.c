// SPDX-License-Identifier: Apache-2.0
#include "units.h"

#include <ctype.h>
#include <stdio.h>
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

static bool parse_rate(const char *text, uint64_t *out)
{
    if (!strcmp(text, "any"))
        *out = RATE_ANY;
    else if (!strcmp(text, "none"))
        *out = RATE_NONE;
    else
        return parse_bytes(text, out);
    return true;
}

/* "FROM-TO=RATE" */
static bool parse_hours(char *text, struct rate_plan *out)
{
    unsigned from, to;
    uint64_t rate;
    int used = 0;
    char *equals = strchr(text, '=');
    if (!equals)
        return false;
    *equals = '\0';
    if (!isdigit((unsigned char)text[0]) || sscanf(text, "%2u-%2u%n", &from, &to, &used) != 2 ||
        text[used] || from > 23 || to > 24 || from == to % 24 || !parse_rate(equals + 1, &rate))
        return false;
    for (unsigned h = from; h != to % 24; h = (h + 1) % 24)
        out->hour[h] = rate;
    return true;
}

bool parse_rate_plan(const char *text, struct rate_plan *out)
{
    uint64_t rate;
    char *save = NULL, *copy = strdup(text);
    if (!copy)
        abort();
    char *part = strtok_r(copy, ",", &save);
    bool ok = part && !strstr(text, ",,") && text[0] != ',' && text[strlen(text) - 1] != ',' &&
              parse_rate(part, &rate);
    for (size_t h = 0; ok && h < 24; h++)
        out->hour[h] = rate;
    while (ok && (part = strtok_r(NULL, ",", &save)))
        ok = parse_hours(part, out);
    free(copy);
    return ok;
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
