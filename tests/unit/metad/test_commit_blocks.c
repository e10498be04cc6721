// SPDX-License-Identifier: Apache-2.0
/* The two steps of a commit: what is missing, which receipts count, and that nothing changes before
 * everything is there. */
#include "world.h"

#include <errno.h>
#include <string.h>

/* A commit that makes a file of two blocks; ids named or not. */
static uint64_t file_of_two(struct world *w, struct plan *p, const struct block_id b[2], bool named)
{
    plan_new(w, &w->alice, p);
    uint64_t node = world_node_id(&w->alice);
    struct m_node_change *n = plan_create(p, node, NODE_REG);
    plan_range(p, n, 0, 100, &b[0], 0);
    plan_range(p, n, 100, 50, &b[1], 7);
    plan_entry(p, w->alice.root, "two", 0, 0, node);
    if (named) {
        plan_id(p, &b[0], 100);
        plan_id(p, &b[1], 57);
    }
    return node;
}

static void expect_missing(const struct m_commit_ans *a, size_t missing, size_t elsewhere)
{
    assert_int_equal(a->status, COMMIT_MISSING);
    assert_int_equal(a->missing_n, missing);
    assert_int_equal(a->elsewhere_n, elsewhere);
    assert_int_equal(a->sjid, 0);
}

static void nothing_changed(struct world *w, uint64_t head)
{
    cleanup_arena struct arena ar = {0};
    struct m_readdir_req q = {.ns = w->alice.ns, .dir = w->alice.root, .at = head};
    struct m_readdir_ans a;
    assert_int_equal(world_head(w, &w->alice), head);
    assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
    assert_int_equal(a.entries_n, 0);
    assert_int_equal(world_used(w, &w->alice, NULL), 0);
}

static void two_steps(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    uint64_t node = file_of_two(w, &p, b, true);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 2, 0);
    assert_memory_equal(&a.missing[0].block, &b[0], sizeof b[0]);
    assert_memory_equal(&a.missing[1].block, &b[1], sizeof b[1]);
    assert_int_equal(a.missing[0].server, w->server[HQ]);
    nothing_changed(w, 0);

    struct m_receipt r = world_receipt(w, w->alice.ns, &b[0], 100, HQ);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 1, 0);
    assert_memory_equal(&a.missing[0].block, &b[1], sizeof b[1]);
    nothing_changed(w, 0); /* not even the presence that the receipt proved */

    r = world_receipt(w, w->alice.ns, &b[1], 57, HQ);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    assert_int_equal(a.sjid, 1);
    assert_int_equal(world_inode(w, &w->alice, node, 0).stored, 150);
    assert_int_equal(world_used(w, &w->alice, NULL), 150);
    plan_free(&p);

    /* the same blocks in another file: present by now */
    file_of_two(w, &p, b, true);
    p.entries[0].name = bytes_str("again");
    a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
}

static void unnamed_ids_count(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    file_of_two(w, &p, b, false);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 2, 0);
    plan_free(&p);
    nothing_changed(w, 0);
}

/* A receipt that is wrong in one way leaves its block missing. */
typedef void (*spoil)(struct world *w, struct m_receipt *r, struct token_key *k);
static uint8_t other_incarnation[16] = "another storage";

static void other_ns(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)k;
    r->ns = w->bob.ns;
}
static void other_server(struct world *w, struct m_receipt *r, struct token_key *k)
{
    r->server = w->server[CLOUD];
    *k = w->key[CLOUD];
}
static void other_block(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)k;
    r->block = world_block(w);
}
static void forged(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)w, (void)r;
    k->key[0] ^= 1;
}
static void other_key(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)r;
    *k = w->key[CLOUD];
}
static void other_key_id(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)w, (void)r;
    k->id++;
}
static void storage_lost(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)w, (void)k;
    r->incarnation = bytes_of(other_incarnation, 16);
}
static void expired(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)w, (void)k;
    r->time_ms -= GC_GRACE_MS / 2 + 1;
}
static void from_the_future(struct world *w, struct m_receipt *r, struct token_key *k)
{
    (void)w, (void)k;
    r->time_ms += RECEIPT_SKEW_MS + 1;
}
static void unassigned_server(struct world *w, struct m_receipt *r, struct token_key *k)
{
    r->server = w->server[ATTIC];
    r->incarnation = bytes_of(w->incarnation[ATTIC], 16);
    *k = w->key[ATTIC];
}

static void bad_receipts(void **state)
{
    static const spoil spoils[] = {other_ns,        other_server,     other_block,  forged,
                                   other_key,       other_key_id,     storage_lost, expired,
                                   from_the_future, unassigned_server};
    struct world *w = *state;
    for (size_t k = 0; k < sizeof spoils / sizeof *spoils; k++) {
        struct block_id b[2] = {world_block(w), world_block(w)};
        struct plan p;
        file_of_two(w, &p, b, true);
        struct m_receipt good = world_receipt(w, w->alice.ns, &b[0], 100, HQ),
                         bad = world_receipt(w, w->alice.ns, &b[1], 57, HQ);
        struct token_key key = w->key[HQ];
        plan_receipt(w, &p, &good, &key);
        spoils[k](w, &bad, &key);
        plan_receipt(w, &p, &bad, &key);
        struct m_commit_ans a = world_commit(w, &w->alice, &p);
        expect_missing(&a, 1, 0);
        assert_memory_equal(&a.missing[0].block, &b[1], sizeof b[1]);
        plan_free(&p);
    }
    nothing_changed(w, 0);
}

static void garbled_receipts(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    file_of_two(w, &p, b, true);
    p.receipts[p.q.receipts_n++].receipt = bytes_str("no receipt at all");
    p.receipts[p.q.receipts_n++].receipt = bytes_of("", 0);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 2, 0);
    plan_free(&p);
}

static void almost_expired_counts(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    file_of_two(w, &p, b, true);
    struct m_receipt old = world_receipt(w, w->alice.ns, &b[0], 100, HQ),
                     early = world_receipt(w, w->alice.ns, &b[1], 57, HQ);
    old.time_ms -= GC_GRACE_MS / 2;
    early.time_ms += RECEIPT_SKEW_MS;
    plan_receipt(w, &p, &old, &w->key[HQ]);
    plan_receipt(w, &p, &early, &w->key[HQ]);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
}

static void elsewhere_and_not_held(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    file_of_two(w, &p, b, true);
    p.targets[0] = w->server[CLOUD];
    for (int k = 0; k < 2; k++) {
        struct m_receipt r = world_receipt(w, w->alice.ns, &b[k], k ? 57 : 100, CLOUD);
        plan_receipt(w, &p, &r, &w->key[CLOUD]);
    }
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);

    /* at hq they lack, but cloud has them */
    file_of_two(w, &p, b, true);
    p.entries[0].name = bytes_str("copy");
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 0, 2);
    assert_int_equal(a.elsewhere[0].server, w->server[HQ]);
    p.not_held[p.q.not_held_n++] = b[0];
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 0, 1);
    assert_memory_equal(&a.elsewhere[0].block, &b[1], sizeof b[1]);
    p.not_held[p.q.not_held_n++] = b[1];
    a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);

    /* what is nowhere stays missing even when it is not held */
    struct block_id c[2] = {world_block(w), b[1]};
    file_of_two(w, &p, c, true);
    p.entries[0].name = bytes_str("third");
    p.not_held[p.q.not_held_n++] = c[0];
    p.not_held[p.q.not_held_n++] = c[1];
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 1, 0);
    plan_free(&p);
}

static void several_targets(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    file_of_two(w, &p, b, true);
    p.targets[p.q.targets_n++] = w->server[CLOUD];
    for (int k = 0; k < 2; k++) {
        struct m_receipt r = world_receipt(w, w->alice.ns, &b[k], k ? 57 : 100, HQ);
        plan_receipt(w, &p, &r, &w->key[HQ]);
    }
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 0, 2); /* the receipts show that hq has them */
    assert_int_equal(a.elsewhere[0].server, w->server[CLOUD]);
    for (int k = 0; k < 2; k++) {
        struct m_receipt r = world_receipt(w, w->alice.ns, &b[k], k ? 57 : 100, CLOUD);
        plan_receipt(w, &p, &r, &w->key[CLOUD]);
    }
    a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);
    struct block_id ids[2] = {b[0], world_block(w)};
    struct m_locate_req q = {.ns = w->alice.ns, .ids = ids, .ids_n = 2};
    struct m_locate_ans l;
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &l, &w->ar, w->why), 0);
    assert_int_equal(l.locations_n, 2);
    assert_int_equal(l.locations[0].servers_n, 2);
    assert_int_equal(l.locations[1].servers_n, 0);
    /* bob's namespace does not have them: a hash gives no access and tells nothing */
    q.ns = w->bob.ns;
    assert_int_equal(meta_locate(w->m, &w->bob.who, &q, &l, &w->ar, w->why), 0);
    assert_int_equal(l.locations[0].servers_n, 0);
}

static void targets_are_checked(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    uint64_t node = file_of_two(w, &p, b, true);
    p.targets[0] = w->server[ATTIC];
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows_n, 2);
    assert_int_equal(a.rows[0].node, node);
    assert_int_equal(a.rows[0].reason, REFUSED_ASSIGNMENT);
    plan_free(&p);
    nothing_changed(w, 0);
}

static void copies_min_is_asked(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    struct ns_row row;
    struct store *st = w->m->st;
    assert_int_equal(st->ops->begin(st, true), 0);
    assert_int_equal(st->ops->ns_get(st, w->alice.ns, &row, &w->ar), 0);
    row.copies_min = 2;
    assert_int_equal(st->ops->ns_set(st, &row), 0);
    assert_int_equal(st->ops->end(st, true), 0);
    file_of_two(w, &p, b, true);
    p.targets[1] = w->server[HQ]; /* the same one twice is one copy */
    p.q.targets_n = 2;
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_ASSIGNMENT);
    plan_free(&p);
    file_of_two(w, &p, b, true);
    p.targets[p.q.targets_n++] = w->server[CLOUD];
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 4, 0); /* two blocks at two targets */
    plan_free(&p);
}

static void base_blocks_need_no_presence(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    uint64_t node = file_of_two(w, &p, b, true);
    plan_block(w, &p, w->alice.ns, &b[0], 100, HQ);
    plan_block(w, &p, w->alice.ns, &b[1], 57, HQ);
    expect_committed(world_commit(w, &w->alice, &p));
    plan_free(&p);

    /* hq loses its storage: nothing is present any more */
    struct m_beat_req beat = {.incarnation = bytes_of(other_incarnation, 16),
                              .url = bytes_str("https://localhost:1")};
    struct m_beat_ans beaten;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &beat, w->now, &beaten, &w->ar, w->why),
                     0);
    plan_new(w, &w->alice, &p);
    struct m_node_change *n = plan_node(&p, node, FACET_CONTENT);
    n->base_content = 1;
    plan_range(&p, n, 200, 30, &b[0], 5); /* what the file refers to already */
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    expect_committed(a);
    plan_free(&p);

    /* another file does not refer to it */
    file_of_two(w, &p, b, false);
    p.entries[0].name = bytes_str("other");
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 2, 0);
    plan_free(&p);

    /* a receipt of the lost storage no longer counts */
    file_of_two(w, &p, b, true);
    p.entries[0].name = bytes_str("other");
    struct m_receipt r = world_receipt(w, w->alice.ns, &b[0], 100, HQ);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    a = world_commit(w, &w->alice, &p);
    expect_missing(&a, 2, 0);
    plan_free(&p);
}

static void lengths_are_checked(void **state)
{
    struct world *w = *state;
    struct block_id b[2] = {world_block(w), world_block(w)};
    struct plan p;
    /* the receipt's length decides, whatever the client says */
    file_of_two(w, &p, b, true);
    struct m_receipt r = world_receipt(w, w->alice.ns, &b[0], 99, HQ);
    plan_receipt(w, &p, &r, &w->key[HQ]);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].kind, ROW_NODE_CONTENT);
    assert_int_equal(a.rows[0].reason, REFUSED_INVALID);
    plan_free(&p);
    /* an extent that starts in the block and ends behind it */
    file_of_two(w, &p, b, false);
    plan_block(w, &p, w->alice.ns, &b[0], 100, HQ);
    plan_block(w, &p, w->alice.ns, &b[1], 56, HQ);
    a = world_commit(w, &w->alice, &p);
    assert_int_equal(a.status, COMMIT_REFUSED);
    assert_int_equal(a.rows[0].reason, REFUSED_INVALID);
    plan_free(&p);
    nothing_changed(w, 0);
}

static void diff_asks_the_same(void **state)
{
    struct world *w = *state;
    uint64_t node = world_make(w, &w->alice, w->alice.root, "f", NODE_REG, 1000);
    struct m_range g = world_extents(w, &w->alice, node, 0);
    struct m_block_ref ids[2] = {{g.extents[0].block, 1000}, {world_block(w), 70}};
    struct m_diff_req q = {.ns = w->alice.ns, .target = w->server[HQ], .ids = ids, .ids_n = 2};
    struct m_diff_ans a;
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.missing_n, 1);
    assert_int_equal(a.elsewhere_n, 0);
    assert_memory_equal(&a.missing[0], &ids[1].block, sizeof a.missing[0]);
    q.target = w->server[CLOUD];
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.missing_n, 1);
    assert_int_equal(a.elsewhere_n, 1);
    q.target = 0;
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.counts_n, 2);
    assert_int_equal(a.counts[0].server, w->server[HQ]);
    assert_int_equal(a.counts[0].missing, 1);
    assert_int_equal(a.counts[0].missing_bytes, 70);
    assert_int_equal(a.counts[1].missing, 2);
    assert_int_equal(a.counts[1].missing_bytes, 1070);
    q.target = w->server[ATTIC];
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &a, &w->ar, w->why), -EACCES);
    assert_int_equal(meta_diff(w->m, &w->bob.who, &q, &a, &w->ar, w->why), -EACCES);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(two_steps),
        TEST(unnamed_ids_count),
        TEST(bad_receipts),
        TEST(garbled_receipts),
        TEST(almost_expired_counts),
        TEST(elsewhere_and_not_held),
        TEST(several_targets),
        TEST(targets_are_checked),
        TEST(copies_min_is_asked),
        TEST(base_blocks_need_no_presence),
        TEST(lengths_are_checked),
        TEST(diff_asks_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
