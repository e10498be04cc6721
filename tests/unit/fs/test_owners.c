// SPDX-License-Identifier: Apache-2.0
/* Names to numbers and back, on two machines; what has no name; files that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "acl.h"
#include "owners.h"

static char dir[] = "/tmp/steadfs-test-XXXXXX";

static const char *file(const char *name, const char *text)
{
    static char paths[4][64];
    static unsigned at;
    char *path = paths[at++ % 4], new[80];
    snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
    snprintf(new, sizeof(new), "%s.new", path);
    FILE *f = fopen(new, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(rename(new, path), 0);
    return path;
}

static struct owners *here, *there;

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/steadfs-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    here = owners_new(file("passwd", "root:x:0:0::/:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n"
                                     "bert:x:1001:1001::/:/bin/sh\nann2:x:1000:1000::/:/bin/sh\n"),
                      file("group", "root:x:0:\nanna:x:1000:\nstaff:x:50:anna\n"));
    there = owners_new(file("passwd.2", "root:x:0:0::/:/bin/sh\nbert:x:1000:1000::/:/bin/sh\n"
                                        "anna:x:2000:2000::/:/bin/sh\n"),
                       file("group.2", "staff:x:99:\n"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    owners_free(here);
    owners_free(there);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static void people_are_the_same_elsewhere(void **state)
{
    (void)state;
    uint32_t anna = owners_stored(here, false, 1000);
    assert_true(anna >= 1u << 30 && anna < 1u << 31);
    assert_int_equal(anna, owners_number(false, "anna"));
    assert_int_equal(owners_local(there, false, anna), 2000);
    assert_int_equal(owners_local(here, false, anna), 1000);
    assert_int_equal(owners_local(there, false, owners_stored(here, false, 1001)), 1000);
    assert_int_equal(owners_local(there, true, owners_stored(here, true, 50)), 99);
    assert_true(owners_number(true, "anna") != anna);
    assert_int_equal(owners_stored(here, false, 0), 0);
    assert_int_equal(owners_local(there, false, 0), 0);
}

static void what_has_no_name_is_a_number(void **state)
{
    (void)state;
    assert_int_equal(owners_stored(here, false, 4711), 4711);
    assert_int_equal(owners_local(there, false, 4711), 4711);
    uint32_t group = owners_stored(here, true, 1000); /* of anna, which is no group there */
    assert_int_equal(owners_local(there, true, group), group);
    assert_int_equal(owners_stored(there, true, group), group);
    struct owners *none = owners_new("/nonexistent/passwd", "/nonexistent/group");
    assert_int_equal(owners_stored(none, false, 1000), 1000);
    owners_free(none);
}

static void files_are_read_again(void **state)
{
    (void)state;
    file("passwd", "zoe:x:1000:1000::/:/bin/sh\n");
    owners_refresh(here, 5000000000);
    assert_int_equal(owners_stored(here, false, 1000), owners_number(false, "zoe"));
    file("passwd", "max:x:1000:1000::/:/bin/sh\nzoe:x:3:3::/:/bin/sh\n");
    owners_refresh(here, 5500000000); /* not at each request */
    assert_int_equal(owners_stored(here, false, 1000), owners_number(false, "zoe"));
    owners_refresh(here, 6000000000);
    assert_int_equal(owners_stored(here, false, 1000), owners_number(false, "max"));
    assert_int_equal(owners_stored(here, false, 3), owners_number(false, "zoe"));
}

static void access_lists_have_people_too(void **state)
{
    (void)state;
    /* owner rw-, anna r--, owning group r--, staff r--, mask r--, others --- */
    uint8_t list[] = {2,    0,    0,    0,    0x01, 0,    6,  0,    0xff, 0xff, 0xff, 0xff, 0x02,
                      0,    4,    0,    0xe8, 3,    0,    0,  0x04, 0,    4,    0,    0xff, 0xff,
                      0xff, 0xff, 0x08, 0,    4,    0,    50, 0,    0,    0,    0x10, 0,    4,
                      0,    0xff, 0xff, 0xff, 0xff, 0x20, 0,  0,    0,    0xff, 0xff, 0xff, 0xff};
    uint32_t bits;
    bool extended;
    assert_int_equal(acl_read(bytes_of(list, sizeof(list)), &bits, &extended), 0);
    owners_list(here, list, sizeof(list), true);
    assert_int_equal(acl_read(bytes_of(list, sizeof(list)), &bits, &extended), 0);
    owners_list(there, list, sizeof(list), false);
    assert_int_equal(list[16] | list[17] << 8, 2000);
    assert_int_equal(list[32], 99);
    assert_int_equal(list[8], 0xff); /* single entries have no number */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(people_are_the_same_elsewhere),
        T(what_has_no_name_is_a_number),
        T(files_are_read_again),
        T(access_lists_have_people_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
