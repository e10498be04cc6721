// SPDX-License-Identifier: Apache-2.0
/* flock and fcntl locks between the programs of this mount. What other mounts have to say with
 * locks=global is in vfs_lock_global.c.
 *
 * They are kept here and not by the kernel, because to the kernel two versions of one file are two
 * inodes; and by node, so that whoever opens the new version meets the locks of those who still
 * have the old one open. A lock belongs to its open file's handle and moves with it.
 *
 * Who has to wait is parked; a thread of its own runs those again who may go on or were
 * interrupted: the thread that releases a lock or passes an interrupt on must not answer other
 * requests there. Every release wakes all who wait, as they are few.
 *
 * A per-process lock ends when the process closes the file (flush names the owner), any lock when
 * its open file is released.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "vfs_int.h"

#define KILLED_AGAIN_MS 100 /* between looks at a thread that got a signal */
#define CHAIN_MAX 64        /* owners looked at in search of a deadlock */

static const struct lock *conflict(struct vfs *v, const struct handle *with,
                                   const struct lock *want)
{
    const struct lock *first = NULL;
    for (struct handle *h = handle_of(v->handles, with->node); h != NULL; h = handle_next_of(h)) {
        const struct lock *l = locks_conflict(&h->locks, want);
        if (l != NULL && (first == NULL || l->off < first->off))
            first = l;
    }
    return first;
}

/* Releases what the owner has in the range, in whichever version. */
static void drop(struct vfs *v, const struct handle *of, const struct lock *l)
{
    bool any = false;
    for (struct handle *h = handle_of(v->handles, of->node); h != NULL; h = handle_next_of(h))
        any |= locks_drop(&h->locks, l->whole, l->owner, l->off, l->end);
    if (any)
        vfs_locks_changed(v);
}

/* Whether waiting for `first` would close a circle: its owner waits, for somebody who waits, … for
 * us. */
static bool deadlock(struct vfs *v, const struct vfs_op *op, const struct lock *first)
{
    uint64_t owner = first->owner;
    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        const struct vfs_op *waits = v->parked;
        if (owner == op->lock.owner)
            return true;
        while (waits != NULL && !(waits->waits_lock && waits->lock.owner == owner))
            waits = waits->next;
        const struct lock *next = waits == NULL ? NULL : conflict(v, waits->file->h, &waits->lock);
        if (next == NULL)
            return false;
        owner = next->owner;
    }
    return false;
}

/* Whether an owner is among the n. */
static bool among(const uint64_t *owners, size_t n, uint64_t owner)
{
    size_t i = 0;
    while (i < n && owners[i] != owner)
        i++;
    return i < n;
}

/* The owner of op and those of this mount who wait for one of them: CHAIN_MAX at most. */
static size_t stuck_with(struct vfs *v, const struct vfs_op *op, uint64_t *owners)
{
    size_t n = 1, before = 0;
    owners[0] = op->lock.owner;
    while (before < n) {
        before = n;
        for (const struct vfs_op *w = v->parked; w != NULL && n < CHAIN_MAX; w = w->next) {
            if (!w->waits_lock || w->type != OP_LOCK || w->lock.whole ||
                among(owners, n, w->lock.owner))
                continue;
            const struct lock *other = conflict(v, w->file->h, &w->lock);
            if (other != NULL && among(owners, n, other->owner))
                owners[n++] = w->lock.owner;
        }
    }
    return n;
}

size_t vfs_lock_stays(struct vfs *v, const void *waiting, struct m_lock_stay *out, size_t max)
{
    uint64_t owners[CHAIN_MAX];
    size_t owners_n = stuck_with(v, waiting, owners), n = 0;
    for (const struct vfs_file *f = v->files; f != NULL; f = f->next)
        for (const struct lock *l = f->h->locks.head; l != NULL && n < max; l = l->next)
            if (l->file == f && !l->whole && among(owners, owners_n, l->owner))
                out[n++] = (struct m_lock_stay){
                    .ns = f->ns,
                    .node = f->h->node,
                    .range_set = true,
                    .range = {.exclusive = l->exclusive, .off = l->off, .end = l->end}};
    return n;
}

/* Whether what is asked takes something away from its owner before it gives: a flock of the other
 * sort, or a range that was exclusive. */
static bool releases(struct vfs *v, const struct vfs_op *op)
{
    const struct lock *want = &op->lock;
    for (struct handle *h = handle_of(v->handles, op->file->h->node); h != NULL;
         h = handle_next_of(h))
        for (const struct lock *l = h->locks.head; l != NULL; l = l->next)
            if (l->whole == want->whole && l->owner == want->owner &&
                l->exclusive != want->exclusive && (l->exclusive || l->whole) &&
                l->off < want->end && want->off < l->end)
                return true;
    return false;
}

static int unlock(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = op->file->h;
    if (!op->lock_told) { /* what is there since is another's, who asked meanwhile */
        int rc = vfs_unlock_commits(v, op);
        if (rc != 0)
            return rc;
        drop(v, h, &op->lock);
        op->file->locks_lost = false;
    }
    return vfs_unlock_told(v, op, h->node);
}

int vfs_lock(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = op->file->h;
    if (op->unlock)
        return unlock(v, op);
    int good = vfs_locks_good(v, op->file);
    if (good != 0)
        return good;
    bool less = releases(v, op);
    if (less && op->lock.whole) { /* a change of sort is a release first */
        int rc = vfs_unlock_commits(v, op);
        if (rc != 0)
            return rc;
        drop(v, h, &op->lock);
        vfs_locks_trim(v, h->node);
    }
    const struct lock *other = conflict(v, h, &op->lock);
    if (other != NULL && !op->sleeps)
        return -EAGAIN;
    if (other != NULL && !op->lock.whole && deadlock(v, op, other))
        return -EDEADLK;
    if (other != NULL) {
        sync_lock_again(v->fs->sync);
        return VFS_LOCK;
    }
    int others = less ? vfs_unlock_commits(v, op) : 0;
    if (others == 0 && v->fs->opt.global_locks)
        others = vfs_lock_global(v, op);
    if (others != 0)
        return others;
    struct lock taken = op->lock;
    taken.file = op->file;
    drop(v, h, &op->lock); /* a weaker one lets others go on */
    locks_add(&h->locks, &taken);
    vfs_locks_trim(v, h->node);
    return 0;
}

int vfs_getlock(struct vfs *v, struct vfs_op *op)
{
    const struct lock *other = conflict(v, op->file->h, &op->lock);
    if (other == NULL && v->fs->opt.global_locks)
        return vfs_getlock_global(op);
    op->unlock = other == NULL;
    if (other != NULL)
        op->lock = *other;
    return 0;
}

void vfs_unlock_owner(struct vfs *v, const struct vfs_file *f, uint64_t owner)
{
    const struct lock all = {.owner = owner, .end = LOCK_END};
    drop(v, f->h, &all);
}

void vfs_unlock_file(struct vfs *v, const struct vfs_file *f)
{
    if (locks_drop_file(&f->h->locks, f))
        vfs_locks_changed(v);
}

/* ---- waking ---------------------------------------------------------------------------------- */

void vfs_locks_changed(struct vfs *v)
{
    v->locks_changed = true;
    pthread_cond_signal(&v->lock_news);
}

void vfs_signalled(struct vfs *v)
{
    v->signalled = true;
    pthread_cond_signal(&v->lock_news);
}

/* Until something is to be done, or (the kernel says nothing more) looked at again. */
static void wait_for_news(struct vfs *v)
{
    if (!v->signalled) {
        pthread_cond_wait(&v->lock_news, &v->fs->lock);
        return;
    }
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += KILLED_AGAIN_MS * 1000000l;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&v->lock_news, &v->fs->lock, &t);
}

static void *waker(void *arg)
{
    struct vfs *v = arg;
    pthread_mutex_lock(&v->fs->lock);
    while (!v->waker_ends) {
        if (v->signalled)
            v->signalled = vfs_end_killed(v);
        if (!v->locks_changed) {
            wait_for_news(v);
            continue;
        }
        v->locks_changed = false;
        pthread_mutex_unlock(&v->fs->lock);
        vfs_wake(v, true);
        pthread_mutex_lock(&v->fs->lock);
    }
    pthread_mutex_unlock(&v->fs->lock);
    return NULL;
}

int vfs_waker_start(struct vfs *v)
{
    v->waker_ends = v->locks_changed = v->signalled = false;
    int rc = pthread_create(&v->waker, NULL, waker, v);
    v->waker_runs = rc == 0;
    return -rc;
}

void vfs_waker_end(struct vfs *v)
{
    if (!v->waker_runs)
        return;
    pthread_mutex_lock(&v->fs->lock);
    v->waker_ends = true;
    pthread_cond_signal(&v->lock_news);
    pthread_mutex_unlock(&v->fs->lock);
    pthread_join(v->waker, NULL);
    v->waker_runs = false;
}
