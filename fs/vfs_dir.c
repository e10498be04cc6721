// SPDX-License-Identifier: Apache-2.0
/* Directories as lists: opening and reading them; and the room that there is.
 *
 * A position in a directory is the cookie of an entry in the tree, which an entry keeps as long as
 * it exists; so what others make and remove meanwhile moves nothing. What is named after reading
 * began is left out: who renames what he lists would meet it again, without end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "vfs_int.h"

#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2      /* those of the core follow, shifted by it */
#define DIRENT_BYTES 24      /* struct fuse_dirent without the name */
#define DIRENTPLUS_BYTES 152 /* struct fuse_direntplus */

int vfs_opendir(struct vfs *v, struct vfs_op *op)
{
    struct handle *h = vfs_handle(v, op->nodeid);
    if (h == NULL)
        return -ESTALE;
    int rc = vfs_newest(v, op, h->node);
    if (rc != 0)
        return rc;
    struct core_ns none = {0};
    vfs_file_open(v, op, h, &none, true);
    return 0;
}

struct fill {
    struct vfs_op *op;
    uint64_t last;    /* cookie; 0: all */
    size_t cap, left; /* left: bytes of the kernel's buffer */
};

static bool add_entry(struct fill *f, uint64_t cookie, uint64_t node, enum node_type type,
                      struct bytes name)
{
    struct vfs_op *op = f->op;
    size_t bytes = ((op->plus ? DIRENTPLUS_BYTES : DIRENT_BYTES) + name.n + 7) & ~(size_t)7;
    if (bytes > f->left)
        return false;
    if (op->entries_n == f->cap) {
        f->cap = f->cap == 0 ? 64 : f->cap * 2;
        op->entries = realloc(op->entries, f->cap * sizeof(*op->entries));
        if (op->entries == NULL)
            abort();
    }
    char *copy = malloc(name.n + 1);
    if (copy == NULL)
        abort();
    memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    op->entries[op->entries_n++] =
        (struct vfs_dirent){.cookie = cookie, .node = node, .type = type, .name = copy};
    f->left -= bytes;
    return true;
}

static bool on_entry(void *arg, const struct core_dirent *e)
{
    const struct fill *f = arg;
    if (f->last != 0 && e->cookie > f->last)
        return false;
    return add_entry(arg, e->cookie + COOKIE_DOTDOT, e->node, e->type, e->name);
}

/* Attributes and a lookup for what readdirplus lists; what is not loaded is listed without. */
static void look_up(struct vfs *v, struct handle *dir, struct vfs_dirent *e)
{
    struct core_need need;
    if (e->cookie <= COOKIE_DOTDOT || core_getattr(v->fs->core, e->node, &e->attr, &need) != 0)
        return;
    struct handle *h = handle_get(v->handles, e->attr.node);
    h->nlookup++;
    e->nodeid = h->nodeid;
    vfs_attr_shown(v, h, &e->attr);
    if (e->attr.type == NODE_DIR)
        vfs_told(h);
    if (e->attr.type == NODE_REG)
        handle_name_add(h, dir->node, bytes_str(e->name));
}

int vfs_readdir(struct vfs *v, struct vfs_op *op)
{
    struct handle *dir = vfs_handle(v, op->nodeid);
    if (dir == NULL)
        return -ESTALE;
    if (op->off == 0 && core_last_cookie(v->fs->core, &op->file->last) != 0)
        return -EIO;
    struct fill f = {.op = op, .last = op->file->last, .left = op->len};
    uint64_t parent = dir->node, from = op->off;
    if (from < COOKIE_DOT) {
        add_entry(&f, COOKIE_DOT, dir->node, NODE_DIR, bytes_str("."));
        from = COOKIE_DOT;
    }
    if (from < COOKIE_DOTDOT) {
        core_parent(v->fs->core, dir->node, &parent);
        add_entry(&f, COOKIE_DOTDOT, parent, NODE_DIR, bytes_str(".."));
        from = COOKIE_DOTDOT;
    }
    int rc = core_readdir(v->fs->core, dir->node, from - COOKIE_DOTDOT, on_entry, &f, &op->need);
    if (rc == CORE_NEED) /* what is loaded now is older than its cookies */
        op->file->last = 0;
    if (rc == 0 && op->plus)
        for (size_t i = 0; i < op->entries_n; i++)
            look_up(v, dir, &op->entries[i]);
    return rc;
}

int vfs_statfs(struct vfs *v, struct vfs_op *op)
{
    struct statvfs st;
    if (statvfs(v->fs->opt.state, &st) != 0)
        return -errno;
    op->all_bytes = (uint64_t)st.f_blocks * st.f_frsize;
    op->free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    op->all_nodes = (uint64_t)st.f_files;
    op->free_nodes = (uint64_t)st.f_favail;
    return 0;
}
