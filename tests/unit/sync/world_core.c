// SPDX-License-Identifier: Apache-2.0
/* The core of few words: nodes with one pending block each, a cursor that moves with commits and
 * records. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "parked.h"
#include "world.h"

struct fake_node nodes[NODES_MAX];
bool nodes_crowded;
size_t nodes_n;
_Atomic uint64_t cursor, core_head, need_answers, need_refusals;
_Atomic bool core_other;
bool background_ok;
static uint64_t next_request;
static bool known;

static _Atomic unsigned files_told;
void core_begin_anew(void)
{
    files_told = 0;
    nodes_n = 0;
    next_request = 0;
    cursor = 0;
    core_head = 0;
    need_answers = 0;
    need_refusals = 0;
    journal_ends = 0;
    core_other = false;
    rest_pages = 0;
    unknown_pages = 0;
    comparisons = 0;
    open_requests = 0;
    pasts_forgotten = 0;
    known = false;
    background_ok = false;
}

int core_ns_get(struct core *c, uint64_t ns, struct core_ns *out)
{
    (void)c;
    if (!known || ns != NS)
        return -ENOENT;
    *out = (struct core_ns){
        .id = NS, .root = 1, .cursor = cursor, .member = true, .other = core_other};
    out->head = core_head > cursor ? core_head : cursor;
    return 0;
}
int core_ns_at(struct core *c, size_t k, struct core_ns *out)
{
    return k ? -ENOENT : core_ns_get(c, NS, out);
}
bool tree_unreadable;
int core_ns_pending(struct core *c, uint64_t ns, struct core_ns *out)
{
    if (tree_unreadable)
        return -EUCLEAN;
    int r = core_ns_get(c, ns, out);
    for (size_t i = 0; !r && i < nodes_n; i++) {
        out->pending_nodes += nodes[i].dirty || nodes[i].sent;
        out->parked += nodes[i].parked;
        out->held += nodes[i].held;
    }
    return r;
}
int core_ns_status(struct core *c, uint64_t ns, struct core_ns *out)
{
    return core_ns_pending(c, ns, out);
}
int core_ns_rests(struct core *c, uint64_t ns, bool *rests)
{
    struct core_ns n;
    int r = core_ns_pending(c, ns, &n);
    *rests = !r && n.pending_nodes > n.parked + n.held;
    return r;
}
bool core_ns_other(struct core *c, const struct m_namespace *m)
{
    (void)c;
    (void)m;
    return false;
}
int core_session(struct core *c, const struct m_session_ans *s, struct core_effects *fx)
{
    (void)c;
    (void)s;
    (void)fx;
    known = true;
    return 0;
}
int core_begin(struct core *c)
{
    (void)c;
    return 0;
}
int core_end(struct core *c, bool keep)
{
    (void)c;
    for (size_t i = 0; i < nodes_n && !keep; i++)
        if (nodes[i].sent && nodes[i].sent == next_request) {
            nodes[i].sent = 0;
            nodes[i].dirty = true;
        }
    return 0;
}
void core_effects_free(struct core_effects *e)
{
    free(e->v);
    *e = (struct core_effects){0};
}
void core_plan_free(struct core_plan *p)
{
    buf_free(&p->changes);
    free(p->ids);
    *p = (struct core_plan){0};
}
int core_pending_nodes(struct core *c, uint64_t ns, uint64_t *out, size_t max, size_t *n)
{
    (void)c;
    (void)ns;
    *n = 0;
    while (nodes_crowded && *n < max)
        out[(*n)++] = nodes[0].node;
    nodes_crowded = false;
    for (size_t i = 0; i < nodes_n && *n < max; i++)
        if (nodes[i].dirty || nodes[i].sent)
            out[(*n)++] = nodes[i].node;
    return 0;
}
size_t node_find(uint64_t node)
{
    size_t i = 0;
    while (i < nodes_n && nodes[i].node != node)
        i++;
    return i;
}
int core_barrier(struct core *c, uint64_t node, struct core_barrier *out)
{
    (void)c;
    size_t i = node_find(node);
    *out = (struct core_barrier){0};
    if (i == nodes_n)
        return -ESTALE;
    out->dirty = nodes[i].dirty;
    out->unsure = nodes[i].unsure;
    out->request = nodes[i].sent;
    out->parked = nodes[i].parked ? -EROFS : 0;
    return 0;
}
int core_getattr(struct core *c, uint64_t node, struct core_attr *out, struct core_need *need)
{
    (void)c;
    (void)need;
    *out = (struct core_attr){.node = node, .ns = NS};
    return 0;
}
static void ref_of(size_t i, struct m_block_ref *ref)
{
    *ref = (struct m_block_ref){.block = nodes[i].id, .len = nodes[i].len};
}
int core_closure_blocks(struct core *c, uint64_t node, struct m_block_ref **out, size_t *n)
{
    (void)c;
    size_t i = node_find(node);
    if (nodes[i].sent)
        return -EAGAIN;
    *out = malloc(sizeof **out);
    ref_of(i, *out);
    *n = 1;
    return 0;
}
/* One range of one block a node. */
static void changes_of(struct core_plan *plan)
{
    struct m_node_change n[NODES_MAX];
    struct m_range r[NODES_MAX];
    struct m_extent e[NODES_MAX];
    struct m_changes m = {.nodes = n};
    for (size_t i = 0; i < nodes_n; i++) {
        size_t k = m.nodes_n;
        if (nodes[i].sent != plan->request)
            continue;
        e[k] = (struct m_extent){.len = nodes[i].len, .block = nodes[i].id};
        r[k] = (struct m_range){.len = nodes[i].len, .extents = &e[k], .extents_n = 1};
        n[k] = (struct m_node_change){.node = nodes[i].node,
                                      .facets = FACET_CONTENT,
                                      .size = nodes[i].len,
                                      .ranges = &r[k],
                                      .ranges_n = 1};
        m.nodes_n++;
    }
    msg_encode(&m_changes_desc, &m, &plan->changes);
}

int core_plan(struct core *c, uint64_t ns, const uint64_t *v, size_t n, int64_t quiet,
              struct core_plan *plan, struct core_need *need)
{
    (void)c;
    (void)quiet;
    (void)need;
    *plan = (struct core_plan){0};
    for (size_t i = 0; i < nodes_n; i++) {
        bool want = n == 0 && background_ok;
        for (size_t k = 0; k < n; k++)
            want |= v[k] == nodes[i].node;
        if (!want || !nodes[i].dirty || nodes[i].parked)
            continue;
        if (!plan->rows++) {
            plan->ns = ns;
            plan->request = ++next_request;
            plan->ids = malloc(NODES_MAX * sizeof *plan->ids);
        }
        nodes[i].dirty = false;
        nodes[i].sent = plan->request;
        ref_of(i, &plan->ids[plan->ids_n++]);
    }
    if (plan->rows)
        changes_of(plan);
    return 0;
}
int core_resend(struct core *c, uint64_t ns, size_t k, struct core_plan *plan)
{
    (void)c;
    (void)ns;
    (void)k;
    (void)plan;
    return -ENOENT;
}
void blocks_damaged(struct blocks *b, const struct block_id *id, const void *p, uint32_t len)
{
    (void)b;
    assert_false(block_id_matches(id, p, len));
    pthread_mutex_lock(&store_lock);
    store[store_find(id)].here = false;
    pthread_mutex_unlock(&store_lock);
    __atomic_add_fetch(&damaged, 1, __ATOMIC_SEQ_CST);
}
const char *parked_reason(int err)
{
    return err == -EACCES ? "it was refused" : "?";
}
const char *parked_remedy(int err)
{
    (void)err;
    return "ask for it";
}
void parked_list(struct fs *f, uint64_t ns, size_t max, size_t *n, struct buf *json)
{
    (void)f;
    (void)ns;
    (void)max;
    (void)n;
    (void)json;
}
static void effect(struct core_effects *fx, struct core_effect e)
{
    fx->v = realloc(fx->v, (fx->n + 1) * sizeof e);
    fx->v[fx->n++] = e;
}
const struct m_commit_ans *announced;
int core_commit_answer(struct core *c, uint64_t ns, uint64_t request, const struct m_commit_ans *a,
                       struct core_effects *fx)
{
    (void)c;
    assert_true(a->status == COMMIT_COMMITTED || announced == a);
    if (a->status == COMMIT_COMMITTED)
        cursor = a->sjid;
    for (size_t i = 0; i < nodes_n; i++)
        if (nodes[i].sent == request) {
            nodes[i].sent = 0;
            nodes[i].dirty = a->status != COMMIT_COMMITTED;
            for (size_t k = 0; k < a->rows_n; k++)
                nodes[i].parked |= a->rows[k].node == nodes[i].node;
            if (nodes[i].parked)
                effect(fx,
                       (struct core_effect){
                           .kind = EFFECT_PARKED, .ns = ns, .node = nodes[i].node, .err = -EACCES});
        }
    effect(fx, (struct core_effect){.kind = EFFECT_DONE,
                                    .ns = ns,
                                    .other = request,
                                    .status = (enum commit_status)a->status,
                                    .sjid = a->sjid});
    return 0;
}
bool core_has_base(struct core *c, uint64_t node)
{
    (void)c;
    (void)node;
    return false;
}
int core_name_lost(struct core *c, uint64_t node, int64_t now, struct core_effects *fx)
{
    (void)c;
    (void)node;
    (void)now;
    (void)fx;
    return -ENOENT;
}
int core_block_lost(struct core *c, uint64_t node, const struct block_id *id)
{
    (void)c;
    (void)node;
    (void)id;
    return -ENOENT;
}
int core_apply(struct core *c, uint64_t ns, const struct m_record *r, int64_t now,
               struct core_effects *fx)
{
    (void)c;
    (void)now;
    if (r->mark == MARK_STRANGE)
        return -ESTALE;
    cursor = r->sjid;
    /* a record with our device and a request settles it; one by device 9 forks node 100 to 101 */
    if (r->device == 9)
        effect(fx, (struct core_effect){.kind = EFFECT_FORK, .ns = ns, .node = 100, .other = 101});
    if (r->request)
        for (size_t i = 0; i < nodes_n; i++)
            if (nodes[i].sent == r->request) {
                nodes[i].sent = 0;
                effect(fx, (struct core_effect){.kind = EFFECT_DONE,
                                                .ns = ns,
                                                .other = r->request,
                                                .status = COMMIT_COMMITTED,
                                                .sjid = r->sjid});
            }
    return 0;
}
int core_block_used(struct core *c, const struct block_id *id, bool *referenced, bool *pending)
{
    (void)c;
    (void)id;
    *referenced = true;
    *pending = false;
    return 0;
}
int core_need_request(struct core *c, struct core_need *need, const char **method, struct buf *body)
{
    (void)c;
    need->at = cursor;
    *method = need->kind == NEED_PAGE ? "readdir" : "lookup";
    buf_append(body, "x", 1);
    return 0;
}
_Atomic unsigned rest_pages; /* that a directory has left */
_Atomic unsigned unknown_pages;
int core_unknown_dir(struct core *c, uint64_t ns, uint64_t from, struct core_need *need)
{
    (void)c;
    if (!unknown_pages || ns != NS || from > UNKNOWN_DIR)
        return 0;
    *need =
        (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = UNKNOWN_DIR, .off = unknown_pages};
    return CORE_NEED;
}

int core_dir_rest(struct core *c, uint64_t dir, struct core_need *need)
{
    (void)c;
    if (!rest_pages)
        return 0;
    *need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = dir, .off = rest_pages};
    return CORE_NEED;
}
int core_need_answer(struct core *c, const struct core_need *need, struct bytes body, int64_t now,
                     struct core_effects *fx)
{
    (void)now;
    (void)c;
    (void)body;
    if (need->at != cursor) {
        need_refusals++;
        return -EAGAIN;
    }
    need_answers++;
    size_t merged = need->name[0] == 'm' ? node_find(100) : nodes_n;
    if (merged < nodes_n) { /* directory 100 is merged into 101 */
        nodes[merged].node = 101;
        effect(fx, (struct core_effect){
                       .kind = EFFECT_ALIAS, .ns = need->ns, .node = 100, .other = 101});
    }
    if (need->kind == NEED_PAGE) {
        _Atomic unsigned *left = need->node == UNKNOWN_DIR ? &unknown_pages : &rest_pages;
        assert_true(need->rows > 0 && *left > 0);
        --*left;
    }
    return 0;
}

_Atomic unsigned pasts_forgotten;
int core_past_forgotten(struct core *c, const struct core_need *need)
{
    (void)c;
    assert_int_equal(need->ns, NS);
    pasts_forgotten++;
    return 0;
}

int core_marks(struct core *c, uint64_t ns, size_t max, struct m_mark **out, size_t *n)
{
    (void)c;
    (void)max;
    assert_int_equal(ns, NS);
    *n = 0;
    *out = NULL;
    return 0;
}
int core_journal_other(struct core *c, uint64_t ns, uint64_t head)
{
    (void)c;
    (void)head;
    assert_int_equal(ns, NS);
    core_other = true;
    return 0;
}
_Atomic unsigned journal_ends;
int core_journal_ends(struct core *c, uint64_t ns, uint64_t head, struct core_effects *fx)
{
    (void)c;
    (void)fx;
    assert_int_equal(ns, NS);
    core_head = head;
    core_other = false;
    journal_ends++;
    return 0;
}
_Atomic unsigned files_missing; /* after the comparison with a restored server */
struct core_lost core_resync_lost(const struct core_resync *r)
{
    (void)r;
    return (struct core_lost){.missing = files_missing};
}
int core_lost_told(struct core *c, uint64_t ns, int64_t now, struct core_lost *out)
{
    (void)c;
    (void)now;
    assert_int_equal(ns, NS);
    *out = (struct core_lost){.missing = files_told};
    return files_told ? 0 : -ENOENT;
}
int core_pending_blocks(struct core *c, uint64_t ns,
                        int (*fn)(void *arg, const struct block_id *v, size_t n), void *arg)
{
    (void)c;
    assert_int_equal(ns, NS);
    int err = 0;
    for (size_t i = 0; !err && i < nodes_n; i++)
        err = nodes[i].dirty ? fn(arg, &nodes[i].id, 1) : 0;
    return err;
}

/* A comparison of two questions. */
struct core_resync {
    uint64_t at;
    unsigned asked, answered;
};
_Atomic unsigned comparisons, open_requests, answers_not_taken;

int core_requests_from(struct core *c, uint64_t ns, uint64_t *from)
{
    (void)c;
    (void)ns;
    *from = 7;
    return open_requests ? 0 : -ENOENT;
}
int core_requests_answer(struct core *c, uint64_t ns, const struct m_requests_ans *a, uint64_t at,
                         uint64_t mark, struct core_effects *fx)
{
    (void)c;
    (void)mark;
    (void)fx;
    assert_int_equal(ns, NS);
    assert_true(at > cursor);
    open_requests -= (unsigned)a->requests_n;
    return 0;
}
int core_parted_at(struct core *c, uint64_t ns, uint64_t common, uint64_t head, uint64_t floor,
                   uint64_t *at)
{
    (void)c;
    assert_int_equal(ns, NS);
    *at = common < floor ? head : common;
    return 0;
}
int core_resync_new(struct core_resync **out, struct core *c, uint64_t ns, uint64_t at,
                    uint64_t mark, uint64_t common)
{
    (void)c;
    (void)mark;
    (void)common;
    assert_int_equal(ns, NS);
    assert_int_equal(open_requests, 0);
    *out = calloc(1, sizeof **out);
    (*out)->at = at;
    return 0;
}
void core_resync_free(struct core_resync *r)
{
    free(r);
}
int core_resync_request(struct core_resync *r, unsigned *slot, const char **method,
                        struct buf *body)
{
    if (r->answered == 2)
        return -ENOENT;
    if (r->asked == 2)
        return -EAGAIN;
    *slot = r->asked++;
    *method = "readdir";
    buf_append(body, "x", 1);
    return 0;
}
void core_resync_again(struct core_resync *r, unsigned slot)
{
    assert_true(slot < 2);
    r->asked--;
}
int core_resync_answer(struct core_resync *r, unsigned slot, struct bytes body)
{
    (void)body;
    assert_true(slot < 2);
    r->answered++;
    return answers_not_taken && answers_not_taken-- ? -EIO : 0; /* not asked again all the same */
}
const struct m_record *core_resync_record(const struct core_resync *r)
{
    static const struct m_record none;
    (void)r;
    return &none;
}
int core_resync_apply(struct core_resync *r, int64_t now, struct core_effects *fx)
{
    (void)now;
    (void)fx;
    assert_int_equal(r->answered, 2);
    cursor = r->at;
    core_other = false;
    files_told = files_missing;
    for (size_t i = 0; i < nodes_n; i++) /* what was committed is to be sent again */
        nodes[i].dirty = true;
    comparisons++;
    return 0;
}
