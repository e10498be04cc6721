// SPDX-License-Identifier: Apache-2.0
/* Opening a block store: reads the list of blocks of every file into the index.
 *
 * A file that the last owner left `.open` is checked block by block if the machine was started anew
 * since (the file `boot` tells): what the page cache had and the disk had not is found by its id.
 * Of a file whose list cannot be read, what may be unsynced and can still be read is brought into a
 * new file, and the damaged one is kept aside; it is removed if there is no such block.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks_int.h"

struct seen {
    struct blocks *b;
    struct file *f;
};

static void on_block(void *arg, uint32_t row, const struct block_id *id, uint32_t len,
                     bool unsynced)
{
    struct seen *s = arg;
    struct block_at *at = block_index_find(&s->b->index, id);
    if (at != NULL) { /* two copies (a crash between two puts): one that is unsynced counts */
        if (!unsynced || at->unsynced)
            return;
        struct file *other = blocks_file_by_no(s->b, at->file);
        if (other != NULL)
            other->bytes -= at->len;
        block_index_remove(&s->b->index, at);
    }
    block_index_add(&s->b->index, id, s->f->no, row, len, unsynced);
    s->f->bytes += len;
    s->f->unsynced += unsynced;
    s->f->unsynced_bytes += unsynced ? len : 0;
}

/* A file whose list of blocks cannot be read. Of the outbox, all that can be is brought into a new
 * one; of the cache, what may be unsynced. */
static void replace_damaged(struct blocks *b, struct file *f, size_t *lost)
{
    block_index_remove_file(&b->index, f->no);
    f->bytes = f->unsynced = f->unsynced_bytes = 0;
    char aside[4420];
    snprintf(aside, sizeof(aside), "%s.damaged", shard_path(f->shard));
    bool cache = f->kind == KIND_FETCHED;
    struct file *to = blocks_file_new(b, b->next_no++, KIND_OUT, f->large, true);
    size_t saved = 0, gone = 0, bad[2] = {0, 0};
    shard_salvage(f->shard, to->shard, !cache, &saved, &gone);
    struct seen s = {b, to};
    if (cache && saved == 0 && gone == 0) {
        log_printf(b->log, LOG_L_WARN, "%s is damaged; its blocks are fetched again",
                   shard_path(f->shard));
        blocks_file_unlink(f);
        blocks_file_unlink(to);
        blocks_file_free(to);
        return;
    }
    if (saved > 0)
        shard_scan(to->shard, false, on_block, &s, &bad[0], &bad[1]);
    *lost += gone > 0 || saved > 0 ? gone : 1;
    log_printf(b->log, LOG_L_ERROR,
               "%s is damaged: %zu blocks were saved, %zu or more are lost; it is kept as %s",
               shard_path(f->shard), saved, gone, aside);
    shard_hibernate(f->shard);
    if (rename(shard_path(f->shard), aside) != 0)
        log_printf(b->log, LOG_L_WARN, "%s: %s", aside, strerror(errno));
    to->full = true;
    to->next = b->files;
    b->files = to;
}

/* Reads the list of one file; a file left by an unclean end of the machine is checked block by
 * block. */
static int load_file(struct blocks *b, struct file *f, bool verify, size_t *lost)
{
    struct seen s = {b, f};
    size_t bad_unsynced = 0, bad_cached = 0;
    f->next = b->files;
    b->files = f;
    int rc = shard_scan(f->shard, verify, on_block, &s, &bad_unsynced, &bad_cached);
    shard_hibernate(f->shard);
    if (rc == -EPROTONOSUPPORT) {
        log_printf(b->log, LOG_L_ERROR, "%s was written by a newer steadfs: update",
                   shard_path(f->shard));
        return rc;
    }
    if (rc != 0) {
        b->files = f->next;
        replace_damaged(b, f, lost);
        blocks_file_free(f);
        return 0;
    }
    *lost += bad_unsynced;
    if (bad_unsynced + bad_cached > 0)
        log_printf(
            b->log, bad_unsynced > 0 ? LOG_L_ERROR : LOG_L_WARN,
            "%s: the machine stopped before %zu blocks not yet synced and %zu cached ones were "
            "on disk",
            shard_path(f->shard), bad_unsynced, bad_cached);
    f->full = !f->open || verify || f->bytes >= SHARD_MAX || b->writer[f->kind][f->large] != NULL;
    if (!f->full)
        b->writer[f->kind][f->large] = f;
    b->work = true;
    return 0;
}

static bool parse_name(const char *name, uint32_t *no, int *kind, bool *large, bool *open)
{
    char k[8], size[6], rest[16] = "";
    if (sscanf(name, "%8x-%7[a-z]-%5[a-z].db%15s", no, k, size, rest) < 3 || *no == 0)
        return false;
    *kind = strcmp(k, "out") == 0 ? KIND_OUT : KIND_FETCHED;
    *large = strcmp(size, "large") == 0;
    *open = strcmp(rest, ".open") == 0;
    return rest[0] == '\0' || *open;
}

/* Whether the machine has been running since the last owner; notes the present boot. */
static bool same_boot(const struct blocks *b)
{
    char now[64] = "", then[64] = "", path[4400];
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f != NULL) {
        if (fgets(now, sizeof(now), f) == NULL)
            now[0] = '\0';
        fclose(f);
    }
    snprintf(path, sizeof(path), "%s/boot", b->dir);
    if ((f = fopen(path, "re")) != NULL) {
        if (fgets(then, sizeof(then), f) == NULL)
            then[0] = '\0';
        fclose(f);
    }
    return now[0] != '\0' && strcmp(now, then) == 0;
}

static int note_boot(const struct blocks *b)
{
    char now[64] = "", path[4400];
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f == NULL)
        return 0; /* then every start checks */
    if (fgets(now, sizeof(now), f) == NULL)
        now[0] = '\0';
    fclose(f);
    snprintf(path, sizeof(path), "%s/boot", b->dir);
    if ((f = fopen(path, "we")) == NULL)
        return -errno;
    bool good = fputs(now, f) >= 0;
    return fclose(f) == 0 && good ? 0 : -EIO;
}

int blocks_load(struct blocks *b, size_t *lost)
{
    DIR *d = opendir(b->dir);
    if (d == NULL)
        return -errno;
    b->other_boot = !same_boot(b);
    struct dirent *e;
    int rc = 0;
    while (rc == 0 && (e = readdir(d)) != NULL) {
        uint32_t no;
        int kind;
        bool large, open;
        if (!parse_name(e->d_name, &no, &kind, &large, &open))
            continue;
        b->next_no = no >= b->next_no ? no + 1 : b->next_no;
        rc = load_file(b, blocks_file_new(b, no, kind, large, open), open && b->other_boot, lost);
    }
    closedir(d);
    return rc != 0 ? rc : note_boot(b);
}
