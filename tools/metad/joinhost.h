// SPDX-License-Identifier: Apache-2.0
/* Which host a joining block server may be certified for.
 *
 * The certificate that it gets makes it believed, at every port of the host that it names. Were
 * that one of the metadata server's own names, the holder of a block server's token could pass for
 * the metadata server.
 */
#ifndef STEADFS_METAD_JOINHOST_H
#define STEADFS_METAD_JOINHOST_H

#include "buf.h"

/* HOST of scheme://HOST[:PORT][/…], without brackets; NULL when that is not one plain name or
 * address (a list, a pattern, a user's name in front). */
char *join_host(struct bytes url, struct arena *ar);
/* Whether the host is one of the names (commas between them). Names are compared without regard to
 * case, addresses by their value. False for loopback, which is nobody's own. */
bool join_host_is_own(const char *host, const char *names);
#endif
