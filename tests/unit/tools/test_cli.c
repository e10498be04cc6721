// SPDX-License-Identifier: Apache-2.0
/* The command line's parts: JSON, mount lists, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli.h"
#include "json.h"
#include "mounts.h"

static void reads_json(void **state)
{
    (void)state;
    static const char text[] = " {\"a\": [1, -2.5e1, true, null], \"b\": "
                               "\"x\\u00e4\\ud83d\\ude00\\n\\\"\", \"c\": {\"d\": false}} ";
    cleanup_arena struct arena a = {0};
    const struct json *v = json_parse(&a, text, sizeof text - 1);
    assert_non_null(v);
    const struct json *e = json_get(v, "a")->first;
    assert_true(e->number == 1);
    assert_true(e->next->number == -25);
    assert_true(e->next->next->yes);
    assert_int_equal(e->next->next->next->type, JSON_NULL);
    assert_null(e->next->next->next->next);
    assert_string_equal(json_text(v, "b"), "x\xc3\xa4\xf0\x9f\x98\x80\n\"");
    assert_false(json_yes(json_get(v, "c"), "d"));
    assert_null(json_get(v, "nothing"));
    assert_string_equal(json_text(v, "a"), "");
    static const char bytes[] = "\"b\\udcff\\udc80d\""; /* of a name that is not UTF-8 */
    const struct json *name = json_parse(&a, bytes, sizeof bytes - 1);
    assert_non_null(name);
    assert_string_equal(name->text, "b\xff\x80"
                                    "d");
}

static void refuses_bad_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{1:2}",
        "\"",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\\u12\"",
        "tru",
        "1 2",
        "[1",
        "-",
        "1e",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cleanup_arena struct arena a = {0};
        if (json_parse(&a, bad[i], strlen(bad[i])))
            fail_msg("taken for JSON: %s", bad[i]);
    }
}

static void finds_mounts(void **state)
{
    (void)state;
    static char text[] =
        "21 1 0:1 / / rw - ext4 /dev/vda rw\n"
        "30 21 0:50 / /home/u/My\\040Files rw,nosuid shared:7 - fuse.steadfs alice@h rw\n"
        "31 30 0:51 / /home/u/My\\040Files/sub rw - tmpfs tmpfs rw\n"
        "32 21 0:52 / /m rw - fuse.steadfs x rw\n"
        "33 32 0:53 / /m/in rw - fuse.steadfs x rw\n"
        "34 21 0:54 / /old rw - fuse.steadfs x rw\n"
        "35 34 0:55 / /old rw - tmpfs x rw\n"
        "36 21 0:56 / /a\\134b rw - fuse.steadfs x rw\n"
        "broken line\n";
    FILE *f = fmemopen(text, strlen(text), "r");
    cleanup_mounts struct mount_list l;
    mount_list_parse(&l, f);
    fclose(f);
    size_t ours = 0;
    for (size_t i = 0; i < l.n; i++)
        ours += l.v[i].ours;
    assert_int_equal(ours, 4);
    assert_string_equal(mount_of(&l, "/home/u/My Files/x")->mountpoint, "/home/u/My Files");
    assert_null(mount_of(&l, "/home/u/My Files2"));
    assert_string_equal(mount_at(&l, "/m/in//")->mountpoint, "/m/in");
    assert_null(mount_at(&l, "/m/in/x"));
    assert_null(mount_at(&l, "/")); /* of another kind */
    assert_null(mount_at(&l, "/m/i"));
    assert_null(mount_at(&l, ""));
    assert_string_equal(mount_of(&l, "/m/in/x")->mountpoint, "/m/in");
    assert_string_equal(mount_of(&l, "/m/inside")->mountpoint, "/m");
    assert_null(mount_of(&l, "/old/x")); /* covered */
    assert_string_equal(mount_of(&l, "/a\\b")->mountpoint, "/a\\b");
    assert_string_equal(mount_inside(mount_of(&l, "/m/y/z"), "/m/y/z"), "y/z");
    assert_string_equal(mount_inside(mount_of(&l, "/m"), "/m"), "");
}

static void another_filesystem_inside_is_not_ours(void **state)
{
    (void)state;
    static char text[] =
        "30 1 0:50 / /s rw - fuse.steadfs x rw\n31 30 0:51 / /s/tmp rw - tmpfs t rw\n";
    FILE *f = fmemopen(text, strlen(text), "r");
    cleanup_mounts struct mount_list l;
    mount_list_parse(&l, f);
    fclose(f);
    assert_non_null(mount_of(&l, "/s/x"));
    assert_null(mount_of(&l, "/s/tmp/x"));
}

static void reads_seconds(void **state)
{
    (void)state;
    unsigned ms;
    assert_true(cli_seconds("1.5", &ms));
    assert_int_equal(ms, 1500);
    assert_false(cli_seconds("-1", &ms));
    assert_false(cli_seconds("1s", &ms));
    assert_false(cli_seconds("", &ms));
    assert_false(cli_seconds("nan", &ms));
    assert_false(cli_seconds("1e30", &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_json),    cmocka_unit_test(refuses_bad_json),
        cmocka_unit_test(finds_mounts),  cmocka_unit_test(another_filesystem_inside_is_not_ours),
        cmocka_unit_test(reads_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
