// SPDX-License-Identifier: Apache-2.0
/* The control socket of a mount: how `steadfs` and the lab talk to it.
 *
 * A unix stream socket, STATE/control.sock (mode 0600). One request per connection, one line:
 *
 * - status: the object of `steadfs status --json`
 * - settle TIMEOUT_MS [ABSPATH]: waits until nothing is pending and the journal is applied up to
 * the number that is newest now
 * - drain TIMEOUT_MS: pushes everything pending; progress lines meanwhile
 * (both: exit status 5 when all is sent but what was refused)
 * - conflicts [NS], parked: JSON arrays
 * - unpark: refused changes are tried again
 * - export ABSDIR: refused changes, and what waits for them, are copied there
 * - flush: dirty data go into the local state
 * - handover: to a process that finishes after its unmount: stop at the next durable point
 *
 * Answer: lines beginning with "- " (progress), then `OK` or `ERR <exit status> <text>`, then a
 * body, EOF.
 */
#ifndef STEADFS_CONTROL_H
#define STEADFS_CONTROL_H

#include <stddef.h>

#define CONTROL_CONNECTIONS_MAX 32 /* one more is told so, and closed */

struct control;
struct fs;

/* Starts listening. err: 512 bytes. */
int control_new(struct control **out, struct fs *fs, char *err);
/* From now on the process only finishes: a handover is granted. */
void control_finishing(struct control *c);
/* Ends the connections and the threads. */
void control_free(struct control *c);
/* Path of the socket; valid until control_free. */
const char *control_path(const struct control *c);

/* The other side, for short questions: sends one line to the process that holds STATE and gives the
 * first line of the answer. 0: it began with OK; -EREMOTEIO: ERR; -errno when it cannot be reached.
 */
int control_ask(const char *state, const char *line, unsigned timeout_ms, char *answer, size_t cap);
#endif
