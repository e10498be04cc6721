// SPDX-License-Identifier: Apache-2.0
/* A client of an S3-compatible object store: requests signed by libcurl (AWS SigV4), many at a time
 * over a few kept connections, tried again where that can help.
 *
 * One thread does the network; any thread may ask, and waits for its answers.
 */
#ifndef S3_H
#define S3_H

#include "s3_text.h"
#include "trace.h"

#define S3_LIST_MAX 1000 /* objects a page */

struct s3;

/* A request and its answer. The pointers belong to the caller and live until s3_run returns. */
struct s3_call {
    enum s3_verb { S3_GET, S3_PUT, S3_DELETE, S3_COPY, S3_LIST } verb;
    const char *key;     /* without the place's prefix; S3_LIST: what the keys begin with */
    struct bytes body;   /* S3_PUT */
    const uint8_t *hash; /* S3_PUT: SHA-256 of body, 32 bytes, where it is known; else NULL */
    bool if_absent;      /* S3_PUT: only if there is no such object */
    const char *from;    /* S3_COPY: the key to copy; S3_LIST: `next` of the page before, or NULL */
    const char *after;   /* S3_LIST: only keys behind this one; or NULL */
    unsigned max;        /* S3_LIST: objects, 0: S3_LIST_MAX */
    size_t answer_max;   /* S3_GET: longer objects are -EFBIG */

    struct buf answer; /* out, the caller frees: the object, or the page's text */
    int err;           /* out, see below */
};

/* The thread is started; nothing is asked yet. place and log must outlive it. What fails for a
 * reason that may pass is tried again for patience_ms (0: 20 s). 0 or -errno. */
int s3_new(struct s3 **out, const struct s3_place *place, unsigned patience_ms, struct log *log);
/* Nobody may be in s3_run. */
void s3_free(struct s3 *s);
/* Makes the n requests and waits until each has its outcome:
 *   0
 *   -ENOENT        no such object
 *   -EEXIST        if_absent, and there is one
 *   -EFBIG         longer than answer_max
 *   -ENOSPC        the store or the user's quota is full
 *   -ENODEV        no such bucket
 *   -EACCES        refused: wrong keys, or no right
 *   -EHOSTUNREACH  no answer, or none but "later", as long as the patience lasts
 *   -EIO           anything else
 * A request may have been made twice: a PUT with if_absent that succeeded can be -EEXIST. */
void s3_run(struct s3 *s, struct s3_call *v, size_t n);
const struct s3_place *s3_place_of(const struct s3 *s);
/* A line for people about the last failure that was the store's or the network's (512 bytes). */
void s3_last_error(struct s3 *s, char out[512]);
/* Counters since the start. */
void s3_counters(struct s3 *s, uint64_t *requests, uint64_t *retries, uint64_t *failures);
#endif
