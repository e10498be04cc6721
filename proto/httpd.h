// SPDX-License-Identifier: Apache-2.0
/* The server's side: HTTPS over libevent (evhttp on bufferevents with OpenSSL), one loop thread,
 * and a pool of workers for handlers that block.
 *
 * Every route is POST (and GET for /healthz, /metrics). The glue refuses: other methods, a body
 * over the route's limit (before it is read where Content-Length tells), another Steadfs-Version
 * (426), a chunked body (400), and anything while draining (503). It counts requests and bytes,
 * sets TCP_NODELAY on every connection, and bounds idle connections, heads and connection count. It
 * serves /healthz and /metrics itself, calling the program's hook for the program's own lines.
 * /metrics tells what is stored and who works, so only clients on this machine get it; others: 403.
 */
#ifndef STEADFS_HTTPD_H
#define STEADFS_HTTPD_H

#include "messages.h"
#include "trace.h"

struct httpd;
struct httpd_req; /* one request; answered exactly once by httpd_reply* */

enum httpd_where {
    HTTPD_ON_LOOP,   /* the handler runs on the loop thread and must not block */
    HTTPD_ON_WORKER, /* the handler runs on a worker thread */
};
typedef void (*httpd_handler)(void *ctx, struct httpd_req *q);

/* The beginning of a request whose body is larger than strangers may send: what tells whether
 * whoever sends it may. Valid during the call. */
struct httpd_early {
    const char *method; /* of the route */
    const char *bearer; /* credential, "" when none */
    struct bytes body;  /* what has come of it, up to HTTPD_EARLY_BODY */
};
#define HTTPD_EARLY_BODY 4096
#define HTTPD_WHY_MAX 256 /* bytes of a reason */
/* 0: known; *who is a number for the sender, the same on all of his connections and no two's (0:
 * one who is not told from others): memory is shared by senders (httpd_party.c). Else an enum
 * error_code to answer with, and a line for people in why (HTTPD_WHY_MAX bytes). */
typedef unsigned (*httpd_vouch)(void *ctx, const struct httpd_early *e, uint64_t *who, char *why);

struct httpd_options {
    const char *address; /* "127.0.0.1"; NULL: 127.0.0.1 */
    uint16_t port;       /* 0: any free one */
    /* PEM text; NULL: no TLS (refused unless address is loopback). Certificates behind the first
     * are sent as its chain: a server that shows the CA too lets a client pin it by its
     * fingerprint. */
    const char *cert_pem, *key_pem;
    unsigned workers;         /* 0: 4 */
    unsigned max_connections; /* 0: 20000 */
    struct log *log;
    void *ctx; /* passed to handlers and hooks */
    void (*metrics)(void *ctx,
                    struct buf *out); /* appends Prometheus text; loop thread; may be NULL */
    const char *name;                 /* prefix of metrics: "steadfs_metad" */
    void (*drain)(void *ctx); /* draining begins: answer long polls now; loop thread; may be NULL */
    unsigned idle_seconds;    /* a silent connection is closed; 0: 120 */
    size_t memory_max;        /* bytes of requests received and not yet answered; 0: 1 GiB. Above,
                                 the connection with the largest incomplete request is dropped; and
                                 above half of it, who has more than an eighth is turned away. And
                                 bytes of answers not yet sent: above, requests for workers wait;
                                 while that lasts, who takes longest is dropped */
    httpd_vouch vouch;        /* asked before more than HTTPD_STRANGER_BODY of a request is taken;
                                 NULL: whoever comes is known (httpd_stranger.c) */
    enum httpd_where vouch_where; /* the thread that it runs on */
    unsigned stranger_seconds;    /* strangers have so long for a request; 0: 60 */
    uint64_t rate; /* bytes a second, each way, all connections together; 0: no limit */
};

/* Binds and starts. 0; -EADDRINUSE and other -errno, with a line for people in err (512 bytes). */
int httpd_new(struct httpd **out, const struct httpd_options *o, char *err);
/* Before httpd_run only. method: "commit" serves /v1/commit. A route with body_max 0 answers GET
 * too, then without asking for a version: for pages that a person may fetch. */
void httpd_route(struct httpd *h, const char *method, enum httpd_where where, size_t body_max,
                 httpd_handler fn);
uint16_t httpd_port(const struct httpd *h);
/* Runs the loop in the calling thread until httpd_stop. */
void httpd_run(struct httpd *h);
/* Any thread, async-signal-safe: refuse new requests, close idle connections, let those under way
 * end for at most drain_ms, then make httpd_run return. */
void httpd_stop(struct httpd *h, unsigned drain_ms);
void httpd_free(struct httpd *h);
/* Connections accepted from now on are shown this certificate; those that are open go on. PEM, as
 * in the options. Any thread. 0 or -EINVAL: they do not fit each other, or there is no TLS here. */
int httpd_show(struct httpd *h, const char *cert_pem, const char *key_pem);
/* Runs fn on the loop thread, soon. Any thread. */
void httpd_post(struct httpd *h, void (*fn)(void *arg), void *arg);
/* Runs fn on the loop thread after ms; loop thread only. Returns a handle for httpd_timer_cancel.
 */
struct httpd_timer *httpd_timer(struct httpd *h, unsigned ms, void (*fn)(void *arg), void *arg);
void httpd_timer_cancel(struct httpd_timer *t);
bool httpd_draining(const struct httpd *h);

/* Of a request: valid until it is answered. A client may vanish meanwhile; the handler need not
 * know: its answer is then dropped. */
struct bytes httpd_body(const struct httpd_req *q);
const char *httpd_bearer(const struct httpd_req *q); /* credential, "" when none */
const char *httpd_peer(const struct httpd_req *q);
/* The client's name for what it does, for log lines; "": none, or none that may be in a line. */
const char *httpd_op(const struct httpd_req *q);
/* By a handler, before it answers: the request came from somebody with a valid credential, whose
 * connection need not make room for newcomers any more; who: as httpd_vouch tells. */
void httpd_prove(struct httpd_req *q, uint64_t who);
/* The client runs on this machine: it came over loopback, or from the address that it called. */
bool httpd_peer_local(const struct httpd_req *q);
struct arena *httpd_arena(struct httpd_req *q); /* freed when answered */
/* Decodes the body strictly; on failure answers 400/413 itself and returns false. */
bool httpd_decode(struct httpd_req *q, const struct msg_desc *d, void *msg);

/* From a handler on the loop that has not answered: fn does it, on a worker. */
void httpd_to_worker(struct httpd_req *q, httpd_handler fn);

/* Answers; any thread; q is gone afterwards. The bytes of *body are taken over (left empty). */
void httpd_reply(struct httpd_req *q, unsigned status, struct buf *body);
/* A message over its limits is answered with 500. */
void httpd_reply_msg(struct httpd_req *q, const struct msg_desc *d, const void *msg);
void httpd_reply_error(struct httpd_req *q, enum error_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#endif
