// SPDX-License-Identifier: Apache-2.0
/* Whether a thread is about to die.
 *
 * The kernel tells a FUSE filesystem of any signal that reaches a thread while it waits, once, and
 * not which; and a thread with a fatal one waits until it is answered.
 */
#ifndef STEADFS_KILLED_H
#define STEADFS_KILLED_H

#include <stdbool.h>
#include <stdint.h>

/* A signal that ends it is pending, or it is gone. Of tid 0 (it lives in a process id namespace
 * that is not ours) that cannot be known: false. */
bool thread_killed(uint32_t tid);
/* The same of the text of /proc/TID/status. */
bool status_says_killed(const char *text);
#endif
