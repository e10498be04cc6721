// SPDX-License-Identifier: Apache-2.0
/* A metadata server whose database was restored from a copy: its journal is another one from some
 * SJID on, and numbers repeat.
 *
 * What is known here is compared with the server's tree as of the newest SJID that both journals
 * have in common (core_resync.c): the state that both went on from. What differs from the base here
 * was done since, in the journal that is lost. The server's row becomes the base again, and what is
 * here stays as it is: it is pending, as if a program had just done it. Then the new journal is
 * read from that SJID on, and meets it by the usual rules.
 *
 * Whoever knows a change sends it, also another device's, nodes under the ids they had: so whoever
 * comes second finds the same there. Three things are not done again. A removal, unless what was
 * removed has another name here (it was moved): the name comes back; nothing is lost by that. The
 * content of a file that is not known here as a whole: the file is what the server has, or is gone
 * until somebody comes who knows it; what is known of it goes on as a conflicted copy. Mount nodes,
 * which only the server makes.
 */
#include "core_lost.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int core_journal_ends(struct core *c, uint64_t ns, uint64_t head, struct core_effects *fx)
{
    cleanup_ids struct ids l = {0};
    struct core_ns info;
    int err = core_begin(c);
    if (err)
        return err;
    err = ns_get(c, ns, &info);
    if (!err && head < info.cursor)
        err = -EINVAL;
    if (!err)
        err = ns_set_end(c, ns, head);
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT request FROM sent WHERE ns = ?1 AND sjid > ?2"
                                      " ORDER BY request");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)head);
    while (!err && (err = tree_step(c->t, s)) == 1) {
        ids_add(&l, (uint64_t)sqlite3_column_int64(s, 0));
        err = 0;
    }
    for (size_t i = 0; !err && i < l.n; i++) {
        err = rebase_unsend(c, l.v[i], fx);
        effect_done(fx, ns, l.v[i], COMMIT_CONFLICT, 0);
    }
    return core_leave(c, err);
}

/* ---- names ----------------------------------------------------------------------------------- */
/* What comes back in a directory that was removed here since brings that back, too. */
static int give(struct lost *w, struct erow *e, uint64_t node, uint32_t type)
{
    int err = entry_assign(w->c, e, node, type, w->now);
    effect_entry(w->fx, w->ns, e->parent, erow_name(e), node);
    return err || !node ? err : rebase_restore(w->c, e->parent, w->fx);
}

/* Whether a name that the server gives the node, and of which nothing is here, was taken from it:
 * it has another one, and this would be one too many. */
static int was_moved(struct lost *w, const struct m_entry *m, bool *yes)
{
    struct nrow dir, n;
    size_t names = 0;
    bool known = false;
    *yes = false;
    int err = node_get(w->c, m->parent, &dir);
    if (!err)
        err = name_known(w->c, &dir, m->name, &known);
    if (err && err != -ENOENT)
        return err;
    err = node_get(w->c, m->node, &n);
    if (!err)
        err = node_names(w->c, m->node, SIZE_MAX >> 1, &names);
    if (!err)
        *yes = names && (known || is_dir(n.type) || names >= n.nlink);
    return err == -ENOENT ? 0 : err;
}

/* Of a name whose base was set: what is here stays, unless the server's takes its place. before:
 * what the base was. A removal of that is none of what the server has, which was removed, too, in
 * the lost journal. */
static int lower_value(struct lost *w, struct erow *e, const struct m_entry *m, uint64_t before)
{
    size_t names = 0;
    bool moved;
    if (e->type == NODE_MOUNT || e->base_type == NODE_MOUNT)
        return give(w, e, e->base_node, e->base_type);
    bool meant = e->pend && e->base_node == before; /* otherwise removed in the lost journal */
    if (!e->node && e->base_node && !meant) {
        int err = was_moved(w, m, &moved);
        return err ? err : moved ? entry_settle(w->c, e) : give(w, e, e->base_node, e->base_type);
    }
    if (e->node && e->node != e->base_node && is_dir(e->base_type)) {
        int err = node_names(w->c, e->base_node, 1, &names);
        if (err || !names) /* a directory that is nowhere here, nor what is in it */
            return err ? err : rebase_entry(w->c, e, w->now, w->fx);
    }
    return entry_settle(w->c, e);
}

static int lower_entry(struct lost *w, const struct m_entry *m)
{
    struct erow e;
    int err = entry_get(w->c, m->parent, m->name, &e);
    if (err == -ENOENT) {
        if (!m->node)
            return 0;
        e = (struct erow){.ns = w->ns, .parent = m->parent, .name_len = m->name.n};
        memcpy(e.name, m->name.p, m->name.n);
        err = 0;
    }
    if (err)
        return err;
    uint64_t before = e.base_node;
    e.base_node = m->node;
    e.base_type = m->node ? (uint32_t)m->inode.type : NODE_NONE;
    e.base_rev = m->node ? m->rev : w->r->sjid ? w->r->sjid : 1; /* not 0: it was asked */
    if (!e.since)
        e.since = w->now;
    if (m->node)
        err = node_load(w->c, w->ns, &m->inode);
    return err ? err : lower_value(w, &e, m, before);
}

/* The names of a node that is not sent again go back to what the server has there. */
static int drop_names(struct lost *w, uint64_t node, struct erow *first, bool *any)
{
    cleanup_ids struct ids names = {0};
    int err = entry_ids(w->c, BY_NODE, node, &names);
    *any = names.n != 0;
    for (size_t i = 0; !err && i < names.n; i++) {
        struct erow e;
        err = entry_by_id(w->c, names.v[i], &e);
        if (!err && i == 0)
            *first = e;
        if (!err)
            err = give(w, &e, e.base_node, e.base_type);
    }
    return err;
}

/* ---- content --------------------------------------------------------------------------------- */
int lost_knowledge(struct core *c, const struct nrow *n, bool *whole, bool *some)
{
    cleanup_spans struct spans gaps = {0}, known = {0};
    int err = span_gaps(c, n->id, SPAN_KNOWN, 0, n->size, &gaps);
    if (!err)
        err = span_list(c, n->id, SPAN_KNOWN, 0, n->size, &known);
    *whole = !gaps.n;
    *some = known.n != 0;
    return err;
}

/* All of it is to be sent; what is not known is a hole. */
static int send_content(struct lost *w, struct nrow *n)
{
    n->pend |= FACET_CONTENT;
    n->src = n->src_at = 0;
    int err = span_mark(w->c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX);
    if (!err)
        err = stored_count(w->c, n);
    return err ? err : span_mark(w->c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX);
}

/* The part that is known goes on as a copy, of the server's file otherwise. */
static int keep_part(struct lost *w, struct nrow *n)
{
    cleanup_spans struct spans known = {0};
    uint64_t copy;
    int err = span_list(w->c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX, &known);
    for (size_t i = 0; !err && i < known.n; i++)
        err = span_mark(w->c, n->id, SPAN_DIRTY, known.v[i].off, known.v[i].end);
    n->src = n->src_at = 0;
    n->pend |= FACET_CONTENT;
    if (!err)
        err = node_put(w->c, n);
    return err ? err : rebase_fork(w->c, n, w->now, &copy, w->fx);
}

static int take_theirs(struct lost *w, struct nrow *n, const struct m_inode *m)
{
    uint64_t len = n->size > m->size ? n->size : m->size;
    if (w->c->hooks.content_changes)
        w->c->hooks.content_changes(w->c->hooks.ctx, n->id, 0, FILE_SIZE_MAX);
    n->pend &= ~FACET_CONTENT;
    n->size = m->size;
    n->stored = m->stored;
    n->src = n->src_at = 0;
    if (!(n->pend & FACET_TIMES))
        n->mtime = m->mtime;
    int err = extents_put(w->c, n->id, 0, FILE_SIZE_MAX, NULL);
    for (int k = SPAN_DIRTY; !err && k <= SPAN_KNOWN; k++)
        err = span_clear(w->c, n->id, (enum span_kind)k, 0, FILE_SIZE_MAX);
    if (!err && m->stored == 0)
        err = span_mark(w->c, n->id, SPAN_KNOWN, 0, FILE_SIZE_MAX);
    effect_add(w->fx, EFFECT_DATA, w->ns, n->id)->len = len;
    return err;
}

int lost_content(struct lost *w, struct nrow *n, const struct m_inode *m)
{
    bool whole, some;
    int err = lost_knowledge(w->c, n, &whole, &some);
    if (err)
        return err;
    if (whole)
        return send_content(w, n);
    if (some)
        w->sum->copies++;
    else
        w->sum->missing++;
    if (some)
        err = keep_part(w, n);
    return err ? err : take_theirs(w, n, m);
}

/* ---- nodes ----------------------------------------------------------------------------------- */
/* They go with its times, also if somebody else makes the node first, without them. */
static int xattrs_again(struct core *c, struct nrow *n)
{
    static const char *const sql[] = {
        "DELETE FROM xattr WHERE node = ?1 AND value IS NULL",
        "UPDATE xattr SET rev = 0, pend = 1 WHERE node = ?1",
    };
    int err = 0;
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)n->id);
        err = tree_step(c->t, s);
    }
    if (!err && sqlite3_changes(tree_db(c->t)))
        n->pend |= FACET_TIMES;
    return err;
}

/* A file of which the server knows nothing and not all is known here. */
static int lower_unknown(struct lost *w, struct nrow *n, bool some, bool *done)
{
    struct erow e;
    bool named;
    *done = !some;
    if (some)
        w->sum->copies++;
    else
        w->sum->missing++;
    int err = some ? node_put(w->c, n) : 0;
    if (!err)
        err = drop_names(w, n->id, &e, &named);
    if (!err && some && named)
        err = rebase_aside(w->c, w->ns, e.parent, erow_name(&e), n->id, n->type, w->now, w->fx);
    if (!err)
        err = node_get(w->c, n->id, n);
    return err;
}

/* A node that is not made again, of which nothing is left but that a program has it open: what is
 * known of it is of no journal any more. Should somebody else make it again, all that a record says
 * of it is newer, whatever the numbers were. */
static int forget_base(struct core *c, struct nrow *n)
{
    static const char *const sql[] = {
        ("DELETE FROM xattr WHERE node = ?1 AND (value IS NULL OR (pend = 0 AND request = 0))"),
        "UPDATE xattr SET rev = 0 WHERE node = ?1"};
    int err = 0;
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)n->id);
        err = tree_step(c->t, s);
    }
    n->content_rev = n->attr_rev = 0;
    n->xattrs_known = true; /* it has none that anybody knows of */
    if (!err)
        err = node_put(c, n);
    return err ? err : node_purge(c, n->id);
}

/* A node that the server does not know. */
static int make_again(struct lost *w, struct nrow *n)
{
    bool whole = true, some = true, done = false, named;
    struct erow e;
    if (n->type == NODE_MOUNT)
        return drop_names(w, n->id, &e, &named);
    int err = n->type == NODE_REG ? lost_knowledge(w->c, n, &whole, &some) : 0;
    if (!err && !whole)
        err = lower_unknown(w, n, some, &done);
    if (err || done)
        return err ? err : forget_base(w->c, n);
    n->pend |= FACET_CREATE;
    n->again = true;
    n->content_rev = n->attr_rev = 0;
    node_gone_at(n, false, w->r->sjid);
    w->sum->bare += !n->xattrs_known; /* it had some, access lists among them maybe */
    n->xattrs_known = true;
    n->complete = is_dir(n->type);
    err = xattrs_again(w->c, n);
    if (!err && n->type == NODE_REG)
        err = send_content(w, n);
    w->sum->pending++;
    return err ? err : node_put(w->c, n);
}

static int count_names(struct lost *w, const struct m_inode *m, struct nrow *n)
{
    struct core_ns ns;
    size_t names = 1;
    int delta = 0;
    int err = nlink_pending(w->c, n, &delta);
    int64_t nlink = (int64_t)(m->gone ? is_dir(n->type) ? 2 : 0 : m->nlink) + delta;
    if (!err)
        err = ns_get(w->c, w->ns, &ns);
    if (!err && is_dir(n->type) && ns.root != n->id)
        err = node_names(w->c, n->id, 1, &names);
    n->links = names || m->gone ? 0 : (uint32_t)m->nlink;
    n->nlink = nlink < 0 || !names ? 0 : (uint32_t)nlink;
    effect_add(w->fx, EFFECT_ATTR, w->ns, n->id);
    return err;
}

static int lower_known(struct lost *w, struct nrow *n, const struct m_inode *m)
{
    uint32_t before = n->pend;
    int err = 0;
    if (n->attr_rev != m->attr_rev) {
        n->attr_rev = m->attr_rev;
        if (n->mode != m->mode || n->uid != m->uid || n->gid != m->gid)
            n->pend |= FACET_ATTR;
    }
    if (n->type == NODE_REG && n->content_rev != m->content_rev)
        err = lost_content(w, n, m);
    n->content_rev = m->content_rev;
    if (!(n->pend & FACET_CONTENT) && (n->mtime != m->mtime || n->ctime > m->ctime))
        n->pend |= FACET_TIMES;
    n->ctime = n->ctime > m->ctime ? n->ctime : m->ctime;
    node_gone_at(n, false, w->r->sjid);
    w->sum->pending += n->pend != before;
    return err;
}

int lost_inode(struct lost *w, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(w->c, m->node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    n.changed = w->now;
    n.since = n.since ? n.since : w->now;
    n.old = 0;
    err = m->gone ? make_again(w, &n) : lower_known(w, &n, m);
    if (!err && !m->gone)
        err = node_put(w->c, &n);
    if (!err)
        err = node_get(w->c, m->node, &n);
    if (!err)
        err = count_names(w, m, &n);
    if (!err && !n.pend)
        n.since = 0;
    if (!err)
        err = node_put(w->c, &n);
    return err == -ENOENT ? 0 : err;
}

int lost_links(struct lost *w, const struct m_inode *m)
{
    struct nrow n;
    int err = node_get(w->c, m->node, &n);
    if (!err)
        err = count_names(w, m, &n);
    if (!err)
        err = node_put(w->c, &n);
    return err == -ENOENT ? 0 : err;
}

/* ---- xattrs ---------------------------------------------------------------------------------- */
/* Not there: what was removed here, and not sent, need not be. */
static int xattr_removed(struct core *c, const struct m_xattr *x)
{
    sqlite3_stmt *s = tree_stmt(c->t, "DELETE FROM xattr WHERE node = ?1 AND name = ?2"
                                      " AND value IS NULL AND request = 0");
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    return tree_step(c->t, s);
}

int lost_xattr(struct lost *w, const struct m_xattr *x)
{
    struct nrow n; /* goes with its node's times, as when it was set */
    int err = x->removed ? xattr_removed(w->c, x) : 0;
    if (err)
        return err;
    sqlite3_stmt *s =
        x->removed
            ? tree_stmt(w->c->t, "UPDATE xattr SET rev = 0, pend = 1 WHERE node = ?1 AND name = ?2"
                                 " AND value IS NOT NULL")
            : tree_stmt(w->c->t, "INSERT INTO xattr(node, name, value, rev, pend, request)"
                                 " VALUES(?1, ?2, ?3, ?4, 0, 0) ON CONFLICT(node, name) DO UPDATE"
                                 " SET rev = ?4, pend = (value IS NOT ?3)");
    effect_add(w->fx, EFFECT_XATTR, w->ns, x->node);
    sqlite3_bind_int64(s, 1, (int64_t)x->node);
    sqlite3_bind_blob64(s, 2, x->name.p, x->name.n, SQLITE_STATIC);
    if (!x->removed && x->value.n)
        sqlite3_bind_blob64(s, 3, x->value.p, x->value.n, SQLITE_STATIC);
    else if (!x->removed)
        sqlite3_bind_zeroblob(s, 3, 0);
    if (!x->removed)
        sqlite3_bind_int64(s, 4, (int64_t)x->rev);
    err = tree_step(w->c->t, s);
    if (!err)
        err = node_get(w->c, x->node, &n);
    return err ? err == -ENOENT ? 0 : err : node_touch(w->c, &n, FACET_TIMES, w->now);
}

int lost_nameless(struct lost *w, uint64_t node)
{
    struct nrow n;
    int err = node_get(w->c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    return n.nlink ? 0 : node_purge(w->c, node);
}

int lost_take(struct core *c, uint64_t ns, const struct m_record *r, int64_t now,
              struct core_lost *sum, struct core_effects *fx)
{
    struct lost w = {.c = c, .ns = ns, .r = r, .now = now, .sum = sum, .fx = fx};
    int err = 0;
    *sum = (struct core_lost){0};
    for (size_t i = 0; !err && i < r->entries_n; i++)
        err = lower_entry(&w, &r->entries[i]);
    for (size_t i = 0; !err && i < r->inodes_n; i++)
        err = lost_inode(&w, &r->inodes[i]);
    for (size_t i = 0; !err && i < r->xattrs_n; i++)
        err = lost_xattr(&w, &r->xattrs[i]);
    for (size_t i = 0; !err && i < r->entries_n; i++)
        if (r->entries[i].node && is_dir((uint32_t)r->entries[i].inode.type))
            err = rebase_one_name(c, r->entries[i].node, now, fx);
    for (size_t i = 0; !err && i < r->entries_n; i++)
        if (r->entries[i].node && is_dir((uint32_t)r->entries[i].inode.type))
            err = rebase_cycles(c, r->entries[i].node, fx);
    for (size_t i = 0; !err && i < r->inodes_n; i++)
        err = lost_nameless(&w, r->inodes[i].node);
    return err;
}

/* ---- what is told of it ---------------------------------------------------------------------- */
struct told {
    struct core_lost lost;
    int64_t when;
};

static void told_key(uint64_t ns, char key[32])
{
    snprintf(key, 32, "lost_%llu", (unsigned long long)ns);
}

int lost_tell(struct core *c, uint64_t ns, const struct core_lost *l, int64_t now)
{
    const struct told t = {.lost = *l, .when = now};
    char key[32];
    told_key(ns, key);
    return l->missing || l->copies || l->bare ? tree_set_blob(c->t, key, &t, sizeof t) : 0;
}

int core_lost_told(struct core *c, uint64_t ns, int64_t now, struct core_lost *out)
{
    struct told t;
    char key[32];
    told_key(ns, key);
    int err = tree_get_blob(c->t, key, &t, sizeof t);
    if (err)
        return err;
    *out = t.lost;
    return now - t.when < LOST_TOLD_NS ? 0 : -ENOENT;
}
