// SPDX-License-Identifier: Apache-2.0
/* Content: open files, reading, writing, and what makes it durable.
 *
 * A read is put together from dirty data (writeback.h) over the extents of the tree, and holes.
 * What the extents say is copied from the block store after the lock is given back; a block that is
 * not here is fetched first. Reads that follow each other start fetching what lies ahead, in a
 * window that doubles.
 *
 * A write only copies into dirty data. flush (close) returns when all of the node's dirty data is
 * in outbox and tree, which is safe against a crash of this process; fsync when it is committed
 * besides.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfs_int.h"

#define AHEAD_MIN (1u << 20)
#define AHEAD_MAX (32u << 20)
#define AHEAD_BLOCKS 64 /* asked for at a time */
#define ATIME_NS (24 * 3600 * 1000000000ll)
#define LINK_EXTENTS 4096      /* linked for a copy at a time */
#define SEEK_STEP (1ull << 30) /* range looked at in one step of SEEK_HOLE, through data */

/* ---- open files ----------------------------------------------------------------------------- */

void vfs_file_open(struct vfs *v, struct vfs_op *op, struct handle *h, const struct core_ns *ns,
                   bool dir)
{
    struct vfs_file *f = calloc(1, sizeof(*f));
    if (f == NULL)
        abort();
    f->h = h;
    f->ns = ns->id;
    f->fixed = (size_t)ns->fixed_cuts;
    f->dir = dir;
    f->writable = !dir && (op->flags & O_ACCMODE) != O_RDONLY;
    f->sync = (op->flags & (O_SYNC | O_DSYNC)) != 0;
    f->read = (op->flags & O_NOATIME) != 0;
    h->opens++;
    if (f->writable) {
        h->writers++;
        wb_open(v->wb, h->node);
    }
    f->next = v->files;
    f->prev = &v->files;
    if (v->files != NULL)
        v->files->prev = &f->next;
    v->files = f;
    op->file = f;
    /* what the kernel reads from its cache, nobody here sees */
    op->keep_cache = h->cached_version == h->version && v->fs->opt.atime != ATIME_ALWAYS;
    h->cached_version = h->version;
    h->stale_opens = 0;
}

/* It is the target of a copy from another namespace. */
static void file_copied(struct vfs *v, struct vfs_file *f)
{
    f->copied_at = fs_now();
    if (f->copied_prev != NULL)
        return;
    f->copied_next = v->copied;
    f->copied_prev = &v->copied;
    if (v->copied != NULL)
        v->copied->copied_prev = &f->copied_next;
    v->copied = f;
}

static void copied_remove(struct vfs_file *f)
{
    if (f->copied_prev == NULL)
        return;
    *f->copied_prev = f->copied_next;
    if (f->copied_next != NULL)
        f->copied_next->copied_prev = f->copied_prev;
}

void vfs_file_close(struct vfs *v, struct vfs_file *f)
{
    struct handle *h = f->h;
    copied_remove(f);
    *f->prev = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    vfs_unlock_file(v, f);
    h->opens--;
    if (f->writable) {
        h->writers--;
        wb_close(v->wb, h->node);
        sync_kick(v->fs->sync);
    }
    free(f);
    vfs_handle_release(v, h);
}

int vfs_release(struct vfs *v, struct vfs_op *op)
{
    struct vfs_file *f = op->file;
    int rc = vfs_has_locks(v, f) ? vfs_unlock_commits(v, op) : 0;
    if (rc != 0)
        return rc;
    uint64_t node = f->h->node;
    vfs_file_close(v, f);
    vfs_locks_trim(v, node);
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int extents_of(struct vfs *v, struct vfs_op *op, const struct handle *h, uint64_t off,
                      uint64_t end, struct extent_list *out)
{
    if (h->old != NULL)
        return vfs_old_extents(v, h, off, end, out, &op->need);
    return core_extents(v->fs->core, h->node, off, end - off, out, &op->need);
}

/* Notes the blocks of the list that are not here in op->ids. */
static void find_missing(struct vfs *v, struct vfs_op *op, const struct extent_list *l, size_t max)
{
    for (size_t i = 0; i < l->n && op->ids_n < max; i++) {
        const struct block_id *id = &l->v[i].block;
        if (blocks_has(v->fs->blocks, id, NULL))
            continue;
        bool twice = false;
        for (size_t k = 0; k < op->ids_n && !twice; k++)
            twice = block_id_equal(&op->ids[k], id);
        if (twice)
            continue;
        if (op->ids == NULL)
            op->ids = calloc(max, sizeof(*op->ids));
        if (op->ids == NULL)
            abort();
        op->ids[op->ids_n++] = *id;
    }
}

/* Starts fetching what a sequential reader will want next. */
static void read_ahead(struct vfs *v, struct vfs_file *f, const struct handle *h, uint64_t off,
                       uint64_t end, uint64_t size)
{
    bool follows = off == f->expected || (off > 0 && off <= f->expected && end > f->expected);
    if (!follows)
        f->window = f->ahead = 0;
    else if (f->window < AHEAD_MAX)
        f->window = f->window == 0 ? AHEAD_MIN : f->window * 2;
    f->expected = end;
    if (f->window == 0 || end >= size || h->old != NULL)
        return;
    uint64_t from = f->ahead > end ? f->ahead : end;
    uint64_t to = end + f->window < size ? end + f->window : size;
    if (to <= from || (to - from < f->window / 2 && to < size))
        return;
    cleanup_extents struct extent_list l = {0};
    struct vfs_op ahead = {0};
    if (core_extents(v->fs->core, h->node, from, to - from, &l, &ahead.need) != 0)
        return; /* not loaded: the read that gets there loads it */
    find_missing(v, &ahead, &l, AHEAD_BLOCKS);
    if (ahead.ids_n > 0)
        sync_prefetch(v->fs->sync, f->ns, ahead.ids, ahead.ids_n);
    free(ahead.ids);
    f->ahead = to;
}

/* Zeros what neither dirty data nor extents give. */
static void zero_holes(struct vfs_op *op, const struct ranges *want)
{
    struct ranges holes = {0};
    for (size_t i = 0; i < want->n; i++)
        ranges_add(&holes, want->v[i].off, want->v[i].end);
    for (size_t i = 0; i < op->extents->n; i++)
        ranges_remove(&holes, op->extents->v[i].off, op->extents->v[i].off + op->extents->v[i].len);
    for (size_t i = 0; i < holes.n; i++)
        memset(op->out + (holes.v[i].off - op->off), 0, (size_t)(holes.v[i].end - holes.v[i].off));
    ranges_free(&holes);
}

/* Access times are kept here only. */
static void touch_atime(struct vfs *v, struct vfs_file *f, const struct core_attr *a)
{
    int64_t now = fs_now();
    bool due = v->fs->opt.atime == ATIME_ALWAYS || a->atime <= a->mtime || a->atime <= a->ctime ||
               now - a->atime > ATIME_NS;
    bool first = !f->read;
    f->read = true;
    if (!first || !due || v->fs->opt.read_only || v->fs->opt.atime == ATIME_NEVER)
        return;
    struct core_attr new = {.atime = now};
    struct core_who who = {.now = now};
    struct core_need need;
    core_setattr(v->fs->core, &who, f->h->node, CORE_SET_ATIME, &new, &need);
}

int vfs_read(struct vfs *v, struct vfs_op *op)
{
    struct vfs_file *f = op->file;
    struct handle *h = f->h;
    struct core_attr a;
    int rc = vfs_locks_good(v, f);
    if (rc == 0)
        rc = vfs_attr(v, h, &a, &op->need);
    if (rc != 0)
        return rc;
    if (op->off >= a.size || op->len == 0)
        return 0;
    uint64_t end = op->len < a.size - op->off ? op->off + op->len : a.size;
    cleanup_ranges struct ranges want = {0};
    ranges_add(&want, op->off, end);
    if (h->old == NULL)
        wb_missing(v->wb, h->node, &want);
    op->extents = calloc(1, sizeof(*op->extents));
    if (op->extents == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < want.n; i++)
        if ((rc = extents_of(v, op, h, want.v[i].off, want.v[i].end, op->extents)) != 0)
            return rc;
    find_missing(v, op, op->extents, op->extents->n);
    read_ahead(v, f, h, op->off, end, a.size);
    if (op->ids_n > 0) {
        op->ids_ns = a.ns;
        return VFS_FETCH;
    }
    op->out_n = (size_t)(end - op->off);
    op->out = malloc(op->out_n);
    if (op->out == NULL)
        return -ENOMEM;
    touch_atime(v, f, &a);
    zero_holes(op, &want);
    if (h->old == NULL)
        wb_copy(v->wb, h->node, op->off, op->out, op->out_n);
    return 0;
}

int vfs_read_blocks(struct vfs *v, struct vfs_op *op)
{
    for (size_t i = 0; i < op->extents->n; i++) {
        const struct m_extent *e = &op->extents->v[i];
        int rc = blocks_read(v->fs->blocks, &e->block, (uint32_t)e->block_off,
                             op->out + (e->off - op->off), (uint32_t)e->len);
        if (rc == -ENOENT) /* evicted since it was looked for */
            return ++op->tries < READ_TRIES_MAX ? -EAGAIN : -EIO;
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* What has to follow a change when it must be durable before the answer. */
static int make_durable(struct vfs *v, struct vfs_op *op, uint64_t node, enum sync_mode mode)
{
    if (op->barrier_done)
        return op->barrier_err;
    if (mode == SYNC_ASYNC)
        return 0;
    wb_promise(v->wb, node);
    op->barrier_node = node;
    op->barrier_local = mode == SYNC_LOCAL;
    return VFS_BARRIER;
}

/* For the kernel the end of a file is where it was when it last asked, and it does not ask before
 * it appends. Between mounts that lock, the end is what was committed under the lock before. */
static int go_to_end(struct vfs *v, struct vfs_op *op)
{
    const struct handle *h = op->file->h;
    struct core_attr a;
    if (!op->append || !v->fs->opt.global_locks || h->old != NULL)
        return 0;
    int rc = vfs_attr(v, h, &a, &op->need);
    if (rc != 0 || a.size == op->off)
        return rc;
    vfs_misplaced(v, h, op->off < a.size ? op->off : a.size);
    op->off = a.size;
    return 0;
}

int vfs_write(struct vfs *v, struct vfs_op *op)
{
    struct vfs_file *f = op->file;
    struct handle *h = f->h;
    if (op->result == 0) { /* not yet taken */
        int end = go_to_end(v, op);
        if (end != 0)
            return end;
        if (op->off > FILE_SIZE_MAX - op->data.n)
            return -EFBIG;
        int rc = vfs_locks_good(v, f);
        if (rc == 0)
            rc = vfs_fork(v, op, h);
        struct core_attr a;
        if (rc == 0)
            rc = core_getattr(v->fs->core, h->node, &a, &op->need);
        if (rc == 0)
            rc = vfs_drop_set_ids(v, op, &a);
        if (rc == 0)
            rc = wb_write(v->wb, h->node, a.size, f->fixed, op->off, op->data.p, op->data.n);
        if (rc != 0)
            return rc == -ENOENT ? -ESTALE : rc;
        op->result = op->data.n;
        vfs_changed(v, h);
    }
    if (!f->sync)
        return 0;
    int rc = wb_flush(v->wb, h->node, &op->ticket);
    return rc != 0 ? rc : make_durable(v, op, h->node, v->fs->opt.fsync);
}

/* What the process that closes the file has locked of it ends. */
static int unlock_process(struct vfs *v, struct vfs_op *op)
{
    if (!v->fs->opt.global_locks) {
        vfs_unlock_owner(v, op->file, op->lock.owner);
        return 0;
    }
    if (!op->lock_told) {
        if (!vfs_has_ranges(v, op->file, op->lock.owner))
            return 0;
        int rc = vfs_unlock_commits(v, op);
        if (rc != 0)
            return rc;
        vfs_unlock_owner(v, op->file, op->lock.owner);
    }
    return vfs_unlock_told(v, op, op->file->h->node);
}

/* Dirty data is taken in whatever happens; what close=… asks beyond that ends with the mount, or
 * when the caller is killed. */
int vfs_flush(struct vfs *v, struct vfs_op *op)
{
    uint64_t node = op->file->h->node;
    int rc = unlock_process(v, op);
    if (rc != 0 || !op->file->writable)
        return rc;
    rc = op->barrier_done ? 0 : wb_flush(v->wb, node, &op->ticket);
    if (rc == 0 && v->fs->opt.close != SYNC_ASYNC && !op->barrier_done &&
        (v->stopping || op->interrupted))
        return v->stopping ? -ENOTCONN : -EINTR;
    return rc != 0 ? rc : make_durable(v, op, node, v->fs->opt.close);
}

int vfs_fsync(struct vfs *v, struct vfs_op *op)
{
    uint64_t node = op->file->h->node;
    int rc = op->file->dir || op->barrier_done ? 0 : wb_flush(v->wb, node, &op->ticket);
    return rc != 0 ? rc : make_durable(v, op, node, v->fs->opt.fsync);
}

/* Waits until none of the node's dirty data is on its way. */
static int settle(struct vfs *v, uint64_t node, uint64_t *ticket)
{
    while (!wb_idle(v->wb, node)) { /* jobs may have come after those of the ticket */
        int rc = wb_flush(v->wb, node, ticket);
        if (rc != 0)
            return rc;
        *ticket = 0;
    }
    return 0;
}

int vfs_truncate(struct vfs *v, struct vfs_op *op, struct handle *h, uint64_t size)
{
    if (size > FILE_SIZE_MAX)
        return -EFBIG;
    int rc = vfs_fork(v, op, h);
    if (rc == 0)
        rc = settle(v, h->node, &op->ticket2);
    if (rc != 0)
        return rc;
    struct core_who who = vfs_who(op);
    vfs_save_old(v, h->node, size, FILE_SIZE_MAX);
    rc = core_truncate(v->fs->core, &who, h->node, size, &op->need);
    if (rc == 0) {
        wb_truncate(v->wb, h->node, size);
        vfs_changed(v, h);
        sync_kick(v->fs->sync);
    }
    return rc;
}

/* All of the node's dirty data into the tree, and none kept: its extents are about to change. */
static int let_go(struct vfs *v, struct handle *h, uint64_t *ticket)
{
    int rc = wb_flush(v->wb, h->node, ticket);
    return rc != 0 ? rc : wb_flush_now(v->wb, h->node, true);
}

/* Space is taken when data are written; a program that asks for more than there is learns it now.
 */
static int room_for(struct vfs *v, uint64_t len)
{
    struct vfs_op st = {0};
    int rc = vfs_statfs(v, &st);
    return rc != 0 ? rc : len > st.free_bytes ? -ENOSPC : 0;
}

int vfs_fallocate(struct vfs *v, struct vfs_op *op)
{
    unsigned mode = op->flags;
    if ((mode & ~(unsigned)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !=
        0)
        return -EOPNOTSUPP;
    if (op->len == 0 || op->off > FILE_SIZE_MAX - op->len)
        return op->len == 0 ? -EINVAL : -EFBIG;
    struct handle *h = op->file->h;
    bool zero = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
    bool keep = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    int rc = vfs_locks_good(v, op->file);
    if (rc == 0)
        rc = zero ? 0 : room_for(v, op->len);
    if (rc != 0 || (!zero && keep)) /* there is nothing to reserve */
        return rc;
    rc = vfs_fork(v, op, h);
    if (rc == 0)
        rc = let_go(v, h, &op->ticket);
    struct core_attr a;
    if (rc == 0)
        rc = core_getattr(v->fs->core, h->node, &a, &op->need);
    if (rc != 0)
        return rc;
    struct core_who who = vfs_who(op);
    rc = vfs_drop_set_ids(v, op, &a);
    uint64_t end = op->off + op->len, cut = end < a.size ? end : a.size;
    if (rc == 0 && zero && op->off < cut) {
        vfs_save_old(v, h->node, op->off, cut);
        rc = core_write(v->fs->core, &who, h->node, op->off, cut - op->off, NULL, false);
    }
    if (rc == 0 && !keep && end > a.size)
        rc = core_truncate(v->fs->core, &who, h->node, end, &op->need);
    vfs_changed(v, h);
    sync_kick(v->fs->sync);
    return rc;
}

/* A copy into another namespace: its block servers have the blocks first. Cuts *len to what is
 * asked of them at a time. */
static int link_blocks(struct vfs *v, struct vfs_op *op, uint64_t to_ns, uint64_t *len)
{
    cleanup_extents struct extent_list l = {0};
    int rc = core_extents(v->fs->core, op->file->h->node, op->off, *len, &l, &op->need);
    if (rc != 0)
        return rc;
    if (l.n > LINK_EXTENTS)
        *len = l.v[LINK_EXTENTS].off - op->off;
    op->refs = calloc(l.n + 1, sizeof(*op->refs));
    if (op->refs == NULL)
        abort();
    for (size_t i = 0; i < l.n && i < LINK_EXTENTS; i++) {
        const struct m_extent *e = &l.v[i];
        if (op->refs_n > 0 && block_id_equal(&op->refs[op->refs_n - 1].block, &e->block))
            continue;
        op->refs[op->refs_n++] =
            (struct m_block_ref){.block = e->block, .len = e->block_off + e->len};
    }
    op->refs_ns = to_ns;
    if (op->refs_n == 0 || sync_linked(v->fs->sync, to_ns, op->refs, op->refs_n))
        return 0;
    return op->tries++ < READ_TRIES_MAX ? VFS_LINK : -EXDEV;
}

int vfs_copy(struct vfs *v, struct vfs_op *op)
{
    struct handle *from = op->file->h, *to = op->file2->h;
    if (from->old != NULL || op->flags != 0)
        return from->old != NULL ? -EXDEV : -EINVAL;
    int rc = vfs_locks_good(v, op->file);
    if (rc == 0)
        rc = vfs_locks_good(v, op->file2);
    if (rc == 0)
        rc = vfs_fork(v, op, to);
    if (rc == 0)
        rc = wb_flush(v->wb, from->node, &op->ticket);
    if (rc == 0)
        rc = let_go(v, to, &op->ticket2);
    struct core_attr a;
    if (rc == 0)
        rc = core_getattr(v->fs->core, from->node, &a, &op->need);
    if (rc != 0)
        return rc;
    op->result = 0;
    struct core_attr target;
    if (op->off >= a.size)
        return 0;
    rc = core_getattr(v->fs->core, to->node, &target, &op->need);
    if (rc == 0)
        rc = vfs_drop_set_ids(v, op, &target);
    if (rc != 0)
        return rc;
    uint64_t len = op->len < a.size - op->off ? op->len : a.size - op->off;
    len = len < UINT32_MAX / 2 ? len : (1u << 30); /* the answer is a 32-bit number */
    bool across = a.ns != target.ns;
    if (across)
        file_copied(v, op->file2);
    if (across && (rc = link_blocks(v, op, target.ns, &len)) != 0)
        return rc;
    struct core_who who = vfs_who(op);
    vfs_save_old(v, to->node, op->off2, op->off2 + len);
    rc = core_clone(v->fs->core, &who, from->node, op->off, to->node, op->off2, len, across,
                    &op->need);
    if (rc == 0) {
        op->result = len;
        vfs_changed(v, to);
        sync_kick(v->fs->sync);
    }
    return rc;
}

/* The first data at or behind `at` in what the handle still takes from the node, as far as it lies
 * before *next, which is then set to it. */
static int next_unsaved(struct vfs *v, struct vfs_op *op, const struct handle *h, uint64_t at,
                        uint64_t *next)
{
    cleanup_ranges struct ranges live = {0};
    handle_unsaved(h, at, *next, &live);
    for (size_t i = 0; i < live.n; i++) {
        uint64_t found;
        int rc = core_next_extent(v->fs->core, h->node, live.v[i].off, &found, &op->need);
        if (rc == CORE_NEED && op->need.off >= live.v[i].end)
            continue;
        if (rc != 0 && rc != -ENXIO)
            return rc;
        if (rc == 0 && found < live.v[i].end) {
            *next = found;
            return 0;
        }
    }
    return 0;
}

/* The first data at or behind `at`; -ENXIO: a hole up to the end. Holes cost nothing, however long
 * they are. */
static int next_data(struct vfs *v, struct vfs_op *op, const struct handle *h, uint64_t at,
                     uint64_t *next)
{
    if (h->old == NULL)
        return core_next_extent(v->fs->core, h->node, at, next, &op->need);
    const struct handle_old *old = h->old;
    *next = old->size;
    for (size_t i = 0; i < old->extents.n; i++) {
        const struct m_extent *e = &old->extents.v[i];
        uint64_t from = e->off > at ? e->off : at;
        if (e->off + e->len > at && from < *next)
            *next = from;
    }
    int rc = next_unsaved(v, op, h, at, next);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < old->lost.n; i++)
        if (old->lost.v[i].end > at && old->lost.v[i].off < *next)
            return -ESTALE;
    return *next < old->size ? 0 : -ENXIO;
}

static uint64_t block_begin(uint64_t off)
{
    return off / VFS_BLOCK * VFS_BLOCK;
}

/* The first offset from `off` on that is in a block without data; the end of the file counts as
 * one. */
static int next_hole(struct vfs *v, struct vfs_op *op, const struct handle *h, uint64_t off,
                     uint64_t size)
{
    uint64_t at = block_begin(off), end = at;
    while (at == end && at < size) {
        cleanup_extents struct extent_list l = {0};
        end = size - at > SEEK_STEP ? at + SEEK_STEP : size;
        int rc = extents_of(v, op, h, at, end, &l);
        if (rc != 0)
            return rc;
        for (size_t i = 0; i < l.n && block_begin(l.v[i].off) <= at; i++) {
            uint64_t last = block_begin(l.v[i].off + l.v[i].len - 1);
            at = size - last > VFS_BLOCK ? last + VFS_BLOCK : size;
        }
    }
    op->result = at > off ? at : off;
    return 0;
}

int vfs_lseek(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = op->file->h;
    int rc = h->old == NULL ? wb_flush(v->wb, h->node, &op->ticket) : 0;
    struct core_attr a;
    if (rc == 0)
        rc = vfs_attr(v, h, &a, &op->need);
    if (rc != 0)
        return rc;
    if (op->off >= a.size)
        return -ENXIO;
    if (op->flags != SEEK_DATA && op->flags != SEEK_HOLE)
        return -EINVAL;
    if (op->flags == SEEK_HOLE)
        return next_hole(v, op, h, op->off, a.size);
    rc = next_data(v, op, h, block_begin(op->off), &op->result);
    op->result = block_begin(op->result);
    op->result = op->result > op->off ? op->result : op->off;
    return rc;
}
