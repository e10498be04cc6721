// SPDX-License-Identifier: Apache-2.0
/* A database that was put back to an older copy: who notices it, and what does not count from then
 * on. */
#include "world.h"

#include "10.sql.h"
#include "11.sql.h"
#include "12.sql.h"
#include "13.sql.h"
#include "2.sql.h"
#include "3.sql.h"
#include "4.sql.h"
#include "5.sql.h"
#include "6.sql.h"
#include "7.sql.h"
#include "8.sql.h"
#include "9.sql.h"
#include "schema.sql.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DAY_MS (24ll * 3600 * 1000)
#define KEEP_MS (30 * DAY_MS)

/* A block server's process, and the highest tick that it was told. */
struct process {
    int s;
    uint8_t incarnation[16];
    uint64_t run, found, tick;
};

static struct process process(int s)
{
    struct process p = {.s = s, .run = 101, .found = 10, .tick = 1};
    memset(p.incarnation, 'A' + s, sizeof p.incarnation);
    return p;
}

static struct m_beat_ans beat_saying(struct world *w, struct process *p, uint64_t tick)
{
    struct m_beat_req q = {.incarnation = bytes_of(p->incarnation, 16),
                           .url = bytes_str("https://localhost:1"),
                           .run = p->run,
                           .found = p->found,
                           .tick = tick};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[p->s], &q, w->now, &a, &w->ar, w->why), 0);
    if (a.tick > p->tick)
        p->tick = a.tick;
    return a;
}

static bool must_renew(struct world *w, struct process *p)
{
    struct m_beat_ans a = beat_saying(w, p, p->tick);
    assert_false(a.superseded);
    return a.renew;
}

static void renew(struct world *w, struct process *p, uint8_t incarnation)
{
    memset(p->incarnation, incarnation, sizeof p->incarnation);
    assert_false(must_renew(w, p));
}

/* ---- copies ---------------------------------------------------------------------------------- */
static void copy_file(const char *from, const char *to)
{
    char line[512];
    snprintf(line, sizeof line, "cp %s %s", from, to);
    assert_int_equal(system(line), 0);
}

static void backup_name(const struct world *w, char out[128])
{
    snprintf(out, 128, "%s.backup", w->path);
}

static void back_up(struct world *w)
{
    char name[128];
    backup_name(w, name);
    meta_close(w->m); /* all is in the file then */
    copy_file(w->path, name);
    assert_int_equal(meta_open(&w->m, &(struct meta_options){.path = w->path}, w->why), 0);
}

static void start(struct world *w)
{
    meta_close(w->m);
    assert_int_equal(meta_open(&w->m, &(struct meta_options){.path = w->path}, w->why), 0);
    assert_int_equal(meta_started(w->m), 0);
}

static void put_back(struct world *w)
{
    char name[128];
    backup_name(w, name);
    meta_close(w->m);
    copy_file(name, w->path);
    assert_int_equal(meta_open(&w->m, &(struct meta_options){.path = w->path}, w->why), 0);
    assert_int_equal(meta_started(w->m), 0);
}

static int teardown(void **state)
{
    char name[128];
    backup_name(*state, name);
    unlink(name);
    return world_teardown(state);
}

/* ---- questions ------------------------------------------------------------------------------- */
static uint64_t epoch(struct world *w)
{
    struct m_session_req q = {.incarnation = bytes_of(w->alice.incarnation, 16),
                              .requests_used = 1000,
                              .nodes_used = 1000};
    struct meta_restored v;
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(meta_restored(w->m, &v), 0);
    assert_int_equal(v.epoch, a.epoch);
    return a.epoch;
}

static struct m_commit_ans commit_at(struct world *w, const struct process *p,
                                     const struct block_id *b, const char *name,
                                     uint64_t generation, bool not_held)
{
    struct plan plan;
    plan_new(w, &w->alice, &plan);
    uint64_t node = world_node_id(&w->alice);
    plan_range(&plan, plan_create(&plan, node, NODE_REG), 0, 100, b, 0);
    plan_entry(&plan, w->alice.root, name, 0, 0, node);
    plan_id(&plan, b, 100);
    if (generation) {
        struct m_receipt r = world_receipt(w, w->alice.ns, b, 100, p->s);
        r.generation = generation;
        r.incarnation = bytes_of(p->incarnation, 16);
        r.run = p->run;
        plan_receipt(w, &plan, &r, &w->key[p->s]);
    }
    if (not_held)
        plan.not_held[plan.q.not_held_n++] = *b;
    struct m_commit_ans a = world_commit(w, &w->alice, &plan);
    plan_free(&plan);
    return a;
}

static bool is_missing(struct world *w, const struct block_id *b)
{
    struct m_block_ref ref = {.block = *b, .len = 100};
    struct m_diff_req q = {.ns = w->alice.ns, .target = w->server[HQ], .ids = &ref, .ids_n = 1};
    struct m_diff_ans a;
    assert_int_equal(meta_diff(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    return a.missing_n || a.elsewhere_n;
}

static struct m_inventory_ans compare(struct world *w, const struct process *p,
                                      const struct block_id *b, uint64_t put, uint64_t now,
                                      uint64_t before)
{
    struct m_held h = {.ns = w->alice.ns, .block = *b, .len = 100, .generation = put};
    struct m_inventory_req q = {.incarnation = bytes_of(p->incarnation, 16),
                                .run = p->run,
                                .generation = now,
                                .before = before,
                                .blocks = &h,
                                .blocks_n = 1};
    struct m_inventory_ans a;
    memset(&q.upto, 0xff, sizeof q.upto);
    assert_int_equal(meta_inventory(w->m, &w->server_who[p->s], &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

/* How many blocks it is to remove; or -errno. */
static int orders(struct world *w, struct process *p, uint64_t generation)
{
    struct m_collect_req q = {
        .incarnation = bytes_of(p->incarnation, 16), .run = p->run, .generation = generation};
    struct m_collect_ans a;
    int r = meta_collect(w->m, &w->server_who[p->s], &q, w->now, &a, &w->ar, w->why);
    if (!r && a.tick > p->tick)
        p->tick = a.tick;
    return r ? r : (int)a.blocks_n;
}

static void gc_once(struct world *w)
{
    struct meta_gc_sums sums = {0};
    bool more = false;
    assert_int_equal(meta_gc(w->m, w->now, &sums, &more), 0);
}

static void expect_hold(struct world *w, bool held)
{
    struct meta_restored v;
    char *gc = world_command(w, &world_admin, 0, "admin gc --dry-run");
    char *list = world_command(w, &world_admin, 0, "admin server list");
    assert_int_equal(meta_restored(w->m, &v), 0);
    assert_true((v.keep_until_ms != 0) == held);
    assert_true((strstr(gc, "put back to an older copy") != NULL) == held);
    assert_true((strstr(list, "put back to an older copy") != NULL) == held);
}

/* hq has a block of a file since before the copy was made. */
static struct process with_block(struct world *w, struct block_id *b)
{
    struct process p = process(HQ);
    *b = world_block(w);
    for (int k = 0; k < 3; k++)
        assert_false(must_renew(w, &p));
    expect_committed(commit_at(w, &p, b, "first", 15, false));
    assert_false(is_missing(w, b));
    back_up(w);
    assert_false(must_renew(w, &p));
    return p;
}

/* ---- noticed --------------------------------------------------------------------------------- */
static void what_a_block_server_was_told_gives_it_away(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b);
    assert_int_equal(epoch(w), 0);
    put_back(w);
    assert_int_equal(epoch(w), 0);
    assert_false(meta_noticed(w->m));
    assert_true(must_renew(w, &p));
    assert_true(meta_noticed(w->m));
    assert_false(meta_noticed(w->m));
    assert_true(meta_touched(w->m));
    assert_int_equal(epoch(w), w->now);
    expect_hold(w, true);
    assert_int_equal(world_holders(w, &b), 0);
    assert_true(is_missing(w, &b));
    assert_int_equal(commit_at(w, &p, &b, "old receipt", 15, false).status, COMMIT_MISSING);
    assert_true(must_renew(w, &p)); /* it did not hear it */
    renew(w, &p, 'x');
    assert_int_equal(compare(w, &p, &b, 15, 30, 0).announced, 1); /* what is there counts again */
    assert_int_equal(world_holders(w, &b), 1);
    assert_false(is_missing(w, &b));
    assert_false(must_renew(w, &p));
    assert_int_equal(epoch(w), w->now);
}

/* Copies of different ages are put back one after the other. */
static void each_time_is_another_epoch(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b);
    put_back(w);
    assert_true(must_renew(w, &p));
    renew(w, &p, 'x');
    uint64_t first = epoch(w);
    back_up(w); /* of what knows it */
    w->now += 5000;
    assert_false(must_renew(w, &p));
    assert_int_equal(epoch(w), first);
    put_back(w);
    assert_true(must_renew(w, &p));
    assert_int_equal(epoch(w), w->now);
    assert_true(epoch(w) > first);
}

/* The lost journal knew another incarnation of one, and the other was away for a while. */
static void all_block_servers_are_asked_again_once(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process other = process(CLOUD);
    for (int k = 0; k < 7; k++)
        assert_false(must_renew(w, &other));
    struct process p = with_block(w, &b);
    expect_committed(commit_at(w, &other, &b, "second", 12, false));
    other.run = 102;
    other.found = 12;
    renew(w, &other, 'y'); /* after the copy was made */
    put_back(w);
    assert_true(must_renew(w, &p));
    uint64_t noticed = epoch(w);
    assert_int_equal(world_holders(w, &b), 0);
    char *list = world_command(w, &world_admin, 0, "admin server list");
    assert_non_null(strstr(list, "not heard of since the database was put back"));
    w->now += 5000;
    assert_true(must_renew(w, &other));
    renew(w, &other, 'z');
    renew(w, &p, 'x');
    assert_false(must_renew(w, &other));
    assert_int_equal(epoch(w), noticed);
}

/* Also one that reports for the first time long after the others, with a tick that is behind by
 * then. */
static void who_was_away_is_asked_by_its_tick_alone(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b), away = process(CLOUD);
    expect_committed(commit_at(w, &away, &b, "a", 0, true)); /* held at hq */
    put_back(w);
    assert_true(must_renew(w, &p));
    renew(w, &p, 'x');
    for (int k = 0; k < 50; k++)
        assert_false(must_renew(w, &p));
    assert_true(must_renew(w, &away));
}

static void nothing_else_gives_it_away(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b), fresh = process(CLOUD);
    start(w); /* a restart of the metadata server */
    assert_false(must_renew(w, &p));
    start(w);
    start(w);
    assert_false(must_renew(w, &p));
    p.tick -= 2; /* the block server's machine lost power, or its disk is from a backup */
    assert_false(must_renew(w, &p));
    uint64_t told = p.tick;
    assert_false(
        beat_saying(w, &p, told).renew); /* an answer was lost; a beat came twice, and late */
    assert_false(beat_saying(w, &p, told).renew);
    assert_false(beat_saying(w, &p, told - 1).renew);
    p.tick = 1; /* its directory is new */
    assert_false(must_renew(w, &p));
    assert_false(must_renew(w, &fresh));
    struct process old = process(ATTIC); /* of a version that keeps no tick */
    for (int k = 0; k < 3; k++) {
        assert_false(beat_saying(w, &old, 0).renew);
        assert_int_equal(old.tick, 1);
    }
    assert_false(beat_saying(w, &old, 1).renew); /* updated */
    assert_false(must_renew(w, &old));
    assert_int_equal(epoch(w), 0);
    expect_hold(w, false);
    assert_false(is_missing(w, &b));
}

/* One that is broken, or somebody else's by now, does not void what is recorded of all others. */
static void a_running_server_was_not_put_back(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b), liar = process(CLOUD);
    start(w);
    assert_false(must_renew(w, &p));
    assert_false(must_renew(w, &liar));
    for (int k = 0; k < 3; k++) {
        uint64_t next = liar.tick + 1;
        assert_int_equal(beat_saying(w, &liar, liar.tick + 1000).tick, next);
        assert_false(must_renew(w, &p));
    }
    assert_int_equal(epoch(w), 0);
    expect_hold(w, false);
    assert_false(is_missing(w, &b));
    struct m_beat_req q = {.incarnation = bytes_of(liar.incarnation, 16),
                           .url = bytes_str("https://localhost:1"),
                           .run = liar.run,
                           .found = liar.found,
                           .tick = UINT64_MAX};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[liar.s], &q, w->now, &a, &w->ar, w->why),
                     -EBADMSG);
    start(w); /* now it may be so, for once */
    assert_true(beat_saying(w, &liar, liar.tick + 1000).renew);
    uint64_t noticed = epoch(w);
    assert_int_equal(noticed, w->now);
    w->now += 5000;
    renew(w, &liar, 'z');
    beat_saying(w, &liar, liar.tick + 1000);
    assert_int_equal(epoch(w), noticed);
}

/* Any member may name a mark that is nobody's. */
static void a_mark_holds_removals_only(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b), old = process(CLOUD);
    assert_false(beat_saying(w, &old, 0).renew);
    assert_int_equal(meta_other_journal(w->m, w->now), 0);
    assert_true(meta_noticed(w->m));
    uint64_t noticed = epoch(w);
    assert_int_equal(noticed, w->now);
    expect_hold(w, true);
    assert_false(must_renew(w, &p));
    assert_false(is_missing(w, &b));
    assert_true(beat_saying(w, &old, 0).renew); /* it could not have told */
    w->now += 1000;
    assert_int_equal(meta_other_journal(w->m, w->now), 0);
    assert_false(meta_noticed(w->m));
    assert_int_equal(epoch(w), noticed);
}

/* ---- what does not count --------------------------------------------------------------------- */
/* Before the first report nobody knows whether the database is an older copy. */
static void before_the_first_report_bytes_are_asked_for(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b);
    put_back(w);
    assert_true(is_missing(w, &b));
    assert_int_equal(commit_at(w, &p, &b, "again", 0, false).status, COMMIT_MISSING);
    expect_committed(commit_at(w, &p, &b, "not mine", 0, true)); /* there is nobody else to ask */
    expect_committed(commit_at(w, &p, &b, "with a receipt", 16, false));
    assert_int_equal(orders(w, &p, 40), -EAGAIN);
    start(w);
    p.tick = 1;
    assert_false(must_renew(w, &p));
    assert_false(is_missing(w, &b));
    assert_int_equal(orders(w, &p, 41), 0);
}

/* What nothing refers to may be what a mount is about to send again. */
static void nothing_unknown_is_removed_for_long(void **state)
{
    struct world *w = *state;
    struct block_id b, lost = world_block(w);
    struct process p = with_block(w, &b);
    expect_committed(commit_at(w, &p, &lost, "lost", 16, false));
    put_back(w);
    assert_true(must_renew(w, &p));
    renew(w, &p, 'x');
    struct m_inventory_ans a = compare(w, &p, &lost, 16, 30, 20);
    assert_int_equal(a.unneeded, 0);
    assert_int_equal(a.unknown, 1);
    w->now += KEEP_MS - 1000;
    gc_once(w);
    assert_int_equal(compare(w, &p, &lost, 16, 31, 20).unneeded, 0);
    assert_int_equal(orders(w, &p, 32), 0);
    expect_hold(w, true);
    w->now += 2000;
    assert_int_equal(compare(w, &p, &lost, 16, 33, 20).unneeded,
                     0); /* a clock alone ends nothing */
    gc_once(w);
    expect_hold(w, false);
    assert_int_equal(compare(w, &p, &lost, 16, 34, 20).unneeded, 1);
    assert_int_equal(orders(w, &p, 35), 1);
}

static void an_administrator_ends_it(void **state)
{
    struct world *w = *state;
    struct block_id b, lost = world_block(w);
    struct process p = with_block(w, &b);
    put_back(w);
    assert_true(must_renew(w, &p));
    renew(w, &p, 'x');
    assert_int_equal(compare(w, &p, &lost, 16, 30, 20).unneeded, 0);
    world_command(w, &world_admin, 0, "admin gc");
    world_command(w, &world_admin, 2, "admin gc --dry-run --restored");
    expect_hold(w, true);
    world_command(w, &world_admin, 0, "admin gc --restored");
    expect_hold(w, false);
    assert_int_equal(compare(w, &p, &lost, 16, 31, 20).unneeded, 1);
}

/* Due in the copy; but the lost journal referred to it again. The past is kept, too: mounts go on
 * from where they were. */
static void what_was_due_in_the_copy_is_not_removed(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w), c = world_block(w);
    struct process p = process(HQ);
    bool more;
    assert_false(must_renew(w, &p));
    expect_committed(commit_at(w, &p, &b, "b", 15, false));
    expect_committed(commit_at(w, &p, &c, "c", 15, false));
    const char *names[] = {"b", "c"};
    for (int k = 0; k < 2; k++) {
        struct m_entry e = world_lookup(w, &w->alice, w->alice.root, names[k], 0);
        struct plan plan;
        plan_new(w, &w->alice, &plan);
        plan_entry(&plan, w->alice.root, names[k], e.node, e.rev, 0)->base_content =
            e.inode.content_rev;
        expect_committed(world_commit(w, &w->alice, &plan));
        plan_free(&plan);
        w->now += k ? 3 * DAY_MS : DAY_MS / 2;
        assert_int_equal(meta_prune(w->m, w->now, 1000, &more), 0);
        if (!k) {
            gc_once(w);
            w->now += 3 * DAY_MS;
            gc_once(w); /* b is declared absent, c not */
        }
    }
    uint64_t head = world_head(w, &w->alice);
    world_make(w, &w->alice, w->alice.root, "later", NODE_DIR, 0);
    back_up(w);
    assert_false(must_renew(w, &p));
    put_back(w);
    assert_true(must_renew(w, &p));
    renew(w, &p, 'x');
    assert_int_equal(orders(w, &p, 40), 0);
    w->now += 3 * DAY_MS;
    gc_once(w);
    world_command(w, &world_admin, 0, "admin gc");
    assert_int_equal(orders(w, &p, 41), 0);
    assert_int_equal(compare(w, &p, &c, 15, 42, 0).lost, 0);
    assert_int_equal(meta_prune(w->m, w->now, 1000, &more), 0);
    struct m_list_req q = {.ns = w->alice.ns, .from = head};
    struct m_list_ans a;
    assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    assert_int_equal(a.resync, 0);
    assert_int_equal(a.records_n, 1);
    world_command(w, &world_admin, 0, "admin gc --restored");
    w->now += 3 * DAY_MS;
    gc_once(w);
    assert_int_equal(orders(w, &p, 43), 1); /* c, by the order that is new */
}

/* Nor where only a mount has told: its block server was told nothing since the copy was made, so
 * what was due is due. */
static void what_was_due_is_held_by_a_mark(void **state)
{
    struct world *w = *state;
    struct block_id b = world_block(w);
    struct process p = process(HQ);
    struct plan plan;
    bool more;
    assert_false(must_renew(w, &p));
    expect_committed(commit_at(w, &p, &b, "b", 15, false));
    struct m_entry e = world_lookup(w, &w->alice, w->alice.root, "b", 0);
    plan_new(w, &w->alice, &plan);
    plan_entry(&plan, w->alice.root, "b", e.node, e.rev, 0)->base_content = e.inode.content_rev;
    expect_committed(world_commit(w, &w->alice, &plan));
    plan_free(&plan);
    w->now += DAY_MS / 2;
    assert_int_equal(meta_prune(w->m, w->now, 1000, &more), 0);
    gc_once(w);
    w->now += 3 * DAY_MS;
    gc_once(w); /* b is declared absent */
    back_up(w);
    put_back(w);
    assert_false(must_renew(w, &p));
    assert_int_equal(meta_other_journal(w->m, w->now), 0);
    assert_int_equal(orders(w, &p, 40), 0);
    world_command(w, &world_admin, 0, "admin gc --restored");
    assert_int_equal(orders(w, &p, 41), 1);
}

/* An order is told with a tick, too: a copy that was made just before it is noticed. */
static void a_copy_of_just_before_an_order_is_noticed(void **state)
{
    struct world *w = *state;
    struct block_id b, garbage = world_block(w);
    struct process p = with_block(w, &b);
    assert_int_equal(compare(w, &p, &garbage, 5, 30, 20).unneeded, 1);
    back_up(w);
    uint64_t before = p.tick;
    assert_int_equal(orders(w, &p, 31), 1);
    assert_true(p.tick > before);
    put_back(w);
    assert_true(must_renew(w, &p));
}

/* ---- numbers --------------------------------------------------------------------------------- */
static void numbers_are_not_given_twice(void **state)
{
    struct world *w = *state;
    struct block_id b;
    struct process p = with_block(w, &b);
    struct meta_caller device = world_login(w, "alice", "phone");
    world_command(w, &w->alice.who, 0, "namespace create lost");
    struct m_session_req q = {.incarnation = bytes_of(w->alice.incarnation, 16),
                              .requests_used = 1000,
                              .nodes_used = 1000};
    struct m_session_ans a;
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.namespaces_n, 2);
    uint64_t lost_ns = a.namespaces[1].id, lost_root = a.namespaces[1].root;
    put_back(w);
    assert_true(must_renew(w, &p));
    assert_true(world_login(w, "alice", "tablet").device > device.device);
    world_command(w, &w->alice.who, 0, "namespace create found");
    assert_int_equal(meta_session(w->m, &w->alice.who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.namespaces_n, 2);
    assert_true(a.namespaces[1].id > lost_ns);
    assert_true(a.namespaces[1].root > lost_root);
}

static void a_database_of_version_13_is_brought_up(void **state)
{
    struct world *w = *state;
    static const struct migration first[] = {
        {1, sql_schema}, {2, sql_2},   {3, sql_3},  {4, sql_4}, {5, sql_5},
        {6, sql_6},      {7, sql_7},   {8, sql_8},  {9, sql_9}, {10, sql_10},
        {11, sql_11},    {12, sql_12}, {13, sql_13}};
    char path[128];
    sqlite3 *db;
    struct meta *m;
    struct server_row s;
    struct ns_row ns = {.name = bytes_str("m"), .root = 6};
    snprintf(path, sizeof path, "%s/old.db", w->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sq_migrate(db, first, 13, false, w->why), 0);
    assert_int_equal(
        sqlite3_exec(db,
                     "INSERT INTO server (id, premises, url, secret_hash, mac_key, key_id, "
                     "incarnation, generation, run) VALUES (4, 'hq', 'u', 'h', 'k', 1, "
                     "zeroblob(16), 3, 77);"
                     "INSERT INTO namespace (id, name, root) VALUES (7, 'n', 5)",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(meta_open(&m, &(struct meta_options){.path = path}, w->why), 0);
    assert_int_equal(meta_change_begin(m), 0);
    assert_int_equal(m->st->ops->server_get(m->st, 4, &s, &w->ar), 0);
    assert_int_equal(s.run, 77);
    assert_int_equal(s.tick, 0);
    assert_false(s.unheard || s.adopt);
    s.tick = 9;
    assert_int_equal(m->st->ops->server_set(m->st, &s), 0);
    assert_int_equal(m->st->ops->servers_unheard(m->st), 0);
    assert_int_equal(m->st->ops->server_get(m->st, 4, &s, &w->ar), 0);
    assert_int_equal(s.tick, 9);
    assert_true(s.unheard);
    assert_int_equal(m->st->ops->ns_add(m->st, &ns), 0);
    assert_int_equal(ns.id, 8);
    assert_int_equal(meta_change_end(m, 0), 0);
    meta_close(m);
    remove(path);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_a_block_server_was_told_gives_it_away),
        TEST(each_time_is_another_epoch),
        TEST(all_block_servers_are_asked_again_once),
        TEST(who_was_away_is_asked_by_its_tick_alone),
        TEST(nothing_else_gives_it_away),
        TEST(a_running_server_was_not_put_back),
        TEST(a_mark_holds_removals_only),
        TEST(before_the_first_report_bytes_are_asked_for),
        TEST(nothing_unknown_is_removed_for_long),
        TEST(an_administrator_ends_it),
        TEST(what_was_due_in_the_copy_is_not_removed),
        TEST(what_was_due_is_held_by_a_mark),
        TEST(a_copy_of_just_before_an_order_is_noticed),
        TEST(numbers_are_not_given_twice),
        TEST(a_database_of_version_13_is_brought_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
