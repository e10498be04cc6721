// SPDX-License-Identifier: Apache-2.0
/* What a metadata server may say of namespaces, nodes, names and contents, in records and where it
 * is asked: a server that lies, or whose database is damaged, makes no tree here that programs trip
 * over, and no name that leads out of its directory. */
#include "core_int.h"

#include <string.h>

bool inode_valid(const struct m_inode *n)
{
    return n->node && n->type > NODE_NONE && n->type <= NODE_MOUNT && n->size <= FILE_SIZE_MAX &&
           n->stored <= FILE_SIZE_MAX && n->nlink <= INT32_MAX;
}

static bool name_valid(struct bytes name)
{
    bool dots = name.n && name.n <= 2 && memcmp(name.p, "..", name.n) == 0;
    return name.n && name.n <= NAME_LEN_MAX && !dots && !memchr(name.p, '/', name.n) &&
           !memchr(name.p, 0, name.n);
}

/* Its name is a directory's where parked changes are exported to. */
bool ns_valid(const struct m_namespace *n)
{
    return n->id && n->root && n->id <= INT64_MAX && n->root <= INT64_MAX && name_valid(n->name);
}

bool entry_valid(const struct m_entry *e)
{
    if (!e->parent || !name_valid(e->name))
        return false;
    return !e->node || (e->inode_set && e->inode.node == e->node && inode_valid(&e->inode));
}

bool xattr_valid(const struct m_xattr *x)
{
    return x->name.n && x->name.n <= XATTR_NAME_MAX && !memchr(x->name.p, 0, x->name.n);
}

static bool content_valid(const struct m_content *k)
{
    uint64_t at = 0;
    for (size_t i = 0; i < k->ranges_n; i++) {
        const struct m_range *r = &k->ranges[i];
        if (r->off < at || r->off > FILE_SIZE_MAX || r->len > FILE_SIZE_MAX - r->off ||
            extent_check(r->extents, r->extents_n, r->off, r->len))
            return false;
        at = r->off + r->len;
    }
    return true;
}

bool record_valid(const struct m_record *r)
{
    bool ok = true;
    for (size_t i = 0; ok && i < r->inodes_n; i++)
        ok = inode_valid(&r->inodes[i]);
    for (size_t i = 0; ok && i < r->entries_n; i++)
        ok = entry_valid(&r->entries[i]);
    for (size_t i = 0; ok && i < r->contents_n; i++)
        ok = content_valid(&r->contents[i]);
    for (size_t i = 0; ok && i < r->xattrs_n; i++)
        ok = r->xattrs[i].node && xattr_valid(&r->xattrs[i]);
    return ok;
}
