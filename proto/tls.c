// SPDX-License-Identifier: Apache-2.0
/* Certificates with OpenSSL's libcrypto: one CA per installation, P-256 keys, SHA-256 signatures.
 *
 * A certificate request carries nothing but the key: the names in a certificate are those that the
 * issuer was told, so a request cannot ask for somebody else's name. Serial numbers are random, and
 * "not before" lies an hour back so that a client with a slow clock accepts a fresh certificate.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define DAY_SECONDS 86400L
#define CA_DAYS 7305
#define SERVER_DAYS 3652
#define BACKDATE_SECONDS (30L * 24 * 3600) /* clients may have another time of day */

/* A malloc'd copy of what a memory BIO holds, which is freed; NULL when it could not be had. */
static char *bio_text(BIO *bio)
{
    char *p = NULL;
    long n = bio ? BIO_get_mem_data(bio, &p) : 0;
    char *out = n > 0 ? strndup(p, (size_t)n) : NULL;
    BIO_free(bio);
    return out;
}

static char *key_text(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return NULL;
    }
    return bio_text(bio);
}

static char *cert_text(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio && PEM_write_bio_X509(bio, cert) != 1) {
        BIO_free(bio);
        return NULL;
    }
    return bio_text(bio);
}

static X509 *cert_parse(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return cert;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool set_serial(X509 *cert)
{
    unsigned char raw[16];
    if (RAND_bytes(raw, sizeof raw) != 1)
        return false;
    raw[0] &= 0x7f;
    BIGNUM *n = BN_bin2bn(raw, sizeof raw, NULL);
    bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return ok;
}

static bool set_subject(X509_NAME *name, const char *common_name)
{
    /* a common name is at most 64 characters (RFC 5280); who verifies reads subjectAltName */
    char cut[65];
    snprintf(cut, sizeof cut, "%s", common_name);
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cut, -1, -1,
                                      0) == 1;
}

/* The fields that both kinds of certificate have. */
static X509 *cert_begin(EVP_PKEY *public_key, const char *common_name, long days)
{
    X509 *c = X509_new();
    if (c && X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) &&
        X509_gmtime_adj(X509_getm_notBefore(c), -BACKDATE_SECONDS) &&
        X509_gmtime_adj(X509_getm_notAfter(c), days * DAY_SECONDS) &&
        X509_set_pubkey(c, public_key) == 1 && set_subject(X509_get_subject_name(c), common_name))
        return c;
    X509_free(c);
    return NULL;
}

int tls_ca_new(char **cert_pem, char **key_pem)
{
    *cert_pem = *key_pem = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c = key ? cert_begin(key, "steadfs installation CA", CA_DAYS) : NULL;
    if (c && X509_set_issuer_name(c, X509_get_subject_name(c)) == 1 &&
        add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(c, c, NID_subject_key_identifier, "hash") &&
        X509_sign(c, key, EVP_sha256()) > 0) {
        *cert_pem = cert_text(c);
        *key_pem = key_text(key);
    }
    X509_free(c);
    EVP_PKEY_free(key);
    if (*cert_pem && *key_pem)
        return 0;
    free(*cert_pem);
    free(*key_pem);
    *cert_pem = *key_pem = NULL;
    return -EIO;
}

int tls_csr_new(const char *host, char **key_pem, char **csr_pem)
{
    *key_pem = *csr_pem = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *q = key ? X509_REQ_new() : NULL;
    if (q && X509_REQ_set_pubkey(q, key) == 1 && set_subject(X509_REQ_get_subject_name(q), host) &&
        X509_REQ_sign(q, key, EVP_sha256()) > 0) {
        BIO *bio = BIO_new(BIO_s_mem());
        if (bio && PEM_write_bio_X509_REQ(bio, q) == 1)
            *csr_pem = bio_text(bio);
        else
            BIO_free(bio);
        *key_pem = key_text(key);
    }
    X509_REQ_free(q);
    EVP_PKEY_free(key);
    if (*key_pem && *csr_pem)
        return 0;
    free(*key_pem);
    free(*csr_pem);
    *key_pem = *csr_pem = NULL;
    return -EIO;
}

static bool is_address(const char *host)
{
    unsigned char a[16];
    return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1");
}

/* Appends one host to the value of subjectAltName; false where it is no name or address. */
static bool alt_name(const char *host, struct buf *out)
{
    bool address = is_address(host);
    /* the text goes through OpenSSL's configuration syntax */
    if (!*host || strlen(host) > 253 || (!address && strpbrk(host, ", :;\"\\/#=\n\r\t")))
        return false;
    buf_printf(out, "%s%s:%s", out->n ? "," : "", address ? "IP" : "DNS", host);
    if (is_loopback(host))
        buf_printf(out, ",DNS:localhost,IP:127.0.0.1,IP:::1");
    return true;
}

/* The value of subjectAltName for these hosts (commas between them), NUL-terminated. */
static bool alt_names(const char *hosts, struct buf *out)
{
    char host[256];
    for (;;) {
        size_t n = strcspn(hosts, ",");
        if (n >= sizeof host)
            return false;
        memcpy(host, hosts, n);
        host[n] = 0;
        if (!alt_name(host, out))
            return false;
        hosts += n;
        if (!*hosts++)
            break;
    }
    buf_append(out, "", 1);
    return true;
}

/* The key of a request whose own signature is right: the sender has it. */
static EVP_PKEY *request_key(const char *csr_pem)
{
    BIO *bio = BIO_new_mem_buf(csr_pem, -1);
    X509_REQ *q = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = q ? X509_REQ_get_pubkey(q) : NULL;
    if (key && X509_REQ_verify(q, key) != 1) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    X509_REQ_free(q);
    BIO_free(bio);
    return key;
}

int tls_issue(const char *ca_cert_pem, const char *ca_key_pem, const char *csr_pem,
              const char *host, char **cert_pem)
{
    *cert_pem = NULL;
    cleanup_buf struct buf names = {0};
    EVP_PKEY *key = request_key(csr_pem);
    if (!key || !alt_names(host, &names)) {
        EVP_PKEY_free(key);
        return -EBADMSG;
    }
    BIO *bio = BIO_new_mem_buf(ca_key_pem, -1);
    EVP_PKEY *ca_key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    X509 *ca = cert_parse(ca_cert_pem);
    char first[256];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(host, ","), host);
    X509 *c = ca && ca_key ? cert_begin(key, first, SERVER_DAYS) : NULL;
    if (c && X509_set_issuer_name(c, X509_get_subject_name(ca)) == 1 &&
        add_extension(c, ca, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(c, ca, NID_key_usage, "critical,digitalSignature") &&
        add_extension(c, ca, NID_ext_key_usage, "serverAuth") &&
        add_extension(c, ca, NID_subject_alt_name, (const char *)names.p) &&
        add_extension(c, ca, NID_authority_key_identifier, "keyid") &&
        X509_sign(c, ca_key, EVP_sha256()) > 0)
        *cert_pem = cert_text(c);
    X509_free(c);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
    return *cert_pem ? 0 : -EIO;
}

int tls_fingerprint(const char *cert_pem, char out[65])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    X509 *c = cert_parse(cert_pem);
    int r = c && X509_digest(c, EVP_sha256(), md, &n) == 1 && n == 32 ? 0 : -EBADMSG;
    X509_free(c);
    for (unsigned i = 0; !r && i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", md[i]);
    return r;
}

int tls_pin(const char *cert_pem, uint8_t out[TLS_PIN_LEN])
{
    unsigned char *der = NULL;
    unsigned n = 0;
    X509 *c = cert_parse(cert_pem);
    int der_n = c ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c), &der) : -1;
    bool ok = der_n > 0 && EVP_Digest(der, (size_t)der_n, out, &n, EVP_sha256(), NULL) == 1 &&
              n == TLS_PIN_LEN;
    OPENSSL_free(der);
    X509_free(c);
    return ok ? 0 : -EBADMSG;
}

bool tls_is_key_of(const char *key_pem, const char *cert_pem)
{
    BIO *bio = BIO_new_mem_buf(key_pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    X509 *c = cert_parse(cert_pem);
    bool yes = key && c && X509_check_private_key(c, key) == 1;
    X509_free(c);
    EVP_PKEY_free(key);
    BIO_free(bio);
    return yes;
}
