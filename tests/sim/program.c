// SPDX-License-Identifier: Apache-2.0
/* What programs do: random operations on few names in a small tree, so that clients collide.
 *
 * An operation draws everything from a seed of its own. When the core needs something loaded, the
 * operation is kept and done again from the start later, as the mount does it. Errors that a
 * program may meet are fine; others fail the run. Bytes that an operation overwrites, cuts off or
 * unlinks are taken off the ledger: all that this client could have read there, whether its tree
 * knows it or would have to load it.
 */
#include "program.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#define TRIES_MAX 12 /* of an operation that needs something loaded */

#define SHARED_PERCENT 75 /* of what is done in a run of two accounts: in what they share */

static const char *const names[] = {"a", "b", "c.txt", "d"};
#define DRAFT "~" /* what is to be saved under one of them */
static const char *const op_names[OP_KINDS] = {
    "create", "mkdir",    "symlink", "mknod",   "tmpfile",  "link",      "unlink",
    "rmdir",  "rename",   "write",   "append",  "truncate", "clone",     "setattr",
    "utimes", "setxattr", "read",    "readdir", "open",     "close",     "hwrite",
    "fsync",  "fsyncdir", "draft",   "save",    "recut",    "fsynclocal"};

static struct bytes a_name(struct attempt *t)
{
    return bytes_str(names[rng_below(&t->r, t->c->s->p.names)]);
}

/* A random directory: from the root down. */
static int a_dir(struct attempt *t, uint64_t *dir)
{
    struct core_attr a;
    int err = core_getattr(t->core, t->c->root, &a, &t->need);
    *dir = t->c->root;
    if (!err && t->c->s->p.share && rng_percent(&t->r, SHARED_PERCENT)) {
        err = core_lookup(t->core, *dir, bytes_str("team"), &a, &t->need);
        *dir = a.node;
    }
    for (unsigned depth = rng_below(&t->r, t->c->s->p.depth + 1); !err && depth; depth--) {
        err = core_lookup(t->core, *dir, a_name(t), &a, &t->need);
        if (err == -ENOENT || (!err && a.type != NODE_DIR))
            return 0;
        if (!err)
            *dir = a.node;
    }
    return err;
}

/* A random name, existing or not (-ENOENT). */
static int a_place(struct attempt *t, struct place *p)
{
    int err = a_dir(t, &p->dir);
    p->name = a_name(t);
    return err ? err : core_lookup(t->core, p->dir, p->name, &p->a, &t->need);
}

int program_file(struct attempt *t, struct place *p)
{
    int err = a_place(t, p);
    return err ? err : p->a.type == NODE_REG ? 0 : -EISDIR;
}

void program_say_place(struct attempt *t, const struct place *p)
{
    size_t n = strlen(t->text);
    snprintf(t->text + n, sizeof t->text - n, " %llx/%.*s", (unsigned long long)p->dir,
             (int)p->name.n, (const char *)p->name.p);
}

void program_say(struct attempt *t, const char *what, uint64_t v)
{
    size_t n = strlen(t->text);
    snprintf(t->text + n, sizeof t->text - n, " %s %llx", what, (unsigned long long)v);
}

uint64_t program_length(struct attempt *t)
{
    return UNIT * (1 + rng_below(&t->r, BLOCK_LEN_MAX / UNIT));
}

static bool count_name(void *arg, const struct core_dirent *e)
{
    (void)e;
    ++*(unsigned *)arg;
    return true;
}

static int op_read(struct attempt *t)
{
    struct extent_list l cleanup_extents = {0};
    struct place p;
    int err = program_file(t, &p);
    return err ? err : core_extents(t->core, p.a.node, 0, FILE_MAX, &l, &t->need);
}

static int op_readdir(struct attempt *t)
{
    uint64_t dir;
    unsigned n = 0;
    int err = a_dir(t, &dir);
    return err ? err : core_readdir(t->core, dir, 0, count_name, &n, &t->need);
}

/* ---- names
 * ---------------------------------------------------------------------------------------------- */
static int make(struct attempt *t, enum node_type type)
{
    struct place p;
    int err = a_place(t, &p);
    if (err != -ENOENT)
        return err ? err : -EEXIST;
    program_say_place(t, &p);
    uint64_t rdev = type == NODE_CHR ? 259 : 0;
    struct bytes target =
        type == NODE_SYMLINK ? bytes_str(names[rng_below(&t->r, 4)]) : bytes_of(NULL, 0);
    uint32_t mode = 0600 + (rng_percent(&t->r, 50) ? 0 : rng_below(&t->r, 64));
    err = core_create(t->core, &t->who, p.dir, p.name, type, mode, rdev, target, &p.a, &t->need);
    if (!err) {
        program_say(t, "is", p.a.node);
        if (type == NODE_REG)
            observer_named(t->c, p.dir, p.name, p.a.node);
        if (type == NODE_REG && rng_percent(&t->r, 30))
            program_open_node(t, p.a.node);
    }
    return err;
}

static int op_create(struct attempt *t)
{
    return make(t, NODE_REG);
}
static int op_mkdir(struct attempt *t)
{
    return make(t, NODE_DIR);
}
static int op_symlink(struct attempt *t)
{
    return make(t, NODE_SYMLINK);
}
static int op_mknod(struct attempt *t)
{
    return make(t, rng_percent(&t->r, 50) ? NODE_FIFO : NODE_CHR);
}

static int op_tmpfile(struct attempt *t)
{
    struct core_attr a;
    uint64_t dir;
    int err = a_dir(t, &dir);
    if (!err)
        err = core_getattr(t->core, dir, &a, &t->need);
    if (!err)
        err = core_create(t->core, &t->who, 0, bytes_of(NULL, 0), NODE_REG, 0600, 0,
                          bytes_of(NULL, 0), &a, &t->need);
    if (!err) {
        observer_changed(t->c, a.node);
        program_open_node(t, a.node);
        program_say(t, "is", a.node);
    }
    return err;
}

static int op_link(struct attempt *t)
{
    struct place from = {0}, to;
    struct marks seen = {0};
    struct open_file *f = program_open_file(t);
    bool by_handle = f && !f->stale && rng_percent(&t->r, 40);
    int err =
        by_handle ? core_getattr(t->core, f->node, &from.a, &t->need) : program_file(t, &from);
    if (!err)
        err = a_dir(t, &to.dir);
    to.name = a_name(t);
    if (err)
        return err;
    bool revive = from.a.nlink == 0;
    program_say(t, "node", from.a.node);
    program_say_place(t, &to);
    err = core_link(t->core, &t->who, from.a.node, to.dir, to.name, &to.a, &t->need);
    if (!err && revive && program_sees_all(t, from.a.node, 0, to.a.size, &seen))
        ledger_revive(&t->c->s->ledger, &seen);
    if (!err)
        observer_named(t->c, to.dir, to.name, from.a.node);
    marks_free(&seen);
    return err;
}

bool program_may_be_done(const struct attempt *t, int err)
{
    return !err || simvfs_crashed(t->c->disk);
}

static int remove_name(struct attempt *t, bool dir)
{
    struct place p;
    struct marks seen = {0};
    uint64_t node;
    int err = a_place(t, &p);
    if (err)
        return err;
    program_say_place(t, &p);
    program_say(t, "node", p.a.node);
    if (p.a.type == NODE_REG && !program_sees_all(t, p.a.node, 0, p.a.size, &seen))
        err = -ENOSPC;
    if (!err)
        err = core_unlink(t->core, &t->who, p.dir, p.name, dir, &node, &t->need);
    if (program_may_be_done(t, err))
        ledger_consume(&t->c->s->ledger, &seen);
    if (program_may_be_done(t, err) && p.a.nlink > 1)
        ledger_weaken(&t->c->s->ledger, p.a.node);
    marks_free(&seen);
    return err;
}

static int op_unlink(struct attempt *t)
{
    return remove_name(t, false);
}
static int op_rmdir(struct attempt *t)
{
    return remove_name(t, true);
}

/* What the name `to` led to is taken from it by a rename of `from`, seeing it. */
static int rename_to(struct attempt *t, const struct place *from, const struct place *to,
                     unsigned flag)
{
    struct ledger *l = &t->c->s->ledger;
    struct marks seen = {0};
    uint64_t replaced = 0;
    bool over = to->a.node && to->a.type == NODE_REG && flag == 0;
    int err = over && !program_sees_all(t, to->a.node, 0, to->a.size, &seen) ? -ENOSPC : 0;
    if (!err)
        err = core_rename(t->core, &t->who, from->dir, from->name, to->dir, to->name, flag,
                          &replaced, &t->need);
    if (err)
        replaced = over && program_may_be_done(t, err) ? to->a.node : 0;
    if (replaced)
        ledger_consume(l, &seen);
    if (replaced && to->a.nlink > 1)
        ledger_weaken(l, replaced);
    if (!err && from->a.type == NODE_REG)
        observer_named(t->c, to->dir, to->name, from->a.node);
    if (!err && flag == RENAME_EXCHANGE && to->a.type == NODE_REG)
        observer_named(t->c, from->dir, from->name, to->a.node);
    marks_free(&seen);
    return err == -EINVAL ? -ELOOP : err; /* into itself */
}

static int op_rename(struct attempt *t)
{
    static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    struct place from, to = {0};
    unsigned flag = flags[rng_below(&t->r, 5)];
    int err = a_place(t, &from);
    if (!err)
        err = a_place(t, &to);
    if (err == -ENOENT && to.name.n)
        err = 0;
    if (err)
        return err;
    program_say_place(t, &from);
    program_say_place(t, &to);
    program_say(t, "flags", flag);
    return rename_to(t, &from, &to, flag);
}

/* ---- saving as editors do: a draft, renamed over what it is to replace ---- */
/* More of the draft in the directory, which is begun if there is none. */
static int draft(struct attempt *t, struct place *p, unsigned writes)
{
    int err = core_lookup(t->core, p->dir, p->name, &p->a, &t->need);
    if (err == -ENOENT) {
        err = core_create(t->core, &t->who, p->dir, p->name, NODE_REG, 0600, 0, bytes_of(NULL, 0),
                          &p->a, &t->need);
        writes++;
        if (!err)
            observer_named(t->c, p->dir, p->name, p->a.node);
    }
    uint64_t at = p->a.size;
    for (unsigned k = 0; !err && k < writes; k++) {
        uint64_t len = program_length(t);
        if (at > FILE_MAX - BLOCK_LEN_MAX) /* begun anew */
            at = 0;
        err = program_write_at(t, p->a.node, at, len);
        at += len;
    }
    return err;
}

static int op_draft(struct attempt *t)
{
    struct place p = {.name = bytes_str(DRAFT)};
    int err = a_dir(t, &p.dir);
    if (err)
        return err;
    program_say_place(t, &p);
    return draft(t, &p, 1 + rng_below(&t->r, 2));
}

static int op_save(struct attempt *t)
{
    struct place from = {.name = bytes_str(DRAFT)}, to = {0};
    int err = a_place(t, &to);
    if (err && (err != -ENOENT || !to.name.n))
        return err;
    if (to.a.node && to.a.type == NODE_DIR)
        return -EISDIR;
    from.dir = to.dir;
    program_say_place(t, &to);
    err = draft(t, &from, rng_below(&t->r, 3));
    if (!err)
        err = core_getattr(t->core, from.a.node, &from.a, &t->need);
    return err ? err : rename_to(t, &from, &to, 0);
}

/* ---- attributes
 * --------------------------------------------------------------------------------------------- */
static int op_setattr(struct attempt *t)
{
    struct place p;
    int err = a_place(t, &p);
    if (err)
        return err;
    struct core_attr a = {.mode = 0600 + rng_below(&t->r, 64), .uid = 1000 + rng_below(&t->r, 3)};
    unsigned mask = rng_percent(&t->r, 50) ? CORE_SET_MODE : CORE_SET_MODE | CORE_SET_UID;
    program_say_place(t, &p);
    return core_setattr(t->core, &t->who, p.a.node, mask, &a, &t->need);
}

static int op_utimes(struct attempt *t)
{
    struct place p;
    int err = a_place(t, &p);
    if (err)
        return err;
    struct core_attr a = {.mtime = (int64_t)rng_below(&t->r, 1000) * 1000000007,
                          .atime = t->who.now};
    program_say_place(t, &p);
    return core_setattr(t->core, &t->who, p.a.node, CORE_SET_MTIME | CORE_SET_ATIME, &a, &t->need);
}

static int op_setxattr(struct attempt *t)
{
    static const char *const xattrs[] = {"user.x", "user.y"};
    static const unsigned flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};
    struct place p;
    char value[16];
    int err = a_place(t, &p);
    if (err)
        return err;
    snprintf(value, sizeof value, "%u", rng_below(&t->r, 100));
    struct bytes v = rng_percent(&t->r, 70) ? bytes_str(value) : bytes_of(NULL, 0);
    if (rng_percent(&t->r, 10))
        v = bytes_of(value, 0); /* set, and empty */
    program_say_place(t, &p);
    return core_setxattr(t->core, &t->who, p.a.node, bytes_str(xattrs[rng_below(&t->r, 2)]), v,
                         flags[rng_below(&t->r, 4)], &t->need);
}

/* ---- open, close, fsync
 * ---------------------------------------------------------------------------------------- */
static int op_open(struct attempt *t)
{
    struct place p;
    int err = program_file(t, &p);
    if (!err)
        program_open_node(t, p.a.node);
    return err;
}

static int op_close(struct attempt *t)
{
    struct open_file *f = program_open_file(t);
    if (!f)
        return -EBADF;
    program_say(t, "node", f->node);
    program_close(t->c, f);
    return 0;
}

static bool add_child(void *arg, const struct core_dirent *e)
{
    struct fsync_wait *f = arg;
    if (f->children == sizeof f->child / sizeof *f->child)
        return false;
    f->child[f->children].node = e->node;
    memcpy(f->child[f->children].name, e->name.p, e->name.n);
    f->child[f->children++].name_len = e->name.n;
    return true;
}

static struct fsync_wait *a_wait(struct attempt *t, uint64_t node, uint64_t ns)
{
    for (size_t i = 0; i < BARRIERS_MAX; i++)
        if (!t->c->fsyncs[i].used) {
            t->c->fsyncs[i] = (struct fsync_wait){.used = true, .node = node, .ns = ns};
            program_say(t, "node", node);
            return &t->c->fsyncs[i];
        }
    return NULL;
}

static int op_fsync(struct attempt *t)
{
    struct place p;
    struct open_file *f = program_open_file(t);
    bool by_handle = f && !f->stale && rng_percent(&t->r, 30);
    int err = by_handle ? core_getattr(t->core, f->node, &p.a, &t->need) : program_file(t, &p);
    if (err)
        return err;
    struct fsync_wait *w = a_wait(t, p.a.node, p.a.ns);
    if (w && p.a.nlink)
        program_sees_all(t, p.a.node, 0, p.a.size, &w->marks);
    return 0;
}

/* What its content is, is on the disk of this machine: blocks first, then the tree. */
static int op_fsync_local(struct attempt *t)
{
    struct marks m = {0};
    struct place p;
    int err = program_file(t, &p);
    if (err)
        return err;
    program_say(t, "node", p.a.node);
    bool told = program_sees_all(t, p.a.node, 0, p.a.size, &m);
    ledger_durable(&t->c->s->ledger, t->c->index);
    err = tree_flush(t->c->tree);
    if (!err && told && !simvfs_crashed(t->c->disk))
        ledger_promised(&t->c->s->ledger, t->c->index, &m);
    marks_free(&m);
    return err;
}

static int op_fsync_dir(struct attempt *t)
{
    uint64_t dir;
    struct core_need need;
    struct core_attr a;
    int err = a_dir(t, &dir);
    if (!err)
        err = core_getattr(t->core, dir, &a, &t->need);
    if (err)
        return err;
    struct fsync_wait *w = a_wait(t, dir, a.ns);
    if (!w)
        return 0;
    w->is_dir = true;
    err = core_readdir(t->core, dir, 0, add_child, w, &need);
    if (err)
        w->children = 0; /* not all known: what is pending of it is committed all the same */
    return err == CORE_NEED ? 0 : err;
}

/* ---- choosing
 * ------------------------------------------------------------------------------------------------------
 */
static int (*const ops[OP_KINDS])(struct attempt *t) = {
    op_create,     op_mkdir,       op_symlink,
    op_mknod,      op_tmpfile,     op_link,
    op_unlink,     op_rmdir,       op_rename,
    program_write, program_append, program_truncate,
    program_clone, op_setattr,     op_utimes,
    op_setxattr,   op_read,        op_readdir,
    op_open,       op_close,       program_handle_write,
    op_fsync,      op_fsync_dir,   op_draft,
    op_save,       program_recut,  op_fsync_local};
static const uint8_t weights[OP_KINDS] = {14, 9, 2, 1, 1, 4, 9, 4, 14, 16, 6, 5, 3, 4,
                                          2,  4, 3, 3, 4, 4, 6, 7, 4,  3,  6, 5, 3};

static enum op_kind choose(struct client *c, struct rng *r)
{
    unsigned sum = 0;
    for (unsigned k = 0; k < OP_KINDS; k++)
        sum += c->s->p.ops >> k & 1 ? weights[k] : 0u;
    unsigned at = rng_below(r, sum ? sum : 1);
    for (unsigned k = 0; k < OP_KINDS; k++) {
        unsigned w = c->s->p.ops >> k & 1 ? weights[k] : 0u;
        if (at < w)
            return (enum op_kind)k;
        at -= w;
    }
    return OP_READ;
}

static bool allowed(const struct sim *s, int err)
{
    static const int list[] = {0,      -ENOENT,  -EEXIST, -ENOTDIR, -EISDIR, -ENOTEMPTY, -EXDEV,
                               -EPERM, -ENODATA, -ELOOP,  -EBADF,   -EFBIG,  -ENOSPC};
    if (s->p.refuse & REFUSE_ROLE && (err == -EACCES || err == -EROFS))
        return true;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (err == list[i])
            return true;
    return false;
}

void program_step(struct client *c, struct rng *r)
{
    if (!c->core || !c->root)
        return;
    if (!c->op.pending)
        c->op = (struct op){.pending = true, .kind = choose(c, r), .seed = rng_u64(r)};
    struct attempt t = {.c = c,
                        .core = c->core,
                        .r = rng_of(c->op.seed, 2, 3),
                        .who = {.uid = 1000, .gid = 1000, .now = client_now(c)}};
    int err = ops[c->op.kind](&t);
    if (!c->core) /* the disk failed inside */
        return;
    if (err == CORE_NEED) {
        client_need(c, &t.need);
        if (++c->op.tries < TRIES_MAX)
            return;
        err = -ENOENT; /* given up: EIO after a time-out */
    }
    sim_log(c->s, "c%u %s%s: %d", c->index, op_names[c->op.kind], t.text, err);
    c->op.pending = false;
    c->s->count.ops++;
    if (simvfs_crashed(c->disk) || !allowed(c->s, err))
        client_ok(c, err, op_names[c->op.kind]);
}
