// SPDX-License-Identifier: Apache-2.0
/* What was pending or under way when the metadata server's database was put back to an older one:
 * answers that were lost or come late, numbers that are those of other commits now. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "restored.h"

/* An answer was lost, and then the commit with the server: it is sent again as it was, before or
 * after somebody else, who had read of it, has brought what it made. */
static void answer_lost(bool later, bool read)
{
    begin();
    write_new(here, "new", 20);
    assert_true(device_plan(p, here));
    device_send_lost(p, here);
    device_follow(p, there);
    write_new(there, "theirs", 30);
    device_commit(p, there);
    restore();
    if (later) {
        device_follow(p, there);
        device_commit(p, there);
    }
    if (read)
        device_follow(p, here);
    assert_int_equal(core_resend(here->core, p->ns, 0, &here->plan), 0);
    here->planned = true;
    device_send(p, here);
    struct dump *last = settled("an answer lost");
    assert_int_equal(copies(last), 0);
    assert_true(dump_find(last, "d/new") && dump_find(last, "d/theirs"));
    pair_end(p);
    free(last);
}

static void test_a_commit_whose_answer_was_lost(void **state)
{
    (void)state;
    answer_lost(false, false);
    answer_lost(true, false);
    answer_lost(true, true);
}

/* What was written and not sent goes on, on top of what is lost. */
static void test_what_is_pending_stays_so(void **state)
{
    (void)state;
    begin();
    uint64_t f = write_new(here, "new", 20);
    device_commit(p, here);
    device_follow(p, there);
    struct m_extent e = {.off = 16, .len = 16, .block = {{0}}};
    e.block.b[32] = 21;
    const struct extent_list l = {.v = &e, .n = 1};
    assert_int_equal(DEVICE_DO(p, here, core_write(here->core, &here->who, f, 16, 16, &l, true)),
                     0);
    restore();
    struct dump *last = settled("pending");
    const struct dump_line *line = dump_find(last, "d/new");
    assert_non_null(line);
    assert_non_null(strstr(line->value, "0+16=#20 16+16=#21"));
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

static unsigned names_under_way(struct device *d)
{
    sqlite3_stmt *s = tree_stmt(d->tree, "SELECT count(*) FROM entry WHERE request != 0");
    assert_int_equal(tree_step(d->tree, s), 1);
    unsigned n = (unsigned)sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return n;
}

/* The same, where what was made here is under way: what the server has by then is looked at before
 * there is an answer. */
static void test_under_way_in_what_others_make_again(void **state)
{
    uint64_t dir = pair_base(p, "d");
    struct dump *seen = calloc(1, sizeof *seen);
    (void)state;
    assert_non_null(seen);
    begin();
    uint64_t made = make_dir(there, dir, "made");
    device_commit(p, there);
    device_follow(p, here);
    restore();
    device_follow(p, here);
    make_dir(here, make_dir(here, made, "in it"), "ours");
    assert_true(device_plan(p, here));
    device_follow(p, there);
    make_dir(there, make_dir(there, made, "in it"), "theirs");
    device_commit(p, there);
    pair_forget(p);
    device_follow(p, here);
    unsigned sent = names_under_way(here);
    device_dump(p, here, seen);
    assert_int_equal(names_under_way(here), sent);
    device_send(p, here);
    struct dump *last = settled("under way in it");
    assert_int_equal(dump_find(last, "d/made")->node, made);
    assert_non_null(dump_find(last, "d/made/in it/ours"));
    assert_non_null(dump_find(last, "d/made/in it/theirs"));
    pair_end(p);
    free(last);
    free(seen);
}

/* A commit was answered, and its record is waited for; then the server's journal ends before it. */
static void test_the_record_of_an_answer_is_lost(void **state)
{
    struct core_ns n;
    (void)state;
    begin();
    write_new(there, "theirs", 30);
    device_commit(p, there);
    write_new(here, "new", 20);
    assert_true(device_plan(p, here));
    device_send(p, here);
    restore();
    struct dump *last = settled("an answer without a record");
    assert_true(dump_find(last, "d/new") && dump_find(last, "d/theirs"));
    assert_int_equal(copies(last), 0);
    assert_int_equal(here->resyncs, 0); /* there is nothing to compare */
    assert_int_equal(core_ns_get(here->core, p->ns, &n), 0);
    assert_int_equal(n.head, n.cursor);
    pair_end(p);
    free(last);
}

/* A comparison had begun, and a commit was settled for it behind what was read of the journal; then
 * the server is put back to where the journal goes on from there. */
static void test_what_was_settled_for_a_comparison_is_lost(void **state)
{
    (void)state;
    begin();
    write_new(here, "new", 20);
    assert_true(device_plan(p, here));
    device_send_lost(p, here);
    pair_forget(p);
    device_requests(p, here);
    restore();
    struct dump *last = settled("settled");
    assert_non_null(dump_find(last, "d/new"));
    assert_int_equal(copies(last), 0);
    assert_int_equal(here->resyncs, 1);
    pair_end(p);
    free(last);
}

/* The same, and another commit is taken by the new journal under the very number up to which was
 * settled in the one that is lost. */
static void test_an_answer_where_was_settled_for_a_comparison(void **state)
{
    (void)state;
    begin();
    write_new(here, "new", 20);
    assert_true(device_plan(p, here));
    device_send_lost(p, here);
    write_new(here, "more", 21);
    assert_true(device_plan(p, here));
    pair_forget(p);
    device_requests(p, here);
    restore();
    device_send(p, here);
    struct dump *last = settled("settled, and another answer");
    assert_true(dump_find(last, "d/new") && dump_find(last, "d/more"));
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

/* What was made is to be sent again, with what was written here since; after an unclean end, and a
 * comparison with a journal that has forgotten who made it again, that is still there. */
static void written_since(struct device *maker, unsigned tag)
{
    struct simvfs *disk = simvfs_new("before");
    struct dump *known = calloc(1, sizeof *known); /* its content, too */
    assert_non_null(known);
    begin();
    uint64_t f = write_new(maker, "new", tag);
    device_commit(p, maker);
    device_follow(p, here);
    device_follow(p, there);
    device_dump(p, there, known);
    free(known);
    restore();
    put(here, f, 0, 16, 25);
    device_follow(p, here);
    simvfs_reset(disk, 1);
    simvfs_copy(disk, here->disk);
    device_follow(p, there);
    device_commit(p, there);
    pair_forget(p);
    device_lose(p, here, disk);
    struct dump *last = settled("written since");
    bool found = false;
    for (size_t i = 0; i < last->n; i++)
        found |= strstr(last->v[i].value, "=#25") != NULL;
    assert_true(found);
    pair_end(p);
    simvfs_free(disk);
    free(last);
}

static void test_written_since_in_what_others_make_again(void **state)
{
    (void)state;
    written_since(there, 30);
    written_since(here, 20);
}

/* What was under way has met a journal that is lost since, and then comes where that was: what is
 * to be sent again meets it like somebody else's. */
static void test_what_was_under_way_meets_what_is_lost(void **state)
{
    uint64_t f = pair_base(p, "d/f");
    unsigned tags = 0;
    (void)state;
    begin();
    put(there, f, 0, 16, 30);
    device_commit(p, there);
    put(here, f, 0, 16, 20);
    assert_true(device_plan(p, here));
    device_follow(p, here);
    restore();
    device_send(p, here);
    struct dump *last = settled("under way");
    for (size_t i = 0; i < last->n; i++) {
        tags |= strstr(last->v[i].value, "=#20") ? 1 : 0;
        tags |= strstr(last->v[i].value, "=#30") ? 2 : 0;
    }
    assert_int_equal(tags, 3);
    pair_end(p);
    free(last);
}

/* A commit that the restored server did not know of is taken by it after all: what was written
 * since it was sent is newer than it, though an unclean end came between, and its record may be
 * forgotten. */
static void comes_late(bool forgotten)
{
    struct simvfs *disk = simvfs_new("before");
    begin();
    uint64_t f = write_new(here, "new", 20);
    assert_true(device_plan(p, here));
    struct core_plan late = here->plan;
    here->plan = (struct core_plan){0};
    here->planned = false;
    put(here, f, 16, 16, 21);
    write_new(there, "lost", 30);
    device_commit(p, there);
    device_follow(p, here);
    restore();
    device_follow(p, here);
    here->plan = late;
    here->planned = true;
    device_send_lost(p, here);
    if (forgotten)
        pair_forget(p);
    simvfs_reset(disk, 1);
    simvfs_copy(disk, here->disk);
    device_lose(p, here, disk);
    struct dump *last = settled(forgotten ? "late, forgotten" : "late");
    unsigned tags = 0;
    for (size_t i = 0; i < last->n; i++) {
        tags |= strstr(last->v[i].value, "=#20") ? 1 : 0;
        tags |= strstr(last->v[i].value, "=#21") ? 2 : 0;
    }
    assert_int_equal(tags, 3);
    pair_end(p);
    simvfs_free(disk);
    free(last);
}

static void test_a_commit_that_comes_late(void **state)
{
    (void)state;
    comes_late(false);
    comes_late(true);
}

/* What was under way is the next number in the new journal, though what was read here since is of
 * the one that is lost. */
static void next_in_the_new_journal(bool known)
{
    uint64_t f = pair_base(p, "d/f");
    struct core_ns n;
    begin();
    put(here, f, 0, 16, 20);
    assert_true(device_plan(p, here));
    write_new(there, "lost", 30);
    device_commit(p, there);
    device_follow(p, here);
    restore();
    device_follow(p, there);
    device_commit(p, there);
    assert_int_equal(core_ns_get(here->core, p->ns, &n), 0);
    if (known)
        assert_int_equal(core_journal_other(here->core, p->ns, n.cursor), 0);
    device_send(p, here);
    struct dump *last = settled(known ? "next, known" : "next");
    assert_int_equal(here->resyncs, 1);
    assert_non_null(strstr(dump_find(last, "d/f")->value, "=#20"));
    assert_non_null(dump_find(last, "d/lost"));
    assert_int_equal(copies(last), 0);
    pair_end(p);
    free(last);
}

static void test_the_next_number_of_another_journal(void **state)
{
    (void)state;
    next_in_the_new_journal(false);
    next_in_the_new_journal(true);
}

/* A commit was answered behind what was read of the journal, which is lost then. That was noticed,
 * and others are at that number in the new journal, when power loss takes here what was learned of
 * it: a comparison does not take that commit for the one that has its number. */
static void test_an_answer_of_what_is_lost_comes_back(void **state)
{
    (void)state;
    uint64_t f = pair_base(p, "d/f");
    begin();
    struct simvfs *mine = simvfs_new("mine");
    put(here, f, 0, 16, 20);
    assert_true(device_plan(p, here));
    write_new(there, "x", 30);
    device_commit(p, there);
    pair_forget(p); /* not read here, and never will be */
    backup();
    device_send(p, here);
    simvfs_reset(mine, 1);
    simvfs_copy(mine, here->disk);
    restore();
    assert_int_equal(meta_other_journal(p->meta, p->now_ms), 0);
    put(there, f, 0, 16, 32);
    device_commit(p, there);
    device_lose(p, here, mine);
    struct dump *last = settled("an answer of what is lost");
    assert_non_null(strstr(dump_find(last, "d/f")->value, "=#32"));
    assert_int_equal(copies(last), 1); /* with what was written here */
    pair_end(p);
    free(last);
    simvfs_free(mine);
}

/* After an unclean end nothing is sent before the journal is read up to what the session says, of
 * which there is nothing any more. */
static void test_what_a_session_told_of_is_lost(void **state)
{
    (void)state;
    begin();
    struct simvfs *disk = simvfs_new("before");
    simvfs_reset(disk, 1);
    write_new(here, "new", 20);
    simvfs_copy(disk, here->disk);
    device_commit(p, here);
    device_lose(p, here, disk);
    restore();
    assert_false(device_plan(p, here));
    struct dump *last = settled("a session");
    assert_non_null(dump_find(last, "d/new"));
    pair_end(p);
    simvfs_free(disk);
    free(last);
}

/* A restart in between begins it again, and nothing is planned before it is done. */
static void test_nothing_is_sent_before(void **state)
{
    (void)state;
    begin();
    uint64_t f = write_new(here, "new", 20);
    device_commit(p, here);
    restore();
    struct core_barrier b;
    assert_int_equal(core_barrier(here->core, f, &b), 0);
    assert_false(b.dirty || b.request || b.unsure);
    assert_int_equal(core_journal_other(here->core, p->ns, 1), 0);
    write_new(here, "more", 21);
    assert_false(device_plan(p, here));
    assert_int_equal(core_barrier(here->core, f, &b), 0);
    assert_true(b.unsure); /* it is lost: nobody says that it is durable */
    struct dump *last = settled("a flag that stays");
    assert_int_equal(core_barrier(here->core, f, &b), 0);
    assert_false(b.dirty || b.request || b.unsure);
    assert_true(dump_find(last, "d/new") && dump_find(last, "d/more"));
    pair_end(p);
    free(last);
}

/* What the server could not tell to be the same journal was, and goes on from here: nothing is
 * compared, and nothing waits for that. */
static void test_the_same_journal_after_all(void **state)
{
    struct core_effects fx = {0};
    struct core_ns n;
    struct core_barrier b;
    (void)state;
    begin();
    uint64_t f = write_new(here, "new", 20);
    assert_int_equal(core_ns_get(here->core, p->ns, &n), 0);
    assert_int_equal(core_journal_other(here->core, p->ns, n.cursor), 0);
    assert_false(device_plan(p, here));
    assert_int_equal(core_journal_ends(here->core, p->ns, n.cursor, &fx), 0);
    core_effects_free(&fx);
    assert_int_equal(core_barrier(here->core, f, &b), 0);
    assert_true(b.dirty && !b.unsure);
    device_commit(p, here);
    struct dump *last = settled("the same after all");
    assert_int_equal(here->resyncs, 0);
    assert_non_null(dump_find(last, "d/new"));
    pair_end(p);
    free(last);
}

/* What an answer was believed to have made the next number is another record's: an answer to the
 * question for the journal that was under way is not one to go on from. */
static void test_the_number_of_an_answer_is_another_records(void **state)
{
    struct core_effects fx = {0};
    struct core_ns n;
    (void)state;
    begin();
    write_new(here, "new", 20);
    device_commit(p, here);
    assert_int_equal(core_ns_get(here->core, p->ns, &n), 0);
    struct m_record r = {.sjid = n.cursor, .mark = n.mark};
    assert_int_equal(core_apply(here->core, p->ns, &r, 1, &fx), 0);
    r.mark++;
    assert_int_equal(core_apply(here->core, p->ns, &r, 1, &fx), -ESTALE);
    r.mark = 0; /* not told */
    assert_int_equal(core_apply(here->core, p->ns, &r, 1, &fx), 0);
    core_effects_free(&fx);
    pair_end(p);
}

/* A commit and a load that name another journal's mark are refused, whatever the numbers say. */
static void test_another_journal_is_refused(void **state)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_commit_ans a;
    (void)state;
    begin();
    write_new(here, "new", 20);
    device_commit(p, here);
    restore();
    write_new(there, "theirs", 30);
    device_commit(p, there); /* the head is what here knows again */
    write_new(here, "more", 21);
    assert_true(device_plan(p, here));
    struct m_commit_req q = {.ns = p->ns,
                             .request = here->plan.request,
                             .cursor = here->plan.cursor,
                             .mark = here->plan.mark,
                             .targets = &p->server,
                             .targets_n = 1,
                             .changes = bytes_of(here->plan.changes.p, here->plan.changes.n)};
    assert_int_equal(meta_commit(p->meta, &here->id, &q, p->now_ms, &a, &ar, why), -ESTALE);
    struct core_ns n;
    struct m_node_ans node;
    assert_int_equal(core_ns_get(here->core, p->ns, &n), 0);
    struct m_node_req nq = {.ns = p->ns, .node = p->root, .at = n.cursor, .mark = n.mark};
    assert_int_equal(meta_node(p->meta, &here->id, &nq, &node, &ar, why), -ESTALE);
    nq.mark = 0; /* an older client */
    assert_int_equal(meta_node(p->meta, &here->id, &nq, &node, &ar, why), 0);
    core_plan_free(&here->plan);
    here->planned = false;
    struct dump *last = settled("refused");
    assert_true(dump_find(last, "d/new") && dump_find(last, "d/more"));
    assert_non_null(dump_find(last, "d/theirs"));
    pair_end(p);
    free(last);
}

/* Server and device are put back to one backup, and nobody has noticed yet: ids of the life that is
 * lost are not given again. */
static void of_the_same_backup(bool noticed)
{
    struct simvfs *mine = simvfs_new("mine");
    begin();
    simvfs_reset(mine, 1);
    simvfs_copy(mine, here->disk);
    device_lose(p, here, mine); /* started once more in the life that is lost */
    uint64_t a = write_new(here, "lost", 20);
    device_commit(p, here);
    device_follow(p, there);
    struct dump *known = calloc(1, sizeof *known); /* its content, too */
    assert_non_null(known);
    device_dump(p, there, known);
    free(known);
    restore();
    assert_int_equal(noticed ? meta_other_journal(p->meta, p->now_ms) : meta_started(p->meta), 0);
    device_lose(p, here, mine);
    uint64_t b = write_new(here, "mine", 21);
    assert_true(a < b);
    device_commit(p, here);
    struct dump *last = settled("the same backup");
    assert_int_equal(copies(last), 0);
    assert_int_equal(dump_find(last, "d/lost")->node, a);
    assert_int_equal(dump_find(last, "d/mine")->node, b);
    pair_end(p);
    free(last);
    simvfs_free(mine);
}

static void test_a_device_of_the_same_backup(void **state)
{
    (void)state;
    of_the_same_backup(false); /* nobody can know yet that the server was put back … */
    of_the_same_backup(true);  /* … or it is known */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_commit_whose_answer_was_lost),
        cmocka_unit_test(test_what_is_pending_stays_so),
        cmocka_unit_test(test_under_way_in_what_others_make_again),
        cmocka_unit_test(test_the_record_of_an_answer_is_lost),
        cmocka_unit_test(test_what_a_session_told_of_is_lost),
        cmocka_unit_test(test_written_since_in_what_others_make_again),
        cmocka_unit_test(test_what_was_settled_for_a_comparison_is_lost),
        cmocka_unit_test(test_an_answer_where_was_settled_for_a_comparison),
        cmocka_unit_test(test_what_was_under_way_meets_what_is_lost),
        cmocka_unit_test(test_a_commit_that_comes_late),
        cmocka_unit_test(test_the_next_number_of_another_journal),
        cmocka_unit_test(test_an_answer_of_what_is_lost_comes_back),
        cmocka_unit_test(test_nothing_is_sent_before),
        cmocka_unit_test(test_another_journal_is_refused),
        cmocka_unit_test(test_the_same_journal_after_all),
        cmocka_unit_test(test_the_number_of_an_answer_is_another_records),
        cmocka_unit_test(test_a_device_of_the_same_backup),
    };
    simvfs_quick();
    return cmocka_run_group_tests(tests, restored_setup, restored_teardown);
}
