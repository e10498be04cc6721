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
#include <sys/stat.h>

#include "acl.h"
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

static bool starts(struct bytes name, const char *with)
{
    return name.n > strlen(with) && memcmp(name.p, with, strlen(with)) == 0;
}

/* Whether attributes of this kind are kept. */
static bool is_kept(struct bytes name)
{
    return starts(name, "user.") || starts(name, "trusted.") || starts(name, "security.") ||
           acl_is_name(name);
}

static int stored_value(struct vfs *v, struct vfs_op *op, const struct handle *h, struct buf *value)
{
    struct core_attr a;
    int rc = core_getxattr(v->fs->core, h->node, op->name, value, &op->need);
    if (rc == 0)
        vfs_map_list(v, op->name, value->p, value->n, false);
    if (rc != 0 || !bytes_equal(op->name, bytes_str(ACL_ACCESS)))
        return rc;
    rc = core_getattr(v->fs->core, h->node, &a, &op->need);
    if (rc == 0)
        acl_apply_mode(value->p, value->n, a.mode);
    return rc;
}

int vfs_getxattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    if (!is_kept(op->name))
        return -EOPNOTSUPP;
    cleanup_buf struct buf value = {0};
    int rc = own_name(op->name) ? own_value(v, op, h, &value) : stored_value(v, op, h, &value);
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

/* The access list: the mode follows it, and a list that says no more than the mode is not kept. */
static int set_access_list(struct vfs *v, struct vfs_op *op, const struct handle *h,
                           const struct core_attr *now, uint32_t bits, bool extended)
{
    struct core *c = v->fs->core;
    struct core_who who = vfs_who(op);
    struct core_attr a = {.mode = (now->mode & ~0777u) | bits};
    if (op->kill_priv)
        a.mode &= ~(uint32_t)S_ISGID;
    cleanup_buf struct buf old = {0};
    int had = core_getxattr(c, h->node, op->name, &old, &op->need);
    if (had != 0 && had != -ENODATA)
        return had;
    int rc = core_begin(c);
    if (rc != 0)
        return rc;
    if (extended || had == 0)
        rc = core_setxattr(c, &who, h->node, op->name, extended ? op->data : (struct bytes){0}, 0,
                           &op->need);
    if (rc == 0 && a.mode != now->mode)
        rc = core_setattr(c, &who, h->node, CORE_SET_MODE, &a, &op->need);
    int ended = core_end(c, rc == 0);
    return rc != 0 ? rc : ended;
}

/* op->data: as it is to be stored. */
static int set_stored_list(struct vfs *v, struct vfs_op *op, const struct handle *h)
{
    struct core_who who = vfs_who(op);
    struct core_attr a;
    uint32_t bits;
    bool extended, access = bytes_equal(op->name, bytes_str(ACL_ACCESS));
    int rc = core_getattr(v->fs->core, h->node, &a, &op->need);
    if (rc != 0)
        return rc == -ENOENT ? -ESTALE : rc;
    if (a.type == NODE_SYMLINK)
        return -EOPNOTSUPP;
    if (!access && a.type != NODE_DIR)
        return -EACCES;
    if (op->data.p != NULL && (rc = acl_read(op->data, &bits, &extended)) != 0)
        return rc;
    if (access && op->data.p != NULL)
        return set_access_list(v, op, h, &a, bits, extended);
    rc = core_setxattr(v->fs->core, &who, h->node, op->name, op->data, op->flags, &op->need);
    return op->data.p == NULL && rc == -ENODATA ? 0 : rc;
}

static int set_list(struct vfs *v, struct vfs_op *op, const struct handle *h)
{
    struct bytes asked = op->data;
    if (v->owners == NULL || asked.p == NULL)
        return set_stored_list(v, op, h);
    cleanup_buf struct buf list = {0};
    buf_append(&list, asked.p, asked.n);
    vfs_map_list(v, op->name, list.p, list.n, true);
    op->data = bytes_of(list.p, list.n);
    int rc = set_stored_list(v, op, h);
    op->data = asked; /* it may be run again */
    return rc;
}

int vfs_setxattr(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    if (own_name(op->name))
        return -EPERM;
    if (!is_kept(op->name))
        return -EOPNOTSUPP;
    struct core_who who = vfs_who(op);
    int rc = acl_is_name(op->name) ? set_list(v, op, h)
                                   : core_setxattr(v->fs->core, &who, h->node, op->name, op->data,
                                                   op->flags, &op->need);
    if (rc == 0)
        sync_kick(v->fs->sync);
    return rc;
}
