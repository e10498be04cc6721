// SPDX-License-Identifier: Apache-2.0
/* A directory of shard files (blockshard.h) and one index in memory (blockindex.h).
 *
 * Four files at a time take new blocks: outbox and cache, each for large and for small blocks. A
 * full file gets no further blocks; the keeper thread makes it durable and takes the suffix `.open`
 * off its name, which records that a power loss cannot have torn it. When the last unsynced block
 * of an outbox file is acknowledged, the file is part of the cache, without a copy. The keeper
 * holds the cache within its size by removing whole files, the least recently used first: eviction
 * costs one unlink.
 *
 * Names: NUMBER-{out,fetched}-{large,small}.db[.open]. The file `boot` holds the machine's boot id
 * of the last owner: if it differs, `.open` files may lack what the page cache had, and every block
 * in them is checked against its id before it is believed.
 *
 * Locks: `lock` protects index, list of files and counters; each file has a lock for its database,
 * which is also held while a block's flag changes in both, so that index and database agree for
 * whoever holds it. `lock` may be taken with a file's lock held, never the other way round; a file
 * in use is kept by `refs`.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "blocks_int.h"

#define FILES_AWAKE_MAX 16 /* open databases; each costs descriptors and a page cache */
#define CACHE_DEFAULT (10ull << 30)
#define SPILL_MAX (32u << 20) /* fetched blocks kept in memory when the disk is full */
#define RESERVE_MAX                                                                                \
    (64ull << 20) /* left free on the disk by the outbox: or a sixteenth of it, if less */

/* ---- files -------------------------------------------------------------------------------- */

void blocks_file_path(const struct blocks *b, const struct file *f, bool open, char *out,
                      size_t cap)
{
    snprintf(out, cap, "%s/%08x-%s-%s.db%s", b->dir, f->no, f->kind == KIND_OUT ? "out" : "fetched",
             f->large ? "large" : "small", open ? ".open" : "");
}

struct file *blocks_file_new(struct blocks *b, uint32_t no, int kind, bool large, bool open)
{
    struct file *f = calloc(1, sizeof(*f));
    if (f == NULL)
        abort();
    f->no = no;
    f->kind = kind;
    f->large = large;
    f->open = open;
    pthread_mutex_init(&f->lock, NULL);
    char path[4400];
    blocks_file_path(b, f, open, path, sizeof(path));
    f->shard = shard_new(path, large);
    return f;
}

void blocks_file_free(struct file *f)
{
    shard_free(f->shard);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void blocks_file_unlink(struct file *f)
{
    char journal[4420];
    snprintf(journal, sizeof(journal), "%s-journal", shard_path(f->shard));
    shard_hibernate(f->shard);
    unlink(shard_path(f->shard));
    unlink(journal);
}

struct file *blocks_file_by_no(struct blocks *b, uint32_t no)
{
    for (struct file *f = b->files; f != NULL; f = f->next)
        if (f->no == no)
            return f;
    return NULL;
}

static void keeper_call(struct blocks *b)
{
    b->work = true;
    pthread_cond_signal(&b->keeper_wake);
}

/* [b->lock] Keeps the file for a use that follows without the lock. */
static void file_ref(struct blocks *b, struct file *f)
{
    f->refs++;
    f->used = ++b->clock;
    f->awake = true;
}

/* [b->lock] Ends the use; closes the database unused for longest when too many are open. */
void blocks_file_unref(struct blocks *b, struct file *f)
{
    f->refs--;
    unsigned awake = 0;
    struct file *oldest = NULL;
    for (struct file *i = b->files; i != NULL; i = i->next) {
        awake += i->awake ? 1 : 0;
        if (i->awake && i->refs == 0 && (oldest == NULL || i->used < oldest->used))
            oldest = i;
    }
    if (awake <= FILES_AWAKE_MAX || oldest == NULL)
        return;
    oldest->awake = false;
    oldest->refs++;
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_lock(&oldest->lock);
    shard_hibernate(oldest->shard);
    pthread_mutex_unlock(&oldest->lock);
    pthread_mutex_lock(&b->lock);
    oldest->refs--;
}

/* [b->lock] The file that takes the next blocks of a kind. Those that are to be durable at once
 * have files of their own: what is written on after a sync is written with care, which would slow
 * down all the others. */
static struct file *writer(struct blocks *b, int kind, bool large, bool durable)
{
    struct file **at = durable ? &b->durable[large] : &b->writer[kind][large];
    struct file *f = *at;
    if (f != NULL && f->bytes >= SHARD_MAX) {
        f->full = true;
        f = NULL;
        keeper_call(b);
    }
    if (f == NULL) {
        f = blocks_file_new(b, b->next_no++, kind, large, true);
        f->next = b->files;
        b->files = f;
        *at = f;
    }
    return f;
}

/* ---- putting and reading ------------------------------------------------------------------- */

/* [b->lock] */
void blocks_set_unsynced(struct file *f, struct block_at *at, bool unsynced)
{
    if (at->unsynced == unsynced)
        return;
    at->unsynced = unsynced;
    f->unsynced += unsynced ? 1 : (uint64_t)-1;
    f->unsynced_bytes += unsynced ? at->len : -(uint64_t)at->len;
}

uint64_t blocks_kept_free(const struct blocks *b, const struct statvfs *st)
{
    uint64_t part = (uint64_t)st->f_blocks * st->f_frsize / 16;
    part = part < RESERVE_MAX ? part : RESERVE_MAX;
    return b->keep_free != 0 ? b->keep_free : part;
}

/* Whether the disk has room for more data of programs. What is kept free lets everything else go
 * on: the tree records commits, and blocks that nobody needs can be deleted. */
static bool has_room(const struct blocks *b, const struct blocks_item *v, size_t n)
{
    struct statvfs st;
    if (statvfs(b->dir, &st) != 0)
        return true;
    uint64_t bytes = 0, available = (uint64_t)st.f_bavail * st.f_frsize,
             keep = blocks_kept_free(b, &st);
    for (size_t i = 0; i < n; i++)
        bytes += v[i].len;
    return available >= bytes && available - bytes >= keep;
}

/* Makes a block of file f unsynced; -ENOENT when it is not there any more. */
static int mark_in(struct blocks *b, struct file *f, const struct block_id *id)
{
    pthread_mutex_lock(&f->lock);
    pthread_mutex_lock(&b->lock);
    struct block_at *at = block_index_find(&b->index, id);
    int rc = at != NULL && at->file == f->no ? 0 : -ENOENT;
    uint32_t row = rc == 0 ? at->row : 0;
    bool todo = rc == 0 && !at->unsynced;
    pthread_mutex_unlock(&b->lock);
    if (todo && (rc = shard_mark(f->shard, &row, 1, true)) == 0) {
        pthread_mutex_lock(&b->lock);
        at = block_index_find(&b->index, id);
        if (at != NULL && at->file == f->no)
            blocks_set_unsynced(f, at, true);
        else
            rc = -ENOENT; /* it turned out to be damaged */
        f->dirty = true;
        pthread_mutex_unlock(&b->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}

/* Makes a block that is already here unsynced; -ENOENT when it is not here. Says 0 only when the
 * database has it. */
static int mark(struct blocks *b, const struct block_id *id)
{
    int rc = -ENOENT;
    pthread_mutex_lock(&b->lock);
    struct block_at *at;
    while (rc == -ENOENT && (at = block_index_find(&b->index, id)) != NULL) {
        struct file *f = blocks_file_by_no(b, at->file);
        if (f == NULL)
            break;
        file_ref(b, f);
        pthread_mutex_unlock(&b->lock);
        rc = mark_in(b, f, id);
        pthread_mutex_lock(&b->lock);
        blocks_file_unref(b, f);
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

/* Enters a block that shard_put stored in f. Another thread may have put the same one meanwhile:
 * then that row stays, unsynced if this one is to be, and this row goes. */
static int enter(struct blocks *b, struct file *f, const struct blocks_item *it, uint32_t row,
                 bool unsynced)
{
    for (;;) {
        pthread_mutex_lock(&b->lock);
        bool first = block_index_find(&b->index, &it->id) == NULL;
        if (first) {
            block_index_add(&b->index, &it->id, f->no, row, it->len, unsynced);
            f->bytes += it->len;
            f->unsynced += unsynced;
            f->unsynced_bytes += unsynced ? it->len : 0;
        }
        f->dirty = true;
        pthread_mutex_unlock(&b->lock);
        int rc = first || !unsynced ? 0 : mark(b, &it->id);
        if (rc == -ENOENT)
            continue; /* the other one went */
        if (!first) {
            pthread_mutex_lock(&f->lock);
            shard_delete(f->shard, row);
            pthread_mutex_unlock(&f->lock);
        }
        return rc;
    }
}

/* Puts blocks of one size class that the index does not have. */
static int put_new(struct blocks *b, const struct blocks_item *v, size_t n, int kind, bool large,
                   bool durable)
{
    if (n == 0)
        return 0;
    if (!has_room(b, v, n)) {
        pthread_mutex_lock(&b->lock);
        keeper_call(b); /* the cache gives way */
        pthread_mutex_unlock(&b->lock);
        return -ENOSPC;
    }
    uint32_t *row = calloc(n, sizeof(*row));
    if (row == NULL)
        return -ENOMEM;
    pthread_mutex_lock(&b->lock);
    struct file *f = writer(b, kind, large, durable);
    file_ref(b, f);
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_lock(&f->lock);
    int rc = shard_put(f->shard, v, n, kind == KIND_OUT, row);
    pthread_mutex_unlock(&f->lock);
    int stored = rc;
    for (size_t i = 0; stored == 0 && i < n; i++) {
        int one = enter(b, f, &v[i], row[i], kind == KIND_OUT);
        rc = rc != 0 ? rc : one;
    }
    pthread_mutex_lock(&b->lock);
    blocks_file_unref(b, f);
    pthread_mutex_unlock(&b->lock);
    free(row);
    return rc;
}

static int put_out(struct blocks *b, const struct blocks_item *v, size_t n, bool durable)
{
    struct blocks_item *class[2] = {calloc(n, sizeof(*v)), calloc(n, sizeof(*v))};
    size_t count[2] = {0, 0};
    int rc = class[0] != NULL && class[1] != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = mark(b, &v[i].id);
        bool large = v[i].len >= SHARD_LARGE, twice = false;
        for (size_t k = 0; k < count[large]; k++)
            twice = twice || block_id_equal(&class[large][k].id, &v[i].id);
        if (rc == -ENOENT && !twice)
            class[large][count[large]++] = v[i];
        rc = rc == -ENOENT ? 0 : rc;
    }
    for (int large = 0; rc == 0 && large < 2; large++)
        rc = put_new(b, class[large], count[large], KIND_OUT, large != 0, durable);
    free(class[0]);
    free(class[1]);
    return rc;
}

int blocks_put_unsynced(struct blocks *b, const struct blocks_item *v, size_t n)
{
    return put_out(b, v, n, false);
}

/* [b->lock] */
static struct spill *spill_find(struct blocks *b, const struct block_id *id)
{
    struct spill *s;
    TAILQ_FOREACH(s, &b->spills, link)
    if (block_id_equal(&s->id, id))
        break;
    return s;
}

static void spill_drop(struct blocks *b, struct spill *s)
{
    TAILQ_REMOVE(&b->spills, s, link);
    b->spilled -= s->len;
    free(s);
}

/* Keeps a block in memory long enough for who asked for it. */
static void spill(struct blocks *b, const struct blocks_item *it)
{
    struct spill *s = malloc(sizeof(*s) + it->len);
    if (s == NULL)
        return;
    s->id = it->id;
    s->len = it->len;
    memcpy(s->p, it->p, it->len);
    pthread_mutex_lock(&b->lock);
    TAILQ_INSERT_HEAD(&b->spills, s, link);
    b->spilled += s->len;
    while (b->spilled > SPILL_MAX)
        spill_drop(b, TAILQ_LAST(&b->spills, spill_list));
    pthread_mutex_unlock(&b->lock);
}

void blocks_put_cached(struct blocks *b, const struct blocks_item *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!blocks_has(b, &v[i].id, NULL) &&
            put_new(b, &v[i], 1, KIND_FETCHED, v[i].len >= SHARD_LARGE, false) != 0)
            spill(b, &v[i]);
    pthread_mutex_lock(&b->lock);
    keeper_call(b);
    pthread_mutex_unlock(&b->lock);
}

int blocks_read(struct blocks *b, const struct block_id *id, uint32_t off, void *p, uint32_t len)
{
    pthread_mutex_lock(&b->lock);
    struct block_at *at = block_index_find(&b->index, id);
    struct file *f = at != NULL ? blocks_file_by_no(b, at->file) : NULL;
    struct spill *in_memory = f == NULL ? spill_find(b, id) : NULL;
    uint32_t size = f != NULL ? at->len : in_memory != NULL ? in_memory->len : 0;
    bool inside = off <= size && len <= size - off;
    if (in_memory != NULL && inside)
        memcpy(p, in_memory->p + off, len);
    if (f == NULL || !inside) {
        pthread_mutex_unlock(&b->lock);
        return f == NULL && in_memory == NULL ? -ENOENT : inside ? 0 : -EIO;
    }
    uint32_t row = at->row;
    file_ref(b, f);
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_lock(&f->lock);
    int rc = shard_read(f->shard, row, off, p, len);
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&b->lock);
    if (rc != 0 && rc != -ENOMEM) {
        at = block_index_find(&b->index, id);
        bool cached = at != NULL && !at->unsynced;
        if (cached)
            block_index_remove(&b->index, at);
        log_printf(b->log, LOG_L_ERROR, "a block in %s cannot be read%s", shard_path(f->shard),
                   cached ? "; it is fetched again" : "");
        rc = cached ? -ENOENT : -EIO;
    }
    blocks_file_unref(b, f);
    pthread_mutex_unlock(&b->lock);
    return rc;
}

bool blocks_has(struct blocks *b, const struct block_id *id, uint32_t *len)
{
    pthread_mutex_lock(&b->lock);
    struct block_at *at = block_index_find(&b->index, id);
    struct spill *in_memory = at == NULL ? spill_find(b, id) : NULL;
    if (at != NULL && len != NULL)
        *len = at->len;
    if (in_memory != NULL && len != NULL)
        *len = in_memory->len;
    pthread_mutex_unlock(&b->lock);
    return at != NULL || in_memory != NULL;
}

/* [f->lock] Takes the flag off those of v[0..n) that lie in f, and notes them in done. */
static void synced_in(struct blocks *b, struct file *f, const struct block_id *v, size_t n,
                      bool *done, uint32_t *row)
{
    size_t rows = 0;
    pthread_mutex_lock(&b->lock);
    for (size_t k = 0; k < n; k++) {
        struct block_at *at = done[k] ? NULL : block_index_find(&b->index, &v[k]);
        if (at == NULL || at->file != f->no)
            continue;
        done[k] = true;
        if (at->unsynced)
            row[rows++] = at->row;
        blocks_set_unsynced(f, at, false);
    }
    pthread_mutex_unlock(&b->lock);
    /* If this fails the blocks are unsynced again after a restart, and acknowledged again then. */
    if (rows > 0)
        shard_mark(f->shard, row, rows, false);
}

void blocks_synced(struct blocks *b, const struct block_id *v, size_t n)
{
    /* One transaction a file: of what is left, take all that lie in the file of the first. */
    uint32_t *row = calloc(n, sizeof(*row));
    bool *done = calloc(n, sizeof(*done));
    for (size_t i = 0; row != NULL && done != NULL && i < n; i++) {
        pthread_mutex_lock(&b->lock);
        struct block_at *at = done[i] ? NULL : block_index_find(&b->index, &v[i]);
        struct file *f = at != NULL && at->unsynced ? blocks_file_by_no(b, at->file) : NULL;
        if (f != NULL)
            file_ref(b, f);
        pthread_mutex_unlock(&b->lock);
        if (f == NULL)
            continue;
        pthread_mutex_lock(&f->lock);
        synced_in(b, f, v + i, n - i, done + i, row);
        pthread_mutex_unlock(&f->lock);
        pthread_mutex_lock(&b->lock);
        blocks_file_unref(b, f);
        if (f->unsynced == 0)
            keeper_call(b);
        pthread_mutex_unlock(&b->lock);
    }
    free(row);
    free(done);
}

/* [f->lock] The other way round: the flag is in the database before it counts. */
static int again_in(struct blocks *b, struct file *f, const struct block_id *v, size_t n,
                    bool *done, uint32_t *row)
{
    size_t rows = 0;
    pthread_mutex_lock(&b->lock);
    for (size_t k = 0; k < n; k++) {
        struct block_at *at = done[k] ? NULL : block_index_find(&b->index, &v[k]);
        if (at != NULL && at->file == f->no && !at->unsynced)
            row[rows++] = at->row;
    }
    pthread_mutex_unlock(&b->lock);
    int rc = rows > 0 ? shard_mark(f->shard, row, rows, true) : 0;
    pthread_mutex_lock(&b->lock);
    for (size_t k = 0; k < n; k++) {
        struct block_at *at = done[k] ? NULL : block_index_find(&b->index, &v[k]);
        if (at == NULL || at->file != f->no)
            continue;
        done[k] = true;
        if (rc == 0)
            blocks_set_unsynced(f, at, true);
    }
    f->dirty = true;
    pthread_mutex_unlock(&b->lock);
    return rc;
}

int blocks_send_again(struct blocks *b, const struct block_id *v, size_t n)
{
    uint32_t *row = calloc(n + 1, sizeof(*row));
    bool *done = calloc(n + 1, sizeof(*done));
    int rc = row != NULL && done != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; row != NULL && done != NULL && i < n; i++) {
        pthread_mutex_lock(&b->lock);
        struct block_at *at = done[i] ? NULL : block_index_find(&b->index, &v[i]);
        struct file *f = at != NULL && !at->unsynced ? blocks_file_by_no(b, at->file) : NULL;
        if (f != NULL)
            file_ref(b, f);
        pthread_mutex_unlock(&b->lock);
        if (f == NULL)
            continue;
        pthread_mutex_lock(&f->lock);
        int one = again_in(b, f, v + i, n - i, done + i, row);
        pthread_mutex_unlock(&f->lock);
        rc = rc != 0 ? rc : one;
        pthread_mutex_lock(&b->lock);
        blocks_file_unref(b, f);
        pthread_mutex_unlock(&b->lock);
    }
    free(row);
    free(done);
    return rc;
}

void blocks_drop(struct blocks *b, const struct block_id *id)
{
    pthread_mutex_lock(&b->lock);
    struct block_at *at = block_index_find(&b->index, id);
    struct file *f = at != NULL && at->unsynced ? blocks_file_by_no(b, at->file) : NULL;
    if (f == NULL) {
        pthread_mutex_unlock(&b->lock);
        return;
    }
    file_ref(b, f);
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_lock(&f->lock);
    pthread_mutex_lock(&b->lock);
    at = block_index_find(&b->index, id);
    bool there = at != NULL && at->file == f->no && at->unsynced;
    uint32_t row = there ? at->row : 0;
    if (there) {
        blocks_set_unsynced(f, at, false);
        f->bytes -= at->len;
        block_index_remove(&b->index, at);
    }
    pthread_mutex_unlock(&b->lock);
    if (there)
        shard_delete(f->shard, row);
    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&b->lock);
    blocks_file_unref(b, f);
    pthread_mutex_unlock(&b->lock);
}

void blocks_damaged(struct blocks *b, const struct block_id *id, const void *p, uint32_t len)
{
    char hex[BLOCK_HEX_LEN + 1], path[4400];
    block_id_hex(id, hex);
    snprintf(path, sizeof(path), "%.4200s/damaged-%s", b->dir, hex);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool kept = fd >= 0 && write(fd, p, len) == (ssize_t)len && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    log_printf(b->log, LOG_L_ERROR, "a block that is not uploaded yet is damaged; its bytes %s %s",
               kept ? "are kept as" : "cannot even be kept as", path);
    if (kept)
        blocks_drop(b, id);
}

static int by_id(const void *a, const void *b)
{
    return block_id_compare(a, b);
}

/* [b->lock] All files, kept; *n of them. */
struct file **blocks_all_files(struct blocks *b, size_t *n)
{
    *n = 0;
    for (struct file *f = b->files; f != NULL; f = f->next)
        ++*n;
    struct file **v = calloc(*n + 1, sizeof(struct file *));
    if (v == NULL)
        abort();
    size_t i = 0;
    for (struct file *f = b->files; f != NULL; f = f->next) {
        v[i++] = f;
        f->refs++;
    }
    return v;
}

size_t blocks_unsynced(struct blocks *b, const struct block_id *after, struct block_id *v,
                       size_t max)
{
    struct block_id *all = calloc(2 * max, sizeof(*all));
    if (all == NULL)
        return 0;
    size_t files_n, n = 0;
    pthread_mutex_lock(&b->lock);
    struct file **files = blocks_all_files(b, &files_n);
    pthread_mutex_unlock(&b->lock);
    for (size_t i = 0; i < files_n; i++) {
        pthread_mutex_lock(&b->lock);
        bool some = files[i]->unsynced != 0;
        if (some)
            files[i]->awake = true;
        pthread_mutex_unlock(&b->lock);
        if (some) {
            pthread_mutex_lock(&files[i]->lock);
            int got = shard_unsynced(files[i]->shard, after, all + n, max);
            pthread_mutex_unlock(&files[i]->lock);
            n += got > 0 ? (size_t)got : 0;
            qsort(all, n, sizeof(*all), by_id);
            n = n > max ? max : n;
        }
        pthread_mutex_lock(&b->lock);
        blocks_file_unref(b, files[i]);
        pthread_mutex_unlock(&b->lock);
    }
    memcpy(v, all, n * sizeof(*v));
    free(files);
    free(all);
    return n;
}

void blocks_stat(struct blocks *b, struct blocks_stat *out)
{
    *out = (struct blocks_stat){0};
    pthread_mutex_lock(&b->lock);
    for (struct file *f = b->files; f != NULL; f = f->next) {
        out->unsynced_blocks += f->unsynced;
        out->unsynced_bytes += f->unsynced_bytes;
        out->cached_bytes += f->bytes - f->unsynced_bytes;
    }
    pthread_mutex_unlock(&b->lock);
    struct statvfs st;
    if (statvfs(b->dir, &st) == 0) {
        out->free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
        out->keep_free = blocks_kept_free(b, &st);
    }
}

/* [b->lock] Whether all of the blocks lie in the files that are synced after every put. */
static bool all_in_durable(const struct blocks *b, const struct blocks_item *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct block_at *at = block_index_find(&b->index, &v[i].id);
        bool in = false;
        for (int k = 0; k < 2 && at != NULL; k++)
            in = in || (b->durable[k] != NULL && b->durable[k]->no == at->file);
        if (!in)
            return false;
    }
    return true;
}

int blocks_put_durable(struct blocks *b, const struct blocks_item *v, size_t n)
{
    int rc = put_out(b, v, n, true);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&b->lock);
    struct file *files[2] = {b->durable[0], b->durable[1]};
    bool all = all_in_durable(b, v, n);
    for (int k = 0; k < 2 && all; k++)
        if (files[k] != NULL)
            file_ref(b, files[k]);
    pthread_mutex_unlock(&b->lock);
    if (!all)
        return blocks_flush(b); /* one of them was here already, or a file is full */
    pthread_mutex_lock(&b->flush_lock);
    for (int k = 0; k < 2; k++)
        if (files[k] != NULL && rc == 0)
            rc = blocks_flush_file(b, files[k]);
    rc = rc != 0 ? rc : blocks_sync_dir(b);
    pthread_mutex_unlock(&b->flush_lock);
    pthread_mutex_lock(&b->lock);
    for (int k = 0; k < 2; k++)
        if (files[k] != NULL)
            blocks_file_unref(b, files[k]);
    pthread_mutex_unlock(&b->lock);
    return rc;
}

bool blocks_other_boot(const struct blocks *b)
{
    return b->other_boot;
}

int blocks_open(struct blocks **out, const struct blocks_options *o, size_t *lost)
{
    *lost = 0;
    if (mkdir(o->dir, 0700) != 0 && errno != EEXIST)
        return -errno;
    struct blocks *b = calloc(1, sizeof(*b));
    if (b == NULL || (b->dir = strdup(o->dir)) == NULL)
        abort();
    pthread_mutex_init(&b->lock, NULL);
    pthread_mutex_init(&b->flush_lock, NULL);
    pthread_cond_init(&b->keeper_wake, NULL);
    b->log = o->log;
    b->cache_size = o->cache_size != 0 ? o->cache_size : CACHE_DEFAULT;
    b->keep_free = o->keep_free;
    b->next_no = 1;
    TAILQ_INIT(&b->spills);
    int rc = blocks_load(b, lost);
    if (rc == 0)
        rc = -pthread_create(&b->keeper, NULL, blocks_keeper, b);
    b->keeper_runs = rc == 0;
    if (rc != 0) {
        blocks_close(b);
        return rc;
    }
    *out = b;
    return 0;
}

void blocks_close(struct blocks *b)
{
    if (b == NULL)
        return;
    if (b->keeper_runs) {
        pthread_mutex_lock(&b->lock);
        b->stop = true;
        pthread_cond_signal(&b->keeper_wake);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->keeper, NULL);
    }
    while (b->files != NULL) {
        struct file *f = b->files;
        b->files = f->next;
        blocks_file_free(f);
    }
    while (!TAILQ_EMPTY(&b->spills))
        spill_drop(b, TAILQ_FIRST(&b->spills));
    block_index_free(&b->index);
    pthread_cond_destroy(&b->keeper_wake);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->flush_lock);
    free(b->dir);
    free(b);
}
