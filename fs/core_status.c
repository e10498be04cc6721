// SPDX-License-Identifier: Apache-2.0
/* What is pending, parked or in conflict: for fsync, for status, for people. */
#include "copyname.h"
#include "core_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))

static int count(struct core *c, sqlite3_stmt *s, uint64_t key, uint64_t *out)
{
    sqlite3_bind_int64(s, 1, (int64_t)key);
    int rc = tree_step(c->t, s);
    if (rc < 0)
        return rc;
    *out = rc == 1 ? U(0) : 0;
    if (s)
        sqlite3_reset(s);
    return 0;
}

/* A request under way that covers part of it. One that is committed and only waits for the journal
 * does not count: its changes are durable. */
static int see_request(struct core *c, uint64_t request, struct core_barrier *out)
{
    uint64_t sjid = 0;
    if (!request || request == out->request)
        return 0;
    int err = count(c, tree_stmt(c->t, "SELECT sjid FROM sent WHERE request = ?1"), request, &sjid);
    if (!err && !sjid)
        out->request = request;
    return err;
}

/* Of the names of a new node, and of those in a directory, it is enough to know one that is
 * pending, and one request under way, however many there are. */
static int barrier_some(struct core *c, sqlite3_stmt *pending, sqlite3_stmt *under_way,
                        uint64_t key, struct core_barrier *out)
{
    uint64_t any = 0;
    int err = count(c, pending, key, &any);
    out->dirty |= any != 0;
    if (!err && !out->request)
        err = count(c, under_way, key, &out->request);
    return err;
}

static int barrier_names(struct core *c, uint64_t node, struct core_barrier *out)
{
    return barrier_some(
        c,
        tree_stmt(c->t, "SELECT 1 FROM entry INDEXED BY entry_pending_node WHERE node = ?1"
                        " AND node != 0 AND (pend != 0 OR request != 0) AND pend != 0 LIMIT 1"),
        tree_stmt(c->t, "SELECT s.request FROM entry e INDEXED BY entry_pending_node CROSS JOIN"
                        " sent s ON s.request = e.request AND s.sjid = 0 WHERE e.node = ?1"
                        " AND e.node != 0 AND (e.pend != 0 OR e.request != 0) LIMIT 1"),
        node, out);
}

static int barrier_listed(struct core *c, uint64_t dir, struct core_barrier *out)
{
    return barrier_some(
        c,
        tree_stmt(c->t, "SELECT 1 FROM entry INDEXED BY entry_pending_parent WHERE parent = ?1"
                        " AND (pend != 0 OR request != 0) AND pend != 0 LIMIT 1"),
        tree_stmt(c->t, "SELECT s.request FROM sent s WHERE s.sjid = 0 AND EXISTS (SELECT 1 FROM"
                        " entry e INDEXED BY entry_request WHERE e.request = s.request"
                        " AND e.request != 0 AND e.parent = ?1) LIMIT 1"),
        dir, out);
}

/* Whether the directories above a new node are under way or still to be made. */
static int barrier_above(struct core *c, const struct nrow *n, struct core_barrier *out)
{
    uint64_t dir;
    struct nrow p = *n;
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        int err = node_parent(c, &p, &dir);
        if (!err)
            err = node_get(c, dir, &p);
        if (err)
            return err == -ENOENT ? 0 : err;
        if (!((p.pend | p.sent) & FACET_CREATE))
            return 0;
        out->dirty |= (p.pend & FACET_CREATE) != 0;
        if (!out->parked)
            out->parked = parked_for(&p);
        if (p.sent & FACET_CREATE)
            err = see_request(c, p.request, out);
        if (err)
            return err;
    }
    return -ELOOP;
}

int core_barrier(struct core *c, uint64_t node, struct core_barrier *out)
{
    struct nrow n;
    *out = (struct core_barrier){0};
    int err = node_get(c, node, &n);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    out->parked = parked_for(&n);
    struct core_ns ns;
    err = ns_get(c, n.ns, &ns);
    if (err || (n.nlink == 0 && ns.root != node))
        return err;
    out->dirty = n.pend != 0;
    out->unsure = ns.other;
    if (n.sent)
        err = see_request(c, n.request, out);
    if (!err && ((n.pend | n.sent) & FACET_CREATE)) {
        err = barrier_names(c, node, out);
        if (!err)
            err = barrier_above(c, &n, out);
    }
    if (!err && n.type == NODE_DIR)
        err = barrier_listed(c, node, out);
    return err;
}

int core_pending_nodes(struct core *c, uint64_t ns, uint64_t *out, size_t max, size_t *n)
{
    sqlite3_stmt *s = tree_stmt(
        c->t,
        "SELECT id FROM node WHERE ns = ?1 AND pend != 0 AND nlink > 0 AND parked >= 0 UNION"
        " SELECT parent FROM entry WHERE ns = ?1 AND pend != 0 UNION"
        " SELECT n.id FROM sent s CROSS JOIN node n ON n.request = s.request AND n.request != 0"
        " WHERE s.ns = ?1 AND s.sjid = 0 AND n.ns = s.ns UNION"
        " SELECT e.parent FROM sent s CROSS JOIN entry e ON e.request = s.request"
        " AND e.request != 0 WHERE s.ns = ?1 AND s.sjid = 0 AND e.ns = s.ns LIMIT ?2");
    int rc = 0;
    *n = 0;
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)max);
    while (*n < max && (rc = tree_step(c->t, s)) == 1)
        out[(*n)++] = U(0);
    if (s)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

/* What waits for a directory that is parked, and that the server does not know: what was made below
 * it (whole), and names given there to what the server has elsewhere. */
#define BELOW                                                                                      \
    "WITH RECURSIVE below(id, made) AS (SELECT id, 1 FROM node WHERE ns = ?1 AND parked != 0"      \
    " AND parked < 0 AND type = 2 AND (pend & 1) != 0 AND (?2 = 0 OR id = ?2)"                     \
    " UNION SELECT e.node, n.pend & 1 FROM below b JOIN entry e ON e.parent = b.id"                \
    " AND e.node != 0 JOIN node n ON n.id = e.node WHERE b.made) "

/* What a refusal keeps from being sent by its names: a name goes together with what frees it, and
 * with all other names of who has it or had it; a removed directory with what was moved out of it;
 * what is in a new directory after that. */
#define STUCK                                                                                      \
    BELOW                                                                                          \
    ", stuck(id) AS (SELECT n.id FROM node n WHERE n.ns = ?1 AND n.parked != 0 AND n.parked < 0"   \
    " AND (?2 = 0 OR n.id = ?2) AND EXISTS (SELECT 1 FROM entry e WHERE e.node = n.id"             \
    " AND e.node != 0 AND e.pend != 0)"                                                            \
    " UNION SELECT id FROM below"                                                                  \
    " UNION SELECT e.base_node FROM stuck s JOIN entry e ON e.node = s.id AND e.node != 0"         \
    " WHERE e.pend != 0 AND e.base_node != 0"                                                      \
    " UNION SELECT e.node FROM stuck s JOIN entry e ON e.base_node = s.id AND e.base_node != 0"    \
    " AND e.base_node != e.node WHERE e.pend != 0 AND e.node != 0"                                 \
    " UNION SELECT d.id FROM stuck s JOIN entry e ON e.base_node = s.id AND e.base_node != 0"      \
    " AND e.base_node != e.node JOIN node d ON d.id = e.parent WHERE e.pend != 0 AND d.nlink = 0"  \
    " UNION SELECT e.node FROM stuck s JOIN node d ON d.id = s.id AND d.type = 2"                  \
    " AND (d.pend & 1) != 0 JOIN entry e ON e.parent = d.id AND e.node != 0)"                      \
    ", stuck_name(id, node) AS ("                                                                  \
    "SELECT e.id, e.node FROM stuck s JOIN entry e ON e.node = s.id AND e.node != 0"               \
    " WHERE e.pend != 0 UNION "                                                                    \
    "SELECT e.id, e.node FROM stuck s JOIN entry e ON e.base_node = s.id AND e.base_node != 0"     \
    " AND e.base_node != e.node JOIN node b ON b.id = s.id"                                        \
    " WHERE e.pend != 0 AND NOT (e.node = 0 AND b.parked < 0 AND b.nlink > 0)) "

/* Of what core_ns_pending counts, that which waits for what is parked (dir: for this alone; 0: for
 * any of the namespace). A parked node without facets of its own is counted by one of its names. */
static int held_count(struct core *c, uint64_t ns, uint64_t dir, uint64_t *out)
{
    sqlite3_stmt *s = tree_stmt(
        c->t, STUCK "SELECT (SELECT count(*) FROM stuck s JOIN node n ON n.id = s.id"
                    " WHERE n.parked >= 0 AND (n.pend & 1) != 0 AND n.nlink > 0) +"
                    " (SELECT count(*) FROM stuck_name k WHERE NOT EXISTS"
                    " (SELECT 1 FROM node n WHERE n.id = k.node AND n.pend != 0)) -"
                    " (SELECT count(DISTINCT n.id) FROM stuck_name k JOIN node n ON n.id = k.node"
                    " WHERE n.parked < 0 AND n.pend = 0)");
    sqlite3_bind_int64(s, 2, (int64_t)dir);
    return count(c, s, ns, out);
}

int core_parked_holds(struct core *c, uint64_t node, uint64_t *n)
{
    struct nrow row;
    int err = node_get(c, node, &row);
    return err ? err : held_count(c, row.ns, node, n);
}

int core_refused(struct core *c, uint64_t ns, uint64_t **nodes, size_t *n)
{
    struct ids l = {0};
    sqlite3_stmt *s = tree_stmt(
        c->t, STUCK "SELECT n.id FROM node n WHERE n.ns = ?1 AND n.parked != 0"
                    " AND (n.parked < 0 OR (n.pend | n.sent) != 0 OR EXISTS (SELECT 1 FROM entry e"
                    " WHERE e.node = n.id AND (e.pend != 0 OR e.request != 0)))"
                    " UNION SELECT n.id FROM stuck s JOIN node n ON n.id = s.id WHERE n.nlink > 0");
    int rc;
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, 0);
    while ((rc = tree_step(c->t, s)) == 1)
        ids_add(&l, U(0));
    *nodes = l.v;
    *n = l.n;
    return rc;
}

/* The rows that a statement finds, counted up to max. */
#define UP_TO_MAX(rows) "SELECT count(*) FROM (SELECT 1 " rows " LIMIT ?2)"

static int count_to(struct core *c, const char *sql, uint64_t ns, int64_t max, uint64_t *sum)
{
    uint64_t n = 0;
    sqlite3_stmt *s = tree_stmt(c->t, sql);
    sqlite3_bind_int64(s, 2, max);
    int err = count(c, s, ns, &n);
    *sum += n;
    return err;
}

/* What is pending; more than max is not looked for (negative: all is counted). */
static int pending_count(struct core *c, uint64_t ns, int64_t max, uint64_t *out)
{
    static const char *const counts[] = {
        UP_TO_MAX("FROM node WHERE ns = ?1 AND pend != 0 AND nlink > 0"),
        UP_TO_MAX("FROM entry e WHERE ns = ?1 AND pend != 0 AND NOT EXISTS"
                  " (SELECT 1 FROM node n WHERE n.id = e.node AND n.pend != 0) AND NOT EXISTS"
                  /* the old name of what was moved, and refused, is part of that */
                  " (SELECT 1 FROM node n WHERE e.node = 0 AND n.id = e.base_node"
                  " AND n.parked < 0 AND n.nlink > 0)"),
        /* what is sent and not answered is pending too */
        UP_TO_MAX("FROM sent s CROSS JOIN node n ON n.request = s.request"
                  " AND n.request != 0 WHERE s.ns = ?1 AND s.sjid = 0 AND n.ns = s.ns"),
        UP_TO_MAX("FROM sent s CROSS JOIN entry e ON e.request = s.request"
                  " AND e.request != 0 WHERE s.ns = ?1 AND s.sjid = 0 AND e.ns = s.ns"),
    };
    int err = 0;
    *out = 0;
    for (size_t i = 0; !err && i < sizeof counts / sizeof *counts; i++) {
        bool last = i + 1 == sizeof counts / sizeof *counts; /* names count where no node does */
        if ((max < 0 || *out <= (uint64_t)max) && !(last && *out))
            err = count_to(c, counts[i], ns, max < 0 ? max : max + 1, out);
    }
    return err;
}

static int parked_count(struct core *c, uint64_t ns, struct core_ns *out)
{
    int err = count(c,
                    tree_stmt(c->t, "SELECT count(*) FROM node WHERE ns = ?1 AND parked != 0"
                                    " AND parked < 0"),
                    ns, &out->parked);
    return !err && out->parked ? held_count(c, ns, 0, &out->held) : err;
}

int core_ns_pending(struct core *c, uint64_t ns, struct core_ns *out)
{
    int err = ns_get(c, ns, out);
    if (!err)
        err = pending_count(c, ns, -1, &out->pending_nodes);
    return err ? err : parked_count(c, ns, out);
}

int core_ns_rests(struct core *c, uint64_t ns, bool *rests)
{
    struct core_ns n;
    int err = ns_get(c, ns, &n);
    if (!err)
        err = parked_count(c, ns, &n);
    uint64_t kept = n.parked + n.held;
    if (!err)
        err = pending_count(c, ns, (int64_t)kept, &n.pending_nodes);
    *rests = !err && n.pending_nodes > kept;
    return err;
}

int core_ns_status(struct core *c, uint64_t ns, struct core_ns *out)
{
    uint64_t since[3] = {0};
    int err = core_ns_pending(c, ns, out);
    if (!err)
        err = count(
            c,
            tree_stmt(c->t,
                      "SELECT coalesce(sum(min(s.end, n.size) - min(s.off, n.size)), 0) FROM"
                      " (SELECT id, size FROM node WHERE ns = ?1 AND pend != 0 AND nlink > 0 UNION"
                      " SELECT id, size FROM node WHERE +ns = ?1 AND request != 0 AND nlink > 0) n"
                      " JOIN span s ON s.node = n.id AND s.kind IN (0, 1)"),
            ns, &out->pending_bytes);
    if (!err)
        err = count(c,
                    tree_stmt(c->t,
                              "SELECT count(*) FROM entry WHERE ns = ?1 AND node != 0"
                              " AND instr(name, x'2028636f6e666c696374656420636f70792c20') > 0"),
                    ns, &out->conflicts);
    if (!err)
        err = count(
            c,
            tree_stmt(c->t, "SELECT min(since) FROM node WHERE ns = ?1 AND pend != 0 AND since > 0"
                            " AND nlink > 0"),
            ns, &since[0]);
    if (!err)
        err = count(
            c,
            tree_stmt(c->t,
                      "SELECT min(since) FROM entry WHERE ns = ?1 AND pend != 0 AND since > 1"),
            ns, &since[1]);
    if (!err)
        err = count(
            c,
            tree_stmt(c->t, "SELECT min(since) FROM sent WHERE ns = ?1 AND sjid = 0 AND since > 0"),
            ns, &since[2]);
    for (size_t i = 0; i < 3; i++)
        if (since[i] && (!out->since || (int64_t)since[i] < out->since))
            out->since = (int64_t)since[i];
    return err;
}

/* The path of a name from the namespace's root; malloc'd. */
static int path_of_entry(struct core *c, const struct erow *last, char **path)
{
    struct buf b = {0};
    struct erow e = *last;
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        uint64_t above;
        struct buf longer = {0};
        buf_append(&longer, e.name, e.name_len);
        if (b.n)
            buf_append(&longer, "/", 1);
        buf_append(&longer, b.p, b.n);
        buf_free(&b);
        b = longer;
        int err = entry_first(c, BY_NODE, e.parent, &above);
        if (err == -ENOENT)
            break;
        if (!err)
            err = entry_by_id(c, above, &e);
        if (err) {
            buf_free(&b);
            return err;
        }
    }
    buf_append(&b, "", 1);
    *path = (char *)b.p;
    return 0;
}

/* The same of a node, by its first name; of a root or a node without a name: "". */
int core_path(struct core *c, uint64_t node, char **path)
{
    uint64_t first;
    struct erow e;
    int err = entry_first(c, BY_NODE, node, &first);
    if (err == -ENOENT) {
        *path = strdup("");
        return *path ? 0 : -ENOMEM;
    }
    if (!err)
        err = entry_by_id(c, first, &e);
    return err ? err : path_of_entry(c, &e, path);
}

static int nth(struct core *c, sqlite3_stmt *s, uint64_t ns, size_t k, uint64_t *node, int *value)
{
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    sqlite3_bind_int64(s, 2, (int64_t)k);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ENOENT;
    *node = U(0);
    *value = (int)sqlite3_column_int64(s, 1);
    sqlite3_reset(s);
    return 0;
}

int core_parked_at(struct core *c, uint64_t ns, size_t k, uint64_t *node, int *err_no, char **path)
{
    int err = nth(
        c,
        tree_stmt(c->t, "SELECT id, parked FROM node WHERE ns = ?1 AND parked != 0 AND parked < 0"
                        " ORDER BY id LIMIT 1 OFFSET ?2"),
        ns, k, node, err_no);
    return err ? err : core_path(c, *node, path);
}

void core_conflict_free(struct core_conflict *f)
{
    free(f->path);
    free(f->original);
    *f = (struct core_conflict){0};
}

/* The copy's own name at the end of its path replaced by another one; malloc'd. */
static char *sibling(const char *path, size_t own, struct bytes name)
{
    struct buf b = {0};
    buf_append(&b, path, strlen(path) - own);
    buf_append(&b, name.p, name.n);
    buf_append(&b, "", 1);
    return (char *)b.p;
}

static int conflict_fill(struct core *c, const struct erow *e, struct core_conflict *out)
{
    struct copy_name name;
    struct erow original;
    struct nrow n;
    if (!copyname_parse(erow_name(e), &name))
        return -ENOENT;
    int err = node_get(c, e->node, &n);
    if (!err)
        err = path_of_entry(c, e, &out->path);
    if (err)
        return err;
    attr_of(&n, &out->attr);
    struct bytes plain = bytes_of(name.original, name.original_len);
    out->entry = e->id;
    out->original = sibling(out->path, e->name_len, plain);
    snprintf(out->device, sizeof out->device, "%s", name.device);
    snprintf(out->date, sizeof out->date, "%s", name.date);
    out->original_exists = entry_get(c, e->parent, plain, &original) == 0 && original.node &&
                           node_get(c, original.node, &n) == 0;
    if (out->original_exists)
        attr_of(&n, &out->original_attr);
    return 0;
}

int core_conflict_next(struct core *c, uint64_t ns, uint64_t after, struct core_conflict *out)
{
    *out = (struct core_conflict){0};
    for (;;) {
        struct erow e;
        sqlite3_stmt *s =
            tree_stmt(c->t, "SELECT id FROM entry WHERE ns = ?1 AND id > ?2 AND node != 0"
                            " AND instr(name, x'2028636f6e666c696374656420636f70792c20') > 0"
                            " ORDER BY id LIMIT 1");
        sqlite3_bind_int64(s, 1, (int64_t)ns);
        sqlite3_bind_int64(s, 2, (int64_t)after);
        int err = tree_step(c->t, s);
        if (err <= 0)
            return err ? err : -ENOENT;
        after = U(0);
        sqlite3_reset(s);
        err = entry_by_id(c, after, &e);
        if (!err)
            err = conflict_fill(c, &e, out);
        if (err != -ENOENT) /* a name that only looks alike */
            return err;
        core_conflict_free(out);
    }
}

int core_ns_path(struct core *c, uint64_t ns, char **path)
{
    uint64_t root_ns, root;
    int err = core_root(c, &root_ns, &root);
    if (!err && ns == root_ns) {
        *path = strdup("");
        return *path ? 0 : -ENOMEM;
    }
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id FROM node WHERE target_ns = ?1 AND target_ns != 0"
                                      " AND type = 8 AND nlink > 0 LIMIT 1");
    if (err)
        return err;
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    err = tree_step(c->t, s);
    if (err <= 0)
        return err ? err : -ENOENT;
    uint64_t node = U(0);
    sqlite3_reset(s);
    return core_path(c, node, path);
}

int core_unpark(struct core *c, uint64_t ns)
{
    int err = core_begin(c);
    if (err)
        return err;
    sqlite3_stmt *s = tree_stmt(c->t, "UPDATE node SET parked = -parked, tries = 0 WHERE ns = ?1"
                                      " AND parked != 0 AND parked < 0");
    sqlite3_bind_int64(s, 1, (int64_t)ns);
    return core_leave(c, tree_step(c->t, s));
}
