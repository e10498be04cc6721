// SPDX-License-Identifier: Apache-2.0
/* Blocks in a directory: the small ones and the index in SQLite (dir_db), the others a file each
 * (dir_files).
 *
 * A put looks which of its blocks are in the index already, compares the stored bytes of those with
 * what it brings (what is wrong is set aside, and is new then), writes files for the larger ones
 * that are not, makes them durable together, and then has the index record them all. The index
 * decides under its one writer: where two puts bring the same new block, one's file is taken and
 * the other's removed; where a block that was seen in the index has been set aside meanwhile, the
 * put starts over for it.
 *
 *   DIR/lock           held while in use
 *   DIR/incarnation    16 random bytes, equal to those in the index; else content was lost, and a
 * new name is made for what is there DIR/index.db       see blocks.sql
 */
#include "storage.h"

#include "blockid.h"
#include "dir_db.h"
#include "durable.h"
#include "feed.h"
#include "takein.h"
#include "token.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A disk, its cable or a busy controller may fail to read what it reads again a little later: a
 * file counts as lost when it could not be read for so long. */
#define UNREADABLE_MS (10 * 60 * 1000)
#define DOUBTS_MAX 256 /* files that are known to fail; of more at once the disk is at fault */
#define PUT_ROUNDS 3   /* a block is set aside at most this often while it is being put */

struct storage_dir {
    struct storage base;
    char *dir;
    int lock_fd;
    struct dir_db *db;
    struct dir_files *files;
    uint8_t incarnation[INCARNATION_LEN];
    pthread_mutex_t lock; /* guards what follows, and the incarnation */
    int64_t unreadable_ms;
    struct doubt {
        struct block_id id;
        int64_t since; /* it failed first */
    } doubts[DOUBTS_MAX];
    size_t doubts_n;
};

static struct storage_dir *self(struct storage *s)
{
    return (struct storage_dir *)(void *)s;
}

/* ---- what is stored -------------------------------------------------------------------------- */

static int read_block(struct storage_dir *d, uint64_t ns, const struct block_id *id,
                      struct dir_place *p, struct buf *out)
{
    size_t start = out->n;
    int r = dir_db_get(d->db, ns, id, p, out);
    if (r)
        return r;
    if (p->file[0])
        r = dir_files_read(d->files, p->file, p->stored_len, out);
    else if (out->n - start != p->stored_len)
        r = -EUCLEAN;
    if (r)
        out->n = start;
    return r;
}

/* The disk fails to read the block's file: whether it did so all the time for long enough. */
static bool fails_for_good(struct storage_dir *d, const struct block_id *id)
{
    pthread_mutex_lock(&d->lock);
    int64_t now = mono_ms();
    size_t i = 0;
    while (i < d->doubts_n && !block_id_equal(&d->doubts[i].id, id))
        i++;
    if (i == d->doubts_n && i < DOUBTS_MAX)
        d->doubts[d->doubts_n++] = (struct doubt){.id = *id, .since = now};
    bool good = i < d->doubts_n && now - d->doubts[i].since >= d->unreadable_ms;
    pthread_mutex_unlock(&d->lock);
    return good;
}

/* It was read, or is no longer what it was. */
static void doubt_no_more(struct storage_dir *d, const struct block_id *id)
{
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->doubts_n; i++)
        if (block_id_equal(&d->doubts[i].id, id))
            d->doubts[i] = d->doubts[--d->doubts_n];
    pthread_mutex_unlock(&d->lock);
}

void storage_dir_patience(struct storage *s, int64_t ms)
{
    struct storage_dir *d = self(s);
    pthread_mutex_lock(&d->lock);
    d->unreadable_ms = ms;
    pthread_mutex_unlock(&d->lock);
}

static bool is_right(const struct block_id *id, const struct dir_place *p, const struct buf *bytes)
{
    return bytes->n == p->stored_len && block_id_matches(id, bytes->p, bytes->n);
}

/* Reads the block; where its bytes are wrong, once more from the disk. */
static int read_twice(struct storage_dir *d, const struct block_id *id, struct dir_place *p,
                      struct buf *bytes)
{
    int r = read_block(d, 0, id, p, bytes);
    if (r || is_right(id, p, bytes))
        return r;
    bytes->n = 0;
    if (p->file[0])
        dir_files_uncache(d->files, p->file);
    else
        dir_db_uncache(d->db);
    r = read_block(d, 0, id, p, bytes);
    if (!r && is_right(id, p, bytes))
        trust_reread(&d->base.trust);
    return r;
}

/* The index removes only what was read here: the block may be stored anew at any moment. The file
 * goes first, no other row can name it; a crash before the row goes leaves one without a file,
 * which the next read finds damaged again. */
static int set_aside(struct storage *s, const struct block_id *id)
{
    struct storage_dir *d = self(s);
    struct dir_place p;
    struct buf bytes cleanup_buf = {0};
    int r = read_twice(d, id, &p, &bytes);
    if (r == -ENODATA)
        r = fails_for_good(d, id) ? -EUCLEAN : -EIO;
    else
        doubt_no_more(d, id);
    if (r == -ENOENT)
        return -EALREADY;
    if (r && r != -EUCLEAN)
        return r;
    if (!r && is_right(id, &p, &bytes)) {
        trust_right(&s->trust, mono_ms());
        return -EALREADY;
    }
    if (!r && !trust_wrong(&s->trust, mono_ms()))
        return -EIO;
    doubt_no_more(d, id);
    const char *file = p.file[0] ? p.file : NULL;
    if (file)
        dir_files_move_aside(d->files, file);
    r = dir_db_remove(d->db, id, file, bytes_of(bytes.p, bytes.n));
    if (!r && !file && bytes.n)
        dir_files_keep_aside(d->files, id, bytes_of(bytes.p, bytes.n));
    return r;
}

static int take_back(struct storage *s, const atomic_bool *stop, uint64_t *blocks)
{
    struct takein_sums sums = {0};
    int r = takein_aside(self(s)->files, self(s)->db, stop, &sums);
    *blocks += sums.blocks;
    return r;
}

static int probe(struct storage *s, const struct block_id *id)
{
    struct dir_place p;
    bool found;
    int r = dir_db_find(self(s)->db, 0, id, 1, &p, &found);
    if (r || !found)
        return r ? r : -ENOENT;
    return p.file[0] ? dir_files_probe(self(s)->files, p.file, p.stored_len) : 0;
}

/* ---- put ----------------------------------------------------------------------------------- */

/* The working arrays of one put. */
struct batch {
    struct dir_record *records;
    struct dir_file *files;
    struct dir_place *places;
    struct block_id *ids;
    bool *found;
    bool *stale; /* found, but its file cannot be read: what is brought takes its place */
    int *checks; /* outcomes of looking at what is stored */
};

static void *zeroed(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        abort();
    return p;
}

static void batch_free(struct batch *b)
{
    free(b->records);
    free(b->files);
    free(b->places);
    free(b->ids);
    free(b->found);
    free(b->stale);
    free(b->checks);
}

static void batch_make(struct batch *b, size_t n)
{
    *b = (struct batch){
        .records = zeroed(n, sizeof *b->records),
        .files = zeroed(n, sizeof *b->files),
        .places = zeroed(n, sizeof *b->places),
        .ids = zeroed(n, sizeof *b->ids),
        .found = zeroed(n, sizeof *b->found),
        .stale = zeroed(n, sizeof *b->stale),
        .checks = zeroed(n, sizeof *b->checks),
    };
}

/* Whether the block's stored bytes are those that are brought. Those that are not are set aside,
 * and the block counts as new. */
static int check_stored(struct storage_dir *d, struct storage_put *v, struct buf *scratch,
                        struct dir_place *p, bool *found, bool *stale)
{
    scratch->n = 0;
    int r = read_block(d, 0, &v->id, p, scratch);
    if (r == -ENODATA) {
        *stale = true;
        return 0;
    }
    if (!r && scratch->n == v->stored.n && !memcmp(scratch->p, v->stored.p, v->stored.n))
        return 0;
    if (r && r != -EUCLEAN && r != -ENOENT)
        return r;
    *found = false;
    if (r == -ENOENT)
        return 0;
    r = set_aside(&d->base, &v->id);
    v->damaged |= !r;
    if (r == -EIO && p->file[0]) /* as where it cannot be read: what is brought is right */
        *found = *stale = true, r = 0;
    return r == -EALREADY ? 0 : r;
}

static void check_all_stored(struct storage_dir *d, struct storage_put *const *v, size_t n,
                             struct batch *b)
{
    struct buf scratch cleanup_buf = {0};
    for (size_t i = 0; i < n; i++) {
        b->stale[i] = false;
        b->checks[i] =
            b->found[i] ? check_stored(d, v[i], &scratch, &b->places[i], &b->found[i], &b->stale[i])
                        : 0;
    }
}

/* Files for the larger new blocks, durable; err for those that could not be written. */
static void write_files(struct storage_dir *d, struct storage_put *const *v, size_t n,
                        struct batch *b)
{
    for (size_t i = 0; i < n; i++) {
        b->files[i].fd = -1;
        b->files[i].err = 0;
        bool fresh = !b->found[i] && v[i]->stored.n >= SMALL_BLOCK;
        if ((fresh || b->stale[i]) && !b->checks[i])
            dir_files_write(d->files, &v[i]->id, v[i]->stored, &b->files[i]);
    }
    dir_files_settle(d->files, b->files, n);
}

/* The file that could not be read is kept for people to look at. */
static void replaced(struct storage_dir *d, const struct block_id *id, const char *file)
{
    dir_files_move_aside(d->files, file);
    dir_db_forget_doomed(d->db, &file, 1); /* else the next start looks for it */
    doubt_no_more(d, id);
}

/* Puts those of v once; leaves -EAGAIN where a block that was in the index no longer is. */
static void put_once(struct storage_dir *d, uint64_t ns, struct storage_put **v, size_t n,
                     struct batch *b)
{
    for (size_t i = 0; i < n; i++)
        b->ids[i] = v[i]->id;
    int r = dir_db_find(d->db, 0, b->ids, n, b->places, b->found);
    if (!r) {
        check_all_stored(d, v, n, b);
        write_files(d, v, n, b);
    }
    size_t records = 0;
    for (size_t i = 0; i < n; i++) {
        v[i]->err = r ? r : b->checks[i] ? b->checks[i] : b->files[i].err;
        if (v[i]->err)
            continue;
        bool in_file = b->files[i].fd >= 0;
        b->records[records++] = (struct dir_record){
            .id = v[i]->id,
            .stored_len = v[i]->stored.n,
            .logical_len = v[i]->logical_len,
            .data = in_file ? (struct bytes){0} : v[i]->stored,
            .file = in_file ? b->files[i].name : NULL,
            .replaces = in_file && b->stale[i] ? b->places[i].file : NULL,
            .known = b->found[i] && !b->stale[i] && v[i]->stored.n >= SMALL_BLOCK,
        };
    }
    if (records)
        dir_db_put(d->db, ns, b->records, records);
    for (size_t i = 0, k = 0; i < n; i++) {
        if (v[i]->err)
            continue;
        v[i]->err = b->records[k].err;
        v[i]->generation = b->records[k].generation;
        v[i]->fresh = b->records[k].fresh;
        if (b->files[i].fd >= 0 && !b->records[k].taken) {
            dir_files_discard(d->files, b->files[i].name);
        } else if (b->files[i].fd >= 0) {
            dir_files_recorded(d->files, b->files[i].name);
            if (b->records[k].replaces)
                replaced(d, &v[i]->id, b->records[k].replaces);
        }
        k++;
    }
}

static void put(struct storage *s, uint64_t ns, struct storage_put *v, size_t n)
{
    struct storage_put **todo = zeroed(n, sizeof *todo);
    struct batch b;
    batch_make(&b, n);
    size_t left = n;
    for (size_t i = 0; i < n; i++)
        todo[i] = &v[i];
    for (size_t i = 0; i < n; i++)
        v[i].damaged = false;
    for (int round = 0; left && round < PUT_ROUNDS; round++) {
        put_once(self(s), ns, todo, left, &b);
        size_t again = 0;
        for (size_t i = 0; i < left; i++)
            if (todo[i]->err == -EAGAIN)
                todo[again++] = todo[i];
        left = again;
    }
    for (size_t i = 0; i < left; i++)
        todo[i]->err = -EIO;
    batch_free(&b);
    free(todo);
}

/* ---- get ----------------------------------------------------------------------------------- */

static int get(struct storage *s, uint64_t ns, const struct block_id *id, struct buf *out,
               uint64_t *logical_len)
{
    if (!ns)
        return -ENOENT;
    struct dir_place p;
    int r = read_block(self(s), ns, id, &p, out);
    if (r == -ENODATA)
        r = fails_for_good(self(s), id) ? -EUCLEAN : -EIO;
    if (!r)
        *logical_len = p.logical_len;
    return r;
}

static int have(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n,
                struct storage_info *out)
{
    struct dir_place *places = zeroed(n, sizeof *places);
    bool *found = zeroed(n, sizeof *found);
    int r = ns ? dir_db_find(self(s)->db, ns, ids, n, places, found) : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (struct storage_info){
            .there = !r && found[i],
            .stored_len = places[i].stored_len,
            .logical_len = places[i].logical_len,
            .generation = places[i].generation,
        };
    free(places);
    free(found);
    return r;
}

static int link_blocks(struct storage *s, uint64_t ns, uint64_t from, const struct block_id *ids,
                       size_t n, struct storage_info *out)
{
    int r = have(s, from, ids, n, out);
    struct dir_record *v = zeroed(n, sizeof *v);
    size_t *which = zeroed(n, sizeof *which), records = 0;
    for (size_t i = 0; !r && ns && i < n; i++)
        if (out[i].there) {
            which[records] = i;
            v[records++] = (struct dir_record){.id = ids[i], .known = true};
        }
    if (records)
        dir_db_put(self(s)->db, ns, v, records);
    for (size_t k = 0; k < records; k++) {
        out[which[k]].there = v[k].err == 0;
        out[which[k]].generation = v[k].generation;
        if (v[k].err && v[k].err != -EAGAIN) /* otherwise: set aside in this moment */
            r = v[k].err;
    }
    free(v);
    free(which);
    return r;
}

static int claim(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n)
{
    return ns ? dir_db_claim(self(s)->db, ns, ids, n) : 0;
}

static int after(struct storage *s, const struct block_id *id, struct storage_entry *v, size_t max,
                 size_t *n)
{
    return dir_db_after(self(s)->db, id, v, max, n);
}

static int held(struct storage *s, const struct block_id *id, struct storage_held *v, size_t max,
                size_t *n)
{
    return dir_db_held(self(s)->db, id, v, max, n);
}

static int lost(struct storage *s, struct storage_lost *v, size_t max, size_t *n)
{
    return dir_db_lost(self(s)->db, v, max, n);
}

static int told(struct storage *s, uint64_t serial)
{
    return dir_db_forget_lost(self(s)->db, serial);
}

/* ---- collecting ----------------------------------------------------------------------------- */

static int raise_generation(struct storage *s, uint64_t *generation)
{
    return dir_db_raise(self(s)->db, generation);
}

/* The rows go first, with a note of the files: from then on nobody finds those. A put that saw the
 * block in the index before finds it gone when it records it, and starts over. */
static int collect(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n,
                   uint64_t generation, struct storage_collected *sums)
{
    struct storage_dir *d = self(s);
    char(*files)[DIR_FILE_NAME] = zeroed(n, sizeof *files);
    const char **doomed = zeroed(n, sizeof *doomed);
    size_t doomed_n = 0;
    int r = dir_db_collect(d->db, ns, ids, n, generation, files, sums);
    for (size_t i = 0; i < n && !r; i++) {
        if (!files[i][0])
            continue;
        dir_files_remove(d->files, files[i]);
        doomed[doomed_n++] = files[i];
    }
    if (doomed_n)
        dir_db_forget_doomed(d->db, doomed, doomed_n); /* else the next start does */
    free(doomed);
    free(files);
    return r;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void usage(struct storage *s, struct storage_usage *u)
{
    struct statvfs v;
    *u = (struct storage_usage){0};
    dir_db_totals(self(s)->db, &u->blocks, &u->bytes);
    if (!statvfs(self(s)->dir, &v)) /* a full one is known to be */
        u->free_bytes = v.f_bavail ? (uint64_t)v.f_bavail * v.f_frsize : 1;
}

static void incarnation(struct storage *s, uint8_t out[INCARNATION_LEN])
{
    struct storage_dir *d = self(s);
    pthread_mutex_lock(&d->lock);
    memcpy(out, d->incarnation, INCARNATION_LEN);
    pthread_mutex_unlock(&d->lock);
}

/* A crash between the two leaves them different: the next start makes yet another one. */
static int name_anew(struct storage_dir *d, const uint8_t fresh[INCARNATION_LEN])
{
    int r = dir_db_set_incarnation(d->db, fresh);
    if (!r)
        r = durable_write(d->dir, "incarnation", fresh, INCARNATION_LEN, 0600);
    if (r)
        return r;
    pthread_mutex_lock(&d->lock);
    memcpy(d->incarnation, fresh, INCARNATION_LEN);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int renew(struct storage *s)
{
    uint8_t fresh[INCARNATION_LEN];
    random_bytes(fresh, sizeof fresh);
    return name_anew(self(s), fresh);
}

static void close_dir(struct storage *s)
{
    struct storage_dir *d = self(s);
    dir_db_close(d->db);
    dir_files_close(d->files);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    pthread_mutex_destroy(&d->lock);
    trust_free(&d->base.trust);
    free(d->dir);
    free(d);
}

static const struct storage_ops ops = {
    .put = put,
    .get = get,
    .link = link_blocks,
    .claim = claim,
    .have = have,
    .set_aside = set_aside,
    .take_back = take_back,
    .probe = probe,
    .raise = raise_generation,
    .collect = collect,
    .after = after,
    .held = held,
    .lost = lost,
    .told = told,
    .usage = usage,
    .incarnation = incarnation,
    .renew = renew,
    .close = close_dir,
};

/* Index and file must agree on the name; where they do not, one of them is not what it was. */
static int settle_incarnation(struct storage_dir *d, const uint8_t fresh[INCARNATION_LEN])
{
    struct buf file cleanup_buf = {0};
    int r = durable_read(d->dir, "incarnation", INCARNATION_LEN, &file);
    if (r && r != -ENOENT && r != -EMSGSIZE)
        return r;
    if ((r = dir_db_incarnation(d->db, d->incarnation)))
        return r;
    if (file.n == INCARNATION_LEN && !memcmp(file.p, d->incarnation, INCARNATION_LEN))
        return 0;
    return name_anew(d, fresh);
}

/* A crash came between the row and the file. */
static bool remove_doomed(void *arg, const char *file)
{
    dir_files_remove(arg, file);
    return true;
}

static bool file_known(void *arg, const char *name)
{
    return dir_db_knows_file(arg, name);
}

/* After what crashes leave is gone, every file has its record: unless the index is not the one that
 * was left here. It may be put right yet, so nothing is removed on its word. */
static void look_at_files(struct storage_dir *d)
{
    uint64_t blocks, bytes;
    dir_db_totals(d->db, &blocks, &bytes);
    bool fresh = !blocks && !dir_db_found(d->db);
    dir_files_sweep(d->files, fresh ? NULL : file_known, d->db);
    size_t unknown = dir_files_unknown(d->files, file_known, d->db);
    if (unknown)
        snprintf(d->base.notice, sizeof d->base.notice,
                 "%zu or more files of blocks are not in %s/index.db, which is %s; they stay, and "
                 "are not served: while this server is stopped, put the right one back (with "
                 "index.db-wal), or have it made again from them: steadfs-blockd --data %s "
                 "--reindex",
                 unknown, d->dir, fresh ? "new" : "an older copy or another one", d->dir);
}

int storage_dir_open(struct storage **out, const char *dir, char *err)
{
    *out = NULL;
    struct storage_dir *d = zeroed(1, sizeof *d);
    uint8_t fresh[INCARNATION_LEN];
    random_bytes(fresh, sizeof fresh);
    d->base.ops = &ops;
    d->lock_fd = -1;
    d->unreadable_ms = UNREADABLE_MS;
    trust_init(&d->base.trust);
    pthread_mutex_init(&d->lock, NULL);
    if (!(d->dir = strdup(dir)))
        abort();
    int r = durable_take(dir, &d->lock_fd, err);
    if (!r)
        r = dir_files_open(&d->files, dir, err);
    if (!r)
        r = dir_db_open(&d->db, dir, fresh, err);
    if (!r && (r = settle_incarnation(d, fresh)))
        snprintf(err, 512, "cannot write %s/incarnation: %s", dir, strerror(-r));
    if (r) {
        close_dir(&d->base);
        return r;
    }
    look_at_files(d);
    dir_db_doomed(d->db, remove_doomed, d->files);
    d->base.run = storage_new_run();
    d->base.found = dir_db_found(d->db);
    *out = &d->base;
    return 0;
}

int storage_dir_list(const char *dir,
                     void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len),
                     void *arg, char *err)
{
    return dir_db_list(dir, fn, arg, err);
}
