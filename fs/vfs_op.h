// SPDX-License-Identifier: Apache-2.0
/* One request of the kernel, and what answers the kernel and invalidates its caches: the seam
 * between file operations (vfs*.c) and FUSE (fuse_front.c). A test can be a front as well.
 */
#ifndef STEADFS_VFS_OP_H
#define STEADFS_VFS_OP_H

#include "locks.h"
#include "vfs.h"

enum vfs_op_type {
    OP_LOOKUP,
    OP_GETATTR,
    OP_SETATTR,
    OP_READLINK,
    OP_MKNOD,  /* mkdir and symlink too */
    OP_UNLINK, /* rmdir too */
    OP_RENAME,
    OP_LINK,
    OP_OPEN,
    OP_CREATE,
    OP_READ,
    OP_WRITE,
    OP_FLUSH,
    OP_RELEASE,
    OP_FSYNC, /* fsyncdir too */
    OP_OPENDIR,
    OP_READDIR, /* readdirplus too */
    OP_STATFS,
    OP_GETXATTR,
    OP_LISTXATTR,
    OP_SETXATTR, /* removexattr too */
    OP_FALLOCATE,
    OP_LSEEK,
    OP_COPY,
    OP_LOCK,    /* flock, fcntl */
    OP_GETLOCK, /* F_GETLK */
    OP_TYPES,
};

struct vfs_file; /* an open file or directory; what fi->fh is */

struct vfs_dirent {
    uint64_t cookie, node;
    enum node_type type;
    uint64_t nodeid; /* readdirplus: of its handle; 0: without attributes */
    struct core_attr attr;
    char *name;
};

struct vfs_op {
    enum vfs_op_type type;
    void *req; /* the front's */
    uint32_t uid, gid;
    uint32_t tid; /* the thread that asks; 0: not known */
    uint64_t nodeid,
        nodeid2;       /* nodeid2: new parent (rename), directory (link), target file (copy) */
    uint64_t inner[2]; /* parked: nodeids of what is removed, moved or replaced; 0: none */
    struct bytes name, name2, data; /* of the request: valid until the answer */
    uint32_t mode, umask;           /* with the type's bits; umask: not yet taken off */
    uint64_t rdev, off, off2, len;
    unsigned flags; /* open, rename, xattr, copy: theirs; lseek: whence; fallocate: mode */
    unsigned set;   /* setattr: CORE_SET_ bits and OP_SET_SIZE; attr holds the values */
#define OP_SET_SIZE 0x100u
    bool dir;       /* unlink: rmdir; fsync: of a directory */
    bool plus;      /* readdir: with attributes */
    bool append;    /* write: at the end, wherever the kernel takes it to be */
    bool nameless;  /* create: a file without a name (O_TMPFILE) in the directory's namespace */
    bool kill_priv; /* set-id bits go with this change; setxattr of a list: the set-gid bit does */
    struct vfs_file *file, *file2;
    struct lock lock;   /* lock: what is asked; getlock: that, then what is in its way; flush: the
                           owner whose ranges end */
    uint64_t lock_node; /* lock: of which other devices were asked last */
    bool unlock;        /* lock: release it; getlock, answer: nothing is in its way */
    bool sleeps;        /* lock: wait for it */
    bool lock_asked;    /* lock: other devices were, and may have been refused it since */
    bool lock_quiet;    /* what was written under it is committed, or will not be waited for */
    bool lock_told;     /* the server was told of its end */
    uint64_t claimed;   /* the node to which it gave a name that other mounts may want, too */
    bool ordered;       /* what was pending before a name goes is committed */
    bool changed;       /* the name is gone here; the server is being told */

    /* The answer. */
    uint64_t entry;        /* nodeid; 0: a negative entry */
    struct core_attr attr; /* entry, getattr, setattr */
    bool keep_cache;       /* open */
    uint64_t new_mode;     /* nodeid whose mode changed by the way: told before the answer */
    uint64_t result;       /* write, copy: bytes; lseek: offset; getxattr of size 0: length */
    uint8_t *out;          /* read, readlink, getxattr, listxattr: malloc'd */
    size_t out_n;
    struct vfs_dirent *entries;
    size_t entries_n;
    uint64_t free_bytes, all_bytes, free_nodes, all_nodes; /* statfs */

    /* The way of an operation that has to wait; see vfs.c. */
    struct vfs *vfs;
    struct vfs_op *next, **prev; /* in the list of parked ones */
    bool signalled;              /* a signal reached the thread: it may be killed */
    bool heap, interrupted, waits_wb, waits_lock, woken, barrier_done;
    bool fresh;         /* all that was committed when it came is applied here */
    bool barrier_all;   /* the barrier is for all that is pending in namespace barrier_ns */
    bool barrier_local; /* the barrier waits for outbox and tree on disk, not for a commit */
    int barrier_err;
    uint64_t wait_id, ticket, ticket2, ticket_all, mark;
    struct m_lock_range range; /* asked of other devices; getlock: then what they have */
    struct core_need need;
    struct block_id *ids; /* blocks to fetch; malloc'd */
    size_t ids_n;
    uint64_t ids_ns, barrier_node, barrier_ns, fresh_ns;
    struct m_block_ref *refs; /* blocks to link; malloc'd */
    size_t refs_n;
    uint64_t refs_ns;
    struct extent_list *extents; /* read: what to copy from blocks, without the lock; malloc'd */
    unsigned tries;
    uint8_t *copied; /* the request's bytes, when it had to outlive its buffer */
};

struct vfs_front {
    void *ctx;
    /* Answers; result 0 or -errno. False: the kernel did not take it (the caller was interrupted).
     */
    bool (*reply)(void *ctx, struct vfs_op *op, int result);
    /* From now on vfs_interrupt may be called for op, at once too; and from when on not any more.
     */
    void (*watch)(void *ctx, struct vfs_op *op);
    void (*unwatch)(void *ctx, struct vfs_op *op);
    /* Whether the process that asks is in this group besides its first one. */
    bool (*in_group)(void *ctx, const struct vfs_op *op, uint32_t gid);
    void (*inval_entry)(void *ctx, uint64_t parent, const char *name, size_t len);
    /* -ENOENT: the kernel does not know the nodeid: not yet, or not any more. */
    int (*inval_inode)(void *ctx, uint64_t nodeid, int64_t off);
};

/* The mount's front, from here until vfs_detach_front. 0 or -errno (no root known yet: -ENOENT). */
int vfs_attach_front(struct vfs *v, const struct vfs_front *front);
/* Answers all that waits (-ENOTCONN) and stops invalidating. */
void vfs_detach_front(struct vfs *v);
/* Runs an operation; op is the caller's and used only until this returns. */
void vfs_submit(struct vfs *v, const struct vfs_op *op);
/* A signal reached the thread that waits for op. Called between watch and unwatch only. */
void vfs_interrupt(struct vfs *v, struct vfs_op *op);
/* The kernel forgets a nodeid n times. */
void vfs_forget(struct vfs *v, uint64_t nodeid, uint64_t n);
struct fs *vfs_fs(struct vfs *v);
#endif
