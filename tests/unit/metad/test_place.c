// SPDX-License-Identifier: Apache-2.0
/* Where namespaces may be: those that never leave their premises, and servers that are left. */
#include "world.h"

#include <errno.h>
#include <string.h>

#include "2.sql.h"
#include "blockid.h"
#include "schema.sql.h"

static struct m_session_ans session(struct world *w, struct user *u)
{
    struct m_session_req q = {
        .incarnation = bytes_of(u->incarnation, 16), .requests_used = 100, .nodes_used = 100};
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &u->who, &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

/* Whether the block server is told of alice's namespace (0, 1), and of how many others there. */
static size_t replicas(struct world *w, int s, size_t *others)
{
    struct m_replicas_req q = {0};
    struct m_replicas_ans a;
    assert_int_equal(meta_replicas(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    for (size_t k = 0; k < a.namespaces_n; k++) {
        if (a.namespaces[k].ns != w->alice.ns)
            continue;
        *others = a.namespaces[k].replicas_n - 1;
        return 1;
    }
    return 0;
}

/* ---- onsite --------------------------------------------------------------------------------- */
static void an_operator_cannot_bring_it_out(void **state)
{
    struct world *w = *state;
    world_command(w, &world_admin, 1, "admin onsite alice hq"); /* it is in the cloud, too */
    world_command(w, &world_admin, 1, "admin onsite alice nowhere");
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    assert_non_null(
        strstr(world_command(w, &world_admin, 0, "admin onsite alice"), "may be anywhere"));
    world_command(w, &world_admin, 0, "admin onsite alice hq");
    assert_string_equal(world_command(w, &world_admin, 0, "admin onsite alice"), "hq\n");
    assert_string_equal(world_command(w, &world_admin, 0, "admin onsite alice --json"),
                        "[\"hq\"]\n");
    assert_non_null(
        strstr(world_command(w, &world_admin, 5, "admin assign alice cloud"), "never leaves"));
    world_command(w, &world_admin, 5, "admin assign alice hq attic");
    struct m_session_ans a = session(w, &w->alice);
    assert_int_equal(a.namespaces[0].candidates_n, 1);
    assert_int_equal(a.namespaces[0].onsite_n, 1);
    assert_true(bytes_equal(a.namespaces[0].onsite[0].name, bytes_str("hq")));
    /* nor by evacuation, nor under another name */
    char *text = world_command(w, &world_admin, 1, "admin evacuate hq --to cloud,attic");
    assert_non_null(strstr(text, "alice has no other block server"));
    assert_int_equal(session(w, &w->alice).namespaces[0].candidates_n, 1);
    world_command(w, &world_admin, 0, "admin evacuate hq --cancel");
    world_command(w, &w->alice.who, 0, "namespace create docs");
    assert_string_equal(world_command(w, &world_admin, 0, "admin onsite docs"), "hq\n");
    world_command(w, &world_admin, 5, "admin assign docs cloud");
    world_command(w, &world_admin, 0, "admin onsite alice --anywhere");
    world_command(w, &world_admin, 0, "admin assign alice cloud");
    assert_int_equal(session(w, &w->alice).namespaces[0].candidates_n, 2);
}

/* Not even a row in the database leads out: an operator with more rights than sense. */
static void a_row_made_by_hand_leads_nowhere(void **state)
{
    struct world *w = *state;
    struct plan p;
    size_t others;
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    world_command(w, &world_admin, 0, "admin onsite alice hq");
    assert_int_equal(meta_change_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->assign(w->m->st, w->alice.ns, w->server[CLOUD], 0), 0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    struct block_id b = world_make_block(w, "a");
    struct m_session_ans a = session(w, &w->alice); /* no capability there */
    assert_int_equal(a.namespaces[0].candidates_n, 1);
    assert_int_equal(a.namespaces[0].candidates[0].server, w->server[HQ]);
    assert_int_equal(a.servers_n, 1);
    assert_int_equal(replicas(w, CLOUD, &others), 0); /* nothing replicated there … */
    assert_int_equal(replicas(w, HQ, &others), 1);    /* … and no way from here */
    assert_int_equal(others, 0);
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 0),
                     0); /* what it says it has does not count */
    struct m_backlog_req bq = {.ns = w->alice.ns, .server = w->server[CLOUD]};
    struct m_backlog_ans ba;
    assert_int_equal(meta_backlog(w->m, &w->server_who[CLOUD], &bq, &ba, &w->ar, w->why), -EACCES);
    struct m_list_req lq = {.ns = w->alice.ns};
    struct m_list_ans la;
    assert_int_equal(meta_list(w->m, &w->server_who[CLOUD], &lq, &la, &w->ar, w->why), -EACCES);
    /* a client that got its bytes there somehow, and has a genuine receipt */
    struct block_id c = world_block(w);
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    plan_range(&p, plan_create(&p, node, NODE_REG), 0, 50, &c, 0);
    plan_block(w, &p, w->alice.ns, &c, 50, CLOUD);
    plan_entry(&p, w->alice.root, "b", 0, 0, node);
    p.targets[0] = w->server[CLOUD];
    struct m_commit_ans ans = world_commit(w, &w->alice, &p);
    assert_int_equal(ans.status, COMMIT_REFUSED);
    assert_int_equal(ans.rows[0].reason, REFUSED_ASSIGNMENT);
    p.targets[0] = w->server[HQ]; /* its receipt is worth nothing elsewhere */
    ans = world_commit(w, &w->alice, &p);
    assert_int_equal(ans.status, COMMIT_MISSING);
    assert_int_equal(ans.missing_n, 1);
    plan_free(&p);
    struct m_block_ref ref = {.block = c, .len = 50};
    struct m_diff_req dq = {.ns = w->alice.ns, .target = w->server[CLOUD], .ids = &ref, .ids_n = 1};
    struct m_diff_ans da;
    assert_int_equal(meta_diff(w->m, &w->alice.who, &dq, &da, &w->ar, w->why), -EACCES);
}

/* ---- ranks ---------------------------------------------------------------------------------- */
static void ranks(struct world *w, const uint64_t *servers, const uint64_t *want, size_t n)
{
    struct m_session_ans a = session(w, &w->alice);
    assert_int_equal(a.namespaces[0].candidates_n, n);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(a.namespaces[0].candidates[k].server, servers[k]);
        assert_int_equal(a.namespaces[0].candidates[k].priority, want[k]);
    }
}

static void ranks_can_be_equal(void **state)
{
    struct world *w = *state;
    uint64_t hq = w->server[HQ], cloud = w->server[CLOUD], attic = w->server[ATTIC];
    ranks(w, (uint64_t[]){hq, cloud}, (uint64_t[]){0, 1}, 2);
    world_command(w, &world_admin, 0, "admin assign alice cloud,hq");
    ranks(w, (uint64_t[]){hq, cloud}, (uint64_t[]){0, 0}, 2);
    world_command(w, &world_admin, 0, "admin assign alice attic"); /* the others stay equal */
    ranks(w, (uint64_t[]){attic, hq, cloud}, (uint64_t[]){0, 1, 1}, 3);
    world_command(w, &world_admin, 0, "admin assign alice cloud hq");
    ranks(w, (uint64_t[]){cloud, hq, attic}, (uint64_t[]){0, 1, 2}, 3);
    world_command(w, &world_admin, 1, "admin assign alice cloud,mars");
    char *token = world_command(w, &world_admin, 0, "admin server add hq");
    token[strcspn(token, "\n")] = 0;
    struct m_join_req q = {.token = bytes_str(token),
                           .url = bytes_str("https://localhost:2"),
                           .incarnation = bytes_of(w->incarnation[HQ], 16)};
    struct m_join_ans a; /* a second one at head office */
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &q, w->now, &a, &w->ar, w->why), 0);
    world_command(w, &world_admin, 0, "admin assign alice hq");
    ranks(w, (uint64_t[]){hq, a.server, cloud, attic}, (uint64_t[]){0, 0, 1, 2}, 4);
}

static void words_that_name_no_premises_are_refused(void **state)
{
    struct world *w = *state;
    world_command(w, &world_admin, 0, "admin unassign alice hq cloud");
    world_command(w, &world_admin, 1, "admin onsite alice hq,cloud");
    assert_non_null(
        strstr(world_command(w, &world_admin, 0, "admin onsite alice"), "may be anywhere"));
    assert_non_null(strstr(world_command(w, &world_admin, 1, "admin assign alice hq,"),
                           "no block server at premises"));
    world_command(w, &world_admin, 1, "admin assign alice ,hq");
    world_command(w, &world_admin, 1, "admin assign alice hq,,cloud");
    world_command(w, &world_admin, 1, "admin assign alice ,");
    struct m_word words[] = {
        {bytes_str("admin")}, {bytes_str("assign")}, {bytes_str("alice")}, {{0}}};
    struct m_command_req q = {.words = words, .words_n = 4};
    struct m_command_ans a;
    assert_int_equal(meta_command(w->m, &world_admin, &q, w->now, &a, &w->ar), 0);
    assert_int_equal(a.exit_status, 1);
}

/* ---- evacuation ----------------------------------------------------------------------------- */
static void all_goes_to_others(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a"), c = world_make_block(w, "b");
    size_t others;
    char *text = world_command(w, &world_admin, 6, "admin evacuate hq");
    assert_non_null(strstr(text, "1 namespaces are still at hq: others lack 2 blocks, 200 bytes"));
    uint64_t version, later;
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &version), 0);
    world_command(w, &world_admin, 6, "admin evacuate hq"); /* asking disturbs nobody */
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &later), 0);
    assert_int_equal(later, version);
    struct m_session_ans a = session(w, &w->alice);
    assert_int_equal(a.namespaces[0].candidates_n, 2);
    assert_true(a.namespaces[0].candidates[1].leaving);
    assert_int_equal(a.namespaces[0].candidates[1].server, w->server[HQ]);
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    text = world_command(w, &world_admin, 6, "admin evacuate 1 --json");
    assert_non_null(strstr(text, "\"namespaces_left\": 1, \"lacking_blocks\": 1"));
    world_stored(w, CLOUD, w->alice.ns, &c, 100, 0); /* asking is enough to let it go */
    text = world_command(w, &world_admin, 0, "admin evacuate hq");
    assert_non_null(strstr(text, "admin server remove"));
    assert_int_equal(replicas(w, HQ, &others), 0);
    assert_int_equal(session(w, &w->alice).namespaces[0].candidates_n, 1);
    /* nothing goes there any more, by name or by default */
    assert_non_null(
        strstr(world_command(w, &world_admin, 1, "admin assign alice hq"), "being evacuated"));
    world_command(w, &world_admin, 0, "admin account add carol");
    text = world_command(w, &world_admin, 0, "admin namespace list");
    assert_null(strstr(text, "hq"));
    assert_non_null(
        strstr(world_command(w, &world_admin, 0, "admin server list"), "being evacuated"));
    world_command(w, &world_admin, 0, "admin evacuate hq --cancel");
    world_command(w, &world_admin, 0, "admin assign alice hq");
    world_command(w, &world_admin, 1, "admin evacuate mars");
}

static void copies_hold_it_back(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    world_command(w, &world_admin, 0, "admin assign alice attic");
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin copies alice 2");
    world_command(w, &world_admin, 6, "admin evacuate hq"); /* one of two is elsewhere */
    assert_non_null(strstr(world_command(w, &world_admin, 6, "admin evacuate hq"), "1 blocks"));
    world_stored(w, ATTIC, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin evacuate hq");
}

/* No way of leaving brings a namespace below the copies that it wants. */
static void fewer_than_the_copies_never_stay(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    size_t others;
    bool blocked;
    char line[64];
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin copies alice 2");
    assert_non_null(strstr(world_command(w, &world_admin, 1, "admin unassign alice hq"), "alice"));
    snprintf(line, sizeof line, "admin server drain %llu", (unsigned long long)w->server[HQ]);
    assert_non_null(strstr(world_command(w, &world_admin, 1, line), "alice wants 2 copies"));
    char *text = world_command(w, &world_admin, 1, "admin evacuate hq");
    assert_non_null(strstr(text, "alice wants 2 copies"));
    text = world_command(w, &world_admin, 1, "admin evacuate hq --to cloud"); /* is there already */
    assert_non_null(strstr(text, "alice wants 2 copies"));
    struct m_session_ans a = session(w, &w->alice);
    assert_int_equal(a.namespaces[0].candidates_n, 2);
    assert_false(a.namespaces[0].candidates[0].leaving);
    assert_false(a.namespaces[0].candidates[1].leaving);
    /* nor is one let go that leaves all the same */
    assert_int_equal(meta_change_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->leave(w->m->st, w->alice.ns, w->server[HQ], true), 0);
    assert_int_equal(
        w->m->st->ops->leave_blocked(w->m->st, w->alice.ns, w->server[HQ], 2, 0, &blocked), 0);
    assert_true(blocked);
    assert_int_equal(w->m->st->ops->leave(w->m->st, w->alice.ns, w->server[HQ], false), 0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    world_command(w, &world_admin, 6, "admin evacuate hq --to cloud,attic");
    assert_int_equal(session(w, &w->alice).namespaces[0].candidates_n, 3);
    world_stored(w, ATTIC, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin evacuate hq");
    assert_int_equal(replicas(w, HQ, &others), 0);
}

static void who_has_no_other_is_named_and_stays(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    size_t others;
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    char *text = world_command(w, &world_admin, 1, "admin evacuate hq");
    assert_non_null(strstr(text, "alice has no other block server"));
    assert_false(session(w, &w->alice).namespaces[0].candidates[0].leaving); /* still written to */
    world_command(w, &world_admin, 6, "admin evacuate hq --to cloud,attic");
    assert_int_equal(session(w, &w->alice).namespaces[0].candidates_n, 3);
    world_stored(w, ATTIC, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin evacuate hq");
    assert_int_equal(replicas(w, HQ, &others), 0);
    /* all premises at once: nobody is left to go to */
    text = world_command(w, &world_admin, 1, "admin evacuate cloud --to attic,hq");
    assert_non_null(strstr(text, "being evacuated"));
}

/* A machine that is gone is recorded to have all it had: that is no other copy. */
static void who_is_silent_is_no_copy(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    size_t others;
    char line[64];
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin unassign bob hq");
    w->now += 72000;
    world_beat(w, HQ, NULL, 0);
    snprintf(line, sizeof line, "admin server drain %llu", (unsigned long long)w->server[HQ]);
    char *text = world_command(w, &world_admin, 0, line);
    expect_text(text, "leaves 1 namespaces when others have what it has");
    expect_text(text, "(cloud) was last heard of 72 s ago: what it is recorded to have does not");
    assert_int_equal(replicas(w, HQ, &others), 1); /* nor is it let go by the way */
    expect_text(world_command(w, &world_admin, 6, "admin evacuate hq"), "was last heard of 72 s");
    world_command(w, &world_admin, 0, "admin evacuate hq --cancel");
    expect_text(world_command(w, &world_admin, 0, "admin unassign alice hq"), "last heard of 72 s");
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)w->server[HQ]);
    world_command(w, &world_admin, 1, line);
    world_beat(w, CLOUD, NULL, 0);
    assert_int_equal(replicas(w, HQ, &others), 0);
    world_command(w, &world_admin, 0, line);
}

/* A calendar that was set back makes nobody's last report one of now. */
static void a_report_of_a_time_to_come_is_none(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    size_t others;
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    w->now -= 3 * 3600 * 1000;
    world_beat(w, HQ, NULL, 0);
    char *text = world_command(w, &world_admin, 0, "admin unassign alice hq");
    expect_text(text, "(cloud) was last heard of 10800 s ago");
    assert_int_equal(replicas(w, HQ, &others), 1);
    w->now += 3600 * 1000;
    world_beat(w, HQ, NULL, 0);
    assert_int_equal(replicas(w, HQ, &others), 1);
    world_beat(w, CLOUD, NULL, 0);
    assert_int_equal(replicas(w, HQ, &others), 0);
}

/* What is being evacuated may also be left by one namespace, ahead of the others. */
static void who_goes_may_be_left(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    size_t others;
    world_command(w, &world_admin, 6, "admin evacuate hq");
    world_command(w, &world_admin, 0, "admin unassign alice hq");
    assert_int_equal(replicas(w, HQ, &others), 1); /* as carefully as ever */
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    world_command(w, &world_admin, 0, "admin unassign alice hq");
    assert_int_equal(replicas(w, HQ, &others), 0);
    world_command(w, &world_admin, 0, "admin unassign alice hq"); /* there is nothing to leave */
    world_command(w, &world_admin, 1, "admin unassign alice mars");
    world_command(w, &world_admin, 1, "admin assign alice hq");
}

static void who_knows_better_may_force_it(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    size_t others;
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 0);
    w->now += 72000;
    world_beat(w, HQ, NULL, 0);
    expect_text(world_command(w, &world_admin, 0, "admin unassign alice hq --force"),
                "alice is still on the disk of block server 1 (hq): 100 bytes in 1 blocks");
    assert_int_equal(replicas(w, HQ, &others), 0);
    /* what is recorded to be nowhere else does not go with force either */
    world_command(w, &world_admin, 0, "admin assign alice hq attic");
    world_beat(w, ATTIC, NULL, 0);
    world_make_block(w, "b");
    expect_text(world_command(w, &world_admin, 6, "admin evacuate hq --force"), "2 blocks");
}

/* Waiting clients are woken by what a command changed, however it ended, and by nothing else. */
static void what_was_changed_is_told(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *line;
        unsigned status;
        bool unchanged;
    } cases[] = {
        {"admin unassign alice cloud", 0, false},
        {"admin evacuate hq", 1,
         false}, /* alice stays, bob's goes; and nothing is assigned there */
        {"admin evacuate hq", 1, true},
        {"admin evacuate mars", 1, true},
        {"admin unassign alice mars", 1, true},
        {"admin evacuate hq --cancel", 0, false},
        {"admin rotate-key", 0, false},
        {"admin nonsense", 2, true},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct m_word words[8];
        struct m_command_req q = {.words = words};
        struct m_command_ans a;
        char *copy = arena_str(&w->ar, bytes_str(cases[k].line)), *save = NULL;
        for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
            words[q.words_n++].text = bytes_str(t);
        assert_int_equal(meta_command(w->m, &world_admin, &q, w->now, &a, &w->ar), 0);
        if (a.exit_status != cases[k].status || a.unchanged != cases[k].unchanged)
            fail_msg("%s: %u, unchanged %d: %s", cases[k].line, (unsigned)a.exit_status,
                     a.unchanged, arena_str(&w->ar, a.text));
    }
}

/* Progress is exact however much is left; a block that several commits wait for is one. */
static void what_is_left_is_counted_whole(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    expect_committed(world_commit_with(w, &b, "again", HQ, WORLD_NO_RECEIPT));
    expect_text(world_command(w, &world_admin, 6, "admin evacuate hq"), "others lack 1 blocks");
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint64_t k = 0; k < 5000; k++) {
        struct block_id more = world_block(w);
        assert_int_equal(w->m->st->ops->block_put(w->m->st, w->alice.ns, &more, 300, 2), 0);
        assert_int_equal(w->m->st->ops->lack_put(w->m->st, w->alice.ns, w->server[CLOUD], &more, 2),
                         0);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    expect_text(world_command(w, &world_admin, 6, "admin evacuate hq"),
                "others lack 5001 blocks, 1500100 bytes");
}

/* ---- what is left behind -------------------------------------------------------------------- */
static struct m_where_disk disk_of(struct world *w, int s)
{
    struct m_where_req q = {.ns = w->alice.ns};
    struct m_where_ans a;
    assert_int_equal(meta_where(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    for (size_t k = 0; k < a.disks_n; k++)
        if (a.disks[k].server == w->server[s])
            return a.disks[k];
    return (struct m_where_disk){0};
}

static void collect_garbage(struct world *w)
{
    struct meta_gc_sums sums = {0};
    for (bool more = true; more;) {
        more = false;
        assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0);
    }
}

/* It is told until when what is left lies there; then the server is told to remove it. */
static void what_is_left_behind_is_told_and_removed(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    world_make_block(w, "a of hq");
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 7);
    struct m_where_disk d = disk_of(w, CLOUD);
    assert_true(d.blocks == 1 && d.bytes == 100 && !d.left && !d.until_ms);
    assert_int_equal(disk_of(w, HQ).bytes, 200);
    char *text = world_command(w, &world_admin, 0, "admin unassign alice cloud");
    expect_text(text,
                "alice is still on the disk of block server 2 (cloud): 100 bytes in 1 blocks");
    uint64_t until = (uint64_t)w->now + GC_GRACE_MS;
    d = disk_of(w, CLOUD);
    assert_true(d.blocks == 1 && d.bytes == 100 && d.left && d.until_ms == until && !d.silent);
    text = world_command(w, &world_admin, 0, "admin onsite alice hq");
    expect_text(text, "(cloud): 100 bytes in 1 blocks, to be removed from ");
    text = world_command(w, &world_admin, 0, "admin onsite alice");
    expect_text(text, "hq\nalice is still on the disk of block server 2 (cloud)");
    w->now += GC_GRACE_MS;
    collect_garbage(w);
    assert_int_equal(disk_of(w, CLOUD).blocks, 1);
    w->now++;
    collect_garbage(w); /* who would have to give it is silent: it may be the only one left */
    d = disk_of(w, CLOUD);
    assert_true(d.blocks == 1 && d.silent && d.until_ms == until + GC_GRACE_MS + 1);
    w->now += GC_GRACE_MS + 1;
    world_beat(w, HQ, NULL, 0);
    collect_garbage(w);
    d = disk_of(w, CLOUD);
    assert_true(!d.blocks && d.removing == 1 && d.left);
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(world_beat(w, CLOUD, NULL, 0).collect, 1);
    text = world_command(w, &world_admin, 0, "admin onsite alice");
    expect_text(text, "(cloud): 1 blocks are being removed");
    struct m_collect_req q = {.incarnation = bytes_of(w->incarnation[CLOUD], 16), .generation = 9};
    struct m_collect_ans a;
    assert_int_equal(meta_collect(w->m, &w->server_who[CLOUD], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.blocks_n, 1);
    q.done = a.blocks;
    q.done_n = 1;
    assert_int_equal(meta_collect(w->m, &w->server_who[CLOUD], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(disk_of(w, CLOUD).server, 0);
    collect_garbage(w);
    assert_string_equal(world_command(w, &world_admin, 0, "admin onsite alice"), "hq\n");
}

/* Assigned again, nothing is removed; and a server that is struck off is not waited for. */
static void what_is_left_behind_counts_again(void **state)
{
    struct world *w = *state;
    struct block_id b = world_make_block(w, "a");
    char line[64];
    world_stored(w, CLOUD, w->alice.ns, &b, 100, 7);
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    world_command(w, &world_admin, 0, "admin assign alice cloud");
    w->now += 3 * GC_GRACE_MS;
    world_beat(w, HQ, NULL, 0);
    world_beat(w, CLOUD, NULL, 0);
    collect_garbage(w);
    struct m_where_disk d = disk_of(w, CLOUD);
    assert_true(d.blocks == 1 && !d.left);
    assert_int_equal(world_holders(w, &b), 2);
    expect_text(
        world_command(w, &world_admin, 0, "admin evacuate cloud"),
        "still on the disk of block server 2 (cloud): 1 blocks, 100 bytes; the last of them");
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)w->server[CLOUD]);
    expect_text(world_command(w, &world_admin, 0, line),
                "1 blocks and 100 bytes that are known of");
    assert_int_equal(disk_of(w, CLOUD).server, 0);
    collect_garbage(w);
    assert_int_equal(world_holders(w, &b), 1);
}

/* ---- the version before --------------------------------------------------------------------- */
static void a_database_of_version_2_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {{1, sql_schema}, {2, sql_2}};
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 2, false, w->why), 0);
    assert_int_equal(
        sqlite3_exec(db,
                     "INSERT INTO server VALUES (1, 'hq', 'u', x'', x'', 1, zeroblob(16), 3, 0, 0, "
                     "0, 0), (2, 'cloud', 'v', x'', x'', 1, zeroblob(16), 1, 0, 0, 0, 0);"
                     "INSERT INTO namespace (id, name, root, head) VALUES (1, 'n', 5, 7);"
                     "INSERT INTO assignment (ns, server, priority) VALUES (1, 1, 0), (1, 2, 1);",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    struct meta_options o = {.path = path};
    struct meta *m;
    assert_int_equal(meta_open(&m, &o, w->why), 0);
    struct server_row *v;
    size_t n;
    assert_int_equal(meta_change_begin(m), 0);
    assert_int_equal(m->st->ops->assigned(m->st, 1, &v, &n, &w->ar), 0);
    assert_int_equal(n, 2);
    assert_false(v[0].evacuating);
    assert_int_equal(v[1].priority, 1);
    struct bytes hq = bytes_str("hq");
    assert_int_equal(m->st->ops->onsite_set(m->st, 1, &hq, 1), 0);
    assert_int_equal(m->st->ops->assigned(m->st, 1, &v, &n, &w->ar), 0);
    assert_int_equal(n, 1);
    assert_int_equal(v[0].id, 1);
    assert_int_equal(meta_change_end(m, 0), 0);
    meta_close(m);
    for (size_t k = 0; k < 3; k++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", path, k == 0 ? "" : k == 1 ? "-wal" : "-shm");
        remove(name);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_operator_cannot_bring_it_out),
        TEST(a_row_made_by_hand_leads_nowhere),
        TEST(ranks_can_be_equal),
        TEST(words_that_name_no_premises_are_refused),
        TEST(all_goes_to_others),
        TEST(copies_hold_it_back),
        TEST(fewer_than_the_copies_never_stay),
        TEST(who_has_no_other_is_named_and_stays),
        TEST(who_is_silent_is_no_copy),
        TEST(a_report_of_a_time_to_come_is_none),
        TEST(who_goes_may_be_left),
        TEST(who_knows_better_may_force_it),
        TEST(what_was_changed_is_told),
        TEST(what_is_left_is_counted_whole),
        TEST(what_is_left_behind_is_told_and_removed),
        TEST(what_is_left_behind_counts_again),
        TEST(a_database_of_version_2_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
