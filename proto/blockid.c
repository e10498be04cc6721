// SPDX-License-Identifier: Apache-2.0
/* Block ids.
 *
 * Hashing is the hottest loop of a write. The digest is fetched by every call: OpenSSL keeps it
 * cached, and next to hashing even 4 KiB that costs little; a context kept per thread would save it
 * and have to be freed when threads end.
 */
#include "blockid.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

void block_id_of(struct block_id *id, const void *p, size_t n)
{
    id->b[0] = BLOCK_KIND_SHA256;
    unsigned len = 0;
    if (EVP_Digest(n ? p : "", n, id->b + 1, &len, EVP_sha256(), NULL) != 1 ||
        len != BLOCK_ID_LEN - 1)
        abort(); /* only without memory, or without SHA-256 in the library */
}

bool block_id_matches(const struct block_id *id, const void *p, size_t n)
{
    if (id->b[0] != BLOCK_KIND_SHA256)
        return false;
    struct block_id actual;
    block_id_of(&actual, p, n);
    return block_id_equal(id, &actual);
}

bool block_id_equal(const struct block_id *a, const struct block_id *b)
{
    return memcmp(a->b, b->b, BLOCK_ID_LEN) == 0;
}

int block_id_compare(const struct block_id *a, const struct block_id *b)
{
    return memcmp(a->b, b->b, BLOCK_ID_LEN);
}

void block_id_hex(const struct block_id *id, char out[BLOCK_HEX_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < BLOCK_ID_LEN - 1; i++) {
        out[2 * i] = digits[id->b[1 + i] >> 4];
        out[2 * i + 1] = digits[id->b[1 + i] & 15];
    }
    out[BLOCK_HEX_LEN] = '\0';
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int block_id_parse(struct block_id *id, const char *hex)
{
    id->b[0] = BLOCK_KIND_SHA256;
    if (strlen(hex) != BLOCK_HEX_LEN)
        return -EINVAL;
    for (size_t i = 0; i < BLOCK_ID_LEN - 1; i++) {
        int high = digit_value(hex[2 * i]), low = digit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        id->b[1 + i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}
