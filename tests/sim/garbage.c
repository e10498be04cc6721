// SPDX-License-Identifier: Apache-2.0
/* What block servers remove, what they report late, and what must hold of both.
 *
 * The metadata server declares absent what nothing has referred to for the grace time; a block
 * server raises its storage's generation, asks what it is to remove, and removes it at some later
 * moment, unless it was put again since. Answers are lost, the server forgets its orders, what it
 * has removed is told late or never. Reports of what replication brought wait too, and come twice,
 * after a loss of the storage, after a removal.
 *
 * So presence is looked at, whenever any of that has happened: what the metadata server believes to
 * be at a block server is there, and what the tree refers to is somewhere.
 */
#include "sim.h"

#include <errno.h>
#include <string.h>

#define FRESH_NS (60 * 1000000000ll)     /* an order that is older is not carried out */
#define LATE_NS (30 * 60 * 1000000000ll) /* no report is under way for longer */

static bool crashed(struct sim *s)
{
    if (!simvfs_crashed(s->server.disk))
        return false;
    server_crash(s);
    return true;
}

/* ---- what must hold -------------------------------------------------------------------------- */
/* It is there, or was lost and the metadata server cannot know yet. */
static bool may_be_believed(const struct sim *s, const struct written *w, unsigned k)
{
    return w->held[k] || s->blockd[k].older ||
           (w->lost[k] && s->blockd[k].reported != s->blockd[k].generation);
}

static void presence_of(struct sim *s, uint64_t ns, const struct block_id *ids, size_t n)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_locate_req q = {.ns = ns, .ids = arena_copy(&ar, ids, n * sizeof *ids), .ids_n = n};
    struct m_locate_ans a;
    if (meta_locate(s->server.meta, server_owner(s, ns), &q, &a, &ar, why)) {
        sim_fail(s, "presence cannot be read: %s", why);
        return;
    }
    for (size_t i = 0; i < a.locations_n && !s->failed; i++) {
        uint32_t w = 0;
        ledger_find(&s->ledger, &a.locations[i].block, &w);
        for (size_t j = 0; j < a.locations[i].servers_n; j++)
            for (unsigned k = 0; k < SERVERS_MAX; k++)
                if (s->server.inst->server[k].id == a.locations[i].servers[j] &&
                    !may_be_believed(s, &s->ledger.w[w], k))
                    sim_fail(s, "write %u is believed to be at block server %u, and is not", w, k);
    }
}

/* What is believed to be there is there. */
static void verify_presence(struct sim *s)
{
    struct block_id ids[256];
    for (unsigned n = 0; n < NAMESPACES; n++)
        for (uint32_t at = 0; at < s->ledger.n && !s->failed; at += 256) {
            size_t some = s->ledger.n - at < 256 ? s->ledger.n - at : 256;
            for (size_t i = 0; i < some; i++)
                ids[i] = s->ledger.w[at + i].id;
            presence_of(s, s->server.inst->ns[n], ids, some);
        }
}

static void verify_one(struct sim *s, unsigned n, uint32_t i, bool everywhere)
{
    const struct written *w = &s->ledger.w[i];
    if (!w->referred)
        return;
    if (blockd_nowhere(w) && !blockd_had(w) && !w->gone_before)
        sim_fail(s, "write %u is in the tree of %s, and was removed everywhere", i, ns_names[n]);
    for (unsigned k = 0; everywhere && !blockd_nowhere(w) && k < SERVERS_MAX; k++)
        if ((s->assigned[n] >> k & 1) && !w->held[k])
            sim_fail(s, "write %u of %s never came to block server %u", i, ns_names[n], k);
}

/* What a namespace's tree refers to was not removed; and (everywhere) is wherever it is assigned
 * to, but for what is nowhere any more. */
static void verify_kept(struct sim *s, bool everywhere)
{
    for (unsigned n = 0; n < NAMESPACES && !s->failed; n++) {
        if (s->server.seen[n] <= 1) /* nothing was written there */
            continue;
        verify_reach(s, s->server.inst->ns[n]);
        for (uint32_t i = 0; i < s->ledger.n && !s->failed; i++)
            verify_one(s, n, i, everywhere);
    }
}

/* ---- reports --------------------------------------------------------------------------------- */
static void tell(struct sim *s, const struct report *r)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint8_t incarnation[16];
    struct m_stored_ans a;
    incarnation_of('b', r->server, r->generation, incarnation);
    struct m_stored_req q = {.incarnation = bytes_of(incarnation, sizeof incarnation),
                             .run = r->run,
                             .blocks = arena_copy(&ar, r->v, r->n * sizeof *r->v),
                             .blocks_n = r->n};
    int err = meta_stored(s->server.meta, &s->server.inst->server[r->server].who, &q,
                          s->now / 1000000, &a, &ar, why);
    sim_log(s, "block server %u reports %zu blocks that were brought: %d", r->server, r->n, err);
    if (crashed(s))
        return;
    if (err && err != -EAGAIN) /* its storage is another one by now, or not heard of yet */
        sim_fail(s, "stored of block server %u: %s", r->server, why);
}

void garbage_report(struct sim *s, const struct report *r, bool late)
{
    if (!late)
        tell(s, r);
    else if (s->reports_n < REPORTS_MAX)
        s->reports[s->reports_n++] = *r;
}

/* One that has waited; it may come again. */
static void late_report(struct sim *s, struct rng *r)
{
    if (!s->reports_n)
        return;
    size_t i = rng_below(r, (unsigned)s->reports_n);
    struct report one = s->reports[i];
    if (!rng_percent(r, 60))
        s->reports[i] = s->reports[--s->reports_n];
    if (s->now - one.at < LATE_NS)
        tell(s, &one);
    if (!s->failed)
        verify_presence(s);
}

/* ---- collecting ------------------------------------------------------------------------------ */
static void declare(struct sim *s)
{
    struct meta_gc_sums sums = {0};
    bool more = true;
    int err = 0;
    while (!err && more && !simvfs_crashed(s->server.disk)) {
        more = false;
        err = meta_gc(s->server.meta, s->now / 1000000, &sums, &more);
    }
    if (crashed(s))
        return;
    if (sums.blocks)
        sim_log(s, "%llu blocks are declared absent", (unsigned long long)sums.blocks);
    if (err)
        sim_fail(s, "meta_gc: %d", err);
}

/* Asks what to remove; lost: the answer. */
static void ask(struct sim *s, unsigned k, bool lost)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint8_t incarnation[16];
    struct blockd *b = &s->blockd[k];
    struct m_collect_ans a;
    incarnation_of('b', k, b->generation, incarnation);
    struct m_collect_req q = {.incarnation = bytes_of(incarnation, sizeof incarnation),
                              .run = b->run,
                              .generation = ++b->raised,
                              .done = arena_copy(&ar, b->done, b->done_n * sizeof *b->done),
                              .done_n = b->done_n};
    int err = meta_collect(s->server.meta, &s->server.inst->server[k].who, &q, s->now / 1000000, &a,
                           &ar, why);
    if (crashed(s))
        return;
    if (err && err != -EAGAIN)
        sim_fail(s, "collect of block server %u: %s", k, why);
    if (err || lost)
        return;
    b->done_n = 0;
    b->orders_n = a.blocks_n < ORDERS_MAX ? a.blocks_n : ORDERS_MAX;
    if (b->orders_n)
        memcpy(b->orders, a.blocks, b->orders_n * sizeof *b->orders);
    b->ordered = s->now;
    b->tick = a.tick > b->tick ? a.tick : b->tick;
    if (b->orders_n) { /* before anything is removed */
        b->kept = b->tick;
        sim_log(s, "block server %u is to remove %zu blocks", k, b->orders_n);
    }
}

/* What was put in that generation or later stays. */
static void remove_ordered(struct sim *s, unsigned k)
{
    struct blockd *b = &s->blockd[k];
    for (size_t i = 0; i < b->orders_n && s->now - b->ordered < FRESH_NS; i++) {
        uint32_t n;
        if (!ledger_find(&s->ledger, &b->orders[i].block, &n))
            continue;
        struct written *w = &s->ledger.w[n];
        if (w->held[k] && w->proof[k] < b->orders[i].generation) {
            w->held[k] = false;
            s->count.removed++;
            sim_log(s, "block server %u removes write %u", k, n);
        }
        if (b->done_n < ORDERS_MAX)
            b->done[b->done_n++] = b->orders[i];
    }
    b->orders_n = 0;
}

static void carry_out(struct sim *s, unsigned k)
{
    remove_ordered(s, k);
    verify_presence(s);
    if (!s->failed)
        verify_kept(s, false);
}

/* What carries orders out renews the storage, too: between two rounds. */
void garbage_renewed(struct sim *s, unsigned k)
{
    remove_ordered(s, k);
    garbage_forget(&s->blockd[k]);
}

void garbage_forget(struct blockd *b)
{
    b->orders_n = b->done_n = 0;
}

/* What is ordered by then is as good as removed. */
static bool is_there(const struct sim *s, const struct written *w)
{
    for (unsigned k = 0; k < SERVERS_MAX; k++) {
        const struct blockd *b = &s->blockd[k];
        bool ordered = false;
        for (size_t i = 0; i < b->orders_n; i++)
            ordered |= block_id_equal(&b->orders[i].block, &w->id);
        if (w->held[k] && !ordered)
            return true;
    }
    return false;
}

void garbage_restored(struct sim *s)
{
    for (uint32_t i = 0; i < s->ledger.n; i++) {
        struct written *w = &s->ledger.w[i];
        w->held_before = false;
        w->gone_before = w->referred && !is_there(s, w);
    }
}

void garbage_noticed(struct sim *s, bool by_tick)
{
    for (uint32_t i = 0; i < s->ledger.n; i++)
        s->ledger.w[i].held_before = is_there(s, &s->ledger.w[i]);
    if (!by_tick) /* block servers that tell ticks will tell it, too */
        return;
    for (unsigned k = 0; k < SERVERS_MAX; k++) /* nothing is believed of any, heard of or not */
        s->blockd[k].older = false;
    verify_presence(s);
}

void garbage_heard(struct sim *s, unsigned k)
{
    if (!s->blockd[k].older)
        return;
    s->blockd[k].older = false;
    verify_presence(s);
}

static void collect(struct sim *s, unsigned k, struct rng *r)
{
    struct blockd *b = &s->blockd[k];
    if (rng_percent(r, 5)) {
        blockd_open(s, k);
        if (s->p.ticks && s->healed) /* otherwise sooner or later */
            server_beat(s, k);
    }
    if (s->failed)
        return;
    if (b->orders_n && rng_percent(r, 60))
        carry_out(s, k);
    else if (!b->orders_n || rng_percent(r, 20))
        ask(s, k, rng_percent(r, 15));
}

void garbage_step(struct sim *s, struct rng *r)
{
    unsigned k = rng_below(r, SERVERS_MAX);
    bool reaches = !s->blockd[k].down && !s->blockd[k].cut;
    if (rng_percent(r, 10))
        late_report(s, r);
    if (rng_below(r, 1000) >= s->p.gc || s->failed)
        return;
    if (rng_percent(r, 5)) /* a good part of the grace time goes by */
        s->now += rng_below(r, s->p.grace_ms) * 1000000ll;
    if (rng_percent(r, 30))
        declare(s);
    else if (reaches)
        collect(s, k, r);
}

/* ---- the end --------------------------------------------------------------------------------- */
static void replicate_all(struct sim *s)
{
    unsigned long before = 1;
    for (unsigned round = 0; before && round < 100 && !s->failed; round++) {
        before = s->count.brought;
        for (unsigned k = 0; k < SERVERS_MAX && !s->failed; k++) {
            blockd_replicas(s, k);
            for (unsigned n = 0; n < NAMESPACES && !s->failed; n++)
                blockd_replicate(s, k, s->server.inst->ns[n], TELL_NOW);
        }
        before = s->count.brought - before;
    }
}

/* All that was ordered is removed: as long as it is not, what is there of it counts as lacking. */
static void collect_all(struct sim *s)
{
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        for (size_t more = 1; more && !s->failed;) {
            ask(s, k, false);
            more = s->blockd[k].orders_n;
            if (more && !s->failed)
                carry_out(s, k);
        }
}

void garbage_end(struct sim *s)
{
    struct rng r = rng_of(s->seed, 11, 0);
    if (s->server.restored) /* everybody has been back */
        server_command(s, true, "admin gc --restored");
    while (s->reports_n && !s->failed)
        late_report(s, &r);
    if (s->p.gc)
        collect_all(s);
    replicate_all(s);
    if (s->p.gc && !s->failed) {
        server_prune(s, 0);
        for (unsigned k = 0; k < 2 && !s->failed; k++) { /* noted; due */
            s->now += 2000000ll * s->p.grace_ms;
            declare(s);
        }
        collect_all(s);
        replicate_all(s);
    }
    if (!s->failed)
        verify_presence(s);
    if (!s->failed)
        verify_kept(s, true);
}
