// SPDX-License-Identifier: Apache-2.0
/* Changes that the server refused stay in the mount's state: listed, tried again, or copied out. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "json.h"
#include "mounts.h"

#define ANSWER_MS 30000u
#define EXPORT_MS 3600000u

static int ask(const struct subcommand *c, const char *path, const char *request,
               unsigned timeout_ms, struct buf *body)
{
    cleanup_mounts struct mount_list l = {0};
    struct mount *m;
    cleanup_free char *absolute = NULL;
    char text[512];
    int status = mount_find(c, path, &l, &m, &absolute);
    if (status)
        return status;
    status = control_ask(m->control, request, timeout_ms, NULL, NULL, body, text, NULL);
    return status ? cli_fail(c, status, "%s: %s", m->mountpoint, text) : EXIT_DONE;
}

static int list(const struct subcommand *c, const char *path, bool json)
{
    cleanup_buf struct buf body = {0};
    cleanup_arena struct arena a = {0};
    int status = ask(c, path, "parked", ANSWER_MS, &body);
    if (status)
        return status;
    const struct json *v = json_parse(&a, (const char *)body.p, body.n);
    if (!v || v->type != JSON_ARRAY)
        return cli_fail(c, EXIT_FAILED, "the mount's answer is no JSON array");
    if (json)
        fwrite(body.p, 1, body.n, stdout);
    for (const struct json *e = json ? NULL : v->first; e; e = e->next) {
        const char *file = json_text(e, "file");
        cli_line(stdout, "%s", *file ? file : json_text(e, "path"));
        cli_line(stdout, "    %s", json_text(e, "reason"));
        cli_line(stdout, "    %s", json_text(e, "remedy"));
        if (json_number(e, "holds") > 0)
            printf("    %.0f changes wait for it\n", json_number(e, "holds"));
    }
    return EXIT_DONE;
}

static int export(const struct subcommand *c, const char *dir, const char *path)
{
    cleanup_buf struct buf body = {0};
    cleanup_free char *here = *dir == '/' ? NULL : realpath(".", NULL);
    if (strchr(dir, '\n') || (*dir != '/' && !here))
        return cli_fail(c, EXIT_FAILED, "%s: no directory to write to", dir);
    cleanup_free char *request =
        cli_format("export %s%s%s", here ? here : "", here ? "/" : "", dir);
    int status = ask(c, path, request, EXPORT_MS, &body);
    fwrite(body.p ? (const char *)body.p : "", 1, body.n, stdout);
    return status;
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
    int n = argc - optind;
    char **arg = argv + optind;
    if (n && !strcmp(arg[0], "retry")) {
        cleanup_buf struct buf body = {0};
        return n > 2 || json ? cli_usage(self, "retry takes one path at most")
                             : ask(self, n > 1 ? arg[1] : NULL, "unpark", ANSWER_MS, &body);
    }
    if (n && !strcmp(arg[0], "export"))
        return n < 2 || n > 3 || json ? cli_usage(self, "export wants a directory")
                                      : export(self, arg[1], n > 2 ? arg[2] : NULL);
    if (n > 1)
        return cli_usage(self, "one path at most");
    return list(self, n ? arg[0] : NULL, json);
}

const struct subcommand cmd_parked = {
    .name = "parked",
    .summary = "changes that were refused: list, retry, export",
    .usage =
        "[PATH] [--json] | retry [PATH] | export DIR [PATH]\n"
        "\n"
        "Changes that the server refused (quota, role, membership, assignment) are kept in the\n"
        "mount's state and hold nothing else back. Lists those of the mount that PATH lies in\n"
        "(default: the current directory) with the reason and what to do. With --json: an array\n"
        "of {path, file, errno, reason, remedy, holds} (holds: changes below a refused directory\n"
        "that wait for it).\n"
        "\n"
        "retry: sends them again.\n"
        "export: copies what was refused to DIR/NAMESPACE/PATH, with what waits for it and what "
        "retry\n"
        "let go and is not committed yet, also where the namespace cannot be reached any more; 1 "
        "if "
        "a\n"
        "file is not wholly here.\n"
        "\n"
        "A path named retry or export is given as ./retry.\n",
    .run = run,
};
