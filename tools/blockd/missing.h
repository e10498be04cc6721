// SPDX-License-Identifier: Apache-2.0
/* Blocks that somebody was sent here for by the metadata server, and that are not here: what is
 * recorded of this server is wrong. They are told, a few at a time; replication brings them then.
 *
 * Whoever may read a namespace can name any id here. So what is told is what this server itself
 * does not find, the metadata server keeps nothing of what is not recorded, and a number is
 * bounded: rows that do not fit are dropped, since the next read names them again. Not thread-safe.
 */
#ifndef MISSING_H
#define MISSING_H

#include "messages.h"
#include "rpc.h"
#include "storage.h"

#define MISSING_MAX 256u       /* known at a time, and told in one call: m_inventory_req.missing */
#define MISSING_AGAIN_MS 10000 /* one that was told of makes room, and may be told again */
#define MISSING_PAUSE_MS 1000  /* from one call to the next */

/* Plain; empty when zero. */
struct missing {
    struct missing_row {
        uint64_t ns;
        struct block_id id;
        int64_t told_at; /* 0: it waits */
    } v[MISSING_MAX];
    size_t n, waiting;
};

/* True: it waits now, and did not before. */
bool missing_add(struct missing *m, uint64_t ns, const struct block_id *id, int64_t now_ms);
/* Those that wait; they do not any more. Returns how many. */
size_t missing_take(struct missing *m, int64_t now_ms, struct m_lost out[MISSING_MAX]);

/* Tells those of v that are not here now. *lost: how many were recorded. 0 or -errno with a line in
 * message (512 bytes). */
int missing_tell(struct storage *s, struct rpc *rpc, const char *meta, struct m_lost *v, size_t n,
                 uint64_t *lost, char *message);
#endif
