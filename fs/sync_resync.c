// SPDX-License-Identifier: Apache-2.0
/* When the journal does not reach back to the cursor (a device that was away for longer than
 * history is kept): first it is asked how the requests under way ended, then the core's questions
 * are put, several at a time, then the differences are applied in one go. Meanwhile programs go on
 * with what is known; loads and background work of the namespace wait, and of fsyncs those that
 * need something loaded, or meet what others have changed. If the server forgets even that SJID
 * meanwhile, it begins again with a newer one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync_internal.h"
#include "token.h"
#include "vfs.h"

#define ASK_TIMEOUT_MS 30000
#define ROOM_AGAIN_MS 10 /* the kernel is behind with invalidations */

struct sync_resync {
    struct resync_with with;
    struct core_resync *core; /* NULL: the requests' outcome is asked first */
    uint64_t run;             /* tells its calls from those of an earlier one */
    bool stale;               /* what it is compared with cannot be read any more */
    unsigned asking;          /* calls under way */
    uint64_t answers;
    struct backoff backoff;
};

void resync_free(struct sync_ns *ns)
{
    if (!ns->resync)
        return;
    core_resync_free(ns->resync->core);
    free(ns->resync);
    ns->resync = NULL;
}

/* What is said of it, and as of when it is. */
static void begin_other(struct sync *s, struct sync_ns *ns, struct resync_with *w)
{
    uint64_t floor = ns->session_floor;
    if (core_parted_at(s->fs->core, ns->id, w->common, w->head, floor, &w->at))
        w->at = w->head;
    log_printf(s->fs->log, LOG_L_WARN,
               "%s: the metadata server was restored from an older state: it knows the changes up "
               "to %llu and lacks later ones; all that is known here is compared%s, and what it "
               "lacks is sent again",
               ns->name, (unsigned long long)w->common,
               w->at == w->common ? "" : " with what it has now, file by file");
}

void resync_start(struct sync *s, struct sync_ns *ns, const struct resync_with *with)
{
    ns->resync = calloc(1, sizeof *ns->resync);
    if (!ns->resync)
        abort();
    ns->resync->with = *with;
    ns->resync->run = ++ns->resync_runs;
    if (with->other)
        begin_other(s, ns, &ns->resync->with);
    else
        log_printf(s->fs->log, LOG_L_WARN,
                   "%s: this device was away for longer than the metadata server keeps history: "
                   "all that is known here is compared with change %llu",
                   ns->name, (unsigned long long)with->at);
    sync_wake(s);
}

static void again(struct sync *s, struct sync_ns *ns)
{
    resync_free(ns);
    ns->list_wanted = true;
    sync_wake(s);
}

static struct sync_call *ask(struct sync *s, struct sync_ns *ns, unsigned slot,
                             void (*fn)(struct sync *, struct sync_call *))
{
    struct sync_call *c = call_new(s, fn, ns);
    c->tag = ns->resync->run * RESYNC_QUESTIONS_MAX + slot;
    ns->resync->asking++;
    return c;
}

/* What is asked already means nothing any more. */
static void anew(struct sync_ns *ns)
{
    struct sync_resync *r = ns->resync;
    core_resync_free(r->core);
    r->core = NULL;
    r->asking = 0;
    r->run = ++ns->resync_runs;
}

/* How a call went: true if its answer is to be taken. */
static bool answered(struct sync *s, struct sync_ns *ns, struct sync_call *c)
{
    struct sync_resync *r = ns->resync;
    uint32_t random;
    int err = meta_result(s, c);
    if (!r || r->run != c->tag / RESYNC_QUESTIONS_MAX) /* it has ended, or begun again */
        return false;
    r->asking--;
    r->answers += !err;
    if (!err) {
        backoff_ok(&r->backoff);
        return true;
    }
    if (err == -ESTALE && ns->session_floor <= r->with.at)
        ns->session_floor = r->with.at + 1;
    if (err == -ESTALE) /* that is forgotten meanwhile: a later one is asked for, after a pause */
        anew(ns);
    else if (r->core)
        core_resync_again(r->core, (unsigned)(c->tag % RESYNC_QUESTIONS_MAX));
    r->stale |= err == -ESTALE;
    random_bytes(&random, sizeof random);
    backoff_failed(&r->backoff, s->clock(), random);
    if (err == -ESTALE)
        return false;
    if (err != -ECANCELED && s->online)
        ns_error(s, ns, "comparing with the metadata server: %s", c->res.message);
    return false;
}

static void failed(struct sync *s, struct sync_ns *ns, const char *what, int err)
{
    uint32_t random;
    random_bytes(&random, sizeof random);
    backoff_failed(&ns->resync->backoff, s->clock(), random);
    ns_error(s, ns, "%s: %s%s", what, strerror(-err),
             err == -ENOSPC ? ": free some space under the state directory" : "");
}

uint64_t resync_answers(const struct sync_ns *ns)
{
    return ns->resync->answers;
}

bool resync_lets_send(const struct sync_ns *ns)
{ /* once it is known how the requests before ended: what is sent then comes behind `at` */
    return ns->resync->core && !ns->resync->with.other;
}

/* ---- the outcome of requests ----------------------------------------------------------------- */
static void begin(struct sync *s, struct sync_ns *ns)
{
    const struct resync_with *w = &ns->resync->with;
    int err = core_resync_new(&ns->resync->core, s->fs->core, ns->id, w->at, w->mark, w->common);
    if (err == -EINVAL) /* a commit's answer came and moved the cursor there */
        again(s, ns);
    else if (err)
        failed(s, ns, "comparing with the metadata server", err);
}

static void requests_done(struct sync *s, struct sync_call *c)
{
    struct arena cleanup_arena a = {0};
    struct m_requests_ans m = {0};
    struct sync_ns *ns = c->arg;
    int bad = c->res.err ? 0 : call_decode(s, c, &m_requests_ans_desc, &m, &a);
    pthread_mutex_lock(&s->fs->lock);
    if (answered(s, ns, c)) {
        struct core_effects fx = {0};
        int err = bad;
        if (!err)
            err = core_requests_answer(s->fs->core, ns->id, &m, ns->resync->with.at,
                                       ns->resync->with.mark, &fx);
        if (err) {
            core_effects_free(&fx);
            failed(s, ns, "settling what was under way", err);
        } else {
            sync_effects(s, &fx);
            begin(s, ns);
        }
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

/* ---- questions ------------------------------------------------------------------------------- */
static void question_done(struct sync *s, struct sync_call *c)
{
    struct sync_ns *ns = c->arg;
    pthread_mutex_lock(&s->fs->lock);
    if (answered(s, ns, c)) {
        struct sync_resync *r = ns->resync;
        int err = core_resync_answer(r->core, (unsigned)(c->tag % RESYNC_QUESTIONS_MAX),
                                     bytes_of(c->res.body.p, c->res.body.n));
        if (err) { /* what it was about is asked no more: from the beginning */
            anew(ns);
            failed(s, ns, "comparing with the metadata server", err);
        }
    }
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

/* ---- what a restored server lacks ------------------------------------------------------------ */
void resync_lost_text(const struct core_lost *l, char *text, size_t cap)
{
    snprintf(
        text, cap,
        "the metadata server was restored from an older state: %llu files and folders were to "
        "be sent again; of %llu files it had no newer content, and it was not here: other "
        "devices may bring it; of %llu files only a part was here: it is in conflicted copies; "
        "%llu files and folders came back without their extended attributes and access lists, "
        "which were not here",
        (unsigned long long)l->pending, (unsigned long long)l->missing,
        (unsigned long long)l->copies, (unsigned long long)l->bare);
}

static void restored(struct sync *s, struct sync_ns *ns, struct core_lost l)
{
    if (l.missing || l.copies || l.bare) {
        char text[512];
        resync_lost_text(&l, text, sizeof text);
        log_about(s->fs->log, LOG_L_ERROR, &(struct log_where){.ns = ns->id}, "%s: %s", ns->name,
                  text);
    } else
        log_printf(s->fs->log, LOG_L_WARN,
                   "%s: %llu files and folders that the restored metadata server lacks are sent "
                   "again",
                   ns->name, (unsigned long long)l.pending);
    sync_kick(s);
}

static int send_again(void *arg, const struct block_id *v, size_t n)
{
    struct sync *s = arg;
    return blocks_send_again(s->fs->blocks, v, n);
}

int resync_keep_blocks(struct sync *s, struct sync_ns *ns)
{
    return core_pending_blocks(s->fs->core, ns->id, send_again, s);
}

/* Of a server that was restored: blocks that are pending again lie among those that the cache may
 * drop, and are not before the tree says so. */
static int take(struct sync *s, struct sync_ns *ns, struct core_effects *fx)
{
    int err = core_begin(s->fs->core);
    if (err)
        return err;
    err = core_resync_apply(ns->resync->core, fs_now(), fx);
    if (!err && ns->resync->with.other)
        err = resync_keep_blocks(s, ns);
    int end = core_end(s->fs->core, !err);
    return err ? err : end;
}

static void apply(struct sync *s, struct sync_ns *ns)
{
    struct core_effects fx = {0};
    struct core_resync *r = ns->resync->core;
    if (!vfs_has_room(s->fs->vfs)) {
        sync_at(s, s->clock() + ROOM_AGAIN_MS);
        return;
    }
    int err = vfs_before_apply(s->fs->vfs, core_resync_record(r));
    if (!err)
        err = take(s, ns, &fx);
    if (err) {
        core_effects_free(&fx);
        failed(s, ns, "applying what has changed", err);
        return;
    }
    log_printf(s->fs->log, LOG_L_INFO, "%s: compared; change %llu is applied", ns->name,
               (unsigned long long)ns->resync->with.at);
    ns->error[0] = 0;
    if (ns->resync->with.other)
        restored(s, ns, core_resync_lost(r));
    ns->cursor_n = 0;
    sync_effects(s, &fx);
    again(s, ns);
    ns->caught_up = true; /* of what the session knew */
    journal_moved(s, ns);
    barriers_recheck(ns); /* what is lost there is pending again */
    pthread_cond_broadcast(&s->changed);
}

/* As many as may be under way; when nothing is left to ask, what differs is applied. */
static void questions(struct sync *s, struct sync_ns *ns)
{
    struct sync_resync *r = ns->resync;
    int err = 0;
    while (!err) {
        struct buf cleanup_buf body = {0};
        const char *method;
        unsigned slot;
        err = core_resync_request(r->core, &slot, &method, &body);
        if (!err)
            call_start(ask(s, ns, slot, question_done), s->fs->opt.url, method,
                       bytes_of(body.p, body.n), NULL, 0, ASK_TIMEOUT_MS);
    }
    if (err == -ENOENT)
        apply(s, ns);
    else if (err != -EAGAIN)
        failed(s, ns, "comparing with the metadata server", err);
}

void resync_step(struct sync *s, struct sync_ns *ns)
{
    struct sync_resync *r = ns->resync;
    uint64_t from;
    int64_t now = s->clock(), due = r->backoff.fails ? backoff_due(&r->backoff, true) : now;
    if (!s->online || (r->asking && !r->core))
        return;
    if (due > now) {
        sync_at(s, due);
        return;
    }
    if (r->stale) {
        again(s, ns);
        return;
    }
    if (!r->core) {
        int err = r->with.other ? core_journal_other(s->fs->core, ns->id, r->with.head) : 0;
        if (err) {
            failed(s, ns, "comparing with the metadata server", err);
            return;
        }
        int none = core_requests_from(s->fs->core, ns->id, &from);
        if (none) {
            begin(s, ns);
            if (!ns->resync || !ns->resync->core)
                return;
        } else {
            const struct m_requests_req q = {.ns = ns->id, .from = from};
            call_meta(ask(s, ns, 0, requests_done), "requests", &m_requests_req_desc, &q,
                      ASK_TIMEOUT_MS);
            return;
        }
    }
    questions(s, ns);
}
