// SPDX-License-Identifier: Apache-2.0
/* Who may do what here: capabilities, judged without asking the metadata server. */
#ifndef ACCESS_H
#define ACCESS_H

#include "feed.h"
#include "keyring.h"

#define ACCESS_GRACE_MS (24 * 3600 * 1000ll) /* the default of grace_ms */

struct access {
    uint64_t server; /* this one's id */
    struct keyring *keys;
    struct feed *feed;
    int64_t grace_ms; /* capabilities are good so long past their end while the metadata server
                         cannot be reached */
};

/* Whether the token gives `right` (RIGHT_ bits; 0: any) on the namespace at this server. 0 or an
 * enum error_code, then with a line for people in why (128 bytes): ERR_UNAUTHENTICATED where a
 * fresh capability may help, ERR_FORBIDDEN where none will. */
unsigned access_check(const struct access *x, struct bytes token, uint64_t ns, uint64_t right,
                      int64_t mono, int64_t wall, char *why);
/* A number for whoever a checked token was issued to, no two's; 0: it is not genuine. */
uint64_t access_sender(const struct access *x, struct bytes token);
/* The account of the device that a checked token was issued to; 0: there is none. */
uint64_t access_account(const struct access *x, struct bytes token);
/* The block server that a checked token was issued to, 0: a device. */
uint64_t access_peer(const struct access *x, struct bytes token);
#endif
