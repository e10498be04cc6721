// SPDX-License-Identifier: Apache-2.0
/* admin fsck: what it says of files, records and disks, and what it repairs. */
#include "world.h"

#include <sqlite3.h>
#include <string.h>

/* What a block server has, where it is other than "all that is recorded". */
struct disk {
    struct m_held v[8];
    size_t n;
    bool dumb; /* it knows no checks */
};
struct run {
    struct world *w;
    struct disk disks[SERVERS];
    unsigned pauses;
    void (*waited)(struct run *r); /* called at a pause; NULL: answer */
};

static void compare(struct world *w, int s, const struct disk *d, bool look, struct m_check *k)
{
    struct m_inventory_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                                .generation = 20,
                                .blocks = (struct m_held *)(uintptr_t)d->v,
                                .blocks_n = d->n,
                                .look = look};
    struct m_inventory_ans a;
    memset(&q.upto, 0xff, sizeof q.upto);
    assert_int_equal(meta_inventory(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    k->not_there = a.lost;
    k->unrecorded = a.announced;
    k->unneeded = a.unneeded;
    k->unknown = a.unknown;
}

/* Every block server beats, does what it is ordered to, and tells. */
static void answer(struct run *r)
{
    struct world *w = r->w;
    for (int s = 0; s < SERVERS; s++) {
        struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                               .url = bytes_str("https://localhost:1")};
        struct m_beat_ans a = world_beat(w, s, NULL, 0);
        if (!a.check || r->disks[s].dumb)
            continue;
        q.check_set = true;
        q.check = (struct m_check){.order = a.check, .done = true, .blocks = r->disks[s].n};
        compare(w, s, &r->disks[s], !a.check_mend, &q.check);
        assert_int_equal(meta_beat(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
        assert_int_equal(a.check, 0); /* it is told no more */
    }
}

/* The whole of it: asks until there is no more. */
static const char *fsck(struct run *r, const char *line, uint64_t want_status)
{
    struct world *w = r->w;
    struct buf text = {0};
    struct m_word words[10] = {{bytes_str("admin")}, {bytes_str("fsck")}};
    struct m_command_req q = {.words = words, .words_n = 2};
    struct m_command_ans a;
    char *copy = arena_str(&w->ar, bytes_str(line)), *save = NULL;
    for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
        words[q.words_n++].text = bytes_str(t);
    size_t own = q.words_n;
    r->pauses = 0;
    do {
        assert_int_equal(meta_command(w->m, &world_admin, &q, w->now, &a, &w->ar), 0);
        buf_append(&text, a.text.p, a.text.n);
        q.words_n = own;
        words[q.words_n++].text = bytes_str("--from");
        words[q.words_n++].text = a.again;
        if (!a.pause_ms)
            continue;
        assert_true(r->pauses++ < 1000);
        (r->waited ? r->waited : answer)(r);
        w->now += (int64_t)a.pause_ms;
    } while (a.again.n);
    const char *said = arena_str(&w->ar, bytes_of(text.p, text.n));
    buf_free(&text);
    if (a.exit_status != want_status)
        fail_msg("exit status %u: %s", (unsigned)a.exit_status, said);
    return said;
}

static void hold(struct run *r, int s, const struct block_id *b)
{
    struct disk *d = &r->disks[s];
    size_t k = d->n++;
    struct m_held h = {.ns = r->w->alice.ns, .block = *b, .len = 100, .generation = 5};
    for (; k && memcmp(&d->v[k - 1].block, b, sizeof *b) > 0; k--)
        d->v[k] = d->v[k - 1];
    d->v[k] = h;
}

/* A file whose block is at hq, and at cloud, by record and in truth. */
static struct block_id whole(struct run *r, const char *name)
{
    struct world *w = r->w;
    struct block_id b = world_block(w);
    expect_committed(world_commit_with(w, &b, name, HQ, 5));
    assert_int_equal(world_stored(w, CLOUD, w->alice.ns, &b, 100, 5), 1);
    hold(r, HQ, &b);
    hold(r, CLOUD, &b);
    return b;
}

static void let_go(struct disk *d, const struct block_id *b)
{
    size_t k = 0;
    while (memcmp(&d->v[k].block, b, sizeof *b) != 0)
        k++;
    for (d->n--; k < d->n; k++)
        d->v[k] = d->v[k + 1];
}

static uint64_t query(struct world *w, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    uint64_t n = 0;
    assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    if (sqlite3_step(st) == SQLITE_ROW)
        n = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* ---- records alone --------------------------------------------------------------------------- */
static void records_alone_name_files(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    uint64_t dir = world_make(w, &w->alice, w->alice.root, "d", NODE_DIR, 0);
    uint64_t f = world_make(w, &w->alice, dir, "f", NODE_REG, 5000);
    uint64_t g = world_make(w, &w->alice, w->alice.root, "g", NODE_REG, 700);
    world_make(w, &w->alice, w->alice.root, "empty", NODE_REG, 0);
    struct block_id in_f = world_extents(w, &w->alice, f, 0).extents[0].block;
    struct block_id in_g = world_extents(w, &w->alice, g, 0).extents[0].block;
    const char *text = fsck(&r, "--recorded", 6);
    expect_text(text, "alice:/g: 700 bytes in 1 pieces are not at cloud\n");
    expect_text(text, "2 files (5700 bytes) are not at all block servers");
    world_stored(w, CLOUD, w->alice.ns, &in_f, 5000, 0);
    world_stored(w, CLOUD, w->alice.ns, &in_g, 700, 0);
    expect_text(fsck(&r, "--recorded", 0), "should be (2 pieces looked at)");
    world_lose(w, HQ, &in_f, 0);
    world_lose(w, CLOUD, &in_f, 0);
    text = fsck(&r, "--recorded", 1);
    expect_text(text, "alice:/d/f: 5000 bytes in 1 pieces are at no block server\n");
    expect_text(text, "1 files lack 5000 bytes");
    assert_null(strstr(text, "/g"));
    expect_text(fsck(&r, "--recorded alice", 1), "alice:/d/f");
    expect_text(fsck(&r, "--recorded bob", 0), "(0 pieces looked at)");
    assert_int_equal(r.pauses, 0); /* nobody was asked */
    world_command(w, &world_admin, 1, "admin fsck nobody");
    world_command(w, &world_admin, 2, "admin fsck --from nonsense");
    world_command(w, &world_admin, 2, "admin fsck --recorded --repair");
    world_command(w, &w->alice.who, 5, "admin fsck");
    /* a storage that is another one has nothing of it */
    memcpy(w->incarnation[HQ], "another storage!", 16);
    world_beat(w, HQ, NULL, 0);
    expect_text(fsck(&r, "--recorded", 1), "alice:/g: 700 bytes in 1 pieces are not at hq");
    w->now += 100000;
    expect_text(fsck(&r, "--recorded", 1), "(hq) was last heard of 100 s ago");
}

static void too_few_copies_are_said(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    world_make_block(w, "a");
    world_command(w, &world_admin, 0, "admin copies alice 2");
    expect_text(fsck(&r, "--recorded", 6),
                "are not at cloud, and at fewer block servers than the 2 that it wants\n");
    expect_text(fsck(&r, "--recorded --json", 6),
                "\"short_bytes\": 100, \"pieces\": 1, \"not_at\": [\"cloud\"], \"below_copies\": "
                "true}");
}

/* ---- disks ----------------------------------------------------------------------------------- */
static void all_is_well(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    whole(&r, "a");
    const char *text = fsck(&r, "", 0);
    expect_text(text, "(hq): 0 blocks looked at: as recorded\n");
    expect_text(text, "(attic)");
    expect_text(text, "should be (1 pieces looked at)");
    text = fsck(&r, "alice", 0);
    assert_null(strstr(text, "attic")); /* not a server of that namespace */
}

/* Looking changes nothing that is recorded, and is forgotten when it has been told. */
static void what_a_disk_lacks_is_told(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    struct block_id a = whole(&r, "a"), b = whole(&r, "b");
    whole(&r, "c");
    let_go(&r.disks[HQ], &a);
    let_go(&r.disks[HQ], &b);
    let_go(&r.disks[CLOUD], &b);
    const char *text = fsck(&r, "", 1);
    expect_text(text, "(hq): 0 blocks looked at: 2 are recorded to be there and are not\n");
    expect_text(text, "alice:/a: 100 bytes in 1 pieces are not at hq\n");
    expect_text(text, "alice:/b: 100 bytes in 1 pieces are at no block server\n");
    assert_null(strstr(text, "/c"));
    assert_int_equal(world_holders(w, &a) + world_holders(w, &b), 4);
    assert_int_equal(query(w, "SELECT count(*) FROM finding"), 0);
    expect_text(fsck(&r, "--recorded", 0), "all content is where it should be");
}

/* What was put again since is believed, whatever the look before it said. */
static void a_finding_is_older_than_a_put(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    struct block_id a = whole(&r, "a");
    struct m_check k;
    let_go(&r.disks[HQ], &a);
    compare(w, HQ, &r.disks[HQ], true, &k);
    assert_int_equal(k.not_there, 1);
    assert_int_equal(query(w, "SELECT count(*) FROM finding"), 1);
    expect_text(fsck(&r, "--recorded", 6), "alice:/a: 100 bytes in 1 pieces are not at hq\n");
    expect_committed(world_commit_with(w, &a, "again", HQ, 20));
    fsck(&r, "--recorded", 0);
    memcpy(w->incarnation[HQ], "another storage!", 16);
    world_beat(w, HQ, NULL, 0);
    assert_int_equal(query(w, "SELECT count(*) FROM finding"), 0);
}

/* Records of both were lost; the bytes are there. */
static void what_is_there_is_recorded_by_a_repair(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    struct block_id a = whole(&r, "a");
    query(w, "DELETE FROM presence");
    assert_int_equal(world_holders(w, &a), 0);
    const char *text = fsck(&r, "", 1);
    expect_text(text, "(cloud): 0 blocks looked at: 1 are there and are not recorded to be\n");
    expect_text(text, "are at no block server as recorded; some were found at hq, cloud, and fsck "
                      "--repair records that\n");
    assert_int_equal(world_holders(w, &a), 0);
    expect_text(fsck(&r, "--json", 1), "\"found_at\": [\"hq\", \"cloud\"]}");
    text = fsck(&r, "--repair", 0);
    expect_text(text, "1 are there and are not recorded to be: recorded now");
    expect_text(text, "repaired: 2 records were other than what is there, 0 blocks were lacking "
                      "unnoted, 0 blocks were brought\n");
    assert_int_equal(world_holders(w, &a), 2);
    fsck(&r, "", 0);
}

/* ---- bringing -------------------------------------------------------------------------------- */
/* Cloud gets what the metadata server says that it lacks. */
static void bring(struct run *r)
{
    struct world *w = r->w;
    struct m_backlog_req q = {.ns = w->alice.ns, .server = w->server[CLOUD]};
    struct m_backlog_ans a;
    answer(r);
    assert_int_equal(meta_backlog(w->m, &w->server_who[CLOUD], &q, &a, &w->ar, w->why), 0);
    for (size_t k = 0; k < a.blocks_n && r->pauses > 3; k++) {
        world_stored(w, CLOUD, w->alice.ns, &a.blocks[k].block, 100, 30);
        hold(r, CLOUD, &a.blocks[k].block);
    }
}

static void what_nobody_noted_is_brought(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w, .waited = bring};
    struct block_id a = whole(&r, "a"), b = world_block(w);
    expect_committed(world_commit_with(w, &b, "b", HQ, 5));
    hold(&r, HQ, &b);
    let_go(&r.disks[CLOUD], &a);
    query(w, "DELETE FROM lack"); /* nobody would ever bring it */
    expect_text(fsck(&r, "--recorded", 6), "alice:/b: 100 bytes in 1 pieces are not at cloud\n");
    const char *text = fsck(&r, "--repair", 0);
    expect_text(text, "repaired: 1 records were other than what is there, 1 blocks were lacking "
                      "unnoted, 2 blocks were brought\n");
    assert_int_equal(world_holders(w, &a) + world_holders(w, &b), 4);
}

/* What nobody has is not waited for; what nobody brings, not for ever. */
static void a_repair_ends(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    struct block_id a = whole(&r, "a");
    let_go(&r.disks[HQ], &a);
    let_go(&r.disks[CLOUD], &a);
    expect_text(fsck(&r, "--repair", 1), "1 files lack 100 bytes");
    assert_true(r.pauses < 3);
    struct block_id b = world_block(w);
    expect_committed(world_commit_with(w, &b, "b", HQ, 5));
    hold(&r, HQ, &b);
    int64_t began = w->now;
    expect_text(fsck(&r, "--repair", 1), "alice:/b: 100 bytes in 1 pieces are not at cloud\n");
    assert_true(w->now - began > 59000 && w->now - began < 70000);
}

/* ---- who does not answer --------------------------------------------------------------------- */
static void nothing(struct run *r)
{
    (void)r;
}

static void silence_is_said(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w};
    whole(&r, "a");
    r.disks[CLOUD].dumb = true; /* an older program: it beats, and knows of no checks */
    int64_t began = w->now;
    const char *text = fsck(&r, "", 6);
    expect_text(text, "(hq): 0 blocks looked at: as recorded\n");
    expect_text(text, "(cloud) does not answer (last heard of 0 s ago)");
    expect_text(text, "1 block servers could not be looked at\n");
    assert_true(w->now - began < 20000);
    r.waited = nothing; /* nobody is there */
    expect_text(fsck(&r, "", 6), "3 block servers could not be looked at\n");
    w->now += 7200000; /* who comes back much later does not begin with it */
    assert_int_equal(world_beat(w, HQ, NULL, 0).check, 0);
}

/* Who looks for long tells how far he is, and is waited for. */
static void slowly(struct run *r)
{
    struct world *w = r->w;
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[HQ], 16),
                           .url = bytes_str("https://localhost:1")};
    struct m_beat_ans a = world_beat(w, HQ, NULL, 0);
    if (!a.check)
        return;
    assert_true(a.check_read);
    q.check_set = true;
    q.check = (struct m_check){.order = a.check, .blocks = 30, .looked = r->pauses};
    q.check.done = r->pauses == 30;
    q.check.damaged = q.check.done;
    assert_int_equal(meta_beat(w->m, &w->server_who[HQ], &q, w->now, &a, &w->ar, w->why), 0);
    w->now += 10000;
    r->disks[CLOUD].dumb = r->disks[ATTIC].dumb = true;
}

static void progress_is_waited_for(void **state)
{
    struct world *w = *state;
    struct run r = {.w = w, .waited = slowly};
    const char *text = fsck(&r, "--read", 6);
    assert_int_equal(r.pauses, 30);
    expect_text(text, "(hq): 30 blocks looked at: 1 were damaged and are set aside");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(records_alone_name_files),
        TEST(too_few_copies_are_said),
        TEST(all_is_well),
        TEST(what_a_disk_lacks_is_told),
        TEST(a_finding_is_older_than_a_put),
        TEST(what_is_there_is_recorded_by_a_repair),
        TEST(what_nobody_noted_is_brought),
        TEST(a_repair_ends),
        TEST(silence_is_said),
        TEST(progress_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
