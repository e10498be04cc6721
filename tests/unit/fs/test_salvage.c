// SPDX-License-Identifier: Apache-2.0
/* Making a damaged tree anew when the disk ends in the middle, or the process, or the power: the
 * damaged one stays where it is found again, and the next try keeps all that was pending. A full
 * disk is a limit on the size of files, at one place after the other. */
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

#include "blocks.h"
#include "core.h"
#include "powercut.h"
#include "salvage.h"
#include "tree.h"

#define NS 1
#define ROOT 1
#define DEVICE 3
#define FILES 200
#define FEW 20
#define CUTS 4 /* states of the disk that are looked at, of those a loss of power may leave */

struct place {
    char dir[64], path[128];
    unsigned files; /* that are made */
};

static int setup(void **state)
{
    static struct place p;
    snprintf(p.dir, sizeof p.dir, "/tmp/steadfs-test-XXXXXX");
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof p.path, "%s/tree.db", p.dir);
    p.files = FILES;
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

/* The names in the top directory that the server has: none. */
static void list_root(struct core *c)
{
    struct m_readdir_ans none = {0};
    struct core_need need = {.kind = NEED_PAGE, .ns = NS, .node = ROOT};
    answer(c, &need, &m_readdir_ans_desc, &none);
}

static void load_root(struct core *c)
{
    struct core_attr a;
    struct core_need need;
    struct m_node_ans m = {.inode_set = true,
                           .inode = {.node = ROOT, .type = NODE_DIR, .mode = 0755, .nlink = 2}};
    assert_int_equal(core_getattr(c, ROOT, &a, &need), CORE_NEED);
    answer(c, &need, &m_node_ans_desc, &m);
    list_root(c);
}

static struct bytes name_of(char *text, unsigned k)
{
    snprintf(text, 64, "a file that nobody else has, number %u", k);
    return bytes_str(text);
}

static void file_make(struct core *c, unsigned k)
{
    struct core_who who = {.uid = 1, .gid = 1, .now = 1000000};
    char text[64];
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

/* A tree with files that are not sent. */
static struct core *fill(const struct place *p)
{
    struct core *c = opened(p);
    session(c);
    load_root(c);
    assert_int_equal(core_begin(c), 0);
    for (unsigned k = 0; k < p->files; k++)
        file_make(c, k);
    assert_int_equal(core_end(c, true), 0);
    return c;
}

static void filled(const struct place *p)
{
    core_free(fill(p));
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

/* The first so many files are there. */
static void files_are_there(struct core *c, unsigned files)
{
    char text[64];
    struct core_ns n;
    assert_int_equal(core_ns_pending(c, NS, &n), 0);
    assert_true(n.pending_nodes >= files);
    for (unsigned k = 0; k < files; k++) {
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
}

static void judge(const struct place *p)
{
    struct core *c = opened(p);
    files_are_there(c, p->files);
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

/* A tree whose process was killed after it had met damage: all that it has is in its log. */
static void killed(const struct place *p)
{
    char name[140];
    int how, fd;
    pid_t child = fork();
    if (child == 0) {
        fill(p);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    snprintf(name, sizeof name, "%s-wal", p->path);
    assert_int_equal(access(name, F_OK), 0);
    snprintf(name, sizeof name, "%s.damaged", p->path);
    fd = open(name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* As the mount starts. */
static struct core *started(const struct place *p, struct tree **tree)
{
    bool due = blocks_salvage_due(p->dir, p->path, &(struct salvage_result){0});
    struct core_options o = {.device = DEVICE, .device_name = "mine", .clean_start = true};
    struct salvage_result result;
    struct core *c;
    struct stat st;
    char why[512] = "";
    bool gone = stat(p->path, &st) || st.st_size == 0 || tree_salvage_begun(p->path);
    int r = gone ? -EUCLEAN : tree_open(tree, p->path, NULL, why);
    if (r == -EUCLEAN) {
        assert_int_equal(tree_salvage(p->dir, p->path, DEVICE, &result, why), 0);
        r = tree_open(tree, p->path, NULL, why);
        due = blocks_salvage_due(p->dir, p->path, &result);
    }
    assert_int_equal(r, 0);
    assert_true(due); /* nobody has done that yet */
    assert_int_equal(core_new(&c, *tree, &o), 0);
    return c;
}

/* The power has failed after so many calls; again: once more, in the start that follows. */
static void power_returns(const struct place *p, size_t calls, unsigned cut, unsigned files)
{
    struct tree *t;
    powercut_apply(calls, calls * CUTS + cut);
    if (cut % 2) {
        powercut_begin(p->dir);
        core_free(started(p, &t));
        size_t more = powercut_end();
        powercut_apply(more * cut / CUTS, cut);
    }
    struct core *c = started(p, &t);
    files_are_there(c, files);
    core_free(c);
    judge(p);
}

/* Behind every call that made something durable or changed a name, during the salvage and the work
 * after it. What was pending is there, and what was flushed since. */
static void a_loss_of_power_loses_nothing(void **state)
{
    struct place *p = *state;
    struct tree *t;
    unsigned states = 0;
    p->files = FEW;
    killed(p);
    powercut_begin(p->dir);
    struct core *c = started(p, &t);
    list_root(c);
    file_make(c, FEW);
    assert_int_equal(tree_flush(t), 0);
    size_t flushed = powercut_calls();
    core_free(c);
    size_t calls = powercut_end();
    for (size_t k = 1; k <= calls; k++)
        for (unsigned cut = 0; cut < CUTS && powercut_step(k - 1); cut++, states++) {
            int how = 0;
            pid_t child = fork(); /* which has notes of its own */
            if (child == 0) {
                power_returns(p, k, cut, FEW + (k >= flushed));
                _exit(0);
            }
            assert_int_equal(waitpid(child, &how, 0), child);
            if (how)
                fail_msg("call %zu of %zu, state %u", k, calls, cut);
        }
    assert_true(states > 20 * CUTS);
}

/* … the file with its number in it, in the directory of the salvage. */
static bool is_kept(const struct salvage_result *r, const struct block_id *id)
{
    char hex[BLOCK_HEX_LEN + 1], name[4400];
    block_id_hex(id, hex);
    snprintf(name, sizeof name, "%s/%s", r->dir, hex);
    return access(name, F_OK) == 0;
}

/* What nothing refers to any more is not garbage before it is a file, however many starts end
 * before it is. */
static void blocks_are_kept_at_a_later_start(void **state)
{
    const struct place *p = *state;
    struct salvage_result r, later;
    struct blocks *b;
    struct blocks_item it = {.p = "what the damaged rows referred to", .len = 33};
    char why[512] = "", dir[160], name[4400], text[512];
    size_t lost;
    filled(p);
    assert_false(blocks_salvage_due(p->dir, p->path, &later));
    snprintf(dir, sizeof dir, "%s/blocks", p->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(blocks_open(&b, &(struct blocks_options){.dir = dir}, &lost), 0);
    block_id_of(&it.id, it.p, it.len);
    assert_int_equal(blocks_put_unsynced(b, &it, 1), 0);
    assert_int_equal(tree_salvage(p->dir, p->path, DEVICE, &r, why), 0);
    /* that start ends here; the next one fails to write, and the one after it does */
    assert_true(blocks_salvage_due(p->dir, p->path, &later));
    assert_string_equal(later.dir, r.dir);
    struct core *c = opened(p);
    snprintf(name, sizeof name, "%s.aside", r.dir);
    assert_int_equal(rename(r.dir, name), 0);
    assert_true(blocks_salvage(p->path, b, c, &later) < 0);
    assert_int_equal(rename(name, r.dir), 0);
    assert_true(blocks_salvage_due(p->dir, p->path, &later));
    assert_int_equal(blocks_salvage(p->path, b, c, &later), 0);
    assert_int_equal(later.blocks, 1);
    assert_true(is_kept(&r, &it.id));
    salvage_text(&later, text);
    assert_non_null(strstr(text, "1 blocks of content"));
    assert_false(blocks_salvage_due(p->dir, p->path, &later));
    core_free(c);
    blocks_close(b);
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
        T(a_loss_of_power_loses_nothing),
        T(blocks_are_kept_at_a_later_start),
        T(a_file_that_lost_a_piece_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
