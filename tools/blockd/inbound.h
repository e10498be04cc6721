// SPDX-License-Identifier: Apache-2.0
/* Blocks that another block server is bringing, or that are being fetched from one: so that nobody
 * else brings them meanwhile. A claim ends when it is released, or by time, should who brings the
 * block vanish. In memory only. Any thread. Times are monotonic milliseconds. */
#ifndef INBOUND_H
#define INBOUND_H

#include "buf.h"

#define INBOUND_MAX 8192 /* claims at a time; above: not now */

#define INBOUND_SELF 0 /* this block server, of which several threads fetch */

struct inbound;

struct inbound *inbound_new(void);
void inbound_free(struct inbound *in);
/* Whether block server `by` may bring it: no claim of another stands, nor one of INBOUND_SELF. Its
 * own does from now on, for so long: who asks again has given up what it was doing. */
bool inbound_claim(struct inbound *in, const struct block_id *id, uint64_t by, int64_t now,
                   int64_t for_ms);
/* Something of `by` has come: what it has claimed beside that it brings next. The claims that stand
 * last so much longer from now on. */
void inbound_renew(struct inbound *in, uint64_t by, int64_t now, int64_t for_ms);
/* A block server makes one offer after the other: what it claimed before it brings no more. */
void inbound_leave(struct inbound *in, uint64_t by);
void inbound_release(struct inbound *in, const struct block_id *id);
size_t inbound_count(struct inbound *in);
#endif
