// SPDX-License-Identifier: Apache-2.0
/* Locks between mounts: which device holds what of which file, and who waits.
 *
 * What the programs of one mount do among each other is the mount's own business; a device is
 * one owner here. What it holds it holds under a lease, which every request of it renews; when the
 * lease ends, all that the device holds and waits for is released.
 *
 * In memory only, because a lock must not cost a write to disk, and because who holds it can
 * say so again. A server that has just begun therefore gives nothing away for as long as a lease
 * lasts: in that time devices name what they hold (m_lock_ans.epoch tells them to), and every lease
 * of the server before has ended when it is over.
 *
 * Not thread-safe: it belongs to one thread. No network, no clock of its own.
 */
#ifndef STEADFS_METAD_LOCKS_H
#define STEADFS_METAD_LOCKS_H

#include "messages.h"

#define LOCK_LEASE_MS 15000
/* more: -ENOSPC */
#define LOCK_FILES_MAX 65536         /* of one device */
#define LOCK_DEVICE_RANGES_MAX 65536 /* of one device, held or waited for, in all files */
#define LOCK_DEVICES_MAX 1024        /* of one file */
/* more: a circle of waits is not noticed */
#define LOCK_CIRCLE_MAX 64      /* waits in it */
#define LOCK_CIRCLE_STEPS 65536 /* in search of it */

struct locks;
struct locks_options {
    int64_t (*now_ms)(void); /* monotonic */
    unsigned lease_ms;       /* 0: LOCK_LEASE_MS */
    uint64_t epoch;          /* random */
    /* Something that the device waits for was given to it (true), or it has asked for all that was
     * (false). */
    void (*news)(void *ctx, uint64_t device, bool any);
    void *ctx;
};

struct locks *locks_new(const struct locks_options *o);
void locks_free(struct locks *t);
/* Does what the device asks; the answer lives in the arena. 0; -EINVAL: no such ranges; -ENOSPC */
int locks_request(struct locks *t, uint64_t device, const struct m_lock_req *q,
                  struct m_lock_ans *a, struct arena *ar);
/* The device may not see the namespace any more: all that it holds and waits for there ends. */
void locks_leave(struct locks *t, uint64_t device, uint64_t ns);
/* Ends the leases that are over. Returns in how many ms to look again; 0: no device has one. */
unsigned locks_expire(struct locks *t);
/* files locked, devices that wait for some, and leases that ended, as Prometheus text */
void locks_print(const struct locks *t, struct buf *out);
#endif
