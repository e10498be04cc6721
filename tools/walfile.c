// SPDX-License-Identifier: Apache-2.0
/* The log is reached through the connection, so that it is written through the same VFS as by
 * SQLite itself. Zeros are written rather than allocated: the first write to an allocated but
 * unwritten part is a change of metadata again. */
#include "walfile.h"

#include <errno.h>
#include <stddef.h>
#include <sys/statvfs.h>

#define FREE_TIMES 16

static const char zeros[1 << 16];

int walfile_reserve(sqlite3 *db, const char *path, int64_t len)
{
    struct statvfs v;
    sqlite3_file *f = NULL;
    int keep = 1;
    if (statvfs(path, &v) || (int64_t)(v.f_bavail * v.f_frsize) / FREE_TIMES < len)
        return 0;
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f) || !f || !f->pMethods)
        return -EIO;
    sqlite3_int64 at = 0;
    if (f->pMethods->xFileSize(f, &at))
        return -EIO;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    for (; at < len; at += (sqlite3_int64)sizeof zeros)
        if (f->pMethods->xWrite(f, zeros, (int)sizeof zeros, at))
            return -EIO;
    /* in any case: the first sync of a log syncs its directory, too, which no commit is to wait for
     */
    return f->pMethods->xSync(f, SQLITE_SYNC_NORMAL) ? -EIO : 0;
}
