// SPDX-License-Identifier: Apache-2.0
/* What libfuse 3.14 does not know of the kernel's protocol, reached beneath it.
 *
 * Before libfuse sees a request, its bytes are looked at: an operation that it lacks is turned into
 * one that has the same shape (O_TMPFILE asks as create does, an xattr's longer form is shortened),
 * and what it drops of a request is noted here. Its answer to the kernel's first request gets the
 * flags added for features that it cannot ask for. Used by the serving thread only.
 */
#ifndef STEADFS_FUSE_BENEATH_H
#define STEADFS_FUSE_BENEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct fuse_beneath {
    /* Of the request being processed. */
    bool tmpfile;        /* a create without a name */
    bool kill_priv;      /* set-id bits go with this change */
    bool acl_drops_sgid; /* setting this list takes the set-gid bit away */
    /* Of the session. */
    uint64_t init;    /* number of the kernel's first request, until it is answered */
    uint32_t offered; /* flags that the kernel offers and we add */
    bool long_setxattr;
};

/* request: size bytes from the kernel, changed in place; the new size. */
size_t fuse_beneath_request(struct fuse_beneath *b, void *request, size_t size);
/* An answer on its way to the kernel, changed in place. */
void fuse_beneath_answer(struct fuse_beneath *b, const struct iovec *iov, size_t n);
#endif
