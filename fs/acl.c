// SPDX-License-Identifier: Apache-2.0
/* One walk over the entries checks their order: owner, users, owning group, groups, mask, others;
 * each of the single ones once, the mask exactly when there are users or groups, or alone. */
#include "acl.h"

#include <errno.h>
#include <string.h>

#define VERSION 2u
#define HEAD 4u
#define ENTRY 8u

enum tag {
    OWNER = 0x01,
    USER = 0x02,
    OWNING_GROUP = 0x04,
    GROUP = 0x08,
    MASK = 0x10,
    OTHERS = 0x20,
};

static uint32_t le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

int acl_read(struct bytes list, uint32_t *bits, bool *extended)
{
    uint32_t seen = 0, group = 0;
    *bits = 0;
    if (list.n < HEAD + 3 * ENTRY || (list.n - HEAD) % ENTRY != 0 || le32(list.p) != VERSION)
        return -EINVAL;
    for (size_t at = HEAD; at < list.n; at += ENTRY) {
        uint32_t tag = le16(list.p + at), perm = le16(list.p + at + 2);
        bool single = tag == OWNER || tag == OWNING_GROUP || tag == MASK || tag == OTHERS;
        if (perm > 7 || (!single && tag != USER && tag != GROUP) || seen > (tag << 1) - 1 ||
            (single && (seen & tag) != 0))
            return -EINVAL;
        seen |= tag;
        if (tag == OWNER)
            *bits |= perm << 6;
        else if (tag == OTHERS)
            *bits |= perm;
        else if (tag == OWNING_GROUP || tag == MASK) /* the mask comes later and counts */
            group = perm;
    }
    *bits |= group << 3;
    *extended = (seen & (USER | GROUP | MASK)) != 0;
    bool complete = (seen & (OWNER | OWNING_GROUP | OTHERS)) == (OWNER | OWNING_GROUP | OTHERS);
    bool masked = (seen & (USER | GROUP)) == 0 || (seen & MASK) != 0;
    return complete && masked ? 0 : -EINVAL;
}

void acl_apply_mode(uint8_t *list, size_t n, uint32_t mode)
{
    bool masked = false;
    for (size_t at = HEAD; at + ENTRY <= n; at += ENTRY)
        masked = masked || le16(list + at) == MASK;
    for (size_t at = HEAD; at + ENTRY <= n; at += ENTRY) {
        uint32_t tag = le16(list + at);
        if (tag == OWNER)
            list[at + 2] = mode >> 6 & 7;
        else if (tag == (masked ? MASK : OWNING_GROUP))
            list[at + 2] = mode >> 3 & 7;
        else if (tag == OTHERS)
            list[at + 2] = mode & 7;
    }
}

void acl_map_ids(uint8_t *list, size_t n, uint32_t (*fn)(void *arg, bool group, uint32_t id),
                 void *arg)
{
    for (size_t at = HEAD; at + ENTRY <= n; at += ENTRY) {
        uint32_t tag = le16(list + at);
        if (tag != USER && tag != GROUP)
            continue;
        uint32_t id = fn(arg, tag == GROUP, le32(list + at + 4));
        for (unsigned i = 0; i < 4; i++)
            list[at + 4 + i] = (uint8_t)(id >> 8 * i);
    }
}

bool acl_is_name(struct bytes name)
{
    return bytes_equal(name, bytes_str(ACL_ACCESS)) || bytes_equal(name, bytes_str(ACL_DEFAULT));
}
