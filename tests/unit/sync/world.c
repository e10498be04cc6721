// SPDX-License-Identifier: Apache-2.0
/* This file defines the functions of rpc, core, blocks, tree and vfs that the driver calls. */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "frame.h"
#include "parked.h"
#include "rpc.h"
#include "tree.h"
#include "vfs.h"

/* ---- time-outs of the test itself ---- */
int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the network ---- */
struct rpc {
    int unused;
};
static struct rpc the_rpc;
pthread_mutex_t net_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t net_wake = PTHREAD_COND_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER; /* turns or held has changed */
static uint64_t turns;                                   /* under net_lock, as held */
static bool held;
static bool net_nudged;
struct fake_call calls[CALLS_MAX];
size_t calls_n;

int rpc_new(struct rpc **out, const struct rpc_options *o)
{
    (void)o;
    *out = &the_rpc;
    return 0;
}

void rpc_wake(struct rpc *r)
{
    (void)r;
    pthread_mutex_lock(&net_lock);
    net_nudged = true;
    pthread_cond_signal(&net_wake);
    pthread_mutex_unlock(&net_lock);
}

/* Answers come from the test's own thread, by call_end. */
void rpc_turn(struct rpc *r, unsigned timeout_ms)
{
    (void)r;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_mutex_lock(&net_lock);
    turns++;
    pthread_cond_broadcast(&turned);
    while (!net_nudged && timeout_ms && !pthread_cond_timedwait(&net_wake, &net_lock, &t))
        ;
    net_nudged = false;
    pthread_mutex_unlock(&net_lock);
}

/* Whether it was open. */
static bool call_close(struct fake_call *c)
{
    pthread_mutex_lock(&net_lock);
    bool was = c->open;
    c->open = false;
    pthread_mutex_unlock(&net_lock);
    return was;
}

void call_end(struct fake_call *c, struct rpc_result *r)
{
    call_close(c);
    c->done(c->arg, r);
    buf_free(&r->body);
    rpc_wake(&the_rpc);
}

void rpc_free(struct rpc *r)
{
    (void)r;
    for (size_t i = 0; i < calls_n; i++)
        if (calls[i].open) {
            struct rpc_result gone = {.err = -ECANCELED};
            call_end(&calls[i], &gone);
        }
}

uint64_t rpc_start(struct rpc *r, const struct rpc_call *q)
{
    (void)r;
    pthread_mutex_lock(&net_lock);
    assert_true(calls_n < CALLS_MAX);
    /* a block server must not be able to act as the device */
    bool to_block_server = !strcmp(q->method, "put") || !strcmp(q->method, "get") ||
                           !strcmp(q->method, "have") || !strcmp(q->method, "link");
    assert_int_equal(q->anonymous, to_block_server);
    struct fake_call *c = &calls[calls_n];
    *c = (struct fake_call){.id = calls_n + 1,
                            .timeout_ms = q->timeout_ms,
                            .done = q->done,
                            .arg = q->arg,
                            .open = true};
    snprintf(c->url, sizeof c->url, "%s", q->url);
    snprintf(c->method, sizeof c->method, "%s", q->method);
    buf_append(&c->body, q->head.p, q->head.n);
    for (size_t i = 0; i < q->bodies_n; i++)
        buf_append(&c->body, q->bodies[i].p, q->bodies[i].n);
    calls_n++;
    pthread_mutex_unlock(&net_lock);
    return c->id;
}

void rpc_cancel(struct rpc *r, uint64_t id)
{
    (void)r;
    struct rpc_result gone = {.err = -ECANCELED};
    if (call_close(&calls[id - 1]))
        call_end(&calls[id - 1], &gone);
}

/* ---- waiting ---- */
static uint64_t turns_now(void)
{
    pthread_mutex_lock(&net_lock);
    uint64_t n = turns;
    pthread_mutex_unlock(&net_lock);
    return n;
}

struct turns turns_begin(void)
{
    return (struct turns){.seen = turns_now(), .end = now_ms() + WAIT_MS};
}

void turns_next(struct turns *t, const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    int late = 0;
    pthread_mutex_lock(&net_lock);
    while (turns == t->seen && !late)
        late = pthread_cond_timedwait(&turned, &net_lock, &until);
    t->seen = turns;
    pthread_mutex_unlock(&net_lock);
    if (late || now_ms() > t->end)
        fail_msg("never: %s", what);
}

struct meeting {
    struct sync_job job;
    pthread_barrier_t *at;
};

static void meet(struct sync *s, struct sync_job *j)
{
    (void)s;
    pthread_barrier_wait(((struct meeting *)j)->at);
}

static _Atomic unsigned met_n;

static void met(struct sync *s, struct sync_event *e)
{
    (void)s;
    (void)e;
    met_n++;
}

static void driver_turn(void)
{
    struct turns t = turns_begin();
    uint64_t before = t.seen;
    do {
        sync_wake(fs.sync);
        turns_next(&t, "a turn");
    } while (t.seen < before + 2); /* one of them has begun after this */
}

void settle(void)
{
    pthread_barrier_t at; /* whoever is there has no other job */
    pthread_barrier_init(&at, NULL, SYNC_WORKERS + 1);
    struct meeting m[SYNC_WORKERS];
    driver_turn();
    met_n = 0;
    for (size_t i = 0; i < SYNC_WORKERS; i++) {
        m[i] = (struct meeting){.job = {.run = meet, .ev.fn = met}, .at = &at};
        sync_job_start(fs.sync, &m[i].job);
    }
    pthread_barrier_wait(&at);
    WAIT_FOR(met_n == SYNC_WORKERS);
    driver_turn();
    pthread_barrier_destroy(&at);
}

void log_hold(bool hold)
{
    pthread_mutex_lock(&net_lock);
    held = hold;
    pthread_cond_broadcast(&turned);
    pthread_mutex_unlock(&net_lock);
}

static void log_wait(void)
{
    pthread_mutex_lock(&net_lock);
    turns++; /* a look is worth while */
    pthread_cond_broadcast(&turned);
    while (held)
        pthread_cond_wait(&turned, &net_lock);
    pthread_mutex_unlock(&net_lock);
}

struct fake_call *call_open(const char *method)
{
    struct fake_call *found = NULL;
    pthread_mutex_lock(&net_lock);
    for (size_t i = 0; i < calls_n && !found; i++)
        if (calls[i].open && strcmp(calls[i].method, method) == 0)
            found = &calls[i];
    pthread_mutex_unlock(&net_lock);
    return found;
}

struct fake_call *call_wait(const char *method)
{
    struct fake_call *c;
    WAIT_FOR((c = call_open(method)) != NULL);
    return c;
}

size_t calls_of(const char *method)
{
    size_t n = 0;
    pthread_mutex_lock(&net_lock);
    for (size_t i = 0; i < calls_n; i++)
        n += strcmp(calls[i].method, method) == 0;
    pthread_mutex_unlock(&net_lock);
    return n;
}

void answer(struct fake_call *c, const struct msg_desc *d, const void *msg)
{
    struct rpc_result r = {.status = 200, .seconds = 0.001};
    msg_encode(d, msg, &r.body);
    call_end(c, &r);
}

void answer_error(struct fake_call *c, int err)
{
    struct rpc_result r = {.err = err};
    snprintf(r.message, sizeof r.message, "%s: %s", c->url, strerror(-err));
    call_end(c, &r);
}

/* ---- the block store ---- */
struct fake_block store[BLOCKS_MAX];
size_t store_n, flushes;
pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;

size_t store_find(const struct block_id *id)
{
    size_t i = 0;
    while (i < store_n && !block_id_equal(&store[i].id, id))
        i++;
    return i;
}

struct block_id store_add(const char *text, bool here)
{
    return store_long(text, (uint32_t)strlen(text), here);
}

/* Its bytes from off on; more than it has room for repeat. */
static void store_bytes(const struct fake_block *f, uint32_t off, uint8_t *p, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        p[i] = f->data[(off + i) % sizeof f->data];
}

struct block_id store_long(const char *text, uint32_t len, bool here)
{
    struct fake_block f = {.len = len, .here = here};
    uint8_t *bytes = malloc(len + 1);
    assert_true(bytes && strlen(text) <= sizeof f.data);
    memcpy(f.data, text, strlen(text));
    store_bytes(&f, 0, bytes, len);
    block_id_of(&f.id, bytes, len);
    free(bytes);
    pthread_mutex_lock(&store_lock);
    store[store_n++] = f;
    pthread_mutex_unlock(&store_lock);
    return f.id;
}

bool blocks_has(struct blocks *b, const struct block_id *id, uint32_t *len)
{
    (void)b;
    pthread_mutex_lock(&store_lock);
    size_t i = store_find(id);
    bool has = i < store_n && store[i].here;
    if (has && len)
        *len = store[i].len;
    pthread_mutex_unlock(&store_lock);
    return has;
}

int blocks_read(struct blocks *b, const struct block_id *id, uint32_t off, void *p, uint32_t len)
{
    (void)b;
    pthread_mutex_lock(&store_lock);
    size_t i = store_find(id);
    int r = i < store_n && store[i].here ? 0 : -ENOENT;
    if (!r)
        store_bytes(&store[i], off, p, len);
    pthread_mutex_unlock(&store_lock);
    return r;
}

void blocks_put_cached(struct blocks *b, const struct blocks_item *v, size_t n)
{
    (void)b;
    pthread_mutex_lock(&store_lock);
    for (size_t k = 0; k < n; k++) {
        size_t i = store_find(&v[k].id);
        if (i < store_n)
            store[i].here = true;
    }
    pthread_mutex_unlock(&store_lock);
}

void blocks_synced(struct blocks *b, const struct block_id *v, size_t n)
{
    (void)b;
    pthread_mutex_lock(&store_lock);
    for (size_t k = 0; k < n; k++) {
        size_t i = store_find(&v[k]);
        if (i < store_n)
            store[i].synced = true;
    }
    pthread_mutex_unlock(&store_lock);
}

int blocks_send_again(struct blocks *b, const struct block_id *v, size_t n)
{
    (void)b;
    pthread_mutex_lock(&store_lock);
    for (size_t k = 0; k < n; k++) {
        size_t i = store_find(&v[k]);
        if (i < store_n)
            store[i].synced = false;
    }
    pthread_mutex_unlock(&store_lock);
    return 0;
}

void blocks_drop(struct blocks *b, const struct block_id *id)
{
    (void)b;
    (void)id;
}

size_t blocks_unsynced(struct blocks *b, const struct block_id *after, struct block_id *v,
                       size_t max)
{
    (void)b;
    (void)after;
    (void)v;
    (void)max;
    return 0;
}

_Atomic uint64_t disk_free;

void blocks_stat(struct blocks *b, struct blocks_stat *out)
{
    (void)b;
    *out = (struct blocks_stat){.keep_free = 100, .free_bytes = disk_free};
}

int blocks_flush(struct blocks *b)
{
    (void)b;
    __atomic_add_fetch(&flushes, 1, __ATOMIC_SEQ_CST);
    return 0;
}

int tree_flush(struct tree *t)
{
    (void)t;
    return 0;
}

struct fs fs;
bool log_long;
int checkpoints, checkpoint_ends, damaged;

bool tree_log_long(const struct tree *t)
{
    (void)t;
    return __atomic_load_n(&log_long, __ATOMIC_SEQ_CST);
}

bool tree_checkpoint_begin(struct tree *t)
{
    return tree_log_long(t);
}

int tree_checkpoint(struct tree *t)
{
    (void)t;
    __atomic_add_fetch(&checkpoints, 1, __ATOMIC_SEQ_CST);
    log_wait();
    return 0;
}

int tree_checkpoint_end(struct tree *t)
{
    (void)t;
    if (pthread_mutex_trylock(&fs.lock) == 0)
        abort(); /* called without it */
    __atomic_add_fetch(&checkpoint_ends, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&log_long, false, __ATOMIC_SEQ_CST);
    return 0;
}

int tree_get(struct tree *t, const char *key, int64_t *value)
{
    (void)t;
    (void)key;
    *value = 5;
    return 0;
}

/* ---- what programs do ---- */
_Atomic unsigned locks_lost;
void vfs_locks_lost(struct vfs *v, uint64_t node)
{
    (void)v;
    (void)node;
    locks_lost++;
}

size_t vfs_lock_stays(struct vfs *v, const void *op, struct m_lock_stay *out, size_t max)
{
    (void)v, (void)op, (void)out, (void)max;
    return 0;
}
void vfs_effects(struct vfs *v, const struct core_effects *fx)
{
    (void)v;
    (void)fx;
}
int vfs_before_apply(struct vfs *v, const struct m_record *r)
{
    (void)v;
    (void)r;
    return 0;
}
int answers_not_taken_in;
int vfs_before_answer(struct vfs *v, const struct m_commit_ans *a)
{
    (void)v;
    announced = a;
    return answers_not_taken_in && answers_not_taken_in-- ? -ENOSPC : 0;
}
bool vfs_has_room(struct vfs *v)
{
    (void)v;
    return true;
}
bool vfs_keeps_block(struct vfs *v, const struct block_id *id)
{
    (void)v;
    (void)id;
    return false;
}
int vfs_flush_all(struct vfs *v)
{
    (void)v;
    return 0;
}
uint64_t vfs_dirty_bytes(struct vfs *v)
{
    (void)v;
    return 0;
}

/* ---- one driver ---- */
bool equal_ranks;
bool onsite;
bool session_second;
static char dir[64];
enum role session_role;
size_t session_candidates, session_copies;

static void file_write(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define LATER_LOOKS 200

static _Atomic int64_t skew;

int64_t driver_ms(void)
{
    return now_ms() + skew;
}

void time_passes(unsigned ms)
{
    skew += ms;
    settle();
}

unsigned later_begin(void)
{
    settle();
    return 0;
}

void later_next(unsigned *looks, const char *what)
{
    if (++*looks > LATER_LOOKS)
        fail_msg("never, however late: %s", what);
    time_passes(LATER_MS);
}

struct fake_call *call_later(const char *method)
{
    struct fake_call *c;
    UNTIL_LATER((c = call_open(method)) != NULL);
    return c;
}

int setup(void **state)
{
    (void)state;
    char err[512];
    snprintf(dir, sizeof dir, "/tmp/steadfs-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    file_write("identity", "url=http://127.0.0.1:1\naccount=alice\ndevice=3\ncredential=d.3.x\n");
    fs = (struct fs){.opt = {.state = dir,
                             .mountpoint = dir,
                             .fsync_timeout_ms = 60000,
                             .timeout_ms = 5000,
                             .connect_timeout_ms = 1000,
                             .copies = 1}};
    pthread_mutex_init(&fs.lock, NULL);
    disk_free = 1u << 30;
    calls_n = store_n = flushes = 0;
    core_begin_anew();
    log_long = equal_ranks = onsite = session_second = false;
    checkpoints = checkpoint_ends = damaged = 0;
    session_role = ROLE_OWNER;
    session_candidates = 2;
    session_copies = 1;
    assert_int_equal(sync_new(&fs.sync, &fs, err), 0);
    skew = 0;
    pthread_mutex_lock(&fs.lock); /* its threads run already, and read it under one of both */
    pthread_mutex_lock(&fs.sync->inbox_lock);
    fs.sync->clock = driver_ms;
    pthread_mutex_unlock(&fs.sync->inbox_lock);
    pthread_mutex_unlock(&fs.lock);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    char command[128];
    sync_free(fs.sync);
    free(fs.opt.url);
    for (size_t i = 0; i < calls_n; i++)
        buf_free(&calls[i].body);
    pthread_mutex_destroy(&fs.lock);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

void answer_session(struct fake_call *c)
{
    struct m_candidate cand[] = {
        {.server = 11, .priority = 0, .capability = {(const uint8_t *)"cap", 3}},
        {.server = 12, .priority = equal_ranks ? 0 : 1, .capability = {(const uint8_t *)"cap", 3}}};
    struct m_premises hq = {.name = {(const uint8_t *)"hq", 2}};
    struct m_namespace n[] = {{.id = NS,
                               .name = {(const uint8_t *)"alice", 5},
                               .root = 1,
                               .role = session_role,
                               .head = cursor,
                               .copies_min = session_copies,
                               .candidates = cand + session_second,
                               .candidates_n = session_candidates - session_second,
                               .onsite = &hq,
                               .onsite_n = onsite},
                              {.id = 2,
                               .name = {(const uint8_t *)"team", 4},
                               .root = 2,
                               .role = session_role,
                               .candidates = cand,
                               .candidates_n = session_candidates}};
    struct m_server v[] = {{.id = 11,
                            .premises = {(const uint8_t *)"hq", 2},
                            .url = {(const uint8_t *)"http://hq", 9}},
                           {.id = 12,
                            .premises = {(const uint8_t *)"cloud", 5},
                            .url = {(const uint8_t *)"http://cloud", 12}}};
    struct m_session_ans a = {.device = 3,
                              .account = {(const uint8_t *)"alice", 5},
                              .namespaces = n,
                              .namespaces_n = session_second ? 2 : 1,
                              .servers = v,
                              .servers_n = 2,
                              .root_ns = NS,
                              .renew_ms = 600000};
    answer(c, &m_session_ans_desc, &a);
}

void start(void)
{
    char err[512];
    answer_session(call_wait("session"));
    assert_int_equal(sync_wait_session(fs.sync, WAIT_MS, err), 0);
}

void node_add(uint64_t node, const char *text)
{
    node_long(node, text, (uint32_t)strlen(text));
}

void node_long(uint64_t node, const char *text, uint32_t len)
{
    struct block_id id = store_long(text, len, true);
    pthread_mutex_lock(&fs.lock);
    nodes[nodes_n].node = node;
    nodes[nodes_n].sent = 0;
    nodes[nodes_n].id = id;
    nodes[nodes_n].len = len;
    nodes[nodes_n].dirty = true;
    nodes[nodes_n].unsure = false;
    nodes[nodes_n].parked = nodes[nodes_n].held = nodes[nodes_n].conflict = false;
    nodes_n++;
    pthread_mutex_unlock(&fs.lock);
}

void result_done(void *arg, int err)
{
    struct result *r = arg;
    __atomic_store_n(&r->err, err, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&r->calls, 1, __ATOMIC_SEQ_CST);
}
uint64_t barrier(uint64_t node, struct result *r)
{
    int err;
    pthread_mutex_lock(&fs.lock);
    uint64_t id = sync_barrier(fs.sync, node, false, result_done, r, &err);
    pthread_mutex_unlock(&fs.lock);
    assert_true(id != 0);
    return id;
}

void answer_diff_missing(struct fake_call *c, uint64_t target)
{
    struct arena cleanup_arena a = {0};
    struct m_diff_req q;
    assert_int_equal(msg_decode(&m_diff_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, &a, NULL),
                     0);
    if (target)
        assert_int_equal(q.target, target);
    struct block_id ids[8];
    assert_true(q.ids_n <= 8);
    for (size_t i = 0; i < q.ids_n; i++)
        ids[i] = q.ids[i].block;
    struct m_diff_ans m = {.missing = ids, .missing_n = q.ids_n};
    answer(c, &m_diff_ans_desc, &m);
}

size_t answer_put(struct fake_call *c, const char *receipt)
{
    struct arena cleanup_arena a = {0};
    struct m_put_head h;
    struct bytes head, raw;
    size_t at = 0;
    assert_int_equal(frame_split(bytes_of(c->body.p, c->body.n), &head, &raw), 0);
    assert_int_equal(msg_decode(&m_put_head_desc, &h, head.p, head.n, MSG_STRICT, &a, NULL), 0);
    struct m_put_result r[8];
    assert_true(h.items_n <= 8);
    for (size_t i = 0; i < h.items_n; i++) {
        assert_true(block_id_matches(&h.items[i].block, raw.p + at, h.items[i].stored_len));
        at += h.items[i].stored_len;
        r[i] = (struct m_put_result){.block = h.items[i].block, .receipt = bytes_str(receipt)};
    }
    assert_int_equal(at, raw.n);
    struct m_put_ans m = {.results = r, .results_n = h.items_n};
    answer(c, &m_put_ans_desc, &m);
    return h.items_n;
}

void answer_put_wrong(struct fake_call *c, const struct block_id *id)
{
    struct m_put_result r = {.block = *id, .error = ERR_BAD_MESSAGE};
    struct m_put_ans m = {.results = &r, .results_n = 1};
    answer(c, &m_put_ans_desc, &m);
}

struct m_commit_req commit_of(struct fake_call *c, struct arena *a)
{
    struct m_commit_req q;
    assert_int_equal(msg_decode(&m_commit_req_desc, &q, c->body.p, c->body.n, MSG_STRICT, a, NULL),
                     0);
    return q;
}

void answer_committed(struct fake_call *c, uint64_t sjid)
{
    struct m_commit_ans m = {.status = COMMIT_COMMITTED, .sjid = sjid, .head = sjid};
    answer(c, &m_commit_ans_desc, &m);
}
