// SPDX-License-Identifier: Apache-2.0
/* Messages carry block ids inside larger pieces; they are gathered into an array for trace_ids, and
 * only when a trace is written at all. */
#include "steps.h"

static void who_asks(struct trace *t, const struct meta_caller *who)
{
    if (who->server)
        trace_u64(t, "server", who->server);
    else
        trace_u64(t, "device", who->device);
}

static void number_list(struct trace *t, const char *key, const uint64_t *v, size_t n)
{
    cleanup_buf struct buf text = {0};
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%s%llu", i ? "," : "", (unsigned long long)v[i]);
    if (n) {
        buf_append(&text, "", 1);
        trace_str(t, key, (const char *)text.p);
    }
}

static void refs(struct trace *t, const struct m_block_ref *v, size_t n)
{
    cleanup_arena struct arena a = {0};
    struct block_id *ids = arena_alloc(&a, n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = v[i].block;
    trace_ids(t, "ids", ids, n);
}

static void lacking(struct trace *t, const char *key, const struct m_missing *v, size_t n)
{
    cleanup_arena struct arena a = {0};
    struct block_id *ids = arena_alloc(&a, n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = v[i].block;
    trace_ids(t, key, ids, n);
}

void step_session(struct log *l, const struct meta_caller *who, const struct m_session_ans *a)
{
    if (!trace_on(l))
        return;
    for (size_t i = 0; i < a->namespaces_n; i++) {
        const struct m_namespace *ns = &a->namespaces[i];
        struct trace t = trace_begin(l, "A4");
        trace_u64(&t, "ns", ns->id);
        uint64_t servers[64];
        size_t n = 0;
        for (; n < ns->candidates_n && n < 64; n++)
            servers[n] = ns->candidates[n].server;
        number_list(&t, "target", servers, n);
        trace_u64(&t, "account", who->account);
        who_asks(&t, who);
        trace_end(&t);
    }
}

void step_commit_asked(struct log *l, const struct meta_caller *who, const struct m_commit_req *q)
{
    if (!trace_on(l))
        return;
    struct trace t = trace_begin(l, "A6");
    trace_u64(&t, "ns", q->ns);
    number_list(&t, "target", q->targets, q->targets_n);
    trace_u64(&t, "request", q->request);
    refs(&t, q->ids, q->ids_n);
    trace_u64(&t, "receipts", q->receipts_n);
    who_asks(&t, who);
    trace_end(&t);
}

void step_diff_asked(struct log *l, const struct meta_caller *who, const struct m_diff_req *q)
{
    if (!trace_on(l))
        return;
    struct trace t = trace_begin(l, "A6");
    trace_u64(&t, "ns", q->ns);
    if (q->target)
        trace_u64(&t, "target", q->target);
    refs(&t, q->ids, q->ids_n);
    who_asks(&t, who);
    trace_end(&t);
}

static void commit_missing(struct log *l, const struct meta_caller *who,
                           const struct m_commit_req *q, const struct m_commit_ans *a)
{
    struct trace t = trace_begin(l, "A7");
    trace_u64(&t, "ns", q->ns);
    number_list(&t, "target", q->targets, q->targets_n);
    trace_u64(&t, "request", q->request);
    lacking(&t, "missing", a->missing, a->missing_n);
    if (a->elsewhere_n)
        lacking(&t, "elsewhere", a->elsewhere, a->elsewhere_n);
    who_asks(&t, who);
    trace_end(&t);
}

void step_commit_answered(struct log *l, const struct meta_caller *who,
                          const struct m_commit_req *q, const struct m_commit_ans *a)
{
    if (!trace_on(l) || q->more)
        return;
    if (a->status == COMMIT_MISSING) {
        commit_missing(l, who, q, a);
        return;
    }
    struct trace t = trace_begin(l, "commit");
    trace_u64(&t, "ns", q->ns);
    number_list(&t, "target", q->targets, q->targets_n);
    trace_u64(&t, "request", q->request);
    if (a->status == COMMIT_COMMITTED)
        trace_u64(&t, "sjid", a->sjid);
    else
        trace_str(&t, "outcome", a->status == COMMIT_CONFLICT ? "conflict" : "refused");
    who_asks(&t, who);
    trace_end(&t);
}

void step_diff_answered(struct log *l, const struct meta_caller *who, const struct m_diff_req *q,
                        const struct m_diff_ans *a)
{
    if (!trace_on(l))
        return;
    struct trace t = trace_begin(l, "A7");
    trace_u64(&t, "ns", q->ns);
    if (q->target)
        trace_u64(&t, "target", q->target);
    trace_ids(&t, "missing", a->missing, a->missing_n);
    if (a->elsewhere_n)
        trace_ids(&t, "elsewhere", a->elsewhere, a->elsewhere_n);
    who_asks(&t, who);
    trace_end(&t);
}

void step_list_answered(struct log *l, const struct meta_caller *who, const struct m_list_req *q,
                        const struct m_list_ans *a)
{
    if (!trace_on(l) || a->records_n == 0)
        return;
    struct trace t = trace_begin(l, "journal");
    trace_u64(&t, "ns", q->ns);
    trace_u64(&t, "sjid", a->records[a->records_n - 1].sjid);
    trace_u64(&t, "records", a->records_n);
    who_asks(&t, who);
    trace_end(&t);
}
