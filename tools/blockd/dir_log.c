// SPDX-License-Identifier: Apache-2.0
/* https://www.sqlite.org/fileformat2.html: the log's head has a magic number (0x377f0682, or 83)
 * and at 16 the salt, that of a database its application_id at 68; both big-endian. */
#include "dir_log.h"

#include "dir_sql.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x377f0682u /* its last bit may be set */
#define SALT_AT 16
#define MARK_AT 68
#define ANEW "index.anew"

static uint32_t number_at(int fd, off_t at)
{
    uint8_t b[4];
    if (pread(fd, b, sizeof b, at) != (ssize_t)sizeof b)
        return 0;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint32_t number_in(const char *path, off_t at, bool log)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    uint32_t n = !log || (number_at(fd, 0) & ~1u) == MAGIC ? number_at(fd, at) : 0;
    close(fd);
    return n;
}

int dir_log_check(struct dir_log *l, const char *dir, char *err)
{
    *l = (struct dir_log){.fd = -1};
    if (!(l->dir = strdup(dir)) || asprintf(&l->db_path, "%s/index.db", dir) < 0 ||
        asprintf(&l->path, "%s/index.db-wal", dir) < 0)
        abort();
    uint32_t log = number_in(l->path, SALT_AT, true), mark = number_in(l->db_path, MARK_AT, false);
    struct buf anew cleanup_buf = {0};
    l->anew = durable_read(dir, ANEW, 16, &anew) != -ENOENT;
    if (mark && log && !l->anew && log - mark > 1) {
        snprintf(err, 512,
                 "%.200s/index.db-wal is not the log of this index.db: one of them was put back "
                 "without the other. Put the right one back; where index.db is a copy that is to "
                 "be used as it is, move index.db-wal away",
                 dir);
        return -EUCLEAN;
    }
    if (!mark || log || l->anew)
        return 0;
    int r = durable_write(dir, ANEW, "anew\n", 5, 0600);
    if (r)
        snprintf(err, 512, "cannot write %.300s/" ANEW ": %s", dir, strerror(-r));
    l->anew = !r;
    return r;
}

void dir_log_committed(struct dir_log *l, sqlite3 *db)
{
    char sql[64];
    uint32_t now = l->fd < 0 ? 0 : number_at(l->fd, SALT_AT);
    if (!now || now == l->number)
        return;
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", (int)now);
    if (!dir_sql_exec(db, sql))
        l->number = now;
}

void dir_log_opened(struct dir_log *l, sqlite3 *db)
{
    int mark = 0;
    l->fd = open(l->path, O_RDONLY | O_CLOEXEC);
    if (!dir_sql_int(db, "PRAGMA application_id", &mark))
        l->number = (uint32_t)mark;
    dir_log_committed(l, db);
    if (!l->anew || !l->number ||
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL))
        return;
    int copied = 0;
    sqlite3_file *f = NULL;
    uint8_t b[4] = {0};
    if (!sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) && f && f->pMethods &&
        !f->pMethods->xRead(f, b, sizeof b, MARK_AT))
        copied =
            ((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]) == l->number;
    if (copied && !durable_remove(l->dir, ANEW))
        l->anew = false;
}

void dir_log_close(struct dir_log *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->dir);
    free(l->db_path);
    free(l->path);
    *l = (struct dir_log){.fd = -1};
}
