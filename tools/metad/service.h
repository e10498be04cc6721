// SPDX-License-Identifier: Apache-2.0
/* One running steadfs-metad: its parts, and the table of calls that it answers.
 *
 * Threads: the loop (httpd) receives and answers and owns `waiters` and `locks`; the writer owns
 * the one metadata object that changes things, and `throttle`; the workers read, each with an
 * object of the pool.
 */
#ifndef STEADFS_SERVICE_H
#define STEADFS_SERVICE_H

#include "counters.h"
#include "httpd.h"
#include "locks.h"
#include "meta.h"
#include "quiet.h"
#include "readers.h"
#include "throttle.h"
#include "waiters.h"

struct service {
    struct log *log;
    struct httpd *httpd;
    struct readers *readers;
    struct writer *writer;
    struct waiters *waiters;
    struct locks *locks;
    struct counters counters;
    struct throttle throttle;
    struct quiet quiet;
    const char *ca_pem, *ca_key_pem; /* the installation's CA; NULL without TLS */
    char ca_fingerprint[65];         /* "" without TLS */
    const char *names;               /* the server's own, commas between them */
    const char *public_host; /* what invitations name, in brackets if it is an IPv6 address */
    uint64_t history_min_ms; /* superseded content is kept so long at least */
    uint64_t gc_grace_ms;    /* … and its blocks so much longer */
    int64_t released_ms;     /* loop: when waiters were last released after a command */
    bool release_due;        /* loop: a timer for it is set */
    atomic_bool other_told;  /* a mount was told that it knows another journal */
    bool release_wanted;     /* writer: who waits is to look again after this batch */
    bool leases_watched;     /* loop: a timer for the end of the next lease is set */
    unsigned lock_lease_ms;  /* 0: LOCK_LEASE_MS */
};

/* Whose credential a call needs. */
enum call_for {
    CALL_FOR_ANYONE, /* none: login, join */
    CALL_FOR_DEVICE, /* a mount */
    CALL_FOR_MEMBER, /* a mount or a block server */
    CALL_FOR_SERVER, /* a block server */
    CALL_FOR_PEOPLE, /* a device's owner, or the administrator */
};

/* One method. run has the same shape for all of them; req and ans are the structures that req_desc
 * and ans_desc describe. 0 or -errno with a line for people in why (512 bytes). */
struct call {
    const char *method;
    const struct msg_desc *req_desc, *ans_desc;
    enum call_for whom;
    bool changes; /* runs on the writer, in a shared transaction */
    bool urgent;  /* ahead of the other changes: somebody's fsync waits for it */
    size_t body_max;
    int (*run)(struct service *s, struct meta *m, const struct meta_caller *who, const void *req,
               int64_t now_ms, void *ans, struct arena *ar, char *why);
    void (*received)(struct service *s, const struct meta_caller *who, const void *req);
    /* After the change is durable. */
    void (*answered)(struct service *s, const struct meta_caller *who, const void *req,
                     const void *ans);
};

int64_t service_now_ms(void);
/* Resolves the credential of q; a call without one is held back after too many failures of its
 * address. False: refused, and answered. A call that needs none belongs to the writer's thread. */
bool service_admit(struct service *s, struct meta *m, const struct call *c, struct httpd_req *q,
                   struct meta_caller *who);
/* Writes a line about a caller's trouble, but not again and again; who: a peer's address, or what
 * else tells callers apart. */
void service_note(struct service *s, enum log_level level, const struct log_where *where,
                  const char *who, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Answers with what a run's or a transaction's -errno means to the caller, and logs it. Thread as
 * above. */
void service_fail(struct service *s, const struct call *c, struct httpd_req *q, int err,
                  const char *why);
/* Calls whose answers may come later: handlers of httpd. ctx: the service. */
void service_on_wait(void *ctx, struct httpd_req *q);
void service_on_lock(void *ctx, struct httpd_req *q);
/* Loop: all who wait look again, soon. arg: the service. */
void service_release_soon(void *arg);
/* Registers every route. */
void service_routes(struct service *s);
/* The program's own lines of /metrics. ctx: the service. */
void service_metrics(void *ctx, struct buf *out);
/* httpd_options.vouch; ctx: the service. */
unsigned service_vouch(void *ctx, const struct httpd_early *e, uint64_t *who, char *why);
#endif
