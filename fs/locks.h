// SPDX-License-Identifier: Apache-2.0
/* Locks that programs hold on a file: whole (flock) and of ranges (fcntl, per process or per open
 * file). A set is a list; a node's locks may lie in several sets, one for each handle of it, so
 * that they follow a handle that changes nodes.
 *
 * Pure: the caller's lock protects a set. Memory that cannot be had aborts, as elsewhere.
 */
#ifndef STEADFS_LOCKS_H
#define STEADFS_LOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCK_END UINT64_MAX /* a range to here ends nowhere */

struct lock {
    bool whole;        /* flock: another space than ranges; off 0, end LOCK_END */
    bool exclusive;    /* for writing */
    uint64_t owner;    /* the kernel's: process or open file */
    uint64_t off, end; /* [off, end) */
    uint32_t pid;      /* who took it, for F_GETLK */
    const void *file;  /* the open file through which it was taken: ends with it */
    struct lock *next;
};
struct locks {
    struct lock *head;
};
void locks_free(struct locks *s);

/* The lock of another owner that does not allow this one, of several the one that begins first, as
 * F_GETLK tells it; NULL: none. */
const struct lock *locks_conflict(const struct locks *s, const struct lock *want);
/* The owner's locks of this kind in [off, end) end; parts outside stay. Whether there were any. */
bool locks_drop(struct locks *s, bool whole, uint64_t owner, uint64_t off, uint64_t end);
/* Takes a lock in place of what the owner has there; neighbours of the same sort become one. */
void locks_add(struct locks *s, const struct lock *l);
/* An open file ended. Whether it had any. */
bool locks_drop_file(struct locks *s, const void *file);
#endif
