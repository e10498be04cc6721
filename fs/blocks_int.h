// SPDX-License-Identifier: Apache-2.0
/* What blocks.c (putting, reading), blocks_keep.c (flush, the keeper) and blocks_load.c (opening)
 * share. */
#ifndef STEADFS_BLOCKS_INT_H
#define STEADFS_BLOCKS_INT_H

#include <pthread.h>
#include <sys/queue.h>
#include <sys/statvfs.h>

#include "blockindex.h"
#include "blocks.h"
#include "blockshard.h"

enum { KIND_OUT, KIND_FETCHED, KINDS };

struct file {
    struct file *next;
    struct shard *shard;
    pthread_mutex_t lock; /* the shard */
    uint32_t no;
    int kind;
    bool large;
    bool suspect; /* [lock] a sync failed: not durable until its bytes were read back */
    /* blocks.lock: */
    bool open;  /* not known to be durable: named .open */
    bool full;  /* takes no more blocks */
    bool dirty; /* written since the last sync */
    bool awake;
    unsigned refs;
    uint64_t bytes, unsynced, unsynced_bytes, used;
};

/* A fetched block for which the disk has no room. */
struct spill {
    TAILQ_ENTRY(spill) link;
    struct block_id id;
    uint32_t len;
    uint8_t p[];
};

TAILQ_HEAD(spill_list, spill);

struct blocks {
    pthread_mutex_t lock;
    pthread_mutex_t flush_lock; /* taken before the others: whoever flushes waits for who does */
    char *dir;
    struct log *log;
    uint64_t cache_size, keep_free;
    struct block_index index;
    struct spill_list spills; /* newest first */
    size_t spilled;           /* bytes */
    struct file *files;
    struct file *writer[KINDS][2]; /* [kind][large] */
    struct file *durable[2];       /* [large]: of the outbox, synced after every put */
    uint32_t next_no;
    uint64_t clock; /* rises with every use of a file */
    pthread_t keeper;
    pthread_cond_t keeper_wake;
    bool keeper_runs, stop, work;
    bool other_boot;
};

struct file *blocks_file_new(struct blocks *b, uint32_t no, int kind, bool large, bool open);
void blocks_file_free(struct file *f);
void blocks_file_unlink(struct file *f);
void blocks_file_path(const struct blocks *b, const struct file *f, bool open, char *out,
                      size_t cap);
struct file *blocks_file_by_no(struct blocks *b, uint32_t no);
/* [b->lock] */
void blocks_set_unsynced(struct file *f, struct block_at *at, bool unsynced);
/* [b->lock] Ends a use; closes the database unused for longest when too many are open. */
void blocks_file_unref(struct blocks *b, struct file *f);
/* [b->lock] All files, each with a use of its own; freed by the caller. */
struct file **blocks_all_files(struct blocks *b, size_t *n);
/* What must stay free on the disk, in bytes. */
uint64_t blocks_kept_free(const struct blocks *b, const struct statvfs *st);
/* [b->flush_lock] Makes one of the files durable, unless all that is unsynced in it was so already.
 */
int blocks_flush_file(struct blocks *b, struct file *f);
int blocks_sync_dir(const struct blocks *b);
/* The thread that makes full files durable and holds the cache within its size. */
void *blocks_keeper(void *arg);
/* Reads the lists of all files in the directory; before any thread knows of b. */
int blocks_load(struct blocks *b, size_t *lost);
#endif
