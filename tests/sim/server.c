// SPDX-License-Identifier: Apache-2.0
/* The metadata server on a simulated disk.
 *
 * A request is executed under the credential that its client has, as the real server does. What
 * each record of a journal says is checked against what the block servers hold, and remembered: a
 * client that was told so may count on it.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DB "meta.db"

/* ---- life ------------------------------------------------------------------------------------ */
static int server_open(struct sim *s)
{
    char why[512] = "";
    struct meta_options o = {.path = DB,
                             .vfs = simvfs_name(s->server.disk),
                             .gc_grace_ms = s->p.grace_ms,
                             .marks_below = s->seed % 2}; /* all of them, or one */
    int err = meta_open(&s->server.meta, &o, why);
    if (!err && s->p.ticks) {
        err = meta_started(s->server.meta);
        for (unsigned k = 0; k < SERVERS_MAX; k++)
            s->blockd[k].unheard = true;
    }
    if (err)
        sim_fail(s, "the metadata server does not start: %s", why);
    return err;
}

int server_start(struct sim *s, const struct installation *i)
{
    struct server *v = &s->server;
    simvfs_reset(v->disk, s->seed ^ 0x5e5e);
    simvfs_copy(v->disk, i->disk);
    v->inst = i;
    v->copy.taken = v->restored = false;
    memset(v->seen, 0, sizeof v->seen);
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
    for (unsigned n = 0; n < NAMESPACES; n++) {
        uint64_t head = server_head(s, v->inst->ns[n]);
        if (head < v->seen[n])
            sim_fail(s, "after a power loss the journal ends at %llu; %llu was acknowledged",
                     (unsigned long long)head, (unsigned long long)v->seen[n]);
    }
}

void server_copy(struct sim *s)
{
    struct server *v = &s->server;
    server_follow(s);
    simvfs_reset(v->copy.disk, 1);
    simvfs_copy(v->copy.disk, v->disk);
    memcpy(v->copy.seen, v->seen, sizeof v->seen);
    memcpy(v->copy.facts, v->facts, sizeof v->facts);
    memcpy(v->copy.assigned, s->assigned, sizeof s->assigned);
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        v->copy.reported[k] = s->blockd[k].reported;
    observer_copy(&s->observer);
    v->copy.taken = true;
    sim_log(s, "the server's database is copied");
}

/* Nobody was told that an fsync has ended who still waits for it. */
static void forget_fsyncs(struct client *c)
{
    for (size_t i = 0; i < BARRIERS_MAX; i++) {
        marks_free(&c->fsyncs[i].marks);
        c->fsyncs[i] = (struct fsync_wait){0};
    }
}

void server_restore(struct sim *s)
{
    struct server *v = &s->server;
    server_follow(s);
    simvfs_crash(v->disk);
    server_stop(v);
    simvfs_reset(v->disk, s->seed ^ s->step);
    simvfs_copy(v->disk, v->copy.disk);
    sim_log(s, "the server's database is the copy again");
    s->count.restores++;
    v->restored = true;
    memcpy(v->seen, v->copy.seen, sizeof v->seen);
    memcpy(v->facts, v->copy.facts, sizeof v->facts);
    memcpy(s->assigned, v->copy.assigned, sizeof s->assigned);
    for (unsigned k = 0; k < SERVERS_MAX; k++) {
        s->blockd[k].reported = v->copy.reported[k];
        s->blockd[k].older = s->p.ticks;
    }
    observer_restore(&s->observer);
    for (unsigned k = 0; k < s->opt.clients; k++) {
        forget_fsyncs(&s->client[k]);
        s->client[k].strange = UINT32_MAX;
        s->client[k].heard = s->client[k].next_call;
    }
    if (!server_open(s))
        verify_restored(s);
}

enum ns_index server_ns(const struct sim *s, uint64_t ns)
{
    for (unsigned n = 0; n < NAMESPACES; n++)
        if (s->server.inst->ns[n] == ns)
            return (enum ns_index)n;
    return NAMESPACES;
}

const struct meta_caller *server_owner(const struct sim *s, uint64_t ns)
{
    return &s->server.inst->device[server_ns(s, ns) == NS_BOB ? 4 : 0].who;
}

uint64_t server_head(struct sim *s, uint64_t ns)
{
    uint64_t head = 0;
    if (meta_head(s->server.meta, server_owner(s, ns), ns, &head))
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

/* false: it was there. */
static bool fact_add(struct server *v, uint64_t f)
{
    size_t i = f % FACTS;
    while (v->facts[i] && v->facts[i] != f)
        i = (i + 1) % FACTS;
    bool new = !v->facts[i];
    v->facts[i] = f;
    return new;
}

bool server_told(const struct sim *s, uint64_t parent, struct bytes name, uint64_t node)
{
    uint64_t f = fact(parent, name, node);
    size_t i = f % FACTS;
    while (s->server.facts[i] && s->server.facts[i] != f)
        i = (i + 1) % FACTS;
    return s->server.facts[i] == f;
}

/* Whether a block server holds it, or held it and the metadata server has not heard of the loss. */
static bool is_held(const struct sim *s, const struct written *w)
{
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        if (w->held[k] || (w->lost[k] && s->blockd[k].reported != s->blockd[k].generation))
            return true;
    return false;
}

/* What a record is the first to refer to is somewhere; anything else is, too, or was before a
 * block server lost its storage: it was not removed. */
static void check_blocks(struct sim *s, const struct m_extent *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t w;
        if (!ledger_find(&s->ledger, &v[i].block, &w))
            sim_fail(s, "a record refers to a block that nobody wrote");
        else if (!blockd_had(&s->ledger.w[w]) && !s->ledger.w[w].gone_before)
            sim_fail(s, "a record refers to write %u, which no block server holds", w);
        else if (!s->ledger.w[w].carried && !is_held(s, &s->ledger.w[w]))
            sim_fail(s, "a record refers to write %u, which was lost before", w);
    }
}

/* A request is in the journal once. */
static void check_request(struct sim *s, unsigned n, const struct m_record *r)
{
    struct bytes words = bytes_of((const uint8_t *)&r->request, sizeof r->request);
    if (r->request && !fact_add(&s->server, fact(n + 1, words, r->device << 40)))
        sim_fail(s, "request %llu of dev%llu is in the journal of %s twice",
                 (unsigned long long)r->request, (unsigned long long)r->device, ns_names[n]);
}

static void record_log(struct sim *s, const struct m_record *r)
{
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
                (unsigned long long)r->inodes[k].size, (unsigned long long)r->inodes[k].content_rev,
                (unsigned long long)r->inodes[k].attr_rev, r->inodes[k].gone ? " gone" : "");
}

static void record_seen(struct sim *s, const struct m_record *r)
{
    for (size_t k = 0; k < r->contents_n; k++)
        for (size_t j = 0; j < r->contents[k].ranges_n; j++) {
            const struct m_range *g = &r->contents[k].ranges[j];
            check_blocks(s, g->extents, g->extents_n);
            ledger_committed(&s->ledger, g->extents, g->extents_n);
        }
    for (size_t k = 0; k < r->inodes_n; k++)
        fact_add(&s->server, fact(0, bytes_of(NULL, 0), r->inodes[k].node));
    for (size_t k = 0; k < r->entries_n; k++)
        if (r->entries[k].node)
            fact_add(&s->server,
                     fact(r->entries[k].parent, r->entries[k].name, r->entries[k].node));
    record_log(s, r);
    observer_record(s, r);
}

static void follow(struct sim *s, unsigned n)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint64_t ns = s->server.inst->ns[n];
    struct m_list_req q = {.ns = ns, .from = s->server.seen[n]};
    struct m_list_ans a;
    if (meta_list(s->server.meta, server_owner(s, ns), &q, &a, &ar, why)) {
        sim_fail(s, "the journal cannot be read: %s", why);
        return;
    }
    for (size_t i = 0; i < a.records_n; i++) {
        check_request(s, n, &a.records[i]);
        record_seen(s, &a.records[i]);
        s->server.seen[n] = a.records[i].sjid;
    }
}

void server_follow(struct sim *s)
{
    for (unsigned n = 0; n < NAMESPACES && !s->failed; n++)
        follow(s, n);
}

/* ---- requests ----------------------------------------------------------------------------------
 */
/* Mounts are to hear that the database was put back. */
static bool told(struct sim *s, bool by_tick)
{
    if (!meta_noticed(s->server.meta))
        return false;
    sim_log(s, "the server notices that its database is an older one");
    garbage_noticed(s, by_tick);
    for (unsigned k = 0; k < s->opt.clients; k++)
        s->client[k].session_wanted = true;
    return true;
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
CALL(requests)
static int call_list(struct sim *s, const struct meta_caller *who, struct bytes body,
                     struct buf *answer, struct arena *ar, char *why)
{
    struct m_list_req q;
    struct m_list_ans a;
    if (msg_decode(&m_list_req_desc, &q, body.p, body.n, MSG_STRICT, ar, NULL))
        return -EBADMSG;
    int err = meta_list(s->server.meta, who, &q, &a, ar, why);
    if (!err && a.other && s->p.ticks) {
        err = meta_other_journal(s->server.meta, s->now / 1000000);
        told(s, false);
    }
    if (!err)
        msg_encode(&m_list_ans_desc, &a, answer);
    return err;
}
CALL(lookup)
CALL(readdir)
CALL(node)
CALL(extents)
CALL(locate)

static const struct {
    const char *method;
    int (*fn)(struct sim *s, const struct meta_caller *who, struct bytes body, struct buf *answer,
              struct arena *ar, char *why);
} methods[] = {{"session", call_session}, {"requests", call_requests}, {"commit", call_commit},
               {"diff", call_diff},       {"list", call_list},         {"lookup", call_lookup},
               {"readdir", call_readdir}, {"node", call_node},         {"extents", call_extents},
               {"locate", call_locate}};

/* 0, -errno, or 1: it crashed. */
static int execute(struct sim *s, const struct meta_caller *who, const char *method,
                   struct bytes body, struct buf *answer, char *why)
{
    cleanup_arena struct arena ar = {0};
    int err = -ENOSYS;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(methods[i].method, method))
            err = methods[i].fn(s, who, body, answer, &ar, why);
    if (!simvfs_crashed(s->server.disk))
        return err;
    answer->n = 0;
    server_crash(s);
    return 1;
}

int server_call(struct sim *s, unsigned client, const char *method, struct bytes body,
                struct buf *answer)
{
    char why[512] = "";
    struct meta_caller who;
    const struct client *c = &s->client[client];
    int err = meta_authenticate(s->server.meta, s->server.inst->device[c->device].credential, &who);
    if (err == -EACCES && c->revoked)
        return ERR_UNAUTHENTICATED;
    if (simvfs_crashed(s->server.disk)) {
        server_crash(s);
        return -1;
    }
    if (!err)
        err = execute(s, &who, method, body, answer, why);
    if (err == 1)
        return -1;
    if (err == -ESTALE)
        return ERR_RESYNC;
    if (err == -EACCES && (s->p.refuse & (REFUSE_ROLE | REFUSE_ASSIGNMENT)))
        return ERR_FORBIDDEN;
    if (err) {
        sim_fail(s, "%s of client %u: %s: %s", method, client, strerror(-err), why);
        return ERR_INTERNAL;
    }
    return 0;
}

int server_peek(struct sim *s, uint64_t ns, const char *method, struct bytes body,
                struct buf *answer)
{
    char why[512] = "";
    int err;
    for (int k = 0; k < 3; k++) {
        err = execute(s, server_owner(s, ns), method, body, answer, why);
        if (err != 1)
            return err;
    }
    return -EIO;
}

/* ---- people and block servers ------------------------------------------------------------------
 */
void server_command(struct sim *s, bool admin, const char *line)
{
    cleanup_arena struct arena ar = {0};
    char text[128], *rest = text;
    struct m_word v[12];
    struct m_command_req q = {.words = v};
    struct m_command_ans a;
    const struct installation *i = s->server.inst;
    snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok_r(text, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        v[q.words_n++].text = bytes_str(w);
    simvfs_crash_after(s->server.disk, 0); /* whoever types it waits for the prompt */
    int err = meta_command(s->server.meta, admin ? &i->admin : &i->device[0].who, &q,
                           s->now / 1000000, &a, &ar);
    sim_log(s, "%s: %d", line, err ? err : (int)a.exit_status);
    if (err || a.exit_status)
        sim_fail(s, "%s: %s", line, err ? strerror(-err) : arena_str(&ar, a.text));
    else
        server_follow(s);
}

void server_prune(struct sim *s, unsigned history_ms)
{
    bool more = true;
    int err = 0;
    server_follow(s);
    while (!err && more && !simvfs_crashed(s->server.disk))
        err = meta_prune(s->server.meta, s->now / 1000000, history_ms, &more);
    sim_log(s, "the server forgets what is older than %u ms: %d", history_ms, err);
    if (simvfs_crashed(s->server.disk))
        server_crash(s);
    else if (err)
        sim_fail(s, "meta_prune: %d", err);
}

/* renew: it is to have another incarnation. */
static void beat(struct sim *s, unsigned server, bool *renew)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint8_t incarnation[16];
    struct blockd *b = &s->blockd[server];
    struct m_beat_ans a;
    incarnation_of('b', server, b->generation, incarnation);
    struct m_beat_req q = {.incarnation = bytes_of(incarnation, sizeof incarnation),
                           .url = bytes_str("http://127.0.0.1:1"),
                           .run = b->run,
                           .found = b->found,
                           .tick = !s->p.ticks   ? 0
                                   : b->tick > 1 ? b->tick
                                                 : 1};
    int err = meta_beat(s->server.meta, &s->server.inst->server[server].who, &q, s->now / 1000000,
                        &a, &ar, why);
    if (simvfs_crashed(s->server.disk)) {
        server_crash(s);
        return;
    }
    sim_log(s, "block server %u reports itself: %d", server, err);
    b->reported = b->generation;
    b->unheard = false;
    b->tick = a.tick > b->tick ? a.tick : b->tick;
    *renew = a.renew;
    if (err || a.superseded)
        sim_fail(s, "beat of block server %u: %s", server, err ? why : "superseded");
    for (size_t k = 0; !err && k < a.revoked_devices_n; k++)
        for (unsigned d = 0; d < DEVICES; d++)
            if (s->server.inst->device[d].id == a.revoked_devices[k])
                b->revoked |= (uint8_t)(1u << d);
}

static void beat_once(struct sim *s, unsigned server)
{
    bool renew = true;
    for (unsigned i = 0; i < 3 && renew && !s->failed; i++) {
        renew = false;
        beat(s, server, &renew);
        if (renew) { /* what it has stays, and is told anew */
            sim_log(s, "block server %u renews its storage", server);
            garbage_renewed(s, server);
            s->blockd[server].generation++;
        }
    }
}

void server_beat(struct sim *s, unsigned server)
{
    beat_once(s, server);
    bool noticed = !s->failed && told(s, true);
    if (!s->failed && !s->blockd[server].unheard)
        garbage_heard(s, server);
    if (noticed && s->healed) /* otherwise the others come sooner or later */
        for (unsigned k = 0; k < SERVERS_MAX && !s->failed; k++)
            beat_once(s, k);
}
