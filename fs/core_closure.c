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
#include "core_closure.h"

#include <errno.h>
#include <stdlib.h>

#define EXTENTS_MAX                                                                                \
    60000               /* of one commit: below IDS_MAX. A file with more pending goes in several */
#define NAMES_MAX 20000 /* of one directory in one commit */
#define CLOSURE_BYTES_MAX (8u << 20) /* of one fsync of a directory in one commit, about */
#define NODE_BYTES 200               /* of a node and its name, about */
#define PIECE_BYTES 200              /* of an extent, its block's id and a receipt, about */
#define TOO_MUCH (-EOVERFLOW) /* a directory was emptied of more names than one commit takes */
#define NO_ROOM (-ENOBUFS)    /* it does not fit any more, or not all of it */
#define SCAN_FACTOR 4 /* rows looked at for one background commit, as a multiple of its bound */

/* ---- closures -------------------------------------------------------------------------------- */
void closure_free(struct closure *w)
{
    idset_free(&w->nodes);
    idset_free(&w->entries);
    idset_free(&w->named);
    idset_free(&w->stuck);
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
    size_t nodes, entries, named, bytes, pieces, undo;
};

static struct mark component_begin(struct closure *w)
{
    w->emptied = 0;
    return (struct mark){w->nodes.ids.n, w->entries.ids.n, w->named.ids.n,
                         w->bytes,       w->pieces,        w->undo_n};
}

static void component_undo(struct closure *w, const struct mark *m)
{
    idset_cut(&w->nodes, m->nodes);
    idset_cut(&w->entries, m->entries);
    idset_cut(&w->named, m->named);
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

/* All names of a node of which something is to be told. They are looked for once, or a file with
 * many links costs their square. */
static int want_names(struct closure *w, uint64_t node)
{
    bool added;
    idset_add(&w->named, node, &added);
    int err = added ? want_entries(w, BY_PENDING_NODE, node) : 0;
    return added && !err ? want_entries(w, BY_BASE, node) : err;
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
    return added && named ? want_entries(w, BY_PENDING_NODE, n->id) : 0;
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
            err = want_entries(w, BY_PENDING_NODE, dir);
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
                  ? node_names(c, e->base_node, 1, &names)
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
            err = want_names(w, e.node);
        if (!err && e.base_node)
            err = want_names(w, e.base_node);
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
int closure_of(struct closure *w, uint64_t node)
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
    c->bounds.depth = o->depth ? o->depth : DEPTH_MAX;
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

/* One more name. All pending names of a node go together: if one cannot, none of the others is
 * tried in turn, of which there may be tens of thousands. */
static int try_name(struct closure *w, uint64_t id)
{
    struct erow e;
    size_t before = w->entries.ids.n;
    bool added;
    int err = entry_by_id(w->c, id, &e);
    if (err)
        return err == -ENOENT ? 0 : err;
    if (idset_has(&w->stuck, e.node) || idset_has(&w->stuck, e.base_node))
        return 0;
    err = try_component(w, id, NULL);
    if (err || w->late || w->entries.ids.n != before || idset_has(&w->entries, id))
        return err;
    if (e.node)
        idset_add(&w->stuck, e.node, &added);
    if (e.base_node)
        idset_add(&w->stuck, e.base_node, &added);
    return 0;
}

static struct scan *scan_of(struct core *c, uint64_t ns)
{
    for (size_t i = 0; i < c->scan_n; i++)
        if (c->scan[i].ns == ns)
            return &c->scan[i];
    c->scan = realloc(c->scan, (c->scan_n + 1) * sizeof *c->scan);
    if (!c->scan)
        abort();
    c->scan[c->scan_n] = (struct scan){.ns = ns};
    return &c->scan[c->scan_n++];
}

/* What cannot go (in a directory that is parked, say) must not keep the rest from being looked at:
 * when a page holds nothing else, the next call goes on behind it. */
int closure_gather(struct closure *w, uint64_t ns)
{
    static const char names[] =
        "SELECT id FROM entry WHERE ns = ?1 AND pend != 0 AND request = 0 AND since <= ?2"
        " AND NOT EXISTS (SELECT 1 FROM node n WHERE n.parked < 0"
        " AND n.id IN (entry.node, entry.base_node)) ORDER BY since, id LIMIT ?3 OFFSET ?4";
    static const char others[] =
        "SELECT id FROM node WHERE ns = ?1 AND pend != 0 AND sent = 0 AND nlink > 0"
        " AND parked >= 0 AND since <= ?2 ORDER BY since, id LIMIT ?3 OFFSET ?4";
    cleanup_ids struct ids entries = {0}, nodes = {0};
    struct scan *at = scan_of(w->c, ns);
    int err = try_late(w, at);
    bool kept = w->nodes.ids.n + w->entries.ids.n > 0;
    if (!err)
        err = pending_page(w, tree_stmt(w->c->t, names), ns, &at->entries, &entries);
    if (!err)
        err = pending_page(w, tree_stmt(w->c->t, others), ns, &at->nodes, &nodes);
    for (size_t i = 0; !err && i < entries.n && !full(w) && !w->late; i++)
        err = try_name(w, entries.v[i]);
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
