// SPDX-License-Identifier: Apache-2.0
/* Blocks that another block server is bringing, or that are being fetched from one: so that nobody
 * else brings them meanwhile. A claim ends when it is released, or by time, should who brings the
 * block vanish. In memory only. Any thread. Times are monotonic milliseconds. */
#ifndef INBOUND_H
#define INBOUND_H

#include "buf.h"

#define INBOUND_MAX 8192        /* claims at a time; above: not now */
#define INBOUND_CLAIM_MS 60000l /* longer than a put of one batch may take */

struct inbound;

struct inbound *inbound_new(void);
void inbound_free(struct inbound *in);
/* Whether the caller may bring it: nobody else's claim stands. */
bool inbound_claim(struct inbound *in, const struct block_id *id, int64_t now);
void inbound_release(struct inbound *in, const struct block_id *id);
size_t inbound_count(struct inbound *in);
#endif
