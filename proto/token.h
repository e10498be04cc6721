// SPDX-License-Identifier: Apache-2.0
/* Capabilities and receipts: an encoded message followed by a 32-byte HMAC-SHA-256 over a label
 * ("steadfs capability 1", "steadfs receipt 1", each with its NUL) and the encoded bytes.
 *
 * The key belongs to one block server and is known to it and to the metadata server.
 */
#ifndef STEADFS_TOKEN_H
#define STEADFS_TOKEN_H

#include "messages.h"

#define TOKEN_KEY_LEN 32

struct token_key {
    uint64_t id;
    uint8_t key[TOKEN_KEY_LEN];
};

void capability_seal(const struct m_capability *c, const struct token_key *k, struct buf *out);
/* Checks form, key id and MAC (in constant time), not expiry or scope: the caller does, who knows
 * the time and the request. 0, -EBADMSG (form), -EKEYREJECTED (another key id), -EACCES (MAC). */
int capability_open(struct m_capability *c, struct bytes token, const struct token_key *k,
                    struct arena *a);
void receipt_seal(const struct m_receipt *r, const struct token_key *k, struct buf *out);
int receipt_open(struct m_receipt *r, struct bytes token, const struct token_key *k,
                 struct arena *a);
/* Decodes a receipt without checking its MAC: for the client, who cannot. 0 or -EBADMSG. */
int receipt_peek(struct m_receipt *r, struct bytes token, struct arena *a);
/* Fills with random bytes from the operating system; aborts when there are none. */
void random_bytes(void *p, size_t n);
#endif
