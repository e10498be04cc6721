// SPDX-License-Identifier: Apache-2.0
/* The socket's path can be longer than a unix address holds (about 107 bytes): then it is reached
 * through /proc/self/fd/N of its directory, which is short. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20)

static int connect_to(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int dir = -1;
    if (strlen(path) < sizeof a.sun_path) {
        snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    } else {
        cleanup_free char *parent = cli_format("%s", path);
        char *slash = strrchr(parent, '/');
        if (!slash)
            return -ENAMETOOLONG;
        *slash = 0;
        dir = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            return -errno;
        snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%.80s", dir, slash + 1);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err = fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) ? -errno : 0;
    if (dir >= 0)
        close(dir);
    if (!err)
        return fd;
    if (fd >= 0)
        close(fd);
    return err;
}

/* What has been received so far, taken apart line by line. */
struct answer {
    struct buf in;
    size_t parsed; /* bytes of in that were lines before the verdict, verdict included */
    bool verdict;
    int status;
};

static void take_lines(struct answer *a, void (*progress)(void *arg, const char *line), void *arg,
                       char *text)
{
    while (!a->verdict && a->parsed < a->in.n) {
        char *line = (char *)a->in.p + a->parsed;
        char *end = memchr(line, '\n', a->in.n - a->parsed);
        if (!end)
            return;
        *end = 0;
        a->parsed = (size_t)(end - (char *)a->in.p) + 1;
        if (!strncmp(line, "- ", 2)) {
            if (progress)
                progress(arg, line + 2);
            continue;
        }
        a->verdict = true;
        if (strncmp(line, "ERR ", 4) != 0) {
            a->status = strcmp(line, "OK") ? EXIT_FAILED : EXIT_DONE;
            if (a->status)
                snprintf(text, 512, "the mount answered '%.100s'", line);
            continue;
        }
        char *rest;
        long status = strtol(line + 4, &rest, 10);
        a->status = status > 0 && status <= EXIT_PENDING ? (int)status : EXIT_FAILED;
        snprintf(text, 512, "%s", rest + strspn(rest, " "));
    }
}

/* 1: more came; 0: the end; -errno. */
static int receive(int fd, struct answer *a, unsigned timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, timeout_ms > INT32_MAX ? -1 : (int)timeout_ms);
    if (ready < 0)
        return errno == EINTR ? 1 : -errno;
    if (ready == 0)
        return -ETIMEDOUT;
    char piece[8192];
    ssize_t n = recv(fd, piece, sizeof piece, 0);
    if (n < 0)
        return errno == EINTR ? 1 : -errno;
    if (a->in.n + (size_t)n > ANSWER_MAX)
        return -EMSGSIZE;
    buf_append(&a->in, piece, (size_t)n);
    return n > 0;
}

int control_ask(const char *socket_path, const char *request, unsigned timeout_ms,
                void (*progress)(void *arg, const char *line), void *arg, struct buf *body,
                char *text, pid_t *pid)
{
    text[0] = 0;
    int fd = connect_to(socket_path);
    if (fd < 0) {
        snprintf(text, 512, "the mount does not answer (%s)", strerror(-fd));
        return EXIT_UNREACHABLE;
    }
    struct ucred peer = {0};
    socklen_t peer_len = sizeof peer;
    if (pid && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) == 0)
        *pid = peer.pid;
    cleanup_free char *line = cli_format("%s\n", request);
    int err = send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 ? -errno : 1;
    struct answer a = {.status = EXIT_UNREACHABLE};
    while (err > 0) {
        err = receive(fd, &a, timeout_ms);
        take_lines(&a, progress, arg, text);
    }
    close(fd);
    if (err < 0 || !a.verdict) {
        a.status = EXIT_UNREACHABLE;
        snprintf(text, 512, "the mount broke off (%s)", err ? strerror(-err) : "no answer");
    } else if (body) {
        buf_append(body, a.in.p + a.parsed, a.in.n - a.parsed);
    }
    buf_free(&a.in);
    return a.status;
}
