// SPDX-License-Identifier: Apache-2.0
/* admin fsck, as far as files are gone through: the pieces in the order of nodes and offsets, each
 * with where its block is. */
#include "blockid.h"
#include "fsck.h"

#define PIECES 4000 /* a question: some 30 ms */

struct walk {
    struct cmd *c;
    struct fsck *f;
    const struct ns_row *ns;
    struct server_row *servers; /* assigned */
    size_t servers_n;
    uint64_t stay; /* a bit for each that is not leaving */
};

/* Where one block is: bits of servers. */
struct at {
    uint64_t has, found; /* found: there, but not recorded */
    uint64_t other;      /* a server that the namespace is not assigned to has it; 0: none */
};

/* What a file lacks, of the pieces of one question. */
struct file {
    uint64_t node;
    uint64_t lost_bytes, lost_pieces, found, other;
    uint64_t short_bytes, short_pieces, not_at;
    bool below; /* some are at fewer servers than the namespace wants copies */
};

static int find(struct walk *w, const struct block_id *b, struct at *at)
{
    struct found_row v[2 * CANDIDATES_MAX];
    size_t n;
    int r = w->c->m->st->ops->block_at(w->c->m->st, w->ns->id, b, v, &n);
    *at = (struct at){0};
    for (size_t k = 0; k < n && !r; k++) {
        size_t s = 0;
        while (s < w->servers_n && w->servers[s].id != v[k].server)
            s++;
        if (s == w->servers_n)
            at->other = v[k].server;
        else
            *(v[k].recorded ? &at->has : &at->found) |= UINT64_C(1) << s;
    }
    return r;
}

/* Whoever should have the block and has it not lacks it: if that is not noted, nobody brings it. */
static int note(struct walk *w, const struct block_id *b, const struct at *at)
{
    const struct store_ops *ops = w->c->m->st->ops;
    for (size_t s = 0; s < w->servers_n; s++) {
        bool noted;
        if (!((w->stay & ~at->has) >> s & 1))
            continue;
        int r = ops->lack_noted(w->c->m->st, w->ns->id, w->servers[s].id, b, &noted);
        if (!r && !noted)
            r = ops->lack_lost(w->c->m->st, w->ns->id, w->servers[s].id, b);
        if (r)
            return r;
        w->f->noted += !noted;
        w->c->unchanged &= noted;
    }
    return 0;
}

static void count(struct walk *w, struct file *file, const struct piece_row *p, const struct at *at)
{
    uint64_t lacks = w->stay & ~at->has;
    if (!at->has) {
        file->lost_bytes += p->len;
        file->lost_pieces++;
        file->found |= at->found;
        file->other = at->other ? at->other : file->other;
    } else if (lacks) {
        file->short_bytes += p->len;
        file->short_pieces++;
        file->not_at |= lacks;
        file->below |= (uint64_t)__builtin_popcountll(at->has) < w->ns->copies_min;
    }
}

/* ---- printing ------------------------------------------------------------------------------- */
static void print_names(struct walk *w, uint64_t bits)
{
    bool any = false;
    for (size_t s = 0; s < w->servers_n; s++) {
        if (!(bits >> s & 1))
            continue;
        if (w->c->json) {
            buf_printf(&w->c->out, any ? ", " : "");
            cmd_json(w->c, w->servers[s].premises);
        } else {
            buf_printf(&w->c->out, "%s%.*s", any ? ", " : "", PRB(w->servers[s].premises));
        }
        any = true;
    }
}

static int print_path(struct walk *w, uint64_t node)
{
    struct cmd *c = w->c;
    struct bytes path;
    int r = cmd_path_of(c, w->ns->id, w->ns->root, node, &path);
    if (r)
        return r;
    if (c->json) {
        buf_printf(&c->out, "{\"namespace\": ");
        cmd_json(c, w->ns->name);
        buf_printf(&c->out, ", \"path\": ");
        cmd_json(c, path);
    } else {
        cmd_text(c, w->ns->name);
        buf_printf(&c->out, ":");
        cmd_text(c, path);
    }
    return 0;
}

static int print_lost(struct walk *w, const struct file *file)
{
    struct buf *out = &w->c->out;
    int r = print_path(w, file->node);
    if (r)
        return r;
    if (w->c->json) {
        buf_printf(out, ", \"lacking_bytes\": %llu, \"pieces\": %llu, \"found_at\": [",
                   (unsigned long long)file->lost_bytes, (unsigned long long)file->lost_pieces);
        print_names(w, file->found);
        buf_printf(out, "]}\n");
        return 0;
    }
    buf_printf(out, ": %llu bytes in %llu pieces are at no block server",
               (unsigned long long)file->lost_bytes, (unsigned long long)file->lost_pieces);
    if (file->found) {
        buf_printf(out, " as recorded; some were found at ");
        print_names(w, file->found);
        buf_printf(out, ", and fsck --repair records that");
    } else if (file->other) {
        buf_printf(out,
                   " of the namespace; some are recorded at block server %llu, which it is not "
                   "assigned to (steadfs admin assign)",
                   (unsigned long long)file->other);
    }
    buf_append(out, "\n", 1);
    return 0;
}

static int print_short(struct walk *w, const struct file *file)
{
    struct buf *out = &w->c->out;
    int r = print_path(w, file->node);
    if (r)
        return r;
    buf_printf(out,
               w->c->json ? ", \"short_bytes\": %llu, \"pieces\": %llu, \"not_at\": ["
                          : ": %llu bytes in %llu pieces are not at ",
               (unsigned long long)file->short_bytes, (unsigned long long)file->short_pieces);
    print_names(w, file->not_at);
    if (w->c->json)
        buf_printf(out, "], \"below_copies\": %s}\n", file->below ? "true" : "false");
    else if (file->below)
        buf_printf(out, ", and at fewer block servers than the %llu that it wants\n",
                   (unsigned long long)w->ns->copies_min);
    else
        buf_append(out, "\n", 1);
    return 0;
}

static int finish(struct walk *w, const struct file *file)
{
    struct fsck *f = w->f;
    int r = 0;
    if (file->lost_pieces) {
        f->files += f->last_file != file->node;
        f->last_file = file->node;
        f->bytes += file->lost_bytes;
        r = print_lost(w, file);
    }
    if (!r && file->short_pieces) {
        f->short_files += f->last_short != file->node;
        f->last_short = file->node;
        f->short_bytes += file->short_bytes;
        r = print_short(w, file);
    }
    return r;
}

/* ---- the pieces ----------------------------------------------------------------------------- */
static int go_through(struct walk *w, const struct piece_row *v, size_t n, bool noting)
{
    struct file file = {0};
    struct at at = {0};
    int r = 0;
    for (size_t k = 0; k < n && !r; k++) {
        if (!k || !block_id_equal(&v[k].block, &v[k - 1].block))
            r = find(w, &v[k].block, &at);
        if (!r && noting) {
            r = note(w, &v[k].block, &at);
            continue;
        }
        if (!r && v[k].node != file.node) {
            r = finish(w, &file);
            file = (struct file){.node = v[k].node};
        }
        if (!r)
            count(w, &file, &v[k], &at);
    }
    return r ? r : finish(w, &file);
}

int fsck_pieces(struct cmd *c, const struct ns_row *ns, struct fsck *f, bool noting)
{
    struct walk w = {.c = c, .f = f, .ns = ns};
    struct piece_row *v;
    size_t n = 0;
    int r = c->m->st->ops->assigned(c->m->st, ns->id, &w.servers, &w.servers_n, c->ar);
    for (size_t s = 0; s < w.servers_n && !r; s++)
        w.stay |= w.servers[s].leaving ? 0 : UINT64_C(1) << s;
    if (!r)
        r = c->m->st->ops->extent_page(c->m->st, ns->id, f->node, f->off, PIECES, &v, &n, c->ar);
    if (!r)
        r = go_through(&w, v, n, noting);
    if (r)
        return r;
    f->extents += n;
    if (n == PIECES) {
        f->node = v[n - 1].node;
        f->off = v[n - 1].off;
    } else {
        f->ns = ns->id + 1;
        f->node = f->off = f->last_file = f->last_short = 0;
    }
    return 0;
}
