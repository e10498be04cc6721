// SPDX-License-Identifier: Apache-2.0
/* Reports go in portions; one that was not answered is sent again. A report lost in a crash is made
 * up for: the block still stands in this server's backlog, where it is found to be here already. */
#include "replicate_int.h"

#include "feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- calls --------------------------------------------------------------------------------- */

struct pending {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    struct rpc_result res;
};

static void answered(void *arg, struct rpc_result *res)
{
    struct pending *p = arg;
    pthread_mutex_lock(&p->lock);
    p->res = *res;
    res->body = (struct buf){0};
    p->done = true;
    pthread_cond_signal(&p->cond);
    pthread_mutex_unlock(&p->lock);
}

int call_raw(struct replicate *r, struct rpc *rpc, uint64_t *slot, const struct rpc_call *c,
             struct rpc_result *res)
{
    struct pending p = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct rpc_call call = *c;
    call.done = answered;
    call.arg = &p;
    memset(res, 0, sizeof *res);
    pthread_mutex_lock(&r->lock);
    if (r->stop) {
        pthread_mutex_unlock(&r->lock);
        return res->err = -ECANCELED;
    }
    *slot = rpc_start(rpc, &call);
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_lock(&p.lock);
    while (!p.done)
        pthread_cond_wait(&p.cond, &p.lock);
    pthread_mutex_unlock(&p.lock);
    pthread_mutex_lock(&r->lock);
    *slot = 0;
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_destroy(&p.lock);
    pthread_cond_destroy(&p.cond);
    *res = p.res;
    return res->err;
}

int call_meta(struct replicate *r, uint64_t *slot, const char *method,
              const struct msg_desc *req_desc, const void *req, const struct msg_desc *ans_desc,
              void *ans, struct arena *a, char *message)
{
    struct buf b cleanup_buf = {0};
    struct rpc_result res;
    msg_encode(req_desc, req, &b);
    int err = call_raw(r, r->meta, slot,
                       &(struct rpc_call){.url = r->o.identity->meta,
                                          .method = method,
                                          .body = bytes_of(b.p, b.n),
                                          .timeout_ms = META_TIMEOUT_MS},
                       &res);
    if (message)
        snprintf(message, 512, "%s", res.message);
    if (!err) {
        struct bytes copy = arena_bytes(a, res.body.p, res.body.n);
        err = msg_decode(ans_desc, ans, copy.p, copy.n, MSG_LENIENT, a, NULL) ? -EBADMSG : 0;
        if (err && message)
            snprintf(message, 512, "the metadata server's answer to %s is unreadable", method);
    }
    buf_free(&res.body);
    return err;
}

/* ---- time and rate ------------------------------------------------------------------------- */

void wait_until(struct replicate *r, pthread_cond_t *cond, int64_t until_ms)
{
    /* the clock of mono_ms goes on while the machine sleeps: what is left is waited for anew */
    int64_t left = until_ms - mono_ms();
    struct timespec t;
    if (left <= 0)
        return;
    if (left > 60000)
        left = 60000;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += left / 1000;
    t.tv_nsec += left % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(cond, &r->lock, &t);
}

static unsigned hour_now(int64_t *left_ms)
{
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    localtime_r(&t.tv_sec, &tm);
    *left_ms = (3600 - 60 * tm.tm_min - tm.tm_sec) * INT64_C(1000);
    return (unsigned)tm.tm_hour;
}

/* [locked] What may be moved in this hour, and how much of it is left; one in which nothing may is
 * waited out. What is owed is turned into the time that it takes at the hour's rate. */
static uint64_t rate_now(struct replicate *r, int64_t *left_ms)
{
    for (;;) {
        uint64_t rate = r->o.rate.hour[(r->o.hour ? r->o.hour : hour_now)(left_ms) % 24];
        int64_t now = mono_ms();
        if (*left_ms < 1)
            *left_ms = 1;
        if (rate == RATE_NONE && !r->stop) {
            wait_until(r, &r->rate_cond, now + *left_ms);
            continue;
        }
        if (rate != RATE_ANY && rate != RATE_NONE) {
            if (r->rate_of && r->rate_of != rate && r->rate_at > now)
                r->rate_at =
                    now + (int64_t)((double)(r->rate_at - now) * (double)r->rate_of / (double)rate);
            r->rate_of = rate;
        }
        return rate;
    }
}

bool rate_take(struct replicate *r, uint64_t bytes)
{
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        int64_t left_ms, now;
        uint64_t rate = rate_now(r, &left_ms);
        if (rate == RATE_ANY || r->stop)
            break;
        now = mono_ms();
        if (r->rate_at <= now) {
            r->rate_at = now + (int64_t)(bytes * 1000 / rate);
            break;
        }
        /* the next hour may be another one */
        wait_until(r, &r->rate_cond, r->rate_at - now > left_ms ? now + left_ms : r->rate_at);
    }
    bool go = !r->stop;
    pthread_mutex_unlock(&r->lock);
    return go;
}

/* ---- room ---------------------------------------------------------------------------------- */

/* What is fetched and cannot be stored would be fetched again and again, the whole backlog. And
 * what programs write goes before what is copied here. */
bool replicate_has_room(struct replicate *r)
{
    struct storage_usage u;
    if (!r)
        return true;
    r->o.storage->ops->usage(r->o.storage, &u);
    bool low = u.free_bytes && u.free_bytes <= REPLICATE_ROOM;
    pthread_mutex_lock(&r->lock);
    bool room = !low && r->full_until <= mono_ms(), news = room == r->no_room;
    r->no_room = !room;
    pthread_mutex_unlock(&r->lock);
    if (news && room)
        log_printf(r->o.log, LOG_L_INFO, "replication: there is room again");
    else if (news)
        log_printf(r->o.log, LOG_L_WARN,
                   "replication: there is no room for what other block servers have (%u MiB are "
                   "left to clients): nothing is fetched until there is",
                   REPLICATE_ROOM >> 20);
    return room;
}

void replicate_no_room(struct replicate *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->full_until = mono_ms() + (r->o.full_ms ? r->o.full_ms : FULL_MS);
    pthread_mutex_unlock(&r->lock);
}

/* ---- reports ------------------------------------------------------------------------------- */

void replicate_arrived(struct replicate *r, uint64_t ns, const struct block_id *id, uint64_t len)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    if (r->reports_n == r->reports_cap && r->reports_cap < REPORTS_MAX) {
        r->reports_cap = r->reports_cap ? 2 * r->reports_cap : 64;
        if (!(r->reports = realloc(r->reports, r->reports_cap * sizeof *r->reports)))
            abort();
    }
    wants_arrived(r->wants, ns, id);
    if (r->reports_n < r->reports_cap)
        r->reports[r->reports_n++] = (struct m_stored){.ns = ns, .block = *id, .len = len};
    pthread_cond_signal(&r->report_cond);
    pthread_mutex_unlock(&r->lock);
}

/* What was reported may have completed commits here: they are to be passed on. */
static void note_complete(struct replicate *r, const struct m_stored *v, size_t n)
{
    pthread_mutex_lock(&r->lock);
    struct group *g = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!g || g->ns != v[i].ns)
            g = table_find(r, v[i].ns);
        if (g)
            g->list_due = true;
    }
    follow_poke(r);
    pthread_mutex_unlock(&r->lock);
}

/* What is there now of what was noted, with the generation that proves it: it may have been lost or
 * removed while it waited. v becomes shorter. */
static int look_again(struct replicate *r, struct m_stored *v, size_t *n)
{
    struct arena a cleanup_arena = {0};
    struct block_id *ids = arena_alloc(&a, (*n + 1) * sizeof *ids);
    struct storage_info *info = arena_alloc(&a, (*n + 1) * sizeof *info);
    size_t kept = 0, run;
    for (size_t i = 0; i < *n; i += run) {
        for (run = 0; i + run < *n && v[i + run].ns == v[i].ns; run++)
            ids[run] = v[i + run].block;
        int err = r->o.storage->ops->have(r->o.storage, v[i].ns, ids, run, info);
        if (err)
            return err;
        for (size_t k = 0; k < run; k++)
            if (info[k].there)
                v[kept++] = (struct m_stored){.ns = v[i].ns,
                                              .block = ids[k],
                                              .len = info[k].logical_len,
                                              .generation = info[k].generation};
    }
    *n = kept;
    return 0;
}

static int report(struct replicate *r, struct m_stored *v, size_t n)
{
    struct arena a cleanup_arena = {0};
    uint8_t incarnation[INCARNATION_LEN];
    char message[512];
    struct m_stored_ans ans;
    /* before the look: what is found is of this incarnation or a later one */
    r->o.storage->ops->incarnation(r->o.storage, incarnation);
    int err = look_again(r, v, &n);
    if (err || !n)
        return err;
    struct m_stored_req q = {.incarnation = bytes_of(incarnation, sizeof incarnation),
                             .run = r->o.storage->run,
                             .blocks = v,
                             .blocks_n = n};
    err = call_meta(r, &r->report_call, "stored", &m_stored_req_desc, &q, &m_stored_ans_desc, &ans,
                    &a, message);
    if (err && err != -ECANCELED)
        log_printf(r->o.log, LOG_L_WARN, "replication: cannot report stored blocks: %s", message);
    else if (!err)
        atomic_fetch_add(&r->reported, ans.recorded);
    return err;
}

void *report_main(void *arg)
{
    struct replicate *r = arg;
    static const size_t size = sizeof(struct m_stored);
    struct m_stored *v = malloc(REPORT_BLOCKS * size);
    if (!v)
        abort();
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (!r->reports_n) {
            pthread_cond_wait(&r->report_cond, &r->lock);
            continue;
        }
        size_t n = r->reports_n < REPORT_BLOCKS ? r->reports_n : REPORT_BLOCKS;
        memcpy(v, r->reports, n * size);
        pthread_mutex_unlock(&r->lock);
        int err = report(r, v, n);
        if (!err)
            note_complete(r, v, n);
        pthread_mutex_lock(&r->lock);
        if (!err || err == -EBADMSG) { /* what can never be understood is not sent for ever */
            memmove(r->reports, r->reports + n, (r->reports_n - n) * size);
            r->reports_n -= n;
            continue;
        }
        int64_t until = mono_ms() + RETRY_MS;
        while (!r->stop && mono_ms() < until)
            wait_until(r, &r->report_cond, until);
    }
    pthread_mutex_unlock(&r->lock);
    free(v);
    return NULL;
}

/* ---- what is measured ---------------------------------------------------------------------- */

#define NAME "steadfs_blockd_replication"

static void print_tasks(void *arg, uint64_t ns, uint64_t server, uint64_t n)
{
    buf_printf(arg, NAME "_tasks{ns=\"%llu\",server=\"%llu\"} %llu\n", (unsigned long long)ns,
               (unsigned long long)server, (unsigned long long)n);
}

#define PRINTED_MAX 1000u /* namespaces */

static void print_lacking(struct buf *out, uint64_t ns, uint64_t server, uint64_t blocks)
{
    buf_printf(out, NAME "_lacking{ns=\"%llu\",server=\"%llu\"} %llu\n", (unsigned long long)ns,
               (unsigned long long)server, (unsigned long long)blocks);
}

void replicate_print(struct replicate *r, struct buf *out)
{
    if (!r)
        return;
    buf_printf(out, "# TYPE " NAME "_tasks gauge\n");
    tasks_count(r->tasks, print_tasks, out);
    pthread_mutex_lock(&r->lock);
    buf_printf(out, "# TYPE " NAME "_lacking gauge\n");
    for (size_t i = 0; i < r->groups_n && i < PRINTED_MAX; i++) { /* how far behind each one is */
        const struct group *g = &r->groups[i];
        print_lacking(out, g->ns, r->o.identity->server, g->lacks);
        for (size_t k = 0; k < g->members_n; k++)
            print_lacking(out, g->ns, g->members[k].server, g->members[k].lacks);
    }
    buf_printf(out, "# TYPE " NAME "_no_room gauge\n" NAME "_no_room %d\n", r->no_room);
    buf_printf(out, "# TYPE " NAME "_wanted gauge\n" NAME "_wanted %zu\n", wants_count(r->wants));
    buf_printf(out, "# TYPE " NAME "_reachable gauge\n# TYPE " NAME "_sent_bytes_total counter\n"
                    "# TYPE " NAME "_received_bytes_total counter\n");
    for (size_t i = 0; i < r->peers_n; i++) {
        const struct peer *p = r->peers[i];
        unsigned long long id = p->id;
        buf_printf(out,
                   NAME "_reachable{server=\"%llu\"} %d\n" NAME
                        "_sent_bytes_total{server=\"%llu\"} %llu\n" NAME
                        "_received_bytes_total{server=\"%llu\"} %llu\n",
                   id, p->fails == 0, id, atomic_load(&p->sent), id, atomic_load(&p->received));
    }
    pthread_mutex_unlock(&r->lock);
    buf_printf(out,
               "# TYPE " NAME "_offered_total counter\n" NAME "_offered_total %llu\n"
               "# TYPE " NAME "_accepted_total counter\n" NAME "_accepted_total %llu\n"
               "# TYPE " NAME "_reported_total counter\n" NAME "_reported_total %llu\n",
               atomic_load(&r->offered), atomic_load(&r->accepted), atomic_load(&r->reported));
}
