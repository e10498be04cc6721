// SPDX-License-Identifier: Apache-2.0
/* locks=global: locks that count against other mounts.
 *
 * The programs of this mount are among themselves as always (vfs_lock.c). Besides, the device holds
 * at the metadata server the union of what they have (sync_lock.c), which is asked for before a
 * program is given what it does not cover, and reduced when a program releases something.
 *
 * A lock is there for what is done under it, to the file or to others. So before one is released,
 * all that is pending in the namespace is committed; and who is given one that was asked for waits
 * until everything committed is applied here and the kernel has been told: what it opens, reads or
 * lists then is the newest. An old version that it has open catches up. A lock costs a round trip
 * or two, its release a commit.
 *
 * Programs that hold locks when the lease ends get EIO from reading and writing the file through
 * what they locked, until they unlock or close it: they may not be alone with it any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "vfs_int.h"

static struct m_lock_range range_of(const struct lock *l)
{
    return (struct m_lock_range){
        .whole = l->whole, .exclusive = l->exclusive, .off = l->off, .end = l->end};
}

bool vfs_has_locks(struct vfs *v, const struct vfs_file *f)
{
    for (struct handle *h = handle_of(v->handles, f->h->node); h != NULL; h = handle_next_of(h))
        for (const struct lock *l = h->locks.head; l != NULL; l = l->next)
            if (l->file == f)
                return true;
    return false;
}

bool vfs_has_ranges(struct vfs *v, const struct vfs_file *f, uint64_t owner)
{
    for (struct handle *h = handle_of(v->handles, f->h->node); h != NULL; h = handle_next_of(h))
        for (const struct lock *l = h->locks.head; l != NULL; l = l->next)
            if (!l->whole && l->owner == owner)
                return true;
    return false;
}

/* What the device needs of the node: what its programs hold, and what was asked for them that they
 * are about to take. True: all of it fits. */
static bool needed(struct vfs *v, uint64_t node, struct lockset *out)
{
    bool fits = true;
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = handle_next_of(h))
        for (const struct lock *l = h->locks.head; l != NULL; l = l->next) {
            struct m_lock_range r = range_of(l);
            fits = fits && lockset_add(out, &r) == 0;
        }
    for (const struct vfs_op *op = v->parked; op != NULL; op = op->next)
        if (op->type == OP_LOCK && op->lock_asked && op->file->h->node == node &&
            sync_lock_covers(v->fs->sync, node, &op->range))
            fits = fits && lockset_add(out, &op->range) == 0;
    return fits;
}

/* Gives back what is not needed. At the end of the mount everything is kept until it is sent. */
static void trim(struct vfs *v, uint64_t node)
{
    struct lockset set = {0};
    if (v->fs->opt.global_locks && !v->stopping && needed(v, node, &set))
        sync_lock_hold(v->fs->sync, node, &set);
    lockset_free(&set);
}

void vfs_locks_trim(struct vfs *v, uint64_t node)
{
    trim(v, node);
}

void vfs_lock_asks(struct vfs *v, struct vfs_op *op)
{
    uint64_t was = op->lock_node;
    op->lock_asked = true;
    op->lock_node = op->file->h->node;
    if (was != 0 && was != op->lock_node) /* what it had open became a copy */
        trim(v, was);
}

void vfs_lock_ends(struct vfs *v, struct vfs_op *op)
{
    op->lock_asked = false;
    trim(v, op->lock_node);
}

static bool in_namespace(void *ctx, uint64_t node)
{
    const struct vfs_op *op = ctx;
    struct core_attr a;
    struct core_need need;
    return core_getattr(op->vfs->fs->core, node, &a, &need) == 0 && a.ns == op->file->ns;
}

/* What was written to the file (all: to any of its namespace, open ones included) comes into the
 * tree. 0; VFS_WB; -errno: of the file, and one of close or fsync */
static int takes_in(struct vfs *v, struct vfs_op *op, bool all)
{
    int rc = wb_flush(v->wb, op->file->h->node, &op->ticket2);
    if (rc > 0 || !all)
        return rc;
    return wb_flush_these(v->wb, in_namespace, op, &op->ticket_all);
}

/* What was written to the file (or all that is pending in its namespace) is committed, as far as
 * the server can be reached. */
static int commits(struct vfs *v, struct vfs_op *op, bool all)
{
    uint64_t node = op->file->h->node;
    bool waits = !op->interrupted && !v->stopping && sync_online(v->fs->sync);
    if (waits && !op->barrier_done) {
        int rc = takes_in(v, op, all);
        if (rc > 0)
            return rc;
        if (rc == 0) {
            op->barrier_node = node;
            op->barrier_local = false;
            op->barrier_all = all;
            op->barrier_ns = op->file->ns;
            return VFS_BARRIER;
        }
    }
    op->lock_quiet = true;
    op->barrier_done = false; /* close and fsync have their own */
    op->barrier_err = 0;
    return 0;
}

/* ---- taking -----------------------------------------------------------------------------------
 */

/* What was changed here under another nodeid (vfs_reattach) is seen, too. */
static int others_seen(struct vfs *v, struct vfs_op *op)
{
    if (v->notify == NULL || !vfs_has_twin(v, op->file->h))
        return 0;
    if (op->mark == 0)
        op->mark = notify_mark(v->notify);
    return notify_inodes_passed(v->notify) < op->mark ? VFS_LOCK : 0;
}

/* What a program sees under its new lock is what was committed before. */
static int catch_up(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = op->file->h;
    if (h->old == NULL && !op->lock_asked)
        return others_seen(v, op);
    if (!op->fresh) {
        op->fresh_ns = op->file->ns;
        return VFS_FRESH;
    }
    if (v->notify == NULL)
        return 0;
    if (h->old != NULL) {
        vfs_reattach(v, h);
        op->mark = 0;
    }
    if (op->mark == 0)
        op->mark = notify_mark(v->notify);
    return notify_passed(v->notify) < op->mark ? VFS_LOCK : 0;
}

int vfs_lock_global(struct vfs *v, struct vfs_op *op)
{
    uint64_t node = op->file->h->node;
    op->range = range_of(&op->lock);
    if (!sync_lock_covers(v->fs->sync, node, &op->range)) {
        int rc = op->lock_quiet ? 0 : commits(v, op, false); /* the others must know the file */
        if (rc != 0)
            return rc;
        op->range.patient = op->sleeps;
        op->fresh = false; /* what was seen before it is given does not count */
        op->mark = 0;
        return VFS_GLOBAL;
    }
    return catch_up(v, op);
}

int vfs_getlock_global(struct vfs_op *op)
{
    if (!op->lock_asked) {
        op->range = range_of(&op->lock);
        op->range.test = true;
        return VFS_GLOBAL;
    }
    op->unlock = op->range.test; /* otherwise it is what was found in the way */
    if (!op->unlock)
        op->lock = (struct lock){.whole = op->range.whole,
                                 .exclusive = op->range.exclusive,
                                 .off = op->range.off,
                                 .end = op->range.end}; /* pid 0: of another machine */
    return 0;
}

/* ---- releasing --------------------------------------------------------------------------------
 */

int vfs_unlock_commits(struct vfs *v, struct vfs_op *op)
{
    bool needless = !v->fs->opt.global_locks || op->lock_quiet || !sync_lock_lease(v->fs->sync);
    return needless ? 0 : commits(v, op, true);
}

int vfs_unlock_told(struct vfs *v, struct vfs_op *op, uint64_t node)
{
    trim(v, node);
    if (!v->fs->opt.global_locks || op->lock_told || op->interrupted || v->stopping)
        return 0;
    return VFS_TOLD;
}

/* ---- losing -----------------------------------------------------------------------------------
 */

void vfs_locks_lost(struct vfs *v, uint64_t node)
{
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = handle_next_of(h)) {
        if (h->locks.head != NULL)
            vfs_drop_cached(v, h); /* reads of pages that the kernel has do not come here */
        for (struct vfs_file *f = v->files; f != NULL && h->locks.head != NULL; f = f->next)
            for (const struct lock *l = h->locks.head; l != NULL && !f->locks_lost; l = l->next)
                f->locks_lost = l->file == f;
        locks_free(&h->locks);
    }
    vfs_locks_changed(v);
}

int vfs_locks_good(struct vfs *v, struct vfs_file *f)
{
    if (!v->fs->opt.global_locks || f->locks_lost)
        return f->locks_lost ? -EIO : 0;
    if (f->h->locks.head != NULL && !sync_lock_lease(v->fs->sync) && vfs_has_locks(v, f))
        vfs_locks_lost(v, f->h->node);
    return f->locks_lost ? -EIO : 0;
}
