// SPDX-License-Identifier: Apache-2.0
/* Conflicts: one test for each row of fs/CONFLICTS.md, by the same name. */
#include "world.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#define COPY " (conflicted copy, mine, 2023-11-14)"

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

/* ---- content --------------------------------------------------------------------------------- */
static void test_content_content(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f.txt", f, NODE_REG);
    theirs_write(w, f, 100, 0, 100, 1);
    assert_int_equal(set_xattr(w, f, "user.a", "1", 0), 0);
    write_block(w, f, 10, 10, 5);
    theirs_write(w, f, 100, 50, 10, 2);
    const struct core_effect *fork = effect(w, EFFECT_FORK);
    assert_non_null(fork);
    uint64_t forked = fork->other;
    struct extent_list l cleanup_extents = {0};
    assert_int_equal(core_extents(w->core, f, 0, 100, &l, &w->need), CORE_NEED);
    assert_int_equal(w->need.off, 10); /* what was there before our write is asked for again */
    struct m_extent now[] = {extent(10, 40, 1, 10), extent(50, 10, 2, 0), extent(60, 40, 1, 60)};
    assert_int_equal(load_extents(w, now, 3, FILE_SIZE_MAX), 0);
    assert_content(w, f, "0+50=1@0 50+10=2@0 60+40=1@60");
    uint64_t copy = node_at(w, ROOT, "f" COPY ".txt");
    assert_true(copy);
    assert_int_equal(forked, copy);
    assert_content(w, copy, "0+10=1@0 10+10=5@0 20+80=1@20"); /* base and local ranges */
    assert_xattr(w, copy, "user.a", "1");
    planned(w, copy);
    assert_int_equal(sent_node(w, copy)->facets, FACET_CREATE | FACET_CONTENT);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_content_content_disjoint(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    theirs_write(w, f, 100, 0, 100, 1);
    write_block(w, f, 0, 10, 5);
    theirs_write(w, f, 110, 100, 10, 2);
    assert_true(node_at(w, ROOT, "f" COPY));
}

static void test_content_content_unknown_base(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    rec_begin(w); /* of 100 bytes none is known here */
    struct m_inode *n = rec_inode(w, f, NODE_REG, 1);
    n->size = n->stored = 100;
    rec_entry(w, ROOT, "f", f, NODE_REG);
    apply(w);
    write_block(w, f, 10, 10, 5);
    theirs_write(w, f, 100, 50, 10, 2);
    uint64_t copy = node_at(w, ROOT, "f" COPY);
    assert_int_equal(plan(w, copy), CORE_NEED); /* its base is read from the past of f */
    assert_int_equal(w->need.kind, NEED_EXTENTS);
    struct m_extent e = extent(0, 100, 1, 0);
    assert_int_equal(load_extents(w, &e, 1, FILE_SIZE_MAX), 0);
    assert_int_equal(w->need.src, f);
    assert_int_equal(w->need.at, 1);
    assert_content(w, copy, "0+10=1@0 10+10=5@0 20+80=1@20");
    planned(w, copy);
}

/* A file of two names, of which one is known here. */
static void theirs_linked(struct world *w, const char *name)
{
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_REG, 2);
    rec_content(w, 0, 0, FILE_SIZE_MAX, 0);
    rec_entry(w, ROOT, name, THEIRS(1), NODE_REG);
    apply(w);
}

static void theirs_rewrite_linked(struct world *w, uint64_t nlink)
{
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_REG, nlink)->attr_rev = 1;
    rec_content(w, 8, 0, 8, 2);
    apply(w);
}

/* The name it was written under is gone, the file lives on where nothing is known. */
static void test_content_content_without_a_known_name(void **state)
{
    struct world *w = *state;
    theirs_linked(w, "a");
    write_block(w, THEIRS(1), 0, 8, 1);
    assert_int_equal(remove_name(w, ROOT, "a", false), 0);
    theirs_rewrite_linked(w, 2);
    assert_names(w, ROOT, "a" COPY);
    assert_content(w, effect(w, EFFECT_FORK)->other, "0+8=1@0");
    commit_all(w);
    assert_clean(w);
}

static void test_content_content_without_any_name(void **state)
{
    struct world *w = *state;
    theirs_linked(w, "a");
    assert_int_equal(remove_name(w, ROOT, "a", false), 0);
    w->open_node = THEIRS(1);
    planned(w, ROOT);
    answer_committed(w);
    write_block(w, THEIRS(1), 0, 8, 1);
    theirs_rewrite_linked(w, 1);
    w->open_node = 0;
    assert_names(w, ROOT, "recovered-20000000001" COPY);
    assert_content(w, effect(w, EFFECT_FORK)->other, "0+8=1@0");
    commit_all(w);
    assert_clean(w);
}

/* Not in the directory that it was in, which is removed, too. */
static void test_content_content_without_its_directory(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "d", THEIRS(2), NODE_DIR);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(2)};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_REG, 2);
    rec_content(w, 0, 0, FILE_SIZE_MAX, 0);
    rec_entry(w, THEIRS(2), "a", THEIRS(1), NODE_REG);
    apply(w);
    write_block(w, THEIRS(1), 0, 8, 1);
    assert_int_equal(remove_name(w, THEIRS(2), "a", false), 0);
    assert_int_equal(remove_name(w, ROOT, "d", true), 0);
    theirs_rewrite_linked(w, 2);
    assert_names(w, ROOT, "recovered-20000000001" COPY);
    commit_all(w);
    assert_clean(w);
}

static void test_same_bytes(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    write_block(w, f, 0, 10, 5);
    theirs_write(w, f, 10, 0, 10, 5);
    assert_null(effect(w, EFFECT_FORK));
    assert_names(w, ROOT, "f");
    commit_all(w);
    assert_clean(w);
}

/* Both cut the file off, one wrote on: what is behind the end was cut off by both, and says nothing
 * of the bytes before it. */
static void test_cut_off_and_written_on(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    theirs_write(w, f, 232, 0, 232, 1);
    assert_int_equal(core_truncate(w->core, &w->who, f, 112, &w->need), 0);
    write_block(w, f, 112, 8, 5);
    theirs_write(w, f, 120, 120, 112, 0);
    uint64_t copy = node_at(w, ROOT, "f" COPY);
    assert_true(copy);
    assert_content(w, copy, "0+112=1@0 112+8=5@0");
    commit_all(w);
    assert_clean(w);
}

static void test_cut_off_alike(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    theirs_make(w, ROOT, "f", f, NODE_REG);
    theirs_write(w, f, 232, 0, 232, 1);
    assert_int_equal(core_truncate(w->core, &w->who, f, 120, &w->need), 0);
    theirs_write(w, f, 120, 120, 112, 0);
    assert_null(effect(w, EFFECT_FORK));
    assert_names(w, ROOT, "f");
    commit_all(w);
    assert_clean(w);
}

static void test_mtime_alone_makes_no_copy(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    struct core_attr a = {.mtime = 12345};
    theirs_make(w, ROOT, "f", f, NODE_REG);
    assert_int_equal(core_setattr(w->core, &w->who, f, CORE_SET_MTIME, &a, &w->need), 0);
    theirs_write(w, f, 10, 0, 10, 5);
    assert_null(effect(w, EFFECT_FORK));
    assert_int_equal(attr(w, f).mtime, 12345); /* the later commit is ours */
    assert_content(w, f, "0+10=5@0");
}

/* ---- names --------------------------------------------------------------------------------------
 */
static void test_create_create_files(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 10, 5);
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "f" COPY), f);
    assert_content(w, f, "0+10=5@0");
    planned(w, f);
    assert_int_equal(w->changes.entries_n, 1);
}

/* As make and write_block make one here. */
static void theirs_file(struct world *w, uint64_t parent, const char *name, uint64_t node,
                        uint64_t len, unsigned tag)
{
    rec_begin(w);
    struct m_inode *n = rec_inode(w, node, NODE_REG, 1);
    n->mode = 0644;
    n->uid = 1000;
    n->gid = 100;
    n->stored = len;
    rec_content(w, len, 0, len, tag);
    rec_entry(w, parent, name, node, NODE_REG);
    apply(w);
}

static uint64_t make_file(struct world *w, uint64_t parent, const char *name, unsigned tag)
{
    uint64_t f = make(w, parent, name, NODE_REG);
    write_block(w, f, 0, 10, tag);
    return f;
}

static void test_create_create_same_files(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), f = make_file(w, ROOT, "f", 5),
             g = make_file(w, d, "g", 6), e = make(w, ROOT, "e", NODE_REG);
    w->open_node = f; /* who has it open goes on in theirs */
    theirs_file(w, ROOT, "f", THEIRS(1), 10, 5);
    assert_int_equal(effect(w, EFFECT_ALIAS)->node, f);
    assert_int_equal(effect(w, EFFECT_ALIAS)->other, THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(1));
    assert_content(w, THEIRS(1), "0+10=5@0");
    assert_int_equal(attr(w, THEIRS(1)).nlink, 1);
    assert_no_node(w, f);
    theirs_make(w, ROOT, "d", THEIRS(2), NODE_DIR); /* and in what is merged */
    theirs_file(w, THEIRS(2), "g", THEIRS(3), 10, 6);
    assert_int_equal(node_at(w, THEIRS(2), "g"), THEIRS(3));
    assert_no_node(w, g);
    rec_begin(w); /* nothing in either */
    rec_known(w, e)->content_rev = w->rec.sjid;
    w->inodes[0].node = THEIRS(4);
    rec_content(w, 0, 0, FILE_SIZE_MAX, 0);
    rec_entry(w, ROOT, "e", THEIRS(4), NODE_REG);
    apply(w);
    assert_no_node(w, e);
    planned(w, 0); /* the times of the directory */
    assert_int_equal(rows(w), 1);
    answer_committed(w);
    assert_clean(w);
    assert_names(w, ROOT, "d e f");
}

static void test_create_create_same_files_under_way(void **state)
{
    struct world *w = *state;
    uint64_t f = make_file(w, ROOT, "f", 5), g = make_file(w, ROOT, "g", 6);
    planned(w, 0); /* refused before the news has come, or after */
    theirs_file(w, ROOT, "f", THEIRS(1), 10, 5);
    assert_int_equal(node_at(w, ROOT, "f"), f);
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "f", REFUSED_BASE), 0);
    assert_int_equal(effect(w, EFFECT_ALIAS)->node, f);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(1));
    planned(w, 0);
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "g", REFUSED_BASE), 0);
    theirs_file(w, ROOT, "g", THEIRS(2), 10, 6);
    assert_no_node(w, f);
    assert_no_node(w, g);
    planned(w, 0); /* the times of the directory */
    assert_int_equal(rows(w), 1);
    answer_committed(w);
    assert_clean(w);
    assert_names(w, ROOT, "f g");
}

/* What is not the same, or not known to be, is kept. */
static void test_create_create_files_that_differ(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"bytes", "length", "mode",   "owner",
                                        "xattr", "links",  "memory", "unknown"};
    uint64_t f[8], group = w->who.gid;
    struct core_attr a;
    for (size_t i = 0; i < 8; i++)
        f[i] = make_file(w, ROOT, names[i], 5);
    set_mode(w, f[2], 0600);
    assert_int_equal(core_setattr(w->core, &w->who, f[3], CORE_SET_GID,
                                  &(struct core_attr){.gid = (uint32_t)group + 1}, &w->need),
                     0);
    assert_int_equal(set_xattr(w, f[4], "user.a", "1", 0), 0);
    assert_int_equal(core_link(w->core, &w->who, f[5], ROOT, name_of("second"), &a, &w->need), 0);
    w->in_memory = f[6];
    theirs_file(w, ROOT, "bytes", THEIRS(1), 10, 6);
    theirs_file(w, ROOT, "length", THEIRS(2), 12, 5);
    theirs_file(w, ROOT, "mode", THEIRS(3), 10, 5);
    theirs_file(w, ROOT, "owner", THEIRS(4), 10, 5);
    theirs_file(w, ROOT, "xattr", THEIRS(5), 10, 5);
    theirs_file(w, ROOT, "links", THEIRS(6), 10, 5);
    theirs_file(w, ROOT, "memory", THEIRS(7), 10, 5);
    rec_begin(w); /* made before, and given this name by the record */
    struct m_inode *n = rec_known(w, f[7]);
    n->node = THEIRS(8);
    rec_entry(w, ROOT, "unknown", THEIRS(8), NODE_REG);
    apply(w);
    for (size_t i = 0; i < 8; i++) {
        char copy[96];
        snprintf(copy, sizeof copy, "%s" COPY, names[i]);
        assert_int_equal(node_at(w, ROOT, names[i]), THEIRS(i + 1));
        assert_int_equal(node_at(w, ROOT, copy), f[i]);
    }
}

static void test_create_create_other_types(void **state)
{
    struct world *w = *state;
    uint64_t l = make(w, ROOT, "x", NODE_SYMLINK), d = make(w, ROOT, "y", NODE_DIR);
    theirs_make(w, ROOT, "x", THEIRS(1), NODE_DIR);
    theirs_make(w, ROOT, "y", THEIRS(2), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "x"), THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "x" COPY), l);
    assert_int_equal(node_at(w, ROOT, "y" COPY), d);
}

static void theirs_link(struct world *w, uint64_t parent, const char *name, uint64_t node,
                        const char *target)
{
    rec_begin(w);
    rec_entry(w, parent, name, node, NODE_SYMLINK);
    w->entries[w->rec.entries_n - 1].inode.target = bytes_str(target);
    rec_inode(w, node, NODE_SYMLINK, 1)->target = bytes_str(target);
    apply(w);
}

static void test_create_create_same_symlinks(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t l = make(w, ROOT, "l", NODE_SYMLINK), m = make(w, ROOT, "m", NODE_SYMLINK);
    uint64_t d = make(w, ROOT, "d", NODE_DIR), n = make(w, d, "n", NODE_SYMLINK);
    make(w, ROOT, "p", NODE_FIFO);
    theirs_link(w, ROOT, "l", THEIRS(1), "target"); /* as here */
    theirs_link(w, ROOT, "m", THEIRS(2), "elsewhere");
    theirs_make(w, ROOT, "p", THEIRS(3), NODE_FIFO);
    assert_int_equal(node_at(w, ROOT, "l"), THEIRS(1));
    assert_int_equal(core_getattr(w->core, l, &a, &w->need), -ESTALE);
    assert_int_equal(node_at(w, ROOT, "m"), THEIRS(2));
    assert_int_equal(node_at(w, ROOT, "m" COPY), m);
    assert_int_equal(node_at(w, ROOT, "p"), THEIRS(3));
    assert_int_equal(node_at(w, d, "n"), n);
    planned(w, 0); /* a commit under way, and refused */
    theirs_make(w, ROOT, "other", THEIRS(4), NODE_DIR);
    theirs_link(w, d, "n", THEIRS(5), "target");
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, d, "n", REFUSED_BASE), 0);
    assert_int_equal(node_at(w, d, "n"), THEIRS(5));
    commit_all(w);
    assert_clean(w);
    assert_names(w, d, "n");
    assert_names(w, ROOT, "d l m m" COPY " other p");
}

static void test_create_create_directories(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), f = make(w, d, "f", NODE_REG),
             s = make(w, d, "s", NODE_DIR);
    uint64_t g = make(w, s, "g", NODE_REG);
    theirs_make(w, ROOT, "d", THEIRS(1), NODE_DIR);
    assert_int_equal(node_at(w, ROOT, "d"), THEIRS(1));
    assert_int_equal(effect(w, EFFECT_ALIAS)->node, d);
    assert_int_equal(effect(w, EFFECT_ALIAS)->other, THEIRS(1));
    assert_int_equal(node_at(w, THEIRS(1), "f"), f);
    assert_int_equal(node_at(w, THEIRS(1), "s"), s);
    assert_int_equal(node_at(w, s, "g"), g);
    struct core_attr a;
    assert_int_equal(core_getattr(w->core, d, &a, &w->need), -ESTALE);
    assert_names(w, ROOT, "d");
    assert_int_equal(plan(w, g), CORE_NEED); /* whether they have an s, too */
    assert_int_equal(load_name(w, 0, NODE_NONE), 0);
    planned(w, g);
    assert_true(sent_entry(w, THEIRS(1), "s", 0, s));
    answer_committed(w);
}

static void test_directories_merge_at_every_depth(void **state)
{
    struct world *w = *state;
    uint64_t d = make(w, ROOT, "d", NODE_DIR), s = make(w, d, "s", NODE_DIR),
             f = make(w, s, "f", NODE_REG);
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_DIR, 3);
    rec_inode(w, THEIRS(2), NODE_DIR, 2);
    rec_inode(w, THEIRS(3), NODE_REG, 1);
    rec_entry(w, ROOT, "d", THEIRS(1), NODE_DIR);
    rec_entry(w, THEIRS(1), "s", THEIRS(2), NODE_DIR);
    rec_entry(w, THEIRS(2), "f", THEIRS(3), NODE_REG);
    apply(w);
    assert_int_equal(node_at(w, THEIRS(1), "s"), THEIRS(2));
    assert_int_equal(node_at(w, THEIRS(2), "f"), THEIRS(3));
    assert_int_equal(node_at(w, THEIRS(2), "f" COPY), f);
    struct core_attr a;
    assert_int_equal(core_getattr(w->core, s, &a, &w->need), -ESTALE);
    assert_int_equal(attr(w, THEIRS(1)).nlink, 3);
}

static void test_rename_onto_what_they_created(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_REG);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", 0), 0);
    theirs_make(w, ROOT, "b", THEIRS(2), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "b"), THEIRS(2));
    assert_int_equal(node_at(w, ROOT, "b" COPY), THEIRS(1));
    assert_int_equal(node_at(w, ROOT, "a"), 0);
}

/* Whoever made it hears of it and goes away: no copy, no merging, not the same thing either. */
static void test_a_claimed_name_is_taken_back(void **state)
{
    struct world *w = *state;
    const struct {
        enum node_type ours, theirs;
    } kinds[] = {{NODE_REG, NODE_REG}, {NODE_DIR, NODE_DIR}, {NODE_SYMLINK, NODE_SYMLINK}};
    w->claim = "x";
    for (unsigned i = 0; i < 3; i++) {
        uint64_t ours = make(w, ROOT, "x", kinds[i].ours);
        struct core_attr a;
        theirs_make(w, ROOT, "x", THEIRS(i + 1), kinds[i].theirs);
        assert_int_equal(node_at(w, ROOT, "x"), THEIRS(i + 1));
        assert_names(w, ROOT, "x");
        assert_int_equal(core_getattr(w->core, ours, &a, &w->need), -ESTALE);
        rec_begin(w);
        rec_entry(w, ROOT, "x", 0, NODE_NONE);
        apply(w);
    }
    planned(w, 0); /* the directory's times */
    assert_int_equal(w->changes.entries_n, 0);
}

/* What was renamed to a claimed name has its old one again, a link is gone, the file is not. */
static void test_what_was_to_have_a_claimed_name_stays(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    theirs_make(w, ROOT, "old", THEIRS(1), NODE_REG);
    theirs_make(w, ROOT, "dir", THEIRS(2), NODE_DIR);
    w->claim = "x";
    assert_int_equal(rename_to(w, ROOT, "old", ROOT, "x", RENAME_NOREPLACE), 0);
    theirs_make(w, ROOT, "x", THEIRS(3), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "old"), THEIRS(1));
    w->claim = "y";
    assert_int_equal(rename_to(w, ROOT, "dir", ROOT, "y", RENAME_NOREPLACE), 0);
    theirs_make(w, ROOT, "y", THEIRS(4), NODE_DIR);
    assert_int_equal(node_at(w, ROOT, "dir"), THEIRS(2));
    w->claim = "z";
    assert_int_equal(core_link(w->core, &w->who, THEIRS(1), ROOT, name_of("z"), &a, &w->need), 0);
    theirs_make(w, ROOT, "z", THEIRS(5), NODE_REG);
    assert_names(w, ROOT, "dir old x y z");
    assert_int_equal(attr(w, THEIRS(1)).nlink, 1);
}

static void test_rename_rename_file(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_REG);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "mine", 0), 0);
    rec_begin(w);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, ROOT, "theirs", THEIRS(1), NODE_REG);
    apply(w);
    assert_names(w, ROOT, "mine theirs"); /* a file may have both */
    assert_int_equal(attr(w, THEIRS(1)).nlink, 2);
}

static void test_rename_rename_directory(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "mine", 0), 0);
    rec_begin(w);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, ROOT, "theirs", THEIRS(1), NODE_DIR);
    apply(w);
    assert_names(w, ROOT, "theirs"); /* a directory has one name: the server's */
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 0);
}

static void test_exchange_given_up(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    theirs_make(w, ROOT, "b", THEIRS(2), NODE_DIR);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "b", RENAME_EXCHANGE), 0);
    rec_begin(w); /* they move one of the two away */
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, ROOT, "away", THEIRS(1), NODE_DIR);
    apply(w);
    assert_names(w, ROOT, "a away"); /* the other stays where we put it */
    assert_int_equal(node_at(w, ROOT, "a"), THEIRS(2));
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "b", THEIRS(2), 0));
    assert_true(sent_entry(w, ROOT, "a", 0, THEIRS(2)));
}

static void test_cycle(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    theirs_make(w, ROOT, "b", THEIRS(2), NODE_DIR);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(1)};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(2)};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    assert_int_equal(rename_to(w, ROOT, "a", THEIRS(2), "a", 0), 0); /* a into b */
    rec_begin(w);                                                    /* b into a */
    rec_entry(w, ROOT, "b", 0, NODE_NONE);
    rec_entry(w, THEIRS(1), "b", THEIRS(2), NODE_DIR);
    apply(w);
    assert_names(w, ROOT, "a"); /* the later move, ours, is undone */
    assert_int_equal(node_at(w, THEIRS(1), "b"), THEIRS(2));
    assert_names(w, THEIRS(2), "");
    planned(w, 0);
    assert_int_equal(w->changes.entries_n, 0);
}

static void is_empty(struct world *w, uint64_t dir)
{
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = dir};
    assert_int_equal(load_page(w, NULL, 0, false), 0);
}

/* A move that is given up brings a directory back to where it is below itself by now. */
static void test_cycle_of_what_comes_back(void **state)
{
    struct world *w = *state;
    const uint64_t a = THEIRS(1), b = THEIRS(2), c = THEIRS(3);
    theirs_make(w, ROOT, "a", a, NODE_DIR);
    is_empty(w, a);
    theirs_make(w, a, "b", b, NODE_DIR);
    is_empty(w, b);
    theirs_make(w, b, "c", c, NODE_DIR);
    is_empty(w, c);
    assert_int_equal(rename_to(w, a, "b", ROOT, "x", 0), 0);               /* a, x/c */
    assert_int_equal(rename_to(w, b, "c", ROOT, "a", RENAME_EXCHANGE), 0); /* c is a, a is x/c */
    assert_int_equal(rename_to(w, ROOT, "x", c, "b", 0), 0);               /* c/b/a */
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "x", 0), 0);
    assert_names(w, ROOT, "x");
    rec_begin(w); /* they rename a, to where c is here */
    rec_inode(w, a, NODE_DIR, 3);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, ROOT, "x", a, NODE_DIR);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "x"), a);
    assert_int_equal(node_at(w, a, "b"), b);
    assert_int_equal(node_at(w, b, "c"), c);
    assert_names(w, ROOT, "x");
    assert_names(w, c, "");
    commit_all(w);
    assert_clean(w);
}

/* ---- copies
 * --------------------------------------------------------------------------------------- */
static void test_names_of_copies(void **state)
{
    struct world *w = *state;
    char name[NAME_LEN_MAX + 1], copy[NAME_LEN_MAX + 1];
    for (uint64_t k = 1; k <= 2; k++) { /* a counter on collision */
        make(w, ROOT, "f.tar", NODE_REG);
        theirs_make(w, ROOT, "f.tar", THEIRS(10 + k), NODE_REG);
        theirs_remove(w, ROOT, "f.tar", THEIRS(10 + k));
    }
    assert_true(node_at(w, ROOT, "f" COPY ".tar"));
    assert_true(node_at(w, ROOT, "f (conflicted copy, mine, 2023-11-14 2).tar"));
    memset(name, 'n', NAME_LEN_MAX); /* cut to 255 bytes, not in the middle of a character */
    name[NAME_LEN_MAX] = 0;
    memcpy(name + NAME_LEN_MAX - 4, ".txt", 4);
    size_t keep = NAME_LEN_MAX - 4 - strlen(COPY);
    memcpy(name + keep - 1, "\xc3\xa4", 2);
    make(w, ROOT, name, NODE_REG);
    theirs_make(w, ROOT, name, THEIRS(1), NODE_REG);
    snprintf(copy, sizeof copy, "%.*s" COPY ".txt", (int)keep - 1, name);
    assert_true(node_at(w, ROOT, copy));
    make(w, ROOT, ".profile", NODE_REG); /* no extension, that */
    theirs_make(w, ROOT, ".profile", THEIRS(2), NODE_REG);
    assert_true(node_at(w, ROOT, ".profile" COPY));
}

/* Copies of copies are copies of the original, under one more number. */
static void test_a_copy_of_a_copy(void **state)
{
    struct world *w = *state;
    static const char second[] = "f (conflicted copy, mine, 2023-11-14 2).txt";
    make(w, ROOT, "f.txt", NODE_REG);
    theirs_make(w, ROOT, "f.txt", THEIRS(1), NODE_REG);
    uint64_t copy = node_at(w, ROOT, "f" COPY ".txt");
    assert_true(copy);
    commit_all(w);
    theirs_write(w, copy, 10, 0, 10, 1);
    write_block(w, copy, 0, 10, 2);
    theirs_write(w, copy, 10, 0, 10, 3);
    assert_true(node_at(w, ROOT, second));
    assert_names(w, ROOT, "f (conflicted copy, mine, 2023-11-14 2).txt f" COPY ".txt f.txt");
}

/* What is listed: whatever has such a name, by whomever, while it has it. */
static void test_conflicts_are_listed_by_name(void **state)
{
    struct world *w = *state;
    struct core_conflict k;
    theirs_make(w, ROOT, "d", THEIRS(1), NODE_DIR);
    theirs_make(w, THEIRS(1), "f (conflicted copy, theirs (old), 2023-01-02 3).txt", THEIRS(2),
                NODE_REG);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(1)};
    struct m_entry e = page_entry(THEIRS(1), "f (conflicted copy, theirs (old), 2023-01-02 3).txt",
                                  THEIRS(2), NODE_REG);
    assert_int_equal(load_page(w, &e, 1, false), 0);
    theirs_make(w, ROOT, "no (conflicted copy, of this kind)", THEIRS(3), NODE_REG);
    assert_int_equal(core_conflict_next(w->core, NS, 0, &k), 0);
    assert_string_equal(k.path, "d/f (conflicted copy, theirs (old), 2023-01-02 3).txt");
    assert_string_equal(k.original, "d/f.txt");
    assert_string_equal(k.device, "theirs (old)");
    assert_string_equal(k.date, "2023-01-02");
    assert_int_equal(k.attr.node, THEIRS(2));
    assert_false(k.original_exists);
    uint64_t entry = k.entry;
    core_conflict_free(&k);
    assert_int_equal(core_conflict_next(w->core, NS, entry, &k), -ENOENT);
    uint64_t original = make(w, THEIRS(1), "f.txt", NODE_REG);
    assert_int_equal(core_conflict_next(w->core, NS, 0, &k), 0);
    assert_true(k.original_exists);
    assert_int_equal(k.original_attr.node, original);
    core_conflict_free(&k);
    struct core_ns n;
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.conflicts, 2); /* names that only look alike are counted, too */
    assert_int_equal(rename_to(w, THEIRS(1), "f (conflicted copy, theirs (old), 2023-01-02 3).txt",
                               ROOT, "mine", 0),
                     0);
    assert_int_equal(core_conflict_next(w->core, NS, 0, &k), -ENOENT);
}

/* A descriptor that still saw an older version writes. */
static void test_write_through_an_old_version(void **state)
{
    struct world *w = *state;
    uint64_t f = THEIRS(1);
    struct core_attr a;
    theirs_make(w, ROOT, "f", f, NODE_REG);
    theirs_write(w, f, 10, 0, 10, 1);
    theirs_write(w, f, 10, 0, 10, 2);
    struct m_extent e[] = {extent(0, 5, 1, 0), extent(5, 5, 9, 0)};
    const struct extent_list old = {.v = e, .n = 2};
    assert_int_equal(core_fork(w->core, &w->who, f, &old, 10, &a, &w->fx), 0);
    assert_int_equal(node_at(w, ROOT, "f" COPY), a.node);
    assert_content(w, a.node, "0+5=1@0 5+5=9@0");
    assert_content(w, f, "0+10=2@0");
    planned(w, a.node);
}

/* Two moves here that close cycles with one there: c, which was in b, went into a, and b into a or
 * into c; there a went into c. */
static void two_moves(struct world *w, uint64_t b_to)
{
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    theirs_make(w, ROOT, "b", THEIRS(2), NODE_DIR);
    rec_begin(w);
    rec_inode(w, THEIRS(3), NODE_DIR, 2);
    rec_known(w, THEIRS(2))->nlink++;
    rec_entry(w, THEIRS(2), "c", THEIRS(3), NODE_DIR);
    apply(w);
    struct core_attr a;
    for (unsigned i = 1; i <= 3; i++) {
        if (lookup(w, THEIRS(i), i == 2 ? "c" : "x", &a) == CORE_NEED)
            assert_int_equal(load_name(w, i == 2 ? THEIRS(3) : 0, NODE_DIR), 0);
        if (lookup(w, THEIRS(i), i == 1 ? "b" : "a", &a) == CORE_NEED)
            assert_int_equal(load_name(w, 0, NODE_NONE), 0);
        if (lookup(w, THEIRS(i), "c", &a) == CORE_NEED)
            assert_int_equal(load_name(w, 0, NODE_NONE), 0);
    }
    assert_int_equal(rename_to(w, THEIRS(2), "c", THEIRS(1), "c", 0), 0);
    if (lookup(w, THEIRS(3), "b", &a) == CORE_NEED)
        assert_int_equal(load_name(w, 0, NODE_NONE), 0);
    assert_int_equal(rename_to(w, ROOT, "b", b_to, "b", 0), 0);
    rec_begin(w);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, THEIRS(3), "a", THEIRS(1), NODE_DIR);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "b"), THEIRS(2));
    assert_int_equal(node_at(w, THEIRS(2), "c"), THEIRS(3));
    assert_int_equal(node_at(w, THEIRS(3), "a"), THEIRS(1));
}

static void test_two_moves_that_close_cycles(void **state)
{
    two_moves(*state, THEIRS(1));
}

static void test_a_cycle_behind_one_that_is_undone(void **state)
{
    two_moves(*state, THEIRS(3));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_content_content),
        T(test_content_content_disjoint),
        T(test_content_content_unknown_base),
        T(test_content_content_without_a_known_name),
        T(test_content_content_without_any_name),
        T(test_content_content_without_its_directory),
        T(test_same_bytes),
        T(test_cut_off_and_written_on),
        T(test_cut_off_alike),
        T(test_mtime_alone_makes_no_copy),
        T(test_create_create_files),
        T(test_create_create_same_files),
        T(test_create_create_same_files_under_way),
        T(test_create_create_files_that_differ),
        T(test_create_create_other_types),
        T(test_create_create_same_symlinks),
        T(test_create_create_directories),
        T(test_directories_merge_at_every_depth),
        T(test_rename_onto_what_they_created),
        T(test_a_claimed_name_is_taken_back),
        T(test_what_was_to_have_a_claimed_name_stays),
        T(test_rename_rename_file),
        T(test_rename_rename_directory),
        T(test_exchange_given_up),
        T(test_cycle),
        T(test_cycle_of_what_comes_back),
        T(test_names_of_copies),
        T(test_a_copy_of_a_copy),
        T(test_conflicts_are_listed_by_name),
        T(test_write_through_an_old_version),
        T(test_two_moves_that_close_cycles),
        T(test_a_cycle_behind_one_that_is_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
