// SPDX-License-Identifier: Apache-2.0
/* One encoder and one decoder for every message, driven by its field table.
 *
 * Encoding goes through msgpack-c's packer. Decoding reads the msgpack format by itself, in one
 * pass over the input, because msgpack-c's unpacker builds its own tree of objects before anybody
 * could look at counts. The reader never trusts a number in the input: a count is compared with the
 * field's maximum, then with what the rest of the input can hold at all (an element takes at least
 * the bytes of its required fields), then with the memory one message may take; only then memory is
 * allocated. Nesting is bounded by the tables themselves (messages do not contain themselves;
 * asserted against MSG_DEPTH_MAX), and in skipped values by MSG_DEPTH_MAX containers.
 *
 * Accepted are all encodings of a number that msgpack has, not only the shortest, and keys in any
 * order; a key twice in one map never is: two readers could otherwise see two different messages.
 */
#include "msg.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <msgpack/pack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- access to a field of a structure -------------------------------------------------------- */

static const void *value_of(const struct msg_field *f, const void *msg)
{
    return (const char *)msg + f->offset;
}

static size_t count_of(const struct msg_field *f, const void *msg)
{
    return *(const size_t *)(const void *)((const char *)msg + f->aux);
}

static void set_array(const struct msg_field *f, void *msg, void *v, size_t n)
{
    memcpy((char *)msg + f->offset, &v, sizeof(v));
    memcpy((char *)msg + f->aux, &n, sizeof(n));
}

static bool is_present(const struct msg_field *f, const void *msg)
{
    if (f->type == MSG_T_SUB)
        return *(const bool *)((const char *)msg + f->aux);
    if (f->flags & MSG_REQ)
        return true;
    const void *v = value_of(f, msg);
    static const struct block_id none;
    switch ((enum msg_type)f->type) {
    case MSG_T_U64:
        return *(const uint64_t *)v != 0;
    case MSG_T_I64:
        return *(const int64_t *)v != 0;
    case MSG_T_BOOL:
        return *(const bool *)v;
    case MSG_T_STR:
    case MSG_T_BYTES:
        return ((const struct bytes *)v)->n != 0;
    case MSG_T_BLOCK:
        return memcmp(v, &none, sizeof(none)) != 0;
    case MSG_T_LIST:
    case MSG_T_U64S:
    case MSG_T_BLOCKS:
        return count_of(f, msg) != 0;
    case MSG_T_SUB:
        break;
    }
    abort(); /* no other field type */
}

static size_t element_size(const struct msg_field *f)
{
    if (f->type == MSG_T_LIST)
        return f->sub->size;
    return f->type == MSG_T_BLOCKS ? sizeof(struct block_id) : sizeof(uint64_t);
}

static bool within(const struct msg_desc *d, const void *msg, size_t *room)
{
    for (size_t i = 0; i < d->fields_n; i++) {
        const struct msg_field *f = &d->fields[i];
        if (!is_present(f, msg))
            continue;
        const char *v = value_of(f, msg);
        size_t n = 0;
        switch ((enum msg_type)f->type) {
        case MSG_T_STR:
        case MSG_T_BYTES:
            if (((const struct bytes *)(const void *)v)->n > f->max)
                return false;
            break;
        case MSG_T_SUB:
            if (!within(f->sub, v, room))
                return false;
            break;
        case MSG_T_LIST:
        case MSG_T_U64S:
        case MSG_T_BLOCKS:
            n = count_of(f, msg);
            if (n > f->max || n > *room / element_size(f))
                return false;
            *room -= n * element_size(f);
            memcpy(&v, v, sizeof(void *)); /* the list's pointer stands in the field */
            for (size_t k = 0; f->type == MSG_T_LIST && k < n; k++) {
                if (!within(f->sub, v + k * f->sub->size, room))
                    return false;
            }
            break;
        default:
            break;
        }
    }
    return true;
}

bool msg_within(const struct msg_desc *d, const void *msg)
{
    size_t room = MSG_MEMORY_MAX;
    return within(d, msg, &room);
}

/* ---- encoding -------------------------------------------------------------------------------- */

static int append_packed(void *out, const char *p, size_t n)
{
    buf_append(out, p, n);
    return 0;
}

static void encode_map(const struct msg_desc *d, const void *msg, msgpack_packer *pk);

static void encode_array(const struct msg_field *f, const void *msg, msgpack_packer *pk)
{
    const char *v;
    memcpy(&v, value_of(f, msg), sizeof(v));
    size_t n = count_of(f, msg);
    assert(n <= f->max);
    msgpack_pack_array(pk, n);
    for (size_t i = 0; i < n; i++) {
        switch ((enum msg_type)f->type) {
        case MSG_T_U64S:
            msgpack_pack_uint64(pk, ((const uint64_t *)(const void *)v)[i]);
            break;
        case MSG_T_BLOCKS:
            msgpack_pack_bin_with_body(pk, v + i * BLOCK_ID_LEN, BLOCK_ID_LEN);
            break;
        default:
            encode_map(f->sub, v + i * f->sub->size, pk);
        }
    }
}

static void encode_value(const struct msg_field *f, const void *msg, msgpack_packer *pk)
{
    const void *v = value_of(f, msg);
    const struct bytes *b = v;
    switch ((enum msg_type)f->type) {
    case MSG_T_U64:
        msgpack_pack_uint64(pk, *(const uint64_t *)v);
        break;
    case MSG_T_I64:
        msgpack_pack_int64(pk, *(const int64_t *)v);
        break;
    case MSG_T_BOOL:
        if (*(const bool *)v)
            msgpack_pack_true(pk);
        else
            msgpack_pack_false(pk);
        break;
    case MSG_T_STR:
        assert(b->n <= f->max);
        msgpack_pack_str(pk, b->n);
        msgpack_pack_str_body(pk, b->p, b->n);
        break;
    case MSG_T_BYTES:
        assert(b->n <= f->max);
        msgpack_pack_bin(pk, b->n);
        msgpack_pack_bin_body(pk, b->p, b->n);
        break;
    case MSG_T_BLOCK:
        msgpack_pack_bin_with_body(pk, v, BLOCK_ID_LEN);
        break;
    case MSG_T_SUB:
        encode_map(f->sub, v, pk);
        break;
    case MSG_T_LIST:
    case MSG_T_U64S:
    case MSG_T_BLOCKS:
        encode_array(f, msg, pk);
        break;
    }
}

static void encode_map(const struct msg_desc *d, const void *msg, msgpack_packer *pk)
{
    size_t n = 0;
    for (size_t i = 0; i < d->fields_n; i++)
        n += is_present(&d->fields[i], msg);
    msgpack_pack_map(pk, n);
    for (size_t i = 0; i < d->fields_n; i++) {
        const struct msg_field *f = &d->fields[i];
        if (!is_present(f, msg))
            continue;
        msgpack_pack_uint8(pk, f->key);
        encode_value(f, msg, pk);
    }
}

void msg_encode(const struct msg_desc *d, const void *msg, struct buf *out)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, append_packed);
    encode_map(d, msg, &pk);
}

/* ---- the msgpack format ---------------------------------------------------------------------- */

struct reader {
    const uint8_t *p, *end;
    enum msg_mode mode;
    struct arena *arena;
    size_t memory;    /* bytes taken for arrays so far */
    const char **why; /* may be NULL */
};

enum item_kind {
    ITEM_UINT,
    ITEM_NEGATIVE,
    ITEM_BOOL,
    ITEM_STR,
    ITEM_BIN,
    ITEM_ARRAY,
    ITEM_MAP,
    ITEM_OTHER
};

/* The head of one value: what it is, and its number (NEGATIVE: two's complement), length in bytes
 * (STR, BIN, OTHER: still to be read) or count (ARRAY, MAP). */
struct item {
    enum item_kind kind;
    uint64_t v;
};

static size_t left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}

static bool read_be(struct reader *r, size_t width, uint64_t *v)
{
    if (left(r) < width)
        return false;
    *v = 0;
    for (size_t i = 0; i < width; i++)
        *v = *v << 8 | *r->p++;
    return true;
}

/* Sign-extends a number of width bytes. */
static struct item signed_item(uint64_t v, size_t width)
{
    assert(width >= 1 && width <= 8);
    unsigned shift = (unsigned)(64 - 8 * width);
    int64_t s = (int64_t)(v << shift) >> shift;
    return (struct item){s < 0 ? ITEM_NEGATIVE : ITEM_UINT, (uint64_t)s};
}

/* Reads the head of the next value; false when the input ends in it or it is no msgpack. */
static bool read_item(struct reader *r, struct item *out)
{
    if (left(r) == 0)
        return false;
    uint8_t t = *r->p++;
    uint64_t v = 0;
    if (t <= 0x7f)
        return *out = (struct item){ITEM_UINT, t}, true;
    if (t <= 0x8f)
        return *out = (struct item){ITEM_MAP, t & 0x0f}, true;
    if (t <= 0x9f)
        return *out = (struct item){ITEM_ARRAY, t & 0x0f}, true;
    if (t <= 0xbf)
        return *out = (struct item){ITEM_STR, t & 0x1f}, true;
    if (t >= 0xe0)
        return *out = signed_item(t, 1), true;

    /* 0xc0…0xdf: width of the number that follows, and what it means */
    static const struct {
        enum item_kind kind;
        uint8_t width, plus; /* plus: bytes of an extension's type tag */
        bool valid;
    } heads[32] = {
        [0x00] = {ITEM_OTHER, 0, 0, true}, /* nil */
        [0x02] = {ITEM_BOOL, 0, 0, true},
        [0x03] = {ITEM_BOOL, 0, 0, true},
        [0x04] = {ITEM_BIN, 1, 0, true},
        [0x05] = {ITEM_BIN, 2, 0, true},
        [0x06] = {ITEM_BIN, 4, 0, true},
        [0x07] = {ITEM_OTHER, 1, 1, true}, /* ext 8, 16, 32 */
        [0x08] = {ITEM_OTHER, 2, 1, true},
        [0x09] = {ITEM_OTHER, 4, 1, true},
        [0x0a] = {ITEM_OTHER, 0, 4, true}, /* float 32, 64: bytes to skip in plus */
        [0x0b] = {ITEM_OTHER, 0, 8, true},
        [0x0c] = {ITEM_UINT, 1, 0, true},
        [0x0d] = {ITEM_UINT, 2, 0, true},
        [0x0e] = {ITEM_UINT, 4, 0, true},
        [0x0f] = {ITEM_UINT, 8, 0, true},
        [0x10] = {ITEM_NEGATIVE, 1, 0, true},
        [0x11] = {ITEM_NEGATIVE, 2, 0, true},
        [0x12] = {ITEM_NEGATIVE, 4, 0, true},
        [0x13] = {ITEM_NEGATIVE, 8, 0, true},
        [0x14] = {ITEM_OTHER, 0, 2, true}, /* fixext 1, 2, 4, 8, 16, with their tag */
        [0x15] = {ITEM_OTHER, 0, 3, true},
        [0x16] = {ITEM_OTHER, 0, 5, true},
        [0x17] = {ITEM_OTHER, 0, 9, true},
        [0x18] = {ITEM_OTHER, 0, 17, true},
        [0x19] = {ITEM_STR, 1, 0, true},
        [0x1a] = {ITEM_STR, 2, 0, true},
        [0x1b] = {ITEM_STR, 4, 0, true},
        [0x1c] = {ITEM_ARRAY, 2, 0, true},
        [0x1d] = {ITEM_ARRAY, 4, 0, true},
        [0x1e] = {ITEM_MAP, 2, 0, true},
        [0x1f] = {ITEM_MAP, 4, 0, true},
    };
    unsigned h = t - 0xc0u;
    if (!heads[h].valid || !read_be(r, heads[h].width, &v))
        return false;
    if (heads[h].kind == ITEM_NEGATIVE)
        *out = signed_item(v, heads[h].width);
    else if (heads[h].kind == ITEM_BOOL)
        *out = (struct item){ITEM_BOOL, t == 0xc3};
    else
        *out = (struct item){heads[h].kind, v + heads[h].plus};
    return true;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static int fail(struct reader *r, int err, const struct msg_desc *d, const char *field,
                const char *what)
{
    if (r->why) {
        char line[160];
        snprintf(line, sizeof(line), "%s%s%s: %s", d->name, field ? "." : "", field ? field : "",
                 what);
        *r->why = arena_str(r->arena, bytes_str(line));
    }
    return err;
}

/* Skips one value; false when it is cut short, malformed or nested too deep. */
static bool skip_value(struct reader *r, unsigned depth)
{
    struct item it;
    if (!read_item(r, &it))
        return false;
    switch (it.kind) {
    case ITEM_STR:
    case ITEM_BIN:
    case ITEM_OTHER:
        if (it.v > left(r))
            return false;
        r->p += it.v;
        return true;
    case ITEM_ARRAY:
    case ITEM_MAP: {
        uint64_t n = it.kind == ITEM_MAP ? 2 * it.v : it.v;
        if (depth >= MSG_DEPTH_MAX || n > left(r))
            return false;
        for (uint64_t i = 0; i < n; i++) {
            if (!skip_value(r, depth + 1))
                return false;
        }
        return true;
    }
    default:
        return true;
    }
}

/* Fewest bytes a value of the field, or an element of it, can take. */
static size_t min_element(const struct msg_field *f);

static size_t min_map(const struct msg_desc *d)
{
    size_t n = 1;
    for (size_t i = 0; i < d->fields_n; i++) {
        const struct msg_field *f = &d->fields[i];
        if (f->flags & MSG_REQ)
            n += 1 + (f->type == MSG_T_BLOCK || f->type == MSG_T_SUB ? min_element(f) : 1);
    }
    return n;
}

static size_t min_element(const struct msg_field *f)
{
    if (f->type == MSG_T_LIST || f->type == MSG_T_SUB)
        return min_map(f->sub);
    if (f->type == MSG_T_BLOCKS || f->type == MSG_T_BLOCK)
        return 2 + BLOCK_ID_LEN;
    return 1;
}

static int decode_map(struct reader *r, const struct msg_desc *d, void *msg, unsigned depth);

static bool read_block(struct reader *r, struct block_id *id)
{
    struct item it;
    if (!read_item(r, &it) || it.kind != ITEM_BIN || it.v != BLOCK_ID_LEN || left(r) < BLOCK_ID_LEN)
        return false;
    memcpy(id->b, r->p, BLOCK_ID_LEN);
    r->p += BLOCK_ID_LEN;
    return true;
}

/* The elements of an array whose count n has been checked, into v. */
static int decode_elements(struct reader *r, const struct msg_desc *d, const struct msg_field *f,
                           char *v, size_t n, unsigned depth)
{
    size_t size = element_size(f);
    for (size_t i = 0; i < n; i++) {
        void *e = v + i * size;
        struct item it;
        switch ((enum msg_type)f->type) {
        case MSG_T_LIST: {
            int err = decode_map(r, f->sub, e, depth + 1);
            if (err)
                return err;
            break;
        }
        case MSG_T_BLOCKS:
            if (!read_block(r, e))
                return fail(r, -EBADMSG, d, f->name, "an element is no block id");
            break;
        default:
            if (!read_item(r, &it) || it.kind != ITEM_UINT)
                return fail(r, -EBADMSG, d, f->name, "an element is no unsigned integer");
            memcpy(e, &it.v, sizeof(it.v));
        }
    }
    return 0;
}

static int decode_array(struct reader *r, const struct msg_desc *d, const struct msg_field *f,
                        void *msg, unsigned depth)
{
    struct item it;
    if (!read_item(r, &it) || it.kind != ITEM_ARRAY)
        return fail(r, -EBADMSG, d, f->name, "no array");
    if (it.v > f->max)
        return fail(r, -EMSGSIZE, d, f->name, "too many");
    size_t n = (size_t)it.v;
    if (n > left(r) / min_element(f))
        return fail(r, -EBADMSG, d, f->name, "cut short");
    if (n == 0)
        return 0;
    size_t need = n * element_size(f);
    if (need > MSG_MEMORY_MAX - r->memory)
        return fail(r, -EMSGSIZE, d, f->name, "the message would take too much memory");
    r->memory += need;
    char *v = arena_alloc(r->arena, need);
    set_array(f, msg, v, n);
    return decode_elements(r, d, f, v, n, depth);
}

static int decode_run(struct reader *r, const struct msg_desc *d, const struct msg_field *f,
                      struct bytes *out)
{
    struct item it;
    bool text = f->type == MSG_T_STR;
    if (!read_item(r, &it) || it.kind != (text ? ITEM_STR : ITEM_BIN))
        return fail(r, -EBADMSG, d, f->name, text ? "no text" : "no bytes");
    if (it.v > f->max)
        return fail(r, -EMSGSIZE, d, f->name, "too long");
    if (it.v > left(r))
        return fail(r, -EBADMSG, d, f->name, "cut short");
    *out = bytes_of(r->p, (size_t)it.v);
    r->p += it.v;
    if (text && out->n && memchr(out->p, 0, out->n))
        return fail(r, -EBADMSG, d, f->name, "text with a NUL in it");
    return 0;
}

static int decode_number(struct reader *r, const struct msg_desc *d, const struct msg_field *f,
                         void *v)
{
    struct item it;
    if (!read_item(r, &it))
        return fail(r, -EBADMSG, d, f->name, "cut short");
    switch ((enum msg_type)f->type) {
    case MSG_T_U64:
        if (it.kind != ITEM_UINT)
            return fail(r, -EBADMSG, d, f->name, "no unsigned integer");
        memcpy(v, &it.v, sizeof(it.v));
        return 0;
    case MSG_T_I64:
        if (it.kind != ITEM_NEGATIVE && (it.kind != ITEM_UINT || it.v > INT64_MAX))
            return fail(r, -EBADMSG, d, f->name, "no signed integer");
        memcpy(v, &it.v, sizeof(it.v));
        return 0;
    default:
        if (it.kind != ITEM_BOOL)
            return fail(r, -EBADMSG, d, f->name, "neither true nor false");
        *(bool *)v = it.v != 0;
        return 0;
    }
}

static int decode_value(struct reader *r, const struct msg_desc *d, const struct msg_field *f,
                        void *msg, unsigned depth)
{
    void *v = (char *)msg + f->offset;
    switch ((enum msg_type)f->type) {
    case MSG_T_U64:
    case MSG_T_I64:
    case MSG_T_BOOL:
        return decode_number(r, d, f, v);
    case MSG_T_STR:
    case MSG_T_BYTES:
        return decode_run(r, d, f, v);
    case MSG_T_BLOCK:
        return read_block(r, v) ? 0 : fail(r, -EBADMSG, d, f->name, "no block id");
    case MSG_T_SUB:
        *(bool *)((char *)msg + f->aux) = true;
        return decode_map(r, f->sub, v, depth + 1);
    case MSG_T_LIST:
    case MSG_T_U64S:
    case MSG_T_BLOCKS:
        return decode_array(r, d, f, msg, depth);
    }
    abort(); /* no other field type */
}

/* The keys seen in one map: 1…255, as the tables' keys are. */
struct key_set {
    uint64_t bits[4];
};

/* Reads a key and notes it. 0, or -EBADMSG. */
static int read_key(struct reader *r, const struct msg_desc *d, struct key_set *seen, uint8_t *key)
{
    struct item it;
    if (!read_item(r, &it) || it.kind != ITEM_UINT || it.v == 0 || it.v > UINT8_MAX)
        return fail(r, -EBADMSG, d, NULL, "a key is not an integer from 1 to 255");
    uint64_t bit = UINT64_C(1) << (it.v & 63);
    if (seen->bits[it.v >> 6] & bit)
        return fail(r, -EBADMSG, d, NULL, "a key twice");
    seen->bits[it.v >> 6] |= bit;
    *key = (uint8_t)it.v;
    return 0;
}

/* Fields come in rising order from our own encoder: the search begins behind the last one found. */
static const struct msg_field *find_field(const struct msg_desc *d, uint8_t key, size_t *hint)
{
    for (size_t i = 0; i < d->fields_n; i++) {
        size_t at = *hint + i < d->fields_n ? *hint + i : *hint + i - d->fields_n;
        if (d->fields[at].key == key) {
            *hint = at + 1 < d->fields_n ? at + 1 : 0;
            return &d->fields[at];
        }
    }
    return NULL;
}

static int decode_map(struct reader *r, const struct msg_desc *d, void *msg, unsigned depth)
{
    assert(depth < MSG_DEPTH_MAX);
    struct key_set seen = {0};
    struct item it;
    if (!read_item(r, &it) || it.kind != ITEM_MAP)
        return fail(r, -EBADMSG, d, NULL, "no map");
    size_t hint = 0;
    for (uint64_t i = 0; i < it.v; i++) {
        uint8_t key = 0;
        int err = read_key(r, d, &seen, &key);
        if (err)
            return err;
        const struct msg_field *f = find_field(d, key, &hint);
        if (f) {
            err = decode_value(r, d, f, msg, depth);
        } else if (r->mode == MSG_STRICT) {
            err = fail(r, -EPROTO, d, NULL, "an unknown key");
        } else if (!skip_value(r, 0)) {
            err = fail(r, -EBADMSG, d, NULL, "an unknown key's value is malformed or too deep");
        }
        if (err)
            return err;
    }
    for (size_t i = 0; i < d->fields_n; i++) {
        const struct msg_field *f = &d->fields[i];
        if ((f->flags & MSG_REQ) && !(seen.bits[f->key >> 6] >> (f->key & 63) & 1))
            return fail(r, -EBADMSG, d, f->name, "missing");
    }
    return 0;
}

int msg_decode(const struct msg_desc *d, void *msg, const void *p, size_t n, enum msg_mode mode,
               struct arena *a, const char **why)
{
    struct reader r = {.p = p, .end = p, .mode = mode, .arena = a, .why = why};
    memset(msg, 0, d->size);
    if (why)
        *why = "";
    if (n > MSG_BODY_MAX)
        return fail(&r, -EMSGSIZE, d, NULL, "too large");
    if (n == 0)
        return fail(&r, -EBADMSG, d, NULL, "empty");
    r.end = r.p + n;
    int err = decode_map(&r, d, msg, 0);
    if (err == 0 && r.p != r.end)
        err = fail(&r, -EBADMSG, d, NULL, "bytes behind the message");
    if (err)
        memset(msg, 0, d->size);
    return err;
}

int msg_decode_front(const struct msg_desc *d, void *msg, const void *p, size_t n, size_t count,
                     struct arena *a)
{
    struct reader r = {.p = p, .end = p, .mode = MSG_STRICT, .arena = a};
    struct key_set seen = {0};
    struct item it;
    memset(msg, 0, d->size);
    assert(count <= d->fields_n);
    if (n)
        r.end = r.p + n;
    int err = read_item(&r, &it) && it.kind == ITEM_MAP && it.v >= count ? 0 : -EBADMSG;
    for (size_t i = 0; !err && i < count; i++) {
        uint8_t key = 0;
        err = read_key(&r, d, &seen, &key);
        if (!err)
            err = key == d->fields[i].key ? decode_value(&r, d, &d->fields[i], msg, 0) : -EBADMSG;
    }
    if (err)
        memset(msg, 0, d->size);
    return err ? -EBADMSG : 0;
}
