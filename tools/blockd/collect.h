// SPDX-License-Identifier: Apache-2.0
/* Garbage collection: a thread that asks the metadata server which blocks are to be removed,
 * removes them, and tells; and compares what is here with what is recorded. metad/gc.c has the
 * rules; here it matters that the generation is raised before the question, and that an answer is
 * not acted on long after it was given. */
#ifndef COLLECT_H
#define COLLECT_H

#include "identity.h"
#include "storage.h"
#include "tick.h"

#include <stdatomic.h>

struct collect;

struct collect_options {
    const char
        *dir; /* `compared`: when all was compared last, and is to be again; NULL: not kept */
    const struct identity *identity;
    struct storage *storage;
    struct tick *tick;
    struct log *log;
    void (*found)(void *arg); /* blocks that are to be brought here; may be NULL */
    void *arg;
};

/* What is pointed to must outlive it. 0 or -errno. */
int collect_start(struct collect **out, const struct collect_options *o);
/* The metadata server was heard: there is something to remove, or not; the grace time. Any thread;
 * c may be NULL, as below. */
void collect_heard(struct collect *c, bool something, uint64_t grace_ms);
/* The storage gets another incarnation, between rounds: what was ordered under the old one is
 * carried out or forgotten by then. After the next answer all is compared. 0 or -errno. */
int collect_renew(struct collect *c);
/* Somebody was sent here for the block, which is not here for the namespace. Any thread. */
void collect_missing(struct collect *c, uint64_t ns, const struct block_id *id);
/* Something was declared to be garbage: it is asked for at once. */
void collect_due(struct collect *c);
/* The grace time; 0: not heard yet. */
uint64_t collect_grace_ms(struct collect *c);
/* Compares all that is here with what is recorded, at once. */
void collect_compare(struct collect *c);
/* What was put before this generation is old enough to be garbage: a pass began with it the grace
 * time ago or longer. 0: there was none. */
uint64_t collect_before(struct collect *c);
/* Appends Prometheus text. */
void collect_print(struct collect *c, struct buf *out);
void collect_stop(struct collect *c);
#endif
