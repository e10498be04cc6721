// SPDX-License-Identifier: Apache-2.0
/* Conflicted copies are ordinary files, known by their names; the mount lists them with what their
 * names say. Resolving one is renaming and removing, which any program can do: `keep` does it for
 * one file and all its versions, and says what it did. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "json.h"
#include "mounts.h"

#define ANSWER_MS 30000u
#define VERSIONS_MAX 256 /* of one file that one `keep` looks at */

/* ---- what the mount says --------------------------------------------------------------------- */
struct conflicts {
    struct mount_list mounts;
    struct mount *mount;
    char *absolute; /* of the path asked for */
    struct buf body;
    struct arena arena;
    const struct json *list;
};

static void conflicts_free(struct conflicts *k)
{
    mount_list_free(&k->mounts);
    free(k->absolute);
    buf_free(&k->body);
    arena_free(&k->arena);
}
#define cleanup_conflicts __attribute__((cleanup(conflicts_free)))

/* Reads the directory that path lies in, or is, so that the mount knows what is in it. */
static void look(const char *path)
{
    cleanup_free char *dir = strdup(path);
    struct stat st;
    char *slash = dir ? strrchr(dir, '/') : NULL;
    if (slash && (stat(path, &st) || !S_ISDIR(st.st_mode)))
        slash[slash == dir] = 0;
    DIR *d = dir ? opendir(dir) : NULL;
    while (d && readdir(d))
        ;
    if (d)
        closedir(d);
}

static int ask(const struct subcommand *c, const char *path, struct conflicts *k)
{
    char text[512];
    int status = mount_find(c, path, &k->mounts, &k->mount, &k->absolute);
    if (status)
        return status;
    if (path)
        look(k->absolute);
    status =
        control_ask(k->mount->control, "conflicts", ANSWER_MS, NULL, NULL, &k->body, text, NULL);
    if (status)
        return cli_fail(c, status, "%s: %s", k->mount->mountpoint, text);
    k->list = json_parse(&k->arena, (const char *)k->body.p, k->body.n);
    if (!k->list || k->list->type != JSON_ARRAY)
        return cli_fail(c, EXIT_FAILED, "%s: its answer is no JSON array", k->mount->mountpoint);
    return 0;
}

/* ---- list ------------------------------------------------------------------------------------ */
/* malloc'd */
static char *version(const struct json *e, const char *prefix)
{
    cleanup_free char *size = cli_format("%ssize", prefix), *mtime = cli_format("%smtime", prefix);
    return cli_format("%.0f bytes, written %s", json_number(e, size), json_text(e, mtime));
}

static void print_one(const struct json *e)
{
    const char *file = json_text(e, "file"), *original = json_text(e, "original_file");
    cleanup_free char *copy = version(e, ""), *other = version(e, "original_");
    bool exists = json_yes(e, "original_exists");
    cli_line(stdout, "%s", *file ? file : json_text(e, "path"));
    cli_line(stdout, "    %s of device %s, %s: %s", json_yes(e, "directory") ? "directory" : "copy",
             json_text(e, "device"), json_text(e, "date"), copy);
    cli_line(stdout, "    original: %s%s%s", *original ? original : json_text(e, "original"),
             exists ? ": " : " (does not exist)", exists ? other : "");
}

static int list(const struct subcommand *c, const char *path, bool json)
{
    cleanup_conflicts struct conflicts k = {0};
    int status = ask(c, path, &k);
    if (status)
        return status;
    if (json) {
        fwrite(k.body.p, 1, k.body.n, stdout);
        if (k.body.p[k.body.n - 1] != '\n')
            putchar('\n');
        return EXIT_DONE;
    }
    for (const struct json *e = k.list->first; e; e = e->next)
        print_one(e);
    return EXIT_DONE;
}

/* ---- keep ------------------------------------------------------------------------------------ */
struct keeping {
    const struct subcommand *c;
    const char *original;           /* whose versions these are */
    const char *kept;               /* the one that stays: the original, or a copy */
    const char *copy[VERSIONS_MAX]; /* all copies of the original */
    size_t copies;
    bool dry;
};

static int find_versions(const struct subcommand *c, const struct conflicts *k, struct keeping *w)
{
    w->kept = k->absolute;
    w->original = NULL;
    for (const struct json *e = k->list->first; e; e = e->next)
        if (!strcmp(json_text(e, "file"), k->absolute) ||
            !strcmp(json_text(e, "original_file"), k->absolute))
            w->original = json_text(e, "original_file");
    if (!w->original)
        return cli_fail(c, EXIT_FAILED,
                        "%s: neither a conflicted copy nor the original of one (see `steadfs "
                        "conflicts`)",
                        k->absolute);
    for (const struct json *e = k->list->first; e; e = e->next) {
        if (strcmp(json_text(e, "original_file"), w->original) != 0)
            continue;
        if (w->copies == VERSIONS_MAX)
            return cli_fail(c, EXIT_FAILED, "%s: more than %d copies", w->original, VERSIONS_MAX);
        w->copy[w->copies++] = json_text(e, "file");
    }
    return 0;
}

/* Versions are removed one by one; a directory that holds anything is not one to remove unseen. */
static int drop(const struct keeping *w, const char *path)
{
    if (!w->dry && remove(path))
        return cli_fail(w->c, errno == ENOTEMPTY ? EXIT_REFUSED : EXIT_FAILED, "%s: %s%s", path,
                        strerror(errno),
                        errno == ENOTEMPTY ? ": move out of it what you want, and remove it" : "");
    cli_line(stdout, "%s: %s", w->dry ? "would remove" : "removed", path);
    return 0;
}

static int keep_versions(const struct keeping *w)
{
    struct stat st;
    int status = 0;
    if (lstat(w->kept, &st))
        return cli_fail(w->c, EXIT_FAILED, "%s: %s", w->kept, strerror(errno));
    bool moved = strcmp(w->kept, w->original) != 0;
    if (moved && !w->dry && rename(w->kept, w->original))
        return cli_fail(w->c, errno == ENOTEMPTY ? EXIT_REFUSED : EXIT_FAILED, "%s: %s%s",
                        w->original, strerror(errno),
                        errno == ENOTEMPTY || errno == EISDIR || errno == ENOTDIR
                            ? ": move what you want from one to the other"
                            : "");
    if (moved)
        cli_line(stdout, "%s: %s, which was %s", w->dry ? "would keep" : "kept", w->original,
                 w->kept);
    else
        cli_line(stdout, "%s: %s", w->dry ? "would keep" : "kept", w->kept);
    for (size_t i = 0; !status && i < w->copies; i++)
        if (strcmp(w->copy[i], w->kept) != 0)
            status = drop(w, w->copy[i]);
    return status;
}

static int keep(const struct subcommand *c, int n, char **path, bool dry)
{
    int worst = EXIT_DONE;
    for (int i = 0; i < n; i++) {
        cleanup_conflicts struct conflicts k = {0};
        struct keeping w = {.c = c, .dry = dry};
        int status = ask(c, path[i], &k);
        if (!status)
            status = find_versions(c, &k, &w);
        if (!status)
            status = keep_versions(&w);
        worst = status > worst ? status : worst;
    }
    return worst;
}

#define DIFF_TROUBLE 2 /* as diff(1) has it: 1 would be that they differ */

/* ---- diff ------------------------------------------------------------------------------------ */
static int diff(const struct subcommand *c, const char *path)
{
    cleanup_conflicts struct conflicts k = {0};
    struct keeping w = {.c = c};
    int status = ask(c, path, &k);
    if (!status)
        status = find_versions(c, &k, &w);
    if (status)
        return status == EXIT_FAILED ? DIFF_TROUBLE : status;
    const char *copy = strcmp(w.kept, w.original) ? w.kept : w.copy[0];
    if (copy != w.kept && w.copies > 1)
        return cli_fail(c, DIFF_TROUBLE, "%s has %zu copies: name the one to compare", w.original,
                        w.copies);
    execlp("diff", "diff", "-u", "--", w.original, copy, (char *)NULL);
    return cli_fail(c, DIFF_TROUBLE, "diff: %s", strerror(errno));
}

/* ---- the command line ------------------------------------------------------------------------ */
static int run(const struct subcommand *self, int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"dry-run", no_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    bool json = false, dry = false;
    for (int o; (o = getopt_long(argc, argv, "n", options, NULL)) != -1;) {
        if (o == 'h')
            return cli_help(self);
        if (o == '?')
            return cli_usage(self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
        json |= o == 'j';
        dry |= o == 'n';
    }
    int n = argc - optind;
    char **arg = argv + optind;
    bool keeps = n && !strcmp(arg[0], "keep"), diffs = n && !strcmp(arg[0], "diff");
    if ((json && (keeps || diffs)) || (dry && !keeps))
        return cli_usage(self, "--json lists, --dry-run is for keep");
    if (keeps)
        return n > 1 ? keep(self, n - 1, arg + 1, dry) : cli_usage(self, "keep needs a FILE");
    if (diffs)
        return n == 2 ? diff(self, arg[1]) : cli_usage(self, "diff wants one file");
    if (n > 1)
        return cli_usage(self, "one path at most");
    return list(self, n ? arg[0] : NULL, json);
}

const struct subcommand cmd_conflicts = {
    .name = "conflicts",
    .summary = "list and resolve conflicted copies",
    .usage =
        "[PATH] [--json] | keep FILE… [--dry-run] | diff FILE\n"
        "\n"
        "Lists the conflicted copies known in the mount of PATH (default: the current directory):\n"
        "the copy, whose and of when it is, its original, sizes and times. What lies in "
        "directories\n"
        "that this mount has not looked at yet is not known; naming a directory looks at it. With\n"
        "--json: an array of {namespace, path, original, file, original_file, device, date,\n"
        "directory, size, mtime, original_exists, original_size, original_mtime}.\n"
        "\n"
        "keep: FILE is a copy or its original. It becomes (or stays) what is at the original's\n"
        "name, and all its other versions are removed for good. --dry-run only says so.\n"
        "diff: what `diff -u` says of the original and the copy; FILE is either. Its exit status\n"
        "is diff's: 0 they are the same, 1 they differ, 2 there was nothing to compare.\n"
        "\n"
        "A copy is known by its name: one that is renamed or removed is a conflict no longer. A\n"
        "path named keep or diff is given as ./keep.\n",
    .run = run,
};
