// SPDX-License-Identifier: Apache-2.0
/* Connections, from being accepted to being gone.
 *
 * evhttp 2.1 has no hook between "accepted" and "whole request read". A connection's bufferevent is
 * made by httpd_on_accept, before evhttp's own connection object exists; httpd_adopt_cb finds that
 * object behind the bufferevent's callback argument before the loop looks at sockets again.
 * Connections are found again by their descriptor.
 *
 * Bytes are counted where they pass: evbuffer callbacks on the plaintext side of each connection.
 *
 * Memory: the sum of what is received and not yet answered is bounded by memory_max; above it
 * connections with incomplete requests are dropped, whoever brought it above: those of strangers
 * first (httpd_stranger.c), those of one who holds more than his share (httpd_party.c), then who is
 * slow, then who holds most.
 * A body with a Content-Length stays in the connection's buffer until it is complete, so the
 * buffer's length is its size. A chunked one would be taken out of it piece by piece; nobody who
 * speaks this protocol sends one, so it is looked for in the head, refused when it comes to an end,
 * and dropped when it is longer than HTTPD_PIPELINE_MAX. A client that goes on sending while its
 * request is handled is not read further. Answers that are not taken fill memory as well: above
 * the same bound the workers pause until enough is sent, and while that lasts longer than a few
 * seconds the connection that takes least is dropped, one after the other.
 */
#include "httpd_private.h"

#include <event2/bufferevent_ssl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define HTTPD_PIPELINE_MAX 65536 /* bytes sent by a client that still waits for its answer */
#define HTTPD_CROWD_S 5          /* too much unsent for so long: somebody does not read */
#define HTTPD_CHUNK (256 << 10)  /* bytes moved per socket and turn of the loop */

static void shed_soon(struct conn *c)
{
    c->shed = true;
    event_active(c->h->shed, EV_TIMEOUT, 0);
}

static void scan_head(struct head_scan *s, const char *p, size_t n)
{
    static const char name[] = "transfer-encoding";
    for (size_t i = 0; i < n && !s->done; i++) {
        s->length++;
        if (p[i] == '\n') {
            s->done = s->begun && !s->other && !s->matched;
            s->matched = 0;
            s->other = false;
        } else if (s->other || (p[i] == '\r' && !s->matched)) {
            continue;
        } else if ((p[i] | 0x20) == name[s->matched]) {
            s->begun = true;
            s->chunked |= !name[++s->matched];
            s->other = s->chunked;
        } else {
            s->begun = s->other = true;
        }
    }
}

/* Scans the last n bytes of the buffer. */
static void scan_tail(struct conn *c, struct evbuffer *b, size_t n)
{
    struct evbuffer_ptr at;
    size_t length = evbuffer_get_length(b);
    while (n && !c->scan.done) {
        char piece[4096];
        size_t step = n < sizeof piece ? n : sizeof piece;
        if (evbuffer_ptr_set(b, &at, length - n, EVBUFFER_PTR_SET) < 0 ||
            evbuffer_copyout_from(b, &at, piece, step) != (ev_ssize_t)step)
            abort();
        size_t before = c->scan.length;
        scan_head(&c->scan, piece, step);
        if (c->h->o.vouch && before < HTTPD_HEAD_MAX) /* of a longer one evhttp takes nothing */
            buf_append(&c->head, piece, c->scan.length - before);
        n -= step;
    }
}

void httpd_conn_received(struct conn *c, size_t ahead)
{
    httpd_conn_hold(c, ahead);
    httpd_stranger_known(c, !c->h->o.vouch, c->proven);
    c->in_since = ahead;
    c->began_ms = httpd_now_ms();
    c->serial = ++c->h->serial;
    c->finished = true;
    c->asked = false;
    c->scan = (struct head_scan){0};
    c->head.n = 0;
    scan_tail(c, bufferevent_get_input(c->bev), ahead);
}

static void count_in(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    struct conn *c = arg;
    struct httpd *h = c->h;
    h->bytes_in += info->n_added;
    if (!c->in_since && info->n_added && c->finished)
        c->began_ms = httpd_now_ms();
    c->in_since += info->n_added;
    scan_tail(c, b, info->n_added);
    size_t gone = c->scan.chunked ? 0 : info->n_deleted;
    httpd_conn_hold(c, c->held + info->n_added - gone);
    if (!info->n_added)
        return;
    if (!c->vouched)
        httpd_stranger_more(c);
    if (h->held > h->o.memory_max || httpd_party_greedy(c, 0) ||
        h->held_strange > h->o.memory_max / HTTPD_STRANGERS_SHARE)
        event_active(h->shed, EV_TIMEOUT, 0);
    if ((c->req || c->scan.chunked) && c->held > HTTPD_PIPELINE_MAX)
        shed_soon(c);
}

/* Bytes on their way to the peer: what it takes leaves the kernel's buffer first, which may hold
 * megabytes. */
static uint64_t not_taken(const struct conn *c)
{
    int queued = 0;
    if (ioctl(c->fd, SIOCOUTQ, &queued) < 0)
        queued = 0;
    return c->unsent + (uint64_t)queued;
}

/* What it took since the crowd began, or since it was looked at first. */
static uint64_t taken(struct conn *c)
{
    uint64_t now = not_taken(c);
    if (c->crowd != c->h->crowds) {
        c->crowd = c->h->crowds;
        c->waiting = now;
    }
    return c->waiting > now ? c->waiting - now : 0;
}

/* Loop thread, which alone writes it: reads without the lock are right there. */
static void set_crowded(struct httpd *h, bool crowded)
{
    static const struct timeval first = {.tv_sec = HTTPD_CROWD_S};
    if (crowded == h->crowded)
        return;
    pthread_mutex_lock(&h->lock);
    h->crowded = crowded;
    h->unsent_seen = h->unsent;
    if (!crowded)
        pthread_cond_broadcast(&h->work_there);
    pthread_mutex_unlock(&h->lock);
    if (!crowded) {
        event_del(h->crowd_tick);
        return;
    }
    h->crowds++;
    struct conn *c;
    LIST_FOREACH(c, &h->conns, link)
    if (c->unsent)
        taken(c);
    event_add(h->crowd_tick, &first);
}

static void count_out(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    (void)b;
    struct conn *c = arg;
    struct httpd *h = c->h;
    h->bytes_out += info->n_added;
    c->unsent += info->n_added - info->n_deleted;
    if (!c->unsent)
        c->crowd = 0; /* the next answer is another matter */
    h->unsent += info->n_added - info->n_deleted;
    httpd_party_unsent(c, info->n_added, info->n_deleted);
    set_crowded(h, h->unsent > h->o.memory_max);
}

static void conn_forget(struct conn *c)
{
    struct httpd *h = c->h;
    struct evbuffer *in = bufferevent_get_input(c->bev);
    httpd_conn_hold(c, 0);
    httpd_party_set(c, 0);
    httpd_stranger_gone(c);
    buf_free(&c->head);
    h->unsent -= c->unsent;
    set_crowded(h, h->unsent > h->o.memory_max);
    if (h->rate)
        bufferevent_remove_from_rate_limit_group(c->bev);
    evbuffer_remove_cb(in, count_in, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), count_out, c);
    if (c->fd >= 0 && (size_t)c->fd < h->by_fd_n && h->by_fd[c->fd] == c)
        h->by_fd[c->fd] = NULL;
    if (c->req)
        c->req->conn = NULL;
    if (c->evcon)
        LIST_REMOVE(c, link);
    else
        TAILQ_REMOVE(&h->fresh, c, look);
    h->conns_n--;
    free(c);
}

static void on_close(struct evhttp_connection *evcon, void *arg)
{
    (void)evcon;
    conn_forget(arg);
}

struct bufferevent *httpd_on_accept(struct event_base *base, void *arg)
{
    struct httpd *h = arg;
    struct bufferevent *bev;
    pthread_mutex_lock(&h->lock);
    if (h->ssl_next) {
        SSL_CTX_free(h->ssl); /* what is open keeps its own */
        h->ssl = h->ssl_next;
        h->ssl_next = NULL;
    }
    pthread_mutex_unlock(&h->lock);
    if (h->ssl) {
        SSL *ssl = SSL_new(h->ssl);
        if (!ssl)
            return NULL;
        bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                             BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
        if (!bev) {
            SSL_free(ssl);
            return NULL;
        }
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    } else {
        bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
        if (!bev)
            return NULL;
    }
    bufferevent_set_max_single_read(bev, HTTPD_CHUNK);
    bufferevent_set_max_single_write(bev, HTTPD_CHUNK);
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    *c = (struct conn){.h = h,
                       .bev = bev,
                       .fd = -1,
                       .serial = ++h->serial,
                       .began_ms = httpd_now_ms(),
                       .vouched = !h->o.vouch,
                       .proven = !h->o.vouch};
    if (!c->proven) {
        TAILQ_INSERT_TAIL(&h->unproven, c, unproven);
        h->unproven_n++;
    }
    if (h->rate && bufferevent_add_to_rate_limit_group(bev, h->rate) < 0)
        abort();
    bufferevent_incref(bev); /* until adopted: evhttp may fail to set it up and free it */
    evbuffer_add_cb(bufferevent_get_input(bev), count_in, c);
    evbuffer_add_cb(bufferevent_get_output(bev), count_out, c);
    TAILQ_INSERT_TAIL(&h->fresh, c, look);
    h->conns_n++;
    h->conns_most = h->conns_n > h->conns_most ? h->conns_n : h->conns_most;
    event_active(h->adopt, EV_TIMEOUT, 0);
    return bev;
}

static bool is_loopback(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
    if (sa->sa_family != AF_INET6)
        return false;
    const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

bool httpd_same_machine(const struct sockaddr *here, const struct sockaddr *there)
{
    if (is_loopback(there))
        return true;
    if (here->sa_family != there->sa_family)
        return false;
    if (here->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)here)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)(const void *)there)->sin_addr.s_addr;
    return here->sa_family == AF_INET6 &&
           IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)(const void *)here)->sin6_addr,
                              &((const struct sockaddr_in6 *)(const void *)there)->sin6_addr);
}

/* Who has an address of IPv6 mostly has all that begin with the same 64 bits. */
static void take_addresses(struct conn *c)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_n = sizeof here, there_n = sizeof there;
    if (getsockname(c->fd, (struct sockaddr *)&here, &here_n) < 0 ||
        getpeername(c->fd, (struct sockaddr *)&there, &there_n) < 0)
        return;
    c->local = httpd_same_machine((struct sockaddr *)&here, (struct sockaddr *)&there);
    const void *p = &there;
    if (there.ss_family == AF_INET)
        memcpy(&c->from, &((const struct sockaddr_in *)p)->sin_addr, sizeof(struct in_addr));
    else if (there.ss_family == AF_INET6 &&
             IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)p)->sin6_addr))
        memcpy(&c->from, &((const struct sockaddr_in6 *)p)->sin6_addr.s6_addr[12], 4);
    else if (there.ss_family == AF_INET6)
        memcpy(&c->from, &((const struct sockaddr_in6 *)p)->sin6_addr, 8);
}

static void index_fd(struct httpd *h, struct conn *c)
{
    size_t need = (size_t)c->fd + 1;
    if (need > h->by_fd_n) {
        size_t n = need * 2;
        struct conn **v = realloc(h->by_fd, n * sizeof(struct conn *));
        if (!v)
            abort();
        memset(v + h->by_fd_n, 0, (n - h->by_fd_n) * sizeof(struct conn *));
        h->by_fd = v;
        h->by_fd_n = n;
    }
    h->by_fd[c->fd] = c;
}

/* Runs after the accepts of this turn of the loop and before any of their sockets is looked at. */
void httpd_adopt_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c;
    while ((c = TAILQ_FIRST(&h->fresh))) {
        struct bufferevent *bev = c->bev;
        void *evcon = NULL;
        bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
        c->fd = bufferevent_getfd(bev);
        if (!evcon || c->fd < 0) {
            conn_forget(c);
            bufferevent_decref(bev);
            continue;
        }
        TAILQ_REMOVE(&h->fresh, c, look);
        LIST_INSERT_HEAD(&h->conns, c, link);
        c->evcon = evcon;
        index_fd(h, c);
        take_addresses(c);
        evhttp_connection_set_closecb(c->evcon, on_close, c);
        int on = 1;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        bufferevent_decref(bev);
        if (!httpd_stranger_room(c))
            evhttp_connection_free(c->evcon);
    }
}

void httpd_conn_hold(struct conn *c, size_t now)
{
    c->h->held += now - c->held;
    if (httpd_is_strange(c))
        c->h->held_strange += now - c->held;
    httpd_party_hold(c->party, c->held, now);
    c->held = now;
}

void httpd_conn_drop(struct conn *c, const char *why)
{
    struct httpd *h = c->h;
    h->dropped++;
    if (httpd_is_strange(c)) /* of them there may be any number: httpd_stranger_tick_cb tells */
        h->strangers_dropped++;
    else
        log_printf(h->o.log, LOG_L_WARN,
                   "connection dropped%s: %zu bytes of a request, %llu bytes of requests in memory",
                   why, c->held, (unsigned long long)h->held);
    evhttp_connection_free(c->evcon);
}

/* The connection that took least since the crowd began (of several the one with most unsent), and
 * how much; NULL: none has anything unsent. */
static struct conn *least_taking(struct httpd *h, uint64_t *took)
{
    struct conn *c, *found = NULL;
    LIST_FOREACH(c, &h->conns, link)
    {
        uint64_t n = !c->req && c->unsent ? taken(c) : UINT64_MAX;
        if (n == UINT64_MAX || (found && (n > *took || (n == *took && c->unsent <= found->unsent))))
            continue;
        found = c;
        *took = n;
    }
    return found;
}

/* Who takes nothing makes room first, then who is slow, as long as there is too much. Once there is
 * not, only those go that took nothing at all, until a half is free: others would soon be where
 * they were. */
void httpd_crowd_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    static const struct timeval again = {.tv_usec = 100000};
    struct httpd *h = arg;
    uint64_t took = 0;
    struct conn *found = least_taking(h, &took);
    if (found && took && !h->crowded)
        found = NULL;
    if (found) {
        h->dropped++;
        log_printf(h->o.log, LOG_L_WARN,
                   "connection dropped: %zu bytes of an answer not taken, %llu bytes of answers in "
                   "memory",
                   found->unsent, (unsigned long long)h->unsent);
        evhttp_connection_free(found->evcon);
    }
    if (h->crowded || (found && h->unsent > h->o.memory_max / 2))
        event_add(h->crowd_tick, &again);
}

/* Whom to drop for want of memory: strangers, then who is slow, then who holds most; of equals the
 * oldest, which is last in the list. NULL: nobody with an incomplete request. */
static struct conn *largest(struct httpd *h, bool strangers)
{
    struct conn *c, *found = NULL;
    int found_rank = 0;
    int64_t now = httpd_now_ms();
    LIST_FOREACH(c, &h->conns, link)
    {
        if (c->req || !c->held || (strangers && !httpd_is_strange(c)))
            continue;
        int rank = httpd_is_strange(c) ? 2 : httpd_is_slow(c, now);
        if (found && (rank < found_rank || (rank == found_rank && c->held < found->held)))
            continue;
        found = c;
        found_rank = rank;
    }
    return found;
}

/* Connections over a bound: dropped, or no longer read while a handler holds their request (evhttp
 * would free it under the handler's hands). */
void httpd_shed_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c, *next;
    for (c = LIST_FIRST(&h->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        if (!c->shed)
            continue;
        c->shed = false;
        if (c->req)
            bufferevent_disable(c->bev, EV_READ);
        else if (c->held > HTTPD_PIPELINE_MAX)
            httpd_conn_drop(c, "");
    }
    while (h->held_strange > h->o.memory_max / HTTPD_STRANGERS_SHARE && (c = largest(h, true)))
        httpd_conn_drop(c, "");
    while ((c = httpd_party_excess(h))) {
        h->greedy++;
        httpd_turn_away(c, ERR_UNAVAILABLE, HTTPD_GREEDY);
    }
    while (h->held > h->o.memory_max && (c = largest(h, false)))
        httpd_conn_drop(c, "");
}

struct conn *httpd_conn_of(struct httpd *h, struct evhttp_connection *evcon)
{
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(evcon));
    struct conn *c = fd >= 0 && (size_t)fd < h->by_fd_n ? h->by_fd[fd] : NULL;
    if (!c)
        abort(); /* adopted before its first byte was read */
    return c;
}

bool httpd_conn_idle(const struct conn *c)
{
    return c->away ||
           (!c->req && !c->in_since && !evbuffer_get_length(bufferevent_get_output(c->bev)));
}

void httpd_watch_peer(struct conn *c)
{
    bufferevent_data_cb write_cb = NULL;
    bufferevent_event_cb event_cb = NULL;
    void *arg = NULL;
    bufferevent_getcb(c->bev, NULL, &write_cb, &event_cb, &arg);
    bufferevent_setcb(c->bev, NULL, write_cb, event_cb, arg);
    bufferevent_enable(c->bev, EV_READ);
}
