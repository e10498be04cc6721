// SPDX-License-Identifier: Apache-2.0
/* What still lies on the disks of block servers that a namespace has left: for people who want to
 * know where their data is, and until when. */
#include "command.h"

#include <errno.h>
#include <time.h>

#define REMOVING_COUNTED 1000u

static void print_time(struct cmd *c, uint64_t ms)
{
    char text[32];
    struct tm tm;
    time_t t = (time_t)(ms / 1000);
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &tm);
    buf_printf(&c->out, "%s", text);
}

static int print_one(struct cmd *c, const struct ns_row *ns, const struct parted_row *p)
{
    const struct store_ops *ops = c->m->st->ops;
    struct server_row s;
    struct held_row held;
    uint64_t removing;
    int r = ops->server_get(c->m->st, p->server, &s, c->ar);
    if (r)
        return r == -ENOENT ? 0 : r; /* struck off; that was told then */
    r = ops->held(c->m->st, p->ns, p->server, &held);
    if (!r)
        r = ops->gone_count(c->m->st, p->server, p->ns, REMOVING_COUNTED, &removing);
    if (r || (!held.blocks && !removing))
        return r;
    buf_printf(&c->out, "%.*s is still on the disk of block server %llu (%.*s): ", PRB(ns->name),
               (unsigned long long)s.id, PRB(s.premises));
    if (held.blocks) {
        buf_printf(&c->out, "%llu bytes in %llu blocks, to be removed from ",
                   (unsigned long long)held.bytes, (unsigned long long)held.blocks);
        print_time(c, p->since_ms + c->m->gc_grace_ms);
        buf_printf(&c->out, " on, where others have them");
    }
    if (removing)
        buf_printf(&c->out, "%s%llu%s blocks are being removed", held.blocks ? "; " : "",
                   (unsigned long long)removing, removing == REMOVING_COUNTED ? " or more" : "");
    if (!meta_hears(&s, c->now_ms))
        buf_printf(&c->out,
                   "; it was last heard of %llu s ago, and removes nothing until it is back",
                   meta_silent_s(&s, c->now_ms));
    buf_printf(&c->out, "\n");
    return 0;
}

int cmd_say_left(struct cmd *c, const struct ns_row *ns)
{
    struct parted_row *v;
    size_t n;
    int r = c->m->st->ops->parted_list(c->m->st, ns->id, &v, &n, c->ar);
    for (size_t k = 0; k < n && !r; k++)
        r = print_one(c, ns, &v[k]);
    return r;
}

int cmd_left_at(struct cmd *c, uint64_t server, struct cmd_left *sum)
{
    const struct store_ops *ops = c->m->st->ops;
    struct parted_row *v;
    size_t n;
    int r = ops->parted_list(c->m->st, 0, &v, &n, c->ar);
    for (size_t k = 0; k < n && !r; k++) {
        struct held_row held;
        uint64_t removing;
        if (v[k].server != server)
            continue;
        r = ops->held(c->m->st, v[k].ns, server, &held);
        if (!r)
            r = ops->gone_count(c->m->st, server, v[k].ns, REMOVING_COUNTED, &removing);
        if (r)
            break;
        sum->bytes += held.bytes;
        sum->blocks += held.blocks + removing;
        uint64_t until = held.blocks ? v[k].since_ms + c->m->gc_grace_ms : (uint64_t)c->now_ms;
        if ((held.blocks || removing) && until > sum->until_ms)
            sum->until_ms = until;
    }
    return r;
}

void cmd_print_left_at(struct cmd *c, const struct server_row *s, const struct cmd_left *sum)
{
    buf_printf(&c->out, "still on the disk of block server %llu (%.*s): %llu blocks",
               (unsigned long long)s->id, PRB(s->premises), (unsigned long long)sum->blocks);
    if (sum->bytes)
        buf_printf(&c->out, ", %llu bytes", (unsigned long long)sum->bytes);
    buf_printf(&c->out, "; the last of them are to be removed from ");
    print_time(c, sum->until_ms);
    buf_printf(&c->out, " on\n");
}
