// SPDX-License-Identifier: Apache-2.0
/* What the files of replication share. [internal]
 *
 * replicate.c         starting and stopping; the thread that follows the metadata server
 * replicate_backlog.c what this server lacks, and what others lack
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
#include "wants.h"

#include <pthread.h>
#include <stdatomic.h>

#define REFRESH_MS 10000
#define LOOK_AFTER_MS 1500 /* what a commit left elsewhere is probably being offered meanwhile */
#define RETRY_MS 1000      /* after a failed call to the metadata server */
#define META_TIMEOUT_MS 20000
#define PEER_TIMEOUT_MS 20000
#define PEER_SLOWEST 64       /* bytes per ms that a put or get may take long for: 64 KiB/s */
#define PEERS_MAX 256         /* m_replicas_ans.servers */
#define OFFER_BLOCKS 256      /* per question */
#define MOVE_BYTES (8u << 20) /* per put or get */
#define PULL_BLOCKS 64        /* per get */
#define FOLLOW_PAGES 8        /* of one namespace before others have their turn */
#define REPORTS_MAX 65536     /* above: found again in the backlog */
#define REPORT_BLOCKS 4096    /* m_stored_req.blocks */
#define PEER_BACKOFF_MAX_MS 30000
#define PEER_REST_MAX_MS 60000
#define CLAIM_SPARE_MS 10000   /* for the answer, and for reading what is put */
#define LATER_MS 2000          /* another server is bringing it */
#define REFUSED_LATER_MS 10000 /* no room there … */
#define FULL_MS 60000          /* no room here */

/* Going through a backlog page by page; zeroed: it begins, now. */
struct walk {
    uint8_t place[64]; /* where it goes on; none: at the newest */
    size_t place_n;
    int64_t at;       /* not before */
    int64_t began;    /* 0: it has not */
    int64_t pause_ms; /* after the last one that found nothing */
    bool found;       /* something, since it began */
    unsigned resets;
};

/* A server of a namespace. */
struct member {
    uint64_t server;
    uint8_t cap[1024];
    size_t cap_n;
    uint64_t lacks; /* blocks, when the table was asked for last */
    bool lacking, leaving;
    struct peer *peer; /* or NULL, if there are too many */
    struct walk pull;  /* what it can give */
    struct walk push;  /* what it lacks */
};

struct group { /* a namespace assigned to this server */
    uint64_t ns, head;
    uint64_t lacks;         /* blocks, when the table was asked for last */
    struct member *members; /* the others */
    size_t members_n;
    bool lacking;       /* this one lacks something */
    bool list_due;      /* its own order may have grown */
    int64_t look_at;    /* when the newest of what it lacks is to be looked at; 0: not */
    int64_t not_before; /* after a failure */
    struct walk own;    /* all that is lacking here */
    size_t turn;        /* of members */
};

struct peer {
    struct replicate *r;
    uint64_t id;
    char url[256], premises[65];
    struct rpc_pins pins; /* of the keys that it may show */
    bool wanted;          /* shares a namespace */
    pthread_t thread;
    pthread_cond_t cond;
    bool poked;
    bool idle;   /* no task for it is due */
    bool silent; /* it gave nothing the last time: nothing is wanted of it until it answers */
    unsigned fails;
    int64_t retry_at;
    int64_t offer_at; /* its thread's: nothing is offered before */
    uint64_t call;    /* under way; 0: none */
    char error[512];
    atomic_ullong sent, received; /* bytes of blocks */
};

enum due_kind { DUE_LIST, DUE_NEWEST, DUE_OWN, DUE_PULL, DUE_PUSH };

/* Something to be done in a namespace. */
struct due {
    enum due_kind what;
    uint64_t ns, server; /* server: DUE_PULL, DUE_PUSH */
    struct walk walk;    /* as it stands */
    size_t limit;
    uint64_t holders[64]; /* DUE_NEWEST */
    size_t holders_n;
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
    size_t turn; /* of groups */
    struct wants *wants;
    int64_t refresh_at, renew_at;
    uint64_t follow_call, report_call, wait_call;
    bool waiting, wait_ended, meta_failed;
    struct m_stored *reports;
    size_t reports_n, reports_cap;
    int64_t full_until; /* nothing is brought here before; 0: there was room */
    bool no_room;       /* … when it was looked at last */
    int64_t rate_at;    /* when the bytes so far are paid for … */
    uint64_t rate_of;   /* … at this rate; 0: none was needed yet */
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
/* Something in the namespace failed: it is left alone for a while. */
void follow_failed(struct replicate *r, uint64_t ns, int err, const char *message);

/* ---- replicate_backlog.c ---- */
/* [locked] What is to be looked at in the namespace now; until: when there may be something. */
bool backlog_due(struct replicate *r, struct group *g, struct due *d, int64_t *until);
void backlog_look(struct replicate *r, const struct due *d);
/* [locked] Something is lacking here that was not. */
void group_lacks(struct group *g);
/* [locked] It answers, or stands elsewhere. */
void backlog_peer_back(struct peer *p);
/* [locked] From the newest on, now. */
void walk_reset(struct walk *w);
/* A page was looked at; next: where it goes on, none: it was the last. */
void walk_on(struct walk *w, struct bytes next, bool found, int64_t now);

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
