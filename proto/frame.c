// SPDX-License-Identifier: Apache-2.0
/* The length in front lets a receiver that has only the beginning of a body find where the blocks
 * begin. When a frame is built it is filled in last: the message's length is known only then. */
#include "frame.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

int frame_split(struct bytes body, struct bytes *head, struct bytes *raw)
{
    *head = *raw = (struct bytes){0};
    uint32_t be;
    if (body.n < FRAME_LEN_BYTES)
        return -EBADMSG;
    memcpy(&be, body.p, sizeof(be));
    size_t n = be32toh(be);
    if (n > body.n - FRAME_LEN_BYTES)
        return -EBADMSG;
    *head = bytes_of(body.p + FRAME_LEN_BYTES, n);
    *raw = bytes_of(body.p + FRAME_LEN_BYTES + n, body.n - FRAME_LEN_BYTES - n);
    return 0;
}

void frame_head(const struct msg_desc *d, const void *msg, struct buf *out)
{
    size_t start = out->n;
    uint32_t be = 0;
    buf_append(out, &be, sizeof(be));
    msg_encode(d, msg, out);
    size_t n = out->n - start - sizeof(be);
    assert(n <= MSG_BODY_MAX);
    be = htobe32((uint32_t)n);
    memcpy(out->p + start, &be, sizeof(be));
}
