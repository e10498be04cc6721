// SPDX-License-Identifier: Apache-2.0
/* admin fsck, as far as block servers are asked and waited for. */
#include "fsck.h"

#include <errno.h>
#include <stdio.h>

#include "audit.h"
#include "replicas.h"

#define CHECK_PAUSE_MS 200
#define BRING_PAUSE_MS 500
#define BRING_STALL_MS 60000 /* nothing came for so long */
#define CURABLE_LOOKED 1000u

int fsck_servers(struct cmd *c, struct server_row **v, size_t *n, bool *found)
{
    struct ns_row ns;
    *found = true;
    if (!c->arg_n)
        return c->m->st->ops->server_list(c->m->st, v, n, c->ar);
    int r = cmd_find_ns(c, c->arg[0], &ns, found);
    return r || !*found ? r : c->m->st->ops->assigned(c->m->st, ns.id, v, n, c->ar);
}

int fsck_order(struct cmd *c, struct fsck *f)
{
    struct server_row *v;
    uint64_t number;
    size_t n;
    bool found;
    int r = fsck_servers(c, &v, &n, &found);
    if (!r && found)
        r = audit_order(c->m, v, n, cmd_option(c, "read") != NULL, cmd_option(c, "repair") != NULL,
                        c->now_ms, &number);
    if (r || !found)
        return r;
    f->order = number;
    f->phase = FSCK_CHECKS;
    c->unchanged = false; /* block servers are to hear of it */
    c->pause_ms = CHECK_PAUSE_MS;
    return 0;
}

/* ---- what they found ------------------------------------------------------------------------- */
static void print_json(struct cmd *c, const struct server_row *s, const struct m_check *k,
                       bool answers)
{
    buf_printf(&c->out, "{\"server\": %llu, \"premises\": ", (unsigned long long)s->id);
    cmd_json(c, s->premises);
    buf_printf(&c->out, ", \"checked\": %s", answers ? "true" : "false");
    if (answers)
        buf_printf(&c->out,
                   ", \"blocks\": %llu, \"damaged\": %llu, \"unreadable\": %llu, \"not_there\": "
                   "%llu, \"unrecorded\": %llu, \"unneeded\": %llu, \"unknown\": %llu",
                   (unsigned long long)k->blocks, (unsigned long long)k->damaged,
                   (unsigned long long)k->unreadable, (unsigned long long)k->not_there,
                   (unsigned long long)k->unrecorded, (unsigned long long)k->unneeded,
                   (unsigned long long)k->unknown);
    buf_printf(&c->out, "}\n");
}

static void print_done(struct cmd *c, const struct server_row *s, const struct audit_row *a)
{
    const struct m_check *k = &a->c;
    const struct {
        uint64_t n;
        const char *what, *mended;
    } lines[] = {
        {k->damaged, "were damaged and are set aside in its corrupt/", ""},
        {k->unreadable, "cannot be read now", ""},
        {k->not_there, "are recorded to be there and are not", ": recorded so no longer"},
        {k->unrecorded, "are there and are not recorded to be", ": recorded now"},
        {k->unneeded, "are there and nothing refers to them", ": being removed"},
        {k->unknown, "are there and nothing refers to them, but they may be on their way", ""},
    };
    bool any = false;
    buf_printf(&c->out, "block server %llu (%.*s): %llu blocks looked at",
               (unsigned long long)s->id, PRB(s->premises), (unsigned long long)k->looked);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!lines[i].n)
            continue;
        buf_printf(&c->out, "%s %llu %s%s", any ? ";" : ":", (unsigned long long)lines[i].n,
                   lines[i].what, a->mend ? lines[i].mended : "");
        any = true;
    }
    buf_printf(&c->out, any ? "\n" : ": as recorded\n");
}

static void report(struct cmd *c, struct fsck *f, const struct server_row *s,
                   const struct audit_row *a, enum audit_state state)
{
    f->silent += state == AUDIT_SILENT;
    f->unreadable += state == AUDIT_DONE ? a->c.unreadable : 0;
    if (state == AUDIT_DONE)
        f->wrong += a->c.damaged + a->c.unreadable + a->c.not_there + a->c.unrecorded;
    if (c->json)
        print_json(c, s, &a->c, state == AUDIT_DONE);
    else if (state == AUDIT_DONE)
        print_done(c, s, a);
    else
        buf_printf(&c->out,
                   "block server %llu (%.*s) %s (last heard of %llu s ago); what is there, and "
                   "what it may have lost, is not known\n",
                   (unsigned long long)s->id, PRB(s->premises),
                   a->told ? "does not get on" : "does not answer", meta_silent_s(s, c->now_ms));
}

int fsck_checks(struct cmd *c, struct fsck *f)
{
    struct server_row *v;
    size_t n, waiting = 0;
    bool found;
    int r = fsck_servers(c, &v, &n, &found);
    if (r || !found)
        return r;
    struct audit_row *rows = arena_alloc(c->ar, (n + 1) * sizeof *rows);
    enum audit_state *states = arena_alloc(c->ar, (n + 1) * sizeof *states);
    for (size_t k = 0; k < n && !r; k++) {
        r = audit_state(c->m, &v[k], f->order, c->now_ms, &rows[k], &states[k]);
        if (r || states[k] != AUDIT_WAIT || waiting++)
            continue;
        snprintf(c->progress, sizeof c->progress,
                 "block server %llu (%.*s): %llu of %llu blocks looked at",
                 (unsigned long long)v[k].id, PRB(v[k].premises),
                 (unsigned long long)rows[k].c.looked, (unsigned long long)rows[k].c.blocks);
    }
    if (waiting)
        c->pause_ms = CHECK_PAUSE_MS;
    for (size_t k = 0; k < n && !waiting && !r; k++)
        report(c, f, &v[k], &rows[k], states[k]);
    if (!waiting)
        f->phase = cmd_option(c, "repair") ? FSCK_NOTE : FSCK_FILES;
    return r;
}

/* ---- what is brought ------------------------------------------------------------------------- */
/* What the servers of one namespace lack; *curable: some of it is at hand elsewhere, as far as is
 * known. *fill: how much may still be looked up in this question. */
static int count_lacking(struct cmd *c, uint64_t ns, uint64_t *blocks, size_t *fill, bool *curable)
{
    const struct store_ops *ops = c->m->st->ops;
    uint64_t heard = meta_heard_since(c->now_ms);
    struct server_row *v;
    size_t n;
    int r = ops->assigned(c->m->st, ns, &v, &n, c->ar);
    for (size_t k = 0; k < n && !r; k++) {
        struct lack_sum sum;
        bool more = false, some = false;
        r = *fill ? ops->fill_step(c->m->st, ns, v[k].id, *fill, &more) : 0;
        *fill = more ? 0 : *fill;
        if (!r)
            r = ops->lack_sum(c->m->st, ns, v[k].id, &sum);
        if (!r && sum.blocks && !*curable && !sum.filling && meta_hears(&v[k], c->now_ms))
            r = ops->lack_curable(c->m->st, ns, v[k].id, heard, CURABLE_LOOKED, &some);
        if (r)
            return r;
        *blocks += sum.blocks;
        *curable |= sum.filling || some;
    }
    return r;
}

int fsck_bring(struct cmd *c, struct fsck *f)
{
    struct fsck all = {0};
    struct ns_row ns;
    uint64_t blocks = 0;
    bool found = true, curable = false;
    size_t fill = FILL_BLOCKS;
    int r;
    while (!(r = fsck_next_ns(c, &all, &ns, &found)) && found && ns.id && !r) {
        r = count_lacking(c, ns.id, &blocks, &fill, &curable);
        if (r)
            return r;
        all.ns = ns.id + 1;
    }
    if (r || !found)
        return r;
    if (blocks > f->lacked) {
        f->lacked += blocks - f->lacking; /* more was noted meanwhile, or for the first time */
        f->since_ms = (unsigned long long)c->now_ms;
    } else if (blocks < f->lacking) {
        f->since_ms = (unsigned long long)c->now_ms;
    }
    f->lacking = blocks;
    if (curable && (unsigned long long)c->now_ms <= f->since_ms + BRING_STALL_MS) {
        c->pause_ms = BRING_PAUSE_MS;
        snprintf(c->progress, sizeof c->progress, "%llu blocks are still to be brought",
                 (unsigned long long)blocks);
        return 0;
    }
    f->phase = FSCK_FILES;
    return 0;
}
