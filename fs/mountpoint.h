// SPDX-License-Identifier: Apache-2.0
/* Whether a directory can be mounted on, and changes of what is mounted. */
#ifndef STEADFS_MOUNTPOINT_H
#define STEADFS_MOUNTPOINT_H

#include <stdbool.h>

/* Makes *path absolute (malloc'd anew). 0; -ENOENT, -ENOTDIR, -ENOTEMPTY, -ENOTCONN (a dead mount
 * is there), -EBUSY (something is mounted there); err: 512 bytes for people. */
int mountpoint_check(char **path, bool nonempty, char *err);
/* Changes what the kernel keeps of a mount: words such as "nodev,noatime" change its flags, the
 * others stay; read_only as said. The process that serves it is not asked. 0 or -errno; err: 512
 * bytes for people. */
int mountpoint_remount(const char *path, const char *words, bool read_only, char *err);
#endif
