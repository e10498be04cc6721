// SPDX-License-Identifier: Apache-2.0
/* The journal.
 *
 * Records are applied strictly in order, one transaction each, together with the cursor; a commit
 * of our own is settled in that order too (core_settle.c). So the tree is never anything but the
 * namespace as of the cursor plus what is pending. A record is checked as a whole before anything
 * of it is applied.
 *
 * Names come before nodes, and names that go before names that come, so that a node that moves is
 * not seen without a name. What a record leaves without one, though something was written in it
 * here, is named again at the end.
 *
 * A record by this device under a number the tree does not know may have been sent before power
 * loss took the newest transactions: then it is newer than what was pending at the start (`old`),
 * and wins. What was changed since then meets it like anybody else's. So does everything where the
 * tree had planned that number (ns_forgotten): it was given up, because a restored server did not
 * know of it, and came there after all.
 */
#include "core_apply.h"

#include <errno.h>
#include <string.h>

/* ---- nodes ----------------------------------------------------------------------------------- */
static void take_attributes(struct apply *w, struct nrow *n, const struct m_inode *m)
{
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
}

static int take_links(struct apply *w, struct nrow *n, const struct m_inode *m)
{
    int delta = 0;
    int err = nlink_pending(w->c, n, &delta);
    int64_t nlink = (int64_t)(m->gone && is_dir(n->type) ? 2 : m->nlink) + delta;
    if (is_dir(n->type)) {
        size_t names = 0;
        if (!err)
            err = node_names(w->c, n->id, 1, &names);
        struct core_ns ns;
        if (!err)
            err = ns_get(w->c, w->ns, &ns);
        n->links = 0;
        if (names || (!err && ns.root == n->id)) {
            nlink = nlink < 2 ? 2 : nlink;
        } else if (n->nlink == 0 || m->gone) { /* otherwise its name only waits for an answer */
            nlink = 0;
            n->links = m->gone ? 0 : (uint32_t)m->nlink;
        }
    }
    n->nlink = nlink < 0 ? 0 : (uint32_t)nlink;
    effect_add(w->fx, EFFECT_ATTR, w->ns, n->id);
    return err;
}

/* What others made in a directory since is not known: no name is known to be absent, also none that
 * was given here. */
static int forget_names(struct core *c, struct nrow *dir)
{
    static const char *const sql[] = {
        "UPDATE node SET loaded_upto = NULL WHERE id = ?1",
        ("DELETE FROM entry WHERE parent = ?1 AND node = 0 AND base_node = 0 AND pend = 0"
         " AND request = 0"),
        "UPDATE entry SET base_rev = 0 WHERE parent = ?1 AND base_node = 0"};
    int err = 0;
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)dir->id);
        err = tree_step(c->t, s);
    }
    dir->complete = false;
    return err;
}

/* The server has a node that the tree believes to be new: it was committed after all, or others
 * have made it again. */
static int created_after_all(struct apply *w, struct nrow *n)
{
    n->pend &= ~FACET_CREATE;
    n->sent &= ~FACET_CREATE;
    n->src = n->src_at = 0; /* all of it is there */
    bool added;
    idset_add(&w->made, n->id, &added);
    return node_put(w->c, n);
}

/* Before any name of the record meets one here: a directory that others know of is not merged into
 * another one, nor a file given up for one of the same content. */
static int take_made(struct apply *w)
{
    int err = 0;
    for (size_t i = 0; !err && i < w->r->inodes_n; i++) {
        struct nrow n;
        err = w->r->inodes[i].gone ? -ENOENT : node_get(w->c, w->r->inodes[i].node, &n);
        if (!err && ((n.pend | n.sent) & FACET_CREATE))
            err = created_after_all(w, &n);
        err = err == -ENOENT ? 0 : err;
    }
    return err;
}

/* A node that is gone is as it was before, and so it comes back: what else its removal carried was
 * not done. */
static int apply_known(struct apply *w, struct nrow *n, const struct m_inode *m)
{
    int err = 0;
    bool content = w->untold ? m->content_rev != n->content_rev
                             : m->content_rev == w->r->sjid && n->content_rev < w->r->sjid;
    if (m->type == NODE_REG && content && !m->gone) {
        err = apply_content(w, n, m);
        if (!err)
            err = node_get(w->c, m->node, n);
    } else if (!m->gone) {
        n->content_rev = m->content_rev;
    }
    if (!err && !m->gone)
        take_attributes(w, n, m);
    if (!err)
        err = take_links(w, n, m);
    if (!err && w->resync && n->gone && !m->gone && is_dir(n->type))
        err = forget_names(w->c, n);
    node_gone_at(n, m->gone, w->r->sjid);
    if (!err)
        err = node_put(w->c, n);
    if (!err && m->gone && n->nlink == 0) {
        effect_add(w->fx, EFFECT_GONE, w->ns, n->id);
        err = node_purge(w->c, n->id);
    }
    return err;
}

static int apply_inode(struct apply *w, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(w->c, m->node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    bool supersedes = w->supersedes, untold = w->untold;
    bool made = idset_has(&w->made, n.id);
    if (!made && ((n.pend | n.sent) & FACET_CREATE)) {
        made = true;
        err = created_after_all(w, &n);
    }
    /* a forgotten commit of our own has made it; what was made before may be made again by anybody
     */
    w->supersedes |= w->resync && made && !n.again;
    bool unseen = n.gone == GONE_UNSEEN && !m->gone;
    w->untold |= (made || unseen) && !content_told(w, m);
    n.again = n.again && !made;
    if (!err && made && w->resync && is_dir(n.type))
        err = forget_names(w->c, &n);
    if (!err)
        err = apply_known(w, &n, m);
    w->supersedes = supersedes;
    w->untold = untold;
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

/* ---- names ----------------------------------------------------------------------------------- */
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
    int err = node_names(w->c, node, 1, &names);
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

/* What was to be moved to a name that a forgotten commit of our own has given to something else is
 * where the server has it: that is not removed because it was to be moved. */
static int move_superseded(struct apply *w, uint64_t node)
{
    struct nrow n;
    size_t names;
    int err = node_names(w->c, node, 1, &names);
    if (!err && !names)
        err = node_get(w->c, node, &n);
    if (err || names)
        return err == -ENOENT ? 0 : err;
    err = rebase_restore(w->c, node, w->fx);
    return err || !is_dir(n.type) ? err : rebase_cycles(w->c, node, w->fx);
}

/* A directory lives on because of what lives on in it: until nothing changes. */
static int keep_alive(struct apply *w)
{
    int err = 0;
    for (size_t i = 0; !err && w->supersedes && i < w->lost.n; i++)
        err = move_superseded(w, w->lost.v[i]);
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
        struct nrow n;
        bool fresh = node_get(w->c, m->node, &n) == -ENOENT;
        if (fresh)
            ids_add(&w->loaded, m->node);
        err = node_load(w->c, w->ns, &m->inode);
        if (!err && fresh && e.node && e.type == NODE_REG)
            err = keep_content(w, &m->inode);
        if (!err) /* removed here, something new in it there */
            err = rebase_restore(w->c, m->parent, w->fx);
    }
    if (err)
        return err;
    if (e.node == e.base_node || (w->supersedes && e.old)) {
        err = apply_to_clean(w, &e, m);
    } else {
        e.base_node = m->node;
        e.base_type = m->node ? (uint32_t)m->inode.type : NODE_NONE;
        e.base_rev = m->rev ? m->rev : w->r->sjid;
        /* under way: it may yet be committed (the name free again); its answer decides */
        err = e.request ? entry_put(w->c, &e) : rebase_entry(w->c, &e, w->now, w->fx);
    }
    return err;
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
        if (!err)
            err = entry_assign(w->c, &e, 0, NODE_NONE, w->now);
        if (!err && node)
            err = rebase_aside(w->c, w->ns, ns.root, erow_name(&e), node, type, w->now, w->fx);
    }
    return err;
}

/* What lost its name by the record, and for good: a directory too that the server never heard of.
 */
static int forget_lost(struct apply *w, uint64_t node)
{
    struct nrow n;
    size_t names;
    int err = node_get(w->c, node, &n);
    if (!err)
        err = node_names(w->c, node, 1, &names);
    if (err)
        return err == -ENOENT ? 0 : err;
    if (!names && is_dir(n.type) && ((n.pend | n.sent) & FACET_CREATE)) {
        n.nlink = 0;
        err = node_put(w->c, &n);
    }
    return err ? err : node_purge(w->c, node);
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
    int err = take_made(w);
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
    for (size_t i = 0; !err && i < r->entries_n; i++) /* now that each has its one place */
        if (r->entries[i].node && is_dir((uint32_t)r->entries[i].inode.type))
            err = rebase_cycles(w->c, r->entries[i].node, w->fx);
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
        err = forget_lost(w, w->lost.v[i]);
    return err;
}

static void apply_free(struct apply *w)
{
    idset_free(&w->made);
    ids_free(&w->loaded);
    ids_free(&w->lost);
    ids_free(&w->lost_at);
}

int apply_record(struct core *c, uint64_t ns, const struct m_record *r, int64_t now, bool resync,
                 struct core_effects *fx)
{
    struct apply w = {
        .c = c, .ns = ns, .r = r, .now = now, .fx = fx, .resync = resync, .untold = resync};
    int err = apply_all(&w);
    apply_free(&w);
    return err;
}

/* A commit of our own whose nodes met, while it was under way, what the journal of a server had
 * that was restored since: that is not known to be sent any more, so they meet it as somebody
 * else's. */
static int apply_unmarked(struct apply *w)
{
    const struct m_record *r = w->r;
    int err = 0;
    for (size_t i = 0; !err && i < r->inodes_n; i++) {
        const struct m_inode *m = &r->inodes[i];
        struct nrow n;
        err = node_get(w->c, m->node, &n);
        if (!err && !m->gone &&
            ((m->content_rev == r->sjid && n.content_rev < r->sjid) ||
             (m->attr_rev == r->sjid && n.attr_rev < r->sjid)))
            err = apply_inode(w, m);
        err = err == -ENOENT ? 0 : err;
    }
    return err;
}

/* An answer that moved the cursor while the journal was asked for may be from before the server was
 * put back: what has the number now was never met, and nor has what follows it. */
static int same_record(struct core *c, uint64_t ns, const struct m_record *r)
{
    uint64_t mark = 0;
    int err = ns_mark(c, ns, r->sjid, &mark);
    return err ? err : mark && r->mark && mark != r->mark ? -ESTALE : 0;
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
        return core_leave(c, same_record(c, ns, r));
    if (!err && r->sjid != info.cursor + 1)
        err = -EINVAL;
    if (!err && !record_valid(r))
        err = -EBADMSG;
    if (!err)
        err = settle_elsewhere(c, ns, r->sjid, r->device == c->device ? r->request : 0, fx);
    bool known = false;
    if (!err && r->device == c->device && r->request) {
        bool unanswered = request_open(c, r->request);
        err = settle_request(c, r->request, r->sjid, fx);
        known = !err;
        if (err == -ENOENT)
            err = ns_forgotten(c, ns, r->request, &w.supersedes);
        if (!err && unanswered)
            effect_done(fx, ns, r->request, COMMIT_COMMITTED, r->sjid);
    }
    if (!err)
        err = known ? apply_unmarked(&w) : apply_all(&w);
    apply_free(&w);
    if (!err && r->account)
        effect_add(fx, EFFECT_SESSION, ns, 0);
    if (!err)
        err = ns_set_cursor(c, ns, r->sjid, r->mark);
    return core_leave(c, err);
}
