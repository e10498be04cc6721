// SPDX-License-Identifier: Apache-2.0
/* Who this state directory is: what `steadfs login` left in it, and the lock that one process
 * holds. */
#ifndef STEADFS_IDENTITY_H
#define STEADFS_IDENTITY_H

#include "buf.h"

#define INCARNATION_LEN 16

struct identity { /* strings are malloc'd */
    char *url, *account, *device_name, *credential;
    char *ca_pem; /* NULL without TLS */
    uint32_t device;
    uint8_t incarnation[INCARNATION_LEN];
    bool known; /* the incarnation was there: this state directory was in use before */
};
/* Reads STATE/identity, STATE/ca.pem and STATE/incarnation (made when absent). 0; -ENOENT: not
 * logged in; -EINVAL: damaged; err: 512 bytes for people, `host` in its remedy. */
int identity_load(struct identity *id, const char *state, const char *host, char *err);
void identity_free(struct identity *id);

/* Finds the state directory for [account@]host:port below $XDG_STATE_HOME/steadfs (account may be
 * NULL if only one device there belongs to the host). malloc'd. 0, -ENOENT, -EEXIST (several), err
 * as above. */
int identity_find(char **state, const char *account, const char *host, unsigned port, char *err);

/* Takes STATE/lock. A process that only finishes its upload after an unmount is asked over its
 * control socket to stop, and waited for. 0 and a descriptor in *fd; -EBUSY; err as above. */
int state_lock(int *fd, const char *state, const char *mountpoint, char *err);
/* What the lock's holder does, for the next one who asks: "serving" or "finishing". */
void state_lock_note(int fd, const char *what, const char *mountpoint);
#endif
