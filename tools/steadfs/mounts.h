// SPDX-License-Identifier: Apache-2.0
/* The mounts of this machine, the steadfs ones among them, as /proc/self/mountinfo lists them. */
#ifndef STEADFS_MOUNTS_H
#define STEADFS_MOUNTS_H

#include <stdio.h>

#include "buf.h"

struct mount {
    bool ours;        /* false: another file system, listed for what lies inside what */
    char *mountpoint; /* absolute */
    char *control;    /* path of its control socket, or NULL when the mount does not answer … */
    int error; /* … and then why: -ENOTCONN: its process is gone; -ETIMEDOUT; -EACCES: it is
                  another user's */
};

struct mount_list {
    struct mount *v;
    size_t n;
};

void mount_list_free(struct mount_list *l);
#define cleanup_mounts __attribute__((cleanup(mount_list_free)))
/* All of them but those that are covered by a later one. 0 or -errno. */
int mount_list_read(struct mount_list *l);
/* The same from text in the form of proc(5)'s mountinfo. */
void mount_list_parse(struct mount_list *l, FILE *mountinfo);
/* Makes path absolute without symbolic links, as far as it exists: a last component that does not
 * exist, and a path whose file system is dead, are kept as typed. malloc'd. */
char *mount_absolute(const char *path);
/* The mount whose mount point it is, as typed (slashes at its end left out): nothing is asked of
 * the file system, which may hang. NULL: none, or it is typed in another way. */
const struct mount *mount_at(const struct mount_list *l, const char *path);
/* The mount that an absolute path lies in: the innermost; NULL if that is no steadfs mount. */
const struct mount *mount_of(const struct mount_list *l, const char *absolute);
/* The path inside the mount, without a leading slash; "" for its root. */
const char *mount_inside(const struct mount *m, const char *absolute);
/* Asks the mount for its control socket (once): fills m->control, or m->error. */
void mount_ask(struct mount *m);
/* What m->error means, for people. */
const char *mount_error(const struct mount *m);
/* The state directory of a mount that was asked, as it says itself: malloc'd, or NULL. */
char *mount_state(const struct mount *m);
/* Reads list and finds the mount of path (NULL: that of $STEADFS_STATE, else of the current
 * directory); asks it. 0, or the exit status of a complaint already made. *found points into l. */
struct subcommand;
int mount_find(const struct subcommand *c, const char *path, struct mount_list *l,
               struct mount **found, char **absolute);
#endif
