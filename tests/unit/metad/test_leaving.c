// SPDX-License-Identifier: Apache-2.0
/* A block server that leaves a namespace: what it waits for, and what then goes. */
#include "blockid.h"
#include "replicas.h"
#include "world.h"

#include <errno.h>
#include <string.h>

static void a_server_leaves_when_others_have_it_all(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    struct m_session_req q = {
        .incarnation = bytes_of(w->alice.incarnation, 16), .requests_used = 100, .nodes_used = 100};
    struct m_session_ans s;
    struct m_capability c;
    struct plan p;
    world_command(w, &world_admin, 0, "admin unassign alice hq");
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &s, &w->ar, w->why), 0);
    assert_int_equal(s.namespaces[0].candidates_n, 2);
    assert_int_equal(s.namespaces[0].candidates[1].server, w->server[HQ]);
    assert_true(s.namespaces[0].candidates[1].leaving);
    assert_int_equal(
        capability_open(&c, s.namespaces[0].candidates[1].capability, &w->key[HQ], &w->ar), 0);
    assert_int_equal(c.rights, RIGHT_READ);
    plan_new(w, &w->alice, &p); /* nothing may be committed there */
    plan_node(&p, w->alice.root, FACET_TIMES)->mtime = 1;
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_ASSIGNMENT);
    plan_free(&p);
    assert_true(world_replica(w, CLOUD, HQ)->leaving);
    assert_non_null(world_replicas(w, HQ)); /* it goes on giving */
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    assert_null(world_replicas(w, HQ)); /* gone, and the answer that lets it go gives it nothing */
    assert_non_null(world_replicas(w, CLOUD));
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &s, &w->ar, w->why), 0);
    assert_int_equal(s.namespaces[0].candidates_n, 1);
}

static int steps(void *arg)
{
    ++*(unsigned *)arg;
    return 0;
}

/* Who is far behind makes it no dearer to find out whether another server may go. */
static void leaving_does_not_wait_for_who_is_far_behind(void **state)
{
    struct world *w = *state;
    enum { FAR = 40000 };
    struct store *st = w->m->st;
    struct block_id last = world_make_block(w, "a");
    uint64_t ns = w->alice.ns, generation = 1;
    bool blocked;
    unsigned thousands = 0;
    world_command(w, &world_admin, 0, "admin assign alice attic");
    world_stored(w, CLOUD, ns, &last, 100, 0); /* at hq and cloud; attic lacks it */
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < FAR; k++) { /* at hq and attic; cloud lacks them */
        struct block_id id = world_block(w);
        assert_int_equal(st->ops->block_put(st, ns, &id, 10, 2), 0);
        assert_int_equal(st->ops->presence_put(st, ns, &id, w->server[HQ], generation, 0), 0);
        assert_int_equal(st->ops->presence_put(st, ns, &id, w->server[ATTIC], generation, 0), 0);
        assert_int_equal(st->ops->lack_put(st, ns, w->server[CLOUD], &id, 2), 0);
    }
    assert_int_equal(st->ops->leave(st, ns, w->server[HQ], true), 0);
    sqlite3_progress_handler(((struct sq *)st)->db, 1000, steps, &thousands);
    assert_int_equal(st->ops->leave_blocked(st, ns, w->server[HQ], 1, 0, &blocked), 0);
    assert_false(blocked);
    assert_true(thousands < 300); /* by the rows of the backlog it would be some 2000 */
    assert_int_equal(st->ops->leave_blocked(st, ns, w->server[HQ], 2, 0, &blocked), 0);
    assert_true(blocked);
    /* one that both lack, which only hq has */
    struct block_id only = world_block(w);
    assert_int_equal(st->ops->block_put(st, ns, &only, 10, 2), 0);
    assert_int_equal(st->ops->presence_put(st, ns, &only, w->server[HQ], generation, 0), 0);
    assert_int_equal(st->ops->lack_put(st, ns, w->server[CLOUD], &only, 2), 0);
    assert_int_equal(st->ops->lack_put(st, ns, w->server[ATTIC], &only, 2), 0);
    assert_int_equal(st->ops->leave_blocked(st, ns, w->server[HQ], 1, 0, &blocked), 0);
    assert_true(blocked);
    sqlite3_progress_handler(((struct sq *)st)->db, 0, NULL, NULL);
    assert_int_equal(meta_change_end(w->m, -ECANCELED), -ECANCELED);
}

static void note_block(struct world *w, const struct block_id *b, bool hq, bool cloud, bool attic)
{
    struct store *st = w->m->st;
    const bool at[SERVERS] = {[HQ] = hq, [CLOUD] = cloud, [ATTIC] = attic};
    assert_int_equal(st->ops->block_put(st, w->alice.ns, b, 10, 2), 0);
    for (int s = 0; s < SERVERS; s++)
        assert_int_equal(at[s] ? st->ops->presence_put(st, w->alice.ns, b, w->server[s], 1, 0)
                               : st->ops->lack_put(st, w->alice.ns, w->server[s], b, 2),
                         0);
}

/* All that stay are far behind, but with different things: no call looks at more than so much, and
 * the calls together find the truth, whatever happens meanwhile. */
static void leaving_is_looked_for_in_slices(void **state)
{
    struct world *w = *state;
    enum { FAR = 30000 };
    struct store *st = w->m->st;
    uint64_t ns = w->alice.ns, hq = w->server[HQ], most = 0;
    struct block_id found = {0}, lost = {0};
    bool blocked = true;
    unsigned calls = 0;
    world_command(w, &world_admin, 0, "admin assign alice attic");
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < FAR; k++) { /* where the other one has it, hq is not needed */
        struct block_id id = world_block(w);
        note_block(w, &id, true, k % 2, k % 2 == 0);
        lost = k % 2 ? id : lost;
    }
    assert_int_equal(st->ops->leave(st, ns, hq, true), 0);
    while (blocked && ++calls < 100) {
        unsigned thousands = 0;
        sqlite3_progress_handler(((struct sq *)st)->db, 1000, steps, &thousands);
        assert_int_equal(st->ops->leave_blocked(st, ns, hq, 1, 0, &blocked), 0);
        most = thousands > most ? thousands : most;
        sqlite3_progress_handler(((struct sq *)st)->db, 0, NULL, NULL);
    }
    assert_int_equal(calls, 2); /* 15,000 rows of one */
    assert_true(most < 2000);
    /* one that only hq has: it is found, and the calls that follow look at nothing else */
    do
        found = world_block(w);
    while (found.b[1] < 0xf0);
    note_block(w, &found, true, false, false);
    for (calls = 0; calls < 5; calls++)
        assert_int_equal(st->ops->leave_blocked(st, ns, hq, 1, 0, &blocked), 0);
    assert_true(blocked);
    unsigned thousands = 0;
    sqlite3_progress_handler(((struct sq *)st)->db, 100, steps, &thousands);
    assert_int_equal(st->ops->leave_blocked(st, ns, hq, 1, 0, &blocked), 0);
    sqlite3_progress_handler(((struct sq *)st)->db, 0, NULL, NULL);
    assert_true(blocked && thousands < 20);
    /* that arrives; but what was passed is lost where it was */
    uint64_t *sjids;
    size_t n;
    bool left;
    assert_int_equal(st->ops->presence_put(st, ns, &found, w->server[ATTIC], 1, 0), 0);
    assert_int_equal(st->ops->lack_take(st, ns, w->server[ATTIC], &found, &sjids, &n, &w->ar), 0);
    assert_int_equal(st->ops->presence_drop(st, ns, &lost, w->server[CLOUD], 9, &left), 0);
    assert_int_equal(st->ops->lack_lost(st, ns, w->server[CLOUD], &lost), 0);
    for (calls = 0; calls < 5; calls++)
        assert_int_equal(st->ops->leave_blocked(st, ns, hq, 1, 0, &blocked), 0);
    assert_true(blocked);
    assert_int_equal(st->ops->presence_put(st, ns, &lost, w->server[CLOUD], 1, 0), 0);
    assert_int_equal(st->ops->lack_take(st, ns, w->server[CLOUD], &lost, &sjids, &n, &w->ar), 0);
    for (calls = 0; calls < 5 && blocked; calls++)
        assert_int_equal(st->ops->leave_blocked(st, ns, hq, 1, 0, &blocked), 0);
    assert_false(blocked);
    assert_int_equal(st->ops->leave_blocked(st, ns, hq, 2, 0, &blocked), 0);
    assert_true(blocked); /* two copies is another question */
    assert_int_equal(meta_change_end(w->m, -ECANCELED), -ECANCELED);
}

/* What a server lacked is forgotten at once as far as anybody sees, and in steps; nothing is missed
 * when it comes back in the middle of that. */
static void what_one_lacked_goes_in_steps(void **state)
{
    struct world *w = *state;
    enum { MANY = 3000 };
    struct store *st = w->m->st;
    uint64_t ns = w->alice.ns, cloud = w->server[CLOUD];
    struct block_id first = world_make_block(w, "a");
    size_t left = 1000;
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < MANY; k++) {
        struct block_id id = world_block(w);
        assert_int_equal(st->ops->block_put(st, ns, &id, 10, 1), 0);
        assert_int_equal(st->ops->presence_put(st, ns, &id, w->server[HQ], 1, 0), 0);
        assert_int_equal(st->ops->lack_put(st, ns, cloud, &id, 1), 0);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    assert_int_equal(world_replica(w, HQ, CLOUD)->lacking, MANY + 1);
    world_command(w, &world_admin, 0, "admin unassign alice cloud --force");
    struct lack_sum sum;
    assert_int_equal(meta_change_begin(w->m), 0);
    assert_int_equal(st->ops->lack_sum(st, ns, cloud, &sum), 0);
    assert_int_equal(sum.blocks, 0);
    assert_int_equal(st->ops->unlack_step(st, &left), 0);
    assert_int_equal(left, 0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    world_command(w, &world_admin, 0, "admin assign alice cloud");
    assert_int_equal(world_replica(w, HQ, CLOUD)->lacking, MANY + 1);
    assert_int_equal(world_stored(w, CLOUD, ns, &first, 100, 3), 1);
    assert_int_equal(world_replica(w, HQ, CLOUD)->lacking, MANY);
    world_command(w, &world_admin, 0, "admin unassign alice cloud --force");
    for (left = 1000; left;) {
        assert_int_equal(meta_change_begin(w->m), 0);
        left = 1000;
        assert_int_equal(st->ops->unlack_step(st, &left), 0);
        assert_int_equal(meta_change_end(w->m, 0), 0);
        left = left ? 0 : 1;
    }
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_prepare_v2(((struct sq *)st)->db,
                                        "SELECT (SELECT count(*) FROM lack WHERE server = 2) + "
                                        "(SELECT count(*) FROM complete WHERE server = 2) + "
                                        "(SELECT count(*) FROM unlack)",
                                        -1, &q, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(q, 0), 1); /* bob's order */
    sqlite3_finalize(q);
}

/* ---- a storage that begins anew -------------------------------------------------------------- */
/* What it asks for: what it is to look for in its own storage. */
static size_t backlog_of(struct world *w, int s, struct block_id *first)
{
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[s]};
    struct m_backlog_ans a;
    assert_int_equal(meta_backlog(w->m, &w->server_who[s], &q, &a, &w->ar, w->why), 0);
    if (a.blocks_n)
        *first = a.blocks[0].block;
    return a.blocks_n;
}

static void begin_anew(struct world *w, int s)
{
    memcpy(w->incarnation[s], "another storage!", 16);
    world_beat(w, s, NULL, 0);
}

/* Its index was made again, say, before it left or while it does: it has not told yet what it has,
 * and is not let go for that. */
static void who_began_anew_tells_first(struct world *w, bool leaves_first)
{
    struct block_id b = world_make_block(w, "a"), other = world_make_block(w, "b"), asked;
    world_stored(w, CLOUD, w->alice.ns, &other, 100, 0);
    if (leaves_first)
        world_command(w, &world_admin, 0, "admin unassign alice hq");
    begin_anew(w, HQ);
    if (!leaves_first)
        world_command(w, &world_admin, 0, "admin unassign alice hq");
    world_replicas(w, CLOUD);
    assert_non_null(world_replicas(w, HQ));
    world_command(w, &world_admin, 0, "admin unassign alice hq"); /* once more changes nothing */
    world_replicas(w, CLOUD);
    assert_non_null(world_replicas(w, HQ));
    assert_int_equal(backlog_of(w, HQ, &asked), 1); /* not what cloud has: it is to get nothing */
    assert_true(block_id_equal(&asked, &b));
    assert_int_equal(world_stored(w, HQ, w->alice.ns, &b, 100, 3), 1);
    assert_non_null(world_replicas(w, HQ)); /* it alone has it */
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 0), 1);
    world_replicas(w, CLOUD);
    assert_null(world_replicas(w, HQ));
}

static void who_begins_anew_while_it_leaves(void **state)
{
    who_began_anew_tells_first(*state, true);
}

static void who_began_anew_and_leaves(void **state)
{
    who_began_anew_tells_first(*state, false);
}

/* It has nothing any more, and nobody has: only the administrator ends that; or others bring it. */
static void who_has_nothing_is_waited_for(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a"), asked;
    world_command(w, &world_admin, 0, "admin unassign alice hq");
    begin_anew(w, HQ);
    world_replicas(w, CLOUD);
    assert_int_equal(backlog_of(w, HQ, &asked), 1);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 0), 1);
    assert_int_equal(backlog_of(w, HQ, &asked), 0);
    world_replicas(w, CLOUD);
    assert_null(world_replicas(w, HQ));
    begin_anew(w, CLOUD); /* now nobody has it */
    world_command(w, &world_admin, 0, "admin assign alice attic");
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    assert_non_null(world_replicas(w, CLOUD));
    world_command(w, &world_admin, 0, "admin unassign alice cloud --force");
    assert_null(world_replicas(w, CLOUD));
}

/* It told of all that it lacks nothing: then it is like any other. */
static void who_told_all_goes_at_once(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    bool anew;
    begin_anew(w, HQ);
    assert_int_equal(world_stored(w, HQ, w->alice.ns, &b, 100, 3), 1);
    world_replicas(w, HQ);
    struct store *st = w->m->st;
    assert_int_equal(st->ops->anew_get(st, w->alice.ns, w->server[HQ], &anew), 0);
    assert_false(anew);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 0), 1);
    world_command(w, &world_admin, 0, "admin unassign alice hq");
    assert_null(world_replicas(w, HQ));
}

static void the_last_one_stays(void **state)
{
    struct world *w = *state;
    world_make_block(w, "a");
    world_command(w, &world_admin, 0, "admin unassign alice hq cloud");
    assert_non_null(world_replicas(w, HQ)); /* it has the only copy */
    world_command(w, &world_admin, 0, "admin assign alice hq");
    assert_false(world_replica(w, HQ, HQ)->leaving);
    assert_int_equal(world_replica(w, HQ, HQ)->lacking, 0);
}

/* A disk that is gone for good, with the only copy of something: it is not waited for. */
static void a_lost_disk_is_let_go(void **state)
{
    struct world *w = *state;
    world_make_block(w, "a");
    char line[64];
    snprintf(line, sizeof line, "admin server drain %llu --lost",
             (unsigned long long)w->server[HQ]);
    assert_non_null(strstr(world_command(w, &world_admin, 1, line), "was heard of"));
    w->now += 120000;
    world_beat(w, CLOUD, NULL, 0);
    snprintf(line, sizeof line, "admin server drain %llu --force",
             (unsigned long long)w->server[HQ]);
    assert_non_null(strstr(world_command(w, &world_admin, 0, line), "leaves 1 namespace"));
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)w->server[HQ]);
    world_command(w, &world_admin, 1, line);
    snprintf(line, sizeof line, "admin server drain %llu --lost",
             (unsigned long long)w->server[HQ]);
    world_command(w, &world_admin, 0, line);
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)w->server[HQ]);
    world_command(w, &world_admin, 0, line);
    char *told = world_command(w, &world_admin, 0, "admin fsck --recorded alice");
    assert_non_null(strstr(told, "alice:/a: 100 bytes in 1 pieces are at no block server"));
}

static void a_number_is_never_given_out_again(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    char line[64];
    uint64_t attic = w->server[ATTIC], hq = w->server[HQ];
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)hq);
    world_command(w, &world_admin, 1, line); /* it serves namespaces */
    snprintf(line, sizeof line, "admin server drain %llu", (unsigned long long)hq);
    assert_non_null(strstr(world_command(w, &world_admin, 0, line), "leaves 1 namespace"));
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    world_replicas(w, CLOUD); /* asking is what lets it go */
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)attic);
    world_command(w, &world_admin, 0, line);
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)hq);
    world_command(w, &world_admin, 0, line);
    char *token = world_command(w, &world_admin, 0, "admin server add new");
    token[strcspn(token, "\n")] = 0;
    struct m_join_req q = {.token = bytes_str(token),
                           .url = bytes_str("https://localhost:2"),
                           .incarnation = bytes_of(w->incarnation[HQ], 16)};
    struct m_join_ans a;
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.server, attic + 1);
    world_command(w, &world_admin, 1, "admin server drain 4711");
    world_command(w, &world_admin, 2, "admin server remove hq");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_server_leaves_when_others_have_it_all),
        TEST(leaving_does_not_wait_for_who_is_far_behind),
        TEST(leaving_is_looked_for_in_slices),
        TEST(what_one_lacked_goes_in_steps),
        TEST(who_begins_anew_while_it_leaves),
        TEST(who_began_anew_and_leaves),
        TEST(who_has_nothing_is_waited_for),
        TEST(who_told_all_goes_at_once),
        TEST(the_last_one_stays),
        TEST(a_lost_disk_is_let_go),
        TEST(a_number_is_never_given_out_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
