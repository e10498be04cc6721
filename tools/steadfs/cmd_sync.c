// SPDX-License-Identifier: Apache-2.0
/* The barrier that sync(2) is not: the kernel's dirty pages are pushed to the mount first, then the
 * mount is asked to wait until everything of PATH is committed. Where it is to be at certain block
 * servers, too, the metadata server is asked again and again, less and less often, whether it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "mounts.h"
#include "where.h"

#define TIMEOUT_MS 60000u
#define ANSWER_SLACK_MS 10000u
#define ASK_FIRST_MS 50u /* between two questions where it is … */
#define ASK_LAST_MS 5000u

static void progress(void *arg, const char *line)
{
    (void)arg;
    cli_line(stderr, "%s", line);
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

struct wanted {
    const char *at;
    uint64_t copies;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until replication has brought it there. */
static int await_copies(const struct subcommand *c, const char *path, const struct wanted *w,
                        int64_t deadline)
{
    uint64_t bytes = 0, told = 0;
    unsigned pause = ASK_FIRST_MS;
    for (;;) {
        int status = where_lacking(c, path, w->at, w->copies, &bytes);
        if (status || !bytes)
            return status;
        if (now_ms() + pause > deadline)
            return cli_fail(c, EXIT_PENDING, "%llu bytes are not there yet",
                            (unsigned long long)bytes);
        if (bytes != told && pause >= 1000)
            fprintf(stderr, "%llu bytes to be copied\n", (unsigned long long)bytes);
        told = bytes;
        usleep(pause * 1000);
        pause = pause * 3 / 2 > ASK_LAST_MS ? ASK_LAST_MS : pause * 3 / 2;
    }
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    static const struct option options[] = {{"timeout", required_argument, NULL, 't'},
                                            {"at", required_argument, NULL, 'a'},
                                            {"copies", required_argument, NULL, 'c'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    unsigned timeout_ms = TIMEOUT_MS;
    struct wanted w = {0};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 't' && !cli_seconds(optarg, &timeout_ms))
            return cli_usage(self, "--timeout %s is not a number of seconds", optarg);
        if (o == 'a')
            w.at = optarg;
        if (o == 'c' && ((w.copies = strtoull(optarg, NULL, 10)) < 1 || w.copies > 64))
            return cli_usage(self, "--copies takes a number from 1 to 64");
        if (o == 'h')
            return cli_help(self);
        if (o == '?')
            return cli_usage(self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
    }
    if (argc - optind > 1)
        return cli_usage(self, "one path at most");
    if (w.at && w.copies)
        return cli_usage(self, "either --at or --copies");
    const char *path = optind < argc ? argv[optind] : NULL;
    int64_t deadline = now_ms() + timeout_ms;
    int status = sync_path(self, path, timeout_ms);
    return status || !(w.at || w.copies) ? status : await_copies(self, path, &w, deadline);
}

const struct subcommand cmd_sync = {
    .name = "sync",
    .summary = "wait until everything is committed",
    .usage = "[PATH] [--timeout SECONDS] [--at PREMISES|NUMBER | --copies N]\n"
             "\n"
             "Returns 0 once all that was written below PATH (default: the current directory) is "
             "stored\n"
             "on a block server and committed; 6 if that takes longer than SECONDS (60). What the\n"
             "server refused is not waited for: if there is any, the exit status is 5 once all "
             "else is\n"
             "committed; see steadfs parked. With --at, it is also waited until a block server at\n"
             "PREMISES has all of it; with --copies, until N block servers have.\n",
    .run = run,
};
