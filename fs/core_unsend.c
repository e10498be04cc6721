// SPDX-License-Identifier: Apache-2.0
/* A commit that did not happen: what was under way with it is pending again, as it was before. */
#include "core_int.h"

#include <errno.h>
#include <string.h>

/* since: when the oldest change of the commit was made. */
static int unsend_node(struct core *c, uint64_t id, int64_t since)
{
    cleanup_spans struct spans sent = {0};
    struct nrow n;
    int err = node_get(c, id, &n);
    if (!err && (n.sent & FACET_CONTENT)) {
        err = span_list(c, id, SPAN_SENT, 0, FILE_SIZE_MAX, &sent);
        for (size_t k = 0; !err && k < sent.n; k++)
            err = span_mark(c, id, SPAN_DIRTY, sent.v[k].off, sent.v[k].end);
        if (!err)
            err = span_clear(c, id, SPAN_SENT, 0, FILE_SIZE_MAX);
    }
    if (err)
        return err;
    n.again |= (n.sent & FACET_CREATE) != 0; /* it may yet come there */
    n.pend |= n.sent;
    n.sent = 0;
    n.request = 0;
    if (!n.since)
        n.since = since ? since : n.changed;
    return node_put(c, &n);
}

/* m: as it was sent. What others did to the name while it was under way is met now. */
static int unsend_entry(struct core *c, uint64_t request, const struct m_entry_change *m,
                        int64_t since, struct core_effects *fx)
{
    struct erow e;
    struct nrow n;
    int err = entry_get(c, m->parent, m->name, &e);
    if (err || e.request != request)
        return err == -ENOENT ? 0 : err;
    bool moved = e.base_node != m->base_node || (e.base_node && e.base_rev != m->base_rev);
    e.request = 0;
    if (!e.since)
        e.since = since ? since : SINCE_UNKNOWN;
    if (!moved)
        return entry_settle(c, &e);
    int64_t now = e.node && node_get(c, e.node, &n) == 0 ? n.changed : e.since;
    return rebase_entry(c, &e, now, fx);
}

/* Unlinked here since it was sent. */
static int unsend_purge(struct core *c, uint64_t id)
{
    struct nrow n;
    int err = id ? node_get(c, id, &n) : -ENOENT;
    if (err)
        return err == -ENOENT ? 0 : err;
    return n.nlink == 0 ? node_purge(c, id) : 0;
}

static int sent_since(struct core *c, uint64_t request, int64_t *since)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT since FROM sent WHERE request = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    int rc = tree_step(c->t, s);
    *since = rc == 1 ? sqlite3_column_int64(s, 0) : 0;
    if (s)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

int rebase_unsend(struct core *c, uint64_t request, struct core_effects *fx)
{
    cleanup_ids struct ids nodes = {0};
    cleanup_arena struct arena a = {0};
    struct m_changes m;
    int64_t since = 0;
    int err = sent_changes(c, request, &m, &a, fx);
    if (!err)
        err = sent_since(c, request, &since);
    if (err)
        return err == -ENOENT ? 0 : err;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id FROM node WHERE request = ?1 AND request != 0");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    while ((err = tree_step(c->t, s)) == 1)
        ids_add(&nodes, (uint64_t)sqlite3_column_int64(s, 0));
    for (size_t i = 0; !err && i < nodes.n; i++)
        err = unsend_node(c, nodes.v[i], since);
    static const char *const sql[] = {
        "UPDATE xattr SET pend = 1, request = 0 WHERE request = ?1 AND request != 0",
        "DELETE FROM sent WHERE request = ?1",
    };
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)request);
        err = tree_step(c->t, s);
    }
    for (size_t i = 0; !err && i < m.entries_n; i++)
        err = unsend_entry(c, request, &m.entries[i], since, fx);
    for (size_t i = 0; !err && i < nodes.n; i++)
        err = unsend_purge(c, nodes.v[i]);
    for (size_t i = 0; !err && i < m.entries_n; i++)
        err = unsend_purge(c, m.entries[i].node);
    return err;
}

/* What belongs to a request of which nothing is known. */
static int lost_ids(struct core *c, const char *sql, struct ids *out)
{
    int rc;
    sqlite3_stmt *s = tree_stmt(c->t, sql);
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(out, (uint64_t)sqlite3_column_int64(s, 0));
    return rc;
}

int rebase_unsend_lost(struct core *c)
{
    cleanup_ids struct ids nodes = {0}, entries = {0};
    int err =
        lost_ids(c,
                 "SELECT id FROM node INDEXED BY node_request WHERE request != 0 AND request NOT IN"
                 " (SELECT request FROM sent)",
                 &nodes);
    if (!err)
        err = lost_ids(
            c,
            "SELECT id FROM entry INDEXED BY entry_request WHERE request != 0 AND request NOT IN"
            " (SELECT request FROM sent)",
            &entries);
    for (size_t i = 0; !err && i < nodes.n; i++)
        err = unsend_node(c, nodes.v[i], 0);
    for (size_t i = 0; !err && i < entries.n; i++) {
        struct erow e;
        err = entry_by_id(c, entries.v[i], &e);
        e.request = 0;
        if (!err && !e.since)
            e.since = SINCE_UNKNOWN;
        if (!err)
            err = entry_settle(c, &e);
    }
    if (!err)
        err = tree_step(
            c->t, tree_stmt(c->t, "UPDATE xattr INDEXED BY xattr_pending SET pend = 1, request = 0"
                                  " WHERE request != 0 AND request NOT IN"
                                  " (SELECT request FROM sent)"));
    for (size_t i = 0; !err && i < nodes.n; i++)
        err = unsend_purge(c, nodes.v[i]);
    return err;
}

/* A name whose base others changed while it was under way meets that now. */
static int forget_entry(struct core *c, uint64_t id, struct core_effects *fx)
{
    struct erow e;
    struct nrow n;
    int err = entry_by_id(c, id, &e);
    if (err || e.sent_base == e.base_node)
        return err == -ENOENT ? 0 : err;
    int64_t now = e.node && node_get(c, e.node, &n) == 0 ? n.changed : e.since;
    return rebase_entry(c, &e, now, fx);
}

int rebase_forget(struct core *c, uint64_t request, struct core_effects *fx)
{
    static const char *const sql[] = {
        "UPDATE node SET old = old | sent WHERE request = ?1 AND request != 0",
        "UPDATE entry SET old = 1 WHERE request = ?1 AND request != 0",
        "UPDATE xattr SET old = 1 WHERE request = ?1 AND request != 0",
        ("UPDATE ns SET hold = max(hold, head) WHERE hold >= 0"
         " AND id IN (SELECT ns FROM sent WHERE request = ?1)"),
        ("UPDATE ns SET lost_from = iif(lost_to = 0, ?1 - 1, min(lost_from, ?1 - 1)),"
         " lost_to = max(lost_to, ?1 + 1) WHERE id IN (SELECT ns FROM sent WHERE request = ?1)"),
        "DELETE FROM sent WHERE request = ?1",
    };
    cleanup_ids struct ids entries = {0};
    tree_note_damage(c->t);
    int err = entry_ids(c, BY_REQUEST, request, &entries);
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)request);
        err = tree_step(c->t, s);
    }
    if (!err)
        err = rebase_unsend_lost(c);
    for (size_t i = 0; !err && i < entries.n; i++)
        err = forget_entry(c, entries.v[i], fx);
    return err;
}
