// SPDX-License-Identifier: Apache-2.0
/* Conflicted copies are ordinary files; the mount knows which ones it made. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "json.h"
#include "mounts.h"

#define ANSWER_MS 30000u

static int show(const struct subcommand *c, const char *path, bool json)
{
    cleanup_mounts struct mount_list l = {0};
    struct mount *m;
    cleanup_free char *absolute = NULL;
    int status = mount_find(c, path, &l, &m, &absolute);
    if (status)
        return status;
    char text[512];
    cleanup_buf struct buf body = {0};
    status = control_ask(m->control, "conflicts", ANSWER_MS, NULL, NULL, &body, text, NULL);
    if (status)
        return cli_fail(c, status, "%s: %s", m->mountpoint, text);
    cleanup_arena struct arena a = {0};
    const struct json *v = json_parse(&a, (const char *)body.p, body.n);
    if (!v || v->type != JSON_ARRAY)
        return cli_fail(c, EXIT_FAILED, "%s: its answer is no JSON array", m->mountpoint);
    if (json) {
        fwrite(body.p, 1, body.n, stdout);
        if (body.p[body.n - 1] != '\n')
            putchar('\n');
        return EXIT_DONE;
    }
    for (const struct json *e = v->first; e; e = e->next)
        printf("%s: %s\n", json_text(e, "namespace"), json_text(e, "path"));
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
    return show(self, optind < argc ? argv[optind] : NULL, json);
}

const struct subcommand cmd_conflicts = {
    .name = "conflicts",
    .summary = "list conflicted copies",
    .usage =
        "[PATH] [--json]\n"
        "\n"
        "Lists the conflicted copies in the mount of PATH (default: the current directory), one\n"
        "NAMESPACE: PATH a line. With --json: an array of {namespace, path}.\n"
        "To resolve one, keep what you want at the original name and remove the copy.\n",
    .run = run,
};
