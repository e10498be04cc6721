// SPDX-License-Identifier: Apache-2.0
/* What comes from the kernel and is looked at byte by byte: requests on their way to libfuse, and
 * access lists. A request never grows and keeps its own length true; a list that is one stays one
 * with the permissions of any mode. */
#include "acl.h"
#include "fuse_beneath.h"
#include "fuzz.h"

#include <assert.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

static void request(const uint8_t *data, size_t size, bool long_setxattr)
{
    struct fuse_beneath b = {.long_setxattr = long_setxattr};
    uint8_t *copy = malloc(size + 1); /* exact bounds, for the sanitizer */
    if (copy == NULL)
        return;
    memcpy(copy, data, size);
    struct fuse_in_header before, after;
    size_t n = fuse_beneath_request(&b, copy, size);
    assert(n <= size);
    if (size >= sizeof(before)) {
        memcpy(&before, data, sizeof(before));
        memcpy(&after, copy, sizeof(after));
        assert(before.len - after.len == size - n && before.unique == after.unique);
    } else {
        assert(n == size);
    }
    free(copy);
}

static void list(const uint8_t *data, size_t size)
{
    uint32_t bits;
    bool extended, still;
    if (size < 2 || acl_read(bytes_of(data + 2, size - 2), &bits, &extended) != 0)
        return;
    assert(bits <= 0777);
    uint8_t *copy = malloc(size);
    if (copy == NULL)
        return;
    memcpy(copy, data + 2, size - 2);
    uint32_t mode = (uint32_t)(data[0] | data[1] << 8) & 07777;
    acl_apply_mode(copy, size - 2, mode);
    int err = acl_read(bytes_of(copy, size - 2), &bits, &still);
    assert(err == 0 && bits == (mode & 0777) && still == extended);
    (void)err;
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    request(data, size, false);
    request(data, size, true);
    list(data, size);
    return 0;
}
