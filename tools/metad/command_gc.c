// SPDX-License-Identifier: Apache-2.0
/* steadfs admin gc: what nothing refers to any more, and where it is still stored.
 *
 * The metadata server does the same by itself, in steps (gc.c); this does what is due at once, or
 * only says what that is. A question looks at one namespace, or a part of one, and answers where to
 * go on. */
#include "command.h"

#include <stdio.h>
#include <time.h>

#include "gc.h"
#include "restored.h"

#define COUNTED_MAX 100000 /* of what is only counted: beyond, "at least" */

/* Where to go on, what was declared absent of this namespace before, and of how many namespaces
 * anything was said. */
struct progress {
    unsigned long long ns, blocks, bytes, said;
};

static bool read_progress(struct cmd *c, struct progress *p)
{
    const struct bytes *from = cmd_option(c, "from");
    char end;
    *p = (struct progress){0};
    return !from || sscanf(arena_str(c->ar, *from), "%llu.%llu.%llu.%llu%c", &p->ns, &p->blocks,
                           &p->bytes, &p->said, &end) == 4;
}

static void go_on(struct cmd *c, const struct progress *p)
{
    snprintf(c->again, sizeof c->again, "%llu.%llu.%llu.%llu", p->ns, p->blocks, p->bytes, p->said);
}

static void print_json(struct cmd *c, const struct ns_row *ns, const struct progress *p,
                       const struct unused_sum *u)
{
    buf_printf(&c->out, "{\"namespace\": ");
    cmd_json(c, ns->name);
    buf_printf(&c->out,
               ", \"absent_blocks\": %llu, \"absent_bytes\": %llu, \"unused_blocks\": %llu, "
               "\"unused_bytes\": %llu, \"due_blocks\": %llu, \"due_bytes\": %llu, \"servers\": [",
               p->blocks, p->bytes, (unsigned long long)u->blocks, (unsigned long long)u->bytes,
               (unsigned long long)u->due_blocks, (unsigned long long)u->due_bytes);
}

static void print_text(struct cmd *c, const struct ns_row *ns, const struct progress *p,
                       const struct unused_sum *u, bool dry)
{
    const char *least = u->blocks == COUNTED_MAX ? "at least " : "";
    cmd_text(c, ns->name);
    if (dry)
        buf_printf(&c->out, ": nothing refers to %s%llu blocks (%llu bytes)", least,
                   (unsigned long long)u->blocks, (unsigned long long)u->bytes);
    else
        buf_printf(&c->out,
                   ": %llu blocks (%llu bytes) declared absent; nothing refers to %s%llu "
                   "more (%llu bytes)",
                   p->blocks, p->bytes, least, (unsigned long long)u->blocks,
                   (unsigned long long)u->bytes);
    if (dry)
        buf_printf(&c->out, ", %llu (%llu bytes) of them for the grace time",
                   (unsigned long long)u->due_blocks, (unsigned long long)u->due_bytes);
    buf_printf(&c->out, "\n");
}

/* The servers that have yet to remove blocks of it. */
static int print_servers(struct cmd *c, const struct ns_row *ns)
{
    struct server_row *v;
    size_t n;
    bool first = true;
    int r = c->m->st->ops->server_list(c->m->st, &v, &n, c->ar);
    for (size_t k = 0; k < n && !r; k++) {
        uint64_t due;
        r = c->m->st->ops->gone_count(c->m->st, v[k].id, ns->id, COUNTED_MAX, &due);
        if (r || !due)
            continue;
        const char *least = due == COUNTED_MAX ? "at least " : "";
        if (c->json)
            buf_printf(&c->out, "%s{\"server\": %llu, \"to_remove\": %llu}", first ? "" : ", ",
                       (unsigned long long)v[k].id, (unsigned long long)due);
        else
            buf_printf(&c->out, "  block server %llu (%.*s) has yet to remove %s%llu blocks\n",
                       (unsigned long long)v[k].id, PRB(v[k].premises), least,
                       (unsigned long long)due);
        first = false;
    }
    if (c->json)
        buf_printf(&c->out, "]}\n");
    return r;
}

/* The namespace to look at, from p->ns on; id 0: there is none. */
static int next_ns(struct cmd *c, const struct progress *p, struct ns_row *ns, bool *found)
{
    struct ns_row *v;
    size_t n;
    *found = true;
    *ns = (struct ns_row){0};
    if (c->arg_n) {
        int r = cmd_find_ns(c, c->arg[0], ns, found);
        if (*found && ns->id < p->ns)
            ns->id = 0;
        return r;
    }
    int r = c->m->st->ops->ns_list(c->m->st, 0, &v, &n, c->ar);
    for (size_t i = 0; !r && i < n && !ns->id; i++)
        if (v[i].id >= p->ns)
            *ns = v[i];
    return r;
}

int cmd_say_kept(struct cmd *c)
{
    uint64_t until;
    char text[32];
    struct tm tm;
    int r = restored_keeps(c->m, &until);
    if (r || !until)
        return r;
    time_t t = (time_t)(until / 1000);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
    buf_printf(&c->out,
               "the database was put back to an older copy: nothing is removed before %s, or, when "
               "all mounts have been back, steadfs admin gc --restored\n",
               text);
    return 0;
}

int cmd_gc(struct cmd *c)
{
    struct progress p;
    struct ns_row ns;
    struct unused_sum u;
    struct meta_gc_sums sums = {0};
    bool found = true, dry = cmd_option(c, "dry-run") != NULL;
    size_t looked = 0;
    if (!read_progress(c, &p))
        return cmd_fail(c, EXIT_USAGE, "--from takes what an earlier answer said");
    if (dry && cmd_option(c, "restored"))
        return cmd_fail(c, EXIT_USAGE, "--dry-run only looks: --restored does not go with it");
    int r = cmd_option(c, "restored") ? restored_release(c->m) : 0;
    if (!r && !c->json && !cmd_option(c, "from"))
        r = cmd_say_kept(c);
    if (!r)
        r = next_ns(c, &p, &ns, &found);
    if (!r && found && !ns.id && !p.said && !c->json)
        buf_printf(&c->out, "nothing that is stored is without a file or a version that is kept\n");
    if (r || !found || !ns.id)
        return r;
    if (!dry)
        r = gc_declare(c->m, ns.id, c->now_ms, GC_STEP, &looked, &sums);
    p.ns = ns.id;
    p.blocks += sums.blocks;
    p.bytes += sums.bytes;
    if (r || looked == GC_STEP) {
        go_on(c, &p);
        return r;
    }
    r = c->m->st->ops->unused_sum(c->m->st, ns.id, gc_due_before(c->m, c->now_ms), COUNTED_MAX, &u);
    if (r)
        return r;
    if (c->json)
        print_json(c, &ns, &p, &u);
    else if (u.blocks || p.blocks || dry)
        print_text(c, &ns, &p, &u, dry);
    size_t before = c->out.n;
    r = print_servers(c, &ns);
    bool said = u.blocks || p.blocks || dry || c->out.n > before;
    p = (struct progress){.ns = ns.id + 1, .said = p.said + said};
    go_on(c, &p);
    return r;
}
