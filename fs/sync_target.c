// SPDX-License-Identifier: Apache-2.0
/* The order among a namespace's candidates, and back-off.
 *
 * Round trips of servers in one building differ by less than their noise, so a server in use is
 * left only for a better priority or because it failed: blocks asked about and uploaded at one
 * target count for nothing at another.
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
