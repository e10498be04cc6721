// SPDX-License-Identifier: Apache-2.0
#include "audit.h"

#define ANSWERS_MS 15000  /* to an order: three beats */
#define GETS_ON_MS 120000 /* nothing new for so long: it is not waited for any more */
#define STANDS_MS 3600000 /* an order that nobody heard is forgotten */

int audit_order(struct meta *m, const struct server_row *servers, size_t n, bool read, bool mend,
                int64_t now_ms, uint64_t *number)
{
    int r = m->st->ops->setting_next(m->st, "next_check", number);
    for (size_t k = 0; k < n && !r; k++)
        r = m->st->ops->audit_order(m->st, servers[k].id, *number, read, mend, now_ms);
    return r;
}

int audit_state(struct meta *m, const struct server_row *s, uint64_t number, int64_t now_ms,
                struct audit_row *a, enum audit_state *state)
{
    int r = m->st->ops->audit_get(m->st, s->id, a);
    if (r)
        return r;
    uint64_t patience = a->told ? GETS_ON_MS : ANSWERS_MS;
    bool gets_on = (uint64_t)now_ms <= a->at_ms + patience;
    *state = a->c.order >= number && gets_on && meta_hears(s, now_ms) ? AUDIT_WAIT : AUDIT_SILENT;
    if (a->c.order >= number && a->c.done)
        *state = AUDIT_DONE;
    return 0;
}

int audit_beat(struct meta *m, uint64_t server, const struct m_beat_req *q, int64_t now_ms,
               struct m_beat_ans *a)
{
    struct audit_row row;
    int r = q->check_set ? m->st->ops->audit_report(m->st, server, &q->check, now_ms) : 0;
    if (!r)
        r = m->st->ops->audit_get(m->st, server, &row);
    if (r || !row.c.order || row.c.done || (uint64_t)now_ms > row.at_ms + STANDS_MS)
        return r;
    a->check = row.c.order;
    a->check_read = row.read;
    a->check_mend = row.mend;
    return 0;
}
