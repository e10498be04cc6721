// SPDX-License-Identifier: Apache-2.0
/* What one commit takes along.
 *
 * A closure grows from a node or an entry until it makes sense to the server on its own:
 *  - the names of a node move together: a pending entry brings every pending entry that gives or
 * takes a name of the same node, so that a rename is never half there, a node that lives on is
 * never without a name, and what frees a taken name comes along;
 *  - a directory made here comes before what lies in it; of a directory that is removed all pending
 *    removals inside come along; a moved directory brings pending moves of those above it;
 *  - a node that the server removed, but that lives on here, comes like a new one;
 *  - a new node comes whole, content included; so does the content of a node that replaces another.
 * Rows are collected in the order in which they are found, by a worklist, not by recursion.
 *
 * What does not fit a commit any more waits whole for the next one: who else has the namespace
 * mounted never sees a name before its content, nor half of a file's new content, unless that alone
 * is more than a commit takes. Only a directory that is removed is taken apart, since it is seen
 * while it is being emptied, too: what was in it goes first, from the bottom, then itself.
 * A row that an unanswered commit carries blocks the closure: it is planned again when that is
 * settled.
 */
#include "core_int.h"
#include "idset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXTENTS_MAX                                                                                \
    60000               /* of one commit: below IDS_MAX. A file with more pending goes in several */
#define NAMES_MAX 20000 /* of one directory in one commit */
#define CLOSURE_BYTES_MAX (8u << 20) /* of one fsync of a directory in one commit, about */
#define NODE_BYTES 200               /* of a node and its name, about */
#define PIECE_BYTES 200              /* of an extent, its block's id and a receipt, about */
#define TOO_MUCH (-EOVERFLOW) /* a directory was emptied of more names than one commit takes */
#define NO_ROOM (-ENOBUFS)    /* it does not fit any more, or not all of it */
#define FACETS_ALL (FACET_CREATE | FACET_ATTR | FACET_CONTENT | FACET_TIMES)
#define SCAN_FACTOR 4 /* rows looked at for one background commit, as a multiple of its bound */

/* ---- closures -------------------------------------------------------------------------------- */
struct want {
    uint32_t facets;
    uint32_t pieces; /* ranges and extents that its content adds to the message, at most */
};

struct closure {
    struct core *c;
    bool background; /* only what may_commit allows and is older than quiet */
    int64_t quiet;
    struct idset nodes, entries;
    struct want *wants; /* of nodes */
    size_t wants_cap, entries_done, bytes, pieces;
    struct undo { /* what wants of nodes that were there already said before */
        size_t at;
        struct want was;
    } * undo;
    size_t undo_n, undo_cap;
    uint64_t emptied; /* the first removed directory in this component that had names; 0: none */
    bool whole;       /* emptied directories are not taken apart */
    bool partial;     /* not all of what was asked for fits */
    bool late;        /* what comes next in the background does not: this */
    uint64_t late_entry, late_node;
    uint64_t damaged; /* a file with an extent that makes no sense; 0: none */
};

static void closure_free(struct closure *w)
{
    idset_free(&w->nodes);
    idset_free(&w->entries);
    free(w->wants);
    free(w->undo);
}

static void *grown(void *p, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return p;
    while (n >= *cap)
        *cap = *cap ? 2 * *cap : 64;
    p = realloc(p, *cap * size);
    if (!p)
        abort();
    return p;
}

/* Where a component begins, to go back to if it cannot come along. */
struct mark {
    size_t nodes, entries, bytes, pieces, undo;
};

static struct mark component_begin(struct closure *w)
{
    w->emptied = 0;
    return (struct mark){w->nodes.ids.n, w->entries.ids.n, w->bytes, w->pieces, w->undo_n};
}

static void component_undo(struct closure *w, const struct mark *m)
{
    idset_cut(&w->nodes, m->nodes);
    idset_cut(&w->entries, m->entries);
    w->entries_done = m->entries;
    w->bytes = m->bytes;
    w->pieces = m->pieces;
    while (w->undo_n > m->undo) {
        w->undo_n--;
        w->wants[w->undo[w->undo_n].at] = w->undo[w->undo_n].was;
    }
}

/* Rows that one commit takes of what can be cut between names. */
static size_t rows_max(const struct closure *w)
{
    return w->background ? w->c->bounds.rows : w->c->bounds.names;
}

static size_t rows_of(const struct closure *w)
{
    return (w->background ? w->nodes.ids.n : 0) + w->entries.ids.n;
}

static bool full(const struct closure *w)
{
    return rows_of(w) >= rows_max(w) || w->pieces >= w->c->bounds.extents ||
           w->bytes >= (w->background ? BACKGROUND_BYTES_MAX : CLOSURE_BYTES_MAX);
}

/* Whether the component that began at m may join what was there before. */
static bool fits(const struct closure *w, const struct mark *m)
{
    if (m->pieces && w->pieces > w->c->bounds.extents)
        return false;
    return !w->background || m->nodes + m->entries == 0 ||
           (rows_of(w) <= rows_max(w) && w->bytes <= BACKGROUND_BYTES_MAX);
}

static void want_entry(struct closure *w, uint64_t id)
{
    bool added;
    idset_add(&w->entries, id, &added);
}

static int want_entries(struct closure *w, enum entry_by by, uint64_t key)
{
    cleanup_ids struct ids l = {0};
    int err = entry_ids(w->c, by, key, &l);
    for (size_t i = 0; !err && i < l.n; i++)
        want_entry(w, l.v[i]);
    return err;
}

/* What the node itself adds to the message: mostly xattrs and targets. */
static int weigh(struct closure *w, const struct nrow *n)
{
    sqlite3_stmt *s = tree_stmt(w->c->t, "SELECT total(length(name) + length(value)) FROM xattr"
                                         " WHERE node = ?1 AND pend != 0 AND request = 0");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    int rc = tree_step(w->c->t, s);
    if (rc < 0)
        return rc;
    w->bytes += NODE_BYTES + (size_t)sqlite3_column_int64(s, 0);
    if (n->type == NODE_SYMLINK)
        w->bytes += n->size;
    sqlite3_reset(s);
    return 0;
}

/* What its content adds: counted up to one more than a commit takes. -EIO: there is a block id in
 * it that is none. */
static int weigh_content(struct closure *w, const struct nrow *n, struct want *out)
{
    sqlite3_stmt *s = tree_stmt(
        w->c->t, "SELECT count(*), total(n != ?4) FROM (SELECT ?4 AS n FROM span s"
                 " WHERE s.node = ?1 AND s.kind = 0 AND s.off < ?2"
                 " UNION ALL SELECT length(x.block) FROM span s CROSS JOIN extent x"
                 " ON x.node = ?1 AND x.off < s.end AND x.off + x.len > s.off AND x.off >="
                 " coalesce((SELECT max(off) FROM extent WHERE node = ?1 AND off <= s.off), 0)"
                 " WHERE s.node = ?1 AND s.kind = 0 AND s.off < ?2 LIMIT ?3)");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    sqlite3_bind_int64(s, 2, (int64_t)n->size);
    sqlite3_bind_int64(s, 3, (int64_t)w->c->bounds.extents + 1);
    sqlite3_bind_int64(s, 4, BLOCK_ID_LEN);
    int rc = tree_step(w->c->t, s);
    if (rc < 0)
        return rc;
    out->pieces = (uint32_t)sqlite3_column_int64(s, 0);
    bool damaged = sqlite3_column_int64(s, 1) != 0;
    sqlite3_reset(s);
    if (damaged) { /* the file alone stops */
        tree_note_damage(w->c->t);
        w->damaged = n->id;
        return -EIO;
    }
    w->pieces += out->pieces;
    w->bytes += (size_t)out->pieces * PIECE_BYTES;
    return 0;
}

/* Takes facets of a node along. A new one comes with its names. */
static int want_node(struct closure *w, const struct nrow *n, uint32_t facets)
{
    bool added;
    if (parked_for(n))
        return parked_for(n);
    if (n->sent)
        return -EAGAIN;
    if ((n->pend & FACET_CREATE) || n->gone)
        facets = FACETS_ALL;
    if (w->background && (facets & n->pend & FACET_CONTENT) &&
        (n->changed > w->quiet ||
         (w->c->hooks.may_commit && !w->c->hooks.may_commit(w->c->hooks.ctx, n->id))))
        return -EBUSY;
    size_t i = idset_add(&w->nodes, n->id, &added);
    w->wants = grown(w->wants, &w->wants_cap, i, sizeof *w->wants);
    struct want *k = &w->wants[i];
    if (added) {
        *k = (struct want){0};
    } else if (facets & ~k->facets) {
        w->undo = grown(w->undo, &w->undo_cap, w->undo_n, sizeof *w->undo);
        w->undo[w->undo_n++] = (struct undo){i, *k};
    }
    bool content = (facets & ~k->facets & n->pend & FACET_CONTENT) != 0;
    k->facets |= facets;
    int err = added ? weigh(w, n) : 0;
    if (!err && content)
        err = weigh_content(w, n, k);
    if (err)
        return err;
    bool named = (n->pend & FACET_CREATE) || n->gone; /* by the same commit */
    return added && named ? want_entries(w, BY_NODE, n->id) : 0;
}

/* The directory in which a pending name lies: there before the name is. One that the server has
 * holds nothing back, even if a change of its own was refused. */
static int want_above(struct closure *w, uint64_t dir)
{
    struct nrow p;
    int err = node_get(w->c, dir, &p);
    if (err) /* not loaded: the server has it */
        return err == -ENOENT ? 0 : err;
    if (p.sent & FACET_CREATE)
        return -EAGAIN;
    return (p.pend & FACET_CREATE) || p.gone ? want_node(w, &p, FACETS_ALL) : 0;
}

/* A moved directory: pending moves of those above its new place. */
static int want_moves_above(struct closure *w, uint64_t dir)
{
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        struct nrow n;
        int err = node_get(w->c, dir, &n);
        if (!err && !(n.pend & FACET_CREATE))
            err = want_entries(w, BY_NODE, dir);
        if (!err)
            err = node_parent(w->c, &n, &dir);
        if (err)
            return err == -ENOENT ? 0 : err;
    }
    return -ELOOP;
}

static int grow_child(struct closure *w, const struct erow *e)
{
    struct nrow y;
    int err = node_get(w->c, e->node, &y);
    if (err)
        return err;
    if (parked_for(&y))
        return parked_for(&y);
    if (y.sent & FACET_CREATE)
        return -EAGAIN;
    if ((y.pend & FACET_CREATE) || y.gone)
        return want_node(w, &y, FACETS_ALL);
    if (e->base_node && (y.pend & FACET_CONTENT))
        err = want_node(w, &y, FACET_CONTENT);
    if (!err && is_dir(y.type))
        err = want_moves_above(w, e->parent);
    return err;
}

/* Names in a directory of which something is to be told, max at most. */
static int names_in(struct core *c, uint64_t dir, size_t max, struct ids *out)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id FROM entry WHERE parent = ?1 AND pend != 0"
                                      " ORDER BY id LIMIT ?2");
    sqlite3_bind_int64(s, 1, (int64_t)dir);
    sqlite3_bind_int64(s, 2, (int64_t)max);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(out, (uint64_t)sqlite3_column_int64(s, 0));
    return rc;
}

/* Whether the name is that of a directory that is removed. */
static int removes_dir(struct core *c, const struct erow *e, bool *yes)
{
    size_t names = 1;
    int err = e->base_node && e->base_node != e->node && is_dir(e->base_type)
                  ? node_names(c, e->base_node, &names)
                  : 0;
    *yes = names == 0;
    return err;
}

static int grow_base(struct closure *w, const struct erow *e)
{
    cleanup_ids struct ids l = {0};
    size_t max = w->whole ? SIZE_MAX >> 1 : rows_max(w), before = w->entries.ids.n;
    bool removed;
    int err = removes_dir(w->c, e, &removed);
    if (err || !removed)
        return err;
    err = names_in(w->c, e->base_node, max + 1, &l);
    for (size_t i = 0; !err && i < l.n && l.n <= max; i++)
        want_entry(w, l.v[i]);
    if (err || (l.n <= max && w->entries.ids.n == before))
        return err;
    if (!w->emptied)
        w->emptied = e->base_node;
    return l.n > max || rows_of(w) > max ? TOO_MUCH : 0;
}

static int grow(struct closure *w)
{
    int err = 0;
    while (!err && w->entries_done < w->entries.ids.n) {
        struct erow e;
        err = entry_by_id(w->c, w->entries.ids.v[w->entries_done++], &e);
        if (err == -ENOENT) {
            err = 0;
            continue;
        }
        if (!err && e.request)
            err = e.pend ? -EAGAIN : 0;
        if (err || !e.pend)
            continue;
        err = want_above(w, e.parent);
        if (!err && e.node)
            err = want_entries(w, BY_NODE, e.node);
        if (!err && e.node)
            err = want_entries(w, BY_BASE, e.node);
        if (!err && e.base_node)
            err = want_entries(w, BY_NODE, e.base_node);
        if (!err && e.base_node)
            err = want_entries(w, BY_BASE, e.base_node);
        if (!err && e.node)
            err = grow_child(w, &e);
        if (!err)
            err = grow_base(w, &e);
    }
    return err;
}

/* What keeps one component from going now, and nothing else. */
static bool waits(int err)
{
    return err == -EAGAIN || err == -EBUSY || err == -EDQUOT || err == -EROFS || err == -EACCES ||
           err == -E2BIG || err == -EINVAL || err == -EIO || err == -ENOENT || err == TOO_MUCH ||
           err == NO_ROOM;
}

/* A name, or a node, with all that goes with it. If it cannot come along, nothing of it does. */
static int component(struct closure *w, uint64_t entry, const struct nrow *n)
{
    struct mark m = component_begin(w);
    int err = 0;
    if (entry)
        want_entry(w, entry);
    if (n)
        err = want_node(w, n, FACETS_ALL);
    if (!err)
        err = grow(w);
    if (!err && fits(w, &m))
        return 0;
    component_undo(w, &m);
    return err ? err : NO_ROOM;
}

/* ---- emptied directories ---- */
struct level { /* a removed directory whose names are being taken */
    struct ids names;
    size_t next;
    uint64_t entry; /* its own name, taken when they are through; 0: not here */
};
struct levels {
    struct level *v;
    size_t n, cap;
    int why;            /* the first that could not be taken: why */
    uint64_t elsewhere; /* … and that is in the way */
};

static int level_push(struct closure *w, struct levels *st, uint64_t dir, uint64_t entry)
{
    st->v = grown(st->v, &st->cap, st->n, sizeof *st->v);
    st->v[st->n] = (struct level){.entry = entry};
    return names_in(w->c, dir, rows_max(w), &st->v[st->n++].names);
}

static int level_name(struct closure *w, struct levels *st, uint64_t entry)
{
    int err = component(w, entry, NULL);
    if (err && !st->why) {
        st->why = err;
        st->elsewhere = w->emptied;
    }
    return waits(err) ? 0 : err;
}

static int level_step(struct closure *w, struct levels *st)
{
    struct level *l = &st->v[st->n - 1];
    struct erow e;
    bool removed;
    if (l->next == l->names.n) {
        ids_free(&l->names);
        st->n--;
        return l->entry ? level_name(w, st, l->entry) : 0;
    }
    uint64_t id = l->names.v[l->next++];
    int err = entry_by_id(w->c, id, &e);
    if (!err)
        err = removes_dir(w->c, &e, &removed);
    if (err)
        return err == -ENOENT ? 0 : err;
    return removed ? level_push(w, st, e.base_node, id) : level_name(w, st, id);
}

/* Names that were in a removed directory, from the bottom, as many as fit; NO_ROOM then. TOO_MUCH:
 * none can go before the directory does. */
static int empty_first(struct closure *w, uint64_t dir)
{
    struct idset tried = {0};
    size_t before = w->entries.ids.n;
    bool added = true;
    int err = TOO_MUCH;
    while (err == TOO_MUCH && dir) {
        struct levels st = {0};
        idset_add(&tried, dir, &added);
        if (!added)
            break;
        err = level_push(w, &st, dir, 0);
        while (!err && st.n && !full(w))
            err = level_step(w, &st);
        while (st.n)
            ids_free(&st.v[--st.n].names);
        free(st.v);
        if (!err) /* their new names may be those of another one that was emptied */
            err = w->entries.ids.n > before ? NO_ROOM : st.why ? st.why : -EAGAIN;
        dir = st.elsewhere;
    }
    idset_free(&tried);
    return err;
}

/* A component; of one that empties a directory of more than fits, first what was in there. */
static int component_or_part(struct closure *w, uint64_t entry, const struct nrow *n)
{
    int err = component(w, entry, n);
    if (err == TOO_MUCH && full(w))
        return NO_ROOM;
    if (err == TOO_MUCH)
        err = empty_first(w, w->emptied);
    if (err != TOO_MUCH)
        return err;
    if (w->entries.ids.n) /* the next commit is for it */
        return NO_ROOM;
    w->whole = true;
    err = component(w, entry, n);
    w->whole = false;
    return err;
}

/* ---- what is asked for ---- */
/* Pending names of a directory, as many as one commit takes. */
static int want_names_in(struct closure *w, uint64_t dir)
{
    cleanup_ids struct ids l = {0};
    int err = names_in(w->c, dir, rows_max(w) + 1, &l);
    for (size_t i = 0; !err && i < l.n && !w->partial; i++) {
        err = component_or_part(w, l.v[i], NULL);
        w->partial = err == NO_ROOM || (full(w) && i + 1 < l.n);
        if (err == NO_ROOM)
            err = 0;
    }
    return err;
}

/* fsync of one node. */
static int close_over(struct closure *w, uint64_t node)
{
    struct nrow n;
    int err = node_get(w->c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    if (n.nlink == 0)
        return 0;
    if (n.sent)
        return -EAGAIN;
    err = component_or_part(w, 0, &n);
    w->partial |= err == NO_ROOM;
    if (err)
        return err == NO_ROOM ? 0 : err;
    return n.type == NODE_DIR ? want_names_in(w, node) : 0;
}

static int park_damaged(struct closure *w)
{
    sqlite3_stmt *s = tree_stmt(w->c->t, "UPDATE node SET parked = ?2 WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)w->damaged);
    sqlite3_bind_int64(s, 2, -EIO);
    w->damaged = 0;
    return tree_step(w->c->t, s);
}

/* One more component for a background commit, or none of it. */
static int try_component(struct closure *w, uint64_t entry, const struct nrow *n)
{
    int err = component_or_part(w, entry, n);
    if (w->damaged) /* told as what was refused is */
        err = park_damaged(w);
    w->late = err == NO_ROOM;
    w->late_entry = entry;
    w->late_node = n ? n->id : 0;
    return waits(err) ? 0 : err;
}

void bounds_set(struct core *c, const struct core_bounds *o)
{
    c->bounds.rows = o->rows ? o->rows : BACKGROUND_ROWS_MAX;
    c->bounds.names = o->names ? o->names : NAMES_MAX;
    c->bounds.extents = o->extents ? o->extents : EXTENTS_MAX;
}

/* A page of what is pending, oldest first, from *at on: *at moves to the next page, or to the
 * beginning. */
static int pending_page(struct closure *w, sqlite3_stmt *s, uint64_t ns, uint64_t *at,
                        struct ids *out)
{
    size_t limit = (size_t)SCAN_FACTOR * w->c->bounds.rows;
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, w->quiet);
    sqlite3_bind_int64(s, 3, (int64_t)limit);
    sqlite3_bind_int64(s, 4, (int64_t)*at);
    int rc;
    while ((rc = tree_step(w->c->t, s)) == 1)
        ids_add(out, (uint64_t)sqlite3_column_int64(s, 0));
    *at = out->n == limit ? *at + limit : 0;
    return rc;
}

static int try_nodes(struct closure *w, const struct ids *nodes)
{
    int err = 0;
    for (size_t i = 0; !err && i < nodes->n && !full(w) && !w->late; i++) {
        struct nrow n;
        err = node_get(w->c, nodes->v[i], &n);
        if (!err)
            err = try_component(w, 0, &n);
    }
    return err;
}

/* What did not fit the last time comes first, and so does fit: what is new never keeps it waiting.
 * Again, until it is under way: a batch may be planned several times while it is uploaded. */
static int try_late(struct closure *w, struct scan *at)
{
    struct erow e;
    struct nrow n;
    int err = 0;
    if (at->late_entry) {
        err = entry_by_id(w->c, at->late_entry, &e);
        if (!err && e.ns == at->ns && e.pend && !e.request)
            err = try_component(w, e.id, NULL);
    } else if (at->late_node) {
        err = node_get(w->c, at->late_node, &n);
        if (!err && n.ns == at->ns && n.pend && !n.sent && n.nlink > 0)
            err = try_component(w, 0, &n);
    }
    w->late = false;
    if (w->nodes.ids.n + w->entries.ids.n == 0)
        at->late_entry = at->late_node = 0;
    return err == -ENOENT ? 0 : err;
}

/* What cannot go (in a directory that is parked, say) must not keep the rest from being looked at:
 * when a page holds nothing else, the next call goes on behind it. */
static int gather(struct closure *w, uint64_t ns)
{
    static const char names[] =
        "SELECT id FROM entry WHERE ns = ?1 AND pend != 0 AND request = 0 AND since <= ?2"
        " AND NOT EXISTS (SELECT 1 FROM node n WHERE n.parked < 0"
        " AND n.id IN (entry.node, entry.base_node)) ORDER BY since, id LIMIT ?3 OFFSET ?4";
    static const char others[] =
        "SELECT id FROM node WHERE ns = ?1 AND pend != 0 AND sent = 0 AND nlink > 0"
        " AND parked >= 0 AND since <= ?2 ORDER BY since, id LIMIT ?3 OFFSET ?4";
    cleanup_ids struct ids entries = {0}, nodes = {0};
    struct scan *at = &w->c->scan[ns % SCANS];
    if (at->ns != ns)
        *at = (struct scan){.ns = ns};
    int err = try_late(w, at);
    bool kept = w->nodes.ids.n + w->entries.ids.n > 0;
    if (!err)
        err = pending_page(w, tree_stmt(w->c->t, names), ns, &at->entries, &entries);
    if (!err)
        err = pending_page(w, tree_stmt(w->c->t, others), ns, &at->nodes, &nodes);
    for (size_t i = 0; !err && i < entries.n && !full(w) && !w->late; i++)
        err = try_component(w, entries.v[i], NULL);
    if (!err)
        err = try_nodes(w, &nodes);
    if (w->nodes.ids.n + w->entries.ids.n)
        at->entries = at->nodes = 0;
    if (w->late && !kept) {
        at->late_entry = w->late_entry;
        at->late_node = w->late_node;
    }
    return err;
}

/* ---- turning the closure into changes -------------------------------------------------------- */
struct writer {
    struct core *c;
    uint64_t request;
    struct arena a;
    struct m_changes m;
    struct m_block_ref *ids;
    size_t ids_n, ids_cap, extents;
    bool mark;    /* store what is sent; otherwise only the ids are wanted */
    bool partial; /* something of what was asked for is left for a further commit */
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

/* Removed ones first: they make room. */
static int write_xattrs(struct writer *w, uint64_t node)
{
    sqlite3_stmt *s =
        tree_stmt(w->c->t, "SELECT name, value, rev FROM xattr WHERE node = ?1 AND pend != 0"
                           " AND request = 0 ORDER BY value IS NOT NULL, name");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc;
    while ((rc = tree_step(w->c->t, s)) == 1) {
        struct m_xattr_change *grown = arena_alloc(&w->a, (w->m.xattrs_n + 1) * sizeof *grown);
        if (w->m.xattrs_n)
            memcpy(grown, w->m.xattrs, w->m.xattrs_n * sizeof *grown);
        w->m.xattrs = grown;
        grown[w->m.xattrs_n++] = (struct m_xattr_change){
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
        err = node_names(w->c, e.base_node, &names);
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

static int store_sent(struct core *c, uint64_t ns, uint64_t request, const struct buf *changes)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "INSERT INTO sent(request, ns, changes, sjid, cursor) VALUES(?1, ?2, ?3, 0,"
                        " (SELECT cursor FROM ns WHERE id = ?2))");
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
        plan->ids = w.ids;
        plan->ids_n = w.ids_n;
        plan->partial = w.partial || cl->partial;
        w.ids = NULL;
        err = store_sent(c, ns, w.request, &plan->changes);
        c->request_next++;
        if (!err)
            err = ns_set_clean(c, ns);
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
    return n.cursor < hold ? -EAGAIN : 0;
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
        err = close_over(&w, nodes[i]);
    if (!err && n == 0)
        err = gather(&w, ns);
    if (!err)
        err = make_plan(c, &w, ns, plan, need);
    closure_free(&w);
    if (err) {
        core_end(c, false);
        core_plan_free(plan);
        return err;
    }
    return core_leave(c, 0);
}

int core_closure_blocks(struct core *c, uint64_t node, struct m_block_ref **out, size_t *n)
{
    struct closure cl = {.c = c};
    struct writer w = {.c = c};
    struct core_need need;
    *out = NULL;
    *n = 0;
    int err = close_over(&cl, node);
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
    arena_free(&w.a);
    unique_blocks(&w);
    plan->ids = w.ids;
    plan->ids_n = w.ids_n;
    err = lowest_open(c, ns, &plan->lowest_open);
    if (err)
        core_plan_free(plan);
    return err;
}
