// SPDX-License-Identifier: Apache-2.0
/* passthrough SOURCE MOUNTPOINT [-o OPTIONS]: shows SOURCE at MOUNTPOINT, through FUSE and nothing
 * else.
 *
 * The floor for any FUSE filesystem in C on this machine: what the kernel, the request's way
 * through /dev/fuse and one more system call cost, with the caching that steadfs asks for as well
 * (long timeouts, kept pages, writeback, readdirplus). It stays in the foreground and ends when
 * unmounted.
 *
 * An inode is an O_PATH descriptor; the kernel's nodeid is its slot's address. Inodes are found by
 * (device, inode number) in a small hash table, so that hard links are one. One thread: on one
 * mount that is what costs least. Names are resolved below the parent's descriptor and never
 * through symbolic links, so nothing outside SOURCE is reached.
 */
#define FUSE_USE_VERSION 34
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TIMEOUT_S 3600.0
#define BUCKETS 65536

struct inode {
    struct inode *next;
    int fd; /* O_PATH */
    dev_t dev;
    ino_t ino;
    uint64_t lookups;
};

struct passthrough {
    struct inode root;
    struct inode *buckets[BUCKETS];
};

static struct passthrough *self(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct inode *inode_of(fuse_req_t req, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? &self(req)->root : (struct inode *)ino;
}

static int fd_of(fuse_req_t req, fuse_ino_t ino)
{
    return inode_of(req, ino)->fd;
}

/* A path by which the inode can be opened again. */
static const char *proc_path(int fd, char path[64])
{
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return path;
}

static struct inode **slot(struct passthrough *p, dev_t dev, ino_t ino)
{
    struct inode **s = &p->buckets[(ino * 0x9e3779b97f4a7c15u + dev) >> 48 & (BUCKETS - 1)];
    while (*s && ((*s)->ino != ino || (*s)->dev != dev))
        s = &(*s)->next;
    return s;
}

/* Fills the entry and counts a lookup; 0 or an errno. */
static int look_up(fuse_req_t req, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
    memset(e, 0, sizeof *e);
    e->attr_timeout = e->entry_timeout = TIMEOUT_S;
    int fd = openat(fd_of(req, parent), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    if (fstatat(fd, "", &e->attr, AT_EMPTY_PATH)) {
        int err = errno;
        close(fd);
        return err;
    }
    struct inode **s = slot(self(req), e->attr.st_dev, e->attr.st_ino);
    if (*s) {
        close(fd);
    } else {
        *s = calloc(1, sizeof **s);
        if (!*s) {
            close(fd);
            return ENOMEM;
        }
        **s = (struct inode){.fd = fd, .dev = e->attr.st_dev, .ino = e->attr.st_ino};
    }
    (*s)->lookups++;
    e->ino = (uintptr_t)*s;
    return 0;
}

static void answer_entry(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    int err = look_up(req, parent, name, &e);
    if (err)
        fuse_reply_err(req, err);
    else
        fuse_reply_entry(req, &e);
}

static void answer(fuse_req_t req, int failed)
{
    fuse_reply_err(req, failed ? errno : 0);
}

static void pt_init(void *data, struct fuse_conn_info *conn)
{
    (void)data;
    conn->want |= conn->capable & FUSE_CAP_WRITEBACK_CACHE;
    conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
}

static void pt_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    int err = look_up(req, parent, name, &e);
    if (err == ENOENT) {
        e.ino = 0; /* a name known to be absent */
        err = 0;
    }
    if (err)
        fuse_reply_err(req, err);
    else
        fuse_reply_entry(req, &e);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    struct inode *i = inode_of(req, ino);
    if (ino == FUSE_ROOT_ID || (i->lookups -= n) > 0)
        return;
    *slot(self(req), i->dev, i->ino) = i->next;
    close(i->fd);
    free(i);
}

static void pt_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    forget(req, ino, n);
    fuse_reply_none(req);
}

static void pt_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
    for (size_t i = 0; i < count; i++)
        forget(req, f[i].ino, f[i].nlookup);
    fuse_reply_none(req);
}

static void pt_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    (void)fi;
    if (fstatat(fd_of(req, ino), "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
        fuse_reply_err(req, errno);
    else
        fuse_reply_attr(req, &st, TIMEOUT_S);
}

static struct timespec time_to_set(int to_set, int given, int now, struct timespec t)
{
    if (to_set & now)
        return (struct timespec){0, UTIME_NOW};
    return to_set & given ? t : (struct timespec){0, UTIME_OMIT};
}

static void pt_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
                       struct fuse_file_info *fi)
{
    char path[64];
    int fd = fd_of(req, ino), bad = 0;
    proc_path(fd, path);
    if (to_set & FUSE_SET_ATTR_MODE)
        bad = chmod(path, st->st_mode);
    if (!bad && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
        bad = fchownat(fd, "", to_set & FUSE_SET_ATTR_UID ? st->st_uid : (uid_t)-1,
                       to_set & FUSE_SET_ATTR_GID ? st->st_gid : (gid_t)-1,
                       AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
    if (!bad && to_set & FUSE_SET_ATTR_SIZE)
        bad = fi ? ftruncate((int)fi->fh, st->st_size) : truncate(path, st->st_size);
    if (!bad && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
        struct timespec t[2] = {
            time_to_set(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, st->st_atim),
            time_to_set(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, st->st_mtim)};
        bad = fi ? futimens((int)fi->fh, t) : utimensat(AT_FDCWD, path, t, 0);
    }
    if (bad)
        fuse_reply_err(req, errno);
    else
        pt_getattr(req, ino, fi);
}

static void pt_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[4097];
    ssize_t n = readlinkat(fd_of(req, ino), "", target, sizeof target - 1);
    if (n < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    target[n] = 0;
    fuse_reply_readlink(req, target);
}

static void pt_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    if (mknodat(fd_of(req, parent), name, mode, rdev))
        fuse_reply_err(req, errno);
    else
        answer_entry(req, parent, name);
}

static void pt_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    if (mkdirat(fd_of(req, parent), name, mode))
        fuse_reply_err(req, errno);
    else
        answer_entry(req, parent, name);
}

static void pt_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    if (symlinkat(target, fd_of(req, parent), name))
        fuse_reply_err(req, errno);
    else
        answer_entry(req, parent, name);
}

static void pt_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    char path[64];
    if (linkat(AT_FDCWD, proc_path(fd_of(req, ino), path), fd_of(req, parent), name,
               AT_SYMLINK_FOLLOW))
        fuse_reply_err(req, errno);
    else
        answer_entry(req, parent, name);
}

static void pt_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    answer(req, unlinkat(fd_of(req, parent), name, 0));
}

static void pt_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    answer(req, unlinkat(fd_of(req, parent), name, AT_REMOVEDIR));
}

static void pt_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
                      const char *to_name, unsigned flags)
{
    answer(req, renameat2(fd_of(req, parent), name, fd_of(req, to), to_name, flags));
}

/* Writeback: the kernel reads what it fills up, and knows itself where an append goes. Requests are
 * not aligned as O_DIRECT asks. */
static int open_flags(int flags)
{
    if ((flags & O_ACCMODE) == O_WRONLY)
        flags = (flags & ~O_ACCMODE) | O_RDWR;
    return (flags & ~(O_APPEND | O_NOFOLLOW | O_DIRECT)) | O_CLOEXEC;
}

static void pt_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    struct fuse_entry_param e;
    int fd = openat(fd_of(req, parent), name, open_flags(fi->flags) | O_CREAT | O_NOFOLLOW, mode);
    int err = fd < 0 ? errno : look_up(req, parent, name, &e);
    if (err) {
        if (fd >= 0)
            close(fd);
        fuse_reply_err(req, err);
        return;
    }
    fi->fh = (uint64_t)fd;
    fi->keep_cache = 1;
    fuse_reply_create(req, &e, fi);
}

static void pt_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    char path[64];
    int fd = open(proc_path(fd_of(req, ino), path), open_flags(fi->flags));
    if (fd < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    fi->fh = (uint64_t)fd;
    fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}

static void pt_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    struct fuse_bufvec b = FUSE_BUFVEC_INIT(size);
    (void)ino;
    b.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    b.buf[0].fd = (int)fi->fh;
    b.buf[0].pos = off;
    fuse_reply_data(req, &b, FUSE_BUF_NO_SPLICE);
}

static void pt_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t off,
                         struct fuse_file_info *fi)
{
    struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
    (void)ino;
    out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    out.buf[0].fd = (int)fi->fh;
    out.buf[0].pos = off;
    ssize_t n = fuse_buf_copy(&out, in, FUSE_BUF_NO_SPLICE);
    if (n < 0)
        fuse_reply_err(req, (int)-n);
    else
        fuse_reply_write(req, (size_t)n);
}

static void pt_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    answer(req, close(dup((int)fi->fh)));
}

static void pt_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    answer(req, close((int)fi->fh));
}

static void pt_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    answer(req, datasync ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static DIR *dir_of(const struct fuse_file_info *fi)
{
    return (DIR *)(uintptr_t)fi->fh;
}

static void pt_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    int fd = openat(fd_of(req, ino), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        fuse_reply_err(req, err);
        return;
    }
    fi->fh = (uintptr_t)d;
    fi->cache_readdir = fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}

/* Adds one entry to a page of a listing; its size, larger than `room` when it does not fit. */
static size_t add_entry(fuse_req_t req, fuse_ino_t ino, const struct dirent *de, int plus, char *at,
                        size_t room)
{
    struct fuse_entry_param e = {
        .attr = {.st_ino = de->d_ino, .st_mode = (mode_t)de->d_type << 12}};
    if (!plus)
        return fuse_add_direntry(req, at, room, de->d_name, &e.attr, de->d_off);
    int dots = !strcmp(de->d_name, ".") || !strcmp(de->d_name, "..");
    if (!dots && look_up(req, ino, de->d_name, &e))
        return 0; /* removed meanwhile */
    size_t n = fuse_add_direntry_plus(req, at, room, de->d_name, &e, de->d_off);
    if (n > room && !dots)
        forget(req, e.ino, 1);
    return n;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi,
                 int plus)
{
    DIR *d = dir_of(fi);
    char *page = malloc(size);
    size_t used = 0;
    struct dirent *de;
    if (!page) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (telldir(d) != off)
        seekdir(d, off);
    while ((de = readdir(d))) {
        size_t n = add_entry(req, ino, de, plus, page + used, size - used);
        if (n > size - used) {
            seekdir(d, off);
            break;
        }
        used += n;
        off = de->d_off;
    }
    fuse_reply_buf(req, page, used);
    free(page);
}

static void pt_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    list(req, ino, size, off, fi, 0);
}

static void pt_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info *fi)
{
    list(req, ino, size, off, fi, 1);
}

static void pt_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    answer(req, closedir(dir_of(fi)));
}

static void pt_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    answer(req, fsync(dirfd(dir_of(fi))));
}

static void pt_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs s;
    if (fstatvfs(fd_of(req, ino), &s))
        fuse_reply_err(req, errno);
    else
        fuse_reply_statfs(req, &s);
}

static void pt_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    char path[64], value[65536];
    ssize_t n = getxattr(proc_path(fd_of(req, ino), path), name, size ? value : NULL,
                         size < sizeof value ? size : sizeof value);
    if (n < 0)
        fuse_reply_err(req, errno);
    else if (!size)
        fuse_reply_xattr(req, (size_t)n);
    else
        fuse_reply_buf(req, value, (size_t)n);
}

static const struct fuse_lowlevel_ops operations = {
    .init = pt_init,
    .lookup = pt_lookup,
    .forget = pt_forget,
    .forget_multi = pt_forget_multi,
    .getattr = pt_getattr,
    .setattr = pt_setattr,
    .readlink = pt_readlink,
    .mknod = pt_mknod,
    .mkdir = pt_mkdir,
    .symlink = pt_symlink,
    .link = pt_link,
    .unlink = pt_unlink,
    .rmdir = pt_rmdir,
    .rename = pt_rename,
    .create = pt_create,
    .open = pt_open,
    .read = pt_read,
    .write_buf = pt_write_buf,
    .flush = pt_flush,
    .release = pt_release,
    .fsync = pt_fsync,
    .opendir = pt_opendir,
    .readdir = pt_readdir,
    .readdirplus = pt_readdirplus,
    .releasedir = pt_releasedir,
    .fsyncdir = pt_fsyncdir,
    .statfs = pt_statfs,
    .getxattr = pt_getxattr,
};

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: passthrough SOURCE MOUNTPOINT [-o OPTIONS]\n", stderr);
        return 2;
    }
    int root = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct passthrough *p = root < 0 ? NULL : calloc(1, sizeof *p);
    if (!p) {
        fprintf(stderr, "passthrough: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    p->root.fd = root;
    umask(0);
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    fuse_opt_add_arg(&args, argv[0]);
    for (int i = 3; i < argc; i++)
        fuse_opt_add_arg(&args, argv[i]);
    struct fuse_session *se = fuse_session_new(&args, &operations, sizeof operations, p);
    int status = 1;
    if (se && !fuse_set_signal_handlers(se)) {
        if (!fuse_session_mount(se, argv[2])) {
            status = fuse_session_loop(se) < 0;
            fuse_session_unmount(se);
        }
        fuse_remove_signal_handlers(se);
    }
    if (se)
        fuse_session_destroy(se);
    fuse_opt_free_args(&args);
    free(p);
    return status;
}
