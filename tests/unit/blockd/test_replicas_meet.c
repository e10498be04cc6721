// SPDX-License-Identifier: Apache-2.0
/* Block servers that replicate, with the real metadata service behind them: what is filled while
 * much cannot be had, what a crash at each step costs, and how much is moved in a time. */
#include "world.h"

#include "blockid.h"
#include "check.h"
#include "replicas.h"
#include "replicate_int.h"
#include "rpc.h"
#include "service.h"
#include "tempdir.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 30000

/* One block server, and the metadata server as it answers this one. */
struct seat {
    struct world *w;
    int i;
    char *dir, url[64], meta_url[64];
    struct identity identity;
    struct service s;
    struct httpd *h, *meta;
    pthread_t h_thread, meta_thread;
    struct replicate *r;
    uint64_t rate;
    struct tick *tick;
};

static pthread_mutex_t meta_lock = PTHREAD_MUTEX_INITIALIZER;
static struct seat seats[SERVERS];
static struct log *null_log;

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        int64_t end_ms = mono_ms() + WAIT_MS;                                                      \
        while (!(condition)) {                                                                     \
            if (mono_ms() > end_ms)                                                                \
                fail_msg("never: %s", #condition);                                                 \
            usleep(2000);                                                                          \
        }                                                                                          \
    } while (0)

/* ---- a crash at a step ----------------------------------------------------------------------- */

enum step { NOWHERE, F3_BEFORE, F3, F4, F5, F6, F7 };
static atomic_int crash_at;
static struct block_id crash_block; /* the one that the step is about */
static atomic_bool dead;            /* hq's process: nothing that it does has an effect any more */

uint64_t __real_rpc_start(struct rpc *r, const struct rpc_call *c);
uint64_t __wrap_rpc_start(struct rpc *r, const struct rpc_call *c);
uint64_t __wrap_rpc_start(struct rpc *r, const struct rpc_call *c)
{
    struct rpc_call call = *c;
    /* whom only hq asks where something dies; elsewhere it may be given its address right now */
    if ((dead || crash_at != NOWHERE) && !strcmp(c->url, seats[CLOUD].url)) {
        if ((crash_at == F4 && !strcmp(c->method, "offer")) ||
            (crash_at == F5 && !strcmp(c->method, "put")))
            dead = true;
        if (dead)
            call.url = "http://127.0.0.1:9";
    }
    return __real_rpc_start(r, &call);
}

int __real_tasks_add(struct tasks *t, uint64_t ns, struct bytes cursor, const struct task *v,
                     size_t n, size_t *added);
int __wrap_tasks_add(struct tasks *t, uint64_t ns, struct bytes cursor, const struct task *v,
                     size_t n, size_t *added);
int __wrap_tasks_add(struct tasks *t, uint64_t ns, struct bytes cursor, const struct task *v,
                     size_t n, size_t *added)
{
    if (crash_at == F3_BEFORE && n)
        dead = true;
    if (dead)
        return -EIO;
    if (crash_at == F3 && n)
        dead = true; /* before anybody else sees the row */
    return __real_tasks_add(t, ns, cursor, v, n, added);
}

int __real_tasks_done(struct tasks *t, const struct task *v, size_t n);
int __wrap_tasks_done(struct tasks *t, const struct task *v, size_t n);
int __wrap_tasks_done(struct tasks *t, const struct task *v, size_t n)
{
    bool it = false;
    for (size_t i = 0; i < n; i++)
        it |= block_id_equal(&v[i].block, &crash_block);
    if (crash_at == F6 && it)
        dead = true;
    if (dead)
        return -EIO;
    if (crash_at == F7 && it)
        dead = true;
    return __real_tasks_done(t, v, n);
}

/* ---- the metadata server --------------------------------------------------------------------- */

#define HANDLER(name, ...)                                                                         \
    static void meta_##name##_asked(void *ctx, struct httpd_req *q)                                \
    {                                                                                              \
        struct seat *s = ctx;                                                                      \
        struct m_##name##_req req;                                                                 \
        struct m_##name##_ans ans;                                                                 \
        char why[512] = "";                                                                        \
        if (!httpd_decode(q, &m_##name##_req_desc, &req))                                          \
            return;                                                                                \
        pthread_mutex_lock(&meta_lock);                                                            \
        int r = meta_##name(s->w->m, &s->w->server_who[s->i], &req, __VA_ARGS__ & ans,             \
                            httpd_arena(q), why);                                                  \
        pthread_mutex_unlock(&meta_lock);                                                          \
        if (r)                                                                                     \
            httpd_reply_error(q, r == -EACCES ? ERR_FORBIDDEN : ERR_INTERNAL, "%s", why);          \
        else                                                                                       \
            httpd_reply_msg(q, &m_##name##_ans_desc, &ans);                                        \
    }
HANDLER(replicas, s->w->now, )
HANDLER(stored, s->w->now, )
HANDLER(backlog, )
HANDLER(list, )
HANDLER(locate, )
HANDLER(inventory, s->w->now, )

static void *run(void *arg)
{
    httpd_run(arg);
    return NULL;
}

static struct httpd *listen_as(void *ctx, char url[64])
{
    struct httpd_options o = {.ctx = ctx, .name = "test"};
    struct httpd *h;
    char err[512];
    assert_int_equal(httpd_new(&h, &o, err), 0);
    snprintf(url, 64, "http://127.0.0.1:%u", httpd_port(h));
    return h;
}

/* ---- seats ----------------------------------------------------------------------------------- */

static void seat_make(struct world *w, int i)
{
    struct seat *s = &seats[i];
    char err[512];
    *s = (struct seat){.w = w, .i = i, .dir = tempdir_make()};
    s->identity = (struct identity){
        .meta = s->meta_url, .credential = (char *)(uintptr_t) "s.1.x", .server = w->server[i]};
    s->s.log = null_log;
    s->s.access = (struct access){.server = w->server[i], .feed = feed_new()};
    assert_int_equal(keyring_open(&s->s.access.keys, NULL, &w->key[i]), 0);
    struct m_beat_ans a = {.now_ms = (uint64_t)w->now};
    feed_answered(s->s.access.feed, &a, mono_ms(), mono_ms());
    assert_int_equal(storage_dir_open(&s->s.storage, s->dir, err), 0);
    s->s.storage->ops->incarnation(s->s.storage, w->incarnation[i]);
    s->meta = listen_as(s, s->meta_url);
    httpd_route(s->meta, "replicas", HTTPD_ON_WORKER, 1u << 20, meta_replicas_asked);
    httpd_route(s->meta, "stored", HTTPD_ON_WORKER, 1u << 20, meta_stored_asked);
    httpd_route(s->meta, "backlog", HTTPD_ON_WORKER, 1u << 20, meta_backlog_asked);
    httpd_route(s->meta, "list", HTTPD_ON_WORKER, 1u << 20, meta_list_asked);
    httpd_route(s->meta, "locate", HTTPD_ON_WORKER, 1u << 20, meta_locate_asked);
    httpd_route(s->meta, "inventory", HTTPD_ON_WORKER, 1u << 20, meta_inventory_asked);
    assert_int_equal(pthread_create(&s->meta_thread, NULL, run, s->meta), 0);
}

/* Its replication runs from now on; alone: without the metadata server. */
static void seat_replicates(struct seat *s, bool alone)
{
    char err[512];
    struct replicate_options o = {.dir = s->dir,
                                  .identity = &s->identity,
                                  .storage = s->s.storage,
                                  .log = null_log,
                                  .refresh_ms = 100,
                                  .told = {.missing = service_missing, .arg = &s->s}};
    s->identity.meta = alone ? (char *)(uintptr_t) "http://127.0.0.1:9" : s->meta_url;
    for (int h = 0; h < 24 && s->rate; h++)
        o.rate.hour[h] = s->rate;
    assert_int_equal(replicate_start(&s->r, &o, err), 0);
    s->s.replicate = s->r;
}

static void seat_stops(struct seat *s)
{
    struct replicate *r = s->r;
    s->s.replicate = NULL;
    s->r = NULL;
    replicate_stop(r);
}

static void beat(struct seat *s, const char *url)
{
    struct m_beat_req q = {.incarnation = bytes_of(s->w->incarnation[s->i], 16),
                           .url = bytes_str(url),
                           .run = s->s.storage->run,
                           .found = s->s.storage->found};
    struct m_beat_ans a;
    pthread_mutex_lock(&meta_lock);
    assert_int_equal(
        meta_beat(s->w->m, &s->w->server_who[s->i], &q, s->w->now, &a, &s->w->ar, s->w->why), 0);
    pthread_mutex_unlock(&meta_lock);
}

/* It is told to the others, and answers them. */
static void seat_answers(struct seat *s)
{
    s->h = listen_as(&s->s, s->url);
    service_routes(s->h);
    assert_int_equal(pthread_create(&s->h_thread, NULL, run, s->h), 0);
    beat(s, s->url);
}

static int set_up(void **state)
{
    assert_int_equal(world_setup(state), 0);
    assert_int_equal(log_open(&null_log, "blockd", "/dev/null", NULL, LOG_L_INFO), 0);
    crash_at = NOWHERE;
    dead = false;
    for (int i = 0; i < SERVERS; i++) {
        seat_make(*state, i);
        beat(&seats[i],
             "http://127.0.0.1:9"); /* the storage is another one than that of the world */
    }
    return 0;
}

static int tear_down(void **state)
{
    for (int i = 0; i < SERVERS; i++) {
        struct seat *s = &seats[i];
        if (s->h) {
            httpd_stop(s->h, 1000);
            pthread_join(s->h_thread, NULL);
            httpd_free(s->h);
        }
        if (s->r)
            seat_stops(s);
        if (s->s.collect) {
            collect_stop(s->s.collect);
            tick_free(s->tick);
        }
        httpd_stop(s->meta, 1000);
        pthread_join(s->meta_thread, NULL);
        httpd_free(s->meta);
        s->s.storage->ops->close(s->s.storage);
        feed_free(s->s.access.feed);
        keyring_free(s->s.access.keys);
        tempdir_remove(s->dir);
    }
    log_close(null_log);
    return world_teardown(state);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

struct made {
    struct block_id id;
    uint8_t bytes[10000];
    size_t len;
};

static void make(struct made *b, uint32_t k, size_t len)
{
    memset(b->bytes, 0, sizeof b->bytes);
    memcpy(b->bytes, &k, sizeof k);
    b->len = len;
    block_id_of(&b->id, b->bytes, len);
}

static void put(struct seat *s, const struct made *b)
{
    struct storage_put v = {
        .id = b->id, .stored = bytes_of(b->bytes, b->len), .logical_len = b->len};
    s->s.storage->ops->put(s->s.storage, s->w->alice.ns, &v, 1);
    assert_int_equal(v.err, 0);
}

static bool has(struct seat *s, const struct block_id *id)
{
    struct storage_info info;
    assert_int_equal(s->s.storage->ops->have(s->s.storage, s->w->alice.ns, id, 1, &info), 0);
    return info.there;
}

static size_t stored_at(struct seat *s)
{
    struct storage_usage u;
    s->s.storage->ops->usage(s->s.storage, &u);
    return u.blocks;
}

/* The namespace refers to the block, which is at that server (-1: nowhere) and lacking at the
 * others. Inside a change. */
static void record(struct world *w, const struct made *b, int at, uint64_t sjid)
{
    const struct store_ops *ops = w->m->st->ops;
    uint64_t ns = w->alice.ns;
    struct server_row row;
    assert_int_equal(ops->block_put(w->m->st, ns, &b->id, b->len, sjid), 0);
    if (at >= 0) {
        assert_int_equal(ops->server_get(w->m->st, w->server[at], &row, &w->ar), 0);
        assert_int_equal(
            ops->presence_put(w->m->st, ns, &b->id, row.id, row.generation, row.generation), 0);
    }
    for (int s = 0; s < SERVERS; s++)
        if (s != at)
            assert_int_equal(ops->lack_put(w->m->st, ns, w->server[s], &b->id, sjid), 0);
}

/* ---- what is filled -------------------------------------------------------------------------- */

/* A new server: 2,200 of the newest blocks are lost for good, or at a server that does not answer;
 * it gets the old ones from a third, and the others when that server is back, though that takes
 * nothing of what it is offered. */
static void a_new_server_fills_with_what_can_be_had(void **state)
{
    struct world *w = *state;
    enum { OLD = 60, EACH = 1100 };
    static struct made old[OLD], away[EACH], lost;
    for (int k = 0; k < 3; k++) /* commits that the blocks below are said to be of */
        world_make(w, &w->alice, w->alice.root, (char[]){(char)('a' + k), 0}, NODE_DIR, 0);
    world_command(w, &world_admin, 0, "admin assign alice attic");
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < OLD; k++) {
        make(&old[k], k, 300);
        put(&seats[CLOUD], &old[k]);
        record(w, &old[k], CLOUD, 1);
    }
    for (uint32_t k = 0; k < EACH; k++) {
        make(&away[k], 10000 + k, 300);
        record(w, &away[k], HQ, 2);
        make(&lost, 20000 + k, 300);
        record(w, &lost, -1, 3);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    seat_answers(&seats[CLOUD]);
    seat_answers(&seats[ATTIC]);
    seat_replicates(&seats[CLOUD], false);
    seat_replicates(&seats[ATTIC], false);
    WAIT_FOR(stored_at(&seats[ATTIC]) == OLD);
    for (uint32_t k = 0; k < OLD; k++)
        assert_true(has(&seats[ATTIC], &old[k].id));
    for (uint32_t k = 0; k < EACH; k++)
        put(&seats[HQ], &away[k]);
    seat_answers(&seats[HQ]);
    WAIT_FOR(stored_at(&seats[ATTIC]) == OLD + EACH);
    WAIT_FOR(stored_at(&seats[CLOUD]) == OLD + EACH);
}

/* As the table of 100 ms ago has it. */
static bool prints(struct seat *s, int of, unsigned blocks)
{
    struct buf text cleanup_buf = {0};
    char line[128];
    snprintf(line, sizeof line,
             "steadfs_blockd_replication_lacking{ns=\"%llu\",server=\"%llu\"} %u\n",
             (unsigned long long)s->w->alice.ns, (unsigned long long)s->w->server[of], blocks);
    replicate_print(s->r, &text);
    buf_append(&text, "", 1);
    return strstr((const char *)text.p, line) != NULL;
}

static atomic_bool refuses; /* cloud's storage, for want of room */
static atomic_uint refused;
static atomic_ullong free_at_cloud;
static const struct storage_ops *cloud_ops;

static void put_if_room(struct storage *s, uint64_t ns, struct storage_put *v, size_t n)
{
    if (!refuses) {
        cloud_ops->put(s, ns, v, n);
        return;
    }
    refused++;
    for (size_t i = 0; i < n; i++)
        v[i].err = -ENOSPC;
}

static void tell_free(struct storage *s, struct storage_usage *u)
{
    cloud_ops->usage(s, u);
    u->free_bytes = free_at_cloud;
}

static bool has_room(struct seat *s)
{
    struct buf text cleanup_buf = {0};
    replicate_print(s->r, &text);
    buf_append(&text, "", 1);
    return !strstr((const char *)text.p, "steadfs_blockd_replication_no_room 1\n");
}

/* What cannot be stored is not fetched, nor offered successfully, again and again. */
static void a_full_server_fetches_nothing(void **state)
{
    struct world *w = *state;
    struct seat *hq = &seats[HQ], *cloud = &seats[CLOUD];
    static struct storage_ops ops; /* until its storage is closed */
    struct made b;
    cloud_ops = cloud->s.storage->ops;
    ops = *cloud_ops;
    ops.put = put_if_room;
    ops.usage = tell_free;
    cloud->s.storage->ops = &ops;
    refuses = true;
    refused = 0;
    free_at_cloud = REPLICATE_ROOM; /* all of it is for clients */
    make(&b, 1, 500);
    put(hq, &b);
    assert_int_equal(meta_change_begin(w->m), 0);
    record(w, &b, HQ, 1);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    seat_answers(hq);
    seat_replicates(cloud, false);
    WAIT_FOR(!has_room(cloud));
    assert_int_equal(refused, 0);
    free_at_cloud = 0; /* not known: it is tried, once */
    WAIT_FOR(has_room(cloud) || refused);
    WAIT_FOR(!has_room(cloud));
    assert_int_equal(refused, 1);
    refuses = false;
    pthread_mutex_lock(&cloud->r->lock);
    cloud->r->full_until = 0;
    pthread_mutex_unlock(&cloud->r->lock);
    WAIT_FOR(has(cloud, &b.id));
    assert_true(has_room(cloud));
    /* offered to it */
    seat_stops(cloud);
    seat_replicates(cloud, true);
    seat_answers(cloud);
    refuses = true;
    make(&b, 2, 500);
    put(hq, &b);
    assert_int_equal(meta_change_begin(w->m), 0);
    record(w, &b, HQ, 1);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    seat_replicates(hq, false);
    WAIT_FOR(refused == 2);
    WAIT_FOR(!replicate_has_room(cloud->r));
}

/* … and is not offered all that there is, round and round. */
static void a_full_server_is_offered_little(void **state)
{
    struct world *w = *state;
    struct seat *hq = &seats[HQ], *cloud = &seats[CLOUD];
    static struct storage_ops ops; /* until its storage is closed */
    enum { MANY = 3 * OFFER_BLOCKS };
    static struct made b;
    cloud_ops = cloud->s.storage->ops;
    ops = *cloud_ops;
    ops.usage = tell_free;
    cloud->s.storage->ops = &ops;
    free_at_cloud = 1;
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < MANY; k++) {
        make(&b, k, 300);
        put(hq, &b);
        record(w, &b, HQ, 1);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    seat_replicates(cloud, true);
    seat_answers(cloud);
    int64_t began = mono_ms();
    seat_replicates(hq, false);
    WAIT_FOR(hq->r->offered > OFFER_BLOCKS);
    assert_true(mono_ms() - began >= LATER_MS);
}

/* A server that says another length than its bytes have gives nothing; one that is right does. */
static void what_is_told_of_a_length_is_compared(void **state)
{
    struct world *w = *state;
    struct seat *hq = &seats[HQ], *cloud = &seats[CLOUD];
    static struct made right, wrong;
    struct server_row attic;
    world_make(w, &w->alice, w->alice.root, "a", NODE_DIR, 0);
    world_make(w, &w->alice, w->alice.root, "b", NODE_DIR, 0);
    world_command(w, &world_admin, 0, "admin assign alice attic");
    make(&right, 1, 500);
    make(&wrong, 2, 600);
    struct storage_put lie = {
        .id = wrong.id, .stored = bytes_of(wrong.bytes, wrong.len), .logical_len = wrong.len + 5};
    hq->s.storage->ops->put(hq->s.storage, w->alice.ns, &lie, 1);
    assert_int_equal(lie.err, 0);
    put(hq, &right);
    assert_int_equal(meta_change_begin(w->m), 0);
    record(w, &right, HQ, 1);
    record(w, &wrong, HQ, 2); /* the newest: it is asked for with the other, or before */
    assert_int_equal(meta_change_end(w->m, 0), 0);
    seat_answers(hq);
    seat_replicates(cloud, false);
    WAIT_FOR(has(cloud, &right.id));
    assert_false(has(cloud, &wrong.id));
    WAIT_FOR(prints(cloud, CLOUD, 2) && prints(cloud, ATTIC, 2) && prints(cloud, HQ, 0));
    put(&seats[ATTIC], &wrong);
    pthread_mutex_lock(&meta_lock);
    assert_int_equal(meta_change_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->server_get(w->m->st, w->server[ATTIC], &attic, &w->ar), 0);
    assert_int_equal(w->m->st->ops->presence_put(w->m->st, w->alice.ns, &wrong.id, attic.id,
                                                 attic.generation, attic.generation),
                     0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    pthread_mutex_unlock(&meta_lock);
    seat_answers(&seats[ATTIC]);
    WAIT_FOR(has(cloud, &wrong.id) && prints(cloud, ATTIC, 1)); /* as is recorded */
    struct storage_info info;
    assert_int_equal(
        cloud->s.storage->ops->have(cloud->s.storage, w->alice.ns, &wrong.id, 1, &info), 0);
    assert_int_equal(info.logical_len, wrong.len);
}

/* ---- what is not where it is recorded -------------------------------------------------------- */

static bool recorded_at(struct world *w, const struct made *b, int at)
{
    struct holder_row v[CANDIDATES_MAX];
    bool is = false;
    size_t n;
    pthread_mutex_lock(&meta_lock);
    assert_int_equal(w->m->st->ops->holders(w->m->st, w->alice.ns, &b->id, v, &n), 0);
    pthread_mutex_unlock(&meta_lock);
    for (size_t k = 0; k < n; k++)
        is |= v[k].server == w->server[at];
    return is;
}

/* hq is recorded to have a block, and has not. Another server finds out by asking for it, or hq
 * itself when it is to give it to one; it is brought again from a third, without a comparison. */
static void found_missing(struct world *w, bool by_asking)
{
    struct seat *hq = &seats[HQ], *cloud = &seats[CLOUD], *attic = &seats[ATTIC];
    static struct made b, other;
    struct server_row row;
    world_make(w, &w->alice, w->alice.root, by_asking ? "a" : "b", NODE_DIR, 0);
    world_command(w, &world_admin, 0, "admin assign alice attic");
    make(&b, 1, 500);
    make(&other, 2, 600);
    put(cloud, &b);
    put(hq, &other);
    assert_int_equal(meta_change_begin(w->m), 0);
    record(w, &b, HQ, 1);
    record(w, &other, HQ, 1);
    assert_int_equal(w->m->st->ops->server_get(w->m->st, w->server[CLOUD], &row, &w->ar), 0);
    assert_int_equal(replicas_present(w->m, w->alice.ns, row.id, &b.id), 0);
    assert_int_equal(w->m->st->ops->presence_put(w->m->st, w->alice.ns, &b.id, row.id,
                                                 row.generation, row.generation),
                     0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    hq->identity.meta = hq->meta_url;
    hq->tick = tick_new(NULL, "s.1.x", null_log);
    assert_int_equal(
        collect_start(&hq->s.collect, &(struct collect_options){.identity = &hq->identity,
                                                                .storage = hq->s.storage,
                                                                .tick = hq->tick,
                                                                .log = null_log}),
        0);
    seat_answers(hq);
    seat_answers(attic);
    seat_replicates(by_asking ? attic : hq, false);
    WAIT_FOR(!recorded_at(w, &b, HQ));
    assert_true(recorded_at(w, &other, HQ) && recorded_at(w, &b, CLOUD));
    seat_answers(cloud);
    seat_replicates(by_asking ? hq : attic, false);
    WAIT_FOR(has(hq, &b.id) && has(attic, &b.id) && has(attic, &other.id));
    WAIT_FOR(recorded_at(w, &b, HQ));
}

static void one_that_asks_finds_it_missing(void **state)
{
    found_missing(*state, true);
}

static void one_that_is_to_give_it_finds_it_missing(void **state)
{
    found_missing(*state, false);
}

/* ---- a check that is ordered ----------------------------------------------------------------- */

static struct block_id doubtful;

/* As a listing would tell: two parts, and what is wrong in the first. */
static int fake_survey(struct storage *s, const struct block_id *after, struct block_id *upto,
                       uint64_t *looked, void (*fn)(void *arg, const struct block_id *id),
                       void *arg)
{
    static const struct block_id first;
    (void)s;
    *looked += 1;
    *upto = doubtful;
    if (block_id_equal(after, &first))
        fn(arg, &doubtful);
    else
        memset(upto, 0xff, sizeof *upto);
    return 0;
}

static void note_lost(void *arg, const struct block_id *id, int err)
{
    assert_int_equal(err, 0);
    assert_true(block_id_equal(id, &doubtful));
    ++*(atomic_int *)arg;
}

static void note_done(void *arg)
{
    (void)arg;
}

/* Of a storage that tells of many at once, those are read that it doubts. */
static void a_check_reads_what_a_survey_doubts(void **state)
{
    (void)state;
    struct seat *hq = &seats[HQ];
    struct storage_ops ops = *hq->s.storage->ops;
    static uint8_t bytes[300000];
    static struct made right;
    static atomic_int lost;
    char command[512];
    block_id_of(&doubtful, bytes, sizeof bytes);
    struct storage_put v = {
        .id = doubtful, .stored = bytes_of(bytes, sizeof bytes), .logical_len = sizeof bytes};
    hq->s.storage->ops->put(hq->s.storage, hq->w->alice.ns, &v, 1);
    assert_int_equal(v.err, 0);
    make(&right, 1, 500);
    put(hq, &right);
    snprintf(command, sizeof command, "rm '%s'/blocks/00000001/*", hq->dir);
    assert_int_equal(system(command), 0);
    ops.survey = fake_survey;
    ops.probe = NULL;
    const struct storage_ops *whole = hq->s.storage->ops;
    hq->s.storage->ops = &ops;
    hq->identity.meta = hq->meta_url;
    struct check *c;
    assert_int_equal(check_new(&c, &(struct check_options){.identity = &hq->identity,
                                                           .storage = hq->s.storage,
                                                           .log = null_log,
                                                           .lost = note_lost,
                                                           .told = note_done,
                                                           .arg = &lost}),
                     0);
    check_heard(c, 7, false, false);
    assert_int_equal(check_start(c), 0);
    WAIT_FOR(lost == 1);
    assert_int_equal(hq->s.storage->ops->told(hq->s.storage, INT64_MAX), 0);
    struct m_check told;
    WAIT_FOR(check_report(c, &told) && told.done);
    assert_int_equal(told.order, 7);
    assert_int_equal(told.looked, 2);
    assert_int_equal(told.damaged, 1);
    assert_int_equal(told.unreadable, 0);
    assert_true(has(hq, &right.id));
    assert_false(has(hq, &doubtful));
    check_stop(c);
    check_free(c);
    hq->s.storage->ops = whole;
}

/* ---- a crash at each step -------------------------------------------------------------------- */

static void add(void *arg, uint64_t ns, uint64_t server, uint64_t n)
{
    (void)ns, (void)server;
    *(uint64_t *)arg += n;
}

static uint64_t tasks_left(struct seat *s)
{
    uint64_t n = 0;
    assert_int_equal(tasks_count(s->r->tasks, add, &n), 0);
    return n;
}

/* A file with the block, committed with hq's receipt. */
static void commit(struct world *w, const struct made *b, const char *name)
{
    struct plan p;
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    plan_range(&p, plan_create(&p, node, NODE_REG), 0, b->len, &b->id, 0);
    plan_block(w, &p, w->alice.ns, &b->id, b->len, HQ);
    plan_entry(&p, w->alice.root, name, 0, 0, node);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
}

/* It has told that it stored the block. */
static void told_stored(struct seat *s, const struct made *b)
{
    struct m_stored one = {.ns = s->w->alice.ns, .block = b->id, .len = b->len};
    struct m_stored_req q = {.incarnation = bytes_of(s->w->incarnation[s->i], 16),
                             .run = s->s.storage->run,
                             .blocks = &one,
                             .blocks_n = 1};
    struct m_stored_ans a;
    pthread_mutex_lock(&meta_lock);
    assert_int_equal(
        meta_stored(s->w->m, &s->w->server_who[s->i], &q, s->w->now, &a, &s->w->ar, s->w->why), 0);
    pthread_mutex_unlock(&meta_lock);
    assert_int_equal(a.recorded, 1);
}

/* The sender dies at every step from the task's row to its end; the next process of it does what is
 * left, and what was done already is not done twice. */
static void a_crash_at_each_step_repeats_it(void **state)
{
    struct world *w = *state;
    struct seat *hq = &seats[HQ], *cloud = &seats[CLOUD];
    struct made b;
    seat_answers(hq);
    seat_answers(cloud);
    seat_replicates(cloud, true); /* it fetches nothing itself */
    for (int step = F3_BEFORE; step <= F7; step++) {
        make(&b, (uint32_t)step, 500);
        put(hq, &b);
        pthread_mutex_lock(&meta_lock);
        commit(w, &b, (char[]){'f', (char)('0' + step), 0});
        pthread_mutex_unlock(&meta_lock);
        crash_block = b.id;
        crash_at = step;
        seat_replicates(hq, false);
        WAIT_FOR(dead);
        seat_stops(hq);
        assert_int_equal(has(cloud, &b.id), step >= F6);
        crash_at = NOWHERE;
        dead = false;
        seat_replicates(hq, false);
        WAIT_FOR(has(cloud, &b.id) && hq->r->offered && !tasks_left(hq));
        assert_int_equal(hq->r->accepted, step >= F6 ? 0 : 1);
        told_stored(cloud, &b);
        seat_stops(hq);
    }
}

/* ---- the rate -------------------------------------------------------------------------------- */

/* However it is looked at, no more was moved than the rate allows since the beginning, and what is
 * moved at a time. */
static void no_more_is_moved_than_the_rate(void **state)
{
    struct world *w = *state;
    enum { N = 200, RATE = 1500000, AT_A_TIME = PULL_BLOCKS * 10000 };
    static struct made b;
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < N; k++) {
        make(&b, k, 10000);
        put(&seats[HQ], &b);
        record(w, &b, HQ, 0);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    seat_answers(&seats[HQ]);
    seats[CLOUD].rate = RATE;
    int64_t began = mono_ms();
    seat_replicates(&seats[CLOUD], false);
    for (size_t n = 0; n < N; usleep(2000)) {
        n = stored_at(&seats[CLOUD]);
        int64_t ms = mono_ms() - began;
        assert_true(ms < WAIT_MS);
        assert_true(n * 10000 <= (uint64_t)ms * (RATE / 1000) + AT_A_TIME);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_new_server_fills_with_what_can_be_had), T(what_is_told_of_a_length_is_compared),
        T(one_that_asks_finds_it_missing),          T(one_that_is_to_give_it_finds_it_missing),
        T(a_check_reads_what_a_survey_doubts),      T(a_crash_at_each_step_repeats_it),
        T(no_more_is_moved_than_the_rate),          T(a_full_server_fetches_nothing),
        T(a_full_server_is_offered_little),
    };
    return cmocka_run_group_tests_name("replicas meet", tests, NULL, NULL);
}
