// SPDX-License-Identifier: Apache-2.0
/* FUSE: mounting, serving and unmounting.
 *
 * One thread serves the session: waking another thread for a request costs more than most requests
 * do, and none of them waits here (vfs.c). It polls the device together with an event that vfs_stop
 * raises, so that it can be told to end while nothing comes from the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse_int.h"

#define READ_AHEAD_KB 4096

/* Raises the kernel's readahead, which only root may; the default halves the speed of large reads.
 * What the kernel holds of the mount point is enough, and it must be: this is the thread that
 * answers. */
static void raise_readahead(const char *mountpoint)
{
    struct statx st;
    char path[64];
    if (geteuid() != 0 || statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC, 0, &st) != 0)
        return;
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major,
             st.stx_dev_minor);
    FILE *f = fopen(path, "we");
    if (f == NULL)
        return;
    fprintf(f, "%d\n", READ_AHEAD_KB);
    fclose(f);
}

#ifdef HAVE_CUSTOM_IO
static ssize_t request_read(int fd, void *buf, size_t n, void *front)
{
    (void)front;
    return read(fd, buf, n);
}

static ssize_t answer_write(int fd, struct iovec *iov, int n, void *front)
{
    fuse_beneath_answer(&((struct front *)front)->below, iov, (size_t)n);
    return writev(fd, iov, n);
}

/* The same descriptor, but answers pass by us. */
static int look_beneath(struct front *f)
{
    static const struct fuse_custom_io io = {.read = request_read, .writev = answer_write};
    return fuse_session_custom_io(f->se, &io, fuse_session_fd(f->se));
}
#else
static int look_beneath(struct front *f)
{
    (void)f; /* then the kernel does what the added flags would have left to us */
    return 0;
}
#endif

/* Calls mount_done when the first request is answered: then the kernel knows what we can. */
static void serve(struct front *f, void (*mount_done)(void *arg), void *arg)
{
    bool told = false;
    struct fuse_buf buf = {0};
    struct pollfd fds[2] = {{.fd = fuse_session_fd(f->se), .events = POLLIN},
                            {.fd = f->stop, .events = POLLIN}};
    while (!fuse_session_exited(f->se)) {
        if (poll(fds, 2, -1) < 0)
            continue; /* EINTR; the arguments are in order */
        if (fds[1].revents != 0)
            break;
        if (fds[0].revents == 0)
            continue;
        int n = fuse_session_receive_buf(f->se, &buf);
        if (n == -EINTR || n == -EAGAIN)
            continue;
        if (n < 0)
            log_printf(vfs_fs(f->vfs)->log, LOG_L_ERROR, "reading requests from the kernel: %s",
                       strerror(-n));
        if (n <= 0) /* 0: unmounted */
            break;
        if ((buf.flags & FUSE_BUF_IS_FD) == 0)
            buf.size = fuse_beneath_request(&f->below, buf.mem, buf.size);
        fuse_session_process_buf(f->se, &buf);
        if (told)
            continue;
        told = true;
        raise_readahead(vfs_fs(f->vfs)->opt.mountpoint);
        if (mount_done != NULL)
            mount_done(arg);
    }
    free(buf.mem);
}

static int session_args(const struct fs *fs, struct fuse_args *args)
{
    char opts[1024];
    int n = snprintf(opts, sizeof(opts), "subtype=%s,fsname=%s%s%s%s%s%s",
                     fs->opt.subtype != NULL ? fs->opt.subtype : "steadfs",
                     fs->opt.source != NULL ? fs->opt.source : "steadfs",
                     fs->opt.allow_other ? ",allow_other" : "",
                     fs->opt.default_permissions ? ",default_permissions" : "",
                     fs->opt.read_only ? ",ro" : "", fs->opt.kernel_options != NULL ? "," : "",
                     fs->opt.kernel_options != NULL ? fs->opt.kernel_options : "");
    if (n < 0 || (size_t)n >= sizeof(opts))
        return -E2BIG;
    bool good = fuse_opt_add_arg(args, "steadfs") == 0 && fuse_opt_add_arg(args, "-o") == 0 &&
                fuse_opt_add_arg(args, opts) == 0;
    return good ? 0 : -ENOMEM;
}

static int mount_session(struct front *f, struct fs *fs, char *err)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int rc = session_args(fs, &args);
    if (rc == 0)
        f->se = fuse_session_new(&args, &front_operations, sizeof(front_operations), f);
    fuse_opt_free_args(&args);
    if (f->se == NULL) {
        snprintf(err, 512, "the mount options are not understood");
        return rc != 0 ? rc : -EINVAL;
    }
    if (fuse_session_mount(f->se, fs->opt.mountpoint) != 0) {
        snprintf(err, 512,
                 "%s cannot be mounted on: is it an empty directory of yours, and is /dev/fuse "
                 "there and open to you?",
                 fs->opt.mountpoint);
        fuse_session_destroy(f->se);
        return -EIO;
    }
    int fd = fuse_session_fd(f->se);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return look_beneath(f);
}

int vfs_serve(struct vfs *v, void (*mount_done)(void *arg), void *arg, char *err)
{
    struct fs *fs = vfs_fs(v);
    struct front f = {.vfs = v, .stop = eventfd(0, EFD_CLOEXEC)};
    if (f.stop < 0)
        return -errno;
    int rc = mount_session(&f, fs, err);
    if (rc != 0) {
        close(f.stop);
        return rc;
    }
    struct vfs_front front = front_vtable(&f);
    rc = vfs_attach_front(v, &front);
    if (rc == 0) {
        pthread_mutex_lock(&fs->lock);
        v->serving = &f;
        pthread_mutex_unlock(&fs->lock);
        serve(&f, mount_done, arg);
        pthread_mutex_lock(&fs->lock);
        v->serving = NULL;
        pthread_mutex_unlock(&fs->lock);
        vfs_detach_front(v);
    } else {
        snprintf(err, 512, "the root directory is not known yet: %s", strerror(-rc));
    }
    fuse_session_unmount(f.se);
    fuse_session_destroy(f.se);
    close(f.stop);
    return rc;
}

static bool run_fusermount(const char *mountpoint, bool lazy)
{
    char *args[] = {"fusermount3", "-u", "-q", lazy ? "-z" : "--", (char *)(uintptr_t)mountpoint,
                    NULL};
    extern char **environ;
    pid_t pid;
    int status;
    return posix_spawnp(&pid, args[0], NULL, NULL, args, environ) == 0 &&
           waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void vfs_stop(struct vfs *v)
{
    struct fs *fs = vfs_fs(v);
    const char *mountpoint = fs->opt.mountpoint;
    pthread_mutex_lock(&fs->lock);
    bool serving = v->serving != NULL;
    pthread_mutex_unlock(&fs->lock);
    if (!serving)
        return;
    int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        syncfs(fd); /* pages dirtied through mmap reach us while we still serve */
        close(fd);
    }
    bool gone = umount2(mountpoint, 0) == 0 || run_fusermount(mountpoint, false);
    if (gone)
        return; /* the serving thread sees the end of the session */
    if (umount2(mountpoint, MNT_DETACH) != 0)
        run_fusermount(mountpoint, true);
    pthread_mutex_lock(&fs->lock);
    uint64_t one = 1;
    if (v->serving != NULL && write(((struct front *)v->serving)->stop, &one, sizeof(one)) < 0)
        log_printf(fs->log, LOG_L_ERROR, "the serving thread cannot be stopped: %s",
                   strerror(errno));
    pthread_mutex_unlock(&fs->lock);
}
