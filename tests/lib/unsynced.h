// SPDX-License-Identifier: Apache-2.0
/* The undo log of unsynced.c. One object a process: the calls that it stands in for have nowhere
 * else to find it. */
#ifndef UNSYNCED_H
#define UNSYNCED_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

struct inode_key {
    dev_t dev;
    ino_t ino; /* 0: none */
};

enum change {
    CHANGE_DATA,
    CHANGE_CREATE, /* also a hard link */
    CHANGE_UNLINK,
    CHANGE_RENAME,
    CHANGE_EXCHANGE,
    CHANGE_MKDIR,
    CHANGE_RMDIR,
};

/* One change that is not on disk, with what takes it back. */
struct entry {
    enum change kind;
    uint64_t seq;
    struct inode_key inode;    /* changed, created, removed or renamed */
    struct inode_key dir;      /* of the name; whose fsync makes it durable */
    struct inode_key replaced; /* by a rename */
    char *path, *to;           /* owned; absolute */
    off_t off, old_size;       /* of CHANGE_DATA */
    uint8_t *old;              /* owned; the bytes that were at off */
    size_t old_len;
    mode_t mode; /* of a removed directory */
    struct entry *prev, *next;
};

struct unsynced {
    pthread_mutex_t lock; /* all below, and every watched change from undo entry to system call */
    struct entry *oldest, *newest;
    uint64_t seq;
    const char *prefix, *stash, *ignore; /* from the environment; prefix NULL: not in use */
    int trace;                           /* or -1 */
    pid_t pid;
};
#endif
