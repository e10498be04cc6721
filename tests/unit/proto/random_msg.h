// SPDX-License-Identifier: Apache-2.0
/* Messages with random contents, and their comparison, driven by the field tables. */
#ifndef RANDOM_MSG_H
#define RANDOM_MSG_H

#include "messages.h"

/* Next number of the sequence that *state began (splitmix64). */
uint64_t random_next(uint64_t *state);
/* Fills *msg (zeroed) with random values within the limits; what it points to lies in a. */
void random_msg(const struct msg_desc *d, void *msg, uint64_t *state, struct arena *a);
/* Same values in every field, at every depth. */
bool msg_same(const struct msg_desc *d, const void *a, const void *b);
#endif
