// SPDX-License-Identifier: Apache-2.0
/* Operations, and how they wait.
 *
 * One thread reads requests from the kernel and runs each at once, under fs.lock: most are answered
 * from the local tree within microseconds, and handing them to another thread would cost several
 * times that. An operation that cannot go on returns what it waits for (VFS_NEED, VFS_WB,
 * VFS_FETCH, VFS_BARRIER, …) and must not have changed anything that running it again would repeat.
 * It is then copied to the heap and *parked*: the driver's done function, or the thread that
 * finished a job of dirty data, runs it again from its beginning and answers. So no thread is ever
 * held by a request, and any number of them may wait.
 *
 * Interrupts: the front calls vfs_interrupt when a signal reached the waiting thread. What waits
 * to get a lock is interrupted by any; everything else by one that ends the process only, as on a
 * disk: databases take an fsync that was interrupted for one that failed. The kernel tells of the
 * first signal and not which it was, so the waker looks again and again (vfs_lock.c). The wait is
 * then cancelled through the driver, whose done function answers EINTR. Dirty data is waited for
 * uninterrupted, as that depends on the local disk only. An operation is answered exactly once, by
 * whoever runs it last: there is never more than one thread at it, because it is either running or
 * waiting for one thing.
 *
 * The kernel's writeback cache is off. With it, the kernel would keep its own size and times of
 * every inode it holds and ignore ours, and dirty pages would be written through an inode whose
 * version had been overtaken; small writes cost a request each instead.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "killed.h"
#include "tree.h"
#include "vfs_int.h"

#define WB_THREADS 2 /* one hashes while the other stores */

static const vfs_run run_table[OP_TYPES] = {
    [OP_LOOKUP] = vfs_lookup,       [OP_GETATTR] = vfs_getattr,     [OP_SETATTR] = vfs_setattr,
    [OP_READLINK] = vfs_readlink,   [OP_MKNOD] = vfs_mknod,         [OP_UNLINK] = vfs_unlink,
    [OP_RENAME] = vfs_rename,       [OP_LINK] = vfs_link,           [OP_OPEN] = vfs_open,
    [OP_CREATE] = vfs_create,       [OP_READ] = vfs_read,           [OP_WRITE] = vfs_write,
    [OP_FLUSH] = vfs_flush,         [OP_RELEASE] = vfs_release,     [OP_FSYNC] = vfs_fsync,
    [OP_OPENDIR] = vfs_opendir,     [OP_READDIR] = vfs_readdir,     [OP_STATFS] = vfs_statfs,
    [OP_GETXATTR] = vfs_getxattr,   [OP_LISTXATTR] = vfs_listxattr, [OP_SETXATTR] = vfs_setxattr,
    [OP_FALLOCATE] = vfs_fallocate, [OP_LSEEK] = vfs_lseek,         [OP_COPY] = vfs_copy,
    [OP_LOCK] = vfs_lock,           [OP_GETLOCK] = vfs_getlock,
};

/* ---- running ------------------------------------------------------------------------------- */

static void free_answer(struct vfs_op *op)
{
    free(op->out);
    free(op->ids);
    free(op->refs);
    for (size_t i = 0; i < op->entries_n; i++)
        free(op->entries[i].name);
    free(op->entries);
    if (op->extents != NULL) {
        extent_list_free(op->extents);
        free(op->extents);
    }
    op->out = NULL;
    op->ids = NULL;
    op->refs = NULL;
    op->entries = NULL;
    op->extents = NULL;
    op->out_n = op->ids_n = op->refs_n = op->entries_n = 0;
}

/* It is done whatever happens; an interrupt ends its waits only. */
static bool releases(const struct vfs_op *op)
{
    return op->type == OP_FLUSH || op->type == OP_RELEASE || (op->type == OP_LOCK && op->unlock);
}

/* [locked] */
static int run(struct vfs *v, struct vfs_op *op)
{
    free_answer(op);
    op->barrier_node = op->fresh_ns = 0;
    op->barrier_all = false;
    if (v->stopping && !releases(op))
        return -ENOTCONN;
    if (op->interrupted && !op->barrier_done && !releases(op))
        return -EINTR;
    return run_table[op->type](v, op);
}

/* [not locked] What needs no lock, after run returned 0. */
static int run_unlocked(struct vfs *v, struct vfs_op *op)
{
    if (op->type == OP_READ && op->extents != NULL)
        return vfs_read_blocks(v, op);
    return 0;
}

/* [not locked] Takes back what an answer gave that the kernel did not take. */
static void undo(struct vfs *v, struct vfs_op *op)
{
    pthread_mutex_lock(&v->fs->lock);
    if (op->file != NULL &&
        (op->type == OP_OPEN || op->type == OP_CREATE || op->type == OP_OPENDIR))
        vfs_file_close(v, op->file);
    pthread_mutex_unlock(&v->fs->lock);
    if (op->entry != 0)
        vfs_forget(v, op->entry, 1);
    for (size_t i = 0; i < op->entries_n; i++)
        if (op->entries[i].nodeid != 0)
            vfs_forget(v, op->entries[i].nodeid, 1);
}

static void unpark(struct vfs *v, struct vfs_op *op)
{
    pthread_mutex_lock(&v->fs->lock);
    *op->prev = op->next;
    if (op->next != NULL)
        op->next->prev = op->prev;
    if (--v->parked_n == 0)
        pthread_cond_broadcast(&v->none_parked);
    if (v->notify != NULL)
        notify_unblocked(v->notify);
    pthread_mutex_unlock(&v->fs->lock);
    free(op->copied);
    free(op);
}

/* [not locked] Answers and ends op. */
static void complete(struct vfs *v, struct vfs_op *op, int rc)
{
    if (op->heap)
        v->front.unwatch(v->front.ctx, op);
    if (op->type == OP_LOCK && op->lock_asked) {
        pthread_mutex_lock(&v->fs->lock);
        vfs_lock_ends(v, op);
        pthread_mutex_unlock(&v->fs->lock);
    }
    if (op->new_mode != 0) /* of attributes alone: the kernel waits for nothing there */
        v->front.inval_inode(v->front.ctx, op->new_mode, -1);
    if (!v->front.reply(v->front.ctx, op, rc) && rc == 0)
        undo(v, op);
    free_answer(op);
    if (op->heap)
        unpark(v, op);
}

/* [locked] Begins the wait that run asked for. True: it waits; false: *rc is what to go on with. */
static bool begin_wait(struct vfs *v, struct vfs_op *op, int *rc);

/* [not locked] Runs a heap operation until it is answered or waits again. */
static void resume(struct vfs_op *op, int rc)
{
    struct vfs *v = op->vfs;
    for (;;) {
        bool waits = false;
        pthread_mutex_lock(&v->fs->lock);
        if (rc == 0) {
            rc = run(v, op);
            while (rc > 0 && !(waits = begin_wait(v, op, &rc)) && rc == 0)
                rc = run(v, op);
        }
        pthread_mutex_unlock(&v->fs->lock);
        if (waits)
            return;
        bool again = false; /* an EAGAIN of the operation itself is an answer */
        if (rc == 0) {
            rc = run_unlocked(v, op);
            again = rc == -EAGAIN;
        }
        if (!again) {
            complete(v, op, rc);
            return;
        }
        rc = 0;
    }
}

/* [not locked] The driver's answer to what op waits for. */
static void waited(void *arg, int err)
{
    struct vfs_op *op = arg;
    struct vfs *v = op->vfs;
    pthread_mutex_lock(&v->fs->lock);
    op->wait_id = 0;
    if (op->barrier_node != 0) { /* the operation itself says what the result means */
        op->barrier_done = err != -EINTR;
        op->barrier_err = err;
        op->barrier_node = 0;
        err = err == -EINTR ? err : 0;
    }
    if (err == -EINTR && releases(op)) {
        op->interrupted = true;
        err = 0;
    }
    if (op->type == OP_GETLOCK && op->lock_asked && err != -EINTR) { /* asked, and answered */
        op->range.test = err != -EAGAIN;
        err = err == -EAGAIN ? 0 : err;
    }
    op->fresh = op->fresh || (op->fresh_ns != 0 && err == 0);
    op->fresh_ns = 0;
    pthread_mutex_unlock(&v->fs->lock);
    resume(op, err == -ESHUTDOWN ? -ENOTCONN : err);
}

static bool begin_wait(struct vfs *v, struct vfs_op *op, int *rc)
{
    int err = 0;
    switch (*rc) {
    case VFS_NEED:
        op->wait_id = sync_load(v->fs->sync, &op->need, waited, op);
        break;
    case VFS_FETCH:
        op->wait_id = sync_fetch(v->fs->sync, op->ids_ns, op->ids, op->ids_n, waited, op);
        break;
    case VFS_LINK:
        op->wait_id =
            sync_link(v->fs->sync, op->file->ns, op->refs_ns, op->refs, op->refs_n, waited, op);
        if (op->wait_id == 0) {
            *rc = -EXDEV;
            return false;
        }
        break;
    case VFS_FRESH:
        op->wait_id = sync_fresh(v->fs->sync, op->fresh_ns, waited, op);
        break;
    case VFS_BARRIER:
        if (op->barrier_all)
            op->wait_id = sync_barrier_all(v->fs->sync, op->barrier_ns, waited, op);
        else
            op->wait_id =
                sync_barrier(v->fs->sync, op->barrier_node, op->barrier_local, waited, op, &err);
        if (op->wait_id == 0) {
            op->barrier_done = true;
            op->barrier_err = err;
            op->barrier_node = 0;
            *rc = 0;
            return false;
        }
        break;
    case VFS_GLOBAL:
        vfs_lock_asks(v, op);
        op->wait_id = sync_lock_want(v->fs->sync, op->file->ns, op->file->h->node, &op->range,
                                     op->type == OP_GETLOCK ? &op->range : NULL, waited, op);
        break;
    case VFS_TOLD:
        op->lock_told = true;
        op->wait_id = sync_lock_told(v->fs->sync, op->file->h->node, waited, op);
        if (op->wait_id == 0) {
            *rc = 0;
            return false;
        }
        break;
    case VFS_LOCK:
        op->waits_lock = true;
        return true;
    default:
        assert(*rc == VFS_WB);
        op->waits_wb = true;
        return true;
    }
    if (op->wait_id == 0) { /* the driver takes no more */
        op->barrier_node = op->fresh_ns = 0;
        *rc = -EIO;
        return false;
    }
    return true;
}

static struct bytes keep(uint8_t **at, struct bytes b)
{
    if (b.p == NULL)
        return b;
    memcpy(*at, b.p, b.n);
    struct bytes kept = {*at, b.n};
    *at += b.n;
    return kept;
}

static uint64_t nodeid_of(struct vfs *v, uint64_t dir, struct bytes name)
{
    const struct handle *parent = handle_find(v->handles, dir), *h = NULL;
    struct core_attr a;
    struct core_need need;
    if (parent != NULL && core_lookup(v->fs->core, parent->node, name, &a, &need) == 0)
        h = handle_live(v->handles, a.node);
    return h != NULL ? h->nodeid : 0;
}

/* The kernel holds the locks of these until op is answered, as it does those of their directories.
 */
static void note_inner(struct vfs *v, struct vfs_op *op)
{
    if (op->type == OP_UNLINK || op->type == OP_RENAME)
        op->inner[0] = nodeid_of(v, op->nodeid, op->name);
    if (op->type == OP_RENAME)
        op->inner[1] = nodeid_of(v, op->nodeid2, op->name2);
}

/* [not locked] A copy that outlives the request's buffer, among the parked ones. */
static struct vfs_op *park(struct vfs *v, const struct vfs_op *from)
{
    struct vfs_op *op = malloc(sizeof(*op));
    uint8_t *bytes = malloc(from->name.n + from->name2.n + from->data.n + 1);
    if (op == NULL || bytes == NULL)
        abort();
    *op = *from;
    op->heap = true;
    op->copied = bytes;
    op->name = keep(&bytes, from->name);
    op->name2 = keep(&bytes, from->name2);
    op->data = keep(&bytes, from->data);
    pthread_mutex_lock(&v->fs->lock);
    op->next = v->parked;
    op->prev = &v->parked;
    if (v->parked != NULL)
        v->parked->prev = &op->next;
    v->parked = op;
    v->parked_n++;
    note_inner(v, op);
    pthread_mutex_unlock(&v->fs->lock);
    return op;
}

void vfs_submit(struct vfs *v, const struct vfs_op *request)
{
    struct vfs_op op = *request;
    op.vfs = v;
    pthread_mutex_lock(&v->fs->lock);
    int rc = run(v, &op);
    pthread_mutex_unlock(&v->fs->lock);
    bool again = false;
    if (rc == 0) {
        rc = run_unlocked(v, &op);
        again = rc == -EAGAIN;
    }
    if (rc <= 0 && !again) {
        complete(v, &op, rc);
        return;
    }
    /* Nothing is waited for yet: the interrupt is armed first, then the operation is run again. */
    struct vfs_op *parked = park(v, &op);
    v->front.watch(v->front.ctx, parked);
    resume(parked, 0);
}

static void interrupt_now(struct vfs *v, struct vfs_op *op)
{
    op->signalled = false;
    op->interrupted = true;
    if (op->wait_id != 0)
        sync_cancel(v->fs->sync, op->wait_id);
    else if (op->waits_lock)
        vfs_locks_changed(v);
}

void vfs_interrupt(struct vfs *v, struct vfs_op *op)
{
    pthread_mutex_lock(&v->fs->lock);
    if (op->type == OP_LOCK && !op->unlock) {
        interrupt_now(v, op);
    } else {
        op->signalled = true;
        vfs_signalled(v);
    }
    pthread_mutex_unlock(&v->fs->lock);
}

bool vfs_end_killed(struct vfs *v)
{
    bool left = false;
    for (struct vfs_op *op = v->parked; op != NULL; op = op->next) {
        if (op->signalled && thread_killed(op->tid))
            interrupt_now(v, op);
        op->signalled = op->signalled && op->tid != 0; /* nothing to look at */
        left = left || op->signalled;
    }
    return left;
}

void vfs_forget_locked(struct vfs *v, uint64_t nodeid, uint64_t n)
{
    struct handle *h = handle_find(v->handles, nodeid);
    if (h != NULL && nodeid != HANDLE_ROOT) {
        h->nlookup -= n < h->nlookup ? n : h->nlookup;
        vfs_handle_release(v, h);
    }
}

void vfs_forget(struct vfs *v, uint64_t nodeid, uint64_t n)
{
    pthread_mutex_lock(&v->fs->lock);
    vfs_forget_locked(v, nodeid, n);
    pthread_mutex_unlock(&v->fs->lock);
}

/* ---- what dirty data needs ------------------------------------------------------------------ */

static int put_blocks(void *ctx, const struct blocks_item *v, size_t n, bool durable)
{
    struct blocks *b = ((struct vfs *)ctx)->fs->blocks;
    return durable ? blocks_put_durable(b, v, n) : blocks_put_unsynced(b, v, n);
}

static int apply_extents(void *ctx, uint64_t node, int64_t mtime, const struct wb_extent *e,
                         size_t n, bool final)
{
    struct vfs *v = ctx;
    struct core *c = v->fs->core;
    int rc = core_begin(c);
    if (rc != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct m_extent one = {.off = e[i].off, .len = e[i].len, .block = e[i].id};
        struct extent_list with = {.v = &one, .n = 1, .cap = 1};
        struct core_who who = {.now = mtime};
        if (e[i].recut) {
            rc = core_recut(c, node, e[i].off, e[i].len, &with);
            continue;
        }
        vfs_save_old(v, node, e[i].off, e[i].off + e[i].len);
        rc = core_write(c, &who, node, e[i].off, e[i].len, &with, true);
    }
    int ended = core_end(c, rc == 0);
    rc = rc != 0 ? rc : ended;
    struct core_attr a;
    struct core_need need;
    if (rc == 0 && final && core_recuts(c, node) && core_getattr(c, node, &a, &need) == 0) {
        for (size_t i = 0; i < n; i++) {
            struct m_block_ref ref = {.block = e[i].id, .len = e[i].len};
            sync_upload(v->fs->sync, a.ns, &ref, 1);
        }
    }
    if (rc == -ESTALE) /* the node is gone for good: nobody can read these bytes */
        rc = 0;
    if (rc == 0)
        sync_kick(v->fs->sync);
    return rc;
}

static bool may_recut(void *ctx, uint64_t node)
{
    return core_recuts(((struct vfs *)ctx)->fs->core, node);
}

static int read_back(void *ctx, uint64_t node, uint64_t off, void *p, size_t len)
{
    struct vfs *v = ctx;
    struct core_need need;
    cleanup_extents struct extent_list l = {0};
    int rc = core_extents(v->fs->core, node, off, len, &l, &need);
    if (rc != 0)
        return rc < 0 ? rc : -ENODATA;
    uint64_t at = off;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const struct m_extent *e = &l.v[i];
        if (e->off != at)
            return -ENODATA;
        rc = blocks_read(v->fs->blocks, &e->block, (uint32_t)e->block_off,
                         (uint8_t *)p + (e->off - off), (uint32_t)e->len);
        at = e->off + e->len;
    }
    return rc != 0 || at == off + len ? rc : -ENODATA;
}

void vfs_wake(struct vfs *v, bool locks)
{
    struct vfs_op *op;
    pthread_mutex_lock(&v->fs->lock);
    for (op = v->parked; op != NULL; op = op->next) {
        bool *waits = locks ? &op->waits_lock : &op->waits_wb;
        op->woken = op->woken || *waits;
        *waits = false;
    }
    for (;;) {
        for (op = v->parked; op != NULL && !op->woken; op = op->next)
            continue;
        if (op == NULL)
            break;
        op->woken = false;
        pthread_mutex_unlock(&v->fs->lock);
        resume(op, 0);
        pthread_mutex_lock(&v->fs->lock);
    }
    pthread_mutex_unlock(&v->fs->lock);
}

static void wake_waiting(void *ctx)
{
    vfs_wake(ctx, false);
}

static int64_t now(void *ctx)
{
    (void)ctx;
    return fs_now();
}

/* ---- interface ------------------------------------------------------------------------------ */

int vfs_new(struct vfs **out, struct fs *fs)
{
    struct vfs *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return -ENOMEM;
    v->fs = fs;
    v->handles = handles_new();
    if (fs->opt.named_owners)
        v->owners = owners_new(NULL, NULL);
    pthread_cond_init(&v->none_parked, NULL);
    pthread_cond_init(&v->lock_news, NULL);
    struct wb_options o = {
        .owner = {.ctx = v,
                  .lock = &fs->lock,
                  .put = put_blocks,
                  .apply = apply_extents,
                  .load = read_back,
                  .may_recut = may_recut,
                  .settled = wake_waiting,
                  .now = now},
        .max = fs->opt.dirty_max,
        .threads = WB_THREADS,
    };
    int rc = wb_new(&v->wb, &o);
    if (rc != 0) {
        vfs_free(v);
        return rc;
    }
    *out = v;
    return 0;
}

void vfs_free(struct vfs *v)
{
    if (v == NULL)
        return;
    assert(v->parked == NULL);
    wb_free(v->wb);
    handles_free(v->handles);
    owners_free(v->owners);
    pthread_cond_destroy(&v->none_parked);
    pthread_cond_destroy(&v->lock_news);
    free(v);
}

struct fs *vfs_fs(struct vfs *v)
{
    return v->fs;
}

int vfs_attach_front(struct vfs *v, const struct vfs_front *front)
{
    uint64_t ns, root;
    pthread_mutex_lock(&v->fs->lock);
    int rc = core_root(v->fs->core, &ns, &root);
    if (rc == 0) {
        handle_root(v->handles, root);
        v->front = *front;
        v->stopping = false;
        struct notify_sink sink = vfs_notify_sink(v);
        rc = notify_new(&v->notify, &sink);
    }
    if (rc == 0)
        rc = vfs_waker_start(v);
    pthread_mutex_unlock(&v->fs->lock);
    return rc;
}

void vfs_detach_front(struct vfs *v)
{
    pthread_mutex_lock(&v->fs->lock);
    v->stopping = true;
    for (struct vfs_op *op = v->parked; op != NULL; op = op->next)
        if (op->wait_id != 0)
            sync_cancel(v->fs->sync, op->wait_id);
    vfs_locks_changed(v);
    while (v->parked_n > 0)
        pthread_cond_wait(&v->none_parked, &v->fs->lock);
    while (v->files != NULL) /* of programs that a lazy unmount cut off */
        vfs_file_close(v, v->files);
    struct notify *n = v->notify;
    v->notify = NULL;
    pthread_mutex_unlock(&v->fs->lock);
    vfs_waker_end(v);
    notify_free(n);
}

int vfs_flush_node(struct vfs *v, uint64_t node, bool final)
{
    return wb_flush_now(v->wb, node, final);
}

int vfs_flush_all(struct vfs *v)
{
    return wb_flush_all(v->wb);
}

uint64_t vfs_dirty_bytes(struct vfs *v)
{
    return wb_dirty_bytes(v->wb);
}

bool vfs_keeps_block(struct vfs *v, const struct block_id *id)
{
    return wb_putting(v->wb) || handles_refer(v->handles, id);
}
