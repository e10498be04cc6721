// SPDX-License-Identifier: Apache-2.0
/* Held requests against a stand-in for httpd: who is answered, when, with what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "waiters.h"

/* ---- the stand-in ------------------------------------------------------------------------- */

struct httpd_timer {
    void (*fn)(void *arg);
    void *arg;
    unsigned ms;
    bool set;
};
struct httpd_req {
    struct arena arena;
    unsigned answers;
    size_t changed_n;
    struct m_watch changed[8];
    bool locks;
};
struct httpd {
    bool draining;
    struct httpd_timer timers[20000];
    size_t timers_n;
};

struct arena *httpd_arena(struct httpd_req *q)
{
    return &q->arena;
}

bool httpd_draining(const struct httpd *h)
{
    return h->draining;
}

struct httpd_timer *httpd_timer(struct httpd *h, unsigned ms, void (*fn)(void *arg), void *arg)
{
    struct httpd_timer *t = &h->timers[h->timers_n++];
    *t = (struct httpd_timer){fn, arg, ms, true};
    return t;
}

void httpd_timer_cancel(struct httpd_timer *t)
{
    assert_true(t->set);
    t->set = false;
}

void httpd_reply_msg(struct httpd_req *q, const struct msg_desc *d, const void *msg)
{
    const struct m_wait_ans *a = msg;
    assert_ptr_equal(d, &m_wait_ans_desc);
    q->answers++;
    q->changed_n = a->changed_n;
    q->locks = a->locks;
    for (size_t i = 0; i < a->changed_n && i < 8; i++)
        q->changed[i] = a->changed[i];
    arena_free(&q->arena); /* as httpd does: whoever still looks into it is caught by ASan */
}

/* ---- tests --------------------------------------------------------------------------------------
 */

struct fixture {
    struct httpd httpd;
    struct waiters *w;
    struct httpd_req reqs[16];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->w = waiters_new(&f->httpd);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    waiters_release(f->w);
    waiters_free(f->w);
    free(f);
    return 0;
}

/* Request i of the device waits for namespaces 1..n, each above sjid. */
static struct httpd_req *hold(struct fixture *f, size_t i, uint64_t device, size_t n, uint64_t sjid)
{
    struct httpd_req *q = &f->reqs[i];
    struct m_wait_req m = {.watch_n = n};
    m.watch = arena_alloc(&q->arena, n * sizeof *m.watch);
    for (size_t k = 0; k < n; k++)
        m.watch[k] = (struct m_watch){.ns = k + 1, .sjid = sjid};
    waiters_hold(f->w, q, &m, device);
    return q;
}

static void wakes_those_who_are_behind(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *behind = hold(f, 0, 1, 2, 4), *ahead = hold(f, 1, 2, 2, 9);
    waiters_publish(f->w, 2, 5, 5, 0);
    assert_int_equal(behind->answers, 1);
    assert_int_equal(behind->changed_n, 1);
    assert_int_equal(behind->changed[0].ns, 2);
    assert_int_equal(behind->changed[0].sjid, 5);
    assert_int_equal(ahead->answers, 0);
    waiters_publish(f->w, 1, 10, 10, 0);
    assert_int_equal(ahead->answers, 1);
    assert_int_equal(behind->answers, 1);
}

/* A lock was given to the device: it is told once, and until it has asked now and then. */
static void locks_are_news(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *held = hold(f, 0, 1, 1, 4), *other = hold(f, 1, 2, 1, 4);
    waiters_lock_news(f->w, 1, true);
    assert_int_equal(held->answers, 1);
    assert_true(held->locks);
    assert_int_equal(other->answers, 0);
    struct httpd_req *next = hold(f, 2, 1, 1, 4);
    assert_int_equal(next->answers, 0);
    struct httpd_timer *t = &f->httpd.timers[f->httpd.timers_n - 1];
    assert_int_equal(t->ms, WAIT_LOCKS_AGAIN_MS);
    t->fn(t->arg);
    assert_int_equal(next->answers, 1);
    assert_true(next->locks);
    next = hold(f, 3, 1, 1, 4);
    assert_int_equal(next->answers, 0);
    waiters_lock_news(f->w, 1, true); /* another one */
    assert_int_equal(next->answers, 1);
    waiters_lock_news(f->w, 1, true); /* while none waits */
    next = hold(f, 4, 1, 1, 4);
    assert_int_equal(next->answers, 1);
    assert_true(next->locks);
    waiters_lock_news(f->w, 1, false);
    next = hold(f, 5, 1, 1, 4);
    assert_int_equal(next->answers, 0);
    assert_true(f->httpd.timers[f->httpd.timers_n - 1].ms > WAIT_LOCKS_AGAIN_MS);
}

/* A device learns of its own commits by their answers. */
static void a_devices_own_commits_are_no_news_to_it(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *own = hold(f, 0, 1, 2, 4), *other = hold(f, 1, 2, 2, 4);
    waiters_publish(f->w, 1, 5, 7, 1);
    assert_int_equal(own->answers, 0);
    assert_int_equal(other->answers, 1);
    waiters_publish(f->w, 1, 8, 8, 1);
    assert_int_equal(own->answers, 0);
    waiters_publish(f->w, 1, 9, 9, 2);
    assert_int_equal(own->answers, 1);
    assert_int_equal(own->changed_n, 1);
    assert_int_equal(own->changed[0].sjid, 9);
    own = hold(f, 2, 1, 1, 9);
    waiters_publish(f->w, 1, 10, 12, 0); /* some of these are of others */
    assert_int_equal(own->answers, 1);
    own = hold(f, 3, 1, 1, 12);
    waiters_publish(f->w, 1, 14, 14, 1); /* 13 was not told: somebody else's */
    assert_int_equal(own->answers, 1);
}

static void late_request_sees_what_was_published(void **state)
{
    struct fixture *f = *state;
    waiters_publish(f->w, 1, 7, 7, 0);
    assert_int_equal(hold(f, 0, 1, 1, 6)->answers, 1);
    assert_int_equal(hold(f, 1, 1, 1, 7)->answers, 0);
    waiters_publish(f->w, 1, 6, 6, 0); /* an older number is no news */
    assert_int_equal(f->reqs[1].answers, 0);
}

static void one_namespace_watched_twice(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *q = &f->reqs[0];
    struct m_watch twice[] = {{.ns = 1, .sjid = 1}, {.ns = 1, .sjid = 2}};
    struct m_wait_req m = {.watch = twice, .watch_n = 2};
    waiters_hold(f->w, q, &m, 1);
    struct httpd_req *other = hold(f, 1, 2, 1, 1);
    waiters_publish(f->w, 1, 3, 3, 0);
    assert_int_equal(q->answers, 1);
    assert_int_equal(q->changed_n, 2);
    assert_int_equal(other->answers, 1);
}

static void time_runs_out(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *q = hold(f, 0, 1, 3, 1);
    struct httpd_timer *t = &f->httpd.timers[0];
    assert_in_range(t->ms, WAIT_MAX_MS - WAIT_JITTER_MS, WAIT_MAX_MS + WAIT_JITTER_MS);
    t->set = false;
    t->fn(t->arg);
    assert_int_equal(q->answers, 1);
    assert_int_equal(q->changed_n, 0);
    waiters_publish(f->w, 1, 5, 5, 0); /* nobody is left to be told */
    assert_int_equal(q->answers, 1);
}

static void a_device_holds_so_many(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < WAIT_PER_DEVICE_MAX; i++)
        hold(f, i, 1, 1, 1);
    hold(f, WAIT_PER_DEVICE_MAX, 2, 1, 1);
    assert_int_equal(f->reqs[0].answers, 0);
    hold(f, WAIT_PER_DEVICE_MAX + 1, 1, 1, 1);
    assert_int_equal(f->reqs[0].answers, 1); /* the oldest makes room */
    assert_int_equal(f->reqs[1].answers, 0);
    assert_int_equal(f->reqs[WAIT_PER_DEVICE_MAX].answers, 0);
}

static void draining_holds_nothing(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *held = hold(f, 0, 1, 1, 1);
    f->httpd.draining = true;
    waiters_release(f->w);
    assert_int_equal(held->answers, 1);
    assert_int_equal(hold(f, 1, 1, 1, 1)->answers, 1);
}

static void ten_thousand(void **state)
{
    struct fixture *f = *state;
    struct httpd_req *many = calloc(10000, sizeof *many);
    struct m_watch watch = {.ns = 1, .sjid = 1};
    struct m_wait_req m = {.watch = &watch, .watch_n = 1};
    for (size_t i = 0; i < 10000; i++)
        waiters_hold(f->w, &many[i], &m, i + 1);
    cleanup_buf struct buf text = {0};
    waiters_print(f->w, &text);
    buf_append(&text, "", 1);
    assert_non_null(strstr((char *)text.p, "steadfs_metad_waiters 10000\n"));
    waiters_publish(f->w, 1, 2, 2, 0);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(many[i].answers, 1);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(wakes_those_who_are_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(locks_are_news, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_devices_own_commits_are_no_news_to_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(late_request_sees_what_was_published, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_namespace_watched_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_runs_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_device_holds_so_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(draining_holds_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ten_thousand, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
