// SPDX-License-Identifier: Apache-2.0
/* The order among a namespace's candidates, and back-off.
 *
 * Round trips of servers in one building differ by less than their noise, and blocks asked about
 * and uploaded at one target count for nothing at another. So a server in use is left for one of
 * the same rank only if that is quicker by far, and the oftener it happens the longer it stays.
 */
#include "sync_target.h"

void backoff_failed(struct backoff *b, int64_t now, uint32_t random)
{
    int64_t pause = BACKOFF_MAX_MS;
    if (b->fails < 8)
        pause = (int64_t)BACKOFF_FIRST_MS << b->fails;
    if (pause > BACKOFF_MAX_MS)
        pause = BACKOFF_MAX_MS;
    pause = pause / 2 + (int64_t)(random % (uint32_t)(pause / 2 + 1));
    b->fails++;
    b->failed_at = now;
    b->until = now + pause;
}

void backoff_ok(struct backoff *b)
{
    *b = (struct backoff){0};
}

int64_t backoff_due(const struct backoff *b, bool awaited)
{
    int64_t latest = b->failed_at + BACKOFF_AWAITED_MS;
    return awaited && b->until > latest ? latest : b->until;
}

bool target_same_rank(const struct target_candidate *a, const struct target_candidate *b)
{
    return a->preferred == b->preferred && a->priority == b->priority;
}

double target_leave_cost(const struct target_candidate *other)
{
    double times = other->cost_ms * TARGET_LEAVE_TIMES, more = other->cost_ms + TARGET_LEAVE_MS;
    return times > more ? times : more;
}

bool target_leave(const struct target_candidate *v, const struct target_candidate *other)
{
    return v->server != other->server && other->usable && v->measured && other->measured &&
           target_same_rank(v, other) && v->cost_ms > target_leave_cost(other);
}

bool target_may_leave(const struct target_stay *s, int64_t now)
{
    return !s->pause || now - s->left_at >= s->pause;
}

void target_left(struct target_stay *s, int64_t now)
{
    bool again = s->pause && now - s->left_at < TARGET_CALM * s->pause;
    s->pause = again ? 2 * s->pause : TARGET_STAY_MS;
    if (s->pause > TARGET_STAY_MAX_MS)
        s->pause = TARGET_STAY_MAX_MS;
    s->left_at = now;
}

static bool better(const struct target_candidate *a, const struct target_candidate *b)
{
    if (a->preferred != b->preferred)
        return a->preferred;
    if (a->priority != b->priority)
        return a->priority < b->priority;
    if (a->current != b->current)
        return a->current;
    if (a->cost_ms != b->cost_ms)
        return a->cost_ms < b->cost_ms;
    return a->server < b->server;
}

size_t target_choose(const struct target_candidate *v, size_t n, uint64_t *out, size_t want)
{
    const struct target_candidate *last = NULL;
    size_t found = 0;
    while (found < want) {
        const struct target_candidate *best = NULL;
        for (size_t i = 0; i < n; i++)
            if (v[i].usable && (!last || better(last, &v[i])) && (!best || better(&v[i], best)))
                best = &v[i];
        if (!best)
            break;
        out[found++] = best->server;
        last = best;
    }
    return found;
}

double target_rtt(double average_ms, double sample_ms)
{
    return average_ms > 0 ? average_ms * 0.8 + sample_ms * 0.2 : sample_ms;
}
