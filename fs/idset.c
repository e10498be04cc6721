// SPDX-License-Identifier: Apache-2.0
#include "idset.h"

static size_t slot_of(const struct idset *s, uint64_t id)
{
    size_t i = (size_t)(id * 0x9e3779b97f4a7c15u >> 20) & (s->slots - 1);
    while (s->slot[i] && s->ids.v[s->slot[i] - 1] != id)
        i = (i + 1) & (s->slots - 1);
    return i;
}

static void rebuild(struct idset *s, size_t slots)
{
    free(s->slot);
    s->slots = slots;
    s->slot = calloc(slots, sizeof *s->slot);
    if (!s->slot)
        abort();
    for (size_t k = 0; k < s->ids.n; k++)
        s->slot[slot_of(s, s->ids.v[k])] = (uint32_t)k + 1;
}

size_t idset_add(struct idset *s, uint64_t id, bool *added)
{
    if (2 * (s->ids.n + 1) > s->slots)
        rebuild(s, s->slots ? 2 * s->slots : 64);
    size_t i = slot_of(s, id);
    *added = s->slot[i] == 0;
    if (*added) {
        ids_add(&s->ids, id);
        s->slot[i] = (uint32_t)s->ids.n;
    }
    return s->slot[i] - 1;
}

bool idset_has(const struct idset *s, uint64_t id)
{
    return s->slots && s->slot[slot_of(s, id)] != 0;
}

void idset_cut(struct idset *s, size_t n)
{
    if (s->ids.n == n)
        return;
    s->ids.n = n;
    rebuild(s, s->slots);
}

void idset_free(struct idset *s)
{
    free(s->ids.v);
    free(s->slot);
}
