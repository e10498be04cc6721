// SPDX-License-Identifier: Apache-2.0
/* What makes block files durable, and removes them: a flush, and the keeper thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "blocks_int.h"

int blocks_sync_dir(const struct blocks *b)
{
    int fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

/* [f->lock] A sync that failed is not believed when it succeeds the next time. */
static int file_sync(struct blocks *b, struct file *f)
{
    int rc = f->suspect ? shard_verify(f->shard) : 0;
    if (rc == 0)
        rc = shard_careful(f->shard);
    if (rc == 0) {
        rc = shard_sync(f->shard);
        f->suspect = rc != 0;
    }
    if (f->suspect)
        log_printf(b->log, LOG_L_ERROR, "%s cannot be made durable: %s", shard_path(f->shard),
                   strerror(-rc));
    return rc;
}

/* Makes one of the files durable, unless all that is unsynced in it was so already. */
int blocks_flush_file(struct blocks *b, struct file *f)
{
    pthread_mutex_lock(&b->lock);
    bool dirty = f->dirty && f->unsynced > 0;
    f->dirty = f->dirty && !dirty;
    f->awake = f->awake || dirty;
    pthread_mutex_unlock(&b->lock);
    int rc = 0;
    if (dirty) {
        pthread_mutex_lock(&f->lock);
        rc = file_sync(b, f);
        pthread_mutex_unlock(&f->lock);
    }
    pthread_mutex_lock(&b->lock);
    f->dirty = f->dirty || rc != 0;
    pthread_mutex_unlock(&b->lock);
    return rc;
}

int blocks_flush(struct blocks *b)
{
    size_t n;
    int rc = 0;
    pthread_mutex_lock(&b->flush_lock);
    pthread_mutex_lock(&b->lock);
    struct file **files = blocks_all_files(b, &n);
    pthread_mutex_unlock(&b->lock);
    for (size_t i = 0; i < n; i++) {
        int one = blocks_flush_file(b, files[i]);
        pthread_mutex_lock(&b->lock);
        blocks_file_unref(b, files[i]);
        pthread_mutex_unlock(&b->lock);
        rc = rc != 0 ? rc : one;
    }
    free(files);
    rc = rc != 0 ? rc : blocks_sync_dir(b);
    pthread_mutex_unlock(&b->flush_lock);
    return rc;
}

/* ---- the keeper ---------------------------------------------------------------------------- */

/* Makes a full file durable and takes `.open` off its name. */
static void seal(struct blocks *b, struct file *f)
{
    char from[4400], to[4400], journal[4420];
    blocks_file_path(b, f, true, from, sizeof(from));
    blocks_file_path(b, f, false, to, sizeof(to));
    snprintf(journal, sizeof(journal), "%s-journal", from);
    pthread_mutex_lock(&f->lock);
    int rc = f->suspect ? shard_verify(f->shard) : 0;
    if (rc == 0) {
        rc = shard_sync(f->shard);
        f->suspect = rc != 0;
    }
    if (rc == 0) {
        shard_hibernate(f->shard);
        unlink(journal); /* empty after a clean close */
        rc = rename(from, to) == 0 ? 0 : -errno;
    }
    if (rc == 0) {
        shard_free(f->shard);
        f->shard = shard_new(to, f->large);
    }
    pthread_mutex_unlock(&f->lock);
    if (rc != 0 && rc != -ENOENT)
        log_printf(b->log, LOG_L_WARN, "%s cannot be made durable: %s", from, strerror(-rc));
}

/* [b->lock] The least recently used file that may go, while the cache is larger than it may be. */
static struct file *evictable(struct blocks *b)
{
    uint64_t cached = 0;
    struct file *oldest = NULL;
    for (struct file *f = b->files; f != NULL; f = f->next) {
        cached += f->unsynced == 0 ? f->bytes : 0;
        if (f->unsynced == 0 && f->full && f->refs == 0 &&
            (oldest == NULL || f->used < oldest->used))
            oldest = f;
    }
    uint64_t limit = b->cache_size;
    struct statvfs st;
    if (statvfs(b->dir, &st) == 0) {
        uint64_t all = (uint64_t)st.f_bavail * st.f_frsize + cached,
                 keep = blocks_kept_free(b, &st);
        uint64_t half = all > keep ? (all - keep) / 2 : 0;
        limit = limit < half ? limit : half;
    }
    return cached > limit ? oldest : NULL;
}

static void evict(struct blocks *b, struct file *f)
{
    struct file **at = &b->files;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    block_index_remove_file(&b->index, f->no);
    pthread_mutex_unlock(&b->lock);
    blocks_file_unlink(f);
    blocks_file_free(f);
    pthread_mutex_lock(&b->lock);
}

void *blocks_keeper(void *arg)
{
    struct blocks *b = arg;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        if (!b->work) {
            pthread_cond_wait(&b->keeper_wake, &b->lock);
            continue;
        }
        b->work = false;
        for (struct file *f = b->files; f != NULL && !b->stop; f = f->next) {
            if (!f->open || !f->full)
                continue;
            f->open = false;
            f->refs++; /* files are only removed by this thread */
            pthread_mutex_unlock(&b->lock);
            seal(b, f);
            pthread_mutex_lock(&b->lock);
            f->awake = false;
            f->refs--;
        }
        struct file *f;
        while (!b->stop && (f = evictable(b)) != NULL)
            evict(b, f);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}
