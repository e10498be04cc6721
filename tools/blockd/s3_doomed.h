// SPDX-License-Identifier: Apache-2.0
/* Objects that are deleted, so that no DELETE takes away what counts: a store may carry one out
 * long after it was given up here.
 *
 *   1. a note in the bucket (doomed/UNIQUE) names what will be deleted
 *   2. the index no longer names it, durably
 *   3. the objects are deleted; when all answers are there, the note, too
 *
 * What was put again after 2 has another name. An index that is made again from a listing would
 * take such an object for one that is there: those that a note names are copied to fresh names
 * first (s3_doomed_rescue), because a note may also have come late, for what was left as it was.
 *
 * The caller holds the blocks' stripes. Not for several threads at a time.
 */
#ifndef S3_DOOMED_H
#define S3_DOOMED_H

#include "s3.h"
#include "s3_keys.h"

#define S3_NOTE_NAMES 4096 /* names a note */

/* Zero to begin with. */
struct s3_doomed {
    char (*names)[DIR_FILE_NAME];
    size_t n, cap;
    uint64_t unique; /* of the first note; the next ones follow */
};

void s3_doomed_add(struct s3_doomed *d, const char *name);
/* Adds objects that a listing has now: of the block, or (ns not 0) of one namespace. 0 or -errno */
int s3_doomed_add_block(struct s3_doomed *d, struct s3 *s3, const struct block_id *id, uint64_t ns);
/* Makes it durable which they are: 0 or -errno. */
int s3_doomed_note(struct s3_doomed *d, struct s3 *s3);
/* Deletes them, and the notes. -errno: a note is left, for s3_doomed_settle. */
int s3_doomed_delete(struct s3_doomed *d, struct s3 *s3);
void s3_doomed_free(struct s3_doomed *d);

/* Goes through the notes that are left: fn is called for every name; it deletes the object
 * (s3_delete) unless that is what the index goes by. A note goes when all of its names had 0. 0 or
 * -errno */
int s3_doomed_settle(struct s3 *s3, int (*fn)(void *arg, const struct s3_name *n, const char *name),
                     void *arg);
/* Before an index is made from a listing: what the notes name gets other names. 0 or -errno */
int s3_doomed_rescue(struct s3 *s3);
/* Deletes an object of a block; it may be gone. 0 or -errno */
int s3_delete(struct s3 *s3, const char *name);
#endif
