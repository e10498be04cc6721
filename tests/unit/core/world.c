// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define START_NS 1700000000000000000

/* ---- life ----------------------------------------------------------------------------------- */
static void on_content_changes(void *ctx, uint64_t node, uint64_t off, uint64_t len)
{
    struct world *w = ctx;
    (void)node;
    (void)off;
    (void)len;
    w->changes_seen = true;
}

static bool on_may_commit(void *ctx, uint64_t node)
{
    (void)node;
    return !((struct world *)ctx)->unfinished;
}

static bool on_in_use(void *ctx, uint64_t node)
{
    return ((struct world *)ctx)->open_node == node;
}

static bool on_in_tree(void *ctx, uint64_t node)
{
    return ((struct world *)ctx)->in_memory != node;
}

static bool on_claimed(void *ctx, uint64_t parent, struct bytes name)
{
    const char *claim = ((struct world *)ctx)->claim;
    (void)parent;
    return claim && bytes_equal(name, bytes_str(claim));
}

static void start(struct world *w)
{
    char why[512] = "";
    assert_int_equal(tree_open(&w->tree, "tree.db", simvfs_name(w->disk), why), 0);
    struct core_options o = {.device = w->device,
                             .device_name = "mine",
                             .clean_start = true,
                             .bounds = w->bounds,
                             .hooks = {.ctx = w,
                                       .content_changes = on_content_changes,
                                       .may_commit = on_may_commit,
                                       .in_use = on_in_use,
                                       .in_tree = on_in_tree,
                                       .claimed = on_claimed}};
    assert_int_equal(core_new(&w->core, w->tree, &o), 0);
}

void world_session(struct world *w, uint64_t head, enum role role)
{
    struct m_namespace n = {
        .id = NS, .name = bytes_str("home"), .root = ROOT, .role = role, .head = head};
    struct m_session_ans a = {.device = 1,
                              .account = bytes_str("alice"),
                              .namespaces = &n,
                              .namespaces_n = 1,
                              .root_ns = NS};
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
}

struct world *world_new(bool whole)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->device = 1;
    w->disk = simvfs_new("unit");
    simvfs_reset(w->disk, 1);
    w->who = (struct core_who){.uid = 1000, .gid = 100, .now = START_NS};
    start(w);
    world_session(w, 0, ROLE_EDITOR);
    struct core_attr a;
    assert_int_equal(core_getattr(w->core, ROOT, &a, &w->need), CORE_NEED);
    struct m_inode n = {.node = ROOT, .type = NODE_DIR, .mode = 0755, .nlink = 2};
    assert_int_equal(load_node(w, &n, NULL, 0), 0);
    if (whole) {
        w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = ROOT};
        assert_int_equal(load_page(w, NULL, 0, false), 0);
    }
    return w;
}

void world_free(struct world *w)
{
    core_free(w->core);
    core_effects_free(&w->fx);
    core_plan_free(&w->plan);
    arena_free(&w->plan_arena);
    simvfs_free(w->disk);
    free(w);
}

void world_restart(struct world *w, enum world_end how)
{
    if (how != END_CLEAN)
        simvfs_crash(w->disk);
    core_free(w->core);
    if (how != END_CLEAN)
        simvfs_restart(w->disk, how == END_POWER);
    start(w);
}

/* ---- programs ---------------------------------------------------------------------------------
 */
struct bytes name_of(const char *s)
{
    return bytes_str(s);
}

int try_make(struct world *w, uint64_t parent, const char *name, enum node_type type,
             uint64_t *node)
{
    struct core_attr a = {0};
    struct bytes target = type == NODE_SYMLINK ? bytes_str("target") : bytes_of(NULL, 0);
    w->who.now += 1000;
    int err =
        core_create(w->core, &w->who, parent, name_of(name), type, 0644, 0, target, &a, &w->need);
    *node = a.node;
    return err;
}

uint64_t make(struct world *w, uint64_t parent, const char *name, enum node_type type)
{
    uint64_t node;
    assert_int_equal(try_make(w, parent, name, type, &node), 0);
    return node;
}

int lookup(struct world *w, uint64_t parent, const char *name, struct core_attr *a)
{
    return core_lookup(w->core, parent, name_of(name), a, &w->need);
}

uint64_t node_at(struct world *w, uint64_t parent, const char *name)
{
    struct core_attr a;
    int err = lookup(w, parent, name, &a);
    assert_true(err == 0 || err == -ENOENT);
    return err ? 0 : a.node;
}

struct core_attr attr(struct world *w, uint64_t node)
{
    struct core_attr a;
    assert_int_equal(core_getattr(w->core, node, &a, &w->need), 0);
    return a;
}

void assert_no_node(struct world *w, uint64_t node)
{
    struct core_attr a;
    assert_int_equal(core_getattr(w->core, node, &a, &w->need), -ESTALE);
}

int rename_to(struct world *w, uint64_t from, const char *a, uint64_t to, const char *b,
              unsigned flags)
{
    uint64_t replaced;
    w->who.now += 1000;
    return core_rename(w->core, &w->who, from, name_of(a), to, name_of(b), flags, &replaced,
                       &w->need);
}

int remove_name(struct world *w, uint64_t parent, const char *name, bool dir)
{
    uint64_t node;
    w->who.now += 1000;
    return core_unlink(w->core, &w->who, parent, name_of(name), dir, &node, &w->need);
}

struct block_id block(unsigned tag)
{
    struct block_id id = {{0}};
    id.b[1] = 0xb1;
    id.b[31] = (uint8_t)(tag >> 8);
    id.b[32] = (uint8_t)tag;
    return id;
}

struct m_extent extent(uint64_t off, uint64_t len, unsigned tag, uint64_t block_off)
{
    return (struct m_extent){.off = off, .len = len, .block = block(tag), .block_off = block_off};
}

void write_block(struct world *w, uint64_t node, uint64_t off, uint64_t len, unsigned tag)
{
    struct m_extent e = extent(off, len, tag, 0);
    const struct extent_list with = {.v = &e, .n = tag ? 1 : 0};
    w->who.now += 1000;
    assert_int_equal(core_write(w->core, &w->who, node, off, len, &with, true), 0);
}

void assert_content(struct world *w, uint64_t node, const char *expected)
{
    struct extent_list l cleanup_extents = {0};
    cleanup_buf struct buf b = {0};
    assert_int_equal(core_extents(w->core, node, 0, FILE_SIZE_MAX, &l, &w->need), 0);
    for (size_t i = 0; i < l.n; i++)
        buf_printf(&b, "%s%llu+%llu=%u@%llu", i ? " " : "", (unsigned long long)l.v[i].off,
                   (unsigned long long)l.v[i].len,
                   (unsigned)(l.v[i].block.b[31] << 8 | l.v[i].block.b[32]),
                   (unsigned long long)l.v[i].block_off);
    buf_append(&b, "", 1);
    assert_string_equal((const char *)b.p, expected);
}

void set_mode(struct world *w, uint64_t node, uint32_t mode)
{
    struct core_attr a = {.mode = mode};
    w->who.now += 1000;
    assert_int_equal(core_setattr(w->core, &w->who, node, CORE_SET_MODE, &a, &w->need), 0);
}

int set_xattr(struct world *w, uint64_t node, const char *name, const char *value, unsigned flags)
{
    w->who.now += 1000;
    return core_setxattr(w->core, &w->who, node, name_of(name),
                         value ? bytes_str(value) : bytes_of(NULL, 0), flags, &w->need);
}

void assert_xattr(struct world *w, uint64_t node, const char *name, const char *value)
{
    cleanup_buf struct buf b = {0};
    int err = core_getxattr(w->core, node, name_of(name), &b, &w->need);
    assert_int_equal(err, value ? 0 : -ENODATA);
    if (value)
        assert_true(bytes_equal(bytes_of(b.p, b.n), bytes_str(value)));
}

struct names {
    char v[64][NAME_LEN_MAX + 1];
    size_t n;
};

static bool name_add(void *arg, const struct core_dirent *e)
{
    struct names *l = arg;
    assert_true(l->n < 64);
    memcpy(l->v[l->n], e->name.p, e->name.n);
    l->v[l->n++][e->name.n] = 0;
    return true;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(a, b);
}

void assert_names(struct world *w, uint64_t dir, const char *expected)
{
    struct names *l = calloc(1, sizeof *l);
    cleanup_buf struct buf b = {0};
    assert_non_null(l);
    assert_int_equal(core_readdir(w->core, dir, 0, name_add, l, &w->need), 0);
    qsort(l->v, l->n, sizeof l->v[0], by_bytes);
    for (size_t i = 0; i < l->n; i++)
        buf_printf(&b, "%s%s", i ? " " : "", l->v[i]);
    buf_append(&b, "", 1);
    free(l);
    assert_string_equal((const char *)b.p, expected);
}

/* ---- what is sent
 * -------------------------------------------------------------------------------- */
int plan(struct world *w, uint64_t node)
{
    core_plan_free(&w->plan);
    arena_free(&w->plan_arena);
    w->changes = (struct m_changes){0};
    int err = core_plan(w->core, NS, &node, node ? 1 : 0, INT64_MAX, &w->plan, &w->need);
    if (!err && w->plan.rows)
        assert_int_equal(msg_decode(&m_changes_desc, &w->changes, w->plan.changes.p,
                                    w->plan.changes.n, MSG_STRICT, &w->plan_arena, NULL),
                         0);
    return err;
}

void planned(struct world *w, uint64_t node)
{
    assert_int_equal(plan(w, node), 0);
    assert_true(w->plan.rows > 0);
}

size_t rows(const struct world *w)
{
    return w->changes.nodes_n + w->changes.entries_n + w->changes.xattrs_n;
}

const struct m_node_change *sent_node(const struct world *w, uint64_t node)
{
    for (size_t i = 0; i < w->changes.nodes_n; i++)
        if (w->changes.nodes[i].node == node)
            return &w->changes.nodes[i];
    return NULL;
}

bool sent_entry(const struct world *w, uint64_t parent, const char *name, uint64_t base,
                uint64_t node)
{
    for (size_t i = 0; i < w->changes.entries_n; i++) {
        const struct m_entry_change *e = &w->changes.entries[i];
        if (e->parent == parent && bytes_equal(e->name, name_of(name)))
            return e->base_node == base && e->node == node;
    }
    return false;
}

static void fresh_effects(struct world *w)
{
    core_effects_free(&w->fx);
}

void answer_committed(struct world *w)
{
    struct m_commit_ans a = {.status = COMMIT_COMMITTED, .sjid = ++w->head, .head = w->head};
    fresh_effects(w);
    assert_int_equal(core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx), 0);
}

int answer(struct world *w, enum commit_status status, enum row_kind kind, uint64_t node,
           const char *name, enum refusal reason)
{
    struct m_row_ref row = {.kind = kind,
                            .node = node,
                            .name = name ? name_of(name) : bytes_of(NULL, 0),
                            .reason = reason};
    struct m_commit_ans a = {.status = status, .head = w->head, .rows = &row, .rows_n = 1};
    fresh_effects(w);
    return core_commit_answer(w->core, NS, w->plan.request, &a, &w->fx);
}

void commit_all(struct world *w)
{
    for (int k = 0; k < 100; k++) {
        assert_int_equal(plan(w, 0), 0);
        if (!w->plan.rows)
            return;
        answer_committed(w);
    }
    fail_msg("there is always something left to send");
}

void assert_clean(struct world *w)
{
    struct core_ns n;
    assert_int_equal(core_ns_status(w->core, NS, &n), 0);
    assert_int_equal(n.pending_nodes, 0);
    assert_int_equal(n.pending_bytes, 0);
    assert_int_equal(n.parked, 0);
}

/* ---- what the server says
 * --------------------------------------------------------------------------- */
void rec_begin(struct world *w)
{
    w->rec = (struct m_record){.sjid = w->head + 1,
                               .device = 2,
                               .request = 1,
                               .inodes = w->inodes,
                               .entries = w->entries,
                               .xattrs = w->xattrs,
                               .contents = w->contents};
    w->ranges_n = w->extents_n = 0;
}

struct m_inode *rec_inode(struct world *w, uint64_t node, enum node_type type, uint64_t nlink)
{
    struct m_inode *n = &w->inodes[w->rec.inodes_n++];
    assert_true(w->rec.inodes_n <= REC_ROWS);
    *n = (struct m_inode){.node = node,
                          .type = type,
                          .mode = 0600,
                          .uid = 2000,
                          .nlink = nlink,
                          .mtime = START_NS,
                          .ctime = START_NS,
                          .content_rev = w->rec.sjid,
                          .attr_rev = w->rec.sjid};
    if (type == NODE_SYMLINK)
        n->target = bytes_str("elsewhere");
    return n;
}

struct m_inode *rec_known(struct world *w, uint64_t node)
{
    struct core_attr a = attr(w, node);
    struct m_inode *n = rec_inode(w, node, a.type, a.nlink);
    n->mode = a.mode;
    n->uid = a.uid;
    n->gid = a.gid;
    n->size = a.size;
    n->mtime = a.mtime;
    n->ctime = a.ctime;
    n->stored = a.stored;
    n->content_rev = n->attr_rev = 1;
    return n;
}

void rec_entry(struct world *w, uint64_t parent, const char *name, uint64_t node,
               enum node_type type)
{
    struct m_entry *e = &w->entries[w->rec.entries_n++];
    assert_true(w->rec.entries_n <= REC_ROWS);
    *e = (struct m_entry){.parent = parent,
                          .name = name_of(name),
                          .node = node,
                          .rev = w->rec.sjid,
                          .inode_set = node != 0};
    if (!node)
        return;
    e->inode = (struct m_inode){.node = node, .type = type, .nlink = type == NODE_DIR ? 2 : 1};
    for (size_t i = 0; i < w->rec.inodes_n; i++)
        if (w->inodes[i].node == node)
            e->inode = w->inodes[i];
}

void rec_xattr(struct world *w, uint64_t node, const char *name, const char *value)
{
    w->xattrs[w->rec.xattrs_n++] =
        (struct m_xattr){.node = node,
                         .name = name_of(name),
                         .value = value ? bytes_str(value) : bytes_of(NULL, 0),
                         .removed = !value,
                         .rev = w->rec.sjid};
}

void rec_content(struct world *w, uint64_t size, uint64_t off, uint64_t len, unsigned tag)
{
    struct m_inode *n = &w->inodes[w->rec.inodes_n - 1];
    struct m_range *r = &w->ranges[w->ranges_n++];
    n->size = size;
    n->content_rev = w->rec.sjid;
    *r = (struct m_range){.off = off, .len = len};
    if (tag) {
        w->extents[w->extents_n] = extent(off, len, tag, 0);
        r->extents = &w->extents[w->extents_n++];
        r->extents_n = 1;
    }
    w->contents[w->rec.contents_n++] =
        (struct m_content){.node = n->node, .ranges = r, .ranges_n = 1};
}

void rec_own(struct world *w, uint64_t request)
{
    w->rec.device = 1;
    w->rec.request = request;
}

int try_apply(struct world *w)
{
    fresh_effects(w);
    w->changes_seen = false;
    w->who.now += 1000;
    return core_apply(w->core, NS, &w->rec, w->who.now, &w->fx);
}

void apply(struct world *w)
{
    assert_int_equal(try_apply(w), 0);
    w->head = w->rec.sjid;
}

void theirs_make(struct world *w, uint64_t parent, const char *name, uint64_t node,
                 enum node_type type)
{
    rec_begin(w);
    rec_inode(w, node, type, type == NODE_DIR ? 2 : 1);
    if (type == NODE_REG)
        rec_content(w, 0, 0, FILE_SIZE_MAX, 0);
    rec_entry(w, parent, name, node, type);
    apply(w);
}

void theirs_remove(struct world *w, uint64_t parent, const char *name, uint64_t node)
{
    rec_begin(w);
    struct m_inode *n = rec_inode(w, node, (enum node_type)attr(w, node).type, 0);
    n->content_rev = n->attr_rev = 1;
    n->gone = true;
    rec_entry(w, parent, name, 0, NODE_NONE);
    apply(w);
}

void theirs_write(struct world *w, uint64_t node, uint64_t size, uint64_t off, uint64_t len,
                  unsigned tag)
{
    rec_begin(w);
    struct m_inode *n = rec_inode(w, node, NODE_REG, 1);
    n->attr_rev = 1;
    rec_content(w, size, off, len, tag);
    n->stored = tag ? len : 0;
    apply(w);
}

const struct core_effect *effect(const struct world *w, enum effect_kind k)
{
    for (size_t i = 0; i < w->fx.n; i++)
        if (w->fx.v[i].kind == k)
            return &w->fx.v[i];
    return NULL;
}

/* ---- loads
 * ---------------------------------------------------------------------------------------------- */
static int answer_need(struct world *w, const char *expected, const struct msg_desc *d,
                       const void *msg)
{
    cleanup_buf struct buf question = {0}, body = {0};
    const char *method = "";
    assert_int_equal(core_need_request(w->core, &w->need, &method, &question), 0);
    assert_string_equal(method, expected);
    msg_encode(d, msg, &body);
    fresh_effects(w);
    return core_need_answer(w->core, &w->need, bytes_of(body.p, body.n), w->who.now, &w->fx);
}

struct m_entry page_entry(uint64_t parent, const char *name, uint64_t node, enum node_type type)
{
    return (struct m_entry){.parent = parent,
                            .name = name_of(name),
                            .node = node,
                            .rev = 1,
                            .inode_set = true,
                            .inode = {.node = node,
                                      .type = type,
                                      .mode = 0600,
                                      .nlink = type == NODE_DIR ? 2 : 1,
                                      .content_rev = 1,
                                      .attr_rev = 1}};
}

int load_name(struct world *w, uint64_t node, enum node_type type)
{
    char name[NAME_LEN_MAX + 1] = {0};
    memcpy(name, w->need.name, w->need.name_len);
    struct m_lookup_ans a = {.entry_set = node != 0};
    if (node)
        a.entry = page_entry(w->need.node, name, node, type);
    return answer_need(w, "lookup", &m_lookup_ans_desc, &a);
}

int load_page(struct world *w, const struct m_entry *v, size_t n, bool more)
{
    struct m_entry copy[REC_ROWS];
    struct m_readdir_ans a = {.entries = copy, .entries_n = n, .more = more};
    assert_true(n <= REC_ROWS);
    if (n)
        memcpy(copy, v, n * sizeof *v);
    return answer_need(w, "readdir", &m_readdir_ans_desc, &a);
}

int load_node(struct world *w, const struct m_inode *n, const struct m_xattr *x, size_t x_n)
{
    struct m_xattr copy[REC_ROWS];
    struct m_node_ans a = {.inode_set = n != NULL, .xattrs = copy, .xattrs_n = x_n};
    if (n)
        a.inode = *n;
    if (x_n)
        memcpy(copy, x, x_n * sizeof *x);
    return answer_need(w, "node", &m_node_ans_desc, &a);
}

int load_extents(struct world *w, const struct m_extent *v, size_t n, uint64_t end)
{
    struct m_extent copy[REC_ROWS];
    if (n)
        memcpy(copy, v, n * sizeof *v);
    struct m_extents_ans a = {
        .range_set = true,
        .range = {.off = w->need.off, .len = end - w->need.off, .extents = copy, .extents_n = n},
        .more = end != FILE_SIZE_MAX};
    return answer_need(w, "extents", &m_extents_ans_desc, &a);
}
