// SPDX-License-Identifier: Apache-2.0
/* The thread that asks the metadata server which of the blocks that clients have put here a commit
 * has come for: only those that are not known to be committed, page by page. Soon where an account
 * comes near to its bound or is new (uncommitted.h), else every ten seconds, and never for more
 * than a part of its time; it rests while there are none. Of whoever was
 * refused it names what he put a while ago: that is garbage then, unless a commit has come for it.
 */
#ifndef CONFIRM_H
#define CONFIRM_H

#include "collect.h"
#include "identity.h"
#include "storage.h"
#include "trace.h"
#include "uncommitted.h"

#define CONFIRM_SOON_MS 1000
#define CONFIRM_PASS_MS 10000

struct confirm;

struct confirm_options {
    const struct identity *identity;
    struct storage *storage;
    struct uncommitted *uncommitted;
    struct collect *collect; /* knows the grace time, removes what goes; may be NULL */
    struct log *log;
};

/* What is pointed to must outlive it. 0 or -errno. */
int confirm_start(struct confirm **out, const struct confirm_options *o);
/* Something was put. Any thread; c may be NULL, as below. Wakes nobody but who rests. */
void confirm_look(struct confirm *c);
/* Some of it is to be asked about soon. */
void confirm_soon(struct confirm *c);
void confirm_stop(struct confirm *c);
#endif
