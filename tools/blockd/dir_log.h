// SPDX-License-Identifier: Apache-2.0
/* Which log (index.db-wal) goes with which index.db. SQLite takes any log that lies there: one that
 * was left beside a copy that was put back would be mixed with it.
 *
 * A log has a number in its head (a salt), which rises by one each time that the log begins anew;
 * the database has in its own head (application_id) the number of the log that it had when that was
 * written. So what is in the log's head is that number or the next one. A log that is made where
 * there was none begins with a random number: until the database itself has that, DIR/index.anew
 * says that they are not to be compared.
 *
 * The two are in the files themselves and as durable as they are: so a data directory may be moved,
 * or copied with or without its times, and the machine be started anew in between.
 * What passes: a copy of while the log had the number before the one that it has now.
 * (tools/walpair.h goes by files and times, and needs nothing of the database: it sees that one,
 * but not a copy with the times of its original after another boot.)
 */
#ifndef DIR_LOG_H
#define DIR_LOG_H

#include "durable.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* Of an open database; belongs to whoever may write. */
struct dir_log {
    char *dir, *db_path, *path; /* of the database and of its log */
    int fd;                     /* of the log; -1: none */
    uint32_t number;            /* that the database was given; 0: none */
    bool anew;                  /* DIR/index.anew is there */
};

/* Before SQLite opens DIR/index.db. -EUCLEAN: its log is another one's; -errno; a line in err (512
 * bytes). */
int dir_log_check(struct dir_log *l, const char *dir, char *err);
/* Once it is open, and something was written. */
void dir_log_opened(struct dir_log *l, sqlite3 *db);
/* After a commit, outside of a transaction: the database is told of a log that has begun anew. What
 * fails is tried again after the next. */
void dir_log_committed(struct dir_log *l, sqlite3 *db);
void dir_log_close(struct dir_log *l);
#endif
