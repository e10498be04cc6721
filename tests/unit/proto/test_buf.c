// SPDX-License-Identifier: Apache-2.0
/* Buffers and arenas. */
#include "buf.h"
#include "unit.h"

#include <string.h>

static void appends_keep_order(void **state)
{
    (void)state;
    struct buf b cleanup_buf = {0};
    for (unsigned i = 0; i < 100000; i++) {
        uint8_t c = (uint8_t)i;
        buf_append(&b, &c, 1);
    }
    buf_append(&b, NULL, 0);
    assert_int_equal(b.n, 100000);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(b.p[i], (uint8_t)i);
}

static void printf_adds_no_nul(void **state)
{
    (void)state;
    struct buf b cleanup_buf = {0};
    buf_printf(&b, "%s=%d", "a", 7);
    buf_printf(&b, "%s", "");
    buf_printf(&b, "%0200d", 1);
    assert_int_equal(b.n, 3 + 200);
    assert_memory_equal(b.p, "a=7000", 6);
    assert_int_equal(b.p[202], '1');
    buf_free(&b);
    assert_null(b.p);
    assert_int_equal(b.n + b.cap, 0);
}

static void arena_memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    static const size_t sizes[] = {1, 0, 3, 4096, 17, 3u << 20, 100, 60000, 2u << 20, 1};
    uint8_t *got[200];
    for (size_t i = 0; i < 200; i++) {
        size_t n = sizes[i % 10] / (i < 20 ? 1 : 64);
        got[i] = arena_alloc(&a, n);
        assert_non_null(got[i]);
        assert_int_equal((uintptr_t)got[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(got[i][k], 0);
        memset(got[i], (int)(i & 0xff), n);
    }
    for (size_t i = 0; i < 200; i++) {
        size_t n = sizes[i % 10] / (i < 20 ? 1 : 64);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(got[i][k], (uint8_t)i);
    }
    assert_true(a.used >= (3u << 20) + (2u << 20));
    arena_free(&a);
    assert_null(a.chunks);
    assert_int_equal(a.used, 0);
}

static void copies(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    char text[] = "text";
    struct bytes b = arena_bytes(&a, text, 2);
    char *s = arena_str(&a, bytes_str(text));
    text[0] = 'X';
    assert_true(bytes_equal(b, bytes_str("te")));
    assert_string_equal(s, "text");
    assert_string_equal(arena_str(&a, (struct bytes){0}), "");
    assert_non_null(arena_copy(&a, NULL, 0));
}

static void comparing(void **state)
{
    (void)state;
    assert_true(bytes_compare(bytes_str("a"), bytes_str("b")) < 0);
    assert_true(bytes_compare(bytes_str("ab"), bytes_str("a")) > 0);
    assert_true(bytes_compare(bytes_str(""), bytes_str("a")) < 0);
    assert_true(bytes_compare(bytes_str("\xff"), bytes_str("a")) > 0);
    assert_int_equal(bytes_compare((struct bytes){0}, bytes_str("")), 0);
    assert_true(bytes_equal((struct bytes){0}, bytes_str("")));
    assert_false(bytes_equal(bytes_str("a"), bytes_str("ab")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_keep_order),
        cmocka_unit_test(printf_adds_no_nul),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(copies),
        cmocka_unit_test(comparing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
