// SPDX-License-Identifier: Apache-2.0
/* Conflicts: what becomes of pending changes whose base the server changed meanwhile.
 *
 * The server's newer state is taken into the tree as the new base; the local difference is kept
 * wherever that makes sense, moved aside under a conflicted copy's name where two things want one
 * place, and dropped only where nothing that a program wrote is lost by it (a removal that meets an
 * edit, a move that would close a cycle). The rules: fs/CONFLICTS.md.
 */
#include "copyname.h"
#include "core_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COPIES_IN_ORDER 1000 /* of one name and date: 2, 3, …; then any number that is free */
#define COPY_NUMBERS 1000000000u

int rebase_name(struct core *c, uint64_t parent, struct bytes name, int64_t now, uint8_t *out,
                size_t *len)
{
    struct copy_name copy;
    if (copyname_parse(name, &copy)) /* a copy of a copy is one of the original */
        name = bytes_of(copy.original, copy.original_len);
    for (unsigned k = 1;; k++) {
        struct erow e;
        unsigned number = k;
        if (k > COPIES_IN_ORDER) /* the counter of nodes: of what this device makes none has it */
            number = COPIES_IN_ORDER + (unsigned)((c->node_next + k) % COPY_NUMBERS);
        *len = copyname_make(name, c->device_name, now, number, out);
        int err = entry_get(c, parent, bytes_of(out, *len), &e);
        if (err == -ENOENT || (err == 0 && e.node == 0 && e.base_node == 0))
            return 0;
        if (err)
            return err;
    }
}

int rebase_aside(struct core *c, uint64_t ns, uint64_t parent, struct bytes name, uint64_t node,
                 uint32_t type, int64_t now, struct core_effects *fx)
{
    struct erow e = {.ns = ns, .parent = parent};
    int err = rebase_name(c, parent, name, now, e.name, &e.name_len);
    if (!err) {
        struct erow old;
        if (entry_get(c, parent, erow_name(&e), &old) == 0)
            e = old;
        err = entry_assign(c, &e, node, type, now);
    }
    effect_entry(fx, ns, parent, erow_name(&e), node);
    return err;
}

/* Whether something can be named in the directory: it was not removed here. */
static int is_named(struct core *c, uint64_t dir, uint64_t root, bool *yes)
{
    size_t names = 0;
    struct nrow d;
    int err = node_get(c, dir, &d);
    *yes = dir == root || err == -ENOENT; /* not loaded: the server has it */
    if (err || *yes)
        return err == -ENOENT ? 0 : err;
    err = node_names(c, dir, 1, &names);
    *yes = names > 0;
    return err;
}

/* Names a copy of n: beside n, or, where the names that are known of it are gone, where one was.
 * What is named only where nothing is known has its copy at the top. */
static int name_copy(struct core *c, const struct nrow *n, const struct nrow *copy, int64_t now,
                     struct core_effects *fx)
{
    cleanup_ids struct ids names = {0};
    struct core_ns ns;
    struct erow e;
    bool yes = false;
    int err = ns_get(c, n->ns, &ns);
    if (!err)
        err = entry_ids(c, BY_NODE, n->id, &names);
    if (!err)
        err = entry_ids(c, BY_BASE, n->id, &names);
    for (size_t i = 0; !err && !yes && i < names.n; i++) {
        err = entry_by_id(c, names.v[i], &e);
        if (!err)
            err = is_named(c, e.parent, ns.root, &yes);
    }
    if (!err && !yes) {
        e.parent = ns.root;
        e.name_len = (size_t)snprintf((char *)e.name, sizeof e.name, "recovered-%llx",
                                      (unsigned long long)n->id);
    }
    return err ? err
               : rebase_aside(c, n->ns, e.parent, erow_name(&e), copy->id, copy->type, now, fx);
}

/* ---- content --------------------------------------------------------------------------------- */
static int move_rows(struct core *c, uint64_t from, uint64_t to)
{
    static const char *const sql[] = {
        "UPDATE extent SET node = ?2 WHERE node = ?1",
        "DELETE FROM span WHERE node = ?2",
        "UPDATE span SET node = ?2 WHERE node = ?1 AND kind = 2",
        ("INSERT INTO xattr(node, name, value, rev, pend, request) SELECT ?2, name, value, 0, 1, 0"
         " FROM xattr WHERE node = ?1 AND value IS NOT NULL"),
    };
    for (size_t i = 0; i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)from);
        sqlite3_bind_int64(s, 2, (int64_t)to);
        int err = tree_step(c->t, s);
        if (err)
            return err;
    }
    return 0;
}

/* Copies back what the copy has and the original did not change: known, and neither dirty nor sent.
 */
static int copy_clean(struct core *c, uint64_t from, uint64_t to, const struct spans *changed)
{
    cleanup_spans struct spans known = {0};
    int err = span_list(c, from, SPAN_KNOWN, 0, FILE_SIZE_MAX, &known);
    for (size_t i = 0; !err && i < known.n; i++) {
        cleanup_extents struct extent_list l = {0};
        err = extents_get(c, from, known.v[i].off, known.v[i].end, &l);
        if (!err)
            err = extents_put(c, to, known.v[i].off, known.v[i].end, &l);
        if (!err)
            err = span_mark(c, to, SPAN_KNOWN, known.v[i].off, known.v[i].end);
    }
    for (size_t i = 0; !err && i < changed->n; i++) {
        err = extents_put(c, to, changed->v[i].off, changed->v[i].end, NULL);
        if (!err)
            err = span_clear(c, to, SPAN_KNOWN, changed->v[i].off, changed->v[i].end);
    }
    return err;
}

int rebase_fork(struct core *c, struct nrow *n, int64_t now, uint64_t *copy,
                struct core_effects *fx)
{
    cleanup_spans struct spans changed = {0};
    struct core_ns ns;
    struct nrow k = *n;
    int err = ns_get(c, n->ns, &ns);
    if (!err)
        err = span_list(c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX, &changed);
    if (!err)
        err = span_list(c, n->id, SPAN_SENT, 0, FILE_SIZE_MAX, &changed);
    if (!err)
        err = node_new_id(c, &k.id);
    if (err)
        return err;
    content_announce(c, n->id, &changed);
    k.src = n->src ? n->src : n->id;
    k.src_at = n->src ? n->src_at : ns.cursor;
    k.pend = FACET_CREATE | FACET_CONTENT;
    k.sent = k.old = 0;
    k.request = 0;
    k.content_rev = k.attr_rev = 0;
    k.nlink = 0;
    k.since = k.changed = now;
    k.parked = 0;
    k.tries = 0;
    k.again = false;
    k.xattrs_known = true; /* those that are known go with it; nobody can be asked for a copy's */
    err = node_put(c, &k);
    if (!err)
        err = move_rows(c, n->id, k.id);
    if (!err)
        err = copy_clean(c, k.id, n->id, &changed);
    if (!err)
        err = span_clear(c, n->id, SPAN_DIRTY, 0, FILE_SIZE_MAX);
    if (!err)
        err = span_clear(c, n->id, SPAN_SENT, 0, FILE_SIZE_MAX);
    if (!err)
        err = span_mark(c, k.id, SPAN_DIRTY, 0, FILE_SIZE_MAX);
    n->pend &= ~FACET_CONTENT;
    n->sent &= ~FACET_CONTENT;
    if (!err)
        err = node_put(c, n);
    if (!err)
        err = name_copy(c, n, &k, now, fx);
    *copy = k.id;
    if (!err)
        effect_add(fx, EFFECT_FORK, n->ns, n->id)->other = k.id;
    return err;
}

int core_fork(struct core *c, const struct core_who *who, uint64_t node,
              const struct extent_list *extents, uint64_t size, struct core_attr *out,
              struct core_effects *fx)
{
    struct nrow n, k;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err) {
        k = n;
        k.size = size;
        k.pend = FACET_CREATE | FACET_CONTENT;
        k.sent = k.old = 0;
        k.request = k.content_rev = k.attr_rev = k.src = k.src_at = 0;
        k.nlink = 0;
        k.again = false;
        k.stored = extent_list_stored(extents);
        k.since = k.changed = k.ctime = who->now;
        k.parked = 0;
        k.tries = 0;
        k.xattrs_known = true;
        err = node_new_id(c, &k.id);
    }
    if (!err)
        err = node_put(c, &k);
    if (!err)
        err = extents_put(c, k.id, 0, FILE_SIZE_MAX, extents);
    if (!err)
        err = span_mark(c, k.id, SPAN_KNOWN, 0, FILE_SIZE_MAX);
    if (!err)
        err = span_mark(c, k.id, SPAN_DIRTY, 0, FILE_SIZE_MAX);
    if (!err && n.nlink) /* otherwise nobody can ask for it, as for n */
        err = name_copy(c, &n, &k, who->now, fx);
    if (!err)
        err = node_get(c, k.id, &k);
    if (!err)
        attr_of(&k, out);
    return core_leave(c, err == -ENOENT ? -ESTALE : err);
}

/* ---- names ----------------------------------------------------------------------------------- */
/* A name that the server has for the node and that is not there any more; e: its row. */
static int name_back(struct core *c, uint64_t name, const struct nrow *n, struct erow *e,
                     struct core_effects *fx)
{
    int err = entry_by_id(c, name, e);
    if (err)
        return err;
    if (e->request && e->sent_base != n->id) /* not removed: its name waits for an answer */
        return -EAGAIN;
    if (e->node) /* its place was taken meanwhile: that goes aside */
        err = rebase_aside(c, e->ns, e->parent, erow_name(e), e->node, e->type, n->changed, fx);
    if (!err)
        err = entry_assign(c, e, n->id, n->type, n->changed);
    if (!err)
        effect_entry(fx, e->ns, e->parent, erow_name(e), n->id);
    return err;
}

/* All names of a file: of one alone others may have the last word. */
static int names_back(struct core *c, const struct nrow *n, const struct ids *names,
                      struct core_effects *fx)
{
    int err = 0;
    for (size_t i = 0; !err && i < names->n; i++) {
        struct erow e;
        err = name_back(c, names->v[i], n, &e, fx);
        if (!err)
            err = rebase_restore(c, e.parent, fx);
        err = err == -EAGAIN || err == -ENOENT ? 0 : err;
    }
    return err;
}

int rebase_restore(struct core *c, uint64_t node, struct core_effects *fx)
{
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        cleanup_ids struct ids names = {0};
        uint64_t name;
        struct erow e;
        struct nrow n;
        int err = node_get(c, node, &n);
        if (err)
            return err == -ENOENT ? 0 : err;
        err = entry_first(c, BY_NODE, node, &name);
        if (err != -ENOENT)
            return err;
        err = entry_ids(c, BY_BASE, node, &names);
        if (err || !names.n)
            return err;
        if (!is_dir(n.type))
            return names_back(c, &n, &names, fx);
        err = name_back(c, names.v[0], &n, &e, fx);
        if (err)
            return err == -EAGAIN ? 0 : err;
        node = e.parent;
    }
    return -ELOOP;
}

int rebase_has_pending(struct core *c, uint64_t dir, bool *yes)
{
    cleanup_ids struct ids queue = {0};
    ids_add(&queue, dir);
    *yes = false;
    for (size_t i = 0; i < queue.n; i++) {
        cleanup_ids struct ids pend = {0}, all = {0};
        int err = entry_ids(c, BY_PENDING_PARENT, queue.v[i], &pend);
        for (size_t k = 0; !err && k < pend.n; k++) {
            struct erow e;
            err = entry_by_id(c, pend.v[k], &e);
            if (!err && e.node) {
                *yes = true;
                return 0;
            }
        }
        if (!err)
            err = entry_ids(c, BY_PARENT, queue.v[i], &all);
        for (size_t k = 0; !err && k < all.n; k++) {
            struct erow e;
            struct nrow n;
            err = entry_by_id(c, all.v[k], &e);
            if (err || !e.node)
                continue;
            if (is_dir(e.type)) {
                ids_add(&queue, e.node);
            } else if (node_get(c, e.node, &n) == 0 && ((n.pend | n.sent) & FACET_CONTENT)) {
                *yes = true;
                return 0;
            }
        }
        if (err)
            return err;
    }
    return 0;
}

/* A directory that nobody but us has seen. */
static bool new_dir(struct core *c, uint64_t node)
{
    struct nrow n;
    return node_get(c, node, &n) == 0 && n.type == NODE_DIR && (n.pend & FACET_CREATE) && !n.sent;
}

/* Whether both files are the same: all of both is known, and in the same blocks. Extended
 * attributes are asked for only where somebody looks at them, so files that have some differ. */
static int same_file(struct core *c, const struct nrow *a, const struct nrow *b, bool *same)
{
    cleanup_extents struct extent_list here = {0}, there = {0};
    cleanup_spans struct spans gaps = {0};
    size_t names = 0;
    *same = a->size == b->size && a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
            b->xattrs_known && !((b->pend | b->sent) & FACET_CONTENT) &&
            (!c->hooks.in_tree || c->hooks.in_tree(c->hooks.ctx, a->id));
    if (!*same)
        return 0;
    int err = node_names(c, a->id, 1, &names);
    for (size_t i = 0; !err && i < 2; i++)
        err = span_gaps(c, i ? a->id : b->id, SPAN_KNOWN, 0, a->size, &gaps);
    if (!err)
        err = extents_get(c, a->id, 0, a->size, &here);
    if (!err)
        err = extents_get(c, b->id, 0, a->size, &there);
    if (err)
        return err;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT 1 FROM xattr WHERE node IN (?1, ?2) LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)a->id);
    sqlite3_bind_int64(s, 2, (int64_t)b->id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    sqlite3_reset(s);
    *same = rc == 0 && !names && !gaps.n && extent_list_equal(&here, &there);
    return 0;
}

/* Whether a node that nobody but us has seen is the same as the server's: a symbolic link to the
 * same target, a special file of the same kind, a file of the same content. */
static int same_thing(struct core *c, uint64_t local, uint64_t server, bool *same)
{
    struct nrow a, b;
    *same = false;
    int err = node_get(c, local, &a);
    if (!err)
        err = node_get(c, server, &b);
    if (err || a.type != b.type || is_dir(a.type) || a.rdev != b.rdev || !(a.pend & FACET_CREATE) ||
        a.sent)
        return err == -ENOENT ? 0 : err;
    if (a.type == NODE_REG)
        return same_file(c, &a, &b, same);
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT a.target IS b.target FROM node a, node b"
                                      " WHERE a.id = ?1 AND b.id = ?2");
    sqlite3_bind_int64(s, 1, (int64_t)local);
    sqlite3_bind_int64(s, 2, (int64_t)server);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *same = rc == 1 && sqlite3_column_int(s, 0) != 0;
    sqlite3_reset(s);
    return 0;
}

/* What had a name that another node has now gets another one beside it, unless it is the same as
 * that: then there is nothing to keep. */
static int step_aside(struct core *c, const struct erow *e, uint64_t node, uint32_t type,
                      int64_t now, struct core_effects *fx)
{
    bool same;
    int err = same_thing(c, node, e->node, &same);
    if (err)
        return err;
    if (!same)
        return rebase_aside(c, e->ns, e->parent, erow_name(e), node, type, now, fx);
    if (type != NODE_REG)
        return node_purge(c, node);
    effect_add(fx, EFFECT_ALIAS, e->ns, node)->other = e->node;
    return node_delete(c, node); /* who has it open goes on in theirs */
}

/* The children of a new local directory move into the server's directory of the same name. */
static int merge_dirs(struct core *c, uint64_t local, uint64_t server, int64_t now,
                      struct core_effects *fx)
{
    cleanup_ids struct ids rows = {0};
    struct nrow dir;
    int err = entry_ids(c, BY_PARENT, local, &rows);
    if (!err)
        err = node_get(c, server, &dir);
    for (size_t i = 0; !err && i < rows.n; i++) {
        struct erow from, to;
        struct core_need need;
        err = entry_by_id(c, rows.v[i], &from);
        if (err || !from.node)
            continue;
        uint64_t child = from.node;
        uint32_t type = from.type;
        err = entry_get(c, server, erow_name(&from), &to);
        if (err == -ENOENT) {
            to = (struct erow){.ns = from.ns, .parent = server, .name_len = from.name_len};
            memcpy(to.name, from.name, from.name_len);
            err = 0;
        }
        (void)need;
        if (!err)
            err = entry_assign(c, &from, 0, NODE_NONE, now);
        if (err)
            break;
        if (to.node == 0)
            err = entry_assign(c, &to, child, type, now);
        else if (is_dir(to.type) && new_dir(c, child))
            err = merge_dirs(c, child, to.node, now, fx);
        else
            err = step_aside(c, &to, child, type, now, fx);
    }
    if (err)
        return err;
    effect_add(fx, EFFECT_ALIAS, dir.ns, local)->other = server;
    err = node_get(c, local, &dir);
    dir.nlink = 0;
    if (!err)
        err = node_put(c, &dir);
    return err ? err : node_purge(c, local);
}

/* A pending name is taken back: what the server has there returns, unless it lives elsewhere by
 * now; or what it will have there, if a commit is under way that gives the name to something else.
 */
static int give_up(struct core *c, struct erow *e, int64_t now, struct core_effects *fx)
{
    size_t names = 0;
    struct nrow n;
    uint64_t back = e->base_node;
    uint32_t type = e->base_type;
    if (e->request && e->sent_node != e->node) {
        back = node_get(c, e->sent_node, &n) == 0 ? e->sent_node : 0;
        type = n.type;
    }
    int err = back ? node_names(c, back, 1, &names) : 0;
    if (names)
        back = 0;
    if (!err)
        err = entry_assign(c, e, back, type, now);
    effect_entry(fx, e->ns, e->parent, erow_name(e), back);
    if (!err && back)
        err = rebase_restore(c, e->parent, fx);
    return !err && back && is_dir(type) ? rebase_cycles(c, back, fx) : err;
}

int rebase_one_name(struct core *c, uint64_t dir, int64_t now, struct core_effects *fx)
{
    cleanup_ids struct ids names = {0};
    int err = entry_ids(c, BY_NODE, dir, &names);
    for (size_t i = 0; !err && names.n > 1 && i < names.n; i++) {
        struct erow e;
        err = entry_by_id(c, names.v[i], &e);
        if (!err && e.base_node != dir)
            err = give_up(c, &e, now, fx);
        if (err == -ENOENT) /* given up with another one */
            err = 0;
    }
    return err;
}

/* What was claimed is somebody else's: the node is what it was before, or nothing. */
static int claim_lost(struct core *c, uint64_t node, struct core_effects *fx)
{
    size_t names;
    int err = node_names(c, node, 1, &names);
    if (!err && !names)
        err = rebase_restore(c, node, fx);
    return err ? err : node_purge(c, node);
}

int rebase_entry(struct core *c, struct erow *e, int64_t now, struct core_effects *fx)
{
    uint64_t local = e->node;
    uint32_t local_type = e->type;
    bool claimed =
        local && c->hooks.claimed && c->hooks.claimed(c->hooks.ctx, e->parent, erow_name(e));
    e->request = 0;
    if (e->node == e->base_node ||
        !e->base_node) /* the same; or removed there: ours is added anew */
        return entry_settle(c, e);
    /* something new there: it takes its place, and its directory lives on if we removed that */
    int err = entry_assign(c, e, e->base_node, e->base_type, now);
    if (!err)
        err = rebase_restore(c, e->parent, fx);
    if (!err && is_dir(e->base_type))
        err = rebase_one_name(c, e->base_node, now, fx);
    effect_entry(fx, e->ns, e->parent, erow_name(e), e->base_node);
    bool merged = local && !claimed && e->base_type == NODE_DIR && new_dir(c, local);
    size_t names = 0;
    if (!err && claimed)
        err = claim_lost(c, local, fx);
    else if (!err && merged)
        err = merge_dirs(c, local, e->base_node, now, fx);
    else if (!err && local && is_dir(local_type))
        err = node_names(c, local, 1, &names); /* it may have got its old one back */
    if (!err && local && !claimed && !merged && !names)
        err = step_aside(c, e, local, local_type, now, fx);
    return !err && is_dir(e->base_type) ? rebase_cycles(c, e->base_node, fx) : err;
}

/* Puts a directory that was moved here back to where the server has it. */
int rebase_undo_move(struct core *c, uint64_t dir, struct core_effects *fx)
{
    uint64_t base;
    struct nrow n;
    struct erow old;
    int err = node_get(c, dir, &n);
    if (err)
        return err;
    err = entry_first(c, BY_BASE, dir, &base);
    if (err)
        return err == -ENOENT ? 0 : err;
    err = entry_by_id(c, base, &old);
    if (err)
        return err;
    uint64_t other = old.node;
    uint32_t type = old.type;
    err = entry_assign(c, &old, dir, n.type, n.changed);
    effect_entry(fx, old.ns, old.parent, erow_name(&old), dir);
    if (!err && other) /* its place was taken meanwhile: that goes aside */
        err = rebase_aside(c, old.ns, old.parent, erow_name(&old), other, type, n.changed, fx);
    if (!err)
        err = rebase_restore(c, old.parent, fx);
    return err ? err : rebase_one_name(c, dir, n.changed, fx);
}

/* Of a directory that was moved here (not a new one: somewhere in a cycle one that the server has
 * lies in it); the server has it where nothing is known, and its journal has yet to say where.
 * Until then it is at the top. *moved: it was. */
static int to_the_top(struct core *c, uint64_t dir, bool *moved, struct core_effects *fx)
{
    uint64_t name;
    struct nrow n;
    struct erow e;
    struct core_ns ns;
    int err = node_get(c, dir, &n);
    if (!err && ((n.pend | n.sent) & FACET_CREATE))
        return 0;
    if (!err)
        err = entry_first(c, BY_PENDING_NODE, dir, &name);
    if (!err)
        err = entry_by_id(c, name, &e);
    if (err || e.node == e.base_node)
        return err == -ENOENT ? 0 : err;
    *moved = true;
    err = ns_get(c, n.ns, &ns);
    if (!err)
        err = entry_assign(c, &e, 0, NODE_NONE, n.changed);
    effect_entry(fx, e.ns, e.parent, erow_name(&e), 0);
    return err ? err : rebase_aside(c, n.ns, ns.root, erow_name(&e), dir, n.type, n.changed, fx);
}

/* Undoes one of the moves that close a cycle through the directory. *undone: there was one. */
static int undo_cycle(struct core *c, uint64_t dir, bool *undone, struct core_effects *fx)
{
    uint64_t at = dir;
    cleanup_ids struct ids chain = {0};
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        struct nrow n;
        int err = node_get(c, at, &n);
        if (!err)
            err = node_parent(c, &n, &at);
        if (err)
            return err == -ENOENT ? 0 : err;
        if (at == dir)
            break;
        ids_add(&chain, at);
    }
    if (at != dir) /* above it is a cycle that it is not part of: undone by way of who is */
        return 0;
    for (size_t i = 0; i < chain.n; i++) {
        uint64_t base;
        int err = entry_first(c, BY_BASE, chain.v[i], &base);
        *undone = !err;
        if (!err) /* moved here: the later move is undone */
            err = rebase_undo_move(c, chain.v[i], fx);
        if (!err) /* where it was may have been moved below it */
            return rebase_cycles(c, chain.v[i], fx);
        if (err != -ENOENT)
            return err;
    }
    int err = 0;
    ids_add(&chain, dir);
    for (size_t i = 0; !err && !*undone && i < chain.n; i++)
        err = to_the_top(c, chain.v[i], undone, fx);
    return err;
}

/* Where it was may hang from the same directory by another move. */
int rebase_cycles(struct core *c, uint64_t dir, struct core_effects *fx)
{
    bool undone = true;
    int err = 0;
    for (unsigned moves = 0; !err && undone && moves < DEPTH_MAX; moves++) {
        undone = false;
        err = undo_cycle(c, dir, &undone, fx);
    }
    return err;
}

int nlink_pending(struct core *c, const struct nrow *n, int *delta)
{
    static const char files[] =
        "SELECT (SELECT count(*) FROM entry INDEXED BY entry_pending_node WHERE node = ?1"
        " AND node != 0 AND (pend != 0 OR request != 0) AND base_node != ?1) - (SELECT count(*) "
        "FROM entry WHERE base_node = ?1"
        " AND base_node != 0 AND base_node != node)";
    static const char dirs[] = DIR_LINKS_PENDING;
    sqlite3_stmt *s = is_dir(n->type) ? tree_stmt(c->t, dirs) : tree_stmt(c->t, files);
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *delta = (int)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return 0;
}
