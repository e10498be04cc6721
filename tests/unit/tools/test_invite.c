// SPDX-License-Identifier: Apache-2.0
/* Invitations: what the metadata server writes is what the command line reads; and failed logins
 * are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "invitation.h"
#include "invite.h"
#include "throttle.h"

#define PRINT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

static bool asked(const char *const *words, size_t n, struct bytes *account)
{
    struct m_word w[8];
    for (size_t i = 0; i < n; i++)
        w[i].text = bytes_str(words[i]);
    struct m_command_req q = {.words = w, .words_n = n};
    return invite_asked(&q, account);
}

static void recognises_commands(void **state)
{
    (void)state;
    struct bytes account;
    assert_true(asked((const char *[]){"admin", "account", "token", "--x", "al"}, 5, &account));
    assert_true(bytes_equal(account, bytes_str("al")));
    assert_true(
        asked((const char *[]){"admin", "account", "add", "--assign", "hq", "al"}, 6, &account));
    assert_true(bytes_equal(account, bytes_str("al")));
    assert_true(asked((const char *[]){"admin", "account", "add", "bob"}, 4, &account));
    assert_false(asked((const char *[]){"admin", "account", "list"}, 3, &account));
    assert_false(asked((const char *[]){"admin", "account", "add"}, 3, &account));
    assert_false(asked((const char *[]){"share", "account", "add", "bob"}, 4, &account));
}

static void round_trip(const char *host, const char *fingerprint)
{
    cleanup_arena struct arena a = {0};
    struct m_command_ans ans = {.text = bytes_str(" to-ken \n")};
    invite_compose(&ans, bytes_str("alice"), host, 7440, fingerprint, &a);
    char *text = arena_str(&a, ans.text);
    text[strcspn(text, "\n")] = 0;
    struct invitation v;
    assert_int_equal(invitation_parse(&v, text), 0);
    assert_string_equal(v.account, "alice");
    assert_string_equal(v.host, host);
    assert_int_equal(v.port, 7440);
    assert_string_equal(v.token, "to-ken");
    if (fingerprint[0])
        assert_int_equal(strcasecmp(v.fingerprint, fingerprint), 0);
    else
        assert_null(v.fingerprint);
    invitation_free(&v);
}

static void both_ends_agree(void **state)
{
    (void)state;
    round_trip("meta.example.org", PRINT);
    round_trip("[::1]", PRINT);
    round_trip("127.0.0.1", "");
}

static void json_gets_a_member(void **state)
{
    (void)state;
    cleanup_arena struct arena a = {0};
    struct m_command_ans ans = {.text = bytes_str("{\"account\": \"al\", \"token\": \"tk\"}\n")};
    invite_compose(&ans, bytes_str("al"), "h", 1, "", &a);
    assert_string_equal(arena_str(&a, ans.text), "{\"account\": \"al\", \"token\": \"tk\", "
                                                 "\"invitation\": \"al@h:1/tk\"}\n");
    ans.text = (struct bytes){0}; /* --no-token */
    invite_compose(&ans, bytes_str("al"), "h", 1, "", &a);
    assert_int_equal(ans.text.n, 0);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "a@b",
        "a@b:1",
        "a@b/t",
        "@b:1/t",
        "a@:1/t",
        "a@b:0/t",
        "a@b:65536/t",
        "a@b:1x/t",
        "a@b:1/",
        "a@b:1/t#",
        "a@b:1/t#0123",
        "a@b:1/t#" PRINT "0",
        "a/b@c:1/t",
        "a@b:1/t#x123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    struct invitation v;
    char longer[128];
    snprintf(longer, sizeof longer, "a@b:1/t#%s0", PRINT);
    assert_int_not_equal(invitation_parse(&v, longer), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (invitation_parse(&v, bad[i]) == 0)
            fail_msg("taken for an invitation: %s", bad[i]);
    }
}

static void failures_are_counted(void **state)
{
    (void)state;
    struct throttle t = {0};
    for (unsigned i = 0; i < THROTTLE_PER_MINUTE; i++) {
        assert_true(throttle_allows(&t, "10.0.0.1:4000", 60000));
        throttle_failed(&t, "10.0.0.1:4000", 60000);
    }
    assert_false(throttle_allows(&t, "10.0.0.1:4001", 61000)); /* another port, the same address */
    assert_true(throttle_allows(&t, "10.0.0.2:4000", 61000));
    assert_true(throttle_allows(&t, "10.0.0.1:4000", 120000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognises_commands),  cmocka_unit_test(both_ends_agree),
        cmocka_unit_test(json_gets_a_member),   cmocka_unit_test(refuses_nonsense),
        cmocka_unit_test(failures_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
