// SPDX-License-Identifier: Apache-2.0
/* File operations on the tree and on dirty data, and the kernel-visible inodes (handles).
 *
 * Requests come from the FUSE front (fuse_front.c, the only file that calls libfuse). An operation
 * runs under fs.lock on the thread that read it from the kernel; where it must wait for the network
 * it parks itself and is run again when what it needs has come, so that no thread is ever held. See
 * vfs.c.
 */
#ifndef STEADFS_VFS_H
#define STEADFS_VFS_H

/* What programs take for the size of a block (st_blksize, statfs). SEEK_HOLE and SEEK_DATA tell of
 * whole ones, as they do of a disk. */
#define VFS_BLOCK 4096

#include "fs.h"

struct vfs;

int vfs_new(struct vfs **out, struct fs *fs);
void vfs_free(struct vfs *v);
/* The hooks the core wants; ctx is the fs. */
void vfs_core_hooks(struct fs *fs, struct core_hooks *out);

/* [fs.lock held] Turns the node's dirty data in memory into blocks of the outbox and extents of the
 * tree. final: finish its stretches (last writable close); otherwise provisional blocks, the
 * stretch goes on. 0, -ENOSPC, -EIO … (the data stay dirty) */
int vfs_flush_node(struct vfs *v, uint64_t node, bool final);
/* [fs.lock held] The same for all nodes: sync, unmount. */
int vfs_flush_all(struct vfs *v);
/* [fs.lock held] Bytes of dirty data in memory, and whether any node has some. */
uint64_t vfs_dirty_bytes(struct vfs *v);
/* [fs.lock held] Whether a block of the outbox may be needed though no extent refers to it: put a
 * moment ago by somebody who writes its extent next, or part of an old version that is still open.
 */
bool vfs_keeps_block(struct vfs *v, const struct block_id *id);
/* [fs.lock held] Before a record is applied: dirty data of the nodes it changes go into the tree,
 * so that the core sees them. 0 or -errno: then the record must not be applied, as what was
 * written would be merged into it without anybody knowing. */
int vfs_before_apply(struct vfs *v, const struct m_record *r);
/* [fs.lock held] The same before the answer to a commit that did not happen: a file of which
 * nothing is left at the server goes on as a copy, and what is dirty belongs to that. */
int vfs_before_answer(struct vfs *v, const struct m_commit_ans *a);
/* [fs.lock held] Whether the kernel keeps up with invalidations; otherwise records wait. */
bool vfs_has_room(struct vfs *v);
/* [fs.lock held] What this device had locked of the node others may have now: programs that
 * relied on it get EIO. */
void vfs_locks_lost(struct vfs *v, uint64_t node);
/* [fs.lock held] What a waiting lock operation's owner, and those of this mount who wait for that
 * owner, have locked of any file (ranges; max at most). */
size_t vfs_lock_stays(struct vfs *v, const void *op, struct m_lock_stay *out, size_t max);
/* [fs.lock held] Acts on effects: handles, invalidations (queued for the notifier thread). */
void vfs_effects(struct vfs *v, const struct core_effects *fx);

/* Mounts and serves until unmounted or vfs_stop. mount_done is called once the kernel has the mount
 * (the parent process of a daemon reports success then). 0 or -errno; err: 512 bytes for people. */
int vfs_serve(struct vfs *v, void (*mount_done)(void *arg), void *arg, char *err);
/* Any thread, also a signal handler's helper thread: makes vfs_serve unmount and return. */
void vfs_stop(struct vfs *v);
#endif
