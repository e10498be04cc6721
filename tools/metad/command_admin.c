// SPDX-License-Identifier: Apache-2.0
/* steadfs admin …: accounts, devices, block servers, assignments, quotas. */
#include "command.h"
#include "keys.h"
#include "pins.h"
#include "replicas.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- accounts
 * ------------------------------------------------------------------------------------------ */
/* Makes a one-time token. A line of the token alone; with --json an object. */
static int add_token(struct cmd *c, enum token_kind kind, uint64_t account, struct bytes subject)
{
    char token[SECRET_LEN + 1];
    struct token_row t = {.kind = kind,
                          .account = account,
                          .premises = kind == TOKEN_JOIN ? subject : bytes_str(""),
                          .expires_ms = (uint64_t)c->now_ms + TOKEN_DAYS_MS};
    meta_secret(token, t.hash);
    int r = c->m->st->ops->token_expire(c->m->st, (uint64_t)c->now_ms);
    if (!r)
        r = c->m->st->ops->token_add(c->m->st, &t);
    if (r)
        return r;
    if (!c->json) {
        buf_printf(&c->out, "%s\n", token);
        return 0;
    }
    buf_printf(&c->out, "{\"%s\": ", kind == TOKEN_JOIN ? "premises" : "account");
    cmd_json(c, subject);
    buf_printf(&c->out, ", \"token\": \"%s\"}\n", token);
    return 0;
}

int cmd_account_add(struct cmd *c)
{
    const struct store_ops *ops = c->m->st->ops;
    struct account_row a = {.name = c->arg[0], .version = 1};
    struct server_row *servers = NULL;
    size_t n = 0;
    if (!meta_name_ok(a.name))
        return cmd_fail(c, EXIT_FAILED,
                        "an account's name is 1 to 64 letters, digits, '-', '_' or '.'");
    int r = cmd_servers_of_option(c, "assign", &servers, &n);
    if (r || c->status)
        return r;
    r = meta_ns_create(c->m, a.name, c->now_ms, &a.root_ns);
    if (!r)
        r = ops->account_add(c->m->st, &a);
    if (r == -EEXIST)
        return cmd_fail(c, EXIT_FAILED, "%.*s is taken by another account or namespace",
                        PRB(a.name));
    if (!r)
        r = ops->member_set(c->m->st, a.root_ns, a.id, ROLE_OWNER);
    if (!r)
        r = meta_assign(c->m, a.root_ns, servers, n, c->ar);
    if (!r && !n)
        snprintf(c->progress, sizeof c->progress,
                 "no block server has joined yet: what is written to %.*s's folder stays on the "
                 "mounts until steadfs admin assign %.*s PREMISES",
                 PRB(a.name), PRB(a.name));
    if (r || cmd_option(c, "no-token"))
        return r;
    return add_token(c, TOKEN_LOGIN, a.id, a.name);
}

int cmd_account_token(struct cmd *c)
{
    struct account_row a;
    bool found;
    int r = cmd_find_account(c, c->arg[0], &a, &found);
    return found ? add_token(c, TOKEN_LOGIN, a.id, a.name) : r;
}

int cmd_account_list(struct cmd *c)
{
    struct account_row *v;
    size_t n;
    int r = c->m->st->ops->account_list(c->m->st, &v, &n, c->ar);
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; !r && k < n; k++) {
        if (!c->json) {
            buf_printf(&c->out, "%.*s\n", PRB(v[k].name));
            continue;
        }
        buf_printf(&c->out, "%s{\"id\": %llu, \"name\": ", k ? ", " : "",
                   (unsigned long long)v[k].id);
        cmd_json(c, v[k].name);
        buf_printf(&c->out, ", \"root_ns\": %llu}", (unsigned long long)v[k].root_ns);
    }
    if (c->json)
        buf_printf(&c->out, "]\n");
    return r;
}

/* ---- devices
 * ---------------------------------------------------------------------------------------------- */
int cmd_device_list(struct cmd *c)
{
    struct account_row a = {0};
    struct device_row *v;
    size_t n;
    bool found = true;
    int r = c->arg_n ? cmd_find_account(c, c->arg[0], &a, &found) : 0;
    if (r || !found)
        return r;
    r = c->m->st->ops->device_list(c->m->st, a.id, &v, &n, c->ar);
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; !r && k < n; k++) {
        struct account_row owner;
        r = c->m->st->ops->account_get(c->m->st, v[k].account, &owner, c->ar);
        if (r)
            break;
        if (!c->json) {
            buf_printf(&c->out, "%-8llu %-16.*s %-16.*s%s\n", (unsigned long long)v[k].id,
                       PRB(owner.name), PRB(v[k].name), v[k].revoked_ms ? " revoked" : "");
            continue;
        }
        buf_printf(&c->out, "%s{\"id\": %llu, \"account\": ", k ? ", " : "",
                   (unsigned long long)v[k].id);
        cmd_json(c, owner.name);
        buf_printf(&c->out, ", \"name\": ");
        cmd_json(c, v[k].name);
        buf_printf(&c->out, ", \"created_ms\": %llu, \"revoked_ms\": %llu}",
                   (unsigned long long)v[k].created_ms, (unsigned long long)v[k].revoked_ms);
    }
    if (c->json)
        buf_printf(&c->out, "]\n");
    return r;
}

static bool parse_number(struct bytes text, uint64_t *n)
{
    *n = 0;
    for (size_t k = 0; k < text.n; k++) {
        unsigned digit = text.p[k] - (unsigned)'0';
        if (digit > 9 || *n > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        *n = *n * 10 + digit;
    }
    return text.n > 0;
}

/* "500", "20G": bytes, K, M, G and T for 1024 and so on. */
static bool parse_bytes(struct bytes text, uint64_t *n)
{
    static const char units[] = "KMGT";
    const char *unit = text.n ? memchr(units, text.p[text.n - 1], sizeof units - 1) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    text.n -= unit != NULL;
    if (!parse_number(text, n) || *n > (uint64_t)INT64_MAX >> shift)
        return false;
    *n <<= shift;
    return true;
}

int cmd_device_revoke(struct cmd *c)
{
    struct device_row d;
    uint64_t id, sealed_ms;
    if (!parse_number(c->arg[0], &id))
        return cmd_fail(c, EXIT_USAGE, "%.*s is no device number; see steadfs admin device list",
                        PRB(c->arg[0]));
    int r = c->m->st->ops->device_get(c->m->st, id, &d, c->ar);
    if (r == -ENOENT)
        return cmd_fail(c, EXIT_FAILED, "no device %llu; see steadfs admin device list",
                        (unsigned long long)id);
    if (r || d.revoked_ms)
        return r;
    r = keys_time(c->m, c->now_ms, &sealed_ms); /* its capabilities may end later than now tells */
    return r ? r : c->m->st->ops->device_revoke(c->m->st, id, sealed_ms);
}

/* ---- block servers
 * ----------------------------------------------------------------------------------------- */
int cmd_server_add(struct cmd *c)
{
    if (!meta_name_ok(c->arg[0]))
        return cmd_fail(c, EXIT_FAILED,
                        "premises have a name of 1 to 64 letters, digits, '-', '_' or '.'");
    return add_token(c, TOKEN_JOIN, 0, c->arg[0]);
}

/* Whether another key is on its way to the block server. */
static int key_pending(struct cmd *c, uint64_t server, bool *pending)
{
    struct key_row *v;
    size_t n;
    int r = c->m->st->ops->key_list(c->m->st, server, &v, &n, c->ar);
    *pending = false;
    for (size_t k = 0; k < n && !r; k++)
        *pending |= !v[k].until_ms;
    return r;
}

static void hex(struct cmd *c, const char *name, struct bytes b)
{
    buf_printf(&c->out, ", \"%s\": \"", name);
    for (size_t k = 0; k < b.n; k++)
        buf_printf(&c->out, "%02x", b.p[k]);
    buf_printf(&c->out, "\"");
}

/* Which key it shows to who connects, and whether that is one that others take for its. */
static void key_shown(struct cmd *c, const struct server_row *s)
{
    bool changing = pins_changing(s, c->now_ms), strange = pins_strange(s);
    if (c->json) {
        hex(c, "pin", s->pin);
        hex(c, "pin_next", s->pin_next);
        hex(c, "pin_shown", s->shown);
        buf_printf(&c->out, ", \"rekey\": %s}", changing ? "true" : "false");
        return;
    }
    if (changing)
        buf_printf(&c->out, "     its TLS key is being changed: %s\n",
                   s->pin_next.n ? "the next one is known, and shown soon" : "ordered");
    if (strange)
        buf_printf(&c->out,
                   "     shows another TLS key than the one it joined with, so nobody sends it "
                   "anything; where that is meant: steadfs admin server rekey %llu\n",
                   (unsigned long long)s->id);
}

static void distrusts_text(struct cmd *c, bool distrusts)
{
    if (c->json)
        buf_printf(&c->out, ", \"distrusts\": %s", distrusts ? "true" : "false");
    else if (distrusts)
        buf_printf(&c->out,
                   "     reads so much that is wrong that its memory, its disk or a controller "
                   "must be at fault: it sets nothing aside and does not scrub until SIGUSR1 or a "
                   "restart (see its log)\n");
}

int cmd_server_list(struct cmd *c)
{
    struct server_row *v;
    size_t n;
    bool pending, distrusts;
    int r = c->m->st->ops->server_list(c->m->st, &v, &n, c->ar);
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; !r && k < n; k++) {
        r = key_pending(c, v[k].id, &pending);
        if (!r)
            r = meta_distrusts(c->m, v[k].id, &distrusts);
        if (r)
            break;
        if (!c->json) {
            buf_printf(&c->out, "%-4llu %-16.*s ", (unsigned long long)v[k].id, PRB(v[k].premises));
            cmd_text(c, v[k].url);
            buf_printf(&c->out, "  %llu blocks, %llu bytes, %llu free, key %llu%s%s%s\n",
                       (unsigned long long)v[k].blocks, (unsigned long long)v[k].used_bytes,
                       (unsigned long long)v[k].free_bytes, (unsigned long long)v[k].key_id,
                       pending ? " (the next is pending)" : "",
                       v[k].evacuating ? ", being evacuated" : "",
                       v[k].adopt ? ", not heard of since the database was put back" : "");
            distrusts_text(c, distrusts);
            key_shown(c, &v[k]);
            continue;
        }
        buf_printf(&c->out, "%s{\"id\": %llu, \"premises\": ", k ? ", " : "",
                   (unsigned long long)v[k].id);
        cmd_json(c, v[k].premises);
        buf_printf(&c->out, ", \"url\": ");
        cmd_json(c, v[k].url);
        buf_printf(&c->out,
                   ", \"generation\": %llu, \"blocks\": %llu, \"used_bytes\": %llu, "
                   "\"free_bytes\": %llu, \"beat_ms\": %llu, \"evacuating\": %s, "
                   "\"key\": %llu, \"key_pending\": %s",
                   (unsigned long long)v[k].generation, (unsigned long long)v[k].blocks,
                   (unsigned long long)v[k].used_bytes, (unsigned long long)v[k].free_bytes,
                   (unsigned long long)v[k].beat_ms, v[k].evacuating ? "true" : "false",
                   (unsigned long long)v[k].key_id, pending ? "true" : "false");
        distrusts_text(c, distrusts);
        key_shown(c, &v[k]);
    }
    if (c->json)
        buf_printf(&c->out, "]\n");
    return r || c->json ? r : cmd_say_kept(c);
}

/* ---- namespaces
 * -------------------------------------------------------------------------------------------- */
int cmd_admin_ns_list(struct cmd *c)
{
    struct ns_row *v;
    size_t n;
    int r = c->m->st->ops->ns_list(c->m->st, 0, &v, &n, c->ar);
    if (c->json)
        buf_printf(&c->out, "[");
    for (size_t k = 0; !r && k < n; k++) {
        struct server_row *servers;
        size_t servers_n;
        r = c->m->st->ops->assigned(c->m->st, v[k].id, &servers, &servers_n, c->ar);
        if (r)
            break;
        if (c->json) {
            buf_printf(&c->out, "%s{\"id\": %llu, \"name\": ", k ? ", " : "",
                       (unsigned long long)v[k].id);
            cmd_json(c, v[k].name);
            buf_printf(&c->out,
                       ", \"head\": %llu, \"used_bytes\": %llu, \"used_nodes\": %llu, "
                       "\"quota_bytes\": %llu, \"quota_nodes\": %llu, \"premises\": [",
                       (unsigned long long)v[k].head, (unsigned long long)v[k].used_bytes,
                       (unsigned long long)v[k].used_nodes, (unsigned long long)v[k].quota_bytes,
                       (unsigned long long)v[k].quota_nodes);
        } else {
            buf_printf(&c->out, "%-16.*s %12llu bytes %9llu nodes  ", PRB(v[k].name),
                       (unsigned long long)v[k].used_bytes, (unsigned long long)v[k].used_nodes);
        }
        for (size_t s = 0; s < servers_n; s++) {
            buf_printf(&c->out, "%s", s ? (c->json ? ", " : ",") : "");
            if (c->json)
                cmd_json(c, servers[s].premises);
            else
                buf_printf(&c->out, "%.*s", PRB(servers[s].premises));
        }
        buf_printf(&c->out, "%s", c->json ? "]}" : "\n");
    }
    if (c->json)
        buf_printf(&c->out, "]\n");
    return r;
}

int cmd_quota(struct cmd *c)
{
    const struct bytes *bytes = cmd_option(c, "bytes"), *nodes = cmd_option(c, "nodes");
    struct ns_row ns;
    bool found;
    int r = cmd_find_ns(c, c->arg[0], &ns, &found);
    if (!found)
        return r;
    if (bytes && !parse_bytes(*bytes, &ns.quota_bytes))
        return cmd_fail(c, EXIT_USAGE,
                        "a quota of bytes is a whole number, or one with K, M, G or T behind it "
                        "(1024 each: 500G); 0: none");
    if (nodes && !parse_number(*nodes, &ns.quota_nodes))
        return cmd_fail(c, EXIT_USAGE, "a quota of nodes is a whole number; 0: none");
    if (bytes || nodes) {
        r = c->m->st->ops->ns_set(c->m->st, &ns);
        return r ? r : meta_touch_members(c->m, ns.id, c->ar);
    }
    buf_printf(&c->out,
               c->json ? "{\"quota_bytes\": %llu, \"quota_nodes\": %llu, \"used_bytes\": %llu, "
                         "\"used_nodes\": %llu}\n"
                       : "%llu bytes, %llu nodes (0: no quota); used %llu bytes, %llu nodes\n",
               (unsigned long long)ns.quota_bytes, (unsigned long long)ns.quota_nodes,
               (unsigned long long)ns.used_bytes, (unsigned long long)ns.used_nodes);
    return 0;
}
