// SPDX-License-Identifier: Apache-2.0
/* Idle readers are stacked, so that under light load one warm page cache serves everything. */
#include "readers.h"

#include <pthread.h>
#include <stdlib.h>

struct readers {
    struct meta_options options;
    pthread_mutex_t lock; /* idle, idle_n */
    struct meta *idle[READERS_MAX];
    size_t idle_n;
    int64_t slow_until_us; /* one thread's: of whoever asks for quick ones */
};

struct readers *readers_new(const struct meta_options *o)
{
    struct readers *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->options = *o;
    r->options.reader = true;
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

void readers_free(struct readers *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->idle_n; i++)
        meta_close(r->idle[i]);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

int readers_get(struct readers *r, struct meta **out, char *why)
{
    *out = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->idle_n)
        *out = r->idle[--r->idle_n];
    pthread_mutex_unlock(&r->lock);
    return *out ? 0 : meta_open(out, &r->options, why);
}

struct meta *readers_get_quick(struct readers *r, int64_t now_us)
{
    struct meta *m = NULL;
    if (now_us < r->slow_until_us)
        return NULL;
    pthread_mutex_lock(&r->lock);
    if (r->idle_n)
        m = r->idle[--r->idle_n];
    pthread_mutex_unlock(&r->lock);
    return m;
}

void readers_was_quick(struct readers *r, int64_t began_us, int64_t now_us)
{
    if (now_us - began_us > READERS_QUICK_US)
        r->slow_until_us = now_us + READERS_SLOW_FOR_US;
}

void readers_put(struct readers *r, struct meta *m)
{
    pthread_mutex_lock(&r->lock);
    bool kept = r->idle_n < READERS_MAX;
    if (kept)
        r->idle[r->idle_n++] = m;
    pthread_mutex_unlock(&r->lock);
    if (!kept)
        meta_close(m);
}
