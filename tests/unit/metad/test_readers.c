// SPDX-License-Identifier: Apache-2.0
/* Readers for a thread that others wait for: never opened for it, and not after a slow answer. */
#include "readers.h"
#include "world.h"

static void quick_ones_are_at_hand(void **state)
{
    struct world *w = *state;
    struct meta *m, *again;
    struct readers *r = readers_new(&(struct meta_options){.path = w->path});
    assert_null(readers_get_quick(r, 0)); /* nobody has opened one */
    assert_int_equal(readers_get(r, &m, w->why), 0);
    assert_null(readers_get_quick(r, 0)); /* it is lent */
    readers_put(r, m);
    again = readers_get_quick(r, 0);
    assert_ptr_equal(again, m);
    readers_put(r, again);
    readers_was_quick(r, 0, READERS_QUICK_US);
    assert_non_null(again = readers_get_quick(r, READERS_QUICK_US));
    readers_put(r, again);
    int64_t now = 10 * READERS_QUICK_US;
    readers_was_quick(r, now - READERS_QUICK_US - 1, now); /* it waited for the disk */
    assert_null(readers_get_quick(r, now));
    assert_null(readers_get_quick(r, now + READERS_SLOW_FOR_US - 1));
    assert_non_null(again = readers_get_quick(r, now + READERS_SLOW_FOR_US));
    readers_put(r, again);
    readers_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(quick_ones_are_at_hand, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
