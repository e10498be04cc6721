// SPDX-License-Identifier: Apache-2.0
/* The metadata server's clock is kept as its reading at an instant of the monotonic clock: the
 * middle of the question's round trip. So setting this machine's calendar moves nothing. */
#include "feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct feed {
    pthread_mutex_t lock;
    bool reached, clock_known;
    bool incomplete; /* feed_distrust */
    bool superseded;
    int64_t meta_ms, at_mono;
    uint8_t mark[FEED_MARK_MAX]; /* of what the last answer told to be revoked; 0 bytes: none */
    size_t mark_n;
    uint64_t *revoked; /* rising */
    size_t revoked_n;
    struct m_revoked *taken_back; /* by namespace, account, peer, rising */
    size_t taken_back_n;
};

static int64_t clock_ms(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t mono_ms(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}

int64_t wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

struct feed *feed_new(void)
{
    struct feed *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void feed_free(struct feed *f)
{
    if (!f)
        return;
    pthread_mutex_destroy(&f->lock);
    free(f->revoked);
    free(f->taken_back);
    free(f);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t *sorted_copy(const uint64_t *v, size_t n)
{
    uint64_t *copy = calloc(n ? n : 1, sizeof *copy);
    if (!copy)
        abort();
    if (n)
        memcpy(copy, v, n * sizeof *copy);
    qsort(copy, n, sizeof *copy, by_number);
    return copy;
}

static bool set_revoked_locked(struct feed *f, const uint64_t *devices, size_t n)
{
    uint64_t *fresh = sorted_copy(devices, n);
    bool same = n == f->revoked_n && (!n || !memcmp(fresh, f->revoked, n * sizeof *fresh));
    free(f->revoked);
    f->revoked = fresh;
    f->revoked_n = n;
    return !same;
}

/* ---- capabilities that were taken back ------------------------------------------------------- */
static int by_scope(const void *a, const void *b)
{
    const struct m_revoked *x = a, *y = b;
    if (x->ns != y->ns)
        return x->ns < y->ns ? -1 : 1;
    if (x->account != y->account)
        return x->account < y->account ? -1 : 1;
    return x->peer < y->peer ? -1 : x->peer > y->peer;
}

/* Of one scope the latest end counts: the metadata server's rows may be of this block server alone,
 * or of all. Sorted; how many are left. */
static size_t latest_ends(struct m_revoked *v, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!kept || by_scope(&v[kept - 1], &v[i]) != 0)
            v[kept++] = v[i];
        else if (v[i].until_ms > v[kept - 1].until_ms)
            v[kept - 1].until_ms = v[i].until_ms;
    }
    return kept;
}

static bool set_taken_back_locked(struct feed *f, const struct m_revoked *v, size_t n)
{
    struct m_revoked *fresh = calloc(n ? n : 1, sizeof *fresh);
    if (!fresh)
        abort();
    if (n)
        memcpy(fresh, v, n * sizeof *fresh);
    qsort(fresh, n, sizeof *fresh, by_scope);
    n = latest_ends(fresh, n);
    bool same = n == f->taken_back_n && (!n || !memcmp(fresh, f->taken_back, n * sizeof *fresh));
    free(f->taken_back);
    f->taken_back = fresh;
    f->taken_back_n = n;
    return !same;
}

void feed_set_taken_back(struct feed *f, const struct m_revoked *v, size_t n)
{
    pthread_mutex_lock(&f->lock);
    set_taken_back_locked(f, v, n);
    pthread_mutex_unlock(&f->lock);
}

struct m_revoked *feed_copy_taken_back(struct feed *f, size_t *n)
{
    pthread_mutex_lock(&f->lock);
    struct m_revoked *copy = calloc(f->taken_back_n + 1, sizeof *copy);
    if (!copy)
        abort();
    *n = f->taken_back_n;
    if (*n)
        memcpy(copy, f->taken_back, *n * sizeof *copy);
    pthread_mutex_unlock(&f->lock);
    return copy;
}

bool feed_is_taken_back(struct feed *f, const struct m_capability *c)
{
    bool taken = false;
    pthread_mutex_lock(&f->lock);
    for (unsigned any = 0; any < 8 && f->taken_back_n && !taken; any++) { /* each may be any: 0 */
        struct m_revoked scope = {.ns = any & 1 ? 0 : c->ns,
                                  .account = any & 2 ? 0 : c->account,
                                  .peer = any & 4 ? 0 : c->peer};
        const struct m_revoked *found =
            bsearch(&scope, f->taken_back, f->taken_back_n, sizeof scope, by_scope);
        taken = found && (found->ns || found->peer) && c->expiry_ms <= found->until_ms;
    }
    pthread_mutex_unlock(&f->lock);
    return taken;
}

bool feed_answered(struct feed *f, const struct m_beat_ans *a, int64_t sent_mono, int64_t came_mono)
{
    pthread_mutex_lock(&f->lock);
    f->reached = f->clock_known = true;
    f->incomplete = false;
    f->meta_ms = (int64_t)a->now_ms;
    f->at_mono = sent_mono + (came_mono - sent_mono) / 2;
    bool told = f->mark_n && a->revoked_mark.n == f->mark_n &&
                !memcmp(a->revoked_mark.p, f->mark, f->mark_n);
    bool changed = !told && set_revoked_locked(f, a->revoked_devices, a->revoked_devices_n);
    changed |= !told && set_taken_back_locked(f, a->revoked, a->revoked_n);
    f->mark_n = a->revoked_mark.n <= sizeof f->mark ? a->revoked_mark.n : 0;
    if (f->mark_n)
        memcpy(f->mark, a->revoked_mark.p, f->mark_n);
    pthread_mutex_unlock(&f->lock);
    return changed;
}

size_t feed_mark(struct feed *f, uint8_t mark[FEED_MARK_MAX])
{
    pthread_mutex_lock(&f->lock);
    size_t n = f->mark_n;
    memcpy(mark, f->mark, n);
    pthread_mutex_unlock(&f->lock);
    return n;
}

void feed_reached(struct feed *f, bool reached)
{
    pthread_mutex_lock(&f->lock);
    f->reached = reached;
    pthread_mutex_unlock(&f->lock);
}

bool feed_is_reached(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    bool reached = f->reached;
    pthread_mutex_unlock(&f->lock);
    return reached;
}

void feed_distrust(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    f->incomplete = true;
    f->mark_n = 0;
    pthread_mutex_unlock(&f->lock);
}

bool feed_is_complete(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    bool complete = !f->incomplete;
    pthread_mutex_unlock(&f->lock);
    return complete;
}

void feed_set_superseded(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    f->superseded = true;
    pthread_mutex_unlock(&f->lock);
}

bool feed_is_superseded(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    bool superseded = f->superseded;
    pthread_mutex_unlock(&f->lock);
    return superseded;
}

int64_t feed_now_ms(struct feed *f, int64_t mono, int64_t wall)
{
    pthread_mutex_lock(&f->lock);
    int64_t now = f->clock_known ? f->meta_ms + (mono - f->at_mono) : wall;
    pthread_mutex_unlock(&f->lock);
    return now;
}

void feed_set_revoked(struct feed *f, const uint64_t *devices, size_t n)
{
    pthread_mutex_lock(&f->lock);
    set_revoked_locked(f, devices, n);
    pthread_mutex_unlock(&f->lock);
}

uint64_t *feed_copy_revoked(struct feed *f, size_t *n)
{
    pthread_mutex_lock(&f->lock);
    uint64_t *copy = sorted_copy(f->revoked, f->revoked_n);
    *n = f->revoked_n;
    pthread_mutex_unlock(&f->lock);
    return copy;
}

bool feed_is_revoked(struct feed *f, uint64_t device)
{
    pthread_mutex_lock(&f->lock);
    bool revoked =
        f->revoked_n && bsearch(&device, f->revoked, f->revoked_n, sizeof device, by_number);
    pthread_mutex_unlock(&f->lock);
    return revoked;
}
