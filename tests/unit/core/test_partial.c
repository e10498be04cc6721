// SPDX-License-Identifier: Apache-2.0
/* A device that knows only what it looked at: what is asked for (and what is not), what is made of
 * records about the rest. The server is real; there knows the whole tree. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"

static struct pair *p;
static struct device *here, *there;

#define DO(d, call) DEVICE_DO(p, (d), (call))

static int setup(void **state)
{
    (void)state;
    pair_begin(p, false);
    here = &p->d[HERE];
    there = &p->d[THERE];
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pair_end(p);
    return 0;
}

static void assert_loads(unsigned names, unsigned pages, unsigned nodes, unsigned extents)
{
    assert_int_equal(here->loads[NEED_NAME], names);
    assert_int_equal(here->loads[NEED_PAGE], pages);
    assert_int_equal(here->loads[NEED_NODE], nodes);
    assert_int_equal(here->loads[NEED_EXTENTS], extents);
    memset(here->loads, 0, sizeof here->loads);
}

static void walked(const char *path)
{
    device_walk(p, here, path);
    memset(here->loads, 0, sizeof here->loads);
}

static int look(struct device *d, const char *dir, const char *name, struct core_attr *a)
{
    return DO(d, core_lookup(d->core, pair_base(p, dir), bytes_str(name), a, &d->need));
}

static int make(struct device *d, const char *dir, const char *name, enum node_type type)
{
    struct core_attr a;
    return DO(d, core_create(d->core, &d->who, pair_base(p, dir), bytes_str(name), type, 0644, 0,
                             bytes_of(NULL, 0), &a, &d->need));
}

static int move(struct device *d, const char *dir, const char *name, const char *to,
                const char *to_name)
{
    uint64_t replaced;
    return DO(d, core_rename(d->core, &d->who, pair_base(p, dir), bytes_str(name), pair_base(p, to),
                             bytes_str(to_name), 0, &replaced, &d->need));
}

static int drop(struct device *d, const char *dir, const char *name, bool is_dir)
{
    uint64_t node;
    return DO(d, core_unlink(d->core, &d->who, pair_base(p, dir), bytes_str(name), is_dir, &node,
                             &d->need));
}

static bool count_one(void *arg, const struct core_dirent *e)
{
    (void)e;
    ++*(unsigned *)arg;
    return true;
}

static unsigned names_in(const char *dir)
{
    unsigned n = 0;
    uint64_t node = pair_base(p, dir);
    assert_int_equal(DO(here, core_readdir(here->core, node, 0, count_one, &n, &here->need)), 0);
    return n;
}

static uint32_t links(const char *path)
{
    struct core_attr a;
    assert_int_equal(DO(here, core_getattr(here->core, pair_base(p, path), &a, &here->need)), 0);
    return a.nlink;
}

static unsigned rows(const char *sql)
{
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_prepare_v2(tree_db(here->tree), sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    unsigned n = (unsigned)sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return n;
}

static size_t extents_in(uint64_t node, uint64_t off, uint64_t len)
{
    struct extent_list l = {0};
    assert_int_equal(DO(here, core_extents(here->core, node, off, len, &l, &here->need)), 0);
    size_t n = l.n;
    extent_list_free(&l);
    return n;
}

/* ---- what is asked for ----------------------------------------------------------------------- */
static void test_one_name_is_asked_for_alone(void **state)
{
    struct core_attr a;
    (void)state;
    walked("d/f");
    device_walk(p, here, "e/o");
    assert_loads(2, 0, 0, 0);
    assert_int_equal(look(here, "d", "h", &a), 0);
    assert_int_equal(look(here, "d", "none", &a), -ENOENT);
    assert_loads(2, 0, 0, 0);
    assert_int_equal(make(here, "d", "new", NODE_REG), 0);
    assert_int_equal(make(here, "d", "s", NODE_DIR), -EEXIST);
    assert_loads(2, 0, 0, 0);
    assert_int_equal(DO(here, core_link(here->core, &here->who, pair_base(p, "d/f"),
                                        pair_base(p, "e"), bytes_str("l"), &a, &here->need)),
                     0);
    assert_loads(1, 0, 0, 0);
    assert_int_equal(move(here, "e", "o", "d", "moved"), 0);
    assert_loads(1, 0, 0, 0);
    assert_int_equal(move(here, "d", "moved", "e", "p"), 0); /* over a file not looked at */
    assert_loads(1, 0, 0, 0);
}

static void test_answers_are_kept(void **state)
{
    struct core_attr a;
    (void)state;
    walked("d");
    assert_int_equal(look(here, "d", "later", &a), -ENOENT);
    assert_int_equal(look(here, "d", "f", &a), 0);
    assert_loads(2, 0, 0, 0);
    assert_int_equal(make(there, "d", "later", NODE_REG), 0);
    assert_int_equal(drop(there, "d", "f", false), 0);
    device_commit(p, there);
    device_follow(p, here); /* as of then, and records since then */
    assert_int_equal(look(here, "d", "later", &a), 0);
    assert_int_equal(look(here, "d", "f", &a), -ENOENT);
    assert_loads(0, 0, 0, 0);
}

static void test_lists_are_loaded_where_they_matter(void **state)
{
    (void)state;
    walked("d/s/y");
    device_walk(p, here, "d/i");
    device_walk(p, here, "e/u");
    memset(here->loads, 0, sizeof here->loads);
    assert_int_equal(drop(here, "d", "s", true), -ENOTEMPTY);
    assert_loads(0, 1, 0, 0);
    assert_int_equal(drop(here, "d", "i", true), 0); /* nothing in it: but that has to be known */
    assert_loads(0, 1, 0, 0);
    assert_int_equal(move(here, "e", "u", "d", "t"), 0); /* over a directory */
    assert_loads(1, 1, 0, 0);
    assert_int_equal(names_in("d"), 6);
    assert_loads(0, 1, 0, 0);
    assert_int_equal(names_in("d"), 6);
    assert_loads(0, 0, 0, 0);
}

static void test_what_is_made_here_is_known(void **state)
{
    struct core_attr d, a;
    unsigned n = 0;
    (void)state;
    walked("d");
    assert_int_equal(
        DO(here, core_create(here->core, &here->who, pair_base(p, "d"), bytes_str("own"), NODE_DIR,
                             0755, 0, bytes_of(NULL, 0), &d, &here->need)),
        0);
    assert_loads(1, 0, 0, 0);
    assert_int_equal(DO(here, core_lookup(here->core, d.node, bytes_str("x"), &a, &here->need)),
                     -ENOENT);
    assert_int_equal(DO(here, core_readdir(here->core, d.node, 0, count_one, &n, &here->need)), 0);
    assert_int_equal(DO(here, core_create(here->core, &here->who, d.node, bytes_str("f"), NODE_REG,
                                          0644, 0, bytes_of(NULL, 0), &a, &here->need)),
                     0);
    cleanup_extents struct extent_list l = {0};
    assert_int_equal(DO(here, core_extents(here->core, a.node, 0, FILE_SIZE_MAX, &l, &here->need)),
                     0);
    device_commit(p, here);
    assert_loads(0, 0, 0, 0);
}

/* 3,000 extents: three pages at the server. */
static void test_extents_come_by_range(void **state)
{
    struct core_attr a;
    uint64_t f = pair_base(p, "d/f");
    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct m_extent e = {.off = 2 * i, .len = 1, .block = {{0}}};
        const struct extent_list one = {.v = &e, .n = 1};
        e.block.b[31] = (uint8_t)(1 + i / 200);
        e.block.b[32] = (uint8_t)(i % 200);
        assert_int_equal(core_write(there->core, &there->who, f, e.off, 2, &one, true), 0);
    }
    device_commit(p, there);
    device_follow(p, here);
    walked("d/f");
    assert_int_equal(DO(here, core_getattr(here->core, f, &a, &here->need)), 0);
    assert_int_equal(a.size, 6000);
    assert_loads(0, 0, 0, 0); /* to open it takes none */
    assert_int_equal(extents_in(f, 4000, 2), 1);
    assert_loads(0, 0, 0, 1);
    assert_int_equal(extents_in(f, 5900, 100), 50);
    assert_loads(0, 0, 0, 0); /* lay behind it in the same page */
    assert_int_equal(extents_in(f, 0, 2), 1);
    assert_loads(0, 0, 0, 1);
    assert_int_equal(extents_in(f, 0, FILE_SIZE_MAX), 3000);
    assert_loads(0, 0, 0, 1); /* what lies between them */
}

/* ---- counts ---------------------------------------------------------------------------------- */
static void test_link_counts_are_the_servers_and_what_is_pending(void **state)
{
    struct core_attr a;
    (void)state;
    assert_int_equal(DO(there, core_link(there->core, &there->who, pair_base(p, "d/f"),
                                         pair_base(p, "e"), bytes_str("l"), &a, &there->need)),
                     0);
    device_commit(p, there);
    device_follow(p, here);
    walked("d/f");
    assert_int_equal(links("d"), 6);
    assert_int_equal(links("d/f"), 2); /* its other name is not known */
    assert_int_equal(make(here, "d", "mine", NODE_DIR), 0);
    assert_int_equal(links("d"), 7);
    assert_int_equal(make(there, "d", "theirs", NODE_DIR), 0);
    assert_int_equal(drop(there, "d", "i", true), 0);
    assert_int_equal(drop(there, "e", "l", false), 0);
    assert_int_equal(move(there, "d", "t", "e", "t"), 0);
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(links("d"), 6);
    assert_int_equal(links("d/f"), 1);
    device_commit(p, here);
    assert_int_equal(links("d"), 6);
    assert_int_equal(names_in("d"), 7);
    assert_int_equal(links("d"), 6);
}

/* ---- records about what is not known --------------------------------------------------------- */
static void test_unknown_directories_are_skipped(void **state)
{
    static const char count[] = "SELECT (SELECT count(*) FROM node) + (SELECT count(*) FROM entry)";
    struct core_ns n;
    (void)state;
    walked("e");
    unsigned before = rows(count);
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%u", i);
        assert_int_equal(make(there, "d/s", name, i % 2 ? NODE_REG : NODE_DIR), 0);
        assert_int_equal(make(there, "e/q", name, NODE_REG), 0);
    }
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(core_ns_get(here->core, p->ns, &n), 0);
    assert_true(n.cursor > 1);
    assert_int_equal(rows(count), before);
    device_walk(p, here, "e/q");
    assert_int_equal(names_in("e/q"), 21); /* loaded as of now */
}

static void test_moved_into_view(void **state)
{
    struct core_attr a;
    (void)state;
    walked("d");
    assert_int_equal(names_in("d"), 7);
    memset(here->loads, 0, sizeof here->loads);
    assert_int_equal(move(there, "e", "p", "d", "p"), 0);
    assert_int_equal(move(there, "e", "q", "d", "q"), 0);
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(look(here, "d", "p", &a), 0);
    assert_int_equal(a.node, pair_base(p, "e/p"));
    assert_int_equal(a.size, 16);
    assert_int_equal(a.nlink, 1);
    assert_int_equal(look(here, "d", "q", &a), 0);
    assert_int_equal(links("d"), 7);
    assert_loads(0, 0, 0, 0); /* the record told of them */
    assert_int_equal(look(here, "e/q", "k", &a), 0);
    assert_loads(1, 0, 0, 0); /* not of what is in them */
}

static void test_moved_out_of_view_and_back(void **state)
{
    struct core_attr a;
    uint64_t parent;
    (void)state;
    walked("d/f");
    device_walk(p, here, "d/s/g");
    memset(here->loads, 0, sizeof here->loads);
    assert_int_equal(move(there, "d", "f", "e/q", "f"), 0);
    assert_int_equal(move(there, "d", "s", "e/q", "s"), 0);
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(look(here, "d", "f", &a), -ENOENT);
    assert_int_equal(look(here, "d", "s", &a), -ENOENT);
    assert_int_equal(look(here, "d/s", "g", &a), 0); /* by a handle that has it open */
    assert_int_equal(links("d/f"), 1);
    assert_loads(0, 0, 0, 0);
    assert_int_equal(core_parent(here->core, pair_base(p, "d/s"), &parent), 0);
    assert_int_equal(parent, pair_base(p, "e/q"));
    assert_int_equal(links("e/q"), 3); /* what is above it is loaded when it is asked for */
    assert_loads(0, 0, 1, 0);
    here->who.now += 1000;
    struct m_extent e = {.len = 8, .block = {{0}}};
    const struct extent_list l = {.v = &e, .n = 1};
    e.block.b[32] = 77;
    assert_int_equal(core_write(here->core, &here->who, a.node, 0, 8, &l, true), 0);
    device_commit(p, here); /* written through that handle */
    device_follow(p, there);
    assert_int_equal(move(there, "e/q", "s", "d", "s"), 0);
    device_commit(p, there);
    device_follow(p, here);
    assert_int_equal(look(here, "d", "s", &a), 0);
    assert_int_equal(a.node, pair_base(p, "d/s"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int group_setup(void **state)
{
    (void)state;
    p = pair_new();
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    pair_free(p);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_one_name_is_asked_for_alone),
        T(test_answers_are_kept),
        T(test_lists_are_loaded_where_they_matter),
        T(test_what_is_made_here_is_known),
        T(test_extents_come_by_range),
        T(test_link_counts_are_the_servers_and_what_is_pending),
        T(test_unknown_directories_are_skipped),
        T(test_moved_into_view),
        T(test_moved_out_of_view_and_back),
    };
    simvfs_quick();
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
