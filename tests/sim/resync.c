// SPDX-License-Identifier: Apache-2.0
/* A client whose cursor is below what is left of the journal: it asks how its requests ended, then
 * compares all that it knows, question by question, with the server's tree as of one SJID, and
 * applies the difference in one go. When even that SJID is forgotten meanwhile, or the client ends,
 * it begins again. */
#include "sim.h"

#include <errno.h>
#include <string.h>

void resync_reset(struct view *v)
{
    uint64_t run = v->resync.run;
    core_resync_free(v->resync.core);
    memset(&v->resync, 0, sizeof v->resync);
    v->resync.run = run + 1; /* what was asked until now has no meaning any more */
}

void resync_start(struct client *c, struct view *v, const struct m_list_ans *a)
{
    struct core_ns n;
    uint64_t at = a->resync;
    bool other = a->other || a->doubt;
    if (!client_ok(c, core_ns_get(c->core, v->ns, &n), "core_ns_get"))
        return;
    if (!v->marks && (other || n.mark)) { /* where they part is asked with all marks */
        v->marks = v->list_wanted = true;
        return;
    }
    v->marks = false;
    if (!other && n.cursor >= at) /* an answer came meanwhile, and moved it */
        return;
    if (other && !client_ok(c, core_parted_at(c->core, v->ns, a->common, a->resync, v->floor, &at),
                            "core_parted_at"))
        return;
    c->s->count.resyncs++;
    sim_log(c->s, "c%u compares %s with %llu", c->index, ns_names[server_ns(c->s, v->ns)],
            (unsigned long long)at);
    v->resync.on = true;
    v->resync.at = at;
    v->resync.mark = a->mark;
    v->resync.common = a->common;
    v->resync.head = a->resync;
    v->resync.other = other;
}

static void begin(struct client *c, struct view *v)
{
    int err = core_resync_new(&v->resync.core, c->core, v->ns, v->resync.at, v->resync.mark,
                              v->resync.common);
    if (err == -EINVAL)
        resync_reset(v);
    else
        client_ok(c, err, "core_resync_new");
}

static void apply(struct client *c, struct view *v)
{
    struct core_effects fx = {0};
    int err = core_resync_apply(v->resync.core, client_now(c), &fx);
    sim_log(c->s, "c%u has compared: %d", c->index, err);
    if (client_ok(c, err, "core_resync_apply")) {
        bool other = v->resync.other;
        resync_reset(v);
        v->lane.nothing = 0;
        client_effects(c, &fx);
        if (c->core && other)
            observer_compared(c);
        verify_tree(c);
    }
    core_effects_free(&fx);
}

static void ask_requests(struct client *c, struct view *v)
{
    struct m_requests_req q = {.ns = v->ns};
    if (v->resync.other &&
        !client_ok(c, core_journal_other(c->core, v->ns, v->resync.head), "core_journal_other"))
        return;
    int err = core_requests_from(c->core, v->ns, &q.from);
    if (err == -ENOENT)
        begin(c, v);
    else if (client_ok(c, err, "core_requests_from"))
        client_call(c, CALL_REQUESTS, 0, v->ns, "requests", &m_requests_req_desc, &q);
}

/* Another question, while there are not too many; when nothing is left to ask, it is applied. */
static bool ask(struct client *c, struct view *v)
{
    struct buf body = {0};
    const char *method;
    unsigned slot;
    int err = core_resync_request(v->resync.core, &slot, &method, &body);
    if (err == -ENOENT)
        apply(c, v);
    if (err == -ENOENT || err == -EAGAIN || !client_ok(c, err, "core_resync_request"))
        return false;
    struct call *k = client_send(c, CALL_RESYNC, 0, v->ns, method, &body);
    if (k) {
        k->run = v->resync.run;
        k->slot = slot;
    } else {
        core_resync_again(v->resync.core, slot);
    }
    buf_free(&body);
    return k != NULL;
}

void resync_turn(struct client *c, struct view *v)
{
    if (!client_reaches(c, 0) || client_calling(c, CALL_REQUESTS, v->ns))
        return;
    if (!v->resync.core)
        ask_requests(c, v);
    if (!c->core || !v->resync.core)
        return;
    for (unsigned k = 0; k < 2 && ask(c, v) && c->core; k++)
        ;
}

static void requests_answer(struct client *c, struct view *v, struct bytes body)
{
    cleanup_arena struct arena ar = {0};
    struct core_effects fx = {0};
    struct m_requests_ans a;
    if (msg_decode(&m_requests_ans_desc, &a, body.p, body.n, MSG_LENIENT, &ar, NULL)) {
        sim_fail(c->s, "client %u: the end of requests cannot be read", c->index);
        return;
    }
    int err = core_requests_answer(c->core, v->ns, &a, v->resync.at, v->resync.mark, &fx);
    if (client_ok(c, err, "core_requests_answer")) {
        client_effects(c, &fx);
        if (c->core)
            begin(c, v);
    }
    core_effects_free(&fx);
}

void resync_answer(struct client *c, struct view *v, const struct call *k, int status,
                   struct bytes body)
{
    if (!v->resync.on || (k->kind == CALL_RESYNC && k->run != v->resync.run))
        return;
    if (status == ERR_FORBIDDEN)
        c->session_wanted = true;
    if (status && k->kind == CALL_RESYNC)
        core_resync_again(v->resync.core, k->slot);
    if (status == ERR_RESYNC) { /* with a later one */
        v->list_wanted = true;
        v->marks = v->resync.other;
        if (v->floor <= v->resync.at)
            v->floor = v->resync.at + 1;
        resync_reset(v);
    }
    if (status)
        return;
    if (k->kind == CALL_REQUESTS && !v->resync.core) {
        requests_answer(c, v, body);
    } else if (k->kind == CALL_RESYNC && v->resync.core) {
        client_ok(c, core_resync_answer(v->resync.core, k->slot, body), "core_resync_answer");
    }
}
