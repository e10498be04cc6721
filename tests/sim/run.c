// SPDX-License-Identifier: Apache-2.0
/* The scheduler of one run. Every step draws from a generator of its own, made from the seed and
 * the step's number, and does one thing: an operation of a program, a turn of a driver, a packet of
 * the network, or an accident. So a step that is left out (shrinking) does not change what the
 * others draw. After the last step the weather clears: everybody is up, nothing is lost, open files
 * are closed, and within a bound of rounds all must be sent and applied.
 *
 * What was refused (a quota, a role) is refused until then: first it is looked at where it is kept,
 * then the refusals are lifted, and it must arrive like everything else.
 */
#include "sim.h"
#include "warm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 400  /* to become quiet */
#define FROM_NOTHING 32 /* one run of so many begins without trees: making them costs time */
#define STEPS_GC 1500   /* of one in which garbage is collected: that takes its time */
#define START_NS 1700000000000000000

/* ---- the log ----------------------------------------------------------------------------------
 */
void sim_log(struct sim *s, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    int n = snprintf(line, sizeof line, "%4u ", s->step);
    va_start(ap, fmt);
    vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    for (const char *p = line; *p; p++)
        s->hash = (s->hash ^ (uint8_t)*p) * 0x100000001b3u;
    if (s->opt.trace)
        printf("%s\n", line);
    if (!s->opt.verbose)
        return;
    size_t i = s->log_n++ % LOG_LINES;
    free(s->log[i]);
    s->log[i] = strdup(line);
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
    va_list ap;
    if (s->failed)
        return;
    s->failed = true;
    va_start(ap, fmt);
    vsnprintf(s->why, sizeof s->why, fmt, ap);
    va_end(ap);
}

/* ---- the network --------------------------------------------------------------------------------
 */
bool net_send(struct sim *s, const struct packet *p)
{
    if (s->net_n == PACKETS_MAX) {
        struct buf body = p->body;
        buf_free(&body);
        return false;
    }
    s->net[s->net_n++] = *p;
    return true;
}

static struct packet net_take(struct sim *s, size_t i)
{
    struct packet p = s->net[i];
    memmove(&s->net[i], &s->net[i + 1], (--s->net_n - i) * sizeof *s->net);
    return p;
}

static void answer(struct sim *s, const struct packet *q, int status, struct buf *body)
{
    struct packet p = {.answer = true,
                       .to = q->to,
                       .client = q->client,
                       .epoch = q->epoch,
                       .call = q->call,
                       .method = q->method,
                       .status = status,
                       .body = *body};
    *body = (struct buf){0};
    net_send(s, &p);
}

static void execute(struct sim *s, const struct packet *q, bool answered)
{
    cleanup_buf struct buf body = {0};
    struct bytes in = bytes_of(q->body.p, q->body.n);
    int status = q->to ? blockd_call(s, q->to - 1u, q->method, in, &body)
                       : server_call(s, q->client, q->method, in, &body);
    sim_log(s, "part %u does %s of c%u (%llu): %d%s", q->to, q->method, q->client,
            (unsigned long long)q->call, status, answered ? "" : ", answer lost");
    if (!s->failed && !q->to && !strcmp(q->method, "commit"))
        server_follow(s);
    if (answered)
        answer(s, q, status, &body);
}

static void lose(struct sim *s, const struct packet *q)
{
    struct buf none = {0};
    answer(s, q, -1, &none);
}

/* Once more, later. */
static void repeat(struct sim *s, const struct packet *q)
{
    struct packet again = *q;
    again.body = (struct buf){0};
    buf_append(&again.body, q->body.p, q->body.n);
    net_send(s, &again);
}

static void deliver_request(struct sim *s, struct packet *q, struct rng *r)
{
    unsigned luck = rng_below(r, 100);
    bool unlucky = !s->healed && luck < s->p.loss;
    if (!s->healed && rng_percent(r, s->p.twice))
        repeat(s, q);
    if (!unlucky) {
        execute(s, q, true);
    } else if (luck % 3 == 0) { /* never arrives */
        sim_log(s, "%s of c%u is lost", q->method, q->client);
        lose(s, q);
    } else if (luck % 3 == 1) { /* the answer never arrives */
        execute(s, q, false);
        lose(s, q);
    } else { /* given up by the client, and arrives later */
        sim_log(s, "%s of c%u is delayed", q->method, q->client);
        lose(s, q);
        net_send(s, q);
        q->body = (struct buf){0};
    }
}

static void deliver_answer(struct sim *s, const struct packet *p, struct rng *r)
{
    struct client *c = &s->client[p->client];
    if (!c->core || c->epoch != p->epoch)
        return;
    for (size_t i = 0; i < CALLS_MAX; i++) {
        if (c->calls[i].kind == CALL_FREE || c->calls[i].id != p->call)
            continue;
        if (p->status)
            sim_log(s, "c%u: %s (%llu) fails", p->client, p->method, (unsigned long long)p->call);
        client_answer(c, &c->calls[i], p->status, bytes_of(p->body.p, p->body.n), r);
        return;
    }
}

static void net_step(struct sim *s, struct rng *r)
{
    if (!s->net_n)
        return;
    size_t i = s->healed || rng_percent(r, 60) ? 0 : rng_below(r, (unsigned)s->net_n);
    struct packet p = net_take(s, i);
    if (!p.answer && !client_reaches(&s->client[p.client], p.to)) {
        lose(s, &p);
    } else if (p.answer) {
        deliver_answer(s, &p, r);
    } else {
        deliver_request(s, &p, r);
    }
    buf_free(&p.body);
}

static void one_step(struct sim *s)
{
    struct rng r = rng_of(s->seed, 4, s->step);
    s->now += 1 + rng_below(&r, 50000000);
    unsigned skip = s->opt.skip ? s->opt.skip[s->step] : 0;
    struct rng accident = rng_of(s->seed, 8, s->step);
    if (skip == 1)
        return;
    if (skip != 2)
        weather_accidents(s, &accident);
    struct client *c = &s->client[rng_below(&r, s->opt.clients)];
    unsigned what = rng_below(&r, s->p.program + s->p.turn + s->p.net);
    if (s->failed)
        return;
    if (what < s->p.program) {
        program_step(c, &r);
    } else if (what < s->p.program + s->p.turn) {
        client_turn(c, &r);
    } else {
        net_step(s, &r);
        net_step(s, &r);
    }
    if (s->step % 16 == 0)
        verify_tree(&s->client[s->step / 16 % s->opt.clients]);
}

/* ---- the end --------------------------------------------------------------------------------- */
static bool quiet(struct sim *s, bool parked)
{
    bool all = s->net_n == 0;
    for (unsigned i = 0; i < s->opt.clients; i++)
        all = client_quiet(&s->client[i], parked) && all;
    return all;
}

/* Until nothing is left to do; parked: but for what is refused. */
static void settle(struct sim *s, bool parked)
{
    for (unsigned k = 0; k < ROUNDS_MAX && !s->failed; k++) {
        struct rng r = rng_of(s->seed, parked ? 5 : 9, k);
        s->step++;
        s->now += 1000000000;
        if (k > 4 && quiet(s, parked))
            return;
        if (s->p.gc)
            garbage_step(s, &r);
        for (unsigned i = 0; i < s->opt.clients && !s->failed; i++)
            client_turn(&s->client[i], &r);
        for (unsigned n = 0; s->net_n && n < 100 && !s->failed; n++)
            net_step(s, &r);
    }
    if (s->failed)
        return;
    cleanup_buf struct buf b = {0};
    for (unsigned i = 0; i < s->opt.clients; i++) {
        buf_append(&b, "\n  ", 3);
        client_say(&s->client[i], &b);
    }
    sim_fail(s, "not quiet after %d rounds:%.*s", ROUNDS_MAX, (int)b.n, (const char *)b.p);
}

static void finish(struct sim *s)
{
    if (!s->failed)
        weather_clears(s);
    if (!s->failed && s->p.refuse) {
        settle(s, true);
        if (!s->failed)
            verify_parked(s);
        if (!s->failed)
            weather_lifts(s);
    }
    if (!s->failed)
        settle(s, false);
    if (!s->failed)
        verify_all(s);
    if (!s->failed)
        garbage_end(s);
}

/* ---- life
 * ---------------------------------------------------------------------------------------------- */
struct sim *sim_new(void)
{
    struct sim *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->server.disk = simvfs_new("sim-meta");
    s->server.copy.disk = simvfs_new("sim-copy");
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "sim-%u", i);
        s->client[i].disk = simvfs_new(name);
    }
    s->empty = simvfs_new("sim-empty");
    simvfs_reset(s->empty, 0);
    client_template(s->empty);
    return s;
}

void sim_free(struct sim *s)
{
    observer_reset(&s->observer);
    warm_free(s->server.disk);
    simvfs_free(s->server.disk);
    simvfs_free(s->server.copy.disk);
    simvfs_free(s->empty);
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        warm_free(s->client[i].disk);
        simvfs_free(s->client[i].disk);
    }
    for (size_t i = 0; i < LOG_LINES; i++)
        free(s->log[i]);
    free(s);
}

void counts_add(struct counts *sum, const struct counts *c)
{
    unsigned long *to = (unsigned long *)sum;
    const unsigned long *from = (const unsigned long *)c;
    for (size_t i = 0; i < sizeof *c / sizeof *from; i++)
        to[i] += from[i];
}

/* How many clients, how many steps, unless that was said. */
static void draw_size(struct sim *s)
{
    static const unsigned clients[] = {2, 2, 2, 2, 3, 3, 3, 4}, steps[] = {150, 400, 400, 800};
    struct rng r = rng_of(s->seed, 10, 0);
    unsigned c = clients[rng_below(&r, 8)], n = steps[rng_below(&r, 4)];
    if (!s->opt.clients)
        s->opt.clients = c;
    if (!s->opt.steps)
        s->opt.steps = s->p.gc ? STEPS_GC : n;
}

static void begin(struct sim *s, const struct installation *i)
{
    s->now = START_NS;
    s->step = 0;
    s->healed = s->lifted = s->failed = false;
    s->hash = 0xcbf29ce484222325u;
    s->log_n = s->reports_n = 0;
    memset(&s->count, 0, sizeof s->count);
    ledger_reset(&s->ledger);
    observer_reset(&s->observer);
    weather_draw(s);
    draw_size(s);
    for (unsigned k = 0; k < s->opt.clients; k++) {
        struct client *c = &s->client[k];
        struct simvfs *disk = c->disk;
        *c = (struct client){.s = s, .index = k, .disk = disk};
        simvfs_reset(disk, s->seed * CLIENTS_MAX + k);
        if (s->seed % FROM_NOTHING)
            simvfs_copy(disk, s->empty);
    }
    if (server_start(s, i))
        return;
    weather_begin(s);
    for (unsigned k = 0; k < s->opt.clients && !s->failed; k++)
        if (!s->client[k].joins)
            client_start(&s->client[k]);
}

static void end(struct sim *s)
{
    for (unsigned k = 0; k < s->opt.clients; k++) {
        struct client *c = &s->client[k];
        simvfs_crash(c->disk); /* nobody looks at it any more: see warm.c */
        if (c->core)
            client_stop(c, STOP_CLEAN);
    }
    while (s->net_n) {
        struct packet p = net_take(s, s->net_n - 1);
        buf_free(&p.body);
    }
    simvfs_crash(s->server.disk);
    server_stop(&s->server);
}

bool sim_run(struct sim *s, const struct installation *i, uint64_t seed, const struct options *o)
{
    s->opt = *o;
    s->seed = seed;
    begin(s, i);
    while (!s->failed && s->step < s->opt.steps) {
        one_step(s);
        s->step++;
    }
    finish(s);
    sim_log(s, "end");
    bool ok = !s->failed;
    end(s);
    return ok;
}
