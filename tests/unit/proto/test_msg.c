// SPDX-License-Identifier: Apache-2.0
/* Messages: every type of message in random contents, cut at every byte, beyond every limit. */
#include "random_msg.h"
#include "unit.h"

#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 200

/* A structure of the message type, in the arena. */
static void *new_msg(const struct msg_desc *d, struct arena *a)
{
    return arena_alloc(a, d->size);
}

/* Decodes from memory of exactly n bytes, so that a sanitizer sees any byte read behind them. */
static int decode_exact(const struct msg_desc *d, void *msg, const void *p, size_t n,
                        enum msg_mode mode, struct arena *a, const char **why)
{
    void *exact = malloc(n ? n : 1);
    if (n)
        memcpy(exact, p, n);
    int err = msg_decode(d, msg, exact, n, mode, a, why);
    free(exact);
    return err;
}

static void every_message_comes_back(void **state)
{
    (void)state;
    uint64_t rng = 1;
    for (size_t i = 0; i < msg_all_n; i++) {
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct arena a cleanup_arena = {0};
            struct buf wire cleanup_buf = {0}, again cleanup_buf = {0};
            const struct msg_desc *d = msg_all[i];
            void *sent = new_msg(d, &a), *got = new_msg(d, &a);
            const char *why = NULL;
            random_msg(d, sent, &rng, &a);
            msg_encode(d, sent, &wire);
            memset(got, 0xff, d->size);
            assert_int_equal(msg_decode(d, got, wire.p, wire.n, MSG_STRICT, &a, &why), 0);
            assert_true(msg_same(d, sent, got));
            msg_encode(d, got, &again);
            assert_int_equal(wire.n, again.n);
            assert_memory_equal(wire.p, again.p, wire.n);
        }
    }
}

/* What we send is msgpack to others too. */
static void a_foreign_reader_understands(void **state)
{
    (void)state;
    uint64_t rng = 2;
    for (size_t i = 0; i < msg_all_n; i++) {
        struct arena a cleanup_arena = {0};
        struct buf wire cleanup_buf = {0};
        void *sent = new_msg(msg_all[i], &a);
        random_msg(msg_all[i], sent, &rng, &a);
        msg_encode(msg_all[i], sent, &wire);
        msgpack_unpacked u;
        msgpack_unpacked_init(&u);
        size_t off = 0;
        assert_int_equal(msgpack_unpack_next(&u, (const char *)wire.p, wire.n, &off),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(off, wire.n);
        assert_int_equal(u.data.type, MSGPACK_OBJECT_MAP);
        msgpack_unpacked_destroy(&u);
    }
}

static void zero_fields_stay_out(void **state)
{
    (void)state;
    struct buf wire cleanup_buf = {0};
    struct m_commit_ans empty = {0};
    msg_encode(&m_commit_ans_desc, &empty, &wire);
    assert_int_equal(wire.n, 1);
    assert_int_equal(wire.p[0], 0x80);
    wire.n = 0;
    struct m_watch required = {0}; /* ns is required: said even when zero */
    msg_encode(&m_watch_desc, &required, &wire);
    const uint8_t expected[] = {0x81, 1, 0};
    assert_int_equal(wire.n, sizeof(expected));
    assert_memory_equal(wire.p, expected, sizeof(expected));
}

static void cut_short_anywhere_fails(void **state)
{
    (void)state;
    uint64_t rng = 3;
    for (size_t i = 0; i < msg_all_n; i++) {
        const struct msg_desc *d = msg_all[i];
        struct arena a cleanup_arena = {0};
        struct buf wire cleanup_buf = {0};
        void *msg = new_msg(d, &a), *zero = new_msg(d, &a);
        random_msg(d, msg, &rng, &a);
        msg_encode(d, msg, &wire);
        for (size_t n = 0; n < wire.n; n++) {
            struct arena b cleanup_arena = {0};
            const char *why = NULL;
            assert_int_equal(decode_exact(d, msg, wire.p, n, MSG_LENIENT, &b, &why), -EBADMSG);
            assert_non_null(strstr(why, ": "));
            assert_memory_equal(msg, zero, d->size);
        }
        buf_append(&wire, "", 1);
        assert_int_equal(decode_exact(d, msg, wire.p, wire.n, MSG_LENIENT, &a, NULL), -EBADMSG);
    }
}

/* Changed bytes give an error or a message; what decodes encodes to something that decodes the
 * same. */
static void damage_is_survived(void **state)
{
    (void)state;
    uint64_t rng = 4;
    for (size_t i = 0; i < msg_all_n; i++) {
        const struct msg_desc *d = msg_all[i];
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct arena a cleanup_arena = {0};
            struct buf wire cleanup_buf = {0}, again cleanup_buf = {0};
            void *msg = new_msg(d, &a), *twice = new_msg(d, &a);
            random_msg(d, msg, &rng, &a);
            msg_encode(d, msg, &wire);
            for (unsigned k = 0; k < 1 + round % 4; k++)
                wire.p[random_next(&rng) % wire.n] = (uint8_t)random_next(&rng);
            enum msg_mode mode = round % 2 ? MSG_STRICT : MSG_LENIENT;
            if (msg_decode(d, msg, wire.p, wire.n, mode, &a, NULL) != 0)
                continue;
            msg_encode(d, msg, &again);
            assert_int_equal(msg_decode(d, twice, again.p, again.n, MSG_STRICT, &a, NULL), 0);
            assert_true(msg_same(d, msg, twice));
        }
    }
}

static bool is_array(const struct msg_field *f)
{
    return f->type == MSG_T_LIST || f->type == MSG_T_U64S || f->type == MSG_T_BLOCKS;
}

static bool is_run(const struct msg_field *f)
{
    return f->type == MSG_T_STR || f->type == MSG_T_BYTES;
}

static void append_u32(struct buf *b, uint8_t head, uint64_t v)
{
    uint8_t p[5] = {head, (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_append(b, p, sizeof(p));
}

/* A map with this field alone, of which only the head (length or count) is there. */
static int decode_head_only(const struct msg_desc *d, const struct msg_field *f, uint64_t count,
                            const char **why, struct arena *a)
{
    struct buf wire cleanup_buf = {0};
    buf_append(&wire, (const uint8_t[]){0x81, f->key}, 2);
    append_u32(&wire, is_array(f) ? 0xdd : f->type == MSG_T_STR ? 0xdb : 0xc6, count);
    void *msg = new_msg(d, a);
    return decode_exact(d, msg, wire.p, wire.n, MSG_STRICT, a, why);
}

static void every_limit_holds_before_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < msg_all_n; i++) {
        const struct msg_desc *d = msg_all[i];
        for (size_t k = 0; k < d->fields_n; k++) {
            const struct msg_field *f = &d->fields[k];
            if (!is_array(f) && !is_run(f))
                continue;
            struct arena a cleanup_arena = {0};
            const char *why = NULL;
            char expected[200];
            snprintf(expected, sizeof(expected), "%s.%s: %s", d->name, f->name,
                     is_array(f) ? "too many" : "too long");
            assert_true(f->max > 0);
            assert_int_equal(decode_head_only(d, f, f->max + 1, &why, &a), -EMSGSIZE);
            assert_string_equal(why, expected);
            assert_int_equal(decode_head_only(d, f, UINT32_MAX, &why, &a), -EMSGSIZE);
            assert_int_equal(decode_head_only(d, f, f->max, &why, &a), -EBADMSG);
            assert_non_null(strstr(why, "cut short"));
            assert_true(a.used < 4096);
        }
    }
}

/* A limit is the last value allowed. */
static void a_full_list_passes(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf wire cleanup_buf = {0};
    struct m_put_head head = {.ns = 1, .items_n = PUT_BATCH_BLOCKS}, got;
    head.items = arena_alloc(&a, head.items_n * sizeof(*head.items));
    uint8_t capability[1024] = {1};
    head.capability = bytes_of(capability, sizeof(capability));
    msg_encode(&m_put_head_desc, &head, &wire);
    assert_int_equal(msg_decode(&m_put_head_desc, &got, wire.p, wire.n, MSG_STRICT, &a, NULL), 0);
    assert_int_equal(got.items_n, PUT_BATCH_BLOCKS);
    assert_int_equal(got.capability.n, 1024);
}

static void a_message_too_large_is_refused(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct m_command_ans msg;
    const char *why = NULL;
    uint8_t *p = calloc(1, MSG_BODY_MAX + 1);
    assert_int_equal(
        msg_decode(&m_command_ans_desc, &msg, p, MSG_BODY_MAX + 1, MSG_LENIENT, &a, &why),
        -EMSGSIZE);
    assert_string_equal(why, "m_command_ans: too large");
    free(p);
}

/* Three bytes on the wire become a range of forty in memory: the sum is bounded. */
static void memory_is_bounded(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf wire cleanup_buf = {0};
    const unsigned nodes = 40;
    assert_true(nodes * CHANGES_ROWS_MAX * sizeof(struct m_range) > MSG_MEMORY_MAX);
    buf_append(&wire, (const uint8_t[]){0x81, 1, 0xdc, 0, (uint8_t)nodes}, 5);
    for (unsigned i = 0; i < nodes; i++) {
        buf_append(&wire, (const uint8_t[]){0x83, 1, 1, 2, 4, 12}, 6);
        append_u32(&wire, 0xdd, CHANGES_ROWS_MAX);
        for (unsigned k = 0; k < CHANGES_ROWS_MAX; k++)
            buf_append(&wire, (const uint8_t[]){0x81, 2, 1}, 3);
    }
    assert_true(wire.n <= MSG_BODY_MAX);
    struct m_changes msg;
    const char *why = NULL;
    assert_int_equal(msg_decode(&m_changes_desc, &msg, wire.p, wire.n, MSG_STRICT, &a, &why),
                     -EMSGSIZE);
    assert_string_equal(why, "m_node_change.ranges: the message would take too much memory");
    assert_true(a.used <= MSG_MEMORY_MAX + 4096);
}

/* The wire with one more key and its value behind the others. */
static void append_pair(struct buf *out, const struct buf *wire, const void *pair, size_t n)
{
    size_t count = wire->p[0] & 0x0f, at = 1;
    if (wire->p[0] == 0xde) {
        count = (size_t)wire->p[1] << 8 | wire->p[2];
        at = 3;
    }
    count++;
    buf_append(out, (const uint8_t[]){0xde, (uint8_t)(count >> 8), (uint8_t)count}, 3);
    buf_append(out, wire->p + at, wire->n - at);
    buf_append(out, pair, n);
}

static int decode_with_pair(const struct msg_desc *d, enum msg_mode mode, const void *pair,
                            size_t n, bool *same)
{
    uint64_t rng = 5;
    struct arena a cleanup_arena = {0};
    struct buf wire cleanup_buf = {0}, longer cleanup_buf = {0};
    void *sent = new_msg(d, &a), *got = new_msg(d, &a);
    random_msg(d, sent, &rng, &a);
    msg_encode(d, sent, &wire);
    append_pair(&longer, &wire, pair, n);
    int err = decode_exact(d, got, longer.p, longer.n, mode, &a, NULL);
    /* runs of bytes point into the input, which is gone: decode again where it lives */
    if (err == 0 && msg_decode(d, got, longer.p, longer.n, mode, &a, NULL) == 0 && same)
        *same = msg_same(d, sent, got);
    return err;
}

static void unknown_keys(void **state)
{
    (void)state;
    /* one value of every kind that msgpack has: length, then key 200 (as uint8) and the value */
    static const uint8_t pairs[][28] = {
        {3, 0xcc, 200, 0x05},
        {3, 0xcc, 200, 0xc0},
        {3, 0xcc, 200, 0xc2},
        {3, 0xcc, 200, 0xff},
        {5, 0xcc, 200, 0xc4, 1, 9},
        {6, 0xcc, 200, 0xc5, 0, 1, 9},
        {8, 0xcc, 200, 0xc6, 0, 0, 0, 1, 9},
        {6, 0xcc, 200, 0xc7, 1, 7, 9},
        {7, 0xcc, 200, 0xc8, 0, 1, 7, 9},
        {9, 0xcc, 200, 0xc9, 0, 0, 0, 1, 7, 9},
        {7, 0xcc, 200, 0xca, 1, 2, 3, 4},
        {11, 0xcc, 200, 0xcb, 1, 2, 3, 4, 5, 6, 7, 8},
        {11, 0xcc, 200, 0xcf, 1, 2, 3, 4, 5, 6, 7, 8},
        {11, 0xcc, 200, 0xd3, 1, 2, 3, 4, 5, 6, 7, 8},
        {5, 0xcc, 200, 0xd4, 1, 2},
        {6, 0xcc, 200, 0xd5, 1, 2, 3},
        {8, 0xcc, 200, 0xd6, 1, 2, 3, 4, 5},
        {12, 0xcc, 200, 0xd7, 1, 2, 3, 4, 5, 6, 7, 8, 9},
        {20, 0xcc, 200, 0xd8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17},
        {5, 0xcc, 200, 0xa2, 'a', 'b'},
        {5, 0xcc, 200, 0xd9, 1, 'a'},
        {6, 0xcc, 200, 0xda, 0, 1, 'a'},
        {8, 0xcc, 200, 0xdb, 0, 0, 0, 1, 'a'},
        {5, 0xcc, 200, 0x92, 1, 2},
        {7, 0xcc, 200, 0xdc, 0, 2, 1, 2},
        {9, 0xcc, 200, 0xdd, 0, 0, 0, 2, 1, 2},
        {6, 0xcc, 200, 0x81, 0xa1, 'k', 1},
        {7, 0xcc, 200, 0xde, 0, 1, 1, 2},
        {9, 0xcc, 200, 0xdf, 0, 0, 0, 1, 1, 2},
    };
    for (size_t i = 0; i < msg_all_n; i++) {
        for (size_t k = 0; k < sizeof(pairs) / sizeof(pairs[0]); k++) {
            bool same = false;
            const uint8_t *pair = pairs[k] + 1;
            size_t n = pairs[k][0];
            assert_int_equal(decode_with_pair(msg_all[i], MSG_LENIENT, pair, n, &same), 0);
            assert_true(same);
            assert_int_equal(decode_with_pair(msg_all[i], MSG_STRICT, pair, n, NULL), -EPROTO);
            for (size_t cut = 1; cut < n; cut++)
                assert_int_equal(decode_with_pair(msg_all[i], MSG_LENIENT, pair, cut, NULL),
                                 -EBADMSG);
        }
    }
}

static void unknown_values_nest_only_so_deep(void **state)
{
    (void)state;
    for (size_t depth = 1; depth <= MSG_DEPTH_MAX + 2; depth++) {
        uint8_t pair[2 + MSG_DEPTH_MAX + 3] = {0xcc, 200};
        memset(pair + 2, 0x91, depth);
        pair[2 + depth] = 0;
        assert_int_equal(decode_with_pair(&m_watch_desc, MSG_LENIENT, pair, depth + 3, NULL),
                         depth <= MSG_DEPTH_MAX ? 0 : -EBADMSG);
    }
    const uint8_t many[] = {0xcc, 200, 0xdd, 0xff, 0xff, 0xff, 0xff, 0};
    assert_int_equal(decode_with_pair(&m_watch_desc, MSG_LENIENT, many, sizeof(many), NULL),
                     -EBADMSG);
}

static void a_key_twice_is_refused(void **state)
{
    (void)state;
    const uint8_t known[] = {0x82, 1, 5, 1, 5}, long_form[] = {0x82, 1, 5, 0xcd, 0, 1, 5};
    const uint8_t unknown[] = {0x83, 1, 5, 99, 1, 99, 1};
    const uint8_t zero_key[] = {0x82, 1, 5, 0, 5}, large_key[] = {0x82, 1, 5, 0xcd, 1, 0, 5};
    const uint8_t text_key[] = {0x82, 1, 5, 0xa1, 'a', 5};
    const struct bytes all[] = {{known, sizeof(known)},         {long_form, sizeof(long_form)},
                                {unknown, sizeof(unknown)},     {zero_key, sizeof(zero_key)},
                                {large_key, sizeof(large_key)}, {text_key, sizeof(text_key)}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct arena a cleanup_arena = {0};
        struct m_watch msg;
        assert_int_equal(
            decode_exact(&m_watch_desc, &msg, all[i].p, all[i].n, MSG_LENIENT, &a, NULL), -EBADMSG);
    }
    for (size_t i = 0; i < msg_all_n; i++) {
        const struct msg_desc *d = msg_all[i];
        for (size_t k = 0; k < d->fields_n; k++) {
            const uint8_t pair[] = {d->fields[k].key, 0xc0};
            assert_int_not_equal(decode_with_pair(d, MSG_LENIENT, pair, sizeof(pair), NULL), 0);
        }
    }
}

static void required_fields_are_required(void **state)
{
    (void)state;
    uint64_t rng = 6;
    for (size_t i = 0; i < msg_all_n; i++) {
        const struct msg_desc *d = msg_all[i];
        for (size_t k = 0; k < d->fields_n; k++) {
            if (!(d->fields[k].flags & MSG_REQ))
                continue;
            struct arena a cleanup_arena = {0};
            struct buf wire cleanup_buf = {0};
            void *msg = new_msg(d, &a);
            random_msg(d, msg, &rng, &a);
            /* the same message in a version that does not know this field */
            struct msg_field *fields = arena_copy(&a, d->fields, d->fields_n * sizeof(*fields));
            memmove(&fields[k], &fields[k + 1], (d->fields_n - k - 1) * sizeof(*fields));
            struct msg_desc without = *d;
            without.fields = fields;
            without.fields_n = d->fields_n - 1;
            msg_encode(&without, msg, &wire);
            const char *why = NULL;
            char expected[200];
            snprintf(expected, sizeof(expected), "%s.%s: missing", d->name, d->fields[k].name);
            assert_int_equal(msg_decode(d, msg, wire.p, wire.n, MSG_LENIENT, &a, &why), -EBADMSG);
            assert_string_equal(why, expected);
        }
    }
}

static void numbers_in_every_encoding(void **state)
{
    (void)state;
    static const struct {
        uint64_t u; /* as unsigned */
        int64_t i;  /* as signed */
        bool u_ok, i_ok;
        uint8_t n, p[9];
    } cases[] = {
        {7, 7, true, true, 1, {0x07}},
        {7, 7, true, true, 2, {0xcc, 7}},
        {7, 7, true, true, 3, {0xcd, 0, 7}},
        {7, 7, true, true, 5, {0xce, 0, 0, 0, 7}},
        {7, 7, true, true, 9, {0xcf, 0, 0, 0, 0, 0, 0, 0, 7}},
        {UINT64_MAX, 0, true, false, 9, {0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
        {0, INT64_MIN, false, true, 9, {0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0}},
        {7, 7, true, true, 2, {0xd0, 7}},
        {0, -128, false, true, 2, {0xd0, 0x80}},
        {0, -2, false, true, 3, {0xd1, 0xff, 0xfe}},
        {0, -2, false, true, 5, {0xd2, 0xff, 0xff, 0xff, 0xfe}},
        {0, -1, false, true, 1, {0xff}},
        {0, -32, false, true, 1, {0xe0}},
        {0, 0, false, false, 1, {0xc0}},
        {0, 0, false, false, 1, {0xc3}},
        {0, 0, false, false, 5, {0xca, 0, 0, 0, 0}},
        {0, 0, false, false, 2, {0xa1, '7'}},
        {0, 0, false, false, 1, {0xc1}}, /* never used by msgpack */
    };
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        struct arena a cleanup_arena = {0};
        struct buf wire cleanup_buf = {0};
        struct m_watch watch;
        buf_append(&wire, (const uint8_t[]){0x81, 1}, 2);
        buf_append(&wire, cases[k].p, cases[k].n);
        int err = msg_decode(&m_watch_desc, &watch, wire.p, wire.n, MSG_STRICT, &a, NULL);
        assert_int_equal(err, cases[k].u_ok ? 0 : -EBADMSG);
        assert_true(watch.ns == cases[k].u);

        struct m_inode inode;
        wire.n = 0;
        buf_append(&wire, (const uint8_t[]){0x83, 1, 1, 2, 1, 8}, 6);
        buf_append(&wire, cases[k].p, cases[k].n);
        err = msg_decode(&m_inode_desc, &inode, wire.p, wire.n, MSG_STRICT, &a, NULL);
        assert_int_equal(err, cases[k].i_ok ? 0 : -EBADMSG);
        assert_true(inode.mtime == cases[k].i);
    }
}

static void text_has_no_nul(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct m_word word;
    const uint8_t wire[] = {0x81, 1, 0xa3, 'a', 0, 'b'};
    assert_int_equal(msg_decode(&m_word_desc, &word, wire, sizeof(wire), MSG_STRICT, &a, NULL),
                     -EBADMSG);
}

/* The tables themselves: keys rise from 1 and fit one byte on the wire, limits exist, names differ.
 */
static void tables_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < msg_all_n; i++) {
        const struct msg_desc *d = msg_all[i];
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(d->name, msg_all[k]->name);
        assert_true(d->fields_n > 0);
        for (size_t k = 0; k < d->fields_n; k++) {
            const struct msg_field *f = &d->fields[k];
            assert_in_range(f->key, 1, 127);
            assert_true(k == 0 || f->key > d->fields[k - 1].key);
            assert_true(f->max <= MSG_BODY_MAX);
            assert_true((f->sub != NULL) == (f->type == MSG_T_LIST || f->type == MSG_T_SUB));
        }
    }
}

/* The first fields are known as soon as they are there, whatever comes behind; and only where they
 * come first. */
static void the_front_is_enough(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf wire cleanup_buf = {0};
    struct block_id ids[3] = {0};
    struct m_get_req q = {.ns = 7, .capability = bytes_str("leave"), .blocks = ids, .blocks_n = 3};
    struct m_get_req got;
    msg_encode(&m_get_req_desc, &q, &wire);
    size_t front = 1 + 2 + 1 + 2 + 5; /* map, key and number, key and bytes */
    for (size_t n = 0; n <= wire.n; n++) {
        void *exact = malloc(n ? n : 1);
        memcpy(exact, wire.p, n);
        int err = msg_decode_front(&m_get_req_desc, &got, exact, n, 2, &a);
        assert_int_equal(err, n < front ? -EBADMSG : 0);
        assert_int_equal(got.ns, n < front ? 0 : 7);
        assert_int_equal(got.capability.n, n < front ? 0 : 5);
        assert_int_equal(got.blocks_n, 0);
        free(exact);
    }
    static const uint8_t swapped[] = {0x82, 2, 0xc4, 1, 'x', 1, 7};
    static const uint8_t twice[] = {0x82, 1, 7, 1, 7};
    static const uint8_t one[] = {0x81, 1, 7, 2, 0xc4, 1, 'x'};
    assert_int_equal(msg_decode_front(&m_get_req_desc, &got, swapped, sizeof swapped, 2, &a),
                     -EBADMSG);
    assert_int_equal(msg_decode_front(&m_get_req_desc, &got, twice, sizeof twice, 2, &a), -EBADMSG);
    assert_int_equal(msg_decode_front(&m_get_req_desc, &got, one, sizeof one, 2, &a), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_sound),
        cmocka_unit_test(every_message_comes_back),
        cmocka_unit_test(a_foreign_reader_understands),
        cmocka_unit_test(zero_fields_stay_out),
        cmocka_unit_test(cut_short_anywhere_fails),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(every_limit_holds_before_memory),
        cmocka_unit_test(a_full_list_passes),
        cmocka_unit_test(a_message_too_large_is_refused),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(the_front_is_enough),
        cmocka_unit_test(unknown_keys),
        cmocka_unit_test(unknown_values_nest_only_so_deep),
        cmocka_unit_test(a_key_twice_is_refused),
        cmocka_unit_test(required_fields_are_required),
        cmocka_unit_test(numbers_in_every_encoding),
        cmocka_unit_test(text_has_no_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
