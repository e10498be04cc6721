// SPDX-License-Identifier: Apache-2.0
/* The pace is kept against a running account: after each block the thread sleeps as long as the
 * bytes read so far are ahead of the clock, but what was missed while the disk was slow is not
 * caught up with.
 *
 * DIR/scrub has a line of four words: the id after which to go on (hexadecimal; "-": no pass is
 * under way), and, in seconds since 1970, when the pass began, when the last whole one ended; and
 * what it found damaged. It is written now and then: what was read twice after a crash costs time
 * only. */
#include "scrub.h"

#include "blockid.h"
#include "durable.h"
#include "feed.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE 256
#define SAVE_BYTES (1u << 30) /* read between two records of the place … */
#define SAVE_MS 60000         /* … or so long */
#define BEHIND_MAX_MS 1000    /* more is not caught up with */
#define BLOCK_COST 4096 /* bytes that a block counts besides its own: many small ones cost too */
#define STATE_MAX 256
#define AGAIN_MS (5u * 60 * 1000)
#define DOUBTS_MAX 256

struct scrub {
    struct scrub_options o;
    pthread_t thread;
    struct storage_entry page[PAGE];
    struct block_id place; /* the last block that was looked at */
    bool under_way;
    int64_t due_ms; /* when the bytes so far may have been read */
    int64_t saved_ms;
    uint64_t unsaved;
    uint64_t found; /* in this pass */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool stop, now;
    int64_t began_s, ended_s;
    uint64_t bytes, blocks, damaged, unreadable, passes;
    double progress;
    struct doubt { /* a block that could not be read */
        struct block_id id;
        int64_t at; /* to be looked at again */
    } doubts[DOUBTS_MAX];
    size_t doubts_n;
    bool doubted; /* there is a new one */
};

/* ---- the place ----------------------------------------------------------------------------- */

static void load(struct scrub *s)
{
    struct buf text cleanup_buf = {0};
    char hex[2 * BLOCK_ID_LEN + 1];
    if (durable_read(s->o.dir, "scrub", STATE_MAX, &text) ||
        sscanf((char *)text.p, "%66s %" SCNd64 " %" SCNd64 " %" SCNu64, hex, &s->began_s,
               &s->ended_s, &s->found) != 4)
        return;
    s->under_way = strlen(hex) == sizeof hex - 1;
    for (size_t i = 0; s->under_way && i < BLOCK_ID_LEN; i++) {
        unsigned byte;
        s->under_way = sscanf(hex + 2 * i, "%2x", &byte) == 1;
        s->place.b[i] = (uint8_t)byte;
    }
}

static void save(struct scrub *s)
{
    struct buf b cleanup_buf = {0};
    for (size_t i = 0; s->under_way && i < BLOCK_ID_LEN; i++)
        buf_printf(&b, "%02x", s->place.b[i]);
    buf_printf(&b, "%s %" PRId64 " %" PRId64 " %" PRIu64 "\n", s->under_way ? "" : "-", s->began_s,
               s->ended_s, s->found);
    int r = durable_write(s->o.dir, "scrub", b.p, b.n, 0600);
    if (r)
        log_printf(s->o.log, LOG_L_WARN, "cannot write %s/scrub: %s", s->o.dir, strerror(-r));
    s->saved_ms = mono_ms();
    s->unsaved = 0;
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* Until then, or until there is something to do; false: the end has come. */
static bool wait_until(struct scrub *s, int64_t mono, bool for_now)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stop && !(for_now && (s->now || s->doubted))) {
        int64_t left = mono - mono_ms();
        if (left <= 0)
            break;
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += (time_t)(left / 1000);
        t.tv_nsec += (long)(left % 1000) * 1000000;
        if (t.tv_nsec >= 1000000000) {
            t.tv_sec++;
            t.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&s->wake, &s->lock, &t);
    }
    bool go_on = !s->stop;
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

/* So many bytes were read: waits as the pace says. */
static bool pace(struct scrub *s, uint64_t n)
{
    int64_t now = mono_ms();
    if (s->due_ms < now - BEHIND_MAX_MS)
        s->due_ms = now - BEHIND_MAX_MS;
    s->due_ms += (int64_t)((n + BLOCK_COST) * 1000 / s->o.rate);
    return wait_until(s, s->due_ms, false);
}

/* While what is read cannot be judged by; false: the end has come. */
static bool wait_for_trust(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stop && trust_broken(&s->o.storage->trust))
        pthread_cond_wait(&s->wake, &s->lock); /* scrub_now, after trust_again */
    bool go_on = !s->stop;
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

/* ---- a pass -------------------------------------------------------------------------------- */

/* Looks at the block and tells what is wrong. */
static void look(struct scrub *s, const struct block_id *id)
{
    int r = s->o.storage->ops->set_aside(s->o.storage, id);
    pthread_mutex_lock(&s->lock);
    s->damaged += !r;
    s->unreadable += r && r != -EALREADY;
    pthread_mutex_unlock(&s->lock);
    if (r && r != -EALREADY)
        scrub_doubt(s, id);
    s->found += !r;
    if (r != -EALREADY)
        s->o.lost(s->o.arg, id, r);
}

static void look_at(struct scrub *s, const struct storage_entry *e)
{
    look(s, &e->id);
    s->place = e->id;
    s->unsaved += e->stored_len;
    pthread_mutex_lock(&s->lock);
    s->blocks++;
    s->bytes += e->stored_len;
    s->progress = (e->id.b[1] * 256.0 + e->id.b[2]) / 65536;
    pthread_mutex_unlock(&s->lock);
}

/* Takes one that is to be looked at again now. */
static bool take_doubt(struct scrub *s, struct block_id *id)
{
    bool found = false;
    int64_t now = mono_ms();
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->doubts_n && !found; i++) {
        if (s->doubts[i].at > now)
            continue;
        *id = s->doubts[i].id;
        s->doubts[i] = s->doubts[--s->doubts_n];
        found = true;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void look_at_doubts(struct scrub *s)
{
    struct block_id id;
    while (take_doubt(s, &id))
        look(s, &id);
}

static void begin(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    s->began_s = wall_ms() / 1000;
    s->now = false;
    pthread_mutex_unlock(&s->lock);
    s->under_way = true;
    s->found = 0;
    memset(&s->place, 0, sizeof s->place);
    save(s);
}

static void end(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    s->ended_s = wall_ms() / 1000;
    s->passes++;
    s->progress = 1;
    pthread_mutex_unlock(&s->lock);
    s->under_way = false;
    save(s);
    log_printf(s->o.log, s->found ? LOG_L_WARN : LOG_L_INFO,
               "scrub: all that is stored was read in %" PRId64 " s; %" PRIu64 " blocks damaged",
               s->ended_s - s->began_s, s->found);
}

/* Goes on with the pass that is under way, to its end; false: told to stop. */
static bool go_through(struct scrub *s)
{
    for (;;) {
        size_t n;
        int r = s->o.storage->ops->after(s->o.storage, &s->place, s->page, PAGE, &n);
        if (r) {
            log_printf(s->o.log, LOG_L_ERROR, "scrub: the index cannot be read");
            if (!wait_until(s, mono_ms() + SAVE_MS, false))
                return false;
            continue;
        }
        if (!n)
            return true;
        for (size_t i = 0; i < n; i++) {
            look_at(s, &s->page[i]);
            if (s->unsaved >= SAVE_BYTES || mono_ms() - s->saved_ms >= SAVE_MS)
                save(s);
            look_at_doubts(s);
            if (!pace(s, s->page[i].stored_len) || !wait_for_trust(s))
                return false;
        }
    }
}

/* When the next pass is due, by the monotonic clock: this machine's calendar may have been set. */
static int64_t next_pass(struct scrub *s)
{
    int64_t left = s->began_s + s->o.interval_s - wall_ms() / 1000;
    int64_t most = s->o.interval_s;
    return mono_ms() + (left < 0 ? 0 : left > most ? most : left) * 1000;
}

/* Between two passes; false: the end has come. */
static bool rest(struct scrub *s)
{
    int64_t next = next_pass(s);
    for (;;) {
        if (!wait_for_trust(s))
            return false;
        look_at_doubts(s);
        pthread_mutex_lock(&s->lock);
        int64_t until = next;
        for (size_t i = 0; i < s->doubts_n; i++)
            until = s->doubts[i].at < until ? s->doubts[i].at : until;
        s->doubted = false;
        pthread_mutex_unlock(&s->lock);
        if (!wait_until(s, until, true))
            return false;
        pthread_mutex_lock(&s->lock);
        bool begin_now = s->now;
        pthread_mutex_unlock(&s->lock);
        if (begin_now || mono_ms() >= next)
            return true;
    }
}

static void *scrub_main(void *arg)
{
    struct scrub *s = arg;
    s->saved_ms = s->due_ms = mono_ms();
    while (s->under_way || rest(s)) {
        if (!s->under_way)
            begin(s);
        if (!go_through(s))
            break;
        end(s);
    }
    if (s->under_way)
        save(s);
    return NULL;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void release(struct scrub *s)
{
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int scrub_start(struct scrub **out, const struct scrub_options *o)
{
    *out = NULL;
    if (!o->rate)
        return 0;
    struct scrub *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->o = *o;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    load(s);
    int r = -pthread_create(&s->thread, NULL, scrub_main, s);
    if (r) {
        release(s);
        return r;
    }
    *out = s;
    return 0;
}

void scrub_now(struct scrub *s)
{
    if (!s)
        return;
    trust_again(&s->o.storage->trust);
    pthread_mutex_lock(&s->lock);
    s->now = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

void scrub_doubt(struct scrub *s, const struct block_id *id)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    size_t i = 0;
    while (i < s->doubts_n && !block_id_equal(&s->doubts[i].id, id))
        i++;
    if (i == s->doubts_n && i < DOUBTS_MAX) {
        s->doubts[s->doubts_n++] =
            (struct doubt){.id = *id, .at = mono_ms() + (s->o.again_ms ? s->o.again_ms : AGAIN_MS)};
        s->doubted = true;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
}

void scrub_print(struct scrub *s, struct buf *out)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    const struct {
        const char *name, *type;
        uint64_t value;
    } lines[] = {
        {"bytes_total", "counter", s->bytes},
        {"blocks_total", "counter", s->blocks},
        {"damaged_total", "counter", s->damaged},
        {"unreadable_total", "counter", s->unreadable},
        {"passes_total", "counter", s->passes},
        {"last_pass_begin_seconds", "gauge", (uint64_t)s->began_s},
        {"last_pass_end_seconds", "gauge", (uint64_t)s->ended_s},
        {"progress_percent", "gauge", (uint64_t)(100 * s->progress)},
    };
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        buf_printf(out, "# TYPE steadfs_blockd_scrub_%s %s\nsteadfs_blockd_scrub_%s %" PRIu64 "\n",
                   lines[i].name, lines[i].type, lines[i].name, lines[i].value);
}

void scrub_stop(struct scrub *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    release(s);
}
