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
 * Memory: the sum of what is received and not yet answered is bounded by HTTPD_MEMORY_MAX; who
 * brings it above loses the connection. A client that goes on sending while its request is handled
 * is not read further.
 */
#include "httpd_private.h"

#include <event2/bufferevent_ssl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HTTPD_MEMORY_MAX (1024ull << 20) /* bytes of request bodies held at once */
#define HTTPD_PIPELINE_MAX 65536 /* bytes sent by a client that still waits for its answer */
#define HTTPD_CHUNK (256 << 10)  /* bytes moved per socket and turn of the loop */

static void shed_soon(struct conn *c)
{
    c->shed = true;
    event_active(c->h->shed, EV_TIMEOUT, 0);
}

static void count_in(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    struct conn *c = arg;
    struct httpd *h = c->h;
    h->bytes_in += info->n_added;
    c->in_since += info->n_added;
    h->held += info->n_added;
    h->held -= info->n_deleted;
    if (info->n_added &&
        (h->held > HTTPD_MEMORY_MAX || (c->req && evbuffer_get_length(b) > HTTPD_PIPELINE_MAX)))
        shed_soon(c);
}

static void count_out(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
    (void)b;
    struct conn *c = arg;
    c->h->bytes_out += info->n_added;
}

static void conn_forget(struct conn *c)
{
    struct httpd *h = c->h;
    struct evbuffer *in = bufferevent_get_input(c->bev);
    h->held -= evbuffer_get_length(in);
    evbuffer_remove_cb(in, count_in, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), count_out, c);
    if (c->fd >= 0 && (size_t)c->fd < h->by_fd_n && h->by_fd[c->fd] == c)
        h->by_fd[c->fd] = NULL;
    if (c->req)
        c->req->conn = NULL;
    LIST_REMOVE(c, link);
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
    *c = (struct conn){.h = h, .bev = bev, .fd = -1};
    bufferevent_incref(bev); /* until adopted: evhttp may fail to set it up and free it */
    evbuffer_add_cb(bufferevent_get_input(bev), count_in, c);
    evbuffer_add_cb(bufferevent_get_output(bev), count_out, c);
    LIST_INSERT_HEAD(&h->fresh, c, link);
    h->conns_n++;
    event_active(h->adopt, EV_TIMEOUT, 0);
    return bev;
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
    while ((c = LIST_FIRST(&h->fresh))) {
        struct bufferevent *bev = c->bev;
        void *evcon = NULL;
        bufferevent_getcb(bev, NULL, NULL, NULL, &evcon);
        c->fd = bufferevent_getfd(bev);
        if (!evcon || c->fd < 0) {
            conn_forget(c);
            bufferevent_decref(bev);
            continue;
        }
        LIST_REMOVE(c, link);
        LIST_INSERT_HEAD(&h->conns, c, link);
        c->evcon = evcon;
        index_fd(h, c);
        evhttp_connection_set_closecb(c->evcon, on_close, c);
        int on = 1;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        bufferevent_decref(bev);
        if (h->conns_n > h->o.max_connections)
            evhttp_connection_free(c->evcon);
    }
}

/* Connections that brought the process over a bound: dropped, or no longer read while a handler
 * holds their request (evhttp would free it under the handler's hands). */
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
        if (c->req) {
            bufferevent_disable(c->bev, EV_READ);
            continue;
        }
        log_printf(h->o.log, LOG_L_WARN, "connection dropped: %llu bytes of requests in memory",
                   (unsigned long long)h->held);
        evhttp_connection_free(c->evcon);
    }
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
    return !c->req && !c->in_since && !evbuffer_get_length(bufferevent_get_output(c->bev));
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
