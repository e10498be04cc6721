// SPDX-License-Identifier: Apache-2.0
/* Tells the kernel what it must not believe any longer.
 *
 * One thread takes invalidations from a queue and passes them on, holding no lock: the kernel may
 * make it wait for a directory or a page that a request in progress has locked. Nothing ever waits
 * for this thread but notify_wait_room, which keeps the queue within NOTIFY_MAX.
 */
#ifndef STEADFS_NOTIFY_H
#define STEADFS_NOTIFY_H

#include <pthread.h>

#include "steadfs/types.h"

#define NOTIFY_MAX 65536 /* invalidations queued */

struct notify;
struct notify_sink { /* called by the thread; a nodeid the kernel has forgotten is no error */
    void *ctx;
    void (*entry)(void *ctx, uint64_t parent, const char *name, size_t len);
    /* off < 0: attributes only; otherwise cached content from off to the end, too */
    void (*inode)(void *ctx, uint64_t nodeid, int64_t off);
};

int notify_new(struct notify **out, const struct notify_sink *sink);
/* Drops what is queued, and waits for the one under way. */
void notify_free(struct notify *n);
/* Any thread. The same invalidation is not queued twice in a row. */
void notify_entry(struct notify *n, uint64_t parent, struct bytes name);
void notify_inode(struct notify *n, uint64_t nodeid, int64_t off);
/* Waits until the queue is below NOTIFY_MAX, with `lock` released meanwhile. */
void notify_wait_room(struct notify *n, pthread_mutex_t *lock);
#endif
