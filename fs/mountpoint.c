// SPDX-License-Identifier: Apache-2.0
/* The checks that give a clear line instead of a surprise: files below a mount are hidden while it
 * lasts, and a mount whose process died answers everything with ENOTCONN until it is unmounted. */
#include "mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int is_empty(const char *path, bool *empty)
{
    DIR *d = opendir(path);
    struct dirent *e;
    if (!d)
        return -errno;
    *empty = true;
    while (*empty && (e = readdir(d)))
        *empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    return 0;
}

static int check(const char *path, bool nonempty, char *err)
{
    struct stat st, above;
    char *parent;
    bool empty = true;
    if (stat(path, &st))
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (asprintf(&parent, "%s/..", path) < 0)
        return -ENOMEM;
    bool other = stat(parent, &above) == 0 && above.st_dev != st.st_dev;
    free(parent);
    if (other && !nonempty) {
        snprintf(err, 512, "%s: something is mounted there already", path);
        return -EBUSY;
    }
    int r = is_empty(path, &empty);
    return r ? r : empty || nonempty ? 0 : -ENOTEMPTY;
}

int mountpoint_check(char **path, bool nonempty, char *err)
{
    char *abs = realpath(*path, NULL);
    err[0] = 0;
    int r = abs ? check(abs, nonempty, err) : -errno;
    if (abs) {
        free(*path);
        *path = abs;
    }
    if (!r || err[0])
        return r;
    const char *what =
        r == -ENOENT      ? "no such directory: make it first"
        : r == -ENOTDIR   ? "not a directory"
        : r == -ENOTEMPTY ? "the directory is not empty: choose another, or -o nonempty"
        : r == -ENOTCONN  ? "a mount whose process has died is there: fusermount3 -u it first"
                          : strerror(-r);
    snprintf(err, 512, "%s: %s", *path, what);
    return r;
}
