// SPDX-License-Identifier: Apache-2.0
/* Unmounting by who is not root: fusermount3, which is set-user-id. */
#ifndef STEADFS_FUSERMOUNT_H
#define STEADFS_FUSERMOUNT_H

#include <stdbool.h>

#define FUSERMOUNT_WHY 512

/* lazy: though it is in use. 0; -EBUSY: in use, may be tried again; -EIO: not for another reason,
 * -ENOENT: the program is not there, and `why` (FUSERMOUNT_WHY bytes) says so in words, with what
 * to do where that is known; other errors of fork and pipe. */
int fusermount(const char *mountpoint, bool lazy, char *why);

#endif
