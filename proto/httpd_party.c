// SPDX-License-Identifier: Apache-2.0
/* Memory is shared by those who send and receive, not by their connections: one who is known and
 * opens many would else hold all of it, and whoever comes with one larger request would make room
 * for him.
 *
 * Who sent a request is known when the program has vouched for it, or when its handler has said so;
 * the connection is his until another is found out to use it. What he holds in all is his requests
 * that are not complete, and those that are and wait to be answered. Once half of the memory is
 * taken, who holds more than his share is told to come again, also in the middle of a request. The
 * other half is for those who do not.
 *
 * So with answers that are not taken: half of the memory for them may be one's, then he is told to
 * come again instead of what he asked for, so that the others' are not held back. Small answers,
 * which tell of what was done, come in any case.
 *
 * So with the requests that wait for a worker: once half of the queue is taken, who has more than
 * his share in it is told to come again, and so is whoever is not known yet, where the program
 * finds out who its senders are.
 *
 * Likewise with connections, which cost their owner nothing while they rest: once all are taken, a
 * newcomer gets the place of one that rests, of whoever has more than his share.
 */
#include "httpd_private.h"

#include <stdlib.h>

static struct party *take(struct httpd *h, uint64_t who)
{
    size_t at = (who ^ who >> 32) % HTTPD_PARTY_BUCKETS;
    struct party *p;
    LIST_FOREACH(p, &h->parties[at], link)
    if (p->who == who)
        break;
    if (!p) {
        if (!(p = calloc(1, sizeof *p)))
            abort();
        p->who = who;
        LIST_INSERT_HEAD(&h->parties[at], p, link);
    }
    p->refs++;
    return p;
}

static void give(struct party *p)
{
    if (!p || --p->refs)
        return;
    LIST_REMOVE(p, link);
    free(p);
}

void httpd_party_hold(struct party *p, size_t before, size_t now)
{
    if (p)
        p->held += now - before;
}

void httpd_party_set(struct conn *c, uint64_t who)
{
    struct party *was = c->party;
    if (was ? was->who == who : !who)
        return;
    httpd_party_hold(was, c->held, 0);
    httpd_party_unsent(c, 0, c->unsent);
    if (was)
        was->conns--;
    c->party = who ? take(c->h, who) : NULL;
    if (c->party)
        c->party->conns++;
    httpd_party_hold(c->party, 0, c->held);
    httpd_party_unsent(c, c->unsent, 0);
    give(was);
}

void httpd_party_unsent(struct conn *c, size_t added, size_t taken)
{
    if (c->party)
        c->party->unsent += added - taken;
}

bool httpd_party_sated(const struct conn *c, size_t n)
{
    const struct httpd *h = c->h;
    return c->party && n >= HTTPD_BULK && h->unsent + n > h->o.memory_max / 2 &&
           c->party->unsent + n > h->o.memory_max / HTTPD_PARTY_SHARE;
}

void httpd_party_request(struct httpd_req *q)
{
    q->party = q->conn->party;
    if (!q->party)
        return;
    q->party->refs++;
    httpd_party_hold(q->party, 0, q->body_held);
}

void httpd_party_answered(struct httpd_req *q)
{
    httpd_party_hold(q->party, q->body_held, 0);
    give(q->party);
    q->party = NULL;
}

static bool over(const struct httpd *h, const struct party *p, size_t n)
{
    return p && h->held + n > h->o.memory_max / 2 &&
           p->held + n > h->o.memory_max / HTTPD_PARTY_SHARE;
}

bool httpd_party_greedy(const struct conn *c, size_t n)
{
    return over(c->h, c->party, n);
}

bool httpd_party_queue(struct httpd_req *q)
{
    struct httpd *h = q->h;
    struct party *p = q->party;
    bool half = h->work_n >= HTTPD_QUEUE_MAX / 2;
    if (half && (p ? p->queued >= HTTPD_QUEUE_MAX / HTTPD_PARTY_SHARE : h->o.vouch != NULL))
        return false;
    if (p)
        p->queued++;
    h->work_n++;
    return true;
}

void httpd_party_dequeue(struct httpd_req *q)
{
    if (q->party)
        q->party->queued--;
    q->h->work_n--;
}

struct conn *httpd_party_excess(struct httpd *h)
{
    struct conn *c, *found = NULL;
    int64_t now = httpd_now_ms();
    bool found_slow = false;
    LIST_FOREACH(c, &h->conns, link)
    {
        if (c->req || c->away || !c->held || !over(h, c->party, 0))
            continue;
        bool slow = httpd_is_slow(c, now);
        if (found && (c->party->held < found->party->held ||
                      (c->party == found->party &&
                       (slow < found_slow || (slow == found_slow && c->held < found->held)))))
            continue;
        found = c;
        found_slow = slow;
    }
    return found;
}

struct conn *httpd_party_crowd(struct httpd *h)
{
    struct conn *c, *found = NULL;
    LIST_FOREACH(c, &h->conns, link)
    {
        if (c->req || c->asked || !c->party ||
            c->party->conns <= h->o.max_connections / HTTPD_PARTY_SHARE)
            continue;
        if (found && (c->party->conns < found->party->conns ||
                      (c->party == found->party && c->began_ms > found->began_ms)))
            continue;
        found = c;
    }
    return found;
}

void httpd_party_free(struct httpd *h)
{
    for (size_t i = 0; i < HTTPD_PARTY_BUCKETS; i++)
        for (struct party *p; (p = LIST_FIRST(&h->parties[i]));) {
            LIST_REMOVE(p, link);
            free(p);
        }
}
