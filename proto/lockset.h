// SPDX-License-Identifier: Apache-2.0
/* What one device holds locked of one file, as the wire has it (m_lock_range): the union of the
 * locks of its programs, since only what other devices hold can be in its way at the server.
 *
 * Pure. A set has at most LOCK_RANGES_MAX ranges; zero-initialise to make an empty one. Whole-file
 * locks and ranges never meet.
 */
#ifndef STEADFS_LOCKSET_H
#define STEADFS_LOCKSET_H

#include "messages.h"

#define LOCKSET_END UINT64_MAX /* a range to here ends nowhere */

struct lockset {
    struct m_lock_range *v; /* malloc'd, owned */
    size_t n, cap;
};
void lockset_free(struct lockset *s); /* empty again */

/* Not empty, and a whole one covers all. */
bool lockset_valid(const struct m_lock_range *r);
/* Takes a range in; those of its sort that touch it become one with it. -ENOLCK: too many. */
int lockset_add(struct lockset *s, const struct m_lock_range *r);
/* Whether every byte of the range is in the set; an exclusive lock is as good as a shared one. */
bool lockset_covers(const struct lockset *s, const struct m_lock_range *r);
/* Whether s covers all of the other. */
bool lockset_contains(const struct lockset *s, const struct lockset *other);
/* The first range that does not go together with r when another device holds it; NULL: none. */
const struct m_lock_range *lockset_conflict(const struct lockset *s, const struct m_lock_range *r);
#endif
