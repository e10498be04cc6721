// SPDX-License-Identifier: Apache-2.0
/* What programs do to the content of files. */
#include "program.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- what is seen
 * --------------------------------------------------------------------------------- */
/* The answer to a load, without the core's hearing of it. */
static bool peek(struct client *c, struct core_need *need, struct m_extents_ans *m,
                 struct buf *body, struct arena *ar)
{
    cleanup_buf struct buf q = {0};
    const char *method;
    if (core_need_request(c->core, need, &method, &q))
        return false;
    return server_peek(c->s, need->ns, method, bytes_of(q.p, q.n), body) == 0 &&
           msg_decode(&m_extents_ans_desc, m, body->p, body->n, MSG_LENIENT, ar, NULL) == 0;
}

bool program_sees(struct client *c, uint64_t node, uint64_t off, uint64_t end, struct marks *out)
{
    cleanup_arena struct arena ar = {0};
    cleanup_buf struct buf body = {0};
    struct extent_list l cleanup_extents = {0};
    struct m_extents_ans m = {0};
    struct core_need need;
    int err = core_extents(c->core, node, off, end - off, &l, &need);
    if (err == 0) {
        marks_add(&c->s->ledger, out, l.v, l.n);
        return true;
    }
    if (err != CORE_NEED || !peek(c, &need, &m, &body, &ar))
        return false;
    const struct extent_list far = {.v = m.range.extents, .n = m.range.extents_n};
    for (uint64_t at = off; at < end && at < FILE_MAX; at += UNIT) {
        struct extent_list part cleanup_extents = {0};
        err = core_extents(c->core, node, at, UNIT, &part, &need);
        if (err == CORE_NEED)
            extent_list_slice(&far, at, UNIT, &part);
        else if (err)
            return false;
        marks_add(&c->s->ledger, out, part.v, part.n);
    }
    return true;
}

bool program_sees_all(struct attempt *t, uint64_t node, uint64_t off, uint64_t end,
                      struct marks *out)
{
    bool ok = program_sees(t->c, node, off, end, out);
    if (!ok && !t->c->s->failed && !t->c->s->p.prune &&
        !t->c->s->server.restored) /* it may be forgotten: then not now */
        sim_fail(t->c->s, "client %u: the content of %llx cannot be told", t->c->index,
                 (unsigned long long)node);
    return ok;
}

/* ---- open files
 * -------------------------------------------------------------------------------------- */
struct open_file *program_open_file(struct attempt *t)
{
    struct open_file *f = &t->c->files[rng_below(&t->r, HANDLES_MAX)];
    return f->used ? f : NULL;
}

void program_open_node(struct attempt *t, uint64_t node)
{
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        struct open_file *f = &t->c->files[i];
        if (f->used)
            continue;
        *f = (struct open_file){.used = true, .node = node, .unfinished = rng_percent(&t->r, 30)};
        return;
    }
    core_purge(t->core, node); /* closed again at once */
}

void program_close(struct client *c, struct open_file *f)
{
    uint64_t node = f->node;
    extent_list_free(&f->old);
    *f = (struct open_file){0};
    client_ok(c, core_purge(c->core, node), "core_purge");
}

/* ---- content
 * ------------------------------------------------------------------------------------------ */
static bool new_block(struct attempt *t, uint64_t node, uint64_t off, uint64_t len,
                      struct m_extent *e, int *write)
{
    *e = (struct m_extent){.off = off, .len = len};
    *write =
        ledger_write(&t->c->s->ledger, t->c->s->seed, t->c->index, node, (unsigned)len, &e->block);
    return *write >= 0;
}

/* What this client has written before into the namespace, to be written once more: the same bytes
 * are the same block, which may be garbage by now, or on its way there. */
static bool old_block(struct attempt *t, uint64_t ns, uint64_t *len, int *write)
{
    struct ledger *l = &t->c->s->ledger;
    if (!t->c->s->p.gc || !rng_percent(&t->r, 30) || !l->n)
        return false;
    *write = (int)rng_below(&t->r, l->n);
    const struct written *w = &l->w[*write];
    if (w->client != t->c->index || w->ns != ns || w->recut || ledger_weak(l, w->node))
        return false;
    *len = w->len;
    return true;
}

int program_write_at(struct attempt *t, uint64_t node, uint64_t off, uint64_t len)
{
    struct ledger *l = &t->c->s->ledger;
    struct marks before = {0};
    struct m_extent e;
    struct core_attr a;
    int write, err = core_getattr(t->core, node, &a, &t->need);
    if (err)
        return err;
    bool again = old_block(t, a.ns, &len, &write);
    if (!program_sees_all(t, node, off, off + len, &before) ||
        (!again && !new_block(t, node, off, len, &e, &write))) {
        marks_free(&before);
        return -ENOSPC;
    }
    l->w[write].ns = a.ns;
    if (again)
        e = (struct m_extent){.off = off, .len = len, .block = l->w[write].id};
    const struct extent_list with = {.v = &e, .n = 1};
    err = core_write(t->core, &t->who, node, off, len, &with, true);
    if (!err)
        err = core_getattr(t->core, node, &a, &t->need);
    if (program_may_be_done(t, err))
        ledger_consume(l, &before);
    if (!err && again)
        ledger_again(l, (uint32_t)write, node);
    if (!err)
        observer_changed(t->c, node);
    if (err || a.nlink == 0) /* nobody can ask for it later */
        l->w[write].live = 0;
    program_say(t, "node", node);
    program_say(t, "off", off);
    program_say(t, "write", (uint64_t)write);
    marks_free(&before);
    return err;
}

int program_write(struct attempt *t)
{
    struct place p;
    int err = program_file(t, &p);
    if (err)
        return err;
    program_say_place(t, &p);
    uint64_t len = program_length(t),
             off = UNIT * rng_below(&t->r, (FILE_MAX - BLOCK_LEN_MAX) / UNIT);
    return program_write_at(t, p.a.node, off, len);
}

int program_append(struct attempt *t)
{
    struct place p;
    int err = program_file(t, &p);
    if (err)
        return err;
    program_say_place(t, &p);
    return p.a.size > FILE_MAX - BLOCK_LEN_MAX
               ? -EFBIG
               : program_write_at(t, p.a.node, p.a.size, program_length(t));
}

int program_truncate(struct attempt *t)
{
    struct place p;
    struct marks cut = {0};
    int err = program_file(t, &p);
    if (err)
        return err;
    uint64_t size = UNIT * rng_below(&t->r, 1 + FILE_MAX / UNIT);
    if (rng_percent(&t->r, 30))
        size = 0;
    program_say_place(t, &p);
    program_say(t, "size", size);
    if (size < p.a.size && !program_sees_all(t, p.a.node, size, p.a.size, &cut))
        err = -ENOSPC;
    if (!err)
        err = core_truncate(t->core, &t->who, p.a.node, size, &t->need);
    if (program_may_be_done(t, err))
        ledger_consume(&t->c->s->ledger, &cut);
    if (!err) {
        observer_changed(t->c, p.a.node);
    }
    marks_free(&cut);
    return err;
}

int program_clone(struct attempt *t)
{
    struct place from, to;
    struct marks cut = {0};
    int err = program_file(t, &from);
    if (!err)
        err = program_file(t, &to);
    if (err)
        return err;
    uint64_t len = program_length(t), src = UNIT * rng_below(&t->r, 8),
             dst = UNIT * rng_below(&t->r, 16);
    program_say_place(t, &from);
    program_say_place(t, &to);
    if (!program_sees_all(t, to.a.node, dst, dst + len, &cut))
        err = -ENOSPC;
    if (!err)
        err = core_clone(t->core, &t->who, from.a.node, src, to.a.node, dst, len, false, &t->need);
    if (program_may_be_done(t, err))
        ledger_consume(&t->c->s->ledger, &cut);
    if (!err) {
        observer_changed(t->c, to.a.node);
    }
    marks_free(&cut);
    return err;
}

/* What is not committed yet, put in another block: as the end of a stretch does. */
int program_recut(struct attempt *t)
{
    struct extent_list l cleanup_extents = {0};
    struct place p;
    int err = program_file(t, &p);
    if (err)
        return err;
    if (!core_recuts(t->core, p.a.node) || !p.a.size)
        return -ENODATA;
    uint64_t at = UNIT * rng_below(&t->r, (unsigned)(p.a.size / UNIT)), len = program_length(t);
    err = core_extents(t->core, p.a.node, at, len, &l, &t->need);
    if (err || !l.n)
        return err ? err : -ENODATA;
    struct m_extent e = {.off = l.v[0].off};
    size_t n = 0;
    while (n < l.n && l.v[n].off == e.off + e.len) /* up to the first hole */
        e.len += l.v[n++].len;
    int write = ledger_recut(&t->c->s->ledger, t->c->s->seed, t->c->index, l.v, n, (unsigned)e.len,
                             &e.block);
    if (write < 0) /* not all of it is here */
        return -ENODATA;
    const struct extent_list with = {.v = &e, .n = 1};
    program_say_place(t, &p);
    program_say(t, "off", e.off);
    program_say(t, "write", (uint64_t)write);
    return core_recut(t->core, p.a.node, e.off, e.len, &with);
}

/* Through an open file: into its own version when another one came from the server meanwhile. */
int program_handle_write(struct attempt *t)
{
    struct open_file *f = program_open_file(t);
    uint64_t len = program_length(t),
             off = UNIT * rng_below(&t->r, (FILE_MAX - BLOCK_LEN_MAX) / UNIT);
    if (!f)
        return -EBADF;
    f->unfinished = rng_percent(&t->r, 40);
    f->wrote = true;
    if (!f->stale)
        return program_write_at(t, f->node, off, len);
    struct core_effects fx = {0};
    struct core_attr a;
    struct m_extent e;
    int write;
    if (!new_block(t, f->node, off, len, &e, &write))
        return -ENOSPC;
    const struct extent_list with = {.v = &e, .n = 1};
    extent_list_splice(&f->old, off, len, &with);
    if (off + len > f->old_size)
        f->old_size = off + len;
    int err = core_fork(t->core, &t->who, f->node, &f->old, f->old_size, &a, &fx);
    program_say(t, "fork of", f->node);
    program_say(t, "write", (uint64_t)write);
    if (err || a.nlink == 0)
        t->c->s->ledger.w[write].live = 0;
    if (!err) {
        uint64_t left = f->node;
        program_say(t, "is", a.node);
        f->node = a.node;
        f->stale = false;
        extent_list_free(&f->old);
        client_effects(t->c, &fx);
        observer_changed(t->c, a.node);
        core_purge(t->core, left);
    }
    core_effects_free(&fx);
    return err;
}
