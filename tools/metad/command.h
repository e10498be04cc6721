// SPDX-License-Identifier: Apache-2.0
/* One command line of a person being run. [internal to tools/metad]
 *
 * A command function returns -errno only for a broken store. What the person did wrong is said with
 * cmd_fail; everything that the command changed before is then undone.
 */
#ifndef STEADFS_METAD_COMMAND_H
#define STEADFS_METAD_COMMAND_H

#include "meta_private.h"

#define CMD_WORDS_MAX 256
/* A session has 4,096 namespaces: nobody can fill up another account's with what he shares. */
#define NS_OWNED_MAX 256u   /* by an account, its root namespace included; then it makes none */
#define NS_SHARED_MAX 2048u /* of an account; then others add none */
#define NS_GIVEN_MAX 128u   /* owned by an account; then others make it the owner of no more */

/* Exit statuses of the steadfs program. */
enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 5, EXIT_PENDING = 6 };

struct cmd_option {
    struct bytes name, value; /* name without its dashes */
};
struct cmd {
    struct meta *m;
    const struct meta_caller *who;
    int64_t now_ms;
    struct arena *ar;
    struct bytes arg[CMD_WORDS_MAX]; /* behind the command's own words */
    size_t arg_n;
    struct cmd_option option[16];
    size_t option_n;
    bool json;
    unsigned status;
    bool unchanged; /* nothing was */
    bool keep;      /* what was changed, although the status is not 0 */
    struct buf out;
    char again[256];    /* not empty: where the same command goes on (--from) … */
    uint64_t pause_ms;  /* … no sooner than that */
    char progress[256]; /* … and how far it is */
};

#define COMMAND_TEXT_MAX (MSG_BODY_MAX - (64u << 10)) /* with its frame, one message */

/* The command ends with this exit status and line. Returns 0. */
int cmd_fail(struct cmd *c, unsigned status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The option's value (empty for one without); NULL: not given. */
const struct bytes *cmd_option(const struct cmd *c, const char *name);
/* As text_json, … */
void cmd_json(struct cmd *c, struct bytes text);
/* … and text_shown. */
void cmd_text(struct cmd *c, struct bytes text);
#define PRB(b) (int)(b).n, (const char *)(b).p /* for "%.*s" of struct bytes */

/* 0 and *found, or 0 after cmd_fail with *found false. */
int cmd_find_ns(struct cmd *c, struct bytes name, struct ns_row *row, bool *found);
int cmd_find_account(struct cmd *c, struct bytes name, struct account_row *row, bool *found);

/* Where a node is from its namespace's root, with a leading slash. Of a very deep place the end,
 * behind
 * "...". -EUCLEAN: it has no name. */
int cmd_path_of(struct cmd *c, uint64_t ns, uint64_t root, uint64_t node, struct bytes *path);

int cmd_account_add(struct cmd *c);
int cmd_account_token(struct cmd *c);
int cmd_account_list(struct cmd *c);
int cmd_device_list(struct cmd *c);
int cmd_device_revoke(struct cmd *c);
int cmd_server_add(struct cmd *c);
int cmd_server_list(struct cmd *c);
int cmd_server_rekey(struct cmd *c);
int cmd_replication(struct cmd *c);
int cmd_fsck(struct cmd *c);
int cmd_gc(struct cmd *c);
int cmd_copies(struct cmd *c);
int cmd_server_drain(struct cmd *c);
int cmd_server_remove(struct cmd *c);
/* The block servers of the premises named in words, in their order, those of one word (premises, or
 * several with commas) with one priority; those that are being evacuated only if they are to go.
 * Nothing: the command has failed. */
int cmd_servers_at(struct cmd *c, const struct bytes *words, size_t words_n, bool going,
                   struct server_row **out, size_t *n);
/* Those of an option's list with commas; without it, all that are not being evacuated. */
int cmd_servers_of_option(struct cmd *c, const char *option, struct server_row **out, size_t *n);
/* Whether the namespace may be at these servers; else the command fails. */
int cmd_may_be_at(struct cmd *c, const struct ns_row *ns, const struct server_row *v, size_t n);
/* Appends a line if nothing is removed because the database was put back (restored.h). */
int cmd_say_kept(struct cmd *c);
/* Names the block servers that are silent, which is why these may be waited for; none: nothing. */
int cmd_say_silent(struct cmd *c, const struct server_row *leaving, size_t n);
/* What of the namespace is still on disks that it has left: a line for each; nothing: nothing. */
int cmd_say_left(struct cmd *c, const struct ns_row *ns);
/* What of any namespace is still on the disk of a server that it has left; blocks 0: nothing. */
struct cmd_left {
    uint64_t blocks, bytes, until_ms;
};
int cmd_left_at(struct cmd *c, uint64_t server, struct cmd_left *sum);
void cmd_print_left_at(struct cmd *c, const struct server_row *s, const struct cmd_left *sum);
/* How many of those assigned stay when these go. */
size_t cmd_staying(const struct server_row *v, size_t n, const struct server_row *going,
                   size_t going_n);
/* A decimal number up to max; false: it is none. */
bool cmd_number(struct bytes text, uint64_t max, uint64_t *n);
int cmd_rotate_key(struct cmd *c);
int cmd_onsite(struct cmd *c);
int cmd_evacuate(struct cmd *c);
int cmd_assign(struct cmd *c);
int cmd_unassign(struct cmd *c);
int cmd_admin_ns_list(struct cmd *c);
int cmd_quota(struct cmd *c);
int cmd_ns_create(struct cmd *c);
int cmd_ns_mount(struct cmd *c);
int cmd_ns_unmount(struct cmd *c);
int cmd_ns_list(struct cmd *c);
int cmd_share(struct cmd *c);

#endif
