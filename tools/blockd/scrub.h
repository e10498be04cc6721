// SPDX-License-Identifier: Apache-2.0
/* Scrubbing: a thread that reads all that is stored, at a set pace, and sets aside what is damaged,
 * before anybody needs it. A pass goes through the blocks in the order of their ids; the place is
 * kept in DIR/scrub, so that a restart goes on there. */
#ifndef SCRUB_H
#define SCRUB_H

#include "storage.h"
#include "trace.h"

struct scrub;

struct scrub_options {
    const char *dir;
    struct storage *storage;
    struct log *log;
    uint64_t rate;       /* bytes a second; 0: nothing is read */
    unsigned interval_s; /* from the begin of a pass to that of the next, at least */
    unsigned again_ms;   /* until a block that could not be read is looked at again; 0: 5 min */
    /* A damaged block was found, and set aside unless err. On the scrub's thread. */
    void (*lost)(void *arg, const struct block_id *id, int err);
    void *arg;
};

/* What is pointed to must outlive it. 0 or -errno. */
int scrub_start(struct scrub **out, const struct scrub_options *o);
/* Begins a pass at once, or after the one that is under way. What it reads is judged by again: a
 * scrub waits while the storage's trust is broken. Any thread; s may be NULL, as below. */
void scrub_now(struct scrub *s);
/* The block cannot be read now: it is looked at again, until it can, or counts as lost. Any thread.
 */
void scrub_doubt(struct scrub *s, const struct block_id *id);
/* Appends Prometheus text. */
void scrub_print(struct scrub *s, struct buf *out);
void scrub_stop(struct scrub *s);
#endif
