// SPDX-License-Identifier: Apache-2.0
#include "s3_keys.h"

#include <stdio.h>
#include <string.h>

void s3_name_make(char out[DIR_FILE_NAME], const struct s3_name *n)
{
    char *p = out;
    for (size_t i = 0; i < BLOCK_ID_LEN; i++)
        p += snprintf(p, 3, "%02x", n->id.b[i]);
    if (n->ns)
        snprintf(p, DIR_FILE_NAME - (size_t)(p - out), "/%016llx-%08llx", (unsigned long long)n->ns,
                 (unsigned long long)n->logical_len);
    else
        snprintf(p, 2, "/");
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
    if (strlen(name) != S3_NAME_LEN || name[66] != '/' || name[83] != '-')
        return false;
    for (size_t i = 0; i < BLOCK_ID_LEN; i++) {
        if (!hex_number(name + 2 * i, 2, &byte))
            return false;
        n->id.b[i] = (uint8_t)byte;
    }
    return hex_number(name + 67, 16, &n->ns) && hex_number(name + 84, 8, &n->logical_len) &&
           n->ns && n->logical_len && n->logical_len <= BLOCK_MAX;
}
