// SPDX-License-Identifier: Apache-2.0
/* What clients have put here and nobody has committed yet, by account and namespace: no quota
 * counts it, so it is bounded here.
 *
 * A block counts from its put on, as at least 4 KiB, until the metadata server has recorded it here
 * (confirm.h asks) or it is here no more. An account may have as much of it in a namespace as that
 * namespace's quota of bytes, at least UNCOMMITTED_LEAST: more could not be committed anyway. Where
 * there is no quota, or it is not known yet, all but an eighth of what would be free without any of
 * it: one large file may need it, and is committed as a whole. Whoever
 * comes to his bound has what he put UNCOMMITTED_AGE_MS ago, or longer, removed: so what was given
 * up (a file that was too large after all) is in nobody's way for long.
 *
 * In memory only: after a restart what was put before counts no more. Any thread.
 */
#ifndef UNCOMMITTED_H
#define UNCOMMITTED_H

#include "buf.h"

#define UNCOMMITTED_LEAST (64ull << 20)
#define UNCOMMITTED_LEFT 8          /* of what would be free, one in 8 is left to others */
#define UNCOMMITTED_BLOCK 4096u     /* bytes that any block counts for, at least */
#define UNCOMMITTED_ROWS (1u << 20) /* blocks at a time … */
#define UNCOMMITTED_SHARE 8       /* … of which one account may have, in a namespace, one in 8 */
#define UNCOMMITTED_ASKED 1024u   /* in one question: m_recorded_req.blocks */
#define UNCOMMITTED_AGE_MS 600000 /* or the grace time, if that is less */

struct uncommitted;

/* Whose it is. */
struct uncommitted_party {
    uint64_t account, ns;
};

struct uncommitted_block {
    struct block_id id;
    uint64_t len;
};

struct uncommitted_row {
    uint64_t ns;
    struct block_id id;
};

struct uncommitted *uncommitted_new(void);
void uncommitted_free(struct uncommitted *u);
/* Whether the account may put these n blocks, which are not here for the namespace. free_bytes: of
 * the storage; 0: not known. 0: they count from now on, until uncommitted_put is told what became
 * of them. -EDQUOT with a line in why (256 bytes); why NULL: it is not known yet which of them are
 * here, and -EDQUOT, of which nothing is noted, means that this is to be looked at. */
int uncommitted_admit(struct uncommitted *u, struct uncommitted_party who,
                      const struct uncommitted_block *v, size_t n, uint64_t free_bytes, char *why);
/* That put is over; stored[i]: block i is here now, and was not before (monotonic ms). */
void uncommitted_put(struct uncommitted *u, struct uncommitted_party who,
                     const struct uncommitted_block *v, const bool *stored, size_t n,
                     int64_t now_ms);
/* Some that were put before this by whoever was refused since the last time: at most max. */
size_t uncommitted_given_up(struct uncommitted *u, int64_t before_ms, struct uncommitted_row *out,
                            size_t max);
/* The next ones to ask about, each once in a pass: at most max; 0: the pass is over, the next call
 * begins another. */
size_t uncommitted_next(struct uncommitted *u, struct uncommitted_row *out, size_t max);
/* It is committed, or here no more. */
void uncommitted_settle(struct uncommitted *u, uint64_t ns, const struct block_id *id);
void uncommitted_quota(struct uncommitted *u, uint64_t ns, uint64_t bytes); /* 0: none */
/* Nobody can tell what is committed: nothing counts. */
void uncommitted_forget(struct uncommitted *u);
/* Somebody has more than half of what he may, or is new: it is to be asked about soon. */
bool uncommitted_pressing(struct uncommitted *u);
uint64_t uncommitted_blocks(struct uncommitted *u);
/* Appends Prometheus text. */
void uncommitted_print(struct uncommitted *u, struct buf *out);
#endif
