// SPDX-License-Identifier: Apache-2.0
/* What the files of httpd share: the server, its connections, its requests. httpd.c tells how they
 * live. */
#ifndef STEADFS_HTTPD_PRIVATE_H
#define STEADFS_HTTPD_PRIVATE_H

#include "httpd.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define HTTPD_ROUTES_MAX 32

struct route {
    char method[32];
    enum httpd_where where;
    size_t body_max;
    httpd_handler fn;
    uint64_t requests;
};

/* Looks for Transfer-Encoding in a request's head as it comes in; all zero at its beginning. */
struct head_scan {
    uint8_t matched; /* bytes of the header's name at the beginning of this line */
    bool other;      /* this line is another one */
    bool begun;      /* a line that is not empty was seen */
    bool done;       /* the head is over */
    bool chunked;    /* found */
};

/* One accepted connection; loop thread only. */
struct conn {
    struct httpd *h;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL until adopted */
    struct httpd_req *req;           /* being handled, not yet answered */
    int fd;
    uint64_t in_since; /* bytes received since the last complete request */
    size_t held;       /* its share of httpd.held: of requests not complete yet */
    size_t unsent;     /* its share of httpd.unsent */
    uint64_t crowd;    /* number of the crowd in which `waiting` was noted */
    uint64_t waiting;  /* bytes that the peer had not taken then, the kernel's included */
    struct head_scan scan;
    bool local;   /* the peer is this machine */
    bool in_time; /* a request was under way when draining began: it may end */
    bool shed;    /* to be dropped, or no longer read: see httpd_shed_cb */
    LIST_ENTRY(conn) link;
};

struct httpd_req {
    struct httpd *h;
    struct conn *conn; /* NULL once the client has vanished; loop thread only */
    struct evhttp_request *ev;
    const struct route *route;
    httpd_handler fn;
    struct bytes body;
    size_t body_held; /* its share of httpd.held */
    struct arena arena;
    char peer[80], op[LOG_OP_MAX];
    bool local;
    unsigned status; /* the reply, from here on */
    struct buf reply;
    STAILQ_ENTRY(httpd_req) queued; /* work, then replies */
    LIST_ENTRY(httpd_req) all;
};

struct post {
    void (*fn)(void *arg);
    void *arg;
    STAILQ_ENTRY(post) link;
};

struct httpd_timer {
    struct event ev;
    void (*fn)(void *arg);
    void *arg;
    LIST_ENTRY(httpd_timer) link;
};
LIST_HEAD(timer_list, httpd_timer);

struct httpd {
    struct httpd_options o;
    char name[64];
    uint16_t port;
    struct event_base *base;
    struct evhttp *evhttp;
    SSL_CTX *ssl;   /* NULL: no TLS; loop thread */
    pthread_t loop; /* valid while running */
    atomic_bool running, draining;
    atomic_uint drain_ms;
    int wake_fd;
    struct event *wake, *shed, *adopt, *crowd_tick, *drain_tick, *drain_end;
    struct bufferevent_rate_limit_group *rate; /* NULL: no limit */

    /* loop thread */
    struct route routes[HTTPD_ROUTES_MAX];
    size_t routes_n;
    size_t body_max;
    LIST_HEAD(, conn) conns, fresh;
    LIST_HEAD(, httpd_req) reqs;
    struct timer_list timers;
    struct conn **by_fd;
    size_t by_fd_n;
    size_t conns_n, conns_most;
    uint64_t crowds; /* so far */
    uint64_t held, unsent, dropped, bytes_in, bytes_out, other_requests, refused_full;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work_there;
    STAILQ_HEAD(, httpd_req) work, replies;
    STAILQ_HEAD(, post) posts;
    SSL_CTX *ssl_next; /* takes its place at the next connection; NULL: none */
    size_t work_n;
    bool woken, quit;
    bool crowded; /* written by the loop thread: too much is unsent, workers pause */
    /* Bytes of answers that the loop has not looked at, and those unsent when it last did: no less
     * than there is. */
    uint64_t queued, unsent_seen;
    pthread_t *workers;
    unsigned workers_n;
};

/* httpd_conn.c; loop thread. */
/* evhttp asks for the bufferevent of a connection that it has just accepted. */
struct bufferevent *httpd_on_accept(struct event_base *base, void *httpd);
/* Event callback: takes in what was accepted in this turn of the loop. */
void httpd_adopt_cb(evutil_socket_t fd, short what, void *httpd);
/* Event callback: ends the connections that brought the process over a bound. */
void httpd_shed_cb(evutil_socket_t fd, short what, void *httpd);
/* Event callback: too much is unsent, and that does not change. */
void httpd_crowd_cb(evutil_socket_t fd, short what, void *httpd);
/* That a request came over; asserted to exist. */
struct conn *httpd_conn_of(struct httpd *h, struct evhttp_connection *evcon);
/* The request is complete: what comes behind it, ahead bytes, belongs to the next one. */
void httpd_conn_received(struct conn *c, size_t ahead);
/* Whether a connection from there to here stays on this machine: it comes over loopback, or from
 * the address that it calls. */
bool httpd_same_machine(const struct sockaddr *here, const struct sockaddr *there);
/* Nothing of a request was received and nothing is to be sent. */
bool httpd_conn_idle(const struct conn *c);
/* Keeps noticing the client's end while a handler has the request. */
void httpd_watch_peer(struct conn *c);

/* httpd.c */
void httpd_on_request(struct evhttp_request *ev, void *httpd);
void httpd_wake_cb(evutil_socket_t fd, short what, void *httpd);
void httpd_drain_tick_cb(evutil_socket_t fd, short what, void *httpd);
void httpd_drain_end_cb(evutil_socket_t fd, short what, void *httpd);
void *httpd_worker_main(void *httpd);
void httpd_req_free(struct httpd_req *q);
#endif
