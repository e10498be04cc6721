// SPDX-License-Identifier: Apache-2.0
/* A core on a simulated disk, and the server played by the test: what is planned is decoded, what
 * the server says is made row by row. Device 1 is ours; nodes of others are NODE_ID(2, k). The
 * namespace is 7, its root node 1. Helpers fail the test when a step that must work does not. */
#ifndef CORE_WORLD_H
#define CORE_WORLD_H

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "blockid.h"
#include "core.h"
#include "simvfs.h"
#include "tree.h"

#define NS 7u
#define ROOT 1u
#define THEIRS(k) NODE_ID(2, (k))
#define REC_ROWS 16

struct world {
    struct simvfs *disk;
    struct tree *tree;
    struct core *core;
    uint32_t device; /* number, from the next start on */
    struct core_who who;
    struct core_need need;
    struct core_bounds bounds; /* from the next start on */
    struct core_effects fx;    /* of the last call */
    uint64_t head;             /* SJID of the last record or commit */
    uint64_t open_node;        /* in_use says yes to it */
    bool unfinished;           /* may_commit says no */
    uint64_t in_memory;        /* in_tree says no to it */
    const char *claim;         /* claimed says yes to this name, in any directory */
    bool changes_seen;         /* content_changes was called */
    /* the plan made last */
    struct core_plan plan;
    struct m_changes changes;
    struct arena plan_arena;
    /* the record being made */
    struct m_record rec;
    struct m_inode inodes[REC_ROWS];
    struct m_entry entries[REC_ROWS];
    struct m_xattr xattrs[REC_ROWS];
    struct m_content contents[REC_ROWS];
    struct m_range ranges[REC_ROWS];
    struct m_extent extents[REC_ROWS];
    size_t ranges_n, extents_n;
};

/* The root is loaded; whole: all its (no) names too. */
struct world *world_new(bool whole);
void world_free(struct world *w);
enum world_end { END_CLEAN, END_KILL, END_POWER };
/* Ends the core and starts it again on the same tree. */
void world_restart(struct world *w, enum world_end how);
void world_session(struct world *w, uint64_t head, enum role role);

/* ---- programs ----------------------------------------------------------------------------------
 */
struct bytes name_of(const char *s);
uint64_t make(struct world *w, uint64_t parent, const char *name, enum node_type type);
int try_make(struct world *w, uint64_t parent, const char *name, enum node_type type,
             uint64_t *node);
int lookup(struct world *w, uint64_t parent, const char *name, struct core_attr *a);
uint64_t node_at(struct world *w, uint64_t parent, const char *name); /* 0: absent */
/* Fails the test unless the node is gone from the tree. */
void assert_no_node(struct world *w, uint64_t node);
struct core_attr attr(struct world *w, uint64_t node);
int rename_to(struct world *w, uint64_t from, const char *a, uint64_t to, const char *b,
              unsigned flags);
int remove_name(struct world *w, uint64_t parent, const char *name, bool dir);
/* One block, unlike others for another tag, written whole at off. */
struct block_id block(unsigned tag);
struct m_extent extent(uint64_t off, uint64_t len, unsigned tag, uint64_t block_off);
void write_block(struct world *w, uint64_t node, uint64_t off, uint64_t len, unsigned tag);
/* What [0, size) consists of, as "off+len=tag@block_off …". */
void assert_content(struct world *w, uint64_t node, const char *expected);
void set_mode(struct world *w, uint64_t node, uint32_t mode);
int set_xattr(struct world *w, uint64_t node, const char *name, const char *value, unsigned flags);
/* value NULL: absent */
void assert_xattr(struct world *w, uint64_t node, const char *name, const char *value);
/* Names in a directory, in order of their bytes, separated by blanks. */
void assert_names(struct world *w, uint64_t dir, const char *expected);

/* ---- what is sent
 * -------------------------------------------------------------------------------- */
/* fsync of node, or (0) background. The result of core_plan; the plan is decoded. */
int plan(struct world *w, uint64_t node);
/* plan must work. */
void planned(struct world *w, uint64_t node);
size_t rows(const struct world *w); /* nodes, entries and xattrs */
const struct m_node_change *sent_node(const struct world *w, uint64_t node);
/* Whether the plan says: (parent, name) was base, becomes node. */
bool sent_entry(const struct world *w, uint64_t parent, const char *name, uint64_t base,
                uint64_t node);
/* The answer to the plan. */
void answer_committed(struct world *w);
int answer(struct world *w, enum commit_status status, enum row_kind kind, uint64_t node,
           const char *name, enum refusal reason);
/* plan(0) and answer_committed until nothing is left. */
void commit_all(struct world *w);
void assert_clean(struct world *w);

/* ---- what the server says
 * --------------------------------------------------------------------------- */
/* Begins the next record; rows are added; apply applies it. */
void rec_begin(struct world *w);
struct m_inode *rec_inode(struct world *w, uint64_t node, enum node_type type, uint64_t nlink);
/* The node as it is here, changed by nothing: its counts as the server would tell them. */
struct m_inode *rec_known(struct world *w, uint64_t node);
void rec_entry(struct world *w, uint64_t parent, const char *name, uint64_t node,
               enum node_type type);
void rec_xattr(struct world *w, uint64_t node, const char *name, const char *value);
/* Content of the node of the last rec_inode: size, and one changed range of one block (tag 0: a
 * hole). */
void rec_content(struct world *w, uint64_t size, uint64_t off, uint64_t len, unsigned tag);
void rec_own(struct world *w, uint64_t request);
int try_apply(struct world *w);
void apply(struct world *w);
/* A whole record: another device makes a file, a directory; removes the name of a file. */
void theirs_make(struct world *w, uint64_t parent, const char *name, uint64_t node,
                 enum node_type type);
void theirs_remove(struct world *w, uint64_t parent, const char *name, uint64_t node);
void theirs_write(struct world *w, uint64_t node, uint64_t size, uint64_t off, uint64_t len,
                  unsigned tag);
const struct core_effect *effect(const struct world *w, enum effect_kind k);

/* ---- loads
 * ---------------------------------------------------------------------------------------------- */
/* Answers w->need: a name (node 0: absent), a page, a node, extents. */
int load_name(struct world *w, uint64_t node, enum node_type type);
int load_page(struct world *w, const struct m_entry *v, size_t n, bool more);
int load_node(struct world *w, const struct m_inode *n, const struct m_xattr *x, size_t x_n);
int load_extents(struct world *w, const struct m_extent *v, size_t n, uint64_t end);
struct m_entry page_entry(uint64_t parent, const char *name, uint64_t node, enum node_type type);
#endif
