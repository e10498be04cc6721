// SPDX-License-Identifier: Apache-2.0
/* steadfs admin …, as far as it decides where namespaces may be: assignments, the premises that one
 * never leaves, and premises that are left. */
#include "command.h"
#include "replicas.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- which servers -------------------------------------------------------------------------- */
static bool has(const struct server_row *v, size_t n, uint64_t id)
{
    for (size_t k = 0; k < n; k++)
        if (v[k].id == id)
            return true;
    return false;
}

size_t cmd_staying(const struct server_row *v, size_t n, const struct server_row *going,
                   size_t going_n)
{
    size_t stay = 0;
    for (size_t k = 0; k < n; k++)
        stay += !v[k].leaving && !has(going, going_n, v[k].id);
    return stay;
}

int cmd_say_silent(struct cmd *c, const struct server_row *leaving, size_t n)
{
    struct server_row *v;
    size_t v_n;
    int r = c->m->st->ops->server_list(c->m->st, &v, &v_n, c->ar);
    for (size_t k = 0; k < v_n && !r; k++)
        if (!meta_hears(&v[k], c->now_ms) && !has(leaving, n, v[k].id))
            buf_printf(&c->out,
                       "block server %llu (%.*s) was last heard of %llu s ago: what it is recorded "
                       "to have does not count until it is back, or with --force\n",
                       (unsigned long long)v[k].id, PRB(v[k].premises),
                       meta_silent_s(&v[k], c->now_ms));
    return r;
}

/* Adds those of one premises, with the rank; going: also those that are being evacuated. */
static int add_premises(struct cmd *c, const struct server_row *all, size_t all_n,
                        struct bytes premises, uint64_t rank, bool going, struct server_row *out,
                        size_t *n)
{
    bool any = false, evacuated = false;
    for (size_t k = 0; k < all_n; k++) {
        if (!bytes_equal(all[k].premises, premises))
            continue;
        bool left_out = all[k].evacuating && !going;
        any |= !left_out;
        evacuated |= left_out;
        if (left_out || has(out, *n, all[k].id)) /* by premises named twice */
            continue;
        out[*n] = all[k];
        out[(*n)++].priority = rank;
    }
    if (!any && evacuated)
        return cmd_fail(c, EXIT_FAILED,
                        "premises %.*s are being evacuated; steadfs admin evacuate %.*s --cancel "
                        "ends that",
                        PRB(premises), PRB(premises));
    if (!any)
        return cmd_fail(c, EXIT_FAILED,
                        "no block server at premises %.*s; see steadfs admin server list",
                        PRB(premises));
    return 0;
}

int cmd_servers_at(struct cmd *c, const struct bytes *words, size_t words_n, bool going,
                   struct server_row **out, size_t *n)
{
    struct server_row *all;
    size_t all_n;
    int r = c->m->st->ops->server_list(c->m->st, &all, &all_n, c->ar);
    if (r)
        return r;
    *out = arena_alloc(c->ar, (all_n + 1) * sizeof **out);
    *n = 0;
    for (size_t w = 0; w < words_n && !r && !c->status; w++) {
        struct bytes left = words[w];
        const uint8_t *comma;
        do { /* P,Q: of one rank */
            comma = left.n ? memchr(left.p, ',', left.n) : NULL;
            struct bytes one = bytes_of(left.p, comma ? (size_t)(comma - left.p) : left.n);
            r = add_premises(c, all, all_n, one, w, going, *out, n);
            if (comma)
                left = bytes_of(comma + 1, left.n - one.n - 1);
        } while (comma && !r && !c->status);
    }
    return r;
}

int cmd_servers_of_option(struct cmd *c, const char *option, struct server_row **out, size_t *n)
{
    const struct bytes *list = cmd_option(c, option);
    struct bytes words[64];
    size_t words_n = 0, all_n;
    if (!list) {
        int r = c->m->st->ops->server_list(c->m->st, out, &all_n, c->ar);
        *n = 0;
        for (size_t k = 0; k < all_n && !r; k++) {
            size_t same = 0;
            if ((*out)[k].evacuating)
                continue;
            while (same < *n && !bytes_equal((*out)[same].premises, (*out)[k].premises))
                same++;
            (*out)[k].priority = same < *n ? (*out)[same].priority : *n;
            (*out)[(*n)++] = (*out)[k];
        }
        return r;
    }
    const uint8_t *p = list->p, *end = list->p + list->n;
    while (p < end) {
        const uint8_t *comma = memchr(p, ',', (size_t)(end - p));
        const uint8_t *stop = comma ? comma : end;
        if (words_n == sizeof words / sizeof *words)
            return cmd_fail(c, EXIT_USAGE, "--%s names too many premises", option);
        words[words_n++] = bytes_of(p, (size_t)(stop - p));
        p = stop + (comma != NULL);
    }
    return cmd_servers_at(c, words, words_n, false, out, n);
}

/* ---- assignments ---------------------------------------------------------------------------- */
/* A minimum of copies that was asked for is not undercut by the way: commits would be refused. */
static int may_leave(struct cmd *c, const struct ns_row *ns, const struct server_row *going,
                     size_t n)
{
    struct server_row *v;
    size_t v_n;
    int r = c->m->st->ops->assigned(c->m->st, ns->id, &v, &v_n, c->ar);
    if (r)
        return r;
    size_t now = cmd_staying(v, v_n, NULL, 0), stay = cmd_staying(v, v_n, going, n);
    if (ns->copies_min < 2 || stay >= ns->copies_min || stay == now)
        return 0;
    return cmd_fail(c, EXIT_FAILED,
                    "%.*s wants %llu copies and would have %zu block server%s; assign more of them "
                    "first (steadfs admin assign)",
                    PRB(ns->name), (unsigned long long)ns->copies_min, stay, stay == 1 ? "" : "s");
}

/* That nothing can be written any more is not to be learnt from users. */
static int say_none(struct cmd *c, const struct ns_row *ns)
{
    struct server_row *v;
    size_t n;
    int r = c->m->st->ops->assigned(c->m->st, ns->id, &v, &n, c->ar);
    if (!r && !cmd_staying(v, n, NULL, 0))
        buf_printf(&c->out,
                   "%.*s is assigned to no block server now: what is changed in it stays on the "
                   "mounts until steadfs admin assign %.*s PREMISES\n",
                   PRB(ns->name), PRB(ns->name));
    return r;
}

static int change_assignment(struct cmd *c, bool assign)
{
    struct server_row *v;
    struct ns_row ns;
    size_t n;
    bool found;
    int r = cmd_find_ns(c, c->arg[0], &ns, &found);
    if (!found)
        return r;
    r = cmd_servers_at(c, c->arg + 1, c->arg_n - 1, !assign, &v, &n);
    if (!r && !c->status && assign)
        r = cmd_may_be_at(c, &ns, v, n);
    else if (!r && !c->status)
        r = may_leave(c, &ns, v, n);
    if (r || c->status)
        return r;
    if (assign)
        r = meta_assign(c->m, ns.id, v, n, c->ar);
    bool force = cmd_option(c, "force") != NULL, any = false, still = false;
    for (size_t k = 0; !r && !assign && k < n; k++, any |= still) {
        r = replicas_leave(c->m, ns.id, v[k].id, c->now_ms, force, c->ar);
        if (!r)
            r = c->m->st->ops->assigned_to(c->m->st, ns.id, v[k].id, &still);
    }
    if (!r && any)
        r = cmd_say_silent(c, v, n);
    if (!r && !assign)
        r = say_none(c, &ns);
    if (!r && !assign)
        r = cmd_say_left(c, &ns);
    if (r == -E2BIG)
        return cmd_fail(c, EXIT_FAILED, "a namespace has at most %d block servers", CANDIDATES_MAX);
    return r ? r : meta_touch_members(c->m, ns.id, c->ar);
}

int cmd_assign(struct cmd *c)
{
    return change_assignment(c, true);
}

int cmd_unassign(struct cmd *c)
{
    return change_assignment(c, false);
}

/* ---- namespaces that stay ------------------------------------------------------------------- */
static bool inside(const struct bytes *premises, size_t n, struct bytes where)
{
    for (size_t k = 0; k < n; k++)
        if (bytes_equal(premises[k], where))
            return true;
    return n == 0;
}

int cmd_may_be_at(struct cmd *c, const struct ns_row *ns, const struct server_row *v, size_t n)
{
    struct bytes *premises;
    size_t premises_n;
    int r = c->m->st->ops->onsite_list(c->m->st, ns->id, &premises, &premises_n, c->ar);
    for (size_t k = 0; k < n && !r; k++)
        if (!inside(premises, premises_n, v[k].premises))
            return cmd_fail(c, EXIT_REFUSED,
                            "refused: %.*s never leaves its premises, and %.*s is none of them; "
                            "see steadfs admin onsite %.*s",
                            PRB(ns->name), PRB(v[k].premises), PRB(ns->name));
    return r;
}

static int print_onsite(struct cmd *c, const struct ns_row *ns)
{
    struct bytes *v;
    size_t n;
    int r = c->m->st->ops->onsite_list(c->m->st, ns->id, &v, &n, c->ar);
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; k < n && !r; k++) {
        if (c->json) {
            buf_printf(&c->out, "%s", k ? ", " : "");
            cmd_json(c, v[k]);
        } else {
            buf_printf(&c->out, "%.*s\n", PRB(v[k]));
        }
    }
    if (c->json)
        buf_printf(&c->out, "]\n");
    else if (!r && !n)
        buf_printf(&c->out, "%.*s may be anywhere\n", PRB(ns->name));
    return r || c->json ? r : cmd_say_left(c, ns);
}

/* Whoever is elsewhere must have left before: that takes time, and it is not to be thought done. */
static int elsewhere(struct cmd *c, const struct ns_row *ns, const struct bytes *premises, size_t n)
{
    struct server_row *v;
    size_t v_n;
    int r = c->m->st->ops->assigned(c->m->st, ns->id, &v, &v_n, c->ar);
    for (size_t k = 0; k < v_n && !r; k++)
        if (!inside(premises, n, v[k].premises))
            return cmd_fail(c, EXIT_FAILED,
                            v[k].leaving
                                ? "%.*s has not left premises %.*s yet: what is there is not all "
                                  "elsewhere; see steadfs admin replication"
                                : "%.*s is at premises %.*s; steadfs admin unassign it first",
                            PRB(ns->name), PRB(v[k].premises));
    return r;
}

int cmd_onsite(struct cmd *c)
{
    const struct bytes *premises = c->arg + 1;
    size_t n = c->arg_n - 1, servers_n;
    struct server_row *servers;
    struct ns_row ns;
    bool found, anywhere = cmd_option(c, "anywhere") != NULL;
    int r = cmd_find_ns(c, c->arg[0], &ns, &found);
    if (!found)
        return r;
    if (anywhere && n)
        return cmd_fail(c, EXIT_USAGE, "either premises or --anywhere");
    if (!anywhere && !n)
        return print_onsite(c, &ns);
    if (n > 64)
        return cmd_fail(c, EXIT_USAGE, "at most 64 premises");
    for (size_t k = 0; k < n; k++)
        if (!meta_name_ok(premises[k])) /* a list with commas would be a wall around nothing */
            return cmd_fail(c, EXIT_FAILED,
                            "no block server at premises %.*s; name several one by one",
                            PRB(premises[k]));
    if (n)
        r = cmd_servers_at(c, premises, n, false, &servers, &servers_n); /* no wall by a typo */
    if (!r && !c->status && n)
        r = elsewhere(c, &ns, premises, n);
    if (!r && !c->status)
        r = c->m->st->ops->onsite_set(c->m->st, ns.id, premises, n);
    if (!r && !c->status && n)
        r = cmd_say_left(c, &ns);
    return r || c->status ? r : meta_touch_members(c->m, ns.id, c->ar);
}

/* ---- servers and premises that are left ----------------------------------------------------- */
struct evacuation {
    struct cmd *c;
    struct server_row *v; /* that go */
    size_t n;
    struct server_row *to; /* --to; n 0: none named */
    size_t to_n;
    size_t left, stuck; /* namespaces */
    uint64_t blocks, bytes;
    bool changed;
};

/* By number, or all of a premises. */
static int named(struct cmd *c, struct server_row **v, size_t *n)
{
    struct server_row *all;
    size_t all_n;
    uint64_t id = 0;
    cmd_number(c->arg[0], INT32_MAX, &id);
    int r = c->m->st->ops->server_list(c->m->st, &all, &all_n, c->ar);
    *v = arena_alloc(c->ar, (all_n + 1) * sizeof **v);
    *n = 0;
    for (size_t k = 0; k < all_n && !r; k++)
        if (all[k].id == id || bytes_equal(all[k].premises, c->arg[0]))
            (*v)[(*n)++] = all[k];
    if (!r && !*n)
        return cmd_fail(c, EXIT_FAILED,
                        "no block server and no premises %.*s; see steadfs admin server list",
                        PRB(c->arg[0]));
    return r;
}

static int by_bytes(const void *a, const void *b)
{
    const struct lack_sum *x = a, *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* What holds the server back: what those that stay lack, the ones that lack least first, as many of
 * them as the namespace wants copies. */
static int count_left(struct evacuation *e, const struct ns_row *ns, const struct server_row *v,
                      size_t n)
{
    const struct store_ops *ops = e->c->m->st->ops;
    struct lack_sum sums[CANDIDATES_MAX];
    uint64_t copies = ns->copies_min ? ns->copies_min : 1;
    size_t stay = 0;
    int r = 0;
    for (size_t k = 0; k < n && !r; k++) {
        struct lack_sum *sum = &sums[stay];
        if (v[k].leaving || !meta_hears(&v[k], e->c->now_ms))
            continue;
        stay++;
        r = ops->lack_sum(e->c->m->st, ns->id, v[k].id, sum);
    }
    if (r || !stay)
        return r;
    qsort(sums, stay, sizeof *sums, by_bytes);
    const struct lack_sum *last = &sums[copies < stay ? copies - 1 : stay - 1];
    e->blocks += last->blocks;
    e->bytes += last->bytes;
    return 0;
}

/* Whether as many stay as the namespace wants copies; assigns --to where they do not. */
static int make_room(struct evacuation *e, const struct ns_row *ns, const struct server_row *v,
                     size_t n, bool *room)
{
    struct cmd *c = e->c;
    uint64_t copies = ns->copies_min ? ns->copies_min : 1;
    struct bytes *premises;
    size_t premises_n, fit_n = 0, stay = 0;
    struct server_row *staying = arena_alloc(c->ar, (n + 1) * sizeof *staying);
    for (size_t k = 0; k < n; k++)
        if (!v[k].leaving && !v[k].evacuating && !has(e->v, e->n, v[k].id))
            staying[stay++] = v[k];
    *room = stay >= copies;
    if (*room || !e->to_n)
        return 0;
    struct server_row *fit = arena_alloc(c->ar, e->to_n * sizeof *fit);
    int r = c->m->st->ops->onsite_list(c->m->st, ns->id, &premises, &premises_n, c->ar);
    for (size_t k = 0; k < e->to_n && !r; k++)
        if (inside(premises, premises_n, e->to[k].premises) && !has(e->v, e->n, e->to[k].id) &&
            !has(staying, stay, e->to[k].id))
            fit[fit_n++] = e->to[k];
    *room = !r && stay + fit_n >= copies;
    if (!*room)
        return r;
    e->changed = true;
    return meta_assign(c->m, ns->id, fit, fit_n, c->ar);
}

static void print_stuck(struct cmd *c, const struct ns_row *ns)
{
    if (ns->copies_min > 1)
        buf_printf(&c->out,
                   "%.*s wants %llu copies and has too few other block servers: steadfs admin "
                   "assign %.*s PREMISES, or --to\n",
                   PRB(ns->name), (unsigned long long)ns->copies_min, PRB(ns->name));
    else
        buf_printf(&c->out,
                   "%.*s has no other block server: steadfs admin assign %.*s PREMISES, or --to\n",
                   PRB(ns->name), PRB(ns->name));
}

/* One namespace of one server that goes. */
static int evacuate_ns(struct evacuation *e, uint64_t server, uint64_t id)
{
    struct cmd *c = e->c;
    const struct store_ops *ops = c->m->st->ops;
    struct server_row *v;
    struct ns_row ns;
    size_t n;
    bool room, still;
    int r = ops->ns_get(c->m->st, id, &ns, c->ar);
    if (!r)
        r = ops->assigned(c->m->st, id, &v, &n, c->ar);
    if (!r)
        r = make_room(e, &ns, v, n, &room);
    if (r)
        return r;
    if (!room) {
        e->stuck++;
        if (!c->json)
            print_stuck(c, &ns);
        return 0;
    }
    bool goes = true, force = cmd_option(c, "force") != NULL;
    for (size_t k = 0; k < n; k++)
        goes &= v[k].id != server || v[k].leaving;
    if (goes) /* asked again: how far is it? */
        r = replicas_let_go(c->m, id, server, c->now_ms, force, c->ar);
    else
        r = replicas_leave(c->m, id, server, c->now_ms, force, c->ar);
    if (!r && !goes)
        r = meta_touch_members(c->m, id, c->ar);
    if (!r)
        r = c->m->st->ops->assigned_to(c->m->st, id, server, &still);
    e->changed |= !goes || !still;
    if (!r)
        r = ops->assigned(c->m->st, id, &v, &n, c->ar);
    if (r || !still)
        return r;
    e->left++;
    return count_left(e, &ns, v, n);
}

static int evacuate_server(struct evacuation *e, struct server_row *s)
{
    enum { PAGE = 256 };
    const struct store_ops *ops = e->c->m->st->ops;
    uint64_t *v, after = 0;
    size_t n = PAGE;
    int r = 0;
    if (!s->evacuating) {
        s->evacuating = e->changed = true;
        r = ops->server_set(e->c->m->st, s);
    }
    while (!r && n == PAGE) {
        r = ops->ns_of_server(e->c->m->st, s->id, after, PAGE, &v, &n, e->c->ar);
        for (size_t k = 0; k < n && !r; k++) {
            r = evacuate_ns(e, s->id, v[k]);
            after = v[k];
        }
    }
    return r;
}

static void print_evacuation(const struct evacuation *e)
{
    struct cmd *c = e->c;
    c->keep = true;
    c->unchanged = !e->changed;
    c->status = e->left ? EXIT_PENDING : e->stuck ? EXIT_FAILED : 0;
    if (c->json)
        buf_printf(&c->out,
                   "{\"servers\": %zu, \"namespaces_left\": %zu, \"lacking_blocks\": %llu, "
                   "\"lacking_bytes\": %llu, \"all_counted\": true, \"namespaces_stuck\": %zu}\n",
                   e->n, e->left, (unsigned long long)e->blocks, (unsigned long long)e->bytes,
                   e->stuck);
    else if (e->left)
        buf_printf(
            &c->out, "%zu namespaces are still at %.*s: others lack %llu blocks, %llu bytes\n",
            e->left, PRB(c->arg[0]), (unsigned long long)e->blocks, (unsigned long long)e->bytes);
    else if (!e->stuck)
        buf_printf(&c->out,
                   "all that was at %.*s is at others; steadfs admin server remove takes it out\n",
                   PRB(c->arg[0]));
}

int cmd_evacuate(struct cmd *c)
{
    struct evacuation e = {.c = c};
    int r = named(c, &e.v, &e.n);
    if (r || c->status)
        return r;
    if (cmd_option(c, "cancel")) {
        for (size_t k = 0; k < e.n && !r; k++) {
            e.v[k].evacuating = false;
            r = c->m->st->ops->server_set(c->m->st, &e.v[k]);
        }
        return r;
    }
    if (cmd_option(c, "to"))
        r = cmd_servers_of_option(c, "to", &e.to, &e.to_n);
    for (size_t k = 0; k < e.n && !r && !c->status; k++)
        r = evacuate_server(&e, &e.v[k]);
    if (r || c->status)
        return r;
    print_evacuation(&e);
    for (size_t k = 0; k < e.n && !r && !e.left && !c->json; k++) {
        struct cmd_left left = {0};
        r = cmd_left_at(c, e.v[k].id, &left);
        if (!r && left.blocks)
            cmd_print_left_at(c, &e.v[k], &left);
    }
    return !r && e.left && !c->json ? cmd_say_silent(c, e.v, e.n) : r;
}
