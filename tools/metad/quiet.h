// SPDX-License-Identifier: Apache-2.0
/* Keeps one caller's trouble from filling the log: a line like one that was written within the last
 * minute is only counted. Any thread. */
#ifndef STEADFS_QUIET_H
#define STEADFS_QUIET_H

#include <pthread.h>

#include "steadfs/types.h"

#define QUIET_SLOTS                                                                                \
    256 /* kinds of lines that are told apart; one that is pushed out is written                   \
         */
#define QUIET_MS 60000

/* Zero-initialise, then quiet_init. */
struct quiet {
    pthread_mutex_t lock;
    struct {
        uint64_t kind, left_out;
        int64_t since_ms;
    } slots[QUIET_SLOTS];
};

void quiet_init(struct quiet *q);
/* Whether the line is to be written now (monotonic clock). what and who say which lines are alike;
 * a port at the end of who does not count. left_out: how many like it were not since the last one
 * that was. */
bool quiet_allows(struct quiet *q, const char *what, const char *who, int64_t now_ms,
                  uint64_t *left_out);
#endif
