// SPDX-License-Identifier: Apache-2.0
#ifndef UNITS_H
#define UNITS_H

#include "steadfs/types.h"

/* "500", "20M": a number of bytes, K, M, G and T for 1024 and so on. False: it is none, or too
 * large. */
bool parse_bytes(const char *text, uint64_t *out);
/* "3600", "7d": seconds; m, h and d. */
bool parse_seconds(const char *text, unsigned *out);
#endif
