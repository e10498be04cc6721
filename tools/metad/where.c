// SPDX-License-Identifier: Apache-2.0
/* Which premises and block servers hold how much of a file or folder.
 *
 * The answer is exact for one SJID, and as large a folder as one likes is looked at in pages: each
 * names what it found and did not look into (folders, files with more extents than fit, and, apart,
 * files with several names, which only who sees all pages can count once). Who asks keeps that
 * list and asks for it next; the server keeps nothing.
 *
 * An extent is held where its block is present, at servers that are assigned now. So a file that is
 * changed while the pages are asked for is told of as it was, and a block that is replicated
 * meanwhile counts for what is looked at later.
 */
#include <errno.h>
#include <string.h>

#include "meta_private.h"

#define LOOKS_DEFAULT 4096u
#define LOOKS_MIN 2u     /* an item, and one name or extent of it: each page gets somewhere */
#define LOOKS_MAX 10000u /* and so many items may be left over: WHERE_LEFT_MAX holds them */
#define DISKS_MAX 256u
#define REMOVING_COUNTED 1000u

struct survey {
    struct meta *m;
    struct arena *ar;
    const struct m_where_req *q;
    struct m_where_ans *a;
    struct server_row *servers;
    size_t servers_n;
    size_t place[CANDIDATES_MAX]; /* of each server, in a->premises */
    size_t looks;                 /* names and extents that may still be looked at */
    int64_t now_ms;
};

/* ---- counting ------------------------------------------------------------------------------- */
static void add(struct m_where_amount *v, uint64_t bytes)
{
    v->bytes += bytes;
    v->pieces++;
}

static void prepare(struct survey *s)
{
    struct m_where_ans *a = s->a;
    a->servers = arena_alloc(s->ar, (s->servers_n + 1) * sizeof *a->servers);
    a->premises = arena_alloc(s->ar, (s->servers_n + 1) * sizeof *a->premises);
    a->copies = arena_alloc(s->ar, (s->servers_n + 1) * sizeof *a->copies);
    a->left = arena_alloc(s->ar, WHERE_LEFT_MAX * sizeof *a->left);
    a->linked = arena_alloc(s->ar, WHERE_LEFT_MAX * sizeof *a->linked);
    for (size_t k = 0; k <= s->servers_n; k++)
        a->copies[a->copies_n++] = (struct m_where_amount){.key = k};
    for (size_t k = 0; k < s->servers_n; k++) {
        const struct server_row *row = &s->servers[k];
        size_t p = 0;
        a->servers[a->servers_n++] = (struct m_where_amount){
            .key = row->id, .premises = row->premises, .leaving = row->leaving};
        while (p < a->premises_n && !bytes_equal(a->premises[p].premises, row->premises))
            p++;
        if (p == a->premises_n)
            a->premises[a->premises_n++] = (struct m_where_amount){.premises = row->premises};
        s->place[k] = p;
    }
}

static int count_extent(struct survey *s, const struct m_extent *e)
{
    struct holder_row h[CANDIDATES_MAX];
    bool at_place[CANDIDATES_MAX] = {0};
    size_t n, copies = 0;
    int r = s->m->st->ops->holders(s->m->st, s->a->ns, &e->block, h, &n);
    for (size_t i = 0; i < n && !r; i++)
        for (size_t k = 0; k < s->servers_n; k++) {
            if (s->servers[k].id != h[i].server || s->servers[k].generation != h[i].generation)
                continue;
            add(&s->a->servers[k], e->len);
            if (!at_place[s->place[k]])
                add(&s->a->premises[s->place[k]], e->len);
            at_place[s->place[k]] = true;
            copies++;
        }
    if (r)
        return r;
    add(&s->a->copies[copies], e->len);
    s->a->bytes += e->len;
    s->a->pieces++;
    return 0;
}

/* ---- looking -------------------------------------------------------------------------------- */
static void leave(struct survey *s, const struct m_where_item *item)
{
    struct m_where_item copy = *item;
    copy.after = arena_bytes(s->ar, item->after.p, item->after.n);
    s->a->left[s->a->left_n++] = copy;
}

/* The file's extents from item->off on, as many as may be looked at. */
static int look_at_file(struct survey *s, const struct m_where_item *item)
{
    struct m_where_item rest = *item;
    struct extent_row *v;
    size_t n;
    if (!s->looks) {
        leave(s, item);
        return 0;
    }
    int r = s->m->st->ops->extent_list(s->m->st, s->a->ns, item->node, s->a->at, item->off,
                                       (uint64_t)FILE_SIZE_MAX - item->off, s->looks + 1, &v, &n,
                                       s->ar);
    s->a->files += !r && item->off == 0;
    for (size_t k = 0; k < n && k < s->looks && !r; k++) {
        if (v[k].e.off >= item->off) /* one that begins before was counted with the page before */
            r = count_extent(s, &v[k].e);
        rest.off = v[k].e.off + v[k].e.len;
    }
    if (!r && n > s->looks)
        leave(s, &rest);
    s->looks -= n < s->looks ? n : s->looks;
    return r;
}

static int look_at_entry(struct survey *s, uint64_t node)
{
    struct m_where_item item = {.node = node};
    struct m_inode i;
    int r = s->m->st->ops->inode_get(s->m->st, s->a->ns, node, s->a->at, &i, s->ar);
    if (r)
        return r == -ENOENT ? -EUCLEAN : r; /* an entry's node exists while the entry does */
    if (i.type == NODE_DIR)
        leave(s, &item);
    else if (i.type == NODE_REG && i.nlink > 1)
        s->a->linked[s->a->linked_n++] = node;
    else if (i.type == NODE_REG)
        r = look_at_file(s, &item);
    s->a->mounts += i.type == NODE_MOUNT;
    return r;
}

static int look_at_dir(struct survey *s, const struct m_where_item *item)
{
    struct m_where_item rest = *item;
    struct m_entry *v;
    size_t n, k = 0;
    int r = s->m->st->ops->entry_page(s->m->st, s->a->ns, item->node, s->a->at, item->after,
                                      s->looks + 1, &v, &n, s->ar);
    while (k < n && s->looks && !r) {
        s->looks--;
        rest.after = v[k].name;
        r = look_at_entry(s, v[k++].node);
    }
    if (!r && k < n) /* the last of the list: who asks for that first keeps it short */
        leave(s, &rest);
    return r;
}

static int look_at(struct survey *s, const struct m_where_item *item)
{
    struct m_inode i;
    if (!s->looks || item->off >= (uint64_t)FILE_SIZE_MAX) {
        if (!s->looks)
            leave(s, item);
        return 0;
    }
    s->looks--;
    int r = s->m->st->ops->inode_get(s->m->st, s->a->ns, item->node, s->a->at, &i, s->ar);
    if (r)
        return r;
    if (i.type == NODE_DIR)
        return look_at_dir(s, item);
    return i.type == NODE_REG ? look_at_file(s, item) : 0;
}

/* ---- the whole namespace -------------------------------------------------------------------- */
static int add_disk(struct survey *s, const struct server_row *server, const struct parted_row *p)
{
    const struct store_ops *ops = s->m->st->ops;
    struct m_where_ans *a = s->a;
    struct held_row held;
    struct m_where_disk d = {.server = server->id,
                             .premises = server->premises,
                             .left = p != NULL,
                             .silent = !meta_hears(server, s->now_ms)};
    int r = ops->held(s->m->st, a->ns, server->id, &held);
    if (!r && p)
        r = ops->gone_count(s->m->st, server->id, a->ns, REMOVING_COUNTED, &d.removing);
    d.blocks = held.blocks;
    d.bytes = held.bytes;
    d.until_ms = p && held.blocks ? p->since_ms + s->m->gc_grace_ms : 0;
    if (!r && a->disks_n < DISKS_MAX && (!p || d.blocks || d.removing))
        a->disks[a->disks_n++] = d;
    return r;
}

/* What lies at the servers that it has, and at those that it has left. */
static int survey_disks(struct survey *s, const struct ns_row *row)
{
    const struct store_ops *ops = s->m->st->ops;
    struct parted_row *v;
    struct held_row all;
    size_t n;
    int r = ops->held(s->m->st, row->id, 0, &all);
    if (!r)
        r = ops->parted_list(s->m->st, row->id, &v, &n, s->ar);
    if (r)
        return r;
    s->a->ns_file_bytes = row->used_bytes;
    s->a->ns_blocks = all.blocks;
    s->a->ns_bytes = all.bytes;
    s->a->disks = arena_alloc(s->ar, DISKS_MAX * sizeof *s->a->disks);
    for (size_t k = 0; k < s->servers_n && !r; k++)
        r = add_disk(s, &s->servers[k], NULL);
    for (size_t k = 0; k < n && !r; k++) {
        struct server_row server;
        r = ops->server_get(s->m->st, v[k].server, &server, s->ar);
        if (!r)
            r = add_disk(s, &server, &v[k]);
        else if (r == -ENOENT) /* struck off: its disk is nobody's any more */
            r = 0;
    }
    return r;
}

/* ---- the question --------------------------------------------------------------------------- */
/* The node at a path; -ENOENT. */
static int find_path(struct survey *s, uint64_t root, uint64_t *node)
{
    struct bytes path = s->q->path;
    *node = root;
    for (size_t at = 0; at < path.n;) {
        size_t n = 0;
        while (at + n < path.n && path.p[at + n] != '/')
            n++;
        struct bytes name = bytes_of(path.p + at, n);
        struct entry_row e;
        at += n + 1;
        if (!n)
            continue;
        int r = s->m->st->ops->entry_get(s->m->st, s->a->ns, *node, name, s->a->at, &e);
        if (r)
            return r;
        *node = e.node;
    }
    return 0;
}

/* The namespace, by number or by name, if the caller may know of it. */
static int find_ns(struct survey *s, const struct meta_caller *who, struct ns_row *row, char *why)
{
    const struct m_where_req *q = s->q;
    uint64_t role = ROLE_NONE, ns = q->ns;
    int r = 0;
    if (!ns) {
        r = s->m->st->ops->ns_find(s->m->st, q->name, row, s->ar);
        ns = r ? 0 : row->id;
    }
    if (!r && who->admin) {
        r = s->m->st->ops->ns_get(s->m->st, ns, row, s->ar);
    } else if (!r) {
        r = meta_access(s->m, who, ns, row, &role, s->ar, why);
        if (r != -EACCES || q->ns)
            return r;
    }
    if (r == -ENOENT || r == -EACCES) /* whether there is one of that name is not told */
        return meta_fail(why, who->admin ? -ENOENT : -EACCES, "where: no such namespace%s",
                         who->admin ? "" : " that you are a member of");
    return r ? meta_store_fail(why, r, "cannot read") : 0;
}

static int survey(struct survey *s, const struct ns_row *row)
{
    struct m_where_item first = {0};
    int r = s->m->st->ops->assigned(s->m->st, row->id, &s->servers, &s->servers_n, s->ar);
    if (r)
        return r;
    prepare(s);
    if (!s->q->at && (r = survey_disks(s, row)))
        return r;
    if (s->q->items_n)
        for (size_t k = 0; k < s->q->items_n && !r; k++)
            r = look_at(s, &s->q->items[k]);
    else if (!(r = find_path(s, row->root, &first.node)))
        r = look_at(s, &first);
    return r;
}

int meta_where(struct meta *m, const struct meta_caller *who, const struct m_where_req *q,
               int64_t now_ms, struct m_where_ans *a, struct arena *ar, char *why)
{
    struct survey s = {.m = m, .ar = ar, .q = q, .a = a, .now_ms = now_ms};
    struct ns_row row;
    memset(a, 0, sizeof *a);
    s.looks = q->limit ? q->limit : LOOKS_DEFAULT;
    s.looks = s.looks < LOOKS_MIN ? LOOKS_MIN : s.looks > LOOKS_MAX ? LOOKS_MAX : s.looks;
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    r = find_ns(&s, who, &row, why);
    if (r)
        return meta_read_end(m, r);
    a->ns = row.id;
    a->name = row.name;
    a->at = q->at ? q->at : row.head;
    a->copies_min = row.copies_min;
    if (a->at < row.floor || a->at > row.head) {
        r = meta_fail(why, -ESTALE, "where: too much has changed meanwhile; ask again");
        return meta_read_end(m, r);
    }
    r = meta_read_end(m, survey(&s, &row));
    if (r == -ENOENT)
        return meta_fail(why, r, "where: the metadata server does not know it; steadfs sync first");
    return r ? meta_store_fail(why, r, "cannot read") : 0;
}
