// SPDX-License-Identifier: Apache-2.0
/* Rows stand in a queue: those that were asked about go to its end, with the number of the pass. So
 * a page costs its rows, however many there are. */
#include "uncommitted.h"

#include "blockid.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define NAME "steadfs_blockd_uncommitted"
#define ROW_BUCKETS 65536u
#define PARTY_BUCKETS 1024u
#define QUOTAS_MAX 65536u /* namespaces whose quota is kept */

struct party {
    struct uncommitted_party who;
    uint64_t bytes, blocks; /* with what is being put */
    uint64_t bound;         /* of bytes, when it was last looked at */
    bool over;              /* was refused; not looked at since */
    LIST_ENTRY(party) link;
};

/* Of a namespace, kept when nobody has anything there. */
struct quota {
    uint64_t ns, bytes; /* 0: none */
    LIST_ENTRY(quota) link;
};

struct row {
    struct block_id id;
    uint64_t charge;
    struct party *party;
    uint64_t pass; /* asked about in */
    int64_t put_ms;
    LIST_ENTRY(row) link;
    TAILQ_ENTRY(row) queue;
};

struct uncommitted {
    pthread_mutex_t lock; /* guards what follows */
    LIST_HEAD(, row) rows[ROW_BUCKETS];
    LIST_HEAD(, party) parties[PARTY_BUCKETS];
    LIST_HEAD(, quota) quotas[PARTY_BUCKETS];
    size_t quotas_n;
    TAILQ_HEAD(, row) queue;
    uint64_t bytes, blocks; /* of all */
    uint64_t pass, refused, settled;
    bool pressing, over; /* over: of somebody */
};

static uint64_t charge_of(uint64_t len)
{
    return len < UNCOMMITTED_BLOCK ? UNCOMMITTED_BLOCK : len;
}

/* [locked] The one that is there, or NULL. */
static struct party *find_party(struct uncommitted *u, struct uncommitted_party who)
{
    struct party *p;
    LIST_FOREACH(p, &u->parties[(who.ns * 31 + who.account) % PARTY_BUCKETS], link)
    {
        if (p->who.account == who.account && p->who.ns == who.ns)
            return p;
    }
    return NULL;
}

static struct quota *find_quota(const struct uncommitted *u, uint64_t ns)
{
    struct quota *q;
    LIST_FOREACH(q, &u->quotas[ns % PARTY_BUCKETS], link)
    {
        if (q->ns == ns)
            return q;
    }
    return NULL;
}

static struct party *need_party(struct uncommitted *u, struct uncommitted_party who)
{
    struct party *p = find_party(u, who);
    if (p)
        return p;
    if (!(p = calloc(1, sizeof *p)))
        abort();
    p->who = who;
    LIST_INSERT_HEAD(&u->parties[(who.ns * 31 + who.account) % PARTY_BUCKETS], p, link);
    u->pressing |= !find_quota(u, who.ns);
    return p;
}

/* [locked] May free the party. */
static void take_off(struct uncommitted *u, struct party *p, uint64_t bytes)
{
    p->bytes -= bytes;
    p->blocks--;
    u->bytes -= bytes;
    u->blocks--;
    if (p->blocks)
        return;
    LIST_REMOVE(p, link);
    free(p);
}

static unsigned bucket_of(uint64_t ns, const struct block_id *id)
{
    uint64_t h;
    memcpy(&h, id->b + 1, sizeof h);
    return (unsigned)((h ^ ns * 0x9e3779b97f4a7c15u) % ROW_BUCKETS);
}

static struct row *find_row(struct uncommitted *u, uint64_t ns, const struct block_id *id)
{
    struct row *r;
    LIST_FOREACH(r, &u->rows[bucket_of(ns, id)], link)
    {
        if (r->party->who.ns == ns && block_id_equal(&r->id, id))
            return r;
    }
    return NULL;
}

static void drop_row(struct uncommitted *u, struct row *r)
{
    LIST_REMOVE(r, link);
    TAILQ_REMOVE(&u->queue, r, queue);
    take_off(u, r->party, r->charge);
    free(r);
}

static uint64_t bound_of(const struct uncommitted *u, const struct party *p, uint64_t free_bytes)
{
    const struct quota *q = find_quota(u, p->who.ns);
    if (q && q->bytes)
        return q->bytes > UNCOMMITTED_LEAST ? q->bytes : UNCOMMITTED_LEAST;
    uint64_t all = free_bytes + u->bytes, most = all - all / UNCOMMITTED_LEFT;
    return !free_bytes ? UINT64_MAX : most > UNCOMMITTED_LEAST ? most : UNCOMMITTED_LEAST;
}

struct uncommitted *uncommitted_new(void)
{
    struct uncommitted *u = calloc(1, sizeof *u);
    if (!u)
        abort();
    pthread_mutex_init(&u->lock, NULL);
    TAILQ_INIT(&u->queue);
    return u;
}

void uncommitted_free(struct uncommitted *u)
{
    if (!u)
        return;
    uncommitted_forget(u);
    for (size_t i = 0; i < PARTY_BUCKETS; i++) {
        struct party *p;
        struct quota *q;
        while ((p = LIST_FIRST(&u->parties[i]))) { /* a put that never ended */
            LIST_REMOVE(p, link);
            free(p);
        }
        while ((q = LIST_FIRST(&u->quotas[i]))) {
            LIST_REMOVE(q, link);
            free(q);
        }
    }
    pthread_mutex_destroy(&u->lock);
    free(u);
}

int uncommitted_admit(struct uncommitted *u, struct uncommitted_party who,
                      const struct uncommitted_block *v, size_t n, uint64_t free_bytes, char *why)
{
    uint64_t bytes = 0;
    if (!n)
        return 0;
    for (size_t i = 0; i < n; i++)
        bytes += charge_of(v[i].len);
    pthread_mutex_lock(&u->lock);
    struct party *p = need_party(u, who);
    p->bound = bound_of(u, p, free_bytes);
    bool over = bytes > p->bound || p->bytes > p->bound - bytes ||
                p->blocks + n > UNCOMMITTED_ROWS / UNCOMMITTED_SHARE ||
                u->blocks + n > UNCOMMITTED_ROWS;
    bool refused = over && why;
    u->pressing |= refused || (!over && p->bytes + bytes > p->bound / 2);
    u->refused += refused;
    u->over |= refused;
    p->over |= refused;
    if (refused)
        snprintf(why, 256,
                 "%" PRIu64 " bytes in %" PRIu64 " blocks are here that this account put and never "
                 "committed, and more than %" PRIu64 " may not be: what is not committed goes "
                 "within days; a larger quota allows more",
                 p->bytes, p->blocks, p->bound);
    if (over && !p->blocks) {
        LIST_REMOVE(p, link);
        free(p);
    } else if (!over) {
        p->bytes += bytes;
        p->blocks += n;
        u->bytes += bytes;
        u->blocks += n;
    }
    pthread_mutex_unlock(&u->lock);
    return over ? -EDQUOT : 0;
}

void uncommitted_put(struct uncommitted *u, struct uncommitted_party who,
                     const struct uncommitted_block *v, const bool *stored, size_t n,
                     int64_t now_ms)
{
    pthread_mutex_lock(&u->lock);
    for (size_t i = 0; i < n; i++) {
        struct party *p = find_party(u, who);
        if (!stored[i] || find_row(u, who.ns, &v[i].id)) {
            take_off(u, p, charge_of(v[i].len));
            continue;
        }
        struct row *r = calloc(1, sizeof *r);
        if (!r)
            abort();
        *r = (struct row){
            .id = v[i].id, .charge = charge_of(v[i].len), .party = p, .put_ms = now_ms};
        LIST_INSERT_HEAD(&u->rows[bucket_of(who.ns, &r->id)], r, link);
        TAILQ_INSERT_HEAD(&u->queue, r, queue);
    }
    pthread_mutex_unlock(&u->lock);
}

size_t uncommitted_given_up(struct uncommitted *u, int64_t before_ms, struct uncommitted_row *out,
                            size_t max)
{
    struct row *r;
    size_t n = 0;
    pthread_mutex_lock(&u->lock);
    if (u->over)
        TAILQ_FOREACH(r, &u->queue, queue)
        {
            if (!r->party->over || r->put_ms > before_ms)
                continue;
            if (n == max)
                break;
            out[n++] = (struct uncommitted_row){r->party->who.ns, r->id};
        }
    for (size_t i = 0; i < PARTY_BUCKETS && u->over && n < max; i++) {
        struct party *p;
        LIST_FOREACH(p, &u->parties[i], link)
        p->over = false;
    }
    u->over &= n == max;
    pthread_mutex_unlock(&u->lock);
    return n;
}

size_t uncommitted_next(struct uncommitted *u, struct uncommitted_row *out, size_t max)
{
    struct row *r;
    size_t n = 0;
    pthread_mutex_lock(&u->lock);
    while (n < max && (r = TAILQ_FIRST(&u->queue)) && r->pass <= u->pass) {
        out[n++] = (struct uncommitted_row){r->party->who.ns, r->id};
        r->pass = u->pass + 1;
        TAILQ_REMOVE(&u->queue, r, queue);
        TAILQ_INSERT_TAIL(&u->queue, r, queue);
    }
    u->pass += !n;
    u->pressing &= !n;
    pthread_mutex_unlock(&u->lock);
    return n;
}

void uncommitted_settle(struct uncommitted *u, uint64_t ns, const struct block_id *id)
{
    pthread_mutex_lock(&u->lock);
    struct row *r = find_row(u, ns, id);
    u->settled += r != NULL;
    if (r)
        drop_row(u, r);
    pthread_mutex_unlock(&u->lock);
}

void uncommitted_quota(struct uncommitted *u, uint64_t ns, uint64_t bytes)
{
    pthread_mutex_lock(&u->lock);
    struct quota *q = find_quota(u, ns);
    if (!q && u->quotas_n < QUOTAS_MAX) {
        if (!(q = calloc(1, sizeof *q)))
            abort();
        q->ns = ns;
        LIST_INSERT_HEAD(&u->quotas[ns % PARTY_BUCKETS], q, link);
        u->quotas_n++;
    }
    if (q)
        q->bytes = bytes;
    pthread_mutex_unlock(&u->lock);
}

void uncommitted_forget(struct uncommitted *u)
{
    struct row *r;
    pthread_mutex_lock(&u->lock);
    while ((r = TAILQ_FIRST(&u->queue)))
        drop_row(u, r);
    pthread_mutex_unlock(&u->lock);
}

bool uncommitted_pressing(struct uncommitted *u)
{
    pthread_mutex_lock(&u->lock);
    bool pressing = u->pressing;
    pthread_mutex_unlock(&u->lock);
    return pressing;
}

uint64_t uncommitted_blocks(struct uncommitted *u)
{
    pthread_mutex_lock(&u->lock);
    uint64_t n = u->blocks;
    pthread_mutex_unlock(&u->lock);
    return n;
}

void uncommitted_print(struct uncommitted *u, struct buf *out)
{
    if (!u)
        return;
    pthread_mutex_lock(&u->lock);
    const struct {
        const char *name, *type;
        uint64_t value;
    } lines[] = {
        {"blocks", "gauge", u->blocks},
        {"bytes", "gauge", u->bytes},
        {"refused_total", "counter", u->refused},
        {"settled_total", "counter", u->settled},
    };
    pthread_mutex_unlock(&u->lock);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        buf_printf(out, "# TYPE " NAME "_%s %s\n" NAME "_%s %" PRIu64 "\n", lines[i].name,
                   lines[i].type, lines[i].name, lines[i].value);
}
