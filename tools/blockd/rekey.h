// SPDX-License-Identifier: Apache-2.0
/* Another key for this block server's certificate, without a pause: what the heartbeat says and
 * hears of it. In the data directory:
 *
 *   identity.next   PEM: the key that is to follow; behind it the request for a certificate, until
 *                   the certificate is there
 *   identity.tls    PEM: key and certificate that are shown, in place of identity.key and
 *                   identity.cert; not there before the first change
 *
 * An answer orders a key; it is made, kept, and sent as a request with every beat until a
 * certificate comes. Then the old one is shown still, until an answer says that everybody has been
 * told. Each step is durable before the next, so a crash anywhere goes on where it was. One thread:
 * the heartbeat's. */
#ifndef REKEY_H
#define REKEY_H

#include "identity.h"
#include "messages.h"

/* Makes what is served show them; they are copied. 0 or -errno. */
typedef int (*rekey_show)(void *arg, const char *key_pem, const char *cert_pem);

struct rekey {
    const char *dir;
    struct log *log;
    rekey_show show; /* NULL: nothing is ever ordered */
    void *arg;
    uint8_t pin[32]; /* of the key that is shown; all zero: not known */
    char *csr;       /* to be sent; NULL: none. malloc'd */
    bool refused;    /* told to show a key that is not here; logged */
};

/* What is pointed to must outlive it. */
void rekey_open(struct rekey *k, const struct identity *identity);
/* Fills in what the beat says of keys; lives until the next call. */
void rekey_fill(struct rekey *k, struct m_beat_req *q);
/* What the answer to that beat says. True: another one should follow at once. */
bool rekey_heard(struct rekey *k, const struct m_beat_ans *a);
void rekey_close(struct rekey *k);
#endif
