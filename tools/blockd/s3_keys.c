// SPDX-License-Identifier: Apache-2.0
#include "s3_keys.h"

#include "token.h"

#include <stdio.h>
#include <string.h>

void s3_name_make(char out[DIR_FILE_NAME], const struct s3_name *n)
{
    char *p = out;
    for (size_t i = 0; i < BLOCK_ID_LEN; i++)
        p += snprintf(p, 3, "%02x", n->id.b[i]);
    if (!n->ns) {
        snprintf(p, 2, "/");
        return;
    }
    p += snprintf(p, DIR_FILE_NAME - (size_t)(p - out), "/%016llx-%08llx",
                  (unsigned long long)n->ns, (unsigned long long)n->logical_len);
    if (n->unique)
        snprintf(p, DIR_FILE_NAME - (size_t)(p - out), "-%016llx", (unsigned long long)n->unique);
}

/* Lower-case digits, as s3_name_make writes them. */
static bool hex_number(const char *p, size_t n, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        const char *digits = "0123456789abcdef", *at = p[i] ? strchr(digits, p[i]) : NULL;
        if (!at)
            return false;
        *out = *out << 4 | (uint64_t)(at - digits);
    }
    return true;
}

bool s3_name_parse(struct s3_name *n, const char *name)
{
    uint64_t byte;
    size_t len = strlen(name);
    bool unique = len == S3_NAME_LEN;
    if ((!unique && len != S3_NAME_OLD) || name[66] != '/' || name[83] != '-')
        return false;
    for (size_t i = 0; i < BLOCK_ID_LEN; i++) {
        if (!hex_number(name + 2 * i, 2, &byte))
            return false;
        n->id.b[i] = (uint8_t)byte;
    }
    n->unique = 0;
    if (unique && (name[S3_NAME_OLD] != '-' ||
                   !hex_number(name + S3_NAME_OLD + 1, 16, &n->unique) || !n->unique))
        return false;
    return hex_number(name + 67, 16, &n->ns) && hex_number(name + 84, 8, &n->logical_len) &&
           n->ns && n->logical_len && n->logical_len <= BLOCK_MAX;
}

struct s3_name s3_name_fresh(const struct s3_name *n)
{
    struct s3_name fresh = *n;
    do
        random_bytes(&fresh.unique, sizeof fresh.unique);
    while (!fresh.unique);
    return fresh;
}

bool s3_names_next(struct bytes text, size_t *at, struct s3_name *n, char out[DIR_FILE_NAME])
{
    while (*at < text.n) {
        const char *line = (const char *)text.p + *at;
        const char *end = memchr(line, '\n', text.n - *at);
        size_t len = end ? (size_t)(end - line) : text.n - *at;
        *at += len + 1;
        if (len >= DIR_FILE_NAME)
            continue;
        memcpy(out, line, len);
        out[len] = '\0';
        if (strlen(out) == len && s3_name_parse(n, out))
            return true;
    }
    return false;
}
