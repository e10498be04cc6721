// SPDX-License-Identifier: Apache-2.0
/* A check that an administrator ordered (steadfs admin fsck; metad/audit.h): a thread that looks
 * whether all that is stored is there, or reads it, and then compares it with what is recorded. The
 * heartbeat brings the order and takes along how far it is. */
#ifndef CHECK_H
#define CHECK_H

#include "collect.h"
#include "identity.h"
#include "storage.h"

struct check;

struct check_options {
    const struct identity *identity;
    struct storage *storage;
    struct collect *collect; /* knows how old garbage must be; may be NULL */
    struct log *log;
    /* A damaged block was found, and set aside unless err. On the check's thread, as is told. */
    void (*lost)(void *arg, const struct block_id *id, int err);
    void (*told)(void *arg); /* the check is done: the metadata server is to know */
    void *arg;
};

/* What is pointed to must outlive it. It takes orders from now on, and carries them out once it is
 * started. 0 or -errno. */
int check_new(struct check **out, const struct check_options *o);
int check_start(struct check *c);
/* The metadata server was heard: it orders this check, or (order 0) none. One that is done is not
 * begun again. Any thread; c may be NULL, as below. */
void check_heard(struct check *c, uint64_t order, bool read, bool mend);
/* How far the check is that was ordered last; false: there is none to tell of. */
bool check_report(struct check *c, struct m_check *out);
/* Ends the thread; then free. */
void check_stop(struct check *c);
void check_free(struct check *c);
#endif
