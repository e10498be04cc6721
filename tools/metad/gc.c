// SPDX-License-Identifier: Apache-2.0
/* Which blocks are garbage, and how block servers come to remove them.
 *
 * A block's row counts the extents, of the present and of the past that is kept, that refer to it.
 * When the last one is forgotten it is noted since when nothing does; a commit that refers to it
 * again ends that. After the grace time the block is declared absent, in one transaction: its row
 * and all presence go, so that a diff and a commit say that it is missing from then on, and for
 * each server that had it a row in `gone` says that it is to remove it.
 *
 * A server that comes to remove blocks first raises its storage's generation G and tells it. The
 * transaction that answers notes G for each block that it names: proofs of an older generation
 * count no more, so no commit can come to rest on bytes that are being removed. What the server has
 * of an older generation than G it removes, what was put since it keeps: a proof of G or later is
 * of such a put. A commit that brings one ends the order. So whatever is repeated, late or lost,
 * nothing is believed to be where it is not:
 *
 *   a commit after the declaration, with a receipt of before: the bytes are still there, no server
 *   was told yet; the receipt counts, and the server will not be told;
 *   a commit after the order, with a receipt of before: missing; the client puts the block again;
 *   a put before the server has carried the order out: kept, by its generation;
 *   an order carried out twice, or after a crash: what it should remove is gone already;
 *   a report of what replication brought before the order: its generation is older, it is ignored.
 */
#include "gc.h"

#include <errno.h>
#include <string.h>

#include "blockid.h"
#include "opening.h"
#include "replicas.h"
#include "restored.h"

#define COLLECT_BLOCKS 1024u          /* m_collect_ans.blocks */
#define GONE_KEPT_MS (3600ull * 1000) /* beyond the grace, after which no proof counts */

uint64_t gc_due_before(const struct meta *m, int64_t now_ms)
{
    return (uint64_t)now_ms > m->gc_grace_ms ? (uint64_t)now_ms - m->gc_grace_ms : 0;
}

/* ---- declared absent ------------------------------------------------------------------------ */
static int declare(struct meta *m, uint64_t ns, const struct block_id *b,
                   const struct server_row *servers, size_t servers_n, int64_t now_ms)
{
    const struct store_ops *ops = m->st->ops;
    struct holder_row h[CANDIDATES_MAX];
    size_t n;
    int r = ops->holders(m->st, ns, b, h, &n);
    for (size_t k = 0; k < n && !r; k++) {
        for (size_t s = 0; s < servers_n && !r; s++) {
            if (servers[s].id == h[k].server && servers[s].generation == h[k].generation)
                r = ops->gone_due(m->st, ns, b, h[k].server, now_ms);
        }
    }
    /* who lacked it lacks it no more: commits of the past may be complete now */
    for (size_t s = 0; s < servers_n && !r; s++)
        r = replicas_present(m, ns, servers[s].id, b);
    return r ? r : ops->block_drop(m->st, ns, b);
}

int gc_declare(struct meta *m, uint64_t ns, int64_t now_ms, size_t max, size_t *n,
               struct meta_gc_sums *sums)
{
    cleanup_arena struct arena ar = {0};
    struct server_row *servers;
    struct unused_row *v;
    size_t servers_n, noted, due = 0;
    uint64_t keep_until;
    int r = m->st->ops->unused_note(m->st, ns, now_ms, max, &noted);
    if (!r)
        r = restored_keeps(m, &keep_until);
    if (!r && !keep_until)
        r = m->st->ops->unused_list(m->st, ns, gc_due_before(m, now_ms), max, &v, &due, &ar);
    if (!r && due)
        r = m->st->ops->server_list(m->st, &servers, &servers_n, &ar);
    for (size_t k = 0; k < due && !r; k++) {
        r = declare(m, ns, &v[k].block, servers, servers_n, now_ms);
        sums->blocks++;
        sums->bytes += v[k].len;
        m->absent.blocks++;
        m->absent.bytes += v[k].len;
    }
    *n = noted > due ? noted : due;
    return r;
}

struct meta_gc_sums meta_absent(const struct meta *m)
{
    return m->absent;
}

/* ---- left behind ---------------------------------------------------------------------------- */
int gc_is_at(struct meta *m, uint64_t ns, const struct block_id *b,
             const struct server_row *servers, size_t servers_n, int64_t now_ms, bool *yes)
{
    struct holder_row h[CANDIDATES_MAX];
    size_t n;
    int r = m->st->ops->holders(m->st, ns, b, h, &n);
    *yes = false;
    for (size_t s = 0; s < servers_n && !r; s++)
        for (size_t k = 0; k < n; k++)
            *yes |= servers[s].id == h[k].server && servers[s].generation == h[k].generation &&
                    meta_hears(&servers[s], now_ms);
    return r;
}

/* A page of what is recorded of the namespace; what of it is at the server goes. */
static int part_page(struct meta *m, struct parted_row *p, bool exists, int64_t now_ms, size_t max,
                     bool *last, size_t *looked, struct arena *ar)
{
    const struct store_ops *ops = m->st->ops;
    struct server_row *servers;
    struct presence_row *v;
    size_t servers_n, n;
    int r = ops->assigned(m->st, p->ns, &servers, &servers_n, ar);
    if (!r)
        r = ops->presence_page(m->st, p->ns, &p->after, max + CANDIDATES_MAX, &v, &n, ar);
    if (r)
        return r;
    *last = n < max + CANDIDATES_MAX;
    for (size_t k = 0; k < n && !r; k++) {
        bool at = !exists, left;
        if (!*last && block_id_equal(&v[k].block, &v[n - 1].block))
            break; /* others of it may be in the next page */
        p->after = v[k].block;
        ++*looked;
        if (v[k].server != p->server)
            continue;
        if (exists)
            r = gc_is_at(m, p->ns, &v[k].block, servers, servers_n, now_ms, &at);
        p->kept += !r && !at;
        if (!r && at)
            r = ops->presence_drop(m->st, p->ns, &v[k].block, p->server, INT64_MAX, &left);
        if (!r && at && exists)
            r = ops->gone_due(m->st, p->ns, &v[k].block, p->server, now_ms);
    }
    return r;
}

static int part(struct meta *m, struct parted_row *p, bool exists, int64_t now_ms, size_t *left,
                struct arena *ar)
{
    const struct store_ops *ops = m->st->ops;
    struct held_row held;
    uint64_t orders = 0;
    bool last = true;
    size_t looked = 0;
    int r = ops->held(m->st, p->ns, p->server, &held);
    if (!r && (held.blocks || !exists))
        r = part_page(m, p, exists, now_ms, *left, &last, &looked, ar);
    *left -= looked < *left ? looked : *left;
    if (!r && last && exists && !p->kept)
        r = ops->gone_count(m->st, p->server, p->ns, 1, &orders);
    if (!r && last && !p->kept && !orders)
        return ops->parted_drop(m->st, p->ns, p->server);
    if (!r && last) { /* what is the only copy is looked at again a grace time later */
        p->since_ms = p->kept ? (uint64_t)now_ms : p->since_ms;
        p->kept = 0;
        memset(&p->after, 0, sizeof p->after);
    }
    return r ? r : ops->parted_set(m->st, p);
}

int gc_parted(struct meta *m, int64_t now_ms, size_t *left)
{
    cleanup_arena struct arena ar = {0};
    struct parted_row *v;
    size_t n;
    int r = m->st->ops->parted_list(m->st, 0, &v, &n, &ar);
    for (size_t k = 0; k < n && !r && *left; k++) {
        struct server_row s;
        r = m->st->ops->server_get(m->st, v[k].server, &s, &ar);
        bool exists = r == 0;
        if (r && r != -ENOENT)
            return r;
        r = 0;
        if (exists && v[k].since_ms > (uint64_t)now_ms) { /* the calendar was set back */
            v[k].since_ms = (uint64_t)now_ms;
            r = m->st->ops->parted_set(m->st, &v[k]);
        } else if (!exists || v[k].since_ms < gc_due_before(m, now_ms)) {
            r = part(m, &v[k], exists, now_ms, left, &ar);
        }
    }
    return r;
}

int meta_gc(struct meta *m, int64_t now_ms, struct meta_gc_sums *sums, bool *more)
{
    cleanup_arena struct arena ar = {0};
    struct ns_row *v;
    size_t n = 0, left = GC_STEP;
    bool keeps;
    int r = meta_change_begin(m);
    if (r)
        return r;
    r = restored_step(m, now_ms, &keeps);
    if (!r)
        r = m->st->ops->ns_list(m->st, 0, &v, &n, &ar);
    for (size_t k = 0; k < n && !r && left; k++) {
        size_t looked = 0;
        r = gc_declare(m, v[k].id, now_ms, left, &looked, sums);
        left -= looked;
    }
    if (!r && left && !keeps)
        r = gc_parted(m, now_ms, &left);
    if (!r && left)
        r = m->st->ops->unlack_step(m->st, &left);
    *more |= !left;
    uint64_t kept = m->gc_grace_ms + GONE_KEPT_MS;
    if (!r && (uint64_t)now_ms > kept)
        r = m->st->ops->gone_forget(m->st, (uint64_t)now_ms - kept, GC_STEP);
    return meta_change_end(m, r);
}

/* ---- removed -------------------------------------------------------------------------------- */
/* Whether the server is to have the block after all: something refers to it again, and nobody was
 * told to remove it. */
static int wanted_again(struct meta *m, const struct gone_row *g, uint64_t server, bool *yes)
{
    uint64_t len;
    *yes = false;
    if (g->due != GONE_DUE)
        return 0;
    int r = m->st->ops->block_get(m->st, g->ns, &g->block, &len);
    if (r)
        return r == -ENOENT ? 0 : r;
    return m->st->ops->assigned_to(m->st, g->ns, server, yes);
}

static int order(struct meta *m, const struct server_row *s, uint64_t generation, int64_t now_ms,
                 struct m_collect_ans *a, struct arena *ar)
{
    const struct store_ops *ops = m->st->ops;
    struct gone_row *v;
    size_t n;
    int r = ops->gone_list(m->st, s->id, COLLECT_BLOCKS, &v, &n, ar);
    a->blocks = arena_alloc(ar, (n + 1) * sizeof *a->blocks);
    a->more = n == COLLECT_BLOCKS;
    for (size_t k = 0; k < n && !r; k++) {
        bool wanted;
        uint64_t from_now = v[k].generation > generation ? v[k].generation : generation;
        r = wanted_again(m, &v[k], s->id, &wanted);
        if (!r)
            r = ops->gone_order(m->st, v[k].ns, &v[k].block, s->id, wanted ? 0 : from_now,
                                wanted ? GONE : GONE_ORDERED, now_ms);
        if (!r && !wanted)
            a->blocks[a->blocks_n++] =
                (struct m_lost){.ns = v[k].ns, .block = v[k].block, .generation = from_now};
    }
    return r;
}

static int collect(struct meta *m, uint64_t server, const struct m_collect_req *q, int64_t now_ms,
                   struct m_collect_ans *a, struct arena *ar)
{
    struct server_row s;
    uint64_t keep_until = 0;
    int r = m->st->ops->server_get(m->st, server, &s, ar);
    if (!r && (s.unheard || !opening_is(&s, q->incarnation, q->run)))
        r = -EAGAIN; /* beat first */
    if (!r)
        r = restored_keeps(m, &keep_until);
    for (size_t k = 0; k < q->done_n && !r; k++) {
        bool was;
        r = m->st->ops->gone_done(m->st, q->done[k].ns, &q->done[k].block, server,
                                  q->done[k].generation, now_ms, &was);
    }
    if (!r && !keep_until)
        r = order(m, &s, q->generation, now_ms, a, ar);
    if (r || !s.tick || !a->blocks_n)
        return r;
    a->tick = ++s.tick; /* a database of before does not know that they are gone */
    return m->st->ops->server_set(m->st, &s);
}

int meta_collect(struct meta *m, const struct meta_caller *who, const struct m_collect_req *q,
                 int64_t now_ms, struct m_collect_ans *a, struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    if (!who->server)
        return meta_fail(why, -EACCES, "collect: only a block server removes blocks");
    if (!q->generation)
        return meta_fail(why, -EBADMSG, "collect: the storage's generation is missing");
    int r = meta_change_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot collect");
    r = meta_change_end(m, collect(m, who->server, q, now_ms, a, ar));
    if (r == -EAGAIN)
        return meta_fail(why, r, "collect: the storage is not the one that was last reported");
    return r ? meta_store_fail(why, r, "cannot collect") : 0;
}
