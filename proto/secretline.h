// SPDX-License-Identifier: Apache-2.0
/* A secret that a person was given, a token or an invitation, read from where others do not see it:
 * an argument is seen by whoever runs ps. */
#ifndef STEADFS_SECRETLINE_H
#define STEADFS_SECRETLINE_H

#include <stddef.h>

#define SECRETLINE_MAX 4096 /* with its NUL */

/* The first line of a file, or of standard input (path "-"; a terminal is asked for `what` first),
 * without space around it. 0; -ENODATA: there is none; -EMSGSIZE: it is longer; -errno. */
int secretline_read(const char *path, const char *what, char out[SECRETLINE_MAX]);
/* Overwrites an argument that was given as such, and copied, so that ps shows it no longer. */
void secretline_hide(char *argument);
#endif
