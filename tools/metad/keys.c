// SPDX-License-Identifier: Apache-2.0
/* Keys that change while everything goes on, and capabilities taken back before they end.
 *
 * A new key takes three steps, each of which may be lost and is made again: it is told with the
 * answer to a beat; the next beat says that the block server has it, durably; only then is it used
 * here. The old one stays good on both sides for as long as anything signed with it may be about:
 * capabilities (renewed at half their time) and receipts (half the grace time).
 *
 * A revocation does not name capabilities, which are kept nowhere. It names an end: who was given
 * one before now has one that ends before now plus its time, and who is given one later has a later
 * one. So a member who comes back is let in by his next session, and nothing else changes. That
 * holds whatever the machine's clock does, because the time that counts here never falls: the
 * highest one used is kept in the database.
 */
#include "keys.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define REVOCATIONS_MAX 65536u /* m_beat_ans.revoked */

/* ---- keys ----------------------------------------------------------------------------------- */
static uint64_t overlap_ms(const struct meta *m)
{
    uint64_t receipts = m->gc_grace_ms / 2, capabilities = 2 * m->capability_ms;
    return receipts > capabilities ? receipts : capabilities;
}

int keys_rotate(struct meta *m, uint64_t server, bool at_once, struct arena *ar)
{
    struct server_row s;
    struct key_row *v, next = {.at_once = at_once};
    size_t n;
    int r = m->st->ops->server_get(m->st, server, &s, ar);
    if (!r)
        r = m->st->ops->key_list(m->st, server, &v, &n, ar);
    if (r)
        return r;
    next.id = s.key_id;
    for (size_t k = 0; k < n; k++) {
        if (!v[k].until_ms && (v[k].at_once || !at_once))
            return -EALREADY;
        if (!v[k].until_ms) { /* the one on its way, with more haste */
            v[k].at_once = true;
            return m->st->ops->key_put(m->st, server, &v[k]);
        }
        next.id = v[k].id > next.id ? v[k].id : next.id;
    }
    if (n + 2 > KEYS_MAX && !at_once)
        return -E2BIG;
    next.id++;
    random_bytes(next.key, sizeof next.key);
    return m->st->ops->key_put(m->st, server, &next);
}

static bool has(const struct m_beat_req *q, uint64_t id)
{
    for (size_t k = 0; k < q->keys_n; k++)
        if (q->keys[k] == id)
            return true;
    return false;
}

/* The next key has come: it is the server's from now on. v: all beside the one in use. */
static int take_into_use(struct meta *m, struct server_row *s, const struct key_row *next,
                         const struct key_row *v, size_t n, int64_t now_ms)
{
    struct key_row old = {.id = s->key_id, .until_ms = (uint64_t)now_ms + overlap_ms(m)};
    memcpy(old.key, s->mac_key, sizeof old.key);
    int r = m->st->ops->key_use(m->st, s->id, next);
    if (!r)
        r = m->st->ops->key_drop(m->st, s->id, next->id);
    if (!r && !next->at_once)
        r = m->st->ops->key_put(m->st, s->id, &old);
    for (size_t k = 0; k < n && !r && next->at_once; k++)
        r = m->st->ops->key_drop(m->st, s->id, v[k].id);
    memcpy(s->mac_key, next->key, sizeof s->mac_key);
    s->key_id = next->id;
    return r;
}

/* Those that are good, the server's own first. With a next one that is to be the only one soon, the
 * rest is not told of any more: there may be no room for it, and it ends. */
static int good_keys(struct meta *m, const struct server_row *s, int64_t now_ms, struct m_key *out,
                     size_t *out_n, struct arena *ar)
{
    struct key_row *v;
    size_t n;
    out[0] = (struct m_key){.id = s->key_id, .key = arena_bytes(ar, s->mac_key, sizeof s->mac_key)};
    *out_n = 1;
    bool hasty = false;
    int r = m->st->ops->key_list(m->st, s->id, &v, &n, ar);
    for (size_t k = 0; k < n && !r; k++)
        hasty |= !v[k].until_ms && v[k].at_once;
    for (size_t k = 0; k < n && !r && *out_n < KEYS_MAX; k++)
        if (!v[k].until_ms || (!hasty && v[k].until_ms > (uint64_t)now_ms))
            out[(*out_n)++] =
                (struct m_key){.id = v[k].id, .key = bytes_of(v[k].key, sizeof v[k].key)};
    return r;
}

int keys_beat(struct meta *m, struct server_row *s, const struct m_beat_req *q, int64_t now_ms,
              struct m_beat_ans *a, struct arena *ar)
{
    struct key_row *v;
    size_t n;
    int r = m->st->ops->key_list(m->st, s->id, &v, &n, ar);
    for (size_t k = 0; k < n && !r; k++) {
        if (v[k].until_ms && v[k].until_ms <= (uint64_t)now_ms)
            r = m->st->ops->key_drop(m->st, s->id, v[k].id);
        else if (!v[k].until_ms && has(q, v[k].id))
            r = take_into_use(m, s, &v[k], v, n, now_ms);
    }
    if (r || !q->keys_n) /* a server that knows nothing of this keeps the key it joined with */
        return r;
    a->keys = arena_alloc(ar, KEYS_MAX * sizeof *a->keys);
    r = good_keys(m, s, now_ms, a->keys, &a->keys_n, ar);
    bool same = a->keys_n == q->keys_n;
    for (size_t k = 0; k < a->keys_n; k++)
        same &= has(q, a->keys[k].id);
    a->keys_n = same ? 0 : a->keys_n;
    return r;
}

int keys_good(struct meta *m, const struct server_row *s, int64_t now_ms,
              struct token_key out[KEYS_MAX], size_t *n)
{
    cleanup_arena struct arena ar = {0};
    struct m_key v[KEYS_MAX];
    *n = 0;
    int r = good_keys(m, s, now_ms, v, n, &ar);
    for (size_t k = 0; k < *n && !r; k++) {
        out[k] = (struct token_key){.id = v[k].id};
        memcpy(out[k].key, v[k].key.p, sizeof out[k].key);
    }
    return r;
}

/* ---- revocations ---------------------------------------------------------------------------- */
int keys_time(struct meta *m, int64_t now_ms, uint64_t *time_ms)
{
    *time_ms = (uint64_t)now_ms;
    return m->st->ops->setting_raise(m->st, "sealed_ms", time_ms);
}

static int revoke(struct meta *m, struct revocation_row row, int64_t now_ms)
{
    uint64_t now, next;
    int r = keys_time(m, now_ms, &now);
    if (r)
        return r;
    row.until_ms = now + m->capability_ms;
    next = now + 1; /* what is sealed from here on ends later */
    r = m->st->ops->setting_raise(m->st, "sealed_ms", &next);
    return r ? r
             : m->st->ops->revocation_put(m->st, &row, now,
                                          now > REVOKED_KEPT_MS ? now - REVOKED_KEPT_MS : 0);
}

int keys_revoke(struct meta *m, uint64_t ns, uint64_t account, uint64_t server, int64_t now_ms)
{
    return revoke(m, (struct revocation_row){.ns = ns, .account = account, .server = server},
                  now_ms);
}

int keys_revoke_peer(struct meta *m, uint64_t ns, uint64_t peer, int64_t now_ms)
{
    return revoke(m, (struct revocation_row){.ns = ns, .peer = peer}, now_ms);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int compare_revoked(const void *a, const void *b)
{
    const struct m_revoked *x = a, *y = b;
    const uint64_t v[][2] = {
        {x->ns, y->ns}, {x->account, y->account}, {x->peer, y->peer}, {x->until_ms, y->until_ms}};
    int r = 0;
    for (size_t k = 0; k < 4 && !r; k++)
        r = compare_u64(&v[k][0], &v[k][1]);
    return r;
}

/* In an order of its own, so that the same rows have the same mark however they are read. */
int keys_mark_revoked(const struct m_beat_req *q, struct m_beat_ans *a, struct arena *ar)
{
    struct buf b cleanup_buf = {0};
    uint8_t *mark = arena_alloc(ar, SHA256_DIGEST_LENGTH);
    if (a->revoked_devices_n)
        qsort(a->revoked_devices, a->revoked_devices_n, sizeof *a->revoked_devices, compare_u64);
    if (a->revoked_n)
        qsort(a->revoked, a->revoked_n, sizeof *a->revoked, compare_revoked);
    for (size_t k = 0; k < a->revoked_devices_n; k++)
        buf_printf(&b, "%llu\n", (unsigned long long)a->revoked_devices[k]);
    for (size_t k = 0; k < a->revoked_n; k++)
        buf_printf(&b, "%llu %llu %llu %llu\n", (unsigned long long)a->revoked[k].ns,
                   (unsigned long long)a->revoked[k].account,
                   (unsigned long long)a->revoked[k].peer,
                   (unsigned long long)a->revoked[k].until_ms);
    if (!EVP_Digest(b.p ? b.p : (const void *)"", b.n, mark, NULL, EVP_sha256(), NULL))
        return -EIO;
    a->revoked_mark = bytes_of(mark, SHA256_DIGEST_LENGTH);
    if (q->revoked_mark.n == SHA256_DIGEST_LENGTH &&
        !memcmp(q->revoked_mark.p, mark, SHA256_DIGEST_LENGTH))
        a->revoked_devices_n = a->revoked_n = 0;
    return 0;
}

int keys_tell_revoked(struct meta *m, uint64_t server, struct m_beat_ans *a, struct arena *ar)
{
    struct revocation_row *v;
    size_t n;
    int r = m->st->ops->revocation_list(m->st, server, REVOCATIONS_MAX + 1, &v, &n, ar);
    if (!r && n > REVOCATIONS_MAX) { /* none may be left out */
        r = m->st->ops->revocation_collapse(m->st);
        if (!r)
            r = m->st->ops->revocation_list(m->st, server, REVOCATIONS_MAX, &v, &n, ar);
    }
    if (r)
        return r;
    a->revoked = arena_alloc(ar, (n + 1) * sizeof *a->revoked);
    for (size_t k = 0; k < n; k++)
        a->revoked[a->revoked_n++] = (struct m_revoked){
            .ns = v[k].ns, .account = v[k].account, .peer = v[k].peer, .until_ms = v[k].until_ms};
    return 0;
}
