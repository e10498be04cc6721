// SPDX-License-Identifier: Apache-2.0
/* A restored metadata server, where the point at which its journal and ours part cannot be read any
 * more (history is kept for less than the time since), or is not known exactly (marks are thinned
 * out).
 *
 * Then what is known here is compared with the server's newest state. Rows whose revision here is
 * of the stretch that both journals surely have in common are as in any comparison: what the server
 * has is newer. Revisions behind it say nothing, also where both have the same number; there it
 * depends on what the server's row is:
 *
 *   - of the common stretch: what is here is newer, and is pending upon it (core_lost.c);
 *   - newer as well: the same content is no conflict; of two contents the server's stays at the
 * name and the one here is pending, so that it becomes a conflicted copy; names, attributes and
 *     xattrs are the server's;
 *   - not there: made again if it may have been made in the stretch that is lost; otherwise the
 *     server has removed it, and only content that was changed behind the common stretch goes on,
 * as a copy.
 *
 * The rows are brought to where the usual rules do the rest (core_apply.c, as of a comparison).
 */
#include "core_lost.h"
#include "idset.h"

#include <errno.h>

struct parted {
    struct lost w;
    uint64_t common;
    const struct idset *equal;
    struct idset again, gone; /* nodes that the server lacks: made again, or not */
    struct m_record rest;     /* what of the record is left to the usual rules; owns its lists */
};

/* ---- names ----------------------------------------------------------------------------------- */
/* What had the name here, if it got it behind the common stretch, is what the server has there, or
 * is made again: then the name is pending. */
static int name_meets(struct parted *p, const struct m_entry *m, bool *rest)
{
    struct core *c = p->w.c;
    struct erow e;
    int err = entry_get(c, m->parent, m->name, &e);
    *rest = true;
    if (err)
        return err == -ENOENT ? 0 : err;
    if (!e.base_node || e.base_rev <= p->common)
        return 0;
    if (e.base_node == m->node) {
        e.base_rev = m->rev;
        *rest = false;
        return entry_put(c, &e);
    }
    if (!idset_has(&p->again, e.base_node))
        return 0;
    e.base_node = 0;
    e.base_type = NODE_NONE;
    e.base_rev = p->w.r->sjid;
    if (!e.since)
        e.since = p->w.now;
    *rest = m->node != 0;
    return entry_settle(c, &e);
}

/* ---- nodes ----------------------------------------------------------------------------------- */
/* Whether a node that the server lacks got a name behind the common stretch. */
static int may_be_new(struct parted *p, uint64_t node, bool *yes)
{
    struct nrow n;
    int err = node_get(p->w.c, node, &n);
    *yes = !err && n.attr_rev > p->common;
    if (err || !*yes)
        return err == -ENOENT ? 0 : err;
    sqlite3_stmt *s = tree_stmt(
        p->w.c->t, "SELECT 1 FROM entry WHERE base_node = ?1 AND base_node != 0 AND base_rev > ?2");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, (int64_t)p->common);
    int rc = tree_step(p->w.c->t, s);
    *yes = rc == 1;
    if (rc == 1)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

/* What is known of the content here is to be sent, and meets the server's. */
static int content_pends(struct parted *p, struct nrow *n)
{
    cleanup_spans struct spans known = {0};
    bool whole, some;
    int err = lost_knowledge(p->w.c, n, &whole, &some);
    if (err || !some)
        return err;
    err = span_list(p->w.c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX, &known);
    for (size_t i = 0; !err && i < known.n; i++)
        err = span_mark(p->w.c, n->id, SPAN_DIRTY, known.v[i].off, known.v[i].end);
    if (!(n->pend & FACET_CONTENT))
        p->w.sum->copies++;
    n->pend |= FACET_CONTENT;
    n->src = n->src_at = 0;
    return err;
}

static int content_meets(struct parted *p, struct nrow *n, const struct m_inode *m)
{
    int err = 0;
    if (idset_has(p->equal, n->id)) {
        n->content_rev = m->content_rev;
        n->stored = n->pend & FACET_CONTENT ? n->stored : m->stored;
    } else if (m->content_rev <= p->common) {
        err = lost_content(&p->w, n, m);
        n->content_rev = m->content_rev;
        p->w.sum->pending += n->pend & FACET_CONTENT ? 1 : 0;
    } else {
        err = content_pends(p, n);
        n->content_rev = 0; /* not theirs, whatever number it has */
    }
    return err;
}

static int node_meets(struct parted *p, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(p->w.c, m->node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    if (n.attr_rev > p->common && m->attr_rev > p->common) {
        n.attr_rev = 0;
    } else if (n.attr_rev > p->common) {
        n.attr_rev = m->attr_rev;
        if (n.mode != m->mode || n.uid != m->uid || n.gid != m->gid)
            n.pend |= FACET_ATTR;
    }
    if (n.type == NODE_REG && n.content_rev > p->common)
        err = content_meets(p, &n, m);
    if (n.pend && !n.since)
        n.since = p->w.now;
    return err ? err : node_put(p->w.c, &n);
}

/* A node that the server lacks and that is not made again. */
static int node_gone(struct parted *p, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(p->w.c, m->node, &n);
    if (!err && n.type == NODE_REG && n.content_rev > p->common) {
        err = content_pends(p, &n);
        n.content_rev = 0; /* of no journal: who revives it is newer */
    }
    if (!err && n.attr_rev > p->common)
        n.attr_rev = 0;
    if (!err)
        err = node_put(p->w.c, &n);
    return err == -ENOENT ? 0 : err;
}

static int nodes_meet(struct parted *p)
{
    const struct m_record *r = p->w.r;
    int err = 0;
    for (size_t i = 0; !err && i < r->inodes_n; i++) {
        const struct m_inode *m = &r->inodes[i];
        bool again = idset_has(&p->again, m->node);
        if (again)
            err = lost_inode(&p->w, m);
        else
            err = m->gone ? node_gone(p, m) : node_meets(p, m);
        if (!again)
            p->rest.inodes[p->rest.inodes_n++] = *m;
    }
    return err;
}

/* ---- xattrs ---------------------------------------------------------------------------------- */
static int xattr_meets(struct parted *p, const struct m_xattr *x, bool *rest)
{
    sqlite3_stmt *s =
        tree_stmt(p->w.c->t, "SELECT rev FROM xattr WHERE node = ?1 AND name = ?2 AND rev > ?3");
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, (int64_t)p->common);
    int rc = tree_step(p->w.c->t, s);
    if (rc < 0)
        return rc;
    sqlite3_reset(s);
    *rest = rc == 0 || (!x->removed && x->rev > p->common);
    return *rest ? 0 : lost_xattr(&p->w, x);
}

/* ---- all of it ------------------------------------------------------------------------------- */
static int sort_out_gone(struct parted *p)
{
    const struct m_record *r = p->w.r;
    int err = 0;
    for (size_t i = 0; !err && i < r->inodes_n; i++) {
        bool yes, added;
        if (!r->inodes[i].gone)
            continue;
        err = may_be_new(p, r->inodes[i].node, &yes);
        idset_add(yes ? &p->again : &p->gone, r->inodes[i].node, &added);
    }
    return err;
}

static int meet(struct parted *p)
{
    const struct m_record *r = p->w.r;
    int err = sort_out_gone(p);
    for (size_t i = 0; !err && i < r->entries_n; i++) {
        bool rest;
        err = name_meets(p, &r->entries[i], &rest);
        if (rest)
            p->rest.entries[p->rest.entries_n++] = r->entries[i];
    }
    if (!err)
        err = nodes_meet(p);
    for (size_t i = 0; !err && i < r->xattrs_n; i++) {
        bool rest = false;
        err = xattr_meets(p, &r->xattrs[i], &rest);
        if (rest)
            p->rest.xattrs[p->rest.xattrs_n++] = r->xattrs[i];
    }
    if (!err)
        err = rescue_nodes(p->w.c, p->w.ns, &p->gone, p->w.now, p->w.fx);
    if (!err)
        err = apply_record(p->w.c, p->w.ns, &p->rest, p->w.now, true, p->w.fx);
    for (size_t i = 0; !err && i < r->inodes_n; i++) /* now that the names are settled */
        if (idset_has(&p->again, r->inodes[i].node))
            err = lost_links(&p->w, &r->inodes[i]);
    for (size_t i = 0; !err && i < r->inodes_n; i++)
        err = lost_nameless(&p->w, r->inodes[i].node);
    return err;
}

int core_parted_at(struct core *c, uint64_t ns, uint64_t common, uint64_t head, uint64_t floor,
                   uint64_t *at)
{
    struct core_ns info;
    uint64_t next;
    int err = ns_get(c, ns, &info);
    if (!err)
        err = ns_mark(c, ns, common + 1, &next);
    bool exact = info.cursor == common || head == common || next;
    *at = exact && common >= floor ? common : head;
    return err;
}

int parted_take(struct core *c, uint64_t ns, const struct m_record *r, uint64_t common,
                const struct idset *equal, int64_t now, struct core_lost *sum,
                struct core_effects *fx)
{
    struct parted p = {
        .w = {.c = c, .ns = ns, .r = r, .now = now, .sum = sum, .fx = fx},
        .common = common,
        .equal = equal,
        .rest = {.sjid = r->sjid},
    };
    *sum = (struct core_lost){0};
    p.rest.inodes = calloc(r->inodes_n + 1, sizeof *p.rest.inodes);
    p.rest.entries = calloc(r->entries_n + 1, sizeof *p.rest.entries);
    p.rest.xattrs = calloc(r->xattrs_n + 1, sizeof *p.rest.xattrs);
    int err = p.rest.inodes && p.rest.entries && p.rest.xattrs ? meet(&p) : -ENOMEM;
    free(p.rest.inodes);
    free(p.rest.entries);
    free(p.rest.xattrs);
    idset_free(&p.again);
    idset_free(&p.gone);
    return err;
}
