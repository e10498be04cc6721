// SPDX-License-Identifier: Apache-2.0
/* Replication, as far as the metadata server knows of it: what each block server lacks, and the
 * calls by which block servers learn of that and report what they have stored.
 *
 * The backlog stands in a table and is exact at every moment: it is changed by the transactions
 * that make blocks lacking or present. So block servers need no memory of their own to be complete
 * in the end, and "is everything everywhere?" is one look at an index. Only where a whole namespace
 * becomes lacking at once (a server is assigned, a disk was replaced) is the table filled a slice
 * at a time, newest blocks first, by the calls of the servers concerned.
 */
#include "replicas.h"
#include "gone.h"
#include "keys.h"
#include "opening.h"
#include "pins.h"

#include <errno.h>
#include <string.h>

#define NAMESPACES_PAGE 256u /* of one answer to replicas */
#define BACKLOG_DEFAULT 1024u
#define BACKLOG_MAX 4096u
#define BACKLOG_ROWS 1024u   /* read at a time */
#define BACKLOG_LOOKED 8192u /* rows, in one call that finds little */
#define PLACE_LEN (8u + BLOCK_ID_LEN)

/* ---- lacking -------------------------------------------------------------------------------- */
int replicas_commit(struct commit *c)
{
    const struct store_ops *ops = c->m->st->ops;
    int r = c->q ? 0 : ops->assigned(c->m->st, c->ns.id, &c->servers, &c->servers_n, c->ar);
    for (size_t s = 0; s < c->servers_n && !r; s++) {
        uint64_t bit = 1ull << s;
        bool lacking = false;
        if (c->servers[s].leaving)
            continue;
        for (size_t k = 0; k < c->blocks.n && !r; k++) {
            const struct need *need = &c->blocks.v[k];
            if (need->known && (need->fresh & bit))
                r = replicas_present(c->m, c->ns.id, c->servers[s].id, &need->id);
            if (r || !need->used || ((need->present | need->fresh) & bit))
                continue;
            r = ops->lack_put(c->m->st, c->ns.id, c->servers[s].id, &need->id, c->sjid);
            lacking = true;
        }
        if (!r && !lacking)
            r = ops->complete_add(c->m->st, c->ns.id, c->servers[s].id, c->sjid);
    }
    return r;
}

int replicas_present(struct meta *m, uint64_t ns, uint64_t server, const struct block_id *b)
{
    cleanup_arena struct arena ar = {0};
    uint64_t *sjids;
    size_t n;
    int r = m->st->ops->lack_take(m->st, ns, server, b, &sjids, &n, &ar);
    for (size_t k = 0; k < n && !r; k++) {
        bool any;
        r = m->st->ops->lack_of(m->st, ns, server, sjids[k], &any);
        if (!r && !any)
            r = m->st->ops->complete_add(m->st, ns, server, sjids[k]);
    }
    return r;
}

int replicas_assigned(struct meta *m, uint64_t ns, uint64_t server)
{
    int r = m->st->ops->lack_anew(m->st, ns, server);
    if (!r)
        r = m->st->ops->parted_drop(m->st, ns, server);
    if (!r)
        r = m->st->ops->leave(m->st, ns, server, false);
    if (!r)
        r = m->st->ops->complete_begin(m->st, ns, server);
    if (!r)
        r = m->st->ops->fill_begin(m->st, ns, server);
    bool more;
    return r ? r : m->st->ops->fill_step(m->st, ns, server, FILL_BLOCKS, &more);
}

int replicas_renewed(struct meta *m, uint64_t server)
{
    uint64_t after = 0;
    size_t n = NAMESPACES_PAGE;
    int r = 0;
    while (n == NAMESPACES_PAGE && !r) {
        cleanup_arena struct arena ar = {0};
        uint64_t *v;
        r = m->st->ops->ns_of_server(m->st, server, after, NAMESPACES_PAGE, &v, &n, &ar);
        for (size_t k = 0; k < n && !r; k++) {
            r = m->st->ops->fill_begin(m->st, v[k], server);
            if (!r)
                r = m->st->ops->anew(m->st, v[k], server, true);
            after = v[k];
        }
    }
    return r;
}

int replicas_let_go(struct meta *m, uint64_t ns, uint64_t server, int64_t now_ms, bool force,
                    struct arena *ar)
{
    struct ns_row row;
    bool blocked;
    int r = m->st->ops->ns_get(m->st, ns, &row, ar);
    if (!r)
        r = m->st->ops->leave_blocked(m->st, ns, server, row.copies_min ? row.copies_min : 1,
                                      force ? 0 : meta_heard_since(now_ms), &blocked);
    if (r || blocked)
        return r;
    r = m->st->ops->unassign(m->st, ns, server);
    if (!r)
        r = m->st->ops->lack_drop(m->st, ns, server);
    if (!r)
        r = m->st->ops->anew(m->st, ns, server, false);
    if (!r)
        r = m->st->ops->parted_put(m->st, ns, server, now_ms);
    if (!r) /* what members and other servers have in hand for it */
        r = keys_revoke(m, ns, 0, server, now_ms);
    if (!r) /* and what it has in hand for others */
        r = keys_revoke_peer(m, ns, server, now_ms);
    return r ? r : meta_touch_members(m, ns, ar);
}

int replicas_leave(struct meta *m, uint64_t ns, uint64_t server, int64_t now_ms, bool force,
                   struct arena *ar)
{
    bool anew;
    int r = m->st->ops->anew_get(m->st, ns, server, &anew);
    if (!r && !anew) /* otherwise it may have some of that */
        r = m->st->ops->lack_drop(m->st, ns, server);
    if (!r)
        r = m->st->ops->leave(m->st, ns, server, true);
    return r ? r : replicas_let_go(m, ns, server, now_ms, force, ar);
}

/* ---- replicas ------------------------------------------------------------------------------- */
static struct bytes peer_capability(const struct meta *m, uint64_t from,
                                    const struct server_row *to, uint64_t ns, uint64_t sealed_ms,
                                    struct arena *ar)
{
    cleanup_buf struct buf out = {0};
    struct m_capability c = {.server = to->id,
                             .ns = ns,
                             .peer = from,
                             .rights = RIGHT_READ | (to->leaving ? 0u : RIGHT_WRITE),
                             .expiry_ms = sealed_ms + m->capability_ms,
                             .key_id = to->key_id};
    struct token_key key = {.id = to->key_id};
    memcpy(key.key, to->mac_key, sizeof key.key);
    capability_seal(&c, &key, &out);
    return arena_bytes(ar, out.p, out.n);
}

/* One server of a namespace: what it lacks; the slice to be looked up comes off the budget. */
static int describe(struct meta *m, uint64_t ns, uint64_t server, size_t *budget,
                    struct m_replica *out)
{
    struct lack_sum sum;
    bool more = false;
    int r = m->st->ops->lack_sum(m->st, ns, server, &sum);
    if (!r && sum.filling && *budget) {
        r = m->st->ops->fill_step(m->st, ns, server, *budget, &more);
        *budget = more ? 0 : *budget / 2;
        if (!r)
            r = m->st->ops->lack_sum(m->st, ns, server, &sum);
    }
    if (!r) {
        out->lacking = sum.blocks;
        out->filling = sum.filling;
    }
    if (!r && !out->leaving && !sum.blocks && !sum.filling) /* all was found */
        r = m->st->ops->anew(m->st, ns, server, false);
    return r;
}

static int fill_replica_ns(struct meta *m, const struct meta_caller *who, uint64_t ns,
                           int64_t now_ms, size_t *budget, struct m_replica_ns *out, bool *told,
                           struct arena *ar)
{
    struct server_row *v;
    struct ns_row row;
    uint64_t sealed_ms;
    size_t n;
    int r = m->st->ops->ns_get(m->st, ns, &row, ar);
    if (!r)
        r = m->st->ops->assigned(m->st, ns, &v, &n, ar);
    bool leaving = false;
    for (size_t k = 0; !r && k < n; k++) {
        leaving |= v[k].leaving;
        if (v[k].leaving)
            r = replicas_let_go(m, ns, v[k].id, now_ms, false, ar);
    }
    if (!r && leaving)
        r = m->st->ops->assigned(m->st, ns, &v, &n, ar);
    if (!r) /* after the letting go, which takes back what was sealed before */
        r = keys_time(m, now_ms, &sealed_ms);
    bool there = false;
    for (size_t k = 0; !r && k < n; k++)
        there |= v[k].id == who->server;
    if (r || !there) /* it has just been let go: nothing there is its business any more */
        return r;
    *told = true;
    *out = (struct m_replica_ns){.ns = ns, .head = row.head};
    out->replicas = arena_alloc(ar, (n + 1) * sizeof *out->replicas);
    for (size_t k = 0; k < n && !r; k++) {
        struct m_replica *p = &out->replicas[out->replicas_n++];
        *p = (struct m_replica){.server = v[k].id, .leaving = v[k].leaving};
        r = describe(m, ns, v[k].id, budget, p);
        if (v[k].id != who->server)
            p->capability = peer_capability(m, who->server, &v[k], ns, sealed_ms, ar);
    }
    return r;
}

static int replicas(struct meta *m, const struct meta_caller *who, const struct m_replicas_req *q,
                    int64_t now_ms, struct m_replicas_ans *a, struct arena *ar)
{
    struct server_row *servers;
    uint64_t *v, after = q->after;
    size_t n, servers_n, budget = FILL_BLOCKS;
    int r = m->st->ops->server_list(m->st, &servers, &servers_n, ar);
    a->renew_ms = m->capability_ms / 2;
    do { /* a page of which nothing is left is not the end */
        if (!r)
            r = m->st->ops->ns_of_server(m->st, who->server, after, NAMESPACES_PAGE, &v, &n, ar);
        if (r)
            return r;
        a->more = n == NAMESPACES_PAGE;
        a->namespaces = arena_alloc(ar, (n + 1) * sizeof *a->namespaces);
        for (size_t k = 0; k < n && !r; k++) {
            bool told = false;
            r = fill_replica_ns(m, who, v[k], now_ms, &budget, &a->namespaces[a->namespaces_n],
                                &told, ar);
            a->namespaces_n += told;
            after = v[k];
        }
    } while (!r && a->more && !a->namespaces_n);
    a->servers = arena_alloc(ar, (servers_n + 1) * sizeof *a->servers);
    for (size_t k = 0; k < servers_n && a->servers_n < 256; k++)
        a->servers[a->servers_n++] = pins_server(&servers[k], ar);
    return r;
}

int meta_replicas(struct meta *m, const struct meta_caller *who, const struct m_replicas_req *q,
                  int64_t now_ms, struct m_replicas_ans *a, struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    if (!who->server)
        return meta_fail(why, -EACCES, "replicas: only a block server has them");
    int r = meta_change_begin(m);
    if (!r)
        r = meta_change_end(m, replicas(m, who, q, now_ms, a, ar));
    return r ? meta_store_fail(why, r, "cannot list the replicas") : 0;
}

/* ---- backlog -------------------------------------------------------------------------------- */
struct backlog {
    const struct m_backlog_req *q;
    struct m_backlog_ans *a;
    struct server_row *servers;
    size_t servers_n, limit;
    uint64_t holders; /* bits of servers; where holders are asked for, one must have a block */
    bool nobodys;     /* of a server that is leaving: what it may have, not what it is to get */
    struct blocks given;
    struct arena *ar;
};

/* A place in a backlog: opaque to who asks. */
static struct bytes place_make(const struct lack_row *row, struct arena *ar)
{
    uint8_t p[PLACE_LEN];
    for (int k = 0; k < 8; k++)
        p[k] = (uint8_t)(row->sjid >> (56 - 8 * k));
    memcpy(p + 8, row->block.b, BLOCK_ID_LEN);
    return arena_bytes(ar, p, sizeof p);
}

static bool place_parse(struct bytes place, struct lack_row *row)
{
    *row = (struct lack_row){0};
    if (place.n != PLACE_LEN)
        return false;
    for (int k = 0; k < 8; k++)
        row->sjid = row->sjid << 8 | place.p[k];
    memcpy(row->block.b, place.p + 8, BLOCK_ID_LEN);
    return row->sjid <= INT64_MAX;
}

/* Which of the servers are to be among a block's holders; 0: any or none. */
static uint64_t asked_holders(const struct m_backlog_req *q, const struct server_row *servers,
                              size_t servers_n)
{
    uint64_t bits = 0;
    for (size_t k = 0; k < q->holders_n; k++)
        for (size_t s = 0; s < servers_n; s++)
            if (servers[s].id == q->holders[k])
                bits |= 1ull << s;
    return bits;
}

/* What the rows are about, each block once, unless it is in the answer already or none of the
 * holders asked for has it; at most limit. *used: how many rows were needed for it. */
static int backlog_rows(struct meta *m, struct backlog *g, const struct lack_row *v, size_t n,
                        size_t *used)
{
    struct blocks b;
    blocks_init(&b, m->seed);
    for (size_t k = 0; k < n; k++)
        blocks_add(&b, &v[k].block)->claimed = v[k].len;
    int r = blocks_load(m->st, g->q->ns, g->servers, g->servers_n, &b);
    for (*used = 0; !r && *used < n && g->a->blocks_n < g->limit; ++*used) {
        const struct need *need = blocks_find(&b, &v[*used].block);
        if ((g->q->holders_n && !(need->present & g->holders)) || (g->nobodys && need->present) ||
            blocks_find(&g->given, &need->id))
            continue;
        blocks_add(&g->given, &need->id);
        struct m_lacking *l = &g->a->blocks[g->a->blocks_n++];
        *l = (struct m_lacking){.block = need->id, .len = need->claimed};
        l->servers = arena_alloc(g->ar, (g->servers_n + 1) * sizeof *l->servers);
        for (size_t s = 0; s < g->servers_n; s++)
            if (need->present & 1ull << s)
                l->servers[l->servers_n++] = g->servers[s].id;
    }
    blocks_free(&b);
    return r;
}

/* Looks at rows until enough are found, or many were looked at in vain: the next call goes on
 * there. */
static int backlog(struct meta *m, struct backlog *g, const struct lack_row *after)
{
    struct lack_row last;
    for (size_t looked = 0; looked < BACKLOG_LOOKED && g->a->blocks_n < g->limit;) {
        cleanup_arena struct arena ar = {0};
        struct lack_row *v;
        size_t n, used, rows = g->limit - g->a->blocks_n;
        if (g->q->holders_n || rows > BACKLOG_ROWS)
            rows = BACKLOG_ROWS;
        int r = m->st->ops->lack_list(m->st, g->q->ns, g->q->server, after, rows, &v, &n, &ar);
        if (!r)
            r = backlog_rows(m, g, v, n, &used);
        if (r)
            return r;
        if (used == n && n < rows)
            return 0; /* that was all */
        looked += used;
        last = v[used - 1];
        after = &last;
    }
    g->a->more = true;
    g->a->next = place_make(after, g->ar);
    return 0;
}

int meta_backlog(struct meta *m, const struct meta_caller *who, const struct m_backlog_req *q,
                 struct m_backlog_ans *a, struct arena *ar, char *why)
{
    struct backlog g = {.q = q, .a = a, .ar = ar, .limit = q->limit ? q->limit : BACKLOG_DEFAULT};
    struct lack_row after;
    struct ns_row row;
    uint64_t role;
    memset(a, 0, sizeof *a);
    if (g.limit > BACKLOG_MAX)
        g.limit = BACKLOG_MAX;
    if (q->after.n && !place_parse(q->after, &after))
        return meta_fail(why, -EBADMSG, "backlog: not a place in a backlog");
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    blocks_init(&g.given, m->seed);
    a->blocks = arena_alloc(ar, (g.limit + 1) * sizeof *a->blocks);
    r = meta_access(m, who, q->ns, &row, &role, ar, why);
    if (!r) {
        r = m->st->ops->assigned(m->st, q->ns, &g.servers, &g.servers_n, ar);
        g.holders = r ? 0 : asked_holders(q, g.servers, g.servers_n);
        for (size_t k = 0; !r && k < g.servers_n; k++)
            g.nobodys |= g.servers[k].id == q->server && g.servers[k].leaving;
        if (!r)
            r = backlog(m, &g, q->after.n ? &after : NULL);
        if (r)
            r = meta_store_fail(why, r, "cannot read");
    }
    blocks_free(&g.given);
    return meta_read_end(m, r);
}

/* ---- stored --------------------------------------------------------------------------------- */
static int stored(struct meta *m, const struct server_row *s, const struct m_stored_req *q,
                  int64_t now_ms, struct m_stored_ans *a)
{
    uint64_t ns = 0;
    bool is = false;
    for (size_t k = 0; k < q->blocks_n; k++) {
        const struct m_stored *b = &q->blocks[k];
        uint64_t len;
        int r = b->ns == ns ? 0 : m->st->ops->assigned_to(m->st, b->ns, s->id, &is);
        ns = b->ns;
        if (!r)
            r = m->st->ops->block_get(m->st, ns, &b->block, &len);
        if (r == -ENOENT || (!r && (!is || len != b->len)))
            continue; /* the namespace does not refer to it: nothing is to be known of it */
        bool counts = true;
        if (!r)
            r = gone_admits(m, ns, s, &b->block, b->generation, &counts);
        if (!counts)
            continue; /* lost or removed since: it is asked for again */
        if (!r)
            r = gone_proved(m, ns, s, &b->block, b->generation, now_ms);
        if (!r)
            r = replicas_present(m, ns, s->id, &b->block);
        if (r)
            return r;
        a->recorded++;
    }
    return 0;
}

int meta_stored(struct meta *m, const struct meta_caller *who, const struct m_stored_req *q,
                int64_t now_ms, struct m_stored_ans *a, struct arena *ar, char *why)
{
    struct server_row s;
    memset(a, 0, sizeof *a);
    if (!who->server)
        return meta_fail(why, -EACCES, "stored: only a block server reports what it stored");
    int r = meta_change_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot record");
    r = m->st->ops->server_get(m->st, who->server, &s, ar);
    if (!r && !opening_is(&s, q->incarnation, q->run))
        r = -EAGAIN;
    if (!r)
        r = stored(m, &s, q, now_ms, a);
    r = meta_change_end(m, r);
    if (r == -EAGAIN)
        return meta_fail(why, r, "stored: the storage is not the one that was last reported");
    return r ? meta_store_fail(why, r, "cannot record what was stored") : 0;
}
