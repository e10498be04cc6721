// SPDX-License-Identifier: Apache-2.0
/* Pages are of the blocks' order of arrival. A block that is not recorded is looked up here: what
 * was removed, or lost, takes no place any more. */
#include "confirm.h"

#include "feed.h"
#include "messages.h"
#include "rpc.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL_MS 10000u
#define SOON_SHARE 4  /* times what a pass took, until the next one where that is pressing … */
#define PASS_SHARE 20 /* … and where it is not */

struct confirm {
    struct confirm_options o;
    struct rpc *rpc;
    pthread_t thread;
    bool failing;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop;
    bool resting; /* until it is woken */
};

/* Settles those that are recorded, or here no more. */
static int settle(struct confirm *c, const struct m_named *v, size_t n, struct bytes recorded)
{
    for (size_t i = 0; i < n; i++) {
        bool is = i / 8 < recorded.n && (recorded.p[i / 8] >> i % 8 & 1);
        struct storage_info info = {.there = true};
        int r = is ? 0 : c->o.storage->ops->have(c->o.storage, v[i].ns, &v[i].block, 1, &info);
        if (r)
            return r;
        if (is || !info.there)
            uncommitted_settle(c->o.uncommitted, v[i].ns, &v[i].block);
    }
    return 0;
}

static int page(struct confirm *c, struct uncommitted_row *rows, struct m_named *v, size_t *n,
                char message[512])
{
    struct arena a cleanup_arena = {0};
    struct m_recorded_ans ans;
    *n = uncommitted_next(c->o.uncommitted, rows, UNCOMMITTED_ASKED);
    if (!*n)
        return 0;
    for (size_t i = 0; i < *n; i++)
        v[i] = (struct m_named){.ns = rows[i].ns, .block = rows[i].id};
    struct m_recorded_req q = {.blocks = v, .blocks_n = *n};
    int r = rpc_wait(c->rpc, c->o.identity->meta, "recorded", &m_recorded_req_desc, &q,
                     &m_recorded_ans_desc, &ans, &a, CALL_MS, message);
    for (size_t i = 0; i < ans.quotas_n && !r; i++)
        uncommitted_quota(c->o.uncommitted, ans.quotas[i].ns, ans.quotas[i].bytes);
    return r ? r : settle(c, v, *n, ans.recorded);
}

/* What those who were refused put a while ago is told to be in the way. */
static int give_up(struct confirm *c, struct uncommitted_row *rows, char message[512])
{
    struct arena a cleanup_arena = {0};
    struct storage *s = c->o.storage;
    struct m_held *v = arena_alloc(&a, UNCOMMITTED_ASKED * sizeof *v);
    struct m_inventory_ans ans;
    uint8_t incarnation[INCARNATION_LEN];
    uint64_t grace = collect_grace_ms(c->o.collect);
    int64_t age = grace < UNCOMMITTED_AGE_MS ? (int64_t)grace : UNCOMMITTED_AGE_MS;
    size_t n = 0;
    if (grace)
        n = uncommitted_given_up(c->o.uncommitted, mono_ms() - age, rows, UNCOMMITTED_ASKED);
    if (!n)
        return 0;
    s->ops->incarnation(s, incarnation);
    struct m_inventory_req q = {
        .incarnation = bytes_of(incarnation, sizeof incarnation), .run = s->run, .given_up = v};
    int r = s->ops->raise(s, &q.generation);
    q.before = q.generation;
    for (size_t i = 0; i < n && !r; i++) {
        struct storage_info info;
        r = s->ops->have(s, rows[i].ns, &rows[i].id, 1, &info);
        if (!r && info.there)
            v[q.given_up_n++] = (struct m_held){.ns = rows[i].ns,
                                                .block = rows[i].id,
                                                .len = info.logical_len,
                                                .generation = info.generation};
    }
    if (!r && q.given_up_n)
        r = rpc_wait(c->rpc, c->o.identity->meta, "inventory", &m_inventory_req_desc, &q,
                     &m_inventory_ans_desc, &ans, &a, CALL_MS, message);
    if (!r && q.given_up_n && ans.unneeded)
        collect_due(c->o.collect);
    return r;
}

static void pass(struct confirm *c)
{
    struct uncommitted_row *rows = calloc(UNCOMMITTED_ASKED, sizeof *rows);
    struct m_named *v = calloc(UNCOMMITTED_ASKED, sizeof *v);
    char message[512] = "";
    size_t n = 1;
    int r = 0;
    if (!rows || !v)
        abort();
    while (n && !r) {
        r = page(c, rows, v, &n, message);
        pthread_mutex_lock(&c->lock);
        r = c->stop ? -ECANCELED : r;
        pthread_mutex_unlock(&c->lock);
    }
    if (!r)
        r = give_up(c, rows, message);
    if (r == -ENOENT) /* a metadata server of before: it cannot tell */
        uncommitted_forget(c->o.uncommitted);
    if (r && r != -ECANCELED && !c->failing)
        log_printf(c->o.log, LOG_L_INFO, "asking which blocks have been committed: %s",
                   *message ? message : strerror(-r));
    c->failing = r != 0;
    free(v);
    free(rows);
}

/* [locked] Until a pass is due. */
static void rest(struct confirm *c, int64_t last, int64_t took)
{
    while (!c->stop) {
        if (!uncommitted_blocks(c->o.uncommitted)) {
            c->resting = true;
            pthread_cond_wait(&c->wake, &c->lock);
            c->resting = false;
            continue;
        }
        bool soon = uncommitted_pressing(c->o.uncommitted);
        int64_t least = soon ? CONFIRM_SOON_MS : CONFIRM_PASS_MS;
        int64_t share = (soon ? SOON_SHARE : PASS_SHARE) * took;
        int64_t due = last + (share > least ? share : least), now = mono_ms();
        if (now >= due)
            return;
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        int64_t at = t.tv_nsec / 1000000 + due - now;
        t.tv_sec += at / 1000;
        t.tv_nsec = at % 1000 * 1000000;
        pthread_cond_timedwait(&c->wake, &c->lock, &t);
    }
}

static void *confirm_main(void *arg)
{
    struct confirm *c = arg;
    int64_t last = INT64_MIN / 2, took = 0;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        rest(c, last, took);
        if (c->stop)
            break;
        pthread_mutex_unlock(&c->lock);
        int64_t began = mono_ms();
        pass(c);
        last = mono_ms();
        took = last - began;
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static void release(struct confirm *c)
{
    rpc_free(c->rpc);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int confirm_start(struct confirm **out, const struct confirm_options *o)
{
    pthread_condattr_t attr;
    *out = NULL;
    struct confirm *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->o = *o;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    int r = rpc_new(&c->rpc, &(struct rpc_options){.ca_pem = o->identity->ca_pem,
                                                   .credential = o->identity->credential,
                                                   .log = o->log});
    if (!r)
        r = -pthread_create(&c->thread, NULL, confirm_main, c);
    if (r) {
        release(c);
        return r;
    }
    *out = c;
    return 0;
}

void confirm_look(struct confirm *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->resting) /* else it looks again by itself when it is time */
        pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void confirm_soon(struct confirm *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void confirm_stop(struct confirm *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    release(c);
}
