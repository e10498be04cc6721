// SPDX-License-Identifier: Apache-2.0
/* A note is a text with a name on each line. Its own name is random like those of objects: one that
 * is made or deleted late is no other. */
#include "s3_doomed.h"

#include "token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_BYTES ((size_t)S3_NOTE_NAMES * DIR_FILE_NAME)

static void block_key(char out[S3_KEY_MAX], const char *name)
{
    snprintf(out, S3_KEY_MAX, S3_KEY_BLOCKS "%s", name);
}

static void note_key(char out[S3_KEY_MAX], uint64_t unique)
{
    snprintf(out, S3_KEY_MAX, S3_KEY_DOOMED "%016llx", (unsigned long long)unique);
}

static int run(struct s3 *s3, struct s3_call *c)
{
    s3_run(s3, c, 1);
    buf_free(&c->answer);
    return c->err;
}

static int delete_key(struct s3 *s3, const char *key)
{
    int r = run(s3, &(struct s3_call){.verb = S3_DELETE, .key = key});
    return r == -ENOENT ? 0 : r;
}

int s3_delete(struct s3 *s3, const char *name)
{
    char key[S3_KEY_MAX];
    block_key(key, name);
    return delete_key(s3, key);
}

void s3_doomed_free(struct s3_doomed *d)
{
    free(d->names);
    *d = (struct s3_doomed){0};
}

void s3_doomed_add(struct s3_doomed *d, const char *name)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 64;
        if (!(d->names = realloc(d->names, d->cap * sizeof *d->names)))
            abort();
    }
    snprintf(d->names[d->n++], DIR_FILE_NAME, "%s", name);
}

/* Calls fn with each key of a listing, without the place's prefix. */
static int each(struct s3 *s3, const char *prefix, int (*fn)(void *arg, const char *key), void *arg)
{
    size_t skip = strlen(s3_place_of(s3)->prefix);
    char *from = NULL;
    int r = 0;
    do {
        struct arena a cleanup_arena = {0};
        struct s3_page page = {0};
        struct s3_call c = {.verb = S3_LIST, .key = prefix, .from = from};
        s3_run(s3, &c, 1);
        r = c.err ? c.err : s3_page_parse(&page, bytes_of(c.answer.p, c.answer.n), S3_LIST_MAX, &a);
        buf_free(&c.answer);
        for (size_t i = 0; i < page.n && !r; i++)
            if (strlen(page.objects[i].key) > skip)
                r = fn(arg, page.objects[i].key + skip);
        free(from);
        from = !r && page.next ? strdup(page.next) : NULL;
    } while (from);
    return r;
}

/* ---- what is about to go ------------------------------------------------------------------- */

struct choice {
    struct s3_doomed *d;
    uint64_t ns;
};

static int add_listed(void *arg, const char *key)
{
    const struct choice *c = arg;
    const char *name = key + strlen(S3_KEY_BLOCKS);
    struct s3_name n;
    if (s3_name_parse(&n, name) && (!c->ns || n.ns == c->ns))
        s3_doomed_add(c->d, name);
    return 0;
}

int s3_doomed_add_block(struct s3_doomed *d, struct s3 *s3, const struct block_id *id, uint64_t ns)
{
    char name[DIR_FILE_NAME], prefix[S3_KEY_MAX];
    s3_name_make(name, &(struct s3_name){.id = *id});
    block_key(prefix, name);
    return each(s3, prefix, add_listed, &(struct choice){d, ns});
}

int s3_doomed_note(struct s3_doomed *d, struct s3 *s3)
{
    int r = 0;
    random_bytes(&d->unique, sizeof d->unique);
    for (size_t i = 0, note = 0; i < d->n && !r; note++) {
        struct buf text cleanup_buf = {0};
        char key[S3_KEY_MAX];
        for (size_t k = 0; k < S3_NOTE_NAMES && i < d->n; k++, i++)
            buf_printf(&text, "%s\n", d->names[i]);
        note_key(key, d->unique + note);
        r = run(s3,
                &(struct s3_call){.verb = S3_PUT, .key = key, .body = bytes_of(text.p, text.n)});
    }
    return r;
}

int s3_doomed_delete(struct s3_doomed *d, struct s3 *s3)
{
    struct s3_call *v = calloc(d->n + 1, sizeof *v);
    char(*keys)[S3_KEY_MAX] = calloc(d->n + 1, sizeof *keys);
    int r = 0;
    if (!v || !keys)
        abort();
    for (size_t i = 0; i < d->n; i++) {
        block_key(keys[i], d->names[i]);
        v[i] = (struct s3_call){.verb = S3_DELETE, .key = keys[i]};
    }
    s3_run(s3, v, d->n);
    for (size_t i = 0; i < d->n; i++) {
        buf_free(&v[i].answer);
        r = v[i].err && v[i].err != -ENOENT ? v[i].err : r;
    }
    for (size_t note = 0; note * S3_NOTE_NAMES < d->n && !r; note++) {
        note_key(keys[0], d->unique + note);
        r = delete_key(s3, keys[0]);
    }
    free(keys);
    free(v);
    return r;
}

/* ---- notes that are left ------------------------------------------------------------------- */

struct settling {
    struct s3 *s3;
    int (*fn)(void *arg, const struct s3_name *n, const char *name);
    void *arg;
};

static int settle_note(void *arg, const char *key)
{
    const struct settling *s = arg;
    struct s3_call c = {.verb = S3_GET, .key = key, .answer_max = NOTE_BYTES};
    struct s3_name n;
    char name[DIR_FILE_NAME];
    size_t at = 0;
    s3_run(s->s3, &c, 1);
    struct buf text cleanup_buf = c.answer;
    int r = c.err;
    while (!r && s3_names_next(bytes_of(text.p, text.n), &at, &n, name))
        r = s->fn(s->arg, &n, name);
    return r == -ENOENT ? 0 : r ? r : delete_key(s->s3, key);
}

int s3_doomed_settle(struct s3 *s3, int (*fn)(void *arg, const struct s3_name *n, const char *name),
                     void *arg)
{
    return each(s3, S3_KEY_DOOMED, settle_note, &(struct settling){s3, fn, arg});
}

static int rescue(void *arg, const struct s3_name *n, const char *name)
{
    struct s3 *s3 = arg;
    struct s3_name other = s3_name_fresh(n);
    char fresh[DIR_FILE_NAME], from[S3_KEY_MAX], key[S3_KEY_MAX];
    s3_name_make(fresh, &other);
    block_key(key, fresh);
    block_key(from, name);
    int r = run(s3, &(struct s3_call){.verb = S3_COPY, .key = key, .from = from});
    return r == -ENOENT ? 0 : r ? r : s3_delete(s3, name);
}

int s3_doomed_rescue(struct s3 *s3)
{
    return s3_doomed_settle(s3, rescue, s3);
}
