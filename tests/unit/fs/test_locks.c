// SPDX-License-Identifier: Apache-2.0
/* Sets of locks: which stand in each other's way, and, against a map of every byte, what is left of
 * them after many changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "locks.h"

static struct lock range(uint64_t owner, bool exclusive, uint64_t off, uint64_t end)
{
    return (struct lock){.owner = owner, .exclusive = exclusive, .off = off, .end = end};
}

static void conflicts(void **state)
{
    (void)state;
    struct locks s = {0};
    struct lock read = range(1, false, 10, 20), write = range(2, true, 19, 30);
    locks_add(&s, &read);
    assert_ptr_equal(locks_conflict(&s, &write), s.head);
    write.off = 20;
    assert_null(locks_conflict(&s, &write)); /* only touches */
    write.off = 0;
    write.owner = 1;
    assert_null(locks_conflict(&s, &write)); /* one's own */
    struct lock other = range(2, false, 0, LOCK_END);
    assert_null(locks_conflict(&s, &other)); /* two readers */
    other.exclusive = other.whole = true;
    assert_null(locks_conflict(&s, &other)); /* flock and fcntl do not know each other */
    locks_add(&s, &other);
    struct lock third = {.whole = true, .owner = 3, .end = LOCK_END};
    assert_non_null(locks_conflict(&s, &third));
    assert_true(locks_drop(&s, true, 2, 0, LOCK_END));
    assert_null(locks_conflict(&s, &third));
    assert_false(locks_drop(&s, true, 2, 0, LOCK_END));
    locks_free(&s);
}

/* In whichever order they were taken. */
static void the_first_of_several(void **state)
{
    (void)state;
    struct locks s = {0};
    struct lock want = range(9, true, 0, LOCK_END);
    static const uint64_t begin[] = {30, 10, 50, 20};
    for (unsigned i = 0; i < sizeof begin / sizeof *begin; i++) {
        struct lock l = range(1 + i % 2, false, begin[i], begin[i] + 5);
        locks_add(&s, &l);
    }
    assert_int_equal(locks_conflict(&s, &want)->off, 10);
    want.off = 15;
    assert_int_equal(locks_conflict(&s, &want)->off, 20);
    want.off = 40;
    assert_int_equal(locks_conflict(&s, &want)->off, 50);
    locks_free(&s);
}

static void files_end(void **state)
{
    (void)state;
    struct locks s = {0};
    int a, b;
    struct lock l = range(1, true, 0, 5);
    l.file = &a;
    locks_add(&s, &l);
    l.file = &b;
    l.off = 5;
    l.end = 9;
    locks_add(&s, &l); /* touches, but ends with another file */
    assert_true(locks_drop_file(&s, &a));
    assert_false(locks_drop_file(&s, &a));
    assert_true(s.head->off == 5 && s.head->end == 9 && s.head->next == NULL);
    locks_free(&s);
}

enum { BYTES = 40, OWNERS = 3 };

static void against_a_map(void **state)
{
    (void)state;
    char map[OWNERS][BYTES] = {0};
    struct locks s = {0};
    uint64_t r = 88172645463325252u;
    for (int step = 0; step < 20000; step++) {
        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        uint64_t owner = r % OWNERS, off = (r >> 8) % BYTES,
                 end = off + 1 + (r >> 16) % (BYTES - off);
        struct lock l = range(owner, (r >> 24 & 1) != 0, off, end);
        bool drop = (r >> 25 & 3) == 0;
        if (drop)
            locks_drop(&s, false, owner, off, end);
        else if (locks_conflict(&s, &l) == NULL)
            locks_add(&s, &l);
        else
            continue;
        memset(map[owner] + off, drop ? 0 : l.exclusive ? 'w' : 'r', end - off);
        char got[OWNERS][BYTES] = {0};
        size_t n = 0;
        for (const struct lock *i = s.head; i != NULL; i = i->next, n++) {
            for (uint64_t at = i->off; at < i->end; at++) {
                assert_int_equal(got[i->owner][at], 0); /* no two overlap */
                got[i->owner][at] = i->exclusive ? 'w' : 'r';
            }
        }
        assert_memory_equal(got, map, sizeof map);
        size_t runs = 0; /* as few as there can be */
        for (int o = 0; o < OWNERS; o++)
            for (int at = 0; at < BYTES; at++)
                runs += map[o][at] != 0 && (at == 0 || map[o][at] != map[o][at - 1]);
        assert_int_equal(n, runs);
    }
    locks_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conflicts),
        cmocka_unit_test(the_first_of_several),
        cmocka_unit_test(files_end),
        cmocka_unit_test(against_a_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
