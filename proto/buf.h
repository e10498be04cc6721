// SPDX-License-Identifier: Apache-2.0
/* A growing run of bytes, and an arena whose allocations are freed together.
 * Both abort the process when memory is exhausted: sizes are bounded before they get here. */
#ifndef STEADFS_BUF_H
#define STEADFS_BUF_H

#include "steadfs/types.h"

/* Zero-initialise to make an empty one. Owns p. */
struct buf {
    uint8_t *p;
    size_t n, cap;
};

void buf_append(struct buf *b, const void *p, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_free(struct buf *b); /* leaves an empty one */

/* Zero-initialise to make an empty one. */
struct arena {
    struct arena_chunk *chunks;
    size_t used; /* bytes handed out so far */
};

void *arena_alloc(struct arena *a, size_t n); /* zeroed, aligned for any type */
void *arena_copy(struct arena *a, const void *p, size_t n);
struct bytes arena_bytes(struct arena *a, const void *p, size_t n);
char *arena_str(struct arena *a, struct bytes b); /* NUL-terminated copy */
void arena_free(struct arena *a);                 /* leaves an empty one */

static inline struct bytes bytes_of(const void *p, size_t n)
{
    return (struct bytes){p, n};
}
struct bytes bytes_str(const char *s);
bool bytes_equal(struct bytes a, struct bytes b);
int bytes_compare(struct bytes a, struct bytes b); /* bytewise, shorter first */

#define cleanup_buf __attribute__((cleanup(buf_free)))
#define cleanup_arena __attribute__((cleanup(arena_free)))
#endif
