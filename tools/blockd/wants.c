// SPDX-License-Identifier: Apache-2.0
/* One list in the order in which they are to be fetched, one hash table to find a block, one to
 * count by (namespace, holder); a holder's own count is that of namespace 0. */
#include "wants.h"

#include <stdlib.h>
#include <string.h>

#include "blockid.h"

#define SLOTS 1024

struct pair {
    struct pair *next;
    uint64_t ns, holder;
    size_t n;
    uint64_t turn; /* of a holder: the namespace that was served last */
};

struct wants {
    struct want head; /* of the list: a ring */
    struct want *slot[SLOTS];
    struct pair *pair[SLOTS];
    size_t n;
};

struct wants *wants_new(void)
{
    struct wants *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->head.next = w->head.prev = &w->head;
    return w;
}

/* ---- counting ------------------------------------------------------------------------------ */

static struct pair **pair_at(const struct wants *w, uint64_t ns, uint64_t holder)
{
    uint64_t h = (ns * UINT64_C(0x9e3779b97f4a7c15)) ^ (holder * UINT64_C(0xc2b2ae3d27d4eb4f));
    struct pair **at = (struct pair **)&w->pair[(h >> 40) % SLOTS];
    while (*at && ((*at)->ns != ns || (*at)->holder != holder))
        at = &(*at)->next;
    return at;
}

static size_t pair_count(const struct wants *w, uint64_t ns, uint64_t holder)
{
    const struct pair *p = *pair_at(w, ns, holder);
    return p ? p->n : 0;
}

static void count_one(struct wants *w, uint64_t ns, uint64_t holder, bool more)
{
    struct pair **at = pair_at(w, ns, holder);
    if (!*at) {
        if (!(*at = calloc(1, sizeof **at)))
            abort();
        (*at)->ns = ns;
        (*at)->holder = holder;
    }
    (*at)->n += more ? 1 : (size_t)-1;
    if (!(*at)->n) {
        struct pair *p = *at;
        *at = p->next;
        free(p);
    }
}

static void count(struct wants *w, uint64_t ns, uint64_t holder, bool more)
{
    count_one(w, ns, holder, more);
    count_one(w, 0, holder, more);
}

size_t wants_count(const struct wants *w)
{
    return w->n;
}

size_t wants_of(const struct wants *w, uint64_t holder)
{
    return pair_count(w, 0, holder);
}

size_t wants_room(const struct wants *w, uint64_t ns, uint64_t holder)
{
    size_t all = WANTS_PER_HOLDER - pair_count(w, 0, holder);
    size_t own = WANTS_PER_PAIR - pair_count(w, ns, holder);
    return own < all ? own : all;
}

/* ---- the set ------------------------------------------------------------------------------- */

static struct want **slot_of(const struct wants *w, uint64_t ns, const struct block_id *id)
{
    uint32_t h; /* a hash already */
    memcpy(&h, id->b + 1, sizeof h);
    struct want **at = (struct want **)&w->slot[h % SLOTS];
    while (*at && ((*at)->ns != ns || !block_id_equal(&(*at)->id, id)))
        at = &(*at)->in_slot;
    return at;
}

static void drop(struct wants *w, struct want *v)
{
    struct want **at = slot_of(w, v->ns, &v->id);
    for (size_t i = 0; i < v->holders_n; i++)
        count(w, v->ns, v->holders[i], false);
    *at = v->in_slot;
    v->prev->next = v->next;
    v->next->prev = v->prev;
    free(v);
    w->n--;
}

void wants_free(struct wants *w)
{
    if (!w)
        return;
    while (w->n)
        drop(w, w->head.next);
    free(w);
}

bool wants_add(struct wants *w, uint64_t ns, const struct block_id *id, const uint64_t *holders,
               size_t n, bool first)
{
    struct want **at = slot_of(w, ns, id), *v;
    if (*at)
        return false;
    if (!(v = calloc(1, sizeof *v)))
        abort();
    v->ns = ns;
    v->id = *id;
    for (size_t i = 0; i < n && v->holders_n < WANT_HOLDERS; i++)
        if (wants_room(w, ns, holders[i]))
            v->holders[v->holders_n++] = holders[i];
    if (!v->holders_n) {
        free(v);
        return false;
    }
    for (size_t i = 0; i < v->holders_n; i++)
        count(w, ns, v->holders[i], true);
    *at = v;
    struct want *before = first ? w->head.next : &w->head;
    v->next = before;
    v->prev = before->prev;
    v->prev->next = before->prev = v;
    w->n++;
    return true;
}

/* Where the holder stands in it; holders_n: nowhere. */
static size_t place_of(const struct want *v, uint64_t holder)
{
    size_t i = 0;
    while (i < v->holders_n && v->holders[i] != holder)
        i++;
    return i;
}

static void forget_holder(struct wants *w, struct want *v, uint64_t holder)
{
    size_t i = place_of(v, holder);
    if (i == v->holders_n)
        return;
    count(w, v->ns, holder, false);
    v->holders[i] = v->holders[--v->holders_n];
}

/* ---- fetching ------------------------------------------------------------------------------ */

/* The next namespace in turn that the holder has something for; 0: none. */
static uint64_t next_in_turn(const struct wants *w, uint64_t holder, uint64_t turn)
{
    uint64_t least = 0, after = 0;
    for (const struct want *v = w->head.next; v != &w->head; v = v->next) {
        if (v->busy || place_of(v, holder) == v->holders_n)
            continue;
        if (!least || v->ns < least)
            least = v->ns;
        if (v->ns > turn && (!after || v->ns < after))
            after = v->ns;
    }
    return after ? after : least;
}

size_t wants_take(struct wants *w, uint64_t holder, bool (*may)(void *arg, const struct block_id *),
                  void *arg, struct want **v, size_t max)
{
    struct pair *p = *pair_at(w, 0, holder);
    size_t n = 0;
    if (!p)
        return 0;
    uint64_t first = next_in_turn(w, holder, p->turn), ns = first;
    while (ns && !n) { /* of one that nothing may be taken of now the turn goes on */
        p->turn = ns;
        for (struct want *x = w->head.next; x != &w->head && n < max; x = x->next) {
            if (x->busy || x->ns != ns || place_of(x, holder) == x->holders_n ||
                (may && !may(arg, &x->id)))
                continue;
            x->busy = true;
            v[n++] = x;
        }
        ns = next_in_turn(w, holder, ns);
        if (ns == first)
            break;
    }
    return n;
}

void wants_give(struct wants *w, uint64_t holder, struct want *const *v, const enum want_end *end,
                size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i]->busy = false;
        if (end[i] == WANT_NOT_THERE)
            forget_holder(w, v[i], holder);
        if (end[i] == WANT_ARRIVED || !v[i]->holders_n)
            drop(w, v[i]);
    }
}

void wants_arrived(struct wants *w, uint64_t ns, const struct block_id *id)
{
    struct want *v = *slot_of(w, ns, id);
    if (v && !v->busy)
        drop(w, v);
}

void wants_drop_holder(struct wants *w, uint64_t holder)
{
    struct want *next;
    for (struct want *v = w->head.next; v != &w->head; v = next) {
        next = v->next;
        forget_holder(w, v, holder);
        if (!v->holders_n && !v->busy)
            drop(w, v);
    }
}
