// SPDX-License-Identifier: Apache-2.0
/* Open addressing with linear probing, at most three quarters full. */
#include "idmap.h"

#include <stdlib.h>

#define CAP_FIRST 64

struct idmap_slot {
    uint64_t key; /* 0: free */
    void *value;
};

static size_t home(const struct idmap *m, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (m->cap - 1);
}

static size_t find(const struct idmap *m, uint64_t key)
{
    size_t i = home(m, key);
    while (m->slots[i].key && m->slots[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return i;
}

void *idmap_get(const struct idmap *m, uint64_t key)
{
    if (m->cap == 0)
        return NULL;
    size_t i = find(m, key);
    return m->slots[i].key ? m->slots[i].value : NULL;
}

static void grow(struct idmap *m)
{
    struct idmap bigger = {.cap = m->cap ? m->cap * 2 : CAP_FIRST, .n = m->n};
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots)
        abort();
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key)
            bigger.slots[find(&bigger, m->slots[i].key)] = m->slots[i];
    free(m->slots);
    *m = bigger;
}

void idmap_put(struct idmap *m, uint64_t key, void *value)
{
    if ((m->n + 1) * 4 > m->cap * 3)
        grow(m);
    size_t i = find(m, key);
    if (!m->slots[i].key)
        m->n++;
    m->slots[i] = (struct idmap_slot){key, value};
}

void idmap_each(const struct idmap *m, void (*fn)(void *arg, uint64_t key, void *value), void *arg)
{
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key)
            fn(arg, m->slots[i].key, m->slots[i].value);
}

void idmap_free(struct idmap *m)
{
    free(m->slots);
    *m = (struct idmap){0};
}
