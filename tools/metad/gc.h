// SPDX-License-Identifier: Apache-2.0
/* Garbage collection, as far as the metadata server knows of it. [internal to tools/metad]
 *
 * Everything runs inside meta_change_begin/end; 0 or -errno. */
#ifndef STEADFS_METAD_GC_H
#define STEADFS_METAD_GC_H

#include "meta_private.h"

#define GC_STEP 2048u /* blocks looked at in one transaction */

/* Declares absent, of at most max blocks of the namespace, those that nothing has referred to for
 * the grace time. *n: how many were looked at. */
int gc_declare(struct meta *m, uint64_t ns, int64_t now_ms, size_t max, size_t *n,
               struct meta_gc_sums *sums);
/* One step of removing what namespaces have left on servers that they are at no more: what those
 * have that they are at now, and that are not silent. At most *left blocks, which becomes less. */
int gc_parted(struct meta *m, int64_t now_ms, size_t *left);
/* Whether one of these, the servers that the namespace has now, is recorded to have the block, and
 * not silent. */
int gc_is_at(struct meta *m, uint64_t ns, const struct block_id *b,
             const struct server_row *servers, size_t servers_n, int64_t now_ms, bool *yes);
/* Unused since then is long enough. */
uint64_t gc_due_before(const struct meta *m, int64_t now_ms);
#endif
