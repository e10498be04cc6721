// SPDX-License-Identifier: Apache-2.0
/* Blocks in an S3-compatible object store: a storage that grows beyond one machine's disks. */
#ifndef STORAGE_S3_H
#define STORAGE_S3_H

#include "s3_text.h"
#include "storage.h"
#include "trace.h"

/* Opens the storage in a bucket, which must be there; dir keeps its index, which is made from a
 * listing of the bucket if need be. One process at a time for a directory: -EBUSY; and one server
 * for a bucket and prefix, which nothing guards. Takes what place holds. patience_ms: see s3_new. 0
 * or -errno with a line in err (512 bytes). */
int storage_s3_open(struct storage **out, const char *dir, struct s3_place *place,
                    unsigned patience_ms, struct log *log, char *err);
/* As storage_dir_list, from the index. */
int storage_s3_list(const char *dir,
                    void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len),
                    void *arg, char *err);
#endif
