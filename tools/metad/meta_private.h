// SPDX-License-Identifier: Apache-2.0
/* Shared by the files of the metadata service. [internal to tools/metad] */
#ifndef STEADFS_METAD_META_PRIVATE_H
#define STEADFS_METAD_META_PRIVATE_H

#include "meta.h"
#include "store.h"

#define WHY_LEN 512
#define GC_GRACE_MS (48u * 3600 * 1000)
#define HISTORY_MS (30ull * 24 * 3600 * 1000)
#define MARKS_BELOW 16384u
#define CAPABILITY_MS (15u * 60 * 1000)
#define REVOKED_KEPT_MS (7ull * 24 * 3600 * 1000) /* longer than any capability is honoured */
#define TOKEN_DAYS_MS (7ull * 24 * 3600 * 1000)   /* login and join tokens expire after 7 days */

struct meta {
    struct store *st;
    bool reader;
    uint64_t gc_grace_ms, capability_ms, history_ms, marks_below;
    bool batch;   /* between meta_begin and meta_end */
    bool touched; /* meta_touched */
    bool noticed; /* meta_noticed */
    struct meta_gc_sums absent;
    uint64_t seed; /* of hash tables over what clients choose */
};

/* Bracket a changing call: its own transaction, or its own undoable part of the batch under way.
 * meta_change_end keeps the changes when result is 0 and returns result, or how keeping them
 * failed. */
int meta_change_begin(struct meta *m);
int meta_change_end(struct meta *m, int result);
/* Bracket a reading call: one state of the database. */
int meta_read_begin(struct meta *m);
int meta_read_end(struct meta *m, int result);
/* Writes the line for people, returns r. */
int meta_fail(char *why, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As meta_fail, for an error of the store: says what could not be done and why. */
int meta_store_fail(char *why, int r, const char *what);

/* Role of the caller in a namespace: 0, or -EACCES with why. A block server is a viewer of the
 * namespaces assigned to it. ns_row of the namespace in *row. */
int meta_access(struct meta *m, const struct meta_caller *who, uint64_t ns, struct ns_row *row,
                uint64_t *role, struct arena *ar, char *why);

/* Whether the block server was heard of lately: one reports itself every few seconds. What one has
 * that is silent for longer may be lost. After the calendar was set back, a report that seems to
 * come from a later time than now says nothing until there is another one. */
bool meta_hears(const struct server_row *s, int64_t now_ms);
/* The time of the last beat of one that was heard just so lately; the last one that counts is twice
 * META_SILENT_MS later. */
uint64_t meta_heard_since(int64_t now_ms);
/* How long ago it was heard of, or, in the future, how far from now. */
unsigned long long meta_silent_s(const struct server_row *s, int64_t now_ms);
#define META_SILENT_MS 60000

/* Whether the block server judges no more by what it reads (m_beat_req.distrusts): as last told. */
int meta_distrusts(struct meta *m, uint64_t server, bool *distrusts);

/* Whether a caller that knows the journal up to an SJID by this mark means this one: 0, or -ESTALE
 * with why. Where the mark is not known (0), or no longer, it is believed. */
int meta_same_journal(struct meta *m, const struct ns_row *row, uint64_t sjid, uint64_t mark,
                      char *why);

/* SHA-256 of a secret's text: what is stored of it. */
void meta_hash(struct bytes secret, uint8_t hash[STORE_HASH_LEN]);
/* A new secret (64 hex digits and a NUL) and its hash. */
#define SECRET_LEN 64
void meta_secret(char secret[SECRET_LEN + 1], uint8_t hash[STORE_HASH_LEN]);

/* A changing commit by the metadata server itself, as device 0: makes or removes a mount node. One
 * entry change, and for a new mount node its node change; target_ns is what appears there. Runs
 * inside meta_change_begin/end. 0, or -EEXIST, -ENOENT, -ENOTDIR … from what the rows were refused
 * for. */
int commit_by_server(struct meta *m, uint64_t ns, const struct m_changes *changes,
                     uint64_t target_ns, int64_t now_ms, char *why);

/* A new namespace with its root directory; without members or assignments. Inside
 * meta_change_begin/end. -EEXIST: the name is taken. */
int meta_ns_create(struct meta *m, struct bytes name, int64_t now_ms, uint64_t *ns);
/* Gives the block servers these priorities; those assigned already stay, behind them. */
int meta_assign(struct meta *m, uint64_t ns, const struct server_row *first, size_t n,
                struct arena *ar);
/* The version of the account rises: its devices ask for their namespaces again. */
int meta_touch(struct meta *m, uint64_t account);
/* … of every member. */
int meta_touch_members(struct meta *m, uint64_t ns, struct arena *ar);
/* Everybody who sees a server by an assignment has to learn its new address, or keys. */
int meta_touch_everybody(struct meta *m, struct arena *ar);
/* Names of accounts, namespaces, premises and devices: 1 to 64 letters, digits, `-`, `_`, `.`, not
 * beginning with `-` or `.`. */
bool meta_name_ok(struct bytes name);

#endif
