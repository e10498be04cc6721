// SPDX-License-Identifier: Apache-2.0
/* What the server has forgotten, and what a device has: commits of its own that power loss took,
 * the past of files, nodes that were removed. */
#include "pair.h"

#include <errno.h>
#include <string.h>

#define DO(d, call) DEVICE_DO(p, (d), (call))

static int setup(void **state)
{
    *state = pair_new();
    return 0;
}

static int teardown(void **state)
{
    pair_free(*state);
    return 0;
}

static void write_tag(struct pair *p, struct device *d, uint64_t node, uint64_t off, uint64_t len,
                      unsigned tag)
{
    struct m_extent e = {.off = off, .len = len, .block = {{0}}};
    e.block.b[32] = (uint8_t)tag;
    const struct extent_list l = {.v = &e, .n = 1};
    d->who.now += 1000;
    assert_int_equal(DO(d, core_write(d->core, &d->who, node, off, len, &l, true)), 0);
}

static uint64_t make(struct pair *p, struct device *d, uint64_t parent, const char *name,
                     enum node_type type)
{
    struct core_attr a;
    d->who.now += 1000;
    assert_int_equal(
        DO(d, core_create(d->core, &d->who, parent, bytes_str(name), type, 0644, 0,
                          type == NODE_SYMLINK ? bytes_str("target") : bytes_of(NULL, 0), &a,
                          &d->need)),
        0);
    return a.node;
}

static void unlink_name(struct pair *p, struct device *d, const char *dir, const char *name,
                        bool is_dir)
{
    uint64_t gone;
    assert_int_equal(DO(d, core_unlink(d->core, &d->who, pair_base(p, dir), bytes_str(name), is_dir,
                                       &gone, &d->need)),
                     0);
}

static int64_t ctime_at(struct pair *p, struct device *d, uint64_t node)
{
    struct core_attr a;
    assert_int_equal(DO(d, core_getattr(d->core, node, &a, &d->need)), 0);
    return a.ctime;
}

/* Both devices have what the server has; copies: conflicted ones that are there. */
static void assert_same(struct pair *p, unsigned copies, struct dump *last)
{
    struct dump t;
    unsigned n = 0;
    pair_settle(p);
    pair_fresh(p);
    device_dump(p, &p->d[FRESH], last);
    for (size_t k = HERE; k <= THERE; k++) {
        device_dump(p, &p->d[k], &t);
        assert_int_equal(t.n, last->n);
        for (size_t i = 0; i < t.n; i++) {
            assert_string_equal(t.v[i].path, last->v[i].path);
            assert_string_equal(t.v[i].value, last->v[i].value);
        }
    }
    for (size_t i = 0; i < last->n; i++)
        n += strstr(last->v[i].path, "conflicted copy") != NULL;
    assert_int_equal(n, copies);
}

/* The value of the copy of what had this path. */
static const char *copy_of(const struct dump *t, const char *path)
{
    char plain[512];
    for (size_t i = 0; i < t->n; i++)
        if (pair_unmark(t->v[i].path, plain, sizeof plain) && !strcmp(plain, path))
            return t->v[i].value;
    return "";
}

/* What power loss took were commits that made a file and a directory: the server has them. */
static void made_and_forgotten(struct pair *p, bool twice)
{
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    simvfs_reset(kept, 1);
    pair_begin(p, true);
    simvfs_copy(kept, here->disk);
    if (twice) { /* that something was sent since the first loss is forgotten, too */
        device_lose(p, here, kept);
        device_follow(p, here);
    }
    uint64_t f = make(p, here, pair_base(p, "d"), "new", NODE_REG);
    write_tag(p, here, f, 0, 16, 20);
    uint64_t m = make(p, here, pair_base(p, "e"), "made", NODE_DIR);
    simvfs_copy(kept, here->disk);
    assert_true(device_plan(p, here));
    device_send_lost(p, here);
    device_lose(p, here, kept);
    device_follow(p, there);
    make(p, there, m, "in it", NODE_REG);
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, twice, &last); /* then the file counts as changed since */
    assert_non_null(dump_find(&last, "d/new"));
    pair_end(p);
    simvfs_free(kept);
}

/* The file had more pending than the commit took: the rest is not dropped. */
static void test_a_part_made_by_a_commit_that_both_forgot(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    bool found = false;
    simvfs_reset(kept, 1);
    p->bounds.extents = 2;
    pair_begin(p, true);
    uint64_t f = make(p, here, pair_base(p, "d"), "new", NODE_REG);
    write_tag(p, here, f, 0, 16, 20);
    write_tag(p, here, f, 16, 16, 21);
    simvfs_copy(kept, here->disk);
    assert_true(device_plan(p, here));
    assert_true(here->plan.partial);
    device_send_lost(p, here);
    device_lose(p, here, kept);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 1, &last);
    for (size_t i = 0; i < last.n; i++)
        found |= strstr(last.v[i].value, "=#21") != NULL;
    assert_true(found);
    p->bounds.extents = 0;
    pair_end(p);
    simvfs_free(kept);
}

static void test_made_by_a_commit_that_both_forgot(void **state)
{
    made_and_forgotten(*state, false);
    made_and_forgotten(*state, true);
}

/* The answer said where it was committed; that the journal was read up to there is lost, and the
 * server says no more how the request ended. */
static void test_an_answer_that_outlived_the_journal(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    simvfs_reset(kept, 1);
    pair_begin(p, true);
    make(p, here, pair_base(p, "d"), "new", NODE_REG);
    assert_true(device_plan(p, here));
    make(p, there, pair_base(p, "e"), "theirs", NODE_REG);
    device_commit(p, there);
    device_send(p, here); /* it is not the next record */
    simvfs_copy(kept, here->disk);
    device_follow(p, here);
    make(p, here, pair_base(p, "d"), "more", NODE_REG);
    device_commit(p, here);
    device_lose(p, here, kept);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 0, &last);
    assert_non_null(dump_find(&last, "d/more"));
    sqlite3_stmt *s = tree_stmt(here->tree, "SELECT count(*) FROM sent");
    assert_int_equal(tree_step(here->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    sqlite3_reset(s);
    pair_end(p);
    simvfs_free(kept);
}

/* It has a name here that the server knows by another one. */
static void test_made_elsewhere_by_a_commit_that_both_forgot(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    uint64_t replaced;
    simvfs_reset(kept, 1);
    pair_begin(p, false);
    device_walk(p, here, "d");
    device_walk(p, here, "e");
    uint64_t f = make(p, here, pair_base(p, "d"), "new", NODE_REG);
    write_tag(p, here, f, 0, 16, 20);
    simvfs_copy(kept, here->disk);
    assert_int_equal(
        DO(here, core_rename(here->core, &here->who, pair_base(p, "d"), bytes_str("new"),
                             pair_base(p, "e"), bytes_str("moved"), 0, &replaced, &here->need)),
        0);
    assert_true(device_plan(p, here));
    device_send_lost(p, here);
    device_lose(p, here, kept);
    device_follow(p, there);
    make(p, there, pair_base(p, "e"), "more", NODE_REG);
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 0, &last);
    pair_end(p);
    simvfs_free(kept);
}

/* … and made and removed again: what was written goes on as a copy, so does a symbolic link; an
 * empty directory does not. */
static void test_made_and_removed_by_commits_that_both_forgot(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    simvfs_reset(kept, 1);
    pair_begin(p, true);
    uint64_t f = make(p, here, pair_base(p, "d"), "new", NODE_REG);
    write_tag(p, here, f, 0, 16, 20);
    make(p, here, pair_base(p, "d"), "empty", NODE_DIR);
    make(p, here, pair_base(p, "e"), "link", NODE_SYMLINK);
    simvfs_copy(kept, here->disk);
    device_commit(p, here);
    p->now_ms += 2000;
    unlink_name(p, here, "d", "new", false);
    unlink_name(p, here, "d", "empty", true);
    unlink_name(p, here, "e", "link", false);
    device_commit(p, here);
    device_lose(p, here, kept);
    bool more = true;
    while (more) /* all but the removals */
        assert_int_equal(meta_prune(p->meta, p->now_ms, 1000, &more), 0);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 2, &last);
    assert_null(dump_find(&last, "d/empty"));
    assert_non_null(strstr(copy_of(&last, "e/link"), "target"));
    pair_end(p);
    simvfs_free(kept);
}

/* … made, written and removed, and then revived by what another device has added: what is added is
 * told, the rest is to be loaded. */
static void test_revived_there_after_all_was_forgotten_here(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    simvfs_reset(kept, 1);
    pair_begin(p, true);
    uint64_t f = make(p, here, pair_base(p, "d"), "new", NODE_REG);
    simvfs_copy(kept, here->disk);
    write_tag(p, here, f, 0, 16, 20);
    device_commit(p, here);
    device_follow(p, there);
    p->now_ms += 2000;
    unlink_name(p, here, "d", "new", false);
    device_commit(p, here);
    device_lose(p, here, kept);
    bool more = true;
    while (more) /* all but the removal */
        assert_int_equal(meta_prune(p->meta, p->now_ms, 1000, &more), 0);
    write_tag(p, there, f, 16, 16, 21);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    device_commit(p, there);
    assert_same(p, 1, &last); /* the empty one may have been changed since */
    const struct dump_line *l = dump_find(&last, "d/new");
    assert_non_null(l);
    assert_non_null(strstr(l->value, "=#20"));
    assert_non_null(strstr(l->value, "=#21"));
    pair_end(p);
    simvfs_free(kept);
}

/* The rest of a conflicted copy is read from what the file is now: that may be longer. */
static void test_a_copy_of_what_has_grown(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    uint64_t f = pair_base(p, "d/f");
    pair_begin(p, false);
    device_walk(p, here, "d/f");
    write_tag(p, here, f, 8, 8, 20);
    write_tag(p, there, f, 16, 32, 21);
    device_follow(p, there);
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    device_commit(p, here);
    sqlite3_stmt *s = tree_stmt(here->tree, "SELECT count(*) FROM extent e JOIN node n"
                                            " ON n.id = e.node WHERE e.off + e.len > n.size");
    assert_int_equal(tree_step(here->tree, s), 1);
    assert_int_equal(sqlite3_column_int(s, 0), 0);
    sqlite3_reset(s);
    assert_same(p, 1, &last);
    pair_end(p);
}

static int move(struct pair *p, struct device *d, uint64_t from, const char *name, uint64_t to,
                const char *as)
{
    uint64_t replaced;
    d->who.now += 1000;
    return DO(d, core_rename(d->core, &d->who, from, bytes_str(name), to, bytes_str(as), 0,
                             &replaced, &d->need));
}

/* Moves that make a cycle, and a new directory below it that is looked at first. */
static void test_a_new_directory_below_a_cycle(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    pair_begin(p, true);
    uint64_t new = make(p, here, pair_base(p, "d/s"), "new", NODE_DIR);
    assert_int_equal(move(p, here, p->root, "e", new, "e"), 0);
    make(p, there, pair_base(p, "e"), "a", NODE_DIR);
    assert_int_equal(move(p, there, p->root, "d", pair_base(p, "e"), "d"), 0);
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 0, &last);
    pair_end(p);
}

/* Times that are pending here do not hide later ones there. */
static void test_pending_times_meet_later_ones(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    uint64_t d = pair_base(p, "d");
    pair_begin(p, true);
    make(p, here, d, "new", NODE_DIR);
    there->who.now += 1000000000;
    make(p, there, d, "other", NODE_DIR);
    device_follow(p, there);
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    assert_same(p, 0, &last);
    assert_int_equal(ctime_at(p, here, d), ctime_at(p, there, d));
    pair_end(p);
}

/* The past that a copy's rest is in is forgotten before it was read, though the journal was read.
 */
static void test_the_past_of_a_copy_is_forgotten(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    uint64_t f = pair_base(p, "d/f");
    pair_begin(p, false);
    device_walk(p, here, "d/f");
    write_tag(p, here, f, 8, 8, 20);
    write_tag(p, there, f, 0, 4, 21);
    device_commit(p, there);
    device_follow(p, here);
    pair_forget(p);
    assert_int_equal(core_plan(here->core, p->ns, NULL, 0, INT64_MAX, &here->plan, &here->need),
                     CORE_NEED);
    const char *method;
    cleanup_buf struct buf body = {0};
    assert_int_equal(core_need_request(here->core, &here->need, &method, &body), 0);
    struct m_extents_req q = {
        .ns = p->ns, .node = here->need.src, .at = here->need.at, .off = here->need.off};
    struct m_extents_ans a;
    assert_int_equal(meta_extents(p->meta, &here->id, &q, &a, &ar, why), -ESTALE);
    assert_int_equal(core_past_forgotten(here->core, &here->need), 0);
    assert_same(p, 1, &last);
    pair_end(p);
}

/* … and the file itself is no more: what was not known of it is a hole. */
static void test_the_source_of_a_copy_is_forgotten(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    uint64_t f = pair_base(p, "d/f");
    pair_begin(p, false);
    device_walk(p, here, "d/f");
    write_tag(p, here, f, 8, 8, 20);
    write_tag(p, there, f, 0, 4, 21);
    device_commit(p, there);
    device_follow(p, here);
    unlink_name(p, there, "d", "f", false);
    device_commit(p, there);
    device_follow(p, here);
    pair_forget(p);
    assert_int_equal(core_plan(here->core, p->ns, NULL, 0, INT64_MAX, &here->plan, &here->need),
                     CORE_NEED);
    const char *method;
    cleanup_buf struct buf body = {0};
    assert_int_equal(core_need_request(here->core, &here->need, &method, &body), 0);
    assert_int_equal(core_past_forgotten(here->core, &here->need), 0);
    assert_same(p, 1, &last);
    pair_end(p);
}

/* An edit revives what was removed; when nothing is left of that, it goes on as a copy. */
static void test_an_edit_of_what_is_forgotten(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    pair_begin(p, true);
    write_tag(p, here, pair_base(p, "d/f"), 8, 8, 20);
    unlink_name(p, there, "d", "f", false);
    device_commit(p, there);
    device_follow(p, here);
    pair_forget(p);
    assert_same(p, 1, &last);
    assert_non_null(strstr(copy_of(&last, "d/f"), "8+8=#20"));
    assert_null(dump_find(&last, "d/f"));
    pair_end(p);
}

/* What was made in a directory that is forgotten goes to the top. */
static void test_made_in_what_is_forgotten(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    pair_begin(p, true);
    uint64_t i = pair_base(p, "d/i"), f = make(p, here, i, "new", NODE_REG);
    write_tag(p, here, f, 0, 16, 20);
    unlink_name(p, there, "d", "i", true);
    device_commit(p, there);
    device_follow(p, here);
    pair_forget(p);
    assert_same(p, 1, &last);
    assert_int_equal(here->moved, i); /* its fsync waits for what is at the top now */
    assert_null(dump_find(&last, "d/i"));
    pair_end(p);
}

/* Both made a file as short as the other did, one of them wrote all of it anew, and the past is
 * forgotten: a length says nothing of the bytes. */
static void test_cut_off_here_and_written_anew_there(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    pair_begin(p, true);
    uint64_t f = pair_base(p, "d/f");
    assert_int_equal(DO(here, core_truncate(here->core, &here->who, f, 8, &here->need)), 0);
    assert_int_equal(DO(there, core_truncate(there->core, &there->who, f, 0, &there->need)), 0);
    write_tag(p, there, f, 0, 8, 20);
    device_commit(p, there);
    pair_forget(p);
    assert_same(p, 1, &last);
    assert_non_null(strstr(dump_find(&last, "d/f")->value, "0+8=#20"));
    assert_non_null(strstr(copy_of(&last, "d/f"), "0+8=#1"));
    pair_end(p);
}

/* Both emptied it. */
static void test_emptied_here_and_there(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    pair_begin(p, true);
    uint64_t f = pair_base(p, "d/f");
    assert_int_equal(DO(here, core_truncate(here->core, &here->who, f, 0, &here->need)), 0);
    assert_int_equal(DO(there, core_truncate(there->core, &there->who, f, 0, &there->need)), 0);
    device_commit(p, there);
    pair_forget(p);
    assert_same(p, 0, &last);
    pair_end(p);
}

/* A directory was removed there, and brought back by a third device with what that had made in it,
 * and then all of the past was forgotten: who knew it as removed finds it there again. */
static void test_what_was_removed_is_back(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE], *third = &p->d[FRESH];
    struct dump at_third, at_there;
    struct core_attr a;
    uint64_t replaced;
    pair_begin(p, true);
    uint64_t i = pair_base(p, "d/i");
    pair_fresh(p);
    device_walk(p, third, "d/i");
    assert_int_equal(DO(third, core_lookup(third->core, i, bytes_str("here"), &a, &third->need)),
                     -ENOENT);
    make(p, here, i, "here", NODE_REG);
    DO(here, core_rename(here->core, &here->who, pair_base(p, "d"), bytes_str("i"),
                         pair_base(p, "e"), bytes_str("back"), 0, &replaced, &here->need));
    make(p, third, i, "third", NODE_REG);
    unlink_name(p, there, "d", "i", true);
    device_commit(p, there);
    device_follow(p, third); /* it is gone, and lives on there */
    device_commit(p, here);  /* it is back */
    pair_forget(p);
    device_commit(p, third);
    assert_int_equal(third->resyncs, 1);
    device_follow(p, there);
    device_dump(p, third, &at_third);
    device_dump(p, there, &at_there);
    if (at_third.n != at_there.n) {
        dump_print("third", &at_third);
        dump_print("there", &at_there);
    }
    assert_int_equal(at_third.n, at_there.n);
    for (size_t k = 0; k < at_third.n; k++)
        assert_string_equal(at_third.v[k].path, at_there.v[k].path);
    assert_non_null(dump_find(&at_third, "d/i/here"));
    assert_non_null(dump_find(&at_third, "d/i/third"));
    pair_end(p);
}

/* A commit made a directory, later ones what is in it, and power loss took that from a device which
 * then removes the directory and makes another one: when the server's gets the name, its links are
 * those that the server counts. */
static void made_again(struct pair *p, bool emptied)
{
    struct device *here = &p->d[HERE];
    struct simvfs *kept = simvfs_new("kept");
    struct dump last;
    simvfs_reset(kept, 1);
    pair_begin(p, true);
    uint64_t d = make(p, here, pair_base(p, "d"), "new", NODE_DIR);
    assert_true(device_plan(p, here));
    simvfs_copy(kept, here->disk);
    device_send(p, here);
    make(p, here, d, "one", NODE_DIR);
    make(p, here, d, "two", NODE_DIR);
    device_commit(p, here);
    device_lose(p, here, kept);
    pair_forget(p);
    if (emptied) { /* a subdirectory that nobody else knows goes with it */
        make(p, here, d, "three", NODE_DIR);
        uint64_t gone;
        assert_int_equal(DO(here, core_unlink(here->core, &here->who, d, bytes_str("three"), true,
                                              &gone, &here->need)),
                         0);
    }
    unlink_name(p, here, "d", "new", true);
    uint64_t again = make(p, here, pair_base(p, "d"), "new", NODE_DIR);
    make(p, here, again, "four", NODE_DIR);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    device_resend(p, here);
    device_send(p, here);
    struct core_attr a;
    assert_int_equal(DO(here, core_getattr(here->core, d, &a, &here->need)), 0);
    assert_int_equal(a.nlink, 2 + 3);
    assert_same(p, 0, &last);
    for (size_t i = 0; i < last.n; i++)
        if (!strcmp(last.v[i].path, "d/new"))
            assert_int_equal(last.v[i].nlink, 2 + 3);
    assert_int_equal(DO(here, core_getattr(here->core, d, &a, &here->need)), 0);
    assert_int_equal(a.nlink, 2 + 3);
    pair_end(p);
    simvfs_free(kept);
}

static void test_links_of_what_is_made_again(void **state)
{
    made_again(*state, false);
    made_again(*state, true);
}

/* A copy that was committed is a file like any other: of what it was made does not matter. */
static void test_a_copy_that_others_changed(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    uint64_t f = pair_base(p, "d/f"), copy = 0;
    pair_begin(p, true);
    write_tag(p, here, f, 8, 8, 20);
    write_tag(p, there, f, 0, 4, 21);
    device_commit(p, there);
    pair_settle(p);
    device_dump(p, there, &last);
    for (size_t i = 0; i < last.n; i++)
        if (strstr(last.v[i].path, "conflicted copy"))
            copy = last.v[i].node;
    write_tag(p, there, copy, 0, 16, 22);
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 1, &last);
    pair_end(p);
}

/* What the tree's statements have done since the last call: they stay prepared. */
static uint64_t steps(const struct device *d)
{
    uint64_t n = 0;
    for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(tree_db(d->tree), s)) != NULL;)
        n += (uint64_t)sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 1);
    return n;
}

/* What they do in a comparison of so many names in 16 directories. */
static uint64_t comparison_steps(struct pair *p, unsigned names)
{
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct core_attr set = {.mode = 0711};
    char name[16];
    pair_begin(p, true);
    for (unsigned i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "dir%u", i);
        uint64_t dir = make(p, here, pair_base(p, "d"), name, NODE_DIR);
        for (unsigned k = 0; k < names / 16; k++) {
            snprintf(name, sizeof name, "file%u", k);
            make(p, here, dir, name, NODE_REG);
        }
    }
    device_commit(p, here);
    device_follow(p, there);
    assert_int_equal(DO(there, core_setattr(there->core, &there->who, pair_base(p, "d"),
                                            CORE_SET_MODE, &set, &there->need)),
                     0);
    device_commit(p, there);
    pair_forget(p);
    steps(here);
    device_follow(p, here);
    uint64_t n = steps(here);
    assert_int_equal(here->resyncs, 1);
    pair_end(p);
    return n;
}

/* A directory is removed by a commit of our own, while another device makes one in it and removes
 * that, of which only the first was read: it is made once more, without what is gone from it. */
static void test_removed_in_what_is_gone(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    uint64_t gone;
    pair_begin(p, true);
    uint64_t dir = make(p, here, pair_base(p, "d"), "made", NODE_DIR);
    device_commit(p, here);
    device_follow(p, there);
    unlink_name(p, here, "d", "made", true);
    assert_true(device_plan(p, here));
    make(p, there, dir, "in it", NODE_DIR);
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(DO(there, core_unlink(there->core, &there->who, dir, bytes_str("in it"), true,
                                           &gone, &there->need)),
                     0);
    device_commit(p, there);
    pair_forget(p);
    device_send(p, here);
    device_follow(p, there);
    p->meanwhile = true;
    device_follow(p, here);
    p->meanwhile = false;
    assert_same(p, 0, &last);
    assert_int_equal(here->resyncs, 1);
    assert_non_null(dump_find(&last, "d/made"));
    assert_null(dump_find(&last, "d/made/in it"));
    pair_end(p);
}

static void set_xattr(struct pair *p, struct device *d, const char *name)
{
    assert_int_equal(DO(d, core_setxattr(d->core, &d->who, pair_base(p, "d/f"), bytes_str(name),
                                         bytes_str("v"), 0, &d->need)),
                     0);
}

static void set_another(struct pair *p, struct device *d)
{
    set_xattr(p, d, "user.here");
}

/* A file had no xattrs, others have given it one, and a program here sets another while that is
 * compared. */
static void test_xattrs_set_amid_a_comparison(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    pair_begin(p, true);
    write_tag(p, here, pair_base(p, "d/f"), 0, 16, 20);
    device_commit(p, here);
    device_follow(p, there);
    set_xattr(p, there, "user.there");
    device_commit(p, there);
    pair_forget(p);
    p->before_apply = set_another;
    device_follow(p, here);
    p->before_apply = NULL;
    assert_int_equal(here->resyncs, 1);
    assert_same(p, 0, &last);
    assert_non_null(strstr(dump_find(&last, "d/f")->value, "user.here"));
    assert_non_null(strstr(dump_find(&last, "d/f")->value, "user.there"));
    pair_end(p);
}

/* A file that is open here is changed elsewhere, and then removed, and only a comparison tells that
 * it is gone. Who had gone on writing brings it back: what is new then is not all that is new. */
static void test_changed_before_it_was_removed(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE], *third = &p->d[FRESH];
    struct dump last;
    uint64_t f = pair_base(p, "d/f");
    pair_begin(p, true);
    device_dump(p, here, &last); /* all that it is */
    here->open = f;
    write_tag(p, there, f, 0, 4, 20);
    device_commit(p, there);
    pair_forget(p);
    pair_fresh(p);
    device_walk(p, third, "d/f");
    unlink_name(p, third, "d", "f", false);
    device_commit(p, third);
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    write_tag(p, there, f, 8, 4, 21);
    device_commit(p, there);
    device_follow(p, here);
    here->open = 0;
    pair_settle(p);
    for (size_t k = HERE; k <= THERE; k++) {
        device_dump(p, &p->d[k], &last);
        assert_string_equal(dump_find(&last, "d/f")->value,
                            "type 1 mode 644 uid 1000 size 16: 0+4=#20 4+4=#1 8+4=#21 12+4=#1");
    }
    pair_end(p);
}

/* A name costs the same however many there are. */
static void test_a_comparison_costs_its_names(void **state)
{
    uint64_t few = comparison_steps(*state, 160), many = comparison_steps(*state, 1600);
    assert_true(many > few && many < 12 * few);
}

static uint64_t parent_of(struct device *d, uint64_t node)
{
    sqlite3_stmt *s = tree_stmt(d->tree, "SELECT parent FROM entry WHERE node = ?1");
    sqlite3_bind_int64(s, 1, (int64_t)node);
    assert_int_equal(tree_step(d->tree, s), 1);
    uint64_t parent = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return parent;
}

static void moves_on(struct pair *p)
{
    struct device *there = &p->d[THERE];
    struct core_attr a;
    assert_int_equal(
        DO(there, core_lookup(there->core, p->root, bytes_str("far"), &a, &there->need)), 0);
    assert_int_equal(move(p, there, a.node, "d", p->root, "other"), 0);
    device_commit(p, there);
}

/* They have put e into d, which was to go into e, and d where nothing is known; it has moved on
 * before anybody asks for it. Until the journal says where to, it is at the top. */
static void test_a_cycle_through_what_moves_on(void **state)
{
    struct pair *p = *state;
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump last;
    uint64_t d = pair_base(p, "d"), e = pair_base(p, "e");
    pair_begin(p, true);
    uint64_t far = make(p, there, p->root, "far", NODE_DIR);
    assert_int_equal(move(p, there, p->root, "d", far, "d"), 0);
    assert_int_equal(move(p, there, p->root, "e", d, "e"), 0);
    device_commit(p, there);
    assert_int_equal(move(p, here, p->root, "d", e, "d"), 0);
    pair_forget(p);
    p->others = moves_on;
    device_follow(p, here);
    assert_int_equal(here->resyncs, 1);
    assert_int_equal(parent_of(here, e), d);
    assert_int_equal(parent_of(here, d), p->root);
    assert_same(p, 0, &last);
    pair_end(p);
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_made_by_a_commit_that_both_forgot),
        T(test_an_answer_that_outlived_the_journal),
        T(test_a_part_made_by_a_commit_that_both_forgot),
        T(test_made_elsewhere_by_a_commit_that_both_forgot),
        T(test_made_and_removed_by_commits_that_both_forgot),
        T(test_revived_there_after_all_was_forgotten_here),
        T(test_a_copy_of_what_has_grown),
        T(test_a_new_directory_below_a_cycle),
        T(test_pending_times_meet_later_ones),
        T(test_the_past_of_a_copy_is_forgotten),
        T(test_the_source_of_a_copy_is_forgotten),
        T(test_an_edit_of_what_is_forgotten),
        T(test_made_in_what_is_forgotten),
        T(test_cut_off_here_and_written_anew_there),
        T(test_emptied_here_and_there),
        T(test_what_was_removed_is_back),
        T(test_links_of_what_is_made_again),
        T(test_a_copy_that_others_changed),
        T(test_removed_in_what_is_gone),
        T(test_xattrs_set_amid_a_comparison),
        T(test_changed_before_it_was_removed),
        T(test_a_cycle_through_what_moves_on),
        T(test_a_comparison_costs_its_names),
    };
    simvfs_quick();
    return cmocka_run_group_tests(tests, setup, teardown);
}
