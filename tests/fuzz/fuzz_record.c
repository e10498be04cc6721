// SPDX-License-Identifier: Apache-2.0
/* Records of the journal, applied to a small tree with pending changes: whatever a server sends,
 * the core takes it or refuses it, and its tree stays one that can be read and sent from.
 *
 * The input is a message of the journal. Its SJID is set to the one that comes next, as any other
 * is refused at once. The tree is made once; every input runs in a transaction that is rolled back.
 */
#include "fuzz.h"

#include "core.h"
#include "tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS 7u
#define ROOT 1u

static void must(int err)
{
    if (err) {
        fprintf(stderr, "fuzz_record: %s\n", strerror(-err));
        abort();
    }
}

static void load(struct core *c, struct core_need *need, const struct msg_desc *d, const void *msg)
{
    struct buf q cleanup_buf = {0}, body cleanup_buf = {0};
    struct core_effects fx = {0};
    const char *method;
    must(core_need_request(c, need, &method, &q));
    msg_encode(d, msg, &body);
    must(core_need_answer(c, need, bytes_of(body.p, body.n), 1, &fx));
    core_effects_free(&fx);
}

/* a: a file of theirs edited here; b: one of theirs; d/e: a directory of theirs with a file of
 * ours; all with small ids, which an input hits easily. */
static void furnish(struct core *c)
{
    struct core_effects fx = {0};
    struct core_need need;
    struct core_who who = {.now = 1};
    struct core_attr a;
    struct m_namespace n = {.id = NS, .name = bytes_str("n"), .root = ROOT, .role = ROLE_EDITOR};
    struct m_session_ans s = {
        .device = 1, .account = bytes_str("a"), .namespaces = &n, .namespaces_n = 1, .root_ns = NS};
    must(core_session(c, &s, &fx));
    need = (struct core_need){.kind = NEED_NODE, .ns = NS, .node = ROOT};
    struct m_node_ans root = {.inode_set = true,
                              .inode = {.node = ROOT, .type = NODE_DIR, .nlink = 3}};
    load(c, &need, &m_node_ans_desc, &root);
    struct m_entry v[3];
    static const char *const names[] = {"a", "b", "d"};
    for (unsigned i = 0; i < 3; i++)
        v[i] = (struct m_entry){
            .parent = ROOT,
            .name = bytes_str(names[i]),
            .node = 2 + i,
            .inode_set = true,
            .inode = {.node = 2 + i, .type = i == 2 ? NODE_DIR : NODE_REG, .nlink = 1}};
    struct m_readdir_ans page = {.entries = v, .entries_n = 3};
    need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = ROOT};
    load(c, &need, &m_readdir_ans_desc, &page);
    page.entries_n = 0;
    need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = 4};
    load(c, &need, &m_readdir_ans_desc, &page);
    struct m_extent e = {.len = 8};
    const struct extent_list with = {.v = &e, .n = 1};
    must(core_write(c, &who, 2, 0, 8, &with, true));
    must(core_create(c, &who, 4, bytes_str("e"), NODE_REG, 0600, 0, bytes_of(NULL, 0), &a, &need));
    uint64_t replaced;
    must(core_rename(c, &who, ROOT, bytes_str("b"), 4, bytes_str("b"), 0, &replaced, &need));
    core_effects_free(&fx);
}

static struct core *the_core(void)
{
    static struct core *c; /* lives as long as the process: an input leaves no trace in it */
    char why[512] = "";
    struct tree *t;
    if (c)
        return c;
    must(tree_open(&t, ":memory:", "unix", why));
    struct core_options o = {.device = 1, .device_name = "d", .clean_start = true};
    must(core_new(&c, t, &o));
    furnish(c);
    return c;
}

/* ---- a record from choices --------------------------------------------------------------------
 */
struct choices {
    const uint8_t *p;
    size_t n;
};

static unsigned choose(struct choices *c, unsigned below)
{
    if (!c->n)
        return 0;
    c->n--;
    return *c->p++ % below;
}

static uint64_t a_node(struct choices *c)
{
    unsigned k = choose(c, 9);
    return k < 8 ? k : NODE_ID(1, choose(c, 4));
}

static void an_inode(struct choices *c, struct m_inode *n, uint64_t node)
{
    *n = (struct m_inode){.node = node,
                          .type = choose(c, NODE_MOUNT + 2),
                          .mode = choose(c, 256),
                          .size = choose(c, 64),
                          .nlink = choose(c, 4),
                          .stored = choose(c, 64),
                          .content_rev = choose(c, 3),
                          .attr_rev = choose(c, 3),
                          .xattrs = choose(c, 3) / 2,
                          .gone = choose(c, 3) == 0,
                          .target = bytes_str("t")};
}

static void a_content(struct choices *c, struct m_content *k, struct arena *ar)
{
    uint64_t at = choose(c, 16);
    k->node = a_node(c);
    k->ranges = arena_alloc(ar, 4 * sizeof *k->ranges);
    k->ranges_n = choose(c, 4);
    for (size_t i = 0; i < k->ranges_n; i++) {
        struct m_range *r = &k->ranges[i];
        *r = (struct m_range){.off = at, .len = 1 + choose(c, 16)};
        if (choose(c, 3)) {
            r->extents = arena_alloc(ar, sizeof *r->extents);
            r->extents[r->extents_n++] = (struct m_extent){
                .off = r->off + choose(c, 3), .len = 1 + choose(c, 16), .block_off = choose(c, 8)};
        }
        at += choose(c, 24);
    }
}

static void make_record(struct choices *c, struct m_record *r, struct arena *ar)
{
    static const char *const names[] = {"a", "b", "d", "e", "x", "a/b", ""};
    *r = (struct m_record){.device = choose(c, 3), .request = choose(c, 3)};
    r->inodes = arena_alloc(ar, 8 * sizeof *r->inodes);
    r->entries = arena_alloc(ar, 8 * sizeof *r->entries);
    r->xattrs = arena_alloc(ar, 8 * sizeof *r->xattrs);
    r->contents = arena_alloc(ar, 8 * sizeof *r->contents);
    for (r->entries_n = 0; r->entries_n < 8 && choose(c, 4); r->entries_n++) {
        struct m_entry *e = &r->entries[r->entries_n];
        *e = (struct m_entry){.parent = a_node(c), .name = bytes_str(names[choose(c, 7)])};
        e->node = choose(c, 3) ? a_node(c) : 0;
        e->rev = choose(c, 2);
        e->inode_set = choose(c, 8) != 0;
        an_inode(c, &e->inode, choose(c, 8) ? e->node : a_node(c));
    }
    for (r->inodes_n = 0; r->inodes_n < 8 && choose(c, 4); r->inodes_n++)
        an_inode(c, &r->inodes[r->inodes_n], a_node(c));
    for (r->contents_n = 0; r->contents_n < 8 && choose(c, 3); r->contents_n++)
        a_content(c, &r->contents[r->contents_n], ar);
    for (r->xattrs_n = 0; r->xattrs_n < 8 && choose(c, 3); r->xattrs_n++)
        r->xattrs[r->xattrs_n] = (struct m_xattr){.node = a_node(c),
                                                  .name = bytes_str(names[choose(c, 5)]),
                                                  .value = bytes_str("v"),
                                                  .removed = choose(c, 2) == 0,
                                                  .rev = choose(c, 3)};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena ar cleanup_arena = {0};
    struct core_effects fx = {0};
    struct core_need need;
    struct core_plan plan;
    struct core_attr a;
    struct m_record r;
    struct choices choices = {data + 1, size - 1};
    if (size < 2)
        return 0;
    if (data[0] % 2)
        make_record(&choices, &r, &ar);
    else if (msg_decode(&m_record_desc, &r, data + 1, size - 1, MSG_LENIENT, &ar, NULL))
        return 0;
    struct core *c = the_core();
    r.sjid = 1;
    must(core_begin(c));
    int err = core_apply(c, NS, &r, 2, &fx);
    if (!err) {
        (void)core_lookup(c, ROOT, bytes_str("a"), &a, &need);
        if (core_plan(c, NS, NULL, 0, INT64_MAX, &plan, &need) == 0)
            core_plan_free(&plan);
    }
    (void)core_end(c, false);
    core_effects_free(&fx);
    return 0;
}
