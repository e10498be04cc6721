// SPDX-License-Identifier: Apache-2.0
/* The calls whose answers may come later. `wait` is compared with the database on a worker and then
 * held on the loop (waiters.h); of `lock` the worker looks whether the device may see the
 * namespace, and the loop knows what is locked (locks.h). */
#include <errno.h>
#include <stdio.h>

#include "service.h"

/* ---- wait
 * ------------------------------------------------------------------------------------------ */

/* On its way from the worker to the loop; lives in the request's arena. */
struct held {
    struct service *s;
    struct httpd_req *q;
    struct m_wait_req req;
    uint64_t device;
};

static void hold(void *arg)
{
    struct held *h = arg;
    waiters_hold(h->s->waiters, h->q, &h->req, h->device);
}

/* Fills *a with what the database is ahead in. A namespace that the caller may no longer read is
 * news, too: the account's version has risen with it, so it is left out here. */
static int compare(struct meta *m, const struct meta_caller *who, struct m_wait_req *req,
                   struct m_wait_ans *a, struct arena *ar, char *why)
{
    uint64_t version = 0;
    int err = who->account ? meta_account_version(m, who->account, &version) : 0;
    if (err)
        return err;
    if (req->account_version != version)
        a->account_version = version;
    a->changed = arena_alloc(ar, req->watch_n * sizeof *a->changed);
    size_t kept = 0;
    for (size_t i = 0; i < req->watch_n; i++) {
        struct m_watch *v = &req->watch[i];
        if (v->server) {
            snprintf(why, 512, "waiting in a block server's own sequence is not offered");
            return -EINVAL;
        }
        uint64_t head = 0;
        err = meta_head(m, who, v->ns, &head);
        if (err == -EACCES)
            continue;
        if (err)
            return err;
        req->watch[kept++] = *v;
        if (head > v->sjid)
            a->changed[a->changed_n++] = (struct m_watch){.ns = v->ns, .sjid = head};
    }
    req->watch_n = kept;
    return 0;
}

static const struct call call_wait = {
    .method = "wait",
    .req_desc = &m_wait_req_desc,
    .ans_desc = &m_wait_ans_desc,
    .whom = CALL_FOR_MEMBER,
};

void service_on_wait(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    char why[512] = "";
    struct meta *m;
    int err = readers_get(s->readers, &m, why);
    if (err) {
        service_fail(s, &call_wait, q, err, why);
        return;
    }
    struct meta_caller who;
    struct m_wait_ans a = {0};
    struct held *h = arena_alloc(httpd_arena(q), sizeof *h);
    bool admitted =
        service_admit(s, m, &call_wait, q, &who) && httpd_decode(q, &m_wait_req_desc, &h->req);
    if (admitted)
        err = compare(m, &who, &h->req, &a, httpd_arena(q), why);
    readers_put(s->readers, m);
    if (!admitted)
        return;
    if (err) {
        service_fail(s, &call_wait, q, err, why);
    } else if (a.changed_n || a.account_version) {
        httpd_reply_msg(q, &m_wait_ans_desc, &a);
    } else {
        h->s = s;
        h->q = q;
        /* the top bit keeps a block server's number apart from a device's */
        h->device = who.device ? who.device : who.server | (uint64_t)1 << 63;
        httpd_post(s->httpd, hold, h);
    }
}

/* ---- lock
 * ------------------------------------------------------------------------------------------ */

/* On its way from the worker to the loop; lives in the request's arena. */
struct asked_lock {
    struct service *s;
    struct httpd_req *q;
    struct m_lock_req req;
    uint64_t device;
    int refused; /* -EACCES, -ENOENT: it may not see the namespace (any more); 0; other -errno */
};

static const struct call call_lock = {
    .method = "lock",
    .req_desc = &m_lock_req_desc,
    .ans_desc = &m_lock_ans_desc,
    .whom = CALL_FOR_DEVICE,
};

static void watch_leases(void *arg)
{
    struct service *s = arg;
    unsigned next = locks_expire(s->locks);
    s->leases_watched = next > 0 && !httpd_draining(s->httpd);
    if (s->leases_watched)
        httpd_timer(s->httpd, next, watch_leases, s);
}

static void lock_on_loop(void *arg)
{
    struct asked_lock *h = arg;
    struct service *s = h->s;
    struct m_lock_ans a = {0};
    if (h->refused) {
        if (h->refused == -EACCES || h->refused == -ENOENT)
            locks_leave(s->locks, h->device, h->req.ns);
        service_fail(s, &call_lock, h->q, h->refused, "not a member of the namespace");
        return;
    }
    int err = locks_request(s->locks, h->device, &h->req, &a, httpd_arena(h->q));
    if (err)
        service_fail(s, &call_lock, h->q, err,
                     err == -ENOSPC ? "this device has too many locks, or too many lock this file"
                                    : "a lock is not empty, and of a whole file is all of it");
    else
        httpd_reply_msg(h->q, &m_lock_ans_desc, &a);
    if (!s->leases_watched)
        watch_leases(s);
}

/* The worker looks whether the device may see the namespace; what it locks there, the loop knows.
 */
void service_on_lock(void *ctx, struct httpd_req *q)
{
    struct service *s = ctx;
    char why[512] = "";
    struct meta *m;
    struct meta_caller who;
    uint64_t head;
    int err = readers_get(s->readers, &m, why);
    if (err) {
        service_fail(s, &call_lock, q, err, why);
        return;
    }
    struct asked_lock *h = arena_alloc(httpd_arena(q), sizeof *h);
    bool admitted =
        service_admit(s, m, &call_lock, q, &who) && httpd_decode(q, &m_lock_req_desc, &h->req);
    if (admitted && h->req.ns)
        err = meta_head(m, &who, h->req.ns, &head);
    readers_put(s->readers, m);
    if (!admitted)
        return;
    h->refused = err;
    h->s = s;
    h->q = q;
    h->device = who.device;
    httpd_post(s->httpd, lock_on_loop, h);
}
