// SPDX-License-Identifier: Apache-2.0
/* What is pending, and waiting until nothing is: status, drain, settle. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parked.h"
#include "sync_internal.h"
#include "text.h"
#include "vfs.h"

#define DISK_FULL_BYTES (4u << 20)
#define STATUS_PARKED_MAX 100 /* named in the status; `steadfs parked` has all */
#define TICK_MS 100           /* between looks while waiting */
#define COUNT_SHARE                                                                                \
    20 /* of the time may go into counting what is waited for: one part in so many */

/* [locked] One namespace's pending files and bytes; what is parked, or waits for a directory that
 * is, is not on its way. */
static void ns_pending(struct sync *s, const struct sync_ns *ns, uint64_t *files, uint64_t *bytes)
{
    struct core_ns n;
    int err = core_ns_status(s->fs->core, ns->id, &n);
    if (err) {
        *files += err != -ENOENT; /* what cannot be looked at is not known to be sent */
        return;
    }
    uint64_t kept = n.parked + n.held;
    uint64_t f = n.pending_nodes > kept ? n.pending_nodes - kept : 0;
    if (!f && ns->lane.phase != LANE_IDLE)
        f = 1;
    *files += f;
    *bytes += f ? n.pending_bytes : 0;
}

void sync_pending(struct sync *s, uint64_t only_ns, uint64_t *files, uint64_t *bytes)
{
    uint64_t dirty = vfs_dirty_bytes(s->fs->vfs);
    *files = dirty > 0;
    *bytes = dirty;
    for (size_t i = 0; i < s->nss_n; i++)
        if (!only_ns || s->nss[i]->id == only_ns)
            ns_pending(s, s->nss[i], files, bytes);
}

/* [locked] Whether sync_pending would find any; at a cost that does not follow how many. */
static bool rests(struct sync *s, uint64_t only_ns)
{
    bool any = vfs_dirty_bytes(s->fs->vfs) > 0;
    for (size_t i = 0; !any && i < s->nss_n; i++) {
        const struct sync_ns *ns = s->nss[i];
        if (only_ns && ns->id != only_ns)
            continue;
        int err = core_ns_rests(s->fs->core, ns->id, &any);
        any = err ? err != -ENOENT : any || ns->lane.phase != LANE_IDLE;
    }
    return any;
}

uint64_t sync_parked(struct sync *s, uint64_t only_ns, uint64_t *held)
{
    uint64_t parked = 0;
    struct core_ns n;
    *held = 0;
    for (size_t i = 0; i < s->nss_n; i++) {
        if ((only_ns && s->nss[i]->id != only_ns) ||
            core_ns_pending(s->fs->core, s->nss[i]->id, &n))
            continue;
        parked += n.parked;
        *held += n.held;
    }
    return parked;
}

static int says_parked(uint64_t parked, uint64_t held, char *err)
{
    char more[64] = "";
    if (!parked)
        return 0;
    if (held)
        snprintf(more, sizeof more, ", and %llu wait for them", (unsigned long long)held);
    snprintf(err, 512, "%llu changes were refused%s; they are kept here: see `steadfs parked`",
             (unsigned long long)parked, more);
    return -EREMOTEIO;
}

/* [locked] Sleeps until something changed, at most a tick. */
static void changed_wait(struct sync *s, int64_t deadline)
{
    int64_t until = s->clock() + TICK_MS;
    if (until > deadline)
        until = deadline;
    struct timespec t = {.tv_sec = (time_t)(until / 1000),
                         .tv_nsec = (long)(until % 1000) * 1000000};
    pthread_cond_timedwait(&s->changed, &s->fs->lock, &t);
}

static void push(struct sync *s)
{
    (void)vfs_flush_all(s->fs->vfs); /* a failure shows as dirty bytes that stay */
    for (size_t i = 0; i < s->nss_n; i++) {
        s->nss[i]->lane.wanted = true;
        if (s->nss[i]->lane.phase == LANE_IDLE && !s->nss[i]->lane.ahead.n)
            s->nss[i]->lane.quiet = 0;
    }
    sync_wake(s);
}

/* Told now and then how much is left while it is sent; NULL: nobody asks. */
struct progress {
    void (*fn)(void *arg, uint64_t files, uint64_t bytes);
    void *arg;
    int64_t next; /* when it is counted again: what takes long is done seldom */
};

/* [locked; lets go while it tells] */
static void progress_tell(struct sync *s, struct progress *p)
{
    uint64_t files, bytes;
    int64_t began = s->clock();
    if (!p->fn || began < p->next)
        return;
    sync_pending(s, 0, &files, &bytes);
    p->next = s->clock() + COUNT_SHARE * (s->clock() - began);
    pthread_mutex_unlock(&s->fs->lock);
    p->fn(p->arg, files, bytes);
    pthread_mutex_lock(&s->fs->lock);
}

/* Blocks that commits or fsyncs wait for. */
static size_t blocks_awaited(const struct sync_ns *ns)
{
    const struct lane *l = &ns->lane;
    const struct barrier *b;
    size_t n = l->phase == LANE_UPLOAD ? l->set.n - l->set.pos : l->ahead.n - l->ahead.pos;
    TAILQ_FOREACH(b, &ns->barriers, ns_link)
    if (b->state == BARRIER_UPLOAD)
        n += b->set.n - b->set.pos;
    return n;
}

/* Why what is pending is not committed yet; "" when nothing is. */
static void waits_for(struct sync *s, const struct sync_ns *ns, uint64_t files, char text[256])
{
    const struct lane *l = &ns->lane;
    struct core_ns n = {0};
    (void)core_ns_get(s->fs->core, ns->id, &n); /* without: as if nothing were read */
    text[0] = 0;
    if (!files)
        return;
    if (!s->online)
        snprintf(text, 256, "the metadata server, which is not reached");
    else if (ns->resync)
        snprintf(text, 256,
                 "a comparison of all that is known here with the metadata server: %llu questions "
                 "are answered so far; what is fsynced goes on",
                 (unsigned long long)resync_answers(ns));
    else if (!ns->caught_up || l->held)
        snprintf(text, 256, "the journal, which is read up to change %llu of %llu",
                 (unsigned long long)n.cursor,
                 (unsigned long long)(ns->head > n.cursor ? ns->head : n.cursor));
    else if (ns_lacks(s, ns))
        snprintf(text, 256, "%zu more block servers to be assigned, for copies=%u", ns_lacks(s, ns),
                 s->fs->opt.copies);
    else if (l->phase == LANE_SENT)
        snprintf(text, 256, "the answer to commit %llu, which was sent",
                 (unsigned long long)l->plan.request);
    else if (l->phase == LANE_PAUSE)
        snprintf(text, 256, "a pause before commit %llu is sent again: see last_error",
                 (unsigned long long)l->plan.request);
    else if (blocks_awaited(ns))
        snprintf(text, 256, "%zu blocks on their way to block servers", blocks_awaited(ns));
    else if (l->load)
        snprintf(text, 256, "what the metadata server has, which a commit needs to know");
    else
        snprintf(text, 256, "files to be quiet for a moment, or their writers to end");
}

/* Says so when hardly anything more can be put under the state directory: what programs wrote then
 * stays in memory. */
static void disk_full(const struct sync *s, const struct blocks_stat *st, char text[512])
{
    text[0] = 0;
    if (st->keep_free && st->free_bytes < st->keep_free + DISK_FULL_BYTES)
        snprintf(text, 512,
                 "the disk of %.300s is full: %.1f MiB are free, and %.1f are kept so: free some "
                 "space there, or writes fail until enough is sent",
                 s->fs->opt.state, (double)st->free_bytes / (1 << 20),
                 (double)st->keep_free / (1 << 20));
}

/* [locked] Why what is left could not be sent in time; "" when nothing is known of it. Unlocked
 * for a moment. */
static void left_why(struct sync *s, uint64_t only, char text[512])
{
    struct blocks_stat st;
    uint64_t files = 0, bytes;
    pthread_mutex_unlock(&s->fs->lock);
    blocks_stat(s->fs->blocks, &st);
    pthread_mutex_lock(&s->fs->lock);
    snprintf(text, 512, "%s", s->online ? "" : s->session_error);
    for (size_t i = 0; i < s->nss_n && !*text; i++)
        if (!only || s->nss[i]->id == only)
            snprintf(text, 512, "%s", s->nss[i]->error);
    if (!*text)
        disk_full(s, &st, text);
    for (size_t i = 0; i < s->nss_n && !*text && !files; i++) {
        char what[256];
        if (only && s->nss[i]->id != only)
            continue;
        ns_pending(s, s->nss[i], &files, &bytes);
        waits_for(s, s->nss[i], files, what);
        if (files)
            snprintf(text, 512, "that waits for %s", what);
    }
}

/* [locked] Waits until nothing is left to be sent; what is left then. */
static void drain(struct sync *s, uint64_t only, int64_t deadline, struct progress p,
                  uint64_t *files, uint64_t *bytes)
{
    s->draining++;
    push(s);
    while (rests(s, only) && !s->abandoned && s->clock() < deadline) {
        progress_tell(s, &p);
        changed_wait(s, deadline);
        if (vfs_dirty_bytes(s->fs->vfs))
            push(s);
    }
    s->draining--;
    sync_pending(s, only, files, bytes);
}

int sync_drain(struct sync *s, unsigned deadline_ms,
               void (*progress)(void *arg, uint64_t files, uint64_t bytes), void *arg, char *text)
{
    uint64_t files, bytes, held, parked;
    char why[512] = "";
    int err = 0;
    pthread_mutex_lock(&s->fs->lock);
    drain(s, 0, s->clock() + deadline_ms, (struct progress){.fn = progress, .arg = arg}, &files,
          &bytes);
    if (files) {
        err = s->abandoned ? -ECANCELED : -ETIMEDOUT;
        if (!s->abandoned)
            left_why(s, 0, why);
        snprintf(text, 512, "%s%s%.400s",
                 s->abandoned ? "the mount is ending" : "not everything is sent yet",
                 *why ? ": " : "", why);
    } else {
        parked = sync_parked(s, 0, &held);
        err = says_parked(parked, held, text);
    }
    pthread_mutex_unlock(&s->fs->lock);
    return err;
}

void sync_abandon(struct sync *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->fs->lock);
    s->abandoned = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->fs->lock);
}

/* [locked] Asks every namespace's journal for its newest number; what list_done must reach is
 * `want`. */
static void fresh_ask(struct sync *s, uint64_t only, uint64_t *want)
{
    for (size_t i = 0; i < s->nss_n; i++) {
        struct sync_ns *ns = s->nss[i];
        want[i] = 0;
        if (!ns->listed || (only && ns->id != only))
            continue;
        ns->list_wanted = true;
        want[i] = ns->list_started + 1;
    }
    sync_wake(s);
}

static bool fresh_done(const struct sync *s, const uint64_t *want, size_t n, size_t *which)
{
    for (size_t i = 0; i < n; i++)
        if (want[i] && (s->nss[i]->list_done < want[i] || s->nss[i]->records)) {
            *which = i;
            return false;
        }
    return true;
}

int sync_settle(struct sync *s, uint64_t path_node, unsigned timeout_ms, char *err)
{
    int64_t deadline = s->clock() + timeout_ms;
    uint64_t only = 0, files = 0, bytes = 0;
    struct core_attr a;
    struct core_need need;
    size_t late = 0;
    int r = 0;
    pthread_mutex_lock(&s->fs->lock);
    if (path_node && core_getattr(s->fs->core, path_node, &a, &need) == 0)
        only = a.ns;
    /* first everything here, then the number that is newest then */
    drain(s, only, deadline, (struct progress){0}, &files, &bytes);
    size_t n = s->nss_n;
    uint64_t *want = calloc(n + 1, sizeof *want);
    if (!want)
        abort();
    fresh_ask(s, only, want);
    while (!files && !fresh_done(s, want, n, &late) && !s->abandoned && s->clock() < deadline)
        changed_wait(s, deadline);
    const char *why = !s->online && s->session_error[0] ? s->session_error : "";
    if (files) {
        char left[512];
        r = -ETIMEDOUT;
        left_why(s, only, left);
        snprintf(err, 512, "%llu files, %llu bytes are not sent yet%s%.400s",
                 (unsigned long long)files, (unsigned long long)bytes, *left ? ": " : "", left);
    } else if (!fresh_done(s, want, n, &late)) {
        r = -ETIMEDOUT;
        snprintf(err, 512, "the journal of %.200s is not applied up to its newest number%s%.200s",
                 s->nss[late]->name, *why ? ": " : "", why);
    } else if (!s->online) {
        r = -ETIMEDOUT;
        snprintf(err, 512, "%s", *why ? why : "the metadata server does not answer");
    } else {
        uint64_t held, parked = sync_parked(s, only, &held);
        r = says_parked(parked, held, err);
    }
    free(want);
    pthread_mutex_unlock(&s->fs->lock);
    return r;
}

/* ---- status ---- */
static void json_text(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, "\"%s\": ", key);
    if (text && *text)
        text_json(b, bytes_str(text));
    else
        buf_printf(b, "null");
}

static void json_since(struct buf *b, int64_t ns)
{
    char text[40];
    time_t t = (time_t)(ns / 1000000000);
    struct tm tm;
    if (!ns || !gmtime_r(&t, &tm)) {
        buf_printf(b, "\"since\": null");
        return;
    }
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_printf(b, "\"since\": \"%s\"", text);
}

/* What an fsync that waits for copies has got so far. */
static void status_copies(struct sync *s, const struct sync_ns *ns, struct buf *b)
{
    size_t want = targets_wanted(s, ns), least;
    uint64_t blocks;
    upload_copies(s, ns, want, &least, &blocks);
    buf_printf(b, "\"copies_wanted\": %zu, \"copies_reached\": %zu, \"blocks_short\": %llu, ", want,
               least, (unsigned long long)blocks);
}

static void status_ns(struct sync *s, struct sync_ns *ns, bool first, const char *full,
                      struct buf *b)
{
    struct core_ns n;
    if (core_ns_status(s->fs->core, ns->id, &n))
        return;
    uint64_t files = 0, bytes = 0;
    ns_pending(s, ns, &files, &bytes);
    const char *error = ns->error;
    if (!*error && *full)
        error = full;
    if (!*error && !s->online && s->session_error[0])
        error = s->session_error;
    buf_printf(b, "%s{", first ? "" : ", ");
    json_text(b, "name", ns->name);
    buf_printf(b,
               ", \"id\": %llu, \"cursor\": %llu, \"head\": %llu, \"pending_files\": %llu, "
               "\"pending_bytes\": %llu, \"conflicts\": %llu, \"parked\": %llu, \"held\": %llu, ",
               (unsigned long long)ns->id, (unsigned long long)n.cursor,
               (unsigned long long)ns->head, (unsigned long long)files, (unsigned long long)bytes,
               (unsigned long long)n.conflicts, (unsigned long long)n.parked,
               (unsigned long long)n.held);
    status_copies(s, ns, b);
    json_text(b, "last_error", error);
    buf_printf(b, ", ");
    json_since(b, n.since);
    char why[256];
    waits_for(s, ns, files, why);
    buf_printf(b, ", ");
    json_text(b, "waits_for", why);
    buf_printf(b, ", ");
    struct core_lost lost;
    char restored[512] = "";
    if (core_lost_told(s->fs->core, ns->id, fs_now(), &lost) == 0)
        resync_lost_text(&lost, restored, sizeof restored);
    json_text(b, "restored", restored);
    struct core_need need;
    buf_printf(b, ", \"names_known\": %s",
               core_unknown_dir(s->fs->core, ns->id, 0, &need) == 0 ? "true" : "false");
    buf_printf(b, ", \"parked_changes\": [");
    size_t listed = 0;
    parked_list(s->fs, ns->id, STATUS_PARKED_MAX, &listed, b);
    buf_printf(b, "]");
    buf_printf(b, "}");
}

/* Block servers that are of use here, as they were last found. */
static void status_servers(const struct sync *s, struct buf *b)
{
    bool first = true;
    for (size_t i = 0; i < s->servers_n; i++) {
        const struct sync_server *v = s->servers[i];
        if (!v->listed)
            continue;
        buf_printf(b, "%s{\"server\": %llu, ", first ? "" : ", ", (unsigned long long)v->id);
        json_text(b, "premises", v->premises);
        buf_printf(b,
                   ", \"answers\": %s, \"latency_ms\": %.1f, \"bytes_per_second\": %.0f, "
                   "\"sent_per_second\": %.0f, \"received_per_second\": %.0f, ",
                   v->backoff.fails ? "false" : "true", v->pace.latency_ms, v->pace.bytes_ms * 1000,
                   v->up.bytes_ms * 1000, v->down.bytes_ms * 1000);
        json_text(b, "last_error", v->error);
        buf_printf(b, "}");
        first = false;
    }
}

void sync_status(struct sync *s, struct buf *b)
{
    struct blocks_stat st;
    char full[512];
    blocks_stat(s->fs->blocks, &st);
    disk_full(s, &st, full);
    pthread_mutex_lock(&s->fs->lock);
    buf_printf(b, "{");
    json_text(b, "mountpoint", s->fs->opt.mountpoint);
    buf_printf(b, ", ");
    json_text(b, "account", s->fs->account);
    buf_printf(b, ", ");
    json_text(b, "device", s->fs->device_name);
    buf_printf(b, ", \"device_number\": %u, \"online\": %s, ", s->identity.device,
               s->online ? "true" : "false");
    json_text(b, "server", s->fs->opt.url);
    buf_printf(b, ", ");
    json_text(b, "state", s->fs->opt.state);
    buf_printf(b, ", ");
    json_text(b, "last_error", s->session_error);
    buf_printf(b, ", ");
    json_text(b, "recovery", s->fs->recovery);
    buf_printf(b,
               ", \"dirty_bytes\": %llu, \"outbox_blocks\": %llu, \"outbox_bytes\": %llu, "
               "\"cache_bytes\": %llu, \"races\": %llu, \"races_won\": %llu, \"trials\": %llu, "
               "\"left_for_pace\": %llu, \"servers\": [",
               (unsigned long long)vfs_dirty_bytes(s->fs->vfs),
               (unsigned long long)st.unsynced_blocks, (unsigned long long)st.unsynced_bytes,
               (unsigned long long)st.cached_bytes, (unsigned long long)s->races_n,
               (unsigned long long)s->races_won, (unsigned long long)s->trials_n,
               (unsigned long long)s->left_n);
    status_servers(s, b);
    buf_printf(b, "], \"namespaces\": [");
    for (size_t i = 0; i < s->nss_n; i++)
        status_ns(s, s->nss[i], i == 0, full, b);
    buf_printf(b, "]}\n");
    pthread_mutex_unlock(&s->fs->lock);
}
