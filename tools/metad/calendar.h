// SPDX-License-Identifier: Apache-2.0
/* Whether the time of day can be believed, where something is forgotten for good because so much
 * time has passed. A calendar that is set years ahead by mistake would make all of the past old at
 * once: a leap that the other clock, which only counts, knows nothing of is not believed for
 * CALENDAR_DOUBT_MS, or until it is taken back. All times in milliseconds. No threads of its own.
 */
#ifndef STEADFS_CALENDAR_H
#define STEADFS_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

#define CALENDAR_LEAP_MS (10ll * 60 * 1000)           /* smaller ones are corrections */
#define CALENDAR_AWAY_MS (24ll * 60 * 60 * 1000)      /* one may have been off for that long */
#define CALENDAR_DOUBT_MS (7 * 24ll * 60 * 60 * 1000) /* then it is what it is meant to be */

struct calendar { /* zeroed: nothing was asked yet */
    bool known;
    int64_t offset;      /* of the time of day that is believed, against the clock that counts */
    int64_t doubt_since; /* of the latter; 0: it is believed */
};

/* At a start: last is the newest time of day that was believed before, 0: none. Who was off for
 * longer than CALENDAR_AWAY_MS forgets nothing for a while: that costs room on the disk, and no
 * more. */
void calendar_begin(struct calendar *c, int64_t last, int64_t now, int64_t counted);
/* now: the time of day; counted: CLOCK_BOOTTIME. */
bool calendar_believes(struct calendar *c, int64_t now, int64_t counted);
#endif
