// SPDX-License-Identifier: Apache-2.0
/* The hash table against a plain array, through growth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "idmap.h"

#define KEYS 2000

static void behaves_like_an_array(void **state)
{
    (void)state;
    static char values[KEYS];
    char *there[KEYS] = {NULL};
    struct idmap m = {0};
    unsigned seed = 7;
    size_t n = 0;
    for (unsigned step = 0; step < 20000; step++) {
        size_t i = (size_t)rand_r(&seed) % KEYS;
        uint64_t key = (uint64_t)(i + 1) << 40 | i; /* as node ids are: few low bits differ */
        n += !there[i];
        there[i] = &values[(size_t)rand_r(&seed) % KEYS];
        idmap_put(&m, key, there[i]);
        assert_int_equal(m.n, n);
        i = (size_t)rand_r(&seed) % KEYS;
        assert_ptr_equal(idmap_get(&m, (uint64_t)(i + 1) << 40 | i), there[i]);
    }
    idmap_free(&m);
}

static void count_one(void *arg, uint64_t key, void *value)
{
    (void)value;
    *(uint64_t *)arg += key;
}

static void visits_each_once(void **state)
{
    (void)state;
    struct idmap m = {0};
    uint64_t sum = 0;
    int v;
    assert_null(idmap_get(&m, 1));
    for (uint64_t k = 1; k <= 100; k++)
        idmap_put(&m, k, &v);
    idmap_each(&m, count_one, &sum);
    assert_int_equal(sum, 5050);
    idmap_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(visits_each_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
