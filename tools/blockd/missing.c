// SPDX-License-Identifier: Apache-2.0
/* The generation is raised before the storage is looked at: what is put afterwards is proved by a
 * later one, and no presence of that is taken away. */
#include "missing.h"

#include "blockid.h"

#include <stdio.h>
#include <string.h>

#define CALL_MS 5000u

bool missing_add(struct missing *m, uint64_t ns, const struct block_id *id, int64_t now_ms)
{
    struct missing_row *room = m->n < MISSING_MAX ? &m->v[m->n] : NULL;
    for (size_t i = 0; i < m->n; i++) {
        struct missing_row *r = &m->v[i];
        bool old = r->told_at && now_ms - r->told_at >= MISSING_AGAIN_MS;
        if (r->ns == ns && block_id_equal(&r->id, id)) {
            if (!old)
                return false;
            room = r;
            break;
        }
        if (old && !room)
            room = r;
    }
    if (!room)
        return false;
    m->n += room == &m->v[m->n];
    *room = (struct missing_row){.ns = ns, .id = *id};
    m->waiting++;
    return true;
}

size_t missing_take(struct missing *m, int64_t now_ms, struct m_lost out[MISSING_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].told_at)
            continue;
        m->v[i].told_at = now_ms + !now_ms;
        out[n++] = (struct m_lost){.ns = m->v[i].ns, .block = m->v[i].id};
    }
    m->waiting = 0;
    return n;
}

int missing_tell(struct storage *s, struct rpc *rpc, const char *meta, struct m_lost *v, size_t n,
                 uint64_t *lost, char *message)
{
    struct arena a cleanup_arena = {0};
    struct m_inventory_ans ans;
    uint8_t incarnation[INCARNATION_LEN];
    *lost = 0;
    s->ops->incarnation(s, incarnation);
    struct m_inventory_req q = {
        .incarnation = bytes_of(incarnation, sizeof incarnation), .run = s->run, .missing = v};
    int r = s->ops->raise(s, &q.generation);
    for (size_t i = 0; i < n && !r; i++) {
        struct storage_info info;
        r = s->ops->have(s, v[i].ns, &v[i].block, 1, &info);
        if (r || info.there)
            continue;
        v[i].generation = q.generation;
        v[q.missing_n++] = v[i];
    }
    if (r) {
        snprintf(message, 512, "the index cannot be used: %s", strerror(-r));
        return r;
    }
    if (!q.missing_n)
        return 0;
    r = rpc_wait(rpc, meta, "inventory", &m_inventory_req_desc, &q, &m_inventory_ans_desc, &ans, &a,
                 CALL_MS, message);
    *lost = r ? 0 : ans.lost;
    return r;
}
