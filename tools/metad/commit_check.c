// SPDX-License-Identifier: Apache-2.0
/* Bases, then the result.
 *
 * Bases: every facet, entry and xattr must be what the client based its change on. All that are not
 * are listed, so that the client rebases once. A node that is gone has no base to match, unless the
 * commit gives it a name again: then its bases are those that it had at its end, and it is opened
 * again (an edit wins over a delete).
 *
 * Result: computed in memory over the working set, before anything is written. Only what the commit
 * touches is looked at, since everything else obeyed the rules before. A new cycle must pass
 * through a directory that got a name in this commit; walking up from each of these to the root
 * finds it. The depth of every directory passed is kept for the commit's other walks, which end
 * there: together they look at each directory once. A walk longer than DEPTH_MAX is refused, so
 * that no walk, here or elsewhere, has no end to speak of.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"

static const struct bytes no_name;

static bool is_dir(const struct wnode *w)
{
    return (w->created ? w->change->type : w->before.type) == NODE_DIR;
}

/* Whether the node is there to be changed: its bases are those of `before`. */
static bool has_base(const struct wnode *w)
{
    return w->state == NODE_OPEN || (w->state == NODE_CLOSED && w->added);
}

/* ---- bases --------------------------------------------------------------------------------------
 */
static void node_bases(struct commit *c, struct wnode *w)
{
    const struct m_node_change *n = w->change;
    if (!n)
        return;
    if (w->created) {
        if (w->state != NODE_ABSENT)
            commit_refuse(c, ROW_NODE, w->node, no_name, REFUSED_EXISTS,
                          "a node of this id existed already");
        return;
    }
    bool base = has_base(w);
    if ((n->facets & FACET_ATTR) && (!base || n->base_attr != w->before.attr_rev))
        commit_refuse(c, ROW_NODE_ATTR, w->node, no_name, REFUSED_BASE,
                      "attributes changed meanwhile");
    if ((n->facets & FACET_CONTENT) && (!base || n->base_content != w->before.content_rev))
        commit_refuse(c, ROW_NODE_CONTENT, w->node, no_name, REFUSED_BASE,
                      "content changed meanwhile");
}

static int entry_base(struct commit *c, struct wentry *e)
{
    struct entry_row row = {0};
    int r = c->m->st->ops->entry_get(c->m->st, c->ns.id, e->c->parent, e->c->name, STORE_NOW, &row);
    if (r && r != -ENOENT)
        return r;
    if (row.node != e->c->base_node || (row.node && row.rev != e->c->base_rev))
        commit_refuse(c, ROW_ENTRY, e->c->parent, e->c->name, REFUSED_BASE,
                      "the name changed meanwhile");
    return 0;
}

static int xattr_base(struct commit *c, struct wxattr *x)
{
    const struct wnode *w = x->node;
    struct m_xattr row = {0};
    if (w->created)
        return 0;
    bool base = has_base(w);
    if (base) {
        uint64_t at = w->state == NODE_OPEN ? STORE_NOW : w->ended - 1;
        int r = c->m->st->ops->xattr_get(c->m->st, c->ns.id, w->node, x->c->name, at, &row, c->ar);
        if (r && r != -ENOENT)
            return r;
        x->had = r == 0;
    }
    if (!base || (x->had ? row.rev : 0) != x->c->base_rev)
        commit_refuse(c, ROW_XATTR, w->node, x->c->name, REFUSED_BASE,
                      "the extended attribute changed meanwhile");
    return 0;
}

/* Names of a node (no directory) when the commit is done. */
static uint64_t names_after(const struct wnode *w)
{
    return (w->state == NODE_OPEN ? w->before.nlink : 0) + w->added - w->removed;
}

/* Whoever takes a file's last name must have known its content: an edit wins over a delete. */
static void last_name_bases(struct commit *c)
{
    for (size_t k = 0; k < c->changes.entries_n; k++) {
        const struct wentry *e = &c->entries[k];
        const struct wnode *w = e->from;
        if (!e->effective || !w || w->state != NODE_OPEN || w->before.type != NODE_REG)
            continue;
        if (names_after(w) == 0 && e->c->base_content != w->before.content_rev)
            commit_refuse(c, ROW_ENTRY, e->c->parent, e->c->name, REFUSED_BASE,
                          "the removed file's content changed meanwhile");
    }
}

int commit_check_bases(struct commit *c)
{
    int r = 0;
    for (size_t k = 0; k < c->nodes_n; k++)
        node_bases(c, &c->nodes[k]);
    for (size_t k = 0; k < c->changes.entries_n && !r; k++)
        r = entry_base(c, &c->entries[k]);
    for (size_t k = 0; k < c->changes.xattrs_n && !r; k++)
        r = xattr_base(c, &c->xattrs[k]);
    if (!r && !c->rows_n) /* counts of names mean something only when all bases match */
        last_name_bases(c);
    return r;
}

/* ---- result -------------------------------------------------------------------------------------
 */
static void node_result(struct commit *c, struct wnode *w)
{
    if (w->state == NODE_ABSENT && !w->created)
        return; /* what wanted something of it is refused by its bases, or with its entry */
    uint64_t type = w->created ? w->change->type : w->before.type;
    if (is_dir(w)) {
        uint64_t had = w->state == NODE_OPEN && w->node != c->ns.root;
        w->gone = had && w->removed && !w->added;
    } else {
        w->gone = w->state == NODE_OPEN && w->removed && names_after(w) == 0;
    }
    w->revived = w->state == NODE_CLOSED && w->added;
    if (w->created && !w->added)
        commit_refuse(c, ROW_NODE, w->node, no_name, REFUSED_INVALID,
                      "a created node gets no name");
    if (w->change && (w->change->facets & FACET_CONTENT) && type != NODE_REG)
        commit_refuse(c, ROW_NODE_CONTENT, w->node, no_name, REFUSED_INVALID,
                      "only a file has content");
    if (type == NODE_MOUNT && c->q && (w->change || w->added || w->removed))
        commit_refuse(c, ROW_NODE, w->node, no_name, REFUSED_INVALID,
                      "a mount node is changed with steadfs namespace mount and unmount only");
    if (w->node == c->ns.root && w->added)
        commit_refuse(c, ROW_NODE, w->node, no_name, REFUSED_INVALID,
                      "the namespace's root cannot have a name");
}

static bool there_after(const struct wnode *w)
{
    return !w->gone && (w->created || w->state == NODE_OPEN || w->revived);
}

/* One directory's names: at most one. */
static bool one_name(const struct commit *c, const struct wnode *w)
{
    uint64_t had = w->state == NODE_OPEN && w->node != c->ns.root;
    return had + w->added - w->removed <= 1;
}

static void entry_result(struct commit *c, const struct wentry *e)
{
    const struct m_entry_change *ch = e->c;
    if (!e->effective || !e->to)
        return;
    if (!there_after(e->to)) {
        commit_refuse(c, ROW_ENTRY, ch->parent, ch->name, REFUSED_INVALID,
                      "the name is given to a node that never existed");
        return;
    }
    if (!there_after(e->parent) || !is_dir(e->parent))
        commit_refuse(c, ROW_ENTRY, ch->parent, ch->name, REFUSED_PARENT,
                      "the directory is gone, or it is none");
    if (is_dir(e->to) && !one_name(c, e->to))
        commit_refuse(c, ROW_ENTRY, ch->parent, ch->name, REFUSED_CYCLE,
                      "a directory would have two names");
}

static int not_empty(struct commit *c, const struct wentry *e)
{
    const struct wnode *w = e->from;
    uint64_t n = 0;
    if (!e->effective || !w || !w->gone || !is_dir(w))
        return 0;
    int r = c->m->st->ops->entry_count(c->m->st, c->ns.id, w->node, w->children_removed + 1, &n);
    if (!r && n > w->children_removed)
        commit_refuse(c, ROW_ENTRY, e->c->parent, e->c->name, REFUSED_NOT_EMPTY,
                      "the directory is not empty");
    return r;
}

static void xattr_result(struct commit *c, const struct wxattr *x)
{
    struct wnode *w = x->node;
    if (w->before.type == NODE_MOUNT && !w->created)
        commit_refuse(c, ROW_XATTR, w->node, x->c->name, REFUSED_INVALID, "a mount node has none");
    if (x->c->removed)
        w->after.xattrs -= x->had;
    else
        w->after.xattrs += !x->had;
    if (w->after.xattrs > XATTRS_MAX)
        commit_refuse(c, ROW_XATTR, w->node, x->c->name, REFUSED_INVALID,
                      "a node has at most 256 extended attributes");
}

/* ---- cycles and depth --------------------------------------------------------------------------
 */
#define PASSING 0u        /* in the walk under way; the root's own depth is never kept */
#define CYCLIC UINT32_MAX /* leads into a cycle */
#define TOO_DEEP (DEPTH_MAX + 1)

struct depth {
    uint64_t node;
    uint32_t depth;
};
/* Depths of the directories passed so far. Open addressing; node 0: free. */
struct depths {
    struct depth *v;
    size_t n, cap;
    bool gave_up; /* a walk was too long to say how deep what it passed is */
};

static struct depth *depth_slot(const struct commit *c, const struct depths *d, uint64_t node)
{
    size_t k = commit_hash(c, node) & (d->cap - 1);
    while (d->v[k].node && d->v[k].node != node)
        k = (k + 1) & (d->cap - 1);
    return &d->v[k];
}

/* The directory's place; one that is new has the depth PASSING. *known: it is not new. */
static struct depth *depth_of(const struct commit *c, struct depths *d, uint64_t node, bool *known)
{
    if (2 * d->n >= d->cap) {
        struct depths larger = {.n = d->n, .cap = d->cap ? 2 * d->cap : 64, .gave_up = d->gave_up};
        larger.v = calloc(larger.cap, sizeof *larger.v);
        if (!larger.v)
            abort();
        for (size_t k = 0; k < d->cap; k++) {
            if (d->v[k].node)
                *depth_slot(c, &larger, d->v[k].node) = d->v[k];
        }
        free(d->v);
        *d = larger;
    }
    struct depth *at = depth_slot(c, d, node);
    *known = at->node != 0;
    if (!*known) {
        *at = (struct depth){.node = node, .depth = PASSING};
        d->n++;
    }
    return at;
}

/* Walks up from a directory. *depth: how deep it is, CYCLIC or TOO_DEEP. */
static int walk_up(struct commit *c, struct depths *d, uint64_t node, uint32_t *depth)
{
    uint64_t passed[DEPTH_MAX], at = node;
    struct bytes name;
    size_t n = 0;
    uint32_t base = 0;
    bool known;
    int r = 0;
    while (at != c->ns.root && !r) {
        uint32_t there = depth_of(c, d, at, &known)->depth;
        if (known) {
            base = there == PASSING ? CYCLIC : there;
            break;
        }
        if (n == DEPTH_MAX) {
            d->gave_up = true;
            *depth = TOO_DEEP;
            return 0;
        }
        passed[n++] = at;
        const struct wnode *x = commit_find(c, at);
        if (x && x->new_parent)
            at = x->new_parent;
        else
            r = c->m->st->ops->entry_of(c->m->st, c->ns.id, at, &at, &name, c->ar);
    }
    for (size_t k = n; k-- > 0;) {
        base += base < TOO_DEEP;
        depth_of(c, d, passed[k], &known)->depth = base;
    }
    *depth = base;
    return r == -ENOENT ? 0 : r; /* a way that ends is refused as a parent that is gone */
}

static int check_places(struct commit *c)
{
    struct depths d = {0};
    int r = 0;
    for (size_t k = 0; k < c->changes.entries_n && !r && !d.gave_up; k++) {
        const struct wentry *e = &c->entries[k];
        uint32_t depth;
        if (!e->effective || !e->to || !is_dir(e->to))
            continue;
        r = walk_up(c, &d, e->to->node, &depth);
        if (!r && depth == CYCLIC)
            commit_refuse(c, ROW_ENTRY, e->c->parent, e->c->name, REFUSED_CYCLE,
                          "a directory would be below itself");
        else if (!r && depth == TOO_DEEP)
            commit_refuse(c, ROW_ENTRY, e->c->parent, e->c->name, REFUSED_INVALID,
                          "directories are nested too deep");
    }
    free(d.v);
    return r;
}

/* ---- quota of nodes
 * -------------------------------------------------------------------------------- */
/* What is left when the commit is done, without and with the conflicted copies that it makes. */
static void check_node_quota(struct commit *c)
{
    uint64_t more = 0, copies = 0, less = 0, quota = c->ns.quota_nodes;
    for (size_t k = 0; k < c->nodes_n; k++) {
        const struct wnode *w = &c->nodes[k];
        copies += commit_is_copy(w);
        more += (w->created && !commit_is_copy(w)) || w->revived;
        less += w->gone;
    }
    if (!c->q)
        return;
    uint64_t used = c->ns.used_nodes + more;
    bool over = more > less && commit_over(used - less, quota, false);
    bool copies_over = copies && commit_over(used + copies - less, quota, true);
    for (size_t k = 0; (over || copies_over) && k < c->nodes_n; k++) {
        const struct wnode *w = &c->nodes[k];
        if (commit_is_copy(w) ? copies_over : over && (w->created || w->revived))
            commit_refuse(c, ROW_NODE, w->node, no_name, REFUSED_QUOTA,
                          "the namespace's quota of nodes is used up");
    }
}

int commit_check_result(struct commit *c)
{
    int r = 0;
    for (size_t k = 0; k < c->nodes_n; k++)
        node_result(c, &c->nodes[k]);
    for (size_t k = 0; k < c->changes.entries_n && !r; k++) {
        entry_result(c, &c->entries[k]);
        r = not_empty(c, &c->entries[k]);
    }
    for (size_t k = 0; k < c->changes.xattrs_n; k++)
        xattr_result(c, &c->xattrs[k]);
    if (!r && !c->rows_n)
        r = check_places(c);
    if (!r && !c->rows_n)
        check_node_quota(c);
    return r;
}
