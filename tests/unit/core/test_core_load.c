// SPDX-License-Identifier: Apache-2.0
/* Partial directories: what is asked for, what is taken in, and records for parts not known. */
#include "world.h"

#include <errno.h>

static int setup(void **state)
{
    *state = world_new(false); /* no name of the root is known */
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static bool no_entry(void *arg, const struct core_dirent *e)
{
    (void)arg;
    (void)e;
    return true;
}

static void need_name(struct world *w, const char *name, uint64_t node, enum node_type type)
{
    struct core_attr a;
    assert_int_equal(lookup(w, ROOT, name, &a), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_NAME);
    assert_int_equal(load_name(w, node, type), 0);
}

static void test_one_name(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    need_name(w, "f", THEIRS(1), NODE_REG);
    assert_int_equal(lookup(w, ROOT, "f", &a), 0);
    assert_int_equal(a.node, THEIRS(1));
    need_name(w, "none", 0, NODE_NONE);
    assert_int_equal(lookup(w, ROOT, "none", &a), -ENOENT); /* never guessed, now known */
    assert_int_equal(lookup(w, ROOT, "other", &a), CORE_NEED);
}

static void test_create_asks_for_its_name_alone(void **state)
{
    struct world *w = *state;
    uint64_t node;
    assert_int_equal(try_make(w, ROOT, "f", NODE_REG, &node), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_NAME);
    assert_int_equal(load_name(w, 0, NODE_NONE), 0);
    assert_int_equal(try_make(w, ROOT, "f", NODE_REG, &node), 0);
    planned(w, node);
    answer_committed(w);
    assert_int_equal(node_at(w, ROOT, "f"), node);
}

static void test_a_name_removed_is_known_to_be_absent(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    need_name(w, "f", THEIRS(1), NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "f", false), 0);
    commit_all(w);
    assert_int_equal(lookup(w, ROOT, "f", &a), -ENOENT);
}

static void test_pages(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    const struct m_entry one[] = {page_entry(ROOT, "a", THEIRS(1), NODE_REG),
                                  page_entry(ROOT, "c", THEIRS(2), NODE_DIR)};
    const struct m_entry two[] = {page_entry(ROOT, "e", THEIRS(3), NODE_REG)};
    assert_int_equal(core_readdir(w->core, ROOT, 0, no_entry, NULL, &w->need), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_PAGE);
    assert_int_equal(load_page(w, one, 2, true), 0);
    assert_int_equal(lookup(w, ROOT, "b", &a), -ENOENT);   /* within the page */
    assert_int_equal(lookup(w, ROOT, "d", &a), CORE_NEED); /* behind it */
    assert_int_equal(core_readdir(w->core, ROOT, 0, no_entry, NULL, &w->need), CORE_NEED);
    assert_int_equal(w->need.name_len, 1);
    assert_int_equal(w->need.name[0], 'c');
    assert_int_equal(load_page(w, two, 1, false), 0);
    assert_names(w, ROOT, "a c e");
    assert_int_equal(lookup(w, ROOT, "d", &a), -ENOENT);
}

/* Directories of which something is unknown, for whoever fills them in. */
static void test_unknown_directories_are_found(void **state)
{
    struct world *w = *state;
    const struct m_entry one[] = {page_entry(ROOT, "a", THEIRS(1), NODE_REG),
                                  page_entry(ROOT, "c", THEIRS(2), NODE_DIR)};
    assert_int_equal(core_unknown_dir(w->core, NS, 0, &w->need), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_PAGE);
    assert_int_equal(w->need.node, ROOT);
    assert_int_equal(load_page(w, one, 2, true), 0);
    assert_int_equal(core_unknown_dir(w->core, NS, 0, &w->need), CORE_NEED);
    assert_int_equal(w->need.node, ROOT); /* what is behind the page */
    assert_int_equal(w->need.name_len, 1);
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    uint64_t mine = make(w, ROOT, "mine", NODE_DIR); /* known from birth */
    assert_int_equal(core_unknown_dir(w->core, NS, 0, &w->need), CORE_NEED);
    assert_int_equal(w->need.node, THEIRS(2));
    assert_int_equal(core_unknown_dir(w->core, NS, THEIRS(2) + 1, &w->need), 0);
    assert_int_equal(core_unknown_dir(w->core, NS + 1, 0, &w->need), 0);
    assert_int_equal(core_unknown_dir(w->core, NS, THEIRS(2), &w->need), CORE_NEED);
    assert_int_equal(load_page(w, NULL, 0, false), 0);
    assert_int_equal(core_unknown_dir(w->core, NS, 0, &w->need), 0);
    assert_int_equal(node_at(w, ROOT, "mine"), mine);
}

/* Parked changes are exported to a directory of its name. */
static void test_a_namespace_that_is_none_is_refused(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"", ".", "..", "../up", "a/b"};
    struct m_namespace n = {.id = NS + 1, .root = THEIRS(9), .role = ROLE_EDITOR};
    struct m_session_ans a = {.namespaces = &n, .namespaces_n = 1, .root_ns = NS};
    struct core_ns known;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        n.name = bytes_str(names[i]);
        assert_int_equal(core_session(w->core, &a, &w->fx), -EBADMSG);
    }
    n.name = bytes_str("..a");
    n.root = 0;
    assert_int_equal(core_session(w->core, &a, &w->fx), -EBADMSG);
    assert_int_equal(core_ns_get(w->core, NS + 1, &known), -ENOENT);
    assert_int_equal(core_ns_get(w->core, NS, &known), 0);
    assert_true(known.member);
    n.root = THEIRS(9);
    assert_int_equal(core_session(w->core, &a, &w->fx), 0);
}

/* What is left of a directory, for whoever wants it before anybody asks. */
static void test_the_rest_of_a_directory(void **state)
{
    struct world *w = *state;
    struct core_need need;
    struct m_readdir_req q;
    const char *method;
    struct buf cleanup_buf body = {0};
    struct arena cleanup_arena a = {0};
    const struct m_entry one[] = {page_entry(ROOT, "a", THEIRS(1), NODE_REG)};
    const struct m_entry two[] = {page_entry(ROOT, "b", THEIRS(2), NODE_REG)};
    assert_int_equal(core_readdir(w->core, ROOT, 0, no_entry, NULL, &w->need), CORE_NEED);
    assert_int_equal(load_page(w, one, 1, true), 0);
    assert_int_equal(core_dir_rest(w->core, ROOT, &need), CORE_NEED);
    need.rows = 7;
    assert_int_equal(core_need_request(w->core, &need, &method, &body), 0);
    assert_string_equal(method, "readdir");
    assert_int_equal(msg_decode(&m_readdir_req_desc, &q, body.p, body.n, MSG_STRICT, &a, NULL), 0);
    assert_int_equal(q.limit, 7);
    assert_int_equal(q.after.n, 1);
    assert_int_equal(q.after.p[0], 'a');
    w->need = need;
    assert_int_equal(load_page(w, two, 1, false), 0);
    assert_int_equal(core_dir_rest(w->core, ROOT, &need), 0);
    assert_int_equal(core_dir_rest(w->core, THEIRS(1), &need), -ENOTDIR);
}

static void test_a_page_meets_local_names(void **state)
{
    struct world *w = *state;
    need_name(w, "a", THEIRS(1), NODE_REG);
    need_name(w, "b", 0, NODE_NONE);
    uint64_t b = make(w, ROOT, "b", NODE_REG);
    assert_int_equal(remove_name(w, ROOT, "a", false), 0);
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = ROOT};
    const struct m_entry page[] = {page_entry(ROOT, "a", THEIRS(1), NODE_REG),
                                   page_entry(ROOT, "c", THEIRS(3), NODE_REG)};
    assert_int_equal(load_page(w, page, 2, false), 0);
    assert_names(w, ROOT, "b c"); /* a stays removed */
    planned(w, 0);
    assert_true(sent_entry(w, ROOT, "a", THEIRS(1), 0));
    assert_true(sent_entry(w, ROOT, "b", 0, b));
}

static void test_bad_pages(void **state)
{
    struct world *w = *state;
    const struct m_entry wrong_order[] = {page_entry(ROOT, "b", THEIRS(1), NODE_REG),
                                          page_entry(ROOT, "a", THEIRS(2), NODE_REG)};
    const struct m_entry elsewhere[] = {page_entry(THEIRS(9), "b", THEIRS(1), NODE_REG)};
    const struct m_entry slash[] = {page_entry(ROOT, "a/b", THEIRS(1), NODE_REG)};
    struct m_entry other = page_entry(ROOT, "b", THEIRS(1), NODE_REG);
    other.inode.node = THEIRS(2);
    const struct m_entry up[] = {page_entry(ROOT, "..", THEIRS(1), NODE_DIR)};
    struct m_entry wrong[] = {
        page_entry(ROOT, "b", THEIRS(1), NODE_REG), page_entry(ROOT, "b", THEIRS(1), NODE_REG),
        page_entry(ROOT, "b", THEIRS(1), NODE_REG), page_entry(ROOT, "b", THEIRS(1), NODE_REG)};
    wrong[0].inode.size = (uint64_t)INT64_MAX + 1;
    wrong[1].inode.stored = UINT64_MAX;
    wrong[2].inode.type = NODE_MOUNT + 1;
    wrong[3].inode.nlink = UINT32_MAX;
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = ROOT};
    assert_int_equal(load_page(w, wrong_order, 2, false), -EBADMSG);
    assert_int_equal(load_page(w, elsewhere, 1, false), -EBADMSG);
    assert_int_equal(load_page(w, slash, 1, false), -EBADMSG);
    assert_int_equal(load_page(w, &other, 1, false), -EBADMSG);
    assert_int_equal(load_page(w, up, 1, false), -EBADMSG);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(load_page(w, &wrong[i], 1, false), -EBADMSG);
    assert_int_equal(load_page(w, NULL, 0, true), -EBADMSG); /* more, but nothing to go on from */
    struct core_attr a;
    assert_int_equal(lookup(w, ROOT, "b", &a), CORE_NEED); /* nothing of them was taken in */
}

/* A directory that merges with one that the page tells of is counted once. */
static void test_a_page_that_merges_counts_links_once(void **state)
{
    struct world *w = *state;
    uint64_t d;
    assert_int_equal(try_make(w, ROOT, "d", NODE_DIR, &d), CORE_NEED);
    assert_int_equal(load_name(w, 0, NODE_NONE), 0);
    d = make(w, ROOT, "d", NODE_DIR);
    uint64_t n = make(w, d, "s", NODE_DIR);
    rec_begin(w);
    rec_inode(w, THEIRS(1), NODE_DIR, 3);
    rec_entry(w, ROOT, "d", THEIRS(1), NODE_DIR);
    apply(w); /* merged: of what is in it nothing is known yet */
    assert_int_equal(node_at(w, ROOT, "d"), THEIRS(1));
    assert_int_equal(node_at(w, THEIRS(1), "s"), n);
    struct m_entry v[] = {page_entry(THEIRS(1), "s", THEIRS(2), NODE_DIR)};
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = THEIRS(1)};
    assert_int_equal(load_page(w, v, 1, false), 0);
    assert_int_equal(node_at(w, THEIRS(1), "s"), THEIRS(2));
    assert_int_equal(attr(w, THEIRS(1)).nlink, 3);
}

static void test_a_load_of_another_time_is_refused(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    cleanup_buf struct buf q = {0}, body = {0};
    const char *method;
    assert_int_equal(lookup(w, ROOT, "f", &a), CORE_NEED);
    assert_int_equal(core_need_request(w->core, &w->need, &method, &q), 0);
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG); /* the cursor moves */
    struct m_lookup_ans absent = {0};
    msg_encode(&m_lookup_ans_desc, &absent, &body);
    assert_int_equal(
        core_need_answer(w->core, &w->need, bytes_of(body.p, body.n), w->who.now, &w->fx), -EAGAIN);
    assert_int_equal(lookup(w, ROOT, "f", &a), CORE_NEED);
    assert_int_equal(load_name(w, THEIRS(1), NODE_REG), 0);
    assert_int_equal(node_at(w, ROOT, "f"), THEIRS(1));
}

static void test_records_for_unknown_parts_are_skipped(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    need_name(w, "known", 0, NODE_NONE);
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(core_getattr(w->core, THEIRS(1), &a, &w->need), -ESTALE);
    theirs_make(w, ROOT, "known", THEIRS(2), NODE_REG);
    assert_int_equal(node_at(w, ROOT, "known"), THEIRS(2));
    theirs_make(w, THEIRS(77), "deep", THEIRS(3), NODE_REG);
    assert_int_equal(core_getattr(w->core, THEIRS(3), &a, &w->need), -ESTALE);
}

static void test_a_loaded_node_moves_into_an_unknown_part(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    need_name(w, "f", THEIRS(1), NODE_REG);
    need_name(w, "g", THEIRS(2), NODE_REG);
    write_block(w, THEIRS(1), 0, 8, 1);
    rec_begin(w); /* f to a name of the root that is not known, g into a directory that is not */
    rec_entry(w, ROOT, "f", 0, NODE_NONE);
    rec_entry(w, ROOT, "somewhere", THEIRS(1), NODE_REG);
    rec_entry(w, ROOT, "g", 0, NODE_NONE);
    rec_entry(w, THEIRS(50), "deep", THEIRS(2), NODE_REG);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "somewhere"), THEIRS(1));
    assert_content(w, THEIRS(1), "0+8=1@0"); /* what was written is still there */
    assert_int_equal(attr(w, THEIRS(2)).nlink, 1);
    uint64_t dir;
    assert_int_equal(core_parent(w->core, THEIRS(2), &dir), 0);
    assert_int_equal(dir, THEIRS(50));
    assert_int_equal(core_getattr(w->core, dir, &a, &w->need),
                     CORE_NEED); /* and that can be loaded */
    assert_int_equal(w->need.kind, NEED_NODE);
    need_name(w, "dir", THEIRS(50), NODE_DIR);
    assert_int_equal(node_at(w, THEIRS(50), "deep"), THEIRS(2));
}

/* A comparison as of the past is not told a name that its directory has lost since: of a directory
 * that was moved here it says that the old name is gone, and the new one comes when it is looked
 * up.
 */
static void test_a_moved_directory_gets_its_name_late(void **state)
{
    struct world *w = *state;
    struct core_attr a;
    need_name(w, "m", THEIRS(1), NODE_DIR);
    need_name(w, "d", THEIRS(2), NODE_DIR);
    need_name(w, "n", 0, NODE_NONE);
    assert_int_equal(rename_to(w, ROOT, "m", ROOT, "n", 0), 0);
    rec_begin(w);
    rec_entry(w, ROOT, "m", 0, NODE_NONE);
    apply(w);
    assert_int_equal(node_at(w, ROOT, "n"), THEIRS(1));
    assert_int_equal(lookup(w, THEIRS(2), "b", &a), CORE_NEED);
    assert_int_equal(load_name(w, THEIRS(1), NODE_DIR), 0);
    assert_int_equal(node_at(w, THEIRS(2), "b"), THEIRS(1)); /* its only one */
    assert_int_equal(node_at(w, ROOT, "n"), 0);
}

static void test_xattrs_come_with_the_node(void **state)
{
    struct world *w = *state;
    struct m_entry e = page_entry(ROOT, "f", THEIRS(1), NODE_REG);
    e.inode.xattrs = 2;
    w->need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = ROOT};
    assert_int_equal(load_page(w, &e, 1, false), 0);
    cleanup_buf struct buf value = {0};
    assert_int_equal(core_getxattr(w->core, THEIRS(1), name_of("user.a"), &value, &w->need),
                     CORE_NEED);
    assert_int_equal(w->need.kind, NEED_NODE);
    const struct m_xattr x[] = {
        {.node = THEIRS(1), .name = name_of("user.a"), .value = bytes_str("1"), .rev = 1},
        {.node = THEIRS(1), .name = name_of("user.b"), .value = bytes_str(""), .rev = 1}};
    assert_int_equal(load_node(w, &e.inode, x, 2), 0);
    assert_xattr(w, THEIRS(1), "user.a", "1");
    assert_xattr(w, THEIRS(1), "user.b", "");
    assert_xattr(w, THEIRS(1), "user.c", NULL);
}

static void test_a_node_that_went_away(void **state)
{
    struct world *w = *state;
    need_name(w, "f", THEIRS(1), NODE_REG);
    w->need = (struct core_need){.kind = NEED_NODE, .ns = NS, .node = THEIRS(1)};
    assert_int_equal(load_node(w, NULL, NULL, 0), -ESTALE);
}

/* rmdir needs to know that nothing is in it. */
static void test_rmdir_loads_the_directory(void **state)
{
    struct world *w = *state;
    need_name(w, "d", THEIRS(1), NODE_DIR);
    assert_int_equal(remove_name(w, ROOT, "d", true), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_PAGE);
    const struct m_entry in = page_entry(THEIRS(1), "x", THEIRS(2), NODE_REG);
    assert_int_equal(load_page(w, &in, 1, false), 0);
    assert_int_equal(remove_name(w, ROOT, "d", true), -ENOTEMPTY);
}

/* A conflicted copy takes a name that nobody asked for: it is asked for before it is sent, also at
 * SJID 0. */
static void test_a_name_not_asked_for_is_asked_before_it_is_sent(void **state)
{
    struct world *w = *state;
    need_name(w, "f", 0, NODE_NONE);
    uint64_t f = make(w, ROOT, "f", NODE_REG);
    theirs_make(w, ROOT, "f", THEIRS(1), NODE_REG);
    assert_int_equal(plan(w, f), CORE_NEED);
    assert_int_equal(w->need.kind, NEED_NAME);
    assert_int_equal(load_name(w, 0, NODE_NONE), 0);
    planned(w, f);
    assert_int_equal(w->changes.entries_n, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_one_name),
        T(test_create_asks_for_its_name_alone),
        T(test_a_name_removed_is_known_to_be_absent),
        T(test_pages),
        T(test_the_rest_of_a_directory),
        T(test_unknown_directories_are_found),
        T(test_a_page_meets_local_names),
        T(test_bad_pages),
        T(test_a_page_that_merges_counts_links_once),
        T(test_a_load_of_another_time_is_refused),
        T(test_records_for_unknown_parts_are_skipped),
        T(test_a_loaded_node_moves_into_an_unknown_part),
        T(test_a_namespace_that_is_none_is_refused),
        T(test_a_moved_directory_gets_its_name_late),
        T(test_xattrs_come_with_the_node),
        T(test_a_node_that_went_away),
        T(test_rmdir_loads_the_directory),
        T(test_a_name_not_asked_for_is_asked_before_it_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
