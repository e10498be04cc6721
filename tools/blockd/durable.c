// SPDX-License-Identifier: Apache-2.0
/* A rename is atomic, but neither the bytes nor the name are on disk by it: fdatasync before, fsync
 * of the directory after, in this order. */
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void join(struct buf *b, const char *dir, const char *name, const char *suffix)
{
    buf_printf(b, "%s/%s%s", dir, name, suffix);
    buf_append(b, "", 1);
}

int write_error(int err)
{
    return err == EDQUOT || err == EFBIG ? -ENOSPC : -err;
}

int write_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t w = write(fd, at, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? write_error(errno) : -ENOSPC;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

int durable_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int durable_mkdir(const char *path)
{
    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : write_error(errno);
    char *copy = strdup(path);
    if (!copy)
        abort();
    int r = durable_sync_dir(dirname(copy));
    free(copy);
    return r;
}

int durable_write(const char *dir, const char *name, const void *p, size_t n, mode_t mode)
{
    struct buf path cleanup_buf = {0}, aside cleanup_buf = {0};
    join(&path, dir, name, "");
    join(&aside, dir, name, ".new");
    int fd = open((char *)aside.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return write_error(errno);
    int r = write_all(fd, p, n);
    if (!r && fdatasync(fd) < 0)
        r = write_error(errno);
    close(fd);
    if (!r && rename((char *)aside.p, (char *)path.p) < 0)
        r = write_error(errno);
    if (r)
        unlink((char *)aside.p);
    return r ? r : durable_sync_dir(dir);
}

int durable_read(const char *dir, const char *name, size_t max, struct buf *out)
{
    struct buf path cleanup_buf = {0};
    join(&path, dir, name, "");
    int fd = open((char *)path.p, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char chunk[4096];
    size_t start = out->n;
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0 && out->n - start <= max)
        buf_append(out, chunk, (size_t)n);
    int r = n < 0 ? -errno : out->n - start > max ? -EMSGSIZE : 0;
    close(fd);
    buf_append(out, "", 1);
    out->n--;
    return r;
}

int durable_remove(const char *dir, const char *name)
{
    struct buf path cleanup_buf = {0};
    join(&path, dir, name, "");
    if (unlink((char *)path.p) < 0)
        return errno == ENOENT ? 0 : -errno;
    return durable_sync_dir(dir);
}

int durable_take(const char *dir, int *fd, char *err)
{
    struct buf path cleanup_buf = {0};
    int r = durable_mkdir(dir);
    if (r) {
        snprintf(err, 512, "cannot make %s: %s", dir, strerror(-r));
        return r;
    }
    join(&path, dir, "lock", "");
    *fd = open((char *)path.p, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    r = *fd < 0 ? -errno : flock(*fd, LOCK_EX | LOCK_NB) < 0 ? -EBUSY : 0;
    if (r == -EBUSY)
        snprintf(err, 512, "%s is in use by another block server", dir);
    else if (r)
        snprintf(err, 512, "cannot use %s: %s", (char *)path.p, strerror(-r));
    return r;
}
