// SPDX-License-Identifier: Apache-2.0
/* The `wait` requests that are being held: who is to be told when a namespace's journal grows.
 *
 * Everything here belongs to the loop thread. Other threads hand over with httpd_post. A held
 * request costs its connection, one watch per namespace, and a timer; nothing looks at it until it
 * is woken.
 *
 * No wake-up is lost: the worker that received the request has compared it with the database; a
 * commit that lands between that and waiters_hold is told to waiters_publish, which remembers the
 * newest number of every namespace, and waiters_hold compares again.
 */
#ifndef STEADFS_WAITERS_H
#define STEADFS_WAITERS_H

#include "httpd.h"

#define WAIT_MAX_MS 50000   /* evhttp does not notice a vanished waiter */
#define WAIT_JITTER_MS 5000 /* so that waiters held at one moment do not all come back at one */
#define WAIT_LOCKS_AGAIN_MS 2000
#define WAIT_PER_DEVICE_MAX 8 /* one more: the device's oldest is answered */

struct waiters;

struct waiters *waiters_new(struct httpd *h);
void waiters_free(struct waiters *w); /* none may be held */
/* Holds q (decoded into *req, which lives in q's arena) for the device; answers it at once when the
 * journal is ahead already or the server is draining. */
void waiters_hold(struct waiters *w, struct httpd_req *q, const struct m_wait_req *req,
                  uint64_t device);
/* Numbers [first, head] of the namespace's journal are there: answers those who watch it. device:
 * if not 0, all of them are commits of this one, which learns of them by their answers: a wait of
 * its that knew of what came before goes on, since head. Otherwise each fsync would cost its own
 * device a wait answered and another sent. */
void waiters_publish(struct waiters *w, uint64_t ns, uint64_t first, uint64_t head,
                     uint64_t device);
/* Something that the device waits for at `locks` was given to it (true; again for each), or it has
 * asked for all that was (false). Its waits under way are answered, otherwise its next one; as long
 * as it does not ask, which may be because that answer was lost, further ones after
 * WAIT_LOCKS_AGAIN_MS at most. */
void waiters_lock_news(struct waiters *w, uint64_t device, bool any);
/* Answers all, with nothing changed: they ask again and are compared with the database. */
void waiters_release(struct waiters *w);
size_t waiters_held(const struct waiters *w);
/* waiters held, and the newest numbers published since the start, as Prometheus text */
void waiters_print(const struct waiters *w, struct buf *out);
#endif
