// SPDX-License-Identifier: Apache-2.0
/* Lists are kept short, so that whole messages stay small enough to be cut at each of their bytes;
 * now and then a run of bytes is as long as its limit allows. */
#include "random_msg.h"

#include <string.h>

#define LIST_MAX 3
#define RUN_MAX 40
#define LONG_RUN_MAX 5000

uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* All magnitudes are equally likely, 0 included. */
static uint64_t random_u64(uint64_t *state)
{
    unsigned bits = (unsigned)(random_next(state) % 65);
    return bits == 0 ? 0 : random_next(state) >> (64 - bits);
}

static struct bytes random_run(uint64_t max, bool text, uint64_t *state, struct arena *a)
{
    size_t limit = max < RUN_MAX ? (size_t)max : RUN_MAX;
    size_t n = (size_t)(random_next(state) % (limit + 1));
    if (max <= LONG_RUN_MAX && random_next(state) % 16 == 0)
        n = (size_t)max;
    uint8_t *p = arena_alloc(a, n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(text ? 0x20 + random_next(state) % 0x5f : random_next(state));
    return bytes_of(p, n);
}

static void random_block(struct block_id *id, uint64_t *state)
{
    for (size_t i = 0; i < BLOCK_ID_LEN; i++)
        id->b[i] = (uint8_t)random_next(state);
}

static void random_array(const struct msg_field *f, void *msg, uint64_t *state, struct arena *a)
{
    size_t n = (size_t)(random_next(state) % (LIST_MAX + 1));
    size_t size = f->type == MSG_T_LIST     ? f->sub->size
                  : f->type == MSG_T_BLOCKS ? sizeof(struct block_id)
                                            : sizeof(uint64_t);
    char *v = arena_alloc(a, n * size);
    for (size_t i = 0; i < n; i++) {
        void *e = v + i * size;
        if (f->type == MSG_T_LIST)
            random_msg(f->sub, e, state, a);
        else if (f->type == MSG_T_BLOCKS)
            random_block(e, state);
        else
            *(uint64_t *)e = random_u64(state);
    }
    memcpy((char *)msg + f->offset, &v, sizeof(v));
    memcpy((char *)msg + f->aux, &n, sizeof(n));
}

void random_msg(const struct msg_desc *d, void *msg, uint64_t *state, struct arena *a)
{
    for (size_t i = 0; i < d->fields_n; i++) {
        const struct msg_field *f = &d->fields[i];
        void *v = (char *)msg + f->offset;
        switch ((enum msg_type)f->type) {
        case MSG_T_U64:
            *(uint64_t *)v = random_u64(state);
            break;
        case MSG_T_I64:
            *(int64_t *)v =
                (int64_t)(random_u64(state) ^ (random_next(state) % 2 ? UINT64_MAX : 0));
            break;
        case MSG_T_BOOL:
            *(bool *)v = random_next(state) % 2;
            break;
        case MSG_T_STR:
        case MSG_T_BYTES:
            *(struct bytes *)v = random_run(f->max, f->type == MSG_T_STR, state, a);
            break;
        case MSG_T_BLOCK:
            random_block(v, state);
            break;
        case MSG_T_SUB:
            if (random_next(state) % 2) {
                *(bool *)((char *)msg + f->aux) = true;
                random_msg(f->sub, v, state, a);
            }
            break;
        case MSG_T_LIST:
        case MSG_T_U64S:
        case MSG_T_BLOCKS:
            random_array(f, msg, state, a);
            break;
        }
    }
}

static bool same_array(const struct msg_field *f, const void *a, const void *b)
{
    const char *x, *y;
    size_t n, m;
    memcpy(&x, (const char *)a + f->offset, sizeof(x));
    memcpy(&y, (const char *)b + f->offset, sizeof(y));
    memcpy(&n, (const char *)a + f->aux, sizeof(n));
    memcpy(&m, (const char *)b + f->aux, sizeof(m));
    if (n != m || n == 0)
        return n == m;
    if (f->type != MSG_T_LIST)
        return memcmp(x, y, n * (f->type == MSG_T_BLOCKS ? BLOCK_ID_LEN : sizeof(uint64_t))) == 0;
    for (size_t i = 0; i < n; i++) {
        if (!msg_same(f->sub, x + i * f->sub->size, y + i * f->sub->size))
            return false;
    }
    return true;
}

bool msg_same(const struct msg_desc *d, const void *a, const void *b)
{
    for (size_t i = 0; i < d->fields_n; i++) {
        const struct msg_field *f = &d->fields[i];
        const void *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
        bool same = false;
        switch ((enum msg_type)f->type) {
        case MSG_T_U64:
        case MSG_T_I64:
            same = memcmp(x, y, sizeof(uint64_t)) == 0;
            break;
        case MSG_T_BOOL:
            same = *(const bool *)x == *(const bool *)y;
            break;
        case MSG_T_STR:
        case MSG_T_BYTES:
            same = bytes_equal(*(const struct bytes *)x, *(const struct bytes *)y);
            break;
        case MSG_T_BLOCK:
            same = memcmp(x, y, BLOCK_ID_LEN) == 0;
            break;
        case MSG_T_SUB: {
            bool set = *(const bool *)((const char *)a + f->aux);
            same = set == *(const bool *)((const char *)b + f->aux) &&
                   (!set || msg_same(f->sub, x, y));
            break;
        }
        case MSG_T_LIST:
        case MSG_T_U64S:
        case MSG_T_BLOCKS:
            same = same_array(f, a, b);
            break;
        }
        if (!same)
            return false;
    }
    return true;
}
