// SPDX-License-Identifier: Apache-2.0
/* Small files that are there whole or not at all, whatever happens to the machine. */
#ifndef DURABLE_H
#define DURABLE_H

#include "buf.h"

#include <sys/types.h>

/* Writes dir/name anew: aside, fdatasync, rename, fsync of dir. 0 or -errno. */
int durable_write(const char *dir, const char *name, const void *p, size_t n, mode_t mode);
/* Appends the file's bytes and a NUL that is not counted. -ENOENT; -EMSGSIZE: over max bytes. */
int durable_read(const char *dir, const char *name, size_t max, struct buf *out);
/* 0 also when it is not there. */
int durable_remove(const char *dir, const char *name);
/* Makes the directory, and makes its name durable. 0 also when it is there already. */
int durable_mkdir(const char *path);
int durable_sync_dir(const char *path);
/* Makes the directory and takes it for this process: as long as *fd is open no other one gets it.
 * -EBUSY: another has it. 0 or -errno with a line in err (512 bytes). */
int durable_take(const char *dir, int *fd, char *err);
/* Writes all n bytes; EINTR and short writes are gone on with. */
int write_all(int fd, const void *p, size_t n);
/* A full disk, quota or file size limit is -ENOSPC; anything else -err. */
int write_error(int err);
#endif
