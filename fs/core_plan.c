// SPDX-License-Identifier: Apache-2.0
/* A closure (core_closure.c) written down as the changes of one commit: they are encoded, stored
 * under a new request number, and their rows are marked with it. What was stored is sent again as
 * it is, until there is an answer.
 */
#include "core_closure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    struct core *c;
    uint64_t request;
    struct arena a;
    struct m_changes m;
    struct m_block_ref *ids;
    size_t ids_n, ids_cap, extents, xattrs_cap;
    int64_t since; /* when the oldest change of it was made; 0: not known */
    bool mark;     /* store what is sent; otherwise only the ids are wanted */
    bool partial;  /* something of what was asked for is left for a further commit */
};

static void want_block(struct writer *w, const struct m_extent *e)
{
    if (w->ids_n == w->ids_cap) {
        w->ids_cap = w->ids_cap ? 2 * w->ids_cap : 64;
        w->ids = realloc(w->ids, w->ids_cap * sizeof *w->ids);
        if (!w->ids)
            abort();
    }
    w->ids[w->ids_n++] = (struct m_block_ref){.block = e->block, .len = e->block_off + e->len};
}

static int ref_order(const void *a, const void *b)
{
    const struct m_block_ref *x = a, *y = b;
    return memcmp(x->block.b, y->block.b, BLOCK_ID_LEN);
}

/* Each block once, with the largest length that is known of it. */
static void unique_blocks(struct writer *w)
{
    size_t n = 0;
    if (w->ids_n)
        qsort(w->ids, w->ids_n, sizeof *w->ids, ref_order);
    for (size_t i = 0; i < w->ids_n; i++) {
        if (n && ref_order(&w->ids[n - 1], &w->ids[i]) == 0) {
            if (w->ids[i].len > w->ids[n - 1].len)
                w->ids[n - 1].len = w->ids[i].len;
        } else {
            w->ids[n++] = w->ids[i];
        }
    }
    w->ids_n = n;
}

/* As much of the span as one commit has room for, up to *end. */
static int write_range(struct writer *w, const struct nrow *n, struct span sp, struct m_range *r,
                       uint64_t *end, struct core_need *need)
{
    cleanup_spans struct spans unknown = {0};
    cleanup_extents struct extent_list l = {0};
    int err = span_gaps(w->c, n->id, SPAN_KNOWN, sp.off, sp.end, &unknown);
    if (!err && unknown.n) {
        *need = (struct core_need){
            .kind = NEED_EXTENTS, .ns = n->ns, .node = n->id, .off = unknown.v[0].off};
        return CORE_NEED;
    }
    if (!err)
        err = extents_get(w->c, n->id, sp.off, sp.end, &l);
    if (err)
        return err;
    size_t max = w->c->bounds.extents, room = max > w->extents ? max - w->extents : 0;
    if (l.n + 1 > room) { /* the rest goes in a further commit */
        l.n = room ? room - 1 : 0;
        sp.end = room > 1 ? l.v[l.n].off : sp.off;
        w->partial = true;
    }
    *end = sp.end;
    if (sp.end <= sp.off)
        return 0;
    *r = (struct m_range){.off = sp.off, .len = sp.end - sp.off, .extents_n = l.n};
    r->extents = arena_copy(&w->a, l.v, l.n * sizeof *l.v);
    w->extents += l.n + 1;
    for (size_t i = 0; i < l.n; i++)
        want_block(w, &l.v[i]);
    return 0;
}

static int mark_span_sent(struct writer *w, uint64_t node, uint64_t off, uint64_t end)
{
    if (!w->mark)
        return 0;
    int err = span_clear(w->c, node, SPAN_DIRTY, off, end);
    return err ? err : span_mark(w->c, node, SPAN_SENT, off, end);
}

/* Pending ranges inside the size. *all: none was left for a further commit. */
static int write_content(struct writer *w, const struct nrow *n, struct m_node_change *m, bool *all,
                         struct core_need *need)
{
    cleanup_spans struct spans dirty = {0};
    int err = span_list(w->c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX, &dirty);
    m->size = n->size;
    m->base_content = n->content_rev;
    m->ranges = arena_alloc(&w->a, (dirty.n + 1) * sizeof *m->ranges);
    *all = true;
    for (size_t i = 0; !err && *all && i < dirty.n; i++) {
        struct span sp = dirty.v[i];
        uint64_t end = sp.end;
        if (sp.off < n->size) {
            struct m_range *r = &m->ranges[m->ranges_n];
            if (sp.end > n->size)
                sp.end = n->size;
            err = write_range(w, n, sp, r, &end, need);
            *all = end == sp.end;
            m->ranges_n += r->len > 0;
            if (*all)
                end = dirty.v[i].end;
        }
        if (!err)
            err = mark_span_sent(w, n->id, dirty.v[i].off, end);
    }
    return err;
}

static struct m_xattr_change *xattr_add(struct writer *w)
{
    if (w->m.xattrs_n == w->xattrs_cap) {
        w->xattrs_cap = w->xattrs_cap ? 2 * w->xattrs_cap : 64;
        struct m_xattr_change *grown = arena_alloc(&w->a, w->xattrs_cap * sizeof *grown);
        if (w->m.xattrs_n)
            memcpy(grown, w->m.xattrs, w->m.xattrs_n * sizeof *grown);
        w->m.xattrs = grown;
    }
    return &w->m.xattrs[w->m.xattrs_n++];
}

/* Removed ones first: they make room. */
static int write_xattrs(struct writer *w, uint64_t node)
{
    sqlite3_stmt *s =
        tree_stmt(w->c->t, "SELECT name, value, rev FROM xattr WHERE node = ?1 AND pend != 0"
                           " AND request = 0 ORDER BY value IS NOT NULL, name");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc;
    while ((rc = tree_step(w->c->t, s)) == 1) {
        *xattr_add(w) = (struct m_xattr_change){
            .node = node,
            .name =
                arena_bytes(&w->a, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0)),
            .value =
                arena_bytes(&w->a, sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1)),
            .removed = sqlite3_column_type(s, 1) == SQLITE_NULL,
            .base_rev = (uint64_t)sqlite3_column_int64(s, 2)};
    }
    if (rc || !w->mark)
        return rc;
    s = tree_stmt(w->c->t,
                  "UPDATE xattr SET request = ?2, pend = 0, old = 0 WHERE node = ?1 AND pend != 0"
                  " AND request = 0");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, (int64_t)w->request);
    return tree_step(w->c->t, s);
}

static int write_target(struct writer *w, uint64_t node, struct m_node_change *m)
{
    sqlite3_stmt *s = tree_stmt(w->c->t, "SELECT target FROM node WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc = tree_step(w->c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    m->target = arena_bytes(&w->a, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
    sqlite3_reset(s);
    return 0;
}

static void was_pending(struct writer *w, int64_t since)
{
    if (since > SINCE_UNKNOWN && (!w->since || since < w->since))
        w->since = since;
}

static int write_node(struct writer *w, uint64_t id, uint32_t wanted, struct core_need *need)
{
    struct nrow n;
    bool all = true;
    int err = node_get(w->c, id, &n);
    if (err)
        return err;
    uint32_t facets = n.pend & FACET_CREATE ? n.pend | FACET_ATTR | FACET_TIMES : n.pend & wanted;
    if (n.gone) /* times sent to a node that is gone come to nothing */
        facets |= FACET_TIMES;
    struct m_node_change m = {.node = id,
                              .type = n.type,
                              .base_attr = n.attr_rev,
                              .mode = n.mode,
                              .uid = n.uid,
                              .gid = n.gid,
                              .rdev = n.rdev,
                              .mtime = n.mtime,
                              .ctime = n.ctime};
    if (n.type == NODE_SYMLINK && (facets & FACET_CREATE))
        err = write_target(w, id, &m);
    size_t xattrs = w->m.xattrs_n;
    if (!err && (facets & FACET_CONTENT))
        err = write_content(w, &n, &m, &all, need);
    if (!err)
        err = write_xattrs(w, id);
    if (err)
        return err;
    if (facets & FACET_CONTENT) /* content carries the times */
        facets |= n.pend & FACET_TIMES;
    m.facets = facets;
    if (facets & (FACET_CREATE | FACET_CONTENT))
        m.facets &= ~FACET_TIMES;
    if (facets & FACET_CREATE) {
        m.base_attr = m.base_content = 0;
        m.facets &= ~FACET_ATTR;
    }
    if (facets)
        w->m.nodes[w->m.nodes_n++] = m;
    if (!w->mark || (!facets && w->m.xattrs_n == xattrs)) /* nothing of it is sent */
        return 0;
    was_pending(w, n.since);
    n.sent = facets;
    n.request = w->request;
    n.pend &= ~facets;
    n.old &= ~facets;
    if (!all)
        n.pend |= FACET_CONTENT;
    if (!n.pend)
        n.since = 0;
    return node_put(w->c, &n);
}

/* A new name in a part of a directory that is not known: first ask what is there. */
static int name_unknown(struct writer *w, const struct erow *e, struct core_need *need)
{
    struct nrow dir;
    bool known = false;
    if (e->base_node || e->base_rev)
        return 0;
    int err = node_get(w->c, e->parent, &dir);
    if (!err)
        err = name_known(w->c, &dir, erow_name(e), &known);
    if (err == -ENOENT)
        err = 0;
    if (err || known)
        return err;
    *need = (struct core_need){
        .kind = NEED_NAME, .ns = e->ns, .node = e->parent, .name_len = e->name_len};
    memcpy(need->name, e->name, e->name_len);
    return CORE_NEED;
}

static int write_entry(struct writer *w, uint64_t id, struct core_need *need)
{
    struct erow e;
    struct nrow base;
    size_t names = 0;
    int err = entry_by_id(w->c, id, &e);
    if (err || !e.pend || e.request)
        return err == -ENOENT ? 0 : err;
    err = name_unknown(w, &e, need);
    if (!err && e.base_node)
        err = node_get(w->c, e.base_node, &base);
    if (!err && e.base_node)
        err = node_names(w->c, e.base_node, 1, &names);
    if (err == -ENOENT) { /* its content's revision is to be told */
        *need = (struct core_need){.kind = NEED_NODE, .ns = e.ns, .node = e.base_node};
        return CORE_NEED;
    }
    if (err)
        return err;
    struct m_entry_change *m = &w->m.entries[w->m.entries_n++];
    *m = (struct m_entry_change){.parent = e.parent,
                                 .name = arena_bytes(&w->a, e.name, e.name_len),
                                 .base_node = e.base_node,
                                 .base_rev = e.base_node ? e.base_rev : 0,
                                 .node = e.node};
    if (e.base_node &&
        !names) /* meant as its last name; if it is, though it lives on here: conflict */
        m->base_content = base.content_rev;
    if (!w->mark)
        return 0;
    e.request = w->request;
    e.sent_node = e.node;
    e.sent_base = e.base_node;
    e.pend = e.old = false;
    was_pending(w, e.since);
    e.since = 0;
    return entry_put(w->c, &e);
}

/* The node of most pieces: if not all have room, it is what is split. */
static size_t largest(const struct closure *cl)
{
    size_t k = 0;
    for (size_t i = 1; i < cl->nodes.ids.n; i++)
        if (cl->wants[i].pieces > cl->wants[k].pieces)
            k = i;
    return k;
}

static int write_all(struct writer *w, struct closure *cl, struct core_need *need)
{
    int err = 0;
    size_t n = cl->nodes.ids.n, last = largest(cl);
    w->m.nodes = arena_alloc(&w->a, (n + 1) * sizeof *w->m.nodes);
    w->m.entries = arena_alloc(&w->a, (cl->entries.ids.n + 1) * sizeof *w->m.entries);
    for (size_t i = 0; !err && i < n; i++)
        if (i != last)
            err = write_node(w, cl->nodes.ids.v[i], cl->wants[i].facets, need);
    if (!err && n)
        err = write_node(w, cl->nodes.ids.v[last], cl->wants[last].facets, need);
    for (size_t i = 0; !err && i < cl->entries.ids.n; i++)
        err = write_entry(w, cl->entries.ids.v[i], need);
    if (!err)
        unique_blocks(w);
    return err;
}

static int store_sent(struct core *c, uint64_t ns, uint64_t request, const struct buf *changes,
                      int64_t since)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "INSERT INTO sent(request, ns, changes, sjid, since, cursor)"
                        " VALUES(?1, ?2, ?3, 0, ?4, (SELECT cursor FROM ns WHERE id = ?2))");
    sqlite3_bind_int64(s, 4, since);
    sqlite3_bind_int64(s, 1, (int64_t)request);
    sqlite3_bind_int64(s, 2, (int64_t)ns);
    sqlite3_bind_blob64(s, 3, changes->p, changes->n, SQLITE_STATIC);
    return tree_step(c->t, s);
}

static int lowest_open(struct core *c, uint64_t ns, uint64_t *lowest)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT min(request) FROM sent WHERE ns = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *lowest = rc == 1 && sqlite3_column_type(s, 0) != SQLITE_NULL
                  ? (uint64_t)sqlite3_column_int64(s, 0)
                  : c->request_next;
    sqlite3_reset(s);
    return 0;
}

void core_plan_free(struct core_plan *p)
{
    buf_free(&p->changes);
    free(p->ids);
    *p = (struct core_plan){0};
}

static bool makes_again(const struct core *c, const struct m_changes *m)
{
    for (size_t i = 0; i < m->nodes_n; i++)
        if ((m->nodes[i].facets & FACET_CREATE) && NODE_DEVICE(m->nodes[i].node) != c->device)
            return true;
    return false;
}

static int make_plan(struct core *c, struct closure *cl, uint64_t ns, struct core_plan *plan,
                     struct core_need *need)
{
    struct core_ns info;
    struct writer w = {.c = c, .request = c->request_next, .mark = true};
    int err = ns_get(c, ns, &info);
    if (!err)
        err = write_all(&w, cl, need);
    plan->rows = w.m.nodes_n + w.m.entries_n + w.m.xattrs_n;
    if (!err && plan->rows) {
        msg_encode(&m_changes_desc, &w.m, &plan->changes);
        plan->ns = ns;
        plan->request = w.request;
        plan->cursor = info.cursor;
        plan->mark = info.mark;
        plan->again = makes_again(c, &w.m);
        plan->ids = w.ids;
        plan->ids_n = w.ids_n;
        plan->partial = w.partial || cl->partial;
        w.ids = NULL;
        err = store_sent(c, ns, w.request, &plan->changes, w.since);
        c->request_next++;
        if (!err)
            err = ns_set_planned(c, ns, w.request);
        if (!err)
            err = lowest_open(c, ns, &plan->lowest_open);
    }
    arena_free(&w.a);
    free(w.ids);
    return err;
}

static int held_back(struct core *c, uint64_t ns)
{
    struct core_ns n;
    uint64_t hold = 0;
    int err = ns_get(c, ns, &n);
    if (!err)
        err = ns_hold(c, ns, &hold);
    if (err)
        return err;
    return n.other || n.cursor < hold ? -EAGAIN : 0;
}

int core_plan(struct core *c, uint64_t ns, const uint64_t *nodes, size_t n, int64_t quiet,
              struct core_plan *plan, struct core_need *need)
{
    struct closure w = {.c = c, .background = n == 0, .quiet = quiet};
    *plan = (struct core_plan){0};
    int err = core_begin(c);
    if (err)
        return err;
    err = held_back(c, ns);
    for (size_t i = 0; !err && i < n; i++)
        err = closure_of(&w, nodes[i]);
    if (!err && n == 0)
        err = closure_gather(&w, ns);
    if (!err)
        err = make_plan(c, &w, ns, plan, need);
    closure_free(&w);
    if (err) {
        core_end(c, false);
        core_plan_free(plan);
        return err;
    }
    err = core_leave(c, 0);
    if (err) /* nothing of it is kept */
        core_plan_free(plan);
    return err;
}

int core_closure_blocks(struct core *c, uint64_t node, struct m_block_ref **out, size_t *n)
{
    struct closure cl = {.c = c};
    struct writer w = {.c = c};
    struct core_need need;
    *out = NULL;
    *n = 0;
    int err = closure_of(&cl, node);
    if (!err)
        err = write_all(&w, &cl, &need);
    closure_free(&cl);
    arena_free(&w.a);
    if (err) { /* not to be planned yet: whoever commits it will see */
        free(w.ids);
        return err == CORE_NEED ? 0 : err;
    }
    *out = w.ids;
    *n = w.ids_n;
    return 0;
}

/* The k-th commit under way, as it is stored: 0, -ENOENT. */
static int sent_at(struct core *c, uint64_t ns, size_t k, struct core_plan *plan)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT request, changes FROM sent WHERE ns = ?1 AND sjid = 0"
                                      " ORDER BY request LIMIT 1 OFFSET ?2");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)k);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    plan->request = (uint64_t)sqlite3_column_int64(s, 0);
    buf_append(&plan->changes, sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1));
    sqlite3_reset(s);
    return 0;
}

/* What was sent is damaged: it can never be sent again, and is planned anew. */
static int resend_anew(struct core *c, uint64_t request)
{
    struct core_effects fx = {0}; /* at the start: nothing is known of it outside */
    int err = core_begin(c);
    if (err)
        return err;
    err = core_leave(c, rebase_forget(c, request, &fx));
    core_effects_free(&fx);
    return err;
}

int core_resend(struct core *c, uint64_t ns, size_t k, struct core_plan *plan)
{
    struct core_ns info;
    struct m_changes m;
    struct writer w = {.c = c};
    *plan = (struct core_plan){.ns = ns};
    int err = ns_get(c, ns, &info);
    if (!err)
        err = held_back(c, ns);
    if (!err)
        err = sent_at(c, ns, k, plan);
    if (err)
        return err;
    plan->cursor = info.cursor;
    plan->mark = info.mark;
    if (msg_decode(&m_changes_desc, &m, plan->changes.p, plan->changes.n, MSG_STRICT, &w.a, NULL)) {
        arena_free(&w.a);
        err = resend_anew(c, plan->request);
        core_plan_free(plan);
        return err ? err : core_resend(c, ns, k, plan);
    }
    for (size_t i = 0; i < m.nodes_n; i++)
        for (size_t r = 0; r < m.nodes[i].ranges_n; r++)
            for (size_t x = 0; x < m.nodes[i].ranges[r].extents_n; x++)
                want_block(&w, &m.nodes[i].ranges[r].extents[x]);
    plan->rows = m.nodes_n + m.entries_n + m.xattrs_n;
    plan->again = makes_again(c, &m);
    arena_free(&w.a);
    unique_blocks(&w);
    plan->ids = w.ids;
    plan->ids_n = w.ids_n;
    err = lowest_open(c, ns, &plan->lowest_open);
    if (err)
        core_plan_free(plan);
    return err;
}
