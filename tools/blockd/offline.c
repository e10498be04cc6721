// SPDX-License-Identifier: Apache-2.0
#include "offline.h"

#include "blockid.h"
#include "storage_open.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int flushed(int r, char *err)
{
    if (!r && fflush(stdout) == EOF) {
        snprintf(err, 512, "cannot write the list: %s", strerror(errno));
        return -EIO;
    }
    return r;
}

static void print_block(void *arg, const struct block_id *id, uint64_t stored_len)
{
    (void)arg;
    char hex[BLOCK_HEX_LEN + 1];
    block_id_hex(id, hex);
    printf("%s %llu\n", hex, (unsigned long long)stored_len);
}

int offline_list(const char *dir, char *err)
{
    return flushed(storage_list(dir, print_block, NULL, err), err);
}

static void print_dir(void *arg, unsigned number, unsigned dirs)
{
    const struct takein_sums *s = arg;
    printf("directory %u of %u: %llu blocks taken in so far\n", number, dirs,
           (unsigned long long)s->blocks);
    fflush(stdout);
}

int offline_reindex(const char *dir, char *err)
{
    struct takein_sums s;
    int r = storage_reindex(dir, print_dir, &s, &s, err);
    if (!r)
        printf("%llu blocks with %llu bytes were taken in; %llu files are not what they are named "
               "after and were moved to corrupt/, %llu doubles were removed, %llu files were left "
               "alone\n",
               (unsigned long long)s.blocks, (unsigned long long)s.bytes,
               (unsigned long long)s.wrong, (unsigned long long)s.doubles,
               (unsigned long long)s.strange);
    return r;
}

int offline_drop_unclaimed(const char *dir, char *err)
{
    struct storage_collected sums;
    int r = storage_drop_unclaimed(dir, &sums, err);
    if (!r)
        printf("%llu blocks with %llu bytes were removed\n", (unsigned long long)sums.blocks,
               (unsigned long long)sums.bytes);
    return r;
}
