// SPDX-License-Identifier: Apache-2.0
/* The local tree: one SQLite database (WAL, synchronous=NORMAL; what must survive power loss is
 * written with tree_reserve). Opens, migrates, checks and prepares; the statements belong to the
 * core. */
#ifndef STEADFS_TREE_H
#define STEADFS_TREE_H

#include <sqlite3.h>

#include "steadfs/types.h"

struct tree;

#define TREE_PAGE "2048" /* bytes; trees of the first version had 4096 */

/* vfs: SQLite VFS, NULL for the default (the simulator passes its own).
 * 0; -EBUSY: another process has it open; -EUCLEAN: damaged; -EPROTO: written by a newer version.
 * why: 512 bytes for people. */
int tree_open(struct tree **out, const char *path, const char *vfs, char *why);
void tree_close(struct tree *t);
sqlite3 *tree_db(struct tree *t);
/* Another number whenever a row may have changed; never 0. What was read at a version is what would
 * be read again. */
uint64_t tree_version(const struct tree *t);
/* Something was found damaged since it was opened; the next tree_open then says -EUCLEAN. */
bool tree_damaged(const struct tree *t);
/* A row was read that makes no sense: noted in the same way. */
void tree_note_damage(struct tree *t);
/* Nested transactions: only the outermost commits. 0 or -EIO/-ENOSPC. */
int tree_begin(struct tree *t);
int tree_end(struct tree *t, bool keep);
/* Small durable values by name. */
int tree_get(struct tree *t, const char *key, int64_t *value); /* -ENOENT */
int tree_set(struct tree *t, const char *key, int64_t value);
/* Sets and makes durable against power loss before it returns. Outside of transactions. */
int tree_reserve(struct tree *t, const char *key, int64_t value);
int tree_get_blob(struct tree *t, const char *key, void *p,
                  size_t n); /* -ENOENT, -EUCLEAN (length) */
int tree_set_blob(struct tree *t, const char *key, const void *p, size_t n);
/* A prepared statement for the text, which must be a literal (the pointer is the cache's key);
 * reset and without bindings. */
sqlite3_stmt *tree_stmt(struct tree *t, const char *sql);
/* Steps: 1 row, 0 done, -errno. */
int tree_step(struct tree *t, sqlite3_stmt *s);
/* Makes all committed so far durable against power loss. Outside of transactions. */
int tree_flush(struct tree *t);
/* Whether the log is so long that it should be copied into the database: where begin says that it
 * still is, by tree_checkpoint, in another thread and without the lock under which all else is
 * called, and then in any case by tree_checkpoint_end with it, for what was written meanwhile. One
 * at a time. 0, -EIO, -ENOSPC: it stays due, and nothing is lost. */
bool tree_log_long(const struct tree *t);
bool tree_checkpoint_begin(struct tree *t);
int tree_checkpoint(struct tree *t);
int tree_checkpoint_end(struct tree *t);
#endif
