// SPDX-License-Identifier: Apache-2.0
/* What programs wrote. Every write is a block of its own, at most 64 bytes, so that a bit mask says
 * which of its bytes must still be somewhere: all, less those that a program overwrote, cut off or
 * removed while seeing them, less those that a client had told nobody of, nor promised, when its
 * power failed. What is cut anew has blocks that count for those that they were made of.
 *
 * A file of several names is an exception: two clients may each remove a name believing that the
 * other stays, and an edit through one of them goes with both, as it would on one machine. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t slot_of(const struct ledger *l, const struct block_id *id)
{
    uint64_t h;
    memcpy(&h, id->b + 1, sizeof h);
    uint32_t i = (uint32_t)(h % (2 * WRITES_MAX));
    while (l->slot[i] && !block_id_equal(&l->w[l->slot[i] - 1].id, id))
        i = (i + 1) % (2 * WRITES_MAX);
    return i;
}

void ledger_reset(struct ledger *l)
{
    l->n = 0;
    l->weak_n = 0;
    memset(l->slot, 0, sizeof l->slot);
}

static uint64_t mask_of(uint64_t off, uint64_t len)
{
    uint64_t all = len >= 64 ? UINT64_MAX : ((uint64_t)1 << len) - 1;
    return off >= 64 ? 0 : all << off;
}

static int add(struct ledger *l, uint64_t seed, unsigned client, uint64_t node, unsigned len,
               struct block_id *id)
{
    char text[BLOCK_LEN_MAX + 1] = {0};
    if (l->n == WRITES_MAX)
        return -1;
    /* the id is that of the bytes; the bytes are what the number says, filled up */
    snprintf(text, sizeof text, "%llx %u ", (unsigned long long)seed, l->n);
    block_id_of(id, text, sizeof text - 1);
    l->w[l->n] = (struct written){.id = *id,
                                  .client = client,
                                  .node = node,
                                  .len = len,
                                  .live = mask_of(0, len),
                                  .cached = (uint8_t)(1u << client)};
    l->slot[slot_of(l, id)] = l->n + 1;
    return (int)l->n++;
}

int ledger_write(struct ledger *l, uint64_t seed, unsigned client, uint64_t node, unsigned len,
                 struct block_id *id)
{
    return add(l, seed, client, node, len, id);
}

/* Where the byte at `at` of a block was written first. */
static struct part origin(const struct ledger *l, uint32_t write, uint64_t at)
{
    struct part p = {.write = write, .at = (uint8_t)at};
    if (l->w[write].recut) {
        p = l->w[write].part[at / UNIT];
        p.at = (uint8_t)(p.at + at % UNIT);
    }
    return p;
}

int ledger_recut(struct ledger *l, uint64_t seed, unsigned client, const struct m_extent *v,
                 size_t n, unsigned len, struct block_id *id)
{
    struct part part[BLOCK_LEN_MAX / UNIT];
    bool promised = false;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        for (uint64_t at = 0; at < v[i].len; at += UNIT) {
            uint32_t w;
            if (!ledger_find(l, &v[i].block, &w) || !(l->w[w].cached >> client & 1) ||
                k == BLOCK_LEN_MAX / UNIT)
                return -1;
            part[k] = origin(l, w, v[i].block_off + at);
            promised |= l->w[part[k++].write].promised != 0;
        }
    int write = k * UNIT == len ? add(l, seed, client, l->w[part[0].write].node, len, id) : -1;
    if (write < 0)
        return write;
    struct written *w = &l->w[write];
    w->live = 0; /* it is the first blocks' bytes that count */
    w->recut = true;
    w->ns = l->w[part[0].write].ns;
    memcpy(w->part, part, k * sizeof *part);
    if (promised) /* in their place it is put as safely */
        w->durable = (uint8_t)(1u << client);
    return write;
}

void ledger_again(struct ledger *l, uint32_t write, uint64_t node)
{
    struct written *w = &l->w[write];
    w->node = node;
    w->times++;
    w->cached |= (uint8_t)(1u << w->client); /* a loss of power may have taken them */
    w->live = mask_of(0, w->len);
    w->committed = w->promised = w->renamed = 0; /* not yet with what it is now */
}

bool ledger_find(const struct ledger *l, const struct block_id *id, uint32_t *write)
{
    uint32_t i = slot_of(l, id);
    if (!l->slot[i])
        return false;
    *write = l->slot[i] - 1;
    return true;
}

static void mark_add(struct marks *m, uint32_t write, uint64_t mask)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 16;
        m->v = realloc(m->v, m->cap * sizeof *m->v);
        if (!m->v)
            abort();
    }
    m->v[m->n++] = (struct mark){write, mask};
}

void marks_add(struct ledger *l, struct marks *m, const struct m_extent *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t w;
        if (!ledger_find(l, &v[i].block, &w))
            continue;
        if (!l->w[w].recut)
            mark_add(m, w, mask_of(v[i].block_off, v[i].len));
        for (uint64_t at = 0; l->w[w].recut && at < v[i].len; at += UNIT) {
            struct part p = origin(l, w, v[i].block_off + at);
            mark_add(m, p.write, mask_of(p.at, UNIT));
        }
    }
}

void marks_free(struct marks *m)
{
    free(m->v);
    *m = (struct marks){0};
}

void ledger_consume(struct ledger *l, const struct marks *m)
{
    for (size_t i = 0; i < m->n; i++)
        l->w[m->v[i].write].live &= ~m->v[i].mask;
}

void ledger_revive(struct ledger *l, const struct marks *m)
{
    for (size_t i = 0; i < m->n; i++) {
        l->w[m->v[i].write].live |= m->v[i].mask;
        l->w[m->v[i].write].renamed |= m->v[i].mask;
        l->w[m->v[i].write].promised &= ~m->v[i].mask; /* at the name that it had */
    }
}

void ledger_committed(struct ledger *l, const struct m_extent *v, size_t n)
{
    struct marks m = {0};
    marks_add(l, &m, v, n);
    for (size_t i = 0; i < m.n; i++) {
        l->w[m.v[i].write].committed |= m.v[i].mask;
        l->w[m.v[i].write].renamed &= ~m.v[i].mask;
    }
    marks_free(&m);
    for (size_t i = 0; i < n; i++) {
        uint32_t w;
        if (ledger_find(l, &v[i].block, &w))
            l->w[w].carried = true;
    }
}

void ledger_promised(struct ledger *l, unsigned client, const struct marks *m)
{
    for (size_t i = 0; i < m->n; i++)
        if (l->w[m->v[i].write].client == client)
            l->w[m->v[i].write].promised |= m->v[i].mask;
}

void ledger_durable(struct ledger *l, unsigned client)
{
    for (uint32_t i = 0; i < l->n; i++)
        l->w[i].durable |= l->w[i].cached & (uint8_t)(1u << client);
}

void ledger_power_lost(struct ledger *l, unsigned client, struct rng *r)
{
    uint8_t bit = (uint8_t)(1u << client);
    for (uint32_t i = 0; i < l->n; i++) {
        struct written *w = &l->w[i];
        if (w->client == client) /* written once more: which of them was is not known */
            w->live &= w->times ? 0 : (w->committed & ~w->renamed) | w->promised;
        if (r && (w->cached & ~w->durable & bit) && rng_percent(r, 70))
            w->cached &= (uint8_t)~bit;
    }
}

void ledger_nowhere(struct ledger *l, uint32_t write)
{
    struct written *w = &l->w[write];
    bool held = w->cached != 0;
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        held |= w->held[k];
    if (!held)
        w->live = 0;
}

void ledger_restored(struct ledger *l, const uint64_t *kept)
{
    for (uint32_t i = 0; i < l->n; i++) {
        struct written *w = &l->w[i];
        w->live &= w->reachable | kept[i] | ~w->committed;
        w->committed = w->reachable;
        w->carried = w->referred;
    }
}

void ledger_weaken(struct ledger *l, uint64_t node)
{
    if (!ledger_weak(l, node) && l->weak_n < sizeof l->weak / sizeof *l->weak)
        l->weak[l->weak_n++] = node;
}

bool ledger_weak(const struct ledger *l, uint64_t node)
{
    for (size_t i = 0; i < l->weak_n; i++)
        if (l->weak[i] == node)
            return true;
    return false;
}
