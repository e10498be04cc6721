// SPDX-License-Identifier: Apache-2.0
/* Where a server listens, and where it is reached, as people write them. */
#ifndef PLACE_H
#define PLACE_H

#include <stdbool.h>
#include <stdint.h>

/* In pieces. */
struct place {
    char host[256];
    uint16_t port;
};

/* "HOST:PORT", "[ADDR]:PORT". False: it is neither. */
bool place_parse(const char *text, struct place *p);
/* Whether it can be bound now; port 0 becomes a free one. 0 or -errno with a line in err (512). */
int place_try(struct place *p, char *err);
/* prefix and the two as place_parse reads them. */
void place_text(const struct place *p, const char *prefix, char out[300]);
/* The host of a URL. False: it is none. */
bool place_of_url(const char *url, char out[256]);
#endif
