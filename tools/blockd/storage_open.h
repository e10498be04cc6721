// SPDX-License-Identifier: Apache-2.0
/* Which storage a data directory goes with. The first start decides: DIR/storage then names an
 * object store (lines url, endpoint, region, credentials, ca); without that file the blocks are in
 * DIR itself. */
#ifndef STORAGE_OPEN_H
#define STORAGE_OPEN_H

#include "storage.h"
#include "takein.h"
#include "trace.h"

/* All but dir may be NULL: then as at the first start. */
struct storage_options {
    const char *dir;
    const char *url; /* "dir", or s3://BUCKET[/PREFIX] */
    const char *endpoint, *region;
    const char *credentials; /* a file: access_key=…, secret_key=…; none: AWS_ACCESS_KEY_ID and
                                AWS_SECRET_ACCESS_KEY of the environment */
    const char *ca;
    struct log *log;
};

/* 0 or -errno with a line in err (512 bytes). */
int storage_open(struct storage **out, const struct storage_options *o, char *err);
/* Every block in the order of ids, whether a server runs on the directory or not. */
int storage_list(const char *dir,
                 void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len), void *arg,
                 char *err);
/* takein_all and takein_drop; -EINVAL for an object store. */
int storage_reindex(const char *dir, void (*each_dir)(void *arg, unsigned number, unsigned dirs),
                    void *arg, struct takein_sums *sums, char *err);
int storage_drop_unclaimed(const char *dir, struct storage_collected *sums, char *err);
#endif
