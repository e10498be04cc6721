// SPDX-License-Identifier: Apache-2.0
/* Making a damaged tree anew when the disk ends in the middle, or the process does: the damaged one
 * stays where it is found again, and the next try keeps all that was pending. A full disk is a
 * limit on the size of files, at one place after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "salvage.h"
#include "tree.h"

#define NS 1
#define ROOT 1
#define DEVICE 3
#define FILES 200

struct place {
    char dir[64], path[128];
};

static int setup(void **state)
{
    static struct place p;
    snprintf(p.dir, sizeof p.dir, "/tmp/steadfs-test-XXXXXX");
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof p.path, "%s/tree.db", p.dir);
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    const struct place *p = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", p->dir);
    return system(command);
}

static struct core *opened(const struct place *p)
{
    struct core_options o = {.device = DEVICE, .device_name = "mine", .clean_start = true};
    struct tree *t;
    struct core *c;
    char why[512];
    assert_int_equal(tree_open(&t, p->path, NULL, why), 0);
    assert_int_equal(core_new(&c, t, &o), 0);
    return c;
}

static void session(struct core *c)
{
    struct core_effects fx = {0};
    struct m_namespace n = {.id = NS, .name = bytes_str("home"), .root = ROOT, .role = ROLE_EDITOR};
    struct m_session_ans a = {.device = DEVICE,
                              .account = bytes_str("alice"),
                              .namespaces = &n,
                              .namespaces_n = 1,
                              .root_ns = NS};
    assert_int_equal(core_session(c, &a, &fx), 0);
    core_effects_free(&fx);
}

static void answer(struct core *c, struct core_need *need, const struct msg_desc *d, const void *m)
{
    struct core_effects fx = {0};
    struct buf cleanup_buf body = {0}, asked = {0};
    const char *method;
    assert_int_equal(core_need_request(c, need, &method, &asked), 0);
    buf_free(&asked);
    msg_encode(d, m, &body);
    assert_int_equal(core_need_answer(c, need, bytes_of(body.p, body.n), 1, &fx), 0);
    core_effects_free(&fx);
}

/* The top directory, in which nothing is. */
static void load_root(struct core *c)
{
    struct core_attr a;
    struct core_need need;
    struct m_node_ans m = {.inode_set = true,
                           .inode = {.node = ROOT, .type = NODE_DIR, .mode = 0755, .nlink = 2}};
    struct m_readdir_ans none = {0};
    assert_int_equal(core_getattr(c, ROOT, &a, &need), CORE_NEED);
    answer(c, &need, &m_node_ans_desc, &m);
    need = (struct core_need){.kind = NEED_PAGE, .ns = NS, .node = ROOT};
    answer(c, &need, &m_readdir_ans_desc, &none);
}

static struct bytes name_of(char *text, unsigned k)
{
    snprintf(text, 64, "a file that nobody else has, number %u", k);
    return bytes_str(text);
}

/* A tree with FILES files that are not sent. */
static void filled(const struct place *p)
{
    struct core *c = opened(p);
    struct core_who who = {.uid = 1, .gid = 1, .now = 1000000};
    char text[64];
    session(c);
    load_root(c);
    assert_int_equal(core_begin(c), 0);
    for (unsigned k = 0; k < FILES; k++) {
        struct core_attr a = {0};
        struct core_need need;
        struct extent_list l = {0};
        struct m_extent e = {.len = 10 + k, .block = {{0, (uint8_t)k, 7}}};
        assert_int_equal(core_create(c, &who, ROOT, name_of(text, k), NODE_REG, 0644, 0,
                                     bytes_of(NULL, 0), &a, &need),
                         0);
        extent_list_append(&l, &e);
        assert_int_equal(core_write(c, &who, a.node, 0, 10 + k, &l, true), 0);
        extent_list_free(&l);
    }
    assert_int_equal(core_end(c, true), 0);
    core_free(c);
}

/* … its header damaged. */
static void damaged(const struct place *p)
{
    filled(p);
    int fd = open(p->path, O_WRONLY);
    assert_true(fd >= 0);
    for (off_t at = 0; at < 40; at += 7)
        assert_int_equal(pwrite(fd, "\xa5", 1, at), 1);
    close(fd);
}

/* Everything is there. */
static void judge(const struct place *p)
{
    struct core *c = opened(p);
    char text[64];
    struct core_ns n;
    assert_int_equal(core_ns_pending(c, NS, &n), 0);
    assert_true(n.pending_nodes >= FILES);
    for (unsigned k = 0; k < FILES; k++) {
        struct core_attr a;
        struct core_need need;
        struct extent_list l = {0};
        assert_int_equal(core_lookup(c, ROOT, name_of(text, k), &a, &need), 0);
        assert_int_equal(a.size, 10 + k);
        assert_int_equal(core_extents(c, a.node, 0, a.size, &l, &need), 0);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.v[0].block.b[1], (uint8_t)k);
        extent_list_free(&l);
    }
    core_free(c);
}

/* In a process of its own whose files may be no longer than this: how it ended. */
static int salvage_within(const struct place *p, rlim_t bytes)
{
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
        struct salvage_result r;
        struct rlimit l = {.rlim_cur = bytes, .rlim_max = bytes};
        char why[512] = "";
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &l);
        _exit(tree_salvage(p->dir, p->path, DEVICE, &r, why) ? why[0] ? 1 : 2 : 0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

static void a_full_disk_loses_nothing(void **state)
{
    const struct place *p = *state;
    struct stat before, after;
    unsigned failed = 0;
    int how = 1;
    damaged(p);
    assert_int_equal(stat(p->path, &before), 0);
    for (rlim_t limit = 0; how; limit += limit < 65536 ? 8192 : limit / 4) {
        assert_true(limit < 64 << 20);
        how = salvage_within(p, limit);
        assert_int_not_equal(how, 2); /* it says why */
        failed += how != 0;
        if (!how)
            break;
        assert_int_equal(stat(p->path, &after), 0);
        assert_int_equal(after.st_ino, before.st_ino); /* where it was, and what it was */
        assert_int_equal(after.st_size, before.st_size);
    }
    assert_true(failed >= 5);
    judge(p);
}

/* Killed at some place, again and again, a little later each time. */
static void a_kill_loses_nothing(void **state)
{
    const struct place *p = *state;
    int how = -1;
    damaged(p);
    for (useconds_t us = 200; how != 0; us += us / 4) {
        pid_t child = fork();
        if (child == 0) {
            struct salvage_result r;
            char why[512];
            _exit(tree_salvage(p->dir, p->path, DEVICE, &r, why) ? 1 : 0);
        }
        usleep(us);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) || how == 0);
    }
    judge(p);
}

/* A piece that makes no sense is not copied: the file is kept here, and told. */
static void a_file_that_lost_a_piece_is_not_sent(void **state)
{
    const struct place *p = *state;
    struct salvage_result r;
    struct core_ns n;
    char why[512] = "", *path;
    uint64_t node;
    int err;
    sqlite3 *db;
    filled(p);
    assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE extent SET block = substr(block, 1, 20)"
                                  " WHERE node = (SELECT min(node) FROM extent)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(tree_salvage(p->dir, p->path, DEVICE, &r, why), 0);
    assert_true(r.lost > 0);
    struct core *c = opened(p);
    assert_int_equal(core_ns_pending(c, NS, &n), 0);
    assert_int_equal(n.parked, 1);
    assert_int_equal(core_parked_at(c, NS, 0, &node, &err, &path), 0);
    assert_int_equal(err, -EIO);
    free(path);
    core_free(c);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_full_disk_loses_nothing),
        T(a_kill_loses_nothing),
        T(a_file_that_lost_a_piece_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
