// SPDX-License-Identifier: Apache-2.0
/* Who this block server is in its installation. Kept in the data directory:
 *
 *   identity        lines key=value: meta, listen, url, server, premises, credential, key, key_id
 *   identity.key, identity.cert, identity.ca   PEM
 *   identity.tls    key and certificate that took the place of those two (rekey.h)
 *   identity.keys   what signs capabilities, when that is no longer `key` (keyring.h)
 *
 * All of mode 0600: key and credential are secrets. The first start writes the first two lines'.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "storage.h"
#include "token.h"
#include "trace.h"

/* All strings are malloc'd. */
struct identity {
    char *meta;   /* URL of the metadata server */
    char *listen; /* ADDR:PORT */
    char *url;    /* where clients come, if it is not what `listen` says; else NULL */
    char *premises, *credential;
    char *key_pem, *cert_pem, *ca_pem;
    uint64_t server;
    struct token_key key;
};

/* How to join: the one-time token, and the CA to trust: its PEM text or its fingerprint. */
struct join {
    const char *token, *ca_pem, *ca_fingerprint;
    const char *url;  /* that clients will use */
    const char *host; /* of it: what the certificate names */
};

/* -ENOENT: not joined yet; -EBADMSG: damaged. err: 512 bytes. */
int identity_load(struct identity *id, const char *dir, char *err);
/* Asks the metadata server id->meta to take this server in, fills the rest of id and stores it. 0
 * or -errno with a line in err. */
int identity_join(struct identity *id, const char *dir, const struct join *j,
                  const uint8_t incarnation[INCARNATION_LEN], struct log *log, char *err);
void identity_free(struct identity *id);
/* Where the certificate begins in PEM text that has a key before it; NULL: it has none. */
const char *identity_cert_in(const char *pem);
#endif
