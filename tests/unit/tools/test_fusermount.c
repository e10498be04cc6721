// SPDX-License-Identifier: Apache-2.0
/* What becomes of fusermount3's ways to fail, with a program of that name that fails so. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fusermount.h"

static char dir[64], path[80], why[FUSERMOUNT_WHY];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/steadfs-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/fusermount3", dir);
    return setenv("PATH", dir, 1);
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static int with(const char *script, bool lazy)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return fusermount("/m -x", lazy, why);
}

static void test_arguments(void **state)
{
    (void)state;
    const char *told = "echo \"$#:$1:$2:$3:$4\" >&2; exit 1";
    assert_int_equal(with(told, false), -EIO);
    assert_string_equal(why, "3:-u:--:/m -x:");
    assert_int_equal(with(told, true), -EIO);
    assert_string_equal(why, "4:-u:-z:--:/m -x");
    assert_int_equal(with("echo noise >&2", false), 0);
}

static void test_busy_may_be_tried_again(void **state)
{
    (void)state;
    const char *busy =
        "echo 'fusermount3: failed to unmount /m: Device or resource busy' >&2; exit 1";
    assert_int_equal(with(busy, false), -EBUSY);
    assert_string_equal(why, "");
}

static void test_other_reasons_are_told(void **state)
{
    (void)state;
    const char *mtab =
        "echo 'fusermount3: failed to open /etc/mtab: No such file or directory' >&2; exit 1";
    assert_int_equal(with(mtab, false), -EIO);
    assert_non_null(strstr(why, "No such file or directory; as root: ln -s"));
    assert_int_equal(with("exit 1", false), -EIO);
    assert_non_null(strstr(why, "did not say why"));
    assert_int_equal(with("kill -9 $$", false), -EIO);
    /* more than there is room for */
    const char *much =
        "i=0; while [ $i -lt 3000 ]; do echo 0123456789 >&2; i=$((i+1)); done; exit 1";
    assert_int_equal(with(much, false), -EIO);
    assert_int_equal(strlen(why), FUSERMOUNT_WHY - 1);
}

static void test_it_is_not_there(void **state)
{
    (void)state;
    unlink(path);
    assert_int_equal(fusermount("/m", false, why), -ENOENT);
    assert_non_null(strstr(why, "package fuse3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_busy_may_be_tried_again),
        cmocka_unit_test(test_other_reasons_are_told),
        cmocka_unit_test(test_it_is_not_there),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
