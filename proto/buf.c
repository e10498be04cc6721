// SPDX-License-Identifier: Apache-2.0
/* Growing buffers and arenas.
 *
 * A buffer doubles, so that appending byte by byte stays linear. An arena is a list of chunks, the
 * newest first; each chunk is made zeroed and handed out once from front to back, so that an
 * allocation needs no clearing. Chunks grow with the arena from 4 KiB to 1 MiB: a small message
 * costs one malloc, a large one few. What is larger than a chunk gets a chunk of its own, put
 * behind the newest one so that the rest of that one is still used.
 */
#include "buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_CHUNK_MIN ((size_t)4096)
#define ARENA_CHUNK_MAX ((size_t)1 << 20)

static void buf_reserve(struct buf *b, size_t more)
{
    if (more > SIZE_MAX / 4 - b->n)
        abort();
    if (b->n + more <= b->cap)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < b->n + more)
        cap *= 2;
    uint8_t *p = realloc(b->p, cap);
    if (!p)
        abort();
    b->p = p;
    b->cap = cap;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    buf_reserve(b, n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    buf_reserve(b, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

struct arena_chunk {
    struct arena_chunk *next;
    size_t n, cap;
    max_align_t data[];
};

static struct arena_chunk *chunk_new(size_t cap)
{
    struct arena_chunk *c = calloc(1, sizeof(*c) + cap);
    if (!c)
        abort();
    c->cap = cap;
    return c;
}

/* A chunk with room for n bytes, in the list. */
static struct arena_chunk *chunk_for(struct arena *a, size_t n)
{
    struct arena_chunk *top = a->chunks;
    if (top && top->cap - top->n >= n)
        return top;
    size_t cap = top ? top->cap * 2 : ARENA_CHUNK_MIN;
    if (cap > ARENA_CHUNK_MAX)
        cap = ARENA_CHUNK_MAX;
    struct arena_chunk *c = chunk_new(n > cap ? n : cap);
    if (n > cap && top) {
        c->next = top->next;
        top->next = c;
    } else {
        c->next = top;
        a->chunks = c;
    }
    return c;
}

void *arena_alloc(struct arena *a, size_t n)
{
    const size_t align = _Alignof(max_align_t);
    if (n > SIZE_MAX / 4)
        abort();
    size_t room = n == 0 ? align : (n + align - 1) / align * align;
    struct arena_chunk *c = chunk_for(a, room);
    void *p = (char *)c->data + c->n;
    c->n += room;
    a->used += room;
    return p;
}

void *arena_copy(struct arena *a, const void *p, size_t n)
{
    void *copy = arena_alloc(a, n);
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

struct bytes arena_bytes(struct arena *a, const void *p, size_t n)
{
    return bytes_of(arena_copy(a, p, n), n);
}

char *arena_str(struct arena *a, struct bytes b)
{
    char *s = arena_alloc(a, b.n + 1);
    if (b.n > 0)
        memcpy(s, b.p, b.n);
    return s;
}

void arena_free(struct arena *a)
{
    for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (struct arena){0};
}

struct bytes bytes_str(const char *s)
{
    return bytes_of(s, strlen(s));
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c != 0)
        return c;
    return (a.n > b.n) - (a.n < b.n);
}
