// SPDX-License-Identifier: Apache-2.0
/* A pool of read-only metadata objects, one for each worker that reads at the moment. Any thread.
 */
#ifndef STEADFS_READERS_H
#define STEADFS_READERS_H

#include "meta.h"

#define READERS_QUICK_US 3000 /* an answer that took longer waited for the disk, or its turn */
#define READERS_SLOW_FOR_US 1000000
#define READERS_MAX 16 /* at least the number of workers */

struct readers;

struct readers *readers_new(const struct meta_options *o);
void readers_free(struct readers *r); /* all must be back */
/* Lends one, opened when none is idle. 0, or meta_open's error with its line in why. */
int readers_get(struct readers *r, struct meta **out, char *why);
void readers_put(struct readers *r, struct meta *m);
/* One that need not be opened, for a thread that others wait for; NULL: there is none, or the last
 * answer so got was slow and the disk may be read again: let a worker do it. One thread. */
struct meta *readers_get_quick(struct readers *r, int64_t now_us);
/* How long that took (monotonic clock). */
void readers_was_quick(struct readers *r, int64_t began_us, int64_t now_us);
#endif
