// SPDX-License-Identifier: Apache-2.0
/* Segments: what programs wrote, held until it is in the tree, and of an unfinished stretch the
 * bytes behind the last cut even longer.
 *
 * Where a stretch is cut must not depend on when it was flushed. So a flush in the middle of a
 * stretch (fsync, close of one of several descriptors, age, memory) makes *provisional* blocks of
 * the bytes not yet in the tree, and the segment keeps the bytes; when the cut is found, or at the
 * last close, the final block replaces the provisional ones. If one provisional block is already
 * exactly the final one, as for every small file that is written and closed, nothing is left to do.
 *
 * In-place segments go when they are flushed, except the one written last: a rewrite that goes on
 * slowly must be able to grow to WB_FRESH bytes and be cut like a fast one.
 *
 * Under memory pressure the bytes of clean segments are let go; they are read back from the block
 * store when the stretch goes on.
 */
#include "writeback.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writeback_int.h"

#define BUF_MIN 4096

/* ---- nodes and buffers ---------------------------------------------------------------------- */

static struct wb_node **bucket(struct wb *w, uint64_t node)
{
    return &w->buckets[(node * 0x9e3779b97f4a7c15ull) >> 54];
}
_Static_assert(WB_BUCKETS == 1 << (64 - 54), "bucket() takes the top bits");

struct wb_node *wb_find(struct wb *w, uint64_t node)
{
    struct wb_node *n = *bucket(w, node);
    while (n != NULL && n->id != node)
        n = n->hash_next;
    return n;
}

static void hash_in(struct wb *w, struct wb_node *n, uint64_t node)
{
    struct wb_node **b = bucket(w, node);
    n->id = node;
    n->hash_next = *b;
    *b = n;
}

static void hash_out(struct wb *w, struct wb_node *n)
{
    struct wb_node **at = bucket(w, n->id);
    while (*at != n)
        at = &(*at)->hash_next;
    *at = n->hash_next;
}

static struct wb_node *find_or_make(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    if (n != NULL)
        return n;
    n = calloc(1, sizeof(*n));
    if (n == NULL)
        abort();
    n->jobs_end = &n->jobs;
    hash_in(w, n, node);
    n->older = w->newest;
    *(w->newest != NULL ? &w->newest->newer : &w->oldest) = n;
    w->newest = n;
    return n;
}

void wb_release(struct wb *w, struct wb_node *n)
{
    if (n->n != 0 || n->jobs != NULL || n->writers != 0)
        return;
    hash_out(w, n);
    *(n->older != NULL ? &n->older->newer : &w->oldest) = n->newer;
    *(n->newer != NULL ? &n->newer->older : &w->newest) = n->older;
    free(n->v);
    free(n);
}

int64_t wb_now(struct wb *w)
{
    return w->owner.now(w->owner.ctx);
}

struct wb_buf *wb_buf_new(struct wb *w, size_t cap)
{
    struct wb_buf *b = NULL;
    if (cap == BLOCK_MAX && w->pool != NULL) {
        b = w->pool;
        w->pool = b->next;
        w->pool_n--;
    } else if ((b = malloc(sizeof(*b) + cap)) == NULL) {
        abort();
    }
    b->refs = 1;
    b->cap = cap;
    w->bytes += cap;
    return b;
}

void wb_buf_unref(struct wb *w, struct wb_buf *b)
{
    if (b == NULL || --b->refs > 0)
        return;
    w->bytes -= b->cap;
    if (b->cap == BLOCK_MAX && w->pool_n < WB_POOL) {
        b->next = w->pool;
        w->pool = b;
        w->pool_n++;
        return;
    }
    free(b);
}

void wb_seg_own(struct wb *w, struct seg *s, size_t cap)
{
    if (s->buf != NULL && s->buf->refs == 1 && s->buf->cap >= cap)
        return;
    size_t want = BUF_MIN;
    while (want < cap)
        want *= 2;
    struct wb_buf *b = wb_buf_new(w, want);
    if (s->buf != NULL)
        memcpy(b->p, s->buf->p, s->len);
    wb_buf_unref(w, s->buf);
    s->buf = b;
}

/* ---- segments ------------------------------------------------------------------------------ */

static uint64_t seg_end(const struct seg *s)
{
    return s->off + s->len;
}

/* Index behind the last segment that begins at or before off. */
static size_t seg_behind(const struct wb_node *n, uint64_t off)
{
    size_t lo = 0, hi = n->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (n->v[mid]->off <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct seg *seg_add(struct wb_node *n, size_t at, uint64_t off, bool fresh)
{
    if (n->n == n->cap) {
        n->cap = n->cap == 0 ? 2 : n->cap * 2;
        n->v = realloc(n->v, n->cap * sizeof(struct seg *));
        if (n->v == NULL)
            abort();
    }
    struct seg *s = calloc(1, sizeof(*s));
    if (s == NULL)
        abort();
    s->off = off;
    s->fresh = fresh;
    memmove(n->v + at + 1, n->v + at, (n->n - at) * sizeof(struct seg *));
    n->v[at] = s;
    n->n++;
    return s;
}

void wb_seg_remove(struct wb *w, struct wb_node *n, size_t i)
{
    struct seg *s = n->v[i];
    if (n->last == s)
        n->last = NULL;
    wb_buf_unref(w, s->buf);
    ranges_free(&s->dirty);
    free(s);
    memmove(n->v + i, n->v + i + 1, (n->n - i - 1) * sizeof(struct seg *));
    n->n--;
}

bool wb_seg_load(struct wb *w, struct wb_node *n, struct seg *s)
{
    if (s->len == 0 || s->buf != NULL)
        return true;
    struct wb_buf *b = wb_buf_new(w, BLOCK_MAX);
    if (w->owner.load(w->owner.ctx, n->id, s->off, b->p, s->len) == 0) {
        s->buf = b;
        return true;
    }
    wb_buf_unref(w, b);
    s->off += s->len;
    s->len = 0;
    s->cdc = (struct cdc){0};
    s->rescan = s->whole = false;
    return false;
}

/* The first len bytes leave the segment as a finished block. */
static void seg_cut(struct wb *w, struct wb_node *n, struct seg *s, size_t len)
{
    struct wb_buf *rest = NULL;
    if (s->len > len) {
        rest = wb_buf_new(w, BLOCK_MAX);
        memcpy(rest->p, s->buf->p + len, s->len - len);
    }
    if (!s->whole)
        wb_job_cut(w, n, s, len);
    wb_buf_unref(w, s->buf);
    ranges_remove(&s->dirty, s->off, s->off + len);
    s->buf = rest;
    s->off += len;
    s->len -= len;
    s->whole = false;
    s->cdc = (struct cdc){0};
}

static void seg_changed(struct seg *s, size_t from, size_t to)
{
    s->changed_from = s->rescan && s->changed_from < from ? s->changed_from : from;
    s->changed_to = s->rescan && s->changed_to > to ? s->changed_to : to;
    s->rescan = true;
}

/* A stretch whose beginning is written again and again while it grows is not scanned as a whole
 * each time: what lies far from the change cannot be a cut, as it was none before. */
void wb_seg_rescan(struct wb *w, struct wb_node *n, struct seg *s)
{
    bool all = false;
    while (s->rescan && wb_seg_load(w, n, s)) {
        size_t cut = 0;
        all = all || (s->changed_from == 0 && s->changed_to >= s->len);
        if (all) {
            s->cdc = (struct cdc){0};
            cut = s->len > 0 ? cdc_scan(&s->cdc, s->buf->p, s->len, n->fixed) : 0;
            w->rescanned += s->len;
        } else {
            cut = cdc_rescan(&s->cdc, s->buf->p, s->len, s->changed_from, s->changed_to, n->fixed);
            w->rescanned += s->changed_to - s->changed_from;
        }
        s->rescan = cut != 0;
        if (cut != 0)
            seg_cut(w, n, s, cut);
        all = true; /* what is behind a cut begins anew */
    }
}

static void seg_extend(struct wb *w, struct seg *s, const uint8_t *p, size_t n)
{
    /* Jobs that share the buffer read only what is before its end. A stretch that comes in long
     * writes gets a full buffer at once. */
    if (s->buf == NULL || s->buf->cap < s->len + n)
        wb_seg_own(w, s, s->buf == NULL && s->fresh && n > BLOCK_MAX / 16 ? BLOCK_MAX : s->len + n);
    memcpy(s->buf->p + s->len, p, n);
    s->len += n;
    s->whole = false;
}

/* Appends n bytes, cutting a fresh segment where its bytes say so. */
static void seg_append(struct wb *w, struct wb_node *n, struct seg *s, const uint8_t *p, size_t len,
                       bool dirty)
{
    wb_seg_load(w, n, s);
    wb_seg_rescan(w, n, s);
    if (dirty)
        ranges_add(&s->dirty, seg_end(s), seg_end(s) + len);
    if (!s->fresh) {
        seg_extend(w, s, p, len);
        if (s->len >= WB_FRESH) {
            s->fresh = true;
            seg_changed(s, 0, s->len);
            wb_seg_rescan(w, n, s);
        }
        return;
    }
    while (len > 0) {
        size_t cut = cdc_scan(&s->cdc, p, len, n->fixed), take = cut != 0 ? cut : len;
        seg_extend(w, s, p, take);
        if (cut != 0)
            seg_cut(w, n, s, s->len);
        p += take;
        len -= take;
    }
}

static void seg_overwrite(struct wb *w, struct wb_node *n, struct seg *s, uint64_t off,
                          const void *p, size_t len)
{
    if (!wb_seg_load(w, n, s))
        return;
    wb_seg_own(w, s, s->len);
    memcpy(s->buf->p + (off - s->off), p, len);
    ranges_add(&s->dirty, off, off + len);
    if (s->fresh)
        seg_changed(s, (size_t)(off - s->off), (size_t)(off - s->off) + len);
    s->whole = false;
}

/* Where the segment has grown up to the next one, they become one (see the header: runs). */
static void seg_join(struct wb *w, struct wb_node *n, struct seg *s)
{
    size_t i = seg_behind(n, s->off);
    while (i > 0 && n->v[i - 1] != s)
        i--;
    if (i == n->n || n->v[i]->off != seg_end(s) || (n->v[i]->fresh && !s->fresh))
        return;
    struct seg *next = n->v[i];
    if (next->len == 0 || !wb_seg_load(w, n, next))
        return;
    for (size_t k = 0; k < next->dirty.n; k++)
        ranges_add(&s->dirty, next->dirty.v[k].off, next->dirty.v[k].end);
    s->promised = s->promised || next->promised;
    struct wb_buf *bytes = next->buf;
    size_t len = next->len;
    next->buf = NULL;
    wb_seg_remove(w, n, i);
    seg_append(w, n, s, bytes->p, len, false);
    wb_buf_unref(w, bytes);
}

/* Writes as many of the bytes as lie in or directly behind one segment; returns how many. */
static size_t write_some(struct wb *w, struct wb_node *n, uint64_t size, uint64_t off,
                         const uint8_t *p, size_t len)
{
    size_t i = seg_behind(n, off);
    struct seg *s = i > 0 ? n->v[i - 1] : NULL;
    if (s != NULL && off < seg_end(s)) {
        size_t in = (size_t)(seg_end(s) - off);
        in = in < len ? in : len;
        if (!wb_seg_load(w, n, s))
            return 0; /* the segment is behind us now: look again */
        seg_overwrite(w, n, s, off, p, in);
        n->last = s;
        return in;
    }
    uint64_t limit = i < n->n ? n->v[i]->off - off : UINT64_MAX;
    size_t take = limit < len ? (size_t)limit : len;
    if (s == NULL || off != seg_end(s)) {
        uint64_t end = size > n->end ? size : n->end;
        s = seg_add(n, i, off, off + len > end);
    }
    take = take < (1u << 20) ? take : 1u << 20; /* an in-place segment stays below BLOCK_MAX */
    n->last = s;
    seg_append(w, n, s, p, take, true);
    seg_join(w, n, s);
    return take;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Lets the bytes of clean segments go. Where jobs are under way the tree does not have them yet,
 * and the jobs hold them anyway. */
static void shed(struct wb *w)
{
    struct wb_node *newer;
    for (struct wb_node *n = w->oldest; n != NULL && w->bytes > w->max / 2; n = newer) {
        newer = n->newer;
        for (size_t i = n->jobs == NULL ? n->n : 0; i-- > 0;) {
            struct seg *s = n->v[i];
            if (s->dirty.n != 0 || s->buf == NULL)
                continue;
            if (!s->fresh) {
                wb_seg_remove(w, n, i);
                continue;
            }
            wb_buf_unref(w, s->buf);
            s->buf = NULL;
        }
        wb_release(w, n);
    }
}

static int make_room(struct wb *w, size_t len)
{
    if (w->bytes + len <= w->max)
        return 0;
    shed(w);
    if (w->bytes + len <= w->max)
        return 0;
    int failed = 0;
    for (struct wb_node *n = w->oldest; n != NULL && w->queue == NULL && w->running == 0;
         n = n->newer) {
        if (n->jobs != NULL && n->jobs->state == JOB_FAILED) {
            failed = n->jobs->err;
            wb_retry(w, n);
        } else if (wb_dirty(w, n->id)) {
            wb_submit(w, n, false);
        }
    }
    if (w->queue == NULL && w->running == 0)
        return 0; /* nothing can be written out: what is held is held by this very write */
    return failed != 0 ? failed : WB_WAIT;
}

/* ---- interface ------------------------------------------------------------------------------ */

int wb_write(struct wb *w, uint64_t node, uint64_t size, size_t fixed, uint64_t off, const void *p,
             size_t len)
{
    if (len == 0)
        return 0;
    int rc = make_room(w, len);
    if (rc != 0)
        return rc;
    struct wb_node *n = find_or_make(w, node);
    int64_t now = wb_now(w);
    n->fixed = fixed < BLOCK_MAX ? fixed : BLOCK_MAX;
    n->mtime = now;
    n->dirty_since = n->dirty_since != 0 ? n->dirty_since : now;
    n->unfinished_since = n->unfinished_since != 0 ? n->unfinished_since : now;
    for (size_t done = 0; done < len;)
        done += write_some(w, n, size, off + done, (const uint8_t *)p + done, len - done);
    n->end = n->end > off + len ? n->end : off + len;
    if (w->asleep > 0) /* somebody must watch its age from now on */
        pthread_cond_signal(&w->wake);
    return 0;
}

void wb_truncate(struct wb *w, uint64_t node, uint64_t size)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return;
    assert(n->jobs == NULL);
    n->end = n->end < size ? n->end : size;
    for (size_t i = n->n; i-- > 0;) {
        struct seg *s = n->v[i];
        if (s->off >= size) {
            wb_seg_remove(w, n, i);
        } else if (seg_end(s) > size) {
            ranges_remove(&s->dirty, size, seg_end(s));
            s->len = (size_t)(size - s->off);
            if (s->fresh) /* what is left has no cut; the scan goes on from there */
                seg_changed(s, s->len, s->len);
            s->changed_from = s->changed_from < s->len ? s->changed_from : s->len;
            s->changed_to = s->changed_to < s->len ? s->changed_to : s->len;
            s->whole = false;
        }
    }
    wb_release(w, n);
}

bool wb_idle(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    return n == NULL || n->jobs == NULL;
}

void wb_drop_clean(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return;
    for (size_t i = n->n; i-- > 0;)
        if (n->v[i]->dirty.n == 0)
            wb_seg_remove(w, n, i);
    wb_release(w, n);
}

void wb_forget(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return;
    while (n->n > 0)
        wb_seg_remove(w, n, n->n - 1);
    wb_jobs_drop(w, n);
    wb_release(w, n);
}

void wb_open(struct wb *w, uint64_t node)
{
    find_or_make(w, node)->writers++;
}

void wb_close(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    assert(n != NULL && n->writers > 0);
    if (--n->writers == 0)
        wb_submit(w, n, true);
    wb_release(w, n);
}

void wb_promise(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    for (size_t i = 0; n != NULL && i < n->n; i++)
        n->v[i]->promised = n->v[i]->promised || n->v[i]->len > 0;
}

static bool in_memory_only(const struct wb_node *n)
{
    bool dirty = n->jobs != NULL;
    for (size_t i = 0; i < n->n && !dirty; i++)
        dirty = n->v[i]->dirty.n != 0;
    return dirty;
}

bool wb_dirty(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    return n != NULL && in_memory_only(n);
}

void wb_attr(struct wb *w, uint64_t node, uint64_t *size, int64_t *mtime)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL || !in_memory_only(n))
        return;
    *size = *size > n->end ? *size : n->end;
    *mtime = *mtime > n->mtime && *mtime <= wb_now(w) ? *mtime : n->mtime;
}

static uint64_t range_note(struct ranges *out, uint64_t off, uint64_t end)
{
    if (out->n == WB_RANGES_MAX)
        return end - off;
    ranges_add(out, off, end);
    return 0;
}

uint64_t wb_ranges(struct wb *w, uint64_t node, struct ranges *out)
{
    struct wb_node *n = wb_find(w, node);
    uint64_t rest = 0;
    if (n == NULL)
        return 0;
    for (struct job *j = n->jobs; j != NULL; j = j->next)
        for (size_t i = 0; i < j->n; i++)
            rest += range_note(out, j->v[i].e.off, j->v[i].e.off + j->v[i].e.len);
    for (size_t i = 0; i < n->n; i++)
        for (size_t k = 0; k < n->v[i]->dirty.n; k++)
            rest += range_note(out, n->v[i]->dirty.v[k].off, n->v[i]->dirty.v[k].end);
    return rest;
}

void wb_missing(struct wb *w, uint64_t node, struct ranges *want)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return;
    for (struct job *j = n->jobs; j != NULL; j = j->next)
        for (size_t i = 0; i < j->n; i++)
            ranges_remove(want, j->v[i].e.off, j->v[i].e.off + j->v[i].e.len);
    for (size_t i = 0; i < n->n; i++)
        if (n->v[i]->buf != NULL)
            ranges_remove(want, n->v[i]->off, seg_end(n->v[i]));
}

static void copy_part(uint64_t want, uint8_t *p, size_t want_len, uint64_t have,
                      const uint8_t *from, size_t have_len)
{
    uint64_t a = want > have ? want : have;
    uint64_t end = want + want_len < have + have_len ? want + want_len : have + have_len;
    if (a < end)
        memcpy(p + (a - want), from + (a - have), (size_t)(end - a));
}

void wb_copy(struct wb *w, uint64_t node, uint64_t off, void *p, size_t len)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return;
    for (struct job *j = n->jobs; j != NULL; j = j->next)
        for (size_t i = 0; i < j->n; i++)
            copy_part(off, p, len, j->v[i].e.off, j->v[i].buf->p + j->v[i].at, j->v[i].e.len);
    for (size_t i = 0; i < n->n; i++)
        if (n->v[i]->buf != NULL)
            copy_part(off, p, len, n->v[i]->off, n->v[i]->buf->p, n->v[i]->len);
}

bool wb_may_commit(struct wb *w, uint64_t node)
{
    struct wb_node *n = wb_find(w, node);
    if (n == NULL)
        return true;
    bool unfinished = n->jobs != NULL;
    for (size_t i = 0; i < n->n && !unfinished; i++)
        unfinished = n->v[i]->dirty.n != 0 || (n->v[i]->fresh && n->v[i]->len > 0);
    int64_t now = wb_now(w);
    return !unfinished || now - n->mtime >= WB_QUIET_NS ||
           (n->unfinished_since != 0 && now - n->unfinished_since >= WB_UNFINISHED_NS);
}

uint64_t wb_bytes(struct wb *w)
{
    return w->bytes;
}

uint64_t wb_dirty_bytes(struct wb *w)
{
    uint64_t sum = 0;
    for (const struct wb_node *n = w->oldest; n != NULL; n = n->newer) {
        for (const struct job *j = n->jobs; j != NULL; j = j->next)
            sum += j->bytes;
        for (size_t i = 0; i < n->n; i++)
            for (size_t k = 0; k < n->v[i]->dirty.n; k++)
                sum += n->v[i]->dirty.v[k].end - n->v[i]->dirty.v[k].off;
    }
    return sum;
}

int wb_new(struct wb **out, const struct wb_options *o)
{
    struct wb *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    w->owner = o->owner;
    w->max = o->max;
    w->queue_end = &w->queue;
    pthread_cond_init(&w->wake, NULL);
    w->threads = calloc(o->threads + 1, sizeof(*w->threads));
    while (w->threads != NULL && w->threads_n < o->threads) {
        int rc = pthread_create(&w->threads[w->threads_n], NULL, wb_thread, w);
        if (rc != 0) {
            wb_free(w);
            return -rc;
        }
        w->threads_n++;
    }
    *out = w;
    return 0;
}

void wb_free(struct wb *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(w->owner.lock);
    w->stop = true;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(w->owner.lock);
    for (unsigned i = 0; i < w->threads_n; i++)
        pthread_join(w->threads[i], NULL);
    pthread_mutex_lock(w->owner.lock);
    while (w->oldest != NULL) {
        struct wb_node *n = w->oldest;
        while (n->n > 0)
            wb_seg_remove(w, n, n->n - 1);
        while (n->jobs != NULL) {
            struct job *j = n->jobs;
            n->jobs = j->next;
            wb_job_free(w, j);
        }
        n->writers = 0;
        wb_release(w, n);
    }
    while (w->pool != NULL) {
        struct wb_buf *b = w->pool;
        w->pool = b->next;
        free(b);
    }
    pthread_mutex_unlock(w->owner.lock);
    pthread_cond_destroy(&w->wake);
    free(w->threads);
    free(w);
}
