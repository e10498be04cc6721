// SPDX-License-Identifier: Apache-2.0
#include "bucket.h"

#include "s3_keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATH_PREFIX "/bucket"
#define HEAD_MAX 16384

struct request {
    char head[HEAD_MAX];
    char method[16], path[4096];
    char *query; /* in path; or NULL */
    uint8_t *body;
    size_t body_n;
};

static char *copy_of(const char *s)
{
    char *c = strdup(s);
    if (!c)
        abort();
    return c;
}

/* ---- objects, under the lock ----------------------------------------------------------------- */

/* Where the key is, or belongs. */
static size_t place_of(const struct bucket *b, const char *key, bool *there)
{
    size_t i = 0;
    while (i < b->n && strcmp(b->v[i].key, key) < 0)
        i++;
    *there = i < b->n && !strcmp(b->v[i].key, key);
    return i;
}

static void set(struct bucket *b, const char *key, const void *p, size_t n)
{
    bool there;
    size_t i = place_of(b, key, &there);
    uint8_t *bytes = malloc(n + 1);
    if (b->n == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 64;
        b->v = realloc(b->v, b->cap * sizeof *b->v);
    }
    if (!bytes || !b->v)
        abort();
    if (n)
        memcpy(bytes, p, n);
    if (!there) {
        memmove(&b->v[i + 1], &b->v[i], (b->n++ - i) * sizeof *b->v);
        b->v[i] = (struct bucket_object){.key = copy_of(key)};
    }
    free(b->v[i].bytes);
    b->v[i].bytes = bytes;
    b->v[i].n = n;
}

static void unset(struct bucket *b, const char *key)
{
    bool there;
    size_t i = place_of(b, key, &there);
    if (!there)
        return;
    free(b->v[i].key);
    free(b->v[i].bytes);
    memmove(&b->v[i], &b->v[i + 1], (--b->n - i) * sizeof *b->v);
}

void bucket_put(struct bucket *b, const char *key, const void *p, size_t n)
{
    pthread_mutex_lock(&b->lock);
    set(b, key, p, n);
    pthread_mutex_unlock(&b->lock);
}

void bucket_delete(struct bucket *b, const char *key)
{
    pthread_mutex_lock(&b->lock);
    unset(b, key);
    pthread_mutex_unlock(&b->lock);
}

size_t bucket_each(struct bucket *b, const char *prefix,
                   void (*fn)(void *arg, const char *key, const uint8_t *p, size_t n), void *arg)
{
    size_t found = 0, n = 0;
    pthread_mutex_lock(&b->lock);
    struct bucket_object *v = calloc(b->n + 1, sizeof *v);
    if (!v)
        abort();
    for (size_t i = 0; i < b->n; i++) {
        if (strncmp(b->v[i].key, prefix, strlen(prefix)) != 0)
            continue;
        found++;
        v[n] = (struct bucket_object){copy_of(b->v[i].key), malloc(b->v[i].n + 1), b->v[i].n};
        if (!v[n].bytes)
            abort();
        memcpy(v[n].bytes, b->v[i].bytes, v[n].n);
        n++;
    }
    pthread_mutex_unlock(&b->lock);
    for (size_t i = 0; i < n; i++) {
        if (fn)
            fn(arg, v[i].key, v[i].bytes, v[i].n);
        free(v[i].key);
        free(v[i].bytes);
    }
    free(v);
    return found;
}

/* ---- requests ------------------------------------------------------------------------------ */

static void decode(char *s)
{
    char *to = s;
    unsigned c;
    for (; *s; s++, to++) {
        *to = *s;
        if (*s == '%' && sscanf(s + 1, "%2x", &c) == 1) {
            *to = (char)c;
            s += 2;
        }
    }
    *to = '\0';
}

/* The value of a query's parameter, decoded; empty: there is none. */
static void parameter(const struct request *q, const char *name, char *out, size_t max)
{
    size_t len = strlen(name);
    *out = '\0';
    for (const char *p = q->query; p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL) {
        if (strncmp(p, name, len) != 0 || p[len] != '=')
            continue;
        snprintf(out, max, "%.*s", (int)strcspn(p + len + 1, "&"), p + len + 1);
        decode(out);
    }
}

static bool header(const struct request *q, const char *name, char *out, size_t max)
{
    char line[64];
    snprintf(line, sizeof line, "\r\n%s: ", name);
    const char *p = strcasestr(q->head, line);
    if (p)
        snprintf(out, max, "%.*s", (int)strcspn(p + strlen(line), "\r"), p + strlen(line));
    return p;
}

/* Reads a request; false: nobody made one. */
static bool read_request(int fd, struct request *q)
{
    size_t n = 0;
    char *end = NULL, value[64] = "0";
    while (!end && n + 1 < sizeof q->head) {
        ssize_t got = read(fd, q->head + n, sizeof q->head - 1 - n);
        if (got <= 0)
            return false;
        n += (size_t)got;
        q->head[n] = '\0';
        end = strstr(q->head, "\r\n\r\n");
    }
    if (!end || sscanf(q->head, "%15s %4095s", q->method, q->path) != 2)
        return false;
    size_t had = n - (size_t)(end + 4 - q->head);
    header(q, "content-length", value, sizeof value);
    q->body_n = strtoul(value, NULL, 10);
    if (!(q->body = malloc(q->body_n + 1)) || had > q->body_n)
        abort();
    memcpy(q->body, end + 4, had);
    end[2] = '\0';
    for (size_t at = had; at < q->body_n;) {
        ssize_t got = read(fd, q->body + at, q->body_n - at);
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    if ((q->query = strchr(q->path, '?')))
        *q->query++ = '\0';
    decode(q->path);
    return true;
}

static void answer(struct buf *out, const char *status, const void *p, size_t n)
{
    buf_printf(out, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", status, n);
    buf_append(out, p, n);
}

static void refuse(struct buf *out, const char *status, const char *code)
{
    char text[256];
    snprintf(text, sizeof text, "<?xml version=\"1.0\"?><Error><Code>%s</Code></Error>", code);
    answer(out, status, text, strlen(text));
}

static void list(struct bucket *b, const struct request *q, struct buf *out)
{
    char prefix[2048], from[2048], after[2048], max[32];
    struct buf text = {0};
    size_t n = 0, i;
    parameter(q, "prefix", prefix, sizeof prefix);
    parameter(q, "continuation-token", from, sizeof from);
    parameter(q, "start-after", after, sizeof after);
    parameter(q, "max-keys", max, sizeof max);
    size_t most = strtoul(max, NULL, 10);
    const char *last = strcmp(from, after) > 0 ? from : after;
    buf_printf(&text, "<?xml version=\"1.0\"?><ListBucketResult>");
    for (i = 0; i < b->n && n < most; i++) {
        if (strncmp(b->v[i].key, prefix, strlen(prefix)) != 0 || strcmp(b->v[i].key, last) <= 0)
            continue;
        buf_printf(&text, "<Contents><Key>%s</Key><Size>%zu</Size></Contents>", b->v[i].key,
                   b->v[i].n);
        last = b->v[i].key;
        n++;
    }
    while (i < b->n && strncmp(b->v[i].key, prefix, strlen(prefix)) != 0)
        i++;
    buf_printf(&text, "<IsTruncated>%s</IsTruncated>", i < b->n ? "true" : "false");
    if (i < b->n)
        buf_printf(&text, "<NextContinuationToken>%s</NextContinuationToken>", last);
    buf_printf(&text, "</ListBucketResult>");
    answer(out, "200 OK", text.p, text.n);
    buf_free(&text);
}

static void put(struct bucket *b, const struct request *q, const char *key, struct buf *out)
{
    char value[2048];
    bool there;
    size_t i = place_of(b, key, &there);
    if (header(q, "if-none-match", value, sizeof value) && there) {
        refuse(out, "412 Precondition Failed", "PreconditionFailed");
        return;
    }
    if (!header(q, "x-amz-copy-source", value, sizeof value)) {
        set(b, key, q->body, q->body_n);
        answer(out, "200 OK", "", 0);
        return;
    }
    i = place_of(b, value + strlen(PATH_PREFIX) + 1, &there);
    if (!there) {
        refuse(out, "404 Not Found", "NoSuchKey");
        return;
    }
    struct bucket_object *o = &b->v[i];
    uint8_t *bytes = malloc(o->n + 1);
    size_t n = o->n;
    if (!bytes)
        abort();
    memcpy(bytes, o->bytes, n);
    set(b, key, bytes, n);
    free(bytes);
    answer(out, "200 OK", "<CopyObjectResult/>", 19);
}

/* Nothing in out: the connection is closed without an answer. */
static void handle(struct bucket *b, const struct request *q, struct buf *out)
{
    const char *key = q->path + strlen(PATH_PREFIX);
    bool there;
    key += *key == '/';
    size_t i = place_of(b, key, &there);
    b->requests++;
    if (!strcmp(q->method, "PUT")) {
        put(b, q, key, out);
    } else if (!strcmp(q->method, "DELETE") && b->late && strstr(key, S3_KEY_BLOCKS)) {
        b->doomed = realloc(b->doomed, (b->doomed_n + 1) * sizeof *b->doomed);
        if (!b->doomed)
            abort();
        b->doomed[b->doomed_n++] = copy_of(key);
    } else if (!strcmp(q->method, "DELETE")) {
        unset(b, key);
        answer(out, "204 No Content", "", 0);
    } else if (q->query) {
        list(b, q, out);
    } else if (there) {
        answer(out, "200 OK", b->v[i].bytes, b->v[i].n);
    } else {
        refuse(out, "404 Not Found", "NoSuchKey");
    }
}

static void serve_one(struct bucket *b, int fd)
{
    struct request *q = calloc(1, sizeof *q);
    struct buf out = {0};
    if (!q)
        abort();
    if (read_request(fd, q)) {
        pthread_mutex_lock(&b->lock);
        handle(b, q, &out);
        pthread_mutex_unlock(&b->lock);
        for (size_t at = 0; at < out.n;) {
            ssize_t n = send(fd, out.p + at, out.n - at, MSG_NOSIGNAL);
            if (n <= 0)
                break;
            at += (size_t)n;
        }
    }
    buf_free(&out);
    free(q->body);
    free(q);
}

static void *serve(void *arg)
{
    struct bucket *b = arg;
    for (;;) {
        int fd = accept(b->fd, NULL, NULL);
        pthread_mutex_lock(&b->lock);
        bool quit = b->quit;
        pthread_mutex_unlock(&b->lock);
        if (fd < 0 || quit) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        serve_one(b, fd);
        close(fd);
    }
}

/* ---- the whole ----------------------------------------------------------------------------- */

void bucket_start(struct bucket *b)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    *b = (struct bucket){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    pthread_mutex_init(&b->lock, NULL);
    if (b->fd < 0 || bind(b->fd, (struct sockaddr *)&a, sizeof a) || listen(b->fd, 64) ||
        getsockname(b->fd, (struct sockaddr *)&a, &n) || pthread_create(&b->thread, NULL, serve, b))
        abort();
    b->port = ntohs(a.sin_port);
}

void bucket_end(struct bucket *b)
{
    pthread_mutex_lock(&b->lock);
    b->quit = true;
    pthread_mutex_unlock(&b->lock);
    shutdown(b->fd, SHUT_RDWR);
    pthread_join(b->thread, NULL);
    close(b->fd);
    while (b->n)
        unset(b, b->v[0].key);
    while (b->doomed_n)
        free(b->doomed[--b->doomed_n]);
    free(b->doomed);
    free(b->v);
    pthread_mutex_destroy(&b->lock);
}

struct s3_place bucket_place(const struct bucket *b, const char *prefix)
{
    struct s3_place p = {.bucket = copy_of(&PATH_PREFIX[1]),
                         .region = copy_of("here"),
                         .prefix = copy_of(prefix),
                         .access_key = copy_of("AK"),
                         .secret_key = copy_of("SK")};
    if (asprintf(&p.endpoint, "http://127.0.0.1:%u", b->port) < 0)
        abort();
    return p;
}

void bucket_late(struct bucket *b, bool late)
{
    pthread_mutex_lock(&b->lock);
    b->late = late;
    pthread_mutex_unlock(&b->lock);
}

size_t bucket_carry_out(struct bucket *b)
{
    pthread_mutex_lock(&b->lock);
    size_t n = b->doomed_n;
    while (b->doomed_n) {
        unset(b, b->doomed[--b->doomed_n]);
        free(b->doomed[b->doomed_n]);
    }
    pthread_mutex_unlock(&b->lock);
    return n;
}
