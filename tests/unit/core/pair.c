// SPDX-License-Identifier: Apache-2.0
#include "pair.h"
#include "warm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define START_MS 1700000000000
#define ROUNDS_MAX 40 /* of plan, send, follow: more never end */

/* The tree that every test begins with. tag 0: a directory. */
static const struct {
    const char *path;
    unsigned tag;
} base[] = {
    {"d", 0},     {"d/f", 1},   {"d/h", 2},     {"d/s", 0},     {"d/s/g", 3},
    {"d/s/v", 0}, {"d/s/y", 0}, {"d/s/v/w", 4}, {"d/s/v/x", 0}, {"d/t", 0},
    {"d/i", 0},   {"d/j", 0},   {"d/l", 8},     {"e", 0},       {"e/o", 5},
    {"e/p", 6},   {"e/q", 0},   {"e/u", 0},     {"e/q/k", 7},
};
#define BASES (sizeof base / sizeof *base)
static uint64_t base_node[BASES];

/* ---- the installation ------------------------------------------------------------------------ */
static struct bytes command(struct pair *p, struct arena *ar, const char *const *words)
{
    static const struct meta_caller admin = {.admin = true};
    struct m_word v[16];
    struct m_command_req q = {.words = v};
    struct m_command_ans a;
    for (; words[q.words_n]; q.words_n++)
        v[q.words_n].text = bytes_str(words[q.words_n]);
    assert_int_equal(meta_command(p->meta, &admin, &q, p->now_ms, &a, ar), 0);
    assert_int_equal(a.exit_status, 0);
    return a.text;
}

/* A token's line without its end. */
static struct bytes line(struct bytes text)
{
    const uint8_t *end = memchr(text.p, '\n', text.n);
    return bytes_of(text.p, end ? (size_t)(end - text.p) : text.n);
}

static void meta_start(struct pair *p, struct simvfs *disk)
{
    char why[512] = "";
    struct meta_options o = {
        .path = "meta.db", .vfs = simvfs_name(disk), .marks_below = p->marks_below};
    if (meta_open(&p->meta, &o, why))
        fail_msg("meta_open: %s", why);
}

static void enrol(struct pair *p, struct device *d, const char *name)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct m_login_ans a;
    struct m_login_req q = {
        .account = bytes_str("alice"),
        .token = line(
            command(p, &ar, (const char *const[]){"admin", "account", "token", "alice", NULL})),
        .device_name = bytes_str(name)};
    if (meta_login(p->meta, &q, p->now_ms, &a, &ar, why))
        fail_msg("login: %s", why);
    assert_int_equal(meta_authenticate(p->meta, arena_str(&ar, a.credential), &d->id), 0);
}

static void furnish(struct pair *p)
{
    static const char *const names[DEVICES] = {"here", "there", "serial", "fresh", "maker"};
    cleanup_arena struct arena ar = {0};
    char why[512] = "", credential[META_CREDENTIAL_MAX];
    if (meta_init(p->meta, p->now_ms, credential, why))
        fail_msg("meta_init: %s", why);
    command(p, &ar, (const char *const[]){"admin", "account", "add", "alice", "--no-token", NULL});
    struct m_join_req q = {
        .token = line(command(p, &ar, (const char *const[]){"admin", "server", "add", "hq", NULL})),
        .url = bytes_str("http://127.0.0.1:1"),
        .incarnation = bytes_of("block server one", 16)};
    struct m_join_ans a;
    if (meta_join(p->meta, &(struct meta_caller){0}, &q, p->now_ms, &a, &ar, why))
        fail_msg("join: %s", why);
    p->server = a.server;
    p->key.id = a.key_id;
    memcpy(p->key.key, a.key.p, TOKEN_KEY_LEN);
    command(p, &ar, (const char *const[]){"admin", "assign", "alice", "hq", NULL});
    for (size_t i = 0; i < DEVICES; i++)
        enrol(p, &p->d[i], names[i]);
}

/* ---- devices --------------------------------------------------------------------------------- */
static void device_session(struct pair *p, struct device *d)
{
    cleanup_arena struct arena ar = {0};
    struct core_effects fx = {0};
    char why[512] = "";
    int64_t requests = 0, nodes = 0;
    uint8_t incarnation[16] = {(uint8_t)(1 + (d - p->d))};
    struct m_session_ans a;
    (void)tree_get(d->tree, "request_limit", &requests); /* absent in a new tree */
    (void)tree_get(d->tree, "node_limit", &nodes);
    struct m_session_req q = {.incarnation = bytes_of(incarnation, 16),
                              .requests_used = (uint64_t)requests,
                              .nodes_used = (uint64_t)nodes};
    if (meta_session(p->meta, &d->id, &q, p->now_ms, &a, &ar, why))
        fail_msg("session: %s", why);
    assert_false(a.cloned);
    assert_int_equal(core_session(d->core, &a, &fx), 0);
    core_effects_free(&fx);
    assert_int_equal(core_root(d->core, &p->ns, &p->root), 0);
}

static bool in_use(void *ctx, uint64_t node)
{
    const struct device *d = ctx;
    return d->open == node;
}

static void device_start(struct pair *p, struct device *d)
{
    static const char *const names[DEVICES] = {"here", "there", "serial", "fresh", "maker"};
    char why[512] = "";
    if (tree_open(&d->tree, "tree.db", simvfs_name(d->disk), why))
        fail_msg("tree_open: %s", why);
    struct core_options o = {.device = (uint32_t)d->id.device,
                             .device_name = names[d - p->d],
                             .clean_start = true,
                             .bounds = p->bounds,
                             .hooks = {.ctx = d, .in_use = in_use}};
    d->open = 0;
    assert_int_equal(core_new(&d->core, d->tree, &o), 0);
    d->who = (struct core_who){.uid = 1000, .gid = 100, .now = START_MS * 1000000};
    d->conflicts = d->resyncs = 0;
    d->moved = 0;
    memset(d->loads, 0, sizeof d->loads);
}

static void device_stop(struct device *d)
{
    core_plan_free(&d->plan);
    d->planned = false;
    if (d->core)
        core_free(d->core);
    d->core = NULL;
    d->tree = NULL;
}

/* What it means to a program that something became of its node does not matter here. */
static void effects(struct device *d, struct core_effects *fx)
{
    for (size_t i = 0; i < fx->n; i++) {
        if (fx->v[i].kind == EFFECT_PARKED)
            fail_msg("a node is parked: %s", strerror(-fx->v[i].err));
        d->moved = fx->v[i].kind == EFFECT_MOVED ? fx->v[i].node : d->moved;
    }
    core_effects_free(fx);
    *fx = (struct core_effects){0};
}

#define ANSWER(name)                                                                               \
    static int answer_##name(struct pair *p, struct device *d, struct bytes body, struct buf *out, \
                             struct arena *ar, char *why)                                          \
    {                                                                                              \
        struct m_##name##_req q;                                                                   \
        struct m_##name##_ans a;                                                                   \
        int err = msg_decode(&m_##name##_req_desc, &q, body.p, body.n, MSG_STRICT, ar, NULL);      \
        if (!err)                                                                                  \
            err = meta_##name(p->meta, &d->id, &q, &a, ar, why);                                   \
        if (!err)                                                                                  \
            msg_encode(&m_##name##_ans_desc, &a, out);                                             \
        return err;                                                                                \
    }
ANSWER(lookup)
ANSWER(readdir)
ANSWER(node)
ANSWER(extents)

static void ask(struct pair *p, struct device *d, const char *method, struct bytes body,
                struct buf *out)
{
    static const struct {
        const char *method;
        int (*fn)(struct pair *p, struct device *d, struct bytes body, struct buf *out,
                  struct arena *ar, char *why);
    } methods[] = {{"lookup", answer_lookup},
                   {"readdir", answer_readdir},
                   {"node", answer_node},
                   {"extents", answer_extents}};
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    for (size_t i = 0; i < 4; i++)
        if (!strcmp(method, methods[i].method) && methods[i].fn(p, d, body, out, &ar, why))
            fail_msg("%s: %s", method, why);
}

void device_load(struct pair *p, struct device *d)
{
    cleanup_buf struct buf body = {0}, out = {0};
    struct core_effects fx = {0};
    const char *method;
    d->loads[d->need.kind]++;
    assert_int_equal(core_need_request(d->core, &d->need, &method, &body), 0);
    ask(p, d, method, bytes_of(body.p, body.n), &out);
    assert_int_equal(core_need_answer(d->core, &d->need, bytes_of(out.p, out.n), d->who.now, &fx),
                     0);
    effects(d, &fx);
}

void device_walk(struct pair *p, struct device *d, const char *path)
{
    struct core_attr a = {.node = p->root};
    assert_int_equal(DEVICE_DO(p, d, core_getattr(d->core, p->root, &a, &d->need)), 0);
    while (*path) {
        size_t n = strcspn(path, "/");
        uint64_t dir = a.node;
        assert_int_equal(
            DEVICE_DO(p, d, core_lookup(d->core, dir, bytes_of(path, n), &a, &d->need)), 0);
        path += n + (path[n] == '/');
    }
}

/* ---- commits --------------------------------------------------------------------------------- */
bool device_plan(struct pair *p, struct device *d)
{
    assert_false(d->planned);
    int err = DEVICE_DO(p, d, core_plan(d->core, p->ns, NULL, 0, INT64_MAX, &d->plan, &d->need));
    assert_true(err == 0 || err == -EAGAIN);
    d->planned = err == 0 && d->plan.rows;
    return d->planned;
}

void device_resend(struct pair *p, struct device *d)
{
    assert_int_equal(core_resend(d->core, p->ns, 0, &d->plan), 0);
    d->planned = true;
}

static void commit(struct pair *p, struct device *d, struct m_commit_ans *a, struct arena *ar)
{
    char why[512] = "";
    const struct core_plan *plan = &d->plan;
    struct m_receipt_bytes *v = arena_alloc(ar, (plan->ids_n + 1) * sizeof *v);
    struct m_commit_req q = {.ns = p->ns,
                             .request = plan->request,
                             .lowest_open = plan->lowest_open,
                             .cursor = plan->cursor,
                             .mark = plan->mark,
                             .again = plan->again,
                             .targets = &p->server,
                             .targets_n = 1,
                             .ids = plan->ids,
                             .ids_n = plan->ids_n,
                             .receipts = v,
                             .receipts_n = plan->ids_n,
                             .changes = bytes_of(plan->changes.p, plan->changes.n)};
    for (size_t i = 0; i < plan->ids_n; i++) {
        cleanup_buf struct buf token = {0};
        struct m_receipt r = {.server = p->server,
                              .ns = p->ns,
                              .block = plan->ids[i].block,
                              .len = plan->ids[i].len,
                              .incarnation = bytes_of("block server one", 16),
                              .time_ms = (uint64_t)p->now_ms,
                              .key_id = p->key.id};
        receipt_seal(&r, &p->key, &token);
        v[i].receipt = arena_bytes(ar, token.p, token.n);
    }
    assert_true(d->planned);
    if (meta_commit(p->meta, &d->id, &q, p->now_ms, a, ar, why))
        fail_msg("commit: %s", why);
    bool late = a->status == COMMIT_REFUSED && p->forgotten;
    if (a->status != COMMIT_COMMITTED && a->status != COMMIT_CONFLICT && !late)
        fail_msg("a commit ended with status %u: %.*s", (unsigned)a->status, (int)a->reason.n,
                 (const char *)a->reason.p);
}

void device_send(struct pair *p, struct device *d)
{
    cleanup_arena struct arena ar = {0};
    struct core_effects fx = {0};
    struct m_commit_ans a;
    commit(p, d, &a, &ar);
    d->conflicts += a.status == COMMIT_CONFLICT;
    assert_int_equal(core_commit_answer(d->core, p->ns, d->plan.request, &a, &fx), 0);
    effects(d, &fx);
    core_plan_free(&d->plan);
    d->planned = false;
}

void device_send_lost(struct pair *p, struct device *d)
{
    cleanup_arena struct arena ar = {0};
    struct m_commit_ans a;
    commit(p, d, &a, &ar);
    core_plan_free(&d->plan);
    d->planned = false;
}

void device_lose(struct pair *p, struct device *d, const struct simvfs *kept)
{
    simvfs_crash(d->disk);
    device_stop(d);
    simvfs_restart(d->disk, false);
    simvfs_copy(d->disk, kept);
    device_start(p, d);
    device_session(p, d);
}

void pair_server_from(struct pair *p, const struct simvfs *disk)
{
    meta_close(p->meta);
    simvfs_reset(p->disk, 1);
    simvfs_copy(p->disk, disk);
    meta_start(p, p->disk);
}

void pair_forget(struct pair *p)
{
    bool more = true;
    p->forgotten = true;
    while (more)
        assert_int_equal(meta_prune(p->meta, p->now_ms + 1, 0, &more), 0);
    assert_int_equal(meta_head(p->meta, &p->d[MAKER].id, p->ns, &p->floor), 0);
}

/* ---- a journal that does not reach back ------------------------------------------------------ */
static void requests(struct pair *p, struct device *d, uint64_t at, uint64_t mark)
{
    cleanup_arena struct arena ar = {0};
    struct core_effects fx = {0};
    char why[512] = "";
    struct m_requests_req q = {.ns = p->ns};
    struct m_requests_ans a;
    if (core_requests_from(d->core, p->ns, &q.from))
        return;
    if (meta_requests(p->meta, &d->id, &q, &a, &ar, why))
        fail_msg("requests: %s", why);
    assert_int_equal(core_requests_answer(d->core, p->ns, &a, at, mark, &fx), 0);
    effects(d, &fx);
}

void device_requests(struct pair *p, struct device *d)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct core_ns n;
    struct m_list_ans a;
    assert_int_equal(core_ns_get(d->core, p->ns, &n), 0);
    const struct m_list_req q = {.ns = p->ns, .from = n.cursor};
    assert_int_equal(meta_list(p->meta, &d->id, &q, &a, &ar, why), 0);
    assert_true(a.resync > n.cursor);
    requests(p, d, a.resync, a.mark);
}

static void resync(struct pair *p, struct device *d, uint64_t at, uint64_t mark, uint64_t common)
{
    struct core_resync *r;
    struct core_effects fx = {0};
    requests(p, d, at, mark);
    assert_int_equal(core_resync_new(&r, d->core, p->ns, at, mark, common), 0);
    struct {
        unsigned slot;
        struct buf answer;
    } v[RESYNC_QUESTIONS_MAX + 1];
    int err = 0;
    while (err != -ENOENT) { /* answers come in another order than they were asked for */
        size_t n = 0;
        for (;; n++) {
            cleanup_buf struct buf body = {0};
            const char *method;
            err = core_resync_request(r, &v[n].slot, &method, &body);
            if (err)
                break;
            assert_true(n < RESYNC_QUESTIONS_MAX);
            v[n].answer = (struct buf){0};
            ask(p, d, method, bytes_of(body.p, body.n), &v[n].answer);
        }
        assert_true(err == -ENOENT ? n == 0 : err == -EAGAIN && n > 0);
        if (p->meanwhile && n && device_plan(p, d))
            device_send(p, d);
        void (*others)(struct pair *) = n ? p->others : NULL;
        if (others) {
            p->others = NULL;
            others(p);
        }
        for (; n > 0; n--) {
            struct buf *b = &v[n - 1].answer;
            assert_int_equal(core_resync_answer(r, v[n - 1].slot, bytes_of(b->p, b->n)), 0);
            buf_free(b);
        }
    }
    if (p->before_apply)
        p->before_apply(p, d);
    d->who.now += 1000;
    assert_int_equal(core_resync_apply(r, d->who.now, &fx), 0);
    effects(d, &fx);
    d->lost = core_resync_lost(r);
    core_resync_free(r);
    d->resyncs++;
}

void device_follow(struct pair *p, struct device *d)
{
    cleanup_arena struct arena ar = {0};
    char why[512] = "";
    struct core_ns n;
    struct m_list_ans a;
    assert_int_equal(core_ns_get(d->core, p->ns, &n), 0);
    struct m_list_req q = {.ns = p->ns, .from = n.cursor};
    struct m_mark *marks;
    assert_int_equal(core_marks(d->core, p->ns, MARKS_MAX, &marks, &q.marks_n), 0);
    q.marks = marks;
    int err = meta_list(p->meta, &d->id, &q, &a, &ar, why);
    free(marks);
    if (err)
        fail_msg("list: %s", why);
    if (a.other || a.doubt) {
        uint64_t at;
        assert_int_equal(core_journal_other(d->core, p->ns, a.resync), 0);
        assert_int_equal(core_parted_at(d->core, p->ns, a.common, a.resync, p->floor, &at), 0);
        resync(p, d, at, a.mark, a.common);
        device_follow(p, d);
    } else if (a.resync) {
        resync(p, d, a.resync, a.mark, 0);
    } else if (a.head < n.head) { /* what was heard of is lost */
        struct core_effects fx = {0};
        assert_int_equal(core_journal_ends(d->core, p->ns, a.head, &fx), 0);
        effects(d, &fx);
    }
    for (size_t i = 0; i < a.records_n; i++) {
        struct core_effects fx = {0};
        d->who.now += 1000;
        assert_int_equal(core_apply(d->core, p->ns, &a.records[i], d->who.now, &fx), 0);
        effects(d, &fx);
    }
}

void device_commit(struct pair *p, struct device *d)
{
    for (unsigned i = 0; d->planned || device_plan(p, d); i++) {
        if (i == ROUNDS_MAX)
            fail_msg("there is always something to send");
        device_send(p, d);
        device_follow(p, d);
    }
}

void pair_settle(struct pair *p)
{
    for (size_t k = 0; k < 3; k++) {
        device_follow(p, &p->d[THERE]);
        device_commit(p, &p->d[THERE]);
        device_follow(p, &p->d[HERE]);
        device_commit(p, &p->d[HERE]);
    }
    for (size_t i = HERE; i <= THERE; i++) {
        struct core_ns n;
        device_follow(p, &p->d[i]);
        assert_int_equal(core_ns_status(p->d[i].core, p->ns, &n), 0);
        assert_int_equal(n.pending_nodes, 0);
    }
}

/* ---- the base tree --------------------------------------------------------------------------- */
uint64_t pair_base(const struct pair *p, const char *path)
{
    for (size_t i = 0; i < BASES; i++)
        if (!strcmp(base[i].path, path))
            return base_node[i];
    return *path ? 0 : p->root;
}

const char *pair_label(const struct pair *p, uint64_t node)
{
    for (size_t i = 0; i < BASES; i++)
        if (base_node[i] == node)
            return base[i].path;
    return node == p->root ? "" : NULL;
}

static void base_make(struct pair *p, struct device *d)
{
    struct core_attr a;
    assert_int_equal(DEVICE_DO(p, d, core_getattr(d->core, p->root, &a, &d->need)), 0);
    for (size_t i = 0; i < BASES; i++) {
        char parent[64];
        const char *slash = strrchr(base[i].path, '/'), *name = slash ? slash + 1 : base[i].path;
        snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - base[i].path) : 0,
                 base[i].path);
        enum node_type type = base[i].tag ? NODE_REG : NODE_DIR;
        assert_int_equal(
            DEVICE_DO(p, d,
                      core_create(d->core, &d->who, pair_base(p, parent), bytes_str(name), type,
                                  base[i].tag ? 0644 : 0755, 0, bytes_of(NULL, 0), &a, &d->need)),
            0);
        base_node[i] = a.node;
        struct m_extent e = {.len = 16, .block = {{0}}};
        e.block.b[32] = (uint8_t)base[i].tag;
        const struct extent_list l = {.v = &e, .n = 1};
        if (base[i].tag)
            assert_int_equal(core_write(d->core, &d->who, a.node, 0, 16, &l, true), 0);
    }
    device_commit(p, d);
}

struct pair *pair_new(void)
{
    struct pair *p = calloc(1, sizeof *p);
    struct dump *all = calloc(1, sizeof *all);
    assert_non_null(p);
    assert_non_null(all);
    static const char *const disks[DEVICES] = {"here", "there", "serial", "fresh", "maker"};
    p->now_ms = START_MS;
    p->disk = simvfs_new("server");
    p->template = simvfs_new("template");
    p->known = simvfs_new("known");
    p->unknown = simvfs_new("unknown");
    p->empty = simvfs_new("empty");
    for (size_t i = 0; i < DEVICES; i++) {
        p->d[i].disk = simvfs_new(disks[i]);
        simvfs_reset(p->d[i].disk, i);
    }
    simvfs_reset(p->disk, 9);
    meta_start(p, p->disk);
    furnish(p);
    device_start(p, &p->d[MAKER]);
    device_session(p, &p->d[MAKER]);
    base_make(p, &p->d[MAKER]);
    device_stop(&p->d[MAKER]);
    device_start(p, &p->d[FRESH]);
    device_stop(&p->d[FRESH]);
    simvfs_copy(p->empty, p->d[FRESH].disk);
    device_start(p, &p->d[HERE]); /* a tree that begins now */
    device_session(p, &p->d[HERE]);
    device_stop(&p->d[HERE]);
    simvfs_copy(p->unknown, p->d[HERE].disk);
    device_start(p, &p->d[HERE]);
    device_dump(p, &p->d[HERE], all);
    device_stop(&p->d[HERE]);
    simvfs_copy(p->known, p->d[HERE].disk);
    meta_close(p->meta);
    p->meta = NULL;
    simvfs_copy(p->template, p->disk);
    free(all);
    return p;
}

void pair_free(struct pair *p)
{
    struct simvfs *const all[] = {p->disk, p->template, p->known, p->unknown, p->empty};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        warm_free(all[i]);
        simvfs_free(all[i]);
    }
    for (size_t i = 0; i < DEVICES; i++) {
        warm_free(p->d[i].disk);
        simvfs_free(p->d[i].disk);
    }
    free(p);
}

void pair_begin(struct pair *p, bool known)
{
    p->floor = 0;
    simvfs_reset(p->disk, 1);
    simvfs_copy(p->disk, p->template);
    meta_start(p, p->disk);
    simvfs_reset(p->d[FRESH].disk, FRESH);
    simvfs_copy(p->d[FRESH].disk, p->empty);
    for (size_t i = HERE; i <= THERE; i++) {
        simvfs_reset(p->d[i].disk, i);
        simvfs_copy(p->d[i].disk, i == HERE && !known ? p->unknown : p->known);
        device_start(p, &p->d[i]);
        device_session(p, &p->d[i]);
    }
}

void pair_alone(struct pair *p)
{
    simvfs_reset(p->d[SERIAL].disk, SERIAL);
    simvfs_copy(p->d[SERIAL].disk, p->known);
    device_start(p, &p->d[SERIAL]);
}

/* Nobody looks at the disks any more: connections outlive a crash (warm.c). */
void pair_end(struct pair *p)
{
    for (size_t i = 0; i < DEVICES; i++) {
        simvfs_crash(p->d[i].disk);
        device_stop(&p->d[i]);
    }
    simvfs_crash(p->disk);
    if (p->meta)
        meta_close(p->meta);
    p->meta = NULL;
}

/* ---- trees as lists -------------------------------------------------------------------------- */
static void dump_value(struct pair *p, struct device *d, const struct core_attr *a, char *out,
                       size_t cap)
{
    cleanup_buf struct buf b = {0}, names = {0};
    cleanup_extents struct extent_list l = {0};
    uint64_t node = a->node;
    buf_printf(&b, "type %d mode %o uid %u", (int)a->type, a->mode, a->uid);
    assert_int_equal(DEVICE_DO(p, d, core_listxattr(d->core, node, &names, &d->need)), 0);
    for (const char *x = (const char *)names.p; names.n && x < (const char *)names.p + names.n;
         x += strlen(x) + 1) {
        cleanup_buf struct buf v = {0};
        assert_int_equal(core_getxattr(d->core, node, bytes_str(x), &v, &d->need), 0);
        buf_printf(&b, " %s=%.*s", x, (int)v.n, (const char *)v.p);
    }
    if (a->type == NODE_SYMLINK) {
        char to[16] = "";
        size_t len;
        assert_int_equal(core_readlink(d->core, node, to, sizeof to - 1, &len, &d->need), 0);
        buf_printf(&b, " -> %s", to);
    }
    if (a->type == NODE_REG) {
        buf_printf(&b, " size %llu:", (unsigned long long)a->size);
        assert_int_equal(
            DEVICE_DO(p, d, core_extents(d->core, node, 0, FILE_SIZE_MAX, &l, &d->need)), 0);
        for (size_t i = 0; i < l.n; i++)
            buf_printf(&b, " %llu+%llu=#%u", (unsigned long long)l.v[i].off,
                       (unsigned long long)l.v[i].len, l.v[i].block.b[32]);
    }
    snprintf(out, cap, "%.*s", (int)b.n, (const char *)b.p);
}

struct dumping {
    struct dump *out;
    const char *dir, *key;
};

bool pair_unmark(const char *path, char *out, size_t cap)
{
    static const char begin[] = " (conflicted copy, ";
    const char *mark = strstr(path, begin), *end = mark ? strchr(mark, ')') : NULL;
    snprintf(out, cap, "%.*s%s", end ? (int)(mark - path) : (int)strlen(path), path,
             end ? end + 1 : "");
    return end != NULL;
}

static bool dump_add(void *arg, const struct core_dirent *e)
{
    struct dumping *w = arg;
    assert_true(w->out->n < DUMP_MAX);
    struct dump_line *l = &w->out->v[w->out->n++];
    snprintf(l->path, sizeof l->path, "%s%s%.*s", w->dir, *w->dir ? "/" : "", (int)e->name.n,
             (const char *)e->name.p);
    snprintf(l->key, sizeof l->key, "%s/%.*s", w->key, (int)e->name.n, (const char *)e->name.p);
    l->node = e->node;
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct dump_line *)a)->path, ((const struct dump_line *)b)->path);
}

void device_dump(struct pair *p, struct device *d, struct dump *out)
{
    struct dumping w = {.out = out, .dir = "", .key = ""};
    char key[512];
    struct core_attr a;
    *out = (struct dump){0};
    assert_int_equal(DEVICE_DO(p, d, core_getattr(d->core, p->root, &a, &d->need)), 0);
    assert_int_equal(DEVICE_DO(p, d, core_readdir(d->core, p->root, 0, dump_add, &w, &d->need)), 0);
    for (size_t i = 0; i < out->n; i++) {
        struct dump_line *l = &out->v[i];
        const char *label = pair_label(p, l->node);
        assert_int_equal(DEVICE_DO(p, d, core_getattr(d->core, l->node, &a, &d->need)), 0);
        l->nlink = a.nlink;
        snprintf(l->label, sizeof l->label, "%s", label ? label : "new");
        dump_value(p, d, &a, l->value, sizeof l->value);
        w.dir = l->path;
        pair_unmark(l->path, key, sizeof key);
        w.key = label ? label : key;
        if (a.type == NODE_DIR)
            assert_int_equal(
                DEVICE_DO(p, d, core_readdir(d->core, l->node, 0, dump_add, &w, &d->need)), 0);
    }
    qsort(out->v, out->n, sizeof out->v[0], by_path);
}

const struct dump_line *dump_find(const struct dump *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->v[i].key, key))
            return &t->v[i];
    return NULL;
}

void dump_print(const char *title, const struct dump *t)
{
    print_message("  %s:\n", title);
    for (size_t i = 0; i < t->n; i++)
        print_message("    %s [%s] nlink %u %s\n", t->v[i].path, t->v[i].label, t->v[i].nlink,
                      t->v[i].value);
}

void pair_fresh(struct pair *p)
{
    device_start(p, &p->d[FRESH]);
    device_session(p, &p->d[FRESH]);
}
