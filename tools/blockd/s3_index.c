// SPDX-License-Identifier: Apache-2.0
/* DIR/s3/session says which session of the bucket the index belongs to, and, while a new one is
 * begun, the next: the bucket has either. It is removed before an index is made, so that a half
 * made one is not used.
 *
 * A listing has the objects of a block in the order of namespaces: empty ones may come a page
 * before the bytes. */
#include "s3_index.h"

#include "blockid.h"
#include "durable.h"
#include "s3_doomed.h"
#include "token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_HEX (2 * INCARNATION_LEN)

/* ---- random names: incarnation and session ------------------------------------------------- */

static void hex_of(const uint8_t *p, char out[NAME_HEX + 1])
{
    for (size_t i = 0; i < INCARNATION_LEN; i++)
        snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static bool bytes_of_hex(const char *hex, uint8_t *out)
{
    for (size_t i = 0; i < INCARNATION_LEN; i++) {
        unsigned v;
        if (sscanf(hex + 2 * i, "%2x", &v) != 1)
            return false;
        out[i] = (uint8_t)v;
    }
    return true;
}

static void fresh_name(char out[NAME_HEX + 1])
{
    uint8_t b[INCARNATION_LEN];
    random_bytes(b, sizeof b);
    hex_of(b, out);
}

/* Empty where there is none. */
static int get_name(struct s3 *s3, const char *key, char out[NAME_HEX + 1])
{
    struct s3_call c = {.verb = S3_GET, .key = key, .answer_max = NAME_HEX};
    s3_run(s3, &c, 1);
    out[0] = '\0';
    if (!c.err && c.answer.n == NAME_HEX) {
        memcpy(out, c.answer.p, NAME_HEX);
        out[NAME_HEX] = '\0';
    }
    buf_free(&c.answer);
    return c.err == -ENOENT || c.err == -EFBIG ? 0 : c.err;
}

static int put_name(struct s3 *s3, const char *key, const char *name)
{
    struct s3_call c = {.verb = S3_PUT, .key = key, .body = bytes_of(name, NAME_HEX)};
    s3_run(s3, &c, 1);
    return c.err;
}

/* ---- a listing into the index -------------------------------------------------------------- */

/* An object of a block. */
struct entry {
    struct s3_name name;
    uint64_t size;
    char file[DIR_FILE_NAME];
};

struct entries {
    struct entry *v;
    size_t n, cap;
};

static void add_entry(struct entries *e, const struct entry *one)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 256;
        if (!(e->v = realloc(e->v, e->cap * sizeof *e->v)))
            abort();
    }
    e->v[e->n++] = *one;
}

/* Those with bytes first, then by namespace. */
static int by_kind(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (!x->size != !y->size)
        return x->size ? -1 : 1;
    return x->name.ns < y->name.ns ? -1 : x->name.ns > y->name.ns;
}

/* Records them; markers of unknown blocks go to late (NULL: are left out). */
static int record(struct dir_db *db, struct entries *e, struct entries *late)
{
    int r = 0;
    if (e->n)
        qsort(e->v, e->n, sizeof *e->v, by_kind);
    struct dir_record *v = calloc(e->n + 1, sizeof *v);
    if (!v)
        abort();
    for (size_t i = 0, n; !r && i < e->n; i += n) {
        for (n = 0; i + n < e->n && e->v[i + n].name.ns == e->v[i].name.ns &&
                    !e->v[i + n].size == !e->v[i].size;
             n++) {
            const struct entry *x = &e->v[i + n];
            v[n] = (struct dir_record){.id = x->name.id,
                                       .stored_len = x->size,
                                       .logical_len = x->name.logical_len,
                                       .file = x->size ? x->file : NULL,
                                       .known = !x->size};
        }
        dir_db_put(db, e->v[i].name.ns, v, n);
        for (size_t k = 0; !r && k < n; k++) {
            if (v[k].err == -EAGAIN && late)
                add_entry(late, &e->v[i + k]);
            else if (v[k].err && v[k].err != -EAGAIN)
                r = v[k].err;
        }
    }
    free(v);
    e->n = 0;
    return r;
}

static void take_page(const struct s3_page *page, const struct s3_place *place, struct entries *e)
{
    size_t skip = strlen(place->prefix) + strlen(S3_KEY_BLOCKS);
    for (size_t i = 0; i < page->n; i++) {
        struct entry one = {.size = page->objects[i].size};
        const char *key = page->objects[i].key;
        if (strlen(key) < skip || one.size > BLOCK_MAX || !s3_name_parse(&one.name, key + skip))
            continue;
        snprintf(one.file, sizeof one.file, "%s", key + skip);
        add_entry(e, &one);
    }
}

/* Makes the index from what the bucket lists. */
static int make_from_listing(struct dir_db *db, struct s3 *s3, const struct s3_place *place)
{
    struct entries e = {0}, late = {0};
    char *from = NULL;
    int r = 0;
    do {
        struct arena a cleanup_arena = {0};
        struct s3_page page = {0};
        struct s3_call c = {.verb = S3_LIST, .key = S3_KEY_BLOCKS, .from = from};
        s3_run(s3, &c, 1);
        r = c.err ? c.err : s3_page_parse(&page, bytes_of(c.answer.p, c.answer.n), S3_LIST_MAX, &a);
        for (size_t i = 0; i < late.n; i++)
            add_entry(&e, &late.v[i]);
        late.n = 0;
        take_page(&page, place, &e);
        if (!r)
            r = record(db, &e, page.next ? &late : NULL);
        free(from);
        from = page.next ? strdup(page.next) : NULL;
        buf_free(&c.answer);
    } while (!r && from);
    free(from);
    free(e.v);
    free(late.v);
    return r;
}

/* ---- a listing beside the index ------------------------------------------------------------ */

/* Objects are listed in the order of block ids: the name begins with the id. */
static int list_after(struct s3 *s3, unsigned max, const struct block_id *after, struct entries *e,
                      bool *more)
{
    static const struct block_id none;
    struct arena a cleanup_arena = {0};
    struct s3_page page = {0};
    char name[DIR_FILE_NAME], key[S3_KEY_MAX];
    s3_name_make(name, &(struct s3_name){.id = *after});
    name[2 * BLOCK_ID_LEN] = '0'; /* behind all names of the block, which have a slash there */
    snprintf(key, sizeof key, S3_KEY_BLOCKS "%s", name);
    struct s3_call c = {.verb = S3_LIST,
                        .key = S3_KEY_BLOCKS,
                        .max = max,
                        .after = memcmp(after, &none, sizeof none) != 0 ? key : NULL};
    s3_run(s3, &c, 1);
    int r = c.err;
    if (!r)
        r = s3_page_parse(&page, bytes_of(c.answer.p, c.answer.n), S3_LIST_MAX, &a);
    if (!r)
        take_page(&page, s3_place_of(s3), e);
    *more = page.next;
    buf_free(&c.answer);
    return r;
}

/* The end of what the page tells of: its last block may go on behind it. */
static void cut(const struct entries *e, bool more, struct block_id *upto)
{
    memset(upto, 0xff, sizeof *upto);
    if (!more || !e->n)
        return;
    const struct block_id *last = &e->v[e->n - 1].name.id;
    size_t n = e->n;
    while (n && block_id_equal(&e->v[n - 1].name.id, last))
        n--;
    *upto = n ? e->v[n - 1].name.id : *last;
}

/* at: goes on from block to block. */
static bool listed(const struct entries *e, size_t *at, const struct block_id *id,
                   const struct dir_place *p)
{
    bool found = false;
    while (*at < e->n && block_id_compare(&e->v[*at].name.id, id) < 0)
        ++*at;
    for (size_t i = *at; i < e->n && block_id_equal(&e->v[i].name.id, id) && !found; i++)
        found = e->v[i].size == p->stored_len && !strcmp(e->v[i].file, p->file);
    return found;
}

int s3_index_survey(struct dir_db *db, struct s3 *s3, unsigned max, const struct block_id *after,
                    struct block_id *upto, uint64_t *looked,
                    void (*fn)(void *arg, const struct block_id *id), void *arg)
{
    enum { ROWS = 256 };
    struct entries e = {0};
    struct storage_entry v[ROWS];
    struct block_id place = *after;
    bool more, end = false;
    size_t n, at = 0;
    int r = list_after(s3, max, after, &e, &more);
    cut(&e, more, upto);
    while (!r && !end) {
        r = dir_db_after(db, &place, v, ROWS, &n);
        end = !n;
        for (size_t i = 0; i < n && !r && !end; i++) {
            struct dir_place p;
            bool found;
            end = block_id_compare(&v[i].id, upto) > 0;
            if (!end)
                r = dir_db_find(db, 0, &v[i].id, 1, &p, &found);
            if (end || r)
                break;
            place = v[i].id;
            ++*looked;
            if (found && !listed(&e, &at, &v[i].id, &p))
                fn(arg, &v[i].id);
        }
    }
    free(e.v);
    return r;
}

/* ---- which index goes with the bucket ------------------------------------------------------ */

/* What is known at the start. Empty names: there is none. */
struct state {
    char dir[4096]; /* DIR/s3 */
    char bucket_incarnation[NAME_HEX + 1], bucket_session[NAME_HEX + 1];
    char session[NAME_HEX + 1], next[NAME_HEX + 1]; /* of the index */
};

static int read_state(struct state *t, struct s3 *s3)
{
    struct buf text cleanup_buf = {0};
    int r = durable_read(t->dir, "session", 2 * (NAME_HEX + 1), &text);
    if (r && r != -ENOENT)
        return r;
    if (!r)
        (void)!sscanf((char *)text.p, "%32[0-9a-f]\n%32[0-9a-f]", t->session, t->next);
    r = get_name(s3, "incarnation", t->bucket_incarnation);
    return r ? r : get_name(s3, "session", t->bucket_session);
}

static int write_session(const struct state *t)
{
    struct buf b cleanup_buf = {0};
    buf_printf(&b, "%s\n%s\n", t->session, t->next);
    return durable_write(t->dir, "session", b.p, b.n, 0600);
}

/* Index and bucket are of one incarnation and one session. */
static bool in_step(const struct state *t, const char *incarnation)
{
    return t->session[0] && !strcmp(incarnation, t->bucket_incarnation) &&
           (!strcmp(t->session, t->bucket_session) || !strcmp(t->next, t->bucket_session));
}

static void remove_index(const struct state *t)
{
    static const char *const names[] = {"session", "index.db", "index.db-wal", "index.db-shm"};
    char path[4200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", t->dir, names[i]);
        unlink(path);
        if (i == 0)
            durable_sync_dir(t->dir);
    }
}

/* Opens the index that is there; its incarnation. */
static int open_old(struct dir_db **db, const struct state *t, char incarnation[NAME_HEX + 1],
                    char *err)
{
    uint8_t name[INCARNATION_LEN] = {0};
    int r = dir_db_open(db, t->dir, name, err);
    if (!r)
        r = dir_db_incarnation(*db, name);
    hex_of(name, incarnation);
    return r;
}

/* A new index from a listing; anew: under another incarnation, which the bucket gets first. */
static int make_index(struct dir_db **db, struct state *t, bool anew, struct s3 *s3,
                      const struct s3_place *place, char *err)
{
    uint8_t name[INCARNATION_LEN];
    int r = 0;
    if (anew || !bytes_of_hex(t->bucket_incarnation, name)) {
        fresh_name(t->bucket_incarnation);
        r = put_name(s3, "incarnation", t->bucket_incarnation);
    }
    if (r)
        return r;
    remove_index(t);
    t->session[0] = '\0';
    bytes_of_hex(t->bucket_incarnation, name);
    r = dir_db_open(db, t->dir, name, err);
    if (!r)
        r = s3_doomed_rescue(s3);
    return r ? r : make_from_listing(*db, s3, place);
}

/* The bucket gets a new session; whatever happens meanwhile, it has one of those that are noted. */
static int begin_session(struct state *t, struct s3 *s3)
{
    fresh_name(t->next);
    snprintf(t->session, sizeof t->session, "%s",
             t->bucket_session[0] ? t->bucket_session : t->next);
    int r = write_session(t);
    return r ? r : put_name(s3, "session", t->next);
}

int s3_index_renew(struct dir_db *db, struct s3 *s3, uint8_t fresh[INCARNATION_LEN])
{
    char name[NAME_HEX + 1];
    random_bytes(fresh, INCARNATION_LEN);
    hex_of(fresh, name);
    int r = put_name(s3, "incarnation", name);
    return r ? r : dir_db_set_incarnation(db, fresh);
}

int s3_index_open(struct dir_db **out, const char *dir, struct s3 *s3, struct log *log, char *err)
{
    const struct s3_place *place = s3_place_of(s3);
    struct state t = {0};
    char incarnation[NAME_HEX + 1] = "";
    bool had;
    *out = NULL;
    *err = '\0';
    snprintf(t.dir, sizeof t.dir, "%s/s3", dir);
    int r = durable_mkdir(t.dir);
    if (!r)
        r = read_state(&t, s3);
    had = t.session[0];
    if (!r && had)
        r = open_old(out, &t, incarnation, err);
    if (!r && !in_step(&t, incarnation)) {
        dir_db_close(*out);
        *out = NULL;
        bool anew = had && !strcmp(incarnation, t.bucket_incarnation);
        log_printf(log, LOG_L_WARN, "%s: the index is made from a listing of the bucket%s",
                   place->bucket, had ? ": they were not of the same time" : "");
        r = make_index(out, &t, anew, s3, place, err);
    }
    if (!r)
        r = begin_session(&t, s3);
    if (r) {
        if (!*err)
            s3_last_error(s3, err);
        if (!*err)
            snprintf(err, 512, "cannot use %.300s: %s", t.dir, strerror(-r));
        dir_db_close(*out);
        *out = NULL;
    }
    return r;
}
