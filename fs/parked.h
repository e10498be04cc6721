// SPDX-License-Identifier: Apache-2.0
/* Changes that the server refused: kept here, named with reason and remedy, exported. */
#ifndef STEADFS_PARKED_H
#define STEADFS_PARKED_H

#include "buf.h"

struct fs;

/* Why, and what to do, for people. err: what core_parked_at gave. */
const char *parked_reason(int err);
const char *parked_remedy(int err);
/* [locked] Appends up to `max` objects {path, file, errno, reason, remedy} of a namespace to a JSON
 * array; *n counts on over several calls. */
void parked_list(struct fs *fs, uint64_t ns, size_t max, size_t *n, struct buf *json);
/* [not locked] Copies the parked files and directories of all namespaces to DIR/NAMESPACE/PATH:
 * what is here of them (a file of which a part is only at the servers is left out and named in
 * *text). *done, *failed count. 0 or -errno of DIR. */
int parked_export(struct fs *fs, const char *dir, size_t *done, size_t *failed, char text[512]);
#endif
