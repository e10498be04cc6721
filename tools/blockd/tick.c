// SPDX-License-Identifier: Apache-2.0
#include "tick.h"

#include "durable.h"
#include "feed.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NONE 1 /* nothing was told yet */
#define OWNER_LEN 16
#define FILE_MAX 64
#define KEEP_EVERY_MS 60000

struct tick {
    const char *dir;
    char owner[OWNER_LEN + 1];
    struct log *log;
    pthread_mutex_t lock; /* guards what follows, and the file */
    uint64_t heard, kept;
    int64_t kept_ms;
};

static void load(struct tick *t)
{
    struct buf text cleanup_buf = {0};
    char owner[OWNER_LEN + 1];
    uint64_t value;
    int r = t->dir ? durable_read(t->dir, "tick", FILE_MAX, &text) : -ENOENT;
    if (r && r != -ENOENT)
        log_printf(t->log, LOG_L_ERROR, "cannot read %s/tick: %s", t->dir, strerror(-r));
    if (!r && sscanf((char *)text.p, "%16s %" SCNu64, owner, &value) == 2 &&
        !strcmp(owner, t->owner) && value > TICK_NONE && value <= INT64_MAX)
        t->heard = t->kept = value;
}

struct tick *tick_new(const char *dir, const char *credential, struct log *log)
{
    struct tick *t = calloc(1, sizeof *t);
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned n;
    if (!t || EVP_Digest(credential, strlen(credential), hash, &n, EVP_sha256(), NULL) != 1)
        abort();
    for (size_t i = 0; i < OWNER_LEN / 2; i++)
        snprintf(t->owner + 2 * i, 3, "%02x", hash[i]);
    t->dir = dir;
    t->log = log;
    t->heard = t->kept = TICK_NONE;
    t->kept_ms = mono_ms();
    pthread_mutex_init(&t->lock, NULL);
    load(t);
    return t;
}

uint64_t tick_get(struct tick *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t heard = t->heard;
    pthread_mutex_unlock(&t->lock);
    return heard;
}

/* [locked] */
static int keep(struct tick *t)
{
    struct buf b cleanup_buf = {0};
    if (!t->dir || t->kept == t->heard)
        return 0;
    buf_printf(&b, "%s %" PRIu64 "\n", t->owner, t->heard);
    int r = durable_write(t->dir, "tick", b.p, b.n, 0600);
    if (r)
        log_printf(t->log, LOG_L_ERROR, "cannot write %s/tick: %s", t->dir, strerror(-r));
    else
        t->kept = t->heard;
    t->kept_ms = mono_ms();
    return r;
}

void tick_heard(struct tick *t, uint64_t tick)
{
    pthread_mutex_lock(&t->lock);
    if (tick > t->heard && tick <= INT64_MAX)
        t->heard = tick;
    if (mono_ms() - t->kept_ms >= KEEP_EVERY_MS)
        keep(t);
    pthread_mutex_unlock(&t->lock);
}

int tick_keep(struct tick *t)
{
    pthread_mutex_lock(&t->lock);
    int r = keep(t);
    pthread_mutex_unlock(&t->lock);
    return r;
}

void tick_free(struct tick *t)
{
    if (!t)
        return;
    tick_keep(t);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
