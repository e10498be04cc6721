// SPDX-License-Identifier: Apache-2.0
/* Sizes go over the edges at which storages change their ways: empty of meaning for the interface,
 * but a storage keeps small and large blocks differently. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "conformance.h"

#include "blockid.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const size_t sizes[] = {1, 4096, (256 << 10) - 1, 256 << 10, 1 << 20, 4 << 20};
#define SIZES (sizeof sizes / sizeof *sizes)

struct env {
    const struct storage_fixture *f;
    void *place;
    struct storage *s;
};

uint8_t *block_make(size_t n, unsigned seed, struct block_id *id)
{
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24);
    }
    block_id_of(id, p, n);
    return p;
}

int put_one(struct storage *s, uint64_t ns, const struct block_id *id, const uint8_t *p, size_t n)
{
    struct storage_put v = {.id = *id, .stored = {p, n}, .logical_len = n};
    s->ops->put(s, ns, &v, 1);
    return v.err;
}

void expect_block(struct storage *s, uint64_t ns, const struct block_id *id, const uint8_t *p,
                  size_t n)
{
    struct buf b = {0};
    uint64_t logical = 0;
    struct storage_info info;
    buf_append(&b, "front", 5); /* get appends */
    assert_int_equal(s->ops->get(s, ns, id, &b, &logical), 0);
    assert_int_equal(b.n, n + 5);
    assert_memory_equal(b.p, "front", 5);
    assert_memory_equal(b.p + 5, p, n);
    assert_int_equal(logical, n);
    buf_free(&b);
    assert_int_equal(s->ops->have(s, ns, id, 1, &info), 0);
    assert_true(info.there);
    assert_int_equal(info.stored_len, n);
    assert_int_equal(info.logical_len, n);
}

void expect_absent(struct storage *s, uint64_t ns, const struct block_id *id)
{
    struct buf b = {0};
    uint64_t logical = 0;
    struct storage_info info;
    assert_int_equal(s->ops->get(s, ns, id, &b, &logical), -ENOENT);
    assert_int_equal(b.n, 0);
    assert_int_equal(s->ops->have(s, ns, id, 1, &info), 0);
    assert_false(info.there);
    buf_free(&b);
}

static int set_up(void **state)
{
    struct env *e = *state;
    e->place = e->f->make();
    e->s = e->f->open(e->place);
    return 0;
}

static int tear_down(void **state)
{
    struct env *e = *state;
    if (e->s)
        e->s->ops->close(e->s);
    e->f->discard(e->place);
    e->s = NULL;
    return 0;
}

static void reopen(struct env *e)
{
    e->s->ops->close(e->s);
    e->s = e->f->open(e->place);
}

static void test_put_and_get(void **state)
{
    struct env *e = *state;
    struct block_id id[SIZES];
    uint8_t *p[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        p[i] = block_make(sizes[i], (unsigned)i, &id[i]);
        expect_absent(e->s, 1, &id[i]);
        assert_int_equal(put_one(e->s, 1, &id[i], p[i], sizes[i]), 0);
        expect_block(e->s, 1, &id[i], p[i], sizes[i]);
    }
    reopen(e);
    struct storage_usage u;
    e->s->ops->usage(e->s, &u);
    uint64_t sum = 0;
    for (size_t i = 0; i < SIZES; i++) {
        expect_block(e->s, 1, &id[i], p[i], sizes[i]);
        sum += sizes[i];
        free(p[i]);
    }
    assert_int_equal(u.blocks, SIZES);
    assert_int_equal(u.bytes, sum);
}

static void test_batch(void **state)
{
    struct env *e = *state;
    enum { N = 40 };
    struct storage_put v[N];
    for (unsigned i = 0; i < N - 2; i++) {
        size_t n = i % 10 == 9 ? 300000 : 100 + i;
        v[i] = (struct storage_put){.logical_len = n};
        v[i].stored = (struct bytes){block_make(n, i, &v[i].id), n};
    }
    v[N - 2] = v[3]; /* a small and a large one twice */
    v[N - 1] = v[9];
    e->s->ops->put(e->s, 7, v, N);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(v[i].err, 0);
        expect_block(e->s, 7, &v[i].id, v[i].stored.p, v[i].stored.n);
    }
    struct storage_usage u;
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, N - 2);
    e->s->ops->put(e->s, 7, v, 0); /* an empty batch */
    for (unsigned i = 0; i < N - 2; i++)
        free((void *)(uintptr_t)v[i].stored.p);
}

static void test_namespaces(void **state)
{
    struct env *e = *state;
    for (size_t i = 0; i < SIZES; i++) {
        struct block_id id;
        uint8_t *p = block_make(sizes[i], (unsigned)i, &id);
        assert_int_equal(put_one(e->s, 1, &id, p, sizes[i]), 0);
        expect_absent(e->s, 2, &id);
        expect_absent(e->s, 0, &id);
        assert_int_equal(put_one(e->s, 2, &id, p, sizes[i]), 0);
        expect_block(e->s, 2, &id, p, sizes[i]);
        expect_block(e->s, 1, &id, p, sizes[i]);
        expect_absent(e->s, 3, &id);
        free(p);
    }
    struct storage_usage u;
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, SIZES); /* stored once */
    reopen(e);
    struct block_id id;
    uint8_t *p = block_make(sizes[0], 0, &id);
    expect_block(e->s, 2, &id, p, sizes[0]);
    expect_absent(e->s, 3, &id);
    free(p);
}

/* A block gets there for another namespace without being brought. */
static void test_link(void **state)
{
    struct env *e = *state;
    struct block_id ids[SIZES + 1];
    uint8_t *p[SIZES];
    struct storage_info info[SIZES + 1];
    if (!e->s->ops->link)
        skip();
    for (size_t i = 0; i < SIZES; i++) {
        p[i] = block_make(sizes[i], 900 + (unsigned)i, &ids[i]);
        assert_int_equal(put_one(e->s, 5, &ids[i], p[i], sizes[i]), 0);
    }
    free(block_make(10, 999, &ids[SIZES])); /* never stored */
    assert_int_equal(e->s->ops->link(e->s, 6, 7, ids, SIZES + 1, info), 0);
    for (size_t i = 0; i <= SIZES; i++)
        assert_false(info[i].there); /* not from a namespace that does not have them */
    expect_absent(e->s, 6, &ids[0]);
    assert_int_equal(e->s->ops->link(e->s, 6, 5, ids, SIZES + 1, info), 0);
    reopen(e);
    for (size_t i = 0; i < SIZES; i++) {
        assert_true(info[i].there);
        assert_int_equal(info[i].logical_len, sizes[i]);
        expect_block(e->s, 6, &ids[i], p[i], sizes[i]);
        expect_block(e->s, 5, &ids[i], p[i], sizes[i]);
        free(p[i]);
    }
    assert_false(info[SIZES].there);
    expect_absent(e->s, 6, &ids[SIZES]);
}

static void test_have_many(void **state)
{
    struct env *e = *state;
    enum { N = 3000 };
    struct block_id *ids = calloc(N, sizeof *ids);
    struct storage_info *info = calloc(N, sizeof *info);
    for (unsigned i = 0; i < N; i++) {
        uint8_t *p = block_make(16, i, &ids[i]);
        if (i % 3 == 0)
            assert_int_equal(put_one(e->s, 5, &ids[i], p, 16), 0);
        free(p);
    }
    assert_int_equal(e->s->ops->have(e->s, 5, ids, N, info), 0);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(info[i].there, i % 3 == 0);
    free(ids);
    free(info);
}

static void test_damage(void **state)
{
    struct env *e = *state;
    for (size_t i = 0; i < SIZES; i++) {
        struct block_id id;
        uint8_t *p = block_make(sizes[i], 70 + (unsigned)i, &id);
        assert_int_equal(e->s->ops->set_aside(e->s, &id), -EALREADY); /* unknown */
        assert_int_equal(put_one(e->s, 1, &id, p, sizes[i]), 0);
        assert_int_equal(put_one(e->s, 2, &id, p, sizes[i]), 0);
        assert_int_equal(e->s->ops->set_aside(e->s, &id), -EALREADY); /* nothing wrong with it */
        expect_block(e->s, 1, &id, p, sizes[i]);
        e->s->ops->close(e->s);
        e->f->damage(e->place, &id);
        e->s = e->f->open(e->place);
        struct buf b = {0};
        uint64_t logical;
        int r = e->s->ops->get(e->s, 1, &id, &b, &logical);
        assert_true(r == -EUCLEAN || (!r && !block_id_matches(&id, b.p, b.n)));
        buf_free(&b);
        assert_int_equal(e->s->ops->set_aside(e->s, &id), 0);
        expect_absent(e->s, 1, &id);
        expect_absent(e->s, 2, &id);
        /* stored anew, it is there again, for who stored it */
        assert_int_equal(put_one(e->s, 2, &id, p, sizes[i]), 0);
        expect_block(e->s, 2, &id, p, sizes[i]);
        expect_absent(e->s, 1, &id);
        free(p);
    }
    struct storage_usage u;
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, SIZES);
}

static void expect_lost(struct storage *s, const struct storage_lost *want, size_t n)
{
    struct storage_lost got[16];
    size_t got_n;
    assert_int_equal(s->ops->lost(s, got, 16, &got_n), 0);
    assert_int_equal(got_n, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || got[i].serial > got[i - 1].serial);
        assert_int_equal(got[i].ns, want[i].ns);
        assert_memory_equal(&got[i].id, &want[i].id, sizeof want[i].id);
    }
}

/* Who brings a block repairs it, also where nobody had noticed the damage. */
/* Many wrong blocks are not the blocks' fault, until somebody has looked. */
static void test_much_damage(void **state)
{
    struct env *e = *state;
    enum { MUCH = TRUST_WRONG + 4 };
    struct block_id ids[MUCH], right;
    int aside = 0, again = 0;
    for (unsigned i = 0; i < MUCH; i++) {
        uint8_t *p = block_make(i % 2 ? 5000 : 300000, 10 + i, &ids[i]);
        assert_int_equal(put_one(e->s, 1, &ids[i], p, i % 2 ? 5000 : 300000), 0);
        free(p);
    }
    uint8_t *p = block_make(4000, 1, &right);
    assert_int_equal(put_one(e->s, 1, &right, p, 4000), 0);
    for (unsigned i = 0; i < MUCH; i++)
        e->f->damage(e->place, &ids[i]);
    for (unsigned i = 0; i < MUCH; i++) {
        int r = e->s->ops->set_aside(e->s, &ids[i]);
        assert_int_equal(r, i + 1 < TRUST_WRONG ? 0 : -EIO);
        aside += !r;
    }
    assert_true(trust_broken(&e->s->trust));
    assert_int_equal(e->s->ops->set_aside(e->s, &right), -EALREADY);
    trust_again(&e->s->trust);
    for (unsigned i = 0; i < MUCH; i++)
        again += !e->s->ops->set_aside(e->s, &ids[i]);
    assert_int_equal(aside + again, MUCH);
    assert_false(trust_broken(&e->s->trust));
    expect_block(e->s, 1, &right, p, 4000);
    free(p);
}

static void test_put_over_damage(void **state)
{
    struct env *e = *state;
    for (size_t i = 0; i < SIZES; i++) {
        struct storage_put v = {.logical_len = sizes[i]};
        v.stored = (struct bytes){block_make(sizes[i], 90 + (unsigned)i, &v.id), sizes[i]};
        e->s->ops->put(e->s, 1, &v, 1);
        assert_int_equal(v.err, 0);
        e->s->ops->put(e->s, 2, &v, 1);
        assert_int_equal(v.err, 0);
        assert_false(v.damaged);
        e->s->ops->close(e->s);
        e->f->damage(e->place, &v.id);
        e->s = e->f->open(e->place);
        e->s->ops->put(e->s, 2, &v, 1);
        assert_int_equal(v.err, 0);
        assert_true(v.damaged);
        expect_block(e->s, 2, &v.id, v.stored.p, v.stored.n);
        expect_absent(e->s, 1, &v.id);
        /* one namespace lost it, the other has it again */
        struct storage_lost lost[2];
        size_t n;
        assert_int_equal(e->s->ops->lost(e->s, lost, 2, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(lost[0].ns, 1);
        assert_memory_equal(&lost[0].id, &v.id, sizeof v.id);
        assert_int_equal(e->s->ops->told(e->s, lost[0].serial), 0);
        expect_lost(e->s, NULL, 0);
        free((void *)(uintptr_t)v.stored.p);
    }
    struct storage_usage u;
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, SIZES);
}

/* Losses are remembered until they are told, over restarts; what is lost while they are being told
 * is not forgotten with them. */
static void test_losses(void **state)
{
    struct env *e = *state;
    struct storage_lost want[4] = {{.ns = 7}, {.ns = 7}, {.ns = 8}, {.ns = 7}};
    struct storage_lost first[2];
    struct block_id *ids[] = {&want[0].id, &want[1].id, &want[3].id};
    uint8_t *p[3];
    size_t n;
    for (unsigned i = 0; i < 3; i++) {
        p[i] = block_make(1000, 200 + i, ids[i]);
        assert_int_equal(put_one(e->s, 7, ids[i], p[i], 1000), 0);
    }
    want[2].id = want[1].id;
    assert_int_equal(put_one(e->s, 8, ids[1], p[1], 1000), 0);
    e->s->ops->close(e->s);
    for (unsigned i = 0; i < 3; i++)
        e->f->damage(e->place, ids[i]);
    e->s = e->f->open(e->place);
    expect_lost(e->s, NULL, 0); /* nobody looked yet */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(e->s->ops->set_aside(e->s, ids[i]), 0);
    reopen(e);
    expect_lost(e->s, want, 4);
    assert_int_equal(e->s->ops->lost(e->s, first, 2, &n), 0);
    assert_int_equal(n, 2);
    /* while these are told, the first is stored and lost again */
    assert_int_equal(put_one(e->s, 7, ids[0], p[0], 1000), 0);
    expect_lost(e->s, want + 1, 3);
    e->s->ops->close(e->s);
    e->f->damage(e->place, ids[0]);
    e->s = e->f->open(e->place);
    assert_int_equal(e->s->ops->set_aside(e->s, ids[0]), 0);
    assert_int_equal(e->s->ops->told(e->s, first[1].serial), 0);
    struct storage_lost left[3] = {want[2], want[3], want[0]};
    expect_lost(e->s, left, 3);
    for (unsigned i = 0; i < 3; i++)
        free(p[i]);
}

static uint64_t generation_of(struct storage *s, uint64_t ns, const struct block_id *id)
{
    struct storage_info info;
    assert_int_equal(s->ops->have(s, ns, id, 1, &info), 0);
    assert_true(info.there);
    return info.generation;
}

static uint64_t put_generation(struct storage *s, uint64_t ns, const struct block_id *id,
                               const uint8_t *p, size_t n)
{
    struct storage_put v = {.id = *id, .stored = {p, n}, .logical_len = n};
    struct storage_info had[1];
    assert_int_equal(s->ops->have(s, ns, id, 1, had), 0);
    s->ops->put(s, ns, &v, 1);
    assert_int_equal(v.err, 0);
    assert_int_equal(generation_of(s, ns, id), v.generation);
    assert_int_equal(v.fresh, !had[0].there);
    return v.generation;
}

/* What proves a put from before a loss is older than the loss; a put since is not. */
static void test_generations(void **state)
{
    struct env *e = *state;
    struct storage_lost lost[4];
    struct block_id id, other;
    size_t n;
    for (size_t i = 0; i < SIZES; i += SIZES - 1) {
        uint8_t *p = block_make(sizes[i], 300 + (unsigned)i, &id);
        uint8_t *q = block_make(1000, 400 + (unsigned)i, &other);
        uint64_t first = put_generation(e->s, 1, &id, p, sizes[i]);
        uint64_t second = put_generation(e->s, 2, &id, p, sizes[i]);
        uint64_t apart = put_generation(e->s, 1, &other, q, 1000);
        assert_true(first > 0 && second >= first && apart >= second);
        assert_int_equal(generation_of(e->s, 1, &id), first);
        e->s->ops->close(e->s);
        e->f->damage(e->place, &id);
        e->s = e->f->open(e->place);
        assert_int_equal(generation_of(e->s, 1, &id), first); /* a start says nothing new of it */
        assert_int_equal(e->s->ops->set_aside(e->s, &id), 0);
        assert_int_equal(e->s->ops->lost(e->s, lost, 4, &n), 0);
        assert_int_equal(n, 2);
        assert_true(lost[0].generation > apart && lost[1].generation == lost[0].generation);
        assert_int_equal(generation_of(e->s, 1, &other), apart);
        assert_true(put_generation(e->s, 1, &id, p, sizes[i]) >= lost[0].generation);
        /* put again, also what was never away has the generation of the new put */
        assert_true(put_generation(e->s, 1, &other, q, 1000) >= lost[0].generation);
        assert_int_equal(e->s->ops->told(e->s, lost[1].serial), 0);
        reopen(e);
        assert_true(generation_of(e->s, 1, &other) >= lost[0].generation);
        free(p);
        free(q);
    }
}

/* ---- collecting ---- */

static struct storage_collected collect_one(struct storage *s, uint64_t ns,
                                            const struct block_id *id, uint64_t generation)
{
    struct storage_collected sums = {0};
    assert_int_equal(s->ops->collect(s, ns, id, 1, generation, &sums), 0);
    return sums;
}

static uint64_t raised(struct storage *s)
{
    uint64_t generation;
    assert_int_equal(s->ops->raise(s, &generation), 0);
    return generation;
}

static void expect_usage(struct storage *s, uint64_t blocks, uint64_t bytes)
{
    struct storage_usage u;
    s->ops->usage(s, &u);
    assert_int_equal(u.blocks, blocks);
    assert_int_equal(u.bytes, bytes);
}

/* A block goes namespace by namespace, whichever stored it first, and its bytes with the last. */
static void test_collect(void **state)
{
    struct env *e = *state;
    for (size_t i = 0; i < 2 * SIZES; i++) {
        size_t n = sizes[i / 2];
        uint64_t first = 1 + i % 2, last = 2 - i % 2;
        struct block_id id;
        uint8_t *p = block_make(n, 600 + (unsigned)i, &id);
        assert_int_equal(put_one(e->s, 1, &id, p, n), 0);
        assert_int_equal(put_one(e->s, 2, &id, p, n), 0);
        uint64_t generation = raised(e->s);
        struct storage_collected sums = collect_one(e->s, first, &id, generation);
        assert_int_equal(sums.taken, 1);
        assert_int_equal(sums.blocks, 0);
        expect_absent(e->s, first, &id);
        expect_block(e->s, last, &id, p, n);
        expect_usage(e->s, 1, n);
        reopen(e);
        expect_absent(e->s, first, &id);
        expect_block(e->s, last, &id, p, n);
        sums = collect_one(e->s, first, &id, generation); /* again */
        assert_int_equal(sums.taken, 0);
        sums = collect_one(e->s, last, &id, generation);
        assert_int_equal(sums.taken, 1);
        assert_int_equal(sums.blocks, 1);
        assert_int_equal(sums.bytes, n);
        expect_absent(e->s, last, &id);
        expect_usage(e->s, 0, 0);
        reopen(e);
        expect_absent(e->s, last, &id);
        expect_usage(e->s, 0, 0);
        /* it can be stored again, of later generation */
        assert_true(put_generation(e->s, last, &id, p, n) >= generation);
        expect_block(e->s, last, &id, p, n);
        collect_one(e->s, last, &id, raised(e->s));
        free(p);
    }
    expect_lost(e->s, NULL, 0); /* nothing of it was a loss */
}

/* What was put since the generation was raised stays, for that namespace; the storage's generation
 * is that of the order from then on, whatever it was. */
static void test_collect_spares_what_was_put_since(void **state)
{
    struct env *e = *state;
    struct storage_entry page[8];
    size_t listed;
    for (size_t i = 0; i < SIZES; i += SIZES - 1) {
        size_t n = sizes[i];
        struct block_id id;
        uint8_t *p = block_make(n, 700 + (unsigned)i, &id);
        assert_int_equal(put_one(e->s, 1, &id, p, n), 0);
        assert_int_equal(put_one(e->s, 2, &id, p, n), 0);
        uint64_t generation = raised(e->s);
        assert_true(put_generation(e->s, 1, &id, p, n) >= generation);
        assert_int_equal(collect_one(e->s, 1, &id, generation).taken, 0);
        expect_block(e->s, 1, &id, p, n);
        assert_int_equal(collect_one(e->s, 2, &id, generation).taken,
                         1); /* it was not put for it */
        expect_block(e->s, 1, &id, p, n);
        collect_one(e->s, 1, &id, generation + 1000000);
        expect_absent(e->s, 1, &id);
        assert_int_equal(e->s->ops->after(e->s, NULL, page, 8, &listed), 0);
        assert_int_equal(listed, 0);
        assert_true(put_generation(e->s, 1, &id, p, n) >= generation + 1000000);
        expect_block(e->s, 1, &id, p, n);
        collect_one(e->s, 1, &id, raised(e->s));
        free(p);
    }
}

/* Blocks are put and got while they are collected, again and again. */
struct rival {
    struct storage *s;
    unsigned number;
    int errors;
    atomic_bool *stop;
};

enum { RIVALS = 4, RIVAL_BLOCKS = 6, RIVAL_ROUNDS = 60 };

static uint8_t *rival_block(unsigned i, size_t *n, struct block_id *id)
{
    *n = i % 2 ? 300000 : 1000;
    return block_make(*n, 800 + i, id);
}

static void *put_against(void *arg)
{
    struct rival *w = arg;
    for (unsigned i = 0; i < RIVAL_ROUNDS; i++) {
        size_t n;
        struct storage_put v = {0};
        struct storage_info info;
        struct buf b = {0};
        uint64_t logical, ns = 1 + (w->number + i) % 2;
        uint8_t *p = rival_block(i % RIVAL_BLOCKS, &n, &v.id);
        v.stored = (struct bytes){p, n};
        v.logical_len = n;
        w->s->ops->put(w->s, ns, &v, 1);
        w->errors += v.err != 0 || v.damaged;
        w->errors += w->s->ops->have(w->s, ns, &v.id, 1, &info) != 0;
        w->errors += info.there && info.generation < v.generation;
        int r = w->s->ops->get(w->s, ns, &v.id, &b, &logical);
        if (r == -EUCLEAN) /* the file went between the row and the look at it */
            w->errors += w->s->ops->set_aside(w->s, &v.id) != -EALREADY;
        else
            w->errors += r ? r != -ENOENT : b.n != n || memcmp(b.p, p, n) != 0;
        buf_free(&b);
        free(p);
    }
    return NULL;
}

static void *collect_against(void *arg)
{
    struct rival *w = arg;
    for (unsigned i = 0; !*w->stop; i++) {
        struct block_id ids[RIVAL_BLOCKS];
        struct storage_collected sums = {0};
        uint64_t generation = 0;
        for (unsigned k = 0; k < RIVAL_BLOCKS; k++) {
            size_t n;
            free(rival_block(k, &n, &ids[k]));
        }
        w->errors += w->s->ops->raise(w->s, &generation) != 0;
        w->errors += w->s->ops->collect(w->s, 1 + i % 2, ids, RIVAL_BLOCKS, generation, &sums) != 0;
    }
    return NULL;
}

static void test_collect_against_puts(void **state)
{
    struct env *e = *state;
    pthread_t threads[RIVALS + 1];
    struct rival w[RIVALS + 1];
    atomic_bool stop = false;
    for (unsigned i = 0; i <= RIVALS; i++) {
        w[i] = (struct rival){.s = e->s, .number = i, .stop = &stop};
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < RIVALS ? put_against : collect_against, &w[i]),
            0);
    }
    for (unsigned i = 0; i <= RIVALS; i++) {
        stop = i == RIVALS;
        pthread_join(threads[i], NULL);
        assert_int_equal(w[i].errors, 0);
    }
    expect_lost(e->s, NULL, 0);
    /* what is put last is there, and nothing else is left */
    uint64_t bytes = 0, generation = raised(e->s);
    for (unsigned i = 0; i < RIVAL_BLOCKS; i++) {
        size_t n;
        struct block_id id;
        uint8_t *p = rival_block(i, &n, &id);
        assert_int_equal(put_one(e->s, 1, &id, p, n), 0);
        collect_one(e->s, 1, &id, generation);
        collect_one(e->s, 2, &id, generation);
        expect_block(e->s, 1, &id, p, n);
        expect_absent(e->s, 2, &id);
        bytes += n;
        free(p);
    }
    expect_usage(e->s, RIVAL_BLOCKS, bytes);
    reopen(e);
    for (unsigned i = 0; i < RIVAL_BLOCKS; i++) {
        size_t n;
        struct block_id id;
        uint8_t *p = rival_block(i, &n, &id);
        expect_block(e->s, 1, &id, p, n);
        free(p);
    }
}

/* What can be told without reading; a storage that tells nothing so says that. */
static void test_probe(void **state)
{
    struct env *e = *state;
    struct block_id id[SIZES], other;
    uint8_t *p = block_make(7, 99, &other);
    free(p);
    if (!e->s->ops->probe)
        return;
    for (size_t i = 0; i < SIZES; i++) {
        p = block_make(sizes[i], (unsigned)i, &id[i]);
        assert_int_equal(put_one(e->s, 1, &id[i], p, sizes[i]), 0);
        free(p);
        assert_int_equal(e->s->ops->probe(e->s, &id[i]), 0);
    }
    assert_int_equal(e->s->ops->probe(e->s, &other), -ENOENT);
    reopen(e);
    for (size_t i = 0; i < SIZES; i++)
        assert_int_equal(e->s->ops->probe(e->s, &id[i]), 0);
}

static void test_incarnation(void **state)
{
    struct env *e = *state;
    uint8_t first[INCARNATION_LEN], again[INCARNATION_LEN], lost[INCARNATION_LEN];
    static const uint8_t zero[INCARNATION_LEN];
    e->s->ops->incarnation(e->s, first);
    assert_memory_not_equal(first, zero, sizeof zero);
    reopen(e);
    e->s->ops->incarnation(e->s, again);
    assert_memory_equal(first, again, sizeof first);
    struct block_id id;
    uint8_t *p = block_make(10, 1, &id);
    assert_int_equal(put_one(e->s, 1, &id, p, 10), 0);
    e->s->ops->close(e->s);
    e->f->lose(e->place);
    e->s = e->f->open(e->place);
    e->s->ops->incarnation(e->s, lost);
    assert_memory_not_equal(first, lost, sizeof first);
    expect_absent(e->s, 1, &id);
    free(p);
}

/* What is put between two openings is told by its generation from what either found. */
static void test_opening(void **state)
{
    struct env *e = *state;
    struct block_id id, other;
    uint8_t *p = block_make(1000, 1, &id), *q = block_make(300000, 2, &other);
    assert_true(e->s->run > 0 && e->s->run <= INT64_MAX);
    uint64_t run = e->s->run, first = put_generation(e->s, 1, &id, p, 1000);
    assert_true(first > e->s->found);
    uint64_t second = put_generation(e->s, 1, &other, q, 300000);
    assert_true(second > first); /* also within one opening: a snapshot may come in between */
    assert_true(put_generation(e->s, 1, &id, p, 1000) > second);
    uint64_t last = put_generation(e->s, 2, &id, p, 1000);
    reopen(e);
    assert_true(e->s->run > 0 && e->s->run != run);
    assert_int_equal(e->s->found, last); /* all of it is there, and nothing later is */
    uint64_t now = raised(e->s);
    assert_true(now > last + 1); /* an opening raises it, too */
    reopen(e);
    assert_int_equal(e->s->found, now);
    free(p);
    free(q);
}

static void test_renew(void **state)
{
    struct env *e = *state;
    uint8_t first[INCARNATION_LEN], second[INCARNATION_LEN], third[INCARNATION_LEN];
    struct block_id id;
    uint8_t *p = block_make(1000, 1, &id);
    uint64_t generation = put_generation(e->s, 1, &id, p, 1000);
    e->s->ops->incarnation(e->s, first);
    assert_int_equal(e->s->ops->renew(e->s), 0);
    e->s->ops->incarnation(e->s, second);
    assert_memory_not_equal(first, second, sizeof first);
    reopen(e);
    e->s->ops->incarnation(e->s, third);
    assert_memory_equal(second, third, sizeof third); /* it is not made anew once more */
    expect_block(e->s, 1, &id, p, 1000);
    assert_int_equal(generation_of(e->s, 1, &id), generation);
    free(p);
}

/* In pages, in the order of ids, each block once. */
static void test_after(void **state)
{
    struct env *e = *state;
    enum { N = 23, PAGE = 5 };
    struct storage_entry page[PAGE];
    struct block_id last;
    size_t n, seen = 0;
    uint64_t bytes = 0;
    assert_int_equal(e->s->ops->after(e->s, NULL, page, PAGE, &n), 0);
    assert_int_equal(n, 0);
    for (unsigned i = 0; i < N; i++) {
        struct block_id id;
        size_t len = i % 4 ? 100 + i : 300000;
        uint8_t *p = block_make(len, 500 + i, &id);
        assert_int_equal(put_one(e->s, 1, &id, p, len), 0);
        assert_int_equal(put_one(e->s, 2, &id, p, len), 0);
        bytes += len;
        free(p);
    }
    do {
        assert_int_equal(e->s->ops->after(e->s, seen ? &last : NULL, page, PAGE, &n), 0);
        for (size_t i = 0; i < n; i++, seen++) {
            assert_true(!seen || block_id_compare(&last, &page[i].id) < 0);
            last = page[i].id;
            bytes -= page[i].stored_len;
        }
    } while (n);
    assert_int_equal(seen, N);
    assert_int_equal(bytes, 0);
    /* the same, with namespaces */
    struct storage_held rows[2 * N + 1];
    assert_int_equal(e->s->ops->held(e->s, NULL, rows, 2 * N + 1, &n), 0);
    assert_int_equal(n, 2 * N);
    for (size_t i = 0; i < n; i++) {
        struct storage_info info;
        assert_int_equal(rows[i].ns, 1 + i % 2);
        assert_true(i == 0 || block_id_compare(&rows[i - 1].id, &rows[i].id) <= 0);
        assert_int_equal(e->s->ops->have(e->s, rows[i].ns, &rows[i].id, 1, &info), 0);
        assert_int_equal(rows[i].logical_len, info.logical_len);
        assert_int_equal(rows[i].generation, info.generation);
    }
    assert_int_equal(e->s->ops->held(e->s, &rows[3].id, rows, 2, &n), 0);
    assert_int_equal(n, 2);
    assert_memory_equal(&rows[0].id, &rows[1].id, sizeof rows[0].id);
}

struct putter {
    struct storage *s;
    unsigned number;
    int errors;
};

enum { PUTTERS = 8, ROUNDS = 30 };

/* Half of the blocks are those of every other putter too. */
static void *put_many(void *arg)
{
    struct putter *w = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct block_id id;
        size_t n = i % 5 ? 1000 : 300000;
        uint8_t *p = block_make(n, i % 2 ? i : 1000 * (w->number + 1) + i, &id);
        struct buf b = {0};
        uint64_t logical;
        w->errors += put_one(w->s, 1 + w->number % 2, &id, p, n) != 0;
        w->errors += w->s->ops->get(w->s, 1 + w->number % 2, &id, &b, &logical) != 0;
        w->errors += b.n != n || memcmp(b.p, p, n) != 0;
        buf_free(&b);
        free(p);
    }
    return NULL;
}

static void test_concurrent(void **state)
{
    struct env *e = *state;
    pthread_t threads[PUTTERS];
    struct putter w[PUTTERS];
    for (unsigned i = 0; i < PUTTERS; i++) {
        w[i] = (struct putter){.s = e->s, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, &w[i]), 0);
    }
    for (unsigned i = 0; i < PUTTERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(w[i].errors, 0);
    }
    struct storage_usage u;
    e->s->ops->usage(e->s, &u);
    assert_int_equal(u.blocks, ROUNDS / 2 + PUTTERS * (ROUNDS / 2));
    reopen(e);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct block_id id;
        size_t n = i % 5 ? 1000 : 300000;
        uint8_t *p = block_make(n, i % 2 ? i : 1000 + i, &id);
        expect_block(e->s, 1, &id, p, n);
        free(p);
    }
}

int conformance_run(const struct storage_fixture *f)
{
    struct env env = {.f = f};
#define TEST(t)                                                                                    \
    {                                                                                              \
#t, t, set_up, tear_down, &env                                                             \
    }
    const struct CMUnitTest tests[] = {
        TEST(test_put_and_get),
        TEST(test_batch),
        TEST(test_namespaces),
        TEST(test_have_many),
        TEST(test_damage),
        TEST(test_much_damage),
        TEST(test_probe),
        TEST(test_incarnation),
        TEST(test_opening),
        TEST(test_renew),
        TEST(test_concurrent),
        TEST(test_put_over_damage),
        TEST(test_losses),
        TEST(test_after),
        TEST(test_generations),
        TEST(test_collect),
        TEST(test_collect_spares_what_was_put_since),
        TEST(test_collect_against_puts),
        TEST(test_link),
    };
#undef TEST
    return cmocka_run_group_tests_name(f->name, tests, NULL, NULL);
}
