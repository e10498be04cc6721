// SPDX-License-Identifier: Apache-2.0
/* One thread owns a curl multi handle. What is asked waits in a queue until it is due and one of
 * the connections is free; what failed for a reason that may pass goes back with a later time,
 * until its patience is over.
 *
 * libcurl signs. What a signature of its version 7.88 needs, as measured against radosgw: a header
 * x-amz-content-sha256 on every request (the hash of what is sent, which the store then verifies);
 * no empty header, so 100-continue is turned off by its time-out; the query sorted and escaped;
 * keys of plain characters.
 */
#include "s3.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#define CONNECTIONS 16
#define CONNECT_TIMEOUT_MS 5000L
#define STALLED_S 10L /* below 1000 bytes a second for so long */
#define STALLED_SPEED 1000L
#define CONNECTION_IDLE_S 60L
#define UPLOAD_BUFFER (256L << 10)
#define ERROR_BODY_MAX (64u << 10)
#define PAGE_MAX (4u << 20) /* text of a page */
#define BACK_OFF_MS 100
#define BACK_OFF_MAX_MS 3000
#define PATIENCE_MS 20000

/* Those who wait for the outcomes of one s3_run. */
struct run {
    size_t left;
};

struct transfer {
    struct s3_call *call;
    struct run *run;
    unsigned attempts;
    int64_t due_ms, began_ms;
    CURL *easy;
    struct curl_slist *headers;
    size_t sent;
    bool too_long;
    struct buf error; /* body of an answer that is an error */
    struct buf url;
    TAILQ_ENTRY(transfer) link;
};
TAILQ_HEAD(transfers, transfer);

struct s3 {
    const struct s3_place *place;
    struct log *log;
    int64_t patience_ms;
    CURLM *multi;
    pthread_t thread;
    bool started;
    struct transfers active; /* the thread's, with what follows */
    size_t active_n;
    CURL *spare[CONNECTIONS];
    size_t spare_n;
    unsigned seed;

    pthread_mutex_t lock; /* guards what follows, and every run */
    pthread_cond_t done;
    struct transfers waiting;
    bool quit, failing;
    char last_error[512];
    uint64_t requests, retries, failures;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- what curl calls ----------------------------------------------------------------------- */

static size_t read_body(char *p, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t room = size * count, left = t->call->body.n - t->sent;
    size_t n = left < room ? left : room;
    if (n)
        memcpy(p, t->call->body.p + t->sent, n);
    t->sent += n;
    return n;
}

static int seek_body(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_CANTSEEK;
    t->sent = 0;
    return CURL_SEEKFUNC_OK;
}

static size_t write_answer(char *p, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    struct s3_call *c = t->call;
    size_t n = size * count;
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && (c->verb == S3_GET || c->verb == S3_LIST)) {
        size_t max = c->verb == S3_GET ? c->answer_max : PAGE_MAX;
        t->too_long = n > max || c->answer.n > max - n;
        if (t->too_long)
            return 0;
        buf_append(&c->answer, p, n);
    } else if (t->error.n + n <= ERROR_BODY_MAX) {
        buf_append(&t->error, p, n);
    }
    return n;
}

/* ---- making a request ---------------------------------------------------------------------- */

static void add_escaped(struct buf *b, CURL *easy, const char *text)
{
    char *escaped = curl_easy_escape(easy, text, 0);
    if (!escaped)
        abort();
    buf_printf(b, "%s", escaped);
    curl_free(escaped);
}

/* A request's URL, ended with a NUL. */
static void make_url(const struct s3 *s, struct transfer *t)
{
    const struct s3_place *p = s->place;
    const struct s3_call *c = t->call;
    struct buf *b = &t->url;
    b->n = 0;
    buf_printf(b, "%s/%s", p->endpoint, p->bucket);
    if (c->verb == S3_LIST) {
        buf_printf(b, "?");
        if (c->from) {
            buf_printf(b, "continuation-token=");
            add_escaped(b, t->easy, c->from);
            buf_printf(b, "&");
        }
        /* in the order of their names: so they are signed */
        buf_printf(b, "list-type=2&max-keys=%u&prefix=", c->max ? c->max : S3_LIST_MAX);
        add_escaped(b, t->easy, p->prefix);
        add_escaped(b, t->easy, c->key);
        if (c->after) {
            buf_printf(b, "&start-after=");
            add_escaped(b, t->easy, p->prefix);
            add_escaped(b, t->easy, c->after);
        }
    } else {
        buf_printf(b, "/%s%s", p->prefix, c->key);
    }
    buf_append(b, "", 1);
}

static void add_header(struct transfer *t, const char *line)
{
    struct curl_slist *l = curl_slist_append(t->headers, line);
    if (!l)
        abort();
    t->headers = l;
}

static void make_headers(const struct s3 *s, struct transfer *t)
{
    const struct s3_call *c = t->call;
    struct buf b cleanup_buf = {0};
    uint8_t hash[SHA256_DIGEST_LENGTH];
    if (c->hash && c->verb == S3_PUT)
        memcpy(hash, c->hash, sizeof hash);
    else
        SHA256(c->verb == S3_PUT && c->body.n ? c->body.p : (const uint8_t *)"",
               c->verb == S3_PUT ? c->body.n : 0, hash);
    buf_printf(&b, "x-amz-content-sha256: ");
    for (size_t i = 0; i < sizeof hash; i++)
        buf_printf(&b, "%02x", hash[i]);
    buf_append(&b, "", 1);
    add_header(t, (char *)b.p);
    if (c->verb == S3_PUT && c->if_absent)
        add_header(t, "if-none-match: *");
    if (c->verb == S3_COPY) {
        b.n = 0;
        buf_printf(&b, "x-amz-copy-source: /%s/%s%s", s->place->bucket, s->place->prefix, c->from);
        buf_append(&b, "", 1);
        add_header(t, (char *)b.p);
    }
}

static void set_constant(const struct s3 *s, CURL *e, const char *provider)
{
    const struct s3_place *p = s->place;
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_AWS_SIGV4, provider);
    curl_easy_setopt(e, CURLOPT_USERNAME, p->access_key);
    curl_easy_setopt(e, CURLOPT_PASSWORD, p->secret_key);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, STALLED_SPEED);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, STALLED_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, CONNECTION_IDLE_S);
    curl_easy_setopt(e, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
    curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, write_answer);
    if (p->ca_file)
        curl_easy_setopt(e, CURLOPT_CAINFO, p->ca_file);
}

static void prepare(struct s3 *s, struct transfer *t)
{
    struct s3_call *c = t->call;
    char provider[128];
    t->easy = s->spare_n ? s->spare[--s->spare_n] : curl_easy_init();
    if (!t->easy)
        abort();
    curl_easy_reset(t->easy);
    snprintf(provider, sizeof provider, "aws:amz:%s:s3", s->place->region);
    set_constant(s, t->easy, provider);
    make_url(s, t);
    make_headers(s, t);
    c->answer.n = t->error.n = t->sent = 0;
    t->too_long = false;
    curl_easy_setopt(t->easy, CURLOPT_URL, (char *)t->url.p);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    if (c->verb == S3_DELETE) {
        curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, "DELETE");
    } else if (c->verb == S3_PUT || c->verb == S3_COPY) {
        curl_easy_setopt(t->easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE,
                         (curl_off_t)(c->verb == S3_PUT ? c->body.n : 0));
        curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, read_body);
        curl_easy_setopt(t->easy, CURLOPT_READDATA, t);
        curl_easy_setopt(t->easy, CURLOPT_SEEKFUNCTION, seek_body);
        curl_easy_setopt(t->easy, CURLOPT_SEEKDATA, t);
    }
}

/* ---- outcomes ------------------------------------------------------------------------------ */

/* Of a status and the code in the error's body. */
static int err_of(long status, const char *code)
{
    if (!strcmp(code, "QuotaExceeded") || status == 507)
        return -ENOSPC;
    if (!strcmp(code, "NoSuchBucket"))
        return -ENODEV;
    switch (status) {
    case 404:
        return -ENOENT;
    case 412:
        return -EEXIST;
    case 401:
    case 403:
        return -EACCES;
    case 408:
    case 409:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return -EHOSTUNREACH; /* may pass */
    default:
        return -EIO;
    }
}

/* The outcome, and in why what is to be said where it is the store's or the network's fault. */
static int outcome(struct s3 *s, struct transfer *t, CURLcode rc, char why[512])
{
    const struct s3_place *p = s->place;
    long status = 0;
    char code[S3_CODE_MAX];
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    s3_code_parse(code, bytes_of(t->error.p, t->error.n));
    why[0] = '\0';
    if (t->too_long)
        return -EFBIG;
    if (rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE) {
        snprintf(why, 512, "%s is not trusted: %s", p->endpoint, curl_easy_strerror(rc));
        return -EACCES;
    }
    if (rc) {
        snprintf(why, 512, "%s does not answer: %s", p->endpoint, curl_easy_strerror(rc));
        return -EHOSTUNREACH;
    }
    if (status / 100 == 2 && !code[0])
        return 0;
    int r = status / 100 == 2 ? -EIO : err_of(status, code);
    if (r == -EACCES)
        snprintf(why, 512, "%s refuses the access key: %s", p->endpoint,
                 code[0] ? code : "no reason given");
    else if (r == -ENODEV)
        snprintf(why, 512, "%s has no bucket %s", p->endpoint, p->bucket);
    else if (r == -ENOSPC)
        snprintf(why, 512, "the store or its quota is full (%s)", code);
    else if (r != -ENOENT && r != -EEXIST)
        snprintf(why, 512, "%s answers %ld %s", p->endpoint, status, code);
    return r;
}

/* Under the lock. */
static void note(struct s3 *s, int err, const char *why)
{
    if (why[0]) {
        snprintf(s->last_error, sizeof s->last_error, "%s", why);
        s->failures++;
        if (!s->failing)
            log_printf(s->log, LOG_L_ERROR, "object store: %s", why);
        s->failing = true;
    } else if (s->failing && (!err || err == -ENOENT || err == -EEXIST)) {
        log_printf(s->log, LOG_L_INFO, "object store: %s answers", s->place->endpoint);
        s->failing = false;
    }
}

static void finish(struct s3 *s, struct transfer *t, int err)
{
    t->call->err = err;
    if (!--t->run->left)
        pthread_cond_broadcast(&s->done);
}

static int64_t back_off(struct s3 *s, unsigned attempts)
{
    int64_t ms = BACK_OFF_MS;
    while (--attempts && ms < BACK_OFF_MAX_MS)
        ms *= 2;
    return ms / 2 + rand_r(&s->seed) % ms;
}

static void settle(struct s3 *s, struct transfer *t, CURLcode rc)
{
    char why[512];
    int err = outcome(s, t, rc, why);
    curl_multi_remove_handle(s->multi, t->easy);
    TAILQ_REMOVE(&s->active, t, link);
    s->active_n--;
    s->spare[s->spare_n++] = t->easy; /* never more than CONNECTIONS are active */
    t->easy = NULL;
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    int64_t now = now_ms(), again = now + back_off(s, t->attempts);
    pthread_mutex_lock(&s->lock);
    note(s, err, why);
    if (err == -EHOSTUNREACH && again < t->began_ms + s->patience_ms && !s->quit) {
        t->due_ms = again;
        s->retries++;
        TAILQ_INSERT_TAIL(&s->waiting, t, link);
    } else {
        finish(s, t, err);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- the thread ---------------------------------------------------------------------------- */

/* Starts what is due; the milliseconds until more is. */
static int start_due(struct s3 *s)
{
    struct transfers due = TAILQ_HEAD_INITIALIZER(due);
    struct transfer *t, *next;
    int64_t now = now_ms(), wait = 10000;
    size_t room = CONNECTIONS - s->active_n;
    pthread_mutex_lock(&s->lock);
    for (t = TAILQ_FIRST(&s->waiting); t && room; t = next) {
        next = TAILQ_NEXT(t, link);
        if (t->due_ms > now) {
            wait = t->due_ms - now < wait ? t->due_ms - now : wait;
            continue;
        }
        TAILQ_REMOVE(&s->waiting, t, link);
        TAILQ_INSERT_TAIL(&due, t, link);
        s->requests++;
        room--;
    }
    pthread_mutex_unlock(&s->lock);
    while ((t = TAILQ_FIRST(&due))) {
        TAILQ_REMOVE(&due, t, link);
        TAILQ_INSERT_TAIL(&s->active, t, link);
        s->active_n++;
        t->attempts++;
        prepare(s, t);
        curl_multi_add_handle(s->multi, t->easy);
    }
    return (int)wait;
}

static void collect(struct s3 *s)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(s->multi, &left))) {
        struct transfer *t = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        settle(s, t, m->data.result);
    }
}

static void *io_main(void *arg)
{
    struct s3 *s = arg;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool quit = s->quit;
        pthread_mutex_unlock(&s->lock);
        if (quit)
            break;
        int running, wait = start_due(s);
        curl_multi_perform(s->multi, &running);
        size_t before = s->active_n;
        collect(s);
        if (s->active_n == before)
            curl_multi_poll(s->multi, NULL, 0, wait, NULL);
    }
    return NULL;
}

/* ---- the whole ----------------------------------------------------------------------------- */

int s3_new(struct s3 **out, const struct s3_place *place, unsigned patience_ms, struct log *log)
{
    *out = NULL;
    struct s3 *s = calloc(1, sizeof *s);
    if (!s || curl_global_init(CURL_GLOBAL_DEFAULT))
        abort();
    s->place = place;
    s->log = log;
    s->patience_ms = patience_ms ? patience_ms : PATIENCE_MS;
    s->seed = (unsigned)now_ms();
    TAILQ_INIT(&s->active);
    TAILQ_INIT(&s->waiting);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->done, NULL);
    if (!(s->multi = curl_multi_init()))
        abort();
    curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS);
    int r = -pthread_create(&s->thread, NULL, io_main, s);
    s->started = !r;
    if (r) {
        s3_free(s);
        return r;
    }
    *out = s;
    return 0;
}

void s3_free(struct s3 *s)
{
    if (!s)
        return;
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        pthread_mutex_unlock(&s->lock);
        curl_multi_wakeup(s->multi);
        pthread_join(s->thread, NULL);
    }
    while (s->spare_n)
        curl_easy_cleanup(s->spare[--s->spare_n]);
    curl_multi_cleanup(s->multi);
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void s3_run(struct s3 *s, struct s3_call *v, size_t n)
{
    struct run run = {.left = n};
    struct transfer *t = calloc(n ? n : 1, sizeof *t);
    if (!t)
        abort();
    int64_t now = now_ms();
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < n; i++) {
        t[i].call = &v[i];
        t[i].run = &run;
        t[i].began_ms = now;
        TAILQ_INSERT_TAIL(&s->waiting, &t[i], link);
    }
    curl_multi_wakeup(s->multi);
    while (run.left)
        pthread_cond_wait(&s->done, &s->lock);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++) {

        buf_free(&t[i].error);
        buf_free(&t[i].url);
    }
    free(t);
}

const struct s3_place *s3_place_of(const struct s3 *s)
{
    return s->place;
}

void s3_last_error(struct s3 *s, char out[512])
{
    pthread_mutex_lock(&s->lock);
    snprintf(out, 512, "%s", s->last_error);
    pthread_mutex_unlock(&s->lock);
}

void s3_counters(struct s3 *s, uint64_t *requests, uint64_t *retries, uint64_t *failures)
{
    pthread_mutex_lock(&s->lock);
    *requests = s->requests;
    *retries = s->retries;
    *failures = s->failures;
    pthread_mutex_unlock(&s->lock);
}
