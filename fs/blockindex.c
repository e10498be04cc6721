// SPDX-License-Identifier: Apache-2.0
/* Open addressing with linear probing; a removal moves later entries of the run back, so that there
 * are no tombstones. The id is already a good hash. */
#include "blockindex.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_MIN 1024

static size_t home(const struct block_index *x, const uint8_t key[16])
{
    uint64_t h;
    memcpy(&h, key, sizeof(h));
    return (size_t)h & (x->cap - 1);
}

static void insert(struct block_index *x, const struct block_at *e)
{
    size_t i = home(x, e->key);
    while (x->v[i].file != 0)
        i = (i + 1) & (x->cap - 1);
    x->v[i] = *e;
    x->n++;
}

static void rebuild(struct block_index *x, size_t cap, uint32_t without)
{
    struct block_index fresh = {.v = calloc(cap, sizeof(*fresh.v)), .cap = cap};
    if (fresh.v == NULL)
        abort();
    for (size_t i = 0; i < x->cap; i++)
        if (x->v[i].file != 0 && x->v[i].file != without)
            insert(&fresh, &x->v[i]);
    free(x->v);
    *x = fresh;
}

struct block_at *block_index_find(const struct block_index *x, const struct block_id *id)
{
    if (x->n == 0 || id->b[0] != BLOCK_KIND_SHA256)
        return NULL;
    for (size_t i = home(x, id->b + 1); x->v[i].file != 0; i = (i + 1) & (x->cap - 1))
        if (memcmp(x->v[i].key, id->b + 1, sizeof(x->v[i].key)) == 0)
            return &x->v[i];
    return NULL;
}

void block_index_add(struct block_index *x, const struct block_id *id, uint32_t file, uint32_t row,
                     uint32_t len, bool unsynced)
{
    assert(file != 0 && id->b[0] == BLOCK_KIND_SHA256);
    if (x->n * 10 >= x->cap * 7)
        rebuild(x, x->cap == 0 ? INDEX_MIN : x->cap * 2, 0);
    struct block_at e = {.file = file, .row = row, .len = len, .unsynced = unsynced};
    memcpy(e.key, id->b + 1, sizeof(e.key));
    insert(x, &e);
}

void block_index_remove(struct block_index *x, struct block_at *e)
{
    size_t mask = x->cap - 1, hole = (size_t)(e - x->v);
    for (size_t i = (hole + 1) & mask; x->v[i].file != 0; i = (i + 1) & mask) {
        /* it may move into the hole unless its home lies cyclically behind the hole */
        if (((i - home(x, x->v[i].key)) & mask) >= ((i - hole) & mask)) {
            x->v[hole] = x->v[i];
            hole = i;
        }
    }
    x->v[hole].file = 0;
    x->n--;
}

void block_index_remove_file(struct block_index *x, uint32_t file)
{
    if (x->cap != 0)
        rebuild(x, x->cap, file);
}

void block_index_free(struct block_index *x)
{
    free(x->v);
    *x = (struct block_index){0};
}
