// SPDX-License-Identifier: Apache-2.0
/* Small things that all parts of a mount share. */
#include "fs.h"

#include <time.h>

int64_t fs_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
