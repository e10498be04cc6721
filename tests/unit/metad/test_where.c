// SPDX-License-Identifier: Apache-2.0
/* Which premises and block servers hold how much: exact, whatever the pages. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What all pages say together. */
struct sum {
    uint64_t files, mounts, bytes, pieces, questions;
    uint64_t server[SERVERS], pieces_of[SERVERS], copies[4];
    uint64_t premises_n, largest; /* most left over at a time */
};

/* As a client does it: what is left over is asked for, files of several names once. */
static struct sum where(struct world *w, const struct meta_caller *who, struct m_where_req q)
{
    struct sum s = {0};
    static struct m_where_item todo[4096];
    static uint64_t seen[64];
    size_t todo_n = 0, seen_n = 0;
    do {
        struct m_where_ans a;
        struct m_where_item ask[2];
        q.items_n = 0;
        q.items = ask;
        while (todo_n && q.items_n < 2)
            ask[q.items_n++] = todo[--todo_n];
        int r = meta_where(w->m, who, &q, w->now, &a, &w->ar, w->why);
        if (r)
            fail_msg("where: %d %s", r, w->why);
        q.at = a.at;
        s.questions++;
        s.files += a.files;
        s.mounts += a.mounts;
        s.bytes += a.bytes;
        s.pieces += a.pieces;
        s.premises_n = a.premises_n;
        for (size_t k = 0; k < a.servers_n; k++)
            for (size_t i = 0; i < SERVERS; i++)
                if (a.servers[k].key == w->server[i]) {
                    s.server[i] += a.servers[k].bytes;
                    s.pieces_of[i] += a.servers[k].pieces;
                }
        for (size_t k = 0; k < a.copies_n; k++)
            s.copies[a.copies[k].key] += a.copies[k].bytes;
        for (size_t k = 0; k < a.left_n; k++)
            todo[todo_n++] = a.left[k];
        for (size_t k = 0; k < a.linked_n; k++) {
            size_t i = 0;
            while (i < seen_n && seen[i] != a.linked[k])
                i++;
            if (i == seen_n) {
                seen[seen_n++] = a.linked[k];
                todo[todo_n++] = (struct m_where_item){.node = a.linked[k]};
            }
        }
        s.largest = todo_n > s.largest ? todo_n : s.largest;
    } while (todo_n);
    return s;
}

static void copied(struct world *w, const struct block_id *b, uint64_t len)
{
    struct m_stored one = {.ns = w->alice.ns, .block = *b, .len = len};
    struct m_stored_req q = {
        .incarnation = bytes_of(w->incarnation[CLOUD], 16), .blocks = &one, .blocks_n = 1};
    struct m_stored_ans a;
    assert_int_equal(meta_stored(w->m, &w->server_who[CLOUD], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.recorded, 1);
}

/* /top has 40 files of 100 bytes, the first 10 of them at two servers; /top/sub a file of 30 pieces
 * of 10 bytes of one block, and another name of /top/f0; /other a file. */
static void plant(struct world *w, uint64_t *top)
{
    struct plan p;
    *top = world_make(w, &w->alice, w->alice.root, "top", NODE_DIR, 0);
    uint64_t sub = world_make(w, &w->alice, *top, "sub", NODE_DIR, 0), first = 0;
    for (int k = 0; k < 40; k++) {
        char name[8];
        snprintf(name, sizeof name, "f%d", k);
        uint64_t node = world_make(w, &w->alice, *top, name, NODE_REG, 100);
        first = first ? first : node;
        if (k < 10)
            copied(w, &world_extents(w, &w->alice, node, 0).extents[0].block, 100);
    }
    world_make(w, &w->alice, w->alice.root, "other", NODE_REG, 5);
    plan_new(w, &w->alice, &p);
    struct block_id b = world_block(w);
    uint64_t node = world_node_id(&w->alice);
    struct m_node_change *n = plan_create(&p, node, NODE_REG);
    for (uint64_t k = 0; k < 30; k++)
        plan_range(&p, n, 20 * k, 10, &b, 10 * k);
    plan_block(w, &p, w->alice.ns, &b, 300, HQ);
    plan_entry(&p, sub, "pieces", 0, 0, node);
    plan_entry(&p, sub, "again", 0, 0, first);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
}

static void a_folder_whatever_the_pages(void **state)
{
    struct world *w = *state;
    uint64_t top, before = 0;
    plant(w, &top);
    static const uint64_t limits[] = {0, 100, 7, 3, 1};
    for (size_t k = 0; k < sizeof limits / sizeof *limits; k++) {
        struct m_where_req q = {.ns = w->alice.ns, .path = bytes_str("/top/"), .limit = limits[k]};
        struct sum s = where(w, k % 2 ? &world_admin : &w->alice.who, q);
        assert_int_equal(s.files, 41);
        assert_int_equal(s.bytes, 40 * 100 + 300);
        assert_int_equal(s.pieces, 70);
        assert_int_equal(s.server[HQ], 40 * 100 + 300);
        assert_int_equal(s.server[CLOUD], 1000);
        assert_int_equal(s.pieces_of[CLOUD], 10);
        assert_int_equal(s.copies[0], 0);
        assert_int_equal(s.copies[1], 3300);
        assert_int_equal(s.copies[2], 1000);
        assert_int_equal(s.premises_n, 2);
        assert_true(s.questions >= before); /* smaller pages are more of them */
        assert_true(s.largest < 50);
        before = s.questions;
    }
    assert_true(before > 40);
}

static void a_file_and_a_namespace(void **state)
{
    struct world *w = *state;
    uint64_t top;
    plant(w, &top);
    struct m_where_req q = {.name = bytes_str("alice"), .path = bytes_str("top/f3")};
    assert_int_equal(where(w, &world_admin, q).copies[2], 100);
    q.path = bytes_str("");
    assert_int_equal(where(w, &w->alice.who, q).bytes, 4305);
    q.path = bytes_str("top/nothing");
    struct m_where_ans a;
    assert_int_equal(meta_where(w->m, &world_admin, &q, w->now, &a, &w->ar, w->why), -ENOENT);
    q.name = bytes_str("nobody");
    assert_int_equal(meta_where(w->m, &world_admin, &q, w->now, &a, &w->ar, w->why), -ENOENT);
}

static void only_what_one_may_read(void **state)
{
    struct world *w = *state;
    struct m_where_req q = {.ns = w->alice.ns};
    struct m_where_ans a;
    assert_int_equal(meta_where(w->m, &w->bob.who, &q, w->now, &a, &w->ar, w->why), -EACCES);
    q = (struct m_where_req){.name = bytes_str("alice")};
    assert_int_equal(meta_where(w->m, &w->bob.who, &q, w->now, &a, &w->ar, w->why), -EACCES);
    char why[sizeof w->why];
    memcpy(why, w->why, sizeof why);
    q.name = bytes_str("nobody"); /* looks the same */
    assert_int_equal(meta_where(w->m, &w->bob.who, &q, w->now, &a, &w->ar, w->why), -EACCES);
    assert_string_equal(w->why, why);
    q.at = 99;
    q.name = bytes_str("alice");
    assert_int_equal(meta_where(w->m, &world_admin, &q, w->now, &a, &w->ar, w->why), -ESTALE);
}

/* A storage that was replaced holds nothing, and a server that is not assigned does not count. */
static void what_counts_is_what_is_there_now(void **state)
{
    struct world *w = *state;
    uint64_t top;
    plant(w, &top);
    struct m_where_req q = {.ns = w->alice.ns};
    w->incarnation[HQ][0]++;
    struct m_beat_req beat = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                              .url = bytes_str("https://localhost:1")};
    struct m_beat_ans ba;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &beat, w->now, &ba, &w->ar, w->why), 0);
    struct sum s = where(w, &world_admin, q);
    assert_int_equal(s.copies[0], 3305);
    assert_int_equal(s.server[HQ], 0);
    assert_int_equal(s.server[CLOUD], 1000);
    world_command(w, &world_admin, 0, "admin assign alice attic");
    assert_int_equal(where(w, &world_admin, q).premises_n, 3);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_folder_whatever_the_pages),
        TEST(a_file_and_a_namespace),
        TEST(only_what_one_may_read),
        TEST(what_counts_is_what_is_there_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
