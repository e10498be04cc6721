// SPDX-License-Identifier: Apache-2.0
/* The note is one small write after each commit: the log's salts, which change whenever SQLite
 * begins it anew, and the number of frames. A log with other salts was begun after the note, when
 * everything before was in the database. */
#include "treelog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dbrescue.h"

#define BOOT_LEN 36

struct noted {
    char boot[BOOT_LEN];
    uint8_t salts[8]; /* as in the log's header */
    uint32_t frames;  /* 0: there was no log */
};

struct treelog {
    int fd, wal;
    char *wal_path;
    struct noted now;
};

static void boot_id(char out[BOOT_LEN])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    memset(out, 0, BOOT_LEN);
    if (fd >= 0 && read(fd, out, BOOT_LEN) != BOOT_LEN)
        memset(out, 0, BOOT_LEN);
    if (fd >= 0)
        close(fd);
}

int treelog_check(const char *path)
{
    char name[4400], boot[BOOT_LEN];
    struct noted n;
    snprintf(name, sizeof name, "%s.note", path);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    bool whole = read(fd, &n, sizeof n) == (ssize_t)sizeof n;
    close(fd);
    boot_id(boot);
    if (!whole || !n.frames || memcmp(boot, n.boot, BOOT_LEN) != 0)
        return 0;
    struct wal_state w;
    snprintf(name, sizeof name, "%s-wal", path);
    int r = wal_look(name, &w);
    if (r || !w.header_sound)
        return -EUCLEAN;
    return memcmp(w.salts, n.salts, sizeof n.salts) == 0 && w.frames < n.frames ? -EUCLEAN : 0;
}

struct treelog *treelog_new(const char *path)
{
    struct treelog *l = calloc(1, sizeof *l);
    char name[4400];
    if (!l)
        return NULL;
    snprintf(name, sizeof name, "%s.note", path);
    l->wal = -1;
    l->fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    boot_id(l->now.boot);
    if (l->fd < 0 || asprintf(&l->wal_path, "%s-wal", path) < 0) {
        if (l->fd >= 0)
            close(l->fd);
        free(l);
        return NULL;
    }
    return l;
}

void treelog_commit(struct treelog *l, int frames)
{
    if (l->wal < 0)
        l->wal = open(l->wal_path, O_RDONLY | O_CLOEXEC);
    if (l->wal < 0 || pread(l->wal, l->now.salts, sizeof l->now.salts, 16) != 8)
        return;
    l->now.frames = (uint32_t)frames;
    if (pwrite(l->fd, &l->now, sizeof l->now, 0) != (ssize_t)sizeof l->now)
        errno = 0; /* an older note is a true one */
}

void treelog_free(struct treelog *l)
{
    if (!l)
        return;
    l->now.frames = 0;
    if (access(l->wal_path, F_OK) != 0 &&
        pwrite(l->fd, &l->now, sizeof l->now, 0) != (ssize_t)sizeof l->now)
        errno = 0;
    if (l->wal >= 0)
        close(l->wal);
    close(l->fd);
    free(l->wal_path);
    free(l);
}
