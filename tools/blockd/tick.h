// SPDX-License-Identifier: Apache-2.0
/* The highest number that the metadata server told with its answers to heartbeats: how it notices
 * that its database was put back to an older copy (metad/restored.h). DIR/tick has a line of two
 * words: whose it is (the first 16 hexadecimal digits of the SHA-256 of this server's credential),
 * and the number. It is written once a minute, and before anything is done that an older database
 * would not know of: blocks removed, losses told. Any thread. */
#ifndef TICK_H
#define TICK_H

#include "trace.h"

#include <stdint.h>

struct tick;

/* dir NULL: kept in memory only. A file that is not there, or is somebody else's, says nothing. */
struct tick *tick_new(const char *dir, const char *credential, struct log *log);
/* What the next heartbeat says; never 0. */
uint64_t tick_get(struct tick *t);
/* An answer told it; 0: it told none. */
void tick_heard(struct tick *t, uint64_t tick);
/* What was heard is on disk when this returns 0. -errno; logged. */
int tick_keep(struct tick *t);
void tick_free(struct tick *t); /* keeps it */

#endif
