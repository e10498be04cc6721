// SPDX-License-Identifier: Apache-2.0
/* What the files of the vfs share. Reading order: vfs.c (operations and waiting), vfs_ops.c (names
 * and attributes), vfs_file.c (content), vfs_xattr.c, vfs_remote.c (what other devices changed).
 * All with fs.lock held unless said otherwise. */
#ifndef STEADFS_VFS_INT_H
#define STEADFS_VFS_INT_H

#include "handle.h"
#include "notify.h"
#include "owners.h"
#include "sync.h"
#include "vfs_op.h"
#include "writeback.h"

/* What an operation returns besides 0 and -errno: it waits, and is run again from its beginning. */
#define VFS_NEED CORE_NEED /* for op->need */
#define VFS_WB WB_WAIT     /* for dirty data on its way */
#define VFS_FETCH 3        /* for the blocks op->ids */
#define VFS_LOCK 5         /* for a lock that another holds */
#define VFS_FRESH 6        /* for the newest of namespace op->fresh_ns; op->fresh is set then */
#define VFS_BARRIER 4      /* for a barrier on op->barrier_node; barrier_done is set then */
#define VFS_GLOBAL 7       /* for op->range, which other devices may hold */
#define VFS_LINK 9         /* for block servers to have the blocks op->refs for namespace refs_ns */
#define VFS_TOLD 8         /* for the metadata server to know what is not locked any more */
#define VFS_PARK 10        /* for nothing: it is to be among the parked ones when it goes on */
_Static_assert(VFS_NEED == 1 && VFS_WB == 2, "results that wait are distinct");

#define READ_TRIES_MAX 4 /* times a block may vanish between looking and reading */
#define VFS_LATE_MAX 64  /* threads at a time that were not the first to make a name */

struct vfs_file {
    struct vfs_file *next, **prev; /* of all open ones */
    struct handle *h;
    uint64_t ns;
    size_t fixed; /* the namespace's cuts */
    bool dir, writable, sync;
    bool locks_lost; /* other devices may have what was locked through it */
    struct vfs_file *copied_next, **copied_prev; /* of v->copied; prev NULL: not among them */
    int64_t copied_at; /* when it last was the target of a copy from another namespace */
    uint64_t last;     /* of a directory: the highest cookie when reading began; 0: not known */
    bool read;         /* the file's access time was looked at, or is left alone (O_NOATIME) */
    uint64_t expected, ahead; /* end of the last read; how far blocks were asked for */
    uint64_t window;          /* bytes to read ahead; 0: not sequential */
};

struct vfs {
    struct fs *fs;
    struct wb *wb;
    struct handles *handles;
    struct notify *notify; /* NULL: no front */
    struct owners *owners; /* NULL: by their numbers */
    struct vfs_front front;
    struct vfs_file *files;
    struct vfs_file *copied; /* those that were the target of a copy from another namespace */
    struct vfs_op *parked;
    size_t parked_n;
    pthread_cond_t none_parked;
    bool stopping;
    uint64_t turn;               /* counts vfs_effects */
    uint64_t late[VFS_LATE_MAX]; /* who makes a name again; vfs_name_global.c */
    size_t late_next;
    void *serving; /* fuse_front's, while it serves */

    /* Waking those who wait for a lock, and ending the waits of those who are killed; vfs_lock.c.
     */
    pthread_t waker;
    pthread_cond_t lock_news;
    bool waker_runs, waker_ends, locks_changed, signalled;
};

typedef int (*vfs_run)(struct vfs *v, struct vfs_op *op);

int vfs_lookup(struct vfs *v, struct vfs_op *op);
int vfs_getattr(struct vfs *v, struct vfs_op *op);
int vfs_setattr(struct vfs *v, struct vfs_op *op);
int vfs_readlink(struct vfs *v, struct vfs_op *op);
int vfs_mknod(struct vfs *v, struct vfs_op *op);
int vfs_unlink(struct vfs *v, struct vfs_op *op);
int vfs_rename(struct vfs *v, struct vfs_op *op);
int vfs_link(struct vfs *v, struct vfs_op *op);
int vfs_opendir(struct vfs *v, struct vfs_op *op);
int vfs_readdir(struct vfs *v, struct vfs_op *op);
int vfs_statfs(struct vfs *v, struct vfs_op *op);
int vfs_open(struct vfs *v, struct vfs_op *op);
int vfs_create(struct vfs *v, struct vfs_op *op);
int vfs_read(struct vfs *v, struct vfs_op *op);
int vfs_write(struct vfs *v, struct vfs_op *op);
int vfs_flush(struct vfs *v, struct vfs_op *op);
int vfs_release(struct vfs *v, struct vfs_op *op);
int vfs_fsync(struct vfs *v, struct vfs_op *op);
int vfs_fallocate(struct vfs *v, struct vfs_op *op);
int vfs_lseek(struct vfs *v, struct vfs_op *op);
int vfs_copy(struct vfs *v, struct vfs_op *op);
int vfs_getxattr(struct vfs *v, struct vfs_op *op);
int vfs_listxattr(struct vfs *v, struct vfs_op *op);
int vfs_setxattr(struct vfs *v, struct vfs_op *op);
int vfs_lock(struct vfs *v, struct vfs_op *op);
int vfs_getlock(struct vfs *v, struct vfs_op *op);

/* With coherence=strict: nothing older than this request is shown of the node's namespace. 0,
 * VFS_FRESH, VFS_NEED */
int vfs_newest(struct vfs *v, struct vfs_op *op, uint64_t node);

/* A process closes the file: its ranges end. An open file ends, and what was taken through it. */
void vfs_unlock_owner(struct vfs *v, const struct vfs_file *f, uint64_t owner);
void vfs_unlock_file(struct vfs *v, const struct vfs_file *f);
/* With locks=global, before op releases locks: what was written under them is committed, as far as
 * the server can be reached. 0 or what to wait for */
int vfs_unlock_commits(struct vfs *v, struct vfs_op *op);
/* … and after it: the server is told. 0 or what to wait for */
int vfs_unlock_told(struct vfs *v, struct vfs_op *op, uint64_t node);
/* Whether anybody holds anything through the open file; the process ranges of the file. */
bool vfs_has_locks(struct vfs *v, const struct vfs_file *f);
bool vfs_has_ranges(struct vfs *v, const struct vfs_file *f, uint64_t owner);
/* -EIO: what was locked through the file may be locked elsewhere. */
int vfs_locks_good(struct vfs *v, struct vfs_file *f);
/* With locks=global, what a program may have among those of this mount: whether other devices let
 * it; F_GETLK of them. */
int vfs_lock_global(struct vfs *v, struct vfs_op *op);
int vfs_getlock_global(struct vfs_op *op);
/* Names that count against other mounts, with locks=global (vfs_name_global.c). */
/* Whether op makes one. It is parked (VFS_PARK) before it does. */
bool vfs_claims(const struct vfs *v, const struct vfs_op *op);
/* Whether a parked operation has made this name and waits for the server's word. */
bool vfs_claimed(struct vfs *v, uint64_t parent, struct bytes name);
/* op gave the name it makes to node: fsync of `commit` tells the server. 0: it is the server's, *a
 * who has it; VFS_BARRIER, VFS_LOCK; -EEXIST: another device had it first,
 * ours is taken back, and *a is theirs; -errno: so it is because of that. Without locks=global: 0,
 * and *a stays. */
int vfs_claim(struct vfs *v, struct vfs_op *op, uint64_t node, uint64_t commit,
              struct core_attr *a);
/* The answer to op, which makes a name that exists, of which the kernel does not know: -EEXIST or,
 * with locks=global, -ESTALE once: then it looks the name up, and its caller sees what exists. */
int vfs_name_exists(struct vfs *v, const struct vfs_op *op);
/* The kernel has looked up a name of the directory that exists. */
void vfs_name_found(struct vfs *v, const struct vfs_op *op, uint64_t parent);
/* Before op takes a name of the directory away: what is pending in its namespace is committed, and
 * after it: so is that. As far as the server can be reached. 0 or what to wait for */
int vfs_name_goes(struct vfs *v, struct vfs_op *op, uint64_t dir);
int vfs_name_told(struct vfs *v, struct vfs_op *op, uint64_t dir);
/* Programs released something: what they do not need, other devices may have. */
void vfs_locks_trim(struct vfs *v, uint64_t node);
/* A lock operation is about to ask other devices. */
void vfs_lock_asks(struct vfs *v, struct vfs_op *op);
/* A lock operation ends: what was asked for and not taken is released. */
void vfs_lock_ends(struct vfs *v, struct vfs_op *op);
/* An open file that shows an old version shows the newest from now on; the kernel is told. */
void vfs_reattach(struct vfs *v, struct handle *h);
/* The kernel drops what it has cached of it. */
void vfs_drop_cached(struct vfs *v, const struct handle *h);
/* The file was changed through h: where the kernel has it under another nodeid, too, it drops what
 * it has of that. */
bool vfs_has_twin(struct vfs *v, const struct handle *h);
void vfs_changed(struct vfs *v, const struct handle *h);
/* The kernel is given attributes that it may believe after a later change; one of these was made.
 */
void vfs_told(struct handle *h);
void vfs_recheck(struct vfs *v, struct handle *h);
/* The kernel has written its pages of h from off on elsewhere than they went. */
void vfs_misplaced(struct vfs *v, const struct handle *h, uint64_t off);
/* Those who wait for locks are to look again. */
void vfs_locks_changed(struct vfs *v);
/* Somebody who waits got a signal. */
void vfs_signalled(struct vfs *v);
/* Ends the waits of those who got a signal that ends them; whether others got one. */
bool vfs_end_killed(struct vfs *v);
/* [not locked] The thread that does both. */
int vfs_waker_start(struct vfs *v);
void vfs_waker_end(struct vfs *v);
/* [not locked] Runs again what waits for dirty data, or for locks. */
void vfs_wake(struct vfs *v, bool locks);

/* [not locked] The part of a read that needs no lock: copies from blocks. -EAGAIN: run the
 * operation again. */
int vfs_read_blocks(struct vfs *v, struct vfs_op *op);

/* The handle of a request, or NULL: -ESTALE. */
struct handle *vfs_handle(struct vfs *v, uint64_t nodeid);
/* Attributes as this handle shows them. 0, VFS_NEED, -errno */
int vfs_attr(struct vfs *v, const struct handle *h, struct core_attr *out, struct core_need *need);
/* The same of attributes that were just read from the tree. 0, -errno */
int vfs_attr_shown(struct vfs *v, const struct handle *h, struct core_attr *out);
/* The answer to an operation that gives a name: a lookup more of the node's handle. */
void vfs_entry(struct vfs *v, struct vfs_op *op, uint64_t parent, struct bytes name,
               const struct core_attr *a);
/* What programs see of it: owners and permissions as the mount's options have them. */
void vfs_show(const struct vfs *v, struct core_attr *a);
/* Takes set-id bits away from a node with these attributes, if the change of op does that. 0 or
 * -errno */
int vfs_drop_set_ids(struct vfs *v, struct vfs_op *op, const struct core_attr *a);
/* Who asks, as it is stored. */
struct core_who vfs_who(const struct vfs_op *op);
/* Owners in a value of an attribute: as they are stored, as they are here. */
void vfs_map_list(const struct vfs *v, struct bytes name, uint8_t *value, size_t n, bool to_stored);
/* Sets the size of the handle's node (forking from an old version); waits for dirty data on its
 * way. */
int vfs_truncate(struct vfs *v, struct vfs_op *op, struct handle *h, uint64_t size);
/* Begins an open file of h in op->file. */
void vfs_file_open(struct vfs *v, struct vfs_op *op, struct handle *h, const struct core_ns *ns,
                   bool dir);
void vfs_file_close(struct vfs *v, struct vfs_file *f);
/* The node lost a name, or all: frees what nothing uses. */
void vfs_lost_name(struct vfs *v, uint64_t node);
/* vfs_forget with the lock held. */
void vfs_forget_locked(struct vfs *v, uint64_t nodeid, uint64_t n);
void vfs_handle_release(struct vfs *v, struct handle *h);

/* What the notifier's threads do with the front; ctx is the vfs. */
struct notify_sink vfs_notify_sink(struct vfs *v);
/* Before extents of [off, end) of a node change: detached handles keep the old ones. */
void vfs_save_old(struct vfs *v, uint64_t node, uint64_t off, uint64_t end);
/* The content of a detached handle in [off, end): extents; -ESTALE where it is lost. */
int vfs_old_extents(struct vfs *v, const struct handle *h, uint64_t off, uint64_t end,
                    struct extent_list *out, struct core_need *need);
/* A detached handle is about to be written to: its version becomes a conflicted copy, which it
 * shows from now on. No-op for a live one. */
int vfs_fork(struct vfs *v, struct vfs_op *op, struct handle *h);
#endif
