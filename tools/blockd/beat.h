// SPDX-License-Identifier: Apache-2.0
/* The heartbeat: a thread that reports this block server to the metadata server every few seconds
 * keeps the feed fresh, and tells which blocks were lost. Fails softly: while nobody answers the
 * server goes on serving. */
#ifndef BEAT_H
#define BEAT_H

#include "check.h"
#include "collect.h"
#include "feed.h"
#include "identity.h"
#include "keyring.h"
#include "rekey.h"
#include "storage.h"
#include "tick.h"

struct beat;

struct beat_options {
    const char *dir; /* `revoked` (devices) and `taken-back` (capabilities) are kept there */
    const char *url; /* where clients reach this server */
    const struct identity *identity;
    struct storage *storage;
    struct keyring *keys;
    struct feed *feed;
    struct collect *collect; /* told when there is something to remove; may be NULL */
    struct tick *tick;
    struct check *check; /* told what was ordered, and tells; may be NULL */
    rekey_show show;     /* another key, when one was ordered; NULL: none ever is */
    void *show_arg;
    struct log *log;
    unsigned every_ms; /* 0: 5000 */
};

/* What is pointed to must outlive it. The feed begins with the revocations kept in dir. 0 or
 * -errno. */
int beat_start(struct beat **out, const struct beat_options *o);
/* Reports at once: a block was lost, or there may be news. Any thread; b may be NULL. */
void beat_now(struct beat *b);
void beat_stop(struct beat *b);
#endif
