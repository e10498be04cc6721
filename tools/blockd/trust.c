// SPDX-License-Identifier: Apache-2.0
#include "trust.h"

void trust_init(struct trust *t)
{
    *t = (struct trust){0};
    pthread_mutex_init(&t->lock, NULL);
}

void trust_free(struct trust *t)
{
    pthread_mutex_destroy(&t->lock);
}

/* [locked] */
static void note(struct trust *t, bool wrong, int64_t now_ms)
{
    size_t i = t->verdicts++ % TRUST_LAST;
    t->last[i].wrong = wrong;
    t->last[i].at_ms = now_ms;
}

void trust_right(struct trust *t, int64_t now_ms)
{
    pthread_mutex_lock(&t->lock);
    note(t, false, now_ms);
    pthread_mutex_unlock(&t->lock);
}

bool trust_wrong(struct trust *t, int64_t now_ms)
{
    unsigned wrong = 0;
    pthread_mutex_lock(&t->lock);
    note(t, true, now_ms);
    for (size_t i = 0; i < TRUST_LAST; i++)
        wrong += t->last[i].wrong && now_ms - t->last[i].at_ms < TRUST_MS;
    if (!t->broken && wrong >= TRUST_WRONG)
        t->broken = t->untold = true;
    bool judge = !t->broken;
    pthread_mutex_unlock(&t->lock);
    return judge;
}

void trust_reread(struct trust *t)
{
    pthread_mutex_lock(&t->lock);
    t->rereads++;
    pthread_mutex_unlock(&t->lock);
}

uint64_t trust_rereads(struct trust *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t n = t->rereads;
    pthread_mutex_unlock(&t->lock);
    return n;
}

bool trust_broken(struct trust *t)
{
    pthread_mutex_lock(&t->lock);
    bool broken = t->broken;
    pthread_mutex_unlock(&t->lock);
    return broken;
}

bool trust_untold(struct trust *t)
{
    pthread_mutex_lock(&t->lock);
    bool untold = t->untold;
    t->untold = false;
    pthread_mutex_unlock(&t->lock);
    return untold;
}

void trust_again(struct trust *t)
{
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < TRUST_LAST; i++)
        t->last[i].wrong = false;
    t->broken = t->untold = false;
    pthread_mutex_unlock(&t->lock);
}
