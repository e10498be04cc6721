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
/* Gives bucket and index another incarnation, which is told. A crash in between has the index made
 * anew at the next start. 0 or -errno. */
int s3_index_renew(struct dir_db *db, struct s3 *s3, uint8_t fresh[INCARNATION_LEN]);
#endif
