// SPDX-License-Identifier: Apache-2.0
/* Random numbers that are a function of their seed: splitmix64. */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_u64(struct rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A generator of its own for each (seed, a, b): what one step draws does not shift the others. */
static inline struct rng rng_of(uint64_t seed, uint64_t a, uint64_t b)
{
    struct rng r = {seed};
    r.state = rng_u64(&r) ^ (a * 0xd6e8feb86659fd93u);
    r.state = rng_u64(&r) ^ (b * 0xa0761d6478bd642fu);
    return r;
}

/* 0 … n-1 */
static inline unsigned rng_below(struct rng *r, unsigned n)
{
    return (unsigned)(rng_u64(r) % n);
}

static inline bool rng_percent(struct rng *r, unsigned percent)
{
    return rng_below(r, 100) < percent;
}
#endif
