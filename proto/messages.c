// SPDX-License-Identifier: Apache-2.0
/* The field tables of all messages: messages.def included twice with other macros, once for each
 * message's fields and once for the list of all messages. */
#include "messages.h"

// Names of members and of types cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define REQ MSG_REQ
#define FIELD(m, k, t, f, fl, a, mx, s, d)                                                         \
    {.key = k,                                                                                     \
     .type = t,                                                                                    \
     .flags = fl,                                                                                  \
     .offset = offsetof(struct m, f),                                                              \
     .aux = a,                                                                                     \
     .max = mx,                                                                                    \
     .sub = s,                                                                                     \
     .name = #f,                                                                                   \
     .doc = d},

/* The fields; each message's description follows them, and they may refer to messages behind. */
#define MSG(m, d)                                                                                  \
    static const char m##_doc[] = d;                                                               \
    static const struct msg_field m##_fields[] = {
#define U64(m, k, f, fl, d) FIELD(m, k, MSG_T_U64, f, fl, 0, 0, NULL, d)
#define I64(m, k, f, fl, d) FIELD(m, k, MSG_T_I64, f, fl, 0, 0, NULL, d)
#define BOOL(m, k, f, fl, d) FIELD(m, k, MSG_T_BOOL, f, fl, 0, 0, NULL, d)
#define STR(m, k, f, mx, fl, d) FIELD(m, k, MSG_T_STR, f, fl, 0, mx, NULL, d)
#define BYTES(m, k, f, mx, fl, d) FIELD(m, k, MSG_T_BYTES, f, fl, 0, mx, NULL, d)
#define BLOCK(m, k, f, fl, d) FIELD(m, k, MSG_T_BLOCK, f, fl, 0, 0, NULL, d)
#define SUB(m, k, f, t, fl, d)                                                                     \
    FIELD(m, k, MSG_T_SUB, f, fl, offsetof(struct m, f##_set), 0, &t##_desc, d)
#define LIST(m, k, f, t, mx, fl, d)                                                                \
    FIELD(m, k, MSG_T_LIST, f, fl, offsetof(struct m, f##_n), mx, &t##_desc, d)
#define U64S(m, k, f, mx, fl, d)                                                                   \
    FIELD(m, k, MSG_T_U64S, f, fl, offsetof(struct m, f##_n), mx, NULL, d)
#define BLOCKS(m, k, f, mx, fl, d)                                                                 \
    FIELD(m, k, MSG_T_BLOCKS, f, fl, offsetof(struct m, f##_n), mx, NULL, d)
#define END(m)                                                                                     \
    }                                                                                              \
    ;                                                                                              \
    const struct msg_desc m##_desc = {.name = #m,                                                  \
                                      .doc = m##_doc,                                              \
                                      .size = sizeof(struct m),                                    \
                                      .fields = m##_fields,                                        \
                                      .fields_n = sizeof(m##_fields) / sizeof(m##_fields[0])};
#include "messages.def"
#include "messages_undef.h"
// NOLINTEND(bugprone-macro-parentheses)

#define MSG(m, d) &m##_desc,
#define U64(m, k, f, fl, d)
#define I64(m, k, f, fl, d)
#define BOOL(m, k, f, fl, d)
#define STR(m, k, f, mx, fl, d)
#define BYTES(m, k, f, mx, fl, d)
#define BLOCK(m, k, f, fl, d)
#define SUB(m, k, f, t, fl, d)
#define LIST(m, k, f, t, mx, fl, d)
#define U64S(m, k, f, mx, fl, d)
#define BLOCKS(m, k, f, mx, fl, d)
#define END(m)
const struct msg_desc *const msg_all[] = {
#include "messages.def"
};
#include "messages_undef.h"
const size_t msg_all_n = sizeof(msg_all) / sizeof(msg_all[0]);
