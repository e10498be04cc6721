// SPDX-License-Identifier: Apache-2.0
/* One file of the block store: up to SHARD_MAX bytes of blocks in a SQLite database of its own.
 *
 * Not thread-safe: the owner holds a lock around every call. The database is opened when needed and
 * can be closed at any time between calls (shard_hibernate) to bound open files and page caches.
 */
#ifndef STEADFS_BLOCKSHARD_H
#define STEADFS_BLOCKSHARD_H

#include "blocks.h"

#define SHARD_MAX (128u << 20)   /* payload bytes after which no further blocks are added */
#define SHARD_LARGE (256u << 10) /* blocks from this length on live in files with large pages */

struct shard;

/* large: 64 KiB pages, else 16 KiB. Nothing is opened or made yet. */
struct shard *shard_new(const char *path, bool large);
void shard_free(struct shard *s); /* closes; the file stays */
void shard_hibernate(struct shard *s);
bool shard_awake(const struct shard *s);
const char *shard_path(const struct shard *s);

/* All that opens the file: -EPROTONOSUPPORT if it was written by a version that this one does not
 * know. */

/* Adds n blocks in one transaction; row[i] receives each one's number. 0, -ENOSPC, -EIO */
int shard_put(struct shard *s, const struct blocks_item *v, size_t n, bool unsynced, uint32_t *row);
/* Reads [off, off+len) of the block in row. 0, -ENOENT, -EIO */
int shard_read(struct shard *s, uint32_t row, uint32_t off, void *p, uint32_t len);
/* Sets the flag of n rows in one transaction. */
int shard_mark(struct shard *s, const uint32_t *row, size_t n, bool unsynced);
int shard_delete(struct shard *s, uint32_t row);
/* Up to max unsynced ids greater than *after (NULL: from the first), rising; count or -errno. */
int shard_unsynced(struct shard *s, const struct block_id *after, struct block_id *v, size_t max);
/* Calls fn for every block. verify: reads each one's bytes and leaves out (and deletes) those that
 * do not match their id, counting them in *bad_unsynced or *bad_cached. */
typedef void (*shard_seen)(void *arg, uint32_t row, const struct block_id *id, uint32_t len,
                           bool unsynced);
int shard_scan(struct shard *s, bool verify, shard_seen fn, void *arg, size_t *bad_unsynced,
               size_t *bad_cached);
/* Copies what can still be read and matches its id from a damaged file into a new shard `to`, in as
 * many pieces as can be read: *saved blocks (all as unsynced). Whatever the description says is
 * lost beyond that is counted in *lost. all: also those that are described as synced. */
int shard_salvage(struct shard *s, struct shard *to, bool all, size_t *saved, size_t *lost);
/* Makes the file's content durable against power loss. */
int shard_sync(struct shard *s);
/* After a shard_sync that failed: the kernel may have let go of what it could not write and call
 * the file clean. 0: every block, read from the disk, matches its id. */
int shard_verify(struct shard *s);
/* From now on a power loss in the middle of a transaction must not damage what is there (slower).
 */
int shard_careful(struct shard *s);
#endif
