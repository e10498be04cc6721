// SPDX-License-Identifier: Apache-2.0
/* steadfs namespace … and share …: what an account does with its namespaces; and how namespaces are
 * made and assigned.
 *
 * A mount node is made and removed by a commit of the metadata server itself, as device 0, in the
 * account's root namespace: clients see it in the journal like any other change, and its record
 * tells them to ask for a session again.
 */
#include "command.h"
#include "keys.h"
#include "replicas.h"

#include <errno.h>
#include <string.h>

int meta_ns_create(struct meta *m, struct bytes name, int64_t now_ms, uint64_t *ns)
{
    struct m_inode root = {.type = NODE_DIR, .mode = 0755, .nlink = 2, .mtime = now_ms * 1000000};
    struct ns_row row = {.name = name};
    uint64_t counter;
    root.ctime = root.mtime;
    int r = m->st->ops->setting_next(m->st, "next_root", &counter);
    if (r)
        return r;
    row.root = root.node = NODE_ID(0, counter);
    r = m->st->ops->ns_add(m->st, &row);
    if (r)
        return r;
    *ns = row.id;
    return m->st->ops->inode_put(m->st, row.id, 0, &root);
}

/* Ranks of those that were assigned before and are not named now: behind all others, in their
 * order, equal ones equal. */
static int move_back(struct meta *m, uint64_t ns, const struct server_row *had, size_t had_n,
                     const struct server_row *first, size_t n, uint64_t *total)
{
    uint64_t rank = 0, before = 0;
    bool any = false;
    int r = 0;
    *total = n;
    for (size_t k = 0; k < n; k++)
        rank = first[k].priority >= rank ? first[k].priority + 1 : rank;
    for (size_t k = 0; k < had_n && !r; k++) {
        bool again = false;
        for (size_t j = 0; j < n; j++)
            again |= first[j].id == had[k].id;
        if (again)
            continue;
        rank += any && had[k].priority != before;
        any = true;
        before = had[k].priority;
        r = m->st->ops->assign(m->st, ns, had[k].id, rank);
        ++*total;
    }
    return r;
}

int meta_assign(struct meta *m, uint64_t ns, const struct server_row *first, size_t n,
                struct arena *ar)
{
    struct server_row *had;
    size_t had_n;
    uint64_t total = 0;
    int r = m->st->ops->assigned(m->st, ns, &had, &had_n, ar);
    if (!r)
        r = move_back(m, ns, had, had_n, first, n, &total);
    if (!r && total > CANDIDATES_MAX)
        return -E2BIG;
    for (size_t k = 0; k < n && !r; k++) {
        bool there = false;
        for (size_t j = 0; j < had_n; j++)
            there |= had[j].id == first[k].id && !had[j].leaving;
        r = m->st->ops->assign(m->st, ns, first[k].id, first[k].priority);
        if (!r && !there)
            r = replicas_assigned(m, ns, first[k].id);
    }
    return r;
}

int meta_touch_members(struct meta *m, uint64_t ns, struct arena *ar)
{
    struct member_row *v;
    size_t n;
    int r = m->st->ops->member_list(m->st, ns, &v, &n, ar);
    for (size_t k = 0; k < n && !r; k++)
        r = meta_touch(m, v[k].account);
    return r;
}

int meta_touch_everybody(struct meta *m, struct arena *ar)
{
    struct account_row *v;
    size_t n;
    int r = m->st->ops->account_list(m->st, &v, &n, ar);
    for (size_t k = 0; k < n && !r; k++)
        r = meta_touch(m, v[k].id);
    return r;
}

/* A namespace that the caller is a member of, by name; others do not exist for him. */
static int find_mine(struct cmd *c, struct bytes name, struct ns_row *row, bool *found)
{
    int r = c->m->st->ops->ns_find(c->m->st, name, row, c->ar);
    row->role = ROLE_NONE;
    if (!r)
        r = c->m->st->ops->member_role(c->m->st, row->id, c->who->account, &row->role);
    *found = !r && row->role != ROLE_NONE;
    if (!*found && (!r || r == -ENOENT))
        return cmd_fail(c, EXIT_FAILED,
                        "you are a member of no namespace %.*s; see steadfs namespace list",
                        PRB(name));
    return r;
}

/* How many namespaces the account is a member of, and how many of them it owns. */
static int count_namespaces(struct cmd *c, uint64_t account, size_t *n, size_t *owned)
{
    struct ns_row *v;
    int r = c->m->st->ops->ns_list(c->m->st, account, &v, n, c->ar);
    *owned = 0;
    for (size_t k = 0; k < *n && !r; k++)
        *owned += v[k].role == ROLE_OWNER;
    return r;
}

/* What limits the account's own folder limits what it makes beside it: its walls and its quota. */
static int as_the_root(struct cmd *c, uint64_t ns, const struct ns_row *root,
                       const struct bytes *onsite, size_t onsite_n)
{
    const struct store_ops *ops = c->m->st->ops;
    struct ns_row row;
    int r = ops->onsite_set(c->m->st, ns, onsite, onsite_n);
    if (!r)
        r = ops->ns_get(c->m->st, ns, &row, c->ar);
    row.quota_bytes = root->quota_bytes;
    row.quota_nodes = root->quota_nodes;
    return r ? r : ops->ns_set(c->m->st, &row);
}

int cmd_ns_create(struct cmd *c)
{
    const struct store_ops *ops = c->m->st->ops;
    struct account_row a;
    struct server_row *servers;
    struct bytes *onsite;
    struct ns_row root;
    size_t n, onsite_n, all, owned, stay = 0;
    uint64_t ns;
    if (!meta_name_ok(c->arg[0]))
        return cmd_fail(c, EXIT_FAILED,
                        "a namespace's name is 1 to 64 letters, digits, '-', '_' or '.'");
    int r = count_namespaces(c, c->who->account, &all, &owned);
    if (!r && owned >= NS_OWNED_MAX)
        return cmd_fail(c, EXIT_REFUSED,
                        "refused: you own %u namespaces, which is as many as an account may",
                        NS_OWNED_MAX);
    if (!r)
        r = ops->account_get(c->m->st, c->who->account, &a, c->ar);
    if (!r)
        r = ops->ns_get(c->m->st, a.root_ns, &root, c->ar);
    if (!r)
        r = ops->assigned(c->m->st, a.root_ns, &servers, &n, c->ar);
    if (!r)
        r = ops->onsite_list(c->m->st, a.root_ns, &onsite, &onsite_n, c->ar);
    if (r)
        return r;
    for (size_t k = 0; k < n; k++)
        if (!servers[k].leaving && !servers[k].evacuating)
            servers[stay++] = servers[k];
    r = meta_ns_create(c->m, c->arg[0], c->now_ms, &ns);
    if (r == -EEXIST)
        return cmd_fail(c, EXIT_FAILED, "the name %.*s is taken; choose another", PRB(c->arg[0]));
    if (!r)
        r = ops->member_set(c->m->st, ns, a.id, ROLE_OWNER);
    if (!r)
        r = as_the_root(c, ns, &root, onsite, onsite_n);
    if (!r)
        r = meta_assign(c->m, ns, servers, stay, c->ar);
    return r ? r : meta_touch(c->m, a.id);
}

/* ---- paths
 * -------------------------------------------------------------------------------------------------
 */
struct place {
    struct ns_row ns; /* the account's root namespace */
    uint64_t parent;
    struct bytes name;
    struct entry_row entry; /* node 0: absent */
};

static struct bytes next_part(struct bytes *path)
{
    while (path->n && path->p[0] == '/')
        *path = bytes_of(path->p + 1, path->n - 1);
    const uint8_t *slash = path->n ? memchr(path->p, '/', path->n) : NULL;
    struct bytes part = bytes_of(path->p, slash ? (size_t)(slash - path->p) : path->n);
    *path = bytes_of(path->p + part.n, path->n - part.n);
    while (path->n && path->p[0] == '/')
        *path = bytes_of(path->p + 1, path->n - 1);
    return part;
}

/* Follows a path from the root of the account's root namespace to its last name. */
static int resolve(struct cmd *c, struct bytes path, struct place *p, bool *found)
{
    const struct store_ops *ops = c->m->st->ops;
    struct account_row a;
    struct bytes whole = path;
    *found = false;
    memset(p, 0, sizeof *p);
    int r = ops->account_get(c->m->st, c->who->account, &a, c->ar);
    if (!r)
        r = ops->ns_get(c->m->st, a.root_ns, &p->ns, c->ar);
    if (r)
        return r;
    p->parent = p->ns.root;
    p->name = next_part(&path);
    if (!p->name.n)
        return cmd_fail(c, EXIT_FAILED,
                        "that is the root of your own namespace, which is no other's place");
    for (;;) {
        bool dots = p->name.n && p->name.n <= 2 && memcmp(p->name.p, "..", p->name.n) == 0;
        if (!p->name.n || p->name.n > NAME_LEN_MAX || dots || memchr(p->name.p, 0, p->name.n))
            return cmd_fail(c, EXIT_FAILED, "%.*s: no path to a name below the root", PRB(whole));
        p->entry = (struct entry_row){0};
        r = ops->entry_get(c->m->st, p->ns.id, p->parent, p->name, STORE_NOW, &p->entry);
        if (r && r != -ENOENT)
            return r;
        if (!path.n)
            break;
        if (p->entry.type == NODE_MOUNT)
            return cmd_fail(
                c, EXIT_FAILED,
                "%.*s lies in another namespace; namespaces are mounted in your root only",
                PRB(whole));
        if (p->entry.type != NODE_DIR)
            return cmd_fail(c, EXIT_FAILED, "%.*s: there is no directory for it; make it first",
                            PRB(whole));
        p->parent = p->entry.node;
        p->name = next_part(&path);
    }
    *found = true;
    return 0;
}

/* The commit of device 0 that changes p's entry; the directory's times move along. */
static int commit_place(struct cmd *c, const struct place *p, uint64_t mount, uint64_t target)
{
    char why[WHY_LEN] = "";
    int64_t now_ns = c->now_ms * 1000000;
    struct m_node_change nodes[2] = {
        {.node = p->parent, .facets = FACET_TIMES, .mtime = now_ns, .ctime = now_ns},
        {.node = mount,
         .facets = FACET_CREATE,
         .type = NODE_MOUNT,
         .mode = 0755,
         .mtime = now_ns,
         .ctime = now_ns},
    };
    struct m_entry_change entry = {.parent = p->parent,
                                   .name = p->name,
                                   .base_node = p->entry.node,
                                   .base_rev = p->entry.rev,
                                   .node = mount};
    struct m_changes changes = {
        .nodes = nodes, .nodes_n = mount ? 2 : 1, .entries = &entry, .entries_n = 1};
    int r = commit_by_server(c->m, p->ns.id, &changes, target, c->now_ms, why);
    if (r == -EINVAL || r == -EEXIST || r == -ENOTDIR)
        return cmd_fail(c, EXIT_FAILED, "%s", why);
    return r;
}

int cmd_ns_mount(struct cmd *c)
{
    const struct store_ops *ops = c->m->st->ops;
    struct mount_row have;
    struct ns_row target;
    struct place p;
    uint64_t counter;
    bool found;
    int r = find_mine(c, c->arg[0], &target, &found);
    if (!found)
        return r;
    r = resolve(c, c->arg[1], &p, &found);
    if (!found)
        return r;
    if (target.id == p.ns.id)
        return cmd_fail(c, EXIT_FAILED, "%.*s is your root namespace: it is mounted already",
                        PRB(c->arg[0]));
    if (p.entry.node)
        return cmd_fail(c, EXIT_FAILED, "%.*s exists already; choose a name that is free",
                        PRB(c->arg[1]));
    r = ops->mount_find(c->m->st, p.ns.id, target.id, &have);
    if (!r)
        return cmd_fail(c, EXIT_FAILED, "%.*s is mounted already; unmount it there first",
                        PRB(c->arg[0]));
    if (r != -ENOENT)
        return r;
    r = ops->setting_next(c->m->st, "next_root", &counter);
    if (!r)
        r = commit_place(c, &p, NODE_ID(0, counter), target.id);
    if (r || c->status)
        return r;
    have = (struct mount_row){.ns = p.ns.id, .node = NODE_ID(0, counter), .target = target.id};
    r = ops->mount_add(c->m->st, &have);
    return r ? r : meta_touch(c->m, c->who->account);
}

int cmd_ns_unmount(struct cmd *c)
{
    struct place p;
    bool found;
    int r = resolve(c, c->arg[0], &p, &found);
    if (!found)
        return r;
    if (p.entry.type != NODE_MOUNT)
        return cmd_fail(c, EXIT_FAILED, "%.*s: no namespace is mounted there", PRB(c->arg[0]));
    r = commit_place(c, &p, 0, 0);
    return r || c->status ? r : meta_touch(c->m, c->who->account);
}

/* A place deeper than DEPTH_MAX: a deep tree was moved into another. */
int cmd_path_of(struct cmd *c, uint64_t ns, uint64_t root, uint64_t node, struct bytes *path)
{
    struct bytes *names = arena_alloc(c->ar, DEPTH_MAX * sizeof *names);
    size_t n = 0;
    while (node != root && n < DEPTH_MAX) {
        int r = c->m->st->ops->entry_of(c->m->st, ns, node, &node, &names[n++], c->ar);
        if (r)
            return r == -ENOENT ? -EUCLEAN : r; /* every open node has a name */
    }
    cleanup_buf struct buf out = {0};
    if (node != root)
        buf_append(&out, "...", 3);
    while (n-- > 0) {
        buf_append(&out, "/", 1);
        buf_append(&out, names[n].p, names[n].n);
    }
    *path = arena_bytes(c->ar, out.p, out.n);
    return 0;
}

static const char *const roles[] = {"none", "viewer", "editor", "owner"};

int cmd_ns_list(struct cmd *c)
{
    const struct store_ops *ops = c->m->st->ops;
    struct account_row a;
    struct ns_row *v, root = {0};
    size_t n = 0;
    int r = ops->account_get(c->m->st, c->who->account, &a, c->ar);
    if (!r)
        r = ops->ns_get(c->m->st, a.root_ns, &root, c->ar);
    if (!r)
        r = ops->ns_list(c->m->st, a.id, &v, &n, c->ar);
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; !r && k < n; k++) {
        struct mount_row mount;
        struct bytes path = bytes_str(v[k].id == root.id ? "/" : "");
        r = ops->mount_find(c->m->st, root.id, v[k].id, &mount);
        if (!r)
            r = cmd_path_of(c, root.id, root.root, mount.node, &path);
        else if (r == -ENOENT)
            r = 0;
        if (c->json) {
            buf_printf(&c->out, "%s{\"id\": %llu, \"name\": ", k ? ", " : "",
                       (unsigned long long)v[k].id);
            cmd_json(c, v[k].name);
            buf_printf(&c->out, ", \"role\": \"%s\", \"path\": ", roles[v[k].role & 3]);
            cmd_json(c, path);
            buf_printf(&c->out, ", \"used_bytes\": %llu, \"quota_bytes\": %llu}",
                       (unsigned long long)v[k].used_bytes, (unsigned long long)v[k].quota_bytes);
        } else {
            buf_printf(&c->out, "%-16.*s %-7s ", PRB(v[k].name), roles[v[k].role & 3]);
            cmd_text(c, path.n ? path : bytes_str("not mounted"));
            buf_printf(&c->out, "\n");
        }
    }
    if (c->json)
        buf_printf(&c->out, "]\n");
    return r;
}

/* ---- sharing
 * -----------------------------------------------------------------------------------------------
 */
static int is_root_ns(struct cmd *c, const struct ns_row *ns, bool *root)
{
    struct account_row a;
    int r = c->m->st->ops->account_find(c->m->st, ns->name, &a, c->ar);
    *root = !r && a.root_ns == ns->id;
    return r == -ENOENT ? 0 : r;
}

static int other_owner(struct cmd *c, uint64_t ns, uint64_t account, bool *other)
{
    struct member_row *v;
    size_t n;
    int r = c->m->st->ops->member_list(c->m->st, ns, &v, &n, c->ar);
    *other = false;
    for (size_t k = 0; !r && k < n; k++)
        *other |= v[k].role == ROLE_OWNER && v[k].account != account;
    return r;
}

/* Whether the account may be given the role by others; complains if not. */
static int may_be_given(struct cmd *c, const struct account_row *a, enum role had, enum role role,
                        bool *yes)
{
    size_t n, owned;
    *yes = role <= had || a->id == c->who->account;
    int r = *yes ? 0 : count_namespaces(c, a->id, &n, &owned);
    if (r || *yes)
        return r;
    if (had == ROLE_NONE && n >= NS_SHARED_MAX)
        return cmd_fail(c, EXIT_REFUSED,
                        "refused: %.*s is a member of %u namespaces, and of no more by being given "
                        "them",
                        PRB(a->name), NS_SHARED_MAX);
    if (role == ROLE_OWNER && owned >= NS_GIVEN_MAX)
        return cmd_fail(c, EXIT_REFUSED,
                        "refused: %.*s owns %u namespaces, and no more by being given them",
                        PRB(a->name), NS_GIVEN_MAX);
    *yes = true;
    return 0;
}

/* Whether it is the caller who takes himself off: that, any member may. */
static int leaves(struct cmd *c, enum role role, bool *yes)
{
    struct account_row a;
    int r = c->m->st->ops->account_get(c->m->st, c->who->account, &a, c->ar);
    *yes = !r && role == ROLE_NONE && bytes_equal(a.name, c->arg[1]);
    return r;
}

int cmd_share(struct cmd *c)
{
    const struct store_ops *ops = c->m->st->ops;
    struct account_row a;
    struct ns_row ns;
    uint64_t role = 0, had = 0;
    bool found, flag;
    while (role < 4 && !bytes_equal(c->arg[2], bytes_str(roles[role])))
        role++;
    if (role == 4)
        return cmd_fail(c, EXIT_USAGE, "a role is viewer, editor, owner or none, not %.*s",
                        PRB(c->arg[2]));
    int r = find_mine(c, c->arg[0], &ns, &found);
    if (!found)
        return r;
    r = leaves(c, (enum role)role, &flag);
    if (r || (ns.role != ROLE_OWNER && !flag))
        return r ? r
                 : cmd_fail(c, EXIT_REFUSED, "refused: only an owner of %.*s may share it",
                            PRB(ns.name));
    r = is_root_ns(c, &ns, &flag);
    if (r || flag)
        return r ? r
                 : cmd_fail(
                       c, EXIT_FAILED,
                       "a root namespace cannot be shared; make one with steadfs namespace create");
    r = cmd_find_account(c, c->arg[1], &a, &found);
    if (!found)
        return r;
    r = other_owner(c, ns.id, a.id, &flag);
    if (r || (!flag && role != ROLE_OWNER))
        return r ? r
                 : cmd_fail(c, EXIT_FAILED,
                            "%.*s would have no owner; make another account owner first",
                            PRB(ns.name));
    r = ops->member_role(c->m->st, ns.id, a.id, &had);
    if (!r)
        r = may_be_given(c, &a, (enum role)had, (enum role)role, &flag);
    if (r || !flag)
        return r;
    r = ops->member_set(c->m->st, ns.id, a.id, role);
    if (!r && role < had) /* what he has in hand gives more than he may now */
        r = keys_revoke(c->m, ns.id, a.id, 0, c->now_ms);
    return r ? r : meta_touch(c->m, a.id);
}
