// SPDX-License-Identifier: Apache-2.0
/* What those may do of whom nobody knows yet who they are.
 *
 * A request may be as large as its route takes only when the program has vouched for its sender:
 * it is asked as soon as more than HTTPD_STRANGER_BODY has come (a smaller one is judged by its
 * handler), and sees the credential of the head and the beginning of the body, where block servers
 * are shown a capability. Who is not vouched for is answered at once, with what the handler would
 * have said; whatever still comes is thrown away until the client has read that and gone. Where the
 * program asks its database, a worker does it, and the connection is not read meanwhile. evhttp
 * takes the head out of the buffer line by line: so it is kept beside, as it comes in.
 *
 * A connection is proven once a handler has said that one of its requests came with a valid
 * credential. Others make room: for newcomers when there are too many connections (those of the
 * newcomer's own address first, when it has many; many clients behind one address are not hindered,
 * as they prove themselves within their first request; where none is left, those of who is known
 * and has too many), and for memory when all of them together
 * hold more than their share, or everybody more than there is. And each request must come in within
 * a bound, its first or, after that, at HTTPD_SLOWEST on average.
 */
#include "httpd_private.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HTTPD_AWAY_MS 10000            /* to read the answer and to stop sending */
#define HTTPD_CRAMPED_AFTER_MS 10000   /* from then on a request can be slow… */
#define HTTPD_CRAMPED_RATE (64u << 10) /* … when it brings less a second than this */
#define HTTPD_TELL_MS 60000            /* between lines about strangers that were dropped */

int64_t httpd_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- who is known --------------------------------------------------------------------------- */

bool httpd_is_strange(const struct conn *c)
{
    return !c->vouched && !c->proven;
}

void httpd_stranger_known(struct conn *c, bool vouched, bool proven)
{
    struct httpd *h = c->h;
    if (httpd_is_strange(c))
        h->held_strange -= c->held;
    if (proven && !c->proven) {
        TAILQ_REMOVE(&h->unproven, c, unproven);
        h->unproven_n--;
    }
    c->vouched = vouched;
    c->proven = proven;
    if (httpd_is_strange(c))
        h->held_strange += c->held;
}

void httpd_stranger_gone(struct conn *c)
{
    if (c->looked)
        TAILQ_REMOVE(&c->h->looks, c, look);
    c->looked = false;
    if (!c->proven) {
        TAILQ_REMOVE(&c->h->unproven, c, unproven);
        c->h->unproven_n--;
    }
}

/* ---- larger requests ------------------------------------------------------------------------ */

/* Bytes of a request after which its sender must be known. */
static size_t stranger_most(const struct httpd *h)
{
    bool much = h->held_strange > h->o.memory_max / HTTPD_STRANGERS_SHARE / 2;
    return much ? HTTPD_STRANGER_LEAST : HTTPD_STRANGER_BODY;
}

void httpd_stranger_more(struct conn *c)
{
    struct httpd *h = c->h;
    if (c->looked || c->asked || c->away || c->held <= stranger_most(h))
        return;
    c->looked = true;
    TAILQ_INSERT_TAIL(&h->looks, c, look);
    event_active(h->look, EV_TIMEOUT, 0);
}

static void throw_away(struct bufferevent *bev, void *arg)
{
    (void)arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    evbuffer_drain(in, evbuffer_get_length(in));
}

static void on_away_end(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    (void)what;
    evhttp_connection_free(((struct conn *)arg)->evcon);
}

/* The answer to a request that has not come to its end. evhttp has no word for that: it is written
 * past it, and the connection ends with it. */
void httpd_turn_away(struct conn *c, unsigned code, const char *why)
{
    struct buf body cleanup_buf = {0}, head cleanup_buf = {0};
    struct evbuffer *out = bufferevent_get_output(c->bev);
    c->away = true;
    c->began_ms = httpd_now_ms();
    httpd_error_body((enum error_code)code, why, &body);
    buf_printf(&head,
               "HTTP/1.1 %u %s\r\nContent-Type: application/octet-stream\r\n"
               "Content-Length: %zu\r\nConnection: close\r\n\r\n",
               code, httpd_reason(code), body.n);
    bufferevent_setcb(c->bev, throw_away, NULL, on_away_end, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    throw_away(c->bev, NULL);
    evbuffer_add(out, head.p, head.n);
    evbuffer_add(out, body.p, body.n);
}

static void turn_away(struct conn *c, unsigned code, const char *why)
{
    c->h->turned_away++;
    httpd_turn_away(c, code, why);
}

static void settle(struct conn *c, unsigned code, uint64_t who, const char *why)
{
    if (code) {
        turn_away(c, code, why);
        return;
    }
    httpd_stranger_known(c, true, c->proven);
    httpd_party_set(c, who);
}

/* The value of the first such header into out, cut to max; "": none. name in lower case, with its
 * colon. */
static void find_header(const struct buf *head, const char *name, char *out, size_t max)
{
    size_t n = strlen(name);
    const char *p = (const char *)head->p, *end = p + head->n;
    out[0] = 0;
    for (const char *eol; p < end && (eol = memchr(p, '\n', (size_t)(end - p))); p = eol + 1) {
        const char *v = p + n, *stop = eol;
        if ((size_t)(eol - p) < n || strncasecmp(p, name, n) != 0)
            continue;
        while (v < stop && (*v == ' ' || *v == '\t'))
            v++;
        while (stop > v && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        size_t len = (size_t)(stop - v) < max ? (size_t)(stop - v) : max - 1;
        memcpy(out, v, len);
        out[len] = 0;
        return;
    }
}

/* The route that the head's first line names, or NULL. */
static struct route *find_route(struct conn *c)
{
    const char *p = (const char *)c->head.p, *end = p + c->head.n;
    while (p < end && (*p == '\r' || *p == '\n'))
        p++;
    const char *path = p < end ? memchr(p, ' ', (size_t)(end - p)) : NULL;
    if (!path)
        return NULL;
    size_t n = 0;
    for (path++; path + n < end && !strchr(" ?#\r\n", path[n]);)
        n++;
    return httpd_route_of(c->h, path, n);
}

static size_t body_got(const struct conn *c)
{
    return (size_t)(c->in_since - c->scan.length);
}

/* evhttp leaves a body in the buffer until it is whole, or throws it away as it comes: it is larger
 * than any route takes. */
static bool thrown_away(const struct conn *c)
{
    return !c->scan.chunked && body_got(c) > evbuffer_get_length(bufferevent_get_input(c->bev));
}

/* What has come of the body, without taking it. */
static size_t peek_body(struct conn *c, uint8_t out[HTTPD_EARLY_BODY])
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t length = evbuffer_get_length(in), got = body_got(c);
    size_t n = got < HTTPD_EARLY_BODY ? got : HTTPD_EARLY_BODY;
    struct evbuffer_ptr at;
    if (!n || got > length || evbuffer_ptr_set(in, &at, length - got, EVBUFFER_PTR_SET) < 0 ||
        evbuffer_copyout_from(in, &at, out, n) != (ev_ssize_t)n)
        return 0;
    return n;
}

static void ask_worker(struct conn *c, struct route *r, const char *bearer)
{
    struct httpd *h = c->h;
    struct vouching *v = calloc(1, sizeof *v);
    if (!v || !(v->bearer = strdup(bearer)))
        abort();
    v->fd = c->fd;
    v->serial = c->serial;
    v->route = r;
    pthread_mutex_lock(&h->lock);
    bool full = h->to_vouch_n >= HTTPD_QUEUE_MAX;
    if (!full) {
        STAILQ_INSERT_TAIL(&h->to_vouch, v, link);
        h->to_vouch_n++;
        pthread_cond_signal(&h->work_there);
    }
    pthread_mutex_unlock(&h->lock);
    if (full) {
        free(v->bearer);
        free(v);
        h->refused_full++;
        turn_away(c, ERR_UNAVAILABLE, "the server is overloaded; try again");
        return;
    }
    c->asked = true;
    bufferevent_disable(c->bev, EV_READ);
}

void httpd_stranger_vouched(struct httpd *h, struct vouching *v)
{
    struct conn *c = (size_t)v->fd < h->by_fd_n ? h->by_fd[v->fd] : NULL;
    if (c && c->serial == v->serial && c->asked && !c->req) {
        c->asked = false;
        bufferevent_enable(c->bev, EV_READ);
        settle(c, v->code, v->who, v->why);
    }
    free(v->bearer);
    free(v);
}

static void ask(struct conn *c)
{
    struct httpd *h = c->h;
    char value[1024], why[HTTPD_WHY_MAX] = "";
    struct route *r = find_route(c);
    if (!r) {
        turn_away(c, ERR_NOT_FOUND, "no such method here; is this the right server?");
        return;
    }
    find_header(&c->head, "authorization:", value, sizeof value);
    const char *bearer = !strncasecmp(value, "Bearer ", 7) ? value + 7 : "";
    if (h->o.vouch_where == HTTPD_ON_WORKER) {
        ask_worker(c, r, bearer);
        return;
    }
    uint8_t body[HTTPD_EARLY_BODY];
    struct httpd_early e = {
        .method = r->method, .bearer = bearer, .body = bytes_of(body, peek_body(c, body))};
    uint64_t who = 0;
    unsigned code = h->o.vouch(h->o.ctx, &e, &who, why);
    settle(c, code, who, why);
}

void httpd_look_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c;
    while ((c = TAILQ_FIRST(&h->looks))) {
        TAILQ_REMOVE(&h->looks, c, look);
        c->looked = false;
        if (c->req || c->vouched || c->away || c->held <= stranger_most(h))
            continue; /* it has come to its end meanwhile */
        if (!c->scan.done)
            httpd_conn_drop(c, ""); /* a head without end */
        else if (!thrown_away(c))
            ask(c);
    }
}

/* ---- room ----------------------------------------------------------------------------------- */

/* The oldest connection that is not proven, of those from the address when it is given, but not c;
 * NULL: none. */
static struct conn *oldest(const struct conn *c, const struct in6_addr *from)
{
    struct conn *o;
    TAILQ_FOREACH(o, &c->h->unproven, unproven)
    if (o != c && o->evcon && !o->req && (!from || IN6_ARE_ADDR_EQUAL(&o->from, from)))
        return o;
    return NULL;
}

static bool crowded_address(const struct conn *c)
{
    const struct httpd *h = c->h;
    size_t most = h->o.max_connections / HTTPD_STRANGERS_SHARE, n = 0;
    if (h->conns_n <= h->o.max_connections / 2 || h->unproven_n <= most)
        return false;
    const struct conn *o;
    TAILQ_FOREACH(o, &h->unproven, unproven)
    n += IN6_ARE_ADDR_EQUAL(&o->from, &c->from) ? 1 : 0;
    return n > most;
}

bool httpd_stranger_room(struct conn *c)
{
    struct httpd *h = c->h;
    struct conn *gone = NULL;
    bool full = h->conns_n > h->o.max_connections;
    if (!h->unproven_n)
        return !full;
    if (crowded_address(c))
        gone = oldest(c, &c->from);
    if (full && !gone)
        gone = oldest(c, NULL);
    if (gone)
        httpd_conn_drop(gone, "");
    if (h->conns_n > h->o.max_connections && (gone = httpd_party_crowd(h))) {
        h->greedy++; /* counted, and not told: it may be for each newcomer */
        h->dropped++;
        evhttp_connection_free(gone->evcon);
    }
    return h->conns_n <= h->o.max_connections;
}

/* ---- time ----------------------------------------------------------------------------------- */

static int64_t stranger_ms(const struct httpd *h)
{
    return (h->o.stranger_seconds ? h->o.stranger_seconds : HTTPD_STRANGER_SECONDS) * 1000ll;
}

static bool slower(const struct conn *c, int64_t age_ms, uint64_t rate)
{
    return c->in_since < (uint64_t)age_ms * rate / 1000;
}

bool httpd_is_slow(const struct conn *c, int64_t now_ms)
{
    int64_t age = now_ms - c->began_ms;
    return age > HTTPD_CRAMPED_AFTER_MS && slower(c, age, HTTPD_CRAMPED_RATE);
}

/* Whether the connection's request is under way for too long. Where the server itself slows its
 * clients down, their share of that rate is what can be asked for. */
static bool overdue(const struct conn *c, int64_t now_ms)
{
    const struct httpd *h = c->h;
    int64_t age = now_ms - c->began_ms;
    if (c->away)
        return age > HTTPD_AWAY_MS;
    if (c->req || c->asked || age <= stranger_ms(h))
        return false;
    if (httpd_is_strange(c))
        return c->in_since || !c->finished;
    uint64_t share = h->o.rate ? h->o.rate / (4 * (h->conns_n + 1)) : HTTPD_SLOWEST;
    return c->in_since && slower(c, age, share < HTTPD_SLOWEST ? share : HTTPD_SLOWEST);
}

/* After a pause of the loop itself the clients are given until the next time. */
void httpd_stranger_tick_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct httpd *h = arg;
    struct conn *c, *next;
    int64_t now = httpd_now_ms(), since = now - h->ticked_ms;
    h->ticked_ms = now;
    for (c = since > stranger_ms(h) / 4 ? NULL : LIST_FIRST(&h->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        if (!overdue(c, now))
            continue;
        if (c->away)
            evhttp_connection_free(c->evcon);
        else
            httpd_conn_drop(c, ", its request took too long");
    }
    if (h->strangers_dropped > h->strangers_told && now - h->told_ms >= HTTPD_TELL_MS) {
        log_printf(h->o.log, LOG_L_WARN,
                   "%llu connections that had shown no credential were dropped",
                   (unsigned long long)(h->strangers_dropped - h->strangers_told));
        h->strangers_told = h->strangers_dropped;
        h->told_ms = now;
    }
}

void httpd_stranger_start(struct httpd *h)
{
    int64_t ms = stranger_ms(h) / 12;
    struct timeval tick = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    h->ticked_ms = httpd_now_ms();
    h->told_ms = h->ticked_ms - HTTPD_TELL_MS;
    if (h->o.vouch)
        event_add(h->stranger_tick, &tick);
}
