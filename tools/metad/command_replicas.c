// SPDX-License-Identifier: Apache-2.0
/* steadfs admin …, as far as it is about where blocks are: replication, copies, servers that go. */
#include "replicas.h"

#include "command.h"
#include "keys.h"
#include "opening.h"
#include "pins.h"

#include <errno.h>

/* What one block server lacks of a namespace. A stopped one is looked up for here, since it cannot
 * ask itself. */
static int lacking(struct cmd *c, uint64_t ns, uint64_t server, struct lack_sum *sum)
{
    bool more = false;
    int r = c->m->st->ops->fill_step(c->m->st, ns, server, FILL_BLOCKS, &more);
    return r ? r : c->m->st->ops->lack_sum(c->m->st, ns, server, sum);
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

/* ---- copies ---------------------------------------------------------------------------------- */
bool cmd_number(struct bytes text, uint64_t max, uint64_t *n)
{
    *n = 0;
    for (size_t k = 0; k < text.n && *n <= max; k++) {
        unsigned digit = text.p[k] - (unsigned)'0';
        if (digit > 9)
            return false;
        *n = *n * 10 + digit;
    }
    return text.n > 0 && *n <= max;
}

int cmd_copies(struct cmd *c)
{
    struct server_row *v;
    struct ns_row ns;
    size_t n, stay = 0;
    bool found;
    int r = cmd_find_ns(c, c->arg[0], &ns, &found);
    if (!found)
        return r;
    if (c->arg_n == 1) {
        buf_printf(&c->out, "%llu\n", (unsigned long long)(ns.copies_min ? ns.copies_min : 1));
        return 0;
    }
    if (!cmd_number(c->arg[1], 16, &ns.copies_min) || !ns.copies_min)
        return cmd_fail(c, EXIT_USAGE, "copies are a whole number from 1 to 16");
    r = c->m->st->ops->assigned(c->m->st, ns.id, &v, &n, c->ar);
    for (size_t k = 0; !r && k < n; k++)
        stay += !v[k].leaving;
    if (!r && ns.copies_min > stay)
        return cmd_fail(c, EXIT_FAILED,
                        "%.*s is assigned to %zu block server%s only; assign more of them first "
                        "(steadfs admin assign)",
                        PRB(ns.name), stay, stay == 1 ? "" : "s");
    if (!r)
        r = c->m->st->ops->ns_set(c->m->st, &ns);
    return r ? r : meta_touch_members(c->m, ns.id, c->ar);
}

/* ---- servers that go ------------------------------------------------------------------------- */
static int find_server(struct cmd *c, struct server_row *s, bool *found)
{
    uint64_t id;
    *found = false;
    if (!cmd_number(c->arg[0], INT32_MAX, &id))
        return cmd_fail(c, EXIT_USAGE, "%.*s is no server's number; see steadfs admin server list",
                        PRB(c->arg[0]));
    int r = c->m->st->ops->server_get(c->m->st, id, s, c->ar);
    if (r == -ENOENT)
        return cmd_fail(c, EXIT_FAILED, "no block server %llu; see steadfs admin server list",
                        (unsigned long long)id);
    *found = !r;
    return r;
}

/* Namespaces that the server serves, at most limit, into *v. */
static int served(struct cmd *c, uint64_t server, uint64_t after, size_t limit, uint64_t **v,
                  size_t *n)
{
    return c->m->st->ops->ns_of_server(c->m->st, server, after, limit, v, n, c->ar);
}

/* It leaves the namespace, or it is said that too few others stay. */
static int drain_ns(struct cmd *c, const struct server_row *s, uint64_t id, size_t *stuck)
{
    struct server_row *v;
    struct ns_row ns;
    size_t n;
    int r = c->m->st->ops->ns_get(c->m->st, id, &ns, c->ar);
    if (!r)
        r = c->m->st->ops->assigned(c->m->st, id, &v, &n, c->ar);
    if (r)
        return r;
    uint64_t copies = ns.copies_min ? ns.copies_min : 1;
    size_t stay = cmd_staying(v, n, s, 1);
    if (stay < copies) {
        (*stuck)++;
        buf_printf(&c->out,
                   "%.*s wants %llu cop%s and would have %zu block server%s: steadfs admin assign "
                   "%.*s PREMISES first\n",
                   PRB(ns.name), (unsigned long long)copies, copies == 1 ? "y" : "ies", stay,
                   stay == 1 ? "" : "s", PRB(ns.name));
        return 0;
    }
    if (cmd_option(c, "lost")) /* it will not tell what it has */
        r = c->m->st->ops->anew(c->m->st, id, s->id, false);
    if (!r)
        r = replicas_leave(c->m, id, s->id, c->now_ms, cmd_option(c, "force") != NULL, c->ar);
    return r ? r : meta_touch_members(c->m, id, c->ar);
}

/* Its disk is gone for good: what is recorded to be there does not count any more, and nobody waits
 * for it. */
static int lose_disk(struct cmd *c, struct server_row *s)
{
    if (meta_hears(s, c->now_ms))
        return cmd_fail(
            c, EXIT_FAILED,
            "block server %llu (%.*s) was heard of %llu s ago: a disk that is lost says "
            "nothing; drain it without --lost, or stop it and wait a minute",
            (unsigned long long)s->id, PRB(s->premises), meta_silent_s(s, c->now_ms));
    return opening_void(c->m, s);
}

int cmd_server_drain(struct cmd *c)
{
    enum { PAGE = 256 };
    struct server_row s;
    uint64_t *v, after = 0;
    size_t n = PAGE, left, stuck = 0;
    bool found;
    int r = find_server(c, &s, &found);
    if (!r && found && cmd_option(c, "lost"))
        r = lose_disk(c, &s);
    while (!r && !c->status && found && n == PAGE) {
        r = served(c, s.id, after, PAGE, &v, &n);
        for (size_t k = 0; !r && k < n; k++) {
            r = drain_ns(c, &s, v[k], &stuck);
            after = v[k];
        }
    }
    if (r || !found || c->status)
        return r;
    r = served(c, s.id, 0, SIZE_MAX >> 1, &v, &left);
    c->status = stuck ? EXIT_FAILED : 0; /* then it leaves none of them */
    if (r || stuck)
        return r;
    if (!left) {
        buf_printf(&c->out, "nothing is on block server %llu (%.*s) alone\n",
                   (unsigned long long)s.id, PRB(s.premises));
        return 0;
    }
    buf_printf(&c->out,
               "block server %llu (%.*s) leaves %zu namespaces when others have what it has; "
               "see steadfs admin replication\n",
               (unsigned long long)s.id, PRB(s.premises), left);
    return cmd_say_silent(c, &s, 1);
}

int cmd_server_remove(struct cmd *c)
{
    struct server_row s;
    uint64_t *v;
    size_t n;
    bool found;
    int r = find_server(c, &s, &found);
    if (r || !found)
        return r;
    r = served(c, s.id, 0, 1, &v, &n);
    if (!r && n)
        return cmd_fail(c, EXIT_FAILED,
                        "block server %llu still serves namespaces; steadfs admin server drain "
                        "%llu first",
                        (unsigned long long)s.id, (unsigned long long)s.id);
    struct cmd_left left = {0};
    if (!r)
        r = cmd_left_at(c, s.id, &left);
    if (!r && left.blocks)
        buf_printf(&c->out,
                   "what is on the disk of block server %llu (%.*s) stays there, %llu blocks and "
                   "%llu bytes that are known of: erase it\n",
                   (unsigned long long)s.id, PRB(s.premises), (unsigned long long)left.blocks,
                   (unsigned long long)left.bytes);
    if (!r)
        r = keys_revoke_peer(c->m, 0, s.id, c->now_ms);
    return r ? r : c->m->st->ops->server_remove(c->m->st, s.id);
}

/* ---- keys ------------------------------------------------------------------------------------ */
/* What one cannot have does not keep the others from having it. */
static int rotate_one(struct cmd *c, const struct server_row *s, bool at_once)
{
    int r = keys_rotate(c->m, s->id, at_once, c->ar);
    unsigned long long id = s->id;
    if (r == -E2BIG) {
        c->status = EXIT_FAILED;
        c->keep = true;
        buf_printf(&c->out,
                   "block server %llu has had too many keys lately; wait until the oldest ends, or "
                   "--at-once\n",
                   id);
        return 0;
    }
    if (r && r != -EALREADY)
        return r;
    buf_printf(&c->out, "block server %llu (%.*s) %s\n", id, PRB(s->premises),
               r ? "is being given a new key already" : "gets a new key with its next beat");
    return 0;
}

int cmd_rotate_key(struct cmd *c)
{
    bool at_once = cmd_option(c, "at-once") != NULL, found = true;
    struct server_row *v, one;
    size_t n = 1;
    int r = c->arg_n ? find_server(c, &one, &found)
                     : c->m->st->ops->server_list(c->m->st, &v, &n, c->ar);
    if (r || !found)
        return r;
    if (c->arg_n)
        v = &one;
    for (size_t k = 0; k < n && !r; k++)
        r = rotate_one(c, &v[k], at_once);
    return r;
}

/* ---- the key that a server shows ---------------------------------------------------------------
 */
#define OVERLAP_MAX_S (7 * 24 * 3600)

static int rekey_cancel(struct cmd *c, struct server_row *s)
{
    bool told = s->pin_next.n > 0;
    s->pin_next = (struct bytes){0};
    s->rekey_ms = 0;
    int r = c->m->st->ops->server_set(c->m->st, s);
    return r || !told ? r : meta_touch_everybody(c->m, c->ar);
}

int cmd_server_rekey(struct cmd *c)
{
    const struct bytes *overlap = cmd_option(c, "overlap");
    uint64_t seconds = c->m->capability_ms / 1000;
    struct server_row s;
    bool found;
    int r = find_server(c, &s, &found);
    if (r || !found)
        return r;
    if (cmd_option(c, "cancel"))
        return rekey_cancel(c, &s);
    if (overlap && !cmd_number(*overlap, OVERLAP_MAX_S, &seconds))
        return cmd_fail(c, EXIT_USAGE, "--overlap takes seconds, at most %d", OVERLAP_MAX_S);
    if (!s.shown.n)
        return cmd_fail(c, EXIT_FAILED,
                        "block server %llu does not tell which key it shows: it has no TLS, was "
                        "not heard yet, or its steadfs-blockd is too old for this",
                        (unsigned long long)s.id);
    if (pins_changing(&s, c->now_ms))
        return cmd_fail(c, EXIT_FAILED,
                        "block server %llu is being given another key already (steadfs admin "
                        "server list; --cancel)",
                        (unsigned long long)s.id);
    s.pin_next = (struct bytes){0};
    s.rekey_ms = (uint64_t)c->now_ms;
    s.rekey_overlap_ms = 1000 * seconds;
    r = c->m->st->ops->server_set(c->m->st, &s);
    buf_printf(&c->out,
               "block server %llu (%.*s) makes another key, and shows it %llu s after all have "
               "been told of it\n",
               (unsigned long long)s.id, PRB(s.premises), (unsigned long long)seconds);
    return r;
}
