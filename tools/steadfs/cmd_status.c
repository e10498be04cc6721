// SPDX-License-Identifier: Apache-2.0
/* The mount prints its state as JSON; with --json that is passed on, one object a line, otherwise
 * it becomes a table. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "json.h"
#include "mounts.h"

#define ANSWER_MS 10000u

static const char *size_text(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (bytes >= 1024 && u + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        u++;
    }
    snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return out;
}

/* Block servers that are not asked until a pause is over, and why. */
static void servers(const struct json *status)
{
    const struct json *list = json_get(status, "servers");
    for (const struct json *v = list ? list->first : NULL; v; v = v->next)
        if (!json_yes(v, "answers") && *json_text(v, "last_error"))
            cli_line(stdout, "  block server %s: %s", json_text(v, "premises"),
                     json_text(v, "last_error"));
}

static void table(const struct json *status)
{
    const struct json *list = json_get(status, "namespaces");
    cli_line(stdout, "%s: %s, device %s, %s", json_text(status, "mountpoint"),
             json_text(status, "account"), json_text(status, "device"),
             json_yes(status, "online") ? "online" : "offline");
    if (*json_text(status, "recovery"))
        cli_line(stdout, "  %s", json_text(status, "recovery"));
    char memory[32];
    if (json_number(status, "dirty_bytes") > 0)
        cli_line(stdout, "  %s of what was written are in memory only, not on this disk yet",
                 size_text(json_number(status, "dirty_bytes"), memory));
    cli_line(stdout, "  %-20s %14s %14s %10s  %s", "NAMESPACE", "PENDING FILES", "PENDING",
             "CONFLICTS", "STATE");
    for (const struct json *n = list ? list->first : NULL; n; n = n->next) {
        char bytes[32];
        double files = json_number(n, "pending_files"), pending = json_number(n, "pending_bytes");
        const char *error = json_text(n, "last_error");
        const struct json *parked = json_get(n, "parked_changes");
        cli_line(stdout, "  %-20s %14.0f %14s %10.0f  %s", json_text(n, "name"), files,
                 size_text(pending, bytes), json_number(n, "conflicts"),
                 *error                     ? error
                 : files > 0 || pending > 0 ? "syncing"
                                            : "synced");
        if (*json_text(n, "waits_for"))
            cli_line(stdout, "    waits for %s", json_text(n, "waits_for"));
        if (*json_text(n, "restored"))
            cli_line(stdout, "    %s", json_text(n, "restored"));
        if (json_number(n, "copies_wanted") > 1 && json_number(n, "blocks_short") > 0)
            cli_line(stdout,
                     "    %.0f blocks on their way have too few copies yet: %.0f of %.0f reached",
                     json_number(n, "blocks_short"), json_number(n, "copies_reached"),
                     json_number(n, "copies_wanted"));
        for (const struct json *p = parked ? parked->first : NULL; p; p = p->next) {
            const char *file = json_text(p, "file");
            cli_line(stdout, "    refused: %s: %s: %s", *file ? file : json_text(p, "path"),
                     json_text(p, "reason"), json_text(p, "remedy"));
            if (json_number(p, "holds") > 0)
                cli_line(stdout, "    %.0f changes wait for it", json_number(p, "holds"));
        }
    }
    servers(status);
}

static int show(const struct subcommand *c, struct mount *m, bool json)
{
    char text[512];
    cleanup_buf struct buf body = {0};
    mount_ask(m);
    snprintf(text, sizeof text, "%s", mount_error(m));
    int status = m->control
                     ? control_ask(m->control, "status", ANSWER_MS, NULL, NULL, &body, text, NULL)
                     : EXIT_UNREACHABLE;
    if (status)
        return cli_fail(c, status, "%s: %s", m->mountpoint, text);
    while (body.n && strchr("\r\n ", body.p[body.n - 1]))
        body.n--;
    cleanup_arena struct arena a = {0};
    const struct json *v = json_parse(&a, (const char *)body.p, body.n);
    if (!v || v->type != JSON_OBJECT)
        return cli_fail(c, EXIT_FAILED, "%s: its answer is no JSON object", m->mountpoint);
    if (json)
        printf("%.*s\n", (int)body.n, (const char *)body.p);
    else
        table(v);
    return EXIT_DONE;
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'h')
            return cli_help(self);
        if (o == '?')
            return cli_usage(self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
        json = true;
    }
    if (argc - optind > 1)
        return cli_usage(self, "one path at most");
    cleanup_mounts struct mount_list l = {0};
    if (optind < argc || getenv("STEADFS_STATE")) {
        struct mount *m;
        cleanup_free char *absolute = NULL;
        int status = mount_find(self, optind < argc ? argv[optind] : NULL, &l, &m, &absolute);
        return status ? status : show(self, m, json);
    }
    int err = mount_list_read(&l), worst = EXIT_DONE;
    if (err)
        return cli_fail(self, EXIT_FAILED, "/proc/self/mountinfo: %s", strerror(-err));
    size_t ours = 0;
    for (size_t i = 0; i < l.n; i++) {
        if (!l.v[i].ours)
            continue;
        int status = show(self, &l.v[i], json);
        worst = status > worst ? status : worst;
        ours++;
    }
    if (ours == 0)
        fprintf(stderr, "steadfs status: nothing is mounted\n");
    return worst;
}

const struct subcommand cmd_status = {
    .name = "status",
    .summary = "what is pending, and why",
    .usage =
        "[PATH] [--json]\n"
        "\n"
        "Shows the mount that PATH lies in, or every steadfs mount: what is pending, and why.\n"
        "A directory of which names or attributes changed counts as a pending file, too.\n"
        "With --json: an object a line; steadfs(1) names its members.\n",
    .run = run,
};
