// SPDX-License-Identifier: Apache-2.0
/* Every message: the first byte picks it, the rest is decoded both ways. What decodes must encode
 * to bytes that decode strictly, and those encode to themselves. */
#include "fuzz.h"
#include "messages.h"

#include <assert.h>
#include <string.h>

static void decode_and_again(const struct msg_desc *d, const uint8_t *p, size_t n,
                             enum msg_mode mode)
{
    struct arena a cleanup_arena = {0};
    struct buf once cleanup_buf = {0}, twice cleanup_buf = {0};
    void *msg = arena_alloc(&a, d->size);
    const char *why = NULL;
    if (msg_decode(d, msg, p, n, mode, &a, &why) != 0) {
        assert(strstr(why, ": "));
        return;
    }
    msg_encode(d, msg, &once);
    int err = msg_decode(d, msg, once.p, once.n, MSG_STRICT, &a, &why);
    assert(err == 0);
    msg_encode(d, msg, &twice);
    assert(once.n == twice.n && memcmp(once.p, twice.p, once.n) == 0);
    (void)err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct msg_desc *d = msg_all[data[0] % msg_all_n];
    decode_and_again(d, data + 1, size - 1, MSG_STRICT);
    decode_and_again(d, data + 1, size - 1, MSG_LENIENT);
    return 0;
}
