// SPDX-License-Identifier: Apache-2.0
/* Following the metadata server.
 *
 * The follower asks for the table every few seconds, holds a `wait` on all its namespaces, and
 *
 *   - lists what became complete here (F1, F2), asks who lacks those blocks, and writes a task for
 *     each of them (F3), together with the cursor. In the order of completion, so that what was
 *     brought here by one server is passed on to a third which that one cannot reach;
 *   - looks at what is lacking here and elsewhere: replicate_backlog.c.
 *
 * The backlog at the metadata server is exact, so nothing depends on the tasks being complete: they
 * make replication quick, the backlog makes it sure.
 */
#include "replicate_int.h"

#include "blockid.h"
#include "feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_TIMEOUT_MS 70000 /* of a call that is held for about 50 s */
#define WATCH_MAX 4096        /* m_wait_req.watch */
#define LOCATE_BLOCKS 4096
#define FROM_THE_END INT64_MAX

void follow_poke(struct replicate *r)
{
    pthread_cond_signal(&r->follow_cond);
}

void follow_failed(struct replicate *r, uint64_t ns, int err, const char *message)
{
    if (err == -ECANCELED)
        return;
    pthread_mutex_lock(&r->lock);
    struct group *g = table_find(r, ns);
    if (g)
        g->not_before = mono_ms() + RETRY_MS;
    if (err == -EACCES || err == -EPERM) /* no longer assigned? */
        r->refresh_at = 0;
    pthread_mutex_unlock(&r->lock);
    if (*message)
        log_printf(r->o.log, LOG_L_WARN, "replication: %s", message);
}

/* ---- tasks --------------------------------------------------------------------------------- */

/* A growing list of tasks. */
struct task_list {
    struct task *v;
    size_t n;
};

static void task_list_add(struct task_list *l, uint64_t server, const struct block_id *id)
{
    if ((l->n & (l->n - 1)) == 0 && !(l->v = realloc(l->v, (2 * l->n + 1) * sizeof *l->v)))
        abort();
    l->v[l->n++] = (struct task){.server = server, .block = *id};
}

static bool in_list(const uint64_t *v, size_t n, uint64_t x)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] == x)
            return true;
    return false;
}

/* The other members that get blocks, at most max. */
static size_t members_of(struct replicate *r, uint64_t ns, uint64_t *out, size_t max)
{
    pthread_mutex_lock(&r->lock);
    struct group *g = table_find(r, ns);
    size_t n = 0;
    for (size_t i = 0; g && i < g->members_n && n < max; i++)
        if (!g->members[i].leaving)
            out[n++] = g->members[i].server;
    pthread_mutex_unlock(&r->lock);
    return n;
}

static void poke_peers(struct replicate *r)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->peers_n; i++)
        peer_poke(r->peers[i]);
    pthread_mutex_unlock(&r->lock);
}

/* ---- its own order (F1, F2, F3) ------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
    return block_id_compare(a, b);
}

/* The records' blocks, each once. */
static struct block_id *blocks_of(const struct m_list_ans *l, size_t *n, struct arena *a)
{
    size_t max = 0;
#define EACH_EXTENT(do)                                                                            \
    for (size_t i = 0; i < l->records_n; i++)                                                      \
        for (size_t k = 0; k < l->records[i].contents_n; k++)                                      \
            for (size_t g = 0; g < l->records[i].contents[k].ranges_n; g++)                        \
                for (size_t x = 0; x < l->records[i].contents[k].ranges[g].extents_n; x++)         \
                    do
    EACH_EXTENT(max++);
    struct block_id *v = arena_alloc(a, (max + 1) * sizeof *v);
    *n = 0;
    EACH_EXTENT(v[(*n)++] = l->records[i].contents[k].ranges[g].extents[x].block);
#undef EACH_EXTENT
    if (*n)
        qsort(v, *n, sizeof *v, by_id);
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (!kept || !block_id_equal(&v[i], &v[kept - 1]))
            v[kept++] = v[i];
    *n = kept;
    return v;
}

/* Tasks for those of the blocks that members lack, as the metadata server knows. */
static int tasks_for(struct replicate *r, uint64_t ns, const struct block_id *v, size_t n,
                     struct task_list *tasks, char *message)
{
    uint64_t members[64];
    size_t members_n = members_of(r, ns, members, 64);
    for (size_t at = 0; at < n && members_n; at += LOCATE_BLOCKS) {
        struct arena a cleanup_arena = {0};
        struct m_locate_ans ans;
        struct m_locate_req q = {.ns = ns,
                                 .ids = (struct block_id *)v + at,
                                 .ids_n = n - at < LOCATE_BLOCKS ? n - at : LOCATE_BLOCKS};
        int err = call_meta(r, &r->follow_call, "locate", &m_locate_req_desc, &q,
                            &m_locate_ans_desc, &ans, &a, message);
        if (err)
            return err;
        for (size_t i = 0; i < ans.locations_n; i++)
            for (size_t k = 0; k < members_n; k++)
                if (!in_list(ans.locations[i].servers, ans.locations[i].servers_n, members[k]))
                    task_list_add(tasks, members[k], &ans.locations[i].block);
    }
    return 0;
}

/* One page. 1: there is more. */
static int follow_page(struct replicate *r, uint64_t ns, char *message)
{
    struct arena a cleanup_arena = {0};
    struct buf cursor cleanup_buf = {0};
    struct task_list tasks = {0};
    struct m_list_ans ans;
    int err = tasks_cursor(r->tasks, ns, &cursor);
    if (err && err != -ENOENT) {
        snprintf(message, 512, "the log of tasks cannot be read");
        return err;
    }
    struct m_list_req q = {.ns = ns,
                           .server = r->o.identity->server,
                           .cursor = bytes_of(cursor.p, cursor.n),
                           .from = cursor.n ? 0 : FROM_THE_END};
    err = call_meta(r, &r->follow_call, "list", &m_list_req_desc, &q, &m_list_ans_desc, &ans, &a,
                    message);
    size_t n = 0;
    struct block_id *v = err ? NULL : blocks_of(&ans, &n, &a);
    if (!err)
        err = tasks_for(r, ns, v, n, &tasks, message);
    size_t added = 0;
    bool same = !err && bytes_equal(ans.cursor, q.cursor);
    if (!err && !same) {
        err = tasks_add(r->tasks, ns, ans.cursor, tasks.v, tasks.n, &added);
        if (err)
            snprintf(message, 512, "the log of tasks cannot be written: %s", strerror(-err));
    }
    if (!err && added)
        poke_peers(r);
    free(tasks.v);
    return err ? err : ans.more;
}

static void follow(struct replicate *r, uint64_t ns)
{
    char message[512] = "";
    int more = 1;
    for (int page = 0; page < FOLLOW_PAGES && more > 0; page++)
        more = follow_page(r, ns, message);
    pthread_mutex_lock(&r->lock);
    struct group *g = table_find(r, ns);
    if (more && g) /* the others have their turn first */
        g->list_due = true;
    pthread_mutex_unlock(&r->lock);
    if (more < 0)
        follow_failed(r, ns, more, message);
}

/* ---- what is due --------------------------------------------------------------------------- */

/* The next thing to be done in any namespace, which take turns; else when there may be one. */
static bool next_due(struct replicate *r, struct due *d, int64_t *until)
{
    int64_t now = mono_ms();
    for (size_t i = 0; i < r->groups_n; i++) {
        size_t at = (r->turn + i) % r->groups_n;
        struct group *g = &r->groups[at];
        bool due = g->list_due && g->members_n; /* nobody else is to be offered anything */
        if (g->not_before > now) {
            if (g->not_before < *until)
                *until = g->not_before;
            continue;
        }
        g->list_due = false;
        if (due)
            *d = (struct due){.what = DUE_LIST, .ns = g->ns};
        else
            due = backlog_due(r, g, d, until);
        if (due) {
            r->turn = at + 1;
            return true;
        }
    }
    return false;
}

/* ---- waiting for commits ------------------------------------------------------------------- */

/* On the rpc thread. */
static void wait_done(void *arg, struct rpc_result *res)
{
    struct replicate *r = arg;
    struct arena a cleanup_arena = {0};
    struct m_wait_ans ans = {0};
    int err = res->err;
    if (!err && msg_decode(&m_wait_ans_desc, &ans, res->body.p, res->body.n, MSG_LENIENT, &a, NULL))
        err = -EBADMSG;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; !err && i < ans.changed_n; i++) {
        struct group *g = table_find(r, ans.changed[i].ns);
        if (!g)
            continue;
        g->head = ans.changed[i].sjid;
        g->list_due = true;
        if (!g->look_at)
            g->look_at = mono_ms() + LOOK_AFTER_MS;
    }
    if (!err && !ans.changed_n) { /* time ran out, or an administrator did something */
        r->refresh_at = 0;
        if (r->o.woken)
            r->o.woken(r->o.arg);
    }
    if (err == -EACCES || err == -EPERM)
        r->refresh_at = 0;
    r->waiting = false;
    r->wait_call = 0;
    r->wait_ended = err != 0 && err != -ECANCELED;
    follow_poke(r);
    pthread_mutex_unlock(&r->lock);
}

/* [locked] */
static void wait_start(struct replicate *r)
{
    struct m_wait_req q = {0};
    struct buf b cleanup_buf = {0};
    q.watch = calloc(r->groups_n + 1, sizeof *q.watch);
    if (!q.watch)
        abort();
    for (size_t i = 0; i < r->groups_n && q.watch_n < WATCH_MAX; i++)
        if (r->groups[i].members_n)
            q.watch[q.watch_n++] =
                (struct m_watch){.ns = r->groups[i].ns, .sjid = r->groups[i].head};
    /* with nothing to watch, too: a command of the administrator ends it */
    msg_encode(&m_wait_req_desc, &q, &b);
    r->waiting = true;
    r->wait_call = rpc_start(r->meta, &(struct rpc_call){.url = r->o.identity->meta,
                                                         .method = "wait",
                                                         .head = bytes_of(b.p, b.n),
                                                         .timeout_ms = WAIT_TIMEOUT_MS,
                                                         .done = wait_done,
                                                         .arg = r});
    free(q.watch);
}

static void *follow_main(void *arg)
{
    struct replicate *r = arg;
    int64_t wait_again = 0;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        int64_t now = mono_ms(), until;
        struct due d;
        if (r->refresh_at <= now) {
            r->refresh_at = now + RETRY_MS; /* unless it succeeds */
            pthread_mutex_unlock(&r->lock);
            table_refresh(r);
            pthread_mutex_lock(&r->lock);
            continue;
        }
        until = r->refresh_at;
        if (next_due(r, &d, &until)) {
            pthread_mutex_unlock(&r->lock);
            if (d.what == DUE_LIST)
                follow(r, d.ns);
            else
                backlog_look(r, &d);
            pthread_mutex_lock(&r->lock);
            continue;
        }
        if (r->wait_ended) {
            r->wait_ended = false;
            wait_again = now + RETRY_MS;
        }
        if (!r->waiting && wait_again <= now)
            wait_start(r);
        else if (!r->waiting && wait_again < until)
            until = wait_again;
        wait_until(r, &r->follow_cond, until);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- starting and stopping ----------------------------------------------------------------- */

struct inbound *replicate_inbound(struct replicate *r)
{
    return r ? r->inbound : NULL;
}

void replicate_look(struct replicate *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    int64_t at = mono_ms() + LOOK_AFTER_MS; /* the metadata server is being told now */
    for (size_t i = 0; i < r->groups_n; i++) {
        struct group *g = &r->groups[i];
        if (!g->look_at || g->look_at > at)
            g->look_at = at;
        group_lacks(g);
        g->own.at = at;
        for (size_t k = 0; k < g->members_n; k++)
            g->members[k].pull.at = at;
    }
    follow_poke(r);
    pthread_mutex_unlock(&r->lock);
}

static void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

int replicate_start(struct replicate **out, const struct replicate_options *o, char *err)
{
    *out = NULL;
    struct replicate *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->o = *o;
    r->wants = wants_new();
    r->inbound = inbound_new();
    pthread_mutex_init(&r->lock, NULL);
    cond_init(&r->follow_cond);
    cond_init(&r->report_cond);
    cond_init(&r->rate_cond);
    int e = tasks_open(&r->tasks, o->dir, err);
    if (!e) {
        e = rpc_new(&r->meta, &(struct rpc_options){.ca_pem = o->identity->ca_pem,
                                                    .credential = o->identity->credential,
                                                    .log = o->log});
        if (!e)
            e = rpc_new(&r->peers_rpc,
                        &(struct rpc_options){.ca_pem = o->identity->ca_pem, .log = o->log});
        if (!e)
            r->follower_runs = !(e = -pthread_create(&r->follower, NULL, follow_main, r));
        if (!e)
            r->reporter_runs = !(e = -pthread_create(&r->reporter, NULL, report_main, r));
        if (e)
            snprintf(err, 512, "cannot start replication: %s", strerror(-e));
    }
    if (e) {
        replicate_stop(r);
        return e;
    }
    *out = r;
    return 0;
}

/* [locked] Ends all that is waited for. */
static void interrupt(struct replicate *r)
{
    r->stop = true;
    pthread_cond_broadcast(&r->follow_cond);
    pthread_cond_broadcast(&r->report_cond);
    pthread_cond_broadcast(&r->rate_cond);
    const uint64_t calls[] = {r->follow_call, r->report_call, r->wait_call};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i])
            rpc_cancel(r->meta, calls[i]);
    for (size_t i = 0; i < r->peers_n; i++) {
        if (r->peers[i]->call)
            rpc_cancel(r->peers_rpc, r->peers[i]->call);
        peer_poke(r->peers[i]);
    }
}

void replicate_stop(struct replicate *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    interrupt(r);
    pthread_mutex_unlock(&r->lock);
    if (r->follower_runs)
        pthread_join(r->follower, NULL);
    if (r->reporter_runs)
        pthread_join(r->reporter, NULL);
    for (size_t i = 0; i < r->peers_n; i++)
        pthread_join(r->peers[i]->thread, NULL);
    rpc_free(r->meta);
    rpc_free(r->peers_rpc);
    for (size_t i = 0; i < r->peers_n; i++) {
        pthread_cond_destroy(&r->peers[i]->cond);
        free(r->peers[i]);
    }
    for (size_t i = 0; i < r->groups_n; i++)
        free(r->groups[i].members);
    free(r->groups);
    free(r->reports);
    wants_free(r->wants);
    tasks_close(r->tasks);
    inbound_free(r->inbound);
    pthread_cond_destroy(&r->follow_cond);
    pthread_cond_destroy(&r->report_cond);
    pthread_cond_destroy(&r->rate_cond);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
