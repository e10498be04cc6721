// SPDX-License-Identifier: Apache-2.0
/* Loading what the core does not know yet: one call per need, however many wait for it.
 *
 * The answer counts only if the cursor has not moved since the question: then the core says -EAGAIN
 * and the question is asked again at once. A namespace whose cursor is moved by commits again and
 * again holds its next commit for the load (load_urgent); records of the journal wait for loads
 * anyway.
 *
 * Where single names of a directory are asked for again and again (a tree is unpacked into a
 * directory that another device made), its list is loaded ahead, as far as it is short: a round
 * trip for each name costs more than the list. Nothing waits for that, and it gives way to whatever
 * moves the cursor.
 *
 * What nobody has asked for is filled in when nobody has asked for anything for a while: one page
 * at a time, with pauses, so that programs, the servers and whoever waits for fs.lock do not feel
 * it: longer ones where answers take long, since many mounts may be at it at once. Then names and
 * attributes are there offline.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sync_internal.h"
#include "token.h"
#include "vfs.h"

#define AHEAD_ASKED 3 /* single names, then the list */
#define AHEAD_ROWS 256
#define AHEAD_PAGES 16

#define FILL_QUIET_MS 5000 /* after what programs asked for, and after trouble */
#define FILL_MOVED_MS 1000 /* after a page in vain: the cursor moves */
#define FILL_PAUSE_MS 20
#define FILL_SHARE 10 /* times as long as the answer took, at least … */
#define FILL_SHARE_MAX_MS 60000
#define FILL_FULL_MS 60000 /* the disk has no room for what nobody asked for */
#define FILL_ROWS 256

struct load_wait {
    struct waiter w;
    TAILQ_ENTRY(load_wait) load_link;
    struct load *load;
};
TAILQ_HEAD(load_waits, load_wait);

struct load {
    TAILQ_ENTRY(load) link;
    struct core_need need;
    struct load_waits waits;
    struct sync_ns *ns;
    bool inflight;
    bool ahead;       /* nobody asked for it */
    bool fill;        /* … and it is not expected either */
    int64_t asked_ms; /* when it was asked for last */
    unsigned refused; /* times the cursor had moved */
    struct backoff backoff;
};

static bool need_equal(const struct core_need *a, const struct core_need *b)
{
    return a->kind == b->kind && a->ns == b->ns && a->node == b->node && a->off == b->off &&
           a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
}

static void load_remove(struct sync *s, struct load *l)
{
    TAILQ_REMOVE(&s->loads, l, link);
    free(l);
}

static void load_wait_drop(struct sync *s, struct waiter *w)
{
    struct load_wait *lw = (struct load_wait *)(void *)w;
    struct load *l = lw->load;
    TAILQ_REMOVE(&l->waits, lw, load_link);
    if (TAILQ_EMPTY(&l->waits) && !l->inflight)
        load_remove(s, l);
}

static void load_end(struct sync *s, struct load *l, int err)
{
    struct load_wait *first;
    l->inflight = true; /* so that the last drop leaves it to us */
    while ((first = TAILQ_FIRST(&l->waits)))
        waiter_end(s, &first->w, err);
    load_remove(s, l);
}

static struct load *load_add(struct sync *s, const struct core_need *need)
{
    struct load *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->need = *need;
    l->ns = sync_ns_need(s, need->ns);
    TAILQ_INIT(&l->waits);
    TAILQ_INSERT_TAIL(&s->loads, l, link);
    return l;
}

uint64_t sync_load(struct sync *s, const struct core_need *need, sync_done done, void *arg)
{
    struct load *l;
    if (s->waiters_n >= SYNC_WAITERS_MAX)
        return waiter_refuse(s, done, arg, -EIO);
    struct load_wait *lw = calloc(1, sizeof *lw);
    if (!lw)
        abort();
    TAILQ_FOREACH(l, &s->loads, link)
    if (need_equal(&l->need, need))
        break;
    if (!l)
        l = load_add(s, need);
    l->ahead = false;
    s->fill.due = s->clock() + FILL_QUIET_MS;
    lw->w.done = done;
    lw->w.arg = arg;
    lw->w.drop = load_wait_drop;
    lw->load = l;
    TAILQ_INSERT_TAIL(&l->waits, lw, load_link);
    sync_wake(s);
    return waiter_add(s, &lw->w, s->fs->opt.timeout_ms, -EIO);
}

static int load_error(int err)
{
    switch (err) {
    case -ENOENT:
    case -ENOSPC:
    case -ESTALE:
        return err;
    case -EPERM:
    case -EACCES:
        return -EACCES;
    default:
        return -EIO;
    }
}

static void load_refused(struct sync *s, struct load *l)
{
    if (++l->refused >= LOAD_REFUSED_MAX)
        l->ns->load_urgent = true;
    (void)s;
}

static void load_retry(struct sync *s, struct load *l)
{
    uint32_t r;
    random_bytes(&r, sizeof r);
    backoff_failed(&l->backoff, s->clock(), r);
}

/* ---- ahead ---- */
static struct ahead *ahead_of(struct sync *s, uint64_t dir)
{
    for (size_t i = 0; i < AHEAD_DIRS; i++)
        if (s->ahead[i].dir == dir)
            return &s->ahead[i];
    struct ahead *a = &s->ahead[s->ahead_next++ % AHEAD_DIRS];
    *a = (struct ahead){.dir = dir};
    return a;
}

static void ahead_page(struct sync *s, struct ahead *a)
{
    struct core_need need;
    struct load *l;
    if (a->pages >= AHEAD_PAGES || core_dir_rest(s->fs->core, a->dir, &need) != CORE_NEED)
        return;
    a->pages++;
    need.rows = AHEAD_ROWS;
    TAILQ_FOREACH(l, &s->loads, link)
    if (need_equal(&l->need, &need))
        return;
    load_add(s, &need)->ahead = true;
}

/* Whoever asks for name after name gets a page with each. */
static void ahead_step(struct sync *s, const struct core_need *need)
{
    struct ahead *a = ahead_of(s, need->node);
    if (++a->asked >= AHEAD_ASKED)
        ahead_page(s, a);
}

/* ---- filling ---- */
void fill_again(struct sync *s)
{
    s->fill.done = false;
}

static void fill_answer(struct sync *s, const struct load *l, int err)
{
    int64_t pause = err == -EAGAIN ? FILL_MOVED_MS : err ? FILL_QUIET_MS : FILL_PAUSE_MS;
    int64_t now = s->clock(), share = FILL_SHARE * (now - l->asked_ms);
    share = share < FILL_SHARE_MAX_MS ? share : FILL_SHARE_MAX_MS;
    int64_t due = now + (pause > share ? pause : share);
    if (due > s->fill.due)
        s->fill.due = due;
    if (!err)
        s->fill.found = true;
    else if (err != -EAGAIN)
        s->fill.from = l->need.node + 1; /* others first */
}

/* The next page that nobody has asked for; false: there is none. */
static bool fill_next(struct sync *s)
{
    struct core_need need;
    for (; s->fill.ns < s->nss_n; s->fill.ns++, s->fill.from = 0) {
        struct sync_ns *ns = s->nss[s->fill.ns];
        if (!ns->listed || ns->resync ||
            core_unknown_dir(s->fs->core, ns->id, s->fill.from, &need) != CORE_NEED)
            continue;
        s->fill.from = need.node; /* until it is whole */
        need.rows = FILL_ROWS;
        struct load *l = load_add(s, &need);
        l->ahead = l->fill = true;
        return true;
    }
    s->fill.ns = 0;
    s->fill.from = 0;
    return false;
}

/* The tree may have as much of the disk as it leaves free, as the cache may; and what data that
 * are not sent leave free, it leaves twice. */
static bool fill_has_room(struct sync *s)
{
    struct blocks_stat b;
    struct stat tree = {0};
    char *path;
    if (asprintf(&path, "%s/tree.db", s->fs->opt.state) < 0)
        abort();
    if (stat(path, &tree) < 0)
        tree.st_size = 0;
    free(path);
    blocks_stat(s->fs->blocks, &b);
    return b.free_bytes > 2 * b.keep_free && b.free_bytes > (uint64_t)tree.st_size;
}

static void fill_step(struct sync *s, int64_t now)
{
    if (s->fs->opt.no_fill || s->fill.done || !TAILQ_EMPTY(&s->loads))
        return;
    if (!s->fill.due)
        s->fill.due = now + FILL_QUIET_MS;
    if (now < s->fill.due) {
        sync_at(s, s->fill.due);
        return;
    }
    if (!fill_has_room(s)) {
        s->fill.due = now + FILL_FULL_MS;
        sync_at(s, s->fill.due);
        return;
    }
    if (fill_next(s))
        return;
    s->fill.done = !s->fill.found; /* ids of what was found may be lower than where it was */
    s->fill.found = false;
    s->fill.due = now + (s->fill.done ? FILL_QUIET_MS : FILL_PAUSE_MS);
    sync_at(s, s->fill.due);
}

static void load_answer(struct sync *s, struct sync_call *c, struct load *l)
{
    int err = meta_result(s, c);
    if (l->fill && err)
        fill_answer(s, l, err);
    if (TAILQ_EMPTY(&l->waits) && (err || !l->ahead)) {
        load_remove(s, l);
        return;
    }
    if (err == -ESTALE) { /* below the history floor: the journal is behind, or it is of the past */
        l->ns->list_wanted = true;
        core_past_forgotten(s->fs->core, &l->need);
        load_retry(s, l);
        return;
    }
    if (err == -ENOENT || err == -EPERM || err == -EBADMSG || err == -EMSGSIZE) {
        log_printf(s->fs->log, LOG_L_WARN, "loading from %s: %s", l->ns->name, c->res.message);
        load_end(s, l, load_error(err));
        return;
    }
    if (err) {
        load_retry(s, l);
        return;
    }
    struct core_effects fx = {0};
    err = core_need_answer(s->fs->core, &l->need, bytes_of(c->res.body.p, c->res.body.n), fs_now(),
                           &fx);
    if (!err)
        sync_effects(s, &fx); /* what was merged meanwhile, fsync waits for where it is now */
    else
        core_effects_free(&fx);
    fill_again(s);
    if (l->fill)
        fill_answer(s, l, err);
    if (!err && l->need.kind == NEED_NAME)
        ahead_step(s, &l->need);
    if (err == -EAGAIN && !l->ahead)
        load_refused(s, l);
    else
        load_end(s, l, err ? load_error(err) : 0);
}

bool loads_awaited(const struct sync *s, const struct sync_ns *ns)
{
    const struct load *l;
    TAILQ_FOREACH(l, &s->loads, link)
    if (l->ns == ns && l->inflight && !TAILQ_EMPTY(&l->waits))
        return true;
    return false;
}

static void load_done(struct sync *s, struct sync_call *c)
{
    struct load *l = c->arg;
    pthread_mutex_lock(&s->fs->lock);
    struct sync_ns *ns = l->ns;
    l->inflight = false;
    s->loads_inflight--;
    load_answer(s, c, l);
    bool urgent = false;
    TAILQ_FOREACH(l, &s->loads, link)
    urgent |= l->ns == ns && l->refused >= LOAD_REFUSED_MAX;
    ns->load_urgent = urgent;
    pthread_mutex_unlock(&s->fs->lock);
    sync_wake(s);
}

static void load_start(struct sync *s, struct load *l)
{
    const char *method;
    struct buf cleanup_buf body = {0};
    int err = core_need_request(s->fs->core, &l->need, &method, &body);
    if (err) {
        load_end(s, l, load_error(err));
        return;
    }
    l->inflight = true;
    l->asked_ms = s->clock();
    s->loads_inflight++;
    call_start(call_new(s, load_done, l), s->fs->opt.url, method, bytes_of(body.p, body.n), NULL, 0,
               s->fs->opt.timeout_ms);
}

void load_step(struct sync *s)
{
    struct load *l, *next;
    int64_t now = s->clock();
    if (!s->online)
        return;
    fill_step(s, now);
    for (l = TAILQ_FIRST(&s->loads); l && s->loads_inflight < LOADS_INFLIGHT_MAX; l = next) {
        next = TAILQ_NEXT(l, link);
        int64_t due = l->backoff.fails ? backoff_due(&l->backoff, true) : now;
        /* a refused one comes to its answer first; then the records */
        if (l->inflight || (journal_apply_waits(l->ns) && !l->refused))
            continue;
        if (due > now)
            sync_at(s, due);
        else
            load_start(s, l);
    }
}

void load_free(struct sync *s)
{
    struct load *l;
    while ((l = TAILQ_FIRST(&s->loads)))
        load_remove(s, l);
}
