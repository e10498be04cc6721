// SPDX-License-Identifier: Apache-2.0
/* A simulated installation: one metadata server (its real commit code on a simulated disk), model
 * block servers with real receipts and capabilities, and clients of two accounts, each with a real
 * tree and the real sync core. Everything runs in one thread and draws from one seed, so that a
 * seed is a run.
 *
 * Reading order: simvfs.h (disks), warm.h (connections), this, ledger.c (what was written),
 * observer.c (what is seen after each commit),
 * install.c, server.c, blockd.c, garbage.c, client.c (the driver in small), resync.c (a journal
 * that does not reach back), lane.c (its commits), upload.c (its blocks), program.c,
 * program_file.c (what programs do), verify.c (what must hold), weather.c (accidents), run.c (the
 * scheduler), shrink.c, main.c (seeds, jobs).
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
#define DEVICES 6        /* of the installation: four of alice, two of bob */
#define SERVERS_MAX 3    /* block servers */
#define TARGETS_MAX 2    /* of one commit */
#define CALLS_MAX 24     /* outstanding per client */
#define PACKETS_MAX 256  /* in the network */
#define HANDLES_MAX 4    /* open files per client */
#define BARRIERS_MAX 3   /* fsyncs that wait, per client */
#define WRITES_MAX 4096  /* blocks of one run */
#define BLOCK_LEN_MAX 64 /* bytes; one bit each in a mask */
#define LOG_LINES 4000
#define ORDERS_MAX 64    /* removals that a block server has been told of */
#define REPORT_BLOCKS 16 /* of one report */
#define REPORTS_MAX 16   /* that wait */
#define UNIT 8           /* offsets and lengths are multiples of it */

struct sim;
struct client;

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
    struct written {
        struct block_id id;
        unsigned client, len, times; /* times: written once more */
        uint64_t node, ns;           /* written into */
        uint8_t cached;              /* bit per client: has the bytes */
        uint8_t durable;             /* … and does not lose them with its power */
        bool held[SERVERS_MAX];      /* durable there */
        bool lost[SERVERS_MAX];      /* was, before the server lost its storage */
        uint64_t proof[SERVERS_MAX]; /* generation of that storage in which it was put last */
        uint64_t live;               /* bytes that must be found at the end */
        uint64_t promised;           /* bytes of which fsync=local has returned 0 */
        uint64_t renamed;            /* bytes whose file got a name when it had none any more */
        uint64_t committed;          /* bytes that some record of the journal carried */
        uint64_t reachable;          /* bytes found by the last look at the server's tree */
        bool carried, referred;      /* the same of the block */
        bool held_before;            /* somewhere when it noticed that */
        bool gone_before;            /* referred to when it was put back, and nowhere */
        struct part {                /* of a re-cut: whose bytes these are, unit by unit */
            uint32_t write;
            uint8_t at;
        } part[BLOCK_LEN_MAX / UNIT];
        bool recut;
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
/* The same, of bytes that were written before: those of the extents, which cover [0, len). */
int ledger_recut(struct ledger *l, uint64_t seed, unsigned client, const struct m_extent *v,
                 size_t n, unsigned len, struct block_id *id);
/* The client writes the block once more: its bytes count anew. */
void ledger_again(struct ledger *l, uint32_t write, uint64_t node);
/* Whether the block was made here; len is its length. */
bool ledger_find(const struct ledger *l, const struct block_id *id, uint32_t *write);
/* The bytes of the extents, as they were written first. */
void marks_add(struct ledger *l, struct marks *m, const struct m_extent *v, size_t n);
void marks_free(struct marks *m);
/* A program did away with them, knowing them. */
void ledger_consume(struct ledger *l, const struct marks *m);
/* They have a name again. */
void ledger_revive(struct ledger *l, const struct marks *m);
/* A record carried these extents. */
void ledger_committed(struct ledger *l, const struct m_extent *v, size_t n);
/* fsync=local has returned 0. */
void ledger_promised(struct ledger *l, unsigned client, const struct marks *m);
/* All that the client has is on its disk. */
void ledger_durable(struct ledger *l, unsigned client);
/* Power loss at a client: what never reached the journal, nor was promised, need not be found. r:
 * and blocks are lost that were not on its disk yet, at random; or NULL. */
void ledger_power_lost(struct ledger *l, unsigned client, struct rng *r);
/* A reference to the block was given back: if it is nowhere at all, so are its bytes. */
void ledger_nowhere(struct ledger *l, uint32_t write);
/* The server's tree is an older one, which has been looked at: what it does not reach is not
 * committed, and lost, unless kept by whoever wrote it (bytes, by write). */
void ledger_restored(struct ledger *l, const uint64_t *kept);
/* A file of several names lost one: somebody else may take the others without knowing its content.
 */
void ledger_weaken(struct ledger *l, uint64_t node);
bool ledger_weak(const struct ledger *l, uint64_t node);

/* ---- what is seen after each commit (observer.c) --------------------------------------------- */
#define FILES_SEEN 1024
#define NAMES_SEEN 4096
#define STATES_MAX 4096
#define SAVES_MAX 256
#define NOBODY UINT32_MAX
struct sight {
    struct seen_file { /* as of the last record */
        uint64_t node, state;
        int client; /* who changed it last; -1: nobody's */
        struct extent_list content;
    } file[FILES_SEEN];
    size_t files_n;
    struct {
        uint64_t key, node;
    } name[NAMES_SEEN];
};
struct observer {
    struct sight now, copy;
    struct file_state { /* what a client's programs, or a record, have made of a file, as a whole */
        unsigned client; /* NOBODY: a record */
        uint64_t node, state;
    } state[STATES_MAX];
    size_t states_n;
    struct save { /* a name that a program has given to a file; since: in which of its states;
                     after: the newest request then */
        unsigned client;
        uint64_t key, node, after;
        size_t since;
        bool dirty; /* its content was to be sent */
    } save[SAVES_MAX];
    size_t saves_n;
    bool restored;
};
void observer_reset(struct observer *o);
/* The server's database is copied, and put back to that. */
void observer_copy(struct observer *o);
void observer_restore(struct observer *o);
/* The client has compared what it knows with the server that was put back: it sends again what that
 * has lost. */
void observer_compared(struct client *c);
/* The client applies a record of its own that its tree had forgotten. */
void observer_forgotten(struct client *c, const struct m_record *r);
/* A program of the client has changed the file's content. */
void observer_changed(struct client *c, uint64_t node);
/* … has given it the name. */
void observer_named(struct client *c, uint64_t parent, struct bytes name, uint64_t node);
/* What the client's programs did to the file (0: to all) is no longer what its name tells. */
void observer_parted(struct observer *o, unsigned client, uint64_t node);
/* The client starts after it was killed. */
void observer_restarted(struct client *c);
/* A record of a journal, in order. */
void observer_record(struct sim *s, const struct m_record *r);
/* The client has applied the newest one. */
void observer_applied(struct client *c, const struct m_record *r);

/* ---- the installation (install.c) ----------------------------------------------------------- */
enum ns_index { NS_ALICE, NS_BOB, NS_TEAM, NAMESPACES }; /* team: mounted as `team` in both roots */
struct identity {
    struct meta_caller who;
    char credential[META_CREDENTIAL_MAX];
    uint64_t id; /* device, or block server */
};
struct installation { /* accounts, devices, block servers: made once, every run begins with a copy
                       */
    struct simvfs *disk;
    struct identity device[DEVICES], server[SERVERS_MAX];
    struct token_key key[SERVERS_MAX];
    struct meta_caller admin;
    uint64_t ns[NAMESPACES], root[NAMESPACES];
};
#define START_MS 1700000000000 /* when the installation was made */
struct installation *installation_new(void);
void installation_free(struct installation *i);
void incarnation_of(char kind, unsigned index, unsigned generation, uint8_t out[16]);
extern const char *const ns_names[NAMESPACES], *const premises[SERVERS_MAX];

/* ---- the metadata server (server.c) --------------------------------------------------------- */
struct server {
    struct simvfs *disk;
    struct meta *meta;
    const struct installation *inst;
    uint64_t seen[NAMESPACES]; /* journals followed up to here: all of it was acknowledged */
    uint64_t facts[1 << 13];   /* hashes of what its records brought: nodes, entries, requests */
    struct {                   /* a copy of its disk, and what was so then */
        struct simvfs *disk;
        uint64_t seen[NAMESPACES], facts[1 << 13];
        uint8_t assigned[NAMESPACES];
        unsigned reported[SERVERS_MAX];
        bool taken;
    } copy;
    bool restored; /* from it */
};
int server_start(struct sim *s, const struct installation *i);
void server_stop(struct server *v);
/* One request of a client, executed under its credential. 0 and the answer's body, or an enum
 * error_code; -1: the server crashed in it. */
int server_call(struct sim *s, unsigned client, const char *method, struct bytes body,
                struct buf *answer);
/* A reading request as the namespace's owner, whatever became of the clients. */
int server_peek(struct sim *s, uint64_t ns, const char *method, struct bytes body,
                struct buf *answer);
/* A command line of the administrator, or of alice (who owns team). */
void server_command(struct sim *s, bool admin, const char *line);
/* Forgets history older than that; it may crash in it. */
void server_prune(struct sim *s, unsigned history_ms);
/* A block server reports itself. */
void server_beat(struct sim *s, unsigned server);
void server_crash(struct sim *s);
/* Its database is copied, and later put back to that. */
void server_copy(struct sim *s);
void server_restore(struct sim *s);
/* Follows the journals: what is in them must stay. */
void server_follow(struct sim *s);
uint64_t server_head(struct sim *s, uint64_t ns);
const struct meta_caller *server_owner(const struct sim *s, uint64_t ns);
enum ns_index server_ns(const struct sim *s, uint64_t ns);
/* Whether a record brought the entry (name.n 0: the node). */
bool server_told(const struct sim *s, uint64_t parent, struct bytes name, uint64_t node);

/* ---- block servers (blockd.c, garbage.c) ----------------------------------------------------- */
struct blockd {
    bool down, cut;      /* cut: from the metadata server */
    unsigned generation; /* which storage it has: counts the lost ones */
    unsigned reported;   /* the one that the metadata server has heard of */
    uint64_t raised;     /* generation of that storage, as receipts name it */
    uint64_t run, found; /* of its opening; run 0: it tells none (and no ticks) */
    uint64_t tick, kept; /* the highest that it was told; on its disk */
    bool unheard;        /* since the metadata server started */
    bool older;          /* what is believed of it may be what an older database says */
    uint8_t revoked;     /* bit per device of the installation: heard of */
    int64_t skew_ms;
    struct m_lost orders[ORDERS_MAX], done[ORDERS_MAX]; /* what it is to remove, has removed */
    size_t orders_n, done_n;
    int64_t ordered; /* when, ns */
};
struct report { /* of what replication brought */
    unsigned server, generation;
    uint64_t run;
    int64_t at;
    struct m_stored v[REPORT_BLOCKS];
    size_t n;
};
/* As server_call, of block server `k`. */
int blockd_call(struct sim *s, unsigned k, const char *method, struct bytes body,
                struct buf *answer);
void blockd_open(struct sim *s, unsigned k); /* it starts */
void blockd_lose(struct sim *s, unsigned k); /* all that it stores */
/* Asks what there is to do. */
void blockd_replicas(struct sim *s, unsigned k);
/* Brings what it lacks of a namespace from the others, and says so. */
enum tell { TELL_NOW, TELL_LATE, TELL_NEVER };
void blockd_replicate(struct sim *s, unsigned k, uint64_t ns, enum tell tell);
/* late: it waits for a garbage_step. */
void garbage_report(struct sim *s, const struct report *r, bool late);
/* A step of the metadata server's or of a block server's collecting, or a late report. */
void garbage_step(struct sim *s, struct rng *r);
/* A block server has ended: what it was told to remove, and has removed, is not kept. */
void garbage_forget(struct blockd *b);
/* Its storage is to be renewed. */
void garbage_renewed(struct sim *s, unsigned server);
/* At the end: all reports come, everything is brought where it belongs, garbage goes. */
void garbage_end(struct sim *s);
/* Servers (a bit each) that hold the block or lost it. */
unsigned blockd_had(const struct written *w);
bool blockd_nowhere(const struct written *w);
/* The metadata server was put back, and what it refers to was looked at. */
void garbage_restored(struct sim *s);
/* … and has noticed it: by a block server's tick, or by a mount. */
void garbage_noticed(struct sim *s, bool by_tick);
/* A block server was heard of for the first time since. */
void garbage_heard(struct sim *s, unsigned k);

/* ---- the network ----------------------------------------------------------------------------- */
struct packet {
    bool answer;
    uint8_t to; /* 0: the metadata server, k + 1: block server k; of an answer: from */
    unsigned client;
    uint64_t epoch, call;
    const char *method;
    struct buf body;
    int status; /* of an answer: 0, an enum error_code, -1: none came */
};

/* ---- clients (client.c, resync.c, lane.c, upload.c) ------------------------------------------ */
enum call_kind {
    CALL_FREE,
    CALL_SESSION,
    CALL_LIST,
    CALL_LOAD,
    CALL_DIFF,
    CALL_PUT,
    CALL_GET,
    CALL_COMMIT,
    CALL_REQUESTS, /* how they ended */
    CALL_RESYNC    /* a question of a comparison */
};
struct call {
    enum call_kind kind;
    uint8_t to;
    uint64_t id, ns, request; /* request: which a commit or a question is about */
    struct core_need need;
    uint64_t run; /* CALL_RESYNC: of which comparison, and which of its questions */
    unsigned slot;
    uint64_t head, news; /* CALL_LIST: the newest SJID that was known, and view.news */
};

struct receipt {
    struct block_id id;
    uint8_t server;
    uint8_t bytes[256];
    size_t n;
};

enum lane_phase { LANE_IDLE, LANE_READY, LANE_ASKED, LANE_LACKS, LANE_SENT };
struct lack { /* a block that a target lacks */
    uint32_t write;
    uint8_t server;
    uint8_t tried; /* servers that do not have it either */
    bool elsewhere;
};
struct lane {
    enum lane_phase phase;
    struct core_plan plan;
    uint8_t targets; /* a bit each */
    struct lack lack[256];
    size_t lack_n;
    uint32_t not_held[64]; /* writes that replication will have to bring */
    size_t not_held_n;
    unsigned rounds;
    unsigned nothing; /* times in a row that nothing could be sent */
};

struct view { /* a namespace as one client sees it */
    uint64_t ns, root;
    bool member;
    struct {                    /* what the last session said */
        bool assigned, leaving; /* leaving: only to be read from */
        struct buf capability;
    } candidate[SERVERS_MAX];
    struct { /* records read and not applied */
        struct buf body;
        struct arena arena;
        struct m_list_ans ans;
        size_t next;
    } records;
    bool list_wanted, marks; /* marks: all that are kept are to be named */
    uint64_t news;           /* counts what was heard of its head */
    struct {                 /* core NULL: requests are asked for first */
        bool on;
        uint64_t at;
        uint64_t mark;
        uint64_t head;
        bool other;      /* head is that of another journal: … */
        uint64_t common; /* … it and ours part behind this */
        struct core_resync *core;
        uint64_t run;
    } resync;
    uint64_t floor; /* as far as is heard of it */
    struct lane lane;
};

struct open_file {
    bool used, wrote, unfinished, stale;
    uint64_t node;
    struct extent_list old; /* stale: what it still sees */
    uint64_t old_size;
};

struct fsync_wait {
    bool used, is_dir;
    uint64_t node, ns;
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
    OP_DRAFT,
    OP_SAVE,
    OP_RECUT,
    OP_FSYNC_LOCAL,
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
    unsigned index, device; /* device: of the installation */
    struct simvfs *disk;
    struct tree *tree;
    struct core *core; /* NULL: down */
    unsigned joins;    /* step at which it first starts */
    uint8_t cut;       /* a bit for each part it does not reach: packet.to */
    bool away;         /* cut off for long */
    bool revoked;
    int64_t skew; /* of its clock, ns */
    unsigned copies;
    uint64_t epoch, next_call;
    uint64_t ns, root; /* of the mount's top directory */
    bool session, session_wanted;
    bool gave_up;                /* a block of a commit was nowhere to be had */
    bool other_boot, power_lost; /* as the driver knows it (core_power_lost) */
    struct view views[NAMESPACES];
    size_t views_n;
    struct call calls[CALLS_MAX];
    struct core_need needs[8]; /* loads wanted */
    size_t needs_n;
    struct receipt *receipts;
    size_t receipts_n, receipts_cap;
    struct open_file files[HANDLES_MAX];
    struct fsync_wait fsyncs[BARRIERS_MAX];
    struct op op;
    uint64_t planned; /* the newest request */
    unsigned strange; /* bit per namespace: it has not heard that the server was put back … */
    uint64_t heard;   /* … before that call */
    struct { /* what was found when the tree had seen so many changes; not looked for again */
        int64_t verified, idle;
    } at;
};
/* Makes a new tree. */
void client_template(struct simvfs *disk);
int client_start(struct client *c);
/* Ends it: properly, by kill -9, or by a loss of power. */
enum stop { STOP_CLEAN, STOP_KILL, STOP_POWER };
void client_stop(struct client *c, enum stop how);
int64_t client_now(const struct client *c);
void client_turn(struct client *c, struct rng *r);
void client_answer(struct client *c, struct call *k, int status, struct bytes body, struct rng *r);
/* The result of a core function that must not fail; handles a crash of the disk. false: stop. */
bool client_ok(struct client *c, int err, const char *what);
void client_need(struct client *c, const struct core_need *need);
bool client_needs(const struct client *c, const struct core_need *need);
void client_effects(struct client *c, struct core_effects *fx);
/* Sends a request to a part (packet.to) about a namespace; NULL: not now. */
struct call *client_call(struct client *c, enum call_kind kind, unsigned to, uint64_t ns,
                         const char *method, const struct msg_desc *d, const void *msg);
/* The same, encoded; takes the body. */
struct call *client_send(struct client *c, enum call_kind kind, unsigned to, uint64_t ns,
                         const char *method, struct buf *body);
bool client_calling(const struct client *c, enum call_kind kind, uint64_t ns);
/* The journal does not go on from the cursor: as the answer to a list says. */
void resync_start(struct client *c, struct view *v, const struct m_list_ans *a);
void resync_turn(struct client *c, struct view *v);
void resync_answer(struct client *c, struct view *v, const struct call *k, int status,
                   struct bytes body);
void resync_reset(struct view *v);
bool client_reaches(const struct client *c, unsigned to);
struct view *client_view(struct client *c, uint64_t ns);
/* Nothing under way, nothing pending (parked: or refused), journals applied. */
bool client_quiet(struct client *c, bool parked);
void client_say(struct client *c, struct buf *out); /* why not quiet */
void lane_turn(struct client *c, struct view *v, struct rng *r);
void lane_answer(struct client *c, struct call *k, int status, struct bytes body);
void lane_reset(struct view *v);
void lane_ended(struct view *v, uint64_t request); /* also one that is not under way */
/* A final answer, from the server or made here. */
void lane_final(struct client *c, struct view *v, const struct m_commit_ans *a);
void fsync_turn(struct client *c);
/* Which servers the next commit names. */
void upload_targets(struct client *c, struct view *v, struct rng *r);
void upload_turn(struct client *c, struct view *v, struct rng *r);
void upload_answer(struct client *c, struct view *v, const struct call *k, int status,
                   struct bytes body);
void upload_lacks(struct client *c, struct view *v, uint64_t server, const struct block_id *id,
                  bool elsewhere);
/* Receipts held for the plan's blocks. */
void upload_receipts(struct client *c, struct view *v, struct m_commit_req *q, struct arena *ar);

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
/* What the server's current tree of a namespace reaches, into the ledger. */
void verify_reach(struct sim *s, uint64_t ns);
/* The metadata server was put back: what of that need not be found in the end. */
void verify_restored(struct sim *s);
/* What is refused is kept: at the server or in the tree of a client that lists it as parked. */
void verify_parked(struct sim *s);
/* At the end: all trees equal, nothing lost. */
void verify_all(struct sim *s);

/* ---- accidents (weather.c) ------------------------------------------------------------------- */
enum refusals { /* what is done to clients on purpose, bits */
                REFUSE_QUOTA = 1,
                REFUSE_ROLE = 2,
                REFUSE_DEVICE = 4,
                REFUSE_ASSIGNMENT = 8,
                REFUSE_STORAGE = 16 /* a block server loses its storage */
};
void weather_draw(struct sim *s);
void weather_begin(struct sim *s); /* the installation as this run wants it */
void weather_accidents(struct sim *s, struct rng *r);
void weather_clears(struct sim *s); /* everybody is up and reaches everybody */
void weather_lifts(struct sim *s);  /* nothing is refused any more, but to revoked devices */

/* ---- the run (run.c)
 * ------------------------------------------------------------------------------------ */
struct options {
    unsigned clients, steps; /* 0: the seed says */
    bool trace, verbose;
    bool restores;       /* the metadata server is put back in every run */
    const uint8_t *skip; /* one byte a step: 1: it does nothing, 2: nothing happens by accident */
};
struct counts {
    unsigned long ops, commits, conflicts, fsyncs, crashes, records, missing, loads, copies,
        refused, parked, lost, resyncs, brought, removed, restores, given_back;
};
void counts_add(struct counts *sum, const struct counts *c);
struct sim {
    struct options opt;
    uint64_t seed;
    int64_t now; /* ns */
    unsigned step;
    struct simvfs *empty; /* a disk with a new tree */
    struct server server;
    struct blockd blockd[SERVERS_MAX];
    struct client client[CLIENTS_MAX];
    struct packet net[PACKETS_MAX];
    size_t net_n;
    struct report reports[REPORTS_MAX];
    size_t reports_n;
    struct ledger ledger;
    struct observer observer;
    struct { /* how likely what is in this run, percent or permille */
        unsigned program, turn, net, loss, twice, crash, power, offline, away, server_crash;
        unsigned blockd, clock, refusal, prune, gc, replicate, depth, names, assigned, copies;
        unsigned grace_ms; /* of garbage collection, where there is any */
        struct core_bounds bounds;
        bool share;      /* two accounts, in one namespace */
        bool restore;    /* the metadata server is put back to an older state */
        bool ticks;      /* … and block servers notice it */
        bool lossy;      /* a loss of power takes blocks, too */
        unsigned refuse; /* enum refusals */
        uint64_t ops;    /* bits of op_kind that programs use */
    } p;
    uint8_t assigned[NAMESPACES]; /* servers, a bit each */
    bool healed;                  /* the end: nothing is lost any more */
    bool lifted;                  /* and nothing refused */
    bool failed;
    char why[1024];
    uint64_t hash; /* of everything that was logged */
    char *log[LOG_LINES];
    size_t log_n;
    struct counts count;
};
struct sim *sim_new(void); /* with its disks; used for run after run */
void sim_free(struct sim *s);
/* One run. false: s->why. */
bool sim_run(struct sim *s, const struct installation *i, uint64_t seed, const struct options *o);
void sim_log(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool net_send(struct sim *s, const struct packet *p); /* takes the body; false: full */

/* ---- a failing run made small (shrink.c) ----------------------------------------------------- */
/* Of the run that has just failed; prints what is left. */
void shrink_run(struct sim *s, const struct installation *i, uint64_t seed,
                const struct options *o);
void shrink_show(const struct sim *s); /* what was logged (options.verbose) */
#endif
