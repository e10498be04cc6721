// SPDX-License-Identifier: Apache-2.0
/* Making a server and taking it apart.
 *
 * Freeing comes after the loop has ended: workers finish the request they have, what is still
 * queued is given up, and requests that nobody answered are freed with their connections.
 */
#include "httpd_private.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTPD_IDLE_SECONDS 120 /* of silence, while idle or within a request */
#define WORKERS_DEFAULT 4
#define CONNECTIONS_DEFAULT 20000
#define MEMORY_DEFAULT (1u << 30)
#define SPARE_FDS 256 /* descriptors left for everything but connections */

static SSL_CTX *make_ssl(const char *cert_pem, const char *key_pem)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    BIO *certs = BIO_new_mem_buf(cert_pem, -1);
    BIO *keys = BIO_new_mem_buf(key_pem, -1);
    X509 *cert = certs ? PEM_read_bio_X509(certs, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = keys ? PEM_read_bio_PrivateKey(keys, NULL, NULL, NULL) : NULL;
    bool ok = ctx && cert && key && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
              SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    for (X509 *more; ok && (more = PEM_read_bio_X509(certs, NULL, NULL, NULL));)
        ok = SSL_CTX_add_extra_chain_cert(ctx, more) == 1;
    ERR_clear_error();
    if (ok)
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    X509_free(cert);
    EVP_PKEY_free(key);
    BIO_free(certs);
    BIO_free(keys);
    if (!ok) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

int httpd_show(struct httpd *h, const char *cert_pem, const char *key_pem)
{
    SSL_CTX *next = h->o.cert_pem ? make_ssl(cert_pem, key_pem) : NULL;
    if (!next)
        return -EINVAL;
    pthread_mutex_lock(&h->lock);
    SSL_CTX_free(h->ssl_next);
    h->ssl_next = next;
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static bool loopback(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
    }
    return sa->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

/* The listening socket. -errno with a line in err. */
static int listen_on(struct httpd *h, char *err)
{
    const char *address = h->o.address;
    char port[8];
    snprintf(port, sizeof port, "%u", h->o.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai = NULL;
    int g = getaddrinfo(address, port, &hints, &ai);
    if (g) {
        snprintf(err, 512, "cannot listen on %s: %s", address, gai_strerror(g));
        return -EADDRNOTAVAIL;
    }
    int r = 0, on = 1;
    int fd = -1;
    if (!h->ssl && !loopback(ai->ai_addr)) {
        snprintf(err, 512, "refusing to serve %s without TLS: only loopback may go without",
                 address);
        r = -EPERM;
    } else if ((fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0 ||
               setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
               setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
               bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        r = -errno;
        snprintf(err, 512, "cannot listen on %s port %s: %s", address, port,
                 r == -EADDRINUSE ? "the port is in use; is it already running?" : strerror(-r));
    }
    freeaddrinfo(ai);
    struct sockaddr_storage ss;
    socklen_t n = sizeof ss;
    if (!r && getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
        r = -errno;
    if (r) {
        if (fd >= 0)
            close(fd);
        return r;
    }
    h->port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                             : ((struct sockaddr_in *)&ss)->sin_port);
    return fd;
}

/* Raises the limit of descriptors as far as it goes, and lowers max_connections to what fits. */
static void fit_descriptors(struct httpd *h)
{
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
        return;
    rlim_t want = (rlim_t)h->o.max_connections + SPARE_FDS;
    if (rl.rlim_cur < want) {
        rl.rlim_cur = rl.rlim_max == RLIM_INFINITY || rl.rlim_max > want ? want : rl.rlim_max;
        setrlimit(RLIMIT_NOFILE, &rl);
        getrlimit(RLIMIT_NOFILE, &rl);
    }
    if (rl.rlim_cur < want) {
        h->o.max_connections =
            rl.rlim_cur > 2 * SPARE_FDS ? (unsigned)(rl.rlim_cur - SPARE_FDS) : SPARE_FDS;
        log_printf(h->o.log, LOG_L_WARN, "at most %u connections: the limit of open files is %llu",
                   h->o.max_connections, (unsigned long long)rl.rlim_cur);
    }
}

static int start_workers(struct httpd *h)
{
    h->workers = calloc(h->o.workers, sizeof(pthread_t));
    if (!h->workers)
        abort();
    /* signals belong to the program's own thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int r = 0;
    while (!r && h->workers_n < h->o.workers) {
        r = pthread_create(&h->workers[h->workers_n], NULL, httpd_worker_main, h);
        if (!r)
            h->workers_n++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static int start_http(struct httpd *h, char *err)
{
    h->evhttp = evhttp_new(h->base);
    if (!h->evhttp)
        abort();
    evhttp_set_max_headers_size(h->evhttp, HTTPD_HEAD_MAX);
    evhttp_set_max_body_size(h->evhttp, 0);
    evhttp_set_timeout(h->evhttp, h->o.idle_seconds ? (int)h->o.idle_seconds : HTTPD_IDLE_SECONDS);
    evhttp_set_default_content_type(h->evhttp, "application/octet-stream");
    evhttp_set_allowed_methods(h->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                              EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE);
    evhttp_set_flags(h->evhttp, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_bevcb(h->evhttp, httpd_on_accept, h);
    evhttp_set_gencb(h->evhttp, httpd_on_request, h);
    int fd = listen_on(h, err);
    if (fd < 0)
        return fd;
    if (evhttp_accept_socket(h->evhttp, fd) < 0) {
        close(fd);
        snprintf(err, 512, "cannot accept connections");
        return -EIO;
    }
    return 0;
}

/* Shared by all connections, refilled ten times a second. */
static void limit_rate(struct httpd *h)
{
    static const struct timeval tick = {.tv_usec = 100000};
    uint64_t most = h->o.rate / 10 < EV_RATE_LIMIT_MAX ? h->o.rate / 10 : EV_RATE_LIMIT_MAX;
    size_t n = most ? (size_t)most : 1;
    struct ev_token_bucket_cfg *cfg = ev_token_bucket_cfg_new(n, n, n, n, &tick);
    h->rate = cfg ? bufferevent_rate_limit_group_new(h->base, cfg) : NULL;
    if (!h->rate)
        abort();
    ev_token_bucket_cfg_free(cfg);
}

int httpd_new(struct httpd **out, const struct httpd_options *o, char *err)
{
    *out = NULL;
    struct httpd *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->o = *o;
    snprintf(h->name, sizeof h->name, "%s", o->name ? o->name : "steadfs");
    h->o.address = o->address ? o->address : "127.0.0.1";
    h->o.workers = o->workers ? o->workers : WORKERS_DEFAULT;
    h->o.max_connections = o->max_connections ? o->max_connections : CONNECTIONS_DEFAULT;
    h->o.memory_max = o->memory_max ? o->memory_max : MEMORY_DEFAULT;
    STAILQ_INIT(&h->work);
    STAILQ_INIT(&h->replies);
    STAILQ_INIT(&h->posts);
    STAILQ_INIT(&h->to_vouch);
    STAILQ_INIT(&h->vouched);
    TAILQ_INIT(&h->fresh);
    TAILQ_INIT(&h->looks);
    TAILQ_INIT(&h->unproven);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work_there, NULL);
    h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct event_config *ec = event_config_new();
    if (h->wake_fd < 0 || !ec)
        abort();
    event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK);
    h->base = event_base_new_with_config(ec);
    event_config_free(ec);
    h->wake = event_new(h->base, h->wake_fd, EV_READ | EV_PERSIST, httpd_wake_cb, h);
    h->adopt = event_new(h->base, -1, 0, httpd_adopt_cb, h);
    h->shed = event_new(h->base, -1, 0, httpd_shed_cb, h);
    h->look = event_new(h->base, -1, 0, httpd_look_cb, h);
    h->stranger_tick = event_new(h->base, -1, EV_PERSIST, httpd_stranger_tick_cb, h);
    h->crowd_tick = event_new(h->base, -1, 0, httpd_crowd_cb, h);
    h->drain_tick = event_new(h->base, -1, EV_PERSIST, httpd_drain_tick_cb, h);
    h->drain_end = event_new(h->base, -1, 0, httpd_drain_end_cb, h);
    if (!h->base || !h->wake || !h->adopt || !h->shed || !h->look || !h->stranger_tick ||
        !h->crowd_tick || !h->drain_tick || !h->drain_end || event_add(h->wake, NULL) < 0)
        abort();
    httpd_stranger_start(h);
    if (o->rate)
        limit_rate(h);
    int r = 0;
    if (o->cert_pem && !(h->ssl = make_ssl(o->cert_pem, o->key_pem ? o->key_pem : ""))) {
        snprintf(err, 512, "the server's certificate or key cannot be used");
        r = -EINVAL;
    }
    if (!r) {
        fit_descriptors(h);
        r = start_http(h, err);
    }
    if (!r && (r = start_workers(h)))
        snprintf(err, 512, "cannot start worker threads: %s", strerror(-r));
    if (r) {
        httpd_free(h);
        return r;
    }
    *out = h;
    return 0;
}

void httpd_route(struct httpd *h, const char *method, enum httpd_where where, size_t body_max,
                 httpd_handler fn)
{
    if (h->routes_n == HTTPD_ROUTES_MAX)
        abort();
    struct route *r = &h->routes[h->routes_n++];
    *r = (struct route){.where = where, .body_max = body_max, .fn = fn};
    snprintf(r->method, sizeof r->method, "%s", method);
    if (body_max > h->body_max)
        h->body_max = body_max;
    evhttp_set_max_body_size(h->evhttp, (ev_ssize_t)h->body_max);
}

uint16_t httpd_port(const struct httpd *h)
{
    return h->port;
}

void httpd_free(struct httpd *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->quit = true;
    pthread_cond_broadcast(&h->work_there);
    pthread_mutex_unlock(&h->lock);
    for (unsigned i = 0; i < h->workers_n; i++)
        pthread_join(h->workers[i], NULL);
    free(h->workers);
    struct httpd_req *q;
    while ((q = LIST_FIRST(&h->reqs))) {
        /* evhttp frees its half where the connection is still there, and else when it is answered
         */
        LIST_REMOVE(q, all);
        if (!q->conn)
            evhttp_request_free(q->ev);
        else
            q->conn->req = NULL;
        httpd_req_free(q);
    }
    struct post *p;
    while ((p = STAILQ_FIRST(&h->posts))) {
        STAILQ_REMOVE_HEAD(&h->posts, link);
        free(p);
    }
    STAILQ_CONCAT(&h->vouched, &h->to_vouch);
    struct vouching *v;
    while ((v = STAILQ_FIRST(&h->vouched))) {
        STAILQ_REMOVE_HEAD(&h->vouched, link);
        free(v->bearer);
        free(v);
    }
    while (!LIST_EMPTY(&h->timers))
        httpd_timer_cancel(LIST_FIRST(&h->timers));
    if (h->evhttp) {
        httpd_adopt_cb(-1, 0, h);
        evhttp_free(h->evhttp);
    }
    event_free(h->wake);
    event_free(h->adopt);
    event_free(h->shed);
    event_free(h->look);
    event_free(h->stranger_tick);
    event_free(h->crowd_tick);
    if (h->rate)
        bufferevent_rate_limit_group_free(h->rate);
    event_free(h->drain_tick);
    event_free(h->drain_end);
    event_base_loop(h->base, EVLOOP_NONBLOCK); /* connections go once their last events are run */
    event_base_free(h->base);
    SSL_CTX_free(h->ssl);
    SSL_CTX_free(h->ssl_next);
    close(h->wake_fd);
    pthread_cond_destroy(&h->work_there);
    pthread_mutex_destroy(&h->lock);
    httpd_party_free(h);
    free(h->by_fd);
    free(h);
}
