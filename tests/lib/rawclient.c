// SPDX-License-Identifier: Apache-2.0
/* A client that speaks the protocol without a mount, under a device's identity: to fill a namespace
 * with more names than a test has time to create, and to try what an honest client never does.
 *
 *   rawclient STATE fill DIRS FILES     DIRS directories of FILES empty files, /fill/dNNNN/fNNNNN
 *   rawclient STATE shred PATHNAME N    a file of N extents of 4 KiB, all in one block, /PATHNAME
 *   rawclient STATE attack OTHER        commits without the right receipts, reads of what others
 * store; OTHER: a second namespace rawclient STATE store LEDGER STOP   puts blocks, four at a time,
 * until the file STOP is there; LEDGER gets the hash of each that was acknowledged rawclient STATE
 * check LEDGER        gets each of them; exits 1 if one is missing rawclient STATE crowd N N puts,
 * then N gets, each over a connection of its own
 *
 * `attack` prints `ok - …` or `not ok - …` a line, and exits 1 if any was not ok.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blockid.h"
#include "frame.h"
#include "rpc.h"
#include "token.h"

#define ROWS_A_COMMIT 10000
#define TIMEOUT_MS 60000

struct client {
    struct rpc *rpc;
    char url[300];
    const char *ca;
    struct arena a; /* of the session */
    struct m_session_ans s;
    uint64_t node, request;
    int failed;
};

static void die(const char *what, int err, const char *message)
{
    fprintf(stderr, "rawclient: %s: %s %s\n", what, strerror(-err), message);
    exit(1);
}

static char *read_text(const char *dir, const char *name)
{
    char path[4096], *text = calloc(1, 65536);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f || !text)
        return NULL;
    (void)!fread(text, 1, 65535, f);
    fclose(f);
    return text;
}

static void value_of(const char *text, const char *key, char *out, size_t cap)
{
    size_t n = strlen(key);
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (strncmp(p, key, n) == 0 && p[n] == '=') {
            snprintf(out, cap, "%.*s", (int)strcspn(p + n + 1, "\n"), p + n + 1);
            return;
        }
    die(key, -ENOENT, "not in the identity");
}

static void open_client(struct client *c, const char *state)
{
    char credential[300], message[512] = "";
    char *identity = read_text(state, "identity");
    if (!identity)
        die(state, -ENOENT, "no identity");
    value_of(identity, "url", c->url, sizeof c->url);
    value_of(identity, "credential", credential, sizeof credential);
    c->ca = read_text(state, "ca.pem");
    struct rpc_options o = {.ca_pem = c->ca, .credential = credential};
    int err = rpc_new(&c->rpc, &o);
    if (err)
        die("rpc", err, "");
    /* numbers of their own for every run: the metadata server takes lower ones for a restored copy
     */
    c->request = (uint64_t)time(NULL) << 12;
    c->node = ((uint64_t)time(NULL) & 0x7ffff) << 20;
    char *incarnation = read_text(state, "incarnation");
    struct m_session_req q = {.incarnation = bytes_of(incarnation, 16),
                              .requests_used = c->request,
                              .nodes_used = c->node};
    err = rpc_wait(c->rpc, c->url, "session", &m_session_req_desc, &q, &m_session_ans_desc, &c->s,
                   &c->a, TIMEOUT_MS, message);
    if (err)
        die("session", err, message);
    c->node = NODE_ID(c->s.device, c->node);
    free(identity);
}

static const struct m_namespace *namespace(const struct client *c, const char *name)
{
    for (size_t i = 0; i < c->s.namespaces_n; i++)
        if (name ? bytes_equal(c->s.namespaces[i].name, bytes_str(name))
                 : c->s.namespaces[i].id == c->s.root_ns)
            return &c->s.namespaces[i];
    die(name ? name : "root", -ENOENT, "no such namespace");
    return NULL;
}

static void commit(struct client *c, const struct m_namespace *ns, const struct m_changes *m,
                   struct m_block_ref *ids, size_t ids_n, struct m_receipt_bytes *receipts,
                   size_t receipts_n, struct m_commit_ans *ans, struct arena *a)
{
    char message[512] = "";
    struct buf changes = {0};
    uint64_t target = ns->candidates[0].server;
    msg_encode(&m_changes_desc, m, &changes);
    struct m_commit_req q = {.ns = ns->id,
                             .request = c->request,
                             .lowest_open = c->request,
                             .targets = &target,
                             .targets_n = 1,
                             .ids = ids,
                             .ids_n = ids_n,
                             .receipts = receipts,
                             .receipts_n = receipts_n,
                             .changes = bytes_of(changes.p, changes.n)};
    c->request++;
    int err = rpc_wait(c->rpc, c->url, "commit", &m_commit_req_desc, &q, &m_commit_ans_desc, ans, a,
                       TIMEOUT_MS, message);
    buf_free(&changes);
    if (err)
        die("commit", err, message);
}

static void must_commit(struct client *c, const struct m_namespace *ns, const struct m_changes *m)
{
    struct arena a = {0};
    struct m_commit_ans ans;
    commit(c, ns, m, NULL, 0, NULL, 0, &ans, &a);
    if (ans.status != COMMIT_COMMITTED)
        die("commit", -EIO, "not committed");
    arena_free(&a);
}

/* ---- fill
 * ---------------------------------------------------------------------------------------- */
struct rows {
    struct m_node_change *nodes;
    struct m_entry_change *entries;
    char (*names)[16];
    size_t n;
};

static uint64_t add(struct client *c, struct rows *r, uint64_t parent, enum node_type type,
                    const char *name)
{
    snprintf(r->names[r->n], sizeof r->names[0], "%s", name);
    uint64_t id = ++c->node;
    r->nodes[r->n] = (struct m_node_change){.node = id,
                                            .facets = FACET_CREATE,
                                            .type = type,
                                            .mode = type == NODE_DIR ? 0755 : 0644,
                                            .mtime = 1700000000000000000,
                                            .ctime = 1700000000000000000};
    r->entries[r->n] =
        (struct m_entry_change){.parent = parent, .name = bytes_str(r->names[r->n]), .node = id};
    r->n++;
    return id;
}

static void flush_rows(struct client *c, const struct m_namespace *ns, struct rows *r)
{
    struct m_changes m = {
        .nodes = r->nodes, .nodes_n = r->n, .entries = r->entries, .entries_n = r->n};
    if (r->n)
        must_commit(c, ns, &m);
    r->n = 0;
}

static void fill(struct client *c, unsigned dirs, unsigned files)
{
    const struct m_namespace *ns = namespace(c, NULL);
    struct rows r = {calloc(ROWS_A_COMMIT, sizeof *r.nodes),
                     calloc(ROWS_A_COMMIT, sizeof *r.entries),
                     calloc(ROWS_A_COMMIT, sizeof *r.names), 0};
    char name[16];
    uint64_t top = add(c, &r, ns->root, NODE_DIR, "fill");
    for (unsigned d = 0; d < dirs; d++) {
        snprintf(name, sizeof name, "d%04u", d);
        if (r.n == ROWS_A_COMMIT)
            flush_rows(c, ns, &r);
        uint64_t dir = add(c, &r, top, NODE_DIR, name);
        for (unsigned f = 0; f < files; f++) {
            snprintf(name, sizeof name, "f%05u", f);
            if (r.n == ROWS_A_COMMIT)
                flush_rows(c, ns, &r);
            add(c, &r, dir, NODE_REG, name);
        }
    }
    flush_rows(c, ns, &r);
    free(r.nodes);
    free(r.entries);
    free(r.names);
}

/* ---- blocks
 * ---------------------------------------------------------------------------------------- */
static const char *server_url(const struct client *c, uint64_t id)
{
    static _Thread_local char url[300];
    for (size_t i = 0; i < c->s.servers_n; i++)
        if (c->s.servers[i].id == id)
            snprintf(url, sizeof url, "%.*s", (int)c->s.servers[i].url.n,
                     (const char *)c->s.servers[i].url.p);
    return url;
}

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done, loud;
    int err;
    struct buf body;
};

static void answered(void *arg, struct rpc_result *r)
{
    struct answer *w = arg;
    pthread_mutex_lock(&w->lock);
    w->err = r->err;
    if (r->err && w->loud)
        fprintf(stderr, "rawclient: %s: %s\n", strerror(-r->err), r->message);
    buf_append(&w->body, r->body.p, r->body.n);
    w->done = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
}

/* 0 and the receipt (in arena a), or -errno. */
static int put(struct client *c, const struct m_namespace *ns, size_t candidate,
               uint64_t claimed_ns, const void *p, size_t n, struct bytes *receipt, struct arena *a)
{
    struct answer w = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    struct buf head = {0};
    struct m_put_ans ans;
    struct m_put_item item = {.stored_len = n, .logical_len = n};
    block_id_of(&item.block, p, n);
    struct m_put_head h = {.ns = claimed_ns,
                           .capability = ns->candidates[candidate].capability,
                           .items = &item,
                           .items_n = 1};
    frame_head(&m_put_head_desc, &h, &head);
    struct rpc_call call = {.url = server_url(c, ns->candidates[candidate].server),
                            .method = "put",
                            .head = bytes_of(head.p, head.n),
                            .body = bytes_of(p, n),
                            .done = answered,
                            .arg = &w};
    rpc_start(c->rpc, &call);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.ended, &w.lock);
    pthread_mutex_unlock(&w.lock);
    int err = w.err;
    if (!err)
        err = msg_decode(&m_put_ans_desc, &ans, w.body.p, w.body.n, MSG_LENIENT, a, NULL);
    if (!err)
        *receipt = arena_bytes(a, ans.results[0].receipt.p, ans.results[0].receipt.n);
    buf_free(&head);
    buf_free(&w.body);
    return err;
}

/* A new file whose content is n bytes of one block, or many extents of it. */
static void file_of(struct client *c, const struct m_namespace *ns, const char *name,
                    struct m_extent *e, size_t extents, uint64_t size, struct m_changes *m,
                    struct m_node_change *n, struct m_entry_change *entry, struct m_range *range)
{
    *range = (struct m_range){.len = size, .extents = e, .extents_n = extents};
    *n = (struct m_node_change){.node = ++c->node,
                                .facets = FACET_CREATE | FACET_CONTENT,
                                .type = NODE_REG,
                                .mode = 0644,
                                .size = size,
                                .ranges = range,
                                .ranges_n = 1,
                                .mtime = 1700000000000000000,
                                .ctime = 1700000000000000000};
    *entry = (struct m_entry_change){.parent = ns->root, .name = bytes_str(name), .node = n->node};
    *m = (struct m_changes){.nodes = n, .nodes_n = 1, .entries = entry, .entries_n = 1};
}

static void shred(struct client *c, const char *name, size_t extents)
{
    const struct m_namespace *ns = namespace(c, NULL);
    static uint8_t data[65536];
    struct arena a = {0};
    struct m_receipt_bytes receipt;
    struct m_commit_ans ans;
    struct m_changes m;
    struct m_node_change n;
    struct m_entry_change entry;
    struct m_range range;
    random_bytes(data, sizeof data);
    int err = put(c, ns, 0, ns->id, data, sizeof data, &receipt.receipt, &a);
    if (err)
        die("put", err, "");
    struct m_extent *e = calloc(extents, sizeof *e);
    struct m_block_ref id = {.len = sizeof data};
    block_id_of(&id.block, data, sizeof data);
    for (size_t i = 0; i < extents; i++) /* never the one that would continue the last */
        e[i] = (struct m_extent){
            .off = 4096 * i, .len = 4096, .block = id.block, .block_off = 4096 * (i * 5 % 16)};
    file_of(c, ns, name, e, extents, 4096 * extents, &m, &n, &entry, &range);
    commit(c, ns, &m, &id, 1, &receipt, 1, &ans, &a);
    if (ans.status != COMMIT_COMMITTED)
        die("commit", -EIO, "not committed");
    arena_free(&a);
    free(e);
}

/* ---- attack
 * ----------------------------------------------------------------------------------------- */
static void check(struct client *c, bool ok, const char *what)
{
    printf("%s - %s\n", ok ? "ok" : "not ok", what);
    c->failed += !ok;
}

/* A commit of one file with this block and this receipt must be answered with exactly that block as
 * missing, and leave the namespace as it was. */
static void refused(struct client *c, const struct m_namespace *ns, const struct block_id *id,
                    size_t len, struct bytes receipt, const char *what)
{
    struct arena a = {0};
    struct m_commit_ans ans;
    struct m_changes m;
    struct m_node_change n;
    struct m_entry_change entry;
    struct m_range range;
    struct m_extent e = {.len = len, .block = *id};
    struct m_block_ref ref = {.block = *id, .len = len};
    struct m_receipt_bytes r = {receipt};
    file_of(c, ns, "stolen", &e, 1, len, &m, &n, &entry, &range);
    for (int named = 0; named < 2; named++) { /* a client may also leave the id out of its list */
        commit(c, ns, &m, &ref, (size_t)named, &r, receipt.n ? 1 : 0, &ans, &a);
        bool exact =
            ans.missing_n + ans.elsewhere_n == 1 &&
            block_id_equal(ans.missing_n ? &ans.missing[0].block : &ans.elsewhere[0].block, id);
        check(c, ans.status == COMMIT_MISSING && exact, what);
    }
    struct m_lookup_req q = {
        .ns = ns->id, .parent = ns->root, .name = bytes_str("stolen"), .at = ans.head};
    struct m_lookup_ans found;
    if (!q.at)
        q.at = ns->head;
    int err = rpc_wait(c->rpc, c->url, "lookup", &m_lookup_req_desc, &q, &m_lookup_ans_desc, &found,
                       &a, TIMEOUT_MS, NULL);
    check(c, err == 0 && !found.entry_set, "… and nothing changed");
    arena_free(&a);
}

static void attack(struct client *c, const char *other_name)
{
    const struct m_namespace *ns = namespace(c, NULL), *other = namespace(c, other_name);
    struct arena a = {0};
    uint8_t x[5000], y[5000];
    struct block_id bx, by;
    struct bytes rx = {0}, ry = {0}, elsewhere = {0};
    random_bytes(x, sizeof x);
    random_bytes(y, sizeof y);
    block_id_of(&bx, x, sizeof x);
    block_id_of(&by, y, sizeof y);
    refused(c, ns, &bx, sizeof x, bytes_of(NULL, 0), "a commit without the upload");
    if (put(c, other, 0, other->id, x, sizeof x, &rx, &a) ||
        put(c, ns, 0, ns->id, y, sizeof y, &ry, &a))
        die("put", -EIO, "");
    refused(c, ns, &bx, sizeof x, bytes_of(NULL, 0), "a block that another namespace stores");
    refused(c, ns, &bx, sizeof x, rx, "a receipt for another namespace");
    refused(c, ns, &bx, sizeof x, ry, "a receipt for another block");
    refused(c, ns, &by, sizeof y, bytes_of(NULL, 0), "a put whose receipt is not presented");
    uint8_t *forged = arena_copy(&a, ry.p, ry.n);
    forged[ry.n - 1] ^= 1;
    refused(c, ns, &by, sizeof y, bytes_of(forged, ry.n), "a forged receipt");
    if (ns->candidates_n > 1) {
        if (put(c, ns, 1, ns->id, y, sizeof y, &elsewhere, &a))
            die("put", -EIO, "");
        refused(c, ns, &by, sizeof y, elsewhere, "a receipt of another server");
    }
    struct bytes none = {0};
    check(c, put(c, other, 0, ns->id, x, sizeof x, &none, &a) == -EPERM,
          "a put under another namespace's capability is refused");
    arena_free(&a);
}

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

static void store(struct client *c, const char *ledger, const char *stop)
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

/* A get of one block: its bytes are appended; 0 or -errno. */
static int get(struct client *c, const struct m_namespace *ns, const struct m_get_req *q,
               struct buf *out)
{
    struct answer w = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    struct buf body = {0};
    msg_encode(&m_get_req_desc, q, &body);
    struct rpc_call call = {.url = server_url(c, ns->candidates[0].server),
                            .method = "get",
                            .head = bytes_of(body.p, body.n),
                            .answer_max = 8u << 20,
                            .done = answered,
                            .arg = &w};
    rpc_start(c->rpc, &call);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.ended, &w.lock);
    pthread_mutex_unlock(&w.lock);
    buf_append(out, w.body.p, w.body.n);
    buf_free(&w.body);
    buf_free(&body);
    return w.err;
}

/* The block's bytes come back whole. */
static bool there(struct client *c, const struct m_namespace *ns, struct block_id *id)
{
    struct arena a cleanup_arena = {0};
    struct buf answer cleanup_buf = {0};
    struct m_get_req q = {
        .ns = ns->id, .capability = ns->candidates[0].capability, .blocks = id, .blocks_n = 1};
    struct bytes head, raw;
    struct m_get_head h;
    return get(c, ns, &q, &answer) == 0 &&
           frame_split(bytes_of(answer.p, answer.n), &head, &raw) == 0 &&
           msg_decode(&m_get_head_desc, &h, head.p, head.n, MSG_LENIENT, &a, NULL) == 0 &&
           h.items_n == 1 && !h.items[0].error && block_id_matches(id, raw.p, raw.n);
}

static void check_ledger(struct client *c, const char *ledger)
{
    const struct m_namespace *ns = namespace(c, NULL);
    FILE *f = fopen(ledger, "r");
    char line[BLOCK_HEX_LEN + 2];
    size_t n = 0;
    if (!f)
        die(ledger, -errno, "");
    while (fgets(line, sizeof line, f)) {
        struct block_id id;
        line[strcspn(line, "\n")] = '\0';
        if (block_id_parse(&id, line))
            die(ledger, -EBADMSG, line);
        n++;
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

static void crowd(struct client *c, size_t n)
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

int main(int argc, char **argv)
{
    struct client c = {0};
    if (argc < 4) {
        fprintf(stderr,
                "usage: rawclient STATE fill DIRS FILES | shred NAME EXTENTS | attack NAMESPACE | "
                "store LEDGER STOP | check LEDGER | crowd N\n");
        return 2;
    }
    open_client(&c, argv[1]);
    if (strcmp(argv[2], "fill") == 0 && argc == 5)
        fill(&c, (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    else if (strcmp(argv[2], "shred") == 0 && argc == 5)
        shred(&c, argv[3], (size_t)atoi(argv[4]));
    else if (strcmp(argv[2], "store") == 0 && argc == 5)
        store(&c, argv[3], argv[4]);
    else if (strcmp(argv[2], "check") == 0)
        check_ledger(&c, argv[3]);
    else if (strcmp(argv[2], "crowd") == 0)
        crowd(&c, (size_t)atoi(argv[3]));
    else if (strcmp(argv[2], "attack") == 0)
        attack(&c, argv[3]);
    else
        return 2;
    rpc_free(c.rpc);
    arena_free(&c.a);
    return c.failed ? 1 : 0;
}
