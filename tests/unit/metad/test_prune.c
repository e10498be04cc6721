// SPDX-License-Identifier: Apache-2.0
/* Forgetting the past: how far, what stays readable, what is left, and how much at a time. */
#include "world.h"

#include "meta_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_MS 1000000
#define DAYS 8

/* ---- a past ---------------------------------------------------------------------------------- */
static void write_at(struct world *w, uint64_t node, uint64_t off)
{
    struct plan p;
    struct block_id b = world_block(w);
    struct m_inode now = world_inode(w, &w->alice, node, 0);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, node, FACET_CONTENT);
    n->size = now.size > off + 10 ? now.size : off + 10;
    n->base_content = now.content_rev;
    plan_range(&p, n, off, 10, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 10, HQ);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
}

static void remove_name(struct world *w, uint64_t parent, const char *name)
{
    struct plan p;
    struct m_entry e = world_lookup(w, &w->alice, parent, name, 0);
    plan_new(w, &w->alice, &p);
    plan_entry(&p, parent, name, e.node, e.rev, 0)->base_content = e.inode.content_rev;
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
}

static void set_xattr(struct world *w, uint64_t node, uint64_t base, const char *value)
{
    struct plan p;
    plan_new(w, &w->alice, &p);
    plan_xattr(&p, node, "user.a", base, value);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
}

/* The same changes every day: rows of all kinds are closed. */
static void day(struct world *w)
{
    char name[32];
    uint64_t root = w->alice.root, f = world_lookup(w, &w->alice, root, "f", 0).node;
    snprintf(name, sizeof name, "file%llu", (unsigned long long)w->now);
    uint64_t g = world_make(w, &w->alice, root, name, NODE_REG, 10);
    set_xattr(w, g, 0, "1");
    set_xattr(w, g, world_head(w, &w->alice), "2");
    if (!f)
        f = world_make(w, &w->alice, root, "f", NODE_REG, 100);
    write_at(w, f, 5);
    write_at(w, f, 40);
    remove_name(w, root, name);
    w->now += KEEP_MS;
}

/* ---- what can be read ------------------------------------------------------------------------ */
/* The tree as of an SJID as text, or its errno. */
static int tree_at(struct world *w, uint64_t at, struct buf *out)
{
    struct m_readdir_req q = {.ns = w->alice.ns, .dir = w->alice.root, .at = at};
    struct m_readdir_ans a;
    int err = meta_readdir(w->m, &w->alice.who, &q, &a, &w->ar, w->why);
    for (size_t i = 0; i < a.entries_n && !err; i++) {
        struct m_node_req nq = {.ns = w->alice.ns, .node = a.entries[i].node, .at = at};
        struct m_node_ans n;
        struct m_range r = world_extents(w, &w->alice, a.entries[i].node, at);
        err = meta_node(w->m, &w->alice.who, &nq, &n, &w->ar, w->why);
        buf_printf(out, "%.*s %llu %llu %llu:", (int)a.entries[i].name.n,
                   (const char *)a.entries[i].name.p, (unsigned long long)n.inode.size,
                   (unsigned long long)n.inode.content_rev, (unsigned long long)n.inode.stored);
        for (size_t k = 0; k < r.extents_n; k++)
            buf_printf(out, " %llu+%llu", (unsigned long long)r.extents[k].off,
                       (unsigned long long)r.extents[k].len);
        for (size_t k = 0; k < n.xattrs_n; k++)
            buf_printf(out, " %.*s", (int)n.xattrs[k].value.n, (const char *)n.xattrs[k].value.p);
        buf_printf(out, "; ");
    }
    return err;
}

static uint64_t floor_of(struct world *w)
{
    cleanup_arena struct arena ar = {0};
    struct ns_row row;
    assert_int_equal(w->m->st->ops->ns_get(w->m->st, w->alice.ns, &row, &ar), 0);
    return row.floor;
}

static uint64_t rows(struct world *w, const char *sql)
{
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(((struct sq *)w->m->st)->db, sql, -1, &s, NULL), SQLITE_OK);
    sqlite3_bind_int64(s, 1, (int64_t)w->alice.ns);
    sqlite3_bind_int64(s, 2, (int64_t)floor_of(w));
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    uint64_t n = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

#define PAST(table) "(SELECT count(*) FROM " table " WHERE ns = ?1 AND to_sjid <= ?2)"
#define UNNEEDED                                                                                   \
    "SELECT " PAST("inode_past") " + " PAST("entry_past") " + " PAST("xattr_past") " + " PAST(     \
        "extent_past") " + (SELECT count(*) FROM journal WHERE ns = ?1 AND sjid <= ?2)"

static unsigned prune(struct world *w)
{
    bool more = true;
    unsigned steps = 0;
    while (more) {
        assert_true(steps++ < 1000);
        assert_int_equal(meta_prune(w->m, w->now, KEEP_MS * 3, &more), 0);
    }
    return steps;
}

/* ---- tests ----------------------------------------------------------------------------------- */
static void test_nothing_young_is_forgotten(void **state)
{
    struct world *w = *state;
    day(w);
    day(w);
    uint64_t closed = rows(w, "SELECT count(*) FROM inode_past WHERE ns = ?1 AND ?2 >= 0");
    assert_true(closed > 0);
    assert_int_equal(prune(w), 1);
    assert_int_equal(floor_of(w), 0);
    assert_int_equal(rows(w, "SELECT count(*) FROM inode_past WHERE ns = ?1 AND ?2 >= 0"), closed);
}

static void test_what_is_kept_reads_as_before(void **state)
{
    struct world *w = *state;
    for (unsigned d = 0; d < DAYS; d++)
        day(w);
    uint64_t head = world_head(w, &w->alice);
    struct buf *before = calloc(head + 1, sizeof *before);
    assert_non_null(before);
    for (uint64_t at = 0; at <= head; at++)
        assert_int_equal(tree_at(w, at, &before[at]), 0);
    prune(w);
    uint64_t floor = floor_of(w);
    assert_true(floor > head / 2 && floor < head);
    for (uint64_t at = 0; at <= head; at++) {
        cleanup_buf struct buf now = {0};
        assert_int_equal(tree_at(w, at, &now), at < floor ? -ESTALE : 0);
        if (at >= floor)
            assert_true(bytes_equal(bytes_of(now.p, now.n), bytes_of(before[at].p, before[at].n)));
        buf_free(&before[at]);
    }
    free(before);
    assert_int_equal(rows(w, UNNEEDED), 0); /* and nothing is left that nobody can read */
    struct m_list_req q = {.ns = w->alice.ns, .from = floor};
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.resync, 0);
    assert_int_equal(a.records_n, head - floor);
    q.from = floor - 1;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.resync, head);
    day(w); /* it goes on */
    prune(w);
    assert_true(floor_of(w) > floor);
    assert_int_equal(rows(w, UNNEEDED), 0);
}

/* Removed longer ago than that, a node is as if it had never been: nothing revives half of it. */
static void test_a_forgotten_node_is_not_revived(void **state)
{
    struct world *w = *state;
    struct plan p;
    uint64_t g = world_make(w, &w->alice, w->alice.root, "g", NODE_REG, 100);
    struct m_inode was = world_inode(w, &w->alice, g, 0);
    remove_name(w, w->alice.root, "g");
    w->now += 10 * KEEP_MS;
    prune(w);
    plan_new(w, &w->alice, &p);
    plan_node(&p, g, FACET_ATTR)->base_attr = was.attr_rev;
    plan_entry(&p, w->alice.root, "g", 0, 0, g);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_CONFLICT);
    plan_free(&p);
}

/* A step drops a bounded number of rows, however many one commit closed. */
static void test_steps_are_bounded(void **state)
{
    struct world *w = *state;
    enum { EXTENTS = 20000 };
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100);
    sqlite3 *db = ((struct sq *)w->m->st)->db;
    sqlite3_stmt *s = NULL;
    remove_name(w, w->alice.root, "f");
    uint64_t removed = world_head(w, &w->alice);
    assert_int_equal(
        sqlite3_prepare_v2(db, "INSERT INTO extent_past VALUES(?, ?, ?, ?, ?, 1, x'00', 0)", -1, &s,
                           NULL),
        SQLITE_OK);
    for (uint64_t i = 0; i < EXTENTS; i++) {
        const uint64_t v[] = {w->alice.ns, f, removed, 1000 + i, removed - 1};
        for (int k = 0; k < 5; k++)
            sqlite3_bind_int64(s, k + 1, (int64_t)v[k]);
        assert_int_equal(sqlite3_step(s), SQLITE_DONE);
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    w->now += 10 * KEEP_MS;
    uint64_t left = EXTENTS + 1;
    for (bool more = true; more;) {
        assert_int_equal(meta_prune(w->m, w->now, KEEP_MS, &more), 0);
        uint64_t now = rows(w, "SELECT count(*) FROM extent_past WHERE ns = ?1 AND ?2 >= 0");
        assert_true(left - now <= 8192);
        assert_int_equal(world_inode(w, &w->alice, f, floor_of(w)).node, 0);
        left = now;
    }
    assert_int_equal(left, 0);
    assert_int_equal(rows(w, UNNEEDED), 0);
}

/* Nor do many small commits make a long one, in however many namespaces they were. */
static void test_steps_are_bounded_over_all_namespaces(void **state)
{
    struct world *w = *state;
    enum { COMMITS = 600, STEP = 1024 };
    char name[32];
    assert_int_equal(
        sqlite3_exec(((struct sq *)w->m->st)->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL),
        SQLITE_OK);
    for (unsigned i = 0; i < COMMITS; i++) {
        snprintf(name, sizeof name, "d%u", i);
        world_make(w, &w->alice, w->alice.root, name, NODE_DIR, 0);
        world_make(w, &w->bob, w->bob.root, name, NODE_DIR, 0);
    }
    w->now += 10 * KEEP_MS;
    uint64_t left = rows(w, "SELECT count(*) FROM journal WHERE ?1 >= 0 AND ?2 >= 0");
    assert_true(left >= 2 * COMMITS);
    for (bool more = true; more;) {
        assert_int_equal(meta_prune(w->m, w->now, KEEP_MS, &more), 0);
        uint64_t now = rows(w, "SELECT count(*) FROM journal WHERE ?1 >= 0 AND ?2 >= 0");
        assert_true(left - now <= STEP);
        left = now;
    }
    assert_int_equal(left, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_nothing_young_is_forgotten),
        T(test_what_is_kept_reads_as_before),
        T(test_a_forgotten_node_is_not_revived),
        T(test_steps_are_bounded),
        T(test_steps_are_bounded_over_all_namespaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
