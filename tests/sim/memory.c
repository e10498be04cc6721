// SPDX-License-Identifier: Apache-2.0
/* Memory of SQLite, for a program of one thread that opens many small databases: half of the time
 * went into it. Sizes are rounded up to powers of two (and halfway between), what is freed is kept
 * by size, and nothing is locked or counted. */
#include "simvfs.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 64
#define HEAD 16 /* bytes before what SQLite sees: the class, and alignment */
#define SLAB (1u << 20)

static void *kept[CLASSES];
static uint8_t *slab;
static size_t slab_left;

static unsigned class_of(size_t n)
{
    if (n <= 32)
        return 10;
    unsigned top = 63u - (unsigned)__builtin_clzll(n - 1); /* 2^top < n <= 2^(top+1) */
    return 2 * top + (n - 1 >= (size_t)3 << (top - 1));
}

static size_t class_size(unsigned k)
{
    return (k & 1 ? (size_t)4 : (size_t)3) << (k / 2 - 1);
}

static void *m_alloc(int n)
{
    unsigned k = class_of((size_t)n);
    size_t size = class_size(k) + HEAD;
    uint8_t *p = kept[k];
    if (p) {
        memcpy(&kept[k], p + HEAD, sizeof kept[k]);
    } else if (size > SLAB / 8) {
        p = malloc(size);
    } else {
        if (slab_left < size) {
            slab = malloc(SLAB);
            slab_left = slab ? SLAB : 0;
        }
        if (slab_left < size)
            return NULL;
        p = slab;
        slab += size;
        slab_left -= size;
    }
    if (!p)
        return NULL;
    memcpy(p, &k, sizeof k);
    return p + HEAD;
}

static unsigned m_class(const void *p)
{
    unsigned k;
    memcpy(&k, (const uint8_t *)p - HEAD, sizeof k);
    return k;
}

static void m_free(void *p)
{
    unsigned k = m_class(p);
    memcpy(p, &kept[k], sizeof kept[k]);
    kept[k] = (uint8_t *)p - HEAD;
}

static int m_size(void *p)
{
    return p ? (int)class_size(m_class(p)) : 0;
}

static void *m_realloc(void *p, int n)
{
    if (n <= m_size(p))
        return p;
    void *q = m_alloc(n);
    if (q) {
        memcpy(q, p, (size_t)m_size(p));
        m_free(p);
    }
    return q;
}

static int m_round(int n)
{
    return (int)class_size(class_of((size_t)n));
}

static int m_init(void *arg)
{
    (void)arg;
    return SQLITE_OK;
}

static void m_end(void *arg)
{
    (void)arg;
}

void simvfs_quick(void)
{
    static const sqlite3_mem_methods memory = {.xMalloc = m_alloc,
                                               .xFree = m_free,
                                               .xRealloc = m_realloc,
                                               .xSize = m_size,
                                               .xRoundup = m_round,
                                               .xInit = m_init,
                                               .xShutdown = m_end};
    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 1200, 500);
    sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
}
