// SPDX-License-Identifier: Apache-2.0
/* POSIX access control lists, in the form in which Linux passes them as extended attributes
 * (linux/posix_acl_xattr.h: a little-endian version, then entries of tag, permissions and id).
 *
 * The mode is authoritative: a stored access list is kept as it was set, and what it says of the
 * owner, the mask (or, without one, the owning group) and others is put in from the mode when it is
 * read. So chmod changes one thing only, and a list and a mode that two devices changed at once
 * cannot contradict each other. Lists that say no more than a mode are never stored as access
 * lists.
 *
 * Pure; any thread.
 */
#ifndef STEADFS_ACL_H
#define STEADFS_ACL_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* 0, or -EINVAL: it is none (entries are in the kernel's order, as the kernel checks too). On
 * success *bits are the nine permission bits that it stands for, and *extended tells whether it
 * says more than they do. */
int acl_read(struct bytes list, uint32_t *bits, bool *extended);
/* Puts the permission bits of mode into a list that acl_read took. */
void acl_apply_mode(uint8_t *list, size_t n, uint32_t mode);
/* Replaces the numbers of users and groups in a list by what fn says. */
void acl_map_ids(uint8_t *list, size_t n, uint32_t (*fn)(void *arg, bool group, uint32_t id),
                 void *arg);
/* Whether the attribute is one of the two lists. */
bool acl_is_name(struct bytes name);
#endif
