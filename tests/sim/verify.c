// SPDX-License-Identifier: Apache-2.0
/* What must hold: rules of the tree's rows at any time; and in the end, when all is sent and
 * applied, every client's whole tree is the server's, counts are right, and every byte that should
 * still be somewhere is.
 *
 * Trees are compared as text, one line a node, so that a failure shows the lines that differ.
 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 64

/* ---- rules of the rows ----------------------------------------------------------------------- */
/* clang-format off */
static const struct {
    const char *rule, *sql; /* finds what breaks it */
} rules[] = {
    {"an entry is pending iff it differs from what the server has or was sent",
     "SELECT parent, name FROM entry"
     " WHERE pend != (node != CASE WHEN request != 0 THEN sent_node ELSE base_node END)"},
    {"a name's node is loaded",
     "SELECT parent, name FROM entry e"
     " WHERE node != 0 AND NOT EXISTS (SELECT 1 FROM node n WHERE n.id = e.node)"},
    {"names are in directories",
     "SELECT parent, name FROM entry e JOIN node n ON n.id = e.parent WHERE n.type != 2"},
    {"a name's type is its node's",
     "SELECT parent, name FROM entry e JOIN node n ON n.id = e.node WHERE e.type != n.type"},
    {"a directory has one name",
     "SELECT node, count(*) FROM entry WHERE node != 0 AND type = 2 GROUP BY node HAVING count(*) > 1"},
    {"a node that is sent belongs to a commit that was sent",
     "SELECT id, request FROM node WHERE request != 0 AND request NOT IN (SELECT request FROM sent)"},
    {"a name that is sent belongs to a commit that was sent",
     "SELECT id, request FROM entry WHERE request != 0 AND request NOT IN (SELECT request FROM sent)"},
    {"sent facets have a request",
     "SELECT id, sent FROM node WHERE sent != 0 AND request = 0"},
    {"changed ranges belong to files whose content is pending",
     "SELECT s.node, s.off FROM span s LEFT JOIN node n ON n.id = s.node"
     " WHERE s.kind = 0 AND (n.id IS NULL OR n.pend & 4 = 0)"},
    {"sent ranges belong to files whose content is sent",
     "SELECT s.node, s.off FROM span s LEFT JOIN node n ON n.id = s.node"
     " WHERE s.kind = 1 AND (n.id IS NULL OR n.sent & 4 = 0)"},
    {"extents do not overlap",
     "SELECT a.node, a.off FROM extent a JOIN extent b"
     " ON a.node = b.node AND a.off < b.off AND a.off + a.len > b.off"},
    {"spans of a kind do not touch",
     "SELECT a.node, a.off FROM span a JOIN span b"
     " ON a.node = b.node AND a.kind = b.kind AND a.off < b.off AND a.end >= b.off"},
    {"extents lie where content is known",
     "SELECT e.node, e.off FROM extent e WHERE NOT EXISTS (SELECT 1 FROM span s"
     " WHERE s.node = e.node AND s.kind = 2 AND s.off <= e.off AND s.end >= e.off + e.len)"},
    {"extents end at the file's size",
     "SELECT e.node, e.off FROM extent e LEFT JOIN node n ON n.id = e.node"
     " WHERE n.id IS NULL OR e.off + e.len > n.size"},
    {"xattrs belong to a node",
     "SELECT node, name FROM xattr WHERE node NOT IN (SELECT id FROM node)"},
    {"spans belong to a node",
     "SELECT node, off FROM span WHERE node NOT IN (SELECT id FROM node)"},
    {"a file has at least its known names",
     "SELECT n.id, n.nlink FROM node n"
     " WHERE n.type != 2 AND n.nlink < (SELECT count(*) FROM entry e WHERE e.node = n.id)"},
    {"every name hangs from the root, or from a directory that is not loaded or waits for an answer",
     "WITH RECURSIVE below(id) AS (SELECT root FROM ns"
     " UNION SELECT base_node FROM entry WHERE request != 0 AND base_node != 0"
     " UNION SELECT parent FROM entry WHERE parent NOT IN (SELECT id FROM node)"
     " UNION SELECT e.node FROM entry e JOIN below b ON e.parent = b.id WHERE e.node != 0)"
     " SELECT node, parent FROM entry WHERE node != 0 AND node NOT IN (SELECT id FROM below)"},
};
/* clang-format on */

/* Every name that a commit under way carries remembers it, whatever became of it here since:
 * otherwise what the commit did would never be known. */
static void verify_sent(struct client *c, uint64_t request, struct bytes changes)
{
    cleanup_arena struct arena ar = {0};
    struct m_changes m;
    sqlite3_stmt *s =
        tree_stmt(c->tree, "SELECT 1 FROM entry WHERE parent = ?1 AND name = ?2 AND request = ?3");
    if (msg_decode(&m_changes_desc, &m, changes.p, changes.n, MSG_STRICT, &ar, NULL))
        sim_fail(c->s, "client %u: its own changes cannot be read", c->index);
    for (size_t i = 0; !c->s->failed && i < m.entries_n; i++) {
        const struct m_entry_change *e = &m.entries[i];
        sqlite3_bind_int64(s, 1, (int64_t)e->parent);
        sqlite3_bind_blob64(s, 2, e->name.p, e->name.n, SQLITE_STATIC);
        sqlite3_bind_int64(s, 3, (int64_t)request);
        if (tree_step(c->tree, s) != 1)
            sim_fail(c->s,
                     "client %u: a name does not remember that it was sent: %llx/%.*s in %llu",
                     c->index, (unsigned long long)e->parent, (int)e->name.n,
                     (const char *)e->name.p, (unsigned long long)request);
        sqlite3_reset(s);
    }
}

static void verify_all_sent(struct client *c)
{
    sqlite3_stmt *s = tree_stmt(c->tree, "SELECT request, changes FROM sent");
    while (!c->s->failed && tree_step(c->tree, s) == 1)
        verify_sent(c, (uint64_t)sqlite3_column_int64(s, 0),
                    bytes_of(sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1)));
    sqlite3_reset(s);
}

static void verify_rules(struct client *c)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !c->s->failed; i++) {
        sqlite3_stmt *s = tree_stmt(c->tree, rules[i].sql);
        int rc = tree_step(c->tree, s);
        if (rc < 0)
            sim_fail(c->s, "%s: %s", rules[i].rule, sqlite3_errmsg(tree_db(c->tree)));
        if (rc == 1)
            sim_fail(c->s, "client %u: %s; not so: %llx %s", c->index, rules[i].rule,
                     (unsigned long long)sqlite3_column_int64(s, 0),
                     (const char *)sqlite3_column_text(s, 1));
        if (s)
            sqlite3_reset(s);
    }
}

void verify_tree(struct client *c)
{
    if (!c->core || c->s->failed || simvfs_crashed(c->disk))
        return;
    int64_t now = sqlite3_total_changes64(tree_db(c->tree));
    if (c->at.verified == now)
        return;
    /* one transaction for all of them: to begin one costs as much as a rule */
    if (tree_step(c->tree, tree_stmt(c->tree, "BEGIN")))
        sim_fail(c->s, "client %u: a transaction was left open", c->index);
    verify_rules(c);
    verify_all_sent(c);
    tree_step(c->tree, tree_stmt(c->tree, "COMMIT"));
    c->at.verified = now;
}

static void verify_database(struct client *c)
{
    sqlite3_stmt *s = tree_stmt(c->tree, "PRAGMA integrity_check");
    if (tree_step(c->tree, s) != 1 || strcmp((const char *)sqlite3_column_text(s, 0), "ok"))
        sim_fail(c->s, "client %u: the tree's database is damaged", c->index);
    sqlite3_reset(s);
}

/* Nodes without a name that nothing needs any more. */
static void verify_orphans(struct client *c)
{
    sqlite3_stmt *s = tree_stmt(c->tree, "SELECT id, nlink FROM node n WHERE NOT EXISTS"
                                         " (SELECT 1 FROM entry e WHERE e.node = n.id)"
                                         " AND id NOT IN (SELECT root FROM ns)");
    if (tree_step(c->tree, s) == 1)
        sim_fail(c->s, "client %u: node %llx has no name and was not purged", c->index,
                 (unsigned long long)sqlite3_column_int64(s, 0));
    sqlite3_reset(s);
}

/* ---- text of a node ----------------------------------------------------------------------------
 */
static void text_extents(struct sim *s, struct buf *out, const struct m_extent *v, size_t n)
{
    struct extent_list l cleanup_extents = {0};
    for (size_t i = 0; i < n; i++)
        extent_list_append(&l, &v[i]);
    for (size_t i = 0; i < l.n; i++) {
        uint32_t w = 0;
        ledger_find(&s->ledger, &l.v[i].block, &w);
        buf_printf(out, " %llu+%llu=w%u@%llu", (unsigned long long)l.v[i].off,
                   (unsigned long long)l.v[i].len, w, (unsigned long long)l.v[i].block_off);
    }
}

static void text_inode(struct buf *out, const char *path, const struct m_inode *n)
{
    buf_printf(
        out,
        "%s %llx type %llu mode %llo uid %llu gid %llu rdev %llu size %llu nlink %llu stored %llu"
        " mtime %lld ctime %lld '%.*s'",
        path, (unsigned long long)n->node, (unsigned long long)n->type, (unsigned long long)n->mode,
        (unsigned long long)n->uid, (unsigned long long)n->gid, (unsigned long long)n->rdev,
        (unsigned long long)n->size, (unsigned long long)n->nlink, (unsigned long long)n->stored,
        (long long)n->mtime, (long long)n->ctime, (int)n->target.n, (const char *)n->target.p);
}

/* ---- the server's tree
 * --------------------------------------------------------------------------- */
struct server_walk {
    struct sim *s;
    uint64_t ns;
    struct buf *text; /* or NULL: only what is reachable counts */
    uint64_t at, bytes;
    uint64_t nodes[4096];
    size_t nodes_n;
};

static bool seen_before(struct server_walk *w, uint64_t node)
{
    for (size_t i = 0; i < w->nodes_n; i++)
        if (w->nodes[i] == node)
            return true;
    if (w->nodes_n == sizeof w->nodes / sizeof *w->nodes)
        sim_fail(w->s, "more nodes than the simulator looks at");
    else
        w->nodes[w->nodes_n++] = node;
    return false;
}

static void server_node(struct server_walk *w, uint64_t node, const char *path, unsigned depth);

static void server_dir(struct server_walk *w, uint64_t dir, const char *path, unsigned depth)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_readdir_req q = {.ns = w->ns, .dir = dir, .at = w->at};
    struct m_readdir_ans a;
    if (meta_readdir(w->s->server.meta, server_owner(w->s, w->ns), &q, &a, &ar, why)) {
        sim_fail(w->s, "the server's directory %llx cannot be read: %s", (unsigned long long)dir,
                 why);
        return;
    }
    for (size_t i = 0; i < a.entries_n && !w->s->failed; i++) {
        cleanup_buf struct buf sub = {0};
        buf_printf(&sub, "%s/%.*s", path, (int)a.entries[i].name.n,
                   (const char *)a.entries[i].name.p);
        buf_append(&sub, "", 1);
        server_node(w, a.entries[i].node, (const char *)sub.p, depth + 1);
    }
}

static void server_content(struct server_walk *w, const struct m_inode *n)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct marks m = {0};
    struct m_extents_req q = {.ns = w->ns, .node = n->node, .at = w->at};
    struct m_extents_ans a;
    if (meta_extents(w->s->server.meta, server_owner(w->s, w->ns), &q, &a, &ar, why) ||
        !a.range_set) {
        sim_fail(w->s, "the server's extents of %llx cannot be read: %s",
                 (unsigned long long)n->node, why);
        return;
    }
    uint64_t stored = 0;
    for (size_t i = 0; i < a.range.extents_n; i++)
        stored += a.range.extents[i].len;
    if (stored != n->stored ||
        extent_check(a.range.extents, a.range.extents_n, 0, n->size ? n->size : 1))
        sim_fail(w->s, "the server's extents of %llx are not its size",
                 (unsigned long long)n->node);
    marks_add(&w->s->ledger, &m, a.range.extents, a.range.extents_n);
    for (size_t i = 0; i < m.n; i++)
        w->s->ledger.w[m.v[i].write].reachable |= m.v[i].mask;
    marks_free(&m);
    for (size_t i = 0; i < a.range.extents_n; i++) {
        uint32_t k;
        if (ledger_find(&w->s->ledger, &a.range.extents[i].block, &k))
            w->s->ledger.w[k].referred = true;
    }
    if (w->text)
        text_extents(w->s, w->text, a.range.extents, a.range.extents_n);
}

static void server_node(struct server_walk *w, uint64_t node, const char *path, unsigned depth)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_node_req q = {.ns = w->ns, .node = node, .at = w->at};
    struct m_node_ans a;
    if (depth > DEPTH) {
        sim_fail(w->s, "a cycle at the server: %s", path);
        return;
    }
    if (meta_node(w->s->server.meta, server_owner(w->s, w->ns), &q, &a, &ar, why) || !a.inode_set) {
        sim_fail(w->s, "the server's node %llx (%s) is not there: %s", (unsigned long long)node,
                 path, why);
        return;
    }
    bool first = !seen_before(w, node);
    if (first)
        w->bytes += a.inode.stored;
    if (w->text && a.inode.type == NODE_MOUNT)
        buf_printf(w->text, "%s mounts %s", path, ns_names[server_ns(w->s, a.inode.target_ns)]);
    else if (w->text) {
        text_inode(w->text, path, &a.inode);
        for (size_t i = 0; i < a.xattrs_n; i++)
            buf_printf(w->text, " %.*s='%.*s'", (int)a.xattrs[i].name.n,
                       (const char *)a.xattrs[i].name.p, (int)a.xattrs[i].value.n,
                       (const char *)a.xattrs[i].value.p);
    }
    if (a.inode.type == NODE_REG && (first || w->text))
        server_content(w, &a.inode);
    if (w->text)
        buf_append(w->text, "\n", 1);
    if (a.inode.type == NODE_DIR)
        server_dir(w, node, path, depth);
}

static void server_walk(struct sim *s, uint64_t ns, struct buf *text, size_t *nodes,
                        uint64_t *bytes)
{
    struct server_walk w = {.s = s, .ns = ns, .text = text, .at = server_head(s, ns)};
    if (!s->failed)
        server_node(&w, s->server.inst->root[server_ns(s, ns)], "", 0);
    *nodes = w.nodes_n;
    *bytes = w.bytes;
}

static void reach_none(struct sim *s)
{
    for (uint32_t i = 0; i < s->ledger.n; i++) {
        s->ledger.w[i].reachable = 0;
        s->ledger.w[i].referred = false;
    }
}

void verify_reach(struct sim *s, uint64_t ns)
{
    size_t nodes;
    uint64_t bytes;
    reach_none(s);
    server_walk(s, ns, NULL, &nodes, &bytes);
}

/* ---- a client's tree
 * ------------------------------------------------------------------------------ */
/* Loads what is needed, now. */
static bool resolve(struct client *c, struct core_need *need)
{
    cleanup_buf struct buf q = {0}, body = {0};
    struct core_effects fx = {0};
    const char *method;
    int err = core_need_request(c->core, need, &method, &q);
    if (!err && server_call(c->s, c->index, method, bytes_of(q.p, q.n), &body))
        err = -EIO;
    if (!err)
        err = core_need_answer(c->core, need, bytes_of(body.p, body.n), client_now(c), &fx);
    core_effects_free(&fx);
    if (err)
        sim_fail(c->s, "client %u: loading kind %d of %llx: %s", c->index, (int)need->kind,
                 (unsigned long long)need->node, strerror(-err));
    return !err;
}

#define LOADED(err, call)                                                                          \
    do                                                                                             \
        (err) = (call);                                                                            \
    while ((err) == CORE_NEED && resolve(c, &need))

struct list {
    struct core_dirent v[512];
    uint8_t names[512][NAME_LEN_MAX];
    size_t n;
};

static bool list_add(void *arg, const struct core_dirent *e)
{
    struct list *l = arg;
    if (l->n == 512)
        return false;
    l->v[l->n] = *e;
    memcpy(l->names[l->n], e->name.p, e->name.n);
    l->v[l->n].name.p = l->names[l->n];
    l->n++;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return bytes_compare(((const struct core_dirent *)a)->name,
                         ((const struct core_dirent *)b)->name);
}

static void client_xattrs(struct client *c, uint64_t node, struct buf *out)
{
    cleanup_buf struct buf names = {0};
    struct core_need need;
    int err;
    LOADED(err, core_listxattr(c->core, node, &names, &need));
    for (size_t at = 0; !err && at < names.n; at += strlen((const char *)names.p + at) + 1) {
        cleanup_buf struct buf value = {0};
        const char *name = (const char *)names.p + at;
        err = core_getxattr(c->core, node, bytes_str(name), &value, &need);
        buf_printf(out, " %s='%.*s'", name, (int)value.n, (const char *)value.p);
    }
    client_ok(c, err, "xattrs");
}

static void client_node(struct client *c, uint64_t ns, uint64_t node, const char *path,
                        unsigned depth, struct buf *out)
{
    struct extent_list l cleanup_extents = {0};
    struct core_need need;
    struct core_attr a;
    char target[TARGET_LEN_MAX];
    size_t len = 0;
    int err;
    LOADED(err, core_getattr(c->core, node, &a, &need));
    if (!client_ok(c, err, "core_getattr") || depth > DEPTH)
        return;
    if (a.ns != ns) {
        buf_printf(out, "%s mounts %s\n", path, ns_names[server_ns(c->s, a.ns)]);
        return;
    }
    if (a.type == NODE_REG) {
        do {
            extent_list_free(&l);
            err = core_extents(c->core, node, 0, FILE_SIZE_MAX, &l, &need);
        } while (err == CORE_NEED && resolve(c, &need));
        client_ok(c, err, "core_extents");
        core_getattr(c->core, node, &a, &need); /* its block count is right only now */
    }
    if (a.type == NODE_SYMLINK)
        client_ok(c, core_readlink(c->core, node, target, sizeof target, &len, &need),
                  "core_readlink");
    struct m_inode n = {.node = a.node,
                        .type = a.type,
                        .mode = a.mode,
                        .uid = a.uid,
                        .gid = a.gid,
                        .rdev = a.rdev,
                        .size = a.type == NODE_SYMLINK ? 0 : a.size,
                        .nlink = a.nlink,
                        .stored = a.stored,
                        .mtime = a.mtime,
                        .ctime = a.ctime,
                        .target = bytes_of(target, len)};
    text_inode(out, path, &n);
    client_xattrs(c, node, out);
    text_extents(c->s, out, l.v, l.n);
    buf_append(out, "\n", 1);
    if (a.type != NODE_DIR)
        return;
    struct list *d = calloc(1, sizeof *d);
    if (!d)
        abort();
    LOADED(err, core_readdir(c->core, node, 0, list_add, d, &need));
    if (client_ok(c, err, "core_readdir"))
        qsort(d->v, d->n, sizeof *d->v, by_name);
    for (size_t i = 0; i < d->n && !c->s->failed; i++) {
        cleanup_buf struct buf sub = {0};
        buf_printf(&sub, "%s/%.*s", path, (int)d->v[i].name.n, (const char *)d->v[i].name.p);
        buf_append(&sub, "", 1);
        client_node(c, ns, d->v[i].node, (const char *)sub.p, depth + 1, out);
    }
    free(d);
}

/* ---- the end
 * ---------------------------------------------------------------------------------------- */
static void lines_differ(struct sim *s, unsigned client, const struct buf *a, const struct buf *b)
{
    size_t i = 0, line = 0;
    while (i < a->n && i < b->n && a->p[i] == b->p[i])
        if (a->p[i++] == '\n')
            line = i;
    const char *x = (const char *)a->p + line, *y = (const char *)b->p + line;
    sim_fail(s, "client %u differs from the server\n  server: %.*s\n  client: %.*s", client,
             (int)(line < a->n ? strcspn(x, "\n") : 0), x,
             (int)(line < b->n ? strcspn(y, "\n") : 0), y);
}

static void verify_counts(struct sim *s, uint64_t ns, size_t nodes, uint64_t bytes)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint8_t incarnation[16];
    struct m_session_ans a;
    unsigned device = server_ns(s, ns) == NS_BOB ? 4 : 0;
    incarnation_of('d', device, 0, incarnation);
    struct m_session_req q = {.incarnation = bytes_of(incarnation, 16),
                              .requests_used = INT64_MAX,
                              .nodes_used = INT64_MAX};
    if (meta_session(s->server.meta, server_owner(s, ns), &q, s->now / 1000000, &a, &ar, why))
        sim_fail(s, "no session at the end: %s", why);
    for (size_t i = 0; !s->failed && i < a.namespaces_n; i++)
        if (a.namespaces[i].id == ns &&
            (a.namespaces[i].used_nodes + 1 != nodes || a.namespaces[i].used_bytes != bytes))
            sim_fail(s, "the server counts %llu nodes and %llu bytes; there are %zu and %llu",
                     (unsigned long long)a.namespaces[i].used_nodes,
                     (unsigned long long)a.namespaces[i].used_bytes, nodes - 1,
                     (unsigned long long)bytes);
}

/* What a client that can send no more has kept: what names in its tree reach. */
static void reach_local(struct client *c)
{
    struct ledger *l = &c->s->ledger;
    sqlite3_stmt *s = tree_stmt(c->tree, "SELECT block, block_off, len FROM extent e WHERE EXISTS"
                                         " (SELECT 1 FROM entry n WHERE n.node = e.node)");
    while (tree_step(c->tree, s) == 1) {
        struct m_extent e = {.block_off = (uint64_t)sqlite3_column_int64(s, 1),
                             .len = (uint64_t)sqlite3_column_int64(s, 2)};
        struct marks m = {0};
        memcpy(e.block.b, sqlite3_column_blob(s, 0), BLOCK_ID_LEN);
        marks_add(l, &m, &e, 1);
        for (size_t i = 0; i < m.n; i++)
            l->w[m.v[i].write].reachable |= m.v[i].mask;
        marks_free(&m);
    }
}

/* Every byte that must be somewhere is. */
static void verify_ledger(struct sim *s)
{
    for (uint32_t i = 0; i < s->ledger.n && !s->failed; i++) {
        const struct written *w = &s->ledger.w[i];
        if ((w->live & ~w->reachable) && !ledger_weak(&s->ledger, w->node))
            sim_fail(s, "write %u of client %u is lost: bytes %llx of %llx", i, w->client,
                     (unsigned long long)(w->live & ~w->reachable), (unsigned long long)w->live);
    }
}

/* Whoever holds something back says why. */
static void verify_listed(struct client *c)
{
    for (size_t i = 0; i < c->views_n && !c->s->failed; i++) {
        struct core_ns n;
        uint64_t node;
        char *path = NULL;
        int err;
        if (!client_ok(c, core_ns_status(c->core, c->views[i].ns, &n), "core_ns_status") ||
            !n.pending_nodes || !n.member || n.role < ROLE_EDITOR)
            continue;
        if (core_parked_at(c->core, n.id, 0, &node, &err, &path) || !path || !err)
            sim_fail(c->s, "client %u: %llu nodes are held back, and none is listed as parked",
                     c->index, (unsigned long long)n.pending_nodes);
        free(path);
    }
}

void verify_parked(struct sim *s)
{
    size_t nodes;
    uint64_t bytes;
    reach_none(s);
    for (unsigned n = 0; n < NAMESPACES && !s->failed; n++)
        server_walk(s, s->server.inst->ns[n], NULL, &nodes, &bytes);
    for (unsigned k = 0; k < s->opt.clients && !s->failed; k++) {
        struct client *c = &s->client[k];
        verify_tree(c);
        reach_local(c);
        if (!c->revoked)
            verify_listed(c);
    }
    if (!s->failed)
        verify_ledger(s);
}

void verify_restored(struct sim *s)
{
    uint64_t *kept = calloc(WRITES_MAX, sizeof *kept), bytes;
    struct ledger *l = &s->ledger;
    size_t nodes;
    if (!kept)
        abort();
    for (unsigned k = 0; k < s->opt.clients; k++) {
        if (!s->client[k].core) /* what it has comes later, and is not looked at */
            continue;
        reach_none(s);
        reach_local(&s->client[k]);
        for (uint32_t i = 0; i < l->n; i++)
            kept[i] |= l->w[i].client == k ? l->w[i].reachable : 0;
    }
    reach_none(s);
    for (unsigned n = 0; n < NAMESPACES && !s->failed; n++)
        server_walk(s, s->server.inst->ns[n], NULL, &nodes, &bytes);
    if (!s->failed) {
        ledger_restored(l, kept);
        garbage_restored(s);
    }
    free(kept);
}

static void verify_client(struct client *c, uint64_t ns, const struct buf *server)
{
    cleanup_buf struct buf text = {0};
    const struct view *v = client_view(c, ns);
    struct core_ns n;
    if (!v || !client_ok(c, core_ns_status(c->core, ns, &n), "core_ns_status"))
        return;
    if (n.parked) { /* for a block that is nowhere: nothing else may be held back */
        if (!c->gave_up)
            sim_fail(c->s, "client %u: something is parked", c->index);
        return;
    }
    client_node(c, ns, v->root, "", 0, &text);
    if (!c->s->failed && (text.n != server->n || memcmp(text.p, server->p, text.n)))
        lines_differ(c->s, c->index, server, &text);
}

static void verify_ns(struct sim *s, uint64_t ns)
{
    cleanup_buf struct buf server = {0};
    size_t nodes;
    uint64_t bytes;
    server_walk(s, ns, &server, &nodes, &bytes);
    if (!s->failed)
        verify_counts(s, ns, nodes, bytes);
    for (unsigned k = 0; k < s->opt.clients && !s->failed; k++)
        if (!s->client[k].revoked)
            verify_client(&s->client[k], ns, &server);
}

void verify_all(struct sim *s)
{
    reach_none(s);
    for (unsigned n = 0; n < NAMESPACES && !s->failed; n++)
        verify_ns(s, s->server.inst->ns[n]);
    for (unsigned k = 0; k < s->opt.clients && !s->failed; k++) {
        struct client *c = &s->client[k];
        verify_database(c);
        verify_tree(c);
        if (c->revoked || c->gave_up)
            reach_local(c);
        else if (!s->failed)
            verify_orphans(c);
    }
    if (!s->failed)
        verify_ledger(s);
}
