// SPDX-License-Identifier: Apache-2.0
/* A thread that copies the log (-wal) of an SQLite database into the database beside its writer.
 *
 * A checkpoint of some MiB takes tens of milliseconds, for which whoever commits would have to
 * wait. The keeper makes it through a connection of its own; the next commit copies what was
 * written meanwhile, which is little, and with which the log begins anew.
 */
#ifndef WALKEEPER_H
#define WALKEEPER_H

#include <sqlite3.h>

struct walkeeper;

/* db: the only connection that writes, in WAL mode; its automatic checkpoints and its hook for
 * commits are the keeper's from now on. pages: of the log, from which on it is copied. NULL: no
 * thread could be had; the automatic checkpoints stay. It keeps the note of walpair.h. */
struct walkeeper *walkeeper_new(sqlite3 *db, const char *path, int pages);
/* Before db is closed. NULL: nothing. */
void walkeeper_free(struct walkeeper *k);
#endif
