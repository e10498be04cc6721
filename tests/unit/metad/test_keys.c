// SPDX-License-Identifier: Apache-2.0
/* Keys that change while everything goes on, and capabilities that are taken back. */
#include "world.h"

#include <errno.h>
#include <string.h>

#include "2.sql.h"
#include "3.sql.h"
#include "blockid.h"
#include "keys.h"
#include "schema.sql.h"

static struct m_beat_ans beat(struct world *w, int s, const uint64_t *keys, size_t n)
{
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                           .url = bytes_str("https://localhost:1"),
                           .keys = (uint64_t *)keys,
                           .keys_n = n};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

/* The key id of the capability that alice gets for hq now. */
static uint64_t key_in_use(struct world *w)
{
    struct m_session_req q = {
        .incarnation = bytes_of(w->alice.incarnation, 16), .requests_used = 100, .nodes_used = 100};
    struct m_session_ans a;
    struct m_capability c;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    struct bytes token = a.namespaces[0].candidates[0].capability;
    assert_int_equal(
        msg_decode(&m_capability_desc, &c, token.p, token.n - 32, MSG_STRICT, &w->ar, NULL), 0);
    assert_int_equal(c.server, w->server[HQ]);
    return c.key_id;
}

/* A commit of a file with one block, whose receipt is signed with the key. */
static unsigned commit_with(struct world *w, const struct token_key *key, const char *name)
{
    struct plan p;
    struct block_id b = world_block(w);
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    plan_range(&p, plan_create(&p, node, NODE_REG), 0, 100, &b, 0);
    plan_id(&p, &b, 100);
    struct m_receipt r = world_receipt(w, w->alice.ns, &b, 100, HQ);
    plan_receipt(w, &p, &r, key);
    plan_entry(&p, w->alice.root, name, 0, 0, node);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    plan_free(&p);
    return (unsigned)a.status;
}

static struct token_key key_of(const struct m_beat_ans *a, uint64_t id)
{
    struct token_key key = {.id = id};
    for (size_t k = 0; k < a->keys_n; k++)
        if (a->keys[k].id == id)
            memcpy(key.key, a->keys[k].key.p, sizeof key.key);
    return key;
}

static void a_key_changes_in_three_steps(void **state)
{
    struct world *w = *state;
    static const uint64_t one[] = {1}, both[] = {1, 2}, two[] = {2};
    world_command(w, &world_admin, 0, "admin rotate-key 1");
    assert_non_null(strstr(world_command(w, &world_admin, 0, "admin rotate-key 1"), "already"));
    struct m_beat_ans a = beat(w, HQ, one, 1);
    assert_int_equal(a.keys_n, 2);
    struct token_key fresh = key_of(&a, 2);
    assert_memory_not_equal(fresh.key, w->key[HQ].key, sizeof fresh.key);
    assert_int_equal(key_in_use(w), 1); /* until it has come */
    a = beat(w, HQ, one, 1);            /* the answer was lost: the same again */
    struct token_key again = key_of(&a, 2);
    assert_memory_equal(fresh.key, again.key, sizeof fresh.key);
    assert_int_equal(commit_with(w, &fresh, "a"), COMMIT_COMMITTED); /* signed with it meanwhile */
    a = beat(w, HQ, both, 2);
    assert_int_equal(a.keys_n, 0);
    assert_int_equal(key_in_use(w), 2);
    assert_int_equal(commit_with(w, &fresh, "b"), COMMIT_COMMITTED);
    assert_int_equal(commit_with(w, &w->key[HQ], "c"), COMMIT_COMMITTED); /* receipts of before */
    struct token_key forged = {.id = 2, .key = {1}}, unknown = {.id = 3, .key = {1}};
    assert_int_equal(commit_with(w, &forged, "d"), COMMIT_MISSING);
    assert_int_equal(commit_with(w, &unknown, "d"), COMMIT_MISSING);
    assert_int_equal(beat(w, CLOUD, one, 1).keys_n, 0); /* its own business */
    world_reopen(w);
    w->now += GC_GRACE_MS / 2 - 1;
    assert_int_equal(commit_with(w, &w->key[HQ], "e"), COMMIT_COMMITTED);
    w->now += 2; /* the old one has ended */
    assert_int_equal(commit_with(w, &w->key[HQ], "f"), COMMIT_MISSING);
    a = beat(w, HQ, both, 2);
    assert_int_equal(a.keys_n, 1);
    assert_int_equal(a.keys[0].id, 2);
    assert_int_equal(beat(w, HQ, two, 1).keys_n, 0);
    assert_int_equal(commit_with(w, &fresh, "g"), COMMIT_COMMITTED);
}

static void an_exposed_key_ends_at_once(void **state)
{
    struct world *w = *state;
    static const uint64_t one[] = {1}, both[] = {1, 2}, all[] = {1, 2, 3};
    world_command(w, &world_admin, 0, "admin rotate-key 1");
    beat(w, HQ, one, 1);
    beat(w, HQ, both, 2);
    world_command(w, &world_admin, 0, "admin rotate-key 1 --at-once");
    struct m_beat_ans a = beat(w, HQ, both, 2);
    struct token_key fresh = key_of(&a, 3), second = key_of(&a, 2);
    assert_int_equal(a.keys_n, 2); /* until the new one has come; what was before ends now */
    a = beat(w, HQ, all, 3);
    assert_int_equal(a.keys_n, 1);
    assert_int_equal(a.keys[0].id, 3);
    assert_int_equal(key_in_use(w), 3);
    assert_int_equal(commit_with(w, &w->key[HQ], "a"), COMMIT_MISSING);
    assert_int_equal(commit_with(w, &second, "a"), COMMIT_MISSING);
    assert_int_equal(commit_with(w, &fresh, "a"), COMMIT_COMMITTED);
}

/* Nothing stands in the way of haste: not a change on its way, and not many before. */
static void haste_is_never_refused(void **state)
{
    struct world *w = *state;
    uint64_t has[16] = {1};
    size_t n = 1;
    for (; n < KEYS_MAX; n++) {
        world_command(w, &world_admin, 0, "admin rotate-key 1");
        has[n] = n + 1;
        beat(w, HQ, has, n + 1);
    }
    /* one that cannot have another does not keep the rest from having one */
    char *text = world_command(w, &world_admin, 1, "admin rotate-key");
    assert_non_null(strstr(text, "server 1 has had too many"));
    assert_non_null(strstr(text, "gets a new key"));
    text = world_command(w, &world_admin, 0, "admin server list");
    assert_non_null(strstr(text, "key 8\n"));
    assert_non_null(strstr(text, "key 1 (the next is pending)"));
    text = world_command(w, &world_admin, 0, "admin server list --json");
    assert_non_null(strstr(text, "\"key\": 8, \"key_pending\": false,"));
    assert_non_null(strstr(text, "\"key\": 1, \"key_pending\": true,"));
    world_command(w, &world_admin, 0, "admin rotate-key 1 --at-once");
    struct m_beat_ans a = beat(w, HQ, has, n);
    assert_int_equal(a.keys_n, 2); /* the one in use and the next */
    assert_int_equal(a.keys[0].id, 8);
    assert_int_equal(a.keys[1].id, 9);
    struct token_key fresh = key_of(&a, 9);
    a = beat(w, HQ, (uint64_t[]){8, 9}, 2);
    assert_int_equal(a.keys_n, 1);
    assert_int_equal(key_in_use(w), 9);
    /* a plain change is hurried on */
    world_command(w, &world_admin, 0, "admin rotate-key 1");
    text = world_command(w, &world_admin, 0, "admin rotate-key 1 --at-once");
    assert_non_null(strstr(text, "gets a new key"));
    a = beat(w, HQ, (uint64_t[]){9, 10}, 2);
    assert_int_equal(a.keys_n, 1);
    assert_int_equal(a.keys[0].id, 10);
    assert_int_equal(commit_with(w, &fresh, "a"), COMMIT_MISSING);
}

static void a_server_that_knows_nothing_of_it_goes_on(void **state)
{
    struct world *w = *state;
    world_command(w, &world_admin, 0, "admin rotate-key");
    for (int k = 0; k < 3; k++)
        assert_int_equal(beat(w, HQ, NULL, 0).keys_n, 0);
    assert_int_equal(key_in_use(w), 1);
}

static void keys_are_bounded(void **state)
{
    struct world *w = *state;
    uint64_t has[16] = {1};
    size_t n = 1;
    for (;;) {
        char *text = world_command(w, &world_admin, n < KEYS_MAX ? 0 : 1, "admin rotate-key 1");
        if (n == KEYS_MAX) {
            assert_non_null(strstr(text, "too many"));
            break;
        }
        has[n] = n + 1;
        n++;
        struct m_beat_ans a = beat(w, HQ, has, n - 1);
        assert_int_equal(a.keys_n, n);
        beat(w, HQ, has, n);
    }
    assert_int_equal(key_in_use(w), KEYS_MAX);
    w->now += GC_GRACE_MS / 2 + 1; /* the old ones have ended, and make room */
    assert_int_equal(beat(w, HQ, has, n).keys_n, 1);
    world_command(w, &world_admin, 0, "admin rotate-key 1");
    world_command(w, &world_admin, 2, "admin rotate-key hq");
    world_command(w, &world_admin, 1, "admin rotate-key 99");
}

static int count_questions(unsigned kind, void *count, void *stmt, void *text)
{
    (void)kind, (void)text;
    *(size_t *)count += strstr(sqlite3_sql(stmt), "FROM server_key") != NULL;
    return 0;
}

/* Whoever sends receipts says what they are signed with: that costs one look a commit. */
static void keys_are_looked_up_once_a_commit(void **state)
{
    struct world *w = *state;
    struct plan p;
    struct token_key unknown = {.id = 77, .key = {1}};
    size_t questions = 0;
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    struct m_node_change *n = plan_create(&p, node, NODE_REG);
    for (uint64_t k = 0; k < 20; k++) {
        struct block_id b = world_block(w);
        plan_range(&p, n, k * 100, 100, &b, 0);
        plan_id(&p, &b, 100);
        struct m_receipt r = world_receipt(w, w->alice.ns, &b, 100, HQ);
        plan_receipt(w, &p, &r, &unknown);
    }
    plan_entry(&p, w->alice.root, "a", 0, 0, node);
    sqlite3_trace_v2(((struct sq *)w->m->st)->db, SQLITE_TRACE_STMT, count_questions, &questions);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    sqlite3_trace_v2(((struct sq *)w->m->st)->db, 0, NULL, NULL);
    plan_free(&p);
    assert_int_equal(a.status, COMMIT_MISSING);
    assert_int_equal(a.missing_n, 20);
    assert_int_equal(questions, 1);
}

/* ---- taken back ----------------------------------------------------------------------------- */
static const struct m_revoked *find(const struct m_beat_ans *a, uint64_t ns, uint64_t account,
                                    uint64_t peer)
{
    for (size_t k = 0; k < a->revoked_n; k++)
        if (a->revoked[k].ns == ns && a->revoked[k].account == account &&
            a->revoked[k].peer == peer)
            return &a->revoked[k];
    return NULL;
}

static uint64_t ns_named(struct world *w, const char *name)
{
    struct ns_row row;
    assert_int_equal(meta_read_begin(w->m), 0);
    assert_int_equal(w->m->st->ops->ns_find(w->m->st, bytes_str(name), &row, &w->ar), 0);
    assert_int_equal(meta_read_end(w->m, 0), 0);
    return row.id;
}

static struct m_beat_ans beat_marked(struct world *w, int s, struct bytes mark)
{
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                           .url = bytes_str("https://localhost:1"),
                           .revoked_mark = mark};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

/* Who has all of it durably is told only when it is something else. */
static void what_is_revoked_is_told_when_it_changes(void **state)
{
    struct world *w = *state;
    struct m_beat_ans none = beat_marked(w, HQ, (struct bytes){0});
    assert_int_equal(none.revoked_mark.n, 32);
    world_command(w, &w->alice.who, 0, "namespace create team");
    world_command(w, &w->alice.who, 0, "share team bob editor");
    world_command(w, &w->alice.who, 0, "share team bob none");
    struct m_beat_ans a = beat_marked(w, HQ, none.revoked_mark);
    assert_int_equal(a.revoked_n, 1);
    assert_memory_not_equal(a.revoked_mark.p, none.revoked_mark.p, 32);
    assert_int_equal(beat_marked(w, HQ, none.revoked_mark).revoked_n, 1); /* it was not kept */
    struct m_beat_ans again = beat_marked(w, HQ, a.revoked_mark);
    assert_int_equal(again.revoked_n, 0);
    assert_memory_equal(again.revoked_mark.p, a.revoked_mark.p, 32);
    char line[64];
    snprintf(line, sizeof line, "admin device revoke %llu", (unsigned long long)w->bob.who.device);
    world_command(w, &world_admin, 0, line);
    again = beat_marked(w, HQ, a.revoked_mark);
    assert_int_equal(again.revoked_devices_n, 1);
    assert_true(again.revoked_n >= 1); /* what was told before, too */
    assert_int_equal(beat_marked(w, HQ, again.revoked_mark).revoked_devices_n, 0);
}

static void a_member_who_goes_takes_nothing_along(void **state)
{
    struct world *w = *state;
    world_command(w, &w->alice.who, 0, "namespace create team");
    uint64_t team = ns_named(w, "team"), bob = w->bob.who.account;
    world_command(w, &w->alice.who, 0, "share team bob viewer");
    world_command(w, &w->alice.who, 0, "share team bob editor"); /* more: nothing is taken */
    assert_int_equal(beat(w, HQ, NULL, 0).revoked_n, 0);
    world_command(w, &w->alice.who, 0, "share team bob viewer");
    struct m_beat_ans a = beat(w, HQ, NULL, 0);
    assert_int_equal(a.revoked_n, 1);
    assert_non_null(find(&a, team, bob, 0));
    assert_int_equal(find(&a, team, bob, 0)->until_ms, w->now + CAPABILITY_MS);
    w->now += 1000;
    world_command(w, &w->alice.who, 0, "share team bob none");
    a = beat(w, CLOUD, NULL, 0);
    assert_int_equal(a.revoked_n, 1);
    assert_int_equal(find(&a, team, bob, 0)->until_ms, w->now + CAPABILITY_MS);
    world_reopen(w);
    assert_int_equal(beat(w, CLOUD, NULL, 0).revoked_n, 1);
    w->now += (int64_t)REVOKED_KEPT_MS + 1; /* nothing of then is honoured any more */
    world_command(w, &w->alice.who, 0, "share team bob editor");
    world_command(w, &w->alice.who, 0, "share team bob none");
    a = beat(w, CLOUD, NULL, 0);
    assert_int_equal(a.revoked_n, 1);
    assert_int_equal(find(&a, team, bob, 0)->until_ms, w->now + CAPABILITY_MS);
}

static void what_left_a_server_is_closed_there(void **state)
{
    struct world *w = *state;
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    struct m_beat_ans a = beat(w, CLOUD, NULL, 0);
    assert_non_null(find(&a, w->alice.ns, 0, 0));
    a = beat(w, HQ, NULL, 0); /* it stays there, but what cloud had for it is good no longer */
    assert_null(find(&a, w->alice.ns, 0, 0));
    assert_non_null(find(&a, w->alice.ns, 0, w->server[CLOUD]));
    assert_true(find(&a, w->alice.ns, 0, w->server[CLOUD])->until_ms >=
                (uint64_t)w->now + CAPABILITY_MS);
    world_command(w, &world_admin, 0, "admin unassign bob cloud");
    char line[64];
    snprintf(line, sizeof line, "admin server remove %llu", (unsigned long long)w->server[CLOUD]);
    world_command(w, &world_admin, 0, line);
    a = beat(w, HQ, NULL, 0); /* what the removed server had for others */
    assert_non_null(find(&a, 0, 0, w->server[CLOUD]));
}

/* However many there are, none is dropped: those of a namespace become one that refuses more. */
static void many_become_one_and_none_is_lost(void **state)
{
    struct world *w = *state;
    struct sq *sq = (struct sq *)w->m->st;
    uint64_t ns = w->alice.ns, last = 0;
    assert_int_equal(meta_change_begin(w->m), 0);
    assert_int_equal(keys_revoke(w->m, w->bob.ns, 5, 0, w->now), 0);
    for (uint64_t k = 1; k <= 300; k++)
        assert_int_equal(keys_revoke(w->m, ns, k, 0, w->now), 0);
    assert_int_equal(meta_change_end(w->m, 0), 0);
    struct m_beat_ans a = beat(w, HQ, NULL, 0);
    assert_true(a.revoked_n < 256);
    assert_non_null(find(&a, w->bob.ns, 5, 0));
    assert_non_null(find(&a, ns, 0, 0)); /* of the first ones */
    assert_non_null(find(&a, ns, 300, 0));
    assert_true(find(&a, ns, 0, 0)->until_ms >= (uint64_t)w->now + CAPABILITY_MS);
    last = find(&a, ns, 300, 0)->until_ms;
    assert_int_equal(
        sqlite3_exec(sq->db,
                     "WITH k (x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM k WHERE x < 70000) "
                     "INSERT INTO revocation SELECT 1000 + x % 300, 1 + x / 300, 0, 0, x, "
                     "9000000000000 FROM k",
                     NULL, NULL, NULL),
        SQLITE_OK);
    a = beat(w, HQ, NULL, 0);
    assert_int_equal(a.revoked_n, 302);
    assert_non_null(find(&a, w->bob.ns, 0, 0));
    assert_int_equal(find(&a, ns, 0, 0)->until_ms, last);
    assert_int_equal(find(&a, 1000 + 70000 % 300, 0, 0)->until_ms, 70000);
}

/* The end of the capability that alice gets for hq now. */
static uint64_t sealed_until(struct world *w)
{
    struct m_session_req q = {
        .incarnation = bytes_of(w->alice.incarnation, 16), .requests_used = 100, .nodes_used = 100};
    struct m_session_ans a;
    struct m_capability c;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    struct bytes token = a.namespaces[0].candidates[0].capability;
    assert_int_equal(capability_open(&c, token, &w->key[HQ], &w->ar), 0);
    return c.expiry_ms;
}

static void a_clock_that_steps_back_lets_nobody_in(void **state)
{
    struct world *w = *state;
    uint64_t held = sealed_until(w);
    w->now -= 3600000; /* the machine's clock was an hour ahead */
    world_reopen(w);
    world_command(w, &world_admin, 0, "admin unassign alice cloud");
    struct m_beat_ans a = beat(w, HQ, NULL, 0);
    const struct m_revoked *v = find(&a, w->alice.ns, 0, w->server[CLOUD]);
    assert_non_null(v);
    assert_true(v->until_ms >= held);
    assert_true(sealed_until(w) > v->until_ms); /* and what is given from then on is good */
    w->now += 7200000;
    assert_int_equal(sealed_until(w), w->now + CAPABILITY_MS);
}

/* ---- the version before --------------------------------------------------------------------- */
static void a_database_of_version_3_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {{1, sql_schema}, {2, sql_2}, {3, sql_3}};
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 3, false, w->why), 0);
    assert_int_equal(sqlite3_exec(db,
                                  "INSERT INTO server VALUES (1, 'hq', 'u', x'', zeroblob(32), 7, "
                                  "zeroblob(16), 3, 0, 0, 0, 0, 0)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    struct meta_options o = {.path = path};
    struct meta *m;
    struct key_row *v;
    size_t n;
    assert_int_equal(meta_open(&m, &o, w->why), 0);
    assert_int_equal(meta_change_begin(m), 0);
    assert_int_equal(keys_rotate(m, 1, false, &w->ar), 0);
    assert_int_equal(m->st->ops->key_list(m->st, 1, &v, &n, &w->ar), 0);
    assert_int_equal(n, 1);
    assert_int_equal(v[0].id, 8);
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
        TEST(a_key_changes_in_three_steps),
        TEST(an_exposed_key_ends_at_once),
        TEST(haste_is_never_refused),
        TEST(a_server_that_knows_nothing_of_it_goes_on),
        TEST(keys_are_bounded),
        TEST(a_member_who_goes_takes_nothing_along),
        TEST(what_left_a_server_is_closed_there),
        TEST(a_clock_that_steps_back_lets_nobody_in),
        TEST(many_become_one_and_none_is_lost),
        TEST(keys_are_looked_up_once_a_commit),
        TEST(what_is_revoked_is_told_when_it_changes),
        TEST(a_database_of_version_3_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
