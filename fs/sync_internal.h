// SPDX-License-Identifier: Apache-2.0
/* What the files of the driver share. Reading order: this, sync.c (threads, turns, waiters),
 * sync_call.c, sync_ns.c, sync_session.c, sync_choice.c, sync_journal.c, sync_fresh.c, sync_lock.c,
 * sync_load.c, sync_upload.c, sync_commit.c, sync_fetch.c, sync_status.c.
 *
 * All state here is protected by fs.lock except the inbox (inbox_lock, taken after fs.lock). The
 * driver thread runs turns: events first (answers of calls and of jobs; their functions run without
 * the lock and take it themselves), then, under the lock, each part's step function, which starts
 * what can be started and never blocks; then, unlocked, the done functions of finished waiters.
 */
#ifndef STEADFS_SYNC_INTERNAL_H
#define STEADFS_SYNC_INTERNAL_H

#include <sys/queue.h>

#include "identity.h"
#include "rpc.h"
#include "sync.h"
#include "sync_pace.h"
#include "sync_target.h"

#define SYNC_WORKERS 2                /* threads that read, hash and store large blocks */
#define SYNC_WAITERS_MAX 65536        /* barriers, loads and fetches waited for */
#define TARGETS_MAX 16                /* as in m_commit_req */
#define APPLY_PER_TURN 64             /* records applied while the lock is held once */
#define LOADS_INFLIGHT_MAX 64         /* calls; further needs queue */
#define LOAD_REFUSED_MAX 3            /* then commits of the namespace wait for the load */
#define AHEAD_DIRS 16                 /* directories of which single names were asked for last */
#define DIFFS_INFLIGHT_MAX 4          /* per namespace and server; questions gather meanwhile */
#define PUTS_INFLIGHT_MAX 4           /* per namespace, server and class */
#define PUT_INLINE_BYTES (128u << 10) /* smaller batches are read on the driver thread */
/* in memory for puts; of the background to one server at most as much as that leaves free */
#define PUT_INFLIGHT_BYTES (96u << 20)
#define TRIAL_PERCENT 6 /* of what is put at targets goes to others to see how quick these are */
#define GETS_INFLIGHT_MAX 8
#define RACES_MAX 4  /* further gets, of what was asked of another server that is late */
#define SLOW_MS 5000 /* a server that lost a race is not asked first for so long */
#define GET_BATCH_BLOCKS 32
#define FETCHES_MAX 65536 /* blocks wanted, and those of one request more; then a request fails */
#define PREFETCH_MAX 64   /* … beyond which a prefetch is forgotten */
#define UPLOADS_AHEAD_MAX 65536 /* blocks uploaded before anything is committed */
#define BARRIERS_PER_PLAN 256
#define BARRIER_ALL_MAX 4096
#define QUIET_MS 1000                       /* background sends what has not changed for so long */
#define RESTLESS_MS 5000                    /* … or what keeps changing, so often */
#define CHANGES_PART_BYTES (8u << 20)       /* leaves room for the receipts of 60,000 blocks */
#define RECEIPT_AGE_MS (12 * 3600 * 1000ll) /* a quarter of the servers' grace time */
#define OPS_MAX 4                           /* operations named with one call; more are not */
#define SWEEP_MS 300000      /* between looks for outbox blocks that nothing refers to */
#define SWEEP_PAUSE_MS 50    /* between the slices of one look */
#define SWEEP_FIRST_MS 10000 /* after the start */
#define SWEEP_BLOCKS 256     /* looked at while the lock is held once */

struct sync_event { /* an answer or a finished job, on its way to the driver thread */
    TAILQ_ENTRY(sync_event) link;
    void (*fn)(struct sync *s, struct sync_event *e); /* unlocked; frees e */
};
TAILQ_HEAD(sync_events, sync_event);

/* Operations (an fsync, a batch of background sync) for whom a call is made: their numbers. They
 * name what belongs together in the logs of this mount and of both servers. Zero-initialise. */
struct ops {
    uint64_t v[OPS_MAX];
    size_t n;
};

struct sync_call;
LIST_HEAD(sync_calls, sync_call);

/* One remote call. Freed after fn. */
struct sync_call {
    struct sync_event ev;
    struct sync *s;
    void (*fn)(struct sync *s, struct sync_call *c); /* unlocked, driver thread */
    void *arg;
    struct rpc_result res;
    uint64_t id;                       /* for rpc_cancel */
    uint64_t tag;                      /* the caller's */
    struct ops ops;                    /* of whom it is a part */
    int64_t started;                   /* monotonic ms */
    LIST_ENTRY(sync_call) server_link; /* call_server: in server->calls */
    struct sync_server *server;
    bool expendable; /* cancelled when the server does not even answer a probe */
};

/* Work for a worker thread. */
struct sync_job {
    struct sync_event ev; /* ev.fn: what the driver does when run has returned; frees the job */
    TAILQ_ENTRY(sync_job) job_link;
    void (*run)(struct sync *s, struct sync_job *j); /* unlocked, worker thread */
};
TAILQ_HEAD(sync_jobs, sync_job);

/* Somebody who waits: the first member of barrier, load_wait, fetch_wait. */
struct waiter {
    TAILQ_ENTRY(waiter) link;
    uint64_t id;
    int64_t deadline; /* monotonic ms */
    int timeout_err;  /* given when it passes */
    bool flush;       /* … after outbox and tree were flushed to disk */
    enum { EXPIRY_NONE, EXPIRY_PASSED, EXPIRY_FLUSHING } expiry;
    sync_done done;
    void *arg;
    void (*drop)(struct sync *s, struct waiter *w); /* unlinks it from what it waits for */
};
TAILQ_HEAD(waiters, waiter);

struct finished { /* a done function to call */
    STAILQ_ENTRY(finished) link;
    sync_done done;
    void *arg;
    int err;
};
STAILQ_HEAD(finishes, finished);

struct sync_server {
    uint64_t id;
    char url[256], premises[65];
    struct rpc_pins pins; /* of the keys that it may show */
    bool listed;
    struct backoff backoff; /* fails > 0: left alone until a probe succeeds */
    bool probing;
    struct sync_calls calls; /* under way */
    uint64_t put_bytes;      /* of sync.put_bytes those for it */
    int64_t heard;           /* when it last answered, or the first of them was sent */
    double rtt_ms;
    struct pace pace;
    struct flow up, down;
    int64_t trial_at;   /* it was last given something so that it is measured */
    int64_t trial_read; /* … asked for something */
    int64_t slow_until; /* it lost a race: others are asked first until then */
    char error[512];    /* of the last failure; "" when fine */
};

/* ---- uploads (sync_upload.c) ---- */
enum upload_state {
    UPLOAD_ASK,      /* the question is to be asked */
    UPLOAD_ASKED,    /* … is under way */
    UPLOAD_SEEK,     /* … and so do we: is it there all the same (a link, before a restart)? */
    UPLOAD_SOUGHT,   /* … is being asked */
    UPLOAD_PUT,      /* the target lacks it: to be put */
    UPLOAD_PUTTING,  /* … is under way */
    UPLOAD_PRESENT,  /* the target has it for this namespace */
    UPLOAD_RECEIPT,  /* put; the receipt is held */
    UPLOAD_NOT_HELD, /* not here, but at another assigned server */
    UPLOAD_LOST,     /* neither here nor anywhere */
};
enum upload_class { UPLOAD_BARRIER, UPLOAD_BACKGROUND, UPLOAD_CLASSES };

struct route;
struct upload {               /* one block on its way to one target */
    TAILQ_ENTRY(upload) link; /* in the route's ask, seek or put queue */
    struct upload *chain;     /* hash bucket */
    struct route *route;
    struct block_id id;
    uint32_t len;
    uint64_t op; /* who asked for it first; 0: written ahead */
    uint8_t state, class;
    bool eager;   /* being put while the question is under way */
    bool trial;   /* of one that is no target, to learn how quick it is */
    uint8_t refs; /* calls and jobs under way that refer to it */
    uint8_t *receipt;
    size_t receipt_n;
    int64_t since; /* of the receipt or answer, monotonic ms */
};
TAILQ_HEAD(uploads, upload);

/* What a capability is for. */
enum route_use { ROUTE_READ, ROUTE_WRITE, ROUTE_USES };

/* A namespace at one of its candidates. */
struct route {
    struct sync_ns *ns;
    struct sync_server *server;
    uint64_t priority;
    bool listed;
    bool leaving;           /* to be read from only */
    struct route *via;      /* the server cannot be reached from here: puts go through this one */
    int64_t relay_busy;     /* that one passes on enough already: not before then */
    int64_t relay_after;    /* a batch was not passed on: tried again then */
    uint64_t missing_bytes; /* of the set that was asked about; see choice_at */
    uint64_t put_ahead;     /* … of which were there, uncommitted, when it was asked */
    uint8_t cap[1024];
    size_t cap_n;
    struct uploads seek;
    bool seeking; /* a question about some of them is under way */
    struct uploads ask[UPLOAD_CLASSES], put[UPLOAD_CLASSES];
    unsigned diffs, puts[UPLOAD_CLASSES]; /* in flight */
    int64_t ask_after;                    /* a refused question is asked again then */
    struct backoff refused[ROUTE_USES];   /* what the server does not let this namespace do */
    char error[256];                      /* of the last refusal */
    int64_t over_at;   /* the account has put too much there without a commit; 0: not so */
    uint64_t put_turn; /* s->turns when the newest put for a barrier was started */
};

/* A set of blocks that a namespace's targets must hold. */
struct upload_set {
    struct m_block_ref *ids; /* malloc'd, owned */
    size_t n, pos;           /* those before pos are ready at all targets of generation gen */
    uint64_t gen, op;        /* op: who uploads them */
    int64_t since;           /* first asked about; 0: not yet */
    bool ahead;              /* of a batch that is not planned yet: others may commit parts of it */
};

/* ---- loads (sync_load.c) ---- */
struct load;
TAILQ_HEAD(loads, load);

/* ---- commits (sync_commit.c) ---- */
enum lane_phase {
    LANE_IDLE,
    LANE_UPLOAD, /* a plan waits until its blocks are ready */
    LANE_SENT,
    LANE_PAUSE, /* sent again at `retry_at` */
};
struct lane { /* at most one commit of a namespace is unanswered */
    enum lane_phase phase;
    struct core_plan plan;
    struct upload_set set;
    bool background;
    struct ops ops;  /* the commit's */
    uint64_t op;     /* the batch's that is being uploaded, 0: none is */
    unsigned rounds; /* answers `missing` in a row */
    struct backoff backoff;
    int64_t retry_at;
    uint64_t session;  /* … and not before this one was learnt; 0: whenever */
    unsigned lost;     /* times that a block of it was found to be nowhere … */
    int64_t lost_at;   /* … the last one: upload.since */
    size_t sent_bytes; /* of plan.changes, in earlier parts */
    uint64_t part;
    uint64_t load; /* waiter id of a load that planning needs */
    bool resend;   /* commits from before the start or a lost answer are to be looked at first */
    bool held;     /* the core waits for the journal */
    int64_t not_before; /* planning, after a local failure */
    bool early;         /* planned while the last of its blocks are put … */
    int64_t early_at;   /* … at */
    int64_t early_not_before;
    /* background */
    bool wanted;   /* something may be pending */
    int64_t due;   /* not before; monotonic ms */
    int64_t quiet; /* ns, realtime; of the batch whose blocks are being uploaded; 0: none */
    int64_t last_restless;
    struct upload_set ahead; /* the batch's blocks */
    unsigned ahead_rounds;   /* times it was planned and taken back */
};

struct barrier {
    struct waiter w;
    TAILQ_ENTRY(barrier) ns_link;
    struct sync_ns *ns;
    uint64_t node, op;
    enum barrier_state {
        BARRIER_CHECK,  /* look at the core again */
        BARRIER_UPLOAD, /* its blocks are on their way */
        BARRIER_READY,  /* waits for the lane */
        BARRIER_SENT,   /* part of commit `request` */
        BARRIER_HELD,   /* a conflict is resolved once the journal is applied */
    } state;
    struct upload_set set;
    uint64_t request;
    int64_t again_at; /* HELD: looks again then at the latest */
    bool traced;
    struct all_part *shared; /* those who wait for it as a part of everything, or NULL */
};
TAILQ_HEAD(barriers, barrier);

/* ---- being as new as the server (sync_fresh.c) ---- */
struct fresh_wait;
TAILQ_HEAD(fresh_waits, fresh_wait);

struct sync_ns {
    struct sync *sync;
    uint64_t id;
    char name[256];
    bool listed;   /* in the last session */
    uint64_t role; /* … as what */
    bool watched;  /* in the last long poll */
    struct route *routes[64];
    size_t routes_n;
    uint64_t copies_min;
    uint64_t targets[TARGETS_MAX]; /* in use */
    size_t targets_n;
    uint64_t targets_gen; /* rises when they change */
    int64_t targets_at;   /* last looked at */
    struct target_stay stay;
    bool choosing;     /* it is being asked what each candidate lacks */
    int64_t choice_at; /* when that was answered last; 0: never */
    /* journal */
    uint64_t head; /* newest heard of */
    uint8_t cursor[64];
    size_t cursor_n;
    uint64_t cursor_sjid; /* what the opaque cursor stands behind */
    bool list_wanted, listing;
    uint64_t heard;                 /* counts what was heard of its head */
    uint64_t list_heard, list_head; /* that, and the core's head, when `listing` began */
    bool lost;                      /* its journal at the server is not the one this tree follows */
    bool journal_error;             /* `error` is of reading or applying it: gone when that works */
    bool caught_up;                 /* read to the head known at the session: sending may begin */
    uint64_t session_head, session_floor;
    bool marks; /* list is asked with all marks: the server's journal is another one */
    struct sync_records *records; /* read, not applied */
    struct sync_resync *resync;   /* the journal does not reach back: all is compared */
    uint64_t resync_runs;
    uint64_t list_started, list_done; /* counts, for those who wait for a fresh look */
    struct fresh_waits fresh;         /* in the order of what they wait for */
    struct backoff list_backoff;
    /* loads */
    bool load_urgent; /* commits wait for a load that the moving cursor has refused */
    struct lane lane;
    struct barriers barriers;
    char error[512]; /* newest trouble; "" when the last attempt worked */
};

/* ---- locks against other devices (sync_lock.c) ---- */
struct file_locks;
TAILQ_HEAD(files_locks, file_locks);
LIST_HEAD(files_locked, file_locks);
#define LOCK_BUCKETS 4096 /* power of two */

/* ---- fetches (sync_fetch.c) ---- */
struct fetch_block;
TAILQ_HEAD(fetch_blocks, fetch_block);
struct get;
LIST_HEAD(fetch_gets, get);

struct sync {
    struct fs *fs;
    struct rpc *rpc;
    struct identity identity;
    int64_t (*clock)(void); /* monotonic ms */
    pthread_t driver, workers[SYNC_WORKERS];
    unsigned workers_n;
    bool started, stopping, abandoned; /* abandoned: a drain is to end at once */
    pthread_cond_t changed;            /* with fs.lock: pending work or the journal moved */

    pthread_mutex_t inbox_lock;
    pthread_cond_t job_cond;
    struct sync_events inbox;
    struct sync_jobs jobs;
    uint64_t *cancels;
    size_t cancels_n, cancels_cap;
    bool awake;  /* the inbox is to be looked at */
    bool asleep; /* the driver is in rpc_turn */
    bool inbox_stop;

    struct waiters waiters;
    size_t waiters_n;
    uint64_t next_id, next_op;
    uint64_t run; /* random, of this process */
    struct finishes finished;
    int64_t wake_at; /* of this turn */
    uint64_t turns;

    /* session */
    bool online, session_inflight, had_session, session_wanted;
    uint64_t sessions_asked, sessions_learnt; /* counts; learnt: of those asked */
    int64_t session_at;                       /* next renewal */
    int64_t session_asked_at;
    struct backoff meta_backoff;
    int session_err; /* of the last attempt */
    char session_error[512];
    struct sync_server **servers;
    size_t servers_n;
    struct sync_ns **nss;
    size_t nss_n;
    uint64_t account_version;
    bool waiting; /* the long poll is out */
    uint64_t wait_call;
    int64_t wait_hold; /* the next one is held back until then, */
    bool wait_pause;   /* … in any case (after a failure), or while a commit is under way */

    struct loads loads;
    unsigned loads_inflight;
    struct ahead {
        uint64_t dir;
        unsigned asked, pages; /* names one by one; pages because of them */
    } ahead[AHEAD_DIRS];
    size_t ahead_next;
    struct fill {    /* of what nobody has asked for */
        int64_t due; /* not before; 0: there was no session yet */
        bool done;   /* nothing is unknown, as far as is known */
        bool found;  /* something was loaded since it began with the first namespace */
        size_t ns;   /* where it is: nss[], and the directory */
        uint64_t from;
    } fill;

    struct upload **buckets; /* of all uploads, by route and block */
    size_t buckets_n, uploads_n;
    size_t upload_swept; /* bucket */
    uint64_t put_bytes;  /* in memory for puts */

    struct fetch_block **fetch_buckets;
    struct fetch_blocks fetch_queue;
    size_t fetches_n;
    struct fetch_gets gets; /* under way */
    unsigned gets_inflight, races_inflight, locates_inflight;
    struct pace_budget races; /* what asking twice may cost */
    uint64_t races_n, races_won;
    struct pace_budget trials; /* what measuring block servers that are no targets may cost */
    uint64_t trials_n, left_n; /* that were measured so; targets left for a quicker one */

    /* locks=global */
    struct files_locks locks;    /* those of which only a lock is held come last */
    struct files_locked *locked; /* the same by node */
    uint64_t lock_looks;         /* files looked at for what is to be sent, in all */
    uint64_t lock_run, lock_seq, lock_epoch;
    unsigned lease_ms;   /* as the server last said; 0: not yet */
    int64_t lease_end;   /* of what is held; a clock of sync_lock.c's own */
    int64_t lease_sent;  /* the last request, monotonic ms */
    int64_t lease_again; /* no sign of life before */
    bool lease_asked;    /* one is under way */
    bool lock_circles;   /* the server notices circles of waits */

    unsigned draining; /* callers that wait for everything to be sent */
    struct block_id sweep_after;
    bool sweep_started;
    int64_t sweep_at;
    int flush_err;
    bool flushing; /* outbox and tree are being flushed for barriers that timed out */
    bool checkpointing;
    int64_t checkpoint_after;
};

/* ---- sync.c ---- */
void sync_wake(struct sync *s); /* any thread, locked or not */
void sync_post(struct sync *s, struct sync_event *e);
/* [locked] A new operation's number: no other of this device has it, in no other run either. */
uint64_t op_new(struct sync *s);
void ops_add(struct ops *o, uint64_t op);
/* As in log lines and headers: DEVICE-NUMBER in hexadecimal, with commas between. */
const char *ops_text(const struct sync *s, const struct ops *o, char text[LOG_OP_MAX]);
/* [locked] A line at level debug about a step of these operations. */
void ops_log(struct sync *s, uint64_t ns, uint64_t request, const struct ops *o, const char *fmt,
             ...) __attribute__((format(printf, 5, 6)));
void sync_job_start(struct sync *s, struct sync_job *j);
/* [locked] This turn's sleep ends at `at` at the latest. */
void sync_at(struct sync *s, int64_t at);
/* [locked] Registers / ends a waiter. End: drop, then done(err) after the turn. */
uint64_t waiter_add(struct sync *s, struct waiter *w, unsigned timeout_ms, int timeout_err);
void waiter_end(struct sync *s, struct waiter *w, int err);
/* [locked] One that is one too many: done(err) after the turn. Returns an id as waiter_add does. */
uint64_t waiter_refuse(struct sync *s, sync_done done, void *arg, int err);
/* [locked] Whether anybody waits (retries are then more eager). */
bool sync_awaited(const struct sync *s);
struct sync_call *call_new(struct sync *s, void (*fn)(struct sync *, struct sync_call *),
                           void *arg);
/* Starts a call with an encoded head; bodies as in rpc_call. */
uint64_t call_start(struct sync_call *c, const char *url, const char *method, struct bytes head,
                    const struct bytes *bodies, size_t bodies_n, unsigned timeout_ms);
/* [locked] To a block server; call_server_end takes it out again, [locked] too. */
void call_server(struct sync_call *c, struct sync_server *v, const char *method, struct bytes head,
                 const struct bytes *bodies, size_t bodies_n, unsigned timeout_ms);
void call_server_end(struct sync_call *c);
/* To the metadata server. */
uint64_t call_meta(struct sync_call *c, const char *method, const struct msg_desc *d,
                   const void *msg, unsigned timeout_ms);
/* [locked] How a call to the metadata server went: online or not. Returns c->res.err. */
int meta_result(struct sync *s, struct sync_call *c);
/* Decodes an answer; -EBADMSG is logged. */
int call_decode(struct sync *s, const struct sync_call *c, const struct msg_desc *d, void *msg,
                struct arena *a);
/* [locked] Lets vfs act on effects, moves barriers along, frees them. */
void sync_effects(struct sync *s, struct core_effects *fx);
struct sync_ns *sync_ns_find(struct sync *s, uint64_t ns);
/* The same, made when unknown. */
struct sync_ns *sync_ns_need(struct sync *s, uint64_t ns);
struct sync_server *sync_server_find(struct sync *s, uint64_t id);
struct route *route_find(struct sync_ns *ns, uint64_t server);
/* Block servers that it is assigned to, and whether they are as many as its commits must name. */
size_t ns_candidates(const struct sync_ns *ns);
bool ns_has_candidates(const struct sync_ns *ns);
/* Whether every commit would be refused, as far as the last session tells: no member, the role, no
 * block server. Nothing is uploaded then; what is pending is sent all the same, so that it is
 * refused, and parked with its reason. */
bool ns_refused(const struct sync_ns *ns);
/* How many block servers fewer than the mount's own copies= are assigned, of which the server that
 * takes its commits knows nothing. */
size_t ns_lacks(const struct sync *s, const struct sync_ns *ns);
/* Remembers trouble for people and logs it when it is news. */
void ns_error(struct sync *s, struct sync_ns *ns, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- sync_session.c ---- */
void session_step(struct sync *s);
/* The call to a block server failed or worked. */
void server_failed(struct sync *s, struct sync_server *v, const struct rpc_result *r);
/* [locked] The same of a call with the namespace's capability: that this is refused says nothing of
 * other namespaces there, nor of other uses. */
void route_failed(struct sync *s, struct route *r, enum route_use use,
                  const struct rpc_result *res);
void route_ok(struct route *r, enum route_use use);
/* [locked] Whether it was refused just now; then the driver looks again in time. */
bool route_refused(struct sync *s, const struct route *r, enum route_use use);
/* … with so many bytes, which were so many blocks (0: not counted). */
void server_ok(struct sync *s, struct sync_server *v, double seconds, size_t bytes, size_t blocks);
/* ---- sync_choice.c ---- */
/* Looks at the choice of targets; true if there are as many as needed. Sets ns_error otherwise. */
bool targets_update(struct sync *s, struct sync_ns *ns);
size_t targets_wanted(const struct sync *s, const struct sync_ns *ns);
/* [locked] Gives a candidate that is of one rank with a target, and of which the speed is not known
 * or was long ago, a little of the set: at most TRIAL_PERCENT of what goes to the targets. */
void choice_trial(struct sync *s, struct sync_ns *ns, const struct upload_set *set);
/* [locked] Looks again when a target would be found too slow. */
void choice_step(struct sync *s, struct sync_ns *ns);
/* [locked] The candidate, and what a read costs there. */
struct target_candidate choice_read(struct sync *s, const struct route *r);
/* Those in use that are to be left for a quicker one are no longer `current`. */
void choice_leave(struct target_candidate *v, size_t n);
/* [locked] Whether a block that nobody waits for should be asked of it, to see how quick it is. */
bool choice_read_trial(struct sync *s, const struct route *r, const struct route *instead);
/* Whether it is still being asked what candidates of one rank lack of the set; asks, where targets
 * have to be chosen and that would decide. */
bool choice_pending(struct sync *s, struct sync_ns *ns, const struct upload_set *set);

/* ---- sync_journal.c ---- */
void journal_step(struct sync *s);
/* A session tells of the newest change and its mark. */
void journal_session(struct sync *s, struct sync_ns *ns, uint64_t head, uint64_t mark);
void journal_head(struct sync *s, struct sync_ns *ns, uint64_t head); /* heard of a newer number */
void journal_free(struct sync_ns *ns);
/* Whether records wait for loads to end, or everything for a comparison. */
bool journal_apply_waits(const struct sync_ns *ns);

/* ---- sync_fresh.c ---- */
void fresh_step(struct sync *s);
/* All that was known at the start of `list` number list_done is applied. */
void fresh_applied(struct sync *s, struct sync_ns *ns);

/* ---- sync_lock.c ---- */
void lock_init(struct sync *s);
void lock_step(struct sync *s);
/* Something that was waited for may have been given. */
void lock_news(struct sync *s);
/* After a session: what is held in namespaces that it does not list is lost. */
void lock_members(struct sync *s);
void lock_free(struct sync *s);

/* ---- sync_resync.c ---- */
/* [locked] What all that is known of a namespace is compared with: */
struct resync_with {
    uint64_t at, mark; /* the server's tree as of this SJID, behind which its journal begins; and
                          the journal's mark up to there */
    bool other;        /* its journal is another one behind common: `at` follows from that … */
    uint64_t common, head; /* … and from its newest SJID */
};
/* What core_lost_told tells, in words. */
void resync_lost_text(const struct core_lost *l, char *text, size_t cap);
/* Before a transaction of the core ends that made committed content pending again: its blocks are
 * not dropped from the cache until they are acknowledged anew. */
int resync_keep_blocks(struct sync *s, struct sync_ns *ns);
void resync_start(struct sync *s, struct sync_ns *ns, const struct resync_with *with);
void resync_step(struct sync *s, struct sync_ns *ns);
void resync_free(struct sync_ns *ns);
/* Questions answered so far. */
uint64_t resync_answers(const struct sync_ns *ns);
/* Whether what programs want durable may be sent while the comparison goes on. */
bool resync_lets_send(const struct sync_ns *ns);

/* ---- sync_load.c ---- */
void load_step(struct sync *s);
/* Whether something that somebody waits for is being loaded of the namespace. */
bool loads_awaited(const struct sync *s, const struct sync_ns *ns);
void fill_again(struct sync *s); /* there may be more that is unknown */
void load_free(struct sync *s);

/* ---- sync_upload.c ---- */
void upload_step(struct sync *s);
/* Whether all of the set is ready at all targets of ns; asks for what is not. */
bool upload_ready(struct sync *s, struct sync_ns *ns, struct upload_set *set,
                  enum upload_class class);
/* Adds receipts and not_held of the set to a commit (arrays in the arena). */
void upload_fill(struct sync *s, struct sync_ns *ns, const struct upload_set *set,
                 struct m_commit_req *q, struct arena *a);
/* Whether it lacks nothing but the answers to a few small puts, at servers that answer quickly. */
bool upload_soon(struct sync *s, struct sync_ns *ns, const struct upload_set *set);
/* The server says that the target lacks it, whatever we believed. */
void upload_missing(struct sync *s, struct sync_ns *ns, uint64_t server, const struct block_id *id,
                    bool elsewhere);
/* Committed: forgets the blocks and hands them to the cache. */
void upload_committed(struct sync *s, struct sync_ns *ns, const struct upload_set *set);
/* The targets changed: what only queues elsewhere is forgotten. */
void upload_retarget(struct sync *s, struct sync_ns *ns);
/* A put of it came to nothing: to be put again, if anybody still wants it there. */
void upload_requeue(struct sync *s, struct upload *u);
/* A block for a server that is no target; false: it is on its way there or not here. */
bool upload_trial(struct sync *s, struct route *r, const struct m_block_ref *ref);
void upload_set_free(struct upload_set *set);
/* Forgets uploads whose blocks nothing pending refers to any more; a slice at a time. */
void upload_sweep(struct sync *s);
void upload_free(struct sync *s);
/* The first block of the set that is lost, or NULL. */
const struct upload *upload_lost(struct sync *s, struct sync_ns *ns, const struct upload_set *set);

/* The block server says that the block is there for the route's namespace. */
void upload_linked(struct sync *s, struct route *r, const struct m_block_ref *ref,
                   struct bytes receipt);
/* What was sought is there (a receipt), or not. */
void upload_sought(struct sync *s, struct upload *u, struct bytes receipt, bool elsewhere);
/* Another namespace may have the block: fetches it, and says so with upload_sought. */
void link_borrow(struct sync *s, struct upload *u);

/* ---- sync_link.c ---- */
void seek_step(struct sync *s, struct route *r);

/* ---- sync_put.c ---- */
void put_step(struct sync *s, struct route *r);
/* Puts what is small of v, whose question is being asked. */
void put_eager(struct sync *s, struct route *r, struct upload *const *v, size_t n);
void upload_enqueue_put(struct upload *u, bool first);
/* Ends the large puts under way there. */
void put_abandon(struct sync *s, const struct route *r);
/* Of the blocks on their way how many are at fewer than `want` block servers yet, as far as is
 * known here, and at how many the one is that got least far. */
void upload_copies(struct sync *s, const struct sync_ns *ns, size_t want, size_t *least,
                   uint64_t *blocks);
void upload_receipt(struct sync *s, struct upload *u, struct bytes receipt);
/* The block cannot be read from the outbox. */
void upload_unreadable(struct sync *s, struct upload *u);
/* Since the set was begun so many block servers refused more of what is not committed (ERR_QUOTA)
 * that the rest does not do: the quota does not allow it. */
bool upload_over(const struct sync *s, const struct sync_ns *ns, const struct upload_set *set);
struct upload *upload_find(struct sync *s, struct route *r, const struct block_id *id);

/* ---- sync_barrier.c ---- */
void barrier_step(struct sync *s);
/* A1, A2, A3: a changed node, the ids of its new blocks, its namespace. */
void trace_node(struct sync *s, uint64_t ns, uint64_t node, const struct m_block_ref *refs,
                size_t n);
void barriers_recheck(struct sync_ns *ns);
/* The request has its outcome; covered: it committed all that its barriers wait for. */
void barriers_settle(struct sync *s, struct sync_ns *ns, uint64_t request, bool covered);
/* The local content, or the directory, is `other` now: a conflict's copy, a merge. */
void barriers_follow(struct sync_ns *ns, uint64_t node, uint64_t other);
/* Nodes of ready barriers, BARRIERS_PER_PLAN at most, each once. */
size_t barriers_ready(struct sync_ns *ns, uint64_t *nodes);
/* Likewise of those that are ready as soon as small puts under way are answered. */
size_t barriers_soon(struct sync *s, struct sync_ns *ns, uint64_t *nodes);
/* The barriers of these nodes that are in state `from` are part of the request, or (0) look again
 * soon. */
void barriers_planned(struct sync *s, struct sync_ns *ns, const uint64_t *nodes, size_t n,
                      enum barrier_state from, uint64_t request);
void barriers_failed(struct sync *s, struct sync_ns *ns, uint64_t node, int err);

/* ---- sync_commit.c ---- */
void lane_step(struct sync *s);
void lane_free(struct sync_ns *ns);
void commit_effects(struct sync *s, const struct core_effects *fx);
void journal_moved(struct sync *s, struct sync_ns *ns); /* held plans and barriers look again */

/* ---- sync_fetch.c ---- */
void fetch_step(struct sync *s);
void fetch_free(struct sync *s);

/* ---- sync_status.c ---- */
/* [locked] Sums over all namespaces, or one; bytes include dirty data in memory. */
void sync_pending(struct sync *s, uint64_t only_ns, uint64_t *files, uint64_t *bytes);
/* [locked] Changes that are parked, over all namespaces or in one; *held: that wait for them. */
uint64_t sync_parked(struct sync *s, uint64_t only_ns, uint64_t *held);
#endif
