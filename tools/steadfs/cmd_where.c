// SPDX-License-Identifier: Apache-2.0
/* steadfs where, steadfs admin where: the metadata server answers in pages, each with what it found
 * and did not look into; the list of that is kept here, and so are the sums. Folders are asked for
 * depth first, so the list is about as long as the largest directory has subdirectories.
 *
 * Files with several names are told apart from the others: they count once, so their numbers are
 * kept in a set. */
#include "where.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>

#include "identity.h"
#include "mounts.h"
#include "rpc.h"

#define CALL_MS 60000u
#define COPIES_MAX 64
#define DISKS_MAX 256

struct todo {
    uint64_t node, off;
    char *after; /* malloc'd, or NULL; any bytes but / and NUL */
};

struct survey {
    const struct subcommand *self;
    bool json;
    uint64_t want; /* --copies; 0: what the namespace wants */
    /* the question */
    uint64_t ns, at;
    const char *name, *path;
    struct todo *todo;
    size_t todo_n, todo_cap;
    uint64_t *seen; /* open addressing; 0: free */
    size_t seen_n, seen_cap;
    /* the sums */
    struct m_where_ans sum; /* texts live in texts */
    struct m_where_amount servers[64], premises[64], copies[COPIES_MAX + 1];
    struct m_where_disk disks[DISKS_MAX]; /* of the first page; texts live in texts */
    struct arena texts;
};

/* ---- the list ------------------------------------------------------------------------------- */
static void todo_add(struct survey *s, uint64_t node, uint64_t off, struct bytes after)
{
    if (s->todo_n == s->todo_cap) {
        s->todo_cap = s->todo_cap ? 2 * s->todo_cap : 256;
        s->todo = realloc(s->todo, s->todo_cap * sizeof *s->todo);
        if (!s->todo)
            abort();
    }
    char *copy = after.n ? strndup((const char *)after.p, after.n) : NULL;
    if (after.n && !copy)
        abort();
    s->todo[s->todo_n++] = (struct todo){.node = node, .off = off, .after = copy};
}

static uint64_t *seen_slot(const struct survey *s, uint64_t node)
{
    size_t k = (node * 0x9e3779b97f4a7c15u >> 32) & (s->seen_cap - 1); /* 2^64 / golden ratio */
    while (s->seen[k] && s->seen[k] != node)
        k = (k + 1) & (s->seen_cap - 1);
    return &s->seen[k];
}

/* True: the first time. */
static bool see(struct survey *s, uint64_t node)
{
    if (2 * s->seen_n >= s->seen_cap) {
        size_t old_cap = s->seen_cap;
        uint64_t *old = s->seen;
        s->seen_cap = old_cap ? 2 * old_cap : 64;
        s->seen = calloc(s->seen_cap, sizeof *s->seen);
        if (!s->seen)
            abort();
        for (size_t k = 0; k < old_cap; k++)
            if (old[k])
                *seen_slot(s, old[k]) = old[k];
        free(old);
    }
    uint64_t *slot = seen_slot(s, node);
    if (*slot)
        return false;
    *slot = node;
    s->seen_n++;
    return true;
}

static void survey_free(struct survey *s)
{
    for (size_t k = 0; k < s->todo_n; k++)
        free(s->todo[k].after);
    free(s->todo);
    free(s->seen);
    arena_free(&s->texts);
}

/* ---- the pages ------------------------------------------------------------------------------ */
/* Adds one amount to that of the same key and premises. */
static void add(struct survey *s, struct m_where_amount *v, size_t *n, size_t max,
                const struct m_where_amount *one)
{
    size_t k = 0;
    while (k < *n && (v[k].key != one->key || !bytes_equal(v[k].premises, one->premises)))
        k++;
    if (k == max)
        return; /* assignments changed on the way, and there are more than a namespace can have */
    if (k == *n) {
        v[(*n)++] = (struct m_where_amount){
            .key = one->key, .premises = arena_bytes(&s->texts, one->premises.p, one->premises.n)};
    }
    v[k].bytes += one->bytes;
    v[k].pieces += one->pieces;
    v[k].leaving = one->leaving;
}

static void take(struct survey *s, const struct m_where_ans *a)
{
    struct m_where_ans *sum = &s->sum;
    if (!s->at) {
        sum->name = arena_bytes(&s->texts, a->name.p, a->name.n);
        sum->ns_file_bytes = a->ns_file_bytes;
        sum->ns_blocks = a->ns_blocks;
        sum->ns_bytes = a->ns_bytes;
        for (size_t k = 0; k < a->disks_n && k < DISKS_MAX; k++) {
            struct bytes at = a->disks[k].premises;
            s->disks[k] = a->disks[k];
            s->disks[k].premises = arena_bytes(&s->texts, at.p, at.n);
            sum->disks_n++;
        }
    }
    s->ns = a->ns;
    s->at = a->at;
    sum->copies_min = a->copies_min;
    sum->files += a->files;
    sum->mounts += a->mounts;
    sum->bytes += a->bytes;
    sum->pieces += a->pieces;
    for (size_t k = 0; k < a->servers_n; k++)
        add(s, s->servers, &sum->servers_n, 64, &a->servers[k]);
    for (size_t k = 0; k < a->premises_n; k++)
        add(s, s->premises, &sum->premises_n, 64, &a->premises[k]);
    for (size_t k = 0; k < a->copies_n; k++)
        add(s, s->copies, &sum->copies_n, COPIES_MAX + 1, &a->copies[k]);
    for (size_t k = 0; k < a->left_n; k++)
        todo_add(s, a->left[k].node, a->left[k].off, a->left[k].after);
    for (size_t k = 0; k < a->linked_n; k++)
        if (see(s, a->linked[k]))
            todo_add(s, a->linked[k], 0, bytes_of(NULL, 0));
}

static int ask(struct survey *s, struct rpc *rpc, const char *url)
{
    cleanup_arena struct arena a = {0};
    struct m_where_item items[WHERE_ITEMS_MAX];
    struct m_where_req q = {.ns = s->ns, .at = s->at, .items = items};
    struct m_where_ans ans;
    char message[512] = "";
    if (!s->ns)
        q.name = bytes_str(s->name);
    if (s->path && !s->at)
        q.path = bytes_str(s->path);
    while (s->todo_n && q.items_n < WHERE_ITEMS_MAX) {
        struct todo *t = &s->todo[--s->todo_n];
        items[q.items_n++] = (struct m_where_item){
            .node = t->node,
            .off = t->off,
            .after = t->after
                         ? bytes_of(arena_copy(&a, t->after, strlen(t->after)), strlen(t->after))
                         : bytes_of(NULL, 0)};
        free(t->after);
    }
    int err = rpc_wait(rpc, url, "where", &m_where_req_desc, &q, &m_where_ans_desc, &ans, &a,
                       CALL_MS, message);
    if (err)
        return cli_fail(s->self, cli_rpc_status(err), "%s", message[0] ? message : strerror(-err));
    take(s, &ans);
    return EXIT_DONE;
}

/* ---- what is printed ------------------------------------------------------------------------ */
static double share(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 100.0;
}

/* What is at fewer than so many servers. */
static struct m_where_amount fewer(const struct survey *s, uint64_t copies)
{
    struct m_where_amount v = {0};
    for (size_t k = 0; k < s->sum.copies_n; k++)
        if (s->copies[k].key < copies) {
            v.bytes += s->copies[k].bytes;
            v.pieces += s->copies[k].pieces;
        }
    return v;
}

static void print_amount(const char *what, unsigned width, const struct m_where_amount *v,
                         uint64_t whole)
{
    printf("  %-*s %16llu bytes %6.1f %% %10llu pieces%s\n", (int)width, what,
           (unsigned long long)v->bytes, share(v->bytes, whole), (unsigned long long)v->pieces,
           v->leaving ? "  leaving" : "");
}

/* The whole namespace: each block once, and what it has left behind. */
static void print_disks(const struct survey *s)
{
    const struct m_where_ans *sum = &s->sum;
    if (!sum->disks_n)
        return; /* the metadata server is older than that */
    printf("the whole namespace: %llu bytes of files; with what is kept of its past, %llu bytes in "
           "%llu different blocks\n",
           (unsigned long long)sum->ns_file_bytes, (unsigned long long)sum->ns_bytes,
           (unsigned long long)sum->ns_blocks);
    for (size_t k = 0; k < sum->disks_n; k++) {
        const struct m_where_disk *d = &s->disks[k];
        char until[48] = "";
        struct tm tm;
        time_t t = (time_t)(d->until_ms / 1000);
        if (d->until_ms && gmtime_r(&t, &tm))
            strftime(until, sizeof until, ", until after %Y-%m-%d %H:%M UTC", &tm);
        printf("  %.*s, server %llu: %llu bytes in %llu blocks%s%s%s\n", (int)d->premises.n,
               (const char *)d->premises.p, (unsigned long long)d->server,
               (unsigned long long)d->bytes, (unsigned long long)d->blocks,
               d->left ? ", left behind there" : "", until,
               d->silent ? "; it has not been heard of lately" : "");
        if (d->removing)
            printf("  %.*s, server %llu: %llu blocks are being removed\n", (int)d->premises.n,
                   (const char *)d->premises.p, (unsigned long long)d->server,
                   (unsigned long long)d->removing);
    }
}

static void print_text(const struct survey *s, uint64_t copies)
{
    const struct m_where_ans *sum = &s->sum;
    struct m_where_amount few = fewer(s, copies), none = fewer(s, 1);
    printf("%llu files of namespace %.*s, %llu bytes in %llu pieces\n",
           (unsigned long long)sum->files, (int)sum->name.n, (const char *)sum->name.p,
           (unsigned long long)sum->bytes, (unsigned long long)sum->pieces);
    for (size_t p = 0; p < sum->premises_n; p++) {
        const struct m_where_amount *at = &s->premises[p];
        cleanup_free char *name =
            cli_format("%.*s", (int)at->premises.n, (const char *)at->premises.p);
        print_amount(name, 24, at, sum->bytes);
        for (size_t k = 0; k < sum->servers_n; k++) {
            if (!bytes_equal(s->servers[k].premises, at->premises))
                continue;
            cleanup_free char *server =
                cli_format("  server %llu", (unsigned long long)s->servers[k].key);
            print_amount(server, 24, &s->servers[k], sum->bytes);
        }
    }
    if (copies > 1)
        printf("at fewer than %llu servers: %llu bytes in %llu pieces\n",
               (unsigned long long)copies, (unsigned long long)few.bytes,
               (unsigned long long)few.pieces);
    printf("at no server: %llu bytes in %llu pieces\n", (unsigned long long)none.bytes,
           (unsigned long long)none.pieces);
    if (sum->mounts)
        printf("%llu namespaces that appear there are not looked into\n",
               (unsigned long long)sum->mounts);
    print_disks(s);
}

static void json_amounts(const char *key, const char *name, const struct m_where_amount *v,
                         size_t n, bool premises)
{
    printf(", \"%s\": [", key);
    for (size_t k = 0; k < n; k++) {
        printf("%s{", k ? ", " : "");
        if (name)
            printf("\"%s\": %llu, ", name, (unsigned long long)v[k].key);
        if (premises) /* letters, digits, '-', '_' and '.' */
            printf("\"premises\": \"%.*s\", ", (int)v[k].premises.n, (const char *)v[k].premises.p);
        printf("\"bytes\": %llu, \"pieces\": %llu", (unsigned long long)v[k].bytes,
               (unsigned long long)v[k].pieces);
        if (name && premises)
            printf(", \"leaving\": %s", v[k].leaving ? "true" : "false");
        printf("}");
    }
    printf("]");
}

static void json_disks(const struct survey *s)
{
    printf(", \"namespace_file_bytes\": %llu, \"namespace_block_bytes\": %llu, "
           "\"namespace_blocks\": %llu, \"disks\": [",
           (unsigned long long)s->sum.ns_file_bytes, (unsigned long long)s->sum.ns_bytes,
           (unsigned long long)s->sum.ns_blocks);
    for (size_t k = 0; k < s->sum.disks_n; k++) {
        const struct m_where_disk *d = &s->disks[k];
        printf("%s{\"server\": %llu, \"premises\": \"%.*s\", \"bytes\": %llu, \"blocks\": %llu, "
               "\"left\": %s, \"until_ms\": %llu, \"removing\": %llu, \"silent\": %s}",
               k ? ", " : "", (unsigned long long)d->server, (int)d->premises.n,
               (const char *)d->premises.p, (unsigned long long)d->bytes,
               (unsigned long long)d->blocks, d->left ? "true" : "false",
               (unsigned long long)d->until_ms, (unsigned long long)d->removing,
               d->silent ? "true" : "false");
    }
    printf("]");
}

static void print_json(const struct survey *s, uint64_t copies)
{
    const struct m_where_ans *sum = &s->sum;
    struct m_where_amount few = fewer(s, copies), none = fewer(s, 1);
    printf("{\"namespace\": \"%.*s\", \"sjid\": %llu, \"files\": %llu, \"bytes\": %llu, "
           "\"pieces\": %llu, \"namespaces_inside\": %llu",
           (int)sum->name.n, (const char *)sum->name.p, (unsigned long long)s->at,
           (unsigned long long)sum->files, (unsigned long long)sum->bytes,
           (unsigned long long)sum->pieces, (unsigned long long)sum->mounts);
    json_amounts("premises", NULL, s->premises, sum->premises_n, true);
    json_amounts("servers", "server", s->servers, sum->servers_n, true);
    json_amounts("copies", "copies", s->copies, sum->copies_n, false);
    json_disks(s);
    printf(", \"wanted_copies\": %llu, \"too_few_bytes\": %llu, \"too_few_pieces\": %llu, "
           "\"nowhere_bytes\": %llu}\n",
           (unsigned long long)copies, (unsigned long long)few.bytes,
           (unsigned long long)few.pieces, (unsigned long long)none.bytes);
}

/* ---- what is asked for ---------------------------------------------------------------------- */
static bool number_of(const char *path, const char *name, uint64_t *n)
{
    char text[32];
    ssize_t got = getxattr(path, name, text, sizeof text - 1);
    if (got <= 0)
        return false;
    text[got] = 0;
    *n = strtoull(text, NULL, 10);
    return *n != 0;
}

/* A path in a mount; *state: the mount's state directory. */
static int of_mount(struct survey *s, const char *path, char **state)
{
    cleanup_mounts struct mount_list l = {0};
    cleanup_free char *absolute = NULL;
    struct mount *m;
    int status = mount_find(s->self, path, &l, &m, &absolute);
    if (status)
        return status;
    *state = mount_state(m);
    uint64_t node;
    if (!number_of(absolute, "user.steadfs.namespace", &s->ns) ||
        !number_of(absolute, "user.steadfs.node", &node))
        return cli_fail(s->self, EXIT_FAILED, "%s: %s", absolute, strerror(errno));
    char sync_state[32] = "";
    if (getxattr(absolute, "user.steadfs.state", sync_state, sizeof sync_state - 1) > 0 &&
        strcmp(sync_state, "synced") != 0)
        cli_line(stderr, "%s has changes that are not committed yet; they are not counted",
                 absolute);
    todo_add(s, node, 0, bytes_of(NULL, 0));
    return EXIT_DONE;
}

/* NAMESPACE or NAMESPACE:PATH, for an administrator. */
static void of_name(struct survey *s, const char *word, char **name)
{
    size_t n = strcspn(word, ":");
    *name = cli_format("%.*s", (int)n, word);
    s->name = *name;
    s->path = word[n] ? word + n + 1 : "";
}

static int ask_all(struct survey *s, const struct identity *id)
{
    struct rpc *rpc;
    struct rpc_options o = {.ca_pem = id->ca_pem, .credential = id->credential};
    int err = rpc_new(&rpc, &o), status = EXIT_DONE;
    if (err)
        return cli_fail(s->self, EXIT_FAILED, "%s", strerror(-err));
    do
        status = ask(s, rpc, id->url);
    while (!status && s->todo_n);
    rpc_free(rpc);
    return status;
}

static int run_survey(struct survey *s, const struct identity *id)
{
    int status = ask_all(s, id);
    if (status)
        return status;
    uint64_t copies = s->want ? s->want : s->sum.copies_min ? s->sum.copies_min : 1;
    (s->json ? print_json : print_text)(s, copies);
    return EXIT_DONE;
}

/* Options; the word that is left in *word. -1: go on; else an exit status. */
static int options(struct survey *s, int argc, char **argv, const char **own, const char **word)
{
    static const struct option v[] = {
        {"copies", required_argument, NULL, 'c'}, {"json", no_argument, NULL, 'j'},
        {"state", required_argument, NULL, 's'},  {"admin", required_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},         {0}};
    for (int o; (o = getopt_long(argc, argv, "", v, NULL)) != -1;) {
        if (o == 'h')
            return cli_help(s->self);
        if (o == '?')
            return cli_usage(s->self, "unknown option, or one without its value: %s",
                             argv[optind - 1]);
        if (o == 'j')
            s->json = true;
        else if (o == 'c')
            s->want = strtoull(optarg, NULL, 10);
        else
            *own = optarg;
        if (o == 'c' && (s->want < 1 || s->want > COPIES_MAX))
            return cli_usage(s->self, "--copies takes a number from 1 to %d", COPIES_MAX);
    }
    if (argc - optind > 1)
        return cli_usage(s->self, "one path at most");
    *word = optind < argc ? argv[optind] : NULL;
    return -1;
}

int where_run(const struct subcommand *self, int argc, char **argv, bool admin)
{
    struct survey s = {.self = self};
    struct identity id = {0};
    cleanup_free char *state = NULL, *name = NULL;
    const char *own = NULL, *word = NULL;
    int status = options(&s, argc, argv, &own, &word);
    if (status >= 0)
        return status;
    s.sum.servers = s.servers;
    if (admin && word && word[0] != '/' && word[0] != '.')
        of_name(&s, word, &name);
    else
        status = of_mount(&s, word, &state);
    status = status > 0 ? status : EXIT_DONE;
    if (!status && admin)
        status = identity_of_admin(self, own, &id);
    else if (!status && (own || state))
        status = identity_of_state(self, own ? own : state, &id);
    else if (!status)
        status = cli_fail(self, EXIT_UNREACHABLE, "the mount does not say whose it is");
    if (!status)
        status = run_survey(&s, &id);
    identity_free(&id);
    survey_free(&s);
    return status;
}

int where_lacking(const struct subcommand *self, const char *path, const char *at, uint64_t copies,
                  uint64_t *bytes)
{
    struct survey s = {.self = self};
    struct identity id = {0};
    cleanup_free char *state = NULL;
    bool known = !at;
    int status = of_mount(&s, path, &state);
    if (!status && !state)
        status = cli_fail(self, EXIT_UNREACHABLE, "the mount does not say whose it is");
    if (!status)
        status = identity_of_state(self, state, &id);
    if (!status)
        status = ask_all(&s, &id);
    *bytes = at ? s.sum.bytes : fewer(&s, copies).bytes;
    for (size_t k = 0; k < s.sum.premises_n && at; k++) {
        if (!bytes_equal(s.premises[k].premises, bytes_str(at)))
            continue;
        known = true;
        *bytes -= s.premises[k].bytes;
    }
    for (size_t k = 0; k < s.sum.servers_n && !known; k++) {
        if (s.servers[k].key != strtoull(at, NULL, 10))
            continue;
        known = true;
        *bytes -= s.servers[k].bytes;
    }
    if (!status && !known)
        status = cli_fail(self, EXIT_FAILED,
                          "its namespace has no block server %s, and none at such premises", at);
    if (!status && !at && copies > s.sum.servers_n)
        status = cli_fail(self, EXIT_FAILED, "its namespace has %zu block servers only",
                          s.sum.servers_n);
    identity_free(&id);
    survey_free(&s);
    return status;
}

static int run(const struct subcommand *self, int argc, char **argv)
{
    return where_run(self, argc, argv, false);
}

const struct subcommand cmd_where = {
    .name = "where",
    .summary = "which premises hold how much of a file or folder",
    .usage = "[PATH] [--copies N] [--json] [--state DIR]\n"
             "\n"
             "What block servers hold of the content of PATH (default: the current directory), as "
             "far as\n"
             "it is committed, and how much of it is at fewer than N of them (default: what its\n"
             "namespace wants). A premises holds what any of its servers has. Bytes are those of "
             "the\n"
             "files: what two files share counts for both, a file with two names once. Then what "
             "lies\n"
             "at each block server of the whole namespace, each block once: with what is kept of "
             "its\n"
             "past, and what is still on disks that it has left, and until when.\n",
    .run = run,
};
