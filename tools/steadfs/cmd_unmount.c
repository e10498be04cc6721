// SPDX-License-Identifier: Apache-2.0
/* Drain first, then unmount, then wait for the process: when the command returns 0, everything is
 * committed and nothing runs any more. What is written between the drain and the unmount is sent by
 * the process before it ends, which is why that is waited for, too.
 *
 * The process is known from the credentials of its control socket, with its start time, so that a
 * number taken over by another process is not waited for. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "fusermount.h"
#include "mounts.h"

#define TIMEOUT_MS 60000u
#define BUSY_MS 1000 /* a program that is just ending has its files open for a moment yet */
#define ANSWER_SLACK_MS 10000u /* the mount's answer may be so much later than its own time-out */

static void progress(void *arg, const char *line)
{
    (void)arg;
    cli_line(stderr, "%s", line);
}

/* Field 22 of /proc/PID/stat; 0: no such process. */
static unsigned long long start_time(pid_t pid)
{
    cleanup_free char *path = cli_format("/proc/%d/stat", (int)pid);
    cleanup_free char *text = cli_read_file(path, 4096);
    char *at = text ? strrchr(text, ')') : NULL;
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Whether the process is gone by then. */
static bool wait_gone(pid_t pid, unsigned long long started, int64_t until_ms)
{
    while (pid > 0 && start_time(pid) == started && started) {
        if (now_ms() >= until_ms)
            return false;
        usleep(10000);
    }
    return true;
}

/* dead: nobody serves it any more, so that references to it cannot keep it. */
static int unmount(const char *mountpoint, bool dead, char *why)
{
    why[0] = '\0';
    if (geteuid() == 0)
        return umount2(mountpoint, dead ? MNT_DETACH | UMOUNT_NOFOLLOW : UMOUNT_NOFOLLOW) ? -errno
                                                                                          : 0;
    return fusermount(mountpoint, dead, why);
}

/* The same, when whoever was at its end in there is gone. */
static int unmount_soon(const char *mountpoint, bool dead, char *why)
{
    for (int64_t until = now_ms() + BUSY_MS; now_ms() < until; usleep(20000)) {
        int err = unmount(mountpoint, dead, why);
        if (err != -EBUSY)
            return err;
    }
    return unmount(mountpoint, dead, why);
}

/* What it costs that it is not all sent. */
static int not_drained(const struct subcommand *c, int status, const struct mount *m,
                       const char *why, bool force)
{
    return cli_fail(c, status,
                    force ? "%s: %s; unmounting all the same, nothing is lost"
                          : "%s: %s; still mounted, nothing is lost; try again, or with --force to "
                            "unmount now and send the rest at the next mount",
                    m->mountpoint, why);
}

/* Exit status; dead is set when nobody serves it, or it is to go though it does not answer.
 * EXIT_REFUSED: all is sent but what was refused, which waiting does not change; said, and
 * unmounted. */
static int drain(const struct subcommand *c, const struct mount *m, unsigned timeout_ms, bool force,
                 pid_t *pid, bool *dead)
{
    char text[512];
    cleanup_free char *request = cli_format("drain %u", timeout_ms);
    *dead = !m->control;
    if (*dead)
        return m->error == -ENOTCONN ? EXIT_DONE
                                     : not_drained(c, EXIT_UNREACHABLE, m, mount_error(m), force);
    int status = control_ask(m->control, request, timeout_ms + ANSWER_SLACK_MS, progress, NULL,
                             NULL, text, pid);
    if (status == EXIT_DONE)
        return EXIT_DONE;
    if (status == EXIT_REFUSED)
        return cli_fail(c, status, "%s: %s", m->mountpoint, text);
    return not_drained(c, status, m, text, force);
}

static int unmount_one(const struct subcommand *c, const char *path, unsigned timeout_ms,
                       bool force)
{
    cleanup_mounts struct mount_list l = {0};
    int err = mount_list_read(&l);
    if (err)
        return cli_fail(c, EXIT_FAILED, "/proc/self/mountinfo: %s", strerror(-err));
    const struct mount *found = mount_at(&l, path);
    if (!found) {
        cleanup_free char *absolute = mount_absolute(path);
        found = mount_at(&l, absolute);
        if (!found)
            return cli_fail(c, EXIT_NOT_STEADFS, "%s is not the mount point of a steadfs mount",
                            absolute);
    }
    struct mount *m = &l.v[found - l.v];
    mount_ask(m);
    pid_t pid = 0;
    bool dead;
    int64_t until = now_ms() + timeout_ms;
    int status = drain(c, m, timeout_ms, force, &pid, &dead);
    if (status && status != EXIT_REFUSED && !force)
        return status;
    unsigned long long started = pid ? start_time(pid) : 0;
    char why[FUSERMOUNT_WHY];
    err = unmount_soon(m->mountpoint, dead, why);
    if (err)
        return cli_fail(c, EXIT_FAILED, "%s: %s%s", m->mountpoint, *why ? why : strerror(-err),
                        err == -EBUSY ? "; a program has a file open there or works in it" : "");
    if ((!status || status == EXIT_REFUSED) && !wait_gone(pid, started, until + ANSWER_SLACK_MS))
        return cli_fail(c, EXIT_PENDING,
                        "%s is unmounted; process %d goes on sending what is pending",
                        m->mountpoint, (int)pid);
    return status;
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"timeout", required_argument, NULL, 't'},
        {"force", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    unsigned timeout_ms = TIMEOUT_MS;
    bool force = false;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 't' && !cli_seconds(optarg, &timeout_ms))
            return cli_usage(self, "--timeout %s is not a number of seconds", optarg);
        if (o == 'h')
            return cli_help(self);
        if (o == '?')
            return cli_usage(self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
        force |= o == 'f';
    }
    if (argc - optind != 1)
        return cli_usage(self, "one mount point is needed");
    return unmount_one(self, argv[optind], timeout_ms, force);
}

const struct subcommand cmd_unmount = {
    .name = "unmount",
    .summary = "send everything, then unmount",
    .usage =
        "MOUNTPOINT [--timeout SECONDS] [--force]\n"
        "\n"
        "Waits, with progress on stderr, until all is committed (60 seconds, or --timeout), then\n"
        "unmounts. If time runs out it stays mounted (exit status 6). With --force it is "
        "unmounted\n"
        "all the same; what is pending is kept and sent at the next mount.\n"
        "Where all is committed but changes that the server refused (steadfs parked), it is "
        "unmounted,\n"
        "and the exit status is 5: they are kept, and tried again at the next mount.\n"
        "A mount whose process is gone is cleared. One that does not answer, or that you may not\n"
        "enter, stays (exit status 4), but with --force.\n",
    .run = run,
};
