// SPDX-License-Identifier: Apache-2.0
/* put, get and have over a real connection, on a real directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "frame.h"
#include "rpc.h"
#include "service.h"
#include "tempdir.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SERVER 3
#define DEVICE 77
#define ACCOUNT 7

struct env {
    char *dir, *trace;
    struct service s;
    struct token_key key;
    struct httpd *h;
    struct rpc *rpc;
    struct log *log;
    pthread_t thread;
    char url[64];
};

static void *run(void *arg)
{
    httpd_run(arg);
    return NULL;
}

static void start(struct env *e)
{
    char err[512] = "";
    if (storage_dir_open(&e->s.storage, e->dir, err))
        fail_msg("%s", err);
    struct httpd_options o = {
        .ctx = &e->s, .metrics = service_metrics, .name = "steadfs_blockd", .vouch = service_vouch};
    if (httpd_new(&e->h, &o, err))
        fail_msg("%s", err);
    service_routes(e->h);
    snprintf(e->url, sizeof e->url, "http://127.0.0.1:%u", httpd_port(e->h));
    assert_int_equal(pthread_create(&e->thread, NULL, run, e->h), 0);
}

static void stop(struct env *e)
{
    httpd_stop(e->h, 1000);
    pthread_join(e->thread, NULL);
    httpd_free(e->h);
    e->s.storage->ops->close(e->s.storage);
}

static int set_up(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->dir = tempdir_make();
    assert_true(asprintf(&e->trace, "%s.trace", e->dir) > 0);
    assert_int_equal(log_open(&e->log, "blockd", "/dev/null", e->trace, LOG_L_INFO), 0);
    e->s.log = e->log;
    e->key = (struct token_key){.id = 9, .key = {4, 5, 6}};
    e->s.access = (struct access){.server = SERVER, .feed = feed_new()};
    assert_int_equal(keyring_open(&e->s.access.keys, NULL, &e->key), 0);
    struct m_beat_ans a = {.now_ms = (uint64_t)wall_ms()};
    feed_answered(e->s.access.feed, &a, mono_ms(), mono_ms());
    assert_int_equal(rpc_new(&e->rpc, &(struct rpc_options){0}), 0);
    start(e);
    *state = e;
    return 0;
}

static int tear_down(void **state)
{
    struct env *e = *state;
    rpc_free(e->rpc);
    stop(e);
    feed_free(e->s.access.feed);
    keyring_free(e->s.access.keys);
    log_close(e->log);
    unlink(e->trace);
    free(e->trace);
    tempdir_remove(e->dir);
    free(e);
    return 0;
}

/* ---- requests by hand ---------------------------------------------------------------------- */

static struct bytes capability(struct env *e, struct arena *a, uint64_t ns, uint64_t rights)
{
    struct m_capability c = {.server = SERVER,
                             .ns = ns,
                             .device = DEVICE,
                             .account = ACCOUNT,
                             .rights = rights,
                             .expiry_ms = (uint64_t)wall_ms() + 60000};
    struct buf b = {0};
    capability_seal(&c, &e->key, &b);
    struct bytes out = arena_bytes(a, b.p, b.n);
    buf_free(&b);
    return out;
}

struct reply {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int err;
    char message[512];
    struct buf body;
};

static void replied(void *arg, struct rpc_result *r)
{
    struct reply *w = arg;
    pthread_mutex_lock(&w->lock);
    w->err = r->err;
    memcpy(w->message, r->message, sizeof w->message);
    w->body = r->body;
    r->body = (struct buf){0};
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

/* Sends raw bytes; the answer's body is in *w. */
static int send_raw(struct env *e, const char *method, struct bytes head, struct bytes body,
                    struct reply *w)
{
    *w = (struct reply){.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    rpc_start(e->rpc, &(struct rpc_call){.url = e->url,
                                         .method = method,
                                         .head = head,
                                         .body = body,
                                         .done = replied,
                                         .arg = w});
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return w->err;
}

static int send_put(struct env *e, struct arena *a, const struct m_put_head *h, struct bytes raw,
                    struct m_put_ans *ans)
{
    struct buf head = {0};
    struct reply w;
    frame_head(&m_put_head_desc, h, &head);
    int r = send_raw(e, "put", bytes_of(head.p, head.n), raw, &w);
    if (!r) {
        struct bytes copy = arena_bytes(a, w.body.p, w.body.n);
        assert_int_equal(msg_decode(&m_put_ans_desc, ans, copy.p, copy.n, MSG_LENIENT, a, NULL), 0);
    }
    buf_free(&head);
    buf_free(&w.body);
    return r;
}

/* One block of one namespace; the result's error, or the call's. */
static int put_block(struct env *e, struct arena *a, uint64_t ns, const struct block_id *id,
                     const uint8_t *p, size_t n, struct m_put_result *out)
{
    struct m_put_item it = {.block = *id, .stored_len = n, .logical_len = n};
    struct m_put_head h = {
        .ns = ns, .capability = capability(e, a, ns, RIGHT_WRITE), .items = &it, .items_n = 1};
    struct m_put_ans ans;
    int r = send_put(e, a, &h, bytes_of(p, n), &ans);
    if (r)
        return r;
    assert_int_equal(ans.results_n, 1);
    assert_true(block_id_equal(&ans.results[0].block, id));
    if (out)
        *out = ans.results[0];
    return (int)ans.results[0].error;
}

static int send_get(struct env *e, struct arena *a, const struct m_get_req *g, struct m_get_head *h,
                    struct bytes *raw)
{
    struct buf b = {0};
    struct reply w;
    msg_encode(&m_get_req_desc, g, &b);
    int r = send_raw(e, "get", bytes_of(b.p, b.n), (struct bytes){0}, &w);
    if (!r) {
        struct bytes copy = arena_bytes(a, w.body.p, w.body.n), head;
        assert_int_equal(frame_split(copy, &head, raw), 0);
        assert_int_equal(msg_decode(&m_get_head_desc, h, head.p, head.n, MSG_LENIENT, a, NULL), 0);
    }
    buf_free(&b);
    buf_free(&w.body);
    return r;
}

/* One block; the item's error, or the call's. */
static int get_block(struct env *e, struct arena *a, uint64_t ns, struct block_id id,
                     struct bytes *raw)
{
    struct m_get_req g = {
        .ns = ns, .capability = capability(e, a, ns, RIGHT_READ), .blocks = &id, .blocks_n = 1};
    struct m_get_head h;
    int r = send_get(e, a, &g, &h, raw);
    if (r)
        return r;
    assert_int_equal(h.items_n, 1);
    assert_int_equal(h.items[0].stored_len, raw->n);
    return (int)h.items[0].error;
}

static int send_have(struct env *e, struct arena *a, const struct m_get_req *g,
                     struct m_put_ans *ans)
{
    return rpc_wait(e->rpc, e->url, "have", &m_get_req_desc, g, &m_put_ans_desc, ans, a, 0, NULL);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_put_get_have(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    enum { N = 5 };
    static const size_t sizes[N] = {1, 5000, 300000, 4 << 20, 70000};
    struct m_put_item items[N];
    struct block_id ids[N];
    struct buf raw = {0};
    for (unsigned i = 0; i < N; i++) {
        uint8_t *p = block_make(sizes[i], i, &ids[i]);
        items[i] =
            (struct m_put_item){.block = ids[i], .stored_len = sizes[i], .logical_len = sizes[i]};
        buf_append(&raw, p, sizes[i]);
        free(p);
    }
    struct m_put_head h = {
        .ns = 4, .capability = capability(e, &a, 4, 3), .items = items, .items_n = N};
    struct m_put_ans ans;
    uint64_t before = (uint64_t)wall_ms();
    assert_int_equal(send_put(e, &a, &h, bytes_of(raw.p, raw.n), &ans), 0);
    assert_int_equal(ans.results_n, N);
    uint8_t incarnation[INCARNATION_LEN];
    e->s.storage->ops->incarnation(e->s.storage, incarnation);
    for (size_t i = 0; i < N; i++) {
        struct m_receipt r;
        assert_int_equal(ans.results[i].error, 0);
        assert_int_equal(receipt_open(&r, ans.results[i].receipt, &e->key, &a), 0);
        assert_int_equal(r.server, SERVER);
        assert_int_equal(r.ns, 4);
        assert_true(block_id_equal(&r.block, &ids[i]));
        assert_int_equal(r.len, sizes[i]);
        assert_memory_equal(r.incarnation.p, incarnation, INCARNATION_LEN);
        assert_int_equal(r.key_id, 9);
        assert_true(r.time_ms + 60000 >= before && r.time_ms <= (uint64_t)wall_ms() + 60000);
    }
    struct m_get_req g = {
        .ns = 4, .capability = capability(e, &a, 4, RIGHT_READ), .blocks = ids, .blocks_n = N};
    struct m_get_head gh;
    struct bytes got;
    assert_int_equal(send_get(e, &a, &g, &gh, &got), 0);
    assert_true(bytes_equal(got, bytes_of(raw.p, raw.n)));
    struct m_put_ans have;
    assert_int_equal(send_have(e, &a, &g, &have), 0);
    assert_int_equal(have.results_n, N);
    for (size_t i = 0; i < N; i++) {
        struct m_receipt r;
        assert_int_equal(receipt_open(&r, have.results[i].receipt, &e->key, &a), 0);
        assert_int_equal(r.len, sizes[i]);
    }
    assert_int_equal(e->s.put_bytes, raw.n);
    assert_int_equal(e->s.get_bytes, raw.n);
    buf_free(&raw);
    arena_free(&a);
}

static void test_hash_mismatch(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct bytes raw;
    struct m_put_result r;
    uint8_t *p = block_make(1000, 1, &id);
    p[500] ^= 1;
    assert_int_equal(put_block(e, &a, 4, &id, p, 1000, &r), ERR_BAD_MESSAGE);
    assert_int_equal(r.receipt.n, 0);
    assert_int_equal(get_block(e, &a, 4, id, &raw), ERR_NOT_FOUND);
    p[500] ^= 1;
    assert_int_equal(put_block(e, &a, 4, &id, p, 1000, NULL), 0);
    /* of what is stored already, too: who does not have the bytes gets nothing */
    p[500] ^= 1;
    assert_int_equal(put_block(e, &a, 4, &id, p, 1000, &r), ERR_BAD_MESSAGE);
    assert_int_equal(put_block(e, &a, 5, &id, p, 1000, &r), ERR_BAD_MESSAGE);
    assert_int_equal(r.receipt.n, 0);
    assert_int_equal(get_block(e, &a, 5, id, &raw), ERR_NOT_FOUND);
    p[500] ^= 1;
    assert_int_equal(get_block(e, &a, 4, id, &raw), 0);
    assert_memory_equal(raw.p, p, 1000);
    /* a kind that nobody knows, and a wrong logical length */
    struct block_id odd = id;
    odd.b[0] = 9;
    assert_int_equal(put_block(e, &a, 4, &odd, p, 1000, NULL), ERR_BAD_MESSAGE);
    struct m_put_item it = {.block = id, .stored_len = 1000, .logical_len = 999};
    struct m_put_head h = {
        .ns = 4, .capability = capability(e, &a, 4, 3), .items = &it, .items_n = 1};
    struct m_put_ans ans;
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 1000), &ans), 0);
    assert_int_equal(ans.results[0].error, ERR_BAD_MESSAGE);
    free(p);
    arena_free(&a);
}

/* One wrong item does not hurt the others. */
static void test_partial_batch(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct m_put_item it[3];
    struct buf raw = {0};
    for (unsigned i = 0; i < 3; i++) {
        uint8_t *p = block_make(2000, i, &it[i].block);
        it[i].stored_len = it[i].logical_len = 2000;
        p[0] ^= i == 1;
        buf_append(&raw, p, 2000);
        free(p);
    }
    struct m_put_head h = {
        .ns = 4, .capability = capability(e, &a, 4, 3), .items = it, .items_n = 3};
    struct m_put_ans ans;
    assert_int_equal(send_put(e, &a, &h, bytes_of(raw.p, raw.n), &ans), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ans.results[i].error, i == 1 ? ERR_BAD_MESSAGE : 0);
        assert_int_equal(ans.results[i].receipt.n > 0, i != 1);
        assert_true(block_id_equal(&ans.results[i].block, &it[i].block));
    }
    buf_free(&raw);
    arena_free(&a);
}

static void test_another_namespace(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct bytes raw;
    uint8_t *p = block_make(5000, 1, &id);
    assert_int_equal(put_block(e, &a, 4, &id, p, 5000, NULL), 0);
    assert_int_equal(get_block(e, &a, 5, id, &raw), ERR_NOT_FOUND);
    struct m_get_req g = {
        .ns = 5, .capability = capability(e, &a, 5, 3), .blocks = &id, .blocks_n = 1};
    struct m_put_ans have;
    assert_int_equal(send_have(e, &a, &g, &have), 0);
    assert_int_equal(have.results[0].receipt.n, 0);
    assert_int_equal(put_block(e, &a, 5, &id, p, 5000, NULL), 0);
    assert_int_equal(get_block(e, &a, 5, id, &raw), 0);
    assert_memory_equal(raw.p, p, 5000);
    free(p);
    arena_free(&a);
}

static int send_link(struct env *e, struct arena *a, uint64_t ns, uint64_t rights, uint64_t from,
                     uint64_t from_rights, struct block_id *id, struct m_put_ans *ans)
{
    struct m_link_req q = {.ns = ns,
                           .capability = capability(e, a, ns, rights),
                           .from = from,
                           .from_capability = capability(e, a, from, from_rights),
                           .blocks = id,
                           .blocks_n = 1};
    return rpc_wait(e->rpc, e->url, "link", &m_link_req_desc, &q, &m_put_ans_desc, ans, a, 0, NULL);
}

static void test_link(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct bytes raw;
    struct m_put_ans ans;
    uint8_t *p = block_make(300000, 1, &id);
    assert_int_equal(put_block(e, &a, 4, &id, p, 300000, NULL), 0);
    /* both rights are needed, and the block must be there for the one that may be read */
    assert_int_equal(send_link(e, &a, 5, RIGHT_READ, 4, RIGHT_READ, &id, &ans), -EPERM);
    assert_int_equal(send_link(e, &a, 5, RIGHT_WRITE, 4, RIGHT_WRITE, &id, &ans), -EPERM);
    assert_int_equal(send_link(e, &a, 5, RIGHT_WRITE, 6, RIGHT_READ, &id, &ans), 0);
    assert_int_equal(ans.results[0].receipt.n, 0);
    assert_int_equal(get_block(e, &a, 5, id, &raw), ERR_NOT_FOUND);
    assert_int_equal(send_link(e, &a, 5, RIGHT_WRITE, 4, RIGHT_READ, &id, &ans), 0);
    assert_int_equal(ans.results_n, 1);
    struct m_receipt r;
    assert_int_equal(receipt_open(&r, ans.results[0].receipt, &e->key, &a), 0);
    assert_true(r.ns == 5 && r.len == 300000 && block_id_equal(&r.block, &id));
    assert_int_equal(get_block(e, &a, 5, id, &raw), 0);
    assert_memory_equal(raw.p, p, 300000);
    free(p);
    arena_free(&a);
}

/* A storage that knows no shorter way. */
static void test_link_by_copying(void **state)
{
    struct env *e = *state;
    const struct storage_ops *whole = e->s.storage->ops;
    struct storage_ops ops = *whole;
    ops.link = NULL;
    e->s.storage->ops = &ops;
    test_link(state);
    e->s.storage->ops = whole;
}

static void test_capabilities(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    uint8_t *p = block_make(100, 1, &id);
    assert_int_equal(put_block(e, &a, 4, &id, p, 100, NULL), 0);
    struct m_put_item it = {.block = id, .stored_len = 100, .logical_len = 100};
    struct m_put_head h = {.ns = 4, .items = &it, .items_n = 1};
    struct m_get_req g = {.ns = 4, .blocks = &id, .blocks_n = 1};
    struct m_put_ans ans;
    struct m_get_head gh;
    struct bytes raw;
    static const struct {
        uint64_t ns, rights;
        int put, get, have;
    } cases[] = {
        {4, RIGHT_READ | RIGHT_WRITE, 0, 0, 0},
        {4, RIGHT_READ, -EPERM, 0, 0},
        {4, RIGHT_WRITE, 0, -EPERM, 0},
        {5, RIGHT_READ | RIGHT_WRITE, -EPERM, -EPERM, -EPERM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        h.capability = g.capability = capability(e, &a, cases[i].ns, cases[i].rights);
        assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), cases[i].put);
        assert_int_equal(send_get(e, &a, &g, &gh, &raw), cases[i].get);
        assert_int_equal(send_have(e, &a, &g, &ans), cases[i].have);
    }
    h.capability = bytes_of("nonsense", 8);
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EACCES);
    struct m_capability c = {.server = SERVER,
                             .ns = 4,
                             .device = DEVICE,
                             .rights = 3,
                             .expiry_ms = (uint64_t)wall_ms() - 100000};
    struct buf b = {0};
    capability_seal(&c, &e->key, &b);
    h.capability = bytes_of(b.p, b.n);
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EACCES); /* expired */
    uint64_t put_bytes = e->s.put_bytes;
    uint64_t revoked = DEVICE;
    feed_set_revoked(e->s.access.feed, &revoked, 1);
    h.capability = capability(e, &a, 4, 3);
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EPERM);
    assert_int_equal(e->s.put_bytes, put_bytes); /* refused bytes do not count */
    buf_free(&b);
    free(p);
    arena_free(&a);
}

/* What is for another server is passed on to a server of the namespace or refused, never stored
 * here. */
static void test_relay(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    uint8_t *p = block_make(100, 1, &id);
    struct m_put_item it = {.block = id, .stored_len = 100, .logical_len = 100};
    struct m_put_head h = {.ns = 4,
                           .capability = capability(e, &a, 4, RIGHT_READ | RIGHT_WRITE),
                           .items = &it,
                           .items_n = 1,
                           .relay = 8,
                           .relay_capability = bytes_of("for the other", 13)};
    struct m_put_ans ans;
    struct storage_info info;
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EAGAIN); /* it knows none */
    assert_int_equal(atomic_load(&e->s.relays), 0);
    atomic_store(&e->s.relays, SERVICE_RELAYS_MAX); /* enough are being passed on */
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EBUSY);
    assert_int_equal(atomic_load(&e->s.relays), SERVICE_RELAYS_MAX);
    atomic_store(&e->s.relays, 0);
    h.capability = capability(e, &a, 4, RIGHT_READ);
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EPERM);
    struct m_capability c = {.server = SERVER,
                             .ns = 4,
                             .peer = 9,
                             .rights = RIGHT_READ | RIGHT_WRITE,
                             .expiry_ms = (uint64_t)wall_ms() + 60000};
    struct buf b = {0};
    capability_seal(&c, &e->key, &b);
    h.capability = bytes_of(b.p, b.n);
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 100), &ans), -EPERM); /* not for servers */
    assert_int_equal(e->s.storage->ops->have(e->s.storage, 4, &id, 1, &info), 0);
    assert_false(info.there);
    buf_free(&b);
    free(p);
    arena_free(&a);
}

static void test_malformed(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    uint8_t *p = block_make(100, 1, &id);
    struct reply w;
    static const char *const bodies[] = {"", "abc", "\xff\xff\xff\xff", "\0\0\0\1\x80",
                                         "\0\0\0\1\xc1"};
    static const size_t lens[] = {0, 3, 4, 5, 5};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(send_raw(e, "put", bytes_of(bodies[i], lens[i]), (struct bytes){0}, &w),
                         -EBADMSG);
        assert_int_equal(send_raw(e, "get", bytes_of(bodies[i], lens[i]), (struct bytes){0}, &w),
                         -EBADMSG);
    }
    struct m_put_item it = {.block = id, .stored_len = 100, .logical_len = 100};
    struct m_put_head h = {
        .ns = 4, .capability = capability(e, &a, 4, 3), .items = &it, .items_n = 1};
    struct m_put_ans ans;
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 99), &ans), -EBADMSG);
    assert_int_equal(send_put(e, &a, &h, (struct bytes){0}, &ans), -EBADMSG);
    it.stored_len = it.logical_len = UINT64_MAX;
    assert_int_equal(send_put(e, &a, &h, bytes_of(p, 99), &ans), -EBADMSG);
    it.stored_len = it.logical_len = BLOCK_MAX + 1;
    uint8_t *big = calloc(1, 20u << 20);
    assert_int_equal(send_put(e, &a, &h, bytes_of(big, BLOCK_MAX + 1), &ans), -EBADMSG);
    struct m_put_item five[5];
    for (size_t i = 0; i < 5; i++)
        five[i] =
            (struct m_put_item){.block = id, .stored_len = BLOCK_MAX, .logical_len = BLOCK_MAX};
    h.items = five;
    h.items_n = 5; /* 20 MiB: more than one put takes */
    assert_int_equal(send_put(e, &a, &h, bytes_of(big, 20u << 20), &ans), -EMSGSIZE);
    h.items_n = 0;
    assert_int_equal(send_put(e, &a, &h, (struct bytes){0}, &ans), 0);
    assert_int_equal(ans.results_n, 0);
    /* a larger one that is not said at its beginning to be somebody's, or is nobody's */
    h.items_n = 1;
    assert_int_equal(send_raw(e, "put", bytes_of(big, 1u << 20), (struct bytes){0}, &w), -EBADMSG);
    h.capability = bytes_str("forged");
    assert_int_equal(send_put(e, &a, &h, bytes_of(big, BLOCK_MAX), &ans), -EACCES);
    free(big);
    free(p);
    arena_free(&a);
}

/* More than an answer takes: the rest is to be asked for again. */
static void test_get_in_parts(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    enum { N = 6 };
    struct block_id ids[N];
    uint8_t *p[N];
    for (unsigned i = 0; i < N; i++) {
        p[i] = block_make(BLOCK_MAX, i, &ids[i]);
        assert_int_equal(put_block(e, &a, 4, &ids[i], p[i], BLOCK_MAX, NULL), 0);
    }
    struct m_get_req g = {
        .ns = 4, .capability = capability(e, &a, 4, 3), .blocks = ids, .blocks_n = N};
    struct m_get_head h;
    struct bytes raw;
    assert_int_equal(send_get(e, &a, &g, &h, &raw), 0);
    assert_int_equal(raw.n, PUT_BATCH_BYTES);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(h.items[i].error, i < 4 ? 0 : ERR_UNAVAILABLE);
    g.blocks += 4;
    g.blocks_n = 2;
    assert_int_equal(send_get(e, &a, &g, &h, &raw), 0);
    assert_int_equal(raw.n, 2 * BLOCK_MAX);
    assert_memory_equal(raw.p, p[4], BLOCK_MAX);
    for (unsigned i = 0; i < N; i++)
        free(p[i]);
    arena_free(&a);
}

static void flip_stored_bits(const char *dir)
{
    char *path;
    sqlite3 *db;
    assert_true(asprintf(&path, "%s/index.db", dir) > 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "UPDATE small SET bytes = CAST(x'ff' || substr(bytes, 2) AS BLOB)", NULL,
                     NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    free(path);
}

static void test_corrupt_block(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct bytes raw;
    uint8_t *p = block_make(100, 1, &id);
    assert_int_equal(put_block(e, &a, 4, &id, p, 100, NULL), 0);
    stop(e);
    flip_stored_bits(e->dir);
    start(e);
    assert_int_equal(get_block(e, &a, 4, id, &raw), ERR_NOT_FOUND);
    assert_int_equal(raw.n, 0);
    assert_int_equal(e->s.corrupt, 1);
    assert_int_equal(get_block(e, &a, 4, id, &raw), ERR_NOT_FOUND);
    assert_int_equal(e->s.corrupt, 1);
    assert_int_equal(put_block(e, &a, 4, &id, p, 100, NULL), 0);
    assert_int_equal(get_block(e, &a, 4, id, &raw), 0);
    /* a put finds it too, and repairs it */
    stop(e);
    flip_stored_bits(e->dir);
    start(e);
    assert_int_equal(put_block(e, &a, 4, &id, p, 100, NULL), 0);
    assert_int_equal(e->s.corrupt, 2);
    assert_int_equal(get_block(e, &a, 4, id, &raw), 0);
    assert_memory_equal(raw.p, p, 100);
    free(p);
    arena_free(&a);
}

static void test_full_disk(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct bytes raw;
    struct m_put_result r;
    struct rlimit before, low;
    uint8_t *p = block_make(2 << 20, 1, &id);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    low = before;
    low.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(put_block(e, &a, 4, &id, p, 2 << 20, &r), ERR_FULL);
    assert_int_equal(r.receipt.n, 0);
    assert_int_equal(get_block(e, &a, 4, id, &raw), ERR_NOT_FOUND);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(put_block(e, &a, 4, &id, p, 2 << 20, NULL), 0);
    free(p);
    arena_free(&a);
}

static void test_restart_and_trace(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct bytes raw;
    uint8_t *p = block_make(300000, 1, &id);
    assert_int_equal(put_block(e, &a, 4, &id, p, 300000, NULL), 0);
    stop(e);
    start(e);
    assert_int_equal(get_block(e, &a, 4, id, &raw), 0);
    assert_memory_equal(raw.p, p, 300000);
    FILE *f = fopen(e->trace, "r");
    char line[512] = "", hex[BLOCK_HEX_LEN + 1], want[64];
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    block_id_hex(&id, hex);
    snprintf(want, sizeof want, " put ns=4 target=3 ids=%.12s", hex);
    assert_non_null(strstr(line, want));
    free(p);
    arena_free(&a);
}

/* An account that has put as much as it may without a commit: nothing of another put is stored;
 * what is here already is no more than it was. */
static void test_never_committed(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id, small;
    struct m_put_result r;
    struct uncommitted_row row;
    uint8_t *p = NULL;
    struct bytes raw;
    e->s.uncommitted = uncommitted_new();
    unsigned n = 0;
    int err = 0;
    for (; !err; n += !err) {
        free(p);
        p = block_make(BLOCK_MAX, n, &id);
        err = put_block(e, &a, 4, &id, p, BLOCK_MAX, &r);
        uncommitted_quota(e->s.uncommitted, 4, 1);
    }
    assert_int_equal(err, -EDQUOT);
    assert_int_equal(n, UNCOMMITTED_LEAST / BLOCK_MAX);
    assert_int_equal(get_block(e, &a, 4, id, &raw), ERR_NOT_FOUND);
    free(p);
    p = block_make(BLOCK_MAX, 0, &id);
    assert_int_equal(put_block(e, &a, 4, &id, p, BLOCK_MAX, &r), 0); /* here already */
    uint8_t *q = block_make(100, 99, &small);
    assert_int_equal(put_block(e, &a, 4, &small, q, 100, &r), -EDQUOT);
    assert_int_equal(put_block(e, &a, 5, &small, q, 100, &r), 0); /* another namespace */
    while (uncommitted_next(e->s.uncommitted, &row, 1))
        uncommitted_settle(e->s.uncommitted, row.ns, &row.id);
    assert_int_equal(put_block(e, &a, 4, &small, q, 100, &r), 0);
    uncommitted_free(e->s.uncommitted);
    free(p);
    free(q);
    arena_free(&a);
}

static unsigned looks;
static const struct storage_ops *beneath;

static int have_counted(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n,
                        struct storage_info *out)
{
    looks++;
    return beneath->have(s, ns, ids, n, out);
}

/* What is here already is found out by putting it: it counts once, and nothing is looked up before
 * unless the bound is near. */
static void test_one_look(void **state)
{
    struct env *e = *state;
    struct arena a = {0};
    struct block_id id;
    struct m_put_result r;
    struct storage_ops ops = *e->s.storage->ops;
    beneath = e->s.storage->ops;
    ops.have = have_counted;
    looks = 0;
    e->s.storage->ops = &ops;
    e->s.uncommitted = uncommitted_new();
    uint8_t *p = block_make(BLOCK_MAX, 1, &id);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(put_block(e, &a, 4, &id, p, BLOCK_MAX, &r), 0);
    assert_int_equal(uncommitted_blocks(e->s.uncommitted), 1);
    assert_int_equal(put_block(e, &a, 5, &id, p, BLOCK_MAX, &r), 0);
    assert_int_equal(uncommitted_blocks(e->s.uncommitted), 2);
    assert_int_equal(looks, 0);
    uncommitted_quota(e->s.uncommitted, 4, 1);
    for (unsigned i = 2; i <= UNCOMMITTED_LEAST / BLOCK_MAX; i++) {
        struct block_id next;
        uint8_t *q = block_make(BLOCK_MAX, i, &next);
        assert_int_equal(put_block(e, &a, 4, &next, q, BLOCK_MAX, &r), 0);
        free(q);
    }
    assert_int_equal(looks, 0);
    assert_int_equal(put_block(e, &a, 4, &id, p, BLOCK_MAX, &r), 0); /* at the bound */
    assert_int_equal(looks, 1);
    e->s.storage->ops = beneath;
    uncommitted_free(e->s.uncommitted);
    free(p);
    arena_free(&a);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_put_get_have),
        TEST(test_hash_mismatch),
        TEST(test_partial_batch),
        TEST(test_another_namespace),
        TEST(test_link),
        TEST(test_link_by_copying),
        TEST(test_capabilities),
        TEST(test_relay),
        TEST(test_malformed),
        TEST(test_get_in_parts),
        TEST(test_corrupt_block),
        TEST(test_full_disk),
        TEST(test_restart_and_trace),
        TEST(test_never_committed),
        TEST(test_one_look),
    };
    return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
