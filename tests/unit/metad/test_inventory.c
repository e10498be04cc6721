// SPDX-License-Identifier: Apache-2.0
/* What a block server has, compared with what is recorded. */
#include "gc.h"
#include "world.h"

#include <errno.h>
#include <string.h>

static const struct block_id first = {{0}};
static struct block_id last;

static struct m_held held(struct world *w, const struct block_id *b, uint64_t generation)
{
    return (struct m_held){.ns = w->alice.ns, .block = *b, .len = 100, .generation = generation};
}

static struct m_inventory_ans compare(struct world *w, int s, struct m_held *v, size_t n,
                                      uint64_t generation, uint64_t before)
{
    memset(&last, 0xff, sizeof last);
    struct m_inventory_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                                .generation = generation,
                                .before = before,
                                .after = first,
                                .upto = last,
                                .blocks = v,
                                .blocks_n = n};
    struct m_inventory_ans a;
    assert_int_equal(meta_inventory(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

static size_t to_remove(struct world *w, int s, uint64_t generation)
{
    struct m_collect_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                              .generation = generation};
    struct m_collect_ans a;
    assert_int_equal(meta_collect(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a.blocks_n;
}

static size_t lacking(struct world *w, int s)
{
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[s]};
    struct m_backlog_ans a;
    assert_int_equal(meta_backlog(w->m, &w->server_who[s], &q, &a, &w->ar, w->why), 0);
    return a.blocks_n;
}

/* A report was lost on its way. */
static void what_is_there_is_recorded(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    assert_int_equal(lacking(w, CLOUD), 1);
    struct m_held h = held(w, &b, 4);
    h.len = 99; /* another block by that name would be */
    assert_int_equal(compare(w, CLOUD, &h, 1, 9, 0).announced, 0);
    h.len = 100;
    assert_int_equal(compare(w, CLOUD, &h, 1, 9, 0).announced, 1);
    assert_int_equal(world_holders(w, &b), 2);
    assert_int_equal(lacking(w, CLOUD), 0);
    assert_int_equal(compare(w, CLOUD, &h, 1, 10, 9).announced, 0); /* once */
    assert_int_equal(to_remove(w, CLOUD, 11), 0);
}

/* … but not by a proof from before a loss. */
static void what_was_lost_since_is_not(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    struct m_held h = held(w, &b, 4);
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    world_lose(w, CLOUD, &b, 6);
    assert_int_equal(compare(w, CLOUD, &h, 1, 9, 0).announced, 0);
    assert_int_equal(world_holders(w, &b), 1);
    h.generation = 6;
    assert_int_equal(compare(w, CLOUD, &h, 1, 9, 0).announced, 1);
}

/* A disk from a backup: it has forgotten, and says nothing. */
static void what_is_not_there_is_lost(void **state)
{
    struct world *w = *state;
    struct block_id b[3] = {world_block(w), world_block(w), world_block(w)};
    const char *names[] = {"a", "b", "c"};
    for (int k = 0; k < 3; k++)
        expect_committed(world_commit_with(w, &b[k], names[k], HQ, k == 2 ? 9 : 5));
    struct m_held h = held(w, &b[0], 5);
    assert_int_equal(lacking(w, HQ), 0);
    struct m_inventory_ans a = compare(w, HQ, &h, 1, 9, 0);
    assert_int_equal(a.lost, 1);
    assert_memory_equal(&a.upto, &last, sizeof last);
    assert_int_equal(world_holders(w, &b[0]), 1);
    assert_int_equal(world_holders(w, &b[1]), 0);
    assert_int_equal(world_holders(w, &b[2]),
                     1); /* put since the pass began: the page may be older */
    assert_int_equal(lacking(w, HQ), 1);
    assert_int_equal(world_commit_with(w, &b[1], "again", HQ, 8).status, COMMIT_MISSING);
    expect_committed(world_commit_with(w, &b[1], "again", HQ, 9));
}

/* Only the range that the page is of. */
static void a_page_says_nothing_of_others(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    expect_committed(world_commit_with(w, &b[0], "a", HQ, 5));
    expect_committed(world_commit_with(w, &b[1], "b", HQ, 5));
    bool rising = memcmp(&b[0], &b[1], sizeof b[0]) < 0;
    const struct block_id *low = &b[rising ? 0 : 1], *high = &b[rising ? 1 : 0];
    struct m_held h = held(w, low, 5);
    struct m_inventory_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                                .generation = 9,
                                .after = first,
                                .upto = *low,
                                .blocks = &h,
                                .blocks_n = 1};
    struct m_inventory_ans a;
    assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.lost, 0);
    q.after = *high;
    q.upto = last;
    memset(&q.upto, 0xff, sizeof q.upto);
    q.blocks_n = 0;
    assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.lost, 0);
    assert_int_equal(world_holders(w, low) + world_holders(w, high), 2);
    q.blocks_n = 1; /* out of its range */
    assert_int_not_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why),
                         0);
    q.blocks_n = 0;
    q.incarnation = bytes_of(w->incarnation[CLOUD], 16);
    assert_int_not_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why),
                         0);
    assert_int_not_equal(meta_inventory(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
}

/* Uploaded, and never committed. */
static void what_nobody_refers_to_goes(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), young = world_block(w);
    struct m_held h[] = {held(w, &b, 5), held(w, &young, 9)};
    if (memcmp(&b, &young, sizeof b) > 0) {
        h[0] = held(w, &young, 9);
        h[1] = held(w, &b, 5);
    }
    assert_int_equal(compare(w, HQ, h, 2, 9, 0).unneeded, 0); /* how old it is is not known */
    assert_int_equal(compare(w, HQ, h, 2, 12, 9).unneeded, 1);
    assert_int_equal(compare(w, HQ, h, 2, 13, 9).unneeded, 0); /* once */
    assert_int_equal(to_remove(w, HQ, 14), 1);
    assert_int_equal(world_commit_with(w, &b, "late", HQ, 13).status, COMMIT_MISSING);
    expect_committed(world_commit_with(w, &young, "young", HQ, 14));
}

/* A commit comes at last, before the server was told. */
static void unless_it_is_committed_after_all(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    struct m_held h = held(w, &b, 5);
    assert_int_equal(compare(w, HQ, &h, 1, 12, 9).unneeded, 1);
    expect_committed(world_commit_with(w, &b, "late", HQ, 5));
    assert_int_equal(to_remove(w, HQ, 14), 0);
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(compare(w, HQ, &h, 1, 15, 12).unneeded, 0);
}

/* The namespace has left the server: what it has goes, where others have it. */
static void what_was_left_behind_goes(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), only = world_block(w);
    struct m_held h[] = {held(w, &b, 5), held(w, &only, 5)};
    if (memcmp(&b, &only, sizeof b) > 0) {
        h[0] = held(w, &only, 5);
        h[1] = held(w, &b, 5);
    }
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    expect_committed(world_commit_with(w, &only, "only", HQ, 5));
    assert_int_equal(compare(w, ATTIC, h, 2, 12, 0).unneeded, 0);
    world_lose(w, HQ, &only, 6);
    assert_int_equal(compare(w, ATTIC, h, 2, 13, 12).unneeded, 1);
    assert_int_equal(to_remove(w, ATTIC, 14), 1);
    assert_int_equal(world_holders(w, &b), 1);
}

/* Somebody was sent there for blocks that are not there: the server names them. What is not
 * recorded leaves no trace, and a put since is not denied. */
static void what_is_missed_is_lost(void **state)
{
    struct world *w = *state;
    struct block_id b[3] = {world_block(w), world_block(w), world_block(w)};
    expect_committed(world_commit_with(w, &b[0], "a", HQ, 5));
    expect_committed(world_commit_with(w, &b[1], "b", HQ, 9));
    struct m_lost v[4];
    for (int k = 0; k < 4; k++)
        v[k] = (struct m_lost){.ns = w->alice.ns, .block = b[k % 3]};
    v[3].ns = w->bob.ns; /* of a namespace that has never heard of it */
    struct m_inventory_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                                .generation = 8,
                                .look = true,
                                .missing = v,
                                .missing_n = 4};
    struct m_inventory_ans a;
    assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.lost, 0); /* a check that only looks changes nothing */
    q.look = false;
    assert_int_equal(meta_inventory(w->m, &w->server_who[CLOUD], &q, w->now, &a, &w->ar, w->why),
                     -EAGAIN); /* another storage's word */
    assert_int_equal(world_holders(w, &b[0]), 1);
    assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.lost, 2);
    assert_int_equal(world_holders(w, &b[0]), 0);
    assert_int_equal(world_holders(w, &b[1]), 1); /* by a proof of generation 9 */
    assert_int_equal(lacking(w, HQ), 1);
    /* a proof from before is of no use for what was lost, and good for what was not recorded */
    struct m_commit_ans again = world_commit_with(w, &b[0], "c", HQ, 7);
    assert_int_equal(again.status, COMMIT_MISSING);
    expect_committed(world_commit_with(w, &b[0], "d", HQ, 8));
    expect_committed(world_commit_with(w, &b[2], "e", HQ, 7));
}

static int thousand(void *arg)
{
    ++*(unsigned *)arg;
    return 0;
}

/* A server that has little beside one that has much: no page costs what the other has. */
static void a_page_is_as_long_as_it_may_be(void **state)
{
    struct world *w = *state;
    enum { FAR = 60000 };
    struct store *st = w->m->st;
    struct block_id b = world_block(w), place = first;
    unsigned most = 0, pages = 0;
    uint64_t lost = 0;
    memset(&last, 0xff, sizeof last);
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    assert_int_equal(meta_change_begin(w->m), 0);
    for (uint32_t k = 0; k < FAR; k++) {
        struct block_id id = world_block(w);
        assert_int_equal(st->ops->block_put(st, w->alice.ns, &id, 10, 2), 0);
        assert_int_equal(st->ops->presence_put(st, w->alice.ns, &id, w->server[CLOUD], 1, 5), 0);
    }
    assert_int_equal(meta_change_end(w->m, 0), 0);
    while (memcmp(&place, &last, sizeof last) != 0) {
        struct m_inventory_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                                    .generation = 9,
                                    .after = place,
                                    .upto = last};
        struct m_inventory_ans a;
        unsigned thousands = 0;
        sqlite3_progress_handler(((struct sq *)st)->db, 1000, thousand, &thousands);
        assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why),
                         0);
        assert_true(memcmp(&a.upto, &place, sizeof place) > 0);
        place = a.upto;
        lost += a.lost;
        most = thousands > most ? thousands : most;
        pages++;
    }
    sqlite3_progress_handler(((struct sq *)st)->db, 0, NULL, NULL);
    assert_int_equal(lost, 1);
    assert_true(most < 300 && pages < 8); /* in one page it would be some 400 */
}

/* Which of what clients put a commit has come for, and the quotas: of its own namespaces only. */
static void what_was_committed_is_told(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), never = world_block(w);
    struct m_named v[12];
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    world_command(w, &world_admin, 0, "admin quota alice --bytes 1000");
    for (size_t k = 0; k < 12; k++)
        v[k] = (struct m_named){.ns = w->alice.ns, .block = k % 3 ? never : b};
    v[9].ns = w->bob.ns;
    v[11].ns = 12345; /* there is none such */
    struct m_recorded_req q = {.blocks = v, .blocks_n = 12};
    struct m_recorded_ans a;
    assert_int_equal(meta_recorded(w->m, &w->server_who[HQ], &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.recorded.n, 2);
    assert_int_equal(a.recorded.p[0] | a.recorded.p[1] << 8, 1 | 8 | 64);
    bool told = false;
    for (size_t k = 0; k < a.quotas_n; k++) {
        assert_int_not_equal(a.quotas[k].ns, 12345);
        told |= a.quotas[k].ns == w->alice.ns && a.quotas[k].bytes == 1000;
    }
    assert_true(told);
    assert_int_equal(meta_recorded(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.recorded.p[0] | a.recorded.p[1], 0); /* it is not there yet */
    assert_int_equal(meta_recorded(w->m, &w->server_who[ATTIC], &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.recorded.p[0] | a.recorded.p[1], 0);
    assert_int_equal(a.quotas_n, 0); /* nor is anything assigned to that one */
    assert_int_equal(meta_recorded(w->m, &world_admin, &q, &a, &w->ar, w->why), -EACCES);
}

/* What is in the way of who put it goes before its time, a commit that came is none. */
static void what_was_given_up_goes(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), never = world_block(w);
    struct m_held v[] = {held(w, &never, 5), held(w, &b, 5)};
    expect_committed(world_commit_with(w, &b, "a", HQ, 5));
    struct m_inventory_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                                .generation = 9,
                                .before = 9,
                                .look = true,
                                .given_up = v,
                                .given_up_n = 2};
    struct m_inventory_ans a;
    assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(to_remove(w, HQ, 9), 0);
    q.look = false;
    assert_int_equal(meta_inventory(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.unneeded, 1);
    assert_int_equal(to_remove(w, HQ, 10), 1);
    assert_int_equal(world_holders(w, &b), 1);
    assert_int_equal(world_commit_with(w, &never, "late", HQ, 8).status, COMMIT_MISSING);
    expect_committed(world_commit_with(w, &never, "late", HQ, 10));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_there_is_recorded),      TEST(what_was_lost_since_is_not),
        TEST(what_is_not_there_is_lost),      TEST(a_page_says_nothing_of_others),
        TEST(what_nobody_refers_to_goes),     TEST(unless_it_is_committed_after_all),
        TEST(what_was_left_behind_goes),      TEST(what_is_missed_is_lost),
        TEST(a_page_is_as_long_as_it_may_be), TEST(what_was_committed_is_told),
        TEST(what_was_given_up_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
