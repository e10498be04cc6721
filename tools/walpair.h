// SPDX-License-Identifier: Apache-2.0
/* Whether the log (-wal) beside an SQLite database is that database's own.
 *
 * SQLite applies whatever log it finds beside a database. Where somebody put an older copy in the
 * place of a database and left the log, that makes a mixture of both, or the newest state again,
 * without a word. So a clean end leaves no log, and beside one that a crash left there is a note,
 * PATH-file: a line with the boot of the machine, which file the log is, made when, and which one,
 * of what size and changed when, the database. SQLite changes that one only when it copies the log
 * into it; then the note says so.
 *
 * The note is not synced. After another boot, and where the log is a copy, too, it says nothing:
 * then a database file that was changed since the machine was started, beside a log that was not,
 * is not the log's. What passes all the same is a copy that was put there after another boot with
 * the times of its original. */
#ifndef WALPAIR_H
#define WALPAIR_H

/* Before the database is opened, by who alone may do that. 0; -EUCLEAN: the log belongs to another
 * file; -ENOENT: there is a log and no database. Both with a line in why (512 bytes). */
int walpair_check(const char *path, char *why);
/* From now on the file may be changed. */
void walpair_changes(const char *path);
/* It is not, until the next walpair_changes. */
void walpair_rests(const char *path);
/* At a clean end, when nobody has the database open: copies the log and removes it, with the note.
 * 0, or -EIO: it stays. */
int walpair_end(const char *path);
#endif
