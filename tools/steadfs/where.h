// SPDX-License-Identifier: Apache-2.0
/* The command `where`, which people and administrators give alike. */
#ifndef STEADFS_WHERE_H
#define STEADFS_WHERE_H

#include "cli.h"

/* argv[0] is the word `where`. admin: under the administrator's identity, and then the argument may
 * also be NAMESPACE or NAMESPACE:PATH. Exit status. */
int where_run(const struct subcommand *self, int argc, char **argv, bool admin);
#endif
