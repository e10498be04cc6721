// SPDX-License-Identifier: Apache-2.0
/* What reading and writing in a long history costs at most: pages, rows, steps. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNIT 512

static uint64_t work(struct world *w)
{
    struct sq *s = (struct sq *)w->m->st;
    uint64_t steps = 0;
    for (size_t k = 0; k < SQ_STMT_SLOTS; k++) {
        if (s->slots[k].stmt)
            steps += (uint64_t)sqlite3_stmt_status(s->slots[k].stmt, SQLITE_STMTSTATUS_VM_STEP, 1);
    }
    return steps;
}
static uint64_t rows_changed(struct world *w)
{
    return (uint64_t)sqlite3_total_changes64(((struct sq *)w->m->st)->db);
}

/* Adds n extents of UNIT bytes with holes between them. */
static void add_extents(struct world *w, uint64_t node, uint64_t base, uint64_t from, uint64_t n,
                        const struct block_id *b)
{
    struct plan p;
    plan_new(w, &w->alice, &p);
    struct m_node_change *c = plan_node(&p, node, FACET_CONTENT);
    struct m_range g = {.off = from * 2 * UNIT, .len = n * 2 * UNIT};
    g.extents = arena_alloc(&p.ar, n * sizeof *g.extents);
    g.extents_n = n;
    for (uint64_t k = 0; k < n; k++)
        g.extents[k] = (struct m_extent){.off = (from + k) * 2 * UNIT, .len = UNIT, .block = *b};
    c->base_content = base;
    c->size = (from + n) * 2 * UNIT;
    c->ranges = &g;
    c->ranges_n = 1;
    plan_block(w, &p, w->alice.ns, b, UNIT, HQ);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);
    arena_free(&w->ar);
}

/* 4 KiB somewhere in the file: rows changed and steps of the database. */
static void overwrite(struct world *w, uint64_t node, uint64_t base, uint64_t off, uint64_t size,
                      uint64_t *rows, uint64_t *steps)
{
    struct plan p;
    struct block_id b = world_block(w);
    plan_new(w, &w->alice, &p);
    struct m_node_change *c = plan_node(&p, node, FACET_CONTENT);
    c->base_content = base;
    c->size = size;
    plan_range(&p, c, off, 4096, &b, 0);
    plan_block(w, &p, w->alice.ns, &b, 4096, HQ);
    *rows = rows_changed(w);
    work(w);
    expect_committed(world_commit(w, &w->alice, &p));
    *rows = rows_changed(w) - *rows;
    *steps = work(w);
    plan_free(&p);
}

static void a_small_write_in_many_extents(void **state)
{
    enum { EXTENTS = 100000, PART = 10000 };
    struct world *w = *state;
    uint64_t node = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0), rows, steps;
    struct block_id b = world_block(w);
    const uint64_t size = (uint64_t)EXTENTS * 2 * UNIT;
    for (uint64_t k = 0; k < EXTENTS; k += PART)
        add_extents(w, node, world_inode(w, &w->alice, node, 0).content_rev, k, PART, &b);
    assert_int_equal(world_inode(w, &w->alice, node, 0).stored, (uint64_t)EXTENTS * UNIT);
    uint64_t head = world_head(w, &w->alice);
    for (uint64_t k = 0; k < 20; k++) {
        overwrite(w, node, head + k, 50000 * UNIT + k * 8192 + 100, size, &rows, &steps);
        assert_true(rows < 40);
        assert_true(steps < 2500);
    }
    /* 4 KiB over and over in one place: what is behind does not slow it down, nor reading it */
    for (uint64_t k = 20; k < 300; k++)
        overwrite(w, node, head + k, 777 * UNIT, size, &rows, &steps);
    assert_true(rows < 40);
    assert_true(steps < 2500);
    struct m_extents_req q = {
        .ns = w->alice.ns, .node = node, .at = head + 300, .off = 777 * UNIT, .limit = 10};
    struct m_extents_ans a;
    work(w);
    assert_int_equal(meta_extents(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.range.extents_n, 10);
    assert_true(work(w) < 2500);
    q.at = head + 290; /* near the head: what changed since is all that is looked at */
    assert_int_equal(meta_extents(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_true(work(w) < 2500);
}

/* A directory of many entries, and one where a few names had many versions. */
static void large_directories_are_paged(void **state)
{
    enum { PARTS = 40, PART = 500 };
    struct world *w = *state;
    struct m_changes ch = {0};
    uint64_t target = w->server[HQ], head = 0;
    char(*text)[16] = calloc(PART, sizeof *text);
    assert_int_equal(meta_begin(w->m), 0);
    for (uint64_t part = 0; part < PARTS; part++) {
        cleanup_arena struct arena ar = {0};
        cleanup_buf struct buf out = {0};
        struct m_commit_ans a;
        ch.nodes = arena_alloc(&ar, PART * sizeof *ch.nodes);
        ch.entries = arena_alloc(&ar, PART * sizeof *ch.entries);
        ch.nodes_n = ch.entries_n = PART;
        for (uint64_t k = 0; k < PART; k++) {
            snprintf(text[k], sizeof text[k], "n%08llu", (unsigned long long)k * PARTS + part);
            ch.nodes[k] = (struct m_node_change){
                .node = world_node_id(&w->alice), .facets = FACET_CREATE, .type = NODE_REG};
            ch.entries[k] = (struct m_entry_change){
                .parent = w->alice.root, .name = bytes_str(text[k]), .node = ch.nodes[k].node};
        }
        msg_encode(&m_changes_desc, &ch, &out);
        struct m_commit_req q = {.ns = w->alice.ns,
                                 .request = ++w->alice.request,
                                 .targets = &target,
                                 .targets_n = 1,
                                 .changes = bytes_of(out.p, out.n)};
        assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &ar, w->why), 0);
        expect_committed(a);
    }
    /* all removed again, and one name made and removed often */
    for (uint64_t part = 0; part < PARTS; part++) {
        cleanup_arena struct arena ar = {0};
        cleanup_buf struct buf out = {0};
        struct m_commit_ans a;
        ch = (struct m_changes){0};
        ch.entries = arena_alloc(&ar, PART * sizeof *ch.entries);
        ch.entries_n = PART;
        for (uint64_t k = 0; k < PART; k++) {
            snprintf(text[k], sizeof text[k], "n%08llu", (unsigned long long)k * PARTS + part);
            struct m_entry e = world_lookup(w, &w->alice, w->alice.root, text[k], PARTS);
            ch.entries[k] = (struct m_entry_change){.parent = w->alice.root,
                                                    .name = bytes_str(text[k]),
                                                    .base_node = e.node,
                                                    .base_rev = e.rev,
                                                    .base_content = e.inode.content_rev};
        }
        msg_encode(&m_changes_desc, &ch, &out);
        struct m_commit_req q = {.ns = w->alice.ns,
                                 .request = ++w->alice.request,
                                 .targets = &target,
                                 .targets_n = 1,
                                 .changes = bytes_of(out.p, out.n)};
        assert_int_equal(meta_commit(w->m, &w->alice.who, &q, w->now, &a, &ar, w->why), 0);
        expect_committed(a);
        arena_free(&w->ar);
    }
    for (int k = 0; k < 200; k++) {
        uint64_t made = world_make(w, &w->alice, w->alice.root, "n00005000x", NODE_REG, 0);
        struct plan p;
        head = world_head(w, &w->alice);
        plan_new(w, &w->alice, &p);
        plan_entry(&p, w->alice.root, "n00005000x", made, head, 0)->base_content = head;
        expect_committed(world_commit(w, &w->alice, &p));
        plan_free(&p);
    }
    assert_int_equal(meta_end(w->m), 0);
    free(text);

    /* the full directory, long after: every page costs what a page costs */
    struct m_readdir_req q = {.ns = w->alice.ns, .dir = w->alice.root, .at = PARTS, .limit = 100};
    uint64_t n = 0;
    uint8_t after[NAME_LEN_MAX];
    bool more = true;
    while (more) {
        cleanup_arena struct arena ar = {0};
        struct m_readdir_ans a;
        work(w);
        assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
        assert_true(work(w) <
                    40000); /* 20,000 entries; a page looks at its 100, and counts to 1,025 */
        for (size_t k = 0; k < a.entries_n; k++, n++) {
            char want[16];
            snprintf(want, sizeof want, "n%08llu", (unsigned long long)n);
            assert_true(bytes_equal(a.entries[k].name, bytes_str(want)));
        }
        struct bytes last = a.entries[a.entries_n - 1].name;
        memcpy(after, last.p, last.n);
        q.after = bytes_of(after, last.n);
        more = a.more;
    }
    assert_int_equal(n, PARTS * PART);
    /* empty at the head: the dead are not looked at */
    struct m_readdir_ans a;
    q.after = bytes_of(NULL, 0);
    q.at = world_head(w, &w->alice);
    work(w);
    assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.entries_n, 0);
    assert_true(work(w) < 500);
    /* the name with 200 versions: one of them is right */
    q.at = head;
    q.after = bytes_str("n00005000");
    assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.entries_n, 1);
    assert_int_equal(a.entries[0].rev, head);
    q.at = 2 * PARTS + 1; /* its first version, far in the past */
    assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.entries_n, 1);
    assert_int_equal(a.entries[0].rev, 2 * PARTS + 1);
}

static void a_name_of_many_versions_far_back(void **state)
{
    struct world *w = *state;
    struct plan p;
    enum { TIMES = 3000 }; /* half of them close a row: more than are sorted for a page */
    static const char *const three[] = {"a", "m", "z"};
    uint64_t node[3];
    assert_int_equal(meta_begin(w->m), 0);
    for (size_t k = 0; k < 3; k++)
        node[k] = world_make(w, &w->alice, w->alice.root, three[k], NODE_SYMLINK, 0);
    for (uint64_t k = 0; k < TIMES; k++) { /* m goes and comes back */
        bool there = k % 2 == 0;
        plan_new(w, &w->alice, &p);
        plan_entry(&p, w->alice.root, "m", there ? node[1] : 0, there ? 3 + k - (k == 0) : 0,
                   there ? 0 : node[1]);
        expect_committed(world_commit(w, &w->alice, &p));
        plan_free(&p);
    }
    for (size_t k = 0; k < 3; k += 2) { /* a and z go */
        plan_new(w, &w->alice, &p);
        plan_entry(&p, w->alice.root, three[k], node[k], k + 1, 0);
        expect_committed(world_commit(w, &w->alice, &p));
        plan_free(&p);
    }
    assert_int_equal(meta_end(w->m), 0);
    for (uint64_t at = 3; at < 3 + TIMES; at += 97) {
        cleanup_arena struct arena ar = {0};
        struct m_readdir_req q = {.ns = w->alice.ns, .dir = w->alice.root, .at = at};
        struct m_readdir_ans a;
        bool there = (at - 3) % 2 == 0;
        assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
        assert_int_equal(a.entries_n, there ? 3 : 2);
        assert_true(bytes_equal(a.entries[0].name, bytes_str("a")));
        assert_true(bytes_equal(a.entries[a.entries_n - 1].name, bytes_str("z")));
    }
}

/* Links with long targets: a page ends before it is too large for an answer. */
static void pages_are_bounded_in_bytes(void **state)
{
    enum { LINKS = 5000, PART = 50 };
    struct world *w = *state;
    static char target[TARGET_LEN_MAX];
    struct m_readdir_req q = {.ns = w->alice.ns, .dir = w->alice.root, .limit = PAGE_ROWS_MAX};
    struct m_readdir_ans a;
    memset(target, 't', sizeof target);
    assert_int_equal(meta_begin(w->m), 0);
    for (int part = 0; part < LINKS / PART; part++) {
        struct plan p;
        plan_new(w, &w->alice, &p);
        for (int k = 0; k < PART; k++) {
            char name[16];
            uint64_t node = world_node_id(&w->alice);
            plan_create(&p, node, NODE_SYMLINK)->target = bytes_of(target, sizeof target);
            snprintf(name, sizeof name, "%06d", part * PART + k);
            plan_entry(&p, w->alice.root, name, 0, 0, node);
        }
        expect_committed(world_commit(w, &w->alice, &p));
        plan_free(&p);
    }
    assert_int_equal(meta_end(w->m), 0);
    q.at = LINKS / PART;
    assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_true(a.more);
    assert_true(a.entries_n > 1000 && a.entries_n < LINKS);
    size_t first = a.entries_n;
    q.after = a.entries[first - 1].name;
    assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_false(a.more);
    assert_int_equal(first + a.entries_n, LINKS);
}

static void cursors_and_bounds_of_time(void **state)
{
    struct world *w = *state;
    struct m_list_ans a;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    struct m_list_req q = {.ns = w->alice.ns, .cursor = bytes_str("not a cursor")};
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), -EBADMSG);
    q.cursor = bytes_of(NULL, 0);
    q.from = 1;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 0);
    assert_int_equal(a.resync, 0);
    assert_false(a.more);
    q.from = 2; /* newer than all there is */
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.resync, 1);
    assert_int_equal(meta_list(w->m, &w->bob.who, &q, &a, &w->ar, w->why), -EACCES);
    assert_int_equal(meta_list(w->m, &w->server_who[HQ], &q, &a, &w->ar, w->why), 0);
    assert_int_equal(meta_list(w->m, &w->server_who[ATTIC], &q, &a, &w->ar, w->why), -EACCES);

    struct ns_row row;
    struct store *st = w->m->st;
    world_make(w, &w->alice, w->alice.root, "g", NODE_REG, 0);
    world_make(w, &w->alice, w->alice.root, "h", NODE_REG, 0);
    assert_int_equal(st->ops->begin(st, true), 0);
    assert_int_equal(st->ops->ns_get(st, w->alice.ns, &row, &w->ar), 0);
    row.floor = 2;
    assert_int_equal(st->ops->ns_set(st, &row), 0);
    assert_int_equal(st->ops->end(st, true), 0);
    q.from = 1;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.resync, 3);
    struct m_node_req n = {.ns = w->alice.ns, .node = f, .at = 1};
    struct m_node_ans na;
    assert_int_equal(meta_node(w->m, &w->alice.who, &n, &na, &w->ar, w->why), -ESTALE);
    n.at = 4;
    assert_int_equal(meta_node(w->m, &w->alice.who, &n, &na, &w->ar, w->why), -EINVAL);
    n.at = 2;
    assert_int_equal(meta_node(w->m, &w->alice.who, &n, &na, &w->ar, w->why), 0);
}

/* Another connection reads while the writer is in the middle of a transaction. */
static void readers_see_whole_commits(void **state)
{
    struct world *w = *state;
    struct meta_options o = {.path = w->path, .reader = true};
    struct meta *reader;
    uint64_t head;
    assert_int_equal(meta_open(&reader, &o, w->why), 0);
    assert_int_equal(meta_begin(w->m), 0);
    world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    assert_int_equal(meta_head(reader, &w->alice.who, w->alice.ns, &head), 0);
    assert_int_equal(head, 0);
    assert_int_equal(meta_end(w->m), 0);
    assert_int_equal(meta_head(reader, &w->alice.who, w->alice.ns, &head), 0);
    assert_int_equal(head, 1);
    struct m_commit_ans a;
    struct plan p;
    plan_new(w, &w->alice, &p);
    struct meta *writer = w->m;
    w->m = reader;
    assert_int_equal(world_try(w, &w->alice, &p, &a), -EROFS);
    w->m = writer;
    plan_free(&p);
    meta_close(reader);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_small_write_in_many_extents),    TEST(large_directories_are_paged),
        TEST(a_name_of_many_versions_far_back), TEST(pages_are_bounded_in_bytes),
        TEST(cursors_and_bounds_of_time),       TEST(readers_see_whole_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
