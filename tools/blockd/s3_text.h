// SPDX-License-Identifier: Apache-2.0
/* What a text from elsewhere says: the bodies of an S3-compatible store's answers, and where such a
 * store is. Pure functions. */
#ifndef S3_TEXT_H
#define S3_TEXT_H

#include "buf.h"

#define S3_KEY_MAX 1024 /* bytes of a key, as S3 has it */
#define S3_CODE_MAX 64

/* An object of a listing. key lives in the arena that was passed. */
struct s3_object {
    const char *key;
    uint64_t size;
};

/* A page of a listing. */
struct s3_page {
    struct s3_object *objects;
    size_t n;
    const char *next; /* what to go on with; NULL: this was the last page */
};

/* Reads a ListBucketResult (version 2) of at most max objects. 0, or -EBADMSG: it is none, holds
 * more, or a key or size that cannot be. */
int s3_page_parse(struct s3_page *out, struct bytes body, size_t max, struct arena *a);
/* The text of <Code> in an error's body; empty: none, or too long. */
void s3_code_parse(char out[S3_CODE_MAX], struct bytes body);

/* Where a store is and who asks. All strings are malloc'd. */
struct s3_place {
    char *endpoint; /* http[s]://HOST[:PORT], without a slash at the end */
    char *bucket, *region;
    char *prefix; /* of every key: empty, or with a slash at its end */
    char *access_key, *secret_key;
    char *ca_file; /* PEM of the authorities to trust; NULL: those of the system */
};

/* "s3://BUCKET[/PREFIX]" into bucket and prefix. False: it is not of this form. */
bool s3_place_parse(struct s3_place *p, const char *url);
/* Lines access_key=… and secret_key=… (others are ignored). False: one is missing. */
bool s3_credentials_parse(struct s3_place *p, const char *text);
void s3_place_free(struct s3_place *p);
#endif
