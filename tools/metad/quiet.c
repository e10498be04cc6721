// SPDX-License-Identifier: Apache-2.0
/* A fixed table: what falls into the slot of another kind takes it over, so that at worst a line
 * more is written. */
#include "quiet.h"

#include <string.h>

void quiet_init(struct quiet *q)
{
    memset(q, 0, sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
}

static uint64_t mix(uint64_t hash, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)text[i]) * 1099511628211u; /* FNV-1a */
    return (hash ^ 0xff) * 1099511628211u;
}

bool quiet_allows(struct quiet *q, const char *what, const char *who, int64_t now_ms,
                  uint64_t *left_out)
{
    const char *port = strrchr(who, ':');
    uint64_t kind = mix(14695981039346656037u, what, strlen(what));
    kind = mix(kind, who, port ? (size_t)(port - who) : strlen(who)) | 1;
    size_t i = (kind >> 32) % QUIET_SLOTS;
    pthread_mutex_lock(&q->lock);
    bool alike = q->slots[i].kind == kind;
    bool allowed = !alike || now_ms - q->slots[i].since_ms >= QUIET_MS;
    *left_out = alike && allowed ? q->slots[i].left_out : 0;
    if (allowed) {
        q->slots[i].kind = kind;
        q->slots[i].since_ms = now_ms;
        q->slots[i].left_out = 0;
    } else {
        q->slots[i].left_out++;
    }
    pthread_mutex_unlock(&q->lock);
    return allowed;
}
