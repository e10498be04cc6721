// SPDX-License-Identifier: Apache-2.0
/* A client that speaks the protocol without a mount, under a device's identity: to fill a namespace
 * with more names than a test has time to create, and to try what an honest client never does.
 *
 *   rawclient STATE fill DIRS FILES     DIRS directories of FILES empty files, /fill/dNNNN/fNNNNN
 *   rawclient STATE shred PATHNAME N    a file of N extents of 4 KiB, all in one block, /PATHNAME
 *   rawclient STATE attack OTHER        commits without the right receipts, reads of what others
 *                                       store; OTHER: a second namespace
 *   rawclient STATE outsider NS         questions about a namespace of others, by its number
 *
 *   rawclient STATE elsewhere SERVER URL  brings content of the root namespace to a block server
 * that it is not to be at
 *
 *   rawclient STATE hold NAMESPACE READY  puts and gets blocks under the capability that it got at
 * its start, made anew by nothing, until both are refused; READY is made once they have worked;
 * prints by what
 *
 *   rawclient STATE store LEDGER STOP   puts blocks, four at a time, until the file STOP is there;
 *                                       LEDGER gets the hash of each acknowledged one
 *
 *   rawclient STATE check LEDGER        gets each of them; exits 1 if one is missing
 *
 *   rawclient STATE crowd N             N puts, then N gets, each over its own connection
 *
 * `attack` and `outsider` print `ok - …` or `not ok - …` a line, and exits 1 if any was not ok.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rawclient.h"

#define ROWS_A_COMMIT 10000

void die(const char *what, int err, const char *message)
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

void open_session(struct client *c)
{
    char message[512] = "";
    char *incarnation = read_text(c->state, "incarnation");
    struct m_session_req q = {.incarnation = bytes_of(incarnation, 16),
                              .requests_used = c->request,
                              .nodes_used = c->node & ((UINT64_C(1) << NODE_COUNTER_BITS) - 1)};
    int err = rpc_wait(c->rpc, c->url, "session", &m_session_req_desc, &q, &m_session_ans_desc,
                       &c->s, &c->a, TIMEOUT_MS, message);
    if (err)
        die("session", err, message);
    free(incarnation);
}

static void open_client(struct client *c, const char *state)
{
    char credential[300];
    char *identity = read_text(state, "identity");
    if (!identity)
        die(state, -ENOENT, "no identity");
    value_of(identity, "url", c->url, sizeof c->url);
    value_of(identity, "credential", credential, sizeof credential);
    c->ca = read_text(state, "ca.pem");
    c->state = state;
    struct rpc_options o = {.ca_pem = c->ca, .credential = credential};
    int err = rpc_new(&c->rpc, &o);
    if (err)
        die("rpc", err, "");
    /* numbers of their own for every run: the metadata server takes lower ones for a restored copy
     */
    c->request = (uint64_t)time(NULL) << 12;
    c->node = ((uint64_t)time(NULL) & 0x7ffff) << 20;
    open_session(c);
    c->node = NODE_ID(c->s.device, c->node);
    free(identity);
}

const struct m_namespace *namespace(const struct client *c, const char *name)
{
    for (size_t i = 0; i < c->s.namespaces_n; i++)
        if (name ? bytes_equal(c->s.namespaces[i].name, bytes_str(name))
                 : c->s.namespaces[i].id == c->s.root_ns)
            return &c->s.namespaces[i];
    die(name ? name : "root", -ENOENT, "no such namespace");
    return NULL;
}

void commit(struct client *c, const struct m_namespace *ns, const struct m_changes *m,
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
const char *server_url(const struct client *c, uint64_t id)
{
    static _Thread_local char url[300];
    for (size_t i = 0; i < c->s.servers_n; i++)
        if (c->s.servers[i].id == id)
            snprintf(url, sizeof url, "%.*s", (int)c->s.servers[i].url.n,
                     (const char *)c->s.servers[i].url.p);
    return url;
}

void answered(void *arg, struct rpc_result *r)
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
int put(struct client *c, const struct m_namespace *ns, size_t candidate, uint64_t claimed_ns,
        const void *p, size_t n, struct bytes *receipt, struct arena *a)
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

/* One question and its answer as it came; 0 or -errno. */
int ask(struct client *c, const char *url, const char *method, const struct msg_desc *d,
        const void *msg, struct bytes raw, struct buf *out)
{
    struct answer w = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    struct buf head = {0};
    if (raw.n)
        frame_head(d, msg, &head);
    else
        msg_encode(d, msg, &head);
    struct rpc_call call = {.url = url,
                            .method = method,
                            .head = bytes_of(head.p, head.n),
                            .body = raw,
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
    buf_free(&head);
    return w.err;
}

/* A new file whose content is n bytes of one block, or many extents of it. */
void file_of(struct client *c, const struct m_namespace *ns, const char *name, struct m_extent *e,
             size_t extents, uint64_t size, struct m_changes *m, struct m_node_change *n,
             struct m_entry_change *entry, struct m_range *range)
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

int main(int argc, char **argv)
{
    struct client c = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: rawclient STATE fill DIRS FILES | shred NAME EXTENTS | attack "
                        "NAMESPACE | outsider NS | elsewhere SERVER URL | "
                        "hold NAMESPACE READY | "
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
    else if (strcmp(argv[2], "outsider") == 0)
        outsider(&c, strtoull(argv[3], NULL, 10));
    else if (strcmp(argv[2], "elsewhere") == 0 && argc == 5)
        elsewhere(&c, strtoull(argv[3], NULL, 10), argv[4]);
    else if (strcmp(argv[2], "hold") == 0 && argc == 5)
        hold(&c, argv[3], argv[4]);
    else if (strcmp(argv[2], "attack") == 0)
        attack(&c, argv[3]);
    else
        return 2;
    rpc_free(c.rpc);
    arena_free(&c.a);
    return c.failed ? 1 : 0;
}
