// SPDX-License-Identifier: Apache-2.0
/* The frame around blocks. */
#include "frame.h"
#include "messages.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

static void what_is_framed_is_found(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf b cleanup_buf = {0};
    struct m_put_item item = {.stored_len = 3, .logical_len = 3};
    struct m_put_head sent = {.ns = 7, .capability = bytes_str("c"), .items = &item, .items_n = 1};
    struct m_put_head got;
    buf_append(&b, "before", 6);
    frame_head(&m_put_head_desc, &sent, &b);
    buf_append(&b, "raw", 3);
    struct bytes head, raw;
    assert_int_equal(frame_split(bytes_of(b.p + 6, b.n - 6), &head, &raw), 0);
    assert_true(bytes_equal(raw, bytes_str("raw")));
    assert_int_equal(msg_decode(&m_put_head_desc, &got, head.p, head.n, MSG_STRICT, &a, NULL), 0);
    assert_int_equal(got.ns, 7);
    assert_int_equal(got.items_n, 1);
}

static void bad_lengths(void **state)
{
    (void)state;
    static const uint8_t p[] = {0, 0, 0, 2, 'a', 'b'};
    struct bytes head, raw;
    for (size_t n = 0; n < sizeof(p); n++) {
        assert_int_equal(frame_split(bytes_of(p, n), &head, &raw), -EBADMSG);
        assert_null(head.p);
        assert_int_equal(head.n + raw.n, 0);
    }
    assert_int_equal(frame_split(bytes_of(p, sizeof(p)), &head, &raw), 0);
    assert_int_equal(head.n, 2);
    assert_int_equal(raw.n, 0);
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 'a'}, empty[] = {0, 0, 0, 0, 'a'};
    assert_int_equal(frame_split(bytes_of(huge, sizeof(huge)), &head, &raw), -EBADMSG);
    assert_int_equal(frame_split(bytes_of(empty, sizeof(empty)), &head, &raw), 0);
    assert_int_equal(head.n, 0);
    assert_int_equal(raw.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_framed_is_found),
        cmocka_unit_test(bad_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
