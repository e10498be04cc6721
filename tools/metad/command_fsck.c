// SPDX-License-Identifier: Apache-2.0
/* steadfs admin fsck: which files lack content that no block server has.
 *
 * The whole is too much for one transaction, which others wait for: each question looks at some
 * thousand extents, in the order of namespaces, files and offsets, and says where to go on. The
 * place carries the sums, so that the server keeps nothing between two questions; the last question
 * prints them. What is committed meanwhile is seen or not. */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FSCK_EXTENTS 10000
#define SILENT_MS 60000 /* a block server reports itself every few seconds */

/* Where to go on, and what was found before. */
struct progress {
    unsigned long long ns, node, off; /* ns: the first one to look at */
    unsigned long long extents, files, bytes;
    unsigned long long last_file; /* the last one counted */
    int done;
};

static bool read_progress(struct cmd *c, struct progress *p)
{
    const struct bytes *from = cmd_option(c, "from");
    char end;
    *p = (struct progress){0};
    if (!from)
        return true;
    return sscanf(arena_str(c->ar, *from), "%llu.%llu.%llu.%llu.%llu.%llu.%llu.%d%c", &p->ns,
                  &p->node, &p->off, &p->extents, &p->files, &p->bytes, &p->last_file, &p->done,
                  &end) == 8;
}

static void go_on(struct cmd *c, const struct progress *p)
{
    snprintf(c->again, sizeof c->again, "%llu.%llu.%llu.%llu.%llu.%llu.%llu.%d", p->ns, p->node,
             p->off, p->extents, p->files, p->bytes, p->last_file, p->done);
}

static int print_file(struct cmd *c, const struct ns_row *ns, uint64_t node, uint64_t bytes,
                      uint64_t pieces)
{
    struct bytes path;
    int r = cmd_path_of(c, ns->id, ns->root, node, &path);
    if (r)
        return r;
    if (!c->json) {
        cmd_text(c, ns->name);
        buf_printf(&c->out, ":");
        cmd_text(c, path);
        buf_printf(&c->out, ": %llu bytes in %llu pieces are at no block server\n",
                   (unsigned long long)bytes, (unsigned long long)pieces);
        return 0;
    }
    buf_printf(&c->out, "{\"namespace\": ");
    cmd_json(c, ns->name);
    buf_printf(&c->out, ", \"path\": ");
    cmd_json(c, path);
    buf_printf(&c->out, ", \"lacking_bytes\": %llu, \"pieces\": %llu}\n", (unsigned long long)bytes,
               (unsigned long long)pieces);
    return 0;
}

/* The next extents of the namespace. */
static int look(struct cmd *c, const struct ns_row *ns, struct progress *p)
{
    struct extent_place at = {.node = p->node, .off = p->off};
    struct unheld_row *v;
    size_t n;
    int r = c->m->st->ops->extent_unheld(c->m->st, ns->id, &at, FSCK_EXTENTS, &v, &n, c->ar);
    for (size_t i = 0, k; i < n && !r; i = k) {
        uint64_t bytes = 0;
        for (k = i; k < n && v[k].node == v[i].node; k++)
            bytes += v[k].len;
        p->files += p->last_file != v[i].node;
        p->last_file = v[i].node;
        p->bytes += bytes;
        r = print_file(c, ns, v[i].node, bytes, k - i);
    }
    p->extents += at.n;
    p->node = at.node;
    p->off = at.off;
    if (at.n < FSCK_EXTENTS) {
        p->ns = ns->id + 1;
        p->node = p->off = p->last_file = 0;
    }
    return r;
}

/* The namespace to look at, from p->ns on; id 0: there is none. */
static int next_ns(struct cmd *c, const struct progress *p, struct ns_row *ns, bool *found)
{
    struct ns_row *v;
    size_t n;
    *found = true;
    if (c->arg_n) {
        int r = cmd_find_ns(c, c->arg[0], ns, found);
        if (*found && ns->id < p->ns)
            ns->id = 0;
        return r;
    }
    *ns = (struct ns_row){0};
    int r = c->m->st->ops->ns_list(c->m->st, 0, &v, &n, c->ar);
    for (size_t i = 0; !r && i < n; i++)
        if (v[i].id >= p->ns && (!ns->id || v[i].id < ns->id))
            *ns = v[i];
    return r;
}

/* What a server that is silent has lost meanwhile is not known. */
static int print_silent(struct cmd *c)
{
    struct server_row *v;
    size_t n;
    int r = c->m->st->ops->server_list(c->m->st, &v, &n, c->ar);
    for (size_t i = 0; !r && i < n && !c->json; i++)
        if ((uint64_t)c->now_ms > v[i].beat_ms + SILENT_MS)
            buf_printf(
                &c->out,
                "block server %llu (%.*s) was last heard of %llu s ago; what it may have lost "
                "since is not known\n",
                (unsigned long long)v[i].id, PRB(v[i].premises),
                ((unsigned long long)c->now_ms - v[i].beat_ms) / 1000);
    return r;
}

static int print_sums(struct cmd *c, const struct progress *p)
{
    if (c->json)
        buf_printf(&c->out, "{\"extents\": %llu, \"files\": %llu, \"lacking_bytes\": %llu}\n",
                   p->extents, p->files, p->bytes);
    else if (p->files)
        buf_printf(
            &c->out,
            "%llu files lack %llu bytes. A device that has them at hand brings them when it "
            "is asked to write them again; a block server that is back, by itself. Bytes that "
            "a block server found damaged are in its corrupt/.\n",
            p->files, p->bytes);
    else
        buf_printf(&c->out, "all content is at a block server (%llu pieces looked at)\n",
                   p->extents);
    c->status = p->files ? EXIT_FAILED : 0;
    return 0;
}

int cmd_fsck(struct cmd *c)
{
    struct progress p;
    struct ns_row ns;
    bool found;
    if (!read_progress(c, &p))
        return cmd_fail(c, EXIT_USAGE, "--from takes what an earlier answer said");
    if (p.done)
        return print_sums(c, &p);
    int r = next_ns(c, &p, &ns, &found);
    if (r || !found)
        return r;
    if (!cmd_option(c, "from"))
        r = print_silent(c);
    if (!r && ns.id)
        r = look(c, &ns, &p);
    p.done = !ns.id;
    go_on(c, &p);
    return r;
}
