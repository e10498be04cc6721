// SPDX-License-Identifier: Apache-2.0
/* Proofs that a block is at a block server, and what makes them void. [internal to tools/metad]
 *
 * A receipt or a report says that a block was put at a server in one generation of its storage. It
 * may come late: after the block was lost there, or removed. So the transaction that learns of the
 * loss, or allows the removal, notes the storage's generation from then on (table `gone`), and
 * proofs of an older one prove nothing. A proof of that generation or a later one is of a put after
 * the loss. Everything runs inside meta_change_begin/end; 0 or -errno.
 */
#ifndef STEADFS_METAD_GONE_H
#define STEADFS_METAD_GONE_H

#include "meta_private.h"

/* Whether a proof of that generation counts. */
int gone_admits(struct meta *m, uint64_t ns, const struct server_row *s, const struct block_id *b,
                uint64_t proof, bool *yes);
/* Records the presence that an admitted proof proves. */
int gone_proved(struct meta *m, uint64_t ns, const struct server_row *s, const struct block_id *b,
                uint64_t proof, int64_t now_ms);
/* The server reports that it has lost the block. */
int gone_lost(struct meta *m, const struct server_row *s, const struct m_lost *lost,
              int64_t now_ms);
#endif
