// SPDX-License-Identifier: Apache-2.0
/* Nodes that the server has removed so long ago that nothing of them is left there: they cannot be
 * revived. A file with pending content goes on as a new one, under a conflicted copy's name, and
 * what was made in a directory goes to the top of the namespace. What was not known here of such a
 * file is a hole: it was removed longer ago than history is kept.
 *
 * A comparison with the server (core_resync.c) tells of them; so does a commit that would have
 * revived one and is refused.
 */
#include "core_int.h"
#include "idset.h"

#include <errno.h>

/* Pending names of a node are given up: it is no more. */
static int drop_names(struct core *c, uint64_t node, int64_t now, struct core_effects *fx)
{
    cleanup_ids struct ids names = {0};
    int err = entry_ids(c, BY_NODE, node, &names);
    for (size_t i = 0; !err && i < names.n; i++) {
        struct erow e;
        err = entry_by_id(c, names.v[i], &e);
        if (err || e.base_node == node)
            continue;
        err = entry_assign(c, &e, 0, NODE_NONE, now);
        effect_entry(fx, e.ns, e.parent, erow_name(&e), 0);
    }
    return err;
}

/* A file with pending content goes on as a new one; one that is refused again and again is parked
 * in the end, whatever its number. */
static int rescue_file(struct core *c, struct nrow *n, int64_t now, struct core_effects *fx)
{
    struct nrow k;
    uint64_t copy, name;
    int err = entry_first(c, BY_NODE, n->id, &name);
    bool named = !err || n->nlink;
    if (err == -ENOENT)
        err = 0;
    if (!err && named && ((n->pend | n->sent) & FACET_CONTENT)) {
        err = rebase_fork(c, n, now, &copy, fx);
        if (!err)
            err = node_get(c, copy, &k);
        k.tries = n->tries;
        if (!err)
            err = node_put(c, &k);
    }
    return err ? err : drop_names(c, n->id, now, fx);
}

/* A symbolic link or a special file, new here under a number that was in use: the same under
 * another one. */
static int rescue_special(struct core *c, const struct nrow *n, int64_t now,
                          struct core_effects *fx)
{
    static const char *const sql[] = {
        "UPDATE node SET target = (SELECT target FROM node WHERE id = ?1) WHERE id = ?2",
        ("INSERT INTO xattr(node, name, value, rev, pend, request) SELECT ?2, name, value, 0, 1, 0"
         " FROM xattr WHERE node = ?1 AND value IS NOT NULL"),
    };
    uint64_t name;
    struct nrow k = *n;
    struct erow e;
    int err = entry_first(c, BY_NODE, n->id, &name);
    if (err == -ENOENT || (!err && !((n->pend | n->sent) & FACET_CREATE)))
        return drop_names(c, n->id, now, fx);
    if (err)
        return err;
    err = node_new_id(c, &k.id);
    k.nlink = k.old = 0;
    k.again = false;
    k.parked = 0;
    if (!err)
        err = node_put(c, &k);
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)n->id);
        sqlite3_bind_int64(s, 2, (int64_t)k.id);
        err = tree_step(c->t, s);
    }
    if (!err)
        err = entry_by_id(c, name, &e);
    if (!err)
        err = rebase_aside(c, n->ns, e.parent, erow_name(&e), k.id, k.type, now, fx);
    return err ? err : drop_names(c, n->id, now, fx);
}

/* What was made in a directory goes to the top. */
static int rescue_names(struct core *c, uint64_t ns, uint64_t dir, const struct idset *gone,
                        int64_t now, struct core_effects *fx)
{
    cleanup_ids struct ids names = {0};
    struct core_ns info;
    bool moved = false;
    size_t others = 0;
    int err = ns_get(c, ns, &info);
    if (!err)
        err = entry_ids(c, BY_PENDING_PARENT, dir, &names);
    for (size_t i = 0; !err && i < names.n; i++) {
        struct erow e;
        err = entry_by_id(c, names.v[i], &e);
        uint64_t node = e.node;
        uint32_t type = e.type;
        if (err || !node)
            continue;
        err = entry_assign(c, &e, 0, NODE_NONE, now);
        effect_entry(fx, ns, dir, erow_name(&e), 0);
        if (err || idset_has(gone, node))
            continue;
        err = rebase_restore(c, node, fx); /* what was moved here is where the server has it */
        if (!err && is_dir(type))
            err = rebase_cycles(c, node, fx);
        if (!err)
            err = node_names(c, node, 1, &others);
        if (!err && !others)
            err = rebase_aside(c, ns, info.root, erow_name(&e), node, type, now, fx);
        moved = true;
    }
    if (!err && moved) /* who waits for the directory to be committed waits for them */
        effect_add(fx, EFFECT_MOVED, ns, dir)->other = info.root;
    return err;
}

int rescue_nodes(struct core *c, uint64_t ns, const struct idset *gone, int64_t now,
                 struct core_effects *fx)
{
    int err = 0;
    /* files first: their copies are beside them */
    for (size_t i = 0; !err && i < gone->ids.n; i++) {
        struct nrow n;
        err = node_get(c, gone->ids.v[i], &n);
        if (!err && n.type == NODE_REG)
            err = rescue_file(c, &n, now, fx);
        else if (!err && !is_dir(n.type))
            err = rescue_special(c, &n, now, fx);
        else if (!err)
            err = drop_names(c, n.id, now, fx);
        if (err == -ENOENT)
            err = 0;
    }
    for (size_t i = 0; !err && i < gone->ids.n; i++)
        err = rescue_names(c, ns, gone->ids.v[i], gone, now, fx);
    return err;
}

/* What is left of a node when all of that is elsewhere. */
static int forget(struct core *c, uint64_t node)
{
    struct nrow n;
    size_t names;
    int err = node_get(c, node, &n);
    if (!err)
        err = node_names(c, node, 1, &names);
    if (!err && !names && is_dir(n.type)) {
        n.nlink = 0;
        err = node_put(c, &n);
    }
    if (!err)
        err = node_purge(c, node);
    return err == -ENOENT ? 0 : err;
}

/* When anything of them, or in them, was changed last. */
static int changed_last(struct core *c, const struct idset *gone, int64_t *when)
{
    *when = SINCE_UNKNOWN;
    for (size_t i = 0; i < gone->ids.n; i++) {
        cleanup_ids struct ids names = {0};
        struct nrow n;
        struct erow e;
        if (node_get(c, gone->ids.v[i], &n) == 0 && n.changed > *when)
            *when = n.changed;
        int err = entry_ids(c, BY_PENDING_PARENT, gone->ids.v[i], &names);
        for (size_t k = 0; !err && k < names.n; k++) {
            err = entry_by_id(c, names.v[k], &e);
            if (!err && e.node && node_get(c, e.node, &n) == 0 && n.changed > *when)
                *when = n.changed;
        }
        if (err)
            return err;
    }
    return 0;
}

int rescue_refused(struct core *c, uint64_t ns, const struct idset *gone, struct core_effects *fx)
{
    int64_t now;
    int err = changed_last(c, gone, &now);
    if (!err)
        err = rescue_nodes(c, ns, gone, now, fx);
    for (size_t i = 0; !err && i < gone->ids.n; i++)
        err = forget(c, gone->ids.v[i]);
    return err;
}
