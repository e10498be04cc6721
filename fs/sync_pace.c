// SPDX-License-Identifier: Apache-2.0
/* Latency and its spread are averaged as TCP does for its retransmission time-out (RFC 6298:
 * weights 1/8 and 1/4, bound at four times the spread): the same question, when is an answer late.
 */
#include "sync_pace.h"

#include <math.h>

#define BLOCK_GUESS (256.0 * 1024) /* while none has come */

static double mix(double average, double sample, double weight)
{
    return average > 0 ? average + (sample - average) * weight : sample;
}

void pace_took(struct pace *p, size_t bytes, size_t blocks, double ms)
{
    if (blocks)
        p->block_bytes = mix(p->block_bytes, (double)bytes / (double)blocks, 0.125);
    if (bytes > PACE_SMALL_BYTES) {
        double moving = ms - p->latency_ms > ms / 8 ? ms - p->latency_ms : ms / 8;
        if (moving > 0)
            p->bytes_ms = mix(p->bytes_ms, (double)bytes / moving, 0.25);
        return;
    }
    double off = fabs(ms - p->latency_ms);
    p->spread_ms = p->latency_ms > 0 ? mix(p->spread_ms, off, 0.25) : ms / 2;
    p->latency_ms = mix(p->latency_ms, ms, 0.125);
}

void pace_gave_up(struct pace *p, double ms)
{
    if (ms > p->latency_ms)
        pace_took(p, 0, 0, ms);
}

double pace_expect(const struct pace *p, double bytes)
{
    return p->latency_ms + (p->bytes_ms > 0 ? bytes / p->bytes_ms : 0);
}

double pace_bytes(const struct pace *p, size_t blocks)
{
    return (double)blocks * (p->block_bytes > 0 ? p->block_bytes : BLOCK_GUESS);
}

int64_t pace_late_ms(const struct pace *p, size_t blocks)
{
    if (p->latency_ms <= 0 && p->bytes_ms <= 0)
        return PACE_UNKNOWN_MS;
    double moving = p->bytes_ms > 0 ? pace_bytes(p, blocks) / p->bytes_ms : 0;
    double late = p->latency_ms + 4 * p->spread_ms + 2 * moving;
    if (late < PACE_LATE_MIN_MS)
        return PACE_LATE_MIN_MS;
    return late > PACE_LATE_MAX_MS ? PACE_LATE_MAX_MS : (int64_t)late;
}

void flow_begin(struct flow *f, int64_t now, double bytes)
{
    if (!f->calls++) {
        f->since = now;
        f->done = f->underway = 0;
    }
    f->underway += bytes;
}

void flow_end(struct flow *f, int64_t now, double bytes, double moved, double latency_ms)
{
    f->calls--;
    f->underway -= bytes;
    f->done += moved;
    if (f->done < FLOW_SAMPLE_BYTES)
        return;
    double ms = (double)(now - f->since), moving = ms - latency_ms;
    moving = moving > ms / 8 ? moving : ms / 8;
    f->bytes_ms = mix(f->bytes_ms, f->done / (moving > 1 ? moving : 1), 0.5);
    f->at = f->since = now;
    f->done = 0;
}

void flow_gave_up(struct flow *f, int64_t now, double bytes, double ms)
{
    double most = bytes / (ms > 1 ? ms : 1);
    if (f->bytes_ms > 0 && most > f->bytes_ms)
        return;
    f->bytes_ms = mix(f->bytes_ms, most, 0.5);
    f->at = now;
}

void flow_settle(struct flow *f, int64_t now)
{
    f->bytes_ms = flow_speed(f, now);
    f->at = now;
}

double flow_speed(const struct flow *f, int64_t now)
{
    if (!f->calls || now <= f->since)
        return f->bytes_ms;
    double most = (f->done + f->underway) / (double)(now - f->since);
    return f->bytes_ms > 0 && f->bytes_ms < most ? f->bytes_ms : most;
}

int64_t flow_falls(const struct flow *f, double bytes_ms)
{
    if (!f->calls || bytes_ms <= 0)
        return INT64_MAX;
    return f->since + 1 + (int64_t)((f->done + f->underway) / bytes_ms);
}

void pace_earn(struct pace_budget *b, double bytes, unsigned percent)
{
    b->saved += bytes * percent / 100;
    if (b->saved > PACE_SAVED_MAX)
        b->saved = PACE_SAVED_MAX;
}

bool pace_spend(struct pace_budget *b, double bytes)
{
    if (b->saved < bytes)
        return false;
    b->saved -= bytes;
    return true;
}

void pace_settle(struct pace_budget *b, double more)
{
    b->saved -= more;
    if (b->saved > PACE_SAVED_MAX)
        b->saved = PACE_SAVED_MAX;
}
