// SPDX-License-Identifier: Apache-2.0
#include "rekey.h"

#include "durable.h"
#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEXT "identity.next"
#define NEXT_MAX 65536
#define REQUEST "-----BEGIN CERTIFICATE REQUEST-----"

static bool is_pin(struct bytes b, const uint8_t pin[TLS_PIN_LEN])
{
    return b.n == TLS_PIN_LEN && !memcmp(b.p, pin, TLS_PIN_LEN);
}

void rekey_open(struct rekey *k, const struct identity *identity)
{
    struct buf text cleanup_buf = {0};
    if (!identity->cert_pem || tls_pin(identity->cert_pem, k->pin))
        memset(k->pin, 0, sizeof k->pin);
    int r = durable_read(k->dir, NEXT, NEXT_MAX, &text);
    const char *request = r ? NULL : strstr((const char *)text.p, REQUEST);
    if (request && !(k->csr = strdup(request)))
        abort();
}

void rekey_fill(struct rekey *k, struct m_beat_req *q)
{
    static const uint8_t none[TLS_PIN_LEN];
    if (memcmp(k->pin, none, sizeof none) != 0)
        q->pin = bytes_of(k->pin, sizeof k->pin);
    if (k->csr)
        q->csr = bytes_str(k->csr);
}

static void forget(struct rekey *k)
{
    free(k->csr);
    k->csr = NULL;
}

/* Key, and request or certificate, as one file. */
static int keep(struct rekey *k, const char *name, const char *key_pem, const char *behind)
{
    struct buf b cleanup_buf = {0};
    buf_printf(&b, "%s%s", key_pem, behind);
    int r = durable_write(k->dir, name, b.p, b.n, 0600);
    if (r)
        log_printf(k->log, LOG_L_ERROR, "another key: cannot write %s/%s: %s", k->dir, name,
                   strerror(-r));
    return r;
}

static bool make(struct rekey *k)
{
    char *key = NULL, *csr = NULL;
    int r = tls_csr_new("block server", &key, &csr);
    if (r)
        log_printf(k->log, LOG_L_ERROR, "cannot make a key");
    else
        r = keep(k, NEXT, key, csr);
    free(key);
    if (r) {
        free(csr);
        return false;
    }
    k->csr = csr;
    k->refused = false;
    return true;
}

/* The certificate has come. It is kept if it is for the key that waits for it. */
static void take(struct rekey *k, struct bytes certificate)
{
    struct buf text cleanup_buf = {0};
    struct arena a cleanup_arena = {0};
    char *pem = arena_str(&a, certificate);
    int r = durable_read(k->dir, NEXT, NEXT_MAX, &text);
    char *request = r ? NULL : strstr((char *)text.p, REQUEST);
    if (!request)
        return;
    *request = '\0';
    if (!tls_is_key_of((char *)text.p, pem)) {
        log_printf(k->log, LOG_L_ERROR, "another key: the certificate that came is not for it");
        return;
    }
    if (!keep(k, NEXT, (char *)text.p, pem)) {
        log_printf(k->log, LOG_L_INFO, "there is a certificate for another key, to be shown later");
        forget(k);
    }
}

static bool use(struct rekey *k, struct bytes pin)
{
    struct buf text cleanup_buf = {0};
    uint8_t next[TLS_PIN_LEN] = {0};
    if (is_pin(pin, k->pin))
        return false;
    int r = durable_read(k->dir, NEXT, NEXT_MAX, &text);
    const char *key = (char *)text.p, *cert = r ? NULL : identity_cert_in(key);
    if (!cert || tls_pin(cert, next) || !is_pin(pin, next)) {
        if (!k->refused)
            log_printf(k->log, LOG_L_ERROR,
                       "told to show a key that is not here: `steadfs admin server rekey` with "
                       "--cancel, and once more without");
        k->refused = true;
        return false;
    }
    if (keep(k, "identity.tls", key, ""))
        return false;
    r = k->show(k->arg, key, cert);
    if (r) {
        log_printf(k->log, LOG_L_ERROR, "another key cannot be shown before a restart: %s",
                   strerror(-r));
        return false;
    }
    memcpy(k->pin, next, sizeof k->pin);
    durable_remove(k->dir, NEXT);
    log_printf(k->log, LOG_L_INFO, "another key is shown from now on");
    return true;
}

bool rekey_heard(struct rekey *k, const struct m_beat_ans *a)
{
    if (!k->show)
        return false;
    if (k->csr && a->certificate.n)
        take(k, a->certificate);
    else if (k->csr && !a->rekey)
        forget(k); /* it is not wanted any more */
    if (a->use_pin.n)
        return use(k, a->use_pin);
    return !k->csr && a->rekey && make(k);
}

void rekey_close(struct rekey *k)
{
    forget(k);
}
