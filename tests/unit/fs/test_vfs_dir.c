// SPDX-License-Identifier: Apache-2.0
/* What a listing costs: each node is read once, by statements that stay prepared. Counted in runs
 * and preparations of SQLite's statements, and not in time.
 */
#include "world.h"

#include <sqlite3.h>
#include <stdlib.h>

#include "vfs_int.h"

#define FILES 400
#define BESIDES                                                                                    \
    10 /* what a listing runs whatever its length: the directory, its place, its end               \
        */

static struct mount {
    struct world *w;
    struct fs fs;
    struct vfs *v;
    struct vfs_file *file; /* of the last open directory */
    size_t listed, with_attributes, prepared;
} m;

static bool reply(void *ctx, struct vfs_op *op, int result)
{
    (void)ctx;
    assert_int_equal(result, 0);
    if (op->type == OP_OPENDIR)
        m.file = op->file;
    m.listed += op->entries_n;
    for (size_t i = 0; i < op->entries_n; i++)
        m.with_attributes += op->entries[i].nodeid != 0;
    return true;
}

static void no_watch(void *ctx, struct vfs_op *op)
{
    (void)ctx;
    (void)op;
}

/* It is asked about each statement that is prepared. */
static int on_prepare(void *ctx, int action, const char *a, const char *b, const char *c,
                      const char *d)
{
    (void)ctx;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    m.prepared += action == SQLITE_SELECT;
    return SQLITE_OK;
}

static int setup(void **state)
{
    m = (struct mount){.w = world_new(true)};
    sqlite3_set_authorizer(tree_db(m.w->tree), on_prepare, NULL); /* all are prepared anew */
    m.fs = (struct fs){.core = m.w->core, .tree = m.w->tree, .opt = {.dirty_max = 1 << 20}};
    pthread_mutex_init(&m.fs.lock, NULL);
    assert_int_equal(vfs_new(&m.v, &m.fs), 0);
    m.fs.vfs = m.v;
    struct vfs_front front = {.reply = reply, .watch = no_watch, .unwatch = no_watch};
    assert_int_equal(vfs_attach_front(m.v, &front), 0);
    *state = &m;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    vfs_detach_front(m.v);
    vfs_free(m.v);
    pthread_mutex_destroy(&m.fs.lock);
    world_free(m.w);
    return 0;
}

/* Runs of all statements since the last call. */
static uint64_t runs(void)
{
    uint64_t n = 0;
    for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(tree_db(m.w->tree), s)) != NULL;)
        n += (uint64_t)sqlite3_stmt_status(s, SQLITE_STMTSTATUS_RUN, 1);
    return n;
}

static void list_all(void)
{
    struct vfs_op op = {.type = OP_OPENDIR, .nodeid = HANDLE_ROOT};
    vfs_submit(m.v, &op);
    m.listed = m.with_attributes = 0;
    op = (struct vfs_op){
        .type = OP_READDIR, .nodeid = HANDLE_ROOT, .file = m.file, .plus = true, .len = 1 << 20};
    vfs_submit(m.v, &op);
    op = (struct vfs_op){.type = OP_RELEASE, .nodeid = HANDLE_ROOT, .file = m.file, .dir = true};
    vfs_submit(m.v, &op);
    assert_int_equal(m.listed, FILES + 2); /* with . and .. */
    assert_int_equal(m.with_attributes, FILES);
}

static void test_a_listing_reads_each_node_once(void **state)
{
    (void)state;
    char name[16];
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "n%u", i);
        make(m.w, ROOT, name, i % 4 != 0 ? NODE_REG : NODE_DIR);
    }
    list_all();
    assert_true(m.prepared > 0); /* they were counted */
    m.prepared = 0;
    runs();
    list_all();
    uint64_t n = runs();
    if (n > FILES + BESIDES)
        fail_msg("%llu statements for %u files", (unsigned long long)n, FILES);
    assert_true(n > 0); /* nodes that were just read are kept */
    assert_int_equal(m.prepared, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_listing_reads_each_node_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
