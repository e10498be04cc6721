// SPDX-License-Identifier: Apache-2.0
/* Names and attributes: mostly one call of the core each.
 *
 * A create, mkdir or rename whose answer the kernel does not take (its process was killed) has
 * happened all the same, as on any filesystem. Whether set-id bits go with a change is said by the
 * kernel and done here; permissions are the kernel's, with the default_permissions option. Access
 * lists are kept here (acl.h) and given to new nodes here; the kernel reads them to decide.
 *
 * Owners as shown: with uid= and gid= everything belongs to them, nothing can be given away, and
 * what is made gets the stored owner of its directory, as who asks has no name elsewhere. The root
 * of a namespace that nobody has changed belongs to whoever mounted it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acl.h"
#include "vfs_int.h"

struct handle *vfs_handle(struct vfs *v, uint64_t nodeid)
{
    return handle_find(v->handles, nodeid);
}

struct core_who vfs_who(const struct vfs_op *op)
{
    struct owners *o = op->vfs->owners;
    struct core_who who = {.uid = op->uid, .gid = op->gid, .now = fs_now()};
    if (o != NULL) {
        owners_refresh(o, who.now);
        who.uid = owners_stored(o, false, op->uid);
        who.gid = owners_stored(o, true, op->gid);
    }
    return who;
}

int vfs_newest(struct vfs *v, struct vfs_op *op, uint64_t node)
{
    struct core_attr a;
    if (!v->fs->opt.strict || op->fresh)
        return 0;
    int rc = core_getattr(v->fs->core, node, &a, &op->need);
    if (rc != 0)
        return rc < 0 ? 0 : rc; /* it is gone: the operation says so */
    op->fresh_ns = a.ns;
    return VFS_FRESH;
}

/* What is not in the tree yet is room that the file takes, all the same: programs (tar) believe
 * that a file without any has no content. And nobody would tell the kernel when it gets there. */
static int stored_with_dirty(struct vfs *v, uint64_t node, struct core_attr *out)
{
    cleanup_ranges struct ranges dirty = {0};
    uint64_t rest = wb_ranges(v->wb, node, &dirty);
    if (dirty.n == 0)
        return 0;
    int rc = core_stored(v->fs->core, node, &dirty, &out->stored);
    uint64_t most = out->stored > out->size ? out->stored : out->size;
    out->stored = out->stored + rest < most ? out->stored + rest : most;
    return rc;
}

int vfs_attr_shown(struct vfs *v, const struct handle *h, struct core_attr *out)
{
    int rc = 0;
    if (h->old != NULL) {
        out->size = h->old->size;
        out->mtime = h->old->mtime;
        out->ctime = h->old->ctime;
    } else if (out->type == NODE_REG) {
        int64_t mtime = out->mtime;
        wb_attr(v->wb, h->node, &out->size, &out->mtime);
        out->ctime = out->mtime != mtime && out->mtime > out->ctime ? out->mtime : out->ctime;
        rc = stored_with_dirty(v, h->node, out);
    }
    return rc;
}

int vfs_attr(struct vfs *v, const struct handle *h, struct core_attr *out, struct core_need *need)
{
    int rc = core_getattr(v->fs->core, h->node, out, need);
    return rc == 0 ? vfs_attr_shown(v, h, out) : rc == -ENOENT ? -ESTALE : rc;
}

void vfs_entry(struct vfs *v, struct vfs_op *op, uint64_t parent, struct bytes name,
               const struct core_attr *a)
{
    struct handle *h = handle_get(v->handles, a->node);
    h->nlookup++;
    h->stale = false;
    op->attr = *a;
    op->entry = h->nodeid;
    if (a->type == NODE_DIR || op->type == OP_LINK)
        vfs_told(h);
    if (a->type != NODE_REG)
        return;
    if (name.n != 0)
        handle_name_add(h, parent, name);
    vfs_attr_shown(v, h, &op->attr);
}

void vfs_show(const struct vfs *v, struct core_attr *a)
{
    const struct fs_options *o = &v->fs->opt;
    if (a->pristine) {
        a->uid = geteuid();
        a->gid = getegid();
    } else if (v->owners != NULL) {
        a->uid = owners_local(v->owners, false, a->uid);
        a->gid = owners_local(v->owners, true, a->gid);
    }
    if (o->set_uid)
        a->uid = o->uid;
    if (o->set_gid)
        a->gid = o->gid;
    if (a->type != NODE_SYMLINK)
        a->mode &= ~o->umask;
}

void vfs_map_list(const struct vfs *v, struct bytes name, uint8_t *value, size_t n, bool to_stored)
{
    if (v->owners != NULL && acl_is_name(name))
        owners_list(v->owners, value, n, to_stored);
}

/* The bits that go when set-id bits do. Without the group's right to execute, set-gid is no danger
 * and stays if who asks is in the group. */
static uint32_t set_ids(struct vfs *v, const struct vfs_op *op, const struct core_attr *a)
{
    bool group = (a->mode & S_ISGID) != 0;
    if (group && (a->mode & S_IXGRP) == 0 && op->uid != 0) {
        struct core_attr shown = *a;
        vfs_show(v, &shown);
        group = op->gid != shown.gid && !v->front.in_group(v->front.ctx, op, shown.gid);
    } else if (group) {
        group = (a->mode & S_IXGRP) != 0;
    }
    return (a->mode & S_ISUID) | (group ? S_ISGID : 0);
}

int vfs_drop_set_ids(struct vfs *v, struct vfs_op *op, const struct core_attr *a)
{
    uint32_t bits = op->kill_priv ? set_ids(v, op, a) : 0;
    if (bits == 0)
        return 0;
    struct core_who who = vfs_who(op);
    struct core_attr new = {.mode = a->mode & ~bits};
    struct core_need need;
    int rc = core_setattr(v->fs->core, &who, a->node, CORE_SET_MODE, &new, &need);
    const struct handle *h = handle_live(v->handles, a->node);
    if (rc == 0 && h != NULL && h->nlookup != 0)
        op->new_mode = h->nodeid; /* the kernel expects new times and a new size only */
    return rc;
}

void vfs_handle_release(struct vfs *v, struct handle *h)
{
    uint64_t node = h->node;
    bool unlinked = h->unlinked;
    if (handle_release(v->handles, h) && unlinked && !handle_in_use(v->handles, node)) {
        wb_forget(v->wb, node);
        core_purge(v->fs->core, node);
    }
}

void vfs_lost_name(struct vfs *v, uint64_t node)
{
    struct core_attr a;
    struct core_need need;
    if (node == 0 || core_getattr(v->fs->core, node, &a, &need) != 0 || a.nlink != 0)
        return;
    struct handle *h = handle_of(v->handles, node);
    if (h == NULL) {
        wb_forget(v->wb, node);
        core_purge(v->fs->core, node);
    }
    for (; h != NULL; h = handle_next_of(h))
        h->unlinked = true;
}

/* A file handle is opened whose inode the kernel does not hold (.), or that of the directory above
 * (..). */
static int look_up_handle(struct vfs *v, struct vfs_op *op, bool above)
{
    const struct handle *h = vfs_handle(v, op->nodeid);
    uint64_t node = h != NULL ? h->node : handle_node_of(op->nodeid);
    struct core_attr a;
    int rc = node == 0 ? -ESTALE : vfs_newest(v, op, node);
    if (rc == 0 && above)
        rc = core_parent(v->fs->core, node, &node);
    if (rc == 0)
        rc = core_getattr(v->fs->core, node, &a, &op->need);
    if (rc == 0 && a.nlink == 0)
        rc = -ESTALE; /* what is removed and still open, the kernel holds itself */
    if (rc != 0)
        return rc;
    bool as_asked = above || handle_get(v->handles, node)->nodeid == op->nodeid;
    vfs_entry(v, op, 0, (struct bytes){0}, &a);
    if (as_asked)
        return 0;
    vfs_forget_locked(v, op->entry, 1); /* a newer version goes by another nodeid */
    op->entry = 0;
    return -ESTALE;
}

int vfs_lookup(struct vfs *v, struct vfs_op *op)
{
    if (bytes_equal(op->name, bytes_str(".")) || bytes_equal(op->name, bytes_str("..")))
        return look_up_handle(v, op, op->name.n == 2);
    struct handle *dir = vfs_handle(v, op->nodeid);
    if (dir == NULL)
        return -ESTALE;
    if (op->name.n > NAME_LEN_MAX)
        return -ENAMETOOLONG;
    struct core_attr a;
    op->entry = 0;
    int rc = vfs_newest(v, op, dir->node);
    if (rc == 0)
        rc = core_lookup(v->fs->core, dir->node, op->name, &a, &op->need);
    if (rc == 0) {
        vfs_entry(v, op, dir->node, op->name, &a);
        vfs_name_found(v, op, dir->node);
    }
    return rc == -ENOENT ? 0 : rc; /* a negative entry */
}

int vfs_getattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    int rc = vfs_attr(v, h, &op->attr, &op->need);
    /* A path to a file ends with a lookup; otherwise it is open, and its version is its own. */
    if (rc == 0 && op->attr.type == NODE_DIR)
        rc = vfs_newest(v, op, h->node);
    if (rc == 0 && !h->unlinked)
        h->stale = false;
    if (rc == 0 && op->attr.type == NODE_DIR)
        vfs_told(h);
    return rc;
}

/* Without default_permissions the kernel lets everything pass that the mount's user asks for: that
 * a file is not given away is then checked here. */
static int may_chown(struct vfs *v, struct vfs_op *op, const struct handle *h)
{
    struct core_attr now;
    if (v->fs->opt.default_permissions || op->uid == 0 ||
        (op->set & (CORE_SET_UID | CORE_SET_GID)) == 0)
        return 0;
    int rc = vfs_attr(v, h, &now, &op->need);
    if (rc != 0)
        return rc;
    vfs_show(v, &now);
    if ((op->set & CORE_SET_UID) != 0 && op->attr.uid != now.uid)
        return -EPERM;
    bool own_group = op->attr.gid == now.gid || op->attr.gid == op->gid;
    return (op->set & CORE_SET_GID) != 0 && !own_group ? -EPERM : 0;
}

/* What is asked, in terms of what is stored: *a and *mask are what the core gets. */
static int stored_attr(struct vfs *v, struct vfs_op *op, const struct handle *h,
                       struct core_attr *a, unsigned *mask)
{
    const struct fs_options *o = &v->fs->opt;
    struct core_attr now;
    int rc = core_getattr(v->fs->core, h->node, &now, &op->need);
    if (rc != 0)
        return rc == -ENOENT ? -ESTALE : rc;
    *a = op->attr; /* this may be run again */
    *mask = op->set & ~OP_SET_SIZE;
    if ((o->set_uid && (*mask & CORE_SET_UID) != 0 && a->uid != o->uid) ||
        (o->set_gid && (*mask & CORE_SET_GID) != 0 && a->gid != o->gid))
        return -EPERM;
    *mask &= ~((o->set_uid ? CORE_SET_UID : 0u) | (o->set_gid ? CORE_SET_GID : 0u));
    bool owner = (*mask & (CORE_SET_MODE | CORE_SET_UID | CORE_SET_GID)) != 0;
    if (now.pristine && owner) { /* it keeps the owner that was seen */
        a->uid = (*mask & CORE_SET_UID) != 0 ? a->uid : geteuid();
        a->gid = (*mask & CORE_SET_GID) != 0 ? a->gid : getegid();
        *mask |= CORE_SET_UID | CORE_SET_GID;
    }
    if (v->owners != NULL) {
        owners_refresh(v->owners, fs_now());
        a->uid = owners_stored(v->owners, false, a->uid);
        a->gid = owners_stored(v->owners, true, a->gid);
    }
    if ((*mask & CORE_SET_MODE) != 0)
        a->mode = (a->mode & ~o->umask) | (now.mode & o->umask);
    else if (op->kill_priv && now.type != NODE_DIR) {
        a->mode = now.mode & ~set_ids(v, op, &now);
        *mask |= a->mode != now.mode ? CORE_SET_MODE : 0;
    }
    if ((*mask & CORE_SET_ATIME) != 0 && (*mask & ~CORE_SET_ATIME) == 0) {
        a->ctime = fs_now(); /* unlike that of a read, it is a change */
        *mask |= CORE_SET_CTIME;
    }
    return 0;
}

int vfs_setattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    struct core_attr a;
    unsigned mask;
    if (h == NULL)
        return -ESTALE;
    int allowed = may_chown(v, op, h);
    if (allowed == 0)
        allowed = stored_attr(v, op, h, &a, &mask);
    if (allowed != 0)
        return allowed;
    if ((op->set & OP_SET_SIZE) != 0) {
        int rc = op->file != NULL ? vfs_locks_good(v, op->file) : 0;
        if (rc == 0)
            rc = vfs_truncate(v, op, h, op->attr.size);
        if (rc != 0)
            return rc;
    }
    if ((mask & CORE_SET_MTIME) != 0) { /* otherwise the flush would set its own, later */
        int rc = wb_flush(v->wb, h->node, &op->ticket);
        if (rc != 0)
            return rc;
    }
    if (mask != 0) {
        struct core_who who = vfs_who(op);
        int rc = core_setattr(v->fs->core, &who, h->node, mask, &a, &op->need);
        if (rc != 0)
            return rc;
        if (h->old != NULL && (mask & CORE_SET_MTIME) != 0)
            h->old->mtime = a.mtime;
        sync_kick(v->fs->sync);
    }
    struct core_attr out;
    int rc = vfs_attr(v, h, &out, &op->need);
    if (rc == 0) {
        op->attr = out;
        vfs_told(h);
    }
    return rc;
}

int vfs_readlink(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    op->out = malloc(TARGET_LEN_MAX + 1);
    if (op->out == NULL)
        return -ENOMEM;
    int rc =
        core_readlink(v->fs->core, h->node, (char *)op->out, TARGET_LEN_MAX, &op->out_n, &op->need);
    if (rc == 0 && op->out_n > TARGET_LEN_MAX)
        rc = -EIO;
    op->out[rc == 0 ? op->out_n : 0] = '\0';
    return rc;
}

static enum node_type type_of(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return NODE_DIR;
    case S_IFLNK:
        return NODE_SYMLINK;
    case S_IFIFO:
        return NODE_FIFO;
    case S_IFSOCK:
        return NODE_SOCK;
    case S_IFCHR:
        return NODE_CHR;
    case S_IFBLK:
        return NODE_BLK;
    default:
        return NODE_REG;
    }
}

/* The default list of a directory, for what is made in it: it, and not the process's umask, limits
 * the permissions then. */
static int inherit(struct vfs *v, struct vfs_op *op, const struct handle *dir, uint32_t *mode,
                   struct buf *list, bool *extended)
{
    uint32_t bits = 0777 & ~op->umask;
    *extended = false;
    if (S_ISLNK(op->mode))
        return 0;
    int rc = core_getxattr(v->fs->core, dir->node, bytes_str(ACL_DEFAULT), list, &op->need);
    if (rc != 0 && rc != -ENODATA)
        return rc;
    if (rc == 0 && acl_read(bytes_of(list->p, list->n), &bits, extended) != 0)
        list->n = 0; /* from elsewhere, and none: as if it were not there */
    *mode &= bits | ~0777u;
    return 0;
}

/* A node and the lists that it inherits, in one transaction. */
static int make_with_lists(struct vfs *v, struct vfs_op *op, const struct core_who *who,
                           uint64_t dir, uint32_t mode, struct bytes list, bool extended,
                           struct core_attr *out)
{
    struct core *c = v->fs->core;
    enum node_type type = type_of(op->mode);
    int rc = core_begin(c);
    if (rc != 0)
        return rc;
    rc = core_create(c, who, dir, op->nameless ? (struct bytes){0} : op->name, type, mode, op->rdev,
                     op->data, out, &op->need);
    if (rc == 0 && extended)
        rc = core_setxattr(c, who, out->node, bytes_str(ACL_ACCESS), list, 0, &op->need);
    if (rc == 0 && list.n != 0 && type == NODE_DIR)
        rc = core_setxattr(c, who, out->node, bytes_str(ACL_DEFAULT), list, 0, &op->need);
    int ended = core_end(c, rc == 0);
    return rc != 0 ? rc : ended;
}

/* Makes a node in the directory; a set-id directory gives it its group, and a new directory the
 * bit. */
static int make(struct vfs *v, struct vfs_op *op, struct handle *dir, struct core_attr *out)
{
    const struct fs_options *o = &v->fs->opt;
    struct core_who who = vfs_who(op);
    struct core_attr parent;
    cleanup_buf struct buf list = {0};
    bool extended = false;
    uint32_t mode = op->mode & 07777;
    int rc = core_getattr(v->fs->core, dir->node, &parent, &op->need);
    if (rc == 0)
        rc = inherit(v, op, dir, &mode, &list, &extended);
    if (rc != 0)
        return rc;
    if (o->set_uid)
        who.uid = parent.uid;
    if (o->set_gid || (parent.mode & S_ISGID) != 0)
        who.gid = parent.gid;
    if ((parent.mode & S_ISGID) != 0 && S_ISDIR(op->mode))
        mode |= S_ISGID;
    out->ns = parent.ns;
    rc = make_with_lists(v, op, &who, op->nameless ? 0 : dir->node, mode, bytes_of(list.p, list.n),
                         extended, out);
    if (rc == 0) {
        vfs_recheck(v, dir);
        sync_kick(v->fs->sync);
    }
    return rc;
}

int vfs_mknod(struct vfs *v, struct vfs_op *op)
{
    struct handle *dir = vfs_handle(v, op->nodeid);
    if (dir == NULL)
        return -ESTALE;
    if (S_ISLNK(op->mode) && op->data.n > TARGET_LEN_MAX)
        return -ENAMETOOLONG;
    if (vfs_claims(v, op) && !op->heap)
        return VFS_PARK;
    struct core_attr a = {.node = op->claimed};
    int rc = op->claimed != 0 ? 0 : make(v, op, dir, &a);
    if (rc == 0)
        rc = vfs_claim(v, op, a.node, a.node, &a);
    if (rc == 0)
        vfs_entry(v, op, dir->node, op->name, &a);
    return rc == -EEXIST ? vfs_name_exists(v, op) : rc;
}

/* Whether an account may change the namespace: 0, -EROFS. */
static int writable(struct vfs *v, uint64_t ns_id, struct core_ns *ns)
{
    int rc = core_ns_get(v->fs->core, ns_id, ns);
    if (rc != 0)
        return rc;
    return v->fs->opt.read_only || ns->role < ROLE_EDITOR ? -EROFS : 0;
}

int vfs_create(struct vfs *v, struct vfs_op *op)
{
    struct handle *dir = vfs_handle(v, op->nodeid);
    if (dir == NULL)
        return -ESTALE;
    if (vfs_claims(v, op) && !op->heap)
        return VFS_PARK;
    struct core_attr a = {.node = op->claimed};
    struct core_ns ns;
    int rc = op->claimed != 0 ? 0 : make(v, op, dir, &a);
    if (rc == 0)
        rc = vfs_claim(v, op, a.node, a.node, &a);
    /* Another device was first, and the kernel does not know yet: it looks the name up, and opens
     * what is there, if whoever asks may. (For a new file it asked for the directory only.) */
    if (rc == -EEXIST && (op->flags & O_EXCL) == 0)
        return -ESTALE;
    if (rc == 0)
        rc = writable(v, a.ns, &ns);
    if (rc != 0)
        return rc == -EEXIST ? vfs_name_exists(v, op) : rc;
    vfs_entry(v, op, dir->node, op->nameless ? (struct bytes){0} : op->name, &a);
    struct handle *h = handle_find(v->handles, op->entry);
    h->unlinked = h->unlinked || op->nameless;
    vfs_file_open(v, op, h, &ns, false);
    return 0;
}

int vfs_open(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    /* The kernel has yet to be told of new content: let it look the name up first, so that it does
     * not show that content within the old size. (It asks again at once, and anew.) With
     * coherence=strict it keeps no attributes. */
    if (h->stale && !v->fs->opt.strict && h->stale_opens++ < 4)
        return -ESTALE;
    struct core_attr a;
    struct core_ns ns;
    int rc = vfs_newest(v, op, h->node);
    if (rc == 0)
        rc = vfs_attr(v, h, &a, &op->need);
    if (rc == 0)
        rc = core_ns_get(v->fs->core, a.ns, &ns);
    bool writes = (op->flags & O_ACCMODE) != O_RDONLY;
    if (rc == 0 && (writes || (op->flags & O_TRUNC) != 0))
        rc = writable(v, a.ns, &ns);
    if (rc == 0 && (op->flags & O_TRUNC) != 0)
        rc = vfs_truncate(v, op, h, 0);
    if (rc == 0 && (op->flags & O_TRUNC) != 0)
        rc = vfs_drop_set_ids(v, op, &a);
    if (rc == 0)
        vfs_file_open(v, op, h, &ns, false);
    return rc;
}

static int unlink_here(struct vfs *v, struct vfs_op *op, struct handle *dir)
{
    struct core_who who = vfs_who(op);
    uint64_t node = 0;
    int rc = core_unlink(v->fs->core, &who, dir->node, op->name, op->dir, &node, &op->need);
    if (rc != 0)
        return rc;
    struct handle *h = handle_live(v->handles, node);
    if (h != NULL)
        handle_name_remove(h, dir->node, op->name);
    vfs_lost_name(v, node);
    vfs_recheck(v, dir);
    sync_kick(v->fs->sync);
    return 0;
}

int vfs_unlink(struct vfs *v, struct vfs_op *op)
{
    struct handle *dir = vfs_handle(v, op->nodeid);
    if (dir == NULL)
        return -ESTALE;
    int rc = op->changed ? 0 : vfs_name_goes(v, op, dir->node);
    if (rc == 0 && !op->changed)
        rc = unlink_here(v, op, dir);
    return rc != 0 ? rc : vfs_name_told(v, op, dir->node);
}

/* A name of a file moves with it. */
static void name_moved(struct vfs *v, uint64_t node, uint64_t from, struct bytes old, uint64_t to,
                       struct bytes name)
{
    struct handle *h = handle_live(v->handles, node);
    if (h == NULL || h->names.n == 0)
        return;
    handle_name_remove(h, from, old);
    handle_name_add(h, to, name);
}

/* The kernel moves what it knows under a name. Where it has not been told yet that something else
 * is there, that is what the new name would show from then on. */
static void kernel_moves(struct vfs *v, uint64_t from, struct bytes old, uint64_t to,
                         struct bytes name)
{
    if (v->notify != NULL && notify_entry_waits(v->notify, from, old))
        notify_entry(v->notify, to, name);
}

static int rename_here(struct vfs *v, struct vfs_op *op, struct handle *from, struct handle *to)
{
    struct core_attr a = {0}, b = {0};
    struct core_who who = vfs_who(op);
    int rc = core_lookup(v->fs->core, from->node, op->name, &a, &op->need);
    if (rc == 0 && (op->flags & RENAME_EXCHANGE) != 0)
        rc = core_lookup(v->fs->core, to->node, op->name2, &b, &op->need);
    if (rc != 0)
        return rc;
    uint64_t replaced = 0;
    rc = core_rename(v->fs->core, &who, from->node, op->name, to->node, op->name2, op->flags,
                     &replaced, &op->need);
    if (rc != 0)
        return rc;
    op->claimed = vfs_claims(v, op) ? a.node : 0;
    name_moved(v, a.node, from->node, op->name, to->node, op->name2);
    kernel_moves(v, op->nodeid, op->name, op->nodeid2, op->name2);
    if ((op->flags & RENAME_EXCHANGE) != 0) {
        kernel_moves(v, op->nodeid2, op->name2, op->nodeid, op->name);
        name_moved(v, b.node, to->node, op->name2, from->node, op->name);
    } else if (replaced != 0 && replaced != a.node) {
        struct handle *h = handle_live(v->handles, replaced);
        if (h != NULL)
            handle_name_remove(h, to->node, op->name2);
        vfs_lost_name(v, replaced);
    }
    vfs_recheck(v, from);
    vfs_recheck(v, to);
    sync_kick(v->fs->sync);
    return 0;
}

int vfs_rename(struct vfs *v, struct vfs_op *op)
{
    struct handle *from = vfs_handle(v, op->nodeid), *to = vfs_handle(v, op->nodeid2);
    if (from == NULL || to == NULL)
        return -ESTALE;
    if (vfs_claims(v, op) && !op->heap)
        return VFS_PARK;
    int rc = op->changed ? 0 : vfs_name_goes(v, op, from->node);
    if (rc == 0 && !op->changed)
        rc = rename_here(v, op, from, to);
    if (rc != 0)
        return rc == -EEXIST ? vfs_name_exists(v, op) : rc;
    op->changed = true;
    if (!vfs_claims(v, op))
        return vfs_name_told(v, op, from->node);
    struct core_attr a;
    uint64_t node = op->claimed;
    rc = vfs_claim(v, op, node, from->node, &a);
    if (rc < 0) /* it has its old name again */
        name_moved(v, node, to->node, op->name2, from->node, op->name);
    return rc == -EEXIST ? vfs_name_exists(v, op) : rc;
}

int vfs_link(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid), *dir = vfs_handle(v, op->nodeid2);
    if (h == NULL || dir == NULL)
        return -ESTALE;
    if (vfs_claims(v, op) && !op->heap)
        return VFS_PARK;
    struct core_who who = vfs_who(op);
    struct core_attr a = {.node = op->claimed};
    int rc = op->claimed != 0
                 ? 0
                 : core_link(v->fs->core, &who, h->node, dir->node, op->name, &a, &op->need);
    if (rc == 0)
        rc = vfs_claim(v, op, a.node, dir->node, &a);
    if (rc != 0)
        return rc == -EEXIST ? vfs_name_exists(v, op) : rc;
    for (struct handle *i = handle_of(v->handles, h->node); i != NULL; i = handle_next_of(i))
        i->unlinked = false;
    vfs_entry(v, op, dir->node, op->name, &a);
    vfs_recheck(v, dir);
    sync_kick(v->fs->sync);
    return 0;
}
