// SPDX-License-Identifier: Apache-2.0
/* The driver's namespaces and servers. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync_internal.h"

struct sync_ns *sync_ns_find(struct sync *s, uint64_t id)
{
    for (size_t i = 0; i < s->nss_n; i++)
        if (s->nss[i]->id == id)
            return s->nss[i];
    return NULL;
}

struct sync_ns *sync_ns_need(struct sync *s, uint64_t id)
{
    struct sync_ns *ns = sync_ns_find(s, id);
    if (ns)
        return ns;
    ns = calloc(1, sizeof *ns);
    s->nss = realloc(s->nss, (s->nss_n + 1) * sizeof *s->nss);
    if (!ns || !s->nss)
        abort();
    ns->id = id;
    ns->sync = s;
    TAILQ_INIT(&ns->barriers);
    TAILQ_INIT(&ns->fresh);
    ns->lane.resend = ns->lane.wanted = true;
    s->nss[s->nss_n++] = ns;
    return ns;
}

struct sync_server *sync_server_find(struct sync *s, uint64_t id)
{
    for (size_t i = 0; i < s->servers_n; i++)
        if (s->servers[i]->id == id)
            return s->servers[i];
    return NULL;
}

struct route *route_find(struct sync_ns *ns, uint64_t server)
{
    for (size_t i = 0; i < ns->routes_n; i++)
        if (ns->routes[i]->server->id == server)
            return ns->routes[i];
    return NULL;
}

size_t ns_candidates(const struct sync_ns *ns)
{
    size_t n = 0;
    for (size_t i = 0; i < ns->routes_n; i++)
        n += ns->routes[i]->listed && !ns->routes[i]->leaving;
    return n;
}

bool ns_has_candidates(const struct sync_ns *ns)
{
    size_t n = ns_candidates(ns);
    return n > 0 && n >= ns->copies_min;
}

size_t ns_lacks(const struct sync *s, const struct sync_ns *ns)
{
    size_t n = ns_candidates(ns);
    return s->fs->opt.copies > n && !ns_refused(ns) ? s->fs->opt.copies - n : 0;
}

bool ns_refused(const struct sync_ns *ns)
{
    return !ns->listed || ns->role < ROLE_EDITOR || !ns_has_candidates(ns);
}

void ns_error(struct sync *s, struct sync_ns *ns, const char *fmt, ...)
{
    char text[sizeof ns->error];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (strcmp(text, ns->error) == 0)
        return;
    memcpy(ns->error, text, sizeof text);
    ns->journal_error = false;
    char op[LOG_OP_MAX];
    struct log_where where = {
        .ns = ns->id, .request = ns->lane.plan.request, .op = ops_text(s, &ns->lane.ops, op)};
    log_about(s->fs->log, LOG_L_WARN, &where, "%s: %s", ns->name, text);
}
