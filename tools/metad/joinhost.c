// SPDX-License-Identifier: Apache-2.0
/* What may be in a certificate is written down here rather than what may not: the text goes into
 * its list of names, where a comma or a star would have a meaning. */
#include "joinhost.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

char *join_host(struct bytes url, struct arena *ar)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    char *text = arena_str(ar, url);
    char *host = strstr(text, "://");
    if (!host || strchr(host, '@'))
        return NULL;
    host += 3;
    struct in6_addr six;
    if (host[0] == '[') {
        host++;
        size_t n = strcspn(host, "]");
        if (!host[n] || (host[n + 1] && !strchr(":/", host[n + 1])))
            return NULL;
        host[n] = 0;
        return inet_pton(AF_INET6, host, &six) == 1 ? host : NULL;
    }
    size_t n = strspn(host, plain);
    if (!n || n > 253 || host[n - 1] == '.' || (host[n] && !strchr(":/", host[n])))
        return NULL;
    host[n] = 0;
    return host;
}

/* Addresses of both families as IPv6 ones. */
static bool address_of(const char *host, struct in6_addr *a)
{
    char mapped[64];
    struct in_addr four;
    if (inet_pton(AF_INET, host, &four) == 1) {
        snprintf(mapped, sizeof mapped, "::ffff:%.40s", host);
        return inet_pton(AF_INET6, mapped, a) == 1;
    }
    return inet_pton(AF_INET6, host, a) == 1;
}

static bool same_host(const char *a, const char *b)
{
    struct in6_addr x, y;
    if (address_of(a, &x) && address_of(b, &y))
        return IN6_ARE_ADDR_EQUAL(&x, &y);
    return !strcasecmp(a, b);
}

bool join_host_is_own(const char *host, const char *names)
{
    struct in6_addr a;
    bool address = address_of(host, &a);
    if (!strcasecmp(host, "localhost") ||
        (address &&
         (IN6_IS_ADDR_LOOPBACK(&a) || (IN6_IS_ADDR_V4MAPPED(&a) && a.s6_addr[12] == 127))))
        return false;
    while (*names) {
        char name[256];
        size_t n = strcspn(names, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        if (same_host(host, name))
            return true;
        names += n + (names[n] == ',');
    }
    return false;
}
