// SPDX-License-Identifier: Apache-2.0
/* What a program may rely on in any directory of a POSIX filesystem on Linux, as a table of checks.
 *
 * Each check runs in a fresh empty directory that is its working directory, in the order of the
 * tables, and returns 0 or -1 after one line on stderr that names the failed claim. Running the
 * same program on ext4 shows that the claims themselves are right.
 */
#ifndef POSIXCHECK_H
#define POSIXCHECK_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct check {
    const char *name;
    int (*run)(void);
};

extern const struct check checks_names[];  /* names, directories, links, rename */
extern const struct check checks_data[];   /* contents: read, write, truncate, mmap, holes */
extern const struct check checks_attrs[];  /* attributes, permissions, times, xattrs, locks */
extern const struct check checks_rights[]; /* set-id bits, access lists, O_TMPFILE, file handles */
extern const struct check checks_locks[];  /* locks that are waited for */

/* The claim holds, or the check ends. */
#define MUST(claim)                                                                                \
    do {                                                                                           \
        errno = 0;                                                                                 \
        if (!(claim)) {                                                                            \
            fprintf(stderr, "%s:%d: %s: not so (%s)\n", __FILE__, __LINE__, #claim,                \
                    strerror(errno));                                                              \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

/* The call gives -1 with exactly this errno. */
#define FAILS(call, want)                                                                          \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long got_ = (long)(call);                                                                  \
        if (got_ != -1 || errno != (want)) {                                                       \
            fprintf(stderr, "%s:%d: %s: gave %ld (%s), should fail with %s\n", __FILE__, __LINE__, \
                    #call, got_, strerror(errno), #want);                                          \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

/* A new file with this text; 0 or -1. */
int put_file(const char *path, const char *text);
/* Whether the file holds exactly this text. */
bool has_text(const char *path, const char *text);
bool has_bytes(int fd, off_t off, const void *want, size_t len);
struct stat stat_of(const char *path); /* lstat; all zero if there is nothing */
/* Runs fn in a child as an unprivileged user (when started as root); its result. */
int as_nobody(int (*fn)(void));
/* Runs fn in a child; its result. */
int in_child(int (*fn)(void));
int is_root(void);
#endif
