// SPDX-License-Identifier: Apache-2.0
/* Extended attributes: those of the node, and the mount's own under `user.steadfs.`, which tell
 * programs about sync and appear in no list, so that cp -a and rsync -X do not carry them along:
 *
 *   control    path of the mount's control socket
 *   node, namespace   decimal numbers
 *   state      synced | pending | uploading | parked
 *   blocks     a line per extent of the file: OFFSET LENGTH HEX
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vfs_int.h"

#define PREFIX "user.steadfs."

static bool own_name(struct bytes name)
{
    return name.n >= strlen(PREFIX) && memcmp(name.p, PREFIX, strlen(PREFIX)) == 0;
}

static int state_of(struct vfs *v, const struct handle *h, struct buf *out)
{
    struct core_barrier b;
    int rc = core_barrier(v->fs->core, h->node, &b);
    if (rc != 0)
        return rc;
    const char *state = b.parked != 0                         ? "parked"
                        : b.dirty || wb_dirty(v->wb, h->node) ? "pending"
                        : b.request != 0                      ? "uploading"
                                                              : "synced";
    buf_printf(out, "%s", state);
    return 0;
}

static int blocks_of(struct vfs *v, struct vfs_op *op, const struct handle *h, struct buf *out)
{
    int rc = wb_flush(v->wb, h->node, &op->ticket);
    if (rc != 0)
        return rc;
    cleanup_extents struct extent_list l = {0};
    rc = h->old != NULL ? vfs_old_extents(v, h, 0, h->old->size, &l, &op->need)
                        : core_extents(v->fs->core, h->node, 0, FILE_SIZE_MAX, &l, &op->need);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        char hex[BLOCK_HEX_LEN + 1];
        block_id_hex(&l.v[i].block, hex);
        buf_printf(out, "%llu %llu %s\n", (unsigned long long)l.v[i].off,
                   (unsigned long long)l.v[i].len, hex);
    }
    return rc;
}

static int own_value(struct vfs *v, struct vfs_op *op, const struct handle *h, struct buf *out)
{
    struct bytes key = {op->name.p + strlen(PREFIX), op->name.n - strlen(PREFIX)};
    struct core_attr a;
    int rc = core_getattr(v->fs->core, h->node, &a, &op->need);
    if (rc != 0)
        return rc;
    if (bytes_equal(key, bytes_str("control")))
        buf_printf(out, "%s", v->fs->control_path);
    else if (bytes_equal(key, bytes_str("node")))
        buf_printf(out, "%llu", (unsigned long long)h->node);
    else if (bytes_equal(key, bytes_str("namespace")))
        buf_printf(out, "%llu", (unsigned long long)a.ns);
    else if (bytes_equal(key, bytes_str("state")))
        rc = state_of(v, h, out);
    else if (bytes_equal(key, bytes_str("blocks")) && a.type == NODE_REG)
        rc = blocks_of(v, op, h, out);
    else
        rc = -ENODATA;
    return rc;
}

/* Gives the value, or its length when the caller asked for that (size 0). */
static int give(struct vfs_op *op, struct buf *value, size_t max)
{
    op->result = value->n;
    if (op->len == 0)
        return 0;
    if (value->n > max)
        return -E2BIG;
    if (value->n > op->len)
        return -ERANGE;
    op->out = value->p != NULL ? value->p : calloc(1, 1);
    op->out_n = value->n;
    *value = (struct buf){0};
    return 0;
}

int vfs_getxattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    cleanup_buf struct buf value = {0};
    int rc = own_name(op->name) ? own_value(v, op, h, &value)
                                : core_getxattr(v->fs->core, h->node, op->name, &value, &op->need);
    return rc != 0 ? rc : give(op, &value, XATTR_VALUE_MAX);
}

int vfs_listxattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    cleanup_buf struct buf names = {0};
    int rc = core_listxattr(v->fs->core, h->node, &names, &op->need);
    return rc != 0 ? rc : give(op, &names, XATTR_VALUE_MAX);
}

int vfs_setxattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    static const char acl[] = "system.posix_acl_";
    if (own_name(op->name))
        return -EPERM;
    if (op->name.n >= strlen(acl) && memcmp(op->name.p, acl, strlen(acl)) == 0)
        return -EOPNOTSUPP;
    struct core_who who = vfs_who(op);
    int rc = core_setxattr(v->fs->core, &who, h->node, op->name, op->data, op->flags, &op->need);
    if (rc == 0)
        sync_kick(v->fs->sync);
    return rc;
}
