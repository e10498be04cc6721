// SPDX-License-Identifier: Apache-2.0
/* steadfs admin fsck: files, records and disks compared, and what can be repaired repaired.
 *
 * The whole is too much for one transaction, which others wait for: each question does a little
 * and says where to go on (fsck.h), together with the sums, so that the server keeps nothing
 * between two questions but what block servers found (audit.h); the last one prints the sums. What
 * is committed meanwhile is seen or not.
 *
 * Block servers look at their disks and compare with what is recorded; then the pieces of all files
 * are gone through, with what is recorded and what was found. --repair lets records become what
 * is there, notes what block servers should have, and waits until they have it. */
#include "fsck.h"

#include <stdio.h>

#include "audit.h"

#define TOKEN_NUMBERS 19

static void numbers_of(struct fsck *f, unsigned long long *v[TOKEN_NUMBERS])
{
    unsigned long long *all[TOKEN_NUMBERS] = {
        &f->phase, &f->order,     &f->since_ms,    &f->lacking,     &f->lacked,
        &f->ns,    &f->node,      &f->off,         &f->extents,     &f->files,
        &f->bytes, &f->last_file, &f->short_files, &f->short_bytes, &f->last_short,
        &f->wrong, &f->noted,     &f->silent,      &f->unreadable};
    for (size_t k = 0; k < TOKEN_NUMBERS; k++)
        v[k] = all[k];
}

static bool read_place(struct cmd *c, struct fsck *f)
{
    const struct bytes *from = cmd_option(c, "from");
    unsigned long long *v[TOKEN_NUMBERS];
    *f = (struct fsck){.phase = cmd_option(c, "recorded") ? FSCK_FILES : FSCK_ORDER};
    if (!from)
        return true;
    numbers_of(f, v);
    const char *at = arena_str(c->ar, *from);
    for (size_t k = 0; k < TOKEN_NUMBERS; k++) {
        int n = 0;
        if (sscanf(at, k ? ".%llx%n" : "%llx%n", v[k], &n) != 1)
            return false;
        at += n;
    }
    return !*at && f->phase < FSCK_PHASES;
}

static void go_on(struct cmd *c, struct fsck *f)
{
    unsigned long long *v[TOKEN_NUMBERS];
    size_t n = 0;
    numbers_of(f, v);
    for (size_t k = 0; k < TOKEN_NUMBERS; k++)
        n += (size_t)snprintf(c->again + n, sizeof c->again - n, k ? ".%llx" : "%llx", *v[k]);
}

int fsck_next_ns(struct cmd *c, const struct fsck *f, struct ns_row *ns, bool *found)
{
    struct ns_row *v;
    size_t n;
    *found = true;
    if (c->arg_n) {
        int r = cmd_find_ns(c, c->arg[0], ns, found);
        if (*found && ns->id < f->ns)
            ns->id = 0;
        return r;
    }
    *ns = (struct ns_row){0};
    int r = c->m->st->ops->ns_list(c->m->st, 0, &v, &n, c->ar);
    for (size_t i = 0; !r && i < n; i++)
        if (v[i].id >= f->ns && (!ns->id || v[i].id < ns->id))
            *ns = v[i];
    return r;
}

/* What a server that is silent has lost meanwhile is not known. */
static int print_silent(struct cmd *c, struct fsck *f)
{
    struct server_row *v;
    size_t n;
    bool found;
    int r = fsck_servers(c, &v, &n, &found);
    for (size_t i = 0; !r && found && i < n; i++) {
        if (meta_hears(&v[i], c->now_ms))
            continue;
        f->silent++;
        if (!c->json)
            buf_printf(
                &c->out,
                "block server %llu (%.*s) was last heard of %llu s ago; what it may have lost "
                "since is not known\n",
                (unsigned long long)v[i].id, PRB(v[i].premises), meta_silent_s(&v[i], c->now_ms));
    }
    return r;
}

/* FSCK_NOTE and FSCK_FILES: some pieces of the next namespace. */
static int look(struct cmd *c, struct fsck *f)
{
    struct ns_row ns;
    bool found, note = f->phase == FSCK_NOTE;
    int r = fsck_next_ns(c, f, &ns, &found);
    if (!r && found && ns.id)
        return fsck_pieces(c, &ns, f, note);
    if (r || !found)
        return r;
    f->phase = note ? FSCK_BRING : FSCK_SUMS;
    f->ns = f->node = f->off = 0;
    f->extents = note ? 0 : f->extents; /* they are gone through once more */
    f->since_ms = (unsigned long long)c->now_ms;
    return 0;
}

/* ---- the sums ------------------------------------------------------------------------------- */
static void print_json(struct cmd *c, const struct fsck *f, bool repair)
{
    buf_printf(&c->out,
               "{\"extents\": %llu, \"files\": %llu, \"lacking_bytes\": %llu, \"short_files\": "
               "%llu, \"short_bytes\": %llu, \"differences\": %llu, \"servers_silent\": %llu",
               f->extents, f->files, f->bytes, f->short_files, f->short_bytes, f->wrong, f->silent);
    if (repair)
        buf_printf(&c->out, ", \"noted_blocks\": %llu, \"brought_blocks\": %llu", f->noted,
                   f->lacked - f->lacking);
    buf_printf(&c->out, "}\n");
}

static void print_text(struct cmd *c, const struct fsck *f, bool repair)
{
    if (repair)
        buf_printf(&c->out,
                   "repaired: %llu records were other than what is there, %llu blocks were "
                   "lacking unnoted, %llu blocks were brought\n",
                   f->wrong, f->noted, f->lacked - f->lacking);
    if (f->files)
        buf_printf(
            &c->out,
            "%llu files lack %llu bytes. A device that has them at hand brings them when it "
            "is asked to write them again; a block server that is back, by itself. Bytes that "
            "a block server found damaged are in its corrupt/.\n",
            f->files, f->bytes);
    if (f->short_files)
        buf_printf(&c->out,
                   "%llu files (%llu bytes) are not at all block servers that they should be at; "
                   "nothing of them is lost. Block servers bring them when they reach each other: "
                   "steadfs admin replication, or fsck --repair, which waits for that\n",
                   f->short_files, f->short_bytes);
    if (f->silent)
        buf_printf(&c->out, "%llu block servers could not be looked at\n", f->silent);
    if (f->wrong && !repair && !f->files && !f->short_files)
        buf_printf(&c->out, "no file lacks anything; fsck --repair lets the records become what "
                            "is there\n");
    if (!f->files && !f->short_files && !f->silent && !f->unreadable && (!f->wrong || repair))
        buf_printf(&c->out, "all content is where it should be (%llu pieces looked at)\n",
                   f->extents);
}

static int sums(struct cmd *c, const struct fsck *f)
{
    bool repair = cmd_option(c, "repair") != NULL;
    int r = 0;
    if (c->json)
        print_json(c, f, repair);
    else
        print_text(c, f, repair);
    if (!c->json)
        r = cmd_say_kept(c);
    if (r)
        return r;
    bool pending = f->short_files || f->silent || f->unreadable || (f->wrong && !repair);
    c->status = f->files ? EXIT_FAILED : pending ? EXIT_PENDING : 0;
    c->keep = true;
    return f->order ? c->m->st->ops->audit_end(c->m->st, f->order) : 0;
}

int cmd_fsck(struct cmd *c)
{
    struct fsck f;
    int r = 0;
    if (!read_place(c, &f))
        return cmd_fail(c, EXIT_USAGE, "--from takes what an earlier answer said");
    if (cmd_option(c, "recorded") && (cmd_option(c, "repair") || cmd_option(c, "read")))
        return cmd_fail(c, EXIT_USAGE,
                        "--recorded looks at records only: neither --read nor --repair go with it");
    c->unchanged = true; /* of what anybody waits for; else it is said below */
    if (f.phase == FSCK_SUMS)
        return sums(c, &f);
    if (f.phase == FSCK_ORDER)
        r = fsck_order(c, &f);
    else if (f.phase == FSCK_CHECKS)
        r = fsck_checks(c, &f);
    else if (f.phase == FSCK_BRING)
        r = fsck_bring(c, &f);
    else if (!cmd_option(c, "from"))
        r = print_silent(c, &f);
    if (!r && !c->status && (f.phase == FSCK_FILES || f.phase == FSCK_NOTE) && !c->pause_ms)
        r = look(c, &f);
    if (!c->status)
        go_on(c, &f);
    return r;
}
