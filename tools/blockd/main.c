// SPDX-License-Identifier: Apache-2.0
/* steadfs-blockd: options, joining, running.
 *
 * Order at start: the storage (its lock keeps a second server off the directory), the identity,
 * which the first start gets by joining, the sockets, the heartbeat. Before joining, the address is
 * tried: a taken port must not use up the one-time token. Signals are waited for by a thread of
 * their own.
 */
#include "beat.h"
#include "durable.h"
#include "httpd.h"
#include "identity.h"
#include "offline.h"
#include "place.h"
#include "secretline.h"
#include "service.h"
#include "storage_open.h"
#include "units.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_DEFAULT "127.0.0.1:7441"
#define DRAIN_DEFAULT_S 30
#define CA_FILE_MAX 65536
#define SCRUB_RATE_DEFAULT (UINT64_C(8) << 20)
#define SCRUB_INTERVAL_DEFAULT_S 604800
#define GRACE_MAX_S (6 * 86400) /* what was taken back is told of for longer than that */
#define CONNECTIONS_MAX 16384   /* fits a limit of 20000 open files */

struct options {
    const char *data, *listen, *meta, *token_file, *ca_fingerprint, *ca_file, *url, *log, *trace;
    enum log_level level;
    struct storage_options storage;
    unsigned drain_s, scrub_interval_s, grace_s;
    uint64_t rate, scrub_rate;
    struct rate_plan replicate_rate;
    bool list, reindex, drop_unclaimed, join; /* join: the token comes from standard input */
    char token[SECRETLINE_MAX];
};

struct program {
    struct options o;
    struct log *log;
    struct storage *storage;
    struct identity identity;
    bool joined;
    struct place place;
    char url[300];
    struct feed *feed;
    struct keyring *keys;
    struct service service;
    struct httpd *httpd;
    struct beat *beat;
    struct collect *collect;
    struct tick *tick;
    struct check *check;
    struct scrub *scrub;
    struct confirm *confirm;
    struct replicate *replicate;
};

static const char help[] =
    "Usage: steadfs-blockd --data DIR [OPTION]...\n"
    "Stores blocks for the namespaces that the metadata server assigns to it.\n"
    "\n"
    "  --data DIR            where blocks and identity are kept; made if need be\n"
    "  --list                print each stored block's hash and length, and exit\n"
    "  --reindex             while no server runs on DIR: take what blocks/ and corrupt/ hold "
    "into\n"
    "                        the index that was lost, and exit\n"
    "  --drop-unclaimed      while no server runs on DIR: remove what --reindex took in and no\n"
    "                        namespace has asked for since, and exit\n"
    "\n"
    "  --storage WHERE       first start: dir (the default: in DIR), or s3://BUCKET[/PREFIX] of "
    "an\n"
    "                        S3-compatible object store; DIR then has their index\n"
    "  --s3-endpoint URL     of that store, http[s]://HOST[:PORT]\n"
    "  --s3-credentials FILE its keys, lines access_key=… and secret_key=…; default: the "
    "variables\n"
    "                        AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY\n"
    "  --s3-region NAME      default us-east-1\n"
    "  --s3-ca FILE          the authorities that its certificate is checked with, PEM\n"
    "\n"
    "First start only (kept in DIR):\n"
    "  --meta URL            the metadata server, https://HOST:PORT\n"
    "  --join -              read the one-time token that `steadfs admin server add PREMISES`\n"
    "                        printed from standard input; or\n"
    "  --token-file FILE     from a file; or\n"
    "  --join TOKEN          as an argument, which others on this machine see until it is read\n"
    "  --ca-fingerprint HEX  SHA-256 of the installation's CA certificate; or\n"
    "  --ca FILE             that certificate, PEM\n"
    "\n"
    "  --listen ADDR:PORT    default: as at the first start, else " LISTEN_DEFAULT "\n"
    "  --url URL             where clients reach this server; default: the listening address\n"
    "  --log FILE            append log lines here instead of stderr\n"
    "  --trace FILE          append a line per protocol step\n"
    "  --log-level LEVEL     error, warn, info (default) or debug: with a line per put\n"
    "  --rate BYTES          bytes a second, each way, for all clients together; default: no "
    "limit\n"
    "  --scrub-rate BYTES    read what is stored, to find damage, at so many bytes a second (K, "
    "M,\n"
    "                        G allowed); default 8M; 0: not\n"
    "  --scrub-interval TIME a pass over all of it begins every so many seconds (m, h, d allowed)\n"
    "                        at most; default 7d\n"
    "  --replicate-rate N[,HOUR-HOUR=N]...\n"
    "                        bytes a second for other block servers at most, K, M, G allowed, or "
    "any\n"
    "                        or none; others at some hours of the day: 20M,8-18=2M,22-6=any;\n"
    "                        default: no limit\n"
    "  --grace TIME          while the metadata server cannot be reached, capabilities are good "
    "for "
    "so\n"
    "                        many seconds (m, h, d allowed) past their end; default 24h, at most "
    "6d\n"
    "  --drain SECONDS       on SIGTERM, finish requests for at most this long (default 30)\n"
    "  --help, --version\n";

/* ---- options ------------------------------------------------------------------------------- */

static int usage_error(const char *text)
{
    fprintf(stderr, "steadfs-blockd: %s (see --help)\n", text);
    return 2;
}

enum {
    OPT_DATA = 1,
    OPT_LISTEN,
    OPT_META,
    OPT_JOIN,
    OPT_TOKEN_FILE,
    OPT_FINGERPRINT,
    OPT_CA,
    OPT_URL,
    OPT_LOG,
    OPT_TRACE,
    OPT_LOG_LEVEL,
    OPT_DRAIN,
    OPT_RATE,
    OPT_LIST,
    OPT_REINDEX,
    OPT_DROP_UNCLAIMED,
    OPT_STORAGE,
    OPT_S3_ENDPOINT,
    OPT_S3_REGION,
    OPT_S3_CREDENTIALS,
    OPT_S3_CA,
    OPT_REPLICATE_RATE,
    OPT_SCRUB_RATE,
    OPT_SCRUB_INTERVAL,
    OPT_GRACE,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"data", required_argument, NULL, OPT_DATA},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"meta", required_argument, NULL, OPT_META},
    {"join", required_argument, NULL, OPT_JOIN},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"ca-fingerprint", required_argument, NULL, OPT_FINGERPRINT},
    {"ca", required_argument, NULL, OPT_CA},
    {"url", required_argument, NULL, OPT_URL},
    {"log", required_argument, NULL, OPT_LOG},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"drain", required_argument, NULL, OPT_DRAIN},
    {"replicate-rate", required_argument, NULL, OPT_REPLICATE_RATE},
    {"list", no_argument, NULL, OPT_LIST},
    {"reindex", no_argument, NULL, OPT_REINDEX},
    {"drop-unclaimed", no_argument, NULL, OPT_DROP_UNCLAIMED},
    {"storage", required_argument, NULL, OPT_STORAGE},
    {"s3-endpoint", required_argument, NULL, OPT_S3_ENDPOINT},
    {"s3-region", required_argument, NULL, OPT_S3_REGION},
    {"s3-credentials", required_argument, NULL, OPT_S3_CREDENTIALS},
    {"s3-ca", required_argument, NULL, OPT_S3_CA},
    {"rate", required_argument, NULL, OPT_RATE},
    {"scrub-rate", required_argument, NULL, OPT_SCRUB_RATE},
    {"scrub-interval", required_argument, NULL, OPT_SCRUB_INTERVAL},
    {"grace", required_argument, NULL, OPT_GRACE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

static bool parse_drain(const char *text, unsigned *seconds)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    *seconds = (unsigned)v;
    return end != text && !*end && v <= 3600;
}

/* Of an argument: kept, and taken out of what others see of this process. */
static bool take_token(struct options *o, char *argument)
{
    o->join = !strcmp(argument, "-");
    if (o->join)
        return true;
    int n = snprintf(o->token, sizeof o->token, "%s", argument);
    secretline_hide(argument);
    return n > 0 && (size_t)n < sizeof o->token;
}

/* -1: go on; else the exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
    const char **texts[] = {
        [OPT_DATA] = &o->data,
        [OPT_LISTEN] = &o->listen,
        [OPT_META] = &o->meta,
        [OPT_TOKEN_FILE] = &o->token_file,
        [OPT_FINGERPRINT] = &o->ca_fingerprint,
        [OPT_CA] = &o->ca_file,
        [OPT_URL] = &o->url,
        [OPT_LOG] = &o->log,
        [OPT_TRACE] = &o->trace,
        [OPT_STORAGE] = &o->storage.url,
        [OPT_S3_ENDPOINT] = &o->storage.endpoint,
        [OPT_S3_REGION] = &o->storage.region,
        [OPT_S3_CREDENTIALS] = &o->storage.credentials,
        [OPT_S3_CA] = &o->storage.ca,
    };
    *o = (struct options){.level = LOG_L_INFO,
                          .drain_s = DRAIN_DEFAULT_S,
                          .grace_s = ACCESS_GRACE_MS / 1000,
                          .scrub_rate = SCRUB_RATE_DEFAULT,
                          .scrub_interval_s = SCRUB_INTERVAL_DEFAULT_S};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == OPT_HELP) {
            fputs(help, stdout);
            return 0;
        }
        if (c == OPT_VERSION) {
            puts("steadfs-blockd " STEADFS_VERSION);
            return 0;
        }
        if (c == '?')
            return fprintf(stderr,
                           "steadfs-blockd: unknown option, or one without its value: %s "
                           "(see --help)\n",
                           argv[optind - 1]),
                   2;
        if (c == OPT_LIST)
            o->list = true;
        else if (c == OPT_JOIN && !take_token(o, optarg))
            return usage_error("--join takes a token, or - to read it from standard input");
        else if (c == OPT_REINDEX || c == OPT_DROP_UNCLAIMED)
            *(c == OPT_REINDEX ? &o->reindex : &o->drop_unclaimed) = true;
        else if (c == OPT_DRAIN && !parse_drain(optarg, &o->drain_s))
            return usage_error("--drain takes seconds, at most 3600");
        else if (c == OPT_LOG_LEVEL && log_level_of(optarg, &o->level))
            return usage_error("--log-level is one of error, warn, info and debug");
        else if (c == OPT_GRACE &&
                 (!parse_seconds(optarg, &o->grace_s) || o->grace_s > GRACE_MAX_S))
            return usage_error("--grace takes seconds, like 0, 3600 or 24h, at most 6d");
        else if (c == OPT_RATE && !parse_bytes(optarg, &o->rate))
            return usage_error("--rate takes bytes a second, like 500K or 20M");
        else if (c == OPT_SCRUB_RATE && !parse_bytes(optarg, &o->scrub_rate))
            return usage_error("--scrub-rate takes bytes a second, like 500K or 20M");
        else if (c == OPT_SCRUB_INTERVAL && !parse_seconds(optarg, &o->scrub_interval_s))
            return usage_error("--scrub-interval takes seconds, like 3600 or 7d");
        else if (c == OPT_REPLICATE_RATE && !parse_rate_plan(optarg, &o->replicate_rate))
            return usage_error(
                "--replicate-rate takes bytes a second, like 500K or 20M,8-18=2M,22-6=any");
        else if (c != OPT_LOG_LEVEL && c != OPT_DRAIN && c != OPT_RATE && c != OPT_SCRUB_RATE &&
                 c != OPT_SCRUB_INTERVAL && c != OPT_REPLICATE_RATE && c != OPT_GRACE &&
                 c != OPT_JOIN)
            *texts[c] = optarg;
    }
    if (optind < argc)
        return usage_error("unexpected argument");
    if (!o->data)
        return usage_error("--data is missing");
    if (o->token_file && (o->token[0] || o->join))
        return usage_error("--join and --token-file are two ways of the same");
    o->token_file = o->join ? "-" : o->token_file;
    return -1;
}

/* ---- joining ------------------------------------------------------------------------------- */

static char *copy_of(const char *s)
{
    char *c = s ? strdup(s) : NULL;
    if (s && !c)
        abort();
    return c;
}

static int read_ca(const char *path, struct buf *out, char *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    if (!dir)
        abort();
    int r = durable_read(*dir ? dir : "/", slash ? slash + 1 : path, CA_FILE_MAX, out);
    free(dir);
    if (r)
        snprintf(err, 512, "cannot read %s: %s", path, strerror(-r));
    return r;
}

static int join(struct program *p, char *err)
{
    struct options *o = &p->o;
    struct buf ca cleanup_buf = {0};
    char host[256], listen_text[300];
    uint8_t incarnation[INCARNATION_LEN];
    if (!o->meta || !(o->token[0] || o->token_file) || !(o->ca_fingerprint || o->ca_file)) {
        snprintf(err, 512,
                 "%s has no identity yet: the first start needs --meta, --join or --token-file, "
                 "and --ca or --ca-fingerprint",
                 o->data);
        return -EINVAL;
    }
    if (!place_of_url(p->url, host)) {
        snprintf(err, 512, "%s is not a URL like https://HOST:PORT", p->url);
        return -EINVAL;
    }
    int r = o->ca_file ? read_ca(o->ca_file, &ca, err) : 0;
    if (!r && o->token_file && (r = secretline_read(o->token_file, "token", o->token)))
        snprintf(err, 512, "cannot read a token from %.300s: %s",
                 o->join ? "standard input" : o->token_file, strerror(-r));
    if (r)
        return r;
    place_text(&p->place, "", listen_text);
    p->identity.meta = copy_of(o->meta);
    p->identity.listen = copy_of(listen_text);
    p->identity.url = copy_of(o->url);
    p->storage->ops->incarnation(p->storage, incarnation);
    struct join j = {
        .token = o->token,
        .ca_pem = o->ca_file ? (const char *)ca.p : NULL,
        .ca_fingerprint = o->ca_fingerprint,
        .url = p->url,
        .host = host,
    };
    r = identity_join(&p->identity, o->data, &j, incarnation, p->log, err);
    if (!r)
        log_printf(p->log, LOG_L_INFO, "joined %s as server %llu, premises %s", o->meta,
                   (unsigned long long)p->identity.server, p->identity.premises);
    return r;
}

/* ---- running ------------------------------------------------------------------------------- */

/* Loads or gets the identity; settles where to listen and what URL to tell. */
static int settle_identity(struct program *p, char *err)
{
    int r = identity_load(&p->identity, p->o.data, err);
    if (r && r != -ENOENT)
        return r;
    p->joined = !r;
    const char *listen_text = p->o.listen ? p->o.listen
                              : p->joined ? p->identity.listen
                                          : LISTEN_DEFAULT;
    if (!place_parse(listen_text, &p->place)) {
        snprintf(err, 512, "--listen: %s is not ADDR:PORT", listen_text);
        return -EINVAL;
    }
    if ((r = place_try(&p->place, err)))
        return r;
    const char *url = p->o.url ? p->o.url : p->identity.url;
    if (url)
        snprintf(p->url, sizeof p->url, "%s", url);
    else
        place_text(&p->place, "https://", p->url);
    return p->joined ? 0 : join(p, err);
}

/* An administrator or an owner did something: it may be that somebody is let in no more. */
static void woken(void *beat)
{
    beat_now(beat);
}

/* An ordered check is done, and what was found not to be here may be lacking now. */
static void check_told(void *arg)
{
    struct service *s = arg;
    beat_now(s->beat);
    replicate_look(s->replicate);
}

/* The certificate, and the authority's behind it: who knows only that one's fingerprint finds it.
 */
static void make_chain(const struct program *p, const char *cert_pem, struct buf *chain)
{
    buf_printf(chain, "%s%s", cert_pem, p->identity.ca_pem);
    buf_append(chain, "", 1);
}

static int show_key(void *arg, const char *key_pem, const char *cert_pem)
{
    struct program *p = arg;
    struct buf chain cleanup_buf = {0};
    make_chain(p, cert_pem, &chain);
    return httpd_show(p->httpd, (const char *)chain.p, key_pem);
}

/* It is to be looked up what is lacking here. */
static void found_missing(void *arg)
{
    struct service *s = arg;
    replicate_look(s->replicate);
}

/* What goes on beside serving, in the order in which one needs the other. */
static int start_threads(struct program *p, char *err)
{
    p->tick = tick_new(p->o.data, p->identity.credential, p->log);
    int r = collect_start(&p->collect, &(struct collect_options){.dir = p->o.data,
                                                                 .identity = &p->identity,
                                                                 .storage = p->storage,
                                                                 .tick = p->tick,
                                                                 .log = p->log,
                                                                 .found = found_missing,
                                                                 .arg = &p->service});
    if (r) {
        snprintf(err, 512, "cannot start collecting garbage: %s", strerror(-r));
        return r;
    }
    p->service.collect = p->collect;
    r = check_new(&p->check, &(struct check_options){.identity = &p->identity,
                                                     .storage = p->storage,
                                                     .collect = p->collect,
                                                     .log = p->log,
                                                     .lost = service_lost,
                                                     .told = check_told,
                                                     .arg = &p->service});
    if (r) {
        snprintf(err, 512, "cannot prepare checks: %s", strerror(-r));
        return r;
    }
    r = beat_start(&p->beat, &(struct beat_options){.dir = p->o.data,
                                                    .url = p->url,
                                                    .identity = &p->identity,
                                                    .storage = p->storage,
                                                    .collect = p->collect,
                                                    .tick = p->tick,
                                                    .check = p->check,
                                                    .keys = p->keys,
                                                    .feed = p->feed,
                                                    .show = show_key,
                                                    .show_arg = p,
                                                    .log = p->log});
    if (r) {
        snprintf(err, 512, "cannot start the heartbeat: %s", strerror(-r));
        return r;
    }
    p->service.beat = p->beat;
    r = replicate_start(&p->replicate,
                        &(struct replicate_options){.dir = p->o.data,
                                                    .identity = &p->identity,
                                                    .storage = p->storage,
                                                    .log = p->log,
                                                    .rate = p->o.replicate_rate,
                                                    .woken = woken,
                                                    .arg = p->beat,
                                                    .told = {.lost = service_lost,
                                                             .doubt = service_doubt,
                                                             .missing = service_missing,
                                                             .arg = &p->service}},
                        err);
    if (r)
        return r;
    p->service.replicate = p->replicate;
    if (!r &&
        (r = scrub_start(&p->scrub, &(struct scrub_options){.dir = p->o.data,
                                                            .storage = p->storage,
                                                            .log = p->log,
                                                            .rate = p->o.scrub_rate,
                                                            .interval_s = p->o.scrub_interval_s,
                                                            .lost = service_lost,
                                                            .arg = &p->service})))
        snprintf(err, 512, "cannot start scrubbing: %s", strerror(-r));
    p->service.scrub = p->scrub;
    if (!r && (r = confirm_start(&p->confirm,
                                 &(struct confirm_options){.identity = &p->identity,
                                                           .storage = p->storage,
                                                           .uncommitted = p->service.uncommitted,
                                                           .collect = p->collect,
                                                           .log = p->log})))
        snprintf(err, 512, "cannot start the thread that asks what was committed: %s",
                 strerror(-r));
    p->service.confirm = p->confirm;
    if (!r && (r = check_start(p->check)))
        snprintf(err, 512, "cannot start the thread that checks: %s", strerror(-r));
    return r;
}

static int start(struct program *p, char *err)
{
    p->o.storage.dir = p->o.data;
    p->o.storage.log = p->log;
    int r = storage_open(&p->storage, &p->o.storage, err);
    if (!r)
        r = settle_identity(p, err);
    if (r)
        return r;
    r = keyring_open(&p->keys, p->o.data, &p->identity.key);
    if (r) {
        snprintf(err, 512, "cannot use %s/identity.keys: %s", p->o.data,
                 r == -EBADMSG ? "it is damaged" : strerror(-r));
        return r;
    }
    p->feed = feed_new();
    p->service = (struct service){
        .storage = p->storage,
        .access = {.server = p->identity.server,
                   .keys = p->keys,
                   .feed = p->feed,
                   .grace_ms = p->o.grace_s * 1000ll},
        .log = p->log,
        .uncommitted = uncommitted_new(),
    };
    struct buf chain cleanup_buf = {0};
    make_chain(p, p->identity.cert_pem, &chain);
    struct httpd_options h = {
        .address = p->place.host,
        .port = p->place.port,
        .cert_pem = (const char *)chain.p,
        .key_pem = p->identity.key_pem,
        .log = p->log,
        .ctx = &p->service,
        .max_connections = CONNECTIONS_MAX,
        .workers = SERVICE_WORKERS,
        .rate = p->o.rate,
        .metrics = service_metrics,
        .name = "steadfs_blockd",
        .vouch = service_vouch,
        .vouch_where = HTTPD_ON_LOOP,
    };
    if ((r = httpd_new(&p->httpd, &h, err)))
        return r;
    service_routes(p->httpd);
    return start_threads(p, err);
}

static void *wait_for_signal(void *arg)
{
    struct program *p = arg;
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    while (!sigwait(&set, &number) && (number == SIGUSR1 || number == SIGHUP)) {
        if (number == SIGHUP) {
            log_reopen(p->log);
            continue;
        }
        scrub_now(p->scrub);
        collect_compare(p->collect);
    }
    log_printf(p->log, LOG_L_INFO, "stopping: finishing what is under way");
    httpd_stop(p->httpd, p->o.drain_s * 1000);
    return NULL;
}

static int run(struct program *p, char *err)
{
    pthread_t signals;
    int r = start(p, err);
    if (!r && (r = -pthread_create(&signals, NULL, wait_for_signal, p)))
        snprintf(err, 512, "cannot start a thread: %s", strerror(-r));
    if (!r) {
        log_printf(p->log, LOG_L_INFO, "server %llu of premises %s serves %s",
                   (unsigned long long)p->identity.server, p->identity.premises, p->url);
        httpd_run(p->httpd);
        pthread_join(signals, NULL);
    }
    httpd_free(p->httpd);
    check_stop(p->check);
    confirm_stop(p->confirm);
    uncommitted_free(p->service.uncommitted);
    scrub_stop(p->scrub);
    replicate_stop(p->replicate);
    beat_stop(p->beat);
    check_free(p->check);
    collect_stop(p->collect);
    tick_free(p->tick);
    feed_free(p->feed);
    keyring_free(p->keys);
    identity_free(&p->identity);
    if (p->storage)
        p->storage->ops->close(p->storage);
    return r;
}

/* Every thread inherits this. The first three are for wait_for_signal; the others are told by the
 * calls that raise them: EPIPE, EFBIG. */
static void block_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGPIPE, SIGXFSZ};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
    struct program p = {0};
    char err[512] = "";
    int status = parse_options(&p.o, argc, argv);
    if (status >= 0)
        return status;
    int r;
    if (p.o.list) {
        r = offline_list(p.o.data, err);
    } else if (p.o.reindex) {
        r = offline_reindex(p.o.data, err);
    } else if (p.o.drop_unclaimed) {
        r = offline_drop_unclaimed(p.o.data, err);
    } else {
        block_signals();
        r = log_open(&p.log, "blockd", p.o.log, p.o.trace, p.o.level);
        if (r)
            snprintf(err, sizeof err, "cannot open the log: %s", strerror(-r));
        else
            r = run(&p, err);
        log_close(p.log);
    }
    if (r)
        fprintf(stderr, "steadfs-blockd: %s\n", err);
    return r ? 1 : 0;
}
