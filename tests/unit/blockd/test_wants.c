// SPDX-License-Identifier: Apache-2.0
/* The wanted blocks: their bounds, whose turn it is, and what becomes of those that nobody can
 * give; and how a backlog is gone through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "replicate_int.h"
#include "wants.h"

#include <string.h>

static struct block_id id_of(uint32_t k)
{
    struct block_id id;
    block_id_of(&id, &k, sizeof k);
    return id;
}

static bool add(struct wants *w, uint64_t ns, uint32_t k, uint64_t a, uint64_t b)
{
    struct block_id id = id_of(k);
    const uint64_t holders[] = {a, b};
    return wants_add(w, ns, &id, holders, b ? 2 : 1, false);
}

static size_t take(struct wants *w, uint64_t holder, struct want **v, size_t max)
{
    return wants_take(w, holder, NULL, NULL, v, max);
}

static void a_block_is_wanted_once(void **state)
{
    (void)state;
    struct wants *w = wants_new();
    assert_true(add(w, 1, 1, 7, 8));
    assert_false(add(w, 1, 1, 7, 0));
    assert_true(add(w, 2, 1, 7, 0)); /* another namespace's */
    assert_int_equal(wants_count(w), 2);
    assert_int_equal(wants_of(w, 7), 2);
    assert_int_equal(wants_of(w, 8), 1);
    struct block_id id = id_of(1);
    wants_arrived(w, 1, &id);
    wants_arrived(w, 1, &id);
    assert_int_equal(wants_count(w), 1);
    assert_int_equal(wants_of(w, 8), 0);
    wants_free(w);
}

/* What one holder has not is asked of the others, and what nobody has goes. */
static void holders_are_tried_in_turn(void **state)
{
    (void)state;
    struct wants *w = wants_new();
    struct want *v[8];
    static const enum want_end not_there[8], again[8] = {WANT_AGAIN, WANT_ARRIVED};
    add(w, 1, 1, 7, 8);
    add(w, 1, 2, 7, 8);
    assert_int_equal(take(w, 7, v, 8), 2);
    assert_int_equal(take(w, 8, v + 2, 6), 0); /* they are being fetched */
    wants_give(w, 7, v, not_there, 2);
    assert_int_equal(take(w, 7, v, 8), 0);
    assert_int_equal(take(w, 8, v, 8), 2);
    wants_give(w, 8, v, again, 2);
    assert_int_equal(wants_count(w), 1);
    assert_int_equal(take(w, 8, v, 8), 1);
    wants_give(w, 8, v, not_there, 1);
    assert_int_equal(wants_count(w), 0);
    assert_int_equal(wants_of(w, 7) + wants_of(w, 8), 0);
    wants_free(w);
}

/* Who does not answer keeps no place; what is being fetched of it ends by itself. */
static void a_holder_that_does_not_answer(void **state)
{
    (void)state;
    struct wants *w = wants_new();
    struct want *v[8];
    static const enum want_end not_there[8];
    add(w, 1, 1, 7, 0);
    assert_int_equal(take(w, 7, v, 8), 1);
    add(w, 1, 2, 7, 0);
    add(w, 1, 3, 7, 8);
    wants_drop_holder(w, 7);
    assert_int_equal(wants_of(w, 7), 0);
    assert_int_equal(wants_count(w), 2);
    wants_give(w, 7, v, not_there, 1);
    assert_int_equal(wants_count(w), 1);
    assert_int_equal(take(w, 8, v, 8), 1);
    wants_free(w);
}

/* A namespace has its share of a holder, a holder its share of all; the others have theirs. */
static void the_bounds(void **state)
{
    (void)state;
    struct wants *w = wants_new();
    uint32_t k = 0;
    while (add(w, 1, k, 7, 0))
        k++;
    assert_int_equal(k, WANTS_PER_PAIR);
    assert_int_equal(wants_room(w, 1, 7), 0);
    assert_int_equal(wants_room(w, 1, 8), WANTS_PER_PAIR);
    assert_true(add(w, 1, k, 7, 8)); /* from 8 alone */
    assert_int_equal(wants_of(w, 7), WANTS_PER_PAIR);
    for (uint64_t ns = 2; ns < 100; ns++)
        for (k = 0; k < WANTS_PER_PAIR; k++)
            add(w, ns, k, 7, 0);
    assert_int_equal(wants_of(w, 7), WANTS_PER_HOLDER);
    assert_int_equal(wants_room(w, 99, 7), 0);
    assert_true(add(w, 99, 1, 8, 0));
    assert_int_equal(wants_count(w), WANTS_PER_HOLDER + 2);
    wants_free(w);
}

static bool odd(void *arg, const struct block_id *id)
{
    (void)arg;
    return id->b[1] & 1;
}

/* Namespaces take turns, also where one has much and another one block, and where none of one may
 * be taken now. */
static void namespaces_take_turns(void **state)
{
    (void)state;
    struct wants *w = wants_new();
    struct want *v[8];
    static const enum want_end again[8] = {WANT_AGAIN, WANT_AGAIN, WANT_AGAIN, WANT_AGAIN};
    static const uint64_t order[] = {3, 5, 9, 3, 5, 9};
    for (uint32_t k = 0; k < 100; k++)
        add(w, 3, k, 7, 0);
    add(w, 5, 1, 7, 0);
    add(w, 9, 1, 7, 0);
    for (size_t i = 0; i < 6; i++) {
        size_t n = take(w, 7, v, 4);
        assert_int_equal(n, order[i] == 3 ? 4 : 1);
        assert_int_equal(v[0]->ns, order[i]);
        wants_give(w, 7, v, again, n);
    }
    struct wants *few = wants_new();
    uint32_t even = 0;
    while (id_of(even).b[1] & 1)
        even++;
    add(few, 1, even, 7, 0);
    assert_int_equal(wants_take(few, 7, odd, NULL, v, 8), 0);
    for (uint32_t k = 0; k < 32; k++)
        add(few, 2, k, 7, 0);
    assert_true(wants_take(few, 7, odd, NULL, v, 8) > 0);
    assert_int_equal(v[0]->ns, 2);
    wants_free(few);
    wants_free(w);
}

static void the_newest_go_first(void **state)
{
    (void)state;
    struct wants *w = wants_new();
    struct want *v[1];
    uint64_t holder = 7;
    add(w, 1, 1, 7, 0);
    struct block_id id = id_of(2);
    assert_true(wants_add(w, 1, &id, &holder, 1, true));
    assert_int_equal(take(w, 7, v, 1), 1);
    assert_true(block_id_equal(&v[0]->id, &id));
    wants_free(w);
}

/* A walk goes on page by page. One that finds nothing is taken up more and more rarely, and costs a
 * small part of the time only; one that finds something soon again, and so does one that is reset.
 */
static void a_walk_pauses_when_it_finds_nothing(void **state)
{
    (void)state;
    struct walk w = {0};
    int64_t now = 1000, pause = 0;
    walk_on(&w, bytes_str("here"), false, now);
    assert_memory_equal(w.place, "here", 4);
    assert_int_equal(w.place_n, 4);
    assert_int_equal(w.at, now);
    for (int k = 0; k < 10; k++) { /* a round of 10 ms each */
        walk_on(&w, bytes_str("there"), false, now);
        now += 10;
        walk_on(&w, bytes_of(NULL, 0), false, now);
        assert_int_equal(w.place_n, 0);
        assert_true(w.at - now >= pause);
        pause = w.at - now;
        now = w.at;
    }
    assert_int_equal(pause, 60000);
    walk_on(&w, bytes_str("there"), false, now); /* a minute's */
    now += 60000;
    walk_on(&w, bytes_of(NULL, 0), false, now);
    assert_int_equal(w.at - now, 20 * 60000);
    now = w.at;
    walk_on(&w, bytes_str("there"), true, now);
    now += 60000;
    walk_on(&w, bytes_of(NULL, 0), false, now);
    assert_int_equal(w.at - now, 3000);
    unsigned resets = w.resets;
    walk_reset(&w);
    assert_int_equal(w.at, 0);
    assert_int_not_equal(w.resets, resets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_wanted_once),
        cmocka_unit_test(holders_are_tried_in_turn),
        cmocka_unit_test(a_holder_that_does_not_answer),
        cmocka_unit_test(the_bounds),
        cmocka_unit_test(namespaces_take_turns),
        cmocka_unit_test(the_newest_go_first),
        cmocka_unit_test(a_walk_pauses_when_it_finds_nothing),
    };
    return cmocka_run_group_tests_name("wants", tests, NULL, NULL);
}
