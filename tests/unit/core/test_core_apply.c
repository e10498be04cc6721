// SPDX-License-Identifier: Apache-2.0
/* Records of others on a tree that agrees with the server, and on pending state that they merge
 * with. */
#include "world.h"

#include <errno.h>
#include <string.h>

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

static void test_order(void **state)
{
    struct world *w = *state;
    struct core_ns n;
    rec_begin(w);
    w->rec.sjid = 2;
    assert_int_equal(try_apply(w), -EINVAL); /* a gap */
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    w->rec.sjid = 1;
    assert_int_equal(try_apply(w), 0); /* a second time: nothing */
    assert_int_equal(core_ns_get(w->core, NS, &n), 0);
    assert_int_equal(n.cursor, 1);
}

static void test_create(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    const struct core_effect *e = effect(w, EFFECT_ENTRY);
    assert_non_null(e);
    assert_int_equal(e->node, ROOT);
    assert_int_equal(e->other, THEIRS(1));
    assert_memory_equal(e->name, "f", 1);
    struct core_attr a = attr(w, THEIRS(1));
    assert_int_equal(a.mode, 0600);
    assert_int_equal(a.uid, 2000);
    assert_int_equal(a.nlink, 1);
    theirs_make(w, ROOT, "l", THEIRS(2), NODE_SYMLINK);
    char target[16];
    size_t len;
    assert_int_equal(core_readlink(w->core, THEIRS(2), target, sizeof target, &len, &w->need), 0);
    assert_int_equal(len, 9);
    assert_names(w, ROOT, "f l");
    assert_clean(w);
}

static void test_mkdir_counts(void **state)
{
    struct world *w = *state;
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_DIR, 2);
    rec_known(w, ROOT)->nlink = 3;
    rec_entry(w, ROOT, "d", THEIRS(1), NODE_DIR);
    apply(w);
    assert_int_equal(attr(w, ROOT).nlink, 3);
    assert_int_equal(attr(w, THEIRS(1)).nlink, 2);
    make(w, ROOT, "mine", NODE_DIR);
    assert_int_equal(attr(w, ROOT).nlink, 4);
    rec_begin(w); /* the server does not know of mine yet */
    struct m_inode *n = rec_inode(w, ROOT, NODE_DIR, 2);
    n->content_rev = n->attr_rev = 0;
    n = rec_inode(w, THEIRS(1), NODE_DIR, 0);
    n->gone = true;
    rec_entry(w, ROOT, "d", 0, NODE_NONE);
    apply(w);
    assert_int_equal(attr(w, ROOT).nlink, 3);
}

static void test_remove(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    w->open_node = THEIRS(1);
    theirs_remove(w, ROOT, "f", THEIRS(1));
    assert_non_null(effect(w, EFFECT_GONE));
    assert_names(w, ROOT, "");
    assert_int_equal(attr(w, THEIRS(1)).nlink, 0); /* still open */
    w->open_node = 0;
    assert_int_equal(core_purge(w->core, THEIRS(1)), 0);
    assert_int_equal(core_getattr(w->core, THEIRS(1), &a, &w->need), -ESTALE);
}

static void test_rename(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_REG);
    theirs_make(w, ROOT, "b", THEIRS(2), NODE_REG);
    rec_begin(w); /* a over b; the file itself is not touched by that */
    struct m_inode *n = rec_inode(w, THEIRS(2), NODE_REG, 0);
    n->content_rev = n->attr_rev = 2;
    n->gone = true;
    rec_entry(w, ROOT, "b", THEIRS(1), NODE_REG);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    apply(w);
    assert_names(w, ROOT, "b");
    assert_int_equal(node_at(w, ROOT, "b"), THEIRS(1));
    assert_int_equal(attr(w, THEIRS(1)).nlink, 1);
    assert_clean(w);
}

static void test_exchange_of_directories(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    theirs_make(w, ROOT, "b", THEIRS(2), NODE_DIR);
    rec_begin(w);
    rec_entry(w, ROOT, "a", THEIRS(2), NODE_DIR);
    rec_entry(w, ROOT, "b", THEIRS(1), NODE_DIR);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "a"), THEIRS(2));
    assert_int_equal(node_at(w, ROOT, "b"), THEIRS(1));
    assert_clean(w);
}

static void test_content(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    theirs_write(w, THEIRS(1), 100, 0, 100, 1);
    const struct core_effect *e = effect(w, EFFECT_DATA);
    assert_non_null(e);
    assert_int_equal(e->off, 0);
    assert_int_equal(e->len, 100);
    assert_true(w->changes_seen);
    assert_content(w, THEIRS(1), "0+100=1@0");
    theirs_write(w, THEIRS(1), 100, 40, 20, 2);
    assert_content(w, THEIRS(1), "0+40=1@0 40+20=2@0 60+40=1@60");
    theirs_write(w, THEIRS(1), 50, 50, 50, 0); /* a shrink: its end is a hole */
    assert_content(w, THEIRS(1), "0+40=1@0 40+10=2@0");
    assert_int_equal(attr(w, THEIRS(1)).size, 50);
    theirs_write(w, THEIRS(1), 80, 50, 30, 0);
    assert_content(w, THEIRS(1), "0+40=1@0 40+10=2@0");
    assert_int_equal(attr(w, THEIRS(1)).size, 80);
}

static void test_attributes(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, THEIRS(1), NODE_REG, 1);
    n->content_rev = 1;
    n->mode = 0444;
    n->mtime = 99;
    apply(w);
    assert_non_null(effect(w, EFFECT_ATTR));
    assert_int_equal(attr(w, THEIRS(1)).mode, 0444);
    assert_int_equal(attr(w, THEIRS(1)).mtime, 99);
    assert_clean(w);
}

static void test_xattrs(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    rec_begin(w);
    rec_xattr(w, THEIRS(1), "user.a", "1");
    rec_xattr(w, THEIRS(1), "user.b", "");
    apply(w);
    assert_non_null(effect(w, EFFECT_XATTR));
    assert_xattr(w, THEIRS(1), "user.a", "1");
    assert_xattr(w, THEIRS(1), "user.b", "");
    rec_begin(w);
    rec_xattr(w, THEIRS(1), "user.a", NULL);
    apply(w);
    assert_xattr(w, THEIRS(1), "user.a", NULL);
    assert_clean(w);
}

static void test_account_changes_ask_for_a_session(void **state)
{
    struct world *w = *state;
    rec_begin(w);
    w->rec.account = true;
    apply(w);
    assert_non_null(effect(w, EFFECT_SESSION));
}

static void refused(struct world *w)
{
    struct core_ns n;
    assert_int_equal(try_apply(w), -EBADMSG);
    assert_names(w, ROOT, "f"); /* not half of it */
    assert_int_equal(core_ns_get(w->core, NS, &n), 0);
    assert_int_equal(n.cursor, 1);
}

static void test_bad_records_change_nothing(void **state)
{
    struct world *w = *state;
    static const char *const bad_names[] = {"", "a/b", ".", ".."};
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        rec_begin(w);
        rec_entry(w, ROOT, "good", THEIRS(2), NODE_REG);
        rec_entry(w, ROOT, bad_names[i], THEIRS(3), NODE_REG);
        refused(w);
    }
    rec_begin(w); /* a name without its node */
    rec_entry(w, ROOT, "g", THEIRS(2), NODE_REG);
    w->entries[0].inode_set = false;
    refused(w);
    rec_begin(w); /* … or with another one */
    rec_entry(w, ROOT, "g", THEIRS(2), NODE_REG);
    w->entries[0].inode.node = THEIRS(3);
    refused(w);
    rec_begin(w); /* a type that is none */
    rec_entry(w, ROOT, "g", THEIRS(2), (enum node_type)77);
    refused(w);
    rec_begin(w); /* extents outside of their range */
    rec_inode(w, THEIRS(1), NODE_REG, 1);
    rec_content(w, 10, 0, 10, 1);
    w->extents[0].len = 11;
    refused(w);
    rec_begin(w); /* ranges that overlap */
    rec_inode(w, THEIRS(1), NODE_REG, 1);
    rec_content(w, 10, 0, 10, 1);
    w->ranges[1] = (struct m_range){.off = 5, .len = 10};
    w->contents[0].ranges_n = 2;
    refused(w);
    rec_begin(w); /* a range behind the end of everything */
    rec_inode(w, THEIRS(1), NODE_REG, 1);
    rec_content(w, 10, FILE_SIZE_MAX, 10, 0);
    refused(w);
}

/* ---- merging with what is pending -------------------------------------------------------------
 */
static void test_different_facets_merge(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    write_block(w, THEIRS(1), 0, 8, 1);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, THEIRS(1), NODE_REG, 1);
    n->content_rev = 1;
    n->mode = 0444;
    apply(w);
    assert_null(effect(w, EFFECT_FORK));
    assert_int_equal(attr(w, THEIRS(1)).mode, 0444);
    assert_content(w, THEIRS(1), "0+8=1@0");
    planned(w, THEIRS(1));
    assert_int_equal(sent_node(w, THEIRS(1))->base_content, 1);
    assert_int_equal(sent_node(w, THEIRS(1))->facets & FACET_ATTR, 0);
}

static void test_local_attributes_go_on_top(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    set_mode(w, THEIRS(1), 0400);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, THEIRS(1), NODE_REG, 1);
    n->content_rev = 1;
    n->mode = 0444;
    apply(w);
    assert_int_equal(attr(w, THEIRS(1)).mode, 0400);
    planned(w, THEIRS(1));
    assert_int_equal(sent_node(w, THEIRS(1))->base_attr, 2);
}

static void test_local_xattr_goes_on_top(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(set_xattr(w, THEIRS(1), "user.a", "mine", 0), 0);
    assert_int_equal(set_xattr(w, THEIRS(1), "user.b", "mine", 0), 0);
    rec_begin(w);
    rec_xattr(w, THEIRS(1), "user.a", "theirs");
    rec_xattr(w, THEIRS(1), "user.c", "theirs");
    apply(w);
    assert_xattr(w, THEIRS(1), "user.a", "mine");
    assert_xattr(w, THEIRS(1), "user.c", "theirs");
    planned(w, THEIRS(1));
    for (size_t i = 0; i < w->changes.xattrs_n; i++)
        assert_int_equal(w->changes.xattrs[i].base_rev,
                         bytes_equal(w->changes.xattrs[i].name, name_of("user.a")) ? 2 : 0);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_xattr_removed_on_both_sides(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(set_xattr(w, THEIRS(1), "user.a", "1", 0), 0);
    commit_all(w);
    assert_int_equal(set_xattr(w, THEIRS(1), "user.a", NULL, 0), 0);
    rec_begin(w);
    rec_xattr(w, THEIRS(1), "user.a", NULL);
    apply(w);
    planned(w, THEIRS(1));
    assert_int_equal(w->changes.xattrs_n, 0);
}

static void test_other_names_of_a_directory_merge(void **state)
{
    struct world *w = *state;
    make(w, ROOT, "mine", NODE_REG);
    theirs_make(w, ROOT, "theirs", THEIRS(1), NODE_REG);
    assert_names(w, ROOT, "mine theirs");
    planned(w, ROOT);
    assert_int_equal(w->changes.entries_n, 1);
}

static void test_both_removed_the_name(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    rec_begin(w);
    struct m_inode *n = rec_inode(w, THEIRS(1), NODE_REG, 0);
    n->content_rev = n->attr_rev = 1;
    n->gone = true;
    rec_entry(w, ROOT, "f", 0, NODE_NONE);
    apply(w);
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 0);
    answer_committed(w);
    assert_clean(w);
}

/* Ours, new here, is told to be there, elsewhere: whatever else has its name now, nothing is merged
 * of it. */
static void test_what_is_made_there_is_not_new(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    uint64_t in = make(w, d, "in", NODE_DIR);
    make(w, in, "f", NODE_REG);
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_DIR, 3);
    rec_known(w, d);
    rec_known(w, in);
    rec_entry(w, ROOT, "d", THEIRS(1), NODE_DIR);
    rec_entry(w, d, "in", in, NODE_DIR);
    rec_entry(w, THEIRS(1), "mine", d, NODE_DIR);
    apply(w);
    assert_names(w, ROOT, "d");
    assert_int_equal(node_at(w, ROOT, "d"), THEIRS(1));
    assert_int_equal(node_at(w, THEIRS(1), "mine"), d);
    assert_names(w, d, "in");
    assert_int_equal(node_at(w, d, "in"), in);
    assert_names(w, in, "f");
    commit_all(w);
    assert_clean(w);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_order),
        T(test_create),
        T(test_mkdir_counts),
        T(test_remove),
        T(test_rename),
        T(test_exchange_of_directories),
        T(test_content),
        T(test_attributes),
        T(test_xattrs),
        T(test_account_changes_ask_for_a_session),
        T(test_bad_records_change_nothing),
        T(test_different_facets_merge),
        T(test_local_attributes_go_on_top),
        T(test_local_xattr_goes_on_top),
        T(test_xattr_removed_on_both_sides),
        T(test_other_names_of_a_directory_merge),
        T(test_both_removed_the_name),
        T(test_what_is_made_there_is_not_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
