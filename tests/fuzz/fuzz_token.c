// SPDX-License-Identifier: Apache-2.0
/* Tokens: the input as a token under a key it was not made with, which nothing may pass; and, where
 * its front part is a message, that message sealed, which must open to the same. */
#include "fuzz.h"
#include "token.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const struct token_key key = {.id = 1, .key = "the fuzz target's own secret..."};

static void capabilities(struct bytes in, struct arena *a)
{
    struct m_capability c, again;
    struct buf token cleanup_buf = {0};
    int err = capability_open(&c, in, &key, a);
    assert(err == -EBADMSG || err == -EKEYREJECTED || err == -EACCES);
    if (msg_decode(&m_capability_desc, &c, in.p, in.n, MSG_STRICT, a, NULL) != 0)
        return;
    c.key_id = key.id;
    capability_seal(&c, &key, &token);
    err = capability_open(&again, bytes_of(token.p, token.n), &key, a);
    assert(err == 0 && memcmp(&c, &again, sizeof(c)) == 0);
}

static void receipts(struct bytes in, struct arena *a)
{
    struct m_receipt r, again;
    struct buf token cleanup_buf = {0};
    int peeked = receipt_peek(&r, in, a);
    int err = receipt_open(&r, in, &key, a);
    assert(err == -EBADMSG || err == -EKEYREJECTED || err == -EACCES);
    assert((peeked == -EBADMSG) == (err == -EBADMSG));
    (void)peeked;
    if (msg_decode(&m_receipt_desc, &r, in.p, in.n, MSG_STRICT, a, NULL) != 0 ||
        r.incarnation.n != 16)
        return;
    receipt_seal(&r, &key, &token);
    err = receipt_open(&again, bytes_of(token.p, token.n), &key, a);
    assert(err == 0 && again.len == r.len && bytes_equal(again.incarnation, r.incarnation));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a cleanup_arena = {0};
    capabilities(bytes_of(data, size), &a);
    receipts(bytes_of(data, size), &a);
    return 0;
}
