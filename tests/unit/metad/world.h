// SPDX-License-Identifier: Apache-2.0
/* A small installation for the tests of the metadata service: three block servers (hq and cloud are
 * assigned to alice's namespace, attic is not), accounts alice and bob, and a builder of commits.
 */
#ifndef METAD_WORLD_H
#define METAD_WORLD_H

#include "commit.h"
#include "meta.h"
#include "store_sqlite.h"
#include "unit.h"

enum { HQ, CLOUD, ATTIC, SERVERS };

struct user {
    struct meta_caller who;
    uint64_t ns, root, counter, request;
    uint8_t incarnation[16];
};
struct world {
    char dir[64], path[96];
    struct meta *m;
    struct arena ar;
    int64_t now;
    struct user alice, bob;
    uint64_t server[SERVERS];
    struct meta_caller server_who[SERVERS];
    struct token_key key[SERVERS];
    uint8_t incarnation[SERVERS][16];
    char why[512];
    uint64_t blocks; /* made so far */
};

int world_setup(void **state);
int world_teardown(void **state);
void world_reopen(struct world *w);

/* Runs a command line (words separated by blanks) that must end with the status; the answer's text.
 */
char *world_command(struct world *w, const struct meta_caller *who, unsigned status,
                    const char *line);
struct meta_caller world_login(struct world *w, const char *account, const char *device);
extern const struct meta_caller world_admin;

/* ---- commits ---- */
struct plan {
    struct m_node_change nodes[64];
    struct m_entry_change entries[64];
    struct m_xattr_change xattrs[64];
    struct m_changes ch;
    struct m_block_ref ids[64];
    struct m_receipt_bytes receipts[128];
    struct block_id not_held[16];
    uint64_t targets[4];
    struct m_commit_req q;
    struct arena ar;
};
/* Empties it: target hq, the next request number of u. Freed by plan_free. */
void plan_new(struct world *w, struct user *u, struct plan *p);
void plan_free(struct plan *p);
struct m_node_change *plan_create(struct plan *p, uint64_t node, enum node_type type);
struct m_node_change *plan_node(struct plan *p, uint64_t node, uint64_t facets);
/* The node's content change gets one more range of one extent (block NULL: a hole). */
void plan_range(struct plan *p, struct m_node_change *n, uint64_t off, uint64_t len,
                const struct block_id *block, uint64_t block_off);
struct m_entry_change *plan_entry(struct plan *p, uint64_t parent, const char *name,
                                  uint64_t base_node, uint64_t base_rev, uint64_t node);
struct m_xattr_change *plan_xattr(struct plan *p, uint64_t node, const char *name,
                                  uint64_t base_rev, const char *value);
void plan_id(struct plan *p, const struct block_id *b, uint64_t len);
void plan_receipt(struct world *w, struct plan *p, const struct m_receipt *r,
                  const struct token_key *k);
/* Names the block and presents a good receipt of it from server s. */
void plan_block(struct world *w, struct plan *p, uint64_t ns, const struct block_id *b,
                uint64_t len, int s);
/* Sends it. The answer lives in the world's arena. */
struct m_commit_ans world_commit(struct world *w, struct user *u, struct plan *p);
int world_try(struct world *w, struct user *u, struct plan *p, struct m_commit_ans *a);

struct block_id world_block(struct world *w);
uint64_t world_node_id(struct user *u);
struct m_receipt world_receipt(struct world *w, uint64_t ns, const struct block_id *b, uint64_t len,
                               int s);
/* Creates an entry with a new node; a file with one block of len bytes unless len is 0. */
uint64_t world_make(struct world *w, struct user *u, uint64_t parent, const char *name,
                    enum node_type type, uint64_t len);
/* Alice makes a file of one block of 100 bytes: in HQ … */
struct block_id world_make_block(struct world *w, const char *name);
/* … or of this block, with a receipt of that generation from server s. */
#define WORLD_NO_RECEIPT UINT64_MAX
struct m_commit_ans world_commit_with(struct world *w, const struct block_id *b, const char *name,
                                      int s, uint64_t generation);

/* SQL that takes away what migration 13 adds. */
#define VERSION_12                                                                                 \
    " DROP TRIGGER block_comes; DROP TRIGGER block_goes; DROP TRIGGER presence_comes;"             \
    "DROP TRIGGER presence_goes; DROP TRIGGER presence_changes; DROP TABLE held;"                  \
    "DROP TABLE parted; DROP TABLE unlack; DROP TABLE leave_look; DROP TABLE anew;"

/* ---- what block servers say ---- */
struct m_beat_ans world_beat(struct world *w, int s, struct m_lost *lost, size_t n);
/* The server has lost a block of alice's. */
void world_lose(struct world *w, int s, const struct block_id *b, uint64_t generation);
/* It has stored one; how many were recorded. */
uint64_t world_stored(struct world *w, int s, uint64_t ns, const struct block_id *b, uint64_t len,
                      uint64_t generation);
/* How many servers are recorded to have a block of alice's. */
size_t world_holders(struct world *w, const struct block_id *b);

/* As of at (0: the head). inode.node is 0 when absent. */
struct m_inode world_inode(struct world *w, struct user *u, uint64_t node, uint64_t at);
struct m_entry world_lookup(struct world *w, struct user *u, uint64_t parent, const char *name,
                            uint64_t at);
uint64_t world_head(struct world *w, struct user *u);
struct m_range world_extents(struct world *w, struct user *u, uint64_t node, uint64_t at);
uint64_t world_used(struct world *w, struct user *u, uint64_t *nodes);

/* The text has the part. */
void expect_text(const char *text, const char *part);
/* Expects exactly one row. */
void expect_row(const struct m_commit_ans *a, enum commit_status status, enum row_kind kind,
                uint64_t node, enum refusal reason);
/* Sends it as alice; the plan is freed. */
struct m_commit_ans world_send(struct world *w, struct plan *p);
/* The same, and it is refused, and has changed nothing. */
void expect_refused(struct world *w, struct plan *p, enum commit_status status,
                    enum refusal reason);
/* A plan that creates NAME in the root; the rest of it is the caller's. */
uint64_t world_creation(struct world *w, struct plan *p, const char *name, enum node_type type);
/* The namespace of alice as the server sees it, and another server in it; NULL: it is not told. */
const struct m_replica_ns *world_replicas(struct world *w, int s);
const struct m_replica *world_replica(struct world *w, int asks, int of);
#define expect_committed(a) assert_int_equal((a).status, COMMIT_COMMITTED)

#endif
