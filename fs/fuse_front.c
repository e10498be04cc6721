// SPDX-License-Identifier: Apache-2.0
/* FUSE: turns the kernel's requests into vfs operations and their results into answers. With
 * fuse_mount.c the only file that calls libfuse; fuse_beneath.c is what libfuse lacks.
 *
 * Locks: libfuse holds a request's lock while it calls interrupted(), which takes fs.lock; so no
 * function of libfuse that takes a request's lock is called with fs.lock held. unwatch() takes the
 * interrupt function back before the answer: libfuse itself does not order the two.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "acl.h"
#include "fuse_int.h"

#define TIMEOUT_S 3600.0     /* of names and attributes: changes are invalidated … */
#define STRICT_S 0.0         /* … or, with coherence=strict, looked for at each use */
#define MAX_WRITE (1u << 20) /* the largest request Linux makes by default */
#define MAX_BACKGROUND 64    /* reads ahead and the like under way in the kernel */

static struct front *front_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct vfs_op op_of(fuse_req_t req, enum vfs_op_type type, fuse_ino_t ino)
{
    const struct fuse_ctx *c = fuse_req_ctx(req);
    return (struct vfs_op){.type = type,
                           .req = req,
                           .nodeid = ino,
                           .uid = c->uid,
                           .gid = c->gid,
                           .tid = (uint32_t)c->pid,
                           .umask = c->umask,
                           .kill_priv = front_of(req)->below.kill_priv};
}

static void submit(const struct vfs_op *op)
{
    vfs_submit(front_of(op->req)->vfs, op);
}

static struct vfs_file *file_of(const struct fuse_file_info *fi)
{
    return (struct vfs_file *)(uintptr_t)fi->fh;
}

/* ---- answers -------------------------------------------------------------------------------- */

static const mode_t type_bits[] = {
    [NODE_NONE] = 0,          [NODE_REG] = S_IFREG,  [NODE_DIR] = S_IFDIR,
    [NODE_SYMLINK] = S_IFLNK, [NODE_FIFO] = S_IFIFO, [NODE_SOCK] = S_IFSOCK,
    [NODE_CHR] = S_IFCHR,     [NODE_BLK] = S_IFBLK,  [NODE_MOUNT] = S_IFDIR,
};

static struct timespec time_of(int64_t ns)
{
    int64_t s = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        s--;
        rest += 1000000000;
    }
    return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

static void stat_of(fuse_req_t req, const struct core_attr *attr, struct stat *st)
{
    struct core_attr shown = *attr, *a = &shown;
    vfs_show(front_of(req)->vfs, a);
    *st = (struct stat){
        .st_ino = a->node,
        .st_mode = type_bits[a->type] | a->mode,
        .st_nlink = a->nlink,
        .st_uid = a->uid,
        .st_gid = a->gid,
        .st_rdev = a->rdev,
        .st_size = (off_t)(a->type == NODE_SYMLINK ? a->target_len : a->size),
        .st_blksize = VFS_BLOCK,
        .st_blocks = (blkcnt_t)((a->stored + 511) / 512),
        .st_atim = time_of(a->atime),
        .st_mtim = time_of(a->mtime),
        .st_ctim = time_of(a->ctime),
    };
    if (a->type == NODE_DIR && st->st_size == 0)
        st->st_size = VFS_BLOCK;
}

static double timeout_of(fuse_req_t req)
{
    return vfs_fs(front_of(req)->vfs)->opt.strict ? STRICT_S : TIMEOUT_S;
}

static struct fuse_entry_param entry_of(fuse_req_t req, uint64_t nodeid, const struct core_attr *a)
{
    double timeout = timeout_of(req);
    struct fuse_entry_param e = {.ino = nodeid, .attr_timeout = timeout, .entry_timeout = timeout};
    if (nodeid != 0)
        stat_of(req, a, &e.attr);
    return e;
}

static int reply_entries(fuse_req_t req, const struct vfs_op *op)
{
    char *buf = malloc(op->len);
    size_t n = 0;
    if (buf == NULL)
        return fuse_reply_err(req, ENOMEM);
    for (size_t i = 0; i < op->entries_n; i++) {
        const struct vfs_dirent *d = &op->entries[i];
        struct fuse_entry_param e = entry_of(req, d->nodeid, &d->attr);
        if (d->nodeid == 0)
            e.attr = (struct stat){.st_ino = d->node, .st_mode = type_bits[d->type]};
        n += op->plus
                 ? fuse_add_direntry_plus(req, buf + n, op->len - n, d->name, &e, (off_t)d->cookie)
                 : fuse_add_direntry(req, buf + n, op->len - n, d->name, &e.attr, (off_t)d->cookie);
        assert(n <= op->len); /* the vfs counts as libfuse does */
    }
    int rc = fuse_reply_buf(req, buf, n);
    free(buf);
    return rc;
}

static int reply_statfs(fuse_req_t req, const struct vfs_op *op)
{
    struct statvfs st = {
        .f_bsize = VFS_BLOCK,
        .f_frsize = VFS_BLOCK,
        .f_blocks = op->all_bytes / VFS_BLOCK,
        .f_bfree = op->free_bytes / VFS_BLOCK,
        .f_bavail = op->free_bytes / VFS_BLOCK,
        .f_files = op->all_nodes,
        .f_ffree = op->free_nodes,
        .f_favail = op->free_nodes,
        .f_namemax = NAME_LEN_MAX,
    };
    return fuse_reply_statfs(req, &st);
}

static int reply_open(fuse_req_t req, const struct vfs_op *op)
{
    struct fuse_file_info fi = {.fh = (uint64_t)(uintptr_t)op->file, .keep_cache = op->keep_cache};
    if (op->type == OP_OPENDIR)
        fi.keep_cache = 0; /* of a listing; what files have, the vfs knows */
    if (op->type == OP_OPENDIR && !vfs_fs(front_of(req)->vfs)->opt.strict)
        fi.cache_readdir = fi.keep_cache = 1;
    if (op->type == OP_CREATE) {
        struct fuse_entry_param e = entry_of(req, op->entry, &op->attr);
        return fuse_reply_create(req, &e, &fi);
    }
    return fuse_reply_open(req, &fi);
}

static int reply_lock(fuse_req_t req, const struct vfs_op *op)
{
    const struct lock *l = &op->lock;
    struct flock found = {.l_type = F_UNLCK};
    if (!op->unlock)
        found = (struct flock){.l_type = l->exclusive ? F_WRLCK : F_RDLCK,
                               .l_whence = SEEK_SET,
                               .l_start = (off_t)l->off,
                               .l_len = l->end == LOCK_END ? 0 : (off_t)(l->end - l->off),
                               .l_pid = (pid_t)l->pid};
    return fuse_reply_lock(req, &found);
}

static int reply_good(fuse_req_t req, const struct vfs_op *op)
{
    struct fuse_entry_param e;
    struct stat st;
    switch (op->type) {
    case OP_LOOKUP:
    case OP_MKNOD:
    case OP_LINK:
        e = entry_of(req, op->entry, &op->attr);
        return fuse_reply_entry(req, &e);
    case OP_GETATTR:
    case OP_SETATTR:
        stat_of(req, &op->attr, &st);
        return fuse_reply_attr(req, &st, timeout_of(req));
    case OP_READLINK:
        return fuse_reply_readlink(req, (const char *)op->out);
    case OP_OPEN:
    case OP_CREATE:
    case OP_OPENDIR:
        return reply_open(req, op);
    case OP_READ:
        return fuse_reply_buf(req, (const char *)op->out, op->out_n);
    case OP_WRITE:
    case OP_COPY:
        return fuse_reply_write(req, op->result);
    case OP_READDIR:
        return reply_entries(req, op);
    case OP_STATFS:
        return reply_statfs(req, op);
    case OP_GETXATTR:
    case OP_LISTXATTR:
        if (op->len == 0)
            return fuse_reply_xattr(req, op->result);
        return fuse_reply_buf(req, (const char *)op->out, op->out_n);
    case OP_GETLOCK:
        return reply_lock(req, op);
    case OP_LSEEK:
        return fuse_reply_lseek(req, (off_t)op->result);
    default:
        return fuse_reply_err(req, 0);
    }
}

static bool reply(void *ctx, struct vfs_op *op, int result)
{
    (void)ctx;
    return (result != 0 ? fuse_reply_err(op->req, -result) : reply_good(op->req, op)) == 0;
}

/* ---- interrupts and invalidation ------------------------------------------------------------ */

static void interrupted(fuse_req_t req, void *op)
{
    vfs_interrupt(front_of(req)->vfs, op);
}

static void watch(void *ctx, struct vfs_op *op)
{
    (void)ctx;
    fuse_req_interrupt_func(op->req, interrupted, op);
}

static void unwatch(void *ctx, struct vfs_op *op)
{
    (void)ctx;
    fuse_req_interrupt_func(op->req, NULL, NULL);
}

static bool in_group(void *ctx, const struct vfs_op *op, uint32_t gid)
{
    gid_t some[64], *all = some;
    bool found = false;
    (void)ctx;
    int n = fuse_req_getgroups(op->req, 64, some);
    if (n > 64 && (all = calloc((size_t)n, sizeof(*all))) != NULL)
        n = fuse_req_getgroups(op->req, n, all);
    for (int i = 0; all != NULL && i < n; i++)
        found = found || all[i] == gid;
    if (all != some)
        free(all);
    return found;
}

static void inval_entry(void *ctx, uint64_t parent, const char *name, size_t len)
{
    fuse_lowlevel_notify_inval_entry(((struct front *)ctx)->se, parent, name, len);
}

static int inval_inode(void *ctx, uint64_t nodeid, int64_t off)
{
    return fuse_lowlevel_notify_inval_inode(((struct front *)ctx)->se, nodeid, off, 0);
}

/* ---- requests ------------------------------------------------------------------------------- */

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    conn->want |= conn->capable & (FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
    conn->want |=
        conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
                         FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                         FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK);
    if (vfs_fs(((struct front *)userdata)->vfs)->opt.default_permissions)
        conn->want |= conn->capable & FUSE_CAP_POSIX_ACL;
    /* No ASYNC_DIO: with it the kernel leaves cached pages as they were before a direct write. */
    conn->want &= ~(unsigned)(FUSE_CAP_ASYNC_DIO | FUSE_CAP_WRITEBACK_CACHE |
                              FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV |
                              FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    conn->max_write = MAX_WRITE;
    conn->max_background = MAX_BACKGROUND;
    conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
    conn->time_gran = 1;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct vfs_op op = op_of(req, OP_LOOKUP, parent);
    op.name = bytes_str(name);
    submit(&op);
}

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    vfs_forget(front_of(req)->vfs, ino, n);
    fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *v)
{
    for (size_t i = 0; i < count; i++)
        vfs_forget(front_of(req)->vfs, v[i].ino, v[i].nlookup);
    fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct vfs_op op = op_of(req, OP_GETATTR, ino);
    submit(&op);
}

#define TIME_MAX_S 9223372036 /* of nanoseconds in 64 bits: 1677-09-21 to 2262-04-11 */

/* The nearest that can be kept. */
static int64_t ns_of(struct timespec t)
{
    if (t.tv_sec >= TIME_MAX_S || t.tv_sec < -TIME_MAX_S)
        return (t.tv_sec < 0 ? -TIME_MAX_S : TIME_MAX_S) * 1000000000;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
                       struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_SETATTR, ino);
    if (fi != NULL)
        op.file = file_of(fi);
    const struct {
        int fuse;
        unsigned core;
    } bits[] = {
        {FUSE_SET_ATTR_MODE, CORE_SET_MODE},       {FUSE_SET_ATTR_UID, CORE_SET_UID},
        {FUSE_SET_ATTR_GID, CORE_SET_GID},         {FUSE_SET_ATTR_SIZE, OP_SET_SIZE},
        {FUSE_SET_ATTR_ATIME, CORE_SET_ATIME},     {FUSE_SET_ATTR_MTIME, CORE_SET_MTIME},
        {FUSE_SET_ATTR_ATIME_NOW, CORE_SET_ATIME}, {FUSE_SET_ATTR_MTIME_NOW, CORE_SET_MTIME},
    };
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
        op.set |= (set & bits[i].fuse) != 0 ? bits[i].core : 0;
    int64_t now = fs_now();
    op.attr.mode = st->st_mode & 07777;
    op.attr.uid = st->st_uid;
    op.attr.gid = st->st_gid;
    op.attr.size = (uint64_t)st->st_size;
    op.attr.atime = (set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? now : ns_of(st->st_atim);
    op.attr.mtime = (set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? now : ns_of(st->st_mtim);
    submit(&op);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct vfs_op op = op_of(req, OP_READLINK, ino);
    submit(&op);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
                 const char *target)
{
    struct vfs_op op = op_of(req, OP_MKNOD, parent);
    op.name = bytes_str(name);
    op.mode = mode;
    op.rdev = rdev;
    if (target != NULL)
        op.data = bytes_str(target);
    submit(&op);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    make(req, parent, name, mode, rdev, NULL);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make(req, parent, name, (mode & 07777) | S_IFDIR, 0, NULL);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void unlink_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool dir)
{
    struct vfs_op op = op_of(req, OP_UNLINK, parent);
    op.name = bytes_str(name);
    op.dir = dir;
    submit(&op);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    unlink_name(req, parent, name, false);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    unlink_name(req, parent, name, true);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
                      const char *to_name, unsigned flags)
{
    struct vfs_op op = op_of(req, OP_RENAME, parent);
    op.nodeid2 = to;
    op.name = bytes_str(name);
    op.name2 = bytes_str(to_name);
    op.flags = flags;
    submit(&op);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct vfs_op op = op_of(req, OP_LINK, ino);
    op.nodeid2 = parent;
    op.name = bytes_str(name);
    submit(&op);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_OPEN, ino);
    op.flags = (unsigned)fi->flags;
    op.kill_priv |= op.uid != 0; /* a kernel that leaves it to us says so; others cannot */
    submit(&op);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_CREATE, parent);
    op.name = bytes_str(name);
    op.mode = (mode & 07777) | S_IFREG;
    op.flags = (unsigned)fi->flags;
    op.nameless = front_of(req)->below.tmpfile;
    submit(&op);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_READ, ino);
    op.file = file_of(fi);
    op.off = (uint64_t)off;
    op.len = size;
    submit(&op);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t n, off_t off,
                     struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_WRITE, ino);
    op.file = file_of(fi);
    op.off = (uint64_t)off;
    op.data = bytes_of(p, n);
    op.append = (fi->flags & O_APPEND) != 0 && !fi->writepage;
    submit(&op);
}

static void with_file(fuse_req_t req, enum vfs_op_type type, fuse_ino_t ino,
                      struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, type, ino);
    op.file = file_of(fi);
    submit(&op);
}

static void on_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_FLUSH, ino);
    op.file = file_of(fi);
    op.lock.owner = fi->lock_owner;
    submit(&op);
}

static struct vfs_op range_lock(fuse_req_t req, enum vfs_op_type type, fuse_ino_t ino,
                                const struct fuse_file_info *fi, const struct flock *l)
{
    struct vfs_op op = op_of(req, type, ino);
    op.file = file_of(fi);
    op.unlock = l->l_type == F_UNLCK;
    op.lock = (struct lock){
        .exclusive = l->l_type == F_WRLCK,
        .owner = fi->lock_owner,
        .off = (uint64_t)l->l_start,
        .end = l->l_len == 0 ? LOCK_END : (uint64_t)l->l_start + (uint64_t)l->l_len,
        .pid = (uint32_t)l->l_pid,
    };
    return op;
}

static void on_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *l)
{
    struct vfs_op op = range_lock(req, OP_GETLOCK, ino, fi, l);
    submit(&op);
}

static void on_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *l,
                     int sleeps)
{
    struct vfs_op op = range_lock(req, OP_LOCK, ino, fi, l);
    op.sleeps = sleeps != 0;
    submit(&op);
}

static void on_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int what)
{
    struct vfs_op op = op_of(req, OP_LOCK, ino);
    op.file = file_of(fi);
    op.unlock = (what & LOCK_UN) != 0;
    op.sleeps = (what & LOCK_NB) == 0;
    op.lock = (struct lock){.whole = true,
                            .exclusive = (what & LOCK_EX) != 0,
                            .owner = fi->lock_owner,
                            .end = LOCK_END};
    submit(&op);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    with_file(req, OP_RELEASE, ino, fi);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync; /* size and times travel with the content anyway */
    with_file(req, OP_FSYNC, ino, fi);
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct vfs_op op = op_of(req, OP_OPENDIR, ino);
    submit(&op);
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                     struct fuse_file_info *fi, bool plus)
{
    struct vfs_op op = op_of(req, OP_READDIR, ino);
    op.file = file_of(fi);
    op.off = (uint64_t)off;
    op.len = size;
    op.plus = plus;
    submit(&op);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    read_dir(req, ino, size, off, fi, false);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info *fi)
{
    read_dir(req, ino, size, off, fi, true);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct vfs_op op = op_of(req, OP_STATFS, ino);
    submit(&op);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    struct vfs_op op = op_of(req, OP_GETXATTR, ino);
    op.name = bytes_str(name);
    op.len = size;
    submit(&op);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    struct vfs_op op = op_of(req, OP_LISTXATTR, ino);
    op.len = size;
    submit(&op);
}

static void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
                        size_t size, int flags)
{
    struct vfs_op op = op_of(req, OP_SETXATTR, ino);
    op.name = bytes_str(name);
    /* nobody would go by it, and the kernel would go on showing the mode that it has */
    if (acl_is_name(op.name) && !vfs_fs(front_of(req)->vfs)->opt.default_permissions) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    op.data = bytes_of(value != NULL ? value : "", size);
    op.flags = (unsigned)flags;
    op.kill_priv = front_of(req)->below.acl_drops_sgid;
    submit(&op);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct vfs_op op = op_of(req, OP_SETXATTR, ino);
    op.name = bytes_str(name);
    submit(&op);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_FALLOCATE, ino);
    op.kill_priv = op.uid != 0; /* the kernel does not say who may keep set-id bits */
    op.file = file_of(fi);
    op.flags = (unsigned)mode;
    op.off = (uint64_t)off;
    op.len = (uint64_t)len;
    submit(&op);
}

static void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
                     struct fuse_file_info *fi)
{
    struct vfs_op op = op_of(req, OP_LSEEK, ino);
    op.file = file_of(fi);
    op.off = (uint64_t)off;
    op.flags = (unsigned)whence;
    submit(&op);
}

static void on_copy(fuse_req_t req, fuse_ino_t ino, off_t off, struct fuse_file_info *fi,
                    fuse_ino_t to, off_t to_off, struct fuse_file_info *to_fi, size_t len,
                    int flags)
{
    struct vfs_op op = op_of(req, OP_COPY, ino);
    op.kill_priv = op.uid != 0;
    op.nodeid2 = to;
    op.file = file_of(fi);
    op.file2 = file_of(to_fi);
    op.off = (uint64_t)off;
    op.off2 = (uint64_t)to_off;
    op.len = len;
    op.flags = (unsigned)flags;
    submit(&op);
}

const struct fuse_lowlevel_ops front_operations = {
    .init = on_init,
    .lookup = on_lookup,
    .forget = on_forget,
    .forget_multi = on_forget_multi,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .readlink = on_readlink,
    .mknod = on_mknod,
    .mkdir = on_mkdir,
    .symlink = on_symlink,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .rename = on_rename,
    .link = on_link,
    .open = on_open,
    .create = on_create,
    .read = on_read,
    .write = on_write,
    .flush = on_flush,
    .release = on_release,
    .fsync = on_fsync,
    .opendir = on_opendir,
    .readdir = on_readdir,
    .readdirplus = on_readdirplus,
    .releasedir = on_release,
    .fsyncdir = on_fsync,
    .statfs = on_statfs,
    .getxattr = on_getxattr,
    .listxattr = on_listxattr,
    .setxattr = on_setxattr,
    .removexattr = on_removexattr,
    .fallocate = on_fallocate,
    .lseek = on_lseek,
    .copy_file_range = on_copy,
    .getlk = on_getlk,
    .setlk = on_setlk,
    .flock = on_flock,
};

struct vfs_front front_vtable(struct front *f)
{
    return (struct vfs_front){f, reply, watch, unwatch, in_group, inval_entry, inval_inode};
}
