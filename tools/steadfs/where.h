// SPDX-License-Identifier: Apache-2.0
/* The command `where`, which people and administrators give alike. */
#ifndef STEADFS_WHERE_H
#define STEADFS_WHERE_H

#include "cli.h"

/* argv[0] is the word `where`. admin: under the administrator's identity, and then the argument may
 * also be NAMESPACE or NAMESPACE:PATH. Exit status. */
int where_run(const struct subcommand *self, int argc, char **argv, bool admin);
/* How many bytes of what is committed of PATH (in a mount) are not at the premises, or block server
 * of that number; or, with NULL, at fewer than so many block servers. Exit status. */
int where_lacking(const struct subcommand *self, const char *path, const char *at, uint64_t copies,
                  uint64_t *bytes);
#endif
