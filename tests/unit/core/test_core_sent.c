// SPDX-License-Identifier: Apache-2.0
/* What is under way: answers that come, come twice, come late or not at all; restarts; refusals. */
#include "world.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>

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

static uint64_t pending_nodes(struct world *w)
{
    struct core_ns n;
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    return n.pending_nodes;
}

static void test_settled_by_the_answer(void **state)
{
    struct world *w = *state;
    struct core_ns n;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    planned(w, 0);
    assert_true(pending_nodes(w) > 0); /* not answered is pending */
    answer_committed(w);
    assert_clean(w);
    assert_int_equal(core_ns_get(w->core, NS, &n), 0);
    assert_int_equal(n.cursor, 1);
    assert_non_null(effect(w, EFFECT_DONE));
    assert_int_equal(effect(w, EFFECT_DONE)->status, COMMIT_COMMITTED);
    assert_int_equal(effect(w, EFFECT_DONE)->sjid, 1);
}

static void test_second_answer_is_ignored(void **state)
{
    struct world *w = *state;
    make(w, ROOT, "f", NODE_REG);
    planned(w, 0);
    answer_committed(w);
    struct m_commit_ans again = {.status = COMMIT_CONFLICT, .head = 1};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &again, &w->fx), 0);
    assert_clean(w);
}

static void test_answer_before_the_journal_got_there(void **state)
{
    struct world *w = *state;
    struct core_ns n;
    struct core_barrier b;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = 2, .head = 2};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
    assert_int_equal(core_ns_get(w->core, NS, &n), 0);
    assert_int_equal(n.cursor, 0);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_true(!b.dirty && !b.request); /* fsync need not wait for the journal */
    theirs_make(w, ROOT, "g", THEIRS(1), NODE_REG);
    rec_begin(w);
    rec_own(w, w->plan.request);
    apply(w);
    commit_all(w);
    assert_clean(w);
    assert_names(w, ROOT, "f g");
}

static void test_settled_by_the_journal(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    rec_begin(w);
    rec_own(w, w->plan.request);
    apply(w);
    assert_int_equal(effect(w, EFFECT_DONE)->other, w->plan.request);
    struct m_commit_ans late = {.status = COMMIT_COMMITTED, .sjid = 1, .head = 1};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &late, &w->fx), 0);
    commit_all(w);
    assert_clean(w);
}

static void test_missing_changes_nothing(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    struct m_commit_ans a = {.status = COMMIT_MISSING};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_facets_under_way_wait(void **state)
{
    struct world *w = *state;
    struct core_plan first;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 16, 1);
    planned(w, f);
    first = w->plan;
    w->plan = (struct core_plan){0};
    write_block(w, f, 8, 16, 2);
    assert_int_equal(plan(w, f), -EAGAIN); /* one unanswered commit touches a facet */
    struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = ++w->head, .head = w->head};
    assert_int_equal(core_commit_answer(w->core, NS, first.request, &a, &w->fx), 0);
    core_plan_free(&first);
    planned(w, f);
    assert_int_equal(sent_node(w, f)->ranges_n, 1);
    assert_int_equal(sent_node(w, f)->ranges[0].off, 8); /* what was written since */
    assert_int_equal(sent_node(w, f)->ranges[0].len, 16);
    assert_int_equal(sent_node(w, f)->base_content, 1);
}

static void test_renamed_while_under_way(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "g", 0), 0);
    answer_committed(w);
    planned(w, ROOT);
    assert_true(sent_entry(w, ROOT, "f", f, 0));
    assert_true(sent_entry(w, ROOT, "g", 0, f));
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    assert_names(w, ROOT, "g");
}

static void test_unlinked_while_under_way(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    answer_committed(w);
    planned(w, ROOT);
    assert_true(sent_entry(w, ROOT, "f", f, 0));
    answer_committed(w);
    assert_clean(w);
    assert_int_equal(core_getattr(w->core, f, &a, &w->need), -ESTALE);
}

static void test_unlinked_while_under_way_and_refused(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "f", REFUSED_BASE), 0);
    assert_int_equal(core_getattr(w->core, f, &a, &w->need), -ESTALE); /* nobody knows of it */
    commit_all(w);
    assert_clean(w);
}

static void test_conflict_waits_for_the_journal(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    planned(w, f);
    w->head = 1;
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "f", REFUSED_BASE), 0);
    w->head = 0;
    assert_int_equal(plan(w, f), -EAGAIN);
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    planned(w, f); /* under another name now, all of it */
    assert_int_equal(sent_node(w, f)->ranges_n, 1);
    assert_false(sent_entry(w, ROOT, "f", 0, f));
}

static uint64_t committed(struct world *w, const char *name, enum node_type type)
{
    uint64_t node = make(w, ROOT, name, type);
    commit_all(w);
    return node;
}

static void test_a_name_taken_and_freed_while_under_way(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, 0);
    uint64_t request = w->plan.request;
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "f"), f); /* the answer decides */
    theirs_remove(w, ROOT, "f", THEIRS(1));
    rec_begin(w);
    rec_own(w, request);
    apply(w); /* it was free when ours came */
    assert_int_equal(node_at(w, ROOT, "f"), f);
    commit_all(w);
    assert_clean(w);
    assert_names(w, ROOT, "f");
}

/* Others came between the plan and the answer: the journal settles it. */
static void answered_behind_others(struct world *w)
{
    const struct m_commit_ans a = {
        .status = COMMIT_COMMITTED, .sjid = w->head + 1, .head = w->head + 1};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
    rec_begin(w);
    rec_own(w, w->plan.request);
    apply(w);
}

/* A name under way that is given up here meanwhile is the server's all the same: it is taken back
 * when the answer is there. */
static void test_a_name_under_way_is_given_up(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    uint64_t f = make(w, ROOT, "d", NODE_REG);
    planned(w, f);
    assert_int_equal(rename_to(w, ROOT, "d", ROOT, "a", RENAME_EXCHANGE), 0);
    rec_begin(w); /* the directory that is `d` here by now is elsewhere */
    rec_inode(w, THEIRS(1), NODE_DIR, 2);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, ROOT, "b", THEIRS(1), NODE_DIR);
    apply(w);
    assert_names(w, ROOT, "a b");
    answered_behind_others(w);
    assert_int_equal(attr(w, f).nlink, 1);
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "d", f, 0));
    assert_true(sent_entry(w, ROOT, "a", 0, f));
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
    assert_names(w, ROOT, "a b");
    assert_int_equal(attr(w, f).nlink, 1);
}

/* Nobody wants the name any more: what the commit under way puts there is what returns. */
static void test_a_move_onto_what_is_under_way_is_given_up(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "a", THEIRS(1), NODE_DIR);
    uint64_t d = make(w, ROOT, "d", NODE_DIR);
    planned(w, d);
    assert_int_equal(rename_to(w, ROOT, "a", ROOT, "d", 0), 0);
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_DIR, 2);
    rec_entry(w, ROOT, "a", 0, NODE_NONE);
    rec_entry(w, ROOT, "b", THEIRS(1), NODE_DIR);
    apply(w);
    assert_names(w, ROOT, "b d");
    assert_int_equal(node_at(w, ROOT, "d"), d);
    answered_behind_others(w);
    commit_all(w);
    assert_clean(w);
    assert_names(w, ROOT, "b d");
}

/* What is as the server has it follows the server, though a commit under way says otherwise. */
static void test_a_change_taken_back_while_under_way(void **state)
{
    struct world *w = *state;
    uint64_t f = committed(w, "f", NODE_REG);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "g", 0), 0);
    planned(w, 0);
    assert_int_equal(rename_to(w, ROOT, "g", ROOT, "f", 0), 0);
    theirs_remove(w, ROOT, "f", f);
    assert_names(w, ROOT, "");
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_ENTRY, ROOT, "f", REFUSED_BASE), 0);
    commit_all(w);
    assert_clean(w);
    assert_names(w, ROOT, "");
}

static void test_refusals_park(void **state)
{
    static const struct {
        enum refusal reason;
        int err;
    } v[] = {{REFUSED_QUOTA, -EDQUOT},
             {REFUSED_ROLE, -EROFS},
             {REFUSED_MEMBER, -EACCES},
             {REFUSED_ASSIGNMENT, -EACCES},
             {REFUSED_INVALID, -EIO}};
    struct world *w = *state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        char name[] = {'f', (char)('0' + i), 0}, *path;
        struct core_barrier b;
        uint64_t node, f = make(w, ROOT, name, NODE_REG);
        int err;
        planned(w, f);
        assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, f, NULL, v[i].reason), 0);
        bool rule = v[i].reason == REFUSED_INVALID; /* EINVAL of fsync would mean another thing */
        assert_int_equal(effect(w, EFFECT_PARKED)->err, rule ? -EINVAL : v[i].err);
        assert_int_equal(core_barrier(w->core, f, &b), 0);
        assert_int_equal(b.parked, v[i].err);
        assert_int_equal(plan(w, f), v[i].err);
        assert_int_equal(core_parked_at(w->core, NS, 0, &node, &err, &path), 0);
        assert_int_equal(node, f);
        assert_int_equal(err, rule ? -EINVAL : v[i].err);
        assert_string_equal(path, name);
        free(path);
        assert_int_equal(core_unpark(w->core, NS), 0);
        assert_int_equal(core_parked_at(w->core, NS, 0, &node, &err, &path), -ENOENT);
        commit_all(w);
        assert_clean(w);
    }
}

static void refused(struct world *w, const char *name, enum refusal reason)
{
    uint64_t f = make(w, ROOT, name, NODE_REG);
    planned(w, f);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, f, NULL, reason), 0);
}

static uint64_t parked(struct world *w)
{
    struct core_ns n;
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    return n.parked;
}

static void test_what_the_driver_gives_up_is_parked_whatever_came_since(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    theirs_make(w, ROOT, "d", THEIRS(1), NODE_DIR);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, f, NULL, REFUSED_INVALID), 0);
    assert_int_equal(parked(w), 0); /* the server may have meant what was before */
    planned(w, f);
    theirs_make(w, ROOT, "e", THEIRS(2), NODE_DIR);
    uint64_t head = w->head;
    w->head = 0;
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, f, NULL, REFUSED_INVALID), 0);
    assert_int_equal(parked(w), 1);
    w->head = head;
    assert_int_equal(core_unpark(w->core, NS), 0);
    commit_all(w);
    assert_clean(w);
}

/* What was refused may be for what the journal tells next: a node that is forgotten there. */
static void test_a_refusal_with_news_waits_for_them(void **state)
{
    struct world *w = *state;
    uint64_t f = committed(w, "f", NODE_REG);
    struct core_attr a;
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, bytes_str("g"), &a, &w->need), 0);
    planned(w, 0);
    w->head++;
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, ROOT, "g", REFUSED_INVALID), 0);
    w->head--;
    assert_int_equal(parked(w), 0);
    assert_int_equal(plan(w, 0), -EAGAIN);
    theirs_remove(w, ROOT, "f", f); /* and forgotten */
    assert_int_equal(node_at(w, ROOT, "g"), f);
    planned(w, 0);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, ROOT, "g", REFUSED_INVALID), 0);
    assert_int_equal(parked(w), 0);
    assert_int_equal(lookup(w, ROOT, "g", &a), -ENOENT); /* nothing was written into it */
    commit_all(w);
    assert_clean(w);
}

/* Something else has the name by now: it is not what was refused. */
static void test_a_refusal_is_about_what_was_sent(void **state)
{
    struct world *w = *state;
    uint64_t f = committed(w, "f", NODE_REG);
    struct core_attr a;
    assert_int_equal(core_link(w->core, &w->who, f, ROOT, bytes_str("g"), &a, &w->need), 0);
    theirs_remove(w, ROOT, "f", f); /* and forgotten */
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "g", 0, f));
    assert_int_equal(rename_to(w, ROOT, "g", ROOT, "h", 0), 0);
    uint64_t other = make(w, ROOT, "g", NODE_REG);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, ROOT, "g", REFUSED_INVALID), 0);
    assert_int_equal(parked(w), 0);
    assert_int_equal(lookup(w, ROOT, "h", &a), -ENOENT);
    assert_int_equal(node_at(w, ROOT, "g"), other);
    commit_all(w);
    assert_clean(w);
}

static void test_a_refused_name_parks_what_was_sent(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    assert_int_equal(rename_to(w, ROOT, "f", ROOT, "h", 0), 0);
    uint64_t other = make(w, ROOT, "f", NODE_REG);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_ENTRY, ROOT, "f", REFUSED_QUOTA), 0);
    assert_int_equal(parked(w), 1);
    assert_int_equal(effect(w, EFFECT_PARKED)->node, f);
    planned(w, other);
    answer_committed(w);
}

static void test_a_session_lets_go_what_it_allows(void **state)
{
    struct world *w = *state;
    struct m_namespace n = {.id = NS,
                            .name = bytes_str("home"),
                            .root = ROOT,
                            .role = ROLE_VIEWER,
                            .quota_nodes = 5,
                            .used_nodes = 5};
    struct m_session_ans a = {
        .account = bytes_str("alice"), .namespaces = &n, .namespaces_n = 1, .root_ns = NS};
    refused(w, "quota", REFUSED_QUOTA);
    refused(w, "role", REFUSED_ROLE);
    refused(w, "assignment", REFUSED_ASSIGNMENT);
    refused(w, "invalid", REFUSED_INVALID);
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    assert_int_equal(parked(w), 4); /* a viewer writes nothing */
    n.role = ROLE_EDITOR;
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    assert_int_equal(parked(w), 3); /* the quota is still used up, and there is no block server */
    struct m_candidate server = {.server = 1, .leaving = true};
    n.candidates = &server;
    n.candidates_n = 1;
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    assert_int_equal(parked(w), 3);
    server.leaving = false;
    n.copies_min = 2; /* it is not enough */
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    assert_int_equal(parked(w), 3);
    n.copies_min = 1;
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    assert_int_equal(parked(w), 2);
    n.used_nodes = 4;
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
    assert_int_equal(parked(w), 1); /* what breaks a rule waits for people */
    assert_int_equal(core_unpark(w->core, NS), 0);
    commit_all(w);
    assert_clean(w);
}

/* What lies below a directory that was refused cannot be sent: it is said to wait for it. */
static void test_what_a_parked_directory_holds_is_told(void **state)
{
    struct world *w = *state;
    theirs_make(w, ROOT, "known", THEIRS(1), NODE_REG);
    uint64_t n, *nodes, d = make(w, ROOT, "d", NODE_DIR), e = make(w, d, "e", NODE_DIR),
                        f = make(w, e, "f", NODE_REG);
    struct core_ns info;
    struct core_barrier b;
    size_t count;
    assert_int_equal(core_rename(w->core, &w->who, ROOT, bytes_str("known"), e, bytes_str("here"),
                                 0, &n, &w->need),
                     0);
    assert_int_equal(core_ns_pending(w->core, NS, &info), 0);
    assert_int_equal(info.parked + info.held, 0);
    planned(w, d);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE, d, NULL, REFUSED_INVALID), 0);
    planned(w, 0); /* what can go */
    answer_committed(w);
    assert_int_equal(core_ns_pending(w->core, NS, &info), 0);
    assert_int_equal(info.parked, 1);
    assert_int_equal(info.pending_nodes, 5); /* all that is left: `known` is taken and given */
    assert_int_equal(info.held, 4);
    assert_int_equal(core_parked_holds(w->core, d, &n), 0);
    assert_int_equal(n, 4);
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_int_equal(b.parked, -EIO); /* and at once */
    assert_int_equal(core_refused(w->core, NS, &nodes, &count), 0);
    assert_int_equal(count, 4); /* all of it can be exported */
    free(nodes);
    assert_int_equal(core_unpark(w->core, NS), 0);
    assert_int_equal(core_ns_pending(w->core, NS, &info), 0);
    assert_int_equal(info.parked + info.held, 0);
    assert_int_equal(core_refused(w->core, NS, &nodes, &count), 0);
    assert_int_equal(count, 1); /* let go, and not committed yet */
    assert_int_equal(nodes[0], d);
    free(nodes);
    commit_all(w);
    assert_int_equal(core_refused(w->core, NS, &nodes, &count), 0);
    assert_int_equal(count, 0);
    free(nodes);
    assert_clean(w);
}

static void test_the_rest_goes_on_without_the_parked(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG), g = make(w, ROOT, "g", NODE_REG);
    write_block(w, f, 0, 8, 1);
    planned(w, 0);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, f, NULL, REFUSED_QUOTA), 0);
    planned(w, 0);
    assert_null(sent_node(w, f));
    assert_true(sent_entry(w, ROOT, "g", 0, g));
    answer_committed(w);
    world_restart(w, END_CLEAN); /* parked data stay */
    assert_content(w, f, "0+8=1@0");
    struct core_ns n;
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.parked, 1);
}

static void test_a_number_acknowledged_before_is_not_parked(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    uint64_t request = w->plan.request;
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE, f, NULL, REFUSED_REQUEST), 0);
    assert_null(effect(w, EFFECT_PARKED));
    planned(w, f); /* under a new number */
    assert_true(w->plan.request > request);
}

/* What was refused once, and let go, is no less forgotten. */
static void test_what_is_forgotten_goes_on_after_a_refusal(void **state)
{
    struct world *w = *state;
    uint64_t f = committed(w, "f", NODE_REG);
    write_block(w, f, 0, 8, 1);
    planned(w, f);
    assert_int_equal(answer(w, COMMIT_REFUSED, ROW_NODE_CONTENT, f, NULL, REFUSED_MEMBER), 0);
    assert_int_equal(core_unpark(w->core, NS), 0);
    theirs_remove(w, ROOT, "f", f);
    planned(w, 0);
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_NODE_CONTENT, f, NULL, REFUSED_BASE), 0);
    assert_non_null(effect(w, EFFECT_FORK));
    assert_content(w, effect(w, EFFECT_FORK)->other, "0+8=1@0");
    commit_all(w);
    assert_clean(w);
}

/* A node that the plan would make; 0: none. */
static uint64_t sent_created(const struct world *w)
{
    for (size_t i = 0; i < w->changes.nodes_n; i++)
        if (w->changes.nodes[i].facets & FACET_CREATE)
            return w->changes.nodes[i].node;
    return 0;
}

static void test_a_row_that_conflicts_for_ever_is_parked(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    int k = 0;
    for (; k < 100 && plan(w, f) == 0; k++)
        assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_NODE_ATTR, f, NULL, REFUSED_BASE), 0);
    assert_int_equal(k, 8);
    struct core_barrier b;
    assert_int_equal(core_barrier(w->core, f, &b), 0);
    assert_int_equal(b.parked, -EIO);
    write_block(w, make(w, ROOT, "g", NODE_REG), 0, 8, 1);
    for (k = 0; k < 100 && plan(w, 0) == 0 && rows(w) && sent_created(w);
         k++) /* another number each */
        assert_int_equal(
            answer(w, COMMIT_CONFLICT, ROW_NODE, sent_created(w), NULL, REFUSED_EXISTS), 0);
    assert_int_equal(k, 8);
}

static void test_conflicts_that_bring_news_are_not_counted(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    commit_all(w);
    set_mode(w, f, 0400);
    for (unsigned k = 0; k < 20; k++) { /* others are always faster */
        planned(w, f);
        w->head++;
        assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_NODE_ATTR, f, NULL, REFUSED_BASE), 0);
        w->head--;
        rec_begin(w);
        rec_inode(w, f, NODE_REG, 1)->content_rev = 1;
        apply(w);
    }
    assert_int_equal(attr(w, f).mode, 0400);
    planned(w, f);
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

static void test_status(void **state)
{
    struct world *w = *state;
    struct core_ns n;
    int64_t began = w->who.now;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    write_block(w, f, 0, 100, 1);
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.pending_nodes, 2); /* the file and the directory's times */
    assert_int_equal(n.pending_bytes, 100);
    assert_in_range(n.since, began, w->who.now);
    int64_t since = n.since;
    planned(w, 0); /* all of it; under way, it is still not committed since then */
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.pending_bytes, 100);
    assert_int_equal(n.since, since);
    world_restart(w, END_KILL);
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.since, since);
    w->who.now += 1000000; /* and when it was refused */
    assert_int_equal(answer(w, COMMIT_CONFLICT, ROW_NODE_ATTR, ROOT, NULL, REFUSED_BASE), 0);
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.since, since);
    world_session(w, 0, ROLE_EDITOR);
    rec_begin(w);
    apply(w);
    commit_all(w);
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.pending_nodes + n.pending_bytes, 0);
    assert_int_equal(n.since, 0);
}

/* The server was put back to an older copy between a commit and its record: another commit has its
 * number now, of another device or of this one. */
static void test_an_answer_of_a_lost_journal(void **state)
{
    struct world *w = *state;
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    planned(w, f);
    struct m_commit_ans lost = {
        .status = COMMIT_COMMITTED, .sjid = w->head + 2, .head = w->head + 2};
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &lost, &w->fx), 0);
    theirs_make(w, ROOT, "x", THEIRS(1), NODE_REG);
    theirs_make(w, ROOT, "y", THEIRS(2), NODE_REG);
    planned(w, f);
    assert_true(sent_entry(w, ROOT, "f", 0, f));
    lost.sjid = lost.head = w->head + 2;
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &lost, &w->fx), 0);
    theirs_make(w, ROOT, "z", THEIRS(3), NODE_REG);
    uint64_t g = make(w, ROOT, "g", NODE_REG);
    planned(w, g);
    answer_committed(w); /* as the number of the lost one */
    planned(w, f);
    assert_true(sent_entry(w, ROOT, "f", 0, f));
    answer_committed(w);
    commit_all(w);
    assert_clean(w);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_settled_by_the_answer),
        T(test_second_answer_is_ignored),
        T(test_answer_before_the_journal_got_there),
        T(test_settled_by_the_journal),
        T(test_missing_changes_nothing),
        T(test_facets_under_way_wait),
        T(test_renamed_while_under_way),
        T(test_unlinked_while_under_way),
        T(test_unlinked_while_under_way_and_refused),
        T(test_conflict_waits_for_the_journal),
        T(test_a_name_taken_and_freed_while_under_way),
        T(test_a_name_under_way_is_given_up),
        T(test_a_move_onto_what_is_under_way_is_given_up),
        T(test_a_change_taken_back_while_under_way),
        T(test_refusals_park),
        T(test_what_the_driver_gives_up_is_parked_whatever_came_since),
        T(test_a_refusal_with_news_waits_for_them),
        T(test_a_refusal_is_about_what_was_sent),
        T(test_a_refused_name_parks_what_was_sent),
        T(test_a_session_lets_go_what_it_allows),
        T(test_what_a_parked_directory_holds_is_told),
        T(test_the_rest_goes_on_without_the_parked),
        T(test_a_number_acknowledged_before_is_not_parked),
        T(test_what_is_forgotten_goes_on_after_a_refusal),
        T(test_a_row_that_conflicts_for_ever_is_parked),
        T(test_conflicts_that_bring_news_are_not_counted),
        T(test_status),
        T(test_an_answer_of_a_lost_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
