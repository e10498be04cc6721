// SPDX-License-Identifier: Apache-2.0
/* What the server says: answers to commits, and the journal.
 *
 * Records are applied strictly in order, one transaction each, together with the cursor. A commit
 * of our own is settled in that order too: from its answer when it is the very next number (the
 * usual case), otherwise when the journal gets there; until then its rows stay marked as sent. So
 * the tree is never anything but the namespace as of the cursor plus what is pending.
 *
 * A record by this device under a number the tree does not know was sent before power loss took the
 * newest transactions: it is newer than what was pending at the start (`old`), and wins. What was
 * changed since then meets it like anybody else's.
 */
#include "core_int.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct apply {
    struct core *c;
    uint64_t ns;
    const struct m_record *r;
    int64_t now;
    struct core_effects *fx;
    bool supersedes;    /* our own, forgotten by the tree */
    struct ids loaded;  /* nodes that came with a name */
    struct ids lost;    /* nodes that lost a name: purged at the end unless they got another */
    struct ids lost_at; /* … which: index in the record's entries */
};

/* ---- settling
 * ------------------------------------------------------------------------------------------------
 */
static int settle_node(struct core *c, const struct m_node_change *m, uint64_t request,
                       uint64_t sjid)
{
    struct nrow n;
    int err = node_get(c, m->node, &n);
    if (err || n.request != request)
        return err == -ENOENT ? 0 : err;
    if (n.sent & (FACET_CREATE | FACET_CONTENT))
        n.content_rev = sjid;
    if (n.sent & (FACET_CREATE | FACET_ATTR))
        n.attr_rev = sjid;
    if (n.sent & FACET_CONTENT)
        err = span_clear(c, n.id, SPAN_SENT, 0, FILE_SIZE_MAX);
    if (!(n.pend & (FACET_TIMES | FACET_CONTENT))) { /* a fork may have taken newer ones along */
        if (m->facets & (FACET_CREATE | FACET_CONTENT | FACET_TIMES))
            n.mtime = m->mtime;
        n.ctime = n.ctime > m->ctime ? n.ctime : m->ctime;
    }
    n.sent = 0;
    n.request = 0;
    n.tries = 0;
    return err ? err : node_put(c, &n);
}

/* A node whose names went while it was under way. */
static int settle_purge(struct core *c, uint64_t node)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    return n.nlink == 0 ? node_purge(c, node) : 0;
}

/* What is not known of a node that is gone at the server is what it was before. */
static void gone_at(struct nrow *n, bool gone, uint64_t sjid)
{
    if (gone && !n->gone && !n->src) {
        n->src = n->id;
        n->src_at = sjid - 1;
    } else if (!gone && n->src == n->id) {
        n->src = n->src_at = 0;
    }
    n->gone = gone;
}

/* A node that was gone has a name again: its xattrs begin a new life with it. */
static int settle_revived(struct core *c, struct nrow *n, uint64_t sjid)
{
    sqlite3_stmt *s = tree_stmt(c->t, "UPDATE xattr SET rev = ?2 WHERE node = ?1 AND rev != 0");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    sqlite3_bind_int64(s, 2, (int64_t)sjid);
    gone_at(n, false, sjid);
    int err = tree_step(c->t, s);
    return err ? err : node_put(c, n);
}

static int settle_entry(struct core *c, const struct m_entry_change *m, uint64_t request,
                        uint64_t sjid)
{
    struct erow e;
    int err = entry_get(c, m->parent, m->name, &e);
    if (err)
        return err == -ENOENT ? 0 : err;
    uint64_t gone = e.base_node != m->node ? e.base_node : 0;
    struct nrow n;
    e.base_node = m->node;
    e.base_type = NODE_NONE;
    if (e.base_node && e.base_node == e.node)
        e.base_type = e.type;
    else if (e.base_node && node_get(c, e.base_node, &n) == 0)
        e.base_type = n.type;
    e.base_rev = sjid;
    if (m->node && node_get(c, m->node, &n) == 0 && n.gone) {
        err = settle_revived(c, &n, sjid);
        if (err)
            return err;
    }
    if (e.request == request) /* otherwise given up here meanwhile, and done all the same */
        e.request = 0;
    err = entry_settle(c, &e);
    return err || !gone ? err : node_purge(c, gone);
}

static int settle_xattr(struct core *c, const struct m_xattr_change *m, uint64_t request,
                        uint64_t sjid)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "DELETE FROM xattr WHERE node = ?1 AND name = ?2 AND request = ?3"
                        " AND pend = 0 AND value IS NULL");
    for (int k = 0; k < 2; k++) {
        sqlite3_bind_int64(s, 1, (int64_t)m->node);
        sqlite3_bind_blob64(s, 2, m->name.p, m->name.n, SQLITE_STATIC);
        sqlite3_bind_int64(s, 3, (int64_t)request);
        if (k == 1)
            sqlite3_bind_int64(s, 4, m->removed ? 0 : (int64_t)sjid);
        int err = tree_step(c->t, s);
        if (err || k == 1)
            return err;
        s = tree_stmt(c->t, "UPDATE xattr SET request = 0, rev = ?4 WHERE node = ?1 AND name = ?2"
                            " AND request = ?3");
    }
    return 0;
}

int sent_changes(struct core *c, uint64_t request, struct m_changes *m, struct arena *a)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT changes FROM sent WHERE request = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    struct bytes b = arena_bytes(a, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
    sqlite3_reset(s);
    return msg_decode(&m_changes_desc, m, b.p, b.n, MSG_STRICT, a, NULL) ? -EUCLEAN : 0;
}

/* What request carried is the server's state at sjid now. 0, -ENOENT: the tree does not know it. */
static int settle(struct core *c, uint64_t request, uint64_t sjid)
{
    static const char *const sql[] = {
        /* nodes that only had xattrs in it */
        "UPDATE node SET sent = 0, request = 0 WHERE request = ?1 AND request != 0",
        "DELETE FROM sent WHERE request = ?1",
    };
    cleanup_arena struct arena a = {0};
    struct m_changes m;
    int err = sent_changes(c, request, &m, &a);
    for (size_t i = 0; !err && i < m.nodes_n; i++)
        err = settle_node(c, &m.nodes[i], request, sjid);
    for (size_t i = 0; !err && i < m.xattrs_n; i++)
        err = settle_xattr(c, &m.xattrs[i], request, sjid);
    for (size_t i = 0; !err && i < m.entries_n; i++)
        err = settle_entry(c, &m.entries[i], request, sjid);
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)request);
        err = tree_step(c->t, s);
    }
    for (size_t i = 0; !err && i < m.nodes_n; i++)
        err = settle_purge(c, m.nodes[i].node);
    return err;
}

static void done(struct core_effects *fx, uint64_t ns, uint64_t request, enum commit_status status,
                 uint64_t sjid)
{
    struct core_effect *e = effect_add(fx, EFFECT_DONE, ns, 0);
    e->other = request;
    e->status = status;
    e->sjid = sjid;
}

/* ---- answers
 * ---------------------------------------------------------------------------------------------------
 */
static int errno_of_refusal(uint64_t reason)
{
    switch (reason) {
    case REFUSED_QUOTA:
        return -EDQUOT;
    case REFUSED_ROLE:
        return -EROFS;
    case REFUSED_MEMBER:
    case REFUSED_ASSIGNMENT:
        return -EACCES;
    case REFUSED_TOO_LARGE:
        return -E2BIG;
    default:
        return -EIO;
    }
}

static int park(struct core *c, uint64_t ns, uint64_t node, int err_no, struct core_effects *fx)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    n.parked = err_no;
    struct core_effect *e = effect_add(fx, EFFECT_PARKED, ns, node);
    e->err = err_no;
    return node_put(c, &n);
}

/* The nodes that a refused or repeatedly conflicting row stands for. */
static int park_row(struct core *c, uint64_t ns, const struct m_row_ref *row, int err_no,
                    struct core_effects *fx)
{
    struct erow e;
    if (row->kind != ROW_ENTRY)
        return park(c, ns, row->node, err_no, fx);
    int err = entry_get(c, row->node, row->name, &e);
    if (err)
        return err == -ENOENT ? 0 : err;
    return park(c, ns, e.node ? e.node : e.base_node, err_no, fx);
}

/* All nodes that request carries. */
static int park_request(struct core *c, uint64_t ns, uint64_t request, int err_no,
                        struct core_effects *fx)
{
    cleanup_ids struct ids nodes = {0}, entries = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id FROM node WHERE request = ?1 AND request != 0");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(&nodes, (uint64_t)sqlite3_column_int64(s, 0));
    if (!rc)
        rc = entry_ids(c, BY_REQUEST, request, &entries);
    for (size_t i = 0; !rc && i < entries.n; i++) {
        struct erow e;
        rc = entry_by_id(c, entries.v[i], &e);
        if (!rc)
            ids_add(&nodes, e.node ? e.node : e.base_node);
    }
    for (size_t i = 0; !rc && i < nodes.n; i++)
        rc = park(c, ns, nodes.v[i], err_no, fx);
    return rc;
}

/* A row that conflicts again and again although the journal is applied is parked, never dropped. */
static int count_tries(struct core *c, uint64_t ns, const struct m_row_ref *row,
                       struct core_effects *fx)
{
    struct erow e;
    struct nrow n;
    uint64_t node = row->node;
    int err = 0;
    if (row->kind == ROW_ENTRY) {
        err = entry_get(c, row->node, row->name, &e);
        if (!err)
            node = e.node ? e.node : e.base_node;
    }
    if (!err)
        err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    if (++n.tries < CONFLICT_TRIES_MAX)
        return node_put(c, &n);
    err = node_put(c, &n);
    return err ? err : park_row(c, ns, row, -EIO, fx);
}

/* A move that closes a cycle at the server, and all that it has is applied: the cycle passes
 * through directories that are not loaded here. */
static int undo_cycle(struct core *c, uint64_t ns, const struct m_row_ref *row, uint64_t head,
                      struct core_effects *fx)
{
    struct core_ns info;
    struct erow e;
    int err = ns_get(c, ns, &info);
    if (err || info.cursor < head)
        return err;
    err = entry_get(c, row->node, row->name, &e);
    if (err || !e.pend || !is_dir(e.type))
        return err == -ENOENT ? 0 : err;
    return rebase_undo_move(c, e.node, fx);
}

static int answer_committed(struct core *c, uint64_t ns, uint64_t request,
                            const struct m_commit_ans *a, struct core_effects *fx)
{
    struct core_ns info;
    int err = ns_get(c, ns, &info);
    if (err)
        return err;
    if (info.cursor + 1 == a->sjid) {
        err = settle(c, request, a->sjid);
        if (!err)
            err = ns_set_cursor(c, ns, a->sjid);
    } else if (info.cursor < a->sjid) {
        sqlite3_stmt *s = tree_stmt(c->t, "UPDATE sent SET sjid = ?2 WHERE request = ?1");
        sqlite3_bind_int64(s, 1, (int64_t)request);
        sqlite3_bind_int64(s, 2, (int64_t)a->sjid);
        err = tree_step(c->t, s);
        if (!err)
            err = ns_set_head(c, ns, a->sjid);
    }
    if (err == -ENOENT) /* the journal came first */
        err = 0;
    done(fx, ns, request, COMMIT_COMMITTED, a->sjid);
    return err;
}

static bool known_request(struct core *c, uint64_t request)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT 1 FROM sent WHERE request = ?1 AND sjid = 0");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    bool yes = tree_step(c->t, s) == 1;
    if (s)
        sqlite3_reset(s);
    return yes;
}

int core_commit_answer(struct core *c, uint64_t ns, uint64_t request, const struct m_commit_ans *a,
                       struct core_effects *fx)
{
    if (a->status == COMMIT_MISSING)
        return 0;
    int err = core_begin(c);
    if (err)
        return err;
    if (!known_request(c, request)) /* a second answer to the same number */
        return core_leave(c, 0);
    if (a->head)
        err = ns_set_head(c, ns, a->head);
    if (!err && a->status == COMMIT_COMMITTED) {
        err = answer_committed(c, ns, request, a, fx);
        return core_leave(c, err);
    }
    /* a number that was acknowledged already, before power loss made the tree forget it: had it
     * been committed, the journal would have said so by now */
    bool stale = a->rows_n && a->rows[0].reason == REFUSED_REQUEST;
    if (!err && a->status == COMMIT_REFUSED && !stale) {
        int why = a->rows_n ? errno_of_refusal(a->rows[0].reason) : -EIO;
        if (a->rows_n == 0 || why == -EROFS || why == -EACCES || why == -E2BIG)
            err = park_request(c, ns, request, why, fx);
        for (size_t i = 0; !err && i < a->rows_n; i++)
            err = park_row(c, ns, &a->rows[i], errno_of_refusal(a->rows[i].reason), fx);
    }
    if (!err && a->status == COMMIT_CONFLICT)
        for (size_t i = 0; !err && i < a->rows_n; i++)
            err = count_tries(c, ns, &a->rows[i], fx);
    if (!err)
        err = rebase_unsend(c, request, fx);
    for (size_t i = 0; !err && a->status == COMMIT_CONFLICT && i < a->rows_n; i++)
        if (a->rows[i].reason == REFUSED_CYCLE && a->rows[i].kind == ROW_ENTRY)
            err = undo_cycle(c, ns, &a->rows[i], a->head, fx);
    if (!err && a->status == COMMIT_CONFLICT && a->head)
        err = ns_set_hold(c, ns, a->head);
    if (!err)
        done(fx, ns, request, (enum commit_status)a->status, 0);
    return core_leave(c, err);
}

/* ---- the journal: content
 * ------------------------------------------------------------------------------------------ */
static const struct m_content *content_of(const struct m_record *r, uint64_t node)
{
    for (size_t i = 0; i < r->contents_n; i++)
        if (r->contents[i].node == node)
            return &r->contents[i];
    return NULL;
}

/* Whether the pending content is the very same change. */
static int same_content(struct core *c, const struct nrow *n, const struct m_inode *m,
                        const struct m_content *k, bool *same)
{
    cleanup_spans struct spans mine = {0};
    int err = span_list(c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX, &mine);
    if (!err)
        err = span_list(c, n->id, SPAN_SENT, 0, FILE_SIZE_MAX, &mine);
    *same = n->size == m->size;
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

/* The times of what was written went with the copy. */
static int fork_times(struct nrow *n, const struct m_inode *m, int err)
{
    if (!(n->pend & FACET_TIMES)) {
        n->mtime = m->mtime;
        n->ctime = m->ctime;
    }
    return err;
}

static int apply_content(struct apply *w, struct nrow *n, const struct m_inode *m)
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
        if (removed || (w->supersedes && (n->old & FACET_CONTENT))) {
            err = forget_pending_content(w->c, n);
        } else {
            err = same_content(w->c, n, m, k, &same);
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
        err = take_content(w, n, m, k);
    return err ? err : node_put(w->c, n);
}

/* ---- the journal: nodes
 * --------------------------------------------------------------------------------------------------
 */
static int take_attributes(struct apply *w, struct nrow *n, const struct m_inode *m)
{
    int delta = 0;
    uint32_t mine = (n->pend | n->sent) & ~(w->supersedes ? n->old : 0);
    if (m->attr_rev > n->attr_rev) {
        n->attr_rev = m->attr_rev;
        if (n->sent & FACET_ATTR) { /* will be refused; ours is set again on top of theirs */
            n->sent &= ~FACET_ATTR;
            n->pend |= FACET_ATTR;
        }
        if (!(mine & FACET_ATTR)) {
            n->mode = (uint32_t)m->mode;
            n->uid = (uint32_t)m->uid;
            n->gid = (uint32_t)m->gid;
            n->pend &= ~FACET_ATTR;
        }
    }
    if (!(mine & (FACET_TIMES | FACET_CONTENT)))
        n->mtime = m->mtime;
    n->ctime = mine && n->ctime > m->ctime ? n->ctime : m->ctime;
    int err = nlink_pending(w->c, n, &delta);
    int64_t nlink = (int64_t)(m->gone && is_dir(n->type) ? 2 : m->nlink) + delta;
    if (is_dir(n->type)) {
        size_t names = 0;
        if (!err)
            err = node_names(w->c, n->id, &names);
        struct core_ns ns;
        if (!err)
            err = ns_get(w->c, w->ns, &ns);
        if (names || (!err && ns.root == n->id))
            nlink = nlink < 2 ? 2 : nlink;
        else if (n->nlink == 0 || m->gone) /* otherwise its name only waits for an answer */
            nlink = 0;
    }
    n->nlink = nlink < 0 ? 0 : (uint32_t)nlink;
    effect_add(w->fx, EFFECT_ATTR, w->ns, n->id);
    return err;
}

static int apply_inode(struct apply *w, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(w->c, m->node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    if (w->supersedes && ((n.pend | n.sent) & FACET_CREATE)) { /* it was committed after all */
        n.pend &= ~FACET_CREATE;
        n.sent &= ~FACET_CREATE;
        err = node_put(w->c, &n);
        if (err)
            return err;
    }
    if (m->type == NODE_REG && m->content_rev == w->r->sjid && n.content_rev < w->r->sjid) {
        err = apply_content(w, &n, m);
        if (!err)
            err = node_get(w->c, m->node, &n);
    } else {
        n.content_rev = m->content_rev;
    }
    if (!err)
        err = take_attributes(w, &n, m);
    gone_at(&n, m->gone, w->r->sjid);
    if (!err)
        err = node_put(w->c, &n);
    if (!err && m->gone && n.nlink == 0) {
        effect_add(w->fx, EFFECT_GONE, w->ns, n.id);
        err = node_purge(w->c, n.id);
    }
    return err;
}

/* A statement about xattr ?1, ?2. */
static int xattr_do(struct apply *w, const char *sql, const struct m_xattr *x)
{
    sqlite3_stmt *s = tree_stmt(w->c->t, sql);
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    return tree_step(w->c->t, s);
}

static bool xattr_sent(struct core *c, const struct m_xattr *x)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT 1 FROM xattr WHERE node = ?1 AND name = ?2 AND request != 0");
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    bool yes = tree_step(c->t, s) == 1;
    if (s)
        sqlite3_reset(s);
    return yes;
}

static int xattr_rebase(struct core *c, const struct m_xattr *x)
{
    sqlite3_stmt *s = tree_stmt(c->t, "UPDATE xattr SET rev = ?3 WHERE node = ?1 AND name = ?2");
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, x->removed ? 0 : (int64_t)x->rev);
    return tree_step(c->t, s);
}

static int apply_xattr(struct apply *w, const struct m_xattr *x)
{
    struct nrow n;
    int err = node_get(w->c, x->node, &n);
    if (err || !n.xattrs_known)
        return err == -ENOENT ? 0 : err;
    effect_add(w->fx, EFFECT_XATTR, w->ns, x->node);
    if (w->supersedes)
        err = xattr_do(w,
                       "UPDATE xattr SET pend = 0, request = 0, old = 0 WHERE node = ?1"
                       " AND name = ?2 AND old != 0",
                       x);
    if (!err && xattr_sent(w->c, x)) /* its answer decides, as for a name */
        return xattr_rebase(w->c, x);
    if (err)
        return err;
    if (x->removed) { /* a pending value is set anew */
        err = xattr_do(w,
                       "DELETE FROM xattr WHERE node = ?1 AND name = ?2"
                       " AND (value IS NULL OR (pend = 0 AND request = 0))",
                       x);
        return err ? err
                   : xattr_do(w,
                              "UPDATE xattr SET rev = 0, pend = 1, request = 0"
                              " WHERE node = ?1 AND name = ?2",
                              x);
    }
    /* a pending value is set again on top of theirs; only the revision moves */
    sqlite3_stmt *s =
        tree_stmt(w->c->t, "INSERT INTO xattr(node, name, value, rev, pend, request)"
                           " VALUES(?1, ?2, ?3, ?4, 0, 0)"
                           " ON CONFLICT(node, name) DO UPDATE SET rev = ?4,"
                           " value = CASE WHEN pend != 0 OR request != 0 THEN value ELSE ?3 END,"
                           " pend = (pend != 0 OR request != 0), request = 0");
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    if (x->value.n)
        sqlite3_bind_blob64(s, 3, x->value.p, x->value.n, SQLITE_STATIC);
    else
        sqlite3_bind_zeroblob(s, 3, 0);
    sqlite3_bind_int64(s, 4, (int64_t)x->rev);
    return tree_step(w->c->t, s);
}

/* ---- the journal: names
 * ------------------------------------------------------------------------------------------------------
 */
static int apply_to_clean(struct apply *w, struct erow *e, const struct m_entry *m)
{
    uint64_t old = e->node;
    e->base_node = m->node;
    e->base_type = m->node ? (uint32_t)m->inode.type : NODE_NONE;
    e->base_rev = m->rev ? m->rev : w->r->sjid;
    int err = entry_assign(w->c, e, m->node, e->base_type, w->now);
    effect_entry(w->fx, w->ns, m->parent, m->name, m->node);
    if (!err && old && old != m->node) {
        ids_add(&w->lost, old);
        ids_add(&w->lost_at, (uint64_t)(m - w->r->entries));
    }
    return err;
}

/* Whether a node that lost its last name here by the record must keep one: what was written into
 * it, or made in it, is nowhere else. */
static int lives_on(struct apply *w, uint64_t node, struct nrow *n, bool *yes)
{
    size_t names;
    *yes = false;
    int err = node_names(w->c, node, &names);
    if (!err && !names)
        err = node_get(w->c, node, n);
    if (err || names)
        return err == -ENOENT ? 0 : err;
    if (is_dir(n->type))
        return rebase_has_pending(w->c, node, yes);
    *yes = ((n->pend | n->sent) & ~(w->supersedes ? n->old : 0) & FACET_CONTENT) != 0;
    return 0;
}

/* Gives it the name back that it lost, pending; beside it if that was taken. */
static int name_again(struct apply *w, const struct nrow *n, const struct m_entry *m)
{
    struct erow e;
    int err = entry_get(w->c, m->parent, m->name, &e);
    if (err == -ENOENT) {
        e = (struct erow){
            .ns = w->ns, .parent = m->parent, .base_rev = w->r->sjid, .name_len = m->name.n};
        memcpy(e.name, m->name.p, m->name.n);
        err = 0;
    }
    if (!err && e.node)
        return rebase_aside(w->c, w->ns, m->parent, m->name, n->id, n->type, w->now, w->fx);
    if (!err)
        err = entry_assign(w->c, &e, n->id, n->type, w->now);
    effect_entry(w->fx, w->ns, m->parent, m->name, n->id);
    return err;
}

/* A directory lives on because of what lives on in it: until nothing changes. */
static int keep_alive(struct apply *w)
{
    int err = 0;
    for (bool again = true; again && !err;) {
        again = false;
        for (size_t i = 0; !err && i < w->lost.n; i++) {
            struct nrow n;
            bool yes;
            err = lives_on(w, w->lost.v[i], &n, &yes);
            if (err || !yes)
                continue;
            err = name_again(w, &n, &w->r->entries[w->lost_at.v[i]]);
            again = true;
        }
    }
    return err;
}

/* Whether a name of which there is no row matters here: it lies in the known part of its directory,
 * or a loaded node got it. */
static int entry_matters(struct apply *w, const struct m_entry *m, bool *yes)
{
    struct nrow n;
    *yes = false;
    int err = node_get(w->c, m->parent, &n);
    if (!err)
        err = name_known(w->c, &n, m->name, yes);
    if (err == -ENOENT)
        err = 0;
    if (err || *yes || !m->node)
        return err;
    err = node_get(w->c, m->node, &n);
    *yes = err == 0;
    return err == -ENOENT ? 0 : err;
}

static int apply_entry(struct apply *w, const struct m_entry *m)
{
    struct erow e;
    bool matters;
    int err = entry_get(w->c, m->parent, m->name, &e);
    if (err == -ENOENT) {
        err = entry_matters(w, m, &matters);
        if (err || !matters)
            return err;
        e = (struct erow){.ns = w->ns, .parent = m->parent, .name_len = m->name.n};
        memcpy(e.name, m->name.p, m->name.n);
    }
    if (!err && m->node) {
        if (!m->inode_set || m->inode.node != m->node)
            return -EBADMSG;
        struct nrow n;
        if (node_get(w->c, m->node, &n) == -ENOENT)
            ids_add(&w->loaded, m->node);
        err = node_load(w->c, w->ns, &m->inode);
        if (!err) /* removed here, something new in it there */
            err = rebase_restore(w->c, m->parent, w->fx);
    }
    if (err)
        return err;
    bool clean = e.node == e.base_node && !e.request;
    if (clean || (w->supersedes && e.old)) {
        e.request = 0;
        err = apply_to_clean(w, &e, m);
    } else {
        e.base_node = m->node;
        e.base_type = m->node ? (uint32_t)m->inode.type : NODE_NONE;
        e.base_rev = m->rev ? m->rev : w->r->sjid;
        /* under way: it may yet be committed (the name free again); its answer decides */
        err = e.request ? entry_put(w->c, &e) : rebase_entry(w->c, &e, w->now, w->fx);
    }
    return !err && m->node && is_dir((uint32_t)m->inode.type) ? rebase_cycles(w->c, m->node, w->fx)
                                                              : err;
}

/* A directory is gone of which nothing is loaded but names in it that are pending: it cannot come
 * back with them, so they go to the top. */
static int rescue(struct apply *w, uint64_t dir)
{
    cleanup_ids struct ids names = {0};
    struct core_ns ns;
    struct nrow n;
    int err = node_get(w->c, dir, &n);
    if (err != -ENOENT)
        return err;
    err = ns_get(w->c, w->ns, &ns);
    if (!err)
        err = entry_ids(w->c, BY_PENDING_PARENT, dir, &names);
    for (size_t i = 0; !err && i < names.n; i++) {
        struct erow e;
        err = entry_by_id(w->c, names.v[i], &e);
        uint64_t node = e.node;
        uint32_t type = e.type;
        e.request = 0;
        if (!err)
            err = entry_assign(w->c, &e, 0, NODE_NONE, w->now);
        if (!err && node)
            err = rebase_aside(w->c, w->ns, ns.root, erow_name(&e), node, type, w->now, w->fx);
    }
    return err;
}

/* A node that came with this name: its count of names, as told, includes it. */
static int loaded_count(struct apply *w, const struct m_entry *m)
{
    for (size_t i = 0; i < w->loaded.n; i++)
        if (w->loaded.v[i] == m->node)
            return apply_inode(w, &m->inode);
    return 0;
}

static int apply_all(struct apply *w)
{
    const struct m_record *r = w->r;
    int err = 0;
    /* names that go first, so that a name given elsewhere in the record is not seen twice */
    for (size_t i = 0; !err && i < r->entries_n; i++)
        if (r->entries[i].node == 0)
            err = apply_entry(w, &r->entries[i]);
    for (size_t i = 0; !err && i < r->entries_n; i++)
        if (r->entries[i].node != 0)
            err = apply_entry(w, &r->entries[i]);
    for (size_t i = 0; !err && i < r->entries_n; i++)
        if (r->entries[i].node && is_dir((uint32_t)r->entries[i].inode.type))
            err = rebase_one_name(w->c, r->entries[i].node, w->now, w->fx);
    if (!err)
        err = keep_alive(w);
    for (size_t i = 0; !err && i < r->inodes_n; i++)
        if (r->inodes[i].gone && r->inodes[i].type == NODE_DIR)
            err = rescue(w, r->inodes[i].node);
    for (size_t i = 0; !err && w->loaded.n && i < r->entries_n; i++)
        err = loaded_count(w, &r->entries[i]);
    for (size_t i = 0; !err && i < r->inodes_n; i++)
        err = apply_inode(w, &r->inodes[i]);
    for (size_t i = 0; !err && i < r->xattrs_n; i++)
        err = apply_xattr(w, &r->xattrs[i]);
    for (size_t i = 0; !err && i < w->lost.n; i++)
        err = node_purge(w->c, w->lost.v[i]);
    return err;
}

int core_apply(struct core *c, uint64_t ns, const struct m_record *r, int64_t now,
               struct core_effects *fx)
{
    struct core_ns info;
    struct apply w = {.c = c, .ns = ns, .r = r, .now = now, .fx = fx};
    int err = core_begin(c);
    if (err)
        return err;
    err = ns_get(c, ns, &info);
    if (!err && r->sjid <= info.cursor)
        return core_leave(c, 0);
    if (!err && r->sjid != info.cursor + 1)
        err = -EINVAL;
    bool own = !err && r->device == c->device && r->request;
    if (own) {
        bool unanswered = known_request(c, r->request);
        err = settle(c, r->request, r->sjid);
        if (!err && unanswered)
            done(fx, ns, r->request, COMMIT_COMMITTED, r->sjid);
        w.supersedes = err == -ENOENT;
    }
    if (!err || w.supersedes)
        err = own && !w.supersedes ? 0 : apply_all(&w);
    ids_free(&w.loaded);
    ids_free(&w.lost);
    ids_free(&w.lost_at);
    if (!err && r->account)
        effect_add(fx, EFFECT_SESSION, ns, 0);
    if (!err)
        err = ns_set_cursor(c, ns, r->sjid);
    return core_leave(c, err);
}
