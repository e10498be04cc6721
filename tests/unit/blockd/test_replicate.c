// SPDX-License-Identifier: Apache-2.0
/* The log of tasks, claims, and what a block server answers to offers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "replicate_int.h"
#include "rpc.h"
#include "service.h"
#include "tasks.h"
#include "tempdir.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct block_id id_of(const char *text)
{
    struct block_id id;
    block_id_of(&id, text, strlen(text));
    return id;
}

/* ---- tasks --------------------------------------------------------------------------------- */

static struct tasks *open_tasks(const char *dir)
{
    struct tasks *t;
    char err[512];
    if (tasks_open(&t, dir, err))
        fail_msg("%s", err);
    return t;
}

static void count(void *arg, uint64_t ns, uint64_t server, uint64_t n)
{
    (void)ns, (void)server;
    *(uint64_t *)arg += n;
}

static uint64_t tasks_n(struct tasks *t)
{
    uint64_t n = 0;
    assert_int_equal(tasks_count(t, count, &n), 0);
    return n;
}

static void test_tasks(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct tasks *t = open_tasks(dir);
    struct task v[] = {{.server = 2, .block = id_of("a")},
                       {.server = 3, .block = id_of("a")},
                       {.server = 2, .block = id_of("b")}};
    struct task due[8];
    struct buf cursor = {0};
    size_t n, added;
    int64_t next;
    assert_int_equal(tasks_cursor(t, 1, &cursor), -ENOENT);
    assert_int_equal(tasks_add(t, 1, bytes_str("here"), v, 3, &added), 0);
    assert_int_equal(added, 3);
    assert_int_equal(tasks_add(t, 1, bytes_of(NULL, 0), v, 3, &added), 0); /* again: stays */
    assert_int_equal(added, 0);
    assert_int_equal(tasks_add(t, 7, bytes_of(NULL, 0), v, 1, &added), 0);
    tasks_close(t); /* kept over a restart */
    t = open_tasks(dir);
    assert_int_equal(tasks_cursor(t, 1, &cursor), 0);
    assert_true(bytes_equal(bytes_of(cursor.p, cursor.n), bytes_str("here")));
    assert_int_equal(tasks_due(t, 2, 0, 8, due, &n, &next), 0);
    assert_int_equal(n, 2); /* of the first namespace alone, the oldest first */
    assert_true(block_id_equal(&due[0].block, &v[0].block));
    assert_true(block_id_equal(&due[1].block, &v[2].block));
    assert_int_equal(due[0].ns, 1);
    assert_int_equal(tasks_done(t, due, 1), 0);
    assert_int_equal(tasks_later(t, &due[1], 1, 500), 0);
    assert_int_equal(tasks_due(t, 2, 499, 8, due, &n, &next), 0);
    assert_int_equal(n, 1);
    assert_int_equal(due[0].ns, 7);
    assert_int_equal(tasks_forget(t, 7, 2), 0);
    assert_int_equal(tasks_due(t, 2, 499, 8, due, &n, &next), 0);
    assert_int_equal(n, 0);
    assert_int_equal(next, 500);
    assert_int_equal(tasks_due(t, 2, 500, 8, due, &n, &next), 0);
    assert_int_equal(n, 1);
    tasks_close(t);
    t = open_tasks(dir); /* the clock may have begun anew */
    assert_int_equal(tasks_due(t, 2, 1, 8, due, &n, &next), 0);
    assert_int_equal(n, 1);
    assert_int_equal(tasks_forget(t, 1, 0), 0);
    assert_int_equal(tasks_n(t), 0);
    assert_int_equal(tasks_cursor(t, 1, &cursor), -ENOENT);
    buf_free(&cursor);
    tasks_close(t);
    tempdir_remove(dir);
}

static int one_step(void *arg)
{
    ++*(unsigned *)arg;
    return 0;
}

/* Steps of SQLite that looking at the log takes: how many there are, what is due, when more is. */
static unsigned looking(struct tasks *t, uint64_t want)
{
    struct task due[8];
    unsigned steps = 0;
    size_t n;
    int64_t next;
    sqlite3_progress_handler(tasks_sqlite(t), 1, one_step, &steps);
    assert_int_equal(tasks_n(t), want);
    assert_int_equal(tasks_due(t, 2, 10, 8, due, &n, &next), 0);
    assert_int_equal(n, 1);
    assert_int_equal(tasks_due(t, 3, 10, 8, due, &n, &next), 0);
    assert_int_equal(n, 0);
    assert_int_equal(next, 500);
    sqlite3_progress_handler(tasks_sqlite(t), 0, NULL, NULL);
    return steps;
}

/* A backlog of thousands that wait costs as little to look at as one of some. */
static void test_tasks_cost(void **state)
{
    (void)state;
    enum { MANY = 5000 };
    char *dir = tempdir_make();
    struct tasks *t = open_tasks(dir);
    struct task *v = calloc(MANY, sizeof *v), one = {.server = 2}, got[8];
    unsigned few = 0;
    size_t n;
    int64_t next;
    for (unsigned i = 0; i < MANY; i++) {
        v[i].server = 2 + i % 2;
        memcpy(v[i].block.b, &i, sizeof i);
    }
    for (size_t count = 10; count <= MANY; count *= 500) {
        assert_int_equal(tasks_add(t, 1, bytes_of(NULL, 0), v, count, &n), 0);
        for (uint64_t server = 2; server <= 3; server++)
            while (!tasks_due(t, server, 0, 8, got, &n, &next) && n)
                assert_int_equal(tasks_later(t, got, n, 500), 0);
        memset(one.block.b, (int)(count % 251), sizeof one.block.b);
        assert_int_equal(tasks_add(t, 9, bytes_of(NULL, 0), &one, 1, NULL), 0);
        unsigned steps = looking(t, count + 1);
        if (!few)
            few = steps;
        assert_true(steps <= few + 100);
        assert_int_equal(tasks_forget(t, 9, 2), 0);
        assert_int_equal(tasks_n(t), count);
    }
    assert_int_equal(tasks_forget(t, 1, 3), 0);
    assert_int_equal(tasks_n(t), MANY / 2);
    assert_int_equal(tasks_forget(t, 1, 0), 0);
    assert_int_equal(tasks_n(t), 0);
    tasks_close(t);
    tempdir_remove(dir);
    free(v);
}

/* A log of before has its tasks counted. */
static void test_tasks_older(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct tasks *t = open_tasks(dir);
    struct task v[3] = {{.server = 2}, {.server = 2}, {.server = 5}};
    v[1].block.b[1] = 1;
    assert_int_equal(tasks_add(t, 4, bytes_str("there"), v, 3, NULL), 0);
    assert_int_equal(
        sqlite3_exec(tasks_sqlite(t),
                     "DROP TRIGGER task_added; DROP TRIGGER task_gone;"
                     "DROP TABLE tally; DROP INDEX task_due; DROP INDEX task_due_of_ns;"
                     "CREATE INDEX task_of_server ON task (server, id);"
                     "PRAGMA user_version = 1",
                     NULL, NULL, NULL),
        SQLITE_OK);
    tasks_close(t);
    t = open_tasks(dir);
    assert_int_equal(tasks_n(t), 3);
    assert_int_equal(tasks_forget(t, 4, 2), 0);
    assert_int_equal(tasks_n(t), 1);
    tasks_close(t);
    tempdir_remove(dir);
}

static void test_tasks_damaged_or_newer(void **state)
{
    (void)state;
    char *dir = tempdir_make(), *path, err[512];
    struct tasks *t;
    assert_true(asprintf(&path, "%s/replication.db", dir) > 0);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("no database", f);
    fclose(f);
    t = open_tasks(dir); /* begun anew: the backlog has it all */
    assert_int_equal(tasks_n(t), 0);
    tasks_close(t);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(tasks_open(&t, dir, err), -EPROTO);
    assert_non_null(strstr(err, "newer"));
    free(path);
    tempdir_remove(dir);
}

/* After a failure it is tried again when the pause is over, though the next task is due later. */
static void test_rests(void **state)
{
    (void)state;
    assert_int_equal(peer_rests_until(1500, INT64_MAX, 1000), 1500);
    assert_int_equal(peer_rests_until(1500, 9000, 1000), 1500);
    assert_int_equal(peer_rests_until(1500, 0, 1000), 1500);
    assert_int_equal(peer_rests_until(0, 9000, 1000), 9000);
    assert_int_equal(peer_rests_until(900, 9000, 1000), 9000);
    assert_int_equal(peer_rests_until(0, INT64_MAX, 1000), 1000 + PEER_REST_MAX_MS);
    assert_int_equal(peer_rests_until(0, 0, 1000), 1000 + RETRY_MS); /* no busy loop */
}

/* ---- claims -------------------------------------------------------------------------------- */

#define A_MINUTE 60000

static void test_inbound(void **state)
{
    (void)state;
    struct inbound *in = inbound_new();
    struct block_id a = id_of("a"), b = id_of("b");
    assert_true(inbound_claim(in, &a, 1, 1000, A_MINUTE));
    assert_false(inbound_claim(in, &a, 2, 1001, A_MINUTE));
    assert_true(inbound_claim(in, &b, 2, 1001, A_MINUTE));
    inbound_release(in, &a);
    assert_true(inbound_claim(in, &a, 2, 1002, A_MINUTE));
    assert_true(inbound_claim(in, &b, 3, 1001 + A_MINUTE, A_MINUTE)); /* 2 has vanished */
    inbound_release(in, &a);
    inbound_release(in, &b);
    inbound_release(in, &b);
    for (int i = 0; i < INBOUND_MAX; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        struct block_id id = id_of(text);
        assert_true(inbound_claim(in, &id, 1, 1000 + i % 2 * A_MINUTE, A_MINUTE));
    }
    assert_int_equal(inbound_count(in), INBOUND_MAX);
    assert_false(inbound_claim(in, &a, 1, 1001, A_MINUTE));           /* full */
    assert_true(inbound_claim(in, &a, 1, 1000 + A_MINUTE, A_MINUTE)); /* what ran out makes room */
    assert_int_equal(inbound_count(in), INBOUND_MAX / 2 + 1);
    inbound_free(in);
}

/* A put may take as long as a slow link needs, and a second one follows: nobody else brings the
 * rest meanwhile. Who failed and asks again need not wait for its own claim to run out. */
static void test_claims_last_as_long_as_what_they_are_for(void **state)
{
    (void)state;
    struct inbound *in = inbound_new();
    struct block_id a = id_of("a"), b = id_of("b");
    int64_t slow = 2 * MOVE_BYTES / PEER_SLOWEST, most = replicate_claim_ms(UINT64_MAX);
    assert_true(replicate_claim_ms(1000) <
                2 * PEER_TIMEOUT_MS); /* little is not claimed for long */
    assert_true(most > PEER_TIMEOUT_MS + MOVE_BYTES / PEER_SLOWEST);
    assert_int_equal(replicate_claim_ms(MOVE_BYTES), most);
    assert_true(inbound_claim(in, &a, 1, 0, most));
    assert_true(inbound_claim(in, &b, 1, 0, most));
    assert_false(inbound_claim(in, &a, 2, most - 1, most));
    inbound_renew(in, 1, most - 1, most); /* a came */
    inbound_release(in, &a);
    assert_true(slow > most);
    assert_false(inbound_claim(in, &b, 2, slow, most));
    assert_true(inbound_claim(in, &b, 1, slow, most));
    inbound_renew(in, 2, 2 * most, most); /* another's says nothing of it */
    assert_true(inbound_claim(in, &b, 2, slow + most, most));
    assert_true(inbound_claim(in, &a, INBOUND_SELF, 0, most));
    assert_false(inbound_claim(in, &a, INBOUND_SELF, 1, most)); /* another thread has it */
    inbound_leave(in, 2);
    assert_true(inbound_claim(in, &b, 3, slow + most + 1, most));
    inbound_leave(in, 2); /* says nothing of what others have */
    assert_false(inbound_claim(in, &b, 1, slow + most + 2, most));
    inbound_renew(in, 2, 10 * most, most); /* what ran out is not taken up again */
    assert_true(inbound_claim(in, &b, 1, 10 * most, most));
    inbound_free(in);
}

/* ---- offers -------------------------------------------------------------------------------- */

#define SERVER 3

struct env {
    char *dir, url[64];
    struct identity identity;
    struct service s;
    struct token_key key;
    struct httpd *h;
    struct rpc *rpc;
    struct log *log;
    pthread_t thread;
};

static void *run(void *arg)
{
    httpd_run(arg);
    return NULL;
}

static int set_up(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    char err[512] = "";
    e->dir = tempdir_make();
    assert_int_equal(log_open(&e->log, "blockd", "/dev/null", NULL, LOG_L_INFO), 0);
    e->identity = (struct identity){.meta = strdup("http://127.0.0.1:9"), /* nobody is there */
                                    .credential = strdup("s.3.x"),
                                    .server = SERVER};
    e->s.log = e->log;
    e->key = (struct token_key){.id = 9, .key = {4, 5, 6}};
    e->s.access = (struct access){.server = SERVER, .feed = feed_new()};
    assert_int_equal(keyring_open(&e->s.access.keys, NULL, &e->key), 0);
    struct m_beat_ans a = {.now_ms = (uint64_t)wall_ms()};
    feed_answered(e->s.access.feed, &a, mono_ms(), mono_ms());
    assert_int_equal(storage_dir_open(&e->s.storage, e->dir, err), 0);
    struct replicate_options o = {
        .dir = e->dir, .identity = &e->identity, .storage = e->s.storage, .log = e->log};
    struct replicate *r;
    assert_int_equal(replicate_start(&r, &o, err), 0);
    e->s.replicate = r;
    struct httpd_options h = {.ctx = &e->s, .metrics = service_metrics, .name = "steadfs_blockd"};
    assert_int_equal(httpd_new(&e->h, &h, err), 0);
    service_routes(e->h);
    snprintf(e->url, sizeof e->url, "http://127.0.0.1:%u", httpd_port(e->h));
    assert_int_equal(pthread_create(&e->thread, NULL, run, e->h), 0);
    assert_int_equal(rpc_new(&e->rpc, &(struct rpc_options){0}), 0);
    *state = e;
    return 0;
}

static int tear_down(void **state)
{
    struct env *e = *state;
    rpc_free(e->rpc);
    httpd_stop(e->h, 1000);
    pthread_join(e->thread, NULL);
    httpd_free(e->h);
    replicate_stop(e->s.replicate);
    e->s.storage->ops->close(e->s.storage);
    feed_free(e->s.access.feed);
    keyring_free(e->s.access.keys);
    free(e->identity.meta);
    free(e->identity.credential);
    log_close(e->log);
    tempdir_remove(e->dir);
    free(e);
    return 0;
}

static struct bytes capability(struct env *e, struct arena *a, uint64_t peer, uint64_t rights)
{
    struct m_capability c = {.server = SERVER,
                             .ns = 4,
                             .device = peer ? 0 : 77,
                             .peer = peer,
                             .rights = rights,
                             .expiry_ms = (uint64_t)wall_ms() + 60000};
    struct buf b = {0};
    capability_seal(&c, &e->key, &b);
    struct bytes out = arena_bytes(a, b.p, b.n);
    buf_free(&b);
    return out;
}

static int offer(struct env *e, struct arena *a, struct bytes cap, const struct block_id *id,
                 struct m_offer_ans *ans)
{
    struct m_block_ref ref = {.block = *id, .len = 5};
    struct m_offer_req q = {.ns = 4, .capability = cap, .blocks = &ref, .blocks_n = 1};
    return rpc_wait(e->rpc, e->url, "offer", &m_offer_req_desc, &q, &m_offer_ans_desc, ans, a, 0,
                    NULL);
}

static void test_offer(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct m_offer_ans ans;
    struct block_id id = id_of("bytes");
    struct bytes peer = capability(e, &a, 8, RIGHT_READ | RIGHT_WRITE);
    /* a client, or a server that may only read, learns nothing */
    assert_int_equal(offer(e, &a, capability(e, &a, 0, 3), &id, &ans), -EPERM);
    assert_int_equal(offer(e, &a, capability(e, &a, 8, RIGHT_READ), &id, &ans), -EPERM);
    assert_int_equal(offer(e, &a, peer, &id, &ans), 0);
    assert_int_equal(ans.accepted_n, 1);
    assert_int_equal(offer(e, &a, capability(e, &a, 9, 3), &id, &ans), 0);
    assert_int_equal(ans.accepted_n, 0); /* server 8 is bringing it */
    assert_int_equal(ans.later_n, 1);
    struct storage_put put = {.id = id, .stored = bytes_str("bytes"), .logical_len = 5};
    e->s.storage->ops->put(e->s.storage, 4, &put, 1);
    assert_int_equal(put.err, 0);
    assert_int_equal(offer(e, &a, capability(e, &a, 9, 3), &id, &ans), 0);
    assert_int_equal(ans.accepted_n + ans.later_n, 0); /* it is here */
    arena_free(&a);
}

/* ---- passing on ----------------------------------------------------------------------------- */
static atomic_uint deadline_ms; /* of the last call */

uint64_t __real_rpc_start(struct rpc *r, const struct rpc_call *c);
uint64_t __wrap_rpc_start(struct rpc *r, const struct rpc_call *c);
uint64_t __wrap_rpc_start(struct rpc *r, const struct rpc_call *c)
{
    if (!strcmp(c->method, "put"))
        atomic_store(&deadline_ms, c->timeout_ms);
    return __real_rpc_start(r, c);
}

/* What is passed on may take as long as its bytes need over a slow link. */
static void test_passing_on_takes_as_long_as_its_bytes(void **state)
{
    struct env *e = *state;
    struct replicate *r = e->s.replicate;
    struct peer *p = calloc(1, sizeof *p);
    struct group *g = calloc(1, sizeof *g);
    struct rpc_result res = {0};
    uint8_t *raw = calloc(1, 8u << 20);
    *p = (struct peer){.r = r, .id = 77, .url = "http://127.0.0.1:9"}; /* nobody is there */
    pthread_cond_init(&p->cond, NULL);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
    *g = (struct group){.ns = 4, .members = calloc(1, sizeof *g->members), .members_n = 1};
    g->members[0].server = 77;
    assert_int_equal(replicate_relay(r, 4, 77, bytes_str("x"), bytes_str("y"), &res), -ENOENT);
    pthread_mutex_lock(&r->lock);
    r->peers[r->peers_n++] = p; /* ended with the others */
    r->groups = g;
    r->groups_n = 1;
    pthread_mutex_unlock(&r->lock);
    static const size_t sizes[] = {1, 1u << 20, 8u << 20};
    for (size_t i = 0; i < 3; i++) {
        atomic_store(&deadline_ms, 0);
        assert_true(replicate_relay(r, 4, 77, bytes_str("x"), bytes_of(raw, sizes[i]), &res) < 0);
        buf_free(&res.body);
        assert_int_equal(atomic_load(&deadline_ms), 20000 + sizes[i] / 64);
    }
    free(raw);
}

/* ---- the rate ------------------------------------------------------------------------------- */
static void test_rate_plans(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",           ",",         "8-18=2M",    "2M,",  "2M,8-18",      "2M,8-18=", "2M,8-8=1M",
        "2M,24-3=1M", "2M,8-25=1", "2M,-1-3=1M", "fast", "2M,8-18=1M x", "2M,08-=1M"};
    struct rate_plan p;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (parse_rate_plan(wrong[i], &p))
            fail_msg("'%s' is taken for a plan", wrong[i]);
    assert_true(parse_rate_plan("20M,8-18=2M,22-6=any,3-4=none", &p));
    for (unsigned h = 0; h < 24; h++)
        assert_true(p.hour[h] == (h == 3             ? RATE_NONE
                                  : h >= 22 || h < 6 ? RATE_ANY
                                  : h >= 8 && h < 18 ? UINT64_C(2) << 20
                                                     : UINT64_C(20) << 20));
    assert_true(parse_rate_plan("any,0-24=500", &p) == false); /* all day is the first one */
    assert_true(parse_rate_plan("none,23-24=500", &p));
    assert_true(p.hour[23] == 500 && p.hour[0] == RATE_NONE);
}

static atomic_int hours_asked;

static unsigned fake_hour(int64_t *left_ms)
{
    *left_ms = 1;
    return atomic_fetch_add(&hours_asked, 1) ? 4 : 3;
}

/* In an hour in which nothing may be moved, the next is waited for; stopping is not. */
static void test_closed_hours(void **state)
{
    struct env *e = *state;
    struct replicate *r = e->s.replicate;
    pthread_mutex_lock(&r->lock);
    r->o.hour = fake_hour;
    r->o.rate.hour[3] = RATE_NONE;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&hours_asked, 0);
    assert_true(rate_take(r, 1u << 30));
    assert_int_equal(atomic_load(&hours_asked), 2);
    pthread_mutex_lock(&r->lock);
    r->o.rate.hour[4] = 1000000;
    pthread_mutex_unlock(&r->lock);
    assert_true(rate_take(r, 30000)); /* on account … */
    int64_t before = mono_ms();
    assert_true(rate_take(r, 1)); /* … which the next one pays for */
    assert_true(mono_ms() - before >= 25);
}

static unsigned slow_hour(int64_t *left_ms)
{
    *left_ms = 20;
    return atomic_fetch_add(&hours_asked, 1) < 2 ? 3 : 4;
}

/* What is waited for at an hour's rate is thought over at its end. */
static void test_a_wait_ends_with_the_hour(void **state)
{
    struct env *e = *state;
    struct replicate *r = e->s.replicate;
    pthread_mutex_lock(&r->lock);
    r->o.hour = slow_hour;
    r->o.rate.hour[3] = 1; /* a byte a second */
    r->o.rate.hour[4] = 1000000;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&hours_asked, 0);
    int64_t before = mono_ms();
    assert_true(rate_take(r, 3600)); /* on account: an hour of it … */
    assert_true(rate_take(r, 1));    /* … or four milliseconds of the next */
    assert_true(mono_ms() - before < 60000);
}

static atomic_bool hour_open;

static unsigned shut_hour(int64_t *left_ms)
{
    *left_ms = 1;
    atomic_fetch_add(&hours_asked, 1);
    return atomic_load(&hour_open) ? 4 : 3;
}

/* While nothing may be moved no block is claimed from others. */
static void test_nothing_is_claimed_in_closed_hours(void **state)
{
    struct env *e = *state;
    struct replicate *r = e->s.replicate;
    struct peer *p = calloc(1, sizeof *p);
    struct block_id id = id_of("w");
    uint64_t holder = 77;
    bool there = true;
    *p = (struct peer){.r = r, .id = 77, .wanted = true};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->cond, &attr);
    pthread_condattr_destroy(&attr);
    atomic_store(&hour_open, false);
    atomic_store(&hours_asked, 0);
    pthread_mutex_lock(&r->lock);
    r->o.hour = shut_hour;
    r->o.rate.hour[3] = RATE_NONE;
    assert_true(wants_add(r->wants, 9, &id, &holder, 1, false));
    assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
    r->peers[r->peers_n++] = p; /* ended with the others */
    for (int k = 0; k < 10000 && atomic_load(&hours_asked) < 3; k++) {
        pthread_mutex_unlock(&r->lock);
        usleep(1000);
        pthread_mutex_lock(&r->lock);
    }
    assert_true(atomic_load(&hours_asked) >= 3); /* it waits */
    assert_int_equal(wants_count(r->wants), 1);
    assert_int_equal(inbound_count(r->inbound), 0);
    atomic_store(&hour_open, true);
    for (int k = 0; k < 10000 && there; k++) { /* claimed now, and given up without a capability */
        there = wants_count(r->wants) > 0;
        pthread_mutex_unlock(&r->lock);
        usleep(1000);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    assert_false(there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_tasks_cost),
        cmocka_unit_test(test_tasks_older),
        cmocka_unit_test(test_tasks_damaged_or_newer),
        cmocka_unit_test(test_rests),
        cmocka_unit_test(test_inbound),
        cmocka_unit_test(test_claims_last_as_long_as_what_they_are_for),
        cmocka_unit_test_setup_teardown(test_offer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_passing_on_takes_as_long_as_its_bytes, set_up,
                                        tear_down),
        cmocka_unit_test(test_rate_plans),
        cmocka_unit_test_setup_teardown(test_closed_hours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_wait_ends_with_the_hour, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_claimed_in_closed_hours, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("replicate", tests, NULL, NULL);
}
