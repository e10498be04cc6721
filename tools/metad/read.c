// SPDX-License-Identifier: Apache-2.0
/* Reading: the journal, the tree as of any SJID, and who holds which block.
 *
 * Rows of the past never change, so that what is asked as of an SJID has one answer for ever, on
 * any connection. Everything is paged with named bounds; an answer to `list` holds whole records
 * only.
 *
 * A cursor is opaque to clients. It is a kind byte and a number: kind 'S' is "applied up to this
 * SJID". Kind 'B' is a block server's id and a number in the order in which commits became complete
 * there.
 */
#include <errno.h>
#include <string.h>

#include "commit.h"
#include "restored.h"

#define LIST_RECORDS_MAX 4096u /* m_list_ans.records */
#define LIST_RUNS_MAX 4096u    /* of a server's order, looked at for one answer */
#define LIST_BYTES (4u << 20)  /* of one answer when the client does not say */
#define LIST_BYTES_MAX RECORD_BYTES_MAX
#define PAGE_DEFAULT 1024u
#define READDIR_BYTES_MAX (16u << 20) /* a page of long names and link targets ends earlier */
#define REQUESTS_MAX 65536u           /* m_requests_ans.requests */
#define CURSOR_BY_SJID 'S'
#define CURSOR_AT_SERVER 'B'
#define CURSOR_LEN(server) ((server) ? 17u : 9u)

static void number_put(uint8_t p[8], uint64_t v)
{
    for (int k = 0; k < 8; k++)
        p[k] = (uint8_t)(v >> (56 - 8 * k));
}

static uint64_t number_get(const uint8_t p[8])
{
    uint64_t v = 0;
    for (int k = 0; k < 8; k++)
        v = v << 8 | p[k];
    return v;
}

/* Of a server's order, or (0) of SJIDs. */
static struct bytes cursor_make(uint64_t server, uint64_t at, struct arena *ar)
{
    size_t n = CURSOR_LEN(server);
    uint8_t *p = arena_alloc(ar, n);
    p[0] = server ? CURSOR_AT_SERVER : CURSOR_BY_SJID;
    if (server)
        number_put(p + 1, server);
    number_put(p + n - 8, at);
    return bytes_of(p, n);
}

static int cursor_parse(struct bytes cursor, uint64_t server, uint64_t *at)
{
    if (cursor.n != CURSOR_LEN(server) ||
        cursor.p[0] != (server ? CURSOR_AT_SERVER : CURSOR_BY_SJID) ||
        (server && number_get(cursor.p + 1) != server))
        return -EBADMSG;
    *at = number_get(cursor.p + cursor.n - 8);
    return 0;
}

static size_t page_limit(uint64_t asked)
{
    return asked == 0 ? PAGE_DEFAULT : asked > PAGE_ROWS_MAX ? PAGE_ROWS_MAX : (size_t)asked;
}

int meta_same_journal(struct meta *m, const struct ns_row *row, uint64_t sjid, uint64_t mark,
                      char *why)
{
    uint64_t here;
    if (!mark)
        return 0;
    int r = m->st->ops->mark_get(m->st, row->id, sjid, &here);
    if (r || here == mark || (!here && sjid < row->floor)) /* not kept any more */
        return r;
    return meta_fail(why, -ESTALE,
                     "another journal had a change %llu: this one was restored from a copy",
                     (unsigned long long)sjid);
}

/* Begins a read of the tree as of an SJID; meta_read_end in any case when 0 was returned. */
static int begin_at(struct meta *m, const struct meta_caller *who, uint64_t ns, uint64_t at,
                    uint64_t mark, struct arena *ar, char *why)
{
    struct ns_row row;
    uint64_t role;
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    r = meta_access(m, who, ns, &row, &role, ar, why);
    if (!r && at < row.floor)
        r = meta_fail(why, -ESTALE, "SJID %llu is below the history floor %llu: resync",
                      (unsigned long long)at, (unsigned long long)row.floor);
    if (!r)
        r = meta_same_journal(m, &row, at, mark, why);
    if (!r && at > row.head)
        r = meta_fail(why, -EINVAL, "SJID %llu is above the newest, %llu", (unsigned long long)at,
                      (unsigned long long)row.head);
    if (r)
        meta_read_end(m, r);
    return r;
}

static int end_at(struct meta *m, int r, char *why)
{
    r = meta_read_end(m, r);
    return r ? meta_store_fail(why, r, "cannot read") : 0;
}

/* ---- journal
 * ---------------------------------------------------------------------------------------- */
/* An answer being put together. */
struct page {
    struct m_list_ans *a;
    size_t cap;
    uint64_t left; /* bytes */
};

static struct page page_begin(const struct m_list_req *q, struct m_list_ans *a)
{
    uint64_t limit = q->limit_bytes ? q->limit_bytes : LIST_BYTES;
    return (struct page){.a = a, .left = limit < LIST_BYTES_MAX ? limit : LIST_BYTES_MAX};
}

/* At most max of the records behind SJID `from`, as long as there is room: at least the first of
 * all. *n: how many. */
static int page_add(struct meta *m, struct page *p, uint64_t ns, uint64_t from, size_t max,
                    size_t *n, struct arena *ar)
{
    struct m_list_ans *a = p->a;
    struct bytes *v;
    if (max > LIST_RECORDS_MAX - a->records_n)
        max = LIST_RECORDS_MAX - a->records_n;
    int r = m->st->ops->journal_list(m->st, ns, from, p->left, max, &v, n, ar);
    if (r)
        return r;
    if (a->records_n && *n &&
        v[0].n > p->left) /* the first goes in any case, but in its own page */
        *n = 0;
    if (a->records_n + *n > p->cap) {
        p->cap = 2 * (a->records_n + *n);
        struct m_record *more = arena_alloc(ar, p->cap * sizeof *more);
        if (a->records_n)
            memcpy(more, a->records, a->records_n * sizeof *more);
        a->records = more;
    }
    for (size_t k = 0; k < *n; k++) {
        struct m_record *out = &a->records[a->records_n++];
        r = msg_decode(&m_record_desc, out, v[k].p, v[k].n, MSG_LENIENT, ar, NULL);
        if (r || out->sjid != from + 1 + k)
            return -EUCLEAN;
        p->left -= v[k].n < p->left ? v[k].n : p->left;
        r = m->st->ops->mark_get(m->st, ns, out->sjid, &out->mark);
        if (r)
            return r;
    }
    return 0;
}

static int read_records(struct meta *m, const struct m_list_req *q, uint64_t from,
                        struct m_list_ans *a, struct arena *ar)
{
    struct page p = page_begin(q, a);
    size_t n;
    int r = page_add(m, &p, q->ns, from, LIST_RECORDS_MAX, &n, ar);
    uint64_t end = from + a->records_n;
    a->cursor = cursor_make(0, end, ar);
    a->more = end < a->head;
    return r ? r : a->records_n == 0 && a->more ? -EUCLEAN : 0;
}

/* What is there of a run; records below the floor are gone and left out. *end: the last number that
 * the answer has now; *whole: all of it is in. */
static int read_run(struct meta *m, struct page *p, const struct ns_row *row,
                    const struct run_row *run, uint64_t *end, bool *whole, struct arena *ar)
{
    uint64_t gone = run->sjid <= row->floor ? row->floor + 1 - run->sjid : 0;
    gone = gone < run->n ? gone : run->n;
    size_t n = 0;
    int r =
        gone == run->n
            ? 0
            : page_add(m, p, row->id, run->sjid + gone - 1,
                       run->n - gone < LIST_RECORDS_MAX ? run->n - gone : LIST_RECORDS_MAX, &n, ar);
    if (!r && gone < run->n && !n && !p->a->records_n)
        return -EUCLEAN;
    *end = run->seq + gone + n - 1;
    *whole = gone + n == run->n;
    return r;
}

/* The records whose blocks became present at the server behind number `after` of its order. Runs
 * may have one commit each: an answer has as many of them as fit. */
static int read_completed(struct meta *m, const struct m_list_req *q, const struct ns_row *row,
                          uint64_t after, struct m_list_ans *a, struct arena *ar)
{
    struct page p = page_begin(q, a);
    struct run_row run;
    bool whole = true;
    int r = 0;
    for (size_t runs = 0; runs < LIST_RUNS_MAX && whole && a->records_n < LIST_RECORDS_MAX;
         runs++) {
        r = m->st->ops->complete_next(m->st, q->ns, q->server, after, &run);
        if (r)
            break;
        r = read_run(m, &p, row, &run, &after, &whole, ar);
        if (r)
            return r;
    }
    a->cursor = cursor_make(q->server, after, ar);
    if (!r)
        r = m->st->ops->complete_next(m->st, q->ns, q->server, after, &run);
    a->more = r == 0;
    return r == -ENOENT ? 0 : r;
}

/* Whether who asks knows another journal at `from` or behind; then how far it is the same as this
 * one. Below the floor not every mark is kept: any that is not the same tells as well, and where
 * none does, it may be another one if the database was put back once, or nobody has said yet that
 * it was not. */
static int compare_marks(struct meta *m, const struct m_list_req *q, const struct ns_row *row,
                         uint64_t from, struct m_list_ans *a, struct arena *ar)
{
    uint64_t here, epoch;
    bool old = from < row->floor, unsure = false;
    int r = 0;
    for (size_t k = 0; k < q->marks_n && !r && !a->other; k++) {
        if (q->marks[k].sjid >= from || old) /* behind: what it has settled without reading it */
            r = meta_same_journal(m, row, q->marks[k].sjid, q->marks[k].mark, NULL);
        a->other = r == -ESTALE;
        r = a->other ? 0 : r;
    }
    for (size_t k = 0; k < q->marks_n && !r && (a->other || old); k++) {
        if (q->marks[k].sjid <= a->common)
            continue;
        r = m->st->ops->mark_get(m->st, q->ns, q->marks[k].sjid, &here);
        if (!r && here == q->marks[k].mark)
            a->common = q->marks[k].sjid;
    }
    if (!r && !a->other && old)
        r = restored_unsure(m, &unsure, ar);
    if (r || a->other || !old)
        return r;
    r = m->st->ops->setting_get(m->st, "epoch", &epoch);
    a->doubt = (epoch || unsure) && a->common < from;
    a->common = a->doubt ? a->common : 0;
    return r;
}

int meta_list(struct meta *m, const struct meta_caller *who, const struct m_list_req *q,
              struct m_list_ans *a, struct arena *ar, char *why)
{
    struct ns_row row;
    uint64_t role, from = q->server ? 0 : q->from;
    bool assigned = true;
    memset(a, 0, sizeof *a);
    if (q->cursor.n && cursor_parse(q->cursor, q->server, &from))
        return meta_fail(why, -EBADMSG, "list: not a cursor of this server");
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot list");
    r = meta_access(m, who, q->ns, &row, &role, ar, why);
    if (r)
        return meta_read_end(m, r);
    a->head = row.head;
    if (q->server)
        r = m->st->ops->assigned_to(m->st, q->ns, q->server, &assigned);
    if (!assigned) {
        r = meta_fail(why, -EINVAL, "list: block server %llu is not assigned to the namespace",
                      (unsigned long long)q->server);
        return meta_read_end(m, r);
    }
    if (!r && q->server && !q->cursor.n && q->from >= row.head)
        r = m->st->ops->complete_last(m->st, q->ns, q->server, &from);
    if (!r && !q->server)
        r = compare_marks(m, q, &row, from, a, ar);
    if (!r && q->server) {
        r = read_completed(m, q, &row, from, a, ar);
    } else if (!r && (from < row.floor || from > row.head || a->other)) {
        /* too old; or newer than all there is: the database was restored from a copy */
        a->resync = row.head;
        a->cursor = cursor_make(0, row.head, ar);
        r = m->st->ops->mark_get(m->st, q->ns, row.head, &a->mark);
    } else if (!r) {
        r = read_records(m, q, from, a, ar);
    }
    r = meta_read_end(m, r);
    return r ? meta_store_fail(why, r, "cannot list") : 0;
}

int meta_head(struct meta *m, const struct meta_caller *who, uint64_t ns, uint64_t *head)
{
    cleanup_arena struct arena ar = {0};
    struct ns_row row;
    uint64_t role;
    int r = meta_read_begin(m);
    if (r)
        return r;
    r = meta_access(m, who, ns, &row, &role, &ar, NULL);
    *head = r ? 0 : row.head;
    return meta_read_end(m, r);
}

int meta_requests(struct meta *m, const struct meta_caller *who, const struct m_requests_req *q,
                  struct m_requests_ans *a, struct arena *ar, char *why)
{
    struct request_row *v = NULL;
    struct ns_row row;
    uint64_t role;
    size_t n = 0;
    memset(a, 0, sizeof *a);
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    r = meta_access(m, who, q->ns, &row, &role, ar, why);
    if (r)
        return meta_read_end(m, r);
    r = m->st->ops->request_list(m->st, q->ns, who->device, q->from, REQUESTS_MAX, &v, &n, ar);
    r = end_at(m, r, why);
    if (r)
        return r;
    a->head = row.head;
    a->requests = arena_alloc(ar, (n + 1) * sizeof *a->requests);
    for (size_t k = 0; k < n; k++)
        a->requests[k] = (struct m_request_state){
            .request = v[k].request, .status = v[k].status, .sjid = v[k].sjid};
    a->requests_n = n;
    return 0;
}

/* ---- the tree
 * ------------------------------------------------------------------------------------------ */
static int fill_inode(struct meta *m, uint64_t ns, uint64_t at, struct m_entry *e, struct arena *ar)
{
    int r = m->st->ops->inode_get(m->st, ns, e->node, at, &e->inode, ar);
    e->inode_set = r == 0;
    return r == -ENOENT ? -EUCLEAN : r; /* an entry's node exists while the entry does */
}

int meta_lookup(struct meta *m, const struct meta_caller *who, const struct m_lookup_req *q,
                struct m_lookup_ans *a, struct arena *ar, char *why)
{
    struct entry_row row;
    memset(a, 0, sizeof *a);
    int r = begin_at(m, who, q->ns, q->at, q->mark, ar, why);
    if (r)
        return r;
    r = m->st->ops->entry_get(m->st, q->ns, q->parent, q->name, q->at, &row);
    if (!r) {
        a->entry_set = true;
        a->entry = (struct m_entry){.parent = q->parent,
                                    .name = arena_bytes(ar, q->name.p, q->name.n),
                                    .node = row.node,
                                    .rev = row.rev};
        r = fill_inode(m, q->ns, q->at, &a->entry, ar);
    }
    return end_at(m, r == -ENOENT ? 0 : r, why);
}

int meta_readdir(struct meta *m, const struct meta_caller *who, const struct m_readdir_req *q,
                 struct m_readdir_ans *a, struct arena *ar, char *why)
{
    size_t limit = page_limit(q->limit);
    memset(a, 0, sizeof *a);
    int r = begin_at(m, who, q->ns, q->at, q->mark, ar, why);
    if (r)
        return r;
    r = m->st->ops->entry_page(m->st, q->ns, q->dir, q->at, q->after, limit + 1, &a->entries,
                               &a->entries_n, ar);
    if (!r && a->entries_n > limit) {
        a->more = true;
        a->entries_n = limit;
    }
    uint64_t bytes = 0;
    for (size_t k = 0; k < a->entries_n && !r; k++) {
        r = fill_inode(m, q->ns, q->at, &a->entries[k], ar);
        bytes += 200 + a->entries[k].name.n + a->entries[k].inode.target.n; /* 200: all numbers */
        if (bytes > READDIR_BYTES_MAX && k + 1 < a->entries_n) {
            a->more = true;
            a->entries_n = k + 1;
        }
    }
    return end_at(m, r, why);
}

int meta_node(struct meta *m, const struct meta_caller *who, const struct m_node_req *q,
              struct m_node_ans *a, struct arena *ar, char *why)
{
    memset(a, 0, sizeof *a);
    int r = begin_at(m, who, q->ns, q->at, q->mark, ar, why);
    if (r)
        return r;
    r = m->st->ops->inode_get(m->st, q->ns, q->node, q->at, &a->inode, ar);
    a->inode_set = r == 0;
    if (!r)
        r = m->st->ops->xattr_list(m->st, q->ns, q->node, q->at, &a->xattrs, &a->xattrs_n, ar);
    if (!r && q->names)
        r = m->st->ops->entry_names(m->st, q->ns, q->node, q->at, NODE_NAMES_MAX, &a->names,
                                    &a->names_n, ar);
    return end_at(m, r == -ENOENT ? 0 : r, why);
}

int meta_extents(struct meta *m, const struct meta_caller *who, const struct m_extents_req *q,
                 struct m_extents_ans *a, struct arena *ar, char *why)
{
    size_t limit = page_limit(q->limit), n = 0;
    struct extent_row *v = NULL;
    memset(a, 0, sizeof *a);
    if (q->off >= (uint64_t)FILE_SIZE_MAX)
        return meta_fail(why, -EINVAL, "extents: the offset is too large");
    int r = begin_at(m, who, q->ns, q->at, q->mark, ar, why);
    if (r)
        return r;
    uint64_t whole = (uint64_t)FILE_SIZE_MAX - q->off;
    r = m->st->ops->extent_list(m->st, q->ns, q->node, q->at, q->off, whole, limit + 1, &v, &n, ar);
    r = end_at(m, r, why);
    if (r)
        return r;
    a->more = n > limit;
    a->range_set = true;
    a->range.off = q->off;
    a->range.extents_n = a->more ? limit : n;
    a->range.extents = arena_alloc(ar, (a->range.extents_n + 1) * sizeof *a->range.extents);
    for (size_t k = 0; k < a->range.extents_n; k++)
        a->range.extents[k] = v[k].e;
    struct m_extent *first = a->range.extents_n ? &a->range.extents[0] : NULL;
    if (first && first->off < q->off) {
        uint64_t cut = q->off - first->off;
        *first = (struct m_extent){.off = q->off,
                                   .len = first->len - cut,
                                   .block = first->block,
                                   .block_off = first->block_off + cut};
    }
    const struct m_extent *last = a->more ? &a->range.extents[a->range.extents_n - 1] : NULL;
    a->range.len = last ? last->off + last->len - q->off : whole;
    return 0;
}

/* ---- blocks
 * ---------------------------------------------------------------------------------------------- */
/* The blocks of a question with what is recorded of them. Inside a read; blocks_free in any case.
 */
static int question(struct meta *m, const struct meta_caller *who, uint64_t ns,
                    struct server_row **servers, size_t *n, struct blocks *b, struct arena *ar,
                    char *why)
{
    struct ns_row row;
    uint64_t role;
    int r = meta_access(m, who, ns, &row, &role, ar, why);
    if (r)
        return r;
    r = m->st->ops->assigned(m->st, ns, servers, n, ar);
    if (!r)
        r = blocks_load(m->st, ns, *servers, *n, b);
    return r ? meta_store_fail(why, r, "cannot read") : 0;
}

static void answer_target(const struct blocks *b, uint64_t bit, struct m_diff_ans *a,
                          struct arena *ar)
{
    a->missing = arena_alloc(ar, (b->n + 1) * sizeof *a->missing);
    a->elsewhere = arena_alloc(ar, (b->n + 1) * sizeof *a->elsewhere);
    for (size_t k = 0; k < b->n; k++) {
        if (!b->v[k].present)
            a->missing[a->missing_n++] = b->v[k].id;
        else if (!(b->v[k].present & ~b->v[k].unheard & bit))
            a->elsewhere[a->elsewhere_n++] = b->v[k].id;
    }
}

static void answer_counts(const struct blocks *b, const struct server_row *servers, size_t n,
                          struct m_diff_ans *a, struct arena *ar)
{
    a->counts = arena_alloc(ar, (n + 1) * sizeof *a->counts);
    for (size_t s = 0; s < n; s++) {
        if (servers[s].leaving)
            continue;
        a->counts_n++; /* those that leave come last */
        a->counts[s].server = servers[s].id;
        for (size_t k = 0; k < b->n; k++) {
            bool lacks = !(b->v[k].present & 1ull << s);
            a->counts[s].missing += lacks;
            a->counts[s].missing_bytes += lacks ? b->v[k].claimed : 0;
        }
    }
}

int meta_diff(struct meta *m, const struct meta_caller *who, const struct m_diff_req *q,
              struct m_diff_ans *a, struct arena *ar, char *why)
{
    struct server_row *servers;
    struct blocks b;
    size_t n, target = 0;
    memset(a, 0, sizeof *a);
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    blocks_init(&b, m->seed);
    for (size_t k = 0; k < q->ids_n; k++)
        blocks_add(&b, &q->ids[k].block)->claimed = q->ids[k].len;
    r = question(m, who, q->ns, &servers, &n, &b, ar, why);
    while (!r && q->target && target < n &&
           (servers[target].id != q->target || servers[target].leaving))
        target++;
    if (!r && target == n && q->target)
        r = meta_fail(why, -EACCES, "diff: block server %llu is not assigned to the namespace",
                      (unsigned long long)q->target);
    if (!r && q->target)
        answer_target(&b, 1ull << target, a, ar);
    else if (!r)
        answer_counts(&b, servers, n, a, ar);
    blocks_free(&b);
    return meta_read_end(m, r);
}

int meta_locate(struct meta *m, const struct meta_caller *who, const struct m_locate_req *q,
                struct m_locate_ans *a, struct arena *ar, char *why)
{
    struct server_row *servers;
    struct blocks b;
    size_t n;
    memset(a, 0, sizeof *a);
    int r = meta_read_begin(m);
    if (r)
        return meta_store_fail(why, r, "cannot read");
    blocks_init(&b, m->seed);
    for (size_t k = 0; k < q->ids_n; k++)
        blocks_add(&b, &q->ids[k]);
    r = question(m, who, q->ns, &servers, &n, &b, ar, why);
    if (!r) {
        a->locations = arena_alloc(ar, (b.n + 1) * sizeof *a->locations);
        a->locations_n = b.n;
    }
    for (size_t k = 0; !r && k < b.n; k++) {
        struct m_location *l = &a->locations[k];
        l->block = b.v[k].id;
        l->servers = arena_alloc(ar, (n + 1) * sizeof *l->servers);
        for (size_t s = 0; s < n; s++) {
            if (b.v[k].present & 1ull << s)
                l->servers[l->servers_n++] = servers[s].id;
        }
    }
    blocks_free(&b);
    return meta_read_end(m, r);
}
