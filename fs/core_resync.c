// SPDX-License-Identifier: Apache-2.0
/* When the journal does not reach back to the cursor.
 *
 * Everything here that has a base is looked at again as of one later SJID: directories of which a
 * list is known, page by page; names known singly; nodes that no list showed, or that need more
 * than a list shows. Several questions are under way at a time, of one kind: what they say decides
 * which of the next kind are asked. Where the server differs from the base, an after-image is
 * noted. All of them together are one record, which is applied like one of the journal, with the
 * cursor set to that SJID: pending changes stay, and meet it by the rules for conflicts.
 *
 * Two things such a record cannot say. What a file consists of now is not asked: what is known of
 * it is forgotten, and loaded when it is read. And of what was removed the server has no past any
 * more that it could be revived from (core_rescue.c).
 *
 * With a server that was restored, the SJID is the newest that its journal and ours have in common
 * (core_lost.c). Where that cannot be read any more, or is not known exactly, all is compared with
 * its newest state: revisions behind what is surely common say nothing then, and of files that
 * changed behind it on both sides the extents are compared (core_parted.c).
 *
 * The base does not change meanwhile: loads are refused, and a commit that is sent can only come
 * behind that SJID, so it is settled later, by the journal. Programs may change anything.
 */
#include "core_int.h"
#include "idset.h"

#include <errno.h>
#include <string.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))

enum phase { PHASE_LISTS, PHASE_NAMES, PHASE_NODES, PHASE_WANTED, PHASE_CONTENTS, PHASE_DONE };

struct core_resync {
    struct core *c;
    uint64_t ns, at, last; /* last: id of the row that was looked at last, or how many */
    uint64_t mark;         /* of the journal up to at */
    bool other;            /* two journals; they are the same up to … */
    uint64_t common;       /* … this, or longer if `at` is not this; not other: UINT64_MAX */
    struct core_lost lost;
    enum phase phase;
    struct question {
        struct core_need need; /* NEED_NONE: free */
        bool asked;
    } questions[RESYNC_QUESTIONS_MAX];
    struct idset seen;     /* nodes that a list or a name showed */
    struct idset wanted;   /* nodes to be told of, whether they differ or not … */
    struct idset told;     /* … and have been */
    struct idset answered; /* nodes that were asked for */
    struct idset compared; /* files whose contents were asked for … */
    struct idset equal;    /* … and are the same as far as they are known here */
    struct arena a;        /* of the record */
    struct m_record rec;
    size_t inodes_cap, entries_cap, xattrs_cap;
};

/* ---- the record ------------------------------------------------------------------------------ */
#define GROW(r, list, cap)                                                                         \
    do {                                                                                           \
        if ((r)->rec.list##_n == (r)->cap) {                                                       \
            (r)->cap = (r)->cap ? 2 * (r)->cap : 64;                                               \
            (r)->rec.list = realloc((r)->rec.list, (r)->cap * sizeof *(r)->rec.list);              \
            if (!(r)->rec.list)                                                                    \
                abort();                                                                           \
        }                                                                                          \
    } while (0)

static struct m_inode keep_inode(struct core_resync *r, const struct m_inode *m)
{
    struct m_inode i = *m;
    i.target = arena_bytes(&r->a, m->target.p, m->target.n);
    return i;
}

static void add_inode(struct core_resync *r, const struct m_inode *m)
{
    GROW(r, inodes, inodes_cap);
    r->rec.inodes[r->rec.inodes_n++] = keep_inode(r, m);
}

static void want(struct core_resync *r, uint64_t node)
{
    bool added;
    if (node)
        idset_add(&r->wanted, node, &added);
}

/* m NULL: the name is gone. What has the name, had it, and holds it is told of, too: their counts.
 */
static void add_entry(struct core_resync *r, uint64_t parent, struct bytes name,
                      const struct m_entry *m, uint64_t before)
{
    GROW(r, entries, entries_cap);
    struct m_entry *e = &r->rec.entries[r->rec.entries_n++];
    *e = (struct m_entry){
        .parent = parent, .name = arena_bytes(&r->a, name.p, name.n), .rev = r->at};
    if (m) {
        e->node = m->node;
        e->rev = m->rev;
        e->inode_set = true;
        e->inode = keep_inode(r, &m->inode);
        add_inode(r, &m->inode);
    }
    want(r, before);
    want(r, parent);
}

static void add_xattr(struct core_resync *r, uint64_t node, const struct m_xattr *x, bool removed)
{
    GROW(r, xattrs, xattrs_cap);
    r->rec.xattrs[r->rec.xattrs_n++] =
        (struct m_xattr){.node = node,
                         .name = arena_bytes(&r->a, x->name.p, x->name.n),
                         .value = arena_bytes(&r->a, x->value.p, x->value.n),
                         .rev = x->rev,
                         .removed = removed};
}

/* ---- comparing ------------------------------------------------------------------------------- */
/* Whether it has as many xattrs at the server as here, if they are known. */
static int xattrs_differ(struct core *c, const struct nrow *n, const struct m_inode *m, bool *yes)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT count(*) FROM xattr WHERE node = ?1 AND rev != 0");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *yes = n->xattrs_known && U(0) != m->xattrs;
    sqlite3_reset(s);
    return 0;
}

/* Whether a revision that is known here says what the server's row of that revision is. */
static bool same_rev(const struct core_resync *r, uint64_t here, uint64_t there)
{
    return here == there && here <= r->common;
}

static int inode_differs(const struct core_resync *r, const struct nrow *n, const struct m_inode *m,
                         bool *yes)
{
    struct core *c = r->c;
    int delta = 0;
    int err = nlink_pending(c, n, &delta);
    uint32_t mine = n->pend | n->sent;
    bool times = (mine & (FACET_TIMES | FACET_CONTENT)) != 0;
    *yes = !same_rev(r, n->attr_rev, m->attr_rev) || (int64_t)m->nlink + delta != n->nlink ||
           (n->type == NODE_REG && !same_rev(r, n->content_rev, m->content_rev)) ||
           (!times && m->mtime != n->mtime) ||
           (mine ? m->ctime > n->ctime : m->ctime != n->ctime); /* the later one stays */
    return err;
}

/* Of whom the number of xattrs tells that they are others is asked, also where there are none here:
 * before all is compared, a program may set one, and then nobody would ask for the rest. */
static int see(struct core_resync *r, const struct m_inode *m)
{
    struct nrow n;
    bool differs = false, xattrs = false, added;
    int err = node_get(r->c, m->node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    idset_add(&r->seen, m->node, &added);
    err = inode_differs(r, &n, m, &differs);
    if (!err)
        err = xattrs_differ(r->c, &n, m, &xattrs);
    if (!err && added && (differs || xattrs))
        add_inode(r, m);
    if (!err && xattrs)
        want(r, m->node);
    return err;
}

/* The server's answer for one name; m NULL: absent. */
static int compare_name(struct core_resync *r, uint64_t parent, struct bytes name,
                        const struct m_entry *m)
{
    struct erow e;
    int err = entry_get(r->c, parent, name, &e);
    if (err && err != -ENOENT)
        return err;
    uint64_t before = err ? 0 : e.base_node;
    bool same = m ? before == m->node && !err && same_rev(r, e.base_rev, m->rev) : !before;
    if (!same)
        add_entry(r, parent, name, m, m && m->node == before ? 0 : before);
    return m ? see(r, &m->inode) : 0;
}

/* Names that the server had in [after, upto] of the directory and that the page lacks. */
static int compare_gone(struct core_resync *r, struct question *q, struct bytes upto, bool end,
                        const struct m_readdir_ans *page)
{
    sqlite3_stmt *s = tree_stmt(r->c->t, "SELECT name, base_node FROM entry WHERE parent = ?1"
                                         " AND name > ?2 AND (?4 OR name <= ?3)"
                                         " AND base_node != 0 ORDER BY name");
    size_t k = 0;
    int rc;
    sqlite3_bind_int64(s, 1, (int64_t)q->need.node);
    sqlite3_bind_blob64(s, 2, q->need.name, q->need.name_len, SQLITE_STATIC);
    sqlite3_bind_blob64(s, 3, upto.p, upto.n, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, end);
    while ((rc = tree_step(r->c->t, s)) == 1) {
        struct bytes name = bytes_of(sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
        while (k < page->entries_n && bytes_compare(page->entries[k].name, name) < 0)
            k++;
        if (k == page->entries_n || !bytes_equal(page->entries[k].name, name))
            add_entry(r, q->need.node, name, NULL, U(1));
    }
    return rc;
}

/* ---- what to ask ----------------------------------------------------------------------------- */
static const char sql_lists[] = /* also of those that are gone: they may be back, and what was in
                                   them is gone, too */
    "SELECT id FROM node WHERE ns = ?1 AND id > ?2 AND type = 2"
    " AND (complete != 0 OR loaded_upto IS NOT NULL) AND ((pend | sent) & 1) = 0"
    " ORDER BY id LIMIT 1";
static const char sql_names[] =
    "SELECT e.id FROM entry e LEFT JOIN node d ON d.id = e.parent WHERE e.ns = ?1 AND e.id > ?2"
    " AND (e.base_node != 0 OR e.base_rev != 0) AND (d.id IS NULL OR (d.complete = 0"
    " AND (d.loaded_upto IS NULL OR e.name > d.loaded_upto))) ORDER BY e.id LIMIT 1";
static const char sql_nodes[] = /* new ones too: made by a commit of our own, maybe, that the tree
                                   forgot; and those that are gone: they may be back */
    "SELECT id, xattrs_known AND EXISTS (SELECT 1 FROM xattr x WHERE x.node = n.id) FROM node n"
    " WHERE ns = ?1 AND id > ?2 ORDER BY id LIMIT 1";

static int next_row(struct core_resync *r, const char *sql, bool *xattrs)
{
    sqlite3_stmt *s = tree_stmt(r->c->t, sql);
    sqlite3_bind_int64(s, 1, (int64_t)r->ns);
    sqlite3_bind_int64(s, 2, (int64_t)r->last);
    int rc = tree_step(r->c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    r->last = U(0);
    *xattrs = sqlite3_column_count(s) > 1 && sqlite3_column_int(s, 1) != 0;
    sqlite3_reset(s);
    return 0;
}

/* One that another answer made wanted after it was passed, or asked for. */
static int next_wanted(struct core_resync *r, struct question *q)
{
    while (r->last < r->wanted.ids.n) {
        struct nrow n;
        uint64_t node = r->wanted.ids.v[r->last++];
        int err = idset_has(&r->told, node) ? -ENOENT : node_get(r->c, node, &n);
        if (err == -ENOENT)
            continue;
        q->need = (struct core_need){.kind = NEED_NODE, .ns = r->ns, .at = r->at, .node = node};
        return err;
    }
    return -ENOENT;
}

/* A file that both sides have changed behind what is surely common. */
static int next_content(struct core_resync *r, struct question *q)
{
    while (r->last < r->rec.inodes_n) {
        const struct m_inode *m = &r->rec.inodes[r->last++];
        cleanup_spans struct spans known = {0};
        struct nrow n;
        bool first;
        int err = m->gone || m->type != NODE_REG ? -ENOENT : node_get(r->c, m->node, &n);
        if (!err)
            err = span_list(r->c, n.id, SPAN_KNOWN, 0, FILE_SIZE_MAX, &known);
        if (err == -ENOENT)
            continue;
        bool ask = n.content_rev > r->common && m->content_rev > r->common && known.n &&
                   n.size == m->size && !((n.pend | n.sent) & FACET_CONTENT);
        if (!err && ask)
            idset_add(&r->compared, n.id, &first);
        if (!err && (!ask || !first))
            continue;
        q->need =
            (struct core_need){.kind = NEED_EXTENTS, .ns = r->ns, .at = r->at, .node = m->node};
        return err;
    }
    return -ENOENT;
}

/* A row of the phase that has something to be asked; -ENOENT behind the last. */
static int next_need(struct core_resync *r, struct question *q)
{
    struct erow e;
    bool xattrs;
    if (r->phase == PHASE_WANTED)
        return next_wanted(r, q);
    if (r->phase == PHASE_CONTENTS)
        return next_content(r, q);
    q->need = (struct core_need){.ns = r->ns, .at = r->at};
    for (;;) {
        int err = next_row(r,
                           r->phase == PHASE_LISTS   ? sql_lists
                           : r->phase == PHASE_NAMES ? sql_names
                                                     : sql_nodes,
                           &xattrs);
        if (err)
            return err;
        q->need.node = r->last;
        if (r->phase == PHASE_LISTS) {
            q->need.kind = NEED_PAGE;
            return 0;
        }
        if (r->phase == PHASE_NAMES) {
            err = entry_by_id(r->c, r->last, &e);
            q->need.kind = NEED_NAME;
            q->need.node = e.parent;
            q->need.name_len = e.name_len;
            memcpy(q->need.name, e.name, e.name_len);
            return err;
        }
        q->need.kind = NEED_NODE;
        if (xattrs || !idset_has(&r->seen, r->last) || idset_has(&r->wanted, r->last))
            return 0;
    }
}

/* The question of a slot, or the next one; -EAGAIN: what the answers say decides what is next. */
static int next_question(struct core_resync *r, struct question **out)
{
    struct question *unused = NULL;
    bool awaited = false;
    for (size_t i = 0; i < RESYNC_QUESTIONS_MAX; i++) {
        struct question *q = &r->questions[i];
        *out = q;
        if (q->need.kind != NEED_NONE && !q->asked)
            return 0;
        awaited |= q->need.kind != NEED_NONE;
        unused = q->need.kind == NEED_NONE && !unused ? q : unused;
    }
    *out = unused;
    if (!unused)
        return -EAGAIN;
    while (r->phase != PHASE_DONE) {
        int err = next_need(r, unused);
        if (!err)
            return 0;
        unused->need = (struct core_need){0};
        if (err != -ENOENT)
            return err;
        if (awaited) /* the next phase asks for what this one did not show */
            return -EAGAIN;
        r->last = 0;
        r->phase++;
    }
    return -ENOENT;
}

int core_resync_request(struct core_resync *r, unsigned *slot, const char **method,
                        struct buf *body)
{
    struct question *q;
    int err = next_question(r, &q);
    if (err)
        return err;
    *slot = (unsigned)(q - r->questions);
    q->asked = true;
    struct bytes name = bytes_of(q->need.name, q->need.name_len);
    if (q->need.kind == NEED_PAGE) {
        struct m_readdir_req m = {
            .ns = r->ns, .dir = q->need.node, .at = r->at, .after = name, .mark = r->mark};
        *method = "readdir";
        msg_encode(&m_readdir_req_desc, &m, body);
    } else if (q->need.kind == NEED_NAME) {
        struct m_lookup_req m = {
            .ns = r->ns, .parent = q->need.node, .name = name, .at = r->at, .mark = r->mark};
        *method = "lookup";
        msg_encode(&m_lookup_req_desc, &m, body);
    } else if (q->need.kind == NEED_EXTENTS) {
        struct m_extents_req m = {
            .ns = r->ns, .node = q->need.node, .at = r->at, .off = q->need.off, .mark = r->mark};
        *method = "extents";
        msg_encode(&m_extents_req_desc, &m, body);
    } else {
        struct m_node_req m = {
            .ns = r->ns, .node = q->need.node, .at = r->at, .names = true, .mark = r->mark};
        *method = "node";
        msg_encode(&m_node_req_desc, &m, body);
    }
    return 0;
}

void core_resync_again(struct core_resync *r, unsigned slot)
{
    r->questions[slot].asked = false;
}

/* The last name of a list that is known in part; it lives in the arena. */
static int loaded_upto(struct core *c, uint64_t dir, struct arena *a, struct bytes *name)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT loaded_upto FROM node WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)dir);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *name = arena_bytes(a, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
    sqlite3_reset(s);
    return 0;
}

/* ---- answers --------------------------------------------------------------------------------- */
static int answer_page(struct core_resync *r, struct question *q, struct bytes body, bool *more,
                       struct arena *a)
{
    struct m_readdir_ans m;
    struct nrow d;
    bool known = true;
    if (msg_decode(&m_readdir_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL) ||
        (m.more && !m.entries_n))
        return -EBADMSG;
    int err = node_get(r->c, q->need.node, &d);
    struct bytes last = bytes_of(q->need.name, q->need.name_len);
    size_t n = 0;
    for (; !err && known && n < m.entries_n; n++) {
        const struct m_entry *e = &m.entries[n];
        if (e->parent != q->need.node || !e->node || !e->inode_set ||
            bytes_compare(e->name, last) <= 0)
            return -EBADMSG;
        err = name_known(r->c, &d, e->name, &known);
        if (!err && known)
            err = compare_name(r, e->parent, e->name, e);
        last = e->name;
    }
    /* behind what is known of the list, names are asked for one by one */
    bool end = d.complete && !m.more;
    if (!err && !d.complete && (!known || !m.more)) {
        err = loaded_upto(r->c, d.id, a, &last);
        m.more = false;
    }
    if (!err)
        err = compare_gone(r, q, last, end, &m);
    *more = !err && m.more;
    q->need.name_len = last.n;
    if (last.n)
        memcpy(q->need.name, last.p, last.n);
    return err;
}

static int answer_name(struct core_resync *r, struct question *q, struct bytes body,
                       struct arena *a)
{
    struct m_lookup_ans m;
    struct bytes name = bytes_of(q->need.name, q->need.name_len);
    if (msg_decode(&m_lookup_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL))
        return -EBADMSG;
    if (m.entry_set && (m.entry.parent != q->need.node || !m.entry.node || !m.entry.inode_set ||
                        !bytes_equal(m.entry.name, name)))
        return -EBADMSG;
    return compare_name(r, q->need.node, name, m.entry_set ? &m.entry : NULL);
}

static const struct m_xattr *xattr_in(const struct m_node_ans *m, struct bytes name)
{
    for (size_t i = 0; i < m->xattrs_n; i++)
        if (bytes_equal(m->xattrs[i].name, name))
            return &m->xattrs[i];
    return NULL;
}

/* Xattrs that the server has otherwise than at the base. */
static int compare_xattrs(struct core_resync *r, struct question *q, const struct m_node_ans *m)
{
    sqlite3_stmt *s = tree_stmt(r->c->t, "SELECT rev FROM xattr WHERE node = ?1 AND name = ?2");
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < m->xattrs_n; i++) {
        sqlite3_bind_int64(s, 1, (int64_t)q->need.node);
        sqlite3_bind_blob64(s, 2, m->xattrs[i].name.p, m->xattrs[i].name.n, SQLITE_STATIC);
        rc = tree_step(r->c->t, s);
        if (rc >= 0 && (rc == 0 || !same_rev(r, U(0), m->xattrs[i].rev)))
            add_xattr(r, q->need.node, &m->xattrs[i], false);
        sqlite3_reset(s);
    }
    if (rc < 0)
        return rc;
    s = tree_stmt(r->c->t, "SELECT name FROM xattr WHERE node = ?1 AND rev != 0");
    sqlite3_bind_int64(s, 1, (int64_t)q->need.node);
    while ((rc = tree_step(r->c->t, s)) == 1) {
        struct m_xattr gone = {
            .name = bytes_of(sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0))};
        if (!xattr_in(m, gone.name))
            add_xattr(r, q->need.node, &gone, true);
    }
    return rc;
}

/* Where it is: it may have been moved to where nothing is known. */
static int compare_names(struct core_resync *r, const struct m_node_ans *m)
{
    int err = 0;
    for (size_t i = 0; !err && i < m->names_n; i++) {
        const struct m_name *k = &m->names[i];
        struct erow e;
        err = entry_get(r->c, k->parent, k->name, &e);
        if (err == -ENOENT ||
            (!err && (e.base_node != m->inode.node || !same_rev(r, e.base_rev, k->rev)))) {
            const struct m_entry now = {.parent = k->parent,
                                        .name = k->name,
                                        .node = m->inode.node,
                                        .rev = k->rev,
                                        .inode_set = true,
                                        .inode = m->inode};
            add_entry(r, k->parent, k->name, &now, err ? 0 : e.base_node);
            err = 0;
        }
    }
    return err;
}

/* The server has removed it, and can revive it; not so one that was made, and removed, in a journal
 * that is lost. */
static bool known_to_be_gone(const struct core_resync *r, const struct nrow *n)
{
    return n->gone && n->attr_rev <= r->common;
}

static int answer_node(struct core_resync *r, struct question *q, struct bytes body,
                       struct arena *a)
{
    struct m_node_ans m;
    struct nrow n;
    if (msg_decode(&m_node_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL) ||
        (m.inode_set && m.inode.node != q->need.node))
        return -EBADMSG;
    int err = node_get(r->c, q->need.node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    bool wanted = idset_has(&r->wanted, n.id), first;
    if (wanted)
        idset_add(&r->told, n.id, &first);
    idset_add(&r->answered, n.id, &first);
    if (!m.inode_set && (known_to_be_gone(r, &n) || ((n.pend | n.sent) & FACET_CREATE)))
        return 0;
    if (!m.inode_set) {
        const struct m_inode gone = {.node = n.id,
                                     .type = n.type,
                                     .mode = n.mode,
                                     .uid = n.uid,
                                     .gid = n.gid,
                                     .size = n.size,
                                     .mtime = n.mtime,
                                     .ctime = n.ctime,
                                     .stored = n.stored,
                                     .content_rev = n.content_rev,
                                     .attr_rev = n.attr_rev,
                                     .gone = true};
        add_inode(r, &gone);
        return 0;
    }
    if (wanted)
        add_inode(r, &m.inode);
    else
        err = see(r, &m.inode);
    if (err || !first)
        return err;
    err = compare_names(r, &m);
    return err || !n.xattrs_known ? err : compare_xattrs(r, q, &m);
}

/* Whether what is known here of [off, end) is what the server has there. */
static int same_extents(struct core *c, uint64_t node, uint64_t off, uint64_t end,
                        const struct extent_list *theirs, bool *same)
{
    cleanup_spans struct spans known = {0};
    int err = span_list(c, node, SPAN_KNOWN, off, end, &known);
    for (size_t i = 0; !err && *same && i < known.n; i++) {
        cleanup_extents struct extent_list here = {0}, there = {0};
        err = extents_get(c, node, known.v[i].off, known.v[i].end, &here);
        extent_list_slice(theirs, known.v[i].off, known.v[i].end - known.v[i].off, &there);
        *same = extent_list_equal(&here, &there);
    }
    return err;
}

static int answer_extents(struct core_resync *r, struct question *q, struct bytes body, bool *more,
                          struct arena *a)
{
    struct m_extents_ans m;
    struct nrow n;
    uint64_t off = q->need.off;
    bool same, added;
    if (msg_decode(&m_extents_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL) || !m.range_set ||
        m.range.off != off)
        return -EBADMSG;
    uint64_t end = m.more ? off + m.range.len : FILE_SIZE_MAX;
    if (end <= off || end > FILE_SIZE_MAX ||
        extent_check(m.range.extents, m.range.extents_n, off, end - off))
        return -EBADMSG;
    const struct extent_list theirs = {.v = m.range.extents, .n = m.range.extents_n};
    int err = node_get(r->c, q->need.node, &n);
    same = !err && !((n.pend | n.sent) & FACET_CONTENT); /* written meanwhile: it is ours */
    if (!err)
        err = same_extents(r->c, n.id, off, end, &theirs, &same);
    *more = !err && same && m.more;
    q->need.off = end;
    if (!err && same && !m.more)
        idset_add(&r->equal, n.id, &added);
    return err;
}

int core_resync_answer(struct core_resync *r, unsigned slot, struct bytes body)
{
    cleanup_arena struct arena a = {0};
    struct question *q = &r->questions[slot];
    bool more = false;
    int err;
    switch (q->asked ? q->need.kind : NEED_NONE) {
    case NEED_PAGE:
        err = answer_page(r, q, body, &more, &a);
        break;
    case NEED_NAME:
        err = answer_name(r, q, body, &a);
        break;
    case NEED_NODE:
        err = answer_node(r, q, body, &a);
        break;
    case NEED_EXTENTS:
        err = answer_extents(r, q, body, &more, &a);
        break;
    default:
        return -EINVAL;
    }
    q->asked = false;
    if (!more) /* otherwise the next page */
        q->need.kind = NEED_NONE;
    return err == -ENOENT ? 0 : err; /* it went away here meanwhile */
}

static int rescue(struct core_resync *r, int64_t now, struct core_effects *fx)
{
    struct idset gone = {0};
    bool added;
    for (size_t i = 0; i < r->rec.inodes_n; i++)
        if (r->rec.inodes[i].gone)
            idset_add(&gone, r->rec.inodes[i].node, &added);
    int err = rescue_nodes(r->c, r->ns, &gone, now, fx);
    idset_free(&gone);
    return err;
}

/* ---- life ------------------------------------------------------------------------------------ */
int core_resync_new(struct core_resync **out, struct core *c, uint64_t ns, uint64_t at,
                    uint64_t mark, uint64_t common)
{
    struct core_ns info;
    int err = ns_get(c, ns, &info);
    if (!err && (info.other ? at < common : at <= info.cursor))
        err = -EINVAL;
    if (!err && info.other && at == common)
        err = ns_mark(c, ns, at, &mark);
    if (err)
        return err;
    struct core_resync *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->c = c;
    r->ns = ns;
    r->at = at;
    r->mark = mark;
    r->other = info.other;
    r->common = info.other ? common : UINT64_MAX;
    r->rec.sjid = at;
    *out = r;
    return 0;
}

void core_resync_free(struct core_resync *r)
{
    if (!r)
        return;
    free(r->rec.inodes);
    free(r->rec.entries);
    free(r->rec.xattrs);
    idset_free(&r->seen);
    idset_free(&r->wanted);
    idset_free(&r->told);
    idset_free(&r->answered);
    idset_free(&r->compared);
    idset_free(&r->equal);
    arena_free(&r->a);
    free(r);
}

const struct m_record *core_resync_record(const struct core_resync *r)
{
    return &r->rec;
}

/* What is still to be read from a past that is gone is read from the present. */
static int move_sources(struct core_resync *r)
{
    sqlite3_stmt *s = tree_stmt(
        r->c->t, "UPDATE node SET src_at = ?2 WHERE ns = ?1 AND src != 0 AND src_at < ?2");
    sqlite3_bind_int64(s, 1, (int64_t)r->ns);
    sqlite3_bind_int64(s, 2, (int64_t)r->at);
    return tree_step(r->c->t, s);
}

/* What the server has removed it need not have removed as it is known here: others may have changed
 * it before. Should somebody who knows that bring it back, a record tells only what is new. */
static int unsee_gone(struct core_resync *r)
{
    sqlite3_stmt *s = tree_stmt(
        r->c->t, "UPDATE node SET gone = ?2, content_rev = iif(content_rev > ?3, 0, content_rev)"
                 " WHERE ns = ?1 AND gone != 0 AND type = 1");
    sqlite3_bind_int64(s, 1, (int64_t)r->ns);
    sqlite3_bind_int64(s, 2, GONE_UNSEEN);
    sqlite3_bind_int64(s, 3, r->other ? (int64_t)r->common : INT64_MAX);
    return tree_step(r->c->t, s);
}

struct core_lost core_resync_lost(const struct core_resync *r)
{
    return r->lost;
}

static int go_back(struct core_resync *r, int64_t now, struct core_effects *fx)
{
    bool exact = r->at == r->common;
    int err = ns_set_back(r->c, r->ns, r->common);
    if (!err && !exact)
        err = ns_set_cursor(r->c, r->ns, r->at, r->mark);
    sqlite3_stmt *s = tree_stmt(
        r->c->t, "UPDATE node SET src_at = ?2 WHERE ns = ?1 AND src != 0 AND src_at > ?2");
    sqlite3_bind_int64(s, 1, (int64_t)r->ns);
    sqlite3_bind_int64(s, 2, (int64_t)r->common);
    if (!err)
        err = tree_step(r->c->t, s);
    if (!err && exact)
        err = lost_take(r->c, r->ns, &r->rec, now, &r->lost, fx);
    else if (!err)
        err = parted_take(r->c, r->ns, &r->rec, r->common, &r->equal, now, &r->lost, fx);
    return err;
}

int core_resync_apply(struct core_resync *r, int64_t now, struct core_effects *fx)
{
    struct core_ns info;
    int err = core_begin(r->c);
    if (err)
        return err;
    err = ns_get(r->c, r->ns, &info);
    if (!err &&
        (r->phase != PHASE_DONE || info.other != r->other || (!r->other && info.cursor >= r->at)))
        err = -EINVAL;
    if (!err && !record_valid(&r->rec))
        err = -EBADMSG;
    if (!err && r->other) {
        err = go_back(r, now, fx);
        if (!err)
            err = unsee_gone(r);
        return core_leave(r->c, err ? err : lost_tell(r->c, r->ns, &r->lost, now));
    }
    if (!err)
        err = ns_set_cursor(r->c, r->ns, r->at, r->mark);
    if (!err)
        err = move_sources(r);
    if (!err)
        err = rescue(r, now, fx);
    if (!err)
        err = apply_record(r->c, r->ns, &r->rec, now, true, fx);
    if (!err)
        err = unsee_gone(r);
    return core_leave(r->c, err);
}
