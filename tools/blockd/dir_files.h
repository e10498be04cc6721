// SPDX-License-Identifier: Apache-2.0
/* The larger blocks of a directory storage: a file each.
 *
 *   DIR/blocks/NNNNNNNN/HEX-RANDOM   the bytes; numbered directories of some thousand files, filled
 * one after the other, so that a batch touches one directory
 *   DIR/tmp/                         what is being written, and what the index has not recorded yet
 *   DIR/corrupt/                     set aside
 *
 * Names are given out once: a file belongs to the one record that names it. A numbered directory
 * stays when its last file has gone, one for some thousand files: a file that is not in a directory
 * that is there is lost, while a directory that is not there may be on a disk that is not mounted.
 */
#ifndef DIR_FILES_H
#define DIR_FILES_H

#include "buf.h"

/* "NNNNNNNN/HEX-RANDOM" and NUL fit, and the name of an object (s3_keys.h). */
#define DIR_FILE_NAME 112

struct dir_files;

/* A file on its way. */
struct dir_file {
    char name[DIR_FILE_NAME]; /* below DIR/blocks once settled */
    int fd;                   /* -1: none */
    int err;
};

int dir_files_open(struct dir_files **out, const char *dir, char *err);
void dir_files_close(struct dir_files *f);
/* Writes the bytes aside; f->err tells how it went. */
void dir_files_write(struct dir_files *f, const struct block_id *id, struct bytes data,
                     struct dir_file *file);
/* Makes the written ones of a batch durable under their names: every file's data, the names, then
 * the one directory. Those without err are durable; the others are gone. Each of the former is to
 * be ended by dir_files_recorded or dir_files_discard. */
void dir_files_settle(struct dir_files *f, struct dir_file *v, size_t n);
/* The index names it, durably. */
void dir_files_recorded(struct dir_files *f, const char *name);
/* The index does not. */
void dir_files_discard(struct dir_files *f, const char *name);
void dir_files_remove(struct dir_files *f, const char *name);
/* Appends exactly len bytes. -EUCLEAN: the file is damaged: it has another length, or it is gone
 * while its directory is there. -ENODATA: the disk fails to read this file, others it reads. -EIO:
 * it cannot be read now, which tells nothing about it. */
int dir_files_read(struct dir_files *f, const char *name, uint64_t len, struct buf *out);
/* Whether the file is there and has this length: 0; -EUCLEAN as above; -EIO: it cannot be told now.
 */
int dir_files_probe(struct dir_files *f, const char *name, uint64_t len);
/* Its length; -ENOENT, -EIO. */
int dir_files_length(struct dir_files *f, const char *name, uint64_t *len);
/* The next read is the disk's, not of what the kernel keeps of the file in memory, as far as the
 * file system does that. */
void dir_files_uncache(struct dir_files *f, const char *name);
/* Calls fn for every file of a numbered directory, until it returns an error: that one, or -errno
 * where the directory cannot be read; 0: also where there is none of that number. fn may move the
 * file away. Names as in records. */
int dir_files_each(struct dir_files *f, unsigned number, int (*fn)(void *arg, const char *name),
                   void *arg);
/* The highest number of a directory; 0: there is none. */
unsigned dir_files_newest(struct dir_files *f);
/* The same for the files in DIR/corrupt, whose names have no directory. */
int dir_files_each_aside(struct dir_files *f, int (*fn)(void *arg, const char *name), void *arg);
/* Appends all of such a file, of at most max bytes. -EFBIG, -ENOENT, -EIO. */
int dir_files_read_aside(struct dir_files *f, const char *name, size_t max, struct buf *out);
void dir_files_remove_aside(struct dir_files *f, const char *name);
/* Moves a file to DIR/corrupt. */
void dir_files_move_aside(struct dir_files *f, const char *name);
/* Puts bytes into DIR/corrupt. */
void dir_files_keep_aside(struct dir_files *f, const struct block_id *id, struct bytes data);
/* Empties tmp, and removes those of its files that known() does not know: what a crash left before
 * their record. known NULL: only the former. */
void dir_files_sweep(struct dir_files *f, bool (*known)(void *arg, const char *name), void *arg);
/* The files of the newest directories (no more are looked at) that known() does not know. */
size_t dir_files_unknown(struct dir_files *f, bool (*known)(void *arg, const char *name),
                         void *arg);
#endif
