// SPDX-License-Identifier: Apache-2.0
/* Sets of locked stretches, against a plain array of bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "lockset.h"

#define BYTES 24

static struct m_lock_range range(bool exclusive, uint64_t off, uint64_t end)
{
    return (struct m_lock_range){.exclusive = exclusive, .off = off, .end = end};
}

static void says_what_a_lock_is(void **state)
{
    (void)state;
    struct m_lock_range r = range(true, 5, 5);
    assert_false(lockset_valid(&r));
    r.end = LOCKSET_END;
    assert_true(lockset_valid(&r));
    r.whole = true;
    assert_false(lockset_valid(&r));
    r.off = 0;
    assert_true(lockset_valid(&r));
}

static void keeps_whole_locks_and_ranges_apart(void **state)
{
    (void)state;
    struct lockset s = {0};
    struct m_lock_range whole = {.whole = true, .exclusive = true, .end = LOCKSET_END};
    struct m_lock_range all = range(true, 0, LOCKSET_END);
    assert_int_equal(lockset_add(&s, &whole), 0);
    assert_null(lockset_conflict(&s, &all));
    assert_false(lockset_covers(&s, &all));
    assert_non_null(lockset_conflict(&s, &whole));
    lockset_free(&s);
}

/* held[b]: 0 nothing, 1 shared, 2 exclusive, 3 both, as they were added. */
static void compare(const struct lockset *s, const unsigned held[BYTES])
{
    for (unsigned k = 0; k < 2; k++)
        for (uint64_t from = 0; from < BYTES; from++)
            for (uint64_t to = from + 1; to <= BYTES; to++) {
                struct m_lock_range r = range(k == 1, from, to);
                bool covered = true, meets = false;
                for (uint64_t b = from; b < to; b++) {
                    covered = covered && (k == 1 ? (held[b] & 2) != 0 : held[b] != 0);
                    meets = meets || (k == 1 ? held[b] != 0 : (held[b] & 2) != 0);
                }
                assert_int_equal(lockset_covers(s, &r), covered);
                assert_int_equal(lockset_conflict(s, &r) != NULL, meets);
            }
}

static void is_what_was_added(void **state)
{
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 200; round++) {
        struct lockset s = {0}, part = {0};
        unsigned held[BYTES] = {0};
        for (unsigned i = 0; i < 6; i++) {
            uint64_t from = (uint64_t)rand() % BYTES, to = from + 1 + (uint64_t)rand() % 5;
            bool exclusive = rand() % 2;
            struct m_lock_range r = range(exclusive, from, to < BYTES ? to : BYTES);
            assert_int_equal(lockset_add(&s, &r), 0);
            if (i < 3)
                assert_int_equal(lockset_add(&part, &r), 0);
            for (uint64_t b = r.off; b < r.end; b++)
                held[b] |= exclusive ? 2 : 1;
        }
        compare(&s, held);
        assert_true(lockset_contains(&s, &part));
        for (size_t i = 0; i < s.n; i++)
            for (size_t k = 0; k < i; k++) /* neighbours of a sort are one */
                assert_true(s.v[i].exclusive != s.v[k].exclusive || s.v[i].end < s.v[k].off ||
                            s.v[i].off > s.v[k].end);
        lockset_free(&s);
        lockset_free(&part);
    }
}

static void has_a_bound(void **state)
{
    (void)state;
    struct lockset s = {0};
    for (uint64_t i = 0; i < LOCK_RANGES_MAX; i++) {
        struct m_lock_range r = range(true, 2 * i, 2 * i + 1);
        assert_int_equal(lockset_add(&s, &r), 0);
    }
    struct m_lock_range more = range(true, 100000, 100001), between = range(true, 1, 2);
    assert_int_equal(lockset_add(&s, &more), -ENOLCK);
    assert_int_equal(lockset_add(&s, &between), 0); /* makes one of two */
    assert_int_equal(lockset_add(&s, &more), 0);
    lockset_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_a_lock_is),
        cmocka_unit_test(keeps_whole_locks_and_ranges_apart),
        cmocka_unit_test(is_what_was_added),
        cmocka_unit_test(has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
