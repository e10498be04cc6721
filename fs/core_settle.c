// SPDX-License-Identifier: Apache-2.0
/* What became of a commit: settled, refused, in conflict.
 *
 * A commit is settled in the order of the journal: from its answer when it is the very next number
 * and nothing was read since it was planned (the usual case), otherwise when the journal gets
 * there; until then its rows stay marked as sent. What was sent is read back from `sent`, word for
 * word, so that what programs did meanwhile does not matter: the server's state of each row is what
 * the message said, whatever the row says now. Therefore a name that is sent keeps the request's
 * number until then, whoever changes it: without it the row could go, and with it what the commit
 * did.
 *
 * A conflict makes all rows pending again; those whose base the journal has changed are rebased,
 * the namespace waits for the rest of the journal. A refusal parks the nodes that it names.
 */
#include "core_int.h"
#include "idset.h"

#include <errno.h>
#include <string.h>

/* ---- settling -------------------------------------------------------------------------------- */
static int settle_node(struct core *c, const struct m_node_change *m, uint64_t request,
                       uint64_t sjid)
{
    struct nrow n;
    int err = node_get(c, m->node, &n);
    if (err || n.request != request)
        return err == -ENOENT ? 0 : err;
    if (n.sent & (FACET_CREATE | FACET_CONTENT))
        n.content_rev = sjid;
    if (n.sent & (FACET_CREATE | FACET_ATTR))
        n.attr_rev = sjid;
    if (n.sent & FACET_CONTENT)
        err = span_clear(c, n.id, SPAN_SENT, 0, FILE_SIZE_MAX);
    if (!(n.pend & (FACET_TIMES | FACET_CONTENT))) { /* a fork may have taken newer ones along */
        if (m->facets & (FACET_CREATE | FACET_CONTENT | FACET_TIMES))
            n.mtime = m->mtime;
        n.ctime = n.ctime > m->ctime ? n.ctime : m->ctime;
    }
    if ((n.sent & FACET_CONTENT) && !(n.pend & FACET_CONTENT) && n.src != n.id)
        n.src = n.src_at =
            0; /* a copy is whole at the server: what it was made of does not matter */
    n.again = n.again && !(n.sent & FACET_CREATE);
    n.sent = 0;
    n.request = 0;
    n.tries = 0;
    n.parked = n.parked < 0 ? n.parked : 0;
    return err ? err : node_put(c, &n);
}

/* A node whose names went while it was under way. */
static int settle_purge(struct core *c, uint64_t node)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    return n.nlink == 0 ? node_purge(c, node) : 0;
}

/* What is not known of a node that is gone at the server is what it was before. */
void node_gone_at(struct nrow *n, bool gone, uint64_t sjid)
{
    if (gone && !n->gone && !n->src) {
        n->src = n->id;
        n->src_at = sjid - 1;
    } else if (!gone && n->src == n->id) {
        n->src = n->src_at = 0;
    }
    n->gone = !gone ? 0 : n->gone ? n->gone : GONE;
}

/* A node that was gone has a name again: its xattrs begin a new life with it. */
static int settle_revived(struct core *c, struct nrow *n, uint64_t sjid)
{
    sqlite3_stmt *s = tree_stmt(c->t, "UPDATE xattr SET rev = ?2 WHERE node = ?1 AND rev != 0");
    sqlite3_bind_int64(s, 1, (int64_t)n->id);
    sqlite3_bind_int64(s, 2, (int64_t)sjid);
    node_gone_at(n, false, sjid);
    int err = tree_step(c->t, s);
    return err ? err : node_put(c, n);
}

static int settle_entry(struct core *c, const struct m_entry_change *m, uint64_t request,
                        uint64_t sjid)
{
    struct erow e;
    int err = entry_get(c, m->parent, m->name, &e);
    if (err)
        return err == -ENOENT ? 0 : err;
    uint64_t gone = e.base_node != m->node ? e.base_node : 0;
    struct nrow n;
    e.base_node = m->node;
    e.base_type = NODE_NONE;
    if (e.base_node && e.base_node == e.node)
        e.base_type = e.type;
    else if (e.base_node && node_get(c, e.base_node, &n) == 0)
        e.base_type = n.type;
    e.base_rev = sjid;
    if (m->node && node_get(c, m->node, &n) == 0 && n.gone) {
        err = settle_revived(c, &n, sjid);
        if (err)
            return err;
    }
    if (e.request == request) /* otherwise the tree was damaged */
        e.request = 0;
    err = entry_settle(c, &e);
    return err || !gone ? err : node_purge(c, gone);
}

/* Whether a commit that took a name of the node took the server's last one. named: the nodes to
 * which it gave one. */
static int settle_last(struct core *c, const struct idset *named, const struct nrow *n, bool *last)
{
    int delta = 0;
    *last = is_dir(n->type) && !idset_has(named, n->id); /* it has one name: moved, or removed */
    if (is_dir(n->type))
        return 0;
    int err = nlink_pending(c, n, &delta); /* our count is the server's, and what is pending */
    *last = !err && (int64_t)n->nlink - delta <= 0;
    return err;
}

/* A node whose last name at the server the commit took, though it lives on here: it was named again
 * since the commit was sent, or a file is open. What is sent of it from now on brings it back. */
static int settle_gone(struct core *c, const struct idset *named, uint64_t node, uint64_t sjid)
{
    struct nrow n;
    bool last;
    int err = node_get(c, node, &n);
    if (err || n.gone)
        return err == -ENOENT ? 0 : err;
    err = settle_last(c, named, &n, &last);
    if (err || !last)
        return err;
    node_gone_at(&n, true, sjid);
    return node_put(c, &n);
}

/* Those of which the commit took names, each once: it may have taken tens of thousands of one. */
static int settle_taken(struct core *c, const struct m_changes *m, uint64_t sjid)
{
    struct idset named = {0}, taken = {0};
    bool added;
    int err = 0;
    for (size_t i = 0; i < m->entries_n; i++) {
        const struct m_entry_change *e = &m->entries[i];
        if (e->node)
            idset_add(&named, e->node, &added);
        if (e->base_node && e->base_node != e->node)
            idset_add(&taken, e->base_node, &added);
    }
    for (size_t i = 0; !err && i < taken.ids.n; i++)
        err = settle_gone(c, &named, taken.ids.v[i], sjid);
    idset_free(&named);
    idset_free(&taken);
    return err;
}

static int settle_xattr(struct core *c, const struct m_xattr_change *m, uint64_t request,
                        uint64_t sjid)
{
    sqlite3_stmt *s =
        tree_stmt(c->t, "DELETE FROM xattr WHERE node = ?1 AND name = ?2 AND request = ?3"
                        " AND pend = 0 AND value IS NULL");
    for (int k = 0; k < 2; k++) {
        sqlite3_bind_int64(s, 1, (int64_t)m->node);
        sqlite3_bind_blob64(s, 2, m->name.p, m->name.n, SQLITE_STATIC);
        sqlite3_bind_int64(s, 3, (int64_t)request);
        if (k == 1)
            sqlite3_bind_int64(s, 4, m->removed ? 0 : (int64_t)sjid);
        int err = tree_step(c->t, s);
        if (err || k == 1)
            return err;
        s = tree_stmt(c->t, "UPDATE xattr SET request = 0, rev = ?4 WHERE node = ?1 AND name = ?2"
                            " AND request = ?3");
    }
    return 0;
}

int sent_changes(struct core *c, uint64_t request, struct m_changes *m, struct arena *a,
                 struct core_effects *fx)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT changes FROM sent WHERE request = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    struct bytes b = arena_bytes(a, sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0));
    sqlite3_reset(s);
    if (msg_decode(&m_changes_desc, m, b.p, b.n, MSG_STRICT, a, NULL) == 0)
        return 0;
    *m = (struct m_changes){0};
    int err = rebase_forget(c, request, fx);
    return err ? err : -ENOENT;
}

/* What request carried is the server's state at sjid now. 0, -ENOENT: the tree does not know it. */
int settle_request(struct core *c, uint64_t request, uint64_t sjid, struct core_effects *fx)
{
    static const char *const sql[] = {
        /* nodes that only had xattrs in it */
        "UPDATE node SET sent = 0, request = 0 WHERE request = ?1 AND request != 0",
        "DELETE FROM sent WHERE request = ?1",
    };
    cleanup_arena struct arena a = {0};
    struct m_changes m;
    int err = sent_changes(c, request, &m, &a, fx);
    for (size_t i = 0; !err && i < m.nodes_n; i++)
        err = settle_node(c, &m.nodes[i], request, sjid);
    for (size_t i = 0; !err && i < m.xattrs_n; i++)
        err = settle_xattr(c, &m.xattrs[i], request, sjid);
    for (size_t i = 0; !err && i < m.entries_n; i++)
        err = settle_entry(c, &m.entries[i], request, sjid);
    if (!err)
        err = settle_taken(c, &m, sjid);
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)request);
        err = tree_step(c->t, s);
    }
    for (size_t i = 0; !err && i < m.nodes_n; i++)
        err = settle_purge(c, m.nodes[i].node);
    return err;
}

void effect_done(struct core_effects *fx, uint64_t ns, uint64_t request, enum commit_status status,
                 uint64_t sjid)
{
    struct core_effect *e = effect_add(fx, EFFECT_DONE, ns, 0);
    e->other = request;
    e->status = status;
    e->sjid = sjid;
}

/* ---- answers --------------------------------------------------------------------------------- */
/* told: by a server, not by the driver that gives up what is nowhere. */
static int errno_of_refusal(uint64_t reason, bool told)
{
    switch (reason) {
    case REFUSED_QUOTA:
        return -EDQUOT;
    case REFUSED_ROLE:
        return -EROFS;
    case REFUSED_MEMBER:
    case REFUSED_ASSIGNMENT:
        return -EACCES;
    case REFUSED_TOO_LARGE:
        return -E2BIG;
    case REFUSED_INVALID:
        return told ? -EINVAL : -EIO;
    default:
        return -EIO;
    }
}

static int park(struct core *c, uint64_t ns, uint64_t node, int err_no, struct core_effects *fx)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? 0 : err;
    n.parked = err_no;
    struct core_effect *e = effect_add(fx, EFFECT_PARKED, ns, node);
    e->err = err_no;
    return node_put(c, &n);
}

/* What an answer about the name means: what was sent, whatever has it by now. */
static uint64_t node_meant(const struct erow *e)
{
    if (e->request)
        return e->sent_node ? e->sent_node : e->sent_base;
    return e->node ? e->node : e->base_node;
}

/* The nodes that a refused or repeatedly conflicting row stands for. */
static int park_row(struct core *c, uint64_t ns, const struct m_row_ref *row, int err_no,
                    struct core_effects *fx)
{
    struct erow e;
    if (row->kind != ROW_ENTRY)
        return park(c, ns, row->node, err_no, fx);
    int err = entry_get(c, row->node, row->name, &e);
    if (err)
        return err == -ENOENT ? 0 : err;
    return park(c, ns, node_meant(&e), err_no, fx);
}

/* All nodes that request carries. */
static int park_request(struct core *c, uint64_t ns, uint64_t request, int err_no,
                        struct core_effects *fx)
{
    cleanup_ids struct ids nodes = {0}, entries = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id FROM node WHERE request = ?1 AND request != 0");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(&nodes, (uint64_t)sqlite3_column_int64(s, 0));
    if (!rc)
        rc = entry_ids(c, BY_REQUEST, request, &entries);
    for (size_t i = 0; !rc && i < entries.n; i++) {
        struct erow e;
        rc = entry_by_id(c, entries.v[i], &e);
        if (!rc)
            ids_add(&nodes, node_meant(&e));
    }
    for (size_t i = 0; !rc && i < nodes.n; i++)
        rc = park(c, ns, nodes.v[i], err_no, fx);
    return rc;
}

/* All that is pending: nothing of the namespace would be taken. What lies below a directory that
 * alone was refused would otherwise neither be sent nor be said to be parked. (Times alone go with
 * what changed them.) */
int park_namespace(struct core *c, uint64_t ns, int err_no, struct core_effects *fx)
{
    cleanup_ids struct ids l = {0};
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT id FROM node WHERE ns = ?1 AND (pend & ~8) != 0 AND pend != 0"
                        " AND parked >= 0 UNION"
                        " SELECT n.id FROM entry e JOIN node n ON n.id = iif(e.node != 0, e.node,"
                        " e.base_node) WHERE e.ns = ?1 AND e.pend != 0 AND n.parked >= 0");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(&l, (uint64_t)sqlite3_column_int64(s, 0));
    for (size_t i = 0; !rc && i < l.n; i++)
        rc = park(c, ns, l.v[i], err_no, fx);
    return rc;
}

/* Otherwise it is a conflict, told beside a refusal: it is left to the rebase. */
static bool row_refused(const struct m_row_ref *row)
{
    return row->reason >= REFUSED_QUOTA;
}

static bool conflicts_beside(const struct m_commit_ans *a)
{
    for (size_t i = 0; i < a->rows_n; i++)
        if (!row_refused(&a->rows[i]))
            return true;
    return false;
}

static const struct m_row_ref *first_refused(const struct m_commit_ans *a)
{
    for (size_t i = 0; i < a->rows_n; i++)
        if (row_refused(&a->rows[i]))
            return &a->rows[i];
    return NULL;
}

struct sized {
    uint64_t size;
    const struct m_row_ref *row;
};

static int larger_first(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;
    return x->size > y->size ? -1 : x->size < y->size;
}

/* A quota is used up for all rows together: the largest are parked, as many as make up half of it
 * all; the rest tries again. */
static int park_over_quota(struct core *c, uint64_t ns, const struct m_commit_ans *a,
                           struct core_effects *fx)
{
    struct sized *v = calloc(a->rows_n + 1, sizeof *v);
    int err = v ? 0 : -ENOMEM;
    double all = 0, parked = 0;
    size_t count = 0;
    for (size_t i = 0; !err && i < a->rows_n; i++) {
        struct nrow n;
        if (!row_refused(&a->rows[i]))
            continue;
        struct sized *k = &v[count++];
        k->row = &a->rows[i];
        k->size = 1;
        if (a->rows[i].kind != ROW_ENTRY && node_get(c, a->rows[i].node, &n) == 0)
            k->size += n.size;
        all += (double)k->size;
    }
    if (!err)
        qsort(v, count, sizeof *v, larger_first);
    for (size_t i = 0; !err && i < count && parked < all / 2; i++) {
        err = park_row(c, ns, v[i].row, -EDQUOT, fx);
        parked += (double)v[i].size;
    }
    free(v);
    return err;
}

/* The node that a row is about; 0: none that is here. */
static int row_node(struct core *c, const struct m_row_ref *row, uint64_t *node)
{
    struct erow e;
    *node = row->node;
    if (row->kind != ROW_ENTRY)
        return 0;
    int err = entry_get(c, row->node, row->name, &e);
    *node = err ? 0 : node_meant(&e);
    return err == -ENOENT ? 0 : err;
}

/* A node that conflicts again and again although its commits were planned with all of the journal
 * applied is parked, never dropped. */
static int count_tries(struct core *c, uint64_t ns, const struct m_commit_ans *a,
                       struct core_effects *fx)
{
    cleanup_ids struct ids seen = {0};
    int err = 0;
    for (size_t i = 0; !err && i < a->rows_n; i++) {
        uint64_t node;
        struct nrow n;
        size_t k = 0;
        err = row_node(c, &a->rows[i], &node);
        while (k < seen.n && seen.v[k] != node)
            k++;
        if (err || !node || k < seen.n)
            continue;
        ids_add(&seen, node);
        err = node_get(c, node, &n);
        if (err == -ENOENT) {
            err = 0;
            continue;
        }
        n.tries++;
        if (!err)
            err = node_put(c, &n);
        if (!err && n.tries >= CONFLICT_TRIES_MAX)
            err = park(c, ns, node, -EIO, fx);
    }
    return err;
}

/* A move that closes a cycle at the server, though all of the journal was applied: the cycle passes
 * through directories that are not loaded here. */
static int undo_cycle(struct core *c, const struct m_row_ref *row, struct core_effects *fx)
{
    struct erow e;
    int err = entry_get(c, row->node, row->name, &e);
    if (err || !e.pend || !is_dir(e.type) || e.node != e.sent_node) /* moved again since */
        return err == -ENOENT ? 0 : err;
    return rebase_undo_move(c, e.node, fx);
}

int settle_elsewhere(struct core *c, uint64_t ns, uint64_t sjid, uint64_t request,
                     struct core_effects *fx)
{
    uint64_t other = 0;
    sqlite3_stmt *s = tree_stmt(
        c->t, "SELECT request FROM sent WHERE ns = ?1 AND sjid = ?2 AND request != ?3 LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)sjid);
    sqlite3_bind_int64(s, 3, (int64_t)request);
    int rc = tree_step(c->t, s);
    if (rc == 1) {
        other = (uint64_t)sqlite3_column_int64(s, 0);
        sqlite3_reset(s);
    }
    return rc < 0 ? rc : other ? rebase_unsend(c, other, fx) : 0;
}

/* SJID up to which the journal was applied when it was planned. */
static uint64_t planned_at(struct core *c, uint64_t request)
{
    uint64_t at = 0;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT cursor FROM sent WHERE request = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    if (tree_step(c->t, s) == 1)
        at = (uint64_t)sqlite3_column_int64(s, 0);
    if (s)
        sqlite3_reset(s);
    return at;
}

/* The server knows the journal as far as it was read when the commit was planned. What was read
 * since, or settled behind that, may be of one that is lost: then only the journal says what the
 * commit came upon. */
static int answer_committed(struct core *c, uint64_t ns, uint64_t request,
                            const struct m_commit_ans *a, struct core_effects *fx)
{
    struct core_ns info;
    bool ahead;
    int err = ns_get(c, ns, &info);
    if (!err)
        err = ns_ahead(c, ns, &ahead);
    if (err)
        return err;
    bool next = !info.other && !ahead && info.cursor + 1 == a->sjid;
    if (next && planned_at(c, request) == info.cursor) {
        err = settle_elsewhere(c, ns, a->sjid, request, fx);
        if (!err)
            err = settle_request(c, request, a->sjid, fx);
        if (!err)
            err = ns_set_cursor(c, ns, a->sjid, a->mark);
    } else if (info.cursor < a->sjid) {
        sqlite3_stmt *s = tree_stmt(c->t, "UPDATE sent SET sjid = ?2 WHERE request = ?1");
        sqlite3_bind_int64(s, 1, (int64_t)request);
        sqlite3_bind_int64(s, 2, (int64_t)a->sjid);
        err = tree_step(c->t, s);
        if (!err)
            err = ns_set_head(c, ns, a->sjid);
    }
    if (err == -ENOENT) /* the journal came first */
        err = 0;
    effect_done(fx, ns, request, COMMIT_COMMITTED, a->sjid);
    return err;
}

bool request_open(struct core *c, uint64_t request)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT 1 FROM sent WHERE request = ?1 AND sjid = 0");
    sqlite3_bind_int64(s, 1, (int64_t)request);
    bool yes = tree_step(c->t, s) == 1;
    if (s)
        sqlite3_reset(s);
    return yes;
}

/* Nodes of the answer's rows that the server has removed and that the commit would have revived.
 * With all of the journal applied, the reason that it was not done is that nothing is left of them.
 * A node that is new here and was there already was made, and removed, by commits that both have
 * forgotten. */
static int rows_gone(struct core *c, const struct m_commit_ans *a, struct idset *gone)
{
    int err = 0;
    for (size_t i = 0; !err && i < a->rows_n; i++) {
        struct nrow n;
        uint64_t node;
        bool added;
        if (a->rows[i].reason == REFUSED_CYCLE || a->rows[i].reason == REFUSED_NOT_EMPTY)
            continue;
        err = row_node(c, &a->rows[i], &node);
        bool was = a->rows[i].kind == ROW_NODE && a->rows[i].reason == REFUSED_EXISTS;
        if (!err && node && node_get(c, node, &n) == 0 && !parked_for(&n) &&
            (n.gone || (was && ((n.pend | n.sent) & FACET_CREATE))))
            idset_add(gone, node, &added);
        if (err || a->rows[i].kind != ROW_ENTRY)
            continue;
        err = node_get(c, a->rows[i].node, &n); /* the directory that it lies in */
        bool nothing = err == -ENOENT && a->rows[i].reason == REFUSED_PARENT; /* nor here */
        if (nothing || (!err && n.gone))
            idset_add(gone, a->rows[i].node, &added);
        err = err == -ENOENT ? 0 : err;
    }
    return err;
}

/* Parks what a refusal is about. */
static int park_refused(struct core *c, uint64_t ns, uint64_t request, const struct m_commit_ans *a,
                        struct core_effects *fx)
{
    const struct m_row_ref *first = first_refused(a);
    int why = first ? errno_of_refusal(first->reason, a->head) : -EIO, err = 0;
    if (!first || why == -EROFS || why == -EACCES || why == -E2BIG)
        err = park_request(c, ns, request, why, fx);
    if (!err && first && (why == -EROFS || why == -EACCES))
        err = park_namespace(c, ns, why, fx);
    if (!err && why == -EDQUOT)
        err = park_over_quota(c, ns, a, fx);
    for (size_t i = 0; !err && why != -EDQUOT && i < a->rows_n; i++)
        if (row_refused(&a->rows[i]))
            err = park_row(c, ns, &a->rows[i], errno_of_refusal(a->rows[i].reason, a->head), fx);
    return err;
}

/* Whether any row is refused for what may be no more. Of several the first may be a conflict. */
static bool refused_invalid(const struct m_commit_ans *a)
{
    for (size_t i = 0; i < a->rows_n; i++)
        if (a->rows[i].reason == REFUSED_INVALID || a->rows[i].reason == REFUSED_PARENT)
            return true;
    return false;
}

/* A commit that did not happen. */
static int answer_undone(struct core *c, uint64_t ns, uint64_t request,
                         const struct m_commit_ans *a, struct core_effects *fx)
{
    /* a number that was acknowledged already, before power loss made the tree forget it: had it
     * been committed, the journal would have said so by now */
    bool stale = a->rows_n && a->rows[0].reason == REFUSED_REQUEST;
    /* planned on what is no more: all of the past may have been forgotten meanwhile; without a head
     * it is the driver that gives it up, and means the files as they are */
    bool invalid = a->head && refused_invalid(a);
    bool conflict = a->status == COMMIT_CONFLICT;
    uint64_t planned = planned_at(c, request);
    struct idset gone = {0};
    struct core_ns info;
    int err = ns_get(c, ns, &info);
    bool informed = planned >= a->head;
    stale |= !err && invalid && (planned < info.cursor || !informed);
    if (!err && conflict && informed)
        err = count_tries(c, ns, a, fx);
    if (!err && (conflict || invalid) && !stale)
        err = rows_gone(c, a, &gone);
    if (!err && a->status == COMMIT_REFUSED && !stale && !gone.ids.n)
        err = park_refused(c, ns, request, a, fx);
    if (!err)
        err = rebase_unsend(c, request, fx);
    for (size_t i = 0; !err && conflict && informed && i < a->rows_n; i++)
        if (a->rows[i].reason == REFUSED_CYCLE && a->rows[i].kind == ROW_ENTRY)
            err = undo_cycle(c, &a->rows[i], fx);
    if (!err && gone.ids.n && informed)
        err = rescue_refused(c, ns, &gone, fx);
    else if (!err && !informed && (invalid || gone.ids.n)) /* the journal may say why */
        err = ns_set_hold(c, ns, a->head);
    idset_free(&gone);
    return err;
}

int core_commit_answer(struct core *c, uint64_t ns, uint64_t request, const struct m_commit_ans *a,
                       struct core_effects *fx)
{
    if (a->status == COMMIT_MISSING)
        return 0;
    int err = core_begin(c);
    if (err)
        return err;
    if (!request_open(c, request)) /* a second answer to the same number */
        return core_leave(c, 0);
    if (a->head)
        err = ns_set_head(c, ns, a->head);
    if (!err && a->status == COMMIT_COMMITTED) {
        err = answer_committed(c, ns, request, a, fx);
        return core_leave(c, err);
    }
    if (!err)
        err = answer_undone(c, ns, request, a, fx);
    if (!err && a->head && (a->status == COMMIT_CONFLICT || conflicts_beside(a)))
        err = ns_set_hold(c, ns, a->head);
    if (!err)
        effect_done(fx, ns, request, (enum commit_status)a->status, 0);
    return core_leave(c, err);
}

/* ---- how requests ended, asked -----------------------------------------------------------------
 */
int core_requests_from(struct core *c, uint64_t ns, uint64_t *from)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT request FROM sent WHERE ns = ?1 ORDER BY request"
                                      " LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *from = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return 0;
}

static int request_ended(struct core *c, uint64_t ns, const struct m_request_state *q, uint64_t at,
                         struct core_effects *fx)
{
    bool open = request_open(c, q->request);
    int err;
    if (q->status != COMMIT_COMMITTED) { /* tried again; refused again, it is parked */
        err = open ? rebase_unsend(c, q->request, fx) : 0;
    } else if (q->sjid <= at) {
        err = settle_request(c, q->request, q->sjid, fx);
    } else {
        sqlite3_stmt *s = tree_stmt(c->t, "UPDATE sent SET sjid = ?2 WHERE request = ?1");
        sqlite3_bind_int64(s, 1, (int64_t)q->request);
        sqlite3_bind_int64(s, 2, (int64_t)q->sjid);
        err = tree_step(c->t, s);
    }
    if (!err && open)
        effect_done(fx, ns, q->request, (enum commit_status)q->status, q->sjid);
    return err == -ENOENT ? 0 : err; /* acknowledged already: the tree does not know it */
}

/* What the tree knows to be committed up to `at`, though the journal was not read so far: if the
 * server has been told that it is known, it says nothing of it any more. But where it was restored
 * since the answer, the number may be another commit's: power loss brings such an answer back. */
static int settle_known(struct core *c, uint64_t ns, uint64_t at, struct core_effects *fx)
{
    cleanup_ids struct ids requests = {0}, sjids = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT request, sjid FROM sent WHERE ns = ?1 AND sjid != 0"
                                      " AND sjid <= ?2 ORDER BY sjid");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)at);
    int rc;
    while ((rc = tree_step(c->t, s)) == 1) {
        ids_add(&requests, (uint64_t)sqlite3_column_int64(s, 0));
        ids_add(&sjids, (uint64_t)sqlite3_column_int64(s, 1));
    }
    uint64_t doubted = requests.n ? meta_or(c, KEY_DOUBTED, 0) : 0;
    for (size_t i = 0; (!rc || rc == -ENOENT) && i < requests.n; i++)
        rc = requests.v[i] <= doubted ? rebase_unsend(c, requests.v[i], fx)
                                      : settle_request(c, requests.v[i], sjids.v[i], fx);
    return rc == -ENOENT ? 0 : rc;
}

/* What a server that was restored does not know of, whether it was answered before or not, has not
 * happened; it is not sent again under its number: what it says of its bases is of another journal.
 */
static int unsend_unknown(struct core *c, uint64_t ns, const struct m_requests_ans *a, uint64_t at,
                          struct core_effects *fx)
{
    cleanup_ids struct ids l = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT request FROM sent WHERE ns = ?1"
                                      " AND (sjid = 0 OR sjid > ?2) ORDER BY request");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)at);
    int err;
    size_t k = 0;
    while ((err = tree_step(c->t, s)) == 1)
        ids_add(&l, (uint64_t)sqlite3_column_int64(s, 0));
    for (size_t i = 0; !err && i < l.n; i++) {
        while (k < a->requests_n && a->requests[k].request < l.v[i])
            k++;
        if (k < a->requests_n && a->requests[k].request == l.v[i])
            continue;
        err = rebase_unsend(c, l.v[i], fx);
        effect_done(fx, ns, l.v[i], COMMIT_CONFLICT, 0);
    }
    return err;
}

int core_requests_answer(struct core *c, uint64_t ns, const struct m_requests_ans *a, uint64_t at,
                         uint64_t mark, struct core_effects *fx)
{
    struct core_ns info;
    int err = core_begin(c);
    if (err)
        return err;
    for (size_t i = 0; !err && i < a->requests_n; i++)
        err = request_ended(c, ns, &a->requests[i], at, fx);
    if (!err)
        err = settle_known(c, ns, at, fx);
    if (!err)
        err = ns_get(c, ns, &info);
    if (!err && info.other)
        err = unsend_unknown(c, ns, a, at, fx);
    if (!err && !info.other && at > info.cursor)
        err = ns_set_ahead(c, ns, at, mark);
    return core_leave(c, err);
}
