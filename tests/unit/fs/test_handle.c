// SPDX-License-Identifier: Apache-2.0
/* Handles: one live handle a node, old versions beside it, names for invalidation; and sets of
 * ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"

static void live_and_detached(void **state)
{
    (void)state;
    struct handles *t = handles_new();
    struct handle *a = handle_get(t, 100);
    a->nlookup = 1;
    a->opens = 1;
    assert_ptr_equal(handle_get(t, 100), a);
    handle_detach(t, a, 10, 1, 2);
    assert_null(handle_live(t, 100));
    struct handle *b = handle_get(t, 100);
    assert_ptr_not_equal(a, b);
    assert_int_not_equal(a->nodeid, b->nodeid);
    assert_ptr_equal(handle_find(t, a->nodeid), a);
    assert_true(handle_in_use(t, 100));
    assert_false(handle_release(t, a));
    handle_attach(a);
    handle_move(t, a, 200); /* its version became another node */
    assert_ptr_equal(handle_live(t, 200), a);
    assert_ptr_equal(handle_live(t, 100), b);
    a->nlookup = a->opens = 0;
    uint64_t old = a->nodeid;
    assert_true(handle_release(t, a));
    assert_null(handle_find(t, old));
    assert_true(handle_release(t, b));
    assert_false(handle_in_use(t, 100));
    handles_free(t);
}

/* A file handle holds a nodeid: it leads to its node also when all was forgotten. */
static void nodeids_lead_to_nodes(void **state)
{
    (void)state;
    const uint64_t node = 5ull << 40 | 77, server_node = 3;
    struct handles *t = handles_new();
    struct handle *root = handle_root(t, 1), *a = handle_get(t, node);
    struct handle *b = handle_get(t, server_node), *old = a;
    assert_int_equal(root->nodeid, HANDLE_ROOT);
    assert_true(handle_node_of(a->nodeid) == node && handle_node_of(b->nodeid) == server_node);
    assert_int_equal(handle_node_of(HANDLE_ROOT), 0);
    a->nlookup = 1;
    handle_detach(t, a, 10, 1, 2);
    a = handle_get(t, node); /* a second one: only while it lasts */
    assert_int_equal(handle_node_of(a->nodeid), 0);
    uint64_t second = a->nodeid;
    assert_true(handle_release(t, a));
    assert_true(handle_get(t, node)->nodeid != second);
    old->nlookup = 0;
    assert_true(handle_release(t, handle_live(t, node)));
    assert_true(handle_release(t, old));
    assert_true(handle_node_of(handle_get(t, node)->nodeid) == node);
    handles_free(t);
}

static void many(void **state)
{
    (void)state;
    struct handles *t = handles_new();
    for (uint64_t i = 1; i <= 20000; i++)
        handle_get(t, i << 8)->nlookup = 1;
    for (uint64_t i = 1; i <= 20000; i++) {
        struct handle *h = handle_live(t, i << 8);
        assert_non_null(h);
        assert_ptr_equal(handle_find(t, h->nodeid), h);
        if (i % 2 == 0) {
            h->nlookup = 0;
            assert_true(handle_release(t, h));
        }
    }
    for (uint64_t i = 1; i <= 20000; i++)
        assert_int_equal(handle_live(t, i << 8) != NULL, i % 2);
    handles_free(t);
}

static void names(void **state)
{
    (void)state;
    struct handles *t = handles_new();
    struct handle *h = handle_get(t, 5);
    handle_name_add(h, 1, bytes_str("a"));
    handle_name_add(h, 1, bytes_str("a"));
    handle_name_add(h, 2, bytes_str("a"));
    handle_name_remove(h, 1, bytes_str("a"));
    handle_name_remove(h, 1, bytes_str("nothing"));
    assert_int_equal(h->names.n, 1);
    struct handle_name *n = handle_names_take(h);
    assert_non_null(n);
    assert_int_equal(n->parent, 2);
    assert_null(n->next);
    assert_int_equal(h->names.n, 0);
    free(n);
    handles_free(t);
}

/* How many names are looked at for one of them, at most. */
static size_t longest_list(const struct handle *h)
{
    size_t longest = 0, n = 0;
    for (const struct handle_name *k = h->names.list; k != NULL; k = k->next)
        longest++;
    for (size_t i = 0; i < h->names.slots; i++, n = 0) {
        for (const struct handle_name *k = h->names.slot[i]; k != NULL; k = k->next)
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

static void tens_of_thousands_of_names(void **state)
{
    (void)state;
    enum { MANY = 30000, LISTED = 32 };
    char name[16];
    struct handles *t = handles_new();
    struct handle *h = handle_get(t, 5);
    for (unsigned k = 0; k < 2 * MANY; k++) { /* each twice: it counts once */
        snprintf(name, sizeof(name), "n%u", k / 2);
        handle_name_add(h, 7 + k / 2 % 3, bytes_str(name));
    }
    assert_int_equal(h->names.n, MANY);
    assert_in_range(longest_list(h), 1, LISTED);
    for (unsigned k = 0; k < MANY; k += 2) {
        snprintf(name, sizeof(name), "n%u", k);
        handle_name_remove(h, 7 + k % 3, bytes_str(name));
    }
    size_t left = 0;
    struct handle_name *next;
    for (struct handle_name *n = handle_names_take(h); n != NULL; n = next, left++) {
        next = n->next;
        assert_int_equal(n->name[n->len - 1] % 2, 1);
        free(n);
    }
    assert_int_equal(left, MANY / 2);
    handles_free(t);
}

static void saving_the_first_wins(void **state)
{
    (void)state;
    struct handles *t = handles_new();
    struct handle *h = handle_get(t, 5);
    handle_detach(t, h, 1000, 0, 0);
    cleanup_ranges struct ranges todo = {0};
    handle_unsaved(h, 500, 5000, &todo);
    assert_int_equal(todo.n, 1);
    assert_int_equal(todo.v[0].end, 1000); /* not beyond the old size */
    struct m_extent e = {.off = 500, .len = 500};
    struct extent_list l = {.v = &e, .n = 1, .cap = 1};
    handle_save(h, 500, 1000, &l);
    handle_save(h, 0, 100, NULL);
    ranges_free(&todo);
    handle_unsaved(h, 0, 1000, &todo);
    assert_int_equal(todo.n, 1);
    assert_int_equal(todo.v[0].off, 100);
    assert_int_equal(todo.v[0].end, 500);
    handles_free(t);
}

static void old_versions_refer_to_blocks(void **state)
{
    (void)state;
    struct handles *t = handles_new();
    struct m_extent e = {.off = 0, .len = 10};
    struct extent_list l = {.v = &e, .n = 1, .cap = 1};
    struct block_id none = {.b = {9}};
    struct handle *h[3];
    for (uint8_t i = 0; i < 3; i++) {
        h[i] = handle_get(t, 100 + i);
        handle_detach(t, h[i], 10, 0, 0);
        e.block = (struct block_id){.b = {i}};
        handle_save(h[i], 0, 10, &l);
    }
    for (uint64_t i = 1; i <= 5000; i++) /* the table grows meanwhile */
        handle_get(t, i << 8);
    for (uint8_t i = 0; i < 3; i++)
        assert_true(handles_refer(t, &(struct block_id){.b = {i}}));
    assert_false(handles_refer(t, &none));
    handle_attach(h[1]); /* in the middle; then the ends */
    assert_false(handles_refer(t, &(struct block_id){.b = {1}}));
    assert_true(handles_refer(t, &(struct block_id){.b = {0}}));
    assert_true(handle_release(t, h[2]));
    assert_true(handles_refer(t, &(struct block_id){.b = {0}}));
    handle_attach(h[0]);
    for (uint8_t i = 0; i < 3; i++)
        assert_false(handles_refer(t, &(struct block_id){.b = {i}}));
    handles_free(t);
}

static void ranges_against_a_map(void **state)
{
    (void)state;
    uint8_t map[300] = {0};
    cleanup_ranges struct ranges r = {0};
    srand(3);
    for (int k = 0; k < 20000; k++) {
        uint64_t a = (uint64_t)rand() % 290, b = a + (uint64_t)rand() % 20;
        b = b > 300 ? 300 : b;
        if (rand() % 2 != 0) {
            ranges_add(&r, a, b);
            memset(map + a, 1, b - a);
        } else {
            ranges_remove(&r, a, b);
            memset(map + a, 0, b - a);
        }
        uint8_t got[300] = {0};
        for (size_t i = 0; i < r.n; i++) {
            assert_true(r.v[i].off < r.v[i].end);
            assert_true(i == 0 || r.v[i - 1].end < r.v[i].off);
            memset(got + r.v[i].off, 1, r.v[i].end - r.v[i].off);
        }
        assert_memory_equal(map, got, sizeof(map));
        uint64_t c = (uint64_t)rand() % 290, d = c + 1 + (uint64_t)rand() % 9;
        assert_int_equal(ranges_cover(&r, c, d), memchr(map + c, 0, d - c) == NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_and_detached),
        cmocka_unit_test(nodeids_lead_to_nodes),
        cmocka_unit_test(many),
        cmocka_unit_test(names),
        cmocka_unit_test(tens_of_thousands_of_names),
        cmocka_unit_test(saving_the_first_wins),
        cmocka_unit_test(old_versions_refer_to_blocks),
        cmocka_unit_test(ranges_against_a_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
