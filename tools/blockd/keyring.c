// SPDX-License-Identifier: Apache-2.0
#include "keyring.h"

#include "durable.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME "identity.keys"
#define FILE_MAX 4096

struct keyring {
    pthread_mutex_t lock;
    char *dir;
    struct token_key v[KEYRING_MAX];
    size_t n;
};

static bool parse_line(char *line, struct token_key *key)
{
    char *end;
    errno = 0;
    key->id = strtoull(line, &end, 10);
    if (end == line || *end != ' ' || errno)
        return false;
    const char *hex = end + 1;
    if (strlen(hex) != (size_t)2 * TOKEN_KEY_LEN ||
        strspn(hex, "0123456789abcdef") != (size_t)2 * TOKEN_KEY_LEN)
        return false;
    for (size_t i = 0; i < TOKEN_KEY_LEN; i++) {
        unsigned v = 0;
        sscanf(hex + 2 * i, "%2x", &v);
        key->key[i] = (uint8_t)v;
    }
    return true;
}

static int load(struct keyring *k)
{
    struct buf text cleanup_buf = {0};
    int r = durable_read(k->dir, FILE_NAME, FILE_MAX, &text);
    if (r)
        return r;
    char *save = NULL;
    for (char *line = strtok_r((char *)text.p, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save))
        if (k->n == KEYRING_MAX || !parse_line(line, &k->v[k->n++]))
            return -EBADMSG;
    return k->n ? 0 : -EBADMSG;
}

int keyring_open(struct keyring **out, const char *dir, const struct token_key *first)
{
    struct keyring *k = calloc(1, sizeof *k);
    if (!k || (dir && !(k->dir = strdup(dir))))
        abort();
    pthread_mutex_init(&k->lock, NULL);
    int r = dir ? load(k) : -ENOENT;
    if (r == -ENOENT) {
        k->v[0] = *first;
        k->n = 1;
        r = 0;
    }
    if (r) {
        keyring_free(k);
        return r;
    }
    *out = k;
    return 0;
}

void keyring_free(struct keyring *k)
{
    if (!k)
        return;
    pthread_mutex_destroy(&k->lock);
    free(k->dir);
    explicit_bzero(k->v, sizeof k->v);
    free(k);
}

static int save(const struct keyring *k, const struct m_key *v, size_t n)
{
    struct buf text cleanup_buf = {0};
    for (size_t i = 0; i < n; i++) {
        buf_printf(&text, "%llu ", (unsigned long long)v[i].id);
        for (size_t b = 0; b < TOKEN_KEY_LEN; b++)
            buf_printf(&text, "%02x", v[i].key.p[b]);
        buf_printf(&text, "\n");
    }
    return durable_write(k->dir, FILE_NAME, text.p, text.n, 0600);
}

int keyring_set(struct keyring *k, const struct m_key *v, size_t n)
{
    if (!n || n > KEYRING_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < n; i++)
        if (v[i].key.n != TOKEN_KEY_LEN)
            return -EBADMSG;
    int r = k->dir ? save(k, v, n) : 0;
    if (r)
        return r;
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < n; i++) {
        k->v[i].id = v[i].id;
        memcpy(k->v[i].key, v[i].key.p, TOKEN_KEY_LEN);
    }
    k->n = n;
    pthread_mutex_unlock(&k->lock);
    return 0;
}

size_t keyring_ids(struct keyring *k, uint64_t out[KEYRING_MAX])
{
    pthread_mutex_lock(&k->lock);
    size_t n = k->n;
    for (size_t i = 0; i < n; i++)
        out[i] = k->v[i].id;
    pthread_mutex_unlock(&k->lock);
    return n;
}

struct token_key keyring_newest(struct keyring *k)
{
    pthread_mutex_lock(&k->lock);
    size_t best = 0;
    for (size_t i = 1; i < k->n; i++)
        if (k->v[i].id > k->v[best].id)
            best = i;
    struct token_key key = k->v[best];
    pthread_mutex_unlock(&k->lock);
    return key;
}

int keyring_check(struct keyring *k, struct m_capability *c, struct bytes token, struct arena *a)
{
    struct token_key v[KEYRING_MAX];
    pthread_mutex_lock(&k->lock);
    size_t n = k->n;
    memcpy(v, k->v, n * sizeof *v);
    pthread_mutex_unlock(&k->lock);
    int r = -EKEYREJECTED;
    for (size_t i = 0; i < n && r == -EKEYREJECTED; i++)
        r = capability_open(c, token, &v[i], a);
    return r;
}
