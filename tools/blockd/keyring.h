// SPDX-License-Identifier: Apache-2.0
/* The keys that capabilities for this block server are checked with, and receipts are signed with.
 *
 * There is one, from joining, until the metadata server gives others; these are kept in
 * DIR/identity.keys (mode 0600), lines ID HEX. Any thread. */
#ifndef KEYRING_H
#define KEYRING_H

#include "token.h"

#define KEYRING_MAX 8 /* m_beat_ans.keys */

struct keyring;

/* dir NULL: nothing is kept. first: the key that there is where the directory has none. 0, or
 * -EBADMSG: the file is damaged, or another error of reading it. */
int keyring_open(struct keyring **out, const char *dir, const struct token_key *first);
void keyring_free(struct keyring *k);
/* These and no others, from now on; durable before that. 0 or -errno: all is as before. */
int keyring_set(struct keyring *k, const struct m_key *v, size_t n);
/* Their ids into out; how many. */
size_t keyring_ids(struct keyring *k, uint64_t out[KEYRING_MAX]);
/* The one with the highest id. */
struct token_key keyring_newest(struct keyring *k);
/* As capability_open, with the key that the token names. -EKEYREJECTED: it is none of them. */
int keyring_check(struct keyring *k, struct m_capability *c, struct bytes token, struct arena *a);
#endif
