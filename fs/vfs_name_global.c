// SPDX-License-Identifier: Apache-2.0
/* locks=global: names that count against other mounts.
 *
 * Programs lock with names, too: with a file made by O_CREAT|O_EXCL, a directory, a link, which
 * are removed or renamed to give the lock back; and the file that they lock with flock is made by
 * whoever comes first. So what makes a name is answered when the name is committed: of two mounts
 * that make one at the same moment the metadata server takes one, and the other's is taken back as
 * if it had never been (core_hooks.claimed), instead of becoming a conflicted copy. And before a
 * name goes, all that is pending in the namespace is committed, as before a lock is given back:
 * whoever finds the name free has in its tree what was done while it was taken. As on NFS, that is
 * a round trip each.
 *
 * A name is made in the tree first: the commit is the question. From then on until the answer the
 * operation is parked, so that the hook finds it.
 *
 * Meanwhile the kernel holds its lock of the directory, and cannot be told of names in it. So who
 * was not the first gets ESTALE once (vfs_name_exists), on which the kernel looks the name up, and
 * sees it; and who was, in the moment until the kernel is told of the rest, ESTALE from opening
 * what was replaced (vfs_open). Content, attributes and lists are told of before the answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>

#include "vfs_int.h"

static bool in_namespace(void *ctx, uint64_t node)
{
    const struct vfs_op *op = ctx;
    struct core_attr a;
    struct core_need need;
    return core_getattr(op->vfs->fs->core, node, &a, &need) == 0 && a.ns == op->barrier_ns;
}

/* ---- making -----------------------------------------------------------------------------------
 */

bool vfs_claims(const struct vfs *v, const struct vfs_op *op)
{
    bool makes = op->type == OP_CREATE || op->type == OP_MKNOD || op->type == OP_LINK ||
                 (op->type == OP_RENAME &&
                  (op->flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) == RENAME_NOREPLACE);
    return v->fs->opt.global_locks && makes && !op->nameless;
}

/* The directory of the name that op makes, and the name. */
static const struct handle *claim_of(struct vfs *v, const struct vfs_op *op, struct bytes *name)
{
    bool second = op->type == OP_LINK || op->type == OP_RENAME;
    *name = op->type == OP_RENAME ? op->name2 : op->name;
    return vfs_handle(v, second ? op->nodeid2 : op->nodeid);
}

bool vfs_claimed(struct vfs *v, uint64_t parent, struct bytes name)
{
    for (const struct vfs_op *op = v->parked; op != NULL; op = op->next) {
        struct bytes claim;
        const struct handle *dir = op->claimed != 0 ? claim_of(v, op, &claim) : NULL;
        if (dir != NULL && dir->node == parent && bytes_equal(claim, name))
            return true;
    }
    return false;
}

/* The server did not say in time that it has the name, or refuses it. */
static int take_back(struct vfs *v, struct vfs_op *op, const struct handle *dir, struct bytes name,
                     const struct core_attr *a)
{
    struct core_who who = vfs_who(op);
    const struct handle *from = vfs_handle(v, op->nodeid);
    uint64_t node = 0;
    int rc;
    if (op->type == OP_RENAME)
        rc = from == NULL ? -ESTALE
                          : core_rename(v->fs->core, &who, dir->node, name, from->node, op->name, 0,
                                        &node, &op->need);
    else
        rc = core_unlink(v->fs->core, &who, dir->node, name, a->type == NODE_DIR, &node, &op->need);
    if (rc != 0)
        return rc;
    if (op->type != OP_RENAME)
        vfs_lost_name(v, node);
    sync_kick(v->fs->sync);
    return op->barrier_err;
}

/* The file that was to be renamed has its old name again: the core gives it back to what would have
 * none, but this one has others. */
static int give_back(struct vfs *v, struct vfs_op *op)
{
    struct core_who who = vfs_who(op);
    const struct handle *from = vfs_handle(v, op->nodeid);
    struct core_attr a;
    if (op->type != OP_RENAME || from == NULL)
        return 0;
    int rc = core_lookup(v->fs->core, from->node, op->name, &a, &op->need);
    if (rc == -ENOENT)
        rc = core_link(v->fs->core, &who, op->claimed, from->node, op->name, &a, &op->need);
    return rc;
}

/* The thread that makes the name, as one number; 0: not known. */
static uint64_t late_mark(uint32_t tid, uint64_t parent, struct bytes name)
{
    uint64_t h = parent ^ ((uint64_t)tid << 32);
    for (size_t i = 0; i < name.n; i++)
        h = (h ^ name.p[i]) * 0x100000001b3u; /* FNV-1a */
    return tid != 0 ? h | 1 : 0;
}

static bool late_end(struct vfs *v, uint64_t mark)
{
    for (size_t i = 0; i < VFS_LATE_MAX; i++)
        if (v->late[i] == mark) {
            v->late[i] = 0;
            return true;
        }
    return false;
}

int vfs_name_exists(struct vfs *v, const struct vfs_op *op)
{
    struct bytes name;
    const struct handle *dir = vfs_claims(v, op) ? claim_of(v, op, &name) : NULL;
    bool opens = op->type == OP_CREATE && (op->flags & O_EXCL) == 0;
    uint64_t mark = dir != NULL && !opens ? late_mark(op->tid, dir->node, name) : 0;
    if (mark == 0 || late_end(v, mark))
        return -EEXIST;
    v->late[v->late_next++ % VFS_LATE_MAX] = mark;
    return -ESTALE;
}

void vfs_name_found(struct vfs *v, const struct vfs_op *op, uint64_t parent)
{
    if (v->late_next != 0)
        late_end(v, late_mark(op->tid, parent, op->name));
}

/* The kernel is told of content and attributes of what others committed before. */
static int told(struct vfs *v, struct vfs_op *op)
{
    if (v->notify == NULL)
        return 0;
    if (op->mark == 0)
        op->mark = notify_mark(v->notify);
    return notify_inodes_passed(v->notify) < op->mark ? VFS_LOCK : 0;
}

int vfs_claim(struct vfs *v, struct vfs_op *op, uint64_t node, uint64_t commit, struct core_attr *a)
{
    struct bytes name;
    if (!vfs_claims(v, op))
        return 0;
    op->claimed = node;
    if (!op->barrier_done) {
        op->barrier_node = commit;
        op->barrier_local = false;
        return VFS_BARRIER;
    }
    const struct handle *dir = claim_of(v, op, &name);
    int rc = dir == NULL ? -ESTALE : core_lookup(v->fs->core, dir->node, name, a, &op->need);
    if (rc == 0 && a->node != op->claimed) {
        rc = give_back(v, op);
        return rc != 0 ? rc : -EEXIST;
    }
    if (rc == 0 && op->barrier_err != 0)
        return take_back(v, op, dir, name, a);
    return rc != 0 ? rc : told(v, op);
}

/* ---- removing ---------------------------------------------------------------------------------
 */

/* Whether op is to wait for the server at all. */
static bool asks(const struct vfs *v, const struct vfs_op *op)
{
    return v->fs->opt.global_locks && !op->interrupted && !v->stopping && sync_online(v->fs->sync);
}

int vfs_name_goes(struct vfs *v, struct vfs_op *op, uint64_t dir)
{
    struct core_attr a;
    if (op->ordered || !asks(v, op))
        return 0;
    if (!op->barrier_done) {
        int rc = core_getattr(v->fs->core, dir, &a, &op->need);
        if (rc != 0)
            return rc;
        op->barrier_ns = a.ns;
        rc = wb_flush_these(v->wb, in_namespace, op, &op->ticket_all);
        if (rc != 0)
            return rc;
        op->barrier_node = dir;
        op->barrier_local = false;
        op->barrier_all = true;
        return VFS_BARRIER;
    }
    op->ordered = true;
    op->barrier_done = false; /* the removal has its own */
    op->barrier_err = 0;
    return 0;
}

int vfs_name_told(struct vfs *v, struct vfs_op *op, uint64_t dir)
{
    op->changed = true;
    if (op->barrier_done || !asks(v, op))
        return 0;
    op->barrier_node = dir;
    op->barrier_local = false;
    return VFS_BARRIER;
}
