// SPDX-License-Identifier: Apache-2.0
/* A list under a mutex. What is queued can pass NOTIFY_MAX by what one applied record makes; then
 * the one who applies the next record waits (notify_wait_room). */
#include "notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct item {
    TAILQ_ENTRY(item) link;
    uint64_t nodeid;
    int64_t off;
    bool entry;
    size_t len;
    char name[];
};

TAILQ_HEAD(items, item);

struct notify {
    struct notify_sink sink;
    pthread_mutex_t lock;
    pthread_cond_t wake, room;
    struct items queue;
    size_t n;
    bool stop;
    pthread_t thread;
};

static void *deliver(void *arg)
{
    struct notify *n = arg;
    pthread_mutex_lock(&n->lock);
    while (!n->stop) {
        struct item *i = TAILQ_FIRST(&n->queue);
        if (i == NULL) {
            pthread_cond_wait(&n->wake, &n->lock);
            continue;
        }
        TAILQ_REMOVE(&n->queue, i, link);
        if (--n->n < NOTIFY_MAX)
            pthread_cond_broadcast(&n->room);
        pthread_mutex_unlock(&n->lock);
        if (i->entry)
            n->sink.entry(n->sink.ctx, i->nodeid, i->name, i->len);
        else
            n->sink.inode(n->sink.ctx, i->nodeid, i->off);
        free(i);
        pthread_mutex_lock(&n->lock);
    }
    pthread_cond_broadcast(&n->room);
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

int notify_new(struct notify **out, const struct notify_sink *sink)
{
    struct notify *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return -ENOMEM;
    n->sink = *sink;
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->wake, NULL);
    pthread_cond_init(&n->room, NULL);
    TAILQ_INIT(&n->queue);
    int rc = pthread_create(&n->thread, NULL, deliver, n);
    if (rc != 0) {
        free(n);
        return -rc;
    }
    *out = n;
    return 0;
}

void notify_free(struct notify *n)
{
    if (n == NULL)
        return;
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_cond_broadcast(&n->wake);
    pthread_mutex_unlock(&n->lock);
    pthread_join(n->thread, NULL);
    struct item *i;
    while ((i = TAILQ_FIRST(&n->queue)) != NULL) {
        TAILQ_REMOVE(&n->queue, i, link);
        free(i);
    }
    pthread_cond_destroy(&n->wake);
    pthread_cond_destroy(&n->room);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static void add(struct notify *n, bool entry, uint64_t nodeid, int64_t off, struct bytes name)
{
    pthread_mutex_lock(&n->lock);
    struct item *last = TAILQ_LAST(&n->queue, items);
    if (last != NULL && last->entry == entry && last->nodeid == nodeid && last->off == off &&
        last->len == name.n &&
        memcmp(last->name, name.p != NULL ? name.p : (const void *)"", name.n) == 0) {
        pthread_mutex_unlock(&n->lock);
        return;
    }
    struct item *i = malloc(sizeof(*i) + name.n + 1);
    if (i == NULL)
        abort();
    i->entry = entry;
    i->nodeid = nodeid;
    i->off = off;
    i->len = name.n;
    if (name.n > 0)
        memcpy(i->name, name.p, name.n);
    i->name[name.n] = '\0';
    TAILQ_INSERT_TAIL(&n->queue, i, link);
    n->n++;
    pthread_cond_signal(&n->wake);
    pthread_mutex_unlock(&n->lock);
}

void notify_entry(struct notify *n, uint64_t parent, struct bytes name)
{
    add(n, true, parent, 0, name);
}

void notify_inode(struct notify *n, uint64_t nodeid, int64_t off)
{
    add(n, false, nodeid, off, (struct bytes){0});
}

void notify_wait_room(struct notify *n, pthread_mutex_t *lock)
{
    pthread_mutex_lock(&n->lock);
    if (n->n < NOTIFY_MAX || n->stop) {
        pthread_mutex_unlock(&n->lock);
        return;
    }
    pthread_mutex_unlock(lock);
    while (n->n >= NOTIFY_MAX && !n->stop)
        pthread_cond_wait(&n->room, &n->lock);
    pthread_mutex_unlock(&n->lock);
    pthread_mutex_lock(lock);
}
