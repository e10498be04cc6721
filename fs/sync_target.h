// SPDX-License-Identifier: Apache-2.0
/* Choosing block servers, and waiting between attempts. Pure: time and randomness are arguments. */
#ifndef STEADFS_SYNC_TARGET_H
#define STEADFS_SYNC_TARGET_H

#include "steadfs/types.h"

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS 30000
#define BACKOFF_AWAITED_MS 2000 /* longest pause while somebody waits for the result */

/* After the k-th failure in a row the pause is 200 ms * 2^(k-1), at most 30 s, each with 50 %
 * jitter. Zero-initialise. Times are monotonic ms. */
struct backoff {
    unsigned fails;
    int64_t failed_at, until;
};
void backoff_failed(struct backoff *b, int64_t now, uint32_t random);
void backoff_ok(struct backoff *b);
/* When the next attempt may be made; awaited: somebody waits for it. */
int64_t backoff_due(const struct backoff *b, bool awaited);

/* A candidate of a namespace, as the chooser sees it. */
struct target_candidate {
    uint64_t server;
    uint64_t priority; /* 0 first */
    double cost_ms;    /* round trip, and what is to be moved there; 0: not measured yet */
    bool preferred;    /* stands on the preferred premises */
    bool usable;       /* did not fail since it last answered */
    bool current;      /* in use now: changing would ask and upload again */
};
/* The best `want` usable candidates, best first, into out; returns how many there are. Preferred
 * premises, then priority, then those in use, then cost. */
size_t target_choose(const struct target_candidate *v, size_t n, uint64_t *out, size_t want);
/* Folds a measured round trip into the moving average. */
double target_rtt(double average_ms, double sample_ms);
#endif
