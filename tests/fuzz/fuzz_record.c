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
    must(tree_open(&t, ":memory:", NULL, why));
    struct core_options o = {.device = 1, .device_name = "d", .clean_start = true};
    must(core_new(&c, t, &o));
    furnish(c);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena ar cleanup_arena = {0};
    struct core_effects fx = {0};
    struct core_need need;
    struct core_plan plan;
    struct core_attr a;
    struct m_record r;
    if (msg_decode(&m_record_desc, &r, data, size, MSG_LENIENT, &ar, NULL))
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
