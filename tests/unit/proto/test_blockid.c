// SPDX-License-Identifier: Apache-2.0
/* Block ids against the vectors of FIPS 180-4's examples. */
#include "blockid.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char abc_hex[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void assert_hash(const void *p, size_t n, const char *expected)
{
    struct block_id id;
    char hex[BLOCK_HEX_LEN + 1];
    block_id_of(&id, p, n);
    block_id_hex(&id, hex);
    assert_int_equal(id.b[0], BLOCK_KIND_SHA256);
    assert_string_equal(hex, expected);
}

static void known_vectors(void **state)
{
    (void)state;
    assert_hash("abc", 3, abc_hex);
    assert_hash("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_hash(NULL, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    assert_hash(million, 1000000,
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void matches_only_its_bytes_and_kind(void **state)
{
    (void)state;
    struct block_id id;
    block_id_of(&id, "abc", 3);
    assert_true(block_id_matches(&id, "abc", 3));
    assert_false(block_id_matches(&id, "abd", 3));
    assert_false(block_id_matches(&id, "ab", 2));
    id.b[0] = 1;
    assert_false(block_id_matches(&id, "abc", 3));
}

static void text_form(void **state)
{
    (void)state;
    struct block_id id, parsed;
    block_id_of(&id, "abc", 3);
    assert_int_equal(block_id_parse(&parsed, abc_hex), 0);
    assert_true(block_id_equal(&id, &parsed));
    char bad[BLOCK_HEX_LEN + 2];
    snprintf(bad, sizeof(bad), "%s0", abc_hex);
    assert_int_equal(block_id_parse(&parsed, bad), -EINVAL);
    assert_int_equal(block_id_parse(&parsed, abc_hex + 1), -EINVAL);
    assert_int_equal(block_id_parse(&parsed, ""), -EINVAL);
    memcpy(bad, abc_hex, sizeof(abc_hex));
    bad[63] = 'g';
    assert_int_equal(block_id_parse(&parsed, bad), -EINVAL);
    bad[63] = 'D'; /* one text for one id */
    assert_int_equal(block_id_parse(&parsed, bad), -EINVAL);
}

static void order(void **state)
{
    (void)state;
    struct block_id a = {{0}}, b = {{0}};
    assert_int_equal(block_id_compare(&a, &b), 0);
    b.b[32] = 1;
    assert_true(block_id_compare(&a, &b) < 0);
    a.b[0] = 1; /* the kind comes first */
    assert_true(block_id_compare(&a, &b) > 0);
    assert_false(block_id_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(matches_only_its_bytes_and_kind),
        cmocka_unit_test(text_form),
        cmocka_unit_test(order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
