// SPDX-License-Identifier: Apache-2.0
/* Blocks stored and read again: what was acknowledged, and by many at once. */
#include "rawclient.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- store and check: what a block server acknowledged is there afterwards ------------------ */

#define STORERS 4
#define AGAIN_KEPT 64 /* blocks that are put again now and then */

struct storer {
    struct client *c;
    const char *stop; /* a file: stop when it is there */
    int ledger;       /* a line an acknowledged block */
    unsigned seed;
};

/* Small ones, and large ones a fifth of the time; some that were put before. */
static size_t make_block(struct storer *w, uint8_t *p)
{
    unsigned r = (unsigned)rand_r(&w->seed);
    size_t n = r % 5 ? 1 + r % 40000 : 262144 + r % 200000;
    unsigned seed = r % 7 ? r ^ w->seed << 8 : r % AGAIN_KEPT;
    if (r % 7 == 0)
        n = seed % 2 ? 3000 + seed : 300000 + seed;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
    return n;
}

static void *store_main(void *arg)
{
    struct storer *w = arg;
    const struct m_namespace *ns = namespace(w->c, NULL);
    uint8_t *p = malloc(500000);
    if (!p)
        abort();
    while (access(w->stop, F_OK) != 0) {
        struct arena a = {0};
        struct bytes receipt = {0};
        struct block_id id;
        char line[BLOCK_HEX_LEN + 2];
        size_t n = make_block(w, p);
        if (put(w->c, ns, 0, ns->id, p, n, &receipt, &a) == 0 && receipt.n) {
            block_id_of(&id, p, n);
            block_id_hex(&id, line);
            line[BLOCK_HEX_LEN] = '\n';
            if (write(w->ledger, line, BLOCK_HEX_LEN + 1) != BLOCK_HEX_LEN + 1)
                die("ledger", -errno, "");
        } else {
            usleep(5000); /* the server is down */
        }
        arena_free(&a);
    }
    free(p);
    return NULL;
}

void store(struct client *c, const char *ledger, const char *stop)
{
    pthread_t threads[STORERS];
    struct storer w[STORERS];
    int fd = open(ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        die(ledger, -errno, "");
    for (unsigned i = 0; i < STORERS; i++) {
        w[i] =
            (struct storer){.c = c, .stop = stop, .ledger = fd, .seed = (unsigned)c->request + i};
        if (pthread_create(&threads[i], NULL, store_main, &w[i]))
            abort();
    }
    for (unsigned i = 0; i < STORERS; i++)
        pthread_join(threads[i], NULL);
    close(fd);
}

#define RENEW_S 300 /* capabilities last 15 minutes */

/* The block's bytes come back whole. */
static bool there(struct client *c, const struct m_namespace *ns, struct block_id *id)
{
    struct arena a cleanup_arena = {0};
    struct buf answer cleanup_buf = {0};
    struct m_get_req q = {
        .ns = ns->id, .capability = ns->candidates[0].capability, .blocks = id, .blocks_n = 1};
    struct bytes head, raw, none = {0};
    struct m_get_head h;
    int err =
        ask(c, server_url(c, ns->candidates[0].server), "get", &m_get_req_desc, &q, none, &answer);
    if (err)
        die("get", err, "that tells nothing of the block");
    return frame_split(bytes_of(answer.p, answer.n), &head, &raw) == 0 &&
           msg_decode(&m_get_head_desc, &h, head.p, head.n, MSG_LENIENT, &a, NULL) == 0 &&
           h.items_n == 1 && !h.items[0].error && block_id_matches(id, raw.p, raw.n);
}

void check_ledger(struct client *c, const char *ledger)
{
    const struct m_namespace *ns = namespace(c, NULL);
    FILE *f = fopen(ledger, "r");
    char line[BLOCK_HEX_LEN + 2];
    size_t n = 0;
    time_t renew = time(NULL) + RENEW_S;
    if (!f)
        die(ledger, -errno, "");
    while (fgets(line, sizeof line, f)) {
        struct block_id id;
        line[strcspn(line, "\n")] = '\0';
        if (block_id_parse(&id, line))
            die(ledger, -EBADMSG, line);
        n++;
        if (time(NULL) >= renew) {
            open_session(c);
            ns = namespace(c, NULL);
            renew = time(NULL) + RENEW_S;
        }
        if (!there(c, ns, &id)) {
            printf("missing %s\n", line);
            c->failed++;
        }
    }
    fclose(f);
    printf("%zu acknowledged, %d missing\n", n, c->failed);
}

/* ---- crowd: as many connections at once as there are calls ----------------------------------- */

#define VISITOR_BLOCK 40000

/* A put and then a get of one block. */
struct visitor {
    struct answer w;
    struct buf head;
    uint8_t *p;
    struct block_id id;
};

/* A client keeps no more connections than this open. */
#define VISITORS_A_CLIENT 230
#define CLIENTS_MAX 64

static void visit(struct rpc *rpc, struct visitor *v, struct rpc_call c)
{
    v->w = (struct answer){
        .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER, .loud = true};
    c.head = bytes_of(v->head.p, v->head.n);
    c.timeout_ms = 3 * TIMEOUT_MS;
    c.done = answered;
    c.arg = &v->w;
    rpc_start(rpc, &c);
}

static void wait_for(struct answer *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->ended, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

/* Makes the call for all that did not succeed yet, at the same time; so many did. On a busy machine
 * not every handshake is done within the connect time-out: some have to come again. */
static size_t visit_all(struct rpc **rpc, struct visitor *v, size_t n,
                        struct rpc_call (*call)(const struct visitor *v, const char *url),
                        const char *url)
{
    size_t right = 0;
    for (size_t i = 0; i < n; i++)
        v[i].w.err = -EAGAIN;
    for (int tries = 0; tries < 5 && right < n; tries++) {
        for (size_t i = 0; i < n; i++)
            if (v[i].w.err)
                visit(rpc[i / VISITORS_A_CLIENT], &v[i], call(&v[i], url));
        right = 0;
        for (size_t i = 0; i < n; i++) {
            wait_for(&v[i].w);
            right += !v[i].w.err;
        }
    }
    return right;
}

static struct rpc_call put_of(const struct visitor *v, const char *url)
{
    return (struct rpc_call){.url = url, .method = "put", .body = bytes_of(v->p, VISITOR_BLOCK)};
}

static struct rpc_call get_of(const struct visitor *v, const char *url)
{
    (void)v;
    return (struct rpc_call){.url = url, .method = "get", .answer_max = 1u << 20};
}

static size_t all_put(struct rpc **rpc, const char *url, const struct m_namespace *ns,
                      struct visitor *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(v[i].p = malloc(VISITOR_BLOCK)))
            abort();
        random_bytes(v[i].p, VISITOR_BLOCK);
        block_id_of(&v[i].id, v[i].p, VISITOR_BLOCK);
        struct m_put_item item = {
            .block = v[i].id, .stored_len = VISITOR_BLOCK, .logical_len = VISITOR_BLOCK};
        struct m_put_head h = {
            .ns = ns->id, .capability = ns->candidates[0].capability, .items = &item, .items_n = 1};
        frame_head(&m_put_head_desc, &h, &v[i].head);
    }
    return visit_all(rpc, v, n, put_of, url);
}

static size_t all_get(struct rpc **rpc, const char *url, const struct m_namespace *ns,
                      struct visitor *v, size_t n)
{
    size_t right = 0;
    for (size_t i = 0; i < n; i++) {
        struct m_get_req q = {.ns = ns->id,
                              .capability = ns->candidates[0].capability,
                              .blocks = &v[i].id,
                              .blocks_n = 1};
        v[i].head.n = 0;
        msg_encode(&m_get_req_desc, &q, &v[i].head);
    }
    visit_all(rpc, v, n, get_of, url);
    for (size_t i = 0; i < n; i++) {
        const struct buf *b = &v[i].w.body;
        right += !v[i].w.err && b->n > VISITOR_BLOCK &&
                 !memcmp(b->p + b->n - VISITOR_BLOCK, v[i].p, VISITOR_BLOCK);
    }
    return right;
}

void crowd(struct client *c, size_t n)
{
    const struct m_namespace *ns = namespace(c, NULL);
    const char *url = server_url(c, ns->candidates[0].server);
    struct visitor *v = calloc(n, sizeof *v);
    struct rpc *rpc[CLIENTS_MAX];
    struct rpc_options o = {.ca_pem = c->ca, .max_per_host = VISITORS_A_CLIENT};
    size_t clients = (n + VISITORS_A_CLIENT - 1) / VISITORS_A_CLIENT;
    if (!v || clients > CLIENTS_MAX)
        abort();
    for (size_t i = 0; i < clients; i++)
        if (rpc_new(&rpc[i], &o))
            abort();
    size_t put_n = all_put(rpc, url, ns, v, n), got_n = all_get(rpc, url, ns, v, n);
    printf("%zu put, %zu got\n", put_n, got_n);
    c->failed += put_n != n || got_n != n;
    for (size_t i = 0; i < clients; i++)
        rpc_free(rpc[i]);
}
