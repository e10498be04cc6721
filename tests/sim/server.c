// SPDX-License-Identifier: Apache-2.0
/* The metadata server on a simulated disk, and a block server that keeps what it is told.
 *
 * Making an installation (schema, accounts, devices) costs more than most runs, so it is made once
 * and every run starts with a copy of its disk. The secrets in it differ from process to process;
 * nothing that a run decides or logs depends on them.
 *
 * The block server is a set of blocks that are durable at once; its receipts are real ones.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DB "meta.db"
#define START_MS 1700000000000 /* when the installation was made */

struct installation {
    struct simvfs *disk;
    unsigned clients;
    struct meta_caller who[CLIENTS_MAX];
    uint64_t device[CLIENTS_MAX];
    struct token_key key;
    uint64_t server, ns;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "sim: making an installation: %s: %s\n", what, why);
    abort();
}

/* Runs `words` as the administrator; the answer's text. */
static struct bytes command(struct meta *m, const struct meta_caller *admin, struct arena *ar,
                            const char *const *words)
{
    struct m_word v[16];
    struct m_command_req q = {.words = v};
    struct m_command_ans a;
    for (; words[q.words_n]; q.words_n++)
        v[q.words_n].text = bytes_str(words[q.words_n]);
    int err = meta_command(m, admin, &q, START_MS, &a, ar);
    if (err || a.exit_status)
        die(words[1], err ? strerror(-err) : arena_str(ar, a.text));
    return a.text;
}

/* What stands behind the last slash of the last line that has one: a token, in what `account token`
 * and `server add` print. */
static struct bytes token_in(struct bytes text)
{
    size_t end = text.n;
    while (end && (text.p[end - 1] == '\n' || text.p[end - 1] == ' '))
        end--;
    size_t at = end;
    while (at && text.p[at - 1] != '/' && text.p[at - 1] != '\n' && text.p[at - 1] != ' ')
        at--;
    size_t hash = at;
    while (hash < end && text.p[hash] != '#')
        hash++;
    return bytes_of(text.p + at, hash - at);
}

static void enrol(struct installation *i, struct meta *m, const struct meta_caller *admin)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    for (unsigned k = 0; k < i->clients; k++) {
        char name[16];
        struct m_login_ans a;
        struct bytes text = command(
            m, admin, &ar, (const char *const[]){"admin", "account", "token", "alice", NULL});
        snprintf(name, sizeof name, "dev%u", k);
        struct m_login_req q = {
            .account = bytes_str("alice"), .token = token_in(text), .device_name = bytes_str(name)};
        if (meta_login(m, &q, START_MS, &a, &ar, why))
            die("login", why);
        i->device[k] = a.device;
        if (meta_authenticate(m, arena_str(&ar, a.credential), &i->who[k]))
            die("login", "the credential is refused");
    }
}

static void furnish(struct installation *i, struct meta *m, const struct meta_caller *admin)
{
    static const uint8_t incarnation[16] = "block server one";
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    command(m, admin, &ar, (const char *const[]){"admin", "account", "add", "alice", NULL});
    struct bytes text =
        command(m, admin, &ar, (const char *const[]){"admin", "server", "add", "hq", NULL});
    struct m_join_req q = {.token = token_in(text),
                           .url = bytes_str("http://127.0.0.1:1"),
                           .incarnation = bytes_of(incarnation, sizeof incarnation)};
    struct m_join_ans a;
    if (meta_join(m, &q, START_MS, &a, &ar, why))
        die("join", why);
    i->server = a.server;
    i->key.id = a.key_id;
    memcpy(i->key.key, a.key.p, TOKEN_KEY_LEN);
    command(m, admin, &ar, (const char *const[]){"admin", "assign", "alice", "hq", NULL});
    enrol(i, m, admin);
    struct m_session_ans s;
    uint8_t mine[16];
    client_incarnation(0, mine);
    struct m_session_req sq = {.incarnation = bytes_of(mine, sizeof mine)};
    if (meta_session(m, &i->who[0], &sq, START_MS, &s, &ar, why))
        die("session", why);
    i->ns = s.root_ns;
}

struct installation *installation_new(unsigned clients)
{
    struct installation *i = calloc(1, sizeof *i);
    struct meta *m;
    struct meta_caller admin;
    char credential[META_CREDENTIAL_MAX], why[512] = "";
    if (!i)
        abort();
    i->clients = clients;
    i->disk = simvfs_new("sim-template");
    simvfs_reset(i->disk, 0);
    struct meta_options o = {.path = DB, .vfs = simvfs_name(i->disk)};
    if (meta_open(&m, &o, why))
        die("open", why);
    if (meta_init(m, START_MS, credential, why) || meta_authenticate(m, credential, &admin))
        die("init", why);
    furnish(i, m, &admin);
    meta_close(m);
    return i;
}

void installation_free(struct installation *i)
{
    if (i)
        simvfs_free(i->disk);
    free(i);
}

/* ---- life ------------------------------------------------------------------------------------ */
static int server_open(struct sim *s)
{
    char why[512] = "";
    struct meta_options o = {.path = DB, .vfs = simvfs_name(s->server.disk)};
    int err = meta_open(&s->server.meta, &o, why);
    if (err)
        sim_fail(s, "the metadata server does not start: %s", why);
    return err;
}

int server_start(struct sim *s, const struct installation *i)
{
    struct server *v = &s->server;
    simvfs_reset(v->disk, s->seed ^ 0x5e5e);
    simvfs_copy(v->disk, i->disk);
    memcpy(v->who, i->who, sizeof v->who);
    memcpy(v->device, i->device, sizeof v->device);
    v->key = i->key;
    v->id = i->server;
    v->ns = i->ns;
    v->seen = 0;
    memset(v->facts, 0, sizeof v->facts);
    return server_open(s);
}

void server_stop(struct server *v)
{
    meta_close(v->meta);
    v->meta = NULL;
}

void server_crash(struct sim *s)
{
    struct server *v = &s->server;
    simvfs_crash(v->disk);
    server_stop(v);
    simvfs_restart(v->disk, true);
    s->count.crashes++;
    sim_log(s, "server crashes");
    if (server_open(s))
        return;
    uint64_t head = server_head(s);
    if (head < v->seen)
        sim_fail(s, "after a power loss the journal ends at %llu; %llu was acknowledged",
                 (unsigned long long)head, (unsigned long long)v->seen);
}

uint64_t server_head(struct sim *s)
{
    uint64_t head = 0;
    if (meta_head(s->server.meta, &s->server.who[0], s->server.ns, &head))
        sim_fail(s, "the journal's head cannot be read");
    return head;
}

static uint64_t fact(uint64_t parent, struct bytes name, uint64_t node)
{
    uint64_t h = 0xcbf29ce484222325u ^ parent * 0x9e3779b97f4a7c15u ^ node;
    for (size_t i = 0; i < name.n; i++)
        h = (h ^ name.p[i]) * 0x100000001b3u;
    struct rng r = {h};
    return rng_u64(&r) | 1;
}

#define FACTS (sizeof(((struct server *)0)->facts) / sizeof(uint64_t))

static void fact_add(struct server *v, uint64_t f)
{
    size_t i = f % FACTS;
    while (v->facts[i] && v->facts[i] != f)
        i = (i + 1) % FACTS;
    v->facts[i] = f;
}

bool server_told(const struct sim *s, uint64_t parent, struct bytes name, uint64_t node)
{
    uint64_t f = fact(parent, name, node);
    size_t i = f % FACTS;
    while (s->server.facts[i] && s->server.facts[i] != f)
        i = (i + 1) % FACTS;
    return s->server.facts[i] == f;
}

void server_follow(struct sim *s)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_list_req q = {.ns = s->server.ns, .from = s->server.seen};
    struct m_list_ans a;
    if (meta_list(s->server.meta, &s->server.who[0], &q, &a, &ar, why)) {
        sim_fail(s, "the journal cannot be read: %s", why);
        return;
    }
    for (size_t i = 0; i < a.records_n; i++) {
        const struct m_record *r = &a.records[i];
        for (size_t k = 0; k < r->contents_n; k++)
            for (size_t j = 0; j < r->contents[k].ranges_n; j++)
                ledger_committed(&s->ledger, r->contents[k].ranges[j].extents,
                                 r->contents[k].ranges[j].extents_n);
        for (size_t k = 0; k < r->inodes_n; k++)
            fact_add(&s->server, fact(0, bytes_of(NULL, 0), r->inodes[k].node));
        for (size_t k = 0; k < r->entries_n; k++)
            if (r->entries[k].node)
                fact_add(&s->server,
                         fact(r->entries[k].parent, r->entries[k].name, r->entries[k].node));
        s->server.seen = r->sjid;
        sim_log(s, "  record %llu of dev%llu request %llu: %zu inodes %zu entries %zu contents",
                (unsigned long long)r->sjid, (unsigned long long)r->device,
                (unsigned long long)r->request, r->inodes_n, r->entries_n, r->contents_n);
        for (size_t k = 0; s->opt.verbose && k < r->entries_n; k++)
            sim_log(s, "    entry %llx/%.*s = %llx", (unsigned long long)r->entries[k].parent,
                    (int)r->entries[k].name.n, (const char *)r->entries[k].name.p,
                    (unsigned long long)r->entries[k].node);
        for (size_t k = 0; s->opt.verbose && k < r->inodes_n; k++)
            sim_log(s, "    inode %llx nlink %llu size %llu content %llu attr %llu%s",
                    (unsigned long long)r->inodes[k].node, (unsigned long long)r->inodes[k].nlink,
                    (unsigned long long)r->inodes[k].size,
                    (unsigned long long)r->inodes[k].content_rev,
                    (unsigned long long)r->inodes[k].attr_rev, r->inodes[k].gone ? " gone" : "");
    }
}

/* ---- requests ----------------------------------------------------------------------------------
 */
static int put(struct sim *s, struct bytes body, struct buf *answer)
{
    cleanup_arena struct arena ar = {0};
    struct m_put_head h;
    struct m_put_ans a = {0};
    if (msg_decode(&m_put_head_desc, &h, body.p, body.n, MSG_STRICT, &ar, NULL))
        return ERR_BAD_MESSAGE;
    a.results = arena_alloc(&ar, (h.items_n + 1) * sizeof *a.results);
    for (size_t i = 0; i < h.items_n; i++) {
        cleanup_buf struct buf token = {0};
        struct m_receipt r = {.server = s->server.id,
                              .ns = h.ns,
                              .block = h.items[i].block,
                              .len = h.items[i].logical_len,
                              .incarnation = bytes_of("block server one", 16),
                              .time_ms = (uint64_t)(s->now / 1000000),
                              .key_id = s->server.key.id};
        receipt_seal(&r, &s->server.key, &token);
        a.results[a.results_n++] =
            (struct m_put_result){.block = r.block, .receipt = arena_bytes(&ar, token.p, token.n)};
    }
    msg_encode(&m_put_ans_desc, &a, answer);
    return 0;
}

#define CALL(name, ...)                                                                            \
    static int call_##name(struct sim *s, const struct meta_caller *who, struct bytes body,        \
                           struct buf *answer, struct arena *ar, char *why)                        \
    {                                                                                              \
        struct m_##name##_req q;                                                                   \
        struct m_##name##_ans a;                                                                   \
        int64_t now_ms = s->now / 1000000;                                                         \
        (void)now_ms;                                                                              \
        if (msg_decode(&m_##name##_req_desc, &q, body.p, body.n, MSG_STRICT, ar, NULL))            \
            return -EBADMSG;                                                                       \
        int err = meta_##name(s->server.meta, who, &q, ##__VA_ARGS__, &a, ar, why);                \
        if (!err)                                                                                  \
            msg_encode(&m_##name##_ans_desc, &a, answer);                                          \
        return err;                                                                                \
    }
CALL(session, now_ms)
CALL(commit, now_ms)
CALL(diff)
CALL(list)
CALL(lookup)
CALL(readdir)
CALL(node)
CALL(extents)

static const struct {
    const char *method;
    int (*fn)(struct sim *s, const struct meta_caller *who, struct bytes body, struct buf *answer,
              struct arena *ar, char *why);
} methods[] = {{"session", call_session}, {"commit", call_commit},  {"diff", call_diff},
               {"list", call_list},       {"lookup", call_lookup},  {"readdir", call_readdir},
               {"node", call_node},       {"extents", call_extents}};

int server_call(struct sim *s, unsigned client, const char *method, struct bytes body,
                struct buf *answer)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    int err = -ENOSYS;
    if (!strcmp(method, "put"))
        return put(s, body, answer);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(methods[i].method, method))
            err = methods[i].fn(s, &s->server.who[client], body, answer, &ar, why);
    if (simvfs_crashed(s->server.disk)) {
        answer->n = 0;
        server_crash(s);
        return -1;
    }
    if (err == -ESTALE)
        return ERR_RESYNC;
    if (err) {
        sim_fail(s, "%s of client %u: %s: %s", method, client, strerror(-err), why);
        return ERR_INTERNAL;
    }
    return 0;
}
