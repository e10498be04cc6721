// SPDX-License-Identifier: Apache-2.0
/* Why it failed is only in what it writes, in English always (it sets no locale). */
#include "fusermount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void run(const char *mountpoint, bool lazy, int err_fd)
{
    const char *argv[] = {
        "fusermount3", "-u", lazy ? "-z" : "--", lazy ? "--" : mountpoint, lazy ? mountpoint : NULL,
        NULL};
    if (dup2(err_fd, STDERR_FILENO) >= 0)
        execvp(argv[0], (char *const *)argv);
    _exit(127);
}

/* All that the program writes, of which what fits is kept; without the newline at its end. */
static void read_all(int fd, char *out)
{
    size_t len = 0;
    char chunk[256];
    for (ssize_t r; (r = read(fd, chunk, sizeof chunk)) > 0 || (r < 0 && errno == EINTR);) {
        size_t n = r > 0 ? (size_t)r : 0;
        size_t room = FUSERMOUNT_WHY - 1 - len;
        memcpy(out + len, chunk, n < room ? n : room);
        len += n < room ? n : room;
    }
    while (len && out[len - 1] == '\n')
        len--;
    out[len] = '\0';
}

static int outcome(int how, char *why)
{
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
        return 0;
    if (WIFEXITED(how) && WEXITSTATUS(how) == 127) {
        snprintf(why, FUSERMOUNT_WHY, "fusermount3 cannot be run; it is in the package fuse3");
        return -ENOENT;
    }
    if (strstr(why, "busy")) {
        why[0] = '\0';
        return -EBUSY;
    }
    if (strstr(why, "/etc/mtab"))
        strncat(why, "; as root: ln -s /proc/self/mounts /etc/mtab",
                FUSERMOUNT_WHY - 1 - strlen(why));
    if (!*why)
        snprintf(why, FUSERMOUNT_WHY, "fusermount3 failed and did not say why");
    return -EIO;
}

int fusermount(const char *mountpoint, bool lazy, char *why)
{
    int p[2];
    why[0] = '\0';
    if (pipe2(p, O_CLOEXEC))
        return -errno;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        run(mountpoint, lazy, p[1]);
    int err = child < 0 ? -errno : 0;
    close(p[1]);
    read_all(p[0], why);
    close(p[0]);
    int how = 0;
    while (!err && waitpid(child, &how, 0) != child)
        err = errno == EINTR ? 0 : -errno;
    return err ? err : outcome(how, why);
}
