// SPDX-License-Identifier: Apache-2.0
/* The one thread that changes the metadata.
 *
 * Changes that arrive while a transaction is being made durable are done together in the next one:
 * a hundred concurrent commits cost one fsync, and nobody is answered before it has returned.
 */
#ifndef STEADFS_WRITER_H
#define STEADFS_WRITER_H

#include "service.h"

#define WRITER_QUEUE_MAX 8192 /* changes waiting; further ones are told to try again */
#define WRITER_QUEUE_BYTES_MAX (512u << 20)
#define WRITER_BATCH_URGENT 256       /* commits in one transaction */
#define WRITER_BATCH_BYTES (8u << 20) /* ... and about so many bytes of them */
#define WRITER_BATCH_OTHER 32         /* logins, beats, commands behind them */

struct writer;

/* Starts the thread on m, which is the writer's from now on and closed by writer_free. */
int writer_new(struct writer **out, struct service *s, struct meta *m);
/* Finishes what is queued, then ends the thread. */
void writer_free(struct writer *w);
/* Takes q over; it is answered when done, or now when the queue is full. Any thread. */
void writer_submit(struct writer *w, const struct call *c, struct httpd_req *q);
#endif
