// SPDX-License-Identifier: Apache-2.0
/* Loading what the tree does not know yet.
 *
 * Everything known of a namespace is exact as of its cursor. So a load asks as of the cursor, and
 * its answer is taken only while the cursor has not moved; a page of a directory may be followed by
 * records before the next page, because records are applied to the names already loaded. What is
 * already here is never overwritten: it is as of the cursor too, or pending. The exceptions are
 * read from the past, which no record changes: the unknown extents of a conflicted copy from that
 * of the node it was copied from, and what is unknown of a node that the server removed, but that
 * lives on here.
 */
#include "core_int.h"

#include <errno.h>
#include <string.h>

/* Of which node, and as of when it is to be asked. */
static int need_source(struct core *c, const struct core_need *need, uint64_t *src, uint64_t *at)
{
    struct core_ns ns;
    struct nrow n;
    int err = ns_get(c, need->ns, &ns);
    *src = need->node;
    *at = ns.cursor;
    if (err || (need->kind != NEED_EXTENTS && need->kind != NEED_NODE))
        return err;
    err = node_get(c, need->node, &n);
    if (err) /* not loaded: to be asked as it is now */
        return err == -ENOENT && need->kind == NEED_NODE ? 0 : err;
    if (n.src && (need->kind == NEED_EXTENTS || n.src == n.id)) {
        *src = n.src;
        *at = n.src_at;
    }
    return 0;
}

int core_need_request(struct core *c, struct core_need *need, const char **method, struct buf *body)
{
    uint64_t mark = 0;
    int err = need_source(c, need, &need->src, &need->at);
    if (!err)
        err = ns_mark(c, need->ns, need->at, &mark);
    if (err)
        return err;
    struct bytes name = bytes_of(need->name, need->name_len);
    switch (need->kind) {
    case NEED_NAME: {
        struct m_lookup_req q = {
            .ns = need->ns, .parent = need->node, .name = name, .at = need->at, .mark = mark};
        *method = "lookup";
        msg_encode(&m_lookup_req_desc, &q, body);
        return 0;
    }
    case NEED_PAGE: {
        struct m_readdir_req q = {.ns = need->ns,
                                  .dir = need->node,
                                  .at = need->at,
                                  .after = name,
                                  .limit = need->rows,
                                  .mark = mark};
        *method = "readdir";
        msg_encode(&m_readdir_req_desc, &q, body);
        return 0;
    }
    case NEED_NODE: {
        struct m_node_req q = {.ns = need->ns, .node = need->node, .at = need->at, .mark = mark};
        *method = "node";
        msg_encode(&m_node_req_desc, &q, body);
        return 0;
    }
    case NEED_EXTENTS: {
        struct m_extents_req q = {
            .ns = need->ns, .node = need->src, .at = need->at, .off = need->off, .mark = mark};
        *method = "extents";
        msg_encode(&m_extents_req_desc, &q, body);
        return 0;
    }
    default:
        return -EINVAL;
    }
}

/* A node as the server describes it, unless it is here already. */
int node_load(struct core *c, uint64_t ns, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(c, m->node, &n);
    if (err != -ENOENT)
        return err;
    n = (struct nrow){.id = m->node,
                      .ns = ns,
                      .type = (uint32_t)m->type,
                      .mode = (uint32_t)m->mode,
                      .uid = (uint32_t)m->uid,
                      .gid = (uint32_t)m->gid,
                      .rdev = m->rdev,
                      .size = m->size,
                      .mtime = m->mtime,
                      .ctime = m->ctime,
                      .atime = m->mtime,
                      .nlink = (uint32_t)m->nlink,
                      .stored = m->stored,
                      .target_ns = m->target_ns,
                      .content_rev = m->content_rev,
                      .attr_rev = m->attr_rev,
                      .xattrs_known = m->xattrs == 0};
    if (n.type == NODE_SYMLINK)
        n.size = m->target.n;
    err = node_put(c, &n);
    if (!err && n.type == NODE_SYMLINK) {
        sqlite3_stmt *s = tree_stmt(c->t, "UPDATE node SET target = ?2 WHERE id = ?1");
        sqlite3_bind_int64(s, 1, (int64_t)n.id);
        sqlite3_bind_blob64(s, 2, m->target.p, m->target.n, SQLITE_STATIC);
        err = tree_step(c->t, s);
    }
    if (!err && n.type == NODE_REG && n.stored == 0)
        err = span_mark(c, n.id, SPAN_KNOWN, 0, FILE_SIZE_MAX); /* all of it is a hole */
    return err;
}

/* A name as the server has it as of the cursor, unless the row is here already. A directory that
 * was moved here may get its name there so late: a comparison as of the past is told no names that
 * are gone since. It stays where the server has it then, as after a record. */
static int entry_load(struct core *c, uint64_t ns, const struct m_entry *m, int64_t now,
                      struct core_effects *fx)
{
    struct erow e;
    size_t names = 0;
    int err = entry_get(c, m->parent, m->name, &e);
    if (err != -ENOENT)
        return err;
    err = is_dir((uint32_t)m->inode.type) ? node_names(c, m->node, 1, &names) : 0;
    if (err)
        return err;
    e = (struct erow){.ns = ns,
                      .parent = m->parent,
                      .node = m->node,
                      .type = (uint32_t)m->inode.type,
                      .base_node = m->node,
                      .base_type = (uint32_t)m->inode.type,
                      .base_rev = m->rev,
                      .name_len = m->name.n};
    memcpy(e.name, m->name.p, m->name.n);
    err = node_load(c, ns, &m->inode);
    if (!err)
        err = entry_put(c, &e);
    if (!err && names)
        err = rebase_one_name(c, m->node, now, fx);
    return err || !names ? err : rebase_cycles(c, m->node, fx);
}

/* The base revision of a name known to be absent: 0 would mean that nobody has asked. */
static uint64_t absent_rev(const struct core_need *need)
{
    return need->at ? need->at : 1;
}

/* What the server has under a name that is here already. A row that was made without knowing
 * (base_rev 0) gets its base now, and is rebased on it; any other is as of the cursor or newer. */
static int name_base(struct core *c, const struct core_need *need, struct erow *e,
                     const struct m_entry *m, int64_t now, struct core_effects *fx)
{
    if (e->base_node || e->base_rev)
        return 0;
    e->base_rev = absent_rev(need);
    if (!m)
        return entry_put(c, e);
    int err = node_load(c, need->ns, &m->inode);
    /* link counts as told include this name; what is here instead was counted on top of them */
    if (!err)
        err = nlink_add(c, is_dir((uint32_t)m->inode.type) ? e->parent : m->node, -1);
    e->base_node = m->node;
    e->base_type = (uint32_t)m->inode.type;
    e->base_rev = m->rev;
    if (!err && e->request) /* under way: its answer decides */
        return entry_put(c, e);
    return err ? err : rebase_entry(c, e, now, fx);
}

static int load_name(struct core *c, const struct core_need *need, struct bytes body,
                     struct arena *a, int64_t now, struct core_effects *fx)
{
    struct m_lookup_ans m;
    struct erow e;
    struct bytes name = bytes_of(need->name, need->name_len);
    if (msg_decode(&m_lookup_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL))
        return -EBADMSG;
    if (m.entry_set && (!entry_valid(&m.entry) || !m.entry.node || m.entry.parent != need->node ||
                        !bytes_equal(m.entry.name, name)))
        return -EBADMSG;
    int err = entry_get(c, need->node, name, &e);
    if (err == 0)
        return name_base(c, need, &e, m.entry_set ? &m.entry : NULL, now, fx);
    if (err != -ENOENT)
        return err;
    if (m.entry_set)
        return entry_load(c, need->ns, &m.entry, now, fx);
    e = (struct erow){
        .ns = need->ns, .parent = need->node, .name_len = name.n, .base_rev = absent_rev(need)};
    memcpy(e.name, name.p, name.n);
    return entry_put(c, &e); /* known to be absent */
}

static int load_page(struct core *c, const struct core_need *need, struct bytes body,
                     struct arena *a, int64_t now, struct core_effects *fx)
{
    struct m_readdir_ans m;
    struct nrow d;
    if (msg_decode(&m_readdir_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL))
        return -EBADMSG;
    int err = node_get(c, need->node, &d);
    if (err)
        return err;
    struct bytes last = bytes_of(need->name, need->name_len);
    for (size_t i = 0; !err && i < m.entries_n; i++) {
        const struct m_entry *e = &m.entries[i];
        if (!entry_valid(e) || !e->node || e->parent != need->node ||
            bytes_compare(e->name, last) <= 0)
            return -EBADMSG;
        last = e->name;
        struct erow here;
        err = entry_get(c, e->parent, e->name, &here);
        if (err == 0)
            err = name_base(c, need, &here, e, now, fx);
        else if (err == -ENOENT)
            err = entry_load(c, need->ns, e, now, fx);
    }
    if (err)
        return err;
    if (m.more && !m.entries_n)
        return -EBADMSG;
    err = node_get(c, need->node, &d); /* names that met others here have changed its links */
    d.complete = !m.more;
    if (!err)
        err = node_put(c, &d);
    if (!err) {
        sqlite3_stmt *s = tree_stmt(c->t, "UPDATE node SET loaded_upto = ?2 WHERE id = ?1");
        sqlite3_bind_int64(s, 1, (int64_t)d.id);
        if (m.more)
            sqlite3_bind_blob64(s, 2, last.p, last.n, SQLITE_STATIC);
        err = tree_step(c->t, s);
    }
    if (!err && d.complete) { /* rows that only said "absent" say nothing new any more */
        sqlite3_stmt *s = tree_stmt(c->t, "DELETE FROM entry WHERE parent = ?1 AND node = 0"
                                          " AND base_node = 0 AND pend = 0 AND request = 0");
        sqlite3_bind_int64(s, 1, (int64_t)d.id);
        err = tree_step(c->t, s);
    }
    return err;
}

int core_unknown_dir(struct core *c, uint64_t ns, uint64_t from, struct core_need *need)
{
    struct nrow d;
    sqlite3_stmt *s = tree_stmt(
        c->t, "SELECT id FROM node WHERE complete = 0 AND type = 2 AND gone = 0 AND ns = ?1"
              " AND id >= ?2 ORDER BY id LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)from);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc;
    uint64_t id = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    int err = node_get(c, id, &d);
    return err ? err : dir_whole(c, &d, need);
}

static int load_node(struct core *c, const struct core_need *need, struct bytes body,
                     struct arena *a)
{
    struct m_node_ans m;
    struct nrow n;
    if (msg_decode(&m_node_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL))
        return -EBADMSG;
    if (!m.inode_set)
        return -ESTALE;
    if (m.inode.node != need->node || !inode_valid(&m.inode))
        return -EBADMSG;
    for (size_t i = 0; i < m.xattrs_n; i++)
        if (!xattr_valid(&m.xattrs[i]))
            return -EBADMSG;
    int err = node_load(c, need->ns, &m.inode);
    if (!err)
        err = node_get(c, need->node, &n);
    if (err || n.xattrs_known)
        return err;
    for (size_t i = 0; !err && i < m.xattrs_n; i++) {
        const struct m_xattr *x = &m.xattrs[i];
        sqlite3_stmt *s =
            tree_stmt(c->t, "INSERT OR IGNORE INTO xattr(node, name, value, rev, pend, request)"
                            " VALUES(?1, ?2, ?3, ?4, 0, 0)");
        sqlite3_bind_int64(s, 1, (int64_t)n.id);
        sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
        if (x->value.n)
            sqlite3_bind_blob64(s, 3, x->value.p, x->value.n, SQLITE_STATIC);
        else
            sqlite3_bind_zeroblob(s, 3, 0);
        sqlite3_bind_int64(s, 4, (int64_t)x->rev);
        err = tree_step(c->t, s);
    }
    n.xattrs_known = true;
    return err ? err : node_put(c, &n);
}

static int load_extents(struct core *c, const struct core_need *need, struct bytes body,
                        struct arena *a)
{
    struct m_extents_ans m;
    cleanup_spans struct spans unknown = {0};
    if (msg_decode(&m_extents_ans_desc, &m, body.p, body.n, MSG_LENIENT, a, NULL))
        return -EBADMSG;
    if (!m.range_set && need->src == need->node)
        return -ESTALE; /* no such node any more, at that time */
    if (!m.range_set)   /* nor of what a copy was made of: it is a hole */
        m.range.off = need->off;
    uint64_t end = m.more ? m.range.off + m.range.len : FILE_SIZE_MAX;
    if (m.range.off != need->off || end <= need->off || end > FILE_SIZE_MAX ||
        extent_check(m.range.extents, m.range.extents_n, need->off, end - need->off))
        return -EBADMSG;
    const struct extent_list all = {.v = m.range.extents, .n = m.range.extents_n};
    struct nrow n;
    int err = node_get(c, need->node, &n);
    if (!err)
        err = span_gaps(c, need->node, SPAN_KNOWN, need->off, end, &unknown);
    for (size_t i = 0; !err && i < unknown.n; i++) {
        cleanup_extents struct extent_list part = {0};
        uint64_t off = unknown.v[i].off, upto = unknown.v[i].end;
        upto = upto < n.size ? upto : n.size; /* a copy's source may have grown since */
        if (off < upto)
            extent_list_slice(&all, off, upto - off, &part);
        err = extents_put(c, need->node, off, unknown.v[i].end, &part);
    }
    if (!err)
        err = span_mark(c, need->node, SPAN_KNOWN, need->off, end);
    if (!err && unknown.n)
        err = stored_count(c, &n);
    return err || !unknown.n ? err : node_put(c, &n);
}

int core_past_forgotten(struct core *c, const struct core_need *need)
{
    struct core_ns ns;
    struct nrow n;
    int err = core_begin(c);
    if (err)
        return err;
    err = ns_get(c, need->ns, &ns);
    if (!err)
        err = node_get(c, need->node, &n);
    if (!err && n.src && n.src_at == need->at && need->at < ns.cursor) {
        n.src_at = ns.cursor;
        err = node_put(c, &n);
    }
    return core_leave(c, err == -ENOENT ? 0 : err);
}

int core_need_answer(struct core *c, const struct core_need *need, struct bytes body, int64_t now,
                     struct core_effects *fx)
{
    cleanup_arena struct arena a = {0};
    uint64_t src, at;
    int err = core_begin(c);
    if (err)
        return err;
    err = need_source(c, need, &src, &at);
    if (!err && (at != need->at || src != need->src))
        err = -EAGAIN;
    if (!err)
        switch (need->kind) {
        case NEED_NAME:
            err = load_name(c, need, body, &a, now, fx);
            break;
        case NEED_PAGE:
            err = load_page(c, need, body, &a, now, fx);
            break;
        case NEED_NODE:
            err = load_node(c, need, body, &a);
            break;
        case NEED_EXTENTS:
            err = load_extents(c, need, body, &a);
            break;
        default:
            err = -EINVAL;
        }
    return core_leave(c, err);
}
