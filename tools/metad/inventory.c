// SPDX-License-Identifier: Apache-2.0
/* What a block server has, compared with what is recorded of it.
 *
 * A server goes through all its blocks in the order of their ids, now and then. It raises its
 * storage's generation first, so that what was recorded meanwhile is told by its proof:
 *
 *   there, not recorded           a commit or a report was lost: recorded now, if the proof counts
 *   recorded before, not there    lost without a word (a disk from a backup): a loss from now on
 *   there, nothing refers to it   uploaded, never committed; or the namespace has left this server:
 *                                 to be removed, if it was put before the last pass began, which is
 *                                 the grace time ago or longer
 *
 * In between it names blocks that a client was sent to it for (`locate`) and that are not there:
 * the range is empty then. What it says of itself counts, whoever asked it.
 *
 * Of what clients put it asks soon which has been committed (`recorded`): the rest is bounded there
 * until a comparison has it removed, since no quota counts it. Nothing is changed by that. Where
 * somebody has come to that bound it names what he put a while ago (`given_up`), which is removed
 * without waiting so long: should its commit come after all, the blocks are missing, and sent
 * again.
 *
 * Nothing is to be removed while a database that was put back is kept from it (restored.h).
 *
 * A pass that is part of a check that is to change nothing (audit.h) only counts and notes.
 *
 * Removing goes the way of all garbage (gc.c), so every race with a commit is decided there. */
#include "gc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockid.h"
#include "gone.h"
#include "opening.h"
#include "replicas.h"
#include "restored.h"

#define LOST_PER_CALL 1024u
#define NAMESPACES_PAGE 256u

struct inventory {
    struct meta *m;
    struct server_row s;
    const struct m_inventory_req *q;
    struct m_inventory_ans *a;
    int64_t now_ms;
    struct arena *ar;
    uint64_t ns; /* asked about last, and what was answered */
    bool assigned;
    uint64_t keep_until; /* not 0: restored.h */
};

static int is_assigned(struct inventory *v, uint64_t ns)
{
    if (v->ns == ns)
        return 0;
    v->ns = ns;
    return v->m->st->ops->assigned_to(v->m->st, ns, v->s.id, &v->assigned);
}

static bool is_recorded(const struct inventory *v, const struct holder_row *h, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (h[k].server == v->s.id && h[k].generation == v->s.generation)
            return true;
    return false;
}

/* Whether a server that the namespace has now, and that is not silent, is recorded to have it. */
static int is_elsewhere(struct inventory *v, const struct m_held *h, bool *yes)
{
    struct server_row *servers;
    size_t servers_n;
    *yes = false;
    int r = v->m->st->ops->assigned(v->m->st, h->ns, &servers, &servers_n, v->ar);
    return r ? r : gc_is_at(v->m, h->ns, &h->block, servers, servers_n, v->now_ms, yes);
}

/* known: something of the namespace refers to it, which is not at this server any more: others must
 * have it then. */
static int unneeded(struct inventory *v, const struct m_held *h, bool known)
{
    const struct store_ops *ops = v->m->st->ops;
    bool left, elsewhere = true,
               young = !v->q->before || h->generation >= v->q->before || v->keep_until;
    int r = known && !young ? is_elsewhere(v, h, &elsewhere) : 0;
    if (r)
        return r;
    v->a->unknown += young || !elsewhere;
    v->a->unneeded += !young && elsewhere;
    if (young || !elsewhere || v->q->look)
        return 0;
    r = ops->presence_drop(v->m->st, h->ns, &h->block, v->s.id, v->q->generation, &left);
    return r ? r : ops->gone_due(v->m->st, h->ns, &h->block, v->s.id, v->now_ms);
}

static int compare_one(struct inventory *v, const struct m_held *h)
{
    const struct store_ops *ops = v->m->st->ops;
    struct holder_row rows[CANDIDATES_MAX];
    uint64_t least, len = 0;
    enum gone_state due;
    size_t n;
    int r = ops->gone_get(v->m->st, h->ns, &h->block, v->s.id, &least, &due);
    if (r || due != GONE)
        return r; /* it is to be removed already */
    r = is_assigned(v, h->ns);
    if (!r)
        r = ops->block_get(v->m->st, h->ns, &h->block, &len);
    if (r == -ENOENT || (!r && !v->assigned))
        return unneeded(v, h, r == 0);
    if (!r)
        r = ops->holders(v->m->st, h->ns, &h->block, rows, &n);
    if (r || is_recorded(v, rows, n) || len != h->len || h->generation < least)
        return r;
    v->a->announced++;
    if (v->q->look)
        return ops->finding_put(v->m->st, h->ns, &h->block, v->s.id, true, h->generation);
    r = gone_proved(v->m, h->ns, &v->s, &h->block, h->generation, v->now_ms);
    return r ? r : replicas_present(v->m, h->ns, v->s.id, &h->block);
}

static int by_block(const void *a, const void *b)
{
    return block_id_compare(a, &((const struct m_held *)b)->block);
}

static bool has(const struct m_inventory_req *q, uint64_t ns, const struct block_id *b)
{
    const struct m_held *at =
        q->blocks_n ? bsearch(b, q->blocks, q->blocks_n, sizeof *at, by_block) : NULL;
    if (!at)
        return false;
    while (at > q->blocks && block_id_equal(&at[-1].block, b))
        at--;
    for (; at < q->blocks + q->blocks_n && block_id_equal(&at->block, b); at++)
        if (at->ns == ns)
            return true;
    return false;
}

/* Recorded in one namespace, and not in the page; no further than a bounded number of rows goes. */
static int find_lost(struct inventory *v, uint64_t ns)
{
    cleanup_arena struct arena ar = {0};
    struct block_id *rows;
    size_t n;
    int r = v->m->st->ops->presence_list(v->m->st, ns, v->s.id, v->s.generation, v->q->generation,
                                         &v->q->after, &v->a->upto, LOST_PER_CALL + v->q->blocks_n,
                                         &rows, &n, &ar);
    if (!r && n == LOST_PER_CALL + v->q->blocks_n)
        v->a->upto = rows[n - 1];
    for (size_t k = 0; k < n && !r; k++) {
        if (has(v->q, ns, &rows[k]))
            continue;
        struct m_lost lost = {.ns = ns, .block = rows[k], .generation = v->q->generation};
        v->a->lost++;
        r = v->q->look ? v->m->st->ops->finding_put(v->m->st, ns, &rows[k], v->s.id, false,
                                                    v->q->generation)
                       : gone_lost(v->m, &v->s, &lost, v->now_ms);
    }
    return r;
}

static int find_all_lost(struct inventory *v)
{
    uint64_t after = 0;
    size_t n = NAMESPACES_PAGE;
    int r = 0;
    while (n == NAMESPACES_PAGE && !r) {
        cleanup_arena struct arena ar = {0};
        uint64_t *ids;
        r = v->m->st->ops->ns_of_server(v->m->st, v->s.id, after, NAMESPACES_PAGE, &ids, &n, &ar);
        for (size_t k = 0; k < n && !r; k++) {
            r = find_lost(v, ids[k]);
            after = ids[k];
        }
    }
    return r;
}

static bool in_order(const struct m_inventory_req *q)
{
    for (size_t k = 0; k < q->blocks_n; k++) {
        if (block_id_compare(&q->blocks[k].block, k ? &q->blocks[k - 1].block : &q->after) < 0 ||
            block_id_compare(&q->blocks[k].block, &q->upto) > 0)
            return false;
    }
    return true;
}

/* Somebody was sent there for them. The server has said which of all blocks it was asked for are
 * not there; of those that are not recorded either nothing is kept. */
static int take_missing(struct inventory *v)
{
    struct holder_row rows[CANDIDATES_MAX];
    int r = 0;
    for (size_t k = 0; k < v->q->missing_n && !r; k++) {
        struct m_lost lost = v->q->missing[k];
        size_t n;
        lost.generation = v->q->generation;
        r = v->m->st->ops->holders(v->m->st, lost.ns, &lost.block, rows, &n);
        if (r || !is_recorded(v, rows, n))
            continue;
        v->a->lost++;
        r = gone_lost(v->m, &v->s, &lost, v->now_ms);
    }
    return r;
}

static int inventory(struct inventory *v)
{
    bool range = block_id_compare(&v->q->after, &v->q->upto) < 0;
    int r = range ? find_all_lost(v) : 0;
    if (!r && !v->q->look)
        r = take_missing(v);
    for (size_t k = 0; k < v->q->blocks_n && !r; k++)
        if (block_id_compare(&v->q->blocks[k].block, &v->a->upto) <= 0)
            r = compare_one(v, &v->q->blocks[k]);
    for (size_t k = 0; k < v->q->given_up_n && !r && !v->q->look; k++)
        r = compare_one(v, &v->q->given_up[k]);
    return r;
}

int meta_inventory(struct meta *m, const struct meta_caller *who, const struct m_inventory_req *q,
                   int64_t now_ms, struct m_inventory_ans *a, struct arena *ar, char *why)
{
    struct inventory v = {.m = m, .q = q, .a = a, .now_ms = now_ms, .ar = ar};
    memset(a, 0, sizeof *a);
    a->upto = q->upto;
    if (!who->server)
        return meta_fail(why, -EACCES, "inventory: only a block server has one");
    if (!q->generation || q->before > q->generation || !in_order(q))
        return meta_fail(why, -EBADMSG, "inventory: the blocks are not in order");
    int r = meta_change_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot compare");
    r = m->st->ops->server_get(m->st, who->server, &v.s, ar);
    if (!r && !opening_is(&v.s, q->incarnation, q->run))
        r = -EAGAIN;
    if (!r)
        r = restored_keeps(m, &v.keep_until);
    if (!r)
        r = inventory(&v);
    r = meta_change_end(m, r);
    if (r == -EAGAIN)
        return meta_fail(why, r, "inventory: the storage is not the one that was last reported");
    return r ? meta_store_fail(why, r, "cannot compare") : 0;
}

/* ---- recorded ------------------------------------------------------------------------------ */

/* A namespace that is not assigned to the server is none to it. */
static int tell_quota(struct inventory *v, uint64_t ns, struct m_recorded_ans *a)
{
    struct ns_row row;
    for (size_t k = 0; k < a->quotas_n; k++)
        if (a->quotas[k].ns == ns)
            return 0;
    int r = v->m->st->ops->ns_get(v->m->st, ns, &row, v->ar);
    if (!r)
        a->quotas[a->quotas_n++] = (struct m_ns_quota){ns, row.quota_bytes};
    return r;
}

static int recorded(struct inventory *v, const struct m_recorded_req *q, struct m_recorded_ans *a)
{
    uint8_t *bits = arena_alloc(v->ar, q->blocks_n / 8 + 1);
    int r = 0;
    memset(bits, 0, q->blocks_n / 8 + 1);
    a->recorded = bytes_of(bits, (q->blocks_n + 7) / 8);
    a->quotas = arena_alloc(v->ar, (q->blocks_n + 1) * sizeof *a->quotas);
    for (size_t k = 0; k < q->blocks_n && !r; k++) {
        struct holder_row rows[CANDIDATES_MAX];
        size_t n;
        bool other = v->ns != q->blocks[k].ns;
        r = is_assigned(v, q->blocks[k].ns);
        if (!r && v->assigned && other)
            r = tell_quota(v, v->ns, a);
        if (r || !v->assigned)
            continue;
        r = v->m->st->ops->holders(v->m->st, v->ns, &q->blocks[k].block, rows, &n);
        if (!r && is_recorded(v, rows, n))
            bits[k / 8] |= (uint8_t)(1u << k % 8);
    }
    return r;
}

int meta_recorded(struct meta *m, const struct meta_caller *who, const struct m_recorded_req *q,
                  struct m_recorded_ans *a, struct arena *ar, char *why)
{
    struct inventory v = {.m = m, .ar = ar};
    memset(a, 0, sizeof *a);
    if (!who->server)
        return meta_fail(why, -EACCES, "recorded: only a block server asks that");
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    r = m->st->ops->server_get(m->st, who->server, &v.s, ar);
    if (!r)
        r = recorded(&v, q, a);
    if (r)
        r = meta_store_fail(why, r, "cannot read");
    return meta_read_end(m, r);
}
