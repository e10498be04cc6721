// SPDX-License-Identifier: Apache-2.0
/* Names that are reserved for what a later version brings, so that scripts get a clear answer. */
#include "cli.h"

static int later(const struct subcommand *self, int argc, char **argv)
{
    (void)argc, (void)argv;
    return cli_fail(self, EXIT_USAGE, "comes with a later version");
}

#define LATER(word, what)                                                                          \
    const struct subcommand cmd_##word = {                                                         \
        .name = #word,                                                                             \
        .summary = what " (in a later version)",                                                   \
        .usage = "\n\nTo " what "; not in this version.\n",                                        \
        .run = later,                                                                              \
    };
LATER(history, "list earlier versions")
LATER(restore, "bring back an earlier version")
LATER(pin, "keep files on this machine")
LATER(evict, "free local space")
