// SPDX-License-Identifier: Apache-2.0
#include "joinhost.h"
#include "unit.h"

#include <string.h>

static void hosts(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host; /* NULL: refused */
    } cases[] = {
        {"https://blocks.example:7441", "blocks.example"},
        {"https://blocks.example", "blocks.example"},
        {"https://blocks.example/x", "blocks.example"},
        {"http://192.0.2.9:7441", "192.0.2.9"},
        {"https://[2001:db8::9]:7441", "2001:db8::9"},
        {"https://[2001:db8::9]", "2001:db8::9"},
        {"https://blocks.example,meta.example:7441", NULL},
        {"https://*.example:7441", NULL},
        {"https://*", NULL},
        {"https://user@meta.example:7441", NULL},
        {"https://a:b@meta.example:7441", NULL},
        {"https://meta.example.:7441", NULL},
        {"https://meta.example\n:7441", NULL},
        {"https://[meta.example]:7441", NULL},
        {"https://[2001:db8::9", NULL},
        {"https://[2001:db8::9]x", NULL},
        {"https://:7441", NULL},
        {"https://", NULL},
        {"meta.example:7441", NULL},
        {"", NULL},
    };
    struct arena ar = {0};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const char *host = join_host(bytes_str(cases[k].url), &ar);
        if (!host != !cases[k].host || (host && strcmp(host, cases[k].host) != 0))
            fail_msg("%s: %s", cases[k].url, host ? host : "refused");
    }
    arena_free(&ar);
}

static void own_names(void **state)
{
    (void)state;
    static const char names[] = "meta.example,192.0.2.7,2001:db8::7,127.0.0.1,localhost";
    static const struct {
        const char *host;
        bool own;
    } cases[] = {
        {"meta.example", true},
        {"META.Example", true},
        {"192.0.2.7", true},
        {"::ffff:192.0.2.7", true},
        {"2001:db8:0::7", true},
        {"blocks.example", false},
        {"192.0.2.70", false},
        {"192.0.2.", false},
        {"meta.example.x", false},
        {"meta", false},
        {"127.0.0.1", false},
        {"localhost", false},
        {"::1", false},
        {"127.0.0.9", false},
        {"2001:db8::70", false},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        if (join_host_is_own(cases[k].host, names) != cases[k].own)
            fail_msg("%s", cases[k].host);
    }
    assert_false(join_host_is_own("meta.example", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hosts), cmocka_unit_test(own_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
