// SPDX-License-Identifier: Apache-2.0
/* A database that was put back to an older copy. [internal to tools/metad]
 *
 * Such a database knows nothing of what was committed, lost and removed since the copy was made. So
 * what it says of blocks is wrong in both directions: blocks that it records may be gone, and
 * blocks that it knows nothing of may be all there is of a commit that mounts are about to send
 * again.
 *
 * It is noticed by what others were told. The answer to each report of a block server has a number
 * that rises (its *tick*, kept in its row), and each report says the highest one that was told:
 * more than stands in the row was told by a newer state of this database, if it comes with the
 * first report after a start. Mounts tell, too: by a mark that this journal does not have
 * (m_list_ans.other). From then on, in one transaction:
 *
 *   presence       all of it is void, and every storage gets another incarnation and compares all
 * that it has, as one that was set back (opening.h): so what counts was proved since removals what
 * was ordered is void; nothing is removed, declared absent or forgotten before the history to be
 * kept, or the grace time, has passed, or an administrator says that all mounts have been back
 *   numbers        of devices, namespaces and servers go on far above those that may have been
 * given since; `epoch` tells devices to do the same with theirs
 *
 * A mark alone, which any member may make up, holds removals, but voids only what is recorded of
 * block servers that keep no tick.
 *
 * Before the first report that came after a start, presence at a block server proves nothing to who
 * has the bytes: an older copy would not be known yet. A server that knows no openings (run 0)
 * cannot renew its storage: its presence stands until it compares.
 *
 * Everything runs inside meta_change_begin/end unless it says otherwise; 0 or -errno. */
#ifndef STEADFS_METAD_RESTORED_H
#define STEADFS_METAD_RESTORED_H

#include "meta_private.h"

#define TICK_NONE 1                  /* of a block server that keeps it, and was told nothing yet */
#define TICK_MAX (UINT64_C(1) << 60) /* nobody was told more */

/* A report came: notices, takes the tick over and raises it; s is what is recorded afterwards, and
 * to be stored by the caller. */
int restored_beat(struct meta *m, struct server_row *s, const struct m_beat_req *q, int64_t now_ms,
                  struct arena *ar);
/* Until when (milliseconds since 1970) nothing is removed; 0: nothing is held. Also inside a read.
 */
int restored_keeps(struct meta *m, uint64_t *until_ms);
/* Whether nobody can know yet if the database is an older copy: a block server was not heard since
 * the start. Inside a read. */
int restored_unsure(struct meta *m, bool *unsure, struct arena *ar);
/* Ends that it is held. */
int restored_release(struct meta *m);
/* It is time for a step of forgetting: ends it when it is over. *keeps: it is not. */
int restored_step(struct meta *m, int64_t now_ms, bool *keeps);

#endif
