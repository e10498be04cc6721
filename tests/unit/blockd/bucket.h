// SPDX-License-Identifier: Apache-2.0
/* An object store in memory that speaks as much of S3 as the block server needs, over HTTP on
 * loopback; one request a connection, one after the other. What a real store must do besides is
 * shown with one (test_storage_s3.c); this one can be late. */
#ifndef BUCKET_H
#define BUCKET_H

#include "s3.h"

#include <pthread.h>

struct bucket_object {
    char *key;
    uint8_t *bytes;
    size_t n;
};

struct bucket {
    int fd;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t lock;    /* guards what follows */
    struct bucket_object *v; /* by key */
    size_t n, cap;
    bool quit, late;
    char **doomed; /* keys of DELETEs that were not answered, and will be carried out */
    size_t doomed_n;
    size_t requests;
};

void bucket_start(struct bucket *b);
void bucket_end(struct bucket *b);
/* A place in it. The strings are malloc'd. */
struct s3_place bucket_place(const struct bucket *b, const char *prefix);
/* From now on a DELETE of a block's object is not answered and not carried out yet. */
void bucket_late(struct bucket *b, bool late);
/* Carries out what was kept so; how many. */
size_t bucket_carry_out(struct bucket *b);
void bucket_put(struct bucket *b, const char *key, const void *p, size_t n);
void bucket_delete(struct bucket *b, const char *key);
/* Calls fn with a copy of each object whose key begins with prefix; how many. fn NULL: counts. */
size_t bucket_each(struct bucket *b, const char *prefix,
                   void (*fn)(void *arg, const char *key, const uint8_t *p, size_t n), void *arg);
#endif
