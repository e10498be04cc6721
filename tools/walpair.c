// SPDX-License-Identifier: Apache-2.0
#include "walpair.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NOTE_MAX 160
#define CHANGES "changes"
#define LOG_HEADER 32

static char *beside(const char *path, const char *suffix)
{
    char *name;
    if (asprintf(&name, "%s%s", path, suffix) < 0)
        abort();
    return name;
}

static void free_text(void *p)
{
    free(*(void **)p);
}
#define cleanup_text __attribute__((cleanup(free_text)))

/* Up to max bytes; how many, 0: there is no such file. */
static size_t read_some(const char *path, void *to, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, to, max);
    if (fd >= 0)
        close(fd);
    return n < 0 ? 0 : (size_t)n;
}

static void boot_id(char id[40])
{
    id[read_some("/proc/sys/kernel/random/boot_id", id, 36)] = 0;
}

/* When the file was made, ns; 0: its file system does not say. The number of a file that is removed
 * may be that of the next one, which was made later. */
static int64_t made_at(const char *path)
{
    struct statx st;
    if (statx(AT_FDCWD, path, 0, STATX_BTIME, &st) < 0 || !(st.stx_mask & STATX_BTIME))
        return 0;
    return st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
}

/* Both files as they are; *says: bytes of it that must be the same for a note to say anything:
 * where the log is another file, all was copied. false: one is not there. */
static bool look(const char *path, char text[NOTE_MAX], size_t *says)
{
    cleanup_text char *log = beside(path, "-wal");
    char boot[40];
    struct stat db, wal;
    int n;
    if (stat(path, &db) < 0 || stat(log, &wal) < 0)
        return false;
    boot_id(boot);
    snprintf(text, NOTE_MAX, "%s %ju %jd %n%ju %jd %jd.%09ld\n", boot, (uintmax_t)wal.st_ino,
             (intmax_t)made_at(log), &n, (uintmax_t)db.st_ino, (intmax_t)db.st_size,
             (intmax_t)db.st_mtim.tv_sec, db.st_mtim.tv_nsec);
    *says = (size_t)n;
    return boot[0] != 0;
}

static void note(const char *path, const char *text)
{
    cleanup_text char *name = beside(path, "-file");
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return; /* as if there were no note */
    size_t n = strlen(text);
    if (pwrite(fd, text, n, 0) != (ssize_t)n || ftruncate(fd, (off_t)n) < 0)
        unlink(name);
    close(fd);
}

void walpair_changes(const char *path)
{
    note(path, CHANGES "\n");
}

void walpair_rests(const char *path)
{
    char text[NOTE_MAX];
    size_t says;
    if (look(path, text, &says))
        note(path, text);
}

/* A log with nothing but room in it begins with zeros. */
static bool has_log(const char *log)
{
    static const uint8_t magic[] = {0x37, 0x7f, 0x06};
    uint8_t head[LOG_HEADER];
    return read_some(log, head, sizeof head) == sizeof head && !memcmp(head, magic, sizeof magic) &&
           (head[3] & 0xfe) == 0x82;
}

static bool changed_since_boot(const char *path)
{
    struct timespec now, up;
    struct stat st;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &up);
    return stat(path, &st) == 0 && st.st_mtim.tv_sec > now.tv_sec - up.tv_sec;
}

/* Whether the log is another file's. */
static bool is_another(const char *path, const char *log)
{
    cleanup_text char *name = beside(path, "-file");
    char noted[NOTE_MAX], now[NOTE_MAX];
    size_t says;
    noted[read_some(name, noted, sizeof noted - 1)] = 0;
    if (!strncmp(noted, CHANGES, strlen(CHANGES)) || !look(path, now, &says))
        return false;
    if (!strncmp(noted, now, says))
        return strcmp(noted, now) != 0;
    return changed_since_boot(path) && !changed_since_boot(log);
}

int walpair_check(const char *path, char *why)
{
    cleanup_text char *log = beside(path, "-wal");
    if (!has_log(log))
        return 0;
    if (access(path, F_OK) < 0) {
        snprintf(why, 512, "%.200s is gone, and its log %.40s-wal is there: bring it back", path,
                 strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        return -ENOENT;
    }
    if (!is_another(path, log))
        return 0;
    snprintf(why, 512,
             "%.200s is not the file that the log beside it (-wal) was written for, and would be "
             "destroyed by it. If a copy was put back: remove the files -wal, -shm and -file of "
             "that name, then start again. If not: remove -file and touch -wal",
             path);
    return -EUCLEAN;
}

int walpair_end(const char *path)
{
    cleanup_text char *name = beside(path, "-file");
    cleanup_text char *log = beside(path, "-wal");
    sqlite3 *db = NULL;
    walpair_changes(path);
    bool done = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ==
                    SQLITE_OK &&
                sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_close(db); /* the last one removes it */
    if (!done || has_log(log))
        return -EIO;
    unlink(name);
    return 0;
}
