// SPDX-License-Identifier: Apache-2.0
/* A directory of a test's own. */
#ifndef TEMPDIR_H
#define TEMPDIR_H

/* Its path, malloc'd; asserts. */
char *tempdir_make(void);
/* Removes it with all it holds, and frees the path. */
void tempdir_remove(char *path);
#endif
