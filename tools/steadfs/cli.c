// SPDX-License-Identifier: Apache-2.0
/* Helpers of the command line. Errors are one line each, because scripts show them to people. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

static void line(FILE *to, const char *before, const char *fmt, va_list ap)
{
    cleanup_free char *text = NULL;
    cleanup_buf struct buf out = {0};
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    text_shown(&out, bytes_str(text));
    fprintf(to, "%s%.*s\n", before, (int)out.n, (const char *)out.p);
}

void cli_line(FILE *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line(to, "", fmt, ap);
    va_end(ap);
}

int cli_fail(const struct subcommand *c, int status, const char *fmt, ...)
{
    cleanup_free char *before = cli_format("steadfs %s: ", c->name);
    va_list ap;
    va_start(ap, fmt);
    line(stderr, before, fmt, ap);
    va_end(ap);
    return status;
}

int cli_usage(const struct subcommand *c, const char *fmt, ...)
{
    va_list ap;
    cleanup_free char *text = NULL;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    cli_line(stderr, "steadfs %s: %s; see steadfs %s --help", c->name, text, c->name);
    return EXIT_USAGE;
}

int cli_help(const struct subcommand *c)
{
    printf("usage: steadfs %s%s%s", c->name, *c->usage == '\n' ? "" : " ", c->usage);
    return EXIT_DONE;
}

bool cli_seconds(const char *text, unsigned *ms)
{
    char *end;
    errno = 0;
    double seconds = strtod(text, &end);
    if (errno || end == text || *end || !(seconds >= 0) || seconds > 4e6)
        return false;
    *ms = (unsigned)(seconds * 1000);
    return true;
}

int cli_rpc_status(int err)
{
    switch (err) {
    case 0:
        return EXIT_DONE;
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ETIMEDOUT:
    case -ECONNRESET:
    case -EAGAIN:
        return EXIT_UNREACHABLE;
    case -EACCES:
    case -EPERM:
    case -EKEYREJECTED:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

char *cli_format(const char *fmt, ...)
{
    char *text;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    return text;
}

char *cli_read_file(const char *path, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char *text = malloc(max + 1);
    if (!text)
        abort();
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && n < max) {
        got = read(fd, text + n, max - n);
        n += got > 0 ? (size_t)got : 0;
    }
    int err = got < 0 ? errno : n == max ? EFBIG : 0;
    close(fd);
    if (err) {
        free(text);
        errno = err;
        return NULL;
    }
    text[n] = 0;
    return text;
}

static int write_all(int fd, const char *text)
{
    size_t n = strlen(text);
    while (n > 0) {
        ssize_t put = write(fd, text, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        text += put;
        n -= (size_t)put;
    }
    return fsync(fd) ? -errno : 0;
}

int cli_write_private(const char *path, const char *text)
{
    cleanup_free char *fresh = cli_format("%s.new", path);
    unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int err = write_all(fd, text);
    close(fd);
    if (!err && rename(fresh, path))
        err = -errno;
    if (err) {
        unlink(fresh);
        return err;
    }
    cleanup_free char *dir = cli_format("%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = 0;
    fd = open(slash ? (slash == dir ? "/" : dir) : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    return 0;
}

void cli_free(void *p)
{
    free(*(void **)p);
}
