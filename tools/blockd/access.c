// SPDX-License-Identifier: Apache-2.0
/* The order matters for what a refused client should do: what only a new capability can mend is
 * said before what the capability itself says. */
#include "access.h"

#include <errno.h>
#include <stdio.h>

#define WHY_LEN 128

static unsigned refuse(char *why, unsigned code, const char *text)
{
    snprintf(why, WHY_LEN, "%s", text);
    return code;
}

static bool expired(const struct access *x, const struct m_capability *c, int64_t mono,
                    int64_t wall)
{
    int64_t now = feed_now_ms(x->feed, mono, wall);
    bool alone = !feed_is_reached(x->feed) && feed_is_complete(x->feed);
    int64_t grace = alone ? x->grace_ms : 0;
    int64_t expiry = c->expiry_ms > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)c->expiry_ms;
    return now > expiry + grace;
}

unsigned access_check(const struct access *x, struct bytes token, uint64_t ns, uint64_t right,
                      int64_t mono, int64_t wall, char *why)
{
    struct arena a cleanup_arena = {0};
    struct m_capability c;
    int r = keyring_check(x->keys, &c, token, &a);
    if (r == -EKEYREJECTED)
        return refuse(why, ERR_UNAUTHENTICATED, "the capability is for another key; renew it");
    if (r)
        return refuse(why, ERR_UNAUTHENTICATED, "the capability is not genuine; renew it");
    if (c.server != x->server)
        return refuse(why, ERR_FORBIDDEN, "the capability is for another block server");
    if (c.ns != ns || !ns)
        return refuse(why, ERR_FORBIDDEN, "the capability is for another namespace");
    if (feed_is_revoked(x->feed, c.device))
        return refuse(why, ERR_FORBIDDEN, "this device has been revoked");
    if (feed_is_taken_back(x->feed, &c))
        return refuse(why, ERR_UNAUTHENTICATED, "the capability has been taken back; renew it");
    if (expired(x, &c, mono, wall))
        return refuse(why, ERR_UNAUTHENTICATED, "the capability has expired; renew it");
    if (right ? (c.rights & right) != right : !c.rights)
        return refuse(why, ERR_FORBIDDEN,
                      right & RIGHT_WRITE ? "no right to write to this namespace"
                                          : "no right to read this namespace");
    if (right != RIGHT_READ && feed_is_superseded(x->feed))
        return refuse(why, ERR_UNAVAILABLE, "another process has opened this storage since");
    return 0;
}

#define SENDER_PEER (1ull << 63) /* else the number is a device's */

uint64_t access_sender(const struct access *x, struct bytes token)
{
    struct arena a cleanup_arena = {0};
    struct m_capability c;
    if (keyring_check(x->keys, &c, token, &a))
        return 0;
    return c.peer ? c.peer | SENDER_PEER : c.device;
}

uint64_t access_peer(const struct access *x, struct bytes token)
{
    struct arena a cleanup_arena = {0};
    struct m_capability c;
    return keyring_check(x->keys, &c, token, &a) ? 0 : c.peer;
}

uint64_t access_account(const struct access *x, struct bytes token)
{
    struct arena a cleanup_arena = {0};
    struct m_capability c;
    return keyring_check(x->keys, &c, token, &a) ? 0 : c.account;
}
