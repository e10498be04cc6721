// SPDX-License-Identifier: Apache-2.0
/* The core's life, its entries' rows, and the numbers it hands out.
 *
 * Node counters and request numbers are taken from ranges reserved durably before use: after an
 * unclean end the rest of a range is skipped, so that no number is used twice even when power loss
 * took the newest transactions of the tree. core_begin reserves ahead, outside of any transaction;
 * a transaction that needs more takes it itself, and the next one makes that durable before it
 * begins, so before any of these nodes is sent.
 */
#include "core_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ids_add(struct ids *l, uint64_t id)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->v = realloc(l->v, l->cap * sizeof *l->v);
        if (!l->v)
            abort();
    }
    l->v[l->n++] = id;
}

void spans_add(struct spans *l, uint64_t off, uint64_t end)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->v = realloc(l->v, l->cap * sizeof *l->v);
        if (!l->v)
            abort();
    }
    l->v[l->n++] = (struct span){off, end};
}

void core_effects_free(struct core_effects *e)
{
    free(e->v);
    *e = (struct core_effects){0};
}

struct core_effect *effect_add(struct core_effects *fx, enum effect_kind k, uint64_t ns,
                               uint64_t node)
{
    if (fx->n == fx->cap) {
        fx->cap = fx->cap ? 2 * fx->cap : 16;
        fx->v = realloc(fx->v, fx->cap * sizeof *fx->v);
        if (!fx->v)
            abort();
    }
    struct core_effect *e = &fx->v[fx->n++];
    *e = (struct core_effect){.kind = k, .ns = ns, .node = node};
    return e;
}

void effect_entry(struct core_effects *fx, uint64_t ns, uint64_t parent, struct bytes name,
                  uint64_t child)
{
    struct core_effect *e = effect_add(fx, EFFECT_ENTRY, ns, parent);
    e->other = child;
    e->name_len = name.n;
    memcpy(e->name, name.p, name.n);
}

bool is_dir(uint32_t type)
{
    return type == NODE_DIR || type == NODE_MOUNT;
}

/* ---- life ------------------------------------------------------------------------------------ */
static int reserve(struct core *c)
{
    int err = 0;
    if (c->request_limit - c->request_next < REQUEST_RANGE / 2) {
        err = tree_reserve(c->t, "request_limit", (int64_t)(c->request_limit + REQUEST_RANGE));
        if (!err)
            c->request_limit += REQUEST_RANGE;
    }
    if (!err && (c->node_limit_due || c->node_limit - c->node_next < NODE_RANGE / 2)) {
        err = tree_reserve(c->t, "node_limit", (int64_t)(c->node_limit + NODE_RANGE));
        if (!err) {
            c->node_limit += NODE_RANGE;
            c->node_limit_due = false;
        }
    }
    return err;
}

uint64_t meta_or(struct core *c, const char *key, uint64_t otherwise)
{
    int64_t v;
    return tree_get(c->t, key, &v) == 0 ? (uint64_t)v : otherwise;
}

/* Unlinked files that were still open when the last owner ended. */
static int purge_orphans(struct core *c)
{
    cleanup_ids struct ids l = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id FROM node WHERE nlink = 0");
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(&l, (uint64_t)sqlite3_column_int64(s, 0));
    if (!rc)
        rc = core_begin(c);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < l.n; i++)
        rc = node_purge(c, l.v[i]);
    return core_leave(c, rc);
}

/* What was sent may be answered in the journal: that is read first. What the newest transactions
 * did may be lost, commits sent among it: what is pending now is older than those. Nothing was sent
 * if the start before this one was unclean too and the journal was not read up to now. By the
 * indexes: what is known besides costs nothing. */
#define SENT_SINCE " AND ns IN (SELECT id FROM ns WHERE unclean = 0)"

static int unclean_start(struct core *c)
{
    static const char *const sql[] = {
        "UPDATE node INDEXED BY node_pending SET old = pend | sent WHERE pend != 0" SENT_SINCE,
        "UPDATE node INDEXED BY node_request SET old = pend | sent WHERE request != 0" SENT_SINCE,
        "UPDATE entry INDEXED BY entry_pending SET old = 1 WHERE pend != 0" SENT_SINCE,
        "UPDATE entry INDEXED BY entry_request SET old = 1 WHERE request != 0" SENT_SINCE,
        "UPDATE xattr INDEXED BY xattr_pending SET old = 1 WHERE (pend != 0 OR request != 0)"
        " AND (SELECT ns FROM node n WHERE n.id = xattr.node) IN"
        " (SELECT id FROM ns WHERE unclean = 0)",
    };
    int err = core_begin(c);
    if (err)
        return err;
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++)
        err = tree_step(c->t, tree_stmt(c->t, sql[i]));
    if (!err)
        err = ns_set_unclean(c);
    if (!err)
        err = rebase_unsend_lost(c);
    return core_leave(c, err);
}

int core_new(struct core **out, struct tree *t, const struct core_options *o)
{
    struct core *c = calloc(1, sizeof *c);
    struct kept *kept = calloc(1, sizeof *kept);
    if (!c || !kept) {
        free(c);
        free(kept);
        return -ENOMEM;
    }
    c->kept = kept;
    c->t = t;
    c->device = o->device;
    bounds_set(c, &o->bounds);
    strncpy(c->device_name, o->device_name ? o->device_name : "device", sizeof c->device_name - 1);
    c->request_limit = meta_or(c, "request_limit", 1);
    c->node_limit = meta_or(c, "node_limit", 1);
    bool clean = meta_or(c, "clean", 1) != 0 && o->clean_start;
    int err = tree_reserve(t, "clean", 0);
    if (!err) /* two that open copies of it are told apart by this */
        err = tree_reserve(t, "starts", (int64_t)meta_or(c, "starts", 0) + 1);
    c->request_next = c->request_limit; /* no transaction reserves more meanwhile */
    c->node_next = c->node_limit;
    c->hooks = (struct core_hooks){0}; /* nothing is open yet */
    if (!err)
        err = device_adopt(c, &clean);
    if (clean) {
        c->request_next = meta_or(c, "request_next", c->request_limit);
        c->node_next = meta_or(c, "node_next", c->node_limit);
    }
    c->clean = clean;
    if (!err && !clean)
        err = unclean_start(c);
    if (!err)
        err = reserve(c);
    if (!err)
        err = purge_orphans(c);
    c->hooks = o->hooks;
    if (!err)
        err = rows_new(c);
    if (err) {
        free(kept);
        free(c);
        return err;
    }
    *out = c;
    return 0;
}

int core_power_lost(struct core *c, bool other_boot, bool *lost)
{
    *lost = other_boot && !c->clean;
    if (*lost)
        return tree_reserve(c->t, "power_lost", 1);
    if (!meta_or(c, "power_lost", 0))
        return 0;
    sqlite3_stmt *s = tree_stmt(
        c->t, "SELECT 1 FROM node INDEXED BY node_pending WHERE pend != 0 AND (pend & ?1) != 0"
              " UNION ALL SELECT 1 FROM node INDEXED BY node_request WHERE request != 0 LIMIT 1");
    sqlite3_bind_int64(s, 1, FACET_CONTENT);
    int rc = tree_step(c->t, s);
    *lost = rc == 1;
    if (rc == 1)
        sqlite3_reset(s);
    return rc < 0 ? rc : *lost ? 0 : tree_reserve(c->t, "power_lost", 0);
}

void core_free(struct core *c)
{
    if (!c)
        return;
    tree_set(c->t, "request_next", (int64_t)c->request_next);
    tree_set(c->t, "node_next", (int64_t)c->node_next);
    tree_reserve(c->t, "clean", 1);
    rows_free(c);
    tree_close(c->t);
    free(c->scan);
    free(c->kept);
    free(c);
}

int core_begin(struct core *c)
{
    if (c->depth == 0) {
        int err = reserve(c);
        if (err)
            return err;
    }
    int err = tree_begin(c->t);
    if (!err)
        c->depth++;
    return err;
}

int core_end(struct core *c, bool keep)
{
    assert(c->depth > 0);
    c->depth--;
    return tree_end(c->t, keep);
}

int core_leave(struct core *c, int r)
{
    int err = core_end(c, r >= 0);
    return r < 0 ? r : err ? err : r;
}

int node_new_id(struct core *c, uint64_t *id)
{
    if (c->node_next >= c->node_limit) { /* one transaction that makes more than a whole range */
        int err = tree_set(c->t, "node_limit", (int64_t)(c->node_limit + NODE_RANGE));
        if (err)
            return err;
        c->node_limit += NODE_RANGE;
        c->node_limit_due = true;
    }
    *id = NODE_ID(c->device, c->node_next++);
    return 0;
}

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))
#define I(i) sqlite3_column_int64(s, (i))
#define W(i) ((uint32_t)sqlite3_column_int64(s, (i)))

/* ---- entries --------------------------------------------------------------------------------- */
#define ENTRY_COLUMNS                                                                              \
    "SELECT id, ns, parent, name, node, type, base_node, base_type, base_rev, pend, request, "     \
    "sent_node,"                                                                                   \
    " since, old, sent_base FROM entry "

static int entry_row(struct core *c, sqlite3_stmt *s, struct erow *e)
{
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *e = (struct erow){.id = U(0),
                       .ns = U(1),
                       .parent = U(2),
                       .node = U(4),
                       .type = W(5),
                       .base_node = U(6),
                       .base_type = W(7),
                       .base_rev = U(8),
                       .pend = I(9) != 0,
                       .request = U(10),
                       .sent_node = U(11),
                       .since = I(12),
                       .old = I(13) != 0,
                       .sent_base = U(14)};
    e->name_len = (size_t)sqlite3_column_bytes(s, 3);
    if (e->name_len > NAME_LEN_MAX) { /* only damage makes such a row */
        sqlite3_reset(s);
        tree_note_damage(c->t);
        return -EUCLEAN;
    }
    memcpy(e->name, sqlite3_column_blob(s, 3), e->name_len);
    sqlite3_reset(s);
    return 0;
}

int entry_get(struct core *c, uint64_t parent, struct bytes name, struct erow *e)
{
    sqlite3_stmt *s = tree_stmt(c->t, ENTRY_COLUMNS "WHERE parent = ?1 AND name = ?2");
    sqlite3_bind_int64(s, 1, (int64_t)parent);
    sqlite3_bind_blob64(s, 2, name.p, name.n, SQLITE_STATIC);
    return entry_row(c, s, e);
}

int entry_by_id(struct core *c, uint64_t id, struct erow *e)
{
    sqlite3_stmt *s = tree_stmt(c->t, ENTRY_COLUMNS "WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    return entry_row(c, s, e);
}

int entry_put(struct core *c, struct erow *e)
{
    sqlite3_stmt *s;
    if (e->id)
        s = tree_stmt(c->t,
                      "UPDATE entry SET node = ?4, type = ?5, base_node = ?6, base_type = ?7,"
                      " base_rev = ?8, pend = ?9, request = ?10, sent_node = ?11, since = ?12,"
                      " old = ?13, sent_base = ?14 WHERE id = ?15");
    else
        s = tree_stmt(c->t, "INSERT INTO entry(ns, parent, name, node, type, base_node, base_type,"
                            " base_rev, pend, request, sent_node, since, old,"
                            " sent_base) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
                            " ?12, ?13, ?14)");
    if (e->id) {
        sqlite3_bind_int64(s, 15, (int64_t)e->id);
    } else {
        sqlite3_bind_int64(s, 1, (int64_t)e->ns);
        sqlite3_bind_int64(s, 2, (int64_t)e->parent);
        sqlite3_bind_blob64(s, 3, e->name, e->name_len, SQLITE_STATIC);
    }
    const uint64_t v[] = {e->node,     e->type,    e->base_node, e->base_type,       e->base_rev,
                          e->pend,     e->request, e->sent_node, (uint64_t)e->since, e->old,
                          e->sent_base};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        sqlite3_bind_int64(s, (int)i + 4, (int64_t)v[i]);
    int err = tree_step(c->t, s);
    if (!err && !e->id)
        e->id = (uint64_t)sqlite3_last_insert_rowid(tree_db(c->t));
    return err;
}

int entry_delete(struct core *c, uint64_t id)
{
    sqlite3_stmt *s = tree_stmt(c->t, "DELETE FROM entry WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    return tree_step(c->t, s);
}

/* most < 0: all of them */
static int ids_upto(struct core *c, enum entry_by by, uint64_t key, int64_t most, struct ids *out)
{
    sqlite3_stmt *s = NULL;
    switch (by) {
    case BY_NODE:
        s = tree_stmt(c->t, "SELECT id FROM entry INDEXED BY entry_node WHERE node = ?1"
                            " AND node != 0 ORDER BY id LIMIT ?2");
        break;
    case BY_PENDING_NODE:
        s = tree_stmt(c->t, "SELECT id FROM entry INDEXED BY entry_pending_node WHERE node = ?1"
                            " AND node != 0 AND (pend != 0 OR request != 0) ORDER BY id LIMIT ?2");
        break;
    case BY_BASE: /* where it is on the server and no longer here */
        s = tree_stmt(c->t, "SELECT id FROM entry WHERE base_node = ?1 AND base_node != 0"
                            " AND base_node != node ORDER BY id LIMIT ?2");
        break;
    case BY_SENT: /* where it will be if the answer is yes */
        s = tree_stmt(c->t, "SELECT id FROM entry WHERE sent_node = ?1 AND request != 0 LIMIT ?2");
        break;
    case BY_PENDING_PARENT:
        s = tree_stmt(c->t, "SELECT id FROM entry WHERE parent = ?1 AND (pend != 0 OR request != 0)"
                            " ORDER BY id LIMIT ?2");
        break;
    case BY_PARENT:
        s = tree_stmt(c->t, "SELECT id FROM entry WHERE parent = ?1 ORDER BY id LIMIT ?2");
        break;
    case BY_REQUEST:
        s = tree_stmt(c->t, "SELECT id FROM entry WHERE request = ?1 AND request != 0 ORDER BY id"
                            " LIMIT ?2");
        break;
    }
    sqlite3_bind_int64(s, 1, (int64_t)key);
    sqlite3_bind_int64(s, 2, most);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(out, U(0));
    return rc;
}

int entry_ids(struct core *c, enum entry_by by, uint64_t key, struct ids *out)
{
    return ids_upto(c, by, key, -1, out);
}

int entry_first(struct core *c, enum entry_by by, uint64_t key, uint64_t *id)
{
    cleanup_ids struct ids one = {0};
    int err = ids_upto(c, by, key, 1, &one);
    if (!err && one.n)
        *id = one.v[0];
    return err ? err : one.n ? 0 : -ENOENT;
}
