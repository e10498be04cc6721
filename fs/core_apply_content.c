// SPDX-License-Identifier: Apache-2.0
/* What a record says of a file's content, and what becomes of what is pending there. */
#include "core_apply.h"

static const struct m_content *content_of(const struct m_record *r, uint64_t node)
{
    for (size_t i = 0; i < r->contents_n; i++)
        if (r->contents[i].node == node)
            return &r->contents[i];
    return NULL;
}

bool content_told(const struct apply *w, const struct m_inode *m)
{
    const struct m_content *k = content_of(w->r, m->node);
    return m->content_rev == w->r->sjid && k && k->ranges_n == 1 && k->ranges[0].off == 0 &&
           k->ranges[0].len >= m->size;
}

/* Whether the pending content is the very same change. Where it is not told what changed, the same
 * it is only where nothing is left. */
static int same_content(struct apply *w, const struct nrow *n, const struct m_inode *m,
                        const struct m_content *k, bool *same)
{
    struct core *c = w->c;
    cleanup_spans struct spans mine = {0};
    int err = span_list(c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX, &mine);
    if (!err)
        err = span_list(c, n->id, SPAN_SENT, 0, FILE_SIZE_MAX, &mine);
    *same = n->size == m->size && (!w->untold || m->size == 0);
    uint64_t covered = 0;
    for (size_t i = 0; !err && *same && k && i < k->ranges_n; i++) {
        const struct m_range *r = &k->ranges[i];
        cleanup_extents struct extent_list here = {0}, there = {0};
        cleanup_spans struct spans gaps = {0};
        err = span_gaps(c, n->id, SPAN_KNOWN, r->off, r->off + r->len, &gaps);
        if (!err)
            err = extents_get(c, n->id, r->off, r->off + r->len, &here);
        for (size_t x = 0; x < r->extents_n; x++)
            extent_list_append(&there, &r->extents[x]);
        *same = !gaps.n && extent_list_equal(&here, &there);
        for (size_t x = 0; x < mine.n; x++) {
            uint64_t a = mine.v[x].off > r->off ? mine.v[x].off : r->off;
            uint64_t b = mine.v[x].end < r->off + r->len ? mine.v[x].end : r->off + r->len;
            b = b < n->size ? b : n->size; /* what lies behind the end both cut off */
            covered += a < b ? b - a : 0;
        }
    }
    uint64_t pending = 0;
    for (size_t i = 0; i < mine.n; i++) {
        uint64_t end = mine.v[i].end < n->size ? mine.v[i].end : n->size;
        pending += mine.v[i].off < end ? end - mine.v[i].off : 0;
    }
    *same = *same && covered >= pending; /* nothing pending lies outside of what they changed */
    return err;
}

/* That it changed is known, not what it is now. */
static int forget_content(struct apply *w, struct nrow *n, const struct m_inode *m)
{
    uint64_t len = n->size > m->size ? n->size : m->size;
    if (w->c->hooks.content_changes)
        w->c->hooks.content_changes(w->c->hooks.ctx, n->id, 0, FILE_SIZE_MAX);
    int err = extents_put(w->c, n->id, 0, FILE_SIZE_MAX, NULL);
    if (!err)
        err = span_clear(w->c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX);
    if (!err && m->stored == 0) /* all of it is a hole */
        err = span_mark(w->c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX);
    n->size = m->size;
    n->stored = m->stored;
    n->content_rev = m->content_rev;
    n->src = n->src_at = 0;
    effect_add(w->fx, EFFECT_DATA, w->ns, n->id)->len = len;
    return err;
}

static int take_content(struct apply *w, struct nrow *n, const struct m_inode *m,
                        const struct m_content *k)
{
    uint64_t low = n->size < m->size ? n->size : m->size;
    uint64_t high = n->size < m->size ? m->size : n->size;
    uint64_t from = low < high ? low : UINT64_MAX, to = low < high ? high : 0;
    for (size_t i = 0; k && i < k->ranges_n; i++) {
        from = k->ranges[i].off < from ? k->ranges[i].off : from;
        to = k->ranges[i].off + k->ranges[i].len > to ? k->ranges[i].off + k->ranges[i].len : to;
    }
    if (from < to && w->c->hooks.content_changes)
        w->c->hooks.content_changes(w->c->hooks.ctx, n->id, from, to - from);
    int err = 0; /* what a new size adds or cuts off is among the ranges */
    for (size_t i = 0; !err && k && i < k->ranges_n; i++) {
        const struct m_range *r = &k->ranges[i];
        const struct extent_list l = {.v = r->extents, .n = r->extents_n};
        err = extents_put(w->c, n->id, r->off, r->off + r->len, &l);
        if (!err)
            err = span_mark(w->c, n->id, SPAN_KNOWN, r->off, r->off + r->len);
    }
    n->size = m->size;
    n->stored = m->stored;
    n->content_rev = m->content_rev;
    if (from < to) {
        struct core_effect *e = effect_add(w->fx, EFFECT_DATA, w->ns, n->id);
        e->off = from;
        e->len = to - from;
    }
    return err;
}

int keep_content(struct apply *w, const struct m_inode *m)
{
    const struct m_content *k = content_of(w->r, m->node);
    int err = 0;
    if (w->resync || m->type != NODE_REG || m->content_rev != w->r->sjid)
        return 0;
    for (size_t i = 0; !err && k && i < k->ranges_n; i++) {
        const struct m_range *r = &k->ranges[i];
        const struct extent_list l = {.v = r->extents, .n = r->extents_n};
        err = extents_put(w->c, m->node, r->off, r->off + r->len, &l);
        if (!err)
            err = span_mark(w->c, m->node, SPAN_KNOWN, r->off, r->off + r->len);
    }
    return err;
}

static int drop_pending_content(struct core *c, struct nrow *n)
{
    n->pend &= ~FACET_CONTENT;
    n->sent &= ~FACET_CONTENT;
    int err = span_clear(c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX);
    return err ? err : span_clear(c, n->id, SPAN_SENT, 0, FILE_SIZE_MAX);
}

/* Superseded pending content: what was pending is unknown now. */
static int forget_pending_content(struct core *c, struct nrow *n)
{
    cleanup_spans struct spans mine = {0};
    int err = span_list(c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX, &mine);
    if (!err)
        err = span_list(c, n->id, SPAN_SENT, 0, FILE_SIZE_MAX, &mine);
    if (!err)
        content_announce(c, n->id, &mine);
    for (size_t i = 0; !err && i < mine.n; i++) {
        err = extents_put(c, n->id, mine.v[i].off, mine.v[i].end, NULL);
        if (!err)
            err = span_clear(c, n->id, SPAN_KNOWN, mine.v[i].off, mine.v[i].end);
    }
    return err ? err : drop_pending_content(c, n);
}

/* What a forgotten commit of our own carried is newer than what is pending there. It need not have
 * carried all: a file may have more pending than one commit takes. */
static int supersede_content(struct core *c, struct nrow *n, const struct m_inode *m,
                             const struct m_content *k)
{
    cleanup_spans struct spans left = {0};
    int err = n->size > m->size ? extents_put(c, n->id, m->size, FILE_SIZE_MAX, NULL) : 0;
    for (int kind = SPAN_DIRTY; !err && kind <= SPAN_SENT; kind++) {
        for (size_t i = 0; !err && k && i < k->ranges_n; i++)
            err = span_clear(c, n->id, (enum span_kind)kind, k->ranges[i].off,
                             k->ranges[i].off + k->ranges[i].len);
        if (!err)
            err = span_clear(c, n->id, (enum span_kind)kind, m->size, FILE_SIZE_MAX);
        if (!err)
            err = span_list(c, n->id, (enum span_kind)kind, 0, FILE_SIZE_MAX, &left);
    }
    return err || left.n ? err : drop_pending_content(c, n);
}

/* A commit that may not have had room for all of a new file: of such a file the record tells no
 * ranges, but all that it is, so what is a hole there may not have been sent yet. */
static bool part_of_new(struct apply *w, const struct m_inode *m, const struct m_content *k)
{
    size_t extents = 0;
    for (size_t i = 0; i < w->r->contents_n; i++)
        for (size_t g = 0; g < w->r->contents[i].ranges_n; g++)
            extents += w->r->contents[i].ranges[g].extents_n + 1;
    return k && k->ranges_n == 1 && k->ranges[0].off + k->ranges[0].len > m->size &&
           extents + 1 >= w->c->bounds.extents;
}

/* More is pending of the file than one commit is sure to take: what the server has of it may be a
 * part. A comparison does not tell which. */
static int pends_much(struct core *c, uint64_t node, bool *yes)
{
    cleanup_spans struct spans mine = {0};
    size_t pieces = 0;
    int err = span_list(c, node, SPAN_DIRTY, 0, FILE_SIZE_MAX, &mine);
    if (!err)
        err = span_list(c, node, SPAN_SENT, 0, FILE_SIZE_MAX, &mine);
    for (size_t i = 0; !err && i < mine.n; i++) {
        cleanup_extents struct extent_list l = {0};
        err = extents_get(c, node, mine.v[i].off, mine.v[i].end, &l);
        pieces += l.n + 1;
    }
    *yes = 2 * pieces >= c->bounds.extents;
    return err;
}

/* The times of what was written went with the copy. */
static int fork_times(struct nrow *n, const struct m_inode *m, int err)
{
    if (!(n->pend & FACET_TIMES)) {
        n->mtime = m->mtime;
        n->ctime = m->ctime;
    }
    return err;
}

int apply_content(struct apply *w, struct nrow *n, const struct m_inode *m)
{
    const struct m_content *k = content_of(w->r, n->id);
    bool same = false;
    uint64_t copy;
    int err = 0;
    if (n->nlink == 0 && !m->gone) /* removed here, edited there: the edit wins */
        err = rebase_restore(w->c, n->id, w->fx);
    if (!err)
        err = node_get(w->c, n->id, n);
    if (err)
        return err;
    if ((n->pend | n->sent) & FACET_CONTENT) {
        bool removed = n->nlink == 0; /* here, and with it what was written before */
        bool older = w->supersedes && (n->old & FACET_CONTENT) && !part_of_new(w, m, k);
        bool much = false;
        err = older && w->untold && !removed ? pends_much(w->c, n->id, &much) : 0;
        if (err)
            return err;
        older &= !much;
        if (removed || (older && w->untold)) {
            err = forget_pending_content(w->c, n);
        } else if (older) {
            err = supersede_content(w->c, n, m, k);
        } else {
            err = same_content(w, n, m, k, &same);
            if (!err && same)
                err = drop_pending_content(w->c, n);
            else if (!err)
                err = fork_times(n, m, rebase_fork(w->c, n, w->now, &copy, w->fx));
        }
    }
    if (!err && same) {
        n->content_rev = m->content_rev;
        n->stored = m->stored;
        return node_put(w->c, n);
    }
    if (!err)
        err = w->untold ? forget_content(w, n, m) : take_content(w, n, m, k);
    if (!err && ((n->pend | n->sent) & FACET_CONTENT)) /* the rest of what was superseded */
        err = stored_count(w->c, n);
    return err ? err : node_put(w->c, n);
}
