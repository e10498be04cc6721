// SPDX-License-Identifier: Apache-2.0
/* Whether a directory can be mounted on. */
#ifndef STEADFS_MOUNTPOINT_H
#define STEADFS_MOUNTPOINT_H

#include <stdbool.h>

/* Makes *path absolute (malloc'd anew). 0; -ENOENT, -ENOTDIR, -ENOTEMPTY, -ENOTCONN (a dead mount
 * is there), -EBUSY (something is mounted there); err: 512 bytes for people. */
int mountpoint_check(char **path, bool nonempty, char *err);
#endif
