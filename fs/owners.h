// SPDX-License-Identifier: Apache-2.0
/* owners=name: owners by their names and not by this machine's numbers.
 *
 * What is stored stays a number. For a user or group that has a name here it is made of the name:
 * of its SHA-256, between 2^30 and 2^31. So every mount with the option stores the same number for
 * "anna", and shows it as whatever number "anna" has there; nothing else need know. A stored number
 * that is none of a name known here is shown as it is, and so is stored a number without a name.
 * Root is root everywhere.
 *
 * Names are those of /etc/passwd and /etc/group, read again when these change: no request waits for
 * a directory service. Of two names with one number (a chance of one in a million with thirty
 * names) the later one is stored by its own number.
 *
 * The caller's lock protects it.
 */
#ifndef STEADFS_OWNERS_H
#define STEADFS_OWNERS_H

#include "buf.h"

struct owners;
/* NULL: /etc/passwd, /etc/group. A file that cannot be read has no names. */
struct owners *owners_new(const char *passwd, const char *group);
void owners_free(struct owners *o);
/* Looks whether the files changed; at most once a second (now: ns). */
void owners_refresh(struct owners *o, int64_t now);
uint32_t owners_stored(const struct owners *o, bool group, uint32_t local);
uint32_t owners_local(const struct owners *o, bool group, uint32_t stored);
/* The same for the ids in an access list (acl.h), in place. */
void owners_list(const struct owners *o, uint8_t *list, size_t n, bool to_stored);
/* What a name is stored as. */
uint32_t owners_number(bool group, const char *name);
#endif
