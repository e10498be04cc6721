// SPDX-License-Identifier: Apache-2.0
/* Scripted servers and a core of few words, for tests of the driver: a test sees each remote call,
 * decides its answer and its time, and knows what the core was told. The core here knows nodes with
 * one pending block each; its cursor moves with commits and records. */
#ifndef STEADFS_TESTS_SYNC_WORLD_H
#define STEADFS_TESTS_SYNC_WORLD_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc.h"
#include "sync.h"
#include "sync_internal.h"

#define NS 1
#define WAIT_MS 10000

int64_t now_ms(void);
/* ---- waiting ----
 * All that the driver does it does in turns; a test looks again whenever one has ended. */
struct turns {
    uint64_t seen; /* that had ended before the last look */
    int64_t end;   /* of patience, ms */
};
struct turns turns_begin(void);
/* Until another one has ended; fails the test, with `what`, when there is no more patience. */
void turns_next(struct turns *t, const char *what);
/* A loop: what follows is done after each turn until the condition holds. */
#define UNTIL(condition)                                                                           \
    for (struct turns turns_ = turns_begin(); !(condition); turns_next(&turns_, #condition))
#define WAIT_FOR(condition)                                                                        \
    UNTIL (condition)                                                                              \
        ;
/* The same for what comes with time: after each look, when all is done that can be, the driver's
 * clock goes on a little. */
#define LATER_MS 50
#define UNTIL_LATER(condition)                                                                     \
    for (unsigned looks_ = later_begin(); !(condition); later_next(&looks_, #condition))
unsigned later_begin(void);
void later_next(unsigned *looks, const char *what);
/* All that was begun is done, as far as it can be: both workers and the driver have nothing left.
 */
void settle(void);

/* ---- the network ---- */
#define CALLS_MAX 512
struct fake_call {
    uint64_t id;
    char url[64], method[16];
    unsigned timeout_ms;
    struct buf body;
    rpc_done done;
    void *arg;
    bool open;
};
extern struct fake_call calls[CALLS_MAX]; /* under net_lock, as calls_n */
extern size_t calls_n;
extern pthread_mutex_t net_lock;
/* The oldest open call of the method, or NULL. */
struct fake_call *call_open(const char *method);
struct fake_call *call_wait(const char *method);
struct fake_call *call_later(const char *method);
/* How many there were. */
size_t calls_of(const char *method);
void call_end(struct fake_call *c, struct rpc_result *r);
void answer(struct fake_call *c, const struct msg_desc *d, const void *msg);
void answer_error(struct fake_call *c, int err);
/* The diff's answer: all that it asks about is missing. */
void answer_diff_missing(struct fake_call *c, uint64_t target); /* 0: whichever was asked of */
/* Receipts for all that is put; checks that the bytes are those of the ids. */
size_t answer_put(struct fake_call *c, const char *receipt);
/* The server finds that the bytes are not the block's. */
void answer_put_wrong(struct fake_call *c, const struct block_id *id);
struct m_commit_req commit_of(struct fake_call *c, struct arena *a);
void answer_committed(struct fake_call *c, uint64_t sjid);

/* ---- the block store ---- */
#define BLOCKS_MAX 1024
extern struct fake_block {
    struct block_id id;
    uint8_t data[64];
    uint32_t len;
    bool here, synced;
} store[BLOCKS_MAX];
extern size_t store_n, flushes;
extern pthread_mutex_t store_lock;
size_t store_find(const struct block_id *id);
struct block_id store_add(const char *text, bool here);
/* As many bytes, the text's first. */
struct block_id store_long(const char *text, uint32_t len, bool here);

/* ---- the core and its tree ---- */
#define NODES_MAX 512
extern struct fake_node {
    uint64_t node, sent; /* sent: request */
    struct block_id id;
    uint32_t len;
    bool dirty, unsure, conflict, parked, held;
} nodes[NODES_MAX];
extern bool nodes_crowded; /* the first is all of one list of what is pending: there is no room for
                              others */
extern size_t nodes_n;
extern bool tree_unreadable;
extern _Atomic uint64_t cursor, need_answers, need_refusals;
extern _Atomic bool core_other;       /* the journal is said to be another one */
#define MARK_STRANGE 13               /* of a record that is not the one that had its number */
extern _Atomic uint64_t core_head;    /* what it has heard of, if that is more than the cursor */
extern _Atomic unsigned journal_ends; /* how often it was told so */
extern bool background_ok, log_long;
/* A checkpoint does not end before it is false again. */
void log_hold(bool hold);
extern _Atomic unsigned files_missing;
extern _Atomic unsigned comparisons, open_requests, answers_not_taken, pasts_forgotten;
extern int
    answers_not_taken_in; /* dirty data that cannot be put on disk before an answer: so often */
extern _Atomic unsigned rest_pages; /* that a directory has left */
#define UNKNOWN_DIR 77
extern _Atomic uint64_t disk_free;                /* bytes, under the state directory */
extern _Atomic unsigned unknown_pages;            /* that nobody asks for */
extern int checkpoints, checkpoint_ends, damaged; /* how often */
extern _Atomic unsigned locks_lost;
extern const struct m_commit_ans *announced; /* to who has dirty data */
void core_begin_anew(void);
void node_add(uint64_t node, const char *text);
void node_long(uint64_t node, const char *text, uint32_t len);
size_t node_find(uint64_t node);

/* ---- one driver ---- */
extern struct fs fs;
/* What sessions tell. */
extern enum role session_role;
extern bool equal_ranks; /* of the two candidates */
extern bool onsite;      /* the namespace stays at hq, though it has a candidate elsewhere */
extern size_t session_candidates, session_copies;
extern bool session_second; /* namespace 2, at both; then NS is in the cloud alone */
int setup(void **state);
int teardown(void **state);
/* Candidates: 11 on hq first, 12 in the cloud. */
void answer_session(struct fake_call *c);
/* The driver's clock, which goes on by itself, too; it goes on by so much, and the driver looks. */
int64_t driver_ms(void);
void time_passes(unsigned ms);
/* The first session is answered. */
void start(void);
struct result {
    int err, calls;
};
#define CALLED(r) (__atomic_load_n(&(r).calls, __ATOMIC_SEQ_CST) > 0)
void result_done(void *arg, int err);
uint64_t barrier(uint64_t node, struct result *r);

/* ---- world_calls.c ---- */
void race_percent(unsigned n); /* the driver runs already, and looks at it */
struct fake_call *call_wait_at(const char *method, const char *url);
struct fake_call *call_later_at(const char *method, const char *url);
/* text NULL: it is not there */
void answer_get(struct fake_call *c, const struct block_id *id, const char *text);
/* Whether the status says it of the namespace's key; NULL: null. */
bool status_says(const char *key, const char *text);
#endif
