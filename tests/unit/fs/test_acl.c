// SPDX-License-Identifier: Apache-2.0
/* Access lists: what they stand for, which are none, and the mode put into one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "acl.h"

struct entry {
    unsigned tag, perm, id;
};
enum { OWNER = 1, USER = 2, OWNING_GROUP = 4, GROUP = 8, MASK = 16, OTHERS = 32 };

static uint8_t list[4 + 8 * 8];
static uint32_t bits;
static bool extended;

static int read_list(size_t n, const struct entry *e)
{
    memcpy(list, "\2\0\0\0", 4);
    for (size_t i = 0; i < n; i++) {
        const uint8_t b[8] = {(uint8_t)e[i].tag, (uint8_t)(e[i].tag >> 8), (uint8_t)e[i].perm, 0,
                              (uint8_t)e[i].id};
        memcpy(list + 4 + 8 * i, b, 8);
    }
    return acl_read(bytes_of(list, 4 + 8 * n), &bits, &extended);
}
#define READ(...)                                                                                  \
    read_list(sizeof((struct entry[]){__VA_ARGS__}) / sizeof(struct entry),                        \
              (const struct entry[]){__VA_ARGS__})

static void stands_for_permissions(void **state)
{
    (void)state;
    assert_int_equal(READ({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}), 0);
    assert_int_equal(bits, 0751);
    assert_false(extended);
    assert_int_equal(READ({OWNER, 6, 0}, {USER, 7, 9}, {USER, 1, 10}, {OWNING_GROUP, 4, 0},
                          {GROUP, 7, 3}, {MASK, 5, 0}, {OTHERS, 0, 0}),
                     0);
    assert_int_equal(bits, 0650); /* the mask is the group's part */
    assert_true(extended);
    assert_int_equal(READ({OWNER, 6, 0}, {OWNING_GROUP, 4, 0}, {MASK, 7, 0}, {OTHERS, 0, 0}), 0);
    assert_int_equal(bits, 0670);
    assert_true(extended);
}

static void refuses_what_is_none(void **state)
{
    (void)state;
    assert_int_equal(READ({OWNER, 7, 0}, {OTHERS, 1, 0}, {OWNING_GROUP, 5, 0}), -EINVAL);
    assert_int_equal(READ({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {MASK, 5, 0}), -EINVAL);
    assert_int_equal(READ({OWNER, 7, 0}, {OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}),
                     -EINVAL);
    assert_int_equal(READ({OWNER, 8, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}), -EINVAL);
    assert_int_equal(READ({OWNER, 7, 0}, {3, 5, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}), -EINVAL);
    assert_int_equal(READ({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {64, 1, 0}, {OTHERS, 1, 0}),
                     -EINVAL);
    assert_int_equal(READ({OWNER, 7, 0}, {USER, 7, 4}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}),
                     -EINVAL); /* users without a mask */
    assert_int_equal(READ({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}), 0);
    for (size_t n = 0; n < 28; n++)
        assert_int_equal(acl_read(bytes_of(list, n), &bits, &extended), -EINVAL);
    list[0] = 1;
    assert_int_equal(acl_read(bytes_of(list, 28), &bits, &extended), -EINVAL);
}

static void takes_a_mode(void **state)
{
    (void)state;
    assert_int_equal(READ({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0}), 0);
    acl_apply_mode(list, 28, 04123);
    assert_int_equal(acl_read(bytes_of(list, 28), &bits, &extended), 0);
    assert_int_equal(bits, 0123);
    assert_int_equal(
        READ({OWNER, 6, 0}, {USER, 7, 9}, {OWNING_GROUP, 4, 0}, {MASK, 7, 0}, {OTHERS, 0, 0}), 0);
    acl_apply_mode(list, 44, 0421);
    assert_int_equal(acl_read(bytes_of(list, 44), &bits, &extended), 0);
    assert_int_equal(bits, 0421);
    assert_int_equal(list[4 + 8 + 2], 7);     /* a user's stays */
    assert_int_equal(list[4 + 2 * 8 + 2], 4); /* the owning group's, too: the mask limits it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stands_for_permissions),
        cmocka_unit_test(refuses_what_is_none),
        cmocka_unit_test(takes_a_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
