// SPDX-License-Identifier: Apache-2.0
/* Losses of power, for programs that write real files: what a directory's files and names go
 * through is noted call by call, and the directory can be made what a disk may have after the power
 * failed behind any of them.
 *
 * A write is on disk once its file was synced, a name once its directory was, or, of a file that
 * was made, once that was. Of everything else each call may be there or not, whatever came before
 * it: more than a journaling file system loses. The C library's functions are taken the place of,
 * also for libraries that call them; files that stdio opens are not noted, nor is what is mapped.
 * One directory at a time, one thread. */
#ifndef TEST_POWERCUT_H
#define TEST_POWERCUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From now on calls below dir are noted; what is there is on disk. Syncs are passed on no more. */
void powercut_begin(const char *dir);
/* No more. Returns how many calls there were. */
size_t powercut_end(void);
size_t powercut_calls(void); /* so far */
/* Whether call k (from 0) made anything durable, or changed a name. */
bool powercut_step(size_t k);
/* Makes the directory what may be left when the power fails after the first n calls: one of many
 * states, by seed. */
void powercut_apply(size_t n, uint64_t seed);

#endif
