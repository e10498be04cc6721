// SPDX-License-Identifier: Apache-2.0
/* How quick a block server is, and when an answer of it is late. Pure: times are arguments.
 *
 * Times are milliseconds, speeds bytes per millisecond. Zero-initialise: nothing is known then. */
#ifndef STEADFS_SYNC_PACE_H
#define STEADFS_SYNC_PACE_H

#include <stddef.h>

#include "steadfs/types.h"

#define PACE_SMALL_BYTES                                                                           \
    (128u << 10)              /* calls of fewer tell of the latency, others of the speed           \
                               */
#define PACE_LATE_MIN_MS 50   /* an answer is never late before; within that … */
#define PACE_LATE_MAX_MS 2000 /* … and always after it: then the server is probed anyway */
#define PACE_UNKNOWN_MS 500   /* while nothing has been measured */

struct pace {
    double latency_ms, spread_ms; /* moving averages: of small calls, and of their distance to it */
    double bytes_ms;              /* … of the speed of large ones; 0: not measured */
    double block_bytes;           /* … of how long the blocks are that come; 0: not measured */
};

/* A call that moved so many bytes took so long. blocks: how many they were, 0: not counted. */
void pace_took(struct pace *p, size_t bytes, size_t blocks, double ms);
/* It took at least so long, and was given up. */
void pace_gave_up(struct pace *p, double ms);
/* What moving so many bytes probably takes. */
double pace_expect(const struct pace *p, double bytes);
/* How many bytes so many blocks probably are. */
double pace_bytes(const struct pace *p, size_t blocks);
/* When an answer with so many blocks is late: latency and four times its spread, and twice what
 * their bytes take, within the bounds above. */
int64_t pace_late_ms(const struct pace *p, size_t blocks);

/* What moves between here and a block server in one direction, all calls together: several are
 * under way at a time, and each of them alone looks slow. Zero-initialise. */
#define FLOW_SAMPLE_BYTES (512.0 * 1024) /* fewer tell of the latency */
struct flow {
    unsigned calls;        /* under way */
    int64_t since;         /* the first of them began, or the last sample was taken; ms */
    double done, underway; /* bytes since then, and still to be answered for */
    double bytes_ms;       /* moving average; 0: not measured */
    int64_t at;            /* when it was measured last */
};
void flow_begin(struct flow *f, int64_t now, double bytes);
/* moved: of the `bytes` that it began with, or as many as came. */
void flow_end(struct flow *f, int64_t now, double bytes, double moved, double latency_ms);
/* What was given up after so long would have brought so many. */
void flow_gave_up(struct flow *f, int64_t now, double bytes, double ms);
/* It is used no more: what is certain of it is what is known of it from now on. */
void flow_settle(struct flow *f, int64_t now);
/* The speed, as far as is certain: if what is under way now came at once, it would not have been
 * quicker than it says. 0: not known. */
double flow_speed(const struct flow *f, int64_t now);
/* When flow_speed falls to `bytes_ms` if nothing is answered until then; INT64_MAX: never. */
int64_t flow_falls(const struct flow *f, double bytes_ms);

/* What may be spent on asking twice: a share of what was fetched. */
struct pace_budget {
    double saved; /* bytes */
};
#define PACE_SAVED_MAX (16.0 * 1048576)  /* so many bytes at once */
#define PACE_SAVED_FIRST (4.0 * 1048576) /* before anything was fetched */
void pace_earn(struct pace_budget *b, double bytes, unsigned percent);
/* Takes them if they are there. */
bool pace_spend(struct pace_budget *b, double bytes);
/* What was taken turned out to be so many more; negative: fewer. What is saved may be less than
 * nothing then. */
void pace_settle(struct pace_budget *b, double more);
#endif
