// SPDX-License-Identifier: Apache-2.0
/* The barrier that sync(2) is not: the kernel's dirty pages are pushed to the mount first, then the
 * mount is asked to wait until everything of PATH is committed. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "mounts.h"

#define TIMEOUT_MS 60000u
#define ANSWER_SLACK_MS 10000u

static void progress(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "%s\n", line);
}

static int sync_path(const struct subcommand *c, const char *path, unsigned timeout_ms)
{
    cleanup_mounts struct mount_list l = {0};
    struct mount *m;
    cleanup_free char *absolute = NULL;
    int status = mount_find(c, path, &l, &m, &absolute);
    if (status)
        return status;
    if (access(absolute, F_OK))
        return cli_fail(c, EXIT_FAILED, "%s: %s", absolute, strerror(errno));
    int fd = open(m->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd)) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return cli_fail(c, EXIT_FAILED, "%s: %s", m->mountpoint, strerror(err));
    }
    close(fd);
    bool part = strcmp(absolute, m->mountpoint) != 0 && !strchr(absolute, '\n');
    cleanup_free char *request =
        cli_format("settle %u%s%s", timeout_ms, part ? " " : "", part ? absolute : "");
    char text[512];
    status = control_ask(m->control, request, timeout_ms + ANSWER_SLACK_MS, progress, NULL, NULL,
                         text, NULL);
    return status ? cli_fail(c, status, "%s: %s", absolute, text) : EXIT_DONE;
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"timeout", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {0}};
    unsigned timeout_ms = TIMEOUT_MS;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 't' && !cli_seconds(optarg, &timeout_ms))
            return cli_usage(self, "--timeout %s is not a number of seconds", optarg);
        if (o == 'h')
            return cli_help(self);
        if (o == '?')
            return cli_usage(self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
    }
    if (argc - optind > 1)
        return cli_usage(self, "one path at most");
    return sync_path(self, optind < argc ? argv[optind] : NULL, timeout_ms);
}

const struct subcommand cmd_sync = {
    .name = "sync",
    .summary = "wait until everything is committed",
    .usage = "[PATH] [--timeout SECONDS]\n"
             "\n"
             "Returns 0 once all that was written below PATH (default: the current directory) is "
             "stored\n"
             "on a block server and committed; 6 if that takes longer than SECONDS (60). What the\n"
             "server refused is not waited for: see steadfs parked.\n",
    .run = run,
};
