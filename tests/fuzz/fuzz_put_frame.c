// SPDX-License-Identifier: Apache-2.0
/* The frame around blocks, as the block server (put) and the client (get) take it apart. */
#include "frame.h"
#include "fuzz.h"
#include "messages.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a cleanup_arena = {0};
    struct bytes head, raw;
    if (frame_split(bytes_of(data, size), &head, &raw) != 0)
        return 0;
    assert(head.p == data + 4 && raw.p == head.p + head.n && raw.p + raw.n == data + size);
    struct m_put_head put;
    struct m_get_head get;
    struct m_get_req front;
    int begins = msg_decode_front(&m_get_req_desc, &front, head.p, head.n, 2, &a);
    assert(begins == 0 || (begins == -EBADMSG && front.ns == 0));
    if (msg_decode(&m_put_head_desc, &put, head.p, head.n, MSG_STRICT, &a, NULL) == 0) {
        struct buf again cleanup_buf = {0};
        frame_head(&m_put_head_desc, &put, &again);
        struct bytes second, none;
        int err = frame_split(bytes_of(again.p, again.n), &second, &none);
        assert(err == 0 && none.n == 0);
        /* what we send ourselves begins so that its sender can be known by the beginning */
        err = msg_decode_front(&m_get_req_desc, &front, second.p, second.n, 2, &a);
        assert(err == 0 && front.ns == put.ns && front.capability.n == put.capability.n);
        err = msg_decode(&m_put_head_desc, &put, second.p, second.n, MSG_STRICT, &a, NULL);
        assert(err == 0);
        (void)err;
    }
    msg_decode(&m_get_head_desc, &get, head.p, head.n, MSG_LENIENT, &a, NULL);
    return 0;
}
