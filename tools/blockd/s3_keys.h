// SPDX-License-Identifier: Apache-2.0
/* The names of objects in a bucket, below the place's prefix:
 *
 *   blocks/KKHEX/NS-LEN   block KKHEX (kind byte and hash, hexadecimal) is there for namespace NS
 * (16 hexadecimal digits) and has LEN (8) logical bytes. One of a block's objects holds its stored
 * bytes, the others, of later namespaces, are empty corrupt/HEX-RANDOM    bytes that were found
 * wrong incarnation           random name of the content, hexadecimal session               random
 * name of the last start of the server that uses the bucket
 *
 * So one PUT stores a block and that the namespace has it; and a listing tells all that an index
 * holds.
 */
#ifndef S3_KEYS_H
#define S3_KEYS_H

#include "dir_files.h"
#include "s3_text.h"

#define S3_KEY_BLOCKS "blocks/"
#define S3_NAME_LEN (66 + 1 + 16 + 1 + 8) /* KKHEX/NS-LEN; DIR_FILE_NAME holds it */

/* What the name of a block's object says. */
struct s3_name {
    struct block_id id;
    uint64_t ns, logical_len;
};

/* KKHEX/NS-LEN; ns 0: KKHEX/ alone, which all names of the block begin with. */
void s3_name_make(char out[DIR_FILE_NAME], const struct s3_name *n);
/* Reads one, not that of namespace 0. False: it is none. */
bool s3_name_parse(struct s3_name *n, const char *name);
#endif
