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
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define HTTPD_ROUTES_MAX 32
#define HTTPD_HEAD_MAX 8192              /* request line and headers, bytes */
#define HTTPD_STRANGER_BODY (64u << 10)  /* bytes of a request before its sender is known */
#define HTTPD_STRANGER_LEAST (12u << 10) /* the same while strangers hold much memory */
#define HTTPD_STRANGERS_SHARE                                                                      \
    8 /* strangers hold 1/8 of memory_max, and an address 1/8 of                                   \
         the connections once half of them are taken */
/* Who is known holds 1/8 of memory_max, with requests and with answers, and of the queue, once half
 * of it is taken, and of the connections, once all are. */
#define HTTPD_PARTY_SHARE 8
#define HTTPD_PARTY_BUCKETS 256
#define HTTPD_BULK (16u << 10) /* bytes of an answer that may be "come again" instead */
#define HTTPD_GREEDY "too much of this client is under way here; try again"
#define HTTPD_STRANGER_SECONDS 60 /* for a stranger's request; others' rate counts then */
#define HTTPD_SLOWEST 1024        /* bytes a second that a request brings on average */
#define HTTPD_QUEUE_MAX 1024      /* requests waiting for a worker; above: 503 */

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
    uint32_t length; /* bytes so far, line ends included */
    bool done;       /* the head is over */
    bool chunked;    /* found */
};

/* Somebody who is known, with all that he has under way; loop thread only. */
struct party {
    uint64_t who;
    uint64_t held;   /* of httpd.held, by all his connections and requests */
    uint64_t unsent; /* of httpd.unsent, by all his connections */
    size_t conns;
    size_t refs;   /* of those, and of his requests */
    size_t queued; /* requests in httpd.work; under its lock */
    LIST_ENTRY(party) link;
};

/* One accepted connection; loop thread only. */
struct conn {
    struct httpd *h;
    struct bufferevent *bev;
    struct evhttp_connection *evcon; /* NULL until adopted */
    struct httpd_req *req;           /* being handled, not yet answered */
    int fd;
    uint64_t in_since;   /* bytes received since the last complete request */
    struct party *party; /* who sent its last requests, as far as that was found out; or NULL */
    size_t held;         /* its share of httpd.held: of requests not complete yet */
    size_t unsent;       /* its share of httpd.unsent */
    uint64_t crowd;      /* number of the crowd in which `waiting` was noted */
    uint64_t waiting;    /* bytes that the peer had not taken then, the kernel's included */
    struct head_scan scan;
    struct buf head;      /* as far as it is here: asked about by httpd_stranger.c */
    int64_t began_ms;     /* monotonic: the request under way; before the first one: accepted */
    uint64_t serial;      /* of the request under way, unique in the server */
    struct in6_addr from; /* the peer; of IPv6 the first 64 bits */
    bool finished;        /* a request was complete */
    bool proven;          /* one of them came with a valid credential */
    bool vouched;         /* the one under way does */
    bool looked;          /* in httpd.looks */
    bool asked;           /* a worker is finding out; not read meanwhile */
    bool away;            /* answered before its request was complete: what still comes is thrown
                             away, until began_ms + HTTPD_AWAY_MS */
    bool local;           /* the peer is this machine */
    bool in_time;         /* a request was under way when draining began: it may end */
    bool shed;            /* to be dropped, or no longer read: see httpd_shed_cb */
    LIST_ENTRY(conn) link;
    TAILQ_ENTRY(conn) look;     /* or in httpd.fresh */
    TAILQ_ENTRY(conn) unproven; /* while it is not */
};

struct httpd_req {
    struct httpd *h;
    struct conn *conn; /* NULL once the client has vanished; loop thread only */
    struct evhttp_request *ev;
    const struct route *route;
    httpd_handler fn;
    struct bytes body;
    size_t body_held; /* its share of httpd.held */
    struct party *party;
    struct arena arena;
    char peer[80], op[LOG_OP_MAX];
    bool local;
    bool proven;     /* by its handler */
    uint64_t who;    /* likewise */
    unsigned status; /* the reply, from here on */
    struct buf reply;
    STAILQ_ENTRY(httpd_req) queued; /* work, then replies */
    LIST_ENTRY(httpd_req) all;
};

/* A worker is to say whether a request's sender is known. */
struct vouching {
    int fd;
    uint64_t serial;
    const struct route *route;
    char *bearer;
    uint64_t who;
    unsigned code;
    char why[HTTPD_WHY_MAX];
    STAILQ_ENTRY(vouching) link;
};
STAILQ_HEAD(vouchings, vouching);

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
    struct event *wake, *shed, *adopt, *look, *stranger_tick, *crowd_tick, *drain_tick, *drain_end;
    struct bufferevent_rate_limit_group *rate; /* NULL: no limit */

    /* loop thread */
    struct route routes[HTTPD_ROUTES_MAX];
    size_t routes_n;
    size_t body_max;
    LIST_HEAD(, conn) conns;
    LIST_HEAD(, httpd_req) reqs;
    struct timer_list timers;
    struct conn **by_fd;
    size_t by_fd_n;
    size_t conns_n, conns_most;
    uint64_t crowds; /* so far */
    /* fresh: accepted, not adopted; unproven: oldest first */
    TAILQ_HEAD(conn_tail, conn) fresh, looks, unproven;
    size_t unproven_n;
    uint64_t held_strange; /* of held: by connections of strangers, of requests not complete */
    uint64_t serial, strangers_dropped, strangers_told, turned_away, greedy;
    LIST_HEAD(, party) parties[HTTPD_PARTY_BUCKETS];
    int64_t ticked_ms, told_ms;
    uint64_t held, unsent, dropped, bytes_in, bytes_out, other_requests, refused_full;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work_there;
    STAILQ_HEAD(, httpd_req) work, replies;
    STAILQ_HEAD(, post) posts;
    struct vouchings to_vouch, vouched;
    SSL_CTX *ssl_next; /* takes its place at the next connection; NULL: none */
    size_t work_n, to_vouch_n;
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

/* Ends a connection for want of room; counted, and a line in the log. */
void httpd_conn_drop(struct conn *c, const char *why);
/* All bytes held of requests that are not complete go through here. */
void httpd_conn_hold(struct conn *c, size_t now);

/* httpd_stranger.c; loop thread. */
/* Nobody has vouched for whoever sent what the connection holds. */
bool httpd_is_strange(const struct conn *c);
/* Sets what is known of the connection and of its request. */
void httpd_stranger_known(struct conn *c, bool vouched, bool proven);
/* More of a stranger's request has come. */
void httpd_stranger_more(struct conn *c);
void httpd_stranger_gone(struct conn *c);
/* Answers a request that has not come to its end; the connection ends with that. */
void httpd_turn_away(struct conn *c, unsigned code, const char *why);
/* A new one was accepted: false when there is no room for it. */
bool httpd_stranger_room(struct conn *c);
/* Less than a request should bring while there is not room for all. */
bool httpd_is_slow(const struct conn *c, int64_t now_ms);
/* What the workers found out. */
void httpd_stranger_vouched(struct httpd *h, struct vouching *v);
void httpd_look_cb(evutil_socket_t fd, short what, void *httpd);
void httpd_stranger_tick_cb(evutil_socket_t fd, short what, void *httpd);
void httpd_stranger_start(struct httpd *h);
int64_t httpd_now_ms(void);

/* httpd_party.c; loop thread. */
/* The connection is this one's from now on; 0: nobody's. */
void httpd_party_set(struct conn *c, uint64_t who);
/* All changes of what is held by one go through here. NULL: nobody. */
void httpd_party_hold(struct party *p, size_t before, size_t now);
/* The request counts as its connection's party's, until it is answered. */
void httpd_party_request(struct httpd_req *q);
void httpd_party_answered(struct httpd_req *q);
/* Whether with n bytes more its sender has more than his share, while much is held. */
bool httpd_party_greedy(const struct conn *c, size_t n);
/* More of the connection's answers waits to be taken, or less. */
void httpd_party_unsent(struct conn *c, size_t added, size_t taken);
/* Whether with an answer of n bytes more he leaves more than his share untaken, while there is much
 * of that. */
bool httpd_party_sated(const struct conn *c, size_t n);
/* A connection of one who has more than his share, to be turned away; NULL: there is none, or room.
 */
struct conn *httpd_party_excess(struct httpd *h);
/* Whether the request has its place in the queue of work; it has it then until httpd_party_dequeue.
 * Both [lock]. */
bool httpd_party_queue(struct httpd_req *q);
void httpd_party_dequeue(struct httpd_req *q);
/* The connection to be ended where all are taken: of whoever has most, and more than his share, the
 * one that has rested longest; NULL: there is none. */
struct conn *httpd_party_crowd(struct httpd *h);
void httpd_party_free(struct httpd *h);

/* httpd.c */
struct route *httpd_route_of(struct httpd *h, const char *path, size_t n);
const char *httpd_reason(unsigned status);
void httpd_error_body(enum error_code code, const char *text, struct buf *out);
/* For httpd_wake_cb to look; [lock]. */
void httpd_wake_locked(struct httpd *h);
void httpd_on_request(struct evhttp_request *ev, void *httpd);
void httpd_wake_cb(evutil_socket_t fd, short what, void *httpd);
void httpd_drain_tick_cb(evutil_socket_t fd, short what, void *httpd);
void httpd_drain_end_cb(evutil_socket_t fd, short what, void *httpd);
void *httpd_worker_main(void *httpd);
void httpd_req_free(struct httpd_req *q);
#endif
