// SPDX-License-Identifier: Apache-2.0
/* Names that anybody may have chosen, as JSON and on a terminal. */
#include "text.h"
#include "unit.h"

#include <string.h>

static const struct {
    const char *bytes, *json, *shown;
} cases[] = {
    {"", "\"\"", ""},
    {"a b", "\"a b\"", "a b"},
    {"q\"\\", "\"q\\\"\\\\\"", "q\"\\"},
    {"\x1b[31m\n\x7f", "\"\\u001b[31m\\u000a\\u007f\"", "?[31m??"},
    {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
     "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
    {"\xc2\x9b"
     "31m",
     "\"\\u009b31m\"", "?31m"},                                       /* what ESC [ is, too */
    {"b\xff.txt", "\"b\\udcff.txt\"", "b?.txt"},                      /* no UTF-8 */
    {"\xc0\xaf", "\"\\udcc0\\udcaf\"", "??"},                         /* "/", too long */
    {"\xe0\x80\xaf", "\"\\udce0\\udc80\\udcaf\"", "???"},             /* longer */
    {"\xed\xa0\x80", "\"\\udced\\udca0\\udc80\"", "???"},             /* half a pair */
    {"\xf4\x90\x80\x80", "\"\\udcf4\\udc90\\udc80\\udc80\"", "????"}, /* behind the last */
    {"\xe2\x82", "\"\\udce2\\udc82\"", "??"},                         /* cut off */
    {"\xf5z", "\"\\udcf5z\"", "?z"},
};

static void as_json_and_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf json cleanup_buf = {0}, shown cleanup_buf = {0};
        text_json(&json, bytes_str(cases[i].bytes));
        text_shown(&shown, bytes_str(cases[i].bytes));
        buf_append(&json, "", 1);
        buf_append(&shown, "", 1);
        assert_string_equal((const char *)json.p, cases[i].json);
        assert_string_equal((const char *)shown.p, cases[i].shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_json_and_shown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
