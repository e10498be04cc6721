// SPDX-License-Identifier: Apache-2.0
/* Enrols this machine as a device of an account.
 *
 * The invitation carries the fingerprint of the installation's CA: it is fetched over a connection
 * that trusts nothing but a CA with this fingerprint, kept as ca.pem, and from then on trusted
 * alone. The token works once, so everything that can fail on this side is tried before it is sent:
 * the state directory is made, ca.pem is written. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity.h"
#include "invitation.h"
#include "rpc.h"
#include "secretline.h"

#define CA_MAX 65536
#define IDENTITY_MAX 65536
#define CALL_MS 20000u

struct plan {
    const struct subcommand *c;
    struct invitation inv;
    char *url, *state;
    char device[65];
    char *ca_pem;
    bool renew; /* an identity is there, and is replaced */
    bool made;  /* the state directory was not there before */
};

/* Makes every directory of the path; the last one private. *made: it was not there. */
static int make_dirs(const char *path, bool *made)
{
    cleanup_free char *p = cli_format("%s", path);
    for (char *slash = p + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        if (mkdir(p, 0755) && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    *made = !mkdir(p, 0700);
    return *made || errno == EEXIST ? 0 : -errno;
}

struct fetched {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int err;
    char *pem;
    char message[512];
};

static void ca_arrived(void *arg, struct rpc_result *r)
{
    struct fetched *f = arg;
    pthread_mutex_lock(&f->lock);
    f->err = r->err;
    if (!r->err)
        f->pem = cli_format("%.*s", (int)r->body.n, (const char *)r->body.p);
    memcpy(f->message, r->message, sizeof f->message);
    f->done = true;
    pthread_cond_signal(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static int fetch_ca(struct plan *p)
{
    struct rpc *rpc;
    struct rpc_options o = {.pin_sha256 = p->inv.fingerprint};
    int err = rpc_new(&rpc, &o);
    if (err)
        return cli_fail(p->c, EXIT_FAILED, "%s", strerror(-err));
    struct fetched f = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct rpc_call call = {.url = p->url,
                            .method = "ca",
                            .timeout_ms = CALL_MS,
                            .answer_max = CA_MAX,
                            .done = ca_arrived,
                            .arg = &f};
    rpc_start(rpc, &call);
    pthread_mutex_lock(&f.lock);
    while (!f.done)
        pthread_cond_wait(&f.cond, &f.lock);
    pthread_mutex_unlock(&f.lock);
    rpc_free(rpc);
    p->ca_pem = f.pem;
    return f.err ? cli_fail(p->c, cli_rpc_status(f.err), "%s", f.message) : EXIT_DONE;
}

/* Whether the directory may go on under a new number: the same account's at the same server, and no
 * mount uses it; it is locked until this program ends. */
static int renewable(struct plan *p, const char *identity)
{
    cleanup_free char *text = cli_read_file(identity, IDENTITY_MAX);
    cleanup_free char *url = cli_format("url=%s\n", p->url);
    cleanup_free char *account = cli_format("account=%s\n", p->inv.account);
    if (!text || !strstr(text, url) || !strstr(text, account))
        return cli_fail(p->c, EXIT_FAILED,
                        "%s is not of account %s at %s: what is unsent in it cannot go on there",
                        p->state, p->inv.account, p->url);
    cleanup_free char *lock = cli_format("%s/lock", p->state);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB)) {
        int err = fd < 0 || errno != EWOULDBLOCK ? errno : EBUSY;
        if (fd >= 0)
            close(fd);
        return cli_fail(p->c, EXIT_FAILED, "%s: %s%s", p->state, strerror(err),
                        err == EBUSY ? "; unmount it first" : "");
    }
    return EXIT_DONE; /* the lock ends with the program */
}

static int prepare_state(struct plan *p)
{
    int err = make_dirs(p->state, &p->made);
    if (err)
        return cli_fail(p->c, EXIT_FAILED, "%s: %s", p->state, strerror(-err));
    cleanup_free char *identity = cli_format("%s/identity", p->state);
    bool there = !access(identity, F_OK);
    if (there && !p->renew)
        return cli_fail(p->c, EXIT_FAILED,
                        "%s holds an identity already; name another directory with --state, or, if "
                        "it is a copy or an older state, or its device was revoked, take a new "
                        "number for it with --renew",
                        p->state);
    if (p->renew) {
        int status = there ? renewable(p, identity)
                           : cli_fail(p->c, EXIT_FAILED, "%s holds no identity to renew", p->state);
        if (status)
            return status;
    }
    if (p->inv.fingerprint) {
        int status = fetch_ca(p);
        if (status)
            return status;
        cleanup_free char *file = cli_format("%s/ca.pem", p->state);
        err = cli_write_private(file, p->ca_pem);
        if (err)
            return cli_fail(p->c, EXIT_FAILED, "%s: %s", file, strerror(-err));
    }
    return EXIT_DONE;
}

static int enrol(struct plan *p)
{
    struct rpc *rpc;
    struct rpc_options o = {.ca_pem = p->ca_pem};
    int err = rpc_new(&rpc, &o);
    if (err)
        return cli_fail(p->c, EXIT_FAILED, "%s", strerror(-err));
    cleanup_arena struct arena a = {0};
    struct m_login_req q = {.account = bytes_str(p->inv.account),
                            .token = bytes_str(p->inv.token),
                            .device_name = bytes_str(p->device)};
    struct m_login_ans ans;
    char message[512] = "";
    err = rpc_wait(rpc, p->url, "login", &m_login_req_desc, &q, &m_login_ans_desc, &ans, &a,
                   CALL_MS, message);
    rpc_free(rpc);
    if (err)
        return cli_fail(p->c, cli_rpc_status(err), "%s", message[0] ? message : strerror(-err));
    cleanup_free char *text =
        cli_format("url=%s\naccount=%s\ndevice=%llu\ndevice_name=%s\ncredential=%.*s\n", p->url,
                   p->inv.account, (unsigned long long)ans.device, p->device, (int)ans.credential.n,
                   (const char *)ans.credential.p);
    cleanup_free char *file = cli_format("%s/identity", p->state);
    err = cli_write_private(file, text);
    for (size_t i = 0; !err && p->renew && i < 2; i++) { /* a new one is made at the next mount */
        cleanup_free char *old =
            cli_format("%s/%s", p->state, i ? "incarnation.copy" : "incarnation");
        unlink(old);
    }
    explicit_bzero(text, strlen(text));
    if (err)
        return cli_fail(p->c, EXIT_FAILED, "%s: %s; ask for a new invitation", file,
                        strerror(-err));
    printf("logged in as %s, device %llu (%s); mount with: steadfs mount %s@%s:%u MOUNTPOINT",
           p->inv.account, (unsigned long long)ans.device, p->device, p->inv.account, p->inv.host,
           p->inv.port);
    cleanup_free char *base = identity_base();
    if (base && !strncmp(p->state, base, strlen(base)))
        printf("\n");
    else
        printf(" -o state=%s\n", p->state);
    return EXIT_DONE;
}

/* Nothing is left of a login that failed in a directory of its own. */
static void unmake(const char *state)
{
    cleanup_free char *ca = cli_format("%s/ca.pem", state);
    unlink(ca);
    rmdir(state);
}

static int login(struct plan *p, const char *state)
{
    p->url =
        cli_format("%s://%s:%u", p->inv.fingerprint ? "https" : "http", p->inv.host, p->inv.port);
    cleanup_free char *base = identity_base();
    if (!state && !base)
        return cli_usage(p->c, "HOME is not set: --state DIR is needed");
    cleanup_free char *cwd = state && *state != '/' ? getcwd(NULL, 0) : NULL;
    p->state = !state ? cli_format("%s/%s@%s:%u", base, p->inv.account, p->inv.host, p->inv.port)
               : cwd  ? cli_format("%s/%s", cwd, state)
                      : cli_format("%s", state);
    int status = prepare_state(p);
    if (!status)
        status = enrol(p);
    if (status && p->made)
        unmake(p->state);
    free(p->url);
    free(p->state);
    free(p->ca_pem);
    return status;
}

/* Of a file, of standard input ("-"), or of the argument, which ps shows no longer then. */
static int take_invitation(struct plan *p, char *argument, bool is_file)
{
    char line[SECRETLINE_MAX];
    int r = 0;
    if (is_file || !strcmp(argument, "-"))
        r = secretline_read(argument, "invitation", line);
    else if (snprintf(line, sizeof line, "%s", argument) >= (int)sizeof line)
        r = -EMSGSIZE;
    else
        secretline_hide(argument);
    int bad = r ? 0 : invitation_parse(&p->inv, line);
    explicit_bzero(line, sizeof line);
    if (r)
        return cli_fail(p->c, EXIT_FAILED, "cannot read an invitation from %s: %s",
                        is_file ? argument : "standard input", strerror(-r));
    return bad ? cli_usage(p->c, "this is no invitation (ACCOUNT@HOST:PORT/TOKEN#FINGERPRINT)") : 0;
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"state", required_argument, NULL, 's'},
        {"device", required_argument, NULL, 'd'},
        {"device-name", required_argument, NULL, 'd'},
        {"renew", no_argument, NULL, 'r'},
        {"token-file", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct plan p = {.c = self};
    const char *state = NULL;
    char *file = NULL;
    if (gethostname(p.device, sizeof p.device - 1) || !p.device[0])
        snprintf(p.device, sizeof p.device, "device");
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'h')
            return cli_help(self);
        if (o == '?')
            return cli_usage(self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
        if (o == 's')
            state = optarg;
        if (o == 't')
            file = optarg;
        p.renew |= o == 'r';
        if (o == 'd' && (strlen(optarg) > 64 || !*optarg || strchr(optarg, '\n')))
            return cli_usage(self, "a device name has 1 to 64 bytes");
        if (o == 'd')
            snprintf(p.device, sizeof p.device, "%s", optarg);
    }
    if (argc - optind != !file)
        return cli_usage(self, "one invitation is needed, - to read it from standard input, or "
                               "--token-file");
    int status = take_invitation(&p, file ? file : argv[optind], file != NULL);
    if (!status)
        status = login(&p, state);
    invitation_free(&p.inv);
    return status;
}

const struct subcommand cmd_login = {
    .name = "login",
    .summary = "enrol this machine with an invitation",
    .usage =
        "-|--token-file FILE|INVITATION [--state DIR] [--device NAME] [--renew]\n"
        "\n"
        "An invitation is ACCOUNT@HOST:PORT/TOKEN#FINGERPRINT, from your administrator; it works "
        "once.\n"
        "It is read from standard input (-) or the first line of FILE; as an argument others on "
        "this\n"
        "machine see it while the command starts.\n"
        "The identity is kept in DIR, default ${XDG_STATE_HOME:-~/.local/state}/steadfs/\n"
        "ACCOUNT@HOST:PORT. NAME (default: the host's) appears in the names of conflicted "
        "copies.\n"
        "\n"
        "--renew: DIR was copied from another machine or restored from a backup, or its device "
        "was\n"
        "revoked, and its mount is refused for that. It goes on as a new device; what is unsent "
        "in\n"
        "it is kept.\n",
    .run = run,
};
