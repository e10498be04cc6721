// SPDX-License-Identifier: Apache-2.0
/* The installation that every run begins with: accounts alice and bob, their devices, three block
 * servers, and a namespace that both have mounted.
 *
 * Making one costs more than most runs, so it is made once and every run starts with a copy of its
 * disk. The secrets in it differ from process to process; nothing that a run decides or logs
 * depends on them.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DB "meta.db"

const char *const ns_names[NAMESPACES] = {"alice", "bob", "team"};
const char *const premises[SERVERS_MAX] = {"hq", "branch", "cloud"};

void incarnation_of(char kind, unsigned index, unsigned generation, uint8_t out[16])
{
    memcpy(out, "incarnation ....", 16);
    out[12] = (uint8_t)kind;
    out[13] = (uint8_t)index;
    out[14] = (uint8_t)(generation >> 8);
    out[15] = (uint8_t)generation;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "sim: making an installation: %s: %s\n", what, why);
    abort();
}

/* Runs `words`; the answer's text. */
static struct bytes command(struct meta *m, const struct meta_caller *who, struct arena *ar,
                            const char *const *words)
{
    struct m_word v[16];
    struct m_command_req q = {.words = v};
    struct m_command_ans a;
    for (; words[q.words_n]; q.words_n++)
        v[q.words_n].text = bytes_str(words[q.words_n]);
    int err = meta_command(m, who, &q, START_MS, &a, ar);
    if (err || a.exit_status)
        die(words[1], err ? strerror(-err) : arena_str(ar, a.text));
    return a.text;
}
#define COMMAND(m, who, ar, ...) command(m, who, ar, (const char *const[]){__VA_ARGS__, NULL})

/* What stands behind the last slash of the last line that has one: a token, in what `account token`
 * and `server add` print. */
static struct bytes token_in(struct bytes text)
{
    size_t end = text.n;
    while (end && (text.p[end - 1] == '\n' || text.p[end - 1] == ' '))
        end--;
    size_t at = end;
    while (at && text.p[at - 1] != '/' && text.p[at - 1] != '\n' && text.p[at - 1] != ' ')
        at--;
    size_t hash = at;
    while (hash < end && text.p[hash] != '#')
        hash++;
    return bytes_of(text.p + at, hash - at);
}

static void identify(struct meta *m, struct identity *d, uint64_t id, struct bytes credential)
{
    d->id = id;
    if (credential.n >= sizeof d->credential)
        die("a credential", "it is too long");
    memcpy(d->credential, credential.p, credential.n);
    d->credential[credential.n] = 0;
    if (meta_authenticate(m, d->credential, &d->who))
        die("login", "the credential is refused");
}

static void enrol(struct installation *i, struct meta *m, unsigned k, const char *account)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "", name[16];
    struct m_login_ans a;
    struct bytes text = COMMAND(m, &i->admin, &ar, "admin", "account", "token", account);
    snprintf(name, sizeof name, "dev%u", k);
    struct m_login_req q = {
        .account = bytes_str(account), .token = token_in(text), .device_name = bytes_str(name)};
    if (meta_login(m, &q, START_MS, &a, &ar, why))
        die("login", why);
    identify(m, &i->device[k], a.device, a.credential);
}

static void join(struct installation *i, struct meta *m, unsigned k)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint8_t incarnation[16];
    struct m_join_ans a;
    incarnation_of('b', k, 1, incarnation);
    struct bytes text = COMMAND(m, &i->admin, &ar, "admin", "server", "add", premises[k]);
    struct m_join_req q = {.token = token_in(text),
                           .url = bytes_str("http://127.0.0.1:1"),
                           .incarnation = bytes_of(incarnation, sizeof incarnation)};
    if (meta_join(m, &(struct meta_caller){0}, &q, START_MS, &a, &ar, why))
        die("join", why);
    i->key[k].id = a.key_id;
    memcpy(i->key[k].key, a.key.p, TOKEN_KEY_LEN);
    identify(m, &i->server[k], a.server, a.credential);
}

/* The namespaces that a device sees. */
static void look(struct installation *i, struct meta *m, unsigned device)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint8_t mine[16];
    struct m_session_ans s;
    incarnation_of('d', device, 0, mine);
    struct m_session_req q = {.incarnation = bytes_of(mine, sizeof mine)};
    if (meta_session(m, &i->device[device].who, &q, START_MS, &s, &ar, why))
        die("session", why);
    for (size_t k = 0; k < s.namespaces_n; k++)
        for (unsigned n = 0; n < NAMESPACES; n++)
            if (bytes_equal(s.namespaces[k].name, bytes_str(ns_names[n]))) {
                i->ns[n] = s.namespaces[k].id;
                i->root[n] = s.namespaces[k].root;
            }
}

static void furnish(struct installation *i, struct meta *m)
{
    cleanup_arena struct arena ar = {0};
    COMMAND(m, &i->admin, &ar, "admin", "account", "add", "alice");
    COMMAND(m, &i->admin, &ar, "admin", "account", "add", "bob");
    for (unsigned k = 0; k < SERVERS_MAX; k++)
        join(i, m, k);
    for (unsigned k = 0; k < DEVICES; k++)
        enrol(i, m, k, k < 4 ? "alice" : "bob");
    const struct meta_caller *alice = &i->device[0].who, *bob = &i->device[4].who;
    COMMAND(m, alice, &ar, "namespace", "create", "team");
    COMMAND(m, alice, &ar, "share", "team", "bob", "editor");
    COMMAND(m, alice, &ar, "namespace", "mount", "team", "/team");
    COMMAND(m, bob, &ar, "namespace", "mount", "team", "/team");
    for (unsigned n = 0; n < NAMESPACES; n++)
        COMMAND(m, &i->admin, &ar, "admin", "assign", ns_names[n], "hq");
    look(i, m, 0);
    look(i, m, 4);
}

struct installation *installation_new(void)
{
    struct installation *i = calloc(1, sizeof *i);
    struct meta *m;
    char credential[META_CREDENTIAL_MAX], why[512] = "";
    if (!i)
        abort();
    i->disk = simvfs_new("sim-template");
    simvfs_reset(i->disk, 0);
    simvfs_small_pages(i->disk, DB);
    struct meta_options o = {.path = DB, .vfs = simvfs_name(i->disk)};
    if (meta_open(&m, &o, why))
        die("open", why);
    if (meta_init(m, START_MS, credential, why) || meta_authenticate(m, credential, &i->admin))
        die("init", why);
    furnish(i, m);
    meta_close(m);
    return i;
}

void installation_free(struct installation *i)
{
    if (i)
        simvfs_free(i->disk);
    free(i);
}
