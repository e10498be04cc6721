// SPDX-License-Identifier: Apache-2.0
/* Replication: this server gives what it has to the other servers of its namespaces, and gets what
 * it lacks. README.md tells how; proto/PROTOCOL.md has the messages.
 *
 * Threads of its own: one that follows the metadata server, one that reports what arrived, one for
 * each other server. */
#ifndef REPLICATE_H
#define REPLICATE_H

#include "checked.h"
#include "identity.h"
#include "inbound.h"
#include "storage.h"
#include "units.h"

struct replicate;

struct replicate_options {
    const char *dir; /* for the log of tasks */
    const struct identity *identity;
    struct storage *storage;
    struct log *log;
    struct rate_plan rate; /* for other servers, both directions together; zeroed: no limit */
    /* The hour of the day, and how long it lasts from now on; NULL: by this machine's clock. */
    unsigned (*hour)(int64_t *left_ms);
    void (*woken)(void *arg); /* somebody gave the metadata server a command; may be NULL */
    void *arg;
    struct checked_told told; /* what damage giving blocks to others finds */
    unsigned refresh_ms;      /* how often the table of namespaces is asked for; 0: 10 s */
    unsigned full_ms; /* nothing is brought here for so long after there was no room; 0: 60 s */
};

#define REPLICATE_ROOM (256u << 20) /* free bytes that replication leaves to clients */

/* What is pointed to must outlive it. 0 or -errno with a line in err (512 bytes). */
int replicate_start(struct replicate **out, const struct replicate_options *o, char *err);
void replicate_stop(struct replicate *r);
/* The blocks are durable here for the namespace, brought by another server: to be reported. Any
 * thread; r may be NULL. */
void replicate_arrived(struct replicate *r, uint64_t ns, const struct block_id *id, uint64_t len);
/* Something that other servers may have was lost here: look for it soon. Any thread; may be NULL.
 */
void replicate_look(struct replicate *r);
/* Passes a framed put on to another server of the namespace. 0 or -errno, in res too; -ENOENT: that
 * is none. The caller frees res->body. Any thread, which it keeps for 20 s and a
 * second for every 64 KiB at most; r may be NULL.
 */
struct rpc_result;
int replicate_relay(struct replicate *r, uint64_t ns, uint64_t server, struct bytes head,
                    struct bytes raw, struct rpc_result *res);
/* NULL where r is. */
struct inbound *replicate_inbound(struct replicate *r);
/* For how long what is to be brought, so many bytes in all, is claimed: longer than the first put
 * or get of it may take; those that follow renew it. */
int64_t replicate_claim_ms(uint64_t bytes);
/* Whether there is room here for what others bring. Any thread; r may be NULL. */
bool replicate_has_room(struct replicate *r);
/* There was none: nothing is fetched or accepted for a while. Likewise. */
void replicate_no_room(struct replicate *r);
/* Appends Prometheus text. */
void replicate_print(struct replicate *r, struct buf *out);
#endif
