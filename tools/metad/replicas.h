// SPDX-License-Identifier: Apache-2.0
/* What block servers lack of the namespaces assigned to them. [internal to tools/metad]
 *
 * A server lacks a block when a commit refers to it, the server is assigned to the namespace and is
 * not leaving it, and no presence is recorded under its generation. Whatever changes one of these
 * calls a function here, in the same transaction. When the last lacking block of a commit arrives,
 * the commit gets the next number in the server's order of completion. Everything runs inside
 * meta_change_begin/end; 0 or -errno.
 */
#ifndef STEADFS_METAD_REPLICAS_H
#define STEADFS_METAD_REPLICAS_H

#include "commit.h"

#define FILL_BLOCKS 20000u /* looked up at a time for a server that has to be filled */

/* A commit was written: notes which server lacks which of its blocks, and whose it completes. */
int replicas_commit(struct commit *c);
/* Presence was recorded. */
int replicas_present(struct meta *m, uint64_t ns, uint64_t server, const struct block_id *b);
/* The server was assigned, or comes back while it was leaving. */
int replicas_assigned(struct meta *m, uint64_t ns, uint64_t server);
/* The server's storage is another one: nothing recorded of it counts. */
int replicas_renewed(struct meta *m, uint64_t server);
/* Lets a leaving server go if nothing depends on it any more. What others have does not count while
 * they are silent: a machine that is gone is recorded to have all it had; force: it does. */
int replicas_let_go(struct meta *m, uint64_t ns, uint64_t server, int64_t now_ms, bool force,
                    struct arena *ar);
/* The server is to leave; it is let go at once where nothing depends on it. */
int replicas_leave(struct meta *m, uint64_t ns, uint64_t server, int64_t now_ms, bool force,
                   struct arena *ar);

#endif
