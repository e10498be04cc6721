// SPDX-License-Identifier: Apache-2.0
/* The program itself, against a metadata server that only knows join and beat.
 *
 * argv[1]: steadfs-blockd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "conformance.h"
#include "durable.h"
#include "httpd.h"
#include "rpc.h"
#include "tempdir.h"
#include "tls.h"
#include "token.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKEN "good-token"
#define CREDENTIAL "s.3.secret"

extern char **environ;

struct env {
    const char *program;
    char *dir, *data, *output;
    char *ca, *ca_key;
    char fingerprint[65], meta_url[64];
    struct httpd *h;
    pthread_t thread;
    atomic_int joins, beats;
    pthread_mutex_t lock;
    char beat_url[256];
    size_t lost_n; /* of the last beat that named some, with the first of them */
    struct m_lost lost;
    atomic_bool deaf;  /* beats are refused */
    atomic_bool renew; /* a beat under the first incarnation is answered so */
    atomic_ulong grace_ms;
    uint8_t incarnation[16]; /* of the first beat, and of the last */
    uint8_t last[16];
    atomic_int compared; /* comparisons that were asked for, and what the last one named as old */
    atomic_ulong before;
    atomic_int missing; /* blocks that were told to be missing, and the last of them */
    struct m_lost missed;
    uint64_t missed_with; /* the generation with which it was told */
    atomic_int told;
    pid_t pid;
};

/* ---- the metadata server ------------------------------------------------------------------- */

static void join(void *ctx, struct httpd_req *q)
{
    struct env *e = ctx;
    struct m_join_req m;
    if (!httpd_decode(q, &m_join_req_desc, &m))
        return;
    if (!bytes_equal(m.token, bytes_str(TOKEN)) || m.incarnation.n != 16) {
        httpd_reply_error(q, ERR_UNAUTHENTICATED, "the token is not valid");
        return;
    }
    char *cert = NULL, *csr = strndup((const char *)m.csr.p, m.csr.n);
    static const uint8_t key[32] = {1, 2, 3};
    e->joins++;
    assert_int_equal(tls_issue(e->ca, e->ca_key, csr, "127.0.0.1", &cert), 0);
    struct m_join_ans a = {
        .server = 3,
        .premises = bytes_str("hq"),
        .credential = bytes_str(CREDENTIAL),
        .key = bytes_of(key, 32),
        .key_id = 1,
        .certificate = bytes_str(cert),
        .ca = bytes_str(e->ca),
    };
    httpd_reply_msg(q, &m_join_ans_desc, &a);
    free(cert);
    free(csr);
}

static void beat(void *ctx, struct httpd_req *q)
{
    struct env *e = ctx;
    struct m_beat_req m;
    if (strcmp(httpd_bearer(q), CREDENTIAL) != 0) {
        httpd_reply_error(q, ERR_UNAUTHENTICATED, "who is it?");
        return;
    }
    if (!httpd_decode(q, &m_beat_req_desc, &m))
        return;
    pthread_mutex_lock(&e->lock);
    snprintf(e->beat_url, sizeof e->beat_url, "%.*s", (int)m.url.n, (const char *)m.url.p);
    if (m.lost_n) {
        e->lost_n = m.lost_n;
        e->lost = m.lost[0];
        e->told++;
    }
    pthread_mutex_unlock(&e->lock);
    e->beats++;
    if (e->deaf) {
        httpd_reply_error(q, ERR_UNAVAILABLE, "later");
        return;
    }
    uint64_t revoked[] = {12, 7};
    pthread_mutex_lock(&e->lock);
    memcpy(e->last, m.incarnation.p, sizeof e->last);
    if (e->beats == 1)
        memcpy(e->incarnation, e->last, sizeof e->last);
    bool first = !memcmp(e->incarnation, e->last, sizeof e->last);
    pthread_mutex_unlock(&e->lock);
    struct m_beat_ans a = {.now_ms = 1,
                           .revoked_devices = revoked,
                           .revoked_devices_n = 2,
                           .gc_grace_ms = e->grace_ms,
                           .renew = e->renew && first};
    httpd_reply_msg(q, &m_beat_ans_desc, &a);
}

static void inventory(void *ctx, struct httpd_req *q)
{
    struct env *e = ctx;
    struct m_inventory_req m;
    if (!httpd_decode(q, &m_inventory_req_desc, &m))
        return;
    assert_true(m.before < m.generation && m.run);
    if (m.missing_n) {
        assert_int_equal(m.blocks_n, 0);
        assert_true(block_id_equal(&m.after, &m.upto)); /* it says nothing of others */
        pthread_mutex_lock(&e->lock);
        e->missed = m.missing[m.missing_n - 1];
        e->missed_with = m.generation;
        pthread_mutex_unlock(&e->lock);
        e->missing += (int)m.missing_n;
        httpd_reply_msg(q, &m_inventory_ans_desc,
                        &(struct m_inventory_ans){.upto = m.upto, .lost = m.missing_n});
        return;
    }
    e->before = m.before;
    e->compared++;
    struct m_inventory_ans a = {.upto = m.upto};
    httpd_reply_msg(q, &m_inventory_ans_desc, &a);
}

static void *run(void *arg)
{
    httpd_run(arg);
    return NULL;
}

static void start_meta(struct env *e)
{
    char *key, *csr, *cert, *chain, err[512];
    assert_int_equal(tls_csr_new("127.0.0.1", &key, &csr), 0);
    assert_int_equal(tls_issue(e->ca, e->ca_key, csr, "127.0.0.1", &cert), 0);
    assert_true(asprintf(&chain, "%s%s", cert, e->ca) > 0);
    struct httpd_options o = {.cert_pem = chain, .key_pem = key, .ctx = e};
    if (httpd_new(&e->h, &o, err))
        fail_msg("%s", err);
    httpd_route(e->h, "join", HTTPD_ON_LOOP, 16384, join);
    httpd_route(e->h, "beat", HTTPD_ON_LOOP, 16384, beat);
    httpd_route(e->h, "inventory", HTTPD_ON_LOOP, 16384, inventory);
    snprintf(e->meta_url, sizeof e->meta_url, "https://127.0.0.1:%u", httpd_port(e->h));
    assert_int_equal(pthread_create(&e->thread, NULL, run, e->h), 0);
    free(key);
    free(csr);
    free(cert);
    free(chain);
}

static void stop_meta(struct env *e)
{
    httpd_stop(e->h, 100);
    pthread_join(e->thread, NULL);
    httpd_free(e->h);
}

/* ---- the program --------------------------------------------------------------------------- */

/* Starts it; stdout and stderr go to e->output. The arguments end with NULL. */
static void spawn_program(struct env *e, const char *const *args)
{
    const char *argv[24] = {e->program, "--data", e->data};
    for (size_t i = 3; *args && i < 23; i++)
        argv[i] = *args++;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, e->output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    assert_int_equal(
        posix_spawn(&e->pid, e->program, &fa, NULL, (char *const *)(uintptr_t)argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
}

static int wait_program(struct env *e)
{
    int status;
    assert_int_equal(waitpid(e->pid, &status, 0), e->pid);
    e->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_program(struct env *e, const char *const *args)
{
    spawn_program(e, args);
    return wait_program(e);
}

static void expect_output(struct env *e, const char *part)
{
    struct buf b = {0};
    char *slash = strrchr(e->output, '/');
    assert_int_equal(durable_read(e->dir, slash + 1, 1 << 20, &b), 0);
    if (!strstr((char *)b.p, part))
        fail_msg("no \"%s\" in: %s", part, (char *)b.p);
    buf_free(&b);
}

static void expect_one_line(struct env *e)
{
    struct buf b = {0};
    assert_int_equal(durable_read(e->dir, "output", 1 << 20, &b), 0);
    char *newline = strchr((char *)b.p, '\n');
    assert_non_null(newline);
    assert_int_equal(newline[1], '\0');
    buf_free(&b);
}

/* Until a beat has come since `before`. */
static void await_beat(struct env *e, int before)
{
    for (int i = 0; i < 1000 && e->beats <= before; i++) {
        usleep(10000);
        if (waitpid(e->pid, NULL, WNOHANG) == e->pid) {
            e->pid = 0;
            expect_output(e, "(it ended)");
        }
    }
    assert_true(e->beats > before);
}

static int set_up(void **state)
{
    struct env *e = *state;
    e->dir = tempdir_make();
    assert_true(asprintf(&e->data, "%s/data", e->dir) > 0);
    assert_true(asprintf(&e->output, "%s/output", e->dir) > 0);
    assert_int_equal(tls_ca_new(&e->ca, &e->ca_key), 0);
    assert_int_equal(tls_fingerprint(e->ca, e->fingerprint), 0);
    e->joins = e->beats = e->compared = 0;
    e->grace_ms = 0;
    e->renew = false;
    start_meta(e);
    return 0;
}

static int tear_down(void **state)
{
    struct env *e = *state;
    if (e->pid > 0) {
        kill(e->pid, SIGKILL);
        wait_program(e);
    }
    stop_meta(e);
    tempdir_remove(e->dir);
    free(e->data);
    free(e->output);
    free(e->ca);
    free(e->ca_key);
    return 0;
}

static const char *const only_listen[] = {"--listen", "127.0.0.1:0", NULL};

static void first_start(struct env *e)
{
    const char *args[] = {"--listen", "127.0.0.1:0",      "--meta",       e->meta_url, "--join",
                          TOKEN,      "--ca-fingerprint", e->fingerprint, NULL};
    spawn_program(e, args);
    await_beat(e, 0);
}

static void test_life(void **state)
{
    struct env *e = *state;
    static const char *const none[] = {NULL}, *const list[] = {"--list", NULL};
    first_start(e);
    assert_int_equal(e->joins, 1);
    char url[256];
    pthread_mutex_lock(&e->lock);
    snprintf(url, sizeof url, "%s", e->beat_url);
    pthread_mutex_unlock(&e->lock);
    assert_int_equal(strncmp(url, "https://127.0.0.1:", 18), 0);
    /* secrets are the owner's */
    static const char *const secret[] = {"identity", "identity.key", "revoked"};
    for (size_t i = 0; i < 3; i++) {
        char *path;
        struct stat st;
        assert_true(asprintf(&path, "%s/%s", e->data, secret[i]) > 0);
        for (int k = 0; k < 200 && stat(path, &st); k++)
            usleep(10000); /* `revoked` is written after the first beat's answer */
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        free(path);
    }
    /* its own TLS is the installation's: a call without capability gets an answer */
    struct rpc *r = NULL;
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = e->ca}), 0);
    struct arena a = {0};
    struct m_put_ans ans;
    struct block_id id = {{0}};
    struct m_get_req g = {.ns = 1, .capability = bytes_str("x"), .blocks = &id, .blocks_n = 1};
    char message[512];
    assert_int_equal(
        rpc_wait(r, url, "have", &m_get_req_desc, &g, &m_put_ans_desc, &ans, &a, 0, message),
        -EACCES);
    arena_free(&a);
    rpc_free(r);
    /* a second one on the same data */
    pid_t first = e->pid;
    assert_int_equal(run_program(e, only_listen), 1);
    expect_output(e, "in use by another block server");
    expect_one_line(e);
    assert_int_equal(run_program(e, list), 0);
    e->pid = first;
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
    /* later starts need --data alone, also while the metadata server is away; same address */
    int before = e->beats;
    spawn_program(e, none);
    await_beat(e, before);
    pthread_mutex_lock(&e->lock);
    assert_string_equal(e->beat_url, url);
    pthread_mutex_unlock(&e->lock);
    assert_int_equal(e->joins, 1);
    kill(e->pid, SIGINT);
    assert_int_equal(wait_program(e), 0);
    /* the first start's command line again does no harm */
    before = e->beats;
    first_start(e);
    await_beat(e, before);
    assert_int_equal(e->joins, 1);
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
}

static void await_compared(struct env *e, int n)
{
    for (int i = 0; i < 1000 && e->compared < n; i++)
        usleep(10000);
    assert_true(e->compared >= n);
}

/* When all was compared is kept: a server that is restarted each time knows what is old. */
static void test_comparisons_over_restarts(void **state)
{
    struct env *e = *state;
    e->grace_ms = 3;
    first_start(e);
    await_compared(e, 1);
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
    e->compared = 0;
    e->before = 0;
    e->grace_ms = 60000; /* the next one would be a minute after this start, and name nothing */
    char *path;
    assert_true(asprintf(&path, "%s/compared", e->data) > 0);
    /* as if the last one had been two minutes ago */
    char hex[33];
    unsigned long long with;
    long long began, due;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%32s %llu %lld %lld", hex, &with, &began, &due), 4);
    fclose(f);
    assert_non_null(f = fopen(path, "w"));
    fprintf(f, "%s %llu %lld %lld\n", hex, with, began - 120000, due - 120000);
    assert_int_equal(fclose(f), 0);
    free(path);
    spawn_program(e, only_listen);
    await_compared(e, 1);
    assert_int_equal(e->before, with);
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
}

/* Told that its storage is not what it was believed to be: another incarnation at once, then a
 * comparison of all there is. */
static void test_renewed(void **state)
{
    struct env *e = *state;
    e->renew = true;
    e->grace_ms = 3600000;
    first_start(e);
    await_compared(e, 1);
    pthread_mutex_lock(&e->lock);
    assert_memory_not_equal(e->incarnation, e->last, sizeof e->last);
    pthread_mutex_unlock(&e->lock);
    expect_output(e, "it has a new incarnation");
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
}

/* Puts a block into the data directory and cuts its file short. */
static void make_damaged(struct env *e, uint64_t ns, struct block_id *id)
{
    struct storage *s;
    char err[512], *pattern;
    glob_t g;
    uint8_t *p = block_make(300000, 1, id);
    assert_int_equal(storage_dir_open(&s, e->data, err), 0);
    assert_int_equal(put_one(s, ns, id, p, 300000), 0);
    s->ops->close(s);
    free(p);
    assert_true(asprintf(&pattern, "%s/blocks/*/*", e->data) > 0);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    assert_int_equal(truncate(g.gl_pathv[0], 299999), 0);
    globfree(&g);
    free(pattern);
}

/* Asks for the block; what is answered is another test's. */
static void ask_for_as(struct env *e, uint64_t ns, struct block_id id, bool located)
{
    struct m_capability c = {
        .server = 3, .ns = ns, .device = 77, .rights = RIGHT_READ, .expiry_ms = 1ull << 50};
    struct token_key key = {.id = 1, .key = {1, 2, 3}};
    struct buf sealed = {0};
    struct rpc *r = NULL;
    struct arena a = {0};
    struct m_put_ans ans;
    char message[512], url[256];
    capability_seal(&c, &key, &sealed);
    struct m_get_req g = {.ns = ns,
                          .capability = bytes_of(sealed.p, sealed.n),
                          .blocks = &id,
                          .blocks_n = 1,
                          .located = located};
    pthread_mutex_lock(&e->lock);
    snprintf(url, sizeof url, "%s", e->beat_url);
    pthread_mutex_unlock(&e->lock);
    assert_int_equal(rpc_new(&r, &(struct rpc_options){.ca_pem = e->ca}), 0);
    rpc_wait(r, url, "get", &m_get_req_desc, &g, &m_put_ans_desc, &ans, &a, 0, message);
    rpc_free(r);
    arena_free(&a);
    buf_free(&sealed);
}

static void ask_for(struct env *e, uint64_t ns, struct block_id id)
{
    ask_for_as(e, ns, id, false);
}

/* Whether a loss is reported within two seconds: beats come every five. */
static bool is_told(struct env *e, int before)
{
    for (int i = 0; i < 200 && e->told <= before; i++)
        usleep(10000);
    return e->told > before;
}

static void stop_program(struct env *e)
{
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
}

/* A damaged block that is asked for is reported at once, again until a beat was answered, also by
 * the next start, and then no more. */
static void test_loss_is_told(void **state)
{
    struct env *e = *state;
    static const char *const none[] = {NULL};
    struct block_id id;
    first_start(e);
    stop_program(e);
    make_damaged(e, 5, &id);
    e->told = 0;
    int before = e->beats;
    spawn_program(e, none);
    await_beat(e, before);
    e->deaf = true;
    assert_int_equal(e->told, 0);
    ask_for(e, 5, id);
    assert_true(is_told(e, 0));
    pthread_mutex_lock(&e->lock);
    assert_int_equal(e->lost_n, 1);
    assert_int_equal(e->lost.ns, 5);
    assert_memory_equal(&e->lost.block, &id, sizeof id);
    pthread_mutex_unlock(&e->lock);
    stop_program(e);
    e->deaf = false;
    int told = e->told;
    spawn_program(e, none);
    assert_true(is_told(e, told));
    stop_program(e);
    told = e->told;
    before = e->beats;
    spawn_program(e, none);
    await_beat(e, before);
    assert_int_equal(e->told, told);
    stop_program(e);
}

/* Who was sent here for a block that is not here for the namespace makes that known, once for a
 * while; who only asks, or asks for what is here, does not. */
static void test_missing_is_told(void **state)
{
    struct env *e = *state;
    static const char *const none[] = {NULL};
    struct block_id here, gone = {{0}}, also = {{0}};
    gone.b[5] = 7;
    also.b[5] = 8;
    first_start(e);
    stop_program(e);
    make_damaged(e, 5, &here); /* there is a row of it */
    int before = e->beats;
    spawn_program(e, none);
    await_beat(e, before);
    ask_for_as(e, 5, also, false);
    ask_for_as(e, 5, here, true);
    ask_for_as(e, 5, gone, true);
    ask_for_as(e, 5, gone, true);
    for (int i = 0; i < 500 && e->missing < 1; i++)
        usleep(10000);
    pthread_mutex_lock(&e->lock);
    assert_memory_equal(&e->missed.block, &gone, sizeof gone);
    assert_true(e->missed.ns == 5 && e->missed_with > 0);
    assert_int_equal(e->missed.generation, e->missed_with);
    pthread_mutex_unlock(&e->lock);
    ask_for_as(e, 5, gone, true);
    ask_for_as(e, 6, here, true); /* not here for that namespace */
    for (int i = 0; i < 500 && e->missing < 2; i++)
        usleep(10000);
    assert_int_equal(e->missing, 2);
    assert_int_equal(e->missed.ns, 6);
    expect_output(e, "somebody was sent here for are not here");
    stop_program(e);
}

static bool output_has(const struct env *e, const char *text)
{
    char line[1024];
    bool found = false;
    FILE *f = fopen(e->output, "r");
    assert_non_null(f);
    while (!found && fgets(line, sizeof line, f))
        found = strstr(line, text) != NULL;
    fclose(f);
    return found;
}

/* Where revocations cannot be read or written, that is said, and they are written as soon as they
 * can be, though they are the same. */
static void test_revocations_are_written_again(void **state)
{
    struct env *e = *state;
    static const char *const none[] = {NULL};
    struct block_id id;
    struct stat st;
    char *path;
    bool written = false;
    assert_true(asprintf(&path, "%s/revoked", e->data) > 0);
    first_start(e);
    stop_program(e);
    make_damaged(e, 5, &id);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    int before = e->beats;
    spawn_program(e, none);
    await_beat(e, before);
    for (int k = 0; k < 1000 && !output_has(e, "cannot write"); k++)
        usleep(10000);
    assert_true(output_has(e, "cannot write"));
    assert_true(output_has(e, "no capability is good past its end"));
    assert_int_equal(rmdir(path), 0);
    ask_for(e, 5, id); /* a loss, which the next beat tells of at once */
    for (int k = 0; k < 1000 && !written; k++) {
        written = !stat(path, &st) && S_ISREG(st.st_mode) && st.st_size > 0;
        usleep(10000);
    }
    assert_true(written);
    stop_program(e);
    free(path);
}

static void test_port_in_use(void **state)
{
    struct env *e = *state;
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", httpd_port(e->h));
    const char *args[] = {"--listen",         taken,          "--meta",
                          e->meta_url,        "--join",       TOKEN,
                          "--ca-fingerprint", e->fingerprint, NULL};
    assert_int_equal(run_program(e, args), 1);
    expect_output(e, "in use");
    expect_one_line(e);
    assert_int_equal(e->joins, 0); /* the token is still good */
    first_start(e);
}

static void test_join_refused(void **state)
{
    struct env *e = *state;
    char wrong[65];
    memcpy(wrong, e->fingerprint, 65);
    wrong[0] = wrong[0] == 'a' ? 'b' : 'a';
    char *ca_file, *other_ca, *other_key;
    assert_int_equal(tls_ca_new(&other_ca, &other_key), 0);
    assert_int_equal(durable_write(e->dir, "other.pem", other_ca, strlen(other_ca), 0600), 0);
    assert_true(asprintf(&ca_file, "%s/other.pem", e->dir) > 0);
    struct {
        const char *args[9], *says;
    } cases[] = {
        {{"--meta", e->meta_url, "--join", TOKEN, "--ca-fingerprint", wrong}, "not trusted"},
        {{"--meta", e->meta_url, "--join", TOKEN, "--ca", ca_file}, "not trusted"},
        {{"--meta", e->meta_url, "--join", TOKEN, "--ca-fingerprint", "12"}, "hexadecimal"},
        {{"--meta", e->meta_url, "--join", TOKEN, "--ca", "/nonexistent"}, "/nonexistent"},
        {{"--meta", e->meta_url, "--join", "bad", "--ca-fingerprint", e->fingerprint}, "not valid"},
        {{"--meta", "https://127.0.0.1:1", "--join", TOKEN, "--ca-fingerprint", e->fingerprint},
         "is steadfs-metad running"},
        {{"--meta", e->meta_url, "--join", TOKEN}, "--ca"},
        {{NULL}, "no identity yet"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *args[12] = {"--listen", "127.0.0.1:0"};
        memcpy(args + 2, cases[i].args, sizeof cases[i].args);
        assert_int_equal(run_program(e, args), 1);
        expect_output(e, cases[i].says);
        expect_one_line(e);
    }
    assert_int_equal(e->joins, 0);
    /* none of it is in the way of the right one, with the CA's file */
    assert_int_equal(durable_write(e->dir, "other.pem", e->ca, strlen(e->ca), 0600), 0);
    const char *args[] = {"--listen", "127.0.0.1:0", "--meta", e->meta_url, "--join",
                          TOKEN,      "--ca",        ca_file,  NULL};
    spawn_program(e, args);
    await_beat(e, 0);
    free(ca_file);
    free(other_ca);
    free(other_key);
}

static bool shows(const struct env *e, const char *text)
{
    char path[64], line[8192];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)e->pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    assert_true(n > 10);
    return memmem(line, n, text, strlen(text));
}

/* The token of a first start is in a file, which may be gone later; an argument is not seen long.
 */
static void test_token_file(void **state)
{
    struct env *e = *state;
    char *file;
    assert_true(asprintf(&file, "%s/token", e->dir) > 0);
    const char *args[] = {"--listen", "127.0.0.1:0", "--meta", e->meta_url, "--token-file",
                          file,       NULL,          NULL,     NULL,        NULL};
    args[6] = "--ca-fingerprint";
    args[7] = e->fingerprint;
    assert_int_equal(run_program(e, args), 1);
    expect_output(e, "cannot read a token");
    assert_int_equal(durable_write(e->dir, "token", "bad\n", 4, 0600), 0);
    assert_int_equal(run_program(e, args), 1);
    expect_output(e, "not valid");
    assert_int_equal(durable_write(e->dir, "token", TOKEN "\n", strlen(TOKEN) + 1, 0600), 0);
    args[8] = "--join";
    args[9] = NULL;
    const char *both[] = {"--meta", e->meta_url, "--token-file", file, "--join", TOKEN, NULL};
    assert_int_equal(run_program(e, both), 2);
    expect_output(e, "two ways");
    args[8] = NULL;
    spawn_program(e, args);
    await_beat(e, 0);
    assert_true(shows(e, "--token-file"));
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
    assert_int_equal(unlink(file), 0);
    spawn_program(e, args);
    await_beat(e, 1);
    free(file);
}

static void test_argument_is_hidden(void **state)
{
    struct env *e = *state;
    first_start(e);
    assert_true(shows(e, "--join"));
    assert_false(shows(e, TOKEN));
}

static void test_usage(void **state)
{
    struct env *e = *state;
    static const struct {
        const char *args[4];
        int status;
        const char *says;
    } cases[] = {
        {{"--help"}, 0, "--ca-fingerprint"},
        {{"--version"}, 0, "steadfs-blockd"},
        {{"--nonsense"}, 2, "--nonsense (see --help)"},
        {{"stray"}, 2, "unexpected"},
        {{"--drain", "soon"}, 2, "--drain"},
        {{"--listen", "nowhere"}, 1, "ADDR:PORT"},
        {{"--list"}, 1, "cannot read"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].status == 1 && i == 6) {
            char *copy = strdup(e->data);
            tempdir_remove(copy);
        }
        assert_int_equal(run_program(e, cases[i].args), cases[i].status);
        expect_output(e, cases[i].says);
    }
}

static void test_damaged_identity(void **state)
{
    struct env *e = *state;
    first_start(e);
    kill(e->pid, SIGTERM);
    assert_int_equal(wait_program(e), 0);
    assert_int_equal(durable_write(e->data, "identity", "server=x\n", 9, 0600), 0);
    assert_int_equal(run_program(e, only_listen), 1);
    expect_output(e, "identity: it is damaged");
    expect_one_line(e);
}

int main(int argc, char **argv)
{
    struct env env = {.program = argc > 1 ? argv[1] : "steadfs-blockd",
                      .lock = PTHREAD_MUTEX_INITIALIZER};
#define TEST(t)                                                                                    \
    {                                                                                              \
#t, t, set_up, tear_down, &env                                                             \
    }
    const struct CMUnitTest tests[] = {
        TEST(test_life),
        TEST(test_comparisons_over_restarts),
        TEST(test_renewed),
        TEST(test_port_in_use),
        TEST(test_token_file),
        TEST(test_argument_is_hidden),
        TEST(test_join_refused),
        TEST(test_usage),
        TEST(test_damaged_identity),
        TEST(test_loss_is_told),
        TEST(test_missing_is_told),
        TEST(test_revocations_are_written_again),
    };
#undef TEST
    return cmocka_run_group_tests_name("program", tests, NULL, NULL);
}
