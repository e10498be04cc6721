// SPDX-License-Identifier: Apache-2.0
/* A metadata server whose database is an older one again. Two devices with real cores and the real
 * server: what one of them did is committed and then lost with the journal; meanwhile the other one
 * may have followed, or done something in the new journal, whose numbers are the same ones again.
 * In the end all trees are the server's, and every block that somebody wrote is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "restored.h"

/* ---- one change ------------------------------------------------------------------------------ */
/* What a device had committed and the server lost is there again as it was; nobody is told of a
 * conflict. What was removed may be there again, too. */
static void comes_back(const char *op, const struct place *at, bool followed)
{
    char what[64];
    struct dump *before = calloc(1, sizeof *before);
    assert_non_null(before);
    snprintf(what, sizeof what, "%s%s", op, followed ? ", followed" : "");
    begin();
    assert_int_equal(pair_do(p, here, HERE, at, op), 0);
    device_commit(p, here);
    if (followed)
        device_follow(p, there);
    device_dump(p, here, before);
    restore();
    struct dump *last = settled(what);
    assert_true(here->resyncs == 1 && there->resyncs == followed);
    for (size_t i = 0; i < before->n; i++)
        if (!has_line(last, &before->v[i])) {
            dump_print("before", before);
            dump_print("in the end", last);
            fail_msg("%s: %s is not as it was", what, before->v[i].path);
        }
    bool removes = !strcmp(op, "unlink") || !strcmp(op, "rmdir") || !strcmp(op, "rm -r");
    if (!removes && last->n != before->n) {
        dump_print("before", before);
        dump_print("in the end", last);
        fail_msg("%s: there is more than before", what);
    }
    pair_end(p);
    free(last);
    free(before);
}

static void test_what_was_committed_is_sent_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_OPS; i++) {
        comes_back(file_ops[i], &file_place, false);
        comes_back(file_ops[i], &file_place, true);
    }
    for (size_t i = 0; i < DIR_OPS; i++)
        if (strcmp(dir_ops[i], "replace dir") != 0) {
            comes_back(dir_ops[i], &dir_place, false);
            comes_back(dir_ops[i], &dir_place, true);
        }
}

/* ---- two changes ----------------------------------------------------------------------------- */
/* The numbers of what is lost are those of other changes now. */
static void parted(const char *op, const struct place *at, const char *op2, const struct place *at2)
{
    char what[64];
    struct dump *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    assert_non_null(a);
    assert_non_null(b);
    snprintf(what, sizeof what, "%s lost, %s in the new journal", op, op2);
    begin();
    assert_int_equal(pair_do(p, here, HERE, at, op), 0);
    device_commit(p, here);
    restore();
    assert_int_equal(pair_do(p, there, THERE, at2, op2), 0);
    device_commit(p, there);
    go_on(there); /* the head passes what here knows of */
    device_dump(p, here, a);
    device_dump(p, there, b);
    struct dump *last = settled(what);
    assert_int_equal(here->resyncs, 1);
    assert_written(what, a, last);
    assert_written(what, b, last);
    pair_end(p);
    free(last);
    free(a);
    free(b);
}

static void test_every_pair_meets_by_the_usual_rules(void **state)
{
    (void)state;
    every_pair(parted);
}

/* ---- what is not known ----------------------------------------------------------------------- */
/* Who only knows a file's name does not make an empty one of it; who knows it brings it, whoever
 * comes first. */
static void test_content_that_is_not_known_is_not_made_up(void **state)
{
    struct core_attr a;
    (void)state;
    begin();
    uint64_t f = write_new(here, "new", 20);
    device_commit(p, here);
    pair_fresh(p);
    struct device *fresh = &p->d[FRESH];
    device_walk(p, fresh, "d/new");
    restore();
    device_follow(p, fresh);
    assert_int_equal(fresh->lost.missing, 1);
    struct core_lost told; /* for a while, also after a restart */
    assert_int_equal(core_lost_told(fresh->core, p->ns, fresh->who.now, &told), 0);
    assert_int_equal(told.missing, 1);
    assert_int_equal(core_lost_told(fresh->core, p->ns, fresh->who.now + LOST_TOLD_NS, &told),
                     -ENOENT);
    assert_int_equal(
        DEVICE_DO(p, fresh,
                  core_lookup(fresh->core, pair_base(p, "d"), bytes_str("new"), &a, &fresh->need)),
        -ENOENT);
    device_commit(p, fresh);
    struct core_ns n;
    assert_int_equal(core_ns_status(fresh->core, p->ns, &n), 0);
    assert_int_equal(n.pending_nodes, 0);
    pair_settle(p);
    device_follow(p, fresh);
    assert_int_equal(
        DEVICE_DO(p, fresh,
                  core_lookup(fresh->core, pair_base(p, "d"), bytes_str("new"), &a, &fresh->need)),
        0);
    assert_int_equal(a.node, f);
    assert_int_equal(a.size, 16);
    pair_end(p);
}

/* Of a file that a device wrote to without having read it, it knows that part. */
static void test_a_part_that_is_known_is_kept_beside(void **state)
{
    struct m_extent e = {.len = 8, .block = {{0}}};
    const struct extent_list l = {.v = &e, .n = 1};
    struct device *fresh = &p->d[FRESH];
    struct dump *t = calloc(1, sizeof *t);
    (void)state;
    assert_non_null(t);
    begin();
    pair_fresh(p);
    device_walk(p, fresh, "d/f");
    e.block.b[32] = 25;
    assert_int_equal(
        DEVICE_DO(p, fresh,
                  core_write(fresh->core, &fresh->who, pair_base(p, "d/f"), 0, 8, &l, false)),
        0);
    device_commit(p, fresh);
    restore();
    device_follow(p, fresh);
    assert_int_equal(fresh->lost.copies, 1);
    device_commit(p, fresh);
    device_dump(p, fresh, t);
    assert_int_equal(copies(t), 1);
    bool both = false;
    for (size_t i = 0; i < t->n; i++)
        both |= strstr(t->v[i].path, "conflicted copy") &&
                strstr(t->v[i].value, "size 16: 0+8=#25 8+8=#1");
    assert_true(both);
    assert_non_null(strstr(dump_find(t, "d/f")->value, "size 16: 0+16=#1"));
    pair_end(p);
    free(t);
}

/* Of a file that the server has lost as a whole: what of it is known, and its count of blocks. */
static void test_a_part_of_what_is_lost(void **state)
{
    struct m_extent e = {.len = 8, .block = {{0}}};
    const struct extent_list l = {.v = &e, .n = 1};
    struct device *fresh = &p->d[FRESH];
    struct core_attr a;
    (void)state;
    begin();
    uint64_t f = write_new(here, "new", 20);
    device_commit(p, here);
    pair_fresh(p);
    device_walk(p, fresh, "d/new");
    e.block.b[32] = 25;
    assert_int_equal(DEVICE_DO(p, fresh, core_write(fresh->core, &fresh->who, f, 0, 8, &l, false)),
                     0);
    device_commit(p, fresh);
    restore();
    device_follow(p, fresh);
    assert_int_equal(fresh->lost.copies, 1);
    assert_int_equal(DEVICE_DO(p, fresh, core_getattr(fresh->core, f, &a, &fresh->need)), 0);
    assert_int_equal(a.size, 16);
    assert_int_equal(a.stored, 8);
    device_commit(p, fresh);
    pair_end(p);
}

/* What was made in the lost journal and removed here since is nowhere: nor is a row of it. */
static void test_what_was_removed_since_leaves_nothing(void **state)
{
    struct core_attr a;
    uint64_t gone, dir = pair_base(p, "d");
    (void)state;
    begin();
    write_new(here, "new", 20);
    assert_int_equal(DEVICE_DO(p, here,
                               core_create(here->core, &here->who, dir, bytes_str("made"), NODE_DIR,
                                           0755, 0, bytes_of(NULL, 0), &a, &here->need)),
                     0);
    device_commit(p, here);
    restore();
    assert_int_equal(DEVICE_DO(p, here,
                               core_unlink(here->core, &here->who, dir, bytes_str("new"), false,
                                           &gone, &here->need)),
                     0);
    assert_int_equal(DEVICE_DO(p, here,
                               core_unlink(here->core, &here->who, dir, bytes_str("made"), true,
                                           &gone, &here->need)),
                     0);
    device_follow(p, here);
    sqlite3_stmt *s = tree_stmt(here->tree, "SELECT count(*) FROM node WHERE id != ?1"
                                            " AND id NOT IN (SELECT node FROM entry)");
    sqlite3_bind_int64(s, 1, (int64_t)p->root);
    assert_int_equal(tree_step(here->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    sqlite3_reset(s);
    free(settled("removed since"));
    pair_end(p);
}

/* A directory that was made and removed in the lost journal, and lives on here because of what was
 * made in it: the server never had it, so it is made anew, not revived. */
static void test_made_in_what_was_removed_in_the_lost_journal(void **state)
{
    uint64_t dir = pair_base(p, "d");
    (void)state;
    begin();
    uint64_t made = make_dir(there, dir, "made");
    device_commit(p, there);
    device_follow(p, here);
    remove_dir(there, dir, "made");
    device_commit(p, there);
    make_dir(here, made, "in it");
    device_follow(p, here);
    restore();
    struct dump *last = settled("in a lost directory");
    assert_true(dump_find(last, "d/made") && dump_find(last, "d/made/in it"));
    assert_int_equal(dump_find(last, "d/made")->node, made);
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

/* An empty directory whose removal is lost has a new one in its place, which the server has not
 * heard of: both are one. */
static void test_a_directory_in_the_place_of_a_removed_one(void **state)
{
    uint64_t dir = pair_base(p, "d");
    (void)state;
    begin();
    uint64_t old = make_dir(here, dir, "made");
    device_commit(p, here);
    backup();
    remove_dir(here, dir, "made");
    device_commit(p, here);
    make_dir(here, make_dir(here, dir, "made"), "in it");
    restore();
    struct dump *last = settled("a directory again");
    assert_int_equal(dump_find(last, "d/made")->node, old);
    assert_non_null(dump_find(last, "d/made/in it"));
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

/* The removal of an empty directory is lost, and that of the one it was in not sent: the name that
 * comes back has a place. */
static void test_a_removed_directory_of_what_comes_back(void **state)
{
    uint64_t dir = pair_base(p, "d");
    (void)state;
    begin();
    uint64_t outer = make_dir(here, dir, "outer"), inner = make_dir(here, outer, "inner");
    device_commit(p, here);
    backup();
    remove_dir(here, outer, "inner");
    device_commit(p, here);
    remove_dir(here, dir, "outer");
    restore();
    struct dump *last = settled("inner and outer");
    assert_int_equal(dump_find(last, "d/outer")->node, outer);
    assert_int_equal(dump_find(last, "d/outer/inner")->node, inner);
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

/* A directory and what was in it were removed, and another one made in its place: all of that is
 * lost. A removal of the new one, not sent yet, is none of the old one, which is still there. */
static void a_removal_of_what_had_the_name_later(bool under_way)
{
    uint64_t dir = pair_base(p, "d");
    begin();
    uint64_t outer = make_dir(here, dir, "outer"), inner = make_dir(here, outer, "inner");
    device_commit(p, here);
    backup();
    remove_dir(here, outer, "inner");
    remove_dir(here, dir, "outer");
    make_dir(here, dir, "outer");
    device_commit(p, here);
    remove_dir(here, dir, "outer");
    if (under_way) {
        assert_true(device_plan(p, here)); /* it is never received */
        core_plan_free(&here->plan);
        here->planned = false;
    }
    restore();
    struct dump *last = settled("the older of two directories");
    assert_int_equal(dump_find(last, "d/outer")->node, outer);
    assert_int_equal(dump_find(last, "d/outer/inner")->node, inner);
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

static void test_a_removal_of_what_had_the_name_later(void **state)
{
    (void)state;
    a_removal_of_what_had_the_name_later(true);
    a_removal_of_what_had_the_name_later(false);
}

/* A directory that is to be made again is made by another device first, with a name that was known
 * to be absent here, and was made here, too. The server forgets who did it: what is in the
 * directory is asked for before anything is sent. */
static void test_made_in_what_others_make_again(void **state)
{
    uint64_t dir = pair_base(p, "d");
    struct core_attr a;
    (void)state;
    begin();
    uint64_t made = make_dir(there, dir, "made");
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(
        DEVICE_DO(p, here, core_lookup(here->core, made, bytes_str("in it"), &a, &here->need)),
        -ENOENT);
    restore();
    device_follow(p, here);
    uint64_t ours = make_dir(here, made, "in it");
    make_dir(here, ours, "ours");
    device_follow(p, there);
    make_dir(there, make_dir(there, made, "in it"), "theirs");
    device_commit(p, there);
    pair_forget(p);
    struct dump *last = settled("made by both");
    assert_int_equal(dump_find(last, "d/made")->node, made);
    assert_non_null(dump_find(last, "d/made/in it/ours"));
    assert_non_null(dump_find(last, "d/made/in it/theirs"));
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

/* Times of which only that of the last change of status is newer than the server's. */
static void test_a_ctime_that_is_lost(void **state)
{
    uint64_t dir = pair_base(p, "d"), f = pair_base(p, "d/f"), replaced;
    struct core_attr was, is;
    (void)state;
    begin();
    here->who.now += 1000000;
    assert_int_equal(DEVICE_DO(p, here,
                               core_rename(here->core, &here->who, dir, bytes_str("f"), dir,
                                           bytes_str("other"), 0, &replaced, &here->need)),
                     0);
    assert_int_equal(DEVICE_DO(p, here,
                               core_rename(here->core, &here->who, dir, bytes_str("other"), dir,
                                           bytes_str("f"), 0, &replaced, &here->need)),
                     0);
    device_commit(p, here);
    assert_int_equal(DEVICE_DO(p, here, core_getattr(here->core, f, &was, &here->need)), 0);
    assert_true(was.ctime > was.mtime);
    restore();
    free(settled("a ctime"));
    for (size_t k = HERE; k <= FRESH; k++) {
        struct device *d = &p->d[k];
        if (k == SERIAL)
            continue;
        assert_int_equal(DEVICE_DO(p, d, core_getattr(d->core, f, &is, &d->need)), 0);
        assert_int_equal(is.ctime, was.ctime);
    }
    pair_end(p);
}

/* The only extended attribute of a file, removed in the lost journal: it is there again, for who
 * removed it, too. */
static void test_a_lost_removal_of_an_xattr(void **state)
{
    uint64_t f = pair_base(p, "d/f");
    (void)state;
    begin();
    assert_int_equal(DEVICE_DO(p, here,
                               core_setxattr(here->core, &here->who, f, bytes_str("user.a"),
                                             bytes_str("v"), 0, &here->need)),
                     0);
    device_commit(p, here);
    backup();
    assert_int_equal(DEVICE_DO(p, here,
                               core_setxattr(here->core, &here->who, f, bytes_str("user.a"),
                                             bytes_of(NULL, 0), 0, &here->need)),
                     0);
    device_commit(p, here);
    restore();
    struct dump *last = settled("an xattr removed");
    assert_non_null(strstr(dump_find(last, "d/f")->value, "user.a"));
    pair_end(p);
    free(last);
}

/* It was set in the lost journal, and is removed since: there is nothing to be removed. */
static void test_a_removal_of_an_xattr_that_is_lost(void **state)
{
    uint64_t f = pair_base(p, "d/f");
    (void)state;
    begin();
    assert_int_equal(DEVICE_DO(p, here,
                               core_setxattr(here->core, &here->who, f, bytes_str("user.a"),
                                             bytes_str("v"), 0, &here->need)),
                     0);
    device_commit(p, here);
    assert_int_equal(DEVICE_DO(p, here,
                               core_setxattr(here->core, &here->who, f, bytes_str("user.a"),
                                             bytes_of(NULL, 0), 0, &here->need)),
                     0);
    restore();
    struct dump *last = settled("an xattr set and removed");
    assert_null(strstr(dump_find(last, "d/f")->value, "user.a"));
    pair_end(p);
    free(last);
}

/* Who made it knows more of it than who sends it again first. */
static void test_an_xattr_that_others_have_not_read(void **state)
{
    (void)state;
    begin();
    uint64_t made = make_dir(here, pair_base(p, "d"), "made");
    assert_int_equal(DEVICE_DO(p, here,
                               core_setxattr(here->core, &here->who, made, bytes_str("user.a"),
                                             bytes_str("v"), 0, &here->need)),
                     0);
    device_commit(p, here);
    device_follow(p, there);
    restore();
    device_follow(p, there);
    device_commit(p, there);
    struct dump *last = settled("an xattr");
    assert_int_equal(dump_find(last, "d/made")->node, made);
    assert_non_null(strstr(dump_find(last, "d/made")->value, "user.a"));
    pair_end(p);
    free(last);
}

/* What was moved into a directory that the server has lost, and of which only the name of what was
 * moved is known here: where the server has it, or at the top. Who knows the directory does not
 * come back. */
static void test_moved_into_what_nobody_knows(void **state)
{
    struct dump *t = calloc(1, sizeof *t);
    uint64_t d = pair_base(p, "d");
    (void)state;
    assert_non_null(t);
    begin();
    uint64_t new = make_dir(here, d, "new");
    uint64_t inner = make_dir(here, make_dir(here, d, "outer"), "inner");
    device_commit(p, here);
    device_follow(p, there);
    move(here, d, "f", inner);
    move(here, d, "new", inner);
    device_commit(p, here);
    device_follow(p, there);
    restore();
    device_follow(p, there);
    device_commit(p, there);
    pair_fresh(p);
    device_dump(p, &p->d[FRESH], t);
    assert_int_equal(dump_find(t, "d/f")->node, pair_base(p, "d/f"));
    assert_non_null(dump_find(t, "d/outer"));
    assert_int_equal(copies(t), 1);
    const struct dump_line *l = t->v;
    while (l->node != new)
        l++;
    assert_ptr_equal(strstr(l->path, "new (conflicted copy"), l->path);
    pair_end(p);
    free(t);
}

static int seen(void *arg, const struct block_id *v, size_t n)
{
    unsigned *tags = arg;
    for (size_t i = 0; i < n; i++)
        tags[v[i].b[32]]++;
    return 0;
}

/* Whoever keeps blocks is told of those that are to be sent again, and of no others. */
static void test_blocks_that_are_sent_again(void **state)
{
    unsigned tags[256] = {0};
    (void)state;
    begin();
    write_new(here, "new", 20);
    device_commit(p, here);
    assert_int_equal(core_pending_blocks(here->core, p->ns, seen, tags), 0);
    assert_int_equal(tags[20], 0);
    restore();
    device_follow(p, here);
    assert_int_equal(core_pending_blocks(here->core, p->ns, seen, tags), 0);
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(tags[i], i == 20);
    pair_end(p);
}

/* A file of which only attributes are known here, and that is open, when the server loses it; who
 * made it goes on writing, and makes it again: it is that, though its numbers were higher before.
 */
static void test_open_when_it_is_lost(void **state)
{
    (void)state;
    begin();
    uint64_t f = write_new(there, "new", 30);
    device_commit(p, there);
    for (unsigned i = 0; i < 3; i++) {
        put(there, f, 0, 8, 31 + i);
        assert_int_equal(DEVICE_DO(p, there,
                                   core_setxattr(there->core, &there->who, f, bytes_str("user.a"),
                                                 bytes_str("v"), 0, &there->need)),
                         0);
        device_commit(p, there);
    }
    pair_fresh(p);
    struct device *fresh = &p->d[FRESH];
    device_walk(p, fresh, "d/new");
    fresh->open = f;
    restore();
    device_follow(p, fresh);
    assert_int_equal(fresh->lost.missing, 1);
    put(there, f, 16, 16, 35);
    device_follow(p, there);
    device_commit(p, there);
    device_follow(p, fresh);
    struct core_attr a, b;
    assert_int_equal(DEVICE_DO(p, fresh, core_getattr(fresh->core, f, &a, &fresh->need)), 0);
    assert_int_equal(DEVICE_DO(p, there, core_getattr(there->core, f, &b, &there->need)), 0);
    assert_int_equal(a.size, 32);
    assert_int_equal(a.stored, b.stored);
    assert_int_equal(a.nlink, 1);
    struct dump *t = calloc(1, sizeof *t);
    assert_non_null(t);
    device_dump(p, fresh, t);
    const struct dump_line *line = dump_find(t, "d/new");
    assert_non_null(line);
    assert_non_null(strstr(line->value, "0+8=#33 8+8=#30 16+16=#35"));
    assert_non_null(strstr(line->value, "user.a"));
    free(t);
    fresh->open = 0;
    pair_end(p);
}

/* Attributes and access lists that are nowhere any more are missed. */
static void test_xattrs_that_are_not_known_are_counted(void **state)
{
    struct device *fresh = &p->d[FRESH];
    struct extent_list l = {0};
    struct core_lost told;
    (void)state;
    begin();
    uint64_t f = write_new(here, "new", 20);
    assert_int_equal(DEVICE_DO(p, here,
                               core_setxattr(here->core, &here->who, f, bytes_str("user.k"),
                                             bytes_str("v"), 0, &here->need)),
                     0);
    device_commit(p, here);
    pair_fresh(p);
    device_walk(p, fresh, "d/new");
    assert_int_equal(
        DEVICE_DO(p, fresh, core_extents(fresh->core, f, 0, FILE_SIZE_MAX, &l, &fresh->need)), 0);
    extent_list_free(&l);
    restore();
    device_follow(p, fresh);
    assert_int_equal(fresh->lost.bare, 1);
    assert_int_equal(core_lost_told(fresh->core, p->ns, fresh->who.now, &told), 0);
    device_follow(p, here);
    assert_int_equal(here->lost.bare, 0);
    pair_end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_committed_is_sent_again),
        cmocka_unit_test(test_every_pair_meets_by_the_usual_rules),
        cmocka_unit_test(test_content_that_is_not_known_is_not_made_up),
        cmocka_unit_test(test_a_part_that_is_known_is_kept_beside),
        cmocka_unit_test(test_a_part_of_what_is_lost),
        cmocka_unit_test(test_what_was_removed_since_leaves_nothing),
        cmocka_unit_test(test_made_in_what_was_removed_in_the_lost_journal),
        cmocka_unit_test(test_a_directory_in_the_place_of_a_removed_one),
        cmocka_unit_test(test_a_removed_directory_of_what_comes_back),
        cmocka_unit_test(test_a_removal_of_what_had_the_name_later),
        cmocka_unit_test(test_made_in_what_others_make_again),
        cmocka_unit_test(test_a_ctime_that_is_lost),
        cmocka_unit_test(test_a_lost_removal_of_an_xattr),
        cmocka_unit_test(test_a_removal_of_an_xattr_that_is_lost),
        cmocka_unit_test(test_an_xattr_that_others_have_not_read),
        cmocka_unit_test(test_moved_into_what_nobody_knows),
        cmocka_unit_test(test_blocks_that_are_sent_again),
        cmocka_unit_test(test_open_when_it_is_lost),
        cmocka_unit_test(test_xattrs_that_are_not_known_are_counted),
    };
    simvfs_quick();
    return cmocka_run_group_tests(tests, restored_setup, restored_teardown);
}
