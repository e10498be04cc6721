// SPDX-License-Identifier: Apache-2.0
/* Two hash tables over the same handles, by nodeid and by node id; both grow.
 *
 * Node ids of devices begin at 2^40 and have 63 bits. Those below are roots of namespaces, which
 * the metadata server makes: their nodeids have the two highest bits set, as 1 is the kernel's name
 * for the root of the mount. Second handles have the highest bit only, and count up. */
#include "handle.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 1024
#define NAMES_LISTED 16 /* names of a file that are looked through one by one */
#define NODE_DEVICE_MIN (1ull << 40)
#define SECOND (1ull << 63)
#define SERVER_NODE (3ull << 62)

struct handles {
    struct handle **by_id, **by_node;
    size_t buckets, n;           /* buckets: power of two */
    struct handle_old *detached; /* few, beside all that the kernel knows */
    uint64_t next;
};

static size_t slot(const struct handles *t, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 20) & (t->buckets - 1);
}

static void link_id(struct handles *t, struct handle *h)
{
    struct handle **b = &t->by_id[slot(t, h->nodeid)];
    h->id_next = *b;
    *b = h;
}

static void link_node(struct handles *t, struct handle *h)
{
    struct handle **b = &t->by_node[slot(t, h->node)];
    h->node_next = *b;
    *b = h;
}

static void unlink_node(struct handles *t, struct handle *h)
{
    struct handle **at = &t->by_node[slot(t, h->node)];
    while (*at != h)
        at = &(*at)->node_next;
    *at = h->node_next;
}

static void resize(struct handles *t, size_t buckets)
{
    struct handles fresh = {
        .buckets = buckets, .n = t->n, .detached = t->detached, .next = t->next};
    fresh.by_id = calloc(buckets, sizeof(struct handle *));
    fresh.by_node = calloc(buckets, sizeof(struct handle *));
    if (fresh.by_id == NULL || fresh.by_node == NULL)
        abort();
    for (size_t i = 0; i < t->buckets; i++) {
        struct handle *next;
        for (struct handle *h = t->by_id[i]; h != NULL; h = next) {
            next = h->id_next;
            link_id(&fresh, h);
            link_node(&fresh, h);
        }
    }
    free(t->by_id);
    free(t->by_node);
    *t = fresh;
    if (t->detached != NULL)
        t->detached->prev = &t->detached;
}

struct handles *handles_new(void)
{
    struct handles *t = calloc(1, sizeof(*t));
    if (t == NULL)
        abort();
    t->next = SECOND + 1;
    resize(t, BUCKETS_MIN);
    return t;
}

static void handle_free(struct handle *h)
{
    handle_attach(h);
    locks_free(&h->locks);
    struct handle_name *next;
    for (struct handle_name *n = handle_names_take(h); n != NULL; n = next) {
        next = n->next;
        free(n);
    }
    free(h);
}

void handles_free(struct handles *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->buckets; i++) {
        while (t->by_id[i] != NULL) {
            struct handle *h = t->by_id[i];
            t->by_id[i] = h->id_next;
            handle_free(h);
        }
    }
    free(t->by_id);
    free(t->by_node);
    free(t);
}

struct handle *handle_find(struct handles *t, uint64_t nodeid)
{
    struct handle *h = t->by_id[slot(t, nodeid)];
    while (h != NULL && h->nodeid != nodeid)
        h = h->id_next;
    return h;
}

static struct handle *same_node(struct handle *h, uint64_t node)
{
    while (h != NULL && h->node != node)
        h = h->node_next;
    return h;
}

struct handle *handle_of(struct handles *t, uint64_t node)
{
    return same_node(t->by_node[slot(t, node)], node);
}

struct handle *handle_next_of(struct handle *h)
{
    return same_node(h->node_next, h->node);
}

struct handle *handle_live(struct handles *t, uint64_t node)
{
    struct handle *h = handle_of(t, node);
    while (h != NULL && h->old != NULL)
        h = handle_next_of(h);
    return h;
}

static struct handle *add(struct handles *t, uint64_t nodeid, uint64_t node)
{
    if (t->n >= t->buckets)
        resize(t, t->buckets * 2);
    struct handle *h = calloc(1, sizeof(*h));
    if (h == NULL)
        abort();
    h->nodeid = nodeid;
    h->node = node;
    link_id(t, h);
    link_node(t, h);
    t->n++;
    return h;
}

uint64_t handle_node_of(uint64_t nodeid)
{
    if (nodeid >= SERVER_NODE)
        return nodeid - SERVER_NODE;
    return nodeid < SECOND && nodeid >= NODE_DEVICE_MIN ? nodeid : 0;
}

struct handle *handle_get(struct handles *t, uint64_t node)
{
    struct handle *h = handle_live(t, node);
    if (h != NULL)
        return h;
    uint64_t nodeid = node < NODE_DEVICE_MIN ? SERVER_NODE + node : node;
    return add(t, handle_find(t, nodeid) == NULL ? nodeid : t->next++, node);
}

struct handle *handle_root(struct handles *t, uint64_t node)
{
    struct handle *h = handle_find(t, HANDLE_ROOT);
    if (h == NULL) {
        h = add(t, HANDLE_ROOT, node);
        h->nlookup = 1; /* the kernel never forgets it */
    }
    return h;
}

bool handles_refer(const struct handles *t, const struct block_id *id)
{
    for (const struct handle_old *o = t->detached; o != NULL; o = o->next)
        for (size_t i = 0; i < o->extents.n; i++)
            if (block_id_equal(&o->extents.v[i].block, id))
                return true;
    return false;
}

bool handle_in_use(struct handles *t, uint64_t node)
{
    return handle_of(t, node) != NULL;
}

void handle_move(struct handles *t, struct handle *h, uint64_t node)
{
    unlink_node(t, h);
    h->node = node;
    link_node(t, h);
}

bool handle_release(struct handles *t, struct handle *h)
{
    if (h->nlookup != 0 || h->opens != 0)
        return false;
    struct handle **at = &t->by_id[slot(t, h->nodeid)];
    while (*at != h)
        at = &(*at)->id_next;
    *at = h->id_next;
    unlink_node(t, h);
    t->n--;
    handle_free(h);
    return true;
}

/* ---- names: a file may have tens of thousands ---- */
static struct handle_name **name_slot(struct handle_names *t, uint64_t parent, const uint8_t *name,
                                      size_t len)
{
    uint64_t hash = parent * 0x9e3779b97f4a7c15ull;
    if (t->slots == 0)
        return &t->list;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ name[i]) * 0x100000001b3ull;
    return &t->slot[(hash * 0x9e3779b97f4a7c15ull >> 32) & (t->slots - 1)];
}

static struct handle_name **find_name(struct handle *h, uint64_t parent, struct bytes name)
{
    struct handle_name **at = name_slot(&h->names, parent, name.p, name.n);
    while (*at != NULL && ((*at)->parent != parent || (*at)->len != name.n ||
                           memcmp((*at)->name, name.p, name.n) != 0))
        at = &(*at)->next;
    return at;
}

static void name_put(struct handle *h, struct handle_name *n)
{
    struct handle_name **at = name_slot(&h->names, n->parent, n->name, n->len);
    n->next = *at;
    *at = n;
    h->names.n++;
}

struct handle_name *handle_names_take(struct handle *h)
{
    struct handle_name *all = h->names.list;
    for (size_t i = 0; i < h->names.slots; i++) {
        struct handle_name *next;
        for (struct handle_name *n = h->names.slot[i]; n != NULL; n = next) {
            next = n->next;
            n->next = all;
            all = n;
        }
    }
    free(h->names.slot);
    h->names = (struct handle_names){0};
    return all;
}

static void names_spread(struct handle *h)
{
    uint32_t slots = h->names.slots == 0 ? 4 * NAMES_LISTED : 4 * h->names.slots;
    struct handle_name *next, *all = handle_names_take(h);
    h->names.slot = calloc(slots, sizeof(*h->names.slot));
    if (h->names.slot == NULL)
        abort();
    h->names.slots = slots;
    for (struct handle_name *n = all; n != NULL; n = next) {
        next = n->next;
        name_put(h, n);
    }
}

void handle_name_add(struct handle *h, uint64_t parent, struct bytes name)
{
    assert(name.n <= NAME_LEN_MAX);
    if (*find_name(h, parent, name) != NULL)
        return;
    struct handle_name *n = malloc(sizeof(*n) + name.n);
    if (n == NULL)
        abort();
    n->parent = parent;
    n->len = (uint8_t)name.n;
    memcpy(n->name, name.p, name.n);
    if (h->names.n >= (h->names.slots == 0 ? NAMES_LISTED : 2 * h->names.slots))
        names_spread(h);
    name_put(h, n);
}

void handle_name_remove(struct handle *h, uint64_t parent, struct bytes name)
{
    struct handle_name **at = find_name(h, parent, name), *n = *at;
    if (n != NULL) {
        *at = n->next;
        h->names.n--;
        free(n);
    }
}

void handle_detach(struct handles *t, struct handle *h, uint64_t size, int64_t mtime, int64_t ctime)
{
    assert(h->old == NULL);
    h->old = calloc(1, sizeof(*h->old));
    if (h->old == NULL)
        abort();
    h->old->next = t->detached;
    h->old->prev = &t->detached;
    if (t->detached != NULL)
        t->detached->prev = &h->old->next;
    t->detached = h->old;
    h->old->size = size;
    h->old->mtime = mtime;
    h->old->ctime = ctime;
}

void handle_attach(struct handle *h)
{
    if (h->old == NULL)
        return;
    *h->old->prev = h->old->next;
    if (h->old->next != NULL)
        h->old->next->prev = h->old->prev;
    ranges_free(&h->old->saved);
    ranges_free(&h->old->lost);
    extent_list_free(&h->old->extents);
    free(h->old);
    h->old = NULL;
}

void handle_unsaved(const struct handle *h, uint64_t off, uint64_t end, struct ranges *out)
{
    end = end < h->old->size ? end : h->old->size;
    if (off >= end)
        return;
    ranges_add(out, off, end);
    for (size_t i = 0; i < h->old->saved.n; i++)
        ranges_remove(out, h->old->saved.v[i].off, h->old->saved.v[i].end);
    for (size_t i = 0; i < h->old->lost.n; i++)
        ranges_remove(out, h->old->lost.v[i].off, h->old->lost.v[i].end);
}

void handle_save(struct handle *h, uint64_t off, uint64_t end, const struct extent_list *extents)
{
    if (extents == NULL) {
        ranges_add(&h->old->lost, off, end);
        return;
    }
    extent_list_splice(&h->old->extents, off, end - off, extents);
    ranges_add(&h->old->saved, off, end);
}
