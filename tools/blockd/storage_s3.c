// SPDX-License-Identifier: Apache-2.0
/* Blocks in a bucket of an S3-compatible store (s3_keys.h has the names), their index in a
 * directory.
 *
 * A put holds the stripes of its blocks. What the index has is fetched and compared; what is new
 * becomes one object each, under a name that was never used. An object is durable when the store
 * has answered; then the index records the batch. Wrong bytes are copied to corrupt/ before they
 * go. What a crash, or an answer that did not come, leaves in between is an object more than the
 * index names: right bytes, that go with the block, or are the block's when the index is made
 * again.
 *
 * What goes leaves the index first, then the bucket (s3_doomed.h): so nothing is compared with,
 * adopted or acknowledged that a DELETE may still be under way for.
 *
 * A read holds nothing: an object of a block is never changed, and where one is gone the block was
 * set aside, or moved, meanwhile.
 */
#include "storage_s3.h"

#include "blockid.h"
#include "durable.h"
#include "feed.h"
#include "s3_doomed.h"
#include "s3_index.h"
#include "s3_keys.h"
#include "stripes.h"
#include "token.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct storage_s3 {
    struct storage base;
    int lock_fd;
    struct log *log;
    struct s3_place place;
    struct s3 *s3;
    struct dir_db *db;
    struct stripes *stripes;
    atomic_bool left;     /* a note of what is to be deleted is in the bucket */
    pthread_mutex_t lock; /* guards what follows */
    uint8_t incarnation[INCARNATION_LEN];
};

static struct storage_s3 *self(struct storage *s)
{
    return (struct storage_s3 *)(void *)s;
}

static void *zeroed(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        abort();
    return p;
}

/* As storage.h has them. */
static int storage_err(int err)
{
    return !err || err == -ENOSPC ? err : -EIO;
}

static void block_key(char out[S3_KEY_MAX], const char *name)
{
    snprintf(out, S3_KEY_MAX, S3_KEY_BLOCKS "%s", name);
}

/* ---- what is stored -------------------------------------------------------------------------- */

/* Appends the object, which has this length. -EUCLEAN: it is gone, or has another. */
static int read_object(struct storage_s3 *d, const char *name, uint64_t len, struct buf *out)
{
    char key[S3_KEY_MAX];
    block_key(key, name);
    struct s3_call c = {.verb = S3_GET, .key = key, .answer_max = len};
    s3_run(d->s3, &c, 1);
    int r = c.err == -ENOENT || c.err == -EFBIG ? -EUCLEAN : storage_err(c.err);
    if (!r && c.answer.n != len)
        r = -EUCLEAN;
    if (!r)
        buf_append(out, c.answer.p, c.answer.n);
    buf_free(&c.answer);
    return r;
}

/* Copies an object to corrupt/; one that is gone is gone. */
static int keep_aside(struct storage_s3 *d, const struct block_id *id, const char *name)
{
    char hex[BLOCK_HEX_LEN + 1], from[S3_KEY_MAX], key[S3_KEY_MAX];
    uint64_t unique;
    block_id_hex(id, hex);
    random_bytes(&unique, sizeof unique);
    block_key(from, name);
    snprintf(key, sizeof key, "corrupt/%s-%016llx", hex, (unsigned long long)unique);
    struct s3_call c = {.verb = S3_COPY, .key = key, .from = from};
    s3_run(d->s3, &c, 1);
    buf_free(&c.answer);
    return c.err == -ENOENT ? 0 : storage_err(c.err);
}

/* The index no longer names them. What does not go now goes later. */
static void delete_doomed(struct storage_s3 *d, struct s3_doomed *doomed)
{
    if (s3_doomed_delete(doomed, d->s3))
        d->left = true;
}

/* The block leaves the index, for all its namespaces, and then the bucket. A crash on the way
 * leaves a note, or an index entry that the next read finds damaged again. */
static int lose_block(struct storage_s3 *d, const struct block_id *id, const char *file)
{
    struct s3_doomed doomed = {0};
    int r = storage_err(s3_doomed_add_block(&doomed, d->s3, id, 0));
    if (!r)
        r = storage_err(s3_doomed_note(&doomed, d->s3));
    d->left |= r != 0;
    if (!r)
        r = dir_db_remove(d->db, id, file, (struct bytes){0});
    if (!r)
        delete_doomed(d, &doomed);
    s3_doomed_free(&doomed);
    return r;
}

/* Reads the block; where its bytes are wrong, once more. */
static int read_twice(struct storage_s3 *d, const struct block_id *id, const struct dir_place *p,
                      struct buf *bytes)
{
    int r = read_object(d, p->file, p->stored_len, bytes);
    if (r || block_id_matches(id, bytes->p, bytes->n))
        return r;
    bytes->n = 0;
    r = read_object(d, p->file, p->stored_len, bytes);
    if (!r && block_id_matches(id, bytes->p, bytes->n))
        trust_reread(&d->base.trust);
    return r;
}

/* Under the block's stripe. */
static int set_aside_held(struct storage_s3 *d, const struct block_id *id)
{
    struct dir_place p;
    struct buf bytes cleanup_buf = {0};
    bool found;
    int r = dir_db_find(d->db, 0, id, 1, &p, &found);
    if (r || !found)
        return r ? r : -EALREADY;
    r = read_twice(d, id, &p, &bytes);
    if (!r && block_id_matches(id, bytes.p, bytes.n)) {
        trust_right(&d->base.trust, mono_ms());
        return -EALREADY;
    }
    if (r && r != -EUCLEAN)
        return r;
    if (!r && !trust_wrong(&d->base.trust, mono_ms()))
        return -EIO;
    r = keep_aside(d, id, p.file);
    return r ? r : lose_block(d, id, p.file);
}

static int set_aside(struct storage *s, const struct block_id *id)
{
    struct storage_s3 *d = self(s);
    struct stripe_set set = {0};
    stripe_set_add(&set, id);
    stripes_take(d->stripes, &set);
    int r = set_aside_held(d, id);
    stripes_give(d->stripes, &set);
    return r;
}

/* ---- put ----------------------------------------------------------------------------------- */

/* One block of a put. */
struct item {
    bool stored, held; /* in the index: for any namespace, for this one */
    bool upload;
    struct dir_place place;
    char name[DIR_FILE_NAME], key[S3_KEY_MAX];
};

/* What is stored under the name is what is brought: 0; -EUCLEAN. */
static int compare(struct storage_s3 *d, const char *name, const struct storage_put *v,
                   struct buf *scratch)
{
    scratch->n = 0;
    int r = read_object(d, name, v->stored.n, scratch);
    return r ? r : memcmp(scratch->p, v->stored.p, v->stored.n) ? -EUCLEAN : 0;
}

/* What the index has is compared; wrong blocks are set aside, and are new then. */
static int look_up(struct storage_s3 *d, uint64_t ns, struct storage_put *v, struct item *t,
                   struct buf *scratch)
{
    int r = dir_db_find(d->db, 0, &v->id, 1, &t->place, &t->stored);
    if (r || !t->stored)
        return r;
    r = compare(d, t->place.file, v, scratch);
    if (r == -EUCLEAN) {
        t->stored = false;
        r = set_aside_held(d, &v->id);
        v->damaged = !r;
        return r == -EALREADY ? 0 : r;
    }
    struct dir_place unused;
    return r ? r : dir_db_find(d->db, ns, &v->id, 1, &unused, &t->held);
}

/* An answer to the request did not come, and it was made again; or another drew the same name. */
static int made_already(struct storage_s3 *d, const struct item *t, const struct storage_put *v,
                        struct buf *scratch)
{
    int r = compare(d, t->name, v, scratch);
    return r == -EUCLEAN ? -EIO : r;
}

/* Makes the objects that are needed, side by side. */
static void upload(struct storage_s3 *d, uint64_t ns, struct storage_put *v, struct item *t,
                   size_t n, struct buf *scratch)
{
    struct s3_call *calls = zeroed(n, sizeof *calls);
    size_t *of = zeroed(n, sizeof *of), calls_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].err || t[i].held)
            continue;
        struct s3_name plain = {.id = v[i].id, .ns = ns, .logical_len = v[i].logical_len},
                       fresh = s3_name_fresh(&plain);
        s3_name_make(t[i].name, &fresh);
        block_key(t[i].key, t[i].name);
        bool hashed = v[i].id.b[0] == BLOCK_KIND_SHA256;
        struct s3_call *c = &calls[calls_n];
        *c = (struct s3_call){.verb = S3_PUT, .key = t[i].key};
        if (!t[i].stored) {
            c->body = v[i].stored;
            c->hash = hashed ? v[i].id.b + 1 : NULL;
            c->if_absent = true;
        }
        of[calls_n++] = i;
    }
    s3_run(d->s3, calls, calls_n);
    for (size_t k = 0; k < calls_n; k++) {
        size_t i = of[k];
        v[i].err = calls[k].err == -EEXIST ? made_already(d, &t[i], &v[i], scratch)
                                           : storage_err(calls[k].err);
        buf_free(&calls[k].answer);
    }
    free(calls);
    free(of);
}

static void record(struct storage_s3 *d, uint64_t ns, struct storage_put *v, struct item *t,
                   size_t n)
{
    struct dir_record *records = zeroed(n, sizeof *records);
    size_t records_n = 0, k = 0;
    for (size_t i = 0; i < n; i++)
        if (!v[i].err)
            records[records_n++] = (struct dir_record){
                .id = v[i].id,
                .stored_len = v[i].stored.n,
                .logical_len = v[i].logical_len,
                .file = t[i].stored ? NULL : t[i].name,
                .known = t[i].stored,
            };
    if (records_n)
        dir_db_put(d->db, ns, records, records_n);
    for (size_t i = 0; i < n; i++)
        if (!v[i].err) {
            v[i].generation = records[k].generation;
            v[i].fresh = records[k].fresh;
            v[i].err = storage_err(records[k++].err);
        }
    free(records);
}

static void put(struct storage *s, uint64_t ns, struct storage_put *v, size_t n)
{
    struct storage_s3 *d = self(s);
    struct stripe_set set = {0};
    struct item *t = zeroed(n, sizeof *t);
    struct buf scratch cleanup_buf = {0};
    for (size_t i = 0; i < n; i++)
        stripe_set_add(&set, &v[i].id);
    stripes_take(d->stripes, &set);
    for (size_t i = 0; i < n; i++) {
        v[i].damaged = false;
        v[i].err = look_up(d, ns, &v[i], &t[i], &scratch);
    }
    upload(d, ns, v, t, n, &scratch);
    record(d, ns, v, t, n);
    stripes_give(d->stripes, &set);
    free(t);
}

/* ---- collecting ------------------------------------------------------------------------------ */

static int raise_generation(struct storage *s, uint64_t *generation)
{
    return dir_db_raise(self(s)->db, generation);
}

/* Makes the object of a namespace, empty, or with what is copied. */
static int make_object(struct storage_s3 *d, const struct s3_name *n, const char *copy,
                       char name[DIR_FILE_NAME])
{
    char key[S3_KEY_MAX], from[S3_KEY_MAX];
    struct s3_name fresh = s3_name_fresh(n);
    s3_name_make(name, &fresh);
    block_key(key, name);
    if (copy)
        block_key(from, copy);
    struct s3_call c = {.verb = copy ? S3_COPY : S3_PUT, .key = key, .from = copy ? from : NULL};
    s3_run(d->s3, &c, 1);
    buf_free(&c.answer);
    return c.err;
}

/* The object with the bytes is that of a namespace that loses the block: another one gets them. */
static int move_bytes(struct storage_s3 *d, const struct block_id *id, const struct dir_place *p,
                      uint64_t to)
{
    char name[DIR_FILE_NAME];
    int r = make_object(d, &(struct s3_name){.id = *id, .ns = to, .logical_len = p->logical_len},
                        p->file, name);
    if (r)
        return r == -ENOENT ? -EUCLEAN : storage_err(r);
    return dir_db_move(d->db, id, p->file, name);
}

/* Adds the objects that go when the namespace loses the block: all, if nobody else has it. A crash
 * on the way leaves a row more than there is: it is collected again, or found damaged, which is the
 * same to everybody. */
static int doom_objects(struct storage_s3 *d, uint64_t ns, const struct block_id *id,
                        uint64_t generation, struct s3_doomed *doomed)
{
    struct dir_place p;
    struct s3_name holder;
    uint64_t other;
    bool found;
    int r = dir_db_find(d->db, ns, id, 1, &p, &found);
    if (r || !found || p.generation >= generation)
        return r;
    r = dir_db_other(d->db, ns, id, &other);
    if (r == -ENOENT)
        return storage_err(s3_doomed_add_block(doomed, d->s3, id, 0));
    if (!r && s3_name_parse(&holder, p.file) && holder.ns == ns)
        r = move_bytes(d, id, &p, other);
    if (r == -EUCLEAN) /* the bytes are lost: it leaves all namespaces */
        return set_aside_held(d, id);
    return r ? r : storage_err(s3_doomed_add_block(doomed, d->s3, id, ns));
}

/* Under the stripes. */
static int collect_held(struct storage_s3 *d, uint64_t ns, const struct block_id *ids, size_t n,
                        uint64_t generation, struct storage_collected *sums)
{
    struct s3_doomed doomed = {0};
    struct block_id *gone = zeroed(n, sizeof *gone);
    char(*files)[DIR_FILE_NAME] = zeroed(n, sizeof *files);
    const char **forgotten = zeroed(n, sizeof *forgotten);
    size_t gone_n = 0, forgotten_n = 0;
    int r = 0;
    for (size_t i = 0; i < n; i++) {
        int one = doom_objects(d, ns, &ids[i], generation, &doomed);
        if (!one)
            gone[gone_n++] = ids[i];
        r = r ? r : one;
    }
    int noted = s3_doomed_note(&doomed, d->s3);
    if (!noted)
        noted = dir_db_collect(d->db, ns, gone, gone_n, generation, files, sums);
    for (size_t i = 0; i < gone_n && !noted; i++)
        if (files[i][0])
            forgotten[forgotten_n++] = files[i];
    if (forgotten_n) /* the note in the bucket names them */
        dir_db_forget_doomed(d->db, forgotten, forgotten_n);
    if (noted)
        d->left = true;
    else
        delete_doomed(d, &doomed);
    s3_doomed_free(&doomed);
    free(forgotten);
    free(files);
    free(gone);
    return r ? r : storage_err(noted);
}

/* An object that a note names, which nobody got round to delete, or not for sure. One that the
 * index names was not to go after all; a namespace that has the block again, and is told by this
 * object alone, gets another. */
static int settle(void *arg, const struct s3_name *n, const char *name)
{
    struct storage_s3 *d = arg;
    struct stripe_set set = {0};
    struct dir_place p;
    struct s3_name holder;
    char other[DIR_FILE_NAME];
    bool found, held = false;
    stripe_set_add(&set, &n->id);
    stripes_take(d->stripes, &set);
    int r = dir_db_find(d->db, n->ns, &n->id, 1, &p, &held);
    if (!r && !held)
        r = dir_db_find(d->db, 0, &n->id, 1, &p, &found);
    if (!r && (held || found) && !strcmp(p.file, name)) {
        stripes_give(d->stripes, &set);
        return 0;
    }
    if (!r && held && !(s3_name_parse(&holder, p.file) && holder.ns == n->ns))
        r = make_object(d, n, NULL, other);
    if (!r)
        r = s3_delete(d->s3, name);
    stripes_give(d->stripes, &set);
    return r;
}

static void settle_left(struct storage_s3 *d)
{
    d->left = false;
    int r = s3_doomed_settle(d->s3, settle, d);
    if (!r)
        return;
    d->left = true;
    log_printf(d->log, LOG_L_WARN, "objects that are no longer used are still to be deleted: %s",
               strerror(-r));
}

static int collect(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n,
                   uint64_t generation, struct storage_collected *sums)
{
    struct storage_s3 *d = self(s);
    struct stripe_set set = {0};
    if (d->left)
        settle_left(d);
    for (size_t i = 0; i < n; i++)
        stripe_set_add(&set, &ids[i]);
    stripes_take(d->stripes, &set);
    int r = collect_held(d, ns, ids, n, generation, sums);
    stripes_give(d->stripes, &set);
    return r;
}

/* ---- get, have ------------------------------------------------------------------------------- */

static int get(struct storage *s, uint64_t ns, const struct block_id *id, struct buf *out,
               uint64_t *logical_len)
{
    struct storage_s3 *d = self(s);
    struct dir_place p;
    bool found = false;
    int r = ns ? dir_db_find(d->db, ns, id, 1, &p, &found) : 0;
    if (r || !found)
        return r ? r : -ENOENT;
    r = read_object(d, p.file, p.stored_len, out);
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

static void usage(struct storage *s, struct storage_usage *u)
{
    *u = (struct storage_usage){0};
    dir_db_totals(self(s)->db, &u->blocks, &u->bytes);
}

static void incarnation(struct storage *s, uint8_t out[INCARNATION_LEN])
{
    struct storage_s3 *d = self(s);
    pthread_mutex_lock(&d->lock);
    memcpy(out, d->incarnation, INCARNATION_LEN);
    pthread_mutex_unlock(&d->lock);
}

static int renew(struct storage *s)
{
    struct storage_s3 *d = self(s);
    uint8_t fresh[INCARNATION_LEN];
    int r = s3_index_renew(d->db, d->s3, fresh);
    if (r)
        return storage_err(r);
    pthread_mutex_lock(&d->lock);
    memcpy(d->incarnation, fresh, sizeof fresh);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int survey(struct storage *s, const struct block_id *after, struct block_id *upto,
                  uint64_t *looked, void (*fn)(void *arg, const struct block_id *id), void *arg)
{
    struct storage_s3 *d = self(s);
    return storage_err(s3_index_survey(d->db, d->s3, S3_LIST_MAX, after, upto, looked, fn, arg));
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void close_s3(struct storage *s)
{
    struct storage_s3 *d = self(s);
    dir_db_close(d->db);
    s3_free(d->s3);
    stripes_free(d->stripes);
    s3_place_free(&d->place);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    pthread_mutex_destroy(&d->lock);
    trust_free(&d->base.trust);
    free(d);
}

static const struct storage_ops ops = {
    .put = put,
    .get = get,
    .have = have,
    .set_aside = set_aside,
    .survey = survey,
    .raise = raise_generation,
    .collect = collect,
    .after = after,
    .held = held,
    .lost = lost,
    .told = told,
    .usage = usage,
    .incarnation = incarnation,
    .renew = renew,
    .close = close_s3,
};

/* What a crash left of these is named by a note in the bucket. */
static bool no_object(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return true;
}

int storage_s3_open(struct storage **out, const char *dir, struct s3_place *place,
                    unsigned patience_ms, struct log *log, char *err)
{
    *out = NULL;
    struct storage_s3 *d = zeroed(1, sizeof *d);
    d->base.ops = &ops;
    trust_init(&d->base.trust);
    d->lock_fd = -1;
    d->log = log;
    d->place = *place;
    *place = (struct s3_place){0};
    d->stripes = stripes_new();
    pthread_mutex_init(&d->lock, NULL);
    int r = durable_take(dir, &d->lock_fd, err);
    if (!r && (r = s3_new(&d->s3, &d->place, patience_ms, log)))
        snprintf(err, 512, "cannot start a thread: %s", strerror(-r));
    if (!r)
        r = s3_index_open(&d->db, dir, d->s3, log, err);
    if (!r && (r = dir_db_incarnation(d->db, d->incarnation)))
        snprintf(err, 512, "cannot read the index in %s/s3", dir);
    if (r) {
        close_s3(&d->base);
        return r;
    }
    dir_db_doomed(d->db, no_object, NULL);
    settle_left(d);
    d->base.run = storage_new_run();
    d->base.found = dir_db_found(d->db);
    *out = &d->base;
    return 0;
}

int storage_s3_list(const char *dir,
                    void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len),
                    void *arg, char *err)
{
    struct buf path cleanup_buf = {0};
    buf_printf(&path, "%s/s3", dir);
    buf_append(&path, "", 1);
    return dir_db_list((char *)path.p, fn, arg, err);
}
