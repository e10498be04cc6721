// SPDX-License-Identifier: Apache-2.0
/* A pool of read-only metadata objects, one for each worker that reads at the moment. Any thread.
 */
#ifndef STEADFS_READERS_H
#define STEADFS_READERS_H

#include "meta.h"

#define READERS_MAX 16 /* at least the number of workers */

struct readers;

struct readers *readers_new(const struct meta_options *o);
void readers_free(struct readers *r); /* all must be back */
/* Lends one, opened when none is idle. 0, or meta_open's error with its line in why. */
int readers_get(struct readers *r, struct meta **out, char *why);
void readers_put(struct readers *r, struct meta *m);
#endif
