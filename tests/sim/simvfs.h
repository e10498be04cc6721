// SPDX-License-Identifier: Apache-2.0
/* The disk of one simulated machine: a SQLite VFS whose files live in memory and which knows what
 * of them has been synced.
 *
 * A crash makes every later operation of the open files fail, as if the process were gone; the
 * database is then closed and simvfs_restart says what is found afterwards: everything that was
 * written (the process was killed), or of the writes that were not synced a random choice, each
 * wholly, up to a sector, or not at all (power was lost).
 */
#ifndef SIM_SIMVFS_H
#define SIM_SIMVFS_H

#include "rng.h"

struct simvfs;

/* Registers a VFS under name (copied), which must be unique in the process. */
struct simvfs *simvfs_new(const char *name);
void simvfs_free(struct simvfs *v);
const char *simvfs_name(const struct simvfs *v);
/* Makes an empty database of small pages: a quarter of the bytes to copy and to sum up, and more
 * writes to crash between. */
void simvfs_small_pages(struct simvfs *v, const char *path);
struct simvfs *simvfs_find(const char *name); /* NULL: none of ours */
/* Whether a database is there that keeps a write-ahead log. */
bool simvfs_has_wal(struct simvfs *v, const char *path);
/* Removes that log as a connection does that is closed; the next one begins a new one. */
void simvfs_remove_log(struct simvfs *v, const char *path);
/* Forgets all files; the seed decides what a crash leaves. No file may be open. */
void simvfs_reset(struct simvfs *v, uint64_t seed);
/* Everything becomes a durable copy of what is in from. No file of v may be open. */
void simvfs_copy(struct simvfs *v, const struct simvfs *from);

void simvfs_crash(struct simvfs *v);
/* Crashes in the middle of things: the n-th write or sync from now on fails, and all after it. */
void simvfs_crash_after(struct simvfs *v, unsigned n);
bool simvfs_crashed(const struct simvfs *v);
/* For a program of one thread that opens many small databases: call it before anything of SQLite.
 */
void simvfs_quick(void);
/* After a crash, with all files closed. */
void simvfs_restart(struct simvfs *v, bool power_lost);
#endif
