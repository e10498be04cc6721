// SPDX-License-Identifier: Apache-2.0
/* The installation's own certificate authority: made once by the metadata server, pinned by
 * clients. P-256 keys throughout (reference measurements: cheapest handshakes). All texts are PEM,
 * malloc'd. */
#ifndef STEADFS_TLS_H
#define STEADFS_TLS_H

#include "buf.h"

/* A new CA valid for 20 years. 0 or -EIO. */
int tls_ca_new(char **cert_pem, char **key_pem);
/* A new key and a certificate request for it, naming host (DNS name or address). */
int tls_csr_new(const char *host, char **key_pem, char **csr_pem);
/* A server certificate for the request's key, valid 10 years, with host as subjectAltName (DNS or
 * IP; several with commas between them); `localhost` and the loopback addresses are added when host
 * is loopback. 0, -EBADMSG (no request). */
int tls_issue(const char *ca_cert_pem, const char *ca_key_pem, const char *csr_pem,
              const char *host, char **cert_pem);
/* Lower-case hex SHA-256 of the certificate's DER: what an invitation carries to pin the CA. */
int tls_fingerprint(const char *cert_pem, char out[65]);
/* SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER): whoever has a certificate
 * with it has the private key, whatever else the certificate says. 0 or -EBADMSG. */
#define TLS_PIN_LEN 32
int tls_pin(const char *cert_pem, uint8_t out[TLS_PIN_LEN]);
/* Whether the certificate is for the private key. */
bool tls_is_key_of(const char *key_pem, const char *cert_pem);
#endif
