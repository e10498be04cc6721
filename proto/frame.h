// SPDX-License-Identifier: Apache-2.0
/* The frame that blocks travel in (body of a put, answer to a get): a 4-byte big-endian length, so
 * many bytes of an encoded message (m_put_head, m_get_head), then raw bytes to the end. */
#ifndef STEADFS_FRAME_H
#define STEADFS_FRAME_H

#include "msg.h"

#define FRAME_LEN_BYTES 4

/* Points *head and *raw into body. 0, or -EBADMSG where the body is shorter than it says. */
int frame_split(struct bytes body, struct bytes *head, struct bytes *raw);
/* Appends the length and the encoded message; the raw bytes follow. */
void frame_head(const struct msg_desc *d, const void *msg, struct buf *out);
#endif
