// SPDX-License-Identifier: Apache-2.0
/* steadfs admin …, as far as it is about where blocks are: replication. */
#include "replicas.h"

#include "command.h"

/* What one block server lacks of a namespace. A stopped one is looked up for here, since it cannot
 * ask itself. */
static int lacking(struct cmd *c, uint64_t ns, uint64_t server, struct lack_sum *sum)
{
    bool more = false;
    int r = c->m->st->ops->fill_step(c->m->st, ns, server, FILL_BLOCKS, &more);
    return r ? r : c->m->st->ops->lack_sum(c->m->st, ns, server, SIZE_MAX >> 1, sum);
}

static const char *state_of(const struct server_row *s, const struct lack_sum *sum)
{
    return s->leaving ? "leaving" : sum->filling ? "filling" : sum->blocks ? "lacking" : "complete";
}

static int print_ns(struct cmd *c, const struct ns_row *ns, bool *first)
{
    struct server_row *v;
    size_t n;
    int r = c->m->st->ops->assigned(c->m->st, ns->id, &v, &n, c->ar);
    for (size_t k = 0; k < n && !r; k++) {
        struct lack_sum sum;
        r = lacking(c, ns->id, v[k].id, &sum);
        if (r)
            break;
        if (!c->json) {
            buf_printf(&c->out, "%-16.*s %-16.*s %-8s %10llu blocks %14llu bytes", PRB(ns->name),
                       PRB(v[k].premises), state_of(&v[k], &sum), (unsigned long long)sum.blocks,
                       (unsigned long long)sum.bytes);
            if (sum.oldest)
                buf_printf(&c->out, "  since commit %llu of %llu", (unsigned long long)sum.oldest,
                           (unsigned long long)ns->head);
            buf_append(&c->out, "\n", 1);
            continue;
        }
        buf_printf(&c->out, "%s{\"namespace\": ", *first ? "" : ", ");
        cmd_json(c, ns->name);
        buf_printf(&c->out, ", \"premises\": ");
        cmd_json(c, v[k].premises);
        buf_printf(&c->out,
                   ", \"server\": %llu, \"state\": \"%s\", \"lacking_blocks\": %llu, "
                   "\"lacking_bytes\": %llu, \"oldest\": %llu, \"head\": %llu}",
                   (unsigned long long)v[k].id, state_of(&v[k], &sum),
                   (unsigned long long)sum.blocks, (unsigned long long)sum.bytes,
                   (unsigned long long)sum.oldest, (unsigned long long)ns->head);
        *first = false;
    }
    return r;
}

int cmd_replication(struct cmd *c)
{
    struct ns_row *v, one;
    size_t n = 1;
    bool found = true, first = true;
    int r = c->arg_n ? cmd_find_ns(c, c->arg[0], &one, &found)
                     : c->m->st->ops->ns_list(c->m->st, 0, &v, &n, c->ar);
    if (r || !found)
        return r;
    if (c->arg_n)
        v = &one;
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; k < n && !r; k++)
        r = print_ns(c, &v[k], &first);
    if (c->json)
        buf_printf(&c->out, "]\n");
    return r;
}
