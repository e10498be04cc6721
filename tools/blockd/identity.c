// SPDX-License-Identifier: Apache-2.0
/* Joining makes the key here and sends only the request for a certificate. The file `identity` is
 * written last: a start that finds it finds the others. A join whose answer was lost needs a new
 * token, since a token is good once. */
#include "identity.h"

#include "durable.h"
#include "rpc.h"
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDENTITY_MAX 65536
#define JOIN_TIMEOUT_MS 15000

static const struct {
    const char *name;
    size_t offset;
    bool optional;
} text_fields[] = {
    {"meta", offsetof(struct identity, meta), false},
    {"listen", offsetof(struct identity, listen), false},
    {"url", offsetof(struct identity, url), true},
    {"premises", offsetof(struct identity, premises), false},
    {"credential", offsetof(struct identity, credential), false},
};
static const struct {
    const char *name;
    size_t offset;
} pem_files[] = {
    {"identity.key", offsetof(struct identity, key_pem)},
    {"identity.cert", offsetof(struct identity, cert_pem)},
    {"identity.ca", offsetof(struct identity, ca_pem)},
};
#define TEXT_FIELDS (sizeof text_fields / sizeof *text_fields)
#define PEM_FILES (sizeof pem_files / sizeof *pem_files)

static char **text_at(struct identity *id, size_t offset)
{
    return (char **)(void *)((char *)id + offset);
}

static char *copy_bytes(struct bytes b)
{
    char *s = strndup((const char *)b.p, b.n);
    if (!s)
        abort();
    return s;
}

void identity_free(struct identity *id)
{
    for (size_t i = 0; i < TEXT_FIELDS; i++)
        free(*text_at(id, text_fields[i].offset));
    for (size_t i = 0; i < PEM_FILES; i++)
        free(*text_at(id, pem_files[i].offset));
    *id = (struct identity){0};
}

/* ---- loading ------------------------------------------------------------------------------- */

static bool parse_key(const char *hex, uint8_t key[TOKEN_KEY_LEN])
{
    if (strlen(hex) != 2 * TOKEN_KEY_LEN || strspn(hex, "0123456789abcdef") != 2 * TOKEN_KEY_LEN)
        return false;
    for (size_t i = 0; i < TOKEN_KEY_LEN; i++) {
        unsigned v = 0;
        sscanf(hex + 2 * i, "%2x", &v);
        key[i] = (uint8_t)v;
    }
    return true;
}

static bool parse_u64(const char *text, uint64_t *v)
{
    char *end;
    errno = 0;
    *v = strtoull(text, &end, 10);
    return end != text && !*end && !errno;
}

/* One line key=value. Unknown keys are skipped: a newer program may have written them. */
static bool take_line(struct identity *id, const char *key, const char *value, bool *has_key)
{
    for (size_t i = 0; i < TEXT_FIELDS; i++) {
        char **at = text_at(id, text_fields[i].offset);
        if (!strcmp(key, text_fields[i].name) && !*at && !(*at = strdup(value)))
            abort();
    }
    if (!strcmp(key, "server"))
        return parse_u64(value, &id->server);
    if (!strcmp(key, "key_id"))
        return parse_u64(value, &id->key.id);
    if (!strcmp(key, "key"))
        return *has_key = parse_key(value, id->key.key);
    return true;
}

static bool parse_identity(struct identity *id, char *text)
{
    bool has_key = false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *equals = strchr(line, '=');
        if (!equals)
            return false;
        *equals = '\0';
        if (!take_line(id, line, equals + 1, &has_key))
            return false;
    }
    for (size_t i = 0; i < TEXT_FIELDS; i++)
        if (!text_fields[i].optional && !*text_at(id, text_fields[i].offset))
            return false;
    return has_key && id->server;
}

const char *identity_cert_in(const char *pem)
{
    return strstr(pem, "-----BEGIN CERTIFICATE-----");
}

/* The pair that took the place of the one it joined with, if there is one. */
static int load_pair(struct identity *id, const char *dir)
{
    struct buf pem cleanup_buf = {0};
    int r = durable_read(dir, "identity.tls", IDENTITY_MAX, &pem);
    if (r)
        return r == -ENOENT ? 0 : r;
    const char *cert = identity_cert_in((char *)pem.p);
    if (!cert)
        return -EBADMSG;
    free(id->key_pem);
    free(id->cert_pem);
    id->key_pem = copy_bytes(bytes_of(pem.p, pem.n));
    id->cert_pem = copy_bytes(bytes_str(cert));
    return 0;
}

int identity_load(struct identity *id, const char *dir, char *err)
{
    *id = (struct identity){0};
    struct buf text cleanup_buf = {0};
    const char *file = "identity";
    int r = durable_read(dir, file, IDENTITY_MAX, &text);
    if (r == -ENOENT)
        return r;
    if (!r && !parse_identity(id, (char *)text.p))
        r = -EBADMSG;
    for (size_t i = 0; !r && i < PEM_FILES; i++) {
        struct buf pem cleanup_buf = {0};
        file = pem_files[i].name;
        r = durable_read(dir, file, IDENTITY_MAX, &pem);
        if (!r)
            *text_at(id, pem_files[i].offset) = copy_bytes(bytes_of(pem.p, pem.n));
    }
    if (!r) {
        file = "identity.tls";
        r = load_pair(id, dir);
    }
    if (!r)
        return 0;
    identity_free(id);
    snprintf(err, 512, "cannot use %s/%s: %s", dir, file,
             r == -EBADMSG ? "it is damaged" : strerror(-r));
    return r == -ENOENT ? -EBADMSG : r;
}

/* ---- joining ------------------------------------------------------------------------------- */

static int store(struct identity *id, const char *dir)
{
    int r = 0;
    for (size_t i = 0; !r && i < PEM_FILES; i++) {
        const char *pem = *text_at(id, pem_files[i].offset);
        r = durable_write(dir, pem_files[i].name, pem, strlen(pem), 0600);
    }
    struct buf b cleanup_buf = {0};
    for (size_t i = 0; i < TEXT_FIELDS; i++) {
        const char *value = *text_at(id, text_fields[i].offset);
        if (value)
            buf_printf(&b, "%s=%s\n", text_fields[i].name, value);
    }
    buf_printf(&b, "server=%llu\nkey_id=%llu\nkey=", (unsigned long long)id->server,
               (unsigned long long)id->key.id);
    for (size_t i = 0; i < TOKEN_KEY_LEN; i++)
        buf_printf(&b, "%02x", id->key.key[i]);
    buf_printf(&b, "\n");
    return r ? r : durable_write(dir, "identity", b.p, b.n, 0600);
}

static int check_answer(const struct m_join_ans *a, const struct join *j, char *err)
{
    char fingerprint[65];
    if (!a->server || a->key.n != TOKEN_KEY_LEN || !a->certificate.n || !a->ca.n) {
        snprintf(err, 512, "the metadata server's answer to join is incomplete");
        return -EPROTO;
    }
    if (!j->ca_fingerprint)
        return 0;
    char *ca = copy_bytes(a->ca);
    bool same = !tls_fingerprint(ca, fingerprint) && !strcasecmp(fingerprint, j->ca_fingerprint);
    free(ca);
    if (!same)
        snprintf(err, 512, "the metadata server sent another CA than the fingerprint names");
    return same ? 0 : -EKEYREJECTED;
}

static int ask(struct identity *id, const struct join *j, const struct m_join_req *q,
               struct m_join_ans *a, struct arena *ar, struct log *log, char *err)
{
    struct rpc *rpc = NULL;
    int r = rpc_new(&rpc, &(struct rpc_options){
                              .ca_pem = j->ca_pem, .pin_sha256 = j->ca_fingerprint, .log = log});
    if (r) {
        snprintf(err, 512, "%s",
                 j->ca_pem ? "--ca names no PEM certificate"
                           : "--ca-fingerprint is not 64 hexadecimal digits");
        return r;
    }
    r = rpc_wait(rpc, id->meta, "join", &m_join_req_desc, q, &m_join_ans_desc, a, ar,
                 JOIN_TIMEOUT_MS, err);
    rpc_free(rpc);
    return r;
}

int identity_join(struct identity *id, const char *dir, const struct join *j,
                  const uint8_t incarnation[INCARNATION_LEN], struct log *log, char *err)
{
    struct arena ar cleanup_arena = {0};
    struct m_join_ans a;
    char *csr = NULL;
    if (tls_csr_new(j->host, &id->key_pem, &csr)) {
        snprintf(err, 512, "cannot make a key");
        return -EIO;
    }
    struct m_join_req q = {
        .token = bytes_str(j->token),
        .url = bytes_str(j->url),
        .csr = bytes_str(csr),
        .incarnation = bytes_of(incarnation, INCARNATION_LEN),
    };
    int r = ask(id, j, &q, &a, &ar, log, err);
    free(csr);
    if (!r)
        r = check_answer(&a, j, err);
    if (r)
        return r;
    id->server = a.server;
    id->premises = copy_bytes(a.premises);
    id->credential = copy_bytes(a.credential);
    id->cert_pem = copy_bytes(a.certificate);
    id->ca_pem = copy_bytes(a.ca);
    id->key.id = a.key_id;
    memcpy(id->key.key, a.key.p, TOKEN_KEY_LEN);
    r = store(id, dir);
    if (r)
        snprintf(err, 512, "cannot write %s/identity: %s", dir, strerror(-r));
    return r;
}
