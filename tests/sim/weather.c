// SPDX-License-Identifier: Apache-2.0
/* Accidents, and what is done to clients on purpose.
 *
 * How likely each is differs from seed to seed, also to never: a run without crashes gets further
 * into conflicts than one with a crash every tenth step.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define MS 1000000ll
#define HOUR (3600000 * MS)
#define HISTORY_MAX_MS 6000 /* kept, where anything is forgotten: a run takes about ten seconds */
#define GRACE_MIN_MS 24000  /* of garbage collection: half of it is a receipt's life */
#define GRACE_MORE_MS 40000
#define SKEW_MAX_MS 60000 /* of a block server's clock: half of what a receipt may be ahead */

static unsigned one_of(struct rng *r, const unsigned *v, unsigned n)
{
    return v[rng_below(r, n)];
}

#define OPS(k) ((uint64_t)1 << OP_##k)

/* In some runs programs want only what meets the others most: what random ones do seldom. */
static void theme(struct sim *s, struct rng *r)
{
    uint64_t about = rng_below(r, 100);
    if (s->p.gc) { /* content that goes, and is referred to from elsewhere */
        s->p.ops = OPS(CREATE) | OPS(WRITE) | OPS(APPEND) | OPS(TRUNCATE) | OPS(CLONE) |
                   OPS(UNLINK) | OPS(RENAME) | OPS(FSYNC) | OPS(OPEN) | OPS(CLOSE) | OPS(LINK);
        s->p.names = 1 + rng_below(r, 2);
        s->p.depth = 0;
        s->p.crash = s->p.crash > 5 ? 5 : s->p.crash;
        s->p.loss = s->p.loss > 5 ? 5 : s->p.loss;
        s->p.program = 20 + rng_below(r, 20); /* most of what is written is committed */
        s->p.turn = s->p.net = 40;
    } else if (about < 8) { /* directories that are removed while something is made in them */
        s->p.ops = OPS(MKDIR) | OPS(RMDIR) | OPS(UNLINK) | OPS(FSYNC_DIR) |
                   (rng_percent(r, 50) ? OPS(CREATE) : 0) | (rng_percent(r, 30) ? OPS(RENAME) : 0);
        s->p.names = 1 + rng_below(r, 2);
        s->p.depth = 1 + rng_below(r, 2);
    } else if (about < 16) { /* names of one file that go one by one, and are written through */
        s->p.ops = OPS(CREATE) | OPS(LINK) | OPS(UNLINK) | OPS(WRITE) | OPS(APPEND) | OPS(FSYNC) |
                   OPS(OPEN) | OPS(HANDLE_WRITE) | OPS(CLOSE) |
                   (rng_percent(r, 50) ? OPS(RENAME) : 0);
        s->p.names = 2 + rng_below(r, 2);
        s->p.depth = 0;
    } else if (about < 24) { /* moves of directories, each into the other's place */
        s->p.ops = OPS(MKDIR) | OPS(RENAME) | OPS(FSYNC_DIR) |
                   (rng_percent(r, 50) ? OPS(RMDIR) : 0) | (rng_percent(r, 50) ? OPS(CREATE) : 0);
        s->p.names = 2 + rng_below(r, 2);
        s->p.depth = 1 + rng_below(r, 2);
    } else if (about < 32) { /* files that are saved by renaming a new one over them */
        s->p.ops = OPS(DRAFT) | OPS(SAVE) | OPS(FSYNC_DIR) | (rng_percent(r, 50) ? OPS(FSYNC) : 0) |
                   (rng_percent(r, 50) ? OPS(WRITE) : 0) | (rng_percent(r, 30) ? OPS(RENAME) : 0) |
                   (rng_percent(r, 30) ? OPS(UNLINK) : 0);
        s->p.names = 1 + rng_below(r, 3);
        s->p.depth = rng_below(r, 2);
    }
}

void weather_draw(struct sim *s)
{
    struct rng r = rng_of(s->seed, 6, 0);
    static const unsigned losses[] = {0, 5, 20, 50}, crashes[] = {0, 0, 5, 20, 60},
                          offlines[] = {0, 5, 20}, some[] = {0, 0, 3, 15};
    s->p.program = 20 + rng_below(&r, 60);
    s->p.turn = 10 + rng_below(&r, 40);
    s->p.net = 10 + rng_below(&r, 40);
    s->p.loss = one_of(&r, losses, 4);
    s->p.twice = one_of(&r, some, 4);
    s->p.crash = one_of(&r, crashes, 5);
    s->p.power = rng_below(&r, 3) * 35;
    s->p.offline = one_of(&r, offlines, 3);
    s->p.away = rng_percent(&r, 30) ? 30 : 0;
    s->p.server_crash = rng_percent(&r, 50) ? 0 : 5;
    s->p.blockd = one_of(&r, some, 4);
    s->p.clock = one_of(&r, some, 4);
    s->p.depth = 1 + rng_below(&r, 3);
    s->p.names = 1 + rng_below(&r, 4);
    s->p.share = rng_percent(&r, 30);
    s->p.refuse = rng_percent(&r, 60) ? 0 : (unsigned)rng_u64(&r) & 31;
    s->p.refusal = s->p.refuse ? 10 + rng_below(&r, 50) : 0;
    s->p.assigned = 1 + rng_below(&r, SERVERS_MAX);
    s->p.gc = 0;
    if (rng_percent(&r, 10)) {
        s->p.gc = 100 + rng_below(&r, 300);
        s->p.assigned = 2 + rng_below(&r, SERVERS_MAX - 1);
    }
    s->p.copies = 1 + rng_below(&r, s->p.assigned < 2 ? 1 : TARGETS_MAX);
    s->p.bounds = (struct core_bounds){0};
    if (rng_percent(&r, 25))
        s->p.bounds = (struct core_bounds){.rows = 1 + rng_below(&r, 6),
                                           .names = 1 + rng_below(&r, 4),
                                           .extents = 2 + rng_below(&r, 4)};
    s->p.lossy = s->p.power && rng_percent(&r, 25);
    if (s->p.lossy) { /* what was written is there, and its blocks are not */
        s->p.power = 70;
        s->p.crash = s->p.crash < 20 ? 20 : s->p.crash;
    }
    s->p.ops = rng_percent(&r, 50) ? UINT64_MAX : rng_u64(&r) | 1u << OP_CREATE | 1u << OP_WRITE;
    s->p.prune = rng_percent(&r, 20) ? 5 + rng_below(&r, 20) : 0;
    s->p.restore = rng_percent(&r, 15) || s->opt.restores;
    s->p.ticks = s->p.restore && (s->p.gc || s->seed % 2);
    if (s->p.restore) /* a device that was revoked since is none any more: it is not followed */
        s->p.refuse &= ~(unsigned)REFUSE_DEVICE;
    s->p.grace_ms = 0;
    if (s->p.gc) {
        s->p.grace_ms = GRACE_MIN_MS + rng_below(&r, GRACE_MORE_MS);
        s->p.prune = 20 + rng_below(&r, 60);
    }
    bool replicates = s->p.gc || rng_percent(&r, 50); /* what was brought is removed again */
    s->p.replicate = s->p.assigned > 1 && replicates ? 50 + rng_below(&r, 150) : 0;
    theme(s, &r);
}

static void command(struct sim *s, bool admin, const char *fmt, const char *a, const char *b)
{
    char line[128];
    snprintf(line, sizeof line, fmt, a, b);
    server_command(s, admin, line);
}

/* Which devices the clients are, and which of them come late; assignments. */
void weather_begin(struct sim *s)
{
    static const uint8_t alone[] = {0, 1, 2, 3}, shared[] = {0, 4, 1, 5};
    struct rng r = rng_of(s->seed, 7, 0);
    memset(s->blockd, 0, sizeof s->blockd);
    for (unsigned k = 0; k < SERVERS_MAX; k++) {
        unsigned skew = s->p.gc ? s->p.grace_ms / 8 : SKEW_MAX_MS;
        s->blockd[k].generation = s->blockd[k].reported = 1;
        s->blockd[k].raised = s->p.ticks ? 0 : 1;
        if (s->p.ticks)
            blockd_open(s, k);
        s->blockd[k].skew_ms = (int64_t)rng_below(&r, 2 * skew) - skew;
    }
    for (unsigned k = 0; k < s->opt.clients; k++) {
        struct client *c = &s->client[k];
        c->device = s->p.share ? shared[k] : alone[k];
        c->copies = s->p.copies;
        c->joins = k && rng_percent(&r, 20) ? rng_below(&r, s->opt.steps) : 0;
        if (s->p.clock && rng_percent(&r, 50))
            c->skew = (int64_t)rng_below(&r, 2000) * HOUR - 1000 * HOUR;
    }
    for (unsigned n = 0; n < NAMESPACES; n++)
        s->assigned[n] = 1;
    for (unsigned k = 1; k < s->p.assigned && !s->failed; k++)
        for (unsigned n = 0; n < NAMESPACES; n++) {
            command(s, true, "admin assign %s %s", ns_names[n], premises[k]);
            s->assigned[n] |= (uint8_t)(1u << k);
        }
    for (unsigned k = 0; k < SERVERS_MAX && s->p.ticks && !s->failed; k++)
        server_beat(s, k);
}

/* ---- of machines ----------------------------------------------------------------------------- */
static void crash_step(struct sim *s, struct client *c, struct rng *r)
{
    if (!c->core)
        return;
    if (rng_percent(r, 50)) { /* in the middle of what it does next */
        simvfs_crash_after(c->disk, 1 + rng_below(r, 40));
        return;
    }
    unsigned luck = rng_below(r, 100);
    client_stop(c, luck < s->p.power ? STOP_POWER : luck < 80 ? STOP_KILL : STOP_CLEAN);
}

static void crashes(struct sim *s, struct rng *r)
{
    struct client *c = &s->client[rng_below(r, s->opt.clients)];
    if (rng_below(r, 1000) < s->p.crash)
        crash_step(s, c, r);
    if (rng_below(r, 1000) < s->p.server_crash) {
        if (rng_percent(r, 50))
            server_crash(s);
        else
            simvfs_crash_after(s->server.disk, 1 + rng_below(r, 20));
    }
    for (unsigned i = 0; i < s->opt.clients && !s->failed; i++)
        if (!s->client[i].core && s->step >= s->client[i].joins && rng_percent(r, 20))
            client_start(&s->client[i]);
}

/* Of a client: from everybody, or from one part. */
static void partitions(struct sim *s, struct rng *r)
{
    static const uint8_t all = (1u << (SERVERS_MAX + 1)) - 1;
    struct client *c = &s->client[rng_below(r, s->opt.clients)];
    if (rng_below(r, 1000) < (c->cut ? c->away ? 10 : 100 : s->p.offline)) {
        c->away = !c->cut && rng_percent(r, s->p.away);
        c->cut = c->cut ? 0 : rng_percent(r, 50) ? all : (uint8_t)(1u << rng_below(r, 4));
        sim_log(s, "c%u is cut from %x%s", c->index, c->cut, c->away ? " for long" : "");
    }
}

static void block_servers(struct sim *s, struct rng *r)
{
    unsigned k = rng_below(r, SERVERS_MAX);
    struct blockd *b = &s->blockd[k];
    if (rng_below(r, 1000) < (b->down ? 100 : s->p.blockd))
        b->down = !b->down;
    if (rng_below(r, 1000) < (b->cut ? 100 : s->p.blockd))
        b->cut = !b->cut;
    if (rng_below(r, 1000) < (b->unheard ? 150 : 20) && !b->down && !b->cut)
        server_beat(s, k);
}

static void clocks(struct sim *s, struct rng *r)
{
    if (rng_percent(r, 3))
        s->now += (int64_t)rng_below(r, 10000) * MS;
    if (rng_below(r, 1000) >= s->p.clock)
        return;
    struct client *c = &s->client[rng_below(r, s->opt.clients)];
    if (rng_percent(r, 50))
        s->now += (int64_t)rng_below(r, 60) * HOUR;
    else
        c->skew += (int64_t)rng_below(r, 200) * HOUR - 100 * HOUR;
    sim_log(s, "it is %lld, to c%u %lld", (long long)s->now, c->index, (long long)client_now(c));
}

/* ---- of people ------------------------------------------------------------------------------- */
static const char *a_namespace(struct sim *s, struct rng *r, enum ns_index *n)
{
    *n = s->p.share ? NS_TEAM : NS_ALICE;
    if (rng_percent(r, 20))
        *n = (enum ns_index)rng_below(r, NAMESPACES);
    return ns_names[*n];
}

static void quota(struct sim *s, struct rng *r)
{
    enum ns_index n;
    char line[128];
    const char *name = a_namespace(s, r, &n);
    bool none = rng_percent(r, 30);
    snprintf(line, sizeof line, "admin quota %s --bytes %u --nodes %u", name,
             none ? 0 : 1 + rng_below(r, 3000), none ? 0 : 1 + rng_below(r, 30));
    server_command(s, true, line);
}

static void role(struct sim *s, struct rng *r)
{
    static const char *const roles[] = {"viewer", "none", "editor", "editor"};
    command(s, false, "share %s bob %s", "team", roles[rng_below(r, 4)]);
}

static void revoke(struct sim *s, struct rng *r)
{
    char line[64];
    unsigned left = 0;
    struct client *c = &s->client[rng_below(r, s->opt.clients)];
    for (unsigned i = 0; i < s->opt.clients; i++)
        left += !s->client[i].revoked;
    if (c->revoked || left < 2 || rng_percent(r, 80))
        return;
    snprintf(line, sizeof line, "admin device revoke %llu",
             (unsigned long long)s->server.inst->device[c->device].id);
    server_command(s, true, line);
    c->revoked = true;
}

static void assignment(struct sim *s, struct rng *r)
{
    enum ns_index n;
    const char *name = a_namespace(s, r, &n);
    unsigned k = rng_below(r, SERVERS_MAX);
    uint8_t bit = (uint8_t)(1u << k);
    if (s->assigned[n] == bit)
        return; /* the only one */
    command(s, true, s->assigned[n] & bit ? "admin unassign %s %s" : "admin assign %s %s", name,
            premises[k]);
    s->assigned[n] ^= bit;
}

/* A block server loses what it stores; at its start it reports itself, if it can. */
static void storage(struct sim *s, unsigned k, bool reports)
{
    blockd_lose(s, k);
    if (reports && !s->blockd[k].down && !s->blockd[k].cut)
        server_beat(s, k);
}

static void refusals(struct sim *s, struct rng *r)
{
    unsigned what = 1u << rng_below(r, 5);
    if (rng_below(r, 1000) >= s->p.refusal || !(s->p.refuse & what))
        return;
    switch (what) {
    case REFUSE_QUOTA:
        quota(s, r);
        break;
    case REFUSE_ROLE:
        role(s, r);
        break;
    case REFUSE_DEVICE:
        revoke(s, r);
        break;
    case REFUSE_ASSIGNMENT:
        assignment(s, r);
        break;
    default:
        if (rng_percent(r, 60))
            storage(s, rng_below(r, SERVERS_MAX), rng_percent(r, 70));
    }
}

/* It is put back to a copy that was made a while ago, once. */
static void set_back(struct sim *s, struct rng *r)
{
    if (s->server.restored || simvfs_crashed(s->server.disk) || !rng_percent(r, 1))
        return;
    if (s->server.copy.taken)
        server_restore(s);
    else
        server_copy(s);
}

void weather_accidents(struct sim *s, struct rng *r)
{
    if (s->p.restore)
        set_back(s, r);
    crashes(s, r);
    if (!s->failed)
        partitions(s, r);
    if (!s->failed)
        block_servers(s, r);
    if (!s->failed)
        refusals(s, r);
    clocks(s, r);
    if (rng_below(r, 1000) < s->p.prune && !s->failed)
        server_prune(s, rng_below(r, HISTORY_MAX_MS));
    unsigned k = rng_below(r, SERVERS_MAX);
    uint64_t ns = s->server.inst->ns[rng_below(r, NAMESPACES)];
    unsigned luck = rng_below(r, 100);
    enum tell tell = luck < 50 ? TELL_NOW : luck < 80 ? TELL_LATE : TELL_NEVER;
    if (rng_below(r, 1000) < s->p.replicate && !s->failed && !s->blockd[k].down &&
        !s->blockd[k].cut) {
        if (rng_percent(r, 33)) /* seldom: it is the dearest question of all */
            blockd_replicas(s, k);
        if (!s->failed)
            blockd_replicate(s, k, ns, tell);
    }
    if (!s->failed)
        garbage_step(s, r);
}

/* ---- the end --------------------------------------------------------------------------------- */
void weather_clears(struct sim *s)
{
    s->healed = true;
    simvfs_crash_after(s->server.disk, 0);
    sim_log(s, "the weather clears");
    for (unsigned k = 0; k < SERVERS_MAX && !s->failed; k++) {
        s->blockd[k].down = s->blockd[k].cut = false;
        server_beat(s, k);
    }
    for (unsigned i = 0; i < s->opt.clients && !s->failed; i++) {
        struct client *c = &s->client[i];
        simvfs_crash_after(c->disk, 0);
        c->cut = 0;
        c->op.pending = false;
        if (!c->core)
            client_start(c);
        c->session_wanted = true;
        for (size_t k = 0; k < HANDLES_MAX && !s->failed && c->core; k++)
            if (c->files[k].used)
                program_close(c, &c->files[k]);
    }
}

void weather_lifts(struct sim *s)
{
    s->lifted = true;
    sim_log(s, "nothing is refused any more");
    for (unsigned n = 0; n < NAMESPACES && !s->failed; n++)
        command(s, true, "admin quota %s --bytes 0 --nodes 0%s", ns_names[n], "");
    if (!s->failed)
        command(s, false, "share %s bob %s", "team", "editor");
    for (unsigned i = 0; i < s->opt.clients; i++) /* a session lets go what was refused */
        s->client[i].session_wanted = true;
}
