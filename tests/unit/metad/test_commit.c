// SPDX-License-Identifier: Apache-2.0
/* Bases, results, revival, form: each rule of a commit's changes has a test here. */
#include "world.h"

#include <errno.h>
#include <string.h>

/* ---- bases ---- */
static void facets_have_their_own_revisions(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100); /* 1 */
    plan_new(w, &w->alice, &p);                                               /* 2: attributes */
    struct m_node_change *n = plan_node(&p, f, FACET_ATTR);
    n->base_attr = 1;
    n->mode = 0600;
    n->ctime = 5; /* older than the node's: the larger stays */
    expect_committed(world_send(w, &p));
    struct m_inode i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.mode, 0600);
    assert_int_equal(i.attr_rev, 2);
    assert_int_equal(i.content_rev, 1);
    assert_int_equal(i.ctime, 12);
    assert_int_equal(i.mtime, 11);

    plan_new(w, &w->alice, &p); /* 3: content, based on 1: no conflict with 2 */
    n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->mtime = 50;
    n->ctime = 60;
    n->size = 100;
    plan_range(&p, n, 10, 5, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 5, HQ);
    expect_committed(world_send(w, &p));
    i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.content_rev, 3);
    assert_int_equal(i.attr_rev, 2);
    assert_int_equal(i.mtime, 50);
    assert_int_equal(i.ctime, 60);
    assert_int_equal(i.stored, 100);

    plan_new(w, &w->alice, &p); /* 4: xattr */
    plan_xattr(&p, f, "user.a", 0, "one");
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p); /* 5: another xattr, and times, which have no base */
    plan_xattr(&p, f, "user.b", 0, "two");
    plan_node(&p, f, FACET_TIMES)->mtime = 70;
    expect_committed(world_send(w, &p));
    i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.mtime, 70);
    assert_int_equal(i.content_rev, 3);
    assert_int_equal(i.xattrs, 2);

    /* every base that does not match is listed, and nothing is applied */
    plan_new(w, &w->alice, &p);
    n = plan_node(&p, f, FACET_ATTR | FACET_CONTENT);
    n->base_attr = 1;
    n->base_content = 1;
    n->size = 100;
    plan_xattr(&p, f, "user.a", 3, "x");
    plan_xattr(&p, f, "user.b", 5, "fine");
    plan_xattr(&p, f, "user.c", 2, "was never there");
    plan_entry(&p, w->alice.root, "f", f, 9, 0);
    struct m_commit_ans a = world_send(w, &p);
    assert_int_equal(a.status, COMMIT_CONFLICT);
    assert_int_equal(a.rows_n, 5);
    static const enum row_kind kinds[] = {ROW_NODE_ATTR, ROW_NODE_CONTENT, ROW_ENTRY, ROW_XATTR,
                                          ROW_XATTR};
    for (size_t k = 0; k < 5; k++) {
        assert_int_equal(a.rows[k].kind, kinds[k]);
        assert_int_equal(a.rows[k].reason, REFUSED_BASE);
    }
    assert_int_equal(a.head, 5);
}

static void xattrs_come_and_go(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 0, "one");
    plan_xattr(&p, f, "user.never", 0, NULL); /* removing what is not there changes nothing */
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 0, "again"); /* was absent: it was not */
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 2, NULL);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).xattrs, 0);
    assert_int_equal(world_inode(w, &w->alice, f, 2).xattrs, 1);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.a", 0, "");
    expect_committed(world_send(w, &p));
    struct m_node_req q = {.ns = w->alice.ns, .node = f, .at = 4};
    struct m_node_ans a;
    assert_int_equal(meta_node(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.xattrs_n, 1);
    assert_int_equal(a.xattrs[0].rev, 4);
    assert_int_equal(a.xattrs[0].value.n, 0);
}

static void a_node_has_so_many_xattrs(void **state)
{
    struct world *w = *state;
    struct plan p;
    char names[XATTRS_MAX + 1][16];
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    for (size_t k = 0; k < XATTRS_MAX; k += 64) {
        plan_new(w, &w->alice, &p);
        for (size_t j = k; j < k + 64; j++) {
            snprintf(names[j], sizeof names[j], "user.%zu", j);
            plan_xattr(&p, f, names[j], 0, "v");
        }
        expect_committed(world_send(w, &p));
    }
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, f, "user.more", 0, "v");
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
}

static void edits_win_over_deletes(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 10);
    plan_new(w, &w->alice, &p); /* 2: the edit */
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->size = 10;
    plan_range(&p, n, 0, 4, NULL, 0);
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p); /* the delete did not know it */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    /* one of two names may be taken without knowing the content */
    plan_new(w, &w->alice, &p); /* 3 */
    plan_entry(&p, w->alice.root, "g", 0, 0, f);
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p); /* 4 */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p); /* replaced by rename: the last name again */
    uint64_t h = world_node_id(&w->alice);
    plan_create(&p, h, NODE_REG);
    plan_entry(&p, w->alice.root, "g", f, 3, h)->base_content = 1;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p); /* a rename takes no name away in the end */
    plan_entry(&p, w->alice.root, "g", f, 3, 0);
    plan_entry(&p, w->alice.root, "i", 0, 0, f);
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "i", f, 5, 0)->base_content = 2;
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).node, 0);
    uint64_t nodes;
    assert_int_equal(world_used(w, &w->alice, &nodes), 0);
    assert_int_equal(nodes, 0);
}

/* What the commit says of the node besides is not done: it comes back as it was. */
static void a_deleted_node_is_told_as_it_was(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100); /* 1 */
    struct m_inode was = world_inode(w, &w->alice, f, 0);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT | FACET_ATTR);
    n->base_content = n->base_attr = 1;
    n->size = 10;
    n->mtime = n->ctime = was.ctime + 5;
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(world_send(w, &p)); /* 2 */
    struct m_list_req q = {.ns = w->alice.ns, .from = 1};
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    const struct m_inode *i = a.records[0].inodes;
    while (i->node != f)
        i++;
    assert_true(i->gone);
    assert_int_equal(i->size, 100);
    assert_int_equal(i->content_rev, 1);
    assert_int_equal(i->attr_rev, 1);
    assert_int_equal(i->ctime, was.ctime);

    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    n = plan_node(&p, f, FACET_CONTENT); /* on what the record said */
    n->base_content = i->content_rev;
    n->size = 100;
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).attr_rev, 1);
}

static void a_deleted_node_is_opened_again(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0); /* 1 */
    uint64_t f = world_make(w, &w->alice, d, "f", NODE_REG, 100);           /* 2 */
    plan_new(w, &w->alice, &p);                                             /* 3 */
    plan_xattr(&p, f, "user.a", 0, "kept");
    plan_xattr(&p, f, "user.b", 0, "changed");
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p); /* 4: rm -r */
    plan_entry(&p, d, "f", f, 2, 0)->base_content = 2;
    plan_entry(&p, w->alice.root, "d", d, 1, 0);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_used(w, &w->alice, NULL), 0);

    plan_new(w, &w->alice, &p); /* an edit alone is a conflict: the node has no name */
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 2;
    n->size = 100;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p); /* with its name, but another base */
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->size = 100;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_BASE);
    plan_new(w, &w->alice, &p); /* its directory is gone too */
    plan_entry(&p, d, "f", 0, 0, f);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
    plan_new(w, &w->alice, &p); /* times of what is gone are ignored */
    plan_node(&p, f, FACET_TIMES)->mtime = 1;
    expect_committed(world_send(w, &p)); /* 5 */

    plan_new(w, &w->alice, &p); /* 6: both come back, the file edited */
    plan_entry(&p, w->alice.root, "d", 0, 0, d);
    plan_entry(&p, d, "f", 0, 0, f);
    n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 2;
    n->size = 100;
    n->mtime = 99;
    plan_range(&p, n, 40, 10, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 10, HQ);
    plan_xattr(&p, f, "user.b", 3, "new");
    expect_committed(world_send(w, &p));
    struct m_inode i = world_inode(w, &w->alice, f, 0);
    assert_int_equal(i.nlink, 1);
    assert_int_equal(i.stored, 100);
    assert_int_equal(i.mtime, 99);
    assert_int_equal(i.content_rev, 6);
    assert_int_equal(i.attr_rev, 2);
    assert_int_equal(i.xattrs, 2);
    assert_int_equal(world_extents(w, &w->alice, f, 0).extents_n, 3);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 2);
    uint64_t nodes;
    assert_int_equal(world_used(w, &w->alice, &nodes), 100);
    assert_int_equal(nodes, 2);
    assert_int_equal(world_inode(w, &w->alice, f, 4).node, 0); /* it was gone then */
    assert_int_equal(world_extents(w, &w->alice, f, 4).extents_n, 0);
    assert_int_equal(world_extents(w, &w->alice, f, 3).extents_n, 1);

    struct m_list_req q = {.ns = w->alice.ns, .from = 5}; /* the record tells the new revisions */
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    assert_int_equal(a.records[0].xattrs_n, 2);
    assert_int_equal(a.records[0].xattrs[0].rev, 6);
    assert_int_equal(a.records[0].contents_n, 1);
    assert_int_equal(a.records[0].contents[0].ranges[0].off, 40);

    plan_new(w, &w->alice, &p); /* 7: deleted and 8: opened once more */
    plan_entry(&p, d, "f", f, 6, 0)->base_content = 6;
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "f", 0, 0, f);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_extents(w, &w->alice, f, 0).extents_n, 3);
    assert_int_equal(world_inode(w, &w->alice, f, 0).content_rev, 6);
}

/* ---- results ---- */
static void ids_are_new_and_ones_own(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_create(&p, f, NODE_REG);
    plan_entry(&p, w->alice.root, "g", 0, 0, f);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_EXISTS);
    plan_new(w, &w->alice, &p); /* not after its end either */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(world_send(w, &p));
    plan_new(w, &w->alice, &p);
    plan_create(&p, f, NODE_REG);
    plan_entry(&p, w->alice.root, "g", 0, 0, f);
    struct m_commit_ans a = world_send(w, &p);
    expect_row(&a, COMMIT_CONFLICT, ROW_NODE, f, REFUSED_EXISTS);
    uint64_t foreign[] = {NODE_ID(w->bob.who.device, 77), NODE_ID(0, 77),
                          NODE_ID(w->alice.who.device, 0), (uint64_t)INT64_MAX + 1};
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
        plan_new(w, &w->alice, &p);
        plan_create(&p, foreign[k], NODE_REG);
        plan_entry(&p, w->alice.root, "g", 0, 0, foreign[k]);
        expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    }
}

static void every_created_node_gets_a_name(void **state)
{
    struct world *w = *state;
    struct plan p;
    plan_new(w, &w->alice, &p);
    plan_create(&p, world_node_id(&w->alice), NODE_REG);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p); /* and a name a node */
    plan_entry(&p, w->alice.root, "ghost", 0, 0, world_node_id(&w->alice));
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
}

static void parents_are_directories(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t parents[] = {f, NODE_ID(w->alice.who.device, 999), w->bob.root};
    for (size_t k = 0; k < 3; k++) {
        world_creation(w, &p, "x", NODE_REG);
        p.entries[0].parent = parents[k];
        expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
    }
    world_creation(w, &p, "x", NODE_REG); /* removed in the same commit */
    p.entries[0].parent = d;
    plan_entry(&p, w->alice.root, "d", d, 2, 0);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
}

static void removed_directories_are_empty(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, d, "f", NODE_REG, 0);
    world_make(w, &w->alice, d, "g", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "d", d, 1, 0);
    plan_entry(&p, d, "f", f, 2, 0)->base_content = 2;
    struct m_commit_ans a = world_send(w, &p);
    expect_row(&a, COMMIT_CONFLICT, ROW_ENTRY, w->alice.root, REFUSED_NOT_EMPTY);
    assert_memory_equal(a.rows[0].name.p, "d", 1);
    plan_new(w, &w->alice, &p); /* replaced by another directory: the same */
    uint64_t e = world_node_id(&w->alice);
    plan_create(&p, e, NODE_DIR);
    plan_entry(&p, w->alice.root, "d", d, 1, e);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_NOT_EMPTY);
    plan_new(w, &w->alice, &p); /* moved out and removed at once */
    plan_entry(&p, w->alice.root, "d", d, 1, 0);
    plan_entry(&p, d, "f", f, 2, 0)->base_content = 2;
    plan_entry(&p, d, "g", NODE_ID(w->alice.who.device, 3), 3, 0);
    plan_entry(&p, w->alice.root, "g", 0, 0, NODE_ID(w->alice.who.device, 3));
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 2);
}

static void no_directory_below_itself(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t a = world_make(w, &w->alice, w->alice.root, "a", NODE_DIR, 0); /* 1 */
    uint64_t b = world_make(w, &w->alice, a, "b", NODE_DIR, 0);             /* 2 */
    uint64_t c = world_make(w, &w->alice, b, "c", NODE_DIR, 0);             /* 3 */
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "a", a, 1, 0);
    plan_entry(&p, c, "a", 0, 0, a);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "a", a, 1, 0);
    plan_entry(&p, a, "a", 0, 0, a);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p); /* two new ones, each in the other */
    uint64_t x = world_node_id(&w->alice), y = world_node_id(&w->alice);
    plan_create(&p, x, NODE_DIR);
    plan_create(&p, y, NODE_DIR);
    plan_entry(&p, x, "y", 0, 0, y);
    plan_entry(&p, y, "x", 0, 0, x);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p); /* two names */
    plan_entry(&p, w->alice.root, "b", 0, 0, b);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
    plan_new(w, &w->alice, &p); /* turning the chain round is no cycle */
    plan_entry(&p, w->alice.root, "a", a, 1, 0);
    plan_entry(&p, a, "b", b, 2, 0);
    plan_entry(&p, w->alice.root, "b", 0, 0, b);
    plan_entry(&p, c, "a", 0, 0, a);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, a, 0).nlink, 2);
    assert_int_equal(world_inode(w, &w->alice, c, 0).nlink, 3);
    plan_new(w, &w->alice, &p); /* below a new directory that lies below itself */
    x = world_node_id(&w->alice);
    plan_create(&p, x, NODE_DIR);
    plan_entry(&p, w->alice.root, "b", b, 4, 0);
    plan_entry(&p, x, "b", 0, 0, b);
    plan_entry(&p, c, "x", 0, 0, x);
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_CYCLE);
}

static void the_root_stays_the_root(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, d, "up", 0, 0, w->alice.root);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, w->alice.root, FACET_ATTR | FACET_TIMES);
    n->mode = 0700;
    n->mtime = 5;
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).mode, 0700);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 1).mode, 0755);
}

static void links_are_counted(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, d, "f", NODE_REG, 0);
    world_make(w, &w->alice, d, "s", NODE_DIR, 0);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 3);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 3);
    plan_new(w, &w->alice, &p); /* 4 */
    plan_entry(&p, d, "g", 0, 0, f);
    plan_entry(&p, w->alice.root, "h", 0, 0, f);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).nlink, 3);
    assert_int_equal(world_lookup(w, &w->alice, d, "f", 0).inode.nlink, 3);
    plan_new(w, &w->alice, &p); /* 5: s moves to the root, g goes */
    plan_entry(&p, d, "s", NODE_ID(w->alice.who.device, 3), 3, 0);
    plan_entry(&p, w->alice.root, "s", 0, 0, NODE_ID(w->alice.who.device, 3));
    plan_entry(&p, d, "g", f, 4, 0);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, f, 0).nlink, 2);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 2);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 4);
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 4).nlink, 3);
    plan_new(w, &w->alice, &p); /* exchange of two names */
    plan_entry(&p, w->alice.root, "h", f, 4, d);
    plan_entry(&p, w->alice.root, "d", d, 1, f);
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, w->alice.root, 0).nlink, 4);
    assert_int_equal(world_lookup(w, &w->alice, w->alice.root, "d", 0).node, f);
    assert_int_equal(world_lookup(w, &w->alice, w->alice.root, "d", 5).node, d);
}

/* Who knows only one of the two names learns the directory's count from the record alone. */
static void a_count_that_stays_is_told(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct m_list_ans a;
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "d", d, 1, f);
    plan_entry(&p, w->alice.root, "f", f, 2, d);
    expect_committed(world_send(w, &p));
    struct m_list_req q = {.ns = w->alice.ns, .from = 2};
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    unsigned told = 0;
    for (size_t k = 0; k < a.records[0].inodes_n; k++) {
        const struct m_inode *i = &a.records[0].inodes[k];
        told += i->node == w->alice.root && i->nlink == 3;
        told += i->node == f && i->nlink == 1;
    }
    assert_int_equal(told, 2);
}

/* ---- form ---- */
static void rows_are_well_formed(void **state)
{
    struct world *w = *state;
    struct plan p;
    static const char *const names[] = {".", "..", "a/b", "/"};
    for (size_t k = 0; k < 4; k++) {
        world_creation(w, &p, names[k], NODE_REG);
        expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    }
    world_creation(w, &p, "x", NODE_REG);
    p.entries[0].name = bytes_of("a\0b", 3);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
#define BREAK(how)                                                                                 \
    do {                                                                                           \
        world_creation(w, &p, "x", NODE_REG);                                                      \
        struct m_node_change *n = &p.nodes[0];                                                     \
        how;                                                                                       \
        expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);                                    \
    } while (0)
    struct block_id b = world_block(w);
    BREAK(n->type = NODE_MOUNT);
    BREAK(n->type = NODE_BLK + 5);
    BREAK(n->mode = 010000);
    BREAK(n->uid = 1ull << 32);
    BREAK(n->rdev = 5);
    BREAK(n->target = bytes_str("t"));
    BREAK(n->type = NODE_SYMLINK);
    BREAK(n->facets |= 64);
    BREAK(n->size = 5); /* without content */
    BREAK(n->type = NODE_DIR; plan_range(&p, n, 0, 10, &b, 0));
    BREAK(plan_range(&p, n, 0, 10, &b, 0); n->size = 9);
    BREAK(plan_range(&p, n, 0, 10, &b, BLOCK_MAX - 9));
    BREAK(plan_range(&p, n, 10, 10, &b, 0); plan_range(&p, n, 5, 6, &b, 0));
    BREAK(plan_range(&p, n, 0, 10, &b, 0); n->ranges[0].len = 9);
    BREAK(plan_range(&p, n, (uint64_t)INT64_MAX - 5, 10, NULL, 0));
    BREAK(plan_entry(&p, w->alice.root, "x", 0, 0, n->node)); /* one name twice */
    BREAK(plan_node(&p, n->node, FACET_TIMES));               /* one node twice */
    BREAK(plan_xattr(&p, n->node, "user.a", 0, "1"); plan_xattr(&p, n->node, "user.a", 0, "2"));
    BREAK(plan_xattr(&p, n->node, "", 0, "1"));
#undef BREAK
    plan_new(w, &w->alice, &p); /* nothing at all */
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    world_creation(w, &p, "fine", NODE_CHR);
    p.nodes[0].rdev = 5;
    expect_committed(world_send(w, &p));
    world_creation(w, &p, "link", NODE_SYMLINK);
    expect_committed(world_send(w, &p));
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, "link", 0);
    assert_int_equal(e.inode.target.n, strlen("where/it/points"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(facets_have_their_own_revisions),
        TEST(xattrs_come_and_go),
        TEST(a_node_has_so_many_xattrs),
        TEST(edits_win_over_deletes),
        TEST(a_deleted_node_is_told_as_it_was),
        TEST(a_deleted_node_is_opened_again),
        TEST(ids_are_new_and_ones_own),
        TEST(every_created_node_gets_a_name),
        TEST(parents_are_directories),
        TEST(removed_directories_are_empty),
        TEST(no_directory_below_itself),
        TEST(the_root_stays_the_root),
        TEST(links_are_counted),
        TEST(a_count_that_stays_is_told),
        TEST(rows_are_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
