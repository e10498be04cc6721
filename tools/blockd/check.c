// SPDX-License-Identifier: Apache-2.0
/* Three steps: look at every block (and, where it mends, at what was set aside before); wait until
 * the heartbeat has told what was lost, so that it is not found missing once more; compare. What
 * fails because somebody cannot be reached is begun again after a while, for as long as the order
 * stands. */
#include "check.h"

#include "blockid.h"
#include "feed.h"
#include "inventory.h"
#include "rpc.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE 256
#define READ_RATE (64u << 20) /* bytes a second: clients are to be served meanwhile */
#define BEHIND_MAX_MS 1000
#define RETRY_MS 5000
#define TELL_MS 30000 /* losses are told so soon, or the comparison counts them, too */
#define TELL_STEP_MS 20

struct check {
    struct check_options o;
    struct rpc *rpc;
    pthread_t thread;
    bool runs;
    atomic_bool stopping;
    struct storage_entry page[PAGE];

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop, read, mend;
    uint64_t order;      /* 0: none */
    struct m_check told; /* of that order; order 0: not begun */
};

/* ---- waiting ------------------------------------------------------------------------------- */

/* [locked] Until then, or until somebody wakes it. */
static void wait_locked(struct check *c, int64_t left_ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(left_ms / 1000);
    t.tv_nsec += (long)(left_ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&c->wake, &c->lock, &t);
}

/* False: told to stop, or to do another check. */
static bool pause_for(struct check *c, uint64_t order, int64_t ms)
{
    int64_t end = mono_ms() + ms;
    pthread_mutex_lock(&c->lock);
    while (!c->stop && c->order == order && mono_ms() < end)
        wait_locked(c, end - mono_ms());
    bool go_on = !c->stop && c->order == order;
    pthread_mutex_unlock(&c->lock);
    return go_on;
}

/* ---- looking ------------------------------------------------------------------------------- */

static void count(struct check *c, uint64_t looked, bool damaged, bool unreadable)
{
    pthread_mutex_lock(&c->lock);
    c->told.looked += looked;
    c->told.damaged += damaged;
    c->told.unreadable += unreadable;
    pthread_mutex_unlock(&c->lock);
}

/* Something is wrong with it, as far as that is told without reading; or it is to be read. */
static void look_close(void *arg, const struct block_id *id)
{
    struct check *c = arg;
    int r = atomic_load(&c->stopping) ? -EALREADY : c->o.storage->ops->set_aside(c->o.storage, id);
    if (r != -EALREADY)
        c->o.lost(c->o.arg, id, r);
    count(c, 0, !r, r && r != -EALREADY);
}

static void look_at(struct check *c, const struct storage_entry *e, bool read)
{
    const struct storage_ops *ops = c->o.storage->ops;
    int r = read || !ops->probe ? 0 : ops->probe(c->o.storage, &e->id);
    bool close = read || r == -EUCLEAN;
    if (close)
        look_close(c, &e->id);
    count(c, 1, false, !close && r && r != -ENOENT);
}

/* 0; -ECANCELED; -errno. */
static int survey_all(struct check *c, uint64_t order)
{
    struct storage *s = c->o.storage;
    struct block_id place = {{0}}, upto, end;
    int r = 0;
    memset(&end, 0xff, sizeof end);
    while (!r && !block_id_equal(&place, &end)) {
        uint64_t looked = 0;
        r = s->ops->survey(s, &place, &upto, &looked, look_close, c);
        count(c, looked, false, false);
        place = upto;
        if (!r && !pause_for(c, order, 0))
            r = -ECANCELED;
    }
    return r;
}

/* 0; -ECANCELED; -errno: the index cannot be read. */
static int look_at_all(struct check *c, uint64_t order, bool read)
{
    struct block_id place = {{0}};
    int64_t due = mono_ms();
    for (;;) {
        size_t n;
        int r = c->o.storage->ops->after(c->o.storage, &place, c->page, PAGE, &n);
        if (r || !n)
            return r;
        for (size_t i = 0; i < n; i++) {
            look_at(c, &c->page[i], read);
            place = c->page[i].id;
            int64_t now = mono_ms();
            due = due < now - BEHIND_MAX_MS ? now - BEHIND_MAX_MS : due;
            due += read ? (int64_t)(c->page[i].stored_len * 1000 / READ_RATE) : 0;
            if (!pause_for(c, order, due - now))
                return -ECANCELED;
        }
    }
}

/* Where that fails it is no reason to compare nothing. */
static void take_back(struct check *c)
{
    struct storage *s = c->o.storage;
    uint64_t blocks = 0;
    int r = s->ops->take_back ? s->ops->take_back(s, &c->stopping, &blocks) : 0;
    if (r && r != -ECANCELED)
        log_printf(c->o.log, LOG_L_WARN, "what was set aside cannot be looked through: %s",
                   strerror(-r));
    if (blocks)
        log_printf(c->o.log, LOG_L_WARN,
                   "%" PRIu64 " blocks that had been set aside are right, and are here again",
                   blocks);
}

/* ---- comparing ----------------------------------------------------------------------------- */

static bool all_told(struct check *c)
{
    struct storage_lost one;
    size_t n;
    return !c->o.storage->ops->lost(c->o.storage, &one, 1, &n) && !n;
}

static void count_compared(void *arg, const struct inventory_sums *sums)
{
    struct check *c = arg;
    pthread_mutex_lock(&c->lock);
    c->told.compared = sums->blocks;
    pthread_mutex_unlock(&c->lock);
}

static int compare(struct check *c, uint64_t order, bool mend, char *message)
{
    struct inventory_sums sums = {0};
    uint64_t generation;
    for (int64_t end = mono_ms() + TELL_MS; !all_told(c) && mono_ms() < end;)
        if (!pause_for(c, order, TELL_STEP_MS))
            return -ECANCELED;
    struct inventory_options o = {.storage = c->o.storage,
                                  .rpc = c->rpc,
                                  .meta = c->o.identity->meta,
                                  .before = collect_before(c->o.collect),
                                  .look = !mend,
                                  .stop = &c->stopping,
                                  .page_done = count_compared,
                                  .arg = c};
    int r = inventory_pass(&o, &generation, &sums, message);
    pthread_mutex_lock(&c->lock);
    c->told.compared = sums.blocks;
    c->told.not_there = sums.lost;
    c->told.unrecorded = sums.announced;
    c->told.unneeded = sums.unneeded;
    c->told.unknown = sums.unknown;
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* One check, to its end or until another one is ordered. */
static void run(struct check *c, uint64_t order, bool read, bool mend)
{
    char message[512] = "";
    struct storage_usage u;
    c->o.storage->ops->usage(c->o.storage, &u);
    pthread_mutex_lock(&c->lock);
    c->told = (struct m_check){.order = order, .blocks = u.blocks};
    pthread_mutex_unlock(&c->lock);
    bool survey = !read && c->o.storage->ops->survey;
    int r = survey ? survey_all(c, order) : look_at_all(c, order, read);
    if (!r && mend)
        take_back(c);
    if (!r)
        r = compare(c, order, mend, message);
    if (r == -ECANCELED)
        return;
    if (r) {
        log_printf(c->o.log, LOG_L_WARN, "the check that was ordered: %s",
                   *message ? message : strerror(-r));
        pause_for(c, order, RETRY_MS);
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->told.done = c->order == order;
    struct m_check k = c->told;
    pthread_mutex_unlock(&c->lock);
    log_printf(c->o.log, k.damaged || k.not_there || k.unrecorded ? LOG_L_WARN : LOG_L_INFO,
               "checked as ordered: %" PRIu64 " blocks, %" PRIu64 " damaged, %" PRIu64
               " recorded and not here, %" PRIu64 " not recorded",
               k.looked, k.damaged, k.not_there, k.unrecorded);
    c->o.told(c->o.arg);
}

static void *check_main(void *arg)
{
    struct check *c = arg;
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (!c->order || (c->told.order == c->order && c->told.done)) {
            pthread_cond_wait(&c->wake, &c->lock);
            continue;
        }
        uint64_t order = c->order;
        bool read = c->read, mend = c->mend;
        pthread_mutex_unlock(&c->lock);
        run(c, order, read, mend);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the whole ----------------------------------------------------------------------------- */

void check_free(struct check *c)
{
    if (!c)
        return;
    rpc_free(c->rpc);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int check_new(struct check **out, const struct check_options *o)
{
    *out = NULL;
    struct check *c = calloc(1, sizeof *c);
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
    if (r) {
        check_free(c);
        return r;
    }
    *out = c;
    return 0;
}

int check_start(struct check *c)
{
    int r = -pthread_create(&c->thread, NULL, check_main, c);
    c->runs = !r;
    return r;
}

void check_heard(struct check *c, uint64_t order, bool read, bool mend)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->order != order) {
        c->order = order;
        c->read = read;
        c->mend = mend;
        pthread_cond_signal(&c->wake);
    }
    pthread_mutex_unlock(&c->lock);
}

bool check_report(struct check *c, struct m_check *out)
{
    if (!c)
        return false;
    pthread_mutex_lock(&c->lock);
    *out = c->told;
    bool any = c->order && c->told.order == c->order;
    pthread_mutex_unlock(&c->lock);
    return any;
}

void check_stop(struct check *c)
{
    if (!c || !c->runs)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    atomic_store(&c->stopping, true);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->runs = false;
}
