// SPDX-License-Identifier: Apache-2.0
/* Another key, step by step, with a restart between all steps: what is said and heard is the same
 * as without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "durable.h"
#include "rekey.h"
#include "tempdir.h"
#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct world {
    char *dir, *ca, *ca_key, *key, *cert;
    struct identity identity; /* what would be loaded at a start */
    struct rekey k;
    char *key_shown, *cert_shown;
    int show_err;
};

static int show(void *arg, const char *key_pem, const char *cert_pem)
{
    struct world *w = arg;
    assert_true(tls_is_key_of(key_pem, cert_pem));
    free(w->key_shown);
    free(w->cert_shown);
    w->key_shown = strdup(key_pem);
    w->cert_shown = strdup(cert_pem);
    return w->show_err;
}

/* As the program does at its start. */
static void restart(struct world *w)
{
    struct buf pair cleanup_buf = {0};
    rekey_close(&w->k);
    w->identity.cert_pem = w->cert;
    if (!durable_read(w->dir, "identity.tls", 65536, &pair))
        w->identity.cert_pem = (char *)(uintptr_t)identity_cert_in((char *)pair.p);
    w->k = (struct rekey){.dir = w->dir, .show = show, .arg = w};
    rekey_open(&w->k, &w->identity);
    w->identity.cert_pem = NULL;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    char *csr = NULL;
    w->dir = tempdir_make();
    assert_int_equal(tls_ca_new(&w->ca, &w->ca_key), 0);
    assert_int_equal(tls_csr_new("127.0.0.1", &w->key, &csr), 0);
    assert_int_equal(tls_issue(w->ca, w->ca_key, csr, "127.0.0.1", &w->cert), 0);
    free(csr);
    restart(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    rekey_close(&w->k);
    tempdir_remove(w->dir);
    char *const all[] = {w->ca, w->ca_key, w->key, w->cert, w->key_shown, w->cert_shown};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(w);
    return 0;
}

static struct m_beat_req said(struct world *w)
{
    struct m_beat_req q = {0};
    rekey_fill(&w->k, &q);
    return q;
}

/* The certificate for what is asked for, and its key's hash. */
static char *issue(struct world *w, uint8_t pin[TLS_PIN_LEN])
{
    struct m_beat_req q = said(w);
    struct arena a cleanup_arena = {0};
    char *cert = NULL;
    assert_true(q.csr.n > 0);
    assert_null(strstr(arena_str(&a, q.csr), "PRIVATE"));
    assert_int_equal(tls_issue(w->ca, w->ca_key, arena_str(&a, q.csr), "127.0.0.1", &cert), 0);
    assert_int_equal(tls_pin(cert, pin), 0);
    return cert;
}

static bool order(struct world *w)
{
    return rekey_heard(&w->k, &(struct m_beat_ans){.rekey = true});
}

static void steps(struct world *w, bool restarts)
{
    uint8_t old[TLS_PIN_LEN], next[TLS_PIN_LEN];
    assert_int_equal(tls_pin(w->cert, old), 0);
    struct m_beat_req q = said(w);
    assert_true(bytes_equal(q.pin, bytes_of(old, sizeof old)) && !q.csr.n);
    assert_false(rekey_heard(&w->k, &(struct m_beat_ans){0}));
    assert_true(order(w)); /* the request is to follow at once */
    if (restarts)
        restart(w);
    char *first = issue(w, next), *cert;
    assert_false(order(w)); /* the answer came late: it is the same key */
    if (restarts)
        restart(w);
    cert = issue(w, next);
    free(first);
    assert_false(rekey_heard(&w->k, &(struct m_beat_ans){.certificate = bytes_str(cert)}));
    free(cert);
    if (restarts)
        restart(w);
    q = said(w);
    assert_true(bytes_equal(q.pin, bytes_of(old, sizeof old)) && !q.csr.n);
    assert_null(w->cert_shown);
    struct m_beat_ans use = {.use_pin = bytes_of(next, sizeof next)};
    assert_true(rekey_heard(&w->k, &use));
    if (restarts)
        restart(w);
    q = said(w);
    assert_true(bytes_equal(q.pin, bytes_of(next, sizeof next)) && !q.csr.n);
    assert_non_null(w->cert_shown);
    assert_false(rekey_heard(&w->k, &use)); /* a late answer */
}

static void a_key_is_made_kept_and_shown(void **state)
{
    steps(*state, false);
}

static void each_step_outlives_a_restart(void **state)
{
    steps(*state, true);
}

static void what_is_not_wanted_any_more_is_not_asked_for(void **state)
{
    struct world *w = *state;
    assert_true(order(w));
    assert_true(said(w).csr.n > 0);
    assert_false(rekey_heard(&w->k, &(struct m_beat_ans){0}));
    assert_int_equal(said(w).csr.n, 0);
}

static void a_certificate_for_another_key_is_not_taken(void **state)
{
    struct world *w = *state;
    uint8_t pin[TLS_PIN_LEN];
    assert_true(order(w));
    assert_false(rekey_heard(&w->k, &(struct m_beat_ans){.certificate = bytes_str(w->cert)}));
    assert_true(said(w).csr.n > 0);
    free(issue(w, pin));
    /* nor is a key shown that has none */
    assert_false(rekey_heard(
        &w->k, &(struct m_beat_ans){.rekey = true, .use_pin = bytes_of(pin, sizeof pin)}));
    assert_null(w->cert_shown);
}

/* The disk refuses, or what is served cannot be changed: the same again with the next answer. */
static void what_fails_is_tried_again(void **state)
{
    struct world *w = *state;
    uint8_t pin[TLS_PIN_LEN];
    w->k.dir = "/nonexistent";
    assert_false(order(w));
    assert_int_equal(said(w).csr.n, 0);
    w->k.dir = w->dir;
    assert_true(order(w));
    char *cert = issue(w, pin);
    w->k.dir = "/nonexistent";
    assert_false(rekey_heard(&w->k, &(struct m_beat_ans){.certificate = bytes_str(cert)}));
    assert_true(said(w).csr.n > 0);
    w->k.dir = w->dir;
    /* both in one answer: the overlap is over at once */
    struct m_beat_ans both = {.certificate = bytes_str(cert), .use_pin = bytes_of(pin, sizeof pin)};
    w->show_err = -EINVAL;
    assert_false(rekey_heard(&w->k, &both));
    assert_false(bytes_equal(said(w).pin, both.use_pin));
    w->show_err = 0;
    assert_true(rekey_heard(&w->k, &both));
    assert_true(bytes_equal(said(w).pin, both.use_pin));
    free(cert);
}

/* A server without TLS has no key to tell, and makes none. */
static void without_tls_nothing_is_told(void **state)
{
    struct world *w = *state;
    struct rekey k = {.dir = w->dir};
    struct m_beat_req q = {0};
    rekey_open(&k, &w->identity);
    rekey_fill(&k, &q);
    assert_true(!q.pin.n && !q.csr.n);
    assert_false(rekey_heard(&k, &(struct m_beat_ans){.rekey = true}));
    rekey_close(&k);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_key_is_made_kept_and_shown),
        TEST(each_step_outlives_a_restart),
        TEST(what_is_not_wanted_any_more_is_not_asked_for),
        TEST(a_certificate_for_another_key_is_not_taken),
        TEST(what_fails_is_tried_again),
        TEST(without_tls_nothing_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
