// SPDX-License-Identifier: Apache-2.0
#include "stripes.h"

#include <pthread.h>
#include <stdlib.h>

struct stripes {
    pthread_mutex_t lock;
    pthread_cond_t given;
    struct stripe_set taken;
};

struct stripes *stripes_new(void)
{
    struct stripes *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->given, NULL);
    return s;
}

void stripes_free(struct stripes *s)
{
    if (!s)
        return;
    pthread_cond_destroy(&s->given);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Hashes are even: two bytes of one are as good as any. */
void stripe_set_add(struct stripe_set *set, const struct block_id *id)
{
    unsigned n = ((unsigned)id->b[1] << 8 | id->b[2]) % STRIPES;
    set->bits[n / 64] |= UINT64_C(1) << n % 64;
}

static bool is_free(const struct stripes *s, const struct stripe_set *set)
{
    for (size_t i = 0; i < STRIPES / 64; i++)
        if (s->taken.bits[i] & set->bits[i])
            return false;
    return true;
}

void stripes_take(struct stripes *s, const struct stripe_set *set)
{
    pthread_mutex_lock(&s->lock);
    while (!is_free(s, set))
        pthread_cond_wait(&s->given, &s->lock);
    for (size_t i = 0; i < STRIPES / 64; i++)
        s->taken.bits[i] |= set->bits[i];
    pthread_mutex_unlock(&s->lock);
}

void stripes_give(struct stripes *s, const struct stripe_set *set)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < STRIPES / 64; i++)
        s->taken.bits[i] &= ~set->bits[i];
    pthread_cond_broadcast(&s->given);
    pthread_mutex_unlock(&s->lock);
}
