// SPDX-License-Identifier: Apache-2.0
#ifndef UNITS_H
#define UNITS_H

#include "steadfs/types.h"

/* "500", "20M": a number of bytes, K, M, G and T for 1024 and so on. False: it is none, or too
 * large. */
bool parse_bytes(const char *text, uint64_t *out);
/* A rate for each hour of the day: bytes a second, RATE_ANY, or RATE_NONE. */
#define RATE_ANY UINT64_C(0)
#define RATE_NONE UINT64_MAX
struct rate_plan {
    uint64_t hour[24];
};
/* "20M", or "20M,8-18=2M,18-22=none": a rate (bytes as above, "any" or "none"), and others from one
 * hour of the day to another (the last one not included; 22-6 goes over midnight), of which a later
 * one counts. False: it is none. */
bool parse_rate_plan(const char *text, struct rate_plan *out);
/* "3600", "7d": seconds; m, h and d. */
bool parse_seconds(const char *text, unsigned *out);
#endif
