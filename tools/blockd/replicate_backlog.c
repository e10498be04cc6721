// SPDX-License-Identifier: Apache-2.0
/* The backlogs: what this server lacks, and what others lack that it has.
 *
 * Each is gone through in pages, from the newest commits' blocks on, by walks that keep their own
 * places and know nothing of each other:
 *
 *   - for each other member, what it can give of what is lacking here: a page when there is room
 *     among the wanted blocks. Only members that answer are asked about, so that what cannot be had
 *     neither hides what can nor takes its place;
 *   - for each other member, what it lacks and this server has: a page when its tasks are done;
 *   - everything that is lacking here, whoever has it: what is here all the same (a report was lost
 *     in a crash) is reported, after what was taken in without an owner was claimed.
 *
 * A walk that came to its end begins again soon if it found something; otherwise it pauses longer
 * each time, and at least so long that it takes a small part of the time however large the backlog.
 * It begins at once when the member answers again, or something is lost. Beside the walks the first
 * page is looked at a little after each commit, so that new things never wait for old ones.
 *
 * Namespaces take turns, page by page.
 */
#include "replicate_int.h"

#include "feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BLOCKS 1024
#define PULL_ROOM (WANTS_PER_PAIR / 2) /* for so many a page is asked for */
#define OWN_PAGE_MS 100                /* between two pages of everything */
#define LOOK_AGAIN_MS 3000
#define PAUSE_MAX_MS 60000
#define PAUSE_SHARE 20 /* times as long as the walk took, at least, where it found nothing */

/* ---- walks --------------------------------------------------------------------------------- */

void walk_reset(struct walk *w)
{
    *w = (struct walk){.resets = w->resets + 1};
}

void walk_on(struct walk *w, struct bytes next, bool found, int64_t now)
{
    if (!w->began)
        w->began = now;
    w->found |= found;
    w->at = now;
    w->place_n = next.n <= sizeof w->place ? next.n : 0;
    if (w->place_n) {
        memcpy(w->place, next.p, next.n);
        return;
    }
    int64_t pause = LOOK_AGAIN_MS, least = (now - w->began) * PAUSE_SHARE;
    if (!w->found) {
        pause = w->pause_ms ? 2 * w->pause_ms : LOOK_AGAIN_MS;
        if (pause > PAUSE_MAX_MS)
            pause = PAUSE_MAX_MS;
        w->pause_ms = pause;
        if (pause < least)
            pause = least;
    } else {
        w->pause_ms = 0;
    }
    w->at = now + pause;
    w->began = 0;
    w->found = false;
}

static bool walk_due(const struct walk *w, int64_t now, int64_t *until)
{
    if (w->at > now && w->at < *until)
        *until = w->at;
    return w->at <= now;
}

/* ---- what is due --------------------------------------------------------------------------- */

static bool answers(const struct member *m)
{
    return m->peer && m->peer->wanted && !m->peer->silent;
}

static bool due_make(struct due *d, enum due_kind what, const struct group *g,
                     const struct member *m, const struct walk *w)
{
    *d = (struct due){.what = what, .ns = g->ns, .server = m ? m->server : 0};
    d->limit = PAGE_BLOCKS;
    if (w) {
        d->walk = *w;
        return true;
    }
    for (size_t k = 0; k < g->members_n && d->holders_n < 64; k++)
        if (answers(&g->members[k]))
            d->holders[d->holders_n++] = g->members[k].server;
    return d->holders_n > 0;
}

bool backlog_due(struct replicate *r, struct group *g, struct due *d, int64_t *until)
{
    int64_t now = mono_ms();
    if (g->look_at && g->look_at <= now) {
        g->look_at = 0;
        if (due_make(d, DUE_NEWEST, g, NULL, NULL))
            return true;
    }
    if (g->look_at && g->look_at < *until)
        *until = g->look_at;
    if (g->lacking && walk_due(&g->own, now, until))
        return due_make(d, DUE_OWN, g, NULL, &g->own);
    for (size_t k = 0; k < g->members_n; k++) {
        const struct member *m = &g->members[(g->turn + k) % g->members_n];
        if (!answers(m))
            continue;
        size_t room = wants_room(r->wants, g->ns, m->server);
        if (g->lacking && room >= PULL_ROOM && walk_due(&m->pull, now, until)) {
            due_make(d, DUE_PULL, g, m, &m->pull);
            d->limit = room;
        } else if (m->lacking && !m->leaving && m->peer->idle && walk_due(&m->push, now, until)) {
            due_make(d, DUE_PUSH, g, m, &m->push);
        } else {
            continue;
        }
        g->turn = (g->turn + k + 1) % g->members_n;
        return true;
    }
    return false;
}

/* ---- one page ------------------------------------------------------------------------------ */

static int ask_page(struct replicate *r, const struct due *d, uint64_t of, const uint64_t *holders,
                    size_t holders_n, struct m_backlog_ans *ans, struct arena *a)
{
    char message[512] = "";
    struct m_backlog_req q = {.ns = d->ns,
                              .server = of,
                              .limit = d->limit,
                              .after = bytes_of(d->walk.place, d->walk.place_n),
                              .holders = (uint64_t *)holders,
                              .holders_n = holders_n};
    int err = call_meta(r, &r->follow_call, "backlog", &m_backlog_req_desc, &q, &m_backlog_ans_desc,
                        ans, a, message);
    if (err)
        follow_failed(r, d->ns, err, message);
    return err;
}

/* [locked] The group's walk of that kind, unless it was begun anew meanwhile; may be NULL. */
static struct walk *walk_of(struct replicate *r, const struct due *d)
{
    struct group *g = table_find(r, d->ns);
    struct member *m = d->server ? table_member(r, d->ns, d->server) : NULL;
    struct walk *w = d->what == DUE_OWN         ? g ? &g->own : NULL
                     : d->what == DUE_PULL && m ? &m->pull
                     : d->what == DUE_PUSH && m ? &m->push
                                                : NULL;
    return w && w->resets == d->walk.resets ? w : NULL;
}

/* [locked] Wanted from those of its holders that answer. True: it can be had. */
static bool want(struct replicate *r, const struct due *d, const struct m_lacking *l)
{
    struct group *g = table_find(r, d->ns);
    uint64_t holders[64];
    size_t n = 0;
    for (size_t k = 0; g && k < g->members_n && n < 64; k++) {
        const struct member *m = &g->members[k];
        bool has = false;
        for (size_t i = 0; i < l->servers_n && !has; i++)
            has = l->servers[i] == m->server;
        if (has && answers(m))
            holders[n++] = m->server;
    }
    if (n)
        wants_add(r->wants, d->ns, &l->block, holders, n, d->what == DUE_NEWEST);
    return n > 0;
}

/* [locked] */
static void poke_holders(struct replicate *r, const struct due *d)
{
    struct group *g = table_find(r, d->ns);
    for (size_t k = 0; g && k < g->members_n; k++)
        if (g->members[k].peer && (!d->server || g->members[k].server == d->server))
            peer_poke(g->members[k].peer);
}

/* What this server lacks: reported if it is here, else wanted. */
static void look_here(struct replicate *r, const struct due *d)
{
    struct arena a cleanup_arena = {0};
    struct m_backlog_ans ans;
    const uint64_t *holders = d->what == DUE_NEWEST ? d->holders : &d->server;
    size_t holders_n = d->what == DUE_NEWEST ? d->holders_n : d->what == DUE_PULL;
    if (ask_page(r, d, r->o.identity->server, holders, holders_n, &ans, &a))
        return;
    struct block_id *ids = arena_alloc(&a, (ans.blocks_n + 1) * sizeof *ids);
    struct storage_info *info = arena_alloc(&a, (ans.blocks_n + 1) * sizeof *info);
    bool found = false;
    for (size_t i = 0; i < ans.blocks_n; i++)
        ids[i] = ans.blocks[i].block;
    const struct storage_ops *ops = r->o.storage->ops;
    if (ops->claim && ans.blocks_n) /* where that fails it is not found here, and asked for again */
        ops->claim(r->o.storage, d->ns, ids, ans.blocks_n);
    if (ops->have(r->o.storage, d->ns, ids, ans.blocks_n, info)) {
        follow_failed(r, d->ns, -EIO, "the storage cannot be read");
        return;
    }
    for (size_t i = 0; i < ans.blocks_n; i++)
        if (info[i].there) {
            replicate_arrived(r, d->ns, &ids[i], info[i].logical_len);
            found = true;
        }
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < ans.blocks_n && d->what != DUE_OWN; i++)
        if (!info[i].there && want(r, d, &ans.blocks[i]))
            found = true;
    struct walk *w = walk_of(r, d);
    if (w)
        walk_on(w, ans.next, found, mono_ms());
    if (w && w->place_n && d->what == DUE_OWN)
        w->at += OWN_PAGE_MS;
    struct group *g = table_find(r, d->ns);
    if (g && ans.blocks_n && !g->lacking)
        group_lacks(g);
    if (found)
        poke_holders(r, d);
    pthread_mutex_unlock(&r->lock);
}

/* What a member lacks and this server has. */
static void look_there(struct replicate *r, const struct due *d)
{
    struct arena a cleanup_arena = {0};
    struct m_backlog_ans ans;
    if (ask_page(r, d, d->server, &r->o.identity->server, 1, &ans, &a))
        return;
    struct task *v = arena_alloc(&a, (ans.blocks_n + 1) * sizeof *v);
    size_t n = 0, added = 0;
    for (size_t i = 0; i < ans.blocks_n; i++)
        for (size_t k = 0; k < ans.blocks[i].servers_n; k++)
            if (ans.blocks[i].servers[k] == r->o.identity->server)
                v[n++] = (struct task){.server = d->server, .block = ans.blocks[i].block};
    int err = tasks_add(r->tasks, d->ns, bytes_of(NULL, 0), v, n, &added);
    if (err) {
        follow_failed(r, d->ns, err, "the log of tasks cannot be written");
        return;
    }
    pthread_mutex_lock(&r->lock);
    struct walk *w = walk_of(r, d);
    struct member *m = table_member(r, d->ns, d->server);
    if (w)
        walk_on(w, ans.next, added > 0, mono_ms());
    if (added && m && m->peer)
        m->peer->idle = false;
    if (added)
        poke_holders(r, d);
    pthread_mutex_unlock(&r->lock);
}

void backlog_look(struct replicate *r, const struct due *d)
{
    if (d->what == DUE_PUSH)
        look_there(r, d);
    else
        look_here(r, d);
}

/* ---- what begins walks anew ---------------------------------------------------------------- */

void group_lacks(struct group *g)
{
    g->lacking = true;
    walk_reset(&g->own);
    for (size_t k = 0; k < g->members_n; k++)
        walk_reset(&g->members[k].pull);
}

void backlog_peer_back(struct peer *p)
{
    struct replicate *r = p->r;
    for (size_t i = 0; i < r->groups_n; i++) {
        struct member *m = table_member(r, r->groups[i].ns, p->id);
        if (!m)
            continue;
        walk_reset(&m->pull);
        walk_reset(&m->push);
    }
    follow_poke(r);
}
