// SPDX-License-Identifier: Apache-2.0
/* Two arrays for users and two for groups, each sorted by what is looked up in it. */
#include "owners.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "blockid.h"

#define NUMBER_MIN (1u << 30)
#define REFRESH_NS 1000000000ll

struct pair {
    uint32_t from, to;
};
struct map {
    struct pair *stored, *local; /* by local number, by stored number; n each */
    size_t n, cap;
};
struct source {
    char *path;
    struct timespec changed;
    ino_t ino;
    off_t size;
};
struct owners {
    struct source source[2]; /* users, groups */
    struct map map[2];
    int64_t looked;
};

uint32_t owners_number(bool group, const char *name)
{
    struct block_id h;
    cleanup_buf struct buf text = {0};
    buf_printf(&text, "%s %s", group ? "group" : "user", name);
    block_id_of(&h, text.p, text.n);
    uint32_t n = (uint32_t)h.b[1] << 24 | (uint32_t)h.b[2] << 16 | (uint32_t)h.b[3] << 8 | h.b[4];
    return NUMBER_MIN | (n & (NUMBER_MIN - 1));
}

/* ---- the files --------------------------------------------------------------------------------
 */

static void add(struct map *m, bool group, const char *name, uint32_t local)
{
    uint32_t number = local == 0 ? 0 : owners_number(group, name);
    for (size_t i = 0; i < m->n; i++)
        if (m->stored[i].from == local || m->stored[i].to == number)
            return; /* the first name of a number counts, and the first number of a name */
    if (m->n == m->cap) {
        m->cap = m->cap == 0 ? 64 : 2 * m->cap;
        m->stored = realloc(m->stored, m->cap * sizeof(*m->stored));
        if (m->stored == NULL)
            abort();
    }
    m->stored[m->n++] = (struct pair){local, number};
}

static int compare(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

static void index_map(struct map *m)
{
    m->local = calloc(m->n + 1, sizeof(*m->local));
    if (m->local == NULL)
        abort();
    for (size_t i = 0; i < m->n; i++)
        m->local[i] = (struct pair){m->stored[i].to, m->stored[i].from};
    if (m->n > 0) {
        qsort(m->stored, m->n, sizeof(*m->stored), compare);
        qsort(m->local, m->n, sizeof(*m->local), compare);
    }
}

static void map_free(struct map *m)
{
    free(m->stored);
    free(m->local);
    *m = (struct map){0};
}

static void load(struct owners *o, bool group)
{
    struct source *s = &o->source[group];
    struct map *m = &o->map[group];
    FILE *f = fopen(s->path, "re");
    map_free(m);
    for (const struct passwd *p; f != NULL && !group && (p = fgetpwent(f)) != NULL;)
        add(m, group, p->pw_name, p->pw_uid);
    for (const struct group *g; f != NULL && group && (g = fgetgrent(f)) != NULL;)
        add(m, group, g->gr_name, g->gr_gid);
    if (f != NULL)
        fclose(f);
    index_map(m);
}

static bool changed(struct source *s)
{
    struct stat st = {0};
    (void)stat(s->path, &st); /* gone: all zero */
    bool same = st.st_ino == s->ino && st.st_size == s->size &&
                st.st_mtim.tv_sec == s->changed.tv_sec && st.st_mtim.tv_nsec == s->changed.tv_nsec;
    s->ino = st.st_ino;
    s->size = st.st_size;
    s->changed = st.st_mtim;
    return !same;
}

struct owners *owners_new(const char *passwd, const char *group)
{
    struct owners *o = calloc(1, sizeof(*o));
    if (o == NULL)
        abort();
    o->source[0].path = strdup(passwd != NULL ? passwd : "/etc/passwd");
    o->source[1].path = strdup(group != NULL ? group : "/etc/group");
    if (o->source[0].path == NULL || o->source[1].path == NULL)
        abort();
    for (int g = 0; g < 2; g++) {
        changed(&o->source[g]);
        load(o, g == 1);
    }
    return o;
}

void owners_free(struct owners *o)
{
    for (int g = 0; o != NULL && g < 2; g++) {
        free(o->source[g].path);
        map_free(&o->map[g]);
    }
    free(o);
}

void owners_refresh(struct owners *o, int64_t now)
{
    if (now - o->looked < REFRESH_NS && now >= o->looked)
        return;
    o->looked = now;
    for (int g = 0; g < 2; g++)
        if (changed(&o->source[g]))
            load(o, g == 1);
}

/* ---- numbers ----------------------------------------------------------------------------------
 */

static uint32_t translate(const struct pair *v, size_t n, uint32_t number)
{
    struct pair key = {.from = number};
    const struct pair *p = n > 0 ? bsearch(&key, v, n, sizeof(*v), compare) : NULL;
    return p != NULL ? p->to : number;
}

uint32_t owners_stored(const struct owners *o, bool group, uint32_t local)
{
    return translate(o->map[group].stored, o->map[group].n, local);
}

uint32_t owners_local(const struct owners *o, bool group, uint32_t stored)
{
    return translate(o->map[group].local, o->map[group].n, stored);
}

struct listing {
    const struct owners *o;
    bool to_stored;
};

static uint32_t map_id(void *arg, bool group, uint32_t id)
{
    const struct listing *l = arg;
    return l->to_stored ? owners_stored(l->o, group, id) : owners_local(l->o, group, id);
}

void owners_list(const struct owners *o, uint8_t *list, size_t n, bool to_stored)
{
    struct listing l = {o, to_stored};
    acl_map_ids(list, n, map_id, &l);
}
