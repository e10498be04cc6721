// SPDX-License-Identifier: Apache-2.0
/* Dirty data in memory, and how it becomes blocks and extents.
 *
 * A *segment* is a contiguous run of bytes of one file, held in memory. It is *fresh* when it began
 * at or over the end of the file, or once it has grown to WB_FRESH bytes: then it is cut by
 * content, and its cuts are a function of its bytes alone. Otherwise it is *in place*: it becomes
 * one block of just the bytes written. A *job* is a list of byte runs on their way: they are
 * hashed, put into the outbox, and then written into the tree. A file's jobs take effect in the
 * order in which they were made; until then reads see their bytes here.
 *
 * All functions are called with the owner's lock held unless they say otherwise. Jobs are worked on
 * by threads of this module, which take that lock only to apply a result.
 */
#ifndef STEADFS_WRITEBACK_H
#define STEADFS_WRITEBACK_H

#include <pthread.h>

#include "blocks.h"
#include "extent.h"
#include "ranges.h"

#define WB_FRESH (512u << 10)    /* a rewrite of this length is cut like new data */
#define WB_INLINE (128u << 10)   /* flushed on the caller's thread up to so many bytes */
#define WB_AGE_NS 5000000000ll   /* dirty data older than this goes into the tree */
#define WB_QUIET_NS 5000000000ll /* a file not written for so long may be committed as it is */
#define WB_UNFINISHED_NS 60000000000ll /* and one that is written all the time after so long */
#define WB_RANGES_MAX 64
#define WB_WAIT 2 /* result: park until `settled`, then call again */

struct wb;

struct wb_extent {
    uint64_t off;
    struct block_id id;
    uint32_t len;
    bool recut; /* the same bytes are in the tree already, in other blocks */
};
struct wb_owner {
    void *ctx;
    pthread_mutex_t *lock;
    /* Puts blocks into the outbox; durable: they are on disk when it returns 0. With or without the
     * lock. */
    int (*put)(void *ctx, const struct blocks_item *v, size_t n, bool durable);
    /* [lock] Writes these extents into the tree, in one transaction. upload: they are final. */
    int (*apply)(void *ctx, uint64_t node, int64_t mtime, const struct wb_extent *v, size_t n,
                 bool final);
    /* [lock] Reads back bytes that apply was told of; not 0: cannot. */
    int (*load)(void *ctx, uint64_t node, uint64_t off, void *p, size_t len);
    /* [lock] Whether bytes that are in the tree may still be put there in other blocks. */
    bool (*may_recut)(void *ctx, uint64_t node);
    /* [not locked] A job ended, well or not: who got WB_WAIT may try again. */
    void (*settled)(void *ctx);
    int64_t (*now)(void *ctx); /* ns */
};
struct wb_options {
    struct wb_owner owner;
    uint64_t max;     /* bytes of file data in memory */
    unsigned threads; /* 0: none; jobs are done by wb_flush_now alone (tests) */
};

int wb_new(struct wb **out, const struct wb_options *o);
/* Stops the threads; what is dirty is lost (flush before). Not locked. */
void wb_free(struct wb *w);

/* A file was opened or closed for writing. At the last close its stretches are finished. */
void wb_open(struct wb *w, uint64_t node);
void wb_close(struct wb *w, uint64_t node);
/* size: of the file in the tree; fixed: cut every so many bytes (0: by content). Takes all of the
 * bytes (0), or none: WB_WAIT while memory is full, or the -errno for which it cannot be emptied.
 */
int wb_write(struct wb *w, uint64_t node, uint64_t size, size_t fixed, uint64_t off, const void *p,
             size_t len);
/* Forgets bytes from size on. Only with no job under way (wb_idle). */
void wb_truncate(struct wb *w, uint64_t node, uint64_t size);
bool wb_idle(struct wb *w, uint64_t node);
/* Forgets bytes that are in the tree already: they are about to change there. */
void wb_drop_clean(struct wb *w, uint64_t node);
/* Everything of a node is dropped: it was unlinked and closed. */
void wb_forget(struct wb *w, uint64_t node);

/* Size and mtime with what is in memory, in place. A time that is yet to come gives way to a
 * write's. */
void wb_attr(struct wb *w, uint64_t node, uint64_t *size, int64_t *mtime);
/* The ranges that are not in the tree, up to WB_RANGES_MAX of them; returns the bytes of the rest.
 */
uint64_t wb_ranges(struct wb *w, uint64_t node, struct ranges *out);
/* Takes from `want` what is in memory. */
void wb_missing(struct wb *w, uint64_t node, struct ranges *want);
/* Copies what is in memory of [off, off+len) over p. */
void wb_copy(struct wb *w, uint64_t node, uint64_t off, void *p, size_t len);

/* Starts to bring a node's dirty bytes into the tree. *ticket 0: begins; then the same ticket asks
 * again. 0: all that was dirty at the first call is in the tree. WB_WAIT. -errno: the attempt
 * failed; the bytes stay, and a new ticket tries again. */
int wb_flush(struct wb *w, uint64_t node, uint64_t *ticket);
/* The same of all nodes for which `of` says so, for threads to do; errors are those of wb_flush of
 * a node. 0: all that was dirty at the first call is in the tree, or its attempt failed. WB_WAIT */
int wb_flush_these(struct wb *w, bool (*of)(void *ctx, uint64_t node), void *ctx, uint64_t *ticket);
/* wb_flush at once on this thread. finish: also ends the node's stretches. */
int wb_flush_now(struct wb *w, uint64_t node, bool finish);
int wb_flush_all(struct wb *w); /* and promises all; first error */
/* What was written until now is promised: a loss of power must not take it once its flush and what
 * the owner does after it are done. Blocks that take the place of such bytes are on disk before the
 * tree says so: its row may get there at any time, and those they replace are forgotten with it. */
void wb_promise(struct wb *w, uint64_t node);
/* Whether background sync may commit the node's content. */
bool wb_may_commit(struct wb *w, uint64_t node);
/* Whether the node has bytes here that are not in the tree. */
bool wb_dirty(struct wb *w, uint64_t node);
/* Whether blocks may have been put that no extent refers to yet. */
bool wb_putting(struct wb *w);
uint64_t wb_bytes(struct wb *w);       /* of all nodes; dirty or kept for cutting */
uint64_t wb_dirty_bytes(struct wb *w); /* of all nodes; not in the tree yet */
#endif
