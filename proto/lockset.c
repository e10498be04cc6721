// SPDX-License-Identifier: Apache-2.0
/* An unordered array: there are few ranges. */
#include "lockset.h"

#include <errno.h>
#include <stdlib.h>

void lockset_free(struct lockset *s)
{
    free(s->v);
    *s = (struct lockset){0};
}

bool lockset_valid(const struct m_lock_range *r)
{
    return r->off < r->end && (!r->whole || (r->off == 0 && r->end == LOCKSET_END));
}

int lockset_add(struct lockset *s, const struct m_lock_range *r)
{
    struct m_lock_range all = *r;
    all.patient = all.test = false;
    for (size_t i = 0; i < s->n;) {
        const struct m_lock_range *o = &s->v[i];
        if (o->whole != all.whole || o->exclusive != all.exclusive || o->end < all.off ||
            o->off > all.end) {
            i++;
            continue;
        }
        all.off = o->off < all.off ? o->off : all.off;
        all.end = o->end > all.end ? o->end : all.end;
        s->v[i] = s->v[--s->n];
        i = 0; /* it has grown: it may touch others now */
    }
    if (s->n == LOCK_RANGES_MAX)
        return -ENOLCK;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 4;
        s->v = realloc(s->v, s->cap * sizeof *s->v);
        if (!s->v)
            abort();
    }
    s->v[s->n++] = all;
    return 0;
}

bool lockset_covers(const struct lockset *s, const struct m_lock_range *r)
{
    uint64_t at = r->off;
    for (size_t i = 0; i < s->n && at < r->end;) {
        const struct m_lock_range *o = &s->v[i];
        bool good = o->whole == r->whole && (o->exclusive || !r->exclusive);
        if (good && o->off <= at && o->end > at) {
            at = o->end;
            i = 0;
        } else {
            i++;
        }
    }
    return at >= r->end;
}

bool lockset_contains(const struct lockset *s, const struct lockset *other)
{
    for (size_t i = 0; i < other->n; i++)
        if (!lockset_covers(s, &other->v[i]))
            return false;
    return true;
}

const struct m_lock_range *lockset_conflict(const struct lockset *s, const struct m_lock_range *r)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct m_lock_range *o = &s->v[i];
        if (o->whole == r->whole && (o->exclusive || r->exclusive) && o->off < r->end &&
            r->off < o->end)
            return o;
    }
    return NULL;
}
