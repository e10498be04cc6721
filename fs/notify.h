// SPDX-License-Identifier: Apache-2.0
/* Tells the kernel what it must not believe any longer.
 *
 * Two threads take invalidations from queues and pass them on, holding no lock: the kernel may
 * make them wait for a directory or a page that a request in progress has locked. One passes on
 * names, the other attributes and content, so that neither waits for what held up the other.
 * What the sink says would have to wait is set aside until notify_unblocked, and an inode that the
 * kernel does not know yet is told of again a little later. Nothing ever waits for these threads;
 * who makes invalidations looks first whether there is room.
 */
#ifndef STEADFS_NOTIFY_H
#define STEADFS_NOTIFY_H

#include <pthread.h>

#include "steadfs/types.h"

#define NOTIFY_MAX 65536         /* invalidations queued */
#define NOTIFY_RECHECK (-2)      /* in place of an offset */
#define NOTIFY_ASIDE_MAX 1048576 /* and set aside: they wait for a request, which may need room */

struct notify;
struct notify_sink { /* called by the threads */
    void *ctx;
    void (*entry)(void *ctx, uint64_t parent, const char *name, size_t len);
    /* off -1: attributes only; otherwise cached content from off to the end, too. -ENOENT: the
     * kernel does not know the nodeid yet; anything else is final. */
    int (*inode)(void *ctx, uint64_t nodeid, int64_t off);
    /* Whether the kernel would wait with it for a request that waits itself. entry: of a name in
     * nodeid; otherwise content of nodeid. */
    bool (*blocked)(void *ctx, bool entry, uint64_t nodeid);
    /* A mark was passed. */
    void (*passed)(void *ctx);
    size_t aside_max; /* 0: NOTIFY_ASIDE_MAX; tests set it low */
};

int notify_new(struct notify **out, const struct notify_sink *sink);
/* Drops what is queued, and waits for what is under way. */
void notify_free(struct notify *n);
/* Any thread. The same invalidation is not queued twice in a row. */
void notify_entry(struct notify *n, uint64_t parent, struct bytes name);
void notify_inode(struct notify *n, uint64_t nodeid, int64_t off);
/* Whether this name's invalidation was not passed on yet. */
bool notify_entry_waits(struct notify *n, uint64_t parent, struct bytes name);
/* The sink's inode is called with NOTIFY_RECHECK a moment later; again if it says -EAGAIN. */
void notify_recheck(struct notify *n, uint64_t nodeid);
/* A mark is passed when all that was queued before it was passed on, or is to be told again; what
 * is set aside holds it up. Rising numbers; notify_passed: the highest one passed. */
uint64_t notify_mark(struct notify *n);
uint64_t notify_passed(struct notify *n);
uint64_t notify_inodes_passed(struct notify *n); /* … of attributes and content alone */
/* A request ended for which `blocked` may have been true. */
void notify_unblocked(struct notify *n);
/* Whether more should be queued; what one applied record makes may pass the bound. */
bool notify_has_room(struct notify *n);
#endif
