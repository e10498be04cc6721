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
    bool measured;     /* its speed, lately: then cost_ms can be compared with that in use */
    bool preferred;    /* stands on the preferred premises */
    bool usable;       /* did not fail since it last answered */
    bool current;      /* in use now: changing would ask and upload again */
};
/* The best `want` usable candidates, best first, into out; returns how many there are. Preferred
 * premises, then priority, then those in use, then cost. */
size_t target_choose(const struct target_candidate *v, size_t n, uint64_t *out, size_t want);
/* Whether both are of one rank: only what they cost sets them apart. */
bool target_same_rank(const struct target_candidate *a, const struct target_candidate *b);
/* What the candidates of one rank with `v` make of one in use that costs so much more than the best
 * of them that leaving it pays: all is asked anew and uploaded again there, and measurements vary.
 * So both are measured, it takes TARGET_LEAVE_TIMES as long, and TARGET_LEAVE_MS longer. */
#define TARGET_LEAVE_TIMES 3.0
#define TARGET_LEAVE_MS 50.0
bool target_leave(const struct target_candidate *v, const struct target_candidate *other);
/* Above which cost it would be left for the other one. */
double target_leave_cost(const struct target_candidate *other);
/* How often a target may be left for its pace: after the k-th time in a row the next one is that
 * far off; in a row: within TARGET_CALM times the pause. Zero-initialise. */
#define TARGET_STAY_MS 5000
#define TARGET_STAY_MAX_MS 600000
#define TARGET_CALM 4
struct target_stay {
    int64_t left_at, pause;
};
bool target_may_leave(const struct target_stay *s, int64_t now);
void target_left(struct target_stay *s, int64_t now);
/* Folds a measured round trip into the moving average. */
double target_rtt(double average_ms, double sample_ms);
#endif
