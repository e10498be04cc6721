// SPDX-License-Identifier: Apache-2.0
/* The names of objects in a bucket, below the place's prefix:
 *
 * - blocks/KKHEX/NS-LEN-UNIQUE: block KKHEX (kind byte and hash, hexadecimal) is there for
 * namespace NS (16 hexadecimal digits) and has LEN (8) logical bytes. UNIQUE (16) is drawn for each
 * put; older objects have none. One of a block's objects holds its stored bytes, the others, of
 * later namespaces, are empty
 * - doomed/UNIQUE: names of objects that are about to be deleted (s3_doomed.h)
 * - corrupt/HEX-RANDOM: bytes that were found wrong
 * - incarnation: random name of the content, hexadecimal
 * - session: random name of the last start of the server that uses the bucket
 *
 * So one PUT stores a block and that the namespace has it; and a listing tells all that an index
 * holds. A name is never used twice: a DELETE that the store carries out late, when it was given up
 * here, hits what it was meant for.
 */
#ifndef S3_KEYS_H
#define S3_KEYS_H

#include "dir_files.h"
#include "s3_text.h"

#define S3_KEY_BLOCKS "blocks/"
#define S3_KEY_DOOMED "doomed/"
#define S3_NAME_OLD (66 + 1 + 16 + 1 + 8)  /* KKHEX/NS-LEN */
#define S3_NAME_LEN (S3_NAME_OLD + 1 + 16) /* … -UNIQUE; DIR_FILE_NAME holds it */

/* What the name of a block's object says. */
struct s3_name {
    struct block_id id;
    uint64_t ns, logical_len;
    uint64_t unique; /* 0: as they were named before */
};

/* ns 0: KKHEX/ alone, which all names of the block begin with. */
void s3_name_make(char out[DIR_FILE_NAME], const struct s3_name *n);
/* Reads one, not that of namespace 0. False: it is none. */
bool s3_name_parse(struct s3_name *n, const char *name);
/* One that was never used, for what the other says. */
struct s3_name s3_name_fresh(const struct s3_name *n);
/* The next line of a text that is the name of a block's object; others are passed over. at: where
 * to go on. False: that was all. */
bool s3_names_next(struct bytes text, size_t *at, struct s3_name *n, char out[DIR_FILE_NAME]);
#endif
