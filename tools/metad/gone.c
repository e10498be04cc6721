// SPDX-License-Identifier: Apache-2.0
#include "gone.h"

int gone_admits(struct meta *m, uint64_t ns, const struct server_row *s, const struct block_id *b,
                uint64_t proof, bool *yes)
{
    uint64_t least;
    enum gone_state due;
    int r = m->st->ops->gone_get(m->st, ns, b, s->id, &least, &due);
    *yes = !r && proof >= least;
    return r;
}

int gone_proved(struct meta *m, uint64_t ns, const struct server_row *s, const struct block_id *b,
                uint64_t proof, int64_t now_ms)
{
    const struct store_ops *ops = m->st->ops;
    uint64_t least;
    enum gone_state due;
    int r = ops->gone_get(m->st, ns, b, s->id, &least, &due);
    if (!r && due != GONE) /* it need not be removed, or what was removed has been put again */
        r = ops->gone_order(m->st, ns, b, s->id, least, GONE, now_ms);
    if (!r)
        r = ops->heard_raise(m->st, ns, s->id, proof);
    return r ? r : ops->presence_put(m->st, ns, b, s->id, s->generation, proof);
}

int gone_lost(struct meta *m, const struct server_row *s, const struct m_lost *lost, int64_t now_ms)
{
    const struct store_ops *ops = m->st->ops;
    /* a server that tells no generation proves with none */
    uint64_t from_now = lost->generation ? lost->generation : 1;
    bool left = false;
    int r = ops->presence_drop(m->st, lost->ns, &lost->block, s->id, from_now, &left);
    if (!r && lost->generation)
        r = ops->gone_put(m->st, lost->ns, &lost->block, s->id, lost->generation, now_ms);
    if (!r && !left) /* else it was put again since */
        r = ops->lack_lost(m->st, lost->ns, s->id, &lost->block);
    return r;
}
