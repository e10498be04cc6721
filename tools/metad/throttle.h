// SPDX-License-Identifier: Apache-2.0
/* Slows down guessing of one-time tokens: failed attempts per address and minute. One thread. */
#ifndef STEADFS_THROTTLE_H
#define STEADFS_THROTTLE_H

#include "steadfs/types.h"

#define THROTTLE_SLOTS 256 /* addresses that fall into one slot share its allowance */
#define THROTTLE_PER_MINUTE 20u

/* Zero-initialise. */
struct throttle {
    struct {
        int64_t minute;
        unsigned failures;
    } slots[THROTTLE_SLOTS];
};

/* peer: "ADDRESS" or "ADDRESS:PORT". Whether it may try. */
bool throttle_allows(const struct throttle *t, const char *peer, int64_t now_ms);
void throttle_failed(struct throttle *t, const char *peer, int64_t now_ms);
#endif
