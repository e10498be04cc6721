// SPDX-License-Identifier: Apache-2.0
#include "inbound.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "blockid.h"

#define BUCKETS 1024

struct claim {
    struct claim *next;
    struct block_id id;
    uint64_t by;
    int64_t until;
};

struct inbound {
    pthread_mutex_t lock;
    struct claim *bucket[BUCKETS];
    size_t n;
};

struct inbound *inbound_new(void)
{
    struct inbound *in = calloc(1, sizeof *in);
    if (!in)
        abort();
    pthread_mutex_init(&in->lock, NULL);
    return in;
}

static void drop(struct inbound *in, struct claim **at)
{
    struct claim *c = *at;
    *at = c->next;
    free(c);
    in->n--;
}

void inbound_free(struct inbound *in)
{
    if (!in)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (in->bucket[i])
            drop(in, &in->bucket[i]);
    pthread_mutex_destroy(&in->lock);
    free(in);
}

/* Where the block's claim is, or would be put. */
static struct claim **find(struct inbound *in, const struct block_id *id)
{
    uint32_t h; /* a hash already */
    memcpy(&h, id->b + 1, sizeof h);
    struct claim **at = &in->bucket[h % BUCKETS];
    while (*at && !block_id_equal(&(*at)->id, id))
        at = &(*at)->next;
    return at;
}

static void expire(struct inbound *in, int64_t now)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct claim **at = &in->bucket[i]; *at;) {
            if ((*at)->until <= now)
                drop(in, at);
            else
                at = &(*at)->next;
        }
}

bool inbound_claim(struct inbound *in, const struct block_id *id, uint64_t by, int64_t now,
                   int64_t for_ms)
{
    pthread_mutex_lock(&in->lock);
    if (in->n >= INBOUND_MAX)
        expire(in, now);
    struct claim **at = find(in, id);
    bool may = *at ? (*at)->until <= now || (by && (*at)->by == by) : in->n < INBOUND_MAX;
    if (may && !*at) {
        if (!(*at = calloc(1, sizeof **at)))
            abort();
        (*at)->id = *id;
        in->n++;
    }
    if (may) {
        (*at)->by = by;
        (*at)->until = now + for_ms;
    }
    pthread_mutex_unlock(&in->lock);
    return may;
}

void inbound_renew(struct inbound *in, uint64_t by, int64_t now, int64_t for_ms)
{
    pthread_mutex_lock(&in->lock);
    for (size_t i = 0; i < BUCKETS && in->n; i++)
        for (struct claim *c = in->bucket[i]; c; c = c->next)
            if (c->by == by && c->until > now && c->until < now + for_ms)
                c->until = now + for_ms;
    pthread_mutex_unlock(&in->lock);
}

void inbound_leave(struct inbound *in, uint64_t by)
{
    pthread_mutex_lock(&in->lock);
    for (size_t i = 0; i < BUCKETS && in->n; i++)
        for (struct claim **at = &in->bucket[i]; *at;) {
            if ((*at)->by == by)
                drop(in, at);
            else
                at = &(*at)->next;
        }
    pthread_mutex_unlock(&in->lock);
}

void inbound_release(struct inbound *in, const struct block_id *id)
{
    pthread_mutex_lock(&in->lock);
    struct claim **at = find(in, id);
    if (*at)
        drop(in, at);
    pthread_mutex_unlock(&in->lock);
}

size_t inbound_count(struct inbound *in)
{
    pthread_mutex_lock(&in->lock);
    size_t n = in->n;
    pthread_mutex_unlock(&in->lock);
    return n;
}
