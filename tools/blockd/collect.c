// SPDX-License-Identifier: Apache-2.0
/* A round: raise the generation, ask, remove what is named, and tell in the next question. What is
 * not told after a crash is named again, and is gone already. */
#include "collect.h"

#include "feed.h"
#include "rpc.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL_MS 5000u
/* The metadata server forgets what it ordered only long after the grace time; a process that was
 * stopped in between must not act on it. */
#define FRESH_MS 60000
#define RETRY_MS 5000
#define ROUND_BLOCKS 1024u /* m_collect_req.done */

struct collect {
    struct collect_options o;
    struct rpc *rpc;
    pthread_t thread;
    bool runs, failing;
    struct m_lost done[ROUND_BLOCKS];
    size_t done_n;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop, poked;
    struct storage_collected sums;
    uint64_t rounds;
};

/* ---- a round ------------------------------------------------------------------------------- */

/* Removes those of one namespace and generation, which come one after the other. */
static int remove_run(struct collect *c, const struct m_lost *v, size_t n)
{
    struct storage_collected sums = {0};
    struct block_id *ids = calloc(n, sizeof *ids);
    if (!ids)
        abort();
    for (size_t i = 0; i < n; i++)
        ids[i] = v[i].block;
    struct storage *s = c->o.storage;
    int r = s->ops->collect(s, v[0].ns, ids, n, v[0].generation, &sums);
    free(ids);
    pthread_mutex_lock(&c->lock);
    c->sums.taken += sums.taken;
    c->sums.blocks += sums.blocks;
    c->sums.bytes += sums.bytes;
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < n && !r; i++)
        c->done[c->done_n++] = v[i];
    return r;
}

static int remove_all(struct collect *c, const struct m_lost *v, size_t n)
{
    int r = 0;
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1;
             i + run < n && v[i + run].ns == v[i].ns && v[i + run].generation == v[i].generation;
             run++)
            continue;
        int one = remove_run(c, v + i, run);
        r = r ? r : one;
    }
    return r;
}

/* *again: there is more, or something to tell. */
static int round_once(struct collect *c, bool *again, char message[512])
{
    struct arena a cleanup_arena = {0};
    struct storage *s = c->o.storage;
    uint8_t incarnation[INCARNATION_LEN];
    struct m_collect_ans ans;
    s->ops->incarnation(s, incarnation);
    struct m_collect_req q = {.incarnation = bytes_of(incarnation, sizeof incarnation),
                              .done = c->done,
                              .done_n = c->done_n};
    int r = s->ops->raise(s, &q.generation);
    if (r) {
        snprintf(message, 512, "the index cannot be written: %s", strerror(-r));
        return r;
    }
    int64_t asked = mono_ms();
    r = rpc_wait(c->rpc, c->o.identity->meta, "collect", &m_collect_req_desc, &q,
                 &m_collect_ans_desc, &ans, &a, CALL_MS, message);
    if (r)
        return r;
    c->done_n = 0;
    *again = ans.blocks_n > 0;
    if (ans.blocks_n > ROUND_BLOCKS || mono_ms() - asked > FRESH_MS)
        return 0;
    r = remove_all(c, ans.blocks, ans.blocks_n);
    if (r)
        snprintf(message, 512, "some blocks cannot be removed: %s", strerror(-r));
    return r;
}

static void note(struct collect *c, int r, const char *message, uint64_t removed)
{
    if (r && !c->failing)
        log_printf(c->o.log, LOG_L_WARN, "collecting garbage: %s", message);
    c->failing = r != 0;
    if (!r && removed)
        log_printf(c->o.log, LOG_L_INFO,
                   "%" PRIu64 " blocks that nothing refers to any more were removed", removed);
}

/* All there is to do now. */
static int round_all(struct collect *c)
{
    bool again = true;
    char message[512] = "";
    uint64_t before = c->sums.taken;
    int r = 0;
    while (again && !r) {
        again = false;
        r = round_once(c, &again, message);
        pthread_mutex_lock(&c->lock);
        c->rounds += !r;
        again &= !c->stop;
        pthread_mutex_unlock(&c->lock);
    }
    note(c, r, message, c->sums.taken - before);
    return r;
}

static void *collect_main(void *arg)
{
    struct collect *c = arg;
    bool retry = false;
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (!c->poked && !retry) {
            pthread_cond_wait(&c->wake, &c->lock);
            continue;
        }
        if (retry && !c->poked) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += RETRY_MS / 1000;
            while (!c->stop && pthread_cond_timedwait(&c->wake, &c->lock, &until) != ETIMEDOUT)
                continue;
            if (c->stop)
                break;
        }
        c->poked = false;
        pthread_mutex_unlock(&c->lock);
        retry = round_all(c) != 0;
        pthread_mutex_lock(&c->lock);
        if (retry) /* in its own time */
            c->poked = false;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void release(struct collect *c)
{
    rpc_free(c->rpc);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int collect_start(struct collect **out, const struct collect_options *o)
{
    *out = NULL;
    struct collect *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->o = *o;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    int r = rpc_new(&c->rpc, &(struct rpc_options){.ca_pem = o->identity->ca_pem,
                                                   .credential = o->identity->credential,
                                                   .log = o->log});
    if (!r)
        r = -pthread_create(&c->thread, NULL, collect_main, c);
    if (r) {
        release(c);
        return r;
    }
    *out = c;
    return 0;
}

void collect_poke(struct collect *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->poked = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void collect_print(struct collect *c, struct buf *out)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    const struct {
        const char *name;
        uint64_t value;
    } lines[] = {
        {"rounds_total", c->rounds},
        {"taken_total", c->sums.taken},
        {"blocks_total", c->sums.blocks},
        {"bytes_total", c->sums.bytes},
    };
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        buf_printf(out,
                   "# TYPE steadfs_blockd_collected_%s counter\nsteadfs_blockd_collected_%s "
                   "%" PRIu64 "\n",
                   lines[i].name, lines[i].name, lines[i].value);
}

void collect_stop(struct collect *c)
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
