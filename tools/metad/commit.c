// SPDX-License-Identifier: Apache-2.0
/* A commit from the request to the kept answer.
 *
 * Order. Membership comes first: a stranger learns nothing and writes nothing. Then the request
 * number: an answer that was final once is given again word for word, also to a device whose role
 * was lowered since, because what was committed stays committed. Only then role, targets, blocks,
 * bases, result.
 *
 * Request numbers. A row under the number exists only for final answers (committed, conflict,
 * refused). A commit answered `missing` has changed nothing, so nothing is kept of it and the
 * second step is judged afresh. Numbers below the device's lowest open one were acknowledged: a
 * late duplicate of such a request must not run again, so they are refused for good.
 *
 * Parts. The changes of a commit too large for one message come in parts under one number; all but
 * the last are stored as they are and answered `committed` with SJID 0. The last brings targets,
 * ids and the newest receipts; a `missing` answer to it keeps the parts, and it alone is sent
 * again. More than can ever be applied is refused for good, at the part where that shows: an error
 * that is no answer would have the client send the same again.
 */
#include "commit.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_ONLY "you may read this namespace, not change it"

void commit_free(struct commit *c)
{
    free(c->nodes);
    free(c->slots);
    free(c->rows);
    free(c->missing);
    free(c->elsewhere);
    blocks_free(&c->blocks);
}

void commit_refuse(struct commit *c, enum row_kind kind, uint64_t node, struct bytes name,
                   enum refusal reason, const char *text)
{
    if (!c->reason)
        c->reason = text;
    if (!c->rows)
        c->rows = calloc(ROWS_MAX, sizeof *c->rows);
    if (!c->rows)
        abort();
    const struct m_row_ref *last = c->rows_n ? &c->rows[c->rows_n - 1] : NULL;
    if (last && last->kind == kind && last->node == node && last->reason == reason &&
        bytes_equal(last->name, name))
        return;
    if (c->rows_n < ROWS_MAX)
        c->rows[c->rows_n++] =
            (struct m_row_ref){.kind = kind, .node = node, .name = name, .reason = reason};
}

void commit_refuse_all(struct commit *c, enum refusal reason, const char *text)
{
    const struct m_changes *ch = &c->changes;
    for (size_t k = 0; k < ch->nodes_n; k++)
        commit_refuse(c, ROW_NODE, ch->nodes[k].node, bytes_of(NULL, 0), reason, text);
    for (size_t k = 0; k < ch->entries_n; k++)
        commit_refuse(c, ROW_ENTRY, ch->entries[k].parent, ch->entries[k].name, reason, text);
    for (size_t k = 0; k < ch->xattrs_n; k++)
        commit_refuse(c, ROW_XATTR, ch->xattrs[k].node, ch->xattrs[k].name, reason, text);
    if (!c->rows_n)
        commit_refuse(c, ROW_NODE, 0, bytes_of(NULL, 0), reason, text);
}

void commit_too_large(struct commit *c)
{
    commit_refuse(c, ROW_NODE, 0, bytes_of(NULL, 0), REFUSED_TOO_LARGE,
                  "too much for one commit: send less at once");
}

/* What rows were refused for, as one status: a refusal weighs more than a conflict. */
static enum commit_status status_of_rows(const struct commit *c)
{
    for (size_t k = 0; k < c->rows_n; k++) {
        if (c->rows[k].reason >= REFUSED_QUOTA)
            return COMMIT_REFUSED;
    }
    return COMMIT_CONFLICT;
}

static void answer(struct commit *c, struct m_commit_ans *a)
{
    memset(a, 0, sizeof *a);
    a->head = c->ns.head;
    if (c->missing_n || c->elsewhere_n) {
        a->status = COMMIT_MISSING;
        a->missing = arena_copy(c->ar, c->missing, c->missing_n * sizeof *c->missing);
        a->missing_n = c->missing_n;
        a->elsewhere = arena_copy(c->ar, c->elsewhere, c->elsewhere_n * sizeof *c->elsewhere);
        a->elsewhere_n = c->elsewhere_n;
        return;
    }
    if (!c->rows_n) {
        a->status = COMMIT_COMMITTED;
        a->sjid = c->ns.head;
        a->mark = c->mark;
        return;
    }
    a->status = status_of_rows(c);
    a->rows = arena_copy(c->ar, c->rows, c->rows_n * sizeof *c->rows);
    a->rows_n = c->rows_n;
    for (size_t k = 0; k < a->rows_n; k++)
        a->rows[k].name = arena_bytes(c->ar, a->rows[k].name.p, a->rows[k].name.n);
    if (c->reason)
        a->reason = bytes_str(c->reason);
}

/* ---- phases --------------------------------------------------------------------------------- */
static int targets(struct commit *c)
{
    const struct m_commit_req *q = c->q;
    int r = c->m->st->ops->assigned(c->m->st, c->ns.id, &c->servers, &c->servers_n, c->ar);
    if (r)
        return r;
    for (size_t k = 0; k < q->targets_n; k++) {
        size_t i = 0;
        while (i < c->servers_n && c->servers[i].id != q->targets[k])
            i++;
        if (i == c->servers_n || c->servers[i].leaving) {
            commit_refuse_all(c, REFUSED_ASSIGNMENT,
                              "a target block server is not assigned to the namespace");
            return 0;
        }
        c->targets |= 1ull << i;
    }
    uint64_t copies = c->ns.copies_min ? c->ns.copies_min : 1;
    if ((uint64_t)__builtin_popcountll(c->targets) < copies)
        commit_refuse_all(c, REFUSED_ASSIGNMENT,
                          "the namespace wants more copies than the commit has targets");
    return 0;
}

static int phases(struct commit *c)
{
    static int (*const phase[])(struct commit *) = {
        targets,      commit_load, commit_check_blocks, commit_check_bases, commit_check_result,
        commit_apply,
    };
    int r = 0;
    size_t k = c->q ? 0 : 1;
    for (; !r && !c->rows_n && !c->missing_n && !c->elsewhere_n && k < 6; k++)
        r = phase[k](c);
    return r;
}

/* ---- request numbers ------------------------------------------------------------------------ */
static int keep_answer(struct commit *c, const uint8_t hash[STORE_HASH_LEN], struct peer_row *peer,
                       const struct m_commit_ans *a)
{
    const struct store_ops *ops = c->m->st->ops;
    cleanup_buf struct buf out = {0};
    msg_encode(&m_commit_ans_desc, a, &out);
    struct request_row row = {.request = c->request,
                              .status = a->status,
                              .sjid = a->sjid,
                              .answer = bytes_of(out.p, out.n)};
    memcpy(row.hash, hash, sizeof row.hash);
    int r = ops->request_put(c->m->st, c->ns.id, c->device, &row);
    uint64_t open = c->q->lowest_open < c->request ? c->q->lowest_open : c->request;
    if (!r && open > peer->lowest_open) {
        peer->lowest_open = open;
        r = ops->request_forget(c->m->st, c->ns.id, c->device, open);
    }
    if (c->request > peer->highest_request)
        peer->highest_request = c->request;
    if (c->highest_node > peer->highest_node)
        peer->highest_node = c->highest_node;
    if (!r)
        r = ops->peer_put(c->m->st, c->ns.id, c->device, peer);
    if (!r && (c->q->part || c->q->more))
        r = ops->stage_drop(c->m->st, c->ns.id, c->device, c->request);
    return r;
}

/* 1: the number has its answer, in *a; 0: it has none; -errno. hash NULL: any changes will do. */
static int kept_answer(struct commit *c, const uint8_t *hash, const struct peer_row *peer,
                       struct m_commit_ans *a)
{
    struct request_row row;
    int r = c->m->st->ops->request_get(c->m->st, c->ns.id, c->device, c->request, &row, c->ar);
    if (r == -ENOENT && c->request >= peer->lowest_open)
        return 0;
    if (r && r != -ENOENT)
        return r;
    if (r == -ENOENT || (hash && memcmp(row.hash, hash, sizeof row.hash) != 0)) {
        commit_refuse_all(c, REFUSED_REQUEST,
                          r ? "the request number was acknowledged already"
                            : "the request number was used for other changes");
        answer(c, a);
        return 1;
    }
    r = msg_decode(&m_commit_ans_desc, a, row.answer.p, row.answer.n, MSG_LENIENT, c->ar, NULL);
    if (r)
        return -EUCLEAN;
    a->head = c->ns.head;
    return 1;
}

/* ---- parts ---------------------------------------------------------------------------------- */
static int stage_part(struct commit *c, struct peer_row *peer, struct m_commit_ans *a)
{
    const struct store_ops *ops = c->m->st->ops;
    const struct m_commit_req *q = c->q;
    uint64_t bytes = 0;
    int r = 0;
    if (q->part >= STAGE_PARTS_MAX) {
        commit_too_large(c);
    } else {
        if (q->part == 0)
            r = ops->stage_drop(c->m->st, c->ns.id, c->device, c->request);
        if (!r) /* in the place of the same part, where it was sent before */
            r = ops->stage_put(c->m->st, c->ns.id, c->device, c->request, q->part, q->changes);
        if (!r)
            r = ops->stage_bytes(c->m->st, c->ns.id, c->device, &bytes);
        if (!r && bytes > STAGE_BYTES_MAX)
            commit_too_large(c);
        else if (!r)
            r = targets(c);
        if (!r && !c->rows_n)
            r = commit_stage_receipts(c);
    }
    if (r)
        return r;
    answer(c, a);
    a->sjid = 0;
    if (!c->rows_n || c->rows[0].reason != REFUSED_TOO_LARGE)
        return 0;
    uint8_t hash[STORE_HASH_LEN];
    meta_hash(q->changes, hash);
    return keep_answer(c, hash, peer, a);
}

/* The whole encoded changes: of this message, or of all parts. */
static int whole_changes(struct commit *c, struct buf *joined, struct bytes *whole, char *why)
{
    const struct m_commit_req *q = c->q;
    *whole = q->changes;
    if (!q->part)
        return 0;
    int r = c->m->st->ops->stage_join(c->m->st, c->ns.id, c->device, c->request, q->part, joined);
    if (r == -ENOENT)
        return meta_fail(why, -EBADMSG,
                         "commit: an earlier part is not here: send all from part 0");
    if (r)
        return r;
    buf_append(joined, q->changes.p, q->changes.n);
    *whole = bytes_of(joined->p, joined->n);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------ */
static int judge(struct commit *c, uint64_t role, struct peer_row *peer, struct m_commit_ans *a,
                 char *why)
{
    cleanup_buf struct buf joined = {0};
    struct bytes whole;
    uint8_t hash[STORE_HASH_LEN];
    const char *text = NULL;
    int r = 0;
    if (c->q->more || c->q->part)
        r = kept_answer(c, NULL, peer, a);
    if (r)
        return r < 0 ? r : 0;
    if (c->q->more && role < ROLE_EDITOR) {
        commit_refuse_all(c, REFUSED_ROLE, READ_ONLY);
        answer(c, a);
        return 0;
    }
    if (c->q->more)
        return stage_part(c, peer, a);
    r = whole_changes(c, &joined, &whole, why);
    if (r)
        return r;
    r = msg_decode(&m_changes_desc, &c->changes, whole.p, whole.n, MSG_STRICT, c->ar, &text);
    bool large = r == -EMSGSIZE;
    if (r && !large)
        return meta_fail(why, r, "commit: the changes do not decode: %s",
                         text ? text : "malformed");
    meta_hash(whole, hash);
    r = kept_answer(c, hash, peer, a);
    if (r)
        return r < 0 ? r : 0;
    if (role < ROLE_EDITOR)
        commit_refuse_all(c, REFUSED_ROLE, READ_ONLY);
    else if (large)
        commit_too_large(c);
    r = phases(c);
    if (r)
        return r;
    answer(c, a);
    /* one refused for its targets alone may come again with others */
    bool again = a->rows_n && a->rows[0].reason == REFUSED_ASSIGNMENT;
    return a->status == COMMIT_MISSING || again ? 0 : keep_answer(c, hash, peer, a);
}

static int run(struct commit *c, const struct meta_caller *who, struct m_commit_ans *a, char *why)
{
    const struct store_ops *ops = c->m->st->ops;
    struct peer_row peer = {0};
    uint64_t role = ROLE_NONE;
    int r = ops->ns_get(c->m->st, c->q->ns, &c->ns, c->ar);
    if (!r)
        r = ops->member_role(c->m->st, c->q->ns, who->account, &role);
    if (r && r != -ENOENT)
        return r;
    if (role == ROLE_NONE) {
        c->ns.head = 0;
        if (!c->q->more && !c->q->part)
            msg_decode(&m_changes_desc, &c->changes, c->q->changes.p, c->q->changes.n, MSG_STRICT,
                       c->ar, NULL);
        commit_refuse_all(c, REFUSED_MEMBER, "you are not a member of this namespace");
        answer(c, a);
        return 0;
    }
    r = meta_same_journal(c->m, &c->ns, c->q->cursor, c->q->mark, why);
    if (!r)
        r = ops->peer_get(c->m->st, c->ns.id, c->device, &peer);
    if (r && r != -ENOENT)
        return r;
    return judge(c, role, &peer, a, why);
}

int meta_commit(struct meta *m, const struct meta_caller *who, const struct m_commit_req *q,
                int64_t now_ms, struct m_commit_ans *a, struct arena *ar, char *why)
{
    why[0] = 0;
    if (!who->device)
        return meta_fail(why, -EACCES, "commit: only a device commits");
    if (q->ns > INT64_MAX || !q->request || q->request > INT64_MAX)
        return meta_fail(why, -EBADMSG, "commit: a number is out of range");
    int r = meta_change_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot commit");
    struct commit c = {
        .m = m, .ar = ar, .q = q, .device = who->device, .request = q->request, .now_ms = now_ms};
    blocks_init(&c.blocks, m->seed);
    r = run(&c, who, a, why);
    commit_free(&c);
    r = meta_change_end(m, r);
    if (r && !why[0])
        return meta_store_fail(why, r, "cannot commit");
    return r;
}

int commit_by_server(struct meta *m, uint64_t ns, const struct m_changes *changes,
                     uint64_t target_ns, int64_t now_ms, char *why)
{
    cleanup_arena struct arena ar = {0};
    struct commit c = {
        .m = m, .ar = &ar, .changes = *changes, .target_ns = target_ns, .now_ms = now_ms};
    blocks_init(&c.blocks, m->seed);
    int r = m->st->ops->ns_get(m->st, ns, &c.ns, &ar);
    if (!r)
        r = phases(&c);
    if (r)
        r = meta_store_fail(why, r, "cannot commit");
    else if (c.rows_n) {
        enum refusal reason = (enum refusal)c.rows[0].reason;
        r = reason == REFUSED_PARENT ? -ENOTDIR : reason == REFUSED_BASE ? -EEXIST : -EINVAL;
        meta_fail(why, r, "%s", c.reason ? c.reason : "refused");
    }
    commit_free(&c);
    return r;
}
