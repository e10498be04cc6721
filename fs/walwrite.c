// SPDX-License-Identifier: Apache-2.0
/* SQLite writes two pieces for each page that a transaction changed: a frame's header of 24 bytes,
 * and the page. A rename changes some ten pages: twenty system calls, which cost as much as a third
 * of its statements. Here they are put together and written when the page of the last frame comes,
 * whose header says that it ends a commit: so before SQLite takes the commit for done, and what
 * fails fails it. A process that is killed leaves what it would have left in the midst of the
 * twenty.
 *
 * Whatever else is asked of the log (a read, its size, a sync) finds it written. Where SQLite goes
 * over frames that are written already, to mend their checksums after a cache that was too small,
 * it reads each first: a header behind a read is written through.
 *
 * https://www.sqlite.org/fileformat2.html#walformat
 */
#include "walwrite.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_HEADER 24
#define LOG_HEADER 32
#define TOGETHER_MAX 65536 /* bytes; unix-excl cannot write 128 KiB at once */

struct log {
    sqlite3_file base; /* first: SQLite knows the file by it */
    uint8_t *bytes;    /* not written yet */
    size_t n;
    sqlite3_int64 at; /* where they belong */
    bool read;        /* the last call was a read */
    bool ends;        /* the frame whose header came last ends a commit */
};

static sqlite3_file *below(sqlite3_file *f)
{
    return (sqlite3_file *)((struct log *)f + 1);
}

static int flush(struct log *l)
{
    sqlite3_file *f = below(&l->base);
    int n = (int)l->n;
    l->n = 0;
    return n ? f->pMethods->xWrite(f, l->bytes, n, l->at) : SQLITE_OK;
}

static int log_close(sqlite3_file *file)
{
    struct log *l = (struct log *)file;
    int rc = flush(l), closed = below(file)->pMethods->xClose(below(file));
    free(l->bytes);
    l->bytes = NULL;
    return rc ? rc : closed;
}

static int log_read(sqlite3_file *file, void *p, int n, sqlite3_int64 off)
{
    struct log *l = (struct log *)file;
    int rc = flush(l);
    l->read = true;
    return rc ? rc : below(file)->pMethods->xRead(below(file), p, n, off);
}

static int log_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 off)
{
    struct log *l = (struct log *)file;
    bool header = n == FRAME_HEADER && off >= LOG_HEADER, read = l->read;
    l->read = false;
    if (l->n && (off != l->at + (sqlite3_int64)l->n || l->n + (size_t)n > TOGETHER_MAX)) {
        int rc = flush(l);
        if (rc)
            return rc;
    }
    if (header)
        l->ends = memcmp((const uint8_t *)p + 4, "\0\0\0\0", 4) != 0;
    bool begins = header && !read;
    if ((!l->n && !begins) || n > TOGETHER_MAX)
        return below(file)->pMethods->xWrite(below(file), p, n, off);
    if (!l->n)
        l->at = off;
    memcpy(l->bytes + l->n, p, (size_t)n);
    l->n += (size_t)n;
    return !header && l->ends ? flush(l) : SQLITE_OK;
}

static int log_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int rc = flush((struct log *)file);
    return rc ? rc : below(file)->pMethods->xTruncate(below(file), size);
}

static int log_sync(sqlite3_file *file, int flags)
{
    int rc = flush((struct log *)file);
    return rc ? rc : below(file)->pMethods->xSync(below(file), flags);
}

static int log_size(sqlite3_file *file, sqlite3_int64 *size)
{
    int rc = flush((struct log *)file);
    return rc ? rc : below(file)->pMethods->xFileSize(below(file), size);
}

static int log_lock(sqlite3_file *file, int level)
{
    return below(file)->pMethods->xLock(below(file), level);
}

static int log_unlock(sqlite3_file *file, int level)
{
    return below(file)->pMethods->xUnlock(below(file), level);
}

static int log_reserved(sqlite3_file *file, int *yes)
{
    return below(file)->pMethods->xCheckReservedLock(below(file), yes);
}

static int log_control(sqlite3_file *file, int op, void *arg)
{
    return below(file)->pMethods->xFileControl(below(file), op, arg);
}

static int log_sector(sqlite3_file *file)
{
    return below(file)->pMethods->xSectorSize(below(file));
}

static int log_device(sqlite3_file *file)
{
    return below(file)->pMethods->xDeviceCharacteristics(below(file));
}

static const sqlite3_io_methods log_methods = {
    .iVersion = 1,
    .xClose = log_close,
    .xRead = log_read,
    .xWrite = log_write,
    .xTruncate = log_truncate,
    .xSync = log_sync,
    .xFileSize = log_size,
    .xLock = log_lock,
    .xUnlock = log_unlock,
    .xCheckReservedLock = log_reserved,
    .xFileControl = log_control,
    .xSectorSize = log_sector,
    .xDeviceCharacteristics = log_device,
};

static sqlite3_vfs *over; /* unix-excl */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    struct log *l = (struct log *)file;
    (void)vfs;
    if (!(flags & SQLITE_OPEN_WAL)) /* any other file is its own */
        return over->xOpen(over, name, file, flags, out);
    *l = (struct log){.bytes = malloc(TOGETHER_MAX)};
    if (!l->bytes)
        return SQLITE_NOMEM;
    int rc = over->xOpen(over, name, below(file), flags, out);
    if (rc) {
        free(l->bytes);
        l->bytes = NULL;
        return rc;
    }
    l->base.pMethods = &log_methods;
    return SQLITE_OK;
}

static sqlite3_vfs vfs_here;
static bool registered;

static void register_vfs(void)
{
    over = sqlite3_vfs_find("unix-excl");
    if (!over)
        return;
    vfs_here = *over;
    vfs_here.pNext = NULL;
    vfs_here.zName = "steadfs-log";
    vfs_here.szOsFile += (int)sizeof(struct log);
    vfs_here.xOpen = vfs_open;
    registered = sqlite3_vfs_register(&vfs_here, 0) == SQLITE_OK;
}

const char *walwrite_vfs(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_vfs);
    return registered ? vfs_here.zName : "unix-excl";
}
