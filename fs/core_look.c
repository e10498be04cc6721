// SPDX-License-Identifier: Apache-2.0
/* What programs see of the tree: attributes, names, directories, links' targets. Nothing is changed
 * here; what is not known yet is asked for (core_need).
 */
#include "core_int.h"

#include <errno.h>
#include <string.h>

#define U(i) ((uint64_t)sqlite3_column_int64(s, (i)))

/* The node, or the root of the namespace mounted there. */
static int through_mount(struct core *c, struct nrow *n, struct core_attr *out,
                         struct core_need *need)
{
    struct core_ns ns;
    bool mounted = n->type == NODE_MOUNT;
    if (mounted) {
        int err = ns_get(c, n->target_ns, &ns);
        if (err || !ns.member)
            return err && err != -ENOENT ? err : -EACCES;
        err = node_get(c, ns.root, n);
        if (err == -ENOENT) {
            *need = (struct core_need){.kind = NEED_NODE, .ns = ns.id, .node = ns.root};
            return CORE_NEED;
        }
        if (err)
            return err;
    }
    attr_of(n, out);
    out->mounted = mounted;
    return 0;
}

/* A directory that is not loaded, but a node in it is: one was moved there. */
static int above_loaded(struct core *c, uint64_t node, struct core_need *need)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT ns FROM entry WHERE parent = ?1 LIMIT 1");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -ESTALE;
    *need = (struct core_need){.kind = NEED_NODE, .ns = U(0), .node = node};
    sqlite3_reset(s);
    return CORE_NEED;
}

int core_getattr(struct core *c, uint64_t node, struct core_attr *out, struct core_need *need)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (err == -ENOENT) { /* the root of a namespace is known by id before it is loaded */
        struct core_ns ns;
        for (size_t k = 0; core_ns_at(c, k, &ns) == 0; k++) {
            if (ns.root != node)
                continue;
            *need = (struct core_need){.kind = NEED_NODE, .ns = ns.id, .node = node};
            return CORE_NEED;
        }
        return above_loaded(c, node, need);
    }
    return err ? err : through_mount(c, &n, out, need);
}

int core_lookup(struct core *c, uint64_t parent, struct bytes name, struct core_attr *out,
                struct core_need *need)
{
    struct nrow dir, n;
    struct erow e;
    if (name.n > NAME_LEN_MAX)
        return -ENAMETOOLONG;
    int err = node_get(c, parent, &dir);
    if (err == -ENOENT) /* the kernel may begin with a lookup in a root that is not loaded yet */
        return core_getattr(c, parent, out, need);
    if (err)
        return err;
    if (dir.type != NODE_DIR)
        return -ENOTDIR;
    err = entry_find(c, &dir, name, &e, need);
    if (err)
        return err;
    err = node_get(c, e.node, &n);
    return err == -ENOENT ? -EIO : err ? err : through_mount(c, &n, out, need);
}

int core_parent(struct core *c, uint64_t node, uint64_t *parent)
{
    struct nrow n;
    int err = node_get(c, node, &n);
    if (!err)
        err = node_parent(c, &n, parent);
    if (err == -ENOENT) {
        *parent = node;
        return 0;
    }
    return err;
}

int core_readlink(struct core *c, uint64_t node, char *target, size_t cap, size_t *len,
                  struct core_need *need)
{
    (void)need;
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT target FROM node WHERE id = ?1 AND type = 3");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    int rc = tree_step(c->t, s);
    if (rc <= 0)
        return rc ? rc : -EINVAL;
    *len = (size_t)sqlite3_column_bytes(s, 0);
    if (*len)
        memcpy(target, sqlite3_column_blob(s, 0), *len < cap ? *len : cap);
    sqlite3_reset(s);
    return 0;
}

int core_readdir(struct core *c, uint64_t dir, uint64_t cookie,
                 bool (*fn)(void *arg, const struct core_dirent *e), void *arg,
                 struct core_need *need)
{
    struct nrow d;
    int err = node_get(c, dir, &d);
    if (err)
        return err == -ENOENT ? -ESTALE : err;
    if (d.type != NODE_DIR)
        return -ENOTDIR;
    err = dir_whole(c, &d, need);
    if (err)
        return err;
    sqlite3_stmt *s =
        tree_stmt(c->t, "SELECT e.id, e.name, e.node, e.type, m.root FROM entry e LEFT JOIN node n"
                        " ON e.type = 8 AND n.id = e.node LEFT JOIN ns m ON m.id = n.target_ns"
                        " WHERE e.parent = ?1 AND e.id > ?2 AND e.node != 0 ORDER BY e.id");
    sqlite3_bind_int64(s, 1, (int64_t)dir);
    sqlite3_bind_int64(s, 2, (int64_t)cookie);
    int rc;
    while ((rc = tree_step(c->t, s)) > 0) {
        struct core_dirent e = {
            .cookie = U(0),
            .node = U(2),
            .type = (enum node_type)U(3),
            .name = bytes_of(sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1))};
        if (e.type == NODE_MOUNT) {
            e.type = NODE_DIR;
            if (U(4))
                e.node = U(4);
        }
        if (!fn(arg, &e))
            break;
    }
    if (rc > 0)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

int core_last_cookie(struct core *c, uint64_t *cookie)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT coalesce(max(id), 0) FROM entry");
    int rc = tree_step(c->t, s);
    *cookie = rc == 1 ? U(0) : 0;
    sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}
