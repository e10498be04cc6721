// SPDX-License-Identifier: Apache-2.0
/* Capabilities and receipts.
 *
 * The label in front of what is signed keeps one kind from being passed off as the other: both are
 * signed with the same key. A token is decoded before its MAC is known to be right, because the key
 * id stands in it; the decoder is made for hostile input, and nothing of a token that fails is
 * given out.
 */
#include "token.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAC_LEN 32
#define INCARNATION_LEN 16
#define CAPABILITY_MAX 1024 /* as m_candidate and the block server's messages carry it */
#define RECEIPT_MAX 256     /* as m_receipt_bytes and m_put_result carry it */

static const char capability_label[] = "steadfs capability 1";
static const char receipt_label[] = "steadfs receipt 1";

/* label_size counts its NUL. */
static void mac_of(const struct token_key *k, const char *label, size_t label_size,
                   struct bytes encoded, uint8_t out[MAC_LEN])
{
    struct buf signed_bytes cleanup_buf = {0};
    buf_append(&signed_bytes, label, label_size);
    buf_append(&signed_bytes, encoded.p, encoded.n);
    unsigned len = MAC_LEN;
    if (!HMAC(EVP_sha256(), k->key, TOKEN_KEY_LEN, signed_bytes.p, signed_bytes.n, out, &len) ||
        len != MAC_LEN)
        abort(); /* only without memory, or without SHA-256 in the library */
}

static void seal(const struct msg_desc *d, const void *msg, const struct token_key *k,
                 const char *label, size_t label_size, struct buf *out)
{
    size_t start = out->n;
    msg_encode(d, msg, out);
    uint8_t mac[MAC_LEN];
    mac_of(k, label, label_size, bytes_of(out->p + start, out->n - start), mac);
    buf_append(out, mac, sizeof(mac));
}

/* The encoded message in front of the MAC, decoded. 0 or -EBADMSG. */
static int peek(const struct msg_desc *d, void *msg, struct bytes token, size_t max,
                struct arena *a)
{
    memset(msg, 0, d->size);
    if (token.n <= MAC_LEN || token.n > max)
        return -EBADMSG;
    return msg_decode(d, msg, token.p, token.n - MAC_LEN, MSG_STRICT, a, NULL) ? -EBADMSG : 0;
}

/* 0, -EKEYREJECTED or -EACCES. */
static int check(struct bytes token, uint64_t key_id, const struct token_key *k, const char *label,
                 size_t label_size)
{
    if (key_id != k->id)
        return -EKEYREJECTED;
    uint8_t mac[MAC_LEN];
    mac_of(k, label, label_size, bytes_of(token.p, token.n - MAC_LEN), mac);
    return CRYPTO_memcmp(mac, token.p + token.n - MAC_LEN, MAC_LEN) == 0 ? 0 : -EACCES;
}

void capability_seal(const struct m_capability *c, const struct token_key *k, struct buf *out)
{
    struct m_capability named = *c;
    named.key_id = k->id;
    seal(&m_capability_desc, &named, k, capability_label, sizeof(capability_label), out);
}

int capability_open(struct m_capability *c, struct bytes token, const struct token_key *k,
                    struct arena *a)
{
    int err = peek(&m_capability_desc, c, token, CAPABILITY_MAX, a);
    if (err == 0)
        err = check(token, c->key_id, k, capability_label, sizeof(capability_label));
    if (err)
        memset(c, 0, sizeof(*c));
    return err;
}

void receipt_seal(const struct m_receipt *r, const struct token_key *k, struct buf *out)
{
    assert(r->incarnation.n == INCARNATION_LEN);
    struct m_receipt named = *r;
    named.key_id = k->id;
    seal(&m_receipt_desc, &named, k, receipt_label, sizeof(receipt_label), out);
}

int receipt_peek(struct m_receipt *r, struct bytes token, struct arena *a)
{
    int err = peek(&m_receipt_desc, r, token, RECEIPT_MAX, a);
    if (err == 0 && r->incarnation.n != INCARNATION_LEN)
        err = -EBADMSG;
    if (err)
        memset(r, 0, sizeof(*r));
    return err;
}

int receipt_open(struct m_receipt *r, struct bytes token, const struct token_key *k,
                 struct arena *a)
{
    int err = receipt_peek(r, token, a);
    if (err == 0)
        err = check(token, r->key_id, k, receipt_label, sizeof(receipt_label));
    if (err)
        memset(r, 0, sizeof(*r));
    return err;
}

void random_bytes(void *p, size_t n)
{
    uint8_t *to = p;
    while (n > 0) {
        ssize_t got = getrandom(to, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        to += got;
        n -= (size_t)got;
    }
}
