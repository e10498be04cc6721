// SPDX-License-Identifier: Apache-2.0
/* The command lines of people: what each does, and the exit status and line of what goes wrong. */
#include "world.h"

#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

/* Fails with the status and one line. */
static void fails(struct world *w, const struct meta_caller *who, unsigned status, const char *line)
{
    const char *text = world_command(w, who, status, line);
    size_t n = strlen(text);
    assert_true(n > 10);
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
}

static struct m_session_ans session(struct world *w, struct user *u)
{
    struct m_session_req q = {.incarnation = bytes_of(u->incarnation, 16),
                              .requests_used = u->request,
                              .nodes_used = u->counter};
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &u->who, &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

static void usage_is_told(void **state)
{
    struct world *w = *state;
    static const char *const lines[] = {
        "",
        "admin",
        "admin account",
        "admin account add",
        "admin account add a b",
        "admin account add --frob x",
        "admin account add --no-token=3 x",
        "admin account add x --assign",
        "admin nonsense x",
        "admin quota alice --bytes many",
        "admin quota alice --bytes 99999999999999999999",
        "admin quota alice --bytes G",
        "admin quota alice --bytes 5GG",
        "admin quota alice --bytes 5g",
        "admin quota alice --bytes 9999999T",
        "admin quota alice --nodes 5K",
        "admin device revoke x",
    };
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++)
        fails(w, &world_admin, 2, lines[k]);
    fails(w, &w->alice.who, 2, "share a b");
    fails(w, &w->alice.who, 2, "namespace mount team");
    has(world_command(w, &world_admin, 2, "admin account"),
        "behind admin account comes one of add, token, list; see steadfs admin --help");
    has(world_command(w, &world_admin, 2, "admin server remov 1"),
        "add, list, rekey, drain, remove;");
    has(world_command(w, &world_admin, 2, "admin nonsense"), "see steadfs admin --help");
    has(world_command(w, &w->alice.who, 2, "namespace"),
        "behind namespace comes one of create, mount, unmount, list; see steadfs namespace --help");
    has(world_command(w, &world_admin, 2, "admin account list x"), "admin account list\n");
    fails(w, &world_admin, 2, "admin account list x x x x x x x x x x x x x x x x");
}

static void each_to_his_own(void **state)
{
    struct world *w = *state;
    fails(w, &w->alice.who, 5, "admin account list");
    fails(w, &w->alice.who, 5, "admin assign alice attic");
    fails(w, &world_admin, 5, "namespace list");
    fails(w, &w->server_who[HQ], 5, "admin account list");
    fails(w, &w->server_who[HQ], 5, "namespace list");
}

static void accounts(void **state)
{
    struct world *w = *state;
    char *text = world_command(w, &world_admin, 0, "admin account add carol");
    assert_int_equal(strlen(text), SECRET_LEN + 1); /* the token alone */
    has(world_command(w, &world_admin, 0, "admin account token carol --json"),
        "{\"account\": \"carol\", \"token\": \"");
    assert_string_equal(world_command(w, &world_admin, 0, "admin account list"),
                        "alice\nbob\ncarol\n");
    has(world_command(w, &world_admin, 0, "admin account list --json"), "\"name\": \"carol\"");
    fails(w, &world_admin, 1, "admin account add carol");
    fails(w, &world_admin, 1, "admin account add a/b");
    fails(w, &world_admin, 1, "admin account add -- -x");
    fails(w, &world_admin, 1, "admin account token nobody");
    fails(w, &world_admin, 1, "admin account add dave --assign nowhere");
    fails(w, &world_admin, 1, "admin account token dave"); /* nothing of it was kept */
    assert_string_equal(world_command(w, &world_admin, 0, "admin account add dave --no-token"), "");
    /* by default all block servers, in order of their ids */
    has(world_command(w, &world_admin, 0, "admin namespace list"), "hq,cloud,attic");
    has(world_command(w, &world_admin, 0, "admin device list alice"), "laptop");
    has(world_command(w, &world_admin, 0, "admin device list --json"), "\"account\": \"bob\"");
    fails(w, &world_admin, 1, "admin device list nobody");
    fails(w, &world_admin, 1, "admin device revoke 4711");
    world_command(w, &world_admin, 0, "admin device revoke 1");
    has(world_command(w, &world_admin, 0, "admin device list alice"), "revoked");
}

/* What is printed is the token alone; this is told beside it. */
static void an_account_without_a_block_server_is_told_of(void **state)
{
    struct world *w = *state;
    static const char *const lines[] = {"admin unassign alice hq cloud --force",
                                        "admin unassign bob hq cloud --force",
                                        "admin server remove 1", "admin server remove 2"};
    const char *const words[] = {"admin", "account", "add", "carol", "--no-token"};
    struct m_word word[5];
    struct m_command_req q = {.words = word, .words_n = 5};
    struct m_command_ans a;
    for (size_t k = 0; k < 5; k++)
        word[k].text = bytes_str(words[k]);
    for (size_t k = 0; k < 4; k++)
        world_command(w, &world_admin, 0, lines[k]);
    assert_int_equal(meta_command(w->m, &world_admin, &q, w->now, &a, &w->ar), 0);
    assert_int_equal(a.progress.n, 0); /* the third */
    world_command(w, &world_admin, 0, "admin unassign carol attic --force");
    world_command(w, &world_admin, 0, "admin server remove 3");
    word[3].text = bytes_str("dave");
    assert_int_equal(meta_command(w->m, &world_admin, &q, w->now, &a, &w->ar), 0);
    assert_int_equal(a.exit_status, 0);
    has(arena_str(&w->ar, a.progress), "steadfs admin assign dave PREMISES");
}

static void assignments(void **state)
{
    struct world *w = *state;
    uint64_t before, after;
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &before), 0);
    world_command(w, &world_admin, 0, "admin assign alice attic cloud attic");
    assert_int_equal(meta_account_version(w->m, w->alice.who.account, &after), 0);
    assert_true(after > before);
    struct m_namespace n = session(w, &w->alice).namespaces[0];
    assert_int_equal(n.candidates_n, 3);
    assert_int_equal(n.candidates[0].server, w->server[ATTIC]);
    assert_int_equal(n.candidates[1].server, w->server[CLOUD]);
    assert_int_equal(n.candidates[2].server, w->server[HQ]); /* stays, behind them */
    world_command(w, &world_admin, 0, "admin unassign alice cloud hq");
    n = session(w, &w->alice).namespaces[0];
    assert_int_equal(n.candidates_n, 1);
    has(world_command(w, &world_admin, 0, "admin unassign alice attic --force"),
        "alice is assigned to no block server now");
    assert_null(strstr(world_command(w, &world_admin, 0, "admin unassign bob attic"), "no block"));
    world_command(w, &world_admin, 0, "admin assign alice attic");
    fails(w, &world_admin, 1, "admin assign alice nowhere");
    fails(w, &world_admin, 1, "admin assign nothing hq");
    fails(w, &world_admin, 1, "admin unassign nothing hq");
    fails(w, &world_admin, 1, "admin server add a/b");
    assert_int_equal(strlen(world_command(w, &world_admin, 0, "admin server add hq --token-only")),
                     SECRET_LEN + 1);
    has(world_command(w, &world_admin, 0, "admin server add hq --json"),
        "{\"premises\": \"hq\", \"tok");
    has(world_command(w, &world_admin, 0, "admin server list"), "https://localhost:1");
    has(world_command(w, &world_admin, 0, "admin server list --json"), "\"premises\": \"cloud\"");
}

static void quotas(void **state)
{
    struct world *w = *state;
    world_command(w, &world_admin, 0, "admin quota alice --bytes 1000 --nodes=5");
    struct m_namespace n = session(w, &w->alice).namespaces[0];
    assert_int_equal(n.quota_bytes, 1000);
    assert_int_equal(n.quota_nodes, 5);
    has(world_command(w, &world_admin, 0, "admin quota alice"), "1000 bytes, 5 nodes");
    has(world_command(w, &world_admin, 0, "admin quota alice --json"), "\"quota_bytes\": 1000");
    static const struct {
        const char *line;
        uint64_t bytes;
    } sizes[] = {{"admin quota alice --bytes 3K", 3u << 10},
                 {"admin quota alice --bytes 20M", 20u << 20},
                 {"admin quota alice --bytes=500G", UINT64_C(500) << 30},
                 {"admin quota alice --bytes 8388607T", UINT64_C(8388607) << 40},
                 {"admin quota alice --bytes 0T", 0}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        world_command(w, &world_admin, 0, sizes[k].line);
        assert_int_equal(session(w, &w->alice).namespaces[0].quota_bytes, sizes[k].bytes);
        assert_int_equal(session(w, &w->alice).namespaces[0].quota_nodes, 5);
    }
    fails(w, &world_admin, 1, "admin quota nothing --bytes 1");
}

static void mounts(void **state)
{
    struct world *w = *state;
    struct m_list_ans a;
    world_command(w, &w->alice.who, 0, "namespace create team");
    fails(w, &w->alice.who, 1, "namespace create team");
    fails(w, &w->alice.who, 1, "namespace create bob"); /* the name of a root namespace */
    fails(w, &w->alice.who, 1, "namespace create a/b");
    struct m_session_ans s = session(w, &w->alice);
    assert_int_equal(s.namespaces_n, 2);
    assert_int_equal(s.namespaces[1].candidates_n, 2); /* as the root namespace */
    uint64_t d = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 0);
    fails(w, &w->alice.who, 1, "namespace mount team /d/missing/x");
    fails(w, &w->alice.who, 1, "namespace mount team /f/x");
    fails(w, &w->alice.who, 1, "namespace mount team /f");
    fails(w, &w->alice.who, 1, "namespace mount team /");
    fails(w, &w->alice.who, 1, "namespace mount team /d/..");
    fails(w, &w->alice.who, 1, "namespace mount bob /d/b");
    fails(w, &w->alice.who, 1, "namespace mount alice /d/me");
    fails(w, &w->alice.who, 1, "namespace mount nothing /d/x");
    world_command(w, &w->alice.who, 0, "namespace mount team //d//team");
    struct m_entry e = world_lookup(w, &w->alice, d, "team", 0);
    assert_int_equal(e.inode.type, NODE_MOUNT);
    assert_int_equal(e.inode.target_ns, s.namespaces[1].id);
    assert_int_equal(e.inode.nlink, 1);
    assert_int_equal(NODE_DEVICE(e.node), 0);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 3);
    assert_int_equal(world_inode(w, &w->alice, d, 0).mtime, w->now * 1000000);
    struct m_list_req q = {.ns = w->alice.ns, .from = 2};
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.records_n, 1);
    assert_int_equal(a.records[0].device, 0);
    assert_true(a.records[0].account);
    has(world_command(w, &w->alice.who, 0, "namespace list"), "/d/team");
    has(world_command(w, &w->alice.who, 0, "namespace list --json"),
        "\"name\": \"team\", \"role\": \"owner\", \"path\": \"/d/team\"");
    fails(w, &w->alice.who, 1, "namespace mount team /again"); /* once per account */
    fails(w, &w->alice.who, 1, "namespace mount team /d/team/below");
    fails(w, &w->alice.who, 1, "namespace unmount /d");
    fails(w, &w->alice.who, 1, "namespace unmount /nothing");
    fails(w, &w->alice.who, 1, "namespace unmount /");
    has(world_command(w, &w->alice.who, 1, "namespace unmount /"), "root of your own namespace");
    world_command(w, &w->alice.who, 0, "namespace unmount /d/team");
    assert_int_equal(world_lookup(w, &w->alice, d, "team", 0).node, 0);
    assert_int_equal(world_inode(w, &w->alice, d, 0).nlink, 2);
    world_command(w, &w->alice.who, 0, "namespace mount team again");
    has(world_command(w, &w->alice.who, 0, "namespace list"), "/again");
    uint64_t nodes;
    world_used(w, &w->alice, &nodes);
    assert_int_equal(nodes, 3);
}

static void shares(void **state)
{
    struct world *w = *state;
    uint64_t before, after;
    world_command(w, &w->alice.who, 0, "namespace create team");
    fails(w, &w->alice.who, 1, "share team nobody viewer");
    fails(w, &w->alice.who, 2, "share team bob king");
    fails(w, &w->alice.who, 1, "share alice bob viewer");  /* a root namespace */
    fails(w, &w->bob.who, 1, "share team bob owner");      /* he does not know of it */
    fails(w, &w->alice.who, 1, "share team alice editor"); /* nobody would own it */
    fails(w, &w->alice.who, 1, "share team alice none");
    assert_int_equal(meta_account_version(w->m, w->bob.who.account, &before), 0);
    world_command(w, &w->alice.who, 0, "share team bob editor");
    assert_int_equal(meta_account_version(w->m, w->bob.who.account, &after), 0);
    assert_true(after > before);
    fails(w, &w->bob.who, 5, "share team bob owner");
    world_command(w, &w->bob.who, 0, "namespace mount team /theirs");
    world_command(w, &w->alice.who, 0, "share team bob owner");
    world_command(w, &w->bob.who, 0, "share team alice none");
    assert_int_equal(session(w, &w->alice).namespaces_n, 1);
}

/* As if made by many accounts. */
static void make_member(struct world *w, uint64_t account, enum role role, char letter, unsigned n)
{
    char name[16];
    uint64_t ns;
    assert_int_equal(meta_change_begin(w->m), 0);
    for (unsigned k = 0; k < n; k++) {
        snprintf(name, sizeof name, "%c%u", letter, k);
        assert_int_equal(meta_ns_create(w->m, bytes_str(name), w->now, &ns), 0);
        assert_int_equal(w->m->st->ops->member_set(w->m->st, ns, account, role), 0);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
}

/* What one is given one need not keep; and it leaves room to make some. */
static void gifts_are_bounded(void **state)
{
    struct world *w = *state;
    world_command(w, &w->alice.who, 0, "namespace create team");
    world_command(w, &w->alice.who, 0, "namespace create other");
    world_command(w, &w->alice.who, 0, "share team bob editor");
    fails(w, &w->bob.who, 5, "share team bob owner");
    fails(w, &w->bob.who, 5, "share team alice none");
    world_command(w, &w->bob.who, 0, "share team bob none");
    assert_int_equal(session(w, &w->bob).namespaces_n, 1);
    fails(w, &w->bob.who, 1, "share team bob none");
    make_member(w, w->bob.who.account, ROLE_OWNER, 'c', NS_GIVEN_MAX - 2);
    world_command(w, &w->alice.who, 0, "share team bob owner");
    fails(w, &w->alice.who, 5, "share other bob owner");
    world_command(w, &w->alice.who, 0, "share other bob editor");
    fails(w, &w->alice.who, 5, "share other bob owner");
    world_command(w, &w->alice.who, 0, "share team bob owner"); /* he is one */
    world_command(w, &w->bob.who, 0, "namespace create his");
}

/* Beside his folder a quota is the same, and there is an end to what he can make, and make others
 * members of. */
static void namespaces_are_bounded(void **state)
{
    struct world *w = *state;
    world_command(w, &world_admin, 0, "admin quota alice --bytes 1000 --nodes=5");
    world_command(w, &w->alice.who, 0, "namespace create team");
    has(world_command(w, &world_admin, 0, "admin quota team"), "1000 bytes, 5 nodes");
    make_member(w, w->alice.who.account, ROLE_OWNER, 'a', NS_OWNED_MAX - 3);
    world_command(w, &w->alice.who, 0, "namespace create last");
    fails(w, &w->alice.who, 5, "namespace create more");
    make_member(w, w->bob.who.account, ROLE_VIEWER, 'b', NS_SHARED_MAX - 2);
    world_command(w, &w->alice.who, 0, "share last bob viewer");
    fails(w, &w->alice.who, 5, "share team bob viewer");
    world_command(w, &w->alice.who, 0, "share last bob editor"); /* he is one */
    world_command(w, &w->bob.who, 0, "namespace create his");
    struct m_session_ans s = session(w, &w->bob);
    assert_true(bytes_equal(s.namespaces[s.namespaces_n - 1].name, bytes_str("his")));
}

static void text_is_escaped(void **state)
{
    struct world *w = *state;
    world_command(w, &w->alice.who, 0, "namespace create team");
    world_command(w, &w->alice.who, 0, "namespace mount team /q\"\\\x01\xc3\xa4\xff");
    has(world_command(w, &w->alice.who, 0, "namespace list --json"),
        "\"/q\\\"\\\\\\u0001\xc3\xa4\\udcff\"");
    has(world_command(w, &w->alice.who, 0, "namespace list"), "/q\"\\?\xc3\xa4?");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(usage_is_told),
        TEST(each_to_his_own),
        TEST(accounts),
        TEST(an_account_without_a_block_server_is_told_of),
        TEST(assignments),
        TEST(quotas),
        TEST(mounts),
        TEST(shares),
        TEST(namespaces_are_bounded),
        TEST(gifts_are_bounded),
        TEST(text_is_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
