// SPDX-License-Identifier: Apache-2.0
/* Encoding and decoding of messages, driven by the field tables that messages.def makes.
 *
 * A decoded message lives in the arena given; its BYTES and STR fields point into the input, which
 * must outlive it. Every limit (depth, counts, lengths, required fields) is checked before memory
 * is taken for what it bounds.
 */
#ifndef STEADFS_MSG_H
#define STEADFS_MSG_H

#include "buf.h"

enum msg_type {
    MSG_T_U64,
    MSG_T_I64,
    MSG_T_BOOL,
    MSG_T_STR,
    MSG_T_BYTES,
    MSG_T_BLOCK,
    MSG_T_SUB,
    MSG_T_LIST,
    MSG_T_U64S,
    MSG_T_BLOCKS,
};
#define MSG_REQ 1u

/* Memory that the arrays of one decoded message may take: a row on the wire can be a few bytes and
 * its structure two hundred, so the limit on the body alone would not bound it. */
#define MSG_MEMORY_MAX ((size_t)256 << 20)

struct msg_desc;
struct msg_field {
    uint8_t key;
    uint8_t type;  /* enum msg_type */
    uint8_t flags; /* MSG_REQ */
    size_t offset; /* of the value in the structure */
    size_t aux;    /* of `field_n` (LIST, U64S, BLOCKS) or `field_set` (SUB) */
    uint64_t max;  /* bytes or elements */
    const struct msg_desc *sub;
    const char *name, *doc;
};
struct msg_desc {
    const char *name, *doc;
    size_t size; /* of the structure */
    const struct msg_field *fields;
    size_t fields_n;
};

enum msg_mode {
    MSG_LENIENT, /* unknown keys are skipped: answers */
    MSG_STRICT,  /* unknown keys are refused: requests */
};

/* Appends the encoded structure. Never fails for a structure within its limits (asserted). */
void msg_encode(const struct msg_desc *d, const void *msg, struct buf *out);
/* Whether the structure is within its limits, and within what a reader may spend on it: for what
 * others had a part in. */
bool msg_within(const struct msg_desc *d, const void *msg);
/* Decodes exactly n bytes into *msg (d->size bytes; all zero when it fails).
 * 0; -EBADMSG: not this message, or not well-formed; -EMSGSIZE: over a limit; -EPROTO: unknown key
 * in strict mode. *why, if not NULL, gets a static or arena-held line for people
 * ("m_put_head.items: …"). */
int msg_decode(const struct msg_desc *d, void *msg, const void *p, size_t n, enum msg_mode mode,
               struct arena *a, const char **why);
/* Decodes the first `count` fields of the table where they come first, in its order, as they do
 * from msg_encode when none of them is left out; what follows may be missing or anything. The other
 * fields stay zero. For who must decide on the beginning whether to take the rest. 0 or -EBADMSG.
 */
int msg_decode_front(const struct msg_desc *d, void *msg, const void *p, size_t n, size_t count,
                     struct arena *a);
#endif
