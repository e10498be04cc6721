// SPDX-License-Identifier: Apache-2.0
/* What the files of replication share. [internal]
 *
 * replicate.c         starting and stopping; the thread that follows the metadata server
 * replicate_table.c   the table of namespaces and peers that the metadata server gives
 * replicate_peer.c    the thread of one other server: offers, puts, gets
 * replicate_report.c  reports of what arrived; calls; the rate limit; what is measured
 *
 * One lock guards everything below it; it is never held over a call, the storage or the log of
 * tasks. Peers and their threads live until the end; one that no namespace has any more rests. */
#ifndef REPLICATE_INT_H
#define REPLICATE_INT_H

#include "messages.h"
#include "replicate.h"
#include "rpc.h"
#include "tasks.h"

#include <pthread.h>
#include <stdatomic.h>

#define REFRESH_MS 10000
#define LOOK_AFTER_MS 1500 /* what a commit left elsewhere is probably being offered meanwhile */
#define LOOK_AGAIN_MS 3000
#define RETRY_MS 1000 /* after a failed call to the metadata server */
#define META_TIMEOUT_MS 20000
#define PEER_TIMEOUT_MS 20000
#define PEER_SLOWEST 64       /* bytes per ms that a put or get may take long for: 64 KiB/s */
#define PEERS_MAX 256         /* m_replicas_ans.servers */
#define OFFER_BLOCKS 256      /* per question */
#define MOVE_BYTES (8u << 20) /* per put or get */
#define PULL_BLOCKS 64        /* per get */
#define WANTED_MAX 8192       /* blocks to be fetched, in memory */
#define REPORTS_MAX 65536     /* above: found again in the backlog */
#define REPORT_BLOCKS 4096    /* m_stored_req.blocks */
#define PEER_BACKOFF_MAX_MS 30000
#define PEER_REST_MAX_MS 60000
#define LATER_MS 2000          /* another server is bringing it */
#define REFUSED_LATER_MS 10000 /* no room there … */

/* A server of a namespace. */
struct member {
    uint64_t server;
    uint8_t cap[1024];
    size_t cap_n;
    bool lacking, leaving;
};

struct group { /* a namespace assigned to this server */
    uint64_t ns, head;
    struct member *members; /* the others */
    size_t members_n;
    bool lacking;       /* this one lacks something */
    bool list_due;      /* its own order may have grown */
    bool push_due;      /* the backlog of other members is to be looked at */
    int64_t look_at;    /* … and its own, then; 0: not */
    int64_t not_before; /* after a failure */
};

struct peer {
    struct replicate *r;
    uint64_t id;
    char url[256], premises[65];
    bool wanted; /* shares a namespace */
    pthread_t thread;
    pthread_cond_t cond;
    bool poked;
    unsigned fails;
    int64_t retry_at;
    uint64_t call; /* under way; 0: none */
    char error[512];
    atomic_ullong sent, received; /* bytes of blocks */
};

/* A block that this server lacks and others have. */
struct want {
    struct want *next;
    uint64_t ns;
    struct block_id id;
    uint64_t holders[16], tried[16];
    size_t holders_n, tried_n;
    bool busy;
};

struct replicate {
    struct replicate_options o;
    struct tasks *tasks;
    struct inbound *inbound;
    struct rpc *meta, *peers_rpc; /* with this server's credential; without any */
    pthread_t follower, reporter;
    bool follower_runs, reporter_runs;

    pthread_mutex_t lock;
    pthread_cond_t follow_cond, report_cond, rate_cond;
    bool stop;
    struct group *groups; /* by ns, rising */
    size_t groups_n;
    struct peer *peers[PEERS_MAX];
    size_t peers_n;
    struct want *wants, **wants_end;
    size_t wants_n;
    int64_t refresh_at, renew_at;
    uint64_t follow_call, report_call, wait_call;
    bool waiting, wait_ended, meta_failed;
    struct m_stored *reports;
    size_t reports_n, reports_cap;
    int64_t rate_at;  /* when the bytes so far are paid for … */
    uint64_t rate_of; /* … at this rate; 0: none was needed yet */
    atomic_ullong offered, accepted, reported;
};

/* ---- replicate_table.c ---- */
/* Asks for the table and takes it over. */
int table_refresh(struct replicate *r);
/* [locked] */
struct group *table_find(struct replicate *r, uint64_t ns);
struct member *table_member(struct replicate *r, uint64_t ns, uint64_t server);

/* ---- replicate.c ---- */
/* [locked] The follower looks at what is due. */
void follow_poke(struct replicate *r);
void want_free_all(struct replicate *r);

/* ---- replicate_peer.c ---- */
void *peer_main(void *arg);
/* How long it has nothing to do: after a failure until it is tried again, whatever else is due
 * later; else until a task is due (INT64_MAX: none is). */
int64_t peer_rests_until(int64_t retry_at, int64_t next, int64_t now);
/* [locked] */
void peer_poke(struct peer *p);

/* ---- replicate_report.c ---- */
void *report_main(void *arg);
/* One call that can be ended by replicate_stop. slot: where its number is kept, [locked]. The
 * caller frees res->body. */
int call_raw(struct replicate *r, struct rpc *rpc, uint64_t *slot, const struct rpc_call *c,
             struct rpc_result *res);
/* To the metadata server; decodes into ans. message: 512 bytes or NULL. */
int call_meta(struct replicate *r, uint64_t *slot, const char *method,
              const struct msg_desc *req_desc, const void *req, const struct msg_desc *ans_desc,
              void *ans, struct arena *a, char *message);
/* Waits until so many bytes may be moved; false: stopping. */
bool rate_take(struct replicate *r, uint64_t bytes);
/* Waits on the condition until then at the latest; [locked]. */
void wait_until(struct replicate *r, pthread_cond_t *cond, int64_t until_ms);
#endif
