// SPDX-License-Identifier: Apache-2.0
/* Writes a checked commit, and the journal's record of it.
 *
 * Every row that changes is closed at the new SJID and its successor opened. A changed range of a
 * file closes the extents that it overlaps and opens what is left of them at its two edges and what
 * is new: the number of rows depends on the range, never on the file. The record holds
 * after-images: of a created file one range over its whole possible length (so that whoever reads
 * it knows all of the file), of a changed one exactly the changed ranges, and the part cut off by a
 * shrink as a hole.
 *
 * The quota of bytes is judged when the extents are written and the sum is known, the record's size
 * when it is encoded (it holds much that the request does not: attributes twice, targets of renamed
 * links, xattrs of revived nodes); the commit's part of the transaction is undone if one is
 * exceeded. A longer record would make every later `list` fail.
 */
#include <errno.h>
#include <string.h>

#include "gone.h"
#include "replicas.h"

#define SPLICE_PAGE 4096 /* rows closed at a time */

/* ---- extents
 * ---------------------------------------------------------------------------------------- */
static int open_piece(struct commit *c, const struct wnode *w, const struct m_extent *e,
                      uint64_t from, uint64_t to)
{
    struct m_extent piece = *e;
    piece.off = from;
    piece.len = to - from;
    piece.block_off = e->block_off + (from - e->off);
    return c->m->st->ops->extent_open(c->m->st, c->ns.id, c->sjid, w->node, &piece);
}

/* Makes [off, end) a hole; *stored falls by what lay in it. */
static int cut_out(struct commit *c, const struct wnode *w, uint64_t off, uint64_t end,
                   uint64_t *stored)
{
    const struct store_ops *ops = c->m->st->ops;
    size_t n = SPLICE_PAGE;
    int r = 0;
    while (n == SPLICE_PAGE && !r) {
        cleanup_arena struct arena tmp = {0};
        struct extent_row *v;
        r = ops->extent_list(c->m->st, c->ns.id, w->node, STORE_NOW, off, end - off, SPLICE_PAGE,
                             &v, &n, &tmp);
        for (size_t k = 0; k < n && !r; k++) {
            const struct m_extent *e = &v[k].e;
            uint64_t from = e->off > off ? e->off : off;
            uint64_t to = e->off + e->len < end ? e->off + e->len : end;
            *stored -= to - from;
            r = ops->extent_close(c->m->st, c->ns.id, c->sjid, w->node, e->off);
            if (!r && e->off < from)
                r = open_piece(c, w, e, e->off, from);
            if (!r && to < e->off + e->len)
                r = open_piece(c, w, e, to, e->off + e->len);
        }
    }
    return r;
}

static int write_content(struct commit *c, struct wnode *w)
{
    const struct m_node_change *n = w->change;
    uint64_t stored = w->after.stored;
    int r = 0;
    if (!w->created && n->size < w->before.size)
        r = cut_out(c, w, n->size, (uint64_t)FILE_SIZE_MAX, &stored);
    for (size_t k = 0; k < n->ranges_n && !r; k++) {
        const struct m_range *g = &n->ranges[k];
        if (!w->created)
            r = cut_out(c, w, g->off, g->off + g->len, &stored);
        for (size_t e = 0; e < g->extents_n && !r; e++) {
            r = c->m->st->ops->extent_open(c->m->st, c->ns.id, c->sjid, w->node, &g->extents[e]);
            stored += g->extents[e].len;
        }
    }
    w->after.stored = stored;
    return r;
}

/* ---- inodes
 * ------------------------------------------------------------------------------------------ */
static void facets(struct commit *c, struct wnode *w)
{
    const struct m_node_change *n = w->change;
    struct m_inode *i = &w->after;
    if (w->created) {
        *i = (struct m_inode){.node = w->node,
                              .type = n->type,
                              .rdev = n->rdev,
                              .target = n->target,
                              .mtime = n->mtime,
                              .ctime = n->ctime,
                              .content_rev = c->sjid,
                              .attr_rev = c->sjid,
                              .xattrs = i->xattrs,
                              .target_ns = n->type == NODE_MOUNT ? c->target_ns : 0};
    }
    if (w->created || (n->facets & FACET_ATTR)) {
        i->mode = n->mode;
        i->uid = n->uid;
        i->gid = n->gid;
        i->attr_rev = c->sjid;
    }
    if (n->facets & FACET_CONTENT) {
        i->size = n->size;
        i->content_rev = c->sjid;
    }
    if (n->facets & (FACET_CONTENT | FACET_TIMES))
        i->mtime = n->mtime;
    if (n->ctime > i->ctime)
        i->ctime = n->ctime;
}

static void count_links(struct wnode *w)
{
    if (w->after.type == NODE_DIR) {
        uint64_t had = w->state == NODE_OPEN ? w->before.nlink : 2;
        w->after.nlink = had + w->subdirs_added - w->subdirs_removed;
    } else {
        w->after.nlink = (w->state == NODE_OPEN ? w->before.nlink : 0) + w->added - w->removed;
    }
}

static int close_node(struct commit *c, struct wnode *w)
{
    const struct store_ops *ops = c->m->st->ops;
    int r = ops->inode_close(c->m->st, c->ns.id, c->sjid, w->node);
    if (!r && w->before.stored)
        r = ops->extent_close_all(c->m->st, c->ns.id, c->sjid, w->node);
    if (!r && w->before.xattrs)
        r = ops->xattr_close_all(c->m->st, c->ns.id, c->sjid, w->node);
    if (!r && w->before.type == NODE_MOUNT)
        r = ops->mount_remove(c->m->st, c->ns.id, w->node);
    c->ns.used_bytes -= w->before.stored;
    c->ns.used_nodes--;
    w->after.gone = true;
    w->after.nlink = 0;
    return r;
}

static int reopen_node(struct commit *c, struct wnode *w)
{
    const struct store_ops *ops = c->m->st->ops;
    int r = 0;
    if (w->before.stored)
        r = ops->extent_reopen(c->m->st, c->ns.id, c->sjid, w->node, w->ended);
    if (!r && w->before.xattrs)
        r = ops->xattr_reopen(c->m->st, c->ns.id, c->sjid, w->node, w->ended);
    return r;
}

static int write_node(struct commit *c, struct wnode *w)
{
    int r = 0;
    if (w->state != NODE_OPEN && !w->created && !w->revived)
        return 0; /* times of a node that is gone, or an entry's former parent */
    /* one that goes is told of, and comes back with a later name, as it was */
    if (w->change && !w->gone)
        facets(c, w);
    count_links(w);
    /* one that gained a link and lost one, too: who knows only one of the two names cannot count */
    w->touched = w->created || w->revived || w->change || w->added || w->removed ||
                 w->subdirs_added || w->subdirs_removed || w->after.xattrs != w->before.xattrs;
    if (w->gone)
        return close_node(c, w);
    if (w->revived)
        r = reopen_node(c, w);
    if (!r && w->change && (w->change->facets & FACET_CONTENT))
        r = write_content(c, w);
    if (r || !w->touched)
        return r;
    if (w->created && NODE_DEVICE(w->node) == c->device && c->device) {
        uint64_t counter = w->node & (NODE_ID(1, 0) - 1);
        c->highest_node = counter > c->highest_node ? counter : c->highest_node;
    }
    c->ns.used_bytes += w->after.stored - (w->state == NODE_OPEN ? w->before.stored : 0);
    c->ns.used_nodes += w->created || w->revived;
    return c->m->st->ops->inode_put(c->m->st, c->ns.id, c->sjid, &w->after);
}

/* ---- the rows
 * ------------------------------------------------------------------------------------------ */
static int write_entries(struct commit *c)
{
    int r = 0;
    for (size_t k = 0; k < c->changes.entries_n && !r; k++) {
        const struct wentry *e = &c->entries[k];
        if (e->effective)
            r = c->m->st->ops->entry_put(c->m->st, c->ns.id, c->sjid, e->c->parent, e->c->name,
                                         e->c->node, e->to ? e->to->after.type : 0);
    }
    return r;
}

static int write_xattrs(struct commit *c)
{
    const struct store_ops *ops = c->m->st->ops;
    int r = 0;
    for (size_t k = 0; k < c->changes.xattrs_n && !r; k++) {
        const struct wxattr *x = &c->xattrs[k];
        if (x->node->gone)
            continue;
        if (!x->c->removed)
            r = ops->xattr_put(c->m->st, c->ns.id, c->sjid, x->node->node, x->c->name, x->c->value);
        else if (x->had)
            r = ops->xattr_close(c->m->st, c->ns.id, c->sjid, x->node->node, x->c->name);
    }
    return r;
}

static int write_presence(struct commit *c)
{
    const struct store_ops *ops = c->m->st->ops;
    int r = 0;
    for (size_t k = 0; k < c->blocks.n && !r; k++) {
        const struct need *need = &c->blocks.v[k];
        if (!need->fresh)
            continue;
        r = ops->block_put(c->m->st, c->ns.id, &need->id, need->len, c->sjid);
        for (size_t s = 0; s < c->servers_n && !r; s++) {
            if (need->fresh & 1ull << s)
                r = gone_proved(c->m, c->ns.id, &c->servers[s], &need->id, need->proof[s],
                                c->now_ms);
        }
    }
    return r;
}

/* ---- the record
 * ------------------------------------------------------------------------------------------ */
static void record_content(struct commit *c, const struct wnode *w, struct m_content *out)
{
    const struct m_node_change *n = w->change;
    size_t ranges_n = n->ranges_n, k = 0;
    *out = (struct m_content){.node = w->node};
    if (w->created) {
        size_t extents_n = 0;
        out->ranges = arena_alloc(c->ar, sizeof *out->ranges);
        out->ranges_n = 1;
        for (k = 0; k < ranges_n; k++)
            extents_n += n->ranges[k].extents_n;
        struct m_extent *all = arena_alloc(c->ar, extents_n * sizeof *all + 1);
        out->ranges[0] = (struct m_range){
            .len = (uint64_t)FILE_SIZE_MAX, .extents = all, .extents_n = extents_n};
        for (k = 0; k < ranges_n; k++) {
            for (size_t e = 0; e < n->ranges[k].extents_n; e++)
                *all++ = n->ranges[k].extents[e];
        }
        return;
    }
    bool shrinks = n->size < w->before.size;
    out->ranges = arena_alloc(c->ar, (ranges_n + 1) * sizeof *out->ranges);
    for (k = 0; k < ranges_n; k++) {
        struct m_range g = n->ranges[k];
        if (shrinks && g.off >= n->size)
            break; /* a hole behind the end: the last range says so */
        if (shrinks && g.off + g.len > n->size)
            g.len = n->size - g.off;
        out->ranges[out->ranges_n++] = g;
    }
    if (shrinks)
        out->ranges[out->ranges_n++] =
            (struct m_range){.off = n->size, .len = w->before.size - n->size};
}

static void record_nodes(struct commit *c, struct m_record *r)
{
    r->inodes = arena_alloc(c->ar, (c->nodes_n + 1) * sizeof *r->inodes);
    r->contents = arena_alloc(c->ar, (c->nodes_n + 1) * sizeof *r->contents);
    for (size_t k = 0; k < c->nodes_n; k++) {
        const struct wnode *w = &c->nodes[k];
        if (!w->touched && !w->gone)
            continue;
        r->inodes[r->inodes_n++] = w->after;
        bool content = w->change && (w->change->facets & (FACET_CONTENT | FACET_CREATE));
        if (!w->gone && content && w->after.type == NODE_REG)
            record_content(c, w, &r->contents[r->contents_n++]);
    }
}

static void record_entries(struct commit *c, struct m_record *r)
{
    r->entries = arena_alloc(c->ar, (c->changes.entries_n + 1) * sizeof *r->entries);
    for (size_t k = 0; k < c->changes.entries_n; k++) {
        const struct wentry *e = &c->entries[k];
        if (!e->effective)
            continue;
        struct m_entry *out = &r->entries[r->entries_n++];
        *out = (struct m_entry){.parent = e->c->parent,
                                .name = e->c->name,
                                .node = e->c->node,
                                .rev = c->sjid,
                                .inode_set = e->to != NULL};
        if (e->to)
            out->inode = e->to->after;
    }
}

/* Xattrs that changed; all of a node that was opened again, since their revisions are new. */
static int record_xattrs(struct commit *c, struct m_record *r)
{
    uint64_t max = c->changes.xattrs_n;
    for (size_t k = 0; k < c->nodes_n; k++)
        max += c->nodes[k].revived ? c->nodes[k].after.xattrs : 0;
    r->xattrs = arena_alloc(c->ar, (max + 1) * sizeof *r->xattrs);
    for (size_t k = 0; k < c->changes.xattrs_n; k++) {
        const struct wxattr *x = &c->xattrs[k];
        if (x->node->gone || (x->node->revived && !x->c->removed) || (x->c->removed && !x->had))
            continue;
        r->xattrs[r->xattrs_n++] =
            (struct m_xattr){.node = x->node->node,
                             .name = x->c->name,
                             .value = x->c->removed ? bytes_of(NULL, 0) : x->c->value,
                             .removed = x->c->removed,
                             .rev = c->sjid};
    }
    for (size_t k = 0; k < c->nodes_n; k++) {
        struct m_xattr *v;
        size_t n;
        if (!c->nodes[k].revived || !c->nodes[k].after.xattrs)
            continue;
        int ret = c->m->st->ops->xattr_list(c->m->st, c->ns.id, c->nodes[k].node, STORE_NOW, &v, &n,
                                            c->ar);
        if (ret)
            return ret;
        if (r->xattrs_n + n > max)
            return -EUCLEAN; /* the inode's count and its rows disagree */
        memcpy(r->xattrs + r->xattrs_n, v, n * sizeof *v);
        r->xattrs_n += n;
    }
    return 0;
}

/* The record's bytes are done with. */
static int write_mark(struct commit *c, struct buf *record)
{
    const struct store_ops *ops = c->m->st->ops;
    uint64_t before, made[3] = {0, c->ns.id, c->sjid};
    uint8_t hash[STORE_HASH_LEN];
    int r = ops->mark_get(c->m->st, c->ns.id, c->sjid - 1, &before);
    if (r)
        return r;
    made[0] = before;
    for (size_t k = 0; k < 3; k++)
        for (int shift = 56; shift >= 0; shift -= 8)
            buf_append(record, &(uint8_t){(uint8_t)(made[k] >> shift)}, 1);
    meta_hash(bytes_of(record->p, record->n), hash);
    c->mark = 0;
    for (size_t k = 0; k < 8; k++)
        c->mark = c->mark << 8 | hash[k];
    c->mark = c->mark >> 1 | 1; /* SQLite's numbers are signed; 0 says that there is none */
    return ops->mark_put(c->m->st, c->ns.id, c->sjid, c->mark);
}

static int write_record(struct commit *c)
{
    cleanup_buf struct buf out = {0};
    struct m_record r = {.sjid = c->sjid,
                         .device = c->device,
                         .request = c->request,
                         .time_ms = (uint64_t)c->now_ms,
                         .account = !c->q};
    record_nodes(c, &r);
    record_entries(c, &r);
    int ret = record_xattrs(c, &r);
    if (ret)
        return ret;
    c->record_over = !msg_within(&m_record_desc, &r);
    if (!c->record_over)
        msg_encode(&m_record_desc, &r, &out);
    c->record_over |= out.n > RECORD_BYTES_MAX;
    if (c->record_over)
        return 0;
    ret = c->m->st->ops->journal_add(c->m->st, c->ns.id, &r, bytes_of(out.p, out.n));
    return ret ? ret : write_mark(c, &out);
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------- */
static int write_all(struct commit *c)
{
    int r = write_presence(c); /* first: extents count as references of their blocks' rows */
    for (size_t k = 0; k < c->nodes_n && !r; k++)
        r = write_node(c, &c->nodes[k]);
    if (!r)
        r = write_entries(c);
    if (!r)
        r = write_xattrs(c);
    if (!r)
        r = write_record(c);
    if (!r)
        r = replicas_commit(c);
    c->ns.head = c->sjid;
    if (!r)
        r = c->m->st->ops->ns_set(c->m->st, &c->ns);
    return r;
}

/* Conflicted copies are charged, but refused later: what a conflict keeps was in the namespace, or
 * was to be, already. */
struct over {
    bool any, copies; /* too much without the copies that the commit makes; with them */
};

static struct over bytes_over(const struct commit *c, const struct ns_row *before)
{
    uint64_t copies = 0, quota = c->ns.quota_bytes, used = c->ns.used_bytes;
    if (!c->q || !commit_over(used, quota, false))
        return (struct over){0};
    for (size_t k = 0; k < c->nodes_n; k++)
        if (commit_is_copy(&c->nodes[k]))
            copies += c->nodes[k].after.stored;
    return (struct over){.any = used > before->used_bytes + copies,
                         .copies = copies && commit_over(used, quota, true)};
}

static void refuse_growing(struct commit *c, struct over over)
{
    for (size_t k = 0; k < c->nodes_n; k++) {
        const struct wnode *w = &c->nodes[k];
        uint64_t had = w->state == NODE_OPEN ? w->before.stored : 0;
        if (!w->gone && w->after.stored > had && (commit_is_copy(w) ? over.copies : over.any))
            commit_refuse(c, ROW_NODE_CONTENT, w->node, bytes_of(NULL, 0), REFUSED_QUOTA,
                          "the namespace's quota of bytes is used up");
    }
}

int commit_apply(struct commit *c)
{
    const struct store_ops *ops = c->m->st->ops;
    struct ns_row before = c->ns;
    int r = ops->save(c->m->st);
    if (r)
        return r;
    r = write_all(c);
    struct over over = r ? (struct over){0} : bytes_over(c, &before);
    bool quota = over.any || over.copies;
    bool keep = !r && !quota && !c->record_over;
    int r2 = ops->release(c->m->st, keep);
    r = r ? r : r2;
    if (keep || r)
        return r;
    c->ns = before;
    if (quota)
        refuse_growing(c, over);
    else
        commit_too_large(c);
    return 0;
}
