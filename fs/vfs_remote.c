// SPDX-License-Identifier: Apache-2.0
/* What other devices changed: how open files keep their version, and what the kernel is told.
 *
 * The core calls content_changes before it changes the extents of a file. If the file is open here,
 * its handle is detached (handle.h) and what is about to go is saved, as extents: the blocks
 * themselves stay where they are. Its names are invalidated, so that whoever opens the file next
 * gets the new version under a new nodeid. If it is not open, the kernel is told to drop what it
 * has cached; until it has done so, opening fails once with ESTALE, on which the kernel looks the
 * name up again and gets the new size: otherwise a program could read new content within an old
 * size.
 *
 * Content that was never loaded cannot be saved; reading it through a detached handle gives ESTALE.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vfs_int.h"

#define TOLD_NS 3000000000ll       /* in which a thread that was answered runs */
#define COPY_QUIET_NS 5000000000ll /* after which an open file that was copied to is committed */

/* ---- old versions --------------------------------------------------------------------------- */

void vfs_save_old(struct vfs *v, uint64_t node, uint64_t off, uint64_t end)
{
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = handle_next_of(h)) {
        if (h->old == NULL)
            continue;
        cleanup_ranges struct ranges todo = {0};
        handle_unsaved(h, off, end, &todo);
        for (size_t i = 0; i < todo.n; i++) {
            cleanup_extents struct extent_list l = {0};
            struct core_need need;
            int rc = core_extents(v->fs->core, node, todo.v[i].off, todo.v[i].end - todo.v[i].off,
                                  &l, &need);
            handle_save(h, todo.v[i].off, todo.v[i].end, rc == 0 ? &l : NULL);
        }
    }
}

int vfs_old_extents(struct vfs *v, const struct handle *h, uint64_t off, uint64_t end,
                    struct extent_list *out, struct core_need *need)
{
    const struct handle_old *old = h->old;
    for (size_t i = 0; i < old->lost.n; i++)
        if (old->lost.v[i].off < end && old->lost.v[i].end > off)
            return -ESTALE;
    cleanup_extents struct extent_list all = {0};
    cleanup_ranges struct ranges current = {0};
    handle_unsaved(h, off, end, &current);
    for (size_t i = 0; i < current.n; i++) {
        int rc = core_extents(v->fs->core, h->node, current.v[i].off,
                              current.v[i].end - current.v[i].off, &all, need);
        if (rc != 0)
            return rc;
    }
    for (size_t i = 0; i < old->saved.n; i++) {
        const struct range *r = &old->saved.v[i];
        uint64_t a = r->off > off ? r->off : off, b = r->end < end ? r->end : end;
        cleanup_extents struct extent_list part = {0};
        if (a >= b)
            continue;
        extent_list_slice(&old->extents, a, b - a, &part);
        extent_list_splice(&all, a, b - a, &part);
    }
    for (size_t i = 0; i < all.n; i++)
        extent_list_append(out, &all.v[i]);
    return 0;
}

/* The handle shows `node`, live, from now on, and its writers write to that. */
static void follow(struct vfs *v, struct handle *h, uint64_t node)
{
    for (unsigned i = 0; i < h->writers; i++) {
        wb_open(v->wb, node);
        wb_close(v->wb, h->node);
    }
    uint64_t was = h->node;
    handle_attach(h);
    handle_move(v->handles, h, node);
    h->unlinked = false;
    h->version++;
    vfs_locks_trim(v, was); /* its locks went with it */
}

int vfs_fork(struct vfs *v, struct vfs_op *op, struct handle *h)
{
    if (h->old == NULL)
        return 0;
    cleanup_extents struct extent_list l = {0};
    struct core_who who = vfs_who(op);
    struct core_attr a;
    int rc = vfs_old_extents(v, h, 0, h->old->size, &l, &op->need);
    if (rc != 0)
        return rc;
    struct core_effects fx = {0};
    rc = core_fork(v->fs->core, &who, h->node, &l, h->old->size, &a, &fx);
    if (rc == 0) {
        follow(v, h, a.node);
        h->cached_version = h->version; /* the same content as before */
        vfs_effects(v, &fx);
        sync_kick(v->fs->sync);
    }
    core_effects_free(&fx);
    return rc;
}

/* ---- hooks of the core ---------------------------------------------------------------------- */

static void inval_inode(struct vfs *v, const struct handle *h, int64_t off)
{
    if (v->notify != NULL && h->nlookup > 0)
        notify_inode(v->notify, h->nodeid, off);
}

void vfs_told(struct handle *h)
{
    h->told = fs_now();
}

/* A program's thread takes an answer's attributes when it runs again, which may be after the kernel
 * has seen the end of a change, or was told of one. A change of a directory's names does not keep
 * it from believing an answer to GETATTR that is older; an invalidation does, but not from
 * believing an answer to SETATTR or LINK (fuse_dir_changed, fuse_change_attributes and
 * fuse_do_setattr in Linux). It would show the old times, size and mode for an hour. So where such
 * an answer was given shortly before, the kernel is told once more, a moment after the last change.
 */
void vfs_recheck(struct vfs *v, struct handle *h)
{
    if (v->notify == NULL || h->nlookup == 0 || h->told == 0 || h->told + TOLD_NS < fs_now())
        return;
    if (h->recheck == RECHECK_NONE)
        notify_recheck(v->notify, h->nodeid);
    h->recheck = h->recheck == RECHECK_NONE ? RECHECK_QUEUED : RECHECK_AGAIN;
}

static bool is_twin(const struct handle *i, const struct handle *h)
{
    return i != h && i->old == NULL && i->nlookup > 0;
}

bool vfs_has_twin(struct vfs *v, const struct handle *h)
{
    for (struct handle *i = handle_of(v->handles, h->node); i != NULL; i = handle_next_of(i))
        if (is_twin(i, h))
            return true;
    return false;
}

void vfs_changed(struct vfs *v, const struct handle *h)
{
    for (struct handle *i = handle_of(v->handles, h->node); i != NULL; i = handle_next_of(i))
        if (is_twin(i, h))
            inval_inode(v, i, 0);
}

void vfs_misplaced(struct vfs *v, const struct handle *h, uint64_t off)
{
    inval_inode(v, h, (int64_t)off);
}

void vfs_drop_cached(struct vfs *v, const struct handle *h)
{
    inval_inode(v, h, 0);
}

void vfs_reattach(struct vfs *v, struct handle *h)
{
    handle_attach(h);
    h->version++;
    inval_inode(v, h, 0);
}

/* The names of a file lead nowhere any more: the next use looks them up. */
static void inval_names(struct vfs *v, struct handle *h)
{
    struct handle_name *next;
    for (struct handle_name *n = handle_names_take(h); n != NULL; n = next) {
        struct handle *dir = handle_live(v->handles, n->parent);
        if (v->notify != NULL && dir != NULL)
            notify_entry(v->notify, dir->nodeid, bytes_of(n->name, n->len));
        next = n->next;
        free(n);
    }
}

static void content_changes(void *ctx, uint64_t node, uint64_t off, uint64_t len)
{
    struct vfs *v = ((struct fs *)ctx)->vfs;
    if (v == NULL)
        return;
    struct core_attr a;
    struct core_need need;
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = handle_next_of(h)) {
        if (h->old != NULL)
            continue;
        if (h->opens > 0 && core_getattr(v->fs->core, node, &a, &need) == 0) {
            handle_detach(v->handles, h, a.size, a.mtime, a.ctime);
            h->turn = v->turn;
            inval_names(v, h);
        } else {
            h->version++;
            h->stale = true;
            inval_inode(v, h, 0);
            vfs_recheck(v, h);
        }
    }
    wb_drop_clean(v->wb, node); /* vfs_before_apply has brought the rest into the tree */
    vfs_save_old(v, node, off, len > FILE_SIZE_MAX - off ? FILE_SIZE_MAX : off + len);
}

static bool may_commit(void *ctx, uint64_t node)
{
    struct vfs *v = ((struct fs *)ctx)->vfs;
    if (v == NULL)
        return true;
    int64_t recent = fs_now() - COPY_QUIET_NS;
    for (const struct vfs_file *f = v->copied; f != NULL; f = f->copied_next)
        if (f->copied_at > recent && f->h->node == node)
            return false; /* a copy goes on, or has just been: others see all of it or nothing */
    return wb_may_commit(v->wb, node);
}

static bool in_use(void *ctx, uint64_t node)
{
    struct vfs *v = ((struct fs *)ctx)->vfs;
    return v != NULL && (handle_in_use(v->handles, node) || wb_dirty(v->wb, node));
}

static bool in_tree(void *ctx, uint64_t node)
{
    struct vfs *v = ((struct fs *)ctx)->vfs;
    return v == NULL || !wb_dirty(v->wb, node);
}

static bool claimed(void *ctx, uint64_t parent, struct bytes name)
{
    struct vfs *v = ((struct fs *)ctx)->vfs;
    return v != NULL && vfs_claimed(v, parent, name);
}

void vfs_core_hooks(struct fs *fs, struct core_hooks *out)
{
    *out = (struct core_hooks){.ctx = fs,
                               .content_changes = content_changes,
                               .may_commit = may_commit,
                               .in_use = in_use,
                               .in_tree = in_tree,
                               .claimed = claimed};
}

/* ---- effects -------------------------------------------------------------------------------- */

bool vfs_has_room(struct vfs *v)
{
    return v->notify == NULL || notify_has_room(v->notify);
}

static int flush_before(struct vfs *v, uint64_t node)
{
    int rc = wb_dirty(v->wb, node) ? wb_flush_now(v->wb, node, false) : 0;
    if (rc != 0)
        log_printf(v->fs->log, LOG_L_ERROR,
                   "data written to node %llu cannot be put on disk before a change by another "
                   "device or a refusal, which waits: %s",
                   (unsigned long long)node, strerror(-rc));
    return rc;
}

int vfs_before_apply(struct vfs *v, const struct m_record *r)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->contents_n; i++)
        rc = flush_before(v, r->contents[i].node);
    for (size_t i = 0; rc == 0 && i < r->inodes_n; i++) /* a new size comes without contents */
        rc = flush_before(v, r->inodes[i].node);
    return rc;
}

int vfs_before_answer(struct vfs *v, const struct m_commit_ans *a)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < a->rows_n; i++)
        rc = flush_before(v, a->rows[i].node); /* a name's is its directory: nothing is dirty */
    return rc;
}

/* The local content lost against another device's and lives on as a copy: open files go with it. */
static void forked(struct vfs *v, uint64_t node, uint64_t copy)
{
    struct handle *next;
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = next) {
        next = handle_next_of(h);
        bool detached_now = h->old != NULL && h->turn == v->turn;
        if (h->opens == 0 || (h->old != NULL && !detached_now))
            continue;
        if (h->old == NULL)
            inval_names(v, h);
        follow(v, h, copy);
        inval_inode(v, h, -1);
    }
}

/* A directory became part of another one, or a file is the same as another one. */
static void merged(struct vfs *v, uint64_t node, uint64_t into)
{
    struct handle *next;
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = next) {
        next = handle_next_of(h);
        follow(v, h, into);
        inval_inode(v, h, 0);
    }
}

static void entry_changed(struct vfs *v, const struct core_effect *e)
{
    for (struct handle *h = handle_of(v->handles, e->node); h != NULL; h = handle_next_of(h)) {
        if (v->notify == NULL || h->nlookup == 0)
            continue;
        notify_entry(v->notify, h->nodeid, bytes_of(e->name, e->name_len));
        inval_inode(v, h, 0);
        vfs_recheck(v, h);
    }
}

static void gone(struct vfs *v, uint64_t node)
{
    struct core_attr a;
    struct core_need need;
    bool file = core_getattr(v->fs->core, node, &a, &need) == 0 && a.type == NODE_REG;
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = handle_next_of(h)) {
        h->unlinked = true;
        h->stale = file && h->opens == 0; /* until the kernel knows, its name leads to it */
        inval_inode(v, h, -1);
    }
}

static void attr_changed(struct vfs *v, uint64_t node)
{
    for (struct handle *h = handle_of(v->handles, node); h != NULL; h = handle_next_of(h)) {
        inval_inode(v, h, -1);
        vfs_recheck(v, h);
    }
}

void vfs_effects(struct vfs *v, const struct core_effects *fx)
{
    for (size_t i = 0; i < fx->n; i++) {
        const struct core_effect *e = &fx->v[i];
        switch (e->kind) {
        case EFFECT_ENTRY:
            entry_changed(v, e);
            break;
        case EFFECT_DATA: /* content_changes has dealt with the content */
        case EFFECT_ATTR:
        case EFFECT_XATTR:
            attr_changed(v, e->node);
            break;
        case EFFECT_FORK:
            forked(v, e->node, e->other);
            break;
        case EFFECT_ALIAS:
            merged(v, e->node, e->other);
            break;
        case EFFECT_GONE:
            gone(v, e->node);
            break;
        default: /* the driver's */
            break;
        }
    }
    v->turn++;
}

/* ---- passing invalidations on ---------------------------------------------------------------- */

static void pass_entry(void *ctx, uint64_t parent, const char *name, size_t len)
{
    struct vfs *v = ctx;
    v->front.inval_entry(v->front.ctx, parent, name, len);
}

/* [not locked] Once more, if it changed since this was asked for. */
static int pass_recheck(struct vfs *v, uint64_t nodeid)
{
    pthread_mutex_lock(&v->fs->lock);
    struct handle *h = handle_find(v->handles, nodeid);
    bool again = h != NULL && h->recheck == RECHECK_AGAIN;
    if (h != NULL)
        h->recheck = again ? RECHECK_QUEUED : RECHECK_NONE;
    pthread_mutex_unlock(&v->fs->lock);
    int rc = h != NULL ? v->front.inval_inode(v->front.ctx, nodeid, -1) : 0;
    return again ? -EAGAIN : rc == -ENOENT ? rc : 0;
}

/* [not locked] What the kernel has forgotten is no error; what it was just told of is. */
static int pass_inode(void *ctx, uint64_t nodeid, int64_t off)
{
    struct vfs *v = ctx;
    if (off == NOTIFY_RECHECK)
        return pass_recheck(v, nodeid);
    if (v->front.inval_inode(v->front.ctx, nodeid, off) != -ENOENT)
        return 0;
    pthread_mutex_lock(&v->fs->lock);
    const struct handle *h = handle_find(v->handles, nodeid);
    bool told = h != NULL && h->nlookup > 0;
    pthread_mutex_unlock(&v->fs->lock);
    return told ? -ENOENT : 0;
}

/* Whether the kernel holds the lock of this directory until op is answered. */
static bool locks_directory(const struct vfs_op *op, uint64_t nodeid)
{
    if (op->inner[0] == nodeid || op->inner[1] == nodeid)
        return true;
    switch (op->type) {
    case OP_LOOKUP:
    case OP_SETATTR:
    case OP_MKNOD:
    case OP_UNLINK:
    case OP_CREATE:
    case OP_FSYNC:
    case OP_READDIR:
    case OP_SETXATTR:
        return op->nodeid == nodeid;
    case OP_RENAME:
        return op->nodeid == nodeid || op->nodeid2 == nodeid;
    case OP_LINK:
        return op->nodeid2 == nodeid;
    default:
        return false;
    }
}

/* Whether the kernel holds pages of this inode until op is answered. */
static bool locks_pages(const struct vfs_op *op, uint64_t nodeid)
{
    bool holds = op->type == OP_READ || op->type == OP_WRITE || op->type == OP_READLINK;
    return holds && op->nodeid == nodeid;
}

/* [not locked] */
static bool blocked(void *ctx, bool entry, uint64_t nodeid)
{
    struct vfs *v = ctx;
    bool found = false;
    pthread_mutex_lock(&v->fs->lock);
    for (const struct vfs_op *op = v->parked; op != NULL && !found; op = op->next)
        found = entry ? locks_directory(op, nodeid) : locks_pages(op, nodeid);
    pthread_mutex_unlock(&v->fs->lock);
    return found;
}

/* [not locked] */
static void mark_passed(void *ctx)
{
    struct vfs *v = ctx;
    pthread_mutex_lock(&v->fs->lock);
    vfs_locks_changed(v);
    pthread_mutex_unlock(&v->fs->lock);
}

struct notify_sink vfs_notify_sink(struct vfs *v)
{
    return (struct notify_sink){v, pass_entry, pass_inode, blocked, mark_passed};
}
