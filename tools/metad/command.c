// SPDX-License-Identifier: Apache-2.0
/* The command lines of people: from words to a command function, and its answer.
 *
 * A table lists every command with its words, who may run it, how many arguments and which options
 * it takes; usage lines come from the same table. A command is one transaction, kept only when it
 * ends with exit status 0.
 */
#include "command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

#define LAST_STATUS_UNDO                                                                           \
    (-ECANCELED) /* ends a transaction without keeping it; never leaves here                       \
                  */

static const struct command {
    const char *words[3];
    bool admin;
    size_t min, max;
    const char *options; /* names, each behind a space; '=': takes a value */
    const char *usage;   /* behind the words */
    int (*run)(struct cmd *c);
    bool looks; /* changes nothing that anybody waits for */
} commands[] = {
    {{"admin", "account", "add"},
     true,
     1,
     1,
     " no-token assign=",
     "NAME [--no-token] [--assign P,…]",
     cmd_account_add},
    {{"admin", "account", "token"}, true, 1, 1, "", "NAME", cmd_account_token},
    {{"admin", "account", "list"}, true, 0, 0, "", "", cmd_account_list, true},
    {{"admin", "device", "list"}, true, 0, 1, "", "[ACCOUNT]", cmd_device_list, true},
    {{"admin", "device", "revoke"}, true, 1, 1, "", "NUMBER", cmd_device_revoke},
    {{"admin", "server", "add"}, true, 1, 1, " token-only", "PREMISES", cmd_server_add},
    {{"admin", "server", "list"}, true, 0, 0, "", "", cmd_server_list, true},
    {{"admin", "server", "rekey"},
     true,
     1,
     1,
     " overlap= cancel",
     "NUMBER [--overlap SECONDS | --cancel]",
     cmd_server_rekey},
    {{"admin", "copies"}, true, 1, 2, "", "NAMESPACE [N]", cmd_copies},
    {{"admin", "server", "drain"},
     true,
     1,
     1,
     " force lost",
     "NUMBER [--force | --lost]",
     cmd_server_drain},
    {{"admin", "server", "remove"}, true, 1, 1, "", "NUMBER", cmd_server_remove},
    {{"admin", "rotate-key"}, true, 0, 1, " at-once", "[NUMBER] [--at-once]", cmd_rotate_key},
    {{"admin", "replication"}, true, 0, 1, "", "[NAMESPACE]", cmd_replication, true},
    {{"admin", "fsck"},
     true,
     0,
     1,
     " repair read recorded from=",
     "[--repair] [--read] [--recorded] [NAMESPACE]",
     cmd_fsck},
    {{"admin", "gc"},
     true,
     0,
     1,
     " dry-run restored from=",
     "[--dry-run | --restored] [NAMESPACE]",
     cmd_gc},
    {{"admin", "namespace", "list"}, true, 0, 0, "", "", cmd_admin_ns_list, true},
    {{"admin", "assign"}, true, 2, CMD_WORDS_MAX, "", "NAMESPACE PREMISES…", cmd_assign},
    {{"admin", "unassign"},
     true,
     2,
     CMD_WORDS_MAX,
     " force",
     "NAMESPACE PREMISES… [--force]",
     cmd_unassign},
    {{"admin", "onsite"},
     true,
     1,
     CMD_WORDS_MAX,
     " anywhere",
     "NAMESPACE [PREMISES… | --anywhere]",
     cmd_onsite},
    {{"admin", "evacuate"},
     true,
     1,
     1,
     " to= cancel force",
     "NUMBER|PREMISES [--to PREMISES,…] [--wait] [--force] | --cancel",
     cmd_evacuate},
    {{"admin", "quota"},
     true,
     1,
     1,
     " bytes= nodes=",
     "NAMESPACE [--bytes N[K|M|G|T]] [--nodes N]",
     cmd_quota},
    {{"namespace", "create"}, false, 1, 1, "", "NAME", cmd_ns_create},
    {{"namespace", "mount"}, false, 2, 2, "", "NAME PATH", cmd_ns_mount},
    {{"namespace", "unmount"}, false, 1, 1, "", "PATH", cmd_ns_unmount},
    {{"namespace", "list"}, false, 0, 0, "", "", cmd_ns_list, true},
    {{"share"}, false, 3, 3, "", "NAMESPACE ACCOUNT viewer|editor|owner|none", cmd_share},
};
static const size_t commands_n = sizeof commands / sizeof *commands;

/* ---- for command functions
 * ----------------------------------------------------------------------- */
int cmd_fail(struct cmd *c, unsigned status, const char *fmt, ...)
{
    char line[WHY_LEN];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    buf_free(&c->out);
    cmd_text(c, bytes_str(line));
    buf_append(&c->out, "\n", 1);
    c->status = status;
    return 0;
}

const struct bytes *cmd_option(const struct cmd *c, const char *name)
{
    for (size_t k = 0; k < c->option_n; k++) {
        if (bytes_equal(c->option[k].name, bytes_str(name)))
            return &c->option[k].value;
    }
    return NULL;
}

void cmd_json(struct cmd *c, struct bytes text)
{
    text_json(&c->out, text);
}

void cmd_text(struct cmd *c, struct bytes text)
{
    text_shown(&c->out, text);
}

int cmd_find_ns(struct cmd *c, struct bytes name, struct ns_row *row, bool *found)
{
    int r = c->m->st->ops->ns_find(c->m->st, name, row, c->ar);
    *found = r == 0;
    if (r == -ENOENT)
        return cmd_fail(c, EXIT_FAILED, "no namespace %.*s", PRB(name));
    return r;
}

int cmd_find_account(struct cmd *c, struct bytes name, struct account_row *row, bool *found)
{
    int r = c->m->st->ops->account_find(c->m->st, name, row, c->ar);
    *found = r == 0;
    if (r == -ENOENT)
        return cmd_fail(c, EXIT_FAILED, "no account %.*s; steadfs admin account add makes one",
                        PRB(name));
    return r;
}

/* ---- from words to a command
 * ------------------------------------------------------------------------- */
static size_t words_of(const struct command *k)
{
    size_t n = 0;
    while (n < 3 && k->words[n])
        n++;
    return n;
}

/* How many of the command's words the request begins with. */
static size_t understood(const struct command *k, const struct m_command_req *q)
{
    size_t n = words_of(k), i = 0;
    while (i < n && i < q->words_n && bytes_equal(q->words[i].text, bytes_str(k->words[i])))
        i++;
    return i;
}

static const struct command *find(const struct m_command_req *q)
{
    for (size_t k = 0; k < commands_n; k++)
        if (understood(&commands[k], q) == words_of(&commands[k]))
            return &commands[k];
    return NULL;
}

/* Says what can stand behind the words that were understood. */
static int no_such(struct cmd *c, const struct m_command_req *q)
{
    char follow[WHY_LEN] = "";
    const char *before = "";
    size_t best = 0;
    for (size_t k = 0; k < commands_n; k++)
        best = understood(&commands[k], q) > best ? understood(&commands[k], q) : best;
    if (!best || (best == 1 && bytes_equal(q->words[0].text, bytes_str("admin"))))
        return cmd_fail(c, EXIT_USAGE, "no such command; see steadfs %s--help",
                        best ? "admin " : "");
    for (size_t k = 0; k < commands_n; k++) {
        if (understood(&commands[k], q) < best)
            continue;
        size_t n = strlen(follow);
        snprintf(follow + n, sizeof follow - n, "%s%s", before, commands[k].words[best]);
        before = ", ";
    }
    return cmd_fail(c, EXIT_USAGE, "behind %s%.*s comes one of %s; see steadfs %.*s --help",
                    best > 1 ? "admin " : "", PRB(q->words[best - 1].text), follow,
                    PRB(q->words[0].text));
}

static int usage(struct cmd *c, const struct command *k)
{
    return cmd_fail(c, EXIT_USAGE, "usage: steadfs %s%s%s%s%s%s%s", k->words[0],
                    k->words[1] ? " " : "", k->words[1] ? k->words[1] : "", k->words[2] ? " " : "",
                    k->words[2] ? k->words[2] : "", *k->usage ? " " : "", k->usage);
}

/* Whether the command has the option, and whether it takes a value. */
static bool knows_option(const struct command *k, struct bytes name, bool *value)
{
    for (const char *at = strchr(k->options, ' '); at; at = strchr(at + 1, ' ')) {
        size_t n = strcspn(at + 1, " =");
        if (n == name.n && memcmp(at + 1, name.p, n) == 0) {
            *value = at[1 + n] == '=';
            return true;
        }
    }
    return false;
}

/* One word that begins with two dashes; *i moves over a value in the next word. False: not known.
 */
static bool take_option(struct cmd *c, const struct command *k, const struct m_command_req *q,
                        size_t *i)
{
    struct bytes word = q->words[*i].text, name = bytes_of(word.p + 2, word.n - 2), value = {0};
    const uint8_t *equals = memchr(name.p, '=', name.n);
    bool wants;
    if (bytes_equal(name, bytes_str("json"))) {
        c->json = true;
        return true;
    }
    if (equals) {
        value = bytes_of(equals + 1, (size_t)(name.p + name.n - equals - 1));
        name.n = (size_t)(equals - name.p);
    }
    if (!knows_option(k, name, &wants) || (equals && !wants) ||
        c->option_n == sizeof c->option / sizeof *c->option)
        return false;
    if (wants && !equals) {
        if (++*i == q->words_n)
            return false;
        value = q->words[*i].text;
    }
    c->option[c->option_n++] = (struct cmd_option){name, value};
    return true;
}

static bool take_words(struct cmd *c, const struct command *k, const struct m_command_req *q)
{
    bool options = true;
    for (size_t i = words_of(k); i < q->words_n; i++) {
        struct bytes word = q->words[i].text;
        bool dashes = options && word.n >= 2 && memcmp(word.p, "--", 2) == 0;
        if (dashes && word.n == 2) {
            options = false;
        } else if (dashes) {
            if (!take_option(c, k, q, &i))
                return false;
        } else if (c->arg_n == CMD_WORDS_MAX) {
            return false;
        } else {
            c->arg[c->arg_n++] = word;
        }
    }
    return c->arg_n >= k->min && c->arg_n <= k->max;
}

static int run(struct cmd *c, const struct m_command_req *q)
{
    const struct command *k = find(q);
    if (!k)
        return no_such(c, q);
    if (!take_words(c, k, q))
        return usage(c, k);
    if (k->admin && !c->who->admin)
        return cmd_fail(c, EXIT_REFUSED, "refused: only the administrator may do this");
    if (!k->admin && !c->who->account)
        return cmd_fail(c, EXIT_REFUSED, "refused: this is done by a device of an account");
    return k->run(c);
}

bool meta_command_looks(const struct m_command_req *q)
{
    const struct command *k = find(q);
    return k && k->looks;
}

int meta_command(struct meta *m, const struct meta_caller *who, const struct m_command_req *q,
                 int64_t now_ms, struct m_command_ans *a, struct arena *ar)
{
    struct cmd *c = arena_alloc(ar, sizeof *c);
    *c = (struct cmd){.m = m, .who = who, .now_ms = now_ms, .ar = ar};
    memset(a, 0, sizeof *a);
    int r = meta_change_begin(m);
    if (r)
        return r;
    r = run(c, q);
    if (!r && c->out.n > COMMAND_TEXT_MAX)
        cmd_fail(c, EXIT_FAILED, "the answer is longer than one message may be");
    r = meta_change_end(m, r ? r : c->status && !c->keep ? LAST_STATUS_UNDO : 0);
    if (r == LAST_STATUS_UNDO)
        r = 0;
    a->exit_status = c->status;
    a->unchanged = c->unchanged || (c->status && !c->keep);
    a->pause_ms = c->pause_ms;
    a->progress = bytes_of(arena_copy(ar, c->progress, sizeof c->progress), strlen(c->progress));
    a->text = arena_bytes(ar, c->out.p, c->out.n);
    a->again = bytes_of(arena_copy(ar, c->again, sizeof c->again), strlen(c->again));
    buf_free(&c->out);
    return r;
}
