// SPDX-License-Identifier: Apache-2.0
/* A simulated installation: one metadata server (its real commit code on a simulated disk), a block
 * server that never fails, and clients, each with a real tree and the real sync core. Everything
 * runs in one thread and draws from one seed, so that a seed is a run.
 *
 * Reading order: simvfs.h (disks), this, ledger.c (what was written), server.c, client.c (the
 * driver in small), lane.c (its commits), program.c (what programs do), verify.c (what must hold),
 * run.c (the scheduler), main.c (seeds, shrinking).
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "blockid.h"
#include "core.h"
#include "meta.h"
#include "rng.h"
#include "simvfs.h"
#include "tree.h"

#define CLIENTS_MAX 4
#define CALLS_MAX 16     /* outstanding per client */
#define PACKETS_MAX 256  /* in the network */
#define HANDLES_MAX 4    /* open files per client */
#define BARRIERS_MAX 3   /* fsyncs that wait, per client */
#define WRITES_MAX 4096  /* blocks of one run */
#define BLOCK_LEN_MAX 64 /* bytes; one bit each in a mask */
#define LOG_LINES 4000
#define UNIT 8 /* offsets and lengths are multiples of it */

struct sim;

/* ---- what was written (ledger.c) ----------------------------------------------------------- */
struct mark { /* bytes of a block */
    uint32_t write;
    uint64_t mask;
};
struct marks { /* zero-initialise; owns v */
    struct mark *v;
    size_t n, cap;
};
struct ledger {
    struct {
        struct block_id id;
        unsigned client, len;
        uint64_t node;      /* written into */
        uint64_t live;      /* bytes that must be found at the end */
        uint64_t committed; /* bytes that some record of the journal carried */
        uint64_t reachable; /* bytes found by the last look at the server's tree */
    } w[WRITES_MAX];
    uint32_t n;
    uint32_t slot[2 * WRITES_MAX]; /* index + 1 by id */
    uint64_t weak[256];
    size_t weak_n;
};
void ledger_reset(struct ledger *l);
/* A new block of len bytes, unlike any other; -1 when the run has too many. */
int ledger_write(struct ledger *l, uint64_t seed, unsigned client, uint64_t node, unsigned len,
                 struct block_id *id);
/* Whether the block was made here; len is its length. */
bool ledger_find(const struct ledger *l, const struct block_id *id, uint32_t *write);
void marks_add(struct ledger *l, struct marks *m, const struct m_extent *v, size_t n);
void marks_free(struct marks *m);
/* A program did away with them, knowing them. */
void ledger_consume(struct ledger *l, const struct marks *m);
/* They have a name again. */
void ledger_revive(struct ledger *l, const struct marks *m);
/* A record carried these extents. */
void ledger_committed(struct ledger *l, const struct m_extent *v, size_t n);
/* Power loss at a client: what never reached the journal need not be found. */
void ledger_power_lost(struct ledger *l, unsigned client);
/* A file of several names lost one: somebody else may take the others without knowing its content.
 */
void ledger_weaken(struct ledger *l, uint64_t node);
bool ledger_weak(const struct ledger *l, uint64_t node);

/* ---- the server (server.c) ------------------------------------------------------------------ */
struct server {
    struct simvfs *disk;
    struct meta *meta;
    struct meta_caller who[CLIENTS_MAX];
    uint64_t device[CLIENTS_MAX];
    struct token_key key;
    uint64_t id, ns;
    uint64_t seen;           /* journal followed up to here: all of it was acknowledged */
    uint64_t facts[1 << 13]; /* hashes of the nodes and entries that its records brought */
};
/* The installation every run begins with: accounts, devices, a block server. Made once. */
struct installation;
struct installation *installation_new(unsigned clients);
void installation_free(struct installation *i);
int server_start(struct sim *s, const struct installation *i);
void server_stop(struct server *v);
/* One request, executed. 0 and the answer's body, or an enum error_code; -1: the server crashed in
 * it. */
int server_call(struct sim *s, unsigned client, const char *method, struct bytes body,
                struct buf *answer);
void server_crash(struct sim *s);
/* Follows the journal: what is in it must stay. */
void server_follow(struct sim *s);
uint64_t server_head(struct sim *s);
/* Whether a record brought the entry (name.n 0: the node). */
bool server_told(const struct sim *s, uint64_t parent, struct bytes name, uint64_t node);

/* ---- the network ----------------------------------------------------------------------------- */
struct packet {
    bool answer;
    unsigned client;
    uint64_t epoch, call;
    const char *method;
    struct buf body;
    int status; /* of an answer: 0, an enum error_code, -1: none came */
};

/* ---- clients (client.c, lane.c) -----------------------------------------------------------------
 */
enum call_kind { CALL_FREE, CALL_SESSION, CALL_LIST, CALL_LOAD, CALL_DIFF, CALL_PUT, CALL_COMMIT };
struct call {
    enum call_kind kind;
    uint64_t id;
    struct core_need need;
};

struct receipt {
    struct block_id id;
    uint8_t bytes[256];
    size_t n;
};

enum lane_phase { LANE_IDLE, LANE_READY, LANE_ASKED, LANE_PUT, LANE_SENT };
struct lane {
    enum lane_phase phase;
    struct core_plan plan;
    struct block_id missing[256];
    size_t missing_n;
    unsigned rounds;
};

struct open_file {
    bool used, wrote, unfinished, stale;
    uint64_t node;
    struct extent_list old; /* stale: what it still sees */
    uint64_t old_size;
};

struct fsync_wait {
    bool used, is_dir;
    uint64_t node;
    struct marks marks; /* what must be there when it returns 0 */
    struct {            /* a directory's names when it began */
        uint64_t node;
        uint8_t name[NAME_LEN_MAX];
        size_t name_len;
    } child[24];
    size_t children;
};

enum op_kind {
    OP_CREATE,
    OP_MKDIR,
    OP_SYMLINK,
    OP_MKNOD,
    OP_TMPFILE,
    OP_LINK,
    OP_UNLINK,
    OP_RMDIR,
    OP_RENAME,
    OP_WRITE,
    OP_APPEND,
    OP_TRUNCATE,
    OP_CLONE,
    OP_SETATTR,
    OP_UTIMES,
    OP_SETXATTR,
    OP_READ,
    OP_READDIR,
    OP_OPEN,
    OP_CLOSE,
    OP_HANDLE_WRITE,
    OP_FSYNC,
    OP_FSYNC_DIR,
    OP_KINDS
};
struct op {
    bool pending;
    enum op_kind kind;
    uint64_t seed; /* of every further draw: a retry does the same again */
    unsigned tries;
};

struct client {
    struct sim *s;
    unsigned index;
    struct simvfs *disk;
    struct tree *tree;
    struct core *core; /* NULL: down */
    bool offline;
    uint64_t epoch, next_call;
    uint64_t ns, root;
    bool session;
    struct call calls[CALLS_MAX];
    struct core_need needs[8]; /* loads wanted */
    size_t needs_n;
    struct { /* records read and not applied */
        struct buf body;
        struct arena arena;
        struct m_list_ans ans;
        size_t next;
    } records;
    struct lane lane;
    struct receipt *receipts;
    size_t receipts_n, receipts_cap;
    struct open_file files[HANDLES_MAX];
    struct fsync_wait fsyncs[BARRIERS_MAX];
    struct op op;
};
void client_incarnation(unsigned index, uint8_t out[16]);
int client_start(struct client *c);
/* Ends it: properly, by kill -9, or by a loss of power. */
enum stop { STOP_CLEAN, STOP_KILL, STOP_POWER };
void client_stop(struct client *c, enum stop how);
/* The driver's turn: starts what can be started. */
void client_turn(struct client *c, struct rng *r);
void client_answer(struct client *c, struct call *k, int status, struct bytes body, struct rng *r);
/* The result of a core function that must not fail; handles a crash of the disk. false: stop. */
bool client_ok(struct client *c, int err, const char *what);
void client_need(struct client *c, const struct core_need *need);
bool client_needs(const struct client *c, const struct core_need *need);
void client_effects(struct client *c, struct core_effects *fx);
struct call *client_call(struct client *c, enum call_kind kind, const char *method,
                         const struct msg_desc *d, const void *msg);
bool client_calling(const struct client *c, enum call_kind kind);
/* Nothing under way, nothing pending, journal applied. */
bool client_quiet(struct client *c);
void client_say(struct client *c, struct buf *out); /* why not quiet */
void lane_turn(struct client *c, struct rng *r);
void lane_answer(struct client *c, struct call *k, int status, struct bytes body);
void lane_reset(struct client *c);
void fsync_turn(struct client *c);

/* ---- programs (program.c)
 * -------------------------------------------------------------------------- */
void program_step(struct client *c, struct rng *r);
void program_close(struct client *c, struct open_file *f);
/* Bytes of [off, end) that the client's programs see, known to its tree or not. */
bool program_sees(struct client *c, uint64_t node, uint64_t off, uint64_t end, struct marks *out);

/* ---- checks (verify.c)
 * ------------------------------------------------------------------------------- */
/* Rules that hold at any time in a client's tree. */
void verify_tree(struct client *c);
/* What the server's current tree reaches, into the ledger. */
void verify_reach(struct sim *s);
/* At the end: all trees equal, nothing lost. */
void verify_all(struct sim *s);

/* ---- the run (run.c)
 * ------------------------------------------------------------------------------------ */
struct options {
    unsigned clients, steps;
    bool trace, verbose;
    const uint8_t *skip; /* one byte a step: 1: it does nothing */
};
struct sim {
    struct options opt;
    uint64_t seed;
    int64_t now; /* ns */
    unsigned step;
    struct server server;
    struct client client[CLIENTS_MAX];
    struct packet net[PACKETS_MAX];
    size_t net_n;
    struct ledger ledger;
    struct { /* how likely what is in this run, percent or permille */
        unsigned program, turn, net, loss, crash, power, offline, server_crash;
        unsigned depth, names;
        uint64_t ops; /* bits of op_kind that programs use */
    } p;
    bool healed; /* the end: nothing is lost any more */
    bool failed;
    char why[1024];
    uint64_t hash; /* of everything that was logged */
    char *log[LOG_LINES];
    size_t log_n;
    struct {
        unsigned long ops, commits, conflicts, fsyncs, crashes, records, missing, loads, copies;
    } count;
};
struct sim *sim_new(void); /* with its disks; used for run after run */
void sim_free(struct sim *s);
/* One run. false: s->why. */
bool sim_run(struct sim *s, const struct installation *i, uint64_t seed, const struct options *o);
void sim_log(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool net_send(struct sim *s, const struct packet *p); /* takes the body; false: full */
#endif
