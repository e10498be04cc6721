// SPDX-License-Identifier: Apache-2.0
/* Blocks kept on this machine: the outbox (unsynced, never evicted) and the block cache.
 *
 * Both live in shard files below one directory (SQLite; layout from measurements, see blocks.c). A
 * shard whose last unsynced block is acknowledged joins the cache without a copy; the cache is held
 * within `cache_size` by dropping whole least-recently-used shards. Thread-safe (own lock); never
 * calls back. A returned put is durable against a crash of the process, not against power loss
 * (blocks_flush).
 */
#ifndef STEADFS_BLOCKS_H
#define STEADFS_BLOCKS_H

#include "blockid.h"
#include "messages.h"
#include "trace.h"

struct blocks;

struct blocks_options {
    const char *dir;
    uint64_t cache_size; /* bytes; 0: 10 GiB; always at most half of the free disk */
    uint64_t keep_free;  /* bytes of the disk that puts leave free; 0: a sixteenth, up to 64 MiB */
    struct log *log;
};
struct blocks_item {
    struct block_id id;
    const void *p;
    uint32_t len; /* stored length; equals the logical length (kind 0) */
};

/* Opens all shards. A damaged shard is salvaged row by row (each checked against its id): what was
 * lost of the outbox is counted in *lost and logged, never silent; a damaged cache shard is
 * dropped. -EPROTONOSUPPORT: one was written by a newer version; nothing was touched. */
int blocks_open(struct blocks **out, const struct blocks_options *o, size_t *lost);
void blocks_close(struct blocks *b);
/* Puts blocks that are not on any server yet, all in one transaction. -ENOSPC, -EIO */
int blocks_put_unsynced(struct blocks *b, const struct blocks_item *v, size_t n);
/* The same; they are on disk when it returns 0. */
int blocks_put_durable(struct blocks *b, const struct blocks_item *v, size_t n);
/* Puts fetched ones; failure only means that they are fetched again. */
void blocks_put_cached(struct blocks *b, const struct blocks_item *v, size_t n);
/* Reads [off, off+len) of a block. 0, -ENOENT, -EIO (damaged: dropped if it was cached). */
int blocks_read(struct blocks *b, const struct block_id *id, uint32_t off, void *p, uint32_t len);
bool blocks_has(struct blocks *b, const struct block_id *id, uint32_t *len);
/* These are acknowledged: they belong to the cache now. Unknown ids are ignored. */
void blocks_synced(struct blocks *b, const struct block_id *v, size_t n);
/* These are to be sent again: those that are here are unsynced, whatever was acknowledged. 0, or
 * the first error; the others are done all the same. */
int blocks_send_again(struct blocks *b, const struct block_id *v, size_t n);
/* Forgets an unsynced block that nothing refers to any more. */
void blocks_drop(struct blocks *b, const struct block_id *id);
/* What was read of an unsynced block is not what its id says: the bytes are kept as a file
 * DIR/damaged-HEX for whoever wants them, and the block counts as not here. */
void blocks_damaged(struct blocks *b, const struct block_id *id, const void *p, uint32_t len);
/* Up to max ids of unsynced blocks greater than *after (NULL: from the first); returns how many. */
size_t blocks_unsynced(struct blocks *b, const struct block_id *after, struct block_id *v,
                       size_t max);
/* Whether the machine was started anew since the last owner: what that one had not synced may be
 * gone. */
bool blocks_other_boot(const struct blocks *b);
struct blocks_stat {
    uint64_t unsynced_blocks, unsynced_bytes, cached_bytes;
    uint64_t free_bytes, keep_free; /* of the disk; what is to stay so */
};
void blocks_stat(struct blocks *b, struct blocks_stat *out);
/* Makes everything put so far durable against power loss. */
int blocks_flush(struct blocks *b);
#endif
