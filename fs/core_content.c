// SPDX-License-Identifier: Apache-2.0
/* File content: extents, and spans that say which ranges are known, pending, or sent.
 *
 * Rows of one node and kind never overlap, so the rows meeting [off, end) are found by one step
 * back from off and a short walk: a change costs the rows it touches, whatever the file's length.
 * The base of a pending range is not kept: when a conflict needs it, the range simply counts as
 * unknown again and is loaded from the server's history. That needs the server, but so did learning
 * of the conflict; and a file of 100,000 extents costs no copy of anything.
 */
#include "blockid.h"
#include "core_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))

static uint64_t clamp_end(uint64_t off, uint64_t len)
{
    return len > FILE_SIZE_MAX - off ? FILE_SIZE_MAX : off + len;
}

/* ---- spans ----------------------------------------------------------------------------------- */
static int span_rows(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end,
                     struct spans *out)
{
    sqlite3_stmt *s = tree_stmt(
        c->t, "SELECT off, end FROM span WHERE node = ?1 AND kind = ?2 AND off <= ?4 AND end >= ?3"
              " AND off >= coalesce((SELECT max(off) FROM span WHERE node = ?1 AND kind = ?2"
              " AND off <= ?3), 0) ORDER BY off");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, k);
    sqlite3_bind_int64(s, 3, (int64_t)off);
    sqlite3_bind_int64(s, 4, (int64_t)end);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        spans_add(out, U(0), U(1));
    return rc;
}

static int span_delete(struct core *c, uint64_t node, enum span_kind k, uint64_t off)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "DELETE FROM span WHERE node = ?1 AND kind = ?2 AND off = ?3");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, k);
    sqlite3_bind_int64(s, 3, (int64_t)off);
    return tree_step(c->t, s);
}

static int span_insert(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end)
{
    if (off >= end)
        return 0;
    sqlite3_stmt *s = tree_stmt(c->t, "INSERT OR REPLACE INTO span(node, kind, off, end)"
                                      " VALUES(?1, ?2, ?3, ?4)");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, k);
    sqlite3_bind_int64(s, 3, (int64_t)off);
    sqlite3_bind_int64(s, 4, (int64_t)end);
    return tree_step(c->t, s);
}

int span_list(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end,
              struct spans *out)
{
    cleanup_spans struct spans rows = {0};
    int err = span_rows(c, node, k, off, end, &rows);
    for (size_t i = 0; !err && i < rows.n; i++) {
        uint64_t a = rows.v[i].off > off ? rows.v[i].off : off;
        uint64_t b = rows.v[i].end < end ? rows.v[i].end : end;
        if (a < b)
            spans_add(out, a, b);
    }
    return err;
}

int span_mark(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end)
{
    cleanup_spans struct spans rows = {0};
    if (off >= end)
        return 0;
    int err = span_rows(c, node, k, off, end, &rows);
    if (rows.n == 1 && rows.v[0].off <= off && rows.v[0].end >= end)
        return err;
    for (size_t i = 0; !err && i < rows.n; i++) {
        off = rows.v[i].off < off ? rows.v[i].off : off;
        end = rows.v[i].end > end ? rows.v[i].end : end;
        err = span_delete(c, node, k, rows.v[i].off);
    }
    return err ? err : span_insert(c, node, k, off, end);
}

int span_clear(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end)
{
    cleanup_spans struct spans rows = {0};
    int err = span_rows(c, node, k, off, end, &rows);
    for (size_t i = 0; !err && i < rows.n; i++) {
        if (rows.v[i].end <= off || rows.v[i].off >= end)
            continue;
        err = span_delete(c, node, k, rows.v[i].off);
        if (!err)
            err = span_insert(c, node, k, rows.v[i].off, rows.v[i].end < off ? rows.v[i].end : off);
        if (!err)
            err = span_insert(c, node, k, rows.v[i].off > end ? rows.v[i].off : end, rows.v[i].end);
    }
    return err;
}

int span_gaps(struct core *c, uint64_t node, enum span_kind k, uint64_t off, uint64_t end,
              struct spans *out)
{
    cleanup_spans struct spans have = {0};
    int err = span_list(c, node, k, off, end, &have);
    uint64_t at = off;
    for (size_t i = 0; !err && i < have.n; i++) {
        if (have.v[i].off > at)
            spans_add(out, at, have.v[i].off);
        at = have.v[i].end;
    }
    if (!err && at < end)
        spans_add(out, at, end);
    return err;
}

/* ---- extents --------------------------------------------------------------------------------- */
static int extent_rows(struct core *c, uint64_t node, uint64_t off, uint64_t end,
                       struct extent_list *out)
{
    sqlite3_stmt *s = tree_stmt(
        c->t, "SELECT off, len, block, block_off FROM extent WHERE node = ?1 AND off < ?3"
              " AND off + len > ?2 AND off >= coalesce((SELECT max(off) FROM extent WHERE node = ?1"
              " AND off <= ?2), 0) ORDER BY off");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, (int64_t)off);
    sqlite3_bind_int64(s, 3, (int64_t)end);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1) {
        if (sqlite3_column_bytes(s, 2) != BLOCK_ID_LEN) { /* only damage makes such a row */
            sqlite3_reset(s);
            tree_note_damage(c->t);
            return -EUCLEAN;
        }
        struct m_extent e = {.off = U(0), .len = U(1), .block_off = U(3)};
        memcpy(e.block.b, sqlite3_column_blob(s, 2), BLOCK_ID_LEN);
        if (out->n == out->cap) {
            out->cap = out->cap ? 2 * out->cap : 16;
            out->v = realloc(out->v, out->cap * sizeof *out->v);
            if (!out->v)
                abort();
        }
        out->v[out->n++] = e; /* rows as they are: extent_list_append would join */
    }
    return rc;
}

static int extent_insert(struct core *c, uint64_t node, const struct m_extent *e)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "INSERT OR REPLACE INTO extent(node, off, len, block, block_off)"
                        " VALUES(?1, ?2, ?3, ?4, ?5)");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, (int64_t)e->off);
    sqlite3_bind_int64(s, 3, (int64_t)e->len);
    sqlite3_bind_blob(s, 4, e->block.b, BLOCK_ID_LEN, SQLITE_STATIC);
    sqlite3_bind_int64(s, 5, (int64_t)e->block_off);
    return tree_step(c->t, s);
}

int extents_get(struct core *c, uint64_t node, uint64_t off, uint64_t end, struct extent_list *out)
{
    cleanup_extents struct extent_list rows = {0};
    int err = extent_rows(c, node, off, end, &rows);
    if (!err)
        extent_list_slice(&rows, off, end - off, out);
    return err;
}

int extents_put(struct core *c, uint64_t node, uint64_t off, uint64_t end,
                const struct extent_list *with)
{
    cleanup_extents struct extent_list rows = {0};
    if (off >= end)
        return 0;
    int err = extent_rows(c, node, off, end, &rows);
    for (size_t i = 0; !err && i < rows.n; i++) {
        struct m_extent *e = &rows.v[i];
        sqlite3_stmt *s = tree_stmt(c->t, "DELETE FROM extent WHERE node = ?1 AND off = ?2");
        sqlite3_bind_int64(s, 1, (int64_t)node);
        sqlite3_bind_int64(s, 2, (int64_t)e->off);
        err = tree_step(c->t, s);
        if (!err && e->off < off) {
            struct m_extent left = *e;
            left.len = off - e->off;
            err = extent_insert(c, node, &left);
        }
        if (!err && e->off + e->len > end) {
            struct m_extent right = *e;
            right.off = end;
            right.len = e->off + e->len - end;
            right.block_off += end - e->off;
            err = extent_insert(c, node, &right);
        }
    }
    for (size_t i = 0; !err && with && i < with->n; i++)
        err = extent_insert(c, node, &with->v[i]);
    return err;
}

int core_extents(struct core *c, uint64_t node, uint64_t off, uint64_t len, struct extent_list *out,
                 struct core_need *need)
{
    cleanup_spans struct spans unknown = {0};
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    uint64_t end = clamp_end(off, len);
    if (end > n.size)
        end = n.size;
    if (off >= end)
        return 0;
    err = span_gaps(c, node, SPAN_KNOWN, off, end, &unknown);
    if (err)
        return err;
    if (unknown.n) {
        *need = (struct core_need){
            .kind = NEED_EXTENTS, .ns = n.ns, .node = node, .off = unknown.v[0].off};
        return CORE_NEED;
    }
    return extents_get(c, node, off, end, out);
}

int core_next_extent(struct core *c, uint64_t node, uint64_t off, uint64_t *next,
                     struct core_need *need)
{
    cleanup_spans struct spans unknown = {0};
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    if (off >= n.size)
        return -ENXIO;
    sqlite3_stmt *s = tree_stmt(
        c->t, "SELECT off FROM extent WHERE node = ?1 AND off < ?3 AND off + len > ?2"
              " AND off >= coalesce((SELECT max(off) FROM extent WHERE node = ?1 AND off <= ?2), 0)"
              " ORDER BY off LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    sqlite3_bind_int64(s, 2, (int64_t)off);
    sqlite3_bind_int64(s, 3, (int64_t)n.size);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    uint64_t at = n.size;
    if (rc == 1) {
        at = U(0) > off ? U(0) : off;
        sqlite3_reset(s);
    }
    /* what is not known between here and there may be data */
    err = span_gaps(c, node, SPAN_KNOWN, off, rc == 1 ? at + 1 : at, &unknown);
    if (err)
        return err;
    if (unknown.n) {
        *need = (struct core_need){
            .kind = NEED_EXTENTS, .ns = n.ns, .node = node, .off = unknown.v[0].off};
        return CORE_NEED;
    }
    *next = at;
    return rc == 1 ? 0 : -ENXIO;
}

void content_announce(struct core *c, uint64_t node, const struct spans *l)
{
    for (size_t i = 0; c->hooks.content_changes && i < l->n; i++)
        c->hooks.content_changes(c->hooks.ctx, node, l->v[i].off, l->v[i].end - l->v[i].off);
}

int stored_count(struct core *c, struct nrow *n)
{
    cleanup_spans struct spans unknown = {0};
    int err = span_gaps(c, n->id, SPAN_KNOWN, 0, n->size, &unknown);
    if (!err && unknown.n && n->stored > n->size)
        n->stored = n->size;
    if (err || unknown.n)
        return err;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT coalesce(sum(len), 0) FROM extent WHERE node = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    n->stored = U(0);
    sqlite3_reset(s);
    return 0;
}

/* How much of these ranges, which are not known, is stored, in a file of `size` bytes: as much as
 * of all of it, which is exact where it has no holes or nothing else. */
static uint64_t stored_guess(const struct nrow *n, uint64_t size, const struct spans *unknown)
{
    uint64_t len = 0;
    for (size_t i = 0; i < unknown->n && unknown->v[i].off < size; i++)
        len += (unknown->v[i].end < size ? unknown->v[i].end : size) - unknown->v[i].off;
    return n->stored >= size ? len : (uint64_t)((double)len / (double)size * (double)n->stored);
}

/* The range becomes `with`, here and now, in what had `size` bytes; marks it pending. *blind: what
 * was there is not known, so that n->stored is a guess. */
static int content_change(struct core *c, struct nrow *n, uint64_t size, uint64_t off, uint64_t end,
                          const struct extent_list *with, bool *blind)
{
    uint64_t before = 0, after = with ? extent_list_stored(with) : 0;
    cleanup_extents struct extent_list old = {0};
    cleanup_spans struct spans unknown = {0};
    int err = extents_get(c, n->id, off, end, &old);
    if (!err)
        err = span_gaps(c, n->id, SPAN_KNOWN, off, end, &unknown);
    if (err)
        return err;
    *blind |= unknown.n > 0;
    before = extent_list_stored(&old) + stored_guess(n, size, &unknown);
    n->stored = n->stored + after > before ? n->stored + after - before : 0;
    err = extents_put(c, n->id, off, end, with);
    if (!err)
        err = span_mark(c, n->id, SPAN_KNOWN, off, end);
    if (!err)
        err = span_mark(c, n->id, SPAN_DIRTY, off, end);
    return err;
}

int core_write(struct core *c, const struct core_who *who, uint64_t node, uint64_t off,
               uint64_t len, const struct extent_list *with, bool grow)
{
    struct nrow n;
    bool blind = false;
    uint64_t end = clamp_end(off, len);
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err && n.type != NODE_REG)
        err = -EINVAL;
    uint64_t size = err ? 0 : n.size;
    if (!err && grow && end > size) {
        if (off > size) /* the gap is a hole, and known to be one */
            err = content_change(c, &n, size, size, off, NULL, &blind);
        n.size = end;
    }
    if (!err)
        err = content_change(c, &n, size, off, end, with, &blind);
    if (!err && blind)
        err = stored_count(c, &n);
    if (!err) {
        n.mtime = who->now;
        n.ctime = ctime_of(&n, who->now);
        err = node_touch(c, &n, FACET_CONTENT, who->now);
    }
    return core_leave(c, err == -ENOENT ? -ESTALE : err);
}

int core_stored(struct core *c, uint64_t node, const struct ranges *dirty, uint64_t *stored)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    *stored = err ? 0 : n.stored;
    for (size_t i = 0; !err && i < dirty->n; i++) {
        cleanup_extents struct extent_list old = {0};
        cleanup_spans struct spans unknown = {0};
        uint64_t off = dirty->v[i].off, end = dirty->v[i].end;
        err = extents_get(c, node, off, end, &old);
        if (!err)
            err = span_gaps(c, node, SPAN_KNOWN, off, end, &unknown);
        uint64_t before = extent_list_stored(&old) + stored_guess(&n, n.size, &unknown);
        *stored += end - off > before ? end - off - before : 0;
    }
    return err == -ENOENT ? -ESTALE : err;
}

static bool recuts(const struct nrow *n)
{
    return n->type == NODE_REG && (n->pend & FACET_CONTENT) != 0;
}

bool core_recuts(struct core *c, uint64_t node)
{
    struct nrow n;
    return node_get(c, node, &n) == 0 && recuts(&n);
}

int core_recut(struct core *c, uint64_t node, uint64_t off, uint64_t len,
               const struct extent_list *with)
{
    struct nrow n;
    bool blind = false;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err && recuts(&n)) {
        err = content_change(c, &n, n.size, off, clamp_end(off, len), with, &blind);
        if (!err && blind)
            err = stored_count(c, &n);
        if (!err)
            err = node_put(c, &n);
    }
    return core_leave(c, err == -ENOENT ? 0 : err);
}

/* ---- what is nowhere ------------------------------------------------------------------------- */
static bool has_base(const struct nrow *n)
{
    return n->type == NODE_REG && n->content_rev && !n->gone && !n->src &&
           !((n->pend | n->sent) & FACET_CREATE);
}

bool core_has_base(struct core *c, uint64_t node)
{
    struct nrow n;
    return node_get(c, node, &n) == 0 && has_base(&n);
}

/* The range is neither pending nor known: it is loaded when somebody asks. Nobody is told: what was
 * there could not be read. */
static int give_back(struct core *c, uint64_t node, uint64_t off, uint64_t end)
{
    int err = extents_put(c, node, off, end, NULL);
    if (!err)
        err = span_clear(c, node, SPAN_DIRTY, off, end);
    return err ? err : span_clear(c, node, SPAN_KNOWN, off, end);
}

int core_block_lost(struct core *c, uint64_t node, const struct block_id *id)
{
    struct nrow n;
    cleanup_spans struct spans dirty = {0};
    bool any = false;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err && !has_base(&n))
        err = -ENOENT;
    if (!err && n.request)
        err = -EBUSY;
    if (!err)
        err = span_list(c, node, SPAN_DIRTY, 0, FILE_SIZE_MAX, &dirty);
    for (size_t i = 0; !err && i < dirty.n; i++) {
        cleanup_extents struct extent_list l = {0};
        err = extents_get(c, node, dirty.v[i].off, dirty.v[i].end, &l);
        for (size_t k = 0; !err && k < l.n; k++) {
            if (!block_id_equal(&l.v[k].block, id))
                continue;
            any = true;
            err = give_back(c, node, l.v[k].off, l.v[k].off + l.v[k].len);
        }
    }
    if (!err && any)
        err = stored_count(c, &n);
    if (!err && any)
        err = node_put(c, &n);
    return core_leave(c, err ? err : any ? 0 : -ENOENT);
}

/* The node goes aside, and the name is the file's again that the server has there. */
static int name_back(struct core *c, const struct nrow *n, struct erow *e, bool first, int64_t now,
                     struct core_effects *fx)
{
    int err = 0;
    if (first) /* before it has no name */
        err = rebase_aside(c, n->ns, e->parent, erow_name(e), n->id, n->type, now, fx);
    if (!err)
        err = entry_assign(c, e, e->base_node, e->base_type, now);
    effect_entry(fx, n->ns, e->parent, erow_name(e), e->node);
    return err;
}

int core_name_lost(struct core *c, uint64_t node, int64_t now, struct core_effects *fx)
{
    cleanup_ids struct ids names = {0};
    struct nrow n;
    bool any = false;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err && has_base(&n))
        err = -ENOENT;
    if (!err)
        err = entry_ids(c, BY_NODE, node, &names);
    for (size_t i = 0; !err && i < names.n; i++) {
        struct erow e;
        struct nrow old;
        err = entry_by_id(c, names.v[i], &e);
        if (err || !e.base_node || e.base_node == node || e.base_type != NODE_REG || e.request)
            continue;
        err = node_get(c, e.base_node, &old);
        if (!err)
            err = name_back(c, &n, &e, !any, now, fx);
        any |= !err;
        if (err == -ENOENT) /* it is not known here */
            err = 0;
    }
    return core_leave(c, err ? err : any ? 0 : -ENOENT);
}

int core_truncate(struct core *c, const struct core_who *who, uint64_t node, uint64_t size,
                  struct core_need *need)
{
    struct nrow n;
    bool blind = false;
    (void)need;
    if (size > FILE_SIZE_MAX)
        return -EFBIG;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, node, &n);
    if (!err)
        err = ns_writable(c, n.ns);
    if (!err && n.type != NODE_REG)
        err = n.type == NODE_DIR ? -EISDIR : -EINVAL;
    if (!err && size != n.size)
        err = content_change(c, &n, n.size, size < n.size ? size : n.size,
                             size > n.size ? size : n.size, NULL, &blind);
    n.size = size;
    if (!err && blind)
        err = stored_count(c, &n);
    if (!err) {
        n.mtime = who->now;
        n.ctime = ctime_of(&n, who->now);
        err = node_touch(c, &n, FACET_CONTENT, who->now);
    }
    return core_leave(c, err == -ENOENT ? -ESTALE : err);
}

int core_clone(struct core *c, const struct core_who *who, uint64_t src, uint64_t src_off,
               uint64_t dst, uint64_t dst_off, uint64_t len, bool linked, struct core_need *need)
{
    cleanup_extents struct extent_list from = {0}, to = {0};
    struct nrow a, b;
    int err = core_begin(c);
    if (err)
        return err;
    err = node_get(c, src, &a);
    if (!err)
        err = node_get(c, dst, &b);
    if (!err && a.ns != b.ns && !linked)
        err = -EXDEV;
    if (!err)
        err = ns_writable(c, b.ns);
    if (!err && (src_off >= a.size || len == 0))
        return core_leave(c, 0);
    if (!err && len > a.size - src_off)
        len = a.size - src_off;
    if (!err && dst_off > FILE_SIZE_MAX - len)
        err = -EFBIG;
    if (!err)
        err = core_extents(c, src, src_off, len, &from, need);
    if (err)
        return core_leave(c, err == -ENOENT ? -ESTALE : err);
    for (size_t i = 0; i < from.n; i++) {
        struct m_extent e = from.v[i];
        e.off = e.off - src_off + dst_off;
        extent_list_append(&to, &e);
    }
    return core_leave(c, core_write(c, who, dst, dst_off, len, &to, true));
}

int core_pending_blocks(struct core *c, uint64_t ns,
                        int (*fn)(void *arg, const struct block_id *v, size_t n), void *arg)
{
    struct block_id *v = malloc(PENDING_BLOCKS_STEP * sizeof *v);
    size_t n = 0;
    int rc = v ? 1 : -ENOMEM;
    sqlite3_stmt *s = tree_stmt(
        c->t,
        "SELECT x.block FROM node n INDEXED BY node_pending CROSS JOIN span s ON s.node = n.id"
        " AND s.kind = 0 CROSS JOIN extent x ON x.node = n.id AND x.off < s.end"
        " AND x.off + x.len > s.off WHERE n.ns = ?1 AND n.pend != 0");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    while (rc == 1 && (rc = tree_step(c->t, s)) == 1) {
        if (sqlite3_column_bytes(s, 0) != BLOCK_ID_LEN)
            continue;
        memcpy(v[n++].b, sqlite3_column_blob(s, 0), BLOCK_ID_LEN);
        if (n == PENDING_BLOCKS_STEP) {
            int err = fn(arg, v, n);
            rc = err ? err : 1;
            n = 0;
        }
    }
    if (s)
        sqlite3_reset(s);
    if (!rc && n)
        rc = fn(arg, v, n);
    free(v);
    return rc;
}

int core_block_used(struct core *c, const struct block_id *id, bool *referenced, bool *pending)
{
    cleanup_ids struct ids nodes = {0}, offs = {0}, lens = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT node, off, len FROM extent WHERE block = ?1");
    sqlite3_bind_blob(s, 1, id->b, BLOCK_ID_LEN, SQLITE_STATIC);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1) {
        ids_add(&nodes, U(0));
        ids_add(&offs, U(1));
        ids_add(&lens, U(2));
    }
    *referenced = nodes.n > 0;
    *pending = false;
    for (size_t i = 0; !rc && !*pending && i < nodes.n; i++) {
        cleanup_spans struct spans l = {0};
        rc = span_list(c, nodes.v[i], SPAN_DIRTY, offs.v[i], offs.v[i] + lens.v[i], &l);
        if (!rc)
            rc = span_list(c, nodes.v[i], SPAN_SENT, offs.v[i], offs.v[i] + lens.v[i], &l);
        *pending = l.n > 0;
    }
    return rc;
}
