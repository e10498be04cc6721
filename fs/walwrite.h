// SPDX-License-Identifier: Apache-2.0
/* An SQLite VFS that writes a transaction's part of a log (WAL) at once. */
#ifndef STEADFS_WALWRITE_H
#define STEADFS_WALWRITE_H

/* Over "unix-excl", all of whose behaviour it has; registered under this name by the first call. If
 * it cannot be, "unix-excl". Any thread. */
const char *walwrite_vfs(void);
#endif
