// SPDX-License-Identifier: Apache-2.0
/* What programs do to the tree, without a server: results, errors, counts, times. */
#include "world.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/xattr.h>

static int setup(void **state)
{
    *state = world_new(true);
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void test_create(void **state)
{
    struct world *w = *state;
    uint64_t node, f = make(w, ROOT, "f", NODE_REG), d = make(w, ROOT, "d", NODE_DIR);
    assert_int_equal(NODE_DEVICE(f), 1);
    assert_int_equal(attr(w, f).nlink, 1);
    assert_int_equal(attr(w, f).mode, 0644);
    assert_int_equal(attr(w, f).uid, 1000);
    assert_int_equal(attr(w, d).nlink, 2);
    assert_int_equal(attr(w, ROOT).nlink, 3);
    assert_int_equal(attr(w, ROOT).mtime, w->who.now);
    assert_int_equal(node_at(w, ROOT, "f"), f);
    assert_int_equal(try_make(w, ROOT, "f", NODE_REG, &node), -EEXIST);
    assert_int_equal(try_make(w, ROOT, "d", NODE_REG, &node), -EEXIST);
    assert_int_equal(try_make(w, f, "x", NODE_REG, &node), -ENOTDIR);
    assert_int_equal(try_make(w, THEIRS(9), "x", NODE_REG, &node), -ESTALE);
    assert_names(w, ROOT, "d f");
}

static void test_names_at_their_limits(void **state)
{
    struct world *w = *state;
    uint64_t node;
    char name[NAME_LEN_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_LEN_MAX + 1] = 0;
    assert_int_equal(try_make(w, ROOT, name, NODE_REG, &node), -ENAMETOOLONG);
    struct core_attr a;
    assert_int_equal(lookup(w, ROOT, name, &a), -ENAMETOOLONG);
    name[NAME_LEN_MAX] = 0;
    assert_int_equal(try_make(w, ROOT, name, NODE_REG, &node), 0);
    assert_int_equal(try_make(w, ROOT, "", NODE_REG, &node), -ENOENT);
    assert_int_equal(try_make(w, ROOT, "a/b", NODE_REG, &node), -EINVAL);
}

static void test_special_files(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    char target[16];
    size_t len;
    assert_int_equal(core_create(w->core, &w->who, ROOT, name_of("chr"), NODE_CHR, 0600, 259,
                                 bytes_of(NULL, 0), &a, &w->need),
                     0);
    assert_int_equal(a.rdev, 259);
    uint64_t link = make(w, ROOT, "l", NODE_SYMLINK);
    assert_int_equal(core_readlink(w->core, link, target, sizeof target, &len, &w->need), 0);
    assert_int_equal(len, 6);
    assert_memory_equal(target, "target", 6);
    assert_int_equal(attr(w, link).size, 6);
    assert_int_equal(core_readlink(w->core, a.node, target, sizeof target, &len, &w->need),
                     -EINVAL);
    assert_int_equal(core_create(w->core, &w->who, ROOT, name_of("e"), NODE_SYMLINK, 0777, 0,
                                 bytes_of("", 0), &a, &w->need),
                     -ENOENT);
}

static void test_unlink(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), d = make(w, ROOT, "d", NODE_DIR);
    struct core_attr a;
    make(w, d, "x", NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "none", false), -ENOENT);
    assert_int_equal(remove_name(w, ROOT, "d", false), -EISDIR);
    assert_int_equal(remove_name(w, ROOT, "f", true), -ENOTDIR);
    assert_int_equal(remove_name(w, ROOT, "d", true), -ENOTEMPTY);
    assert_int_equal(remove_name(w, d, "x", false), 0);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    assert_int_equal(attr(w, ROOT).nlink, 2);
    w->open_node = f;
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    assert_int_equal(attr(w, f).nlink, 0);
    write_block(w, f, 0, 8, 1); /* still open */
    w->open_node = 0;
    assert_int_equal(core_purge(w->core, f), 0);
    assert_int_equal(core_getattr(w->core, f, &a, &w->need), -ESTALE);
    assert_names(w, ROOT, "");
}

static void test_removed_directory_takes_no_names(void **state)
{
    struct world *w = *state;
    uint64_t node, d = make(w, ROOT, "d", NODE_DIR);
    w->open_node = d; /* somebody's current directory */
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    assert_int_equal(attr(w, d).nlink, 0);
    assert_int_equal(try_make(w, d, "x", NODE_REG, &node), -ENOENT);
}

static void test_link(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t f = make(w, ROOT, "f", NODE_REG), d = make(w, ROOT, "d", NODE_DIR);
    assert_int_equal(core_link(w->core, &w->who, f, d, name_of("g"), &a, &w->need), 0);
    assert_int_equal(a.nlink, 2);
    assert_int_equal(core_link(w->core, &w->who, f, d, name_of("g"), &a, &w->need), -EEXIST);
    assert_int_equal(core_link(w->core, &w->who, d, ROOT, name_of("e"), &a, &w->need), -EPERM);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    assert_int_equal(attr(w, f).nlink, 1);
    assert_int_equal(node_at(w, d, "g"), f);
}

static void test_file_without_a_name(void **state)
{
    struct world *w = *state;
    struct core_attr a = {.ns = NS};
    assert_int_equal(core_create(w->core, &w->who, 0, bytes_of(NULL, 0), NODE_REG, 0600, 0,
                                 bytes_of(NULL, 0), &a, &w->need),
                     0);
    assert_int_equal(a.nlink, 0);
    write_block(w, a.node, 0, 8, 1);
    assert_int_equal(plan(w, a.node), 0); /* its fsync is local */
    assert_int_equal(w->plan.rows, 0);
    assert_int_equal(core_link(w->core, &w->who, a.node, ROOT, name_of("now"), &a, &w->need), 0);
    assert_int_equal(a.nlink, 1);
    planned(w, a.node);
    assert_true(sent_entry(w, ROOT, "now", 0, a.node));
}

static void test_removed_file_gets_no_new_name(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    w->open_node = f;
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, name_of("g"), &a, &w->need), -ENOENT);
}

static void test_rename(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_REG), b = make(w, ROOT, "b", NODE_REG);
    uint64_t d = make(w, ROOT, "d", NODE_DIR), e = make(w, d, "e", NODE_DIR);
    assert_int_equal(rename_to(w, ROOT, "none", ROOT, "x", 0), -ENOENT);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "d", 0), -EISDIR);
    assert_int_equal(rename_to(w, ROOT, "d", ROOT, "a", 0), -ENOTDIR);
    assert_int_equal(rename_to(w, ROOT, "d", e, "x", 0), -EINVAL);
    assert_int_equal(rename_to(w, ROOT, "d", d, "e", 0), -EINVAL);
    assert_int_equal(rename_to(w, d, "e", ROOT, "d", 0), -ENOTEMPTY);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "c", RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "c", 8), -EINVAL);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", RENAME_EXCHANGE), 0);
    assert_int_equal(node_at(w, ROOT, "a"), b);
    assert_int_equal(node_at(w, ROOT, "b"), a);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", 0), 0);
    assert_int_equal(node_at(w, ROOT, "a"), 0);
    assert_int_equal(node_at(w, ROOT, "b"), b);
    assert_int_equal(rename_to(w, d, "e", ROOT, "e", 0), 0);
    assert_int_equal(attr(w, d).nlink, 2);
    assert_int_equal(attr(w, ROOT).nlink, 4);
    assert_names(w, ROOT, "b d e");
}

/* The name, and the node that takes its place, go in one commit: others see no moment between. */
static void test_a_rename_leaves_a_whiteout(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "g", RENAME_WHITEOUT), 0);
    uint64_t left = node_at(w, ROOT, "f");
    assert_int_equal(node_at(w, ROOT, "g"), f);
    assert_true(left != 0 && left != f);
    assert_int_equal(attr(w, left).type, NODE_CHR);
    assert_int_equal(attr(w, left).rdev, 0);
    planned(w, left); /* fsync of it, if anybody did: what it replaced lives on */
    assert_true(sent_entry(w, ROOT, "f", f, left));
    assert_true(sent_entry(w, ROOT, "g", 0, f));
    assert_non_null(sent_node(w, left));
    answer_committed(w);
    assert_names(w, ROOT, "f g");
}

static void test_rename_of_two_names_of_one_file_does_nothing(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, name_of("g"), &a, &w->need), 0);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "g", 0), 0);
    assert_names(w, ROOT, "f g");
    assert_int_equal(attr(w, f).nlink, 2);
}

static void test_attributes(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    struct core_attr a = {.mode = 0100751, .uid = 5, .gid = 6, .mtime = 77, .atime = 88};
    assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_ATIME, &a, &w->need), 0);
    assert_clean(w); /* the atime is nobody else's business */
    assert_int_equal(core_setattr(w->core, &w->who, f,
                                  CORE_SET_MODE | CORE_SET_UID | CORE_SET_GID | CORE_SET_MTIME, &a,
                                  &w->need),
                     0);
    struct core_attr got = attr(w, f);
    assert_int_equal(got.mode, 0751);
    assert_int_equal(got.uid, 5);
    assert_int_equal(got.gid, 6);
    assert_int_equal(got.mtime, 77);
    assert_int_equal(got.atime, 88);
    assert_int_equal(got.ctime, w->who.now);
}

static void test_ctime_never_goes_back(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), replaced;
    int64_t then = attr(w, f).ctime;
    w->who.now -= 5000; /* a clock is set back */
    set_mode(w, f, 0600);
    assert_int_equal(set_xattr(w, f, "user.x", "1", 0), 0);
    write_block(w, f, 0, 8, 1);
    assert_int_equal(core_truncate(w->core, &w->who, f, 4, &w->need), 0);
    assert_int_equal(core_rename(w->core, &w->who, ROOT, name_of("f"), ROOT, name_of("g"), 0,
                                 &replaced, &w->need),
                     0);
    assert_int_equal(attr(w, f).ctime, then);
    assert_int_equal(attr(w, ROOT).ctime, then);
    assert_true(attr(w, f).mtime < then);
}

static void test_xattrs(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    char *big = test_calloc(1, XATTR_VALUE_MAX + 1);
    assert_int_equal(set_xattr(w, f, "user.a", "1", XATTR_REPLACE), -ENODATA);
    assert_int_equal(set_xattr(w, f, "user.a", NULL, 0), -ENODATA);
    assert_int_equal(set_xattr(w, f, "user.a", "1", XATTR_CREATE), 0);
    assert_int_equal(set_xattr(w, f, "user.a", "2", XATTR_CREATE), -EEXIST);
    assert_int_equal(set_xattr(w, f, "user.b", "", 0), 0);
    assert_xattr(w, f, "user.a", "1");
    assert_xattr(w, f, "user.b", "");
    cleanup_buf struct buf names = {0};
    assert_int_equal(core_listxattr(w->core, f, &names, &w->need), 0);
    assert_int_equal(names.n, 14);
    assert_memory_equal(names.p, "user.a\0user.b", 14);
    assert_int_equal(set_xattr(w, f, "user.a", NULL, 0), 0);
    assert_xattr(w, f, "user.a", NULL);
    assert_int_equal(core_setxattr(w->core, &w->who, f, name_of("user.c"),
                                   bytes_of(big, XATTR_VALUE_MAX + 1), 0, &w->need),
                     -E2BIG);
    assert_int_equal(core_setxattr(w->core, &w->who, f, name_of("user.c"),
                                   bytes_of(big, XATTR_VALUE_MAX), 0, &w->need),
                     0);
    test_free(big);
}

static void test_reader_changes_nothing(void **state)
{
    struct world *w = *state;
    uint64_t node, f = make(w, ROOT, "f", NODE_REG);
    struct core_attr a = {.mode = 0};
    world_session(w, 0, ROLE_VIEWER);
    assert_int_equal(try_make(w, ROOT, "g", NODE_REG, &node), -EROFS);
    assert_int_equal(remove_name(w, ROOT, "f", false), -EROFS);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "g", 0), -EROFS);
    assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_MODE, &a, &w->need), -EROFS);
    assert_int_equal(core_truncate(w->core, &w->who, f, 0, &w->need), -EROFS);
    assert_int_equal(set_xattr(w, f, "user.a", "1", 0), -EROFS);
    assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_ATIME, &a, &w->need), 0);
}

static void test_no_longer_a_member(void **state)
{
    struct world *w = *state;
    uint64_t node;
    struct m_session_ans none = {.device = 1, .account = bytes_str("alice"), .root_ns = NS};
    assert_int_equal(core_session(w->core, &none, &w->fx), 0);
    assert_int_equal(try_make(w, ROOT, "g", NODE_REG, &node), -EACCES);
}

struct walk {
    struct world *w;
    uint64_t cookies[8];
    size_t n, stop;
};

static bool one_entry(void *arg, const struct core_dirent *e)
{
    struct walk *k = arg;
    if (k->n == k->stop)
        return false;
    k->cookies[k->n++] = e->cookie;
    return true;
}

static void test_cookies_are_stable(void **state)
{
    struct world *w = *state;
    struct walk k = {.w = w, .stop = 2}, rest = {.w = w, .stop = 8};
    make(w, ROOT, "a", NODE_REG);
    make(w, ROOT, "b", NODE_REG);
    make(w, ROOT, "c", NODE_REG);
    assert_int_equal(core_readdir(w->core, ROOT, 0, one_entry, &k, &w->need), 0);
    assert_int_equal(k.n, 2);
    commit_all(w);
    assert_int_equal(remove_name(w, ROOT, "a", false), 0);
    make(w, ROOT, "0", NODE_REG);
    assert_int_equal(core_readdir(w->core, ROOT, k.cookies[1], one_entry, &rest, &w->need), 0);
    assert_int_equal(rest.n, 2); /* c, which stayed, and the new one behind it */
    assert_true(rest.cookies[0] > k.cookies[1]);
    assert_true(rest.cookies[1] > rest.cookies[0]);
}

static void test_create_and_unlink_leave_nothing(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), d = make(w, ROOT, "d", NODE_DIR);
    struct core_attr a;
    write_block(w, f, 0, 8, 1);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    assert_int_equal(core_getattr(w->core, f, &a, &w->need), -ESTALE);
    assert_int_equal(core_getattr(w->core, d, &a, &w->need), -ESTALE);
    planned(w, 0);
    assert_int_equal(rows(w), 1); /* the times of the root */
    assert_int_equal(sent_node(w, ROOT)->facets, FACET_TIMES);
}

static void test_a_failed_transaction_leaves_nothing(void **state)
{
    struct world *w = *state;
    uint64_t node;
    assert_int_equal(core_begin(w->core), 0);
    assert_int_equal(try_make(w, ROOT, "a", NODE_REG, &node), 0);
    assert_int_equal(core_end(w->core, false), 0);
    assert_names(w, ROOT, "");
    assert_int_equal(core_begin(w->core), 0);
    assert_int_equal(try_make(w, ROOT, "b", NODE_REG, &node), 0);
    assert_int_equal(core_end(w->core, true), 0);
    assert_names(w, ROOT, "b");
}

/* Rows that were read are kept: what any statement did to them is seen, and what was undone is not.
 */
static void test_kept_rows_are_those_of_the_tree(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    struct core_attr a = {.mode = 0600};
    char *sql = sqlite3_mprintf("UPDATE node SET mode = 432 WHERE id = %lld", (long long)f);
    assert_int_equal(attr(w, f).mode, 0644);
    assert_int_equal(sqlite3_exec(tree_db(w->tree), sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(sql);
    assert_int_equal(attr(w, f).mode, 0660);
    assert_int_equal(core_begin(w->core), 0);
    assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_MODE, &a, &w->need), 0);
    assert_int_equal(attr(w, f).mode, 0600);
    assert_int_equal(core_end(w->core, false), 0);
    assert_int_equal(attr(w, f).mode, 0660);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    assert_no_node(w, f);
    world_session(w, 0, ROLE_VIEWER); /* the same of what is known of the namespace */
    assert_int_equal(try_make(w, ROOT, "g", NODE_REG, &f), -EROFS);
    world_session(w, 0, ROLE_EDITOR);
    assert_int_equal(try_make(w, ROOT, "g", NODE_REG, &f), 0);
}

static int pages_written(struct world *w)
{
    int now = 0, most = 0;
    assert_int_equal(
        sqlite3_db_status(tree_db(w->tree), SQLITE_DBSTATUS_CACHE_WRITE, &now, &most, 1),
        SQLITE_OK);
    return now;
}

/* The log takes each page that a transaction changes: of a node of which something is pending
 * already, its own, and not those of indexes that say the same as before. */
static void test_a_change_of_attributes_writes_one_page(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    struct core_attr a = {.mode = 0600};
    for (int i = 0; i < 3; i++) {
        w->who.now++;
        pages_written(w);
        assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_MODE, &a, &w->need), 0);
        assert_true(i == 0 || pages_written(w) == 1);
    }
    world_restart(w, END_KILL);
    assert_int_equal(attr(w, f).mode, 0600);
}

static void test_links_of_directories_that_move(void **state)
{
    struct world *w = *state;
    uint64_t a = make(w, ROOT, "a", NODE_DIR), b = make(w, ROOT, "b", NODE_DIR);
    uint64_t x = make(w, a, "x", NODE_DIR), f = make(w, b, "f", NODE_REG);
    assert_int_equal(attr(w, a).nlink, 3);
    assert_int_equal(rename_to(w, a, "x", a, "y", 0), 0);
    assert_int_equal(attr(w, a).nlink, 3);
    assert_int_equal(rename_to(w, a, "y", b, "f", RENAME_EXCHANGE), 0);
    assert_int_equal(attr(w, a).nlink, 2);
    assert_int_equal(attr(w, b).nlink, 3);
    assert_int_equal(attr(w, f).nlink, 1);
    assert_int_equal(attr(w, x).nlink, 2);
    assert_int_equal(rename_to(w, a, "y", b, "f", RENAME_EXCHANGE), 0); /* and back */
    assert_int_equal(attr(w, a).nlink, 3);
    assert_int_equal(attr(w, b).nlink, 2);
    uint64_t d = make(w, b, "d", NODE_DIR);
    assert_int_equal(rename_to(w, a, "y", b, "d", RENAME_EXCHANGE), 0);
    assert_int_equal(attr(w, a).nlink, 3);
    assert_int_equal(attr(w, b).nlink, 3);
    assert_int_equal(rename_to(w, a, "y", b, "d", 0), 0); /* over an empty one */
    assert_int_equal(attr(w, a).nlink, 2);
    assert_int_equal(attr(w, b).nlink, 3);
    assert_no_node(w, x);
    assert_int_equal(attr(w, d).nlink, 2);
    assert_int_equal(rename_to(w, b, "d", b, "e", 0), 0);
    make(w, b, "g", NODE_DIR);
    assert_int_equal(rename_to(w, b, "e", b, "g", 0), 0);
    assert_int_equal(attr(w, b).nlink, 3);
    assert_int_equal(attr(w, ROOT).nlink, 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_create),
        T(test_names_at_their_limits),
        T(test_special_files),
        T(test_unlink),
        T(test_removed_directory_takes_no_names),
        T(test_link),
        T(test_file_without_a_name),
        T(test_removed_file_gets_no_new_name),
        T(test_rename),
        T(test_a_rename_leaves_a_whiteout),
        T(test_rename_of_two_names_of_one_file_does_nothing),
        T(test_attributes),
        T(test_ctime_never_goes_back),
        T(test_xattrs),
        T(test_reader_changes_nothing),
        T(test_no_longer_a_member),
        T(test_cookies_are_stable),
        T(test_create_and_unlink_leave_nothing),
        T(test_a_failed_transaction_leaves_nothing),
        T(test_kept_rows_are_those_of_the_tree),
        T(test_a_change_of_attributes_writes_one_page),
        T(test_links_of_directories_that_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
