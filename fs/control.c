// SPDX-License-Identifier: Apache-2.0
/* One thread accepts; each connection has a thread of its own, because a settle or drain may take
 * long. Connections are bounded; one too many is told so. The socket's mode keeps other users out.
 *
 * A unix address holds about 107 bytes. Where STATE is longer, the socket is made in a fresh
 * directory below $XDG_RUNTIME_DIR or /tmp, and STATE/control.sock is a symbolic link to it.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "parked.h"
#include "sync.h"
#include "text.h"
#include "vfs.h"

#define LINE_MAX_BYTES 8192
#define REQUEST_TIMEOUT_S 10 /* for the line to arrive, and for each write of the answer */
#define PROGRESS_MS 500

/* As in the design's table of exit statuses. */
enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 5, EXIT_PENDING = 6 };

/* Of how a wait for everything to be sent ended. */
static int exit_status(int r)
{
    return r == -EREMOTEIO                      ? EXIT_REFUSED
           : r == -ETIMEDOUT || r == -ECANCELED ? EXIT_PENDING
                                                : EXIT_FAILED;
}

struct connection {
    struct control *c;
    pthread_t thread;
    int fd;
    enum { CONNECTION_FREE, CONNECTION_RUNS, CONNECTION_ENDED } state; /* control.lock */
};

struct control {
    struct fs *fs;
    int fd;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stopping, finishing;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    char *dir;  /* made for the socket, or NULL */
    char *name; /* STATE/control.sock */
    struct connection v[CONTROL_CONNECTIONS_MAX];
};

/* ---- answers ---- */
static void send_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t r = send(fd, at, n, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return; /* the asker is gone */
        at += r;
        n -= (size_t)r;
    }
}

static void say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(int fd, const char *fmt, ...)
{
    char text[1200];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    send_all(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void do_status(struct connection *k)
{
    struct buf cleanup_buf b = {0};
    sync_status(k->c->fs->sync, &b);
    say(k->fd, "OK\n");
    send_all(k->fd, b.p, b.n);
}

/* The node of a path in the mount as far as it is known here; 0: the mount's top. */
static uint64_t node_of(struct fs *fs, const char *path)
{
    size_t n = strlen(fs->opt.mountpoint);
    uint64_t ns, node;
    struct core_attr a;
    struct core_need need;
    if (strncmp(path, fs->opt.mountpoint, n) != 0 || (path[n] && path[n] != '/' && n > 1))
        return 0;
    pthread_mutex_lock(&fs->lock);
    uint64_t found = core_root(fs->core, &ns, &node) ? 0 : node;
    for (const char *p = path + n; found && *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        if (!len || core_lookup(fs->core, found, bytes_of(p, len), &a, &need))
            break;
        found = a.node;
        p += len;
    }
    pthread_mutex_unlock(&fs->lock);
    return found;
}

static void do_settle(struct connection *k, const char *args)
{
    char *rest, err[512] = "";
    unsigned long ms = strtoul(args, &rest, 10);
    while (*rest == ' ')
        rest++;
    uint64_t node = *rest == '/' ? node_of(k->c->fs, rest) : 0;
    int r = sync_settle(k->c->fs->sync, node, (unsigned)ms, err);
    if (r)
        say(k->fd, "ERR %d %s\n", exit_status(r), err);
    else
        say(k->fd, "OK\n");
}

struct progress {
    int fd;
    int64_t said;          /* ns */
    uint64_t files, bytes; /* that were said */
};

static void drain_progress(void *arg, uint64_t files, uint64_t bytes)
{
    struct progress *p = arg;
    int64_t now = fs_now();
    if (now - p->said < PROGRESS_MS * 1000000ll || (files == p->files && bytes == p->bytes))
        return;
    p->said = now;
    p->files = files;
    p->bytes = bytes;
    say(p->fd, "- %llu files, %llu bytes to go\n", (unsigned long long)files,
        (unsigned long long)bytes);
}

static void do_drain(struct connection *k, const char *args)
{
    struct progress p = {.fd = k->fd, .said = fs_now()};
    char text[512];
    unsigned long ms = strtoul(args, NULL, 10);
    int r = sync_drain(k->c->fs->sync, (unsigned)ms, drain_progress, &p, text);
    if (r)
        say(k->fd, "ERR %d %s\n", exit_status(r), text);
    else
        say(k->fd, "OK\n");
}

static void json_time(struct buf *b, const char *key, int64_t ns)
{
    char text[40];
    time_t t = (time_t)(ns / 1000000000);
    struct tm tm;
    if (!gmtime_r(&t, &tm))
        return;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_printf(b, ", \"%s\": \"%s\"", key, text);
}

static void json_member(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, "\"%s\": ", key);
    text_json(b, bytes_str(text));
}

/* Where the namespace's path is in the file system. */
static void json_file(struct buf *b, const char *key, const char *top, const char *in,
                      const char *path)
{
    struct buf cleanup_buf whole = {0};
    buf_printf(&whole, "%s%s%s/%s", strcmp(top, "/") ? top : "", *in ? "/" : "", in, path);
    buf_append(&whole, "", 1);
    buf_printf(b, ", ");
    json_member(b, key, (const char *)whole.p);
}

static void conflict_one(struct fs *fs, const struct core_ns *n, const char *in,
                         const struct core_conflict *k, struct buf *b)
{
    const char *top = fs->opt.mountpoint;
    buf_printf(b, "{");
    json_member(b, "namespace", n->name);
    buf_printf(b, ", ");
    json_member(b, "path", k->path);
    buf_printf(b, ", ");
    json_member(b, "original", k->original);
    if (in) {
        json_file(b, "file", top, in, k->path);
        json_file(b, "original_file", top, in, k->original);
    }
    buf_printf(b, ", ");
    json_member(b, "device", k->device);
    buf_printf(b, ", ");
    json_member(b, "date", k->date);
    buf_printf(b, ", \"directory\": %s, \"size\": %llu",
               k->attr.type == NODE_DIR ? "true" : "false", (unsigned long long)k->attr.size);
    json_time(b, "mtime", k->attr.mtime);
    buf_printf(b, ", \"original_exists\": %s", k->original_exists ? "true" : "false");
    if (k->original_exists) {
        buf_printf(b, ", \"original_size\": %llu", (unsigned long long)k->original_attr.size);
        json_time(b, "original_mtime", k->original_attr.mtime);
    }
    buf_printf(b, "}");
}

static void conflicts_of(struct fs *fs, const struct core_ns *n, bool *first, struct buf *b)
{
    struct core_conflict k;
    char *in = NULL;
    (void)core_ns_path(fs->core, n->id, &in); /* not mounted anywhere: no file names then */
    for (uint64_t after = 0; core_conflict_next(fs->core, n->id, after, &k) == 0;) {
        buf_printf(b, "%s", *first ? "" : ", ");
        conflict_one(fs, n, in, &k, b);
        *first = false;
        after = k.entry;
        core_conflict_free(&k);
    }
    free(in);
}

static void do_conflicts(struct connection *k, const char *args)
{
    struct fs *fs = k->c->fs;
    struct buf cleanup_buf b = {0};
    struct core_ns n;
    uint64_t only = strtoull(args, NULL, 10);
    bool first = true;
    buf_append(&b, "[", 1);
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; core_ns_at(fs->core, i, &n) == 0; i++)
        if (!only || n.id == only)
            conflicts_of(fs, &n, &first, &b);
    pthread_mutex_unlock(&fs->lock);
    buf_printf(&b, "]\n");
    say(k->fd, "OK\n");
    send_all(k->fd, b.p, b.n);
}

static void do_unpark(struct connection *k)
{
    struct fs *fs = k->c->fs;
    struct core_ns n;
    int err = 0;
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; !err && core_ns_at(fs->core, i, &n) == 0; i++)
        err = core_unpark(fs->core, n.id);
    sync_kick(fs->sync);
    pthread_mutex_unlock(&fs->lock);
    if (err)
        say(k->fd, "ERR %d %s\n", EXIT_FAILED, strerror(-err));
    else
        say(k->fd, "OK\n");
}

#define PARKED_MAX 100000 /* in one answer */

static void do_parked(struct connection *k)
{
    struct fs *fs = k->c->fs;
    struct buf cleanup_buf b = {0};
    struct core_ns n;
    size_t count = 0;
    buf_append(&b, "[", 1);
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; core_ns_at(fs->core, i, &n) == 0; i++)
        parked_list(fs, n.id, PARKED_MAX, &count, &b);
    pthread_mutex_unlock(&fs->lock);
    buf_printf(&b, "]\n");
    say(k->fd, "OK\n");
    send_all(k->fd, b.p, b.n);
}

static void do_export(struct connection *k, const char *dir)
{
    size_t done, failed;
    char text[512];
    int err = parked_export(k->c->fs, dir, &done, &failed, text);
    if (err)
        say(k->fd, "ERR %d %.400s: %s\n", EXIT_FAILED, dir, strerror(-err));
    else if (failed)
        say(k->fd, "ERR %d %zu exported, %zu not: %s\n", EXIT_FAILED, done, failed, text);
    else
        say(k->fd, "OK\n%zu exported to %s\n", done, dir);
}

static void do_flush(struct connection *k)
{
    struct fs *fs = k->c->fs;
    pthread_mutex_lock(&fs->lock);
    int err = vfs_flush_all(fs->vfs);
    pthread_mutex_unlock(&fs->lock);
    if (err)
        say(k->fd, "ERR %d %s: %s\n", EXIT_FAILED, fs->opt.state, strerror(-err));
    else
        say(k->fd, "OK\n");
}

static void do_handover(struct connection *k)
{
    pthread_mutex_lock(&k->c->lock);
    bool finishing = k->c->finishing;
    pthread_mutex_unlock(&k->c->lock);
    if (finishing)
        sync_abandon(k->c->fs->sync);
    if (finishing)
        say(k->fd, "OK\n");
    else
        say(k->fd, "ERR %d mounted at %s\n", EXIT_FAILED, k->c->fs->opt.mountpoint);
}

/* ---- connections ---- */
static const char *word(const char *line, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || (line[n] && line[n] != ' '))
        return NULL;
    return line + n + strspn(line + n, " ");
}

static void request_serve(struct connection *k, const char *line)
{
    const char *args;
    if (word(line, "status"))
        do_status(k);
    else if ((args = word(line, "settle")))
        do_settle(k, args);
    else if ((args = word(line, "drain")))
        do_drain(k, args);
    else if ((args = word(line, "conflicts")))
        do_conflicts(k, args);
    else if (word(line, "unpark"))
        do_unpark(k);
    else if (word(line, "parked"))
        do_parked(k);
    else if ((args = word(line, "export")))
        do_export(k, args);
    else if (word(line, "flush"))
        do_flush(k);
    else if (word(line, "handover"))
        do_handover(k);
    else
        say(k->fd, "ERR %d unknown request\n", EXIT_USAGE);
}

static bool line_read(int fd, char *line, size_t cap)
{
    size_t n = 0;
    while (n < cap - 1) {
        ssize_t r = recv(fd, line + n, cap - 1 - n, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        n += (size_t)r;
        char *end = memchr(line, '\n', n);
        if (end) {
            *end = 0;
            return true;
        }
    }
    return false;
}

static void *connection_main(void *arg)
{
    struct connection *k = arg;
    struct timeval t = {.tv_sec = REQUEST_TIMEOUT_S};
    char *line = malloc(LINE_MAX_BYTES);
    setsockopt(k->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(k->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    if (line && line_read(k->fd, line, LINE_MAX_BYTES))
        request_serve(k, line);
    free(line);
    pthread_mutex_lock(&k->c->lock);
    close(k->fd);
    k->state = CONNECTION_ENDED;
    pthread_mutex_unlock(&k->c->lock);
    return NULL;
}

static void connection_start(struct control *c, int fd)
{
    struct connection *k = NULL;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX && !k; i++) {
        if (c->v[i].state == CONNECTION_ENDED) {
            pthread_join(c->v[i].thread, NULL);
            c->v[i].state = CONNECTION_FREE;
        }
        if (c->v[i].state == CONNECTION_FREE)
            k = &c->v[i];
    }
    bool ok = k != NULL;
    if (ok) {
        *k = (struct connection){.c = c, .fd = fd, .state = CONNECTION_RUNS};
        ok = pthread_create(&k->thread, NULL, connection_main, k) == 0;
        if (!ok)
            k->state = CONNECTION_FREE;
    }
    pthread_mutex_unlock(&c->lock);
    if (!ok) {
        say(fd, "ERR %d too many control connections\n", EXIT_FAILED);
        close(fd);
    }
}

static void *control_main(void *arg)
{
    struct control *c = arg;
    for (;;) {
        int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
        pthread_mutex_lock(&c->lock);
        bool stopping = c->stopping;
        pthread_mutex_unlock(&c->lock);
        if (stopping) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        if (fd >= 0)
            connection_start(c, fd);
        else if (errno != EINTR && errno != ECONNABORTED)
            usleep(100000); /* out of descriptors: later */
    }
}

/* ---- life ---- */
static int path_choose(struct control *c, const char *state)
{
    if (asprintf(&c->name, "%s/control.sock", state) < 0)
        return -ENOMEM;
    (void)unlink(c->name);
    if (strlen(c->name) < sizeof c->path) {
        memcpy(c->path, c->name, strlen(c->name) + 1);
        return 0;
    }
    const char *run = getenv("XDG_RUNTIME_DIR");
    for (int k = run && strlen(run) < 60 ? 0 : 1; k < 2; k++) {
        if (asprintf(&c->dir, "%s/steadfs-XXXXXX", k ? "/tmp" : run) < 0)
            return -ENOMEM;
        if (mkdtemp(c->dir)) {
            snprintf(c->path, sizeof c->path, "%s/control.sock", c->dir);
            return symlink(c->path, c->name) ? -errno : 0;
        }
        free(c->dir);
        c->dir = NULL;
    }
    return -errno;
}

static int listen_on(struct control *c)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, c->path, sizeof a.sun_path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return -errno;
    mode_t old = umask(0177);
    int r = bind(c->fd, (struct sockaddr *)&a, sizeof a) ? -errno : 0;
    umask(old);
    return r ? r : listen(c->fd, CONTROL_CONNECTIONS_MAX) ? -errno : 0;
}

int control_new(struct control **out, struct fs *fs, char *err)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->fs = fs;
    c->fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    int r = path_choose(c, fs->opt.state);
    if (!r)
        r = listen_on(c);
    if (!r)
        r = -pthread_create(&c->thread, NULL, control_main, c);
    if (r) {
        snprintf(err, 512, "cannot make the control socket %s: %s", c->path, strerror(-r));
        if (c->fd >= 0)
            close(c->fd);
        free(c->dir);
        free(c->name);
        free(c);
        return r;
    }
    snprintf(fs->control_path, sizeof fs->control_path, "%s", c->path);
    *out = c;
    return 0;
}

void control_finishing(struct control *c)
{
    pthread_mutex_lock(&c->lock);
    c->finishing = true;
    pthread_mutex_unlock(&c->lock);
}

const char *control_path(const struct control *c)
{
    return c->path;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_mutex_unlock(&c->lock);
    sync_abandon(c->fs->sync);
    shutdown(c->fd, SHUT_RDWR);
    pthread_join(c->thread, NULL);
    close(c->fd);
    for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        pthread_mutex_lock(&c->lock);
        bool used = c->v[i].state != CONNECTION_FREE;
        if (c->v[i].state == CONNECTION_RUNS)
            shutdown(c->v[i].fd, SHUT_RD); /* the answer may still go out */
        pthread_mutex_unlock(&c->lock);
        if (used)
            pthread_join(c->v[i].thread, NULL);
    }
    unlink(c->path);
    unlink(c->name);
    if (c->dir)
        rmdir(c->dir);
    pthread_mutex_destroy(&c->lock);
    free(c->dir);
    free(c->name);
    free(c);
}
