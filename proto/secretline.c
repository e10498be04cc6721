// SPDX-License-Identifier: Apache-2.0
#include "secretline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int secretline_read(const char *path, const char *what, char out[SECRETLINE_MAX])
{
    int input = !strcmp(path, "-"), r = 0;
    int fd = input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    if (fd < 0)
        return -errno;
    if (input && isatty(fd))
        fprintf(stderr, "%s: ", what);
    while (!memchr(out, '\n', n)) {
        ssize_t got = n + 1 < SECRETLINE_MAX ? read(fd, out + n, SECRETLINE_MAX - 1 - n) : 0;
        r = got < 0 ? -errno : n + 1 == SECRETLINE_MAX ? -EMSGSIZE : 0;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (!input)
        close(fd);
    out[n] = '\0';
    size_t skip = strspn(out, " \t"), len = strcspn(out + skip, "\r\n");
    memmove(out, out + skip, len);
    while (len && (out[len - 1] == ' ' || out[len - 1] == '\t'))
        len--;
    explicit_bzero(out + len, SECRETLINE_MAX - len);
    return r ? r : len ? 0 : -ENODATA;
}

void secretline_hide(char *argument)
{
    memset(argument, 'x', strlen(argument));
}
