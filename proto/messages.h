// SPDX-License-Identifier: Apache-2.0
/* The structures of all messages, made from messages.def; `NAME_desc` describes each for msg.h. */
#ifndef STEADFS_MESSAGES_H
#define STEADFS_MESSAGES_H

#include "msg.h"

#define MSG(m, doc) struct m {
#define U64(m, key, f, flags, doc) uint64_t f;
#define I64(m, key, f, flags, doc) int64_t f;
#define BOOL(m, key, f, flags, doc) bool f;
#define STR(m, key, f, max, flags, doc) struct bytes f;
#define BYTES(m, key, f, max, flags, doc) struct bytes f;
#define BLOCK(m, key, f, flags, doc) struct block_id f;
#define SUB(m, key, f, type, flags, doc)                                                           \
    struct type f;                                                                                 \
    bool f##_set;
#define LIST(m, key, f, type, max, flags, doc)                                                     \
    struct type *f;                                                                                \
    size_t f##_n;
#define U64S(m, key, f, max, flags, doc)                                                           \
    uint64_t *f;                                                                                   \
    size_t f##_n;
#define BLOCKS(m, key, f, max, flags, doc)                                                         \
    struct block_id *f;                                                                            \
    size_t f##_n;
#define END(m)                                                                                     \
    }                                                                                              \
    ;                                                                                              \
    extern const struct msg_desc m##_desc;
#include "messages.def"
#include "messages_undef.h"

/* All of them, for the fuzz target and the reference. */
extern const struct msg_desc *const msg_all[];
extern const size_t msg_all_n;
#endif
