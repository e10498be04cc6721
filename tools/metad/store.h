// SPDX-License-Identifier: Apache-2.0
/* What the metadata service needs of a database. [internal to tools/metad]
 *
 * The service (commit*.c, read.c, session.c, command*.c) is written against this table of
 * operations alone; store_sqlite*.c is its implementation on SQLite. The operations are plain: rows
 * in, rows out. What a commit may do, and what has to be computed, is decided above.
 *
 * The tree is kept as intervals of SJIDs. Operations that read it take `at`, an SJID, or STORE_NOW
 * for the open rows. Operations that change it take the SJID of the running commit: a row that is
 * replaced is closed at that SJID; one that was opened by the same SJID is replaced without a
 * trace.
 *
 * Every operation returns 0 or a negative errno: -ENOENT (no such row), -ENOSPC, -EIO, -EUCLEAN
 * (damaged), -EAGAIN (locked by somebody else for too long). Rows and lists returned live in the
 * arena given. Everything runs inside begin/end. One store belongs to one thread.
 */
#ifndef STEADFS_METAD_STORE_H
#define STEADFS_METAD_STORE_H

#include "messages.h"

#define STORE_NOW INT64_MAX
#define STORE_HASH_LEN 32
#define STORE_INCARNATION_LEN 16
#define CANDIDATES_MAX 64 /* block servers of one namespace: m_namespace.candidates */

struct ns_row {
    uint64_t id;
    struct bytes name;
    uint64_t root, head, floor;
    uint64_t quota_bytes, quota_nodes, used_bytes, used_nodes;
    uint64_t copies_min, fixed_cuts;
    uint64_t role; /* of the account asked for: ns_list */
};
struct account_row {
    uint64_t id;
    struct bytes name;
    uint64_t root_ns, version;
};
struct device_row {
    uint64_t id, account;
    struct bytes name;
    uint8_t secret_hash[STORE_HASH_LEN];
    struct bytes incarnation; /* empty before the first session */
    uint64_t created_ms, revoked_ms;
    uint64_t starts, run; /* of its state directory, as last told; 0: not told */
};
struct server_row {
    uint64_t id;
    struct bytes premises, url;
    uint8_t secret_hash[STORE_HASH_LEN];
    uint8_t mac_key[32];
    uint64_t key_id;
    uint8_t incarnation[STORE_INCARNATION_LEN];
    uint64_t generation, blocks, used_bytes, free_bytes, beat_ms;
    uint64_t run, found; /* the opening of its storage that counts: 10.sql; run 0: not told */
    uint64_t priority;   /* in the assignment asked for: assigned */
    bool leaving;        /* … with others first: only what it has is still of use */
    bool evacuating;     /* nothing is assigned to it any more */
    struct bytes pin, pin_next, shown; /* hashes of public keys, or empty: 12.sql */
    uint64_t rekey_ms, rekey_overlap_ms;
    uint64_t tick; /* 14.sql, as the next two */
    bool unheard, adopt;
};
enum token_kind { TOKEN_LOGIN = 1, TOKEN_JOIN = 2 };
struct token_row {
    uint8_t hash[STORE_HASH_LEN];
    uint64_t kind, account;
    struct bytes premises;
    uint64_t expires_ms;
};
struct key_row { /* of a block server, beside the one in use */
    uint64_t id;
    uint8_t key[32];
    uint64_t until_ms; /* 0: the next one */
    bool at_once;      /* … and what it replaces ends with that */
};
struct revocation_row {
    uint64_t ns, account, peer, server, until_ms;
};
struct member_row {
    uint64_t ns, account, role;
};
struct mount_row {
    uint64_t ns, node, target;
};
struct entry_row {
    uint64_t node, type, rev;
};
struct extent_row {
    struct m_extent e;
    uint64_t from; /* SJID that opened it */
};
struct piece_row { /* of a file */
    uint64_t node, off, len;
    struct block_id block;
};
struct found_row {
    uint64_t server;
    bool recorded; /* false: the newest check found it there, and no presence says so */
};
struct audit_row { /* the newest check that was ordered of a block server */
    bool read, mend;
    bool told;        /* the server has reported of it */
    uint64_t at_ms;   /* it was ordered, or got on, then */
    struct m_check c; /* order 0: none was */
};
struct holder_row {
    uint64_t server, generation;
};
struct unused_row { /* a block that nothing refers to */
    struct block_id block;
    uint64_t len;
};
struct unused_sum {
    uint64_t blocks, bytes, due_blocks, due_bytes;
};
enum gone_state { GONE, GONE_DUE, GONE_ORDERED }; /* gone.due: 4.sql */
struct gone_row {
    uint64_t ns, generation;
    struct block_id block;
    enum gone_state due;
};
struct lack_row {
    struct block_id block;
    uint64_t len, sjid; /* of the commit that refers to it */
};
struct lack_sum {
    uint64_t blocks, bytes, oldest; /* oldest: SJID, 0: nothing is lacking */
    bool filling;                   /* and more may be: it is still being looked up */
};
struct held_row { /* different blocks */
    uint64_t blocks, bytes;
};
struct parted_row { /* a server that the namespace has left: 13.sql */
    uint64_t ns, server, since_ms, kept;
    struct block_id after;
};
struct presence_row {
    struct block_id block;
    uint64_t server;
};
struct run_row { /* commits that became complete one after the other */
    uint64_t seq, sjid, n;
};
struct request_row {
    uint64_t request;
    uint8_t hash[STORE_HASH_LEN];
    uint64_t status, sjid;
    struct bytes answer;
};
struct peer_row {
    uint64_t lowest_open, highest_request, highest_node;
};

struct store {
    const struct store_ops *ops;
};

struct store_ops {
    void (*close)(struct store *s);

    /* Transactions. A read transaction sees one state of the database. end(keep) makes what was
     * changed durable before it returns; without keep, or when it fails, nothing of it happened.
     * save and release bracket a part of a write transaction that can be undone alone; they do not
     * nest. */
    int (*begin)(struct store *s, bool write);
    int (*end)(struct store *s, bool keep);
    int (*save)(struct store *s);
    int (*release)(struct store *s, bool keep);

    /* Installation. setting_next returns the value and stores the next higher one (first: 1). */
    int (*setting_next)(struct store *s, const char *key, uint64_t *value);
    /* Raises *value to what is stored, or what is stored to *value: whichever is more. */
    int (*setting_raise)(struct store *s, const char *key, uint64_t *value);
    int (*setting_get)(struct store *s, const char *key, uint64_t *value); /* 0: there is none */
    int (*setting_set)(struct store *s, const char *key, uint64_t value);
    /* last_namespace and last_server are raised to the highest numbers in use. */
    int (*numbers_note)(struct store *s);
    int (*admin_add)(struct store *s, const uint8_t hash[STORE_HASH_LEN], uint64_t *id);
    int (*admin_get)(struct store *s, uint64_t id, uint8_t hash[STORE_HASH_LEN]);
    int (*admin_count)(struct store *s, uint64_t *n);

    /* Accounts, devices, tokens, block servers. *_add sets the new row's id; -EEXIST: name taken.
     */
    int (*account_add)(struct store *s, struct account_row *a);
    int (*account_get)(struct store *s, uint64_t id, struct account_row *a, struct arena *ar);
    int (*account_find)(struct store *s, struct bytes name, struct account_row *a,
                        struct arena *ar);
    int (*account_list)(struct store *s, struct account_row **v, size_t *n, struct arena *ar);
    int (*account_touch)(struct store *s, uint64_t id);             /* version rises */
    int (*device_add)(struct store *s, const struct device_row *d); /* with its id */
    int (*device_get)(struct store *s, uint64_t id, struct device_row *d, struct arena *ar);
    int (*device_list)(struct store *s, uint64_t account, struct device_row **v, size_t *n,
                       struct arena *ar); /* account 0: all */
    int (*device_set_incarnation)(struct store *s, uint64_t id, struct bytes incarnation);
    int (*device_set_start)(struct store *s, uint64_t id, uint64_t starts, uint64_t run);
    int (*device_revoke)(struct store *s, uint64_t id, uint64_t now_ms);
    int (*device_revoked)(struct store *s, uint64_t since_ms, size_t max, uint64_t **ids, size_t *n,
                          struct arena *ar);
    int (*token_add)(struct store *s, const struct token_row *t);
    int (*token_take)(struct store *s, const uint8_t hash[STORE_HASH_LEN], struct token_row *t,
                      struct arena *ar);                   /* removes it */
    int (*token_expire)(struct store *s, uint64_t now_ms); /* removes those that expired before */
    int (*server_add)(struct store *s, struct server_row *r);
    int (*server_get)(struct store *s, uint64_t id, struct server_row *r, struct arena *ar);
    int (*server_list)(struct store *s, struct server_row **v, size_t *n, struct arena *ar);
    int (*server_remove)(struct store *s, uint64_t id); /* its number is never used again */
    int (*servers_unheard)(struct store *s);            /* all of them */
    int (*server_set)(struct store *s,
                      const struct server_row *r); /* all but premises, secret, key */

    /* Keys beside the one in use; use: the server's is this one from now on. */
    int (*key_put)(struct store *s, uint64_t server, const struct key_row *k);
    int (*key_list)(struct store *s, uint64_t server, struct key_row **v, size_t *n,
                    struct arena *ar);
    int (*key_drop)(struct store *s, uint64_t server, uint64_t id);
    int (*key_use)(struct store *s, uint64_t server, const struct key_row *k);
    /* put replaces one of the same kind, and forgets those made before `before_ms`; many of one
     * namespace become one for all of it, which refuses more, never less. collapse: those of each
     * namespace do. list: those that count at a server, the newest first. */
    int (*revocation_put)(struct store *s, const struct revocation_row *r, uint64_t now_ms,
                          uint64_t before_ms);
    int (*revocation_collapse)(struct store *s);
    int (*revocation_list)(struct store *s, uint64_t server, size_t max, struct revocation_row **v,
                           size_t *n, struct arena *ar);

    /* Namespaces, members, assignments, mounts. */
    int (*ns_add)(struct store *s, struct ns_row *r);
    int (*ns_get)(struct store *s, uint64_t ns, struct ns_row *r, struct arena *ar);
    int (*ns_find)(struct store *s, struct bytes name, struct ns_row *r, struct arena *ar);
    int (*ns_list)(struct store *s, uint64_t account, struct ns_row **v, size_t *n,
                   struct arena *ar);                       /* account 0: all, role 0 */
    int (*ns_set)(struct store *s, const struct ns_row *r); /* all but id, name, root */
    int (*member_role)(struct store *s, uint64_t ns, uint64_t account,
                       uint64_t *role); /* 0: none */
    int (*member_set)(struct store *s, uint64_t ns, uint64_t account,
                      uint64_t role); /* 0: removes */
    int (*member_list)(struct store *s, uint64_t ns, struct member_row **v, size_t *n,
                       struct arena *ar);
    int (*assigned)(struct store *s, uint64_t ns, struct server_row **v, size_t *n,
                    struct arena *ar); /* by priority, those that leave last */
    /* Also changes the priority of one that is assigned. */
    int (*assign)(struct store *s, uint64_t ns, uint64_t server, uint64_t priority);
    /* Whether it is one of them, leaving or not. */
    int (*assigned_to)(struct store *s, uint64_t ns, uint64_t server, bool *is);
    int (*unassign)(struct store *s, uint64_t ns, uint64_t server);
    int (*leave)(struct store *s, uint64_t ns, uint64_t server, bool leaving);
    /* Its storage began anew: what is recorded of it is not all that it has (15.sql). */
    int (*anew)(struct store *s, uint64_t ns, uint64_t server, bool yes);
    int (*anew_get)(struct store *s, uint64_t ns, uint64_t server, bool *yes);
    /* Whether a block that is present there would have fewer than `copies` elsewhere, as far as
     * there are servers for them; who was not heard of since then counts as having nothing. Also
     * true where it has to be asked again, as much is lacking: it goes on then; and where its
     * storage began anew, while a block is at nobody who stays, unless heard_ms is 0. */
    int (*leave_blocked)(struct store *s, uint64_t ns, uint64_t server, uint64_t copies,
                         uint64_t heard_ms, bool *blocked);
    /* The premises that a namespace never leaves, none: it may go anywhere. While there are some,
     * assignments to servers elsewhere do not count, whatever asks. set replaces them. */
    int (*onsite_list)(struct store *s, uint64_t ns, struct bytes **v, size_t *n, struct arena *ar);
    int (*onsite_set)(struct store *s, uint64_t ns, const struct bytes *v, size_t n);
    /* Namespaces assigned to a server, those above `after`, rising, at most limit. */
    int (*ns_of_server)(struct store *s, uint64_t server, uint64_t after, size_t limit,
                        uint64_t **v, size_t *n, struct arena *ar);
    int (*mount_add)(struct store *s, const struct mount_row *m); /* -EEXIST: mounted already */
    int (*mount_find)(struct store *s, uint64_t ns, uint64_t target, struct mount_row *m);
    int (*mount_remove)(struct store *s, uint64_t ns, uint64_t node);

    /* The tree. inode_put closes the open row if there is one and opens this one; gone is ignored.
     */
    int (*inode_get)(struct store *s, uint64_t ns, uint64_t node, uint64_t at, struct m_inode *i,
                     struct arena *ar);
    /* The newest closed row, and when it ended. */
    int (*inode_last)(struct store *s, uint64_t ns, uint64_t node, struct m_inode *i,
                      uint64_t *ended, struct arena *ar);
    int (*inode_put)(struct store *s, uint64_t ns, uint64_t sjid, const struct m_inode *i);
    int (*inode_close)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node);

    int (*entry_get)(struct store *s, uint64_t ns, uint64_t parent, struct bytes name, uint64_t at,
                     struct entry_row *e);
    /* Closes the open row if there is one; opens one unless node is 0. */
    int (*entry_put)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t parent,
                     struct bytes name, uint64_t node, uint64_t type);
    /* One open name of a node: a directory's only one. */
    int (*entry_of)(struct store *s, uint64_t ns, uint64_t node, uint64_t *parent,
                    struct bytes *name, struct arena *ar);
    /* At most max of a node's open names that it had at `at`, without inodes. */
    int (*entry_names)(struct store *s, uint64_t ns, uint64_t node, uint64_t at, size_t max,
                       struct m_name **v, size_t *n, struct arena *ar);
    /* How many open entries a directory has; counts no further than max. */
    int (*entry_count)(struct store *s, uint64_t ns, uint64_t parent, uint64_t max, uint64_t *n);
    /* At most limit entries with names greater than after, in bytewise order, without inodes. */
    int (*entry_page)(struct store *s, uint64_t ns, uint64_t parent, uint64_t at,
                      struct bytes after, size_t limit, struct m_entry **v, size_t *n,
                      struct arena *ar);

    int (*xattr_get)(struct store *s, uint64_t ns, uint64_t node, struct bytes name, uint64_t at,
                     struct m_xattr *x, struct arena *ar);
    int (*xattr_list)(struct store *s, uint64_t ns, uint64_t node, uint64_t at, struct m_xattr **v,
                      size_t *n, struct arena *ar);
    int (*xattr_put)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, struct bytes name,
                     struct bytes value);
    int (*xattr_close)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node,
                       struct bytes name);
    int (*xattr_close_all)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node);
    /* Opens again, at sjid, what was closed at `ended`. */
    int (*xattr_reopen)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t ended);

    /* At most limit extents that overlap [off, off+len), sorted, not cut at its edges. */
    int (*extent_list)(struct store *s, uint64_t ns, uint64_t node, uint64_t at, uint64_t off,
                       uint64_t len, size_t limit, struct extent_row **v, size_t *n,
                       struct arena *ar);
    int (*extent_open)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node,
                       const struct m_extent *e);
    int (*extent_close)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node, uint64_t off);
    int (*extent_close_all)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node);
    int (*extent_reopen)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t node,
                         uint64_t ended);

    /* Blocks. block_get: length; holders in any order, of any generation, at most CANDIDATES_MAX.
     */
    int (*block_get)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t *len);
    int (*block_put)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t len,
                     uint64_t born); /* nothing where there is a row */
    int (*holders)(struct store *s, uint64_t ns, const struct block_id *b,
                   struct holder_row v[CANDIDATES_MAX], size_t *n);
    int (*presence_put)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                        uint64_t generation, uint64_t proof);
    /* Unless the proof is of `before` or later; *left: whether it is. */
    int (*presence_drop)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                         uint64_t before, bool *left);
    /* At most max blocks, by id, of greater ids than after and up to upto, that are recorded to be
     * at the server under its generation with a proof older than `before`. What is recorded of
     * other servers lies in between: where that is much, upto becomes less. */
    int (*presence_list)(struct store *s, uint64_t ns, uint64_t server, uint64_t generation,
                         uint64_t before, const struct block_id *after, struct block_id *upto,
                         size_t max, struct block_id **v, size_t *n, struct arena *ar);
    /* 5.sql: the generation that a proof must have; 0: none. put raises it. */
    int (*gone_get)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                    uint64_t *generation, enum gone_state *due);
    int (*gone_put)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                    uint64_t generation, int64_t now_ms);

    /* Blocks that nothing refers to (4.sql). note: writes down since when, for at most max that it
     * is not known of; list, sum: those unused since before_ms are due, at most max are looked at;
     * drop: the row goes with all presence. */
    int (*unused_note)(struct store *s, uint64_t ns, int64_t now_ms, size_t max, size_t *n);
    int (*unused_list)(struct store *s, uint64_t ns, uint64_t before_ms, size_t max,
                       struct unused_row **v, size_t *n, struct arena *ar);
    int (*unused_sum)(struct store *s, uint64_t ns, uint64_t before_ms, size_t max,
                      struct unused_sum *sum);
    int (*block_drop)(struct store *s, uint64_t ns, const struct block_id *b);
    /* What servers are to remove. due: it is; order: a state and a generation, which rises; done:
     * unless it was ordered anew; list: of one server; count: of one namespace or (0) all; forget:
     * what is long past; renewed: the server's storage is another one. */
    int (*gone_due)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                    int64_t now_ms);
    int (*gone_order)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                      uint64_t generation, enum gone_state due, int64_t now_ms);
    int (*gone_done)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                     uint64_t generation, int64_t now_ms, bool *was);
    int (*gone_list)(struct store *s, uint64_t server, size_t max, struct gone_row **v, size_t *n,
                     struct arena *ar);
    int (*gone_count)(struct store *s, uint64_t server, uint64_t ns, size_t max, uint64_t *n);
    int (*gone_forget)(struct store *s, uint64_t before_ms, size_t max);
    int (*gone_renewed)(struct store *s, uint64_t server);
    /* Storages of a server, and how they were opened: 10.sql. heard: of the proofs that were
     * believed; most: of all namespaces, 0: none. run_end forgets all but the last ended ones. */
    int (*heard_raise)(struct store *s, uint64_t ns, uint64_t server, uint64_t generation);
    int (*heard_most)(struct store *s, uint64_t server, uint64_t *generation);
    int (*heard_drop)(struct store *s, uint64_t server);
    int (*give_up)(struct store *s, uint64_t server, struct bytes incarnation);
    int (*given_up)(struct store *s, uint64_t server, struct bytes incarnation, bool *yes);
    int (*run_end)(struct store *s, uint64_t server, uint64_t run);
    int (*run_ended)(struct store *s, uint64_t server, uint64_t run, bool *yes);

    /* Ordered checks (9.sql). order: what the one before found is forgotten; report: unless it is
     * of an older order, or that one is done; end: what a check found is forgotten; renewed: of one
     * server; finding_put: another state than is recorded. */
    int (*audit_order)(struct store *s, uint64_t server, uint64_t number, bool read, bool mend,
                       int64_t now_ms);
    int (*audit_report)(struct store *s, uint64_t server, const struct m_check *c, int64_t now_ms);
    int (*audit_get)(struct store *s, uint64_t server, struct audit_row *a);
    int (*audit_end)(struct store *s, uint64_t number);
    int (*audit_renewed)(struct store *s, uint64_t server);
    int (*finding_put)(struct store *s, uint64_t ns, const struct block_id *b, uint64_t server,
                       bool there, uint64_t generation);
    /* At most limit open extents that come after (node, off). */
    int (*extent_page)(struct store *s, uint64_t ns, uint64_t node, uint64_t off, size_t limit,
                       struct piece_row **v, size_t *n, struct arena *ar);
    /* Where the block is: recorded and not found otherwise, or found only. */
    int (*block_at)(struct store *s, uint64_t ns, const struct block_id *b,
                    struct found_row v[2 * CANDIDATES_MAX], size_t *n);

    /* What servers lack: 2.sql has the rules. take removes a block's rows and gives the commits
     * that waited for it; list gives those behind `after` in the order of commits, the newest first
     * (NULL: from the newest on), by block within one, a row for each commit. drop forgets all of
     * a server's, its order of completion too, at once as far as anybody sees, and in steps
     * (unlack) of at most *left rows, which becomes less; anew ends that for one that is assigned
     * again. */
    int (*lack_put)(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                    uint64_t sjid);
    int (*lack_lost)(struct store *s, uint64_t ns, uint64_t server,
                     const struct block_id *b); /* if it is to have it at all */
    int (*lack_take)(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                     uint64_t **sjids, size_t *n, struct arena *ar);
    int (*lack_of)(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid, bool *any);
    int (*lack_list)(struct store *s, uint64_t ns, uint64_t server, const struct lack_row *after,
                     size_t limit, struct lack_row **v, size_t *n, struct arena *ar);
    int (*lack_sum)(struct store *s, uint64_t ns, uint64_t server, struct lack_sum *sum);
    int (*lack_drop)(struct store *s, uint64_t ns, uint64_t server);
    int (*lack_anew)(struct store *s, uint64_t ns, uint64_t server);
    int (*unlack_step)(struct store *s, size_t *left);
    /* What is present at the server; server 0: all that the namespace has. */
    int (*held)(struct store *s, uint64_t ns, uint64_t server, struct held_row *h);
    /* Servers that the namespace (0: any) has left. page: presence behind the block, of all. */
    int (*parted_put)(struct store *s, uint64_t ns, uint64_t server, int64_t now_ms);
    int (*parted_drop)(struct store *s, uint64_t ns, uint64_t server);
    int (*parted_list)(struct store *s, uint64_t ns, struct parted_row **v, size_t *n,
                       struct arena *ar);
    int (*parted_set)(struct store *s, const struct parted_row *p);
    int (*presence_page)(struct store *s, uint64_t ns, const struct block_id *after, size_t max,
                         struct presence_row **v, size_t *n, struct arena *ar);
    /* Whether it is known that the server lacks the block, or it is still being looked up. */
    int (*lack_noted)(struct store *s, uint64_t ns, uint64_t server, const struct block_id *b,
                      bool *yes);
    /* Whether any of what it lacks is at another server of the namespace that was heard of since;
     * true also where it lacks max blocks or more. */
    int (*lack_curable)(struct store *s, uint64_t ns, uint64_t server, uint64_t heard_ms,
                        size_t max, bool *yes);
    /* Begins to look up what an assigned server lacks of all there is, or, of one that is leaving,
     * what nobody has; step: about so many blocks more. */
    int (*fill_begin)(struct store *s, uint64_t ns, uint64_t server);
    int (*fill_step)(struct store *s, uint64_t ns, uint64_t server, size_t blocks, bool *more);
    /* The order of completion: begin counts all up to the head as numbered; add gives the commit
     * the next number unless it has one or its record is gone; next: what follows the number
     * `after` (-ENOENT: nothing). forget drops what is not told of any more, that of commits up to
     * `upto`, at most *left rows, which becomes less. */
    int (*complete_begin)(struct store *s, uint64_t ns, uint64_t server);
    int (*complete_add)(struct store *s, uint64_t ns, uint64_t server, uint64_t sjid);
    int (*complete_forget)(struct store *s, uint64_t ns, uint64_t upto, size_t *left);
    int (*complete_last)(struct store *s, uint64_t ns, uint64_t server,
                         uint64_t *seq); /* the newest number; 0: none */
    int (*complete_next)(struct store *s, uint64_t ns, uint64_t server, uint64_t after,
                         struct run_row *run);

    /* Journal, requests, staged parts. journal_list: records after `after` while their bytes
     * together stay within limit_bytes (the first one always), encoded, at most max. */
    int (*journal_add)(struct store *s, uint64_t ns, const struct m_record *r,
                       struct bytes encoded);
    int (*journal_list)(struct store *s, uint64_t ns, uint64_t after, uint64_t limit_bytes,
                        size_t max, struct bytes **v, size_t *n, struct arena *ar);
    /* *upto: the last of at most max records after `after` of which each is older than before_ms;
     * unchanged if the first one is not. */
    int (*journal_older)(struct store *s, uint64_t ns, uint64_t after, uint64_t before_ms,
                         size_t max, uint64_t *upto);
    int (*journal_forget)(struct store *s, uint64_t ns, uint64_t sjid);
    /* Marks of the journal; get: 0 where there is none. thin: of those from `from` on and below
     * `below` each step'th stays. */
    int (*mark_put)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t mark);
    int (*mark_get)(struct store *s, uint64_t ns, uint64_t sjid, uint64_t *mark);
    int (*mark_thin)(struct store *s, uint64_t ns, uint64_t from, uint64_t below, uint64_t step);
    /* The closed row, if there is one, whose interval ended at sjid. */
    int (*inode_forget)(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid);
    int (*entry_forget)(struct store *s, uint64_t ns, uint64_t parent, struct bytes name,
                        uint64_t sjid);
    /* At most *left closed xattrs and extents of the node that ended at sjid; *left falls. */
    int (*node_rows_forget)(struct store *s, uint64_t ns, uint64_t node, uint64_t sjid,
                            size_t *left);
    int (*request_get)(struct store *s, uint64_t ns, uint64_t device, uint64_t request,
                       struct request_row *r, struct arena *ar);
    int (*request_put)(struct store *s, uint64_t ns, uint64_t device, const struct request_row *r);
    int (*request_list)(struct store *s, uint64_t ns, uint64_t device, uint64_t from, size_t max,
                        struct request_row **v, size_t *n, struct arena *ar); /* answers left out */
    /* Answers and parts below `below` are forgotten. */
    int (*request_forget)(struct store *s, uint64_t ns, uint64_t device, uint64_t below);
    int (*peer_get)(struct store *s, uint64_t ns, uint64_t device, struct peer_row *p);
    int (*peer_put)(struct store *s, uint64_t ns, uint64_t device, const struct peer_row *p);
    int (*stage_put)(struct store *s, uint64_t ns, uint64_t device, uint64_t request, uint64_t part,
                     struct bytes changes);
    /* Parts 0 … parts-1 joined; -ENOENT when one is not there. */
    int (*stage_join)(struct store *s, uint64_t ns, uint64_t device, uint64_t request,
                      uint64_t parts, struct buf *out);
    /* Bytes staged by a device in a namespace. */
    int (*stage_bytes)(struct store *s, uint64_t ns, uint64_t device, uint64_t *bytes);
    int (*stage_drop)(struct store *s, uint64_t ns, uint64_t device, uint64_t request);
};

#endif
