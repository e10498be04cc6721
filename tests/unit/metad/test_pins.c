// SPDX-License-Identifier: Apache-2.0
/* Which keys a block server may show: what is told of them, and how they change. */
#include "world.h"

#include <errno.h>
#include <string.h>

#include "pins.h"

#define OVERLAP_MS (15 * 60 * 1000)

static struct bytes pin(struct world *w, char c)
{
    uint8_t v[PIN_LEN];
    memset(v, c, sizeof v);
    return arena_bytes(&w->ar, v, sizeof v);
}

/* hq beats, shows the key, and has a request for the key `next` with it; 0: none. */
static struct m_beat_ans beat(struct world *w, char shown, char next)
{
    struct meta_caller who = w->server_who[HQ];
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1")};
    struct m_beat_ans a;
    if (shown)
        q.pin = pin(w, shown);
    if (next) {
        q.csr = bytes_str("request");
        who.pin = pin(w, next);
        who.certificate = bytes_str("certificate");
    }
    assert_int_equal(meta_beat(w->m, &who, &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

static void expect_pins(const struct m_server *v, size_t n, uint64_t server, const char *want)
{
    size_t k = 0;
    while (k < n && v[k].id != server)
        k++;
    assert_true(k < n);
    char got[8] = "";
    for (size_t i = 0; i < v[k].pins_n; i++) {
        assert_int_equal(v[k].pins[i].sha256.n, PIN_LEN);
        got[i] = (char)v[k].pins[i].sha256.p[PIN_LEN - 1];
    }
    assert_string_equal(got, want);
}

/* What devices and the other block servers are told of hq's keys. */
static void told(struct world *w, const char *want)
{
    struct m_session_req q = {
        .incarnation = bytes_of(w->alice.incarnation, 16), .requests_used = 100, .nodes_used = 100};
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    expect_pins(a.servers, a.servers_n, w->server[HQ], want);
    struct m_replicas_ans r;
    assert_int_equal(meta_replicas(w->m, &w->server_who[CLOUD], &(struct m_replicas_req){0}, w->now,
                                   &r, &w->ar, w->why),
                     0);
    expect_pins(r.servers, r.servers_n, w->server[HQ], want);
}

/* Rises when devices are to ask for a session. */
static uint64_t version(struct world *w)
{
    uint64_t v;
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &v), 0);
    return v;
}

static void the_key_of_the_join_counts(void **state)
{
    struct world *w = *state;
    char *token = world_command(w, &world_admin, 0, "admin server add hq");
    token[strcspn(token, "\n")] = 0;
    struct m_join_req q = {.token = bytes_str(token),
                           .url = bytes_str("https://localhost:2"),
                           .incarnation = bytes_of(w->incarnation[HQ], 16)};
    struct m_join_ans a;
    struct meta_caller who = {.pin = pin(w, 'j'), .certificate = bytes_str("certificate")};
    assert_int_equal(meta_join(w->m, &who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_true(bytes_equal(a.certificate, bytes_str("certificate")));
    assert_int_equal(meta_authenticate(w->m, arena_str(&w->ar, a.credential), &w->server_who[HQ]),
                     0);
    w->server[HQ] = a.server;
    char line[64];
    snprintf(line, sizeof line, "admin server drain 1 --force");
    world_command(w, &world_admin, 0, line);
    world_command(w, &world_admin, 0, "admin assign alice hq cloud");
    told(w, "j");
    beat(w, 0, 0); /* one that does not tell */
    told(w, "j");
    beat(w, 'x', 0); /* one that shows another key says so, and that is all */
    told(w, "j");
    expect_text(world_command(w, &world_admin, 0, "admin server list"),
                "shows another TLS key than the one it joined with");
    beat(w, 'x', 'y'); /* nor does a request change anything that nobody ordered */
    told(w, "j");
    beat(w, 'j', 0);
    assert_null(strstr(world_command(w, &world_admin, 0, "admin server list"), "another TLS key"));
}

static void one_that_joined_before_tells_its_key(void **state)
{
    struct world *w = *state;
    told(w, "");
    assert_false(beat(w, 0, 0).rekey);
    expect_text(world_command(w, &world_admin, 1, "admin server rekey 1"), "does not tell");
    uint64_t before = version(w);
    beat(w, 'a', 0);
    assert_true(version(w) > before);
    told(w, "a");
    before = version(w);
    beat(w, 'b', 0); /* only the first one is believed */
    told(w, "a");
    assert_true(version(w) == before);
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1"),
                           .pin = bytes_str("short")};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), -EBADMSG);
}

static void a_key_changes_while_both_are_good(void **state)
{
    struct world *w = *state;
    beat(w, 'a', 0);
    expect_text(world_command(w, &world_admin, 0, "admin server rekey 1"), "900 s");
    expect_text(world_command(w, &world_admin, 1, "admin server rekey 1"), "already");
    expect_text(world_command(w, &world_admin, 0, "admin server list"), "being changed: ordered");
    struct m_beat_ans a = beat(w, 'a', 0);
    assert_true(a.rekey && !a.certificate.n && !a.use_pin.n);
    told(w, "a");
    uint64_t before = version(w);
    a = beat(w, 'a', 'b');
    assert_true(!a.rekey && a.certificate.n && !a.use_pin.n);
    assert_true(version(w) > before);
    told(w, "ab");
    a = beat(w, 'a', 'b'); /* the answer was lost */
    assert_true(!a.rekey && a.certificate.n);
    a = beat(w, 'a', 'c'); /* another one is not what was taken */
    assert_true(!a.rekey && !a.certificate.n);
    told(w, "ab");
    expect_text(world_command(w, &world_admin, 0, "admin server list --json"), "\"rekey\": true");
    w->now += OVERLAP_MS - 1;
    a = beat(w, 'a', 0);
    assert_int_equal(a.use_pin.n, 0);
    w->now += 1;
    a = beat(w, 'a', 0);
    assert_true(bytes_equal(a.use_pin, pin(w, 'b')));
    told(w, "ab");
    a = beat(w, 'b', 0);
    assert_int_equal(a.use_pin.n, 0);
    told(w, "b");
    beat(w, 'a', 0); /* the old one is good no more */
    told(w, "b");
}

static void an_order_ends(void **state)
{
    struct world *w = *state;
    beat(w, 'a', 0);
    world_command(w, &world_admin, 0, "admin server rekey 1");
    w->now += REKEY_ORDER_MS - 1;
    assert_true(beat(w, 'a', 0).rekey);
    w->now += 1;
    struct m_beat_ans a = beat(w, 'a', 'b');
    assert_true(!a.rekey && !a.certificate.n);
    told(w, "a");
    world_command(w, &world_admin, 0, "admin server rekey 1 --overlap 0");
    a = beat(w, 'a', 'b'); /* at once */
    assert_true(a.certificate.n && bytes_equal(a.use_pin, pin(w, 'b')));
    told(w, "ab");
    world_command(w, &world_admin, 0, "admin server rekey 1 --cancel");
    told(w, "a");
    a = beat(w, 'a', 'b');
    assert_true(!a.rekey && !a.certificate.n && !a.use_pin.n);
    world_command(w, &world_admin, 2, "admin server rekey 1 --overlap soon");
    world_command(w, &world_admin, 2, "admin server rekey hq");
    world_command(w, &world_admin, 1, "admin server rekey 99");
}

/* A request that no certificate may be given for ends the order, or it would come for ever. */
static void a_request_that_is_refused_ends_the_order(void **state)
{
    struct world *w = *state;
    beat(w, 'a', 0);
    world_command(w, &world_admin, 0, "admin server rekey 1");
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1"),
                           .pin = pin(w, 'a'),
                           .csr = bytes_str("request")};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_true(!a.rekey && !a.certificate.n && !a.use_pin.n);
    told(w, "a");
    assert_false(beat(w, 'a', 0).rekey);
}

/* Its directory is one of before the change: nobody talks to it, so nobody has to be told first. */
static void one_that_shows_neither_changes_at_once(void **state)
{
    struct world *w = *state;
    beat(w, 'b', 0);
    beat(w, 'a', 0);
    world_command(w, &world_admin, 0, "admin server rekey 1");
    assert_true(beat(w, 'a', 0).rekey);
    struct m_beat_ans a = beat(w, 'a', 'c');
    assert_true(bytes_equal(a.use_pin, pin(w, 'c')));
    told(w, "bc");
    beat(w, 'c', 0);
    told(w, "c");
}

static void a_database_of_version_11_is_brought_up(void **state)
{
    struct world *w = *state;
    sqlite3 *db;
    meta_close(w->m);
    w->m = NULL;
    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            VERSION_12
            "ALTER TABLE server DROP COLUMN pin; ALTER TABLE server DROP COLUMN pin_next;"
            "ALTER TABLE server DROP COLUMN shown; ALTER TABLE server DROP COLUMN rekey_ms;"
            "ALTER TABLE server DROP COLUMN rekey_overlap_ms;"
            "ALTER TABLE server DROP COLUMN tick; ALTER TABLE server DROP COLUMN unheard;"
            "ALTER TABLE server DROP COLUMN adopt;"
            "DELETE FROM migration WHERE version > 11",
            NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    world_reopen(w);
    told(w, ""); /* chain and name are all there is, as before */
    beat(w, 'a', 0);
    told(w, "a");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_key_of_the_join_counts),
        TEST(one_that_joined_before_tells_its_key),
        TEST(a_key_changes_while_both_are_good),
        TEST(an_order_ends),
        TEST(a_request_that_is_refused_ends_the_order),
        TEST(one_that_shows_neither_changes_at_once),
        TEST(a_database_of_version_11_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
