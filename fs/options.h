// SPDX-License-Identifier: Apache-2.0
/* The command line of mount.fuse.steadfs, which mount(8) uses too:
 *
 *   mount.fuse.steadfs [ACCOUNT@]HOST[:PORT] MOUNTPOINT [-o opt,opt…] [-f] [-n] [-s] [-v] [-r] [-w]
 * [-t TYPE]
 */
#ifndef STEADFS_OPTIONS_H
#define STEADFS_OPTIONS_H

#include "fs.h"

#define STEADFS_PORT 7440

struct mount_args {
    struct fs_options fs; /* strings malloc'd; state, url may be NULL: found out later */
    char *account;        /* NULL: not given */
    char *host;           /* without brackets */
    unsigned port;
    char *log, *trace;
    enum log_level log_level;
    bool foreground, nonempty, remount, allow_suid, allow_dev, help, version;
};
/* 0; -EINVAL with one line for people in err (512 bytes). */
int mount_args_parse(struct mount_args *a, int argc, char *const *argv, char *err);
void mount_args_free(struct mount_args *a);
extern const char mount_usage[];
#endif
