// SPDX-License-Identifier: Apache-2.0
/* Whether wrong bytes are the block's fault. A storage counts what it reads to judge blocks by:
 * where many of them are wrong of late, memory, a controller or a cable is at fault, and what it
 * calls damaged may be right. Then nothing is set aside any more, until somebody who has looked
 * says so. Any thread. */
#ifndef TRUST_H
#define TRUST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define TRUST_LAST 64    /* verdicts that are looked at … */
#define TRUST_MS 3600000 /* … of the last hour: few are made where nothing is scrubbed */
#define TRUST_WRONG 8u   /* so many wrong ones of them are too many */

struct trust {
    pthread_mutex_t lock; /* guards what follows */
    struct {
        bool wrong;
        int64_t at_ms;
    } last[TRUST_LAST]; /* a ring */
    uint64_t verdicts, rereads;
    bool broken, untold;
};

void trust_init(struct trust *t);
void trust_free(struct trust *t);
/* A block was read, by the monotonic clock: its bytes are right. */
void trust_right(struct trust *t, int64_t now_ms);
/* They are wrong, in two readings. False: it is not to be judged by that. */
bool trust_wrong(struct trust *t, int64_t now_ms);
/* They were wrong, and right when they were read again: a warning. */
void trust_reread(struct trust *t);
uint64_t trust_rereads(struct trust *t);
bool trust_broken(struct trust *t);
/* As trust_broken, the first time after it became so. */
bool trust_untold(struct trust *t);
/* Somebody has looked: from the beginning. */
void trust_again(struct trust *t);
#endif
