// SPDX-License-Identifier: Apache-2.0
/* The log (-wal) of an SQLite database, kept at its length.
 *
 * Every durable commit of a server is an fdatasync of this file. While the file still grows, each
 * of those is also a commit of the disk filesystem's own journal, which waits for data of other
 * files that happen to be on their way. Overwriting bytes that are there already needs neither:
 * measured on ext4 beside other writers, the median falls by a quarter and the 90th percentile by
 * half (tools/bench/README.md).
 */
#ifndef WALFILE_H
#define WALFILE_H

#include <sqlite3.h>
#include <stdint.h>

/* Makes the log at least len bytes long, durably, and keeps it when the database is closed. db: in
 * WAL mode, after a first transaction; no transaction open, nobody else writing. What is added is
 * zeros behind the newest frame, which SQLite takes for the end of the log. Does nothing where the
 * disk has less than 16 times that free. 0, or -EIO (what was added is kept, and harmless). */
int walfile_reserve(sqlite3 *db, const char *path, int64_t len);
#endif
