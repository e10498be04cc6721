// SPDX-License-Identifier: Apache-2.0
#include "opening.h"

#include <errno.h>
#include <string.h>

#include "replicas.h"

static struct bytes present(const struct server_row *s)
{
    return bytes_of(s->incarnation, sizeof s->incarnation);
}

bool opening_is(const struct server_row *s, struct bytes incarnation, uint64_t run)
{
    return bytes_equal(incarnation, present(s)) && run == s->run;
}

bool opening_has(const struct server_row *s, struct bytes incarnation, uint64_t run,
                 uint64_t generation)
{
    return bytes_equal(incarnation, present(s)) && (run == s->run || generation <= s->found);
}

/* The run counts from now on; the one of before has ended. */
static int take_run(struct meta *m, struct server_row *s, const struct m_beat_req *q)
{
    int r = s->run && s->run != q->run ? m->st->ops->run_end(m->st, s->id, s->run) : 0;
    s->run = q->run;
    s->found = q->found;
    return r;
}

int opening_give_up(struct meta *m, struct server_row *s)
{
    static const uint8_t none[STORE_INCARNATION_LEN];
    int r = bytes_equal(present(s), bytes_of(none, sizeof none))
                ? 0
                : m->st->ops->give_up(m->st, s->id, present(s));
    memcpy(s->incarnation, none, sizeof s->incarnation);
    s->generation++;
    return r ? r : m->st->ops->heard_drop(m->st, s->id);
}

int opening_lost(struct meta *m, uint64_t server)
{
    int r = replicas_renewed(m, server);
    if (!r)
        r = m->st->ops->gone_renewed(m->st, server);
    return r ? r : m->st->ops->audit_renewed(m->st, server);
}

int opening_void(struct meta *m, struct server_row *s)
{
    int r = opening_give_up(m, s);
    if (!r)
        r = m->st->ops->server_set(m->st, s);
    return r ? r : opening_lost(m, s->id);
}

/* All presence is void; next: the incarnation that counts, empty: none. */
static int lose(struct meta *m, struct server_row *s, const struct m_beat_req *q, struct bytes next)
{
    int r = opening_give_up(m, s);
    if (next.n)
        memcpy(s->incarnation, next.p, sizeof s->incarnation);
    return r ? r : take_run(m, s, q);
}

/* The present incarnation, opened anew. */
static int opened_again(struct meta *m, struct server_row *s, const struct m_beat_req *q,
                        struct opening *o)
{
    uint64_t heard;
    int r = m->st->ops->heard_most(m->st, s->id, &heard);
    if (r)
        return r;
    if (s->run && heard <= s->found) /* it rose once at least: when it was opened */
        heard = s->found + 1;
    if (q->found >= heard)
        return take_run(m, s, q);
    o->lost = o->renew = true;
    return lose(m, s, q, bytes_of(NULL, 0));
}

int opening_judge(struct meta *m, struct server_row *s, const struct m_beat_req *q,
                  struct opening *o)
{
    const struct store_ops *ops = m->st->ops;
    bool given_up;
    *o = (struct opening){0};
    if (q->run > INT64_MAX || q->found > INT64_MAX)
        return -EBADMSG;
    int r = q->run ? ops->run_ended(m->st, s->id, q->run, &o->superseded) : 0;
    if (!r && !o->superseded)
        r = ops->given_up(m->st, s->id, q->incarnation, &given_up);
    if (r || o->superseded)
        return r;
    if (!q->run && (s->run || given_up))
        return -EAGAIN;
    if (given_up) {
        o->renew = true;
        o->lost = q->run != s->run; /* else it is a beat of before, and late */
        return o->lost ? lose(m, s, q, bytes_of(NULL, 0)) : 0;
    }
    if (!bytes_equal(q->incarnation, present(s))) {
        o->lost = true;
        return lose(m, s, q, q->incarnation);
    }
    return q->run == s->run ? 0 : opened_again(m, s, q, o);
}
