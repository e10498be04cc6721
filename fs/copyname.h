// SPDX-License-Identifier: Apache-2.0
/* Names of conflicted copies: `STEM (conflicted copy, DEVICE, DATE[ N]).EXT`.
 *
 * The extension is what follows the last dot, unless the name begins with that dot or the extension
 * is longer than 64 bytes. The stem is cut so that all of it has at most NAME_LEN_MAX bytes, not
 * within a UTF-8 character. Pure functions. */
#ifndef STEADFS_COPYNAME_H
#define STEADFS_COPYNAME_H

#include "buf.h"
#include "steadfs/types.h"

/* COPY_MARK (types.h): by it the tree's index finds them, and the quota's judge lets them pass. */
#define COPY_DEVICE_MAX 64 /* bytes of a device's name in it */

struct copy_name {
    uint8_t original[NAME_LEN_MAX]; /* the stem and the extension; a cut stem stays cut */
    size_t original_len;
    char device[COPY_DEVICE_MAX + 1], date[11]; /* YYYY-MM-DD, UTC */
};

/* The number-th (1, 2 …) name of a copy of `original` made by device at now (ns); its length. */
size_t copyname_make(struct bytes original, const char *device, int64_t now, unsigned number,
                     uint8_t out[NAME_LEN_MAX]);
/* Whether it is such a name. Of a copy of a copy, the last mark counts. */
bool copyname_parse(struct bytes name, struct copy_name *out);
#endif
