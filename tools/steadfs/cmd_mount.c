// SPDX-License-Identifier: Apache-2.0
/* Hands over to mount.fuse.steadfs: the one beside this program, installed or in a build tree,
 * before the one in PATH, so that the two are of one version. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define PROGRAM "mount.fuse.steadfs"

static void try_beside(char **argv)
{
    static const char *const places[] = {"", "../sbin/", "../../fs/"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return;
    self[n] = 0;
    const char *dir = dirname(self);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        cleanup_free char *path = cli_format("%s/%s" PROGRAM, dir, places[i]);
        execv(path, argv);
    }
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    (void)argc;
    argv[0] = (char[]){PROGRAM};
    try_beside(argv);
    execvp(PROGRAM, argv);
    return cli_fail(self, EXIT_FAILED, PROGRAM ": %s; is it installed?", strerror(errno));
}

const struct subcommand cmd_mount = {
    .name = "mount",
    .summary = "mount the account's folders",
    .usage = "[ACCOUNT@]HOST[:PORT] MOUNTPOINT [-o OPTION,…]\n"
             "\n"
             "Mounts with the identity that steadfs login left for this account and host.\n"
             "The options are those of " PROGRAM "; see " PROGRAM " --help.\n",
    .run = run,
};
