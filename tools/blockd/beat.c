// SPDX-License-Identifier: Apache-2.0
/* Revocations are kept on disk too: a restart while the metadata server is away must not let
 * revoked devices in again, nor what was taken back. What could not be written is written again
 * with the next answer; where they cannot be read at the start, nothing past its end is honoured
 * until the metadata server has told them again. Keys that the metadata server gives are
 * durable here before the next beat says that they have come.
 *
 * Losses are forgotten by the storage only when the beat that named them was answered. They go in
 * portions; while more are left, and after a loss, the next beat follows at once. */
#include "beat.h"

#include "durable.h"
#include "rpc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BEAT_EVERY_MS 5000u
#define BEAT_TIMEOUT_MS 5000u
#define LOST_PER_BEAT 1024u /* m_beat_req.lost */
#define REVOKED_FILE_MAX (65536u * 24)
#define TAKEN_BACK_FILE_MAX (65536u * 84)

struct beat {
    struct beat_options o;
    struct rpc *rpc;
    struct rekey rekey; /* the thread's own */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop, now;
    bool unsaved; /* the revocations on disk are not the feed's; the thread's own */
    int last;     /* outcome that was logged */
};

/* Whether there is something to take; a file that cannot be read may have said anything. */
static bool load(struct beat *b, const char *name, size_t max, struct buf *text)
{
    int r = durable_read(b->o.dir, name, max, text);
    if (r && r != -ENOENT) {
        log_printf(
            b->o.log, LOG_L_ERROR,
            "cannot read %s/%s: %s; until the metadata server answers, no capability is good "
            "past its end",
            b->o.dir, name, strerror(-r));
        feed_distrust(b->o.feed);
        b->unsaved = true;
    }
    return !r;
}

static void load_revoked(struct beat *b)
{
    struct buf text cleanup_buf = {0};
    if (!load(b, "revoked", REVOKED_FILE_MAX, &text))
        return;
    uint64_t *v = calloc(text.n / 2 + 1, sizeof *v);
    if (!v)
        abort();
    size_t n = 0;
    char *save = NULL;
    for (char *s = strtok_r((char *)text.p, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
        v[n++] = strtoull(s, NULL, 10);
    feed_set_revoked(b->o.feed, v, n);
    free(v);
}

static int save_revoked(struct beat *b)
{
    struct buf text cleanup_buf = {0};
    size_t n;
    uint64_t *v = feed_copy_revoked(b->o.feed, &n);
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%llu\n", (unsigned long long)v[i]);
    free(v);
    int r = durable_write(b->o.dir, "revoked", text.p, text.n, 0600);
    if (r)
        log_printf(b->o.log, LOG_L_ERROR, "cannot write %s/revoked: %s", b->o.dir, strerror(-r));
    return r;
}

/* Lines NAMESPACE ACCOUNT PEER UNTIL. */
static void load_taken_back(struct beat *b)
{
    struct buf text cleanup_buf = {0};
    if (!load(b, "taken-back", TAKEN_BACK_FILE_MAX, &text))
        return;
    struct m_revoked *v = calloc(text.n / 8 + 1, sizeof *v);
    if (!v)
        abort();
    size_t n = 0;
    char *save = NULL;
    for (char *s = strtok_r((char *)text.p, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
        unsigned long long x[4];
        if (sscanf(s, "%llu %llu %llu %llu", &x[0], &x[1], &x[2], &x[3]) == 4)
            v[n++] =
                (struct m_revoked){.ns = x[0], .account = x[1], .peer = x[2], .until_ms = x[3]};
    }
    feed_set_taken_back(b->o.feed, v, n);
    free(v);
}

static int save_taken_back(struct beat *b)
{
    struct buf text cleanup_buf = {0};
    size_t n;
    struct m_revoked *v = feed_copy_taken_back(b->o.feed, &n);
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%llu %llu %llu %llu\n", (unsigned long long)v[i].ns,
                   (unsigned long long)v[i].account, (unsigned long long)v[i].peer,
                   (unsigned long long)v[i].until_ms);
    free(v);
    int r = durable_write(b->o.dir, "taken-back", text.p, text.n, 0600);
    if (r)
        log_printf(b->o.log, LOG_L_ERROR, "cannot write %s/taken-back: %s", b->o.dir, strerror(-r));
    return r;
}

/* True: the metadata server is to know at once that they have come. */
static bool take_keys(struct beat *b, const struct m_beat_ans *a)
{
    if (!a->keys_n)
        return false;
    int r = keyring_set(b->o.keys, a->keys, a->keys_n);
    if (r)
        log_printf(b->o.log, LOG_L_ERROR, "cannot keep the keys that the metadata server gave: %s",
                   strerror(-r));
    else
        log_printf(b->o.log, LOG_L_INFO, "%zu keys, the newest is number %llu", a->keys_n,
                   (unsigned long long)keyring_newest(b->o.keys).id);
    return !r;
}

/* An answer came, even if it is a refusal. */
static bool reached(int err)
{
    return err == 0 || err == -EACCES || err == -EPERM || err == -ENOENT || err == -EPROTO ||
           err == -EBADMSG || err == -EMSGSIZE || err == -EIO || err == -ENOSPC;
}

static void log_change(struct beat *b, int err, const char *message)
{
    if (err == b->last)
        return;
    b->last = err;
    if (err)
        log_printf(b->o.log, LOG_L_WARN, "heartbeat: %s", message);
    else
        log_printf(b->o.log, LOG_L_INFO, "heartbeat: the metadata server answers");
}

/* Fills in what was lost; the serial of the last one, 0: none. */
static uint64_t name_lost(struct beat *b, struct m_beat_req *q, struct arena *a)
{
    struct storage *s = b->o.storage;
    struct storage_lost *v = arena_alloc(a, LOST_PER_BEAT * sizeof *v);
    size_t n;
    int r = s->ops->lost(s, v, LOST_PER_BEAT, &n);
    if (r) {
        log_printf(b->o.log, LOG_L_ERROR, "cannot read which blocks were lost: %s", strerror(-r));
        return 0;
    }
    q->lost = arena_alloc(a, (n + 1) * sizeof *q->lost);
    q->lost_n = n;
    for (size_t i = 0; i < n; i++)
        q->lost[i] =
            (struct m_lost){.ns = v[i].ns, .block = v[i].id, .generation = v[i].generation};
    return n ? v[n - 1].serial : 0;
}

/* True: there is more to tell. */
static bool forget_lost(struct beat *b, const struct m_beat_req *q, uint64_t serial)
{
    int r = tick_keep(b->o.tick); /* first: an older database will not know of them */
    if (!r)
        r = b->o.storage->ops->told(b->o.storage, serial);
    if (r)
        log_printf(b->o.log, LOG_L_ERROR, "cannot note which losses are told: %s", strerror(-r));
    else
        log_printf(b->o.log, LOG_L_WARN, "told the metadata server of %zu lost blocks", q->lost_n);
    return !r && q->lost_n == LOST_PER_BEAT;
}

/* What this storage is believed to hold is not what it holds. True: another beat should follow at
 * once. */
static bool start_over(struct beat *b, const struct m_beat_ans *a)
{
    if (a->superseded) {
        if (!feed_is_superseded(b->o.feed))
            log_printf(
                b->o.log, LOG_L_ERROR,
                "another process runs with this server's identity, and was started later: "
                "this one stores nothing more; stop the wrong one, then start the right one");
        feed_set_superseded(b->o.feed);
        return false;
    }
    int r = collect_renew(b->o.collect);
    if (r)
        log_printf(b->o.log, LOG_L_ERROR, "cannot give the storage a new incarnation: %s",
                   strerror(-r));
    else
        log_printf(
            b->o.log, LOG_L_WARN,
            "this storage was set back (a backup, a snapshot), copied, or taken out of use "
            "before, or the metadata server's database was put back to an older copy: it has "
            "a new incarnation, and what it holds is compared with what is recorded");
    return !r;
}

/* True: another one should follow at once. */
static bool beat_once(struct beat *b)
{
    struct arena a cleanup_arena = {0};
    struct storage *s = b->o.storage;
    struct storage_usage u;
    uint8_t incarnation[INCARNATION_LEN];
    char message[512] = "";
    s->ops->usage(s, &u);
    s->ops->incarnation(s, incarnation);
    struct m_beat_req q = {
        .incarnation = bytes_of(incarnation, sizeof incarnation),
        .url = bytes_str(b->o.url),
        .blocks = u.blocks,
        .used_bytes = u.bytes,
        .free_bytes = u.free_bytes,
        .run = s->run,
        .distrusts = trust_broken(&s->trust),
        .found = s->found,
        .tick = tick_get(b->o.tick),
    };
    uint64_t ids[KEYRING_MAX];
    q.keys = ids;
    q.keys_n = keyring_ids(b->o.keys, ids);
    q.check_set = check_report(b->o.check, &q.check);
    uint8_t mark[FEED_MARK_MAX];
    if (!b->unsaved) /* else it is told again */
        q.revoked_mark = bytes_of(mark, feed_mark(b->o.feed, mark));
    rekey_fill(&b->rekey, &q);
    uint64_t serial = name_lost(b, &q, &a);
    struct m_beat_ans ans;
    int64_t sent = mono_ms();
    int r = rpc_wait(b->rpc, b->o.identity->meta, "beat", &m_beat_req_desc, &q, &m_beat_ans_desc,
                     &ans, &a, BEAT_TIMEOUT_MS, message);
    if (!r)
        tick_heard(b->o.tick, ans.tick);
    if (!r)
        b->unsaved |= feed_answered(b->o.feed, &ans, sent, mono_ms());
    if (!r && b->unsaved) {
        bool failed = save_revoked(b) != 0;
        failed |= save_taken_back(b) != 0;
        b->unsaved = failed;
    }
    bool told = !r && take_keys(b, &ans);
    told |= !r && !ans.superseded && rekey_heard(&b->rekey, &ans);
    if (r)
        feed_reached(b->o.feed, reached(r));
    log_change(b, r, message);
    if (!r && (ans.superseded || ans.renew))
        return start_over(b, &ans);
    if (!r)
        collect_heard(b->o.collect, ans.collect > 0, ans.gc_grace_ms);
    if (!r)
        check_heard(b->o.check, ans.check, ans.check_read, ans.check_mend);
    bool more = !r && serial && forget_lost(b, &q, serial);
    return more || told;
}

static void *beat_main(void *arg)
{
    struct beat *b = arg;
    unsigned every = b->o.every_ms ? b->o.every_ms : BEAT_EVERY_MS;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        b->now = false;
        pthread_mutex_unlock(&b->lock);
        bool more = beat_once(b);
        pthread_mutex_lock(&b->lock);
        b->now |= more;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += every / 1000;
        until.tv_nsec += (long)(every % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        while (!b->stop && !b->now &&
               pthread_cond_timedwait(&b->wake, &b->lock, &until) != ETIMEDOUT)
            continue;
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static void release(struct beat *b)
{
    rpc_free(b->rpc);
    rekey_close(&b->rekey);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

int beat_start(struct beat **out, const struct beat_options *o)
{
    *out = NULL;
    struct beat *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->o = *o;
    b->last = 1; /* no outcome: the first one is logged */
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->wake, &attr);
    pthread_condattr_destroy(&attr);
    load_revoked(b);
    load_taken_back(b);
    b->rekey = (struct rekey){.dir = o->dir, .log = o->log, .show = o->show, .arg = o->show_arg};
    rekey_open(&b->rekey, o->identity);
    int r = rpc_new(&b->rpc, &(struct rpc_options){.ca_pem = o->identity->ca_pem,
                                                   .credential = o->identity->credential,
                                                   .log = o->log});
    if (!r)
        r = -pthread_create(&b->thread, NULL, beat_main, b);
    if (r) {
        release(b);
        return r;
    }
    *out = b;
    return 0;
}

void beat_now(struct beat *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->now = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

void beat_stop(struct beat *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    release(b);
}
