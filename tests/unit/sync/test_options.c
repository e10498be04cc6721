// SPDX-License-Identifier: Apache-2.0
/* The mount's command line: what is understood, what reaches the kernel, what is refused and how.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"

static struct mount_args args;
static char err[512];

static int parse(const char *first, ...)
{
    char *argv[16] = {(char[]){"mount.fuse.steadfs"}};
    int argc = 1;
    va_list ap;
    va_start(ap, first);
    for (const char *a = first; a; a = va_arg(ap, const char *))
        argv[argc++] = strdup(a);
    va_end(ap);
    int r = mount_args_parse(&args, argc, argv, err);
    for (int i = 1; i < argc; i++)
        free(argv[i]);
    return r;
}

static void takes_the_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("files.example.org", "/mnt", NULL), 0);
    assert_string_equal(args.host, "files.example.org");
    assert_null(args.account);
    assert_int_equal(args.port, STEADFS_PORT);
    assert_string_equal(args.fs.mountpoint, "/mnt");
    assert_string_equal(args.fs.source, "files.example.org");
    assert_int_equal(args.fs.fsync, SYNC_COMMIT);
    assert_int_equal(args.fs.close, SYNC_ASYNC);
    assert_int_equal(args.fs.fsync_timeout_ms, 60000);
    assert_int_equal(args.fs.timeout_ms, 30000);
    assert_int_equal(args.fs.drain_ms, 60000);
    assert_int_equal(args.fs.copies, 1);
    assert_int_equal(args.fs.race_percent, 10);
    assert_true(args.fs.cache_size == 10ull << 30);
    assert_null(args.fs.kernel_options);
    assert_false(args.fs.strict || args.fs.global_locks || args.fs.named_owners);
    mount_args_free(&args);
}

static void takes_sources(void **state)
{
    (void)state;
    assert_int_equal(parse("alice@[::1]:99", "/mnt", NULL), 0);
    assert_string_equal(args.account, "alice");
    assert_string_equal(args.host, "::1");
    assert_int_equal(args.port, 99);
    mount_args_free(&args);
    static const char *const bad[] = {"@host", "host:", "host:0", "host:65536", "host:9x",
                                      "[::1",  "a@",    "a/b",    "[::1]9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i], "/mnt", NULL), -EINVAL);
        assert_non_null(strstr(err, bad[i]));
    }
}

static void takes_options(void **state)
{
    (void)state;
    assert_int_equal(
        parse("-n", "h", "-o",
              "state=/a\\,b c,fsync=local,close=commit,log_level=debug,fsync_timeout=0.5,timeout=2",
              "/m", "-o",
              "copies=2,race=0,cache_size=3M,keep_free=5M,dirty_max=1GiB,allow_other,eager_put,"
              "prefer=hq",
              "-sv", "-o", "coherence=strict,locks=global,owners=name", "-r", "-f", NULL),
        0);
    assert_string_equal(args.fs.state, "/a,b c");
    assert_int_equal(args.fs.fsync, SYNC_LOCAL);
    assert_int_equal(args.fs.close, SYNC_COMMIT);
    assert_int_equal(args.log_level, LOG_L_DEBUG);
    assert_int_equal(args.fs.fsync_timeout_ms, 500);
    assert_int_equal(args.fs.timeout_ms, 2000);
    assert_int_equal(args.fs.copies, 2);
    assert_int_equal(args.fs.race_percent, 0);
    assert_true(args.fs.keep_free == 5u << 20);
    assert_true(args.fs.cache_size == 3u << 20 && args.fs.dirty_max == 1u << 30);
    assert_true(args.fs.allow_other && args.fs.eager_put && args.fs.read_only && args.foreground);
    assert_true(args.fs.default_permissions); /* others are not the mount's user */
    assert_string_equal(args.fs.prefer, "hq");
    assert_true(args.fs.strict && args.fs.global_locks && args.fs.named_owners);
    mount_args_free(&args);
}

static void the_users_own_mount_checks_nothing(void **state)
{
    (void)state;
    assert_int_equal(parse("h", "/m", NULL), 0);
    assert_false(args.fs.default_permissions);
    mount_args_free(&args);
}

static void passes_the_kernels_words_on(void **state)
{
    (void)state;
    assert_int_equal(
        parse("h", "/m", "-t", "fuse.steadfs", "-o",
              "rw,dev,suid,noatime,_netdev,nofail,x-systemd.automount,fsname=a@h,subtype=steadfs",
              NULL),
        0);
    assert_string_equal(args.fs.kernel_options, "dev,suid,noatime");
    assert_int_equal(args.fs.atime, ATIME_NEVER);
    assert_string_equal(args.fs.source, "a@h");
    mount_args_free(&args);
}

static void takes_owners_and_rights(void **state)
{
    (void)state;
    assert_int_equal(parse("h", "/m", NULL), 0);
    assert_false(args.fs.set_uid || args.fs.set_gid || args.fs.umask != 0 || args.remount);
    mount_args_free(&args);
    assert_int_equal(
        parse("h", "/m", "-o", "gid=0,umask=027,allow_suid,allow_dev", "-t", "fuse.x", NULL), 0);
    assert_true(args.fs.set_gid && args.fs.gid == 0 && !args.fs.set_uid);
    assert_int_equal(args.fs.umask, 027);
    assert_string_equal(args.fs.kernel_options, "suid,dev");
    assert_string_equal(args.fs.subtype, "x");
    mount_args_free(&args);
    /* as mount(8) passes its own words on, nosuid and nodev win wherever they stand */
    assert_int_equal(parse("h", "/m", "-o", "rw,nosuid,allow_suid,allow_dev,nodev,uid=7", NULL), 0);
    assert_string_equal(args.fs.kernel_options, "nosuid,nodev");
    assert_true(args.fs.set_uid && args.fs.uid == 7);
    assert_int_equal(args.fs.atime, ATIME_RELATIVE);
    mount_args_free(&args);
    assert_int_equal(parse("h", "/m", "-o", "strictatime", NULL), 0);
    assert_int_equal(args.fs.atime, ATIME_ALWAYS);
    assert_null(args.fs.kernel_options);
    mount_args_free(&args);
    assert_int_equal(parse("h", "/m", "-o", "remount,ro,user_id=0,group_id=0,max_read=9", NULL), 0);
    assert_true(args.remount && args.fs.read_only);
    mount_args_free(&args);
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    static const struct {
        const char *option, *says;
    } bad[] = {
        {"fsnyc=local", "unknown option: fsnyc"},
        {"fsync=never", "neither commit nor local"},
        {"fsync=async", "neither commit nor local"},
        {"log_level=loud", "none of error, warn, info and debug"},
        {"close=never", "none of async, local and commit"},
        {"race=101", "from 0 to 100"},
        {"race=-1", "from 0 to 100"},
        {"coherence=strcit", "neither cached nor strict"},
        {"coherence", "needs a value"},
        {"locks=all", "neither mount nor global"},
        {"owners=names", "neither number nor name"},
        {"copies=0", "from 1 to 16"},
        {"copies=17", "from 1 to 16"},
        {"copies", "needs a value"},
        {"timeout=ten", "not a number of seconds"},
        {"timeout=1e99", "not a number of seconds"},
        {"cache_size=5Q", "not a size"},
        {"cache_size=99999999999999T", "not a size"},
        {"cache_size=-1", "not a size"},
        {"allow_other=1", "takes no value"},
        {"state=", "needs a value"},
        {"uid=me", "not a number of a user"},
        {"uid=4294967295", "not a number of a user"},
        {"umask=8", "octal permissions"},
        {"umask=1000", "octal permissions"},
        {"umask=", "octal permissions"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse("h", "/m", "-o", bad[i].option, NULL), -EINVAL);
        if (!strstr(err, bad[i].says))
            fail_msg("%s: %s", bad[i].option, err);
    }
    assert_int_equal(parse("h", "/m", "--foreground", NULL), -EINVAL);
    assert_string_equal(err, "unknown option --foreground; see --help");
    assert_int_equal(parse("h", NULL), -EINVAL);
    assert_int_equal(parse("h", "/m", "x", NULL), -EINVAL);
    assert_int_equal(parse("h", "", NULL), -EINVAL);
    assert_int_equal(parse("h", "/m", "-o", NULL), -EINVAL);
    assert_int_equal(parse("h", "/m", "-q", NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_defaults),
        cmocka_unit_test(takes_sources),
        cmocka_unit_test(takes_options),
        cmocka_unit_test(the_users_own_mount_checks_nothing),
        cmocka_unit_test(passes_the_kernels_words_on),
        cmocka_unit_test(takes_owners_and_rights),
        cmocka_unit_test(refuses_what_it_does_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
