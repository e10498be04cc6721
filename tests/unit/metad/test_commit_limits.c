// SPDX-License-Identifier: Apache-2.0
/* Quota, roles, members: what an account may. */
#include "world.h"

#include <errno.h>
#include <string.h>

static void bytes_have_a_quota(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    world_command(w, &world_admin, 0, "admin quota alice --bytes 150");
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100);
    uint64_t g = world_creation(w, &p, "g", NODE_REG);
    plan_range(&p, &p.nodes[0], 0, 51, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 51, HQ);
    uint64_t head = world_head(w, &w->alice);
    struct m_commit_ans a = world_send(w, &p);
    expect_row(&a, COMMIT_REFUSED, ROW_NODE_CONTENT, g, REFUSED_QUOTA);
    assert_int_equal(world_head(w, &w->alice), head);
    assert_int_equal(world_inode(w, &w->alice, g, 0).node, 0);
    world_creation(w, &p, "g", NODE_REG);
    plan_range(&p, &p.nodes[0], 0, 50, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 51, HQ);
    expect_committed(world_send(w, &p));
    /* what shrinks is let through even above it */
    world_command(w, &world_admin, 0, "admin quota alice --bytes 20");
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, f, FACET_CONTENT);
    n->base_content = 1;
    n->size = 60;
    expect_committed(world_send(w, &p));
    assert_int_equal(world_used(w, &w->alice, NULL), 110);
}

static void nodes_have_a_quota(void **state)
{
    struct world *w = *state;
    struct plan p;
    world_command(w, &world_admin, 0, "admin quota alice --nodes 1");
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    world_creation(w, &p, "g", NODE_REG);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_QUOTA);
    uint64_t g = world_creation(w, &p, "g", NODE_REG); /* one for another */
    plan_entry(&p, w->alice.root, "f", f, 1, 0)->base_content = 1;
    expect_committed(world_send(w, &p));
    assert_int_equal(world_inode(w, &w->alice, g, 0).node, g);
}

/* What a conflict keeps is let in above the quota; names alone do not lift it. */
static void copies_may_exceed_it_once(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct block_id b = world_block(w);
    struct m_commit_ans a = {0};
    char name[64];
    world_command(w, &world_admin, 0, "admin quota alice --bytes 100 --nodes 4");
    world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100);
    unsigned made = 0;
    for (uint64_t i = 1; i < 10; i++, made++) {
        snprintf(name, sizeof name, "f (conflicted copy, a, 2026-01-0%u)", (unsigned)i);
        uint64_t g = world_creation(w, &p, name, NODE_REG);
        plan_range(&p, &p.nodes[0], 0, 30, &b, 0);
        plan_block(w, &p, w->alice.ns, &b, 51, HQ);
        a = world_send(w, &p);
        if (a.status != COMMIT_COMMITTED) {
            expect_row(&a, COMMIT_REFUSED, ROW_NODE_CONTENT, g, REFUSED_QUOTA);
            break;
        }
    }
    assert_int_equal(made, 3);
    assert_int_equal(world_used(w, &w->alice, NULL), 190);
    made = 4;
    do { /* without bytes: the nodes are counted */
        snprintf(name, sizeof name, "f (conflicted copy, b, 2026-01-0%u)", ++made);
        world_creation(w, &p, name, NODE_REG);
        a = world_send(w, &p);
    } while (a.status == COMMIT_COMMITTED && made < 20);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_QUOTA);
    uint64_t nodes;
    world_used(w, &w->alice, &nodes);
    assert_int_equal(nodes, 8);
}

static void roles_are_kept_to(void **state)
{
    struct world *w = *state;
    struct plan p, q;
    struct user bob = w->bob;
    world_command(w, &w->alice.who, 0, "namespace create team");
    struct ns_row row;
    assert_int_equal(meta_read_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->ns_find(w->m->st, bytes_str("team"), &row, &w->ar), 0);
    assert_int_equal(meta_read_end(w->m, 0), 0);
    bob.ns = row.id;
    bob.root = row.root;
    bob.request = 0;
    plan_new(w, &bob, &p);
    uint64_t node = world_node_id(&bob);
    plan_create(&p, node, NODE_REG);
    plan_entry(&p, row.root, "f", 0, 0, node);
    struct m_commit_ans a = world_commit(w, &bob, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_MEMBER);
    assert_int_equal(a.rows_n, 2);
    assert_int_equal(a.head, 0);

    world_command(w, &w->alice.who, 0, "share team bob viewer");
    a = world_commit(w, &bob, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_ROLE);
    assert_int_equal(world_lookup(w, &bob, row.root, "f", 0).node, 0);
    plan_free(&p);

    world_command(w, &w->alice.who, 0, "share team bob editor");
    plan_new(w, &bob, &q);
    plan_create(&q, node, NODE_REG);
    plan_entry(&q, row.root, "f", 0, 0, node);
    expect_committed(world_commit(w, &bob, &q));
    /* what was committed stays committed for its sender, whatever he may do by now */
    world_command(w, &w->alice.who, 0, "share team bob viewer");
    expect_committed(world_commit(w, &bob, &q));
    world_command(w, &w->alice.who, 0, "share team bob none");
    a = world_commit(w, &bob, &q);
    assert_int_equal(a.rows[0].reason, REFUSED_MEMBER);
    struct m_lookup_req l = {.ns = row.id, .parent = row.root, .name = bytes_str("f"), .at = 1};
    struct m_lookup_ans la;
    assert_int_equal(meta_lookup(w->m, &bob.who, &l, &la, &w->ar, w->why), -EACCES);
    plan_free(&q);
    l.ns = 4711; /* no such namespace: the same answer */
    assert_int_equal(meta_lookup(w->m, &bob.who, &l, &la, &w->ar, w->why), -EACCES);
}

static void mount_nodes_are_left_alone(void **state)
{
    struct world *w = *state;
    struct plan p;
    world_command(w, &w->alice.who, 0, "namespace create team");
    world_command(w, &w->alice.who, 0, "namespace mount team /team");
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, "team", 0);
    assert_int_equal(e.inode.type, NODE_MOUNT);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "team", e.node, e.rev, 0);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, w->alice.root, "team", e.node, e.rev, 0);
    plan_entry(&p, w->alice.root, "mine", 0, 0, e.node);
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, e.node, FACET_ATTR);
    n->base_attr = e.inode.attr_rev;
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, e.node, "user.a", 0, "v");
    expect_refused(w, &p, COMMIT_REFUSED, REFUSED_INVALID);
    world_creation(w, &p, "x", NODE_REG);
    p.entries[0].parent = e.node;
    expect_refused(w, &p, COMMIT_CONFLICT, REFUSED_PARENT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(bytes_have_a_quota), TEST(nodes_have_a_quota),         TEST(copies_may_exceed_it_once),
        TEST(roles_are_kept_to),  TEST(mount_nodes_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
