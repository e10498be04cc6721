// SPDX-License-Identifier: Apache-2.0
/* The rules, said once more in few words and without the core: names merge one by one, an entry
 * being a name in a directory (whatever that is called by now). Where that does not do:
 *  - both want one name: theirs has it, ours a copy's;
 *  - one removed what the other one edited, or made something in: it stays, and the way to it;
 *  - both moved one directory: it is where theirs put it.
 * What a tree should be by these rules is compared with what it is; which of them were needed gives
 * the outcome its name.
 */
#include "pair_outcome.h"

#include <string.h>

static bool same(const struct dump_line *a, const struct dump_line *b)
{
    return (!a && !b) || (a && b && !strcmp(a->label, b->label) && !strcmp(a->value, b->value));
}

static bool same_tree(const struct dump *a, const struct dump *b)
{
    bool ok = a->n == b->n;
    for (size_t i = 0; ok && i < a->n; i++)
        ok = !strcmp(a->v[i].path, b->v[i].path) && same(&a->v[i], &b->v[i]);
    return ok;
}

static bool is_dir(const struct dump_line *l)
{
    return !strncmp(l->value, "type 2 ", 7);
}

static bool under(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/');
}

static const char *content(const struct dump_line *l)
{
    const char *at = strstr(l->value, " size ");
    return at ? at : "";
}

static const struct dump_line *labelled(const struct dump *t, const char *label)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->v[i].label, label))
            return &t->v[i];
    return NULL;
}

/* Whether `keeper` edited the node at path, or made something below it. Attributes are no edit. */
static bool edited(const struct outcome *o, const struct dump *keeper, const char *path)
{
    for (size_t i = 0; i < keeper->n; i++) {
        const struct dump_line *l = &keeper->v[i], *b = dump_find(&o->base, l->key);
        if (under(l->path, path) &&
            (!b || strcmp(b->label, l->label) || strcmp(content(b), content(l))))
            return true;
    }
    return false;
}

/* Whether they moved the directory to another place than key. */
static bool moved_there(const struct outcome *o, const struct dump_line *l, const char *key)
{
    const struct dump_line *there = is_dir(l) ? labelled(&o->y, l->label) : NULL,
                           *before = there ? labelled(&o->base, l->label) : NULL;
    return before && strcmp(there->key, before->key) && strcmp(there->key, key);
}

static const struct dump_line *at_path(const struct dump *t, const char *path, size_t n)
{
    for (size_t i = 0; i < t->n; i++)
        if (strlen(t->v[i].path) == n && !strncmp(t->v[i].path, path, n))
            return &t->v[i];
    return NULL;
}

static bool is_new(const struct dump_line *l)
{
    return !strcmp(l->label, "new");
}

/* What we made in a new directory is in theirs where that has the same name. */
static void one_directory(struct outcome *o)
{
    for (size_t i = 0; i < o->x.n; i++) {
        struct dump_line *l = &o->x.v[i];
        const char *slash = strrchr(l->path, '/');
        size_t n = slash ? (size_t)(slash - l->path) : 0;
        const struct dump_line *ours = at_path(&o->x, l->path, n), *y = at_path(&o->y, l->path, n);
        if (ours && is_new(ours) && y && is_dir(y) && !is_new(y))
            snprintf(l->key, sizeof l->key, "%s%s", y->label, slash);
    }
}

struct rules {
    bool copy, kept, placed; /* which were needed */
};

/* What the name should be; *aside: what of ours gets a copy's name beside it. */
static const struct dump_line *model(const struct outcome *o, const char *key,
                                     const struct dump_line **aside, struct rules *r)
{
    const struct dump_line *b = dump_find(&o->base, key), *x = dump_find(&o->x, key),
                           *y = dump_find(&o->y, key), *want = same(x, b) ? y : x;
    *aside = NULL;
    if (!same(x, b) && !same(y, b) && !same(x, y)) {
        want = y ? y : x;
        *aside = x && y && !(is_dir(x) && is_dir(y) && is_new(x)) ? x : NULL;
    }
    if (b && y && !strcmp(y->label, b->label) && want != y && !labelled(&o->x, b->label) &&
        edited(o, &o->y, y->path)) {
        *aside = want;
        want = y;
        r->kept = true;
    }
    if (b && x && !strcmp(x->label, b->label) && want != x && !labelled(&o->y, b->label) &&
        edited(o, &o->x, x->path)) {
        *aside = want ? x : NULL;
        want = want ? want : x;
        r->kept = true;
    }
    if (want && moved_there(o, want, key)) {
        r->placed = true;
        want = NULL;
    }
    if (*aside && moved_there(o, *aside, key))
        *aside = NULL;
    r->copy |= *aside != NULL;
    return want;
}

/* The copy of what was to be at key. */
static const struct dump_line *copy_of(const struct outcome *o, const char *key)
{
    char plain[512];
    for (size_t i = 0; i < o->last.n; i++)
        if (pair_unmark(o->last.v[i].key, plain, sizeof plain) && !strcmp(plain, key))
            return &o->last.v[i];
    return NULL;
}

static bool follows_model(const struct outcome *o, struct rules *r)
{
    const struct dump *const all[] = {&o->base, &o->x, &o->y, &o->last};
    char plain[512];
    for (size_t k = 0; k < 4; k++)
        for (size_t i = 0; i < all[k]->n; i++) {
            const char *key = all[k]->v[i].key;
            const struct dump_line *aside;
            if (pair_unmark(key, plain, sizeof plain)) /* a copy: of something, as asked below */
                key = plain;
            const struct dump_line *want = model(o, key, &aside, r), *copy = copy_of(o, key);
            if (!same(want, dump_find(&o->last, key)) || !aside != !copy ||
                (copy && strcmp(copy->value, aside->value)))
                return false;
        }
    return true;
}

const char *outcome_name(struct outcome *o)
{
    struct rules r = {0};
    if (o->serial && same_tree(&o->last, &o->xy))
        return "both";
    if (same_tree(&o->last, &o->y))
        return "theirs";
    if (same_tree(&o->last, &o->x))
        return "ours";
    one_directory(o);
    if (!follows_model(o, &r))
        return "?";
    return r.copy ? "copy" : r.kept ? "kept" : r.placed ? "placed" : "merged";
}

/* ---- what must hold whatever becomes of a pair ----------------------------------------------- */
static bool has_block(const struct dump *t, unsigned tag)
{
    char text[16];
    snprintf(text, sizeof text, "=#%u", tag);
    size_t n = strlen(text);
    for (size_t i = 0; i < t->n; i++)
        for (const char *at = t->v[i].value; (at = strstr(at, text)); at += n)
            if (at[n] == 0 || at[n] == ' ')
                return true;
    return false;
}

const char *outcome_lost(const struct outcome *o)
{
    static char why[64];
    for (unsigned tag = 1; tag < PAIR_TAGS_THERE + PAIR_TAGS_EACH; tag++) {
        bool before = has_block(&o->base, tag), x = has_block(&o->x, tag),
             y = has_block(&o->y, tag), last = has_block(&o->last, tag);
        if (!last && (before ? x && y : x || y)) {
            snprintf(why, sizeof why, "block %u is lost", tag);
            return why;
        }
    }
    return NULL;
}

static unsigned names_of(const struct dump *t, const struct dump_line *l)
{
    unsigned n = 0;
    bool dir = is_dir(l);
    for (size_t i = 0; i < t->n; i++) {
        const char *path = t->v[i].path, *slash = strrchr(path, '/');
        if (!dir)
            n += t->v[i].node == l->node;
        else if (slash && (size_t)(slash - path) == strlen(l->path) && under(path, l->path))
            n += is_dir(&t->v[i]);
    }
    return dir ? n + 2 : n;
}

const char *outcome_wrong(const struct dump *t, const struct dump *server)
{
    static char why[700];
    if (t->n != server->n)
        return "the trees differ";
    for (size_t i = 0; i < t->n; i++) {
        const struct dump_line *a = &t->v[i], *b = &server->v[i];
        snprintf(why, sizeof why, "the trees differ at %s", a->path);
        if (strcmp(a->path, b->path) || a->node != b->node || !same(a, b))
            return why;
        snprintf(why, sizeof why, "link count %u of %s", a->nlink, a->path);
        if (a->nlink != b->nlink || a->nlink != names_of(t, a))
            return why;
    }
    return NULL;
}
