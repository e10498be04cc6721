// SPDX-License-Identifier: Apache-2.0
/* Who may come in: credentials, login, sessions and their capabilities, join and beat. */
#include "world.h"

#include <errno.h>
#include <string.h>

static uint8_t other[16] = "another folder";

static struct m_session_ans session(struct world *w, struct user *u, const uint8_t incarnation[16],
                                    uint64_t requests, uint64_t nodes)
{
    struct m_session_req q = {
        .incarnation = bytes_of(incarnation, 16), .requests_used = requests, .nodes_used = nodes};
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &u->who, &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

static void the_assignment_table(void **state)
{
    struct world *w = *state;
    struct m_session_ans a = session(w, &w->alice, w->alice.incarnation, 0, 0);
    assert_false(a.cloned);
    assert_int_equal(a.device, w->alice.who.device);
    assert_true(bytes_equal(a.account, bytes_str("alice")));
    assert_true(bytes_equal(a.device_name, bytes_str("laptop")));
    assert_int_equal(a.root_ns, w->alice.ns);
    assert_int_equal(a.now_ms, w->now);
    assert_int_equal(a.renew_ms, CAPABILITY_MS / 2);
    assert_int_equal(a.namespaces_n, 1);
    const struct m_namespace *n = &a.namespaces[0];
    assert_int_equal(n->role, ROLE_OWNER);
    assert_int_equal(n->candidates_n, 2);
    assert_int_equal(a.servers_n, 2); /* attic is none of his business */
    for (size_t k = 0; k < 2; k++) {
        struct m_capability c;
        assert_int_equal(n->candidates[k].server, w->server[k]);
        assert_int_equal(n->candidates[k].priority, k);
        assert_int_equal(capability_open(&c, n->candidates[k].capability, &w->key[k], &w->ar), 0);
        assert_int_equal(c.server, w->server[k]);
        assert_int_equal(c.ns, w->alice.ns);
        assert_int_equal(c.device, w->alice.who.device);
        assert_int_equal(c.account, w->alice.who.account);
        assert_int_equal(c.rights, RIGHT_READ | RIGHT_WRITE);
        assert_int_equal(c.expiry_ms, w->now + CAPABILITY_MS);
        assert_int_equal(capability_open(&c, n->candidates[k].capability, &w->key[1 - k], &w->ar),
                         -EACCES);
    }
}

static void rights_follow_the_role(void **state)
{
    struct world *w = *state;
    struct m_capability c;
    world_command(w, &w->alice.who, 0, "namespace create team");
    world_command(w, &w->alice.who, 0, "share team bob viewer");
    struct m_session_ans a = session(w, &w->bob, w->bob.incarnation, 0, 0);
    assert_int_equal(a.namespaces_n, 2);
    assert_int_equal(a.namespaces[1].role, ROLE_VIEWER);
    assert_int_equal(
        capability_open(&c, a.namespaces[1].candidates[0].capability, &w->key[HQ], &w->ar), 0);
    assert_int_equal(c.rights, RIGHT_READ);
    world_command(w, &w->alice.who, 0, "share team bob editor");
    a = session(w, &w->bob, w->bob.incarnation, 0, 0);
    assert_int_equal(
        capability_open(&c, a.namespaces[1].candidates[0].capability, &w->key[HQ], &w->ar), 0);
    assert_int_equal(c.rights, RIGHT_READ | RIGHT_WRITE);
}

static void copies_are_found_out(void **state)
{
    struct world *w = *state;
    struct m_session_ans a = session(w, &w->alice, other, 0, 0);
    assert_true(a.cloned);
    assert_int_equal(a.namespaces_n, 0);
    assert_false(session(w, &w->alice, w->alice.incarnation, 0, 0).cloned);
    /* a restored backup: the right incarnation, but older counters */
    world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    world_make(w, &w->alice, w->alice.root, "g", NODE_REG, 0);
    assert_false(session(w, &w->alice, w->alice.incarnation, 2, 2).cloned);
    assert_false(session(w, &w->alice, w->alice.incarnation, 100, 100).cloned);
    assert_true(session(w, &w->alice, w->alice.incarnation, 1, 2).cloned);
    assert_true(session(w, &w->alice, w->alice.incarnation, 2, 1).cloned);
}

static bool cloned(struct world *w, uint64_t starts, uint64_t run)
{
    struct m_session_req q = {.incarnation = bytes_of(w->alice.incarnation, 16),
                              .requests_used = 100,
                              .nodes_used = 100,
                              .starts = starts,
                              .run = run};
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    return a.cloned;
}

/* Two that open copies of one directory say the same count, and cannot both be the one. */
static void openings_are_told_apart(void **state)
{
    struct world *w = *state;
    assert_false(cloned(w, 3, 7));
    assert_false(cloned(w, 3, 7)); /* the same one again */
    assert_true(cloned(w, 3, 8));
    assert_true(cloned(w, 2, 7));
    assert_false(cloned(w, 0, 0)); /* one that does not tell is judged by its numbers alone */
    assert_false(cloned(w, 3, 7)); /* who was refused has changed nothing */
    assert_false(cloned(w, 5, 9)); /* openings that did not reach the server */
    assert_true(cloned(w, 4, 7));
    assert_true(cloned(w, 3, 7));
}

static void sessions_are_for_devices(void **state)
{
    struct world *w = *state;
    struct m_session_ans a;
    struct m_session_req q = {.incarnation = bytes_of(other, 16)};
    assert_int_equal(meta_session(w->m, &world_admin, &q, w->now, &a, &w->ar, w->why), -EACCES);
    q.incarnation.n = 15;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), -EBADMSG);
}

/* ---- credentials ---- */
static char *token_of(struct world *w, const char *line)
{
    char *token = world_command(w, &world_admin, 0, line);
    token[strcspn(token, "\n")] = 0;
    return token;
}

static void a_token_works_once(void **state)
{
    struct world *w = *state;
    char *token = token_of(w, "admin account token alice");
    struct m_login_req q = {.account = bytes_str("alice"),
                            .token = bytes_str(token),
                            .device_name = bytes_str("phone")};
    struct m_login_ans a, b;
    struct meta_caller who;
    q.account = bytes_str("bob"); /* not his; it is not used up by that */
    assert_int_equal(meta_login(w->m, &q, w->now, &a, &w->ar, w->why), -EACCES);
    q.account = bytes_str("nobody");
    assert_int_equal(meta_login(w->m, &q, w->now, &a, &w->ar, w->why), -EACCES);
    q.account = bytes_str("alice");
    q.device_name = bytes_str("a/b");
    assert_int_equal(meta_login(w->m, &q, w->now, &a, &w->ar, w->why), -EINVAL);
    q.device_name = bytes_str("phone");
    assert_int_equal(meta_login(w->m, &q, w->now, &a, &w->ar, w->why), 0);
    assert_true(a.device > w->alice.who.device);
    assert_int_equal(meta_login(w->m, &q, w->now, &b, &w->ar, w->why), -EACCES);
    char *credential = arena_str(&w->ar, a.credential);
    assert_int_equal(meta_authenticate(w->m, credential, &who), 0);
    assert_int_equal(who.account, w->alice.who.account);
    assert_false(who.admin);
    assert_memory_equal(credential, "d.", 2);
    world_reopen(w);
    assert_int_equal(meta_authenticate(w->m, credential, &who), 0);
}

static void a_token_expires(void **state)
{
    struct world *w = *state;
    struct m_login_ans a;
    struct m_join_ans ja;
    struct m_login_req q = {.account = bytes_str("alice"),
                            .token = bytes_str(token_of(w, "admin account token alice")),
                            .device_name = bytes_str("phone")};
    int64_t late = w->now + (int64_t)TOKEN_DAYS_MS + 1;
    assert_int_equal(meta_login(w->m, &q, late, &a, &w->ar, w->why), -EACCES);
    assert_int_equal(meta_login(w->m, &q, late - 1, &a, &w->ar, w->why), 0);
    struct m_join_req j = {.token = bytes_str(token_of(w, "admin account token alice")),
                           .url = bytes_str("https://h:1"),
                           .incarnation = bytes_of(other, 16)};
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &j, w->now, &ja, &w->ar, w->why),
                     -EACCES); /* of another kind */
    j.token = bytes_str(token_of(w, "admin server add hq"));
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &j, late, &ja, &w->ar, w->why),
                     -EACCES);
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &j, w->now, &ja, &w->ar, w->why), 0);
    assert_true(bytes_equal(ja.premises, bytes_str("hq")));
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &j, w->now, &ja, &w->ar, w->why),
                     -EACCES);
}

static void wrong_credentials(void **state)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    struct world *w = *state;
    struct meta_caller who;
    char text[META_CREDENTIAL_MAX];
    static const char *const bad[] = {"",
                                      "d",
                                      "d.",
                                      "d.1",
                                      "d.1.",
                                      "x.1.%s",
                                      "d..%s",
                                      "d.1.%s",
                                      "d.99.%s",
                                      "s.1.%s",
                                      "a.1.%s",
                                      "d.-1.%s",
                                      "d.99999999999999999999.%s",
                                      "d. 1.%s",
                                      "d.1 .%s"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        const char *mark = strchr(bad[k], '%');
        snprintf(text, sizeof text, "%.*s%s", mark ? (int)(mark - bad[k]) : (int)strlen(bad[k]),
                 bad[k], mark ? zeros : "");
        assert_int_equal(meta_authenticate(w->m, text, &who), -EACCES);
        assert_int_equal(who.account + who.device + who.server + who.admin, 0);
    }
}

static void one_administrator_is_made(void **state)
{
    struct world *w = *state;
    char credential[META_CREDENTIAL_MAX];
    struct meta_caller who;
    assert_int_equal(meta_init(w->m, w->now, credential, w->why), -EEXIST);
    meta_close(w->m);
    char path[128], name[160];
    snprintf(path, sizeof path, "%s/other.db", w->dir);
    struct meta_options o = {.path = path};
    assert_int_equal(meta_open(&w->m, &o, w->why), 0);
    assert_int_equal(meta_init(w->m, w->now, credential, w->why), 0);
    assert_memory_equal(credential, "a.1.", 4);
    assert_int_equal(meta_authenticate(w->m, credential, &who), 0);
    assert_true(who.admin);
    static const char *const suffix[] = {"", "-wal", "-shm"};
    for (size_t k = 0; k < 3; k++) {
        snprintf(name, sizeof name, "%s%s", path, suffix[k]);
        remove(name);
    }
}

static void revoked_devices_are_out(void **state)
{
    struct world *w = *state;
    char line[64];
    char *token = token_of(w, "admin account token alice");
    struct m_login_req q = {.account = bytes_str("alice"),
                            .token = bytes_str(token),
                            .device_name = bytes_str("phone")};
    struct m_login_ans a;
    struct meta_caller who;
    struct m_beat_req b = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1")};
    struct m_beat_ans ba;
    assert_int_equal(meta_login(w->m, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(ba.revoked_devices_n, 0);
    assert_int_equal(ba.now_ms, w->now);
    assert_int_equal(ba.gc_grace_ms, GC_GRACE_MS);
    snprintf(line, sizeof line, "admin device revoke %llu", (unsigned long long)a.device);
    world_command(w, &world_admin, 0, line);
    assert_int_equal(meta_authenticate(w->m, arena_str(&w->ar, a.credential), &who), -EACCES);
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(ba.revoked_devices_n, 1);
    assert_int_equal(ba.revoked_devices[0], a.device);
    int64_t later = w->now + 8 * 24 * 3600 * 1000ll; /* no capability of it is honoured any more */
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, later, &ba, &w->ar, w->why), 0);
    assert_int_equal(ba.revoked_devices_n, 0);
    assert_int_equal(meta_beat(w->m, &w->alice.who, &b, w->now, &ba, &w->ar, w->why), -EACCES);
}

/* The time of day was a year ahead when something was sealed: what is sealed since ends then, and
 * who is revoked stays so until then. */
static void a_revoked_device_stays_out_whatever_the_calendar_did(void **state)
{
    struct world *w = *state;
    const int64_t day = 24 * 3600 * 1000ll;
    struct m_session_req q = {.incarnation = bytes_of(w->alice.incarnation, 16)};
    struct m_beat_req b = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1")};
    struct m_session_ans a;
    struct m_beat_ans ba;
    char line[64];
    const struct meta_caller *who = &w->alice.who;
    assert_int_equal(meta_session(w->m, who, &q, w->now + 365 * day, &a, &w->ar, w->why), 0);
    assert_false(a.cloned);
    snprintf(line, sizeof line, "admin device revoke %llu", (unsigned long long)who->device);
    world_command(w, &world_admin, 0, line);
    static const struct {
        int day;
        size_t n;
    } v[] = {{0, 1}, {8, 1}, {365, 1}, {380, 0}};
    for (size_t k = 0; k < sizeof v / sizeof *v; k++) {
        int64_t at = w->now + v[k].day * day;
        assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, at, &ba, &w->ar, w->why), 0);
        assert_int_equal(ba.revoked_devices_n, v[k].n);
    }
}

static void a_new_storage_is_a_new_generation(void **state)
{
    struct world *w = *state;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100), v1, v2;
    struct block_id id = world_extents(w, &w->alice, f, 0).extents[0].block;
    struct m_locate_req q = {.ns = w->alice.ns, .ids = &id, .ids_n = 1};
    struct m_locate_ans l;
    struct m_beat_req b = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1"),
                           .blocks = 5};
    struct m_beat_ans ba;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &l, &w->ar, w->why), 0);
    assert_int_equal(l.locations[0].servers_n, 1);
    b.incarnation = bytes_of(other, 16);
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &l, &w->ar, w->why), 0);
    assert_int_equal(l.locations[0].servers_n, 0);
    /* another address: everybody asks for a session again */
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &v1), 0);
    (void)meta_touched(w->m);
    b.url = bytes_str("https://localhost:2");
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &v2), 0);
    assert_true(v2 > v1);
    assert_true(meta_touched(w->m)); /* who waits for news is to look */
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_false(meta_touched(w->m));
    struct m_session_ans a = session(w, &w->alice, w->alice.incarnation, 1, 1);
    assert_true(bytes_equal(a.servers[0].url, bytes_str("https://localhost:2")));
}

static size_t holders_of(struct world *w, const struct block_id *id)
{
    struct m_locate_req q = {
        .ns = w->alice.ns, .ids = (struct block_id *)(uintptr_t)id, .ids_n = 1};
    struct m_locate_ans l;
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &l, &w->ar, w->why), 0);
    return l.locations[0].servers_n;
}

/* A block server that reports a block as lost is no longer asked for it, and a commit that needs it
 * is told that it is missing: those who have the bytes send them again. */
static void beat_that(struct world *w, bool distrusts)
{
    struct m_beat_ans a;
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1"),
                           .distrusts = distrusts};
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
}

/* A block server that reads too much that is wrong is named until it is well again. */
static void one_that_judges_nothing_is_named(void **state)
{
    struct world *w = *state;
    const char *text = "that its memory, its disk or a controller must be at fault";
    beat_that(w, false);
    assert_null(strstr(world_command(w, &world_admin, 0, "admin server list"), text));
    beat_that(w, true);
    beat_that(w, true);
    world_reopen(w);
    char *list = strstr(world_command(w, &world_admin, 0, "admin server list"), text);
    assert_non_null(list);
    assert_null(strstr(list + 1, text)); /* the other one is well */
    assert_non_null(strstr(world_command(w, &world_admin, 0, "admin server list --json"),
                           "\"distrusts\": true"));
    beat_that(w, false);
    assert_null(strstr(world_command(w, &world_admin, 0, "admin server list"), text));
}

static void a_lost_block_is_asked_for(void **state)
{
    struct world *w = *state;
    uint64_t f = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 100);
    uint64_t g = world_make(w, &w->alice, w->alice.root, "g", NODE_REG, 100);
    struct block_id id = world_extents(w, &w->alice, f, 0).extents[0].block;
    struct block_id kept = world_extents(w, &w->alice, g, 0).extents[0].block;
    struct m_lost lost[2] = {{.ns = w->alice.ns + 1000, .block = id}, {.block = id}};
    struct m_beat_req b = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1"),
                           .lost = lost,
                           .lost_n = 1};
    struct m_beat_ans ba;
    struct m_block_ref ref = {id, 100};
    struct m_diff_req d = {.ns = w->alice.ns, .target = w->server[HQ], .ids = &ref, .ids_n = 1};
    struct m_diff_ans da;
    /* lost for a namespace that never had it */
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(holders_of(w, &id), 1);
    /* another server's loss is not this one's */
    lost[1].ns = w->alice.ns;
    b.lost_n = 2;
    b.incarnation = bytes_of(w->incarnation[CLOUD], 16);
    assert_int_equal(meta_beat(w->m, &w->server_who[CLOUD], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(holders_of(w, &id), 1);
    b.incarnation = bytes_of(w->incarnation[HQ], 16);
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &b, w->now, &ba, &w->ar, w->why), 0);
    assert_int_equal(holders_of(w, &id), 0);
    assert_int_equal(holders_of(w, &kept), 1);
    assert_int_equal(meta_diff(w->m, &w->alice.who, &d, &da, &w->ar, w->why), 0);
    assert_int_equal(da.missing_n, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_assignment_table),
        TEST(rights_follow_the_role),
        TEST(copies_are_found_out),
        TEST(sessions_are_for_devices),
        TEST(openings_are_told_apart),
        TEST(a_token_works_once),
        TEST(a_token_expires),
        TEST(wrong_credentials),
        TEST(one_administrator_is_made),
        TEST(revoked_devices_are_out),
        TEST(a_revoked_device_stays_out_whatever_the_calendar_did),
        TEST(a_new_storage_is_a_new_generation),
        TEST(one_that_judges_nothing_is_named),
        TEST(a_lost_block_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
