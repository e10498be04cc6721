// SPDX-License-Identifier: Apache-2.0
/* The notifier delivers in order and without doubles in a row, sets aside what would wait, tells an
 * unknown inode again, says when it is behind, and ends at once with a full queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
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
    atomic_uint blocked, unknown; /* a directory; how often inodes are not known */
    atomic_uint again;            /* how often a recheck is asked for again */
    atomic_uint marks;
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

static int inode(void *ctx, uint64_t nodeid, int64_t off)
{
    struct seen *s = ctx;
    pthread_mutex_lock(&s->hold);
    pthread_mutex_lock(&s->lock);
    buf_printf(&s->text, "i%d:%d ", (int)nodeid, (int)off);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->hold);
    s->n++;
    if (off == NOTIFY_RECHECK)
        return s->again > 0 && s->again-- > 0 ? -EAGAIN : 0;
    return s->unknown > 0 && s->unknown-- > 0 ? -ENOENT : 0;
}

static bool blocked(void *ctx, bool is_entry, uint64_t nodeid)
{
    struct seen *s = ctx;
    return is_entry && s->blocked == nodeid;
}

static void passed(void *ctx)
{
    ((struct seen *)ctx)->marks++;
}

static void start_with(struct seen *s, struct notify **n, size_t aside_max)
{
    *s = (struct seen){.hold = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct notify_sink sink = {s, entry, inode, blocked, passed, aside_max};
    assert_int_equal(notify_new(n, &sink), 0);
}

static void start(struct seen *s, struct notify **n)
{
    start_with(s, n, 0);
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
    notify_entry(n, 1, bytes_str("x")); /* taken at once, and held */
    usleep(50000);
    notify_entry(n, 2, bytes_str("a"));
    notify_entry(n, 2, bytes_str("a"));
    notify_entry(n, 2, bytes_str("b"));
    notify_entry(n, 3, bytes_str("a"));
    pthread_mutex_unlock(&s.hold);
    wait_for(&s, 4);
    notify_free(n);
    buf_append(&s.text, "", 1);
    assert_string_equal((char *)s.text.p, "e1:x e2:a e2:b e3:a ");
    buf_free(&s.text);
}

/* … from when it is asked for until the kernel has taken it. */
static void what_was_not_passed_on_waits(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    assert_false(notify_entry_waits(n, 2, bytes_str("a")));
    pthread_mutex_lock(&s.hold);
    notify_entry(n, 2, bytes_str("a")); /* taken, and held */
    notify_entry(n, 3, bytes_str("a"));
    notify_inode(n, 4, 0);
    assert_true(notify_entry_waits(n, 2, bytes_str("a")));
    assert_true(notify_entry_waits(n, 3, bytes_str("a")));
    assert_false(notify_entry_waits(n, 3, bytes_str("b")));
    assert_false(notify_entry_waits(n, 4, bytes_str("")));
    pthread_mutex_unlock(&s.hold);
    wait_for(&s, 3);
    notify_entry(n, 5, bytes_str("z")); /* its call ends only when theirs has */
    wait_for(&s, 4);
    assert_false(notify_entry_waits(n, 2, bytes_str("a")));
    assert_false(notify_entry_waits(n, 3, bytes_str("a")));
    s.blocked = 6;
    notify_entry(n, 6, bytes_str("a")); /* set aside */
    notify_entry(n, 7, bytes_str("z"));
    wait_for(&s, 5);
    assert_true(notify_entry_waits(n, 6, bytes_str("a")));
    notify_free(n);
    buf_free(&s.text);
}

static void what_would_wait_is_set_aside(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    s.blocked = 2;
    notify_entry(n, 2, bytes_str("a"));
    notify_entry(n, 3, bytes_str("a"));
    wait_for(&s, 1);
    notify_unblocked(n); /* another request */
    usleep(20000);
    assert_int_equal(s.n, 1);
    s.blocked = 0;
    notify_unblocked(n);
    wait_for(&s, 2);
    notify_free(n);
    buf_append(&s.text, "", 1);
    assert_string_equal((char *)s.text.p, "e3:a e2:a ");
    buf_free(&s.text);
}

static void marks_are_passed_behind_what_came_before(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    pthread_mutex_lock(&s.hold);
    notify_entry(n, 1, bytes_str("x"));
    notify_inode(n, 1, 0);
    uint64_t first = notify_mark(n), second = notify_mark(n);
    assert_true(second > first);
    usleep(20000);
    assert_true(notify_passed(n) < first);
    pthread_mutex_unlock(&s.hold);
    for (int i = 0; i < 5000 && s.marks < 4; i++) /* two in each line */
        usleep(1000);
    assert_int_equal(s.marks, 4);
    assert_int_equal(notify_passed(n), second);
    assert_int_equal(s.n, 2);
    s.blocked = 2; /* what is set aside holds it up, and nothing behind it */
    notify_entry(n, 2, bytes_str("a"));
    uint64_t third = notify_mark(n);
    notify_entry(n, 3, bytes_str("b"));
    wait_for(&s, 3);
    for (int i = 0; i < 5000 && s.marks < 5; i++) /* that of the other line */
        usleep(1000);
    assert_int_equal(s.marks, 5);
    assert_int_equal(notify_passed(n), second);
    s.blocked = 0;
    notify_unblocked(n);
    for (int i = 0; i < 5000 && s.marks < 6; i++)
        usleep(1000);
    assert_int_equal(notify_passed(n), third);
    assert_int_equal(s.n, 4);
    notify_free(n);
    buf_free(&s.text);
}

static void unknown_inode_is_told_again(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    s.unknown = 3;
    notify_inode(n, 1, -1);
    wait_for(&s, 4);
    usleep(50000);
    assert_int_equal(s.n, 4);
    notify_free(n);
    buf_free(&s.text);
}

static void rechecks_come_later_and_again(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    s.again = 1;
    notify_recheck(n, 5);
    notify_inode(n, 6, -1); /* asked for after it, and passed on before it */
    wait_for(&s, 3);
    notify_free(n);
    buf_append(&s.text, "", 1);
    assert_string_equal((char *)s.text.p, "i6:-1 i5:-2 i5:-2 ");
    buf_free(&s.text);
}

static void full_queue(void **state)
{
    (void)state;
    struct seen s;
    struct notify *n;
    start(&s, &n);
    pthread_mutex_lock(&s.hold);
    for (uint64_t i = 0; i < NOTIFY_MAX + 10; i++) {
        assert_true(i >= NOTIFY_MAX || notify_has_room(n));
        notify_inode(n, i, 0);
    }
    assert_false(notify_has_room(n));
    pthread_mutex_unlock(&s.hold);
    wait_for(&s, 20);
    for (int i = 0; i < 5000 && !notify_has_room(n); i++)
        usleep(1000);
    assert_true(notify_has_room(n));
    notify_free(n);
    buf_free(&s.text);
}

static bool room_becomes(struct notify *n, bool yes)
{
    for (int i = 0; i < 5000 && notify_has_room(n) != yes; i++)
        usleep(1000);
    return notify_has_room(n) == yes;
}

static void full_of_what_is_set_aside(void **state)
{
    (void)state;
    enum { ASIDE = 100 };
    struct seen s;
    struct notify *n;
    start_with(&s, &n, ASIDE);
    s.blocked = 7;
    for (int i = 0; i < ASIDE; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%d", i);
        notify_entry(n, 7, bytes_str(name));
    }
    assert_true(room_becomes(n, false));
    s.blocked = 0;
    notify_unblocked(n);
    wait_for(&s, ASIDE);
    assert_true(room_becomes(n, true));
    notify_free(n);
    buf_free(&s.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(what_was_not_passed_on_waits),
        cmocka_unit_test(marks_are_passed_behind_what_came_before),
        cmocka_unit_test(what_would_wait_is_set_aside),
        cmocka_unit_test(unknown_inode_is_told_again),
        cmocka_unit_test(rechecks_come_later_and_again),
        cmocka_unit_test(full_queue),
        cmocka_unit_test(full_of_what_is_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
