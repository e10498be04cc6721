// SPDX-License-Identifier: Apache-2.0
/* The asking side of the control socket: one line there, one line back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"

/* The answer's first line, without its newline. */
static int exchange(int fd, const char *line, char *answer, size_t cap)
{
    size_t n = 0, len = strlen(line);
    if (send(fd, line, len, MSG_NOSIGNAL) != (ssize_t)len || send(fd, "\n", 1, MSG_NOSIGNAL) != 1)
        return -errno;
    while (n < cap - 1) {
        ssize_t r = recv(fd, answer + n, cap - 1 - n, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r ? -errno : -EPIPE;
        n += (size_t)r;
        char *end = memchr(answer, '\n', n);
        if (end) {
            *end = 0;
            return strncmp(answer, "OK", 2) == 0 ? 0 : -EREMOTEIO;
        }
    }
    return -EMSGSIZE;
}

int control_ask(const char *state, const char *line, unsigned timeout_ms, char *answer, size_t cap)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval t = {.tv_sec = timeout_ms / 1000,
                        .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    char *path, target[sizeof a.sun_path];
    if (asprintf(&path, "%s/control.sock", state) < 0)
        return -ENOMEM;
    ssize_t n = readlink(path, target, sizeof target - 1);
    int r = 0;
    if (n > 0)
        memcpy(a.sun_path, target, (size_t)n);
    else if (strlen(path) < sizeof a.sun_path)
        memcpy(a.sun_path, path, strlen(path));
    else
        r = -ENAMETOOLONG;
    free(path);
    if (r)
        return r;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
        r = -errno;
        close(fd);
        return r;
    }
    r = exchange(fd, line, answer, cap);
    close(fd);
    return r;
}
