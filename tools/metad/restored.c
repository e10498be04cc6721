// SPDX-License-Identifier: Apache-2.0
#include "restored.h"

#include <errno.h>
#include <string.h>

#include "opening.h"
#include "replicas.h"

#define NUMBERS_GAP 4096u /* what may have been given out since the copy was made */

static uint64_t keep_ms(const struct meta *m)
{
    return m->history_ms > m->gc_grace_ms ? m->history_ms : m->gc_grace_ms;
}

static int skip_numbers(struct meta *m, const char *key)
{
    uint64_t used;
    int r = m->st->ops->setting_get(m->st, key, &used);
    return r ? r : m->st->ops->setting_set(m->st, key, used + NUMBERS_GAP);
}

/* by_tick: a block server has noticed it, else a mount. */
static int notice(struct meta *m, bool by_tick, int64_t now_ms, struct arena *ar)
{
    static const char *const numbers[] = {"next_device", "next_root", "last_namespace",
                                          "last_server"};
    const struct store_ops *ops = m->st->ops;
    struct server_row *v;
    size_t n = 0;
    uint64_t epoch;
    int r = ops->setting_get(m->st, "epoch", &epoch);
    epoch = (uint64_t)now_ms > epoch ? (uint64_t)now_ms : epoch + 1;
    if (!r)
        r = ops->setting_set(m->st, "epoch", epoch);
    if (!r)
        r = ops->setting_set(m->st, "keep_until", (uint64_t)now_ms + keep_ms(m));
    if (!r)
        r = ops->numbers_note(m->st);
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers && !r; k++)
        r = skip_numbers(m, numbers[k]);
    if (!r)
        r = ops->server_list(m->st, &v, &n, ar);
    for (size_t k = 0; k < n && !r; k++) {
        if (!by_tick && v[k].tick)
            continue;
        v[k].adopt = true;
        r = v[k].run ? opening_void(m, &v[k]) : m->st->ops->server_set(m->st, &v[k]);
    }
    if (!r)
        r = meta_touch_everybody(m, ar); /* mounts are to hear the epoch */
    m->noticed |= !r;
    return r;
}

/* A database is not put back under a running server: after its first report a block server can tell
 * nothing new, and one that does is not believed. */
int restored_beat(struct meta *m, struct server_row *s, const struct m_beat_req *q, int64_t now_ms,
                  struct arena *ar)
{
    bool first = s->unheard;
    bool older = first && q->tick > TICK_NONE && q->tick > s->tick && !s->adopt;
    int r = older ? notice(m, true, now_ms, ar) : 0;
    if (!r && older)
        r = m->st->ops->server_get(m->st, s->id, s, ar);
    if (!r && s->adopt && q->run)
        r = m->st->ops->give_up(m->st, s->id, q->incarnation);
    if (r)
        return r;
    s->adopt = s->unheard = false;
    if (q->tick)
        s->tick = (first && q->tick > s->tick ? q->tick : s->tick) + 1;
    return 0;
}

int meta_other_journal(struct meta *m, int64_t now_ms)
{
    cleanup_arena struct arena ar = {0};
    uint64_t until;
    int r = meta_change_begin(m);
    if (r)
        return r;
    r = restored_keeps(m, &until);
    if (!r && !until)
        r = notice(m, false, now_ms, &ar);
    return meta_change_end(m, r);
}

bool meta_noticed(struct meta *m)
{
    bool noticed = m->noticed;
    m->noticed = false;
    return noticed;
}

int meta_started(struct meta *m)
{
    int r = meta_change_begin(m);
    return r ? r : meta_change_end(m, m->st->ops->servers_unheard(m->st));
}

int restored_unsure(struct meta *m, bool *unsure, struct arena *ar)
{
    struct server_row *v;
    size_t n = 0;
    *unsure = false;
    int r = m->st->ops->server_list(m->st, &v, &n, ar);
    for (size_t k = 0; k < n && !r; k++)
        *unsure |= v[k].unheard;
    return r;
}

int meta_unheard(struct meta *m, bool *any)
{
    cleanup_arena struct arena ar = {0};
    *any = false;
    int r = meta_read_begin(m);
    return r ? r : meta_read_end(m, restored_unsure(m, any, &ar));
}

int meta_restored(struct meta *m, struct meta_restored *out)
{
    int r = meta_read_begin(m);
    if (r)
        return r;
    r = m->st->ops->setting_get(m->st, "epoch", &out->epoch);
    if (!r)
        r = restored_keeps(m, &out->keep_until_ms);
    return meta_read_end(m, r);
}

/* ---- what is kept ---------------------------------------------------------------------------- */
int restored_keeps(struct meta *m, uint64_t *until_ms)
{
    return m->st->ops->setting_get(m->st, "keep_until", until_ms);
}

int restored_release(struct meta *m)
{
    return m->st->ops->setting_set(m->st, "keep_until", 0);
}

int restored_step(struct meta *m, int64_t now_ms, bool *keeps)
{
    uint64_t until;
    int r = restored_keeps(m, &until);
    *keeps = !r && until > (uint64_t)now_ms;
    return r || !until || *keeps ? r : restored_release(m);
}
