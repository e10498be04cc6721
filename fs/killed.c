// SPDX-License-Identifier: Apache-2.0
/* A signal that ends a process becomes a SIGKILL pending in each of its threads at once
 * (complete_signal in the kernel), so that is the one to look for: SigPnd in /proc/TID/status. */
#include "killed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool status_says_killed(const char *text)
{
    const char *pending = strstr(text, "\nSigPnd:");
    if (pending == NULL)
        return true;
    unsigned long long mask = strtoull(pending + sizeof("\nSigPnd:") - 1, NULL, 16);
    return (mask >> (SIGKILL - 1) & 1) != 0;
}

bool thread_killed(uint32_t tid)
{
    char path[32], text[4096];
    if (tid == 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%u/status", tid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return true;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    return status_says_killed(text);
}
