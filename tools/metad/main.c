// SPDX-License-Identifier: Apache-2.0
/* steadfs-metad: reads its command line, puts the parts together, runs until a signal, takes them
 * apart.
 *
 * SIGTERM and SIGINT are received by a thread of their own (sigwait): on the loop it has all
 * waiters answered and the server drained, so that everything accepted is finished and answered
 * before the process ends with status 0. It also takes SIGHUP: the logs were moved away. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "datadir.h"
#include "service.h"
#include "tls.h"
#include "walpair.h"
#include "writer.h"

#define LOG_RESERVE (18 << 20) /* bytes: what the database writes between two checkpoints */
#define PORT 7440
#define DRAIN_MS 30000u
#define HISTORY_MIN_MS (30ull * 24 * 3600 * 1000)
#define GRACE_MS (48ull * 3600 * 1000)
#define WORKERS 4u
#define LOCK_LEASE_MIN_MS 1000
#define CONNECTIONS_MAX                                                                            \
    16384u /* each waiting client holds one; the usual hard limit of open files is 20000 */

struct config {
    const char *data, *log, *trace;
    enum log_level level;
    char *address; /* malloc'd, without brackets */
    uint16_t port;
    struct buf names; /* for the certificate, with commas between them */
    char *first_name; /* malloc'd; NULL: the address */
    unsigned drain_ms;
    uint64_t gc_grace_ms, history_min_ms, lock_lease_ms;
    bool tls, init_only;
};

static const char usage[] =
    "usage: steadfs-metad --data DIR [OPTION…]\n"
    "\n"
    "  --data DIR            store, certificate authority, administrator's credential; made if "
    "new\n"
    "  --listen ADDR:PORT    default 127.0.0.1:7440; port 0: any free one\n"
    "  --name HOST           a name that clients use, for certificate and invitations; "
    "repeatable,\n"
    "                        the first one is in the invitations\n"
    "  --init                make DIR, then exit\n"
    "  --log FILE            default: stderr\n"
    "  --trace FILE          write a line per protocol step\n"
    "  --log-level LEVEL     error, warn, info (default) or debug: with a line per call of a "
    "commit\n"
    "  --drain SECONDS       how long to finish what is under way on SIGTERM (30)\n"
    "  --gc-grace SECONDS    receipts are good for half of it (172800)\n"
    "  --history-min SECONDS how long at least what was changed or removed can be read, and a\n"
    "                        device be offline and go on from where it was (2592000: 30 days)\n"
    "  --lock-lease SECONDS  what a mount holds locked against others is released when it was not\n"
    "                        heard of for so long (15); before a start with a shorter one,\n"
    "                        wait for the longer one\n"
    "  --no-tls              plain HTTP; only on a loopback address\n";

static int wrong(const char *fmt, const char *what)
{
    fprintf(stderr, "steadfs-metad: ");
    fprintf(stderr, fmt, what);
    fprintf(stderr, "; see --help\n");
    return 2;
}

/* "ADDR:PORT", "[ADDR6]:PORT" */
static bool take_listen(struct config *c, const char *text)
{
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || colon == text)
        return false;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end || !colon[1] || port > 65535)
        return false;
    bool brackets = text[0] == '[' && colon[-1] == ']';
    free(c->address);
    c->address = strndup(text + brackets, (size_t)(colon - text) - 2 * brackets);
    c->port = (uint16_t)port;
    return c->address != NULL;
}

static bool take_seconds(const char *text, uint64_t *ms)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end || end == text || !(seconds >= 0) || seconds > 4e6)
        return false;
    *ms = (uint64_t)(seconds * 1000);
    return true;
}

static void take_name(struct config *c, const char *name)
{
    buf_printf(&c->names, "%s%s", c->names.n ? "," : "", name);
    if (!c->first_name)
        c->first_name = strdup(name);
}

static int take_option(struct config *c, int o)
{
    uint64_t ms;
    switch (o) {
    case 'd':
        c->data = optarg;
        return 0;
    case 'l':
        return take_listen(c, optarg) ? 0 : wrong("--listen %s is not ADDR:PORT", optarg);
    case 'n':
        if (!*optarg || strpbrk(optarg, ", /"))
            return wrong("--name %s is not a host name or address", optarg);
        take_name(c, optarg);
        return 0;
    case 'i':
        c->init_only = true;
        return 0;
    case 'L':
        c->log = optarg;
        return 0;
    case 'T':
        c->trace = optarg;
        return 0;
    case 'V':
        return log_level_of(optarg, &c->level)
                   ? wrong("--log-level %s is none of error, warn, info and debug", optarg)
                   : 0;
    case 'D':
        if (!take_seconds(optarg, &ms))
            return wrong("--drain %s is not a number of seconds", optarg);
        c->drain_ms = (unsigned)ms;
        return 0;
    case 'g':
        if (!take_seconds(optarg, &c->gc_grace_ms) || c->gc_grace_ms == 0)
            return wrong("--gc-grace %s is not a number of seconds", optarg);
        return 0;
    case 'H':
        if (!take_seconds(optarg, &c->history_min_ms))
            return wrong("--history-min %s is not a number of seconds", optarg);
        return 0;
    case 'k':
        if (!take_seconds(optarg, &c->lock_lease_ms) || c->lock_lease_ms < LOCK_LEASE_MIN_MS)
            return wrong("--lock-lease %s is not a number of seconds, at least 1", optarg);
        return 0;
    default: /* 'p' */
        c->tls = false;
        return 0;
    }
}

/* 0; or the exit status + 1, because --help exits with 0. */
static int take_arguments(struct config *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'},
        {"listen", required_argument, NULL, 'l'},
        {"name", required_argument, NULL, 'n'},
        {"init", no_argument, NULL, 'i'},
        {"log", required_argument, NULL, 'L'},
        {"trace", required_argument, NULL, 'T'},
        {"log-level", required_argument, NULL, 'V'},
        {"drain", required_argument, NULL, 'D'},
        {"gc-grace", required_argument, NULL, 'g'},
        {"history-min", required_argument, NULL, 'H'},
        {"lock-lease", required_argument, NULL, 'k'},
        {"no-tls", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {0},
    };
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'h' || o == 'v') {
            fputs(o == 'h' ? usage : "steadfs-metad " STEADFS_VERSION "\n", stdout);
            return 1;
        }
        int status = o == '?'
                         ? wrong("unknown option, or one without its value: %s", argv[optind - 1])
                         : take_option(c, o);
        if (status)
            return status + 1;
    }
    if (optind < argc)
        return wrong("'%s' is one argument too many", argv[optind]) + 1;
    if (!c->data)
        return wrong("%s is needed", "--data DIR") + 1;
    return 0;
}

static bool is_wildcard(const char *address)
{
    return !strcmp(address, "0.0.0.0") || !strcmp(address, "::");
}

/* Without --name, clients come to the address that is listened on, or to this host's name. */
static void default_names(struct config *c)
{
    char host[256] = "localhost";
    if (!is_wildcard(c->address))
        take_name(c, c->address);
    else if (!c->first_name) {
        gethostname(host, sizeof host - 1);
        take_name(c, host);
    }
    buf_append(&c->names, "", 1);
}

static char *in_brackets(const char *host)
{
    char *text;
    if (asprintf(&text, strchr(host, ':') ? "[%s]" : "%s", host) < 0)
        abort();
    return text;
}

/* ---- signals
 * ------------------------------------------------------------------------------------- */

struct ending {
    struct service *s;
    unsigned drain_ms;
};

static void drain(void *arg)
{
    struct ending *e = arg;
    httpd_stop(e->s->httpd, e->drain_ms);
    waiters_release(e->s->waiters);
}

static void *await_signal(void *arg)
{
    struct ending *e = arg;
    sigset_t set;
    int signal_number;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    while (sigwait(&set, &signal_number) != 0 || signal_number == SIGHUP)
        log_reopen(e->s->log);
    log_printf(e->s->log, LOG_L_INFO, "signal %d: finishing what is under way", signal_number);
    httpd_post(e->s->httpd, drain, e);
    return NULL;
}

/* Blocks them in this thread and all those it starts. */
static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- the service
 * ----------------------------------------------------------------------------------- */

static int start_httpd(struct service *s, const struct config *c, const struct datadir *d,
                       char *err)
{
    char *cert = NULL, *key = NULL;
    int e = c->tls ? datadir_certificate(d, (const char *)c->names.p, &cert, &key) : 0;
    if (e) {
        snprintf(err, 512, "no certificate can be made for %.300s: %s", (const char *)c->names.p,
                 strerror(-e));
        return e;
    }
    struct httpd_options o = {
        .address = c->address,
        .port = c->port,
        .cert_pem = cert,
        .key_pem = key,
        .workers = WORKERS,
        .max_connections = CONNECTIONS_MAX,
        .log = s->log,
        .ctx = s,
        .metrics = service_metrics,
        .name = "steadfs_metad",
        .vouch = service_vouch,
        .vouch_where = HTTPD_ON_WORKER,
    };
    e = httpd_new(&s->httpd, &o, err);
    free(cert);
    if (key)
        explicit_bzero(key, strlen(key));
    free(key);
    return e;
}

static int64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void lock_news(void *ctx, uint64_t device, bool any)
{
    waiters_lock_news(((struct service *)ctx)->waiters, device, any);
}

static void start_locks(struct service *s)
{
    struct locks_options o = {
        .now_ms = monotonic_ms, .lease_ms = s->lock_lease_ms, .news = lock_news, .ctx = s};
    random_bytes(&o.epoch, sizeof o.epoch);
    o.epoch |= 1; /* never none */
    s->locks = locks_new(&o);
}

/* Runs until a signal. The parts that are there are taken down by stop(). */
static int serve(struct service *s, const struct config *c, const struct datadir *d,
                 const struct meta_options *mo, char *err)
{
    int e = start_httpd(s, c, d, err);
    if (e)
        return e;
    struct meta *m = NULL;
    s->waiters = waiters_new(s->httpd);
    quiet_init(&s->quiet);
    s->readers = readers_new(mo);
    start_locks(s);
    struct meta_options writes = *mo;
    writes.log_reserve = LOG_RESERVE;
    e = meta_open(&m, &writes, err);
    if (e)
        return e;
    e = meta_started(m);
    if (e) {
        meta_close(m);
        snprintf(err, 512, "the database cannot be written: %s", strerror(-e));
        return e;
    }
    e = writer_new(&s->writer, s, m);
    if (e) {
        meta_close(m);
        snprintf(err, 512, "no thread: %s", strerror(-e));
        return e;
    }
    char *url, *host = in_brackets(s->public_host);
    if (asprintf(&url, "%s://%s:%u", c->tls ? "https" : "http", host, httpd_port(s->httpd)) < 0)
        abort();
    e = datadir_tell_admin(d, url, c->tls, err);
    if (!e) {
        service_routes(s);
        struct ending ending = {s, c->drain_ms};
        pthread_t signals;
        e = -pthread_create(&signals, NULL, await_signal, &ending);
        log_printf(s->log, LOG_L_INFO, "steadfs-metad " STEADFS_VERSION " serves %s at %s", d->path,
                   url);
        if (!e) {
            httpd_run(s->httpd);
            pthread_join(signals, NULL);
        }
    }
    free(host);
    free(url);
    return e;
}

/* The writer first: it still answers requests that the server holds. */
static void stop(struct service *s)
{
    writer_free(s->writer);
    httpd_free(s->httpd);
    waiters_free(s->waiters);
    locks_free(s->locks);
    readers_free(s->readers);
}

static int run(struct config *c, struct log *log)
{
    char err[512] = "";
    struct datadir d;
    struct meta_options mo = {.gc_grace_ms = c->gc_grace_ms,
                              .history_ms = c->history_min_ms ? c->history_min_ms : 1};
    int e = datadir_open(&d, c->data, &mo, err);
    if (!e && !c->init_only) {
        char *host = in_brackets(c->first_name);
        struct service s = {.log = log,
                            .names = (const char *)c->names.p,
                            .public_host = host,
                            .history_min_ms = c->history_min_ms,
                            .gc_grace_ms = c->gc_grace_ms,
                            .lock_lease_ms = (unsigned)c->lock_lease_ms};
        if (c->tls) {
            s.ca_pem = d.ca_pem;
            s.ca_key_pem = d.ca_key_pem;
            e = tls_fingerprint(d.ca_pem, s.ca_fingerprint);
            if (e)
                snprintf(err, sizeof err, "%.400s/ca.pem is no certificate", d.path);
        }
        if (!e)
            e = serve(&s, c, &d, &mo, err);
        stop(&s);
        if (!e && walpair_end(mo.path)) /* a copy that is put back must not meet it */
            log_printf(log, LOG_L_WARN, "the log of %s stays", mo.path);
        free(host);
    }
    if (!e && !c->init_only)
        log_printf(log, LOG_L_INFO, "ended");
    if (!e || d.path)
        datadir_close(&d);
    free((char *)mo.path);
    if (!e)
        return 0;
    log_printf(log, LOG_L_ERROR, "%s", err[0] ? err : strerror(-e));
    if (c->log)
        fprintf(stderr, "steadfs-metad: %s\n", err[0] ? err : strerror(-e));
    return 1;
}

int main(int argc, char **argv)
{
    struct config c = {.address = strdup("127.0.0.1"),
                       .port = PORT,
                       .level = LOG_L_INFO,
                       .drain_ms = DRAIN_MS,
                       .history_min_ms = HISTORY_MIN_MS,
                       .gc_grace_ms = GRACE_MS,
                       .tls = true};
    int status = take_arguments(&c, argc, argv);
    if (status) {
        status--;
    } else {
        struct log *log = NULL;
        default_names(&c);
        block_signals();
        umask(077); /* the store holds keys of block servers */
        int err = log_open(&log, "metad", c.log, c.trace, c.level);
        if (err) {
            fprintf(stderr, "steadfs-metad: the log or trace file cannot be opened: %s\n",
                    strerror(-err));
            status = 1;
        } else {
            status = run(&c, log);
        }
        log_close(log);
    }
    free(c.address);
    free(c.first_name);
    buf_free(&c.names);
    return status;
}
