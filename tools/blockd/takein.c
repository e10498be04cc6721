// SPDX-License-Identifier: Apache-2.0
/* A file is read and hashed, and read again past the kernel's memory of it where that does not fit:
 * only then is it wrong. Rows come in batches of one transaction; a file is where its row says
 * before the row is written, so a crash costs the batch, which the next run takes in.
 *
 * What is taken in again from DIR/corrupt is written anew as a put would: its name there was that
 * of a damaged block, and goes last. */
#include "takein.h"

#include "blockid.h"
#include "durable.h"
#include "token.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 64
#define DROP_BATCH 256
#define COMPARED_MAX 256

/* Files on their way into the index. */
struct takein {
    struct dir_files *files;
    struct dir_db *db;
    const atomic_bool *stop;
    struct takein_sums *sums;
    struct dir_record v[BATCH];
    char names[BATCH][DIR_FILE_NAME];
    size_t n;
};

static struct takein *takein_new(struct dir_files *f, struct dir_db *d, struct takein_sums *sums)
{
    struct takein *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->files = f;
    t->db = d;
    t->sums = sums;
    return t;
}

/* Names are HEX, or HEX-RANDOM. */
static bool id_of(const char *name, struct block_id *id)
{
    char hex[BLOCK_HEX_LEN + 1];
    size_t n = strcspn(name, "-");
    if (n != BLOCK_HEX_LEN)
        return false;
    memcpy(hex, name, n);
    hex[n] = '\0';
    return !block_id_parse(id, hex);
}

/* ---- files in their places ------------------------------------------------------------------- */

/* 0: the bytes of that length are the block's; -EUCLEAN: they are not; -EIO */
static int check_file(struct dir_files *f, const char *name, const struct block_id *id,
                      uint64_t len)
{
    int r = -EUCLEAN;
    for (int i = 0; i < 2 && r == -EUCLEAN && len <= BLOCK_MAX; i++) {
        struct buf b cleanup_buf = {0};
        if (i)
            dir_files_uncache(f, name);
        r = dir_files_read(f, name, len, &b);
        if (!r && !block_id_matches(id, b.p, b.n))
            r = -EUCLEAN;
    }
    return r == -EUCLEAN || !r ? r : -EIO;
}

/* The index has the block in another file: this one may go if that one is right. */
static void settle_double(struct takein *t, const struct dir_record *v)
{
    struct dir_place p;
    bool found;
    if (dir_db_find(t->db, 0, &v->id, 1, &p, &found) || !found)
        return;
    t->sums->doubles++;
    if (p.file[0] && check_file(t->files, p.file, &v->id, p.stored_len))
        dir_files_move_aside(t->files, v->file);
    else
        dir_files_remove(t->files, v->file);
}

static int flush(struct takein *t)
{
    int r = t->n ? dir_db_take_in(t->db, t->v, t->n) : 0;
    for (size_t i = 0; i < t->n && !r; i++) {
        if (t->v[i].err == -EEXIST)
            settle_double(t, &t->v[i]);
        t->sums->blocks += t->v[i].taken;
        t->sums->bytes += t->v[i].taken ? t->v[i].stored_len : 0;
    }
    t->n = 0;
    return r;
}

static int take_file(void *arg, const char *name)
{
    struct takein *t = arg;
    struct block_id id;
    uint64_t len;
    if (dir_db_knows_file(t->db, name))
        return 0;
    int r = id_of(strchr(name, '/') + 1, &id) ? dir_files_length(t->files, name, &len) : -ENOENT;
    if (!r)
        r = check_file(t->files, name, &id, len);
    if (r == -EUCLEAN) {
        dir_files_move_aside(t->files, name);
        t->sums->wrong++;
        return 0;
    }
    if (r) {
        t->sums->strange++;
        return 0;
    }
    snprintf(t->names[t->n], sizeof t->names[t->n], "%s", name);
    t->v[t->n] = (struct dir_record){
        .id = id, .stored_len = len, .logical_len = len, .file = t->names[t->n]};
    return ++t->n == BATCH ? flush(t) : 0;
}

int takein_files(struct dir_files *f, struct dir_db *d, unsigned number, struct takein_sums *sums)
{
    struct takein *t = takein_new(f, d, sums);
    int r = dir_files_each(f, number, take_file, t);
    if (!r)
        r = flush(t);
    free(t);
    return r;
}

/* ---- what was set aside ---------------------------------------------------------------------- */

/* Records the block with its bytes where they belong. */
static int put_back(struct takein *t, const struct block_id *id, struct bytes bytes)
{
    struct dir_file file = {.fd = -1};
    struct dir_record v = {.id = *id, .stored_len = bytes.n, .logical_len = bytes.n, .data = bytes};
    if (bytes.n >= SMALL_BLOCK) {
        dir_files_write(t->files, id, bytes, &file);
        dir_files_settle(t->files, &file, 1);
        if (file.err)
            return file.err;
        v.data = (struct bytes){0};
        v.file = file.name;
    }
    int r = dir_db_take_in(t->db, &v, 1);
    if (v.file && (r || !v.taken))
        dir_files_discard(t->files, v.file);
    else if (v.file)
        dir_files_recorded(t->files, v.file);
    return r ? r : v.err;
}

static int take_aside(void *arg, const char *name)
{
    struct takein *t = arg;
    struct buf b cleanup_buf = {0};
    struct block_id id;
    struct dir_place p;
    bool found;
    if (t->stop && atomic_load(t->stop))
        return -ECANCELED;
    if (!id_of(name, &id) || dir_files_read_aside(t->files, name, BLOCK_MAX, &b) ||
        !block_id_matches(&id, b.p, b.n))
        return 0;
    int r = dir_db_find(t->db, 0, &id, 1, &p, &found);
    if (r || found)
        return r;
    r = put_back(t, &id, bytes_of(b.p, b.n));
    if (r)
        return r == -EEXIST ? 0 : r; /* it was put in this moment */
    dir_files_remove_aside(t->files, name);
    t->sums->blocks++;
    t->sums->bytes += b.n;
    return 0;
}

int takein_aside(struct dir_files *f, struct dir_db *d, const atomic_bool *stop,
                 struct takein_sums *sums)
{
    struct takein *t = takein_new(f, d, sums);
    t->stop = stop;
    int r = dir_files_each_aside(f, take_aside, t);
    free(t);
    return r;
}

/* ---- a storage that nobody has open ---------------------------------------------------------- */

struct closed {
    int lock_fd;
    struct dir_files *files;
    struct dir_db *db;
};

static void closed_free(struct closed *c)
{
    dir_db_close(c->db);
    dir_files_close(c->files);
    if (c->lock_fd >= 0)
        close(c->lock_fd);
}

/* A crash came between the row and the file. */
static bool remove_doomed(void *arg, const char *file)
{
    dir_files_remove(arg, file);
    return true;
}

/* anew: as another one than it was; the index is made where there is none. */
static int open_closed(struct closed *c, const char *dir, bool anew, char *err)
{
    uint8_t fresh[INCARNATION_LEN];
    char *blocks;
    random_bytes(fresh, sizeof fresh);
    *c = (struct closed){.lock_fd = -1};
    if (asprintf(&blocks, "%s/blocks", dir) < 0)
        abort();
    int r = access(blocks, F_OK) < 0 ? -errno : 0;
    free(blocks);
    if (r) {
        snprintf(err, 512, "%s is no data directory with blocks in it: %s", dir, strerror(-r));
        return r;
    }
    r = durable_take(dir, &c->lock_fd, err);
    /* before the index is opened, which raises its generation: that an older copy is opened later
     * would be told from it */
    if (!r && anew && (r = durable_remove(dir, "incarnation")))
        snprintf(err, 512, "cannot remove %s/incarnation: %s", dir, strerror(-r));
    if (!r)
        r = dir_files_open(&c->files, dir, err);
    if (!r)
        r = dir_db_open(&c->db, dir, anew ? fresh : NULL, err);
    if (!r)
        dir_db_doomed(c->db, remove_doomed, c->files);
    return r;
}

int takein_all(const char *dir, void (*each_dir)(void *arg, unsigned number, unsigned dirs),
               void *arg, struct takein_sums *sums, char *err)
{
    struct closed c;
    *sums = (struct takein_sums){0};
    int r = open_closed(&c, dir, true, err);
    unsigned dirs = r ? 0 : dir_files_newest(c.files);
    bool failed = r;
    for (unsigned i = 1; i <= dirs && !r; i++) {
        r = takein_files(c.files, c.db, i, sums);
        if (!r && each_dir)
            each_dir(arg, i, dirs);
    }
    if (!r)
        r = takein_aside(c.files, c.db, NULL, sums);
    if (r && !failed)
        snprintf(err, 512, "cannot go on: %s; what was taken in stays", strerror(-r));
    closed_free(&c);
    return r;
}

/* There was a whole comparison under this incarnation (collect.c writes it down). */
static bool was_compared(struct closed *c, const char *dir)
{
    struct buf text cleanup_buf = {0};
    uint8_t is[INCARNATION_LEN];
    char hex[2 * INCARNATION_LEN + 1], word[2 * INCARNATION_LEN + 1];
    uint64_t began_with;
    if (dir_db_incarnation(c->db, is) || durable_read(dir, "compared", COMPARED_MAX, &text) ||
        sscanf((char *)text.p, "%32s %" SCNu64, word, &began_with) != 2)
        return false;
    for (size_t i = 0; i < INCARNATION_LEN; i++)
        snprintf(hex + 2 * i, 3, "%02x", is[i]);
    return !strcmp(hex, word) && began_with;
}

int takein_drop(const char *dir, struct storage_collected *sums, char *err)
{
    struct closed c;
    *sums = (struct storage_collected){0};
    int r = open_closed(&c, dir, false, err);
    if (!r && !was_compared(&c, dir)) {
        snprintf(err, 512,
                 "what is in %s was not compared with what the metadata server has recorded "
                 "since: start the server, and come back when nothing is lacking there",
                 dir);
        r = -EAGAIN;
    }
    bool failed = r;
    char(*files)[DIR_FILE_NAME] = calloc(DROP_BATCH, sizeof *files);
    if (!files)
        abort();
    for (int64_t place = 0; !r;) {
        r = dir_db_drop_unclaimed(c.db, &place, DROP_BATCH, files, sums);
        if (r)
            break;
        dir_db_doomed(c.db, remove_doomed, c.files);
        if (!place)
            break;
    }
    if (r && !failed)
        snprintf(err, 512, "cannot go on: %s", strerror(-r));
    free(files);
    closed_free(&c);
    return r;
}
