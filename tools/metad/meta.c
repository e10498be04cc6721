// SPDX-License-Identifier: Apache-2.0
/* The service object: opening, transactions, who a caller is, and what he may see.
 *
 * A changing call is a transaction of its own, or, between meta_begin and meta_end, a savepoint in
 * the one that they share: many commits cost one sync of the disk, and one that fails undoes only
 * itself.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta_private.h"
#include "store_sqlite.h"

int meta_fail(char *why, int r, const char *fmt, ...)
{
    if (why) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(why, WHY_LEN, fmt, args);
        va_end(args);
    }
    return r;
}

int meta_store_fail(char *why, int r, const char *what)
{
    return meta_fail(why, r, "%s: the database says: %s%s", what, strerror(-r),
                     r == -ENOSPC ? "; free space on the metadata server's disk" : "");
}

int meta_open(struct meta **out, const struct meta_options *o, char *why)
{
    struct meta *m = calloc(1, sizeof *m);
    if (!m)
        return meta_fail(why, -ENOMEM, "out of memory");
    m->reader = o->reader;
    m->gc_grace_ms = o->gc_grace_ms ? o->gc_grace_ms : GC_GRACE_MS;
    m->capability_ms = o->capability_ms ? o->capability_ms : CAPABILITY_MS;
    m->history_ms = o->history_ms ? o->history_ms : HISTORY_MS;
    m->marks_below = o->marks_below ? o->marks_below : MARKS_BELOW;
    random_bytes(&m->seed, sizeof m->seed);
    int r = store_sqlite_open(&m->st, o->path, o->vfs, o->reader, o->log_reserve, why);
    if (r) {
        free(m);
        return r;
    }
    *out = m;
    return 0;
}

void meta_close(struct meta *m)
{
    if (!m)
        return;
    if (m->batch)
        m->st->ops->end(m->st, false);
    m->st->ops->close(m->st);
    free(m);
}

/* ---- transactions --------------------------------------------------------------------------- */
int meta_begin(struct meta *m)
{
    int r = m->st->ops->begin(m->st, true);
    m->batch = r == 0;
    return r;
}

int meta_end(struct meta *m)
{
    if (!m->batch)
        return -EINVAL;
    m->batch = false;
    return m->st->ops->end(m->st, true);
}

int meta_change_begin(struct meta *m)
{
    if (m->reader)
        return -EROFS;
    return m->batch ? m->st->ops->save(m->st) : m->st->ops->begin(m->st, true);
}

int meta_change_end(struct meta *m, int result)
{
    int r =
        m->batch ? m->st->ops->release(m->st, result == 0) : m->st->ops->end(m->st, result == 0);
    return result ? result : r;
}

int meta_read_begin(struct meta *m)
{
    return m->batch ? 0 : m->st->ops->begin(m->st, false);
}

int meta_read_end(struct meta *m, int result)
{
    int r = m->batch ? 0 : m->st->ops->end(m->st, true);
    return result ? result : r;
}

/* ---- secrets -------------------------------------------------------------------------------- */
void meta_hash(struct bytes secret, uint8_t hash[STORE_HASH_LEN])
{
    unsigned n = STORE_HASH_LEN;
    if (EVP_Digest(secret.p, secret.n, hash, &n, EVP_sha256(), NULL) != 1)
        abort(); /* SHA-256 is always there */
}

void meta_secret(char secret[SECRET_LEN + 1], uint8_t hash[STORE_HASH_LEN])
{
    uint8_t raw[SECRET_LEN / 2];
    random_bytes(raw, sizeof raw);
    for (size_t k = 0; k < sizeof raw; k++)
        snprintf(secret + 2 * k, 3, "%02x", raw[k]);
    meta_hash(bytes_of(secret, SECRET_LEN), hash);
}

int meta_init(struct meta *m, int64_t now_ms, char credential[META_CREDENTIAL_MAX], char *why)
{
    char secret[SECRET_LEN + 1];
    uint8_t hash[STORE_HASH_LEN];
    uint64_t admins, id = 0;
    (void)now_ms;
    int r = meta_change_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot initialise");
    r = m->st->ops->admin_count(m->st, &admins);
    if (!r && admins)
        r = -EEXIST;
    if (!r) {
        meta_secret(secret, hash);
        r = m->st->ops->admin_add(m->st, hash, &id);
    }
    r = meta_change_end(m, r);
    if (r == -EEXIST)
        return meta_fail(why, r, "the database has an installation in it already");
    if (r)
        return meta_store_fail(why, r, "cannot initialise");
    snprintf(credential, META_CREDENTIAL_MAX, "a.%llu.%s", (unsigned long long)id, secret);
    return 0;
}

/* ---- callers -------------------------------------------------------------------------------- */
static int hash_of_device(struct meta *m, uint64_t id, struct meta_caller *who,
                          uint8_t hash[STORE_HASH_LEN])
{
    cleanup_arena struct arena ar = {0};
    struct device_row d;
    int r = m->st->ops->device_get(m->st, id, &d, &ar);
    if (!r && d.revoked_ms)
        r = -ENOENT;
    if (!r) {
        memcpy(hash, d.secret_hash, STORE_HASH_LEN);
        *who = (struct meta_caller){.account = d.account, .device = id};
    }
    return r;
}

static int hash_of_server(struct meta *m, uint64_t id, struct meta_caller *who,
                          uint8_t hash[STORE_HASH_LEN])
{
    cleanup_arena struct arena ar = {0};
    struct server_row s;
    int r = m->st->ops->server_get(m->st, id, &s, &ar);
    if (!r) {
        memcpy(hash, s.secret_hash, STORE_HASH_LEN);
        *who = (struct meta_caller){.server = id};
    }
    return r;
}

int meta_authenticate(struct meta *m, const char *credential, struct meta_caller *who)
{
    uint8_t want[STORE_HASH_LEN] = {0}, got[STORE_HASH_LEN];
    struct meta_caller found = {0};
    memset(who, 0, sizeof *who);
    char kind = credential[0];
    if (!kind || credential[1] != '.' || credential[2] < '0' || credential[2] > '9')
        return -EACCES;
    char *dot;
    errno = 0;
    uint64_t id = strtoull(credential + 2, &dot, 10);
    if (errno || *dot != '.' || strlen(dot + 1) != SECRET_LEN || id > INT64_MAX)
        return -EACCES;
    int r = meta_read_begin(m);
    if (r)
        return r;
    if (kind == 'd') {
        r = hash_of_device(m, id, &found, want);
    } else if (kind == 's') {
        r = hash_of_server(m, id, &found, want);
    } else if (kind == 'a') {
        r = m->st->ops->admin_get(m->st, id, want);
        found.admin = true;
    } else {
        r = -ENOENT;
    }
    r = meta_read_end(m, r);
    meta_hash(bytes_of(dot + 1, SECRET_LEN), got);
    if (r && r != -ENOENT)
        return r;
    if (r || CRYPTO_memcmp(want, got, sizeof got) != 0)
        return -EACCES;
    *who = found;
    return 0;
}

bool meta_hears(const struct server_row *s, int64_t now_ms)
{
    uint64_t since = meta_heard_since(now_ms);
    return s->beat_ms >= since && s->beat_ms - since <= 2u * META_SILENT_MS;
}

unsigned long long meta_silent_s(const struct server_row *s, int64_t now_ms)
{
    uint64_t now = (uint64_t)now_ms;
    return (now > s->beat_ms ? now - s->beat_ms : s->beat_ms - now) / 1000;
}

int meta_touch(struct meta *m, uint64_t account)
{
    m->touched = true;
    return m->st->ops->account_touch(m->st, account);
}

bool meta_touched(struct meta *m)
{
    bool touched = m->touched;
    m->touched = false;
    return touched;
}

uint64_t meta_heard_since(int64_t now_ms)
{
    return now_ms > META_SILENT_MS ? (uint64_t)now_ms - META_SILENT_MS : 0;
}

int meta_access(struct meta *m, const struct meta_caller *who, uint64_t ns, struct ns_row *row,
                uint64_t *role, struct arena *ar, char *why)
{
    bool sees = false;
    *role = ROLE_NONE;
    int r = m->st->ops->ns_get(m->st, ns, row, ar);
    if (r && r != -ENOENT)
        return meta_store_fail(why, r, "cannot read the namespace");
    if (!r && who->account)
        r = m->st->ops->member_role(m->st, ns, who->account, role);
    else if (!r && who->server)
        r = m->st->ops->assigned_to(m->st, ns, who->server, &sees);
    if (sees)
        *role = ROLE_VIEWER;
    if (r && r != -ENOENT)
        return meta_store_fail(why, r, "cannot read the namespace");
    if (r || *role == ROLE_NONE)
        return meta_fail(why, -EACCES,
                         "namespace %llu: you are not a member of it; ask its owner to share it",
                         (unsigned long long)ns);
    return 0;
}

bool meta_name_ok(struct bytes name)
{
    if (name.n < 1 || name.n > 64 || name.p[0] == '-' || name.p[0] == '.')
        return false;
    for (size_t k = 0; k < name.n; k++) {
        uint8_t ch = name.p[k];
        bool ok = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                  (ch >= '0' && ch <= '9') || ch == '-' || ch == '_' || ch == '.';
        if (!ok)
            return false;
    }
    return true;
}
