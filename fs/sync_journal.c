// SPDX-License-Identifier: Apache-2.0
/* Following the journals: one long poll for all namespaces, then `list`, then core_apply record by
 * record.
 *
 * A load is asked for as of the cursor and worth nothing once the cursor has moved; so records wait
 * while loads of their namespace are under way, and new loads wait while records do. Neither
 * starves: a load ends within its timeout, and applying takes one turn.
 *
 * Our own commits usually move the cursor by their answer alone. The long poll still returns for
 * them; to save that round trip's traffic it is sent again only once the commit under way has been
 * answered (or a moment later), with the number that answer brought.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync_internal.h"
#include "token.h"
#include "vfs.h"

#define WAIT_TIMEOUT_MS 70000 /* the server answers within about 50 s */
#define WAIT_HOLD_MS 20       /* the long poll waits for a commit's answer at most so long */
#define LIST_TIMEOUT_MS 30000
#define LIST_BYTES (1u << 20)
#define MARKS_EACH 2 /* of the cursor, and of what was settled behind it */
#define APPLY_AGAIN_MS 1000
#define ROOM_AGAIN_MS 10 /* the kernel is behind with invalidations */

struct sync_records {
    struct buf body;
    struct arena arena;
    struct m_list_ans ans;
    size_t next;        /* of ans.records */
    int64_t not_before; /* after a failure */
};

void journal_free(struct sync_ns *ns)
{
    if (!ns->records)
        return;
    arena_free(&ns->records->arena);
    buf_free(&ns->records->body);
    free(ns->records);
    ns->records = NULL;
}

bool journal_apply_waits(const struct sync_ns *ns)
{
    return ns->records != NULL || ns->resync != NULL;
}

void journal_head(struct sync *s, struct sync_ns *ns, uint64_t head)
{
    struct core_ns n;
    ns->heard += head != 0;
    if (head > ns->head)
        ns->head = head;
    if (core_ns_get(s->fs->core, ns->id, &n) == 0 && n.cursor < ns->head) {
        ns->list_wanted = true;
        ns->caught_up = ns->caught_up && n.cursor >= ns->session_head;
    } else if (!ns->caught_up) {
        ns->caught_up = true;
    }
}

void journal_session(struct sync *s, struct sync_ns *ns, uint64_t head, uint64_t mark)
{
    struct core_ns n;
    journal_head(s, ns, head);
    if (core_ns_get(s->fs->core, ns->id, &n) || n.cursor < head)
        return; /* it is read, which tells */
    if (n.cursor == head && n.head <= head && (!mark || !n.mark || n.mark == mark))
        return;
    ns->list_wanted = true;
    ns->caught_up = false;
}

/* ---- applying ---- */
static void trace_record(struct sync *s, const struct sync_ns *ns, const struct m_record *r)
{
    if (!trace_on(s->fs->log))
        return;
    struct trace t = trace_begin(s->fs->log, "journal");
    trace_u64(&t, "ns", ns->id);
    trace_u64(&t, "sjid", r->sjid);
    trace_u64(&t, "device", r->device);
    trace_u64(&t, "request", r->request);
    trace_end(&t);
}

static int record_apply(struct sync *s, struct sync_ns *ns, const struct m_record *r)
{
    struct core_effects fx = {0};
    int err = vfs_before_apply(s->fs->vfs, r);
    if (!err)
        err = core_apply(s->fs->core, ns->id, r, fs_now(), &fx);
    if (err) { /* rolled back, and the effects with it */
        core_effects_free(&fx);
        return err;
    }
    sync_effects(s, &fx);
    fill_again(s);
    trace_record(s, ns, r);
    if (r->account)
        s->session_wanted = true;
    return 0;
}

static void records_end(struct sync *s, struct sync_ns *ns)
{
    const struct m_list_ans *a = &ns->records->ans;
    if (a->cursor.n <= sizeof ns->cursor) {
        ns->cursor_n = a->cursor.n;
        if (a->cursor.n)
            memcpy(ns->cursor, a->cursor.p, a->cursor.n);
        ns->cursor_sjid = a->records_n ? a->records[a->records_n - 1].sjid : ns->cursor_sjid;
    }
    bool more = a->more;
    if (more)
        ns->list_wanted = true;
    journal_free(ns);
    ns->marks = false;
    struct core_ns n;
    if (core_ns_get(s->fs->core, ns->id, &n) == 0 && n.cursor >= ns->session_head)
        ns->caught_up = true;
    if (ns->journal_error)
        ns->error[0] = 0;
    ns->journal_error = false;
    if (!more) { /* otherwise the next one counts */
        ns->list_done = ns->list_started;
        fresh_applied(s, ns);
    }
    journal_moved(s, ns);
    pthread_cond_broadcast(&s->changed);
    sync_wake(s);
}

static void journal_lost(struct sync *s, struct sync_ns *ns)
{
    ns->lost = true;
    ns_error(s, ns,
             "the metadata server's journal is not the one that this device has followed, and "
             "nothing tells where they part (was it restored from an older backup?): nothing is "
             "sent; pending changes stay in %s; log in as a new device to go on",
             s->fs->opt.state);
}

static void head_lost(struct sync *s, struct sync_ns *ns, uint64_t head)
{
    ns->head = head;
    if (s->waiting) /* for what is newer than the head that is lost */
        rpc_cancel(s->rpc, s->wait_call);
}

/* The server was restored from a copy. */
static void journal_other(struct sync *s, struct sync_ns *ns)
{
    const struct m_list_ans *a = &ns->records->ans;
    const struct resync_with with = {
        .other = true, .common = a->common, .at = a->resync, .mark = a->mark, .head = a->resync};
    head_lost(s, ns, a->resync);
    journal_free(ns);
    resync_start(s, ns, &with);
}

/* The journal does not go on from the cursor. Where it and ours part, or whether they do, is asked
 * with all marks. */
static void gap(struct sync *s, struct sync_ns *ns)
{
    struct core_ns n = {0};
    int err = core_ns_get(s->fs->core, ns->id, &n);
    uint64_t at = ns->records->ans.resync;
    bool other = ns->records->ans.other || ns->records->ans.doubt, asked = ns->marks;
    ns->marks = !asked && (other || n.mark);
    if (ns->marks) {
        journal_free(ns);
        ns->list_wanted = true;
        sync_wake(s);
    } else if (other) {
        journal_other(s, ns);
    } else if (!err && n.cursor < at) {
        const struct resync_with with = {.at = at, .mark = ns->records->ans.mark};
        journal_free(ns);
        resync_start(s, ns, &with);
    } else {
        journal_lost(s, ns);
        ns->records->not_before = INT64_MAX;
    }
}

/* Applies what was read; one record a lock hold would let programs in between, but each record is
 * short and the driver gives the lock away after the turn. */
static void records_apply(struct sync *s, struct sync_ns *ns)
{
    struct sync_records *q = ns->records;
    int64_t now = s->clock();
    if (loads_awaited(s, ns)) /* they are of the time before */
        return;
    if (q->not_before > now) {
        if (!ns->lost)
            sync_at(s, q->not_before);
        return;
    }
    int err = 0;
    if (q->ans.resync || q->ans.other) { /* the other one may have no change at all */
        gap(s, ns);
        return;
    }
    for (unsigned i = 0; !err && q->next < q->ans.records_n && i < APPLY_PER_TURN; i++) {
        if (!vfs_has_room(s->fs->vfs)) {
            sync_at(s, now + ROOM_AGAIN_MS);
            return;
        }
        err = record_apply(s, ns, &q->ans.records[q->next]);
        if (!err)
            q->next++;
    }
    if (err == -ESTALE) { /* another journal: now that it is known here, the server tells */
        journal_free(ns);
        ns->list_wanted = true;
        sync_wake(s);
        return;
    }
    if (err) {
        ns_error(
            s, ns, "applying change %llu here: %s%s",
            (unsigned long long)(q->next < q->ans.records_n ? q->ans.records[q->next].sjid : 0),
            strerror(-err), err == -ENOSPC ? ": free some space under the state directory" : "");
        ns->journal_error = true;
        q->not_before = now + APPLY_AGAIN_MS;
        sync_at(s, q->not_before);
    } else if (q->next < q->ans.records_n) {
        sync_wake(s);
    } else {
        records_end(s, ns);
    }
}

/* It ends before what was heard of it when it was asked, or is the one that is followed after all:
 * the server was restored from a copy, of which this device had not read more yet. */
static void journal_ends(struct sync *s, struct sync_ns *ns, uint64_t head)
{
    struct core_effects fx = {0};
    ns->list_wanted = true;
    if (ns->heard != ns->list_heard) /* meanwhile: asked once more */
        return;
    int err = core_begin(s->fs->core), end = 0;
    if (!err) {
        err = core_journal_ends(s->fs->core, ns->id, head, &fx);
        err = err ? err : resync_keep_blocks(s, ns);
        end = core_end(s->fs->core, !err);
    }
    err = err ? err : end;
    if (err) {
        core_effects_free(&fx);
        ns_error(s, ns, "the metadata server was restored from an older state: %s", strerror(-err));
        return;
    }
    log_printf(
        s->fs->log, LOG_L_WARN,
        "%s: the metadata server was restored from an older state: its changes end with %llu; "
        "what it had answered for and lacks is sent again",
        ns->name, (unsigned long long)head);
    head_lost(s, ns, head);
    sync_effects(s, &fx);
    sync_kick(s);
}

/* ---- list ---- */
static uint32_t jitter(void)
{
    uint32_t r;
    random_bytes(&r, sizeof r);
    return r;
}

static void list_done(struct sync *s, struct sync_call *c)
{
    struct sync_ns *ns = c->arg;
    struct sync_records *q = calloc(1, sizeof *q);
    if (!q)
        abort();
    q->body = c->res.body;
    c->res.body = (struct buf){0};
    int bad = 0;
    if (!c->res.err) { /* decoded without the lock: it may be megabytes */
        const char *why = "";
        bad = msg_decode(&m_list_ans_desc, &q->ans, q->body.p, q->body.n, MSG_LENIENT, &q->arena,
                         &why);
        if (bad)
            log_printf(s->fs->log, LOG_L_ERROR, "an answer cannot be read: %s", why);
    }
    pthread_mutex_lock(&s->fs->lock);
    ns->listing = false;
    int err = meta_result(s, c);
    if (!err)
        err = bad;
    ns->records = q;
    if (err) {
        journal_free(ns);
        ns->list_wanted = true;
        if (err != -ECANCELED) {
            backoff_failed(&ns->list_backoff, s->clock(), jitter());
            if (s->online) {
                ns_error(s, ns, "reading the journal: %s",
                         c->res.err ? c->res.message : strerror(-err));
                ns->journal_error = true;
            }
        }
    } else {
        backoff_ok(&ns->list_backoff);
        if (q->ans.head > ns->head)
            ns->head = q->ans.head;
        struct core_ns n;
        bool other = core_ns_get(s->fs->core, ns->id, &n) == 0 && n.other; /* it was said to be */
        if (!q->ans.other && !q->ans.resync && (q->ans.head < ns->list_head || other))
            journal_ends(s, ns, q->ans.head);
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static void list_start(struct sync *s, struct sync_ns *ns)
{
    struct core_ns n;
    int64_t now = s->clock(),
            due = ns->list_backoff.fails ? backoff_due(&ns->list_backoff, true) : now;
    if (due > now) {
        sync_at(s, due);
        return;
    }
    if (core_ns_get(s->fs->core, ns->id, &n))
        return;
    struct m_mark *marks = NULL;
    struct m_list_req q = {.ns = ns->id, .limit_bytes = LIST_BYTES};
    if (core_marks(s->fs->core, ns->id, ns->marks ? MARKS_MAX : MARKS_EACH, &marks, &q.marks_n))
        return;
    q.marks = marks;
    if (ns->cursor_n && ns->cursor_sjid == n.cursor) {
        q.cursor = bytes_of(ns->cursor, ns->cursor_n);
    } else {
        q.from = n.cursor;
        ns->cursor_sjid = n.cursor;
    }
    ns->list_wanted = false;
    ns->listing = true;
    ns->list_started++;
    ns->list_head = n.head;
    ns->list_heard = ns->heard;
    call_meta(call_new(s, list_done, ns), "list", &m_list_req_desc, &q, LIST_TIMEOUT_MS);
    free(marks);
}

/* ---- wait ---- */
static void wait_done(struct sync *s, struct sync_call *c)
{
    struct arena cleanup_arena a = {0};
    struct m_wait_ans m = {0};
    int bad = c->res.err ? 0 : call_decode(s, c, &m_wait_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    s->waiting = false;
    int err = meta_result(s, c);
    bool failed = bad || (err && err != -ECANCELED); /* cancelled: to watch other namespaces */
    s->wait_hold = s->clock() + (failed ? APPLY_AGAIN_MS : WAIT_HOLD_MS);
    s->wait_pause = failed;
    if (!err && !bad) {
        for (size_t i = 0; i < m.changed_n; i++) {
            struct sync_ns *ns = sync_ns_find(s, m.changed[i].ns);
            if (ns)
                journal_head(s, ns, m.changed[i].sjid);
        }
        if (m.locks)
            lock_news(s);
        if (m.account_version) {
            if (s->account_version && s->account_version != m.account_version)
                s->session_wanted = true;
            s->account_version = m.account_version;
        }
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static bool commit_inflight(const struct sync *s)
{
    for (size_t i = 0; i < s->nss_n; i++)
        if (s->nss[i]->lane.phase == LANE_SENT)
            return true;
    return false;
}

static void wait_start(struct sync *s)
{
    int64_t now = s->clock();
    if (s->wait_hold > now && (s->wait_pause || commit_inflight(s))) {
        sync_at(s, s->wait_hold);
        return;
    }
    if (s->wait_pause) /* nobody was listened to meanwhile: is it still the server that it was? */
        s->session_wanted = true;
    s->wait_pause = false;
    struct arena cleanup_arena a = {0};
    struct m_watch *v = arena_alloc(&a, (s->nss_n + 1) * sizeof *v);
    struct m_wait_req q = {.watch = v, .account_version = s->account_version};
    struct core_ns n;
    for (size_t i = 0; i < s->nss_n && q.watch_n < 4096; i++) {
        struct sync_ns *ns = s->nss[i];
        ns->watched = ns->listed && core_ns_get(s->fs->core, ns->id, &n) == 0;
        if (!ns->watched)
            continue;
        v[q.watch_n++] =
            (struct m_watch){.ns = ns->id, .sjid = n.cursor > ns->head ? n.cursor : ns->head};
    }
    s->waiting = true;
    s->wait_call =
        call_meta(call_new(s, wait_done, NULL), "wait", &m_wait_req_desc, &q, WAIT_TIMEOUT_MS);
}

void journal_step(struct sync *s)
{
    for (size_t i = 0; i < s->nss_n; i++) {
        struct sync_ns *ns = s->nss[i];
        if (ns->records)
            records_apply(s, ns);
        if (ns->resync)
            resync_step(s, ns);
        if (s->online && !ns->resync && ns->listed && ns->list_wanted && !ns->listing &&
            !ns->records)
            list_start(s, ns);
    }
    if (s->online && !s->waiting)
        wait_start(s);
}
