// SPDX-License-Identifier: Apache-2.0
/* The index that a server keeps of its bucket, in DIR/s3: a cache of what a listing tells, with the
 * losses that nobody was told of yet. Brought in step with the bucket when the storage is opened:
 *
 *   bucket                                  index                  then
 *   new                                     none                   a new incarnation
 *   has an incarnation                      none, or half made     made from a listing
 *   the incarnation and session of the index                       used as it is
 *   the incarnation, another session: an older copy of either      made anew, new incarnation
 *   another incarnation, or none                                   made anew
 */
#ifndef S3_INDEX_H
#define S3_INDEX_H

#include "dir_db.h"
#include "s3.h"

/* Opens the index below dir, in step with the bucket; a new session has begun then. 0 or -errno
 * with a line in err (512 bytes). */
int s3_index_open(struct dir_db **out, const char *dir, struct s3 *s3, struct log *log, char *err);
/* Compares a part of the index with what the bucket lists: the blocks after `after`, up to *upto,
 * which is told; all 0xff: to the end. fn is called for those whose object with their bytes is not
 * there, or has another length, as far as a listing tells. max: objects to list, at least 1.
 * *looked: blocks, added. 0 or -errno. */
int s3_index_survey(struct dir_db *db, struct s3 *s3, unsigned max, const struct block_id *after,
                    struct block_id *upto, uint64_t *looked,
                    void (*fn)(void *arg, const struct block_id *id), void *arg);
/* Gives bucket and index another incarnation, which is told. A crash in between has the index made
 * anew at the next start. 0 or -errno. */
int s3_index_renew(struct dir_db *db, struct s3 *s3, uint8_t fresh[INCARNATION_LEN]);
#endif
