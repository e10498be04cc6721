// SPDX-License-Identifier: Apache-2.0
/* steadfs SUBCOMMAND …: a table, and nothing else. Each subcommand is a file of its own. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct subcommand *const commands[] = {
    &cmd_mount,     &cmd_unmount, &cmd_status, &cmd_sync,    &cmd_conflicts, &cmd_login,
    &cmd_namespace, &cmd_share,   &cmd_admin,  &cmd_history, &cmd_restore,   &cmd_parked,
    &cmd_where,     &cmd_pin,     &cmd_evict,  NULL,
};

static int help(FILE *to)
{
    fprintf(to, "usage: steadfs COMMAND [ARGUMENT…]\n\n");
    for (size_t i = 0; commands[i]; i++)
        fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(
        to,
        "\nsteadfs COMMAND --help says more about one. Exit status: 0 done, 1 failed, 2 usage,\n"
        "3 not a steadfs path, 4 unreachable, 5 refused, 6 still pending.\n");
    return to == stdout ? EXIT_DONE : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    opterr = 0; /* a subcommand complains itself, in one line */
    if (argc < 2)
        return help(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
        return help(stdout);
    if (!strcmp(argv[1], "--version")) {
        puts("steadfs " STEADFS_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; commands[i]; i++)
        if (!strcmp(argv[1], commands[i]->name)) {
            if (argc > 2 && !strcmp(argv[2], "--help"))
                return cli_help(commands[i]);
            return commands[i]->run(commands[i], argc - 1, argv + 1);
        }
    fprintf(stderr, "steadfs: no command is called '%s'; see steadfs --help\n", argv[1]);
    return EXIT_USAGE;
}
