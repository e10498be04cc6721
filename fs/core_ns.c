// SPDX-License-Identifier: Apache-2.0
/* Namespaces: their rows, cursors and marks, and what a session says of them. */
#include "core_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))
#define I(i) sqlite3_column_int64(s, (i))

static int ns_row(struct core *c, sqlite3_stmt *s, struct core_ns *out)
{
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *out = (struct core_ns){.id = U(0),
                            .root = U(1),
                            .cursor = U(2),
                            .head = U(3),
                            .role = (enum role)I(4),
                            .fixed_cuts = U(5),
                            .copies_min = U(6),
                            .member = I(7) != 0,
                            .other = I(9) != 0,
                            .mark = U(10)};
    size_t n = (size_t)sqlite3_column_bytes(s, 8);
    if (n >= sizeof out->name)
        n = sizeof out->name - 1;
    memcpy(out->name, sqlite3_column_blob(s, 8), n);
    sqlite3_reset(s);
    return 0;
}

#define NS_COLUMNS                                                                                 \
    "SELECT id, root, cursor, head, role, fixed_cuts, copies_min, member, name, other,"            \
    " (SELECT mark FROM mark WHERE ns = id AND sjid = cursor) FROM ns "

int ns_get(struct core *c, uint64_t id, struct core_ns *out)
{
    size_t i = id % KEPT_NS;
    uint64_t version = tree_version(c->t);
    if (c->kept->ns[i].version == version && c->kept->ns[i].row.id == id) {
        *out = c->kept->ns[i].row;
        return 0;
    }
    sqlite3_stmt *s = tree_stmt(c->t, NS_COLUMNS "WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int err = ns_row(c, s, out);
    if (!err) {
        c->kept->ns[i].version = version;
        c->kept->ns[i].row = *out;
    }
    return err;
}

int core_ns_get(struct core *c, uint64_t ns, struct core_ns *out)
{
    return ns_get(c, ns, out);
}

int core_ns_at(struct core *c, size_t k, struct core_ns *out)
{
    sqlite3_stmt *s = tree_stmt(c->t, NS_COLUMNS "ORDER BY id LIMIT 1 OFFSET ?1");
    sqlite3_bind_int64(s, 1, (int64_t)k);
    return ns_row(c, s, out);
}

static int ns_set(struct core *c, sqlite3_stmt *s, uint64_t id, uint64_t value)
{
    sqlite3_bind_int64(s, 1, (int64_t)id);
    sqlite3_bind_int64(s, 2, (int64_t)value);
    return tree_step(c->t, s);
}

static int mark_put(struct core *c, uint64_t id, uint64_t sjid, uint64_t mark)
{
    sqlite3_stmt *s = tree_stmt(c->t, "INSERT OR REPLACE INTO mark(ns, sjid, mark)"
                                      " VALUES(?1, ?2, ?3)");
    sqlite3_bind_int64(s, 3, (int64_t)mark);
    return ns_set(c, s, id, sjid);
}

/* Thins the marks out; a gap, where the cursor did not move one by one, keeps a few more. */
static int marks_thin(struct core *c, uint64_t id, uint64_t cursor)
{
    int err = 0;
    if (cursor > MARKS_DENSE && (cursor - MARKS_DENSE) % MARKS_STEP)
        err = ns_set(c, tree_stmt(c->t, "DELETE FROM mark WHERE ns = ?1 AND sjid = ?2"), id,
                     cursor - MARKS_DENSE);
    if (!err && cursor > MARKS_REACH)
        err = ns_set(c, tree_stmt(c->t, "DELETE FROM mark WHERE ns = ?1 AND sjid <= ?2"), id,
                     cursor - MARKS_REACH);
    return err;
}

int ns_set_cursor(struct core *c, uint64_t id, uint64_t cursor, uint64_t mark)
{
    int err =
        ns_set(c, tree_stmt(c->t, "UPDATE ns SET cursor = ?2, head = max(head, ?2) WHERE id = ?1"),
               id, cursor);
    if (!err && mark)
        err = mark_put(c, id, cursor, mark);
    return err || !mark ? err : marks_thin(c, id, cursor);
}

int ns_set_back(struct core *c, uint64_t id, uint64_t cursor)
{
    int err = ns_set(c, tree_stmt(c->t, "UPDATE ns SET cursor = ?2, other = 0 WHERE id = ?1"), id,
                     cursor);
    return err ? err
               : ns_set(c, tree_stmt(c->t, "DELETE FROM mark WHERE ns = ?1 AND sjid > ?2"), id,
                        cursor);
}

int ns_set_end(struct core *c, uint64_t id, uint64_t head)
{
    return ns_set(
        c,
        tree_stmt(c->t, "UPDATE ns SET head = ?2, hold = min(hold, ?2), other = 0 WHERE id = ?1"),
        id, head);
}

int ns_mark(struct core *c, uint64_t id, uint64_t sjid, uint64_t *mark)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT mark FROM mark WHERE ns = ?1 AND sjid = ?2");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    sqlite3_bind_int64(s, 2, (int64_t)sjid);
    int rc = tree_step(c->t, s);
    *mark = rc == 1 ? U(0) : 0;
    if (s)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

int ns_set_ahead(struct core *c, uint64_t id, uint64_t sjid, uint64_t mark)
{
    sqlite3_stmt *s = tree_stmt(c->t, "DELETE FROM mark WHERE ns = ?1 AND sjid >"
                                      " (SELECT cursor FROM ns WHERE id = ?1)");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int err = tree_step(c->t, s);
    return err || !mark ? err : mark_put(c, id, sjid, mark);
}

int ns_ahead(struct core *c, uint64_t id, bool *yes)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT 1 FROM mark WHERE ns = ?1 AND sjid >"
                                      " (SELECT cursor FROM ns WHERE id = ?1) LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    *yes = rc == 1;
    if (rc == 1)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

int core_marks(struct core *c, uint64_t ns, size_t max, struct m_mark **out, size_t *n)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT sjid, mark FROM mark WHERE ns = ?1"
                                      " ORDER BY sjid DESC LIMIT ?2");
    int rc;
    *n = 0;
    *out = calloc(max, sizeof **out);
    if (!*out)
        return -ENOMEM;
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)max);
    while ((rc = tree_step(c->t, s)) == 1)
        (*out)[(*n)++] = (struct m_mark){.sjid = U(0), .mark = U(1)};
    if (rc < 0) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

int core_journal_other(struct core *c, uint64_t ns, uint64_t head)
{
    int err = core_begin(c);
    if (err)
        return err;
    err = ns_set(c, tree_stmt(c->t, "UPDATE ns SET other = 1, head = ?2, hold = ?2 WHERE id = ?1"),
                 ns, head);
    return core_leave(c, err);
}

int ns_set_head(struct core *c, uint64_t id, uint64_t head)
{
    return ns_set(c, tree_stmt(c->t, "UPDATE ns SET head = max(head, ?2) WHERE id = ?1"), id, head);
}

int ns_set_hold(struct core *c, uint64_t id, uint64_t hold)
{
    return ns_set(c, tree_stmt(c->t, "UPDATE ns SET hold = max(hold, ?2) WHERE id = ?1"), id, hold);
}

int ns_set_planned(struct core *c, uint64_t id, uint64_t request)
{
    return ns_set(c, tree_stmt(c->t, "UPDATE ns SET unclean = 0, planned = ?2 WHERE id = ?1"), id,
                  request);
}

/* Where nothing was planned since the last unclean start, what that had lost is not known yet. */
int ns_set_unclean(struct core *c)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "UPDATE ns SET lost_from = iif(unclean != 0, lost_from, planned),"
                        " lost_to = ?1, hold = -1, unclean = 1");
    sqlite3_bind_int64(s, 1, (int64_t)c->request_next); /* the first of this life */
    return tree_step(c->t, s);
}

int ns_forgotten(struct core *c, uint64_t id, uint64_t request, bool *yes)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT 1 FROM ns WHERE id = ?1 AND lost_from < ?2 AND ?2 < lost_to");
    int rc = ns_set(c, s, id, request);
    *yes = rc == 1;
    if (rc == 1)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

int ns_hold(struct core *c, uint64_t id, uint64_t *hold)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT hold FROM ns WHERE id = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)id);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    int64_t h = I(0);
    sqlite3_reset(s);
    *hold =
        h < 0 ? UINT64_MAX : (uint64_t)h; /* -1: until the next session says where the head is */
    return 0;
}

int ns_writable(struct core *c, uint64_t ns)
{
    struct ns_rights n;
    int err = ns_rights(c, ns, &n);
    if (err)
        return err == -ENOENT ? -EACCES : err;
    return !n.member ? -EACCES : n.role < ROLE_EDITOR ? -EROFS : 0;
}

static int ns_join(struct core *c, const struct m_namespace *m)
{
    sqlite3_stmt *s = tree_stmt(
        c->t, "INSERT INTO ns(id, name, root, role, cursor, head, fixed_cuts, copies_min, member)"
              " VALUES(?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, 1) ON CONFLICT(id) DO UPDATE SET name = ?2,"
              " role = ?4, head = max(head, ?5), fixed_cuts = ?6, copies_min = ?7, member = 1,"
              " hold = CASE WHEN hold = -1 THEN ?5 ELSE hold END");
    sqlite3_bind_int64(s, 1, (int64_t)m->id);
    sqlite3_bind_blob64(s, 2, m->name.p, m->name.n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, (int64_t)m->root);
    sqlite3_bind_int64(s, 4, (int64_t)m->role);
    sqlite3_bind_int64(s, 5, (int64_t)m->head);
    sqlite3_bind_int64(s, 6, (int64_t)m->fixed_cuts);
    sqlite3_bind_int64(s, 7, (int64_t)m->copies_min);
    int err = tree_step(c->t, s);
    struct core_ns n;
    if (!err && m->mark && (err = ns_get(c, m->id, &n)) == 0 && !n.mark && n.cursor == m->head)
        err = mark_put(c, m->id, m->head, m->mark);
    return err;
}

bool core_ns_other(struct core *c, const struct m_namespace *m)
{
    struct core_ns n;
    return ns_get(c, m->id, &n) == 0 &&
           (n.root != m->root || !bytes_equal(bytes_str(n.name), m->name));
}

/* What was refused for reasons that the session shows to be gone may be sent again. */
static int ns_unpark(struct core *c, const struct m_namespace *m)
{
    bool bytes = !m->quota_bytes || m->used_bytes < m->quota_bytes;
    bool nodes = !m->quota_nodes || m->used_nodes < m->quota_nodes;
    uint64_t candidates = 0, copies = m->copies_min ? m->copies_min : 1;
    for (size_t i = 0; i < m->candidates_n; i++)
        candidates += !m->candidates[i].leaving;
    if (m->role < ROLE_EDITOR)
        return 0;
    sqlite3_stmt *s = tree_stmt(c->t, "UPDATE node SET parked = -parked, tries = 0 WHERE ns = ?1"
                                      " AND parked != 0 AND parked IN (?2, ?3, ?4)");
    sqlite3_bind_int64(s, 1, (int64_t)m->id);
    sqlite3_bind_int64(s, 2, -EROFS);
    sqlite3_bind_int64(s, 3, candidates >= copies ? -EACCES : -EROFS);
    sqlite3_bind_int64(s, 4, bytes && nodes ? -EDQUOT : -EROFS);
    return tree_step(c->t, s);
}

/* What was answered so far, and is not read in the journal yet, may be lost with it. */
static int doubt_answers(struct core *c)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT ifnull(max(request), 0) FROM sent WHERE sjid != 0");
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc;
    uint64_t upto = U(0);
    sqlite3_reset(s);
    return upto > meta_or(c, KEY_DOUBTED, 0) ? tree_set(c->t, KEY_DOUBTED, (int64_t)upto) : 0;
}

/* The server's database was found to be an older copy. Where this tree is one as well (both on one
 * machine, and one backup of it), ids behind those that it remembers may be others' nodes by now:
 * they are left out. So are some, if both have just started, where it is not known yet. */
static int epoch_learn(struct core *c, const struct m_session_ans *a)
{
    uint64_t epoch = a->epoch ? a->epoch : meta_or(c, "epoch", 0);
    bool older = epoch != meta_or(c, "epoch", 0), first = !c->met;
    uint64_t from = c->node_limit + (older ? NODE_EPOCH : NODE_UNSURE);
    if (c->depth > 0)
        return 0;
    c->met = true;
    if (!older && !(first && a->unsure))
        return 0;
    int err = older ? doubt_answers(c) : 0; /* on disk before the epoch is */
    if (err)
        return err;
    if ((from + NODE_RANGE) >> NODE_COUNTER_BITS)
        return 0; /* 255 restores or 16,383 starts later: what is left is used up one by one */
    err = tree_reserve(c->t, "node_limit", (int64_t)(from + NODE_RANGE));
    if (err)
        return err;
    c->node_next = from;
    c->node_limit = from + NODE_RANGE;
    c->node_limit_due = false;
    return tree_reserve(c->t, "epoch", (int64_t)epoch);
}

int core_session(struct core *c, const struct m_session_ans *a, struct core_effects *fx)
{
    int err = 0;
    for (size_t i = 0; !err && i < a->namespaces_n; i++)
        err = ns_valid(&a->namespaces[i]) ? 0 : -EBADMSG;
    if (!err)
        err = epoch_learn(c, a);
    if (!err)
        err = core_begin(c);
    if (err)
        return err;
    err = tree_step(c->t, tree_stmt(c->t, "UPDATE ns SET member = 0"));
    for (size_t i = 0; !err && i < a->namespaces_n; i++)
        if (!core_ns_other(c, &a->namespaces[i]) && !(err = ns_join(c, &a->namespaces[i])))
            err = ns_unpark(c, &a->namespaces[i]);
    struct core_ns n;
    for (size_t k = 0; !err && core_ns_at(c, k, &n) == 0; k++)
        if (!n.member)
            err = park_namespace(c, n.id, -EACCES, fx);
    if (!err)
        err = tree_set(c->t, "root_ns", (int64_t)a->root_ns);
    return core_leave(c, err);
}

int core_root(struct core *c, uint64_t *ns, uint64_t *node)
{
    int64_t id;
    struct core_ns n;
    int err = tree_get(c->t, "root_ns", &id);
    if (!err)
        err = ns_get(c, (uint64_t)id, &n);
    if (err)
        return err;
    *ns = n.id;
    *node = n.root;
    return 0;
}
