// SPDX-License-Identifier: Apache-2.0
/* What steadfs-blockd does besides serving, each to its end and with its result on standard output:
 * 0, or -errno with a line in err (512 bytes). */
#ifndef OFFLINE_H
#define OFFLINE_H

/* A line a stored block; also while a server runs on dir. */
int offline_list(const char *dir, char *err);
/* Takes what lies in dir and is not in the index into it (takein.h), with a line a directory. */
int offline_reindex(const char *dir, char *err);
/* Removes what was taken in so and was never claimed. */
int offline_drop_unclaimed(const char *dir, char *err);
#endif
