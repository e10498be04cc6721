// SPDX-License-Identifier: Apache-2.0
/* What the devices of a pair do. Every operation names its nodes by what they were in the base
 * tree, so that it can also be tried after somebody else's: then it may fail. */
#include "pair_ops.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

struct run {
    struct pair *p;
    struct device *d;
    enum who as;
    const struct place *at;
};

#define DO(r, call) DEVICE_DO((r)->p, (r)->d, (call))

static uint64_t node(const struct run *r, const char *path)
{
    uint64_t n = pair_base(r->p, path);
    assert_true(n);
    return n;
}

static uint64_t node_in(const struct run *r, const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return node(r, path);
}

static uint64_t target(const struct run *r)
{
    return node_in(r, r->at->dir, r->at->name);
}

/* A name that the other device does not use, unless both are to. */
static struct bytes new_name(const struct run *r, const char *stem, char out[32])
{
    if (r->at->taken)
        return bytes_str(r->at->taken);
    snprintf(out, 32, "%s-%s", stem, r->as == HERE ? "here" : "there");
    return bytes_str(out);
}

static int make(const struct run *r, struct bytes name, enum node_type type, uint64_t *made)
{
    struct core_attr a = {0};
    struct bytes to =
        type == NODE_SYMLINK ? bytes_str(r->as == HERE ? "x" : "y") : bytes_of(NULL, 0);
    int err = DO(r, core_create(r->d->core, &r->d->who, node(r, r->at->dir), name, type, 0644, 0,
                                to, &a, &r->d->need));
    *made = a.node;
    return err;
}

static int put(const struct run *r, uint64_t n, uint64_t off, unsigned tag)
{
    struct m_extent e = {.off = off, .len = 8, .block = {{0}}};
    e.block.b[32] = (uint8_t)((r->as == HERE ? PAIR_TAGS_HERE : PAIR_TAGS_THERE) + tag);
    const struct extent_list l = {.v = &e, .n = 1};
    int err = core_write(r->d->core, &r->d->who, n, off, 8, &l, true);
    return err;
}

static int rename_at(const struct run *r, const char *from, const char *name, const char *to,
                     struct bytes to_name, unsigned flags)
{
    uint64_t replaced;
    return DO(r, core_rename(r->d->core, &r->d->who, node(r, from), bytes_str(name), node(r, to),
                             to_name, flags, &replaced, &r->d->need));
}

static int remove_at(const struct run *r, uint64_t dir, struct bytes name, bool is_dir)
{
    uint64_t gone;
    return DO(r, core_unlink(r->d->core, &r->d->who, dir, name, is_dir, &gone, &r->d->need));
}

/* ---- files ----------------------------------------------------------------------------------- */
static int op_create(const struct run *r)
{
    char n[32];
    uint64_t made;
    int err = make(r, new_name(r, "c", n), NODE_REG, &made);
    return err ? err : put(r, made, 0, 0);
}

/* What the other device writes, too. */
static int op_create_same(const struct run *r)
{
    char n[32];
    uint64_t made;
    int err = make(r, new_name(r, "c", n), NODE_REG, &made);
    return err ? err : put(&(struct run){r->p, r->d, HERE, r->at}, made, 0, 3);
}

static int op_mkdir(const struct run *r)
{
    char n[32];
    struct core_attr a;
    uint64_t made;
    int err = make(r, new_name(r, "k", n), NODE_DIR, &made);
    if (err || !r->at->taken)
        return err;
    err = DO(r, core_create(r->d->core, &r->d->who, made,
                            bytes_str(r->as == HERE ? "in-here" : "in-there"), NODE_REG, 0644, 0,
                            bytes_of(NULL, 0), &a, &r->d->need));
    return err ? err : put(&(struct run){r->p, r->d, r->as, r->at}, a.node, 0, 2);
}

static int op_symlink(const struct run *r)
{
    char n[32];
    uint64_t made;
    return make(r, new_name(r, "y", n), NODE_SYMLINK, &made);
}

static int op_write(const struct run *r) /* in other ranges, which does not help */
{
    return put(r, target(r), r->as == HERE ? 0 : 8, 0);
}

static int op_truncate(const struct run *r)
{
    return DO(
        r, core_truncate(r->d->core, &r->d->who, target(r), r->as == HERE ? 4 : 12, &r->d->need));
}

static int op_chmod(const struct run *r)
{
    struct core_attr a = {.mode = r->as == HERE ? 0600 : 0640};
    return DO(r, core_setattr(r->d->core, &r->d->who, target(r), CORE_SET_MODE, &a, &r->d->need));
}

static int op_xattr(const struct run *r)
{
    return DO(r, core_setxattr(r->d->core, &r->d->who, target(r), bytes_str("user.k"),
                               bytes_str(r->as == HERE ? "here" : "there"), 0, &r->d->need));
}

static int op_rename(const struct run *r)
{
    char n[32];
    return rename_at(r, r->at->dir, r->at->name, r->at->dir, new_name(r, "r", n), 0);
}

static int op_move(const struct run *r)
{
    char n[32];
    return rename_at(r, r->at->dir, r->at->name, r->at->away, new_name(r, "m", n), 0);
}

static int op_move_in(const struct run *r)
{
    char n[32];
    return rename_at(r, r->at->away, r->at->other, r->at->dir, new_name(r, "i", n), 0);
}

static int op_link(const struct run *r)
{
    char n[32];
    struct core_attr a;
    return DO(r, core_link(r->d->core, &r->d->who, target(r), node(r, r->at->dir),
                           new_name(r, "l", n), &a, &r->d->need));
}

static int op_unlink(const struct run *r)
{
    return remove_at(r, node(r, r->at->dir), bytes_str(r->at->name), false);
}

static int op_rmdir(const struct run *r)
{
    return remove_at(r, node(r, r->at->dir), bytes_str(r->at->empty), true);
}

static int op_exchange(const struct run *r)
{
    return rename_at(r, r->at->dir, r->at->name, r->at->away, bytes_str(r->at->other),
                     RENAME_EXCHANGE);
}

/* With its neighbour of the same kind. */
static int op_swap(const struct run *r)
{
    return rename_at(r, r->at->dir, r->at->name, r->at->dir, bytes_str(r->at->beside),
                     RENAME_EXCHANGE);
}

/* A file with a directory, or the other way round. */
static int op_exchange_kinds(const struct run *r)
{
    return rename_at(r, r->at->dir, r->at->name, r->at->away, bytes_str(r->at->odd),
                     RENAME_EXCHANGE);
}

static int op_replace(const struct run *r)
{
    return rename_at(r, r->at->away, r->at->other, r->at->dir, bytes_str(r->at->name), 0);
}

/* What editors do: a new file beside it, renamed over it. */
static int op_save(const struct run *r)
{
    uint64_t made;
    struct bytes tmp = bytes_str(r->as == HERE ? ".tmp-here" : ".tmp-there");
    int err = make(r, tmp, NODE_REG, &made);
    if (!err)
        err = put(r, made, 0, 1);
    return err ? err
               : rename_at(r, r->at->dir, (const char *)tmp.p, r->at->dir, bytes_str(r->at->name),
                           0);
}

/* ---- directories ----------------------------------------------------------------------------- */
struct listing {
    struct {
        uint64_t node;
        enum node_type type;
        char name[64];
    } v[16];
    size_t n;
};

static bool list_add(void *arg, const struct core_dirent *e)
{
    struct listing *l = arg;
    assert_true(l->n < 16 && e->name.n < 64);
    l->v[l->n].node = e->node;
    l->v[l->n].type = e->type;
    memcpy(l->v[l->n].name, e->name.p, e->name.n);
    l->v[l->n++].name[e->name.n] = 0;
    return true;
}

/* Everything in it. */
static int empty(const struct run *r, uint64_t dir)
{
    struct listing l = {0};
    int err = DO(r, core_readdir(r->d->core, dir, 0, list_add, &l, &r->d->need));
    for (size_t i = 0; !err && i < l.n; i++) {
        bool is_dir = l.v[i].type == NODE_DIR;
        if (is_dir)
            err = empty(r, l.v[i].node);
        if (!err)
            err = remove_at(r, dir, bytes_str(l.v[i].name), is_dir);
    }
    return err;
}

static int op_rm_r(const struct run *r)
{
    int err = empty(r, target(r));
    return err ? err : remove_at(r, node(r, r->at->dir), bytes_str(r->at->name), true);
}

static int op_replace_dir(const struct run *r)
{
    int err = empty(r, target(r));
    return err ? err : op_replace(r);
}

/* One moves the directory into the other one, the other device that one into it. */
static int op_into(const struct run *r)
{
    char other[64], mine[64];
    snprintf(other, sizeof other, "%s/q", r->at->away);
    snprintf(mine, sizeof mine, "%s/%s", r->at->dir, r->at->name);
    if (r->as == HERE)
        return rename_at(r, r->at->dir, r->at->name, other, bytes_str("into"), 0);
    return rename_at(r, r->at->away, "q", mine, bytes_str("into"), 0);
}

static const struct {
    const char *name;
    int (*fn)(const struct run *r);
} ops[] = {
    {"create", op_create},
    {"mkdir", op_mkdir},
    {"symlink", op_symlink},
    {"write", op_write},
    {"truncate", op_truncate},
    {"chmod", op_chmod},
    {"xattr", op_xattr},
    {"rename", op_rename},
    {"move", op_move},
    {"move in", op_move_in},
    {"link", op_link},
    {"unlink", op_unlink},
    {"rmdir", op_rmdir},
    {"exchange", op_exchange},
    {"replace", op_replace},
    {"save", op_save},
    {"rm -r", op_rm_r},
    {"replace dir", op_replace_dir},
    {"into", op_into},
    {"swap", op_swap},
    {"exchange kinds", op_exchange_kinds},
    {"create same", op_create_same},
};

int pair_do(struct pair *p, struct device *d, enum who as, const struct place *at, const char *op)
{
    struct run r = {.p = p, .d = d, .as = as, .at = at};
    d->who.now += 1000;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (!strcmp(ops[i].name, op))
            return ops[i].fn(&r);
    fail_msg("there is no operation '%s'", op);
    return -ENOSYS;
}
