// SPDX-License-Identifier: Apache-2.0
/* A metadata server whose database is an older one again, where it cannot be read any more, or is
 * not known, where its journal and ours part: a device was away for longer than history is kept, or
 * has few marks. What it knows is compared with what the server has now. In the end all trees are
 * the server's, and every block that somebody wrote is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "restored.h"

static struct dump *dump(struct device *d)
{
    struct dump *t = calloc(1, sizeof *t);
    assert_non_null(t);
    device_dump(p, d, t);
    return t;
}

/* Marks as a device has them that did not follow one by one: none behind `from` but the newest. */
static void thin(struct device *d, uint64_t from)
{
    sqlite3_stmt *s = tree_stmt(d->tree, "DELETE FROM mark WHERE sjid > ?1 AND sjid <"
                                         " (SELECT max(sjid) FROM mark)");
    sqlite3_bind_int64(s, 1, (int64_t)from);
    assert_int_equal(tree_step(d->tree, s), 0);
}

static uint64_t cursor(struct device *d)
{
    struct core_ns n;
    assert_int_equal(core_ns_get(d->core, p->ns, &n), 0);
    return n.cursor;
}

/* ---- history is forgotten -------------------------------------------------------------------- */
/* Changes that have the same numbers in both journals are not taken for the same. */
static void test_who_was_away_for_long_is_told(void **state)
{
    (void)state;
    begin();
    uint64_t f = pair_base(p, "d/f");
    put(here, f, 0, 16, 20);
    device_commit(p, here);
    restore();
    put(there, f, 0, 16, 30);
    device_commit(p, there);
    go_on(there);
    pair_forget(p);
    device_follow(p, here);
    assert_int_equal(here->lost.copies, 1);
    struct dump *t = dump(here);
    assert_non_null(strstr(dump_find(t, "d/f")->value, "0+16=#30"));
    put(here, f, 0, 8, 21);
    device_commit(p, here);
    struct dump *last = settled("away");
    assert_int_equal(copies(last), 1);
    assert_non_null(strstr(dump_find(last, "d/f")->value, "0+8=#21 8+8=#30"));
    assert_written("away", t, last);
    pair_end(p);
    free(last);
    free(t);
}

/* One change is lost, another one made in the new journal; then the past is forgotten. Every other
 * time it is not known whether it is another journal, but that there was one. */
static void away(const char *op, const struct place *at, const char *op2, const struct place *at2)
{
    static bool doubt;
    char what[64];
    snprintf(what, sizeof what, "%s lost, %s in the new journal, both forgotten", op, op2);
    doubt = !doubt;
    p->marks_below = doubt;
    begin();
    assert_int_equal(pair_do(p, here, HERE, at, op), 0);
    device_commit(p, here);
    restore();
    assert_int_equal(pair_do(p, there, THERE, at2, op2), 0);
    device_commit(p, there);
    go_on(there);
    pair_forget(p);
    if (doubt)
        assert_int_equal(meta_other_journal(p->meta, p->now_ms), 0);
    struct dump *a = dump(here), *b = dump(there);
    struct dump *last = settled(what);
    assert_int_equal(here->resyncs, 1);
    assert_written(what, a, last);
    assert_written(what, b, last);
    pair_end(p);
    p->marks_below = 0;
    free(last);
    free(a);
    free(b);
}

static void test_nothing_is_lost_of_any_pair(void **state)
{
    (void)state;
    every_pair(away);
}

/* ---- marks are few --------------------------------------------------------------------------- */
/* Written twice behind what is surely common, in the stretch that both journals have: the same
 * content is no conflict. */
static void test_what_is_the_same_makes_no_copy(void **state)
{
    (void)state;
    begin();
    uint64_t f = pair_base(p, "d/f"), was = cursor(here);
    put(here, f, 0, 16, 20);
    device_commit(p, here);
    put(here, f, 0, 16, 21);
    device_commit(p, here);
    backup();
    put(here, pair_base(p, "d/h"), 0, 16, 22);
    write_new(here, "new", 23);
    device_commit(p, here);
    thin(here, was);
    struct dump *before = dump(here);
    restore();
    struct dump *last = settled("thinned marks");
    assert_int_equal(here->resyncs, 1);
    assert_int_equal(copies(last), 0);
    for (size_t i = 0; i < before->n; i++)
        assert_true(has_line(last, &before->v[i]));
    pair_end(p);
    free(last);
    free(before);
}

/* A device that is new has no mark of what was before: what it removed and others have lost is
 * nowhere, nor is a row of it. */
static void test_what_was_removed_since_leaves_nothing(void **state)
{
    uint64_t gone, dir = pair_base(p, "d");
    (void)state;
    begin();
    write_new(here, "new", 20);
    device_commit(p, here);
    thin(here, 0);
    restore();
    assert_int_equal(DEVICE_DO(p, here,
                               core_unlink(here->core, &here->who, dir, bytes_str("new"), false,
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

/* A directory that was made in the lost journal, and what was moved into it, which the server has
 * where it was: its links are what is in it in the end. */
static void test_links_of_what_is_made_again(void **state)
{
    struct core_attr a;
    uint64_t replaced, dir = pair_base(p, "d");
    (void)state;
    begin();
    assert_int_equal(DEVICE_DO(p, here,
                               core_create(here->core, &here->who, dir, bytes_str("made"), NODE_DIR,
                                           0755, 0, bytes_of(NULL, 0), &a, &here->need)),
                     0);
    assert_int_equal(DEVICE_DO(p, here,
                               core_rename(here->core, &here->who, dir, bytes_str("s"), a.node,
                                           bytes_str("s"), 0, &replaced, &here->need)),
                     0);
    device_commit(p, here);
    restore();
    go_on(there);
    pair_forget(p);
    struct dump *last = settled("links");
    assert_int_equal(dump_find(last, "d/made")->node, a.node);
    assert_int_equal(dump_find(last, "d/s")->node, pair_base(p, "d/s"));
    pair_end(p);
    free(last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_was_away_for_long_is_told),
        cmocka_unit_test(test_what_is_the_same_makes_no_copy),
        cmocka_unit_test(test_what_was_removed_since_leaves_nothing),
        cmocka_unit_test(test_links_of_what_is_made_again),
        cmocka_unit_test(test_nothing_is_lost_of_any_pair),
    };
    simvfs_quick();
    return cmocka_run_group_tests(tests, restored_setup, restored_teardown);
}
