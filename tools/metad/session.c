// SPDX-License-Identifier: Apache-2.0
/* Devices and block servers presenting themselves: login, session, join, beat.
 *
 * A session answers with the assignment table (A4): for every namespace of the account its
 * candidate block servers, each with a capability that the block server checks without asking back.
 * The first session records the state directory's incarnation. A later one with another
 * incarnation, or with counters below what was seen of the device, comes from a copy or a restored
 * backup: it could use request numbers and node ids twice, so it is told so and gets no namespaces.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "audit.h"
#include "gone.h"
#include "keys.h"
#include "opening.h"
#include "pins.h"
#include "replicas.h"
#include "restored.h"

#define REVOKED_MAX 65536u
#define COLLECT_COUNTED 1000u

/* ---- session
 * ------------------------------------------------------------------------------------------- */
static struct bytes capability(const struct meta *m, const struct meta_caller *who,
                               const struct server_row *s, const struct ns_row *ns,
                               uint64_t sealed_ms, struct arena *ar)
{
    cleanup_buf struct buf out = {0};
    struct m_capability c = {.server = s->id,
                             .ns = ns->id,
                             .device = who->device,
                             .account = who->account,
                             .rights = RIGHT_READ |
                                       (ns->role >= ROLE_EDITOR && !s->leaving ? RIGHT_WRITE : 0u),
                             .expiry_ms = sealed_ms + m->capability_ms,
                             .key_id = s->key_id};
    struct token_key key = {.id = s->key_id};
    memcpy(key.key, s->mac_key, sizeof key.key);
    capability_seal(&c, &key, &out);
    return arena_bytes(ar, out.p, out.n);
}

static int fill_namespace(struct meta *m, const struct meta_caller *who, const struct ns_row *row,
                          uint64_t sealed_ms, struct m_namespace *out, struct arena *ar)
{
    struct server_row *servers;
    struct bytes *onsite;
    size_t n, onsite_n;
    uint64_t mark;
    int r = m->st->ops->assigned(m->st, row->id, &servers, &n, ar);
    if (!r)
        r = m->st->ops->onsite_list(m->st, row->id, &onsite, &onsite_n, ar);
    if (!r)
        r = m->st->ops->mark_get(m->st, row->id, row->head, &mark);
    if (r)
        return r;
    *out = (struct m_namespace){.id = row->id,
                                .name = row->name,
                                .root = row->root,
                                .role = row->role,
                                .copies_min = row->copies_min,
                                .head = row->head,
                                .floor = row->floor,
                                .mark = mark,
                                .fixed_cuts = row->fixed_cuts,
                                .quota_bytes = row->quota_bytes,
                                .quota_nodes = row->quota_nodes,
                                .used_bytes = row->used_bytes,
                                .used_nodes = row->used_nodes,
                                .candidates = arena_alloc(ar, (n + 1) * sizeof *out->candidates),
                                .candidates_n = n};
    out->onsite = arena_alloc(ar, (onsite_n + 1) * sizeof *out->onsite);
    for (size_t k = 0; k < onsite_n; k++)
        out->onsite[out->onsite_n++].name = onsite[k];
    for (size_t k = 0; k < n; k++)
        out->candidates[k] =
            (struct m_candidate){.server = servers[k].id,
                                 .priority = servers[k].priority,
                                 .leaving = servers[k].leaving,
                                 .capability = capability(m, who, &servers[k], row, sealed_ms, ar)};
    return 0;
}

static int fill_servers(struct meta *m, struct m_session_ans *a, struct arena *ar)
{
    struct server_row *v;
    size_t n;
    int r = m->st->ops->server_list(m->st, &v, &n, ar);
    if (r)
        return r;
    a->servers = arena_alloc(ar, (n + 1) * sizeof *a->servers);
    for (size_t k = 0; k < n && a->servers_n < 256; k++) {
        bool wanted = false;
        for (size_t j = 0; j < a->namespaces_n && !wanted; j++) {
            for (size_t i = 0; i < a->namespaces[j].candidates_n; i++)
                wanted |= a->namespaces[j].candidates[i].server == v[k].id;
        }
        if (wanted)
            a->servers[a->servers_n++] = pins_server(&v[k], ar);
    }
    return 0;
}

static int is_clone(struct meta *m, const struct m_session_req *q, const struct device_row *d,
                    const struct ns_row *v, size_t n, bool *cloned)
{
    *cloned = (d->incarnation.n && !bytes_equal(d->incarnation, q->incarnation)) ||
              (q->starts && q->starts < d->starts) ||
              (q->starts && q->starts == d->starts && q->run != d->run);
    for (size_t k = 0; k < n && !*cloned; k++) {
        struct peer_row p;
        int r = m->st->ops->peer_get(m->st, v[k].id, d->id, &p);
        if (r && r != -ENOENT)
            return r;
        if (!r)
            *cloned = p.highest_request > q->requests_used || p.highest_node > q->nodes_used;
    }
    return 0;
}

static int session(struct meta *m, const struct meta_caller *who, const struct m_session_req *q,
                   int64_t now_ms, struct m_session_ans *a, struct arena *ar)
{
    const struct store_ops *ops = m->st->ops;
    struct account_row account;
    struct device_row d;
    struct ns_row *v = NULL;
    size_t n = 0;
    uint64_t sealed_ms;
    int r = keys_time(m, now_ms, &sealed_ms);
    if (!r)
        r = ops->account_get(m->st, who->account, &account, ar);
    if (!r)
        r = ops->device_get(m->st, who->device, &d, ar);
    if (!r)
        r = ops->ns_list(m->st, who->account, &v, &n, ar);
    if (!r)
        r = is_clone(m, q, &d, v, n, &a->cloned);
    if (!r && !a->cloned && !d.incarnation.n)
        r = ops->device_set_incarnation(m->st, d.id, q->incarnation);
    if (!r && !a->cloned && q->starts > d.starts)
        r = ops->device_set_start(m->st, d.id, q->starts, q->run);
    if (r)
        return r;
    a->device = d.id;
    a->account = account.name;
    a->device_name = d.name;
    a->now_ms = (uint64_t)now_ms;
    a->root_ns = account.root_ns;
    r = ops->setting_get(m->st, "epoch", &a->epoch);
    if (!r)
        r = restored_unsure(m, &a->unsure, ar);
    if (r)
        return r;
    a->renew_ms = m->capability_ms / 2;
    a->namespaces = arena_alloc(ar, (n + 1) * sizeof *a->namespaces);
    for (size_t k = 0; k < n && !r && !a->cloned && a->namespaces_n < 4096; k++)
        r = fill_namespace(m, who, &v[k], sealed_ms, &a->namespaces[a->namespaces_n++], ar);
    return r ? r : fill_servers(m, a, ar);
}

int meta_session(struct meta *m, const struct meta_caller *who, const struct m_session_req *q,
                 int64_t now_ms, struct m_session_ans *a, struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    if (!who->device)
        return meta_fail(why, -EACCES, "session: only a device has one");
    if (q->incarnation.n != STORE_INCARNATION_LEN)
        return meta_fail(why, -EBADMSG, "session: the incarnation must be 16 bytes");
    if (q->starts > INT64_MAX || q->run > INT64_MAX)
        return meta_fail(why, -EBADMSG, "session: a number is out of range");
    int r = meta_change_begin(m);
    if (!r)
        r = meta_change_end(m, session(m, who, q, now_ms, a, ar));
    return r ? meta_store_fail(why, r, "cannot open a session") : 0;
}

int meta_account_version(struct meta *m, uint64_t account, uint64_t *version)
{
    cleanup_arena struct arena ar = {0};
    struct account_row row;
    *version = 0;
    int r = meta_read_begin(m);
    if (r)
        return r;
    r = m->st->ops->account_get(m->st, account, &row, &ar);
    if (!r)
        *version = row.version;
    return meta_read_end(m, r);
}

/* ---- login
 * --------------------------------------------------------------------------------------------- */
/* Uses a token up. -EACCES: unknown, used, expired, or of another kind. */
static int take_token(struct meta *m, struct bytes token, enum token_kind kind, int64_t now_ms,
                      struct token_row *t, struct arena *ar)
{
    uint8_t hash[STORE_HASH_LEN];
    meta_hash(token, hash);
    int r = m->st->ops->token_take(m->st, hash, t, ar);
    if (r == -ENOENT || (!r && (t->kind != kind || t->expires_ms < (uint64_t)now_ms)))
        return -EACCES;
    return r;
}

static int login(struct meta *m, const struct m_login_req *q, int64_t now_ms, struct m_login_ans *a,
                 struct arena *ar)
{
    char secret[SECRET_LEN + 1], text[META_CREDENTIAL_MAX];
    struct account_row account;
    struct device_row d = {.name = q->device_name, .created_ms = (uint64_t)now_ms};
    struct token_row t;
    int r = take_token(m, q->token, TOKEN_LOGIN, now_ms, &t, ar);
    if (!r)
        r = m->st->ops->account_find(m->st, q->account, &account, ar);
    if (r == -ENOENT || (!r && account.id != t.account))
        return -EACCES;
    if (!r)
        r = m->st->ops->setting_next(m->st, "next_device", &d.id);
    if (!r && d.id >= 1u << DEVICE_BITS)
        return -EOVERFLOW;
    if (r)
        return r;
    d.account = account.id;
    meta_secret(secret, d.secret_hash);
    snprintf(text, sizeof text, "d.%llu.%s", (unsigned long long)d.id, secret);
    a->device = d.id;
    a->credential = arena_bytes(ar, text, strlen(text));
    return m->st->ops->device_add(m->st, &d);
}

int meta_login(struct meta *m, const struct m_login_req *q, int64_t now_ms, struct m_login_ans *a,
               struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    if (!meta_name_ok(q->device_name))
        return meta_fail(why, -EINVAL,
                         "login: a device's name is 1 to 64 letters, digits, '-', '_' or '.'");
    int r = meta_change_begin(m);
    if (!r)
        r = meta_change_end(m, login(m, q, now_ms, a, ar));
    if (r == -EACCES)
        return meta_fail(
            why, r,
            "login: the token is unknown, expired or used; ask the administrator for a "
            "new one (steadfs admin account token NAME)");
    return r ? meta_store_fail(why, r, "cannot make the device") : 0;
}

/* ---- block servers
 * --------------------------------------------------------------------------------------- */
static int join(struct meta *m, const struct meta_caller *who, const struct m_join_req *q,
                int64_t now_ms, struct m_join_ans *a, struct arena *ar)
{
    char secret[SECRET_LEN + 1], text[META_CREDENTIAL_MAX];
    struct server_row s = {
        .url = q->url, .key_id = 1, .generation = 1, .beat_ms = (uint64_t)now_ms, .pin = who->pin};
    struct token_row t;
    int r = take_token(m, q->token, TOKEN_JOIN, now_ms, &t, ar);
    if (r)
        return r;
    s.premises = t.premises;
    memcpy(s.incarnation, q->incarnation.p, sizeof s.incarnation);
    random_bytes(s.mac_key, sizeof s.mac_key);
    meta_secret(secret, s.secret_hash);
    r = m->st->ops->server_add(m->st, &s);
    snprintf(text, sizeof text, "s.%llu.%s", (unsigned long long)s.id, secret);
    a->server = s.id;
    a->premises = s.premises;
    a->credential = arena_bytes(ar, text, strlen(text));
    a->key = arena_bytes(ar, s.mac_key, sizeof s.mac_key);
    a->key_id = s.key_id;
    a->certificate = who->certificate;
    return r;
}

int meta_join(struct meta *m, const struct meta_caller *who, const struct m_join_req *q,
              int64_t now_ms, struct m_join_ans *a, struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    if (q->incarnation.n != STORE_INCARNATION_LEN)
        return meta_fail(why, -EBADMSG, "join: the incarnation must be 16 bytes");
    int r = meta_change_begin(m);
    if (!r)
        r = meta_change_end(m, join(m, who, q, now_ms, a, ar));
    if (r == -EACCES)
        return meta_fail(why, r,
                         "join: the token is unknown, expired or used; ask the administrator for a "
                         "new one (steadfs admin server add PREMISES)");
    return r ? meta_store_fail(why, r, "cannot add the block server") : 0;
}

static void distrusts_key(uint64_t server, char key[64])
{
    snprintf(key, 64, "distrusts %llu", (unsigned long long)server);
}

int meta_distrusts(struct meta *m, uint64_t server, bool *distrusts)
{
    char key[64];
    uint64_t value;
    distrusts_key(server, key);
    int r = m->st->ops->setting_get(m->st, key, &value);
    *distrusts = !r && value;
    return r;
}

static int note_distrusts(struct meta *m, uint64_t server, bool distrusts)
{
    char key[64];
    bool did;
    int r = meta_distrusts(m, server, &did);
    distrusts_key(server, key);
    return r || did == distrusts ? r : m->st->ops->setting_set(m->st, key, distrusts);
}

/* What the beat says of the server, from the process and the storage that count. */
static int take_beat(struct meta *m, struct server_row *s, const struct m_beat_req *q, bool lost,
                     bool keys, int64_t now_ms, struct arena *ar)
{
    bool moved = !bytes_equal(s->url, q->url);
    s->url = q->url;
    s->blocks = q->blocks;
    s->used_bytes = q->used_bytes;
    s->free_bytes = q->free_bytes;
    s->beat_ms = (uint64_t)now_ms;
    int r = m->st->ops->server_set(m->st, s);
    if (!r)
        r = note_distrusts(m, s->id, q->distrusts);
    if (!r && lost)
        r = opening_lost(m, s->id);
    if (!r && (moved || keys))
        r = meta_touch_everybody(m, ar);
    for (size_t k = 0; k < q->lost_n && !r; k++)
        r = gone_lost(m, s, &q->lost[k], now_ms);
    return r;
}

static int beat(struct meta *m, const struct meta_caller *who, const struct m_beat_req *q,
                int64_t now_ms, struct m_beat_ans *a, struct arena *ar)
{
    struct server_row s;
    struct opening o;
    uint64_t keep_until;
    int r = m->st->ops->server_get(m->st, who->server, &s, ar);
    if (!r)
        r = restored_beat(m, &s, q, now_ms, ar);
    if (!r)
        r = opening_judge(m, &s, q, &o);
    if (r)
        return r;
    a->tick = o.superseded ? 0 : s.tick;
    a->renew = o.renew;
    a->superseded = o.superseded;
    if (!o.superseded)
        r = take_beat(m, &s, q, o.lost, pins_beat(&s, who, q, now_ms, a), now_ms, ar);
    if (!r && !o.superseded)
        r = keys_beat(m, &s, q, now_ms, a, ar);
    if (!r)
        r = keys_tell_revoked(m, s.id, a, ar);
    if (!r)
        r = restored_keeps(m, &keep_until);
    if (!r && !o.superseded && !o.renew && !keep_until)
        r = m->st->ops->gone_count(m->st, s.id, 0, COLLECT_COUNTED, &a->collect);
    if (!r && !o.superseded && !o.renew)
        r = audit_beat(m, s.id, q, now_ms, a);
    if (r)
        return r;
    a->now_ms = (uint64_t)now_ms;
    a->gc_grace_ms = m->gc_grace_ms;
    uint64_t since = (uint64_t)now_ms > REVOKED_KEPT_MS ? (uint64_t)now_ms - REVOKED_KEPT_MS : 0;
    r = m->st->ops->device_revoked(m->st, since, REVOKED_MAX, &a->revoked_devices,
                                   &a->revoked_devices_n, ar);
    return r ? r : keys_mark_revoked(q, a, ar);
}

int meta_beat(struct meta *m, const struct meta_caller *who, const struct m_beat_req *q,
              int64_t now_ms, struct m_beat_ans *a, struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    if (!who->server)
        return meta_fail(why, -EACCES, "beat: only a block server reports itself");
    if (q->incarnation.n != STORE_INCARNATION_LEN)
        return meta_fail(why, -EBADMSG, "beat: the incarnation must be 16 bytes");
    if (q->tick > TICK_MAX)
        return meta_fail(why, -EBADMSG, "beat: nobody was told such a tick");
    if (q->pin.n && q->pin.n != PIN_LEN)
        return meta_fail(why, -EBADMSG, "beat: the hash of the key must be 32 bytes");
    int r = meta_change_begin(m);
    if (!r)
        r = meta_change_end(m, beat(m, who, q, now_ms, a, ar));
    if (r == -EAGAIN)
        return meta_fail(why, r,
                         "beat: this storage was given up, or a newer steadfs-blockd ran on it: "
                         "update this one");
    return r ? meta_store_fail(why, r, "cannot record the report") : 0;
}
