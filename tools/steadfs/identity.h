// SPDX-License-Identifier: Apache-2.0
/* Whose name a command is sent under: a device's state directory, or the administrator's file.
 *
 * Both are lines of key=value. STATE/identity: url, account, device, device_name, credential, with
 * the installation's CA in STATE/ca.pem. The administrator's file: url, credential, ca (path of the
 * CA). */
#ifndef STEADFS_IDENTITY_H
#define STEADFS_IDENTITY_H

#include "cli.h"

struct identity { /* all malloc'd */
    char *url, *credential;
    char *ca_pem; /* NULL: none */
};

/* The base directory of all state directories: ${XDG_STATE_HOME:-~/.local/state}/steadfs. malloc'd;
 * NULL when there is no home directory. */
char *identity_base(void);
/* The only state directory below the base that holds an identity, malloc'd; NULL: none, or several,
 * and then *several is set. */
char *identity_only(bool *several);
/* Reads STATE/identity. 0 or the exit status of a complaint already made. */
int identity_of_state(const struct subcommand *c, const char *state, struct identity *id);
/* Reads an administrator's file. NULL: $STEADFS_ADMIN, ~/.config/steadfs/admin, /etc/steadfs/admin.
 */
int identity_of_admin(const struct subcommand *c, const char *file, struct identity *id);
void identity_free(struct identity *id);
#endif
