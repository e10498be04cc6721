// SPDX-License-Identifier: Apache-2.0
/* The structures are those of linux/fuse.h; what older headers lack is named here.
 *
 * FUSE_HANDLE_KILLPRIV_V2: the kernel says with a write, truncate, open or chown whether set-id
 * bits go with it (they stay for who has CAP_FSETID), instead of asking for the mode and setting it
 * first, which it cannot do for O_TRUNC. It also spares the question for security.capability that
 * would precede every write otherwise.
 */
#include "fuse_beneath.h"

#include <linux/fuse.h>
#include <string.h>

#define OPCODE_TMPFILE 51u /* Linux 6.2 */
#define ADDED_FLAGS (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT)
#define SETXATTR_MORE (sizeof(struct fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE)

/* Whether the flag is set in the 32-bit word at this offset of the request's own part. */
static bool flag_at(const uint8_t *body, size_t size, size_t offset, uint32_t flag)
{
    uint32_t word;
    if (size < offset + sizeof(word))
        return false;
    memcpy(&word, body + offset, sizeof(word));
    return (word & flag) != 0;
}

static void offered(struct fuse_beneath *b, const struct fuse_in_header *head, const uint8_t *body,
                    size_t size)
{
    struct fuse_init_in in;
    if (size < offsetof(struct fuse_init_in, flags) + sizeof(in.flags))
        return;
    memcpy(&in, body, offsetof(struct fuse_init_in, flags) + sizeof(in.flags));
    b->init = head->unique;
    b->offered = in.flags & ADDED_FLAGS;
}

size_t fuse_beneath_request(struct fuse_beneath *b, void *request, size_t size)
{
    struct fuse_in_header *head = request;
    uint8_t *body = (uint8_t *)request + sizeof(*head);
    b->tmpfile = b->kill_priv = b->acl_drops_sgid = false;
    if (size < sizeof(*head))
        return size;
    size_t n = size - sizeof(*head);
    switch (head->opcode) {
    case FUSE_INIT:
        offered(b, head, body, n);
        break;
    case OPCODE_TMPFILE:
        head->opcode = FUSE_CREATE;
        b->tmpfile = true;
        break;
    case FUSE_WRITE:
        b->kill_priv =
            flag_at(body, n, offsetof(struct fuse_write_in, write_flags), FUSE_WRITE_KILL_SUIDGID);
        break;
    case FUSE_SETATTR:
        b->kill_priv =
            flag_at(body, n, offsetof(struct fuse_setattr_in, valid), FATTR_KILL_SUIDGID);
        break;
    case FUSE_OPEN:
        b->kill_priv =
            flag_at(body, n, offsetof(struct fuse_open_in, open_flags), FUSE_OPEN_KILL_SUIDGID);
        break;
    case FUSE_CREATE:
        b->kill_priv =
            flag_at(body, n, offsetof(struct fuse_create_in, open_flags), FUSE_OPEN_KILL_SUIDGID);
        break;
    case FUSE_SETXATTR:
        if (!b->long_setxattr || n < sizeof(struct fuse_setxattr_in))
            break;
        b->acl_drops_sgid = flag_at(body, n, offsetof(struct fuse_setxattr_in, setxattr_flags),
                                    FUSE_SETXATTR_ACL_KILL_SGID);
        memmove(body + FUSE_COMPAT_SETXATTR_IN_SIZE, body + sizeof(struct fuse_setxattr_in),
                n - sizeof(struct fuse_setxattr_in));
        head->len -= (uint32_t)SETXATTR_MORE;
        return size - SETXATTR_MORE;
    default:
        break;
    }
    return size;
}

void fuse_beneath_answer(struct fuse_beneath *b, const struct iovec *iov, size_t n)
{
    struct fuse_out_header head;
    struct fuse_init_out *out;
    if (b->init == 0 || n < 2 || iov[0].iov_len < sizeof(head))
        return;
    memcpy(&head, iov[0].iov_base, sizeof(head));
    if (head.unique != b->init)
        return;
    b->init = 0;
    out = iov[1].iov_base;
    if (head.error != 0 || iov[1].iov_len < offsetof(struct fuse_init_out, max_background))
        return;
    out->flags |= b->offered;
    b->long_setxattr = (b->offered & FUSE_SETXATTR_EXT) != 0;
}
