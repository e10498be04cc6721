// SPDX-License-Identifier: Apache-2.0
/* Whom a client believes. Every connection's TLS context gets a certificate store that holds the
 * installation's CA and nothing else. Where only the CA's fingerprint is known, the chain that the
 * server shows is searched for a certificate with that fingerprint, and the server's own
 * certificate must verify against a store that holds just this one. curl compares the host name in
 * both cases.
 *
 * Pins are curl's own (CURLOPT_PINNEDPUBLICKEY): it compares the key of the certificate after the
 * handshake, before it sends anything, and counts the pins among what a kept connection or session
 * must have in common with a call (Curl_ssl_config_matches), so that two servers which were once
 * called at one address are never taken for each other. */
#include "rpc_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static bool has_pin(const struct rpc *r, X509 *cert)
{
    uint8_t md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    return cert && X509_digest(cert, EVP_sha256(), md, &n) == 1 && n == sizeof r->pin &&
           !CRYPTO_memcmp(md, r->pin, n) && X509_check_ca(cert) > 0;
}

/* The certificate with the fingerprint: the one given, or one that the server shows. */
static X509 *find_pinned(struct rpc *r, STACK_OF(X509) * chain)
{
    if (has_pin(r, r->ca))
        return r->ca;
    for (int i = 0; i < sk_X509_num(chain); i++)
        if (has_pin(r, sk_X509_value(chain, i)))
            return sk_X509_value(chain, i);
    return NULL;
}

static int verify_pinned(X509_STORE_CTX *given, void *arg)
{
    struct rpc *r = arg;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(given);
    X509 *ca = find_pinned(r, chain);
    int error = X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
    if (ca) {
        X509_STORE *only = rpc_need(X509_STORE_new());
        X509_STORE_CTX *ctx = rpc_need(X509_STORE_CTX_new());
        error = X509_V_ERR_UNSPECIFIED;
        if (X509_STORE_add_cert(only, ca) == 1 &&
            X509_STORE_CTX_init(ctx, only, X509_STORE_CTX_get0_cert(given), chain) == 1 &&
            X509_STORE_CTX_set_default(ctx, "ssl_server") == 1) {
            int ok = X509_verify_cert(ctx);
            error = X509_STORE_CTX_get_error(ctx);
            if (ok == 1 && error == X509_V_OK)
                error = X509_V_OK;
            else if (error == X509_V_OK)
                error = X509_V_ERR_UNSPECIFIED;
        }
        X509_STORE_CTX_free(ctx);
        X509_STORE_free(only);
    }
    X509_STORE_CTX_set_error(given, error);
    return error == X509_V_OK;
}

CURLcode rpc_set_trust(CURL *easy, void *ssl_ctx, void *arg)
{
    (void)easy;
    struct rpc *r = arg;
    SSL_CTX *ctx = ssl_ctx;
    if (r->pinned)
        SSL_CTX_set_cert_verify_callback(ctx, verify_pinned, r);
    else
        SSL_CTX_set1_cert_store(ctx, r->store);
    return CURLE_OK;
}

int rpc_load_trust(struct rpc *r)
{
    r->store = rpc_need(X509_STORE_new());
    if (r->o.ca_pem) {
        BIO *bio = rpc_need(BIO_new_mem_buf(r->o.ca_pem, -1));
        r->ca = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        BIO_free(bio);
        ERR_clear_error();
        if (!r->ca || X509_STORE_add_cert(r->store, r->ca) != 1)
            return -EINVAL;
    }
    const char *hex = r->o.pin_sha256;
    if (!hex)
        return 0;
    r->pinned = true;
    for (size_t i = 0; i < sizeof r->pin; i++) {
        unsigned v;
        if (strspn(hex + 2 * i, "0123456789abcdefABCDEF") < 2 ||
            sscanf(hex + 2 * i, "%2x", &v) != 1)
            return -EINVAL;
        r->pin[i] = (uint8_t)v;
    }
    return hex[2 * sizeof r->pin] ? -EINVAL : 0;
}

struct rpc_pins rpc_pins_of(const struct m_server *s)
{
    struct rpc_pins p = {0};
    for (size_t i = 0; i < s->pins_n && p.n < RPC_PINS_MAX; i++) {
        struct bytes b = s->pins[i].sha256;
        memcpy(p.sha256[p.n++], b.p, b.n < TLS_PIN_LEN ? b.n : TLS_PIN_LEN);
    }
    return p;
}

char *rpc_pins_text(const struct rpc_pins *p)
{
    struct buf b = {0};
    if (!p || !p->n)
        return NULL;
    for (size_t i = 0; i < p->n; i++) {
        unsigned char base64[4 * ((TLS_PIN_LEN + 2) / 3) + 1];
        EVP_EncodeBlock(base64, p->sha256[i], TLS_PIN_LEN);
        buf_printf(&b, "%ssha256//%s", i ? ";" : "", (const char *)base64);
    }
    buf_append(&b, "", 1);
    return (char *)b.p;
}
