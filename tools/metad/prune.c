// SPDX-License-Identifier: Apache-2.0
/* Forgetting the past.
 *
 * A namespace's floor rises to the last commit that is older than the history to be kept; what was
 * superseded by it can no longer be read from then on. The rows that those commits closed, and
 * their records, are dropped afterwards, in the order of the journal, a bounded number in each
 * step. A record names every row that its commit closed, so that nothing is searched for: a closed
 * row of interval [from, to) was closed by commit `to`.
 *
 * Open rows are never touched; neither are those that a readable number needs, whose `to` is above
 * the floor. Of a removed node its inode goes first: without it nothing is opened again with half
 * of its extents.
 */
#include <errno.h>

#include "restored.h"

#define FLOOR_STEP 1024u /* records that a floor passes in one step, and that one step drops */
#define ROWS_STEP 8192u  /* extents and xattrs dropped in one step, about */
/* Of the marks below the floor each so many'th is kept for ever, and a number of the newest: with
 * them devices that were away for longer see whether it is the journal that they knew. They keep
 * the same ones (fs/core_int.h). */
#define MARKS_STEP 64u

/* The encoded record after `after`; -ENOENT behind the last. */
static int record_after(struct meta *m, uint64_t ns, uint64_t after, struct m_record *out,
                        struct arena *ar)
{
    struct bytes *v;
    size_t n;
    int r = m->st->ops->journal_list(m->st, ns, after, 1, 1, &v, &n, ar);
    if (r || !n)
        return r ? r : -ENOENT;
    return msg_decode(&m_record_desc, out, v[0].p, v[0].n, MSG_LENIENT, ar, NULL) ? -EUCLEAN : 0;
}

static int thin_marks(struct meta *m, uint64_t ns, uint64_t from, uint64_t floor)
{
    uint64_t all = m->marks_below;
    from = from > all ? from - all : 0;
    return floor <= all ? 0 : m->st->ops->mark_thin(m->st, ns, from, floor - all, MARKS_STEP);
}

static int raise_floor(struct meta *m, struct ns_row *row, uint64_t before_ms, bool *more)
{
    uint64_t floor = row->floor;
    int r = m->st->ops->journal_older(m->st, row->id, row->floor, before_ms, FLOOR_STEP, &floor);
    if (r || floor == row->floor)
        return r;
    *more |= floor - row->floor == FLOOR_STEP;
    uint64_t before = row->floor;
    row->floor = floor;
    r = m->st->ops->ns_set(m->st, row);
    return r ? r : thin_marks(m, row->id, before, floor);
}

/* What the commit of this record closed, as much as is left of the step. */
static int drop_closed(struct meta *m, uint64_t ns, const struct m_record *rec, size_t *left)
{
    const struct store_ops *ops = m->st->ops;
    int r = 0;
    for (size_t k = 0; k < rec->inodes_n && !r; k++)
        r = ops->inode_forget(m->st, ns, rec->inodes[k].node, rec->sjid);
    for (size_t k = 0; k < rec->entries_n && !r; k++)
        r = ops->entry_forget(m->st, ns, rec->entries[k].parent, rec->entries[k].name, rec->sjid);
    for (size_t k = 0; k < rec->inodes_n && !r && *left; k++)
        r = ops->node_rows_forget(m->st, ns, rec->inodes[k].node, rec->sjid, left);
    for (size_t k = 0; k < rec->xattrs_n && !r && *left; k++) /* no change of the inode */
        r = ops->node_rows_forget(m->st, ns, rec->xattrs[k].node, rec->sjid, left);
    return r;
}

/* One record at or below the floor, with what it closed; *more: there is one. */
static int drop_one(struct meta *m, const struct ns_row *row, size_t *left, bool *more)
{
    cleanup_arena struct arena ar = {0};
    struct m_record rec;
    int r = record_after(m, row->id, 0, &rec, &ar);
    if (r == -ENOENT || (!r && rec.sjid > row->floor))
        return 0;
    *more = true;
    if (!r)
        r = drop_closed(m, row->id, &rec, left);
    if (!r && *left)
        r = m->st->ops->journal_forget(m->st, row->id, rec.sjid);
    return r;
}

int meta_time_noted(struct meta *m, uint64_t *ms)
{
    int r = meta_change_begin(m);
    return r ? r : meta_change_end(m, m->st->ops->setting_raise(m->st, "noted_ms", ms));
}

int meta_prune(struct meta *m, int64_t now_ms, uint64_t history_min_ms, bool *more)
{
    cleanup_arena struct arena ar = {0};
    struct ns_row *v;
    size_t n = 0, left = ROWS_STEP, records = FLOOR_STEP;
    bool keeps;
    *more = false;
    int r = meta_change_begin(m);
    if (r)
        return r;
    r = restored_step(m, now_ms, &keeps);
    if (!r)
        r = m->st->ops->ns_list(m->st, 0, &v, &n, &ar);
    for (size_t k = 0; k < n && !r && left && records; k++) {
        bool again = true;
        if (!keeps && (uint64_t)now_ms > history_min_ms)
            r = raise_floor(m, &v[k], (uint64_t)now_ms - history_min_ms, more);
        for (; !r && left && records && again; records -= again) {
            again = false;
            r = drop_one(m, &v[k], &left, &again);
        }
        if (!r && left)
            r = m->st->ops->complete_forget(m->st, v[k].id, v[k].floor, &left);
        *more |= again || !left;
    }
    return meta_change_end(m, r);
}
