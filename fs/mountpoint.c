// SPDX-License-Identifier: Apache-2.0
/* The checks that give a clear line instead of a surprise: files below a mount are hidden while it
 * lasts, and a mount whose process died answers everything with ENOTCONN until it is unmounted. */
#include "mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

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

static const struct {
    const char *word;
    unsigned long set, clear;
} flag_words[] = {
    {"nodev", MS_NODEV, 0},     {"dev", 0, MS_NODEV},         {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},     {"noexec", MS_NOEXEC, 0},     {"exec", 0, MS_NOEXEC},
    {"noatime", MS_NOATIME, 0}, {"atime", 0, MS_NOATIME},     {"sync", MS_SYNCHRONOUS, 0},
    {"dirsync", MS_DIRSYNC, 0}, {"async", 0, MS_SYNCHRONOUS},
};

int mountpoint_remount(const char *path, const char *words, bool read_only, char *err)
{
    static const struct {
        unsigned long now, flag;
    } kept[] = {{ST_NODEV, MS_NODEV},
                {ST_NOSUID, MS_NOSUID},
                {ST_NOEXEC, MS_NOEXEC},
                {ST_NOATIME, MS_NOATIME},
                {ST_SYNCHRONOUS, MS_SYNCHRONOUS}};
    unsigned long flags = MS_REMOUNT | (read_only ? MS_RDONLY : 0);
    struct statvfs now;
    if (statvfs(path, &now) == 0)
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            flags |= now.f_flag & kept[i].now ? kept[i].flag : 0;
    while (words && *words) {
        size_t n = strcspn(words, ",");
        for (size_t i = 0; i < sizeof flag_words / sizeof *flag_words; i++) {
            if (strlen(flag_words[i].word) != n || strncmp(flag_words[i].word, words, n) != 0)
                continue;
            flags |= flag_words[i].set;
            flags &= ~flag_words[i].clear;
        }
        words += n + (words[n] == ',');
    }
    if (mount(NULL, path, NULL, flags, NULL) == 0)
        return 0;
    int r = -errno;
    snprintf(err, 512, "%s cannot be remounted: %s", path,
             r == -EPERM    ? "only root may do that"
             : r == -EINVAL ? "nothing is mounted there"
                            : strerror(-r));
    return r;
}
