// SPDX-License-Identifier: Apache-2.0
/* The metadata service without its network: what each request does to the store.
 *
 * The handlers of steadfs-metad, the tests and the simulator call it alike. Not thread-safe: one
 * writer object belongs to one thread; readers are further objects on the same database. Time comes
 * from the caller. Answers live in the arena given. Errors are -errno; *why (512 bytes) then holds
 * one line for people.
 */
#ifndef STEADFS_META_H
#define STEADFS_META_H

#include "messages.h"
#include "token.h"

struct meta;

struct meta_options {
    const char *path;       /* database file */
    const char *vfs;        /* SQLite VFS, NULL: default (the simulator passes its own) */
    bool reader;            /* read-only connection; never migrates */
    int64_t log_reserve;    /* bytes that the database's log is made long at once (walfile.h) */
    uint64_t gc_grace_ms;   /* 0: 48 h. Receipts older than half of it are refused */
    uint64_t capability_ms; /* 0: 15 min */
    uint64_t history_ms;    /* 0: 30 days. After a restore nothing is removed for as long */
    uint64_t marks_below;   /* 0: 16384. Marks of the journal below the floor that are all kept */
};

/* Who asks; resolved from the credential by meta_authenticate. */
struct meta_caller {
    uint64_t account; /* 0: none */
    uint64_t device;  /* 0: the administrator, or none */
    uint64_t server;  /* block server, or 0 */
    bool admin;
    bool local;     /* from this machine */
    const char *op; /* for log lines (trace.h); lives as long as the request; NULL: none */
    /* Of a message with a certificate request: the SHA-256 of the key that it proves to have, and
     * what was issued for it. */
    struct bytes pin, certificate;
};

/* Opens, migrating the schema if it is older. -EPROTO: newer than this program knows. */
int meta_open(struct meta **out, const struct meta_options *o, char *why);
void meta_close(struct meta *m);
#define META_CREDENTIAL_MAX 128 /* bytes of a credential's text with its NUL */

/* A new installation in an empty database: makes the administrator. His credential is told this
 * once (only its hash is kept). -EEXIST: the database is in use already, nothing was changed. */
int meta_init(struct meta *m, int64_t now_ms, char credential[META_CREDENTIAL_MAX], char *why);

/* Joins the following changes in one database transaction (shared by many commits); meta_end makes
 * it durable (synchronous=FULL) before it returns. Every changing call outside is its own
 * transaction. */
int meta_begin(struct meta *m);
int meta_end(struct meta *m);

/* credential as in Authorization: Bearer. -EACCES */
int meta_authenticate(struct meta *m, const char *credential, struct meta_caller *who);

int meta_session(struct meta *m, const struct meta_caller *who, const struct m_session_req *q,
                 int64_t now_ms, struct m_session_ans *a, struct arena *ar, char *why);
int meta_login(struct meta *m, const struct m_login_req *q, int64_t now_ms, struct m_login_ans *a,
               struct arena *ar, char *why);
/* A commit in one namespace (DESIGN section 4): checks role, request number, targets, presence and
 * receipts, every base, the result; then applies all or nothing under the next SJID. 0 with
 * a->status set; -errno only for what is no answer (store broken, malformed changes: -EBADMSG). */
int meta_commit(struct meta *m, const struct meta_caller *who, const struct m_commit_req *q,
                int64_t now_ms, struct m_commit_ans *a, struct arena *ar, char *why);
int meta_diff(struct meta *m, const struct meta_caller *who, const struct m_diff_req *q,
              struct m_diff_ans *a, struct arena *ar, char *why);
int meta_requests(struct meta *m, const struct meta_caller *who, const struct m_requests_req *q,
                  struct m_requests_ans *a, struct arena *ar, char *why);
int meta_list(struct meta *m, const struct meta_caller *who, const struct m_list_req *q,
              struct m_list_ans *a, struct arena *ar, char *why);
int meta_lookup(struct meta *m, const struct meta_caller *who, const struct m_lookup_req *q,
                struct m_lookup_ans *a, struct arena *ar, char *why);
int meta_readdir(struct meta *m, const struct meta_caller *who, const struct m_readdir_req *q,
                 struct m_readdir_ans *a, struct arena *ar, char *why);
int meta_node(struct meta *m, const struct meta_caller *who, const struct m_node_req *q,
              struct m_node_ans *a, struct arena *ar, char *why);
int meta_extents(struct meta *m, const struct meta_caller *who, const struct m_extents_req *q,
                 struct m_extents_ans *a, struct arena *ar, char *why);
int meta_locate(struct meta *m, const struct meta_caller *who, const struct m_locate_req *q,
                struct m_locate_ans *a, struct arena *ar, char *why);
/* Which block servers hold how much of a file or folder, a page of it; also for administrators.
 * -ENOENT: no such path or namespace. */
int meta_where(struct meta *m, const struct meta_caller *who, const struct m_where_req *q,
               int64_t now_ms, struct m_where_ans *a, struct arena *ar, char *why);
/* Newest SJID of a namespace the caller may read; -EACCES. */
int meta_head(struct meta *m, const struct meta_caller *who, uint64_t ns, uint64_t *head);
/* Rises with every change of an account's memberships, mounts or assignments. */
int meta_account_version(struct meta *m, uint64_t account, uint64_t *version);
/* Whether any account's has risen since the last such question: who waits is to look again. */
bool meta_touched(struct meta *m);
/* Raises *ms to the highest time that was noted so far, or notes *ms, whichever is more. */
int meta_time_noted(struct meta *m, uint64_t *ms);
/* One bounded step of forgetting: of every namespace what was superseded before now - history_min
 * can be read no longer, and some of its rows and records are dropped. *more: again, soon. */
int meta_prune(struct meta *m, int64_t now_ms, uint64_t history_min_ms, bool *more);
/* One bounded step of garbage collection: blocks that nothing has referred to for the grace time
 * are declared absent. *more: again, soon. The sums grow. */
struct meta_gc_sums {
    uint64_t blocks, bytes;
};
int meta_gc(struct meta *m, int64_t now_ms, struct meta_gc_sums *sums, bool *more);
/* What was declared absent since m was opened, by a step or by a command. */
struct meta_gc_sums meta_absent(const struct meta *m);
/* A server begins: its database may have been put back to an older copy, so block servers are to be
 * heard before what is recorded of them counts (restored.h). */
int meta_started(struct meta *m);
int meta_unheard(struct meta *m, bool *any); /* some were not heard since */
/* A mount was told that it knows another journal: a change of its own. */
int meta_other_journal(struct meta *m, int64_t now_ms);
/* Whether it was noticed since the last such question that the database is an older copy. */
bool meta_noticed(struct meta *m);
struct meta_restored {
    uint64_t epoch;         /* when that was noticed last; 0: never */
    uint64_t keep_until_ms; /* until when nothing is removed for that; 0: it is over */
};
int meta_restored(struct meta *m, struct meta_restored *out);
int meta_join(struct meta *m, const struct meta_caller *who, const struct m_join_req *q,
              int64_t now_ms, struct m_join_ans *a, struct arena *ar, char *why);
int meta_beat(struct meta *m, const struct meta_caller *who, const struct m_beat_req *q,
              int64_t now_ms, struct m_beat_ans *a, struct arena *ar, char *why);
/* Replication between block servers; the callers are block servers. */
int meta_replicas(struct meta *m, const struct meta_caller *who, const struct m_replicas_req *q,
                  int64_t now_ms, struct m_replicas_ans *a, struct arena *ar, char *why);
int meta_backlog(struct meta *m, const struct meta_caller *who, const struct m_backlog_req *q,
                 struct m_backlog_ans *a, struct arena *ar, char *why);
int meta_stored(struct meta *m, const struct meta_caller *who, const struct m_stored_req *q,
                int64_t now_ms, struct m_stored_ans *a, struct arena *ar, char *why);
/* A block server compares what it has with what is recorded. */
int meta_inventory(struct meta *m, const struct meta_caller *who, const struct m_inventory_req *q,
                   int64_t now_ms, struct m_inventory_ans *a, struct arena *ar, char *why);
/* … or asks which of the blocks that were put there a commit has come for. */
int meta_recorded(struct meta *m, const struct meta_caller *who, const struct m_recorded_req *q,
                  struct m_recorded_ans *a, struct arena *ar, char *why);
/* A block server asks what it is to remove, and tells what it has removed. */
int meta_collect(struct meta *m, const struct meta_caller *who, const struct m_collect_req *q,
                 int64_t now_ms, struct m_collect_ans *a, struct arena *ar, char *why);
/* steadfs namespace …, share …, admin …: see command.c. Any namespace's head and any account's
 * version may be another one afterwards: waiting clients are to be looked at again. -errno only for
 * a broken store; everything else is an exit status and a line for people in the answer. */
int meta_command(struct meta *m, const struct meta_caller *who, const struct m_command_req *q,
                 int64_t now_ms, struct m_command_ans *a, struct arena *ar);
/* Whether the command only looks: nobody need be told. */
bool meta_command_looks(const struct m_command_req *q);
#endif
