// SPDX-License-Identifier: Apache-2.0
/* The notifier delivers in order and without doubles in a row, holds back who is too fast, and ends
 * at once with a full queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "notify.h"

struct seen {
    pthread_mutex_t hold; /* a kernel that makes the notifier wait */
    pthread_mutex_t lock;
    struct buf text;
    atomic_size_t n;
};

static void entry(void *ctx, uint64_t parent, const char *name, size_t len)
{
    struct seen *s = ctx;
    pthread_mutex_lock(&s->hold);
    pthread_mutex_lock(&s->lock);
    buf_printf(&s->text, "e%d:%.*s ", (int)parent, (int)len, name);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->hold);
    s->n++;
}

static void inode(void *ctx, uint64_t nodeid, int64_t off)
{
    struct seen *s = ctx;
    pthread_mutex_lock(&s->hold);
    pthread_mutex_lock(&s->lock);
    buf_printf(&s->text, "i%d:%d ", (int)nodeid, (int)off);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->hold);
    s->n++;
}

static void start(struct seen *s, struct notify **n)
{
    *s = (struct seen){.hold = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct notify_sink sink = {s, entry, inode};
    assert_int_equal(notify_new(n, &sink), 0);
}

static void wait_for(struct seen *s, size_t n)
{
    for (int i = 0; i < 5000 && s->n < n; i++)
        usleep(1000);
    assert_true(s->n >= n);
}

static void order(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    pthread_mutex_lock(&s.hold);
    notify_inode(n, 1, -1); /* taken at once, and held */
    usleep(50000);
    notify_entry(n, 2, bytes_str("a"));
    notify_entry(n, 2, bytes_str("a"));
    notify_entry(n, 2, bytes_str("b"));
    notify_inode(n, 3, 0);
    pthread_mutex_unlock(&s.hold);
    wait_for(&s, 4);
    notify_free(n);
    buf_append(&s.text, "", 1);
    assert_string_equal((char *)s.text.p, "i1:-1 e2:a e2:b i3:0 ");
    buf_free(&s.text);
}

struct waiter {
    struct notify *n;
    pthread_mutex_t lock;
    atomic_bool through;
};

static void *wait_room(void *arg)
{
    struct waiter *w = arg;
    pthread_mutex_lock(&w->lock);
    notify_wait_room(w->n, &w->lock);
    w->through = true;
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void full_queue(void **state)
{
    (void)state;
    struct seen s;
    struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t t;
    start(&s, &w.n);
    pthread_mutex_lock(&s.hold);
    for (uint64_t i = 0; i < NOTIFY_MAX + 10; i++)
        notify_inode(w.n, i, 0);
    assert_int_equal(pthread_create(&t, NULL, wait_room, &w), 0);
    usleep(50000);
    assert_false(w.through);
    pthread_mutex_lock(&w.lock); /* given back while it waits */
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_unlock(&s.hold);
    pthread_join(t, NULL);
    assert_true(w.through);
    notify_free(w.n);
    buf_free(&s.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order), cmocka_unit_test(full_queue)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
