// SPDX-License-Identifier: Apache-2.0
/* What somebody sees who looks at the namespaces after every commit: no file is half of what a
 * program made of it.
 *
 * Names and contents are followed record by record. Of every file that a client's programs change
 * it is remembered, as a number, what it was as a whole after each change. So what a record makes
 * of a file's content must be one of these; and where it puts the file in another's place, or gives
 * it its first name, one since the program did that: who saves by writing a new file and renaming
 * it over the old one is never seen with a part of it.
 *
 * What cannot be told is left out: a file of which the client does not know all; one that others
 * change, too; and all, where commits are so small that a file's content need not fit one.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define UNKNOWN 0 /* a state that may be any */

static uint64_t mix(uint64_t h, uint64_t v)
{
    struct rng r = {h ^ v};
    return rng_u64(&r);
}

/* The same for the same bytes, in whatever extents and blocks. */
static uint64_t state_of(struct ledger *l, const struct extent_list *list, uint64_t size)
{
    struct marks m = {0};
    uint64_t h = mix(size, 1);
    for (size_t i = 0; i < list->n; i++)
        for (uint64_t at = 0; at < list->v[i].len && list->v[i].off + at < size; at += UNIT) {
            struct m_extent e = list->v[i];
            e.off += at;
            e.block_off += at;
            e.len = UNIT;
            m.n = 0;
            marks_add(l, &m, &e, 1);
            h += mix(mix(e.off, m.n ? m.v[0].mask : 0), m.n ? m.v[0].write : 0);
        }
    marks_free(&m);
    return h | 1;
}

static uint64_t name_key(uint64_t parent, struct bytes name)
{
    uint64_t h = mix(parent, 2);
    for (size_t i = 0; i < name.n; i++)
        h = mix(h, name.p[i]);
    return h | 1;
}

static bool off(const struct sim *s)
{
    return s->p.bounds.extents != 0;
}

static void sight_clear(struct sight *v)
{
    for (size_t i = 0; i < v->files_n; i++)
        extent_list_free(&v->file[i].content);
    v->files_n = 0;
    memset(v->name, 0, sizeof v->name);
}

static void sight_copy(struct sight *to, const struct sight *from)
{
    sight_clear(to);
    memcpy(to->name, from->name, sizeof to->name);
    for (; to->files_n < from->files_n; to->files_n++) {
        struct seen_file *f = &to->file[to->files_n];
        *f = from->file[to->files_n];
        f->content = (struct extent_list){0};
        extent_list_slice(&from->file[to->files_n].content, 0, FILE_SIZE_MAX, &f->content);
    }
}

void observer_reset(struct observer *o)
{
    sight_clear(&o->now);
    sight_clear(&o->copy);
    o->states_n = o->saves_n = 0;
    o->restored = false;
}

void observer_copy(struct observer *o)
{
    sight_copy(&o->copy, &o->now);
}

void observer_restore(struct observer *o)
{
    sight_copy(&o->now, &o->copy);
    o->saves_n = 0;
    o->restored = true;
}

/* ---- what programs do ------------------------------------------------------------------------ */
static uint64_t seen_by(struct client *c, uint64_t node)
{
    struct extent_list l cleanup_extents = {0};
    struct core_need need;
    struct core_attr a;
    if (core_getattr(c->core, node, &a, &need) ||
        core_extents(c->core, node, 0, FILE_SIZE_MAX, &l, &need))
        return UNKNOWN;
    return state_of(&c->s->ledger, &l, a.size);
}

void observer_changed(struct client *c, uint64_t node)
{
    struct observer *o = &c->s->observer;
    if (!off(c->s) && o->states_n < STATES_MAX)
        o->state[o->states_n++] =
            (struct file_state){.client = c->index, .node = node, .state = seen_by(c, node)};
}

/* What nobody saw happen: an operation in which the client was killed may be done. */
void observer_restarted(struct client *c)
{
    if (off(c->s))
        return;
    sqlite3_stmt *s = tree_stmt(c->tree, "SELECT id FROM node WHERE pend & 4 != 0");
    uint64_t nodes[256];
    size_t n = 0;
    while (tree_step(c->tree, s) == 1 && n < 256)
        nodes[n++] = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    for (size_t i = 0; i < n; i++)
        observer_changed(c, nodes[i]);
}

/* Names that its programs gave are those of what it knew then; and of a file that it knows in part,
 * that part is the whole from now on. */
void observer_compared(struct client *c)
{
    observer_parted(&c->s->observer, c->index, 0);
    observer_restarted(c);
}

/* A commit of its own that loss of power had made it forget: what its programs saved since was made
 * of what the files were before. */
void observer_forgotten(struct client *c, const struct m_record *r)
{
    for (size_t i = 0; i < r->contents_n; i++)
        observer_parted(&c->s->observer, c->index, r->contents[i].node);
}

void observer_named(struct client *c, uint64_t parent, struct bytes name, uint64_t node)
{
    struct observer *o = &c->s->observer;
    size_t since = o->states_n;
    uint64_t key = name_key(parent, name);
    if (off(c->s))
        return;
    observer_changed(c, node); /* from what it is now on */
    for (size_t i = 0; i < o->saves_n; i++)
        if (o->save[i].client == c->index && o->save[i].key == key)
            o->save[i] = o->save[--o->saves_n];
    if (o->saves_n < SAVES_MAX)
        o->save[o->saves_n++] = (struct save){.client = c->index,
                                              .key = key,
                                              .node = node,
                                              .after = c->planned,
                                              .since = since,
                                              .dirty = core_recuts(c->core, node)};
}

void observer_parted(struct observer *o, unsigned client, uint64_t node)
{
    for (size_t i = o->saves_n; i-- > 0;)
        if (o->save[i].client == client && (!node || o->save[i].node == node))
            o->save[i] = o->save[--o->saves_n];
}

/* ---- what records say ------------------------------------------------------------------------ */
static struct seen_file *file_of(struct observer *o, uint64_t node)
{
    for (size_t i = 0; i < o->now.files_n; i++)
        if (o->now.file[i].node == node)
            return &o->now.file[i];
    return NULL;
}

static uint64_t *named(struct observer *o, uint64_t key)
{
    size_t i = key % NAMES_SEEN;
    while (o->now.name[i].key && o->now.name[i].key != key)
        i = (i + 1) % NAMES_SEEN;
    o->now.name[i].key = key;
    return &o->now.name[i].node;
}

/* Whether the client's programs (NOBODY: anybody's, or a record) made this of it, in state `since`
 * or later; also if that cannot be told. */
static bool made(const struct observer *o, unsigned client, uint64_t node, size_t since,
                 uint64_t state)
{
    bool any = false;
    for (size_t i = since; i < o->states_n; i++) {
        const struct file_state *f = &o->state[i];
        if ((client != NOBODY && f->client != client) || f->node != node)
            continue;
        any = true;
        if (f->state == UNKNOWN || f->state == state)
            return true;
    }
    return !any || o->states_n == STATES_MAX;
}

static void take_content(struct sim *s, int client, const struct m_content *k,
                         const struct m_inode *n)
{
    struct observer *o = &s->observer;
    struct seen_file *f = file_of(o, n->node);
    if (!f && o->now.files_n == FILES_SEEN)
        return;
    if (!f) {
        f = &o->now.file[o->now.files_n++];
        *f = (struct seen_file){.node = n->node};
    }
    for (size_t i = 0; k && i < k->ranges_n; i++) {
        const struct extent_list with = {.v = k->ranges[i].extents, .n = k->ranges[i].extents_n};
        extent_list_splice(&f->content, k->ranges[i].off, k->ranges[i].len, &with);
    }
    f->state = state_of(&s->ledger, &f->content, n->size);
    f->client = client;
    for (unsigned c = 0; c < s->opt.clients; c++)
        if ((int)c != client) /* theirs is another version from now on */
            observer_parted(o, c, n->node);
    /* once the server was put back, others send again what one has made */
    if (client >= 0 && !made(o, o->restored ? NOBODY : (unsigned)client, n->node, 0, f->state))
        sim_fail(s, "a record makes of file %llx what client %d never made of it",
                 (unsigned long long)n->node, client);
    if (s->p.restore && o->states_n < STATES_MAX)
        o->state[o->states_n++] =
            (struct file_state){.client = NOBODY, .node = n->node, .state = f->state};
}

/* The name is given to the file by the record; fresh: so is its first one. */
static void take_name(struct sim *s, int client, uint64_t request, const struct m_entry *e,
                      bool fresh)
{
    struct observer *o = &s->observer;
    uint64_t key = name_key(e->parent, e->name), *now = named(o, key), before = *now;
    const struct seen_file *f = file_of(o, e->node);
    *now = e->node;
    /* what others made of it, the client need not have seen, unless it had changed it itself */
    if (!f || before == e->node || (!before && !fresh))
        return;
    for (size_t i = 0; i < o->saves_n; i++) {
        const struct save *v = &o->save[i];
        if ((int)v->client == client && v->key == key && v->node == e->node && request > v->after &&
            (f->client == client || v->dirty) && !made(o, v->client, e->node, v->since, f->state))
            sim_fail(s, "%.*s is seen with a part of what client %d saved there (%llx)",
                     (int)e->name.n, (const char *)e->name.p, client, (unsigned long long)e->node);
    }
}

static const struct m_content *content_in(const struct m_record *r, uint64_t node)
{
    for (size_t i = 0; i < r->contents_n; i++)
        if (r->contents[i].node == node)
            return &r->contents[i];
    return NULL;
}

void observer_record(struct sim *s, const struct m_record *r)
{
    struct observer *o = &s->observer;
    bool fresh[64] = {false};
    int client = -1;
    if (off(s))
        return;
    for (unsigned k = 0; k < s->opt.clients; k++)
        if (s->server.inst->device[s->client[k].device].id == r->device)
            client = (int)k;
    for (size_t i = 0; i < r->entries_n && i < 64; i++)
        fresh[i] = !file_of(o, r->entries[i].node);
    for (size_t i = 0; i < r->inodes_n; i++)
        if (r->inodes[i].type == NODE_REG && r->inodes[i].content_rev == r->sjid)
            take_content(s, client, content_in(r, r->inodes[i].node), &r->inodes[i]);
    for (size_t i = 0; i < r->entries_n; i++)
        if (!r->entries[i].node)
            *named(o, name_key(r->entries[i].parent, r->entries[i].name)) = 0;
    for (size_t i = 0; i < r->entries_n && !s->failed; i++)
        if (r->entries[i].node)
            take_name(s, client, r->request, &r->entries[i], i < 64 && fresh[i]);
}

/* ---- what clients show ----------------------------------------------------------------------- */
/* After the newest record: what is not changed here is what the observer sees. */
void observer_applied(struct client *c, const struct m_record *r)
{
    const struct sim *s = c->s;
    if (c->strange) /* it may be a record of the journal that is lost */
        return;
    for (size_t i = 0; i < r->contents_n && !s->failed && !off(s); i++) {
        const struct seen_file *f = file_of(&c->s->observer, r->contents[i].node);
        sqlite3_stmt *q = tree_stmt(c->tree, "SELECT (pend | sent) & 4 FROM node WHERE id = ?1");
        sqlite3_bind_int64(q, 1, (int64_t)r->contents[i].node);
        bool clean = tree_step(c->tree, q) == 1 && !sqlite3_column_int(q, 0);
        sqlite3_reset(q);
        uint64_t state = f && clean ? seen_by(c, f->node) : UNKNOWN;
        if (state != UNKNOWN && state != f->state)
            sim_fail(c->s, "client %u shows %llx otherwise than its record", c->index,
                     (unsigned long long)f->node);
    }
}
