// SPDX-License-Identifier: Apache-2.0
/* Remote calls with one libcurl multi handle on one thread.
 *
 * rpc_start puts the call into `incoming` and wakes the thread, which alone touches curl. It is
 * woken only while it polls: whoever starts calls on that thread itself costs no system call. Easy
 * handles are kept and reused: they carry the constant options and the TLS session cache.
 *
 * The bound on connections per host is kept here rather than by curl, for two reasons: a call that
 * waits in a queue must still time out, and long polls (`wait`) must not occupy the few connections
 * that others need, so they run beyond the bound, at once.
 *
 * Small bodies are copied behind the head and go out with the HTTP head in one TLS record; large
 * ones are read from the caller's memory piece by piece, and can be rewound because curl sends a
 * request again when a kept connection turns out to be dead.
 */
#include "rpc_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 5000u
#define CALL_TIMEOUT_MS 30000u
#define PER_HOST_DEFAULT 8u
#define RPC_CALLS_MAX 8192         /* calls not yet done; above: -EAGAIN */
#define RPC_CONNECTIONS_KEPT 256L  /* idle connections kept */
#define RPC_CONNECTION_IDLE_S 90L  /* below the server's 120 s, so that we close first */
#define RPC_INLINE_MAX (60u << 10) /* longer bodies travel apart; curl joins up to 64 KiB */
#define RPC_UPLOAD_BUFFER (256L << 10)
#define RPC_ERROR_BODY_MAX (64u << 10)
#define RPC_POLL_MS 10000

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* ---- what curl calls ----------------------------------------------------------------------- */

static size_t read_body(char *p, size_t size, size_t count, void *arg)
{
    struct call *c = arg;
    size_t room = size * count, n = 0;
    while (n < room && c->at_part < c->parts_n) {
        struct bytes part = c->parts[c->at_part];
        size_t step = part.n - c->at_byte < room - n ? part.n - c->at_byte : room - n;
        if (step)
            memcpy(p + n, part.p + c->at_byte, step);
        n += step;
        c->at_byte += step;
        if (c->at_byte == part.n) {
            c->at_part++;
            c->at_byte = 0;
        }
    }
    return n;
}

static int seek_body(void *arg, curl_off_t offset, int origin)
{
    struct call *c = arg;
    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_CANTSEEK;
    c->at_part = c->at_byte = 0;
    return CURL_SEEKFUNC_OK;
}

static size_t write_answer(char *p, size_t size, size_t count, void *arg)
{
    struct call *c = arg;
    size_t n = size * count;
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    size_t max = status == 200 ? c->answer_max : RPC_ERROR_BODY_MAX;
    if (n > max - (c->result.body.n < max ? c->result.body.n : max)) {
        c->too_large = true;
        return 0;
    }
    buf_append(&c->result.body, p, n);
    return n;
}

/* ---- running calls (rpc thread) ------------------------------------------------------------ */

static CURL *easy_take(struct rpc *r)
{
    if (r->easies_n)
        return r->easies[--r->easies_n];
    CURL *e = rpc_need(curl_easy_init());
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_SHARE, r->share);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
    curl_easy_setopt(e, CURLOPT_SSL_ENABLE_ALPN, 0L);
    curl_easy_setopt(e, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, rpc_set_trust);
    curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, r);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, RPC_CONNECTION_IDLE_S);
    curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, RPC_UPLOAD_BUFFER);
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_READFUNCTION, read_body);
    curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, seek_body);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, write_answer);
    return e;
}

static void easy_give(struct rpc *r, CURL *e)
{
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, NULL);
    if (r->easies_n < RPC_EASIES_MAX)
        r->easies[r->easies_n++] = e;
    else
        curl_easy_cleanup(e);
}

static struct curl_slist *header_append(struct curl_slist *l, const char *name, const char *value)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s", name, value);
    buf_append(&b, "", 1);
    l = rpc_need(curl_slist_append(l, (char *)b.p));
    buf_free(&b);
    return l;
}

static struct curl_slist *header_list(struct rpc *r, const struct call *c)
{
    static const char *const fixed[] = {
        "Steadfs-Version: 1",
        "Content-Type:", "Accept:", "Expect:", /* the empty ones are left out */
    };
    _Static_assert(STEADFS_WIRE_VERSION == 1, "written into the header above");
    struct curl_slist *l = NULL;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        l = rpc_need(curl_slist_append(l, fixed[i]));
    pthread_mutex_lock(&r->lock);
    if (r->credential && !c->anonymous)
        l = header_append(l, "Authorization: Bearer ", r->credential);
    pthread_mutex_unlock(&r->lock);
    return c->op ? header_append(l, "Steadfs-Op: ", c->op) : l;
}

static bool is_loopback(const char *host)
{
    struct in_addr a;
    if (inet_pton(AF_INET, host, &a) == 1)
        return ntohl(a.s_addr) >> 24 == 127;
    return !strcasecmp(host, "localhost") || !strcmp(host, "[::1]");
}

/* Plain HTTP would show the credential to the network: only loopback and unix sockets may use it.
 * Judged is what curl itself makes of the text, since that is where the call will go; a name or
 * password in it only serves to make one host look like another. */
static bool url_allowed(const char *url)
{
    if (!strncmp(url, "unix:/", 6))
        return true;
    CURLU *u = rpc_need(curl_url());
    char *scheme = NULL, *host = NULL, *extra = NULL;
    bool ok = !curl_url_set(u, CURLUPART_URL, url, 0) &&
              !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) &&
              !curl_url_get(u, CURLUPART_HOST, &host, 0);
    static const CURLUPart refused[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS,
                                        CURLUPART_QUERY, CURLUPART_FRAGMENT};
    for (size_t i = 0; ok && i < sizeof refused / sizeof *refused; i++) {
        ok = curl_url_get(u, refused[i], &extra, 0) != CURLUE_OK;
        curl_free(extra);
        extra = NULL;
    }
    ok = ok && (!strcmp(scheme, "https") || (!strcmp(scheme, "http") && is_loopback(host)));
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(u);
    return ok;
}

static void finish(struct rpc *r, struct call *c)
{
    struct host *h = c->host;
    if (c->easy) {
        curl_off_t up = 0, down = 0;
        long head_out = 0, head_in = 0;
        curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &up);
        curl_easy_getinfo(c->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
        curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &head_out);
        curl_easy_getinfo(c->easy, CURLINFO_HEADER_SIZE, &head_in);
        /* a body that went out with the head is in both of curl's numbers */
        c->result.bytes_out = (uint64_t)head_out + (c->parts_n > 1 ? (uint64_t)up : 0);
        c->result.bytes_in = (uint64_t)down + (uint64_t)head_in;
        easy_give(r, c->easy);
        curl_slist_free_all(c->headers);
    }
    if (h && c->running && !c->waits)
        h->running--;
    if (h && !c->running)
        TAILQ_REMOVE(&h->queue, c, queued);
    if (h)
        h->calls--;
    TAILQ_REMOVE(&r->calls, c, all);
    pthread_mutex_lock(&r->lock);
    r->calls_n--;
    pthread_mutex_unlock(&r->lock);
    r->ended++;
    c->result.seconds = (double)(now_us() - c->started_us) / 1e6;
    if (c->result.err)
        buf_free(&c->result.body);
    c->done(c->arg, &c->result);
    buf_free(&c->result.body);
    free(c->url);
    free(c->method);
    free(c->op);
    free(c->pins);
    free(c->parts);
    free(c->owned);
    free(c);
}

/* Hands the call to curl. */
static void launch(struct rpc *r, struct call *c)
{
    uint64_t now = now_us();
    long left = c->deadline_us > now ? (long)((c->deadline_us - now) / 1000u) : 0;
    long connect = (long)r->o.connect_timeout_ms;
    CURL *e = c->easy = easy_take(r);
    bool is_unix = !strncmp(c->url, "unix:", 5);
    struct buf url = {0};
    buf_printf(&url, "%s/v1/%s", is_unix ? "http://localhost" : c->url, c->method);
    buf_append(&url, "", 1);
    curl_easy_setopt(e, CURLOPT_URL, (char *)url.p);
    buf_free(&url);
    curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, is_unix ? c->url + 5 : NULL);
    curl_easy_setopt(e, CURLOPT_PINNEDPUBLICKEY, c->pins);
    c->headers = header_list(r, c);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, left > 0 ? left : 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, connect);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->detail);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(e, CURLOPT_READDATA, c);
    curl_easy_setopt(e, CURLOPT_SEEKDATA, c);
    curl_easy_setopt(e, CURLOPT_PRIVATE, c);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->total);
    /* one part is small and contiguous; an empty body needs a pointer too */
    curl_easy_setopt(e, CURLOPT_POSTFIELDS,
                     c->parts_n > 1 ? NULL
                     : c->total     ? (const char *)c->parts[0].p
                                    : "");
    curl_multi_add_handle(r->multi, e);
}

static void run_or_queue(struct rpc *r, struct call *c)
{
    if (c->running || (!c->waits && c->host->running >= r->o.max_per_host))
        return;
    TAILQ_REMOVE(&c->host->queue, c, queued);
    c->running = true;
    if (!c->waits)
        c->host->running++;
    launch(r, c);
}

static struct host *host_of(struct rpc *r, const char *url)
{
    struct host *h;
    LIST_FOREACH(h, &r->hosts, link)
    if (!strcmp(h->key, url))
        return h;
    h = rpc_need(calloc(1, sizeof *h));
    h->key = rpc_need(strdup(url));
    TAILQ_INIT(&h->queue);
    LIST_INSERT_HEAD(&r->hosts, h, link);
    return h;
}

/* Starts what a host has room for, and forgets hosts without calls. */
static void pump_hosts(struct rpc *r)
{
    struct host *h, *next;
    for (h = LIST_FIRST(&r->hosts); h; h = next) {
        next = LIST_NEXT(h, link);
        while (!TAILQ_EMPTY(&h->queue) && h->running < r->o.max_per_host)
            run_or_queue(r, TAILQ_FIRST(&h->queue));
        struct call *c;
        bool used = h->running || !TAILQ_EMPTY(&h->queue);
        TAILQ_FOREACH(c, &r->calls, all)
        used |= c->host == h;
        if (used)
            continue;
        LIST_REMOVE(h, link);
        free(h->key);
        free(h);
    }
}

static void admit(struct rpc *r, struct call *c)
{
    TAILQ_INSERT_TAIL(&r->calls, c, all);
    if (c->result.err || !url_allowed(c->url) ||
        (c->pins && strncasecmp(c->url, "https:", 6) != 0)) {
        if (c->result.err)
            rpc_fail(c, -EAGAIN, "too many calls are waiting already");
        else if (c->pins)
            rpc_fail(c, -EINVAL, "it has joined with a key: its URL must be https://HOST:PORT");
        else
            rpc_fail(c, -EINVAL,
                     "the URL must be https://HOST:PORT (http:// on loopback only), without a "
                     "user name");
        finish(r, c);
        return;
    }
    c->host = host_of(r, c->url);
    c->host->calls++;
    if (c->deadline_us < r->expiry_us)
        r->expiry_us = c->deadline_us;
    c->waits = !strcmp(c->method, "wait");
    TAILQ_INSERT_TAIL(&c->host->queue, c, queued);
    run_or_queue(r, c);
}

static void abandon(struct rpc *r, struct call *c, int err, const char *text)
{
    if (c->running)
        curl_multi_remove_handle(r->multi, c->easy);
    rpc_fail(c, err, text);
    finish(r, c);
}

static void collect(struct rpc *r)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(r->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        struct call *c = NULL;
        long status = 0;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_multi_remove_handle(r->multi, c->easy);
        c->result.status = (unsigned)status;
        if (code != CURLE_OK)
            rpc_fail_curl(c, code);
        else if (status != 200)
            rpc_fail_status(c);
        finish(r, c);
    }
}

/* Ends queued calls whose time is over; returns how long until the next one's may be. */
static int expire_queued(struct rpc *r)
{
    uint64_t now = now_us();
    if (r->expiry_us <= now) {
        struct call *c, *next;
        r->expiry_us = UINT64_MAX;
        for (c = TAILQ_FIRST(&r->calls); c; c = next) {
            next = TAILQ_NEXT(c, all);
            if (c->running)
                continue;
            if (c->deadline_us <= now)
                abandon(r, c, -ETIMEDOUT, "no answer in time (waited behind other calls)");
            else if (c->deadline_us < r->expiry_us)
                r->expiry_us = c->deadline_us;
        }
    }
    uint64_t wait_ms = r->expiry_us > now ? (r->expiry_us - now) / 1000u + 1 : 0;
    return wait_ms < RPC_POLL_MS ? (int)wait_ms : RPC_POLL_MS;
}

static void apply_cancels(struct rpc *r, const uint64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct call *c;
        TAILQ_FOREACH(c, &r->calls, all)
        if (c->id == ids[i])
            break;
        if (c)
            abandon(r, c, -ECANCELED, "canceled");
    }
}

/* Takes what other threads asked for, lets curl do what it can, and ends the calls that are done.
 * Returns how long to wait for more; -1: all has ended. */
static int pass(struct rpc *r)
{
    struct calls fresh = TAILQ_HEAD_INITIALIZER(fresh);
    pthread_mutex_lock(&r->lock);
    TAILQ_CONCAT(&fresh, &r->incoming, all);
    uint64_t *cancels = r->cancels;
    size_t cancels_n = r->cancels_n;
    r->cancels = NULL;
    r->cancels_n = r->cancels_cap = 0;
    bool quit = r->quit;
    pthread_mutex_unlock(&r->lock);

    /* a callback that hears of the end may still start a call: that one ends in the next round */
    if (quit && TAILQ_EMPTY(&fresh) && TAILQ_EMPTY(&r->calls)) {
        free(cancels);
        return -1;
    }
    struct call *c;
    while ((c = TAILQ_FIRST(&fresh))) {
        TAILQ_REMOVE(&fresh, c, all);
        admit(r, c);
    }
    apply_cancels(r, cancels, cancels_n);
    free(cancels);
    while (quit && (c = TAILQ_FIRST(&r->calls)))
        abandon(r, c, -ECANCELED, "canceled: shutting down");
    int running;
    curl_multi_perform(r->multi, &running);
    collect(r);
    int timeout = expire_queued(r);
    pump_hosts(r);
    return quit ? 0 : timeout;
}

/* Waits for the network or for another thread. */
static void poll_network(struct rpc *r, int timeout_ms)
{
    pthread_mutex_lock(&r->lock);
    bool wait = TAILQ_EMPTY(&r->incoming) && !r->cancels_n && !r->nudged && !r->quit;
    r->polling = true;
    pthread_mutex_unlock(&r->lock);
    curl_multi_poll(r->multi, NULL, 0, wait ? timeout_ms : 0, NULL);
    pthread_mutex_lock(&r->lock);
    r->polling = r->woken = r->nudged = false;
    pthread_mutex_unlock(&r->lock);
}

static void *rpc_main(void *arg)
{
    struct rpc *r = arg;
    int timeout;
    while ((timeout = pass(r)) >= 0)
        poll_network(r, timeout);
    return NULL;
}

void rpc_turn(struct rpc *r, unsigned timeout_ms)
{
    uint64_t before = r->ended;
    int left = pass(r);
    if (r->ended != before || left < 0)
        return;
    poll_network(r, (unsigned)left < timeout_ms ? left : (int)timeout_ms);
    pass(r);
}

/* ---- the caller's side --------------------------------------------------------------------- */

static bool has_openssl(void)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
    return v->ssl_version && strstr(v->ssl_version, "OpenSSL");
}

static void release(struct rpc *r)
{
    while (!LIST_EMPTY(&r->hosts)) {
        struct host *h = LIST_FIRST(&r->hosts);
        LIST_REMOVE(h, link);
        free(h->key);
        free(h);
    }
    for (size_t i = 0; i < r->easies_n; i++)
        curl_easy_cleanup(r->easies[i]);
    if (r->multi)
        curl_multi_cleanup(r->multi);
    if (r->share)
        curl_share_cleanup(r->share);
    X509_free(r->ca);
    X509_STORE_free(r->store);
    pthread_mutex_destroy(&r->lock);
    free(r->credential);
    free(r->cancels);
    free(r);
    curl_global_cleanup();
}

int rpc_new(struct rpc **out, const struct rpc_options *o)
{
    *out = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return -ENOMEM;
    struct rpc *r = rpc_need(calloc(1, sizeof *r));
    r->o = *o;
    r->o.connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    r->o.max_per_host = o->max_per_host ? o->max_per_host : PER_HOST_DEFAULT;
    r->credential = o->credential ? rpc_need(strdup(o->credential)) : NULL;
    TAILQ_INIT(&r->calls);
    TAILQ_INIT(&r->incoming);
    pthread_mutex_init(&r->lock, NULL);
    int err = has_openssl() ? rpc_load_trust(r) : -ENOTSUP;
    if (err) {
        release(r);
        return err;
    }
    r->o.ca_pem = r->o.pin_sha256 = r->o.credential = NULL; /* the caller's; read above */
    r->multi = rpc_need(curl_multi_init());
    r->share = rpc_need(curl_share_init());
    curl_multi_setopt(r->multi, CURLMOPT_MAXCONNECTS, RPC_CONNECTIONS_KEPT);
    /* within one thread, hence without lock functions */
    curl_share_setopt(r->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_share_setopt(r->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    if (!r->o.driven) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        err = -pthread_create(&r->thread, NULL, rpc_main, r);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (err) {
        release(r);
        return err;
    }
    *out = r;
    return 0;
}

/* Makes the thread look again, unless it will do so anyway. */
static void wake_locked(struct rpc *r)
{
    if (r->polling && !r->woken) {
        curl_multi_wakeup(r->multi);
        r->woken = true;
    }
}

void rpc_wake(struct rpc *r)
{
    pthread_mutex_lock(&r->lock);
    r->nudged = true;
    wake_locked(r);
    pthread_mutex_unlock(&r->lock);
}

void rpc_free(struct rpc *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->quit = true;
    wake_locked(r);
    pthread_mutex_unlock(&r->lock);
    if (r->o.driven)
        rpc_main(r);
    else
        pthread_join(r->thread, NULL);
    release(r);
}

void rpc_set_credential(struct rpc *r, const char *credential)
{
    char *fresh = credential ? rpc_need(strdup(credential)) : NULL;
    pthread_mutex_lock(&r->lock);
    char *old = r->credential;
    r->credential = fresh;
    pthread_mutex_unlock(&r->lock);
    free(old);
}

/* What is sent: one copied run where that is small, else the head's copy and the caller's pieces.
 */
static void set_parts(struct call *c, const struct rpc_call *given)
{
    size_t pieces_n = given->bodies ? given->bodies_n : 1;
    const struct bytes *pieces = given->bodies ? given->bodies : &given->body;
    c->total = given->head.n;
    for (size_t i = 0; i < pieces_n; i++)
        c->total += pieces[i].n;
    bool small = c->total <= RPC_INLINE_MAX;
    size_t copied = small ? (size_t)c->total : given->head.n;
    c->owned = rpc_need(malloc(copied + 1));
    c->parts_n = small ? 1 : pieces_n + 1;
    c->parts = rpc_need(calloc(c->parts_n, sizeof *c->parts));
    c->parts[0] = bytes_of(c->owned, copied);
    size_t at = given->head.n;
    if (at)
        memcpy(c->owned, given->head.p, at);
    for (size_t i = 0; i < pieces_n; i++) {
        if (!small)
            c->parts[i + 1] = pieces[i];
        else if (pieces[i].n)
            memcpy(c->owned + at, pieces[i].p, pieces[i].n);
        at += pieces[i].n;
    }
}

uint64_t rpc_start(struct rpc *r, const struct rpc_call *given)
{
    struct call *c = rpc_need(calloc(1, sizeof *c));
    c->url = rpc_need(strdup(given->url));
    size_t n = strlen(c->url);
    while (n && c->url[n - 1] == '/')
        c->url[--n] = '\0';
    c->method = rpc_need(strdup(given->method));
    set_parts(c, given);
    c->answer_max = given->answer_max ? given->answer_max : MSG_BODY_MAX;
    c->started_us = now_us();
    c->deadline_us =
        c->started_us + (given->timeout_ms ? given->timeout_ms : CALL_TIMEOUT_MS) * 1000ull;
    c->anonymous = given->anonymous;
    c->pins = rpc_pins_text(given->pins);
    if (given->op && given->op[0])
        c->op = rpc_need(strdup(given->op));
    c->done = given->done;
    c->arg = given->arg;
    pthread_mutex_lock(&r->lock);
    uint64_t id = c->id = ++r->last_id;
    if (++r->calls_n > RPC_CALLS_MAX)
        c->result.err = -EAGAIN;
    TAILQ_INSERT_TAIL(&r->incoming, c, all);
    wake_locked(r);
    pthread_mutex_unlock(&r->lock);
    return id;
}

void rpc_cancel(struct rpc *r, uint64_t id)
{
    pthread_mutex_lock(&r->lock);
    if (r->cancels_n == r->cancels_cap) {
        r->cancels_cap = r->cancels_cap ? 2 * r->cancels_cap : 16;
        r->cancels = rpc_need(realloc(r->cancels, r->cancels_cap * sizeof *r->cancels));
    }
    r->cancels[r->cancels_n++] = id;
    wake_locked(r);
    pthread_mutex_unlock(&r->lock);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int err;
    char *message;
    struct arena *arena;
    struct bytes body;
};

static void wake_waiter(void *arg, struct rpc_result *res)
{
    struct waiter *w = arg;
    pthread_mutex_lock(&w->lock);
    w->err = res->err;
    if (w->message)
        memcpy(w->message, res->message, sizeof res->message);
    if (!w->err)
        w->body = arena_bytes(w->arena, res->body.p, res->body.n);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

int rpc_wait(struct rpc *r, const char *url, const char *method, const struct msg_desc *req_desc,
             const void *req, const struct msg_desc *ans_desc, void *ans, struct arena *a,
             unsigned timeout_ms, char *message)
{
    struct waiter w = {.arena = a, .message = message};
    struct buf b = {0};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.cond, NULL);
    msg_encode(req_desc, req, &b);
    struct rpc_call call = {
        .url = url,
        .method = method,
        .body = bytes_of(b.p, b.n),
        .timeout_ms = timeout_ms,
        .done = wake_waiter,
        .arg = &w,
    };
    rpc_start(r, &call);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.lock);
    buf_free(&b);
    if (w.err)
        return w.err;
    const char *why = NULL;
    int err = msg_decode(ans_desc, ans, w.body.p, w.body.n, MSG_LENIENT, a, &why);
    if (err && message)
        snprintf(message, 512, "server %.200s: unreadable answer to %.32s (%.200s)", url, method,
                 why ? why : "malformed");
    return err ? -EBADMSG : 0;
}
