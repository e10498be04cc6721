// SPDX-License-Identifier: Apache-2.0
/* The form of a commit's rows, and the working set: every node, entry and xattr that they mention,
 * as it is now.
 *
 * Rows come from a peer. What can be said without the tree is checked before the tree is read:
 * numbers in range, names that are names, extents sorted and inside their range and the file, no
 * row twice. A row that breaks a rule of the data model is REFUSED_INVALID: no later state could
 * make it right.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "extent.h"

static const struct bytes no_name;

/* ---- the working set's hash table -------------------------------------------------------------
 */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u; /* finaliser of splitmix64 */
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t commit_hash(const struct commit *c, uint64_t node)
{
    return mix(node ^ c->m->seed);
}

static size_t slot_of(const struct commit *c, uint64_t node)
{
    size_t k = commit_hash(c, node) & (c->slots_n - 1);
    while (c->slots[k] && c->nodes[c->slots[k] - 1].node != node)
        k = (k + 1) & (c->slots_n - 1);
    return k;
}

struct wnode *commit_find(const struct commit *c, uint64_t node)
{
    if (!c->slots_n)
        return NULL;
    uint32_t index = c->slots[slot_of(c, node)];
    return index ? &c->nodes[index - 1] : NULL;
}

static void rehash(struct commit *c)
{
    c->slots_n = c->slots_n ? 2 * c->slots_n : 64;
    free(c->slots);
    c->slots = calloc(c->slots_n, sizeof *c->slots);
    if (!c->slots)
        abort();
    for (size_t k = 0; k < c->nodes_n; k++)
        c->slots[slot_of(c, c->nodes[k].node)] = (uint32_t)(k + 1);
}

/* Adds the node to the working set as it is now. Pointers to others may move: only indexes are kept
 * until all are loaded. */
static int load_node(struct commit *c, uint64_t node)
{
    if (commit_find(c, node))
        return 0;
    if (c->nodes_n == c->nodes_cap) {
        c->nodes_cap = c->nodes_cap ? 2 * c->nodes_cap : 16;
        c->nodes = realloc(c->nodes, c->nodes_cap * sizeof *c->nodes);
        if (!c->nodes)
            abort();
    }
    struct wnode *w = &c->nodes[c->nodes_n];
    memset(w, 0, sizeof *w);
    w->node = node;
    int r = c->m->st->ops->inode_get(c->m->st, c->ns.id, node, STORE_NOW, &w->before, c->ar);
    if (!r) {
        w->state = NODE_OPEN;
    } else if (r == -ENOENT) {
        r = c->m->st->ops->inode_last(c->m->st, c->ns.id, node, &w->before, &w->ended, c->ar);
        w->state = r ? NODE_ABSENT : NODE_CLOSED;
    }
    if (r && r != -ENOENT)
        return r;
    w->after = w->before;
    c->nodes_n++;
    if (2 * c->nodes_n > c->slots_n)
        rehash(c);
    else
        c->slots[slot_of(c, node)] = (uint32_t)c->nodes_n;
    return 0;
}

/* ---- form -------------------------------------------------------------------------------------
 */
static bool number_ok(uint64_t x)
{
    return x <= (uint64_t)INT64_MAX;
}

static bool ranges_ok(const struct m_node_change *n)
{
    uint64_t at = 0;
    for (size_t k = 0; k < n->ranges_n; k++) {
        const struct m_range *g = &n->ranges[k];
        if (g->off < at || !g->len || g->off > (uint64_t)FILE_SIZE_MAX ||
            g->len > (uint64_t)FILE_SIZE_MAX - g->off)
            return false;
        at = g->off + g->len;
        if (extent_check(g->extents, g->extents_n, g->off, g->len))
            return false;
        const struct m_extent *last = g->extents_n ? &g->extents[g->extents_n - 1] : NULL;
        if (last && last->off + last->len > n->size)
            return false;
    }
    return true;
}

static bool create_ok(const struct commit *c, const struct m_node_change *n)
{
    bool device_node = n->type == NODE_CHR || n->type == NODE_BLK;
    uint64_t newest = c->q ? NODE_BLK : NODE_MOUNT;
    if (n->type < NODE_REG || n->type > newest)
        return false;
    uint32_t maker = NODE_DEVICE(n->node);
    if (c->q && (!maker || NODE_ID(maker, 0) == n->node || (maker != c->device && !c->q->again)))
        return false;
    if ((n->type == NODE_SYMLINK) != (n->target.n > 0) || (n->rdev && !device_node))
        return false;
    if (n->target.n && memchr(n->target.p, 0, n->target.n))
        return false;
    return !(n->facets & FACET_CONTENT) || n->type == NODE_REG;
}

static bool node_ok(const struct commit *c, const struct m_node_change *n)
{
    const uint64_t known = FACET_CREATE | FACET_ATTR | FACET_CONTENT | FACET_TIMES;
    if (!n->node || !number_ok(n->node) || !n->facets || (n->facets & ~known))
        return false;
    if (n->mode > 07777 || n->uid > UINT32_MAX || n->gid > UINT32_MAX || !number_ok(n->size))
        return false;
    if (!(n->facets & FACET_CONTENT) && (n->ranges_n || n->size))
        return false;
    if ((n->facets & FACET_CREATE) && !create_ok(c, n))
        return false;
    return !(n->facets & FACET_CONTENT) || ranges_ok(n);
}

static bool name_ok(struct bytes name)
{
    if (!name.n || name.n > NAME_LEN_MAX || memchr(name.p, 0, name.n) ||
        memchr(name.p, '/', name.n))
        return false;
    bool dots = name.p[0] == '.' && (name.n == 1 || (name.n == 2 && name.p[1] == '.'));
    return !dots;
}

static bool entry_ok(const struct m_entry_change *e)
{
    return e->parent && number_ok(e->parent) && number_ok(e->node) && number_ok(e->base_node) &&
           (e->node || e->base_node) && name_ok(e->name);
}

static bool xattr_ok(const struct m_xattr_change *x)
{
    return x->node && number_ok(x->node) && x->name.n && x->name.n <= XATTR_NAME_MAX &&
           !memchr(x->name.p, 0, x->name.n) && x->value.n <= XATTR_VALUE_MAX;
}

static int compare_keys(uint64_t a, struct bytes an, uint64_t b, struct bytes bn)
{
    return a != b ? (a < b ? -1 : 1) : bytes_compare(an, bn);
}

static int entry_order(const void *a, const void *b)
{
    const struct m_entry_change *x = *(const struct m_entry_change *const *)a,
                                *y = *(const struct m_entry_change *const *)b;
    return compare_keys(x->parent, x->name, y->parent, y->name);
}

static int xattr_order(const void *a, const void *b)
{
    const struct m_xattr_change *x = *(const struct m_xattr_change *const *)a,
                                *y = *(const struct m_xattr_change *const *)b;
    return compare_keys(x->node, x->name, y->node, y->name);
}

static void refuse_doubles(struct commit *c)
{
    const struct m_changes *ch = &c->changes;
    const struct m_entry_change **e = arena_alloc(c->ar, (ch->entries_n + 1) * sizeof *e);
    const struct m_xattr_change **x = arena_alloc(c->ar, (ch->xattrs_n + 1) * sizeof *x);
    for (size_t k = 0; k < ch->entries_n; k++)
        e[k] = &ch->entries[k];
    for (size_t k = 0; k < ch->xattrs_n; k++)
        x[k] = &ch->xattrs[k];
    qsort(e, ch->entries_n, sizeof *e, entry_order);
    qsort(x, ch->xattrs_n, sizeof *x, xattr_order);
    for (size_t k = 1; k < ch->entries_n; k++) {
        if (entry_order(&e[k - 1], &e[k]) == 0)
            commit_refuse(c, ROW_ENTRY, e[k]->parent, e[k]->name, REFUSED_INVALID,
                          "one name is in the commit twice");
    }
    for (size_t k = 1; k < ch->xattrs_n; k++) {
        if (xattr_order(&x[k - 1], &x[k]) == 0)
            commit_refuse(c, ROW_XATTR, x[k]->node, x[k]->name, REFUSED_INVALID,
                          "one extended attribute is in the commit twice");
    }
}

/* More rows than a record may hold. The extents of a created file become one range, and a shrink
 * adds a range to those that came. How long the record is shows when it is written. */
static bool too_many(const struct m_changes *ch)
{
    bool over = ch->nodes_n + ch->entries_n + ch->xattrs_n > CHANGES_ROWS_MAX;
    for (size_t k = 0; k < ch->nodes_n && !over; k++) {
        const struct m_node_change *n = &ch->nodes[k];
        size_t extents_n = 0;
        for (size_t j = 0; j < n->ranges_n; j++)
            extents_n += n->ranges[j].extents_n;
        over = n->ranges_n >= CHANGES_ROWS_MAX || extents_n > CHANGES_ROWS_MAX;
    }
    return over;
}

static void check_form(struct commit *c)
{
    const struct m_changes *ch = &c->changes;
    const char *text = "a row breaks a rule of the data model";
    if (ch->nodes_n + ch->entries_n + ch->xattrs_n == 0)
        commit_refuse_all(c, REFUSED_INVALID, "the commit changes nothing");
    if (too_many(ch)) {
        commit_too_large(c);
        return;
    }
    for (size_t k = 0; k < ch->nodes_n; k++) {
        if (!node_ok(c, &ch->nodes[k]))
            commit_refuse(c, ROW_NODE, ch->nodes[k].node, no_name, REFUSED_INVALID, text);
    }
    for (size_t k = 0; k < ch->entries_n; k++) {
        if (!entry_ok(&ch->entries[k]))
            commit_refuse(c, ROW_ENTRY, ch->entries[k].parent, ch->entries[k].name, REFUSED_INVALID,
                          text);
    }
    for (size_t k = 0; k < ch->xattrs_n; k++) {
        if (!xattr_ok(&ch->xattrs[k]))
            commit_refuse(c, ROW_XATTR, ch->xattrs[k].node, ch->xattrs[k].name, REFUSED_INVALID,
                          text);
    }
    refuse_doubles(c);
}

/* ---- loading ----------------------------------------------------------------------------------
 */
static int load_nodes(struct commit *c)
{
    const struct m_changes *ch = &c->changes;
    int r = 0;
    for (size_t k = 0; k < ch->nodes_n && !r; k++) {
        r = load_node(c, ch->nodes[k].node);
        struct wnode *w = r ? NULL : commit_find(c, ch->nodes[k].node);
        if (w && w->change)
            commit_refuse(c, ROW_NODE, w->node, no_name, REFUSED_INVALID,
                          "one node is in the commit twice");
        else if (w)
            w->change = &ch->nodes[k];
    }
    for (size_t k = 0; k < ch->entries_n && !r; k++) {
        const struct m_entry_change *e = &ch->entries[k];
        r = load_node(c, e->parent);
        if (!r && e->base_node)
            r = load_node(c, e->base_node);
        if (!r && e->node)
            r = load_node(c, e->node);
    }
    for (size_t k = 0; k < ch->xattrs_n && !r; k++)
        r = load_node(c, ch->xattrs[k].node);
    return r;
}

static bool is_directory(const struct wnode *w)
{
    uint64_t type = w->created ? w->change->type : w->before.type;
    return type == NODE_DIR || type == NODE_MOUNT;
}

/* What the entries do to the nodes that they name and to the directories that they are in. */
static void count_names(struct commit *c)
{
    const struct m_changes *ch = &c->changes;
    for (size_t k = 0; k < c->nodes_n; k++) {
        struct wnode *w = &c->nodes[k];
        w->created = w->change && (w->change->facets & FACET_CREATE);
    }
    c->entries = arena_alloc(c->ar, (ch->entries_n + 1) * sizeof *c->entries);
    for (size_t k = 0; k < ch->entries_n; k++) {
        const struct m_entry_change *e = &ch->entries[k];
        struct wentry *w = &c->entries[k];
        *w = (struct wentry){.c = e, .parent = commit_find(c, e->parent)};
        w->from = e->base_node ? commit_find(c, e->base_node) : NULL;
        w->to = e->node ? commit_find(c, e->node) : NULL;
        w->effective = w->from != w->to;
        if (!w->effective)
            continue;
        if (w->from) {
            w->from->removed++;
            w->parent->children_removed += !w->to;
            w->parent->subdirs_removed += is_directory(w->from);
        }
        if (w->to) {
            w->to->added++;
            w->to->copy |= memmem(e->name.p, e->name.n, COPY_MARK, sizeof COPY_MARK - 1) != NULL;
            w->to->new_parent = e->parent;
            w->parent->children_added++;
            w->parent->subdirs_added += is_directory(w->to);
        }
    }
    c->xattrs = arena_alloc(c->ar, (ch->xattrs_n + 1) * sizeof *c->xattrs);
    for (size_t k = 0; k < ch->xattrs_n; k++)
        c->xattrs[k] =
            (struct wxattr){.c = &ch->xattrs[k], .node = commit_find(c, ch->xattrs[k].node)};
}

int commit_load(struct commit *c)
{
    c->sjid = c->ns.head + 1;
    check_form(c);
    if (c->rows_n)
        return 0;
    int r = load_nodes(c);
    if (!r && !c->rows_n)
        count_names(c);
    return r;
}
