// SPDX-License-Identifier: Apache-2.0
/* What the block server does with a request: put, get, have, offer. */
#ifndef SERVICE_H
#define SERVICE_H

#include "access.h"
#include "beat.h"
#include "collect.h"
#include "confirm.h"
#include "httpd.h"
#include "replicate.h"
#include "scrub.h"
#include "storage.h"

#include <stdatomic.h>

/* Puts that are passed on at a time: each keeps a worker waiting for the other server. */
#define SERVICE_RELAYS_MAX 8
#define SERVICE_WORKERS (4 + SERVICE_RELAYS_MAX)

struct service {
    struct storage *storage;
    struct access access;
    struct log *log;
    struct beat *beat;                   /* told of losses; NULL: nobody is */
    struct scrub *_Atomic scrub;         /* told what cannot be read; may be NULL */
    struct collect *collect;             /* told what is missing, for the metrics; may be NULL */
    struct uncommitted *uncommitted;     /* NULL: what is not committed has no bound */
    struct confirm *_Atomic confirm;     /* asks what is; may be NULL */
    struct replicate *_Atomic replicate; /* NULL: offers are refused */
    atomic_int relays;                   /* puts being passed on */
    atomic_uint_least64_t put_bytes, get_bytes, corrupt, unreadable, refused, put_failed;
};

/* Adds the routes; httpd's ctx must be the service. */
void service_routes(struct httpd *h);
/* A damaged block was found; set aside unless err. arg is the service; any thread. */
void service_lost(void *arg, const struct block_id *id, int err);
/* A block cannot be read now. Likewise. */
void service_doubt(void *arg, const struct block_id *id);
/* A block that is recorded here for the namespace is not here. Likewise. */
void service_missing(void *arg, uint64_t ns, const struct block_id *id);
/* httpd_options.metrics */
void service_metrics(void *ctx, struct buf *out);
/* httpd_options.vouch; ctx: the service. */
unsigned service_vouch(void *ctx, const struct httpd_early *e, uint64_t *who, char *why);
#endif
