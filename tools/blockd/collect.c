// SPDX-License-Identifier: Apache-2.0
/* A round: raise the generation, ask, remove what is named, and tell in the next question. What is
 * not told after a crash is named again, and is gone already.
 *
 * DIR/compared has a line of four words: the incarnation (hexadecimal), the generation that makes
 * things old, and, in milliseconds since 1970, when the comparison with that generation began and
 * when the next one is due: a server that is restarted often compares as often as others. The line
 * of another incarnation says nothing. */
#include "collect.h"

#include "durable.h"
#include "feed.h"
#include "inventory.h"
#include "missing.h"
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
#define REST_MAX_MS 60000
#define COMPARE_GRACES 3   /* grace times from one comparison to the next */
#define ROUND_BLOCKS 1024u /* m_collect_req.done */
#define COMPARED_MAX 256   /* bytes of DIR/compared */

struct collect {
    struct collect_options o;
    struct rpc *rpc;
    pthread_t thread;
    bool runs, failing;
    struct m_lost done[ROUND_BLOCKS];
    size_t done_n;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop, poked, compare_now;
    bool renew, renewed; /* asked for; done, and nothing was heard since */
    int renew_err;
    pthread_cond_t renew_done;
    atomic_bool stopping;
    struct storage_collected sums;
    uint64_t rounds, passes;
    struct inventory_sums compared;
    struct missing missing;
    int64_t missing_at;  /* not told before */
    uint64_t grace_ms;   /* 0: not heard yet */
    int64_t compare_at;  /* when the next comparison is due; 0: a grace time after its start */
    uint64_t began_with; /* generation, and when, of the last one that was whole; 0: none */
    int64_t began_at;
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
                              .run = s->run,
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
    tick_heard(c->o.tick, ans.tick);
    if (ans.blocks_n && (r = tick_keep(c->o.tick))) {
        snprintf(message, 512, "what was ordered cannot be noted: %s", strerror(-r));
        return r;
    }
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

/* ---- what is kept of comparisons ------------------------------------------------------------ */

static void name_of(struct collect *c, char hex[2 * INCARNATION_LEN + 1])
{
    uint8_t incarnation[INCARNATION_LEN];
    c->o.storage->ops->incarnation(c->o.storage, incarnation);
    for (size_t i = 0; i < INCARNATION_LEN; i++)
        snprintf(hex + 2 * i, 3, "%02x", incarnation[i]);
}

static void load(struct collect *c)
{
    struct buf text cleanup_buf = {0};
    char name[2 * INCARNATION_LEN + 1], hex[2 * INCARNATION_LEN + 1];
    uint64_t began_with;
    int64_t began, due, now = mono_ms(), wall = wall_ms();
    if (!c->o.dir || durable_read(c->o.dir, "compared", COMPARED_MAX, &text) ||
        sscanf((char *)text.p, "%32s %" SCNu64 " %" SCNd64 " %" SCNd64, hex, &began_with, &began,
               &due) != 4)
        return;
    name_of(c, name);
    if (strcmp(name, hex) != 0 || began_with > c->o.storage->found)
        return;
    c->began_with = began_with;
    c->began_at = now - (wall > began ? wall - began : 0);
    c->compare_at = now + (due > wall ? due - wall : 0);
    c->compare_at += !c->compare_at;
}

/* [locked] */
static void save(struct collect *c)
{
    struct buf b cleanup_buf = {0};
    char name[2 * INCARNATION_LEN + 1];
    int64_t now = mono_ms(), wall = wall_ms();
    if (!c->o.dir)
        return;
    name_of(c, name);
    buf_printf(&b, "%s %" PRIu64 " %" PRId64 " %" PRId64 "\n", name, c->began_with,
               wall - (now - c->began_at), wall + (c->compare_at - now));
    int r = durable_write(c->o.dir, "compared", b.p, b.n, 0600);
    if (r)
        log_printf(c->o.log, LOG_L_WARN, "cannot write %s/compared: %s", c->o.dir, strerror(-r));
}

/* ---- comparing ----------------------------------------------------------------------------- */

uint64_t collect_before(struct collect *c)
{
    if (!c)
        return 0;
    pthread_mutex_lock(&c->lock);
    bool old = c->began_with && mono_ms() - c->began_at >= (int64_t)c->grace_ms;
    uint64_t before = old ? c->began_with : 0;
    pthread_mutex_unlock(&c->lock);
    return before;
}

static void compare(struct collect *c)
{
    struct inventory_sums sums = {0};
    char message[512] = "";
    uint64_t generation = 0;
    int64_t now = mono_ms();
    struct inventory_options o = {.storage = c->o.storage,
                                  .rpc = c->rpc,
                                  .meta = c->o.identity->meta,
                                  .before = collect_before(c),
                                  .stop = &c->stopping};
    bool old = o.before != 0;
    int r = inventory_pass(&o, &generation, &sums, message);
    pthread_mutex_lock(&c->lock);
    c->compared.blocks += sums.blocks;
    c->compared.announced += sums.announced;
    c->compared.lost += sums.lost;
    c->compared.unneeded += sums.unneeded;
    c->passes += !r;
    /* the beginning that counts stays until it is old enough to be of use */
    if (!r && (old || !c->began_with)) {
        c->began_with = generation;
        c->began_at = now;
    }
    c->compare_at = mono_ms() + (r ? RETRY_MS : COMPARE_GRACES * (int64_t)c->grace_ms);
    if (!r)
        save(c);
    c->poked |= sums.unneeded > 0;
    pthread_mutex_unlock(&c->lock);
    if (r && r != -ECANCELED)
        log_printf(c->o.log, LOG_L_WARN, "comparing what is stored with what is recorded: %s",
                   message);
    else if (sums.announced || sums.lost || sums.unneeded)
        log_printf(c->o.log, LOG_L_WARN,
                   "compared with what is recorded: %" PRIu64 " blocks here were not recorded, "
                   "%" PRIu64 " recorded ones are not here, nothing refers to %" PRIu64,
                   sums.announced, sums.lost, sums.unneeded);
}

/* ---- what is missed ------------------------------------------------------------------------ */

/* [locked] When to tell; INT64_MAX: nothing waits. */
static int64_t missing_due(const struct collect *c)
{
    return c->missing.waiting ? c->missing_at : INT64_MAX;
}

/* [locked, given up meanwhile] */
static void tell_missing(struct collect *c)
{
    struct m_lost v[MISSING_MAX];
    char message[512] = "";
    uint64_t lost;
    size_t n = missing_take(&c->missing, mono_ms(), v);
    pthread_mutex_unlock(&c->lock);
    int r = missing_tell(c->o.storage, c->rpc, c->o.identity->meta, v, n, &lost, message);
    if (r)
        log_printf(c->o.log, LOG_L_INFO, "blocks that somebody looked for here: %s", message);
    else if (lost)
        log_printf(c->o.log, LOG_L_WARN,
                   "%" PRIu64 " blocks that somebody was sent here for are not here", lost);
    if (lost && c->o.found)
        c->o.found(c->o.arg);
    pthread_mutex_lock(&c->lock);
    c->compared.lost += lost;
    c->missing_at = mono_ms() + MISSING_PAUSE_MS;
}

void collect_missing(struct collect *c, uint64_t ns, const struct block_id *id)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    if (missing_add(&c->missing, ns, id, mono_ms()))
        pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

/* ---- another incarnation ------------------------------------------------------------------- */

/* [locked, given up meanwhile] This thread alone carries orders out, so none is under way. */
static void renew(struct collect *c)
{
    pthread_mutex_unlock(&c->lock);
    c->done_n = 0;
    int r = c->o.storage->ops->renew(c->o.storage);
    pthread_mutex_lock(&c->lock);
    c->renew = false;
    c->renewed = !r;
    c->renew_err = r;
    c->began_with = 0;
    pthread_cond_broadcast(&c->renew_done);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* [locked] Until there is something to do, or retry_at (0: not at all). */
static void rest(struct collect *c, int64_t retry_at)
{
    while (!c->stop && !c->compare_now && !c->renew &&
           !(c->grace_ms && c->compare_at <= mono_ms()) && !(c->poked && !retry_at) &&
           missing_due(c) > mono_ms() && !(retry_at && retry_at <= mono_ms())) {
        int64_t until = c->grace_ms ? c->compare_at : INT64_MAX;
        until = retry_at && retry_at < until ? retry_at : until;
        until = missing_due(c) < until ? missing_due(c) : until;
        int64_t left = until - mono_ms();
        left = left > REST_MAX_MS ? REST_MAX_MS : left < 1 ? 1 : left;
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += left / 1000;
        t.tv_nsec += left % 1000 * 1000000;
        if (t.tv_nsec >= 1000000000) {
            t.tv_sec++;
            t.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&c->wake, &c->lock, &t);
    }
}

static void *collect_main(void *arg)
{
    struct collect *c = arg;
    int64_t retry_at = 0;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        rest(c, retry_at);
        if (c->stop)
            break;
        if (c->renew)
            renew(c);
        if (missing_due(c) <= mono_ms())
            tell_missing(c);
        bool comparing = c->compare_now || (c->grace_ms && c->compare_at <= mono_ms());
        bool collecting = retry_at ? retry_at <= mono_ms() : c->poked;
        c->compare_now = false;
        c->poked &= !collecting;
        pthread_mutex_unlock(&c->lock);
        if (comparing)
            compare(c);
        if (collecting)
            retry_at = round_all(c) ? mono_ms() + RETRY_MS : 0;
        pthread_mutex_lock(&c->lock);
    }
    pthread_cond_broadcast(&c->renew_done);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void release(struct collect *c)
{
    rpc_free(c->rpc);
    pthread_cond_destroy(&c->renew_done);
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
    pthread_cond_init(&c->renew_done, NULL);
    load(c);
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

void collect_heard(struct collect *c, bool something, uint64_t grace_ms)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    int64_t latest = mono_ms() + COMPARE_GRACES * (int64_t)grace_ms;
    if (!c->compare_at && grace_ms) {
        c->compare_at = mono_ms() + (int64_t)grace_ms;
        save(c);
    }
    if (grace_ms && c->compare_at > latest) /* the grace time, or the calendar, has changed */
        c->compare_at = latest;
    c->grace_ms = grace_ms;
    c->poked |= something;
    c->compare_now |= c->renewed;
    c->renewed = false;
    if (c->poked || c->compare_now || (c->grace_ms && c->compare_at <= mono_ms()))
        pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

int collect_renew(struct collect *c)
{
    if (!c)
        return -EAGAIN;
    pthread_mutex_lock(&c->lock);
    c->renew = true;
    pthread_cond_signal(&c->wake);
    while (c->renew && !c->stop)
        pthread_cond_wait(&c->renew_done, &c->lock);
    int r = c->renew ? -ECANCELED : c->renew_err;
    pthread_mutex_unlock(&c->lock);
    return r;
}

void collect_due(struct collect *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->poked = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

uint64_t collect_grace_ms(struct collect *c)
{
    if (!c)
        return 0;
    pthread_mutex_lock(&c->lock);
    uint64_t ms = c->grace_ms;
    pthread_mutex_unlock(&c->lock);
    return ms;
}

void collect_compare(struct collect *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->compare_now = true;
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
        {"passes_total", c->passes},
        {"compared_total", c->compared.blocks},
        {"announced_total", c->compared.announced},
        {"not_here_total", c->compared.lost},
        {"unneeded_total", c->compared.unneeded},
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
    atomic_store(&c->stopping, true);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    release(c);
}
