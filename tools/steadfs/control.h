// SPDX-License-Identifier: Apache-2.0
/* Talking to a running mount over its control socket.
 *
 * A request is one line of text. The answer: progress lines that begin with "- ", then "OK" or
 * "ERR STATUS TEXT", then a body to the end. */
#ifndef STEADFS_CONTROL_H
#define STEADFS_CONTROL_H

#include <sys/types.h>

#include "cli.h"

/* One question. progress: called for each progress line, without its "- " (may be NULL). body: what
 * followed OK (may be NULL). text: 512 bytes, the text of ERR or of what went wrong here. pid: the
 * process that answered (may be NULL). Waits at most timeout_ms for every next piece.
 * Returns an exit status: the mount's, or EXIT_UNREACHABLE. */
int control_ask(const char *socket_path, const char *request, unsigned timeout_ms,
                void (*progress)(void *arg, const char *line), void *arg, struct buf *body,
                char *text, pid_t *pid);
#endif
