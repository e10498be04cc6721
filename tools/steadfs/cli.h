// SPDX-License-Identifier: Apache-2.0
/* What all subcommands of `steadfs` share: the table row, exit statuses, and how they complain. */
#ifndef STEADFS_CLI_H
#define STEADFS_CLI_H

#include <stdio.h>

#include "buf.h"

/* Promised to scripts. */
enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_STEADFS = 3, /* not a path in a steadfs mount */
    EXIT_UNREACHABLE = 4,
    EXIT_REFUSED = 5,
    EXIT_PENDING = 6, /* time ran out before all was committed */
};

struct subcommand {
    const char *name, *summary;
    const char *usage; /* printed by --help; begins with the arguments after the name */
    /* argv[0] is the subcommand's name. Returns an exit status. */
    int (*run)(const struct subcommand *self, int argc, char **argv);
};

extern const struct subcommand cmd_mount, cmd_unmount, cmd_status, cmd_sync, cmd_login,
    cmd_conflicts, cmd_namespace, cmd_share, cmd_admin, cmd_history, cmd_restore, cmd_pin,
    cmd_evict, cmd_parked, cmd_where;

/* A line for people, as text_shown has it: names are anybody's, and are not to drive a terminal. */
void cli_line(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One such line on stderr: "steadfs NAME: text". Returns status. */
int cli_fail(const struct subcommand *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a wrong command line: points to --help. Returns EXIT_USAGE. */
int cli_usage(const struct subcommand *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints --help to stdout. Returns EXIT_DONE. */
int cli_help(const struct subcommand *c);
/* Seconds ("2", "0.5") as milliseconds; false if it is no number or negative. */
bool cli_seconds(const char *text, unsigned *ms);
/* Exit status for the error of a remote call (rpc_result.err). */
int cli_rpc_status(int err);
/* malloc'd printf; aborts when memory is exhausted. */
char *cli_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The whole file, NUL-terminated and malloc'd, or NULL with errno; at most max bytes (EFBIG). */
char *cli_read_file(const char *path, size_t max);
/* Replaces the file by this text, mode 0600, durably. 0 or -errno. */
int cli_write_private(const char *path, const char *text);
/* Frees *p, for __attribute__((cleanup)). */
void cli_free(void *p);
#define cleanup_free __attribute__((cleanup(cli_free)))
#endif
