// SPDX-License-Identifier: Apache-2.0
/* Which storage a block server has, and which opening of it counts. [internal to tools/metad]
 *
 * A storage's generation rises with everything that is put into it. So one that is opened with a
 * lower generation than was proved of it was set back: it lacks what was put since. Whoever opens
 * it says a random number (`run`), and what proves that a block is there says it, too: what was put
 * by an opening that was followed by another one counts as far as the later one found it.
 *
 *   says                                              then
 *   the present incarnation and run                   nothing new
 *   the present incarnation, a new run, and found
 *     all that was proved                             a restart: the run counts from now on
 *     less                                            set back: the incarnation is given up, all
 *                                                     presence is void; it is to take another one
 *   an incarnation that was given up                  it is to take another one
 *   a new incarnation                                 an empty or replaced storage, or one renewed:
 *                                                     presence is void, the old one is given up
 *   a run that was followed by another                superseded: a process that should not run;
 *                                                     nothing it says counts
 *
 * What comes late or twice changes nothing twice: each beat of before is of a run that ended or of
 * an incarnation that was given up. Two processes on copies of one storage: the later one counts.
 * Everything runs inside meta_change_begin/end; 0 or -errno.
 */
#ifndef STEADFS_METAD_OPENING_H
#define STEADFS_METAD_OPENING_H

#include "meta_private.h"

struct opening {
    bool lost;       /* presence is void from now on; the row has another generation */
    bool renew;      /* the storage needs another incarnation; nothing of it counts before */
    bool superseded; /* the process is not the one that counts */
};

/* Judges a beat; changes the row s, which the caller stores, unless it is superseded. -EAGAIN: it
 * does not tell openings, but has done so before, or its incarnation was given up. */
int opening_judge(struct meta *m, struct server_row *s, const struct m_beat_req *q,
                  struct opening *o);
/* No storage of the server counts, until it has another incarnation; s is changed, and stored by
 * the caller. */
int opening_give_up(struct meta *m, struct server_row *s);
/* … after it was stored: what follows for what it lacks, for orders and checks. */
int opening_lost(struct meta *m, uint64_t server);
/* Both, and stored: whatever is recorded of the server is void; what it says it is, too. */
int opening_void(struct meta *m, struct server_row *s);
/* Whether what the caller says of its storage is of the one that counts. */
bool opening_is(const struct server_row *s, struct bytes incarnation, uint64_t run);
/* Whether a proof of that generation is of what the storage has, given by that opening. */
bool opening_has(const struct server_row *s, struct bytes incarnation, uint64_t run,
                 uint64_t generation);
#endif
