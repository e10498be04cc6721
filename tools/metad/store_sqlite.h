// SPDX-License-Identifier: Apache-2.0
/* The store on SQLite. store_sqlite_open is public; the rest is shared by the store_sqlite*.c files
 * and by the test of migrations.
 */
#ifndef STEADFS_METAD_STORE_SQLITE_H
#define STEADFS_METAD_STORE_SQLITE_H

#include <sqlite3.h>

#include "store.h"

/* Opens path (created unless reader) and brings its schema up to date (never for a reader).
 * -EPROTO: written by a newer program; -EUCLEAN: no database of ours; -errno. why: 512 bytes. */
int store_sqlite_open(struct store **out, const char *path, const char *vfs, bool reader,
                      int64_t log_reserve, char *why);

/* One step of the schema's history. */
struct migration {
    int version; /* 1, 2, 3 … in order */
    const char *sql;
};
/* Applies those of list that the database lacks, each in its own transaction with its row in the
 * table `migration`. check_only: applies none, -EPROTO also for a database that lacks one. */
int sq_migrate(sqlite3 *db, const struct migration *list, size_t n, bool check_only, char *why);

#define SQ_STMT_SLOTS 512 /* prepared statements; one per SQL literal in the sources */

struct sq_slot {
    const char *sql;
    sqlite3_stmt *stmt;
};
struct sq {
    struct store base;
    sqlite3 *db;
    struct walkeeper *keeper; /* or NULL */
    bool writing, broken;     /* broken: SQLite rolled the running transaction back by itself */
    struct sq_slot slots[SQ_STMT_SLOTS];
};

/* The statement of this literal (its address is the cache's key), bound by types, one letter an
 * argument: i uint64_t or int64_t, b struct bytes as blob, t struct bytes as text. NULL: out of
 * memory or damaged schema (sq_step and sq_exec then give -EIO). */
sqlite3_stmt *sq_bind(struct store *s, const char *sql, const char *types, ...);
/* 1: a row; 0: no more; -errno. Reset by sq_done, which every sq_bind needs once. */
int sq_step(struct store *s, sqlite3_stmt *st);
void sq_done(sqlite3_stmt *st);
/* Binds, runs to the end, resets. */
#define sq_exec(s, ...) sq_exec_bound((s), sq_bind((s), __VA_ARGS__))
int sq_exec_bound(struct store *s, sqlite3_stmt *st);
/* Steps once for the one row asked for: 0, -ENOENT, -errno. The caller reads it, then sq_done. */
int sq_one(struct store *s, sqlite3_stmt *st);

/* So many rows of extents more (or fewer) refer to the block; of each: first column of a bound
 * statement. */
int sq_ref(struct store *s, uint64_t ns, struct bytes block, int64_t n);
int sq_ref_each(struct store *s, uint64_t ns, sqlite3_stmt *st, int64_t n);

/* Whether a block server was heard of since then, but not in a time to come (meta_hears); since 0:
 * whenever. */
#define HEARD_SINCE(since) "(" #since " = 0 OR beat_ms BETWEEN " #since " AND " #since " + 120000)"

/* Whether rows of `lack` of the server are to be read: unlack, 13.sql. */
#define LACKS(ns_, server_)                                                                        \
    "NOT EXISTS (SELECT 1 FROM unlack AS u WHERE u.ns = " #ns_ " AND u.server = " #server_ ")"

uint64_t sq_u64(sqlite3_stmt *st, int col);
struct bytes sq_bytes(sqlite3_stmt *st, int col, struct arena *ar);
/* Exactly n bytes, or zeros where the column holds another number of them. */
void sq_fixed(sqlite3_stmt *st, int col, void *out, size_t n);

/* Grows an arena-held array that holds n elements so that one more fits. */
#define sq_grow(v, n, ar) ((v) = sq_grow_bytes((v), (n), sizeof *(v), (ar)))
void *sq_grow_bytes(void *v, size_t n, size_t size, struct arena *ar);

extern const struct store_ops sq_ops;

/* Implementations, by file. */
/* store_sqlite_account.c */
int sq_setting_next(struct store *s, const char *key, uint64_t *value);
int sq_setting_raise(struct store *s, const char *key, uint64_t *value);
int sq_setting_get(struct store *s, const char *key, uint64_t *value);
int sq_setting_set(struct store *s, const char *key, uint64_t value);
int sq_numbers_note(struct store *s);
int sq_admin_add(struct store *s, const uint8_t hash[STORE_HASH_LEN], uint64_t *id);
int sq_admin_get(struct store *s, uint64_t id, uint8_t hash[STORE_HASH_LEN]);
int sq_admin_count(struct store *s, uint64_t *n);
int sq_account_add(struct store *s, struct account_row *a);
int sq_account_get(struct store *s, uint64_t id, struct account_row *a, struct arena *ar);
int sq_account_find(struct store *s, struct bytes name, struct account_row *a, struct arena *ar);
int sq_account_list(struct store *s, struct account_row **v, size_t *n, struct arena *ar);
int sq_account_touch(struct store *s, uint64_t id);
int sq_device_add(struct store *s, const struct device_row *d);
int sq_device_get(struct store *s, uint64_t id, struct device_row *d, struct arena *ar);
int sq_device_list(struct store *s, uint64_t account, struct device_row **v, size_t *n,
                   struct arena *ar);
int sq_device_set_incarnation(struct store *s, uint64_t id, struct bytes incarnation);
int sq_device_set_start(struct store *s, uint64_t id, uint64_t starts, uint64_t run);
int sq_device_revoke(struct store *s, uint64_t id, uint64_t now_ms);
int sq_device_revoked(struct store *s, uint64_t since_ms, size_t max, uint64_t **ids, size_t *n,
                      struct arena *ar);
int sq_token_add(struct store *s, const struct token_row *t);
int sq_token_take(struct store *s, const uint8_t hash[STORE_HASH_LEN], struct token_row *t,
                  struct arena *ar);
int sq_token_expire(struct store *s, uint64_t now_ms);
int sq_server_add(struct store *s, struct server_row *r);
int sq_server_get(struct store *s, uint64_t id, struct server_row *r, struct arena *ar);
int sq_server_list(struct store *s, struct server_row **v, size_t *n, struct arena *ar);
int sq_server_remove(struct store *s, uint64_t id);
int sq_servers_unheard(struct store *s);
int sq_server_set(struct store *s, const struct server_row *r);

/* store_sqlite_ns.c */
int sq_ns_add(struct store *s, struct ns_row *r);
int sq_ns_get(struct store *s, uint64_t ns, struct ns_row *r, struct arena *ar);
int sq_ns_find(struct store *s, struct bytes name, struct ns_row *r, struct arena *ar);
int sq_ns_list(struct store *s, uint64_t account, struct ns_row **v, size_t *n, struct arena *ar);
int sq_ns_set(struct store *s, const struct ns_row *r);
int sq_member_role(struct store *s, uint64_t ns, uint64_t account, uint64_t *role);
int sq_member_set(struct store *s, uint64_t ns, uint64_t account, uint64_t role);
int sq_member_list(struct store *s, uint64_t ns, struct member_row **v, size_t *n,
                   struct arena *ar);
int sq_assigned(struct store *s, uint64_t ns, struct server_row **v, size_t *n, struct arena *ar);
int sq_assigned_to(struct store *s, uint64_t ns, uint64_t server, bool *is);
int sq_assign(struct store *s, uint64_t ns, uint64_t server, uint64_t priority);
int sq_unassign(struct store *s, uint64_t ns, uint64_t server);
int sq_mount_add(struct store *s, const struct mount_row *m);
int sq_mount_find(struct store *s, uint64_t ns, uint64_t target, struct mount_row *m);
int sq_mount_remove(struct store *s, uint64_t ns, uint64_t node);

/* store_sqlite_tree.c, store_sqlite_entry.c */
int sq_inode_get(struct store *s, uint64_t ns, uint64_t node, uint64_t at, struct m_inode *i,
                 struct arena *ar);
int sq_inode_last(struct store *s, uint64_t ns, uint64_t node, struct m_inode *i, uint64_t *ended,
                  struct arena *ar);
int sq_inode_put(struct store *s, uint64_t ns, uint64_t sjid, const struct m_inode *i);
int sq_inode_close(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node);
int sq_entry_get(struct store *s, uint64_t ns, uint64_t parent, struct bytes name, uint64_t at,
                 struct entry_row *e);
int sq_entry_put(struct store *s, uint64_t ns, uint64_t sjid, uint64_t parent, struct bytes name,
                 uint64_t node, uint64_t type);
int sq_entry_of(struct store *s, uint64_t ns, uint64_t node, uint64_t *parent, struct bytes *name,
                struct arena *ar);
int sq_entry_names(struct store *s, uint64_t ns, uint64_t node, uint64_t at, size_t max,
                   struct m_name **v, size_t *n, struct arena *ar);
int sq_entry_count(struct store *s, uint64_t ns, uint64_t parent, uint64_t max, uint64_t *n);
int sq_entry_page(struct store *s, uint64_t ns, uint64_t parent, uint64_t at, struct bytes after,
                  size_t limit, struct m_entry **v, size_t *n, struct arena *ar);
int sq_xattr_get(struct store *s, uint64_t ns, uint64_t node, struct bytes name, uint64_t at,
                 struct m_xattr *x, struct arena *ar);
int sq_xattr_list(struct store *s, uint64_t ns, uint64_t node, uint64_t at, struct m_xattr **v,
                  size_t *n, struct arena *ar);
int sq_xattr_put(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, struct bytes name,
                 struct bytes value);
int sq_xattr_close(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, struct bytes name);
int sq_xattr_close_all(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node);
int sq_xattr_reopen(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t ended);
int sq_extent_list(struct store *s, uint64_t ns, uint64_t node, uint64_t at, uint64_t off,
                   uint64_t len, size_t limit, struct extent_row **v, size_t *n, struct arena *ar);
int sq_extent_open(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node,
                   const struct m_extent *e);
int sq_extent_close(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t off);
int sq_extent_close_all(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node);
int sq_extent_reopen(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t ended);

/* store_sqlite_journal.c */
int sq_block_get(struct store *s, uint64_t ns, const struct block_id *b, uint64_t *len);
int sq_block_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t len,
                 uint64_t born);
int sq_holders(struct store *s, uint64_t ns, const struct block_id *b,
               struct holder_row v[CANDIDATES_MAX], size_t *n);
int sq_presence_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                    uint64_t generation, uint64_t proof);
int sq_presence_drop(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                     uint64_t before, bool *left);
int sq_presence_list(struct store *s, uint64_t ns, uint64_t server, uint64_t generation,
                     uint64_t before, const struct block_id *after, struct block_id *upto,
                     size_t max, struct block_id **v, size_t *n, struct arena *ar);
int sq_gone_get(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                uint64_t *generation, enum gone_state *due);
int sq_unused_note(struct store *s, uint64_t ns, int64_t now_ms, size_t max, size_t *n);
int sq_unused_list(struct store *s, uint64_t ns, uint64_t before_ms, size_t max,
                   struct unused_row **v, size_t *n, struct arena *ar);
int sq_unused_sum(struct store *s, uint64_t ns, uint64_t before_ms, size_t max,
                  struct unused_sum *sum);
int sq_block_drop(struct store *s, uint64_t ns, const struct block_id *b);
int sq_gone_due(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                int64_t now_ms);
int sq_gone_order(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                  uint64_t generation, enum gone_state due, int64_t now_ms);
int sq_gone_done(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                 uint64_t generation, int64_t now_ms, bool *was);
int sq_gone_list(struct store *s, uint64_t server, size_t max, struct gone_row **v, size_t *n,
                 struct arena *ar);
int sq_gone_count(struct store *s, uint64_t server, uint64_t ns, size_t max, uint64_t *n);
int sq_gone_forget(struct store *s, uint64_t before_ms, size_t max);
int sq_gone_renewed(struct store *s, uint64_t server);

/* ---- store_sqlite_storage.c ---- */
int sq_heard_raise(struct store *s, uint64_t ns, uint64_t server, uint64_t generation);
int sq_heard_most(struct store *s, uint64_t server, uint64_t *generation);
int sq_heard_drop(struct store *s, uint64_t server);
int sq_give_up(struct store *s, uint64_t server, struct bytes incarnation);
int sq_given_up(struct store *s, uint64_t server, struct bytes incarnation, bool *yes);
int sq_run_end(struct store *s, uint64_t server, uint64_t run);
int sq_run_ended(struct store *s, uint64_t server, uint64_t run, bool *yes);
int sq_gone_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                uint64_t generation, int64_t now_ms);
int sq_journal_add(struct store *s, uint64_t ns, const struct m_record *r, struct bytes encoded);
int sq_journal_list(struct store *s, uint64_t ns, uint64_t after, uint64_t limit_bytes, size_t max,
                    struct bytes **v, size_t *n, struct arena *ar);
int sq_journal_older(struct store *s, uint64_t ns, uint64_t after, uint64_t before_ms, size_t max,
                     uint64_t *upto);
int sq_journal_forget(struct store *s, uint64_t ns, uint64_t sjid);
int sq_mark_put(struct store *s, uint64_t ns, uint64_t sjid, uint64_t mark);
int sq_mark_get(struct store *s, uint64_t ns, uint64_t sjid, uint64_t *mark);
int sq_mark_thin(struct store *s, uint64_t ns, uint64_t from, uint64_t below, uint64_t step);
int sq_inode_forget(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid);
int sq_entry_forget(struct store *s, uint64_t ns, uint64_t parent, struct bytes name,
                    uint64_t sjid);
int sq_node_rows_forget(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid, size_t *left);
int sq_request_get(struct store *s, uint64_t ns, uint64_t device, uint64_t request,
                   struct request_row *r, struct arena *ar);
int sq_request_put(struct store *s, uint64_t ns, uint64_t device, const struct request_row *r);
int sq_request_list(struct store *s, uint64_t ns, uint64_t device, uint64_t from, size_t max,
                    struct request_row **v, size_t *n, struct arena *ar);
int sq_request_forget(struct store *s, uint64_t ns, uint64_t device, uint64_t below);
int sq_peer_get(struct store *s, uint64_t ns, uint64_t device, struct peer_row *p);
int sq_peer_put(struct store *s, uint64_t ns, uint64_t device, const struct peer_row *p);
int sq_stage_put(struct store *s, uint64_t ns, uint64_t device, uint64_t request, uint64_t part,
                 struct bytes changes);
int sq_stage_join(struct store *s, uint64_t ns, uint64_t device, uint64_t request, uint64_t parts,
                  struct buf *out);
int sq_stage_bytes(struct store *s, uint64_t ns, uint64_t device, uint64_t *bytes);
int sq_stage_drop(struct store *s, uint64_t ns, uint64_t device, uint64_t request);

/* store_sqlite_leave.c */
/* Something more may be lacking in the namespace: who leaves it is looked at anew. */
int sq_leave_anew(struct store *s, uint64_t ns);
int sq_parted_put(struct store *s, uint64_t ns, uint64_t server, int64_t now_ms);
int sq_parted_drop(struct store *s, uint64_t ns, uint64_t server);
int sq_parted_list(struct store *s, uint64_t ns, struct parted_row **v, size_t *n,
                   struct arena *ar);
int sq_parted_set(struct store *s, const struct parted_row *p);
int sq_presence_page(struct store *s, uint64_t ns, const struct block_id *after, size_t max,
                     struct presence_row **v, size_t *n, struct arena *ar);
int sq_leave(struct store *s, uint64_t ns, uint64_t server, bool leaving);
int sq_anew(struct store *s, uint64_t ns, uint64_t server, bool yes);
int sq_anew_get(struct store *s, uint64_t ns, uint64_t server, bool *yes);
int sq_leave_blocked(struct store *s, uint64_t ns, uint64_t server, uint64_t copies,
                     uint64_t heard_ms, bool *blocked);
int sq_key_put(struct store *s, uint64_t server, const struct key_row *k);
int sq_key_list(struct store *s, uint64_t server, struct key_row **v, size_t *n, struct arena *ar);
int sq_key_drop(struct store *s, uint64_t server, uint64_t id);
int sq_key_use(struct store *s, uint64_t server, const struct key_row *k);
int sq_revocation_put(struct store *s, const struct revocation_row *r, uint64_t now_ms,
                      uint64_t before_ms);
int sq_revocation_collapse(struct store *s);
int sq_revocation_list(struct store *s, uint64_t server, size_t max, struct revocation_row **v,
                       size_t *n, struct arena *ar);
int sq_onsite_list(struct store *s, uint64_t ns, struct bytes **v, size_t *n, struct arena *ar);
int sq_onsite_set(struct store *s, uint64_t ns, const struct bytes *v, size_t n);
int sq_ns_of_server(struct store *s, uint64_t server, uint64_t after, size_t limit, uint64_t **v,
                    size_t *n, struct arena *ar);
int sq_lack_put(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                uint64_t sjid);
int sq_lack_lost(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b);
int sq_lack_take(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                 uint64_t **sjids, size_t *n, struct arena *ar);
int sq_lack_of(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid, bool *any);
int sq_lack_list(struct store *s, uint64_t ns, uint64_t server, const struct lack_row *after,
                 size_t limit, struct lack_row **v, size_t *n, struct arena *ar);
int sq_lack_sum(struct store *s, uint64_t ns, uint64_t server, struct lack_sum *sum);
int sq_held(struct store *s, uint64_t ns, uint64_t server, struct held_row *h);
int sq_lack_drop(struct store *s, uint64_t ns, uint64_t server);
int sq_lack_anew(struct store *s, uint64_t ns, uint64_t server);
int sq_unlack_step(struct store *s, size_t *left);
int sq_fill_begin(struct store *s, uint64_t ns, uint64_t server);
int sq_fill_step(struct store *s, uint64_t ns, uint64_t server, size_t blocks, bool *more);
int sq_lack_noted(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                  bool *yes);
int sq_lack_curable(struct store *s, uint64_t ns, uint64_t server, uint64_t heard_ms, size_t max,
                    bool *yes);
int sq_complete_begin(struct store *s, uint64_t ns, uint64_t server);
int sq_complete_add(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid);
int sq_complete_forget(struct store *s, uint64_t ns, uint64_t upto, size_t *left);
int sq_complete_last(struct store *s, uint64_t ns, uint64_t server, uint64_t *seq);
int sq_complete_next(struct store *s, uint64_t ns, uint64_t server, uint64_t after,
                     struct run_row *run);

/* store_sqlite_audit.c */
int sq_audit_order(struct store *s, uint64_t server, uint64_t number, bool read, bool mend,
                   int64_t now_ms);
int sq_audit_report(struct store *s, uint64_t server, const struct m_check *c, int64_t now_ms);
int sq_audit_get(struct store *s, uint64_t server, struct audit_row *a);
int sq_audit_end(struct store *s, uint64_t number);
int sq_audit_renewed(struct store *s, uint64_t server);
int sq_finding_put(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                   bool there, uint64_t generation);
int sq_extent_page(struct store *s, uint64_t ns, uint64_t node, uint64_t off, size_t limit,
                   struct piece_row **v, size_t *n, struct arena *ar);
int sq_block_at(struct store *s, uint64_t ns, const struct block_id *b,
                struct found_row v[2 * CANDIDATES_MAX], size_t *n);

#endif
