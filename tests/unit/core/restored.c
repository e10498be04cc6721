// SPDX-License-Identifier: Apache-2.0
#include "restored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct place file_place = {"d", "f", "e", "p", "i", NULL};
const struct place other_place = {"d", "f", "e", "o", "j", NULL};
const struct place dir_place = {"d", "s", "e", "q", NULL, NULL};
const char *const file_ops[FILE_OPS] = {
    "create", "mkdir",   "symlink", "write",  "truncate", "chmod",    "xattr",   "rename",
    "move",   "move in", "link",    "unlink", "rmdir",    "exchange", "replace", "save"};
const char *const dir_ops[DIR_OPS] = {"chmod", "xattr",    "rename",      "move",
                                      "rm -r", "exchange", "replace dir", "into"};

struct pair *p;
struct device *here, *there;
static struct simvfs *kept;

int restored_setup(void **state)
{
    (void)state;
    kept = simvfs_new("backup");
    p = pair_new();
    here = &p->d[HERE];
    there = &p->d[THERE];
    return 0;
}

int restored_teardown(void **state)
{
    (void)state;
    pair_free(p);
    simvfs_free(kept);
    return 0;
}

void begin(void)
{
    pair_begin(p, true);
    backup();
}

void backup(void)
{
    simvfs_reset(kept, 1);
    simvfs_copy(kept, p->disk);
}

void restore(void)
{
    pair_server_from(p, kept);
}

/* All devices have what the server has. *last is freed by the caller. */
struct dump *settled(const char *what)
{
    struct dump *last = calloc(1, sizeof *last), *t = calloc(1, sizeof *t);
    assert_non_null(last);
    assert_non_null(t);
    pair_settle(p);
    pair_fresh(p);
    device_dump(p, &p->d[FRESH], last);
    for (size_t k = HERE; k <= THERE; k++) {
        device_dump(p, &p->d[k], t);
        bool same = t->n == last->n;
        for (size_t i = 0; same && i < t->n; i++)
            same = !strcmp(t->v[i].path, last->v[i].path) &&
                   !strcmp(t->v[i].value, last->v[i].value) && t->v[i].nlink == last->v[i].nlink;
        if (!same) {
            dump_print(k == HERE ? "here" : "there", t);
            dump_print("the server", last);
            fail_msg("%s: the trees differ", what);
        }
    }
    free(t);
    return last;
}

bool has_line(const struct dump *t, const struct dump_line *l)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->v[i].path, l->path) && !strcmp(t->v[i].value, l->value))
            return true;
    return false;
}

/* Every block of a device's own (their numbers are 20 and more) that `before` shows is in `last`.
 */
void assert_written(const char *what, const struct dump *before, const struct dump *last)
{
    for (size_t i = 0; i < before->n; i++)
        for (const char *t = before->v[i].value; (t = strstr(t, "=#")); t += 2) {
            char mark[16];
            bool found = false;
            if (strtoul(t + 2, NULL, 10) < PAIR_TAGS_HERE)
                continue;
            snprintf(mark, sizeof mark, "=#%lu", strtoul(t + 2, NULL, 10));
            for (size_t k = 0; k < last->n; k++)
                found |= strstr(last->v[k].value, mark) != NULL;
            if (!found) {
                dump_print("before", before);
                dump_print("in the end", last);
                fail_msg("%s: block %s is lost", what, mark);
            }
        }
}

unsigned copies(const struct dump *t)
{
    unsigned n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += strstr(t->v[i].path, "conflicted copy") != NULL;
    return n;
}

uint64_t write_new(struct device *d, const char *name, unsigned tag)
{
    struct core_attr a;
    struct m_extent e = {.len = 16, .block = {{0}}};
    e.block.b[32] = (uint8_t)tag;
    const struct extent_list l = {.v = &e, .n = 1};
    assert_int_equal(DEVICE_DO(p, d,
                               core_create(d->core, &d->who, pair_base(p, "d"), bytes_str(name),
                                           NODE_REG, 0644, 0, bytes_of(NULL, 0), &a, &d->need)),
                     0);
    assert_int_equal(DEVICE_DO(p, d, core_write(d->core, &d->who, a.node, 0, 16, &l, true)), 0);
    return a.node;
}

void put(struct device *d, uint64_t f, uint64_t off, uint64_t len, unsigned tag)
{
    struct m_extent e = {.off = off, .len = len, .block = {{0}}};
    e.block.b[32] = (uint8_t)tag;
    const struct extent_list l = {.v = &e, .n = 1};
    assert_int_equal(DEVICE_DO(p, d, core_write(d->core, &d->who, f, off, len, &l, true)), 0);
}

void go_on(struct device *d)
{
    for (unsigned i = 0; i < 3; i++) {
        struct core_attr set = {.mode = 0700 + i};
        assert_int_equal(DEVICE_DO(p, d,
                                   core_setattr(d->core, &d->who, pair_base(p, "d/h"),
                                                CORE_SET_MODE, &set, &d->need)),
                         0);
        device_commit(p, d);
    }
}

void every_pair(void (*fn)(const char *op, const struct place *at, const char *op2,
                           const struct place *at2))
{
    for (size_t i = 0; i < FILE_OPS; i++)
        for (size_t k = 0; k < FILE_OPS; k++)
            fn(file_ops[i], &file_place, file_ops[k], &other_place);
    for (size_t i = 0; i < DIR_OPS; i++)
        for (size_t k = 0; k < DIR_OPS; k++)
            fn(dir_ops[i], &dir_place, dir_ops[k], &dir_place);
    for (size_t i = 0; i < DIR_OPS; i++)
        for (size_t k = 0; k < FILE_OPS; k++) {
            static const struct place in = {"d/s", "g", "e", "p", "y", NULL};
            fn(dir_ops[i], &dir_place, file_ops[k], &in);
            fn(file_ops[k], &in, dir_ops[i], &dir_place);
        }
}

uint64_t make_dir(struct device *d, uint64_t parent, const char *name)
{
    struct core_attr a;
    assert_int_equal(DEVICE_DO(p, d,
                               core_create(d->core, &d->who, parent, bytes_str(name), NODE_DIR,
                                           0755, 0, bytes_of(NULL, 0), &a, &d->need)),
                     0);
    return a.node;
}

void remove_dir(struct device *d, uint64_t parent, const char *name)
{
    uint64_t gone;
    assert_int_equal(
        DEVICE_DO(p, d,
                  core_unlink(d->core, &d->who, parent, bytes_str(name), true, &gone, &d->need)),
        0);
}

void move(struct device *d, uint64_t from, const char *name, uint64_t to)
{
    uint64_t replaced;
    assert_int_equal(DEVICE_DO(p, d,
                               core_rename(d->core, &d->who, from, bytes_str(name), to,
                                           bytes_str(name), 0, &replaced, &d->need)),
                     0);
}
