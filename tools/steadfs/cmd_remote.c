// SPDX-License-Identifier: Apache-2.0
/* namespace, share and admin: the words are sent to the metadata server, which answers with the
 * text to print and the exit status. What is decided here is under whose identity (an option, the
 * mount that is meant, or the only identity there is), and what a PATH in this machine's tree is in
 * the root namespace.
 *
 * Own options are taken out of the words; all others are the server's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "identity.h"
#include "json.h"
#include "mounts.h"
#include "rpc.h"
#include "where.h"

#define CALL_MS 30000u
#define APPEARS_MS 10000u
#define APPEARS_STEP_MS 20u
#define WORDS_MAX 256
#define WAIT_STEP_MS 1000u
#define PAUSE_MAX_MS 60000u

struct words {
    const char *v[WORDS_MAX];
    size_t n;
    const char *own;  /* value of --state or --admin */
    char *translated; /* a word that replaced the one typed */
    char *here;       /* where that is on this machine */
    bool help;
};

/* Takes `--NAME VALUE` and `--NAME=VALUE` out. Exit status. */
static int collect(const struct subcommand *c, int argc, char **argv, const char *own_name,
                   struct words *w)
{
    size_t n = strlen(own_name);
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!strcmp(word, "--help")) {
            w->help = true;
        } else if (!strncmp(word, own_name, n) && word[n] == '=') {
            w->own = word + n + 1;
        } else if (!strcmp(word, own_name)) {
            if (++i == argc)
                return cli_usage(c, "%s needs a value", own_name);
            w->own = argv[i];
        } else if (w->n == WORDS_MAX) {
            return cli_usage(c, "more than %d words", WORDS_MAX);
        } else {
            w->v[w->n++] = word;
        }
    }
    return EXIT_DONE;
}

/* How a long command goes on. */
struct going {
    char again[256]; /* where; empty: it does not */
    uint64_t pause_ms;
    char progress[256]; /* what was said last */
};

/* Said once: what is waited for. */
static void tell_progress(struct going *g, struct bytes line)
{
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)line.n, (const char *)line.p);
    if (*text && strcmp(text, g->progress) != 0)
        cli_line(stderr, "%s", text);
    snprintf(g->progress, sizeof g->progress, "%s", text);
}

/* One question; prints what is answered. Exit status. */
static int send_once(const struct subcommand *c, struct rpc *rpc, const struct identity *id,
                     const struct words *w, struct going *g)
{
    cleanup_arena struct arena a = {0};
    struct m_command_req q = {.words_n = w->n};
    q.words = arena_alloc(&a, (w->n + 2) * sizeof *q.words);
    for (size_t i = 0; i < w->n; i++)
        q.words[i].text = bytes_str(w->v[i]);
    if (*g->again) {
        q.words[q.words_n++].text = bytes_str("--from");
        q.words[q.words_n++].text = bytes_str(arena_str(&a, bytes_str(g->again)));
    }
    struct m_command_ans ans;
    char message[512] = "";
    int err = rpc_wait(rpc, id->url, "command", &m_command_req_desc, &q, &m_command_ans_desc, &ans,
                       &a, CALL_MS, message);
    if (err)
        return cli_fail(c, cli_rpc_status(err), "%s", message[0] ? message : strerror(-err));
    FILE *to = ans.exit_status ? stderr : stdout;
    fflush(stdout); /* in one file with what comes now, it stands before that */
    fwrite(ans.text.p, 1, ans.text.n, to);
    if (ans.text.n && ans.text.p[ans.text.n - 1] != '\n')
        fputc('\n', to);
    tell_progress(g, ans.progress);
    snprintf(g->again, sizeof g->again, "%.*s", (int)ans.again.n, (const char *)ans.again.p);
    g->pause_ms = ans.pause_ms < PAUSE_MAX_MS ? ans.pause_ms : PAUSE_MAX_MS;
    return (int)ans.exit_status;
}

static int send_words(const struct subcommand *c, const struct identity *id, const struct words *w)
{
    struct rpc *rpc;
    struct rpc_options o = {.ca_pem = id->ca_pem, .credential = id->credential};
    struct going g = {0};
    int status, err = rpc_new(&rpc, &o);
    if (err)
        return cli_fail(c, EXIT_FAILED, "%s", strerror(-err));
    do {
        usleep((useconds_t)g.pause_ms * 1000);
        status = send_once(c, rpc, id, w, &g);
    } while (status == EXIT_DONE && *g.again);
    rpc_free(rpc);
    return status;
}

/* The index of the PATH word of `namespace mount NAME PATH` and `namespace unmount PATH`, or 0. */
static size_t path_word(const struct words *w)
{
    if (w->n < 2)
        return 0;
    size_t wanted = !strcmp(w->v[1], "mount") ? 2 : !strcmp(w->v[1], "unmount") ? 1 : 0;
    for (size_t i = 2; wanted && i < w->n; i++)
        if (w->v[i][0] != '-' && --wanted == 0)
            return i;
    return 0;
}

/* The server must know the directory that a namespace is to appear in: it may just have been made.
 */
static int commit_parent(const struct subcommand *c, const char *path)
{
    cleanup_free char *parent = cli_format("%s", path);
    *strrchr(parent, '/') = 0;
    int fd = open(*parent ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return err ? cli_fail(c, EXIT_FAILED, "%s: %s", parent, strerror(err)) : EXIT_DONE;
}

/* Whose mount the command means, by an absolute PATH word or the current directory: its state
 * directory (malloc'd) in *state, or NULL. An absolute PATH is replaced by the one inside the
 * mount. */
static int find_mount(const struct subcommand *c, struct words *w, char **state)
{
    cleanup_mounts struct mount_list l = {0};
    size_t at = path_word(w);
    bool absolute_path = at && w->v[at][0] == '/';
    cleanup_free char *absolute = mount_absolute(absolute_path ? w->v[at] : ".");
    *state = NULL;
    if (mount_list_read(&l))
        return EXIT_DONE;
    const struct mount *found = mount_of(&l, absolute);
    if (!found)
        return absolute_path
                   ? cli_fail(c, EXIT_NOT_STEADFS, "%s is not in a steadfs mount", absolute)
                   : EXIT_DONE;
    struct mount *m = &l.v[found - l.v];
    mount_ask(m);
    *state = mount_state(m);
    if (absolute_path) {
        int status = *mount_inside(m, absolute) ? commit_parent(c, absolute) : EXIT_DONE;
        if (status)
            return status;
        w->translated = cli_format("%s", mount_inside(m, absolute));
        w->v[at] = w->translated;
        w->here = cli_format("%s", absolute);
    }
    return EXIT_DONE;
}

/* The namespace is mounted; this machine's mount learns it from the journal and then asks what the
 * account may do there. Scripts go on with the next line, so this is waited for. */
static void await_here(const char *path)
{
    for (unsigned waited = 0; waited < APPEARS_MS; waited += APPEARS_STEP_MS) {
        DIR *d = opendir(path);
        if (d) {
            closedir(d);
            return;
        }
        usleep(APPEARS_STEP_MS * 1000);
    }
}

static int run_device(const struct subcommand *self, int argc, char **argv)
{
    struct words w = {0};
    int status = collect(self, argc, argv, "--state", &w);
    if (status)
        return status;
    if (w.help || w.n < 2)
        return w.help ? cli_help(self) : cli_usage(self, "words are missing");
    cleanup_free char *state = NULL;
    status = find_mount(self, &w, &state);
    bool several = false;
    const char *named = w.own ? w.own : getenv("STEADFS_STATE");
    if (!status && named) {
        free(state);
        state = cli_format("%s", named);
    } else if (!status && !state) {
        state = identity_only(&several);
    }
    struct identity id = {0};
    if (!status && !state)
        status =
            several ? cli_usage(self, "several identities: name one with --state DIR, or do this "
                                      "inside its mount")
                    : cli_fail(self, EXIT_FAILED, "no identity here; run steadfs login INVITATION");
    if (!status)
        status = identity_of_state(self, state, &id);
    if (!status)
        status = send_words(self, &id, &w);
    if (!status && w.here && !strcmp(w.v[1], "mount"))
        await_here(w.here);
    identity_free(&id);
    free(w.translated);
    free(w.here);
    return status;
}

/* Takes `--wait` out of the words. */
static bool take_wait(struct words *w)
{
    size_t kept = 0;
    bool found = false;
    for (size_t i = 0; i < w->n; i++) {
        found |= !strcmp(w->v[i], "--wait");
        if (strcmp(w->v[i], "--wait") != 0)
            w->v[kept++] = w->v[i];
    }
    w->n = kept;
    return found;
}

/* The same question again, until it is no longer answered with `still pending`. */
static int send_until_done(const struct subcommand *c, const struct identity *id,
                           const struct words *w)
{
    int status;
    while ((status = send_words(c, id, w)) == EXIT_PENDING)
        usleep(WAIT_STEP_MS * 1000);
    return status;
}

static int run_admin(const struct subcommand *self, int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "where"))
        return where_run(self, argc - 1, argv + 1, true);
    struct words w = {0};
    int status = collect(self, argc, argv, "--admin", &w);
    if (status)
        return status;
    if (w.help || w.n < 2)
        return w.help ? cli_help(self) : cli_usage(self, "words are missing");
    struct identity id = {0};
    bool wait = !strcmp(w.v[0], "admin") && !strcmp(w.v[1], "evacuate") && take_wait(&w);
    status = identity_of_admin(self, w.own, &id);
    if (!status)
        status = wait ? send_until_done(self, &id, &w) : send_words(self, &id, &w);
    identity_free(&id);
    return status;
}

#define IDENTITY_HELP                                                                              \
    "\n"                                                                                           \
    "The identity is the one in DIR (default $STEADFS_STATE), else that of the mount that PATH "   \
    "or\n"                                                                                         \
    "the current directory lies in, else the only one of this user.\n"

const struct subcommand cmd_namespace = {
    .name = "namespace",
    .summary = "create, mount and list namespaces",
    .usage = "create NAME | mount NAME PATH | unmount PATH | list [--json]   [--state DIR]\n"
             "\n"
             "PATH is an absolute path in a mount, or a path relative to its root.\n" IDENTITY_HELP,
    .run = run_device,
};
const struct subcommand cmd_share = {
    .name = "share",
    .summary = "give an account a role in a namespace",
    .usage = "NAMESPACE ACCOUNT ROLE   [--state DIR]\n"
             "\n"
             "ROLE is viewer, editor, owner, or none.\n" IDENTITY_HELP,
    .run = run_device,
};
const struct subcommand cmd_admin = {
    .name = "admin",
    .summary = "accounts, devices, block servers, assignments",
    .usage =
        "WORDS…   [--admin FILE]\n"
        "\n"
        "  account add NAME [--assign PREMISES,…] [--no-token]\n"
        "                           make an account; prints an invitation for its first device\n"
        "  account token NAME       an invitation for a further device\n"
        "  account list\n"
        "  device list [ACCOUNT]\n"
        "  device revoke NUMBER\n"
        "  server add PREMISES      prints the token that a block server joins with\n"
        "  server list\n"
        "  server drain NUMBER [--force | --lost]\n"
        "                           it leaves all namespaces when others have what it has;\n"
        "                           --lost: at once, its disk is gone for good\n"
        "  server remove NUMBER     … and is then struck off\n"
        "  server rekey NUMBER [--overlap SECONDS | --cancel]\n"
        "                           it makes another key for TLS, good beside the old one first\n"
        "  assign NAMESPACE PREMISES…       candidates in this order; P,Q are of one rank\n"
        "  unassign NAMESPACE PREMISES… [--force]\n"
        "  onsite NAMESPACE [PREMISES… | --anywhere]\n"
        "                           the premises that it never leaves; shown or set\n"
        "  evacuate NUMBER|PREMISES [--to PREMISES,…] [--wait] [--force] | --cancel\n"
        "                           all that is there goes to others; again: how far it is\n"
        "  copies NAMESPACE [N]     block servers that must hold a change before fsync returns\n"
        "  rotate-key [NUMBER] [--at-once]\n"
        "                           a new key for capabilities, of one block server or of all\n"
        "  replication [NAMESPACE]  what each block server still lacks\n"
        "  where NAMESPACE[:PATH] | PATH [--copies N]\n"
        "                           which premises hold how much of it\n"
        "  namespace list\n"
        "  fsck [--repair] [--read] [--recorded] [NAMESPACE]\n"
        "                           compares files, records and disks: which files lack content, "
        "and where\n"
        "  gc [--dry-run | --restored] [NAMESPACE]\n"
        "                           what nothing refers to any more, and who has yet to remove it\n"
        "  quota NAMESPACE [--bytes N] [--nodes N]\n"
        "\n"
        "Lists take --json. FILE (default $STEADFS_ADMIN, ~/.config/steadfs/admin,\n"
        "/etc/steadfs/admin) has the lines url=, credential= and ca=: it is admin.credential of "
        "the\n"
        "metadata server's data directory, or a copy.\n",
    .run = run_admin,
};
