// SPDX-License-Identifier: Apache-2.0
#include "place.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool place_parse(const char *text, struct place *p)
{
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || colon == text)
        return false;
    unsigned long port = strtoul(colon + 1, &end, 10);
    size_t n = (size_t)(colon - text);
    if (text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (end == colon + 1 || *end || port > 65535 || !n || n >= sizeof p->host)
        return false;
    memcpy(p->host, text, n);
    p->host[n] = '\0';
    p->port = (uint16_t)port;
    return true;
}

int place_try(struct place *p, char *err)
{
    char port[8];
    snprintf(port, sizeof port, "%u", p->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai = NULL;
    int g = getaddrinfo(p->host, port, &hints, &ai), on = 1;
    if (g) {
        snprintf(err, 512, "cannot listen on %s: %s", p->host, gai_strerror(g));
        return -EADDRNOTAVAIL;
    }
    struct sockaddr_storage ss;
    socklen_t n = sizeof ss;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
        r = -errno;
    freeaddrinfo(ai);
    if (fd >= 0)
        close(fd);
    if (r)
        snprintf(err, 512, "cannot listen on %s port %s: %s", p->host, port,
                 r == -EADDRINUSE ? "the port is in use; is it already running?" : strerror(-r));
    else
        p->port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                                 : ((struct sockaddr_in *)&ss)->sin_port);
    return r;
}

void place_text(const struct place *p, const char *prefix, char out[300])
{
    bool v6 = strchr(p->host, ':') != NULL;
    snprintf(out, 300, "%s%s%.255s%s:%u", prefix, v6 ? "[" : "", p->host, v6 ? "]" : "", p->port);
}

bool place_of_url(const char *url, char out[256])
{
    struct place p;
    const char *at = strstr(url, "://");
    if (!at)
        return false;
    at += 3;
    char copy[300];
    snprintf(copy, sizeof copy, "%.*s", (int)strcspn(at, "/"), at);
    bool has_port = copy[0] && copy[strlen(copy) - 1] != ']' && strrchr(copy, ':');
    if (!has_port && strlen(copy) < sizeof copy - 5)
        strcat(copy, ":443");
    if (!place_parse(copy, &p))
        return false;
    snprintf(out, 256, "%s", p.host);
    return true;
}
