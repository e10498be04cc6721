// SPDX-License-Identifier: Apache-2.0
/* Log and trace lines.
 *
 * A line is put together in memory and written by one write(2) on a descriptor opened with
 * O_APPEND: threads need no lock, lines do not mix, and a line is in the kernel when the call
 * returns, so that a killed program leaves a log that is true up to its end. A write that fails is
 * given up: there is nowhere to report it. Text from other machines cannot forge lines: control
 * characters become `?` in the log; in values of a trace they, blanks and `%` become %XX.
 */
#include "trace.h"

#include "blockid.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRACE_IDS_MAX 20    /* ids listed; then a count */
#define TRACE_HEX_DIGITS 12 /* of each */
#define LOG_LINE_MAX 4096   /* a longer text is cut */

#define LOG_PLACES 64 /* in the code, that are counted; power of two */

/* How often a place in the code, known by its format, has written in the present window. */
struct place {
    const char *fmt;
    int64_t window;
    unsigned lines, left_out;
};

struct log {
    pthread_mutex_t lock; /* places */
    struct place places[LOG_PLACES];
    int log_fd, trace_fd;        /* trace_fd -1: no trace */
    char *log_path, *trace_path; /* malloc'd; NULL: no file */
    enum log_level level;
    char component[32];
};

static int open_append(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
}

int log_open(struct log **out, const char *component, const char *log_path, const char *trace_path,
             enum log_level level)
{
    int log_fd = log_path ? open_append(log_path) : STDERR_FILENO;
    if (log_fd < 0)
        return log_fd;
    int trace_fd = trace_path ? open_append(trace_path) : -1;
    if (trace_path && trace_fd < 0) {
        if (log_path)
            close(log_fd);
        return trace_fd;
    }
    struct log *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    pthread_mutex_init(&l->lock, NULL);
    l->log_fd = log_fd;
    l->trace_fd = trace_fd;
    l->log_path = log_path ? strdup(log_path) : NULL;
    l->trace_path = trace_path ? strdup(trace_path) : NULL;
    l->level = level;
    snprintf(l->component, sizeof(l->component), "%s", component);
    *out = l;
    return 0;
}

bool log_shows(const struct log *l, enum log_level level)
{
    return l && level <= l->level;
}

int log_level_of(const char *word, enum log_level *out)
{
    static const char *const words[] = {[LOG_L_ERROR] = "error",
                                        [LOG_L_WARN] = "warn",
                                        [LOG_L_INFO] = "info",
                                        [LOG_L_DEBUG] = "debug"};
    for (unsigned k = LOG_L_ERROR; k <= LOG_L_DEBUG; k++)
        if (strcmp(word, words[k]) == 0) {
            *out = (enum log_level)k;
            return 0;
        }
    return -EINVAL;
}

/* Who writes a line meanwhile writes it to the one or the other. */
static int open_again(const char *path, int fd)
{
    int fresh = path ? open_append(path) : -ENOENT;
    int err = !path ? 0 : fresh < 0 ? fresh : dup3(fresh, fd, O_CLOEXEC) < 0 ? -errno : 0;
    if (fresh >= 0)
        close(fresh);
    return err;
}

void log_reopen(struct log *l)
{
    int err = open_again(l->log_path, l->log_fd);
    if (!err)
        err = open_again(l->trace_path, l->trace_fd);
    if (err)
        log_printf(l, LOG_L_ERROR, "the log or trace file cannot be opened anew: %s",
                   strerror(-err));
}

void log_close(struct log *l)
{
    if (!l)
        return;
    free(l->log_path);
    free(l->trace_path);
    if (l->log_fd != STDERR_FILENO)
        close(l->log_fd);
    if (l->trace_fd >= 0)
        close(l->trace_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void write_line(int fd, const void *p, size_t n)
{
    ssize_t done;
    do
        done = write(fd, p, n);
    while (done < 0 && errno == EINTR);
}

/* 2026-01-31T12:00:00.123456Z */
static void append_time(struct buf *b)
{
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    char text[32];
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_append(b, text, n);
    buf_printf(b, ".%06ldZ", ts.tv_nsec / 1000);
}

/* Whether the place may write; *left_out: how many of its lines were not written before. Two places
 * that share a slot share its bound: the later one begins anew. */
static bool may_write(struct log *l, const char *fmt, unsigned *left_out)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t window = ts.tv_sec / LOG_WINDOW_S;
    pthread_mutex_lock(&l->lock);
    struct place *p = &l->places[((uintptr_t)fmt >> 3) & (LOG_PLACES - 1)];
    *left_out = 0;
    if (p->fmt != fmt || p->window != window) {
        *left_out = p->fmt == fmt ? p->left_out : 0;
        *p = (struct place){.fmt = fmt, .window = window};
    }
    bool yes = p->lines < LOG_BURST;
    p->lines += yes;
    p->left_out += !yes;
    pthread_mutex_unlock(&l->lock);
    return yes;
}

static void write_log(struct log *l, enum log_level level, const struct log_where *w,
                      const char *fmt, va_list ap) __attribute__((format(printf, 4, 0)));
static void write_log(struct log *l, enum log_level level, const struct log_where *w,
                      const char *fmt, va_list ap)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    unsigned left_out;
    if (!l || level > l->level || !may_write(l, fmt, &left_out))
        return;
    char text[LOG_LINE_MAX];
    vsnprintf(text, sizeof(text), fmt, ap);
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    struct buf line cleanup_buf = {0};
    append_time(&line);
    buf_printf(&line, " %s %s", names[level], l->component);
    if (w && w->ns)
        buf_printf(&line, " ns=%llu", (unsigned long long)w->ns);
    if (w && w->node)
        buf_printf(&line, " node=%llu", (unsigned long long)w->node);
    if (w && w->device)
        buf_printf(&line, " device=%llu", (unsigned long long)w->device);
    if (w && w->request)
        buf_printf(&line, " request=%llu", (unsigned long long)w->request);
    if (w && w->op && w->op[0])
        buf_printf(&line, " op=%s", w->op);
    buf_printf(&line, ": %s", text);
    if (left_out)
        buf_printf(&line, " (%u lines like this one were left out)", left_out);
    buf_append(&line, "\n", 1);
    write_line(l->log_fd, line.p, line.n);
}

void log_printf(struct log *l, enum log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_log(l, level, NULL, fmt, ap);
    va_end(ap);
}

void log_about(struct log *l, enum log_level level, const struct log_where *where, const char *fmt,
               ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_log(l, level, where, fmt, ap);
    va_end(ap);
}

bool trace_on(const struct log *l)
{
    return l && l->trace_fd >= 0;
}

struct trace trace_begin(struct log *l, const char *step)
{
    struct trace t = {.log = trace_on(l) ? l : NULL};
    if (t.log) {
        append_time(&t.line);
        buf_printf(&t.line, " %s", step);
    }
    return t;
}

void trace_u64(struct trace *t, const char *key, uint64_t value)
{
    if (t->log)
        buf_printf(&t->line, " %s=%llu", key, (unsigned long long)value);
}

void trace_str(struct trace *t, const char *key, const char *value)
{
    if (!t->log)
        return;
    buf_printf(&t->line, " %s=", key);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p <= 0x20 || *p == 0x7f || *p == '%')
            buf_printf(&t->line, "%%%02X", *p);
        else
            buf_append(&t->line, p, 1);
    }
}

void trace_ids(struct trace *t, const char *key, const struct block_id *ids, size_t n)
{
    if (!t->log)
        return;
    buf_printf(&t->line, " %s=", key);
    for (size_t i = 0; i < n && i < TRACE_IDS_MAX; i++) {
        char hex[BLOCK_HEX_LEN + 1];
        block_id_hex(&ids[i], hex);
        buf_printf(&t->line, "%s%.*s", i ? "," : "", TRACE_HEX_DIGITS, hex);
    }
    if (n > TRACE_IDS_MAX)
        buf_printf(&t->line, "(+%zu)", n - TRACE_IDS_MAX);
}

void trace_end(struct trace *t)
{
    if (t->log) {
        buf_append(&t->line, "\n", 1);
        write_line(t->log->trace_fd, t->line.p, t->line.n);
    }
    buf_free(&t->line);
    t->log = NULL;
}
