// SPDX-License-Identifier: Apache-2.0
/* Checks that an administrator orders of block servers. [internal to tools/metad]
 *
 * An order has a number, and stands until the block server has told that it is done, or was silent
 * about it for long. The answer to its next beat names it. It then looks at all that it has
 * (blockd/check.h), compares that with what is recorded (inventory.c), and tells with its beats how
 * far it is and what it found. A check that does not mend changes no record: what it finds stands
 * in `finding`, until admin fsck has told it or another check is ordered. */
#ifndef STEADFS_METAD_AUDIT_H
#define STEADFS_METAD_AUDIT_H

#include "meta_private.h"

/* Inside meta_change_begin/end, as all of this. 0 or -errno. */
int audit_order(struct meta *m, const struct server_row *servers, size_t n, bool read, bool mend,
                int64_t now_ms, uint64_t *number);

enum audit_state {
    AUDIT_WAIT,   /* under way */
    AUDIT_DONE,   /* all of *a is known */
    AUDIT_SILENT, /* the server does not answer, or does not get on */
};
/* How far the check of that number is, or a later one. */
int audit_state(struct meta *m, const struct server_row *s, uint64_t number, int64_t now_ms,
                struct audit_row *a, enum audit_state *state);
/* A beat came: takes what it tells, and adds to the answer what is ordered. */
int audit_beat(struct meta *m, uint64_t server, const struct m_beat_req *q, int64_t now_ms,
               struct m_beat_ans *a);

#endif
