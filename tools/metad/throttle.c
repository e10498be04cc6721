// SPDX-License-Identifier: Apache-2.0
/* Tokens are long random numbers: the point is not their strength but that a broken script cannot
 * keep the writer busy. A fixed table of counters is enough for that and cannot grow. */
#include "throttle.h"

#include <string.h>

static size_t slot(const char *peer)
{
    const char *port = strrchr(peer, ':');
    size_t n = port ? (size_t)(port - peer) : strlen(peer);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)peer[i]) * 16777619u;
    return hash % THROTTLE_SLOTS;
}

bool throttle_allows(const struct throttle *t, const char *peer, int64_t now_ms)
{
    size_t i = slot(peer);
    return t->slots[i].minute != now_ms / 60000 || t->slots[i].failures < THROTTLE_PER_MINUTE;
}

void throttle_failed(struct throttle *t, const char *peer, int64_t now_ms)
{
    size_t i = slot(peer);
    if (t->slots[i].minute != now_ms / 60000) {
        t->slots[i].minute = now_ms / 60000;
        t->slots[i].failures = 0;
    }
    t->slots[i].failures++;
}
