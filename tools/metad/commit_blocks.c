// SPDX-License-Identifier: Apache-2.0
/* Which blocks a commit needs at its targets, and which of them are not there.
 *
 * A block is needed when the client names it, or when a new extent refers to it and the changed
 * node does not already: the client's list is never trusted alone. It is there when presence is
 * recorded for this namespace under the server's current generation, or when a valid receipt for
 * exactly this block, namespace, server and storage is presented. One that the client does not hold
 * (`not_held`) may be at other assigned servers, as many as the commit has targets: replication
 * brings it.
 *
 * Whether a node refers to a block already is asked only for blocks that are not simply present,
 * and then all of the node's blocks are read once into a set, so that neither an index over all
 * extents nor a scan per block is paid for.
 *
 * Lengths: of a block without a row, the receipt is believed, which the block server signed after
 * it had measured; the client's word only sizes the question.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockid.h"
#include "gone.h"
#include "keys.h"
#include "opening.h"
#include "replicas.h"

#define NODE_PAGE 4096 /* extents read at a time */

/* ---- sets of blocks
 * ------------------------------------------------------------------------------- */
void blocks_init(struct blocks *b, uint64_t seed)
{
    memset(b, 0, sizeof *b);
    b->seed = seed;
}

void blocks_free(struct blocks *b)
{
    free(b->v);
    free(b->slots);
    blocks_init(b, b->seed);
}

static size_t block_slot(const struct blocks *b, const struct block_id *id)
{
    uint64_t h = b->seed ^ id->b[0], word;
    for (size_t k = 1; k < BLOCK_ID_LEN; k += sizeof word) {
        memcpy(&word, id->b + k, sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio */
        h ^= h >> 29;
    }
    size_t k = h & (b->slots_n - 1);
    while (b->slots[k] && !block_id_equal(&b->v[b->slots[k] - 1].id, id))
        k = (k + 1) & (b->slots_n - 1);
    return k;
}

struct need *blocks_find(const struct blocks *b, const struct block_id *id)
{
    if (!b->slots_n)
        return NULL;
    uint32_t index = b->slots[block_slot(b, id)];
    return index ? &b->v[index - 1] : NULL;
}

struct need *blocks_add(struct blocks *b, const struct block_id *id)
{
    struct need *found = blocks_find(b, id);
    if (found)
        return found;
    if (b->n == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 16;
        b->v = realloc(b->v, b->cap * sizeof *b->v);
        b->slots_n = 2 * b->cap;
        free(b->slots);
        b->slots = calloc(b->slots_n, sizeof *b->slots);
        if (!b->v || !b->slots)
            abort();
        for (size_t k = 0; k < b->n; k++)
            b->slots[block_slot(b, &b->v[k].id)] = (uint32_t)(k + 1);
    }
    assert(b->v && b->slots);
    b->v[b->n] = (struct need){.id = *id};
    b->slots[block_slot(b, id)] = (uint32_t)(b->n + 1);
    return &b->v[b->n++];
}

int blocks_load(struct store *st, uint64_t ns, const struct server_row *servers, size_t servers_n,
                struct blocks *b)
{
    struct holder_row h[CANDIDATES_MAX];
    for (size_t k = 0; k < b->n; k++) {
        struct need *need = &b->v[k];
        size_t n;
        int r = st->ops->block_get(st, ns, &need->id, &need->len);
        if (r == -ENOENT)
            continue; /* never seen here: nobody holds it */
        need->known = true;
        if (!r)
            r = st->ops->holders(st, ns, &need->id, h, &n);
        if (r)
            return r;
        for (size_t i = 0; i < n; i++) {
            for (size_t s = 0; s < servers_n; s++) {
                if (servers[s].id != h[i].server || servers[s].generation != h[i].generation)
                    continue;
                need->present |= 1ull << s;
                need->unheard |= (uint64_t)servers[s].unheard << s;
            }
        }
    }
    return 0;
}

/* ---- receipts
 * --------------------------------------------------------------------------------------- */
static bool receipt_counts(const struct commit *c, const struct m_receipt *r,
                           const struct server_row *s)
{
    uint64_t now = (uint64_t)c->now_ms;
    if (r->ns != c->ns.id || r->server != s->id || !r->len || r->len > BLOCK_MAX)
        return false;
    if (!opening_has(s, r->incarnation, r->run, r->generation))
        return false;
    if (r->time_ms > now)
        return r->time_ms - now <= RECEIPT_SKEW_MS;
    return now - r->time_ms <= c->m->gc_grace_ms / 2;
}

struct good_keys {
    struct token_key v[KEYS_MAX];
    size_t n; /* 0: not loaded yet */
};

/* The key of that number if it is good, else NULL. Receipts are many, and whoever sends them
 * chooses what they say: a server's keys are looked up once a commit. */
static int key_of(struct commit *c, size_t s, uint64_t id, const struct token_key **key)
{
    *key = NULL;
    if (!c->keys) /* zeroed */
        c->keys = arena_alloc(c->ar, c->servers_n * sizeof *c->keys);
    struct good_keys *g = &c->keys[s];
    int r = g->n ? 0 : keys_good(c->m, &c->servers[s], c->now_ms, g->v, &g->n);
    for (size_t k = 0; k < g->n && !r; k++)
        if (g->v[k].id == id)
            *key = &g->v[k];
    return r;
}

/* Notes the receipt of server s if it counts. Also where the block is present: it may have been put
 * again, and a report of a loss before that is on its way. */
static int take_receipt(struct commit *c, struct blocks *b, struct bytes token)
{
    cleanup_arena struct arena tmp = {0};
    struct m_receipt r;
    size_t s = 0;
    if (receipt_peek(&r, token, &tmp))
        return 0;
    while (s < c->servers_n && c->servers[s].id != r.server)
        s++;
    struct need *need = s < c->servers_n ? blocks_find(b, &r.block) : NULL;
    if (!need)
        return 0;
    const struct token_key *key;
    int err = key_of(c, s, r.key_id, &key);
    if (err || !key)
        return err;
    if (receipt_open(&r, token, key, &tmp) || !receipt_counts(c, &r, &c->servers[s]))
        return 0;
    if (need->len && need->len != r.len)
        return 0;
    bool counts;
    err = gone_admits(c->m, c->ns.id, &c->servers[s], &need->id, r.generation, &counts);
    if (err || !counts)
        return err;
    if (!need->proof) /* zeroed */
        need->proof = arena_alloc(c->ar, c->servers_n * sizeof *need->proof);
    need->len = r.len;
    need->fresh |= 1ull << s;
    if (r.generation > need->proof[s])
        need->proof[s] = r.generation;
    return 0;
}

/* Marks what the receipts prove. One that proves nothing is as good as none: the block stays
 * missing and the client, told so, uploads or renews. */
static int take_receipts(struct commit *c, struct blocks *b)
{
    int r = 0;
    for (size_t k = 0; k < c->q->receipts_n && !r; k++)
        r = take_receipt(c, b, c->q->receipts[k].receipt);
    return r;
}

/* ---- what a commit needs
 * ------------------------------------------------------------------------------ */
typedef void (*extent_fn)(struct commit *c, const struct m_node_change *n,
                          const struct m_extent *e);

static void each_extent(struct commit *c, extent_fn fn)
{
    for (size_t k = 0; k < c->changes.nodes_n; k++) {
        const struct m_node_change *n = &c->changes.nodes[k];
        for (size_t g = 0; g < n->ranges_n; g++) {
            for (size_t e = 0; e < n->ranges[g].extents_n; e++)
                fn(c, n, &n->ranges[g].extents[e]);
        }
    }
}

static void add_extent(struct commit *c, const struct m_node_change *n, const struct m_extent *e)
{
    (void)n;
    blocks_add(&c->blocks, &e->block)->used = true;
}

static void collect(struct commit *c)
{
    const struct m_commit_req *q = c->q;
    for (size_t k = 0; k < q->ids_n; k++) {
        struct need *need = blocks_add(&c->blocks, &q->ids[k].block);
        need->named = true;
        need->claimed = q->ids[k].len;
    }
    each_extent(c, add_extent);
    for (size_t k = 0; k < q->not_held_n; k++) {
        struct need *need = blocks_find(&c->blocks, &q->not_held[k]);
        if (need)
            need->not_held = true;
    }
}

static bool satisfied(const struct commit *c, const struct need *need)
{
    uint64_t held = (need->present & ~need->unheard) | need->fresh;
    if ((c->targets & ~held) == 0)
        return true;
    held |= need->unheard; /* there is nobody else to ask */
    return need->not_held && __builtin_popcountll(held) >= __builtin_popcountll(c->targets);
}

/* Blocks that the node refers to now (or at its end, if the commit opens it again). */
static int base_blocks(struct commit *c, const struct wnode *w, struct blocks *set)
{
    uint64_t at = w->state == NODE_CLOSED ? w->ended - 1 : STORE_NOW, off = 0;
    size_t n = NODE_PAGE;
    while (n == NODE_PAGE) {
        cleanup_arena struct arena tmp = {0};
        struct extent_row *v;
        int r = c->m->st->ops->extent_list(c->m->st, c->ns.id, w->node, at, off,
                                           (uint64_t)FILE_SIZE_MAX - off, NODE_PAGE, &v, &n, &tmp);
        if (r)
            return r;
        for (size_t k = 0; k < n; k++)
            blocks_add(set, &v[k].e.block);
        if (n)
            off = v[n - 1].e.off + v[n - 1].e.len;
    }
    return 0;
}

/* Names those blocks of n's new extents that are not at the targets and that its base does not
 * have. */
static int name_new(struct commit *c, const struct m_node_change *n)
{
    const struct wnode *w = commit_find(c, n->node);
    struct blocks base;
    bool read = false;
    int r = 0;
    blocks_init(&base, c->m->seed);
    for (size_t g = 0; g < n->ranges_n && !r; g++) {
        for (size_t e = 0; e < n->ranges[g].extents_n && !r; e++) {
            struct need *need = blocks_find(&c->blocks, &n->ranges[g].extents[e].block);
            if (need->named || satisfied(c, need))
                continue;
            if (!read && w->state != NODE_ABSENT)
                r = base_blocks(c, w, &base);
            read = true;
            if (!r && !blocks_find(&base, &need->id))
                need->named = true;
        }
    }
    blocks_free(&base);
    return r;
}

/* ---- lengths
 * ------------------------------------------------------------------------------------------- */
static void check_extent_len(struct commit *c, const struct m_node_change *n,
                             const struct m_extent *e)
{
    const struct need *need = blocks_find(&c->blocks, &e->block);
    if (need->len && (e->len > need->len || e->block_off > need->len - e->len))
        commit_refuse(c, ROW_NODE_CONTENT, n->node, bytes_of(NULL, 0), REFUSED_INVALID,
                      "an extent reaches beyond the end of its block");
}

static void refuse_claim(struct commit *c, const struct m_node_change *n, const struct m_extent *e)
{
    const struct need *need = blocks_find(&c->blocks, &e->block);
    if (need->len && need->claimed > need->len)
        commit_refuse(c, ROW_NODE_CONTENT, n->node, bytes_of(NULL, 0), REFUSED_INVALID,
                      "a block is shorter than the length given");
}

static void check_lengths(struct commit *c)
{
    each_extent(c, check_extent_len);
    each_extent(c, refuse_claim);
    for (size_t k = 0; k < c->blocks.n && !c->rows_n; k++) {
        const struct need *need = &c->blocks.v[k];
        bool wrong = need->named && need->len && need->claimed > need->len;
        if (wrong || need->claimed > BLOCK_MAX)
            commit_refuse_all(c, REFUSED_INVALID, "a block is shorter than the length given");
    }
}

/* ---- missing
 * ------------------------------------------------------------------------------------------- */
static void add_missing(struct m_missing **v, size_t *n, uint64_t server, const struct need *need)
{
    if (*n == IDS_MAX)
        return; /* the rest is asked for again when these are there */
    if ((*n & (*n - 1)) == 0) {
        *v = realloc(*v, (*n ? 2 * *n : 1) * sizeof **v);
        if (!*v)
            abort();
    }
    (*v)[(*n)++] = (struct m_missing){.server = server, .block = need->id};
}

static void list_missing(struct commit *c)
{
    for (size_t k = 0; k < c->blocks.n; k++) {
        const struct need *need = &c->blocks.v[k];
        uint64_t held = (need->present & ~need->unheard) | need->fresh;
        if (!need->named || satisfied(c, need))
            continue;
        for (size_t s = 0; s < c->servers_n; s++) {
            if (!(c->targets & ~held & 1ull << s))
                continue;
            if (held | need->unheard)
                add_missing(&c->elsewhere, &c->elsewhere_n, c->servers[s].id, need);
            else
                add_missing(&c->missing, &c->missing_n, c->servers[s].id, need);
        }
    }
}

int commit_check_blocks(struct commit *c)
{
    if (!c->q)
        return 0;
    collect(c);
    int r = blocks_load(c->m->st, c->ns.id, c->servers, c->servers_n, &c->blocks);
    if (!r)
        r = take_receipts(c, &c->blocks);
    for (size_t k = 0; k < c->changes.nodes_n && !r; k++)
        r = name_new(c, &c->changes.nodes[k]);
    if (r)
        return r;
    check_lengths(c);
    if (!c->rows_n)
        list_missing(c);
    return 0;
}

int commit_stage_receipts(struct commit *c)
{
    const struct store_ops *ops = c->m->st->ops;
    collect(c);
    int r = blocks_load(c->m->st, c->ns.id, c->servers, c->servers_n, &c->blocks);
    if (!r)
        r = take_receipts(c, &c->blocks);
    for (size_t k = 0; k < c->blocks.n && !r; k++) {
        const struct need *need = &c->blocks.v[k];
        if (need->fresh)
            r = ops->block_put(c->m->st, c->ns.id, &need->id, need->len, c->ns.head + 1);
        for (size_t s = 0; s < c->servers_n && !r; s++) {
            if (need->fresh & 1ull << s)
                r = gone_proved(c->m, c->ns.id, &c->servers[s], &need->id, need->proof[s],
                                c->now_ms);
            if (!r && need->known && (need->fresh & 1ull << s))
                r = replicas_present(c->m, c->ns.id, c->servers[s].id, &need->id);
        }
    }
    return r;
}
