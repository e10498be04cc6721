// SPDX-License-Identifier: Apache-2.0
/* The control socket answers so many at a time; one more is told so, and a place that is free again
 * is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "fs.h"

static int connected(const struct fs *fs)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval t = {.tv_sec = 10};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", fs->control_path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* What the mount says to the end. */
static void heard(int fd, char text[200])
{
    size_t n = 0;
    ssize_t r;
    while (n < 199 && (r = recv(fd, text + n, 199 - n, 0)) > 0)
        n += (size_t)r;
    text[n] = 0;
    close(fd);
}

static void one_connection_too_many(void **state)
{
    (void)state;
    char dir[] = "/tmp/steadfs-test-XXXXXX", err[512], text[200], path[300];
    int fds[CONTROL_CONNECTIONS_MAX];
    struct control *c;
    assert_non_null(mkdtemp(dir));
    struct fs fs = {.opt = {.state = dir}};
    assert_int_equal(control_new(&c, &fs, err), 0);
    for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        fds[i] = connected(&fs);
    heard(connected(&fs), text);
    assert_non_null(strstr(text, "too many"));
    assert_int_equal(send(fds[0], "nonsense\n", 9, MSG_NOSIGNAL), 9);
    heard(fds[0], text);
    assert_non_null(strstr(text, "unknown request"));
    for (int tries = 0; tries < 1000 && !strstr(text, "ERR 2"); tries++) { /* its thread ends */
        int fd = connected(&fs);
        (void)send(fd, "nonsense\n", 9, MSG_NOSIGNAL);
        heard(fd, text);
    }
    assert_non_null(strstr(text, "unknown request"));
    for (size_t i = 1; i < CONTROL_CONNECTIONS_MAX; i++) { /* all of them are served */
        assert_int_equal(send(fds[i], "nonsense\n", 9, MSG_NOSIGNAL), 9);
        heard(fds[i], text);
        assert_non_null(strstr(text, "unknown request"));
    }
    control_free(c);
    snprintf(path, sizeof path, "%s/control.sock", dir);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_connection_too_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
